//! The shell of the settlement: for each contract one task reads the chain, tells the settlement, and has the node wallet
//! send what is due.
//!
//! The present contract's settlement stands in the core, that of one that closes in [`Closing`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chain::outbox::Outcome;
use chain::{Effect, Follower, NotRun, Route, Transaction, TransactionId, Trust};
use ledger::{Followed, Ledger, Party};
use node::failpoint;
use tokio::sync::mpsc::UnboundedReceiver;
use ton::Address;
use ton::states::{ClientData, ProxyData, WorkerData};

use crate::closing::{Closing, OnChain};
use crate::core::Now;
use crate::settlement::{Action, Desk, Duty, OrderEnd, OrderId, Seen, Settlement};
use crate::shell::Shell;

/// How often a contract is looked at: while orders are on their way, and otherwise.
const LOCAL_PACE: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];
const REMOTE_PACE: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(8)];

/// Whose settlement a task feeds.
pub(crate) enum Of {
    /// That of the core, as long as it is this contract's.
    Present(Arc<Shell>, Address),
    /// One that closes its contract.
    Closing(Arc<Closing>),
}

impl Of {
    fn feed(&self, event: impl FnOnce(&mut Settlement, &mut Ledger, Now)) {
        match self {
            Self::Present(shell, contract) => shell.feed(|core, now| {
                core.feed_chain(now, |settlement, books| {
                    if settlement.desk().contract() == *contract {
                        event(settlement, books, now);
                    }
                });
            }),
            Self::Closing(closing) => closing.feed(event),
        }
    }

    fn look<T>(&self, look: impl FnOnce(&Settlement, &Ledger) -> T) -> Option<T> {
        match self {
            Self::Present(shell, contract) => shell.look(|core| {
                let settlement =
                    core.settlement().filter(|settlement| settlement.desk().contract() == *contract);
                settlement.map(|settlement| look(settlement, core.books()))
            }),
            Self::Closing(closing) => Some(closing.look(look)),
        }
    }
}

/// Feeds a settlement with what the chain shows, and carries out what it wants, until its contract is closed for good or
/// the future is dropped.
pub(crate) async fn settle(of: Of, on_chain: Arc<OnChain>, mut actions: UnboundedReceiver<Action>) {
    let begun = of.look(|settlement, books| (settlement.desk().contract(), books.followed()));
    let Some((contract, followed)) = begun else { return };
    // It ends when the sender of its actions does.
    let follower = match followed {
        Some(Followed { lt, hash }) => Follower::after(contract, TransactionId { lt, hash }),
        None => Follower::from_first(contract),
    };
    let mut task = Task { of, on_chain, follower, open: HashMap::new(), looks: Vec::new(), trouble: None };
    let mut changes = task.on_chain.wallet.changes();
    loop {
        let has_more = task.read().await;
        task.follow_orders();
        while let Ok(action) = actions.try_recv() {
            if task.carry_out(action) {
                return;
            }
        }
        task.look().await;
        if has_more {
            continue;
        }
        tokio::select! {
            action = actions.recv() => match action {
                Some(action) if !task.carry_out(action) => {}
                _ => return,
            },
            // The sender lives as long as the handle.
            _changed = changes.changed(), if !task.open.is_empty() => {}
            () = tokio::time::sleep(task.pause()) => {}
        }
    }
}

/// One contract's task.
struct Task {
    of: Of,
    on_chain: Arc<OnChain>,
    follower: Follower,
    /// Orders that the wallet has.
    open: HashMap<chain::outbox::OrderId, (OrderId, Duty)>,
    /// Contracts to read.
    looks: Vec<Party>,
    /// What is wrong, said once.
    trouble: Option<String>,
}

impl Task {
    fn pause(&self) -> Duration {
        let [busy, idle] = match self.on_chain.provider.endpoint().trust() {
            Trust::Local => LOCAL_PACE,
            Trust::Unproven => REMOTE_PACE,
        };
        if self.open.is_empty() { idle } else { busy }
    }

