//! Folding closed segments into a snapshot, beside the proxy and with the code of recovery.
//!
//! The live accounts are never walked: the thread reads the old snapshot and the closed segments again, which nobody
//! changes any more, and writes what they come to. It needs memory for the accounts once more while it runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use ed25519_dalek::SigningKey;
use ledger::journal::{Identity, SegmentNumber};

use super::files::{BooksError, at, recover, remove_before, snapshot_path, write_whole};

/// A snapshot in the making. Dropping it gives it up, and waits until its thread has stopped.
#[derive(Debug)]
pub(super) struct Compaction {
    thread: Option<JoinHandle<Option<Snapshot>>>,
    given_up: Arc<AtomicBool>,
}

/// A durable snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Snapshot {
    pub(super) len: u64,
    /// Bytes of the segments that it replaced.
    pub(super) folded_len: u64,
}

impl Compaction {
    /// Starts to fold everything before segment `end`. `None` if there is no thread to be had; the next time will do.
    pub(super) fn start(
        folder: PathBuf,
        identity: Identity,
        key: SigningKey,
        end: SegmentNumber,
        folded_len: u64,
    ) -> Option<Self> {
        let given_up = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&given_up);
        let run = move || match fold(&folder, identity, &key, end, &seen) {
            Ok(len) => len.map(|len| Snapshot { len, folded_len }),
            Err(error) => {
                // The journal is complete without it, so this costs room and time at the next start.
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "no snapshot of the books could be made");
                None
            }
        };
        let thread = Builder::new().name("books-snapshot".into()).spawn(run).ok();
        thread.map(|thread| Self { thread: Some(thread), given_up })
    }

    /// What came of it if it has ended, else itself.
    pub(super) fn poll(mut self) -> Result<Option<Snapshot>, Self> {
        match &self.thread {
            Some(thread) if !thread.is_finished() => Err(self),
            _ => Ok(self.thread.take().and_then(|thread| thread.join().ok()).flatten()),
        }
    }

    #[cfg(test)]
    pub(super) fn join(mut self) {
        self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _given_up = thread.join();
        }
    }
}

fn fold(
    folder: &Path,
    identity: Identity,
    key: &SigningKey,
    end: SegmentNumber,
    given_up: &AtomicBool,
) -> Result<Option<u64>, BooksError> {
    let books = recover(folder, identity, &key.verifying_key(), Some(end))?.books;
    let snapshot = books.to_snapshot(key);
    if given_up.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let path = snapshot_path(folder, end);
    write_whole(&path, &snapshot, "snapshot-write").map_err(at(&path))?;
    let removed: io::Result<()> = remove_before(folder, end);
    removed.map_err(at(folder))?;
    Ok(Some(snapshot.len() as u64))
}
