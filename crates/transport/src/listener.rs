//! Accepting links.

mod acquaintances;
mod admission;
mod difficulty;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evidence::Appraiser;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::acceptor::Acceptor;
use crate::clock;
use crate::driver::Side;
use crate::ended;
use crate::error::{ConnectError, Phase};
use crate::handshake::{accept_tls, appraise, demand_work, failed, read_peer_header, start, within};
use crate::identity::IdentitySource;
use crate::link::{Link, LinkEvents, LinkLimits};
use crate::peer::VerifiedPeer;
use crate::tls::{Peer, TlsStream};
use admission::Admission;
pub(crate) use admission::{HandshakePermit, LinkPermit, NotAdmitted, Permit};

/// How to accept links.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// Who does proof of work and TLS. Default: this process, 12 bits, generated identities.
    pub mode: ListenMode,
    /// Links and handshakes together; connections above are closed at once. Default: 20,000.
    pub links_max: usize,
    /// Links and handshakes together from one IPv4 address or one /64 of IPv6; connections above are closed at once.
    /// Not counted behind a router. Default: 1,024.
    pub links_per_address_max: usize,
    /// Handshakes at once; further connections wait in the system's queue. Strangers have three quarters of them, and
    /// those above are closed at once. Default: 1,024.
    pub handshakes_max: usize,
    /// Handshakes at once from one address, counted as above; fewer for strangers when slots are scarce. Default: 64.
    pub handshakes_per_address_max: usize,
    /// Bytes of messages that all links together may hold beyond 32 KiB each; a link that needs more than is free
    /// closes. Buffers may take up to twice that. Default: 256 MiB.
    pub message_bytes_max: usize,
    /// Bounds of each link.
    pub limits: LinkLimits,
    /// Bounds of each phase.
    pub deadlines: ListenDeadlines,
}

/// Who does proof of work and TLS for accepted connections.
#[derive(Clone, Debug)]
pub enum ListenMode {
    /// This process.
    Tls {
        /// What we show to peers.
        identity: IdentitySource,
        /// Appraises the evidence that every peer must show. Without one nobody's evidence is looked at.
        appraiser: Option<Arc<Appraiser>>,
        /// Bits of proof of work that strangers must do at rest, 0 to 64; under load 17 to 24, unless that is
        /// less. Addresses of peers that completed their application's handshake within the last hour
        /// do none. Deployed servers ask for 20, deployed clients refuse more than 28.
        pow_difficulty: u8,
    },
    /// A router of the deployed network on this host, which reports each peer. Loopback addresses only, since
    /// whoever connects can claim to be anyone.
    BehindRouter,
}

/// How long each phase of accepting a link may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenDeadlines {
    /// The peer's search for a nonce. Default: 30 s, several times the mean at 24 bits on one core.
    pub proof_of_work: Duration,
    /// The TLS handshake. Default: 10 s.
    pub tls: Duration,
    /// The appraisal of the peer's evidence, collateral that has to be fetched first included. Default: 60 s.
    pub evidence: Duration,
    /// The router's report. Default: 10 s.
    pub peer_header: Duration,
    /// The peer's hello. Default: 10 s.
    pub hello: Duration,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            mode: ListenMode::Tls {
                identity: IdentitySource::generated(),
                appraiser: None,
                pow_difficulty: 12,
            },
            links_max: 20_000,
            links_per_address_max: 1024,
            handshakes_max: 1024,
            handshakes_per_address_max: 64,
            message_bytes_max: 256 << 20,
            limits: LinkLimits::default(),
            deadlines: ListenDeadlines::default(),
        }
    }
}

impl Default for ListenDeadlines {
    fn default() -> Self {
        Self {
            proof_of_work: Duration::from_secs(30),
            tls: Duration::from_secs(10),
            evidence: Duration::from_secs(60),
            peer_header: Duration::from_secs(10),
            hello: Duration::from_secs(10),
        }
    }
}

/// Accepts connections and makes links of them. Dropping it stops both; links that came out live on.
#[derive(Debug)]
pub struct Listener {
    local_addr: SocketAddr,
    links: mpsc::Receiver<(Link, LinkEvents)>,
    task: AbortHandle,
}

/// Ready links that may wait for [`Listener::accept`]. Above, no further connection is accepted.
pub(crate) const READY_LINKS_MAX: usize = 64;

