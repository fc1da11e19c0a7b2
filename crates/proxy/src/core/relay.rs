//! From a worker's answers to a client's.

use market::Ending;
use transport::flow::{PART_LEN_MAX, WINDOW, part_cost};
use units::{AdjustedTokens, AdjustedUsage, ProtocolVersion};
use wire::frame::MESSAGE_LEN_MAX;
use wire::{StatusCode, TlStr, TokensUsed, http, proxy, stream, worker};

use super::answer::{self, Failure, Progress, WorkerTold};
use super::client_link::Breach;
use super::moving::is_movable_status;
use super::running::{Last, RequestKey};
use super::{Core, LinkId, Now, Outcome, delivery};

/// A worker's message about a request, whatever its version.
struct WorkerAnswer<'a> {
    hop_id: &'a [u8; 32],
    piece: Piece<'a>,
    counted: Option<&'a TokensUsed>,
    is_last: bool,
    told: WorkerTold<'a>,
}

enum Piece<'a> {
    Head(&'a [u8]),
    Part(&'a [u8]),
    Failure(i32, TlStr<'a>),
}

/// Longest text taken over from a worker, in bytes.
const WORKER_TEXT_LEN_MAX: usize = 2000;

/// Longest piece of an answer, in bytes: a client's link closes on a message that fits into no frame, so there has to
/// be room for what we add to the last one.
const ANSWER_LEN_MAX: usize = MESSAGE_LEN_MAX - 64 * 1024;

/// Longest head of an answer to a client of version 3, in bytes: it has to fit the window.
const STREAM_HEAD_LEN_MAX: usize = WINDOW as usize / 2;

const ANSWER_TOO_LONG: &str = "worker: a piece of the answer is too long";

impl Core {
    pub(super) fn worker_answered(
        &mut self,
        link: LinkId,
        message: &worker::ToProxy<'_>,
        now: Now,
    ) -> Result<(), Breach> {
        let Some(answer) = WorkerAnswer::read(message) else { return Ok(()) };
        // An answer to a request that has ended, for example by its timer, is normal.
        let key = self.workers.get(&link).and_then(|worker| worker.running.get(answer.hop_id)).copied();
        let Some((key, request)) = key.and_then(|key| Some((key, self.running.get_mut(key)?))) else {
            return Ok(());
        };
        if let Some(tokens) = answer.counted {
            let Some(counted) = read_tokens(tokens) else {
                self.misbehaved(key, "worker: token counts contradict each other", now);
                return Err("token counts contradict each other");
            };
            request.counted = counted;
        }
        let worker_cost = match answer.piece {
            Piece::Head(bytes) | Piece::Part(bytes) => part_cost(bytes.len()),
            Piece::Failure(..) => 0,
        };
        if let Some(inflow) = &mut request.inflow
            && inflow.receive(worker_cost).is_err()
        {
            // Its own stream is all that suffers.
            self.misbehaved(key, "worker: more of the answer than it was let send", now);
            return Ok(());
        }
        match (answer.piece, request.first_answer) {
            (Piece::Head(response), None) => {
                let Ok(mut response) = wire::decode::<http::Response<'_>>(response) else {
                    self.misbehaved(key, "worker: the answer is not an HTTP response", now);
                    return Err("answer is not an HTTP response");
                };
                if is_movable_status(response.status_code) && self.try_another(key, Ending::Failed, now) {
                    return Ok(());
                }
                self.forget_kept(key);
                let Some(request) = self.running.get_mut(key) else { return Ok(()) };
                request.first_answer = Some(now.unix);
                request.status = response.status_code;
                request.bytes_sent += response.payload.len();
                let is_stream = request.client.protocol == ProtocolVersion::V3;
                // What is longer than a part follows in parts.
                let cut = (is_stream && response.payload.len() > PART_LEN_MAX)
                    .then(|| std::mem::take(&mut response.payload));
                let response = answer::stamped(response, request.started, now);
                let response_len_max = if is_stream { STREAM_HEAD_LEN_MAX } else { ANSWER_LEN_MAX };
                if response.len() > response_len_max {
                    self.misbehaved(key, ANSWER_TOO_LONG, now);
                    return Err(ANSWER_TOO_LONG);
                }
                if answer.is_last && cut.is_none() {
                    self.end(key, Outcome::Success, Last::Head(&response), &answer.told, now);
                } else {
                    let message = answer::head(&request.client, &response, Progress::More(&request.counted));
                    let answer_len = Some(response.len());
                    self.deliver(key, delivery::Piece { message, answer_len, worker_cost }, now);
                }
                if let Some(payload) = cut {
                    self.relay_body(key, payload, answer.is_last, &answer.told, 0, now);
                }
            }
            (Piece::Part(body), Some(_)) if body.len() > ANSWER_LEN_MAX => {
                self.misbehaved(key, ANSWER_TOO_LONG, now);
                return Err(ANSWER_TOO_LONG);
            }
            (Piece::Part(body), Some(_)) => {
                request.bytes_sent += body.len();
                self.relay_body(key, body, answer.is_last, &answer.told, worker_cost, now);
            }
            (Piece::Failure(code, text), _) => {
                let text = text.to_string_lossy();
                let text = &text[..text.floor_char_boundary(WORKER_TEXT_LEN_MAX)];
                let failure = Failure::new(StatusCode::from(code), text.to_owned());
                let is_cancelled = request.is_given_up && failure.code == StatusCode::CANCELLED;
                let outcome = if is_cancelled { Outcome::Cancelled } else { Outcome::WorkerFailed };
                self.end(key, outcome, Last::Failure(failure), &answer.told, now);
            }
            (Piece::Head(_), Some(_)) | (Piece::Part(_), None) => {
                self.misbehaved(key, "out of order answer parts", now);
            }
        }
        Ok(())
    }

    /// A worker says what an answer costs so far: what is charged, should nothing more be heard of it.
    pub(super) fn usage_so_far(
        &mut self,
        link: LinkId,
        usage: &stream::Usage,
        now: Now,
    ) -> Result<(), Breach> {
        let key = self.workers.get(&link).and_then(|worker| worker.running.get(&usage.request_id)).copied();
        let Some((key, request)) = key.and_then(|key| Some((key, self.running.get_mut(key)?))) else {
            return Ok(());
        };
        // Workers before version 3 do not know this message.
        if request.inflow.is_none() {
            return Ok(());
        }
        let Some(counted) = read_tokens(&usage.tokens_used) else {
            self.misbehaved(key, "worker: token counts contradict each other", now);
            return Err("token counts contradict each other");
        };
        request.counted = counted;
        Ok(())
    }

    /// Hands on a piece of the body, to a client of version 3 in parts of bounded length.
    fn relay_body(
        &mut self,
        key: RequestKey,
        mut body: &[u8],
        is_last: bool,
        told: &WorkerTold<'_>,
        worker_cost: u32,
        now: Now,
    ) {
        let Some(request) = self.running.get_mut(key) else { return };
        let (client, counted) = (request.client, request.counted);
        let piece = |part: &[u8], worker_cost| {
            let message = answer::part(&client, part, Progress::More(&counted));
            delivery::Piece { message, answer_len: Some(part.len()), worker_cost }
        };
        while client.protocol == ProtocolVersion::V3 && body.len() > PART_LEN_MAX {
            let (part, rest) = body.split_at(PART_LEN_MAX);
            self.deliver(key, piece(part, 0), now);
            body = rest;
        }
        if is_last {
            self.end(key, Outcome::Success, Last::Part(body), told, now);
        } else {
            self.deliver(key, piece(body, worker_cost), now);
        }
    }
}

impl<'a> WorkerAnswer<'a> {
    /// `None` for messages that are no answers.
    fn read(message: &'a worker::ToProxy<'a>) -> Option<Self> {
        let old = |hop_id, piece, tokens, is_last| {
            Some(Self { hop_id, piece, counted: Some(tokens), is_last, told: WorkerTold::default() })
        };
        let new = |hop_id, piece, info: &'a Option<proxy::QueryFinalInfo<'a>>| {
            let told = info.as_ref().map_or_else(WorkerTold::default, |info| WorkerTold {
                debug: info.worker_debug,
                times: info.times,
            });
            let counted = info.as_ref().map(|info| &info.tokens_used);
            Some(Self { hop_id, piece, counted, is_last: info.is_some(), told })
        };
        match message {
            worker::ToProxy::QueryAnswer(answer) => {
                old(&answer.request_id, Piece::Head(answer.answer), &answer.tokens_used, answer.is_completed)
            }
            worker::ToProxy::QueryAnswerPart(answer) => {
                old(&answer.request_id, Piece::Part(answer.answer), &answer.tokens_used, answer.is_completed)
            }
            worker::ToProxy::QueryAnswerError(answer) => {
                let piece = Piece::Failure(answer.error_code, answer.error);
                old(&answer.request_id, piece, &answer.tokens_used, true)
            }
            worker::ToProxy::QueryAnswerPartError(answer) => {
                let piece = Piece::Failure(answer.error_code, answer.error);
                old(&answer.request_id, piece, &answer.tokens_used, true)
            }
            worker::ToProxy::QueryAnswerEx(answer) => {
                new(&answer.request_id, Piece::Head(answer.answer), &answer.final_info)
            }
            worker::ToProxy::QueryAnswerPartEx(answer) => {
                new(&answer.request_id, Piece::Part(answer.answer), &answer.final_info)
            }
            worker::ToProxy::QueryAnswerErrorEx(answer) => {
                let piece = Piece::Failure(answer.error_code, answer.error);
                new(&answer.request_id, piece, &answer.final_info)
            }
            worker::ToProxy::EnabledDisabled(_)
            | worker::ToProxy::NewCoefficient(_)
            | worker::ToProxy::Capabilities(_)
            | worker::ToProxy::Credit(_)
            | worker::ToProxy::Usage(_) => None,
        }
    }
}

/// A worker's counts, unless one is negative or the total is not the sum.
fn read_tokens(tokens: &TokensUsed) -> Option<AdjustedUsage> {
    let count = |number: i64| u64::try_from(number).ok().map(AdjustedTokens::new);
    let usage = AdjustedUsage {
        prompt: count(tokens.prompt_tokens_used)?,
        cached: count(tokens.cached_tokens_used)?,
        completion: count(tokens.completion_tokens_used)?,
        reasoning: count(tokens.reasoning_tokens_used)?,
    };
    let total = count(tokens.total_tokens_used)?;
    (usage.total() == Ok(total)).then_some(usage)
}
