//! What version 3 adds: requests that a proxy can end, answers that it can slow down, queries in parts.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use support::proxy::{Ask, Said, Worker};
use support::setup::Setup;
use transport::flow::{PART_LEN_MAX, WINDOW, part_cost};
use units::Capabilities;

const USAGE: &str = r#""usage":{"prompt_tokens":34,"total_tokens":134,"completion_tokens":100,"prompt_tokens_details":{"cached_tokens":11},"completion_tokens_details":{"reasoning_tokens":10}}"#;

/// A worker that is linked in version 3 and enabled.
async fn linked(setup: &mut Setup) -> (cocoon_worker::Worker, Worker) {
    setup.proxy.protocol = 3;
    let program = setup.start().await;
    let mut worker = setup.proxy.accept().await;
    if worker.is_disabled {
        assert_eq!(worker.next().await, Said::Disabled(false));
    }
    (program, worker)
}

#[tokio::test]
async fn a_cancelled_request_leaves_the_engine_at_once_and_costs_what_was_delivered() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    worker.ask(&Ask::default());
    let writer = setup.engine.next_prompt().await.answer(200, "text/event-stream");
    writer.write(&format!("data: {{{USAGE}}}\n\n")).await;
    let Said::Head { .. } = worker.next_answer().await else { panic!("no head") };
    let Said::Part { .. } = worker.next_answer().await else { panic!("no part") };
    worker.cancel(1);
    writer.caller_gone().await;
    let Said::Error { id: 1, code: 653, end, .. } = worker.next_answer().await else {
        panic!("a cancelled request ends with what it cost")
    };
    assert_eq!(end.tokens, [34, 16, 135, 15, 200]);
}

#[tokio::test]
async fn a_request_that_is_cancelled_before_its_head_costs_nothing_and_gives_its_place_back() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    // There are two places.
    for id in 0..8 {
        worker.ask(&Ask { id, ..Ask::default() });
        let prompt = setup.engine.next_prompt().await;
        worker.cancel(id);
        prompt.caller_gone().await;
        let Said::Error { code: 653, end, .. } = worker.next_answer().await else {
            panic!("a cancelled request ends with what it cost")
        };
        assert_eq!(end.tokens, [0; 5]);
    }
}

#[tokio::test]
async fn a_cancelled_request_takes_nothing_from_its_neighbour() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    worker.ask(&Ask { id: 1, ..Ask::default() });
    let cancelled = setup.engine.next_prompt().await;
    worker.ask(&Ask { id: 2, ..Ask::default() });
    let kept = setup.engine.next_prompt().await;
    worker.cancel(1);
    // One that is unknown has just ended.
    worker.cancel(9);
    cancelled.caller_gone().await;
    let Said::Error { id: 1, .. } = worker.next_answer().await else { panic!("1 ends") };
    kept.answer_json(200, "{}").await;
    assert_eq!(worker.whole_answer().await.0, 200);
}

#[tokio::test]
async fn a_name_in_use_is_refused() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    worker.ask(&Ask::default());
    let prompt = setup.engine.next_prompt().await;
    worker.ask(&Ask::default());
    let Said::Error { code: 621, message, .. } = worker.next_answer().await else { panic!("no refusal") };
    assert_eq!(message, "worker: request id is in use");
    prompt.answer_json(200, "{}").await;
    assert_eq!(worker.whole_answer().await.0, 200);
}

#[tokio::test]
async fn peers_of_other_capabilities_speak_version_2_which_knows_no_cancel() {
    for (protocol, capabilities) in [(2, None), (3, Some(Capabilities::OURS.to_wire() ^ 1 << 40))] {
        let mut setup = Setup::new().await;
        setup.proxy.capabilities = capabilities;
        setup.proxy.protocol = protocol;
        let _program = setup.start().await;
        let mut worker = setup.proxy.accept().await;
        worker.ask(&Ask::default());
        let prompt = setup.engine.next_prompt().await;
        worker.cancel(1);
        // Once this is refused, the cancel before it has been read.
        worker.ask(&Ask { id: 2, coefficient: 1, ..Ask::default() });
        let Said::Error { id: 2, .. } = worker.next_answer().await else { panic!("2 is refused") };
        prompt.answer_json(200, "{}").await;
        assert_eq!(worker.whole_answer().await.0, 200);
    }
}

