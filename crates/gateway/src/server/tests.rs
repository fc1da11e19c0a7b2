use std::sync::Mutex;

use futures_util::{StreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::RequestDefaults;

/// What the scripted backend does with every request.
enum Script {
    Full(&'static str),
    Events(Vec<Result<&'static str, ErrorKind>>),
    Json(Vec<Result<String, ErrorKind>>),
    Fail(ErrorKind),
    /// An answer that would open itself to web pages.
    BrowserHeaders,
    /// Waits for ever; the sender notices when it is dropped.
    Hang(Mutex<Option<oneshot::Sender<()>>>),
    /// One event, then waits for ever.
    HangMidway(Mutex<Option<oneshot::Sender<()>>>),
}

struct Scripted {
    script: Script,
    seen: mpsc::UnboundedSender<(RequestId, Bytes)>,
}

impl Inference for Scripted {
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, ApiError>> {
        let worker = ModelWorker { coefficient: 1500, running_requests: 0, max_running_requests: 60 };
        let models = vec![Model { id: "Qwen/Qwen3-8B".to_owned(), workers: vec![worker] }];
        Box::pin(async { Ok(models) })
    }

    fn run(&self, mut request: InferenceRequest) -> BoxFuture<'_, Result<InferenceResponse, ApiError>> {
        let body = request.body.take_for_wire(RequestDefaults { max_tokens: 16 });
        let _ = self.seen.send((request.id, body));
        let head = |content_type: &'static str, body| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
            Ok(InferenceResponse { status: StatusCode::OK, headers, body })
        };
        Box::pin(async move {
            match &self.script {
                Script::Full(text) => {
                    head("application/json", AnswerBody::Full(Bytes::from_static(text.as_bytes())))
                }
                Script::Events(events) => {
                    let events: Vec<_> =
                        events.iter().map(|event| event.map(Bytes::from_static_str).map_err(fail)).collect();
                    head("text/event-stream", AnswerBody::Stream(stream::iter(events).boxed()))
                }
                Script::Json(pieces) => {
                    let pieces: Vec<_> =
                        pieces.iter().map(|piece| piece.clone().map(Bytes::from).map_err(fail)).collect();
                    head("application/json", AnswerBody::Stream(stream::iter(pieces).boxed()))
                }
                Script::Fail(kind) => Err(fail(*kind)),
                Script::BrowserHeaders => {
                    let mut answer = head("application/json", AnswerBody::Full(Bytes::from_static(b"{}")))?;
                    for name in ["access-control-allow-origin", "set-cookie", "x-kept"] {
                        answer.headers.insert(name, HeaderValue::from_static("1"));
                    }
                    Ok(answer)
                }
                Script::Hang(dropped) => {
                    let _held = dropped.lock().unwrap().take();
                    std::future::pending().await
                }
                Script::HangMidway(dropped) => {
                    let held = dropped.lock().unwrap().take();
                    let first = stream::iter([Ok(Bytes::from_static(b"data: 1\n\n"))]);
                    let rest = stream::once(async move {
                        let _held = held;
                        std::future::pending().await
                    });
                    head("text/event-stream", AnswerBody::Stream(first.chain(rest).boxed()))
                }
            }
        })
    }
}

trait FromStaticStr {
    fn from_static_str(text: &'static str) -> Self;
}

impl FromStaticStr for Bytes {
    fn from_static_str(text: &'static str) -> Self {
        Self::from_static(text.as_bytes())
    }
}

fn fail(kind: ErrorKind) -> ApiError {
    ApiError::new(kind, "scripted")
}

struct Server {
    address: std::net::SocketAddr,
    seen: mpsc::UnboundedReceiver<(RequestId, Bytes)>,
}

async fn serve(script: Script, config: ServerConfig) -> Server {
    let (sender, seen) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let api = Api::new(Arc::new(Scripted { script, seen: sender }), config, Router::new());
    let routes = Router::new().fallback(move |request: Request| {
        let api = api.clone();
        async move { api.answer(request).await }
    });
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    Server { address, seen }
}

impl Server {
    /// Sends raw text, returns all that comes back until the connection closes.
    async fn raw(&self, text: &[u8]) -> String {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let (mut reader, mut writer) = socket.split();
        let mut answer = Vec::new();
        // Both at once: the server may answer before it has read all.
        let (_, _) = tokio::join!(writer.write_all(text), reader.read_to_end(&mut answer));
        String::from_utf8(answer).unwrap()
    }

    async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.send_with(method, path, "", body).await
    }

    /// As [`Self::send`] with more header lines, each with its line end.
    async fn send_with(&self, method: &str, path: &str, more: &str, body: &str) -> Answer {
        let len = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len}\r\n{more}\r\n"
        );
        Answer::read(&self.raw(format!("{head}{body}").as_bytes()).await)
    }

    async fn chat(&self, body: &str) -> Answer {
        self.send("POST", "/v1/chat/completions", body).await
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {:?}", self.body))
    }

    fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }
}

