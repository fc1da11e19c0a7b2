//! The proxy's own contract: deployed, staked, anchored, emptied and closed.

use std::time::{Duration, Instant};

use ledger::Ledger;
use rand::Rng as _;
use ton::states::{ContractState, ProxyData};
use units::{LogicalTime, NanoTon};

use super::{Action, Duty, NOTICE_MAX, OrderEnd, Settlement, Stage, Wake, delay};
use crate::core::Now;

/// The proxy contract itself.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// `None` until it was read; then what is there, if anything.
    pub(super) contract: Option<Option<ProxyData>>,
    /// Its transaction that carried out the newest order. What was read before that was followed may be older.
    pub(super) done_at: Option<LogicalTime>,
    /// The order that failed last.
    failed: Option<Failed>,
    /// Somebody else's order may deploy it still.
    pub(super) is_deploying: bool,
    /// An anchor is on its way, or was done and does not show yet.
    pub(super) anchors: bool,
    pub(super) anchor_failures: u32,
    /// The operator wants the earnings now: when he said so, since 1970.
    pub(super) withdraws: Option<Duration>,
}

/// An order to the own contract that failed. Others do not wait for it.
#[derive(Clone, Copy, Debug)]
struct Failed {
    /// Its kind, by name.
    what: &'static str,
    /// In a row.
    failures: u32,
    not_before: Instant,
}

impl Settlement {
    /// Pays out the proxy's own earnings now, however small they are.
    pub fn demand_withdrawal(&mut self, now: Now) {
        self.own.withdraws = Some(now.unix);
    }

    /// Whether an order that this settlement did not give, but one before it, may deploy the contract still. A contract
    /// that closes waits for that, or its stake would be lost. To be called before [`Self::own_contract`].
    pub fn deploying(&mut self, is_deploying: bool) {
        self.own.is_deploying = is_deploying;
    }

    /// The order that deploys the contract.
    #[must_use]
    pub fn deployment(&self) -> Duty {
        Duty::Deploy { stake: self.desk.root().params.min_proxy_stake }
    }

    /// The proxy contract, as it was read last; `None` if it is not there, or was not read yet.
    #[must_use]
    pub fn contract(&self) -> Option<&ProxyData> {
        self.own.contract.as_ref().and_then(Option::as_ref)
    }

    /// It stays the same anchor, so that it does no harm if it is sent again and both arrive.
    pub(super) fn anchor_ended(&mut self, end: OrderEnd, now: Now) {
        let after = if matches!(end, OrderEnd::Done { .. }) {
            self.own.anchor_failures = 0;
            NOTICE_MAX
        } else {
            self.own.anchor_failures = self.own.anchor_failures.saturating_add(1);
            delay(self.own.anchor_failures, &self.desk)
        };
        self.wakes.insert((now.instant + after, Wake::Anchor));
    }

    pub(super) fn own_order_ended(&mut self, duty: &Duty, end: OrderEnd, now: Now) {
        if let OrderEnd::Done { lt } = end {
            self.own.failed = None;
            self.own.done_at = self.own.done_at.max(Some(lt));
            self.own.withdraws = self.own.withdraws.filter(|_| *duty != Duty::Withdraw);
            return;
        }
        let what = duty.name();
        let before = self.own.failed.filter(|failed| failed.what == what).map_or(0, |failed| failed.failures);
        let failures = before.saturating_add(1);
        let not_before = now.instant + delay(failures, &self.desk);
        self.own.failed = Some(Failed { what, failures, not_before });
        self.wakes.insert((not_before, Wake::Own));
    }

    pub(super) fn advance_anchor(&mut self, books: &mut Ledger) {
        if books.wants_anchor() {
            let mut hash = [0; 32];
            self.random.fill_bytes(&mut hash);
            node::failpoint::pass("anchor-begin");
            books.begin_anchor(hash);
        }
        if let Some(anchor) = books.anchor_to_send()
            && !self.own.anchors
        {
            self.own.anchors = true;
            self.send(Duty::Anchor(anchor));
        }
    }

    pub(super) fn advance_own(&mut self, books: &Ledger, now: Now) {
        if self.contract().is_some_and(|own| own.state != ContractState::Normal) {
            // Its owner has closed it, or an earlier process began to.
            self.begin_close(books);
        }
        let followed = books.followed().map(|followed| followed.lt);
        if self.own.done_at > followed || self.orders.values().any(Duty::is_to_own_contract) {
            return;
        }
        let waits =
            |duty: &Duty, failed: Failed| failed.what == duty.name() && failed.not_before > now.instant;
        if let Some(duty) = self.own_duty(now)
            && !self.own.failed.is_some_and(|failed| waits(&duty, failed))
        {
            self.send(duty);
        }
    }

    fn own_duty(&mut self, now: Now) -> Option<Duty> {
        let min_stake = self.desk.root().params.min_proxy_stake;
        let Some(own) = self.contract() else {
            if self.stage == Stage::Serving {
                return Some(self.deployment());
            }
            if !self.own.is_deploying {
                self.end();
            }
            return None;
        };
        match (&self.stage, own.state) {
            (Stage::Serving, ContractState::Normal) if own.stake < min_stake => {
                Some(Duty::RaiseStake { amount: min_stake.saturating_sub(own.stake) })
            }
            (Stage::Serving, ContractState::Normal) => {
                let least = if self.own.withdraws.is_some() {
                    NanoTon::new(1)
                } else {
                    self.policy.withdraw_at.max(NanoTon::new(1))
                };
                (own.balance >= least).then_some(Duty::Withdraw)
            }
            (Stage::Closing { .. }, ContractState::Normal) => Some(Duty::Close),
            (Stage::Closing { leaving }, ContractState::Closing) => {
                let unlock_at = Duration::from_secs(own.unlock_at.into());
                if self.chain_time > unlock_at {
                    return leaving.is_empty().then_some(Duty::CompleteClose);
                }
                let at = now.instant + unlock_at.saturating_sub(self.chain_time) + Duration::from_secs(1);
                if !self.wakes.iter().any(|(_, wake)| *wake == Wake::Own) {
                    self.wakes.insert((at, Wake::Own));
                }
                None
            }
            (_, ContractState::Closed) => {
                self.end();
                None
            }
            _ => None,
        }
    }

    fn end(&mut self) {
        let is_over = matches!(&self.stage, Stage::Closing { leaving } if leaving.is_empty());
        if is_over {
            self.stage = Stage::Ended;
            self.outbox.push_back(Action::Ended);
        }
    }
}
