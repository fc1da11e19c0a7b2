//! `cocoon worker`: the role, and what a running one has earned.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use serde::Deserialize;
use units::NanoTon;

use crate::http;
use crate::instance::{Ports, loopback, state_folder};
use crate::logs::LogArguments;
use crate::role::{self, Role, RoleArguments};

/// How long a running worker may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

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
    Earnings(RunningWorker),
    /// Have the worker that runs on this machine order payouts now, of whatever is worth its fees.
    CashOut {
        /// One proxy contract; without it, all.
        #[arg(long, value_name = "ADDRESS")]
        proxy: Option<String>,
        #[command(flatten)]
        worker: RunningWorker,
    },
}

/// Which worker.
#[derive(Args)]
struct RunningWorker {
    /// Which instance on this machine.
    #[arg(long, default_value_t = 0, value_name = "N")]
    instance: u16,

    /// Its state folder, if it is not where this user's are.
    #[arg(long, value_name = "DIR")]
    state: Option<std::path::PathBuf>,
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
            print!("{}", crate::runtime()?.block_on(earnings(worker))?);
            Ok(())
        }
        Some(WorkerCommand::CashOut { proxy, worker }) => {
            println!("{}", crate::runtime()?.block_on(cash_out(worker, proxy.as_deref()))?);
            Ok(())
        }
    }
}

impl RunningWorker {
    fn authority(&self) -> Result<String> {
        Ok(loopback(Ports::of_instance(self.instance)?.worker_http).to_string())
    }
}

async fn earnings(worker: &RunningWorker) -> Result<String> {
    let authority = worker.authority()?;
    let stats = http::get_json(&authority, "/jsonstats", ANSWER_DEADLINE).await;
    let mut stats = stats.with_context(|| format!("no worker answers on {authority}: is it running?"))?;
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

async fn cash_out(worker: &RunningWorker, proxy: Option<&str>) -> Result<String> {
    let folder = state_folder(worker.state.as_deref(), Role::Worker.name(), worker.instance)?;
    let path = folder.join("admin.token");
    let token = std::fs::read_to_string(&path);
    let token =
        token.with_context(|| format!("cannot read {}: name the folder with --state", path.display()))?;
    let query = proxy.map_or_else(String::new, |proxy| format!("?proxy={proxy}"));
    ensure!(query.bytes().all(|byte| byte.is_ascii_graphic()), "--proxy is no address");
    let path = format!("/request/payout{query}");
    let answer = http::act(&worker.authority()?, &path, token.trim(), ANSWER_DEADLINE).await?;
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
