//! Proof of work, mutual TLS and evidence for programs that have none of them: the router of the deployed network, command line, file
//! and bytes alike.
//!
//! - [`RouterConfig`]: what a router does, from its command line ([`Options`]) and its file ([`RouterFile`]).
//! - [`Router`]: its ports at work. A `socks5` or `forward` port connects local programs to peers, a `reverse` port peers to a local
//!   program; the local side may be told about the peer ([`transport::peer_header`]) before any other byte.
//! - [`socks5`]: the conversation with local programs, without sockets.
//!
//! Invariants:
//! - No byte passes before the peer is judged by the port's policy; a program that asks by SOCKS5 is answered after that.
//! - TLS, proof of work and its rise under load are `transport`'s, what evidence is worth is `evidence`'s. Here are neither keys nor
//!   cryptography.
//! - Every phase has a deadline, every port a number of connections; bytes that nobody reads wait at their sender.
//! - What a file of the deployed router means it means here, but for what would accept more than it seems to: that is refused.
//! - Logs say why a peer was refused, and neither who it is nor what it said.
#![forbid(unsafe_code)]

mod config;
mod error;
mod file;
mod options;
mod policy;
mod relay;
mod service;
pub mod socks5;
mod tunnel;

pub use config::{ConfigError, Limits, Options, PortConfig, RouterConfig};
pub use file::{FilePolicy, FilePort, OneOrMany, PortKind, RouterFile, TdxConfig};
pub use options::{Destination, Mode, OptionError, PolicyOption, PolicyRef, PortOption};
pub use policy::{GuestLists, INTEL_ROOT_KEY, PeerPolicy, PolicyError, PolicyKind, PolicyKindError};
pub use service::{BindError, Router};