impl Listener {
    /// Listens at `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// As the system says, and [`io::ErrorKind::InvalidInput`] for [`ListenMode::BehindRouter`] on an address that
    /// other hosts reach.
    pub async fn bind(address: SocketAddr, config: ListenConfig) -> io::Result<Self> {
        if matches!(config.mode, ListenMode::BehindRouter) && !address.ip().is_loopback() {
            let refused = "behind a router, only loopback addresses can be listened on";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, refused));
        }
        let listener = TcpListener::bind(address).await?;
        let local_addr = listener.local_addr()?;
        let (sender, links) = mpsc::channel(READY_LINKS_MAX);
        let config = Arc::new(config);
        let shared = config.clone();
        let handshake =
            move |stream, address, permit| handshake(stream, address, Arc::clone(&shared), permit);
        let task = tokio::spawn(accept_all(listener, config, sender, handshake)).abort_handle();
        Ok(Self { local_addr, links, task })
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The next link that is ready for messages. `None` only when the runtime shuts down. Nothing is lost when the
    /// future is dropped.
    pub async fn accept(&mut self) -> Option<(Link, LinkEvents)> {
        self.links.recv().await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Lets connections in, and hands on what `handshake` makes of them.
pub(crate) async fn accept_all<T, F>(
    listener: TcpListener,
    config: Arc<ListenConfig>,
    made: mpsc::Sender<T>,
    handshake: impl Fn(TcpStream, SocketAddr, Permit) -> F,
) where
    T: Send + 'static,
    F: Future<Output = Result<T, ConnectError>> + Send + 'static,
{
    let admission = Admission::new(&config);
    let mut handshakes = JoinSet::new();
    let mut acceptor = Acceptor::new(listener);
    loop {
        tokio::select! {
            (stream, address) = acceptor.accept(), if handshakes.len() < config.handshakes_max.max(1) => {
                match admission.admit(address.ip(), Instant::now()) {
                    Ok(permit) => {
                        handshakes.spawn(handshake(stream, address, permit));
                    }
                    Err(refused) => ended::refused(refused),
                }
            }
            Some(ended) = handshakes.join_next() => match ended {
                Ok(Ok(it)) => {
                    if made.send(it).await.is_err() {
                        return;
                    }
                }
                Ok(Err(error)) => ended::failed(&error),
                Err(error) => tracing::error!(%error, "a handshake panicked"),
            },
        }
    }
}

async fn handshake(
    mut stream: TcpStream,
    address: SocketAddr,
    config: Arc<ListenConfig>,
    permit: Permit,
) -> Result<(Link, LinkEvents), ConnectError> {
    let Permit { link: tenure, handshake: counted_until_ready, difficulty } = permit;
    stream.set_nodelay(true).map_err(failed(Phase::Tcp))?;
    let ListenDeadlines { evidence, peer_header, hello, .. } = config.deadlines;
    match &config.mode {
        ListenMode::Tls { identity, appraiser, .. } => {
            let (stream, peer) = accept_session(stream, identity, difficulty, &config.deadlines).await?;
            let standing = counted_until_ready.standing();
            let appraisal = appraise(&peer, appraiser.as_deref(), standing);
            let vouched = within(Phase::Evidence, evidence, appraisal).await?;
            let peer = VerifiedPeer::from_tls(&peer, vouched.as_deref(), address);
            start(stream, Side::Accepting, peer, vouched, config.limits, hello, tenure).await
        }
        ListenMode::BehindRouter => {
            let header = within(Phase::PeerHeader, peer_header, read_peer_header(&mut stream)).await?;
            let peer = VerifiedPeer::from_inbound_router(&header);
            start(stream, Side::Accepting, peer, None, config.limits, hello, tenure).await
        }
    }
}

/// Proof of work and TLS of the accepting side, and what they have shown of the peer.
pub(crate) async fn accept_session(
    mut stream: TcpStream,
    identity: &IdentitySource,
    difficulty: u8,
    deadlines: &ListenDeadlines,
) -> Result<(TlsStream<TcpStream>, Peer), ConnectError> {
    let work = demand_work(&mut stream, difficulty);
    within(Phase::ProofOfWork, deadlines.proof_of_work, work).await?;
    let handshake = async {
        let configs = identity.configs(clock::certificate_now()).await?;
        accept_tls(stream, &configs.server).await
    };
    within(Phase::Tls, deadlines.tls, handshake).await
}
