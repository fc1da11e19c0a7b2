//! A client's money on its way to a proxy and back, through the real contracts on a devnet.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

// The server that misbehaves belongs to the tests of `chain`.
extern crate chain as cocoon_chain;

#[expect(dead_code, reason = "tests here need a part of it")]
#[path = "../../chain/tests/world/hostile.rs"]
mod hostile;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chain::outbox::{Order, OrderId, Outcome};
use chain::{Follower, Provider, Runner, Transaction, Wallet};
use cocoon_client::LoginSecret;
use cocoon_client::settlement::{
    ATTACHED, FEES, Plan, Policy, Purse, PurseError, Refused, Stage, Unclear, View, Wish,
};
use ed25519_dalek::SigningKey;
use node::StateFolder;
use tempfile::TempDir;
use ton::contracts::{StateInit, client_address, proxy_init};
use ton::message::InternalMessage;
use ton::messages::{ClientPayload, ClientRequest, Notice, ProxyMessage};
use ton::payment::{PaymentKind, SignedPayment};
use ton::states::{ClientData, ContractState};
use ton::{Address, RegisteredProxy, RootConfig};
use tycho_types::cell::Cell;
use units::{AdjustedTokens, NanoTon, PublicKey};

use hostile::Answer;

/// Where the proxy listens, and another one.
const LISTENS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 7), 11_002);
const ELSEWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 8), 11_002);
const TON: u64 = 1_000_000_000;
const PRICE: u64 = 2_000_000;
/// Who gets what the node wallet has at last; nobody here.
const OWNER: Address = Address::new(0, [3; 32]);

fn secret() -> LoginSecret {
    LoginSecret::new(&[9; 32], "of the test")
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey::new(key.verifying_key().to_bytes())
}

