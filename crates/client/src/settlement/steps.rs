//! What is due, in one place.

use std::time::Duration;

use chain::outbox::OrderId;
use ton::states::{ClientData, ContractState};
use units::{AdjustedTokens, NanoTon};

use super::{
    ATTACHED, Action, Before, CLOSED_FOR, DAY, Duty, Funds, LOOK_CLOSING, LOOK_SOON, Need, OnItsWay, Order,
    ProxyStand, SHOWS_WITHIN, Settlement, available, pause, whole,
};

/// Why nothing is paid in.
pub(super) const TOMORROW: &str =
    "as much as deposits_per_day_max_nanotons allows was paid in at this proxy today";
const UNFIT: &str = "the proxy contract is not there, has no stake, or is being closed";

impl Settlement {
    /// Does what is due. Every fact leads here; otherwise to be called now and then.
    pub fn advance(&mut self, now: Duration) {
        if self.look_at.is_some_and(|at| at <= now) {
            // Once, until it is answered or something new asks for it.
            self.look_at = None;
            self.look();
        }
        if self.contract.is_none() {
            return;
        }
        self.give_up_awaiting(now);
        self.advance_closed(now);
        if self.proxy == ProxyStand::Leaves || self.unused_until().is_some_and(|at| at <= now) {
            // Only what is there can be closed; what is not there is not opened.
            self.memory.close = true;
        }
        let is_idle = self.on_its_way.is_none() && self.awaited.is_none();
        if is_idle && !self.must_look && self.not_before <= now {
            (self.missing, self.held) = (None, None);
            match self.contract_data().cloned() {
                None => self.advance_without_contract(now),
                Some(data) => match data.state {
                    ContractState::Normal => self.advance_open(&data, now),
                    ContractState::Closing => self.advance_closing(now),
                    ContractState::Closed => {}
                },
            }
        }
        // Behind what makes the contract, if it was due.
        self.advance_registrations(now);
    }

    fn look(&mut self) {
        if !self.outbox.contains(&Action::Look) {
            self.outbox.push_back(Action::Look);
        }
    }

    fn advance_without_contract(&mut self, now: Duration) {
        if !self.is_wanted() || self.is_leaving() || self.is_outdated() || !self.takes_deposits() {
            return;
        }
        let none = NanoTon::ZERO;
        if self.today == none {
            self.held = Some(TOMORROW);
            return;
        }
        match self.policy.need(&self.funds(none, none, self.terms.stake(), AdjustedTokens::ZERO)) {
            Need::TopUp(amount) => self.send(Duty::Open { amount }, now),
            // Tokens without a price: the contract is made all the same, since a proxy serves nobody without one.
            Need::Nothing => self.send(Duty::Open { amount: NanoTon::ZERO }, now),
            Need::Funds { missing } => self.missing = Some(missing),
            Need::Tomorrow => self.held = Some(TOMORROW),
        }
    }

    /// Whether the proxy contract takes what is paid in; says why not.
    fn takes_deposits(&mut self) -> bool {
        self.held = match self.proxy {
            ProxyStand::Works => return true,
            ProxyStand::Unknown => None,
            ProxyStand::Unfit | ProxyStand::Leaves => Some(UNFIT),
        };
        false
    }

    fn advance_open(&mut self, data: &ClientData, now: Duration) {
        if self.is_leaving() || self.outdated_at().is_some_and(|at| at <= now) {
            self.memory.close = true;
            return self.send(Duty::RequestRefund, now);
        }
        // A proxy that nobody uses gets nothing, and has nothing landed.
        if self.is_outdated() || !self.is_wanted() {
            return;
        }
        if let Some(charge) = self.charge
            && charge.tokens() <= self.chargeable_max()
            && self.is_worth_landing(data, charge.tokens())
        {
            return self.send(Duty::Charge(*charge.signed()), now);
        }
        let knows_secret = data.secret_hash == *self.terms.secret_hash();
        let pace = self.pace.per_minute(self.believed(), now);
        match self.policy.need(&self.funds(self.left(data), data.balance, data.stake, pace)) {
            Need::TopUp(amount) => {
                if self.takes_deposits() {
                    return self.top_up(data, amount, now);
                }
            }
            Need::Funds { missing } => self.missing = Some(missing),
            Need::Tomorrow => self.held = Some(TOMORROW),
            Need::Nothing => {}
        }
        if !knows_secret {
            self.send(Duty::ChangeSecret, now);
        }
    }

    /// A proxy that charges what this client cannot have used is left.
    pub(super) fn check_charged(&mut self) {
        let charged = self.contract_data().map_or(AdjustedTokens::ZERO, |data| data.tokens_used);
        let chargeable = self.chargeable_max();
        if charged > chargeable {
            self.is_overcharged = true;
            self.memory.close = true;
        }
    }

