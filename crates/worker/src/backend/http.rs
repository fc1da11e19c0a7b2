//! An OpenAI-compatible server over keep-alive HTTP/1.1.

use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::{HeaderMap, StatusCode};
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::connection::{Connection, Framing, NoHead};
use super::url::EngineUrl;
use super::{AnswerBody, BodySource, EngineAnswer, EngineError, EngineRequest, headers};

/// An engine is on this host or next to it; one that takes longer is as good as down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Common Python servers close an idle connection after 5 s. Closing earlier ourselves keeps a prompt from being
/// written into a connection that the engine is closing at that moment, which could not be sent again safely.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Idle connections that are kept; more than an engine ever runs at once.
const IDLE_MAX: usize = 1024;

/// A model list longer than this is not one.
const MODEL_LIST_LEN_MAX: usize = 1024 * 1024;

/// How long an engine may take to list its models before it counts as down.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// A server that speaks the OpenAI API, such as vLLM, SGLang, llama.cpp or Ollama.
pub struct HttpBackend {
    url: EngineUrl,
    idle: Arc<Idle>,
}

/// Connections that wait for their next request, the latest last.
#[derive(Default)]
struct Idle(Mutex<Vec<(Connection, Instant)>>);

/// The body of an answer on its connection, which goes back to the others at the body's end. Dropped before, it closes
/// the connection, and the engine stops.
pub(super) struct HttpBody {
    /// `None` once the connection was given back.
    connection: Option<Connection>,
    framing: Framing,
    keeps_connection: bool,
    idle: Arc<Idle>,
}

/// Why an engine does not count as up.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No answer.
    #[error("the model list cannot be read")]
    Engine(#[from] EngineError),
    /// An answer other than 200.
    #[error("the model list answers with status {0}")]
    Status(StatusCode),
    /// No answer in time.
    #[error("the model list takes longer than {} s", PROBE_TIMEOUT.as_secs())]
    Timeout,
}

impl HttpBackend {
    /// A client for the engine at `url`. Connects when first used.
    #[must_use]
    pub fn new(url: EngineUrl) -> Self {
        Self { url, idle: Arc::default() }
    }

    /// Where the engine is.
    #[must_use]
    pub fn url(&self) -> &EngineUrl {
        &self.url
    }

    pub(super) fn run(
        &self,
        request: EngineRequest,
    ) -> impl Future<Output = Result<EngineAnswer, EngineError>> + Send {
        let EngineRequest { path, headers, body } = request;
        let head = self.head("POST", path, &headers::for_engine(headers), body.len());
        async move { self.send(&head, &body).await }
    }

    /// Names of the models that the engine serves: the readiness probe, `GET /v1/models`.
    ///
    /// A server that answers 200 is up even if its list cannot be read; the list is then empty.
    ///
    /// # Errors
    /// [`ProbeError`] if the engine is not up.
    pub async fn models(&self) -> Result<Vec<String>, ProbeError> {
        timeout(PROBE_TIMEOUT, self.fetch_models()).await.map_err(|_elapsed| ProbeError::Timeout)?
    }

    async fn fetch_models(&self) -> Result<Vec<String>, ProbeError> {
        let head = self.head("GET", "/v1/models", &HeaderMap::new(), 0);
        let EngineAnswer { status, mut body, .. } = self.send(&head, &[]).await?;
        if status != StatusCode::OK {
            return Err(ProbeError::Status(status));
        }
        let mut list = BytesMut::new();
        while let Some(piece) = body.next().await {
            list.extend_from_slice(&piece?);
            if list.len() > MODEL_LIST_LEN_MAX {
                let source = io::Error::new(ErrorKind::InvalidData, "the list of models is too long").into();
                return Err(EngineError::CutShort { source }.into());
            }
        }
        Ok(model_ids(&list))
    }

