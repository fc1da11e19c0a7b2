//! Orders of a node wallet, carried out through servers that behave and servers that do not.

use std::path::Path;

use cocoon_chain::outbox::{Order, OrderId, Outcome};
use cocoon_chain::{Effect, NotRun, ProviderError, Runner, StepError, Wallet};
use ed25519_dalek::SigningKey;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use ton::contracts::{StateInit, wallet_init};
use ton::message::InternalMessage;
use ton::{Address, Contract, ContractCode};
use units::{LogicalTime, NanoTon, PublicKey};

use crate::hostile::{Answer, World};

const TON: u64 = 1_000_000_000;

pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub(crate) fn state_init() -> StateInit {
    let key = PublicKey::new(key().verifying_key().to_bytes());
    wallet_init(&ContractCode::built(Contract::Wallet), &key, &Address::new(0, [8; 32]))
}

/// A receiver of its own for each order.
fn receiver(id: u64) -> Address {
    let mut hash = [0x5a; 32];
    hash[..8].copy_from_slice(&id.to_be_bytes());
    Address::new(0, hash)
}

fn order(id: u64, nanotons: u64) -> Order {
    let value = NanoTon::new(nanotons);
    let message = InternalMessage { to: receiver(id), value, bounce: false, state_init: None, body: None };
    Order { id: OrderId(id), message }
}

fn open(world: &World, file: Option<&Path>) -> (Wallet, Runner) {
    Wallet::open(world.provider(), key(), state_init(), file).unwrap()
}

fn transactions_of(world: &World, account: &Address) -> usize {
    let all =
        |chain: &devnet::Devnet, _now| chain.transactions(account, None, LogicalTime::new(0), 100).len();
    world.node.look(all)
}

#[tokio::test]
async fn a_wallet_is_deployed_with_its_first_orders_and_they_arrive() {
    let world = World::new().await;
    world.give(&state_init().address(), 20 * TON);
    let (wallet, mut runner) = open(&world, None);
    for id in 1..=6 {
        wallet.submit(order(id, TON)).unwrap();
    }
    let clock = || world.now();
    for _step in 0..3 {
        runner.step(clock).await.unwrap();
    }
    for id in 1..=6 {
        let outcome = wallet.outcome(OrderId(id)).unwrap();
        assert!(matches!(outcome, Outcome::Arrived { why: NotRun::NoContract, .. }), "{outcome:?}");
        assert_eq!(transactions_of(&world, &receiver(id)), 1);
    }
    let view = wallet.view();
    assert_eq!((view.open, view.hold, view.is_low), (0, None, false));
    assert!(view.balance.unwrap() > NanoTon::new(13 * TON));
}

