//! The journal against the ledger that writes it: what is recovered, what is noticed, what is cut off.
#![cfg(test)]

use cocoon_ledger::journal::{Bill, BillingKind, Books, Chain, CommitNumber, Identity, JournalError};
use cocoon_ledger::{ClientFunds, Ledger, Multipliers, PriceTable};
use ed25519_dalek::{SigningKey, VerifyingKey};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use ton::Address;
use units::{AdjustedTokens, Multiplier, NanoTon, RequestId};

const ACCOUNTS: u8 = 4;

fn tokens(count: u64) -> AdjustedTokens {
    AdjustedTokens::new(count)
}

fn who(number: u8) -> Address {
    Address::new(0, [number; 32])
}

fn prices(price: u64) -> PriceTable {
    PriceTable::new(NanoTon::new(price), NanoTon::new(1), Multipliers::default()).unwrap()
}

fn identity() -> Identity {
    Identity { contract: who(200), prices: prices(2) }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn public() -> VerifyingKey {
    key().verifying_key()
}

/// A ledger, the files that its records went to, and what was durable at the end of each commit.
struct Desk {
    ledger: Ledger,
    chain: Chain,
    /// Closed segments, and the open one last.
    segments: Vec<Vec<u8>>,
    snapshot: Option<(usize, Vec<u8>)>,
    requests: u8,
}

impl Desk {
    fn new() -> Self {
        let mut ledger = Ledger::new(identity().prices);
        for worker in 0..ACCOUNTS {
            ledger.open_worker(who(worker));
        }
        let (header, chain) = Chain::begin(&identity(), Books::new(identity()).position(), &key());
        Self { ledger, chain, segments: vec![header], snapshot: None, requests: 0 }
    }

    fn fund(&mut self, client: u8, used_on_chain: u64) {
        let amount = NanoTon::new(1_000_000);
        let funds = ClientFunds { balance: amount, stake: amount, tokens_used: tokens(used_on_chain) };
        self.ledger.open_client(who(client), funds);
    }

    fn charge(&mut self, client: u8, worker: u8, count: u64) {
        let Ok(hold) = self.ledger.reserve(who(client), who(worker), tokens(count)) else { return };
        self.requests = self.requests.wrapping_add(1);
        let items = [(BillingKind::Prompt, count), (BillingKind::Completion, 0)];
        let bill = Bill { request: RequestId::new([self.requests; 32]), items: &items };
        self.ledger.post(hold, tokens(count), &bill).unwrap();
    }

    /// Writes what waits, as one commit.
    fn commit(&mut self) -> Option<CommitNumber> {
        let mut records = Vec::new();
        let number = self.ledger.take_records(&mut records)?;
        let sealed = self.chain.seal(&records, &key(), self.segments.last_mut().unwrap());
        assert_eq!(sealed, number, "the ledger and the chain count alike");
        Some(number)
    }

    fn rotate(&mut self) {
        let (header, chain) = Chain::begin(&identity(), &self.chain.end(), &key());
        self.segments.push(header);
        self.chain = chain;
    }

    /// Folds everything but the open segment, as compaction does.
    fn compact(&mut self) {
        let closed = self.segments.len() - 1;
        let (mut books, done) = self.base();
        for segment in &self.segments[done..closed] {
            assert_eq!(books.replay(segment, &public()).unwrap().torn_len, 0);
        }
        self.snapshot = Some((closed, books.to_snapshot(&key())));
    }

    fn base(&self) -> (Books, usize) {
        match &self.snapshot {
            Some((done, bytes)) => (Books::from_snapshot(bytes, identity(), &public()).unwrap(), *done),
            None => (Books::new(identity()), 0),
        }
    }

    fn recovered(&self) -> Books {
        let (mut books, done) = self.base();
        for segment in &self.segments[done..] {
            books.replay(segment, &public()).unwrap();
        }
        books
    }
}

/// Everything about accounts that outlives a process, in a stable order.
fn durable_state(ledger: &Ledger) -> impl PartialEq + std::fmt::Debug + use<> {
    let mut clients: Vec<_> = ledger
        .clients()
        .filter(|(_, limits)| limits.used > AdjustedTokens::ZERO)
        .map(|(owner, limits)| (owner, limits.used, limits.payed, limits.staked))
        .collect();
    clients.sort_unstable();
    let mut workers: Vec<_> = ledger
        .workers()
        .filter(|(_, totals)| totals.earned > AdjustedTokens::ZERO)
        .map(|(owner, totals)| (owner, totals.earned))
        .collect();
    workers.sort_unstable();
    let totals = ledger.totals();
    (clients, workers, totals.tokens, totals.charged, totals.earned, totals.fees)
}

#[derive(Clone, Debug)]
enum Step {
    Fund { client: u8, used_on_chain: u64 },
    Charge { client: u8, worker: u8, count: u64 },
    Commit,
    Durable,
    Rotate,
    Compact,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..ACCOUNTS, 0..2000_u64)
            .prop_map(|(client, used_on_chain)| Step::Fund { client, used_on_chain }),
        8 => (0..ACCOUNTS, 0..ACCOUNTS, 0..400_u64)
            .prop_map(|(client, worker, count)| Step::Charge { client, worker, count }),
        3 => Just(Step::Commit),
        2 => Just(Step::Durable),
        1 => Just(Step::Rotate),
        1 => Just(Step::Compact),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens in whatever order: what is recovered is what was committed, and no total that could have
    /// been signed is larger than what is recovered from what was durable at that time.
    #[test]
    fn what_is_recovered_is_what_was_committed(steps in prop::collection::vec(step(), 1..80)) {
        let mut desk = Desk::new();
        let mut written = None;
        for step in steps {
            match step {
                Step::Fund { client, used_on_chain } => desk.fund(client, used_on_chain),
                Step::Charge { client, worker, count } => desk.charge(client, worker, count),
                // One commit is on its way to the disk at a time.
                Step::Commit if written.is_none() => written = desk.commit(),
                Step::Durable => if let Some(commit) = written.take() {
                    desk.ledger.committed(commit);
                },
                Step::Rotate if written.is_none() => desk.rotate(),
                Step::Compact if written.is_none() => desk.compact(),
                Step::Restart if written.is_none() => {
                    let books = desk.recovered();
                    desk.ledger = Ledger::from_books(&books).unwrap();
                    for account in 0..ACCOUNTS {
                        desk.ledger.open_worker(who(account));
                    }
                }
                _ => {}
            }
            let recovered = Ledger::from_books(&desk.recovered()).unwrap();
            prop_assert_eq!(recovered.audit(), Ok(()));
            prop_assert_eq!(desk.ledger.audit(), Ok(()));
            for account in 0..ACCOUNTS {
                let signed = desk.ledger.settled_client(who(account)).unwrap_or_default();
                let known = recovered.client(who(account)).map(|limits| limits.used).unwrap_or_default();
                prop_assert!(signed <= known, "client {account}: {signed} settled, {known} recovered");
                let signed = desk.ledger.settled_worker(who(account)).unwrap_or_default();
                let known = recovered.worker(who(account)).map(|totals| totals.earned).unwrap_or_default();
                prop_assert!(signed <= known, "worker {account}: {signed} settled, {known} recovered");
            }
        }
        if let Some(commit) = written { desk.ledger.committed(commit); }
        if let Some(commit) = desk.commit() { desk.ledger.committed(commit); }
        let recovered = Ledger::from_books(&desk.recovered()).unwrap();
        prop_assert_eq!(durable_state(&recovered), durable_state(&desk.ledger));
        for (client, limits) in desk.ledger.clients() {
            prop_assert_eq!(desk.ledger.settled_client(client), Some(limits.used));
        }
    }

    /// A snapshot and a segment of any bytes end in an error or in books, never in a panic.
    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Books::new(identity()).replay(&bytes, &public()).is_err());
        prop_assert!(Books::from_snapshot(&bytes, identity(), &public()).is_err());
    }

    /// Records that are signed and make no sense: from a bug, or from a later program.
    #[test]
    fn signed_nonsense_is_an_error(records in prop::collection::vec(any::<u8>(), 1..200)) {
        let (mut file, mut chain) = Chain::begin(&identity(), Books::new(identity()).position(), &key());
        chain.seal(&records, &key(), &mut file);
        let mut books = Books::new(identity());
        match books.replay(&file, &public()) {
            Ok(_) => { let _any_sums = Ledger::from_books(&books); }
            Err(error) => {
                let is_content = matches!(error, JournalError::Content { .. });
                prop_assert!(is_content, "{error}");
            }
        }
    }
}

