//! Settlements of all client contracts, with a server, a node wallet and a file around them.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chain::outbox::{OrderId, Outcome};
use chain::{Network, Provider, ProviderError, Wallet};
use node::{StateError, StateFolder};
use rand::RngExt as _;
use tokio::sync::Notify;
use ton::payment::VerifiedPayment;
use ton::{Address, LayoutError, RootConfig};
use units::{AdjustedTokens, LogicalTime, NanoTon, PublicKey};

use super::kept::{self, KeptContract, MalformedContracts};
use super::{DAY, Duty, Memory, Order, Plan, Policy, Refused, Settlement, Stage, Terms, View, Wish};
use crate::secret::LoginSecret;

mod steps;

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
