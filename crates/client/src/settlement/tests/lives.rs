//! Whole lives at random.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Event {
    Use { tokens: u64, signed: bool },
    Register(u64),
    Forget(u64),
    Ask(Wish),
    Outdated,
    Grant,
    TakesDeposits(bool),
    Secret,
    Give(u64),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..TON / PRICE, any::<bool>()).prop_map(|(tokens, signed)| Event::Use { tokens, signed }),
        2 => (0..4_u64).prop_map(Event::Register),
        1 => (0..4_u64).prop_map(Event::Forget),
        2 => Just(Event::Ask(Wish::Withdraw)),
        2 => (0..20 * TON).prop_map(|nanotons| Event::Ask(Wish::Deposit(NanoTon::new(nanotons)))),
        1 => Just(Event::Ask(Wish::Close)),
        1 => Just(Event::Outdated),
        1 => Just(Event::Grant),
        2 => any::<bool>().prop_map(Event::TakesDeposits),
        1 => Just(Event::Secret),
        2 => (0..20 * TON).prop_map(Event::Give),
        6 => (0..600_u64).prop_map(Event::Pass),
    ]
}

proptest! {
    /// Whatever happens: money is where it should be, the wallet is never stuck, and the owner gets out.
    #[test]
    fn any_life_ends_with_the_money_back(events in prop::collection::vec(event(), 0..60)) {
        let mut world = World::new();
        let mut given = world.wallet;
        let mut used = 0;
        world.settlement.want(world.now);
        world.settle();
        for event in events {
            match event {
                Event::Use { tokens, signed } => {
                    // A proxy serves what is paid in, and no more than the stake beyond the last charge.
                    let (balance, landed) = world.contract.as_ref().map_or((0, 0), |data| (data.balance.get(), data.tokens_used.get()));
                    let room = (balance.min(TON) / PRICE).saturating_sub(used - landed);
                    used += tokens.min(room);
                    world.uses(used, if signed { used } else { 0 });
                }
                Event::Register(nonce) => world.settlement.register(nonce, world.now),
                Event::Forget(nonce) => world.settlement.forget(nonce),
                Event::Ask(wish) => {
                    // What is said before is what is done.
                    let planned = world.settlement.plan(wish);
                    prop_assert_eq!(world.settlement.ask(wish, world.now), planned);
                }
                Event::Outdated => world.settlement.outdated(world.now),
                Event::Grant => {
                    if world.contract.as_ref().is_some_and(|data| data.state == ContractState::Closing) {
                        world.grant();
                    }
                }
                Event::TakesDeposits(takes) => world.takes_deposits = takes,
                Event::Secret => {
                    if let Some(data) = &mut world.contract {
                        data.secret_hash = [0x55; 32];
                    }
                }
                Event::Give(more) => {
                    given += more;
                    world.wallet += more;
                    world.settlement.wallet(NanoTon::new(world.wallet), world.now);
                }
                Event::Pass(seconds) => world.pass(seconds),
            }
            world.settle();
            let in_contract = world.contract.as_ref().map_or(0, |data| data.balance.get());
            let charged = world.contract.as_ref().map_or(0, |data| data.tokens_used.get()) * PRICE;
            prop_assert_eq!(world.wallet + in_contract + charged, given);
        }
        if world.contract.is_some() {
            let _closing_already = world.settlement.ask(Wish::Close, world.now);
            world.pass(3 * 3600);
            prop_assert_eq!(world.data().state, ContractState::Closed);
            prop_assert!(world.settlement.is_finished(world.now + REMEMBERED_FOR));
            prop_assert_eq!(world.wallet + world.data().tokens_used.get() * PRICE, given);
            prop_assert_eq!(world.settlement.poll_timeout(world.now), None);
        }
    }
}
