//! What is paid in, landed and registered, and when.

use super::*;

#[test]
fn nothing_is_sent_for_a_proxy_that_nobody_uses() {
    let mut world = World::new();
    world.pass(3600);
    assert!(world.sent.is_empty());
    assert_eq!(world.settlement.view().stage, Stage::NotDeployed);
}

#[test]
fn one_message_makes_the_contract_with_secret_and_stake() {
    let mut world = World::new();
    world.settlement.want(world.now);
    world.settle();
    assert_eq!(world.sent, [Duty::Open { amount: NanoTon::new(TON) }]);
    let expected = ClientData {
        state: ContractState::Normal,
        balance: NanoTon::new(TON),
        stake: NanoTon::new(TON),
        tokens_used: AdjustedTokens::ZERO,
        unlock_at: 0,
        secret_hash: *terms().secret_hash(),
        parties: Parties { owner: WALLET, proxy: PROXY, key: public() },
        params: config().params_cell(CodeMask::None),
        unconfirmed: NanoTon::ZERO,
    };
    assert_eq!(*world.data(), expected);
    world.pass(24 * 3600);
    assert_eq!(world.sent.len(), 1, "an idle client sends nothing");
}

#[test]
fn a_new_contract_is_registered_in_the_same_breath() {
    let mut world = World::new();
    world.settle();
    world.settlement.want(world.now);
    world.settlement.register(77, world.now);
    world.settlement.register(77, world.now);
    let actions: Vec<_> = std::iter::from_fn(|| world.settlement.poll_action()).collect();
    let duties: Vec<_> = actions
        .into_iter()
        .map(|action| match action {
            Action::Send(order) => order.duty,
            Action::Look => panic!("nobody needs to look"),
        })
        .collect();
    assert_eq!(duties, [Duty::Open { amount: NanoTon::new(TON) }, Duty::Register { nonce: 77 }]);
}

#[test]
fn a_known_contract_is_registered_and_nothing_else() {
    let mut world = World::open();
    world.settlement.register(5, world.now);
    world.settle();
    assert_eq!(world.sent, [Duty::Register { nonce: 5 }]);
    world.settlement.register(5, world.now);
    world.pass(3600);
    assert_eq!(world.sent.len(), 1, "once is enough");
    world.settlement.forget(5);
    world.settlement.register(5, world.now);
    world.settle();
    assert_eq!(world.sent.len(), 2, "another proxy may draw the same number");
}

#[test]
fn a_registration_that_fails_is_tried_again_while_it_is_wanted() {
    let mut world = World::open();
    world.settlement.register(5, world.now);
    let fail = |world: &mut World| {
        let Some(Action::Send(order)) = world.settlement.poll_action() else { panic!("it was not sent") };
        assert_eq!(order.duty, Duty::Register { nonce: 5 });
        world.settlement.order_ended(order.id, OrderEnd::NotSent, world.now);
        assert_eq!(world.settlement.poll_action(), None);
    };
    fail(&mut world);
    assert_eq!(world.settlement.poll_timeout(world.now), Some(world.now + RETRY_MIN));
    world.now += RETRY_MIN;
    world.settlement.advance(world.now);
    fail(&mut world);
    assert_eq!(world.settlement.poll_timeout(world.now), Some(world.now + 2 * RETRY_MIN));
    world.settlement.forget(5);
    assert_eq!(world.settlement.poll_timeout(world.now), None);
}

#[test]
fn connections_that_wait_have_a_bound() {
    let mut world = World::open();
    for nonce in 0..1_000 {
        world.settlement.register(nonce, world.now);
    }
    assert_eq!(world.settlement.registrations.len(), NONCES_MAX);
}

#[test]
fn the_balance_is_topped_up_before_it_ends() {
    let mut world = World::open();
    // Use that is spread over a day.
    world.pass(24 * 3600);
    let half = TON / 2 / PRICE;
    world.uses(half, 0);
    assert!(world.sent.is_empty(), "half of the stake is enough");
    world.uses(half + 1, 0);
    assert_eq!(world.sent, [Duty::TopUp { amount: NanoTon::new((half + 1) * PRICE) }]);
}

#[test]
fn more_is_paid_in_where_more_is_used() {
    let mut world = World::open();
    // Half of the stake in a minute: ten times as much is wanted, of which half is left.
    world.uses(TON / 2 / PRICE, 0);
    assert_eq!(world.sent, [Duty::TopUp { amount: NanoTon::new(5 * TON - TON / 2) }]);
}

#[test]
fn another_secret_is_replaced_and_along_with_a_top_up_if_one_is_due() {
    let mut world = World::open();
    world.contract.as_mut().unwrap().secret_hash = [9; 32];
    world.settlement.looked(world.contract.clone(), WORKS, world.now);
    world.settle();
    assert_eq!(world.sent, [Duty::ChangeSecret]);
    assert_eq!(world.data().secret_hash, *terms().secret_hash());

    let data = world.contract.as_mut().unwrap();
    (data.secret_hash, data.balance) = ([9; 32], NanoTon::ZERO);
    world.settlement.looked(world.contract.clone(), WORKS, world.now);
    world.settle();
    assert_eq!(world.sent[1..], [Duty::TopUpWithSecret { amount: NanoTon::new(TON) }]);
    assert_eq!(world.data().secret_hash, *terms().secret_hash());
}

