use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::routing::{get, post};
use http::StatusCode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::{AdminConfig, Token, guard};

async fn start(router: Router) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(serve(listener, router, stop.clone()));
    (address, stop, task)
}

async fn ask(address: SocketAddr, method: &str, path: &str, more: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

fn admin(missing: &'static [&'static str]) -> Router {
    let mut registry = Registry::default();
    let requests: Counter = Counter::default();
    requests.inc_by(3);
    registry.register("cocoon_requests", "Requests served", requests);
    crate::router(AdminConfig {
        missing: Box::new(|| missing.iter().map(|&text| text.to_owned()).collect()),
        stats: Box::new(|| serde_json::json!({ "status": { "enabled": true } })),
        registry,
    })
}

#[tokio::test]
async fn the_pages_answer() {
    let (address, _stop, _task) = start(admin(&[])).await;
    assert_eq!(ask(address, "GET", "/healthz", "").await.0, 200);
    let (status, ready) = ask(address, "GET", "/readyz", "").await;
    assert_eq!(status, 200);
    assert!(ready.ends_with(r#"{"missing":[],"ready":true}"#), "{ready}");
    let (status, stats) = ask(address, "GET", "/jsonstats", "").await;
    assert_eq!(status, 200);
    assert!(
        stats.contains("content-type: application/json") && stats.ends_with(r#"{"status":{"enabled":true}}"#)
    );
    let (status, metrics) = ask(address, "GET", "/metrics", "").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("cocoon_requests_total 3\n") && metrics.ends_with("# EOF\n"), "{metrics}");
}

#[tokio::test]
async fn a_role_that_is_not_ready_says_what_is_missing() {
    let (address, _stop, _task) = start(admin(&["no proxy is connected"])).await;
    let (status, ready) = ask(address, "GET", "/readyz", "").await;
    assert_eq!(status, 503);
    assert!(ready.ends_with(r#"{"missing":["no proxy is connected"],"ready":false}"#), "{ready}");
    assert_eq!(ask(address, "GET", "/healthz", "").await.0, 200, "alive all the same");
}

#[tokio::test]
async fn actions_are_posts_with_the_token() {
    let text = "0123456789abcdef0123456789abcdef";
    let token = Token::new(text);
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let action = move || async move {
        counted.fetch_add(1, Ordering::SeqCst);
    };
    // Even a careless route does not run without POST and token.
    let careless = get(|| async { "changed" });
    let actions = Router::new().route("/request/disable", post(action)).route("/request/careless", careless);
    let (address, _stop, _task) = start(admin(&[]).merge(guard(token, actions))).await;

    let bearer = |text: &str| format!("content-length: 0\r\nauthorization: Bearer {text}\r\n");
    let none = "content-length: 0\r\n";
    for refused in [none.to_owned(), bearer("wrong"), bearer(""), bearer(&text[1..])] {
        let (status, answer) = ask(address, "POST", "/request/disable", &refused).await;
        assert_eq!(status, 401, "{answer}");
        assert!(answer.contains("www-authenticate: Bearer"));
    }
    for method in ["GET", "PUT", "DELETE"] {
        assert_eq!(ask(address, method, "/request/disable", &bearer(text)).await.0, 405);
        assert_eq!(ask(address, method, "/request/disable", none).await.0, 405);
    }
    assert_eq!(ask(address, "GET", "/request/careless", &bearer(text)).await.0, 405);
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    assert_eq!(ask(address, "POST", "/request/disable", &bearer(text)).await.0, 200);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(ask(address, "GET", "/healthz", "").await.0, 200, "pages stay open");
}

#[tokio::test]
async fn a_stop_lets_answers_finish() {
    let (started, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (started, release) = (Arc::clone(&started), Arc::clone(&release));
        move || async move {
            started.notify_one();
            release.notified().await;
            "done"
        }
    };
    let (address, stop, task) = start(Router::new().route("/slow", get(slow))).await;
    let asking = tokio::spawn(async move { ask(address, "GET", "/slow", "").await });
    started.notified().await;
    stop.cancel();
    release.notify_one();
    let (status, answer) = asking.await.unwrap();
    assert!(status == 200 && answer.ends_with("done"));
    task.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_ever() {
    let started = Arc::new(Notify::new());
    let hang = {
        let started = Arc::clone(&started);
        move || async move {
            started.notify_one();
            std::future::pending::<()>().await
        }
    };
    let (address, stop, task) = start(Router::new().route("/hang", get(hang))).await;
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET /hang HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    started.notified().await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!(socket.read(&mut [0; 16]).await.unwrap(), 0, "cut");
}

/// Sends raw text and returns all that comes back.
async fn raw(address: SocketAddr, text: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = socket.split();
    let mut answer = Vec::new();
    let (_, _) = tokio::join!(writer.write_all(text.as_bytes()), reader.read_to_end(&mut answer));
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn what_is_no_http_is_refused_in_words() {
    let empty = || async { (StatusCode::BAD_REQUEST, "") };
    let (address, _stop, _task) = start(admin(&[]).route("/empty", get(empty))).await;
    for (text, status, code) in [
        ("nonsense\r\n\r\n".to_owned(), 400, "malformed_http"),
        (
            format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(1000)),
            431,
            "head_too_large",
        ),
    ] {
        let answer = raw(address, &text).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"]["code"], code);
        assert!(head.contains(&format!("content-length: {}", body.to_string().len())), "{head}");
    }
    // An answer of the routes stays as it is, an empty one too.
    let (status, answer) = ask(address, "GET", "/empty", "").await;
    assert!(status == 400 && answer.ends_with("\r\n\r\n"), "{answer}");
    let second = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nnonsense\r\n\r\n";
    let answers = raw(address, second).await;
    assert!(answers.starts_with("HTTP/1.1 200 ") && answers.contains("HTTP/1.1 400 "), "{answers}");
}

#[tokio::test]
async fn connections_above_the_limit_hear_so_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_at_most(1, listener, admin(&[]), CancellationToken::new()));
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(first.read(&mut [0; 1024]).await.unwrap() > 0, "it is served, and stays open");
    let refused = raw(address, "").await;
    let (head, body) = refused.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: 1"), "{head}");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{refused}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["code"], "overloaded");
    drop(first);
    while !raw(address, "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .contains(" 200 ")
    {}
}

#[tokio::test]
async fn a_page_that_points_its_name_here_reads_nothing() {
    async fn ask_as(address: SocketAddr, host: &str) -> String {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let head = format!("GET /jsonstats HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }
    let (address, _stop, _task) = start(admin(&[])).await;
    for host in [
        "127.0.0.1",
        "127.0.0.1:10000",
        "[::1]:10000",
        "localhost:10000",
        "LOCALHOST.",
        "cocoon.localhost",
        "host.docker.internal:1",
        "worker-7:12000",
    ] {
        assert!(ask_as(address, host).await.starts_with("HTTP/1.1 200 "), "{host}");
    }
    for host in
        ["evil.example", "evil.example:10000", "127.0.0.1.evil.example", "evil.example.", "localhost.com"]
    {
        let refused = ask_as(address, host).await;
        assert!(refused.starts_with("HTTP/1.1 421 ") && !refused.contains("enabled"), "{host}");
    }
}

#[tokio::test]
async fn a_request_with_two_readings_is_none_or_the_last() {
    let (address, _stop, _task) = start(admin(&[]).route("/post", post(async || "done"))).await;
    let next = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let plain =
        raw(address, &format!("POST /post HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n{next}")).await;
    assert_eq!(plain.matches("HTTP/1.1 200 ").count(), 2, "{plain}");
    for framing in [
        "transfer-encoding: chunked\r\n",
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
    ] {
        let text = format!("POST /post HTTP/1.1\r\nhost: x\r\n{framing}\r\n0\r\n\r\n{next}");
        let answers = raw(address, &text).await;
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
        assert!(answers.starts_with("HTTP/1.1 200 ") && answers.contains("connection: close"), "{answers}");
    }
}

#[tokio::test]
async fn a_request_names_its_server_once() {
    let (address, _stop, _task) = start(admin(&[])).await;
    let asked = async |target: &str, headers: &str| {
        raw(address, &format!("GET {target} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n")).await
    };
    for headers in ["", "host: x\r\nhost: x\r\n", "host: x\r\nhost: evil.example\r\n"] {
        let refused = asked("/healthz", headers).await;
        assert!(refused.starts_with("HTTP/1.1 400 ") && refused.contains("malformed_http"), "{refused}");
    }
    assert!(asked("http://localhost:1/healthz", "host: x\r\n").await.starts_with("HTTP/1.1 200 "));
    for target in ["http://evil.example/healthz", "http://localhost@evil.example/healthz"] {
        assert!(asked(target, "host: localhost\r\n").await.starts_with("HTTP/1.1 421 "), "{target}");
    }
    let old = raw(address, "GET /healthz HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200 "), "HTTP/1.0 has no names: {old}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_wait_longer_than_a_head_may_take() {
    let (address, _stop, _task) = start(admin(&[])).await;
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let begin = tokio::time::Instant::now();
    let mut socket = TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        socket.write_all(request).await.unwrap();
        assert!(socket.read(&mut [0; 1024]).await.unwrap() > 0);
        tokio::time::sleep(Duration::from_secs(50)).await;
    }
    socket.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    let dripped = tokio::time::Instant::now();
    let mut rest = Vec::new();
    let _reset = socket.read_to_end(&mut rest).await;
    let (took, waited) = (dripped.elapsed().as_secs(), begin.elapsed().as_secs());
    assert!((9..=11).contains(&took), "the head took {took} s, {waited} s after the connection");

    let mut silent = TcpStream::connect(address).await.unwrap();
    let begin = tokio::time::Instant::now();
    let _reset = silent.read_to_end(&mut rest).await;
    assert!((59..=61).contains(&begin.elapsed().as_secs()));
}
