use chain::TransactionId;
use chain::{Effect, NotRun};
use ed25519_dalek::SigningKey;
use ton::RootConfig;
use ton::contracts::worker_init;
use ton::payment::PaymentKind;
use units::{LogicalTime, PublicKey, TransactionHash};

use super::*;

const WALLET: Address = Address::new(0, [9; 32]);
const PROXY: Address = Address::new(0, [2; 32]);
/// A token earns a thousandth of a TON.
const FEE: NanoTon = NanoTon::new(1_000_000);
const NOW: Duration = Duration::from_secs(1_800_000_000);
/// What a proxy contract has that can pay anything here.
const RICH: NanoTon = NanoTon::new(1_000_000_000_000);
const DELAY: Duration = Duration::from_secs(1_000);

fn after(seconds: u64) -> Duration {
    NOW + Duration::from_secs(seconds)
}

fn config() -> RootConfig {
    let mut config = RootConfig::pseudo(Address::new(0, [1; 32]));
    config.params.worker_fee_per_token = FEE;
    config.params.params_version = 1;
    config
}

/// A payment for so many tokens: thousandths of a TON.
fn owed(tokens: u64) -> Owed {
    owed_by(7, tokens)
}

/// Another proxy for each `key`.
fn owed_by(key: u8, tokens: u64) -> Owed {
    let key = SigningKey::from_bytes(&[key; 32]);
    let public = PublicKey::new(key.verifying_key().to_bytes());
    let init = worker_init(&config(), &Address::new(0, [3; 32]), &PROXY, &public);
    let worker = init.address();
    let tokens = AdjustedTokens::new(tokens);
    let payment = SignedPayment::sign(&key, PaymentKind::WorkerPayout, 5, tokens, &worker, &PROXY);
    Owed { proxy: PROXY, worker, params_version: 1, payment, init: Some(init), fee: Some(FEE) }
}

fn worker() -> Address {
    owed(0).worker
}

fn contract(paid: u64) -> Found {
    let init = owed(0).init.unwrap();
    let mut data = WorkerData::from_cell(&init.data).unwrap();
    data.tokens = AdjustedTokens::new(paid);
    Found::Contract(data)
}

fn settlement() -> Settlement {
    let mut settlement = Settlement::new(Policy::default(), WALLET);
    settlement.params(1, DELAY, NOW);
    settlement
}

/// A settlement that is owed so much, with a contract that has paid so much.
fn with(signed: u64, found: Found) -> Settlement {
    let mut settlement = settlement();
    settlement.owed(owed(signed), NOW);
    settlement.looked(&worker(), found, RICH, NOW);
    settlement
}

fn done() -> Outcome {
    Outcome::Done {
        transaction: TransactionId { lt: LogicalTime::new(1), hash: TransactionHash::new([0; 32]) },
    }
}

fn only(mut orders: Vec<Order>) -> Order {
    assert_eq!(orders.len(), 1);
    orders.remove(0)
}

#[test]
fn nothing_is_ordered_before_the_contract_was_read() {
    let mut settlement = settlement();
    settlement.owed(owed(50_000), NOW);
    assert!(settlement.orders(NOW).is_empty());
    assert_eq!(settlement.to_look_at(NOW), [(worker(), PROXY)]);
    settlement.looked(&worker(), contract(0), RICH, NOW);
    assert!(settlement.to_look_at(NOW).is_empty());
    assert_eq!(settlement.orders(NOW).len(), 1);
}

