//! What all tasks of a client share.

use std::sync::Arc;

use node::{ConnectingParty, OwnContract, RootFile, StateFolder, follow_payments};
use rand::RngExt as _;
use tokio::sync::watch;
use ton::RootConfig;
use ton::payment::PaymentKind;
use transport::ConnectConfig;
use units::PublicKey;

use crate::affinity::AffinitySecret;
use crate::config::{Config, StartError};
use crate::debug::DebugLog;
use crate::link::{Pool, Slots};
use crate::session::{Accounts, Party, Secret};
use crate::stats::Stats;

/// See the module.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) party: Party,
    pub(crate) root_file: RootFile,
    pub(crate) state: Arc<StateFolder>,
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
        let root_file = RootFile::new(config.root_config.clone());
        let root = root_file.read()?;
        let state = StateFolder::open(&config.state)?;
        let own_key = PublicKey::new(state.key("wallet.key")?.verifying_key().to_bytes());
        let owner = node::owner_address(&config.owner_address, &own_key, root.params.is_test)?;
        let party = Party {
            // The node wallet owns the client contracts.
            connecting: ConnectingParty {
                owner: node::node_wallet(&own_key, &owner),
                root: node::root_address(&config.root_address)?,
                is_testnet: config.is_testnet,
                contract: OwnContract::Client,
            },
            check_proxy_hashes: config.check_proxy_hashes,
            secret: Secret::new(&state.secret("secret")?),
        };
        Ok(Self {
            party,
            root_file,
            accounts: Accounts::restored(state.kept_payments(PaymentKind::ClientCharge)?),
            state: Arc::new(state),
            root: watch::Sender::new(Arc::new(root)),
            connect: node::connect_config(config.router),
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

    /// Keeps charges in the state folder as they grow, for ever.
    pub(crate) async fn keep_charges(&self) {
        let charges = || self.accounts.to_keep();
        follow_payments(Arc::clone(&self.state), &self.accounts.charged, charges).await;
    }

    /// Takes over newer root configurations, for ever.
    pub(crate) async fn follow_root(&self) -> std::convert::Infallible {
        loop {
            let newer = self.root_file.newer_than(self.root().version).await;
            self.root.send_replace(Arc::new(newer));
        }
    }
}
