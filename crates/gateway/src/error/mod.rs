//! Failures as applications see them.

mod table;

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::json;
use units::Redacted;

pub use table::ERRORS;

/// What went wrong, by who can do something about it and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The body is not one JSON object within the limits.
    InvalidJson,
    /// No `model` member.
    MissingModel,
    /// A member with a wrong type or value, or given twice.
    InvalidParameter,
    /// No worker of the network serves the model.
    UnknownModel,
    /// The worker serves another model.
    ModelMismatch,
    /// Not a path of this API.
    UnsupportedRoute,
    /// Not a method of this path.
    MethodNotAllowed,
    /// A web page of an origin that the operator did not let in.
    OriginRefused,
    /// Body above the limit.
    BodyTooLarge,
    /// Body cut or too slow.
    BodyIncomplete,
    /// Refused by a peer as invalid.
    RequestRefused,
    /// All ready workers cost more than the request's ceiling.
    PriceCeilingTooLow,
    /// The hold for the request exceeds the balance.
    BalanceTooLow,
    /// The client's contract is closing.
    ClientClosing,
    /// All workers of the model are full, disabled or gone.
    NoReadyWorker,
    /// The client runs more than its share while others wait.
    ShareExceeded,
    /// The chosen worker was full.
    WorkerBusy,
    /// Too many requests at once in this client.
    Overloaded,
    /// No ready proxy.
    ProxyUnavailable,
    /// The proxy's configuration is older than ours.
    ConfigVersionTooLow,
    /// The request's timer ended it.
    Timeout,
    /// Worker connection ended.
    WorkerLost,
    /// Proxy connection ended.
    ProxyLost,
    /// The engine broke.
    EngineFailed,
    /// The engine said no; carries the engine's own status.
    EngineRefused,
    /// A stream that ended too early.
    StreamCut,
    /// The application reads too slowly.
    ReaderTooSlow,
    /// Given up by a peer.
    Cancelled,
    /// A peer broke the protocol.
    PeerMisbehaved,
    /// A peer failed without a known reason.
    UpstreamFailed,
    /// Our bug.
    Internal,
}

/// Who has to act before the request can succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The caller of the API.
    Application,
    /// Whoever runs this client: configuration, balance.
    Operator,
    /// The operator of the proxy.
    Proxy,
    /// The operator of the worker.
    Worker,
    /// Nobody in particular: load, network, time.
    World,
    /// The authors of this program.
    Bug,
}

/// One row of the table of failures.
#[derive(Clone, Copy, Debug)]
pub struct ErrorRow {
    /// Which failure.
    pub kind: ErrorKind,
    /// HTTP status.
    pub status: u16,
    /// `error.type` of the OpenAI error object.
    pub error_type: &'static str,
    /// `error.code`: stable, meant for programs.
    pub code: &'static str,
    /// `error.param` when it is always the same member of the body.
    pub param: Option<&'static str>,
    /// The code our roles send for it on the wire.
    pub wire: i32,
    /// What deployed peers send for it: a code and a part of the text.
    pub phrases: &'static [(i32, &'static str)],
    /// Whether the same request may succeed later, or elsewhere.
    pub retryable: bool,
    /// Seconds for the `Retry-After` header.
    pub retry_after_s: Option<u32>,
    /// Who has to act.
    pub blame: Blame,
    /// What happened, for the documentation.
    pub summary: &'static str,
}

impl ErrorKind {
    /// The row of this failure.
    #[must_use]
    pub const fn row(self) -> &'static ErrorRow {
        &ERRORS[self as usize]
    }
}

/// A failed request: one row of the table with this request's text.
///
/// The text is meant for the application that sent the request and may quote a peer or an engine; `Display`
/// and `Debug` leave it out, so that an error can be logged.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {}", kind.row().code, kind.row().summary)]
pub struct ApiError {
    kind: ErrorKind,
    status: StatusCode,
    message: Redacted<String>,
    param: Option<String>,
}

/// Longest text taken over from a peer, in bytes.
const MESSAGE_LEN_MAX: usize = 2000;

