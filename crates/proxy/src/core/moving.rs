//! A request whose worker failed before the answer began goes to another one.
//!
//! Its bytes are kept until then, within a budget over all requests; what does not fit runs all the same and is not
//! moved. A long query that is still coming goes to the other worker from its beginning, as far as it has come. The client
//! hears nothing of it, pays once, and only the worker that answers earns.

use bytes::Bytes;
use gateway::{ApiError, ErrorKind};
use market::{Ending, WorkerId};
use units::{AdjustedUsage, ProtocolVersion};
use wire::{client, http};

use super::accounts::Side;
use super::admission::errand;
use super::client_link::in_full;
use super::parts::Parts;
use super::running::{Last, Request, RequestKey};
use super::{Core, LinkId, Now, Outcome};

/// The bytes of requests that may have to move.
#[derive(Debug, Default)]
pub(super) struct Kept {
    len: usize,
}

/// A request as its client sent it.
pub(super) enum KeptRequest {
    /// A boxed object.
    Message(Bytes),
    /// The run message that it began with, and its query, which came in parts.
    Parts { run: Bytes, query: Parts },
}

/// It holds a prompt.
impl std::fmt::Debug for KeptRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptRequest").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Shorter messages are copied: they share a read buffer, which they would keep from being used again.
const COPIED_LEN_MAX: usize = 16 * 1024;

/// A request is tried at so many workers.
const WORKERS_MAX: usize = 3;

impl Kept {
    /// Keeps a message if it fits the budget.
    pub(super) fn keep(&mut self, message: &Bytes, len_max: usize) -> Option<KeptRequest> {
        let is_short = message.len() <= COPIED_LEN_MAX;
        self.add(message.len(), len_max)?;
        Some(KeptRequest::Message(if is_short { Bytes::copy_from_slice(message) } else { message.clone() }))
    }

    /// Keeps a request whose query came in parts, if it fits the budget.
    pub(super) fn keep_parts(&mut self, run: Bytes, query: Parts, len_max: usize) -> Option<KeptRequest> {
        let request = KeptRequest::Parts { run, query };
        self.add(request.len(), len_max)?;
        Some(request)
    }

    fn add(&mut self, len: usize, len_max: usize) -> Option<()> {
        self.len = self.len.checked_add(len).filter(|len| *len <= len_max)?;
        Some(())
    }

    pub(super) fn forget(&mut self, request: KeptRequest) {
        self.len -= request.len();
    }

    /// Bytes that are kept.
    pub(super) const fn len(&self) -> usize {
        self.len
    }
}

impl KeptRequest {
    fn len(&self) -> usize {
        match self {
            Self::Message(message) => message.len(),
            Self::Parts { run, query } => run.len() + query.end(),
        }
    }

    /// The message itself, in one piece.
    pub(super) fn message(&self) -> Bytes {
        match self {
            Self::Message(message) => message.clone(),
            Self::Parts { run, query } => {
                let whole = query.first(query.end());
                let run: client::RunQueryEx<'_> = wire::decode(run).expect("it was read when it came");
                wire::encode(&client::RunQueryEx { query: &whole, ..run })
            }
        }
    }
}

/// What a client asks for in a message that was kept.
pub(super) fn kept_query(message: &[u8]) -> Option<client::RunQueryEx<'_>> {
    match wire::decode(message) {
        Ok(client::Packet::RunQueryEx(query)) => Some(query),
        Ok(client::Packet::RunQuery(query)) => Some(in_full(query)),
        _ => None,
    }
}

/// Whether another worker may well answer what this one did not.
pub(super) fn is_movable(outcome: Outcome, last: &Last<'_>) -> bool {
    match (outcome, last) {
        (Outcome::WorkerLost | Outcome::WorkerMisbehaved | Outcome::Rejected, _) => true,
        (Outcome::WorkerFailed, Last::Failure(failure)) => {
            let kind = ApiError::from_wire(failure.code.code(), &failure.message).kind();
            kind.row().retryable && kind != ErrorKind::Timeout
        }
        _ => false,
    }
}

