//! A proxy whose clients pay on a devnet, over real sockets: from a client's wallet to the owner of a worker.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use attest::{Allowed, PlatformId, Policy};
use cocoon_proxy::{Config, Proxy, start};
use devnet::{Devnet, ExternalMessage, Genesis, NetworkConfig, Node, Pace};
use ed25519_dalek::SigningKey;
use evidence::Simulated;
use node::{ChainConfig, EvidenceConfig, SimulatedConfig};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sim::{Firmware, Guest, Publication, Vendor};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};
use ton::contracts::{self, StateInit};
use ton::message::{InternalMessage, SendMode, external};
use ton::messages::{ClientMessage, Notice, RootMessage};
use ton::states::{ClientData, ContractState, ProxyData, WalletData};
use ton::wallet::WalletOrder;
use ton::{Address, Contract, ContractCode, RootConfig, Seconds, model_hash};
use transport::identity::IdentitySource;
use transport::{ConnectConfig, Via, connect};
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, CellBuilder};
use tycho_types::models::{AccountState, IntAddr, MsgInfo, OwnedMessage, Transaction};
use units::{ConfigVersion, LogicalTime, ModelName, NanoTon, PublicKey};
use wire::{client, worker};

use crate::peers::{MODEL, Peer, http_exchange, owner};

const TON: u64 = 1_000_000_000;
/// Of a token, so that a few answers cost a charge.
const PRICE: u64 = 100_000;
/// Seconds, which pass: nobody can hurry the clock that a node wallet compares with the chain's.
const PROXY_DELAY: u32 = 8;
const CLIENT_DELAY: u32 = 20;
const SECRET: &[u8] = b"of the client";
const WORKER: u8 = 60;
/// The wallet that owns the proxy contract.
const PROXY_OWNER: u8 = 70;

fn tons(tons: u64) -> NanoTon {
    NanoTon::new(tons * TON)
}

/// A node wallet in a test's hands.
struct Purse {
    key: SigningKey,
    init: StateInit,
    address: Address,
}

impl Purse {
    async fn new(node: &Node, number: u8) -> Self {
        let key = SigningKey::from_bytes(&[number; 32]);
        let public = PublicKey::new(key.verifying_key().to_bytes());
        let init = contracts::wallet_init(&ContractCode::built(Contract::Wallet), &public, &owner(number));
        let purse = Self { key, address: init.address(), init };
        node.give(&purse.address, tons(100)).unwrap();
        until("a gift arrives", async || balance(node, &purse.address) > 0).await;
        purse
    }

    async fn send(
        &self,
        node: &Node,
        to: Address,
        value: NanoTon,
        init: Option<StateInit>,
        body: Option<Cell>,
    ) {
        let message = InternalMessage { to, value, bounce: init.is_none(), state_init: init, body };
        let seqno = || data(node, &self.address).map(|data| WalletData::from_cell(&data).unwrap().seqno);
        let before = seqno();
        let valid_until = node.look(|chain, now| chain.time(now)).as_secs() + 60;
        let valid_until = u32::try_from(valid_until).unwrap();
        let messages = vec![(SendMode::PLAIN, message.to_cell())];
        let order = WalletOrder::new(valid_until, before.unwrap_or(0), messages).unwrap();
        let first = before.is_none().then_some(&self.init);
        let message = external(&self.address, first, &order.sign(&self.key));
        node.submit(ExternalMessage::from_cell(message).unwrap()).unwrap();
        until("a wallet sends", async || seqno() > before).await;
    }
}

/// Asks until it is so; only a hanging test gives up.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..1200 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

fn data(node: &Node, address: &Address) -> Option<Cell> {
    node.look(|chain, _| {
        let account = chain.account(address)?.load_account().unwrap()?;
        match account.state {
            AccountState::Active(state) => state.data,
            AccountState::Uninit | AccountState::Frozen(_) => None,
        }
    })
}

fn balance(node: &Node, address: &Address) -> u128 {
    node.look(|chain, _| {
        let account = chain.account(address).and_then(|account| account.load_account().unwrap());
        account.map_or(0, |account| account.balance.tokens.into_inner())
    })
}

