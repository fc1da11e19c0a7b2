//! What an operator sets.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use node::{ChainConfig, ChainConfigError, EvidenceConfig, SettingError};
use serde::{Deserialize, Serialize};
use units::{Coefficient, InvalidModelName, ModelName, NanoTon, PublicKey};

use crate::backend::{EngineUrl, InvalidEngineUrl};
use crate::settlement::{PAYOUT_LAST_AT, Policy};

/// Configuration of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where health, statistics and actions are served. Default: `127.0.0.1:12000`.
    pub http: SocketAddr,
    /// File with the root configuration (JSON), where no chain is set. It is read again every minute. Default:
    /// `root.json`.
    pub root_config: PathBuf,
    /// Address of the root contract, in any text form. Default: empty; must be set.
    pub root_address: String,
    /// Address of the wallet that receives the earnings, in any text form. Default: empty, which in test networks
    /// stands for an owner derived from the worker's own key.
    pub owner_address: String,
    /// Whether addresses are written for the test network of TON. Default: false.
    pub is_testnet: bool,
    /// Whether proxies must attest an image of the root contract's list. Default: false; always so outside test
    /// networks.
    pub check_proxy_hashes: bool,
    /// Folder for the worker's key and token. Default: `worker-state`.
    pub state: PathBuf,
    /// Proxies that each model is offered to at the same time. Default: 1.
    pub proxy_connections: usize,
    /// SOCKS5 address of a router that makes the TLS connections. Default: none, connections are made here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router: Option<SocketAddr>,
    /// Evidence of enclaves on links to proxies: what is shown and what is asked for. Default: none of both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceConfig>,
    /// How long running requests may go on at shutdown, in seconds. Default: 15.
    #[serde(with = "node::seconds")]
    pub drain_timeout: Duration,
    /// A payout is ordered at once when it is worth so many nanotons; less is cashed in when nothing was earned for an
    /// hour, and what its fees would eat never. Used with a chain only. Default: 10000000000 (10 TON).
    pub payout_at_nanotons: NanoTon,
    /// The chain with the root contract, where earnings are cashed in by the node wallet. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainConfig>,
    /// What is on offer. Default: nothing; at least one must be set, and no base name twice.
    pub models: Vec<ModelConfig>,
}

/// One model on offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// Full name, `name@commit:hash`; requests use the part before `@`, and the engine must know it by that.
    /// Default: empty; must be set.
    pub name: String,
    /// The engine: `http://host:port` of an OpenAI-compatible server, `demo` for the bundled demo model, or the path of
    /// a GGUF file or a folder with safetensors. Default: `demo`.
    pub backend: String,
    /// Price in thousandths of the network's. Default: 1000.
    pub coefficient: u32,
    /// Requests that run at once; more are refused. Default: 60.
    pub max_active_requests: i32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 12_000)),
            root_config: "root.json".into(),
            root_address: String::new(),
            owner_address: String::new(),
            is_testnet: false,
            check_proxy_hashes: false,
            state: "worker-state".into(),
            proxy_connections: 1,
            router: None,
            evidence: None,
            drain_timeout: Duration::from_secs(15),
            payout_at_nanotons: Policy::default().payout_at,
            chain: None,
            models: Vec::new(),
        }
    }
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            backend: "demo".to_owned(),
            coefficient: Coefficient::ONE.get(),
            max_active_requests: 60,
        }
    }
}

/// A configuration that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A setting that all roles have.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainConfigError),
    /// A model without a proper name.
    #[error("models: name")]
    Name(#[from] InvalidModelName),
    /// Two models that requests could not tell apart.
    #[error("models: {base:?} is offered twice")]
    Twice {
        /// The base name.
        base: String,
    },
    /// An engine address that cannot be used.
    #[error("models: backend of {model:?}")]
    Engine {
        /// The model.
        model: String,
        /// Why.
        source: InvalidEngineUrl,
    },
    /// An engine inside a program that has none.
    #[error(
        "models: backend of {model:?} is {backend:?}, but this program was built without an embedded engine"
    )]
    NoEmbeddedEngine {
        /// The model.
        model: String,
        /// What was asked for.
        backend: String,
    },
}

/// A checked model.
#[derive(Clone, Debug)]
pub(crate) struct CheckedModel {
    pub(crate) name: ModelName,
    pub(crate) engine: EngineChoice,
    pub(crate) coefficient: Coefficient,
    pub(crate) max_active_requests: u16,
}

/// Where a model runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EngineChoice {
    Server(EngineUrl),
    #[cfg(feature = "embedded-engine")]
    Embedded(engine::Source),
}

impl Config {
    /// Checks what can be checked without looking at files or the network.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.checked_models()?;
        self.policy()?;
        self.chain.as_ref().map(ChainConfig::check).transpose()?;
        node::root_address(&self.root_address)?;
        node::owner_address(&self.owner_address, &PublicKey::new([0; 32]), true)?;
        Ok(())
    }

    /// When payouts are worth it.
    pub(crate) fn policy(&self) -> Result<Policy, ConfigError> {
        if self.payout_at_nanotons < PAYOUT_LAST_AT {
            return refused("payout_at_nanotons", "at least 20000000 (0.02 TON): fees would eat less");
        }
        let Policy { payout_idle_at, idle_after, .. } = Policy::default();
        let payout_at = self.payout_at_nanotons;
        Ok(Policy { payout_at, payout_idle_at: payout_idle_at.min(payout_at), idle_after })
    }

    pub(crate) fn checked_models(&self) -> Result<Vec<CheckedModel>, ConfigError> {
        if self.proxy_connections == 0 {
            return refused("proxy_connections", "at least 1");
        }
        if self.models.is_empty() {
            return refused("models", "a list of at least one model");
        }
        let mut checked: Vec<CheckedModel> = Vec::new();
        for model in &self.models {
            let model = model.checked()?;
            if checked.iter().any(|other| other.name.base() == model.name.base()) {
                return Err(ConfigError::Twice { base: model.name.base().to_owned() });
            }
            checked.push(model);
        }
        Ok(checked)
    }
}

