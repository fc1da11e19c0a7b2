//! What an operator sets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use chain::outbox::KeptError;
use gateway::RequestDefaults;
use gateway::server::ServerConfig;
use node::{
    ChainConfig, ChainConfigError, EvidenceConfig, EvidenceConfigError, RootError, SettingError, StateError,
};
use serde::{Deserialize, Serialize};
use units::{Coefficient, NanoTon, PublicKey};

use crate::settlement::{MalformedContracts, Policy};

/// Configuration of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the HTTP API listens. Default: `127.0.0.1:10000`. Whoever reaches it spends this client's balance.
    pub http: SocketAddr,
    /// File with the root configuration (JSON), where no chain is set. Default: `root.json`.
    pub root_config: PathBuf,
    /// Address of the root contract, in any text form. Default: empty; must be set.
    pub root_address: String,
    /// Address of the owner's wallet, in any text form. Default: empty, which in test networks stands for an
    /// owner derived from the client's own key.
    pub owner_address: String,
    /// Whether addresses are written for the test network of TON. Default: false.
    pub is_testnet: bool,
    /// Whether proxies must attest an image of the root contract's list. Default: false; always so outside test
    /// networks.
    pub check_proxy_hashes: bool,
    /// Folder for the client's keys. Default: `client-state`.
    pub state: PathBuf,
    /// Proxies to stay connected to. Default: 1.
    pub proxy_connections: usize,
    /// SOCKS5 address of a router that makes the TLS connections. Default: none, connections are made here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router: Option<SocketAddr>,
    /// Evidence of enclaves on links to proxies: what is shown and what is asked for. Default: none of both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceConfig>,
    /// Limit of generated tokens for requests that set none. Default: 4096.
    pub max_tokens: u32,
    /// Price ceiling in thousandths for requests that set none. Default: 4000.
    pub max_coefficient: u32,
    /// Time for requests that set none, in seconds. Default: 120.
    #[serde(with = "node::seconds")]
    pub timeout: Duration,
    /// Largest accepted request body in bytes. Default: 15 MiB.
    pub body_len_max: usize,
    /// Requests that run at once; more are refused. Default: 4096.
    pub requests_max: usize,
    /// Bytes of an answer that may wait for a slow application where the proxy speaks version 2 or older; beyond, its
    /// request fails. Newer proxies slow the engine down instead. Default: 4 MiB.
    pub waiting_len_max: usize,
    /// The balance at a proxy shall last for so many minutes of use as it was lately. Used with a chain only. Default: 10.
    pub deposit_minutes: u32,
    /// No top-up lifts what a contract with a proxy holds above so many nanotons: what the proxy's key could take. Used with
    /// a chain only. Default: 100000000000 (100 TON).
    pub balance_max_nanotons: NanoTon,
    /// No more nanotons than this are paid in by themselves at one proxy in a day. Used with a chain only. Default:
    /// 100000000000 (100 TON).
    pub deposits_per_day_max_nanotons: NanoTon,
    /// The chain with the root contract, where proxies are paid by the node wallet. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainConfig>,
    /// Origin of web pages that may call the API, or `*`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors_origin: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        let server = ServerConfig::default();
        Self {
            http: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 10_000)),
            root_config: "root.json".into(),
            root_address: String::new(),
            owner_address: String::new(),
            is_testnet: false,
            check_proxy_hashes: false,
            state: "client-state".into(),
            proxy_connections: 1,
            router: None,
            evidence: None,
            max_tokens: 4096,
            max_coefficient: 4000,
            timeout: Duration::from_secs(120),
            body_len_max: server.body_len_max,
            requests_max: server.requests_max,
            waiting_len_max: 4 * 1024 * 1024,
            deposit_minutes: Policy::default().minutes,
            balance_max_nanotons: Policy::default().balance_max,
            deposits_per_day_max_nanotons: Policy::default().deposits_per_day_max,
            chain: None,
            cors_origin: None,
        }
    }
}

impl Config {
    pub(crate) const fn request_defaults(&self) -> RequestDefaults {
        RequestDefaults { max_tokens: self.max_tokens }
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy {
            minutes: self.deposit_minutes,
            balance_max: self.balance_max_nanotons,
            deposits_per_day_max: self.deposits_per_day_max_nanotons,
            ..Policy::default()
        }
    }

    pub(crate) fn server(&self) -> ServerConfig {
        ServerConfig {
            body_len_max: self.body_len_max.min(ServerConfig::BODY_LEN_LIMIT),
            requests_max: self.requests_max,
            cors_origin: self.cors_origin.clone(),
            ..ServerConfig::default()
        }
    }

