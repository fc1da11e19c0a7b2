//! Links without a network, for tests of other crates.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{DuplexStream, duplex};
use units::{ImageHash, PublicKey};

use crate::driver::{Driver, Side};
use crate::link::{Link, LinkEvents, LinkLimits, Shared};
use crate::peer::VerifiedPeer;

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

/// A peer that nobody verified.
#[must_use]
pub fn peer(public_key: Option<PublicKey>, image_hash: Option<ImageHash>) -> VerifiedPeer {
    VerifiedPeer::imagined(public_key, image_hash, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

fn start(stream: DuplexStream, side: Side, peer: VerifiedPeer) -> (Link, LinkEvents) {
    let shared = Arc::new(Shared::new(peer, LinkLimits::default()));
    tokio::spawn(Box::new(Driver::new(stream, side, shared.clone(), ())).run());
    (Link::new(shared.clone()), LinkEvents::new(shared))
}