#[test]
fn a_payout_goes_out_when_it_is_worth_it() {
    // Ten TON at once, less only after an hour without earnings, and what its fees would eat never.
    for (signed, later, is_ordered) in [
        (9_999, 0, false),
        (10_000, 0, true),
        (200, 3_599, false),
        (200, 3_600, true),
        (199, 3_600, false),
        (199, 1_000_000, false),
    ] {
        let mut settlement = with(signed, contract(0));
        assert_eq!(!settlement.orders(after(later)).is_empty(), is_ordered, "{signed} {later}");
    }
    // It is what is not paid yet that counts.
    assert!(with(19_999, contract(10_000)).orders(NOW).is_empty());
    let order = only(with(20_000, contract(10_000)).orders(NOW));
    assert_eq!((order.message.to, order.message.value, order.message.bounce), (worker(), ATTACHED, true));
    let payment = SignedPayment::from_cell(order.message.body.as_ref().unwrap(), PaymentKind::WorkerPayout);
    assert_eq!(payment.unwrap(), owed(20_000).payment.with_excesses_to(WALLET));
}

#[test]
fn a_contract_is_deployed_with_its_first_payout_or_before() {
    assert!(with(49, Found::Absent).orders(NOW).is_empty());
    let order = only(with(50, Found::Absent).orders(NOW));
    assert_eq!((order.message.body, order.message.value), (None, DEPLOYED_WITH));
    assert_eq!(order.message.state_init.unwrap().address(), worker());
    let order = only(with(10_000, Found::Absent).orders(NOW));
    assert!(order.message.body.is_some() && order.message.state_init.is_some());
    assert!(order.message.bounce, "if it refuses, everything comes back");
    // What became of a deployment is looked at before anything else is ordered.
    let mut deploying = with(50, Found::Absent);
    let order = only(deploying.orders(NOW));
    deploying.ended(order.id, done(), NOW);
    assert!(deploying.orders(NOW).is_empty() && deploying.to_look_at(NOW) == [(worker(), PROXY)]);
    deploying.looked(&worker(), contract(0), RICH, NOW);
    assert!(deploying.orders(NOW).is_empty());
    // Without the params that it follows from, it cannot be deployed.
    let mut settlement = settlement();
    settlement.owed(Owed { init: None, ..owed(10_000) }, NOW);
    settlement.looked(&worker(), Found::Absent, RICH, NOW);
    assert!(settlement.orders(NOW).is_empty());
}

#[test]
fn one_payout_is_under_way_at_a_time_and_is_over_when_the_contract_shows_it() {
    let mut settlement = with(10_000, contract(0));
    let first = only(settlement.orders(NOW));
    settlement.owed(owed(30_000), NOW);
    assert!(settlement.orders(NOW).is_empty() && settlement.to_look_at(after(999)).is_empty());
    settlement.ended(first.id, done(), after(5));
    assert!(settlement.orders(after(5)).is_empty(), "the contract was not read since");
    assert!(settlement.to_look_at(after(24)).is_empty() && !settlement.to_look_at(after(25)).is_empty());
    settlement.looked(&worker(), contract(10_000), RICH, after(25));
    let second = only(settlement.orders(after(25)));
    assert_ne!(first.id, second.id);
    assert_eq!(settlement.earnings()[0].unpaid, NanoTon::new(20_000_000_000));
    assert_eq!(settlement.earnings()[0].paid_out, NanoTon::new(10_000_000_000));
}

#[test]
fn an_order_has_the_same_number_in_another_life() {
    let first = only(with(10_000, contract(0)).orders(NOW));
    let again = only(with(10_000, contract(0)).orders(after(9)));
    assert_eq!(first, again);
    assert_ne!(only(with(10_001, contract(0)).orders(NOW)).id, first.id);
    assert_ne!(only(with(50, Found::Absent).orders(NOW)).id, first.id);
}

