//! The worker as a program.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use admin::Token;
use chain::outbox::KeptError;
use node::{
    ChainConfig, ChainConfigError, ConnectingParty, EvidenceConfigError, OwnContract, RootFile, RootSource,
    SettingError, StateError, StateFolder, follow_payments,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use ton::payment::PaymentKind;
use units::PublicKey;

use crate::backend::{Backend, HttpBackend};
use crate::config::{CheckedModel, Config, ConfigError, EngineChoice};
use crate::face::{self, Face};
use crate::link::{self, Common};
use crate::model::Model;
use crate::network::{self, Network, NetworkError};
use crate::session::Accounts;
use crate::settlement::Cashier;
use crate::stats::Stats;

/// How long links may take to send their last bytes and close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a worker does not start. Always the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A value of the configuration.
    #[error("the configuration cannot work")]
    Config(#[from] ConfigError),
    /// A setting that all roles have.
    #[error("the configuration cannot work")]
    Setting(#[from] SettingError),
    /// The root configuration.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The state folder.
    #[error("the worker's state cannot be used")]
    State(#[from] StateError),
    /// The section `chain` of the configuration.
    #[error("the configuration cannot work")]
    Chain(#[from] ChainConfigError),
    /// The node wallet's open orders.
    #[error("the open orders of the node wallet cannot be used")]
    Orders(#[from] KeptError),
    /// The HTTP port is not to be had.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A model cannot be loaded.
    #[cfg(feature = "embedded-engine")]
    #[error("the model {model:?} cannot be loaded")]
    Load {
        /// Its name.
        model: String,
        /// Why.
        source: engine::LoadError,
    },
    /// What peers are shown, or asked for.
    #[error(transparent)]
    Evidence(#[from] EvidenceConfigError),
}

/// A running worker. Dropping it stops everything at once; [`Worker::shutdown`] drains first.
pub struct Worker {
    face: Arc<Face>,
    http: SocketAddr,
    drain_timeout: Duration,
    tasks: JoinSet<()>,
    stop: DropGuard,
    state: Arc<StateFolder>,
}

/// Loads the engines, begins to connect to proxies, and serves the local port.
///
/// # Errors
/// [`StartError`] if the configuration, a file or a port cannot be used. That an engine server or a proxy cannot be
/// reached is no error: both are tried again for ever.
pub async fn start(config: Config) -> Result<Worker, StartError> {
    let checked = config.checked_models()?;
    let root = node::root_address(&config.root_address)?;
    let policy = config.policy()?;
    let provider = config.chain.as_ref().map(ChainConfig::provider).transpose()?;
    let source = Arc::new(match config.chain.as_ref().zip(provider.clone()) {
        Some((chain, provider)) => chain.root(provider, root),
        None => RootSource::File(RootFile::new(config.root_config)),
    });
    let network = Network::new(source.read().await.map_err(NetworkError::from)?)?;
    let is_test = network.config.params.is_test;
    let connect = node::connect_config(config.router, config.evidence.as_ref(), is_test)?;
    let state = Arc::new(StateFolder::open(&config.state)?);
    let key = state.key("wallet.key")?;
    let own_key = PublicKey::new(key.verifying_key().to_bytes());
    let token = Token::new(&state.secret("admin.token")?);
    let owner = node::owner_address(&config.owner_address, &own_key, is_test)?;
    let bind = |source| StartError::Bind { address: config.http, source };
    let listener = TcpListener::bind(config.http).await.map_err(bind)?;
    let http = listener.local_addr().map_err(bind)?;
    let mut models = Vec::with_capacity(checked.len());
    for model in checked {
        models.push(Arc::new(load(model).await?));
    }

    let stop = CancellationToken::new();
    let network = Arc::new(watch::Sender::new(Arc::new(network)));
    let common = Arc::new(Common {
        party: ConnectingParty { owner, root, is_testnet: config.is_testnet, contract: OwnContract::Worker },
        root_source: Arc::clone(&source),
        network: Arc::clone(&network),
        accounts: Accounts::restored(state.kept_payments(PaymentKind::WorkerPayout)?),
        stats: Arc::new(Stats::default()),
        connect,
        proxy_connections: config.proxy_connections,
        checks_proxy_hashes: config.check_proxy_hashes,
        stop: stop.clone(),
    });
    let (cashier, runner) = match provider {
        Some(provider) => {
            let (wallet, runner) = node::open_wallet(provider.clone(), key, &owner, &state)?;
            (Some(Arc::new(Cashier::open(policy, provider, wallet, Arc::clone(&state))?)), Some(runner))
        }
        None => (None, None),
    };
    let wallet = cashier
        .as_ref()
        .map_or_else(|| node::node_wallet(&own_key, &owner), |cashier| cashier.wallet().address());
    let face = Arc::new(Face { common: Arc::clone(&common), models, wallet, cashier: cashier.clone() });

    let mut tasks = JoinSet::new();
    let mut until_stopped = |task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let stop = stop.clone();
        tasks.spawn(async move { stop.run_until_cancelled(task).await.unwrap_or_default() });
    };
    until_stopped(Box::pin(network::follow(source, network)));
    if let Some((cashier, runner)) = cashier.zip(runner) {
        until_stopped(Box::pin(runner.run(transport::clock::unix_now)));
        let common = Arc::clone(&common);
        until_stopped(Box::pin(async move { cashier.run(&common).await }));
    }
    let (keeping, folder) = (Arc::clone(&common), Arc::clone(&state));
    until_stopped(Box::pin(async move {
        follow_payments(folder, &keeping.accounts.paid, || keeping.accounts.to_keep()).await;
    }));
    for model in &face.models {
        let watched = Arc::clone(model);
        until_stopped(Box::pin(async move { watched.watch_engine().await }));
    }
    for model in &face.models {
        for _ in 0..config.proxy_connections {
            tasks.spawn(link::keep(Arc::clone(&common), Arc::clone(model)));
        }
    }
    tasks.spawn(admin::serve(listener, face::router(&face, token), stop.clone()));
    Ok(Worker { face, http, drain_timeout: config.drain_timeout, tasks, stop: stop.drop_guard(), state })
}

async fn load(checked: CheckedModel) -> Result<Model, StartError> {
    let CheckedModel { name, engine, coefficient, max_active_requests } = checked;
    let backend = match engine {
        EngineChoice::Server(url) => Backend::Http(HttpBackend::new(url)),
        #[cfg(feature = "embedded-engine")]
        EngineChoice::Embedded(source) => {
            let mut config = engine::EngineConfig::new(transport::clock::unix_now);
            config.model_id = Some(name.clone());
            config.active_max = max_active_requests.into();
            // Reading a model blocks for as long as its files are large.
            let loaded = tokio::task::spawn_blocking(move || engine::Engine::load(&source, config)).await;
            let loaded = loaded.expect("loading a model ends in a model or an error and is never aborted");
            Backend::Embedded(
                loaded.map_err(|source| StartError::Load { model: name.base().to_owned(), source })?,
            )
        }
    };
    Ok(Model::new(name, backend, coefficient, max_active_requests))
}

impl Worker {
    /// Where the local port listens.
    #[must_use]
    pub const fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// What keeps the worker from answering requests, one sentence each; empty when it is ready.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.face.missing()
    }

    /// Announces that no more requests are taken, lets those that run finish within the configured time, and closes
    /// all links.
    pub async fn shutdown(self) {
        let Self { face, drain_timeout, mut tasks, stop, state, .. } = self;
        for model in &face.models {
            model.change(|state| state.is_draining = true);
        }
        let drained = async {
            for model in &face.models {
                model.idle().await;
            }
        };
        if timeout(drain_timeout, drained).await.is_err() {
            let running: usize = face.models.iter().map(|model| model.active_requests()).sum();
            tracing::warn!(running, "requests were cut at shutdown");
        }
        drop(stop);
        let ended = async { while tasks.join_next().await.is_some() {} };
        if timeout(CLOSE_TIMEOUT, ended).await.is_err() {
            tracing::warn!("tasks were cut at shutdown");
        }
        let payments = face.common.accounts.to_keep();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || state.keep_payments(payments)).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the last payments cannot be kept");
        }
    }
}
