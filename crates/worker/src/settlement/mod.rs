//! Cashing in what proxies signed: which contract is deployed, when a payout is worth its fees, and what became of it.
//!
//! A [`Settlement`] is a value to feed: what proxies signed, what contracts show and what became of orders go in, orders
//! come out. It has no socket, no clock and no randomness; times are since 1970.
//!
//! Invariants:
//! - A payout is ordered only for a payment that holds for the contract and counts more than the contract has paid.
//! - One order of a contract is under way at a time, and the contract is read after it before the next one goes.
//! - The number of an order follows from its contract and its total: ordered anew after a crash, it is the same order.
//! - What fails is tried again, each time later, up to six hours; a payout that the proxy contract could not pay counts
//!   as failed.
//! - Whatever a proxy signs, nothing is sent for more than its contract holds, and what stays in contracts that only its key
//!   can close has a bound for each day.

mod cashier;
mod earnings;
mod kept;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chain::Effect;
use chain::outbox::{Order, OrderId, Outcome};
use sha2::{Digest as _, Sha256};
use ton::contracts::StateInit;
use ton::message::InternalMessage;
use ton::payment::SignedPayment;
use ton::states::{ContractState, WorkerData};
use ton::{Address, CodeMask, ExitCode, Params};
use units::{AdjustedTokens, NanoTon};

pub use cashier::{Cashier, CashierError};
pub use earnings::{Earnings, Stand};

/// What an operator decides about payouts. A payout costs about 0.014 TON in fees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// A payout is ordered at once when it is worth so much.
    pub payout_at: NanoTon,
    /// It is ordered when it is worth so much and nothing was earned for [`Self::idle_after`].
    pub payout_idle_at: NanoTon,
    /// See [`Self::payout_idle_at`].
    pub idle_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            payout_at: NanoTon::new(10_000_000_000),
            payout_idle_at: NanoTon::new(200_000_000),
            idle_after: Duration::from_secs(3_600),
        }
    }
}

/// A payout from a contract that comes to its end, or that the operator asked for, is ordered when it is worth more than
/// its fees.
pub const PAYOUT_LAST_AT: NanoTon = NanoTon::new(20_000_000);
/// A contract is deployed when its payout is worth several times the fees. Before, a change of the network's params
/// while the worker is down would lose it.
const DEPLOY_AT: NanoTon = NanoTon::new(50_000_000);
/// What a payout's message carries for fees. What is left of it comes back to the node wallet.
const ATTACHED: NanoTon = NanoTon::new(500_000_000);
/// What a contract is deployed with, as deployed workers do. It goes to the owner with the last payout.
const DEPLOYED_WITH: NanoTon = NanoTon::new(300_000_000);
/// Contracts that are deployed ahead of their payouts in a day, so that proxies that make up keys cannot empty the node wallet:
/// 1.5 TON. What a payout deploys beyond that costs its fees.
const DEPLOYMENTS_MAX: usize = 5;
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Pauses after failures: the first, and the longest.
const PAUSE_FIRST: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(6 * 3_600);
/// A payout that the proxy contract cannot pay is undone within seconds: the contract is read after this.
const LOOK_AFTER: Duration = Duration::from_secs(20);
/// Contracts are read at least so often: others can land a payout, too.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// A proxy that owes the worker.
#[derive(Clone, Debug)]
pub struct Owed {
    /// The proxy contract.
    pub proxy: Address,
    /// The worker contract under it.
    pub worker: Address,
    /// The params that both follow from.
    pub params_version: u32,
    /// The largest payment, which was verified.
    pub payment: SignedPayment,
    /// What the contract is deployed with; none if the params that it follows from are no longer known.
    pub init: Option<StateInit>,
    /// What an adjusted token earns under those params; none if they are no longer known.
    pub fee: Option<NanoTon>,
}

/// What a look at a worker contract showed.
#[derive(Clone, Debug)]
pub enum Found {
    /// There is none yet.
    Absent,
    /// It is there.
    Contract(WorkerData),
    /// There is something else.
    Other,
}

