//! Quantities and identities as types.
//!
//! What a number counts is part of its type here: nanotons are not tokens, raw tokens are not priced
//! tokens, a model is not any string. Arithmetic is checked; nothing wraps and nothing rounds silently.
//!
//! The crate is pure: no clock, no socket, no randomness, no dependency on any other crate of the
//! workspace. It refuses to do business: prices live in `ledger`, encodings in `wire` and `ton`.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

mod amount;
mod chain;
mod identity;
mod model;
mod redacted;
mod usage;
mod version;

pub use amount::{
    AdjustedTokens, AmountOverflow, Coefficient, InvalidCoefficient, Multiplier, NanoTon, NanoTonParseError,
    TokenCount,
};
pub use chain::{BlockSeqno, LogicalTime};
pub use identity::{
    BlockHash, Hash32ParseError, ImageHash, MessageHash, ModelHash, PublicKey, RequestId, TransactionHash,
};
pub use model::{InvalidModelName, ModelName};
pub use redacted::{Concealed, Redacted};
pub use usage::{AdjustedUsage, InconsistentUsage, Usage};
pub use version::{Capabilities, ConfigVersion, ProtocolVersion, UnsupportedProtocol};
