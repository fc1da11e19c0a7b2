//! One client of the TON chain for every role: what accounts have, what happened to them, and orders that are carried out.
//!
//! The chain is asked through a server of HTTP API v2 ([`Provider`]): the devnet's, or a public one. No server proves what it
//! says, so nothing it says is taken for more than it can be: a transaction is its cell, and an account's
//! transactions are a chain of hashes ([`Follower`]). A node's [`Wallet`] carries out orders, each once ([`outbox`]), and
//! [`RootWatch`] says when the root contract changes.
//!
//! It refuses to know prices, contracts or roles: it carries cells.
//!
//! Invariants:
//! - Between what was seen of an account and what a server calls its newest transaction nothing can be left out,
//!   reordered or invented unnoticed.
//! - Every answer has a bound in bytes and a deadline; nothing a server says can panic or hold unbounded memory.
//! - Of all messages ever signed for an order at most one can run; what was signed is kept before it is handed in.
//! - A transaction's success is read from its phases, never assumed.
#![forbid(unsafe_code)]

mod account;
mod answers;
pub mod clock;
mod endpoint;
pub mod failpoint;
mod follow;
mod history;
mod network;
pub mod outbox;
mod provider;
mod root;
mod transaction;
mod wallet;

pub use account::{Account, AccountStatus};
pub use answers::Malformed;
pub use endpoint::{Endpoint, EndpointError, Trust};
pub use follow::{FollowError, Follower, News, newest};
pub use history::{Lie, TooMany};
pub use network::Network;
pub use provider::{Head, Limits, Provider, ProviderError};
pub use root::{RootNews, RootWatch, RootWatchError};
pub use transaction::{Effect, Message, NotRun, Route, Transaction, TransactionError, TransactionId};
pub use wallet::{Runner, StepError, Wallet, WalletView};

/// Reads `body` as the answer to every question there is: for the fuzz target `chain_answers`.
#[cfg(fuzzing)]
pub fn read_in_every_way(body: &[u8]) {
    answers::read_in_every_way(body);
}
