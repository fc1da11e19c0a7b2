//! Links to proxies: what is announced, what ends a link, how a worker comes back, starts and stops.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use cocoon_worker::{Config, ModelConfig};
use http::StatusCode;
use support::proxy::{Ask, Said, ScriptedProxy};
use support::setup::Setup;
use transport::QueryError;
use wire::StatusCode as WireStatus;

#[tokio::test]
async fn a_model_is_announced_as_it_is() {
    let mut setup = Setup::new().await;
    setup.engine.set_status(StatusCode::SERVICE_UNAVAILABLE);
    let program = setup.start().await;
    let mut worker = setup.proxy.accept().await;
    assert_eq!(worker.model, "test/model@commit:hash");
    assert_eq!((worker.coefficient, worker.max_active_requests, worker.proxy_cnt), (1500, 2, 1));
    assert!(worker.is_disabled, "the engine is still loading");
    let (status, body) = setup.http(&program, "GET", "/readyz", None).await;
    assert!(status == 503 && body.contains("the engine does not answer"), "{body}");

    setup.engine.set_status(StatusCode::OK);
    assert_eq!(worker.next().await, Said::Disabled(false));
    assert_eq!(setup.http(&program, "GET", "/readyz", None).await.0, 200);
    assert_eq!(program.missing(), Vec::<String>::new());

    setup.engine.set_status(StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(worker.next().await, Said::Disabled(true));
    drop(worker);
    let missing = || program.missing().iter().any(|it| it.contains("not linked to any proxy"));
    while !missing() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_operator_switches_and_prices_with_a_token() {
    let mut setup = Setup::new().await;
    let program = setup.start().await;
    let mut worker = setup.proxy.accept().await;
    if worker.is_disabled {
        assert_eq!(worker.next().await, Said::Disabled(false));
    }
    setup.act(&program, "/request/disable").await;
    assert_eq!(worker.next().await, Said::Disabled(true));
    setup.act(&program, "/request/disable").await;
    setup.act(&program, "/request/enable?model=test/model").await;
    assert_eq!(worker.next().await, Said::Disabled(false));
    setup.act(&program, "/request/change_coefficient?coefficient=2.5&model=test%2Fmodel@commit:hash").await;
    assert_eq!(worker.next().await, Said::Coefficient(2500));

    let token = setup.token();
    for (method, path, token, expected) in [
        ("POST", "/request/disable", None, 401),
        ("POST", "/request/disable", Some("wrong"), 401),
        ("GET", "/request/disable", Some(token.as_str()), 405),
        ("POST", "/request/disable?model=other", Some(token.as_str()), 400),
        ("POST", "/request/change_coefficient", Some(token.as_str()), 400),
        ("POST", "/request/change_coefficient?coefficient=-1", Some(token.as_str()), 400),
    ] {
        let (status, body) = setup.http(&program, method, path, token).await;
        assert_eq!(status, expected, "{method} {path}: {body}");
    }
    // The price of requests follows the announcement; the old one stays good for those under way.
    for coefficient in [1500, 2500] {
        worker.ask(&Ask { coefficient, ..Ask::default() });
        setup.engine.next_prompt().await.answer_json(200, "{}").await;
        assert_eq!(worker.whole_answer().await.0, 200);
    }
}

#[tokio::test]
async fn a_proxy_that_says_less_than_before_is_compared_again() {
    let mut setup = Setup::new().await;
    let _program = setup.start().await;
    let mut worker = setup.proxy.accept().await;
    assert_eq!(worker.remembered.max_tokens, 0);
    worker.settle(10, 20, 30);
    worker.settle(10, 20, 29);
    while worker.next().await != Said::Closed {}

    // The proxy lost ten tokens that it had not stored: they are written off, and work goes on.
    (setup.proxy.signed, setup.proxy.stored, setup.proxy.earned) = (10, 20, 20);
    let worker = setup.proxy.accept().await;
    let remembered = &worker.remembered;
    assert_eq!(remembered.tokens_committed_to_blockchain, 10);
    assert_eq!((remembered.tokens_committed_to_db, remembered.max_tokens), (20, 30));
    worker.settle(10, 20, 25);
    worker.link.close("the next comparison begins from what is left");
    let worker = setup.proxy.accept().await;
    assert_eq!(worker.remembered.max_tokens, 25);
}

#[tokio::test]
async fn malformed_messages_end_the_link_and_unknown_ones_do_not() {
    let mut setup = Setup::new().await;
    let _program = setup.start().await;
    let mut worker = setup.proxy.accept().await;
    // An unknown message, a question that a worker does not answer, a payment that does not hold.
    worker.link.try_send(bytes::Bytes::from_static(b"\x01\x02\x03\x04rest")).unwrap();
    let asked =
        worker.link.query(b"\x01\x02\x03\x04".as_slice().into(), std::time::Duration::from_secs(60)).await;
    assert!(matches!(asked, Err(QueryError::Refused { code: WireStatus::PROTOCOL_VIOLATION, .. })));
    let payment = wire::encode(&wire::proxy::SignedPayment::Payment { data: b"no bag of cells" });
    worker.link.try_send(payment).unwrap();
    worker.ask(&Ask::default());
    setup.engine.next_prompt().await.answer_json(200, "{}").await;
    assert_eq!(worker.whole_answer().await.0, 200);

    // A known message, cut short.
    let whole = wire::encode(&wire::proxy::WorkerRequestPayment {
        request_id: [0; 32],
        signed_payment: wire::proxy::SignedPayment::Empty,
        db_tokens: 0,
        max_tokens: 0,
        request_tokens: 0,
        request_client_owner: "".into(),
    });
    worker.link.try_send(whole.slice(..whole.len() - 4)).unwrap();
    while worker.next().await != Said::Closed {}
    setup.proxy.accept().await;
}

#[tokio::test]
async fn a_model_is_offered_to_several_proxies() {
    let mut setup = Setup::new().await;
    let mut second = ScriptedProxy::start().await;
    let mut other = second.root.registered_proxies[0];
    other.seqno = 2;
    setup.proxy.root.registered_proxies.push(other);
    second.root = setup.proxy.root.clone();
    // A third place stays empty: there are only two proxies.
    let config = Config { proxy_connections: 3, ..setup.config() };
    let program = cocoon_worker::start(config).await.unwrap();
    let (mut at_first, mut at_second) = tokio::join!(setup.proxy.accept(), second.accept());
    assert_eq!((at_first.proxy_cnt, at_second.proxy_cnt), (2, 2));
    for worker in [&mut at_first, &mut at_second] {
        worker.ask(&Ask::default());
        setup.engine.next_prompt().await.answer_json(200, "{}").await;
        assert_eq!(worker.whole_answer().await.0, 200);
    }
    let (_status, body) = setup.http(&program, "GET", "/jsonstats", None).await;
    let stats: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(stats["models"][0]["proxy_connections"], 2);
    assert_eq!(stats["stats"]["queries"][0], 2.0);
}

#[tokio::test]
async fn several_models_have_a_link_each() {
    let mut setup = Setup::new().await;
    let other = ModelConfig { name: "other".into(), coefficient: 700, ..setup.model() };
    let config = Config { models: vec![setup.model(), other], ..setup.config() };
    let program = cocoon_worker::start(config).await.unwrap();
    let mut workers = [setup.proxy.accept().await, setup.proxy.accept().await];
    workers.sort_by_key(|worker| worker.coefficient);
    let [other, first] = &mut workers;
    assert_eq!((other.model.as_str(), first.model.as_str()), ("other", "test/model@commit:hash"));
    // Each link takes requests for its own model only.
    let body = r#"{"model":"other","messages":[]}"#;
    first.ask(&Ask { body, ..Ask::default() });
    let Said::Error { code: 621, .. } = first.next_answer().await else { panic!("another model was taken") };
    other.ask(&Ask { body, coefficient: 700, ..Ask::default() });
    setup.engine.next_prompt().await.answer_json(200, "{}").await;
    assert_eq!(other.whole_answer().await.0, 200);

    let (_status, metrics) = setup.http(&program, "GET", "/metrics", None).await;
    for expected in [
        "cocoon_worker_engine_up{model=\"other\"} 1",
        "cocoon_worker_proxy_links{model=\"test/model\"} 1",
        "cocoon_worker_requests_total 2",
        "cocoon_worker_failures_total 1",
    ] {
        assert!(metrics.contains(expected), "{expected} is not in:\n{metrics}");
    }
}

#[tokio::test]
async fn a_shutdown_announces_itself_and_lets_requests_finish() {
    let mut setup = Setup::new().await;
    let program = setup.start().await;
    let mut worker = setup.proxy.accept().await;
    worker.ask(&Ask::default());
    let prompt = setup.engine.next_prompt().await;
    let stopping = tokio::spawn(program.shutdown());
    while worker.next().await != Said::Disabled(true) {}
    worker.ask(&Ask { id: 2, ..Ask::default() });
    let Said::Error { id: 2, code: 653, message, .. } = worker.next_answer().await else {
        panic!("a request was taken during the shutdown")
    };
    assert_eq!(message, "worker is shutting down");
    assert!(!stopping.is_finished());
    prompt.answer_json(200, "{}").await;
    assert_eq!(worker.whole_answer().await.0, 200);
    assert_eq!(worker.next().await, Said::Closed);
    stopping.await.unwrap();
}

#[tokio::test]
async fn a_request_that_does_not_finish_is_cut_at_shutdown() {
    let mut setup = Setup::new().await;
    let config = Config { drain_timeout: std::time::Duration::from_millis(50), ..setup.config() };
    let program = cocoon_worker::start(config).await.unwrap();
    let mut worker = setup.proxy.accept().await;
    worker.ask(&Ask::default());
    let prompt = setup.engine.next_prompt().await;
    program.shutdown().await;
    prompt.caller_gone().await;
    while worker.next().await != Said::Closed {}
}

#[tokio::test]
async fn what_cannot_work_is_refused_at_start() {
    let setup = Setup::new().await;
    let no_file = Config { root_config: setup.folder.path().join("none.json"), ..setup.config() };
    let refused = cocoon_worker::start(no_file).await.err().unwrap();
    assert!(refused.to_string().contains("none.json"), "{refused}");
    let taken = Config { http: setup.engine.address, ..setup.config() };
    let refused = cocoon_worker::start(taken).await.err().unwrap();
    assert!(refused.to_string().contains("cannot listen"), "{refused}");
    let nothing = Config { models: vec![], ..setup.config() };
    assert!(cocoon_worker::start(nothing).await.is_err());
    cocoon_worker::start(setup.config()).await.unwrap();
}

#[tokio::test]
async fn fifty_streams_at_once_lose_and_mix_nothing() {
    const STREAMS: u8 = 50;
    const EVENTS: usize = 20;
    let mut setup = Setup::new().await;
    let model = ModelConfig { max_active_requests: STREAMS.into(), ..setup.model() };
    let program = cocoon_worker::start(Config { models: vec![model], ..setup.config() }).await.unwrap();
    let mut worker = setup.proxy.accept().await;
    for id in 0..STREAMS {
        let body = format!(r#"{{"model":"test/model","messages":[],"stream":true,"seed":{id}}}"#);
        worker.ask(&Ask { id, body: &body, ..Ask::default() });
    }
    let expected = |seed: u64| {
        let event = |n| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{seed}-{n}\"}}}}]}}\n\n");
        (0..EVENTS).map(event).collect::<Vec<String>>()
    };
    let answer_all = async {
        for _ in 0..STREAMS {
            let prompt = setup.engine.next_prompt().await;
            let body: serde_json::Value = serde_json::from_slice(&prompt.body).unwrap();
            let events = expected(body["seed"].as_u64().unwrap());
            let writer = prompt.answer(200, "text/event-stream");
            tokio::spawn(async move {
                for event in &events {
                    writer.write(event).await;
                }
                let usage = r#"{"prompt_tokens":2,"completion_tokens":20}"#;
                writer.write(&format!("data: {{\"choices\":[],\"usage\":{usage}}}\n\n")).await;
            });
        }
    };
    let mut bodies = vec![String::new(); STREAMS.into()];
    let collect = async {
        let mut open = STREAMS;
        while open > 0 {
            match worker.next_answer().await {
                Said::Head { status: 200, .. } => {}
                Said::Part { id, body, end } => {
                    bodies[usize::from(id)].push_str(&body);
                    if let Some(end) = end {
                        assert_eq!(end.tokens, [3, 0, 30, 0, 33]);
                        open -= 1;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::join!(answer_all, collect);
    for (seed, body) in bodies.iter().enumerate() {
        let whole = expected(seed as u64).concat();
        let usage = body.strip_prefix(&whole).expect("every event once and in order");
        assert!(usage.contains("\"total_cost\":66"), "{usage}");
    }
    assert_eq!(program.missing(), Vec::<String>::new());
}
