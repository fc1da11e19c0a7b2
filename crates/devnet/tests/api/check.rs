//! What must hold of any request to a devnet. The fuzz target `devnet_api` includes this file too.
//!
//! A request is a line `GET PATH` or `POST PATH`, and what follows the line as its body.

use std::cell::OnceCell;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, StatusCode};
use devnet::{Devnet, ExternalMessage, Genesis, NetworkConfig, Node, Pace, http};
use ed25519_dalek::SigningKey;
use serde_json::Value;
use tokio::runtime::Runtime;
use ton::contracts::{StateInit, client_init, proxy_init, wallet_init, worker_init};
use ton::human::{HumanWallet, HumanWalletVersion, Network};
use ton::message::{InternalMessage, SendMode, external};
use ton::messages::{ClientMessage, ProxyMessage};
use ton::{Contract, ContractCode, RootConfig};
use tower_service::Service as _;
use tycho_types::boc::Boc;
use tycho_types::cell::Cell;
use units::{NanoTon, PublicKey};

/// When the chain begins, and what its clock says for ever.
const START: Duration = Duration::from_secs(1_800_000_000);
/// Whoever asks is answered with no more.
const ANSWER_LEN_MAX: usize = 64 << 20;

thread_local! {
    static WORLD: OnceCell<(Runtime, Devnet)> = const { OnceCell::new() };
}

/// Checks that a request has an answer that says how it went.
pub(crate) fn check(request: &[u8]) {
    let Some((status, answer)) = ask(request) else { return };
    // The router's own refusals, of paths and methods.
    if answer.is_empty() {
        assert!(matches!(
            status,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST
        ));
        return;
    }
    let Ok(answer) = serde_json::from_slice::<Value>(&answer) else {
        // The router's words for a path that is no UTF-8.
        assert_eq!(status, StatusCode::BAD_REQUEST);
        return;
    };
    assert_eq!(answer["ok"], status.is_success(), "{status}: {answer}");
    let reason = answer["error"].as_str().unwrap_or_default();
    // As a task that panicked is told of.
    assert!(!reason.starts_with("task "), "{reason}");
}

/// Asks a devnet with all our contracts on it: always the same, whatever was asked before. None if it is no request.
pub(crate) fn ask(request: &[u8]) -> Option<(StatusCode, Bytes)> {
    let head_len = request.iter().position(|byte| *byte == b'\n').unwrap_or(request.len());
    let (head, body) = request.split_at(head_len);
    let (method, path) = str::from_utf8(head).ok()?.split_once(' ')?;
    // Other methods have no answer's body, or no route.
    if !matches!(method, "GET" | "POST") {
        return None;
    }
    let body = Body::from(body.get(1..).unwrap_or_default().to_vec());
    let request = Request::builder().method(method).uri(path).body(body).ok()?;
    WORLD.with(|world| {
        let (runtime, chain) = world.get_or_init(world_with_contracts);
        let node = Node::new(chain.clone(), || START);
        let mut routes: Router = http::router(node.clone()).merge(http::control_router(node));
        runtime.block_on(async {
            let Ok(response) = routes.call(request).await;
            let status = response.status();
            let answer = to_bytes(response.into_body(), ANSWER_LEN_MAX).await;
            Some((status, answer.expect("an answer has its bound")))
        })
    })
}

fn world_with_contracts() -> (Runtime, Devnet) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let genesis =
        Genesis { config: NetworkConfig::mainnet(), seed: [7; 32], start: START, pace: Pace::Instant };
    let mut chain = Devnet::new(genesis);
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = PublicKey::new(key.verifying_key().to_bytes());
    let person = HumanWallet::new(HumanWalletVersion::V5R1, Network::Mainnet, public);
    let owner = person.address();
    chain.give(START, &owner, NanoTon::new(1_000_000_000_000)).expect("the faucet has as much");
    let (amount, query_id, excess) = (NanoTon::new(30_000_000_000), 1, owner);
    let mut config = RootConfig::pseudo(owner);
    config.params.use_built_codes();
    let root = config.init(ContractCode::built(Contract::Root));
    let proxy = proxy_init(&config, &owner, &public, &root.address());
    let client = client_init(&config, &owner, &proxy.address(), &public);
    let worker = worker_init(&config, &owner, &proxy.address(), &public);
    let wallet = wallet_init(&ContractCode::built(Contract::Wallet), &public, &owner);
    let stake = ProxyMessage::IncreaseStake { query_id, amount, excess }.to_cell();
    let top_up = ClientMessage::TopUp { query_id, amount, excess }.to_cell();
    let deploy = |init: StateInit, body: Option<Cell>| {
        let value = NanoTon::new(31_000_000_000);
        let message =
            InternalMessage { to: init.address(), value, bounce: false, state_init: Some(init), body };
        (SendMode::FEES_APART, message.to_cell())
    };
    let messages = [
        deploy(root, None),
        deploy(proxy, Some(stake)),
        deploy(worker, None),
        deploy(client, Some(top_up)),
        deploy(wallet, None),
    ];
    let body = person.transfer(&key, 1_800_000_060, 0, &messages).expect("five messages are few");
    let message = Boc::encode(external(&owner, Some(&person.init()), &body));
    let message = ExternalMessage::from_boc(&message).expect("a message of ours");
    chain.submit(START, message).expect("the wallet has enough");
    (runtime.expect("a runtime without threads"), chain)
}
