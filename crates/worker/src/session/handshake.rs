//! From a fresh link to a session: the worker's side.
//!
//! Each state holds what was checked so far and consumes itself on the proxy's answer.

use std::sync::Arc;

use bytes::Bytes;
use node::ConnectingParty;
use ton::RootConfig;
use units::{AdjustedTokens, Capabilities, Coefficient, ModelName, ProtocolVersion};
use wire::client::ProtoRange;
use wire::{peer, worker};

use super::account::{Accounts, Contracts, Totals};
use super::{Session, SessionError, payment_of, tokens};

/// What a worker offers on one link.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The model, by its full name.
    pub model: ModelName,
    /// The price.
    pub coefficient: Coefficient,
    /// Requests at once over all proxies.
    pub max_active_requests: i32,
    /// Proxies that this model is offered to.
    pub proxy_cnt: i32,
}

/// `connectToProxy` was sent.
pub struct ExpectConnected {
    party: ConnectingParty,
    config: Arc<RootConfig>,
    coefficient: Coefficient,
}

/// The balances are being compared.
pub struct ExpectComparison {
    session: Session,
    /// What we said. Other links to the same proxy may learn more meanwhile.
    remembered: Totals,
}

/// The proxy knows of fewer earnings than we do.
pub struct ExpectExtended {
    session: Session,
}

/// Everything agrees.
pub struct ExpectCompleted {
    session: Session,
}

/// How the comparison of balances ended.
pub enum Compared {
    /// Both know the same.
    Agreed(ExpectCompleted),
    /// The proxy lost earnings that it had not stored; the query makes it say so.
    Behind(ExpectExtended, Bytes),
}

/// Versions that we speak; deployed workers offer 1 to 2. A proxy older than the negotiation answers without a version, which means 0
/// and is understood too.
const PROTOCOLS: ProtoRange = ProtoRange {
    min_proto_version: ProtocolVersion::V1.number(),
    max_proto_version: ProtocolVersion::LATEST.number(),
};

impl ExpectConnected {
    /// The first query.
    #[must_use]
    pub fn begin(party: ConnectingParty, config: Arc<RootConfig>, offer: &Offer) -> (Self, Bytes) {
        let owner = party.owner.to_wire_text(party.is_testnet);
        let query = wire::encode(&worker::ConnectToProxy {
            params: worker::Params {
                worker_owner_address: owner.as_str().into(),
                model: offer.model.full().into(),
                coefficient: offer.coefficient.get().cast_signed(),
                deployment: Some(worker::Deployment {
                    is_test: config.params.is_test,
                    proxy_cnt: offer.proxy_cnt,
                    max_active_requests: offer.max_active_requests,
                }),
                proto_range: Some(PROTOCOLS),
            },
        });
        (Self { party, config, coefficient: offer.coefficient }, query)
    }

    /// Checks who the proxy is.
    ///
    /// # Errors
    /// [`SessionError`] if anything about the proxy does not follow from our root configuration.
    pub fn handle(
        self,
        answer: &[u8],
        accounts: &Accounts,
    ) -> Result<(ExpectComparison, Bytes), SessionError> {
        let worker::ConnectedToProxy { params, worker_sc_address } = wire::decode(answer)?;
        let proxy = self.party.verify(&self.config, &params, worker_sc_address)?;
        let contracts = Contracts {
            proxy_key: proxy.key(),
            proxy: proxy.contract(),
            worker: proxy.own_contract(),
            params_version: self.config.params.params_version,
        };
        accounts.open(contracts)?;
        let remembered = accounts.with(&contracts.proxy, |account| account.totals());
        let query = wire::encode(&worker::CompareBalanceWithProxy {
            tokens_committed_to_blockchain: remembered.signed.get().cast_signed(),
            tokens_committed_to_db: remembered.stored.get().cast_signed(),
            max_tokens: remembered.earned.get().cast_signed(),
        });
        let session = Session::new(proxy.protocol(), contracts.proxy, self.coefficient);
        Ok((ExpectComparison { session, remembered }, query))
    }
}

