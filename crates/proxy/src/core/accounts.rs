//! Who is here at the moment, and the latest payment signed for each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::HashMap;
use bytes::Bytes;
use rand::Rng as _;
use ton::Address;
use ton::payment::{self, PaymentKind};
use units::{AdjustedTokens, ProtocolVersion};
use wire::proxy::SignedPayment;

use super::{Core, Now, on_wire};

/// Which side of the market an account is on. One owner may be on both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Side {
    Client,
    Worker,
}

/// Parties with a link or a running request. Whoever has an account and is elsewhere is in the ledger alone: a
/// contract's address costs several hashes, too much for a million clients at a start.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    clients: HashMap<Address, Account>,
    workers: HashMap<Address, Account>,
}

#[derive(Debug)]
struct Account {
    contract: Address,
    /// The owner's address as peers write it.
    owner_text: Arc<str>,
    links: usize,
    signed: Option<Signed>,
}

#[derive(Clone, Debug)]
struct Signed {
    boc: Bytes,
    tokens: AdjustedTokens,
    at: Instant,
}

/// Where an account stands, as messages say it.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// The latest payment.
    boc: Bytes,
    /// Tokens that it covers: the total that this proxy stands by. Never more than the journal holds durably.
    pub(super) settled: i64,
    /// All tokens, those of the last moments included.
    pub(super) total: i64,
}

impl Standing {
    pub(super) fn payment(&self) -> SignedPayment<'_> {
        SignedPayment::Payment { data: &self.boc }
    }
}

/// The payment that a link has had last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard(Option<i64>);

impl Heard {
    /// Whether the end of a request has to say where its account stands. Before version 3 each does; since then only
    /// one that has a payment the link has not had, so that most requests wake nobody a last time.
    pub(super) fn is_news(&mut self, protocol: ProtocolVersion, standing: &Standing) -> bool {
        let heard = self.0.replace(standing.settled);
        protocol < ProtocolVersion::V3 || heard != Some(standing.settled)
    }
}

/// How new a payment has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// It covers all that is durable: for queries about the account.
    Total,
    /// It may lag by [`SIGNING_INTERVAL`]: for messages that go with every request. Deployed proxies lag by the
    /// time between two writes of their database.
    Recent,
}

/// At most one signature per account in this time is made for requests: signing costs more than the rest of the
/// bookkeeping of a request.
const SIGNING_INTERVAL: Duration = Duration::from_secs(1);

/// The limit of accounts is reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct AccountsFull;

impl Accounts {
    fn side(&self, side: Side) -> &HashMap<Address, Account> {
        match side {
            Side::Client => &self.clients,
            Side::Worker => &self.workers,
        }
    }

    fn side_mut(&mut self, side: Side) -> &mut HashMap<Address, Account> {
        match side {
            Side::Client => &mut self.clients,
            Side::Worker => &mut self.workers,
        }
    }

    pub(super) fn present(&self, side: Side) -> impl Iterator<Item = &Address> {
        self.side(side).keys()
    }

    pub(super) fn is_present(&self, side: Side, owner: &Address) -> bool {
        self.side(side).contains_key(owner)
    }

    pub(super) fn owner_text(&self, side: Side, owner: &Address) -> Option<Arc<str>> {
        self.side(side).get(owner).map(|account| Arc::clone(&account.owner_text))
    }
}

impl Core {
    /// Opens the account of `owner` for one more link, and returns the contract between it and this proxy.
    pub(super) fn join_account(&mut self, side: Side, owner: Address) -> Result<Address, AccountsFull> {
        let accounts = self.accounts.side_mut(side);
        if let Some(account) = accounts.get_mut(&owner) {
            account.links += 1;
            return Ok(account.contract);
        }
        let (is_known, accounts_len) = match side {
            Side::Client => (self.ledger.client(owner).is_some(), self.ledger.accounts_len().0),
            Side::Worker => (self.ledger.worker(owner).is_some(), self.ledger.accounts_len().1),
        };
        if !is_known && accounts_len >= self.limits.accounts_max {
            return Err(AccountsFull);
        }
        let contract = self.terms.contract_of(side, &owner);
        let owner_text = Arc::from(self.terms.address_text(&owner));
        accounts.insert(owner, Account { contract, owner_text, links: 1, signed: None });
        Ok(contract)
    }

