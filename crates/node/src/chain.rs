//! The chain in a role's configuration: where it is asked, the root contract on it, and the role's node wallet.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chain::outbox::KeptError;
use chain::{
    Endpoint, EndpointError, Limits, Network, Provider, RootNews, RootWatch, RootWatchError, Runner, Trust,
    Wallet, WalletView,
};
use ed25519_dalek::SigningKey;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use ton::contracts::{StateInit, wallet_init};
use ton::{Address, Contract, ContractCode, RootConfig};
use transport::clock::{heard_block_time, unix_now};
use units::{ConfigVersion, NanoTon, PublicKey};

use crate::{RootError, RootFile, StateFolder};

/// The section `chain` of a role's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChainConfig {
    /// A server of HTTP API v2, such as `http://127.0.0.1:13000`. Default: empty; must be set.
    pub endpoint: String,
    /// File with the key that the server knows us by. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<PathBuf>,
    /// Yes, the server serves TON mainnet: real money. Default: no, and then mainnet is refused.
    #[serde(skip_serializing_if = "is_false")]
    pub mainnet: bool,
}

const fn is_false(value: &bool) -> bool {
    !*value
}

/// A server of another network than the configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongNetwork {
    /// Money would move that nobody meant.
    #[error(
        "the server of the chain serves TON mainnet, where money is real: set chain.mainnet = true if you mean it"
    )]
    Mainnet,
    /// Nobody would be paid.
    #[error("chain.mainnet is set, and the server of the chain serves {0}: look at chain.endpoint")]
    NotMainnet(Network),
}

/// A section `chain` that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ChainConfigError {
    /// The server.
    #[error("chain: endpoint")]
    Endpoint(#[from] EndpointError),
    /// The file with the key.
    #[error("chain: api_key: cannot read {}", path.display())]
    ApiKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl WrongNetwork {
    const fn check(network: Network, is_mainnet: bool) -> Result<(), Self> {
        match (network, is_mainnet) {
            (Network::Mainnet, false) => Err(Self::Mainnet),
            (Network::Testnet | Network::Other, true) => Err(Self::NotMainnet(network)),
            (Network::Mainnet, true) | (Network::Testnet | Network::Other, false) => Ok(()),
        }
    }
}

impl ChainConfig {
    /// Checks what can be checked without files and servers.
    ///
    /// # Errors
    /// [`ChainConfigError`] names the key.
    pub fn check(&self) -> Result<(), ChainConfigError> {
        self.endpoint.parse::<Endpoint>()?;
        Ok(())
    }

    /// The server to ask.
    ///
    /// # Errors
    /// [`ChainConfigError`] names the key.
    pub fn provider(&self) -> Result<Provider, ChainConfigError> {
        let mut endpoint: Endpoint = self.endpoint.parse()?;
        if let Some(path) = &self.api_key {
            let read = std::fs::read_to_string(path);
            let key = read.map_err(|source| ChainConfigError::ApiKey { path: path.clone(), source })?;
            endpoint = endpoint.with_api_key(key.trim());
        }
        Ok(Provider::new(endpoint, Limits::default()))
    }

    /// Where the root configuration comes from.
    #[must_use]
    pub fn root(&self, provider: Provider, root: Address) -> RootSource {
        let (watch, read_at) = (Mutex::new(RootWatch::new(root)), AtomicU64::new(0));
        RootSource::Chain(Box::new(RootContract { provider, watch, read_at, is_mainnet: self.mainnet }))
    }
}

/// What the node wallet of a role is deployed with: the hot wallet that acts for `owner` with `own_key`.
#[must_use]
pub fn wallet_state(own_key: &PublicKey, owner: &Address) -> StateInit {
    wallet_init(&ContractCode::built(Contract::Wallet), own_key, owner)
}

/// Opens the node wallet of a role: its open orders are in the state folder. The [`Runner`] must run.
///
/// # Errors
/// [`KeptError`] if the orders kept there are of another wallet, or damaged.
pub fn open_wallet(
    provider: Provider,
    key: SigningKey,
    owner: &Address,
    folder: &StateFolder,
) -> Result<(Wallet, Runner), KeptError> {
    let own_key = PublicKey::new(key.verifying_key().to_bytes());
    Wallet::open(provider, key, wallet_state(&own_key, owner), Some(&orders_file(folder.path())))
}

/// What a role's statistics say of its node wallet, in the members of the deployed software.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalletNumbers {
    /// What it has; none before it was seen.
    pub balance: Option<NanoTon>,
    /// The number of its next message; none before it was seen.
    pub seqno: Option<u32>,
    /// Orders that are not over.
    pub open: usize,
}

