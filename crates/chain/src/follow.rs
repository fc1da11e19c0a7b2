//! Following one account: its transactions as they come, none left out, and its state after them.

use ton::Address;

use crate::account::Account;
use crate::history::{Lie, PAGE_LEN_MAX, Step, TooMany, Walk, WalkError};
use crate::provider::{Provider, ProviderError};
use crate::transaction::{Transaction, TransactionId};

/// Follows an account through one server. What was handed out is never handed out again.
#[derive(Debug)]
pub struct Follower {
    account: Address,
    behind: Behind,
    /// The newest state whose transactions are all handed out.
    state: Option<Account>,
    walk: Option<(Walk, Account)>,
    page_len: usize,
    /// How often in a row another state than that was told, without a transaction that changed it.
    changed: u32,
}

/// As often another state is a lie; told once more, it was the first one that was made up.
const CHANGED_MAX: u32 = 2;

/// What is behind us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// Everything until the first look.
    Now,
    /// Everything up to this transaction; nothing at all if there is none.
    After(Option<TransactionId>),
}

/// What a look at an account gave.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// Transactions that came, the oldest first; a page of them at most.
    pub transactions: Vec<Transaction>,
    /// The account after them; none while there are more to come, which the next look gives.
    pub account: Option<Account>,
}

/// Why a look at an account gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// No answer, or none of use. The next look goes on where this one ended; after a refusal, behind what was handed out.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// An answer that cannot be true. The next look begins anew behind what was handed out.
    #[error(transparent)]
    Lie(#[from] Lie),
    /// The account is flooded.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// The server is behind what it said before, or behind what another one said.
    #[error(
        "account {account}: the newest transaction that the server knows is at {known}, one at {seen} was seen before: it \
         is behind, ask again later or another one"
    )]
    Stale {
        /// The account.
        account: Address,
        /// The logical time of its newest one.
        known: u64,
        /// The logical time of ours.
        seen: u64,
    },
}

impl FollowError {
    /// Whether the server knows another past of the account than the one that was handed out.
    #[must_use]
    pub(crate) const fn is_of_another_past(&self) -> bool {
        matches!(self, Self::Stale { .. } | Self::Lie(Lie::Forked { .. }))
    }
}

impl Behind {
    fn transaction(self) -> Option<TransactionId> {
        match self {
            Self::Now => None,
            Self::After(seen) => seen,
        }
    }
}

impl Follower {
    /// From the account's first transaction on.
    #[must_use]
    pub fn from_first(account: Address) -> Self {
        Self::new(account, Behind::After(None))
    }

    /// From what is new after the first look on, which gives the account's state only.
    #[must_use]
    pub fn from_now(account: Address) -> Self {
        Self::new(account, Behind::Now)
    }

    /// From what came after a transaction that was handed out in an earlier life.
    #[must_use]
    pub fn after(account: Address, seen: TransactionId) -> Self {
        Self::new(account, Behind::After(Some(seen)))
    }