impl ApiError {
    /// A failure with a text for the application.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let row = kind.row();
        let status = StatusCode::from_u16(row.status).expect("the table holds valid statuses (tested)");
        Self { kind, status, message: Redacted::new(message.into()), param: row.param.map(str::to_owned) }
    }

    /// Names the member of the body that is to blame.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// An engine's refusal, which keeps the engine's own status.
    #[must_use]
    pub fn engine_refused(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, ..Self::new(ErrorKind::EngineRefused, message) }
    }

    /// Understands an error of the wire protocol: by its text where deployed peers share a code between
    /// several failures, else by its code. The text is kept, shortened, for the application.
    #[must_use]
    pub fn from_wire(code: i32, message: &str) -> Self {
        let names = |row: &&ErrorRow| {
            row.phrases.iter().any(|(phrase_code, phrase)| *phrase_code == code && message.contains(phrase))
        };
        let kind = match ERRORS.iter().find(names) {
            Some(row) => row.kind,
            None => match code {
                602 | 603 | 621 => ErrorKind::RequestRefused,
                651 => ErrorKind::ProxyUnavailable,
                652 => ErrorKind::Timeout,
                653 => ErrorKind::Cancelled,
                _ => ErrorKind::UpstreamFailed,
            },
        };
        let end = message.floor_char_boundary(MESSAGE_LEN_MAX);
        match &message[..end] {
            "" => Self::new(kind, kind.row().summary),
            text => Self::new(kind, text),
        }
    }

    /// Which failure.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// HTTP status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The text for the application. Not for logs: it may quote an engine.
    #[must_use]
    pub fn message(&self) -> &str {
        self.message.expose()
    }

    /// The member of the body that is to blame, if one is.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        self.param.as_deref()
    }

    /// Whether the same request may succeed later, or elsewhere.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        self.kind.row().retryable
    }

    /// The code to put into an error of the wire protocol.
    #[must_use]
    pub const fn wire_code(&self) -> i32 {
        self.kind.row().wire
    }

    /// The OpenAI error object, `{"error":{"message","type","param","code"}}`.
    #[must_use]
    pub fn body(&self) -> Bytes {
        let row = self.kind.row();
        let (message, param) = (self.message.expose(), self.param.as_deref());
        let object = json!({"message": message, "type": row.error_type, "param": param, "code": row.code});
        json!({ "error": object }).to_string().into()
    }

    /// The error as the last event of a stream of server-sent events.
    #[must_use]
    pub fn event(&self) -> Bytes {
        let mut event = b"data: ".to_vec();
        event.extend_from_slice(&self.body());
        event.extend_from_slice(b"\n\n");
        event.into()
    }

    /// The complete HTTP answer.
    pub fn into_response<B: From<Bytes>>(self) -> Response<B> {
        let mut response = Response::new(B::from(self.body()));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.kind.row().retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// The table of failures as the Markdown page for users.
#[must_use]
pub fn errors_markdown() -> String {
    let mut page = String::from(
        "# Errors\n\n\
         Every request ends with an HTTP status and an OpenAI error object, \
         `{\"error\":{\"message\",\"type\",\"param\",\"code\"}}`. `code` is stable and meant for programs. When a \
         stream breaks after its start, the last event is `data: {\"error\":…}` and the connection is closed \
         without the end of the stream, so that no reader takes the answer for complete. What is no HTTP is refused \
         before any row applies, with `malformed_http` (400) or `head_too_large` (414, 431).\n\n\
         *Wire* is the code that roles send each other. *Retry*: the same request may succeed later or through \
         another proxy; a number is the `Retry-After` header in seconds. *Who acts* says who has to change \
         something first.\n\n\
         | code | status | type | param | wire | retry | who acts | meaning |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in ERRORS {
        let retry = match (row.retryable, row.retry_after_s) {
            (true, Some(seconds)) => format!("yes, {seconds}"),
            (true, None) => "yes".to_owned(),
            (false, _) => "no".to_owned(),
        };
        let blame = match row.blame {
            Blame::Application => "the application",
            Blame::Operator => "the operator of the client",
            Blame::Proxy => "the operator of the proxy",
            Blame::Worker => "the operator of the worker",
            Blame::World => "nobody: wait",
            Blame::Bug => "us",
        };
        let status = match row.kind {
            ErrorKind::EngineRefused => "the engine's".to_owned(),
            _ => row.status.to_string(),
        };
        let param = row.param.map_or_else(|| "–".to_owned(), |param| format!("`{param}`"));
        writeln!(
            page,
            "| `{}` | {status} | `{}` | {param} | {} | {retry} | {blame} | {} |",
            row.code, row.error_type, row.wire, row.summary
        )
        .expect("writing to a string does not fail");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_stands_where_its_kind_points() {
        for (index, row) in ERRORS.iter().enumerate() {
            assert_eq!(row.kind as usize, index, "{:?} is out of order", row.kind);
            assert_eq!(row.kind.row().code, row.code);
        }
        assert_eq!(ERRORS.len(), ErrorKind::Internal as usize + 1);
    }

    #[test]
    fn every_row_gives_a_full_answer() {
        for row in ERRORS {
            let error = ApiError::new(row.kind, "text for the application");
            assert!(error.status().is_client_error() || error.status().is_server_error());
            let body: serde_json::Value = serde_json::from_slice(&error.body()).unwrap();
            let object = &body["error"];
            assert_eq!(object["message"], "text for the application");
            assert_eq!(object["type"], row.error_type);
            assert_eq!(object["code"], row.code);
            assert_eq!(object["param"].as_str(), row.param);
            let response: Response<Bytes> = error.into_response();
            assert_eq!(response.status().as_u16(), row.status);
            let retry_after =
                response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(retry_after, row.retry_after_s.map(|seconds| seconds.to_string()));
        }
    }

    #[test]
    fn codes_are_unique_and_statuses_agree_with_retrying() {
        for (index, row) in ERRORS.iter().enumerate() {
            assert!(ERRORS[..index].iter().all(|other| other.code != row.code), "{} occurs twice", row.code);
            assert!([0, 601, 602, 603, 621, 651, 652, 653].contains(&row.wire), "{}", row.code);
            // The official SDKs repeat requests that failed with 408, 409, 429 or 5xx, and no others.
            let repeated_by_sdks = row.status >= 500 || [408, 429].contains(&row.status);
            assert!(!row.retryable || repeated_by_sdks, "{} is never repeated", row.code);
        }
    }

    #[test]
    fn texts_of_deployed_peers_find_their_row() {
        let cases = [
            (602, "client balance is too low", ErrorKind::BalanceTooLow),
            (602, "client balance is too low: to_reserve=9", ErrorKind::BalanceTooLow),
            (651, "balance is too low", ErrorKind::BalanceTooLow),
            (602, "active config version is too low", ErrorKind::ConfigVersionTooLow),
            (651, "client is closing", ErrorKind::ClientClosing),
            (651, "proxy is disabled", ErrorKind::ProxyUnavailable),
            (651, "proxy is not participating in this iteration", ErrorKind::ProxyUnavailable),
            (621, "unknown model no/such", ErrorKind::UnknownModel),
            (651, "no workers for model Qwen/Qwen3-8B", ErrorKind::NoReadyWorker),
            (602, "the client runs too many requests at once", ErrorKind::ShareExceeded),
            (651, "no ready workers for modelQwen/Qwen3-8B", ErrorKind::NoReadyWorker),
            (651, "can run this query with coefficient=2500", ErrorKind::PriceCeilingTooLow),
            (602, "connection is dead", ErrorKind::WorkerLost),
            (652, "timeout in proxy", ErrorKind::Timeout),
            (652, "worker: timeout", ErrorKind::Timeout),
            (602, "too many active queries", ErrorKind::WorkerBusy),
            (621, "worker: invalid http request: model name mismatch", ErrorKind::ModelMismatch),
            (621, "worker: invalid http request: unsupported method", ErrorKind::UnsupportedRoute),
            (621, "worker: invalid http request: unknown option seed", ErrorKind::RequestRefused),
            (601, "worker: http failed: connection refused", ErrorKind::EngineFailed),
            (0, "worker: failed to get payload: closed", ErrorKind::EngineFailed),
            (621, "out of order answer parts", ErrorKind::PeerMisbehaved),
            (602, "something else", ErrorKind::RequestRefused),
            (651, "something else", ErrorKind::ProxyUnavailable),
            (653, "something else", ErrorKind::Cancelled),
            (0, "something else", ErrorKind::UpstreamFailed),
            (-7, "", ErrorKind::UpstreamFailed),
        ];
        for (code, text, kind) in cases {
            assert_eq!(ApiError::from_wire(code, text).kind(), kind, "{code} {text:?}");
        }
    }

    #[test]
    fn an_error_prints_its_row_and_not_its_text() {
        let error = ApiError::from_wire(621, "worker: the prompt was: my secret");
        assert_eq!(error.message(), "worker: the prompt was: my secret");
        assert!(!format!("{error} {error:?}").contains("secret"));
        assert_eq!(error.to_string(), "request_refused: a peer refused the request as invalid");
    }

    #[test]
    fn long_texts_of_peers_are_cut_at_a_character() {
        let error = ApiError::from_wire(602, &"é".repeat(2000));
        assert_eq!(error.message().len(), MESSAGE_LEN_MAX);
        let error = ApiError::from_wire(602, &format!("x{}", "é".repeat(2000)));
        assert_eq!(error.message().len(), MESSAGE_LEN_MAX - 1);
    }

    #[test]
    fn an_engines_refusal_keeps_its_status() {
        let error = ApiError::engine_refused(StatusCode::UNPROCESSABLE_ENTITY, "n must be 1");
        assert_eq!((error.status().as_u16(), error.kind()), (422, ErrorKind::EngineRefused));
    }

    /// `COCOON_BLESS=1 cargo test -p cocoon-gateway` rewrites the page.
    #[test]
    fn the_page_for_users_agrees_with_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
        if std::env::var_os("COCOON_BLESS").is_some() {
            std::fs::write(path, errors_markdown()).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap_or_default() == errors_markdown(),
            "docs/errors.md differs from the table: run COCOON_BLESS=1 cargo test -p cocoon-gateway"
        );
    }
}
