//! One client's and one worker's side of the book.

use ton::states::ContractState;
use units::{AdjustedTokens, NanoTon};

use crate::facts::{ClientContract, WorkerContract};

/// What the chain says about a client: facts that the caller has verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientFunds {
    /// Balance of the client's contract.
    pub balance: NanoTon,
    /// The part of it that may be consumed before the next charge on chain.
    pub stake: NanoTon,
    /// Tokens that charges on chain already covered, since the contract exists.
    pub tokens_used: AdjustedTokens,
}

/// How far a client may go, in adjusted tokens counted from the contract's first day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Everything the client has paid for.
    pub payed: AdjustedTokens,
    /// How far its stake reaches beyond the last charge on chain.
    pub staked: AdjustedTokens,
    /// What its requests have cost.
    pub used: AdjustedTokens,
    /// What its running requests may still cost.
    pub reserved: AdjustedTokens,
    /// What is left for new requests: the lower of the two limits, less what is used and reserved.
    pub available: AdjustedTokens,
    /// How many requests run.
    pub running: u32,
}

/// What a worker has earned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerTotals {
    /// All earnings, in adjusted tokens since the contract exists.
    pub earned: AdjustedTokens,
    /// How many requests run.
    pub running: u32,
}

/// Tokens that one nanoton buys in a network without a price: the number deployed proxies use.
const TOKENS_WHEN_FREE: AdjustedTokens = AdjustedTokens::new(1_000_000_000_000);

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClientAccount {
    pub(crate) funds: ClientFunds,
    pub(crate) state: ContractState,
    pub(crate) secret_hash: [u8; 32],
    /// The chain has shown the contract.
    pub(crate) is_on_chain: bool,
    /// Known from the chain when the account was opened, not charged by this ledger.
    pub(crate) brought_forward: AdjustedTokens,
    pub(crate) charged: AdjustedTokens,
    pub(crate) reserved: AdjustedTokens,
    pub(crate) running: u32,
    /// The name of the account in the journal; `None` while there is nothing to record of it.
    pub(crate) number: Option<u32>,
}

impl ClientAccount {
    pub(crate) fn used(&self) -> AdjustedTokens {
        self.brought_forward
            .checked_add(self.charged)
            .expect("a hold is refused when the total it could lead to does not fit")
    }

    pub(crate) const fn contract(&self) -> ClientContract {
        ClientContract { funds: self.funds, state: self.state, secret_hash: self.secret_hash }
    }

    /// Tokens that the chain counts and this ledger does not.
    pub(crate) fn bring_forward(&mut self) {
        let unknown_here = self.funds.tokens_used.saturating_sub(self.charged);
        self.brought_forward = self.brought_forward.max(unknown_here);
    }

    /// The two limits of the deployed network: a client cannot run more than it paid for, nor more than its
    /// stake beyond the last charge on chain. Both divisions round down, in favour of the worker. A client that
    /// leaves can run nothing new.
    pub(crate) fn limits(&self, price: NanoTon) -> ClientLimits {
        let reach = |amount: NanoTon| {
            let tokens = amount.buys(price).unwrap_or(TOKENS_WHEN_FREE);
            tokens.checked_add(self.funds.tokens_used).unwrap_or(AdjustedTokens::new(u64::MAX))
        };
        let (payed, staked) = (reach(self.funds.balance), reach(self.funds.stake));
        let available = match self.state {
            ContractState::Normal => {
                payed.min(staked).saturating_sub(self.reserved).saturating_sub(self.used())
            }
            ContractState::Closing | ContractState::Closed => AdjustedTokens::ZERO,
        };
        ClientLimits {
            payed,
            staked,
            used: self.used(),
            reserved: self.reserved,
            available,
            running: self.running,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WorkerAccount {
    pub(crate) earned: AdjustedTokens,
    /// Paid out on chain, not earned by this ledger.
    pub(crate) brought_forward: AdjustedTokens,
    /// `None` until the chain has shown it.
    pub(crate) contract: Option<WorkerContract>,
    pub(crate) running: u32,
    /// As in [`ClientAccount`].
    pub(crate) number: Option<u32>,
}

impl WorkerAccount {
    /// Everything that the worker was ever owed.
    pub(crate) fn total(&self) -> AdjustedTokens {
        self.brought_forward
            .checked_add(self.earned)
            .expect("a hold is refused when the total it could lead to does not fit")
    }

    pub(crate) fn totals(&self) -> WorkerTotals {
        WorkerTotals { earned: self.total(), running: self.running }
    }

    /// As for clients.
    pub(crate) fn bring_forward(&mut self) {
        let paid = self.contract.map_or(AdjustedTokens::ZERO, |contract| contract.paid);
        self.brought_forward = self.brought_forward.max(paid.saturating_sub(self.earned));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(balance: u64, stake: u64, used_on_chain: u64, charged: u64, reserved: u64) -> ClientAccount {
        let tokens = AdjustedTokens::new;
        ClientAccount {
            funds: ClientFunds {
                balance: NanoTon::new(balance),
                stake: NanoTon::new(stake),
                tokens_used: tokens(used_on_chain),
            },
            brought_forward: tokens(used_on_chain),
            charged: tokens(charged),
            reserved: tokens(reserved),
            ..ClientAccount::default()
        }
    }

    #[test]
    fn the_lower_of_balance_and_stake_limits_a_client() {
        let price = NanoTon::new(2);
        let by_stake = account(2001, 1001, 100, 30, 7).limits(price);
        assert_eq!((by_stake.payed.get(), by_stake.staked.get()), (1100, 600));
        assert_eq!((by_stake.used.get(), by_stake.available.get()), (130, 600 - 7 - 130));
        let by_balance = account(1001, 2001, 100, 30, 7).limits(price);
        assert_eq!(by_balance.available.get(), 600 - 7 - 130);
    }

    /// The figures of a deployed proxy after seven requests.
    #[test]
    fn a_recorded_balance_comes_out() {
        let limits = account(1_000_000_000, 1_000_000_000, 0, 1468, 0).limits(NanoTon::new(2));
        assert_eq!(limits.available.get(), 499_998_532);
    }

    #[test]
    fn a_debt_leaves_nothing_available() {
        assert_eq!(account(10, 10, 0, 6, 0).limits(NanoTon::new(2)).available, AdjustedTokens::ZERO);
    }

    #[test]
    fn a_client_that_leaves_has_nothing_available() {
        for (state, available) in
            [(ContractState::Normal, 500), (ContractState::Closing, 0), (ContractState::Closed, 0)]
        {
            let leaving = ClientAccount { state, ..account(1000, 1000, 0, 0, 0) };
            assert_eq!(leaving.limits(NanoTon::new(2)).available.get(), available, "{state:?}");
        }
    }

    #[test]
    fn a_network_without_a_price_has_a_limit_too() {
        assert_eq!(account(0, 0, 5, 0, 0).limits(NanoTon::ZERO).available.get(), 1_000_000_000_000);
    }
}
