//! An answer on its way to the application.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use gateway::server::AnswerBody;
use gateway::{ApiError, RequestBody};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Instant, Sleep};
use transport::clock::{seconds_text, unix_now};
use units::{AdjustedTokens, AdjustedUsage, NanoTon, RequestId};

use crate::client::timed_out;
use crate::debug::{ClientTimes, DebugWriter, debug_object};
use crate::link::Answering;
use crate::session::{End, FinalInfo, Step};
use crate::shared::Shared;
use crate::stats::Outcome;

const CLIENT_START: HeaderName = HeaderName::from_static("x-cocoon-client-start");
const CLIENT_END: HeaderName = HeaderName::from_static("x-cocoon-client-end");

/// What a request cost, as the proxy charged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The charge by kind.
    pub usage: AdjustedUsage,
    /// The whole charge.
    pub tokens: AdjustedTokens,
    /// The same in coins, at the price of the root contract.
    pub price: NanoTon,
}

/// An answer: its head, and its body as a stream of pieces. Dropping it gives the request up.
pub struct Answer {
    /// The request's id.
    pub id: RequestId,
    /// The engine's status, or a proxy's.
    pub status: StatusCode,
    /// End-to-end headers.
    pub headers: HeaderMap,
    answering: Answering,
    timer: Pin<Box<Sleep>>,
    waiting: VecDeque<Bytes>,
    end: Option<End>,
    is_over: bool,
    /// A proxy's refusal in the form of an answer.
    is_refusal: bool,
    debug: Option<DebugWriter>,
    cost: Option<Cost>,
    record: Record,
}

impl Answer {
    /// An answer that begins with `first`.
    ///
    /// # Errors
    /// [`ApiError`] if that is already its failure.
    pub(crate) fn new(
        id: RequestId,
        first: Step,
        answering: Answering,
        deadline: Instant,
        mut record: Record,
    ) -> Result<Self, ApiError> {
        record.answer_start = unix_now();
        let is_refusal = first.refusal().is_some();
        let (head, bytes, end) = match first {
            Step { head: Some(head), bytes, end } => (head, bytes, end),
            Step { end: Some(End::Failed(error, info)), .. } => {
                record.failed(info.as_ref());
                return Err(error);
            }
            Step { .. } => unreachable!("a first step has a head or fails: see `AnswerState::handle`"),
        };
        let mut headers = head.headers;
        headers.insert(CLIENT_START, seconds_header(record.times_start));
        headers.insert(CLIENT_END, seconds_header(record.answer_start));
        let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let is_events = content_type.to_ascii_lowercase().starts_with(b"text/event-stream");
        let debug = record.enable_debug.then(|| DebugWriter::new(is_events));
        let mut answer = Self {
            id,
            status: head.status,
            headers,
            answering,
            timer: Box::pin(tokio::time::sleep_until(deadline)),
            waiting: VecDeque::new(),
            end: None,
            is_over: false,
            is_refusal,
            debug,
            cost: None,
            record,
        };
        answer.receive(bytes, end);
        Ok(answer)
    }

    /// What the request cost; known once the body has ended.
    #[must_use]
    pub const fn cost(&self) -> Option<Cost> {
        self.cost
    }

    /// The whole body and what it cost.
    ///
    /// # Errors
    /// [`ApiError`] if the answer breaks off.
    pub async fn collect(mut self) -> Result<(Bytes, Option<Cost>), ApiError> {
        let mut whole = BytesMut::new();
        while let Some(bytes) = self.next().await {
            whole.extend_from_slice(&bytes?);
        }
        Ok((whole.freeze(), self.cost))
    }

    /// The body for the server: all of it where it is here already.
    pub(crate) fn into_body(mut self) -> AnswerBody {
        if !matches!(self.end, Some(End::Complete(_))) {
            return AnswerBody::Stream(self.boxed());
        }
        self.finish();
        let mut whole = BytesMut::new();
        match (self.waiting.pop_front(), self.waiting.is_empty()) {
            (None, _) => AnswerBody::Full(Bytes::new()),
            (Some(only), true) => {
                self.record.bytes_sent += only.len() as u64;
                AnswerBody::Full(only)
            }
            (Some(first), false) => {
                whole.extend_from_slice(&first);
                self.waiting.iter().for_each(|bytes| whole.extend_from_slice(bytes));
                self.record.bytes_sent += whole.len() as u64;
                AnswerBody::Full(whole.freeze())
            }
        }
    }