/// A network with a proxy that has its stake, and a client whose node wallet has 20 TON.
struct World {
    chain: hostile::World,
    provider: Provider,
    config: RootConfig,
    proxy_key: SigningKey,
    proxy: Address,
    bank: Wallet,
    bank_runner: Runner,
    wallet: Wallet,
    runner: Runner,
    folder: TempDir,
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
            (NanoTon::new(PRICE), NanoTon::new(PRICE / 2));
        params.use_built_codes();
        let proxy = proxy_init(&config, &bank.address(), &public(&proxy_key), &Address::new(0, [4; 32]));
        let client_key = SigningKey::from_bytes(&[5; 32]);
        let client_wallet = node::wallet_state(&public(&client_key), &OWNER);
        for (address, tons) in [(bank.address(), 50), (client_wallet.address(), 20)] {
            chain.give(&address, tons * TON);
        }
        let excess = bank.address();
        let (bank, bank_runner) = Wallet::open(provider.clone(), bank_key, bank, None).unwrap();
        let (wallet, runner) = Wallet::open(provider.clone(), client_key, client_wallet, None).unwrap();
        config.registered_proxies.push(RegisteredProxy { seqno: 1, workers: LISTENS, clients: LISTENS });
        let mut world = Self {
            chain,
            provider,
            config,
            proxy_key,
            proxy: proxy.address(),
            bank,
            bank_runner,
            wallet,
            runner,
            folder: tempfile::tempdir().unwrap(),
        };
        let stake = ProxyMessage::IncreaseStake { query_id: 1, amount: NanoTon::new(2 * TON), excess };
        world.send(1, world.proxy, Some(proxy), 3, stake.to_cell()).await;
        world
    }

    /// Something that others send.
    async fn send(&mut self, id: u64, to: Address, state_init: Option<StateInit>, tons: u64, body: Cell) {
        let value = NanoTon::new(tons * TON);
        let message = InternalMessage { to, value, bounce: true, state_init, body: Some(body) };
        self.bank.submit(Order { id: OrderId(id), message }).unwrap();
        let now = self.time();
        for _step in 0..3 {
            self.bank_runner.step(|| now).await.unwrap();
        }
        assert!(self.bank.outcome(OrderId(id)).unwrap().is_done());
    }

    fn time(&self) -> Duration {
        self.chain.now()
    }

    fn state(&self) -> Arc<StateFolder> {
        Arc::new(StateFolder::open(&self.path()).unwrap())
    }

    fn path(&self) -> std::path::PathBuf {
        Path::join(self.folder.path(), "state")
    }

    fn purse(&self) -> Purse {
        let (provider, wallet) = (self.provider.clone(), self.wallet.clone());
        Purse::open(Policy::default(), provider, wallet, secret(), self.state()).unwrap()
    }

    fn client(&self) -> Address {
        client_address(&self.config, &self.wallet.address(), &self.proxy, &public(&self.proxy_key))
    }

    fn begin(&self, purse: &Purse, nonce: Option<u64>) {
        purse.begin(&self.config, LISTENS, &self.proxy, &public(&self.proxy_key), nonce, self.time());
    }

    /// Lets everything go on for so many rounds of ten seconds.
    async fn work(&mut self, purse: &Purse, rounds: u64) {
        for _round in 0..rounds {
            self.try_to_work(purse).await.unwrap();
        }
    }

    /// A round that may fail.
    async fn try_to_work(&mut self, purse: &Purse) -> Result<(), PurseError> {
        self.chain.pass(10);
        let now = self.time();
        let stepped = purse.step(&self.config, now).await;
        self.runner.step(|| now).await.unwrap();
        stepped
    }

    /// Much time passes at once.
    fn sleep(&self, seconds: u64) {
        self.chain.pass(seconds);
    }

    async fn contract(&self) -> ClientData {
        let account = self.provider.account(&self.client()).await.unwrap();
        ClientData::from_cell(account.data().unwrap()).unwrap()
    }

    async fn transactions(&self, account: Address) -> Vec<Transaction> {
        let mut follower = Follower::from_first(account);
        let mut all = Vec::new();
        loop {
            let news = follower.look(&self.provider).await.unwrap();
            all.extend(news.transactions);
            if news.account.is_some() {
                return all;
            }
        }
    }

    /// What the proxy contract heard from the client contract.
    async fn requests(&self) -> Vec<ClientRequest> {
        let seen = self.transactions(self.proxy).await;
        let bodies = seen.iter().filter_map(|transaction| transaction.incoming.as_ref());
        bodies.filter_map(|message| ClientRequest::from_cell(&message.body).ok()).collect()
    }

    /// Money that was owed to the client and came to its wallet.
    async fn paid_out(&self) -> u64 {
        let seen = self.transactions(self.wallet.address()).await;
        let messages = seen.iter().filter_map(|transaction| transaction.incoming.as_ref());
        let payouts =
            messages.filter(|message| matches!(Notice::from_cell(&message.body), Ok(Notice::Payout { .. })));
        payouts.map(|message| message.value().get()).sum()
    }

    fn signed(&self, kind: PaymentKind, tokens: u64) -> SignedPayment {
        let tokens = AdjustedTokens::new(tokens);
        SignedPayment::sign(&self.proxy_key, kind, 7, tokens, &self.client(), &self.bank.address())
    }
}

fn view(purse: &Purse) -> View {
    purse.glances()[0].view
}

/// What the owner wants of the only contract.
fn ask(purse: &Purse, world: &World, wish: Wish) -> Result<Plan, Refused> {
    let [asked] = purse.ask(wish, None, false, world.time()).unwrap()[..] else { panic!("one contract") };
    assert_eq!((asked.contract, asked.proxy), (world.client(), world.proxy));
    asked.outcome
}

