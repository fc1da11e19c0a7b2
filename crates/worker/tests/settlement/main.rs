//! Earnings on their way from a client's deposit to the owner of a worker, through the real contracts on a devnet.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

// The server that misbehaves belongs to the tests of `chain`.
extern crate chain as cocoon_chain;

#[expect(dead_code, reason = "tests here need a part of it")]
#[path = "../../../chain/tests/world/hostile.rs"]
mod hostile;

use std::sync::Arc;

use chain::outbox::{Order, OrderId};
use chain::{Provider, Runner, Wallet, newest};
use cocoon_worker::session::Accounts;
use cocoon_worker::settlement::{Cashier, CashierError, Failure, Policy, Stand};
use ed25519_dalek::SigningKey;
use node::{KeptPayment, StateFolder};
use tempfile::TempDir;
use ton::contracts::{StateInit, client_init, proxy_init, worker_init};
use ton::message::InternalMessage;
use ton::messages::{ClientMessage, ProxyMessage};
use ton::payment::{PaymentKind, SignedPayment};
use ton::{Address, RootConfig};
use tycho_types::cell::Cell;
use units::{AdjustedTokens, NanoTon, PublicKey};

use hostile::Answer;

const TON: u64 = 1_000_000_000;
/// Who receives the earnings. Nobody has a key for it, so nothing else touches its balance.
const OWNER: Address = Address::new(0, [3; 32]);

fn public(key: &SigningKey) -> PublicKey {
    PublicKey::new(key.verifying_key().to_bytes())
}

/// A network with a proxy that a client has paid 50 TON to, and a worker with a wallet.
struct World {
    chain: hostile::World,
    provider: Provider,
    config: RootConfig,
    proxy_key: SigningKey,
    proxy: Address,
    wallet: Wallet,
    runner: Runner,
    state: Arc<StateFolder>,
    _folder: TempDir,
}

impl World {
    async fn new() -> Self {
        let chain = hostile::World::new().await;
        let provider = chain.provider();

        let (bank_key, proxy_key) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let bank = node::wallet_state(&public(&bank_key), &OWNER);
        let mut config = RootConfig::pseudo(bank.address());
        let params = &mut config.params;
        (params.price_per_token, params.worker_fee_per_token) =
            (NanoTon::new(2_000_000), NanoTon::new(1_000_000));
        params.use_built_codes();
        let proxy = proxy_init(&config, &bank.address(), &public(&proxy_key), &Address::new(0, [4; 32]));
        let client = client_init(&config, &bank.address(), &proxy.address(), &public(&proxy_key));

        let worker_key = SigningKey::from_bytes(&[5; 32]);
        let worker_wallet = node::wallet_state(&public(&worker_key), &OWNER);
        for (address, tons) in [(bank.address(), 200), (worker_wallet.address(), 20)] {
            chain.give(&address, tons * TON);
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
                runner.step(|| chain.now()).await.unwrap();
            }
            assert!(funds.outcome(OrderId(id)).unwrap().is_done());
        };
        let proxy_address = proxy.address();
        send(1, proxy, 2, stake.to_cell()).await;
        send(2, client, 51, top_up.to_cell()).await;

        let (wallet, runner) = Wallet::open(provider.clone(), worker_key, worker_wallet, None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self {
            chain,
            provider,
            config,
            proxy_key,
            proxy: proxy_address,
            wallet,
            runner,
            state: Arc::new(StateFolder::open(folder.path()).unwrap()),
            _folder: folder,
        }
    }

    /// What the proxy has signed for the worker: so many thousandths of a TON.
    fn signed(&self, tokens: u64) -> Accounts {
        Accounts::restored(vec![self.signed_by(&self.proxy_key, self.proxy, tokens)])
    }

    fn signed_by(&self, signer: &SigningKey, proxy: Address, tokens: u64) -> KeptPayment {
        let key = public(signer);
        let worker = worker_init(&self.config, &OWNER, &proxy, &key).address();
        let tokens = AdjustedTokens::new(tokens);
        let payment = SignedPayment::sign(signer, PaymentKind::WorkerPayout, 7, tokens, &worker, &proxy);
        KeptPayment {
            proxy_key: key,
            proxy,
            own: worker,
            params_version: self.config.params.params_version,
            payment: payment.to_boc(),
            signed: tokens,
            stored: tokens,
            known: tokens,
        }
    }

    fn cashier(&self) -> Cashier {
        let (provider, wallet) = (self.provider.clone(), self.wallet.clone());
        Cashier::open(Policy::default(), provider, wallet, Arc::clone(&self.state)).unwrap()
    }

