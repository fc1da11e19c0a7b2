//! Opening links.

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use evidence::{Appraiser, Standing};
use tokio::net::{TcpStream, lookup_host};

use crate::clock;
use crate::driver::Side;
use crate::error::{ConnectError, Phase};
use crate::handshake::{
    appraise, connect_tls, do_work, failed, read_challenge, read_peer_header, start, within,
};
use crate::identity::IdentitySource;
use crate::link::{Link, LinkEvents, LinkLimits};
use crate::peer::VerifiedPeer;
use crate::socks;
use crate::tls::{Peer, TlsStream};

/// How to open links.
#[derive(Clone, Debug)]
pub struct ConnectConfig {
    /// The way to the peer. Default: direct, with generated identities.
    pub via: Via,
    /// Bits of proof of work that we are willing to do; more is refused. A router decides for itself. Default: 28,
    /// as deployed peers.
    pub pow_difficulty_max: u8,
    /// Bounds of the link.
    pub limits: LinkLimits,
    /// Bounds of each phase.
    pub deadlines: ConnectDeadlines,
}

/// The way to a peer.
#[derive(Clone, Debug)]
pub enum Via {
    /// TCP, proof of work and TLS from this process.
    Direct {
        /// What we show to the peer.
        identity: IdentitySource,
        /// Appraises the evidence that the peer must show. Without one it is not looked at.
        appraiser: Option<Arc<Appraiser>>,
    },
    /// Through a router of the deployed network at this address, which does all that and reports the peer.
    Socks5Router(SocketAddr),
}

/// How long each phase of opening a link may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectDeadlines {
    /// Resolving and connecting. Default: 10 s.
    pub tcp: Duration,
    /// The router's SOCKS5 exchange. Default: 10 s, as deployed peers.
    pub socks: Duration,
    /// Until the peer has sent its challenge, which costs it nothing. Default: 30 s.
    pub challenge: Duration,
    /// Solving the challenge. Default: 120 s.
    pub proof_of_work: Duration,
    /// The TLS handshake. Default: 10 s.
    pub tls: Duration,
    /// The appraisal of the peer's evidence, collateral that has to be fetched first included. Default: 60 s.
    pub evidence: Duration,
    /// Until the router reports the peer; it does proof of work and TLS meanwhile. Default: 150 s.
    pub peer_header: Duration,
    /// Until the peer has answered our hello. Default: 10 s.
    pub hello: Duration,
}

impl Default for ConnectConfig {
    fn default() -> Self {
        Self {
            via: Via::Direct { identity: IdentitySource::generated(), appraiser: None },
            pow_difficulty_max: 28,
            limits: LinkLimits::default(),
            deadlines: ConnectDeadlines::default(),
        }
    }
}

impl Default for ConnectDeadlines {
    fn default() -> Self {
        Self {
            tcp: Duration::from_secs(10),
            socks: Duration::from_secs(10),
            challenge: Duration::from_secs(30),
            proof_of_work: Duration::from_secs(120),
            tls: Duration::from_secs(10),
            evidence: Duration::from_secs(60),
            peer_header: Duration::from_secs(150),
            hello: Duration::from_secs(10),
        }
    }
}

/// Opens a link to `target`, `host:port`. Dropping the future gives up at once, a search for a nonce included.
///
/// # Errors
/// [`ConnectError`] names the phase that failed. Deployed peers refuse by closing, which is an I/O error here.
pub async fn connect(target: &str, config: &ConnectConfig) -> Result<(Link, LinkEvents), ConnectError> {
    let deadlines = &config.deadlines;
    match &config.via {
        Via::Direct { identity, appraiser } => {
            let (stream, peer, address) =
                open(target, identity, config.pow_difficulty_max, deadlines).await?;
            // We chose whom to connect to.
            let appraisal = appraise(&peer, appraiser.as_deref(), Standing::Known);
            let vouched = within(Phase::Evidence, deadlines.evidence, appraisal).await?;
            let peer = VerifiedPeer::from_tls(&peer, vouched.as_deref(), address);
            start(stream, Side::Connecting, peer, vouched, config.limits, deadlines.hello, ()).await
        }
        Via::Socks5Router(router) => {
            let tcp = async {
                let addresses = resolve(target).await?;
                let target = ipv4(&addresses).ok_or_else(|| no_address(target))?;
                Ok((target, connect_tcp(&[*router]).await?.0))
            };
            let (target, mut stream) = within(Phase::Tcp, deadlines.tcp, tcp).await?;
            within(Phase::Socks, deadlines.socks, socks::connect(&mut stream, target)).await?;
            let header = read_peer_header(&mut stream);
            let header = within(Phase::PeerHeader, deadlines.peer_header, header).await?;
            let peer = VerifiedPeer::from_outbound_router(&header);
            start(stream, Side::Connecting, peer, None, config.limits, deadlines.hello, ()).await
        }
    }
}

/// TCP, proof of work and TLS of the connecting side, and the key that the peer proved to hold.
pub(crate) async fn open(
    target: &str,
    identity: &IdentitySource,
    pow_difficulty_max: u8,
    deadlines: &ConnectDeadlines,
) -> Result<(TlsStream<TcpStream>, Peer, SocketAddr), ConnectError> {
    let tcp = async { connect_tcp(&resolve(target).await?).await };
    let (mut stream, address) = within(Phase::Tcp, deadlines.tcp, tcp).await?;
    let challenge = read_challenge(&mut stream, pow_difficulty_max);
    let challenge = within(Phase::ProofOfWork, deadlines.challenge, challenge).await?;
    let work = do_work(&mut stream, challenge);
    within(Phase::ProofOfWork, deadlines.proof_of_work, work).await?;
    let tls = async {
        let configs = identity.configs(clock::certificate_now()).await?;
        connect_tls(stream, &configs.client).await
    };
    let (stream, peer) = within(Phase::Tls, deadlines.tls, tls).await?;
    Ok((stream, peer, address))
}

async fn resolve(target: &str) -> Result<Vec<SocketAddr>, ConnectError> {
    match lookup_host(target).await {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Err(no_address(target)),
        Err(error) => Err(failed(Phase::Tcp)(error)),
    }
}

fn no_address(target: &str) -> ConnectError {
    ConnectError::Target { target: target.to_owned() }
}

/// Routers take IPv4 only.
fn ipv4(addresses: &[SocketAddr]) -> Option<SocketAddrV4> {
    addresses.iter().find_map(|address| match address {
        SocketAddr::V4(address) => Some(*address),
        SocketAddr::V6(_) => None,
    })
}

async fn connect_tcp(addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let stream = TcpStream::connect(addresses).await.map_err(failed(Phase::Tcp))?;
    stream.set_nodelay(true).map_err(failed(Phase::Tcp))?;
    let address = stream.peer_addr().map_err(failed(Phase::Tcp))?;
    Ok((stream, address))
}