    fn receive(&mut self, bytes: Bytes, end: Option<End>) {
        let bytes = match &mut self.debug {
            Some(writer) => writer.feed(bytes),
            None => bytes,
        };
        if !bytes.is_empty() {
            self.waiting.push_back(bytes);
        }
        self.end = end;
    }

    /// Acts on the end of the answer once its bytes are out.
    fn finish(&mut self) -> Option<ApiError> {
        self.is_over = true;
        match self.end.take()? {
            End::Complete(info) => {
                self.cost = self.record.cost(&info);
                let debug = if self.is_refusal {
                    self.record.failed(Some(&info))
                } else {
                    self.record.succeeded(&info, self.cost)
                };
                if let (Some(writer), Some(debug)) = (self.debug.take(), debug) {
                    self.waiting.push_back(writer.finish(&debug));
                }
                None
            }
            End::Failed(error, info) => {
                self.record.failed(info.as_ref());
                Some(error)
            }
        }
    }
}

impl Stream for Answer {
    type Item = Result<Bytes, ApiError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(bytes) = self.waiting.pop_front() {
                self.record.bytes_sent += bytes.len() as u64;
                return Poll::Ready(Some(Ok(bytes)));
            }
            if self.is_over {
                return Poll::Ready(None);
            }
            if self.end.is_some() {
                if let Some(error) = self.finish() {
                    return Poll::Ready(Some(Err(error)));
                }
                continue;
            }
            // The timer comes first: an answer that never stops coming ends too.
            if self.timer.as_mut().poll(context).is_ready() {
                self.end = Some(End::Failed(timed_out(), None));
                continue;
            }
            let Step { head: _, bytes, end } = std::task::ready!(self.answering.poll_step(context));
            self.receive(bytes, end);
        }
    }
}

/// What is counted and kept of a request, whichever way it ends.
pub(crate) struct Record {
    shared: Arc<Shared>,
    price_per_token: NanoTon,
    started: Instant,
    /// Since 1970.
    times_start: Duration,
    answer_start: Duration,
    enable_debug: bool,
    guid: Option<String>,
    bytes_sent: u64,
    tokens: AdjustedTokens,
    outcome: Outcome,
}

impl Record {
    pub(crate) fn start(shared: Arc<Shared>, request: &RequestBody) -> Self {
        let started = Instant::now();
        shared.stats.started(started.into_std(), request.body_len());
        Self {
            price_per_token: shared.root().params.price_per_token,
            shared,
            started,
            times_start: unix_now(),
            answer_start: Duration::ZERO,
            enable_debug: request.enable_debug(),
            guid: request.request_guid().map(str::to_owned),
            bytes_sent: 0,
            tokens: AdjustedTokens::ZERO,
            outcome: Outcome::Abandoned,
        }
    }

    fn cost(&self, info: &FinalInfo) -> Option<Cost> {
        let tokens = info.tokens.total().ok()?;
        let price = self.price_per_token.charge(tokens).ok()?;
        Some(Cost { usage: info.tokens, tokens, price })
    }

    /// Returns the debug object, if one was asked for.
    fn succeeded(&mut self, info: &FinalInfo, cost: Option<Cost>) -> Option<serde_json::Value> {
        self.outcome = Outcome::Success;
        self.tokens = cost.map_or(AdjustedTokens::ZERO, |cost| cost.tokens);
        self.debug(Some(info))
    }

    /// Returns the debug object, if one was asked for.
    pub(crate) fn failed(&mut self, info: Option<&FinalInfo>) -> Option<serde_json::Value> {
        self.outcome = Outcome::Failed;
        self.debug(info)
    }

    fn debug(&self, info: Option<&FinalInfo>) -> Option<serde_json::Value> {
        if !self.enable_debug {
            return None;
        }
        let times = [self.times_start, self.answer_start, unix_now()].map(|time| time.as_secs_f64());
        let [start, answer_start, answer_end] = times;
        let debug = debug_object(ClientTimes { start, answer_start, answer_end }, info);
        if let Some(guid) = &self.guid {
            self.shared.debug_log.keep(guid, &debug);
        }
        Some(debug)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.started);
        self.shared.stats.ended(now.into_std(), self.outcome, took, self.bytes_sent, self.tokens);
    }
}

fn seconds_header(time: Duration) -> HeaderValue {
    HeaderValue::try_from(seconds_text(time)).expect("digits are legal in a header")
}