/// A contract as of the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Unread,
    Absent,
    Open { paid: AdjustedTokens },
    Closed { paid: AdjustedTokens },
    Other,
}

#[derive(Debug)]
struct Entry {
    owed: Owed,
    known: Known,
    fee: Option<NanoTon>,
    /// The order under way, and the total that it lands; none for a deployment.
    order: Option<(OrderId, Option<AdjustedTokens>)>,
    /// The total of a payout that left, which the next look must show; and what it means if it does not.
    expected: Option<(AdjustedTokens, Failure)>,
    /// What the proxy contract has for workers and clients.
    backing: NanoTon,
    look_at: Duration,
    /// An order ended since the last look.
    is_stale: bool,
    try_at: Duration,
    pause: Duration,
    earned_at: Duration,
    /// Why the last order failed.
    failure: Option<Failure>,
    /// The operator wants his money now.
    is_demanded: bool,
}

/// Why a payout failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The worker contract refused.
    #[error("the worker contract refused: {}", ExitCode::new(*.exit_code))]
    Refused {
        /// Why.
        exit_code: i32,
    },
    /// The message brought too little, or found no contract.
    #[error("the message came back: no contract ran")]
    NotRun,
    /// Nothing was sent.
    #[error("the node wallet could not send the message: does it have enough?")]
    NotSent,
    /// The proxy contract sent the payout back, or has too little for it.
    #[error("the proxy contract cannot pay: what its clients paid in does not cover it")]
    NotPaid,
    /// Nobody knows.
    #[error("the server does not show what became of the payout, and the worker contract has not counted it")]
    Unresolved,
    /// Something else is where the contract should be.
    #[error("another contract is at the address")]
    OtherContract,
}

/// All that proxies owe this worker.
#[derive(Debug)]
pub struct Settlement {
    policy: Policy,
    /// Where excesses go.
    wallet: Address,
    /// The params now, since when, and how long a contract of older ones stays safe.
    params: Option<(u32, Duration, Duration)>,
    entries: BTreeMap<Address, Entry>,
    /// When contracts were deployed ahead of their payouts, lately.
    deployments: VecDeque<Duration>,
}

impl Settlement {
    /// Nothing is owed yet. What is left of attached money comes back to `wallet`.
    #[must_use]
    pub const fn new(policy: Policy, wallet: Address) -> Self {
        Self { policy, wallet, params: None, entries: BTreeMap::new(), deployments: VecDeque::new() }
    }

    /// The network's params are of this version. Contracts of older ones have half of the clients' delay before they are
    /// cashed in: their proxy pays them out itself, unless it is gone.
    pub fn params(&mut self, version: u32, client_delay: Duration, now: Duration) {
        if self.params.is_none_or(|(known, _since, _delay)| known != version) {
            self.params = Some((version, now, client_delay));
        }
    }

    /// A proxy signed a payment. One that counts no more than those before changes nothing.
    pub fn owed(&mut self, owed: Owed, now: Duration) {
        let fee = owed.fee;
        let entry = self.entries.entry(owed.worker).or_insert_with(|| Entry {
            known: Known::Unread,
            fee,
            order: None,
            expected: None,
            backing: NanoTon::ZERO,
            look_at: now,
            is_stale: false,
            try_at: Duration::ZERO,
            pause: PAUSE_FIRST,
            earned_at: now,
            failure: None,
            is_demanded: false,
            owed: owed.clone(),
        });
        if owed.payment.tokens > entry.owed.payment.tokens {
            entry.earned_at = now;
            entry.owed.payment = owed.payment;
        }
        // Once known, they do not change: they are part of the address.
        entry.fee = entry.fee.or(fee);
        if entry.owed.init.is_none() {
            entry.owed.init = owed.init;
        }
    }

