//! Mutual TLS after proof of work, and nothing else: for programs that speak a protocol of their own over it.
//!
//! Evidence is not looked at here. Until the owner of a [`SecureStream`] has done so, it knows that the peer holds the private
//! key of its certificate, and no more.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use evidence::{AppraiseError, Appraiser, Standing};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::Instrument as _;
use units::PublicKey;

use crate::connector::{ConnectDeadlines, open};
use crate::driver::Tenure as _;
use crate::error::{ConnectError, Phase};
use crate::handshake::{appraise, failed};
use crate::identity::IdentitySource;
use crate::listener::{
    HandshakePermit, LinkPermit, ListenConfig, ListenDeadlines, ListenMode, Permit, READY_LINKS_MAX,
    accept_all, accept_session,
};
use crate::tls::{Peer, TlsStream};
use crate::vouched::Vouched;

/// How to open secure streams.
#[derive(Clone, Debug, Default)]
pub struct SecureConnectConfig {
    /// What we show to the peer. Default: generated, without evidence.
    pub identity: IdentitySource,
    /// Bits of proof of work that we are willing to do; more is refused. Default: 0; deployed peers do up to 28.
    pub pow_difficulty_max: u8,
    /// Bounds of each phase up to TLS.
    pub deadlines: ConnectDeadlines,
}

/// How to accept secure streams. The bounds are those of [`ListenConfig`], with streams in the place of links.
#[derive(Clone, Debug)]
pub struct SecureListenConfig {
    /// What we show to peers.
    pub identity: IdentitySource,
    /// Bits of proof of work that strangers do at rest: see [`ListenMode::Tls`].
    pub pow_difficulty: u8,
    /// Streams and handshakes together; connections above are closed at once.
    pub streams_max: usize,
    /// The same from one IPv4 address or one /64 of IPv6.
    pub streams_per_address_max: usize,
    /// Bounds of each phase up to TLS.
    pub deadlines: ListenDeadlines,
}

/// A TLS session over TCP whose peer has proven its key.
///
/// Reading ends without an error only where the peer said so (`close_notify`); else it fails with
/// [`io::ErrorKind::UnexpectedEof`]. Shutting it down says so to the peer and leaves reading open.
pub struct SecureStream {
    stream: TlsStream<TcpStream>,
    key: PublicKey,
    /// Until the owner has made up its mind about it.
    peer: Option<Peer>,
    address: SocketAddr,
    tenure: Option<LinkPermit>,
    /// Until the owner has made up its mind about the peer.
    handshake: Option<HandshakePermit>,
}

impl fmt::Debug for SecureStream {
    /// The peer's key, and nothing of the bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecureStream").field("public_key", &self.key).finish_non_exhaustive()
    }
}

impl SecureStream {
    /// Opens one to `target`, `host:port`: TCP, proof of work, TLS. Dropping the future gives up at once.
    ///
    /// # Errors
    /// [`ConnectError`] names the phase that failed.
    pub async fn connect(target: &str, config: &SecureConnectConfig) -> Result<Self, ConnectError> {
        let SecureConnectConfig { identity, pow_difficulty_max, deadlines } = config;
        let (stream, peer, address) = open(target, identity, *pow_difficulty_max, deadlines).await?;
        Ok(Self { stream, key: peer.key, peer: Some(peer), address, tenure: None, handshake: None })
    }

    /// The key of the peer's certificate, which it proved to hold.
    #[must_use]
    pub const fn public_key(&self) -> PublicKey {
        self.key
    }

    /// The peer's address. Not for logs at info level.
    #[must_use]
    pub const fn peer_addr(&self) -> SocketAddr {
        self.address
    }

    /// Our own address on this connection.
    ///
    /// # Errors
    /// As the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.get_ref().local_addr()
    }

    /// The peer's certificate, as DER. `None` once the peer is admitted: nothing of it is kept.
    #[must_use]
    pub fn certificate(&self) -> Option<&[u8]> {
        self.peer.as_ref().map(Peer::certificate)
    }

    /// The evidence in the peer's certificate, which nobody has looked at. `None` once the peer is admitted.
    #[must_use]
    pub fn evidence(&self) -> Option<Vec<u8>> {
        self.peer.as_ref().and_then(Peer::quote)
    }

    /// What the peer's evidence comes to. It has to vouch for the peer's key. Whoever relies on it for as long as the stream lives
    /// closes it at [`Vouched::until_refused`].
    ///
    /// # Errors
    /// [`ConnectError::Evidence`], also where there is none ([`AppraiseError::NoEvidence`]), as after [`SecureStream::admit`].
    pub async fn appraise(&self, appraiser: &Appraiser) -> Result<Vouched, ConnectError> {
        let standing = self.handshake.as_ref().map_or(Standing::Known, HandshakePermit::standing);
        let vouched = match &self.peer {
            Some(peer) => appraise(peer, Some(appraiser), standing).await?,
            None => None,
        };
        vouched.ok_or(ConnectError::Evidence(AppraiseError::NoEvidence))
    }

    /// The owner takes the peer, whose certificate is dropped: of an accepted stream, this ends the handshake. If it is `vouched_for`, the next
    /// connections from its address cost no work.
    pub fn admit(&mut self, vouched_for: bool) {
        self.handshake = None;
        self.peer = None;
        if let Some(tenure) = self.tenure.as_mut().filter(|_| vouched_for) {
            tenure.vouched_for();
        }
    }
}

impl AsyncRead for SecureStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        reader: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, reader)
    }
}

impl AsyncWrite for SecureStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Accepts connections and makes secure streams of them. Dropping it stops both; streams that came out live on.
#[derive(Debug)]
pub struct SecureListener {
    local_addr: SocketAddr,
    streams: mpsc::Receiver<SecureStream>,
    task: AbortHandle,
}

impl SecureListener {
    /// Listens at `address`; port 0 takes a free one. What it logs is within the present span.
    ///
    /// # Errors
    /// As the system says.
    pub async fn bind(address: SocketAddr, config: SecureListenConfig) -> io::Result<Self> {
        let SecureListenConfig { identity, pow_difficulty, streams_max, streams_per_address_max, deadlines } =
            config;
        let config = Arc::new(ListenConfig {
            mode: ListenMode::Tls { identity: identity.clone(), appraiser: None, pow_difficulty },
            links_max: streams_max,
            links_per_address_max: streams_per_address_max,
            deadlines,
            ..ListenConfig::default()
        });
        let handshake = move |stream: TcpStream, address, permit| {
            let identity = identity.clone();
            async move {
                let Permit { link, handshake, difficulty } = permit;
                stream.set_nodelay(true).map_err(failed(Phase::Tcp))?;
                let (stream, peer) = accept_session(stream, &identity, difficulty, &deadlines).await?;
                Ok(SecureStream {
                    stream,
                    key: peer.key,
                    peer: Some(peer),
                    address,
                    tenure: Some(link),
                    handshake: Some(handshake),
                })
            }
        };
        let listener = TcpListener::bind(address).await?;
        let local_addr = listener.local_addr()?;
        let (sender, streams) = mpsc::channel(READY_LINKS_MAX);
        let accepting = accept_all(listener, config, sender, handshake).in_current_span();
        let task = tokio::spawn(accepting).abort_handle();
        Ok(Self { local_addr, streams, task })
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The next stream. `None` only when the runtime shuts down. Nothing is lost when the future is dropped.
    pub async fn accept(&mut self) -> Option<SecureStream> {
        self.streams.recv().await
    }
}

impl Drop for SecureListener {
    fn drop(&mut self) {
        self.task.abort();
    }
}
