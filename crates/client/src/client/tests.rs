//! The client against a scripted proxy on a link in memory. Time is paused: it passes only while all wait.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use gateway::ErrorKind;
use node::{RootError, SettingError};
use tokio::time::Instant;
use wire::client::{
    QueryAnswer, QueryAnswerError, QueryAnswerErrorEx, QueryAnswerPart, QueryAnswerPartError,
};
use wire::proxy::{ClientRequestPayment, SignedPayment};
use wire::{StatusCode, TokensUsed};

use super::*;
use crate::testing::{Network, Proxy, connected, final_info, first, head, part, request};

const CHAT: &str = r#"{"model":"m","messages":[]}"#;
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream; charset=utf-8";

const TOKENS: TokensUsed = TokensUsed {
    prompt_tokens_used: 1,
    cached_tokens_used: 2,
    completion_tokens_used: 3,
    reasoning_tokens_used: 4,
    total_tokens_used: 10,
};

fn client(network: &Network) -> Client {
    Client::open(network.config()).unwrap()
}

/// Runs a request while the proxy does what the test says.
async fn run(client: &Client, body: &str, proxy: impl AsyncFnOnce()) -> Result<Answer, ApiError> {
    let request = request(body);
    let (answer, ()) = tokio::join!(client.run(&request), proxy());
    answer
}

async fn rest(answer: &mut Answer) -> Result<String, (String, ErrorKind)> {
    let mut text = String::new();
    while let Some(bytes) = answer.next().await {
        match bytes {
            Ok(bytes) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            Err(error) => return Err((text, error.kind())),
        }
    }
    Ok(text)
}

fn totals(client: &Client) -> (u64, u64, u64) {
    let totals = client.shared.accounts.all()[0].totals;
    (totals.signed.get(), totals.stored.get(), totals.used.get())
}

#[tokio::test(start_paused = true)]
async fn a_request_travels_without_the_application_and_its_answer_comes_back() {
    let network = Network::new(&[]);
    let client = client(&network);
    let (mut proxy, _serving) = connected(&network, &client, Some(2)).await;
    let body = r#"{"model":"m","messages":[],"timeout":10,"max_coefficient":2000,"temperature":0.70}"#;
    let mut answer = run(&client, body, async || {
        let got = proxy.next_request().await.unwrap();
        assert!(got.is_ex);
        assert_eq!((got.model.as_str(), got.max_tokens, got.max_coefficient), ("m", 4096, 2000));
        assert_eq!((got.timeout, got.config_version, got.enable_debug), (9.5, 3, Some(false)));
        assert_eq!(got.url, "/v1/chat/completions");
        assert_eq!(got.body, r#"{"model":"m","messages":[],"temperature":0.70,"max_tokens":4096}"#);
        let names: Vec<&str> = got.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["Host", "Accept", "Content-Type", "Content-Length"]);
        assert_eq!(got.headers[3].1, got.body.len().to_string());
        proxy.send(&first(got.id, &head(200, JSON, b"{\"a\""), false));
        proxy.send(&part(got.id, b":1}", true));
    })
    .await
    .unwrap();
    assert_eq!((answer.status.as_u16(), answer.cost()), (200, None));
    assert_eq!(answer.headers["content-type"], JSON);
    assert_eq!(answer.headers["x-cocoon-worker-start"], "1.000000");
    assert!(
        answer.headers.contains_key("x-cocoon-client-start")
            && answer.headers.contains_key("x-cocoon-client-end")
    );
    assert!(!answer.headers.contains_key("transfer-encoding"));
    assert_eq!(rest(&mut answer).await.unwrap(), "{\"a\":1}");
    let cost = answer.cost().unwrap();
    assert_eq!((cost.tokens.get(), cost.price.get(), cost.usage.cached.get()), (200, 400, 16));
}