/// Three commits in one segment.
fn segment() -> (Vec<u8>, Vec<usize>) {
    let mut desk = Desk::new();
    let mut ends = vec![desk.segments[0].len()];
    for client in 1..4 {
        desk.fund(client, 0);
        desk.charge(client, 1, 100);
        desk.charge(1, client, 7);
        desk.commit().unwrap();
        ends.push(desk.segments[0].len());
    }
    (desk.segments.remove(0), ends)
}

fn replay(bytes: &[u8]) -> Result<(Books, u64, u64), JournalError> {
    let mut books = Books::new(identity());
    let replayed = books.replay(bytes, &public())?;
    Ok((books, replayed.commits, replayed.torn_len))
}

#[test]
fn every_cut_of_a_segment_leaves_its_complete_commits() {
    let (segment, ends) = segment();
    let mut last = AdjustedTokens::ZERO;
    for len in ends[0]..=segment.len() {
        let (books, commits, torn_len) = replay(&segment[..len]).unwrap();
        let complete = ends.iter().filter(|end| **end <= len).count() - 1;
        assert_eq!(commits, complete as u64, "cut at {len}");
        assert_eq!(torn_len, (len - ends[complete]) as u64, "cut at {len}");
        assert!(books.tokens() >= last);
        last = books.tokens();
    }
    for len in 0..ends[0] {
        assert!(matches!(replay(&segment[..len]), Err(JournalError::Short { .. })), "cut at {len}");
    }
}

