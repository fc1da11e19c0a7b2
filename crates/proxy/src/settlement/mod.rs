//! Settling with the chain: what is deployed, staked, charged, paid out, anchored and closed, and when.
//!
//! A [`Settlement`] is a value to feed, as the core is: facts from the chain and the books go in, [`Action`]s come out. It
//! belongs to one proxy contract and to that contract's books; when the params of the network change, the contract before is
//! closed by its own settlement while the next one works. There is no socket, no clock and no randomness but the seed.
//!
//! Invariants:
//! - Orders carry totals that the ledger lets be signed, and nothing else: durable, and protected by an anchor.
//! - What a client may spend is what the chain showed last and what its contract cannot take back before this proxy has
//!   answered: the lower of balance and stake beyond the last charge that the chain confirmed. Orders on their way count
//!   for nothing.
//! - At most one order of a process is on its way to each contract, and an anchor beside it to the own one. What an earlier process
//!   ordered may arrive too: orders say totals, so that none counts twice. One that fails is tried again, each time later, but in
//!   time for a client that leaves.
//! - The contract is closed for good only after its delay, when every client and worker has got what is worth its gas, or was given
//!   up after many failures ([`Action::GaveUp`]). What is not paid out stays in the contract for them.
//! - After an anchor or a total on the chain that the books do not hold no order is given any more: [`Unready::Foreign`].
//! - Nothing that strangers send to the contract can do more than be counted.

mod chain_facts;
mod due;
mod order;
mod own;
mod policy;
mod unready;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use ahash::{HashMap, HashSet};
use ledger::{Ledger, Party};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use ton::Address;
use units::{AdjustedTokens, LogicalTime, NanoTon};

use self::own::Own;
use crate::core::Now;

pub use chain_facts::Seen;
pub use order::{Desk, Duty, Order, OrderId};
pub use policy::Policy;
pub use unready::{Foreign, Unready};

/// What has to be done, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Have the wallet send an order, and say with [`Settlement::order_ended`] what became of it.
    Send(Order),
    /// Read the contract of a party, and say with [`Settlement::looked_at_client`] or
    /// [`Settlement::looked_at_worker`] what is there.
    Look(Party),
    /// A client has shown on the chain that it knows the number of a connection.
    Registered {
        /// Its wallet.
        client: Address,
        /// The number.
        nonce: u64,
    },
    /// A party whose orders fail again and again does not get what is his before the contract closes, unless he gets it
    /// himself.
    GaveUp(Party),
    /// The contract is closed for good, and nobody has anything to get from it that we owe.
    Ended,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderEnd {
    /// The contract that it went to did what it says; a notice has arrived.
    Done {
        /// The logical time of the contract's transaction.
        lt: LogicalTime,
    },
    /// That contract refused, or something it wanted to send could not be sent.
    Refused {
        /// The code that the transaction ended with.
        code: i32,
    },
    /// It never left the wallet, and never will.
    NotSent,
}

/// What the settlement of one proxy contract knows and does.
#[derive(Debug)]
pub struct Settlement {
    desk: Desk,
    policy: Policy,
    random: StdRng,
    /// What the chain shows up to here is taken as it is, whatever the books say.
    accepted: LogicalTime,
    own: Own,
    stage: Stage,
    wallet: Option<NanoTon>,
    heard: Option<Instant>,
    /// The chain's clock when it was heard last.
    chain_time: Duration,
    foreign: Option<Foreign>,
    /// Parties with an order on its way, or one that failed.
    sides: HashMap<Party, Side>,
    /// Parties to look at in the books.
    due: BTreeSet<Party>,
    /// Parties whose dues are settled however small they are.
    demanded: HashSet<Party>,
    wakes: BTreeSet<(Instant, Wake)>,
    orders: HashMap<OrderId, Duty>,
    next_order: u64,
    outbox: VecDeque<Action>,
    ignored: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    Closing {
        /// Who has not got everything yet.
        leaving: BTreeSet<Party>,
    },
    Ended,
}

/// What is under way with one party.
#[derive(Debug)]
struct Side {
    /// The last order's.
    duty: Duty,
    order: Option<OrderId>,
    /// Its order was done, and its contract's state after it was not seen yet.
    awaits_notice: bool,
    /// In a row; what was done and did not show is one too.
    failures: u32,
    not_before: Option<Instant>,
}

impl Side {
    fn forgive(&mut self) {
        (self.failures, self.not_before) = (0, None);
    }
}

/// What time brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wake {
    Own,
    Anchor,
    Try(Party),
    Look(Party),
}

