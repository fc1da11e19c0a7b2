//! What a proxy owes this worker, as far as it has seen.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use node::{KeptPayment, failpoint};
use tokio::sync::Notify;
use ton::Address;
use ton::payment::{self, PaymentError, PaymentKind};
use units::{AdjustedTokens, PublicKey};

/// A proxy's contract and ours with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contracts {
    /// Signs payments.
    pub proxy_key: PublicKey,
    /// The proxy's contract.
    pub proxy: Address,
    /// The worker's contract under it, which pays out.
    pub worker: Address,
    /// The configuration that both addresses follow from.
    pub params_version: u32,
}

/// Three totals of adjusted tokens over the life of the worker contract, each a part of the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Signed, so that the contract pays them out.
    pub signed: AdjustedTokens,
    /// Stored durably, says the proxy.
    pub stored: AdjustedTokens,
    /// Earned, stored or not, says the proxy.
    pub earned: AdjustedTokens,
}

/// The account with one proxy contract. Shared by all links to that proxy.
#[derive(Clone, Debug)]
pub struct Account {
    contracts: Contracts,
    /// The largest payment seen. `totals.signed` is its amount.
    best_payment: Option<Bytes>,
    totals: Totals,
}

impl Account {
    fn new(contracts: Contracts) -> Self {
        Self { contracts, best_payment: None, totals: Totals::default() }
    }

    /// The contracts of the account.
    #[must_use]
    pub const fn contracts(&self) -> &Contracts {
        &self.contracts
    }

    /// The largest payment that the proxy signed, as a bag of cells; none before the first.
    #[must_use]
    pub fn payment(&self) -> Option<&[u8]> {
        self.best_payment.as_deref()
    }

    /// What is known.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Checks a payment for this worker's contract and keeps it if it is the largest. Returns its amount.
    ///
    /// # Errors
    /// [`PaymentError`] if the payment is worth nothing to us.
    pub(super) fn take_payment(&mut self, boc: &[u8]) -> Result<AdjustedTokens, PaymentError> {
        // A proxy sends the same payment with every request until it signs a new one.
        if self.best_payment.as_deref() == Some(boc) {
            return Ok(self.totals.signed);
        }
        let Contracts { proxy_key, worker, .. } = &self.contracts;
        let tokens = payment::verify(boc, PaymentKind::WorkerPayout, worker, proxy_key)?.tokens();
        if self.best_payment.is_none() || tokens > self.totals.signed {
            failpoint::pass("worker-payment");
            self.best_payment = Some(Bytes::copy_from_slice(boc));
            self.totals.signed = tokens;
        }
        Ok(tokens)
    }

    /// Takes over larger totals; never lowers one.
    pub(super) fn raise(&mut self, stored: AdjustedTokens, earned: AdjustedTokens) {
        self.totals.stored = self.totals.stored.max(stored);
        self.totals.earned = self.totals.earned.max(earned);
    }

    /// Gives up earnings that a proxy lost before it stored them.
    pub(super) fn write_off_to(&mut self, earned: AdjustedTokens) {
        self.totals.earned = self.totals.earned.min(earned);
    }
}

/// Accounts by proxy contract.
#[derive(Debug, Default)]
pub struct Accounts {
    accounts: Mutex<HashMap<Address, Account>>,
    /// A larger payment came.
    pub(crate) paid: Notify,
}

/// The proxy behind a known contract shows another key or another contract for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proxy changed the key or the worker contract of its contract {proxy}")]
pub struct ContractsChanged {
    proxy: Address,
}

impl Accounts {
    /// Goes on with payments that were kept.
    #[must_use]
    pub fn restored(kept: Vec<KeptPayment>) -> Self {
        let account = |kept: KeptPayment| {
            let KeptPayment { proxy_key, proxy, own, params_version, payment, signed, stored, known } = kept;
            let account = Account {
                contracts: Contracts { proxy_key, proxy, worker: own, params_version },
                best_payment: Some(payment.into()),
                totals: Totals { signed, stored, earned: known },
            };
            (proxy, account)
        };
        Self { accounts: Mutex::new(kept.into_iter().map(account).collect()), paid: Notify::new() }
    }

    /// What has to be kept. A payment of nothing has not.
    #[must_use]
    pub fn to_keep(&self) -> Vec<KeptPayment> {
        let kept = |account: &Account| {
            let Contracts { proxy_key, proxy, worker, params_version } = account.contracts;
            let Totals { signed, stored, earned } = account.totals;
            let payment = account.best_payment.as_ref().filter(|_| signed > AdjustedTokens::ZERO)?.to_vec();
            Some(KeptPayment {
                proxy_key,
                proxy,
                own: worker,
                params_version,
                payment,
                signed,
                stored,
                known: earned,
            })
        };
        self.lock().values().filter_map(kept).collect()
    }

    /// Opens the account, or finds it again.
    ///
    /// # Errors
    /// [`ContractsChanged`] if the proxy contract is known with other partners.
    pub(super) fn open(&self, contracts: Contracts) -> Result<(), ContractsChanged> {
        let mut accounts = self.lock();
        let account = accounts.entry(contracts.proxy).or_insert_with(|| Account::new(contracts));
        if account.contracts == contracts { Ok(()) } else { Err(ContractsChanged { proxy: contracts.proxy }) }
    }

    /// Works on the account of an opened proxy contract.
    pub(super) fn with<T>(&self, proxy: &Address, work: impl FnOnce(&mut Account) -> T) -> T {
        let mut accounts = self.lock();
        let account =
            accounts.get_mut(proxy).expect("a session opens its account first, and none is ever removed");
        let signed_before = account.totals.signed;
        let result = work(account);
        if account.totals.signed > signed_before {
            self.paid.notify_one();
        }
        result
    }

    /// A copy of all accounts, for statistics.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Account> {
        let mut accounts: Vec<Account> = self.lock().values().cloned().collect();
        accounts.sort_by_key(|account| account.contracts.proxy);
        accounts
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Address, Account>> {
        // An account is changed by assignments only, so a panic of a holder leaves a usable map.
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
