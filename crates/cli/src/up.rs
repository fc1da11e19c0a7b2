//! `cocoon up`: client, proxy and worker on this machine, on real sockets, with the same role code as anywhere.

#[cfg(feature = "devnet")]
mod chain;
mod detect;
mod enclaves;
mod engine_choice;
mod network;
mod roles;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use hyper::StatusCode;
use node::StateFolder;

use self::enclaves::Enclaves;
use self::engine_choice::ServedModel;
use self::network::Network;
use self::roles::Roles;
use crate::http;
use crate::instance::{FreePorts, Ports, loopback, state_folder};
use crate::logs::LogArguments;
use crate::signals::stop_requested;
use crate::status;

/// Flags of `cocoon up`.
#[derive(Args)]
pub(crate) struct UpArguments {
    /// Serve the models of this OpenAI-compatible server.
    #[arg(long, value_name = "URL")]
    backend: Option<String>,

    /// Serve this local model with the embedded engine: a GGUF file or a folder with safetensors.
    #[cfg(feature = "embedded-engine")]
    #[arg(long, value_name = "PATH", conflicts_with = "backend")]
    model: Option<PathBuf>,

    /// Do not look for an engine that already runs on this host.
    #[arg(long)]
    no_detect: bool,

    /// Number of this network on this machine: moves every port by 10 and the state folder.
    #[arg(long, default_value_t = 0, value_name = "N", conflicts_with = "free_ports")]
    instance: u16,

    /// Let the system choose free ports instead.
    #[arg(long)]
    free_ports: bool,

    /// Run each role as its own process of this program.
    #[arg(long)]
    processes: bool,

    /// State folder: keys, logs and the network's root configuration.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// Starts the network, prints how to use it, and stops it when asked.
///
/// # Errors
/// If the state folder, a port or the engine cannot be had, or a role ends by itself.
pub(crate) fn run(arguments: UpArguments, logs: &LogArguments) -> Result<()> {
    let state = state_folder(arguments.state.as_deref(), "up", arguments.instance)?;
    let _lock = StateFolder::open(&state)?;
    let log_folder = state.join("logs");
    logs.to_file(&log_folder.join("cocoon.log"))?;
    // Held to the end: whoever else looks for a port meanwhile finds another one.
    let free = arguments.free_ports.then(FreePorts::take).transpose()?;
    let ports = match &free {
        Some(free) => free.ports,
        None => Ports::of_instance(arguments.instance)?,
    };
    crate::runtime()?.block_on(async {
        let served = engine_choice::choose(&arguments).await?;
        eprintln!("starting a private network that serves {served} …");
        let enclaves = Enclaves::make(&state).context("the simulated platforms cannot be made")?;
        let terms = network::terms(ports, &served);
        #[cfg(feature = "devnet")]
        let chain = chain::UpChain::start(&state, ports.chain_http, &terms).await?;
        #[cfg(feature = "devnet")]
        let ground = chain.ground();
        #[cfg(not(feature = "devnet"))]
        let ground = network::Ground::of_file(&state, &terms)?;
        let network = Network::lay_out(&state, ports, &served, &enclaves, ground);
        tokio::spawn(enclaves.publish_on());
        let mut roles = match arguments.processes {
            true => Roles::spawn(&network, logs, &log_folder)?,
            false => Roles::start(&network).await?,
        };
        // The listener for Ctrl-C is armed before waiting, so that a slow start can be stopped too.
        let mut stop = std::pin::pin!(stop_requested());
        let outcome = tokio::select! {
            stopped = &mut stop => stopped,
            outcome = answers_and_lasts(&mut roles, &network, &served, &log_folder) => outcome,
        };
        eprintln!("stopping …");
        roles.stop().await;
        #[cfg(feature = "devnet")]
        chain.stop().await;
        outcome
    })
}

/// Waits for readiness, prints the table, and then only returns if a role ends by itself.
async fn answers_and_lasts(
    roles: &mut Roles,
    network: &Network,
    served: &ServedModel,
    log_folder: &std::path::Path,
) -> Result<()> {
    tokio::select! {
        ended = roles.ended() => bail!("{ended}; its log is in {}", log_folder.display()),
        () = ready(network.ports) => {}
    }
    print!("{}", table::render(network, served, log_folder));
    let ended = roles.ended().await;
    bail!("{ended}; its log is in {}", log_folder.display())
}

/// Returns when a prompt would be answered; says now and then what it waits for.
async fn ready(ports: Ports) {
    let address = loopback(ports.client_http).to_string();
    let mut polls: u32 = 0;
    loop {
        let waits_for = match http::get(&address, "/readyz", Duration::from_secs(2)).await {
            Ok((StatusCode::OK, _body)) => return,
            Ok((_status, body)) => status::missing(&body),
            Err(_not_listening_yet) => Vec::new(),
        };
        polls += 1;
        // Every 50 ms, and a line every five seconds: a large model may take minutes to load.
        if polls.is_multiple_of(100) && !waits_for.is_empty() {
            eprintln!("waiting for {}", waits_for.join(", "));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