/// Orders to others on their way at once: two full messages of the wallet.
const ORDERS_MAX: usize = 8;
/// How long after a failure an order is tried again; doubled with each.
const RETRY_MIN: Duration = Duration::from_secs(30);
const RETRY_MAX: Duration = Duration::from_secs(3600);
/// How long the notice of an order that was done may take before the contract is read instead.
const NOTICE_MAX: Duration = Duration::from_secs(30);
/// How long after a request was still running, or its charge not signable, its parties are looked at again.
const LATER: Duration = Duration::from_secs(2);
/// Attempts to let a party leave, before a contract closes without it.
const ATTEMPTS_MAX: u32 = 6;

impl Settlement {
    /// The settlement of the contract of `desk`, whose books are to be given to all methods, and follow the chain from
    /// now on. What the chain shows up to `accepted` is taken as it is, even if the books do not hold it.
    #[must_use]
    pub fn new(
        desk: Desk,
        policy: Policy,
        accepted: LogicalTime,
        books: &mut Ledger,
        seed: [u8; 32],
    ) -> Self {
        let price = books.prices().price_per_token();
        books.follow_chain(policy.at_risk_max.buys(price).unwrap_or(AdjustedTokens::new(u64::MAX)));
        // What was left undone when the process ended.
        let due = parties(books).collect();
        Self {
            desk,
            policy,
            random: StdRng::from_seed(seed),
            accepted,
            own: Own::default(),
            stage: Stage::Serving,
            wallet: None,
            heard: None,
            chain_time: Duration::ZERO,
            foreign: None,
            sides: HashMap::default(),
            due,
            demanded: HashSet::default(),
            wakes: BTreeSet::new(),
            orders: HashMap::default(),
            next_order: 0,
            outbox: VecDeque::new(),
            ignored: 0,
        }
    }

    /// How orders are written and signed.
    #[must_use]
    pub const fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Does what is due. To be called after every other method, and when [`Self::poll_timeout`] has passed.
    pub fn advance(&mut self, books: &mut Ledger, now: Now) {
        if self.foreign.is_some() {
            return;
        }
        while let Some((at, wake)) = self.wakes.first().copied()
            && at <= now.instant
        {
            self.wakes.pop_first();
            match wake {
                // It is looked at in any case.
                Wake::Own => {}
                Wake::Anchor => {
                    self.own.anchors = self.orders.values().any(|duty| matches!(duty, Duty::Anchor(_)));
                }
                Wake::Try(party) => {
                    self.due.insert(party);
                }
                Wake::Look(party) => self.outbox.push_back(Action::Look(party)),
            }
        }
        let mut settled = Vec::new();
        books.take_settled(&mut settled);
        self.due.extend(settled);
        // Nothing is sent to others before the own contract was read: it may be closing.
        if self.own.contract.is_none() {
            return;
        }
        self.advance_anchor(books);
        self.advance_own(books, now);
        self.advance_parties(books, now);
        if self.closes() {
            // The last one may have left just now.
            self.advance_own(books, now);
        }
    }

