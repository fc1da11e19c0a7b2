use std::time::Duration;

use devnet::{Devnet, Genesis, NetworkConfig, Pace};
use tycho_types::boc::Boc;
use units::NanoTon;

use super::*;

/// Transactions of an account that was given coins so often, the oldest first.
fn history(account: Address, seed: &str, count: usize) -> Vec<Vec<u8>> {
    let start = Duration::from_secs(1_800_000_000);
    let config = NetworkConfig::mainnet();
    let mut chain = Devnet::new(Genesis { config, seed: Genesis::seed_of(seed), start, pace: Pace::Instant });
    for gift in 0..count {
        // Another amount for each seed makes another history.
        let amount = NanoTon::new(1_000_000 + u64::try_from(gift + seed.len()).unwrap());
        chain.give(start, &account, amount).unwrap();
    }
    let all = chain.transactions(&account, None, LogicalTime::new(0), usize::MAX);
    all.iter().map(|transaction| Boc::encode(&transaction.cell)).collect()
}

const ACCOUNT: Address = Address::new(0, [1; 32]);

fn id(boc: &[u8]) -> TransactionId {
    Transaction::from_boc(&ACCOUNT, boc).unwrap().id
}

/// Answers like an honest server: from a transaction on, the newest first.
fn answer(history: &[Vec<u8>], from: TransactionId, count: usize) -> Vec<Vec<u8>> {
    let at = history.iter().position(|boc| id(boc) == from).unwrap();
    history[..=at].iter().rev().take(count).cloned().collect()
}

/// Walks with pages of `count`, and says what came and how often was asked.
fn walked(history: &[Vec<u8>], known: Option<TransactionId>, count: usize) -> (Vec<TransactionId>, usize) {
    let mut walk = Walk::new(ACCOUNT, known, id(history.last().unwrap()));
    let (mut came, mut questions) = (Vec::new(), 0);
    loop {
        match walk.step() {
            Step::Ask(from) => {
                questions += 1;
                walk.take(&answer(history, from, count)).unwrap();
            }
            Step::Deliver(page) => {
                assert!(page.len() <= count);
                came.extend(page.iter().map(|transaction| transaction.id));
            }
            Step::Done => {
                assert!(walk.is_over());
                return (came, questions);
            }
        }
    }
}

#[test]
fn all_transactions_come_once_and_in_order_whatever_the_pages() {
    let history = history(ACCOUNT, "a", 23);
    let ids: Vec<_> = history.iter().map(|boc| id(boc)).collect();
    for count in [1, 2, 5, 7, 22, 23, 100] {
        for known in [None, Some(0), Some(7), Some(21)] {
            let behind = known.map_or(0, |at| at + 1);
            let (came, questions) = walked(&history, known.map(|at| ids[at]), count);
            assert_eq!(came, ids[behind..], "{count} {known:?}");
            let pages = (23 - behind).div_ceil(count);
            assert_eq!(questions, 2 * pages - 1, "the oldest page is not asked for twice: {count} {known:?}");
        }
    }
}

#[test]
fn answers_may_be_shorter_than_asked_for() {
    let history = history(ACCOUNT, "a", 9);
    let mut walk = Walk::new(ACCOUNT, None, id(&history[8]));
    let mut came = Vec::new();
    for count in (1..4).cycle() {
        match walk.step() {
            Step::Ask(from) => walk.take(&answer(&history, from, count)).unwrap(),
            Step::Deliver(page) => came.extend(page.iter().map(|transaction| transaction.id)),
            Step::Done => break,
        }
    }
    assert_eq!(came, history.iter().map(|boc| id(boc)).collect::<Vec<_>>());
}

#[test]
fn what_is_left_out_reordered_doubled_or_invented_is_noticed() {
    let honest = history(ACCOUNT, "a", 6);
    let invented = history(ACCOUNT, "other", 6);
    let refused = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut walk = Walk::new(ACCOUNT, Some(id(&honest[0])), id(&honest[5]));
        let mut answer = answer(&honest, id(&honest[5]), 10);
        change(&mut answer);
        match walk.take(&answer) {
            Err(WalkError::Lie(lie)) => lie,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(refused(&|answer| drop(answer.remove(2))), Lie::Broken { .. }));
    assert!(matches!(refused(&|answer| drop(answer.remove(0))), Lie::Broken { .. }));
    assert!(matches!(refused(&|answer| answer.swap(1, 2)), Lie::Broken { .. }));
    assert!(matches!(refused(&|answer| answer.insert(1, answer[0].clone())), Lie::Broken { .. }));
    assert!(matches!(refused(&|answer| answer[3] = invented[2].clone()), Lie::Broken { .. }));
    assert!(matches!(refused(&|answer| answer.reverse()), Lie::Broken { .. }));
    assert!(matches!(refused(&Vec::clear), Lie::Missing { .. }));
    assert!(matches!(refused(&|answer| answer[0].truncate(50)), Lie::NoTransaction { .. }));
    assert!(matches!(refused(&|answer| answer[1][20] ^= 1), Lie::NoTransaction { .. } | Lie::Broken { .. }));
    let elsewhere = history(Address::new(0, [2; 32]), "a", 1);
    assert!(matches!(refused(&|answer| answer[0] = elsewhere[0].clone()), Lie::NoTransaction { .. }));
}

#[test]
fn an_end_that_does_not_lead_back_to_what_was_seen_is_a_fork() {
    let (honest, invented) = (history(ACCOUNT, "a", 6), history(ACCOUNT, "other", 8));
    let mut walk = Walk::new(ACCOUNT, Some(id(&honest[2])), id(&invented[7]));
    let taken = walk.take(&answer(&invented, id(&invented[7]), 10));
    assert!(matches!(taken, Err(WalkError::Lie(Lie::Forked { .. }))), "{taken:?}");
    // One that says to have begun after what was seen.
    let mut walk =
        Walk::new(ACCOUNT, Some(TransactionId { lt: LogicalTime::new(1), ..id(&honest[0]) }), id(&honest[5]));
    let taken = walk.take(&answer(&honest, id(&honest[5]), 10));
    assert!(matches!(taken, Err(WalkError::Lie(Lie::Forked { .. }))), "{taken:?}");
}
