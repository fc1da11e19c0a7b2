//! The engine inside the worker, with the demo model.
#![cfg(feature = "embedded-engine")]
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use cocoon_worker::{Config, ModelConfig};
use serde_json::Value;
use support::proxy::{Ask, Said};
use support::setup::Setup;

const CHAT: &str = r#"{"model":"cocoon-demo","messages":[{"role":"user","content":"What is Cocoon?"}],"max_tokens":8,"temperature":0"#;

async fn started(setup: &Setup, max_active_requests: i32) -> cocoon_worker::Worker {
    let model = ModelConfig {
        name: engine::demo::MODEL_ID.into(),
        backend: "demo".into(),
        max_active_requests,
        ..ModelConfig::default()
    };
    cocoon_worker::start(Config { models: vec![model], ..setup.config() }).await.unwrap()
}

#[tokio::test]
async fn the_demo_model_answers_and_is_billed() {
    let mut setup = Setup::new().await;
    let _program = started(&setup, 2).await;
    let mut worker = setup.proxy.accept().await;
    for body in [format!("{CHAT}}}"), format!("{CHAT},\"stream\":true}}")] {
        worker.ask(&Ask { body: &body, coefficient: 1000, ..Ask::default() });
        let (status, _headers, answer, end) = worker.whole_answer().await;
        assert_eq!(status, 200, "{answer}");
        // Server-sent events, or one JSON value.
        let usage = answer.split("data: ").filter_map(|it| serde_json::from_str::<Value>(it.trim()).ok());
        let usage = usage.map(|value| value["usage"].clone()).find(Value::is_object).unwrap();
        let [prompt, cached, completion, reasoning, total] = end.tokens;
        assert_eq!(usage["prompt_tokens"], prompt + cached);
        assert_eq!(usage["completion_tokens"], completion + reasoning);
        assert!(completion > 0 && completion <= 8 && prompt > 0);
        assert_eq!(usage["total_cost"], 2 * total);
    }
    worker.ask(&Ask {
        body: r#"{"model":"cocoon-demo","messages":"none"}"#,
        coefficient: 1000,
        ..Ask::default()
    });
    let (status, _headers, _answer, end) = worker.whole_answer().await;
    assert_eq!((status, end.tokens), (400, [0; 5]));
}

#[tokio::test]
async fn a_lost_link_stops_the_generation() {
    let mut setup = Setup::new().await;
    let _program = started(&setup, 1).await;
    let worker = setup.proxy.accept().await;
    let endless = r#"{"model":"cocoon-demo","prompt":"a","max_tokens":4000,"ignore_eos":true,"stream":true}"#;
    worker.ask(&Ask { path: "/v1/completions", body: endless, coefficient: 1000, ..Ask::default() });
    drop(worker);
    // The one place is free again.
    let mut worker = setup.proxy.accept().await;
    let body = format!("{CHAT}}}");
    loop {
        worker.ask(&Ask { body: &body, coefficient: 1000, ..Ask::default() });
        match worker.next_answer().await {
            Said::Head { status, .. } => return assert_eq!(status, 200),
            Said::Error { code: 602, .. } => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    }
}
