//! Fuzz targets, each for a bounded time.

use std::num::NonZero;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::command::{cargo, exists, run};

/// Lines of a target's output that are shown when it ends.
const LINES_SHOWN: usize = 3;
/// And when it found something.
const LINES_OF_FINDING: usize = 60;

/// Runs every target of `fuzz/` for `seconds`, starting from the kept seeds; as many at once as there are cores.
///
/// # Errors
/// If a target finds something, or the nightly toolchain is missing.
pub(crate) fn run_all(seconds: u32) -> Result<()> {
    if !exists("cargo-fuzz", "--version") {
        cargo(&["install", "cargo-fuzz", "--locked"])?;
    }
    run(Command::new("cargo").args(["+nightly", "fuzz", "build"]))?;
    let waiting = Mutex::new(targets()?);
    let take = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        let run_next = || {
            while let Some(target) = take() {
                run_one(&target, seconds)?;
            }
            Ok(())
        };
        let runners: Vec<_> = (0..cores).map(|_core| scope.spawn(run_next)).collect();
        runners
            .into_iter()
            .try_for_each(|runner| runner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn run_one(target: &str, seconds: u32) -> Result<()> {
    let root = crate::root()?;
    let corpus = root.join("fuzz/corpus").join(target);
    std::fs::create_dir_all(&corpus).with_context(|| format!("cannot create {}", corpus.display()))?;
    // New findings go to the first folder; the kept seeds are only read.
    let mut fuzz = Command::new("cargo");
    fuzz.args(["+nightly", "fuzz", "run", target])
        .arg(&corpus)
        .arg(root.join("fuzz/seeds").join(target))
        .arg("--")
        .arg(format!("-max_total_time={seconds}"))
        .args(["-rss_limit_mb=2048", "-timeout=30"])
        .current_dir(&root);
    let dictionary = root.join("fuzz/dictionaries").join(target);
    if dictionary.exists() {
        fuzz.arg(format!("-dict={}", dictionary.display()));
    }
    let output = fuzz.output().with_context(|| format!("cannot start the fuzz target {target}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    let count = if output.status.success() { LINES_SHOWN } else { LINES_OF_FINDING };
    let shown = lines[lines.len().saturating_sub(count)..].join("\n");
    eprintln!("{target}:\n{shown}");
    ensure!(output.status.success(), "the fuzz target {target} ended with {}", output.status);
    Ok(())
}

fn targets() -> Result<Vec<String>> {
    let folder = crate::root()?.join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if let (Some("rs"), Some(name)) =
            (path.extension().and_then(|e| e.to_str()), path.file_stem().and_then(|n| n.to_str()))
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
