//! Getting out.

use super::*;

#[test]
fn closing_with_the_proxys_help_takes_one_order() {
    let mut world = World::open();
    world.settlement.ask(Wish::Close, world.now).unwrap();
    world.settle();
    assert_eq!(world.sent, [Duty::RequestRefund]);
    assert!(matches!(world.settlement.view().stage, Stage::Closing { unlock_at: Some(_) }));
    assert_eq!(world.settlement.ask(Wish::Close, world.now), Err(Refused::Closing));
    world.grant();
    world.pass(120);
    assert_eq!((world.sent.len(), world.paid_back), (1, TON));
    assert_eq!(world.settlement.view().stage, Stage::Closed);
    assert_eq!(world.settlement.ask(Wish::Close, world.now), Err(Refused::Closed));
    assert!(world.settlement.is_finished(world.now + REMEMBERED_FOR));
    assert_eq!(world.settlement.poll_timeout(world.now), None);
}

#[test]
fn closing_without_the_proxy_takes_the_clients_delay() {
    let mut world = World::open();
    world.settlement.ask(Wish::Close, world.now).unwrap();
    world.pass(204);
    assert_eq!((world.sent.as_slice(), world.paid_back), (&[Duty::RequestRefund][..], 0));
    world.pass(1);
    assert_eq!(world.sent, [Duty::RequestRefund, Duty::ForceRefund]);
    assert_eq!(world.paid_back, TON);
    world.pass(120);
    assert!(world.settlement.is_finished(world.now + REMEMBERED_FOR));
}

#[test]
fn what_comes_back_to_a_closed_contract_is_taken_again() {
    let mut world = World::open();
    world.settlement.ask(Wish::Close, world.now).unwrap();
    world.pass(206);
    assert_eq!(world.settlement.view().stage, Stage::Closed);
    // The proxy's stake covered half.
    let unlock_at = u32::try_from(world.now.as_secs()).unwrap() + 200;
    let data = world.contract.as_mut().unwrap();
    (data.state, data.balance, data.unlock_at) = (ContractState::Closing, NanoTon::new(TON / 2), unlock_at);
    world.pass(300);
    assert_eq!(world.sent.last(), Some(&Duty::ForceRefund));
    assert_eq!(world.paid_back, TON + TON / 2);
    world.pass(120);
    assert!(world.settlement.is_finished(world.now + REMEMBERED_FOR));
}

#[test]
fn a_contract_that_closes_is_paid_into_no_more() {
    let mut world = World::open();
    world.contract.as_mut().unwrap().state = ContractState::Closing;
    world.contract.as_mut().unwrap().unlock_at = u32::MAX;
    world.settlement.looked(world.contract.clone(), WORKS, world.now);
    world.settlement.register(4, world.now);
    world.uses(TON / PRICE, TON / PRICE);
    world.pass(3600);
    assert!(world.sent.is_empty(), "{:?}", world.sent);
}

#[test]
fn nothing_can_be_had_from_a_contract_that_is_not_there() {
    let mut world = World::new();
    assert_eq!(world.settlement.ask(Wish::Close, world.now), Err(Refused::Unknown));
    world.settle();
    assert_eq!(world.settlement.ask(Wish::Close, world.now), Err(Refused::NotDeployed));
    assert_eq!(world.settlement.ask(Wish::Withdraw, world.now), Err(Refused::NotDeployed));
}

#[test]
fn an_outdated_contract_waits_for_the_proxy_and_then_closes() {
    let mut world = World::open();
    world.settlement.outdated(world.now);
    world.uses(TON / PRICE, 0);
    world.pass(199);
    world.settlement.outdated(world.now);
    assert!(world.sent.is_empty(), "{:?}", world.sent);
    // Half of what 600 s exceed 200 s by.
    world.pass(1);
    assert_eq!(world.sent, [Duty::RequestRefund]);
    world.pass(206);
    assert_eq!(world.sent, [Duty::RequestRefund, Duty::ForceRefund]);

    let mut world = World::open();
    world.settlement.outdated(world.now);
    world.grant();
    world.settlement.looked(world.contract.clone(), WORKS, world.now);
    world.pass(3600);
    assert!(world.sent.is_empty(), "the proxy paid");
    let mut world = World::new();
    world.settlement.outdated(world.now);
    world.settlement.want(world.now);
    world.pass(3600);
    assert!(world.sent.is_empty(), "no new contract under old params");
}

#[test]
fn refused_orders_are_tried_later_each_time() {
    let mut world = World::open();
    world.settlement.ask(Wish::Close, world.now).unwrap();
    let mut waits = Vec::new();
    for _attempt in 0..9 {
        let Some(Action::Send(order)) = world.settlement.poll_action() else { panic!("nothing was sent") };
        world.settlement.order_ended(order.id, OrderEnd::Refused, world.now);
        assert_eq!(world.settlement.poll_action(), Some(Action::Look));
        world.settlement.looked(world.contract.clone(), WORKS, world.now);
        assert_eq!(world.settlement.poll_action(), None);
        let at = world.settlement.poll_timeout(world.now).unwrap();
        waits.push((at - world.now).as_secs());
        world.now = at;
        world.settlement.advance(world.now);
    }
    assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
}

#[test]
fn orders_that_nobody_gave_change_nothing() {
    let mut world = World::open();
    let before = world.settlement.view();
    world.settlement.order_ended(OrderId(1), OrderEnd::Refused, world.now);
    assert_eq!((world.settlement.view(), world.settlement.poll_action()), (before, None));
}
