//! The configurations of a private network's roles, and what its root contract says. In a program without a devnet, a file
//! says it in the contract's place, and no coins move.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

#[cfg(not(feature = "devnet"))]
use anyhow::{Context, Result};
use node::ChainConfig;
use ton::{Address, RegisteredProxy, RootConfig, model_hash};
use units::{ConfigVersion, ModelHash, ModelName, NanoTon};

use super::enclaves::{self, Enclaves};
use super::engine_choice::ServedModel;
#[cfg(feature = "embedded-engine")]
use super::engine_choice::local_name;
use crate::instance::{Ports, loopback};

/// What a client pays for an adjusted token in a private network.
pub(super) const PRICE_PER_TOKEN: NanoTon = NanoTon::new(20);
/// What of it the worker earns; the proxy keeps the rest.
const WORKER_FEE_PER_TOKEN: NanoTon = NanoTon::new(18);

/// Stands for the root contract and its owner where there is no chain. It spells "cocoon development root" and only has to
/// be the same for all.
#[cfg(not(feature = "devnet"))]
const ROOT_ADDRESS: Address = Address::new(0, *b"cocoon development root\0\0\0\0\0\0\0\0\0");

/// Requests that the embedded engine works on at once; the next are refused, not queued without bound.
#[cfg(feature = "embedded-engine")]
const EMBEDDED_REQUESTS_MAX: i32 = 16;
/// The same for a server, which batches better than we do.
const SERVER_REQUESTS_MAX: i32 = 256;

/// A laid-out network, ready to start.
pub(super) struct Network {
    pub(super) ports: Ports,
    pub(super) client: client::Config,
    pub(super) proxy: proxy::Config,
    pub(super) worker: worker::Config,
    pub(super) state: PathBuf,
}

/// What a network stands on: its root contract, or a file in its place.
#[derive(Default)]
pub(super) struct Ground {
    /// The file.
    pub(super) root_config: PathBuf,
    /// Address of the contract.
    pub(super) root_address: String,
    /// Where the chain answers; `None` with a file.
    pub(super) chain: Option<ChainConfig>,
    /// Whose wallets stand behind the roles; empty with a file.
    pub(super) owners: Owners,
}

/// Addresses of people's wallets.
#[derive(Default)]
pub(super) struct Owners {
    pub(super) of_client: String,
    pub(super) of_proxy: String,
    pub(super) of_worker: String,
}

impl Ground {
    /// A file below `state`.
    ///
    /// # Errors
    /// If it cannot be written.
    #[cfg(not(feature = "devnet"))]
    pub(super) fn of_file(state: &Path, terms: &RootConfig) -> Result<Self> {
        let file = state.join("root.json");
        let json = terms.to_pseudo_json().context("the root configuration has no file form")?;
        std::fs::write(&file, json).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self { root_config: file, root_address: ROOT_ADDRESS.to_wire_text(false), ..Self::default() })
    }
}

impl Network {
    /// Composes the roles' configurations.
    pub(super) fn lay_out(
        state: &Path,
        ports: Ports,
        served: &ServedModel,
        enclaves: &Enclaves,
        ground: Ground,
    ) -> Self {
        let Ground { root_config, root_address, chain, owners } = ground;
        let client = client::Config {
            http: loopback(ports.client_http),
            root_config: root_config.clone(),
            root_address: root_address.clone(),
            owner_address: owners.of_client,
            chain: chain.clone(),
            check_proxy_hashes: true,
            evidence: Some(enclaves.section(None)),
            state: state.join("client"),
            ..client::Config::default()
        };
        let proxy = proxy::Config {
            http: loopback(ports.proxy_http),
            workers: loopback(ports.proxy_workers),
            clients: loopback(ports.proxy_clients),
            root_config: root_config.clone(),
            root_address: root_address.clone(),
            owner_address: owners.of_proxy,
            chain: chain.clone(),
            check_worker_hashes: true,
            evidence: Some(enclaves.section(Some(enclaves::PROXY))),
            state: state.join("proxy"),
            ..proxy::Config::default()
        };
        let worker = worker::Config {
            http: loopback(ports.worker_http),
            root_config,
            root_address,
            owner_address: owners.of_worker,
            chain,
            check_proxy_hashes: true,
            evidence: Some(enclaves.section(Some(enclaves::WORKER))),
            state: state.join("worker"),
            models: models(served),
            ..worker::Config::default()
        };
        Self { ports, client, proxy, worker, state: state.to_owned() }
    }
}

/// What every role of this network is told: one proxy, on loopback, at development prices.
pub(super) fn terms(ports: Ports, served: &ServedModel) -> RootConfig {
    let loopback = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let mut root = RootConfig::pseudo(Address::new(0, [0; 32]));
    root.version = ConfigVersion::new(1);
    root.params.params_version = 1;
    root.params.price_per_token = PRICE_PER_TOKEN;
    root.params.worker_fee_per_token = WORKER_FEE_PER_TOKEN;
    root.proxy_hashes.insert(enclaves::image(enclaves::PROXY));
    root.worker_hashes.insert(enclaves::image(enclaves::WORKER));
    root.model_hashes = models(served).iter().filter_map(hash_of).collect();
    root.last_proxy_seqno = 1;
    root.registered_proxies = vec![RegisteredProxy {
        seqno: 1,
        workers: loopback(ports.proxy_workers),
        clients: loopback(ports.proxy_clients),
    }];
    root
}

/// By which the root contract knows a model. None for a name that no worker may have: it is refused where it is read.
fn hash_of(model: &worker::ModelConfig) -> Option<ModelHash> {
    Some(model_hash(&ModelName::new(model.name.clone()).ok()?))
}

fn models(served: &ServedModel) -> Vec<worker::ModelConfig> {
    let model = |name: &str, backend: String, max_active_requests| worker::ModelConfig {
        name: name.to_owned(),
        backend,
        max_active_requests,
        ..worker::ModelConfig::default()
    };
    match served {
        #[cfg(feature = "embedded-engine")]
        ServedModel::Demo => vec![model(engine::demo::MODEL_ID, "demo".into(), EMBEDDED_REQUESTS_MAX)],
        #[cfg(feature = "embedded-engine")]
        ServedModel::Local(path) => {
            vec![model(&local_name(path), path.to_string_lossy().into_owned(), EMBEDDED_REQUESTS_MAX)]
        }
        ServedModel::Server { url, models, .. } => {
            models.iter().map(|name| model(name, url.clone(), SERVER_REQUESTS_MAX)).collect()
        }
    }
}
