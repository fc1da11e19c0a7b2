//! How well a worker has done lately.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Owner;
use crate::decay::DecayingMean;
use ahash::HashMap;

/// How a request at a worker ended, as far as it tells something about the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Answered to its end, in this time.
    Answered(Duration),
    /// Lost, broken off or not answered, and not by fault of the client.
    Failed,
    /// Turned away for want of room: the worker is busier than it looks from here.
    Busy,
    /// Says nothing about the worker: a request that no worker would have answered, or that was given up.
    Untold,
}

/// What is remembered of a worker: quickness, success, outages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// Of answered requests, in nanoseconds. Failures stay out: a worker that fails at once is not quick.
    duration: DecayingMean,
    /// Of all requests: [`WHOLE`] for a failure, 0 for an answer.
    failure: DecayingMean,
    /// Outages that are not yet forgotten, with 32 binary places, as of the last one.
    outages: u64,
    last_outage: Instant,
    /// The worker rests until then.
    pub(crate) rests_until: Option<Instant>,
    /// After an outage the worker runs one request at a time until one is answered.
    pub(crate) on_trial: bool,
}

/// One, in parts of 2^16.
const WHOLE: u64 = 1 << 16;

/// A worker's mean counts as if it had served this many more requests, each as its model's workers do on average: one
/// long answer does not make a slow worker.
const PRIOR_WEIGHT: u32 = 16;

/// The first outage's rest. Each further one within memory doubles it.
const REST: Duration = Duration::from_secs(1);
/// Doublings of [`REST`] at most: a minute.
const REST_DOUBLINGS_MAX: u32 = 6;
/// A busy worker's rest.
const BUSY_REST: Duration = Duration::from_millis(250);

/// How much longer than average a request is expected to take, as a power of two: from an eighth to 32 times.
pub(crate) type Slowness = i32;
/// The quickest class.
pub(crate) const SLOWNESS_MIN: Slowness = -3;
/// The slowest class.
const SLOWNESS_MAX: Slowness = 5;

impl Record {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            duration: DecayingMean::new(now),
            failure: DecayingMean::new(now),
            outages: 0,
            last_outage: now,
            rests_until: None,
            on_trial: false,
        }
    }

    /// Notes the end of a request.
    pub(crate) fn note(&mut self, ending: Ending, now: Instant) {
        match ending {
            Ending::Answered(duration) => {
                self.duration.record(nanoseconds(duration), now);
                self.failure.record(0, now);
                // What was answered while the worker rests was asked before its outage.
                self.on_trial &= self.rests_until.is_some();
            }
            Ending::Failed => {
                self.failure.record(WHOLE, now);
                self.note_outage(now);
            }
            Ending::Busy => {
                let until = now.checked_add(BUSY_REST);
                self.rests_until = self.rests_until.max(until);
            }
            Ending::Untold => {}
        }
    }

    /// The rest is over, if it is.
    pub(crate) fn wake(&mut self, now: Instant) {
        self.rests_until = self.rests_until.filter(|until| *until > now);
    }

    /// Whether forgetting this record would be a gift to its worker.
    pub(crate) fn is_worth_keeping(&self, now: Instant) -> bool {
        self.outages_at(now) > (1 << 32) / 10
    }

    /// All requests that fail together are one outage: during a rest no other begins.
    fn note_outage(&mut self, now: Instant) {
        if self.on_trial && self.rests_until.is_some_and(|until| until > now) {
            return;
        }
        let earlier = self.outages_at(now);
        let doublings =
            u32::try_from(earlier.saturating_add(1 << 31) >> 32).unwrap_or(u32::MAX).min(REST_DOUBLINGS_MAX);
        self.outages = earlier.saturating_add(1 << 32);
        self.last_outage = now;
        self.rests_until = now.checked_add(REST.saturating_mul(1 << doublings));
        self.on_trial = true;
    }

    fn outages_at(&self, now: Instant) -> u64 {
        DecayingMean::decayed(self.outages, self.last_outage, now)
    }

    /// Time to an answer, repetitions after failures included, relative to `model_mean` nanoseconds.
    ///
    /// Classes are a factor of two wide: chance makes equal workers differ by less, and the load between workers of
    /// one class is spread by what they run alone.
    pub(crate) fn slowness(&self, model_mean: Option<u64>, now: Instant) -> Slowness {
        let Some(model_mean) = model_mean.filter(|mean| *mean > 0) else { return 0 };
        let mean = self.duration.mean_with(model_mean, PRIOR_WEIGHT, now);
        let failing = self.failure.mean_with(0, PRIOR_WEIGHT, now);
        let answering = WHOLE.saturating_sub(failing).max(1);
        // Both have 16 binary places, their quotient has 32.
        let relative = (u128::from(mean) << 32).checked_div(u128::from(model_mean)).unwrap_or(0);
        let relative = (relative << 16).checked_div(u128::from(answering)).unwrap_or(0);
        // Rounding a logarithm to the next integer is halving that of the square, one more.
        let square = relative.min(1 << 63).saturating_mul(relative.min(1 << 63)).max(1);
        let doubled = i32::try_from(square.ilog2()).unwrap_or(i32::MAX).saturating_sub(64);
        (doubled.saturating_add(1) >> 1).clamp(SLOWNESS_MIN, SLOWNESS_MAX)
    }
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Records of workers that left after outages, so that coming back does not make them innocent.
///
/// Kept by owner and model; a full memory forgets what came first.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    records: HashMap<(Owner, Arc<str>), (Record, u64)>,
    order: BTreeMap<u64, (Owner, Arc<str>)>,
    next: u64,
}

