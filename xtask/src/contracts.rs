//! Tests of the contracts, in the TVM sandbox of npm: `contracts/`.

use std::process::Command;

use anyhow::Result;

use crate::command::{exists, run};

/// Runs a script of `contracts/package.json` with exactly the packages of its lock file.
///
/// Without Node.js and npm the step is skipped with a printed reason: compiled code is committed, so nothing else needs them.
///
/// # Errors
/// If the packages cannot be installed or the script fails.
pub(crate) fn test(script: &str) -> Result<()> {
    if !exists("node", "--version") || !exists("npm", "--version") {
        eprintln!("skipped: contracts, because node or npm is not installed (Node.js 20 or newer)");
        return Ok(());
    }
    let folder = crate::root()?.join("contracts");
    let quiet = ["ci", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts"];
    run(Command::new("npm").args(quiet).current_dir(&folder))?;
    run(Command::new("npm").args(["run", "--silent", script]).current_dir(&folder))
}