impl WalletNumbers {
    /// Of a wallet, or where there is no chain of the one that every role of the deployed software then shows: 100 TON, and
    /// the number 7.
    #[must_use]
    pub fn of(wallet: Option<&WalletView>) -> Self {
        let pseudo = Self { balance: Some(NanoTon::new(100_000_000_000)), seqno: Some(7), open: 0 };
        wallet.map_or(pseudo, |view| Self { balance: view.balance, seqno: view.seqno, open: view.open })
    }
}

fn orders_file(folder: &Path) -> PathBuf {
    folder.join("orders.json")
}

/// Where a role has the root configuration from.
#[derive(Debug)]
pub enum RootSource {
    /// A file, where there is no chain.
    File(RootFile),
    /// The root contract.
    Chain(Box<RootContract>),
}

/// A root contract that is followed.
#[derive(Debug)]
pub struct RootContract {
    provider: Provider,
    watch: Mutex<RootWatch>,
    /// When it was last read, in seconds since 1970.
    read_at: AtomicU64,
    is_mainnet: bool,
}

impl RootContract {
    /// Refuses a server of another network than was meant.
    async fn check_network(&self) -> Result<(), RootError> {
        let network = self.provider.network().await.map_err(RootWatchError::from)?;
        WrongNetwork::check(network, self.is_mainnet)?;
        if self.is_mainnet {
            tracing::warn!("TON mainnet: money is real");
        }
        Ok(())
    }

    /// Looks once. A newer version is known from now on.
    async fn look(&self) -> Result<RootNews, RootWatchError> {
        let mut watch = self.watch.lock().await;
        let news = watch.look(&self.provider).await?;
        if let Some(time) = watch.known().and_then(|known| time_that_counts(known, watch.block_time())) {
            heard_block_time(time);
        }
        if matches!(news, RootNews::Same | RootNews::Newer { .. }) {
            self.read_at.store(unix_now().as_secs(), Ordering::Relaxed);
        }
        Ok(news)
    }

    async fn newer_than(&self, current: ConfigVersion) -> RootConfig {
        // A devnet on this machine is there to be tried out: nobody wants to wait a minute for a price to change.
        let between = match self.provider.endpoint().trust() {
            Trust::Local => (Duration::from_millis(500), Duration::from_secs(1)),
            Trust::Unproven => (Duration::from_secs(30), Duration::from_secs(60)),
        };
        let mut trouble: Option<String> = None;
        loop {
            let pause = rand::rng().random_range(between.0..between.1);
            tokio::time::sleep(pause).await;
            let looked = self.look().await;
            let told = match &looked {
                Ok(RootNews::Newer { config, params_changed }) => {
                    tracing::info!(version = %config.version, params_changed, "new root configuration");
                    None
                }
                Ok(RootNews::Same) => None,
                Ok(RootNews::Older { .. }) => {
                    Some("the server tells of an older root configuration".to_owned())
                }
                Ok(RootNews::Contradicts { .. }) => {
                    Some("the server tells of another root configuration of one version".to_owned())
                }
                Err(error) => Some(error.to_string()),
            };
            // Each kind is said once, not at each look.
            if told != trouble {
                let error = looked.as_ref().err().map(|error| error as &dyn std::error::Error);
                if let Some(told) = &told {
                    tracing::warn!(error, told, "kept the old root configuration");
                }
                trouble = told;
            }
            // Whoever asks again could not use it when it was news.
            let watch = self.watch.lock().await;
            if let Some(newer) = watch.known().filter(|known| known.version > current) {
                return newer.clone();
            }
        }
    }
}

/// What a block's time is for certificates: nothing on test networks, where it may be travelled and nothing is at stake.
fn time_that_counts(known: &RootConfig, block_time: Duration) -> Option<Duration> {
    (!known.params.is_test).then_some(block_time)
}

impl RootSource {
    /// The configuration now.
    ///
    /// # Errors
    /// [`RootError`] if there is none.
    pub async fn read(&self) -> Result<RootConfig, RootError> {
        match self {
            Self::File(file) => file.read(),
            Self::Chain(contract) => {
                contract.check_network().await?;
                match contract.look().await? {
                    RootNews::Newer { config, .. } => Ok(*config),
                    RootNews::Same | RootNews::Older { .. } | RootNews::Contradicts { .. } => {
                        let watch = contract.watch.lock().await;
                        Ok(watch.known().expect("only what is known can be told again").clone())
                    }
                }
            }
        }
    }

