//! What a proxy, or a server of the chain, can make a client pay.

use super::*;

/// The proxy's key has everything charged, whatever was used.
fn drain(world: &mut World) {
    let data = world.contract.as_mut().unwrap();
    let tokens = data.tokens_used.get() + data.balance.get() / PRICE;
    let _nothing_left = world.charge(tokens);
    world.settlement.looked(world.contract.clone(), WORKS, world.now);
    world.settle();
}

fn paid_in(world: &World) -> u64 {
    world.sent.iter().map(|duty| duty.amount().get()).sum()
}

#[test]
fn a_proxy_that_charges_what_nobody_asked_for_is_left() {
    let mut world = World::open();
    // As much as the stake may have been used before this life, for all we know.
    drain(&mut world);
    assert_eq!((paid_in(&world), world.settlement.view().held), (TON, None));
    drain(&mut world);
    assert_eq!(world.sent.last(), Some(&Duty::RequestRefund));
    assert!(world.settlement.is_overcharged() && world.settlement.view().held.is_some());
    world.pass(24 * 3600);
    assert_eq!(paid_in(&world), TON);
}

#[test]
fn a_proxy_that_charges_what_was_asked_for_is_not() {
    let mut world = World::open();
    for used in (1..=20).map(|stakes| stakes * (TON / PRICE)) {
        world.uses(used, used);
        world.pass(60);
    }
    assert!(!world.settlement.is_overcharged());
    assert_eq!(world.settlement.view().stage, Stage::Open);
}

#[test]
fn what_a_proxy_says_was_used_is_believed_as_far_as_it_can_be() {
    let mut world = World::open();
    world.settlement.used(
        AdjustedTokens::new(i64::MAX.cast_unsigned()),
        Some(charge(i64::MAX.cast_unsigned())),
        world.now,
    );
    world.pass(24 * 3600);
    // The stake, and ten minutes of using it up in one.
    assert!(world.data().balance.get() <= 12 * TON, "{}", world.data().balance);
    assert!(!world.sent.iter().any(|duty| matches!(duty, Duty::Charge(_))), "nobody lands that");
}

#[test]
fn a_day_has_its_limit_in_all_lives_together() {
    let policy = Policy { deposits_per_day_max: NanoTon::new(3 * TON), ..Policy::default() };
    let mut world = World::with(policy);
    for _life in 0..20 {
        world.settlement.want(world.now);
        world.settle();
        drain(&mut world);
        let memory = *world.settlement.memory();
        world.settlement = Settlement::new(terms(), policy, Memory { close: false, ..memory }, OrderId(100));
        world.settlement.wallet(NanoTon::new(world.wallet), world.now);
    }
    assert_eq!(paid_in(&world), 3 * TON);
    world.settlement.want(world.now);
    world.pass(3600);
    assert_eq!(world.settlement.view().held, Some(steps::TOMORROW));
    world.pass(24 * 3600);
    assert_eq!(paid_in(&world), 4 * TON);
}

#[test]
fn nothing_goes_before_the_contract_was_read_after_an_order() {
    for (end, is_awaited) in
        [(OrderEnd::Done, true), (OrderEnd::Unresolved, true), (OrderEnd::NotSent, false)]
    {
        let mut world = World::open();
        world.contract.as_mut().unwrap().balance = NanoTon::ZERO;
        let old = world.contract.clone();
        world.settlement.looked(old.clone(), WORKS, world.now);
        let Some(Action::Send(order)) = world.settlement.poll_action() else { panic!("nothing was sent") };
        world.settlement.order_ended(order.id, end, world.now);
        assert_eq!(world.settlement.awaited.is_some(), is_awaited);
        // The server does not answer for an hour.
        for _minute in 0..60 {
            world.now += Duration::from_secs(60);
            world.settlement.advance(world.now);
            while let Some(action) = world.settlement.poll_action() {
                assert_eq!(action, Action::Look, "{end:?}");
            }
        }
        let deposit = world.settlement.ask(Wish::Deposit(NanoTon::new(TON)), world.now);
        assert_eq!(deposit, Err(Refused::Unknown), "nor does its owner");
        world.settlement.looked(old, WORKS, world.now);
        assert!(matches!(world.settlement.poll_action(), Some(Action::Send(_))), "{end:?}");
    }
}

#[test]
fn what_a_server_hides_is_not_paid_in_without_end() {
    let policy = Policy { deposits_per_day_max: NanoTon::new(5 * TON), ..Policy::default() };
    let mut world = World::with(policy);
    world.settlement.want(world.now);
    for _minute in 0..24 * 60 {
        let paid_in = world.settlement.memory().paid_in_today(world.now);
        world.settlement.today(policy.deposits_per_day_max.saturating_sub(paid_in));
        world.settlement.advance(world.now);
        while let Some(action) = world.settlement.poll_action() {
            match action {
                Action::Look => world.settlement.looked(None, WORKS, world.now),
                Action::Send(order) => {
                    world.sent.push(order.duty);
                    world.settlement.order_ended(order.id, OrderEnd::Done, world.now);
                }
            }
        }
        world.now += Duration::from_secs(59);
    }
    assert_eq!(paid_in(&world), 5 * TON);
}

