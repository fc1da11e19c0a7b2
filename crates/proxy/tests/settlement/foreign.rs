//! Books that are older than the chain, or not the only ones.

use cocoon_proxy::settlement::{Duty, Foreign, Policy, Unready};
use ledger::{Anchor, Party};
use ton::Address;
use ton::states::{ClientData, ContractState, WorkerData};
use units::NanoTon;

use crate::world::{PRICE, TON, World, client_data, data, owner, paid_out, tokens, tons};

const WORKER: u8 = 60;

/// A proxy that has anchored twice; its journal as it was before the second time.
fn anchored_twice() -> (World, World) {
    let policy = Policy::default();
    let mut worlds = [1, 2].map(|anchors| {
        let (mut world, client) = World::in_business(policy, tons(50));
        for _ in 0..anchors {
            world.work(client.address, owner(WORKER), 26_000_000);
            world.settle();
        }
        assert_eq!(world.done(|duty| matches!(duty, Duty::Anchor(_))), anchors);
        world
    });
    // Both lives are the same up to the first anchor, since nothing here is random.
    worlds.swap(0, 1);
    let [new, old] = worlds;
    (new, old)
}

fn orders(world: &World) -> usize {
    world.log.len() + world.duties.len()
}

#[test]
fn a_disk_put_back_is_noticed_at_the_start_and_signs_nothing() {
    let (mut world, old) = anchored_twice();
    world.take_journal(&old);
    world.restart(Policy::default(), 0);
    let before = orders(&world);
    world.settle();
    let unready = world.settlement.unready(&world.books, world.now).unwrap();
    let Unready::Foreign(foreign) = unready else { panic!("{unready}") };
    assert!(unready.to_string().contains(&format!("accept_chain_lt = {}", foreign.lt().get())), "{unready}");
    assert_eq!(orders(&world), before);
    // Starting again changes nothing.
    world.restart(Policy::default(), 0);
    world.settle();
    assert_eq!(world.settlement.unready(&world.books, world.now), Some(unready));

    // The operator has nothing better, and says so; then once more for what came after.
    let mut accepted = foreign.lt();
    for _ in 0..10 {
        world.restart(Policy::default(), accepted.get());
        world.settle();
        match world.settlement.unready(&world.books, world.now) {
            Some(Unready::Foreign(foreign)) => {
                assert!(foreign.lt() > accepted);
                accepted = foreign.lt();
            }
            unready => {
                assert_eq!(unready, None);
                return;
            }
        }
    }
    panic!("locked out");
}

#[test]
fn the_newest_books_are_never_refused() {
    let (mut world, client) = World::in_business(Policy::default(), tons(50));
    for round in 0..60 {
        world.work(client.address, owner(WORKER), 9_000_000);
        world.step();
        if round % 3 == 0 {
            world.restart(Policy::default(), 0);
        }
        let unready = world.settlement.unready(&world.books, world.now);
        assert!(!matches!(unready, Some(Unready::Foreign(_))), "round {round}: {unready:?}");
    }
    world.settle();
    assert_eq!(world.settlement.unready(&world.books, world.now), None);
}

#[test]
fn a_copy_at_work_is_noticed_while_both_run() {
    let (mut world, client) = World::in_business(Policy::default(), tons(5));
    let copied = Anchor { number: 1, hash: [99; 32] };
    let before = orders(&world);
    world.wallet_sends(Duty::Anchor(copied));
    world.settle();
    let unready = world.settlement.unready(&world.books, world.now).unwrap();
    assert!(
        matches!(unready, Unready::Foreign(Foreign::Anchor { anchor, .. }) if anchor == copied),
        "{unready}"
    );
    world.work(client.address, owner(WORKER), 30_000_000);
    world.settle();
    assert_eq!(orders(&world), before, "nothing is signed any more");
    assert_eq!(world.settlement.poll_timeout(), None);
    assert_eq!(world.settlement.foreign().map(|foreign| foreign.lt()), {
        let Unready::Foreign(foreign) = unready else { panic!("{unready}") };
        Some(foreign.lt())
    });
    // A contract that closes says it too: nobody would look for it otherwise.
    assert_eq!(world.settlement.trouble(&world.books, world.now), Some(unready));
}

