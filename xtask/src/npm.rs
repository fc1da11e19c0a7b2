//! Tests that run in Node.js.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::Result;

use crate::command::{exists, run};

/// Whether the tests of `what` can run here. Where they cannot, the reason is printed.
pub(crate) fn is_here(what: &str) -> bool {
    let is_here = exists("node", "--version") && exists("npm", "--version");
    if !is_here {
        eprintln!("skipped: {what}, because node or npm is not installed (Node.js 20 or newer)");
    }
    is_here
}

/// Runs a script of `folder`'s `package.json` with exactly the packages of its lock file.
///
/// # Errors
/// If the packages cannot be installed or the script fails.
pub(crate) fn test(folder: &str, script: &str, variables: &[(&str, &OsStr)]) -> Result<()> {
    let folder = crate::root()?.join(folder);
    let quiet = ["ci", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts"];
    run(Command::new("npm").args(quiet).current_dir(&folder))?;
    let script = ["run", "--silent", script];
    run(Command::new("npm").args(script).envs(variables.iter().copied()).current_dir(&folder))
}
