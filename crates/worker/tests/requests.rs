//! Requests from a proxy's message to the final answer, over real sockets on both sides.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use http::HeaderMap;
use support::proxy::{Ask, End, Said, Worker};
use support::setup::Setup;

/// The usage of the recorded conversations: 200 adjusted tokens at 1500, 334 at 2500.
const USAGE: &str = r#""usage":{"prompt_tokens":34,"total_tokens":134,"completion_tokens":100,"prompt_tokens_details":{"cached_tokens":11},"completion_tokens_details":{"reasoning_tokens":10}}"#;
const TOKENS: [i64; 5] = [34, 16, 135, 15, 200];

/// A worker that is linked and enabled.
async fn linked(setup: &mut Setup) -> (cocoon_worker::Worker, Worker) {
    let program = setup.start().await;
    let mut worker = setup.proxy.accept().await;
    if worker.is_disabled {
        assert_eq!(worker.next().await, Said::Disabled(false));
    }
    (program, worker)
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut found = headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
    let value = found.next().map(|(_, value)| value.as_str());
    assert!(found.next().is_none(), "{name} occurs twice");
    value
}

#[tokio::test]
async fn two_requests_of_one_name_do_not_run_at_once_in_any_version() {
    for protocol in [0, 1, 2] {
        let mut setup = Setup::new().await;
        setup.proxy.protocol = protocol;
        let (_program, mut worker) = linked(&mut setup).await;
        worker.ask(&Ask::default());
        let prompt = setup.engine.next_prompt().await;
        worker.ask(&Ask::default());
        let Said::Error { code: 621, message, .. } = worker.next_answer().await else {
            panic!("the second is refused")
        };
        assert_eq!(message, "worker: request id is in use");
        prompt.answer_json(200, "{}").await;
        assert_eq!(worker.whole_answer().await.0, 200, "the first goes on");
        // Its name is free again once its task is over, which is soon after its last word.
        loop {
            worker.ask(&Ask::default());
            tokio::select! {
                biased;
                prompt = setup.engine.next_prompt() => {
                    prompt.answer_json(200, "{}").await;
                    break;
                }
                refused = worker.next_answer() => assert!(matches!(refused, Said::Error { code: 621, .. })),
            }
        }
        assert_eq!(worker.whole_answer().await.0, 200);
    }
}

