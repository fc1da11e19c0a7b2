//! Orders of a node wallet, as a state machine: what to sign and when, what became of it. It has no clock and no socket.
//!
//! A wallet carries out one signed message for each seqno, and none after its `valid_until`. All safety comes from
//! that:
//! - Orders go out in batches of up to four, one batch at a time. While a batch may run, nothing else is signed.
//! - A batch that was not seen in time is signed anew **with the same seqno**: of all its messages at most one can run.
//! - It gets another seqno only when the wallet has carried out something else under its own (shown by a message with our
//!   signature, which no server can invent), or when the wallet's is lower.
//! - Our key alone moves the seqno on. If it moved and nobody shows by what, a message of the batch may have run: its
//!   orders are not sent again, and the states of their receivers tell what became of them.
//!
//! A batch has run when a transaction of the wallet holds one of its messages. Each order is then followed to the
//! transaction of its receiver, and ends with what that one came to.

mod kept;
mod order;

use std::collections::VecDeque;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use ton::Address;
use ton::contracts::StateInit;
use ton::message::external;
use ton::states::WalletData;
use ton::wallet::{MESSAGES_MAX, WalletOrder};
use tycho_types::cell::{Cell, HashBytes};
use units::{LogicalTime, MessageHash, NanoTon, PublicKey};

pub use kept::KeptError;
pub use order::{Order, OrderError, OrderId, Outcome};

use crate::account::{Account, AccountStatus};
use crate::clock::{self, ClockError, DRIFT_MAX};
use crate::follow::Follower;
use crate::transaction::{Effect, Message, Route, Transaction, TransactionId};

/// With less the wallet waits for its owner: the contract refuses messages below 2 TON, and one costs some of it.
pub const BALANCE_MIN: NanoTon = NanoTon::new(2_100_000_000);
/// With less its owner should hear of it.
pub const BALANCE_LOW: NanoTon = NanoTon::new(5_000_000_000);
/// The most that one batch sends.
pub const BATCH_SUM_MAX: NanoTon = NanoTon::new(1_000_000_000_000);
/// What a batch leaves in the wallet for its fees.
pub const FEES_RESERVE: NanoTon = NanoTon::new(100_000_000);
/// Orders that may wait.
pub const WAITING_MAX: usize = 1_000;

/// How long a signed message holds. Blocks come every few seconds: what is not in one by then was lost.
const VALID_FOR: Duration = Duration::from_secs(90);
/// The same bytes are handed in again after so long.
const HAND_IN_AGAIN: Duration = Duration::from_secs(10);
/// The receiver's transaction is looked for after this, and then after twice as long each time.
const LOOK_FIRST: Duration = Duration::from_millis(200);
const LOOK_MAX: Duration = Duration::from_secs(10);
/// How long it is looked for. The network delivers within seconds; after this, the server does not find it.
const LOOK_FOR: Duration = Duration::from_secs(600);
/// And how often at least in one life: neither an outage nor a jump of the clock ends an order.
const LOOKS_MIN: u32 = 20;
/// Outcomes that wait for whoever ordered.
const FINISHED_MAX: usize = 1_000;

/// Why nothing is signed now, although orders wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Hold {
    /// The wallet was not seen yet.
    #[error("the node wallet was not seen yet")]
    Unseen,
    /// Too little money.
    #[error("the node wallet has {balance} and needs {needed}: send it at least the difference")]
    Funds {
        /// What it has.
        balance: NanoTon,
        /// What the next order needs.
        needed: NanoTon,
    },
    /// Its owner has stopped it.
    #[error("the owner has blocked the node wallet: send it the text \"u\" from the owner's wallet to go on")]
    Blocked,
    /// The clocks disagree.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// There is something else where the wallet should be.
    #[error("the account of the node wallet holds another contract")]
    OtherContract,
    /// An earlier message may still run.
    #[error("a message signed earlier may still run: orders wait until it is too late for it")]
    Uncertain,
}

/// What is to be done now.
#[derive(Clone, Debug)]
pub enum Action {
    /// Hand this external message in. Keep the outbox first: it must not be forgotten that this was signed.
    HandIn(Cell),
    /// Look for the transaction that this message led to.
    Find {
        /// Whose order it was.
        order: OrderId,
        /// Its receiver.
        to: Address,
        /// When it was sent.
        created_lt: LogicalTime,
    },
}

