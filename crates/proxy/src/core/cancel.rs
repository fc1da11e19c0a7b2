//! Requests that nobody waits for any more: their worker is told, and what it counted until then is charged.

use std::time::Duration;

use units::ProtocolVersion;
use wire::{StatusCode, stream};

use super::running::RequestKey;
use super::{Core, LinkId, Now, Outcome, Undelivered};

/// How long a worker may take to say what a cancelled answer cost. After that, what it counted last is charged.
const LAST_COUNT_WAIT: Duration = Duration::from_secs(2);

impl Core {
    /// A client gives up a request. One that is unknown has just ended.
    pub(super) fn cancelled_by_client(&mut self, link: LinkId, cancel: &stream::Cancel, now: Now) {
        let Some(client) = self.clients.get(&link) else { return };
        if let Some(key) = client.waiting.get(&cancel.request_id).copied() {
            self.forget_waiting(key);
        } else if let Some(key) = client.running.get(&cancel.request_id).copied() {
            self.give_up(key, now);
        }
        self.drop_delivery(link, &cancel.request_id);
    }

    /// Nobody waits for the answer any more. A worker before version 3 cannot be told: it goes on to the end, and is
    /// paid for it.
    pub(super) fn give_up(&mut self, key: RequestKey, now: Now) {
        let Some(request) = self.running.get_mut(key).filter(|request| !request.is_given_up) else { return };
        request.is_given_up = true;
        if !request.is_forwarded {
            return self.fail(key, Outcome::Cancelled, StatusCode::CANCELLED, "cancelled", now);
        }
        if self.stop_worker(key) {
            self.running.bring_forward(key, now.instant + LAST_COUNT_WAIT);
        }
    }

    /// Tells the worker of a request to stop. Returns whether it could be told.
    pub(super) fn stop_worker(&mut self, key: RequestKey) -> bool {
        let Some(request) = self.running.get_mut(key) else { return false };
        if !request.is_forwarded {
            return false;
        }
        let (link, hop_id) = (request.worker_link, request.hop_id);
        self.cancel_at(link, hop_id)
    }

    /// The same by the worker's name for the request.
    pub(super) fn cancel_at(&mut self, link: LinkId, request_id: [u8; 32]) -> bool {
        let party = self.workers.get(&link).and_then(|worker| worker.party.as_ref());
        if party.is_none_or(|party| party.protocol < ProtocolVersion::V3) {
            return false;
        }
        self.send(link, wire::encode(&stream::Cancel { request_id }), Undelivered::Never);
        true
    }
}
