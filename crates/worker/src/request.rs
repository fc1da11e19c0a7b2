//! One request: from the proxy's message to its one final answer.
//!
//! Dropping the task at any point ends the work in the engine and gives the place back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway::{ApiError, Closing, Route, WorkerRequest};
use http::StatusCode as HttpStatus;
use ledger::PriceTable;
use node::failpoint;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use transport::clock::{seconds_text, unix_now};
use transport::flow::PART_LEN_MAX;
use transport::{Link, SendError};
use units::Coefficient;
use wire::{StatusCode, TlStr};

use crate::answer::{AnswerForm, FinalInfo};
use crate::backend::{AnswerBody, EngineAnswer, EngineError, EngineRequest};
use crate::bill::{Bill, Cost};
use crate::model::Model;
use crate::stats::{Finished, Stats};
use crate::stream::Stream;

/// Of the time that the proxy gives, the engine gets so much; the rest is for telling that it was too slow.
const ENGINE_SHARE: f64 = 0.95;

/// Longer timeouts count as this long.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest body that leaves with its head: they have to fit one part of version 3.
const WHOLE_LEN_MAX: usize = PART_LEN_MAX / 2;

/// So many bytes may follow after the limit until an answer can be cut between two events; what goes on is broken off.
const BEYOND_LEN_MAX: usize = 64 * 1024;

/// As deployed workers say it.
const TIMEOUT_TEXT: &str = "worker: timeout";

/// A request as a proxy sent it, before anything was checked. It has no `Debug`: it holds a prompt.
pub(crate) struct Received {
    pub(crate) form: AnswerForm,
    /// The HTTP request in TL; where it continues in parts, its beginning.
    pub(crate) query: Bytes,
    /// Length of the whole of it in bytes.
    pub(crate) query_len: usize,
    /// Seconds that the proxy waits, as it says.
    pub(crate) timeout: f64,
    pub(crate) enable_debug: bool,
    /// When it came, since 1970.
    pub(crate) start: Duration,
}

/// What all requests of one link have in common.
pub(crate) struct Work {
    pub(crate) link: Link,
    pub(crate) model: Arc<Model>,
    pub(crate) prices: PriceTable,
    pub(crate) stats: Arc<Stats>,
}

/// On which terms a request is worked on.
pub(crate) struct Admitted {
    pub(crate) coefficient: Coefficient,
    /// How long the proxy waits.
    pub(crate) time: Duration,
    /// Held to the end.
    pub(crate) place: OwnedSemaphorePermit,
    /// Held to the end: as long as it is, no other request of the link has this one's name.
    pub(crate) name: Arc<Stream>,
    /// What the proxy says meanwhile; nothing before version 3.
    pub(crate) stream: Option<Arc<Stream>>,
}

/// Why a request is not worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// All places are taken.
    Busy,
    /// The price is none that this worker asked for.
    Price,
    /// The proxy gives no time for it.
    NoTime,
    /// The worker is shutting down.
    Draining,
    /// Another request of that name runs.
    IdInUse,
}

impl Refused {
    /// Code and text, as deployed peers know them where they know them.
    const fn wire(self) -> (StatusCode, &'static str) {
        match self {
            Self::Busy => (StatusCode::ERROR, "too many active queries"),
            Self::Price => (StatusCode::ERROR, "worker: the coefficient was never offered"),
            Self::NoTime => (StatusCode::TIMEOUT, TIMEOUT_TEXT),
            Self::IdInUse => (StatusCode::PROTOCOL_VIOLATION, "worker: request id is in use"),
            Self::Draining => (StatusCode::CANCELLED, "worker is shutting down"),
        }
    }
}

/// How a request fails after it was accepted.
#[derive(Debug)]
enum Failure {
    /// Not a request that this worker may hand to its engine. The text is for the application that sent it.
    Invalid(String),
    Engine(EngineError),
    Timeout,
    /// The engine goes on beyond the request's limit, and the answer can end nowhere.
    Endless,
    /// The proxy wants no more of the answer.
    Cancelled,
    /// Nobody is left to answer to.
    LinkLost,
}

