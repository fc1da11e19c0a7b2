//! Tests with programs of other people: the official OpenAI SDK as caller, a real engine as worker's back end.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::command::{cargo, run};

/// Runs `tests/sdk` against whole networks, in a Python environment made for it.
///
/// # Errors
/// If the environment cannot be made or a test fails.
pub(crate) fn test() -> Result<()> {
    cargo(&["build", "--package", "cocoon"])?;
    let target = target_folder()?;
    let python = environment(&target.join("xtask/sdk"))?;
    run(Command::new(python)
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/sdk"])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("COCOON_TEST_PROGRAM", target.join("debug/cocoon")))
}

/// A Python environment in `folder` with exactly the pinned requirements; returns its interpreter.
fn environment(folder: &Path) -> Result<PathBuf> {
    let python = folder.join("bin/python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    }
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(["--requirement", "tests/sdk/requirements.txt"]))?;
    Ok(python)
}

/// Where cargo puts what it builds.
///
/// # Errors
/// If the current folder cannot be named.
pub(crate) fn target_folder() -> Result<PathBuf> {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => Ok(std::path::absolute(folder)?),
        None => Ok(crate::root()?.join("target")),
    }
}