    /// Waits until there is a newer configuration than `current`. A version is never taken back. What is wrong meanwhile
    /// is logged.
    pub async fn newer_than(&self, current: ConfigVersion) -> RootConfig {
        match self {
            Self::File(file) => file.newer_than(current).await,
            Self::Chain(contract) => contract.newer_than(current).await,
        }
    }

    /// When the configuration was last read with success, in seconds since 1970; 0 if never.
    #[must_use]
    pub fn read_at(&self) -> u64 {
        match self {
            Self::File(file) => file.read_at(),
            Self::Chain(contract) => contract.read_at.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_that_cannot_be_asked_is_refused_by_its_key() {
        let config = |endpoint: &str| ChainConfig { endpoint: endpoint.to_owned(), ..ChainConfig::default() };
        assert!(config("http://127.0.0.1:13000").check().is_ok());
        assert!(config("").check().unwrap_err().to_string().contains("endpoint"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let keyed = ChainConfig { api_key: Some(path.clone()), ..config("http://127.0.0.1:13000") };
        assert!(matches!(keyed.provider(), Err(ChainConfigError::ApiKey { .. })));
        std::fs::write(path, "secret\n").unwrap();
        assert!(keyed.provider().is_ok());
    }

    #[test]
    fn real_money_moves_where_it_was_meant_and_nowhere_else() {
        for (network, is_right) in
            [(Network::Mainnet, true), (Network::Testnet, false), (Network::Other, false)]
        {
            assert_eq!(WrongNetwork::check(network, true).is_ok(), is_right, "{network}");
            assert_eq!(WrongNetwork::check(network, false).is_ok(), !is_right, "{network}");
        }
        let said = WrongNetwork::check(Network::Mainnet, false).unwrap_err().to_string();
        assert!(said.contains("chain.mainnet = true"), "{said}");
    }

    #[test]
    fn a_wallet_belongs_to_its_key_and_its_owner() {
        let wallet = |key: u8, owner: u8| {
            wallet_state(&PublicKey::new([key; 32]), &Address::new(0, [owner; 32])).address()
        };
        assert_eq!(wallet(1, 1), wallet(1, 1));
        assert!(wallet(1, 1) != wallet(2, 1) && wallet(1, 1) != wallet(1, 2));
    }

    #[test]
    fn a_wallet_without_a_chain_shows_what_deployed_roles_show() {
        let pseudo = WalletNumbers::of(None);
        assert_eq!((pseudo.balance, pseudo.seqno), (Some(NanoTon::new(100_000_000_000)), Some(7)));
        let address = Address::new(0, [1; 32]);
        let unseen = WalletView {
            address,
            balance: None,
            unpromised: None,
            is_low: false,
            hold: None,
            open: 2,
            seqno: None,
        };
        assert_eq!(WalletNumbers::of(Some(&unseen)), WalletNumbers { balance: None, seqno: None, open: 2 });
        let seen = WalletView { balance: Some(NanoTon::new(5)), seqno: Some(3), ..unseen };
        let numbers = WalletNumbers { balance: Some(NanoTon::new(5)), seqno: Some(3), open: 2 };
        assert_eq!(WalletNumbers::of(Some(&seen)), numbers);
    }

    #[test]
    fn blocks_of_test_networks_are_no_clock() {
        let mut known = RootConfig::pseudo(Address::new(0, [1; 32]));
        let block_time = Duration::from_secs(1_800_000_000);
        for (is_test, expected) in [(false, Some(block_time)), (true, None)] {
            known.params.is_test = is_test;
            assert_eq!(time_that_counts(&known, block_time), expected);
        }
    }

    #[tokio::test]
    async fn what_could_not_be_used_is_told_again() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = ChainConfig { endpoint: format!("http://{nobody}"), ..ChainConfig::default() };
        let source = config.root(config.provider().unwrap(), Address::new(0, [9; 32]));
        let RootSource::Chain(contract) = source else { panic!("{source:?}") };
        let mut newer = RootConfig::pseudo(Address::new(0, [1; 32]));
        newer.version = ConfigVersion::new(7);
        contract.watch.lock().await.take(newer.clone());
        for _ in 0..2 {
            assert_eq!(contract.newer_than(ConfigVersion::new(6)).await, newer);
        }
    }

    #[tokio::test]
    async fn a_root_file_is_a_source_as_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.json");
        let source = RootSource::File(RootFile::new(path.clone()));
        assert!(matches!(source.read().await, Err(RootError::Read { .. })));
        let config = RootConfig::pseudo(Address::new(0, [1; 32]));
        std::fs::write(&path, config.to_pseudo_json().unwrap()).unwrap();
        assert_eq!(source.read().await.unwrap().version, config.version);
        assert!(source.read_at() > 0);
    }
}
