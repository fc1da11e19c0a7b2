//! The chain itself: messages in, blocks out.

mod look;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use ton::Address;
use tycho_types::cell::Cell;
use tycho_types::error::Error as CellError;
use tycho_types::models::ShardAccount;
use units::{AmountOverflow, BlockHash, BlockSeqno, LogicalTime, MessageHash, NanoTon, TransactionHash};

use crate::accounts::{Accounts, StoredTransaction};
use crate::block::{Block, Line, Pace, TransactionId, start_lt, unix_seconds};
use crate::execute::{Executed, Moment, NotExecuted, check, execute, unknown_account};
use crate::messages::{ExternalMessage, gift, gift_parts, internal_route, normalised_hash};
use crate::network_config::NetworkConfig;

/// Transactions in one block. What is left waits for the next: a contract that answers itself for ever fills blocks, and
/// stops nothing. Their messages take fewer than the million logical times that a block has.
const TRANSACTIONS_MAX: usize = 1_000;
/// Blocks that one message from outside leads to at once at an instant pace. What is left follows with the next message.
const INSTANT_BLOCKS_MAX: usize = 10;
/// Messages from outside that wait for a block.
const WAITING_MAX: usize = 10_000;
/// Coins that the faucet may make in all: half of what 64 bits hold, as no sum of balances shall exceed them.
const MINTED_MAX: NanoTon = NanoTon::new(u64::MAX / 2);

/// What a devnet begins with. The same beginning and the same messages at the same times give the same blocks.
#[derive(Debug)]
pub struct Genesis {
    /// Prices and limits.
    pub config: NetworkConfig,
    /// Where all randomness of contracts comes from.
    pub seed: [u8; 32],
    /// The time of the first block, since 1970.
    pub start: Duration,
    /// How often blocks come.
    pub pace: Pace,
}

impl Genesis {
    /// A seed made of any text.
    #[must_use]
    pub fn seed_of(text: &str) -> [u8; 32] {
        Sha256::digest(text.as_bytes()).into()
    }
}

/// A message that the chain does not take.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// Its account refuses it now.
    #[error(transparent)]
    NotExecuted(#[from] NotExecuted),
    /// Too many wait already.
    #[error("{WAITING_MAX} messages wait for a block already: try again after the next one")]
    Full,
    /// The faucet has given all it may.
    #[error("the faucet gives at most {MINTED_MAX} nanotons in the life of a devnet")]
    Exhausted,
    /// The amount is beyond any.
    #[error(transparent)]
    Amount(#[from] AmountOverflow),
    /// A message that cannot be built.
    #[error("the message cannot be built")]
    Cell(#[from] CellError),
}

/// A block that does not come out as it did before.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Blocks in the wrong order.
    #[error("block {seqno} cannot follow block {head}")]
    Order {
        /// The block to follow.
        seqno: BlockSeqno,
        /// The newest block.
        head: BlockSeqno,
    },
    /// A message that no block can have begun with.
    #[error("block {seqno} has a message that no block can begin with")]
    Message {
        /// The block.
        seqno: BlockSeqno,
    },
    /// The same messages led to something else.
    #[error("block {seqno} becomes {computed}, it was {recorded}: another program or configuration made it")]
    Diverged {
        /// The block.
        seqno: BlockSeqno,
        /// Its name then.
        recorded: BlockHash,
        /// Its name now.
        computed: BlockHash,
    },
}

/// Where a chain is in time, beside its blocks: all that a chain needs to go on besides their messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The newest block, empty or not.
    pub head: BlockSeqno,
    /// Its time.
    pub head_time: Duration,
    /// Time travel so far.
    pub ahead: Duration,
    /// How often blocks come.
    pub pace: Pace,
}

impl Mark {
    /// Whether more than blocks came between the two.
    #[must_use]
    pub fn differs(&self, other: &Self) -> bool {
        (self.ahead, self.pace) != (other.ahead, other.pace)
    }
}

/// A TON of one node, as a value: it has no clock and no thread, every call says what time it is.
///
/// Time since 1970 that goes backwards is taken as standing still.
#[derive(Clone, Debug)]
pub struct Devnet {
    config: Arc<NetworkConfig>,
    pace: Pace,
    line: Line,
    accounts: Accounts,
    /// Time travel so far.
    ahead: Duration,
    minted: NanoTon,
    last_gift_lt: u64,
    /// Messages between accounts, by the logical time of sending and then in the order of coming.
    internals: BTreeMap<(u64, u64), (Address, Cell)>,
    queued: u64,
    externals: VecDeque<ExternalMessage>,
    /// What came from outside since the last block.
    from_outside: Vec<Cell>,
    waiting: HashSet<MessageHash>,
}