impl Received {
    /// How long the proxy waits; `None` if that is no time at all. What is longer than a duration can be is not.
    pub(crate) fn time(&self) -> Option<Duration> {
        let time = match self.timeout > 0.0 {
            true => Duration::try_from_secs_f64(self.timeout).unwrap_or(TIMEOUT_MAX).min(TIMEOUT_MAX),
            false => Duration::ZERO,
        };
        (!time.is_zero()).then_some(time)
    }

    /// Answers that the request is not worked on.
    pub(crate) async fn refuse(self, refused: Refused, work: &Work) {
        let (code, message) = refused.wire();
        let end = FinalInfo { start: self.start, end: unix_now(), ..FinalInfo::default() };
        work.stats.record(&Finished::default());
        // A lost link needs no answer.
        failpoint::pass("worker-end");
        let _lost = work.link.send(self.form.error(code, message, false, &end)).await;
    }

    /// The request as it begins to be worked on.
    pub(crate) fn begin(self, work: Arc<Work>, admitted: Admitted) -> Running {
        let Admitted { coefficient, time, place, name, stream } = admitted;
        let now = Instant::now();
        Running {
            received: self,
            work,
            coefficient,
            began: now,
            deadline: now + time,
            engine_deadline: now + time.mul_f64(ENGINE_SHARE),
            head_at: None,
            has_begun: false,
            stream,
            bill: None,
            shape: None,
            told: Told { at: now, parts_since: 0, cost: Cost::default() },
            bytes_received: 0,
            bytes_sent: 0,
            ended: None,
            _place: place,
            _name: name,
        }
    }
}

/// How the body of an answer travels.
#[derive(Clone, Copy)]
enum Body<'a> {
    /// All of it, with the head.
    Whole(&'a [u8]),
    /// In messages of its own.
    InParts,
}

/// What the proxy was told last of a running answer's cost.
struct Told {
    at: Instant,
    parts_since: u32,
    cost: Cost,
}

/// The proxy hears of the cost so far after this time, or this many parts: should the link be lost, that is charged.
/// Short answers need no such word.
const USAGE_INTERVAL: Duration = Duration::from_millis(250);
const USAGE_PARTS_MAX: u32 = 64;

/// A request in progress. Counted when dropped, however it ends.
pub(crate) struct Running {
    received: Received,
    work: Arc<Work>,
    coefficient: Coefficient,
    began: Instant,
    deadline: Instant,
    engine_deadline: Instant,
    /// When the head of the engine's answer came, since 1970.
    head_at: Option<Duration>,
    /// The head was sent on. Before that nothing is delivered, so nothing is charged.
    has_begun: bool,
    /// What the proxy says meanwhile; nothing before version 3.
    stream: Option<Arc<Stream>>,
    /// What is being charged; nothing for refusals of the engine and for empty answers.
    bill: Option<Bill>,
    /// Route and number of answers, for an end that the engine does not come to.
    shape: Option<(Route, u32)>,
    told: Told,
    bytes_received: usize,
    bytes_sent: usize,
    /// The final answer, and whether it is a success.
    ended: Option<(bool, FinalInfo)>,
    _place: OwnedSemaphorePermit,
    _name: Arc<Stream>,
}

