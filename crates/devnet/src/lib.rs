//! A TON of one node, for laptops and tests: accounts, messages and blocks around the real TVM.
//!
//! [`Devnet`] is the chain as a value, without a clock, a thread or a socket: messages and times go in, blocks come out,
//! and the same ones again for the same seed. Transactions are executed by `tycho-executor` under the main network's
//! prices and limits.
//!
//! [`Node`] runs one by a clock, [`http`] shows it to the tools that TON has.
//!
//! What it refuses to be: a node of TON. There is no consensus, no proof, no serialised block or shard state, no libraries of
//! the masterchain; blocks have names that are hashes, not cells. One shard holds all of workchain 0.
//!
//! Invariants:
//! - All coins come from the faucet, and balances, messages under way and fees add up to what it gave.
//! - All consequences of a message from outside come before the next one; an account's logical times grow.
//! - An idle chain costs nothing: empty blocks follow from their neighbours.
//! - What comes from outside is bounded and never panics.
//!
//! The VM is the one of global version 12. It lacks the instructions for BLS12-381, secp256k1, P-256 and Ristretto255; a
//! contract that uses one ends with exit code 6, invalid opcode. `tycho_vm::codepage0` is the table they would be added to.
#![forbid(unsafe_code)]

mod accounts;
mod block;
mod devnet;
mod execute;
mod fees;
mod getter;
pub mod http;
pub mod journal;
mod messages;
mod network_config;
mod node;
#[cfg(test)]
mod testing;

pub use accounts::StoredTransaction;
pub use block::{Block, Pace, TransactionId};
pub use devnet::{Devnet, Genesis, Mark, ReplayError, SubmitError};
pub use execute::{Executed, Moment, NotExecuted, execute};
pub use fees::{FeeEstimate, estimate_fee};
pub use getter::{GetterAnswer, GetterError, method_id, run_get_method};
pub use messages::{ExternalMessage, FAUCET, MESSAGE_DEPTH_MAX, MESSAGE_LEN_MAX, MessageError};
pub use network_config::{ConfigError, NetworkConfig};
pub use node::Node;