#[test]
fn what_fails_is_tried_later_and_later() {
    let id = TransactionId { lt: LogicalTime::new(1), hash: TransactionHash::new([0; 32]) };
    let refused = |effect| Outcome::Refused { transaction: id, effect, returned: NanoTon::ZERO };
    let cases = [
        (refused(Effect::Refused { exit_code: 1000 }), Failure::Refused { exit_code: 1000 }),
        (refused(Effect::NotRun(NotRun::NoContract)), Failure::NotRun),
        (Outcome::NotSent, Failure::NotSent),
    ];
    for (outcome, failure) in cases {
        let mut settlement = with(10_000, contract(0));
        let mut now = NOW;
        for pause in [60, 120, 240] {
            let order = only(settlement.orders(now));
            settlement.ended(order.id, outcome, now);
            settlement.looked(&worker(), contract(0), RICH, now);
            assert_eq!(settlement.earnings()[0].failure, Some(failure));
            assert!(settlement.orders(now + Duration::from_secs(pause - 1)).is_empty(), "{pause}");
            now += Duration::from_secs(pause);
        }
        // The operator need not wait.
        let order = only(settlement.orders(now));
        settlement.ended(order.id, outcome, now);
        settlement.looked(&worker(), contract(0), RICH, now);
        assert_eq!(settlement.cash_out(None), 1);
        assert_eq!(settlement.orders(now).len(), 1);
    }
}

#[test]
fn a_payout_that_the_proxy_cannot_pay_is_a_failure_and_stays_owed() {
    let mut settlement = with(10_000, contract(0));
    let order = only(settlement.orders(NOW));
    settlement.ended(order.id, done(), NOW);
    settlement.looked(&worker(), contract(0), RICH, after(20));
    let earnings = settlement.earnings()[0];
    assert_eq!((earnings.failure, earnings.unpaid), (Some(Failure::NotPaid), NanoTon::new(10_000_000_000)));
    assert!(settlement.orders(after(79)).is_empty());
    let again = only(settlement.orders(after(80)));
    settlement.ended(again.id, done(), after(80));
    settlement.looked(&worker(), contract(10_000), RICH, after(100));
    assert_eq!(settlement.earnings()[0].failure, None);
    // It comes back after all.
    settlement.looked(&worker(), contract(0), RICH, after(700));
    assert_eq!(settlement.earnings()[0].failure, Some(Failure::NotPaid));
    assert!(settlement.orders(after(700)).is_empty());
}

#[test]
fn an_outdated_contract_is_cashed_in_after_half_of_the_delay() {
    let mut settlement = with(20, contract(0));
    settlement.params(2, DELAY, NOW);
    settlement.params(2, DELAY, after(400));
    assert!(settlement.orders(after(499)).is_empty());
    assert_eq!(settlement.orders(after(500)).len(), 1);
    let mut settlement = with(19, contract(0));
    settlement.params(2, DELAY, NOW);
    assert!(settlement.orders(after(500)).is_empty(), "its fees would eat it");
}

#[test]
fn the_operator_gets_what_is_worth_its_fees_when_he_asks() {
    assert_eq!(with(19, contract(0)).cash_out(None), 0);
    let mut settlement = with(20, contract(0));
    assert_eq!(settlement.cash_out(Some(&WALLET)), 0);
    assert!(settlement.orders(NOW).is_empty());
    assert_eq!(settlement.cash_out(Some(&PROXY)), 1);
    let order = only(settlement.orders(NOW));
    settlement.ended(order.id, done(), NOW);
    settlement.looked(&worker(), contract(20), RICH, after(20));
    settlement.owed(owed(40), after(21));
    assert!(settlement.orders(after(21)).is_empty(), "asked for once, paid once");
}

#[test]
fn closed_and_other_contracts_pay_nothing() {
    let closed = || {
        let Found::Contract(data) = contract(5) else { unreachable!() };
        Found::Contract(WorkerData { state: ContractState::Closed, ..data })
    };
    for (found, stand) in [(closed(), Stand::Closed), (Found::Other, Stand::Other)] {
        let mut settlement = with(50_000, found);
        assert!(settlement.orders(after(10_000)).is_empty() && settlement.cash_out(None) == 0);
        assert_eq!((settlement.earnings()[0].stand, settlement.earnings()[0].unpaid), (stand, NanoTon::ZERO));
    }
}

