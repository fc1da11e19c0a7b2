//! Segments: how commits are chained, signed, and read back.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use super::books::{Books, Position};
use super::bytes::Reader;
use super::header::{FileKind, HEADER_LEN, VERSION, put_header, read_header};
use super::record::Record;
use super::{CommitNumber, Identity, JournalError, SegmentNumber};

/// Stands before a chain head when the machine key signs it. The key signs payments too, whose signed text has 32
/// bytes, so neither signature can be taken for the other.
pub const SIGNED_PREFIX: &[u8; 16] = b"cocoon books v1\0";

pub(super) const SIGNATURE_LEN: usize = 64;
/// Length, number and check of a commit.
const COMMIT_HEADER_LEN: usize = 4 + 8 + 4;
const CHECK_LEN: usize = 4;
/// Records of one commit, in bytes. Writers stay far below; readers believe no more.
const RECORDS_LEN_MAX: u32 = 256 * 1024 * 1024;
/// So many zeros at the end of a file are an unfinished write: a commit ends with a signature.
const UNWRITTEN_LEN_MIN: usize = 16;

/// The end of a segment, where the next commit goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    head: [u8; 32],
    signature: [u8; SIGNATURE_LEN],
    next: CommitNumber,
    segment: SegmentNumber,
}

impl Chain {
    /// The beginning of a segment that continues the books at `at`.
    #[must_use]
    pub fn begin(identity: &Identity, at: &Position, key: &SigningKey) -> (Vec<u8>, Self) {
        let mut bytes = Vec::with_capacity(HEADER_LEN.saturating_add(SIGNATURE_LEN));
        put_header(&mut bytes, FileKind::Segment, identity, at);
        let head = Sha256::digest(&bytes).into();
        let signature = sign(key, &head);
        bytes.extend(signature);
        let Position { commit, segment, .. } = *at;
        (bytes, Self { head, signature, next: commit, segment })
    }

    /// Appends a commit with `records` to `into`, and returns its number.
    pub fn seal(&mut self, records: &[u8], key: &SigningKey, into: &mut Vec<u8>) -> CommitNumber {
        let length = u32::try_from(records.len()).ok().filter(|length| *length <= RECORDS_LEN_MAX);
        let length = length.expect("what waits for a commit is bounded far below the longest one");
        let number = self.next;
        let header = self.commit_header(length, number);
        self.head = self.head_after(&header, records);
        self.signature = sign(key, &self.head);
        self.next = number.next();
        into.reserve(COMMIT_HEADER_LEN.saturating_add(records.len()).saturating_add(SIGNATURE_LEN));
        into.extend(header);
        into.extend(records);
        into.extend(self.signature);
        number
    }

    /// The number of the next commit.
    #[must_use]
    pub const fn next_commit(&self) -> CommitNumber {
        self.next
    }

    /// The segment.
    #[must_use]
    pub const fn segment(&self) -> SegmentNumber {
        self.segment
    }

    /// Where the next segment continues.
    #[must_use]
    pub const fn end(&self) -> Position {
        Position { segment: self.segment.next(), commit: self.next, head: self.head }
    }

    fn commit_header(&self, length: u32, number: CommitNumber) -> [u8; COMMIT_HEADER_LEN] {
        let mut header = [0; COMMIT_HEADER_LEN];
        let (fields, check) = header.split_at_mut(COMMIT_HEADER_LEN - CHECK_LEN);
        fields[..4].copy_from_slice(&length.to_le_bytes());
        fields[4..].copy_from_slice(&number.get().to_le_bytes());
        let mut hash = Sha256::new();
        hash.update(self.head);
        hash.update(self.signature);
        hash.update(fields);
        check.copy_from_slice(&hash.finalize()[..CHECK_LEN]);
        header
    }

    fn head_after(&self, header: &[u8], records: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.head);
        hash.update(self.signature);
        hash.update(header);
        hash.update(records);
        hash.finalize().into()
    }
}

pub(super) fn sign(key: &SigningKey, head: &[u8; 32]) -> [u8; SIGNATURE_LEN] {
    key.sign(&signed_text(head)).to_bytes()
}

pub(super) fn is_signed(key: &VerifyingKey, head: &[u8; 32], signature: &[u8; SIGNATURE_LEN]) -> bool {
    key.verify_strict(&signed_text(head), &Signature::from_bytes(signature)).is_ok()
}

fn signed_text(head: &[u8; 32]) -> [u8; 48] {
    let mut text = [0; 48];
    let (prefix, rest) = text.split_at_mut(SIGNED_PREFIX.len());
    prefix.copy_from_slice(SIGNED_PREFIX);
    rest.copy_from_slice(head);
    text
}

/// What a segment held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Its end, to go on from.
    pub chain: Chain,
    /// How many commits it holds.
    pub commits: u64,
    /// Its bytes up to the last complete commit.
    pub len: u64,
    /// The bytes after it: what an interrupted write left. Zero in every segment but the last.
    pub torn_len: u64,
    /// It is of an older version: the next commit goes to a new segment.
    pub is_old: bool,
}

