//! Attacks on running roles, by `crates/hostile`.

use anyhow::Result;

use crate::command::cargo;
use crate::sdk::target_folder;

/// Builds the program and attacks it: with a selection of some seconds if `quick`, else with everything.
///
/// # Errors
/// If something cannot be built, or an attack was not borne.
pub(crate) fn run(is_quick: bool) -> Result<()> {
    cargo(&["build", "--package", "cocoon"])?;
    let program = target_folder()?.join("debug/cocoon");
    let program = program.to_string_lossy();
    let mut arguments = vec!["run", "--quiet", "--package", "cocoon-hostile", "--", "--program", &program];
    arguments.extend(is_quick.then_some("--quick"));
    cargo(&arguments)
}
