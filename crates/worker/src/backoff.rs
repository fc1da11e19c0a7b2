//! When to try again.

use std::time::Duration;

use rand::{Rng, RngExt as _};

/// The pause after the first failure.
const FIRST: Duration = Duration::from_millis(250);
/// No pause is longer: deployed workers try every 10 s.
const LONGEST: Duration = Duration::from_secs(10);

/// Doubling pauses, each shortened by up to a half at random, so that workers that lost a proxy together do not come
/// back together.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self { next: FIRST }
    }

    /// How long to wait now.
    pub(crate) fn pause(&mut self, random: &mut impl Rng) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        pause.mul_f64(random.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let mut random = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::new();
        let mut ceiling = FIRST;
        for _ in 0..12 {
            let pause = backoff.pause(&mut random);
            assert!(pause <= ceiling && pause >= ceiling / 2, "{pause:?} of {ceiling:?}");
            ceiling = (ceiling * 2).min(LONGEST);
        }
        assert_eq!(ceiling, LONGEST);
        let (mut a, mut b) = (Backoff::new(), Backoff::new());
        assert_ne!(a.pause(&mut random), b.pause(&mut random));
    }
}
