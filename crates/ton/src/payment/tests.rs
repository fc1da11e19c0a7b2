//! Every accepted payment has its refused twin.

use std::hash::RandomState;

use proptest::prelude::*;
use serde::Deserialize;
use tycho_types::boc::ser;
use tycho_types::cell::CellBuilder;

use super::*;

const KINDS: [PaymentKind; 4] = [
    PaymentKind::ClientCharge,
    PaymentKind::ClientRefund,
    PaymentKind::WorkerPayout,
    PaymentKind::WorkerLastPayout,
];
const CONTRACT: Address = Address::new(0, [0xc0; 32]);
const WALLET: Address = Address::new(0, [0xee; 32]);
const QUERY_ID: u64 = 0x0123_4567_89ab_cdef;
const TOKENS: AdjustedTokens = AdjustedTokens::new(1_468);

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey::new(key.verifying_key().to_bytes())
}

fn charge() -> Vec<u8> {
    sign(&key(), PaymentKind::ClientCharge, QUERY_ID, TOKENS, &CONTRACT, &WALLET)
}

fn check(boc: &[u8]) -> Result<VerifiedPayment, PaymentError> {
    verify(boc, PaymentKind::ClientCharge, &CONTRACT, &public(&key()))
}

/// Payments recorded from a proxy of the deployed software.
#[derive(Deserialize)]
struct Vectors {
    payments: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    kind: String,
    contract: String,
    proxy_public_key: PublicKey,
    query_id: String,
    tokens: AdjustedTokens,
    send_excesses_to: String,
    signature: String,
    boc: String,
}

fn recorded() -> Vec<Recorded> {
    let vectors: Vectors =
        serde_json::from_str(include_str!("../../../../spec/vectors/ton/payments.json")).unwrap();
    vectors.payments
}

impl Recorded {
    fn kind(&self) -> PaymentKind {
        KINDS.into_iter().find(|kind| kind.to_string() == self.kind).unwrap()
    }

    fn contract(&self) -> Address {
        Address::parse(&self.contract).unwrap().0
    }

    fn query_id(&self) -> u64 {
        u64::from_str_radix(&self.query_id, 16).unwrap()
    }
}

#[test]
fn recorded_payments_verify() {
    for payment in recorded() {
        let boc = hex::decode(&payment.boc).unwrap();
        let verified = verify(&boc, payment.kind(), &payment.contract(), &payment.proxy_public_key).unwrap();
        assert_eq!(verified.query_id(), payment.query_id());
        assert_eq!(verified.tokens(), payment.tokens);
    }
}

#[test]
fn recorded_payments_encode_to_the_same_bytes() {
    for payment in recorded() {
        let (kind, query_id) = (payment.kind(), payment.query_id());
        let excesses_to = Address::parse(&payment.send_excesses_to).unwrap().0;
        let signature = Signature::from_bytes(&hex::decode(&payment.signature).unwrap().try_into().unwrap());
        let order = order_cell(kind, query_id, payment.tokens, &payment.contract());
        let envelope = envelope_cell(kind, query_id, &excesses_to, &signature, order);
        assert_eq!(hex::encode(Boc::encode(envelope)), payment.boc);
    }
}

#[test]
fn recorded_payments_are_worthless_elsewhere() {
    let payments = recorded();
    let [charge, payout] = &payments[..] else { panic!("expected two payments") };
    let boc = hex::decode(&charge.boc).unwrap();
    let key = &charge.proxy_public_key;
    let wrong_kind = verify(&boc, payout.kind(), &charge.contract(), key).unwrap_err();
    assert!(matches!(wrong_kind, PaymentError::EnvelopeOp { found: 0xbb63_ff93, .. }), "{wrong_kind}");
    let wrong_contract = verify(&boc, charge.kind(), &payout.contract(), key).unwrap_err();
    assert!(matches!(wrong_contract, PaymentError::OtherContract), "{wrong_contract}");
    let wrong_key = verify(&boc, charge.kind(), &charge.contract(), &public(&self::key())).unwrap_err();
    assert!(matches!(wrong_key, PaymentError::Signature), "{wrong_key}");
}

