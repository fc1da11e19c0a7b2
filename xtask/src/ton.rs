//! Tests of the devnet with the official TON SDK of npm: `tests/ton`.

use std::process::Command;

use anyhow::Result;

use crate::command::{cargo, exists, run};
use crate::sdk::target_folder;

/// Runs `tests/ton` with exactly the packages of its lock file.
///
/// Without Node.js and npm the step is skipped with a printed reason: the program needs neither.
///
/// # Errors
/// If the packages cannot be installed or a test fails.
pub(crate) fn test() -> Result<()> {
    if !exists("node", "--version") || !exists("npm", "--version") {
        eprintln!("skipped: official TON SDK, because node or npm is not installed (Node.js 20 or newer)");
        return Ok(());
    }
    cargo(&["build", "--package", "cocoon"])?;
    let folder = crate::root()?.join("tests/ton");
    let quiet = ["ci", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts"];
    run(Command::new("npm").args(quiet).current_dir(&folder))?;
    run(Command::new("npm")
        .args(["run", "--silent", "test"])
        .env("COCOON_TEST_PROGRAM", target_folder()?.join("debug/cocoon"))
        .current_dir(&folder))
}
