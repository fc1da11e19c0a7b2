//! Places where tests make the process die or the disk refuse. Without the feature `failpoints` there are none.
//!
//! The action `return(abort)` ends the process as `kill -9` does; any other `return` is an error of the disk where
//! there is one. All places of all roles stand in `node::failpoint`.

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
