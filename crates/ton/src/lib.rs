//! What Cocoon keeps on TON, as far as it can be said without a chain: addresses, the root configuration, derived
//! contracts, the messages, states and get methods of all of them, signed payments, wallets.
//!
//! The crate is pure: no clock, no socket, no randomness. It refuses to follow the chain or to send anything
//! (`chain` does), and it never runs a contract's code. Cells and bags of cells come from `tycho-types`.
//!
//! Invariants:
//! - Bytes from a peer are read within a fixed bound and never panic.
//! - A [`payment::VerifiedPayment`] exists only after every check that a receiver must make.
//! - Allow lists fail closed: an empty list allows nothing.
//! - Contract addresses agree with the deployed network bit for bit; `spec/vectors/ton` proves it.
//!
//! Every cell layout is written down in `spec/messages.tlb`.
#![forbid(unsafe_code)]

mod address;
mod boc;
mod cells;
mod code;
pub mod contracts;
mod exit_code;
pub mod getters;
pub mod human;
pub mod message;
pub mod messages;
mod mnemonic;
mod params;
pub mod payment;
mod pseudo;
mod root;
pub mod stack;
pub mod states;
pub mod wallet;

pub use address::{Address, AddressFlags, AddressParseError};
pub use boc::{BocError, decode as decode_boc};
pub use cells::{FieldError, LayoutError};
pub use code::{CodeError, Contract, ContractCode};
pub use exit_code::ExitCode;
pub use mnemonic::{Mnemonic, MnemonicError};
pub use params::{CodeMask, Multipliers, Params, Seconds, StructVersion};
pub use pseudo::{CLIENT_BALANCE, FieldProblem, NotPseudo, PseudoRootError};
pub use root::{ProxyTextError, RegisteredProxy, RootConfig, model_hash};
