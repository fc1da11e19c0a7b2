//! Finding, reading and replacing the files of one folder.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::VerifyingKey;
use ledger::journal::{Books, Identity, JournalError, Replayed, SegmentNumber};
use node::failpoint;

/// Books that cannot be used. Always the operator's to mend; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    /// The folder or a file cannot be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// Folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// They are open already.
    #[error("{} is held: these books are being written already", path.display())]
    InUse {
        /// Their lock.
        path: PathBuf,
    },
    /// A file is not what was written.
    #[error("the books cannot be recovered from {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: JournalError,
    },
    /// The system has no thread to write them.
    #[error("cannot start the writer of the books")]
    Thread(#[from] io::Error),
    /// A file that must be there is not.
    #[error("{} is missing: restore it from a copy", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A closed segment ends in the middle of a commit.
    #[error(
        "{} ends with {torn_len} bytes of an unfinished commit, though segments follow it: restore it from a copy",
        path.display()
    )]
    Cut {
        /// The file.
        path: PathBuf,
        /// Bytes after its last complete commit.
        torn_len: u64,
    },
    /// There are books, and not the key that signed them.
    #[error(
        "{} is missing, and {} holds books that it signed: restore the key, or move the books away and begin \
         under another contract",
        key.display(), books.display()
    )]
    KeyMissing {
        /// Where the key should be.
        key: PathBuf,
        /// The folder of all books.
        books: PathBuf,
    },
    /// There is the key, and not the books that it signed for.
    #[error(
        "{} is missing, and {} has signed payments for books in it: restore the books, or move the key away and \
         begin under another contract",
        books.display(), key.display()
    )]
    BooksMissing {
        /// The key.
        key: PathBuf,
        /// Where the folder of all books should be.
        books: PathBuf,
    },
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> BooksError {
    let path = path.to_owned();
    move |source| BooksError::Io { path, source }
}

/// Makes sure that the machine key and the books it signs for are lost together or not at all: a key without its
/// books would sign lower totals than before, which no peer accepts.
///
/// # Errors
/// [`BooksError`] if one is there without the other.
pub(crate) fn machine_key_guard(key: &Path, books: &Path) -> Result<(), BooksError> {
    let exists = |path: &Path| path.try_exists().map_err(at(path));
    let has_books = exists(books)? && fs::read_dir(books).map_err(at(books))?.next().is_some();
    if exists(key)? {
        if !exists(books)? {
            return Err(BooksError::BooksMissing { key: key.to_owned(), books: books.to_owned() });
        }
    } else if has_books {
        return Err(BooksError::KeyMissing { key: key.to_owned(), books: books.to_owned() });
    }
    // Made before the key is drawn, so that a crash in between looks like neither case above.
    make_folder(books)
}

pub(super) fn make_folder(path: &Path) -> Result<(), BooksError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))?;
    path.parent().map_or(Ok(()), |parent| sync_folder(parent).map_err(at(parent)))
}

/// Makes names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

const SEGMENT: &str = "segment-";
const SNAPSHOT: &str = "snapshot-";
const UNFINISHED: &str = ".new";

pub(super) fn segment_path(folder: &Path, number: SegmentNumber) -> PathBuf {
    folder.join(format!("{SEGMENT}{:010}", number.get()))
}

pub(super) fn snapshot_path(folder: &Path, number: SegmentNumber) -> PathBuf {
    folder.join(format!("{SNAPSHOT}{:010}", number.get()))
}

/// The numbers of the files in a folder, in rising order.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) segments: Vec<SegmentNumber>,
    pub(super) snapshots: Vec<SegmentNumber>,
}

pub(super) fn list(folder: &Path) -> Result<Listing, BooksError> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let name = entry.map_err(at(folder))?.file_name();
        let Some(name) = name.to_str() else { continue };
        let number = |prefix| name.strip_prefix(prefix)?.parse().ok().map(SegmentNumber::new);
        listing.segments.extend(number(SEGMENT));
        listing.snapshots.extend(number(SNAPSHOT));
    }
    listing.segments.sort_unstable();
    listing.snapshots.sort_unstable();
    Ok(listing)
}

