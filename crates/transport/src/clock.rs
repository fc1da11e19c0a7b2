//! The wall clock, read in one place.
//!
//! Certificates need the date; everything that measures a span of time uses `tokio::time::Instant`, which tests
//! can pause.
//!
//! A guest's clock is set by its host. One that is set back would have certificates and collateral of yesterday accepted, with
//! whatever was revoked since; so where a chain is followed, certificates and evidence are made and judged at no time before its newest block's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When the newest block was made, as the chain's server told it last: seconds since 1970. There is one clock in a process, and so one of these.
static BLOCK_TIME: AtomicU64 = AtomicU64::new(0);

/// Time since 1970-01-01 00:00:00 UTC. Zero when the clock is set before that.
#[must_use]
pub fn unix_now() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the wall clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The time since 1970 at which certificates and evidence are made and judged: our clock's, or that of the newest block where our clock
/// is behind it.
#[must_use]
pub fn certificate_now() -> Duration {
    judged_at(unix_now(), Duration::from_secs(BLOCK_TIME.load(Ordering::Relaxed)))
}

fn judged_at(clock: Duration, block: Duration) -> Duration {
    clock.max(block)
}

/// Tells when the chain's newest block was made. The last word counts: a server that tells of a future cuts this process off for as long as
/// it does, and no longer.
pub fn heard_block_time(since_1970: Duration) {
    BLOCK_TIME.store(since_1970.as_secs(), Ordering::Relaxed);
}

/// A time since 1970 as every stop of a request writes its own into headers: in seconds, with six decimals.
#[must_use]
pub fn seconds_text(time: Duration) -> String {
    format!("{}.{:06}", time.as_secs(), time.subsec_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_is_not_believed() {
        let day = Duration::from_secs(86_400);
        let block = 20_000 * day;
        assert_eq!(judged_at(block - 300 * day, block), block, "set back");
        assert_eq!(judged_at(block + Duration::from_secs(5), block), block + Duration::from_secs(5));
        assert_eq!(judged_at(block, Duration::ZERO), block, "nobody told of a block");
    }
}