const CHAT: &str = r#"{"model":"m","timeout":5,"messages":[]}"#;

#[tokio::test]
async fn a_complete_answer_carries_the_request_id_that_travelled() {
    let mut server = serve(Script::Full("{\"ok\":1}"), ServerConfig::default()).await;
    let answer = server.chat(CHAT).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"ok\":1}"));
    assert!(
        answer.head.contains("content-length: 8") && answer.head.contains("content-type: application/json")
    );
    let (id, body) = server.seen.recv().await.unwrap();
    assert!(answer.head.contains(&format!("x-request-id: {id}")));
    assert_eq!(body, r#"{"model":"m","messages":[],"max_tokens":16}"#);
    assert!(!answer.head.contains("access-control"));
}

#[tokio::test]
async fn events_pass_and_end() {
    let server =
        serve(Script::Events(vec![Ok("data: 1\n\n"), Ok("data: [DONE]\n\n")]), ServerConfig::default()).await;
    let answer = server.chat(CHAT).await;
    assert!(answer.head.contains("transfer-encoding: chunked"));
    assert_eq!(answer.body, "9\r\ndata: 1\n\n\r\nE\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
}

#[tokio::test]
async fn a_stream_that_breaks_ends_with_an_error_event_and_no_end_of_body() {
    let script = Script::Events(vec![Ok("data: 1\n\n"), Err(ErrorKind::WorkerLost)]);
    let answer = serve(script, ServerConfig::default()).await.chat(CHAT).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("data: {\"error\":{"), "{}", answer.body);
    assert!(answer.body.contains("\"code\":\"worker_lost\""));
    assert!(!answer.body.ends_with("0\r\n\r\n"), "a reader would take this for complete");
}

#[tokio::test]
async fn a_json_answer_that_breaks_before_its_end_gets_an_error_status() {
    let script = Script::Json(vec![Ok("{\"a\":".to_owned()), Err(ErrorKind::WorkerLost)]);
    let answer = serve(script, ServerConfig::default()).await.chat(CHAT).await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "worker_lost"));

    let script = Script::Json(vec![Ok("{\"a\":".to_owned()), Ok("1}".to_owned())]);
    let answer = serve(script, ServerConfig::default()).await.chat(CHAT).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"a\":1}"));
    assert!(answer.head.contains("content-length: 7"));
}

#[tokio::test]
async fn a_large_json_answer_that_breaks_is_cut() {
    let large = "x".repeat(2 * 1024 * 1024);
    let script = Script::Json(vec![Ok(large.clone()), Err(ErrorKind::WorkerLost)]);
    let answer = serve(script, ServerConfig::default()).await.chat(CHAT).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.body.ends_with("0\r\n\r\n"));
    let script = Script::Json(vec![Ok(large), Ok("y".to_owned())]);
    let answer = serve(script, ServerConfig::default()).await.chat(CHAT).await;
    assert!(answer.body.ends_with("1\r\ny\r\n0\r\n\r\n"));
}

#[tokio::test]
async fn every_failure_ends_with_its_status_and_error_object() {
    for row in crate::ERRORS {
        let answer = serve(Script::Fail(row.kind), ServerConfig::default()).await.chat(CHAT).await;
        assert_eq!((answer.status, answer.code().as_str()), (row.status, row.code));
        assert!(answer.head.contains("x-request-id: "));
    }
}

#[tokio::test]
async fn requests_that_are_none_are_refused_by_name() {
    let server = serve(Script::Full("{}"), ServerConfig::default()).await;
    let refused = async |method: &str, path: &str, body: &str| {
        let answer = server.send(method, path, body).await;
        assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
        assert!(answer.head.contains("x-request-id: "));
        (answer.status, answer.code())
    };
    let chat = "/v1/chat/completions";
    assert_eq!(refused("POST", chat, "nonsense").await, (400, "invalid_json".to_owned()));
    assert_eq!(refused("POST", chat, "").await, (400, "invalid_json".to_owned()));
    assert_eq!(refused("POST", chat, "{}").await, (400, "missing_required_parameter".to_owned()));
    assert_eq!(refused("POST", chat, r#"{"model":1}"#).await, (400, "invalid_value".to_owned()));
    assert_eq!(refused("POST", "/v1/embeddings", CHAT).await, (404, "unknown_url".to_owned()));
    assert_eq!(refused("GET", "/", "").await, (404, "unknown_url".to_owned()));
    assert_eq!(refused("GET", chat, "").await, (405, "method_not_allowed".to_owned()));
    assert_eq!(refused("DELETE", "/v1/models", "").await, (405, "method_not_allowed".to_owned()));
}

#[tokio::test]
async fn models_are_listed_in_the_shape_of_the_official_sdks() {
    let server = serve(Script::Full("{}"), ServerConfig::default()).await;
    let list = server.send("GET", "/v1/models", "").await;
    assert!(list.head.contains("content-type: application/json"));
    let model = json!({
        "id": "Qwen/Qwen3-8B", "object": "model", "created": 0, "owned_by": "cocoon",
        "workers": [{"coefficient": 1500, "running_requests": 0, "max_running_requests": 60}],
    });
    assert_eq!(list.json(), json!({"object": "list", "data": [model]}));
    for path in ["/v1/models/Qwen/Qwen3-8B", "/v1/models/Qwen%2FQwen3-8B"] {
        assert_eq!(server.send("GET", path, "").await.json(), model);
    }
    let unknown = server.send("GET", "/v1/models/no/such", "").await;
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "model_not_found"));
    let no_text = server.send("GET", "/v1/models/%ff", "").await;
    assert_eq!((no_text.status, no_text.code().as_str()), (404, "model_not_found"));
}