#[test]
fn a_charge_is_landed_when_half_of_the_stake_waits_for_it() {
    let mut world = World::open();
    let stake = TON / PRICE;
    // Use that is spread over a day.
    world.pass(24 * 3600);
    world.uses(stake / 2, stake / 2);
    assert!(world.sent.is_empty());
    // Signed too little to be worth the fee.
    let mut poor = World::open();
    poor.pass(24 * 3600);
    poor.uses(stake / 2 + 1, stake / 4 - 1);
    assert!(!poor.sent.iter().any(|duty| matches!(duty, Duty::Charge(_))), "{:?}", poor.sent);
    world.uses(stake / 2 + 1, stake / 2 + 1);
    assert!(matches!(world.sent[0], Duty::Charge(payment) if payment.tokens.get() == stake / 2 + 1));
    assert_eq!(world.data().tokens_used.get(), stake / 2 + 1);
    let landed = world.sent.len();
    world.uses(stake / 2 + 1, stake / 2 + 1);
    assert_eq!(world.sent.len(), landed, "what the chain counts is not landed again");
}

#[test]
fn totals_and_charges_never_shrink() {
    let mut world = World::open();
    world.uses(1_000, 900);
    world.uses(10, 10);
    assert_eq!(world.settlement.used.get(), 1_000);
    assert_eq!(world.settlement.charge.unwrap().tokens().get(), 900);
}

#[test]
fn a_proxy_that_sends_deposits_back_is_asked_less_and_less() {
    let mut world = World::new();
    world.takes_deposits = false;
    world.settlement.want(world.now);
    world.pass(24 * 3600);
    // 30 s, doubled up to an hour, and two minutes of waiting each.
    assert!((20..40).contains(&world.sent.len()), "{} deposits in a day", world.sent.len());
    assert!(world.settlement.view().failures > 10);
    assert_eq!(world.wallet, 50 * TON, "nothing was lost but fees");
    world.takes_deposits = true;
    world.pass(3 * 3600);
    assert_eq!((world.settlement.view().failures, world.data().balance.get()), (0, TON));
}

#[test]
fn nothing_more_goes_while_an_order_does_not_show() {
    let mut world = World::open();
    world.contract.as_mut().unwrap().balance = NanoTon::ZERO;
    let old = world.contract.clone();
    world.settlement.looked(old.clone(), WORKS, world.now);
    let Some(Action::Send(order)) = world.settlement.poll_action() else { panic!("nothing was sent") };
    world.settlement.order_ended(order.id, OrderEnd::Done, world.now);
    for _look in 0..10 {
        assert_eq!(world.settlement.poll_action(), Some(Action::Look));
        world.settlement.looked(old.clone(), WORKS, world.now);
        assert_eq!(world.settlement.poll_action(), None);
        world.now = world.settlement.poll_timeout(world.now).unwrap();
        world.settlement.advance(world.now);
    }
    // Unconfirmed is not there yet either.
    let mut shown = old.unwrap();
    (shown.balance, shown.unconfirmed) = (NanoTon::new(TON), NanoTon::new(TON));
    world.settlement.looked(Some(shown.clone()), WORKS, world.now);
    assert!(world.settlement.awaited.is_some());
    shown.unconfirmed = NanoTon::ZERO;
    world.settlement.looked(Some(shown), WORKS, world.now);
    assert!(world.settlement.awaited.is_none());
    assert_eq!(world.settlement.view().failures, 0);
}

#[test]
fn an_order_that_shows_before_it_is_told_counts() {
    let mut world = World::open();
    world.contract.as_mut().unwrap().balance = NanoTon::ZERO;
    world.settlement.looked(world.contract.clone(), WORKS, world.now);
    let Some(Action::Send(order)) = world.settlement.poll_action() else { panic!("nothing was sent") };
    world.carry_out(&order);
    world.settlement.looked(world.contract.clone(), WORKS, world.now);
    assert_eq!(world.settlement.poll_action(), None, "one order at a time");
    world.settlement.order_ended(order.id, OrderEnd::Done, world.now);
    world.settle();
    assert_eq!((world.settlement.view().failures, world.data().balance.get()), (0, TON));
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn a_poor_wallet_is_told_of() {
    let mut world = World::new();
    world.wallet = 2 * TON;
    world.settlement.wallet(NanoTon::new(world.wallet), world.now);
    world.settlement.want(world.now);
    world.settle();
    assert!(world.sent.is_empty());
    let kept = Policy::default().wallet_reserve.get() + ATTACHED.get();
    assert_eq!(world.settlement.view().missing, Some(NanoTon::new(kept + TON - 2 * TON)));
    world.wallet = 10 * TON;
    world.settlement.wallet(NanoTon::new(world.wallet), world.now);
    world.settle();
    assert_eq!((world.sent.len(), world.settlement.view().missing), (1, None));
}
