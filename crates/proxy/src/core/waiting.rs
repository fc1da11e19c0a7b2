//! Requests for which every worker is full: they wait a moment, and clients take turns.
//!
//! Waiting evens out what comes in bursts; it must not hide that there is too little capacity. So rooms are small, the
//! time is short, and who finds no room is refused at once: 429 to a client that has more than its share of the model
//! already, else 503.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::HashMap;
use bytes::Bytes;
use market::{NoWorker, WaitingRoom};
use ton::Address;
use units::{AdjustedTokens, AdjustedUsage, RequestId};
use wire::{StatusCode, http};

use super::admission::{Wish, no_worker, too_many_long_queries};
use super::answer::{self, Addressee, Failure, FinalInfo, Span, WorkerTold};
use super::client_link::ClientParty;
use super::moving::{KeptRequest, kept_query};
use super::{Action, Core, LinkId, Now, Outcome, Report, Undelivered};

/// All requests that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// By model.
    rooms: HashMap<Arc<str>, WaitingRoom<Address, WaitKey>>,
    requests: HashMap<WaitKey, Wait>,
    /// When each has waited long enough.
    deadlines: BTreeSet<(Instant, WaitKey)>,
    next_key: u64,
}

/// Our number of a waiting request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WaitKey(u64);

/// A request that waits.
#[derive(Debug)]
struct Wait {
    link: LinkId,
    party: ClientParty,
    request_id: [u8; 32],
    model: Arc<str>,
    kept: KeptRequest,
    /// Length of the whole query; of one that comes in parts only the first is in `kept`.
    query_len: usize,
    body_len: usize,
    wants_notes: bool,
    started: Now,
    until: Instant,
}

/// Longest time to wait; at most half of what the client gives.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A room is for a quarter of the requests that the model's workers run at once: when it is full, the last one will
/// hardly have to wait longer than a request runs.
const PLACES_PER_WAIT: u64 = 4;
/// The smallest room.
const ROOM_MIN: usize = 4;
/// The largest room.
const ROOM_MAX: usize = 1024;

/// When a place is free, so many clients are asked whether they can use it: it may be too dear for some.
const TURNS_PASSED_MAX: usize = 4;

impl Waiting {
    pub(super) fn due(&self, now: Instant) -> Option<WaitKey> {
        self.deadlines.first().filter(|(until, _)| *until <= now).map(|(_, key)| *key)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(until, _)| *until)
    }

    /// Takes a request out of the books; it has left its room already.
    fn remove(&mut self, key: WaitKey) -> Option<Wait> {
        let wait = self.requests.remove(&key)?;
        self.deadlines.remove(&(wait.until, key));
        if self.rooms.get(&wait.model).is_some_and(WaitingRoom::is_empty) {
            self.rooms.remove(&wait.model);
        }
        Some(wait)
    }
}

impl Core {
    /// Lets a request wait, since every worker for it is full. Of a query in parts no more comes than its window lets.
    pub(super) fn wait(
        &mut self,
        link: LinkId,
        party: ClientParty,
        wish: &Wish<'_>,
        (kept, message): (Option<KeptRequest>, &Bytes),
        now: Now,
    ) -> Result<(), Failure> {
        let Some(kept) = kept else { return Err(self.no_room(party, &wish.model)) };
        if !wish.is_whole() && !self.can_collect(wish.query_len) {
            self.kept.forget(kept);
            return Err(too_many_long_queries());
        }
        let places = self.market.places(&wish.model) / PLACES_PER_WAIT;
        let len_max = usize::try_from(places).unwrap_or(ROOM_MAX).clamp(ROOM_MIN, ROOM_MAX);
        let known = self.waiting.rooms.get_key_value(&*wish.model).map(|(model, _)| Arc::clone(model));
        let model = known.unwrap_or_else(|| Arc::from(&*wish.model));
        let key = WaitKey(self.waiting.next_key);
        let room = self.waiting.rooms.entry(Arc::clone(&model)).or_default();
        let Ok(evicted) = room.enter(party.account, key, len_max) else {
            self.kept.forget(kept);
            return Err(self.no_room(party, &wish.model));
        };
        self.shares.begin(&model, party.account);
        self.waiting.next_key += 1;
        let until = now.instant + WAIT_MAX.min(wish.timeout / 2);
        let &Wish { request_id, debug: wants_notes, body_len, query_len, query, .. } = wish;
        if !wish.is_whole() {
            self.open_upload(link, request_id, (query, query_len, message));
        }
        let started = now;
        let wait =
            Wait { link, party, request_id, model, kept, query_len, body_len, wants_notes, started, until };
        self.waiting.requests.insert(key, wait);
        self.waiting.deadlines.insert((until, key));
        if let Some(client) = self.clients.get_mut(&link) {
            client.waiting.insert(request_id, key);
        }
        if let Some(wait) = evicted.and_then(|key| self.waiting.remove(key)) {
            self.turn_away(wait, too_many_requests(), now);
        }
        Ok(())
    }

