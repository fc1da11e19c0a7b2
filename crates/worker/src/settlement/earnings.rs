//! What was earned, as an operator wants to see it.

use ton::Address;
use units::{AdjustedTokens, NanoTon};

use super::{Failure, Known, Settlement};

/// What one proxy owes and has paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earnings {
    /// The proxy contract.
    pub proxy: Address,
    /// The worker contract under it.
    pub worker: Address,
    /// The params that both follow from.
    pub params_version: u32,
    /// Signed by the proxy, in all.
    pub signed: AdjustedTokens,
    /// Paid out by the contract, in all.
    pub paid: AdjustedTokens,
    /// What the next payout would bring; zero while it is not known.
    pub unpaid: NanoTon,
    /// What was paid out in all, at this contract's fee; zero while that is not known.
    pub paid_out: NanoTon,
    /// The contract.
    pub stand: Stand,
    /// Whether an order is under way.
    pub is_busy: bool,
    /// Why the last order failed, or none is given.
    pub failure: Option<Failure>,
}

/// A worker contract as of the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// It was not read yet.
    Unread,
    /// It is not deployed yet.
    Absent,
    /// It pays.
    Open,
    /// It has made its last payout.
    Closed,
    /// Something else is there.
    Other,
}

impl Stand {
    /// In one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unread => "unread",
            Self::Absent => "not deployed",
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Other => "another contract",
        }
    }
}

impl Settlement {
    /// What was earned, contract by contract.
    #[must_use]
    pub fn earnings(&self) -> Vec<Earnings> {
        let earnings = self.entries.values().map(|entry| Earnings {
            proxy: entry.owed.proxy,
            worker: entry.owed.worker,
            params_version: entry.owed.params_version,
            signed: entry.owed.payment.tokens,
            paid: entry.paid(),
            unpaid: entry.worth(),
            paid_out: entry.fee.and_then(|fee| fee.charge(entry.paid()).ok()).unwrap_or(NanoTon::ZERO),
            stand: match entry.known {
                Known::Unread => Stand::Unread,
                Known::Absent => Stand::Absent,
                Known::Open { .. } => Stand::Open,
                Known::Closed { .. } => Stand::Closed,
                Known::Other => Stand::Other,
            },
            is_busy: entry.order.is_some() || entry.is_stale,
            failure: entry.failure.or((!entry.is_covered()).then_some(Failure::NotPaid)),
        });
        earnings.collect()
    }
}