/// The sum of all payouts that an account got from another.
fn paid_out(node: &Node, to: &Address, from: &Address) -> u64 {
    let cells: Vec<_> = node.look(|chain, _| {
        let transactions = chain.transactions(to, None, LogicalTime::new(0), usize::MAX);
        transactions.iter().map(|transaction| transaction.cell.clone()).collect()
    });
    let payout = |cell: &Cell| {
        let transaction: Transaction = cell.parse().unwrap();
        let message: OwnedMessage = transaction.in_msg?.parse().unwrap();
        let MsgInfo::Int(info) = &message.info else { return None };
        let IntAddr::Std(source) = &info.src else { return None };
        let body = CellBuilder::build_from(message.body.0.apply(&message.body.1).unwrap()).unwrap();
        let is_payout = matches!(Notice::from_cell(&body), Ok(Notice::Payout { .. }));
        (is_payout && source.address.0 == *from.hash())
            .then(|| u64::try_from(info.value.tokens.into_inner()).unwrap())
    };
    cells.iter().filter_map(payout).sum()
}

/// A devnet with a root contract, its HTTP face, and a proxy's configuration for it.
struct World {
    node: Node,
    folder: TempDir,
    config: Config,
    root: RootConfig,
    admin: Purse,
    client: Purse,
    _stop: DropGuard,
}

impl World {
    async fn new() -> Self {
        Self::with(|_root| {}).await
    }

    /// A network whose root contract says more.
    async fn with(change: impl FnOnce(&mut RootConfig)) -> Self {
        let clock = transport::clock::unix_now;
        let pace = Pace::Every(Duration::from_millis(50));
        let genesis = Genesis { config: NetworkConfig::mainnet(), seed: [7; 32], start: clock(), pace };
        let node = Node::new(Devnet::new(genesis), clock);
        let stop = CancellationToken::new();
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let routes = devnet::http::router(node.clone());
        tokio::spawn(
            stop.clone().run_until_cancelled_owned(async move { axum::serve(listener, routes).await }),
        );
        let (running, until_stop) = (node.clone(), stop.clone());
        tokio::spawn(async move { running.run(until_stop).await });

        let admin = Purse::new(&node, 80).await;
        let mut root = RootConfig::pseudo(admin.address);
        root.version = ConfigVersion::new(3);
        let params = &mut root.params;
        params.price_per_token = NanoTon::new(PRICE);
        params.worker_fee_per_token = NanoTon::new(PRICE / 2);
        params.client_delay_before_close = Seconds::new(CLIENT_DELAY);
        params.proxy_delay_before_close = Seconds::new(PROXY_DELAY);
        params.use_built_codes();
        change(&mut root);
        let init = root.init(ContractCode::built(Contract::Root));
        let root_address = init.address();
        admin.send(&node, root_address, tons(1), Some(init), None).await;
        until("the root contract is there", async || data(&node, &root_address).is_some()).await;
        let client = Purse::new(&node, 50).await;

        let folder = tempfile::tempdir().unwrap();
        let free_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = Config {
            http: free_port,
            workers: free_port,
            clients: free_port,
            pow_difficulty: 4,
            root_address: root_address.to_string(),
            owner_address: owner(PROXY_OWNER).to_string(),
            state: folder.path().join("state"),
            payout_at_nanotons: NanoTon::new(TON / 5),
            chain: Some(ChainConfig { endpoint, ..ChainConfig::default() }),
            ..Config::default()
        };
        Self { node, folder, config, root, admin, client, _stop: stop.drop_guard() }
    }

    /// A proxy whose wallet has money, once it serves.
    async fn proxy(&self) -> Proxy {
        let proxy = start(self.config.clone()).await.unwrap();
        let wallet = stats(&proxy).await["wallet"]["address"].as_str().unwrap().to_owned();
        let (wallet, _) = Address::parse(&wallet).unwrap();
        if balance(&self.node, &wallet) == 0 {
            self.node.give(&wallet, tons(20)).unwrap();
        }
        until("the proxy is ready", async || proxy.missing() == ["no enabled worker is connected"]).await;
        proxy
    }

    fn machine_key(&self) -> PublicKey {
        let text = std::fs::read_to_string(self.folder.path().join("state/machine.key")).unwrap();
        let seed: [u8; 32] = hex::decode(text.trim()).unwrap().try_into().unwrap();
        PublicKey::new(SigningKey::from_bytes(&seed).verifying_key().to_bytes())
    }

    fn proxy_contract(&self) -> Address {
        let (root_address, _) = Address::parse(&self.config.root_address).unwrap();
        contracts::proxy_address(&self.root, &owner(PROXY_OWNER), &self.machine_key(), &root_address)
    }

