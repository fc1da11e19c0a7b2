//! Accounts and their transactions, told truly and not.

use std::time::Duration;

use cocoon_chain::clock::ClockError;
use cocoon_chain::{
    AccountStatus, Effect, FollowError, Follower, Lie, NotRun, ProviderError, Route, Transaction, clock,
    newest,
};
use serde_json::{Value, json};
use ton::Address;
use ton::getters::{GetSeqno, GetterError};
use units::NanoTon;

use crate::hostile::{Answer, World};

const ACCOUNT: Address = Address::new(0, [1; 32]);

/// Looks until there is nothing new.
async fn all_news(follower: &mut Follower, world: &World) -> Vec<Transaction> {
    let mut all = Vec::new();
    loop {
        let news = follower.look(&world.provider()).await.unwrap();
        all.extend(news.transactions);
        if news.account.is_some() {
            return all;
        }
    }
}

#[tokio::test]
async fn an_account_is_seen_as_it_is() {
    let world = World::new().await;
    let provider = world.provider();
    let nobody = provider.account(&ACCOUNT).await.unwrap();
    assert_eq!((nobody.balance, nobody.status, nobody.last), (NanoTon::ZERO, AccountStatus::Uninit, None));
    world.give(&ACCOUNT, 2_000_000_000);
    let account = provider.account(&ACCOUNT).await.unwrap();
    assert!(account.balance > NanoTon::new(1_999_000_000) && account.last.is_some());
    assert!(account.data().is_none() && account.code().is_none());

    let head = provider.head().await.unwrap();
    assert_eq!((head.time, head.seqno), (account.block_time, account.block));
    clock::check(head.time, world.now()).unwrap();
    let error = provider.getter(&ACCOUNT, &GetSeqno).await.unwrap_err();
    let expected = GetterError::Failed { method: "seqno", exit_code: -13 };
    assert!(matches!(&error, ProviderError::Getter { source, .. } if *source == expected), "{error:?}");
}

#[tokio::test]
async fn transactions_come_once_the_oldest_first_however_many() {
    let world = World::new().await;
    let mut follower = Follower::from_first(ACCOUNT);
    assert!(all_news(&mut follower, &world).await.is_empty());
    for gift in 1..=130 {
        world.give(&ACCOUNT, 1_000_000 + gift);
    }
    world.questions();
    let came = all_news(&mut follower, &world).await;
    assert_eq!(world.questions(), 1 + 5, "the state, three pages back, two of them forward");
    let amounts: Vec<_> =
        came.iter().map(|transaction| transaction.incoming.as_ref().unwrap().value()).collect();
    assert_eq!(amounts, (1..=130).map(|gift| NanoTon::new(1_000_000 + gift)).collect::<Vec<_>>());
    assert!(came.windows(2).all(|pair| pair[1].previous == Some(pair[0].id)));
    let first = &came[0];
    assert_eq!((first.previous, first.effect), (None, Effect::NotRun(NotRun::NoContract)));
    let Route::Internal { to, from, .. } = first.incoming.as_ref().unwrap().route else {
        panic!("{first:?}")
    };
    assert_eq!((to, from), (ACCOUNT, devnet::FAUCET));

    assert!(all_news(&mut follower, &world).await.is_empty());
    world.give(&ACCOUNT, 5_000_000);
    // Another life goes on where this one ended.
    let mut later = Follower::after(ACCOUNT, follower.seen().unwrap());
    assert_eq!(all_news(&mut later, &world).await.len(), 1);
    // Who begins now hears of what comes, not of what was.
    let mut newcomer = Follower::from_now(ACCOUNT);
    assert!(all_news(&mut newcomer, &world).await.is_empty());
    world.give(&ACCOUNT, 5_000_000);
    assert_eq!(all_news(&mut newcomer, &world).await.len(), 1);
}

#[tokio::test]
async fn the_newest_transactions_are_shown_as_they_are() {
    let world = World::new().await;
    let provider = world.provider();
    assert!(newest(&provider, &ACCOUNT, 5).await.unwrap().1.is_empty());
    for gift in 1..=70 {
        world.give(&ACCOUNT, 1_000_000 + gift);
    }
    for count in [1, 49, 50, 51, 70, 71] {
        let (account, found) = newest(&provider, &ACCOUNT, count).await.unwrap();
        assert_eq!((found.len(), found[0].id), (count.min(70), account.last.unwrap()));
        assert!(found.windows(2).all(|pair| pair[0].previous == Some(pair[1].id)));
    }
    world.meddle(|asked, mut answer| {
        if asked.method == "getTransactions" {
            answer["result"].as_array_mut().unwrap().swap(1, 2);
        }
        Answer::Json(answer)
    });
    let error = newest(&provider, &ACCOUNT, 5).await.unwrap_err();
    assert!(matches!(error, FollowError::Lie(Lie::Broken { .. })), "{error}");
}

