//! Whole lives at random: clients that come, pay, ask and leave, workers that earn, a proxy that crashes, orders that are
//! lost, a chain that is heard late.

use std::collections::BTreeMap;
use std::time::Duration;

use cocoon_proxy::settlement::{Duty, OrderEnd, Policy, Unready};
use ledger::Party;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use ton::messages::ClientMessage;
use ton::states::ContractState;
use units::NanoTon;

use crate::world::{CLIENT_DELAY, PRICE, PROXY_DELAY, Wallet, World, client_data, owner, paid_out};

/// Lives in the quick tier; `COCOON_SETTLEMENT_LIVES` sets another number, `COCOON_SETTLEMENT_SEED` the first.
const LIVES: u64 = 6;
const STEPS: usize = 120;
const WORKERS: [u8; 3] = [60, 61, 62];
/// What is left alone because it is worth less than its gas.
const LEFT_MAX: u64 = 15_000_000;
/// No contract of a worker is made for less.
const DUST_MAX: u64 = 50_000_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn everybody_gets_what_is_his_and_nobody_twice() {
    let first = number("COCOON_SETTLEMENT_SEED").unwrap_or(0);
    let mut done = BTreeMap::<&str, usize>::new();
    for seed in first..first + number("COCOON_SETTLEMENT_LIVES").unwrap_or(LIVES) {
        for (duty, end) in live(seed) {
            let how = match end {
                OrderEnd::Done { .. } => duty.name(),
                OrderEnd::Refused { .. } => "refused",
                OrderEnd::NotSent => "not sent",
            };
            *done.entry(how).or_default() += 1;
        }
    }
    // A life in which nothing happens would prove nothing.
    let all = [
        "deploy",
        "raise stake",
        "anchor",
        "charge",
        "refund",
        "payout",
        "last payout",
        "withdraw",
        "close",
        "complete close",
        "not sent",
    ];
    println!("{done:?}");
    if number("COCOON_SETTLEMENT_LIVES").is_none() {
        assert_eq!(
            all.iter().filter(|duty| !done.contains_key(**duty)).collect::<Vec<_>>(),
            Vec::<&&str>::new()
        );
    }
}

struct Client {
    wallet: Wallet,
    paid_in: u64,
    /// The proxy could not answer while it left: what it had not been charged for may be lost.
    may_lose: bool,
}