/// Whether an answer of this status says that the engine is out of order or too busy, and not what it thinks of the
/// request.
pub(super) const fn is_movable_status(status: i32) -> bool {
    matches!(status, 502..=504)
}

impl Core {
    /// Lets another worker try, after the request's own one came to `ending`. Returns whether one does; if none does,
    /// nothing changed.
    pub(super) fn try_another(&mut self, key: RequestKey, ending: Ending, now: Now) -> bool {
        let takes_part = self.takes_part();
        let Some((mut request, hold)) = self.running.take(key) else { return false };
        let may_move = takes_part && request.may_move(now);
        // The client's link is there as long as somebody listens.
        let upload = request.client_link.map(|link| (link, request.client.request_id)).filter(|_| may_move);
        let upload = upload.and_then(|at| self.collected_run(at.0, &at.1).map(|(run, len)| (at, run, len)));
        let (message, query_len) = match (&upload, &request.kept) {
            (Some((_, run, len)), _) => (run.clone(), Some(*len)),
            (None, Some(kept)) if may_move => (kept.message(), None),
            (None, _) => {
                self.running.put_back(key, request, hold);
                return false;
            }
        };
        // So that the market knows better than to name the same one again.
        let worker = WorkerId::new(request.worker_link.0);
        self.market.finished(worker, ending, now.instant);
        let next = kept_query(&message).and_then(|query| {
            let query_len = query_len.unwrap_or(query.query.len());
            let http = http::RequestStart::read(query.query, query_len).ok();
            let wish = self.read_wish(&query, query_len, request.wants_notes, http.as_ref()).ok()?;
            let post = self.find_worker(&wish, now).ok()?;
            let is_new = post.link != request.worker_link && !request.tried.contains(&post.link);
            (is_new && self.ledger.reassign(&hold, post.account).is_ok()).then_some((wish, post))
        });
        let (moves, left, left_link) = (next.is_some(), request.worker_account, request.worker_link);
        let mut anew = None;
        match next {
            Some((wish, post)) => {
                self.leave_worker(&mut request, now);
                request.hop_id = self.hop_id(post.link, &request.client.request_id);
                self.join_worker(key, &mut request, &post, now);
                match upload {
                    Some((at, ..)) => {
                        request.is_forwarded = post.protocol == ProtocolVersion::V3;
                        anew = Some((at, errand(&post, &request, now)));
                    }
                    None => self.forward(key, &post, &request, &wish, now),
                }
            }
            None => self.market.started(worker),
        }
        self.running.put_back(key, request, hold);
        if let Some((at, errand)) = anew {
            self.direct_upload(key, at, errand, now);
        }
        if moves {
            self.forget_unused_account(Side::Worker, left);
            self.place_freed(left_link, now);
        }
        moves
    }

    /// The worker has nothing to do with the request any more, and is told that it earned nothing.
    fn leave_worker(&mut self, request: &mut Request, now: Now) {
        let (link, hop_id) = (request.worker_link, request.hop_id);
        self.cancel_at(link, hop_id);
        if let Some(worker) = self.workers.get_mut(&link) {
            worker.running.remove(&hop_id);
        }
        self.tell_worker(request, 0, now);
        request.tried.push(link);
        request.counted = AdjustedUsage::default();
    }

    /// The answer has begun: the request stays where it is.
    pub(super) fn forget_kept(&mut self, key: RequestKey) {
        if let Some(kept) = self.running.get_mut(key).and_then(|request| request.kept.take()) {
            self.kept.forget(kept);
        }
    }
}

impl Request {
    fn may_move(&self, now: Now) -> bool {
        self.first_answer.is_none()
            && self.listener().is_some()
            && self.tried.len() + 1 < WORKERS_MAX
            && self.deadline > now.instant
    }
}

/// Where a request runs.
pub(super) struct Post {
    pub(super) link: LinkId,
    pub(super) account: ton::Address,
    pub(super) protocol: units::ProtocolVersion,
    pub(super) coefficient: i64,
}
