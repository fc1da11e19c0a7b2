use ton::message::InternalMessage;
use ton::{Contract, ContractCode, contracts::wallet_init};
use units::TransactionHash;

use super::*;
use crate::transaction::NotRun;

const NOW: Duration = Duration::from_secs(1_800_000_000);
const TON: u64 = 1_000_000_000;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn state_init() -> StateInit {
    let key = PublicKey::new(key().verifying_key().to_bytes());
    wallet_init(&ContractCode::built(Contract::Wallet), &key, &Address::new(0, [8; 32]))
}

fn order(id: u64, nanotons: u64) -> Order {
    let to = Address::new(0, [u8::try_from(id).unwrap(); 32]);
    let value = NanoTon::new(nanotons);
    Order {
        id: OrderId(id),
        message: InternalMessage { to, value, bounce: true, state_init: None, body: None },
    }
}

fn id(lt: u64) -> TransactionId {
    TransactionId { lt: LogicalTime::new(lt), hash: TransactionHash::new([9; 32]) }
}

/// The wallet, deployed.
fn wallet(nanotons: u64, seqno: u32, now: Duration) -> Account {
    let key = PublicKey::new(key().verifying_key().to_bytes());
    let data = WalletData { seqno, subwallet: 0, key, status: 0, owner: Address::new(0, [8; 32]) };
    Account {
        balance: NanoTon::new(nanotons),
        status: AccountStatus::Active { code: None, data: Some(data.to_cell()) },
        last: Some(id(seqno.into())),
        block: units::BlockSeqno::new(1),
        block_time: now,
    }
}

/// An outbox that has seen a wallet with 20 TON at seqno 5.
fn outbox() -> Outbox {
    let mut outbox = Outbox::new(key(), state_init());
    outbox.account(&wallet(20 * TON, 5, NOW), NOW);
    outbox
}

/// The message that is to be handed in now.
fn handed_in(outbox: &mut Outbox, now: Duration) -> Option<(WalletOrder, Cell)> {
    match outbox.next(now)? {
        Action::HandIn(message) => {
            let body = Message::read(&message).unwrap().body;
            let key = PublicKey::new(key().verifying_key().to_bytes());
            let (order, true) = WalletOrder::from_cell(&body, &key).unwrap() else { panic!("not signed") };
            Some((order, body))
        }
        Action::Find { .. } => panic!("nothing has left yet"),
    }
}

fn message(route: Route, body: Cell) -> Message {
    let hash = MessageHash::new(body.repr_hash().0);
    Message { hash, route, forward_fee: NanoTon::ZERO, body, has_state_init: false }
}

/// The wallet's transaction with an external message, which sent the messages of these orders.
fn ran(body: &Cell, sent: &[Order]) -> Transaction {
    let outgoing = sent.iter().zip(1..).map(|(order, lt)| {
        let route = Route::Internal {
            from: state_init().address(),
            to: order.message.to,
            value: order.message.value.saturating_sub(NanoTon::new(400_000)),
            bounce: true,
            bounced: false,
            created_lt: LogicalTime::new(lt),
        };
        message(route, Cell::default())
    });
    Transaction {
        id: id(100),
        previous: None,
        unix_time: 0,
        incoming: Some(message(Route::In, body.clone())),
        outgoing: outgoing.collect(),
        effect: Effect::Done,
        fees: NanoTon::ZERO,
    }
}

/// What the receiver made of an order's message.
fn arrived(effect: Effect, returned: Option<u64>) -> Transaction {
    let mut transaction = ran(&Cell::default(), &[]);
    transaction.effect = effect;
    transaction.outgoing = returned
        .map(|value| {
            let route = Route::Internal {
                from: Address::new(0, [1; 32]),
                to: state_init().address(),
                value: NanoTon::new(value),
                bounce: false,
                bounced: true,
                created_lt: LogicalTime::new(3),
            };
            message(route, Cell::default())
        })
        .into_iter()
        .collect();
    transaction
}

fn after(seconds: u64) -> Duration {
    NOW + Duration::from_secs(seconds)
}

