//! Links whose handshake is not done, and when each has to be given up.

use std::collections::BTreeSet;
use std::time::Instant;

use super::LinkId;
use ahash::HashMap;

#[derive(Debug, Default)]
pub(super) struct Newcomers {
    deadlines: BTreeSet<(Instant, LinkId)>,
    by_link: HashMap<LinkId, Instant>,
}

impl Newcomers {
    pub(super) fn add(&mut self, link: LinkId, deadline: Instant) {
        self.by_link.insert(link, deadline);
        self.deadlines.insert((deadline, link));
    }

    /// Its handshake is done, or the link is gone.
    pub(super) fn remove(&mut self, link: LinkId) {
        if let Some(deadline) = self.by_link.remove(&link) {
            self.deadlines.remove(&(deadline, link));
        }
    }

    /// A link whose time is over.
    pub(super) fn due(&self, now: Instant) -> Option<LinkId> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, link)| *link)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }
}
