//! Requests that run: their worker's answers, and the one end that each of them comes to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::HashMap;
use gateway::{ApiError, Blame, ErrorKind};
use ledger::Hold;
use ledger::journal::{Bill, BillingKind};
use market::{Ending, WorkerId};
use ton::Address;
use transport::flow::Inflow;
use units::{AdjustedTokens, AdjustedUsage, RequestId};
use wire::{StatusCode, proxy};

use super::accounts::{Freshness, Side};
use super::answer::{self, Addressee, Failure, FinalInfo, Progress, Span, WorkerTold};
use super::delivery::Piece;
use super::moving::{KeptRequest, is_movable};
use super::{Action, Core, LinkId, Now, Outcome, Report, Undelivered, on_wire};

/// Our number of a running request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey(u64);

/// All running requests, and when each has to be given up.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// Boxed: a table has up to twice the places that it needs, and these are large.
    requests: HashMap<RequestKey, Box<(Request, Hold)>>,
    deadlines: BTreeSet<(Instant, RequestKey)>,
    next_key: u64,
    next_serial: u64,
}

#[derive(Debug)]
pub(super) struct Request {
    /// `None` once the client has left: the request is charged all the same.
    pub(super) client_link: Option<LinkId>,
    /// Nobody waits for the answer any more.
    pub(super) is_given_up: bool,
    /// The worker has heard of it.
    pub(super) is_forwarded: bool,
    /// What the worker may send of the answer, in version 3.
    pub(super) inflow: Option<Inflow>,
    pub(super) client_account: Address,
    pub(super) client: Addressee,
    /// What counts it to its client's share.
    pub(super) model: Arc<str>,
    pub(super) worker_link: LinkId,
    pub(super) worker_account: Address,
    /// Our name for the request between us and the worker.
    pub(super) hop_id: [u8; 32],
    pub(super) wants_notes: bool,
    pub(super) started: Now,
    /// When its worker got it.
    pub(super) forwarded: Instant,
    pub(super) deadline: Instant,
    /// When the first answer came.
    pub(super) first_answer: Option<Duration>,
    /// The HTTP status of the answer, once it came.
    pub(super) status: i32,
    /// What the worker has counted so far; before version 1 it says so with every part.
    pub(super) counted: AdjustedUsage,
    pub(super) bytes_received: usize,
    pub(super) bytes_sent: usize,
    /// What another worker would need; until the answer begins, and if there was room to keep it.
    pub(super) kept: Option<KeptRequest>,
    /// Links of workers that failed it.
    pub(super) tried: Vec<LinkId>,
}

/// The last thing that a client hears of its request.
pub(super) enum Last<'a> {
    Head(&'a [u8]),
    Part(&'a [u8]),
    Failure(Failure),
}

impl Running {
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    /// A number for one hop of a request.
    pub(super) fn next_serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial
    }

    /// A number for the next request.
    pub(super) fn next_key(&mut self) -> RequestKey {
        self.next_key += 1;
        RequestKey(self.next_key)
    }

    pub(super) fn insert(&mut self, key: RequestKey, request: Request, hold: Hold) {
        self.deadlines.insert((request.deadline, key));
        self.requests.insert(key, Box::new((request, hold)));
    }

    /// Takes a request out for a moment, to be put back.
    pub(super) fn take(&mut self, key: RequestKey) -> Option<(Request, Hold)> {
        self.requests.remove(&key).map(|boxed| *boxed)
    }

    pub(super) fn put_back(&mut self, key: RequestKey, request: Request, hold: Hold) {
        self.requests.insert(key, Box::new((request, hold)));
    }

    fn remove(&mut self, key: RequestKey) -> Option<(Request, Hold)> {
        let (request, hold) = *self.requests.remove(&key)?;
        self.deadlines.remove(&(request.deadline, key));
        Some((request, hold))
    }

    /// A request whose time is over.
    pub(super) fn due(&self, now: Instant) -> Option<RequestKey> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, key)| *key)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    pub(super) fn any(&self) -> Option<RequestKey> {
        self.deadlines.first().map(|(_, key)| *key)
    }

    pub(super) fn get_mut(&mut self, key: RequestKey) -> Option<&mut Request> {
        self.requests.get_mut(&key).map(|entry| &mut entry.0)
    }

    pub(super) fn client_left(&mut self, key: RequestKey) {
        if let Some(request) = self.get_mut(key) {
            request.client_link = None;
        }
    }

    /// A request has to be over earlier than was thought.
    pub(super) fn bring_forward(&mut self, key: RequestKey, deadline: Instant) {
        if let Some((request, _)) = self.requests.get_mut(&key).map(Box::as_mut)
            && deadline < request.deadline
        {
            self.deadlines.remove(&(request.deadline, key));
            self.deadlines.insert((deadline, key));
            request.deadline = deadline;
        }
    }
}

