//! A core with its surroundings: peers are functions, time moves by hand.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cocoon_proxy::core::{
    Action, Core, Limits, LinkId, Now, Outcome, PeerFacts, QueryToken, Report, Snapshot, Terms,
};
use cocoon_proxy::settlement;
use ed25519_dalek::SigningKey;
use ton::payment::{self, PaymentKind};
use ton::{Address, RootConfig};
use units::{ConfigVersion, NanoTon, PublicKey};
use wire::proxy::SignedPayment;
use wire::{Encode, TokensUsed, client, http, peer, proxy, worker};

/// The model that every worker here serves.
pub(crate) const MODEL: &str = "Qwen/Qwen3-8B";
pub(crate) const FULL_MODEL: &str = "Qwen/Qwen3-8B@commit:hash";
/// Version of the root configuration.
pub(crate) const CONFIG_VERSION: i32 = 3;

pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) now: Now,
    pub(crate) reports: Vec<Report>,
    pub(crate) vouched: Vec<LinkId>,
    /// What every link is said to have queued.
    pub(crate) queued_len: usize,
    /// How many requests a worker runs at once.
    pub(crate) places: i32,
    /// Links whose room the core waits for.
    pub(crate) awaited: Vec<LinkId>,
    /// What the settlement wants done.
    pub(crate) settling: Vec<settlement::Action>,
    /// Whether everything is durable at once; otherwise when the test says [`World::commit`].
    pub(crate) is_disk_fast: bool,
    closed: HashMap<LinkId, &'static str>,
    sent: HashMap<LinkId, VecDeque<Bytes>>,
    answers: HashMap<QueryToken, Result<Bytes, (i32, String)>>,
    next_link: u64,
    next_query: u64,
}

pub(crate) fn owner(number: u8) -> Address {
    Address::new(0, [number; 32])
}

pub(crate) fn root() -> RootConfig {
    let mut root = RootConfig::pseudo(owner(1));
    root.version = ConfigVersion::new(3);
    root.params.price_per_token = NanoTon::new(2);
    root.params.worker_fee_per_token = NanoTon::new(1);
    root
}

pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub(crate) fn terms(root: RootConfig, check_worker_hashes: bool) -> Terms {
    Terms::new(root, &owner(2), &owner(3), owner(4), key(), false, check_worker_hashes)
        .expect("the prices are sound")
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(terms(root(), false), Limits::default())
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    pub(crate) fn with(terms: Terms, limits: Limits) -> Self {
        let now = Now { instant: Instant::now(), unix: Duration::from_millis(1_795_265_005_500) };
        Self {
            core: Core::new(terms, limits, [9; 32]),
            now,
            reports: Vec::new(),
            vouched: Vec::new(),
            queued_len: 0,
            places: 60,
            awaited: Vec::new(),
            settling: Vec::new(),
            is_disk_fast: true,
            closed: HashMap::new(),
            sent: HashMap::new(),
            answers: HashMap::new(),
            next_link: 0,
            next_query: 0,
        }
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now = Now { instant: self.now.instant + time, unix: self.now.unix + time };
        if self.core.poll_timeout().is_some_and(|deadline| deadline <= self.now.instant) {
            self.core.handle_timeout(self.now);
        }
        self.collect();
    }

    fn number_link(&mut self) -> LinkId {
        self.next_link += 1;
        LinkId(self.next_link)
    }

    pub(crate) fn open_client(&mut self) -> LinkId {
        let link = self.number_link();
        self.core.client_opened(link, self.now);
        link
    }

    pub(crate) fn open_worker(&mut self, facts: PeerFacts) -> LinkId {
        let link = self.number_link();
        self.core.worker_opened(link, facts, self.now);
        link
    }

    pub(crate) fn lose(&mut self, link: LinkId) {
        self.core.closed(link, self.now);
        self.collect();
    }

    pub(crate) fn query(&mut self, link: LinkId, query: &impl Encode) -> Result<Bytes, (i32, String)> {
        self.query_bytes(link, &wire::encode(query))
    }

    pub(crate) fn query_bytes(&mut self, link: LinkId, query: &[u8]) -> Result<Bytes, (i32, String)> {
        self.next_query += 1;
        let token = QueryToken(self.next_query);
        self.core.query(link, token, query, self.now);
        self.collect();
        self.answers.remove(&token).expect("every query is answered at once")
    }

    /// Sends a query whose answer may have to wait.
    pub(crate) fn ask(&mut self, link: LinkId, query: &impl Encode) -> QueryToken {
        self.next_query += 1;
        let token = QueryToken(self.next_query);
        self.core.query(link, token, &wire::encode(query), self.now);
        self.collect();
        token
    }

    pub(crate) fn take_answer(&mut self, query: QueryToken) -> Option<Result<Bytes, (i32, String)>> {
        self.answers.remove(&query)
    }

    pub(crate) fn packet(&mut self, link: LinkId, packet: &impl Encode) {
        self.packet_bytes(link, &wire::encode(packet));
    }

    pub(crate) fn packet_bytes(&mut self, link: LinkId, packet: &[u8]) {
        self.core.packet(link, &Bytes::copy_from_slice(packet), self.now);
        self.collect();
    }

    /// The next message that the core sent on a link.
    pub(crate) fn next_sent(&mut self, link: LinkId) -> Option<Bytes> {
        self.sent.entry(link).or_default().pop_front()
    }

    pub(crate) fn closed(&self, link: LinkId) -> Option<&'static str> {
        self.closed.get(&link).copied()
    }

    pub(crate) fn last_outcome(&self) -> Option<(Outcome, i32)> {
        self.reports.last().map(|report| (report.outcome, report.code))
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.core.snapshot(usize::MAX)
    }

    /// Available and reserved tokens of the one client.
    pub(crate) fn client_tokens(&self) -> (u64, u64, u64) {
        let limits = self.snapshot().clients[0].limits;
        (limits.used.get(), limits.reserved.get(), limits.available.get())
    }

    pub(crate) fn collect(&mut self) {
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Answer { query, message } => {
                    assert!(self.answers.insert(query, Ok(message)).is_none(), "answered twice");
                }
                Action::Refuse { query, code, message } => {
                    let refusal = Err((code.code(), message.into_owned()));
                    assert!(self.answers.insert(query, refusal).is_none(), "answered twice");
                }
                Action::Send { link, message, .. } => {
                    assert!(!self.closed.contains_key(&link), "sent on a closed link");
                    self.sent.entry(link).or_default().push_back(message.into_bytes());
                }
                Action::Vouch { link } => self.vouched.push(link),
                Action::Close { link, reason, .. } => {
                    assert!(self.closed.insert(link, reason).is_none(), "closed twice");
                }
                Action::Look { link } => self.core.looked(link, self.queued_len),
                Action::AwaitRoom { link, .. } => self.awaited.push(link),
                Action::Report(report) => self.reports.push(report),
                Action::Settle(action) => self.settling.push(action),
            }
        }
        assert_eq!(self.core.audit(), Ok(()));
        if self.is_disk_fast {
            self.commit();
        }
    }

    /// Takes what the core records, as a disk that never waits.
    pub(crate) fn commit(&mut self) {
        if let Some(commit) = self.core.take_records(&mut Vec::new()) {
            self.core.committed(commit);
        }
    }

    /// A client that completed its handshake.
    pub(crate) fn client(&mut self, owner_number: u8, protocol: i32) -> LinkId {
        let link = self.open_client();
        self.query(link, &connect_client(&owner(owner_number).to_wire_text(false), protocol)).unwrap();
        self.agree(link, protocol);
        self.query(link, &client::AuthorizeWithProxyShort { data: b"" }).unwrap();
        link
    }

    /// An enabled worker.
    pub(crate) fn worker(&mut self, owner_number: u8, protocol: i32, coefficient: i32) -> LinkId {
        let link = self.open_worker(PeerFacts::default());
        let owner = owner(owner_number).to_wire_text(false);
        let deployment = worker::Deployment { is_test: true, proxy_cnt: 1, max_active_requests: self.places };
        let params =
            worker::Params { deployment: Some(deployment), ..worker_params(&owner, protocol, coefficient) };
        self.query(link, &worker::ConnectToProxy { params }).unwrap();
        self.agree(link, protocol);
        self.query(link, &compare(0, 0, 0)).unwrap();
        self.query(link, &worker::ProxyHandshakeComplete { is_disabled: false }).unwrap();
        link
    }

    /// In version 3, both say what they can do.
    fn agree(&mut self, link: LinkId, protocol: i32) {
        if protocol == 3 {
            let said = self.next_sent(link).expect("the proxy says what it can do");
            self.packet(link, &wire::decode::<peer::Capabilities>(&said).unwrap());
        }
    }

    /// The hop id of the request that the core forwarded last to a worker.
    pub(crate) fn forwarded(&mut self, worker: LinkId) -> [u8; 32] {
        self.try_forwarded(worker).expect("a request was forwarded")
    }

    /// The hop id of the next request in what the core sent to a worker.
    pub(crate) fn try_forwarded(&mut self, worker: LinkId) -> Option<[u8; 32]> {
        while let Some(message) = self.next_sent(worker) {
            match wire::decode(&message).unwrap() {
                worker::FromProxy::RunQuery(query) => return Some(query.request_id),
                worker::FromProxy::RunQueryEx(query) => return Some(query.request_id),
                _payment => {}
            }
        }
        None
    }
}

