//! Messages and states of the contracts themselves: what is read here was written by their compiled code in TON's reference
//! emulator.
//!
//! The record is that of the devnet's tests; the contracts' own tests (`contracts/tests/record.test.ts`) check that it is
//! what the contracts do, so both sides read the same bytes.
#![expect(clippy::unwrap_used, reason = "the record is our own: whatever it lacks fails the test")]

use std::collections::BTreeMap;

use cocoon_ton::messages::{ClientPayload, Message, Notice};
use cocoon_ton::states::{ClientData, ProxyData, WalletData, WorkerData};
use cocoon_ton::wallet::WalletOrder;
use cocoon_ton::{CodeMask, Contract, LayoutError, Params, RootConfig, decode_boc};
use ed25519_dalek::SigningKey;
use sha2::{Digest as _, Sha256};
use tycho_types::cell::{Cell, CellBuilder};
use tycho_types::dict::Dict;
use tycho_types::models::{AccountState, MsgInfo, OwnedMessage, ShardAccount, Transaction};
use units::PublicKey;

/// Bodies of messages, and data of accounts by the contract that they are of.
struct Record {
    bodies: Vec<Cell>,
    /// From outside.
    orders: Vec<Cell>,
    states: Vec<(Contract, Cell)>,
}

fn record() -> Record {
    let root = decode_boc(include_bytes!("../../devnet/tests/contracts.boc"), 1 << 20).unwrap();
    let mut record = Record { bodies: Vec::new(), orders: Vec::new(), states: Vec::new() };
    for entry in Dict::<u16, Cell>::from_raw(Some(root)).values() {
        let entry = entry.unwrap();
        let mut slice = entry.as_slice().unwrap();
        // Time, logical time, seed.
        slice.skip_first(32 + 64 + 256, 0).unwrap();
        let is_executed = slice.load_bit().unwrap();
        let mut given = slice.load_reference_as_slice().unwrap();
        given.skip_first(0, 1).unwrap();
        record.message(&given.load_reference_cloned().unwrap());
        if is_executed {
            let mut result = slice.load_reference_as_slice().unwrap();
            let transaction: Transaction = result.load_reference().unwrap().parse().unwrap();
            for message in transaction.out_msgs.values() {
                record.message(&message.unwrap());
            }
            record.account(&result.load_reference().unwrap().parse().unwrap());
        }
    }
    record
}

impl Record {
    fn message(&mut self, message: &Cell) {
        let message: OwnedMessage = message.parse().unwrap();
        let (range, cell) = message.body;
        let mut body = CellBuilder::new();
        body.store_slice(range.apply(&cell).unwrap()).unwrap();
        let body = body.build().unwrap();
        match message.info {
            MsgInfo::Int(_) => self.bodies.push(body),
            MsgInfo::ExtIn(_) => self.orders.push(body),
            MsgInfo::ExtOut(_) => {}
        }
    }

    fn account(&mut self, account: &ShardAccount) {
        let Some(account) = account.load_account().unwrap() else { return };
        let AccountState::Active(state) = account.state else { return };
        let (Some(code), Some(data)) = (state.code, state.data) else { return };
        if let Some(contract) = Contract::of_code(&code) {
            self.states.push((contract, data));
        }
    }
}

/// What kind of message it is.
fn kind(message: &Message) -> String {
    match message {
        Message::Empty => "empty".to_owned(),
        Message::Client(body) => format!("client {}", body.name()),
        Message::Worker(body) => format!("worker {}", body.name()),
        Message::Proxy(body) => format!("proxy {}", body.name()),
        Message::Wallet(body) => format!("wallet {}", body.name()),
        Message::Root(body) => format!("root {}", body.name()),
        Message::ClientRequest(body) => {
            let payload = match body.payload {
                None => "note",
                Some(ClientPayload::TopUp { .. }) => "top-up",
                Some(ClientPayload::Register { .. }) => "register",
                Some(ClientPayload::RefundGranted { .. }) => "refund granted",
                Some(ClientPayload::RefundForced { .. }) => "refund forced",
            };
            format!("client asks: {payload}")
        }
        Message::WorkerRequest(_) => "worker asks".to_owned(),
        Message::Payment(body) => body.kind.to_string(),
        Message::ProxyOrder(body) => format!("{:?}", body.kind),
        Message::Notice(Notice::Excess { .. }) => "excess".to_owned(),
        Message::Notice(_) => "notice".to_owned(),
        Message::Text(body) => format!("text {}", body.letter()),
        Message::Bounced(_) => "bounced".to_owned(),
        Message::Unknown { .. } => "unknown".to_owned(),
    }
}

