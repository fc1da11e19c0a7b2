//! `cargo xtask`: the one entry to development tasks.
//!
//! | command | does |
//! | --- | --- |
//! | `test` | the quick tier: format, lints, tidiness, Rust tests, the contracts, the official SDKs, a real engine, quick attacks, instruction counts; sets up what it needs |
//! | `test --long` | the slow tier on top: killed roles, the contracts' random lives and planted faults, supply chain, all attacks and fuzzing |
//! | `tidy` | rules that no compiler checks: layers, reasons for dependencies, stray paths |
//! | `deny` | licences, bans and sources of all dependencies |
//! | `hostile [--quick]` | attacks on running roles: all of them, or those that take no time |
//! | `count [--update]` | instructions of hot paths against the committed table, or a new table |
//! | `fuzz [SECONDS]` | every fuzz target for that long, 60 s each if not said |

mod command;
mod contracts;
mod count;
mod deny;
mod fuzz;
mod hostile;
mod npm;
mod sdk;
mod tidy;
mod ton;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::command::{cargo, step};

const USAGE: &str =
    "usage: cargo xtask test [--long] | tidy | deny | hostile [--quick] | count [--update] | fuzz [SECONDS]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["test"] => test_quick(),
        ["test", "--long"] => test_quick().and_then(|()| test_long()),
        ["tidy"] => tidy::check(),
        ["deny"] => deny::check(),
        ["hostile"] => hostile::run(false),
        ["hostile", "--quick"] => hostile::run(true),
        ["count"] => count::check(false),
        ["count", "--update"] => count::check(true),
        ["fuzz"] => fuzz::run_all(60),
        ["fuzz", seconds] => seconds.parse().context("SECONDS must be a number").and_then(fuzz::run_all),
        _ => Err(anyhow::anyhow!(USAGE)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What CI runs. Cheap checks first, so that a slip is reported within seconds.
fn test_quick() -> Result<()> {
    step("format", || cargo(&["fmt", "--all", "--check"]))?;
    step("tidy", tidy::check)?;
    step("lints", || {
        cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "--deny", "warnings"])
    })?;
    step("rust tests", || cargo(&["test", "--workspace", "--all-features", "--no-fail-fast"]))?;
    // The README starts the program without naming a package.
    step("the program", || cargo(&["run", "--", "--version"]))?;
    step("contracts", || contracts::test("test"))?;
    step("official TON SDK", ton::test)?;
    step("official SDK and a real engine", sdk::test)?;
    step("hostile peers", || hostile::run(true))?;
    step("instruction counts", || count::check(false))
}

/// Random moments at which a role is killed in the slow tier.
const KILL_RUNS: &str = "200";

fn test_long() -> Result<()> {
    step("killed roles", || {
        let test = ["test", "--package", "cocoon-proxy", "--features", "failpoints", "--test", "kill"];
        command::run(Command::new("cargo").args(test).env("COCOON_KILL_RUNS", KILL_RUNS))
    })?;
    step("contracts, random lives and planted faults", || contracts::test("test:long"))?;
    step("supply chain", deny::check)?;
    step("hostile peers, all attacks", || hostile::run(false))?;
    step("fuzzing", || fuzz::run_all(600))
}

/// The repository's root folder.
///
/// # Errors
/// If the program was built outside a checkout.
fn root() -> Result<PathBuf> {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    match manifest.parent() {
        Some(root) if root.join("Cargo.lock").exists() => Ok(root.to_owned()),
        _ => bail!("{} is not inside the repository: run cargo xtask from a checkout", manifest.display()),
    }
}
