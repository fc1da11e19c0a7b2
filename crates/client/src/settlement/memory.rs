//! What a settlement has to remember beyond its process.

use std::time::Duration;

use units::NanoTon;

use super::DAY;

/// What has to survive. Times are since 1970, in whole seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The owner wants everything back, or this side had reason to leave.
    pub(super) close: bool,
    /// When the contract was first paid for.
    pub(super) opened_at: Option<Duration>,
    /// When the network's params changed.
    pub(super) outdated_since: Option<Duration>,
    /// Since when nobody will use the proxy again.
    pub(super) unused_since: Option<Duration>,
    /// Since when the contract is closed: what it sent may still come back to it.
    pub(super) closed_since: Option<Duration>,
    /// When the day of [`Self::paid_in`] began.
    pub(super) day_since: Duration,
    /// What was paid in on that day.
    pub(super) paid_in: NanoTon,
}

impl Memory {
    /// What was paid in on the day of `now`. Days begin with a deposit.
    pub(super) fn paid_in_today(&self, now: Duration) -> NanoTon {
        if now < self.day_since.saturating_add(DAY) { self.paid_in } else { NanoTon::ZERO }
    }

    /// Pays in.
    pub(super) fn pay_in(&mut self, amount: NanoTon, now: Duration) {
        let now = super::whole(now);
        self.opened_at.get_or_insert(now);
        if amount == NanoTon::ZERO {
            return;
        }
        if now >= self.day_since.saturating_add(DAY) {
            (self.day_since, self.paid_in) = (now, NanoTon::ZERO);
        }
        self.paid_in = self.paid_in.checked_add(amount).unwrap_or(NanoTon::new(u64::MAX));
    }

    /// What was to be paid in is in the wallet, for certain.
    pub(super) fn came_back(&mut self, amount: NanoTon) {
        self.paid_in = self.paid_in.saturating_sub(amount);
    }
}