#[tokio::test]
async fn a_new_client_is_registered_and_has_paid_in_at_once() {
    let mut world = World::new().await;
    let purse = world.purse();
    world.begin(&purse, Some(4711));
    // Seen, sent, carried out: nothing waits for anything else.
    world.work(&purse, 2).await;
    let data = world.contract().await;
    assert_eq!((data.state, data.balance.get()), (ContractState::Normal, TON));
    assert_ne!(data.secret_hash, [0; 32]);
    let payloads: Vec<_> = world.requests().await.into_iter().filter_map(|request| request.payload).collect();
    let [ClientPayload::TopUp { amount, .. }, ClientPayload::Register { nonce: 4711 }] = payloads[..] else {
        panic!("{payloads:?}");
    };
    assert_eq!(amount.get(), TON);
    world.work(&purse, 3).await;
    purse.authorised(&world.client(), Some(4711));
    let view = view(&purse);
    assert_eq!((view.stage, view.balance.get(), view.failures), (Stage::Open, TON, 0));
    // And then nothing for a day.
    let sent = world.transactions(world.wallet.address()).await.len();
    world.sleep(24 * 3600);
    world.work(&purse, 3).await;
    assert_eq!(world.transactions(world.wallet.address()).await.len(), sent);
}

#[tokio::test]
async fn what_is_used_is_landed_and_paid_in_again() {
    let mut world = World::new().await;
    let purse = world.purse();
    world.begin(&purse, None);
    world.work(&purse, 4).await;
    // A stake is worth 500 tokens.
    let charge =
        world.signed(PaymentKind::ClientCharge, 300).verify(&world.client(), &public(&world.proxy_key));
    purse.used(&world.client(), AdjustedTokens::new(300), Some(charge.unwrap()), 300_000, world.time());
    world.work(&purse, 8).await;
    let data = world.contract().await;
    assert_eq!(data.tokens_used.get(), 300);
    assert!(data.balance.get() > TON, "ten minutes of such use: {}", data.balance);
    assert_eq!(view(&purse).failures, 0);
    assert!(world.wallet.view().balance.unwrap().get() > 2 * TON, "the wallet can go on");
}

#[tokio::test]
async fn what_the_owner_asks_for_costs_what_was_said() {
    let mut world = World::new().await;
    let purse = world.purse();
    let deposit = Wish::Deposit(NanoTon::new(4 * TON));
    assert_eq!(purse.ask(deposit, None, false, world.time()).unwrap_err(), Unclear::Nothing);
    world.begin(&purse, None);
    world.work(&purse, 4).await;
    let stranger = Address::new(0, [0x77; 32]);
    let unclear = purse.ask(deposit, Some(&stranger), false, world.time()).unwrap_err();
    assert_eq!(unclear, Unclear::OtherProxy { proxy: stranger });

    for wish in [deposit, Wish::Withdraw, Wish::Close] {
        let before = world.wallet.view().balance.unwrap().get();
        let planned = purse.ask(wish, None, true, world.time()).unwrap()[0].outcome.unwrap();
        assert_eq!(ask(&purse, &world, wish), Ok(planned), "a dry run says what then happens");
        world.work(&purse, 4).await;
        let last = purse.glances()[0].last.unwrap();
        assert!(matches!(last.outcome, Outcome::Done { .. }), "{last:?}");
        let after = world.wallet.view().balance.unwrap().get();
        // Closing gives what is above the stake at once, and here that is nothing: the rest waits for the proxy.
        let comes_back = if wish == Wish::Close { 0 } else { planned.comes_back.get() };
        let fees = before + comes_back - planned.pays_in.get() - after;
        assert!(fees <= FEES.get() && fees > FEES.get() / 4, "{wish:?} costs {}", NanoTon::new(fees));
    }
    assert!(matches!(view(&purse).stage, Stage::Closing { unlock_at: Some(_) }));
    assert_eq!(ask(&purse, &world, Wish::Withdraw), Err(Refused::Closing));
    // Nobody means a contract that he has left; asked all the same, it says why not.
    assert_eq!(ask(&purse, &world, deposit), Err(Refused::Closing));
}