impl ExpectComparison {
    /// What goes before the comparison where version 3 was chosen: what we can do.
    #[must_use]
    pub fn greeting(&self) -> Option<Bytes> {
        let capabilities = Capabilities::OURS.to_wire();
        (self.session.protocol == ProtocolVersion::V3)
            .then(|| wire::encode(&peer::Capabilities { capabilities }))
    }

    /// Checks that the proxy still knows what it owes, and that it signed for what is signed.
    ///
    /// # Errors
    /// [`SessionError`] if there is no valid payment, or a total fell that a proxy must not lose.
    pub fn handle(mut self, answer: &[u8], accounts: &Accounts) -> Result<Compared, SessionError> {
        let result: worker::CompareBalanceWithProxyResult<'_> = wire::decode(answer)?;
        let stored = tokens("stored", result.tokens_committed_to_db)?;
        let earned = tokens("earned", result.max_tokens)?;
        let payment = payment_of(&result.signed_payment).ok_or(SessionError::NoPayment)?;
        let Totals { signed: signed_known, stored: stored_known, earned: earned_known } = self.remembered;

        let proxy = self.session.proxy_contract;
        let signed = accounts.with(&proxy, |account| account.take_payment(payment))?;
        not_lower("signed", signed, signed_known)?;
        not_lower("stored", stored, stored_known)?;
        self.session.seen = Totals { signed, stored, earned };
        if result.error_code == 0 {
            not_lower("earned", earned, earned_known)?;
            accounts.with(&proxy, |account| account.raise(stored, earned));
            return Ok(Compared::Agreed(ExpectCompleted { session: self.session }));
        }
        let query = wire::encode(&worker::ExtendedCompareBalanceWithProxy {
            tokens_committed_to_db: stored_known.get().cast_signed(),
            other: &[],
        });
        Ok(Compared::Behind(ExpectExtended { session: self.session }, query))
    }
}

pub(super) fn not_lower(
    total: &'static str,
    said: AdjustedTokens,
    known: AdjustedTokens,
) -> Result<(), SessionError> {
    if said < known { Err(SessionError::Lower { total, said, known }) } else { Ok(()) }
}

impl ExpectExtended {
    /// Accepts the loss: the tokens were never stored, and the next comparison is made from what is left. (Proxies
    /// of the deployed network do not get further than this on the same connection, but do on the next.)
    ///
    /// # Errors
    /// [`SessionError::ComparisonRefused`] if the proxy does not agree.
    pub fn handle(self, answer: &[u8], accounts: &Accounts) -> Result<ExpectCompleted, SessionError> {
        let result: worker::ExtendedCompareBalanceWithProxyResult = wire::decode(answer)?;
        if result.error_code != 0 {
            return Err(SessionError::ComparisonRefused { code: result.error_code });
        }
        let Session { proxy_contract, seen, .. } = &self.session;
        accounts.with(proxy_contract, |account| {
            let lost = account.totals().earned.saturating_sub(seen.earned);
            tracing::warn!(%lost, "a proxy lost earnings that it had not stored");
            account.write_off_to(seen.earned);
            account.raise(seen.stored, seen.earned);
        });
        Ok(ExpectCompleted { session: self.session })
    }
}

impl ExpectCompleted {
    /// The last query.
    #[must_use]
    pub fn query(is_disabled: bool) -> Bytes {
        wire::encode(&worker::ProxyHandshakeComplete { is_disabled })
    }

    /// The session may begin.
    ///
    /// # Errors
    /// [`SessionError::Malformed`] if the proxy says anything but that.
    pub fn handle(self, answer: &[u8]) -> Result<Session, SessionError> {
        let worker::ProxyHandshakeCompleted {} = wire::decode(answer)?;
        Ok(self.session)
    }
}
