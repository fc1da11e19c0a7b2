//! What the owner asks for: whether it can be had, and what it would do.

use std::time::Duration;

use chain::outbox::BALANCE_MIN;
use ton::states::{ClientData, ContractState};
use units::NanoTon;

use super::policy::whole_tokens;
use super::{AMOUNT_MAX, ATTACHED, Duty, FEES, Settlement, available};

/// Something the owner wants done with the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Pay in so much now, less what is no whole token.
    Deposit(NanoTon),
    /// Have what is above the stake.
    Withdraw,
    /// Have everything: the contract closes, with the proxy's help or, after the client's delay, without.
    Close,
}

/// What a wish does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What goes into the contract.
    pub pays_in: NanoTon,
    /// What of the contract comes to the node wallet; for closing, as far as the proxy told what was used.
    pub comes_back: NanoTon,
    /// Coins that go along.
    pub attached: NanoTon,
    /// About what the chain takes of them; the rest comes back.
    pub fees: NanoTon,
    /// What the node wallet has for it now.
    pub wallet: NanoTon,
    /// How long closing takes without the proxy's help, in seconds.
    pub delay_s: u32,
}

/// Why a wish is not granted. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The contract was not read yet.
    #[error("the client contract was not read yet: try again in a few seconds")]
    Unknown,
    /// There is none.
    #[error("there is no client contract with this proxy: nothing was paid in")]
    NotDeployed,
    /// It closes already.
    #[error("the client contract is closing: what is in it comes without asking")]
    Closing,
    /// It is closed.
    #[error("the client contract is closed: everything has been paid back")]
    Closed,
    /// The params have changed.
    #[error("the network's params have changed: this contract is used no more and closes by itself")]
    Outdated,
    /// Something else goes on.
    #[error("another order is on its way ({under_way}): try again when it is done")]
    Busy {
        /// What it is for.
        under_way: &'static str,
    },
    /// Nothing is above the stake.
    #[error(
        "the balance is {balance} and the stake {stake}: only what is above the stake can be withdrawn, the rest by closing"
    )]
    Stake {
        /// What is in the contract.
        balance: NanoTon,
        /// What stays.
        stake: NanoTon,
    },
    /// It buys nothing.
    #[error("a token costs {price}: {amount} buys none")]
    TooLittle {
        /// What was to be paid in.
        amount: NanoTon,
        /// What a token costs.
        price: NanoTon,
    },
    /// The owner has set how much a proxy may hold.
    #[error(
        "the contract holds {balance}, and balance_max_nanotons allows {balance_max}: raise it, or deposit less"
    )]
    Limit {
        /// What is there.
        balance: NanoTon,
        /// What may be there.
        balance_max: NanoTon,
    },
    /// More than a node wallet sends.
    #[error("{amount} are more than one order pays in: at most {AMOUNT_MAX}")]
    TooMuch {
        /// What was to be paid in.
        amount: NanoTon,
    },
    /// The wallet has not enough.
    #[error(
        "the node wallet has {wallet} that are promised to nobody, and needs {needed}: send it the difference"
    )]
    Funds {
        /// What it has.
        wallet: NanoTon,
        /// What it needs: it keeps some, since it refuses orders when it has little.
        needed: NanoTon,
    },
}

impl Settlement {
    /// What `wish` would do now.
    ///
    /// # Errors
    /// [`Refused`] if it would do nothing, or cannot be done.
    pub fn plan(&self, wish: Wish) -> Result<Plan, Refused> {
        let data = self.contract.as_ref().ok_or(Refused::Unknown)?.as_ref().ok_or(Refused::NotDeployed)?;
        match data.state {
            ContractState::Normal if self.memory.close => return Err(Refused::Closing),
            ContractState::Normal => {}
            ContractState::Closing => return Err(Refused::Closing),
            ContractState::Closed => return Err(Refused::Closed),
        }
        let mut plan = Plan {
            pays_in: NanoTon::ZERO,
            comes_back: NanoTon::ZERO,
            attached: ATTACHED,
            fees: FEES,
            wallet: self.wallet,
            delay_s: self.terms.delay_s(),
        };
        let mut needed = BALANCE_MIN;
        match wish {
            // Getting out waits for others, and is never refused for them.
            Wish::Close => plan.comes_back = self.left(data),
            Wish::Withdraw => {
                self.check_idle()?;
                plan.comes_back = above_stake(data)?;
            }
            Wish::Deposit(amount) => {
                self.check_idle()?;
                plan.pays_in = self.deposit_of(amount, data.balance)?;
                let kept = self.policy.kept(ATTACHED);
                needed = plan.pays_in.checked_add(kept).unwrap_or(NanoTon::new(u64::MAX));
            }
        }
        if self.wallet < needed {
            return Err(Refused::Funds { wallet: self.wallet, needed });
        }
        Ok(plan)
    }

    /// Grants a wish: [`Self::plan`], and what it says is ordered.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub fn ask(&mut self, wish: Wish, now: Duration) -> Result<Plan, Refused> {
        let plan = self.plan(wish)?;
        match (wish, self.contract_data().cloned()) {
            (Wish::Close, _) => self.memory.close = true,
            (Wish::Withdraw, _) => self.send(Duty::Withdraw, now),
            (Wish::Deposit(_), Some(data)) => self.top_up(&data, plan.pays_in, now),
            (Wish::Deposit(_), None) => return Err(Refused::NotDeployed),
        }
        self.not_before = now;
        self.advance(now);
        Ok(plan)
    }

    fn check_idle(&self) -> Result<(), Refused> {
        match self.under_way() {
            Some(duty) => Err(Refused::Busy { under_way: duty.name() }),
            // What the last order did is not known yet.
            None if self.must_look => Err(Refused::Unknown),
            None => Ok(()),
        }
    }

    /// What of `amount` is paid in.
    fn deposit_of(&self, amount: NanoTon, balance: NanoTon) -> Result<NanoTon, Refused> {
        if self.is_outdated() {
            return Err(Refused::Outdated);
        }
        let (price, balance_max) = (self.terms.price(), self.policy.balance_max);
        let paid = whole_tokens(amount, price);
        if paid == NanoTon::ZERO {
            return Err(Refused::TooLittle { amount, price });
        }
        if balance.checked_add(paid).map_or(true, |sum| sum > balance_max) {
            return Err(Refused::Limit { balance, balance_max });
        }
        if paid > AMOUNT_MAX {
            return Err(Refused::TooMuch { amount });
        }
        Ok(paid)
    }
}

fn above_stake(data: &ClientData) -> Result<NanoTon, Refused> {
    let (balance, stake) = (available(data), data.stake);
    match balance > stake {
        true => Ok(balance.saturating_sub(stake)),
        false => Err(Refused::Stake { balance, stake }),
    }
}