impl Devnet {
    /// A chain with one empty block.
    #[must_use]
    pub fn new(genesis: Genesis) -> Self {
        Self {
            config: Arc::new(genesis.config),
            pace: genesis.pace,
            line: Line::new(genesis.seed, genesis.start),
            accounts: Accounts::default(),
            ahead: Duration::ZERO,
            minted: NanoTon::ZERO,
            last_gift_lt: 0,
            internals: BTreeMap::new(),
            queued: 0,
            externals: VecDeque::new(),
            from_outside: Vec::new(),
            waiting: HashSet::new(),
        }
    }

    /// Makes the blocks that are due at `now`. Every other call begins with it.
    pub fn advance(&mut self, now: Duration) {
        let Some(interval) = self.pace.interval() else { return };
        let passed = (now + self.ahead).saturating_sub(self.line.head_time());
        let due = u32::try_from(passed.as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX);
        let Some(seqno) = self.line.head().get().checked_add(due).filter(|_| due > 0) else { return };
        let time = self.line.head_time() + interval.saturating_mul(due);
        self.line.pass_to(BlockSeqno::new(seqno), time);
        if self.has_work() {
            self.fill_head();
        }
    }

    /// When the next block is due, if anything waits for it. At an instant pace nothing ever does.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        let interval = self.pace.interval().filter(|_| self.has_work())?;
        Some((self.line.head_time() + interval).saturating_sub(self.ahead))
    }

    fn has_work(&self) -> bool {
        !self.internals.is_empty() || !self.externals.is_empty()
    }

    /// Takes an external message if its account accepts it now. It is executed in the next block, at an instant pace
    /// before this returns; by then its account may refuse it, and it vanishes, as on TON.
    ///
    /// A message that waits already is taken again and executed once.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub fn submit(&mut self, now: Duration, message: ExternalMessage) -> Result<MessageHash, SubmitError> {
        self.advance(now);
        let hash = MessageHash::new(message.cell.repr_hash().0);
        if self.waiting.contains(&hash) {
            return Ok(hash);
        }
        self.check_room()?;
        let moment = self.next_moment(now);
        let account = self.state_or_unknown(&message.to)?;
        check(&self.config, &moment, &message.to, &message.cell, &account)?;
        self.waiting.insert(hash);
        self.from_outside.push(message.cell.clone());
        self.externals.push_back(message);
        self.run_instant(now);
        Ok(hash)
    }

    /// Makes `amount` and sends it to `to`, which keeps it whether it has a contract or not.
    ///
    /// # Errors
    /// [`SubmitError::Exhausted`] if the faucet has given all it may, [`SubmitError::Full`].
    pub fn give(&mut self, now: Duration, to: &Address, amount: NanoTon) -> Result<MessageHash, SubmitError> {
        self.advance(now);
        self.check_room()?;
        let minted = self.minted.checked_add(amount)?;
        if minted > MINTED_MAX {
            return Err(SubmitError::Exhausted);
        }
        let lt = start_lt(self.line.head()).get().max(self.last_gift_lt.saturating_add(1));
        let message = gift(to, amount, lt, unix_seconds(self.time(now)))?;
        let hash = MessageHash::new(message.repr_hash().0);
        self.take_gift(*to, lt, minted, message);
        self.run_instant(now);
        Ok(hash)
    }

    fn take_gift(&mut self, to: Address, lt: u64, minted: NanoTon, message: Cell) {
        self.minted = minted;
        self.last_gift_lt = lt;
        self.from_outside.push(message.clone());
        self.queue(to, lt, message);
    }

    /// Moves the chain's clock forward, once and for all: `now` counts from there on.
    pub fn travel(&mut self, now: Duration, by: Duration) {
        self.advance(now);
        self.ahead = self.ahead.saturating_add(by);
        self.advance(now);
    }

    /// Changes how often blocks come from `now` on.
    pub fn set_pace(&mut self, now: Duration, pace: Pace) {
        self.advance(now);
        if self.pace == Pace::Instant {
            // No block was due before: those of the new pace come from now on.
            let time = self.time(now).max(self.line.head_time());
            self.line.pass_to(self.line.head(), time);
        }
        self.pace = pace;
        self.run_instant(now);
    }

    /// Where the chain is in time.
    #[must_use]
    pub fn mark(&self) -> Mark {
        let (head, head_time) = (self.line.head(), self.line.head_time());
        Mark { head, head_time, ahead: self.ahead, pace: self.pace }
    }

    /// Goes on from where the chain was.
    ///
    /// # Errors
    /// [`ReplayError::Order`] if that is before the newest block.
    pub fn resume(&mut self, mark: Mark) -> Result<(), ReplayError> {
        if mark.head < self.line.head() || mark.head_time < self.line.head_time() {
            return Err(ReplayError::Order { seqno: mark.head, head: self.line.head() });
        }
        self.line.pass_to(mark.head, mark.head_time);
        self.ahead = mark.ahead;
        self.pace = mark.pace;
        Ok(())
    }

    /// Makes a block again that was made before.
    ///
    /// # Errors
    /// [`ReplayError`] if it does not come out the same.
    pub fn replay(&mut self, recorded: &Block) -> Result<(), ReplayError> {
        let (seqno, head) = (recorded.seqno, self.line.head());
        if seqno <= head || recorded.time < self.line.head_time() {
            return Err(ReplayError::Order { seqno, head });
        }
        for message in &recorded.messages {
            if let Ok(message) = ExternalMessage::from_cell(message.clone()) {
                self.from_outside.push(message.cell.clone());
                self.externals.push_back(message);
            } else {
                let (to, lt, amount) = gift_parts(message).ok_or(ReplayError::Message { seqno })?;
                let minted = self.minted.checked_add(amount).ok().filter(|minted| *minted <= MINTED_MAX);
                self.take_gift(to, lt, minted.ok_or(ReplayError::Message { seqno })?, message.clone());
            }
        }
        self.line.pass_to(seqno, recorded.time);
        let computed = self.fill_head();
        if computed == recorded.hash {
            return Ok(());
        }
        Err(ReplayError::Diverged { seqno, recorded: recorded.hash, computed })
    }

    fn check_room(&self) -> Result<(), SubmitError> {
        if self.from_outside.len() >= WAITING_MAX { Err(SubmitError::Full) } else { Ok(()) }
    }

    fn queue(&mut self, to: Address, lt: u64, message: Cell) {
        self.internals.insert((lt, self.queued), (to, message));
        self.queued += 1;
    }

    fn run_instant(&mut self, now: Duration) {
        if self.pace != Pace::Instant {
            return;
        }
        for _block in 0..INSTANT_BLOCKS_MAX {
            let Some(seqno) = self.line.head().get().checked_add(1).filter(|_| self.has_work()) else {
                return;
            };
            let time = self.time(now).max(self.line.head_time());
            self.line.pass_to(BlockSeqno::new(seqno), time);
            self.fill_head();
        }
    }

    /// Executes what waits in the newest block, which is empty so far: first what accounts sent to each other, so that all
    /// consequences of a message from outside come before the next one.
    fn fill_head(&mut self) -> BlockHash {
        let moment = self.moment(self.line.head(), self.line.head_time());
        let mut transactions = Vec::new();
        while transactions.len() < TRANSACTIONS_MAX {
            let (to, message, is_external) = if let Some((_order, (to, message))) = self.internals.pop_first()
            {
                (to, message, false)
            } else if let Some(message) = self.externals.pop_front() {
                (message.to, message.cell, true)
            } else {
                break;
            };
            match self.execute(&moment, to, &message, is_external) {
                Ok(transaction) => transactions.push(transaction),
                Err(error @ NotExecuted::NotAccepted { .. }) => {
                    tracing::debug!(%error, "an external message was accepted before, and is not any more");
                }
                Err(error) => tracing::error!(%error, "a message could not be executed and is gone"),
            }
        }
        self.waiting = self.externals.iter().map(|m| MessageHash::new(m.cell.repr_hash().0)).collect();
        let messages = std::mem::take(&mut self.from_outside);
        self.line.fill(messages, transactions).hash
    }

    fn execute(
        &mut self,
        moment: &Moment,
        account: Address,
        message: &Cell,
        is_external: bool,
    ) -> Result<TransactionId, NotExecuted> {
        let before =
            self.state_or_unknown(&account).map_err(|error| NotExecuted::Impossible(error.into()))?;
        let Executed { account: after, transaction: cell, out_messages, .. } =
            execute(&self.config, moment, &account, message, is_external, &before)?;
        let lt = LogicalTime::new(after.last_trans_lt);
        let hash = TransactionHash::new(cell.repr_hash().0);
        let in_message = MessageHash::new(message.repr_hash().0);
        let block = self.line.head();
        self.accounts.record(after, StoredTransaction { account, lt, hash, block, in_message, cell });
        if is_external && let Some(alias) = normalised_hash(message) {
            self.accounts.alias(alias, account, lt);
        }
        for message in out_messages {
            if let Some((to, lt)) = internal_route(&message) {
                self.queue(to, lt, message);
            }
        }
        Ok(TransactionId { account, lt, hash })
    }

    fn state_or_unknown(&self, account: &Address) -> Result<ShardAccount, CellError> {
        self.accounts.state(account).cloned().map_or_else(unknown_account, Ok)
    }

    /// The chain's time when the outside says `now`.
    #[must_use]
    pub fn time(&self, now: Duration) -> Duration {
        now.saturating_add(self.ahead)
    }

    fn moment(&self, seqno: BlockSeqno, time: Duration) -> Moment {
        let lt = start_lt(seqno).get();
        Moment {
            unix_time: unix_seconds(time),
            block_lt: lt,
            min_lt: lt,
            seed: self.line.random_seed(seqno),
            ignore_signatures: false,
        }
    }

    /// What a transaction would see in the next block.
    #[must_use]
    pub fn next_moment(&self, now: Duration) -> Moment {
        let next = BlockSeqno::new(self.line.head().get().saturating_add(1));
        self.moment(next, self.time(now).max(self.line.head_time()))
    }
}

#[cfg(test)]
mod tests;