#[tokio::test]
async fn a_stream_passes_event_by_event_and_is_billed() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    worker.ask(&Ask { body: r#"{"model":"test/model","messages":[],"stream":true}"#, ..Ask::default() });
    let prompt = setup.engine.next_prompt().await;
    assert_eq!(prompt.path, "/v1/chat/completions");
    assert_eq!(prompt.headers["x-trace"], "t1");
    assert!(!prompt.headers.contains_key("authorization"));
    let expected =
        r#"{"model":"test/model","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;
    assert_eq!(prompt.body, expected);

    let writer = prompt.answer(200, "text/event-stream");
    let Said::Head { id: 1, status: 200, headers, end: None } = worker.next().await else {
        panic!("the head comes first, before any piece of the body")
    };
    assert_eq!(header(&headers, "content-type"), Some("text/event-stream"));
    assert_eq!(header(&headers, "transfer-encoding"), Some("chunked"));
    assert_eq!(header(&headers, "content-length"), None);
    for name in ["X-Cocoon-Worker-Start", "X-Cocoon-Worker-End"] {
        let (seconds, micros) = header(&headers, name).unwrap().split_once('.').unwrap();
        assert!(seconds.parse::<u64>().unwrap() > 1_700_000_000 && micros.len() == 6);
    }
    // Each piece must arrive before the next one is written, however the events are cut.
    for piece in ["data: {\"choices\":[{\"index\":0,\"de", "lta\":{\"content\":\"a\"}}]}\n", "\nda"] {
        writer.write(piece).await;
        assert_eq!(worker.next().await, Said::Part { id: 1, body: piece.into(), end: None });
    }
    writer.write(&format!("ta: {{\"choices\":[],{USAGE}}}\n\n")).await;
    let Said::Part { body, end: None, .. } = worker.next().await else { panic!("not the end yet") };
    assert!(
        body.contains(r#""prompt_total_cost":100,"completion_total_cost":300,"total_cost":400"#),
        "{body}"
    );
    writer.write("data: [DONE]\n\n").await;
    assert_eq!(worker.next().await, Said::Part { id: 1, body: "data: [DONE]\n\n".into(), end: None });
    drop(writer);
    let end = End { tokens: TOKENS, debug: None, has_times: true };
    assert_eq!(worker.next().await, Said::Part { id: 1, body: String::new(), end: Some(end) });
}

#[tokio::test]
async fn a_json_answer_is_billed_in_every_protocol_version() {
    for protocol in 0..=2 {
        let mut setup = Setup::new().await;
        setup.proxy.protocol = protocol;
        let (_program, mut worker) = linked(&mut setup).await;
        worker.ask(&Ask { path: "/v1/completions", enable_debug: true, ..Ask::default() });
        let prompt = setup.engine.next_prompt().await;
        assert_eq!(prompt.path, "/v1/completions");
        prompt.answer_json(200, &format!("{{\"choices\":[],{USAGE}}}")).await;
        let (status, _headers, body, end) = worker.whole_answer().await;
        assert_eq!((status, end.tokens), (200, TOKENS));
        assert!(body.contains("\"total_cost\":400"));
        assert_eq!(end.has_times, protocol == 2);
        assert_eq!(end.debug.is_some(), protocol >= 1);
        if let Some(debug) = end.debug {
            let debug: serde_json::Value = serde_json::from_str(&debug).unwrap();
            assert_eq!(debug["type"], "worker_stats");
            let time = |name: &str| debug[name].as_f64().unwrap();
            assert!(time("start_time") <= time("answer_receive_start_at"));
            assert!(time("answer_receive_start_at") <= time("answer_receive_end_at"));
        }
    }
}

#[tokio::test]
async fn a_refusal_of_the_engine_passes_and_costs_nothing() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    worker.ask(&Ask::default());
    let refusal = r#"{"error":{"message":"no such tool"}}"#;
    setup.engine.next_prompt().await.answer_json(400, refusal).await;
    let (status, _headers, body, end) = worker.whole_answer().await;
    assert_eq!((status, body.as_str(), end.tokens), (400, refusal, [0; 5]));
}

#[tokio::test]
async fn an_answer_without_a_body_is_complete_with_its_head() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    worker.ask(&Ask::default());
    let _no_body = setup.engine.next_prompt().await.answer_with(204, HeaderMap::new());
    let (status, headers, body, end) = worker.whole_answer().await;
    assert_eq!((status, body.as_str(), end.tokens), (204, "", [0; 5]));
    assert_eq!(header(&headers, "transfer-encoding"), None);
}

