//! A proxy that says what an attack tells it to.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use tokio::time::timeout;
use ton::payment::{self, PaymentKind};
use ton::{Address, RootConfig, contracts};
use transport::identity::IdentitySource;
use transport::{IncomingQuery, Link, LinkEvent, LinkEvents, ListenConfig, ListenMode, Listener};
use units::{AdjustedTokens, PublicKey};
use wire::proxy::SignedPayment;
use wire::{client, proxy, worker};

use crate::stage::ROOT;

const OWNER: Address = Address::new(0, [4; 32]);

/// A victim connects again after a while that grows to this, and a bit.
const PATIENCE: Duration = Duration::from_secs(20);

/// Listens for victims.
pub(crate) struct FakeProxy {
    pub(crate) address: SocketAddr,
    listener: Listener,
    key: SigningKey,
    /// What it claims; changed by attacks.
    pub(crate) claims: Claims,
}

/// What a proxy says about itself.
pub(crate) struct Claims {
    pub(crate) protocol: i32,
    pub(crate) is_test: bool,
    /// Instead of the contract that follows from the root configuration.
    pub(crate) contract: Option<Address>,
    pub(crate) stored: i64,
    pub(crate) earned: i64,
    /// The first answer, as it is.
    pub(crate) garbage: Option<&'static [u8]>,
}

/// A victim's link.
pub(crate) struct Victim {
    pub(crate) link: Link,
    events: LinkEvents,
    key: SigningKey,
    /// The contract between the two, from which payments are made.
    contract: Address,
}

impl FakeProxy {
    pub(crate) async fn start() -> Result<Self> {
        let mode =
            ListenMode::Tls { identity: IdentitySource::generated(), appraiser: None, pow_difficulty: 0 };
        let config = ListenConfig { mode, ..ListenConfig::default() };
        let listener = Listener::bind("127.0.0.1:0".parse()?, config).await?;
        let claims =
            Claims { protocol: 2, is_test: true, contract: None, stored: 0, earned: 0, garbage: None };
        let key = SigningKey::from_bytes(&[3; 32]);
        Ok(Self { address: listener.local_addr(), listener, key, claims })
    }

    /// The next link of a victim.
    pub(crate) async fn accept(&mut self) -> Result<(Link, LinkEvents)> {
        let accepted = timeout(PATIENCE, self.listener.accept()).await.context("the victim does not come")?;
        accepted.context("the listener ended")
    }