    fn client_init(&self) -> StateInit {
        let proxy = self.proxy_contract();
        contracts::client_init(&self.root, &self.client.address, &proxy, &self.machine_key())
    }

    fn client_data(&self) -> Option<ClientData> {
        data(&self.node, &self.client_init().address()).map(|data| ClientData::from_cell(&data).unwrap())
    }

    async fn pay_in(&self, amount: NanoTon) {
        let init = self.client_init();
        let body = ClientMessage::ChangeSecretAndTopUp {
            query_id: 1,
            amount,
            secret_hash: Sha256::digest(SECRET).into(),
            excess: self.client.address,
        };
        let value = amount.checked_add(tons(1)).unwrap();
        let to = init.address();
        self.client.send(&self.node, to, value, Some(init), Some(body.to_cell())).await;
        let is_there = || self.client_data().is_some_and(|data| data.unconfirmed == NanoTon::ZERO);
        until("the deposit is confirmed", async || is_there()).await;
    }

    /// A client after its handshake, with the secret that the chain has the hash of.
    async fn connect(&self, proxy: &Proxy) -> Peer {
        let text = self.client.address.to_wire_text(false);
        let mut connected = None;
        // The proxy may hear of the deposit a moment later.
        until("the client is known", async || {
            let peer = Peer::connect(proxy.clients_address()).await;
            let proto_range = Some(client::ProtoRange { min_proto_version: 1, max_proto_version: 2 });
            let params = client::Params {
                client_owner_address: text.as_str().into(),
                is_test: Some(true),
                proto_range,
            };
            let answer = peer.ask(&client::ConnectToProxy { params, min_config_version: 3 }).await;
            let answer: client::ConnectedToProxy<'_> = wire::decode(&answer).unwrap();
            let is_known = matches!(answer.auth, client::ProxyConnectionAuth::Short { .. });
            connected = is_known.then_some(peer);
            is_known
        })
        .await;
        let peer = connected.unwrap();
        peer.ask(&client::AuthorizeWithProxyShort { data: SECRET }).await;
        peer
    }
}

async fn stats(proxy: &Proxy) -> Value {
    let (_, body) = http_exchange(proxy.http_address(), "GET /jsonstats", None).await;
    serde_json::from_str(&body).unwrap()
}

