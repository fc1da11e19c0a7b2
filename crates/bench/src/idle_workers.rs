//! Workers that only hold a link: one process makes thousands of them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use ton::Address;
use transport::clock::unix_now;
use transport::identity::TlsIdentity;
use transport::{ConnectConfig, Link, LinkEvents, Via, connect};
use wire::{client, worker};

use crate::mock::MODEL;
use crate::platforms::Platforms;
use crate::process::{Process, this_program};

/// Handshakes at once: a listener lets one address have 64.
pub(crate) const HANDSHAKES_MAX: usize = 32;

/// For each query of the handshake; the proxy may be busy with thousands of others.
const PATIENCE: Duration = Duration::from_secs(60);

/// Above the ceiling that a client's requests have by default.
const TOO_DEAR: i32 = 1_000_000;

/// The generator, in a process of its own.
pub(crate) struct IdleWorkers {
    _process: Process,
    orders: ChildStdin,
    words: BufReader<ChildStdout>,
}

/// What the generator's workers show of themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shows {
    /// Certificates without evidence.
    Nothing,
    /// Each the quote of a platform of its own.
    Quotes,
}

impl IdleWorkers {
    /// Starts the generator, which prepares itself and joins when it is told to.
    ///
    /// # Errors
    /// If it cannot start.
    pub(crate) fn start(workers_port: u16, count: usize, shows: Shows) -> Result<Self> {
        let mut command = Command::new(this_program()?);
        command.args(["bench", "idle-workers"]).arg(workers_port.to_string()).arg(count.to_string());
        if shows == Shows::Quotes {
            command.args(["--shows", "quotes"]);
        }
        command.stdin(Stdio::piped());
        let (mut process, words) = Process::start_speaking(command)?;
        let orders = process.take_stdin().context("stdin was asked for")?;
        let mut workers = Self { _process: process, orders, words: BufReader::new(words) };
        workers.hear(READY)?;
        Ok(workers)
    }

    /// Has all workers leave, if they are there, and join. Returns how long joining took.
    ///
    /// # Errors
    /// If one is refused.
    pub(crate) fn join(&mut self) -> Result<Duration> {
        self.orders.write_all(b"join\n")?;
        let microseconds = self.hear(JOINED)?;
        Ok(Duration::from_micros(microseconds.parse().context("the idle workers say no time")?))
    }

    /// The rest of the line that begins with `word`.
    fn hear(&mut self, word: &str) -> Result<String> {
        let mut line = String::new();
        self.words.read_line(&mut line)?;
        let rest = line.trim().strip_prefix(word);
        Ok(rest.with_context(|| format!("the idle workers are not {word}: {line:?}"))?.trim().to_owned())
    }
}

const READY: &str = "ready";
const JOINED: &str = "joined";

/// What the generator's process does: for every line that it reads it joins `count` workers, says how many microseconds that
/// took, and holds them until the next.
///
/// # Errors
/// If a worker is refused.
pub(crate) async fn hold(port: u16, count: usize, shows: Shows) -> Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    // The folder that the proxy's quote is verified with.
    let platforms;
    let configs = match shows {
        Shows::Nothing => vec![Arc::new(ConnectConfig::default())],
        Shows::Quotes => {
            platforms = Platforms::new()?;
            attested(&platforms, count)?
        }
    };
    println!("{READY}");
    let mut links = Vec::with_capacity(count);
    while is_asked().await? {
        links.clear();
        let began = Instant::now();
        let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let mut joining = JoinSet::new();
        for number in 0..count {
            let (places, config) = (Arc::clone(&places), Arc::clone(&configs[number % configs.len()]));
            joining.spawn(async move {
                let _place = places.acquire_owned().await?;
                join(address, &config, number).await.with_context(|| format!("worker {number}"))
            });
        }
        while let Some(joined) = joining.join_next().await {
            links.push(joined??);
        }
        println!("{JOINED} {}", began.elapsed().as_micros());
    }
    Ok(())
}

/// Waits for a line; `false` when there will be none.
async fn is_asked() -> Result<bool> {
    let read = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    Ok(read.await?? > 0)
}

/// An identity for each, made before anybody waits for it, and what they ask of the proxy.
fn attested(platforms: &Platforms, count: usize) -> Result<Vec<Arc<ConnectConfig>>> {
    // One thread: it verifies the proxy's quote, once.
    let appraiser = Some(Arc::new(platforms.appraiser(NonZeroUsize::MIN)));
    let config = |number| {
        let identity = TlsIdentity::attested(unix_now(), &platforms.enclave(number)?)?;
        let via = Via::Direct { identity: identity.into(), appraiser: appraiser.clone() };
        Ok(Arc::new(ConnectConfig { via, ..ConnectConfig::default() }))
    };
    (0..count).map(config).collect()
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
