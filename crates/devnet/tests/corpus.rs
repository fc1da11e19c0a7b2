//! Transactions recorded from TON's reference emulator, executed again by ours.
//!
//! `tests/recorder` says how the corpus is made. Money must be equal to the nanoton and gas to the unit; what may differ is
//! listed in [`Difference`], and a transaction that differs must be equal once that is set aside.
#![expect(clippy::unwrap_used, reason = "the corpus is our own: whatever it lacks fails the test")]

use std::collections::BTreeMap;

use cocoon_devnet::{Executed, Moment, NetworkConfig, NotExecuted, execute};
use ton::{Address, decode_boc};
use tycho_types::cell::{Cell, CellBuilder, HashBytes, Lazy, Load as _};
use tycho_types::dict::Dict;
use tycho_types::models::{
    Account, AccountState, BouncePhase, ComputePhase, HashUpdate, IntAddr, MsgInfo, ShardAccount,
    Transaction, TxInfo,
};

struct Recorded {
    moment: Moment,
    before: ShardAccount,
    message: Cell,
    /// The transaction and the account afterwards; none if an external message was refused.
    led_to: Option<(Cell, ShardAccount)>,
}

/// A dictionary of 16-bit numbers to records: see `pack` in `tests/recorder/record.cjs`.
fn corpus(boc: &[u8]) -> Vec<Recorded> {
    let root = decode_boc(boc, 1 << 20).unwrap();
    let records = Dict::<u16, Cell>::from_raw(Some(root));
    records.values().map(|record| read(&record.unwrap())).collect()
}

fn read(record: &Cell) -> Recorded {
    let mut slice = record.as_slice().unwrap();
    let unix_time = slice.load_u32().unwrap();
    let lt = slice.load_u64().unwrap();
    let seed = slice.load_u256().unwrap().0;
    let is_executed = slice.load_bit().unwrap();
    let mut given = slice.load_reference_as_slice().unwrap();
    let before = given.load_reference().unwrap().parse().unwrap();
    let message = given.load_reference_cloned().unwrap();
    let led_to = is_executed.then(|| {
        let mut result = slice.load_reference_as_slice().unwrap();
        let transaction = result.load_reference_cloned().unwrap();
        (transaction, result.load_reference().unwrap().parse().unwrap())
    });
    let moment = Moment { unix_time, block_lt: lt, min_lt: lt, seed, ignore_signatures: false };
    Recorded { moment, before, message, led_to }
}

/// What is known to differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// On deployment the executor says that the account was activated by the message's state; the reference says neither.
    ActivationFlags,
    /// The reference keeps a hash over the storage of accounts above 26 cells; the executor keeps what it finds.
    StorageHash,
    /// Which action failed, if it is the first: the executor says 0, the reference leaves a zero out.
    FirstAction,
    /// Where too little is left to bounce: the reference says what the bounce would cost, the executor what of it is missing.
    BounceFeeNeeded,
    /// Storage that an account without code is said to use: the executor counts one cell, the reference none. Such an
    /// account pays 0.0003 TON of rent a year too much.
    EmptyStorage,
}

fn ordinary(transaction: &Transaction) -> tycho_types::models::OrdinaryTxInfo {
    match transaction.load_info().unwrap() {
        TxInfo::Ordinary(info) => info,
        TxInfo::TickTock(_) => panic!("the corpus has none"),
    }
}

/// Compares to the nanoton what matters, and explains every other difference.
fn compare(index: usize, expected: (&Cell, &ShardAccount), found: &Executed) -> Vec<Difference> {
    let theirs: Transaction = expected.0.parse().unwrap();
    let mut ours: Transaction = found.transaction.parse().unwrap();
    let outs = |transaction: &Transaction| -> Vec<HashBytes> {
        transaction.out_msgs.values().map(|message| *message.unwrap().repr_hash()).collect()
    };
    assert_eq!(outs(&theirs), outs(&ours), "{index}: messages sent");
    assert_eq!(theirs.total_fees, ours.total_fees, "{index}: fees");
    assert_eq!(
        (theirs.orig_status, theirs.end_status),
        (ours.orig_status, ours.end_status),
        "{index}: status"
    );
    let (their_info, mut our_info) = (ordinary(&theirs), ordinary(&ours));
    if let (ComputePhase::Executed(their), ComputePhase::Executed(our)) =
        (&their_info.compute_phase, &our_info.compute_phase)
    {
        assert_eq!(their.gas_used, our.gas_used, "{index}: gas");
        assert_eq!(
            (their.exit_code, their.vm_steps),
            (our.exit_code, our.vm_steps),
            "{index}: what the contract did"
        );
    }

    let mut differences = Vec::new();
    if let (ComputePhase::Executed(their), ComputePhase::Executed(our)) =
        (&their_info.compute_phase, &mut our_info.compute_phase)
        && (their.account_activated, their.msg_state_used) != (our.account_activated, our.msg_state_used)
    {
        assert_eq!((their.account_activated, their.msg_state_used), (false, false), "{index}");
        (our.account_activated, our.msg_state_used) = (false, false);
        differences.push(Difference::ActivationFlags);
    }
    if let (Some(BouncePhase::NoFunds(their)), Some(BouncePhase::NoFunds(our))) =
        (&their_info.bounce_phase, &mut our_info.bounce_phase)
        && their.req_fwd_fees != our.req_fwd_fees
    {
        assert!(their.req_fwd_fees > our.req_fwd_fees, "{index}: {their:?} {our:?}");
        our.req_fwd_fees = their.req_fwd_fees;
        differences.push(Difference::BounceFeeNeeded);
    }
    if let (Some(their), Some(our)) = (&their_info.action_phase, &mut our_info.action_phase)
        && (their.result_arg, our.result_arg) == (None, Some(0))
    {
        our.result_arg = None;
        differences.push(Difference::FirstAction);
    }
    assert_eq!(format!("{their_info:#?}"), format!("{our_info:#?}"), "{index}: phases");
    differences.extend(compare_accounts(index, expected.1, &found.account));

    // With these set aside, the transactions are the same cell.
    ours.info = Lazy::new(&TxInfo::Ordinary(our_info)).unwrap();
    if differences.iter().any(|found| matches!(found, Difference::StorageHash | Difference::EmptyStorage)) {
        let (their_update, our_update) =
            (theirs.state_update.load().unwrap(), ours.state_update.load().unwrap());
        assert_eq!(their_update.old, our_update.old, "{index}");
        ours.state_update = Lazy::new(&HashUpdate { new: their_update.new, ..our_update }).unwrap();
    }
    let rebuilt = CellBuilder::build_from(&ours).unwrap();
    assert_eq!(rebuilt.repr_hash(), expected.0.repr_hash(), "{index}: {theirs:#?}\n{ours:#?}");
    assert_eq!(differences.is_empty(), found.transaction == *expected.0, "{index}");
    differences
}