/// Records in memory at most, about 200 bytes each.
const MEMORY_MAX: usize = 4096;

impl Memory {
    pub(crate) fn keep(&mut self, owner: Owner, model: &Arc<str>, record: Record) {
        let key = (owner, Arc::clone(model));
        if let Some((_, serial)) = self.records.insert(key.clone(), (record, self.next)) {
            self.order.remove(&serial);
        }
        self.order.insert(self.next, key);
        self.next = self.next.saturating_add(1);
        if self.order.len() > MEMORY_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.records.remove(&oldest);
        }
    }

    /// The record that a worker comes back with. It stays in memory too: an owner may come with several workers.
    pub(crate) fn recall(&self, owner: Owner, model: &Arc<str>, now: Instant) -> Record {
        let kept = self.records.get(&(owner, Arc::clone(model)));
        kept.map_or(Record::new(now), |(record, _)| *record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    const fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn slowness_is_the_rounded_logarithm_of_the_ratio() {
        let now = start();
        for (mean_ms, class) in
            [(1, -3), (250, -2), (353, -2), (354, -1), (707, -1), (708, 0), (1414, 0), (1415, 1), (64_000, 5)]
        {
            let mut record = Record::new(now);
            // So many requests that the prior does not show.
            (0..100_000).for_each(|_| record.note(Ending::Answered(ms(mean_ms)), now));
            let found = record.slowness(Some(nanoseconds(ms(1000))), now);
            assert_eq!(found, class, "{mean_ms} ms");
        }
        assert_eq!(Record::new(now).slowness(Some(5), now), 0);
        assert_eq!(Record::new(now).slowness(None, now), 0);
    }

    #[test]
    fn one_long_answer_makes_no_slow_worker_and_failures_make_one() {
        let now = start();
        let mean = Some(nanoseconds(ms(1000)));
        let mut record = Record::new(now);
        record.note(Ending::Answered(ms(3000)), now);
        assert_eq!(record.slowness(mean, now), 0);
        let mut failing = Record::new(now);
        (0..48).for_each(|_| failing.note(Ending::Failed, now));
        assert_eq!(
            failing.slowness(mean, now),
            2,
            "48 failures beside the 16 assumed answers: four tries for one"
        );
    }

    #[test]
    fn rests_grow_with_each_outage_and_shrink_with_time() {
        let mut now = start();
        let mut record = Record::new(now);
        let mut rests = Vec::new();
        for _ in 0..9 {
            record.note(Ending::Failed, now);
            let until = record.rests_until.unwrap();
            record.note(Ending::Failed, now);
            assert_eq!(record.rests_until, Some(until), "what fails together is one outage");
            rests.push((until - now).as_secs());
            now = until;
            record.wake(now);
            assert_eq!(record.rests_until, None);
        }
        assert_eq!(rests[..4], [1, 2, 4, 8]);
        assert_eq!(rests.last(), Some(&64));
        now += Duration::from_secs(3600);
        record.note(Ending::Failed, now);
        assert_eq!(record.rests_until, Some(now + REST));
    }

    #[test]
    fn a_trial_ends_with_an_answer_to_a_later_request() {
        let now = start();
        let mut record = Record::new(now);
        record.note(Ending::Failed, now);
        record.note(Ending::Answered(ms(1)), now);
        assert!(record.on_trial, "it was asked before the outage");
        record.wake(now + REST);
        record.note(Ending::Answered(ms(1)), now + REST);
        assert!(!record.on_trial);
    }

    #[test]
    fn a_busy_worker_rests_and_is_not_on_trial() {
        let now = start();
        let mut record = Record::new(now);
        record.note(Ending::Busy, now);
        assert_eq!((record.rests_until, record.on_trial), (Some(now + BUSY_REST), false));
        record.note(Ending::Failed, now);
        record.note(Ending::Busy, now);
        assert_eq!(record.rests_until, Some(now + REST), "the longer rest holds");
        assert!(!Record::new(now).is_worth_keeping(now) && record.is_worth_keeping(now));
        assert!(!record.is_worth_keeping(now + Duration::from_secs(3600)));
    }

    #[test]
    fn memory_is_bounded_and_forgets_what_came_first() {
        let now = start();
        let (mut memory, model) = (Memory::default(), Arc::from("m"));
        let mut bad = Record::new(now);
        bad.note(Ending::Failed, now);
        let mut distinct = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
            memory.keep(Owner::new(bytes), &model, bad);
            Owner::new(bytes)
        };
        let first = distinct(0);
        let last = (1..=MEMORY_MAX).map(&mut distinct).last().unwrap();
        assert_eq!((memory.records.len(), memory.order.len()), (MEMORY_MAX, MEMORY_MAX));
        assert!(!memory.recall(first, &model, now).on_trial);
        assert!(memory.recall(last, &model, now).on_trial);
        memory.keep(last, &model, Record::new(now));
        assert_eq!((memory.records.len(), memory.order.len()), (MEMORY_MAX, MEMORY_MAX));
        assert!(!memory.recall(last, &model, now).on_trial);
    }
}
