//! The chain as a contract's author sees it.

use proptest::prelude::*;
use tycho_types::models::AccountStatus;

use super::*;
use crate::testing::{
    ONE, Pilot, START, account, all_coins, at, balance, body, devnet, empty, exit_code, history, parsed,
    transfer,
};

const PACE: Pace = Pace::Every(Duration::from_millis(200));

fn messages_under_way(devnet: &Devnet) -> Vec<Cell> {
    devnet.internals.values().map(|(_to, message)| message.clone()).collect()
}

#[test]
fn the_faucet_gives_to_whoever_it_is() {
    let mut devnet = devnet(Pace::Instant);
    let nobody = Address::new(0, [1; 32]);
    let hash = devnet.give(START, &nobody, ONE).unwrap();
    assert_eq!(balance(&devnet, &nobody), 1_000_000_000);
    assert_eq!(devnet.minted(), ONE);
    assert_eq!(devnet.arrival(&hash).unwrap().account, nobody);
    assert_eq!(devnet.head().get(), 2);

    let refused = devnet.give(START, &nobody, MINTED_MAX).unwrap_err();
    assert!(matches!(refused, SubmitError::Exhausted), "{refused}");
    devnet.give(START, &nobody, MINTED_MAX.saturating_sub(ONE)).unwrap();
    assert_eq!(balance(&devnet, &nobody), u128::from(MINTED_MAX.get()));
}

#[test]
fn an_external_message_has_all_its_consequences_at_once() {
    let mut devnet = devnet(Pace::Instant);
    let (first, second) = (Pilot::deployed(&mut devnet, 0), Pilot::deployed(&mut devnet, 1 << 32));
    let head = devnet.head();
    // The second answers, the first is paid back: three transactions.
    let echo = transfer(&second.address, NanoTon::new(500_000_000), true, body(2, |_| {}));
    let hash = devnet.submit(START, first.order(1, &[(1, echo)])).unwrap();
    assert_eq!(devnet.head().get(), head.get() + 1);
    let block = devnet.block(devnet.head()).unwrap();
    let accounts: Vec<_> = block.transactions.iter().map(|transaction| transaction.account).collect();
    assert_eq!(accounts, [first.address, second.address, first.address]);
    let lts: Vec<_> = block.transactions.iter().map(|transaction| transaction.lt).collect();
    assert!(lts.is_sorted() && lts[0] >= block.start_lt() && lts[2] < block.end_lt(), "{lts:?}");
    assert_eq!(devnet.block_of(lts[2]).unwrap(), block);

    let arrived = devnet.arrival(&hash).unwrap();
    assert_eq!((arrived.account, arrived.lt, arrived.block), (first.address, lts[0], block.seqno));
    assert!(balance(&devnet, &first.address) > 990_000_000, "only fees are gone");
    assert_eq!(all_coins(&devnet, &[]), 2_000_000_000);
}

#[test]
fn what_no_account_accepts_is_refused_and_leaves_no_trace() {
    let mut devnet = devnet(Pace::Instant);
    let pilot = Pilot::new(0);
    let refused = devnet.submit(START, pilot.order(0, &[])).unwrap_err();
    let nothing = SubmitError::NotExecuted(NotExecuted::NotAccepted { exit_code: None });
    assert_eq!(refused.to_string(), nothing.to_string(), "no balance yet");

    let pilot = Pilot::deployed(&mut devnet, 0);
    let (head, coins) = (devnet.head(), balance(&devnet, &pilot.address));
    let refused = devnet.submit(START, pilot.order(7, &[])).unwrap_err();
    let SubmitError::NotExecuted(NotExecuted::NotAccepted { exit_code }) = refused else {
        panic!("{refused}")
    };
    assert_eq!(exit_code, Some(33), "the wrong seqno");
    assert_eq!((devnet.head(), balance(&devnet, &pilot.address)), (head, coins));
    devnet.submit(START, pilot.order(1, &[])).unwrap();
    assert!(devnet.submit(START, pilot.order(1, &[])).is_err(), "the same again is too late");
}

