//! The ledger itself: holds, charges and running sums.

use ahash::HashMap;
use ton::Address;
use units::{AdjustedTokens, NanoTon};

use crate::account::{ClientAccount, WorkerAccount};
use crate::anchor::Anchors;
use crate::facts::Followed;
use crate::journal::Bill;
use crate::recorder::Recorder;
use crate::{ClientFunds, ClientLimits, PriceTable, WorkerTotals};

/// All accounts of one proxy contract.
///
/// An account is named by its owner. One owner may be a client and a worker, and that is two accounts. What has to
/// outlive the process waits for [`Self::take_records`].
#[derive(Debug)]
pub struct Ledger {
    pub(crate) prices: PriceTable,
    pub(crate) clients: HashMap<Address, ClientAccount>,
    pub(crate) workers: HashMap<Address, WorkerAccount>,
    pub(crate) pending: HashMap<u64, Pending>,
    pub(crate) next_hold: u64,
    pub(crate) sums: Sums,
    pub(crate) recorder: Recorder,
    pub(crate) anchors: Anchors,
    pub(crate) followed: Option<Followed>,
}

/// The right to end one pending transfer. It cannot be copied and `post` and `void` take it away, so a transfer
/// ends at most once; that it ends at all is the holder's duty.
#[derive(Debug)]
#[must_use = "a hold ends by post or void; a forgotten one blocks the client's tokens for good"]
pub struct Hold {
    id: u64,
}

#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) client: Address,
    pub(crate) worker: Address,
    pub(crate) amount: AdjustedTokens,
}

/// Running sums of this ledger: what was brought forward from elsewhere is not in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) held: AdjustedTokens,
    pub(crate) clients_charged: AdjustedTokens,
    pub(crate) workers_earned: AdjustedTokens,
    pub(crate) clients_paid: NanoTon,
    pub(crate) workers_paid: NanoTon,
    pub(crate) proxy_fees: NanoTon,
}

/// Everything that was charged, and where it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Adjusted tokens charged to clients; workers earned the same number.
    pub tokens: AdjustedTokens,
    /// Adjusted tokens held for running requests.
    pub held: AdjustedTokens,
    /// What clients owe for `tokens`.
    pub charged: NanoTon,
    /// What workers earn of it.
    pub earned: NanoTon,
    /// What the proxy keeps: `charged` less `earned`.
    pub fees: NanoTon,
}

/// Why a request cannot be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// The client has no account.
    #[error("the client has no account")]
    UnknownClient,
    /// The worker has no account.
    #[error("the worker has no account")]
    UnknownWorker,
    /// The request may cost more than the client has left.
    #[error("the request may cost {needed} adjusted tokens, {available} are available")]
    Insufficient {
        /// The hold that was asked for.
        needed: AdjustedTokens,
        /// What the client has left.
        available: AdjustedTokens,
    },
    /// The sums of this ledger would leave the range that messages carry.
    #[error("the totals of this proxy are exhausted")]
    Exhausted,
}

/// A hold that this ledger did not issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hold {id} is not pending in this ledger")]
pub struct UnknownHold {
    id: u64,
}

/// Why a pending transfer cannot move to another worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReassignError {
    /// Another ledger issued the hold.
    #[error(transparent)]
    UnknownHold(UnknownHold),
    /// The worker has no account.
    #[error("the worker has no account")]
    UnknownWorker,
    /// The worker runs as many requests as can be counted, or has earned as much.
    #[error("the worker's requests or earnings cannot be counted any more")]
    Exhausted,
}

/// What became of a pending transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posted {
    /// What the client was charged and the worker earned.
    pub charged: AdjustedTokens,
    /// What the worker counted beyond the hold; nobody pays it.
    pub capped: AdjustedTokens,
    /// The client's total after the charge.
    pub client_used: AdjustedTokens,
    /// The worker's total after it.
    pub worker_earned: AdjustedTokens,
}

/// Totals travel as signed 64-bit numbers.
pub(crate) const TOTAL_MAX: AdjustedTokens = AdjustedTokens::new(i64::MAX as u64);

impl Ledger {
    /// An empty book with the prices of one proxy contract.
    #[must_use]
    pub fn new(prices: PriceTable) -> Self {
        Self {
            prices,
            clients: HashMap::default(),
            workers: HashMap::default(),
            pending: HashMap::default(),
            next_hold: 0,
            sums: Sums::default(),
            recorder: Recorder::default(),
            anchors: Anchors::default(),
            followed: None,
        }
    }

    /// The prices of this ledger.
    #[must_use]
    pub const fn prices(&self) -> &PriceTable {
        &self.prices
    }