fn compare_accounts(index: usize, theirs: &ShardAccount, ours: &ShardAccount) -> Vec<Difference> {
    let (theirs, ours) = (theirs.load_account().unwrap(), ours.load_account().unwrap());
    let (Some(theirs), Some(mut ours)) = (theirs.clone(), ours.clone()) else {
        assert_eq!(theirs, ours, "{index}: whether the account is there");
        return Vec::new();
    };
    let mut differences = Vec::new();
    let Account { storage_stat: their, .. } = &theirs;
    if their.storage_extra != ours.storage_stat.storage_extra {
        ours.storage_stat.storage_extra = their.storage_extra;
        differences.push(Difference::StorageHash);
    }
    if their.used != ours.storage_stat.used {
        let cells = (their.used.cells.into_inner(), ours.storage_stat.used.cells.into_inner());
        assert!(cells == (0, 1) && !matches!(ours.state, AccountState::Active(_)), "{index}: {cells:?}");
        ours.storage_stat.used = their.used.clone();
        differences.push(Difference::EmptyStorage);
    }
    assert_eq!(theirs, ours, "{index}: balance, code, data and the rest of the account");
    differences
}

fn destination(message: &Cell) -> (Address, bool) {
    let (dst, is_external) = match MsgInfo::load_from(&mut message.as_slice().unwrap()).unwrap() {
        MsgInfo::ExtIn(info) => (info.dst, true),
        MsgInfo::Int(info) => (info.dst, false),
        MsgInfo::ExtOut(_) => panic!("nobody receives one"),
    };
    let IntAddr::Std(address) = dst else { panic!("standard addresses only") };
    (Address::new(address.workchain, address.address.0), is_external)
}

/// Executes every transaction of a corpus again; returns how many were executed and refused, by both.
fn replay(boc: &[u8]) -> (usize, usize) {
    let config = NetworkConfig::mainnet();
    let mut differences: BTreeMap<Option<Difference>, usize> = BTreeMap::new();
    let (mut executed, mut refused) = (0, 0);
    for (index, recorded) in corpus(boc).iter().enumerate() {
        let (address, is_external) = destination(&recorded.message);
        let result =
            execute(&config, &recorded.moment, &address, &recorded.message, is_external, &recorded.before);
        match (&recorded.led_to, result) {
            (Some((transaction, after)), Ok(found)) => {
                executed += 1;
                let differing = compare(index, (transaction, after), &found);
                if differing.is_empty() {
                    *differences.entry(None).or_default() += 1;
                }
                for difference in differing {
                    *differences.entry(Some(difference)).or_default() += 1;
                }
            }
            (None, Err(NotExecuted::NotAccepted { .. })) => refused += 1,
            (expected, found) => panic!("{index}: {} {found:?}", expected.is_some()),
        }
    }
    println!("{executed} executed, {refused} refused, {differences:?}");
    (executed, refused)
}

#[test]
fn every_recorded_transaction_comes_out_the_same() {
    let (executed, refused) = replay(include_bytes!("corpus.boc"));
    assert!(executed > 400 && refused > 20, "the corpus is whole: {executed}, {refused}");
}

/// Whole lives of the network's contracts, as their own tests play them: `npm run record` in `contracts/` writes them.
#[test]
fn every_transaction_of_the_contracts_comes_out_the_same() {
    let (executed, _) = replay(include_bytes!("contracts.boc"));
    assert!(executed > 300, "the record is whole: {executed}");
}