impl Running {
    /// Works on the request and answers it.
    pub(crate) async fn run(&mut self) {
        let stream = self.stream.clone();
        let cancelled = async {
            match stream {
                Some(stream) => stream.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let engine_deadline = self.engine_deadline;
        let answered = tokio::select! {
            answered = timeout_at(engine_deadline, self.answer()) => answered,
            () = cancelled => Ok(Err(Failure::Cancelled)),
        };
        // From here on the engine's connection is closed.
        let failure = match answered {
            Ok(Ok(())) => return,
            Ok(Err(failure)) => failure,
            Err(_elapsed) => Failure::Timeout,
        };
        let Some((code, message)) = self.describe(&failure) else { return };
        let end = self.final_info();
        let form = self.received.form;
        let error = form.error(code, &message, self.has_begun, &end);
        self.ended = Some((false, end));
        failpoint::pass("worker-end");
        let _too_late_or_lost = timeout_at(self.deadline, self.work.link.send(error)).await;
    }

    async fn answer(&mut self) -> Result<(), Failure> {
        self.collect_query().await?;
        let request = self.engine_request()?;
        let answer = self.work.model.backend.run(request).await.map_err(Failure::Engine)?;
        let EngineAnswer { status, headers, mut body } = answer;
        let is_complete = body.is_end();
        self.head_at = Some(unix_now());
        if is_complete || !status.is_success() {
            self.bill = None;
        }
        if let Some(whole) = body.whole(WHOLE_LEN_MAX) {
            return self.answer_whole(status, &headers, whole).await;
        }
        let head = self.head(status, &headers, if is_complete { Body::Whole(&[]) } else { Body::InParts });
        if is_complete {
            self.room(head.len()).await;
            return self.finish(|form, end| form.head(&head, Some(end))).await;
        }
        self.room(head.len()).await;
        self.send(self.received.form.head(&head, None)).await?;
        self.has_begun = true;
        self.relay(&mut body).await
    }

    /// An answer that came at once leaves as one message, not as a head and a part.
    async fn answer_whole(
        &mut self,
        status: HttpStatus,
        headers: &http::HeaderMap,
        whole: Bytes,
    ) -> Result<(), Failure> {
        let whole = match &mut self.bill {
            Some(bill) => bill.pass(whole),
            None => whole,
        };
        self.bytes_sent += whole.len();
        let head = self.head(status, headers, Body::Whole(&whole));
        self.room(head.len()).await;
        // What the message delivers is charged with it.
        self.has_begun = true;
        self.finish(|form, end| form.head(&head, Some(end))).await
    }

    /// Waits for the rest of a query that comes in parts.
    async fn collect_query(&mut self) -> Result<(), Failure> {
        if self.received.query.len() < self.received.query_len
            && let Some(stream) = &self.stream
        {
            let whole = stream.query().await.map_err(|fault| Failure::Invalid(fault.to_string()))?;
            self.received.query = whole;
        }
        Ok(())
    }

    /// Checks what the proxy sent and prepares it for the engine.
    fn engine_request(&mut self) -> Result<EngineRequest, Failure> {
        let query = &self.received.query;
        let request: wire::http::Request<'_> =
            wire::decode(query).map_err(|error| Failure::Invalid(error.to_string()))?;
        self.bytes_received = request.payload.len();
        let body = query.slice_ref(request.payload);
        let served = self.work.model.name.base();
        let (method, url) = (request.method.as_bytes(), path_of(request.url));
        let checked = gateway::worker_request(method, url, body, served);
        let WorkerRequest { route, body, choices, tokens_max, .. } = checked.map_err(invalid)?;
        self.shape = Some((route, choices));
        let lines = request.headers.iter().map(|line| (line.name.as_bytes(), line.value.as_bytes()));
        let headers = gateway::headers::end_to_end(lines);
        self.bill = Some(Bill::new(self.work.prices, self.coefficient, body.len(), tokens_max));
        Ok(EngineRequest { path: route.path(), headers, body })
    }

    /// The response head in TL. It frames the body for an application, as deployed workers do: in chunks when parts
    /// follow.
    fn head(&self, status: HttpStatus, headers: &http::HeaderMap, body: Body<'_>) -> Bytes {
        let (start, now) = (seconds_text(self.received.start), seconds_text(unix_now()));
        let mut lines: Vec<wire::http::Header<'_>> =
            headers.iter().map(|(name, value)| header(name.as_str(), TlStr::new(value.as_bytes()))).collect();
        lines.push(header("X-Cocoon-Worker-Start", start.as_str().into()));
        lines.push(header("X-Cocoon-Worker-End", now.as_str().into()));
        let (payload, len) = match body {
            Body::InParts => (&[][..], String::new()),
            Body::Whole(whole) => (whole, whole.len().to_string()),
        };
        match (body, status) {
            (Body::InParts, _) => lines.push(header("Transfer-Encoding", "chunked".into())),
            // RFC 9110 section 8.6 forbids a length here.
            (Body::Whole(_), HttpStatus::NO_CONTENT) => {}
            (Body::Whole(_), _) => lines.push(header("Content-Length", len.as_str().into())),
        }
        wire::encode(&wire::http::Response {
            http_version: "HTTP/1.1".into(),
            status_code: status.as_u16().into(),
            reason: status.canonical_reason().unwrap_or("").into(),
            headers: lines,
            payload,
        })
    }

    /// Passes the body on, each piece when it comes. A slow link or a slow reader slows the reading, and so the engine.
    async fn relay(&mut self, body: &mut AnswerBody) -> Result<(), Failure> {
        // Bytes after the answer went beyond its limit.
        let (mut beyond, mut is_cut) = (0, false);
        while let Some(piece) = body.next().await {
            let mut piece = piece.map_err(Failure::Engine)?;
            if let Some(bill) = &mut self.bill {
                piece = bill.pass(piece);
            }
            let is_over = self.bill.as_ref().is_some_and(Bill::is_over_limit);
            if is_over {
                self.work.model.warn_of_excess();
                beyond += piece.len();
                if let Some(closing) = self.closing() {
                    piece = [piece, closing].concat().into();
                    is_cut = true;
                } else if beyond > BEYOND_LEN_MAX {
                    return Err(Failure::Endless);
                }
            }
            self.bytes_sent += piece.len();
            let is_last = is_cut || body.is_end();
            // In version 3 no part keeps the link for long.
            while self.stream.is_some() && piece.len() > PART_LEN_MAX {
                let part = piece.split_to(PART_LEN_MAX);
                self.room(part.len()).await;
                self.send(self.received.form.part(&part, None)).await?;
            }
            self.room(piece.len()).await;
            if is_last {
                return self.finish(|form, end| form.part(&piece, Some(end))).await;
            }
            self.send(self.received.form.part(&piece, None)).await?;
            self.tell_usage().await?;
        }
        self.room(0).await;
        self.finish(|form, end| form.part(&[], Some(end))).await
    }

    /// The end of a stream that has gone beyond its limit, if it can end here. It costs what the request allowed.
    fn closing(&mut self) -> Option<Bytes> {
        let bill = self.bill.as_mut().filter(|bill| bill.is_between_events())?;
        let (route, choices) = self.shape?;
        let closing = Closing {
            route,
            choices,
            model: self.work.model.name.base(),
            request_id: self.received.form.request_id,
            created: unix_now(),
            usage: bill.usage(),
        };
        Some(bill.pass(closing.events()))
    }

    /// In version 3, says now and then what the answer costs so far.
    async fn tell_usage(&mut self) -> Result<(), Failure> {
        let (Some(_), Some(bill)) = (&self.stream, &self.bill) else { return Ok(()) };
        self.told.parts_since += 1;
        if self.told.parts_since < USAGE_PARTS_MAX && self.told.at.elapsed() < USAGE_INTERVAL {
            return Ok(());
        }
        (self.told.at, self.told.parts_since) = (Instant::now(), 0);
        // A usage without a price is reported with the end.
        match bill.current() {
            Ok((cost, _is_estimated)) if cost != self.told.cost => {
                self.told.cost = cost;
                self.send(self.received.form.usage(cost)).await
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Waits until the proxy takes `len` more bytes of the answer. Meanwhile nothing is read from the engine.
    async fn room(&self, len: usize) {
        if let Some(stream) = &self.stream {
            stream.room(len).await;
        }
    }

    async fn finish(&mut self, answer: impl FnOnce(AnswerForm, &FinalInfo) -> Bytes) -> Result<(), Failure> {
        let end = self.final_info();
        let answer = answer(self.received.form, &end);
        failpoint::pass("worker-end");
        self.send(answer).await?;
        self.ended = Some((true, end));
        Ok(())
    }

    /// What the request cost up to now.
    fn final_info(&self) -> FinalInfo {
        let now = unix_now();
        let mut info = FinalInfo { start: self.received.start, end: now, ..FinalInfo::default() };
        if self.received.enable_debug {
            let seconds = |at: Duration| at.as_secs_f64();
            let stats = json!({
                "type": "worker_stats",
                "start_time": seconds(self.received.start),
                "answer_receive_start_at": seconds(self.head_at.unwrap_or_default()),
                "answer_receive_end_at": seconds(now),
            });
            info.debug = Some(stats.to_string());
        }
        let Some(bill) = self.bill.as_ref().filter(|_| self.has_begun) else { return info };
        match bill.current() {
            Ok((cost, is_estimated)) => {
                info.cost = cost;
                if is_estimated {
                    self.work.model.warn_of_estimates();
                }
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the engine's usage has no price: nothing is charged");
            }
        }
        info
    }

    async fn send(&self, message: Bytes) -> Result<(), Failure> {
        failpoint::pass("worker-answer");
        match self.work.link.send(message).await {
            Ok(()) => Ok(()),
            // Pieces of an answer are far smaller than a frame.
            Err(SendError::Closed | SendError::QueueFull | SendError::TooLarge { .. }) => {
                Err(Failure::LinkLost)
            }
        }
    }

    /// What the proxy is told, in texts that deployed clients know.
    fn describe(&self, failure: &Failure) -> Option<(StatusCode, String)> {
        Some(match failure {
            Failure::Invalid(why) => {
                (StatusCode::PROTOCOL_VIOLATION, format!("worker: invalid http request: {why}"))
            }
            Failure::Timeout => (StatusCode::TIMEOUT, TIMEOUT_TEXT.to_owned()),
            Failure::Endless => {
                let message = "worker: failed to get payload: the engine generates more than max_tokens";
                (StatusCode::FAILURE, message.to_owned())
            }
            Failure::Cancelled => (StatusCode::CANCELLED, "worker: cancelled".to_owned()),
            Failure::Engine(error) => {
                let request_id = self.received.form.request_id;
                let source = error as &dyn std::error::Error;
                tracing::warn!(%request_id, model = %self.work.model.name, error = source, "the engine failed");
                if let EngineError::Unreachable { .. } = error {
                    // The next probe would find out too, but requests keep coming until then.
                    self.work.model.change(|state| state.is_engine_up = false);
                }
                let what = if self.has_begun { "failed to get payload" } else { "http failed" };
                (StatusCode::FAILURE, format!("worker: {what}: {error}"))
            }
            Failure::LinkLost => return None,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (is_success, end) = self.ended.take().unwrap_or_default();
        self.work.stats.record(&Finished {
            is_success,
            bytes_received: self.bytes_received,
            bytes_sent: self.bytes_sent,
            duration: self.began.elapsed(),
            cost: end.cost,
        });
    }
}

/// Deployed workers look at a URL from its first `/` on.
fn path_of(url: TlStr<'_>) -> &[u8] {
    let url = url.as_bytes();
    let start = url.iter().position(|byte| *byte == b'/').unwrap_or(url.len());
    &url[start..]
}

fn invalid(error: ApiError) -> Failure {
    Failure::Invalid(error.message().to_owned())
}

fn header<'a>(name: &'a str, value: TlStr<'a>) -> wire::http::Header<'a> {
    wire::http::Header { name: name.into(), value }
}
