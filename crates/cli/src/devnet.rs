//! `cocoon devnet`: a TON of one node on this machine, for contracts and tools.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use devnet::journal::Journal;
use devnet::{Devnet, Genesis, NetworkConfig, Node, Pace, http};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use transport::clock::unix_now;

use crate::logs::LogArguments;
use crate::signals::stop_requested;

/// Flags of `cocoon devnet`.
#[derive(Args)]
pub(crate) struct DevnetArguments {
    /// Where HTTP API v2, the faucet and time travel are served. Port 0 lets the system choose.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:13000")]
    listen: SocketAddr,

    /// Keep the chain in this folder; without one it ends with the process.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// Milliseconds between two blocks.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pace: u32,

    /// Execute every message, with all that follows from it, before its sender gets an answer.
    #[arg(long, conflicts_with = "pace")]
    instant: bool,

    /// Where the randomness of contracts comes from: any text.
    #[arg(long, value_name = "TEXT", default_value = "cocoon")]
    seed: String,
}

/// Runs a devnet until it is asked to stop.
///
/// # Errors
/// If the address cannot be listened on, or the chain not be kept.
pub(crate) fn run(arguments: &DevnetArguments, logs: &LogArguments) -> Result<()> {
    logs.to_stderr()?;
    let pace = match arguments.instant {
        true => Pace::Instant,
        false => Pace::Every(Duration::from_millis(arguments.pace.into())),
    };
    crate::runtime()?.block_on(async {
        let state = arguments.state.as_deref();
        let chain = RunningDevnet::start(arguments.listen, state, &arguments.seed, pace).await?;
        let address = chain.address();
        println!("HTTP API v2   http://{address}/api/v2/jsonRPC");
        println!("faucet        curl -X POST 'http://{address}/faucet?address=EQ…&nanotons=10000000000'");
        println!("time travel   curl -X POST 'http://{address}/travel?seconds=86400'");
        stop_requested().await?;
        chain.stop().await;
        Ok(())
    })
}

/// A devnet that makes blocks and answers.
pub(crate) struct RunningDevnet {
    address: SocketAddr,
    node: Node,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    making: JoinHandle<()>,
}

impl RunningDevnet {
    /// Starts one, with what is kept in `state` if there is something.
    ///
    /// # Errors
    /// If the address cannot be listened on, or the chain not be kept.
    pub(crate) async fn start(
        listen: SocketAddr,
        state: Option<&Path>,
        seed: &str,
        pace: Pace,
    ) -> Result<Self> {
        let config = NetworkConfig::mainnet();
        let genesis = Genesis { config, seed: Genesis::seed_of(seed), start: unix_now(), pace };
        let listener = TcpListener::bind(listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener.local_addr()?;
        let node = match state {
            None => Node::new(Devnet::new(genesis), unix_now),
            Some(folder) => {
                let made = std::fs::create_dir_all(folder);
                made.with_context(|| format!("cannot create {}", folder.display()))?;
                Node::kept(Journal::open(&folder.join("chain"), genesis)?, unix_now)
            }
        };
        let stop = CancellationToken::new();
        let routes = http::router(node.clone()).merge(http::control_router(node.clone()));
        let serving = tokio::spawn(admin::serve(listener, routes, stop.clone()));
        let making = tokio::spawn({
            let (node, stop) = (node.clone(), stop.clone());
            async move { node.run(stop).await }
        });
        Ok(Self { address, node, stop, serving, making })
    }

    /// Where it answers.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its node, for what no API has.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Stops it. What was in a block is kept.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        for task in [self.serving, self.making] {
            if let Err(error) = task.await {
                tracing::error!(%error, "the devnet ended badly");
            }
        }
    }
}
