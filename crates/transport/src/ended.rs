//! One line in the log for each accepted connection that ended, and no more than a disk can bear.
//!
//! What a peer did wrong is said at info level, and a flood of connections that end for one such cause is cut to
//! [`LINES_MAX`] lines per [`WINDOW`]; how many were left out is said afterwards. They are said at debug level, as an
//! ordinary end is.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{CloseReason, ConnectError};
use crate::listener::NotAdmitted;

/// Lines of one cause in one [`WINDOW`].
const LINES_MAX: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);

/// All listeners of the process write into one log.
static LINES: Mutex<Lines> = Mutex::new(Lines(BTreeMap::new()));

/// A connection that was closed as soon as it was accepted.
pub(crate) fn refused(refused: NotAdmitted) {
    log(refused.cause(), true, &refused);
}

/// A connection that did not become a link.
pub(crate) fn failed(error: &ConnectError) {
    log(error.cause(), error.is_fault(), error);
}

/// A link.
pub(crate) fn closed(reason: &CloseReason) {
    log(reason.cause(), reason.is_fault(), reason);
}

/// Writes the line of a connection that ended for `cause`, one of a closed set: at info level if that is the peer's `is_fault`.
/// `error` and what caused it may hold neither what a peer wrote nor its address.
pub fn log(cause: &'static str, is_fault: bool, error: &(dyn Error + 'static)) {
    // The innermost cause says the most; none of them holds what a peer wrote, or its address.
    let detail = std::iter::successors(error.source(), |&error| error.source()).last();
    let detail = detail.map(tracing::field::display);
    if !is_fault {
        tracing::debug!(cause, reason = %error, detail, "connection ended");
        return;
    }
    let now = Instant::now();
    let (may_write, left_out) = {
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        (lines.count(cause, now), lines.left_out(now))
    };
    for (cause, count) in left_out {
        tracing::info!(cause, count, "lines about ended connections were left out");
    }
    if may_write {
        tracing::info!(cause, reason = %error, detail, "connection ended");
    } else {
        tracing::debug!(cause, reason = %error, detail, "connection ended");
    }
}

/// The lines of the last [`WINDOW`], by cause. Causes are a closed set.
#[derive(Debug, Default)]
struct Lines(BTreeMap<&'static str, Window>);

#[derive(Clone, Copy, Debug)]
struct Window {
    since: Instant,
    written: u32,
    left_out: u64,
}

impl Lines {
    /// Counts a line; whether it may be written.
    fn count(&mut self, cause: &'static str, now: Instant) -> bool {
        let fresh = Window { since: now, written: 0, left_out: 0 };
        let window = self.0.entry(cause).or_insert(fresh);
        if window.left_out == 0 && now.saturating_duration_since(window.since) >= WINDOW {
            *window = fresh;
        }
        if window.written < LINES_MAX {
            window.written += 1;
            return true;
        }
        window.left_out += 1;
        false
    }

    /// Causes whose window is over and of which lines were left out. They begin anew.
    fn left_out(&mut self, now: Instant) -> Vec<(&'static str, u64)> {
        let mut left_out = Vec::new();
        self.0.retain(|cause, window| {
            let is_over = now.saturating_duration_since(window.since) >= WINDOW;
            if is_over && window.left_out > 0 {
                left_out.push((*cause, window.left_out));
            }
            !is_over
        });
        left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_one_cause_is_cut_and_counted() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let written = (0..1000).filter(|_| lines.count("flood", now)).count();
        assert_eq!(written, 20);
        assert!(lines.count("other", now), "each cause has its own lines");
        assert!(lines.left_out(now + WINDOW - Duration::from_secs(1)).is_empty());
        assert_eq!(lines.left_out(now + WINDOW), [("flood", 980)]);
        assert!(lines.left_out(now + WINDOW).is_empty(), "said once");
        assert!(lines.count("flood", now + WINDOW));
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_now_and_then_is_always_written() {
        let (mut lines, mut now) = (Lines::default(), Instant::now());
        for _ in 0..100 {
            assert!(lines.count("rare", now));
            assert!(lines.left_out(now).is_empty());
            now += WINDOW / 10;
        }
    }
}
