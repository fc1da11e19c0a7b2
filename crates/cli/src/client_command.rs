//! `cocoon client`: the role, and its owner's money at proxies.

mod contracts;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use chain::Network;
use clap::{Args, Subcommand};
use serde::Deserialize;
use units::NanoTon;

use self::contracts::{Contract, Purse};
use crate::logs::LogArguments;
use crate::role::{self, Role, RoleArguments};
use crate::running::{Running, RunningArguments};

/// How long an order is followed. The client itself gives one up two minutes after it was done and does not show.
const FOLLOWED_FOR: Duration = Duration::from_secs(150);
/// How long a proxy's help is waited for. Without it, the client's delay has to pass.
const HELP_FOR: Duration = Duration::from_secs(30);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(300);

/// Flags of `cocoon client`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ClientArguments {
    #[command(subcommand)]
    command: Option<ClientCommand>,

    #[command(flatten)]
    role: RoleArguments,
}

#[derive(Subcommand)]
enum ClientCommand {
    /// Show what the running client's wallet has, and what its contracts with proxies hold.
    Balance(RunningArguments),
    /// Have the running client pay in at a proxy now, beyond what it does by itself.
    Deposit {
        /// How much, such as "1.5 TON". Fees come on top.
        amount: NanoTon,
        #[command(flatten)]
        order: OrderArguments,
    },
    /// Have the running client fetch what is above the stake.
    Withdraw {
        #[command(flatten)]
        order: OrderArguments,
    },
    /// Have the running client leave its proxies: everything that is not used comes back to its wallet.
    Close {
        #[command(flatten)]
        order: OrderArguments,
    },
}

/// Flags of an order.
#[derive(Args)]
struct OrderArguments {
    /// One proxy contract. Without it: all, or for a deposit the only one.
    #[arg(long, value_name = "ADDRESS")]
    proxy: Option<String>,

    /// Say what it would do and cost, and have nothing signed.
    #[arg(long)]
    dry_run: bool,

    /// Yes, the client pays on TON mainnet: real money.
    #[arg(long)]
    mainnet: bool,

    #[command(flatten)]
    client: RunningArguments,
}

/// What a client answers to an order.
#[derive(Debug, Deserialize)]
struct Answer {
    network: String,
    /// Its server.
    chain: String,
    contracts: Vec<Asked>,
}

