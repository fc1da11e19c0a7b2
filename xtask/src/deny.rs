//! Licences, bans and sources of all dependencies, by `cargo deny`.

use std::process::Command;

use anyhow::Result;

use crate::command::{cargo, exists, run};

/// Installs `cargo-deny` when it is missing and checks the dependency tree.
///
/// The advisory database is a git repository on the network: where it cannot be fetched, that one check is
/// skipped with a printed reason.
///
/// # Errors
/// If a check finds something.
pub(crate) fn check() -> Result<()> {
    if !exists("cargo-deny", "--version") {
        cargo(&["install", "cargo-deny", "--locked"])?;
    }
    cargo(&["deny", "--all-features", "check", "bans", "licenses", "sources"])?;
    let fetched = Command::new("cargo").args(["deny", "fetch", "db"]).current_dir(crate::root()?).output()?;
    if !fetched.status.success() {
        eprintln!("skipped: advisories, because the advisory database cannot be fetched from here");
        return Ok(());
    }
    run(Command::new("cargo").args(["deny", "--all-features", "check", "advisories"]))
}
