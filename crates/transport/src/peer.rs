//! What is known about the other side of a link.

use std::fmt;
use std::net::SocketAddr;

use attest::{Appraised, Attestation, Measurements};
use units::PublicKey;

use crate::peer_header::PeerHeader;
use crate::tls::Peer;

/// A peer as its link was verified. Only the ways into a link make one.
///
/// What it proves depends on the link:
/// - Direct TLS: the peer holds the private key of [`VerifiedPeer::public_key`]. Where the link asks for evidence, an enclave
///   with the attested image vouches for that key, by a quote that was verified and that the policy accepts; else there is no
///   attestation.
/// - Behind a local router: the router says so, over an unauthenticated local connection. Key and attestation are as
///   trustworthy as whatever may connect to the local port.
///
/// It never proves who the peer is, or that it is allowed anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPeer {
    public_key: Option<PublicKey>,
    attestation: Option<Attestation>,
    source: SocketAddr,
    tls_exporter: Option<TlsExporter>,
}

/// What only the two ends of one TLS session know, the same 32 bytes for both: its `tls-exporter` channel binding (RFC 9266).
/// A statement that is signed or made over it is about this connection and none else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TlsExporter([u8; 32]);

impl TlsExporter {
    pub(crate) const fn new(value: [u8; 32]) -> Self {
        Self(value)
    }

    /// The value.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TlsExporter {
    /// Nothing of the value: who knows it can speak for an end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsExporter(..)")
    }
}

impl VerifiedPeer {
    /// A peer that completed a TLS handshake, and what its evidence came to.
    pub(crate) fn from_tls(peer: &Peer, appraised: Option<&Appraised>, address: SocketAddr) -> Self {
        Self {
            public_key: Some(peer.key),
            attestation: appraised.map(Appraised::attestation),
            source: address,
            tls_exporter: Some(peer.tls_exporter),
        }
    }

    /// A peer that connected to the local router, as the router reports it.
    pub(crate) fn from_inbound_router(header: &PeerHeader) -> Self {
        Self::from_router(header, header.source)
    }

    /// A peer to which the local router connected for us. The header's source is then ourselves.
    pub(crate) fn from_outbound_router(header: &PeerHeader) -> Self {
        Self::from_router(header, header.destination)
    }

    /// A peer that exists only in a test.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn imagined(
        public_key: Option<PublicKey>,
        attestation: Option<Attestation>,
        source: SocketAddr,
    ) -> Self {
        Self { public_key, attestation, source, tls_exporter: None }
    }

    fn from_router(header: &PeerHeader, source: SocketAddr) -> Self {
        let attested =
            |measured: &Measurements| Attestation { image: measured.image_hash(), is_simulated: false };
        let attestation = header.attestation.as_ref().map(attested);
        Self { public_key: Some(header.public_key), attestation, source, tls_exporter: None }
    }

    /// The key of the peer's certificate. `None` only for links in memory.
    #[must_use]
    pub const fn public_key(&self) -> Option<PublicKey> {
        self.public_key
    }

    /// What the peer's evidence came to. `None` if nobody asked for it, or a router reports none; a router does not say
    /// whether the platform is simulated.
    #[must_use]
    pub const fn attestation(&self) -> Option<Attestation> {
        self.attestation
    }

    /// What binds a statement to this connection. `None` for links in memory and through a router, which ends TLS itself.
    #[must_use]
    pub const fn tls_exporter(&self) -> Option<TlsExporter> {
        self.tls_exporter
    }

    /// The peer's network address. Not for logs at info level.
    #[must_use]
    pub const fn source(&self) -> SocketAddr {
        self.source
    }
}
