//! The books as the journal tells them: totals of every account, and where the journal continues.

use ton::Address;
use units::AdjustedTokens;

use super::header::hexadecimal;
use super::record::Record;
use super::{CommitNumber, Identity, JournalError, SegmentNumber};
use crate::ClientFunds;
use crate::book::TOTAL_MAX;

/// Where a segment or a snapshot stands in the life of the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The next segment.
    pub segment: SegmentNumber,
    /// The next commit.
    pub commit: CommitNumber,
    /// The chain head after everything before.
    pub head: [u8; 32],
    /// What the chain knows of these books; zero while there is none.
    pub anchor: [u8; 32],
}

impl Position {
    /// Before the first commit.
    pub const GENESIS: Self =
        Self { segment: SegmentNumber::new(0), commit: CommitNumber::FIRST, head: [0; 32], anchor: [0; 32] };
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientEntry {
    pub(crate) owner: Address,
    pub(crate) funds: ClientFunds,
    pub(crate) brought_forward: AdjustedTokens,
    pub(crate) charged: AdjustedTokens,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkerEntry {
    pub(crate) owner: Address,
    pub(crate) earned: AdjustedTokens,
}

impl Books {
    /// Empty books before the first commit.
    #[must_use]
    pub const fn new(identity: Identity) -> Self {
        Self::at(identity, Position::GENESIS)
    }

    pub(super) const fn at(identity: Identity, at: Position) -> Self {
        Self { identity, at, clients: Vec::new(), workers: Vec::new(), tokens: AdjustedTokens::ZERO }
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
                let charged = AdjustedTokens::ZERO;
                self.clients.push(ClientEntry { owner: client, funds, brought_forward, charged });
            }
            Record::Funds { client, funds } => {
                let entry =
                    entry(&mut self.clients, client).ok_or("funds of a client that was not opened")?;
                entry.funds = funds;
                let unknown_here = funds.tokens_used.saturating_sub(entry.charged);
                entry.brought_forward = entry.brought_forward.max(unknown_here);
            }
            Record::Worker { worker } => {
                self.workers.push(WorkerEntry { owner: worker, earned: AdjustedTokens::ZERO });
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
