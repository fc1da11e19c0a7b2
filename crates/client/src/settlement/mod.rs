//! Paying one proxy: what is deployed, paid in, charged, withdrawn and closed, and when.
//!
//! A [`Settlement`] is a value to feed. It belongs to one client contract, that is to one proxy and one version of the
//! network's params; when these change, the contract before is closed by its own settlement while the next one works. Facts
//! go in, [`Action`]s come out; there is no socket, no clock and no randomness. Times are since 1970. A [`Purse`] has the
//! settlements of all contracts, and the server, wallet and file around them.
//!
//! Invariants:
//! - At most one order that moves money or changes the contract is on its way, and the contract is read after it
//!   before the next one goes: nothing is paid in twice because the chain is slow.
//! - What fails is tried again, each time later, up to an hour. A proxy that takes no deposits costs a fee each time, so
//!   what it sends back counts as a failure.
//! - Once the contract closes, nothing is paid in any more, and it is closed by force as soon as it may be: the owner
//!   gets out whatever the proxy does.
//! - A charge is landed only if the proxy signed it and it counts more than the chain does.
//! - A proxy that charges what this client's own requests cannot have cost gets nothing more, and the contract closes.
//! - What is paid in at a proxy has a limit for each day, whatever became of it, and needs somebody who uses the proxy, and a
//!   proxy contract that takes it.

mod kept;
mod memory;
mod order;
mod policy;
mod purse;
mod steps;
mod wish;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chain::outbox::OrderId;
use ton::payment::VerifiedPayment;
use ton::states::{ClientData, ContractState};
use units::{AdjustedTokens, NanoTon};

pub use kept::MalformedContracts;
pub use memory::Memory;
pub use order::{AMOUNT_MAX, ATTACHED, Duty, FEES, Order, Terms};
pub use policy::Policy;
use policy::{Funds, Need, Pace};
pub use purse::{Asked, Ended, Glance, Purse, PurseError, Unclear};
pub use wish::{Plan, Refused, Wish};

/// What has to be done, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Have the wallet send an order, and say with [`Settlement::order_ended`] what became of it.
    Send(Order),
    /// Read the contract, and say with [`Settlement::looked`] what is there.
    Look,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderEnd {
    /// The contract did what it says.
    Done,
    /// The contract refused.
    Refused,
    /// It left, and nobody can say what became of it: what the contract shows counts.
    Unresolved,
    /// It never left the wallet, and never will.
    NotSent,
}

/// How far the contract is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The contract was not read yet.
    Unknown,
    /// There is none yet.
    NotDeployed,
    /// It works.
    Open,
    /// It closes: the proxy may pay at once, and after the client's delay this side takes it.
    Closing {
        /// From when it can be taken without the proxy, in seconds since 1970; none while our request to close is on its way.
        unlock_at: Option<u32>,
    },
    /// It is closed: everything has been paid back. Under these params this proxy cannot be used any more.
    Closed,
}

/// A contract at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// How far it is.
    pub stage: Stage,
    /// The contract's own word for it.
    pub state: ContractState,
    /// Charged on the chain since the contract began.
    pub tokens_used: AdjustedTokens,
    /// Paid in and not charged on the chain.
    pub balance: NanoTon,
    /// The floor that withdrawing leaves.
    pub stake: NanoTon,
    /// Used since the contract began, as far as the proxy told.
    pub used: AdjustedTokens,
    /// What of it is not charged on the chain yet.
    pub owed: NanoTon,
    /// Paid in and not used: what closing gives back.
    pub left: NanoTon,
    /// The tokens that this buys; none if they cost nothing.
    pub unspent: Option<AdjustedTokens>,
    /// The order that is on its way, or was done and does not show yet.
    pub under_way: Option<Duty>,
    /// What the node wallet lacks to pay in; none if it does not matter now.
    pub missing: Option<NanoTon>,
    /// Why nothing is paid in although it should be; none where there is no such reason.
    pub held: Option<&'static str>,
    /// Orders in a row that failed.
    pub failures: u32,
}

/// What a proxy contract is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyStand {
    /// It was not read yet.
    #[default]
    Unknown,
    /// It takes deposits.
    Works,
    /// It is not there, another one, or without its stake.
    Unfit,
    /// It closes, and with it the clients' contracts.
    Leaves,
}

