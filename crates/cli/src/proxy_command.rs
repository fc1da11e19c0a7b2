//! `cocoon proxy`: the role, and what an operator has a running one settle on the chain.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::http;
use crate::instance::{Ports, loopback, state_folder};
use crate::logs::LogArguments;
use crate::role::{self, Role, RoleArguments};

/// How long a running proxy may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

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
        proxy: RunningProxy,
    },
    /// Have the running proxy pay out workers on the chain now, however little they earned.
    Payout {
        /// One worker's owner; without it, all.
        #[arg(long, value_name = "ADDRESS")]
        worker: Option<String>,
        #[command(flatten)]
        proxy: RunningProxy,
    },
    /// Have the running proxy pay its owner what it earned.
    Withdraw {
        #[command(flatten)]
        proxy: RunningProxy,
    },
    /// Have the running proxy close its contract: clients get what is left of their deposits, workers their last payout, and the
    /// owner the rest after the proxy's delay.
    Close {
        /// Do it. Without this flag nothing happens but an explanation.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        proxy: RunningProxy,
    },
}

/// Which proxy.
#[derive(Args)]
struct RunningProxy {
    /// Which instance on this machine.
    #[arg(long, default_value_t = 0, value_name = "N")]
    instance: u16,

    /// Its state folder, if it is not where this user's are.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// Runs a proxy, or tells a running one what to do.
///
/// # Errors
/// If the proxy cannot run, or does not do it.
pub(crate) fn run(arguments: &ProxyArguments, logs: &LogArguments) -> Result<()> {
    let (proxy, order) = match &arguments.command {
        None => return role::run(Role::Proxy, &arguments.role, logs),
        Some(ProxyCommand::Charge { client, proxy }) => (proxy, with("charge", "client", client.as_deref())),
        Some(ProxyCommand::Payout { worker, proxy }) => (proxy, with("payout", "worker", worker.as_deref())),
        Some(ProxyCommand::Withdraw { proxy }) => (proxy, "withdraw".to_owned()),
        Some(ProxyCommand::Close { yes: true, proxy }) => (proxy, "close".to_owned()),
        Some(ProxyCommand::Close { yes: false, .. }) => {
            println!("{EXPLANATION}");
            return Ok(());
        }
    };
    crate::runtime()?.block_on(proxy.tell(&order))?;
    println!("the proxy does it: `curl http://{}/jsonstats` shows how far it is", proxy.authority()?);
    Ok(())
}

const EXPLANATION: &str = "closing ends the proxy contract for good: no new requests, every client gets the rest of its deposit, every \
                           worker its last payout, and after the proxy's delay the owner gets stake and earnings. The proxy takes \
                           part again when the params of the root contract change. To do it, add --yes";

/// An action's path, for one owner or for all.
fn with(action: &str, name: &str, owner: Option<&str>) -> String {
    owner.map_or_else(|| action.to_owned(), |owner| format!("{action}?{name}={owner}"))
}

impl RunningProxy {
    fn authority(&self) -> Result<String> {
        Ok(loopback(Ports::of_instance(self.instance)?.proxy_http).to_string())
    }

    async fn tell(&self, order: &str) -> Result<()> {
        let file =
            state_folder(self.state.as_deref(), Role::Proxy.name(), self.instance)?.join("admin.token");
        let token = std::fs::read_to_string(&file)
            .with_context(|| format!("{}: has a proxy run with this state folder?", file.display()))?;
        let authority = self.authority()?;
        let path = format!("/request/{order}");
        let done = http::act(&authority, &path, token.trim(), ANSWER_DEADLINE).await;
        done.with_context(|| format!("the proxy on {authority} did not take the order"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_names_its_owner_or_nobody() {
        assert_eq!(with("charge", "client", None), "charge");
        assert_eq!(with("charge", "client", Some("UQx_-")), "charge?client=UQx_-");
    }
}
