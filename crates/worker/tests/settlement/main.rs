//! Earnings on their way from a client's deposit to the owner of a worker, through the real contracts on a devnet.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chain::outbox::{Order, OrderId};
use chain::{Limits, Provider, Runner, Wallet, newest};
use cocoon_worker::session::Accounts;
use cocoon_worker::settlement::{Cashier, Failure, Policy, Stand};
use devnet::{Devnet, Genesis, NetworkConfig, Node, Pace};
use ed25519_dalek::SigningKey;
use node::KeptPayment;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use ton::contracts::{StateInit, client_init, proxy_init, worker_init};
use ton::message::InternalMessage;
use ton::messages::{ClientMessage, ProxyMessage};
use ton::payment::{PaymentKind, SignedPayment};
use ton::{Address, Contract, ContractCode, RootConfig, StructVersion};
use tycho_types::cell::Cell;
use units::{AdjustedTokens, NanoTon, PublicKey};

const TON: u64 = 1_000_000_000;
/// Who receives the earnings. Nobody has a key for it, so nothing else touches its balance.
const OWNER: Address = Address::new(0, [3; 32]);

fn public(key: &SigningKey) -> PublicKey {
    PublicKey::new(key.verifying_key().to_bytes())
}

/// A network with a proxy that a client has paid 50 TON to, and a worker with a wallet.
struct World {
    node: Node,
    now: Arc<AtomicU64>,
    provider: Provider,
    config: RootConfig,
    proxy_key: SigningKey,
    proxy: Address,
    wallet: Wallet,
    runner: Runner,
    _stop: DropGuard,
}

