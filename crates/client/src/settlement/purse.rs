//! Settlements of all client contracts, with a server, a node wallet and a file around them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chain::outbox::{self, Outcome};
use chain::{Account, AccountStatus, Provider, ProviderError, Trust, Wallet};
use node::{StateError, StateFolder};
use rand::RngExt as _;
use tokio::sync::{Notify, watch};
use ton::payment::VerifiedPayment;
use ton::states::ClientData;
use ton::{Address, LayoutError, RootConfig};
use transport::clock::unix_now;
use units::{AdjustedTokens, PublicKey};

use super::kept::{self, KeptContract, MalformedContracts};
use super::{Action, OrderEnd, OrderId, Policy, Refused, Settlement, Terms, View};
use crate::session::Accounts;

/// How often contracts are read when nothing is known to have happened: proxies land charges, and anybody may pay in.
const LOOK_EVERY: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(15)];
/// The longest pause between two steps.
const TICK: Duration = Duration::from_secs(1);
/// After a question without an answer.
const TICK_AFTER_ERROR: Duration = Duration::from_secs(10);
/// Rounds of actions in one step; what is left comes with the next.
const ROUNDS_MAX: usize = 8;

/// What a client pays its proxies with.
#[derive(Debug)]
pub struct Purse {
    policy: Policy,
    provider: Provider,
    wallet: Wallet,
    secret_hash: [u8; 32],
    state: Arc<StateFolder>,
    inner: Mutex<Inner>,
    wake: Notify,
}

#[derive(Debug)]
struct Inner {
    /// By client contract.
    contracts: BTreeMap<Address, Contract>,
    /// Orders of an earlier life may still be on their way: until they are over, nothing is done.
    is_settled: bool,
    /// The file is not what it should be.
    is_changed: bool,
}

#[derive(Debug)]
struct Contract {
    settlement: Settlement,
    kept: KeptContract,
    /// Orders on their way.
    orders: Vec<OrderId>,
    looked_at: Duration,
}

