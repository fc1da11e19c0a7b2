//! Which proxy a request goes to, and which one after that.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_request_goes_to_another_proxy_when_the_first_has_no_worker() {
    let network = Network::new(&[]);
    let client = Client::open(Config { proxy_connections: 2, ..network.config() }).await.unwrap();
    let (mut one, _serving) = connected(&network, &client, Some(2)).await;
    let (mut two, _serving) = connected(&network, &client, Some(2)).await;
    // Only the first request is answered by whoever gets it; the second proxy serves what the first refused.
    async fn answer_or_refuse(proxy: &mut Proxy<'_>, refusals: &std::cell::Cell<u32>, as_answer: bool) {
        while let Some(got) = proxy.next_request().await {
            let request_id = got.id;
            if refusals.get() == 0 {
                refusals.set(1);
                if as_answer {
                    proxy.send(&first(request_id, &refusal(), true));
                } else {
                    let (error_code, error) = (651, "no ready workers for modelm".into());
                    proxy.send(&QueryAnswerErrorEx {
                        request_id,
                        error_code,
                        error,
                        final_info: Some(final_info()),
                    });
                }
            } else {
                proxy.send(&first(request_id, &head(200, JSON, b"{}"), true));
                return;
            }
        }
    }
    for as_answer in [false, true] {
        let refusals = std::cell::Cell::new(0);
        let mut answer = run(&client, CHAT, async || {
            tokio::select! {
                () = answer_or_refuse(&mut one, &refusals, as_answer) => {}
                () = answer_or_refuse(&mut two, &refusals, as_answer) => {}
            }
        })
        .await
        .unwrap();
        assert_eq!(refusals.get(), 1);
        assert_eq!(rest(&mut answer).await.unwrap(), "{}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_to_another_proxy_when_the_first_is_lost_before_the_answer() {
    let network = Network::new(&[]);
    let client = Client::open(Config { proxy_connections: 2, ..network.config() }).await.unwrap();
    let (mut one, _serving) = connected(&network, &client, Some(2)).await;
    let (mut two, _serving) = connected(&network, &client, Some(2)).await;
    let mut answer = run(&client, CHAT, async || {
        let (other, id) = tokio::select! {
            got = one.next_request() => {
                one.link.close("gone");
                (&mut two, got.unwrap().id)
            }
            got = two.next_request() => {
                two.link.close("gone");
                (&mut one, got.unwrap().id)
            }
        };
        let again = other.next_request().await.unwrap();
        assert_eq!(again.id, id);
        other.send(&first(id, &head(200, JSON, b"{}"), true));
    })
    .await
    .unwrap();
    assert_eq!(rest(&mut answer).await.unwrap(), "{}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_want_of_room_says_who_has_to_wait_and_how_long() {
    for (code, text, status, after) in [
        (602, "the client runs too many requests at once", 429, "1"),
        (651, "no ready workers for model m", 503, "5"),
    ] {
        let network = Network::new(&[]);
        let client = client(&network).await;
        let (mut proxy, _serving) = connected(&network, &client, Some(2)).await;
        // As proxies of ours write it.
        let error = ApiError::from_wire(code, text).into_response::<Bytes>();
        let code = code.to_string();
        let after_header = error.headers()["retry-after"].to_str().unwrap();
        let header = |name: &'static str, value: &str| (name, value.to_owned());
        let headers = [header("retry-after", after_header), header("X-Cocoon-Error-Code", &code)];
        let response = wire::encode(&wire::http::Response {
            http_version: "HTTP/1.1".into(),
            status_code: error.status().as_u16().into(),
            reason: "".into(),
            headers: headers
                .iter()
                .map(|(name, value)| wire::http::Header {
                    name: (*name).into(),
                    value: value.as_str().into(),
                })
                .collect(),
            payload: error.body(),
        });
        let answer = run(&client, CHAT, async || {
            let id = proxy.next_request().await.unwrap().id;
            proxy.send(&first(id, &response, true));
        })
        .await
        .unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.headers["retry-after"].to_str().unwrap()),
            (status, after)
        );
    }
}

/// A proxy's refusal in the form that deployed clients understand.
fn refusal() -> Bytes {
    let error = ApiError::from_wire(651, "no ready workers for modelm");
    let header = wire::http::Header { name: "X-Cocoon-Error-Code".into(), value: "651".into() };
    wire::encode(&wire::http::Response {
        http_version: "HTTP/1.1".into(),
        status_code: error.status().as_u16().into(),
        reason: "".into(),
        headers: vec![header],
        payload: &error.body(),
    })
}

#[tokio::test(start_paused = true)]
async fn requests_go_to_proxies_with_a_worker_for_the_model() {
    let network = Network::new(&[]);
    let client = Client::open(Config { proxy_connections: 2, ..network.config() }).await.unwrap();
    let (mut without, _serving) = connected(&network, &client, Some(2)).await;
    without.model = None;
    let (mut with, _serving) = connected(&network, &client, Some(2)).await;
    let (models, _, _) = tokio::join!(
        client.models(),
        async {
            tokio::select! { _ = without.next_request() => {}, () = tokio::time::sleep(Duration::from_millis(50)) => {} }
        },
        async {
            tokio::select! { _ = with.next_request() => {}, () = tokio::time::sleep(Duration::from_millis(50)) => {} }
        }
    );
    let models = models.unwrap();
    assert_eq!((models.len(), models[0].id.as_str(), models[0].workers[0].coefficient), (1, "m", 1500));
    for _ in 0..6 {
        run(&client, CHAT, async || {
            tokio::select! {
                _ = without.next_request() => panic!("has no worker"),
                got = with.next_request() => with.send(&first(got.unwrap().id, &head(200, JSON, b"{}"), true)),
            }
        })
        .await
        .unwrap();
    }
}
