//! `cocoon bench`: what the path from application to engine costs, measured on this machine against plain forwarders.
//!
//! A suite starts everything it needs on loopback, each in a process of its own: a mock engine , the three
//! roles as programs of the same binary, and nginx where it is found. Load comes from this process, whose cost is
//! never counted. Absolute times mean little on a shared machine, so every figure stands beside a yardstick that was
//! measured in the same minute, and what is reported is their ratio: the median over rounds, and its spread.
//!
//! Invariants:
//! - Every token of a streamed answer carries its number; a request whose tokens are not complete and in order fails,
//!   and a cell with a failed request ends the run: it has no figure.
//! - Children end with this process, and nothing listens anywhere but on loopback.
//!
//! It depends on no role: roles are reached as a user would reach them. Errors are `anyhow`'s, since this is a tool.
#![forbid(unsafe_code)]

mod ask;
mod http;
mod idle_workers;
mod load;
mod measure;
mod mock;
mod plain_library;
mod platforms;
mod process;
mod report;
mod statistics;
mod suites;
mod targets;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::idle_workers::Shows;
use crate::report::Report;

/// Flags of `cocoon bench`.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    suite: Suite,
}

#[derive(Subcommand)]
enum Suite {
    /// Every suite, one after the other.
    All {
        /// Short and small: about two minutes.
        #[arg(long)]
        quick: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Cost and latency of requests, against one nginx and against three with two mutual TLS hops.
    E2e(Common),
    /// How late tokens of paced streams come, and what each costs.
    Stream(Common),
    /// What thousands of connected workers cost while they are idle.
    Scale {
        /// Numbers of idle workers, from few to many.
        #[arg(long, value_delimiter = ',', default_values_t = [10, 1000, 10_000], value_name = "N,N,…")]
        workers: Vec<usize>,
        #[command(flatten)]
        common: Common,
    },
    /// What a durable charge costs, and how soon the books are back after a crash.
    Ledger {
        /// Clients with an account.
        #[arg(long, default_value_t = 1_000_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        clients: u32,
        #[command(flatten)]
        common: Common,
    },
    /// What gets done when twice as many requests come as the worker can run.
    Overload(Common),
    /// How soon the engine hears that a caller went away.
    Cancel(Common),
    /// What is held for callers that do not read.
    SlowReader(Common),
    /// Whether large prompts hold back the tokens of others.
    Hol(Common),
    /// What evidence costs, and how soon all workers are back.
    Attest(Common),
    /// The mock engine that the other suites start.
    #[command(hide = true)]
    Mock,
    /// The process that `ledger` has recover its books.
    #[command(hide = true)]
    Recover {
        /// Where they are.
        folder: PathBuf,
    },
    /// The idle workers that `scale` starts.
    #[command(hide = true)]
    IdleWorkers {
        /// Port of the proxy.
        port: u16,
        /// How many.
        count: usize,
        /// Their evidence.
        #[arg(long, value_enum, default_value_t = Shows::Nothing)]
        shows: Shows,
    },
}

/// Flags that all suites have.
#[derive(Args, Clone)]
struct Common {
    /// Print each figure as one line of JSON instead of tables.
    #[arg(long)]
    json: bool,

    /// Rounds; each visits all targets in random order.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Seconds for each target in each round of each cell.
    #[arg(long, default_value_t = 1.5, value_name = "SECS")]
    secs: f64,

    /// As short and small as it gets: shows that a suite works, and no figure that means anything.
    #[arg(long, hide = true)]
    smoke: bool,

    /// Write the tables into this file too, between the suite's markers.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

impl Common {
    fn span(&self) -> Duration {
        Duration::from_secs_f64(self.secs.clamp(0.1, 600.0))
    }

    /// A size of a suite that no flag sets.
    fn size<T>(&self, usual: T, smoke: T) -> T {
        if self.smoke { smoke } else { usual }
    }
}

/// Runs a suite.
///
/// # Errors
/// If a process cannot start, or a measurement is impossible.
pub fn run(arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match &arguments.suite {
            Suite::Mock => mock::serve().await,
            Suite::All { quick, common } => all(*quick, common).await,
            Suite::IdleWorkers { port, count, shows } => idle_workers::hold(*port, *count, *shows).await,
            Suite::Recover { folder } => suites::ledger::recover(folder),
            Suite::E2e(common) => finish(common, &suites::e2e::run(common).await?),
            Suite::Stream(common) => finish(common, &suites::stream::run(common).await?),
            Suite::Scale { workers, common } => finish(common, &suites::scale::run(common, workers).await?),
            Suite::Ledger { clients, common } => {
                finish(common, &suites::ledger::run(common, *clients as usize)?)
            }
            Suite::Overload(common) => finish(common, &suites::overload::run(common).await?),
            Suite::Cancel(common) => finish(common, &suites::cancel::run(common).await?),
            Suite::SlowReader(common) => finish(common, &suites::slow_reader::run(common).await?),
            Suite::Hol(common) => finish(common, &suites::hol::run(common).await?),
            Suite::Attest(common) => finish(common, &suites::attest::run(common).await?),
        }
    })
}

async fn all(quick: bool, common: &Common) -> Result<()> {
    let short = Common { rounds: common.rounds.min(2), secs: common.secs.min(0.5), ..common.clone() };
    let (common, workers, clients) = match quick {
        _ if common.smoke => (common, &[2, 10][..], 1000),
        true => (&short, &[10, 1000][..], 100_000),
        false => (common, &[10, 1000, 10_000][..], 1_000_000),
    };
    finish(common, &suites::e2e::run(common).await?)?;
    finish(common, &suites::stream::run(common).await?)?;
    finish(common, &suites::scale::run(common, workers).await?)?;
    finish(common, &suites::ledger::run(common, clients)?)?;
    finish(common, &suites::overload::run(common).await?)?;
    finish(common, &suites::cancel::run(common).await?)?;
    finish(common, &suites::slow_reader::run(common).await?)?;
    finish(common, &suites::hol::run(common).await?)?;
    finish(common, &suites::attest::run(common).await?)
}

/// Prints a report and writes it where it was asked for.
fn finish(common: &Common, report: &Report) -> Result<()> {
    if common.json {
        for line in report.json_lines() {
            println!("{line}");
        }
    } else {
        println!("{}", report.markdown());
    }
    match &common.write {
        None => Ok(()),
        Some(file) => report.write(file).with_context(|| format!("--write {}", file.display())),
    }
}
