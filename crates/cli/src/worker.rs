//! `cocoon worker`: the role, and what a running one has earned.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde::Deserialize;
use units::NanoTon;

use crate::logs::LogArguments;
use crate::role::{self, Role, RoleArguments};
use crate::running::{Running, RunningArguments};

/// Flags of `cocoon worker`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct WorkerArguments {
    #[command(subcommand)]
    command: Option<WorkerCommand>,

    #[command(flatten)]
    role: RoleArguments,
}

#[derive(Subcommand)]
enum WorkerCommand {
    /// Show what proxies owe the worker that runs on this machine, and what they have paid.
    Earnings(RunningArguments),
    /// Have the worker that runs on this machine order payouts now, of whatever is worth its fees.
    CashOut {
        /// One proxy contract; without it, all.
        #[arg(long, value_name = "ADDRESS")]
        proxy: Option<String>,
        #[command(flatten)]
        worker: RunningArguments,
    },
}

/// What a worker says of one proxy.
#[derive(Debug, Deserialize)]
struct Earnings {
    proxy_sc_address: String,
    contract: String,
    unpaid_nanotons: NanoTon,
    paid_out_nanotons: NanoTon,
    payout_under_way: bool,
    failure: Option<String>,
}

/// Runs a worker, or asks a running one.
///
/// # Errors
/// If the worker cannot run, or does not answer.
pub(crate) fn run(arguments: &WorkerArguments, logs: &LogArguments) -> Result<()> {
    match &arguments.command {
        None => role::run(Role::Worker, &arguments.role, logs),
        Some(WorkerCommand::Earnings(worker)) => {
            print!("{}", crate::runtime()?.block_on(earnings(&worker.find(Role::Worker)?))?);
            Ok(())
        }
        Some(WorkerCommand::CashOut { proxy, worker }) => {
            println!(
                "{}",
                crate::runtime()?.block_on(cash_out(&worker.find(Role::Worker)?, proxy.as_deref()))?
            );
            Ok(())
        }
    }
}

async fn earnings(worker: &Running) -> Result<String> {
    let mut stats = worker.stats().await?;
    let wallet = &stats["wallet"];
    let balance = wallet["balance"]
        .as_u64()
        .map_or_else(|| "was not seen yet".to_owned(), |nanotons| format!("has {}", NanoTon::new(nanotons)));
    let address = wallet["address"].as_str().unwrap_or_default();
    let mut foot = format!("node wallet {address} {balance}\n");
    if let Some(trouble) = wallet["trouble"].as_str() {
        let _infallible = writeln!(foot, "{trouble}");
    }
    let list = stats["earnings"].take();
    let list: Vec<Earnings> = serde_json::from_value(list).context("the worker is of another version")?;
    Ok(table(&list) + &foot)
}

fn table(list: &[Earnings]) -> String {
    if list.is_empty() {
        return "nothing is owed yet, or the worker has no chain in its configuration\n".to_owned();
    }
    let mut text = format!("{:<50} {:<13} {:>18} {:>18}\n", "PROXY", "CONTRACT", "UNPAID", "PAID OUT");
    for earnings in list {
        let Earnings { proxy_sc_address, contract, unpaid_nanotons, paid_out_nanotons, .. } = earnings;
        let (unpaid, paid) = (unpaid_nanotons.to_string(), paid_out_nanotons.to_string());
        let _infallible = writeln!(text, "{proxy_sc_address:<50} {contract:<13} {unpaid:>18} {paid:>18}");
        if earnings.payout_under_way {
            text.push_str("  a payout is under way\n");
        }
        if let Some(failure) = &earnings.failure {
            let _infallible = writeln!(text, "  the last payout failed: {failure}");
        }
    }
    text
}

async fn cash_out(worker: &Running, proxy: Option<&str>) -> Result<String> {
    let query: Vec<_> = proxy.iter().map(|proxy| ("proxy", *proxy)).collect();
    let answer = worker.act("payout", &query).await?;
    Ok(match answer["payouts"].as_u64().unwrap_or(0) {
        0 => "nothing is owed that is worth the fees of a payout".to_owned(),
        1 => "1 payout is ordered: cocoon worker earnings shows when it is there".to_owned(),
        count => format!("{count} payouts are ordered: cocoon worker earnings shows when they are there"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earnings_are_told_in_tons() {
        let list = vec![Earnings {
            proxy_sc_address: "UQ".into(),
            contract: "open".into(),
            unpaid_nanotons: NanoTon::new(1_500_000_000),
            paid_out_nanotons: NanoTon::new(2_000_000_000),
            payout_under_way: true,
            failure: Some("no money".into()),
        }];
        let text = table(&list);
        for part in ["1.5 TON", "2 TON", "under way", "failed: no money"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(table(&[]).contains("nothing is owed"));
    }
}
