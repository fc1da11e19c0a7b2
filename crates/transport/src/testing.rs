//! Links without a network, for tests and benches.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use attest::Attestation;
use rustls::{ClientConnection, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, duplex};
use units::PublicKey;

use crate::clock;
use crate::driver::{Driver, Side};
use crate::handshake::{accept_tls, connect_tls};
use crate::identity::{TlsConfigs, TlsIdentity};
use crate::link::{Link, LinkEvents, LinkLimits, Shared};
use crate::peer::VerifiedPeer;
use crate::tls;
pub use crate::tls::RecordPair;

/// Bytes that fit between two ends.
const PIPE_LEN: usize = 64 * 1024;

/// Two ends of one link: the connecting side first. Needs a tokio runtime, works with its paused clock.
#[must_use]
pub fn pair() -> ((Link, LinkEvents), (Link, LinkEvents)) {
    pair_between(peer(None, None), peer(None, None))
}

/// As [`pair`], with what each side knows of the other: the connecting side sees `server`, the accepting `client`.
#[must_use]
pub fn pair_between(server: VerifiedPeer, client: VerifiedPeer) -> ((Link, LinkEvents), (Link, LinkEvents)) {
    let (left, right) = duplex(PIPE_LEN);
    (start(left, Side::Connecting, server), start(right, Side::Accepting, client))
}

/// As [`pair`], through mutual TLS, with identities made for it.
///
/// # Panics
/// If the handshake fails.
pub async fn tls_pair() -> ((Link, LinkEvents), (Link, LinkEvents)) {
    let (left, right) = duplex(PIPE_LEN);
    let TlsConfigs { client, server } = tls_configs();
    let (left, right) = tokio::join!(connect_tls(left, &client), accept_tls(right, &server));
    let ((left, server), (right, client)) =
        (left.expect("the server is good"), right.expect("the client is good"));
    let server = start(left, Side::Connecting, peer(Some(server.key), None));
    (server, start(right, Side::Accepting, peer(Some(client.key), None)))
}

/// The two ends of the TLS library's own sessions, the handshake done: the yardstick of our records.
///
/// # Panics
/// If the handshake fails.
#[must_use]
pub fn tls_session() -> (ClientConnection, ServerConnection) {
    let configs = tls_configs();
    let mut client = ClientConnection::new(configs.client, tls::server_name()).expect("a good name");
    let mut server = ServerConnection::new(configs.server).expect("a good configuration");
    let mut bytes = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        client.write_tls(&mut bytes).expect("memory takes all");
        server.read_tls(&mut &*bytes).expect("memory gives all");
        server.process_new_packets().expect("the client is good");
        bytes.clear();
        server.write_tls(&mut bytes).expect("memory takes all");
        client.read_tls(&mut &*bytes).expect("memory gives all");
        client.process_new_packets().expect("the server is good");
        bytes.clear();
    }
    (client, server)
}

fn tls_configs() -> TlsConfigs {
    let identity = TlsIdentity::generate(clock::unix_now());
    TlsConfigs::new(identity.expect("the clock shows a date of our time"))
}

/// A peer that nobody verified.
#[must_use]
pub fn peer(public_key: Option<PublicKey>, attestation: Option<Attestation>) -> VerifiedPeer {
    VerifiedPeer::imagined(public_key, attestation, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

fn start<S>(stream: S, side: Side, peer: VerifiedPeer) -> (Link, LinkEvents)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shared = Arc::new(Shared::new(peer, LinkLimits::default()));
    tokio::spawn(Box::new(Driver::new(stream, side, shared.clone(), ())).run());
    (Link::new(shared.clone()), LinkEvents::new(shared))
}
