//! What the owner asks for.

use super::*;

#[test]
fn what_is_above_the_stake_can_be_withdrawn() {
    let mut world = World::open();
    let refused = world.settlement.ask(Wish::Withdraw, world.now).unwrap_err();
    assert_eq!(refused, Refused::Stake { balance: NanoTon::new(TON), stake: NanoTon::new(TON) });
    world.contract.as_mut().unwrap().balance = NanoTon::new(TON + 1);
    world.settlement.looked(world.contract.clone(), WORKS, world.now);
    world.settlement.ask(Wish::Withdraw, world.now).unwrap();
    world.settle();
    assert_eq!((world.sent.as_slice(), world.paid_back), (&[Duty::Withdraw][..], 1));
}

#[test]
fn the_owner_can_pay_in_more_than_the_policy_does() {
    let mut world = World::open();
    let wallet = NanoTon::new(world.wallet);
    let plan = world.settlement.ask(Wish::Deposit(NanoTon::new(3 * TON + 7)), world.now).unwrap();
    let expected = Plan {
        pays_in: NanoTon::new(3 * TON),
        comes_back: NanoTon::ZERO,
        attached: ATTACHED,
        fees: FEES,
        wallet,
        delay_s: 200,
    };
    assert_eq!(plan, expected, "7 nanotons buy no token");
    let under_way = Duty::TopUp { amount: NanoTon::new(3 * TON) };
    assert_eq!(world.settlement.view().under_way, Some(under_way));
    world.settle();
    assert_eq!((world.sent.as_slice(), world.data().balance.get()), (&[under_way][..], 4 * TON));
    assert_eq!(world.settlement.view().under_way, None);
}

#[test]
fn a_deposit_that_cannot_be_is_refused_with_its_reason_and_nothing_is_sent() {
    let mut world = World::open();
    let deposit = |nanotons: u64| Wish::Deposit(NanoTon::new(nanotons));
    let refused =
        |world: &mut World, nanotons| world.settlement.ask(deposit(nanotons), world.now).unwrap_err();
    let price = NanoTon::new(PRICE);
    assert_eq!(refused(&mut world, PRICE - 1), Refused::TooLittle { amount: NanoTon::new(PRICE - 1), price });
    let (balance, balance_max) = (NanoTon::new(TON), Policy::default().balance_max);
    assert_eq!(refused(&mut world, 99 * TON + PRICE), Refused::Limit { balance, balance_max });
    assert_eq!(refused(&mut world, u64::MAX), Refused::Limit { balance, balance_max });

    // The wallet keeps what it needs to go on.
    let kept = Policy::default().wallet_reserve.get() + ATTACHED.get();
    world.wallet = kept + 5 * TON;
    world.settlement.wallet(NanoTon::new(world.wallet), world.now);
    let (wallet, needed) = (NanoTon::new(world.wallet), NanoTon::new(world.wallet + PRICE));
    assert_eq!(refused(&mut world, 5 * TON + PRICE), Refused::Funds { wallet, needed });
    assert!(world.settlement.plan(deposit(5 * TON)).is_ok());

    // A look changes nothing; another order has to be over first.
    assert_eq!(world.settlement.poll_action(), None);
    world.settlement.ask(deposit(TON), world.now).unwrap();
    assert_eq!(refused(&mut world, TON), Refused::Busy { under_way: "top up" });
    let withdrawn = world.settlement.ask(Wish::Withdraw, world.now);
    assert_eq!(withdrawn, Err(Refused::Busy { under_way: "top up" }));
    // Getting out never has to wait to be asked for.
    assert!(world.settlement.plan(Wish::Close).is_ok());
    world.settle();
    assert_eq!(world.sent, [Duty::TopUp { amount: NanoTon::new(TON) }]);

    world.settlement.outdated(world.now);
    assert_eq!(refused(&mut world, TON), Refused::Outdated);
    world.settlement.ask(Wish::Close, world.now).unwrap();
    assert_eq!(refused(&mut world, TON), Refused::Closing);
    world.pass(300);
    assert_eq!(refused(&mut world, TON), Refused::Closed);
    let sum = world.sent.iter().map(|duty| duty.amount().get()).sum::<u64>();
    assert_eq!(sum, TON, "and nothing was paid in by all of that");
}

#[test]
fn a_wallet_that_refuses_orders_is_named_before_one_is_given() {
    let mut world = World::open();
    let needed = chain::outbox::BALANCE_MIN;
    for (nanotons, is_enough) in [(needed.get(), true), (needed.get() - 1, false)] {
        let wallet = NanoTon::new(nanotons);
        world.settlement.wallet(wallet, world.now);
        let expected = if is_enough { None } else { Some(Refused::Funds { wallet, needed }) };
        assert_eq!(world.settlement.plan(Wish::Close).err(), expected);
    }
}

#[test]
fn the_view_says_what_closing_gives_back() {
    let mut world = World::open();
    world.uses(1000, 1000);
    let view = world.settlement.view();
    let left = NanoTon::new(TON - 1000 * PRICE);
    assert_eq!((view.used.get(), view.owed.get(), view.left), (1000, 1000 * PRICE, left));
    assert_eq!(view.unspent.map(AdjustedTokens::get), Some(left.get() / PRICE));
    assert_eq!(world.settlement.plan(Wish::Close).unwrap().comes_back, left);
}

#[test]
fn what_is_unconfirmed_cannot_be_withdrawn() {
    let mut world = World::open();
    let data = world.contract.as_mut().unwrap();
    (data.balance, data.unconfirmed) = (NanoTon::new(2 * TON), NanoTon::new(TON));
    world.settlement.looked(world.contract.clone(), WORKS, world.now);
    assert!(matches!(world.settlement.ask(Wish::Withdraw, world.now), Err(Refused::Stake { .. })));
}
