//! How requests end that do not end well.

use super::*;

#[tokio::test(start_paused = true)]
async fn every_refusal_before_the_head_ends_the_request() {
    let network = Network::new(&[]);
    let client = client(&network).await;
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
    let client = client(&network).await;
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
    let client = client(&network).await;
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
    let client = client(&network).await;
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
    let client = client(&network).await;
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
    let client = client(&network).await;
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
    let client = client(&network).await;
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
    let client = client(&network).await;
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
    let client = Client::open(Config { waiting_len_max: 20_000, ..network.config() }).await.unwrap();
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
    let client = client(&network).await;
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
    let client = client(&network).await;
    let (proxy, _serving) = connected(&network, &client, Some(2)).await;
    let refused = proxy.link.query(Bytes::from_static(b"what"), Duration::from_secs(5)).await;
    let Err(transport::QueryError::Refused { code, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(code, StatusCode::PROTOCOL_VIOLATION);
}