    /// One link fewer.
    pub(super) fn leave_account(&mut self, side: Side, owner: Address) {
        if let Some(account) = self.accounts.side_mut(side).get_mut(&owner) {
            account.links = account.links.saturating_sub(1);
            self.forget_unused_account(side, owner);
        }
    }

    /// Forgets a party that has left and whose requests have ended. Its account stays if it ever used or earned
    /// anything; otherwise it goes too, so that strangers cannot fill the books.
    pub(super) fn forget_unused_account(&mut self, side: Side, owner: Address) {
        let running = match side {
            Side::Client => self.ledger.client(owner).map_or(0, |limits| limits.running),
            Side::Worker => self.ledger.worker(owner).map_or(0, |totals| totals.running),
        };
        if running > 0 || self.accounts.side(side).get(&owner).is_none_or(|account| account.links > 0) {
            return;
        }
        self.accounts.side_mut(side).remove(&owner);
        match side {
            Side::Client => self.ledger.forget_idle_client(owner),
            Side::Worker => self.ledger.forget_idle_worker(owner),
        };
    }

    /// Where an account stands, with a payment that is signed anew if it is not fresh enough. A real signature
    /// is always there, for 0 tokens too: deployed workers insist on one. Only what the journal holds durably is
    /// signed, so that no crash can make a later total smaller, and nothing any more once the chain has shown other books.
    pub(super) fn standing(
        &mut self,
        side: Side,
        owner: Address,
        freshness: Freshness,
        now: Now,
    ) -> Option<Standing> {
        let (total, settled) = match side {
            Side::Client => (self.ledger.client(owner)?.used, self.ledger.settled_client(owner)?),
            Side::Worker => (self.ledger.worker(owner)?.earned, self.ledger.settled_worker(owner)?),
        };
        let may_sign = self.settlement().is_none_or(|settlement| settlement.foreign().is_none());
        let account = self.accounts.side_mut(side).get_mut(&owner)?;
        let is_fresh = |signed: &&Signed| {
            let is_recent = now.instant.saturating_duration_since(signed.at) < SIGNING_INTERVAL;
            signed.tokens == settled || (freshness == Freshness::Recent && is_recent)
        };
        let signed = match account.signed.as_ref().filter(is_fresh) {
            Some(signed) => signed.clone(),
            None if !may_sign => return None,
            None => {
                let kind = match side {
                    Side::Client => PaymentKind::ClientCharge,
                    Side::Worker => PaymentKind::WorkerPayout,
                };
                let query_id = self.random.next_u64();
                let (key, wallet) = (self.terms.key(), self.terms.wallet());
                let signed_before =
                    account.signed.as_ref().map_or(AdjustedTokens::ZERO, |signed| signed.tokens);
                assert!(signed_before <= settled && settled <= total, "signed totals never decrease");
                node::failpoint::pass("payment-sign");
                let boc = payment::sign(key, kind, query_id, settled, &account.contract, wallet).into();
                account.signed.insert(Signed { boc, tokens: settled, at: now.instant }).clone()
            }
        };
        Some(Standing { boc: signed.boc, settled: on_wire(signed.tokens), total: on_wire(total) })
    }

    /// The latest payment of an account, if any was signed yet.
    pub(super) fn signed_payment(&self, side: Side, owner: &Address) -> Option<Bytes> {
        let account = self.accounts.side(side).get(owner)?;
        account.signed.as_ref().map(|signed| signed.boc.clone())
    }
}
