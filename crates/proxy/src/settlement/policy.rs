//! When money moves: amounts that are worth their gas.

use ledger::ClientContract;
use units::NanoTon;

/// Amounts that an operator sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// A client is charged on chain once it owes so much, or half of its stake if that is less. Default: 1 TON.
    pub charge_at: NanoTon,
    /// A worker is paid out once it has earned so much. Default: 10 TON; it may land a payout itself at any time.
    pub payout_at: NanoTon,
    /// The proxy's own earnings are taken out once they are so much. Default: 10 TON.
    pub withdraw_at: NanoTon,
    /// Charges that may be signed beyond the newest anchor, and so be lost with the disk. Default: 1 TON.
    pub at_risk_max: NanoTon,
}

impl Default for Policy {
    fn default() -> Self {
        let ton = |tons: u64| NanoTon::new(tons.saturating_mul(1_000_000_000));
        Self { charge_at: ton(1), payout_at: ton(10), withdraw_at: ton(10), at_risk_max: ton(1) }
    }
}

/// Nothing is charged or paid out for less by itself: an order costs its sender 0.011 to 0.015 TON.
pub(super) const WORTH_GAS: NanoTon = NanoTon::new(50_000_000);
/// A client that leaves with less than the gas of an order is left to leave alone. What it then takes without having
/// paid for it is less than its way in and out costs it.
pub(super) const WORTH_LEAVING: NanoTon = NanoTon::new(15_000_000);

impl Policy {
    /// What a client may owe before it is charged. Half of the stake, so that the other half covers what runs until the
    /// charge has landed.
    pub(super) fn charge_threshold(&self, contract: &ClientContract) -> NanoTon {
        let half_of_stake = NanoTon::new(contract.funds.stake.get() / 2);
        self.charge_at.min(half_of_stake).max(WORTH_GAS)
    }
}

#[cfg(test)]
mod tests {
    use ledger::ClientFunds;

    use super::*;

    #[test]
    fn a_charge_is_due_at_half_the_stake_at_the_latest_and_never_for_less_than_its_gas() {
        let with_stake = |stake: u64| {
            let funds = ClientFunds { stake: NanoTon::new(stake), ..ClientFunds::default() };
            let contract = ClientContract { funds, ..ClientContract::default() };
            Policy::default().charge_threshold(&contract).get()
        };
        assert_eq!(with_stake(15_000_000_000), 1_000_000_000);
        assert_eq!(with_stake(1_000_000_000), 500_000_000);
        assert_eq!(with_stake(10_000_000), WORTH_GAS.get());
    }
}