/// Orders that go out together.
#[derive(Clone, Debug, PartialEq)]
struct Batch {
    seqno: u32,
    orders: Vec<Order>,
    /// Every message signed for it, the newest last.
    signed: Vec<Signed>,
    /// The body of the newest one.
    body: Option<Cell>,
    /// When the newest was handed in.
    handed_in_at: Option<Duration>,
    /// The wallet took it and could not send: it is only waited until it cannot run again.
    has_failed: bool,
}

/// A signed message.
#[derive(Clone, Debug, PartialEq)]
struct Signed {
    valid_until: u32,
    /// The hash of its body.
    hash: HashBytes,
}

/// An order that left the wallet.
#[derive(Clone, Debug, PartialEq)]
struct UnderWay {
    id: OrderId,
    to: Address,
    created_lt: LogicalTime,
    message: MessageHash,
    since: Duration,
    look_at: Duration,
    pause: Duration,
    /// How often a server said that there is nothing yet, in this life.
    looks: u32,
}

/// The wallet as of the last look.
#[derive(Clone, Debug)]
struct Seen {
    balance: NanoTon,
    block_time: Duration,
    is_deployed: bool,
    is_blocked: bool,
    is_other: bool,
    /// What the account's data say.
    seqno: u32,
}

/// The orders of one node wallet.
#[derive(Debug)]
pub struct Outbox {
    key: SigningKey,
    state_init: StateInit,
    address: Address,
    seen: Option<Seen>,
    /// The number of the next message; none until the wallet was seen.
    seqno: Option<u32>,
    /// The last transaction of the wallet that was taken in.
    cursor: Option<TransactionId>,
    waiting: VecDeque<Order>,
    batch: Option<Batch>,
    under_way: Vec<UnderWay>,
    finished: VecDeque<(OrderId, Outcome)>,
    hold: Option<Hold>,
    is_changed: bool,
}

impl Outbox {
    /// An outbox without orders of the wallet with this first state, which `key` controls.
    #[must_use]
    pub fn new(key: SigningKey, state_init: StateInit) -> Self {
        let address = state_init.address();
        Self {
            key,
            state_init,
            address,
            seen: None,
            seqno: None,
            cursor: None,
            waiting: VecDeque::new(),
            batch: None,
            under_way: Vec::new(),
            finished: VecDeque::new(),
            hold: Some(Hold::Unseen),
            is_changed: false,
        }
    }

    /// The wallet.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// What the wallet had at the last look.
    #[must_use]
    pub fn balance(&self) -> Option<NanoTon> {
        self.seen.as_ref().map(|seen| seen.balance)
    }

    /// The number of the wallet's next message; none until it was seen.
    #[must_use]
    pub const fn seqno(&self) -> Option<u32> {
        self.seqno
    }

    /// What the wallet has beside what it has promised: to orders that wait, and to those that left and were not seen to
    /// leave. None before the first look.
    #[must_use]
    pub fn unpromised(&self) -> Option<NanoTon> {
        let in_batch = self.batch.iter().flat_map(|batch| &batch.orders);
        let promised = self.waiting.iter().chain(in_batch).map(|order| order.message.value);
        self.balance().map(|balance| promised.fold(balance, NanoTon::saturating_sub))
    }

    /// Why nothing is signed, if orders wait for that.
    #[must_use]
    pub fn hold(&self) -> Option<Hold> {
        self.hold.filter(|_hold| !self.waiting.is_empty() || self.batch.is_some())
    }

    /// Orders that are not over.
    #[must_use]
    pub fn open(&self) -> usize {
        self.waiting.len() + self.batch.as_ref().map_or(0, |batch| batch.orders.len()) + self.under_way.len()
    }

    /// Whether an order of this number is known, over or not.
    #[must_use]
    pub fn knows(&self, id: OrderId) -> bool {
        let in_batch = self.batch.iter().flat_map(|batch| &batch.orders);
        self.waiting.iter().chain(in_batch).any(|order| order.id == id)
            || self.under_way.iter().any(|order| order.id == id)
            || self.outcome(id).is_some()
    }

    /// What became of an order, once it is over.
    #[must_use]
    pub fn outcome(&self, id: OrderId) -> Option<Outcome> {
        self.finished.iter().find(|(finished, _outcome)| *finished == id).map(|(_id, outcome)| *outcome)
    }

    /// Forgets an order that is over.
    pub fn acknowledge(&mut self, id: OrderId) {
        self.finished.retain(|(finished, _outcome)| *finished != id);
        self.is_changed = true;
    }

