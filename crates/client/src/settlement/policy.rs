//! How much money a client keeps at a proxy, and for how much use.

use std::collections::VecDeque;
use std::time::Duration;

use units::{AdjustedTokens, NanoTon};

use super::order::AMOUNT_MAX;

/// What an operator sets about money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The balance shall last for so many minutes of use as it was lately.
    pub minutes: u32,
    /// No top-up lifts what a contract holds above this, whatever a proxy says about use: its key can take what a client
    /// has paid in.
    pub balance_max: NanoTon,
    /// No more than this is paid in at one proxy in a day, what became of it be as it may: a proxy that takes what it
    /// should not, or a server that hides what arrived, gets so much before somebody looks.
    pub deposits_per_day_max: NanoTon,
    /// What the node wallet keeps: its contract refuses orders below 2 TON.
    pub wallet_reserve: NanoTon,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            minutes: 10,
            balance_max: NanoTon::new(100_000_000_000),
            deposits_per_day_max: NanoTon::new(100_000_000_000),
            wallet_reserve: NanoTon::new(2_200_000_000),
        }
    }
}

/// What to do about the balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// There is enough.
    Nothing,
    /// Pay in so much.
    TopUp(NanoTon),
    /// It is low, and the wallet cannot give anything that would be worth its fee.
    Funds {
        /// What the wallet lacks for a full top-up.
        missing: NanoTon,
    },
    /// It is low, and no more may be paid in today.
    Tomorrow,
}

impl Policy {
    /// `left` is what is paid in and not used, `pace` what was used in a minute lately, `wallet` what the node wallet
    /// has, of which `attached` goes along with a top-up and comes back.
    ///
    /// Amounts are rounded down to whole tokens: a remainder buys nothing, and stays in the wallet.
    pub(super) fn need(&self, facts: &Funds) -> Need {
        let Funds { left, balance, pace, stake, price, wallet, attached, today } = *facts;
        if price == NanoTon::ZERO {
            return Need::Nothing;
        }
        let of_use = |part: u64| pace.get().saturating_mul(u64::from(self.minutes)) / part;
        let low =
            NanoTon::new((stake.get() / 2).max(of_use(2))).min(NanoTon::new(self.balance_max.get() / 2));
        if left >= low {
            return Need::Nothing;
        }
        let wanted = NanoTon::new(stake.get().max(of_use(1))).min(self.balance_max).saturating_sub(left);
        let wanted = whole_tokens(wanted.min(AMOUNT_MAX), price);
        // A quarter of what is wanted is worth its fee; less would be paid in again and again.
        let part = NanoTon::new(wanted.get().div_ceil(4));
        let kept = self.kept(attached);
        let affordable = wallet.saturating_sub(kept);
        // What is used and not charged yet is still there, and may be more than its proxy says.
        let room = whole_tokens(self.balance_max.saturating_sub(balance), price);
        let today = whole_tokens(today, price);
        let amount = whole_tokens(wanted.min(affordable), price).min(room).min(today);
        if wanted == NanoTon::ZERO || room < part {
            Need::Nothing
        } else if today < part {
            Need::Tomorrow
        } else if amount >= part {
            Need::TopUp(amount)
        } else {
            let needed = kept.checked_add(wanted).unwrap_or(NanoTon::new(u64::MAX));
            Need::Funds { missing: needed.saturating_sub(wallet) }
        }
    }
}

impl Policy {
    /// What the wallet has to have beside what it pays in.
    pub(super) fn kept(&self, attached: NanoTon) -> NanoTon {
        self.wallet_reserve.checked_add(attached).unwrap_or(NanoTon::new(u64::MAX))
    }
}

/// What a decision about the balance depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Funds {
    pub(super) left: NanoTon,
    /// In the contract, used or not.
    pub(super) balance: NanoTon,
    /// Nanotons a minute.
    pub(super) pace: NanoTon,
    pub(super) stake: NanoTon,
    pub(super) price: NanoTon,
    pub(super) wallet: NanoTon,
    pub(super) attached: NanoTon,
    /// What may still be paid in at this proxy today.
    pub(super) today: NanoTon,
}