pub(crate) fn proto_range(protocol: i32) -> Option<client::ProtoRange> {
    let range = client::ProtoRange { min_proto_version: 0, max_proto_version: protocol };
    Some(range).filter(|_| protocol > 0)
}

pub(crate) fn connect_client(owner: &str, protocol: i32) -> client::ConnectToProxy<'_> {
    client::ConnectToProxy {
        params: client::Params {
            client_owner_address: owner.into(),
            is_test: Some(true),
            proto_range: proto_range(protocol),
        },
        min_config_version: CONFIG_VERSION,
    }
}

pub(crate) fn worker_params(owner: &str, protocol: i32, coefficient: i32) -> worker::Params<'_> {
    worker::Params {
        worker_owner_address: owner.into(),
        model: FULL_MODEL.into(),
        coefficient,
        deployment: Some(worker::Deployment { is_test: true, proxy_cnt: 1, max_active_requests: 60 }),
        proto_range: proto_range(protocol),
    }
}

pub(crate) fn compare(blockchain: i64, db: i64, max: i64) -> worker::CompareBalanceWithProxy {
    worker::CompareBalanceWithProxy {
        tokens_committed_to_blockchain: blockchain,
        tokens_committed_to_db: db,
        max_tokens: max,
    }
}

pub(crate) fn http_request(body: &[u8]) -> Bytes {
    wire::encode(&http::Request {
        method: "POST".into(),
        url: "/v1/chat/completions".into(),
        http_version: "HTTP/1.1".into(),
        headers: vec![],
        payload: body,
    })
}

/// A request that every check lets pass.
pub(crate) fn run_query(query: &[u8], request_number: u8) -> client::RunQueryEx<'_> {
    client::RunQueryEx {
        model_name: MODEL.into(),
        query,
        max_coefficient: 4000,
        max_tokens: 1000,
        timeout: 114.0,
        request_id: [request_number; 32],
        min_config_version: CONFIG_VERSION,
        enable_debug: Some(false),
    }
}

pub(crate) fn http_response(body: &[u8]) -> Bytes {
    wire::encode(&http::Response {
        http_version: "HTTP/1.1".into(),
        status_code: 200,
        reason: "OK".into(),
        headers: vec![http::Header { name: "Content-Type".into(), value: "application/json".into() }],
        payload: body,
    })
}

pub(crate) fn tokens(prompt: i64, cached: i64, completion: i64, reasoning: i64) -> TokensUsed {
    TokensUsed {
        prompt_tokens_used: prompt,
        cached_tokens_used: cached,
        completion_tokens_used: completion,
        reasoning_tokens_used: reasoning,
        total_tokens_used: prompt + cached + completion + reasoning,
    }
}

pub(crate) fn final_info(tokens_used: TokensUsed) -> proxy::QueryFinalInfo<'static> {
    proxy::QueryFinalInfo {
        tokens_used,
        worker_debug: None,
        times: Some(proxy::Times { worker_start_time: 1.5, worker_end_time: 2.5 }),
    }
}

/// What a payment promises, checked as its receiver would.
pub(crate) fn verified(payment: &SignedPayment<'_>, kind: PaymentKind, contract: &str) -> u64 {
    let SignedPayment::Payment { data } = payment else { panic!("no payment") };
    let (contract, _flags) = Address::parse(contract).unwrap();
    let key = PublicKey::new(key().verifying_key().to_bytes());
    payment::verify(data, kind, &contract, &key).expect("the payment is genuine").tokens().get()
}
