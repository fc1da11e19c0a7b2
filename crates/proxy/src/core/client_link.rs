//! A client's link: handshake, questions, requests.

use ahash::HashMap;
use bytes::Bytes;
use ledger::ClientFunds;
use rand::Rng as _;
use sha2::{Digest, Sha256};
use ton::{Address, CLIENT_BALANCE};
use units::{AdjustedTokens, ProtocolVersion};
use wire::proxy::SignedPayment;
use wire::{DecodeError, StatusCode, client};

use super::accounts::{Freshness, Heard, Side};
use super::agreement::Agreement;
use super::delivery::Delivery;
use super::on_chain::Proof;
use super::pace::Pace;
use super::running::RequestKey;
use super::terms::Terms;
use super::upload::Upload;
use super::waiting::WaitKey;
use super::{ACCOUNTS_MAX, Core, LinkId, Now, QueryToken, Refusal};

#[derive(Debug)]
pub(super) struct ClientLink {
    pub(super) stage: ClientStage,
    pub(super) agreement: Agreement,
    /// How the client shows who it is, where a chain is followed.
    pub(super) proof: Proof,
    pub(super) heard: Heard,
    /// Requests that run for this link, by the client's name for them.
    pub(super) running: HashMap<[u8; 32], RequestKey>,
    /// Requests that wait for a worker, likewise.
    pub(super) waiting: HashMap<[u8; 32], WaitKey>,
    /// Answers that the client has not taken yet, in version 3, by its name for them.
    pub(super) deliveries: HashMap<[u8; 32], Delivery>,
    /// How the link keeps up with them.
    pub(super) pace: Pace,
    /// Long queries that are still coming, in version 3, by the client's name for their requests.
    pub(super) uploads: HashMap<[u8; 32], Upload>,
    /// How much may still come of queries whose requests have ended.
    pub(super) late: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum ClientStage {
    /// Nothing was said yet.
    Connecting,
    /// Introduced, not authorised.
    Authorizing(ClientParty),
    /// The handshake is complete.
    Ready(ClientParty),
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientParty {
    pub(super) account: Address,
    pub(super) protocol: ProtocolVersion,
}

// All accounts together stay within the sums of the ledger at any price: strangers with many addresses could otherwise
// exhaust them, and nobody could reserve any more.
const _: () = assert!(
    (CLIENT_BALANCE.get() as u128) * (ACCOUNTS_MAX as u128 + 1) <= i64::MAX as u128,
    "what all clients can spend fits the sums of the ledger"
);

/// A link that broke the protocol, by the reason for closing it.
pub(super) type Breach = &'static str;

impl ClientLink {
    pub(super) fn new() -> Self {
        Self {
            stage: ClientStage::Connecting,
            agreement: Agreement::Settled,
            proof: Proof::default(),
            heard: Heard::default(),
            running: HashMap::default(),
            waiting: HashMap::default(),
            deliveries: HashMap::default(),
            pace: Pace::default(),
            uploads: HashMap::default(),
            late: 0,
        }
    }

    fn party(&self) -> Option<ClientParty> {
        match self.stage {
            ClientStage::Connecting => None,
            ClientStage::Authorizing(party) | ClientStage::Ready(party) => Some(party),
        }
    }
}

impl Core {
    /// `None` is an answer that has to wait for the chain.
    pub(super) fn answer_client(
        &mut self,
        link: LinkId,
        token: QueryToken,
        message: &[u8],
        now: Now,
    ) -> Result<Option<Bytes>, Refusal> {
        let Some(stage) = self.clients.get(&link).map(|client| client.stage) else {
            return Err(Refusal::harmless(StatusCode::CANCELLED, "the link is closing"));
        };
        let query = match (wire::decode::<client::Query<'_>>(message), stage) {
            (Ok(query), _) => query,
            // A question that a newer client may ask and an older proxy does not know.
            (Err(error @ DecodeError::UnknownConstructor { .. }), ClientStage::Ready(_)) => {
                return Err(Refusal::harmless(StatusCode::PROTOCOL_VIOLATION, error.to_string()));
            }
            (Err(error), _) => return Err(Refusal::closing(StatusCode::UNSPECIFIED, error.to_string())),
        };
        let unexpected = |message: &'static str| Err(Refusal::closing(StatusCode::UNSPECIFIED, message));
        match (stage, query) {
            (ClientStage::Connecting, client::Query::ConnectToProxy(query)) => {
                self.connect_client(link, &query).map(Some)
            }
            (ClientStage::Connecting, _) => unexpected("expected connect message"),
            (ClientStage::Authorizing(party), client::Query::AuthorizeWithProxyShort(query)) => {
                let hash: [u8; 32] = Sha256::digest(query.data).into();
                if Some(hash) != self.expected_hash(party.account) {
                    return unexpected("sha256 mismatch");
                }
                self.authorize_client(link, party, now).map(Some)
            }
            (ClientStage::Authorizing(_), client::Query::AuthorizeWithProxyLong(_))
                if self.settlement().is_some() =>
            {
                self.await_registration(link, token, now)
            }
            // Without a chain there is no transaction to wait for.
            (ClientStage::Authorizing(party), client::Query::AuthorizeWithProxyLong(_)) => {
                self.authorize_client(link, party, now).map(Some)
            }
            (ClientStage::Authorizing(_), _) => unexpected("expected auth message"),
            (ClientStage::Ready(_), client::Query::GetWorkerTypes(_)) => Ok(Some(self.worker_types(now))),
            (ClientStage::Ready(_), client::Query::GetWorkerTypesV2(_)) => {
                Ok(Some(self.worker_types_v2(now)))
            }
            (ClientStage::Ready(party), client::Query::UpdatePaymentStatus(_)) => {
                self.client_payment_status(party, now).map(Some)
            }
            (ClientStage::Ready(_), client::Query::RequestRefund(_)) => {
                Err(Refusal::harmless(StatusCode::PROTOCOL_VIOLATION, "refunds are made on chain only"))
            }
            (ClientStage::Ready(_), _) => unexpected("already authorized"),
        }
    }

    /// The checks stand in the order of the deployed proxy, so that a peer with several faults hears of the
    /// same one.
    fn connect_client(&mut self, link: LinkId, query: &client::ConnectToProxy<'_>) -> Result<Bytes, Refusal> {
        let refused = |code, message: &'static str| Err(Refusal::closing(code, message));
        let Some(is_test) = query.params.is_test else {
            return refused(StatusCode::ERROR, "too old client");
        };
        if is_test != self.terms.root().params.is_test {
            return refused(StatusCode::ERROR, "test mode mismatch");
        }
        let account = parse_owner(query.params.client_owner_address, StatusCode::ERROR)?;
        if !self.is_config_known(query.min_config_version) {
            return refused(StatusCode::ERROR, "active config version is too low");
        }
        let protocol = negotiate(query.params.proto_range.as_ref())?;
        if self.is_closing(account) {
            return refused(StatusCode::ERROR, "client is closing");
        }
        if !self.takes_part() {
            return refused(StatusCode::NOT_READY, "proxy is not participating in this iteration");
        }
        let Ok(contract) = self.join_account(Side::Client, account) else {
            return refused(StatusCode::NOT_READY, "proxy has no room for another client");
        };

        let nonce = self.open_account(account);
        if let Some(client) = self.clients.get_mut(&link) {
            client.stage = ClientStage::Authorizing(ClientParty { account, protocol });
            client.agreement = Agreement::on(protocol);
            client.proof.nonce = nonce;
        }
        self.greeted = (protocol == ProtocolVersion::V3).then_some(link);

        let nonce = nonce.cast_signed();
        let auth = match self.expected_hash(account) {
            Some(secret_hash) => client::ProxyConnectionAuth::Short { secret_hash, nonce },
            None => client::ProxyConnectionAuth::Long { nonce },
        };
        let payment = self.signed_payment(Side::Client, &account);
        let contract = self.terms.address_text(&contract);
        Ok(wire::encode(&client::ConnectedToProxy {
            params: self.terms.introduction(protocol),
            client_sc_address: contract.as_str().into(),
            auth,
            signed_payment: payment
                .as_ref()
                .map_or(SignedPayment::Empty, |boc| SignedPayment::Payment { data: boc }),
        }))
    }

    /// Opens an account, and returns the number by which the chain may know the connection. Without a chain there is
    /// none, and everybody has play money; with one, a client that it does not show has nothing yet.
    fn open_account(&mut self, account: Address) -> u64 {
        if self.settlement().is_some() {
            if self.ledger.client_contract(account).is_none() {
                self.ledger.open_client(account, ClientFunds::default());
            }
            return self.random.next_u64();
        }
        let funds =
            ClientFunds { balance: CLIENT_BALANCE, stake: CLIENT_BALANCE, tokens_used: AdjustedTokens::ZERO };
        self.ledger.open_client(account, funds);
        0
    }

    /// The hash of the secret by which a client may authorise; the empty one's where there is no chain.
    fn expected_hash(&self, account: Address) -> Option<[u8; 32]> {
        if self.settlement().is_some() { self.secret_hash_of(account) } else { Some(Terms::secret_hash()) }
    }

    pub(super) fn authorize_client(
        &mut self,
        link: LinkId,
        party: ClientParty,
        now: Now,
    ) -> Result<Bytes, Refusal> {
        self.clients.get(&link).map_or(Ok(()), |client| client.agreement.check())?;
        let standing = self.standing(Side::Client, party.account, Freshness::Total, now);
        let standing = standing.ok_or_else(no_account)?;
        if let Some(client) = self.clients.get_mut(&link) {
            client.stage = ClientStage::Ready(party);
        }
        self.vouch(link);
        Ok(wire::encode(&client::AuthorizationWithProxySuccess {
            signed_payment: standing.payment(),
            tokens_committed_to_db: standing.settled,
            max_tokens: standing.total,
        }))
    }

    fn client_payment_status(&mut self, party: ClientParty, now: Now) -> Result<Bytes, Refusal> {
        let standing = self.standing(Side::Client, party.account, Freshness::Total, now);
        let standing = standing.ok_or_else(no_account)?;
        Ok(wire::encode(&client::PaymentStatus {
            signed_payment: standing.payment(),
            db_tokens: standing.settled,
            max_tokens: standing.total,
        }))
    }

    pub(super) fn packet_from_client(
        &mut self,
        link: LinkId,
        message: &Bytes,
        now: Now,
    ) -> Result<(), Breach> {
        let packet = match wire::decode::<client::Packet<'_>>(message) {
            Ok(packet) => packet,
            // Deployed proxies ignore what they do not know.
            Err(DecodeError::UnknownConstructor { .. }) => return Ok(()),
            Err(_malformed) => return Err("malformed message"),
        };
        match self.clients.get(&link).map(|client| client.stage) {
            None => Ok(()),
            Some(stage) => match (packet, stage) {
                (client::Packet::Capabilities(said), _) => self.client_capabilities(link, said),
                (_, ClientStage::Connecting | ClientStage::Authorizing(_)) => {
                    Err("request before the end of the handshake")
                }
                (client::Packet::RunQueryEx(query), ClientStage::Ready(party)) => {
                    let query_len = query.query.len();
                    self.run_query(link, party, query, query_len, message, now);
                    Ok(())
                }
                (client::Packet::RunQuery(query), ClientStage::Ready(party)) => {
                    let query_len = query.query.len();
                    self.run_query(link, party, in_full(query), query_len, message, now);
                    Ok(())
                }
                (packet, ClientStage::Ready(party)) if party.protocol == ProtocolVersion::V3 => {
                    self.stream_packet_from_client(link, party, (message, &packet), now)
                }
                // Meant for another version.
                (_, ClientStage::Ready(_)) => Ok(()),
            },
        }
    }

    /// What only version 3 says.
    fn stream_packet_from_client(
        &mut self,
        link: LinkId,
        party: ClientParty,
        (message, packet): (&Bytes, &client::Packet<'_>),
        now: Now,
    ) -> Result<(), Breach> {
        match packet {
            client::Packet::Begin(begin) => self.begin_query(link, party, begin, message, now),
            client::Packet::BodyPart(part) => self.query_part(link, part, now),
            client::Packet::Cancel(cancel) => {
                self.cancelled_by_client(link, cancel, now);
                Ok(())
            }
            client::Packet::Credit(credit) => self.credit_from_client(link, credit),
            _ => Ok(()),
        }
    }

    /// The link is gone. Its requests are given up, and charged by what their workers count.
    pub(super) fn forget_client_link(&mut self, link: LinkId, now: Now) {
        let Some(mut client) = self.clients.remove(&link) else { return };
        self.forget_deliveries(client.deliveries.drain().map(|(_, delivery)| delivery));
        self.forget_uploads(client.uploads.drain().map(|(_, upload)| upload));
        for request in client.waiting.values() {
            self.forget_waiting(*request);
        }
        for request in client.running.values() {
            self.running.client_left(*request);
            self.give_up(*request, now);
        }
        if let Some(party) = client.party() {
            self.leave_account(Side::Client, party.account);
        }
    }

    /// Whether our root configuration is at least the one that the peer works with.
    pub(super) fn is_config_known(&self, min_config_version: i32) -> bool {
        min_config_version.cast_unsigned() <= self.terms.root().version.get()
    }
}

/// Version 0 asks with fewer members.
pub(super) fn in_full(query: client::RunQuery<'_>) -> client::RunQueryEx<'_> {
    client::RunQueryEx {
        model_name: query.model_name,
        query: query.query,
        max_coefficient: query.max_coefficient,
        max_tokens: query.max_tokens,
        timeout: query.timeout,
        request_id: query.request_id,
        min_config_version: query.min_config_version,
        enable_debug: None,
    }
}

pub(super) fn parse_owner(text: wire::TlStr<'_>, code: StatusCode) -> Result<Address, Refusal> {
    let unreadable = |error: ton::AddressParseError| Refusal::closing(code, error.to_string());
    // Nothing that is not UTF-8 is an address; the replacement characters make that sure.
    Address::parse(&text.to_string_lossy()).map(|(address, _flags)| address).map_err(unreadable)
}

pub(super) fn negotiate(range: Option<&client::ProtoRange>) -> Result<ProtocolVersion, Refusal> {
    let (min, max) = range.map_or((0, 0), |range| (range.min_proto_version, range.max_proto_version));
    ProtocolVersion::negotiate(min, max).map_err(|_disjoint| {
        Refusal::closing(StatusCode::PROTOCOL_VIOLATION, "cannot choose common protocol version")
    })
}

pub(super) fn no_account() -> Refusal {
    Refusal::closing(StatusCode::FAILURE, "the account is not open")
}