#[test]
fn registrations_that_lead_to_no_session_become_rare() {
    let mut world = World::open();
    let attempt = |world: &mut World, nonce| {
        world.settlement.register(nonce, world.now);
        world.pass(10);
        world.settlement.forget(nonce);
    };
    for nonce in 0..24 * 360 {
        attempt(&mut world, nonce);
    }
    // Two at once, then 30 s later and twice as much each time, up to an hour.
    assert!((20..40).contains(&world.sent.len()), "{} in a day", world.sent.len());
    world.sent.clear();
    world.settlement.authorised();
    attempt(&mut world, 1_000_000);
    assert_eq!(world.sent, [Duty::Register { nonce: 1_000_000 }]);
}

#[test]
fn a_contract_that_nobody_uses_gets_nothing() {
    let mut world = World::open();
    world.settlement.leave();
    world.uses(TON / PRICE, TON / PRICE);
    world.contract.as_mut().unwrap().balance = NanoTon::ZERO;
    world.pass(3600);
    assert!(world.sent.is_empty(), "{:?}", world.sent);
    world.settlement.want(world.now);
    world.settle();
    assert!(!world.sent.is_empty());
}

#[test]
fn a_contract_whose_proxy_is_gone_for_a_day_is_closed() {
    let mut world = World::open();
    world.settlement.abandoned(true, world.now);
    world.pass(25 * 3600);
    assert!(world.sent.is_empty(), "somebody uses it");
    world.settlement.leave();
    world.settlement.abandoned(true, world.now);
    world.pass(12 * 3600);
    world.settlement.abandoned(false, world.now);
    world.settlement.abandoned(true, world.now);
    // It was there again, so the day begins anew; and it goes on in another life.
    let memory = *world.settlement.memory();
    world.settlement = Settlement::new(terms(), Policy::default(), memory, OrderId(500));
    world.settlement.wallet(NanoTon::new(world.wallet), world.now);
    world.pass(24 * 3600 - 1);
    assert!(world.sent.is_empty(), "{:?}", world.sent);
    world.pass(1);
    assert_eq!(world.sent, [Duty::RequestRefund]);
}

#[test]
fn a_proxy_contract_that_takes_no_deposits_gets_none() {
    for proxy in [ProxyStand::Unknown, ProxyStand::Unfit, ProxyStand::Leaves] {
        let mut world = World::new();
        world.settlement.want(world.now);
        world.settlement.looked(None, proxy, world.now);
        assert!(!matches!(world.settlement.poll_action(), Some(Action::Send(_))), "{proxy:?}");
        let mut world = World::open();
        world.contract.as_mut().unwrap().balance = NanoTon::ZERO;
        world.settlement.looked(world.contract.clone(), proxy, world.now);
        let action = world.settlement.poll_action();
        let deposits = matches!(action, Some(Action::Send(order)) if order.duty.amount() > NanoTon::ZERO);
        assert!(!deposits, "{action:?}");
    }
}

#[test]
fn a_contract_is_left_before_its_proxy_contract_is_gone() {
    let mut world = World::open();
    world.settlement.looked(world.contract.clone(), ProxyStand::Leaves, world.now);
    world.settle();
    assert_eq!(world.sent, [Duty::RequestRefund]);
    world.pass(205);
    assert_eq!(world.paid_back, TON);
}

#[test]
fn wishes_and_changes_survive_their_process() {
    let mut world = World::open();
    world.settlement.outdated(world.now);
    world.pass(150);
    let next_life = |world: &World| {
        let mut next = Settlement::new(terms(), Policy::default(), *world.settlement.memory(), OrderId(500));
        next.wallet(NanoTon::new(world.wallet), world.now);
        next
    };
    // Half of the time is over, and is not begun anew.
    world.settlement = next_life(&world);
    world.settlement.outdated(world.now);
    world.pass(50);
    assert_eq!(world.sent, [Duty::RequestRefund]);

    let mut world = World::open();
    world.settlement.ask(Wish::Close, world.now).unwrap();
    world.settlement = next_life(&world);
    world.settle();
    assert_eq!(world.sent, [Duty::RequestRefund]);

    // What a server that was behind said is taken back.
    let mut world = World::open();
    world.settlement.outdated(world.now);
    world.settlement.current();
    world.pass(3600);
    assert!(world.sent.is_empty());
}

#[test]
fn a_closed_contract_is_kept_in_mind_for_days() {
    let mut world = World::open();
    world.settlement.ask(Wish::Close, world.now).unwrap();
    world.pass(206);
    assert_eq!(world.settlement.view().stage, Stage::Closed);
    let closed_at = world.now;
    assert!(!world.settlement.is_finished(closed_at + REMEMBERED_FOR - Duration::from_secs(2)));
    // It was not true: a server said so.
    let mut data = world.data().clone();
    data.state = ContractState::Normal;
    world.settlement.looked(Some(data), WORKS, world.now);
    assert!(!world.settlement.is_finished(closed_at + REMEMBERED_FOR * 2));
}