#[tokio::test]
async fn an_engine_without_usage_is_billed_by_count() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    worker.ask(&Ask { body: r#"{"model":"test/model","messages":[],"stream":true}"#, ..Ask::default() });
    let writer = setup.engine.next_prompt().await.answer(200, "text/event-stream");
    for _ in 0..4 {
        writer.write("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n").await;
    }
    drop(writer);
    let (_status, _headers, _body, end) = worker.whole_answer().await;
    // Four events at 1500 are six adjusted tokens, beside the estimated prompt.
    assert_eq!(end.tokens[2], 6);
    assert!(end.tokens[0] > 0);
}

#[tokio::test]
async fn what_is_no_request_for_this_worker_is_refused_with_its_reason() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    let refused = [
        (Ask { body: r#"{"model":"other","messages":[]}"#, ..Ask::default() }, 621, "model name mismatch"),
        (Ask { path: "/v1/embeddings", ..Ask::default() }, 621, "unsupported method"),
        (Ask { body: "no json", ..Ask::default() }, 621, "worker: invalid http request: "),
        (Ask { coefficient: 1499, ..Ask::default() }, 602, "never offered"),
        (Ask { timeout: f64::NAN, ..Ask::default() }, 652, "worker: timeout"),
        (Ask { timeout: -1.0, ..Ask::default() }, 652, "worker: timeout"),
    ];
    for (ask, expected_code, expected) in refused {
        worker.ask(&ask);
        let Said::Error { id: 1, code, message, end } = worker.next_answer().await else {
            panic!("{expected}: not refused")
        };
        assert!(code == expected_code && message.contains(expected), "{code} {message}");
        assert_eq!(end.tokens, [0; 5]);
    }
    worker.ask_raw(&Ask::default(), b"not TL");
    let Said::Error { code: 621, .. } = worker.next_answer().await else { panic!("not refused") };

    // None of it reached the engine, and the link still works.
    worker.ask(&Ask::default());
    setup.engine.next_prompt().await.answer_json(200, "{}").await;
    assert_eq!(worker.whole_answer().await.0, 200);
}

#[tokio::test]
async fn more_requests_than_places_are_refused_and_places_come_back() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    assert_eq!(worker.max_active_requests, 2);
    for id in 1..=2 {
        worker.ask(&Ask { id, ..Ask::default() });
    }
    let (first, second) = (setup.engine.next_prompt().await, setup.engine.next_prompt().await);
    worker.ask(&Ask { id: 3, ..Ask::default() });
    let Said::Error { id: 3, code: 602, message, end } = worker.next_answer().await else {
        panic!("the third request was not refused")
    };
    assert_eq!((message.as_str(), end.has_times), ("too many active queries", true));

    first.answer_json(200, "{}").await;
    assert_eq!(worker.whole_answer().await.0, 200);
    worker.ask(&Ask { id: 4, ..Ask::default() });
    setup.engine.next_prompt().await.answer_json(200, "{}").await;
    assert_eq!(worker.whole_answer().await.0, 200);
    drop(second);
}

#[tokio::test]
async fn a_broken_engine_ends_the_request_with_what_was_delivered() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    // Before the head.
    worker.ask(&Ask::default());
    drop(setup.engine.next_prompt().await);
    let Said::Error { code: 601, message, end, .. } = worker.next_answer().await else {
        panic!("the request did not fail")
    };
    assert!(message.starts_with("worker: http failed: "), "{message}");
    assert_eq!(end.tokens, [0; 5]);
    // Within the body.
    worker.ask(&Ask::default());
    let writer = setup.engine.next_prompt().await.answer(200, "text/event-stream");
    writer.write(&format!("data: {{{USAGE}}}\n\n")).await;
    let Said::Head { .. } = worker.next_answer().await else { panic!("no head") };
    let Said::Part { .. } = worker.next_answer().await else { panic!("no part") };
    writer.break_off().await;
    let Said::Error { code: 601, message, end, .. } = worker.next_answer().await else {
        panic!("the request did not fail")
    };
    assert!(message.starts_with("worker: failed to get payload: "), "{message}");
    assert_eq!(end.tokens, TOKENS);
}

#[tokio::test]
async fn a_slow_engine_is_given_up_with_what_was_delivered() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    // Long enough for the first part on any machine, since only what follows it may be late.
    worker.ask(&Ask { timeout: 8.0, ..Ask::default() });
    let writer = setup.engine.next_prompt().await.answer(200, "text/event-stream");
    writer.write(&format!("data: {{{USAGE}}}\n\n")).await;
    let Said::Head { .. } = worker.next_answer().await else { panic!("no head") };
    let Said::Part { .. } = worker.next_answer().await else { panic!("no part") };
    writer.caller_gone().await;
    let Said::Error { code: 652, message, end, .. } = worker.next_answer().await else {
        panic!("the request did not fail")
    };
    assert_eq!((message.as_str(), end.tokens), ("worker: timeout", TOKENS));
}

