//! A chain on disk: what came from outside, in one file that only grows.
//!
//! The file holds the beginning of the chain and then, for every block with something in it, its messages, its time and
//! its name; opening it makes all blocks again and compares the names. So it is small, cannot disagree with itself, and
//! tells when another program would come to other results. Ten thousand transactions take about a second.
//!
//! A process that dies loses at most the block it was writing: an unfinished record at the end is cut off. Whatever else
//! does not fit its check is refused and left as it is. Writes reach the disk when the system brings them there: after a
//! power failure, the newest blocks may be gone too.
//!
//! Layout, all numbers big-endian: `magic[16] version:u32 seed[32] config[32] start:u64 check[8]`, then records
//! `len:u32 !len:u32 payload[len] check[8]`. Times are nanoseconds since 1970, checks the first bytes of SHA-256.

mod codec;

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use units::BlockSeqno;

use self::codec::{HEADER_LEN, Header, Record};
use crate::devnet::{Devnet, Genesis, Mark, ReplayError};

/// Bytes before and after a record's payload.
const FRAME_LEN: u64 = 4 + 4 + 8;

/// A file that is not the chain that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system refuses.
    #[error("cannot use the chain's file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has it open.
    #[error("another process runs the chain in {}: stop it, or choose another folder", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Something else, or of another version.
    #[error("{} is no chain that this program can read: choose another folder, or remove it to begin anew", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A chain with another beginning.
    #[error("the chain in {} began with another {what}: choose another folder, or remove it to begin anew", path.display())]
    OtherGenesis {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// A record in the middle that is not what was written.
    #[error("the chain's file {} is damaged at byte {offset}: restore it, or remove it to begin anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
    },
    /// A block that comes out otherwise.
    #[error("the chain in {} cannot be made again: remove it to begin anew", path.display())]
    Replay {
        /// The file.
        path: PathBuf,
        /// Which, and how.
        #[source]
        source: ReplayError,
    },
}

/// The file of a running chain.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Where the last whole record ends.
    end: u64,
    /// The newest block in the file.
    written: BlockSeqno,
    /// The newest mark in the file.
    mark: Option<Mark>,
}