/// Requests that cost 900 tokens each.
async fn work(client: &mut Peer, worker: &mut Peer, requests: std::ops::Range<u8>) {
    for number in requests {
        client.run_query(number, 10.0).await;
        let request = worker.next_request().await;
        worker.answer_head(request).await;
        worker.answer_part(request, b"x", Some(900)).await;
        assert_eq!(client.next_answer().await.0, Some(200));
        assert!(client.next_answer().await.2, "the last part");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_token_is_paid_for_and_new_prices_close_the_old_contract() {
    let mut world = World::new().await;
    let proxy = world.proxy().await;
    world.pay_in(tons(5)).await;
    let mut client = world.connect(&proxy).await;
    let peers = crate::peers::World { proxy, folder: tempfile::tempdir().unwrap() };
    let mut worker = peers.worker(WORKER).await;
    let contract = world.proxy_contract();

    // Six requests cost more than half of the stake, and earn more than a payout.
    work(&mut client, &mut worker, 1..7).await;
    let charged = || world.client_data().map(|data| (data.tokens_used.get(), data.balance.get()));
    until("the client is charged", async || charged().is_some_and(|(tokens, _)| tokens >= 5000)).await;
    let (tokens, left) = charged().unwrap();
    assert_eq!(left, 5 * TON - tokens * PRICE);
    let worker_owner = owner(WORKER);
    until("the worker is paid", async || paid_out(&world.node, &worker_owner, &contract) > 0).await;
    drop((client, worker));

    // The process ends and goes on with the same books.
    peers.proxy.shutdown().await;
    let proxy = world.proxy().await;
    let mut client = world.connect(&proxy).await;
    let peers = crate::peers::World { proxy, folder: tempfile::tempdir().unwrap() };
    let mut worker = peers.worker(WORKER).await;
    work(&mut client, &mut worker, 7..9).await;
    let used = 8 * 900;

    // New prices: another contract, and the one before is closed beside it.
    let prices = RootMessage::SetPrices {
        query_id: 1,
        price_per_token: NanoTon::new(2 * PRICE),
        worker_fee_per_token: NanoTon::new(PRICE),
    };
    let (root_address, _) = Address::parse(&world.config.root_address).unwrap();
    world.admin.send(&world.node, root_address, tons(1), None, Some(prices.to_cell())).await;
    // Its delay is real seconds, so this comes before all that takes its time.
    let text = contract.to_wire_text(false);
    until("the old contract is shown", async || {
        stats(&peers.proxy).await["old_instances"][0]["sc_address"] == text.as_str()
    })
    .await;
    let client_of_old = world.client.address;
    until("the client got the rest", async || {
        paid_out(&world.node, &client_of_old, &contract) == 5 * TON - used * PRICE
    })
    .await;
    until("the worker got the rest", async || {
        paid_out(&world.node, &worker_owner, &contract) == used * PRICE / 2
    })
    .await;
    until("the new contract serves", async || peers.proxy.missing() == ["no enabled worker is connected"])
        .await;

    // Clients pay in there while the delay of the old one runs.
    world.root.params.price_per_token = NanoTon::new(2 * PRICE);
    world.root.params.worker_fee_per_token = NanoTon::new(PRICE);
    world.root.params.params_version += 1;
    assert_ne!(world.proxy_contract(), contract);
    world.pay_in(tons(2)).await;
    let _client = world.connect(&peers.proxy).await;
    let closed = || data(&world.node, &contract).map(|data| ProxyData::from_cell(&data).unwrap().state);
    until("the old contract is closed", async || closed() == Some(ContractState::Closed)).await;
    until("it is forgotten", async || stats(&peers.proxy).await["old_instances"] == serde_json::json!([]))
        .await;
    // The stake and the fees, and what was left of gas.
    let of_owner = paid_out(&world.node, &owner(PROXY_OWNER), &contract);
    assert!(of_owner > TON + used * PRICE / 2, "{of_owner}");
    peers.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_settles_and_closes() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    world.pay_in(tons(5)).await;
    let mut client = world.connect(&proxy).await;
    let peers = crate::peers::World { proxy, folder: tempfile::tempdir().unwrap() };
    let mut worker = peers.worker(WORKER).await;
    work(&mut client, &mut worker, 1..2).await;
    let token = std::fs::read_to_string(world.folder.path().join("state/admin.token")).unwrap();
    let token = Some(token.trim());
    let post = async |path: &str, token| {
        http_exchange(peers.proxy.http_address(), &format!("POST /request/{path}"), token).await
    };
    assert_eq!(post("charge", None).await.0, 401);
    for mistyped in
        ["charge?client=nobody", "charge?clent=x", "charge?worker=x", "payout?client=x", "close?now=1"]
    {
        assert_eq!(post(mistyped, token).await.0, 400, "{mistyped}");
    }
    assert_eq!(post("charge", token).await.0, 200);
    until("charged", async || world.client_data().is_some_and(|data| data.tokens_used.get() == 900)).await;
    let contract = world.proxy_contract();
    assert_eq!(post(&format!("payout?worker={}", owner(WORKER)), token).await.0, 200);
    until("paid out", async || paid_out(&world.node, &owner(WORKER), &contract) == 900 * PRICE / 2).await;
    assert_eq!(post("withdraw", token).await.0, 200);
    until("withdrawn", async || paid_out(&world.node, &owner(PROXY_OWNER), &contract) == 900 * PRICE / 2)
        .await;
    assert_eq!(post("close", token).await.0, 200);
    until("paid back", async || {
        paid_out(&world.node, &world.client.address, &contract) == 5 * TON - 900 * PRICE
    })
    .await;
    assert!(peers.proxy.missing()[0].contains("closes"), "{:?}", peers.proxy.missing());
    peers.proxy.shutdown().await;
}

/// A server that is behind tells of the params before: the contract at work is not the one that was left.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_behind_closes_nothing() {
    let mut world = World::new().await;
    world.proxy().await.shutdown().await;
    let config = world.config.clone();
    world.root.params.params_version += 1;
    world.root.version = ConfigVersion::new(4);
    let folder = hex::encode(world.proxy_contract().hash());
    let folder = world.folder.path().join("state/books").join(folder);
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("root.boc"), Boc::encode(world.root.to_data())).unwrap();
    let error = start(config).await.unwrap_err();
    assert!(error.to_string().contains("the server is behind"), "{error}");
}

