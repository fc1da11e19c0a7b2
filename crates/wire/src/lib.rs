//! What Cocoon peers say to each other: the TL schema as types, and the frames that carry it.
//!
//! `spec/wire.tl` is the schema; there is one type per constructor, in one module per namespace, named as there.
//! [`decode`] and [`encode`] convert between bytes and boxed objects (constructor id first), [`frame`] cuts a byte
//! stream into numbered frames. Follows the wire protocol of the deployed network.
//!
//! Invariants:
//! - Whatever the bytes are, reading ends in a value or an error: it does not panic, and takes memory in proportion
//!   to the bytes at hand (at most about five times as much), not to a length that a peer claims.
//! - An object must fill its bytes exactly. Within them, reading is as tolerant as the deployed peers are (padding of
//!   any value, length headers longer than needed, unknown flag bits), and writing is canonical.
//! - Reading borrows: strings and byte fields point into the received buffer. Writing copies a short
//!   field into the message and again into what goes to the socket, a long one not at all ([`encode_sharing`]).
//! - Formatting a message with `Debug` shows its shape and numbers; strings, byte fields and 256-bit values appear
//!   by length only, since they may be prompts, answers, keys or secrets.
//!
//! The crate is pure: no socket, no clock, no randomness. It gives numbers no meaning (units, ranges, versions) and
//! judges no sequence of messages; that is for the crates above it. Proof of work, attestation and seal messages are
//! not part of this schema.
#![forbid(unsafe_code)]

mod codec;
mod error;
pub mod frame;
mod macros;
mod message;
mod messages;
mod status;
mod text;

pub use codec::{Decode, Encode, decode, encode};
pub use error::DecodeError;
pub use message::{Message, SHARED_LEN_MIN, encode_sharing};
pub use messages::{TokensUsed, client, http, key_manager, peer, proxy, stream, tcp, worker};
pub use status::StatusCode;
pub use text::TlStr;

/// Constructor ids as `spec/wire.tl` gives them, under their TL names.
#[expect(
    non_upper_case_globals,
    non_snake_case,
    reason = "TL names are kept, so that they can be searched for"
)]
#[deny(dead_code, reason = "a constructor of the schema has no Rust type")]
mod schema {
    include!(concat!(env!("OUT_DIR"), "/schema.rs"));
}