impl Journal {
    /// Opens the chain in `path`, or begins one there. Its seed and configuration must be those of `genesis`; its pace
    /// becomes the one of `genesis` at `genesis.start`, which is now.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(path: &Path, genesis: Genesis) -> Result<(Devnet, Self), JournalError> {
        let io = |source| JournalError::Io { path: path.to_owned(), source };
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(JournalError::InUse { path: path.to_owned() });
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(io(source)),
        }
        let (now, pace) = (genesis.start, genesis.pace);
        let len = file.metadata().map_err(io)?.len();
        let header = Header::of(&genesis);
        let mut journal =
            Self { path: path.to_owned(), file, end: 0, written: BlockSeqno::new(1), mark: None };
        let chain = if len < HEADER_LEN as u64 {
            let mut begun = Vec::new();
            (&journal.file).read_to_end(&mut begun).map_err(io)?;
            if !Header::may_begin_with(&begun) {
                return Err(JournalError::Foreign { path: path.to_owned() });
            }
            // Nothing was ever answered from a file without a whole header.
            journal.append(&header.encode()).map_err(io)?;
            Devnet::new(genesis)
        } else {
            let mut chain = journal.replay(len, &header, genesis)?;
            chain.set_pace(now, pace);
            chain
        };
        journal.save(&chain).map_err(io)?;
        Ok((chain, journal))
    }

    fn replay(&mut self, len: u64, wanted: &Header, genesis: Genesis) -> Result<Devnet, JournalError> {
        let path = self.path.clone();
        let io = |source| JournalError::Io { path: path.clone(), source };
        let mut reader = BufReader::new(self.file.try_clone().map_err(io)?);
        let mut header = [0; HEADER_LEN];
        reader.read_exact(&mut header).map_err(io)?;
        let header = Header::decode(&header).ok_or_else(|| JournalError::Foreign { path: path.clone() })?;
        if let Some(what) = header.difference(wanted) {
            return Err(JournalError::OtherGenesis { path: path.clone(), what });
        }
        let mut chain = Devnet::new(Genesis { start: header.start, ..genesis });
        self.end = HEADER_LEN as u64;
        while let Some((record, next)) = read_record(&mut reader, self.end, len).map_err(io)? {
            let offset = self.end;
            let replayed = match record.and_then(|payload| Record::decode(&payload)) {
                // The last record may be one that was never finished.
                None if next == len => break,
                None => return Err(JournalError::Damaged { path: path.clone(), offset }),
                Some(Record::Block(block)) => chain.replay(&block),
                Some(Record::Mark(mark)) => {
                    self.mark = Some(mark);
                    chain.resume(mark)
                }
            };
            replayed.map_err(|source| JournalError::Replay { path: path.clone(), source })?;
            self.end = next;
        }
        if self.end < len {
            tracing::warn!(
                bytes = len - self.end,
                "an unfinished record at the end of the chain's file is cut off"
            );
            self.file.set_len(self.end).map_err(io)?;
        }
        self.written = chain.last_filled().seqno;
        Ok(chain)
    }

    /// Writes what has happened since the last time.
    ///
    /// # Errors
    /// If the system refuses; the next call tries again.
    pub fn save(&mut self, chain: &Devnet) -> io::Result<()> {
        let mut bytes = Vec::new();
        let blocks = chain.filled_after(self.written);
        for block in blocks {
            frame(&Record::block(block), &mut bytes);
        }
        let mark = chain.mark();
        if self.mark.is_none_or(|written| mark.differs(&written)) {
            frame(&Record::mark(&mark), &mut bytes);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.append(&bytes)?;
        self.written = blocks.last().map_or(self.written, |block| block.seqno);
        self.mark = Some(mark);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        let written = self.file.write_all(bytes);
        if written.is_err() {
            // Half a record must not stand before the next one.
            self.file.set_len(self.end)?;
        }
        written?;
        self.end += bytes.len() as u64;
        Ok(())
    }
}

fn frame(payload: &[u8], into: &mut Vec<u8>) {
    let len = u32::try_from(payload.len()).expect("a block's messages take less than 4 GiB");
    into.extend(len.to_be_bytes());
    into.extend((!len).to_be_bytes());
    into.extend(payload);
    into.extend(check(payload));
}

fn check(bytes: &[u8]) -> [u8; 8] {
    let whole: [u8; 32] = Sha256::digest(bytes).into();
    let [a, b, c, d, e, f, g, h, ..] = whole;
    [a, b, c, d, e, f, g, h]
}

/// The payload of the record at `offset`, if it fits its check, and where the next one begins: at the end of the file for
/// one that is cut. Nothing at the end of the file.
fn read_record(reader: &mut impl Read, offset: u64, len: u64) -> io::Result<Option<(Option<Vec<u8>>, u64)>> {
    let left = len - offset;
    if left == 0 {
        return Ok(None);
    }
    if left < FRAME_LEN {
        return Ok(Some((None, len)));
    }
    let mut lens = [0; 8];
    reader.read_exact(&mut lens)?;
    let lens = u64::from_be_bytes(lens);
    let (payload_len, complement) = (lens >> 32, lens & u64::from(u32::MAX));
    if payload_len ^ complement != u64::from(u32::MAX) {
        // Were this a length of chance, all that follows would pass for a cut.
        return Ok(Some((None, offset)));
    }
    if payload_len > left - FRAME_LEN {
        return Ok(Some((None, len)));
    }
    let mut payload = Vec::new();
    reader.by_ref().take(payload_len).read_to_end(&mut payload)?;
    let mut found = [0; 8];
    reader.read_exact(&mut found)?;
    let next = offset + FRAME_LEN + payload_len;
    Ok(Some(((found == check(&payload)).then_some(payload), next)))
}

#[cfg(test)]
mod tests;
