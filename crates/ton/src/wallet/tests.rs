use tycho_types::cell::CellBuilder;

use super::*;
use crate::Address;
use crate::message::InternalMessage;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey::new(key.verifying_key().to_bytes())
}

fn message(value: u64) -> Cell {
    let to = Address::new(0, [1; 32]);
    InternalMessage { to, value: NanoTon::new(value), bounce: true, state_init: None, body: None }.to_cell()
}

fn messages(count: usize) -> Vec<(SendMode, Cell)> {
    [SendMode::PLAIN, SendMode::FEES_APART, SendMode::EVERYTHING.ignoring_errors(), SendMode::PLAIN]
        .into_iter()
        .cycle()
        .zip(1..)
        .take(count)
        .map(|(mode, value)| (mode, message(value)))
        .collect()
}

#[test]
fn orders_are_read_as_they_were_signed() {
    for count in 0..=MESSAGES_MAX {
        let order = WalletOrder::new(1_800_000_000, 3, messages(count)).unwrap();
        let body = order.sign(&key());
        assert_eq!(WalletOrder::from_cell(&body, &public(&key())).unwrap(), (order.clone(), true));
        let other = SigningKey::from_bytes(&[8; 32]);
        assert_eq!(WalletOrder::from_cell(&body, &public(&other)).unwrap(), (order, false));
    }
}

#[test]
fn five_messages_are_one_too_many() {
    let error = WalletOrder::new(0, 0, messages(MESSAGES_MAX + 1)).unwrap_err();
    assert!(error.to_string().contains("at most 4 messages, not 5"), "{error}");
}

#[test]
fn an_order_has_one_mode_for_each_message() {
    let body = WalletOrder::new(1, 2, messages(2)).unwrap().sign(&key());
    let changed = |bits: u16, references: u8, more: &dyn Fn(&mut CellBuilder)| {
        let mut builder = CellBuilder::new();
        builder.store_slice(body.as_slice().unwrap().get_prefix(bits, references)).unwrap();
        more(&mut builder);
        WalletOrder::from_cell(&builder.build().unwrap(), &public(&key()))
    };
    let whole = body.bit_len();
    assert!(changed(whole, 2, &|_builder| ()).is_ok());
    assert!(changed(whole, 1, &|_builder| ()).is_err());
    assert!(changed(whole - 8, 2, &|_builder| ()).is_err());
    assert!(changed(whole, 2, &|builder| builder.store_u8(0).unwrap()).is_err());
    // 32 deletes an emptied wallet, and with it the seqno that stops a replay.
    let refused = changed(whole - 8, 2, &|builder| builder.store_u8(32).unwrap()).unwrap_err();
    assert!(refused.to_string().starts_with("modes of the external message"), "{refused}");
}

#[test]
fn an_order_expires_and_counts_under_the_signature() {
    let order = WalletOrder::new(10, 5, messages(1)).unwrap();
    assert_eq!((order.valid_until(), order.seqno(), order.messages().len()), (10, 5, 1));
    let hashes = [(10, 5), (11, 5), (10, 6)].map(|(valid_until, seqno)| {
        *WalletOrder::new(valid_until, seqno, messages(1)).unwrap().unsigned().repr_hash()
    });
    assert!(hashes[0] != hashes[1] && hashes[0] != hashes[2]);
}
