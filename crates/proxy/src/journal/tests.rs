//! The files of the books: recovery, rotation, snapshots, and everything that may be wrong with a folder.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use ledger::journal::{Bill, CommitNumber, Identity};
use ledger::{ClientFunds, Ledger, Multipliers, PriceTable};
use ton::Address;
use units::{AdjustedTokens, NanoTon, RequestId};

use super::files::{BooksError, list};
use super::{Source, Store, Writer, machine_key_guard};

fn who(number: u8) -> Address {
    Address::new(0, [number; 32])
}

fn identity() -> Identity {
    let prices = PriceTable::new(NanoTon::new(2), NanoTon::new(1), Multipliers::default()).unwrap();
    Identity { contract: who(200), prices }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn open(folder: &Path) -> Result<(Store, Ledger), BooksError> {
    Store::open(folder, identity(), key())
}

/// Charges `count` tokens to a client, in a commit of its own.
fn charge(store: &mut Store, ledger: &mut Ledger, client: u8, count: u64) {
    post(ledger, client, count);
    let mut records = Vec::new();
    let commit = ledger.take_records(&mut records).unwrap();
    assert_eq!(store.append(&records).unwrap(), commit);
    ledger.committed(commit);
    store.tidy();
}

fn post(ledger: &mut Ledger, client: u8, count: u64) {
    let amount = NanoTon::new(1_000_000_000);
    let funds = ClientFunds { balance: amount, stake: amount, tokens_used: AdjustedTokens::ZERO };
    ledger.open_client(who(client), funds);
    ledger.open_worker(who(100));
    let hold = ledger.reserve(who(client), who(100), AdjustedTokens::new(count)).unwrap();
    let bill = Bill { request: RequestId::new([client; 32]), items: &[] };
    ledger.post(hold, AdjustedTokens::new(count), &bill).unwrap();
}

fn used(ledger: &Ledger, client: u8) -> u64 {
    ledger.client(who(client)).map_or(0, |limits| limits.used.get())
}

#[test]
fn books_have_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open(folder.path()).unwrap();
    let second = open(folder.path());
    assert!(matches!(second, Err(BooksError::InUse { .. })), "{second:?}");
    drop(opened);
    open(folder.path()).unwrap();
}

#[test]
fn books_go_on_where_they_ended() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("a/b");
    for round in 1..=5 {
        let (mut store, mut ledger) = open(&folder).unwrap();
        assert_eq!(used(&ledger, 1), (round - 1) * 10);
        charge(&mut store, &mut ledger, 1, 7);
        charge(&mut store, &mut ledger, 1, 3);
        assert_eq!(ledger.settled_client(who(1)), Some(AdjustedTokens::new(round * 10)));
    }
    assert_eq!(list(&folder).unwrap().segments.len(), 1, "a start begins no segment");
}

#[test]
fn snapshots_replace_segments_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut expected, mut rounds) = (0, 0);
    while rounds < 60 {
        let (store, mut ledger) = open(folder.path()).unwrap();
        let mut store = store.with_segment_len_max(400);
        assert_eq!(used(&ledger, 1), expected);
        for _ in 0..12 {
            charge(&mut store, &mut ledger, 1, 5);
            (expected, rounds) = (expected + 5, rounds + 1);
        }
        store.finish_compaction();
        assert_eq!(ledger.audit(), Ok(()));
    }
    let listing = list(folder.path()).unwrap();
    assert_eq!(listing.snapshots.len(), 1, "older ones are removed");
    assert!(listing.segments[0] >= listing.snapshots[0], "what a snapshot covers is removed");
    assert!(listing.segments.len() < 20);
    assert_eq!(used(&open(folder.path()).unwrap().1, 1), expected);
}

