//! Settlements of all client contracts, with a server, a node wallet and a file around them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chain::outbox::{self, OrderId, Outcome};
use chain::{Account, AccountStatus, Network, Provider, ProviderError, Trust, Wallet};
use node::{StateError, StateFolder, failpoint};
use rand::RngExt as _;
use tokio::sync::{Notify, watch};
use ton::payment::VerifiedPayment;
use ton::states::ClientData;
use ton::{Address, LayoutError, RootConfig};
use transport::clock::unix_now;
use units::{AdjustedTokens, NanoTon, PublicKey};

use super::kept::{self, KeptContract, MalformedContracts};
use super::{Action, Duty, Order, OrderEnd, Plan, Policy, Refused, Settlement, Stage, Terms, View, Wish};
use crate::secret::LoginSecret;
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
    secret: LoginSecret,
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
    orders: Vec<Order>,
    last: Option<Ended>,
    looked_at: Duration,
    /// It is to be read.
    is_look_due: bool,
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

/// What the owner asked of one contract, and what comes of it.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The client contract.
    pub contract: Address,
    /// The proxy contract.
    pub proxy: Address,
    /// What it does, or why nothing is done.
    pub outcome: Result<Plan, Refused>,
}

/// Why nobody can tell which contract is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// There is none.
    #[error(
        "this client has no contract with any proxy yet: it makes one when it connects and its node wallet has enough"
    )]
    Nothing,
    /// None with this proxy.
    #[error("this client has no contract with proxy {proxy}: /jsonstats lists those it has")]
    OtherProxy {
        /// The proxy contract.
        proxy: Address,
    },
    /// A deposit goes to one contract.
    #[error("this client has contracts with {count} proxies: name the one that the deposit is for")]
    Several {
        /// How many.
        count: usize,
    },
}

/// The last order of a contract that is over.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// What it was for.
    pub duty: Duty,
    /// What became of it.
    pub outcome: Outcome,
}

/// A contract, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Glance {
    /// The client contract.
    pub contract: Address,
    /// The proxy contract.
    pub proxy: Address,
    /// How it is.
    pub view: View,
    /// Its last order in this life.
    pub last: Option<Ended>,
}

