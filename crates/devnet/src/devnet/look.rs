//! Looking at what is there.

use std::sync::Arc;
use std::time::Duration;

use ton::Address;
use tycho_types::models::ShardAccount;
use units::{BlockSeqno, LogicalTime, MessageHash, NanoTon};

use super::Devnet;
use crate::accounts::StoredTransaction;
use crate::block::{Block, seqno_of_lt};
use crate::network_config::NetworkConfig;

/// None of these makes a block: [`Devnet::advance`] first.
impl Devnet {
    /// Prices and limits.
    #[must_use]
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// The same, to keep.
    #[must_use]
    pub fn shared_config(&self) -> Arc<NetworkConfig> {
        Arc::clone(&self.config)
    }

    /// How far time travel has brought the chain.
    #[must_use]
    pub fn ahead(&self) -> Duration {
        self.ahead
    }

    /// What the faucet has given so far.
    #[must_use]
    pub fn minted(&self) -> NanoTon {
        self.minted
    }

    /// The number of the newest block.
    #[must_use]
    pub fn head(&self) -> BlockSeqno {
        self.line.head()
    }

    /// Block `seqno`, if it has been made.
    #[must_use]
    pub fn block(&self, seqno: BlockSeqno) -> Option<Block> {
        self.line.block(seqno)
    }

    /// The newest block that was there at `time`.
    #[must_use]
    pub fn block_at(&self, time: Duration) -> Option<Block> {
        self.line.block_at(time)
    }

    /// The block in which what has this logical time happens.
    #[must_use]
    pub fn block_of(&self, lt: LogicalTime) -> Option<Block> {
        self.line.block(seqno_of_lt(lt))
    }

    /// The newest block that something happened in, or the first one.
    #[must_use]
    pub fn last_filled(&self) -> &Block {
        self.line.last_kept()
    }

    /// The blocks after number `seqno` that something happened in.
    #[must_use]
    pub fn filled_after(&self, seqno: BlockSeqno) -> &[Block] {
        self.line.kept_after(seqno)
    }

    /// The state of an account after the newest block; `None` if nothing ever happened to it.
    #[must_use]
    pub fn account(&self, account: &Address) -> Option<&ShardAccount> {
        self.accounts.state(account)
    }

    /// At most `limit` transactions of an account, the oldest of them first: those up to `from` (the newest if not said)
    /// and after `after`, the newest of them if there are more.
    #[must_use]
    pub fn transactions(
        &self,
        account: &Address,
        from: Option<LogicalTime>,
        after: LogicalTime,
        limit: usize,
    ) -> &[StoredTransaction] {
        self.accounts.transactions(account, from, after, limit)
    }

    /// One transaction.
    #[must_use]
    pub fn transaction(&self, account: &Address, lt: LogicalTime) -> Option<&StoredTransaction> {
        self.accounts.transaction(account, lt)
    }

    /// The transaction that a message led to. An external message is found by the hash of its cell and by its normalised
    /// hash (TEP-467), under which wallets look for it.
    #[must_use]
    pub fn arrival(&self, message: &MessageHash) -> Option<&StoredTransaction> {
        self.accounts.arrival(message)
    }
}
