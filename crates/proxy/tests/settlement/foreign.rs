//! Books that are older than the chain, or not the only ones.

use cocoon_proxy::settlement::{Duty, Foreign, Policy, Unready};
use ledger::{Anchor, Party};
use ton::Address;
use units::NanoTon;

use crate::world::{World, owner, tons};

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
