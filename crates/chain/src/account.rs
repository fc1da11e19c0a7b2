//! Accounts, as a server tells of them.

use std::time::Duration;

use tycho_types::cell::Cell;
use units::{BlockSeqno, NanoTon};

use crate::transaction::TransactionId;

/// An account as of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Coins on it.
    pub balance: NanoTon,
    /// Its contract.
    pub status: AccountStatus,
    /// Its newest transaction; none if it never had one.
    pub last: Option<TransactionId>,
    /// The block of the masterchain as of which all this holds.
    pub block: BlockSeqno,
    /// The time of that block, since 1970. In whole seconds.
    pub block_time: Duration,
}

/// The contract of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountStatus {
    /// None yet.
    Uninit,
    /// Code and data.
    Active {
        /// What runs.
        code: Option<Cell>,
        /// What it keeps.
        data: Option<Cell>,
    },
    /// One that owes for its storage.
    Frozen,
}

impl Account {
    /// What its contract keeps, if there is one.
    #[must_use]
    pub fn data(&self) -> Option<&Cell> {
        match &self.status {
            AccountStatus::Active { data, .. } => data.as_ref(),
            AccountStatus::Uninit | AccountStatus::Frozen => None,
        }
    }

    /// The code of its contract, if there is one. Its hash says which contract it is.
    #[must_use]
    pub fn code(&self) -> Option<&Cell> {
        match &self.status {
            AccountStatus::Active { code, .. } => code.as_ref(),
            AccountStatus::Uninit | AccountStatus::Frozen => None,
        }
    }

    /// Whether nothing about it differs but the block as of which it is told.
    pub(crate) fn is_same_state(&self, other: &Self) -> bool {
        (&self.balance, &self.status, &self.last) == (&other.balance, &other.status, &other.last)
    }
}