#[tokio::test]
async fn bodies_have_a_limit_and_the_refusal_arrives() {
    let config = ServerConfig { body_len_max: 100_000, ..ServerConfig::default() };
    let server = serve(Script::Full("{}"), config).await;
    let body = |len: usize| format!("{{\"model\":\"m\",\"x\":\"{}\"}}", "a".repeat(len - 20));
    assert_eq!(server.chat(&body(100_000)).await.status, 200);
    let refused = server.chat(&body(100_001)).await;
    assert_eq!((refused.status, refused.code().as_str()), (413, "body_too_large"));
    let refused = server.chat(&body(390_000)).await;
    assert_eq!(refused.status, 413, "read to its end, so that the refusal is seen");
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 999999\r\n\r\n";
    assert_eq!(Answer::read(&server.raw(head.as_bytes()).await).status, 413, "refused before it is sent");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_is_given_up() {
    let server = serve(Script::Full("{}"), ServerConfig::default()).await;
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 99\r\n\r\n{";
    let answer = Answer::read(&server.raw(head.as_bytes()).await);
    assert_eq!((answer.status, answer.code().as_str()), (408, "body_incomplete"));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_is_given_up_sooner_than_a_slow_one() {
    // Sends this many bytes a second, and says after how many seconds that was enough.
    async fn sending(rate: usize) -> u64 {
        let server = serve(Script::Full("{}"), ServerConfig::default()).await;
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = socket.split();
        let begin = tokio::time::Instant::now();
        let drip = async {
            while writer.write_all(&vec![b' '; rate]).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            std::future::pending().await
        };
        let mut status = [0; 12];
        tokio::select! {
            read = reader.read_exact(&mut status) => drop(read.unwrap()),
            () = drip => {}
        }
        assert_eq!(&status, b"HTTP/1.1 408");
        begin.elapsed().as_secs()
    }
    assert!((9..=11).contains(&sending(1).await));
    // Half of the least rate: what came in 20 s is enough for 20 s.
    assert!((19..=21).contains(&sending(4096).await));
    assert!((59..=61).contains(&sending(16 * 1024).await));
}

#[tokio::test]
async fn an_application_that_leaves_takes_its_request_along() {
    let (sender, dropped) = oneshot::channel();
    let mut server = serve(Script::Hang(Mutex::new(Some(sender))), ServerConfig::default()).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{CHAT}",
        CHAT.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    server.seen.recv().await.unwrap();
    drop(socket);
    assert!(dropped.await.is_err(), "dropped without a word");

    let (sender, dropped) = oneshot::channel();
    let server = serve(Script::HangMidway(Mutex::new(Some(sender))), ServerConfig::default()).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"data: 1\n\n\r\n") {
        assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0);
    }
    drop(socket);
    assert!(dropped.await.is_err());
}

#[tokio::test]
async fn more_requests_at_once_than_configured_are_refused() {
    let (sender, _dropped) = oneshot::channel();
    let config = ServerConfig { requests_max: 1, ..ServerConfig::default() };
    let mut server = serve(Script::Hang(Mutex::new(Some(sender))), config).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{CHAT}",
        CHAT.len()
    );
    first.write_all(head.as_bytes()).await.unwrap();
    server.seen.recv().await.unwrap();
    let second = server.chat(CHAT).await;
    assert_eq!((second.status, second.code().as_str()), (503, "overloaded"));
    assert!(second.head.contains("retry-after: 1"));
}

