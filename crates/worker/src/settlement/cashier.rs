//! The [`Settlement`] with a server and a node wallet around it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chain::{AccountStatus, Provider, ProviderError, Wallet};
use node::{StateError, StateFolder, failpoint};
use tokio::sync::Notify;
use ton::contracts::worker_init;
use ton::payment::{self, PaymentKind, SignedPayment};
use ton::states::{ContractState, ProxyData, WorkerData};
use ton::{Address, Params, RootConfig, decode_boc};
use transport::clock::unix_now;
use units::{AdjustedTokens, NanoTon};

use super::{Earnings, Found, Owed, Policy, Settlement, kept};
use crate::link::Common;
use crate::session::{Account, Accounts};

/// How often it is looked whether anything is due. A look without anything due costs no question.
const TICK: Duration = Duration::from_secs(1);
/// After a question without an answer.
const TICK_AFTER_ERROR: Duration = Duration::from_secs(10);

/// Cashes in what proxies signed.
#[derive(Debug)]
pub struct Cashier {
    inner: Mutex<Inner>,
    provider: Provider,
    wallet: Wallet,
    state: Arc<StateFolder>,
    wake: Notify,
}

#[derive(Debug)]
struct Inner {
    settlement: Settlement,
    /// The network's params under which anything was earned, and those of now.
    params: Vec<Params>,
    /// All of them are in the state folder.
    are_kept: bool,
    /// What was taken in for each worker contract: a payment is read once.
    taken: BTreeMap<Address, AdjustedTokens>,
    /// Orders of an earlier life may still be on their way: until they are over, nothing is ordered.
    is_settled: bool,
}

/// Why a step did not do all that it should. The next one goes on.
#[derive(Debug, thiserror::Error)]
pub enum CashierError {
    /// A contract cannot be read. What is owed by others was seen to all the same.
    #[error("the worker contract {worker}, or its proxy contract, cannot be read: it is not paid out")]
    Read {
        /// The worker contract.
        worker: Address,
        /// Why.
        source: ProviderError,
    },
    /// The params cannot be kept.
    #[error("the params that worker contracts follow from cannot be kept")]
    Keep(#[from] StateError),
    /// Writing was given up.
    #[error("the params that worker contracts follow from were not written to the end")]
    Interrupted,
}

impl Cashier {
    /// Orders go to `wallet`, which must be carried out elsewhere; contracts are read from `provider`. The params that
    /// contracts follow from are kept in the state folder.
    ///
    /// # Errors
    /// [`StateError`] if what is kept there cannot be used.
    pub fn open(
        policy: Policy,
        provider: Provider,
        wallet: Wallet,
        state: Arc<StateFolder>,
    ) -> Result<Self, StateError> {
        let inner = Inner {
            settlement: Settlement::new(policy, wallet.address()),
            params: kept::read(&state)?,
            are_kept: true,
            taken: BTreeMap::new(),
            is_settled: false,
        };
        Ok(Self { inner: Mutex::new(inner), provider, wallet, state, wake: Notify::new() })
    }

    /// The node wallet.
    #[must_use]
    pub fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// What was earned, contract by contract.
    #[must_use]
    pub fn earnings(&self) -> Vec<Earnings> {
        self.lock().settlement.earnings()
    }

    /// The operator wants his money now: see [`Settlement::cash_out`].
    pub fn cash_out(&self, proxy: Option<&Address>) -> usize {
        let count = self.lock().settlement.cash_out(proxy);
        self.wake.notify_one();
        count
    }

    /// Takes in what is new, and orders what is due. `owner` owns the worker contracts.
    ///
    /// # Errors
    /// [`CashierError`], the last one.
    pub async fn step(
        &self,
        accounts: &Accounts,
        owner: &Address,
        config: &RootConfig,
        now: Duration,
    ) -> Result<(), CashierError> {
        let to_look_at = self.take_in(&accounts.snapshot(), owner, config, now);
        let mut failure = self.keep().await.err();
        for (worker, proxy) in to_look_at {
            match self.read(&worker, &proxy).await {
                Ok((found, backing)) => self.lock().settlement.looked(&worker, found, backing, now),
                // The others get what is theirs.
                Err(source) => failure = Some(CashierError::Read { worker, source }),
            }
        }
        self.order(now);
        failure.map_or(Ok(()), Err)
    }

    /// Facts that need no question. Says what has to be read.
    fn take_in(
        &self,
        accounts: &[Account],
        owner: &Address,
        config: &RootConfig,
        now: Duration,
    ) -> Vec<(Address, Address)> {
        let mut inner = self.lock();
        inner.learn(&config.params, accounts);
        let Inner { settlement, params, taken, .. } = &mut *inner;
        let delay = config.params.client_delay_before_close.duration();
        settlement.params(config.params.params_version, delay, now);
        for account in accounts {
            let (worker, signed) = (account.contracts().worker, account.totals().signed);
            if taken.get(&worker) == Some(&signed) {
                continue;
            }
            if let Some(owed) = owed(account, owner, params) {
                if owed.init.is_some() {
                    taken.insert(worker, signed);
                }
                settlement.owed(owed, now);
            }
        }
        settlement.to_look_at(now)
    }

