//! The full walk: the running sums computed again from the accounts.

use std::collections::HashMap;

use ton::Address;
use units::AdjustedTokens;

use crate::Ledger;

/// A sum that the accounts do not confirm: a bug in this crate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: the accounts give {walked}, the ledger says {running}")]
pub struct Imbalance {
    what: &'static str,
    walked: u128,
    running: u128,
}

impl Ledger {
    /// Recomputes every running sum from the accounts. Costs time in proportion to the number of accounts.
    ///
    /// # Errors
    /// [`Imbalance`] names the first sum that differs.
    pub fn audit(&self) -> Result<(), Imbalance> {
        let sums = &self.sums;
        let charged = total(self.clients.values().map(|account| account.charged));
        let earned = total(self.workers.values().map(|account| account.earned));
        let held = total(self.pending.values().map(|pending| pending.amount));
        equal("tokens charged to clients", charged, sums.clients_charged)?;
        equal("tokens earned by workers", earned, sums.workers_earned)?;
        equal("tokens held", held, sums.held)?;

        let mut held_by_client = HashMap::<Address, u128>::new();
        for pending in self.pending.values() {
            let held = held_by_client.entry(pending.client).or_default();
            *held = held.saturating_add(u128::from(pending.amount.get()));
        }
        for (key, account) in &self.clients {
            let held = held_by_client.get(key).copied().unwrap_or_default();
            equal("tokens reserved by one client", held, account.reserved)?;
        }

        // A product of two 64-bit numbers fits 128 bits.
        let prices = &self.prices;
        let nanotons = |price: u64, tokens: u128| tokens.saturating_mul(u128::from(price));
        let paid = nanotons(prices.price_per_token().get(), charged);
        let fees = nanotons(prices.proxy_fee_per_token().get(), charged);
        let worker_pay = nanotons(prices.worker_fee_per_token().get(), earned);
        let balance = |what, walked, running| {
            if walked == running { Ok(()) } else { Err(Imbalance { what, walked, running }) }
        };
        balance("nanotons charged", paid, u128::from(sums.clients_paid.get()))?;
        balance(
            "nanotons earned and kept",
            worker_pay.saturating_add(fees),
            u128::from(sums.clients_paid.get()),
        )
    }
}

fn total(amounts: impl Iterator<Item = AdjustedTokens>) -> u128 {
    amounts.fold(0, |sum, amount| sum.saturating_add(u128::from(amount.get())))
}

fn equal(what: &'static str, walked: u128, running: AdjustedTokens) -> Result<(), Imbalance> {
    let running = u128::from(running.get());
    if walked == running { Ok(()) } else { Err(Imbalance { what, walked, running }) }
}
