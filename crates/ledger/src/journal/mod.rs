//! The durable form of the books: an append-only journal of segments, and snapshots that stand for all segments
//! before them. Everything here turns values into bytes and back; files, flushing and time belong to the caller.
//!
//! # What is recorded
//! Accounts when they first owe or earn something, newer facts about a client's funds, and every charge: one
//! record moves the client, the worker and the fee together, so there is no half of a charge. Holds are not
//! recorded. A hold that was pending when a process died has simply ended: nothing was charged, nobody was told
//! otherwise, and the client's tokens are free again.
//!
//! Where a chain is followed, also what it says about contracts, how far it was read, and every [`crate::Anchor`] twice:
//! before it is sent, and when the chain has it.
//!
//! # Segment
//! ```text
//! header     magic 8, version 4, contract 33, price 8, worker fee 8, multipliers 4 × 4, segment 8, first commit 8,
//!            chain head before 32, zeros 32
//! signature  64
//! commits    length 4, commit 8, check 4, records …, signature 64
//! ```
//! Numbers are little endian; those inside records are LEB128. One commit is one write to the disk. The chain head
//! after a commit is SHA-256 over the head and the signature before it, its first 16 bytes and its records; after
//! a header it is SHA-256 over the header. `check` is the beginning of SHA-256 over the head and the signature before,
//! length and number, so that a length is believed only where a commit really begins.
//!
//! # Authentication
//! The machine key signs the head of every commit with [`SIGNED_PREFIX`] before it. A reader verifies the last
//! signature of a segment, which vouches through the chain for everything before it. Measured, a signature per
//! commit costs 20 µs at most a hundred times a second, and reading costs one verification per segment, however
//! long it is.
//!
//! # Torn and damaged
//! A process or machine that stops in the middle of a write leaves an incomplete last commit, which recovery cuts
//! off and reports: no signature was ever given for what it holds. Everything else that is not as it was written
//! is damage and an error, never cut off silently.
//!
//! # Older and copied
//! A disk put back to an older state is a valid journal of that time. Only the chain can tell, by an anchor that the
//! journal does not hold; see [`crate::Anchor`].
//!
//! # Versions
//! Version 2 added the records of the chain. Files of version 1 are read, and a journal that ends with one goes on in a
//! new segment.

mod books;
mod bytes;
mod error;
mod header;
mod record;
mod segment;
mod snapshot;

pub use books::{Books, Position};
pub use error::JournalError;
pub use header::Identity;
pub use record::{Bill, BillingKind};
pub use segment::{Chain, Replayed, SIGNED_PREFIX};

pub(crate) use record::{
    put_anchor, put_anchored, put_charge, put_client, put_client_contract, put_followed, put_funds,
    put_worker, put_worker_contract,
};

/// The number of a commit, from 1 over the life of the books.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitNumber(u64);

impl CommitNumber {
    /// The first one.
    pub const FIRST: Self = Self(1);

    pub(crate) const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The bare number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The number of a segment, from 0 over the life of the books. A snapshot has the number of the first segment that
/// it does not cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentNumber(u64);

impl SegmentNumber {
    /// Wraps a bare number, as file names carry it.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The bare number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}
