//! How much waits on a client's link: what streams hold in common must not be more than the link takes soon.
//!
//! Windows bound each stream, not all of them together. A client whose network is slow, and not its application, gets
//! what its link takes; the rest is held with its own stream, whose worker waits for it.

use std::collections::VecDeque;

use super::{Action, Core, LinkId};

/// The queue of a link is looked at each time that so many bytes were sent on it.
const LOOK_AFTER_LEN: usize = 512 << 10;
/// With more than this in its queue, a link gets no more parts until there is room.
const QUEUED_LEN_MAX: usize = 1 << 20;

/// How a link keeps up with its streams.
#[derive(Debug, Default)]
pub(super) struct Pace {
    sent_len: usize,
    state: State,
    /// Streams that have something for the client, in the order in which they were held up.
    waiting: VecDeque<[u8; 32]>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// The queue is being looked at, or is too long.
    HeldUp,
}

impl Pace {
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// A stream has to wait for the link.
    pub(super) fn wait(&mut self, request_id: [u8; 32]) {
        self.waiting.push_back(request_id);
    }

    /// A part was sent. Returns whether the queue has to be looked at.
    pub(super) fn sent(&mut self, len: usize) -> bool {
        self.sent_len += len;
        let is_due = self.sent_len >= LOOK_AFTER_LEN;
        if is_due {
            self.sent_len = 0;
            self.state = State::HeldUp;
        }
        is_due
    }
}

impl Core {
    /// What a link had queued when [`Action::Look`] was carried out, in bytes.
    pub fn looked(&mut self, link: LinkId, queued_len: usize) {
        if queued_len > QUEUED_LEN_MAX {
            self.outbox.push_back(Action::AwaitRoom { link, queued_len: QUEUED_LEN_MAX / 2 });
        } else {
            self.has_room(link);
        }
    }

    /// A link has room again: see [`Action::AwaitRoom`].
    pub fn has_room(&mut self, link: LinkId) {
        let Some(client) = self.clients.get_mut(&link) else { return };
        client.pace.state = State::Open;
        // Each stream has its turn; one that is held up again stands behind the others.
        while let Some(client) = self.clients.get_mut(&link)
            && client.pace.is_open()
            && let Some(request_id) = client.pace.waiting.pop_front()
        {
            self.resume_delivery(link, &request_id);
        }
    }
}