impl ModelConfig {
    fn checked(&self) -> Result<CheckedModel, ConfigError> {
        let max_active_requests = u16::try_from(self.max_active_requests).unwrap_or(0);
        if max_active_requests == 0 {
            return refused("models: max_active_requests", "1 to 65535");
        }
        let Ok(coefficient) = Coefficient::new(self.coefficient.into()) else {
            return refused("models: coefficient", "0 to 999999999");
        };
        let name = ModelName::new(self.name.as_str())?;
        Ok(CheckedModel { engine: self.engine()?, name, coefficient, max_active_requests })
    }

    fn engine(&self) -> Result<EngineChoice, ConfigError> {
        if self.backend.contains("://") {
            let url = self.backend.parse();
            return url
                .map(EngineChoice::Server)
                .map_err(|source| ConfigError::Engine { model: self.name.clone(), source });
        }
        #[cfg(feature = "embedded-engine")]
        return Ok(EngineChoice::Embedded(match self.backend.as_str() {
            "demo" => engine::Source::Demo,
            path if std::path::Path::new(path).is_dir() => engine::Source::Safetensors(path.into()),
            path => engine::Source::Gguf(path.into()),
        }));
        #[cfg(not(feature = "embedded-engine"))]
        Err(ConfigError::NoEmbeddedEngine { model: self.name.clone(), backend: self.backend.clone() })
    }
}

fn refused<T>(key: &'static str, expected: &'static str) -> Result<T, ConfigError> {
    Err(SettingError::Value { key, expected }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> ModelConfig {
        ModelConfig {
            name: "m@c:h".into(),
            backend: "http://127.0.0.1:8000".into(),
            ..ModelConfig::default()
        }
    }

    fn config(models: Vec<ModelConfig>) -> Config {
        let root_address = format!("0:{}", "09".repeat(32));
        Config { root_address, models, ..Config::default() }
    }

    #[test]
    fn a_configuration_survives_its_text_and_defaults_fill_it() {
        let config = Config { drain_timeout: Duration::from_millis(1500), ..config(vec![model()]) };
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains("\"drain_timeout\":1.5"));
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
        assert_eq!(serde_json::from_str::<Config>("{}").unwrap(), Config::default());
        assert!(serde_json::from_str::<Config>("{\"model\":[]}").is_err());
        assert!(serde_json::from_str::<Config>("{\"models\":[{\"price\":1}]}").is_err());
    }

    #[test]
    fn impossible_values_are_refused_by_their_key() {
        assert!(config(vec![model()]).check().is_ok());
        let refused = |config: Config| config.check().unwrap_err().to_string();
        let no_root = Config { root_address: String::new(), ..config(vec![model()]) };
        assert!(refused(no_root).contains("root_address"));
        let no_proxy = Config { proxy_connections: 0, ..config(vec![model()]) };
        assert!(refused(no_proxy).contains("proxy_connections"));
        let eaten = Config { payout_at_nanotons: NanoTon::new(19_999_999), ..config(vec![model()]) };
        assert!(refused(eaten).contains("payout_at_nanotons"));
        let chain = Some(ChainConfig { endpoint: "localhost".to_owned(), ..ChainConfig::default() });
        assert!(refused(Config { chain, ..config(vec![model()]) }).contains("chain"));
        assert!(refused(config(vec![])).contains("models"));
        assert!(refused(config(vec![ModelConfig { name: "@c".into(), ..model() }])).contains("name"));
        assert!(
            refused(config(vec![ModelConfig { coefficient: 1_000_000_000, ..model() }]))
                .contains("coefficient")
        );
        for max_active_requests in [0, -1, 65_536] {
            let refused = refused(config(vec![ModelConfig { max_active_requests, ..model() }]));
            assert!(refused.contains("max_active_requests"), "{refused}");
        }
    }

    #[test]
    fn requests_must_be_able_to_tell_models_apart() {
        let other = |name: &str| ModelConfig { name: name.into(), ..model() };
        assert!(config(vec![model(), other("n@c:h")]).check().is_ok());
        let twice = config(vec![model(), other("m@other:h")]).check();
        assert!(matches!(twice, Err(ConfigError::Twice { base }) if base == "m"));
    }

    #[test]
    fn backends_are_told_apart_by_their_form() {
        let engine = |backend: &str| ModelConfig { backend: backend.into(), ..model() }.checked();
        assert!(matches!(engine("http://gpu:8000").unwrap().engine, EngineChoice::Server(_)));
        assert!(matches!(engine("https://gpu:8000"), Err(ConfigError::Engine { .. })));
        #[cfg(feature = "embedded-engine")]
        {
            let embedded = |backend: &str| match engine(backend).unwrap().engine {
                EngineChoice::Embedded(source) => source,
                EngineChoice::Server(_) => panic!("{backend} is no server"),
            };
            assert_eq!(embedded("demo"), engine::Source::Demo);
            assert_eq!(embedded("model.gguf"), engine::Source::Gguf("model.gguf".into()));
            let folder = env!("CARGO_MANIFEST_DIR");
            assert_eq!(embedded(folder), engine::Source::Safetensors(folder.into()));
        }
        #[cfg(not(feature = "embedded-engine"))]
        assert!(matches!(engine("demo"), Err(ConfigError::NoEmbeddedEngine { .. })));
    }
}
