//! An average that forgets.

use std::time::{Duration, Instant};

/// Mean of a number over recent events: sum and count both shrink by the factor e every [`TIME_CONSTANT`], the
/// constant of deployed proxies.
///
/// Integers only: `count` has 32 binary places, and what is averaged comes in small units (nanoseconds, or parts of
/// 2^16), so rounding stays far below what any decision could notice, and every machine gets the same numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecayingMean {
    sum: u64,
    count: u64,
    at: Instant,
}

#[cfg(test)]
const TIME_CONSTANT: Duration = Duration::from_secs(600);

/// With fewer recent events than 0.1 the mean says nothing.
const COUNT_MIN: u64 = (1 << 32) / 10;

/// `2^32 · e^(−2^i ms / 600 s)`: the factor for an elapsed time is the product over its binary digits.
const FACTORS: [u64; 24] = [
    4_294_960_138,
    4_294_952_979,
    4_294_938_663,
    4_294_910_030,
    4_294_852_765,
    4_294_738_237,
    4_294_509_191,
    4_294_051_134,
    4_293_135_168,
    4_291_303_821,
    4_287_643_470,
    4_280_332_133,
    4_265_746_839,
    4_236_725_180,
    4_179_272_859,
    4_066_694_908,
    3_850_554_925,
    3_452_127_155,
    2_774_685_131,
    1_792_534_621,
    748_126_853,
    130_313_865,
    3_953_861,
    3_640,
];

impl DecayingMean {
    /// No events yet.
    pub(crate) const fn new(now: Instant) -> Self {
        Self { sum: 0, count: 0, at: now }
    }

    /// Counts one event.
    pub(crate) fn record(&mut self, value: u64, now: Instant) {
        self.decay_to(now);
        self.sum = self.sum.saturating_add(value);
        self.count = self.count.saturating_add(1 << 32);
    }

    /// The mean, or `None` while it says nothing.
    pub(crate) fn mean(&self, now: Instant) -> Option<u64> {
        let mut current = *self;
        current.decay_to(now);
        if current.count <= COUNT_MIN {
            return None;
        }
        let mean = (u128::from(current.sum) << 32).checked_div(u128::from(current.count))?;
        Some(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The mean of these events and `weight` more of value `prior`: what to believe when little was seen yet.
    pub(crate) fn mean_with(&self, prior: u64, weight: u32, now: Instant) -> u64 {
        let mut current = *self;
        current.decay_to(now);
        let assumed = u128::from(prior).saturating_mul(u128::from(weight));
        let sum = u128::from(current.sum).saturating_add(assumed) << 32;
        let count = u128::from(current.count).saturating_add(u128::from(weight) << 32);
        u64::try_from(sum.checked_div(count).unwrap_or(0)).unwrap_or(u64::MAX)
    }

    /// `value`, decayed from `since` to `now`.
    pub(crate) fn decayed(value: u64, since: Instant, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(since).as_millis();
        scale(value, factor(u64::try_from(elapsed).unwrap_or(u64::MAX)))
    }

    fn decay_to(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at);
        // Only whole milliseconds decay; the rest stays for the next call.
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        if elapsed_ms == 0 {
            return;
        }
        self.at = self.at.checked_add(Duration::from_millis(elapsed_ms)).unwrap_or(now);
        let factor = factor(elapsed_ms);
        self.sum = scale(self.sum, factor);
        self.count = scale(self.count, factor);
    }
}

/// `2^32 · e^(−elapsed / 600 s)`.
fn factor(elapsed_ms: u64) -> u64 {
    if elapsed_ms >> FACTORS.len() != 0 {
        return 0;
    }
    FACTORS
        .iter()
        .enumerate()
        .filter(|(digit, _)| (elapsed_ms >> digit) & 1 == 1)
        .fold(1 << 32, |product, (_, factor)| scale(product, *factor))
}

/// `value · factor / 2^32`, where `factor` is at most `2^32`.
fn scale(value: u64, factor: u64) -> u64 {
    let product = u128::from(value).saturating_mul(u128::from(factor)) >> 32;
    u64::try_from(product).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[expect(
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    reason = "the test compares with the definition, which is written in reals"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn an_unused_worker_has_no_mean() {
        let unused = DecayingMean::new(start());
        assert_eq!(unused.mean(start()), None);
        assert_eq!(unused.mean_with(7, 4, start()), 7);
    }

    #[test]
    fn the_mean_of_simultaneous_events_is_exact() {
        let now = start();
        let mut mean = DecayingMean::new(now);
        mean.record(100, now);
        mean.record(300, now);
        assert_eq!(mean.mean(now), Some(200));
        assert_eq!(mean.mean_with(50, 2, now), 125);
    }

    #[test]
    fn old_events_weigh_less() {
        let now = start();
        let mut mean = DecayingMean::new(now);
        mean.record(10_000_000_000, now);
        let later = now + TIME_CONSTANT;
        mean.record(1_000_000_000, later);
        let decayed = (-1.0_f64).exp();
        let expected = (10.0 * decayed + 1.0) / (decayed + 1.0) * 1e9;
        let found = mean.mean(later).unwrap() as f64;
        assert!((found / expected - 1.0).abs() < 1e-6, "{found} instead of {expected}");
    }

    #[test]
    fn one_event_is_forgotten_when_a_tenth_of_it_is_left() {
        let now = start();
        let mut mean = DecayingMean::new(now);
        mean.record(1, now);
        let forgotten_after = TIME_CONSTANT.mul_f64(10.0_f64.ln());
        assert!(mean.mean(now + forgotten_after - Duration::from_secs(1)).is_some());
        assert_eq!(mean.mean(now + forgotten_after + Duration::from_secs(1)), None);
        assert_eq!(mean.mean(now + Duration::from_secs(1 << 40)), None);
    }

    #[test]
    fn an_earlier_instant_changes_nothing() {
        let now = start() + Duration::from_secs(5);
        let mut mean = DecayingMean::new(now);
        mean.record(u64::MAX, now - Duration::from_secs(5));
        assert_eq!(mean.mean(now), Some(u64::MAX));
    }

    proptest! {
        #[test]
        fn the_factor_is_the_exponential(elapsed_ms in 0..20_000_000_u64) {
            let expected = (-(elapsed_ms as f64) / 600_000.0).exp();
            let found = factor(elapsed_ms) as f64 / 4_294_967_296.0;
            prop_assert!((found - expected).abs() < 1e-8, "{found} instead of {expected}");
        }
    }
}