    /// Leads the next victim through its handshake, as far as the claims allow.
    pub(crate) async fn shake_hands(&mut self, root: &RootConfig) -> Result<Victim> {
        let (link, events) = self.accept().await?;
        let mut victim = Victim { link, events, key: self.key.clone(), contract: OWNER };
        loop {
            let IncomingQuery { message, responder } = victim.next_query().await?;
            if let Some(garbage) = self.claims.garbage {
                responder.answer(Bytes::from_static(garbage));
                return Ok(victim);
            }
            if let Ok(query) = wire::decode::<worker::Query<'_>>(&message) {
                let (answer, is_last) = self.answer_worker(root, &mut victim, &query)?;
                if is_last {
                    victim.link.handshake_complete();
                }
                responder.answer(answer);
                if is_last {
                    return Ok(victim);
                }
            } else {
                let query = wire::decode::<client::Query<'_>>(&message)?;
                let (answer, is_last) = self.answer_client(root, &mut victim, &query)?;
                if is_last {
                    victim.link.handshake_complete();
                }
                responder.answer(answer);
                if is_last {
                    return Ok(victim);
                }
            }
        }
    }

    fn answer_worker(
        &self,
        root: &RootConfig,
        victim: &mut Victim,
        query: &worker::Query<'_>,
    ) -> Result<(Bytes, bool)> {
        Ok(match query {
            worker::Query::ConnectToProxy(worker::ConnectToProxy { params }) => {
                let (owner, _form) = Address::parse(&params.worker_owner_address.to_string_lossy())?;
                let (proxy, key) = (self.contract(root), self.public_key());
                victim.contract = contracts::worker_address(root, &owner, &proxy, &key);
                let texts = self.texts(root, &victim.contract);
                let answer = worker::ConnectedToProxy {
                    params: self.params(&texts),
                    worker_sc_address: texts[2].as_str().into(),
                };
                (wire::encode(&answer), false)
            }
            worker::Query::CompareBalanceWithProxy(_) => {
                let boc = victim.signed(PaymentKind::WorkerPayout, 0);
                let answer = worker::CompareBalanceWithProxyResult {
                    signed_payment: SignedPayment::Payment { data: &boc },
                    tokens_committed_to_db: self.claims.stored,
                    max_tokens: self.claims.earned,
                    error_code: 0,
                };
                (wire::encode(&answer), false)
            }
            worker::Query::ExtendedCompareBalanceWithProxy(_) => {
                (wire::encode(&worker::ExtendedCompareBalanceWithProxyResult { error_code: 0 }), false)
            }
            worker::Query::ProxyHandshakeComplete(_) => {
                (wire::encode(&worker::ProxyHandshakeCompleted {}), true)
            }
            worker::Query::UpdatePaymentStatus(_) => bail!("asked before the end of the handshake"),
        })
    }

    fn answer_client(
        &self,
        root: &RootConfig,
        victim: &mut Victim,
        query: &client::Query<'_>,
    ) -> Result<(Bytes, bool)> {
        Ok(match query {
            client::Query::ConnectToProxy(query) => {
                let (owner, _form) = Address::parse(&query.params.client_owner_address.to_string_lossy())?;
                let (proxy, key) = (self.contract(root), self.public_key());
                victim.contract = contracts::client_address(root, &owner, &proxy, &key);
                let texts = self.texts(root, &victim.contract);
                let answer = client::ConnectedToProxy {
                    params: self.params(&texts),
                    client_sc_address: texts[2].as_str().into(),
                    auth: client::ProxyConnectionAuth::Long { nonce: 1 },
                    signed_payment: SignedPayment::Empty,
                };
                (wire::encode(&answer), false)
            }
            client::Query::AuthorizeWithProxyLong(_) | client::Query::AuthorizeWithProxyShort(_) => {
                let answer = client::AuthorizationWithProxySuccess {
                    signed_payment: SignedPayment::Empty,
                    tokens_committed_to_db: self.claims.stored,
                    max_tokens: self.claims.earned,
                };
                (wire::encode(&answer), true)
            }
            other => bail!("asked for {other:?} before the end of the handshake"),
        })
    }

    fn public_key(&self) -> PublicKey {
        PublicKey::new(self.key.verifying_key().to_bytes())
    }

    fn contract(&self, root: &RootConfig) -> Address {
        contracts::proxy_address(root, &OWNER, &self.public_key(), &ROOT)
    }

    /// Owner, proxy contract and the victim's contract.
    fn texts(&self, root: &RootConfig, contract: &Address) -> [String; 3] {
        let proxy = self.claims.contract.unwrap_or_else(|| self.contract(root));
        [OWNER, proxy, *contract].map(|address| address.to_wire_text(false))
    }

    fn params<'a>(&self, texts: &'a [String; 3]) -> proxy::Params<'a> {
        proxy::Params {
            proxy_public_key: *self.public_key().as_bytes(),
            proxy_owner_address: texts[0].as_str().into(),
            proxy_sc_address: texts[1].as_str().into(),
            is_test: Some(self.claims.is_test),
            proto_version: (self.claims.protocol != 0).then_some(self.claims.protocol),
        }
    }
}

impl Victim {
    /// A payment of `tokens` from the contract between the two.
    pub(crate) fn signed(&self, kind: PaymentKind, tokens: u64) -> Vec<u8> {
        payment::sign(&self.key, kind, 7, AdjustedTokens::new(tokens), &self.contract, &OWNER)
    }

    /// The same, from a contract of somebody else.
    pub(crate) fn signed_for_another(&self, kind: PaymentKind, tokens: u64) -> Vec<u8> {
        payment::sign(&self.key, kind, 7, AdjustedTokens::new(tokens), &OWNER, &OWNER)
    }

    pub(crate) fn send(&self, message: Bytes) -> Result<()> {
        self.link.try_send(message).context("the link takes nothing")
    }

    async fn next_query(&mut self) -> Result<IncomingQuery> {
        match timeout(PATIENCE, self.events.next()).await.context("the victim asks nothing")? {
            Some(LinkEvent::Query(query)) => Ok(query),
            other => bail!("expected a query: {other:?}"),
        }
    }

    /// The victim ends the link. Its queries are not answered.
    pub(crate) async fn ended(mut self) -> Result<()> {
        let end = async {
            loop {
                if let Some(LinkEvent::Closed(_)) | None = self.events.next().await {
                    return;
                }
            }
        };
        timeout(PATIENCE, end).await.context("the link is still open")
    }

    /// The victim still answers: it refuses a query that it does not know.
    pub(crate) async fn is_alive(&self) -> Result<()> {
        match self.link.query(Bytes::from_static(b"\x01\x02\x03\x04"), PATIENCE).await {
            Err(transport::QueryError::Refused { .. }) => Ok(()),
            other => bail!("the victim does not refuse: {other:?}"),
        }
    }
}
