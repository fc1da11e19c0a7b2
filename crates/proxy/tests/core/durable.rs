//! What is signed is durable, and a proxy that comes back goes on where it was.

use std::time::Duration;

use cocoon_proxy::core::{Core, Limits, LinkId, PeerFacts};
use ledger::Ledger;
use ledger::journal::{Books, Chain};
use ton::payment::PaymentKind;
use wire::{client, proxy, worker};

use crate::world::{
    World, compare, connect_client, final_info, http_request, http_response, key, owner, root, run_query,
    terms, tokens, verified, worker_params,
};

/// Runs one request that costs `cost` tokens.
fn run(world: &mut World, (client, worker): (LinkId, LinkId), number: u8, cost: i64) {
    let http = http_request(b"{}");
    world.packet(client, &run_query(&http, number));
    let hop_id = world.forwarded(worker);
    let head = http_response(b"{}");
    let final_info = Some(final_info(tokens(cost, 0, 0, 0)));
    world.packet(worker, &proxy::QueryAnswerEx { request_id: hop_id, answer: &head, final_info });
    while world.next_sent(client).is_some() {}
    while world.next_sent(worker).is_some() {}
}

/// What a client hears when it asks: signed, stored and used tokens.
fn client_status(world: &mut World, link: LinkId) -> (u64, i64, i64) {
    let contract = world.snapshot().clients[0].contract.clone();
    let answer = world.query(link, &client::UpdatePaymentStatus {}).unwrap();
    let status: client::PaymentStatus<'_> = wire::decode(&answer).unwrap();
    let signed = verified(&status.signed_payment, PaymentKind::ClientCharge, &contract);
    (signed, status.db_tokens, status.max_tokens)
}

fn worker_status(world: &mut World, link: LinkId) -> (u64, i64, i64) {
    let contract = world.snapshot().workers[0].contract.clone();
    let answer = world.query(link, &worker::UpdatePaymentStatus {}).unwrap();
    let status: worker::PaymentStatus<'_> = wire::decode(&answer).unwrap();
    let signed = verified(&status.signed_payment, PaymentKind::WorkerPayout, &contract);
    (signed, status.db_tokens, status.max_tokens)
}

#[test]
fn nothing_is_signed_before_it_is_durable() {
    let mut world = World::new();
    world.is_disk_fast = false;
    let (client, worker) = (world.client(50, 2), world.worker(60, 2, 1000));
    run(&mut world, (client, worker), 1, 100);
    assert_eq!(client_status(&mut world, client), (0, 0, 100));
    assert_eq!(worker_status(&mut world, worker), (0, 0, 100));

    // A commit on its way to the disk, and more charges meanwhile.
    let commit = world.core.take_records(&mut Vec::new()).unwrap();
    world.wait(Duration::from_secs(2));
    run(&mut world, (client, worker), 2, 30);
    assert_eq!(client_status(&mut world, client), (0, 0, 130));
    world.core.committed(commit);
    assert_eq!(client_status(&mut world, client), (100, 100, 130));
    assert_eq!(worker_status(&mut world, worker), (100, 100, 130));
    world.commit();
    assert_eq!(client_status(&mut world, client), (130, 130, 130));
    assert_eq!(worker_status(&mut world, worker), (130, 130, 130));
}

#[test]
fn a_party_that_leaves_and_comes_back_is_signed_no_more_than_is_durable() {
    let mut world = World::new();
    world.is_disk_fast = false;
    let (client, worker) = (world.client(50, 2), world.worker(60, 2, 1000));
    run(&mut world, (client, worker), 1, 100);
    world.lose(client);
    let client = world.client(50, 2);
    assert_eq!(client_status(&mut world, client), (0, 0, 100));
    world.commit();
    assert_eq!(client_status(&mut world, client), (100, 100, 100));
}