    fn new(account: Address, behind: Behind) -> Self {
        Self { account, behind, state: None, walk: None, page_len: PAGE_LEN_MAX, changed: 0 }
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> &Address {
        &self.account
    }

    /// The last transaction handed out, to go on from in another life.
    #[must_use]
    pub fn seen(&self) -> Option<TransactionId> {
        self.behind.transaction()
    }

    /// Looks once. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`FollowError`].
    pub async fn look(&mut self, provider: &Provider) -> Result<News, FollowError> {
        if self.walk.is_none() {
            let state = provider.account(&self.account).await?;
            if let Some(news) = self.begin(state)? {
                return Ok(news);
            }
        }
        loop {
            let Some((walk, _state)) = &mut self.walk else { return Ok(News::default()) };
            match walk.step() {
                Step::Ask(from) => {
                    let asked = provider.transactions(&self.account, from, self.page_len).await;
                    let answer = match asked {
                        Err(ProviderError::TooLong { .. }) if self.page_len > 1 => {
                            self.page_len /= 2;
                            continue;
                        }
                        // Perhaps there is no such transaction: it was made up, or its block never became final.
                        Err(error @ ProviderError::Refused { .. }) => {
                            self.walk = None;
                            return Err(error.into());
                        }
                        answer => answer?,
                    };
                    self.page_len = (self.page_len * 2).min(PAGE_LEN_MAX);
                    if let Err(error) = walk.take(&answer) {
                        self.walk = None;
                        return Err(error.into());
                    }
                }
                Step::Deliver(transactions) => return Ok(self.deliver(transactions)),
                Step::Done => return Ok(self.deliver(Vec::new())),
            }
        }
    }

    /// Compares a state with what was seen. Gives news at once if there is no transaction to read.
    fn begin(&mut self, state: Account) -> Result<Option<News>, FollowError> {
        let account = self.account;
        if self.behind == Behind::Now {
            self.behind = Behind::After(state.last);
        }
        let seen = self.behind.transaction();
        let (Some(newest), true) = (state.last, state.last != seen) else {
            if state.last != seen {
                return Err(FollowError::Stale { account, known: 0, seen: lt(seen) });
            }
            // Storage fees are taken in transactions too, so nothing changes without one.
            if self.state.as_ref().is_some_and(|before| !before.is_same_state(&state)) {
                self.changed += 1;
                if self.changed <= CHANGED_MAX {
                    return Err(Lie::Changed { account }.into());
                }
            }
            self.changed = 0;
            self.state = Some(state.clone());
            return Ok(Some(News { transactions: Vec::new(), account: Some(state) }));
        };
        if newest.lt.get() < lt(seen) {
            return Err(FollowError::Stale { account, known: newest.lt.get(), seen: lt(seen) });
        }
        if let Some(seen) = seen.filter(|seen| seen.lt == newest.lt) {
            return Err(Lie::Forked { account, seen }.into());
        }
        self.walk = Some((Walk::new(account, seen, newest), state));
        Ok(None)
    }

    fn deliver(&mut self, transactions: Vec<Transaction>) -> News {
        if let Some(last) = transactions.last() {
            self.behind = Behind::After(Some(last.id));
        }
        let is_over = self.walk.as_ref().is_some_and(|(walk, _state)| walk.is_over());
        let ended = if is_over { self.walk.take() } else { None };
        let account = ended.map(|(_walk, state)| state);
        if account.is_some() {
            self.state.clone_from(&account);
        }
        News { transactions, account }
    }
}

/// The newest transactions of an account, up to `count`, the newest first, and the account itself: for people who look.
/// Each names the one that comes next in the list, so none is left out.
///
/// # Errors
/// [`FollowError`].
pub async fn newest(
    provider: &Provider,
    account: &Address,
    count: usize,
) -> Result<(Account, Vec<Transaction>), FollowError> {
    let state = provider.account(account).await?;
    let (mut found, mut expected) = (Vec::new(), state.last);
    while let Some(next) = expected.filter(|_next| found.len() < count) {
        let wanted = (count - found.len()).min(PAGE_LEN_MAX);
        let answer = provider.transactions(account, next, wanted).await?;
        let before = found.len();
        for boc in answer.iter().take(wanted) {
            let Some(expected_now) = expected else { break };
            let transaction = Walk::check(account, expected_now, boc)?;
            expected = transaction.previous;
            found.push(transaction);
        }
        if found.len() == before {
            return Err(Lie::Missing { account: *account, expected: next }.into());
        }
    }
    Ok((state, found))
}

fn lt(seen: Option<TransactionId>) -> u64 {
    seen.map_or(0, |seen| seen.lt.get())
}

impl From<WalkError> for FollowError {
    fn from(error: WalkError) -> Self {
        match error {
            WalkError::Lie(lie) => Self::Lie(lie),
            WalkError::TooMany(many) => Self::TooMany(many),
        }
    }
}