#[test]
fn a_total_that_the_books_do_not_know_is_noticed() {
    let (mut world, client) = World::in_business(Policy::default(), tons(5));
    world.wallet_sends(Duty::Charge { client: client.address, tokens: crate::world::tokens(1000) });
    world.settle();
    let unready = world.settlement.unready(&world.books, world.now).unwrap();
    let is_it = matches!(
        unready,
        Unready::Foreign(Foreign::Total { party: Party::Client(found), .. }) if found == client.address
    );
    assert!(is_it, "{unready}");
}

/// A server can say anything about a contract: nobody may spend more than transactions have shown, nobody is shut out,
/// and nobody who leaves comes back.
#[test]
fn what_a_server_invents_about_contracts_is_worth_nothing() {
    let (mut world, client) =
        World::in_business(Policy { payout_at: tons(1), ..Policy::default() }, tons(50));
    assert_eq!(world.work(client.address, owner(WORKER), 100_000_000), 0, "beyond the stake");
    for _ in 0..4 {
        assert_eq!(world.work(client.address, owner(WORKER), 40_000_000), 40_000_000);
        world.settle();
    }
    let known = (
        world.books.client_contract(client.address).unwrap(),
        world.books.worker_contract(owner(WORKER)).unwrap(),
    );
    let of_client = client_data(&world.chain, &world.client_contract(&client)).unwrap();
    let desk = world.settlement.desk();
    let of_worker = data(&world.chain, &desk.contract_of(Party::Worker(owner(WORKER)))).unwrap();
    let of_worker = WorkerData::from_cell(&of_worker).unwrap();
    let used = world.books.client(client.address).unwrap().used;
    assert!(known.1.paid > tokens(0) && known.1.paid < used);
    for (state, balance, tokens_used) in [
        (ContractState::Normal, tons(1000), of_client.tokens_used),
        (ContractState::Normal, NanoTon::ZERO, of_client.tokens_used),
        (ContractState::Normal, tons(1000), used),
        (ContractState::Closed, NanoTon::ZERO, used),
    ] {
        let told = ClientData { state, balance, stake: balance, tokens_used, ..of_client.clone() };
        world.settlement.looked_at_client(
            &mut world.books,
            client.address,
            Some(&told),
            world.now.unix,
            world.now,
        );
        let told = WorkerData { state, tokens: used, ..of_worker.clone() };
        world.settlement.looked_at_worker(
            &mut world.books,
            owner(WORKER),
            Some(&told),
            world.now.unix,
            world.now,
        );
        let now = (
            world.books.client_contract(client.address).unwrap(),
            world.books.worker_contract(owner(WORKER)).unwrap(),
        );
        assert_eq!(now, known, "{state:?} {balance} {tokens_used}");
    }

    world.refund(&client);
    world.until("it leaves", |world| {
        world.books.client_contract(client.address).unwrap().state != ContractState::Normal
    });
    world.settlement.looked_at_client(
        &mut world.books,
        client.address,
        Some(&of_client),
        world.now.unix,
        world.now,
    );
    assert_eq!(world.work(client.address, owner(WORKER), 1), 0);
    world.settle();
    let own = world.settlement.desk().contract();
    assert_eq!(paid_out(&world.chain, &client.address, &own), 50 * TON - 160_000_000 * PRICE);
    world.settlement.begin_close(&world.books);
    world.settle();
    assert_eq!(paid_out(&world.chain, &owner(WORKER), &own), 160_000_000 * PRICE / 2);
}

/// Anybody may send a note to the contract.
#[test]
fn what_strangers_send_changes_nothing() {
    let (mut world, client) = World::in_business(Policy::default(), tons(5));
    let stranger = world.rich(77);
    let books = world.books.client_contract(client.address);
    let ignored = world.settlement.ignored();
    for body in world.forgeries(client.address) {
        world.stranger_sends(&stranger, NanoTon::new(200_000_000), body);
        world.settle();
    }
    assert_eq!(world.settlement.unready(&world.books, world.now), None);
    assert_eq!(world.books.client_contract(client.address), books);
    assert_eq!(world.books.client_contract(stranger.address), None);
    assert_eq!(world.settlement.ignored(), ignored + 2);
    assert_eq!(world.registered, Vec::<(Address, u64)>::new());
}
