//! Roles that die at the worst moments: real processes on real sockets, ended as `kill -9` ends them.
//!
//! Client, proxy and worker run in processes of their own, which are this test program started again with one test
//! ([`roles::role_process`]). After each death the role is started again on its state folder, and the books of all
//! three are held against each other: no token is doubled, what clients were charged is what workers earned, nothing
//! is held for requests that are over, nobody was promised more than the proxy remembers.
//!
//! With a chain ([`on_chain`]) they pay each other besides, on a devnet in this process, and everybody leaves at last.
//!
//! `COCOON_KILL_RUNS` sets the number of random moments (`cargo xtask test --long` wants 200), `COCOON_KILL_SEED`
//! repeats those of an earlier run.
#![cfg(test)]

mod chain;
mod engine;
mod forwarder;
mod money;
mod network;
mod on_chain;
mod roles;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use network::Network;
use roles::Kind;

/// Random moments in the quick tier, and from how many on every place is tried more than once.
const RUNS: u64 = 6;

/// A number that the caller sets.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// What random moments follow from, printed so that they can be had again.
fn seed() -> u64 {
    let seed = number("COCOON_KILL_SEED").unwrap_or_else(|| rand::rng().random());
    println!("COCOON_KILL_SEED={seed} repeats this, as far as the machine lets it");
    seed
}

/// How often a place is passed before the process dies there: at the beginning, in the middle of business, and later.
/// Only a long test tries all three.
type Passed = [u32; 3];

fn passed([first, middle, late]: Passed) -> Vec<u32> {
    if is_long() {
        let mut passed = vec![first, middle, late];
        passed.dedup();
        passed
    } else {
        vec![middle]
    }
}

fn is_long() -> bool {
    number("COCOON_KILL_RUNS").is_some_and(|runs| runs > RUNS)
}

/// Lets a role die at each of these places, in the middle of business, and the books agree after each death.
fn dies_at(network: &mut Network, kind: Kind, places: &[(&str, Passed)]) {
    for (place, times) in places {
        for passed in passed(*times) {
            network.restart(kind, &format!("{place}={passed}*off->return(abort)"));
            network.load_until_death(kind, place);
            network.check_after_restart(&format!("{kind:?} died at {place} after {passed}"));
        }
    }
}

#[test]
fn a_proxy_that_dies_at_any_named_place_owes_what_it_signed() {
    let mut network = Network::new();
    // Handshakes answer queries and have payments signed; each request has commits and messages.
    let places = [
        ("journal-write", [0, 17, 100]),
        ("journal-written", [0, 17, 100]),
        ("journal-synced", [0, 17, 100]),
        ("link-send", [0, 100, 1000]),
        ("payment-sign", [0, 3, 18]),
        ("link-answer", [0, 3, 5]),
    ];
    dies_at(&mut network, Kind::Proxy, &places);
}

#[test]
fn a_client_that_dies_at_any_named_place_is_charged_for_what_it_got() {
    let mut network = Network::new();
    network.check_after_restart("nothing happened");
    let places = [
        // Two for the handshake, one for the models; the next comes after ten seconds.
        ("client-query", [0, 2, 3]),
        ("client-request", [0, 17, 100]),
        ("client-part", [0, 12, 70]),
        ("client-cancel", [0, 3, 18]),
        ("client-payment", [0, 9, 50]),
        ("state-write", [0, 0, 1]),
        ("state-written", [0, 0, 1]),
        ("state-replaced", [0, 0, 1]),
    ];
    dies_at(&mut network, Kind::Client, &places);
    network.asks_at_length = true;
    dies_at(&mut network, Kind::Client, &[("client-credit", [0, 2, 12])]);
}

#[test]
fn a_worker_that_dies_at_any_named_place_earns_what_it_delivered() {
    let mut network = Network::new();
    network.check_after_restart("nothing happened");
    let places = [
        ("worker-query", [0, 2, 3]),
        ("worker-announce", [0, 1, 6]),
        ("worker-answer", [0, 17, 100]),
        ("worker-end", [0, 17, 100]),
        ("worker-credit", [0, 2, 12]),
        ("worker-payment", [0, 9, 50]),
        ("state-write", [0, 0, 1]),
        ("state-written", [0, 0, 1]),
        ("state-replaced", [0, 0, 1]),
    ];
    dies_at(&mut network, Kind::Worker, &places);
}

/// Segments of a few commits, so that they are closed and folded all the time.
#[test]
fn a_proxy_that_dies_while_it_tidies_its_journal_loses_none_of_it() {
    let mut network = Network::new();
    network.proxy_points = "segment-len=return(2000)".to_owned();
    dies_at(
        &mut network,
        Kind::Proxy,
        &["segment-begin", "snapshot-write", "books-remove"].map(|place| (place, [0, 3, 18])),
    );
}

#[test]
fn a_proxy_that_dies_while_it_mends_its_journal_mends_it_the_next_time() {
    let mut network = Network::new();
    network.check_after_restart("nothing happened");
    network.stop_proxy();
    network.leave_unfinished_commit();
    network.start_proxy_expecting_death("segment-cut=return(abort)");
    network.check_after_restart("died while cutting");
}

#[test]
fn a_disk_that_refuses_stops_new_requests_until_it_works() {
    let mut network = Network::new();
    network.restart(Kind::Proxy, "journal-write=3*off->2*return(full)->off");
    let refused = network.load_through_a_stuck_journal();
    assert!(refused > 0, "requests were refused while the disk refused");
    network.check_after_restart("the disk was full");
}

#[test]
fn roles_that_die_at_any_moment_agree_afterwards() {
    kill_at_random(&mut Network::new(), RUNS, Duration::from_millis(400));
}

/// Kills roles at random moments of work that takes about `within`, `runs` of them where the caller's environment names
/// no other number, and checks after each that nothing is lost.
fn kill_at_random(network: &mut Network, runs: u64, within: Duration) {
    let runs = number("COCOON_KILL_RUNS").unwrap_or(runs);
    let mut random = StdRng::seed_from_u64(seed());
    network.proxy_points = "segment-len=return(20000)".to_owned();
    for run in 0..runs {
        let victim = match random.random_range(0..10) {
            0..6 => Kind::Proxy,
            6..8 => Kind::Client,
            _ => Kind::Worker,
        };
        let moment = random.random_range(Duration::ZERO..within);
        network.load_and_kill(victim, moment);
        network.check_after_restart(&format!("run {run}: {victim:?} killed after {moment:?}"));
    }
}
