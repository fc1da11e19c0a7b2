//! The same with money: everything is paid on a devnet with the real contracts, and at last everybody leaves with what
//! is his, to the nanoton.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::forwarder::{Lie, Mischief};
use crate::network::Network;
use crate::roles::Kind;
use crate::{Passed, dies_at, is_long, kill_at_random, number, seed};

/// Random moments in the quick tier.
const RUNS: u64 = 3;

/// The places of every role's node wallet.
const OF_WALLET: [&str; 6] =
    ["orders-write", "orders-written", "orders-kept", "order-hand-in", "order-handed-in", "order-found"];

/// All of them, passed so often.
fn of_wallet(passed: Passed) -> [(&'static str, Passed); 6] {
    OF_WALLET.map(|place| (place, passed))
}

#[test]
fn a_proxy_that_dies_at_any_place_of_the_chain_pays_everybody_once() {
    let mut network = Network::on_chain();
    let own = [
        ("anchor-begin", [0, 2, 6]),
        ("order-sign", [0, 2, 6]),
        ("order-send", [0, 3, 9]),
        ("order-ended", [0, 3, 9]),
    ];
    dies_at(&mut network, Kind::Proxy, &own);
    dies_at(&mut network, Kind::Proxy, &of_wallet([0, 2, 7]));
    let leaving =
        ["order-sign", "order-send", "order-hand-in", "order-handed-in", "order-found", "order-ended"];
    network.leave(Kind::Proxy, &leaving);
}

#[test]
fn a_client_that_dies_at_any_place_of_the_chain_gets_back_what_it_has_not_used() {
    let mut network = Network::on_chain();
    let own = [("client-order", [0, 0, 1]), ("client-order-ended", [0, 0, 1])];
    dies_at(&mut network, Kind::Client, &own);
    if is_long() {
        dies_at(&mut network, Kind::Client, &of_wallet([0, 0, 3]));
    }
    network.leave(Kind::Client, &["client-order", "order-hand-in", "order-handed-in", "order-found"]);
}

#[test]
fn a_worker_that_dies_at_any_place_of_the_chain_is_paid_once() {
    let mut network = Network::on_chain();
    dies_at(&mut network, Kind::Worker, &[("worker-order", [0, 0, 1]), ("worker-order-ended", [0, 0, 1])]);
    if is_long() {
        dies_at(&mut network, Kind::Worker, &of_wallet([0, 0, 1]));
    }
    network.leave(Kind::Worker, &[]);
}

/// Another process finds a contract that the one before had begun to leave.
#[test]
fn a_proxy_that_dies_while_it_leaves_a_contract_leaves_nobody_in_it() {
    let mut network = Network::on_chain();
    network.load(|| std::thread::sleep(Duration::from_secs(2)));
    network.check_after_restart("nothing happened yet");
    network.outlive_contract(&[
        "order-sign",
        "order-send",
        "order-hand-in",
        "order-handed-in",
        "order-found",
    ]);
}

/// His contract would cost more than he has earned.
#[test]
fn what_is_not_worth_its_gas_is_kept_for_the_worker() {
    let mut network = Network::on_chain();
    network.check_after_restart("a few answers");
    network.leave(Kind::Worker, &[]);
}

#[test]
fn roles_that_die_at_any_moment_are_paid_on_the_chain() {
    let mut network = Network::on_chain();
    kill_at_random(&mut network, RUNS, Duration::from_secs(1));
    network.leave(Kind::Worker, &[]);
}

const ROLES: [Kind; 3] = [Kind::Client, Kind::Proxy, Kind::Worker];

/// What is sent is lost, arrives twice or much later, answers are late, lost, or of the past; one role dies in the middle.
#[test]
fn a_chain_that_is_heard_through_a_storm_loses_nobodys_money() {
    let runs = number("COCOON_KILL_RUNS").unwrap_or(RUNS).div_ceil(3);
    let mut random = StdRng::seed_from_u64(seed());
    let mut network = Network::on_chain();
    for run in 0..runs {
        for kind in ROLES {
            network.server(kind).set(Mischief::storm(random.random()));
        }
        let moment = Duration::from_millis(random.random_range(500..4000));
        let victim = ROLES[random.random_range(0..3)];
        network.load_and_kill(victim, moment);
        network.restart(victim, "");
        network.load(|| std::thread::sleep(moment));
        let heard: usize = ROLES.map(|kind| network.server(kind).set(Mischief::None)).iter().sum();
        assert!(heard > 0, "nobody has heard a storm");
        network.check_after_restart(&format!("storm {run}, {victim:?} killed after {moment:?}"));
    }
    for kind in ROLES {
        network.server(kind).set(Mischief::storm(random.random()));
    }
    network.leave(Kind::Proxy, &[]);
}

/// Lies that [`chain`] notices, and tells its callers of.
const LIES_NOTICED: usize = 4;

/// The name of a lie, and how an answer becomes one.
type Named = (&'static str, fn(&Network) -> Lie);

/// What a server may say that is not so.
fn lies() -> Vec<Named> {
    vec![
        ("the newest transaction is missing", |_| {
            Box::new(|method, _, answer| {
                if let ("getTransactions", Some(list)) = (method, answer["result"].as_array_mut()) {
                    drop(list.drain(..1.min(list.len())));
                }
            })
        }),
        ("transactions are in another order", |_| {
            Box::new(|method, _, answer| {
                if let ("getTransactions", Some(list)) = (method, answer["result"].as_array_mut()) {
                    list.reverse();
                }
            })
        }),
        ("balances are invented", |_| {
            Box::new(|method, _, answer| {
                if method == "getAddressInformation" {
                    answer["result"]["balance"] = json!("123456789000000000");
                }
            })
        }),
        ("a transaction is invented", |_| {
            Box::new(|method, _, answer| {
                if method == "getAddressInformation" {
                    answer["result"]["last_transaction_id"]["hash"] = json!(STANDARD.encode([7; 32]));
                }
            })
        }),
        ("the state of every account is an old one", |_| {
            let mut first = BTreeMap::<String, Value>::new();
            Box::new(move |method, params, answer| {
                if method == "getAddressInformation" {
                    let old = first.entry(params["address"].to_string()).or_insert_with(|| answer.clone());
                    // Its block is said to be the newest one.
                    for name in ["balance", "state", "code", "data", "last_transaction_id"] {
                        answer["result"][name] = old["result"][name].clone();
                    }
                }
            })
        }),
        ("what is in the contracts is invented", |network| {
            let [client, worker] = network.invented();
            Box::new(move |method, params, answer| {
                for (address, data) in [&client, &worker] {
                    if method == "getAddressInformation" && params["address"] == *address {
                        answer["result"]["state"] = json!("active");
                        answer["result"]["data"] = json!(data);
                    }
                }
            })
        }),
    ]
}

/// All roles are lied to, and go on when it is over: with what is true, and with nothing lost.
#[test]
fn a_server_that_lies_about_accounts_takes_nothing_from_anybody() {
    let mut network = Network::on_chain();
    network.load_until_paid();
    let mut lies = lies();
    if !is_long() {
        eprintln!(
            "{LIES_NOTICED} lies that roles notice are for the long tier; what none can notice is always tried"
        );
        lies.drain(..LIES_NOTICED);
    }
    for (what, lie) in lies {
        for kind in ROLES {
            network.server(kind).set(Mischief::Lies(lie(&network)));
        }
        network.load(|| {
            // On a machine that is short of time, nobody may have asked by then.
            for _ in 0..60 {
                std::thread::sleep(Duration::from_secs(2));
                if ROLES.iter().any(|kind| network.server(*kind).done() > 0) {
                    break;
                }
            }
        });
        let told: usize = ROLES.map(|kind| network.server(kind).set(Mischief::None)).iter().sum();
        assert!(told > 0, "nobody was told that {what}");
        network.check_after_restart(what);
    }
    network.leave(Kind::Proxy, &[]);
}
