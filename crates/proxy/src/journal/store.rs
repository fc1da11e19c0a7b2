//! The open books of one contract: commits go in, durable.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use ledger::Ledger;
use ledger::journal::{Chain, CommitNumber, Identity};
use node::failpoint;

use super::compaction::Compaction;
use super::files::{
    BooksError, Recovered, at, make_folder, recover, remove_unfinished, segment_path, write_whole,
};

const LOCK_FILE: &str = "lock";

/// A segment that is longer is closed: about a million charges.
const SEGMENT_LEN_MAX: u64 = 64 << 20;

/// The files of one contract's books, open for writing.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    /// Two writers of one journal would write over each other.
    _lock: File,
    identity: Identity,
    key: SigningKey,
    chain: Chain,
    file: File,
    /// Bytes of the open segment that are durable.
    len: u64,
    /// A sealed commit that is not durable yet, by its number.
    sealed: Option<CommitNumber>,
    unwritten: Vec<u8>,
    /// A new segment was tried and may or may not be there, or the open one is of an older version: nothing more may
    /// go to it.
    must_begin: bool,
    /// Bytes of closed segments since the last snapshot, and of that snapshot.
    closed_len: u64,
    snapshot_len: u64,
    segment_len_max: u64,
    compaction: Option<Compaction>,
}

impl Store {
    /// Recovers the books of `identity` from `folder`, or begins them there.
    ///
    /// # Errors
    /// [`BooksError`] if they cannot be recovered. Nothing was changed then.
    pub(crate) fn open(
        folder: &Path,
        identity: Identity,
        key: SigningKey,
    ) -> Result<(Self, Ledger), BooksError> {
        make_folder(folder)?;
        let lock = lock(folder)?;
        let Recovered { books, last, snapshot_len, segments_len } =
            recover(folder, identity, &key.verifying_key(), None)?;
        let ledger = Ledger::from_books(&books)
            .map_err(|source| BooksError::File { path: folder.to_owned(), source })?;
        remove_unfinished(folder).map_err(at(folder))?;

        // Older programs must not meet records that they do not know.
        let must_begin = last.as_ref().is_some_and(|last| last.is_old);
        let (chain, len) = match last {
            Some(last) => {
                cut(&segment_path(folder, last.chain.segment()), last.len, last.torn_len)?;
                (last.chain, last.len)
            }
            None => {
                let (header, chain) = Chain::begin(&identity, books.position(), &key);
                let path = segment_path(folder, chain.segment());
                write_whole(&path, &header, "segment-begin").map_err(at(&path))?;
                (chain, header.len() as u64)
            }
        };
        let path = segment_path(folder, chain.segment());
        let file = OpenOptions::new().write(true).open(&path).map_err(at(&path))?;
        let (clients, workers) = books.accounts_len();
        tracing::info!(clients, workers, commit = books.position().commit.get(), "books opened");
        let store = Self {
            folder: folder.to_owned(),
            _lock: lock,
            identity,
            key,
            chain,
            file,
            len,
            sealed: None,
            unwritten: Vec::new(),
            must_begin,
            closed_len: segments_len.saturating_sub(len),
            snapshot_len,
            segment_len_max: failpoint::number("segment-len").unwrap_or(SEGMENT_LEN_MAX),
            compaction: None,
        };
        Ok((store, ledger))
    }

    /// Makes `records` durable as one commit. After an error it is to be called again with the same records, until
    /// it succeeds: the same commit is written again.
    ///
    /// # Errors
    /// What the disk says. The commit is not durable then.
    pub(crate) fn append(&mut self, records: &[u8]) -> io::Result<CommitNumber> {
        if self.must_begin {
            self.begin_segment()?;
        }
        let commit = match self.sealed {
            Some(commit) => {
                // Whatever of it arrived is given up and written again: after a failed flush nobody knows what the
                // disk holds, only that everything before it was durable.
                self.file.set_len(self.len)?;
                commit
            }
            None => *self.sealed.insert(self.chain.seal(records, &self.key, &mut self.unwritten)),
        };
        self.write()?;
        self.sealed = None;
        self.len += self.unwritten.len() as u64;
        self.unwritten.clear();
        Ok(commit)
    }

    fn write(&mut self) -> io::Result<()> {
        failpoint::hit("journal-write")?;
        self.file.write_all_at(&self.unwritten, self.len)?;
        failpoint::hit("journal-written")?;
        self.file.sync_data()?;
        failpoint::hit("journal-synced")
    }

    /// Closes the open segment when it is long, and lets a snapshot replace closed ones when they have grown as
    /// large as the last. To be called after a commit was reported. A segment that cannot be begun is tried again
    /// with the next commit, which fails if the disk still refuses.
    pub(crate) fn tidy(&mut self) {
        if self.len < self.segment_len_max || self.must_begin {
            return;
        }
        if let Err(error) = self.begin_segment() {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "no segment of the journal can be begun");
            return;
        }
        match self.compaction.take().map(Compaction::poll) {
            Some(Err(running)) => {
                self.compaction = Some(running);
                return;
            }
            Some(Ok(Some(snapshot))) => {
                self.snapshot_len = snapshot.len;
                self.closed_len = self.closed_len.saturating_sub(snapshot.folded_len);
            }
            Some(Ok(None)) | None => {}
        }
        if self.closed_len >= self.snapshot_len {
            let (folder, end) = (self.folder.clone(), self.chain.segment());
            let (identity, key, folded_len) = (self.identity, self.key.clone(), self.closed_len);
            self.compaction = Compaction::start(folder, identity, key, end, folded_len);
        }
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        let (header, chain) = Chain::begin(&self.identity, &self.chain.end(), &self.key);
        let path = segment_path(&self.folder, chain.segment());
        self.must_begin = true;
        write_whole(&path, &header, "segment-begin")?;
        self.file = OpenOptions::new().write(true).open(&path)?;
        self.must_begin = false;
        self.closed_len += self.len;
        self.len = header.len() as u64;
        self.chain = chain;
        Ok(())
    }
}

/// Holds the books against a second opening, until it is dropped.
fn lock(folder: &Path) -> Result<File, BooksError> {
    let path = folder.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    let lock = options.write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(at(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(BooksError::InUse { path }),
        Err(TryLockError::Error(source)) => Err(BooksError::Io { path, source }),
    }
}

/// Cuts an unfinished commit off.
fn cut(path: &Path, len: u64, torn_len: u64) -> Result<(), BooksError> {
    if torn_len == 0 {
        return Ok(());
    }
    let path_text = path.display();
    tracing::warn!(path = %path_text, offset = len, torn_len, "cut off a commit that was never finished");
    let file = OpenOptions::new().write(true).open(path).map_err(at(path))?;
    failpoint::hit("segment-cut").and_then(|()| file.set_len(len)).map_err(at(path))?;
    file.sync_all().map_err(at(path))
}

impl Store {
    /// A store whose segments are short, so that tests see many of them.
    #[cfg(test)]
    pub(super) fn with_segment_len_max(mut self, len: u64) -> Self {
        self.segment_len_max = len;
        self
    }

    /// A store that makes no more snapshots.
    #[cfg(test)]
    pub(super) fn without_snapshots(mut self) -> Self {
        self.snapshot_len = u64::MAX;
        self
    }

    /// Waits for a running compaction.
    #[cfg(test)]
    pub(super) fn finish_compaction(&mut self) {
        if let Some(compaction) = self.compaction.take() {
            compaction.join();
        }
    }
}
