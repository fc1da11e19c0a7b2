//! A running proxy, and peers that do what a test tells them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use cocoon_proxy::{Config, Proxy, start};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use ton::{Address, RootConfig};
use transport::{ConnectConfig, Link, LinkEvent, LinkEvents, connect};
use units::{ConfigVersion, NanoTon};
use wire::{client, http, peer, proxy, worker};

pub(crate) const MODEL: &str = "demo/model";

/// Far longer than anything here takes; only a hanging test meets it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A proxy of its own network, on free ports.
pub(crate) struct World {
    pub(crate) proxy: Proxy,
    pub(crate) folder: TempDir,
}

pub(crate) fn owner(number: u8) -> Address {
    Address::new(0, [number; 32])
}

pub(crate) fn config(folder: &TempDir) -> Config {
    let mut root = RootConfig::pseudo(owner(1));
    root.version = ConfigVersion::new(3);
    root.params.price_per_token = NanoTon::new(2);
    root.params.worker_fee_per_token = NanoTon::new(1);
    let file = folder.path().join("root.json");
    std::fs::write(&file, root.to_pseudo_json().unwrap()).unwrap();
    let free_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Config {
        http: free_port,
        workers: free_port,
        clients: free_port,
        pow_difficulty: 4,
        root_config: file,
        root_address: owner(2).to_wire_text(false),
        state: folder.path().join("state"),
        ..Config::default()
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let proxy = start(config(&folder)).await.unwrap();
        Self { proxy, folder }
    }

    /// A client after its handshake.
    pub(crate) async fn client(&self, number: u8) -> Peer {
        self.client_of(number, 2).await
    }

    /// As [`Self::client`], of a version up to `version`.
    pub(crate) async fn client_of(&self, number: u8, version: i32) -> Peer {
        let mut peer = Peer::connect(self.proxy.clients_address()).await;
        let owner = owner(number).to_wire_text(false);
        let proto_range = Some(client::ProtoRange { min_proto_version: 1, max_proto_version: version });
        let params =
            client::Params { client_owner_address: owner.as_str().into(), is_test: Some(true), proto_range };
        peer.ask(&client::ConnectToProxy { params, min_config_version: 3 }).await;
        peer.agree(version).await;
        peer.ask(&client::AuthorizeWithProxyShort { data: b"" }).await;
        peer
    }

    /// An enabled worker.
    pub(crate) async fn worker(&self, number: u8) -> Peer {
        self.worker_of(number, 2).await
    }

    /// As [`Self::worker`], of a version up to `version`.
    pub(crate) async fn worker_of(&self, number: u8, version: i32) -> Peer {
        let mut peer = Peer::connect(self.proxy.workers_address()).await;
        peer.join(number, version).await;
        peer
    }

    /// As [`Self::worker`], which shows what `config` says.
    pub(crate) async fn worker_with(&self, number: u8, config: &ConnectConfig) -> Peer {
        let mut peer = Peer::connect_with(self.proxy.workers_address(), config).await;
        peer.join(number, 2).await;
        peer
    }

    /// Status and body of an HTTP exchange on the local port.
    pub(crate) async fn http(&self, request: &str, token: Option<&str>) -> (u16, String) {
        http_exchange(self.proxy.http_address(), request, token).await
    }

    pub(crate) fn token(&self) -> String {
        let file = self.folder.path().join("state/admin.token");
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }
}

pub(crate) async fn http_exchange(address: SocketAddr, request: &str, token: Option<&str>) -> (u16, String) {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}\r\n");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn owner_text(number: u8) -> String {
    owner(number).to_wire_text(false)
}

fn worker_params(owner: &str, version: i32) -> worker::Params<'_> {
    worker::Params {
        worker_owner_address: owner.into(),
        model: MODEL.into(),
        coefficient: 1000,
        deployment: Some(worker::Deployment { is_test: true, proxy_cnt: 1, max_active_requests: 100 }),
        proto_range: Some(client::ProtoRange { min_proto_version: 1, max_proto_version: version }),
    }
}

/// One end of a link, in a test's hands.
pub(crate) struct Peer {
    pub(crate) link: Link,
    pub(crate) events: LinkEvents,
}

