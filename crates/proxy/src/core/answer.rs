//! Answers to clients, in the form that each version of the protocol has for them.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use gateway::ApiError;
use transport::clock::seconds_text;
use units::{AdjustedUsage, ProtocolVersion};
use wire::{StatusCode, TlStr, TokensUsed, client, http, proxy};

use super::{Now, on_wire};

/// Whom an answer is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addressee {
    pub(super) protocol: ProtocolVersion,
    pub(super) request_id: [u8; 32],
}

/// Why a request failed. The text may quote a worker, so it goes to the client and to no log.
#[derive(Clone)]
pub(super) struct Failure {
    pub(super) code: StatusCode,
    pub(super) message: Cow<'static, str>,
}

/// What a worker tells about a request besides its cost.
#[derive(Clone, Debug, Default)]
pub(super) struct WorkerTold<'a> {
    pub(super) debug: Option<TlStr<'a>>,
    pub(super) times: Option<proxy::Times>,
}

/// When the proxy had a request in its hands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) started: Now,
    pub(super) first_answer: Option<Duration>,
    pub(super) ended: Now,
}

/// What a client is told about an ended request.
#[derive(Clone, Debug)]
pub(super) struct FinalInfo {
    tokens: TokensUsed,
    notes: Option<Notes>,
    times: client::Times,
}

/// JSON about how the request was handled.
#[derive(Clone, Debug)]
struct Notes {
    by_worker: String,
    by_proxy: String,
}

/// Whether more of an answer follows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Progress<'a> {
    /// More follows; the cost so far.
    More(&'a AdjustedUsage),
    /// This was all.
    Done(&'a FinalInfo),
}

/// The header that carries the wire's code of a refusal, so that a client which knows it need not guess from the
/// HTTP status.
pub(super) const ERROR_CODE_HEADER: &str = "X-Cocoon-Error-Code";

/// Longest notes taken over from a worker, in bytes. A reader of JSON can do nothing with a part of them, so longer
/// ones are left out.
const WORKER_NOTES_LEN_MAX: usize = 16 * 1024;

impl Failure {
    pub(super) fn new(code: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }
}

impl FinalInfo {
    pub(super) fn new(
        charged: &AdjustedUsage,
        span: &Span,
        told: &WorkerTold<'_>,
        wants_notes: bool,
    ) -> Self {
        let (worker_start_time, worker_end_time) =
            told.times.as_ref().map_or((0.0, 0.0), |times| (times.worker_start_time, times.worker_end_time));
        let notes = wants_notes.then(|| Notes {
            by_worker: told
                .debug
                .filter(|notes| notes.as_bytes().len() <= WORKER_NOTES_LEN_MAX)
                .map_or_else(|| "{}".to_owned(), |notes| notes.to_string_lossy().into_owned()),
            by_proxy: span.notes(),
        });
        Self {
            tokens: tokens_used(charged),
            notes,
            times: client::Times {
                proxy_start_time: span.started.unix.as_secs_f64(),
                proxy_end_time: span.ended.unix.as_secs_f64(),
                worker_start_time,
                worker_end_time,
            },
        }
    }

    /// The form for protocol 1 and later; times came with version 2.
    fn for_version(&self, protocol: ProtocolVersion) -> client::QueryFinalInfo<'_> {
        client::QueryFinalInfo {
            tokens_used: self.tokens,
            debug: self.notes.as_ref().map(|notes| client::DebugInfo {
                worker_debug: notes.by_worker.as_str().into(),
                proxy_debug: notes.by_proxy.as_str().into(),
            }),
            times: Some(self.times).filter(|_| protocol >= ProtocolVersion::V2),
        }
    }
}

