//! Places where tests make the process die or the disk refuse. Without the feature `failpoints` there are none.
//!
//! | name | where |
//! | --- | --- |
//! | `journal-write`, `journal-written`, `journal-synced` | before a commit is written, before it is flushed, before anybody hears of it |
//! | `segment-begin`, `segment-cut` | while a segment is begun, before an unfinished commit is cut off |
//! | `snapshot-write`, `books-remove` | while a snapshot is written, before a file is removed |
//! | `payment-sign` | before a payment is signed |
//! | `link-answer`, `link-send` | before a query is answered, before a message is sent |
//!
//! `segment-len=return(2000)` is no place: it closes segments of the journal after so many bytes.
//!
//! The action `return(abort)` ends the process as `kill -9` does; any other `return` is an error of the disk where
//! there is one.

use std::io;

/// Passes a place by its name.
///
/// # Errors
/// If a test wants one here.
#[cfg(feature = "failpoints")]
pub(crate) fn hit(name: &'static str) -> io::Result<()> {
    let wanted = |argument: Option<String>| match argument.as_deref() {
        Some("abort") => std::process::abort(),
        _ => Err(io::Error::other(name)),
    };
    fail::eval(name, wanted).unwrap_or(Ok(()))
}

/// Passes a place by its name: nothing happens.
///
/// # Errors
/// None.
#[cfg(not(feature = "failpoints"))]
#[expect(clippy::unnecessary_wraps, reason = "with the feature there are errors")]
pub(crate) const fn hit(_name: &'static str) -> io::Result<()> {
    Ok(())
}

/// A number that a test sets instead of one that only long work would reach.
#[cfg(feature = "failpoints")]
pub(crate) fn number(name: &'static str) -> Option<u64> {
    fail::eval(name, |argument: Option<String>| argument.and_then(|text| text.parse().ok())).flatten()
}

/// A number that a test sets: none.
#[cfg(not(feature = "failpoints"))]
pub(crate) const fn number(_name: &'static str) -> Option<u64> {
    None
}
