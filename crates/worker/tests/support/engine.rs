//! An OpenAI-compatible server on a real socket that answers by script.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

/// A prompt that reached the engine, waiting for the test to answer it. Model lists are answered by themselves.
pub struct Prompt {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    answer: oneshot::Sender<(StatusCode, HeaderMap, mpsc::Receiver<Piece>)>,
}

/// The answer's body, written piece by piece.
pub struct AnswerWriter(mpsc::Sender<Piece>);

/// Bytes, or the end of the connection in the middle of the answer.
type Piece = Result<Bytes, BrokenOff>;

#[derive(Debug)]
pub struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the test broke the answer off")
    }
}

impl std::error::Error for BrokenOff {}

pub struct ScriptedEngine {
    pub address: SocketAddr,
    pub prompts: mpsc::UnboundedReceiver<Prompt>,
    connections: Arc<AtomicUsize>,
    status: tokio::sync::watch::Sender<StatusCode>,
    task: AbortHandle,
}

pub const MODEL_LIST: &str = r#"{"object":"list","data":[{"id":"test/model","object":"model"}]}"#;

impl ScriptedEngine {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (prompt_sender, prompts) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let (status, status_receiver) = tokio::sync::watch::channel(StatusCode::OK);
        let counter = connections.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                let (prompts, status) = (prompt_sender.clone(), status_receiver.clone());
                let service = service_fn(move |request| serve(request, prompts.clone(), *status.borrow()));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        let task = task.abort_handle();
        Self { address, prompts, connections, status, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the model list answers from now on.
    pub fn set_status(&self, status: StatusCode) {
        self.status.send_replace(status);
    }

    pub fn connection_count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub async fn next_prompt(&mut self) -> Prompt {
        self.prompts.recv().await.expect("the engine runs as long as its test")
    }
}

impl Drop for ScriptedEngine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Prompt {
    /// Sends the head; the body follows through the writer and ends when that is dropped.
    pub fn answer(self, status: u16, content_type: &str) -> AnswerWriter {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", content_type.parse().unwrap());
        self.answer_with(status, headers)
    }

    pub fn answer_with(self, status: u16, headers: HeaderMap) -> AnswerWriter {
        let (writer, body) = mpsc::channel(1);
        let _ = self.answer.send((StatusCode::from_u16(status).unwrap(), headers, body));
        AnswerWriter(writer)
    }

    /// Answers with a whole JSON body.
    pub async fn answer_json(self, status: u16, body: &str) {
        self.answer(status, "application/json").write(body).await;
    }

    /// Completes when the caller has gone away before the answer's head.
    pub async fn caller_gone(mut self) {
        self.answer.closed().await;
    }
}

impl AnswerWriter {
    pub async fn write(&self, piece: &str) {
        self.0.send(Ok(Bytes::copy_from_slice(piece.as_bytes()))).await.expect("the caller reads");
    }

    /// Closes the connection although the answer is not complete.
    pub async fn break_off(self) {
        self.0.send(Err(BrokenOff)).await.expect("the caller reads");
    }

    /// Completes when the caller has gone away.
    pub async fn caller_gone(&self) {
        self.0.closed().await;
    }
}

async fn serve(
    request: http::Request<Incoming>,
    prompts: mpsc::UnboundedSender<Prompt>,
    status: StatusCode,
) -> Result<Response<Pieces>, BrokenOff> {
    let (head, body) = request.into_parts();
    if head.uri.path().ends_with("/v1/models") {
        let (writer, pieces) = mpsc::channel(1);
        writer.try_send(Ok(Bytes::from_static(MODEL_LIST.as_bytes()))).unwrap();
        let mut response = Response::new(Pieces(pieces));
        *response.status_mut() = status;
        return Ok(response);
    }
    let body = body.collect().await.unwrap().to_bytes();
    let (answer, answered) = oneshot::channel();
    let path = head.uri.path().to_owned();
    prompts.send(Prompt { path, headers: head.headers, body, answer }).unwrap();
    // A prompt that the test drops closes its connection.
    let (status, headers, pieces) = answered.await.map_err(|_dropped| BrokenOff)?;
    let mut response = Response::new(Pieces(pieces));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

struct Pieces(mpsc::Receiver<Piece>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