/// With another owner another contract follows from the params that are kept.
#[tokio::test(flavor = "multi_thread")]
async fn another_owner_closes_nothing_of_the_one_before() {
    let mut world = World::new().await;
    world.proxy().await.shutdown().await;
    let before = world.proxy_contract();
    std::fs::remove_file(world.folder.path().join("state/orders.json")).unwrap();
    world.config.owner_address = owner(PROXY_OWNER + 1).to_string();
    let proxy = world.proxy().await;
    assert_eq!(stats(&proxy).await["old_instances"], serde_json::json!([]));
    let state = data(&world.node, &before).map(|data| ProxyData::from_cell(&data).unwrap().state);
    assert_eq!(state, Some(ContractState::Normal));
    proxy.shutdown().await;
}

/// The section `evidence` of a proxy that asks for it, and what a worker of an image shows, on simulated platforms.
fn simulated(folder: &Path, image: &str) -> (EvidenceConfig, ConnectConfig) {
    let vendor = Vendor::from_seed(&[3; 32]).unwrap();
    let root = folder.join("root.der");
    std::fs::write(&root, vendor.root_der()).unwrap();
    let collateral = vendor.collateral(&Publication::at(transport::clock::unix_now())).unwrap();
    std::fs::write(folder.join(format!("{}.json", Vendor::COLLATERAL_KIND)), collateral).unwrap();
    let platform = vendor.platform(PlatformId::new([1; 16]), Firmware::Current).unwrap();
    let identity = IdentitySource::attested(Arc::new(Simulated::new(platform, Guest::of_image(image))));
    let config = EvidenceConfig {
        policy: Some(Policy::for_images(Allowed::default())),
        collateral: folder.into(),
        simulated: Some(SimulatedConfig { root, ..SimulatedConfig::default() }),
        ..EvidenceConfig::default()
    };
    let via = Via::Direct { identity, appraiser: None };
    (config, ConnectConfig { via, ..ConnectConfig::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_image_leaves_the_root_contract_while_it_serves_gets_no_more() {
    let image = Guest::of_image("worker").image_hash();
    let mut world = World::with(|root| {
        root.worker_hashes.insert(image);
        root.model_hashes.insert(model_hash(&ModelName::new(MODEL).unwrap()));
    })
    .await;
    let (evidence, shown) = simulated(world.folder.path(), "worker");
    (world.config.evidence, world.config.check_worker_hashes) = (Some(evidence), true);
    let proxy = world.proxy().await;
    world.pay_in(tons(5)).await;
    let mut client = world.connect(&proxy).await;
    let peers = crate::peers::World { proxy, folder: tempfile::tempdir().unwrap() };
    let mut worker = peers.worker_with(WORKER, &shown).await;
    work(&mut client, &mut worker, 1..2).await;
    assert_eq!(stats(&peers.proxy).await["worker_connections"][0]["worker_hash"], image.to_string());

    // One that shows nothing, and one of another image, never come so far.
    let nothing = connect(&peers.proxy.workers_address().to_string(), &ConnectConfig::default()).await;
    assert!(nothing.is_err(), "evidence is asked for");
    let (_, other) = simulated(world.folder.path(), "another worker");
    let other = Peer::connect_with(peers.proxy.workers_address(), &other).await;
    let refusal = other.refusal(WORKER + 1).await;
    assert!(refusal.contains("not in the root contract"), "{refusal}");

    let removal = RootMessage::DeleteWorkerImage { query_id: 1, hash: image };
    let (root_address, _) = Address::parse(&world.config.root_address).unwrap();
    world.admin.send(&world.node, root_address, tons(1), None, Some(removal.to_cell())).await;
    // The proxy hangs up; what it had signed comes before.
    while let Some(message) = worker.next().await {
        let message = wire::decode(&message).unwrap();
        assert!(!matches!(message, worker::FromProxy::RunQueryEx(_)), "nothing is asked any more");
    }
    client.run_query(2, 10.0).await;
    assert_ne!(client.next_answer().await.0, Some(200), "nobody is left to ask");
    let again = Peer::connect_with(peers.proxy.workers_address(), &shown).await;
    let refusal = again.refusal(WORKER).await;
    assert!(refusal.contains("not in the root contract"), "{refusal}");
    peers.proxy.shutdown().await;
}