    /// Takes an order. One whose number is known is the same one: it is not taken twice.
    ///
    /// # Errors
    /// [`OrderError`] if it can never be carried out, or too many wait.
    pub fn submit(&mut self, order: Order) -> Result<(), OrderError> {
        if self.knows(order.id) {
            return Ok(());
        }
        let value_max = BATCH_SUM_MAX.saturating_sub(FEES_RESERVE);
        if order.message.value > value_max {
            return Err(OrderError::TooLarge { value: order.message.value, value_max });
        }
        if self.waiting.len() >= WAITING_MAX {
            return Err(OrderError::Full);
        }
        self.waiting.push_back(order);
        self.is_changed = true;
        Ok(())
    }

    /// Follows the wallet anew when what was seen of it last is on no server any more: from the beginning while something
    /// that was signed may have run, and otherwise from now.
    #[must_use]
    pub fn follower_anew(&self) -> Follower {
        if self.batch.is_some() {
            Follower::from_first(self.address)
        } else {
            Follower::from_now(self.address)
        }
    }

    /// [`Self::submit`], if the wallet can pay for the order beside all that it has promised: nobody else's order counts on
    /// the same coins.
    ///
    /// # Errors
    /// [`OrderError`] as there, or if it cannot.
    pub fn submit_covered(&mut self, order: Order) -> Result<(), OrderError> {
        let unpromised = self.unpromised().unwrap_or_default();
        let needed = order.message.value.checked_add(FEES_RESERVE).unwrap_or(order.message.value);
        if unpromised < needed && !self.knows(order.id) {
            return Err(OrderError::NotCovered { unpromised, needed });
        }
        self.submit(order)
    }

    /// Gives up orders of which nothing was signed, or nothing that can still run: whoever gave them is gone, and decides
    /// anew. Those that may run go on.
    pub fn forget_unsigned(&mut self, now: Duration) {
        self.is_changed |= !self.waiting.is_empty();
        self.waiting.clear();
        if self.batch.is_some() && self.is_quiet(now) {
            self.batch = None;
            self.is_changed = true;
        }
    }

    /// Follows the wallet from where the outbox knows it.
    #[must_use]
    pub fn follower(&self) -> Follower {
        match (self.seqno, self.cursor) {
            (None, _) => Follower::from_now(self.address),
            (Some(_), None) => Follower::from_first(self.address),
            (Some(_), Some(seen)) => Follower::after(self.address, seen),
        }
    }

    /// Whether there is something new to keep, since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// What was taken was not kept.
    pub fn changed(&mut self) {
        self.is_changed = true;
    }

    /// Takes in the wallet's next transaction.
    pub fn transaction(&mut self, transaction: &Transaction, now: Duration) {
        self.cursor = Some(transaction.id);
        self.is_changed = true;
        let Some(Message { route: Route::In, body, .. }) = &transaction.incoming else { return };
        let key = PublicKey::new(self.key.verifying_key().to_bytes());
        let Ok((order, true)) = WalletOrder::from_cell(body, &key) else { return };
        let is_done = transaction.effect.is_done();
        if is_done {
            // Nobody else can have signed it, so the wallet is at least there.
            let next = order.seqno().saturating_add(1);
            self.seqno = Some(self.seqno.map_or(next, |seqno| seqno.max(next)));
        }
        match &mut self.batch {
            Some(batch) if batch.signed.iter().any(|signed| signed.hash == hash(body)) => {
                if is_done {
                    self.batch_ran(transaction, now);
                } else {
                    batch.has_failed = true;
                }
            }
            // Something else went out under its number: it never will.
            Some(batch) if is_done && batch.seqno <= order.seqno() => self.requeue(),
            _ => {}
        }
    }