    /// Worker contracts that are to be read now, each with its proxy contract.
    #[must_use]
    pub fn to_look_at(&self, now: Duration) -> Vec<(Address, Address)> {
        let due = |entry: &&Entry| entry.order.is_none() && entry.look_at <= now;
        self.entries.values().filter(due).map(|entry| (entry.owed.worker, entry.owed.proxy)).collect()
    }

    /// A contract was read. `backing` is what its proxy contract has for workers and clients; zero if there is none.
    pub fn looked(&mut self, worker: &Address, found: Found, backing: NanoTon, now: Duration) {
        let Some(entry) = self.entries.get_mut(worker) else { return };
        entry.look_at = now.saturating_add(LOOK_EVERY);
        entry.is_stale = false;
        entry.backing = backing;
        let before = entry.paid();
        entry.known = match found {
            Found::Absent => Known::Absent,
            Found::Other => Known::Other,
            Found::Contract(data) => {
                entry.fee = Params::from_cell(&data.params, CodeMask::None)
                    .map_or(entry.fee, |params| Some(params.worker_fee_per_token));
                match data.state {
                    ContractState::Closed => Known::Closed { paid: data.tokens },
                    ContractState::Normal | ContractState::Closing => Known::Open { paid: data.tokens },
                }
            }
        };
        match entry.expected.take() {
            Some((expected, failure)) if entry.paid() < expected => entry.failed(failure, now),
            Some(_paid) => entry.succeeded(),
            // It was paid and is not any more: it came back late.
            None if entry.paid() < before => entry.failed(Failure::NotPaid, now),
            // Somebody else may have landed it.
            None if entry.paid() >= entry.owed.payment.tokens => entry.succeeded(),
            None => {}
        }
        if entry.known == Known::Other {
            entry.failed(Failure::OtherContract, now);
        }
    }

    /// The operator wants his money now, from one proxy or from all: whatever is worth its fees. Says from how many.
    pub fn cash_out(&mut self, proxy: Option<&Address>) -> usize {
        let mut count = 0;
        for entry in self.entries.values_mut() {
            let is_asked = proxy.is_none_or(|proxy| *proxy == entry.owed.proxy);
            if is_asked && entry.worth() >= PAYOUT_LAST_AT {
                entry.is_demanded = true;
                entry.try_at = Duration::ZERO;
                count += 1;
            }
        }
        count
    }

    /// Orders that are due now. Each is to be handed to the node wallet.
    pub fn orders(&mut self, now: Duration) -> Vec<Order> {
        let (policy, params, wallet) = (self.policy, self.params, self.wallet);
        let deployments = &mut self.deployments;
        while deployments.front().is_some_and(|at| at.saturating_add(DAY) <= now) {
            deployments.pop_front();
        }
        let due = self.entries.values_mut().filter_map(|entry| {
            if entry.order.is_some() || entry.is_stale || entry.try_at > now {
                return None;
            }
            let order = entry.order(&policy, params, wallet, now)?;
            if order.message.body.is_none() {
                if deployments.len() >= DEPLOYMENTS_MAX {
                    return None;
                }
                deployments.push_back(now);
            }
            entry.order = Some((order.id, order.message.body.is_some().then_some(entry.owed.payment.tokens)));
            Some(order)
        });
        due.collect()
    }

    /// Orders that are under way.
    #[must_use]
    pub fn under_way(&self) -> Vec<OrderId> {
        self.entries.values().filter_map(|entry| entry.order.map(|(id, _total)| id)).collect()
    }