/// `amount` without the remainder, which buys nothing.
pub(super) fn whole_tokens(amount: NanoTon, price: NanoTon) -> NanoTon {
    NanoTon::new(amount.get() - amount.get().checked_rem(price.get()).unwrap_or(0))
}

/// How much was used in a minute lately.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Totals and when they were first seen, the oldest first.
    samples: VecDeque<(Duration, AdjustedTokens)>,
}

/// Times between samples, and how far back they go.
const SAMPLE_EVERY: Duration = Duration::from_secs(15);
const LOOK_BACK: Duration = Duration::from_secs(5 * 60);

impl Pace {
    /// Takes a total. Totals only grow.
    pub(super) fn take(&mut self, used: AdjustedTokens, now: Duration) {
        let is_due = self.samples.back().is_none_or(|(at, _used)| *at + SAMPLE_EVERY <= now);
        if is_due {
            self.samples.push_back((now, used));
        }
        // One sample from before stays, to measure from.
        while self.samples.get(1).is_some_and(|(at, _used)| *at + LOOK_BACK < now) {
            self.samples.pop_front();
        }
    }

    /// Tokens in a minute, over the last minutes; over one at least, so that a single request is no flood.
    pub(super) fn per_minute(&self, used: AdjustedTokens, now: Duration) -> AdjustedTokens {
        let Some((since, before)) = self.samples.front() else { return AdjustedTokens::ZERO };
        let elapsed_s = now.saturating_sub(*since).as_secs().max(60);
        AdjustedTokens::new(used.saturating_sub(*before).get().saturating_mul(60) / elapsed_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TON: u64 = 1_000_000_000;

    fn funds(left: u64, pace: u64, wallet: u64) -> Funds {
        Funds {
            left: NanoTon::new(left),
            balance: NanoTon::new(left),
            pace: NanoTon::new(pace),
            stake: NanoTon::new(TON),
            price: NanoTon::new(7),
            wallet: NanoTon::new(wallet),
            attached: NanoTon::new(TON / 10),
            today: NanoTon::new(u64::MAX),
        }
    }

    fn policy() -> Policy {
        Policy {
            minutes: 10,
            balance_max: NanoTon::new(50 * TON),
            wallet_reserve: NanoTon::new(2 * TON),
            ..Policy::default()
        }
    }

    #[test]
    fn the_first_deposit_is_the_stake() {
        assert_eq!(policy().need(&funds(0, 0, 10 * TON)), Need::TopUp(NanoTon::new(TON - TON % 7)));
    }

    #[test]
    fn half_of_the_stake_is_low() {
        assert_eq!(policy().need(&funds(TON / 2, 0, 10 * TON)), Need::Nothing);
        let lifted = NanoTon::new(TON / 2 + 1);
        assert_eq!(
            policy().need(&funds(TON / 2 - 1, 0, 10 * TON)),
            Need::TopUp(whole_tokens(lifted, NanoTon::new(7)))
        );
    }

    #[test]
    fn the_balance_lasts_for_minutes_of_use() {
        // A TON a minute: half of ten minutes is low, and ten are wanted.
        let need = policy().need(&funds(5 * TON - 1, TON, 100 * TON));
        assert_eq!(need, Need::TopUp(whole_tokens(NanoTon::new(5 * TON + 1), NanoTon::new(7))));
        assert_eq!(policy().need(&funds(5 * TON, TON, 100 * TON)), Need::Nothing);
    }

    #[test]
    fn no_use_lifts_the_balance_above_the_limit() {
        let Need::TopUp(amount) = policy().need(&funds(0, u64::MAX, 1_000 * TON)) else {
            panic!("it is low")
        };
        assert!(amount <= policy().balance_max && amount.get() > policy().balance_max.get() - 7);
        assert_eq!(policy().need(&funds(25 * TON, u64::MAX, 1_000 * TON)), Need::Nothing);
        let stingy = Policy { balance_max: NanoTon::ZERO, ..policy() };
        assert_eq!(stingy.need(&funds(0, 0, 10 * TON)), Need::Nothing);
    }

    #[test]
    fn one_order_pays_in_no_more_than_a_wallet_sends() {
        let generous = Policy { balance_max: NanoTon::new(u64::MAX), ..policy() };
        let Need::TopUp(amount) = generous.need(&funds(0, u64::MAX, u64::MAX)) else { panic!("it is low") };
        assert_eq!(amount, whole_tokens(AMOUNT_MAX, NanoTon::new(7)));
    }

    #[test]
    fn a_poor_wallet_gives_what_is_worth_its_fee() {
        let wanted = TON - TON % 7;
        let kept = 2 * TON + TON / 10;
        assert_eq!(policy().need(&funds(0, 0, kept + wanted)), Need::TopUp(NanoTon::new(wanted)));
        let Need::TopUp(part) = policy().need(&funds(0, 0, kept + wanted - 1)) else {
            panic!("it is nearly all")
        };
        assert_eq!(part, NanoTon::new(wanted - 7));
        let quarter = wanted.div_ceil(4).next_multiple_of(7);
        assert_eq!(policy().need(&funds(0, 0, kept + quarter)), Need::TopUp(NanoTon::new(quarter)));
        let missing = NanoTon::new(wanted - quarter + 7);
        assert_eq!(policy().need(&funds(0, 0, kept + quarter - 7)), Need::Funds { missing });
    }

    #[test]
    fn what_a_proxy_says_was_used_does_not_lift_the_contract_above_the_limit() {
        // Nothing is left, it says, and all of it is there.
        let with = |tons| Funds { balance: NanoTon::new(tons * TON), ..funds(0, TON, 100 * TON) };
        assert_eq!(policy().need(&with(50)), Need::Nothing);
        assert_eq!(
            policy().need(&with(45)),
            Need::TopUp(whole_tokens(NanoTon::new(5 * TON), NanoTon::new(7)))
        );
        // A part that is not worth its fee waits until it is charged.
        assert_eq!(policy().need(&with(48)), Need::Nothing);
    }

    #[test]
    fn a_day_has_its_limit() {
        let with = |today| Funds { today: NanoTon::new(today), ..funds(0, 0, 10 * TON) };
        let price = NanoTon::new(7);
        assert_eq!(policy().need(&with(TON / 2)), Need::TopUp(whole_tokens(NanoTon::new(TON / 2), price)));
        assert_eq!(policy().need(&with(TON / 4 - 1)), Need::Tomorrow);
        assert_eq!(policy().need(&with(0)), Need::Tomorrow);
    }

    #[test]
    fn what_costs_nothing_needs_no_money() {
        let free = Funds { price: NanoTon::ZERO, ..funds(0, 0, 0) };
        assert_eq!(policy().need(&free), Need::Nothing);
    }

    #[test]
    fn the_pace_is_that_of_the_last_minutes() {
        let at = Duration::from_secs;
        let tokens = AdjustedTokens::new;
        let mut pace = Pace::default();
        assert_eq!(pace.per_minute(tokens(5), at(0)), tokens(0));
        pace.take(tokens(0), at(0));
        // One request at once counts as if it had taken a minute.
        assert_eq!(pace.per_minute(tokens(600), at(1)), tokens(600));
        for second in 1..=600 {
            pace.take(tokens(second * 10), at(second));
        }
        assert_eq!(pace.per_minute(tokens(6000), at(600)), tokens(600));
        assert!(pace.samples.len() < 25, "{}", pace.samples.len());
        // And then nothing for long.
        pace.take(tokens(6000), at(2000));
        assert!(pace.per_minute(tokens(6000), at(2000)).get() <= 1);
    }
}