    /// Lets both work for so many rounds of ten seconds.
    async fn work(&mut self, cashier: &Cashier, accounts: &Accounts, rounds: usize) {
        for _round in 0..rounds {
            self.try_to_work(cashier, accounts).await.unwrap();
        }
    }

    /// A round that may fail.
    async fn try_to_work(&mut self, cashier: &Cashier, accounts: &Accounts) -> Result<(), CashierError> {
        self.chain.pass(10);
        let now = self.chain.now();
        let stepped = cashier.step(accounts, &OWNER, &self.config, now).await;
        self.runner.step(|| now).await.unwrap();
        stepped
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
    // Nothing is paid for an attempt that is in vain.
    assert_eq!(world.wallet.view().balance.unwrap().get(), 20 * TON);
}

#[tokio::test]
async fn a_contract_that_cannot_be_read_holds_up_nobody_else() {
    let mut world = World::new().await;
    let cashier = world.cashier();
    // Read before the other one, and never.
    let other = Address::new(0, [0; 32]);
    let kept = vec![
        world.signed_by(&world.proxy_key, world.proxy, 12_345),
        world.signed_by(&SigningKey::from_bytes(&[6; 32]), other, 12_345),
    ];
    let unreadable = kept[1].own;
    world.chain.meddle(move |asked, answer| {
        let address = asked.params["address"].as_str().and_then(|text| Address::parse(text).ok());
        match address {
            Some((address, _flags)) if address == unreadable => Answer::Text(500, "no".to_owned()),
            _ => Answer::Json(answer),
        }
    });
    let accounts = Accounts::restored(kept);
    for _round in 0..8 {
        let error = world.try_to_work(&cashier, &accounts).await.unwrap_err();
        assert!(matches!(error, CashierError::Read { worker, .. } if worker == unreadable), "{error}");
    }
    assert_eq!(world.paid_to_owner().await, 12_345_000_000);
}

#[tokio::test]
async fn a_payout_that_is_refused_leaves_nothing_behind() {
    let mut world = World::new().await;
    let cashier = world.cashier();
    // Its signature is not the proxy's: the contract, which comes with the message, refuses it.
    let mut kept = world.signed_by(&world.proxy_key, world.proxy, 12_345);
    let tokens = AdjustedTokens::new(12_345);
    let stranger = SigningKey::from_bytes(&[6; 32]);
    kept.payment =
        SignedPayment::sign(&stranger, PaymentKind::WorkerPayout, 7, tokens, &kept.own, &world.proxy)
            .to_boc();
    let before = world.wallet.view().balance.unwrap_or(NanoTon::new(20 * TON)).get();
    world.work(&cashier, &Accounts::restored(vec![kept]), 5).await;
    let earnings = cashier.earnings()[0];
    assert!(matches!(earnings.failure, Some(Failure::Refused { .. })), "{earnings:?}");
    let after = world.wallet.view().balance.unwrap().get();
    assert!(before - after < TON / 20, "{before} {after}");
}

#[tokio::test]
async fn a_contract_that_was_never_deployed_is_paid_out_under_params_of_the_past() {
    let mut world = World::new().await;
    let accounts = world.signed(40);
    let cashier = world.cashier();
    world.work(&cashier, &accounts, 3).await;
    assert_eq!(cashier.earnings()[0].stand, Stand::Absent);
    drop(cashier);
    // They change while the worker is down.
    world.config.params.params_version += 1;
    world.config.params.worker_fee_per_token = NanoTon::new(7);
    let delay = world.config.params.client_delay_before_close.get();
    let cashier = world.cashier();
    world.work(&cashier, &accounts, usize::try_from(delay / 20 + 8).unwrap()).await;
    assert_eq!(world.paid_to_owner().await, 40_000_000);
}

#[tokio::test]
async fn an_order_of_an_earlier_life_is_over_before_another_is_given() {
    let mut world = World::new().await;
    world.work(&world.cashier(), &world.signed(0), 1).await;
    let first = world.cashier();
    // The first step reads, the second orders; the process dies before the wallet has sent it.
    let now = world.chain.now();
    for _step in 0..2 {
        first.step(&world.signed(12_345), &OWNER, &world.config, now).await.unwrap();
    }
    assert_eq!(world.wallet.view().open, 1);
    drop(first);
    let again = world.cashier();
    let accounts = world.signed(23_456);
    for _step in 0..2 {
        again.step(&accounts, &OWNER, &world.config, now).await.unwrap();
    }
    assert_eq!(world.wallet.view().open, 1, "not beside it");
    world.work(&again, &accounts, 16).await;
    assert_eq!((world.paid_to_owner().await, again.earnings()[0].failure), (23_456_000_000, None));
}