    /// A worker may have room now: whoever's turn it is gets it.
    pub(super) fn place_freed(&mut self, link: LinkId, now: Now) {
        // Whoever waits is new to the books, and waits on while nothing new can be written.
        if self.waiting.rooms.is_empty() || !self.records_charges() {
            return;
        }
        let party = self.workers.get(&link).and_then(|worker| worker.party.as_ref());
        let Some(model) = party.map(|party| party.model.base().to_owned()) else { return };
        let mut passed = 0;
        while passed < TURNS_PASSED_MAX
            && self.market.has_room(&model)
            && let Some(key) = self.waiting.rooms.get(&*model).and_then(|room| room.next(passed))
        {
            let Some(wait) = self.waiting.requests.get(&key) else { return };
            let message = wait.kept.message();
            let query = kept_query(&message).expect("it was read when it came");
            let query_len = wait.query_len;
            let http = http::RequestStart::read(query.query, query_len).ok();
            let wish = self.read_wish(&query, query_len, wait.wants_notes, http.as_ref());
            let wish = wish.ok().expect("it was sound when it came");
            match self.find_worker(&wish, now) {
                Ok(post) => {
                    self.waiting.rooms.get_mut(&*model).and_then(|room| room.take_turn(passed));
                    let Some(wait) = self.waiting.remove(key) else { return };
                    self.waits_no_more(&wait);
                    let Wait { link, party, request_id, kept, started, body_len, wants_notes, .. } = wait;
                    let (run, kept) = match wish.is_whole() {
                        true => (None, Some(kept)),
                        false => {
                            self.kept.forget(kept);
                            (Some(&message), None)
                        }
                    };
                    if let Err(failure) = self.start(link, party, (&wish, run), (started, kept), &post, now) {
                        self.end_upload(link, &request_id);
                        self.refuse(
                            (link, party, request_id),
                            &failure,
                            (body_len, wants_notes),
                            started,
                            now,
                        );
                    }
                }
                Err(_too_dear) => passed += 1,
            }
        }
    }

    /// A request has waited long enough.
    pub(super) fn waited_in_vain(&mut self, key: WaitKey, now: Now) {
        let Some(wait) = self.waiting.requests.get(&key) else { return };
        let failure = self.no_room(wait.party, &wait.model);
        if let Some(wait) = self.leave_room(key) {
            self.turn_away(wait, failure, now);
        }
    }

    /// The client gives up a request that waits.
    pub(super) fn forget_waiting(&mut self, key: WaitKey) {
        let Some(wait) = self.leave_room(key) else { return };
        self.waits_no_more(&wait);
        self.end_upload(wait.link, &wait.request_id);
        let code = StatusCode::CANCELLED.code();
        self.report_refusal(wait.request_id, Outcome::Cancelled, code, wait.body_len);
        self.kept.forget(wait.kept);
    }

    /// Nobody waits any more: the proxy runs nothing new.
    pub(super) fn clear_rooms(&mut self, failure: &Failure) {
        while let Some((_, key)) = self.waiting.deadlines.first().copied() {
            let Some(wait) = self.leave_room(key) else { return };
            let at = wait.started;
            self.turn_away(wait, failure.clone(), at);
        }
    }

    fn leave_room(&mut self, key: WaitKey) -> Option<Wait> {
        let wait = self.waiting.requests.get(&key)?;
        let (account, model) = (wait.party.account, Arc::clone(&wait.model));
        self.waiting.rooms.get_mut(&model)?.leave(account, key);
        self.waiting.remove(key)
    }

    /// The client's side of the books; the rest has forgotten the request already.
    fn waits_no_more(&mut self, wait: &Wait) {
        self.shares.end(&wait.model, &wait.party.account);
        if let Some(client) = self.clients.get_mut(&wait.link) {
            client.waiting.remove(&wait.request_id);
        }
    }

    fn turn_away(&mut self, wait: Wait, failure: Failure, now: Now) {
        self.waits_no_more(&wait);
        let Wait { link, party, request_id, kept, body_len, wants_notes, started, .. } = wait;
        self.end_upload(link, &request_id);
        self.kept.forget(kept);
        self.refuse((link, party, request_id), &failure, (body_len, wants_notes), started, now);
    }

    /// Tells a client that its request does not run.
    pub(super) fn refuse(
        &mut self,
        (link, party, request_id): (LinkId, ClientParty, [u8; 32]),
        failure: &Failure,
        (body_len, wants_notes): (usize, bool),
        started: Now,
        now: Now,
    ) {
        let client = Addressee { protocol: party.protocol, request_id };
        let span = Span { started, first_answer: None, ended: now };
        let info = FinalInfo::new(&AdjustedUsage::default(), &span, &WorkerTold::default(), wants_notes);
        self.report_refusal(request_id, Outcome::Rejected, failure.code.code(), body_len);
        self.send(link, answer::refusal(&client, failure, &info), Undelivered::CloseLink);
    }

    fn report_refusal(&mut self, request_id: [u8; 32], outcome: Outcome, code: i32, body_len: usize) {
        self.outbox.push_back(Action::Report(Report {
            request_id: RequestId::new(request_id),
            outcome,
            code,
            worker: None,
            duration: Duration::ZERO,
            moves: 0,
            bytes_received: body_len,
            bytes_sent: 0,
            charged: AdjustedUsage::default(),
            capped: AdjustedTokens::ZERO,
        }));
    }

    /// Why a request that found no room is refused: its client has more than an equal share of the model already, or
    /// there is no room for anybody who has no more than that.
    fn no_room(&self, party: ClientParty, model: &str) -> Failure {
        match self.shares.is_above(model, &party.account) {
            true => too_many_requests(),
            false => no_worker(NoWorker::Full, model),
        }
    }
}

pub(super) fn too_many_requests() -> Failure {
    Failure::new(StatusCode::ERROR, "the client runs too many requests at once")
}
