//! An OpenAI-compatible server over keep-alive HTTP/1.1.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::http::{HeaderMap, Method, Request, StatusCode, Uri};
use bytes::Bytes;
use gateway::headers::end_to_end;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;

use super::url::EngineUrl;
use super::{AnswerBody, BodySource, EngineAnswer, EngineError, EngineRequest, headers};

/// An engine is on this host or next to it; one that takes longer is as good as down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Common Python servers close an idle connection after 5 s. Closing earlier ourselves keeps a prompt from being
/// written into a connection that the engine is closing at that moment, which could not be sent again safely.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Bounds what one answer holds in memory when the proxy reads more slowly than the engine writes.
const READ_BUFFER_MAX: usize = 64 * 1024;

/// A model list longer than this is not one.
const MODEL_LIST_LEN_MAX: usize = 1024 * 1024;

/// How long an engine may take to list its models before it counts as down.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// A server that speaks the OpenAI API, such as vLLM, SGLang, llama.cpp or Ollama.
pub struct HttpBackend {
    url: EngineUrl,
    client: Client<HttpConnector, Full<Bytes>>,
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
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        // A request is sent again only while no byte of it has been written, which is the client's default rule.
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http1_max_buf_size(READ_BUFFER_MAX)
            .build(connector);
        Self { url, client }
    }

    /// Where the engine is.
    #[must_use]
    pub fn url(&self) -> &EngineUrl {
        &self.url
    }

    pub(super) async fn run(&self, request: EngineRequest) -> Result<EngineAnswer, EngineError> {
        let EngineRequest { path, headers, body } = request;
        let response =
            self.send(Method::POST, self.url.route(path), headers::for_engine(headers), body).await?;
        let (head, incoming) = response.into_parts();
        let lines = head.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        let lines: Vec<(&[u8], &[u8])> = lines.collect();
        Ok(EngineAnswer {
            status: head.status,
            headers: end_to_end(lines.into_iter()),
            body: AnswerBody(BodySource::Http(incoming)),
        })
    }

    /// Names of the models that the engine serves: the readiness probe, `GET /v1/models`.
    ///
    /// A server that answers 200 is up even if its list cannot be read; the list is then empty.
    ///
    /// # Errors
    /// [`ProbeError`] if the engine is not up.
    pub async fn models(&self) -> Result<Vec<String>, ProbeError> {
        tokio::time::timeout(PROBE_TIMEOUT, self.fetch_models())
            .await
            .map_err(|_elapsed| ProbeError::Timeout)?
    }

    async fn fetch_models(&self) -> Result<Vec<String>, ProbeError> {
        let route = self.url.route("/v1/models");
        let response = self.send(Method::GET, route, HeaderMap::new(), Bytes::new()).await?;
        if response.status() != StatusCode::OK {
            return Err(ProbeError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), MODEL_LIST_LEN_MAX).collect().await;
        let body = body.map_err(|source| EngineError::CutShort { source })?.to_bytes();
        Ok(model_ids(&body))
    }

    async fn send(
        &self,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<::http::Response<Incoming>, EngineError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        self.client.request(request).await.map_err(|error| {
            if error.is_connect() {
                EngineError::Unreachable { source: error.into() }
            } else {
                EngineError::NoAnswer { source: error.into() }
            }
        })
    }
}

/// The next piece of a body, without empty ones and without trailers.
pub(super) fn poll_body(
    incoming: &mut Incoming,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, EngineError>>> {
    loop {
        return Poll::Ready(match ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) if !piece.is_empty() => Some(Ok(piece)),
                Ok(_) | Err(_) => continue,
            },
            Some(Err(error)) => Some(Err(EngineError::CutShort { source: error.into() })),
            None => None,
        });
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
