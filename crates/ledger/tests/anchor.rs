//! What the chain says, in the books: what may be signed under an anchor, what survives a restart, what is foreign.
#![cfg(test)]

use cocoon_ledger::journal::{Bill, Books, Chain, CommitNumber, Identity};
use cocoon_ledger::{
    Anchor, ClientContract, ClientFunds, Followed, ForeignAnchor, Ledger, Multipliers, Party, PriceTable,
    WorkerContract,
};
use ed25519_dalek::SigningKey;
use ton::Address;
use ton::states::ContractState;
use units::{AdjustedTokens, LogicalTime, NanoTon, RequestId, TransactionHash};

const AT_RISK_MAX: u64 = 100;

fn tokens(count: u64) -> AdjustedTokens {
    AdjustedTokens::new(count)
}

fn who(number: u8) -> Address {
    Address::new(0, [number; 32])
}

const CLIENT: u8 = 1;
const WORKER: u8 = 2;

fn identity() -> Identity {
    let prices = PriceTable::new(NanoTon::new(2), NanoTon::new(1), Multipliers::default()).unwrap();
    Identity { contract: who(200), prices }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn contract(tokens_used: u64, state: ContractState) -> ClientContract {
    let amount = NanoTon::new(1_000_000);
    let funds = ClientFunds { balance: amount, stake: amount, tokens_used: tokens(tokens_used) };
    ClientContract { funds, state, secret_hash: [9; 32] }
}

/// A ledger that follows a chain, and its journal.
struct Desk {
    ledger: Ledger,
    segment: Vec<u8>,
    chain: Chain,
}

impl Desk {
    fn new() -> Self {
        let (segment, chain) = Chain::begin(&identity(), Books::new(identity()).position(), &key());
        let mut desk = Self { ledger: Ledger::new(identity().prices), segment, chain };
        desk.ledger.follow_chain(tokens(AT_RISK_MAX));
        desk.ledger.client_on_chain(who(CLIENT), contract(0, ContractState::Normal));
        desk.ledger.open_worker(who(WORKER));
        desk.commit();
        desk
    }

    fn charge(&mut self, count: u64) {
        let hold = self.ledger.reserve(who(CLIENT), who(WORKER), tokens(count)).unwrap();
        self.ledger
            .post(hold, tokens(count), &Bill { request: RequestId::new([3; 32]), items: &[] })
            .unwrap();
    }

    fn write(&mut self) -> Option<CommitNumber> {
        let mut records = Vec::new();
        let commit = self.ledger.take_records(&mut records)?;
        assert_eq!(self.chain.seal(&records, &key(), &mut self.segment), commit);
        Some(commit)
    }

    fn commit(&mut self) {
        if let Some(commit) = self.write() {
            self.ledger.committed(commit);
        }
    }

    fn anchor(&mut self, random: u8) -> Anchor {
        assert!(self.ledger.wants_anchor());
        self.ledger.begin_anchor([random; 32]);
        assert!(!self.ledger.wants_anchor(), "one at a time");
        assert_eq!(self.ledger.anchor_to_send(), None, "not durable yet");
        self.commit();
        self.ledger.anchor_to_send().unwrap()
    }

    fn books(&self) -> Books {
        let mut books = Books::new(identity());
        books.replay(&self.segment, &key().verifying_key()).unwrap();
        let snapshot = books.to_snapshot(&key());
        assert_eq!(Books::from_snapshot(&snapshot, identity(), &key().verifying_key()).unwrap(), books);
        books
    }

    /// Another process with the same files.
    fn again(&self) -> Self {
        let mut ledger = Ledger::from_books(&self.books()).unwrap();
        ledger.follow_chain(tokens(AT_RISK_MAX));
        Self { ledger, segment: self.segment.clone(), chain: self.chain.clone() }
    }

    fn signable(&self) -> (u64, u64) {
        let client = self.ledger.settled_client(who(CLIENT)).unwrap().get();
        (client, self.ledger.settled_worker(who(WORKER)).unwrap().get())
    }
}

#[test]
fn nothing_new_is_signed_before_the_first_anchor_and_then_so_much() {
    let mut desk = Desk::new();
    assert!(!desk.ledger.wants_anchor(), "idle");
    desk.charge(30);
    desk.commit();
    assert_eq!(desk.signable(), (0, 0));
    let anchor = desk.anchor(7);
    assert_eq!(anchor, Anchor { number: 1, hash: [7; 32] });
    desk.charge(AT_RISK_MAX - 10);
    desk.commit();
    assert_eq!(desk.signable(), (0, 0));
    desk.ledger.anchor_seen(anchor).unwrap();
    assert_eq!(desk.ledger.anchored(), 1);
    assert_eq!(desk.signable(), (120, 120), "90 beyond the anchor");
    assert_eq!(desk.ledger.anchor_to_send(), None);

    // Both sides of the bound.
    desk.charge(10);
    desk.commit();
    assert_eq!(desk.signable(), (130, 130));
    desk.charge(1);
    desk.commit();
    assert_eq!(desk.signable(), (130, 130), "101 beyond the anchor");
    let anchor = desk.anchor(8);
    assert_eq!(anchor.number, 2);
    desk.ledger.anchor_seen(anchor).unwrap();
    assert_eq!(desk.signable(), (131, 131));
    assert_eq!(desk.ledger.anchor_seen(anchor), Ok(()), "seen twice");
}

#[test]
fn an_anchor_is_wanted_by_value_and_never_by_idleness() {
    let mut desk = Desk::new();
    desk.charge(1);
    let first = desk.anchor(1);
    desk.ledger.anchor_seen(first).unwrap();
    desk.charge(AT_RISK_MAX / 2);
    assert!(!desk.ledger.wants_anchor());
    desk.charge(1);
    assert!(desk.ledger.wants_anchor());

    // A process that has nothing to sign needs none.
    desk.commit();
    assert!(!desk.again().ledger.wants_anchor());
}

#[test]
fn too_much_without_an_anchor_is_late() {
    let mut desk = Desk::new();
    desk.charge(AT_RISK_MAX);
    assert!(!desk.ledger.is_anchor_late());
    desk.charge(1);
    assert!(desk.ledger.is_anchor_late());
    let anchor = desk.anchor(1);
    desk.ledger.anchor_seen(anchor).unwrap();
    assert!(!desk.ledger.is_anchor_late());
}

/// The point of it all.
#[test]
fn older_and_copied_books_do_not_hold_the_newest_anchor() {
    let mut desk = Desk::new();
    let older = desk.again();
    desk.charge(30);
    desk.commit();
    let mut copy = desk.again();
    let anchor = desk.anchor(7);
    // A crash before and after sending: the books hold it either way.
    assert_eq!(desk.again().ledger.anchor_seen(anchor), Ok(()));
    desk.ledger.anchor_seen(anchor).unwrap();
    assert_eq!(desk.again().ledger.anchor_seen(anchor), Ok(()));

    for mut other in [older, copy.again()] {
        assert_eq!(other.ledger.anchor_seen(anchor), Err(ForeignAnchor(anchor)));
    }
    // Both go on: each meets the other's.
    copy.charge(1);
    let of_copy = copy.anchor(8);
    assert_eq!(copy.signable(), (30, 30), "what it was copied with, and nothing new");
    assert_eq!(copy.ledger.anchor_seen(anchor), Err(ForeignAnchor(anchor)));
    assert_eq!(desk.ledger.anchor_seen(of_copy), Err(ForeignAnchor(of_copy)));
}

#[test]
fn the_next_process_signs_what_it_finds_and_needs_an_anchor_for_more() {
    let mut desk = Desk::new();
    desk.charge(30);
    let unconfirmed = desk.anchor(7);
    let mut next = desk.again();
    assert_eq!(next.signable(), (30, 30));
    next.charge(1);
    next.commit();
    assert_eq!(next.signable(), (30, 30));
    // The anchor of the process before does not speak for this one.
    next.ledger.anchor_seen(unconfirmed).unwrap();
    assert_eq!(next.signable(), (30, 30));
    let own = next.anchor(9);
    assert_eq!(own.number, 2);
    next.ledger.anchor_seen(own).unwrap();
    assert_eq!(next.signable(), (31, 31));
    assert_eq!(next.ledger.anchor_seen(unconfirmed), Err(ForeignAnchor(unconfirmed)), "it is of the past");
}

/// Commits become durable in order, whatever order anchors come in.
#[test]
fn an_anchor_makes_nothing_durable() {
    let mut desk = Desk::new();
    desk.charge(10);
    let anchor = desk.anchor(1);
    desk.charge(10);
    let commit = desk.write().unwrap();
    assert!(!desk.ledger.is_durable());
    desk.ledger.anchor_seen(anchor).unwrap();
    assert_eq!(desk.signable(), (10, 10));
    desk.ledger.committed(commit);
    assert_eq!(desk.signable(), (20, 20));
    desk.commit();
    assert!(desk.ledger.is_durable());
}

fn transaction(lt: u64) -> Followed {
    Followed { lt: LogicalTime::new(lt), hash: TransactionHash::new([5; 32]) }
}

#[test]
fn what_the_chain_says_survives_a_restart() {
    let mut desk = Desk::new();
    desk.ledger.client_on_chain(who(3), contract(0, ContractState::Normal));
    desk.ledger.client_on_chain(who(CLIENT), contract(0, ContractState::Closing));
    let paid = WorkerContract { paid: tokens(0), state: ContractState::Closed };
    desk.ledger.worker_on_chain(who(WORKER), paid);
    desk.ledger.followed_to(transaction(77));
    desk.ledger.followed_to(transaction(70));
    desk.commit();
    let again = desk.again();
    assert_eq!(again.ledger.client_contract(who(3)), Some(contract(0, ContractState::Normal)));
    assert_eq!(again.ledger.client_contract(who(CLIENT)), Some(contract(0, ContractState::Closing)));
    assert_eq!(again.ledger.client(who(CLIENT)).unwrap().available, tokens(0));
    assert_eq!(again.ledger.worker_contract(who(WORKER)), Some(paid));
    assert_eq!(again.ledger.client_contract(who(4)), None);
    assert_eq!(again.ledger.followed(), Some(transaction(77)));

    // The same facts again are no news.
    let mut again = again;
    again.ledger.client_on_chain(who(3), contract(0, ContractState::Normal));
    again.ledger.worker_on_chain(who(WORKER), paid);
    again.ledger.followed_to(transaction(77));
    assert_eq!(again.ledger.records_len(), 0);
}

#[test]
fn what_the_chain_counts_and_the_books_do_not_is_brought_forward() {
    let mut desk = Desk::new();
    desk.charge(10);
    desk.ledger.client_on_chain(who(CLIENT), contract(25, ContractState::Normal));
    let paid = WorkerContract { paid: tokens(40), state: ContractState::Normal };
    desk.ledger.worker_on_chain(who(WORKER), paid);
    desk.charge(1);
    assert_eq!(desk.ledger.client(who(CLIENT)).unwrap().used, tokens(26));
    assert_eq!(desk.ledger.worker(who(WORKER)).unwrap().earned, tokens(41));
    assert_eq!(desk.ledger.audit(), Ok(()));
    desk.commit();
    let again = desk.again();
    assert_eq!(again.signable(), (26, 41));
    assert_eq!(again.ledger.audit(), Ok(()));
}

/// A client that the journal names is not forgotten, or it would get a second name.
#[test]
fn who_is_in_the_journal_stays() {
    let mut desk = Desk::new();
    assert!(!desk.ledger.forget_idle_client(who(CLIENT)));
    desk.ledger.open_client(who(5), ClientFunds::default());
    assert!(desk.ledger.forget_idle_client(who(5)));
    desk.ledger.worker_on_chain(who(WORKER), WorkerContract::default());
    assert!(!desk.ledger.forget_idle_worker(who(WORKER)));
    desk.ledger.client_on_chain(who(CLIENT), contract(0, ContractState::Closed));
    desk.commit();
    assert_eq!(desk.books().accounts_len(), (1, 1));
}

#[test]
fn whose_totals_may_be_signed_is_said_once() {
    let mut desk = Desk::new();
    let mut settled = Vec::new();
    desk.ledger.take_settled(&mut settled);
    settled.clear();
    desk.charge(10);
    desk.commit();
    desk.ledger.take_settled(&mut settled);
    assert_eq!(settled, [], "no anchor yet");
    let anchor = desk.anchor(1);
    desk.ledger.anchor_seen(anchor).unwrap();
    desk.ledger.take_settled(&mut settled);
    settled.sort_unstable();
    settled.dedup();
    assert_eq!(settled, [Party::Client(who(CLIENT)), Party::Worker(who(WORKER))]);
    settled.clear();
    desk.ledger.take_settled(&mut settled);
    assert_eq!(settled, []);
}
