//! What a client or worker contract needs next.

use ledger::{Ledger, Party};
use ton::Address;
use ton::states::ContractState;
use units::{AdjustedTokens, NanoTon};

use super::policy::{WORTH_GAS, WORTH_LEAVING};
use super::{ATTEMPTS_MAX, Duty, Settlement};
use crate::core::Now;

/// What is to be done for a party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// There is nothing to do until something changes.
    Nothing,
    /// Something is under way, and its end brings the party up again.
    Patience,
    /// Something will be to do when its requests have ended and may be signed for.
    Later,
    /// An order.
    Order(Duty),
    /// An order that failed too often.
    GiveUp,
}

/// Whether the books show already what an order has done.
pub(super) fn shows(books: &Ledger, duty: &Duty) -> bool {
    let client = |owner| books.client_contract(owner);
    let worker = |owner| books.worker_contract(owner);
    match *duty {
        Duty::Charge { client: owner, tokens } => {
            client(owner).is_some_and(|contract| contract.funds.tokens_used >= tokens)
        }
        Duty::Refund { client: owner, .. } => {
            client(owner).is_some_and(|contract| contract.state == ContractState::Closed)
        }
        Duty::Payout { worker: owner, tokens } => {
            worker(owner).is_some_and(|contract| contract.paid >= tokens)
        }
        Duty::LastPayout { worker: owner, .. } => {
            worker(owner).is_some_and(|contract| contract.state == ContractState::Closed)
        }
        _ => true,
    }
}

impl Settlement {
    pub(super) fn need(&self, books: &Ledger, party: Party, now: Now) -> Need {
        let side = self.sides.get(&party);
        if side.is_some_and(|side| side.order.is_some() || side.awaits_notice) {
            return Need::Patience;
        }
        let gives_up = self.closes() && side.is_some_and(|side| side.failures >= ATTEMPTS_MAX);
        let waits = side.and_then(|side| side.not_before).is_some_and(|at| at > now.instant);
        let need = match party {
            Party::Client(owner) => self.client_need(books, owner),
            Party::Worker(owner) => self.worker_need(books, owner),
        };
        match need.unwrap_or(Need::Nothing) {
            Need::Order(_) if gives_up => Need::GiveUp,
            Need::Order(_) if waits => Need::Patience,
            need => need,
        }
    }

    /// `None` without an account or a contract.
    fn client_need(&self, books: &Ledger, client: Address) -> Option<Need> {
        let contract = books.client_contract(client)?;
        let (tokens, limits) = (books.settled_client(client)?, books.client(client)?);
        let funds = contract.funds;
        if self.closes() || contract.state != ContractState::Normal {
            // What it was charged is forgiven beyond its balance, so nothing is lost by leaving it alone.
            if funds.balance < WORTH_LEAVING {
                return Some(Need::Nothing);
            }
            if limits.running > 0 || tokens < limits.used {
                return Some(Need::Later);
            }
            return Some(Need::Order(Duty::Refund { client, tokens }));
        }
        let owed = value(books.prices().price_per_token(), tokens.saturating_sub(funds.tokens_used));
        let least = self.least(Party::Client(client), self.policy.charge_threshold(&contract));
        Some(if owed.min(funds.balance) >= least {
            Need::Order(Duty::Charge { client, tokens })
        } else {
            self.nothing_yet(Party::Client(client), tokens < limits.used)
        })
    }

    fn worker_need(&self, books: &Ledger, worker: Address) -> Option<Need> {
        let contract = books.worker_contract(worker).unwrap_or_default();
        let (tokens, totals) = (books.settled_worker(worker)?, books.worker(worker)?);
        if contract.state == ContractState::Closed || totals.earned == AdjustedTokens::ZERO {
            let may_earn = totals.running > 0;
            return Some(if may_earn && self.closes() { Need::Later } else { Need::Nothing });
        }
        let owed = value(books.prices().worker_fee_per_token(), tokens.saturating_sub(contract.paid));
        if self.closes() {
            if totals.running > 0 || tokens < totals.earned {
                return Some(Need::Later);
            }
            // His contract would be deployed for less than that costs. He may land what was signed for him himself.
            let is_dust = owed < self.least(Party::Worker(worker), WORTH_GAS);
            if is_dust && books.worker_contract(worker).is_none() {
                return Some(Need::Nothing);
            }
            return Some(Need::Order(Duty::LastPayout { worker, tokens }));
        }
        let least = self.least(Party::Worker(worker), self.policy.payout_at.max(WORTH_GAS));
        Some(if owed >= least {
            Need::Order(Duty::Payout { worker, tokens })
        } else {
            self.nothing_yet(Party::Worker(worker), tokens < totals.earned)
        })
    }

    /// Whoever demands what may not be signed yet gets it when it may.
    fn nothing_yet(&self, party: Party, has_more: bool) -> Need {
        if has_more && self.demanded.contains(&party) { Need::Later } else { Need::Nothing }
    }

    fn least(&self, party: Party, by_policy: NanoTon) -> NanoTon {
        if self.demanded.contains(&party) { NanoTon::new(1) } else { by_policy }
    }
}

/// What tokens cost; what does not fit is more than anything.
fn value(price: NanoTon, tokens: AdjustedTokens) -> NanoTon {
    price.charge(tokens).unwrap_or(NanoTon::new(u64::MAX))
}