#[tokio::test]
async fn two_contracts_never_count_on_the_same_coins() {
    let mut world = World::new().await;
    // 20 TON, of which the wallet keeps its reserve: enough for one of the two deposits.
    let policy = Policy { balance_max: NanoTon::new(100 * TON), ..Policy::default() };
    let (provider, wallet) = (world.provider.clone(), world.wallet.clone());
    let purse = Purse::open(policy, provider, wallet, secret(), world.state()).unwrap();
    world.begin(&purse, None);
    let (first, other_key) = (world.proxy, SigningKey::from_bytes(&[6; 32]));
    let owner = world.bank.address();
    let other = proxy_init(&world.config, &owner, &public(&other_key), &Address::new(0, [4; 32]));
    let stake = ProxyMessage::IncreaseStake { query_id: 1, amount: NanoTon::new(2 * TON), excess: owner };
    let second = other.address();
    world.send(9, second, Some(other), 3, stake.to_cell()).await;
    purse.begin(&world.config, ELSEWHERE, &second, &public(&other_key), None, world.time());
    world.work(&purse, 6).await;
    assert!(purse.glances().iter().all(|glance| glance.view.balance.get() == TON));

    let deposit = Wish::Deposit(NanoTon::new(9 * TON));
    let unclear = purse.ask(deposit, None, false, world.time()).unwrap_err();
    assert_eq!(unclear, Unclear::Several { count: 2 });
    let into = |proxy| purse.ask(deposit, Some(&proxy), false, world.time()).unwrap()[0].outcome;
    let has = world.wallet.view().balance.unwrap();
    assert!(into(first).is_ok());
    // The coins are still there, and spoken for.
    assert_eq!(world.wallet.view().balance, Some(has));
    let promised = NanoTon::new(9 * TON).checked_add(ATTACHED).unwrap();
    let needed = NanoTon::new(9 * TON + Policy::default().wallet_reserve.get() + ATTACHED.get());
    assert_eq!(into(second), Err(Refused::Funds { wallet: has.saturating_sub(promised), needed }));
    world.work(&purse, 4).await;
    let balances: Vec<_> = purse
        .glances()
        .iter()
        .map(|glance| (glance.proxy == first, glance.view.balance.get() / TON))
        .collect();
    assert!(balances.contains(&(true, 10)) && balances.contains(&(false, 1)), "{balances:?}");

    assert!(world.wallet.view().balance.unwrap() >= Policy::default().wallet_reserve);
}

#[tokio::test]
async fn everything_comes_back_with_the_proxys_help() {
    let mut world = World::new().await;
    let purse = world.purse();
    world.begin(&purse, None);
    world.work(&purse, 4).await;
    assert!(ask(&purse, &world, Wish::Close).is_ok());
    world.work(&purse, 3).await;
    assert!(matches!(view(&purse).stage, Stage::Closing { .. }));
    assert_eq!(world.paid_out().await, 0);
    let refund = world.signed(PaymentKind::ClientRefund, 100).to_cell();
    world.send(2, world.client(), None, 1, refund).await;
    world.work(&purse, 8).await;
    assert_eq!(world.paid_out().await, TON - 100 * PRICE);
    assert_eq!(view(&purse).stage, Stage::Closed);
}

#[tokio::test]
async fn everything_comes_back_without_the_proxy() {
    let mut world = World::new().await;
    let purse = world.purse();
    world.begin(&purse, None);
    world.work(&purse, 4).await;
    assert!(ask(&purse, &world, Wish::Close).is_ok());
    let delay = u64::from(world.config.params.client_delay_before_close.get());
    world.work(&purse, 2).await;
    world.sleep(delay);
    world.work(&purse, 10).await;
    assert_eq!(world.paid_out().await, TON);
    assert_eq!((view(&purse).stage, world.contract().await.state), (Stage::Closed, ContractState::Closed));
}