#[test]
fn orders_go_out_four_at_a_time_and_one_batch_after_the_other() {
    let mut outbox = outbox();
    let orders: Vec<_> = (1..=6).map(|id| order(id, TON)).collect();
    orders.iter().for_each(|order| outbox.submit(order.clone()).unwrap());
    let (first, body) = handed_in(&mut outbox, NOW).unwrap();
    assert_eq!((first.seqno(), first.messages().len()), (5, 4));
    assert_eq!(first.messages()[0], orders[0].to_send());
    assert!(handed_in(&mut outbox, after(9)).is_none());
    outbox.transaction(&ran(&body, &orders[..4]), after(9));
    outbox.account(&wallet(16 * TON, 6, after(9)), after(9));
    let looked: Vec<_> = std::iter::from_fn(|| match outbox.next(after(9)) {
        Some(Action::Find { order, .. }) => Some(order.0),
        _ => None,
    })
    .collect();
    assert_eq!(looked, [1, 2, 3, 4]);
    assert_eq!(outbox.batch.as_ref().unwrap().seqno, 6);
    assert_eq!(outbox.open(), 6);
}

#[test]
fn what_does_not_fit_waits_and_keeps_its_place() {
    let mut outbox = outbox();
    for (id, tons) in [(1, 10), (2, 15), (3, 8), (4, 1)] {
        outbox.submit(order(id, tons * TON)).unwrap();
    }
    let (first, _body) = handed_in(&mut outbox, NOW).unwrap();
    let ids: Vec<_> = outbox.batch.as_ref().unwrap().orders.iter().map(|order| order.id.0).collect();
    assert_eq!((first.messages().len(), ids), (3, vec![1, 3, 4]));
    assert_eq!(outbox.waiting.front().unwrap().id, OrderId(2));
}

#[test]
fn a_batch_leaves_a_tenth_of_a_ton_for_its_fees() {
    for (nanotons, fits) in [(19_900_000_000, true), (19_900_000_001, false)] {
        let mut outbox = outbox();
        outbox.submit(order(1, nanotons)).unwrap();
        assert_eq!(handed_in(&mut outbox, NOW).is_some(), fits, "{nanotons}");
        let needed = NanoTon::new(20_000_000_001);
        let expected = (!fits).then_some(Hold::Funds { balance: NanoTon::new(20 * TON), needed });
        assert_eq!(outbox.hold(), expected);
    }
}

#[test]
fn with_too_little_in_the_wallet_nothing_is_signed() {
    for (nanotons, is_signed) in [(2_099_999_999, false), (2_100_000_000, true)] {
        let mut outbox = Outbox::new(key(), state_init());
        outbox.account(&wallet(nanotons, 5, NOW), NOW);
        outbox.submit(order(1, 1)).unwrap();
        assert_eq!(handed_in(&mut outbox, NOW).is_some(), is_signed, "{nanotons}");
    }
}

#[test]
fn orders_that_can_never_go_out_are_refused() {
    let mut outbox = outbox();
    let error = outbox.submit(order(1, 1_000 * TON)).unwrap_err();
    assert!(matches!(error, OrderError::TooLarge { .. }), "{error}");
    outbox.submit(order(2, 1_000 * TON - TON / 10)).unwrap();
    let many = |id: u64| Order { id: OrderId(1_000 + id), ..order(1, 1) };
    (1..1_000).for_each(|id| outbox.submit(many(id)).unwrap());
    assert_eq!(outbox.submit(order(3, 1)), Err(OrderError::Full));
    // The same order again is no other one.
    assert_eq!(outbox.submit(many(1)), Ok(()));
}

#[test]
fn what_is_promised_to_one_order_is_not_there_for_another() {
    let mut outbox = outbox();
    let unpromised = |outbox: &Outbox| outbox.unpromised().unwrap().get();
    outbox.submit_covered(order(1, 12 * TON)).unwrap();
    assert_eq!(unpromised(&outbox), 8 * TON);
    let refused = outbox.submit_covered(order(2, 8 * TON)).unwrap_err();
    let needed = NanoTon::new(8 * TON + TON / 10);
    assert_eq!(refused, OrderError::NotCovered { unpromised: NanoTon::new(8 * TON), needed });
    assert!(!outbox.knows(OrderId(2)));
    outbox.submit_covered(order(3, 8 * TON - TON / 10)).unwrap();
    // The same order is not covered twice, and those that may wait for money are taken all the same.
    outbox.submit_covered(order(3, 8 * TON - TON / 10)).unwrap();
    outbox.submit(order(4, TON)).unwrap();
    assert_eq!(unpromised(&outbox), 0);

    // What left is gone before the wallet is read again, and then not counted twice.
    let (sent, body) = handed_in(&mut outbox, NOW).unwrap();
    assert_eq!((sent.messages().len(), unpromised(&outbox)), (2, 0));
    outbox.transaction(&ran(&body, &[order(1, 12 * TON), order(3, 8 * TON - TON / 10)]), NOW);
    assert_eq!(unpromised(&outbox), 0);
    assert!(outbox.submit_covered(order(5, 1)).is_err(), "it has a tenth, and promised a TON");
    outbox.account(&wallet(6 * TON, 6, NOW), NOW);
    assert_eq!(unpromised(&outbox), 5 * TON);
    outbox.submit_covered(order(5, 5 * TON - TON / 10)).unwrap();
}