#[test]
fn failures_bounce_and_pay_only_fees() {
    let mut devnet = devnet(Pace::Instant);
    let (first, second) = (Pilot::deployed(&mut devnet, 0), Pilot::deployed(&mut devnet, 1 << 32));
    let amount = NanoTon::new(100_000_000);
    let fail = body(1, |body| body.store_u16(777).unwrap());
    for (seqno, bounce, gets_back) in [(1, true, true), (2, false, false)] {
        let before = balance(&devnet, &first.address);
        devnet
            .submit(
                START,
                first.order(seqno, &[(1, transfer(&second.address, amount, bounce, fail.clone()))]),
            )
            .unwrap();
        assert_eq!(exit_code(history(&devnet, &second.address).last().unwrap()), Some(777));
        let lost = before - balance(&devnet, &first.address);
        assert_eq!(lost < 20_000_000, gets_back, "{lost}");
    }
    // Where nobody is, it bounces too, and without the flag stays.
    let nobody = Address::new(0, [9; 32]);
    devnet.submit(START, first.order(3, &[(1, transfer(&nobody, amount, true, empty()))])).unwrap();
    assert_eq!(balance(&devnet, &nobody), 0);
    devnet.submit(START, first.order(4, &[(1, transfer(&nobody, amount, false, empty()))])).unwrap();
    assert_eq!(balance(&devnet, &nobody), 100_000_000);
    assert_eq!(all_coins(&devnet, &[]), 2_000_000_000);
}

#[test]
fn an_account_can_vanish_and_come_back() {
    let mut devnet = devnet(Pace::Instant);
    let (first, second) = (Pilot::deployed(&mut devnet, 0), Pilot::deployed(&mut devnet, 1 << 32));
    let vanish = body(6, |body| {
        use tycho_types::cell::{Cell, CellFamily as _, Store as _};
        second.address.store_into(body, Cell::empty_context()).unwrap();
    });
    devnet
        .submit(
            START,
            second.order(1, &[(1, transfer(&first.address, NanoTon::new(50_000_000), true, vanish))]),
        )
        .unwrap();
    assert!(account(&devnet, &first.address).is_none());
    let (last, _info) = parsed(history(&devnet, &first.address).last().unwrap());
    assert_eq!(last.end_status, AccountStatus::NotExists);
    assert!(balance(&devnet, &second.address) > 1_900_000_000);
    devnet.give(START, &first.address, ONE).unwrap();
    devnet.submit(START, first.order(0, &[])).unwrap();
    assert_eq!(parsed(history(&devnet, &first.address).last().unwrap()).0.end_status, AccountStatus::Active);
}

#[test]
fn at_a_pace_blocks_come_by_the_clock_and_messages_wait_for_them() {
    let mut devnet = devnet(PACE);
    let nobody = Address::new(0, [1; 32]);
    assert_eq!(devnet.due(), None, "nothing waits, so nobody need wake up");
    devnet.advance(at(1_000));
    assert_eq!(devnet.head().get(), 6);
    devnet.give(at(1_050), &nobody, ONE).unwrap();
    assert_eq!(devnet.due(), Some(at(1_200)));
    devnet.advance(at(1_199));
    assert_eq!((devnet.head().get(), balance(&devnet, &nobody)), (6, 0));
    devnet.advance(at(1_200));
    assert_eq!((devnet.head().get(), balance(&devnet, &nobody)), (7, 1_000_000_000));
    let block = devnet.block(devnet.head()).unwrap();
    assert_eq!((block.time, block.transactions.len(), block.messages.len()), (at(1_200), 1, 1));
    devnet.advance(at(1_100));
    assert_eq!(devnet.head().get(), 7, "a clock that goes backwards makes no block");
    assert_eq!(devnet.block(BlockSeqno::new(3)).unwrap().time, at(400));
    assert!(devnet.block(BlockSeqno::new(8)).is_none());
    assert_eq!(devnet.filled_after(BlockSeqno::new(1)).len(), 1, "only what holds something is kept");
}

#[test]
fn a_message_that_waits_is_taken_once() {
    let mut devnet = devnet(PACE);
    let pilot = Pilot::new(0);
    devnet.give(at(0), &pilot.address, ONE).unwrap();
    devnet.advance(at(200));
    let first = devnet.submit(at(300), pilot.order(0, &[])).unwrap();
    assert_eq!(devnet.submit(at(310), pilot.order(0, &[])).unwrap(), first);
    // Another one with the same seqno is accepted now and refused by the time it is executed.
    let other = pilot.order(0, &[(0, transfer(&pilot.address, ONE, false, empty()))]);
    let other = devnet.submit(at(320), other).unwrap();
    devnet.advance(at(400));
    assert_eq!(devnet.block(devnet.head()).unwrap().transactions.len(), 1);
    assert!(devnet.arrival(&first).is_some() && devnet.arrival(&other).is_none());
}