/// Where a file system shows unwritten bytes as zeros, they are cut off like missing ones, and only there.
#[test]
fn an_unwritten_end_is_cut_off_and_zeros_elsewhere_are_damage() {
    let (segment, ends) = segment();
    for start in [ends[2], ends[2] + 1, ends[2] + 17, segment.len() - 16] {
        let mut torn = segment.clone();
        torn[start..].fill(0);
        let (_, commits, torn_len) = replay(&torn).unwrap();
        assert_eq!((commits, torn_len), (2, (segment.len() - ends[2]) as u64), "from {start}");
    }
    for (start, end) in [(ends[1], segment.len()), (ends[1], ends[2]), (ends[2] + 20, ends[2] + 40)] {
        let mut damaged = segment.clone();
        damaged[start..end].fill(0);
        if (start, end) == (ends[1], segment.len()) {
            // All after the first commit was never written, as far as anybody can tell.
            assert_eq!(replay(&damaged).unwrap().1, 1);
        } else {
            assert!(replay(&damaged).is_err(), "zeros in {start}..{end}");
        }
    }
}

#[test]
fn every_changed_byte_of_a_segment_is_noticed() {
    let (segment, _) = segment();
    for index in 0..segment.len() {
        for change in [1, 0x80, 0xff] {
            let mut changed = segment.clone();
            changed[index] ^= change;
            assert!(replay(&changed).is_err(), "byte {index} changed by {change:#x}");
        }
    }
}

#[test]
fn damage_is_found_where_it_is() {
    let (segment, ends) = segment();
    let changed = |index: usize| {
        let mut changed = segment.clone();
        changed[index] ^= 1;
        replay(&changed).unwrap_err()
    };
    let damaged = |what, offset: usize| JournalError::Damaged { what, offset: offset as u64 };
    assert_eq!(changed(ends[1] + 30), damaged("a commit", ends[1]));
    assert_eq!(changed(ends[2] - 1), damaged("a commit", ends[1]), "its signature");
    assert_eq!(changed(ends[1]), damaged("the beginning of a commit", ends[1]), "its length");
    let signature = segment.len() as u64 - 64;
    assert_eq!(changed(segment.len() - 1), JournalError::Signature { offset: signature });
    assert_eq!(changed(ends[2] + 30), JournalError::Signature { offset: signature });
}

#[test]
fn every_changed_or_missing_byte_of_a_snapshot_is_noticed() {
    let mut desk = Desk::new();
    desk.fund(1, 5);
    desk.charge(1, 2, 50);
    desk.commit().unwrap();
    desk.rotate();
    desk.compact();
    let (_, snapshot) = desk.snapshot.clone().unwrap();
    let read = |bytes: &[u8]| Books::from_snapshot(bytes, identity(), &public());
    assert_eq!(read(&snapshot).unwrap(), {
        let mut books = Books::new(identity());
        books.replay(&desk.segments[0], &public()).unwrap();
        books
    });
    for index in 0..snapshot.len() {
        assert!(read(&snapshot[..index]).is_err(), "cut at {index}");
        for change in [1, 0x80, 0xff] {
            let mut changed = snapshot.clone();
            changed[index] ^= change;
            assert!(read(&changed).is_err(), "byte {index} changed by {change:#x}");
        }
    }
    let longer = [snapshot.as_slice(), &[0]].concat();
    assert!(read(&longer).is_err());
}