    /// Takes in the wallet's state, after all its transactions.
    pub fn account(&mut self, account: &Account, now: Duration) {
        let data = account.data().map(WalletData::from_cell);
        let is_deployed = matches!(account.status, AccountStatus::Active { .. });
        let key = PublicKey::new(self.key.verifying_key().to_bytes());
        let is_ours = matches!(&data, Some(Ok(data)) if data.key == key && data.subwallet == 0);
        let data = data.and_then(Result::ok);
        let seqno = data.as_ref().map_or(0, |data| data.seqno);
        self.is_changed |= self.cursor != account.last;
        self.cursor = account.last;
        self.seen = Some(Seen {
            balance: account.balance,
            block_time: account.block_time,
            is_deployed,
            is_blocked: data.as_ref().is_some_and(WalletData::is_blocked),
            is_other: account.status == AccountStatus::Frozen || is_deployed && !is_ours,
            seqno,
        });
        // Nothing of ours can run any more, so what the chain says now holds, whatever it said before.
        if self.seqno != Some(seqno) && self.is_quiet(now) {
            self.seqno = Some(seqno);
            self.is_changed = true;
            match &self.batch {
                Some(batch) if batch.seqno < seqno && !batch.signed.is_empty() => {
                    self.end(Outcome::Unresolved)
                }
                Some(batch) if batch.seqno != seqno => self.requeue(),
                _ => {}
            }
        }
    }

    /// Whether no message that was signed can run any more.
    fn is_quiet(&self, now: Duration) -> bool {
        let block_time = self.seen.as_ref().map_or(Duration::ZERO, |seen| seen.block_time);
        let is_late = |signed: &Signed| {
            let until = Duration::from_secs(signed.valid_until.into());
            block_time > until && now > until + DRIFT_MAX
        };
        self.batch.as_ref().is_none_or(|batch| batch.signed.iter().all(is_late))
    }

    /// What to do at this moment; call it until there is nothing.
    pub fn next(&mut self, now: Duration) -> Option<Action> {
        if let Some(found) = self.next_look(now) {
            return Some(found);
        }
        self.hold = self.holds(now);
        if self.batch.as_ref().is_some_and(|batch| batch.has_failed) {
            if self.is_quiet(now) {
                // It could not send, and cannot run again.
                self.end(Outcome::NotSent);
            }
            return None;
        }
        if self.batch.is_none() && self.hold.is_none() {
            self.begin();
        }
        let is_late = self.is_quiet(now);
        let hold = self.hold;
        let batch = self.batch.as_mut()?;
        if is_late {
            // Nothing is signed by clocks that disagree, or for a wallet that refuses.
            if hold.is_some_and(|hold| !matches!(hold, Hold::Funds { .. })) {
                return None;
            }
            let until = now.saturating_add(VALID_FOR).as_secs();
            let valid_until = u32::try_from(until).unwrap_or(u32::MAX);
            let messages = batch.orders.iter().map(Order::to_send).collect();
            let order = WalletOrder::new(valid_until, batch.seqno, messages);
            let order = order.expect("a batch has no more orders than a message has references");
            let body = order.sign(&self.key);
            batch.signed.push(Signed { valid_until, hash: hash(&body) });
            batch.body = Some(body);
            batch.handed_in_at = None;
            self.is_changed = true;
        }
        if batch.handed_in_at.is_some_and(|at| now < at.saturating_add(HAND_IN_AGAIN)) {
            return None;
        }
        batch.handed_in_at = Some(now);
        let body = batch.body.as_ref()?;
        let is_deployed = self.seen.as_ref().is_some_and(|seen| seen.is_deployed);
        let state_init = (!is_deployed).then_some(&self.state_init);
        Some(Action::HandIn(external(&self.address, state_init, body)))
    }

    /// Takes in what was found for an order that left: the transaction of its receiver, if any.
    pub fn found(&mut self, order: OrderId, found: Option<&Transaction>, now: Duration) {
        let Some(at) = self.under_way.iter().position(|under_way| under_way.id == order) else { return };
        let under_way = &mut self.under_way[at];
        let is_it = |transaction: &&Transaction| {
            transaction.incoming.as_ref().is_some_and(|message| message.hash == under_way.message)
        };
        let outcome = match found.filter(is_it) {
            Some(transaction) => Outcome::of(transaction),
            None => {
                under_way.looks += 1;
                let is_long = now.saturating_sub(under_way.since) > LOOK_FOR;
                if !is_long || under_way.looks < LOOKS_MIN {
                    return self.not_found(order, now);
                }
                Outcome::Unresolved
            }
        };
        self.under_way.remove(at);
        self.finish(order, outcome);
    }

    /// An order that left is looked for again after a while.
    pub fn not_found(&mut self, order: OrderId, now: Duration) {
        if let Some(under_way) = self.under_way.iter_mut().find(|under_way| under_way.id == order) {
            under_way.look_at = now.saturating_add(under_way.pause);
            under_way.pause = (under_way.pause * 2).min(LOOK_MAX);
        }
    }