#[derive(Debug, Deserialize)]
struct Asked {
    sc_address: String,
    proxy_sc_address: String,
    problem: Option<String>,
    plan: Option<Plan>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Plan {
    pays_in: NanoTon,
    comes_back: NanoTon,
    attached: NanoTon,
    fees: NanoTon,
    wallet: NanoTon,
    delay_s: u32,
}

/// Runs a client, or tells a running one what to do.
///
/// # Errors
/// If the client cannot run, or does not do it.
pub(crate) fn run(arguments: &ClientArguments, logs: &LogArguments) -> Result<()> {
    let (name, amount, order) = match &arguments.command {
        None => return role::run(Role::Client, &arguments.role, logs),
        Some(ClientCommand::Balance(client)) => {
            let client = client.find(Role::Client)?;
            print!("{}", crate::runtime()?.block_on(Purse::of(&client))?);
            return Ok(());
        }
        Some(ClientCommand::Deposit { amount, order }) => ("deposit", Some(*amount), order),
        Some(ClientCommand::Withdraw { order }) => ("withdraw", None, order),
        Some(ClientCommand::Close { order }) => ("close", None, order),
    };
    crate::runtime()?.block_on(carry_out(name, amount, order))
}

/// Says what the order does; then, unless this is a dry run, gives it, and waits until it shows on the chain.
async fn carry_out(name: &str, amount: Option<NanoTon>, arguments: &OrderArguments) -> Result<()> {
    let client = arguments.client.find(Role::Client)?;
    let nanotons = amount.map(|amount| amount.get().to_string());
    let mut query: Vec<(&str, &str)> = Vec::new();
    query.extend(nanotons.as_deref().map(|nanotons| ("nanotons", nanotons)));
    query.extend(arguments.proxy.as_deref().map(|proxy| ("proxy", proxy)));
    let dry = [&query[..], &[("dry_run", "true")]].concat();
    let planned = answer(&client, name, &dry).await?;
    match (planned.is_mainnet(), arguments.mainnet) {
        (true, false) => {
            bail!("this client pays on TON mainnet, where money is real: say --mainnet if you mean it")
        }
        (false, true) => bail!("this client pays on {}, and --mainnet was said", planned.network),
        _ => planned.check()?,
    }
    planned.say(name);
    if arguments.dry_run {
        println!("dry run: nothing was signed");
        return Ok(());
    }
    let ordered = answer(&client, name, &query).await?;
    ordered.check()?;
    println!("ordered  waiting for the chain …");
    let addresses: Vec<&str> = ordered.granted().map(|(asked, _plan)| asked.sc_address.as_str()).collect();
    let purse = follow(&client, name, &addresses).await?;
    let mut failed = 0;
    for contract in
        purse.contracts.iter().filter(|contract| addresses.contains(&contract.sc_address.as_str()))
    {
        let (has_failed, said) = contract.outcome(name);
        failed += usize::from(has_failed);
        println!("{said}");
        println!("see      cocoon chain transactions {} --chain {}", contract.sc_address, ordered.chain);
    }
    print!("{purse}");
    ensure!(failed == 0, "{failed} of {} did not do what was asked", addresses.len());
    Ok(())
}

async fn answer(client: &Running, action: &str, query: &[(&str, &str)]) -> Result<Answer> {
    let answer = client.act(action, query).await?;
    serde_json::from_value(answer).context("the client is of another version")
}

/// Looks until nothing is under way at these contracts, or for long enough.
async fn follow(client: &Running, name: &str, addresses: &[&str]) -> Result<Purse> {
    let began = tokio::time::Instant::now();
    loop {
        let purse = Purse::of(client).await?;
        let elapsed = began.elapsed();
        let is_over = |contract: &Contract| match name {
            _ if contract.order.is_some() => false,
            // The proxy pays back as soon as it has seen that the contract closes.
            "close" => {
                contract.failures > 0 || contract.is_closed() || contract.closes() && elapsed > HELP_FOR
            }
            _ => true,
        };
        let mut followed =
            purse.contracts.iter().filter(|contract| addresses.contains(&contract.sc_address.as_str()));
        if followed.all(is_over) || elapsed > FOLLOWED_FOR {
            return Ok(purse);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Answer {
    /// Whether money is real there.
    fn is_mainnet(&self) -> bool {
        self.network == Network::Mainnet.to_string()
    }

    /// What is done.
    fn granted(&self) -> impl Iterator<Item = (&Asked, Plan)> {
        self.contracts.iter().filter_map(|asked| Some((asked, asked.plan?)))
    }

    /// Refuses if nothing is done.
    fn check(&self) -> Result<()> {
        let problems: Vec<&str> =
            self.contracts.iter().filter_map(|asked| asked.problem.as_deref()).collect();
        ensure!(self.granted().next().is_some(), "{}", problems.join("; "));
        Ok(())
    }

    fn say(&self, name: &str) {
        println!("network  {}", self.network);
        let mut left = None;
        for (asked, plan) in self.granted() {
            let Plan { pays_in, comes_back, attached, fees, wallet, delay_s } = plan;
            println!("proxy    {}", asked.proxy_sc_address);
            match name {
                "deposit" => println!("{name}  {pays_in} go into the client contract {}", asked.sc_address),
                "close" => {
                    println!(
                        "{name}    {comes_back} come back from {}, less what is used meanwhile",
                        asked.sc_address
                    );
                    println!("         at once with the proxy's help, without it after {delay_s} s");
                    println!(
                        "         the contract is closed for good: this proxy is used again when the network's params change"
                    );
                }
                _ => println!("{name} {comes_back} come back from the client contract {}", asked.sc_address),
            }
            println!("fees     about {fees} of {attached} that go along; the rest comes back");
            // One wallet pays for all.
            let before = left.unwrap_or(wallet);
            let after = before.saturating_sub(pays_in).saturating_sub(fees).get();
            left = Some(NanoTon::new(after.saturating_add(comes_back.get())));
        }
        if let Some(left) = left {
            println!("left     about {left} in the node wallet");
        }
        for asked in &self.contracts {
            if let Some(problem) = &asked.problem {
                println!("not      proxy {}: {problem}", asked.proxy_sc_address);
            }
        }
        if self.is_mainnet() {
            println!("MAINNET  this is real money");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(problem: Option<&str>) -> Asked {
        let plan = Plan {
            pays_in: NanoTon::new(1),
            comes_back: NanoTon::ZERO,
            attached: NanoTon::new(3),
            fees: NanoTon::new(2),
            wallet: NanoTon::new(9),
            delay_s: 300,
        };
        Asked {
            sc_address: "UQ".into(),
            proxy_sc_address: "UP".into(),
            problem: problem.map(str::to_owned),
            plan: problem.is_none().then_some(plan),
        }
    }

    #[test]
    fn an_order_that_does_nothing_anywhere_is_an_error() {
        let answer = |contracts| Answer { network: "n".into(), chain: "c".into(), contracts };
        assert!(answer(vec![asked(None), asked(Some("closed"))]).check().is_ok());
        let refused = answer(vec![asked(Some("closed")), asked(Some("busy"))]).check().unwrap_err();
        assert_eq!(refused.to_string(), "closed; busy");
    }
}
