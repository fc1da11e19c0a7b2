//! The wall clock, read in one place.
//!
//! Certificates need the date; everything that measures a span of time uses `tokio::time::Instant`, which tests
//! can pause.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since 1970-01-01 00:00:00 UTC. Zero when the clock is set before that.
#[must_use]
pub fn unix_now() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the wall clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A time since 1970 as every stop of a request writes its own into headers: in seconds, with six decimals.
#[must_use]
pub fn seconds_text(time: Duration) -> String {
    format!("{}.{:06}", time.as_secs(), time.subsec_micros())
}
