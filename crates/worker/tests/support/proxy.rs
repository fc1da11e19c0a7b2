//! A proxy on a real socket that says what a test tells it to.

use std::net::SocketAddr;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use ton::payment::{self, PaymentKind};
use ton::{Address, RegisteredProxy, RootConfig, contracts};
use transport::identity::IdentitySource;
use transport::{CloseReason, Link, LinkEvent, LinkEvents, ListenConfig, ListenMode, Listener};
use units::{AdjustedTokens, Capabilities, NanoTon, PublicKey};
use wire::worker::ToProxy;
use wire::{StatusCode, peer, proxy, stream, worker};

pub const ROOT: Address = Address::new(0, [9; 32]);
const OWNER: Address = Address::new(0, [4; 32]);

pub struct ScriptedProxy {
    pub address: SocketAddr,
    /// Lists this proxy; price 2, fee 1.
    pub root: RootConfig,
    listener: Listener,
    key: SigningKey,
    /// The version that it chooses.
    pub protocol: i32,
    /// What it says that it can do, in version 3; `None` to say nothing.
    pub capabilities: Option<i64>,
    /// What it says in the comparison of balances.
    pub signed: u64,
    pub stored: i64,
    pub earned: i64,
}

/// A worker after its handshake.
pub struct Worker {
    pub link: Link,
    events: LinkEvents,
    pub model: String,
    pub coefficient: i32,
    pub proxy_cnt: i32,
    pub max_active_requests: i32,
    pub is_disabled: bool,
    pub remembered: worker::CompareBalanceWithProxy,
    /// What the proxy says when the worker asks: stored and earned.
    pub status: (i64, i64),
    key: SigningKey,
    contract: Address,
}

/// What a worker says, without its borrows.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Head {
        id: u8,
        status: i32,
        headers: Vec<(String, String)>,
        end: Option<End>,
    },
    Part {
        id: u8,
        body: String,
        end: Option<End>,
    },
    Error {
        id: u8,
        code: i32,
        message: String,
        end: End,
    },
    /// What an answer costs so far.
    Usage {
        id: u8,
        tokens: [i64; 5],
    },
    /// More of a query has room.
    Credit {
        id: u8,
        len: i32,
    },
    Disabled(bool),
    Coefficient(i32),
    /// The worker asked for the state of its account and was told.
    PaymentPoll,
    Closed,
}

#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// Prompt, cached, completion, reasoning, total.
    pub tokens: [i64; 5],
    pub debug: Option<String>,
    pub has_times: bool,
}