#[test]
fn an_unfinished_commit_is_cut_off_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let segment = folder.path().join("segment-0000000000");
    let (mut store, mut ledger) = open(folder.path()).unwrap();
    charge(&mut store, &mut ledger, 1, 7);
    let durable = fs::read(&segment).unwrap();
    charge(&mut store, &mut ledger, 1, 100);
    let longer = fs::read(&segment).unwrap();
    drop(store);
    for len in [durable.len() + 1, durable.len() + 20, longer.len() - 1] {
        fs::write(&segment, &longer[..len]).unwrap();
        let (mut store, mut ledger) = open(folder.path()).unwrap();
        assert_eq!(used(&ledger, 1), 7);
        assert_eq!(fs::read(&segment).unwrap(), durable);
        charge(&mut store, &mut ledger, 1, 1);
        drop(store);
        assert_eq!(used(&open(folder.path()).unwrap().1, 1), 8);
    }
}

#[test]
fn books_of_version_1_go_on_in_a_new_segment() {
    let old_segment = include_bytes!("../../../../spec/vectors/books/segment-v1.bin");
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("segment-0000000000");
    fs::write(&first, old_segment).unwrap();
    let (mut store, mut ledger) = open(folder.path()).unwrap();
    assert_eq!(used(&ledger, 1), 305);
    assert_eq!(list(folder.path()).unwrap().segments.len(), 1, "looking changes nothing");
    charge(&mut store, &mut ledger, 1, 7);
    charge(&mut store, &mut ledger, 1, 1);
    drop(store);
    assert_eq!(fs::read(&first).unwrap(), old_segment);
    assert_eq!(list(folder.path()).unwrap().segments.len(), 2);
    assert_eq!(used(&open(folder.path()).unwrap().1, 1), 313);
}

#[test]
fn what_is_missing_or_changed_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut ledger) = open(folder.path()).unwrap();
    let mut store = store.with_segment_len_max(400);
    for _ in 0..6 {
        charge(&mut store, &mut ledger, 1, 5);
    }
    store.finish_compaction();
    let mut store = store.without_snapshots();
    for _ in 0..6 {
        charge(&mut store, &mut ledger, 1, 5);
    }
    drop(store);
    let listing = list(folder.path()).unwrap();
    let name = |kind: &str, number: u64| folder.path().join(format!("{kind}-{number:010}"));
    let first = name("segment", listing.segments[0].get());
    let last = name("segment", listing.segments.last().unwrap().get());
    let snapshot = name("snapshot", listing.snapshots[0].get());
    assert!(listing.segments.len() > 1);

    let refused = |path: &Path, content: Option<&[u8]>| {
        let before = fs::read(path).unwrap();
        match content {
            Some(content) => fs::write(path, content).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        let error = open(folder.path()).unwrap_err();
        fs::write(path, before).unwrap();
        error
    };
    let damaged = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    };
    for path in [&first, &snapshot] {
        let error = refused(path, Some(&damaged(path)));
        assert!(matches!(&error, BooksError::File { path: named, .. } if named == path), "{error:?}");
    }
    let error = refused(&first, None);
    assert!(matches!(&error, BooksError::Missing { path } if *path == first), "{error:?}");
    let error = refused(&snapshot, None);
    assert!(matches!(&error, BooksError::Missing { .. }), "{error:?}");
    let whole = fs::read(&first).unwrap();
    let error = refused(&first, Some(&whole[..whole.len() - 1]));
    assert!(matches!(&error, BooksError::Cut { path, torn_len: 1.. } if *path == first), "{error:?}");
    let error = Store::open(folder.path(), identity(), SigningKey::from_bytes(&[8; 32])).unwrap_err();
    assert!(matches!(error, BooksError::File { .. }), "{error:?}");
    assert_eq!(used(&open(folder.path()).unwrap().1, 1), 60, "{} was left alone", last.display());
}