#[test]
fn messages_of_the_contracts_are_read_and_written_bit_for_bit() {
    let mut kinds = BTreeMap::<String, usize>::new();
    for body in record().bodies {
        let message = Message::from_cell(&body).unwrap();
        let kind = kind(&message);
        assert_eq!(message.to_cell().as_ref().unwrap_or(&body), &body, "{kind}");
        *kinds.entry(kind).or_default() += 1;
    }
    for expected in [
        "client TopUp",
        "client Register",
        "client ChangeSecret",
        "client IncreaseStake",
        "client Withdraw",
        "client RequestRefund",
        "client TopUpConfirmed",
        "client asks: note",
        "client asks: top-up",
        "client asks: register",
        "client asks: refund granted",
        "client asks: refund forced",
        "client charge",
        "client refund",
        "worker payout",
        "worker asks",
        "proxy Payout",
        "proxy IncreaseStake",
        "Close",
        "CompleteClose",
        "excess",
        "notice",
        "wallet Send",
        "text b",
        "text u",
        "text w",
        "root AddWorkerImage",
        "root DeleteWorkerImage",
        "root AddModel",
        "root DeleteModel",
        "root AddProxyImage",
        "root DeleteProxyImage",
        "root RegisterProxy",
        "root UnregisterProxy",
        "root ReplaceProxy",
        "root SetPrices",
        "root SetParams",
        "root SetCodes",
        "root UpgradeCode",
        "root UpgradeFull",
        "root Reset",
        "root ChangeOwner",
    ] {
        assert!(kinds.contains_key(expected), "the record has no {expected:?}: {kinds:?}");
    }
}

#[test]
fn orders_of_a_node_wallet_are_read_and_signed_bit_for_bit() {
    // As `keyOf('wallet')` in `contracts/tests/support/world.ts`.
    let key = SigningKey::from_bytes(&Sha256::digest("wallet").into());
    let public = PublicKey::new(key.verifying_key().to_bytes());
    let mut signed = Vec::new();
    for body in record().orders {
        // The emulator's own wallets speak otherwise.
        if let Ok((order, true)) = WalletOrder::from_cell(&body, &public) {
            assert_eq!(order.sign(&key), body);
            signed.push(order.messages().len());
        }
    }
    assert_eq!(signed, [4, 0, 1, 1], "one of them while the wallet was blocked");
}

/// Writes again what was read of a contract's data.
fn rewritten(contract: Contract, data: &Cell) -> Result<Cell, LayoutError> {
    Ok(match contract {
        Contract::Root => RootConfig::from_data(data)?.to_data(),
        Contract::Proxy => ProxyData::from_cell(data)?.to_cell(),
        Contract::Worker => WorkerData::from_cell(data)?.to_cell(),
        Contract::Client => ClientData::from_cell(data)?.to_cell(),
        Contract::Wallet => WalletData::from_cell(data)?.to_cell(),
    })
}

#[test]
fn states_of_the_contracts_are_read_and_written_bit_for_bit() {
    let (mut pools, mut unconfirmed, mut paid, mut lists, mut blocked) = (0, 0, 0, 0, 0);
    for (contract, data) in record().states {
        assert_eq!(rewritten(contract, &data).unwrap(), data, "{contract:?}");
        let (params, codes) = match contract {
            Contract::Client => {
                let client = ClientData::from_cell(&data).unwrap();
                unconfirmed += usize::from(client.unconfirmed.get() > 0);
                (client.params, CodeMask::None)
            }
            Contract::Worker => {
                let worker = WorkerData::from_cell(&data).unwrap();
                paid += usize::from(worker.tokens.get() > 0);
                (worker.params, CodeMask::None)
            }
            Contract::Proxy => {
                let proxy = ProxyData::from_cell(&data).unwrap();
                pools += usize::from(proxy.pool.get() > 0);
                (proxy.params, CodeMask::WorkerAndClient)
            }
            Contract::Root => {
                let root = RootConfig::from_data(&data).unwrap();
                let is_full = root.registered_proxies.len() > 1
                    && [root.proxy_hashes.len(), root.worker_hashes.len(), root.model_hashes.len()] == [2; 3];
                lists += usize::from(is_full);
                (root.params_cell(CodeMask::All), CodeMask::All)
            }
            Contract::Wallet => {
                blocked += usize::from(WalletData::from_cell(&data).unwrap().is_blocked());
                continue;
            }
        };
        let read = Params::from_cell(&params, codes).unwrap();
        assert_eq!(read.cell(codes), params, "params of {contract:?}");
    }
    assert!(pools > 3 && unconfirmed > 3 && paid > 3, "{pools} {unconfirmed} {paid}");
    assert!(lists > 3 && blocked > 0, "{lists} {blocked}");
}

#[test]
fn states_cut_short_or_with_more_behind_them_are_refused() {
    for (contract, data) in record().states {
        let slice = data.as_slice().unwrap();
        let other = |bits: u16, references: u8, more: &dyn Fn(&mut CellBuilder)| {
            let mut builder = CellBuilder::new();
            builder.store_slice(slice.get_prefix(bits, references)).unwrap();
            more(&mut builder);
            rewritten(contract, &builder.build().unwrap())
        };
        let (bits, references) = (data.bit_len(), data.reference_count());
        assert!(other(bits, references, &|_builder| ()).is_ok());
        assert!(other(bits - 1, references, &|_builder| ()).is_err(), "{contract:?}");
        let longer = other(bits, references, &|builder| builder.store_bit_zero().unwrap());
        assert!(matches!(longer, Err(LayoutError::Trailing { bits: 1, references: 0, .. })), "{contract:?}");
        // An amount may be in a third reference of clients, in a second one of proxies; it is no empty cell.
        let longer = other(bits, references, &|builder| builder.store_reference(Cell::default()).unwrap());
        assert!(longer.is_err(), "{contract:?}");
        if contract == Contract::Root {
            assert!(other(bits, references - 1, &|_builder| ()).is_err());
        }
        // Another contract's data is none of this one's.
        for of in Contract::ALL {
            assert_eq!(rewritten(of, &data).is_ok(), of == contract, "{contract:?} as {of:?}");
        }
    }
}