/// Writes a file whole and durably under its final name; a crash leaves it as it was.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], point: &'static str) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    failpoint::hit(point)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    failpoint::hit(point)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// What was found in a folder.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) books: Books,
    /// The last segment, to go on from; `None` in an empty folder.
    pub(super) last: Option<Replayed>,
    /// Bytes of the snapshot that the books stand on, and of segments after it.
    pub(super) snapshot_len: u64,
    pub(super) segments_len: u64,
}

/// Reads the newest good snapshot and the segments after it, up to but without `end` if it is given.
pub(super) fn recover(
    folder: &Path,
    identity: Identity,
    key: &VerifyingKey,
    end: Option<SegmentNumber>,
) -> Result<Recovered, BooksError> {
    let listing = list(folder)?;
    let mut first_error = None;
    let before_end = |number: &SegmentNumber| end.is_none_or(|end| *number <= end);
    for number in listing.snapshots.iter().rev().copied().filter(before_end) {
        let path = snapshot_path(folder, number);
        let snapshot = fs::read(&path).map_err(at(&path))?;
        let recovered = Books::from_snapshot(&snapshot, identity, key)
            .map_err(|source| BooksError::File { path: path.clone(), source })
            .and_then(|books| replay_after(folder, books, key, &listing, end));
        match recovered {
            Ok(recovered) => {
                if let Some(error) = &first_error {
                    let error = error as &dyn std::error::Error;
                    tracing::warn!(error, used = %path.display(), "recovered from an older snapshot");
                }
                return Ok(Recovered { snapshot_len: snapshot.len() as u64, ..recovered });
            }
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let from_the_beginning = replay_after(folder, Books::new(identity), key, &listing, end);
    match (first_error, from_the_beginning) {
        (Some(error), Err(_also_bad)) => Err(error),
        (_, recovered) => recovered,
    }
}

fn replay_after(
    folder: &Path,
    mut books: Books,
    key: &VerifyingKey,
    listing: &Listing,
    end: Option<SegmentNumber>,
) -> Result<Recovered, BooksError> {
    let start = books.position().segment;
    let in_range = |number: &SegmentNumber| *number >= start && end.is_none_or(|end| *number < end);
    let (mut last, mut segments_len) = (None, 0);
    for number in listing.segments.iter().copied().filter(in_range) {
        let path = segment_path(folder, number);
        if let Some(Replayed { torn_len: torn_len @ 1.., chain, .. }) = &last {
            let (path, torn_len) = (segment_path(folder, chain.segment()), *torn_len);
            return Err(BooksError::Cut { path, torn_len });
        }
        if number != books.position().segment {
            return Err(BooksError::Missing { path: segment_path(folder, books.position().segment) });
        }
        let segment = fs::read(&path).map_err(at(&path))?;
        let replayed = books.replay(&segment, key).map_err(|source| BooksError::File { path, source })?;
        segments_len += replayed.len;
        last = Some(replayed);
    }
    if let (Some(Replayed { torn_len: torn_len @ 1.., chain, .. }), Some(_)) = (&last, end) {
        let (path, torn_len) = (segment_path(folder, chain.segment()), *torn_len);
        return Err(BooksError::Cut { path, torn_len });
    }
    // A snapshot is only ever made of segments before one that exists.
    let is_new = listing.segments.is_empty() && listing.snapshots.is_empty();
    if last.is_none() && end.is_none() && !is_new {
        return Err(BooksError::Missing { path: segment_path(folder, start) });
    }
    Ok(Recovered { books, last, snapshot_len: 0, segments_len })
}

/// Removes files that a durable snapshot made needless, and what was left unfinished.
pub(super) fn remove_before(folder: &Path, keep_from: SegmentNumber) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let number = |prefix| name.strip_prefix(prefix)?.parse().ok().map(SegmentNumber::new);
        let is_older =
            [SEGMENT, SNAPSHOT].into_iter().find_map(number).is_some_and(|number| number < keep_from);
        if is_older {
            failpoint::hit("books-remove")?;
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes what a crash left unfinished. Only while nobody writes.
pub(super) fn remove_unfinished(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.ends_with(UNFINISHED)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