    /// Checks what can be checked without looking at files or the network.
    ///
    /// # Errors
    /// [`SettingError`] names the key.
    pub fn check(&self) -> Result<(), SettingError> {
        let refused = |key, expected| Err(SettingError::Value { key, expected });
        if self.proxy_connections == 0 {
            return refused("proxy_connections", "at least 1");
        }
        if self.max_tokens == 0 || i32::try_from(self.max_tokens).is_err() {
            return refused("max_tokens", "1 to 2147483647");
        }
        if Coefficient::new(self.max_coefficient.into()).is_err() {
            return refused("max_coefficient", "0 to 999999999");
        }
        if self.timeout.is_zero() || self.timeout > gateway::TIMEOUT_MAX {
            return refused("timeout", "above 0 and at most 86400 seconds");
        }
        // A browser compares the whole text, so that anything else would silently let nobody in.
        if self.cors_origin.as_deref().is_some_and(|origin| !is_origin(origin)) {
            return refused("cors_origin", "* or an origin such as https://app.example:8080");
        }
        let is_chain_usable = self.chain.as_ref().is_none_or(|chain| chain.check().is_ok());
        if !is_chain_usable {
            return refused("chain.endpoint", "a server of HTTP API v2, such as http://127.0.0.1:13000");
        }
        node::root_address(&self.root_address)?;
        node::owner_address(&self.owner_address, &PublicKey::new([0; 32]), true)?;
        Ok(())
    }
}

/// Whether browsers would send this as an `Origin` (RFC 6454, section 6.2), or it stands for all of them.
fn is_origin(text: &str) -> bool {
    let is_host =
        |byte: u8| byte.is_ascii_graphic() && !b"/?#@\\".contains(&byte) && !byte.is_ascii_uppercase();
    let host = text.split_once("://").map_or("", |(_scheme, host)| host);
    text == "*" || text == "null" || (!host.is_empty() && host.bytes().all(is_host))
}

/// Why a client does not start. Always the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting.
    #[error("the configuration cannot work")]
    Setting(#[from] SettingError),
    /// No root configuration.
    #[error("the client does not know its network")]
    Root(#[from] RootError),
    /// The state folder.
    #[error("the client's state cannot be used")]
    State(#[from] StateError),
    /// The section `chain` of the configuration.
    #[error("the configuration cannot work")]
    Chain(#[from] ChainConfigError),
    /// The node wallet's open orders.
    #[error("the open orders of the node wallet cannot be used")]
    Orders(#[from] KeptError),
    /// The list of client contracts.
    #[error("the list of client contracts cannot be used")]
    Contracts(#[from] MalformedContracts),
    /// The HTTP port is not to be had.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// What peers are shown, or asked for.
    #[error(transparent)]
    Evidence(#[from] EvidenceConfigError),
}

#[cfg(test)]
mod tests {
    use ton::Address;

    use super::*;

    /// The least that works.
    fn complete() -> Config {
        Config { root_address: Address::new(0, [1; 32]).to_string(), ..Config::default() }
    }

    #[test]
    fn a_configuration_survives_its_text_and_defaults_fill_it() {
        let config = Config { timeout: Duration::from_millis(1500), ..Config::default() };
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains("\"timeout\":1.5"));
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
        let config: Config = serde_json::from_str("{\"timeout\":7}").unwrap();
        assert_eq!(config, Config { timeout: Duration::from_secs(7), ..Config::default() });
    }

    #[test]
    fn unknown_keys_and_impossible_values_are_refused() {
        assert!(serde_json::from_str::<Config>("{\"time_out\":7}").is_err());
        assert!(serde_json::from_str::<Config>("{\"timeout\":-1}").is_err());
        let ok = complete();
        assert!(ok.check().is_ok());
        for refused in [
            Config { proxy_connections: 0, ..ok.clone() },
            Config { max_tokens: 0, ..ok.clone() },
            Config { max_tokens: 1 << 31, ..ok.clone() },
            Config { max_coefficient: 1_000_000_000, ..ok.clone() },
            Config { timeout: Duration::ZERO, ..ok.clone() },
            Config { timeout: Duration::MAX, ..ok.clone() },
            Config { root_address: String::new(), ..ok.clone() },
            Config { chain: Some(ChainConfig::default()), ..ok.clone() },
        ] {
            assert!(matches!(refused.check(), Err(SettingError::Value { .. })));
        }
        let no_owner = Config { owner_address: "x".to_owned(), ..ok };
        assert!(matches!(no_owner.check(), Err(SettingError::Address { key: "owner_address", .. })));
    }

    #[test]
    fn an_origin_that_no_browser_would_send_is_refused() {
        let check = |origin: &str| Config { cors_origin: Some(origin.to_owned()), ..complete() }.check();
        for origin in ["*", "null", "https://app.example", "http://localhost:3000", "app://page"] {
            assert!(check(origin).is_ok(), "{origin}");
        }
        for origin in [
            "",
            "app.example",
            "https://",
            "https://app.example/",
            "https://App.example",
            "https://a b",
            "https://a\r\nx: y",
        ] {
            assert!(check(origin).is_err(), "{origin}");
        }
    }
}
