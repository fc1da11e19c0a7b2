//! From a fresh link to a session: the client's side.
//!
//! Each state holds what was checked so far and consumes itself on the proxy's answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use attest::Attestation;
use bytes::Bytes;
use node::{ConnectingParty, check_image};
use ton::{Address, RootConfig};
use units::{Capabilities, ProtocolVersion};
use wire::client::{
    self, AuthorizationWithProxy, AuthorizeWithProxyLong, AuthorizeWithProxyShort, ConnectToProxy,
    ConnectedToProxy, ProtoRange, ProxyConnectionAuth,
};
use wire::peer;

use super::{Accounts, Contracts, RequestMessage, SessionError};
use crate::secret::LoginSecret;

/// Who the client is, independent of the proxy.
#[derive(Clone, Debug)]
pub(crate) struct Party {
    /// Our side of the contracts.
    pub(crate) connecting: ConnectingParty,
    /// Whether a proxy must run an image of the root contract's list even in a test network.
    pub(crate) check_proxy_hashes: bool,
    /// Proves to a proxy that we own the client contract.
    pub(crate) secret: LoginSecret,
}

/// `connectToProxy` was sent.
pub(crate) struct ExpectConnected {
    party: Party,
    config: Arc<RootConfig>,
}

/// An authorisation was sent.
pub(crate) struct ExpectAuthorization {
    session: Session,
    contracts: Contracts,
    /// The long way: the number that the owner's wallet must show on the chain.
    nonce: Option<u64>,
    config: Arc<RootConfig>,
}

/// An agreed link to one proxy.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Version of requests; answers of every version are understood. Version 3 is only wished for until
    /// [`Session::agree`] has seen what the proxy can do.
    pub(crate) protocol: ProtocolVersion,
    /// Names the account.
    pub(crate) proxy_contract: Address,
    /// What requests have asked for, in all sessions with this proxy.
    asked: Arc<AtomicU64>,
}

/// Versions that we speak. Deployed clients offer 1 to 2; a proxy that knows no versions answers without one,
/// which means 0 and is understood too.
const PROTOCOLS: ProtoRange = ProtoRange {
    min_proto_version: ProtocolVersion::V1.number(),
    max_proto_version: ProtocolVersion::LATEST.number(),
};

impl Session {
    /// A request is on its way: whatever it comes to, it is no more than follows from this.
    pub(crate) fn ask(&self, request: &RequestMessage<'_>) {
        let tokens = u64::from(request.tokens_max).saturating_add(request.body.len() as u64);
        self.asked.fetch_add(tokens.saturating_mul(request.max_coefficient.get().into()), Ordering::Relaxed);
    }
}

impl ExpectConnected {
    /// The first query to a proxy with this `attestation`.
    ///
    /// # Errors
    /// [`SessionError::Proxy`] if images are checked and this one is not allowed. Then nothing is sent to the proxy.
    pub(crate) fn begin(
        party: Party,
        config: Arc<RootConfig>,
        attestation: Option<Attestation>,
    ) -> Result<(Self, Bytes), SessionError> {
        check_image(&config, attestation, party.check_proxy_hashes)?;
        let owner = party.connecting.owner.to_wire_text(party.connecting.is_testnet);
        let query = wire::encode(&ConnectToProxy {
            params: client::Params {
                client_owner_address: owner.as_str().into(),
                is_test: Some(config.params.is_test),
                proto_range: Some(PROTOCOLS),
            },
            min_config_version: config.version.get().cast_signed(),
        });
        Ok((Self { party, config }, query))
    }

    /// Checks who the proxy is and authorises.
    ///
    /// The short way shows the secret of our contract with this proxy, but only to a proxy that already knows its hash. Otherwise the long way
    /// is taken: the owner's wallet shows the proxy's number on the chain. In networks without a chain proxies accept it
    /// at once.
    ///
    /// # Errors
    /// [`SessionError`] if anything about the proxy does not follow from our root configuration, or it is not
    /// what it was before.
    pub(crate) fn handle(
        self,
        answer: &[u8],
        accounts: &Accounts,
    ) -> Result<(ExpectAuthorization, Bytes), SessionError> {
        let connected: ConnectedToProxy<'_> = wire::decode(answer)?;
        let party = &self.party.connecting;
        let proxy = party.verify(&self.config, &connected.params, connected.client_sc_address)?;
        let (proxy_key, client) = (proxy.key(), proxy.own_contract());
        let contracts = Contracts { proxy_key, proxy: proxy.contract(), client };
        let asked = accounts.open(contracts)?;
        accounts.with(&contracts.proxy, |account| account.take_payment(&connected.signed_payment));
        let secret = self.party.secret.of(&client);
        let (query, nonce) = match connected.auth {
            ProxyConnectionAuth::Short { secret_hash, .. } if secret_hash == secret.hash() => {
                (wire::encode(&AuthorizeWithProxyShort { data: secret.as_bytes() }), None)
            }
            ProxyConnectionAuth::Short { nonce, .. } | ProxyConnectionAuth::Long { nonce } => {
                (wire::encode(&AuthorizeWithProxyLong {}), Some(nonce.cast_unsigned()))
            }
        };
        let session = Session { protocol: proxy.protocol(), proxy_contract: contracts.proxy, asked };
        Ok((ExpectAuthorization { session, contracts, nonce, config: self.config }, query))
    }
}

impl ExpectAuthorization {
    /// The proxy contract, its key and our contract.
    pub(crate) fn contracts(&self) -> &Contracts {
        &self.contracts
    }

    /// What the owner's wallet must show on the chain before the proxy authorises us, where there is one.
    pub(crate) fn nonce(&self) -> Option<u64> {
        self.nonce
    }

    /// What the contracts follow from.
    pub(crate) fn config(&self) -> &RootConfig {
        &self.config
    }

    /// What goes before the authorisation where version 3 was chosen: what we can do.
    pub(crate) fn greeting(&self) -> Option<Bytes> {
        let capabilities = Capabilities::OURS.to_wire();
        (self.session.protocol == ProtocolVersion::V3)
            .then(|| wire::encode(&peer::Capabilities { capabilities }))
    }

    /// Takes over where the account stands; the session may begin.
    ///
    /// # Errors
    /// [`SessionError::Unauthorized`] if the proxy refused, [`SessionError::Negative`] for a senseless total.
    pub(crate) fn handle(self, answer: &[u8], accounts: &Accounts) -> Result<Session, SessionError> {
        match wire::decode(answer)? {
            AuthorizationWithProxy::Success(success) => {
                let (stored, used) = (success.tokens_committed_to_db, success.max_tokens);
                let proxy = &self.session.proxy_contract;
                accounts.with(proxy, |account| account.adopt(&success.signed_payment, stored, used))?;
                Ok(self.session)
            }
            AuthorizationWithProxy::Failed(failed) => {
                Err(SessionError::Unauthorized { code: failed.error_code })
            }
        }
    }
}

impl Session {
    /// Takes the first packet of a proxy that chose version 3, which stands only between peers that can do the same.
    ///
    /// # Errors
    /// [`SessionError::NoCapabilities`] if it is another message.
    pub(crate) fn agree(&mut self, packet: &[u8]) -> Result<(), SessionError> {
        let theirs: peer::Capabilities =
            wire::decode(packet).map_err(|_another| SessionError::NoCapabilities)?;
        self.protocol = Capabilities::from_wire(theirs.capabilities).settle();
        Ok(())
    }
}