#[test]
fn envelopes_of_another_size_are_refused() {
    let order = order_cell(PaymentKind::ClientCharge, QUERY_ID, TOKENS, &CONTRACT);
    let sizes =
        [(ENVELOPE_BITS - 1, 1), (ENVELOPE_BITS + 1, 1), (ENVELOPE_BITS, 0), (ENVELOPE_BITS, 2), (0, 0)];
    for (bits, references) in sizes {
        let root = build(|builder| {
            builder.store_zeros(bits)?;
            (0..references).try_for_each(|_| builder.store_reference(order.clone()))
        });
        let error = check(&Boc::encode(root)).unwrap_err();
        assert!(matches!(error, PaymentError::EnvelopeSize { .. }), "{error}");
    }
}

#[test]
fn exotic_cells_are_no_payment() {
    let mut pruned = CellBuilder::new();
    pruned.set_exotic(true);
    pruned.store_u16(0x0101).unwrap();
    pruned.store_zeros(256 + 16).unwrap();
    let pruned = pruned.build().unwrap();
    let root = check(&Boc::encode(&pruned)).unwrap_err();
    assert!(matches!(root, PaymentError::EnvelopeSize { .. }), "{root}");
    let envelope =
        envelope_cell(PaymentKind::ClientCharge, QUERY_ID, &WALLET, &Signature::from_bytes(&[0; 64]), pruned);
    let order = check(&Boc::encode(envelope)).unwrap_err();
    assert!(matches!(order, PaymentError::OrderSize { bits: 288, references: 0 }), "{order}");
}

/// Signs an order of any layout, as a lying proxy would.
fn with_order(order: Cell) -> Vec<u8> {
    let signature = key().sign(order.repr_hash().as_slice());
    Boc::encode(envelope_cell(PaymentKind::ClientCharge, QUERY_ID, &WALLET, &signature, order))
}

#[test]
fn signed_orders_are_still_checked() {
    let kind = PaymentKind::ClientCharge;
    let good = order_cell(kind, QUERY_ID, TOKENS, &CONTRACT);
    assert_eq!(check(&with_order(good.clone())).unwrap().tokens(), TOKENS);

    let other_op = check(&with_order(order_cell(PaymentKind::ClientRefund, QUERY_ID, TOKENS, &CONTRACT)));
    assert!(matches!(other_op.unwrap_err(), PaymentError::OrderOp { found: 0xefd7_11e1, .. }));
    let other_query = check(&with_order(order_cell(kind, QUERY_ID + 1, TOKENS, &CONTRACT)));
    assert!(matches!(other_query.unwrap_err(), PaymentError::OrderQueryId));
    for other in [Address::new(-1, *CONTRACT.hash()), WALLET] {
        let other_contract = check(&with_order(order_cell(kind, QUERY_ID, TOKENS, &other)));
        assert!(matches!(other_contract.unwrap_err(), PaymentError::OtherContract));
    }

    let longer = build(|builder| {
        builder.store_slice(good.as_slice()?)?;
        builder.store_bit_zero()
    });
    assert!(matches!(check(&with_order(longer)).unwrap_err(), PaymentError::OrderSize { bits: 428, .. }));
    let with_reference = build(|builder| {
        builder.store_slice(good.as_slice()?)?;
        builder.store_reference(Cell::default())
    });
    assert!(matches!(
        check(&with_order(with_reference)).unwrap_err(),
        PaymentError::OrderSize { references: 1, .. }
    ));
    let no_address = build(|builder| {
        builder.store_u32(kind.op())?;
        builder.store_u64(QUERY_ID)?;
        builder.store_zeros(64 + 267)
    });
    assert!(matches!(check(&with_order(no_address)).unwrap_err(), PaymentError::OrderAddress));
}

#[test]
fn the_address_for_excesses_must_be_one() {
    let order = order_cell(PaymentKind::ClientCharge, QUERY_ID, TOKENS, &CONTRACT);
    let envelope = build(|builder| {
        builder.store_u32(PaymentKind::ClientCharge.op())?;
        builder.store_u64(QUERY_ID)?;
        builder.store_zeros(267 + SIGNATURE_BITS)?;
        builder.store_reference(order)
    });
    assert!(matches!(check(&Boc::encode(envelope)).unwrap_err(), PaymentError::ExcessesAddress));
}

#[test]
fn keys_that_are_none_are_refused() {
    // No point of the curve has this y coordinate.
    let mut not_a_point = [0; 32];
    not_a_point[0] = 2;
    let error = verify(&charge(), PaymentKind::ClientCharge, &CONTRACT, &PublicKey::new(not_a_point));
    assert!(matches!(error.unwrap_err(), PaymentError::Key));
    // The neutral point: with it, one signature would fit every order.
    let mut weak = [0; 32];
    weak[0] = 1;
    let order = order_cell(PaymentKind::ClientCharge, QUERY_ID, TOKENS, &CONTRACT);
    let mut signature = [0; 64];
    signature[0] = 1;
    let envelope = envelope_cell(
        PaymentKind::ClientCharge,
        QUERY_ID,
        &WALLET,
        &Signature::from_bytes(&signature),
        order,
    );
    let error = verify(&Boc::encode(envelope), PaymentKind::ClientCharge, &CONTRACT, &PublicKey::new(weak));
    assert!(matches!(error.unwrap_err(), PaymentError::Signature));
}

