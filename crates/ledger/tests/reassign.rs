//! A pending transfer moves from a worker that failed to another one.
#![cfg(test)]

use cocoon_ledger::journal::Bill;
use cocoon_ledger::{ClientFunds, Ledger, Multipliers, PriceTable, ReassignError};
use ton::Address;
use units::{AdjustedTokens, NanoTon, RequestId};

#[test]
fn the_last_worker_earns_and_the_client_pays_once() {
    let prices = PriceTable::new(NanoTon::new(2), NanoTon::new(1), Multipliers::default()).unwrap();
    let mut ledger = Ledger::new(prices);
    let funds = NanoTon::new(10_000);
    let [client, first, second, stranger] = [1, 2, 3, 4].map(|number| Address::new(0, [number; 32]));
    ledger
        .open_client(client, ClientFunds { balance: funds, stake: funds, tokens_used: AdjustedTokens::ZERO });
    ledger.open_worker(first);
    ledger.open_worker(second);
    let tokens = AdjustedTokens::new;

    let hold = ledger.reserve(client, first, tokens(1000)).unwrap();
    let before = ledger.client(client);
    assert_eq!(ledger.reassign(&hold, stranger), Err(ReassignError::UnknownWorker));
    assert_eq!(ledger.worker(first).unwrap().running, 1, "a refused move changes nothing");
    ledger.reassign(&hold, second).unwrap();
    assert_eq!((ledger.client(client), ledger.audit()), (before, Ok(())));
    assert!(ledger.forget_idle_worker(first), "it has nothing to do with the request any more");
    assert!(!ledger.forget_idle_worker(second));

    // To the same worker is a move too.
    ledger.reassign(&hold, second).unwrap();
    let posted =
        ledger.post(hold, tokens(300), &Bill { request: RequestId::new([1; 32]), items: &[] }).unwrap();
    assert_eq!((posted.client_used, posted.worker_earned), (tokens(300), tokens(300)));
    assert_eq!(ledger.worker(second).unwrap().running, 0);
    assert_eq!((ledger.totals().held, ledger.audit()), (AdjustedTokens::ZERO, Ok(())));
}