    /// Opens a client's account, or notes newer facts from the chain about it. Tokens that the chain counts and
    /// this ledger does not are brought forward; the client's total never decreases.
    pub fn open_client(&mut self, client: Address, funds: ClientFunds) {
        let account = self.clients.entry(client).or_default();
        let (before, used_before) = (account.funds, account.used());
        account.funds = funds;
        account.bring_forward();
        // Who neither owes nor ever owed anything leaves no trace in the journal.
        if account.used() > AdjustedTokens::ZERO && (funds != before || account.number.is_none()) {
            self.recorder.note_funds(&client, account, used_before);
        }
    }

    /// Forgets a client that owes nothing, runs nothing and is not in the journal. Returns whether it was forgotten.
    pub fn forget_idle_client(&mut self, client: Address) -> bool {
        let idle = |account: &ClientAccount| {
            account.used() == AdjustedTokens::ZERO && account.running == 0 && account.number.is_none()
        };
        self.clients.get(&client).is_some_and(idle) && self.clients.remove(&client).is_some()
    }

    /// Opens a worker's account; an open one stays as it is.
    pub fn open_worker(&mut self, worker: Address) {
        self.workers.entry(worker).or_default();
    }

    /// Forgets a worker that earned nothing, runs nothing and is not in the journal. Returns whether it was forgotten.
    pub fn forget_idle_worker(&mut self, worker: Address) -> bool {
        let idle =
            |account: &WorkerAccount| account.totals() == WorkerTotals::default() && account.number.is_none();
        self.workers.get(&worker).is_some_and(idle) && self.workers.remove(&worker).is_some()
    }

    /// How far a client may go; `None` without an account.
    #[must_use]
    pub fn client(&self, client: Address) -> Option<ClientLimits> {
        self.clients.get(&client).map(|account| account.limits(self.prices.price_per_token()))
    }

    /// What a worker has earned; `None` without an account.
    #[must_use]
    pub fn worker(&self, worker: Address) -> Option<WorkerTotals> {
        self.workers.get(&worker).map(WorkerAccount::totals)
    }

    /// Holds `amount` of the client's tokens for a request that `worker` will run.
    ///
    /// # Errors
    /// [`ReserveError`]; nothing changed then.
    pub fn reserve(
        &mut self,
        client: Address,
        worker: Address,
        amount: AdjustedTokens,
    ) -> Result<Hold, ReserveError> {
        let limits = self.client(client).ok_or(ReserveError::UnknownClient)?;
        if !self.workers.contains_key(&worker) {
            return Err(ReserveError::UnknownWorker);
        }
        if amount > limits.available {
            return Err(ReserveError::Insufficient { needed: amount, available: limits.available });
        }
        // Bounding the sum of everything charged and held here is what lets `post` add without a check.
        let exhausted = |_overflow| ReserveError::Exhausted;
        let promised = self.sums.clients_charged.checked_add(self.sums.held).map_err(exhausted)?;
        let promised = promised.checked_add(amount).map_err(exhausted)?;
        self.prices.price_per_token().charge(promised).map_err(exhausted)?;
        let next_hold = self.next_hold.checked_add(1).ok_or(ReserveError::Exhausted)?;
        let client_running = limits.running.checked_add(1).ok_or(ReserveError::Exhausted)?;
        let worker_before = self.workers.get(&worker).map_or(AdjustedTokens::ZERO, WorkerAccount::total);
        if limits.used.max(worker_before).checked_add(promised).map_err(exhausted)? > TOTAL_MAX {
            return Err(ReserveError::Exhausted);
        }

        let client_account = self.clients.get_mut(&client).ok_or(ReserveError::UnknownClient)?;
        let worker_account = self.workers.get_mut(&worker).ok_or(ReserveError::UnknownWorker)?;
        worker_account.running = worker_account.running.checked_add(1).ok_or(ReserveError::Exhausted)?;
        client_account.running = client_running;
        client_account.reserved = sum(client_account.reserved, amount);
        self.sums.held = sum(self.sums.held, amount);
        let id = std::mem::replace(&mut self.next_hold, next_hold);
        self.pending.insert(id, Pending { client, worker, amount });
        Ok(Hold { id })
    }

    /// Moves a pending transfer to another worker, which will run the request in place of the first. The hold stays the
    /// same one: what ends it is one charge, and the first worker earns nothing.
    ///
    /// # Errors
    /// [`ReassignError`]; nothing changed then.
    pub fn reassign(&mut self, hold: &Hold, worker: Address) -> Result<(), ReassignError> {
        let pending =
            self.pending.get_mut(&hold.id).ok_or(ReassignError::UnknownHold(UnknownHold { id: hold.id }))?;
        let account = self.workers.get_mut(&worker).ok_or(ReassignError::UnknownWorker)?;
        let promised = sum(self.sums.clients_charged, self.sums.held);
        if account.total().checked_add(promised).map_or(true, |total| total > TOTAL_MAX) {
            return Err(ReassignError::Exhausted);
        }
        account.running = account.running.checked_add(1).ok_or(ReassignError::Exhausted)?;
        let first = self.workers.get_mut(&pending.worker).expect(PARTIES_STAY);
        first.running = first.running.checked_sub(1).expect(HELD_IS_SUM);
        pending.worker = worker;
        Ok(())
    }