#[test]
fn a_wallet_that_was_not_seen_covers_nothing() {
    let mut outbox = Outbox::new(key(), state_init());
    assert_eq!(outbox.unpromised(), None);
    assert!(matches!(outbox.submit_covered(order(1, 1)), Err(OrderError::NotCovered { .. })));
}

#[test]
fn the_same_bytes_are_handed_in_until_they_are_late_and_then_others_with_the_same_seqno() {
    let mut outbox = outbox();
    outbox.submit(order(1, TON)).unwrap();
    let (first, first_body) = handed_in(&mut outbox, NOW).unwrap();
    assert_eq!(u64::from(first.valid_until()), NOW.as_secs() + 90);
    let (_again, body) = handed_in(&mut outbox, after(10)).unwrap();
    assert_eq!(body, first_body);
    // Late by the chain's clock alone, or by ours alone, is not late.
    for (block, now) in [(91, 91), (91, 120), (90, 121)] {
        outbox.account(&wallet(20 * TON, 5, after(block)), after(now));
        let resent = handed_in(&mut outbox, after(now)).map(|(_order, body)| body);
        assert!(resent.is_none_or(|body| body == first_body), "{block} {now}");
    }
    outbox.account(&wallet(20 * TON, 5, after(130)), after(130));
    let (second, second_body) = handed_in(&mut outbox, after(130)).unwrap();
    assert_eq!((second.seqno(), second.messages()), (first.seqno(), first.messages()));
    assert_ne!(second_body, first_body);
    // The first one made it after all.
    outbox.transaction(&ran(&first_body, &[order(1, TON)]), after(131));
    outbox.account(&wallet(19 * TON, 6, after(131)), after(131));
    assert!(matches!(outbox.next(after(131)), Some(Action::Find { order: OrderId(1), .. })));
    assert!(outbox.next(after(131)).is_none());
}

#[test]
fn a_batch_whose_number_was_used_by_another_message_gets_the_next_one() {
    let mut outbox = outbox();
    outbox.submit(order(1, TON)).unwrap();
    let (_order, body) = handed_in(&mut outbox, NOW).unwrap();
    // Not signed by our key: it says nothing.
    let stranger = WalletOrder::new(1, 5, vec![]).unwrap().sign(&SigningKey::from_bytes(&[1; 32]));
    outbox.transaction(&ran(&stranger, &[]), NOW);
    assert_eq!(outbox.batch.as_ref().unwrap().signed[0].hash, hash(&body));
    let other = WalletOrder::new(1, 5, vec![]).unwrap().sign(&key());
    outbox.transaction(&ran(&other, &[]), NOW);
    outbox.account(&wallet(20 * TON, 6, NOW), NOW);
    assert_eq!(handed_in(&mut outbox, NOW).unwrap().0.seqno(), 6);
}

#[test]
fn another_number_is_not_believed_while_a_message_may_run() {
    let mut outbox = outbox();
    outbox.submit(order(1, TON)).unwrap();
    let (_order, body) = handed_in(&mut outbox, NOW).unwrap();
    outbox.account(&wallet(20 * TON, 9, after(20)), after(20));
    assert_eq!(handed_in(&mut outbox, after(20)).unwrap().1, body);
    assert_eq!(outbox.hold(), Some(Hold::Uncertain));
    // A lower one holds once all that was signed is late: nothing can have run under a higher one.
    outbox.account(&wallet(20 * TON, 3, after(130)), after(130));
    assert_eq!(handed_in(&mut outbox, after(130)).unwrap().0.seqno(), 3);
}