#[tokio::test]
async fn what_its_receiver_refuses_comes_back_and_is_told() {
    let world = World::new().await;
    world.give(&state_init().address(), 20 * TON);
    let (wallet, mut runner) = open(&world, None);
    let mut refused = order(1, TON);
    refused.message.bounce = true;
    wallet.submit(refused).unwrap();
    // A wallet does not take orders from strangers, and from itself neither.
    let mut stranger = order(2, TON);
    let body =
        ton::messages::WalletMessage::Send { query_id: 1, mode: 0, message: order(3, 1).message.to_cell() };
    stranger.message = InternalMessage {
        to: state_init().address(),
        bounce: true,
        body: Some(body.to_cell()),
        ..stranger.message
    };
    wallet.submit(stranger).unwrap();
    for _step in 0..3 {
        runner.step(|| world.now()).await.unwrap();
    }
    let outcome = wallet.outcome(OrderId(1)).unwrap();
    let Outcome::Refused { effect: Effect::NotRun(NotRun::NoContract), returned, .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(returned > NanoTon::new(TON - TON / 100));
    let outcome = wallet.outcome(OrderId(2)).unwrap();
    assert!(
        matches!(outcome, Outcome::Refused { effect: Effect::Refused { exit_code: 1040 }, .. }),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_message_that_was_lost_is_signed_anew_when_it_is_late() {
    let world = World::new().await;
    world.give(&state_init().address(), 20 * TON);
    let (wallet, mut runner) = open(&world, None);
    wallet.submit(order(1, TON)).unwrap();
    world.meddle(|asked, answer| match asked.method.as_str() {
        "sendBoc" => Answer::Text(500, "lost".to_owned()),
        _ => Answer::Json(answer),
    });
    for _step in 0..12 {
        runner.step(|| world.now()).await.unwrap();
        world.pass(10);
    }
    assert_eq!(transactions_of(&world, &receiver(1)), 0);
    world.be_honest();
    world.pass(20);
    for _step in 0..2 {
        runner.step(|| world.now()).await.unwrap();
    }
    assert!(wallet.outcome(OrderId(1)).is_some());
    let handed_in = world.handed_in();
    assert!(handed_in.len() >= 10, "the same bytes, again and again: {}", handed_in.len());
    let mut different = handed_in.clone();
    different.dedup();
    assert_eq!(different.len(), 2, "one message until it was late, and one after");
    // Whatever was signed for it is handed in once more: nothing happens twice.
    world.pass(1);
    for message in &handed_in {
        world.hand_in(message);
    }
    assert_eq!(transactions_of(&world, &receiver(1)), 1);
}

#[tokio::test]
async fn nothing_is_handed_in_that_cannot_be_kept() {
    let world = World::new().await;
    world.give(&state_init().address(), 20 * TON);
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone").join("orders");
    let (wallet, mut runner) = open(&world, Some(&gone));
    wallet.submit(order(1, TON)).unwrap();
    for _step in 0..2 {
        let error = runner.step(|| world.now()).await.unwrap_err();
        assert!(matches!(error, StepError::Keep(_)), "{error}");
    }
    assert!(world.handed_in().is_empty());
    std::fs::create_dir(folder.path().join("gone")).unwrap();
    world.pass(10);
    for _step in 0..2 {
        runner.step(|| world.now()).await.unwrap();
    }
    assert!(wallet.outcome(OrderId(1)).is_some());
}

#[tokio::test]
async fn a_server_that_never_answers_stops_a_step_and_nothing_else() {
    let world = World::new().await;
    world.give(&state_init().address(), 20 * TON);
    let (wallet, mut runner) = Wallet::open(world.hasty_provider(), key(), state_init(), None).unwrap();
    wallet.submit(order(1, TON)).unwrap();
    world.meddle(|_asked, _answer| Answer::Never);
    let error = runner.step(|| world.now()).await.unwrap_err();
    let StepError::Follow(cocoon_chain::FollowError::Provider(ProviderError::Late { .. })) = error else {
        panic!("{error}")
    };
    world.be_honest();
    // A busy machine may be late, too.
    while wallet.outcome(OrderId(1)).is_none() {
        let _late = runner.step(|| world.now()).await;
    }
    assert_eq!(transactions_of(&world, &receiver(1)), 1);
}

/// Lives of orders through a server that loses, doubles, delays, reorders and tells of the past, while the process is
/// killed every now and then.
async fn random_life(seed: u64) {
    let world = World::new().await;
    world.give(&state_init().address(), 200 * TON);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders");
    let dice = std::sync::Mutex::new((SmallRng::seed_from_u64(seed), Vec::<Value>::new()));
    world.meddle(move |asked, mut answer| {
        let mut dice = dice.lock().unwrap();
        let throw = dice.0.random_range(0..10);
        match (asked.method.as_str(), throw) {
            // Lost on the way there (asked before it is passed on), or on the way back.
            ("sendBoc", 0..3) => Answer::Text(504, "late".to_owned()),
            (_, 3) => Answer::Text(502, "Bad Gateway".to_owned()),
            ("getAddressInformation", 4) if !dice.1.is_empty() => {
                let kept = dice.1.len();
                let old = dice.0.random_range(0..kept);
                Answer::Json(dice.1[old].clone())
            }
            ("getAddressInformation", _) => {
                dice.1.push(answer.clone());
                Answer::Json(answer)
            }
            ("getTransactions", 5) => {
                answer["result"].as_array_mut().unwrap().reverse();
                Answer::Json(answer)
            }
            ("getTransactions", 6) => {
                drop(answer["result"].as_array_mut().unwrap().pop());
                Answer::Json(answer)
            }
            ("tryLocateResultTx", 7 | 8) => Answer::Text(500, "{\"ok\":false}".to_owned()),
            _ => Answer::Json(answer),
        }
    });
    let mut dice = SmallRng::seed_from_u64(!seed);
    let (mut wallet, mut runner) = open(&world, Some(&file));
    let orders: Vec<_> = (1..=12).map(|id| order(id, TON + id)).collect();
    let mut submitted = 0;
    for _round in 0..2_000 {
        if submitted < orders.len() && dice.random_bool(0.5) {
            submitted += 1;
        }
        // Whoever ordered does so again after a crash, since he has not heard what became of it.
        for order in &orders[..submitted] {
            wallet.submit(order.clone()).unwrap();
        }
        let _trouble = runner.step(|| world.now()).await;
        if dice.random_bool(0.1) {
            (wallet, runner) = open(&world, Some(&file));
        }
        world.pass(dice.random_range(0..15));
        let handed_in = world.handed_in();
        if !handed_in.is_empty() && dice.random_bool(0.3) {
            world.hand_in(&handed_in[dice.random_range(0..handed_in.len())]);
        }
        if orders.iter().all(|order| wallet.outcome(order.id).is_some()) {
            break;
        }
    }
    for Order { id, message } in &orders {
        let outcome = wallet.outcome(*id);
        assert!(matches!(outcome, Some(Outcome::Arrived { .. })), "seed {seed}: {id} {outcome:?}");
        assert_eq!(transactions_of(&world, &message.to), 1, "seed {seed}: {id}");
    }
}

#[tokio::test]
async fn every_order_is_carried_out_once_whatever_happens() {
    for seed in 0..12 {
        random_life(seed).await;
    }
}
