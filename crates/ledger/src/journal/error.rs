//! What can be wrong with a file of the books.

use ton::Address;

use super::{CommitNumber, SegmentNumber};

/// A file that the books cannot be recovered from. Offsets count bytes from the beginning of the file. The caller
/// knows the file's name and says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Shorter than what every such file has.
    #[error("the file has {found} bytes and its first part alone {needed}: restore it from a copy")]
    Short {
        /// Bytes that must be there.
        needed: u64,
        /// Bytes that are.
        found: u64,
    },
    /// Not a file of this kind.
    #[error("the file begins with {found}, a {kind} begins with {expected}: put the right file in its place")]
    Magic {
        /// What the file should be.
        kind: &'static str,
        /// How such a file begins.
        expected: String,
        /// How it begins.
        found: String,
    },
    /// A later program wrote it.
    #[error("the file has format {found}, this program knows up to {known}: run the program that wrote it")]
    NewerFormat {
        /// Version of the file.
        found: u32,
        /// Latest known one.
        known: u32,
    },
    /// The books of another proxy contract.
    #[error(
        "these are the books of contract {found}, this proxy is {expected}: check owner_address, machine.key and \
         the root configuration, or give the proxy the folder that belongs to it"
    )]
    ForeignContract {
        /// Our contract.
        expected: Address,
        /// The file's.
        found: Address,
    },
    /// The contract at other prices.
    #[error(
        "these books were kept at a price of {found} and the root configuration says {expected}: both belong to \
         one contract, so one of them was changed by hand"
    )]
    ForeignPrices {
        /// Ours, as text.
        expected: String,
        /// The file's.
        found: String,
    },
    /// Another segment than the one that comes next.
    #[error("the file holds segment {}, expected {}: a file is missing or misnamed", found.get(), expected.get())]
    Segment {
        /// The next one.
        expected: SegmentNumber,
        /// The file's.
        found: SegmentNumber,
    },
    /// Another commit than the one that comes next.
    #[error(
        "commit {} stands at offset {offset}, expected {}: the file is not the one that was written, restore it \
         from a copy", found.get(), expected.get()
    )]
    Commit {
        /// Where.
        offset: u64,
        /// The next one.
        expected: CommitNumber,
        /// The file's.
        found: CommitNumber,
    },
    /// The file does not continue the one before it.
    #[error(
        "the file continues chain head {found}, the file before it ends with {expected}: one of them is from \
         another time, restore both from one copy"
    )]
    Chain {
        /// How the file before it ends, in hexadecimal.
        expected: String,
        /// What this one continues.
        found: String,
    },
    /// Bytes are not those that were written.
    #[error("{what} at offset {offset} is damaged: restore the file from a copy")]
    Damaged {
        /// Which part.
        what: &'static str,
        /// Where it begins.
        offset: u64,
    },
    /// Not signed by this proxy's key.
    #[error(
        "the signature at offset {offset} is not by this proxy's machine key: restore the file, or machine.key, \
         from a copy"
    )]
    Signature {
        /// Where.
        offset: u64,
    },
    /// Signed records that make no sense: a bug, or a program between formats.
    #[error("commit {} at offset {offset} holds {what}: report this, and run the program that wrote it", commit.get())]
    Content {
        /// Which commit.
        commit: CommitNumber,
        /// Where it begins.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Signed accounts that contradict each other: a bug.
    #[error("the books do not add up: {what}: report this")]
    Sums {
        /// What is wrong.
        what: &'static str,
    },
}
