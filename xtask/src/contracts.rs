//! Tests of the contracts, in the TVM sandbox of npm: `contracts/`.

use anyhow::Result;

use crate::npm;

/// Runs a script of `contracts/package.json`.
///
/// Without Node.js and npm the step is skipped with a printed reason: compiled code is committed, so nothing else needs them.
///
/// # Errors
/// If the packages cannot be installed or the script fails.
pub(crate) fn test(script: &str) -> Result<()> {
    if !npm::is_here("contracts") {
        return Ok(());
    }
    npm::test("contracts", script, &[])
}
