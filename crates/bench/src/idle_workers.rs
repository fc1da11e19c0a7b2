//! Workers that only hold a link: one process makes thousands of them.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{ChildStdout, Command};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use ton::Address;
use transport::{ConnectConfig, Link, LinkEvents, connect};
use wire::{client, worker};

use crate::mock::MODEL;
use crate::process::{Process, this_program};

/// Handshakes at once: a listener lets one address have 64.
const HANDSHAKES_MAX: usize = 32;

/// For each query of the handshake; the proxy may be busy with thousands of others.
const PATIENCE: Duration = Duration::from_secs(60);

/// Above the ceiling that a client's requests have by default.
const TOO_DEAR: i32 = 1_000_000;

/// The generator, in a process of its own.
pub(crate) struct IdleWorkers {
    _process: Process,
    _words: ChildStdout,
}

impl IdleWorkers {
    /// Starts the generator and waits until all its workers have joined.
    ///
    /// # Errors
    /// If it cannot start, or a worker is refused.
    pub(crate) fn start(workers_port: u16, count: usize) -> Result<Self> {
        let mut command = Command::new(this_program()?);
        command.args(["bench", "idle-workers"]).arg(workers_port.to_string()).arg(count.to_string());
        let (process, mut words) = Process::start_speaking(command)?;
        let mut line = String::new();
        BufReader::new(&mut words).read_line(&mut line)?;
        ensure!(line.trim() == "joined", "the idle workers did not join");
        Ok(Self { _process: process, _words: words })
    }
}

/// What the generator's process does: joins `count` workers, says so, and holds them until killed.
///
/// # Errors
/// If a worker is refused.
pub(crate) async fn hold(port: u16, count: usize) -> Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut joining = JoinSet::new();
    let config = Arc::new(ConnectConfig::default());
    for number in 0..count {
        let (places, config) = (Arc::clone(&places), Arc::clone(&config));
        joining.spawn(async move {
            let _place = places.acquire_owned().await?;
            join(address, &config, number).await.with_context(|| format!("worker {number}"))
        });
    }
    let mut links = Vec::with_capacity(count);
    while let Some(joined) = joining.join_next().await {
        links.push(joined??);
    }
    println!("joined");
    std::future::pending::<()>().await;
    drop(links);
    Ok(())
}

async fn join(address: SocketAddr, config: &ConnectConfig, number: usize) -> Result<(Link, LinkEvents)> {
    let (link, events) = connect(&address.to_string(), config).await?;
    let mut owner = [0x77; 32];
    owner[..8].copy_from_slice(&(number as u64).to_le_bytes());
    let owner = Address::new(0, owner).to_wire_text(false);
    let params = worker::Params {
        worker_owner_address: owner.as_str().into(),
        model: MODEL.into(),
        coefficient: TOO_DEAR,
        deployment: Some(worker::Deployment { is_test: true, proxy_cnt: 1, max_active_requests: 100 }),
        proto_range: Some(client::ProtoRange { min_proto_version: 1, max_proto_version: 2 }),
    };
    let nothing = worker::CompareBalanceWithProxy {
        tokens_committed_to_blockchain: 0,
        tokens_committed_to_db: 0,
        max_tokens: 0,
    };
    link.query(wire::encode(&worker::ConnectToProxy { params }), PATIENCE).await?;
    link.query(wire::encode(&nothing), PATIENCE).await?;
    link.query(wire::encode(&worker::ProxyHandshakeComplete { is_disabled: false }), PATIENCE).await?;
    Ok((link, events))
}