#[test]
fn files_of_others_are_refused_by_name() {
    let (segment, _) = segment();
    let ours = identity();
    let other_contract = Identity { contract: who(201), ..ours };
    assert_eq!(
        Books::new(other_contract).replay(&segment, &public()),
        Err(JournalError::ForeignContract { expected: who(201), found: who(200) })
    );
    let other_prices = Identity { prices: prices(3), ..ours };
    let heavier = Multipliers { reasoning: Multiplier::new(20_000), ..Multipliers::default() };
    let heavier = PriceTable::new(NanoTon::new(2), NanoTon::new(1), heavier).unwrap();
    for prices in [other_prices.prices, heavier] {
        let error = Books::new(Identity { prices, ..ours }).replay(&segment, &public()).unwrap_err();
        assert!(matches!(error, JournalError::ForeignPrices { .. }), "{error}");
    }
    let stranger = SigningKey::from_bytes(&[8; 32]).verifying_key();
    let error = Books::new(ours).replay(&segment, &stranger).unwrap_err();
    assert!(matches!(error, JournalError::Signature { .. }), "{error}");

    let mut newer = segment.clone();
    newer[8] = 3;
    let error = Books::new(ours).replay(&newer, &public()).unwrap_err();
    assert_eq!(error, JournalError::NewerFormat { found: 3, known: 2 });
    let error = Books::new(ours).replay(b"{\"clients\":[]}", &public()).unwrap_err();
    assert!(matches!(error, JournalError::Magic { .. }), "{error}");
    let error = Books::from_snapshot(&segment, ours, &public()).unwrap_err();
    assert!(matches!(error, JournalError::Magic { .. }), "{error}");
}

#[test]
fn missing_repeated_and_mixed_segments_are_refused() {
    let mut desk = Desk::new();
    for client in 1..4 {
        desk.fund(client, 0);
        desk.charge(client, 1, 10);
        desk.commit().unwrap();
        desk.rotate();
    }
    let mut books = Books::new(identity());
    books.replay(&desk.segments[0], &public()).unwrap();
    for (segment, found) in [(2, 2), (0, 0)] {
        let error = books.clone().replay(&desk.segments[segment], &public()).unwrap_err();
        assert!(matches!(error, JournalError::Segment { .. }), "segment {found}: {error}");
    }

    // The same number from another life of the same proxy.
    let mut other = Desk::new();
    other.fund(1, 0);
    other.charge(1, 1, 11);
    other.commit().unwrap();
    other.rotate();
    let error = books.replay(&other.segments[1], &public()).unwrap_err();
    assert!(matches!(error, JournalError::Chain { .. }), "{error}");
}

/// What strangers do without being charged is nobody's business tomorrow.
#[test]
fn accounts_without_business_leave_no_record() {
    let mut desk = Desk::new();
    desk.fund(1, 0);
    desk.fund(2, 0);
    desk.charge(1, 1, 0);
    assert_eq!(desk.commit(), None);
    desk.fund(2, 30);
    assert_eq!(desk.ledger.settled_client(who(2)), Some(tokens(0)));
    let commit = desk.commit().unwrap();
    desk.ledger.committed(commit);
    assert_eq!(desk.ledger.settled_client(who(2)), Some(tokens(30)));
    assert_eq!(desk.recovered().accounts_len(), (1, 0));
}

/// One client, one worker, one charge, in one segment and the snapshot of it.
fn released() -> (Vec<u8>, Vec<u8>) {
    let mut desk = Desk::new();
    desk.fund(1, 5);
    desk.charge(1, 2, 300);
    desk.commit().unwrap();
    desk.rotate();
    desk.compact();
    (desk.segments.remove(0), desk.snapshot.unwrap().1)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The format: whoever changes it sees this fail and raises the version.
#[test]
fn the_format_is_the_one_that_was_released() {
    let (segment, snapshot) = released();
    assert_eq!(
        (digest(&segment), digest(&snapshot)),
        ("04510f94669e6d27".to_owned(), "09fd3b86fe88fa7e".to_owned())
    );
}

#[test]
fn books_of_version_1_are_read_and_go_on_in_a_new_segment() {
    let (segment, _) = released();
    let old_segment = include_bytes!("../../../spec/vectors/books/segment-v1.bin").as_slice();
    let old_snapshot = include_bytes!("../../../spec/vectors/books/snapshot-v1.bin").as_slice();
    let mut books = Books::new(identity());
    let replayed = books.replay(old_segment, &public()).unwrap();
    assert!(replayed.is_old);
    assert_eq!(Books::from_snapshot(old_snapshot, identity(), &public()).unwrap(), books);

    let mut new = Books::new(identity());
    assert!(!new.replay(&segment, &public()).unwrap().is_old);
    let state = |books: &Books| durable_state(&Ledger::from_books(books).unwrap());
    assert_eq!(state(&books), state(&new));

    let mut desk = Desk { ledger: Ledger::from_books(&books).unwrap(), ..Desk::new() };
    let (header, chain) = Chain::begin(&identity(), &replayed.chain.end(), &key());
    (desk.segments, desk.chain) = (vec![header], chain);
    desk.charge(1, 2, 7);
    desk.commit().unwrap();
    books.replay(&desk.segments[0], &public()).unwrap();
    assert_eq!(books.tokens(), tokens(307));
}
