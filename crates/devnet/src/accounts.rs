//! Accounts with their histories.

use std::collections::HashMap;

use ton::Address;
use tycho_types::cell::Cell;
use tycho_types::models::ShardAccount;
use units::{BlockSeqno, LogicalTime, MessageHash, TransactionHash};

/// A transaction that happened.
#[derive(Clone, Debug)]
pub struct StoredTransaction {
    /// The account.
    pub account: Address,
    /// Its logical time.
    pub lt: LogicalTime,
    /// The hash of [`Self::cell`].
    pub hash: TransactionHash,
    /// The block it is in.
    pub block: BlockSeqno,
    /// The message that led to it.
    pub in_message: MessageHash,
    /// `transaction#7` in TL-B.
    pub cell: Cell,
}

/// An account and all that happened to it, the oldest first.
#[derive(Clone, Debug)]
struct History {
    state: ShardAccount,
    transactions: Vec<StoredTransaction>,
}

/// All accounts that ever had a transaction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    histories: HashMap<Address, History>,
    /// Where a message arrived.
    arrivals: HashMap<MessageHash, (Address, LogicalTime)>,
}

impl Accounts {
    pub(crate) fn state(&self, account: &Address) -> Option<&ShardAccount> {
        self.histories.get(account).map(|history| &history.state)
    }

    pub(crate) fn record(&mut self, state: ShardAccount, transaction: StoredTransaction) {
        let account = transaction.account;
        self.arrivals.entry(transaction.in_message).or_insert((account, transaction.lt));
        match self.histories.get_mut(&account) {
            Some(history) => {
                history.state = state;
                history.transactions.push(transaction);
            }
            None => {
                self.histories.insert(account, History { state, transactions: vec![transaction] });
            }
        }
    }

    /// Another hash under which the transaction's message is known.
    pub(crate) fn alias(&mut self, message: MessageHash, account: Address, lt: LogicalTime) {
        self.arrivals.entry(message).or_insert((account, lt));
    }

    /// At most `limit` transactions of `account`, the oldest of them first: those up to `from` and after `after`, the newest of
    /// them if there are more.
    pub(crate) fn transactions(
        &self,
        account: &Address,
        from: Option<LogicalTime>,
        after: LogicalTime,
        limit: usize,
    ) -> &[StoredTransaction] {
        let Some(history) = self.histories.get(account) else { return &[] };
        let all = &history.transactions;
        let end = from.map_or(all.len(), |from| all.partition_point(|transaction| transaction.lt <= from));
        let start = all.partition_point(|transaction| transaction.lt <= after).min(end);
        &all[start.max(end.saturating_sub(limit))..end]
    }

    pub(crate) fn transaction(&self, account: &Address, lt: LogicalTime) -> Option<&StoredTransaction> {
        let all = &self.histories.get(account)?.transactions;
        all.binary_search_by_key(&lt, |transaction| transaction.lt).ok().and_then(|index| all.get(index))
    }

    pub(crate) fn arrival(&self, message: &MessageHash) -> Option<&StoredTransaction> {
        let (account, lt) = self.arrivals.get(message)?;
        self.transaction(account, *lt)
    }
}