#[tokio::test]
async fn a_message_is_followed_to_its_transaction() {
    let world = World::new().await;
    world.give(&ACCOUNT, 5_000_000);
    let mut follower = Follower::from_first(ACCOUNT);
    let given = all_news(&mut follower, &world).await.remove(0);
    let Route::Internal { from, created_lt, .. } = given.incoming.as_ref().unwrap().route else { panic!() };
    let provider = world.provider();
    let found = provider.transaction_of_message(&from, &ACCOUNT, created_lt).await.unwrap().unwrap();
    assert_eq!(found.id, given.id);
    let other = Address::new(0, [2; 32]);
    assert!(provider.transaction_of_message(&from, &other, created_lt).await.unwrap().is_none());
}

#[tokio::test]
async fn clocks_that_disagree_are_told_with_what_to_do() {
    let world = World::new().await;
    let head = async || world.provider().head().await.unwrap().time;
    world.pass(3_600);
    clock::check(head().await, world.now()).unwrap();
    world.node.travel(Duration::from_secs(31));
    world.give(&ACCOUNT, 5_000_000);
    let error = clock::check(head().await, world.now()).unwrap_err();
    assert_eq!(error, ClockError::ClockBehind { by: Duration::from_secs(31) });
}

/// Looks through a server that changes the lists of transactions.
async fn look_at_changed_lists(change: impl Fn(&mut Vec<Value>) + Send + Sync + 'static) -> FollowError {
    let world = World::new().await;
    let mut follower = Follower::from_first(ACCOUNT);
    for _gift in 0..4 {
        world.give(&ACCOUNT, 5_000_000);
    }
    world.meddle(move |asked, mut answer| {
        if asked.method == "getTransactions" {
            change(answer["result"].as_array_mut().unwrap());
        }
        Answer::Json(answer)
    });
    let error = follower.look(&world.provider()).await.unwrap_err();
    assert_eq!(follower.seen(), None);
    // When the server comes to its senses, nothing is missing.
    world.be_honest();
    assert_eq!(all_news(&mut follower, &world).await.len(), 4);
    error
}

#[tokio::test]
async fn changed_lists_are_lies() {
    let error = look_at_changed_lists(|list| drop(list.remove(1))).await;
    assert!(matches!(error, FollowError::Lie(Lie::Broken { .. })), "{error}");
    let error = look_at_changed_lists(|list| list.swap(1, 2)).await;
    assert!(matches!(error, FollowError::Lie(Lie::Broken { .. })), "{error}");
    let error = look_at_changed_lists(|list| list.insert(0, list[0].clone())).await;
    assert!(matches!(error, FollowError::Lie(Lie::Broken { .. })), "{error}");
    let error = look_at_changed_lists(Vec::clear).await;
    assert!(matches!(error, FollowError::Lie(Lie::Missing { .. })), "{error}");
    let error = look_at_changed_lists(|list| list[0]["data"] = json!("AAAA")).await;
    assert!(matches!(error, FollowError::Lie(Lie::NoTransaction { .. })), "{error}");
}

#[tokio::test]
async fn a_doubled_list_and_made_up_fields_do_no_harm() {
    let world = World::new().await;
    for _gift in 0..4 {
        world.give(&ACCOUNT, 5_000_000);
    }
    world.meddle(|asked, mut answer| {
        if asked.method == "getTransactions" {
            let list = answer["result"].as_array_mut().unwrap();
            for transaction in list.iter_mut() {
                transaction["in_msg"]["value"] = json!("9999999999999");
                transaction["transaction_id"] = json!(null);
            }
            list.extend(list.clone());
        }
        Answer::Json(answer)
    });
    let came = all_news(&mut Follower::from_first(ACCOUNT), &world).await;
    assert_eq!(came.len(), 4);
    assert!(came.iter().all(|transaction| transaction.incoming.as_ref().unwrap().value().get() == 5_000_000));
}