    /// The most that can have been used honestly: what was charged before this life, what was used then and not charged yet,
    /// which the stake covers, and what the requests of this life can have cost.
    fn chargeable_max(&self) -> AdjustedTokens {
        let Some(before) = self.charged_before else { return AdjustedTokens::new(u64::MAX) };
        let stake = self.contract_data().map_or(self.terms.stake(), |data| data.stake);
        let unlanded = stake.buys(self.terms.price()).unwrap_or(AdjustedTokens::new(u64::MAX));
        let sum = before.get().saturating_add(unlanded.get()).saturating_add(self.cost_max.get());
        AdjustedTokens::new(sum)
    }

    /// What was used, as far as the proxy can be believed.
    pub(super) fn believed(&self) -> AdjustedTokens {
        self.used.min(self.chargeable_max())
    }

    /// The proxy may pay at once; the contract is looked at until it does, or until it need not.
    fn advance_closing(&mut self, now: Duration) {
        self.memory.close = true;
        match self.unlocks_at() {
            Some(at) if at <= now => self.send(Duty::ForceRefund, now),
            _ => {
                self.look_at.get_or_insert(now + LOOK_CLOSING);
            }
        }
    }

    fn advance_closed(&mut self, now: Duration) {
        if self.contract_data().is_none_or(|data| data.state != ContractState::Closed) {
            // Without a word from the chain nothing has changed.
            if self.contract.is_some() {
                self.memory.closed_since = None;
            }
            return;
        }
        let since = *self.memory.closed_since.get_or_insert(whole(now));
        if now < since + CLOSED_FOR {
            self.look_at.get_or_insert(now + LOOK_CLOSING);
        }
    }

    fn advance_registrations(&mut self, now: Duration) {
        let is_open = match self.contract_data() {
            Some(data) => data.state == ContractState::Normal,
            // Messages of one sender arrive in order: behind the one that makes the contract.
            None => self.is_opening(),
        };
        if !is_open || self.is_leaving() || self.register_at > now {
            return;
        }
        let due: Vec<u64> = self
            .registrations
            .iter()
            .filter(|(_nonce, known)| known.order.is_none() && !known.is_done && known.not_before <= now)
            .map(|(nonce, _known)| *nonce)
            .collect();
        for nonce in due {
            let order = self.number(Duty::Register { nonce });
            if let Some(known) = self.registrations.get_mut(&nonce) {
                known.order = Some(order.id);
            }
            self.outbox.push_back(Action::Send(order));
            // A link may break once; a proxy that always does is not paid for it.
            if self.futile > 0 {
                self.register_at = now + pause(self.futile - 1);
            }
            self.futile = self.futile.saturating_add(1);
            if self.register_at > now {
                return;
            }
        }
    }

    fn is_opening(&self) -> bool {
        let duties = [self.on_its_way.map(|sent| sent.order.duty), self.awaited.map(|awaited| awaited.duty)];
        duties.iter().flatten().any(|duty| matches!(duty, Duty::Open { .. }))
    }

    pub(super) fn send(&mut self, duty: Duty, now: Duration) {
        let order = self.number(duty);
        if matches!(duty, Duty::Open { .. }) || duty.amount() > NanoTon::ZERO {
            self.memory.pay_in(duty.amount(), now);
            self.today = self.today.saturating_sub(duty.amount());
        }
        let before = self.contract_data().map_or_else(Before::default, |data| Before {
            paid_in: self.paid_in(data),
            unlock_at: data.unlock_at,
        });
        self.on_its_way = Some(OnItsWay { order, before });
        self.outbox.push_back(Action::Send(order));
    }

    fn number(&mut self, duty: Duty) -> Order {
        let id = OrderId(self.next_order);
        self.next_order = self.next_order.wrapping_add(1);
        Order { id, duty }
    }

    pub(super) fn failed(&mut self, now: Duration) {
        self.not_before = now + pause(self.failures);
        self.failures = self.failures.saturating_add(1);
    }

    /// Whether the order that was done shows in the contract; if it does not yet, the contract is looked at again.
    pub(super) fn check_awaited(&mut self, now: Duration) {
        let Some(awaited) = self.awaited else { return };
        let secret = *self.terms.secret_hash();
        let shows = self.contract_data().is_some_and(|data| match awaited.duty {
            Duty::Open { amount } | Duty::TopUp { amount } | Duty::TopUpWithSecret { amount } => {
                // The proxy contract may still send it back while it is unconfirmed.
                data.unconfirmed == NanoTon::ZERO
                    && self.paid_in(data) >= awaited.before.paid_in + u128::from(amount.get())
            }
            Duty::ChangeSecret => data.secret_hash == secret,
            Duty::Charge(payment) => data.tokens_used >= payment.tokens,
            Duty::Withdraw => available(data) <= data.stake,
            Duty::RequestRefund => data.state != ContractState::Normal,
            Duty::ForceRefund => {
                data.state == ContractState::Closed || data.unlock_at != awaited.before.unlock_at
            }
            Duty::Register { .. } => true,
        });
        let is_over = self.contract_data().is_some_and(|data| data.state == ContractState::Closed);
        if shows || is_over {
            self.awaited = None;
            self.failures = 0;
            self.not_before = now;
        } else {
            self.look_at.get_or_insert(now + LOOK_SOON);
        }
    }

