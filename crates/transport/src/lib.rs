//! Links between Cocoon peers: TCP, proof of work, mutual TLS 1.3, and the frames of [`wire`] on top.
//!
//! [`connect`] and [`Listener`] make links; a link is a [`Link`] to send with and [`LinkEvents`] to receive from, and
//! one task between them and the socket. The protocol itself is in [`connection::Connection`], a value that knows
//! neither socket nor clock. Follows the wire protocol of the deployed network, whose peers may be on either side.
//! [`SecureStream`] stops before the frames, for programs that bring their own.
//!
//! Invariants:
//! - Only links whose peer was verified come out: [`VerifiedPeer`] says what that means.
//! - Whatever a peer sends, the worst that follows is the end of its own link. Memory for a peer is bounded at every
//!   moment: 12 bytes before the hello, frames of 16 KiB until the application vouches for it, queues with limits; and all
//!   links of a listener share one budget.
//! - Every phase has a deadline, and so have every frame that has begun and every write.
//! - A query ends exactly once, at once when its link ends.
//! - Frames go out in the order in which they were queued, all that wait at a wake-up in one write.
//!
//! It looks at no message inside the frames, evaluates no quotes, writes no keys to disk and never reconnects.
#![forbid(unsafe_code)]

mod acceptor;
mod budget;
pub mod clock;
pub mod connection;
mod connector;
mod driver;
pub mod ended;
mod error;
pub mod flow;
mod handshake;
pub mod identity;
mod link;
mod listener;
mod peer;
pub mod peer_header;
pub mod pow;
mod secure;
mod socks;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tls;
mod turns;
mod vouched;

pub use acceptor::Acceptor;
pub use connector::{ConnectConfig, ConnectDeadlines, Via, connect};
pub use error::{CloseReason, ConnectError, NoLongerAccepted, Phase, QueryError, SendError};
pub use link::{IncomingQuery, Link, LinkEvent, LinkEvents, LinkLimits, Responder};
pub use listener::{ListenConfig, ListenDeadlines, ListenMode, Listener};
pub use peer::{TlsExporter, VerifiedPeer};
pub use secure::{SecureConnectConfig, SecureListenConfig, SecureListener, SecureStream};
pub use socks::SocksError;
pub use vouched::Vouched;

/// Reads what a peer says inside of its records, and beside them: for the fuzz target `tls_records`.
#[cfg(fuzzing)]
pub fn read_records(said: &[(u8, Vec<u8>)], raw: &[u8]) {
    tls::read_records(said, raw);
}
