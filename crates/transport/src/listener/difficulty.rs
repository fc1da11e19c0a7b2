//! How much work a stranger has to do, by the load that strangers make.

use std::time::Duration;

use tokio::time::Instant;

/// No load makes it more bits than this, a few seconds of one core. Deployed clients give up above 28. A listener
/// that asks for more at rest asks for the same under load.
const BITS_MAX: u8 = 24;

/// Under load nothing below this is asked for, whatever is asked for at rest: adding bits to next to nothing is no
/// protection.
const BITS_BUSY_MIN: u8 = 16;

/// Strangers per second, roughly, that are no load.
const QUIET_RATE: f64 = 64.0;

/// Half of what is counted is forgotten after this time.
const HALF_LIFE: Duration = Duration::from_secs(1);

/// Counts strangers that come.
#[derive(Debug, Default)]
pub(super) struct Rate {
    recent: f64,
    at: Option<Instant>,
}

impl Rate {
    pub(super) fn count(&mut self, now: Instant) {
        self.recent = self.recent(now) + 1.0;
        self.at = Some(now);
    }

    fn recent(&self, now: Instant) -> f64 {
        let age = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.recent * (-age.as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2()
    }
}

/// Bits for the next stranger. Each doubling of the rate adds one, since it halves what the same effort gets through;
/// so does each eighth of the strangers' slots in use, beginning with the second.
pub(super) fn bits(at_rest: u8, rate: &Rate, now: Instant, used: usize, slots: usize) -> u8 {
    let by_rate = doublings(rate.recent(now) / QUIET_RATE);
    let by_slots = (used * 8 / slots.max(1)).saturating_sub(1).min(8);
    let more = by_rate.max(u8::try_from(by_slots).unwrap_or(u8::MAX));
    if more == 0 {
        return at_rest;
    }
    at_rest.max(BITS_BUSY_MIN).saturating_add(more).min(BITS_MAX.max(at_rest))
}

fn doublings(factor: f64) -> u8 {
    let is_reached = |doublings: &u8| factor >= f64::from(1u32 << doublings);
    (1..=16).take_while(is_reached).last().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate_of(count: usize, now: Instant) -> Rate {
        let mut rate = Rate::default();
        (0..count).for_each(|_| rate.count(now));
        rate
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_added_at_rest() {
        let now = Instant::now();
        for at_rest in [0, 4, 16, 24, 28] {
            assert_eq!(bits(at_rest, &Rate::default(), now, 0, 768), at_rest);
            assert_eq!(bits(at_rest, &rate_of(127, now), now, 191, 768), at_rest);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_bit_for_each_doubling_of_the_rate() {
        let now = Instant::now();
        let asked = |count| bits(16, &rate_of(count, now), now, 0, 768);
        assert_eq!([asked(127), asked(128), asked(255), asked(256), asked(1024)], [16, 17, 17, 18, 20]);
        assert_eq!(asked(1 << 20), BITS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bit_for_each_part_of_the_slots() {
        let now = Instant::now();
        let asked = |used| bits(16, &Rate::default(), now, used, 768);
        assert_eq!([asked(191), asked(192), asked(288), asked(767), asked(768)], [16, 17, 18, 22, 23]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_forgotten_soon() {
        let now = Instant::now();
        let rate = rate_of(1024, now);
        let asked = |after| bits(16, &rate, now + Duration::from_secs(after), 0, 768);
        assert_eq!([asked(0), asked(1), asked(2), asked(3), asked(4)], [20, 19, 18, 17, 16]);
    }

    #[tokio::test(start_paused = true)]
    async fn limits_hold_from_both_sides() {
        let now = Instant::now();
        let flood = rate_of(1 << 20, now);
        assert_eq!(
            bits(0, &rate_of(128, now), now, 0, 768),
            BITS_BUSY_MIN + 1,
            "next to nothing is no answer"
        );
        assert_eq!(bits(28, &flood, now, 768, 768), 28, "never less than at rest");
        assert_eq!(bits(64, &flood, now, 768, 768), 64);
    }
}