#[tokio::test]
async fn bodies_share_a_memory_and_give_it_back() {
    // Room for one of these, which counts twice, and for small ones beside it.
    let config = ServerConfig { bodies_len_max: 200_000, ..ServerConfig::default() };
    let server = serve(Script::Full("{}"), config).await;
    let body = format!("{{\"model\":\"m\",\"x\":\"{}\"}}", "a".repeat(60_000));
    // A body that announces much and has sent most of it, and then waits.
    let mut waiting = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 70000\r\n\r\n";
    waiting.write_all(head.as_bytes()).await.unwrap();
    waiting.write_all(&[b' '; 60_000]).await.unwrap();
    // What it sent is with the server after some moment that nobody can see from here.
    let refused = loop {
        let answer = server.chat(&body).await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!((refused.status, refused.code().as_str()), (503, "overloaded"));
    assert!(refused.head.contains("retry-after: 1"));
    assert_eq!(server.chat(CHAT).await.status, 200, "small ones find room");
    drop(waiting);
    while server.chat(&body).await.status != 200 {}
    for _ in 0..5 {
        assert_eq!(server.chat(&body).await.status, 200, "what a request held is free after its answer");
    }
}

/// Counts how often it is asked for models.
#[derive(Default)]
struct Counting(std::sync::atomic::AtomicUsize);

impl Inference for Counting {
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, ApiError>> {
        let number = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Box::pin(async move {
            match number {
                0 => Err(fail(ErrorKind::ProxyUnavailable)),
                _ => Ok(vec![Model { id: format!("m{number}"), workers: Vec::new() }]),
            }
        })
    }

    fn run(&self, _request: InferenceRequest) -> BoxFuture<'_, Result<InferenceResponse, ApiError>> {
        Box::pin(async { Err(fail(ErrorKind::Internal)) })
    }
}

#[tokio::test(start_paused = true)]
async fn models_are_asked_for_once_a_second_failures_included() {
    let (models, inference) = (models::Models::default(), Counting::default());
    for second in 0..3 {
        for _ in 0..100 {
            let list = models.list(&inference).await;
            let found = list.map(|list| list[0].id.clone()).map_err(|error| error.kind());
            let expected =
                if second == 0 { Err(ErrorKind::ProxyUnavailable) } else { Ok(format!("m{second}")) };
            assert_eq!(found, expected);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_let_in_only_when_configured() {
    let server = serve(Script::Full("{}"), ServerConfig::default()).await;
    let plain = server.send("OPTIONS", "/v1/chat/completions", "").await;
    assert_eq!(plain.status, 204);
    assert!(plain.head.contains("allow: post, options") && !plain.head.contains("access-control"));
    let config =
        ServerConfig { cors_origin: Some("https://app.example".to_owned()), ..ServerConfig::default() };
    let server = serve(Script::Full("{}"), config).await;
    let open = server.send("OPTIONS", "/v1/models", "").await;
    assert!(open.head.contains("access-control-allow-origin: https://app.example"));
    assert!(open.head.contains("access-control-allow-headers: authorization, content-type"));
    let get = server.send("GET", "/v1/models", "").await;
    assert!(get.head.contains("access-control-allow-origin: https://app.example"));
}

#[tokio::test]
async fn web_pages_cannot_spend_unless_they_are_let_in() {
    let chat = "/v1/chat/completions";
    let from = |origin: &str| format!("origin: {origin}\r\ncontent-type: text/plain\r\n");
    let config =
        |origin: &str| ServerConfig { cors_origin: Some(origin.to_owned()), ..ServerConfig::default() };

    let mut closed = serve(Script::Full("{}"), ServerConfig::default()).await;
    for origin in ["https://evil.example", "null", "http://127.0.0.1:10000", ""] {
        let refused = closed.send_with("POST", chat, &from(origin), CHAT).await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "origin_not_allowed"), "{origin}");
        assert!(!refused.head.contains("access-control"));
    }
    assert!(closed.seen.try_recv().is_err(), "nothing ran");
    assert_eq!(closed.chat(CHAT).await.status, 200, "programs name no origin");

    let one = serve(Script::Full("{}"), config("https://app.example")).await;
    assert_eq!(one.send_with("POST", chat, &from("https://app.example"), CHAT).await.status, 200);
    assert_eq!(one.send_with("POST", chat, &from("https://evil.example"), CHAT).await.status, 403);
    let any = serve(Script::Full("{}"), config("*")).await;
    assert_eq!(any.send_with("POST", chat, &from("https://evil.example"), CHAT).await.status, 200);
}

#[tokio::test]
async fn a_worker_does_not_speak_to_browsers() {
    let server = serve(Script::BrowserHeaders, ServerConfig::default()).await;
    let answer = server.chat(CHAT).await;
    assert!(answer.status == 200 && answer.head.contains("x-kept: 1"));
    assert!(
        !answer.head.contains("access-control") && !answer.head.contains("set-cookie"),
        "{}",
        answer.head
    );
}
