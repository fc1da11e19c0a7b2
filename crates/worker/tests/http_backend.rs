//! The HTTP backend against servers on real sockets.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use bytes::Bytes;
use cocoon_worker::backend::{AnswerBody, Backend, EngineError, EngineRequest, HttpBackend, ProbeError};
use http::{HeaderMap, StatusCode};
use support::engine::ScriptedEngine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

fn backend(url: &str) -> Backend {
    Backend::Http(HttpBackend::new(url.parse().unwrap()))
}

fn prompt() -> EngineRequest {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Bearer of the application".parse().unwrap());
    EngineRequest { path: "/v1/chat/completions", headers, body: Bytes::from_static(b"{\"model\":\"m\"}") }
}

async fn text(body: &mut AnswerBody) -> String {
    let mut whole = String::new();
    while let Some(piece) = body.next().await {
        whole.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
    }
    whole
}

#[tokio::test]
async fn a_prompt_arrives_whole_and_its_answer_in_pieces_as_they_are_written() {
    let mut engine = ScriptedEngine::start().await;
    let backend = backend(&engine.url());
    let (answer, writer) = tokio::join!(backend.run(prompt()), async {
        let prompt = engine.next_prompt().await;
        assert_eq!(prompt.path, "/v1/chat/completions");
        assert_eq!(prompt.body, "{\"model\":\"m\"}");
        assert_eq!(prompt.headers["content-length"], "13");
        assert_eq!(prompt.headers["host"], engine.address.to_string());
        assert_eq!(prompt.headers["content-type"], "application/json");
        assert!(!prompt.headers.contains_key("authorization"));
        prompt.answer(200, "text/event-stream")
    });
    let mut answer = answer.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    assert!(!answer.headers.contains_key("transfer-encoding"));
    // The second piece is written only after the first was read, so nothing may wait for the end.
    for piece in ["data: {\"a\"", ":1}\n\nda", "ta: [DONE]\n\n"] {
        writer.write(piece).await;
        assert_eq!(answer.body.next().await.unwrap().unwrap(), piece);
    }
    drop(writer);
    assert!(answer.body.next().await.is_none());
}

#[tokio::test]
async fn a_refusal_of_the_engine_is_an_answer() {
    let mut engine = ScriptedEngine::start().await;
    let backend = backend(&engine.url());
    let (answer, ()) = tokio::join!(backend.run(prompt()), async {
        engine.next_prompt().await.answer_json(400, "{\"error\":{}}").await;
    });
    let mut answer = answer.unwrap();
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(text(&mut answer.body).await, "{\"error\":{}}");
}

#[tokio::test]
async fn one_connection_serves_prompts_in_turn() {
    let mut engine = ScriptedEngine::start().await;
    let backend = backend(&engine.url());
    for _ in 0..20 {
        let (answer, ()) = tokio::join!(backend.run(prompt()), async {
            engine.next_prompt().await.answer_json(200, "{}").await;
        });
        assert_eq!(text(&mut answer.unwrap().body).await, "{}");
    }
    // A second one may open while the first is being handed back.
    assert!(engine.connection_count() <= 2, "{} connections", engine.connection_count());
}

#[tokio::test]
async fn the_engine_notices_a_caller_that_goes_away_before_the_head() {
    let mut engine = ScriptedEngine::start().await;
    let backend = backend(&engine.url());
    let prompt = tokio::select! {
        _ = backend.run(prompt()) => unreachable!("nobody has answered"),
        prompt = engine.next_prompt() => prompt,
    };
    // The future was dropped when the prompt arrived.
    prompt.caller_gone().await;
}

#[tokio::test]
async fn the_engine_notices_a_caller_that_goes_away_within_the_body() {
    let mut engine = ScriptedEngine::start().await;
    let backend = backend(&engine.url());
    let (answer, writer) = tokio::join!(backend.run(prompt()), async {
        engine.next_prompt().await.answer(200, "text/event-stream")
    });
    let mut answer = answer.unwrap();
    writer.write("data: {}\n\n").await;
    answer.body.next().await.unwrap().unwrap();
    drop(answer);
    writer.caller_gone().await;
}

/// Reads one request, head and body.
async fn read_request(stream: &mut TcpStream) -> usize {
    let mut received = Vec::new();
    while !received.ends_with(b"{\"model\":\"m\"}") {
        assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0, "the caller closed");
    }
    received.len()
}

#[tokio::test]
async fn a_connection_that_went_stale_while_idle_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = backend(&format!("http://{}", listener.local_addr().unwrap()));
    let serve = async {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
            // Closed by the engine although it promised to keep it open.
        }
    };
    let ask = async {
        for _ in 0..2 {
            assert_eq!(text(&mut backend.run(prompt()).await.unwrap().body).await, "{}");
        }
    };
    tokio::join!(serve, ask);
}

#[tokio::test]
async fn a_prompt_that_was_sent_is_never_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = backend(&format!("http://{}", listener.local_addr().unwrap()));
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
        // The second prompt comes over the kept connection, is read, and gets no answer.
        read_request(&mut stream).await;
        drop(stream);
    };
    let ask = async {
        assert_eq!(text(&mut backend.run(prompt()).await.unwrap().body).await, "{}");
        assert!(matches!(backend.run(prompt()).await, Err(EngineError::NoAnswer { .. })));
    };
    tokio::join!(serve, ask);
    let again = std::future::poll_fn(|cx| std::task::Poll::Ready(listener.poll_accept(cx).is_ready())).await;
    assert!(!again, "the prompt was sent twice");
}

#[tokio::test]
async fn an_engine_that_is_not_there_or_breaks_off_is_told_apart() {
    // Nobody listens here, and nobody can begin to while the port is held.
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let unused = held.local_addr().unwrap();
    let refused = backend(&format!("http://{unused}")).run(prompt()).await;
    assert!(matches!(refused, Err(EngineError::Unreachable { .. })));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = backend(&format!("http://{}", listener.local_addr().unwrap()));
    let (answer, ()) = tokio::join!(backend.run(prompt()), async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf").await.unwrap();
    });
    let mut answer = answer.unwrap();
    assert_eq!(answer.body.next().await.unwrap().unwrap(), "half");
    assert!(matches!(answer.body.next().await, Some(Err(EngineError::CutShort { .. }))));
}

#[tokio::test]
async fn the_probe_lists_models_and_tells_a_loading_engine_from_one_that_is_up() {
    let engine = ScriptedEngine::start().await;
    let backend = HttpBackend::new(engine.url().parse().unwrap());
    assert_eq!(backend.models().await.unwrap(), ["test/model"]);
    engine.set_status(StatusCode::SERVICE_UNAVAILABLE);
    let refused = backend.models().await;
    assert!(matches!(refused, Err(ProbeError::Status(StatusCode::SERVICE_UNAVAILABLE))));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_never_answered_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = HttpBackend::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
    assert!(matches!(backend.models().await, Err(ProbeError::Timeout)));
}
