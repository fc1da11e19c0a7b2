//! Answers on their way to clients of version 3: each takes no more than its client lets us send.
//!
//! What a client does not take yet is held here, and its worker is let send more only when it goes on: a slow reader
//! slows its own engine and nothing else. An answer may be complete and paid for before its client has taken it.

use std::collections::VecDeque;

use bytes::Bytes;
use transport::flow::{Outflow, WINDOW, part_cost};
use wire::{StatusCode, stream};

use super::client_link::Breach;
use super::running::RequestKey;
use super::{Action, Core, LinkId, Now, Outcome, Undelivered};

/// One answer and its client.
#[derive(Debug)]
pub(super) struct Delivery {
    outflow: Outflow,
    /// What the client has no room for, in order.
    held: VecDeque<Held>,
    held_len: usize,
    /// It is in the queue of those that wait for the link.
    waits_for_link: bool,
    /// The running request; `None` once it has ended and only its last parts are left.
    request: Option<RequestKey>,
}

struct Held {
    message: Bytes,
    /// What it takes of the client's window.
    cost: u32,
    /// What it took of the worker's window.
    worker_cost: u32,
}

/// It holds a part of an answer.
impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("len", &self.message.len()).finish_non_exhaustive()
    }
}

/// A message of an answer.
pub(super) struct Piece {
    pub(super) message: Bytes,
    /// Bytes of the answer in it; `None` for an error, which needs no room.
    pub(super) answer_len: Option<usize>,
    /// What it took of the worker's window.
    pub(super) worker_cost: u32,
}

/// Most bytes held for a slow reader whose worker cannot be slowed down.
const HELD_LEN_MAX: usize = 4 << 20;

impl Delivery {
    pub(super) fn new(request: RequestKey) -> Self {
        let outflow = Outflow::new(WINDOW);
        Self { outflow, held: VecDeque::new(), held_len: 0, waits_for_link: false, request: Some(request) }
    }

    /// Whether it waits only for its client.
    fn is_tail(&self) -> bool {
        self.request.is_none()
    }

    fn hold(&mut self, held: Held) {
        self.held_len += held.message.len();
        self.held.push_back(held);
    }

    /// The next message that the client has room for.
    fn next(&mut self) -> Option<Held> {
        let cost = self.held.front()?.cost;
        let held = self.outflow.take(cost).then(|| self.held.pop_front()).flatten()?;
        self.held_len -= held.message.len();
        Some(held)
    }
}

impl Core {
    /// Hands a message of a running request to its client, now or when there is room. More follows.
    pub(super) fn deliver(&mut self, key: RequestKey, piece: Piece, now: Now) {
        let Some(request) = self.running.get_mut(key) else { return };
        let Some(link) = request.listener() else { return self.passed_on(key, piece.worker_cost) };
        let request_id = request.client.request_id;
        let Some(delivery) = self.delivery(link, &request_id) else {
            // Before version 3 a client takes what comes.
            self.send(link, piece.message, Undelivered::CloseLink);
            return self.passed_on(key, piece.worker_cost);
        };
        delivery.hold(Held::new(piece));
        let held_len = delivery.held_len;
        self.flush(link, &request_id);
        if held_len > HELD_LEN_MAX
            && self.delivery(link, &request_id).is_some_and(|it| it.held_len > HELD_LEN_MAX)
        {
            if let Some(delivery) = self.delivery(link, &request_id) {
                delivery.held.clear();
                delivery.held_len = 0;
            }
            self.stop_worker(key);
            let message = "the answer was not read as fast as it came";
            self.fail(key, Outcome::Cancelled, StatusCode::CANCELLED, message, now);
        }
    }

    /// Hands the last message of a request that has ended to its client, now or when there is room.
    pub(super) fn deliver_last(&mut self, link: LinkId, request_id: [u8; 32], piece: Piece) {
        let Some(delivery) = self.delivery(link, &request_id) else {
            return self.send(link, piece.message, Undelivered::CloseLink);
        };
        delivery.hold(Held::new(piece));
        delivery.request = None;
        self.tails += 1;
        self.flush(link, &request_id);
    }

    /// A client takes more of an answer. One that is unknown has just ended.
    pub(super) fn credit_from_client(&mut self, link: LinkId, credit: &stream::Credit) -> Result<(), Breach> {
        let Some(delivery) = self.delivery(link, &credit.request_id) else { return Ok(()) };
        delivery.outflow.grant(credit.len).map_err(|_senseless| "a client grants what makes no sense")?;
        self.flush(link, &credit.request_id);
        Ok(())
    }

    /// Nobody waits for an answer any more.
    pub(super) fn drop_delivery(&mut self, link: LinkId, request_id: &[u8; 32]) {
        let delivery = self.clients.get_mut(&link).and_then(|client| client.deliveries.remove(request_id));
        if delivery.is_some_and(|delivery| delivery.is_tail()) {
            self.tails -= 1;
        }
    }

    /// The link is gone, and with it whoever waited.
    pub(super) fn forget_deliveries(&mut self, deliveries: impl Iterator<Item = Delivery>) {
        self.tails -= deliveries.filter(Delivery::is_tail).count();
    }

    /// A worker's part is on its way to the client, or wanted by nobody: its place is free.
    pub(super) fn passed_on(&mut self, key: RequestKey, worker_cost: u32) {
        let Some(request) = self.running.get_mut(key) else { return };
        let grant = request.inflow.as_mut().and_then(|inflow| inflow.pass(worker_cost));
        if let Some(len) = grant {
            let (link, request_id) = (request.worker_link, request.hop_id);
            self.send(link, wire::encode(&stream::Credit { request_id, len }), Undelivered::Never);
        }
    }

    /// The link of a client has room again.
    pub(super) fn resume_delivery(&mut self, link: LinkId, request_id: &[u8; 32]) {
        // It may have ended meanwhile.
        let Some(delivery) = self.delivery(link, request_id) else { return };
        delivery.waits_for_link = false;
        self.flush(link, request_id);
    }

    fn flush(&mut self, link: LinkId, request_id: &[u8; 32]) {
        while let Some(client) = self.clients.get_mut(&link)
            && let Some(delivery) = client.deliveries.get_mut(request_id)
        {
            if !client.pace.is_open() {
                if !std::mem::replace(&mut delivery.waits_for_link, true) {
                    client.pace.wait(*request_id);
                }
                return;
            }
            let request = delivery.request;
            let Some(held) = delivery.next() else {
                if delivery.is_tail() && delivery.held.is_empty() {
                    self.drop_delivery(link, request_id);
                }
                return;
            };
            let must_look = client.pace.sent(held.message.len());
            self.send(link, held.message, Undelivered::CloseLink);
            if must_look {
                self.outbox.push_back(Action::Look { link });
            }
            if let Some(key) = request {
                self.passed_on(key, held.worker_cost);
            }
        }
    }

    fn delivery(&mut self, link: LinkId, request_id: &[u8; 32]) -> Option<&mut Delivery> {
        self.clients.get_mut(&link)?.deliveries.get_mut(request_id)
    }
}

impl Held {
    fn new(piece: Piece) -> Self {
        let Piece { message, answer_len, worker_cost } = piece;
        Self { message, cost: answer_len.map_or(0, part_cost), worker_cost }
    }
}