#[tokio::test]
async fn a_contract_of_an_earlier_life_is_not_forgotten() {
    let mut world = World::new().await;
    let purse = world.purse();
    world.begin(&purse, None);
    world.work(&purse, 4).await;
    drop(purse);
    // Nobody connects to that proxy again, and the params have changed meanwhile.
    let purse = world.purse();
    world.config.params.params_version += 1;
    let first = purse.glances()[0].contract;
    let delays = &world.config.params;
    let wait = delays.proxy_delay_before_close.get() + delays.client_delay_before_close.get();
    world.work(&purse, u64::from(wait / 10)).await;
    assert_eq!(world.paid_out().await, TON);
    // One server's word is no proof: it is kept in mind for days.
    assert_eq!((purse.glances()[0].contract, view(&purse).stage), (first, Stage::Closed));
    world.sleep(7 * 24 * 3600);
    world.work(&purse, 1).await;
    assert!(purse.glances().is_empty());
    drop(purse);
    assert!(world.purse().glances().is_empty());
}

#[tokio::test]
async fn a_proxy_without_stake_is_paid_nothing() {
    let mut world = World::new().await;
    world.config.params.min_proxy_stake = NanoTon::new(10 * TON);
    let (owner, root) = (world.bank.address(), Address::new(0, [4; 32]));
    let proxy = proxy_init(&world.config, &owner, &public(&world.proxy_key), &root);
    world.proxy = proxy.address();
    let stake = ProxyMessage::IncreaseStake { query_id: 1, amount: NanoTon::new(TON), excess: owner };
    world.send(3, world.proxy, Some(proxy), 2, stake.to_cell()).await;
    let purse = world.purse();
    world.begin(&purse, None);
    world.work(&purse, 20).await;
    assert!(view(&purse).held.is_some());
    assert_eq!(purse.problem().as_deref(), view(&purse).held);
    assert_eq!(world.wallet.view().balance.unwrap().get(), 20 * TON, "nothing was even sent");
}

#[tokio::test]
async fn a_server_that_forgets_a_deposit_gets_no_second_one() {
    let mut world = World::new().await;
    let purse = world.purse();
    world.begin(&purse, None);
    let client = world.client();
    // What it says before there is anything.
    let before: Arc<Mutex<Option<serde_json::Value>>> = Arc::default();
    let is_about = move |asked: &hostile::Asked| {
        let address = asked.params["address"].as_str().and_then(|text| Address::parse(text).ok());
        asked.method == "getAddressInformation" && address.is_some_and(|(address, _flags)| address == client)
    };
    let keeps = Arc::clone(&before);
    world.chain.meddle(move |asked, answer| {
        if is_about(asked) {
            keeps.lock().unwrap().get_or_insert(answer.clone());
        }
        Answer::Json(answer)
    });
    world.work(&purse, 4).await;
    assert_eq!(view(&purse).balance.get(), TON);
    let sent = world.transactions(world.wallet.address()).await.len();
    // Another server behind the same name, which is behind.
    world.chain.meddle(move |asked, answer| match is_about(asked) {
        true => Answer::Json(before.lock().unwrap().clone().unwrap()),
        false => Answer::Json(answer),
    });
    for _round in 0..30 {
        let error = world.try_to_work(&purse).await.unwrap_err();
        // Told by the block, or by the transaction that is missing.
        assert!(matches!(error, PurseError::Stale { .. } | PurseError::Provider(_)), "{error}");
    }
    assert_eq!(world.transactions(world.wallet.address()).await.len(), sent, "nothing was sent");
    assert_eq!(view(&purse).balance.get(), TON);
    world.chain.be_honest();
    world.work(&purse, 3).await;
}

