use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use tycho_types::cell::CellBuilder;
use units::{AdjustedTokens, ImageHash, ModelHash, NanoTon};

use super::*;
use crate::states::ContractState;
use crate::{Address, RegisteredProxy, Seconds};

const EXCESS: Address = Address::new(0, [0xee; 32]);
const OWNER: Address = Address::new(-1, [0x0f; 32]);
const AMOUNT: NanoTon = NanoTon::new(1_500_000_000);
const QUERY: u64 = 0x0102_0304_0506_0708;

fn cell(bits: u32) -> Cell {
    CellBuilder::build_from(bits).unwrap()
}

fn client_messages() -> Vec<ClientMessage> {
    use ClientMessage as M;
    let (query_id, amount, secret_hash, excess) = (QUERY, AMOUNT, [7; 32], EXCESS);
    vec![
        M::TopUp { query_id, amount, excess },
        M::ChangeSecretAndTopUp { query_id, amount, secret_hash, excess },
        M::Register { query_id, nonce: u64::MAX, excess },
        M::ChangeSecret { query_id, secret_hash, excess },
        M::IncreaseStake { query_id, new_stake: amount, excess },
        M::Withdraw { query_id, excess },
        M::RequestRefund { query_id, excess },
        M::TopUpConfirmed { query_id, amount },
        M::RefundShortfall { query_id, amount: NanoTon::ZERO },
    ]
}

fn root_messages() -> Vec<RootMessage> {
    use RootMessage as M;
    let query_id = QUERY;
    let (image, model) = (ImageHash::new([1; 32]), ModelHash::new([2; 32]));
    let place = ListedProxy::new(&RegisteredProxy::from_text(1, "10.0.0.1:1 10.0.0.2:2").unwrap());
    let (price_per_token, worker_fee_per_token) = (NanoTon::new(20), NanoTon::new(15));
    vec![
        M::AddWorkerImage { query_id, hash: image },
        M::DeleteWorkerImage { query_id, hash: image },
        M::AddModel { query_id, hash: model },
        M::DeleteModel { query_id, hash: model },
        M::AddProxyImage { query_id, hash: image },
        M::DeleteProxyImage { query_id, hash: image },
        M::RegisterProxy { query_id, place: place.clone() },
        M::UnregisterProxy { query_id, seqno: 3 },
        M::ReplaceProxy { query_id, seqno: 3, place },
        M::SetPrices { query_id, price_per_token, worker_fee_per_token },
        M::SetParams {
            query_id,
            price_per_token,
            worker_fee_per_token,
            proxy_delay_before_close: Seconds::new(600),
            client_delay_before_close: Seconds::new(300),
            min_proxy_stake: AMOUNT,
            min_client_stake: AMOUNT,
        },
        M::SetCodes { query_id, proxy_code: cell(1), worker_code: cell(2), client_code: cell(3) },
        M::UpgradeCode { query_id, code: cell(4) },
        M::UpgradeFull { query_id, data: cell(5), code: cell(6) },
        M::Reset { query_id },
        M::ChangeOwner { query_id, new_owner: OWNER },
    ]
}

fn client_requests() -> Vec<ClientRequest> {
    let payloads = [
        None,
        Some(ClientPayload::TopUp { amount: AMOUNT, excess: EXCESS }),
        Some(ClientPayload::Register { nonce: 9 }),
        Some(ClientPayload::RefundGranted { amount: AMOUNT, excess: EXCESS }),
        Some(ClientPayload::RefundForced { amount: AMOUNT, excess: EXCESS }),
    ];
    let state = ClientSnapshot {
        state: ContractState::Closing,
        balance: AMOUNT,
        stake: NanoTon::new(u64::MAX),
        tokens_used: AdjustedTokens::new(u64::MAX),
        secret_hash: [3; 32],
    };
    payloads.map(|payload| ClientRequest { query_id: QUERY, owner: OWNER, state, payload }).into()
}

fn worker_requests() -> Vec<WorkerRequest> {
    let payout = PayoutPayload { worker_part: AMOUNT, proxy_part: NanoTon::ZERO, excess: EXCESS };
    let (query_id, owner, tokens) = (QUERY, OWNER, AdjustedTokens::new(12));
    [None, Some(payout)]
        .map(|payload| WorkerRequest { query_id, owner, state: ContractState::Closed, tokens, payload })
        .into()
}