    /// Reads what is new. Returns whether there is more.
    async fn read(&mut self) -> bool {
        let news = match self.follower.look(&self.on_chain.provider).await {
            Ok(news) => news,
            Err(error) => {
                self.say(&error);
                // Silence is an event too.
                self.of.feed(|_, _, _| {});
                return false;
            }
        };
        let own = news.account.as_ref().map(|account| account.data().map(ProxyData::from_cell).transpose());
        let own = own.transpose();
        let is_deploying = self.is_deploying();
        let balance = self.on_chain.wallet.view().balance;
        self.of.feed(|settlement, books, now| {
            for transaction in &news.transactions {
                if let Some(seen) = seen(transaction) {
                    settlement.seen(books, &seen, now);
                }
            }
            if let Some(balance) = balance {
                settlement.wallet_seen(balance);
            }
            if let (Ok(Some(own)), Some(account)) = (&own, &news.account) {
                settlement.heard(now, account.block_time);
                settlement.deploying(is_deploying);
                settlement.own_contract(own.clone());
            }
        });
        match own {
            Ok(_read) => self.trouble = None,
            Err(error) => {
                // Its transactions are told all the same: they do not come again.
                self.say(&error);
                return false;
            }
        }
        news.account.is_none()
    }

    /// Whether the wallet may carry out an order yet that deploys a contract which was left meanwhile.
    fn is_deploying(&self) -> bool {
        let Of::Closing(closing) = &self.of else { return false };
        let number = closing.look(|settlement, _| settlement.desk().number(&settlement.deployment(), false));
        let id = chain::outbox::OrderId(number);
        match self.on_chain.wallet.outcome(id) {
            // Then it is there, and whoever does not see it looks at an older block.
            Some(outcome) => outcome.is_done(),
            None => self.on_chain.wallet.knows(id),
        }
    }

    /// Tells what became of orders.
    fn follow_orders(&mut self) {
        let ended = |id: &chain::outbox::OrderId| Some((*id, self.on_chain.wallet.outcome(*id)?));
        let ended: Vec<_> = self.open.keys().filter_map(ended).collect();
        for (id, outcome) in ended {
            let Some((order, duty)) = self.open.remove(&id) else { continue };
            let end = end_of(&duty, outcome);
            match end {
                OrderEnd::Done { .. } => tracing::info!(what = duty.name(), "settled on the chain"),
                OrderEnd::Refused { code } => {
                    tracing::warn!(what = duty.name(), code, "an order was refused; it is tried again later");
                }
                OrderEnd::NotSent => {
                    tracing::warn!(what = duty.name(), "the node wallet could not send an order")
                }
            }
            failpoint::pass("order-ended");
            self.of.feed(|settlement, books, now| settlement.order_ended(books, order, end, now));
            self.on_chain.wallet.acknowledge(id);
        }
    }