impl ScriptedProxy {
    pub async fn start() -> Self {
        let mode =
            ListenMode::Tls { identity: IdentitySource::generated(), appraiser: None, pow_difficulty: 0 };
        let config = ListenConfig { mode, ..ListenConfig::default() };
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), config).await.unwrap();
        let address = listener.local_addr();
        let mut root = RootConfig::pseudo(Address::new(0, [1; 32]));
        root.params.price_per_token = NanoTon::new(2);
        root.params.worker_fee_per_token = NanoTon::new(1);
        root.registered_proxies.push(RegisteredProxy::from_text(1, &address.to_string()).unwrap());
        let key = SigningKey::from_bytes(&[3; 32]);
        let capabilities = Some(Capabilities::OURS.to_wire());
        Self { address, root, listener, key, protocol: 2, capabilities, signed: 0, stored: 0, earned: 0 }
    }

    fn public_key(&self) -> PublicKey {
        PublicKey::new(self.key.verifying_key().to_bytes())
    }

    /// Takes the next worker through the handshake.
    pub async fn accept(&mut self) -> Worker {
        let (link, events) = self.listener.accept().await.expect("the listener runs as long as its test");
        self.shake_hands(link, events).await
    }

    /// The proxy's side of the handshake, on any link.
    pub async fn shake_hands(&self, link: Link, mut events: LinkEvents) -> Worker {
        let mut contract = None;
        let (mut model, mut coefficient, mut deployment, mut remembered) = (String::new(), 0, None, None);
        loop {
            let query = match events.next().await {
                Some(LinkEvent::Query(query)) => query,
                Some(LinkEvent::Packet(said)) if self.protocol == 3 && remembered.is_none() => {
                    let ours = peer::Capabilities { capabilities: Capabilities::OURS.to_wire() };
                    assert_eq!(wire::decode(&said), Ok(ours));
                    continue;
                }
                other => panic!("expected a query of the handshake, found {other:?}"),
            };
            match wire::decode(&query.message).unwrap() {
                worker::Query::ConnectToProxy(worker::ConnectToProxy { params }) => {
                    model = params.model.to_string_lossy().into_owned();
                    coefficient = params.coefficient;
                    deployment = params.deployment;
                    let (owner, _) = Address::parse(params.worker_owner_address.to_str().unwrap()).unwrap();
                    let (answer, worker_contract) = self.connected(&owner);
                    contract = Some(worker_contract);
                    query.responder.answer(answer);
                    if let Some(capabilities) = self.capabilities.filter(|_| self.protocol == 3) {
                        link.try_send(wire::encode(&peer::Capabilities { capabilities })).unwrap();
                    }
                }
                worker::Query::CompareBalanceWithProxy(said) => {
                    let boc = sign(&self.key, contract.as_ref().unwrap(), self.signed);
                    let is_behind = said.max_tokens > self.earned;
                    remembered = Some(said);
                    query.responder.answer(wire::encode(&worker::CompareBalanceWithProxyResult {
                        signed_payment: proxy::SignedPayment::Payment { data: &boc },
                        tokens_committed_to_db: self.stored,
                        max_tokens: self.earned,
                        error_code: is_behind.into(),
                    }));
                }
                worker::Query::ExtendedCompareBalanceWithProxy(_) => {
                    let answer = worker::ExtendedCompareBalanceWithProxyResult { error_code: 0 };
                    query.responder.answer(wire::encode(&answer));
                }
                worker::Query::ProxyHandshakeComplete(worker::ProxyHandshakeComplete { is_disabled }) => {
                    link.handshake_complete();
                    query.responder.answer(wire::encode(&worker::ProxyHandshakeCompleted {}));
                    let deployment = deployment.unwrap();
                    return Worker {
                        link,
                        events,
                        model,
                        coefficient,
                        proxy_cnt: deployment.proxy_cnt,
                        max_active_requests: deployment.max_active_requests,
                        is_disabled,
                        remembered: remembered.unwrap(),
                        status: (0, 0),
                        key: self.key.clone(),
                        contract: contract.unwrap(),
                    };
                }
                worker::Query::UpdatePaymentStatus(_) => panic!("asked before the handshake was complete"),
            }
        }
    }

    fn connected(&self, worker_owner: &Address) -> (Bytes, Address) {
        let key = self.public_key();
        let contract = contracts::proxy_address(&self.root, &OWNER, &key, &ROOT);
        let worker_contract = contracts::worker_address(&self.root, worker_owner, &contract, &key);
        let texts = [OWNER, contract, worker_contract].map(|address| address.to_wire_text(false));
        let answer = wire::encode(&worker::ConnectedToProxy {
            params: proxy::Params {
                proxy_public_key: *key.as_bytes(),
                proxy_owner_address: texts[0].as_str().into(),
                proxy_sc_address: texts[1].as_str().into(),
                is_test: Some(true),
                proto_version: (self.protocol > 0).then_some(self.protocol),
            },
            worker_sc_address: texts[2].as_str().into(),
        });
        (answer, worker_contract)
    }
}

fn sign(key: &SigningKey, contract: &Address, tokens: u64) -> Vec<u8> {
    payment::sign(key, PaymentKind::WorkerPayout, 7, AdjustedTokens::new(tokens), contract, &OWNER)
}

/// A request as the proxy hands it on.
pub struct Ask<'a> {
    pub id: u8,
    pub path: &'a str,
    pub body: &'a str,
    pub coefficient: i64,
    pub timeout: f64,
    pub enable_debug: bool,
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Self {
            id: 1,
            path: "/v1/chat/completions",
            body: r#"{"model":"test/model","messages":[]}"#,
            coefficient: 1500,
            timeout: 100.0,
            enable_debug: false,
        }
    }
}