#[test]
fn an_older_payment_changes_nothing() {
    let mut settlement = with(10_000, contract(0));
    settlement.owed(owed(9_000), after(9));
    assert_eq!(settlement.earnings()[0].signed.get(), 10_000);
    // What the contract says about its fee counts, if the network's params are others now.
    let mut settlement = Settlement::new(Policy::default(), WALLET);
    settlement.owed(Owed { fee: None, init: None, ..owed(10_000) }, NOW);
    assert_eq!(settlement.earnings()[0].unpaid, NanoTon::ZERO);
    settlement.looked(&worker(), contract(0), RICH, NOW);
    assert_eq!(settlement.earnings()[0].unpaid, NanoTon::new(10_000_000_000));
}

#[test]
fn nothing_is_sent_for_more_than_the_proxy_contract_has() {
    for (found, backing, is_ordered) in
        [(contract(0), 10_000, true), (contract(0), 9_999, false), (Found::Absent, 9_999, false)]
    {
        let mut settlement = settlement();
        settlement.owed(owed(10_000), NOW);
        settlement.looked(&worker(), found, NanoTon::new(backing * FEE.get()), NOW);
        assert_eq!(!settlement.orders(NOW).is_empty(), is_ordered, "{backing}");
        assert_eq!(settlement.earnings()[0].failure, (!is_ordered).then_some(Failure::NotPaid));
        // A client pays in.
        settlement.looked(&worker(), contract(0), RICH, after(600));
        assert_eq!(settlement.orders(after(600)).is_empty(), is_ordered);
    }
}

#[test]
fn what_stays_in_contracts_of_made_up_proxies_has_a_bound_for_each_day() {
    let mut settlement = settlement();
    let mut deploy = |from: u8, now| {
        for key in from..from + 40 {
            let owed = owed_by(key, 50);
            settlement.owed(owed.clone(), now);
            settlement.looked(&owed.worker, Found::Absent, RICH, now);
        }
        settlement.orders(now).len()
    };
    assert_eq!((deploy(1, NOW), deploy(50, after(24 * 3_600 - 1))), (DEPLOYMENTS_MAX, 0));
    assert_eq!(deploy(100, after(24 * 3_600)), DEPLOYMENTS_MAX);
    // What pays goes out all the same.
    let owed = owed_by(200, 10_000);
    settlement.owed(owed.clone(), after(24 * 3_600));
    settlement.looked(&owed.worker, Found::Absent, RICH, after(24 * 3_600));
    assert_eq!(only(settlement.orders(after(24 * 3_600))).message.value, ATTACHED);
}

#[test]
fn what_somebody_else_landed_is_over() {
    let mut settlement = with(10_000, contract(0));
    settlement.cash_out(None);
    let order = only(settlement.orders(NOW));
    let transaction = TransactionId { lt: LogicalTime::new(1), hash: TransactionHash::new([0; 32]) };
    let effect = Effect::Refused { exit_code: 1000 };
    settlement.ended(order.id, Outcome::Refused { transaction, effect, returned: NanoTon::ZERO }, NOW);
    settlement.looked(&worker(), contract(10_000), RICH, NOW);
    assert_eq!(settlement.earnings()[0].failure, None);
    // Nor is what comes next still asked for.
    settlement.owed(owed(10_020), after(60));
    assert!(settlement.orders(after(60)).is_empty());
}

#[test]
fn a_payout_that_nobody_saw_arrive_is_not_blamed_on_the_proxy() {
    let mut settlement = with(10_000, contract(0));
    let order = only(settlement.orders(NOW));
    settlement.ended(order.id, Outcome::Unresolved, NOW);
    settlement.looked(&worker(), contract(0), RICH, after(20));
    assert_eq!(settlement.earnings()[0].failure, Some(Failure::Unresolved));
    // It shows after all.
    settlement.looked(&worker(), contract(10_000), RICH, after(700));
    assert_eq!(settlement.earnings()[0].failure, None);
}
