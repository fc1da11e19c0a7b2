//! `cargo xtask hostile`: a peer that misbehaves on purpose, against roles that really run.
//!
//! A proxy, a worker and a client run as processes of their own, before a small engine. Each attack of the catalogue
//! says what it expects, and is judged by more than that: a well-behaved neighbour's requests succeed during and
//! after it, the target's memory stays bounded, and each ended connection left one line in the target's log.
//!
//! It needs the program of this repository, and nothing else: no attack leaves the loopback interface.
#![forbid(unsafe_code)]

mod attacks;
mod certificate;
mod engine;
mod fake;
mod http;
mod judge;
mod raw;
mod role;
mod session;
mod stage;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};

use attacks::Tier;
use stage::Stage;

const USAGE: &str = "usage: cocoon-hostile --program FILE [--quick] [--only TEXT]";

/// What the command line asks for.
struct Arguments {
    program: PathBuf,
    tier: Tier,
    /// Only attacks whose name holds this text.
    only: String,
}

fn arguments() -> Result<Arguments> {
    let (mut program, mut tier, mut only) = (None, Tier::Long, String::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--program" => program = words.next().map(PathBuf::from),
            "--quick" => tier = Tier::Quick,
            "--only" => only = words.next().context(USAGE)?,
            _ => anyhow::bail!("{word:?} is not understood\n{USAGE}"),
        }
    }
    let program = program.context(USAGE)?;
    ensure!(program.exists(), "there is no program at {}", program.display());
    Ok(Arguments { program, tier, only })
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cocoon-hostile: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every attack was borne.
async fn run() -> Result<bool> {
    let Arguments { program, tier, only } = arguments()?;
    let stage = Stage::set(&program).await.context("the roles to attack do not run")?;
    let mut missed = 0;
    let mut count = 0;
    println!("{:<44} {:>7} {:>9} {:>6}  outcome", "attack", "ms", "RSS KiB", "lines");
    for attack in attacks::catalogue() {
        if attack.tier > tier || !attack.name.contains(&only) {
            continue;
        }
        let verdict = judge::judge(&stage, &attack).await;
        println!("{verdict}");
        count += 1;
        missed += usize::from(!verdict.is_borne());
    }
    println!("{count} attacks, {missed} not borne");
    if missed > 0 {
        println!("{}", stage.last_words());
    }
    Ok(missed == 0)
}