fn bounced() -> Vec<(Cell, Bounced)> {
    let short = |bytes: &[u8]| {
        let mut builder = CellBuilder::new();
        builder.store_u32(0xffff_ffff).unwrap();
        builder.store_raw(bytes, u16::try_from(bytes.len() * 8).unwrap()).unwrap();
        builder.build().unwrap()
    };
    let sent = client_messages()[0].to_cell();
    let mut rich = CellBuilder::new();
    rich.store_u32(0xffff_fffe).unwrap();
    rich.store_reference(sent.clone()).unwrap();
    rich.store_reference(Cell::default()).unwrap();
    rich.store_zeros(8 + 32 + 1).unwrap();
    let head = [&0xf172_e6c2_u32.to_be_bytes()[..], &QUERY.to_be_bytes(), &[0; 20]].concat();
    let read = |body| Bounced { op: Some(0xf172_e6c2), query_id: Some(QUERY), body };
    vec![
        (short(&head), read(None)),
        (rich.build().unwrap(), read(Some(sent))),
        (short(&[]), Bounced { op: None, query_id: None, body: None }),
        (short(&[0, 0, 0, 1]), Bounced { op: Some(1), query_id: None, body: None }),
    ]
}

/// Every body there is, with what it must be read as.
fn all() -> Vec<(Cell, Message)> {
    let (query_id, excess) = (QUERY, EXCESS);
    let key = SigningKey::from_bytes(&[5; 32]);
    let payments = [
        PaymentKind::ClientCharge,
        PaymentKind::ClientRefund,
        PaymentKind::WorkerPayout,
        PaymentKind::WorkerLastPayout,
    ]
    .map(|kind| SignedPayment::sign(&key, kind, QUERY, AdjustedTokens::new(77), &OWNER, &EXCESS));
    let orders = [ProxyOrderKind::Close, ProxyOrderKind::CompleteClose]
        .map(|kind| SignedProxyOrder::sign(&key, kind, QUERY, &OWNER, &EXCESS));
    let proxy = [
        ProxyMessage::Payout { query_id, excess },
        ProxyMessage::IncreaseStake { query_id, amount: AMOUNT, excess },
        ProxyMessage::Close { query_id, excess },
    ];
    let notices = [
        Notice::Excess { query_id },
        Notice::Payout { query_id },
        Notice::Anchor(Anchor { query_id, seqno: 4, hash: [8; 32] }),
    ];
    let texts = [TextCommand::Close, TextCommand::Withdraw, TextCommand::Block, TextCommand::Unblock];
    let worker = WorkerMessage::Register { query_id, excess };
    let wallet = WalletMessage::Send { query_id, mode: 3, message: cell(1) };

    let mut all =
        vec![(worker.to_cell(), Message::Worker(worker)), (wallet.to_cell(), Message::Wallet(wallet))];
    all.extend(client_messages().into_iter().map(|body| (body.to_cell(), Message::Client(body))));
    all.extend(root_messages().into_iter().map(|body| (body.to_cell(), Message::Root(body))));
    all.extend(client_requests().into_iter().map(|body| (body.to_cell(), Message::ClientRequest(body))));
    all.extend(worker_requests().into_iter().map(|body| (body.to_cell(), Message::WorkerRequest(body))));
    all.extend(payments.map(|body| (body.to_cell(), Message::Payment(body))));
    all.extend(orders.map(|body| (body.to_cell(), Message::ProxyOrder(body))));
    all.extend(proxy.map(|body| (body.to_cell(), Message::Proxy(body))));
    all.extend(notices.map(|body| (body.to_cell(), Message::Notice(body))));
    all.extend(texts.map(|body| (body.to_cell(), Message::Text(body))));
    all.extend(bounced().into_iter().map(|(cell, body)| (cell, Message::Bounced(body))));
    all
}

#[test]
fn every_message_is_read_as_it_was_written() {
    for (cell, message) in all() {
        assert_eq!(Message::from_cell(&cell).unwrap(), message);
    }
}

/// Notes go on as they like, and bounced bodies are cut anywhere.
fn is_open_ended(message: &Message) -> bool {
    matches!(message, Message::Notice(Notice::Anchor(_)) | Message::Bounced(_))
}

#[test]
fn nothing_may_be_missing() {
    for (cell, message) in all() {
        if is_open_ended(&message) {
            continue;
        }
        for bits in 0..cell.bit_len() {
            let mut builder = CellBuilder::new();
            builder.store_slice(cell.as_slice().unwrap().get_prefix(bits, cell.reference_count())).unwrap();
            let read = Message::from_cell(&builder.build().unwrap());
            let is_ours =
                !matches!(read, Err(_) | Ok(Message::Empty | Message::Unknown { .. } | Message::Text(_)));
            assert!(!is_ours, "{bits} bits of {message:?} were read as {read:?}");
        }
        for references in 0..cell.reference_count() {
            let mut builder = CellBuilder::new();
            builder.store_slice(cell.as_slice().unwrap().get_prefix(cell.bit_len(), references)).unwrap();
            assert!(Message::from_cell(&builder.build().unwrap()).is_err(), "{message:?}");
        }
    }
}

