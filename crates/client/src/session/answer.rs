//! An answer, taken from the messages of a proxy in the form of every protocol version.

use std::fmt;

use ::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use gateway::{ApiError, ErrorKind, headers};
use units::{AdjustedTokens, AdjustedUsage, Concealed, RequestId};
use wire::client::{FromProxy, QueryFinalInfo};
use wire::{TokensUsed, http};

/// The head of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The engine's status, or the proxy's for a refusal in the form of an answer.
    pub(crate) status: StatusCode,
    /// End-to-end headers.
    pub(crate) headers: HeaderMap,
}

/// What a proxy says about a finished request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FinalInfo {
    /// The charge by kind, in adjusted tokens.
    pub(crate) tokens: AdjustedUsage,
    /// JSON of the worker's times, as sent.
    pub(crate) worker_debug: Option<String>,
    /// JSON of the proxy's times, as sent.
    pub(crate) proxy_debug: Option<String>,
}

/// How an answer ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// To its end.
    Complete(FinalInfo),
    /// Before it.
    Failed(ApiError, Option<FinalInfo>),
}

/// What one message brought to one request.
#[derive(Clone, Default)]
pub(crate) struct Step {
    /// The head, once.
    pub(crate) head: Option<Head>,
    /// Bytes of the body; they share the memory of the message.
    pub(crate) bytes: Bytes,
    /// The end, once.
    pub(crate) end: Option<End>,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut step = f.debug_struct("Step");
        step.field("head", &self.head)
            .field("bytes", &Concealed::new(&self.bytes))
            .field("end", &self.end)
            .finish()
    }
}

impl Step {
    /// A step that ends the request.
    pub(crate) fn failed(error: ApiError) -> Self {
        Self { end: Some(End::Failed(error, None)), ..Self::default() }
    }

    /// The failure, when this is a proxy's refusal in either form.
    pub(crate) fn refusal(&self) -> Option<ApiError> {
        match self {
            Self { head: Some(head), bytes, end: Some(End::Complete(_)) } => refusal(&head.headers, bytes),
            Self { head: None, end: Some(End::Failed(error, _)), .. } => Some(error.clone()),
            Self { .. } => None,
        }
    }
}

/// The failure behind a refusal in the form of an answer. Deployed clients know no error before an answer, so
/// proxies refuse with a complete one, and say the wire's code in a header.
pub(crate) fn refusal(headers: &HeaderMap, body: &[u8]) -> Option<ApiError> {
    let code = headers.get("x-cocoon-error-code")?.to_str().ok()?.parse().ok()?;
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    Some(ApiError::from_wire(code, body["error"]["message"].as_str().unwrap_or_default()))
}

/// Longest JSON of debug times that is kept.
const DEBUG_LEN_MAX: usize = 16 * 1024;

/// How far an answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerState {
    /// Nothing came yet.
    ExpectHead,
    /// The head came.
    Body,
}

/// The request that a message belongs to; `None` when it belongs to none.
pub(crate) fn request_of(message: &FromProxy<'_>) -> Option<RequestId> {
    let id = match message {
        FromProxy::QueryAnswer(answer) => answer.request_id,
        FromProxy::QueryAnswerError(answer) => answer.request_id,
        FromProxy::QueryAnswerPart(answer) => answer.request_id,
        FromProxy::QueryAnswerPartError(answer) => answer.request_id,
        FromProxy::QueryAnswerEx(answer) => answer.request_id,
        FromProxy::QueryAnswerErrorEx(answer) => answer.request_id,
        FromProxy::QueryAnswerPartEx(answer) => answer.request_id,
        FromProxy::ClientRequestPayment(_)
        | FromProxy::SignedPayment(_)
        | FromProxy::Capabilities(_)
        | FromProxy::GoingAway(_)
        | FromProxy::Credit(_) => return None,
    };
    Some(RequestId::new(id))
}