impl Request {
    /// The link on which the client waits for the answer, if it still does.
    pub(super) fn listener(&self) -> Option<LinkId> {
        self.client_link.filter(|_| !self.is_given_up)
    }
}

impl Core {
    pub(super) fn time_out(&mut self, key: RequestKey, now: Now) {
        if self.running.get_mut(key).is_some_and(|request| request.is_given_up) {
            // Its worker did not say in time what it cost.
            return self.fail(key, Outcome::Cancelled, StatusCode::CANCELLED, "cancelled", now);
        }
        self.stop_worker(key);
        self.fail(key, Outcome::Timeout, StatusCode::TIMEOUT, "timeout in proxy", now);
    }

    pub(super) fn worker_lost(&mut self, key: RequestKey, now: Now) {
        self.fail(key, Outcome::WorkerLost, StatusCode::CANCELLED, "worker connection lost", now);
    }

    pub(super) fn abandon(&mut self, key: RequestKey, now: Now) {
        self.stop_worker(key);
        self.fail(key, Outcome::ShutDown, StatusCode::CANCELLED, "proxy is shutting down", now);
    }

    pub(super) fn misbehaved(&mut self, key: RequestKey, message: &'static str, now: Now) {
        self.stop_worker(key);
        self.fail(key, Outcome::WorkerMisbehaved, StatusCode::PROTOCOL_VIOLATION, message, now);
    }

    /// A request found no room on its worker's link; the worker has not heard of it.
    pub fn not_forwarded(&mut self, key: RequestKey, now: Now) {
        let message = "the worker's connection is busy with other requests";
        self.fail(key, Outcome::Rejected, StatusCode::NOT_READY, message, now);
    }

    pub(super) fn fail(
        &mut self,
        key: RequestKey,
        outcome: Outcome,
        code: StatusCode,
        message: &'static str,
        now: Now,
    ) {
        let last = Last::Failure(Failure::new(code, message));
        self.end(key, outcome, last, &WorkerTold::default(), now);
    }

    /// The one end of a request: both sides forget it, the hold ends, the client hears the last of it, both sides
    /// hear what it cost.
    pub(super) fn end(
        &mut self,
        key: RequestKey,
        outcome: Outcome,
        last: Last<'_>,
        told: &WorkerTold<'_>,
        now: Now,
    ) {
        let Some(request) = self.running.get_mut(key) else { return };
        let ending = ending(outcome, &last, request, now);
        if is_movable(outcome, &last) && self.try_another(key, ending, now) {
            return;
        }
        let Some((mut request, hold)) = self.running.remove(key) else { return };
        if let Some(kept) = request.kept.take() {
            self.kept.forget(kept);
        }
        if let Some(worker) = self.workers.get_mut(&request.worker_link) {
            worker.running.remove(&request.hop_id);
        }
        self.market.finished(WorkerId::new(request.worker_link.0), ending, now.instant);
        self.shares.end(&request.model, &request.client_account);
        if let Some(link) = request.client_link {
            if let Some(client) = self.clients.get_mut(&link) {
                client.running.remove(&request.client.request_id);
            }
            self.end_upload(link, &request.client.request_id);
        }
        let duration = now.instant.saturating_duration_since(request.started.instant);

        // What was delivered is paid for, however the answer ended; before its head nothing was.
        let counted = request.first_answer.map_or_else(AdjustedUsage::default, |_| request.counted);
        let (charged, capped) = self.charge(hold, &counted, &request.client.request_id);

        let span = Span { started: request.started, first_answer: request.first_answer, ended: now };
        let info = FinalInfo::new(&charged, &span, told, request.wants_notes);
        let code = match &last {
            Last::Head(_) | Last::Part(_) => 0,
            Last::Failure(failure) => failure.code.code(),
        };
        // Before anybody hears of the end, so that who hears of it finds it counted.
        self.outbox.push_back(Action::Report(Report {
            request_id: RequestId::new(request.client.request_id),
            outcome,
            code,
            worker: Some(request.worker_link),
            duration,
            moves: request.tried.len(),
            bytes_received: request.bytes_received,
            bytes_sent: request.bytes_sent,
            charged,
            capped,
        }));
        if let Some(link) = request.listener() {
            let (message, answer_len) = match last {
                Last::Head(response) => {
                    (answer::head(&request.client, response, Progress::Done(&info)), Some(response.len()))
                }
                Last::Part(body) => {
                    (answer::part(&request.client, body, Progress::Done(&info)), Some(body.len()))
                }
                // The first message of an answer always has room.
                Last::Failure(failure) if request.first_answer.is_none() => {
                    (answer::refusal(&request.client, &failure, &info), None)
                }
                Last::Failure(failure) => (answer::cut(&request.client, &failure, &info), None),
            };
            self.deliver_last(link, request.client.request_id, Piece { message, answer_len, worker_cost: 0 });
        }
        let request_tokens = on_wire(charged.total().unwrap_or(AdjustedTokens::new(u64::MAX)));
        self.tell_worker(&request, request_tokens, now);
        self.tell_client(&request, request_tokens, now);
        self.forget_unused_account(Side::Client, request.client_account);
        self.forget_unused_account(Side::Worker, request.worker_account);
        self.place_freed(request.worker_link, now);
    }