impl Worker {
    pub fn ask(&self, ask: &Ask<'_>) {
        let header = |name: &'static str, value: &'static str| wire::http::Header {
            name: name.into(),
            value: value.into(),
        };
        let request = wire::encode(&wire::http::Request {
            method: "POST".into(),
            url: ask.path.into(),
            http_version: "HTTP/1.1".into(),
            headers: vec![header("Authorization", "Bearer secret"), header("X-Trace", "t1")],
            payload: ask.body.as_bytes(),
        });
        self.ask_raw(ask, &request);
    }

    /// As [`Self::ask`], with other bytes in place of the HTTP request.
    pub fn ask_raw(&self, ask: &Ask<'_>, query: &[u8]) {
        let message = wire::encode(&proxy::RunQueryEx {
            query,
            signed_payment: proxy::SignedPayment::Empty,
            coefficient: ask.coefficient,
            timeout: ask.timeout,
            request_id: [ask.id; 32],
            enable_debug: Some(ask.enable_debug),
        });
        self.link.try_send(message).unwrap();
    }

    /// Wants no more of an answer.
    pub fn cancel(&self, id: u8) {
        self.link.try_send(wire::encode(&stream::Cancel { request_id: [id; 32] })).unwrap();
    }

    /// As [`Self::ask`], in parts: the first `first_len` bytes of a query that is said to have `query_len`. Returns
    /// the rest.
    pub fn begin(&self, ask: &Ask<'_>, first_len: usize, extra_len: i32) -> Bytes {
        let mut query = wire::encode(&wire::http::Request {
            method: "POST".into(),
            url: ask.path.into(),
            http_version: "HTTP/1.1".into(),
            headers: vec![],
            payload: ask.body.as_bytes(),
        });
        let query_len = i32::try_from(query.len()).unwrap() + extra_len;
        let rest = query.split_off(first_len);
        let run = wire::encode(&proxy::RunQueryEx {
            query: &query,
            signed_payment: proxy::SignedPayment::Empty,
            coefficient: ask.coefficient,
            timeout: ask.timeout,
            request_id: [ask.id; 32],
            enable_debug: Some(ask.enable_debug),
        });
        self.link.try_send(wire::encode(&stream::Begin { query_len, run: &run })).unwrap();
        rest
    }

    /// The next part of a query.
    pub fn part(&self, id: u8, data: &[u8], is_last: bool) {
        self.link.try_send(wire::encode(&stream::BodyPart { request_id: [id; 32], data, is_last })).unwrap();
    }

    /// Takes `len` more of an answer.
    pub fn credit(&self, id: u8, len: u32) {
        let credit = stream::Credit { request_id: [id; 32], len: len.cast_signed() };
        self.link.try_send(wire::encode(&credit)).unwrap();
    }

    /// Settles a request: `signed`, `stored` and `earned` so far.
    pub fn settle(&self, signed: u64, stored: i64, earned: i64) {
        let boc = sign(&self.key, &self.contract, signed);
        let message = wire::encode(&proxy::WorkerRequestPayment {
            request_id: [1; 32],
            signed_payment: proxy::SignedPayment::Payment { data: &boc },
            db_tokens: stored,
            max_tokens: earned,
            request_tokens: 0,
            request_client_owner: "".into(),
        });
        self.link.try_send(message).unwrap();
    }

    pub async fn next(&mut self) -> Said {
        match self.events.next().await {
            Some(LinkEvent::Packet(message)) => said(wire::decode(&message).unwrap()),
            Some(LinkEvent::Query(query)) => match wire::decode(&query.message).unwrap() {
                worker::Query::UpdatePaymentStatus(_) => {
                    let boc = sign(&self.key, &self.contract, 0);
                    query.responder.answer(wire::encode(&worker::PaymentStatus {
                        signed_payment: proxy::SignedPayment::Payment { data: &boc },
                        db_tokens: self.status.0,
                        max_tokens: self.status.1,
                    }));
                    Said::PaymentPoll
                }
                other => {
                    query.responder.refuse(StatusCode::PROTOCOL_VIOLATION, "not now");
                    panic!("the worker asked {other:?}")
                }
            },
            Some(LinkEvent::Closed(reason)) => {
                assert!(matches!(reason, CloseReason::Peer), "{reason:?}");
                Said::Closed
            }
            None => panic!("nothing follows the end"),
        }
    }