#[tokio::test]
async fn a_deposit_is_in_the_file_before_it_is_sent() {
    let mut world = World::new().await;
    let purse = world.purse();
    world.begin(&purse, None);
    world.work(&purse, 1).await;
    let list = world.path().join("contracts");
    assert!(!list.exists(), "nothing was paid for it yet");
    // The list cannot be written.
    std::fs::create_dir_all(list.join("in the way")).unwrap();
    for _round in 0..3 {
        assert!(matches!(world.try_to_work(&purse).await, Err(PurseError::Keep(_))));
    }
    assert_eq!(world.wallet.view().balance.unwrap().get(), 20 * TON);
    std::fs::remove_dir_all(&list).unwrap();
    world.work(&purse, 3).await;
    assert!(list.is_file());
    assert_eq!(world.contract().await.balance.get(), TON);
}

#[tokio::test]
async fn a_proxy_that_shows_a_new_key_each_time_is_not_paid_each_time() {
    let mut world = World::new().await;
    let purse = world.purse();
    world.work(&purse, 1).await;
    let owner = world.bank.address();
    for number in 0..5_u8 {
        // A real proxy contract with a real stake, which its owner gets back.
        let key = SigningKey::from_bytes(&[40 + number; 32]);
        let proxy = proxy_init(&world.config, &owner, &public(&key), &Address::new(0, [4; 32]));
        let stake = ProxyMessage::IncreaseStake { query_id: 1, amount: NanoTon::new(2 * TON), excess: owner };
        let address = proxy.address();
        world.send(50 + u64::from(number), address, Some(proxy), 3, stake.to_cell()).await;
        purse.begin(&world.config, LISTENS, &address, &public(&key), None, world.time());
        world.work(&purse, 4).await;
    }
    let opened = purse.glances().iter().filter(|glance| glance.view.stage == Stage::Open).count();
    assert_eq!(opened, 3);
    // Nor is one that has no contract at all, or a contract without a stake.
    let key = SigningKey::from_bytes(&[60; 32]);
    let nowhere = proxy_init(&world.config, &owner, &public(&key), &Address::new(0, [4; 32])).address();
    purse.begin(&world.config, ELSEWHERE, &nowhere, &public(&key), None, world.time());
    world.work(&purse, 4).await;
    let glances = purse.glances();
    let there = glances.iter().find(|glance| glance.proxy == nowhere).unwrap();
    assert_eq!((there.view.stage, there.view.held.is_some()), (Stage::NotDeployed, true));
    // What nothing was paid for is not kept in mind once the proxy is gone.
    purse.leave(&there.contract, None);
    world.work(&purse, 1).await;
    assert!(purse.glances().iter().all(|glance| glance.proxy != nowhere));
}

#[tokio::test]
async fn orders_of_an_earlier_life_do_not_hold_up_this_one() {
    let mut world = World::new().await;
    let purse = world.purse();
    world.begin(&purse, None);
    world.work(&purse, 4).await;
    drop(purse);
    // Another life left an order that the wallet will never be able to pay.
    let message = InternalMessage {
        to: OWNER,
        value: NanoTon::new(500 * TON),
        bounce: false,
        state_init: None,
        body: None,
    };
    world.wallet.submit(Order { id: OrderId(77), message }).unwrap();
    let purse = world.purse();
    world.work(&purse, 1).await;
    assert!(ask(&purse, &world, Wish::Close).is_ok());
    world.work(&purse, 3).await;
    assert!(matches!(view(&purse).stage, Stage::Closing { unlock_at: Some(_) }));
}

#[tokio::test]
async fn a_client_leaves_before_its_proxy_does() {
    let mut world = World::new().await;
    let purse = world.purse();
    world.begin(&purse, None);
    world.work(&purse, 4).await;
    let excess = world.bank.address();
    let close = ProxyMessage::Close { query_id: 5, excess };
    world.send(9, world.proxy, None, 1, close.to_cell()).await;
    let delay = u64::from(world.config.params.client_delay_before_close.get());
    world.work(&purse, 3).await;
    world.sleep(delay);
    world.work(&purse, 8).await;
    assert_eq!((world.paid_out().await, view(&purse).stage), (TON, Stage::Closed));
}
