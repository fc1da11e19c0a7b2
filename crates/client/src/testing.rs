//! A network for tests: a root configuration, and a proxy that does what the test says.

use std::net::SocketAddrV4;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use gateway::{RequestBody, Route};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use ton::contracts::{client_address, proxy_address};
use ton::payment::{PaymentKind, sign};
use ton::{Address, RegisteredProxy, RootConfig};
use transport::{IncomingQuery, Link, LinkEvent, LinkEvents};
use units::{AdjustedTokens, Capabilities, ConfigVersion, NanoTon, PublicKey};
use wire::client::{
    AuthorizationWithProxySuccess, ConnectedToProxy, PaymentStatus, ProxyConnectionAuth, Query,
    QueryAnswerEx, QueryAnswerPartEx, QueryFinalInfo, WorkerInstanceV2, WorkerType, WorkerTypeV2,
    WorkerTypes, WorkerTypesV2,
};
use wire::proxy::{self, SignedPayment};
use wire::{TokensUsed, client, http, peer};

use crate::{Client, Config, link};

/// Where a proxy listens, for those who do not connect there.
pub(crate) const SOMEWHERE: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 1);

/// A test network without a chain.
pub(crate) struct Network {
    pub(crate) root: RootConfig,
    pub(crate) root_address: Address,
    pub(crate) proxy_owner: Address,
    pub(crate) key: SigningKey,
    folder: TempDir,
}

impl Network {
    pub(crate) fn new(proxies: &[SocketAddrV4]) -> Self {
        let mut root = RootConfig::pseudo(Address::new(0, [1; 32]));
        root.version = ConfigVersion::new(3);
        root.params.params_version = 1;
        root.params.price_per_token = NanoTon::new(2);
        for address in proxies {
            root.registered_proxies.push(RegisteredProxy { seqno: 1, workers: *address, clients: *address });
        }
        let network = Self {
            root,
            root_address: Address::new(0, [2; 32]),
            proxy_owner: Address::new(0, [3; 32]),
            key: SigningKey::from_bytes(&[4; 32]),
            folder: tempfile::tempdir().unwrap(),
        };
        network.write_root();
        network
    }

    pub(crate) fn write_root(&self) {
        let path = self.folder.path().join("root.json");
        std::fs::write(path, self.root.to_pseudo_json().unwrap()).unwrap();
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            http: "127.0.0.1:0".parse().unwrap(),
            root_config: self.folder.path().join("root.json"),
            root_address: self.root_address.to_string(),
            state: self.folder.path().join("client"),
            ..Config::default()
        }
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        PublicKey::new(self.key.verifying_key().to_bytes())
    }

    pub(crate) fn proxy_contract(&self) -> Address {
        proxy_address(&self.root, &self.proxy_owner, &self.public_key(), &self.root_address)
    }

    pub(crate) fn client_contract(&self, wallet: &Address) -> Address {
        client_address(&self.root, wallet, &self.proxy_contract(), &self.public_key())
    }

    /// A charge of `tokens` in all, signed by the proxy.
    pub(crate) fn charge(&self, wallet: &Address, tokens: u64) -> Vec<u8> {
        let contract = self.client_contract(wallet);
        let tokens = AdjustedTokens::new(tokens);
        sign(&self.key, PaymentKind::ClientCharge, 7, tokens, &contract, &self.proxy_owner)
    }

    /// The proxy's first answer to a client with `wallet`, changed by the test.
    pub(crate) fn connected(
        &self,
        wallet: &Address,
        proto_version: Option<i32>,
        change: impl FnOnce(&mut ConnectedToProxy<'_>),
    ) -> Bytes {
        let owner = self.proxy_owner.to_string();
        let (proxy, client) = (self.proxy_contract(), self.client_contract(wallet));
        let (proxy, client) = (proxy.to_wire_text(false), client.to_wire_text(false));
        let mut connected = ConnectedToProxy {
            params: proxy::Params {
                proxy_public_key: *self.public_key().as_bytes(),
                proxy_owner_address: owner.as_str().into(),
                proxy_sc_address: proxy.as_str().into(),
                is_test: Some(true),
                proto_version,
            },
            client_sc_address: client.as_str().into(),
            auth: ProxyConnectionAuth::Long { nonce: 0 },
            signed_payment: SignedPayment::Empty,
        };
        change(&mut connected);
        wire::encode(&connected)
    }
}