    /// When [`Self::advance`] has something to do if nothing else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wakes.first().map(|(at, _)| *at).filter(|_| self.foreign.is_none())
    }

    /// The next thing to do. To be called until it returns `None`, after [`Self::advance`].
    pub fn poll_action(&mut self) -> Option<Action> {
        self.outbox.pop_front()
    }

    /// What became of an order.
    pub fn order_ended(&mut self, books: &Ledger, order: OrderId, end: OrderEnd, now: Now) {
        let Some(duty) = self.orders.remove(&order) else { return };
        match duty.party() {
            Some(party) => self.order_to_party_ended(books, party, &duty, end, now),
            None if matches!(duty, Duty::Anchor(_)) => self.anchor_ended(end, now),
            None => self.own_order_ended(&duty, end, now),
        }
    }

    fn order_to_party_ended(&mut self, books: &Ledger, party: Party, duty: &Duty, end: OrderEnd, now: Now) {
        let Some(side) = self.sides.get_mut(&party) else { return };
        side.order = None;
        match end {
            // However it ended: perhaps its owner was faster.
            _ if due::shows(books, duty) => {
                self.done(party);
                self.due.insert(party);
            }
            OrderEnd::Done { .. } => {
                side.awaits_notice = true;
                self.wakes.insert((now.instant + NOTICE_MAX, Wake::Look(party)));
            }
            OrderEnd::Refused { .. } => {
                self.failed(party, now);
                // There may be nothing left to do.
                self.outbox.push_back(Action::Look(party));
            }
            OrderEnd::NotSent => self.failed(party, now),
        }
    }

    /// The chain shows what the last order to a party has done.
    fn done(&mut self, party: Party) {
        self.sides.remove(&party);
        self.demanded.remove(&party);
    }

    /// An order to a party came to nothing.
    fn failed(&mut self, party: Party, now: Now) {
        let Some(side) = self.sides.get_mut(&party) else { return };
        side.failures = side.failures.saturating_add(1);
        let at = now.instant + delay(side.failures, &self.desk);
        side.not_before = Some(at);
        self.wakes.insert((at, Wake::Try(party)));
    }

    /// Settles a party's dues now, however small they are.
    pub fn demand(&mut self, party: Party) {
        self.demanded.insert(party);
        self.due.insert(party);
    }

    /// [`Self::demand`] for all parties of a kind.
    pub fn demand_all(&mut self, books: &Ledger, is_meant: impl Fn(Party) -> bool) {
        for party in parties(books).filter(|party| is_meant(*party)) {
            self.demand(party);
        }
    }

    /// Closes the contract: everybody gets what is his, and the proxy's owner the rest after the delay. Nothing may run
    /// under it any more, or be begun.
    pub fn begin_close(&mut self, books: &Ledger) {
        if self.stage == Stage::Serving {
            let leaving: BTreeSet<_> = parties(books).collect();
            self.due.extend(leaving.iter().copied());
            // What was tried for something else says nothing about the last order.
            self.sides.values_mut().for_each(Side::forgive);
            self.stage = Stage::Closing { leaving };
        }
    }

    /// Whether the contract closes or is closed.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.stage != Stage::Serving
    }

    /// The wallet's balance.
    pub fn wallet_seen(&mut self, balance: NanoTon) {
        self.wallet = Some(balance);
    }

    /// Messages to the own contract that looked like a client's or worker's and were not.
    #[must_use]
    pub const fn ignored(&self) -> u64 {
        self.ignored
    }

    /// How many orders are on their way.
    #[must_use]
    pub fn orders_len(&self) -> usize {
        self.orders.len()
    }

    /// Whether an order to the party is on its way.
    #[must_use]
    pub fn is_settling(&self, party: Party) -> bool {
        self.sides.get(&party).is_some_and(|side| side.order.is_some())
    }

    /// Longest time that a request may run: a client that leaves while it runs shall still be charged for it.
    #[must_use]
    pub fn request_max(&self) -> Duration {
        self.desk.root().params.client_delay_before_close.duration() / 2
    }

    fn advance_parties(&mut self, books: &Ledger, now: Now) {
        // Whoever is not asked stays due: there may be very many.
        while self.orders.len() < ORDERS_MAX
            && let Some(party) = self.due.pop_first()
        {
            match self.need(books, party, now) {
                due::Need::Nothing => {
                    self.sides.remove(&party);
                    self.demanded.remove(&party);
                    self.has_left(party);
                }
                due::Need::GiveUp => {
                    if self.has_left(party) {
                        self.outbox.push_back(Action::GaveUp(party));
                    }
                }
                due::Need::Patience => {}
                due::Need::Later => {
                    self.wakes.insert((now.instant + LATER, Wake::Try(party)));
                }
                due::Need::Order(duty) => {
                    let order = Some(self.send(duty));
                    let new = Side { duty, order, awaits_notice: false, failures: 0, not_before: None };
                    let side = self.sides.entry(party).or_insert(new);
                    (side.duty, side.order) = (duty, order);
                }
            }
        }
    }

    /// A closing contract does not wait for the party any more. Returns whether it did.
    fn has_left(&mut self, party: Party) -> bool {
        match &mut self.stage {
            Stage::Closing { leaving } => leaving.remove(&party),
            Stage::Serving | Stage::Ended => false,
        }
    }

    fn send(&mut self, duty: Duty) -> OrderId {
        let id = OrderId(self.next_order);
        self.next_order += 1;
        self.orders.insert(id, duty);
        self.outbox.push_back(Action::Send(Order { id, duty }));
        id
    }
}

/// How long after that many failures an order is tried again: in time for a client that leaves meanwhile.
fn delay(failures: u32, desk: &Desk) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let in_time = desk.root().params.client_delay_before_close.duration() / 8;
    (RETRY_MIN * (1 << doublings)).min(RETRY_MAX).min(in_time.max(Duration::from_secs(1)))
}

/// Everybody in the books.
fn parties(books: &Ledger) -> impl Iterator<Item = Party> + '_ {
    let clients = books.clients().map(|(owner, _)| Party::Client(owner));
    clients.chain(books.workers().map(|(owner, _)| Party::Worker(owner)))
}
