//! What all tasks of a client share.

use std::sync::Arc;

use chain::Runner;
use node::{ChainConfig, ConnectingParty, OwnContract, RootFile, RootSource, StateFolder, follow_payments};
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
use crate::secret::LoginSecret;
use crate::session::{Accounts, Party};
use crate::settlement::Purse;
use crate::stats::Stats;

/// See the module.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) party: Party,
    pub(crate) root_source: RootSource,
    pub(crate) state: Arc<StateFolder>,
    pub(crate) root: watch::Sender<Arc<RootConfig>>,
    pub(crate) connect: ConnectConfig,
    pub(crate) accounts: Accounts,
    /// Pays proxies, where there is a chain.
    pub(crate) purse: Option<Arc<Purse>>,
    pub(crate) pool: Pool,
    pub(crate) slots: Slots,
    pub(crate) stats: Stats,
    pub(crate) debug_log: DebugLog,
    pub(crate) affinity: AffinitySecret,
}

impl Shared {
    /// Checks the configuration and reads everything it names. What carries out the orders of the node wallet, where
    /// there is a chain, must run.
    pub(crate) async fn new(config: Config) -> Result<(Self, Option<Runner>), StartError> {
        config.check()?;
        let root_address = node::root_address(&config.root_address)?;
        let provider = config.chain.as_ref().map(ChainConfig::provider).transpose()?;
        let root_source = match config.chain.as_ref().zip(provider.clone()) {
            Some((chain, provider)) => chain.root(provider, root_address),
            None => RootSource::File(RootFile::new(config.root_config.clone())),
        };
        let root = root_source.read().await?;
        let connect = node::connect_config(config.router, config.evidence.as_ref(), root.params.is_test)?;
        let state = Arc::new(StateFolder::open(&config.state)?);
        let key = state.key("wallet.key")?;
        let own_key = PublicKey::new(key.verifying_key().to_bytes());
        let owner = node::owner_address(&config.owner_address, &own_key, root.params.is_test)?;
        let secret = LoginSecret::new(&key.to_bytes(), &state.secret("secret")?);
        let (purse, runner) = match provider {
            Some(provider) => {
                let (wallet, runner) = node::open_wallet(provider.clone(), key, &owner, &state)?;
                let purse =
                    Purse::open(config.policy(), provider, wallet, secret.clone(), Arc::clone(&state))?;
                (Some(Arc::new(purse)), Some(runner))
            }
            None => (None, None),
        };
        let wallet = purse
            .as_ref()
            .map_or_else(|| node::node_wallet(&own_key, &owner), |purse| purse.wallet().address());
        let party = Party {
            // The node wallet owns the client contracts.
            connecting: ConnectingParty {
                owner: wallet,
                root: root_address,
                is_testnet: config.is_testnet,
                contract: OwnContract::Client,
            },
            check_proxy_hashes: config.check_proxy_hashes,
            secret,
        };
        let shared = Self {
            party,
            root_source,
            purse,
            accounts: Accounts::restored(state.kept_payments(PaymentKind::ClientCharge)?),
            state,
            root: watch::Sender::new(Arc::new(root)),
            connect,
            pool: Pool::new(),
            slots: Slots::new(config.proxy_connections),
            stats: Stats::default(),
            debug_log: DebugLog::default(),
            affinity: AffinitySecret::new(rand::rng().random()),
            config,
        };
        Ok((shared, runner))
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

    /// Pays proxies, for ever.
    pub(crate) async fn pay(&self) {
        let Some(purse) = &self.purse else { return };
        let mut root = self.root_changes();
        purse.run(&self.accounts, &mut root).await;
    }

    /// Takes over newer root configurations, for ever.
    pub(crate) async fn follow_root(&self) -> std::convert::Infallible {
        loop {
            let newer = self.root_source.newer_than(self.root().version).await;
            self.root.send_replace(Arc::new(newer));
        }
    }
}