    /// Ends a hold with what was counted. Returns the charge by kind, and what was counted beyond the hold.
    fn charge(
        &mut self,
        hold: Hold,
        counted: &AdjustedUsage,
        request_id: &[u8; 32],
    ) -> (AdjustedUsage, AdjustedTokens) {
        let total = counted.total().expect("counts whose sum fits 63 bits were accepted");
        let items = BillingKind::items_of(counted);
        let bill = Bill { request: RequestId::new(*request_id), items: &items };
        let posted = self.ledger.post(hold, total, &bill).expect("the hold is from this ledger");
        (first_tokens(counted, posted.charged), posted.capped)
    }

    pub(super) fn tell_worker(&mut self, request: &Request, request_tokens: i64, now: Now) {
        let standing = self.standing(Side::Worker, request.worker_account, Freshness::Recent, now);
        let client = self.accounts.owner_text(Side::Client, &request.client_account);
        let Some((standing, client)) = standing.zip(client) else { return };
        let Some(worker) = self.workers.get_mut(&request.worker_link) else { return };
        if !worker.heard.is_news(worker.protocol(), &standing) {
            return;
        }
        let message = wire::encode(&proxy::WorkerRequestPayment {
            request_id: request.hop_id,
            signed_payment: standing.payment(),
            db_tokens: standing.settled,
            max_tokens: standing.total,
            request_tokens,
            request_client_owner: client.as_ref().into(),
        });
        self.send(request.worker_link, message, Undelivered::Skip);
    }

    fn tell_client(&mut self, request: &Request, request_tokens: i64, now: Now) {
        let Some(link) = request.client_link else { return };
        let Some(standing) = self.standing(Side::Client, request.client_account, Freshness::Recent, now)
        else {
            return;
        };
        let Some(client) = self.clients.get_mut(&link) else { return };
        if !client.heard.is_news(request.client.protocol, &standing) {
            return;
        }
        let message = wire::encode(&proxy::ClientRequestPayment {
            request_id: request.client.request_id,
            signed_payment: standing.payment(),
            db_tokens: standing.settled,
            max_tokens: standing.total,
            request_tokens,
        });
        self.send(link, message, Undelivered::CloseLink);
    }
}

/// Workers tell in time that they are too slow. One that does not is down, unless the client gave it hardly any time.
const SILENCE_MIN: Duration = Duration::from_secs(10);

/// What the end of a request says about its worker. A client must not be able to make a worker look bad.
fn ending(outcome: Outcome, last: &Last<'_>, request: &Request, now: Now) -> Ending {
    let duration = now.instant.saturating_duration_since(request.forwarded);
    match (outcome, last) {
        (Outcome::Success, _) => match request.status {
            ..400 => Ending::Answered(duration),
            400..500 => Ending::Untold,
            500.. => Ending::Failed,
        },
        (Outcome::WorkerFailed, Last::Failure(failure)) => {
            match ApiError::from_wire(failure.code.code(), &failure.message).kind() {
                ErrorKind::WorkerBusy | ErrorKind::Cancelled | ErrorKind::WorkerLost => Ending::Busy,
                ErrorKind::Timeout | ErrorKind::ModelMismatch => Ending::Untold,
                kind if kind.row().blame == Blame::Application => Ending::Untold,
                _ => Ending::Failed,
            }
        }
        (Outcome::Timeout, _) if duration < SILENCE_MIN => Ending::Untold,
        // The worker's link was full.
        (Outcome::Rejected, _) => Ending::Busy,
        (Outcome::ShutDown | Outcome::Cancelled, _) => Ending::Untold,
        (Outcome::Timeout | Outcome::WorkerFailed | Outcome::WorkerLost | Outcome::WorkerMisbehaved, _) => {
            Ending::Failed
        }
    }
}

/// At most `limit` tokens of a usage, in the order in which they were consumed.
fn first_tokens(usage: &AdjustedUsage, limit: AdjustedTokens) -> AdjustedUsage {
    let mut left = limit;
    let mut take = |kind: AdjustedTokens| {
        let taken = kind.min(left);
        left = left.saturating_sub(taken);
        taken
    };
    AdjustedUsage {
        prompt: take(usage.prompt),
        cached: take(usage.cached),
        reasoning: take(usage.reasoning),
        completion: take(usage.completion),
    }
}
