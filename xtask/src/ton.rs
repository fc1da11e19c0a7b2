//! Tests of the devnet with the official TON SDK of npm: `tests/ton`.

use anyhow::Result;

use crate::command::cargo;
use crate::npm;
use crate::sdk::target_folder;

/// Runs `tests/ton`.
///
/// Without Node.js and npm the step is skipped with a printed reason: the program needs neither.
///
/// # Errors
/// If the program does not build, the packages cannot be installed or a test fails.
pub(crate) fn test() -> Result<()> {
    if !npm::is_here("official TON SDK") {
        return Ok(());
    }
    cargo(&["build", "--package", "cocoon"])?;
    let program = target_folder()?.join("debug/cocoon");
    npm::test("tests/ton", "test", &[("COCOON_TEST_PROGRAM", program.as_os_str())])
}