#[tokio::test(start_paused = true)]
async fn parts_are_handed_on_as_they_come() {
    let network = Network::new(&[]);
    let client = client(&network);
    let (mut proxy, _serving) = connected(&network, &client, Some(2)).await;
    let mut id = [0; 32];
    let mut answer = run(&client, r#"{"model":"m","stream":true}"#, async || {
        id = proxy.next_request().await.unwrap().id;
        proxy.send(&first(id, &head(200, EVENTS, b""), false));
    })
    .await
    .unwrap();
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        proxy.send(&part(id, event.as_bytes(), false));
        assert_eq!(answer.next().await.unwrap().unwrap(), event);
    }
    proxy.send(&part(id, b"data: [DONE]\n\n", true));
    assert_eq!(rest(&mut answer).await.unwrap(), "data: [DONE]\n\n");
    assert!(answer.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn protocol_0_is_spoken_to_old_proxies() {
    let network = Network::new(&[]);
    let client = client(&network);
    let (mut proxy, _serving) = connected(&network, &client, None).await;
    let mut answer = run(&client, CHAT, async || {
        let got = proxy.next_request().await.unwrap();
        assert!(!got.is_ex);
        let answer = head(200, JSON, b"{\"a\"");
        let request_id = got.id;
        proxy.send(&QueryAnswer {
            answer: &answer,
            is_completed: false,
            request_id,
            request_tokens_used: TOKENS,
        });
        proxy.send(&QueryAnswerPart {
            answer: b":1}",
            is_completed: true,
            request_id,
            request_tokens_used: TOKENS,
        });
    })
    .await
    .unwrap();
    assert_eq!(rest(&mut answer).await.unwrap(), "{\"a\":1}");
    assert_eq!(answer.cost().unwrap().tokens.get(), 10);
    let (models, ()) = tokio::join!(client.models(), async {
        tokio::select! { _ = proxy.next_request() => {}, () = tokio::time::sleep(Duration::from_secs(1)) => {} }
    });
    assert_eq!(models.unwrap()[0].workers.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_refusal_before_the_head_ends_the_request() {
    let network = Network::new(&[]);
    let client = client(&network);
    let (mut proxy, _serving) = connected(&network, &client, Some(2)).await;
    let none = TokensUsed { total_tokens_used: 0, ..TOKENS };
    for (code, text, kind) in [
        (602, "client balance is too low", ErrorKind::BalanceTooLow),
        (621, "unknown model m", ErrorKind::UnknownModel),
        (651, "no ready workers for modelm", ErrorKind::NoReadyWorker),
        (652, "timeout in proxy", ErrorKind::Timeout),
        (0, "", ErrorKind::UpstreamFailed),
    ] {
        // The form of the deployed proxy for every version, and the newer one with and without final info.
        for form in 0..4 {
            let refused = run(&client, CHAT, async || {
                let request_id = proxy.next_request().await.unwrap().id;
                let (error_code, error) = (code, text.into());
                let request_tokens_used = none;
                match form {
                    0 => proxy.send(&QueryAnswerError { error_code, error, request_id, request_tokens_used }),
                    1 => proxy.send(&QueryAnswerPartError {
                        error_code,
                        error,
                        request_id,
                        request_tokens_used,
                    }),
                    _ => {
                        let final_info = (form == 2).then(final_info);
                        proxy.send(&QueryAnswerErrorEx { request_id, error_code, error, final_info });
                    }
                }
            })
            .await;
            assert_eq!(refused.err().map(|error| error.kind()), Some(kind), "{text}, form {form}");
        }
    }
    assert_eq!(client.shared.pool.all()[0].requests.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_in_the_form_of_an_answer_passes_as_it_is() {
    let network = Network::new(&[]);
    let client = client(&network);
    let (mut proxy, _serving) = connected(&network, &client, Some(2)).await;
    let mut answer = run(&client, CHAT, async || {
        let got = proxy.next_request().await.unwrap();
        proxy.send(&first(got.id, &head(503, JSON, b"{\"error\":{}}"), true));
    })
    .await
    .unwrap();
    assert_eq!(answer.status.as_u16(), 503);
    assert_eq!(rest(&mut answer).await.unwrap(), "{\"error\":{}}");
}

#[tokio::test(start_paused = true)]
async fn every_failure_after_the_head_ends_the_answer() {
    let network = Network::new(&[]);
    let client = client(&network);
    let (mut proxy, serving) = connected(&network, &client, Some(2)).await;
    for form in 0..5 {
        let mut answer = run(&client, CHAT, async || {
            let request_id = proxy.next_request().await.unwrap().id;
            proxy.send(&first(request_id, &head(200, EVENTS, b"data: 1\n\n"), false));
            let (error_code, error, request_tokens_used) = (653, "worker connection lost".into(), TOKENS);
            match form {
                0 => proxy.send(&QueryAnswerPartError { error_code, error, request_id, request_tokens_used }),
                1 => proxy.send(&QueryAnswerError { error_code, error, request_id, request_tokens_used }),
                2 => proxy.send(&QueryAnswerErrorEx {
                    request_id,
                    error_code,
                    error,
                    final_info: Some(final_info()),
                }),
                3 => proxy.send(&first(request_id, &head(200, EVENTS, b""), false)),
                _ => proxy.link.close("gone"),
            }
        })
        .await
        .unwrap();
        let (text, kind) = rest(&mut answer).await.unwrap_err();
        let expected = match form {
            0..3 => ErrorKind::WorkerLost,
            3 => ErrorKind::PeerMisbehaved,
            _ => ErrorKind::ProxyLost,
        };
        assert_eq!((text.as_str(), kind), ("data: 1\n\n", expected), "form {form}");
        assert!(answer.next().await.is_none());
    }
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_makes_no_sense_fails_its_request_only() {
    let network = Network::new(&[]);
    let client = client(&network);
    let (mut proxy, _serving) = connected(&network, &client, Some(2)).await;
    let heads =
        [Bytes::from_static(b"nonsense"), head(99, JSON, b""), head(100, JSON, b""), head(1000, JSON, b"")];
    for senseless in &heads {
        let failed = run(&client, CHAT, async || {
            let id = proxy.next_request().await.unwrap().id;
            proxy.send(&first(id, senseless, false));
        })
        .await;
        assert_eq!(failed.err().map(|error| error.kind()), Some(ErrorKind::PeerMisbehaved));
    }
    let failed = run(&client, CHAT, async || {
        let id = proxy.next_request().await.unwrap().id;
        proxy.send(&part(id, b"a part without a head", false));
    })
    .await;
    assert_eq!(failed.err().map(|error| error.kind()), Some(ErrorKind::PeerMisbehaved));
    assert_eq!(client.shared.pool.all().len(), 1, "the connection stays");
}

#[tokio::test(start_paused = true)]
async fn the_timer_ends_a_request_that_nobody_answers() {
    let network = Network::new(&[]);
    let client = client(&network);
    let (mut proxy, _serving) = connected(&network, &client, Some(2)).await;
    let started = Instant::now();
    let silent = run(&client, r#"{"model":"m","timeout":7}"#, async || {
        proxy.next_request().await.unwrap();
    })
    .await;
    assert_eq!(silent.err().map(|error| error.kind()), Some(ErrorKind::Timeout));
    assert_eq!(started.elapsed().as_secs(), 7);

    let started = Instant::now();
    let mut answer = run(&client, r#"{"model":"m","timeout":7}"#, async || {
        let id = proxy.next_request().await.unwrap().id;
        proxy.send(&first(id, &head(200, JSON, b"{"), false));
    })
    .await
    .unwrap();
    assert_eq!(rest(&mut answer).await, Err(("{".to_owned(), ErrorKind::Timeout)));
    assert_eq!(started.elapsed().as_secs(), 7);
    drop(answer);
    assert_eq!(client.shared.pool.all()[0].requests.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_proxy_fails_its_requests_at_once() {
    let network = Network::new(&[]);
    let client = client(&network);
    let (mut proxy, serving) = connected(&network, &client, Some(2)).await;
    let started = Instant::now();
    let lost = run(&client, CHAT, async || {
        proxy.next_request().await.unwrap();
        proxy.link.close("gone");
    })
    .await
    .err()
    .unwrap();
    assert_eq!((lost.kind(), lost.is_retryable()), (ErrorKind::ProxyLost, true));
    assert!(started.elapsed() < Duration::from_secs(1));
    serving.await.unwrap();
    let refused = client.run(&request(CHAT)).await.err().unwrap();
    assert_eq!((refused.kind(), refused.is_retryable()), (ErrorKind::ProxyUnavailable, true));
    assert_eq!(client.models().await.err().map(|error| error.kind()), Some(ErrorKind::ProxyUnavailable));
}

#[tokio::test(start_paused = true)]
async fn an_application_that_leaves_costs_nobody_else_anything() {
    let network = Network::new(&[]);
    let client = client(&network);
    let (mut proxy, _serving) = connected(&network, &client, Some(2)).await;
    let mut left = [0; 32];
    let answer = run(&client, CHAT, async || {
        left = proxy.next_request().await.unwrap().id;
        proxy.send(&first(left, &head(200, JSON, b"{"), false));
    })
    .await
    .unwrap();
    drop(answer);
    assert_eq!(client.shared.pool.all()[0].requests.len(), 0);
    for _ in 0..10 {
        proxy.send(&part(left, b"nobody reads this", false));
    }
    let mut answer = run(&client, CHAT, async || {
        let id = proxy.next_request().await.unwrap().id;
        proxy.send(&first(id, &head(200, JSON, b"{}"), true));
    })
    .await
    .unwrap();
    assert_eq!(rest(&mut answer).await.unwrap(), "{}");

    // Leaving before the head is the same.
    let waiting = request(CHAT);
    tokio::select! {
        _ = client.run(&waiting) => panic!("nobody answered"),
        got = proxy.next_request() => assert!(got.is_some()),
    }
    assert_eq!(client.shared.pool.all()[0].requests.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_fails_alone() {
    let network = Network::new(&[]);
    let client = client(&network);
    let (mut proxy, _serving) = connected(&network, &client, Some(2)).await;
    let mut slow_id = [0; 32];
    let mut slow = run(&client, CHAT, async || {
        slow_id = proxy.next_request().await.unwrap().id;
        proxy.send(&first(slow_id, &head(200, JSON, b""), false));
    })
    .await
    .unwrap();
    let piece = vec![b'x'; 100_000];
    for _ in 0..60 {
        proxy.link.send(wire::encode(&part(slow_id, &piece, false))).await.unwrap();
    }
    let mut quick = run(&client, CHAT, async || {
        let id = proxy.next_request().await.unwrap().id;
        proxy.send(&first(id, &head(200, JSON, b"{}"), true));
    })
    .await
    .unwrap();
    assert_eq!(rest(&mut quick).await.unwrap(), "{}");
    let (text, kind) = rest(&mut slow).await.unwrap_err();
    assert_eq!(kind, ErrorKind::ReaderTooSlow);
    let limit = network.config().waiting_len_max;
    assert!((limit - 200_000..=limit).contains(&text.len()), "{}", text.len());
}

#[tokio::test(start_paused = true)]
async fn empty_parts_are_bounded_too() {
    let network = Network::new(&[]);
    let client = Client::open(Config { waiting_len_max: 20_000, ..network.config() }).unwrap();
    let (mut proxy, _serving) = connected(&network, &client, Some(2)).await;
    let mut answer = run(&client, CHAT, async || {
        let id = proxy.next_request().await.unwrap().id;
        proxy.send(&first(id, &head(200, JSON, b""), false));
        for _ in 0..200 {
            proxy.send(&part(id, b"", false));
        }
    })
    .await
    .unwrap();
    assert_eq!(rest(&mut answer).await, Err((String::new(), ErrorKind::ReaderTooSlow)));
}

#[tokio::test(start_paused = true)]
async fn a_malformed_message_ends_the_connection_and_an_unknown_one_does_not() {
    let network = Network::new(&[]);
    let client = client(&network);
    let (mut proxy, serving) = connected(&network, &client, Some(2)).await;
    proxy.link.try_send(Bytes::from_static(b"\x01\x02\x03\x04unknown")).unwrap();
    let mut answer = run(&client, CHAT, async || {
        let id = proxy.next_request().await.unwrap().id;
        proxy.send(&first(id, &head(200, JSON, b"{}"), true));
    })
    .await
    .unwrap();
    assert_eq!(rest(&mut answer).await.unwrap(), "{}");

    let failed = run(&client, CHAT, async || {
        let id = proxy.next_request().await.unwrap().id;
        let whole = wire::encode(&first(id, &head(200, JSON, b"{}"), true));
        proxy.link.try_send(whole.slice(..whole.len() - 4)).unwrap();
    })
    .await;
    assert_eq!(failed.err().map(|error| error.kind()), Some(ErrorKind::ProxyLost));
    assert!(proxy.next_request().await.is_none(), "closed");
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_question_to_the_client_is_refused() {
    let network = Network::new(&[]);
    let client = client(&network);
    let (proxy, _serving) = connected(&network, &client, Some(2)).await;
    let refused = proxy.link.query(Bytes::from_static(b"what"), Duration::from_secs(5)).await;
    let Err(transport::QueryError::Refused { code, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(code, StatusCode::PROTOCOL_VIOLATION);
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_to_another_proxy_when_the_first_has_no_worker() {
    let network = Network::new(&[]);
    let client = Client::open(Config { proxy_connections: 2, ..network.config() }).unwrap();
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
    let client = Client::open(Config { proxy_connections: 2, ..network.config() }).unwrap();
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
        let client = client(&network);
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
    let client = Client::open(Config { proxy_connections: 2, ..network.config() }).unwrap();
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

#[tokio::test(start_paused = true)]
async fn the_account_follows_payments_and_never_falls() {
    let network = Network::new(&[]);
    let client = client(&network);
    let (mut proxy, _serving) = connected(&network, &client, Some(2)).await;
    assert_eq!(totals(&client), (0, 0, 0));
    let wallet = proxy.wallet.unwrap();
    let mut pay = async |signed: u64, db_tokens, max_tokens| {
        let data = network.charge(&wallet, signed);
        let signed_payment = SignedPayment::Payment { data: &data };
        proxy.send(&ClientRequestPayment {
            request_id: [1; 32],
            signed_payment,
            db_tokens,
            max_tokens,
            request_tokens: 1,
        });
        // An answer behind it shows that it was read.
        let mut answer = run(&client, CHAT, async || {
            let id = proxy.next_request().await.unwrap().id;
            proxy.send(&first(id, &head(200, JSON, b"{}"), true));
        })
        .await
        .unwrap();
        rest(&mut answer).await.unwrap();
        totals(&client)
    };
    assert_eq!(pay(100, 200, 300).await, (100, 200, 300));
    assert_eq!(pay(50, 150, 250).await, (100, 200, 300));
    assert_eq!(pay(101, 201, 301).await, (101, 201, 301));
}

#[tokio::test(start_paused = true)]
async fn the_account_is_asked_for_every_10_to_20_seconds() {
    let network = Network::new(&[]);
    let client = client(&network);
    let (mut proxy, _serving) = connected(&network, &client, Some(2)).await;
    proxy.totals = (7, 8, 9);
    tokio::select! {
        _ = proxy.next_request() => panic!("no request was made"),
        () = tokio::time::sleep(Duration::from_secs(200)) => {}
    }
    assert!((10..=20).contains(&proxy.status_queries), "{}", proxy.status_queries);
    assert_eq!(totals(&client), (7, 8, 9));
}

#[tokio::test(start_paused = true)]
async fn debug_times_are_added_and_kept() {
    let network = Network::new(&[]);
    let client = client(&network);
    let (mut proxy, _serving) = connected(&network, &client, Some(2)).await;
    for (content_type, body, before, after) in [
        (JSON, &b"{\"a\":1}\n"[..], "{\"a\":1,\"debug\":{", "}}\n"),
        (EVENTS, b"data: [DONE]\n\n", "data: [DONE]\n\nevent: cocoon.debug\ndata: {", "}\n\n"),
    ] {
        let asked = r#"{"model":"m","enable_debug":true,"request_guid":"g"}"#;
        let mut answer = run(&client, asked, async || {
            let got = proxy.next_request().await.unwrap();
            assert_eq!(got.enable_debug, Some(true));
            proxy.send(&first(got.id, &head(200, content_type, body), false));
            let mut last = part(got.id, b"", true);
            last.final_info.as_mut().unwrap().debug = Some(wire::client::DebugInfo {
                worker_debug: "{\"type\":\"worker_stats\"}".into(),
                proxy_debug: "{\"type\":\"proxy_stats\"}".into(),
            });
            proxy.send(&last);
        })
        .await
        .unwrap();
        let text = rest(&mut answer).await.unwrap();
        assert!(text.starts_with(before) && text.ends_with(after), "{text}");
        assert!(text.contains("\"worker\":{\"type\":\"worker_stats\"}") && text.contains("\"client\":{"));
        let kept = client.shared.debug_log.find("g").unwrap();
        assert!(text.contains(&kept));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_said() {
    let network = Network::new(&[]);
    let client = client(&network);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(client.missing(), ["a ready proxy (the root configuration has no further proxy)"]);
    let ((link, events), (proxy_link, proxy_events)) = transport::testing::pair();
    let shared = Arc::clone(&client.shared);
    let _serving = tokio::spawn(async move { crate::link::serve(&shared, link, events, 0).await });
    let mut proxy = Proxy::new(&network, proxy_link, proxy_events, Some(2));
    proxy.model = None;
    proxy.handshake().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(client.missing(), ["a worker with a model"]);
    proxy.model = Some(("m", 1000));
    tokio::select! {
        _ = proxy.next_request() => panic!("no request was made"),
        // A first worker is noticed soon.
        () = tokio::time::sleep(Duration::from_millis(500)) => {}
    }
    assert!(client.missing().is_empty());
}

#[tokio::test]
async fn a_configuration_that_cannot_work_starts_nothing() {
    let network = Network::new(&[]);
    let open = |config| Client::open(config).err().unwrap();
    let config = Config { root_address: String::new(), ..network.config() };
    assert!(matches!(open(config), StartError::Setting(SettingError::Value { key: "root_address", .. })));
    let config = Config { root_address: "nowhere".to_owned(), ..network.config() };
    assert!(matches!(open(config), StartError::Setting(SettingError::Address { key: "root_address", .. })));
    let config = Config { owner_address: "nobody".to_owned(), ..network.config() };
    assert!(matches!(open(config), StartError::Setting(SettingError::Address { key: "owner_address", .. })));
    let config = Config { root_config: "no/such/file".into(), ..network.config() };
    assert!(matches!(open(config), StartError::Root(RootError::Read { .. })));
    let config = Config { proxy_connections: 0, ..network.config() };
    assert!(matches!(
        open(config),
        StartError::Setting(SettingError::Value { key: "proxy_connections", .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn only_a_newer_root_configuration_is_taken_over() {
    let mut network = Network::new(&[]);
    let client = client(&network);
    let mut follow = async |version: u32, price: u64| {
        network.root.version = units::ConfigVersion::new(version);
        network.root.params.price_per_token = units::NanoTon::new(price);
        network.write_root();
        tokio::time::sleep(Duration::from_secs(61)).await;
        client.shared.root().params.price_per_token.get()
    };
    assert_eq!(follow(4, 5).await, 5);
    assert_eq!(follow(4, 6).await, 5);
    assert_eq!(follow(3, 7).await, 5);
    assert_eq!(follow(5, 8).await, 8);
}
