//! What an operator sets.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use node::{ChainConfig, ChainConfigError, EvidenceConfig, SealedKeyConfig, SettingError};
use serde::{Deserialize, Serialize};
use ton::Address;
use units::{LogicalTime, NanoTon, PublicKey};

use crate::settlement::Policy;

/// Configuration of a proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where health, statistics and actions are served. Default: `127.0.0.1:11000`.
    pub http: SocketAddr,
    /// Where workers connect. Default: `127.0.0.1:11001`.
    pub workers: SocketAddr,
    /// Where clients connect. Default: `127.0.0.1:11002`.
    pub clients: SocketAddr,
    /// Whether both listeners stand behind a router of the deployed network on this host, which does proof of work
    /// and TLS. They must then listen on loopback. Default: false, this process does both.
    pub behind_router: bool,
    /// Evidence of enclaves: what is shown to everybody, and what is asked of workers; clients show none. Default: none of
    /// both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceConfig>,
    /// Where the machine key comes from, which signs payments and books: a sealer that gives it to this image alone. Default: none, and the
    /// key is a file of the state folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sealed_key: Option<SealedKeyConfig>,
    /// Bits of proof of work that strangers do before TLS while there is no load, 0 to 28. Under load it rises to
    /// between 17 and 24 bits if that is more; addresses of peers that were here within the last hour do none.
    /// Deployed proxies ask for 20, half a second of one core. Default: 12, a millisecond.
    pub pow_difficulty: u8,
    /// Links of each listener; connections above are closed at once. Default: 20,000.
    pub links_max: usize,
    /// Links of each listener from one IPv4 address or one /64 of IPv6; connections above are closed at once. Not
    /// counted behind a router. Default: 1,024.
    pub links_per_address_max: usize,
    /// File with the root configuration (JSON), where no chain is set. It is read again every minute. Default:
    /// `root.json`.
    pub root_config: PathBuf,
    /// Address of the root contract, in any text form. Default: empty; must be set.
    pub root_address: String,
    /// Address of the wallet that owns the proxy contract, in any text form. Default: empty, which stands for an
    /// owner derived from the proxy's own key; with a chain it must be set.
    pub owner_address: String,
    /// Whether addresses are written for the test network of TON. Default: false.
    pub is_testnet: bool,
    /// Whether workers must attest an image, and serve a model, of the root contract's lists. Default: false; always so outside
    /// test networks.
    pub check_worker_hashes: bool,
    /// Folder for the proxy's key and token. Default: `proxy-state`.
    pub state: PathBuf,
    /// How long running requests may go on at shutdown, in seconds. Default: 15.
    #[serde(with = "node::seconds")]
    pub drain_timeout: Duration,
    /// A client is charged on chain once it owes so many nanotons, or half of its stake if that is less. Used with a chain
    /// only, as the next four. Default: 1000000000 (1 TON).
    pub charge_at_nanotons: NanoTon,
    /// A worker is paid out once it has earned so many nanotons. Default: 10000000000 (10 TON).
    pub payout_at_nanotons: NanoTon,
    /// The proxy's earnings are taken out once they are so many nanotons. Default: 10000000000 (10 TON).
    pub withdraw_at_nanotons: NanoTon,
    /// Charges in nanotons that may be signed beyond the newest anchor of the books on the chain, and so be lost with the
    /// disk. An anchor is sent for each half of it. Default: 1000000000 (1 TON).
    pub at_risk_nanotons_max: NanoTon,
    /// What the chain shows up to this logical time is accepted, even if the books do not hold it: for books that are
    /// older than the newest ones, which are lost. The proxy says when it is needed. Default: 0.
    pub accept_chain_lt: u64,
    /// The chain with the root contract, on which everything is paid for. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainConfig>,
}

impl Default for Config {
    fn default() -> Self {
        let policy = Policy::default();
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            http: loopback(11_000),
            workers: loopback(11_001),
            clients: loopback(11_002),
            behind_router: false,
            evidence: None,
            sealed_key: None,
            pow_difficulty: 12,
            links_max: 20_000,
            links_per_address_max: 1024,
            root_config: "root.json".into(),
            root_address: String::new(),
            owner_address: String::new(),
            is_testnet: false,
            check_worker_hashes: false,
            state: "proxy-state".into(),
            drain_timeout: Duration::from_secs(15),
            charge_at_nanotons: policy.charge_at,
            payout_at_nanotons: policy.payout_at,
            withdraw_at_nanotons: policy.withdraw_at,
            at_risk_nanotons_max: policy.at_risk_max,
            accept_chain_lt: 0,
            chain: None,
        }
    }
}

/// A value of the configuration that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// One of those that every role has, or the proxy's own.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainConfigError),
}