impl Peer {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &ConnectConfig::default()).await
    }

    pub(crate) async fn connect_with(address: SocketAddr, config: &ConnectConfig) -> Self {
        let (link, events) = connect(&address.to_string(), config).await.unwrap();
        Self { link, events }
    }

    /// As a worker: the handshake, up to a version.
    async fn join(&mut self, number: u8, version: i32) {
        self.ask(&worker::ConnectToProxy { params: worker_params(&owner_text(number), version) }).await;
        self.agree(version).await;
        let nothing = worker::CompareBalanceWithProxy {
            tokens_committed_to_blockchain: 0,
            tokens_committed_to_db: 0,
            max_tokens: 0,
        };
        self.ask(&nothing).await;
        self.ask(&worker::ProxyHandshakeComplete { is_disabled: false }).await;
    }

    /// As a worker: why it may not join.
    pub(crate) async fn refusal(&self, number: u8) -> String {
        let connect = wire::encode(&worker::ConnectToProxy { params: worker_params(&owner_text(number), 2) });
        self.link.query(connect, PATIENCE).await.expect_err("it is refused").to_string()
    }

    pub(crate) async fn ask(&self, query: &impl wire::Encode) -> Bytes {
        self.link.query(wire::encode(query), PATIENCE).await.unwrap()
    }

    /// In version 3, both say what they can do.
    async fn agree(&mut self, version: i32) {
        if version == 3 {
            let said = self.next().await.expect("the proxy says what it can do");
            self.send(&wire::decode::<peer::Capabilities>(&said).unwrap()).await;
        }
    }

    pub(crate) async fn send(&self, message: &impl wire::Encode) {
        self.link.send(wire::encode(message)).await.unwrap();
    }

    /// The next message, or `None` at the end of the link.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        let event = tokio::time::timeout(PATIENCE, self.events.next()).await.expect("something happens");
        match event? {
            LinkEvent::Packet(message) => Some(message),
            LinkEvent::Closed(_) => None,
            LinkEvent::Query(query) => panic!("a proxy asks nothing: {query:?}"),
        }
    }

    /// As a worker: the name of the next request.
    pub(crate) async fn next_request(&mut self) -> [u8; 32] {
        loop {
            let message = self.next().await.expect("a request comes");
            if let worker::FromProxy::RunQueryEx(query) = wire::decode(&message).unwrap() {
                return query.request_id;
            }
        }
    }

    /// As a client: asks for `number` of seconds of work.
    pub(crate) async fn run_query(&self, number: u8, timeout: f64) {
        self.run_query_of(b"{}", number, timeout).await;
    }

    /// As [`Self::run_query`], with a body.
    pub(crate) async fn run_query_of(&self, payload: &[u8], number: u8, timeout: f64) {
        let query = wire::encode(&http::Request {
            method: "POST".into(),
            url: "/v1/chat/completions".into(),
            http_version: "HTTP/1.1".into(),
            headers: vec![],
            payload,
        });
        self.send(&client::RunQueryEx {
            model_name: MODEL.into(),
            query: &query,
            max_coefficient: 4000,
            max_tokens: 1000,
            timeout,
            request_id: [number; 32],
            min_config_version: 3,
            enable_debug: Some(false),
        })
        .await;
    }

    /// As a client: the next answer as HTTP status (of a head), body, and whether it was the last.
    pub(crate) async fn next_answer(&mut self) -> (Option<i32>, Vec<u8>, bool) {
        loop {
            let message = self.next().await.expect("an answer comes");
            match wire::decode(&message).unwrap() {
                client::FromProxy::QueryAnswerEx(answer) => {
                    let head: http::Response<'_> = wire::decode(answer.answer).unwrap();
                    return (Some(head.status_code), head.payload.to_vec(), answer.final_info.is_some());
                }
                client::FromProxy::QueryAnswerPartEx(answer) => {
                    return (None, answer.answer.to_vec(), answer.final_info.is_some());
                }
                client::FromProxy::QueryAnswerErrorEx(error) => {
                    return (Some(error.error_code), vec![], true);
                }
                client::FromProxy::ClientRequestPayment(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// As a worker: begins an answer.
    pub(crate) async fn answer_head(&self, request_id: [u8; 32]) {
        let answer = wire::encode(&http::Response {
            http_version: "HTTP/1.1".into(),
            status_code: 200,
            reason: "OK".into(),
            headers: vec![],
            payload: b"",
        });
        self.send(&proxy::QueryAnswerEx { request_id, answer: &answer, final_info: None }).await;
    }

    /// As a worker: goes on with an answer, or ends it at the given price.
    pub(crate) async fn answer_part(&self, request_id: [u8; 32], answer: &[u8], price: Option<i64>) {
        let final_info = price.map(|price| proxy::QueryFinalInfo {
            tokens_used: wire::TokensUsed {
                prompt_tokens_used: 0,
                cached_tokens_used: 0,
                completion_tokens_used: price,
                reasoning_tokens_used: 0,
                total_tokens_used: price,
            },
            worker_debug: None,
            times: Some(proxy::Times { worker_start_time: 1.0, worker_end_time: 2.0 }),
        });
        self.send(&proxy::QueryAnswerPartEx { request_id, answer, final_info }).await;
    }
}