/// Why a step ended early. The next one goes on.
#[derive(Debug, thiserror::Error)]
pub enum PurseError {
    /// A contract cannot be read.
    #[error("client contracts cannot be read")]
    Provider(#[from] ProviderError),
    /// Something else is where a client contract should be.
    #[error("account {contract} holds no client contract of this client")]
    Other {
        /// The account.
        contract: Address,
        /// What is wrong with its data, if it has any.
        source: Option<LayoutError>,
    },
    /// What must not be forgotten cannot be kept, so nothing is sent.
    #[error("the list of client contracts cannot be kept, so nothing is sent")]
    Keep(#[from] StateError),
}

/// What the owner asked of one contract, and what came of it.
pub type Asked = (Address, Result<(), Refused>);

impl Purse {
    /// Pays out of `wallet`, whose orders must be carried out elsewhere. `secret_hash` is what the chain shall know of the
    /// login secret. Contracts of earlier lives are read from the state folder: what is in them is not forgotten.
    ///
    /// # Errors
    /// [`MalformedContracts`] if the list there is none.
    pub fn open(
        policy: Policy,
        provider: Provider,
        wallet: Wallet,
        secret_hash: [u8; 32],
        state: Arc<StateFolder>,
    ) -> Result<Self, MalformedContracts> {
        let kept = kept::read(&state)?;
        let inner = Inner { contracts: BTreeMap::new(), is_settled: false, is_changed: false };
        let purse = Self {
            policy,
            provider,
            wallet,
            secret_hash,
            state,
            inner: Mutex::new(inner),
            wake: Notify::new(),
        };
        for kept in kept {
            purse.with_contract(kept, |_contract| ());
        }
        purse.lock().is_changed = false;
        Ok(purse)
    }

    /// The node wallet.
    #[must_use]
    pub const fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// A handshake with the proxy contract `proxy`, whose payments `key` signs, under `config`. With a `nonce`, the owner
    /// has to show it on the chain.
    pub fn begin(
        &self,
        config: &RootConfig,
        proxy: &Address,
        key: &PublicKey,
        nonce: Option<u64>,
        now: Duration,
    ) {
        let kept = KeptContract { proxy: *proxy, key: *key, params: config.params.clone() };
        self.with_contract(kept, |contract| match nonce {
            Some(nonce) => contract.settlement.register(nonce, now),
            None => contract.settlement.want(now),
        });
        self.wake.notify_one();
    }

    /// The connection is authorised, or gone.
    pub fn forget(&self, contract: &Address, nonce: u64) {
        if let Some(contract) = self.lock().contracts.get_mut(contract) {
            contract.settlement.forget(nonce);
        }
    }

    /// The owner wants what is above the stakes.
    pub fn withdraw(&self, now: Duration) -> Vec<Asked> {
        self.ask(|settlement| settlement.withdraw(now))
    }

    /// The owner wants everything.
    pub fn close(&self, now: Duration) -> Vec<Asked> {
        self.ask(|settlement| settlement.close(now))
    }

    fn ask(&self, ask: impl Fn(&mut Settlement) -> Result<(), Refused>) -> Vec<Asked> {
        let mut inner = self.lock();
        let asked =
            |(address, contract): (&Address, &mut Contract)| (*address, ask(&mut contract.settlement));
        let answers = inner.contracts.iter_mut().map(asked).collect();
        self.wake.notify_one();
        answers
    }

    /// How the contracts are.
    #[must_use]
    pub fn views(&self) -> Vec<(Address, View)> {
        let inner = self.lock();
        inner.contracts.iter().map(|(address, contract)| (*address, contract.settlement.view())).collect()
    }

    /// What was used of a contract, as its proxy says, and the largest charge that it signed.
    pub fn used(
        &self,
        contract: &Address,
        used: AdjustedTokens,
        charge: Option<VerifiedPayment>,
        now: Duration,
    ) {
        if let Some(contract) = self.lock().contracts.get_mut(contract) {
            contract.settlement.used(used, charge, now);
        }
    }

    /// Takes in what is new, and does what is due. Contracts under params before `params_version` are closed.
    ///
    /// # Errors
    /// [`PurseError`]; the next step goes on.
    pub async fn step(&self, params_version: u32, now: Duration) -> Result<(), PurseError> {
        let view = self.wallet.view();
        {
            let mut inner = self.lock();
            inner.is_settled |= view.open == 0 && view.balance.is_some();
            if !inner.is_settled {
                return Ok(());
            }
            inner.forget_finished(now);
        }
        self.keep().await?;
        let look_every = match self.provider.endpoint().trust() {
            Trust::Local => LOOK_EVERY[0],
            Trust::Unproven => LOOK_EVERY[1],
        };
        let mut to_look_at = self.take_in(params_version, look_every, now);
        let mut failure = None;
        for _round in 0..ROUNDS_MAX {
            for address in std::mem::take(&mut to_look_at) {
                match self.look(&address, now).await {
                    Ok(()) => {}
                    // The others go on; this one is looked at again with the next step.
                    Err(error) => failure = Some(error),
                }
            }
            to_look_at = self.act(now);
            if to_look_at.is_empty() {
                break;
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Facts that need no question. Returns contracts whose turn it is to be read.
    fn take_in(&self, params_version: u32, look_every: Duration, now: Duration) -> Vec<Address> {
        let balance = self.wallet.view().balance.unwrap_or_default();
        let mut due = Vec::new();
        for (address, contract) in &mut self.lock().contracts {
            if contract.kept.params.params_version < params_version {
                contract.settlement.outdated(now);
            }
            contract.settlement.wallet(balance, now);
            for id in std::mem::take(&mut contract.orders) {
                match self.wallet.outcome(outbox::OrderId(id.0)) {
                    Some(outcome) => {
                        if !outcome.is_done() {
                            tracing::warn!(order = id.0, ?outcome, "an order to a client contract failed");
                        }
                        contract.settlement.order_ended(id, end_of(outcome), now);
                        self.wallet.acknowledge(outbox::OrderId(id.0));
                    }
                    None => contract.orders.push(id),
                }
            }
            contract.settlement.advance(now);
            if contract.looked_at + look_every <= now {
                due.push(*address);
            }
        }
        due
    }

    /// Hands orders to the wallet. Returns contracts to be read.
    fn act(&self, now: Duration) -> Vec<Address> {
        let mut to_look_at = Vec::new();
        for (address, contract) in &mut self.lock().contracts {
            while let Some(action) = contract.settlement.poll_action() {
                let order = match action {
                    Action::Look => {
                        to_look_at.push(*address);
                        continue;
                    }
                    Action::Send(order) => order,
                };
                let message = contract.settlement.terms().message(&order);
                tracing::info!(contract = %address, duty = order.duty.name(), amount = %order.duty.amount(), "ordered");
                match self.wallet.submit(outbox::Order { id: outbox::OrderId(order.id.0), message }) {
                    Ok(()) => contract.orders.push(order.id),
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "an order to a client contract is not taken");
                        contract.settlement.order_ended(order.id, OrderEnd::NotSent, now);
                    }
                }
            }
        }
        to_look_at.dedup();
        to_look_at
    }

    async fn look(&self, address: &Address, now: Duration) -> Result<(), PurseError> {
        let account = self.provider.account(address).await?;
        let read = read_contract(*address, &account)?;
        if let Some(contract) = self.lock().contracts.get_mut(address) {
            contract.looked_at = now;
            contract.settlement.looked(read, now);
        }
        Ok(())
    }

    /// Steps for ever.
    pub(crate) async fn run(&self, accounts: &Accounts, root: &mut watch::Receiver<Arc<RootConfig>>) {
        let mut changes = self.wallet.changes();
        let mut is_in_trouble = false;
        loop {
            let (now, params_version) = (unix_now(), root.borrow_and_update().params.params_version);
            for account in accounts.all() {
                self.used(&account.contracts.client, account.totals.used, account.charge(), now);
            }
            let tick = match self.step(params_version, now).await {
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

    /// Works on a contract, which is opened if it is not known.
    fn with_contract(&self, kept: KeptContract, work: impl FnOnce(&mut Contract)) {
        let owner = self.wallet.address();
        // Lists play no part in contracts.
        let config = RootConfig { params: kept.params.clone(), ..RootConfig::pseudo(owner) };
        let terms = Terms::new(&config, &owner, &kept.proxy, &kept.key, self.secret_hash);
        let mut inner = self.lock();
        let Inner { contracts, is_changed, .. } = &mut *inner;
        let contract = contracts.entry(terms.contract()).or_insert_with(|| {
            *is_changed = true;
            // Numbers of two lives differ in their upper half, and no life has 2^32 orders.
            let first = OrderId(rand::rng().random::<u64>() & !u64::from(u32::MAX));
            let settlement = Settlement::new(terms, self.policy, first);
            Contract { settlement, kept, orders: Vec::new(), looked_at: Duration::ZERO }
        });
        work(contract);
    }

    /// Writes the list of contracts, if it has changed: before anything is sent to a new one.
    async fn keep(&self) -> Result<(), StateError> {
        let text = {
            let mut inner = self.lock();
            if !std::mem::take(&mut inner.is_changed) {
                return Ok(());
            }
            kept::write(inner.contracts.values().map(|contract| &contract.kept))
        };
        let state = Arc::clone(&self.state);
        let written = tokio::task::spawn_blocking(move || state.replace(kept::FILE, text.as_bytes())).await;
        let outcome = written.unwrap_or(Ok(()));
        if outcome.is_err() {
            self.lock().is_changed = true;
        }
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change is whole before anything that can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget_finished(&mut self, now: Duration) {
        let before = self.contracts.len();
        // Of a closed contract nobody knows whether its proxy will be tried again: it is known until the params change.
        self.contracts.retain(|_address, contract| {
            !(contract.settlement.is_finished(now) && contract.settlement.is_outdated())
        });
        self.is_changed |= self.contracts.len() != before;
    }
}

fn end_of(outcome: Outcome) -> OrderEnd {
    match outcome {
        Outcome::Done { .. } => OrderEnd::Done,
        // No contract ran, so nothing was done; and what nobody knows, the contract shows.
        Outcome::Arrived { .. } | Outcome::Refused { .. } | Outcome::Unresolved => OrderEnd::Refused,
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