#[tokio::test]
async fn a_server_that_falls_behind_is_told_from_one_that_lies() {
    let world = World::new().await;
    world.give(&ACCOUNT, 5_000_000);
    let mut follower = Follower::from_first(ACCOUNT);
    let stale = world.provider().account(&ACCOUNT).await.unwrap().last.unwrap();
    world.give(&ACCOUNT, 5_000_000);
    assert_eq!(all_news(&mut follower, &world).await.len(), 2);

    let state = |name: &'static str, value: Value| {
        move |asked: &crate::hostile::Asked, mut answer: Value| {
            if asked.method == "getAddressInformation" {
                answer["result"][name] = value.clone();
            }
            Answer::Json(answer)
        }
    };
    let id = |lt: String, hash: [u8; 32]| {
        use base64::Engine as _;
        json!({ "lt": lt, "hash": base64::engine::general_purpose::STANDARD.encode(hash) })
    };
    world.meddle(state("last_transaction_id", id(stale.lt.to_string(), *stale.hash.as_bytes())));
    let error = follower.look(&world.provider()).await.unwrap_err();
    assert!(matches!(error, FollowError::Stale { .. }), "{error}");
    world.meddle(state("last_transaction_id", id("0".to_owned(), [0; 32])));
    let error = follower.look(&world.provider()).await.unwrap_err();
    assert!(matches!(error, FollowError::Stale { known: 0, .. }), "{error}");
    let seen = follower.seen().unwrap();
    world.meddle(state("last_transaction_id", id(seen.lt.to_string(), [7; 32])));
    let error = follower.look(&world.provider()).await.unwrap_err();
    assert!(matches!(error, FollowError::Lie(Lie::Forked { .. })), "{error}");
    world.meddle(state("balance", json!("123456789")));
    let error = follower.look(&world.provider()).await.unwrap_err();
    assert!(matches!(error, FollowError::Lie(Lie::Changed { .. })), "{error}");
    world.be_honest();
    world.give(&ACCOUNT, 5_000_000);
    assert_eq!(all_news(&mut follower, &world).await.len(), 1);
}

