//! Running other programs, and saying what runs.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

const INCREMENTAL: &str = "CARGO_INCREMENTAL";

/// Runs one named step and prints a line before and after it.
///
/// # Errors
/// Whatever the step returns, with its name.
pub(crate) fn step(name: &str, action: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("── {name}");
    action().with_context(|| format!("step {name:?} failed"))?;
    eprintln!("── {name}: ok");
    Ok(())
}

/// Runs cargo with `arguments` in the repository's root.
///
/// # Errors
/// If cargo cannot be started or does not succeed.
pub(crate) fn cargo(arguments: &[&str]) -> Result<()> {
    run(&mut cargo_command(arguments))
}

/// Cargo with `arguments`, not yet started. What it builds is built once, so it keeps no data of incremental builds,
/// gigabytes of a target folder, unless the environment asks for them.
pub(crate) fn cargo_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    if std::env::var_os(INCREMENTAL).is_none() {
        command.env(INCREMENTAL, "0");
    }
    command
}

/// Runs a command in the repository's root (unless it names a folder itself) and demands success.
///
/// # Errors
/// If the program cannot be started or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    if command.get_current_dir().is_none() {
        command.current_dir(crate::root()?);
    }
    let shown = shown(command);
    let status = command.status().with_context(|| format!("cannot start {shown}"))?;
    ensure!(status.success(), "{shown} ended with {status}");
    Ok(())
}

/// Whether `program` can be started at all.
pub(crate) fn exists(program: &str, argument: &str) -> bool {
    let probe = Command::new(program).arg(argument).output();
    probe.is_ok_and(|output| output.status.success())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