    fn next_look(&mut self, now: Duration) -> Option<Action> {
        let due = self.under_way.iter_mut().find(|under_way| under_way.look_at <= now)?;
        // Until the answer comes, nobody looks again.
        due.look_at = now.saturating_add(LOOK_MAX);
        Some(Action::Find { order: due.id, to: due.to, created_lt: due.created_lt })
    }

    fn holds(&self, now: Duration) -> Option<Hold> {
        let (Some(seen), Some(seqno)) = (&self.seen, self.seqno) else { return Some(Hold::Unseen) };
        if seen.is_other {
            return Some(Hold::OtherContract);
        }
        if seen.is_blocked {
            return Some(Hold::Blocked);
        }
        if let Err(error) = clock::check(seen.block_time, now) {
            return Some(error.into());
        }
        if seqno != seen.seqno {
            return Some(Hold::Uncertain);
        }
        let cheapest = self.waiting.iter().map(|order| order.message.value).min()?;
        let needed = cheapest.checked_add(FEES_RESERVE).unwrap_or(cheapest).max(BALANCE_MIN);
        (seen.balance < needed).then_some(Hold::Funds { balance: seen.balance, needed })
    }

    /// Takes up to four orders that the wallet can pay, in their order. What does not fit waits, and keeps its place.
    fn begin(&mut self) {
        let (Some(seen), Some(seqno)) = (&self.seen, self.seqno) else { return };
        let mut left = seen.balance.min(BATCH_SUM_MAX).saturating_sub(FEES_RESERVE);
        let (mut orders, mut rest) = (Vec::new(), VecDeque::new());
        for order in self.waiting.drain(..) {
            match left.checked_sub(order.message.value) {
                Ok(less) if orders.len() < MESSAGES_MAX => {
                    left = less;
                    orders.push(order);
                }
                _ => rest.push_back(order),
            }
        }
        self.waiting = rest;
        if !orders.is_empty() {
            self.batch = Some(Batch {
                seqno,
                orders,
                signed: Vec::new(),
                body: None,
                handed_in_at: None,
                has_failed: false,
            });
            self.is_changed = true;
        }
    }

    /// Puts the orders of a batch that never runs back, before all others.
    fn requeue(&mut self) {
        for order in self.batch.take().into_iter().flat_map(|batch| batch.orders).rev() {
            self.waiting.push_front(order);
        }
    }

    /// The batch ran: finds each order among the messages that the wallet sent.
    fn batch_ran(&mut self, transaction: &Transaction, now: Duration) {
        let Some(batch) = self.batch.take() else { return };
        let mut sent: Vec<_> = transaction.outgoing.iter().collect();
        for order in batch.orders {
            let Some(at) = sent.iter().position(|message| order.became(message)) else {
                self.finish(order.id, Outcome::NotSent);
                continue;
            };
            let message = sent.remove(at);
            // It is promised no more, and the next look may be a while away.
            if let Some(seen) = &mut self.seen {
                seen.balance = seen.balance.saturating_sub(order.message.value);
            }
            let Route::Internal { created_lt, .. } = message.route else { continue };
            self.under_way.push(UnderWay {
                id: order.id,
                to: order.message.to,
                created_lt,
                message: message.hash,
                since: now,
                look_at: now,
                pause: LOOK_FIRST,
                looks: 0,
            });
        }
    }

    /// The batch is over, all its orders with the same outcome.
    fn end(&mut self, outcome: Outcome) {
        for order in self.batch.take().into_iter().flat_map(|batch| batch.orders) {
            self.finish(order.id, outcome);
        }
    }

    fn finish(&mut self, id: OrderId, outcome: Outcome) {
        if self.finished.len() == FINISHED_MAX {
            self.finished.pop_front();
        }
        self.finished.push_back((id, outcome));
        self.is_changed = true;
    }
}

/// The hash of a cell, for comparisons.
fn hash(cell: &Cell) -> HashBytes {
    *cell.repr_hash()
}

impl Outcome {
    fn of(transaction: &Transaction) -> Self {
        let returned = transaction.bounced().map(Message::value);
        match (transaction.effect, returned) {
            (Effect::Done, _) => Self::Done { transaction: transaction.id },
            (Effect::NotRun(why), None) => Self::Arrived { transaction: transaction.id, why },
            (effect, returned) => Self::Refused {
                transaction: transaction.id,
                effect,
                returned: returned.unwrap_or(NanoTon::ZERO),
            },
        }
    }
}

#[cfg(test)]
mod tests;
