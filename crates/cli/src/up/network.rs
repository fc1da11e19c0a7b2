//! The files of a private network: one root configuration that all roles share, one configuration a role.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ton::{Address, RegisteredProxy, RootConfig};
use units::{ConfigVersion, NanoTon};

use super::engine_choice::ServedModel;
#[cfg(feature = "embedded-engine")]
use super::engine_choice::local_name;
use crate::instance::{Ports, loopback};

/// What a client pays for an adjusted token in a private network.
pub(super) const PRICE_PER_TOKEN: NanoTon = NanoTon::new(20);
/// What of it the worker earns; the proxy keeps the rest.
const WORKER_FEE_PER_TOKEN: NanoTon = NanoTon::new(18);

/// Stands for the root contract and its owner. Nothing is deployed there: the address, which spells "cocoon
/// development root", only has to be the same for all.
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

impl Network {
    /// Writes the root configuration below `state` and composes the roles' configurations.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(super) fn lay_out(state: &Path, ports: Ports, served: &ServedModel) -> Result<Self> {
        let file = state.join("root.json");
        let json = root_config(ports).to_pseudo_json().context("the root configuration has no file form")?;
        std::fs::write(&file, json).with_context(|| format!("cannot write {}", file.display()))?;
        let root_address = ROOT_ADDRESS.to_wire_text(false);
        let client = client::Config {
            http: loopback(ports.client_http),
            root_config: file.clone(),
            root_address: root_address.clone(),
            state: state.join("client"),
            ..client::Config::default()
        };
        let proxy = proxy::Config {
            http: loopback(ports.proxy_http),
            workers: loopback(ports.proxy_workers),
            clients: loopback(ports.proxy_clients),
            root_config: file.clone(),
            root_address: root_address.clone(),
            state: state.join("proxy"),
            ..proxy::Config::default()
        };
        let worker = worker::Config {
            http: loopback(ports.worker_http),
            root_config: file,
            root_address: root_address.clone(),
            state: state.join("worker"),
            models: models(served),
            ..worker::Config::default()
        };
        Ok(Self { ports, client, proxy, worker, state: state.to_owned() })
    }
}

/// What every role of this network is told: one proxy, on loopback, at development prices.
fn root_config(ports: Ports) -> RootConfig {
    let loopback = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let mut root = RootConfig::pseudo(ROOT_ADDRESS);
    root.version = ConfigVersion::new(1);
    root.params.params_version = 1;
    root.params.price_per_token = PRICE_PER_TOKEN;
    root.params.worker_fee_per_token = WORKER_FEE_PER_TOKEN;
    root.last_proxy_seqno = 1;
    root.registered_proxies = vec![RegisteredProxy {
        seqno: 1,
        workers: loopback(ports.proxy_workers),
        clients: loopback(ports.proxy_clients),
    }];
    root
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