#[test]
fn orders_that_may_have_run_unseen_are_never_signed_for_another_number() {
    let mut outbox = outbox();
    outbox.submit(order(1, TON)).unwrap();
    handed_in(&mut outbox, NOW).unwrap();
    // The number goes on, and the transaction by which it did is kept from us.
    outbox.account(&wallet(19 * TON, 6, after(130)), after(130));
    assert!(outbox.next(after(130)).is_none());
    assert_eq!(outbox.outcome(OrderId(1)), Some(Outcome::Unresolved));
    // Neither in another life.
    let mut again = Outbox::from_text(key(), state_init(), &outbox.to_text()).unwrap();
    again.account(&wallet(19 * TON, 6, after(131)), after(131));
    assert!(again.next(after(131)).is_none());
    again.submit(order(2, TON)).unwrap();
    assert_eq!(handed_in(&mut again, after(131)).unwrap().0.seqno(), 6);
}

#[test]
fn a_wallet_whose_past_was_invented_is_followed_anew() {
    let mut outbox = outbox();
    // Nothing was signed: what is now will do.
    let mut follower = outbox.follower_anew();
    assert_eq!((follower.account(), follower.seen()), (&outbox.address(), None));
    outbox.submit(order(1, TON)).unwrap();
    let (_order, body) = handed_in(&mut outbox, NOW).unwrap();
    follower = outbox.follower_anew();
    assert_eq!(format!("{follower:?}"), format!("{:?}", Follower::from_first(outbox.address())));
    // Its own old messages say nothing new, and the open one is found among them.
    let old = WalletOrder::new(1, 3, vec![]).unwrap().sign(&key());
    outbox.transaction(&ran(&old, &[]), after(1));
    outbox.transaction(&ran(&body, &[order(1, TON)]), after(1));
    assert!(matches!(outbox.next(after(1)), Some(Action::Find { order: OrderId(1), .. })));
}

#[test]
fn neither_an_outage_nor_a_jump_of_the_clock_ends_an_order() {
    let mut outbox = outbox();
    outbox.submit(order(1, TON)).unwrap();
    let (_order, body) = handed_in(&mut outbox, NOW).unwrap();
    outbox.transaction(&ran(&body, &[order(1, TON)]), NOW);
    let mut looked = |now: Duration, is_answered: bool| {
        assert!(matches!(outbox.next(now), Some(Action::Find { order: OrderId(1), .. })), "{now:?}");
        if is_answered {
            outbox.found(OrderId(1), None, now);
        } else {
            outbox.not_found(OrderId(1), now);
        }
        outbox.outcome(OrderId(1))
    };
    for minute in 0..600 {
        assert_eq!(looked(after(60 * minute), false), None);
    }
    for look in 1..20 {
        assert_eq!(looked(after(100_000 + 60 * look), true), None, "{look}");
    }
    assert_eq!(looked(after(200_000), true), Some(Outcome::Unresolved));
}

#[test]
fn what_is_kept_does_not_grow_with_what_never_gets_in() {
    let mut outbox = outbox();
    let mut large = order(1, TON);
    large.message.body = Some(ContractCode::built(Contract::Proxy).cell());
    outbox.submit(large).unwrap();
    let mut lens = Vec::new();
    for minute in 0..60 {
        let now = after(120 * minute);
        outbox.account(&wallet(20 * TON, 5, now), now);
        handed_in(&mut outbox, now).unwrap();
        lens.push(outbox.to_text().len());
    }
    assert!(lens[59] < lens[0] + 60 * 100, "{} bytes, then {}", lens[0], lens[59]);
}

#[test]
fn orders_kept_with_the_bodies_of_all_messages_are_read() {
    let mut outbox = outbox();
    outbox.submit(order(1, TON)).unwrap();
    let (_order, body) = handed_in(&mut outbox, NOW).unwrap();
    let text = outbox.to_text();
    let boc = hex::encode(tycho_types::boc::Boc::encode(&body));
    let mut kept: serde_json::Value = serde_json::from_str(&text).unwrap();
    kept["format"] = 1.into();
    let batch = kept["batch"].as_object_mut().unwrap();
    batch.remove("body");
    batch["signed"][0][1] = boc.into();
    let mut again = Outbox::from_text(key(), state_init(), &kept.to_string()).unwrap();
    assert_eq!(again.to_text(), text);
    assert_eq!(handed_in(&mut again, NOW).unwrap().1, body);
    kept["batch"]["signed"][0][1] = "00".into();
    assert!(Outbox::from_text(key(), state_init(), &kept.to_string()).is_err());
}

