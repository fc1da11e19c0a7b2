//! The [`Settlement`] with a server and a node wallet around it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chain::{AccountStatus, Provider, ProviderError, Wallet};
use tokio::sync::Notify;
use ton::contracts::worker_init;
use ton::payment::{self, PaymentKind, SignedPayment};
use ton::states::WorkerData;
use ton::{Address, RootConfig, decode_boc};
use transport::clock::unix_now;

use super::{Earnings, Found, Owed, Policy, Settlement};
use crate::link::Common;
use crate::session::{Account, Accounts};

/// How often it is looked whether anything is due. A look without anything due costs no question.
const TICK: Duration = Duration::from_secs(1);
/// After a question without an answer.
const TICK_AFTER_ERROR: Duration = Duration::from_secs(10);

/// Cashes in what proxies signed.
#[derive(Debug)]
pub struct Cashier {
    settlement: Mutex<Settlement>,
    provider: Provider,
    wallet: Wallet,
    wake: Notify,
}

impl Cashier {
    /// Orders go to `wallet`, which must be carried out elsewhere; contracts are read from `provider`.
    #[must_use]
    pub fn new(policy: Policy, provider: Provider, wallet: Wallet) -> Self {
        let settlement = Mutex::new(Settlement::new(policy, wallet.address()));
        Self { settlement, provider, wallet, wake: Notify::new() }
    }

    /// The node wallet.
    #[must_use]
    pub fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// What was earned, contract by contract.
    #[must_use]
    pub fn earnings(&self) -> Vec<Earnings> {
        self.lock().earnings()
    }

    /// The operator wants his money now: see [`Settlement::cash_out`].
    pub fn cash_out(&self, proxy: Option<&Address>) -> usize {
        let count = self.lock().cash_out(proxy);
        self.wake.notify_one();
        count
    }

    /// Takes in what is new, and orders what is due. `owner` owns the worker contracts.
    ///
    /// # Errors
    /// [`ProviderError`] if a contract cannot be read; the next step goes on.
    pub async fn step(
        &self,
        accounts: &Accounts,
        owner: &Address,
        config: &RootConfig,
        now: Duration,
    ) -> Result<(), ProviderError> {
        let to_look_at = {
            let mut settlement = self.lock();
            let params = &config.params;
            settlement.params(params.params_version, params.client_delay_before_close.duration(), now);
            for account in accounts.snapshot() {
                if let Some(owed) = owed(&account, owner, config) {
                    settlement.owed(owed, now);
                }
            }
            settlement.to_look_at(now)
        };
        for worker in to_look_at {
            let account = self.provider.account(&worker).await?;
            self.lock().looked(&worker, found(&account), now);
        }
        let mut settlement = self.lock();
        for id in settlement.under_way() {
            if let Some(outcome) = self.wallet.outcome(id) {
                if outcome.is_done() {
                    tracing::info!(order = %id, "a payout is on the chain");
                } else {
                    tracing::warn!(order = %id, ?outcome, "a payout failed");
                }
                settlement.ended(id, outcome, now);
                self.wallet.acknowledge(id);
            }
        }
        for order in settlement.orders(now) {
            let id = order.id;
            if let Err(error) = self.wallet.submit(order) {
                tracing::warn!(error = &error as &dyn std::error::Error, "a payout cannot be ordered");
                settlement.ended(id, chain::outbox::Outcome::NotSent, now);
            }
        }
        Ok(())
    }

    /// Steps for ever.
    pub(crate) async fn run(&self, common: &Common) {
        let mut changes = self.wallet.changes();
        let mut network = common.network.subscribe();
        loop {
            let config = network.borrow_and_update().config.clone();
            let stepped = self.step(&common.accounts, &common.party.owner, &config, unix_now()).await;
            let tick = match stepped {
                Ok(()) => TICK,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "worker contracts cannot be read");
                    TICK_AFTER_ERROR
                }
            };
            // Nothing here is in a hurry: a change of the wallet is looked at with the next tick.
            tokio::time::sleep(tick.min(TICK)).await;
            tokio::select! {
                () = tokio::time::sleep(tick.saturating_sub(TICK)) => {}
                _ = changes.changed() => {}
                _ = network.changed() => {}
                () = self.wake.notified() => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Settlement> {
        // Each change is whole before anything that can panic.
        self.settlement.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an account with a proxy is worth on the chain; none if nothing is signed.
fn owed(account: &Account, owner: &Address, config: &RootConfig) -> Option<Owed> {
    let contracts = account.contracts();
    let cell = decode_boc(account.payment()?, payment::LEN_MAX).ok()?;
    let payment = SignedPayment::from_cell(&cell, PaymentKind::WorkerPayout).ok()?;
    // An account of earlier params does not follow from these.
    let init = worker_init(config, owner, &contracts.proxy, &contracts.proxy_key);
    let init = (init.address() == contracts.worker).then_some(init);
    Some(Owed {
        proxy: contracts.proxy,
        worker: contracts.worker,
        params_version: contracts.params_version,
        payment,
        fee: init.is_some().then_some(config.params.worker_fee_per_token),
        init,
    })
}

fn found(account: &chain::Account) -> Found {
    match (&account.status, account.data().map(WorkerData::from_cell)) {
        (AccountStatus::Uninit, _) => Found::Absent,
        (AccountStatus::Active { .. }, Some(Ok(data))) => Found::Contract(data),
        (AccountStatus::Active { .. } | AccountStatus::Frozen, _) => Found::Other,
    }
}
