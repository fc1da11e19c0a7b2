//! What a purse does again and again: it takes in what is new, has settlements decide, writes that down, and hands it out.

use std::sync::Arc;
use std::time::Duration;

use chain::outbox::{self, OrderId, Outcome};
use chain::{Account, AccountStatus, Trust};
use node::failpoint;
use tokio::sync::watch;
use ton::states::{ClientData, ContractState, ProxyData};
use ton::{Address, ContractCode, RootConfig};
use transport::clock::unix_now;
use units::{LogicalTime, NanoTon};

use super::{Contract, Ended, Inner, Purse, PurseError};
use crate::session::Accounts;
use crate::settlement::kept::{self, KeptContract};
use crate::settlement::{Action, Duty, Order, OrderEnd, ProxyStand, Settlement};

/// How often contracts are read when nothing is known to have happened: proxies land charges, and anybody may pay in.
const LOOK_EVERY: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(15)];
/// The longest pause between two steps.
const TICK: Duration = Duration::from_secs(1);
/// After a question without an answer.
const TICK_AFTER_ERROR: Duration = Duration::from_secs(10);
/// Rounds of actions in one step; what is left comes with the next.
const ROUNDS_MAX: usize = 8;

impl Purse {
    /// Takes in what is new, and does what is due. Contracts under params before those of `config` are closed.
    ///
    /// # Errors
    /// [`PurseError`]; the next step goes on.
    pub async fn step(&self, config: &RootConfig, now: Duration) -> Result<(), PurseError> {
        if !self.settle(now) {
            return Ok(());
        }
        self.take_in(config, now);
        let mut failure = None;
        for _round in 0..ROUNDS_MAX {
            // What was decided goes out once it is written down, and never before.
            self.keep().await?;
            self.hand_out(now);
            let due = self.take_due();
            if due.is_empty() {
                break;
            }
            for address in due {
                match self.look(&address, now).await {
                    Ok(()) => {}
                    // The others go on; this one is looked at again with the next step.
                    Err(error) => failure = Some(error),
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Whether no order of an earlier life can run any more: nobody would know what it did. What was not signed then never
    /// will be, since everything is decided anew.
    fn settle(&self, now: Duration) -> bool {
        let mut inner = self.lock();
        if !inner.is_settled {
            self.wallet.forget_unsigned(now);
            let view = self.wallet.view();
            inner.is_settled = view.open == 0 && view.balance.is_some();
        }
        inner.is_settled
    }

    /// Facts that need no question.
    fn take_in(&self, config: &RootConfig, now: Duration) {
        let look_every = match self.provider.endpoint().trust() {
            Trust::Local => LOOK_EVERY[0],
            Trust::Unproven => LOOK_EVERY[1],
        };
        let mut inner = self.lock();
        inner.forget_finished(now);
        let known: Vec<Address> = inner.contracts.keys().copied().collect();
        for address in known {
            let is_abandoned = inner.is_abandoned(&address, config);
            let Some(contract) = inner.contracts.get_mut(&address) else { continue };
            let params = &contract.kept.params;
            let is_outdated =
                *params != config.params && params.params_version <= config.params.params_version;
            contract.is_look_due |= contract.looked_at + look_every <= now;
            let ended = self.take_ended(contract);
            self.feed(&mut inner, &address, now, |settlement| {
                match is_outdated {
                    true => settlement.outdated(now),
                    false => settlement.current(),
                }
                settlement.abandoned(is_abandoned, now);
                for (id, outcome) in ended {
                    settlement.order_ended(id, end_of(outcome), now);
                }
                settlement.advance(now);
            });
        }
    }

    /// Orders of a contract that are over since the last time.
    fn take_ended(&self, contract: &mut Contract) -> Vec<(OrderId, Outcome)> {
        let mut ended = Vec::new();
        for Order { id, duty } in std::mem::take(&mut contract.orders) {
            let Some(outcome) = self.wallet.outcome(id) else {
                contract.orders.push(Order { id, duty });
                continue;
            };
            // Whoever does not know that transaction is behind.
            contract.seen = contract.seen.max(outcome.transaction().map(|transaction| transaction.lt));
            if !outcome.is_done() {
                tracing::warn!(order = %id, duty = duty.name(), %outcome, "an order to a client contract failed");
            }
            if !matches!(duty, Duty::Register { .. }) {
                contract.last = Some(Ended { duty, outcome });
            }
            failpoint::pass("client-order-ended");
            self.wallet.acknowledge(id);
            ended.push((id, outcome));
        }
        ended
    }

    /// Tells the settlement of a contract something. What it decides then is handed out when it is written down.
    pub(super) fn feed<T>(
        &self,
        inner: &mut Inner,
        address: &Address,
        now: Duration,
        tell: impl FnOnce(&mut Settlement) -> T,
    ) -> Option<T> {
        let wallet = inner.unpromised(self.wallet.view().unpromised.unwrap_or_default());
        let today = inner.today(address, self.policy.deposits_per_day_max, now);
        let contract = inner.contracts.get_mut(address)?;
        contract.settlement.today(today);
        contract.settlement.wallet(wallet, now);
        let told = tell(&mut contract.settlement);
        if contract.kept.memory != *contract.settlement.memory() {
            contract.kept.memory = *contract.settlement.memory();
            inner.changes += 1;
        }
        Some(told)
    }

    /// Hands out what settlements have decided, unless it is not written down yet.
    fn hand_out(&self, now: Duration) {
        let mut inner = self.lock();
        if inner.changes != inner.changes_kept {
            return;
        }
        for (address, contract) in &mut inner.contracts {
            // Somebody may have told it something since.
            if contract.kept.memory != *contract.settlement.memory() {
                continue;
            }
            while let Some(action) = contract.settlement.poll_action() {
                match action {
                    Action::Look => contract.is_look_due = true,
                    Action::Send(order) => self.hand_on(contract, address, order, now),
                }
            }
        }
    }

    /// Hands an order to the wallet.
    fn hand_on(&self, contract: &mut Contract, address: &Address, order: Order, now: Duration) {
        let Order { id, duty } = order;
        let message = contract.settlement.terms().message(&order);
        tracing::info!(contract = %address, duty = duty.name(), amount = %duty.amount(), "ordered");
        let order_of_wallet = outbox::Order { id, message };
        failpoint::pass("client-order");
        // Getting money out may wait for the wallet's owner to send some; what is paid in must be there.
        let submitted = match duty.amount() {
            NanoTon::ZERO => self.wallet.submit(order_of_wallet),
            _ => self.wallet.submit_covered(order_of_wallet),
        };
        match submitted {
            Ok(()) => contract.orders.push(order),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "an order to a client contract is not taken");
                contract.last = Some(Ended { duty, outcome: Outcome::NotSent });
                contract.settlement.order_ended(id, OrderEnd::NotSent, now);
            }
        }
    }

    /// Contracts whose turn it is to be read.
    fn take_due(&self) -> Vec<Address> {
        let mut inner = self.lock();
        let take = |(address, contract): (&Address, &mut Contract)| {
            std::mem::take(&mut contract.is_look_due).then_some(*address)
        };
        inner.contracts.iter_mut().filter_map(take).collect()
    }

    async fn look(&self, address: &Address, now: Duration) -> Result<(), PurseError> {
        let kept = self.lock().contracts.get(address).map(|contract| contract.kept.clone());
        let Some(kept) = kept else { return Ok(()) };
        let account = self.provider.account(address).await?;
        let proxy = proxy_stand(&self.provider.account(&kept.proxy).await?, &kept);
        let read = read_contract(*address, &account)?;
        let mut inner = self.lock();
        let Some(contract) = inner.contracts.get_mut(address) else { return Ok(()) };
        let known = account.last.map(|last| last.lt);
        if known < contract.seen {
            let number = |lt: Option<LogicalTime>| lt.map_or(0, LogicalTime::get);
            let (known, seen) = (number(known), number(contract.seen));
            return Err(PurseError::Stale { contract: *address, known, seen });
        }
        contract.seen = known;
        contract.looked_at = now;
        let was_overcharged = contract.settlement.is_overcharged();
        self.feed(&mut inner, address, now, |settlement| settlement.looked(read, proxy, now));
        let is_overcharged = inner.contracts.get(address).is_some_and(|it| it.settlement.is_overcharged());
        if is_overcharged && !was_overcharged {
            tracing::warn!(
                contract = %address,
                "a proxy charged more than our requests can have cost: its contract is closed"
            );
        }
        Ok(())
    }

    /// Steps for ever.
    pub(crate) async fn run(&self, accounts: &Accounts, root: &mut watch::Receiver<Arc<RootConfig>>) {
        let mut changes = self.wallet.changes();
        let mut is_in_trouble = false;
        loop {
            let (now, config) = (unix_now(), Arc::clone(&root.borrow_and_update()));
            for account in accounts.all() {
                let (used, asked) = (account.totals.used, account.asked());
                self.used(&account.contracts.client, used, account.charge(), asked, now);
            }
            let tick = match self.step(&config, now).await {
                Ok(()) => {
                    is_in_trouble = false;
                    TICK
                }
                Err(error) => {
                    // Said once, not for each attempt.
                    if !std::mem::replace(&mut is_in_trouble, true) {
                        tracing::warn!(error = &error as &dyn std::error::Error, "proxies cannot be paid");
                    }
                    TICK_AFTER_ERROR
                }
            };
            tokio::select! {
                () = tokio::time::sleep(tick) => {}
                _ = changes.changed() => {}
                _ = root.changed() => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// Writes down what must not be forgotten, if anything is new.
    async fn keep(&self) -> Result<(), PurseError> {
        let (text, changes) = {
            let inner = self.lock();
            if inner.changes == inner.changes_kept {
                return Ok(());
            }
            // What nothing was ever paid for can be forgotten.
            let begun = inner.contracts.values().map(|contract| &contract.kept);
            (kept::write(begun.filter(|kept| kept.memory.opened_at.is_some())), inner.changes)
        };
        let state = Arc::clone(&self.state);
        let written = tokio::task::spawn_blocking(move || state.replace(kept::FILE, text.as_bytes())).await;
        written.map_err(|_ended_early| PurseError::Interrupted)??;
        // What came while this was written is not in it.
        self.lock().changes_kept = changes;
        Ok(())
    }
}

fn end_of(outcome: Outcome) -> OrderEnd {
    match outcome {
        Outcome::Done { .. } => OrderEnd::Done,
        // No contract ran, so nothing was done.
        Outcome::Arrived { .. } | Outcome::Refused { .. } => OrderEnd::Refused,
        Outcome::Unresolved => OrderEnd::Unresolved,
        Outcome::NotSent => OrderEnd::NotSent,
    }
}

fn read_contract(contract: Address, account: &Account) -> Result<Option<ClientData>, PurseError> {
    match (&account.status, account.data()) {
        (AccountStatus::Uninit, _) => Ok(None),
        (AccountStatus::Active { .. }, Some(data)) => match ClientData::from_cell(data) {
            Ok(data) => Ok(Some(data)),
            Err(source) => Err(PurseError::Other { contract, source: Some(source) }),
        },
        (AccountStatus::Active { .. } | AccountStatus::Frozen, _) => {
            Err(PurseError::Other { contract, source: None })
        }
    }
}

/// What the proxy contract is good for.
fn proxy_stand(account: &Account, kept: &KeptContract) -> ProxyStand {
    let Some(Ok(data)) = account.data().map(ProxyData::from_cell) else { return ProxyStand::Unfit };
    if data.key != kept.key {
        return ProxyStand::Unfit;
    }
    if data.state != ContractState::Normal {
        return ProxyStand::Leaves;
    }
    // Deployed contracts take deposits without a stake; ours send them back.
    let ours = ContractCode::built(ton::Contract::Proxy).cell();
    let wants_stake = account.code().is_some_and(|code| *code == ours);
    match wants_stake && data.stake < kept.params.min_proxy_stake {
        true => ProxyStand::Unfit,
        false => ProxyStand::Works,
    }
}
