//! A contract for tests: `tests/recorder/pilot.tolk`, which does what its messages say.

use std::time::Duration;

use ton::Address;
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, CellBuilder, CellFamily as _, CellSliceParts, Lazy};
use tycho_types::models::{
    Account, ComputePhase, CurrencyCollection, MsgInfo, OrdinaryTxInfo, OwnedMessage, OwnedRelaxedMessage,
    RelaxedIntMsgInfo, RelaxedMsgInfo, StateInit, Transaction, TxInfo,
};
use units::{LogicalTime, NanoTon};

use crate::accounts::StoredTransaction;
use crate::block::Pace;
use crate::devnet::{Devnet, Genesis};
use crate::messages::{ExternalMessage, std_addr};
use crate::network_config::NetworkConfig;

/// When every test begins.
pub(crate) const START: Duration = Duration::from_secs(1_800_000_000);
pub(crate) const ONE: NanoTon = NanoTon::new(1_000_000_000);

pub(crate) fn devnet(pace: Pace) -> Devnet {
    Devnet::new(Genesis { config: NetworkConfig::mainnet(), seed: [7; 32], start: START, pace })
}

/// `START` and some milliseconds.
pub(crate) fn at(milliseconds: u64) -> Duration {
    START + Duration::from_millis(milliseconds)
}

/// A pilot: `salt` tells several apart.
pub(crate) struct Pilot {
    pub(crate) init: StateInit,
    pub(crate) address: Address,
}

impl Pilot {
    pub(crate) fn new(salt: u64) -> Self {
        let mut data = CellBuilder::new();
        data.store_u32(0).unwrap();
        data.store_u64(salt).unwrap();
        data.store_bit_zero().unwrap();
        let init = StateInit {
            code: Some(Boc::decode(include_bytes!("../tests/recorder/pilot.boc")).unwrap()),
            data: Some(data.build().unwrap()),
            ..StateInit::default()
        };
        let address = Address::new(0, CellBuilder::build_from(&init).unwrap().repr_hash().0);
        Self { init, address }
    }

    /// Lets the pilot send messages, deploying it with its first.
    pub(crate) fn order(&self, seqno: u32, messages: &[(u8, Cell)]) -> ExternalMessage {
        let mut body = CellBuilder::new();
        body.store_u32(seqno).unwrap();
        for (mode, message) in messages {
            body.store_u8(*mode).unwrap();
            body.store_reference(message.clone()).unwrap();
        }
        let init = (seqno == 0).then(|| self.init.clone());
        ExternalMessage::from_parts(&self.address, init, body.build().unwrap()).unwrap()
    }

    /// A pilot with one ton, deployed. Takes two blocks at an instant pace.
    pub(crate) fn deployed(devnet: &mut Devnet, salt: u64) -> Self {
        let pilot = Self::new(salt);
        devnet.give(START, &pilot.address, ONE).unwrap();
        devnet.submit(START, pilot.order(0, &[])).unwrap();
        pilot
    }
}

/// A message as contracts hand it to their actions.
pub(crate) fn transfer(to: &Address, amount: NanoTon, bounce: bool, body: Cell) -> Cell {
    let info = RelaxedIntMsgInfo {
        bounce,
        dst: std_addr(to).into(),
        value: CurrencyCollection::new(u128::from(amount.get())),
        ..RelaxedIntMsgInfo::default()
    };
    let (info, body) = (RelaxedMsgInfo::Int(info), CellSliceParts::from(body));
    CellBuilder::build_from(OwnedRelaxedMessage { info, init: None, body, layout: None }).unwrap()
}

pub(crate) fn empty() -> Cell {
    Cell::empty_cell()
}

/// The body `op:u32` and more bits.
pub(crate) fn body(op: u32, rest: impl FnOnce(&mut CellBuilder)) -> Cell {
    let mut builder = CellBuilder::new();
    builder.store_u32(op).unwrap();
    rest(&mut builder);
    builder.build().unwrap()
}

pub(crate) fn account(devnet: &Devnet, address: &Address) -> Option<Account> {
    devnet.account(address).and_then(|state| state.load_account().unwrap())
}

/// Balance in nanotons; nothing for an account that is not there.
pub(crate) fn balance(devnet: &Devnet, address: &Address) -> u128 {
    account(devnet, address).map_or(0, |account| account.balance.tokens.into_inner())
}

pub(crate) fn history<'a>(devnet: &'a Devnet, address: &Address) -> &'a [StoredTransaction] {
    devnet.transactions(address, None, LogicalTime::new(0), usize::MAX)
}

pub(crate) fn parsed(transaction: &StoredTransaction) -> (Transaction, OrdinaryTxInfo) {
    let transaction: Transaction = transaction.cell.parse().unwrap();
    let TxInfo::Ordinary(info) = transaction.load_info().unwrap() else { panic!("no tick-tock here") };
    (transaction, info)
}

/// The exit code of a transaction's contract, if it ran.
pub(crate) fn exit_code(transaction: &StoredTransaction) -> Option<i32> {
    match parsed(transaction).1.compute_phase {
        ComputePhase::Executed(phase) => Some(phase.exit_code),
        ComputePhase::Skipped(_) => None,
    }
}

/// All coins there are: on accounts, under way, and paid as fees. It is what the faucet gave, to the nanoton.
pub(crate) fn all_coins(devnet: &Devnet, waiting: &[Cell]) -> u128 {
    let mut fees = 0;
    let mut addresses = std::collections::BTreeSet::new();
    for block in devnet.filled_after(units::BlockSeqno::new(0)) {
        for id in &block.transactions {
            addresses.insert(id.account);
            let (transaction, _info) = parsed(devnet.transaction(&id.account, id.lt).unwrap());
            fees += transaction.total_fees.tokens.into_inner();
            let message = Lazy::<OwnedMessage>::from_raw(transaction.in_msg.clone().unwrap()).unwrap();
            if let MsgInfo::Int(info) = message.load().unwrap().info {
                fees += info.fwd_fee.into_inner();
            }
        }
    }
    let under_way = waiting.iter().map(|message| match message.parse::<OwnedMessage>().unwrap().info {
        MsgInfo::Int(info) => info.value.tokens.into_inner() + info.fwd_fee.into_inner(),
        _ => 0,
    });
    addresses.iter().map(|address| balance(devnet, address)).sum::<u128>() + fees + under_way.sum::<u128>()
}