#[test]
fn the_waiting_room_has_an_end() {
    let mut devnet = devnet(PACE);
    let nobody = Address::new(0, [1; 32]);
    for _ in 0..WAITING_MAX {
        devnet.give(START, &nobody, NanoTon::new(1)).unwrap();
    }
    assert!(matches!(devnet.give(START, &nobody, NanoTon::new(1)), Err(SubmitError::Full)));
    devnet.advance(at(200));
    assert_eq!(devnet.block(devnet.head()).unwrap().transactions.len(), TRANSACTIONS_MAX);
    devnet.give(at(200), &nobody, NanoTon::new(1)).unwrap();
}

#[test]
fn two_that_answer_each_other_fill_blocks_and_stop_nothing() {
    let mut devnet = devnet(Pace::Instant);
    let (first, second) = (Pilot::deployed(&mut devnet, 0), Pilot::deployed(&mut devnet, 1 << 32));
    devnet.give(START, &first.address, NanoTon::from_tons(1_000).unwrap()).unwrap();
    let play = body(10, |body| body.store_u64(0).unwrap());
    let all = NanoTon::from_tons(900).unwrap();
    devnet.submit(START, first.order(1, &[(1, transfer(&second.address, all, true, play))])).unwrap();
    assert!(devnet.has_work(), "they have not used up their coins");
    let head = devnet.head();
    devnet.give(START, &Address::new(0, [1; 32]), ONE).unwrap();
    assert!(devnet.head() > head);
    assert_eq!(all_coins(&devnet, &messages_under_way(&devnet)), u128::from(devnet.minted().get()));
}

#[test]
fn time_travel_is_seen_by_contracts_and_makes_storage_cost() {
    let mut devnet = devnet(Pace::Instant);
    let pilot = Pilot::deployed(&mut devnet, 0);
    devnet.set_pace(at(0), PACE);
    devnet.advance(at(200));
    let year = Duration::from_secs(365 * 86_400);
    devnet.travel(at(200), year);
    assert_eq!(devnet.ahead(), year);
    let before = balance(&devnet, &pilot.address);
    devnet.give(at(200), &pilot.address, NanoTon::new(1)).unwrap();
    devnet.advance(at(400));
    let (transaction, info) = parsed(history(&devnet, &pilot.address).last().unwrap());
    assert_eq!(u64::from(transaction.now), (at(400) + year).as_secs());
    let rent = info.storage_phase.unwrap().storage_fees_collected.into_inner();
    assert!(rent > 0 && balance(&devnet, &pilot.address) < before - rent + 1 + 1, "{rent}");
    let block = devnet.block(devnet.head()).unwrap();
    assert_eq!(block.time, at(400) + year);
    assert_eq!(u64::from(block.seqno.get()), 5 + year.as_secs() * 5, "blocks came all the way");
}

#[test]
fn the_pace_can_change() {
    let mut devnet = devnet(Pace::Instant);
    let nobody = Address::new(0, [1; 32]);
    devnet.give(at(0), &nobody, ONE).unwrap();
    devnet.set_pace(at(60_000), PACE);
    devnet.advance(at(60_150));
    assert_eq!(devnet.head().get(), 2, "the time before counts for nothing");
    devnet.give(at(60_150), &nobody, ONE).unwrap();
    devnet.set_pace(at(60_160), Pace::Instant);
    // A nanoton is the rent for a minute.
    assert_eq!(
        (devnet.head().get(), balance(&devnet, &nobody)),
        (3, 1_999_999_999),
        "nothing is left waiting"
    );
}

#[test]
fn an_external_message_is_found_by_its_normalised_hash() {
    let mut devnet = devnet(Pace::Instant);
    let pilot = Pilot::new(0);
    devnet.give(START, &pilot.address, ONE).unwrap();
    let with_init = pilot.order(0, &[]);
    let normal = normalised_hash(&with_init.cell).unwrap();
    let hash = devnet.submit(START, with_init).unwrap();
    assert_ne!(normal, hash);
    assert_eq!(devnet.arrival(&normal).unwrap().hash, devnet.arrival(&hash).unwrap().hash);
    assert!(devnet.arrival(&MessageHash::new([0; 32])).is_none());
}

