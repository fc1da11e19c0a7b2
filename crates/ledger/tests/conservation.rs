//! Random business: whatever is reserved, posted and voided in whatever order, nothing appears or vanishes.
#![cfg(test)]

use cocoon_ledger::journal::Bill;
use cocoon_ledger::{ClientFunds, Hold, Ledger, Multipliers, PriceTable, ReserveError};
use proptest::prelude::*;
use ton::Address;
use units::{AdjustedTokens, NanoTon, RequestId};

const CLIENTS: u8 = 3;
const WORKERS: u8 = 3;

#[derive(Clone, Debug)]
enum Step {
    Fund { client: u8, balance: u64, stake: u64, used_on_chain: u64 },
    Reserve { client: u8, worker: u8, amount: u64 },
    Post { hold: usize, counted: u64 },
    Void { hold: usize },
    Forget { account: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let amount = prop_oneof![0..5_000_u64, Just(0), Just(u64::MAX), any::<u64>()];
    let funds = prop_oneof![0..20_000_u64, Just(u64::MAX)];
    prop_oneof![
        2 => (0..CLIENTS, funds.clone(), funds, 0..1000_u64).prop_map(|(client, balance, stake, used_on_chain)| {
            Step::Fund { client, balance, stake, used_on_chain }
        }),
        6 => (0..CLIENTS, 0..WORKERS, amount.clone())
            .prop_map(|(client, worker, amount)| Step::Reserve { client, worker, amount }),
        5 => (any::<usize>(), amount).prop_map(|(hold, counted)| Step::Post { hold, counted }),
        3 => any::<usize>().prop_map(|hold| Step::Void { hold }),
        1 => (0..CLIENTS).prop_map(|account| Step::Forget { account }),
    ]
}

/// What the test knows about a hold that has not ended.
struct Open {
    hold: Hold,
    client: u8,
    worker: u8,
    amount: AdjustedTokens,
}

const BILL: Bill<'_> = Bill { request: RequestId::new([0; 32]), items: &[] };

fn who(number: u8) -> Address {
    Address::new(0, [number; 32])
}

fn tokens(count: u64) -> AdjustedTokens {
    AdjustedTokens::new(count)
}

fn ledger(price: u64, fee: u64) -> Ledger {
    let prices = PriceTable::new(NanoTon::new(price), NanoTon::new(fee), Multipliers::default()).unwrap();
    let mut ledger = Ledger::new(prices);
    (0..WORKERS).for_each(|worker| ledger.open_worker(who(worker)));
    ledger
}

fn funds(balance: u64, stake: u64, used_on_chain: u64) -> ClientFunds {
    ClientFunds {
        balance: NanoTon::new(balance),
        stake: NanoTon::new(stake),
        tokens_used: tokens(used_on_chain),
    }
}

proptest! {
    #[test]
    fn nothing_appears_or_vanishes(
        steps in prop::collection::vec(step(), 1..120), fee in 0..=7_u64, proxy_fee in 0..=7_u64,
    ) {
        let mut ledger = ledger(fee + proxy_fee, fee);
        let mut open = Vec::<Open>::new();
        for step in steps {
            let totals_before = ledger.totals();
            match step {
                Step::Fund { client, balance, stake, used_on_chain } => {
                    let used_before = ledger.client(who(client)).map(|limits| limits.used);
                    ledger.open_client(who(client), funds(balance, stake, used_on_chain));
                    prop_assert!(ledger.client(who(client)).map(|limits| limits.used) >= used_before);
                }
                Step::Reserve { client, worker, amount } => {
                    let amount = tokens(amount);
                    let before = ledger.client(who(client));
                    match ledger.reserve(who(client), who(worker), amount) {
                        Ok(hold) => {
                            let before = before.unwrap();
                            let after = ledger.client(who(client)).unwrap();
                            prop_assert!(amount <= before.available);
                            prop_assert_eq!(before.available.checked_sub(amount), Ok(after.available));
                            open.push(Open { hold, client, worker, amount });
                        }
                        Err(_refused) => prop_assert_eq!(ledger.client(who(client)), before),
                    }
                }
                Step::Post { hold, counted } if !open.is_empty() => {
                    let Open { hold, client, worker, amount } = open.swap_remove(hold % open.len());
                    let used_before = ledger.client(who(client)).unwrap().used;
                    let posted = ledger.post(hold, tokens(counted), &BILL).unwrap();
                    prop_assert_eq!(posted.charged, tokens(counted).min(amount));
                    prop_assert_eq!(posted.charged.checked_add(posted.capped), Ok(tokens(counted)));
                    prop_assert_eq!(used_before.checked_add(posted.charged), Ok(posted.client_used));
                    prop_assert_eq!(ledger.client(who(client)).unwrap().used, posted.client_used);
                    prop_assert_eq!(ledger.worker(who(worker)).unwrap().earned, posted.worker_earned);
                }
                Step::Void { hold } if !open.is_empty() => {
                    let Open { hold, client, amount, .. } = open.swap_remove(hold % open.len());
                    let reserved_before = ledger.client(who(client)).unwrap().reserved;
                    ledger.void(hold).unwrap();
                    let reserved = ledger.client(who(client)).unwrap().reserved;
                    prop_assert_eq!(reserved_before.checked_sub(amount), Ok(reserved));
                }
                Step::Forget { account } => {
                    let busy = open.iter().any(|open| open.client == account);
                    prop_assert!(!(ledger.forget_idle_client(who(account)) && busy));
                    let busy = open.iter().any(|open| open.worker == account);
                    prop_assert!(!(ledger.forget_idle_worker(who(account)) && busy));
                    ledger.open_worker(who(account));
                }
                Step::Post { .. } | Step::Void { .. } => {}
            }
            prop_assert_eq!(ledger.audit(), Ok(()));
            let totals = ledger.totals();
            prop_assert!(totals.tokens >= totals_before.tokens);
            prop_assert_eq!(totals.earned.checked_add(totals.fees), Ok(totals.charged));
        }
        for Open { hold, .. } in open {
            ledger.void(hold).unwrap();
        }
        prop_assert_eq!(ledger.totals().held, AdjustedTokens::ZERO);
        prop_assert_eq!(ledger.audit(), Ok(()));
    }
}

#[test]
fn a_request_is_charged_and_the_rest_is_free_again() {
    let mut ledger = ledger(2, 1);
    ledger.open_client(who(1), funds(20_000, 20_000, 0));
    let hold = ledger.reserve(who(1), who(1), tokens(5_000)).unwrap();
    assert_eq!(ledger.client(who(1)).unwrap().available, tokens(5_000));
    let posted = ledger.post(hold, tokens(200), &BILL).unwrap();
    assert_eq!((posted.charged, posted.capped), (tokens(200), AdjustedTokens::ZERO));
    assert_eq!(ledger.client(who(1)).unwrap().available, tokens(9_800));
    let totals = ledger.totals();
    assert_eq!((totals.charged, totals.earned, totals.fees), {
        (NanoTon::new(400), NanoTon::new(200), NanoTon::new(200))
    });
}

#[test]
fn a_charge_never_exceeds_its_hold() {
    let mut ledger = ledger(2, 1);
    ledger.open_client(who(1), funds(20_000, 20_000, 0));
    let exact = ledger.reserve(who(1), who(1), tokens(100)).unwrap();
    assert_eq!(ledger.post(exact, tokens(100), &BILL).unwrap().capped, AdjustedTokens::ZERO);
    let short = ledger.reserve(who(1), who(1), tokens(100)).unwrap();
    let posted = ledger.post(short, tokens(101), &BILL).unwrap();
    assert_eq!((posted.charged, posted.capped), (tokens(100), tokens(1)));
    assert_eq!((posted.client_used, posted.worker_earned), (tokens(200), tokens(200)));
}

#[test]
fn the_last_token_can_be_held_and_the_next_cannot() {
    let mut ledger = ledger(1, 1);
    ledger.open_client(who(1), funds(100, 1_000, 0));
    let refused = ledger.reserve(who(1), who(1), tokens(101)).unwrap_err();
    assert_eq!(refused, ReserveError::Insufficient { needed: tokens(101), available: tokens(100) });
    let hold = ledger.reserve(who(1), who(1), tokens(100)).unwrap();
    assert!(ledger.reserve(who(1), who(1), tokens(1)).is_err());
    ledger.void(hold).unwrap();
    assert!(ledger.reserve(who(1), who(1), tokens(100)).is_ok());
}

#[test]
fn strangers_hold_nothing() {
    let mut ledger = ledger(1, 1);
    assert_eq!(ledger.reserve(who(1), who(1), tokens(0)).unwrap_err(), ReserveError::UnknownClient);
    ledger.open_client(who(1), funds(100, 100, 0));
    assert_eq!(ledger.reserve(who(1), who(99), tokens(0)).unwrap_err(), ReserveError::UnknownWorker);
}

#[test]
fn a_hold_ends_in_its_own_ledger_only() {
    let (mut first, mut second) = (ledger(1, 1), ledger(1, 1));
    first.open_client(who(1), funds(100, 100, 0));
    let hold = first.reserve(who(1), who(1), tokens(10)).unwrap();
    let refused = second.post(hold, tokens(10), &BILL).unwrap_err();
    assert_eq!(refused.to_string(), "hold 0 is not pending in this ledger");
    assert_eq!(second.audit(), Ok(()));
}

#[test]
fn accounts_with_business_are_not_forgotten() {
    let mut ledger = ledger(1, 1);
    ledger.open_client(who(1), funds(100, 100, 0));
    let free_of_charge = ledger.reserve(who(1), who(1), tokens(0)).unwrap();
    assert!(!ledger.forget_idle_client(who(1)));
    assert!(!ledger.forget_idle_worker(who(1)));
    ledger.void(free_of_charge).unwrap();
    assert!(ledger.forget_idle_client(who(1)));
    assert!(ledger.forget_idle_worker(who(1)));
    assert!(!ledger.forget_idle_client(who(1)));
}

#[test]
fn what_the_chain_knows_is_brought_forward_once() {
    let mut ledger = ledger(1, 1);
    ledger.open_client(who(1), funds(100, 100, 40));
    ledger.open_client(who(1), funds(100, 100, 40));
    assert_eq!(ledger.client(who(1)).unwrap().used, tokens(40));
    assert_eq!(ledger.client(who(1)).unwrap().available, tokens(100));

    let hold = ledger.reserve(who(1), who(1), tokens(10)).unwrap();
    ledger.post(hold, tokens(10), &BILL).unwrap();
    ledger.open_client(who(1), funds(90, 100, 50));
    assert_eq!(ledger.client(who(1)).unwrap().used, tokens(50), "the chain learned of our own charge");
    ledger.open_client(who(1), funds(90, 100, 51));
    assert_eq!(ledger.client(who(1)).unwrap().used, tokens(51));
    assert_eq!(ledger.audit(), Ok(()));
}