#[tokio::test]
async fn a_lost_link_ends_the_work_in_the_engine() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    worker.ask(&Ask { id: 1, ..Ask::default() });
    let waiting = setup.engine.next_prompt().await;
    worker.ask(&Ask { id: 2, ..Ask::default() });
    let streaming = setup.engine.next_prompt().await.answer(200, "text/event-stream");
    streaming.write("data: {}\n\n").await;
    let Said::Head { id: 2, .. } = worker.next_answer().await else { panic!("no head") };
    drop(worker);
    waiting.caller_gone().await;
    streaming.caller_gone().await;
    // The places are free again on the next link.
    let mut worker = setup.proxy.accept().await;
    for id in 1..=2 {
        worker.ask(&Ask { id, ..Ask::default() });
        setup.engine.next_prompt().await.answer_json(200, "{}").await;
        assert_eq!(worker.whole_answer().await.0, 200);
    }
}

#[tokio::test]
async fn a_slow_proxy_slows_the_engine_down() {
    let mut setup = Setup::new().await;
    let (_program, worker) = linked(&mut setup).await;
    worker.ask(&Ask::default());
    let writer = setup.engine.next_prompt().await.answer(200, "text/event-stream");
    let piece = "x".repeat(256 * 1024);
    // The proxy takes nothing, so the engine can only fill what lies between: queues and socket buffers.
    let mut written_max = 0;
    while tokio::time::timeout(std::time::Duration::from_millis(500), writer.write(&piece)).await.is_ok() {
        written_max += piece.len();
        assert!(written_max < 64 << 20, "nothing holds the engine back");
    }
}

#[tokio::test]
async fn an_engine_that_ignores_the_limit_is_cut() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    let body = r#"{"model":"test/model","messages":[],"stream":true,"max_tokens":8,"n":2}"#;
    worker.ask(&Ask { body, ..Ask::default() });
    let writer = setup.engine.next_prompt().await.answer(200, "text/event-stream");
    worker.next().await;
    let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word and word\"}}]}\n\n";
    for _ in 0..16 {
        writer.write(event).await;
        assert_eq!(worker.next().await, Said::Part { id: 1, body: event.into(), end: None });
    }
    // The seventeenth begins within one piece and ends in the next.
    let (begin, rest) = event.split_at(event.len() - 1);
    writer.write(begin).await;
    assert_eq!(worker.next().await, Said::Part { id: 1, body: begin.into(), end: None });
    writer.write(rest).await;
    let Said::Part { body, end: Some(end), .. } = worker.next().await else { panic!("it is cut here") };
    let events: Vec<&str> = body.strip_prefix(rest).unwrap().split_terminator("\n\n").collect();
    assert_eq!(events.len(), 3);
    let json = |event: &str| -> serde_json::Value {
        serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap()
    };
    let ends = json(events[0]);
    assert_eq!(ends["choices"].as_array().unwrap().len(), 2);
    assert_eq!(ends["choices"][1]["finish_reason"], "length");
    let usage = &json(events[1])["usage"];
    assert_eq!(usage["completion_tokens"], 16);
    assert!(usage["total_cost"].is_u64());
    assert_eq!(events[2], "data: [DONE]");
    // Sixteen tokens at 1500.
    assert_eq!(end.tokens[2], 24);
    writer.caller_gone().await;
}

#[tokio::test]
async fn an_endless_json_answer_is_broken_off() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    worker.ask(&Ask { body: r#"{"model":"test/model","messages":[],"max_tokens":8}"#, ..Ask::default() });
    let writer = setup.engine.next_prompt().await.answer(200, "application/json");
    worker.next().await;
    writer.write(r#"{"choices":[{"message":{"content":""#).await;
    let writing = async {
        // 64 KiB may follow after the limit, and these are a little more.
        for _ in 0..17 {
            writer.write(&"x".repeat(4000)).await;
        }
    };
    let reading = async {
        loop {
            match worker.next().await {
                Said::Part { end: None, .. } => {}
                last => return last,
            }
        }
    };
    let ((), last) = tokio::join!(writing, reading);
    let Said::Error { code: 601, end, .. } = last else { panic!("{last:?}") };
    assert_eq!(end.tokens[2], 12, "eight tokens at 1500");
}
