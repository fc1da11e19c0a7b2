//! Settlements of all client contracts, with a server, a node wallet and a file around them.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chain::outbox::{self, OrderId, Outcome};
use chain::{Account, AccountStatus, Network, Provider, ProviderError, Trust, Wallet};
use node::{StateError, StateFolder, failpoint};
use rand::RngExt as _;
use tokio::sync::{Notify, watch};
use ton::payment::VerifiedPayment;
use ton::states::{ClientData, ContractState, ProxyData};
use ton::{Address, ContractCode, LayoutError, RootConfig};
use transport::clock::unix_now;
use units::{AdjustedTokens, LogicalTime, NanoTon, PublicKey};

use super::kept::{self, KeptContract, MalformedContracts};
use super::{
    Action, DAY, Duty, Memory, Order, OrderEnd, Plan, Policy, ProxyStand, Refused, Settlement, Stage, Terms,
    View, Wish,
};
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
/// New contracts in a day with whoever listens at one address, under one version of the params. A proxy that lost its key
/// begins anew; one that shows a new key each time is paid no more deposits.
const OPENED_PER_DAY_MAX: usize = 3;

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
    /// The contract that was shown last at each address: those before are used no more.
    shown: BTreeMap<SocketAddrV4, Address>,
    /// Counts what has to be written down, and how far it is.
    changes: u64,
    changes_kept: u64,
}