impl Purse {
    /// Pays out of `wallet`, whose orders must be carried out elsewhere. `secret` is what the
    /// client logs in with. Contracts of earlier lives are read from the state folder: what is in them is not forgotten.
    ///
    /// # Errors
    /// [`MalformedContracts`] if the list there is none.
    pub fn open(
        policy: Policy,
        provider: Provider,
        wallet: Wallet,
        secret: LoginSecret,
        state: Arc<StateFolder>,
    ) -> Result<Self, MalformedContracts> {
        let kept = kept::read(&state)?;
        let inner = Inner { contracts: BTreeMap::new(), is_settled: false, is_changed: false };
        let purse =
            Self { policy, provider, wallet, secret, state, inner: Mutex::new(inner), wake: Notify::new() };
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

    /// What the owner's wish does to the contract with `proxy`, or to all; with `is_dry_run` nothing is done.
    ///
    /// # Errors
    /// [`Unclear`] if there is no such contract, or several and only one can be meant.
    pub fn ask(
        &self,
        wish: Wish,
        proxy: Option<&Address>,
        is_dry_run: bool,
        now: Duration,
    ) -> Result<Vec<Asked>, Unclear> {
        let mut inner = self.lock();
        let mut answers = Vec::new();
        for address in inner.meant(wish, proxy)? {
            let outcome = self.feed(&mut inner, &address, now, |settlement| match is_dry_run {
                true => settlement.plan(wish),
                false => settlement.ask(wish, now),
            });
            let proxy = inner.contracts.get(&address).map(|contract| contract.kept.proxy);
            if let (Some(outcome), Some(proxy)) = (outcome, proxy) {
                answers.push(Asked { contract: address, proxy, outcome });
            }
        }
        self.wake.notify_one();
        Ok(answers)
    }

    /// Which network pays: the server's word for it.
    ///
    /// # Errors
    /// [`ProviderError`] if it does not answer.
    pub async fn network(&self) -> Result<Network, ProviderError> {
        self.provider.network().await
    }

    /// How the contracts are.
    #[must_use]
    pub fn glances(&self) -> Vec<Glance> {
        let glance = |(address, contract): (&Address, &Contract)| Glance {
            contract: *address,
            proxy: contract.kept.proxy,
            view: contract.settlement.view(),
            last: contract.last,
        };
        self.lock().contracts.iter().map(glance).collect()
    }

    /// What was used of a contract, as its proxy says, and the largest charge that it signed.
    pub fn used(
        &self,
        contract: &Address,
        used: AdjustedTokens,
        charge: Option<VerifiedPayment>,
        now: Duration,
    ) {
        self.feed(&mut self.lock(), contract, now, |settlement| settlement.used(used, charge, now));
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
        self.take_in(params_version, look_every, now);
        let mut failure = None;
        for _round in 0..ROUNDS_MAX {
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

    /// Facts that need no question.
    fn take_in(&self, params_version: u32, look_every: Duration, now: Duration) {
        let mut inner = self.lock();
        let known: Vec<Address> = inner.contracts.keys().copied().collect();
        for address in known {
            let Some(contract) = inner.contracts.get_mut(&address) else { continue };
            let is_outdated = contract.kept.params.params_version < params_version;
            contract.is_look_due |= contract.looked_at + look_every <= now;
            let ended = self.take_ended(contract);
            self.feed(&mut inner, &address, now, |settlement| {
                if is_outdated {
                    settlement.outdated(now);
                }
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

    /// Tells the settlement of a contract something, and hands what it orders to the wallet: at once, so that the next one
    /// sees what the wallet has promised.
    fn feed<T>(
        &self,
        inner: &mut Inner,
        address: &Address,
        now: Duration,
        tell: impl FnOnce(&mut Settlement) -> T,
    ) -> Option<T> {
        // What must not be forgotten is written down before anything is sent to it.
        let may_send = inner.is_settled && !inner.is_changed;
        let contract = inner.contracts.get_mut(address)?;
        contract.settlement.wallet(self.wallet.view().unpromised.unwrap_or_default(), now);
        let told = tell(&mut contract.settlement);
        while let Some(action) = may_send.then(|| contract.settlement.poll_action()).flatten() {
            match action {
                Action::Look => contract.is_look_due = true,
                Action::Send(order) => self.hand_on(contract, address, order, now),
            }
        }
        Some(told)
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
        let account = self.provider.account(address).await?;
        let read = read_contract(*address, &account)?;
        let mut inner = self.lock();
        if let Some(contract) = inner.contracts.get_mut(address) {
            contract.looked_at = now;
        }
        self.feed(&mut inner, address, now, |settlement| settlement.looked(read, now));
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
        let terms = Terms::new(&config, &owner, &kept.proxy, &kept.key, &self.secret);
        let mut inner = self.lock();
        let Inner { contracts, is_changed, .. } = &mut *inner;
        let contract = contracts.entry(terms.contract()).or_insert_with(|| {
            *is_changed = true;
            // Numbers of two lives differ in their upper half, and no life has 2^32 orders.
            let first = OrderId(rand::rng().random::<u64>() & !u64::from(u32::MAX));
            let settlement = Settlement::new(terms, self.policy, first);
            Contract {
                settlement,
                kept,
                orders: Vec::new(),
                last: None,
                looked_at: Duration::ZERO,
                is_look_due: false,
            }
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
    /// The contracts that a wish is about.
    fn meant(&self, wish: Wish, proxy: Option<&Address>) -> Result<Vec<Address>, Unclear> {
        let those = |is_meant: &dyn Fn(&Contract) -> bool| -> Vec<Address> {
            self.contracts.iter().filter(|(_, contract)| is_meant(contract)).map(|(at, _)| *at).collect()
        };
        if let Some(proxy) = proxy {
            let meant = those(&|contract| contract.kept.proxy == *proxy);
            return if meant.is_empty() { Err(Unclear::OtherProxy { proxy: *proxy }) } else { Ok(meant) };
        }
        let all = those(&|_contract| true);
        if all.is_empty() {
            return Err(Unclear::Nothing);
        }
        if let Wish::Deposit(_) = wish {
            // Nobody means to pay into what he has left.
            let used = those(&|contract| {
                let stage = contract.settlement.view().stage;
                !matches!(stage, Stage::Closing { .. } | Stage::Closed) && !contract.settlement.is_outdated()
            });
            match used.len() {
                // Each says why.
                0 => {}
                1 => return Ok(used),
                count => return Err(Unclear::Several { count }),
            }
        }
        Ok(all)
    }

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
