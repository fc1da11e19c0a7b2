//! The ports of a router at work.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use evidence::Appraiser;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use transport::identity::IdentitySource;
use transport::{Acceptor, SecureConnectConfig, SecureListenConfig, SecureListener};

use crate::config::RouterConfig;
use crate::error::{AtPort, TunnelError};
use crate::options::{Destination, Mode};
use crate::policy::PeerPolicy;
use crate::tunnel::{Judge, Port};

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on port {port}: choose another one, or end what listens there")]
pub struct BindError {
    port: u16,
    source: io::Error,
}

/// A router whose ports are open.
#[derive(Debug)]
pub struct Router {
    ports: Vec<(Arc<Port>, Open)>,
    drain: Duration,
}

#[derive(Debug)]
enum Open {
    /// For programs on this machine, and where all of them are connected to, if they do not say.
    Local(TcpListener, Option<Destination>),
    /// For peers, and where they are connected to.
    Peers(SecureListener, Destination),
}

impl Router {
    /// Opens the ports: those for local programs on 127.0.0.1, those for peers on all of the machine's IPv4 addresses. `identity` is
    /// what peers are shown; `appraiser` lends the policies of the kind `tdx` all that is not in them.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(
        config: RouterConfig,
        identity: IdentitySource,
        appraiser: &Appraiser,
    ) -> Result<Self, BindError> {
        let RouterConfig { ports, policies, limits, .. } = config;
        let judge = |policy| match policy {
            PeerPolicy::Any => Judge::Any,
            PeerPolicy::Tdx(policy) => Judge::Tdx(appraiser.with_policy(policy)),
            PeerPolicy::FakeTdx(policy) => Judge::FakeTdx(Box::new(policy)),
        };
        let judges: BTreeMap<_, _> =
            policies.into_iter().map(|(name, policy)| (name, judge(policy))).collect();
        let judges = Arc::new(judges);
        let mut open = Vec::new();
        for port in ports {
            let cannot = |source| BindError { port: port.port, source };
            let local = async |to| {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.port));
                Ok(Open::Local(TcpListener::bind(address).await.map_err(cannot)?, to))
            };
            let listener = match &port.mode {
                Mode::Socks5 => local(None).await?,
                Mode::Forward(to) => local(Some(to.clone())).await?,
                Mode::Reverse(to) => {
                    let listen = SecureListenConfig {
                        identity: identity.clone(),
                        pow_difficulty: port.pow_difficulty,
                        streams_max: limits.connections_max,
                        streams_per_address_max: limits.connections_per_address_max,
                        deadlines: limits.listen,
                    };
                    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.port));
                    let span = tracing::info_span!("reverse", port = port.port, policy = port.policy);
                    let listener = SecureListener::bind(address, listen).instrument(span).await;
                    Open::Peers(listener.map_err(cannot)?, to.clone())
                }
            };
            let connect = SecureConnectConfig {
                identity: identity.clone(),
                pow_difficulty_max: port.pow_difficulty_max,
                deadlines: limits.connect,
            };
            open.push((Arc::new(Port { config: port, limits, connect, judges: judges.clone() }), listener));
        }
        Ok(Self { ports: open, drain: limits.drain })
    }

    /// Where the ports are, in the order of the configuration.
    ///
    /// # Errors
    /// As the system says.
    pub fn local_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        let address = |(_, open): &(Arc<Port>, Open)| match open {
            Open::Local(listener, _) => listener.local_addr(),
            Open::Peers(listener, _) => Ok(listener.local_addr()),
        };
        self.ports.iter().map(address).collect()
    }

    /// Serves until `stop`; then it takes no more connections and gives those that are open a while to end by themselves.
    pub async fn run(self, stop: CancellationToken) {
        let mut ports = JoinSet::new();
        let end = End { stop, grace: self.drain };
        for (port, open) in self.ports {
            match open {
                Open::Local(listener, to) => ports.spawn(serve_local(port, listener, to, end.clone())),
                Open::Peers(listener, to) => ports.spawn(serve_peers(port, listener, to, end.clone())),
            };
        }
        ports.join_all().await;
    }
}

async fn serve_local(port: Arc<Port>, listener: TcpListener, to: Option<Destination>, end: End) {
    let mut acceptor = Acceptor::new(listener);
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = end.stop.cancelled() => break,
            Some(ended) = open.join_next() => noted(ended),
            (local, from) = acceptor.accept() => {
                if open.len() < port.limits.connections_max {
                    let (port, to) = (Arc::clone(&port), to.clone());
                    open.spawn(async move { tell(&port, connect(&port, local, from, to.as_ref()).await) });
                } else {
                    let full = TunnelError::Full { max: port.limits.connections_max };
                    tell(&port, Err(port.at(full)));
                }
            }
        }
    }
    drop(acceptor);
    end.drain(open).await;
}

async fn connect(
    port: &Port,
    local: TcpStream,
    from: SocketAddr,
    to: Option<&Destination>,
) -> Result<(), AtPort> {
    local.set_nodelay(true).map_err(|error| port.at(TunnelError::Local(error)))?;
    match to {
        Some(to) => port.forward(local, from, to).await.map_err(|error| port.at(error)),
        None => port.socks5(local, from).await,
    }
}

async fn serve_peers(port: Arc<Port>, mut listener: SecureListener, to: Destination, end: End) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = end.stop.cancelled() => break,
            Some(ended) = open.join_next() => noted(ended),
            // How many there may be, its listener knows.
            Some(peer) = listener.accept() => {
                let (port, to) = (Arc::clone(&port), to.clone());
                open.spawn(async move {
                    let ended = port.reverse(peer, &to).await;
                    tell(&port, ended.map_err(|error| port.at(error)));
                });
            }
        }
    }
    drop(listener);
    end.drain(open).await;
}

/// The end of a port.
#[derive(Clone, Debug)]
struct End {
    stop: CancellationToken,
    grace: Duration,
}

impl End {
    /// Waits for those that are open, and cuts off what is left after a while.
    async fn drain(self, mut open: JoinSet<()>) {
        let all = async {
            while let Some(ended) = open.join_next().await {
                noted(ended);
            }
        };
        let _some_are_left = timeout(self.grace, all).await;
    }
}

fn noted(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task panicked");
    }
}

/// Logs how a connection ended.
fn tell(port: &Port, ended: Result<(), AtPort>) {
    let Err(error) = ended else { return };
    let we_connect = !matches!(port.config.mode, Mode::Reverse(_));
    transport::ended::log(error.source.cause(), error.source.is_fault(we_connect), &error);
}