#[test]
fn histories_are_cut_where_asked() {
    let mut devnet = devnet(Pace::Instant);
    let nobody = Address::new(0, [1; 32]);
    for _ in 0..5 {
        devnet.give(START, &nobody, ONE).unwrap();
    }
    let lts: Vec<_> = history(&devnet, &nobody).iter().map(|transaction| transaction.lt).collect();
    let cut = |from: Option<usize>, after: Option<usize>, limit| {
        let after = after.map_or(LogicalTime::new(0), |index| lts[index]);
        let found = devnet.transactions(&nobody, from.map(|index| lts[index]), after, limit).iter();
        found.map(|found| lts.iter().position(|lt| *lt == found.lt).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(cut(None, None, 99), [0, 1, 2, 3, 4]);
    assert_eq!(cut(None, None, 2), [3, 4]);
    assert_eq!(cut(Some(2), None, 2), [1, 2]);
    assert_eq!(cut(Some(3), Some(0), 99), [1, 2, 3]);
    assert_eq!(cut(Some(1), Some(3), 99), Vec::<usize>::new());
    assert!(devnet.transactions(&Address::new(0, [2; 32]), None, lts[0], 9).is_empty());
}

#[test]
fn blocks_are_replayed_and_nothing_else_passes_for_them() {
    let mut devnet = devnet(PACE);
    let pilot = Pilot::new(0);
    devnet.give(at(10), &pilot.address, ONE).unwrap();
    devnet.submit(at(450), pilot.order(0, &[])).unwrap();
    devnet.advance(at(600));
    let blocks = devnet.filled_after(BlockSeqno::new(1)).to_vec();
    assert_eq!(blocks.len(), 2);

    let mut again = crate::testing::devnet(PACE);
    for block in &blocks {
        again.replay(block).unwrap();
    }
    assert_eq!(again.filled_after(BlockSeqno::new(0)), devnet.filled_after(BlockSeqno::new(0)));
    assert_eq!(again.account(&pilot.address), devnet.account(&pilot.address));
    assert_eq!(again.minted(), devnet.minted());
    assert!(matches!(again.replay(&blocks[1]), Err(ReplayError::Order { .. })));

    let mut other =
        Devnet::new(Genesis { config: NetworkConfig::mainnet(), seed: [8; 32], start: START, pace: PACE });
    assert!(matches!(other.replay(&blocks[0]), Err(ReplayError::Diverged { .. })));
    let mut strange = blocks[0].clone();
    strange.messages = vec![empty()];
    let refused = crate::testing::devnet(PACE).replay(&strange);
    assert!(matches!(refused, Err(ReplayError::Message { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A message with changed bytes is refused, or executed like any other.
    #[test]
    fn no_bytes_of_a_message_do_harm(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
        let mut devnet = devnet(Pace::Instant);
        let pilot = Pilot::new(0);
        devnet.give(START, &pilot.address, ONE).unwrap();
        let body = body(13, |body| body.store_u8(9).unwrap());
        let message = transfer(&pilot.address, NanoTon::new(50_000_000), true, body);
        let mut bytes = tycho_types::boc::Boc::encode(&pilot.order(0, &[(1, message)]).cell);
        for (index, byte) in changes {
            *index.get_mut(&mut bytes) = byte;
        }
        if let Ok(message) = ExternalMessage::from_boc(&bytes)
            && let Err(error) = devnet.submit(START, message)
        {
            prop_assert!(matches!(error, SubmitError::NotExecuted(NotExecuted::NotAccepted { .. })), "{}", error);
        }
        prop_assert_eq!(all_coins(&devnet, &messages_under_way(&devnet)), 1_000_000_000);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The same messages at the same times give the same blocks, and no nanoton is lost, whatever pilots do.
    #[test]
    fn the_same_inputs_give_the_same_blocks_and_coins_are_conserved(
        steps in prop::collection::vec((0_u64..500, 0_u8..4, 0_u32..16, 1_u64..300_000_000), 1..20),
    ) {
        let play = || {
            let mut devnet = devnet(PACE);
            let pilots = [Pilot::new(0), Pilot::new(1 << 32)];
            let mut now = 0;
            let mut seqnos = [0, 0];
            for pilot in &pilots {
                devnet.give(at(now), &pilot.address, ONE).unwrap();
            }
            for (wait, who, op, amount) in &steps {
                now += wait;
                let (me, other) = (usize::from(who % 2), usize::from(who / 2));
                let body = body(*op, |body| {
                    body.store_u16(5).unwrap();
                    body.store_u64(*amount).unwrap();
                    body.store_zeros(400).unwrap();
                    body.store_reference(empty()).unwrap();
                });
                let message = transfer(&pilots[other].address, NanoTon::new(*amount), amount % 3 != 0, body);
                if devnet.submit(at(now), pilots[me].order(seqnos[me], &[(1, message)])).is_ok() {
                    seqnos[me] += 1;
                }
                let coins = all_coins(&devnet, &messages_under_way(&devnet));
                assert_eq!(coins, u128::from(devnet.minted().get()));
            }
            devnet.advance(at(now + 400));
            (devnet.head(), devnet.filled_after(BlockSeqno::new(0)).to_vec())
        };
        let (first, second) = (play(), play());
        prop_assert_eq!(first, second);
    }
}