/// Takes parts of request 1 until its window is used up. Returns how many bytes came.
async fn drain_window(worker: &mut Worker) -> usize {
    let Said::Head { .. } = worker.next_answer().await else { panic!("no head") };
    let (mut len, mut cost) = (0, 0);
    // The head took a little too, so that one part less than the window's worth has room.
    while cost + 2 * part_cost(PART_LEN_MAX) <= WINDOW {
        let Said::Part { id: 1, body, end: None } = worker.next_answer().await else { panic!("no part") };
        assert!(body.len() <= PART_LEN_MAX);
        len += body.len();
        cost += part_cost(body.len());
    }
    len
}

#[tokio::test]
async fn without_credit_an_engine_waits_and_its_neighbour_does_not() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    worker.ask(&Ask { id: 1, ..Ask::default() });
    let writer = setup.engine.next_prompt().await.answer(200, "text/event-stream");
    let whole = WINDOW as usize * 4;
    tokio::spawn(async move {
        for _ in 0..whole / PART_LEN_MAX {
            writer.write(&"x".repeat(PART_LEN_MAX)).await;
        }
    });
    let mut len = drain_window(&mut worker).await;
    // A whole neighbour passes while the first one stands still.
    worker.ask(&Ask { id: 2, ..Ask::default() });
    setup.engine.next_prompt().await.answer_json(200, "{}").await;
    let mut neighbour_is_over = false;
    while !neighbour_is_over {
        match worker.next_answer().await {
            // What was on its way within the window.
            Said::Part { id: 1, body, end: None } => len += body.len(),
            Said::Head { id: 2, end, .. } | Said::Part { id: 2, end, .. } => {
                neighbour_is_over = end.is_some()
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(len < WINDOW as usize);
    // With credit it goes on to its end.
    let mut ungranted = u32::try_from(len).unwrap();
    loop {
        if ungranted > 0 {
            worker.credit(1, std::mem::take(&mut ungranted));
        }
        let Said::Part { id: 1, body, end } = worker.next_answer().await else { panic!("no part") };
        len += body.len();
        ungranted += u32::try_from(body.len()).unwrap();
        if end.is_some() {
            break;
        }
    }
    assert_eq!(len, whole);
}

#[tokio::test]
async fn senseless_credit_ends_its_stream_alone() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    worker.ask(&Ask { id: 1, ..Ask::default() });
    let prompt = setup.engine.next_prompt().await;
    worker.ask(&Ask { id: 2, ..Ask::default() });
    let kept = setup.engine.next_prompt().await;
    worker.credit(9, 0);
    worker.credit(1, 0);
    prompt.caller_gone().await;
    let Said::Error { id: 1, code: 653, .. } = worker.next_answer().await else { panic!("1 ends") };
    kept.answer_json(200, "{}").await;
    assert_eq!(worker.whole_answer().await.0, 200);
}

const LONG_LEN: usize = 200_000;

/// A body that takes more than a window.
fn long_body() -> String {
    format!(r#"{{"model":"test/model","messages":[],"user":"{}"}}"#, "x".repeat(LONG_LEN))
}

#[tokio::test]
async fn a_query_in_parts_is_put_together_and_others_pass_between() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    let body = long_body();
    let mut rest = worker.begin(&Ask { id: 1, body: &body, ..Ask::default() }, PART_LEN_MAX, 0);
    for _ in 0..4 {
        worker.part(1, &rest.split_to(PART_LEN_MAX), false);
    }
    // A whole small request in between.
    worker.ask(&Ask { id: 2, ..Ask::default() });
    setup.engine.next_prompt().await.answer_json(200, "{}").await;
    let Said::Credit { id: 1, len } = worker.next_answer().await else { panic!("what was taken makes room") };
    assert!(len.cast_unsigned() >= transport::flow::WINDOW / 2);
    assert_eq!(worker.whole_answer().await.0, 200);
    while !rest.is_empty() {
        let part = rest.split_to(rest.len().min(PART_LEN_MAX));
        worker.part(1, &part, rest.is_empty());
    }
    let prompt = setup.engine.next_prompt().await;
    assert!(prompt.body == body);
    prompt.answer_json(200, "{}").await;
    loop {
        match worker.next_answer().await {
            Said::Credit { id: 1, .. } => {}
            Said::Head { id: 1, status: 200, .. } => break,
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[tokio::test]
async fn parts_that_break_the_rules_end_their_request_alone() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    let body = long_body();
    let ask = |id| Ask { id, body: &body, ..Ask::default() };
    // Too short, too long, and more than the window.
    worker.begin(&ask(1), PART_LEN_MAX, 0);
    worker.part(1, b"x", true);
    let Said::Error { id: 1, code: 621, .. } = worker.next_answer().await else { panic!("1 ends") };
    let rest = worker.begin(&ask(2), PART_LEN_MAX, -190_000 + i32::try_from(PART_LEN_MAX).unwrap());
    worker.part(2, &rest[..PART_LEN_MAX], true);
    let Said::Error { id: 2, code: 621, .. } = worker.next_answer().await else { panic!("2 ends") };
    let rest = worker.begin(&ask(3), PART_LEN_MAX, 0);
    worker.part(3, &rest[..120_000], false);
    let Said::Error { id: 3, code: 621, .. } = worker.next_answer().await else { panic!("3 ends") };
    // What was under way is passed over, and the places are free.
    worker.part(3, b"late", false);
    worker.ask(&Ask::default());
    setup.engine.next_prompt().await.answer_json(200, "{}").await;
    assert_eq!(worker.whole_answer().await.0, 200);
}

#[tokio::test]
async fn a_cancel_within_a_query_gives_the_place_back() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    let body = long_body();
    // There are two places.
    for id in 0..5 {
        worker.begin(&Ask { id, body: &body, ..Ask::default() }, PART_LEN_MAX, 0);
        worker.cancel(id);
        let Said::Error { code: 653, end, .. } = worker.next_answer().await else { panic!("it ends") };
        assert_eq!(end.tokens, [0; 5]);
    }
}

#[tokio::test]
async fn parts_of_no_request_and_senseless_lengths_end_the_link() {
    let body = long_body();
    let unknown = |worker: &Worker| worker.part(9, b"x", false);
    let shorter_than_its_start = |worker: &Worker| {
        worker.begin(&Ask { body: &body, ..Ask::default() }, PART_LEN_MAX, -190_000);
    };
    let misdeeds: [&dyn Fn(&Worker); 2] = [&unknown, &shorter_than_its_start];
    for misdeed in misdeeds {
        let mut setup = Setup::new().await;
        let (_program, mut worker) = linked(&mut setup).await;
        misdeed(&worker);
        assert_eq!(worker.next_answer().await, Said::Closed);
    }
}

#[tokio::test]
async fn a_long_answer_says_now_and_then_what_it_costs_so_far() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    worker.ask(&Ask::default());
    let writer = setup.engine.next_prompt().await.answer(200, "text/event-stream");
    let Said::Head { .. } = worker.next_answer().await else { panic!("no head") };
    let mut told = Vec::new();
    while told.len() < 3 {
        writer.write("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"}}]}\n\n").await;
        // Each event must arrive before the next one is written, so that events are parts.
        loop {
            match worker.next().await {
                Said::Part { end: None, .. } => break,
                Said::Usage { id: 1, tokens } => told.push(tokens[4]),
                Said::PaymentPoll | Said::Disabled(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    assert!(told.is_sorted() && told[0] > 0 && told[0] < told[2], "{told:?}");
}

#[tokio::test]
async fn a_proxy_that_goes_away_is_left_once_its_requests_have_ended() {
    let mut setup = Setup::new().await;
    let (_program, mut worker) = linked(&mut setup).await;
    worker.ask(&Ask::default());
    let prompt = setup.engine.next_prompt().await;
    worker.link.try_send(wire::encode(&wire::peer::GoingAway {})).unwrap();
    prompt.answer_json(200, "{}").await;
    assert_eq!(worker.whole_answer().await.0, 200);
    assert_eq!(worker.next_answer().await, Said::Closed);
    // It is the only proxy there is, so the worker comes back to it.
    let _again = setup.proxy.accept().await;
}
