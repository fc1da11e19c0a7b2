//! Tests with programs of other people: the official OpenAI SDK as caller, a real engine as worker's back end.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::command::{cargo, run};

/// The official Python SDK against a whole network with a scripted engine.
///
/// # Errors
/// If the environment cannot be made or a test fails.
pub(crate) fn quick() -> Result<()> {
    cargo(&["build", "--package", "cocoon"])?;
    let python = environment("sdk", &["tests/sdk/requirements.txt"])?;
    pytest(&python, &["tests/sdk", "--ignore=tests/sdk/test_real_engine.py"])
}

/// The same network in front of a real engine program that serves the demo model.
///
/// # Errors
/// If the environment cannot be made or a test fails.
pub(crate) fn real_engine() -> Result<()> {
    cargo(&["build", "--package", "cocoon"])?;
    let python = environment(
        "real-engine",
        &["tests/sdk/requirements.txt", "tests/sdk/requirements-real-engine.txt"],
    )?;
    pytest(&python, &["tests/sdk/test_real_engine.py"])
}

fn pytest(python: &Path, arguments: &[&str]) -> Result<()> {
    let program = target_folder()?.join("debug/cocoon");
    run(Command::new(python)
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"])
        .args(arguments)
        .env("COCOON_TEST_PROGRAM", program))
}

/// A Python environment below the target folder with exactly the listed requirements.
fn environment(name: &str, requirements: &[&str]) -> Result<PathBuf> {
    let folder = target_folder()?.join("xtask").join(name);
    let python = folder.join("bin/python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    for file in requirements {
        pip.args(["--requirement", file]);
    }
    run(&mut pip)?;
    Ok(python)
}

fn target_folder() -> Result<PathBuf> {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => Ok(std::path::absolute(folder)?),
        None => Ok(crate::root()?.join("target")),
    }
}