    /// What became of an order.
    pub fn ended(&mut self, id: OrderId, outcome: Outcome, now: Duration) {
        let is_it = |entry: &&mut Entry| entry.order.is_some_and(|(order, _total)| order == id);
        let Some(entry) = self.entries.values_mut().find(is_it) else { return };
        let total = entry.order.take().and_then(|(_id, total)| total);
        entry.look_at = now;
        entry.is_stale = true;
        match outcome {
            Outcome::Done { .. } | Outcome::Unresolved => {
                let unless = match outcome {
                    Outcome::Done { .. } => Failure::NotPaid,
                    _ => Failure::Unresolved,
                };
                entry.expected = total.map(|total| (total, unless));
                if total.is_some() {
                    entry.look_at = now.saturating_add(LOOK_AFTER);
                }
            }
            Outcome::Refused { effect: Effect::Refused { exit_code }, .. } => {
                entry.failed(Failure::Refused { exit_code }, now);
            }
            Outcome::Refused { .. } | Outcome::Arrived { .. } => entry.failed(Failure::NotRun, now),
            Outcome::NotSent => entry.failed(Failure::NotSent, now),
        }
    }
}

impl Entry {
    fn paid(&self) -> AdjustedTokens {
        match self.known {
            Known::Open { paid } | Known::Closed { paid } => paid,
            Known::Unread | Known::Absent | Known::Other => AdjustedTokens::ZERO,
        }
    }

    /// What a payout would bring; nothing while that is not known.
    fn worth(&self) -> NanoTon {
        if matches!(self.known, Known::Unread | Known::Other | Known::Closed { .. }) {
            return NanoTon::ZERO;
        }
        let unpaid = self.owed.payment.tokens.saturating_sub(self.paid());
        let worth = self.fee.map(|fee| fee.charge(unpaid).unwrap_or(NanoTon::new(u64::MAX)));
        worth.unwrap_or(NanoTon::ZERO)
    }

    /// Whether the proxy contract has what it signed for.
    fn is_covered(&self) -> bool {
        self.worth() <= self.backing
    }

    /// The order that is due, if any.
    fn order(
        &self,
        policy: &Policy,
        params: Option<(u32, Duration, Duration)>,
        wallet: Address,
        now: Duration,
    ) -> Option<Order> {
        let worth = self.worth();
        let is_idle = now.saturating_sub(self.earned_at) >= policy.idle_after;
        let is_ending = params.is_some_and(|(version, since, delay)| {
            version != self.owed.params_version && now.saturating_sub(since) >= delay / 2
        });
        let is_payout_due = worth >= policy.payout_at
            || is_idle && worth >= policy.payout_idle_at
            || (is_ending || self.is_demanded) && worth >= PAYOUT_LAST_AT;
        let is_absent = self.known == Known::Absent;
        let is_deployment_due = is_absent && worth >= DEPLOY_AT;
        if !(is_payout_due || is_deployment_due) || !self.is_covered() {
            return None;
        }
        let state_init = match (is_absent, &self.owed.init) {
            (false, _) => None,
            (true, Some(init)) => Some(init.clone()),
            (true, None) => return None,
        };
        let body = is_payout_due.then(|| self.owed.payment.with_excesses_to(wallet).to_cell());
        let value = if is_payout_due { ATTACHED } else { DEPLOYED_WITH };
        let total = is_payout_due.then_some(self.owed.payment.tokens);
        let to = self.owed.worker;
        // A contract that refuses is not deployed either, and sends everything back.
        let message = InternalMessage { to, value, bounce: true, state_init, body };
        Some(Order { id: order_id(&to, total), message })
    }

    fn failed(&mut self, failure: Failure, now: Duration) {
        self.failure = Some(failure);
        self.try_at = now.saturating_add(self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    fn succeeded(&mut self) {
        self.failure = None;
        self.pause = PAUSE_FIRST;
        self.is_demanded = false;
    }
}

/// The number of an order follows from what it is for.
fn order_id(worker: &Address, total: Option<AdjustedTokens>) -> OrderId {
    let mut hash = Sha256::new();
    hash.update(b"cocoon worker payout");
    hash.update(worker.hash());
    if let Some(total) = total {
        hash.update(total.get().to_be_bytes());
    }
    let hash: [u8; 32] = hash.finalize().into();
    let mut number = [0; 8];
    number.copy_from_slice(&hash[..8]);
    OrderId(u64::from_be_bytes(number))
}

#[cfg(test)]
mod tests;