/// A crash in the middle of anything leaves files that are of no worth, or names that are not yet there.
#[test]
fn unfinished_files_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, mut ledger) = open(folder.path()).unwrap();
    charge(&mut store, &mut ledger, 1, 7);
    drop(store);
    for name in ["segment-0000000001.new", "snapshot-0000000001.new", "notes.txt"] {
        fs::write(folder.path().join(name), b"half").unwrap();
    }
    assert_eq!(used(&open(folder.path()).unwrap().1, 1), 7);
    assert!(!folder.path().join("segment-0000000001.new").exists());
    assert!(folder.path().join("notes.txt").exists());
}

#[test]
fn a_key_and_its_books_are_lost_together_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let (key, books) = (folder.path().join("machine.key"), folder.path().join("books"));
    machine_key_guard(&key, &books).unwrap();
    machine_key_guard(&key, &books).unwrap();
    fs::write(&key, "").unwrap();
    machine_key_guard(&key, &books).unwrap();
    fs::create_dir(books.join("contract")).unwrap();
    machine_key_guard(&key, &books).unwrap();

    fs::remove_file(&key).unwrap();
    let error = machine_key_guard(&key, &books).unwrap_err();
    assert!(matches!(error, BooksError::KeyMissing { .. }), "{error:?}");
    fs::write(&key, "").unwrap();
    fs::remove_dir_all(&books).unwrap();
    let error = machine_key_guard(&key, &books).unwrap_err();
    assert!(matches!(error, BooksError::BooksMissing { .. }), "{error:?}");
}

/// A ledger without a proxy around it.
struct Desk {
    ledger: Arc<Mutex<Ledger>>,
    durable: Sender<CommitNumber>,
}

impl Source for Desk {
    fn take(&self, into: &mut Vec<u8>) -> Option<CommitNumber> {
        self.ledger.lock().unwrap().take_records(into)
    }

    fn committed(&self, commit: CommitNumber) {
        self.ledger.lock().unwrap().committed(commit);
        self.durable.send(commit).unwrap();
    }

    fn stuck(&self) {
        panic!("this disk works");
    }
}

/// Only a writer that never comes meets it.
const PATIENCE: Duration = Duration::from_secs(60);

fn writer(folder: &Path) -> (Writer, Arc<Mutex<Ledger>>, Receiver<CommitNumber>) {
    let (store, ledger) = open(folder).unwrap();
    let (ledger, (durable, commits)) = (Arc::new(Mutex::new(ledger)), channel());
    let writer = Writer::start(store, Desk { ledger: Arc::clone(&ledger), durable }).unwrap();
    (writer, ledger, commits)
}

#[test]
fn a_writer_makes_durable_what_it_is_called_for() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, ledger, commits) = writer(folder.path());
    let bell = writer.bell();
    for round in 1..=20 {
        for _ in 0..3 {
            post(&mut ledger.lock().unwrap(), 1, 5);
            bell.ring();
        }
        while ledger.lock().unwrap().settled_client(who(1)) < Some(AdjustedTokens::new(round * 15)) {
            commits.recv_timeout(PATIENCE).unwrap();
        }
    }
    // Nobody rings for the last ones: whoever stops the writer knows that there may be some.
    post(&mut ledger.lock().unwrap(), 1, 7);
    drop(writer);
    assert!(ledger.lock().unwrap().is_durable());
    assert_eq!(used(&open(folder.path()).unwrap().1, 1), 307);
}

/// The books of a contract are left: their ledger is no longer where the writer takes from.
#[test]
fn a_writer_ends_with_the_last_charges_of_its_books() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, ledger, commits) = writer(folder.path());
    post(&mut ledger.lock().unwrap(), 1, 5);
    writer.bell().ring();
    commits.recv_timeout(PATIENCE).unwrap();
    let mut records = Vec::new();
    post(&mut ledger.lock().unwrap(), 2, 8);
    let commit = ledger.lock().unwrap().take_records(&mut records).unwrap();
    writer.finish(Some((commit, records)));
    let (_, recovered) = open(folder.path()).unwrap();
    assert_eq!((used(&recovered, 1), used(&recovered, 2)), (5, 8));
}
