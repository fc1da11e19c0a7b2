//! From a worker's answers to a client's.

use units::{AdjustedTokens, AdjustedUsage};
use wire::frame::MESSAGE_LEN_MAX;
use wire::{StatusCode, TlStr, TokensUsed, http, proxy, worker};

use super::answer::{self, Failure, Progress, WorkerTold};
use super::client_link::Breach;
use super::running::Last;
use super::{Core, LinkId, Now, Outcome, Undelivered};

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
        match (answer.piece, request.first_answer) {
            (Piece::Head(response), None) => {
                let Ok(response) = wire::decode::<http::Response<'_>>(response) else {
                    self.misbehaved(key, "worker: the answer is not an HTTP response", now);
                    return Err("answer is not an HTTP response");
                };
                request.first_answer = Some(now.unix);
                request.bytes_sent += response.payload.len();
                let response = answer::stamped(response, request.started, now);
                if response.len() > ANSWER_LEN_MAX {
                    self.misbehaved(key, ANSWER_TOO_LONG, now);
                    return Err(ANSWER_TOO_LONG);
                }
                if answer.is_last {
                    self.end(key, Outcome::Success, Last::Head(&response), &answer.told, now);
                } else if let Some(link) = request.listener() {
                    let message = answer::head(&request.client, &response, Progress::More(&request.counted));
                    self.send(link, message, Undelivered::CloseLink);
                }
            }
            (Piece::Part(body), Some(_)) if body.len() > ANSWER_LEN_MAX => {
                self.misbehaved(key, ANSWER_TOO_LONG, now);
                return Err(ANSWER_TOO_LONG);
            }
            (Piece::Part(body), Some(_)) => {
                request.bytes_sent += body.len();
                if answer.is_last {
                    self.end(key, Outcome::Success, Last::Part(body), &answer.told, now);
                } else if let Some(link) = request.listener() {
                    let message = answer::part(&request.client, body, Progress::More(&request.counted));
                    self.send(link, message, Undelivered::CloseLink);
                }
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
