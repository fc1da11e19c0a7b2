//! The books as the journal tells them: totals of every account, and where the journal continues.

use ton::Address;
use ton::states::ContractState;
use units::AdjustedTokens;

use super::header::hexadecimal;
use super::record::Record;
use super::{CommitNumber, Identity, JournalError, SegmentNumber};
use crate::anchor::Intent;
use crate::book::TOTAL_MAX;
use crate::{ClientFunds, Followed, WorkerContract};

/// Where a segment or a snapshot stands in the life of the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The next segment.
    pub segment: SegmentNumber,
    /// The next commit.
    pub commit: CommitNumber,
    /// The chain head after everything before.
    pub head: [u8; 32],
}

impl Position {
    /// Before the first commit.
    pub const GENESIS: Self =
        Self { segment: SegmentNumber::new(0), commit: CommitNumber::FIRST, head: [0; 32] };
}

/// All accounts at one position of the journal, in the order in which they were opened.
///
/// This is the form for recovery and for snapshots; [`crate::Ledger`] is the one to work with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Books {
    identity: Identity,
    at: Position,
    pub(crate) clients: Vec<ClientEntry>,
    pub(crate) workers: Vec<WorkerEntry>,
    pub(crate) tokens: AdjustedTokens,
    pub(crate) followed: Option<Followed>,
    pub(crate) confirmed: Option<Intent>,
    pub(crate) pending: Vec<Intent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientEntry {
    pub(crate) owner: Address,
    pub(crate) funds: ClientFunds,
    pub(crate) brought_forward: AdjustedTokens,
    pub(crate) charged: AdjustedTokens,
    pub(crate) state: ContractState,
    pub(crate) secret_hash: [u8; 32],
    pub(crate) is_on_chain: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkerEntry {
    pub(crate) owner: Address,
    pub(crate) earned: AdjustedTokens,
    pub(crate) brought_forward: AdjustedTokens,
    pub(crate) contract: Option<WorkerContract>,
}

impl Books {
    /// Empty books before the first commit.
    #[must_use]
    pub const fn new(identity: Identity) -> Self {
        Self::at(identity, Position::GENESIS)
    }

    pub(super) const fn at(identity: Identity, at: Position) -> Self {
        Self {
            identity,
            at,
            clients: Vec::new(),
            workers: Vec::new(),
            tokens: AdjustedTokens::ZERO,
            followed: None,
            confirmed: None,
            pending: Vec::new(),
        }
    }

    /// Whose books these are.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where the journal continues.
    #[must_use]
    pub const fn position(&self) -> &Position {
        &self.at
    }

    /// How many clients and workers have an account.
    #[must_use]
    pub const fn accounts_len(&self) -> (usize, usize) {
        (self.clients.len(), self.workers.len())
    }

    /// Everything that was charged.
    #[must_use]
    pub const fn tokens(&self) -> AdjustedTokens {
        self.tokens
    }

    pub(super) fn continue_at(&mut self, at: Position) {
        self.at = at;
    }

    /// Whether a segment at `found` is the one that comes next.
    pub(super) fn expect_at(&self, found: &Position) -> Result<(), JournalError> {
        let expected = &self.at;
        if found.segment != expected.segment {
            return Err(JournalError::Segment { expected: expected.segment, found: found.segment });
        }
        if found.head != expected.head {
            let (expected, found) = (hexadecimal(&expected.head), hexadecimal(&found.head));
            return Err(JournalError::Chain { expected, found });
        }
        if found.commit != expected.commit {
            return Err(JournalError::Commit { offset: 0, expected: expected.commit, found: found.commit });
        }
        Ok(())
    }

    /// Adds what one record says.
    pub(super) fn apply(&mut self, record: &Record) -> Result<(), &'static str> {
        match *record {
            Record::Client { client, funds, brought_forward } => {
                self.clients.push(ClientEntry {
                    owner: client,
                    funds,
                    brought_forward,
                    charged: AdjustedTokens::ZERO,
                    state: ContractState::Normal,
                    secret_hash: [0; 32],
                    is_on_chain: false,
                });
            }
            Record::Funds { client, funds } => {
                let entry =
                    entry(&mut self.clients, client).ok_or("funds of a client that was not opened")?;
                entry.funds = funds;
                let unknown_here = funds.tokens_used.saturating_sub(entry.charged);
                entry.brought_forward = entry.brought_forward.max(unknown_here);
            }
            Record::Worker { worker } => {
                let (earned, brought_forward) = (AdjustedTokens::ZERO, AdjustedTokens::ZERO);
                self.workers.push(WorkerEntry { owner: worker, earned, brought_forward, contract: None });
            }
            Record::ClientContract { client, state, secret_hash } => {
                let entry =
                    entry(&mut self.clients, client).ok_or("the contract of a client that was not opened")?;
                (entry.state, entry.secret_hash, entry.is_on_chain) = (state, secret_hash, true);
            }
            Record::WorkerContract { worker, contract } => {
                let entry =
                    entry(&mut self.workers, worker).ok_or("the contract of a worker that was not opened")?;
                entry.contract = Some(contract);
                let unknown_here = contract.paid.saturating_sub(entry.earned);
                entry.brought_forward = entry.brought_forward.max(unknown_here);
            }
            Record::Followed(transaction) => self.followed = Some(transaction),
            Record::Anchor { anchor } => {
                let newest = self.pending.last().or(self.confirmed.as_ref());
                if newest.is_some_and(|newest| newest.anchor.number >= anchor.number) {
                    return Err("an anchor that is not newer than the one before");
                }
                self.pending.push(Intent { anchor, tokens: self.tokens });
            }
            Record::Anchored { number } => {
                let intent = self.pending.iter().find(|intent| intent.anchor.number == number);
                let intent = *intent.ok_or("the confirmation of an anchor that was not recorded")?;
                self.pending.retain(|pending| pending.anchor.number > number);
                self.confirmed = Some(intent);
            }
            Record::Charge { client, worker, tokens } => {
                let client = entry(&mut self.clients, client).ok_or("a charge to a client not opened")?;
                let worker = entry(&mut self.workers, worker).ok_or("a charge for a worker not opened")?;
                let too_large = "a charge beyond the range of totals";
                let add = |total: AdjustedTokens| {
                    total.checked_add(tokens).ok().filter(|sum| *sum <= TOTAL_MAX).ok_or(too_large)
                };
                client.charged = add(client.charged)?;
                worker.earned = add(worker.earned)?;
                self.tokens = add(self.tokens)?;
            }
        }
        Ok(())
    }
}

fn entry<T>(entries: &mut [T], number: u64) -> Option<&mut T> {
    usize::try_from(number).ok().and_then(|number| entries.get_mut(number))
}
