//! Values on the stack of the TVM: what get methods are asked with, and what they answer.
//!
//! `json` is how HTTP API v2 writes them, for whoever asks and whoever answers.

mod json;

use num_bigint::BigInt;
use tycho_types::cell::Cell;

pub use json::{StackJsonError, from_json, to_json};

/// Values in one stack, with all that tuples hold. A tuple may hold another one often: written out, a small result can
/// be larger than any memory.
pub const STACK_ITEMS_MAX: usize = 10_000;
/// Tuples within tuples. Lists, which are pairs of a value and the rest, count once.
pub const STACK_DEPTH_MAX: usize = 64;

/// A value on the stack of the TVM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StackValue {
    /// Nothing.
    Null,
    /// Not a number.
    NotANumber,
    /// A number of at most 257 bits with its sign.
    Number(BigInt),
    /// A cell.
    Cell(Cell),
    /// What is left to read of a cell, as a cell of its own.
    Slice(Cell),
    /// What is written of a cell so far, as a cell.
    Builder(Cell),
    /// Several values.
    Tuple(Vec<StackValue>),
    /// A list in the manner of Lisp.
    List(Vec<StackValue>),
    /// A continuation: it cannot leave the TVM.
    Continuation,
}

impl StackValue {
    /// An unsigned number of 256 bits, as contracts keep hashes and keys.
    #[must_use]
    pub fn from_hash(hash: &[u8; 32]) -> Self {
        Self::Number(BigInt::from_bytes_be(num_bigint::Sign::Plus, hash))
    }
}