    /// The next answer; passes over announcements, polls and costs so far.
    pub async fn next_answer(&mut self) -> Said {
        loop {
            match self.next().await {
                Said::Disabled(_) | Said::Coefficient(_) | Said::PaymentPoll | Said::Usage { .. } => {}
                answer => return answer,
            }
        }
    }

    /// Everything that answers the one request under way: status, headers, body, and the end.
    pub async fn whole_answer(&mut self) -> (i32, Vec<(String, String)>, String, End) {
        let (status, headers, mut end) = match self.next_answer().await {
            Said::Head { status, headers, end, .. } => (status, headers, end),
            other => panic!("expected a head, found {other:?}"),
        };
        let mut whole = String::new();
        while end.is_none() {
            match self.next_answer().await {
                Said::Part { body, end: found, .. } => {
                    whole.push_str(&body);
                    end = found;
                }
                other => panic!("expected a part, found {other:?}"),
            }
        }
        (status, headers, whole, end.unwrap())
    }
}

fn said(message: ToProxy<'_>) -> Said {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    match message {
        ToProxy::QueryAnswer(it) => head(it.request_id, it.answer, ended(it.is_completed, &it.tokens_used)),
        ToProxy::QueryAnswerEx(it) => head(it.request_id, it.answer, it.final_info.map(final_info)),
        ToProxy::QueryAnswerPart(it) => Said::Part {
            id: it.request_id[0],
            body: text(it.answer),
            end: ended(it.is_completed, &it.tokens_used),
        },
        ToProxy::QueryAnswerPartEx(it) => {
            Said::Part { id: it.request_id[0], body: text(it.answer), end: it.final_info.map(final_info) }
        }
        ToProxy::QueryAnswerError(it) => Said::Error {
            id: it.request_id[0],
            code: it.error_code,
            message: it.error.to_string_lossy().into_owned(),
            end: ended(true, &it.tokens_used).unwrap(),
        },
        ToProxy::QueryAnswerPartError(it) => Said::Error {
            id: it.request_id[0],
            code: it.error_code,
            message: it.error.to_string_lossy().into_owned(),
            end: ended(true, &it.tokens_used).unwrap(),
        },
        ToProxy::QueryAnswerErrorEx(it) => Said::Error {
            id: it.request_id[0],
            code: it.error_code,
            message: it.error.to_string_lossy().into_owned(),
            end: final_info(it.final_info.expect("deployed proxies stop working without it")),
        },
        ToProxy::EnabledDisabled(it) => Said::Disabled(it.disabled == 1),
        ToProxy::NewCoefficient(it) => Said::Coefficient(it.new_coefficient),
        ToProxy::Usage(it) => Said::Usage { id: it.request_id[0], tokens: tokens(&it.tokens_used) },
        ToProxy::Credit(it) => Said::Credit { id: it.request_id[0], len: it.len },
        ours => panic!("the link speaks a deployed version, the worker said {ours:?}"),
    }
}

fn head(id: [u8; 32], response: &[u8], end: Option<End>) -> Said {
    let response: wire::http::Response<'_> = wire::decode(response).unwrap();
    assert!(response.payload.is_empty());
    let text = |it: wire::TlStr<'_>| it.to_str().unwrap().to_owned();
    let headers = response.headers.iter().map(|line| (text(line.name), text(line.value))).collect();
    Said::Head { id: id[0], status: response.status_code, headers, end }
}

fn tokens(used: &wire::TokensUsed) -> [i64; 5] {
    [
        used.prompt_tokens_used,
        used.cached_tokens_used,
        used.completion_tokens_used,
        used.reasoning_tokens_used,
        used.total_tokens_used,
    ]
}

fn ended(is_completed: bool, used: &wire::TokensUsed) -> Option<End> {
    assert!(is_completed || tokens(used) == [0; 5]);
    is_completed.then(|| End { tokens: tokens(used), debug: None, has_times: false })
}

fn final_info(info: proxy::QueryFinalInfo<'_>) -> End {
    End {
        tokens: tokens(&info.tokens_used),
        debug: info.worker_debug.map(|text| text.to_str().unwrap().to_owned()),
        has_times: info.times.is_some(),
    }
}
