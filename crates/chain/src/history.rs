//! The transactions of an account since a known one, oldest first, each linked to the one before by its hash.
//!
//! Servers list the newest first, a page at a time. [`Walk`] goes back from the account's newest transaction to the
//! known one and remembers only where pages begin; then it goes forward again and hands out page after page. So a
//! history of any length takes little memory, and whoever floods an account with messages of a nanoton
//! costs two requests for each page of 50 of them.
//!
//! A transaction holds logical time and hash of the one before, so a server can leave none out, invent none and
//! reorder none between the known one and the one it calls the newest. It can still hide what is newest, or invent a
//! whole end: then the next honest answer does not lead back to what was seen ([`Lie::Forked`]).

use ton::Address;
use units::LogicalTime;

use crate::transaction::{Transaction, TransactionError, TransactionId};

/// Transactions that are asked for at once, unless an answer with so many is too long.
pub(crate) const PAGE_LEN_MAX: usize = 50;
/// Pages between the known transaction and the newest.
const PAGES_MAX: usize = 100_000;

/// A server said what cannot be true. Its answers are worth nothing; ask another one.
#[derive(Debug, thiserror::Error)]
pub enum Lie {
    /// What it gave as a transaction is none of this account.
    #[error("account {account}: the server gave what is no transaction of it")]
    NoTransaction {
        /// The account.
        account: Address,
        /// Why not.
        source: Box<TransactionError>,
    },
    /// Another transaction than the one that must come next.
    #[error(
        "account {account}: the server gave transaction {} at {} where {} at {} must be: it left out, reordered or invented some",
        .found.hash, .found.lt, .expected.hash, .expected.lt
    )]
    Broken {
        /// The account.
        account: Address,
        /// Which the one behind it names.
        expected: TransactionId,
        /// Which was given.
        found: TransactionId,
    },
    /// Nothing where a transaction must be.
    #[error("account {account}: the server knows no transaction {} at {}, which a later one names", .expected.hash, .expected.lt)]
    Missing {
        /// The account.
        account: Address,
        /// Which the one behind it names.
        expected: TransactionId,
    },
    /// The newest transactions do not follow from those seen before.
    #[error(
        "account {account}: its transactions do not follow from {} at {}, which was seen before: this answer or an earlier one is invented",
        .seen.hash, .seen.lt
    )]
    Forked {
        /// The account.
        account: Address,
        /// What was seen before.
        seen: TransactionId,
    },
    /// An account that changed, by what it says, without a transaction.
    #[error(
        "account {account}: the server tells of another balance, code or data without a transaction since"
    )]
    Changed {
        /// The account.
        account: Address,
    },
    /// Logical times that do not grow.
    #[error("account {account}: transaction {lt} names a later one as the one before it")]
    Order {
        /// The account.
        account: Address,
        /// Of the transaction.
        lt: LogicalTime,
    },
}

/// More transactions than anybody can have waited for.
#[derive(Debug, thiserror::Error)]
#[error("account {account} has more than {} transactions since the last one seen", PAGES_MAX * PAGE_LEN_MAX)]
pub struct TooMany {
    account: Address,
}

/// Why a walk ended.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The server lies.
    #[error(transparent)]
    Lie(#[from] Lie),
    /// There is too much to read.
    #[error(transparent)]
    TooMany(#[from] TooMany),
}

/// What a walk wants.
#[derive(Debug)]
pub(crate) enum Step {
    /// Transactions from this one on, the newest first.
    Ask(TransactionId),
    /// These are next, the oldest first.
    Deliver(Vec<Transaction>),
    /// All are delivered.
    Done,
}

/// On the way from an account's newest transaction back to a known one, or forward again.
#[derive(Debug)]
pub(crate) struct Walk {
    account: Address,
    /// What was delivered last; none before the account's first.
    known: Option<TransactionId>,
    /// Where the pages begin that were seen on the way back, the newest first.
    starts: Vec<TransactionId>,
    is_on_way_back: bool,
    /// What was read since the last delivery, the newest first.
    read: Vec<Transaction>,
    /// What must come next; none when `read` leads to `known`.
    expected: Option<TransactionId>,
}

impl Walk {
    /// From `newest` back to `known`, which is an earlier one or none.
    pub(crate) fn new(account: Address, known: Option<TransactionId>, newest: TransactionId) -> Self {
        let (starts, read) = (Vec::new(), Vec::new());
        Self { account, known, starts, is_on_way_back: true, read, expected: Some(newest) }
    }

    /// What to do next. After [`Step::Ask`], hand in the answer.
    pub(crate) fn step(&mut self) -> Step {
        if let Some(expected) = self.expected {
            return Step::Ask(expected);
        }
        let Some(newest) = self.read.first() else { return Step::Done };
        self.known = Some(newest.id);
        self.is_on_way_back = false;
        self.expected = self.starts.pop();
        let mut page = std::mem::take(&mut self.read);
        page.reverse();
        Step::Deliver(page)
    }

    /// Whether all is delivered.
    pub(crate) fn is_over(&self) -> bool {
        self.expected.is_none() && self.read.is_empty()
    }

    /// Takes an answer: bags of cells, the newest first. What leads beyond the known transaction is ignored.
    ///
    /// # Errors
    /// [`WalkError`]; what was delivered before stands.
    pub(crate) fn take(&mut self, answer: &[Vec<u8>]) -> Result<(), WalkError> {
        let account = self.account;
        let Some(first) = self.expected else { return Ok(()) };
        if answer.is_empty() {
            return Err(Lie::Missing { account, expected: first }.into());
        }
        for boc in answer {
            let Some(expected) = self.expected else { break };
            let transaction = Self::check(&account, expected, boc)?;
            let previous = transaction.previous;
            self.expected = self.before(previous)?;
            self.read.push(transaction);
        }
        if self.is_on_way_back && self.expected.is_some() {
            if self.starts.len() == PAGES_MAX {
                return Err(TooMany { account }.into());
            }
            self.starts.push(first);
            self.read.clear();
        }
        Ok(())
    }

    /// Reads the transaction that must be `expected`.
    pub(crate) fn check(account: &Address, expected: TransactionId, boc: &[u8]) -> Result<Transaction, Lie> {
        let account = *account;
        let transaction = Transaction::from_boc(&account, boc)
            .map_err(|source| Lie::NoTransaction { account, source: source.into() })?;
        let found = transaction.id;
        if found != expected {
            return Err(Lie::Broken { account, expected, found });
        }
        if transaction.previous.is_some_and(|previous| previous.lt >= found.lt) {
            return Err(Lie::Order { account, lt: found.lt });
        }
        Ok(transaction)
    }

    /// What must come next, if anything: a transaction names `previous` as the one before it.
    fn before(&self, previous: Option<TransactionId>) -> Result<Option<TransactionId>, Lie> {
        let account = self.account;
        if previous == self.known {
            return Ok(None);
        }
        match self.known {
            Some(seen) if previous.is_none_or(|previous| previous.lt <= seen.lt) => {
                Err(Lie::Forked { account, seen })
            }
            _ => Ok(previous),
        }
    }
}

#[cfg(test)]
mod tests;