    /// The head of a request. Header values are legal HTTP: their type has seen to it.
    fn head(&self, method: &str, path: &'static str, headers: &HeaderMap, body_len: usize) -> Vec<u8> {
        let mut head = String::new();
        let (target, host) = (self.url.target(path), self.url.authority());
        let _infallible = write!(head, "{method} {target} HTTP/1.1\r\nhost: {host}\r\n");
        if method == "POST" {
            let _infallible = write!(head, "content-length: {body_len}\r\n");
        }
        let mut head = head.into_bytes();
        for (name, value) in headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    /// Sends on a kept connection if there is one. A request is sent again only while no byte of it has left.
    async fn send(&self, head: &[u8], body: &[u8]) -> Result<EngineAnswer, EngineError> {
        if let Some(mut connection) = self.idle.take() {
            match connection.exchange(head, body).await {
                Err(NoHead { is_unsent: true, .. }) => {}
                outcome => return self.answer(connection, outcome),
            }
        }
        let mut connection =
            self.connect().await.map_err(|source| EngineError::Unreachable { source: source.into() })?;
        let outcome = connection.exchange(head, body).await;
        self.answer(connection, outcome)
    }

    async fn connect(&self) -> io::Result<Connection> {
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(self.url.socket())).await;
        Connection::new(stream.map_err(|_elapsed| ErrorKind::TimedOut)??)
    }

    fn answer(
        &self,
        connection: Connection,
        outcome: Result<super::connection::Head, NoHead>,
    ) -> Result<EngineAnswer, EngineError> {
        let head = outcome.map_err(|no_head| EngineError::NoAnswer { source: no_head.error.into() })?;
        let mut body = HttpBody {
            connection: Some(connection),
            framing: head.framing,
            keeps_connection: head.keeps_connection,
            idle: Arc::clone(&self.idle),
        };
        body.give_back();
        Ok(EngineAnswer {
            status: head.status,
            headers: head.headers,
            body: AnswerBody(BodySource::Http(body)),
        })
    }
}

impl HttpBody {
    /// Whether nothing follows.
    pub(super) fn is_end(&self) -> bool {
        self.framing.is_over()
    }

    /// The next piece, never empty; `None` at the end.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, EngineError>>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        let piece = connection.poll_piece(&mut self.framing, cx);
        self.give_back();
        piece.map(|piece| {
            piece.map(|piece| piece.map_err(|error| EngineError::CutShort { source: error.into() }))
        })
    }

    /// All of a body that is here already and no longer than `len_max`.
    pub(super) fn whole(&mut self, len_max: usize) -> Option<Bytes> {
        let whole = self.connection.as_mut()?.whole_body(&mut self.framing, len_max)?;
        self.give_back();
        Some(whole)
    }

    /// After the last byte the connection is free for another request.
    fn give_back(&mut self) {
        if self.is_end()
            && let Some(mut connection) = self.connection.take()
            && connection.rest()
            && self.keeps_connection
        {
            self.idle.put(connection);
        }
    }
}

impl Idle {
    /// The connection that was used last, if any can still be used.
    fn take(&self) -> Option<Connection> {
        let now = Instant::now();
        let mut idle = self.lock();
        while let Some((connection, since)) = idle.pop() {
            if now.duration_since(since) >= IDLE_TIMEOUT {
                // The others have waited longer.
                idle.clear();
            } else if connection.is_idle() {
                return Some(connection);
            }
        }
        None
    }

    fn put(&self, connection: Connection) {
        let now = Instant::now();
        let mut idle = self.lock();
        let stale = idle.partition_point(|(_, since)| now.duration_since(*since) >= IDLE_TIMEOUT);
        idle.drain(..stale);
        if idle.len() < IDLE_MAX {
            idle.push((connection, now));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Connection, Instant)>> {
        // A list of whole connections at every step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ids in `{"data":[{"id":…},…]}`; none when the text has another form.
fn model_ids(body: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct List {
        data: Vec<Model>,
    }
    #[derive(Deserialize)]
    struct Model {
        id: String,
    }
    let list: Result<List, _> = serde_json::from_slice(body);
    list.map(|list| list.data.into_iter().map(|model| model.id).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_lists_of_any_other_form_are_empty() {
        assert_eq!(model_ids(br#"{"object":"list","data":[{"id":"a","created":0},{"id":"b"}]}"#), ["a", "b"]);
        for other in ["", "[]", r#"{"data":{}}"#, r#"{"data":[{"name":"a"}]}"#] {
            assert!(model_ids(other.as_bytes()).is_empty(), "{other}");
        }
    }
}