/// A scripted proxy on one link.
pub(crate) struct Proxy<'n> {
    network: &'n Network,
    pub(crate) link: Link,
    events: LinkEvents,
    protocol: Option<i32>,
    /// What it says that it can do, in version 3; `None` to say nothing.
    pub(crate) capabilities: Option<i64>,
    pub(crate) wallet: Option<Address>,
    /// Model and price of its only worker.
    pub(crate) model: Option<(&'static str, i32)>,
    /// What it says about the account: signed, stored, used.
    pub(crate) totals: (u64, i64, i64),
    /// How often the client asked for that.
    pub(crate) status_queries: usize,
}

/// A request as the proxy got it.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) id: [u8; 32],
    pub(crate) is_ex: bool,
    pub(crate) model: String,
    pub(crate) max_tokens: i32,
    pub(crate) max_coefficient: i32,
    pub(crate) timeout: f64,
    pub(crate) config_version: i32,
    pub(crate) enable_debug: Option<bool>,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// A client of `network` with one connection to a scripted proxy, made without a socket.
pub(crate) async fn connected<'n>(
    network: &'n Network,
    client: &Client,
    protocol: Option<i32>,
) -> (Proxy<'n>, JoinHandle<link::Ended>) {
    let ((link, events), (proxy_link, proxy_events)) = transport::testing::pair();
    let shared = std::sync::Arc::clone(&client.shared);
    let serving = tokio::spawn(async move { link::serve(&shared, link, events, 0, SOMEWHERE).await });
    let mut proxy = Proxy::new(network, proxy_link, proxy_events, protocol);
    proxy.handshake().await;
    (proxy, serving)
}

impl<'n> Proxy<'n> {
    pub(crate) fn new(network: &'n Network, link: Link, events: LinkEvents, protocol: Option<i32>) -> Self {
        let (model, totals) = (Some(("m", 1500)), (0, 0, 0));
        let capabilities = Some(Capabilities::OURS.to_wire());
        Self { network, link, events, protocol, capabilities, wallet: None, model, totals, status_queries: 0 }
    }

    /// Lets the client in, and tells it the first list of models.
    pub(crate) async fn handshake(&mut self) {
        let mut steps = 3 + usize::from(self.protocol == Some(3));
        while steps > 0 {
            steps -= 1;
            match self.events.next().await {
                Some(LinkEvent::Query(query)) => self.answer(query),
                Some(LinkEvent::Packet(said)) if self.protocol == Some(3) => {
                    let ours = peer::Capabilities { capabilities: Capabilities::OURS.to_wire() };
                    assert_eq!(wire::decode(&said), Ok(ours));
                }
                other => panic!("no handshake: {other:?}"),
            }
        }
        self.link.handshake_complete();
    }

    /// The next request; queries are answered meanwhile. `None` when the link has ended.
    pub(crate) async fn next_request(&mut self) -> Option<Received> {
        loop {
            match self.events.next().await? {
                LinkEvent::Packet(packet) => return Some(Received::read(&packet)),
                LinkEvent::Query(query) => self.answer(query),
                LinkEvent::Closed(_) => return None,
            }
        }
    }

    /// The next message; queries are answered meanwhile.
    pub(crate) async fn next_packet(&mut self) -> Bytes {
        loop {
            match self.events.next().await {
                Some(LinkEvent::Packet(packet)) => return packet,
                Some(LinkEvent::Query(query)) => self.answer(query),
                other => panic!("no message: {other:?}"),
            }
        }
    }

    pub(crate) fn send<T: wire::Encode>(&self, message: &T) {
        self.link.try_send(wire::encode(message)).unwrap();
    }

    fn signed(&self) -> Vec<u8> {
        self.network.charge(&self.wallet.expect("the handshake names the wallet"), self.totals.0)
    }

