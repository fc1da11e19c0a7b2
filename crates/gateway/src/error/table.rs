//! The one table of failures.

use super::{Blame, ErrorKind, ErrorRow};

/// `invalid_request_error`: the request must change before it can succeed.
const INVALID: &str = "invalid_request_error";
/// `server_error`: the same request may succeed later.
const SERVER: &str = "server_error";

/// One row, with the parts that most rows leave empty.
const fn row(
    kind: ErrorKind,
    status: u16,
    error_type: &'static str,
    code: &'static str,
    wire: i32,
    blame: Blame,
    summary: &'static str,
) -> ErrorRow {
    ErrorRow {
        kind,
        status,
        error_type,
        code,
        param: None,
        wire,
        phrases: &[],
        retryable: false,
        retry_after_s: None,
        blame,
        summary,
    }
}

impl ErrorRow {
    const fn param(mut self, param: &'static str) -> Self {
        self.param = Some(param);
        self
    }

    const fn phrases(mut self, phrases: &'static [(i32, &'static str)]) -> Self {
        self.phrases = phrases;
        self
    }

    const fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    const fn retry_after_s(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self.retryable()
    }
}

/// Every failure an application can meet, in the order of [`ErrorKind`].
///
/// `wire` is what our own roles put into an error message of the wire protocol. `phrases` tell the messages of
/// deployed peers apart, which share few codes; the first row with a phrase that occurs in the text wins, so
/// a phrase that is part of another one stands in a later row.
pub const ERRORS: &[ErrorRow] = &[
    row(
        ErrorKind::InvalidJson,
        400,
        INVALID,
        "invalid_json",
        621,
        Blame::Application,
        "the body is not one JSON object within the limits",
    ),
    row(
        ErrorKind::MissingModel,
        400,
        INVALID,
        "missing_required_parameter",
        621,
        Blame::Application,
        "the body names no model",
    )
    .param("model"),
    row(
        ErrorKind::InvalidParameter,
        400,
        INVALID,
        "invalid_value",
        621,
        Blame::Application,
        "a member of the body has a wrong type or value, or occurs twice",
    ),
    row(
        ErrorKind::UnknownModel,
        404,
        INVALID,
        "model_not_found",
        621,
        Blame::Application,
        "no worker of this network serves the model",
    )
    .param("model")
    .phrases(&[(621, "unknown model ")]),
    row(
        ErrorKind::ModelMismatch,
        404,
        INVALID,
        "model_mismatch",
        621,
        Blame::Proxy,
        "the request reached a worker that serves another model",
    )
    .param("model")
    .phrases(&[(621, "model name mismatch")]),
    row(
        ErrorKind::UnsupportedRoute,
        404,
        INVALID,
        "unknown_url",
        621,
        Blame::Application,
        "this path is not part of the API served here",
    )
    .phrases(&[(621, "unsupported method")]),
    row(
        ErrorKind::MethodNotAllowed,
        405,
        INVALID,
        "method_not_allowed",
        621,
        Blame::Application,
        "the path exists, the method does not",
    ),
    row(
        ErrorKind::OriginRefused,
        403,
        INVALID,
        "origin_not_allowed",
        621,
        Blame::Application,
        "a web page of an origin that this client does not serve sent the request",
    ),
    row(
        ErrorKind::BodyTooLarge,
        413,
        INVALID,
        "body_too_large",
        621,
        Blame::Application,
        "the body is larger than the configured limit",
    ),
    row(
        ErrorKind::BodyIncomplete,
        408,
        INVALID,
        "body_incomplete",
        621,
        Blame::Application,
        "the body did not arrive in time or not to its end",
    )
    .retryable(),
    row(
        ErrorKind::RequestRefused,
        400,
        INVALID,
        "request_refused",
        621,
        Blame::Application,
        "a peer refused the request as invalid",
    ),
    row(
        ErrorKind::PriceCeilingTooLow,
        400,
        INVALID,
        "max_coefficient_too_low",
        651,
        Blame::Application,
        "every ready worker of the model asks more than the request's price ceiling",
    )
    .param("max_coefficient")
    .phrases(&[(651, "can run this query with coefficient=")]),
    row(
        ErrorKind::BalanceTooLow,
        402,
        "insufficient_quota",
        "insufficient_quota",
        602,
        Blame::Operator,
        "the client's balance does not cover the worst price of the request: top up, or lower max_tokens",
    )
    .phrases(&[(602, "client balance is too low"), (651, "balance is too low")]),
    row(
        ErrorKind::ClientClosing,
        403,
        "permission_error",
        "client_closing",
        651,
        Blame::Operator,
        "the client's contract with this proxy is closing, closed or not known to it",
    )
    .phrases(&[(651, "client is closing"), (602, "client is closing")]),
    row(
        ErrorKind::NoReadyWorker,
        503,
        SERVER,
        "no_ready_worker",
        651,
        Blame::World,
        "no worker of the model is ready, or none has room for anybody within its share",
    )
    .phrases(&[(651, "no ready workers for model"), (651, "no workers for model")])
    .retry_after_s(5),
    row(
        ErrorKind::ShareExceeded,
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
        602,
        Blame::Application,
        "this client runs and waits for more requests of the model than an equal share, or for more at once than a proxy lets anybody",
    )
    .phrases(&[(602, "the client runs too many requests")])
    .retry_after_s(1),
    row(
        ErrorKind::WorkerBusy,
        503,
        SERVER,
        "worker_busy",
        602,
        Blame::Worker,
        "the worker was asked for more at once than it runs",
    )
    .phrases(&[(602, "too many active queries")])
    .retry_after_s(1),
    row(
        ErrorKind::Overloaded,
        503,
        SERVER,
        "overloaded",
        651,
        Blame::Operator,
        "this client runs as many requests as it is configured to",
    )
    .retry_after_s(1),
    row(
        ErrorKind::ProxyUnavailable,
        503,
        SERVER,
        "proxy_unavailable",
        651,
        Blame::World,
        "no proxy is connected and ready",
    )
    .phrases(&[(651, "proxy is disabled"), (651, "proxy is not participating")])
    .retry_after_s(2),
    row(
        ErrorKind::ConfigVersionTooLow,
        503,
        SERVER,
        "config_version_too_low",
        602,
        Blame::Proxy,
        "the proxy follows an older version of the root contract than the client",
    )
    .phrases(&[(602, "active config version is too low")])
    .retry_after_s(30),
    row(
        ErrorKind::Timeout,
        504,
        SERVER,
        "timeout",
        652,
        Blame::World,
        "the answer was not complete within the request's timeout",
    )
    .retryable(),
    row(
        ErrorKind::WorkerLost,
        502,
        SERVER,
        "worker_lost",
        653,
        Blame::Worker,
        "the connection to the worker ended before its answer did",
    )
    .phrases(&[(602, "connection is dead"), (653, "worker")])
    .retryable(),
    row(
        ErrorKind::ProxyLost,
        502,
        SERVER,
        "proxy_lost",
        653,
        Blame::Proxy,
        "the connection to the proxy ended before the answer did",
    )
    .retryable(),
    row(
        ErrorKind::EngineFailed,
        502,
        SERVER,
        "engine_failed",
        601,
        Blame::Worker,
        "the worker's engine could not be reached or broke off its answer",
    )
    .phrases(&[(0, "worker: "), (601, "worker: "), (602, "worker: "), (651, "worker: ")])
    .retryable(),
    row(
        ErrorKind::EngineRefused,
        400,
        INVALID,
        "engine_refused",
        621,
        Blame::Application,
        "the engine refused the request; its own status and body are passed on as they are",
    ),
    row(
        ErrorKind::StreamCut,
        502,
        SERVER,
        "stream_cut",
        653,
        Blame::World,
        "the answer stopped before its end",
    )
    .retryable(),
    row(
        ErrorKind::ReaderTooSlow,
        408,
        INVALID,
        "reader_too_slow",
        653,
        Blame::Application,
        "the application did not read its answer as fast as it was produced",
    ),
    row(ErrorKind::Cancelled, 502, SERVER, "cancelled", 653, Blame::World, "a peer gave the request up")
        .retryable(),
    row(
        ErrorKind::PeerMisbehaved,
        502,
        SERVER,
        "peer_misbehaved",
        621,
        Blame::Proxy,
        "a peer sent something that the protocol does not allow",
    )
    .phrases(&[(621, "out of order answer parts")])
    .retryable(),
    row(
        ErrorKind::UpstreamFailed,
        502,
        SERVER,
        "upstream_failed",
        601,
        Blame::Proxy,
        "a peer failed and gave no reason that we know",
    )
    .retryable(),
    row(
        ErrorKind::Internal,
        500,
        SERVER,
        "internal",
        601,
        Blame::Bug,
        "a bug in this program; please report it",
    ),
];