#[test]
fn clocks_owners_and_other_contracts_can_stop_signing() {
    let held = |account: Account| {
        let mut outbox = Outbox::new(key(), state_init());
        outbox.account(&account, NOW);
        outbox.submit(order(1, TON)).unwrap();
        assert!(handed_in(&mut outbox, NOW).is_none());
        outbox.hold().unwrap()
    };
    assert!(matches!(held(wallet(20 * TON, 5, after(31))), Hold::Clock(ClockError::ClockBehind { .. })));
    let data = |change: &dyn Fn(&mut WalletData)| {
        let mut account = wallet(20 * TON, 5, NOW);
        let mut data = WalletData::from_cell(account.data().unwrap()).unwrap();
        change(&mut data);
        account.status = AccountStatus::Active { code: None, data: Some(data.to_cell()) };
        account
    };
    assert_eq!(held(data(&|data| data.status = 1)), Hold::Blocked);
    assert_eq!(held(data(&|data| data.key = PublicKey::new([1; 32]))), Hold::OtherContract);
    assert_eq!(
        held(Account { status: AccountStatus::Frozen, ..wallet(20 * TON, 0, NOW) }),
        Hold::OtherContract
    );
    let mut unseen = Outbox::new(key(), state_init());
    unseen.submit(order(1, TON)).unwrap();
    assert!(unseen.next(NOW).is_none() && unseen.hold() == Some(Hold::Unseen));
}

#[test]
fn a_wallet_that_is_not_there_yet_comes_with_its_first_order() {
    let has_init = |account: Account| {
        let mut outbox = Outbox::new(key(), state_init());
        outbox.account(&account, NOW);
        outbox.submit(order(1, TON)).unwrap();
        let Some(Action::HandIn(message)) = outbox.next(NOW) else { panic!() };
        Message::read(&message).unwrap().has_state_init
    };
    assert!(has_init(Account { status: AccountStatus::Uninit, ..wallet(20 * TON, 0, NOW) }));
    assert!(!has_init(wallet(20 * TON, 0, NOW)));
}

#[test]
fn an_order_ends_with_what_its_receiver_made_of_it() {
    let cases = [
        (arrived(Effect::Done, None), Outcome::Done { transaction: id(100) }),
        (
            arrived(Effect::NotRun(NotRun::NoGas), None),
            Outcome::Arrived { transaction: id(100), why: NotRun::NoGas },
        ),
        (
            arrived(Effect::Refused { exit_code: 1000 }, Some(7)),
            Outcome::Refused {
                transaction: id(100),
                effect: Effect::Refused { exit_code: 1000 },
                returned: NanoTon::new(7),
            },
        ),
        (
            arrived(Effect::NotRun(NotRun::NoContract), Some(7)),
            Outcome::Refused {
                transaction: id(100),
                effect: Effect::NotRun(NotRun::NoContract),
                returned: NanoTon::new(7),
            },
        ),
    ];
    for (transaction, expected) in cases {
        let mut outbox = outbox();
        outbox.submit(order(1, TON)).unwrap();
        let (_order, body) = handed_in(&mut outbox, NOW).unwrap();
        outbox.transaction(&ran(&body, &[order(1, TON)]), NOW);
        assert!(matches!(outbox.next(NOW), Some(Action::Find { .. })));
        // Of another message: it is not found yet.
        let mut other = transaction.clone();
        other.incoming.as_mut().unwrap().hash = MessageHash::new([0; 32]);
        outbox.found(OrderId(1), Some(&other), NOW);
        assert_eq!(outbox.outcome(OrderId(1)), None);
        outbox.found(OrderId(1), Some(&transaction), NOW);
        assert_eq!(outbox.outcome(OrderId(1)), Some(expected));
        outbox.acknowledge(OrderId(1));
        assert!(!outbox.knows(OrderId(1)));
    }
}

#[test]
fn a_receiver_that_is_not_found_for_ten_minutes_is_left_to_its_state() {
    let mut outbox = outbox();
    outbox.submit(order(1, TON)).unwrap();
    let (_order, body) = handed_in(&mut outbox, NOW).unwrap();
    outbox.transaction(&ran(&body, &[order(1, TON)]), NOW);
    let (mut now, mut looks) = (NOW, 0);
    while outbox.outcome(OrderId(1)).is_none() {
        if let Some(Action::Find { order, .. }) = outbox.next(now) {
            outbox.found(order, None, now);
            looks += 1;
        }
        now += Duration::from_millis(100);
    }
    assert_eq!(outbox.outcome(OrderId(1)), Some(Outcome::Unresolved));
    assert!((60..80).contains(&looks), "{looks} looks in ten minutes");
}

