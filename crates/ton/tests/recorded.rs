//! Messages and states of the contracts themselves: what is read here was written by their compiled code in TON's reference
//! emulator.
//!
//! The record is that of the devnet's tests; the contracts' own tests (`contracts/tests/record.test.ts`) check that it is
//! what the contracts do, so both sides read the same bytes.
#![expect(clippy::unwrap_used, reason = "the record is our own: whatever it lacks fails the test")]

use std::collections::BTreeMap;

use cocoon_ton::messages::{ClientPayload, Message, Notice};
use cocoon_ton::states::{ClientData, ProxyData, WorkerData};
use cocoon_ton::{CodeMask, Contract, ContractCode, Params, decode_boc};
use tycho_types::cell::{Cell, CellBuilder};
use tycho_types::dict::Dict;
use tycho_types::models::{AccountState, MsgInfo, OwnedMessage, ShardAccount, Transaction};

/// Bodies of internal messages, and data of accounts by the contract that they are of.
struct Record {
    bodies: Vec<Cell>,
    states: Vec<(Contract, Cell)>,
}

fn record() -> Record {
    let root = decode_boc(include_bytes!("../../devnet/tests/contracts.boc"), 1 << 20).unwrap();
    let mut record = Record { bodies: Vec::new(), states: Vec::new() };
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
        if matches!(message.info, MsgInfo::Int(_)) {
            let (range, cell) = message.body;
            let mut body = CellBuilder::new();
            body.store_slice(range.apply(&cell).unwrap()).unwrap();
            self.bodies.push(body.build().unwrap());
        }
    }

    fn account(&mut self, account: &ShardAccount) {
        let Some(account) = account.load_account().unwrap() else { return };
        let AccountState::Active(state) = account.state else { return };
        let (Some(code), Some(data)) = (state.code, state.data) else { return };
        let known = [Contract::Root, Contract::Proxy, Contract::Worker, Contract::Client, Contract::Wallet];
        let is_code = |contract: &Contract| ContractCode::built(*contract).hash() == code.repr_hash().0;
        if let Some(contract) = known.into_iter().find(is_code) {
            self.states.push((contract, data));
        }
    }
}

/// What kind of message it is, and its cell as we write it; no cell where nothing of ours is written.
fn written(message: &Message) -> (String, Option<Cell>) {
    match message {
        Message::Empty => ("empty".to_owned(), None),
        Message::Client(body) => (format!("client {}", body.name()), Some(body.to_cell())),
        Message::Worker(body) => (format!("worker {}", body.name()), Some(body.to_cell())),
        Message::Proxy(body) => (format!("proxy {}", body.name()), Some(body.to_cell())),
        Message::Wallet(body) => (format!("wallet {}", body.name()), Some(body.to_cell())),
        Message::Root(body) => (format!("root {}", body.name()), Some(body.to_cell())),
        Message::ClientRequest(body) => {
            let payload = match body.payload {
                None => "note",
                Some(ClientPayload::TopUp { .. }) => "top-up",
                Some(ClientPayload::Register { .. }) => "register",
                Some(ClientPayload::RefundGranted { .. }) => "refund granted",
                Some(ClientPayload::RefundForced { .. }) => "refund forced",
            };
            (format!("client asks: {payload}"), Some(body.to_cell()))
        }
        Message::WorkerRequest(body) => ("worker asks".to_owned(), Some(body.to_cell())),
        Message::Payment(body) => (body.kind.to_string(), Some(body.to_cell())),
        Message::ProxyOrder(body) => (format!("{:?}", body.kind), Some(body.to_cell())),
        Message::Notice(Notice::Excess { query_id }) => {
            ("excess".to_owned(), Some(Notice::Excess { query_id: *query_id }.to_cell()))
        }
        Message::Notice(body) => ("notice".to_owned(), Some(body.to_cell())),
        Message::Text(body) => (format!("text {}", body.letter()), Some(body.to_cell())),
        Message::Bounced(_) => ("bounced".to_owned(), None),
        Message::Unknown { .. } => ("unknown".to_owned(), None),
    }
}

#[test]
fn messages_of_the_contracts_are_read_and_written_bit_for_bit() {
    let mut kinds = BTreeMap::<String, usize>::new();
    for body in record().bodies {
        let message = Message::from_cell(&body).unwrap();
        let (kind, cell) = written(&message);
        assert_eq!(cell.as_ref().unwrap_or(&body), &body, "{kind}");
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
    ] {
        assert!(kinds.contains_key(expected), "the record has no {expected:?}: {kinds:?}");
    }
}

#[test]
fn states_of_the_contracts_are_read_and_written_bit_for_bit() {
    let (mut pools, mut unconfirmed, mut paid) = (0, 0, 0);
    for (contract, data) in record().states {
        let (written, params, codes) = match contract {
            Contract::Client => {
                let client = ClientData::from_cell(&data).unwrap();
                unconfirmed += usize::from(client.unconfirmed.get() > 0);
                (client.to_cell(), client.params, CodeMask::None)
            }
            Contract::Worker => {
                let worker = WorkerData::from_cell(&data).unwrap();
                paid += usize::from(worker.tokens.get() > 0);
                (worker.to_cell(), worker.params, CodeMask::None)
            }
            Contract::Proxy => {
                let proxy = ProxyData::from_cell(&data).unwrap();
                pools += usize::from(proxy.pool.get() > 0);
                (proxy.to_cell(), proxy.params, CodeMask::WorkerAndClient)
            }
            Contract::Root | Contract::Wallet => continue,
        };
        assert_eq!(written, data, "{contract:?}");
        let read = Params::from_cell(&params, codes).unwrap();
        assert_eq!(read.cell(codes), params, "params of {contract:?}");
    }
    assert!(pools > 3 && unconfirmed > 3 && paid > 3, "{pools} {unconfirmed} {paid}");
}
