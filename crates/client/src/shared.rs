//! What all tasks of a client share.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::watch;
use ton::contracts::wallet_address;
use ton::{Address, ContractCode, RootConfig};
use transport::ConnectConfig;

use crate::affinity::AffinitySecret;
use crate::config::{Config, StartError, address};
use crate::debug::DebugLog;
use crate::link::{Pool, Slots};
use crate::session::{Accounts, Party};
use crate::state::Keys;
use crate::stats::Stats;

/// See the module.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) party: Party,
    root: watch::Sender<Arc<RootConfig>>,
    pub(crate) connect: ConnectConfig,
    pub(crate) accounts: Accounts,
    pub(crate) pool: Pool,
    pub(crate) slots: Slots,
    pub(crate) stats: Stats,
    pub(crate) debug_log: DebugLog,
    pub(crate) affinity: AffinitySecret,
}

impl Shared {
    /// Checks the configuration and reads everything it names.
    pub(crate) fn new(config: Config) -> Result<Self, StartError> {
        config.check()?;
        let root = config.read_root()?;
        let keys = Keys::load_or_create(&config.state)?;
        let owner = match config.owner_address.as_str() {
            "" if root.params.is_test => Address::new(0, *keys.wallet.as_bytes()),
            text => address("owner_address", text)?,
        };
        let party = Party {
            // The wallet's code comes with the chain; until then an empty one gives each key its own address.
            wallet: wallet_address(&ContractCode::empty(), &keys.wallet, &owner),
            root: config.root_address()?,
            is_testnet: config.is_testnet,
            check_proxy_hashes: config.check_proxy_hashes,
            secret: keys.secret,
        };
        Ok(Self {
            party,
            root: watch::Sender::new(Arc::new(root)),
            connect: connect_config(&config),
            accounts: Accounts::default(),
            pool: Pool::new(),
            slots: Slots::new(config.proxy_connections),
            stats: Stats::default(),
            debug_log: DebugLog::default(),
            affinity: AffinitySecret::new(rand::rng().random()),
            config,
        })
    }

    /// The root configuration as it is now.
    pub(crate) fn root(&self) -> Arc<RootConfig> {
        Arc::clone(&self.root.borrow())
    }

    /// To wait for another root configuration.
    pub(crate) fn root_changes(&self) -> watch::Receiver<Arc<RootConfig>> {
        self.root.subscribe()
    }

    /// Reads the root configuration again and again, for ever. Only a newer version is taken over.
    pub(crate) async fn follow_root(&self) -> std::convert::Infallible {
        loop {
            let pause = rand::rng().random_range(30.0..60.0);
            tokio::time::sleep(Duration::from_secs_f64(pause)).await;
            match self.config.read_root() {
                Ok(newer) if newer.version > self.root().version => {
                    tracing::info!(version = %newer.version, "the root configuration changed");
                    self.root.send_replace(Arc::new(newer));
                }
                Ok(_same) => {}
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the root configuration cannot be read, the last one stays in use");
                }
            }
        }
    }
}

fn connect_config(config: &Config) -> ConnectConfig {
    match config.router {
        Some(router) => {
            ConnectConfig { via: transport::Via::Socks5Router(router), ..ConnectConfig::default() }
        }
        None => ConnectConfig::default(),
    }
}
