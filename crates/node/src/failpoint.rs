//! Places where tests make the process die or the disk refuse. Without the feature `failpoints` there are none.
//!
//! | role | name | where |
//! | --- | --- | --- |
//! | all | `state-write`, `state-written`, `state-replaced` | before a file of the state folder is written, before it takes the place of the one before, before its folder is flushed |
//! | proxy | `journal-write`, `journal-written`, `journal-synced` | before a commit is written, before it is flushed, before anybody hears of it |
//! | proxy | `segment-begin`, `segment-cut` | while a segment is begun, before an unfinished commit is cut off |
//! | proxy | `snapshot-write`, `books-remove` | while a snapshot is written, before a file is removed |
//! | proxy | `root-keep` | while what a contract follows from is kept |
//! | proxy | `payment-sign` | before a payment is signed |
//! | proxy | `link-answer`, `link-send` | before a query is answered, before a message is sent |
//! | client | `client-query`, `client-request`, `client-part` | before the proxy is asked, before a request or a further part of its query is sent |
//! | client | `client-cancel`, `client-credit` | before a request is given up, before more of an answer is let come |
//! | client | `client-payment` | before a charge is taken over |
//! | worker | `worker-query`, `worker-announce` | before the proxy is asked, before it is told of a change |
//! | worker | `worker-answer`, `worker-end` | before a message of an answer is sent, before its last one or an error |
//! | worker | `worker-credit` | before more of a query is let come |
//! | worker | `worker-payment` | before a payment is taken over |
//!
//! `segment-len=return(2000)` is no place: it closes segments of a proxy's journal after so many bytes.
//!
//! The action `return(abort)` ends the process as `kill -9` does; any other `return` is an error of the disk where
//! there is one.

use std::io;

/// Passes a place where the disk may refuse, by its name.
///
/// # Errors
/// If a test wants one here; without the feature never.
#[cfg(feature = "failpoints")]
pub fn hit(name: &'static str) -> io::Result<()> {
    let wanted = |argument: Option<String>| match argument.as_deref() {
        Some("abort") => std::process::abort(),
        _ => Err(io::Error::other(name)),
    };
    fail::eval(name, wanted).unwrap_or(Ok(()))
}

/// Passes a place where the disk may refuse, by its name: nothing happens.
///
/// # Errors
/// If a test wants one here; without the feature never.
#[cfg(not(feature = "failpoints"))]
pub const fn hit(_name: &'static str) -> io::Result<()> {
    Ok(())
}

/// Passes a place where the process may die and nothing else can go wrong, by its name.
#[cfg(feature = "failpoints")]
pub fn pass(name: &'static str) {
    let _no_disk_here = hit(name);
}

/// Passes a place where the process may die: nothing happens.
#[cfg(not(feature = "failpoints"))]
pub const fn pass(_name: &'static str) {}

/// A number that a test sets instead of one that only long work would reach.
#[cfg(feature = "failpoints")]
#[must_use]
pub fn number(name: &'static str) -> Option<u64> {
    fail::eval(name, |argument: Option<String>| argument.and_then(|text| text.parse().ok())).flatten()
}

/// A number that a test sets: none.
#[cfg(not(feature = "failpoints"))]
#[must_use]
pub const fn number(_name: &'static str) -> Option<u64> {
    None
}