/// How long after a failure an order is tried again; doubled with each.
const RETRY_MIN: Duration = Duration::from_secs(30);
const RETRY_MAX: Duration = Duration::from_secs(3600);
/// How often the contract is read while something about it is awaited, and while it closes.
const LOOK_SOON: Duration = Duration::from_secs(2);
const LOOK_CLOSING: Duration = Duration::from_secs(30);
/// How long an order that was done may not show before it counts as undone.
const SHOWS_WITHIN: Duration = Duration::from_secs(120);
/// How long a closed contract is looked at: what the proxy contract cannot pay comes back to it within seconds.
const CLOSED_FOR: Duration = Duration::from_secs(60);
/// How long it is kept in mind: one server's word that it is closed is no proof.
const REMEMBERED_FOR: Duration = Duration::from_secs(7 * 24 * 3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Connections that wait to be registered. A proxy gives each connection one number.
const NONCES_MAX: usize = 64;

/// Why a contract was closed.
const OVERCHARGED: &str = "the proxy charged more than this client's requests can have cost";

/// What a client knows of its contract with one proxy, and does about it.
#[derive(Debug)]
pub struct Settlement {
    terms: Terms,
    policy: Policy,
    /// `None` until it was read; then what is there, if anything.
    contract: Option<Option<ClientData>>,
    wallet: NanoTon,
    used: AdjustedTokens,
    pace: Pace,
    charge: Option<VerifiedPayment>,
    /// What this client's requests can have cost in this life.
    cost_max: AdjustedTokens,
    /// What was charged when the contract was first read in this life.
    charged_before: Option<AdjustedTokens>,
    is_overcharged: bool,
    proxy: ProxyStand,
    /// Connections to the proxy, authorised or not yet.
    sessions: usize,
    memory: Memory,
    /// What may still be paid in at the proxy today, by all contracts with it.
    today: NanoTon,
    /// The order that moves money or changes the contract.
    on_its_way: Option<OnItsWay>,
    /// The last order that was done, while its effect does not show yet.
    awaited: Option<Awaited>,
    /// An order ended since the contract was read.
    must_look: bool,
    registrations: BTreeMap<u64, Registration>,
    /// Registrations since the last one that led to a session, and when the next one may go.
    futile: u32,
    register_at: Duration,
    missing: Option<NanoTon>,
    held: Option<&'static str>,
    failures: u32,
    not_before: Duration,
    look_at: Option<Duration>,
    next_order: u64,
    outbox: VecDeque<Action>,
}

#[derive(Clone, Copy, Debug)]
struct OnItsWay {
    order: Order,
    before: Before,
}

/// What an order's effect is told by.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    /// What was paid in over the contract's life.
    paid_in: u128,
    unlock_at: u32,
}

/// An order was done, and its effect does not show in the contract.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    duty: Duty,
    before: Before,
    since: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Registration {
    order: Option<OrderId>,
    failures: u32,
    not_before: Duration,
    is_done: bool,
}

impl Settlement {
    /// The settlement of the contract of `terms`, of which `memory` is what has to survive. Orders are numbered from `first_order` on; numbers of two lives of a
    /// client must not meet, and of the life before no order may be on its way any more: it would not be known, and be
    /// given again.
    #[must_use]
    pub fn new(terms: Terms, policy: Policy, memory: Memory, first_order: OrderId) -> Self {
        Self {
            terms,
            policy,
            contract: None,
            wallet: NanoTon::ZERO,
            used: AdjustedTokens::ZERO,
            pace: Pace::default(),
            charge: None,
            cost_max: AdjustedTokens::ZERO,
            charged_before: None,
            is_overcharged: false,
            proxy: ProxyStand::Unknown,
            sessions: 0,
            memory,
            today: NanoTon::ZERO,
            on_its_way: None,
            awaited: None,
            must_look: false,
            registrations: BTreeMap::new(),
            futile: 0,
            register_at: Duration::ZERO,
            missing: None,
            held: None,
            failures: 0,
            not_before: Duration::ZERO,
            look_at: Some(Duration::ZERO),
            next_order: first_order.0,
            outbox: VecDeque::new(),
        }
    }

