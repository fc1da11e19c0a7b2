//! The three roles of a private network, in this process or each in its own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::process::{Child, Command};

use super::network::Network;
use crate::config;
use crate::logs::{LogArguments, open_log};
use crate::role::Role;

/// How long a child may take to drain before it is killed.
const CHILD_STOP_DEADLINE: Duration = Duration::from_secs(20);

/// Running roles. The order of stopping is that of a request: first nothing new comes in, last the proxy goes.
pub(super) enum Roles {
    InProcess(Box<InProcess>),
    Processes(Vec<(Role, Child)>),
}

pub(super) struct InProcess {
    client: client::Running,
    worker: worker::Worker,
    proxy: proxy::Proxy,
}

impl Roles {
    /// Starts the roles in this process.
    ///
    /// # Errors
    /// If one of them cannot start, with its name.
    pub(super) async fn start(network: &Network) -> Result<Self> {
        let proxy = proxy::start(network.proxy.clone()).await.context("the proxy cannot start")?;
        let worker = worker::start(network.worker.clone()).await.context("the worker cannot start")?;
        let client = client::start(network.client.clone()).await.context("the client cannot start")?;
        Ok(Self::InProcess(Box::new(InProcess { client, worker, proxy })))
    }

    /// Starts each role as a process of this program, with a configuration file below the state folder.
    ///
    /// # Errors
    /// If a file cannot be written or a process cannot start.
    pub(super) fn spawn(network: &Network, logs: &LogArguments, log_folder: &Path) -> Result<Self> {
        let start = |role, config| spawn_role(role, config, network, logs, log_folder);
        Ok(Self::Processes(vec![
            (Role::Proxy, start(Role::Proxy, toml_of(&network.proxy)?)?),
            (Role::Worker, start(Role::Worker, toml_of(&network.worker)?)?),
            (Role::Client, start(Role::Client, toml_of(&network.client)?)?),
        ]))
    }

    /// Returns when a role ended by itself, saying which. Roles in this process end only with it.
    pub(super) async fn ended(&mut self) -> String {
        let Self::Processes(children) = self else { return std::future::pending().await };
        let waits = children.iter_mut().map(|(role, child)| {
            Box::pin(async move {
                match child.wait().await {
                    Ok(status) => format!("the {} ended by itself ({status})", role.name()),
                    Err(error) => format!("the {} cannot be watched: {error}", role.name()),
                }
            })
        });
        futures_util::future::select_all(waits).await.0
    }

    /// Drains and stops every role.
    pub(super) async fn stop(self) {
        match self {
            Self::InProcess(roles) => {
                roles.client.shutdown().await;
                roles.worker.shutdown().await;
                roles.proxy.shutdown().await;
            }
            Self::Processes(children) => {
                for (role, child) in children.into_iter().rev() {
                    stop_child(role, child).await;
                }
            }
        }
    }
}

fn toml_of<T: Serialize>(config: &T) -> Result<String> {
    config::print(config).context("the configuration cannot be written as TOML")
}

fn spawn_role(
    role: Role,
    config: String,
    network: &Network,
    logs: &LogArguments,
    log_folder: &Path,
) -> Result<Child> {
    let file = network.state.join(format!("{}.toml", role.name()));
    std::fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
    let log = open_log(&log_folder.join(format!("{}.log", role.name())))?;
    let program = std::env::current_exe().context("this program's own path is unknown")?;
    let mut command = Command::new(program);
    command.arg(role.name()).arg("--config").arg(&file).args(logs.to_flags());
    // The children are in a process group of their own: Ctrl-C reaches us, and we stop them in order.
    command.process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("the {} cannot start", role.name()))
}

/// Asks a child to drain, and kills it when it does not.
async fn stop_child(role: Role, mut child: Child) {
    if let Some(id) = child.id() {
        let asked = Command::new("kill").arg("-TERM").arg(id.to_string()).status().await;
        if asked.is_ok_and(|status| status.success())
            && tokio::time::timeout(CHILD_STOP_DEADLINE, child.wait()).await.is_ok()
        {
            return;
        }
    }
    tracing::warn!(role = role.name(), "killed: it did not stop when asked");
    let _already_gone = child.kill().await;
}