fn live(seed: u64) -> Vec<(Duty, OrderEnd)> {
    let random = &mut StdRng::seed_from_u64(seed);
    let policy = Policy {
        payout_at: NanoTon::new(random.random_range(1..800) * 1_000_000),
        charge_at: NanoTon::new(random.random_range(1..1000) * 1_000_000),
        withdraw_at: NanoTon::new(random.random_range(1..500) * 1_000_000),
        at_risk_max: NanoTon::new(random.random_range(10..1500) * 1_000_000),
    };
    let mut world = World::with(policy);
    let mut clients: Vec<_> =
        (50..54).map(|number| Client { wallet: world.rich(number), paid_in: 0, may_lose: false }).collect();
    world.until("deployed", |world| world.settlement.unready(&world.books, world.now).is_none());
    for _ in 0..STEPS {
        let client = &mut clients[random.random_range(0..4)];
        match random.random_range(0..100) {
            0..10 if world.is_idle() => {
                let amount = random.random_range(100..4000) * 1_000_000;
                world.top_up(&client.wallet, NanoTon::new(amount));
            }
            10..13 if world.is_idle() => world.try_refund(&client.wallet),
            13..15 if world.is_idle() => {
                let body = ClientMessage::Withdraw { query_id: 5, excess: client.wallet.address };
                world.try_send(&client.wallet, &body);
            }
            15..19 => world.restart(policy, 0),
            19..22 => world.losses = random.random_range(0..3),
            22..25 => world.is_deaf = !world.is_deaf,
            25..28 => world.is_disk_fast = !world.is_disk_fast,
            28..30 => world.tell_again(),
            30..32 => world.settlement.demand(Party::Worker(owner(WORKERS[0]))),
            // The client lands the order itself, perhaps together with us.
            32..36 if world.is_idle() => world.client_lands_its_charge(&client.wallet),
            // Nobody answers for a whole delay.
            36..37 if world.is_idle() => {
                world.is_deaf = true;
                world.try_refund(&client.wallet);
                world.pass(Duration::from_secs(2));
                world.pass(Duration::from_secs(CLIENT_DELAY));
                world.try_refund(&client.wallet);
                world.pass(Duration::from_secs(2));
                world.is_deaf = false;
                client.may_lose = true;
            }
            37..39 => world.pass(Duration::from_secs(random.random_range(1..CLIENT_DELAY))),
            _ => {
                let worker = owner(WORKERS[random.random_range(0..3)]);
                let count = random.random_range(1..20_000_000);
                // Whoever is not up to date with the chain runs nothing.
                if world.settlement.unready(&world.books, world.now).is_none() {
                    world.work(client.wallet.address, worker, count);
                }
            }
        }
        world.step();
        check(&world, &mut clients, seed);
    }
    // The end: all that was recorded becomes durable, all orders arrive, everybody leaves.
    (world.is_deaf, world.is_disk_fast, world.losses) = (false, true, 0);
    world.settle();
    world.settlement.begin_close(&world.books);
    world.until("closing", |world| world.own().state == ContractState::Closing);
    world.pass(Duration::from_secs(PROXY_DELAY));
    world.until(&format!("ended, seed {seed}"), |world| world.has_ended);
    check(&world, &mut clients, seed);
    let own = world.settlement.desk().contract();
    for client in clients.iter().filter(|client| !client.may_lose) {
        let used = world.books.client(client.wallet.address).map_or(0, |limits| limits.used.get());
        let back = paid_out(&world.chain, &client.wallet.address, &own);
        let left = client.paid_in - back - used * PRICE;
        assert!(left < LEFT_MAX, "seed {seed}: {left} nanotons of a client stay behind");
    }
    for worker in WORKERS.map(owner) {
        let earned = world.books.worker(worker).map_or(0, |totals| totals.earned.get());
        let (paid, has_contract) = (paid_out(&world.chain, &worker, &own), world.has_worker_contract(worker));
        let is_dust = !has_contract && earned * PRICE / 2 < DUST_MAX;
        assert_eq!(paid, if is_dust { 0 } else { earned * PRICE / 2 }, "seed {seed}");
    }
    assert_eq!(world.own().state, ContractState::Closed);
    assert_eq!(world.books.audit(), Ok(()));
    world.log.into_iter().filter_map(|(duty, end)| Some((duty, end?))).collect()
}

/// What must hold at any moment.
fn check(world: &World, clients: &mut [Client], seed: u64) {
    let unready = world.settlement.unready(&world.books, world.now);
    assert!(!matches!(unready, Some(Unready::Foreign(_))), "seed {seed}: {unready:?}");
    let own = world.settlement.desk().contract();
    for client in clients {
        // Everything that the contract ever counted in: what it has, what it was charged, what it gave back.
        let Some(data) = client_data(&world.chain, &world.client_contract(&client.wallet)) else { continue };
        let back = paid_out(&world.chain, &client.wallet.address, &own);
        if world.chain.due().is_none() {
            client.paid_in = data.balance.get() + data.tokens_used.get() * PRICE + back;
        }
        client.may_lose |= data.state == ContractState::Closing && (world.is_deaf || !world.is_disk_fast);
        let Some(limits) = world.books.client(client.wallet.address) else { continue };
        assert!(
            data.tokens_used <= limits.used,
            "seed {seed}: {} charged, {} used",
            data.tokens_used,
            limits.used
        );
        // Charging more than a contract can cover never happens.
        let owed = (limits.used.get() - data.tokens_used.get()) * PRICE;
        let covered = data.balance.get();
        assert!(
            owed <= covered.max(LEFT_MAX) || client.may_lose || world.chain.due().is_some(),
            "seed {seed}: {owed} owed, {covered} there, {:?}",
            data.state
        );
    }
    for worker in WORKERS.map(owner) {
        let earned = world.books.worker(worker).map_or(0, |totals| totals.earned.get());
        assert!(paid_out(&world.chain, &worker, &own) <= earned * PRICE / 2, "seed {seed}: paid twice");
    }
}
