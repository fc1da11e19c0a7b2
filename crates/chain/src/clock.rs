//! Whether our clock and the chain's agree. Orders expire by the chain's clock, and are signed by ours.

use std::time::Duration;

/// How far the newest block may be from our clock. Blocks come every few seconds.
pub const DRIFT_MAX: Duration = Duration::from_secs(30);

/// Times that do not agree, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// The newest block is too old.
    #[error(
        "the newest block is {} s older than our clock: if this machine's clock is right, the server is behind or the \
         network stands still; ask another server",
        .by.as_secs()
    )]
    ChainBehind {
        /// How much older.
        by: Duration,
    },
    /// The newest block is of the future.
    #[error("the newest block is {} s ahead of our clock: set this machine's clock (NTP) before anything is signed", .by.as_secs())]
    ClockBehind {
        /// How far ahead.
        by: Duration,
    },
}

/// Compares the time of the newest block with `now`, both since 1970.
///
/// # Errors
/// [`ClockError`] if they are more than [`DRIFT_MAX`] apart.
pub fn check(block_time: Duration, now: Duration) -> Result<(), ClockError> {
    let behind = now.saturating_sub(block_time);
    let ahead = block_time.saturating_sub(now);
    if behind > DRIFT_MAX {
        return Err(ClockError::ChainBehind { by: behind });
    }
    if ahead > DRIFT_MAX {
        return Err(ClockError::ClockBehind { by: ahead });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_minute_either_way_is_fine_and_no_more() {
        let at = |seconds: u64| Duration::from_secs(1_800_000_000 + seconds);
        let second = Duration::from_secs(1);
        assert_eq!(check(at(0), at(30)), Ok(()));
        assert_eq!(check(at(30), at(0)), Ok(()));
        assert_eq!(check(at(0), at(31)), Err(ClockError::ChainBehind { by: 31 * second }));
        assert_eq!(check(at(31), at(0)), Err(ClockError::ClockBehind { by: 31 * second }));
        let said = check(at(0), at(90)).unwrap_err().to_string();
        assert!(said.contains("90 s") && said.contains("another server"), "{said}");
    }
}
