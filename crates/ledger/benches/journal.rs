//! What a charge costs with its record, and what recovery costs: `cargo bench -p cocoon-ledger`.
//!
//! Yardsticks in the same process: two updates of a hash map for a charge, SHA-256 of the same bytes for reading.
#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

use std::collections::HashMap;
use std::io::Write as _;

use cocoon_ledger::journal::{Bill, BillingKind, Books, Chain, Identity};
use cocoon_ledger::{ClientFunds, Ledger, Multipliers, PriceTable};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use ed25519_dalek::SigningKey;
use sha2::{Digest as _, Sha256};
use ton::Address;
use units::{AdjustedTokens, NanoTon, RequestId};

const CLIENTS: [u32; 2] = [1000, 1_000_000];
/// Charges that one commit gathers in 10 ms at 300,000 a second.
const PER_COMMIT: u32 = 3000;

fn main() {
    divan::main();
}

fn who(number: u32) -> Address {
    let mut hash = [7; 32];
    hash[..4].copy_from_slice(&number.to_be_bytes());
    Address::new(0, hash)
}

fn identity() -> Identity {
    let prices = PriceTable::new(NanoTon::new(20), NanoTon::new(19), Multipliers::default()).unwrap();
    Identity { contract: who(u32::MAX), prices }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// Business with so many clients and 10,000 workers.
struct Desk {
    ledger: Ledger,
    clients: u32,
    next: u32,
}

impl Desk {
    fn new(clients: u32) -> Self {
        let mut ledger = Ledger::new(identity().prices);
        let amount = NanoTon::new(4_000_000_000_000);
        let funds = ClientFunds { balance: amount, stake: amount, tokens_used: AdjustedTokens::ZERO };
        (0..clients).for_each(|client| ledger.open_client(who(client), funds));
        (0..10_000).for_each(|worker| ledger.open_worker(who(worker)));
        Self { ledger, clients, next: 0 }
    }

    /// A request from its hold to its charge, of one client after the other in no near order.
    fn charge(&mut self) {
        self.next = self.next.wrapping_add(1);
        let client = who(self.next.wrapping_mul(2_654_435_761) % self.clients);
        let worker = who(self.next % 10_000);
        let hold = self.ledger.reserve(client, worker, AdjustedTokens::new(5000)).unwrap();
        let items = [(BillingKind::Prompt, 800), (BillingKind::Completion, 300)];
        let bill = Bill { request: RequestId::new([9; 32]), items: &items };
        self.ledger.post(hold, AdjustedTokens::new(1100), &bill).unwrap();
    }

    fn commit(&mut self, chain: &mut Chain, records: &mut Vec<u8>, into: &mut Vec<u8>) {
        let commit = self.ledger.take_records(records).unwrap();
        assert_eq!(chain.seal(records, &key(), into), commit);
        self.ledger.committed(commit);
    }
}

/// A snapshot of books in which every client was charged once.
fn snapshot(clients: u32) -> Vec<u8> {
    let mut desk = Desk::new(clients);
    let mut books = Books::new(identity());
    let (mut segment, mut chain) = Chain::begin(&identity(), books.position(), &key());
    for client in 0..clients {
        let hold = desk.ledger.reserve(who(client), who(client % 10_000), AdjustedTokens::new(9)).unwrap();
        let bill = Bill { request: RequestId::new([9; 32]), items: &[] };
        desk.ledger.post(hold, AdjustedTokens::new(9), &bill).unwrap();
    }
    desk.commit(&mut chain, &mut Vec::new(), &mut segment);
    books.replay(&segment, &key().verifying_key()).unwrap();
    books.to_snapshot(&key())
}

/// Hold, charge, record; one in three thousand seals a commit.
#[divan::bench(args = CLIENTS)]
fn charge(bencher: Bencher<'_, '_>, clients: u32) {
    let mut desk = Desk::new(clients);
    let (mut file, mut chain) = Chain::begin(&identity(), Books::new(identity()).position(), &key());
    let mut records = Vec::new();
    bencher.bench_local(|| {
        desk.charge();
        if desk.next.is_multiple_of(PER_COMMIT) {
            file.clear();
            desk.commit(&mut chain, &mut records, &mut file);
        }
    });
}

/// Ten commits, written to a file and flushed to the disk before the next.
#[divan::bench(sample_count = 10)]
fn durable_charges(bencher: Bencher<'_, '_>) {
    let mut desk = Desk::new(1_000_000);
    let (mut commit, mut chain) = Chain::begin(&identity(), Books::new(identity()).position(), &key());
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&commit).unwrap();
    let mut records = Vec::new();
    bencher.counter(ItemsCount::new(10 * PER_COMMIT)).bench_local(|| {
        for _ in 0..10 {
            (0..PER_COMMIT).for_each(|_| desk.charge());
            commit.clear();
            desk.commit(&mut chain, &mut records, &mut commit);
            file.write_all(&commit).unwrap();
            file.sync_data().unwrap();
        }
    });
}

#[divan::bench(args = CLIENTS)]
fn yardstick_two_map_updates(bencher: Bencher<'_, '_>, clients: u32) {
    let mut used: HashMap<Address, u64> = (0..clients).map(|client| (who(client), 0)).collect();
    let mut earned: HashMap<Address, u64> = (0..10_000).map(|worker| (who(worker), 0)).collect();
    let mut next = 0_u32;
    bencher.bench_local(|| {
        next = next.wrapping_add(1);
        *used.get_mut(&who(next.wrapping_mul(2_654_435_761) % clients)).unwrap() += 1100;
        *earned.get_mut(&who(next % 10_000)).unwrap() += 1100;
    });
}

/// From the bytes of a snapshot to a ledger that can charge.
#[divan::bench(args = CLIENTS, sample_count = 10)]
fn recover(bencher: Bencher<'_, '_>, clients: u32) {
    let bytes = snapshot(clients);
    let public = key().verifying_key();
    bencher.counter(BytesCount::of_slice(&bytes)).bench_local(|| {
        let books = Books::from_snapshot(&bytes, identity(), &public).unwrap();
        Ledger::from_books(&books).unwrap()
    });
}

#[divan::bench(args = CLIENTS, sample_count = 10)]
fn yardstick_hash_of_the_snapshot(bencher: Bencher<'_, '_>, clients: u32) {
    let bytes = snapshot(clients);
    bencher.counter(BytesCount::of_slice(&bytes)).bench_local(|| Sha256::digest(&bytes));
}

/// A segment of a million charges.
#[divan::bench(sample_count = 10)]
fn replay_million_charges(bencher: Bencher<'_, '_>) {
    let (bytes, public) = (million_charges(), key().verifying_key());
    bencher.counter(BytesCount::of_slice(&bytes)).bench_local(|| {
        let mut books = Books::new(identity());
        books.replay(&bytes, &public).unwrap();
        books
    });
}

#[divan::bench(sample_count = 10)]
fn yardstick_hash_of_million_charges(bencher: Bencher<'_, '_>) {
    let bytes = million_charges();
    bencher.counter(BytesCount::of_slice(&bytes)).bench_local(|| Sha256::digest(&bytes));
}

fn million_charges() -> Vec<u8> {
    let mut desk = Desk::new(10_000);
    let (mut file, mut chain) = Chain::begin(&identity(), Books::new(identity()).position(), &key());
    let mut records = Vec::new();
    for _ in 0..334 {
        (0..PER_COMMIT).for_each(|_| desk.charge());
        desk.commit(&mut chain, &mut records, &mut file);
    }
    file
}
