//! The books on disk: one folder per proxy contract, with the files of [`ledger::journal`] in it.
//!
//! | file | what it is |
//! | --- | --- |
//! | `segment-NNNNNNNNNN` | commits in the order in which they were made; the highest number is being written |
//! | `snapshot-NNNNNNNNNN` | all accounts before the segment of that number |
//! | `lock` | held while the books are open: they have one writer |
//! | `*.new` | being written; of no worth after a crash |
//!
//! [`Store`] owns the files, [`Writer`] the thread that writes them. The path of a request appends to a buffer and
//! rings a bell, nothing more; the thread takes whatever has gathered a moment later, writes it in one piece, makes
//! it durable, and says so. An old segment is removed only when a snapshot that covers it is durable.

mod compaction;
mod files;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub use files::BooksError;

pub(crate) use files::{machine_key_guard, write_whole};
pub(crate) use store::Store;
pub(crate) use writer::{Bell, Source, Writer};
