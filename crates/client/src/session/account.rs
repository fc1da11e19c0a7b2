//! What this client owes to each proxy, as far as it has seen.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use node::{KeptPayment, failpoint};
use tokio::sync::Notify;
use ton::Address;
use ton::payment::{self, PaymentError, PaymentKind, VerifiedPayment};
use units::{AdjustedTokens, PublicKey};
use wire::proxy::SignedPayment;

use super::SessionError;

/// A proxy's contract and ours with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contracts {
    /// Signs charges.
    pub(crate) proxy_key: PublicKey,
    /// The proxy's contract.
    pub(crate) proxy: Address,
    /// Our contract under it, which pays.
    pub(crate) client: Address,
}

/// Adjusted tokens over the life of a client contract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Signed by the proxy, so it can charge them on chain.
    pub(crate) signed: AdjustedTokens,
    /// Stored durably by the proxy.
    pub(crate) stored: AdjustedTokens,
    /// Used, stored or not.
    pub(crate) used: AdjustedTokens,
}

/// The account with one proxy. Totals only grow: what was seen once is not forgotten because a proxy says less.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) contracts: Contracts,
    pub(crate) totals: Totals,
    /// What requests to the proxy have asked for in this life: bytes of their queries and tokens that they allowed, times
    /// their price ceilings in thousandths.
    asked: Arc<AtomicU64>,
    /// The largest charge seen, as it came and as it was verified. `totals.signed` is its amount.
    best_charge: Option<(Box<[u8]>, VerifiedPayment)>,
    /// The charge that verified last.
    last_verified: Option<(Box<[u8]>, VerifiedPayment)>,
    has_sent_bad_charge: bool,
}

impl Account {
    fn new(contracts: Contracts) -> Self {
        Self {
            contracts,
            totals: Totals::default(),
            asked: Arc::default(),
            best_charge: None,
            last_verified: None,
            has_sent_bad_charge: false,
        }
    }

    /// Takes over what the proxy says. A charge counts only if it verifies and is larger than the known one; a
    /// bad one is reported and otherwise passed over, since it costs nobody anything.
    ///
    /// # Errors
    /// [`SessionError::Negative`] if a count is below zero.
    pub(crate) fn adopt(
        &mut self,
        payment: &SignedPayment<'_>,
        stored: i64,
        used: i64,
    ) -> Result<(), SessionError> {
        let stored = tokens("stored", stored)?;
        let used = tokens("used", used)?;
        self.take_payment(payment);
        self.totals.stored = self.totals.stored.max(stored);
        self.totals.used = self.totals.used.max(used);
        Ok(())
    }

    /// The largest charge, to be landed.
    pub(crate) fn charge(&self) -> Option<VerifiedPayment> {
        self.best_charge.as_ref().map(|(_boc, charge)| *charge)
    }

    /// What requests have asked for.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Takes over a charge, if there is one, it verifies and is larger than the known one.
    pub(crate) fn take_payment(&mut self, payment: &SignedPayment<'_>) {
        match self.verified(payment) {
            Ok(Some((boc, charge))) => {
                if charge.tokens() > self.totals.signed {
                    failpoint::pass("client-payment");
                    self.totals.signed = charge.tokens();
                    self.best_charge = Some((boc.into(), charge));
                }
            }
            Ok(None) => {}
            // Said once: a proxy that sends nothing else would fill the log.
            Err(error) => {
                if !std::mem::replace(&mut self.has_sent_bad_charge, true) {
                    tracing::warn!(error = &error as &dyn std::error::Error, "ignored a charge");
                }
            }
        }
    }

    fn verified<'a>(
        &mut self,
        payment: &SignedPayment<'a>,
    ) -> Result<Option<(&'a [u8], VerifiedPayment)>, PaymentError> {
        let SignedPayment::Payment { data } = payment else { return Ok(None) };
        // A proxy sends the same charge with every request until it signs a new one. Verifying it each time costs more
        // than everything else that a client does for a small request.
        if let Some((verified, charge)) = &self.last_verified
            && **verified == **data
        {
            return Ok(Some((data, *charge)));
        }
        let Contracts { proxy_key, client, .. } = &self.contracts;
        let charge = payment::verify(data, PaymentKind::ClientCharge, client, proxy_key)?;
        self.last_verified = Some(((*data).into(), charge));
        Ok(Some((data, charge)))
    }
}

fn tokens(total: &'static str, tokens: i64) -> Result<AdjustedTokens, SessionError> {
    match u64::try_from(tokens) {
        Ok(count) => Ok(AdjustedTokens::new(count)),
        Err(_) => Err(SessionError::Negative { total, tokens }),
    }
}

/// The accounts with all proxies seen so far, by proxy contract.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    accounts: Mutex<HashMap<Address, Account>>,
    /// A larger charge came.
    pub(crate) charged: Notify,
}

impl Accounts {
    /// Goes on with charges that were kept.
    pub(crate) fn restored(kept: Vec<KeptPayment>) -> Self {
        let account = |kept: KeptPayment| {
            let KeptPayment { proxy_key, proxy, own, payment, signed, stored, known, .. } = kept;
            let charge = payment::verify(&payment, PaymentKind::ClientCharge, &own, &proxy_key);
            let account = Account {
                totals: Totals { signed, stored, used: known },
                best_charge: charge.ok().map(|charge| (payment.into(), charge)),
                ..Account::new(Contracts { proxy_key, proxy, client: own })
            };
            (proxy, account)
        };
        let accounts = Mutex::new(kept.into_iter().map(account).collect());
        Self { accounts, charged: Notify::new() }
    }

    /// What has to be kept. A charge of nothing has not.
    pub(crate) fn to_keep(&self) -> Vec<KeptPayment> {
        let kept = |account: &Account| {
            let (Contracts { proxy_key, proxy, client }, totals) = (account.contracts, account.totals);
            Some(KeptPayment {
                proxy_key,
                proxy,
                own: client,
                // The contracts follow from it; the client never asks.
                params_version: 0,
                payment: account.best_charge.as_ref()?.0.to_vec(),
                signed: totals.signed,
                stored: totals.stored,
                known: totals.used,
            })
        };
        self.lock().values().filter_map(kept).collect()
    }

    /// Opens the account behind `contracts`, or finds it unchanged. Gives the count of what requests ask for.
    ///
    /// # Errors
    /// [`SessionError::Changed`] if the proxy contract is known with another key or another client contract.
    pub(crate) fn open(&self, contracts: Contracts) -> Result<Arc<AtomicU64>, SessionError> {
        let fresh = Account::new(contracts);
        let mut accounts = self.lock();
        let account = accounts.entry(contracts.proxy).or_insert(fresh);
        if account.contracts != contracts {
            return Err(SessionError::Changed);
        }
        Ok(Arc::clone(&account.asked))
    }

    /// Works on the account of a proxy whose handshake opened it.
    pub(crate) fn with<T>(&self, proxy: &Address, work: impl FnOnce(&mut Account) -> T) -> T {
        let mut accounts = self.lock();
        let account =
            accounts.get_mut(proxy).expect("the handshake opens the account, and none is ever removed");
        let signed_before = account.totals.signed;
        let result = work(account);
        if account.totals.signed > signed_before {
            self.charged.notify_one();
        }
        result
    }

    /// A copy of all accounts, in a stable order.
    pub(crate) fn all(&self) -> Vec<Account> {
        let mut all: Vec<Account> = self.lock().values().cloned().collect();
        all.sort_by_key(|account| account.contracts.proxy);
        all
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Address, Account>> {
        // Every change is a single assignment, so a panic elsewhere leaves no half-made account.
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
