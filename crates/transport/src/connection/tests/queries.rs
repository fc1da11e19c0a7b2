//! Queries and their outcomes.

use super::*;

/// Asks from the client; returns the server's id of the query.
fn ask(pair: &mut Pair, query: u32) -> i64 {
    pair.client.query(b"question", pair.now + seconds(30), query);
    pair.exchange();
    match pair.server.poll_event() {
        Some(ConnectionEvent::Query { id, message }) => {
            assert_eq!(message, "question");
            id
        }
        other => panic!("{other:?}"),
    }
}

/// How the client's only ended query ended.
fn outcome(pair: &mut Pair) -> (u32, Result<Bytes, QueryError>) {
    match events(&mut pair.client).as_mut_slice() {
        [ConnectionEvent::QueryEnded { query, result }] => (*query, result.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn queries_are_answered_in_any_order() {
    let mut pair = Pair::ready();
    let (first, second) = (ask(&mut pair, 1), ask(&mut pair, 2));
    pair.server.answer(second, b"second");
    pair.exchange();
    assert_eq!(outcome(&mut pair), (2, Ok(Bytes::from("second"))));
    pair.server.answer(first, b"first");
    pair.exchange();
    assert_eq!(outcome(&mut pair), (1, Ok(Bytes::from("first"))));
    assert!(pair.client.query_deadlines.is_empty());
}

#[test]
fn a_refusal_carries_code_and_message() {
    let mut pair = Pair::ready();
    let id = ask(&mut pair, 1);
    pair.server.refuse(id, StatusCode::NOT_READY, "not yet");
    pair.exchange();
    let refused = QueryError::Refused { code: StatusCode::NOT_READY, message: "not yet".into() };
    assert_eq!(outcome(&mut pair), (1, Err(refused)));
}

#[test]
fn messages_of_refusals_are_cut_at_both_ends() {
    let long = "é".repeat(1000);
    let mut pair = Pair::ready();
    let id = ask(&mut pair, 1);
    pair.server.refuse(id, StatusCode::ERROR, &long);
    assert!(sent(&mut pair.server).len() < 1100);

    // That refusal is lost on the way, and the next frame has its number.
    let id = *pair.client.queries.keys().next().unwrap();
    pair.server.writer = FrameWriter::new();
    pair.server.write(&Packet::Connected { id: 0 });
    sent(&mut pair.server);
    pair.server_says(&Packet::QueryError { id, code: -5, message: long.as_str().into() });
    match outcome(&mut pair) {
        (1, Err(QueryError::Refused { code, message })) => {
            assert_eq!(code.code(), -5);
            assert_eq!(message, "é".repeat(512));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_query_is_answered_once() {
    let mut pair = Pair::ready();
    let id = ask(&mut pair, 1);
    pair.server.answer(id, b"yes");
    pair.server.answer(id, b"no");
    pair.server.refuse(id, StatusCode::ERROR, "no");
    pair.server.answer(id.wrapping_add(1), b"no");
    pair.exchange();
    assert_eq!(outcome(&mut pair), (1, Ok(Bytes::from("yes"))));
}

#[test]
fn an_answer_above_the_limit_becomes_a_refusal() {
    let mut pair = Pair::ready();
    let id = ask(&mut pair, 1);
    pair.server.answer(id, &vec![0; MESSAGE_LEN_MAX + 1]);
    pair.exchange();
    assert!(matches!(outcome(&mut pair), (1, Err(QueryError::Refused { .. }))));
}

#[test]
fn unknown_answers_are_ignored() {
    let mut pair = Pair::ready();
    ask(&mut pair, 1);
    pair.server_says(&Packet::QueryAnswer { id: 0, data: b"?" });
    pair.server_says(&Packet::QueryError { id: 0, code: 0, message: "?".into() });
    assert!(events(&mut pair.client).is_empty());
}

#[test]
fn a_query_times_out_at_its_deadline_and_a_late_answer_is_ignored() {
    let mut pair = Pair::ready();
    pair.client.query(b"slow", pair.now + seconds(5), 1);
    pair.client.query(b"slower", pair.now + seconds(6), 2);
    pair.exchange();
    assert_eq!(pair.client.poll_timeout(), Some(pair.now + seconds(5)));
    pair.client.handle_timeout(pair.now + seconds(5) - Duration::from_nanos(1));
    assert!(events(&mut pair.client).is_empty());
    pair.client.handle_timeout(pair.now + seconds(5));
    assert_eq!(outcome(&mut pair), (1, Err(QueryError::Timeout)));
    for event in events(&mut pair.server) {
        if let ConnectionEvent::Query { id, .. } = event {
            pair.server.answer(id, b"late");
        }
    }
    pair.exchange();
    assert_eq!(outcome(&mut pair), (2, Ok(Bytes::from("late"))));
}

#[test]
fn open_queries_fail_at_once_when_the_connection_closes() {
    let mut pair = Pair::ready();
    ask(&mut pair, 1);
    ask(&mut pair, 2);
    pair.client.close(CloseReason::Peer);
    pair.client.close(CloseReason::Local("again"));
    let mut ended = events(&mut pair.client);
    assert!(matches!(ended.pop(), Some(ConnectionEvent::Closed(CloseReason::Peer))));
    let mut failed: Vec<u32> = ended
        .into_iter()
        .map(|event| match event {
            ConnectionEvent::QueryEnded { query, result: Err(QueryError::Closed) } => query,
            other => panic!("{other:?}"),
        })
        .collect();
    failed.sort_unstable();
    assert_eq!(failed, [1, 2]);
    pair.client.handle_timeout(pair.now + seconds(1000));
    assert!(events(&mut pair.client).is_empty());
}

#[test]
fn too_many_and_doubled_queries_close() {
    let mut pair = Pair::ready();
    for id in 0..=i64::try_from(QUERIES_OPEN_MAX).unwrap() {
        pair.client_says(&Packet::Query { id, data: b"?" });
    }
    assert_eq!(end(&mut pair.server), CloseReason::TooManyQueries { max: QUERIES_OPEN_MAX });

    let mut pair = Pair::ready();
    pair.client_says(&Packet::Query { id: 7, data: b"?" });
    pair.server.answer(7, b"!");
    pair.client_says(&Packet::Query { id: 7, data: b"?" });
    assert!(pair.server.is_ready(), "an answered id is free again");
    pair.client_says(&Packet::Query { id: 7, data: b"?" });
    assert_eq!(end(&mut pair.server), CloseReason::DuplicateQuery);
}