impl AnswerState {
    /// Takes the next message of the answer, read from `frame`.
    pub(crate) fn handle(&mut self, message: &FromProxy<'_>, frame: &Bytes) -> Step {
        let (is_head, answer, end) = match message {
            FromProxy::QueryAnswer(m) => (true, m.answer, completed(m.is_completed, &m.request_tokens_used)),
            FromProxy::QueryAnswerPart(m) => {
                (false, m.answer, completed(m.is_completed, &m.request_tokens_used))
            }
            FromProxy::QueryAnswerEx(m) => (true, m.answer, m.final_info.as_ref().map(FinalInfo::read)),
            FromProxy::QueryAnswerPartEx(m) => (false, m.answer, m.final_info.as_ref().map(FinalInfo::read)),
            FromProxy::QueryAnswerError(m) => return refused(m.error_code, m.error, None),
            FromProxy::QueryAnswerPartError(m) => return refused(m.error_code, m.error, None),
            FromProxy::QueryAnswerErrorEx(m) => return refused(m.error_code, m.error, m.final_info.as_ref()),
            FromProxy::ClientRequestPayment(_)
            | FromProxy::SignedPayment(_)
            | FromProxy::Capabilities(_)
            | FromProxy::GoingAway(_)
            | FromProxy::Credit(_) => return Step::default(),
        };
        let end = end.map(End::Complete);
        match (*self, is_head) {
            (Self::ExpectHead, true) => match read_head(answer) {
                Some((head, payload)) => {
                    *self = Self::Body;
                    Step { head: Some(head), bytes: shared(frame, payload), end }
                }
                None => misbehaved("the head of the answer cannot be read"),
            },
            (Self::Body, false) => Step { head: None, bytes: shared(frame, answer), end },
            (Self::ExpectHead, false) => misbehaved("a part of the answer came before its head"),
            (Self::Body, true) => misbehaved("the head of the answer came twice"),
        }
    }
}

/// A part of `frame` that does not copy it. An empty one does not hold it either.
fn shared(frame: &Bytes, part: &[u8]) -> Bytes {
    if part.is_empty() { Bytes::new() } else { frame.slice_ref(part) }
}

fn read_head(answer: &[u8]) -> Option<(Head, &[u8])> {
    let response: http::Response<'_> = wire::decode(answer).ok()?;
    // 1xx is no answer, and hyper would refuse to send it as one.
    let status = u16::try_from(response.status_code).ok().filter(|status| *status >= 200)?;
    let status = StatusCode::from_u16(status).ok()?;
    let pairs = response.headers.iter().map(|header| (header.name.as_bytes(), header.value.as_bytes()));
    Some((Head { status, headers: headers::end_to_end(pairs) }, response.payload))
}

fn refused(code: i32, text: wire::TlStr<'_>, info: Option<&QueryFinalInfo<'_>>) -> Step {
    let error = ApiError::from_wire(code, &text.to_string_lossy());
    Step { end: Some(End::Failed(error, info.map(FinalInfo::read))), ..Step::default() }
}

fn misbehaved(message: &str) -> Step {
    Step::failed(ApiError::new(ErrorKind::PeerMisbehaved, message))
}

fn completed(is_completed: bool, tokens: &TokensUsed) -> Option<FinalInfo> {
    is_completed.then(|| FinalInfo { tokens: adjusted(tokens), ..FinalInfo::default() })
}

impl FinalInfo {
    fn read(info: &QueryFinalInfo<'_>) -> Self {
        let kept = |text: wire::TlStr<'_>| {
            (text.as_bytes().len() <= DEBUG_LEN_MAX).then(|| text.to_string_lossy().into_owned())
        };
        Self {
            tokens: adjusted(&info.tokens_used),
            worker_debug: info.debug.as_ref().and_then(|debug| kept(debug.worker_debug)),
            proxy_debug: info.debug.as_ref().and_then(|debug| kept(debug.proxy_debug)),
        }
    }
}

/// The total on the wire is not read: it is the sum.
fn adjusted(tokens: &TokensUsed) -> AdjustedUsage {
    let count = |tokens: i64| AdjustedTokens::new(u64::try_from(tokens).unwrap_or(0));
    AdjustedUsage {
        prompt: count(tokens.prompt_tokens_used),
        cached: count(tokens.cached_tokens_used),
        completion: count(tokens.completion_tokens_used),
        reasoning: count(tokens.reasoning_tokens_used),
    }
}