    /// Ends a transfer with a charge: what the worker `counted`, at most what was held. The rest is free again.
    /// A charge of nothing is like [`Self::void`] and leaves no record.
    ///
    /// # Errors
    /// [`UnknownHold`] if another ledger issued the hold.
    pub fn post(
        &mut self,
        hold: Hold,
        counted: AdjustedTokens,
        bill: &Bill<'_>,
    ) -> Result<Posted, UnknownHold> {
        let pending = self.release(hold)?;
        let charged = counted.min(pending.amount);
        let client = self.clients.get_mut(&pending.client).expect(PARTIES_STAY);
        let worker = self.workers.get_mut(&pending.worker).expect(PARTIES_STAY);
        if charged > AdjustedTokens::ZERO {
            // Before the totals change: those of the last commit are what may still be signed.
            let parties = ((&pending.client, &mut *client), (&pending.worker, &mut *worker));
            self.recorder.charge(parties, charged, bill);
        }
        client.charged = sum(client.charged, charged);
        worker.earned = sum(worker.earned, charged);
        let (client_used, worker_earned) = (client.used(), worker.total());
        self.note_charge(charged);
        Ok(Posted { charged, capped: counted.saturating_sub(charged), client_used, worker_earned })
    }

    /// Ends a transfer without a charge.
    ///
    /// # Errors
    /// [`UnknownHold`] if another ledger issued the hold.
    pub fn void(&mut self, hold: Hold) -> Result<(), UnknownHold> {
        self.release(hold).map(|_pending| ())
    }

    /// How many clients and workers have an account.
    #[must_use]
    pub fn accounts_len(&self) -> (usize, usize) {
        (self.clients.len(), self.workers.len())
    }

    /// Everything that was charged so far, and where it went.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        Totals {
            tokens: self.sums.clients_charged,
            held: self.sums.held,
            charged: self.sums.clients_paid,
            earned: self.sums.workers_paid,
            fees: self.sums.proxy_fees,
        }
    }

    /// All clients and their limits, in no order.
    pub fn clients(&self) -> impl Iterator<Item = (Address, ClientLimits)> + '_ {
        let price = self.prices.price_per_token();
        self.clients.iter().map(move |(key, account)| (*key, account.limits(price)))
    }

    /// All workers and their totals, in no order.
    pub fn workers(&self) -> impl Iterator<Item = (Address, WorkerTotals)> + '_ {
        self.workers.iter().map(|(key, account)| (*key, account.totals()))
    }

    fn release(&mut self, hold: Hold) -> Result<Pending, UnknownHold> {
        let pending = self.pending.remove(&hold.id).ok_or(UnknownHold { id: hold.id })?;
        let client = self.clients.get_mut(&pending.client).expect(PARTIES_STAY);
        client.reserved = client.reserved.checked_sub(pending.amount).expect(HELD_IS_SUM);
        client.running = client.running.checked_sub(1).expect(HELD_IS_SUM);
        let worker = self.workers.get_mut(&pending.worker).expect(PARTIES_STAY);
        worker.running = worker.running.checked_sub(1).expect(HELD_IS_SUM);
        self.sums.held = self.sums.held.checked_sub(pending.amount).expect(HELD_IS_SUM);
        Ok(pending)
    }

    fn note_charge(&mut self, charged: AdjustedTokens) {
        let paid = |price: NanoTon, before: NanoTon| {
            let amount = price.charge(charged).expect(BOUNDED);
            before.checked_add(amount).expect(BOUNDED)
        };
        let sums = &mut self.sums;
        sums.clients_charged = sum(sums.clients_charged, charged);
        sums.workers_earned = sum(sums.workers_earned, charged);
        sums.clients_paid = paid(self.prices.price_per_token(), sums.clients_paid);
        sums.workers_paid = paid(self.prices.worker_fee_per_token(), sums.workers_paid);
        sums.proxy_fees = paid(self.prices.proxy_fee_per_token(), sums.proxy_fees);
        assert_eq!(
            sums.clients_charged, sums.workers_earned,
            "client charges equal worker earnings in tokens"
        );
        assert_eq!(
            Ok(sums.clients_paid),
            sums.workers_paid.checked_add(sums.proxy_fees),
            "client charges equal worker earnings and proxy fees in nanotons"
        );
    }
}

const PARTIES_STAY: &str = "accounts with a pending transfer are never forgotten";
const HELD_IS_SUM: &str = "what is reserved and running is the sum of pending transfers";
const BOUNDED: &str = "a hold is refused when the sums it could lead to do not fit";

fn sum(left: AdjustedTokens, right: AdjustedTokens) -> AdjustedTokens {
    left.checked_add(right).expect(BOUNDED)
}
