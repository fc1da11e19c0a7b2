//! The proxy's role: it admits clients and workers, routes requests, meters them and keeps the accounts.
//!
//! [`core`] decides everything and does nothing: it is fed with events and yields actions. [`settlement`] does the same for
//! what has to happen on a chain. [`start`] puts the shell
//! around it: listeners, links, timers, the journal, statistics, the operator's HTTP port. The protocol is that of the
//! deployed network, versions 0 to 2, whose peers may be on either side, and our own version 3 (`docs/protocol.md`).
//!
//! It refuses to read prompts and answers, and to run models. Without a chain it works on a root configuration that it is
//! given, in test networks only; with one, the root contract and everybody's contracts say what holds.
//!
//! Invariants beyond those of [`core`]:
//! - The lock around the core is never held across an await, and what the core decides first is sent first.
//! - A peer that does not take what it asked for loses its link; nobody waits for it.
//! - Nothing is signed that the journal does not hold durably; the key that signs, or its public half where a sealer keeps it, and
//!   the books it signs for are in one folder, and neither is used without the other.
#![forbid(unsafe_code)]

pub mod core;

mod closing;
mod config;
mod face;
mod journal;
mod kept;
mod machine_key;
mod network;
mod program;
pub mod settlement;
mod settling;
mod shell;
mod stats;

pub use config::{Config, ConfigError};
pub use journal::BooksError;
pub use machine_key::MachineKeyError;
pub use network::NetworkError;
pub use program::{Proxy, StartError, start};