impl World {
    async fn new() -> Self {
        let now = Arc::new(AtomicU64::new(1_800_000_000));
        let start = Duration::from_secs(now.load(Ordering::SeqCst));
        let config = NetworkConfig::mainnet();
        let genesis = Genesis { config, seed: Genesis::seed_of("worker"), start, pace: Pace::Instant };
        let clock = Arc::clone(&now);
        let node = Node::new(Devnet::new(genesis), move || Duration::from_secs(clock.load(Ordering::SeqCst)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(admin::serve(listener, devnet::http::router(node.clone()), stop.clone()));
        let provider = Provider::new(endpoint, Limits::default());

        let (bank_key, proxy_key) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let bank = node::wallet_state(&public(&bank_key), &OWNER);
        let mut config = RootConfig::pseudo(bank.address());
        let params = &mut config.params;
        params.struct_version = StructVersion::V3;
        (params.price_per_token, params.worker_fee_per_token) =
            (NanoTon::new(2_000_000), NanoTon::new(1_000_000));
        params.proxy_code = ContractCode::built(Contract::Proxy);
        params.client_code = ContractCode::built(Contract::Client);
        params.worker_code = ContractCode::built(Contract::Worker);
        let proxy = proxy_init(&config, &bank.address(), &public(&proxy_key), &Address::new(0, [4; 32]));
        let client = client_init(&config, &bank.address(), &proxy.address(), &public(&proxy_key));

        let worker_key = SigningKey::from_bytes(&[5; 32]);
        let worker_wallet = node::wallet_state(&public(&worker_key), &OWNER);
        for (address, tons) in [(bank.address(), 200), (worker_wallet.address(), 20)] {
            node.give(&address, NanoTon::new(tons * TON)).unwrap();
        }
        let excess = bank.address();
        let amount = |tons: u64| NanoTon::new(tons * TON);
        let stake = ProxyMessage::IncreaseStake { query_id: 1, amount: amount(1), excess };
        let top_up = ClientMessage::TopUp { query_id: 2, amount: amount(50), excess };
        let (funds, mut runner) = Wallet::open(provider.clone(), bank_key, bank, None).unwrap();
        let mut send = async |id, init: StateInit, tons, body: Cell| {
            let message = InternalMessage {
                to: init.address(),
                value: amount(tons),
                bounce: false,
                state_init: Some(init),
                body: Some(body),
            };
            funds.submit(Order { id: OrderId(id), message }).unwrap();
            for _step in 0..2 {
                runner.step(|| start).await.unwrap();
            }
            assert!(funds.outcome(OrderId(id)).unwrap().is_done());
        };
        let proxy_address = proxy.address();
        send(1, proxy, 2, stake.to_cell()).await;
        send(2, client, 51, top_up.to_cell()).await;

        let (wallet, runner) = Wallet::open(provider.clone(), worker_key, worker_wallet, None).unwrap();
        Self {
            node,
            now,
            provider,
            config,
            proxy_key,
            proxy: proxy_address,
            wallet,
            runner,
            _stop: stop.drop_guard(),
        }
    }

    /// What the proxy has signed for the worker: so many thousandths of a TON.
    fn signed(&self, tokens: u64) -> Accounts {
        let key = public(&self.proxy_key);
        let worker = worker_init(&self.config, &OWNER, &self.proxy, &key).address();
        let tokens = AdjustedTokens::new(tokens);
        let kind = PaymentKind::WorkerPayout;
        let payment = SignedPayment::sign(&self.proxy_key, kind, 7, tokens, &worker, &self.proxy);
        Accounts::restored(vec![KeptPayment {
            proxy_key: key,
            proxy: self.proxy,
            own: worker,
            params_version: self.config.params.params_version,
            payment: payment.to_boc(),
            signed: tokens,
            stored: tokens,
            known: tokens,
        }])
    }

    fn cashier(&self) -> Cashier {
        Cashier::new(Policy::default(), self.provider.clone(), self.wallet.clone())
    }

    /// Lets both work for so many rounds of ten seconds.
    async fn work(&mut self, cashier: &Cashier, accounts: &Accounts, rounds: usize) {
        for _round in 0..rounds {
            self.now.fetch_add(10, Ordering::SeqCst);
            // A block that shows the time.
            self.node.give(&Address::new(0, [0xee; 32]), NanoTon::new(1_000_000)).unwrap();
            let now = Duration::from_secs(self.now.load(Ordering::SeqCst));
            cashier.step(accounts, &OWNER, &self.config, now).await.unwrap();
            self.runner.step(|| now).await.unwrap();
        }
    }

    /// What the owner was paid in all. Storage costs him a nanoton now and then.
    async fn paid_to_owner(&self) -> u64 {
        let (_account, transactions) = newest(&self.provider, &OWNER, 100).await.unwrap();
        transactions.iter().map(|transaction| transaction.incoming.as_ref().unwrap().value().get()).sum()
    }
}

#[tokio::test]
async fn what_was_earned_reaches_the_owner_to_the_nanoton() {
    let mut world = World::new().await;
    let cashier = world.cashier();
    world.work(&cashier, &world.signed(12_345), 8).await;
    assert_eq!(world.paid_to_owner().await, 12_345_000_000);
    let earnings = cashier.earnings()[0];
    assert_eq!((earnings.paid.get(), earnings.unpaid, earnings.stand), (12_345, NanoTon::ZERO, Stand::Open));
    assert_eq!((earnings.paid_out, earnings.failure), (NanoTon::new(12_345_000_000), None));

    // Little more waits; the operator need not.
    let accounts = world.signed(12_400);
    world.work(&cashier, &accounts, 8).await;
    assert_eq!(world.paid_to_owner().await, 12_345_000_000);
    assert_eq!(cashier.cash_out(None), 1);
    world.work(&cashier, &accounts, 8).await;
    assert_eq!(world.paid_to_owner().await, 12_400_000_000);

    // In another life nothing is paid twice.
    let again = world.cashier();
    let wallet_before = world.wallet.view().balance;
    world.work(&again, &accounts, 8).await;
    assert_eq!(world.paid_to_owner().await, 12_400_000_000);
    assert_eq!(world.wallet.view().balance, wallet_before, "nothing was sent");
    assert_eq!(again.earnings()[0].paid.get(), 12_400);
}

#[tokio::test]
async fn a_contract_is_there_before_its_first_payout_is_worth_it() {
    let mut world = World::new().await;
    let cashier = world.cashier();
    world.work(&cashier, &world.signed(49), 4).await;
    assert_eq!(cashier.earnings()[0].stand, Stand::Absent);
    let accounts = world.signed(100);
    world.work(&cashier, &accounts, 6).await;
    let earnings = cashier.earnings()[0];
    assert_eq!((earnings.stand, earnings.failure, world.paid_to_owner().await), (Stand::Open, None, 0));
    // The network's params change: what is left is fetched after half of the clients' delay.
    let delay = world.config.params.client_delay_before_close.get();
    world.config.params.params_version += 1;
    world.work(&cashier, &accounts, usize::try_from(delay / 20 + 8).unwrap()).await;
    assert_eq!(world.paid_to_owner().await, 100_000_000);
}

#[tokio::test]
async fn what_a_proxy_cannot_pay_stays_owed() {
    let mut world = World::new().await;
    let cashier = world.cashier();
    let accounts = world.signed(60_000);
    world.work(&cashier, &accounts, 6).await;
    let earnings = cashier.earnings()[0];
    assert_eq!(world.paid_to_owner().await, 0);
    assert_eq!((earnings.failure, earnings.unpaid.get()), (Some(Failure::NotPaid), 60 * TON));
    // Each attempt costs fees, so they become rare: the money attached comes back.
    world.work(&cashier, &accounts, 40).await;
    assert!(world.wallet.view().balance.unwrap().get() > 19 * TON);
}
