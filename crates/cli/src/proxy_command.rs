//! `cocoon proxy`: the role, and what an operator has a running one settle on the chain.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::logs::LogArguments;
use crate::role::{self, Role, RoleArguments};
use crate::running::RunningArguments;

/// Flags of `cocoon proxy`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ProxyArguments {
    #[command(subcommand)]
    command: Option<ProxyCommand>,

    #[command(flatten)]
    role: RoleArguments,
}

#[derive(Subcommand)]
enum ProxyCommand {
    /// Have the running proxy charge clients on the chain now, however little they owe.
    Charge {
        /// One client's wallet; without it, all.
        #[arg(long, value_name = "ADDRESS")]
        client: Option<String>,
        #[command(flatten)]
        proxy: RunningArguments,
    },
    /// Have the running proxy pay out workers on the chain now, however little they earned.
    Payout {
        /// One worker's owner; without it, all.
        #[arg(long, value_name = "ADDRESS")]
        worker: Option<String>,
        #[command(flatten)]
        proxy: RunningArguments,
    },
    /// Have the running proxy pay its owner what it earned.
    Withdraw {
        #[command(flatten)]
        proxy: RunningArguments,
    },
    /// Have the running proxy close its contract: clients get what is left of their deposits, workers their last payout, and the
    /// owner the rest after the proxy's delay.
    Close {
        /// Do it. Without this flag nothing happens but an explanation.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        proxy: RunningArguments,
    },
}

/// Runs a proxy, or tells a running one what to do.
///
/// # Errors
/// If the proxy cannot run, or does not do it.
pub(crate) fn run(arguments: &ProxyArguments, logs: &LogArguments) -> Result<()> {
    let (proxy, action, owner) = match &arguments.command {
        None => return role::run(Role::Proxy, &arguments.role, logs),
        Some(ProxyCommand::Charge { client, proxy }) => (proxy, "charge", ("client", client)),
        Some(ProxyCommand::Payout { worker, proxy }) => (proxy, "payout", ("worker", worker)),
        Some(ProxyCommand::Withdraw { proxy }) => (proxy, "withdraw", ("", &None)),
        Some(ProxyCommand::Close { yes: true, proxy }) => (proxy, "close", ("", &None)),
        Some(ProxyCommand::Close { yes: false, .. }) => {
            println!("{EXPLANATION}");
            return Ok(());
        }
    };
    let proxy = proxy.find(Role::Proxy)?;
    let query: Vec<_> = owner.1.iter().map(|address| (owner.0, address.as_str())).collect();
    crate::runtime()?.block_on(proxy.act(action, &query))?;
    println!("the proxy does it: {}", proxy.how_to_see());
    Ok(())
}

const EXPLANATION: &str = "closing ends the proxy contract for good: no new requests, every client gets the rest of its deposit, every \
                           worker its last payout, and after the proxy's delay the owner gets stake and earnings. The proxy takes \
                           part again when the params of the root contract change. To do it, add --yes";
