//! One role as a program, and its configuration.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::config::{self, Layers};
use crate::instance::{Ports, loopback, state_folder};
use crate::logs::LogArguments;
use crate::signals::stop_requested;

/// The roles of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    Client,
    Proxy,
    Worker,
}

impl Role {
    /// Name of the subcommand and of the state folder.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Proxy => "proxy",
            Self::Worker => "worker",
        }
    }
}

/// Flags of a role program.
#[derive(Args)]
pub(crate) struct RoleArguments {
    /// Configuration file (TOML). `cocoon config print ROLE` shows every key.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Set one configuration key; wins over the file and over `COCOON_KEY` variables. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// Number of this instance on this machine: moves default ports by 10 each and the state folder.
    #[arg(long, default_value_t = 0, value_name = "N")]
    instance: u16,

    /// State folder: keys, payments, and a proxy's books.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// What to do with a configuration.
#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read the configuration and say what is wrong with it.
    Check {
        /// Whose configuration.
        role: Role,
        #[command(flatten)]
        arguments: RoleArguments,
    },
    /// Print the effective configuration: every key with its value.
    Print {
        /// Whose configuration.
        role: Role,
        #[command(flatten)]
        arguments: RoleArguments,
    },
}

/// Runs a role until it is asked to stop, then drains it.
///
/// # Errors
/// If the configuration is refused or the role cannot start.
pub(crate) fn run(role: Role, arguments: &RoleArguments, logs: &LogArguments) -> Result<()> {
    logs.to_stderr()?;
    match role {
        Role::Client => {
            let config: client::Config = load(role, arguments)?;
            crate::runtime()?.block_on(async {
                let running = client::start(config).await?;
                tracing::info!(http = %running.http_address(), "client runs");
                stop_requested().await?;
                running.shutdown().await;
                Ok(())
            })
        }
        Role::Proxy => {
            let config: proxy::Config = load(role, arguments)?;
            crate::runtime()?.block_on(async {
                let running = proxy::start(config).await?;
                let (workers, clients) = (running.workers_address(), running.clients_address());
                tracing::info!(http = %running.http_address(), %workers, %clients, "proxy runs");
                stop_requested().await?;
                running.shutdown().await;
                Ok(())
            })
        }
        Role::Worker => {
            let config: worker::Config = load(role, arguments)?;
            crate::runtime()?.block_on(async {
                let running = worker::start(config).await?;
                tracing::info!(http = %running.http_address(), "worker runs");
                stop_requested().await?;
                running.shutdown().await;
                Ok(())
            })
        }
    }
}

/// Checks or prints a configuration.
///
/// # Errors
/// If the configuration is refused.
pub(crate) fn config(command: &ConfigCommand) -> Result<()> {
    match command {
        ConfigCommand::Print { role, arguments } => {
            let text = match role {
                Role::Client => config::print(&load::<client::Config>(*role, arguments)?),
                Role::Proxy => config::print(&load::<proxy::Config>(*role, arguments)?),
                Role::Worker => config::print(&load::<worker::Config>(*role, arguments)?),
            };
            print!("{}", text.context("the configuration cannot be shown")?);
        }
        ConfigCommand::Check { role, arguments } => {
            match role {
                Role::Client => load::<client::Config>(*role, arguments)?.check()?,
                Role::Proxy => load::<proxy::Config>(*role, arguments)?.check()?,
                Role::Worker => load::<worker::Config>(*role, arguments)?.check()?,
            }
            println!("the {} configuration is fine", role.name());
        }
    }
    Ok(())
}

fn load<T: DeserializeOwned>(role: Role, arguments: &RoleArguments) -> Result<T> {
    let layers = Layers {
        defaults: instance_defaults(role, arguments)?,
        file: arguments.config.clone(),
        environment: std::env::vars().collect(),
        flags: arguments.set.clone(),
    };
    Ok(config::load(&layers)?)
}

/// Ports and state folder of the instance, below everything a person wrote.
fn instance_defaults(role: Role, arguments: &RoleArguments) -> Result<Table> {
    let ports = Ports::of_instance(arguments.instance)?;
    let state = state_folder(arguments.state.as_deref(), role.name(), arguments.instance)?;
    let address = |port| Value::String(loopback(port).to_string());
    let mut table = Table::new();
    table.insert("state".into(), Value::String(state.to_string_lossy().into_owned()));
    match role {
        Role::Client => {
            table.insert("http".into(), address(ports.client_http));
        }
        Role::Worker => {
            table.insert("http".into(), address(ports.worker_http));
        }
        Role::Proxy => {
            table.insert("http".into(), address(ports.proxy_http));
            table.insert("workers".into(), address(ports.proxy_workers));
            table.insert("clients".into(), address(ports.proxy_clients));
        }
    }
    Ok(table)
}