impl Span {
    /// Members in the order that deployed proxies write: by name.
    fn notes(&self) -> String {
        let (start, end) = (self.started.unix.as_secs_f64(), self.ended.unix.as_secs_f64());
        let received = self.first_answer.map_or_else(String::new, |first| {
            let first = first.as_secs_f64();
            format!(r#""answer_receive_end_at":{end},"answer_receive_start_at":{first},"#)
        });
        format!(r#"{{{received}"start_time":{start},"type":"proxy_stats"}}"#)
    }
}

/// The first answer. `response` is a boxed HTTP response.
pub(super) fn head(to: &Addressee, response: &[u8], progress: Progress<'_>) -> Bytes {
    let request_id = to.request_id;
    match to.protocol {
        ProtocolVersion::V0 => wire::encode(&client::QueryAnswer {
            answer: response,
            is_completed: progress.is_done(),
            request_id,
            request_tokens_used: progress.tokens(),
        }),
        protocol => wire::encode(&client::QueryAnswerEx {
            request_id,
            answer: response,
            final_info: progress.final_info(protocol),
        }),
    }
}

/// A later piece of the HTTP body.
pub(super) fn part(to: &Addressee, body: &[u8], progress: Progress<'_>) -> Bytes {
    let request_id = to.request_id;
    match to.protocol {
        ProtocolVersion::V0 => wire::encode(&client::QueryAnswerPart {
            answer: body,
            is_completed: progress.is_done(),
            request_id,
            request_tokens_used: progress.tokens(),
        }),
        protocol => wire::encode(&client::QueryAnswerPartEx {
            request_id,
            answer: body,
            final_info: progress.final_info(protocol),
        }),
    }
}

/// A failure before the first answer.
///
/// Deployed clients of version 1 and later know no error before an answer: the old form is dropped there and the
/// newer one ends their process. They do know an HTTP response with an error status, so that is the form. The
/// wire's code stands in a header.
pub(super) fn refusal(to: &Addressee, failure: &Failure, info: &FinalInfo) -> Bytes {
    if to.protocol == ProtocolVersion::V0 {
        return wire::encode(&client::QueryAnswerError {
            error_code: failure.code.code(),
            error: failure.message.as_ref().into(),
            request_id: to.request_id,
            request_tokens_used: info.tokens,
        });
    }
    let error = ApiError::from_wire(failure.code.code(), &failure.message).into_response::<Bytes>();
    let (status, body) = (error.status(), error.body());
    let (length, code) = (body.len().to_string(), failure.code.code().to_string());
    let mut headers: Vec<_> = error
        .headers()
        .iter()
        .map(|(name, value)| http::Header { name: name.as_str().into(), value: TlStr::new(value.as_bytes()) })
        .collect();
    headers.push(http::Header { name: "Content-Length".into(), value: length.as_str().into() });
    headers.push(http::Header { name: ERROR_CODE_HEADER.into(), value: code.as_str().into() });
    let response = wire::encode(&http::Response {
        http_version: "HTTP/1.1".into(),
        status_code: i32::from(status.as_u16()),
        reason: status.canonical_reason().unwrap_or_default().into(),
        headers,
        payload: body,
    });
    head(to, &response, Progress::Done(info))
}

/// A failure after the first answer.
pub(super) fn cut(to: &Addressee, failure: &Failure, info: &FinalInfo) -> Bytes {
    let (request_id, error_code, error) =
        (to.request_id, failure.code.code(), TlStr::from(failure.message.as_ref()));
    match to.protocol {
        ProtocolVersion::V0 => wire::encode(&client::QueryAnswerPartError {
            error_code,
            error,
            request_id,
            request_tokens_used: info.tokens,
        }),
        protocol => wire::encode(&client::QueryAnswerErrorEx {
            request_id,
            error_code,
            error,
            final_info: Some(info.for_version(protocol)),
        }),
    }
}

/// A worker's first answer with the times of this proxy in two more headers.
pub(super) fn stamped(response: http::Response<'_>, started: Now, now: Now) -> Bytes {
    let (start, end) = (seconds_text(started.unix), seconds_text(now.unix));
    let mut response = response;
    response.headers.push(http::Header { name: "X-Cocoon-Proxy-Start".into(), value: start.as_str().into() });
    response.headers.push(http::Header { name: "X-Cocoon-Proxy-End".into(), value: end.as_str().into() });
    wire::encode(&response)
}

impl<'a> Progress<'a> {
    fn is_done(self) -> bool {
        matches!(self, Self::Done(_))
    }

    fn tokens(self) -> TokensUsed {
        match self {
            Self::More(counted) => tokens_used(counted),
            Self::Done(info) => info.tokens,
        }
    }

    fn final_info(self, protocol: ProtocolVersion) -> Option<client::QueryFinalInfo<'a>> {
        match self {
            Self::More(_) => None,
            Self::Done(info) => Some(info.for_version(protocol)),
        }
    }
}

fn tokens_used(usage: &AdjustedUsage) -> TokensUsed {
    let kinds = [usage.prompt, usage.cached, usage.completion, usage.reasoning].map(on_wire);
    let [prompt_tokens_used, cached_tokens_used, completion_tokens_used, reasoning_tokens_used] = kinds;
    TokensUsed {
        prompt_tokens_used,
        cached_tokens_used,
        completion_tokens_used,
        reasoning_tokens_used,
        total_tokens_used: kinds.into_iter().fold(0, i64::saturating_add),
    }
}