#[test]
fn a_restarted_proxy_goes_on_where_the_journal_ends() {
    let mut world = World::new();
    world.is_disk_fast = false;
    let (client, worker) = (world.client(50, 2), world.worker(60, 2, 1000));
    run(&mut world, (client, worker), 1, 100);
    let identity = world.core.terms().books_identity();
    let mut books = Books::new(identity);
    let (mut file, mut chain) = Chain::begin(&identity, books.position(), &key());
    let mut records = Vec::new();
    let commit = world.core.take_records(&mut records).unwrap();
    assert_eq!(chain.seal(&records, &key(), &mut file), commit);
    world.core.committed(commit);
    assert_eq!(worker_status(&mut world, worker), (100, 100, 100));
    // These 30 never reach the disk, and a request runs when the process dies.
    run(&mut world, (client, worker), 2, 30);
    let http = http_request(b"{}");
    world.packet(client, &run_query(&http, 3));
    assert_eq!(world.core.running_len(), 1);

    books.replay(&file, &key().verifying_key()).unwrap();
    let recovered = Ledger::from_books(&books).unwrap();
    let mut again = World::new();
    again.core = Core::resume(terms(root(), false), recovered, Limits::default(), [10; 32]);
    assert_eq!(again.core.terms().contract_text(), world.core.terms().contract_text());
    assert_eq!(again.client_tokens().1, 0, "the reservation ended with the process");

    // The client accepts what is signed; it is what it knew.
    let link = again.client(50, 2);
    assert_eq!(client_status(&mut again, link), (100, 100, 100));

    // The worker remembers 30 more; it is told so, and goes on.
    let link = again.open_worker(PeerFacts::default());
    let owner_text = owner(60).to_wire_text(false);
    again.query(link, &worker::ConnectToProxy { params: worker_params(&owner_text, 2, 1000) }).unwrap();
    let answer = again.query(link, &compare(100, 100, 130)).unwrap();
    let result: worker::CompareBalanceWithProxyResult<'_> = wire::decode(&answer).unwrap();
    let contract = again.snapshot().workers[0].contract.clone();
    assert_eq!(verified(&result.signed_payment, PaymentKind::WorkerPayout, &contract), 100);
    assert_eq!((result.tokens_committed_to_db, result.max_tokens, result.error_code), (100, 100, 1));
    let extended = worker::ExtendedCompareBalanceWithProxy { tokens_committed_to_db: 100, other: &[] };
    again.query(link, &extended).unwrap();
    again.query(link, &worker::ProxyHandshakeComplete { is_disabled: false }).unwrap();
    let client = again.client(51, 2);
    run(&mut again, (client, link), 1, 5);
    assert_eq!(worker_status(&mut again, link), (105, 105, 105));
}

#[test]
fn a_stuck_journal_takes_no_new_requests_and_loses_none_that_run() {
    let mut world = World::new();
    world.is_disk_fast = false;
    let (client, worker) = (world.client(50, 2), world.worker(60, 2, 1000));
    let http = http_request(b"{}");
    world.packet(client, &run_query(&http, 1));
    let hop_id = world.forwarded(worker);
    assert!(world.core.records_charges());
    world.core.journal_stuck();
    assert!(!world.core.records_charges());
    world.packet(client, &run_query(&http, 2));
    assert_eq!(world.last_outcome().map(|(_, code)| code), Some(651));
    assert_eq!(world.core.running_len(), 1);

    let head = http_response(b"{}");
    let final_info = Some(final_info(tokens(40, 0, 0, 0)));
    world.packet(worker, &proxy::QueryAnswerEx { request_id: hop_id, answer: &head, final_info });
    assert_eq!(client_status(&mut world, client), (0, 0, 40));
    // Peers may still come: who knows when the disk does.
    let link = world.open_client();
    world.query(link, &connect_client(&owner(51).to_wire_text(false), 2)).unwrap();

    world.commit();
    assert!(world.core.records_charges());
    assert_eq!(client_status(&mut world, client), (40, 40, 40));
    world.packet(client, &run_query(&http, 3));
    assert_eq!(world.core.running_len(), 1);
}

#[test]
fn charges_before_new_params_are_written_to_the_books_before() {
    let mut world = World::new();
    world.is_disk_fast = false;
    let (client, worker) = (world.client(50, 2), world.worker(60, 2, 1000));
    run(&mut world, (client, worker), 1, 100);
    let mut newer = root();
    newer.params.params_version += 1;
    let newer = terms(newer, false);
    let books = Ledger::new(newer.books_identity().prices);
    let mut before = world.core.move_to(newer, books, world.now);
    world.collect();
    assert_eq!(before.totals().tokens.get(), 100);
    assert!(before.take_records(&mut Vec::new()).is_some(), "they are still to be written");
    assert_eq!(world.core.take_records(&mut Vec::new()), None, "and not to the new ones");
    let client = world.client(50, 2);
    assert_eq!(client_status(&mut world, client), (0, 0, 0));
}