#[test]
fn length_and_trailing_bytes_are_checked() {
    let mut boc = charge();
    boc.push(0);
    assert!(matches!(check(&boc).unwrap_err(), PaymentError::Boc(BocError::TrailingBytes)));
    boc.resize(LEN_MAX + 1, 0);
    assert!(matches!(check(&boc).unwrap_err(), PaymentError::Boc(BocError::TooLong { .. })));
    assert!(matches!(check(&[]).unwrap_err(), PaymentError::Boc(BocError::Malformed(_))));
}

#[test]
fn no_flipped_bit_changes_what_was_signed() {
    let boc = charge();
    // Two bits of the header's flags are reserved, and the decoder ignores them.
    let reserved = 4 * 8 + 3..4 * 8 + 5;
    // The address for excesses, after op and query id: the one part of the cells that nobody signed.
    let unsigned_start = (11 + 2) * 8 + 32 + 64 + 3;
    let unsigned = unsigned_start..unsigned_start + 264;
    for bit in 0..boc.len() * 8 {
        let mut flipped = boc.clone();
        flipped[bit / 8] ^= 0x80 >> (bit % 8);
        let accepted = check(&flipped).ok().map(|payment| (payment.query_id(), payment.tokens()));
        let is_harmless = reserved.contains(&bit) || unsigned.contains(&bit);
        assert_eq!(accepted, is_harmless.then_some((QUERY_ID, TOKENS)), "bit {bit}");
    }
}

#[test]
fn every_form_of_the_bag_is_read() {
    let root = boc::decode(&charge(), LEN_MAX).unwrap();
    let mut with_checksum = Vec::new();
    ser::BocHeader::<RandomState>::with_root(root.as_ref()).with_crc(true).encode(&mut with_checksum);
    assert_eq!(check(&with_checksum).unwrap().tokens(), TOKENS);
    let last = with_checksum.len() - 1;
    with_checksum[last] ^= 1;
    assert!(matches!(check(&with_checksum).unwrap_err(), PaymentError::Boc(BocError::Malformed(_))));
}

fn kinds() -> impl Strategy<Value = PaymentKind> {
    prop::sample::select(KINDS.to_vec())
}

proptest! {
    #[test]
    fn what_is_signed_verifies(
        seed: [u8; 32], kind in kinds(), query_id: u64, tokens: u64, workchain: i8, hash: [u8; 32],
    ) {
        let key = SigningKey::from_bytes(&seed);
        let (contract, tokens) = (Address::new(workchain, hash), AdjustedTokens::new(tokens));
        let boc = sign(&key, kind, query_id, tokens, &contract, &WALLET);
        prop_assert!(boc.len() <= LEN_MAX);
        let verified = verify(&boc, kind, &contract, &public(&key)).unwrap();
        prop_assert_eq!((verified.query_id(), verified.tokens()), (query_id, tokens));
        let again = sign(&key, kind, query_id, tokens, &contract, &WALLET);
        prop_assert_eq!(boc, again);
    }

    #[test]
    fn another_kind_contract_or_key_is_refused(kind in kinds(), other in kinds(), seed: [u8; 32], hash: [u8; 32]) {
        prop_assume!(kind != other && seed != [7; 32] && hash != *CONTRACT.hash());
        let boc = sign(&key(), kind, QUERY_ID, TOKENS, &CONTRACT, &WALLET);
        let right = public(&key());
        prop_assert!(verify(&boc, other, &CONTRACT, &right).is_err());
        prop_assert!(verify(&boc, kind, &Address::new(0, hash), &right).is_err());
        prop_assert!(verify(&boc, kind, &CONTRACT, &public(&SigningKey::from_bytes(&seed))).is_err());
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..=LEN_MAX), cut in 0_usize..180) {
        prop_assert!(check(&bytes).is_err());
        let mut spliced = charge();
        spliced.truncate(cut);
        spliced.extend(bytes);
        prop_assert!(check(&spliced).is_err());
    }
}