#[test]
fn what_the_wallet_did_not_send_is_told() {
    let mut outbox = outbox();
    let orders = [order(1, TON), order(2, TON)];
    orders.iter().for_each(|order| outbox.submit(order.clone()).unwrap());
    let (_order, body) = handed_in(&mut outbox, NOW).unwrap();
    outbox.transaction(&ran(&body, &orders[1..]), NOW);
    assert_eq!(outbox.outcome(OrderId(1)), Some(Outcome::NotSent));
    assert!(outbox.outcome(OrderId(2)).is_none() && outbox.knows(OrderId(2)));
}

#[test]
fn a_batch_that_failed_is_over_when_it_cannot_run_again() {
    let mut outbox = outbox();
    outbox.submit(order(1, TON)).unwrap();
    let (_order, body) = handed_in(&mut outbox, NOW).unwrap();
    let mut failed = ran(&body, &[]);
    failed.effect = Effect::ActionFailed { result_code: 37 };
    outbox.transaction(&failed, after(5));
    outbox.account(&wallet(20 * TON, 5, after(5)), after(5));
    assert!(outbox.next(after(30)).is_none() && outbox.outcome(OrderId(1)).is_none());
    outbox.account(&wallet(20 * TON, 5, after(130)), after(130));
    assert!(outbox.next(after(130)).is_none());
    assert_eq!(outbox.outcome(OrderId(1)), Some(Outcome::NotSent));
}

#[test]
fn an_outbox_survives_its_text_at_every_stage() {
    let mut outbox = outbox();
    let check = |outbox: &Outbox| {
        let text = outbox.to_text();
        let again = Outbox::from_text(key(), state_init(), &text).unwrap();
        assert_eq!(again.to_text(), text);
        assert_eq!((&again.waiting, &again.finished), (&outbox.waiting, &outbox.finished));
        text
    };
    (1..=6).for_each(|id| outbox.submit(order(id, TON)).unwrap());
    check(&outbox);
    let (_order, body) = handed_in(&mut outbox, NOW).unwrap();
    check(&outbox);
    let orders: Vec<_> = (1..=3).map(|id| order(id, TON)).collect();
    outbox.transaction(&ran(&body, &orders), NOW);
    check(&outbox);
    outbox.found(OrderId(1), Some(&arrived(Effect::Done, None)), NOW);
    outbox.found(OrderId(2), Some(&arrived(Effect::ActionFailed { result_code: 37 }, Some(5))), NOW);
    outbox.found(OrderId(3), Some(&arrived(Effect::NotRun(NotRun::NoGas), None)), NOW);
    let text = check(&outbox);

    let refused = |key: SigningKey, text: &str| Outbox::from_text(key, state_init(), text).unwrap_err();
    assert!(matches!(refused(key(), &text[1..]), KeptError::Json(_)));
    assert!(matches!(
        refused(key(), &text.replace("\"format\":2", "\"format\":3")),
        KeptError::Format { found: 3 }
    ));
    let other = text.replace(&state_init().address().to_string(), &Address::new(0, [1; 32]).to_string());
    assert!(matches!(refused(key(), &other), KeptError::OtherWallet { .. }));
    let damaged = text.replacen("b5ee9c72", "b5ee9c73", 1);
    assert!(matches!(refused(key(), &damaged), KeptError::Value));
}

#[test]
fn what_cannot_run_is_given_up_and_what_may_goes_on() {
    let mut outbox = outbox();
    outbox.submit(order(1, TON)).unwrap();
    let (_order, body) = handed_in(&mut outbox, NOW).unwrap();
    outbox.submit(order(2, TON)).unwrap();
    outbox.take_changed();
    outbox.forget_unsigned(after(10));
    assert!(outbox.knows(OrderId(1)) && !outbox.knows(OrderId(2)) && outbox.take_changed());
    // It ran: it is followed to its end.
    let mut ran_once = Outbox::from_text(key(), state_init(), &outbox.to_text()).unwrap();
    ran_once.transaction(&ran(&body, &[order(1, TON)]), after(11));
    ran_once.forget_unsigned(after(1_000));
    assert_eq!(ran_once.open(), 1);
    // It never did, and cannot any more.
    outbox.account(&wallet(20 * TON, 5, after(130)), after(130));
    outbox.forget_unsigned(after(130));
    assert_eq!(outbox.open(), 0);
    assert!(handed_in(&mut outbox, after(130)).is_none());
}