#[derive(Debug)]
struct Contract {
    settlement: Settlement,
    kept: KeptContract,
    /// Orders on their way.
    orders: Vec<Order>,
    last: Option<Ended>,
    looked_at: Duration,
    /// The newest transaction of the contract that was heard of: a server that does not know it is behind.
    seen: Option<LogicalTime>,
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
    /// The server is behind what is known.
    #[error(
        "client contract {contract}: the server knows nothing after transaction {known}, and one at {seen} was seen: it is \
         behind, and nothing is sent before it is not"
    )]
    Stale {
        /// The account.
        contract: Address,
        /// The logical time of its newest one.
        known: u64,
        /// The logical time of ours.
        seen: u64,
    },
    /// Writing was given up, so nothing is sent.
    #[error("the list of client contracts was not written to its end, so nothing is sent")]
    Interrupted,
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
        let inner = Inner {
            contracts: BTreeMap::new(),
            is_settled: false,
            shown: BTreeMap::new(),
            changes: 0,
            changes_kept: 0,
        };
        let purse =
            Self { policy, provider, wallet, secret, state, inner: Mutex::new(inner), wake: Notify::new() };
        for kept in kept {
            purse.with_contract(kept, |_contract| ());
        }
        Ok(purse)
    }

    /// The node wallet.
    #[must_use]
    pub const fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// A connection to the proxy contract `proxy`, whose payments `key` signs, under `config`; it listens at `via`. With a
    /// `nonce`, the owner has to show it on the chain. [`Self::leave`] says when the connection ends.
    pub fn begin(
        &self,
        config: &RootConfig,
        via: SocketAddrV4,
        proxy: &Address,
        key: &PublicKey,
        nonce: Option<u64>,
        now: Duration,
    ) {
        let (params, memory) = (config.params.clone(), Memory::default());
        let kept = KeptContract { proxy: *proxy, key: *key, params, via: Some(via), memory };
        let address = self.with_contract(kept, |contract| {
            contract.settlement.want(now);
            if let Some(nonce) = nonce {
                contract.settlement.register(nonce, now);
            }
        });
        let mut inner = self.lock();
        inner.shown.insert(via, address);
        if let Some(contract) = inner.contracts.get_mut(&address)
            && contract.kept.via != Some(via)
        {
            contract.kept.via = Some(via);
            inner.changes += 1;
        }
        self.wake.notify_one();
    }

    /// The connection is authorised.
    pub fn authorised(&self, contract: &Address, nonce: Option<u64>) {
        if let Some(contract) = self.lock().contracts.get_mut(contract) {
            contract.settlement.authorised();
            nonce.into_iter().for_each(|nonce| contract.settlement.forget(nonce));
        }
    }

    /// The connection has ended.
    pub fn leave(&self, contract: &Address, nonce: Option<u64>) {
        if let Some(contract) = self.lock().contracts.get_mut(contract) {
            contract.settlement.leave();
            nonce.into_iter().for_each(|nonce| contract.settlement.forget(nonce));
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

    /// Why proxies that are in use are not paid, if so.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if let Some(hold) = self.wallet.view().hold {
            return Some(hold.to_string());
        }
        let lacks = |contract: &Contract| {
            let View { missing, held, .. } = contract.settlement.view();
            missing.map(|missing| format!("the node wallet lacks {missing}")).or(held.map(str::to_owned))
        };
        self.lock().contracts.values().filter(|contract| contract.settlement.is_wanted()).find_map(lacks)
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

    /// What was used of a contract, as its proxy says, the largest charge that it signed, and what our requests asked for in
    /// this life ([`Settlement::asked`]).
    pub fn used(
        &self,
        contract: &Address,
        used: AdjustedTokens,
        charge: Option<VerifiedPayment>,
        asked: u64,
        now: Duration,
    ) {
        self.feed(&mut self.lock(), contract, now, |settlement| {
            settlement.asked(asked);
            settlement.used(used, charge, now);
        });
    }

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
    fn feed<T>(
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

    /// Works on a contract, which is made if it is not known. Says which one it is.
    fn with_contract(&self, kept: KeptContract, work: impl FnOnce(&mut Contract)) -> Address {
        let owner = self.wallet.address();
        // Lists play no part in contracts.
        let config = RootConfig { params: kept.params.clone(), ..RootConfig::pseudo(owner) };
        let terms = Terms::new(&config, &owner, &kept.proxy, &kept.key, &self.secret);
        let address = terms.contract();
        let mut inner = self.lock();
        let contract = inner.contracts.entry(address).or_insert_with(|| {
            // Numbers of two lives differ in their upper half, and no life has 2^32 orders.
            let first = OrderId(rand::rng().random::<u64>() & !u64::from(u32::MAX));
            let settlement = Settlement::new(terms, self.policy, kept.memory, first);
            Contract {
                settlement,
                kept,
                orders: Vec::new(),
                last: None,
                looked_at: Duration::ZERO,
                seen: None,
                is_look_due: false,
            }
        });
        work(contract);
        address
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
            let is_begun = contract.kept.memory.opened_at.is_some() || contract.settlement.is_wanted();
            is_begun && !(contract.settlement.is_finished(now) && contract.settlement.is_outdated())
        });
        self.changes += u64::from(self.contracts.len() != before);
    }

    /// Whether nobody will use the contract again: its proxy is not listed any more, or shows another one.
    fn is_abandoned(&self, address: &Address, config: &RootConfig) -> bool {
        let Some(via) = self.contracts.get(address).and_then(|contract| contract.kept.via) else {
            // Where its proxy listens was not kept.
            return false;
        };
        let is_listed = config.registered_proxies.iter().any(|proxy| proxy.clients == via);
        !is_listed || self.shown.get(&via).is_some_and(|shown| shown != address)
    }

    /// What of `unpromised` coins settlements have not spoken for.
    fn unpromised(&self, unpromised: NanoTon) -> NanoTon {
        let promised = self.contracts.values().map(|contract| contract.settlement.promised());
        promised.fold(unpromised, NanoTon::saturating_sub)
    }

    /// What may still be paid into a contract today. All contracts with one address share a limit.
    fn today(&self, address: &Address, per_day_max: NanoTon, now: Duration) -> NanoTon {
        let Some(contract) = self.contracts.get(address) else { return NanoTon::ZERO };
        let Some(via) = contract.kept.via else {
            return per_day_max.saturating_sub(contract.settlement.memory().paid_in_today(now));
        };
        let there = || self.contracts.values().filter(|other| other.kept.via == Some(via));
        let version = contract.kept.params.params_version;
        let opened = there().filter(|other| {
            let opened_at = other.settlement.memory().opened_at;
            other.kept.params.params_version == version && opened_at.is_some_and(|at| now < at + DAY)
        });
        if contract.settlement.memory().opened_at.is_none() && opened.count() >= OPENED_PER_DAY_MAX {
            return NanoTon::ZERO;
        }
        let paid_in = there().map(|other| other.settlement.memory().paid_in_today(now));
        paid_in.fold(per_day_max, NanoTon::saturating_sub)
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