/// Nobody can tell which of two answers was made up; whoever follows must not believe the first one for ever.
#[tokio::test]
async fn what_a_server_made_up_is_got_over() {
    let world = World::new().await;
    world.give(&ACCOUNT, 5_000_000);
    let mut follower = Follower::from_first(ACCOUNT);
    assert_eq!(all_news(&mut follower, &world).await.len(), 1);
    // A newest transaction that no server knows anything of.
    for refusal in [422, 500] {
        world.give(&ACCOUNT, 5_000_000);
        world.meddle(move |asked, mut answer| match asked.method.as_str() {
            "getTransactions" => Answer::Text(refusal, "{\"ok\":false,\"error\":\"unknown\"}".to_owned()),
            _ => {
                answer["result"]["last_transaction_id"]["hash"] =
                    json!("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=");
                Answer::Json(answer)
            }
        });
        follower.look(&world.provider()).await.unwrap_err();
        world.be_honest();
        assert_eq!(all_news(&mut follower, &world).await.len(), 1);
    }
    // A balance that comes with a true transaction.
    world.give(&ACCOUNT, 5_000_000);
    world.meddle(|_asked, mut answer| {
        if answer["result"]["balance"].is_string() {
            answer["result"]["balance"] = json!("123456789");
        }
        Answer::Json(answer)
    });
    assert_eq!(all_news(&mut follower, &world).await.len(), 1);
    world.be_honest();
    let mut told = 0;
    let balance = loop {
        match follower.look(&world.provider()).await {
            Ok(news) => break news.account.unwrap().balance,
            Err(FollowError::Lie(Lie::Changed { .. })) if told < 20 => told += 1,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(told > 0 && balance.get() < 20_000_001, "{told} {balance}");
    // One answer among true ones is never believed.
    let dice = std::sync::atomic::AtomicUsize::new(0);
    world.meddle(move |_asked, mut answer| {
        if dice.fetch_add(1, std::sync::atomic::Ordering::SeqCst).is_multiple_of(2) {
            answer["result"]["balance"] = json!("123456789");
        }
        Answer::Json(answer)
    });
    for _look in 0..50 {
        let looked = follower.look(&world.provider()).await;
        assert!(looked.is_err() || looked.unwrap().account.unwrap().balance == balance);
    }
}

/// Behind one address there are often several servers, some of them late.
#[tokio::test]
async fn a_state_of_the_past_is_asked_for_again_and_not_taken() {
    let world = World::new().await;
    let provider = world.provider();
    world.give(&ACCOUNT, 5_000_000);
    let old = std::sync::Mutex::new(None);
    let every = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(2));
    let asked_for = (std::sync::Arc::clone(&every), std::sync::atomic::AtomicUsize::new(0));
    world.meddle(move |_asked, answer| {
        let mut old = old.lock().unwrap();
        let (every, asked) = (&asked_for.0, &asked_for.1);
        let asked = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let first = old.get_or_insert_with(|| answer.clone());
        let is_old = asked % every.load(std::sync::atomic::Ordering::SeqCst) == 0;
        Answer::Json(if is_old { first.clone() } else { answer })
    });
    let balances = async || provider.account(&ACCOUNT).await.map(|account| account.balance.get());
    assert_eq!(balances().await.unwrap(), 5_000_000);
    for given in 2..6 {
        world.give(&ACCOUNT, 5_000_000);
        assert!(
            balances().await.unwrap() > given * 4_999_000,
            "the newest, every other time at the second attempt"
        );
    }
    // One that is late for good is told.
    every.store(1, std::sync::atomic::Ordering::SeqCst);
    world.questions();
    let error = provider.account(&ACCOUNT).await.unwrap_err();
    assert!(matches!(error, ProviderError::Old { .. }) && error.to_string().contains("behind"), "{error}");
    assert_eq!(world.questions(), 3);
    // Another account is as of the same block.
    world.be_honest();
    balances().await.unwrap();
    provider.account(&Address::new(0, [2; 32])).await.unwrap();
}

#[tokio::test]
async fn what_is_no_answer_is_named() {
    let world = World::new().await;
    let provider = world.provider();
    world.meddle(|_asked, _answer| Answer::Text(200, "<html>".to_owned()));
    let error = provider.account(&ACCOUNT).await.unwrap_err();
    assert!(matches!(error, ProviderError::Malformed { .. }), "{error}");
    world.questions();
    world.meddle(|_asked, _answer| Answer::Text(429, "{}".to_owned()));
    let error = provider.account(&ACCOUNT).await.unwrap_err();
    assert!(matches!(error, ProviderError::Busy { status: 429, .. }), "{error}");
    assert_eq!(world.questions(), 3, "what may pass is tried again");
    world.meddle(|_asked, _answer| Answer::Text(502, "Bad Gateway".to_owned()));
    let error = provider.account(&ACCOUNT).await.unwrap_err();
    assert!(matches!(error, ProviderError::Busy { status: 502, .. }), "{error}");
    world.meddle(|_asked, _answer| Answer::Text(200, "x".repeat((1 << 20) + 1)));
    let error = provider.account(&ACCOUNT).await.unwrap_err();
    assert!(matches!(error, ProviderError::TooLong { .. }), "{error}");
    world.meddle(|_asked, _answer| Answer::Cut);
    let error = provider.account(&ACCOUNT).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unreachable { .. }), "{error}");
    world.questions();
    world.meddle(|_asked, _answer| {
        Answer::Json(json!({ "ok": false, "error": "no\nsuch thing", "code": 422 }))
    });
    let error = provider.account(&ACCOUNT).await.unwrap_err();
    assert!(error.to_string().contains("no such thing") && error.to_string().contains("422"), "{error}");
    assert_eq!(world.questions(), 1, "a refusal stays one");
    world.meddle(|_asked, _answer| Answer::Never);
    let error = world.hasty_provider().account(&ACCOUNT).await.unwrap_err();
    assert!(matches!(error, ProviderError::Late { .. }), "{error}");
    world.be_honest();
    provider.account(&ACCOUNT).await.unwrap();
}

#[tokio::test]
async fn answers_that_are_too_long_are_asked_for_in_smaller_parts() {
    let world = World::new().await;
    for _gift in 0..9 {
        world.give(&ACCOUNT, 5_000_000);
    }
    world.meddle(|asked, answer| {
        let is_long = answer["result"].as_array().is_some_and(|list| list.len() > 2);
        assert!(asked.params["address"].is_string());
        if is_long { Answer::Text(200, "x".repeat((1 << 20) + 1)) } else { Answer::Json(answer) }
    });
    assert_eq!(all_news(&mut Follower::from_first(ACCOUNT), &world).await.len(), 9);
}
