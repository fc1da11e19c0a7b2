//! Blocks, and the line of them.
//!
//! Masterchain and basechain have a block each for every number. Only blocks with transactions are kept: what stands
//! between two of them is empty, and follows from them and the number. So a devnet that runs idle for a year takes
//! no memory, no disk and no processor time, and still has a block for every tool that waits for the next one.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use ton::Address;
use tycho_types::cell::Cell;
use units::{BlockHash, BlockSeqno, LogicalTime, TransactionHash};

/// How often blocks come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// A block for every message from outside, with all that follows from it, before its sender gets an answer.
    Instant,
    /// A block every so often, empty or not. At least a millisecond.
    Every(Duration),
}

impl Pace {
    /// What a devnet has unless told otherwise: fast for people, and slow enough that programs have to wait.
    pub const DEFAULT: Self = Self::Every(Duration::from_millis(200));

    /// The time between two blocks, never zero.
    pub(crate) fn interval(self) -> Option<Duration> {
        match self {
            Self::Instant => None,
            Self::Every(interval) => Some(interval.max(Duration::from_millis(1))),
        }
    }
}

/// Logical times that a block has for itself. TON's nodes begin blocks at multiples of it as well.
const LT_OF_BLOCK: u64 = 1_000_000;

/// The logical time at which a block begins.
pub(crate) fn start_lt(seqno: BlockSeqno) -> LogicalTime {
    LogicalTime::new(u64::from(seqno.get()).saturating_mul(LT_OF_BLOCK))
}

/// The block in which something of this logical time happens.
pub(crate) fn seqno_of_lt(lt: LogicalTime) -> BlockSeqno {
    BlockSeqno::new(u32::try_from(lt.get() / LT_OF_BLOCK).unwrap_or(u32::MAX))
}

/// A transaction within its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionId {
    /// The account.
    pub account: Address,
    /// Its logical time.
    pub lt: LogicalTime,
    /// The hash of its cell.
    pub hash: TransactionHash,
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its number, in the masterchain and in the basechain.
    pub seqno: BlockSeqno,
    /// When it was made: time since 1970, with all time travel.
    pub time: Duration,
    /// What names it, and with it all that was before. Not the hash of a cell: no block is ever serialised.
    pub hash: BlockHash,
    /// What came from outside: external messages, and the faucet's. With time and number, all that a block depends on.
    pub messages: Vec<Cell>,
    /// What happened, in order.
    pub transactions: Vec<TransactionId>,
}

impl Block {
    /// The logical time at which it begins.
    #[must_use]
    pub fn start_lt(&self) -> LogicalTime {
        start_lt(self.seqno)
    }

    /// The logical time after its last transaction.
    #[must_use]
    pub fn end_lt(&self) -> LogicalTime {
        let last = self.transactions.iter().map(|transaction| transaction.lt.get()).max();
        LogicalTime::new(last.unwrap_or(start_lt(self.seqno).get()).saturating_add(1))
    }

    /// What names the block of one workchain: the masterchain's has the name of both.
    #[must_use]
    pub fn hash_in(&self, workchain: i8) -> BlockHash {
        if workchain == -1 {
            return self.hash;
        }
        let mut hasher = Sha256::new();
        hasher.update(b"cocoon devnet: name of a shard's block");
        hasher.update(workchain.to_be_bytes());
        hasher.update(self.hash.as_bytes());
        BlockHash::new(hasher.finalize().into())
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn unix_time(&self) -> u32 {
        unix_seconds(self.time)
    }
}

/// A duration of up to 584 years.
fn nanoseconds(count: u128) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}

/// Seconds as blocks have them: 32 bits, enough until 2106.
pub(crate) fn unix_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

/// All blocks so far.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    seed: [u8; 32],
    /// The first block and every one with transactions, in order.
    kept: Vec<Block>,
    /// The newest block, empty or not.
    head: BlockSeqno,
    head_time: Duration,
}

impl Line {
    /// A line of one empty block, number 1: number 0 is a zero state that tools do not ask for.
    pub(crate) fn new(seed: [u8; 32], start: Duration) -> Self {
        let seqno = BlockSeqno::new(1);
        let hash = block_hash(&seed, seqno, &BlockHash::new(seed), &[]);
        let first = Block { seqno, time: start, hash, messages: Vec::new(), transactions: Vec::new() };
        Self { seed, kept: vec![first], head: seqno, head_time: start }
    }

    pub(crate) fn head(&self) -> BlockSeqno {
        self.head
    }

    pub(crate) fn head_time(&self) -> Duration {
        self.head_time
    }

    /// Lets empty blocks pass until `seqno` at `time` is next to be filled, or is the newest.
    pub(crate) fn pass_to(&mut self, seqno: BlockSeqno, time: Duration) {
        debug_assert!(seqno >= self.head && time >= self.head_time);
        self.head = seqno;
        self.head_time = time;
    }