/// A message costs its sender about a tenth of this.
const AMOUNT_MIN: NanoTon = NanoTon::new(100_000_000);

/// More bits than this no deployed peer is willing to work for.
const POW_DIFFICULTY_MAX: u8 = 28;

impl Config {
    /// Checks what can be checked without looking at files or the network.
    ///
    /// # Errors
    /// [`SettingError`] names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.pow_difficulty > POW_DIFFICULTY_MAX {
            return Err(SettingError::Value { key: "pow_difficulty", expected: "0 to 28" }.into());
        }
        for (key, max) in
            [("links_max", self.links_max), ("links_per_address_max", self.links_per_address_max)]
        {
            if max == 0 {
                return Err(SettingError::Value { key, expected: "at least 1" }.into());
            }
        }
        for (key, amount) in [
            ("charge_at_nanotons", self.charge_at_nanotons),
            ("payout_at_nanotons", self.payout_at_nanotons),
            ("withdraw_at_nanotons", self.withdraw_at_nanotons),
            ("at_risk_nanotons_max", self.at_risk_nanotons_max),
        ] {
            if amount < AMOUNT_MIN {
                let expected = "at least 100000000 (0.1 TON): less is not worth its fees";
                return Err(SettingError::Value { key, expected }.into());
            }
        }
        self.chain.as_ref().map(ChainConfig::check).transpose()?;
        node::root_address(&self.root_address)?;
        self.owner(&PublicKey::new([0; 32]))?;
        Ok(())
    }

    /// The owner, or who stands for one where there is no chain, and nothing is at stake.
    pub(crate) fn owner(&self, own_key: &PublicKey) -> Result<Address, SettingError> {
        node::owner_address(&self.owner_address, own_key, self.chain.is_none())
    }

    /// When money moves.
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            charge_at: self.charge_at_nanotons,
            payout_at: self.payout_at_nanotons,
            withdraw_at: self.withdraw_at_nanotons,
            at_risk_max: self.at_risk_nanotons_max,
        }
    }

    pub(crate) const fn accepted(&self) -> LogicalTime {
        LogicalTime::new(self.accept_chain_lt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config { root_address: format!("0:{}", "09".repeat(32)), ..Config::default() }
    }

    #[test]
    fn a_configuration_survives_its_text_and_defaults_fill_it() {
        let config = Config { drain_timeout: Duration::from_millis(1500), ..config() };
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains("\"drain_timeout\":1.5"));
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
        assert_eq!(serde_json::from_str::<Config>("{}").unwrap(), Config::default());
        assert!(serde_json::from_str::<Config>("{\"worker\":1}").is_err());
        assert!(serde_json::from_str::<Config>("{\"drain_timeout\":-1}").is_err());
    }

    #[test]
    fn impossible_values_are_refused_by_their_key() {
        assert!(config().check().is_ok());
        let refused = |config: Config| config.check().unwrap_err().to_string();
        assert!(refused(Config::default()).contains("root_address must be set"));
        assert!(refused(Config { root_address: "x".into(), ..config() }).contains("root_address"));
        assert!(refused(Config { owner_address: "x".into(), ..config() }).contains("owner_address"));
        assert!(refused(Config { pow_difficulty: 29, ..config() }).contains("pow_difficulty"));
        assert!(Config { pow_difficulty: 28, ..config() }.check().is_ok());
        assert!(refused(Config { links_max: 0, ..config() }).contains("links_max"));
        assert!(refused(Config { links_per_address_max: 0, ..config() }).contains("links_per_address_max"));
        let at = |amount| Config { at_risk_nanotons_max: NanoTon::new(amount), ..config() };
        assert!(refused(at(99_999_999)).contains("at_risk_nanotons_max"));
        assert!(at(100_000_000).check().is_ok());
        let chain =
            |endpoint: &str| Some(ChainConfig { endpoint: endpoint.into(), ..ChainConfig::default() });
        assert!(refused(Config { chain: chain("localhost"), ..config() }).contains("endpoint"));
        let chain = chain("http://127.0.0.1:13000");
        assert!(refused(Config { chain: chain.clone(), ..config() }).contains("owner_address must be set"));
        let owner_address = format!("0:{}", "07".repeat(32));
        assert!(Config { chain, owner_address, ..config() }.check().is_ok());
    }

    #[test]
    fn an_unnamed_owner_follows_from_the_key() {
        let key = PublicKey::new([5; 32]);
        assert_eq!(config().owner(&key).unwrap(), Address::new(0, [5; 32]));
        let named = Config { owner_address: format!("0:{}", "07".repeat(32)), ..config() };
        assert_eq!(named.owner(&key).unwrap(), Address::new(0, [7; 32]));
    }
}