    async fn read(&self, worker: &Address, proxy: &Address) -> Result<(Found, NanoTon), ProviderError> {
        let found = found(&self.provider.account(worker).await?);
        Ok((found, backing(&self.provider.account(proxy).await?)))
    }

    fn order(&self, now: Duration) {
        let mut inner = self.lock();
        let view = self.wallet.view();
        inner.is_settled |= view.open == 0 && view.balance.is_some();
        let Inner { settlement, is_settled, .. } = &mut *inner;
        for id in settlement.under_way() {
            if let Some(outcome) = self.wallet.outcome(id) {
                if outcome.is_done() {
                    tracing::info!(order = %id, "a payout is on the chain");
                } else {
                    tracing::warn!(order = %id, ?outcome, "a payout failed");
                }
                failpoint::pass("worker-order-ended");
                settlement.ended(id, outcome, now);
                self.wallet.acknowledge(id);
            }
        }
        if !*is_settled {
            return;
        }
        for order in settlement.orders(now) {
            let id = order.id;
            failpoint::pass("worker-order");
            if let Err(error) = self.wallet.submit(order) {
                tracing::warn!(error = &error as &dyn std::error::Error, "a payout cannot be ordered");
                settlement.ended(id, chain::outbox::Outcome::NotSent, now);
            }
        }
    }

    /// Keeps params that are new.
    async fn keep(&self) -> Result<(), CashierError> {
        let params = {
            let mut inner = self.lock();
            if std::mem::replace(&mut inner.are_kept, true) {
                return Ok(());
            }
            inner.params.clone()
        };
        let state = Arc::clone(&self.state);
        let written = tokio::task::spawn_blocking(move || kept::write(&state, &params)).await;
        let outcome = match written {
            Ok(written) => written.map_err(CashierError::from),
            Err(_ended_early) => Err(CashierError::Interrupted),
        };
        self.lock().are_kept &= outcome.is_ok();
        outcome
    }

    /// Steps for ever.
    pub(crate) async fn run(&self, common: &Common) {
        let mut changes = self.wallet.changes();
        let mut network = common.network.subscribe();
        let mut is_in_trouble = false;
        loop {
            let config = network.borrow_and_update().config.clone();
            let stepped = self.step(&common.accounts, &common.party.owner, &config, unix_now()).await;
            let tick = match stepped {
                Ok(()) => {
                    is_in_trouble = false;
                    TICK
                }
                Err(error) => {
                    // Said once, not for each attempt.
                    if !std::mem::replace(&mut is_in_trouble, true) {
                        tracing::warn!(error = &error as &dyn std::error::Error, "trouble with earnings");
                    }
                    TICK_AFTER_ERROR
                }
            };
            // Nothing here is in a hurry: a change is looked at with the next tick.
            tokio::time::sleep(TICK).await;
            tokio::select! {
                () = tokio::time::sleep(tick.saturating_sub(TICK)) => {}
                _ = changes.changed() => {}
                _ = network.changed() => {}
                () = self.wake.notified() => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change is whole before anything that can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Params that are new are kept with those that something was earned under.
    fn learn(&mut self, params: &Params, accounts: &[Account]) {
        if self.params.contains(params) {
            return;
        }
        let is_used = |known: &Params| {
            let version = known.params_version;
            accounts.iter().any(|account| account.contracts().params_version == version)
        };
        self.params.retain(is_used);
        self.params.push(params.clone());
        self.are_kept = false;
    }
}

/// What an account with a proxy is worth on the chain; none if nothing is signed.
fn owed(account: &Account, owner: &Address, known: &[Params]) -> Option<Owed> {
    let contracts = account.contracts();
    let cell = decode_boc(account.payment()?, payment::LEN_MAX).ok()?;
    let payment = SignedPayment::from_cell(&cell, PaymentKind::WorkerPayout).ok()?;
    let under = known.iter().filter(|params| params.params_version == contracts.params_version);
    let found = under.map(|params| {
        // Lists play no part in contracts.
        let config = RootConfig { params: params.clone(), ..RootConfig::pseudo(*owner) };
        (worker_init(&config, owner, &contracts.proxy, &contracts.proxy_key), params.worker_fee_per_token)
    });
    let (init, fee) = found.into_iter().find(|(init, _fee)| init.address() == contracts.worker).unzip();
    Some(Owed {
        proxy: contracts.proxy,
        worker: contracts.worker,
        params_version: contracts.params_version,
        payment,
        init,
        fee,
    })
}

fn found(account: &chain::Account) -> Found {
    match (&account.status, account.data().map(WorkerData::from_cell)) {
        (AccountStatus::Uninit, _) => Found::Absent,
        (AccountStatus::Active { .. }, Some(Ok(data))) => Found::Contract(data),
        (AccountStatus::Active { .. } | AccountStatus::Frozen, _) => Found::Other,
    }
}

/// What a proxy contract has beside what is its owner's.
fn backing(account: &chain::Account) -> NanoTon {
    match account.data().map(ProxyData::from_cell) {
        Some(Ok(data)) if data.state != ContractState::Closed => {
            account.balance.saturating_sub(data.stake).saturating_sub(data.balance)
        }
        _ => NanoTon::ZERO,
    }
}