/// A commit as it stands in a file.
struct Commit<'a> {
    number: CommitNumber,
    records: &'a [u8],
    signature: [u8; SIGNATURE_LEN],
    head: [u8; 32],
    len: usize,
}

enum Next<'a> {
    Commit(Commit<'a>),
    Torn,
    End,
}

impl Books {
    /// Adds what a segment recorded. The segment must continue these books and be signed by `key`.
    ///
    /// # Errors
    /// [`JournalError`] if it is not what was written. The books are good for nothing then.
    pub fn replay(&mut self, segment: &[u8], key: &VerifyingKey) -> Result<Replayed, JournalError> {
        let (at, version) = read_header(segment, FileKind::Segment, self.identity())?;
        self.expect_at(&at)?;
        let (header, rest) = segment.split_at(HEADER_LEN);
        let needed = HEADER_LEN.saturating_add(SIGNATURE_LEN) as u64;
        let short = JournalError::Short { needed, found: segment.len() as u64 };
        let signature = *rest.first_chunk().ok_or(short)?;
        let head = Sha256::digest(header).into();
        if !is_signed(key, &head, &signature) {
            return Err(JournalError::Signature { offset: HEADER_LEN as u64 });
        }

        let Position { commit, segment: number, .. } = at;
        let mut chain = Chain { head, signature, next: commit, segment: number };
        let mut offset = HEADER_LEN.saturating_add(SIGNATURE_LEN);
        let (mut last, mut commits) = (offset, 0_u64);
        let torn_len = loop {
            let commit = match chain.read(segment, offset) {
                Ok(Next::Commit(commit)) => commit,
                Ok(Next::Torn) => break segment.len().saturating_sub(offset),
                Ok(Next::End) => break 0,
                // The chain broke either here or in the commit before, whose own signature tells.
                Err(_) if !is_signed(key, &chain.head, &chain.signature) => {
                    return Err(JournalError::Damaged { what: "a commit", offset: last as u64 });
                }
                Err(error) => return Err(error),
            };
            if let Err(what) = self.apply_all(commit.records) {
                if !is_signed(key, &commit.head, &commit.signature) {
                    return Err(JournalError::Damaged { what: "a commit", offset: offset as u64 });
                }
                return Err(JournalError::Content { commit: commit.number, offset: offset as u64, what });
            }
            chain.head = commit.head;
            chain.signature = commit.signature;
            chain.next = commit.number.next();
            last = offset;
            offset = offset.saturating_add(commit.len);
            commits = commits.saturating_add(1);
        };
        if !is_signed(key, &chain.head, &chain.signature) {
            return Err(JournalError::Signature { offset: offset.saturating_sub(SIGNATURE_LEN) as u64 });
        }
        self.continue_at(chain.end());
        let (len, torn_len, is_old) = (offset as u64, torn_len as u64, version < VERSION);
        Ok(Replayed { chain, commits, len, torn_len, is_old })
    }

    fn apply_all(&mut self, records: &[u8]) -> Result<(), &'static str> {
        let mut reader = Reader::new(records);
        while !reader.is_empty() {
            let record = Record::read(&mut reader).ok_or("a record that this program does not know")?;
            self.apply(&record)?;
        }
        Ok(())
    }
}

impl Chain {
    /// The commit at `offset`, as far as its header and the file's length can tell.
    fn read<'a>(&self, file: &'a [u8], offset: usize) -> Result<Next<'a>, JournalError> {
        let rest = file.get(offset..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(Next::End);
        }
        // Where the unwritten end begins, counted from here; some file systems show it as zeros.
        let zeros = rest.iter().rev().take_while(|byte| **byte == 0).count();
        let written = if zeros < UNWRITTEN_LEN_MIN { rest.len() } else { rest.len().saturating_sub(zeros) };
        if written < COMMIT_HEADER_LEN {
            return Ok(Next::Torn);
        }
        let mut reader = Reader::new(rest);
        let (Some(header), len_before) = (reader.array::<COMMIT_HEADER_LEN>(), rest.len()) else {
            return Ok(Next::Torn);
        };
        let mut fields = Reader::new(&header);
        let (Some(length), Some(number)) = (fields.u32(), fields.u64().map(CommitNumber::new)) else {
            return Ok(Next::Torn);
        };
        if header != self.commit_header(length, number) || length > RECORDS_LEN_MAX {
            return Err(JournalError::Damaged { what: "the beginning of a commit", offset: offset as u64 });
        }
        if number != self.next {
            let offset = offset as u64;
            return Err(JournalError::Commit { offset, expected: self.next, found: number });
        }
        let records = usize::try_from(length).ok().and_then(|length| reader.slice(length));
        let (Some(records), Some(signature)) = (records, reader.array()) else { return Ok(Next::Torn) };
        let len = len_before.saturating_sub(reader.left());
        if written < len {
            return Ok(Next::Torn);
        }
        let head = self.head_after(&header, records);
        Ok(Next::Commit(Commit { number, records, signature, head, len }))
    }
}
