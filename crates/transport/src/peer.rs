//! What is known about the other side of a link.

use std::net::SocketAddr;

use attest::Measurements;
use units::{ImageHash, PublicKey};

use crate::peer_header::PeerHeader;

/// A peer as its link was verified. Only the ways into a link make one.
///
/// What it proves depends on the link:
/// - Direct TLS: the peer holds the private key of [`VerifiedPeer::public_key`]. Quotes are not evaluated, so there is
///   no image hash.
/// - Behind a local router: the router says so, over an unauthenticated local connection. Key and image hash are as
///   trustworthy as whatever may connect to the local port.
///
/// It never proves who the peer is, or that it is allowed anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPeer {
    public_key: Option<PublicKey>,
    image_hash: Option<ImageHash>,
    source: SocketAddr,
}

impl VerifiedPeer {
    /// A peer that completed a TLS handshake with a certificate for `public_key`.
    pub(crate) fn from_tls(public_key: PublicKey, address: SocketAddr) -> Self {
        Self { public_key: Some(public_key), image_hash: None, source: address }
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
        image_hash: Option<ImageHash>,
        source: SocketAddr,
    ) -> Self {
        Self { public_key, image_hash, source }
    }

    fn from_router(header: &PeerHeader, source: SocketAddr) -> Self {
        let image_hash = header.attestation.as_ref().map(Measurements::image_hash);
        Self { public_key: Some(header.public_key), image_hash, source }
    }

    /// The key of the peer's certificate. `None` only for links in memory.
    #[must_use]
    pub const fn public_key(&self) -> Option<PublicKey> {
        self.public_key
    }

    /// The image that the peer's quote attests. `None` if there was no quote or nobody looked at it.
    #[must_use]
    pub const fn image_hash(&self) -> Option<ImageHash> {
        self.image_hash
    }

    /// The peer's network address. Not for logs at info level.
    #[must_use]
    pub const fn source(&self) -> SocketAddr {
        self.source
    }
}
