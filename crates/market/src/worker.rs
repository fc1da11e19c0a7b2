//! A listed worker, and how soon it would answer.

use units::Coefficient;

use crate::Owner;
use crate::record::{Record, SLOWNESS_MIN, Slowness};
use crate::scored::Score;

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) owner: Owner,
    pub(crate) model: usize,
    pub(crate) coefficient: Coefficient,
    pub(crate) enabled: bool,
    pub(crate) running: u32,
    pub(crate) running_max: u32,
    pub(crate) record: Record,
    pub(crate) slowness: Slowness,
    /// Balances the tree, and is the worker's point on the circle.
    pub(crate) priority: u64,
}

/// Scores stand in three groups: a worker with room, a worker with room that is better avoided, a full worker. Within
/// a group less work ahead is better, at equal work the lower price, and among equals whoever stood still longest.
pub(crate) const RESTING: Score = 1 << 120;
pub(crate) const FULL: Score = 2 << 120;
const WORK_SHIFT: u32 = 62;
const COEFFICIENT_SHIFT: u32 = 32;

impl Worker {
    pub(crate) fn score(&self, clock: u32) -> Score {
        let group = if self.running >= self.running_max {
            FULL
        } else if self.record.rests_until.is_some() || (self.record.on_trial && self.running > 0) {
            RESTING
        } else {
            0
        };
        let work = Score::from(self.work_of(self.running.saturating_add(1))) << WORK_SHIFT;
        let price = Score::from(self.coefficient.get()) << COEFFICIENT_SHIFT;
        group | work | price | Score::from(clock)
    }

    /// `requests` at this worker, in units that compare between workers.
    pub(crate) fn work_of(&self, requests: u32) -> u64 {
        let doublings = self.slowness.saturating_sub(SLOWNESS_MIN).unsigned_abs();
        u64::from(requests) << doublings
    }
}

/// The work ahead that a score stands for.
pub(crate) const fn work(score: Score) -> u64 {
    ((score & (RESTING - 1)) >> WORK_SHIFT) as u64
}