    /// The contract's terms, which make messages of orders.
    #[must_use]
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// What has to survive this process: whatever was ordered counts on it.
    #[must_use]
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The contract as it is now, `None` if there is none, and what the proxy contract is good for.
    pub fn looked(&mut self, contract: Option<ClientData>, proxy: ProxyStand, now: Duration) {
        self.look_at = None;
        self.must_look = false;
        self.proxy = proxy;
        if let Some(data) = &contract {
            if self.used == AdjustedTokens::ZERO {
                // The pace is measured from here. What was used in an earlier life was told before, and is no pace.
                self.pace.take(data.tokens_used, now);
            }
            self.charged_before.get_or_insert(data.tokens_used);
        }
        self.contract = Some(contract);
        self.check_charged();
        self.check_awaited(now);
        self.advance(now);
    }

    /// What the node wallet has.
    pub fn wallet(&mut self, balance: NanoTon, now: Duration) {
        self.wallet = balance;
        self.advance(now);
    }

    /// What may still be paid in at the proxy today.
    pub fn today(&mut self, amount: NanoTon) {
        self.today = amount;
    }

    /// What requests have asked for in this life: see [`Terms::cost_max`]. It only grows.
    pub fn asked(&mut self, asked: u64) {
        self.cost_max = self.cost_max.max(self.terms.cost_max(asked));
    }

    /// What was used since the contract began, as the proxy says, and the largest charge that it signed. Both only grow.
    pub fn used(&mut self, used: AdjustedTokens, charge: Option<VerifiedPayment>, now: Duration) {
        self.used = self.used.max(used);
        self.pace.take(self.believed(), now);
        let known = self.charge.map(|charge| charge.tokens());
        if let Some(charge) = charge.filter(|charge| known.is_none_or(|known| charge.tokens() > known)) {
            self.charge = Some(charge);
        }
        self.advance(now);
    }

    /// A connection to the proxy begins: the contract is opened if there is none. [`Self::leave`] says when it ends.
    pub fn want(&mut self, now: Duration) {
        self.sessions += 1;
        self.memory.unused_since = None;
        self.advance(now);
    }

    /// A connection that was wanted has ended.
    pub fn leave(&mut self) {
        self.sessions = self.sessions.saturating_sub(1);
    }

    /// A connection was authorised.
    pub fn authorised(&mut self) {
        (self.futile, self.register_at) = (0, Duration::ZERO);
    }

    /// Orders that were not handed out yet send so much.
    #[must_use]
    pub fn promised(&self) -> NanoTon {
        let value = |action: &Action| match action {
            Action::Send(order) => order.duty.value(),
            Action::Look => NanoTon::ZERO,
        };
        let add = |sum: NanoTon, value| sum.checked_add(value).unwrap_or(NanoTon::new(u64::MAX));
        self.outbox.iter().map(value).fold(NanoTon::ZERO, add)
    }

    /// Whether the proxy charged what this client cannot have used.
    #[must_use]
    pub const fn is_overcharged(&self) -> bool {
        self.is_overcharged
    }

    /// Whether anybody uses the proxy, or is about to.
    #[must_use]
    pub const fn is_wanted(&self) -> bool {
        self.sessions > 0
    }

    /// Nobody will use the proxy again, as far as can be told: it is not listed, or has another contract now. After a day of
    /// this the contract closes.
    pub fn abandoned(&mut self, is_abandoned: bool, now: Duration) {
        match is_abandoned && self.sessions == 0 {
            true => _ = self.memory.unused_since.get_or_insert(whole(now)),
            false => self.memory.unused_since = None,
        }
        self.advance(now);
    }

    /// A connection must be registered under the proxy's number for it: the long way to be authorised. Asked for again,
    /// nothing happens.
    pub fn register(&mut self, nonce: u64, now: Duration) {
        if self.registrations.len() < NONCES_MAX {
            self.registrations.entry(nonce).or_default();
        }
        self.advance(now);
    }

    /// The connection is authorised, or gone.
    pub fn forget(&mut self, nonce: u64) {
        self.registrations.remove(&nonce);
    }