#[test]
fn nothing_may_follow() {
    for (cell, message) in all() {
        if is_open_ended(&message) {
            continue;
        }
        let with = |more: &dyn Fn(&mut CellBuilder)| {
            let mut builder = CellBuilder::new();
            builder.store_slice(cell.as_slice().unwrap()).unwrap();
            more(&mut builder);
            Message::from_cell(&builder.build().unwrap())
        };
        let is_refused =
            |read: Result<Message, _>| matches!(read, Err(_) | Ok(Message::Unknown { op: Some(0) }));
        assert!(is_refused(with(&|builder| builder.store_bit_zero().unwrap())), "{message:?}");
        if cell.reference_count() < 4 {
            assert!(
                is_refused(with(&|builder| builder.store_reference(Cell::default()).unwrap())),
                "{message:?}"
            );
        }
    }
}

#[test]
fn ops_are_unique() {
    let ops: Vec<u32> = all()
        .into_iter()
        .filter(|(_cell, message)| !matches!(message, Message::Text(_) | Message::Bounced(_)))
        .map(|(cell, _message)| cell.as_slice().unwrap().load_u32().unwrap())
        .collect();
    let distinct: std::collections::BTreeSet<u32> = ops.iter().copied().collect();
    // Requests come once for each payload.
    let repeated = client_requests().len() - 1 + worker_requests().len() - 1;
    assert_eq!(distinct.len(), ops.len() - repeated);
}

#[test]
fn a_field_is_named_when_it_is_wrong() {
    let with_fields = |op: u32, fields: &dyn Fn(&mut CellBuilder)| {
        let mut builder = CellBuilder::new();
        builder.store_u32(op).unwrap();
        builder.store_u64(QUERY).unwrap();
        fields(&mut builder);
        Message::from_cell(&builder.build().unwrap()).unwrap_err().to_string()
    };
    let no_address = with_fields(0xda06_8e78, &|builder| builder.store_zeros(267).unwrap());
    assert_eq!(no_address, "excess of the message to a client contract is no standard address");
    let too_much = with_fields(0x7d1c_9a05, &|builder| {
        builder.store_small_uint(9, 4).unwrap();
        builder.store_raw(&[1, 0, 0, 0, 0, 0, 0, 0, 0], 72).unwrap();
    });
    assert_eq!(too_much, "amount of the message to a client contract is more TON than there is");
    let long_text = with_fields(0x927c_7cb5, &|builder| builder.store_u8(0x80).unwrap());
    assert_eq!(long_text, "place of the message to a root contract has a value without meaning");
}

#[test]
fn other_messages_are_told_from_ours() {
    assert_eq!(Message::from_cell(&Cell::default()).unwrap(), Message::Empty);
    let jetton_transfer = cell(0x0f8a_7ea5);
    assert_eq!(Message::from_cell(&jetton_transfer).unwrap(), Message::Unknown { op: Some(0x0f8a_7ea5) });
    let short = CellBuilder::build_from(7_u8).unwrap();
    assert_eq!(Message::from_cell(&short).unwrap(), Message::Unknown { op: None });
    let note = cell(0x9a12_47c0);
    assert_eq!(Message::from_cell(&note).unwrap(), Message::Notice(Notice::Other { body: note.clone() }));
    let mut comment = CellBuilder::new();
    comment.store_u32(0).unwrap();
    comment.store_raw(b"hello", 40).unwrap();
    assert_eq!(Message::from_cell(&comment.build().unwrap()).unwrap(), Message::Unknown { op: Some(0) });
}

proptest! {
    /// Bits after any op of ours, and cells below them.
    #[test]
    fn any_cell_is_read_without_panic(which: prop::sample::Index, bits: [u8; 120], len in 0_u16..960, children in 0_u8..5) {
        let known = all();
        let (sample, _message) = which.get(&known);
        let mut builder = CellBuilder::new();
        let mut head = sample.as_slice().unwrap();
        builder.store_u32(head.load_u32().unwrap()).unwrap();
        builder.store_raw(&bits, len).unwrap();
        for _ in 0..children {
            builder.store_reference(sample.clone()).unwrap();
        }
        let _read = Message::from_cell(&builder.build().unwrap());
    }
}