    /// Returns whether there is nothing left to do.
    fn carry_out(&mut self, action: Action) -> bool {
        match action {
            Action::Send(order) => {
                let made = self.of.look(|settlement, books| {
                    // Between the decision and this moment the chain may have shown other books.
                    let may_sign = settlement.foreign().is_none();
                    may_sign.then(|| make(settlement.desk(), books, &order.duty))
                });
                let Some(made) = made else { return true };
                let Some(made) = made else { return false };
                failpoint::pass("order-send");
                let id = made.id;
                match self.on_chain.wallet.submit(made) {
                    Ok(()) => {
                        self.open.insert(id, (order.id, order.duty));
                    }
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(
                            error,
                            what = order.duty.name(),
                            "the node wallet does not take an order"
                        );
                        self.of.feed(|settlement, books, now| {
                            settlement.order_ended(books, order.id, OrderEnd::NotSent, now);
                        });
                    }
                }
            }
            Action::Look(party) => self.looks.push(party),
            // The core's affair.
            Action::Registered { .. } => {}
            Action::GaveUp(party) => {
                let who = match party {
                    Party::Client(_) => "client",
                    Party::Worker(_) => "worker",
                };
                tracing::warn!(
                    who,
                    "a proxy contract closes without having given a party what is left for it"
                );
            }
            Action::Ended => {
                if let Of::Closing(closing) = &self.of {
                    let (closing, on_chain) = (Arc::clone(closing), Arc::clone(&self.on_chain));
                    // The disk may take its time, and nothing else is left to do.
                    tokio::task::spawn_blocking(move || closing.end(&on_chain));
                    return true;
                }
                tracing::warn!(
                    "the proxy contract is closed: the proxy waits for the next params of the root contract"
                );
            }
        }
        false
    }

    /// Reads the contracts that the settlement has doubts about.
    async fn look(&mut self) {
        let mut later = Vec::new();
        for party in std::mem::take(&mut self.looks) {
            let contract = self.of.look(|settlement, _| settlement.desk().contract_of(party));
            let Some(contract) = contract else { return };
            let account = match self.on_chain.provider.account(&contract).await {
                Ok(account) => account,
                Err(error) => {
                    self.say(&error);
                    later.push(party);
                    continue;
                }
            };
            let (data, at) = (account.data(), account.block_time);
            match party {
                Party::Client(client) => {
                    let data = data.and_then(|data| ClientData::from_cell(data).ok());
                    self.of.feed(|settlement, books, now| {
                        settlement.looked_at_client(books, client, data.as_ref(), at, now);
                    });
                }
                Party::Worker(worker) => {
                    let data = data.and_then(|data| WorkerData::from_cell(data).ok());
                    self.of.feed(|settlement, books, now| {
                        settlement.looked_at_worker(books, worker, data.as_ref(), at, now);
                    });
                }
            }
        }
        self.looks = later;
    }

    fn say(&mut self, error: &(dyn std::error::Error + 'static)) {
        let text = error.to_string();
        if self.trouble.as_ref() != Some(&text) {
            tracing::warn!(error, "the proxy contract cannot be read");
            self.trouble = Some(text);
        }
    }
}

/// What another account's message did to the contract.
fn seen(transaction: &Transaction) -> Option<Seen<'_>> {
    let message = transaction.incoming.as_ref()?;
    let Route::Internal { from, bounced: false, .. } = message.route else { return None };
    let at = Followed { lt: transaction.id.lt, hash: transaction.id.hash };
    Some(Seen { at, from, body: &message.body, is_done: transaction.effect.is_done() })
}

/// The wallet's order for a duty. Its number follows from what it does: if an earlier process has ordered the same, that
/// is the same order.
fn make(desk: &Desk, books: &Ledger, duty: &Duty) -> chain::outbox::Order {
    let with_state = match duty.party() {
        Some(Party::Worker(worker)) => books.worker_contract(worker).is_none(),
        _ => false,
    };
    let number = desk.number(duty, with_state);
    let message = desk.message(duty, number, with_state);
    chain::outbox::Order { id: chain::outbox::OrderId(number), message }
}

fn end_of(duty: &Duty, outcome: Outcome) -> OrderEnd {
    match outcome {
        Outcome::Done { transaction } => OrderEnd::Done { lt: transaction.lt },
        // A nanoton buys no gas.
        Outcome::Arrived { why: NotRun::NoGas, transaction } if matches!(duty, Duty::Anchor(_)) => {
            OrderEnd::Done { lt: transaction.lt }
        }
        Outcome::Arrived { .. } | Outcome::Unresolved => OrderEnd::Refused { code: -1 },
        Outcome::Refused { effect, .. } => OrderEnd::Refused {
            code: match effect {
                Effect::Refused { exit_code } => exit_code,
                Effect::ActionFailed { result_code } => result_code,
                Effect::Done | Effect::NotRun(_) => -1,
            },
        },
        Outcome::NotSent => OrderEnd::NotSent,
    }
}
