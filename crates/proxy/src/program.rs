//! The proxy as a program.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use admin::Token;
use chain::outbox::KeptError;
use node::{
    ChainConfigError, Evidence, EvidenceConfigError, RootFile, RootSource, SettingError, StateError,
    StateFolder,
};
use rand::RngExt as _;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use transport::{ListenConfig, ListenMode, Listener};
use units::PublicKey;

use crate::closing::OnChain;
use crate::config::{Config, ConfigError};
use crate::core::{Core, Limits};
use crate::face::{self, Face};
use crate::journal::BooksError;
use crate::kept;
use crate::machine_key::{self, MachineKeyError};
use crate::network::{self, NetworkError, Party, Tasks};
use crate::shell::{Shell, Side, now};

/// How long links may take to send their last bytes and close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a proxy does not start. Always the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A value of the configuration.
    #[error("the configuration cannot work")]
    Config(#[from] ConfigError),
    /// The root configuration.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The state folder.
    #[error("the proxy's state cannot be used")]
    State(#[from] StateError),
    /// The books.
    #[error("the proxy's books cannot be used")]
    Books(#[from] BooksError),
    /// The orders of the node wallet.
    #[error("the orders of the node wallet cannot be used")]
    Orders(#[from] KeptError),
    /// A port is not to be had.
    #[error("cannot listen on {address} for {purpose}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Who would connect there.
        purpose: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The key that signs payments and books.
    #[error("the proxy has no machine key")]
    MachineKey(#[from] MachineKeyError),
    /// What peers are shown, or asked for.
    #[error(transparent)]
    Evidence(#[from] EvidenceConfigError),
}

/// A running proxy. Dropping it stops everything at once; [`Proxy::shutdown`] drains first.
#[derive(Debug)]
pub struct Proxy {
    face: Arc<Face>,
    http: SocketAddr,
    workers: SocketAddr,
    clients: SocketAddr,
    drain_timeout: Duration,
    links: TaskTracker,
    tasks: TaskTracker,
    accepting: CancellationToken,
    stop: DropGuard,
    recording: Recording,
    _state: StateFolder,
}

/// Writes what is left of the books when it is dropped.
#[derive(Debug)]
struct Recording(Arc<Face>);

impl Drop for Recording {
    fn drop(&mut self) {
        self.0.shell.stop_writer();
        for closing in self.0.party.on_chain.iter().flat_map(|on_chain| on_chain.closing()) {
            closing.stop_writer();
        }
    }
}

/// Listens for clients, workers and the operator.
///
/// # Errors
/// [`StartError`] if the configuration, a file or a port cannot be used.
pub async fn start(config: Config) -> Result<Proxy, StartError> {
    config.check()?;
    let state = StateFolder::open(&config.state)?;
    let wallet_key = state.key("wallet.key")?;
    let own_key = PublicKey::new(wallet_key.verifying_key().to_bytes());
    let token = Token::new(&state.secret("admin.token")?);
    let owner = config.owner(&own_key)?;
    let root_address = node::root_address(&config.root_address)?;
    let books = config.state.join("books");
    let (root, wallet, on_chain, runner) = match &config.chain {
        Some(chain) => {
            let provider = chain.provider()?;
            let (wallet, runner) = node::open_wallet(provider.clone(), wallet_key, &owner, &state)?;
            let root = chain.root(provider.clone(), root_address);
            let address = wallet.address();
            let on_chain = OnChain::new(provider, wallet, config.policy(), config.accepted());
            (root, address, Some(Arc::new(on_chain)), Some(runner))
        }
        None => {
            let root = RootSource::File(RootFile::new(config.root_config.clone()));
            (root, node::node_wallet(&own_key, &owner), None, None)
        }
    };
    let network = root.read().await.map_err(NetworkError::from)?;
    let is_test = network.params.is_test;
    let machine_key = machine_key::open(&config, &state, &books, is_test).await?;
    let party = Arc::new(Party {
        root,
        root_address,
        owner,
        wallet,
        on_chain,
        machine_key,
        books,
        is_testnet: config.is_testnet,
        check_worker_hashes: config.check_worker_hashes,
    });
    let terms = party.terms(network).map_err(NetworkError::from)?;
    let kept = party.kept();
    kept::check_not_behind(&terms, &kept)?;
    let (store, mut books) = party.open_books(&terms)?;
    let settlement = party.settlement(&terms, &mut books);
    let mut core = Core::resume(terms, books, Limits::default(), rand::rng().random());
    if let Some(settlement) = settlement {
        core.follow_chain(settlement, now());
    }
    let shell = Arc::new(Shell::new(core));
    shell.start_writer(store).map_err(BooksError::from)?;
    let face = Arc::new(Face { shell: Arc::clone(&shell), party: Arc::clone(&party) });
    let recording = Recording(Arc::clone(&face));

    let Config { links_max, links_per_address_max, .. } = config;
    let listen = |mode| ListenConfig { mode, links_max, links_per_address_max, ..ListenConfig::default() };
    let [for_workers, for_clients] = listen_modes(&config, is_test)?;
    let bind = |address, purpose| move |source| StartError::Bind { address, purpose, source };
    let workers = Listener::bind(config.workers, listen(for_workers)).await;
    let workers = workers.map_err(bind(config.workers, "workers"))?;
    let clients = Listener::bind(config.clients, listen(for_clients)).await;
    let clients = clients.map_err(bind(config.clients, "clients"))?;
    let http = TcpListener::bind(config.http).await.map_err(bind(config.http, "HTTP"))?;
    let http_address = http.local_addr().map_err(bind(config.http, "HTTP"))?;
    let (workers_address, clients_address) = (workers.local_addr(), clients.local_addr());

    let stop = CancellationToken::new();
    let accepting = stop.child_token();
    let (links, tasks) = (TaskTracker::new(), TaskTracker::new());
    for (listener, side) in [(workers, Side::Workers), (clients, Side::Clients)] {
        let shell = Arc::clone(&shell);
        let accept = shell.accept(listener, side, links.clone(), stop.clone());
        tasks.spawn(accepting.clone().run_until_cancelled_owned(accept));
    }
    let watch = Arc::clone(&shell).watch_deadlines();
    tasks.spawn(stop.clone().run_until_cancelled_owned(watch));
    let contracts = Tasks { tracker: tasks.clone(), stop: stop.clone() };
    if let Some(runner) = runner {
        contracts.spawn(runner.run(transport::clock::unix_now));
        network::settle(&party, &shell, &contracts);
        network::close_left(&party, &shell, &contracts, kept);
    }
    let follow = network::follow(Arc::clone(&party), Arc::clone(&shell), contracts);
    tasks.spawn(stop.clone().run_until_cancelled_owned(follow));
    tasks.spawn(admin::serve(http, face::router(&face, token), stop.clone()));
    Ok(Proxy {
        face,
        http: http_address,
        workers: workers_address,
        clients: clients_address,
        drain_timeout: config.drain_timeout,
        links,
        tasks,
        accepting,
        stop: stop.drop_guard(),
        recording,
        _state: state,
    })
}

impl From<SettingError> for StartError {
    fn from(error: SettingError) -> Self {
        Self::Config(error.into())
    }
}

impl From<ChainConfigError> for StartError {
    fn from(error: ChainConfigError) -> Self {
        Self::Config(error.into())
    }
}

/// For workers and for clients.
fn listen_modes(config: &Config, is_test: bool) -> Result<[ListenMode; 2], EvidenceConfigError> {
    if config.behind_router {
        return match config.evidence {
            Some(_) => Err(EvidenceConfigError::Router { key: "behind_router" }),
            None => Ok([ListenMode::BehindRouter, ListenMode::BehindRouter]),
        };
    }
    // Both listeners show the same identity, made anew every hour and never written down. Clients need no enclave.
    let Evidence { identity, appraiser } = Evidence::open(config.evidence.as_ref(), is_test)?;
    let pow_difficulty = config.pow_difficulty;
    let asking = |appraiser| ListenMode::Tls { identity: identity.clone(), appraiser, pow_difficulty };
    Ok([asking(appraiser), asking(None)])
}

impl Proxy {
    /// Where the local port listens.
    #[must_use]
    pub const fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Where workers connect.
    #[must_use]
    pub const fn workers_address(&self) -> SocketAddr {
        self.workers
    }

    /// Where clients connect.
    #[must_use]
    pub const fn clients_address(&self) -> SocketAddr {
        self.clients
    }

    /// What keeps the proxy from running requests, one sentence each; empty when it is ready.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.face.missing()
    }

    /// Takes no more links and requests, lets those that run finish within the configured time, and closes all
    /// links.
    pub async fn shutdown(self) {
        let Self { face, drain_timeout, links, tasks, accepting, stop, recording, .. } = self;
        let shell = &face.shell;
        accepting.cancel();
        shell.feed(|core, _now| core.begin_drain());
        if timeout(drain_timeout, shell.until_idle()).await.is_err() {
            let running = shell.look(Core::running_len);
            tracing::warn!(running, "requests were cut at shutdown");
        }
        shell.feed(Core::shut_down);
        links.close();
        if timeout(CLOSE_TIMEOUT, links.wait()).await.is_err() {
            tracing::warn!(links = links.len(), "links were cut at shutdown");
        }
        drop(stop);
        tasks.close();
        if timeout(CLOSE_TIMEOUT, tasks.wait()).await.is_err() {
            tracing::warn!(tasks = tasks.len(), "tasks were cut at shutdown");
        }
        // The disk may take its time; the runtime does not wait for it on one of its own threads.
        if tokio::task::spawn_blocking(move || drop(recording)).await.is_err() {
            tracing::error!("the books were not closed in order");
        }
    }
}