    /// What the transactions of block `seqno` get their randomness from.
    pub(crate) fn random_seed(&self, seqno: BlockSeqno) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(b"cocoon devnet: randomness of a block");
        hasher.update(self.seed);
        hasher.update(seqno.get().to_be_bytes());
        hasher.finalize().into()
    }

    /// Fills the newest block.
    pub(crate) fn fill(&mut self, messages: Vec<Cell>, transactions: Vec<TransactionId>) -> &Block {
        let (seqno, time) = (self.head, self.head_time);
        let hash = block_hash(&self.seed, seqno, &self.last_kept().hash, &transactions);
        self.kept.push(Block { seqno, time, hash, messages, transactions });
        self.last_kept()
    }

    /// The newest block that is kept.
    pub(crate) fn last_kept(&self) -> &Block {
        self.kept.last().expect("the first block is never removed")
    }

    /// The kept blocks after number `seqno`.
    pub(crate) fn kept_after(&self, seqno: BlockSeqno) -> &[Block] {
        &self.kept[self.kept.partition_point(|block| block.seqno <= seqno)..]
    }

    /// Block `seqno`, if it has been made.
    pub(crate) fn block(&self, seqno: BlockSeqno) -> Option<Block> {
        if seqno > self.head {
            return None;
        }
        let after = self.kept.partition_point(|block| block.seqno <= seqno);
        let before = self.kept.get(after.checked_sub(1)?)?;
        if before.seqno == seqno {
            return Some(before.clone());
        }
        let (next, next_time) =
            self.kept.get(after).map_or((self.head, self.head_time), |block| (block.seqno, block.time));
        // Empty blocks are spread evenly: how they really came only those know who looked.
        let (done, all) = (seqno.get() - before.seqno.get(), next.get() - before.seqno.get());
        let span = next_time.saturating_sub(before.time).as_nanos().saturating_mul(u128::from(done));
        let time = before.time + nanoseconds(span / u128::from(all));
        let hash = block_hash(&self.seed, seqno, &before.hash, &[]);
        Some(Block { seqno, time, hash, messages: Vec::new(), transactions: Vec::new() })
    }

    /// The newest block that was there at `time`.
    pub(crate) fn block_at(&self, time: Duration) -> Option<Block> {
        let first = self.kept.first()?;
        if time < first.time {
            return None;
        }
        // Times grow with numbers: halve the numbers.
        let (mut there, mut not_there) = (first.seqno.get(), self.head.get().saturating_add(1));
        while not_there - there > 1 {
            let middle = there + (not_there - there) / 2;
            match self.block(BlockSeqno::new(middle)) {
                Some(block) if block.time <= time => there = middle,
                _ => not_there = middle,
            }
        }
        self.block(BlockSeqno::new(there))
    }
}

fn block_hash(
    seed: &[u8; 32],
    seqno: BlockSeqno,
    previous: &BlockHash,
    transactions: &[TransactionId],
) -> BlockHash {
    let mut hasher = Sha256::new();
    hasher.update(b"cocoon devnet: name of a block");
    hasher.update(seed);
    hasher.update(seqno.get().to_be_bytes());
    hasher.update(previous.as_bytes());
    for transaction in transactions {
        hasher.update(transaction.hash.as_bytes());
    }
    BlockHash::new(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(line: &Line, seqno: u32) -> u64 {
        line.block(BlockSeqno::new(seqno)).unwrap().time.as_secs()
    }

    #[test]
    fn empty_blocks_are_there_without_being_kept() {
        let mut line = Line::new([1; 32], Duration::from_secs(100));
        line.pass_to(BlockSeqno::new(11), Duration::from_secs(200));
        line.fill(
            Vec::new(),
            vec![TransactionId {
                account: Address::new(0, [2; 32]),
                lt: LogicalTime::new(11_000_000),
                hash: TransactionHash::new([3; 32]),
            }],
        );
        line.pass_to(BlockSeqno::new(21), Duration::from_secs(201));
        assert_eq!(line.kept.len(), 2);
        assert_eq!([1, 2, 6, 11].map(|seqno| seconds(&line, seqno)), [100, 110, 150, 200]);
        assert_eq!(seconds(&line, 21), 201);
        assert!(line.block(BlockSeqno::new(22)).is_none(), "not made yet");
        assert!(line.block(BlockSeqno::new(0)).is_none());
        for (second, seqno) in [(100, 1), (149, 5), (150, 6), (199, 10), (200, 11), (9999, 21)] {
            assert_eq!(line.block_at(Duration::from_secs(second)).unwrap().seqno.get(), seqno, "{second}");
        }
        assert!(line.block_at(Duration::from_secs(99)).is_none());
        let hashes: std::collections::BTreeSet<_> =
            (1..=21).map(|seqno| line.block(BlockSeqno::new(seqno)).unwrap().hash).collect();
        assert_eq!(hashes.len(), 21);
    }

    #[test]
    fn an_empty_block_keeps_its_name_when_a_later_one_is_filled() {
        let mut line = Line::new([1; 32], Duration::from_secs(100));
        line.pass_to(BlockSeqno::new(5), Duration::from_secs(104));
        let before = line.block(BlockSeqno::new(3)).unwrap();
        line.pass_to(BlockSeqno::new(6), Duration::from_secs(105));
        line.fill(Vec::new(), Vec::new());
        assert_eq!(line.block(BlockSeqno::new(3)).unwrap(), before);
    }
}
