//! Fuzz targets, each for a bounded time.

use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{cargo, exists, run};

/// Runs every target of `fuzz/` for `seconds`, starting from the kept seeds.
///
/// # Errors
/// If a target finds something, or the nightly toolchain is missing.
pub(crate) fn run_all(seconds: u32) -> Result<()> {
    if !exists("cargo-fuzz", "--version") {
        cargo(&["install", "cargo-fuzz", "--locked"])?;
    }
    let root = crate::root()?;
    for target in targets()? {
        let corpus = root.join("fuzz/corpus").join(&target);
        std::fs::create_dir_all(&corpus).with_context(|| format!("cannot create {}", corpus.display()))?;
        // New findings go to the first folder; the kept seeds are only read.
        run(Command::new("cargo")
            .args(["+nightly", "fuzz", "run", &target])
            .arg(&corpus)
            .arg(root.join("fuzz/seeds").join(&target))
            .arg("--")
            .arg(format!("-max_total_time={seconds}"))
            .arg("-rss_limit_mb=2048"))?;
    }
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