    fn answer(&mut self, query: IncomingQuery) {
        let answer = match wire::decode(&query.message).unwrap() {
            Query::ConnectToProxy(connect) => {
                assert_eq!(connect.min_config_version, 3);
                let owner = connect.params.client_owner_address.to_str().unwrap();
                let wallet = Address::parse(owner).unwrap().0;
                self.wallet = Some(wallet);
                self.network.connected(&wallet, self.protocol, |_| {})
            }
            Query::AuthorizeWithProxyShort(_) | Query::AuthorizeWithProxyLong(_) => {
                let data = self.signed();
                wire::encode(&AuthorizationWithProxySuccess {
                    signed_payment: SignedPayment::Payment { data: &data },
                    tokens_committed_to_db: self.totals.1,
                    max_tokens: self.totals.2,
                })
            }
            Query::UpdatePaymentStatus(_) => {
                self.status_queries += 1;
                let data = self.signed();
                wire::encode(&PaymentStatus {
                    signed_payment: SignedPayment::Payment { data: &data },
                    db_tokens: self.totals.1,
                    max_tokens: self.totals.2,
                })
            }
            Query::GetWorkerTypesV2(_) => {
                let worker = |coefficient| WorkerInstanceV2 {
                    coefficient,
                    active_requests: 1,
                    max_active_requests: 60,
                };
                let types = self
                    .model
                    .map(|(name, price)| WorkerTypeV2 { name: name.into(), workers: vec![worker(price)] });
                wire::encode(&WorkerTypesV2 { types: types.into_iter().collect() })
            }
            Query::GetWorkerTypes(_) => {
                let entry = |(name, price): (&'static str, i32)| WorkerType {
                    name: name.into(),
                    active_workers: 1,
                    coefficient_min: price,
                    coefficient_bucket50: price,
                    coefficient_max: price,
                };
                wire::encode(&WorkerTypes { types: self.model.map(entry).into_iter().collect() })
            }
            Query::RequestRefund(_) => panic!("nobody asks for refunds"),
        };
        let is_first = matches!(wire::decode(&query.message), Ok(Query::ConnectToProxy(_)));
        query.responder.answer(answer);
        if let Some(capabilities) = self.capabilities.filter(|_| is_first && self.protocol == Some(3)) {
            self.send(&peer::Capabilities { capabilities });
        }
    }
}

impl Received {
    fn read(packet: &[u8]) -> Self {
        let text = |text: wire::TlStr<'_>| text.to_str().unwrap().to_owned();
        let with_query = |query: &[u8], received: Self| {
            let request: http::Request<'_> = wire::decode(query).unwrap();
            assert_eq!(
                (request.method.to_str(), request.http_version.to_str()),
                (Ok("POST"), Ok("HTTP/1.1"))
            );
            let header = |header: &http::Header<'_>| (text(header.name), text(header.value));
            Self {
                url: text(request.url),
                headers: request.headers.iter().map(header).collect(),
                body: String::from_utf8(request.payload.to_vec()).unwrap(),
                ..received
            }
        };
        let empty = |id, is_ex| Self {
            id,
            is_ex,
            model: String::new(),
            max_tokens: 0,
            max_coefficient: 0,
            timeout: 0.0,
            config_version: 0,
            enable_debug: None,
            url: String::new(),
            headers: Vec::new(),
            body: String::new(),
        };
        match wire::decode(packet).unwrap() {
            client::Packet::RunQuery(run) => Self {
                model: text(run.model_name),
                max_tokens: run.max_tokens,
                max_coefficient: run.max_coefficient,
                timeout: run.timeout,
                config_version: run.min_config_version,
                ..with_query(run.query, empty(run.request_id, false))
            },
            client::Packet::RunQueryEx(run) => Self {
                model: text(run.model_name),
                max_tokens: run.max_tokens,
                max_coefficient: run.max_coefficient,
                timeout: run.timeout,
                config_version: run.min_config_version,
                enable_debug: run.enable_debug,
                ..with_query(run.query, empty(run.request_id, true))
            },
            other => panic!("no request: {other:?}"),
        }
    }
}

/// A head with a status, one header and the first bytes of the body.
pub(crate) fn head(status: i32, content_type: &str, payload: &[u8]) -> Bytes {
    let header = |name: &'static str, value| http::Header { name: name.into(), value };
    wire::encode(&http::Response {
        http_version: "HTTP/1.1".into(),
        status_code: status,
        reason: "".into(),
        headers: vec![
            header("Content-Type", content_type.into()),
            header("Transfer-Encoding", "chunked".into()),
            header("X-Cocoon-Worker-Start", "1.000000".into()),
        ],
        payload,
    })
}

/// 50 adjusted tokens of the prompt, 150 of the completion.
pub(crate) fn final_info() -> QueryFinalInfo<'static> {
    QueryFinalInfo {
        tokens_used: TokensUsed {
            prompt_tokens_used: 34,
            cached_tokens_used: 16,
            completion_tokens_used: 135,
            reasoning_tokens_used: 15,
            total_tokens_used: 200,
        },
        debug: None,
        times: None,
    }
}

pub(crate) fn first<'a>(id: [u8; 32], answer: &'a [u8], is_last: bool) -> QueryAnswerEx<'a> {
    QueryAnswerEx { request_id: id, answer, final_info: is_last.then(final_info) }
}

pub(crate) fn part<'a>(id: [u8; 32], answer: &'a [u8], is_last: bool) -> QueryAnswerPartEx<'a> {
    QueryAnswerPartEx { request_id: id, answer, final_info: is_last.then(final_info) }
}

pub(crate) fn request(body: &str) -> RequestBody {
    RequestBody::parse(Route::ChatCompletions, Bytes::copy_from_slice(body.as_bytes())).unwrap()
}