    /// A deposit that was taken and is not there was sent back: the proxy takes none. Others were undone the same way.
    fn give_up_awaiting(&mut self, now: Duration) {
        let is_late = self.awaited.is_some_and(|awaited| awaited.since + SHOWS_WITHIN <= now);
        if is_late {
            self.awaited = None;
            self.failed(now);
            self.look_at.get_or_insert(now + LOOK_SOON);
            self.must_look = true;
        }
    }

    fn funds(&self, left: NanoTon, balance: NanoTon, stake: NanoTon, pace: AdjustedTokens) -> Funds {
        let price = self.terms.price();
        Funds {
            left,
            balance,
            pace: price.charge(pace).unwrap_or(NanoTon::new(u64::MAX)),
            stake,
            price,
            wallet: self.wallet,
            attached: ATTACHED,
            today: self.today,
        }
    }

    /// Paid in and not used.
    pub(super) fn left(&self, data: &ClientData) -> NanoTon {
        data.balance.saturating_sub(self.owed(data))
    }

    /// Used and not charged on the chain.
    pub(super) fn owed(&self, data: &ClientData) -> NanoTon {
        let unlanded = self.believed().saturating_sub(data.tokens_used);
        self.terms.price().charge(unlanded).unwrap_or(NanoTon::new(u64::MAX))
    }

    /// The order that is on its way, or was done and does not show yet.
    pub(super) fn under_way(&self) -> Option<Duty> {
        let sent = self.on_its_way.map(|sent| sent.order.duty);
        sent.or(self.awaited.map(|awaited| awaited.duty))
    }

    /// Pays in.
    pub(super) fn top_up(&mut self, data: &ClientData, amount: NanoTon, now: Duration) {
        let duty = match data.secret_hash == *self.terms.secret_hash() {
            true => Duty::TopUp { amount },
            false => Duty::TopUpWithSecret { amount },
        };
        self.send(duty, now);
    }

    /// A proxy lets a client use no more than its stake beyond the last charge on the chain. Half of it is time to land
    /// what the proxy signed, if that frees a quarter at least.
    fn is_worth_landing(&self, data: &ClientData, signed: AdjustedTokens) -> bool {
        let cost = |tokens: AdjustedTokens| {
            let beyond = tokens.saturating_sub(data.tokens_used);
            self.terms.price().charge(beyond).unwrap_or(NanoTon::new(u64::MAX))
        };
        signed > data.tokens_used
            && cost(self.believed().max(signed)).get() > data.stake.get() / 2
            && cost(signed).get() >= data.stake.get() / 4
    }

    /// What was paid in over the contract's life, as far as it can be told from the contract: never less than before
    /// unless something was taken out.
    pub(super) fn paid_in(&self, data: &ClientData) -> u128 {
        let charged = u128::from(self.terms.price().get()) * u128::from(data.tokens_used.get());
        charged + u128::from(data.balance.get())
    }

    pub(super) const fn is_leaving(&self) -> bool {
        self.memory.close
    }

    /// When this side closes an outdated contract by itself.
    pub(super) fn outdated_at(&self) -> Option<Duration> {
        let is_open = self.contract_data().is_some_and(|data| data.state == ContractState::Normal);
        let since = self.memory.outdated_since.filter(|_since| is_open)?;
        Some(since + Duration::from_secs(self.terms.outdated_for_s()))
    }

    /// When this side closes a contract that nobody uses.
    pub(super) fn unused_until(&self) -> Option<Duration> {
        self.memory.unused_since.map(|since| since.saturating_add(DAY))
    }

    /// When a closing contract can be taken without the proxy. The contract wants its time to be over, not just reached,
    /// and its chain's clock may be behind ours.
    pub(super) fn unlocks_at(&self) -> Option<Duration> {
        let data = self.contract_data().filter(|data| data.state == ContractState::Closing)?;
        Some(Duration::from_secs(u64::from(data.unlock_at) + UNLOCK_MARGIN_S))
    }
}

/// As far as the clocks of this machine and of the chain may disagree.
const UNLOCK_MARGIN_S: u64 = 5;
