//! The bytes of the chain's file.

use std::time::Duration;

use ton::decode_boc;
use tycho_types::boc::Boc;
use units::{BlockHash, BlockSeqno};

use super::check;
use crate::block::{Block, Pace};
use crate::devnet::{Genesis, Mark};
use crate::messages::MESSAGE_LEN_MAX;

const MAGIC: &[u8; 16] = b"cocoon devnet\r\n\0";
/// Grows when the layout does, or when the same messages would lead to other blocks.
const VERSION: u32 = 1;
/// Bytes of a [`Header`].
pub(super) const HEADER_LEN: usize = 16 + 4 + 32 + 32 + 8 + 8;

const BLOCK: u8 = 1;
const MARK: u8 = 2;

/// How the chain began.
pub(super) struct Header {
    seed: [u8; 32],
    config: [u8; 32],
    pub(super) start: Duration,
}

impl Header {
    pub(super) fn of(genesis: &Genesis) -> Self {
        Self { seed: genesis.seed, config: genesis.config.hash(), start: genesis.start }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend(self.seed);
        bytes.extend(self.config);
        bytes.extend(nanoseconds(self.start));
        let check = check(&bytes);
        bytes.extend(check);
        bytes
    }

    /// Whether this could be a header that was never finished.
    pub(super) fn may_begin_with(bytes: &[u8]) -> bool {
        bytes.iter().zip(MAGIC).all(|(found, wanted)| found == wanted)
    }

    pub(super) fn decode(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        let (content, found) = bytes.split_at(HEADER_LEN - 8);
        let mut reader = Reader(content);
        let is_ours = reader.take::<16>()? == *MAGIC && reader.u32()? == VERSION && found == check(content);
        let header = Self { seed: reader.take()?, config: reader.take()?, start: reader.time()? };
        is_ours.then_some(header)
    }

    /// What makes this another chain.
    pub(super) fn difference(&self, other: &Self) -> Option<&'static str> {
        match self {
            _ if self.seed != other.seed => Some("seed"),
            _ if self.config != other.config => Some("configuration of the network"),
            _ => None,
        }
    }
}

/// What stands between two checks.
pub(super) enum Record {
    /// A block, as far as it needs to be told: its transactions follow.
    Block(Block),
    /// A change of pace or time.
    Mark(Mark),
}

impl Record {
    /// `1 seqno:u32 time:u64 hash[32] (len:u32 boc[len])*`.
    pub(super) fn block(block: &Block) -> Vec<u8> {
        let mut bytes = vec![BLOCK];
        bytes.extend(block.seqno.get().to_be_bytes());
        bytes.extend(nanoseconds(block.time));
        bytes.extend(block.hash.as_bytes());
        for message in &block.messages {
            let boc = Boc::encode(message);
            let len = u32::try_from(boc.len()).expect("messages have at most 65,535 bytes");
            bytes.extend(len.to_be_bytes());
            bytes.extend(boc);
        }
        bytes
    }

    /// `2 seqno:u32 time:u64 ahead:u64 interval:u64`, an interval of 0 for the instant pace.
    pub(super) fn mark(mark: &Mark) -> Vec<u8> {
        let mut bytes = vec![MARK];
        bytes.extend(mark.head.get().to_be_bytes());
        bytes.extend(nanoseconds(mark.head_time));
        bytes.extend(nanoseconds(mark.ahead));
        bytes.extend(nanoseconds(mark.pace.interval().unwrap_or_default()));
        bytes
    }

    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        let record = match reader.take::<1>()? {
            [BLOCK] => {
                let (seqno, time) = (BlockSeqno::new(reader.u32()?), reader.time()?);
                let hash = BlockHash::new(reader.take()?);
                let mut messages = Vec::new();
                while !reader.0.is_empty() {
                    let len = usize::try_from(reader.u32()?).ok()?;
                    let (boc, rest) = reader.0.split_at_checked(len)?;
                    messages.push(decode_boc(boc, MESSAGE_LEN_MAX).ok()?);
                    reader.0 = rest;
                }
                Self::Block(Block { seqno, time, hash, messages, transactions: Vec::new() })
            }
            [MARK] => {
                let (head, head_time) = (BlockSeqno::new(reader.u32()?), reader.time()?);
                let ahead = reader.time()?;
                let interval = reader.time()?;
                let pace = if interval.is_zero() { Pace::Instant } else { Pace::Every(interval) };
                Self::Mark(Mark { head, head_time, ahead, pace })
            }
            _ => return None,
        };
        reader.0.is_empty().then_some(record)
    }
}

fn nanoseconds(time: Duration) -> [u8; 8] {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).to_be_bytes()
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn time(&mut self) -> Option<Duration> {
        self.take().map(|bytes| Duration::from_nanos(u64::from_be_bytes(bytes)))
    }
}
