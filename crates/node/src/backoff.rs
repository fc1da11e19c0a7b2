//! When to try a proxy again.

use std::time::Duration;

use rand::{Rng, RngExt as _};

/// The pause after the first failure.
const FIRST: Duration = Duration::from_millis(250);
/// No pause is longer: deployed peers try every 10 s.
const LONGEST: Duration = Duration::from_secs(10);

/// Pauses between attempts to link to a proxy: each twice as long as the one before, and shortened by up to a half at
/// random, so that peers that lost a proxy together do not come back together.
///
/// A link that was worth its wait makes them short again: one that served, or that was ready for as long as was waited
/// for it. So whoever had a proxy has it again at most twice as late as it came back. No storm follows from it: a proxy
/// that starts and dies again and again sees the short pause only from those that it served, or for whom it lived
/// through their last pause. To all others it is a proxy that fails, and they double.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    /// What was waited for the latest attempt.
    waited: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST, waited: Duration::ZERO }
    }
}

impl Backoff {
    /// A link has ended that was ready for `ready_for`, and carried a request to its end if `has_served`.
    pub fn link_ended(&mut self, ready_for: Duration, has_served: bool) {
        if has_served || ready_for >= self.waited {
            self.next = FIRST;
        }
    }

    /// How long to wait now.
    pub fn pause(&mut self, random: &mut impl Rng) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        self.waited = pause.mul_f64(random.random_range(0.5..=1.0));
        self.waited
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let mut random = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::default();
        let mut ceiling = FIRST;
        for _ in 0..12 {
            let pause = backoff.pause(&mut random);
            assert!(pause <= ceiling && pause >= ceiling / 2, "{pause:?} of {ceiling:?}");
            ceiling = (ceiling * 2).min(LONGEST);
        }
        assert_eq!(ceiling, LONGEST);
        let (mut a, mut b) = (Backoff::default(), Backoff::default());
        assert_ne!(a.pause(&mut random), b.pause(&mut random));
    }

    #[test]
    fn a_link_that_was_worth_its_wait_makes_pauses_short_again() {
        let mut random = StdRng::seed_from_u64(1);
        let mut after = |ready_for: fn(Duration) -> Duration, has_served| {
            let mut backoff = Backoff::default();
            for _ in 0..4 {
                backoff.pause(&mut random);
            }
            let waited = backoff.pause(&mut random);
            assert!(waited >= ms(2000));
            backoff.link_ended(ready_for(waited), has_served);
            backoff.pause(&mut random)
        };
        assert!(after(|_waited| Duration::ZERO, true) <= FIRST, "it served");
        assert!(after(|waited| waited, false) <= FIRST, "it lived");
        assert!(after(|waited| waited - ms(1), false) >= LONGEST / 2 - ms(1000), "it did neither");
    }

    /// A proxy that is away for `away` and then ready for `ready` again and again; what its peer waits after it came
    /// back, the longest time of all, and how many attempts it makes in all.
    fn flapping(away: Duration, ready: Duration, serves: bool) -> (Duration, u32) {
        let mut random = StdRng::seed_from_u64(7);
        let mut backoff = Backoff::default();
        let (mut now, mut late_max, mut attempts) = (Duration::ZERO, Duration::ZERO, 0);
        let period = away + ready;
        while now < ms(600_000) {
            now += backoff.pause(&mut random);
            attempts += 1;
            let phase = ms(u64::try_from(now.as_millis() % period.as_millis()).unwrap());
            if let Some(since) = phase.checked_sub(away) {
                late_max = late_max.max(since);
                backoff.link_ended(ready - since, serves);
                now += ready - since;
            }
        }
        (late_max, attempts)
    }

    #[test]
    fn a_proxy_that_flaps_has_its_peers_back_soon_and_is_not_stormed() {
        for (away, ready, serves) in
            [(500, 3000, true), (500, 3000, false), (3000, 8000, true), (4000, 60_000, false)]
        {
            let (late_max, attempts) = flapping(ms(away), ms(ready), serves);
            assert!(late_max <= ms(2 * away + 500), "{late_max:?} late after {away} ms");
            let periods = 600_000 / (away + ready);
            assert!(u64::from(attempts) <= periods * 7, "{attempts} attempts in {periods} periods");
        }
        // One that never lives for long and serves nobody is tried ever more rarely.
        let (_late, attempts) = flapping(ms(1000), ms(20), false);
        assert!(attempts < 100, "{attempts} attempts in ten minutes");
    }
}