    /// The network's params have changed at `now`: this contract is used no more. A proxy pays its clients back by itself
    /// when it moves to new contracts; if it does not in time, this side closes. Said again, nothing changes.
    pub fn outdated(&mut self, now: Duration) {
        self.memory.outdated_since.get_or_insert(whole(now));
        self.advance(now);
    }

    /// They are those of the contract after all: what was said before came from a server that was behind.
    pub fn current(&mut self) {
        self.memory.outdated_since = None;
    }

    /// What became of an order. One that is not known changes nothing.
    pub fn order_ended(&mut self, id: OrderId, end: OrderEnd, now: Duration) {
        if let Some(OnItsWay { order, before }) = self.on_its_way.filter(|sent| sent.order.id == id) {
            self.on_its_way = None;
            match end {
                OrderEnd::Done | OrderEnd::Unresolved => {
                    self.awaited = Some(Awaited { duty: order.duty, before, since: now });
                }
                OrderEnd::Refused | OrderEnd::NotSent => {
                    self.memory.came_back(order.duty.amount());
                    self.failed(now);
                }
            }
            // Whatever it says, the contract tells.
            self.look_at = Some(now);
            self.must_look = true;
        }
        for registration in self.registrations.values_mut().filter(|known| known.order == Some(id)) {
            registration.order = None;
            match end {
                OrderEnd::Done => registration.is_done = true,
                OrderEnd::Refused | OrderEnd::Unresolved | OrderEnd::NotSent => {
                    registration.not_before = now + pause(registration.failures);
                    registration.failures = registration.failures.saturating_add(1);
                }
            }
        }
        self.advance(now);
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.outbox.pop_front()
    }

    /// How the contract is.
    #[must_use]
    pub fn view(&self) -> View {
        let data = self.contract_data();
        let stage = match (&self.contract, data.map(|data| (data.state, data))) {
            (None, _) => Stage::Unknown,
            (Some(_), None) => Stage::NotDeployed,
            (Some(_), Some((ContractState::Normal, _))) if self.is_leaving() => {
                Stage::Closing { unlock_at: None }
            }
            (Some(_), Some((ContractState::Normal, _))) => Stage::Open,
            (Some(_), Some((ContractState::Closing, data))) => {
                Stage::Closing { unlock_at: Some(data.unlock_at) }
            }
            (Some(_), Some((ContractState::Closed, _))) => Stage::Closed,
        };
        let left = data.map_or(NanoTon::ZERO, |data| self.left(data));
        let used = data.map_or(self.used, |data| self.believed().max(data.tokens_used));
        View {
            stage,
            state: data.map_or(ContractState::Normal, |data| data.state),
            tokens_used: data.map_or(AdjustedTokens::ZERO, |data| data.tokens_used),
            balance: data.map_or(NanoTon::ZERO, |data| data.balance),
            stake: data.map_or(self.terms.stake(), |data| data.stake),
            used,
            owed: data.map_or(NanoTon::ZERO, |data| self.owed(data)),
            left,
            unspent: left.buys(self.terms.price()),
            under_way: self.under_way(),
            missing: self.missing,
            held: if self.is_overcharged { Some(OVERCHARGED) } else { self.held },
            failures: self.failures,
        }
    }

    /// Whether nothing can happen to the contract any more: it can be forgotten.
    #[must_use]
    pub fn is_finished(&self, now: Duration) -> bool {
        self.memory.closed_since.is_some_and(|since| since + REMEMBERED_FOR <= now)
    }

    /// Whether the network's params have changed.
    #[must_use]
    pub const fn is_outdated(&self) -> bool {
        self.memory.outdated_since.is_some()
    }

    fn contract_data(&self) -> Option<&ClientData> {
        self.contract.as_ref().and_then(Option::as_ref)
    }
}

/// Without what a file would not keep.
const fn whole(at: Duration) -> Duration {
    Duration::from_secs(at.as_secs())
}

fn available(data: &ClientData) -> NanoTon {
    data.balance.saturating_sub(data.unconfirmed)
}

/// How long to wait after so many failures before.
fn pause(failures: u32) -> Duration {
    RETRY_MIN.saturating_mul(1 << failures.min(10)).min(RETRY_MAX)
}

#[cfg(test)]
mod tests;
