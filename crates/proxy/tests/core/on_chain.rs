//! A client's handshake where a chain is followed: only what the chain shows counts.

use std::time::Duration;

use cocoon_proxy::core::{Core, Limits, LinkId};
use cocoon_proxy::settlement::{Action, Desk, Duty, Order, Policy, Seen, Settlement, Unready};
use ledger::{ClientContract, ClientFunds, Followed, Ledger, Party};
use sha2::{Digest as _, Sha256};
use ton::messages::{self, ClientPayload, ClientRequest, ClientSnapshot};
use ton::states::{ContractState, ProxyData};
use ton::{Address, RootConfig};
use tycho_types::cell::Cell;
use units::{AdjustedTokens, LogicalTime, NanoTon, TransactionHash};
use wire::client::{self, ProxyConnectionAuth};
use wire::proxy;

use crate::world::{
    World, connect_client, final_info, http_request, http_response, key, owner, root, run_query, terms,
    tokens,
};

const SECRET: &[u8] = b"my secret";

fn hash(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

fn desk(root: RootConfig) -> Desk {
    Desk::new(root, owner(2), owner(3), owner(4), key())
}

/// A world whose proxy contract is deployed, with its stake.
fn world() -> World {
    let mut world = unread_world();
    let own = ProxyData {
        owner: owner(3),
        key: *world.core.terms().public_key(),
        root: owner(2),
        state: ContractState::Normal,
        balance: NanoTon::ZERO,
        stake: root().params.min_proxy_stake,
        unlock_at: 0,
        params: Cell::default(),
        pool: NanoTon::ZERO,
    };
    let now = world.now;
    world.core.feed_chain(now, |settlement, _| {
        settlement.heard(now, now.unix);
        settlement.own_contract(Some(own));
    });
    world
}

/// A world that follows a chain and has not heard of it.
fn unread_world() -> World {
    let mut world = World::new();
    let mut books = Ledger::new(world.core.terms().books_identity().prices);
    let settlement =
        Settlement::new(desk(root()), Policy::default(), LogicalTime::new(0), &mut books, [5; 32]);
    world.core = Core::resume(terms(root(), false), books, Limits::default(), [9; 32]);
    let now = world.now;
    world.core.follow_chain(settlement, now);
    world
}

/// The chain shows a client's contract.
fn show(world: &mut World, lt: u64, client: Address, state: ContractState, nonce: Option<u64>) {
    let amount = NanoTon::new(1_000_000_000);
    let request = ClientRequest {
        query_id: 1,
        owner: client,
        state: ClientSnapshot {
            state,
            balance: amount,
            stake: amount,
            tokens_used: AdjustedTokens::ZERO,
            secret_hash: hash(SECRET),
        },
        payload: nonce.map(|nonce| ClientPayload::Register { nonce }),
    };
    show_request(world, lt, &request);
}

fn show_request(world: &mut World, lt: u64, request: &ClientRequest) {
    let from = desk(root()).contract_of(Party::Client(request.owner));
    let at = Followed { lt: LogicalTime::new(lt), hash: TransactionHash::new([1; 32]) };
    let body = request.to_cell();
    let now = world.now;
    world.core.feed_chain(now, |settlement, books| {
        settlement.seen(books, &Seen { at, from, body: &body, is_done: false }, now);
    });
    world.collect();
}

fn connect(world: &mut World, number: u8) -> (LinkId, Result<ProxyConnectionAuth, (i32, String)>) {
    let link = world.open_client();
    let text = owner(number).to_wire_text(false);
    let answer = world.query(link, &connect_client(&text, 2));
    let auth = answer.map(|answer| wire::decode::<client::ConnectedToProxy<'_>>(&answer).unwrap().auth);
    (link, auth)
}

#[test]
fn a_known_client_authorises_with_its_secret_and_no_other() {
    let mut world = world();
    show(&mut world, 1, owner(50), ContractState::Normal, None);
    for (data, is_it) in [(SECRET, true), (b"another".as_slice(), false), (b"", false)] {
        let (link, auth) = connect(&mut world, 50);
        let Ok(ProxyConnectionAuth::Short { secret_hash, nonce }) = auth else { panic!("{auth:?}") };
        assert_eq!(secret_hash, hash(SECRET));
        assert_ne!(nonce, 0);
        let answer = world.query(link, &client::AuthorizeWithProxyShort { data });
        match answer {
            Ok(_) => assert!(is_it),
            Err(refusal) => assert_eq!((is_it, refusal), (false, (0, "sha256 mismatch".into()))),
        }
    }
}

/// Everybody knows the empty secret, and a contract without one has zeros.
#[test]
fn an_empty_secret_is_none() {
    for secret_hash in [hash(b""), [0; 32]] {
        let mut world = world();
        let contract = ClientContract { secret_hash, ..ClientContract::default() };
        let now = world.now;
        world.core.feed_chain(now, |_, books| books.client_on_chain(owner(50), contract));
        let (link, auth) = connect(&mut world, 50);
        assert!(matches!(auth, Ok(ProxyConnectionAuth::Long { .. })), "{auth:?}");
        let refused = world.query(link, &client::AuthorizeWithProxyShort { data: b"" }).unwrap_err();
        assert_eq!(refused, (0, "sha256 mismatch".into()));
    }
}

#[test]
fn an_unknown_client_registers_on_the_chain() {
    let mut world = world();
    let (link, auth) = connect(&mut world, 50);
    let Ok(ProxyConnectionAuth::Long { nonce }) = auth else { panic!("{auth:?}") };
    let query = world.ask(link, &client::AuthorizeWithProxyLong {});
    // Longer than a handshake may take otherwise.
    world.wait(Duration::from_secs(100));
    assert_eq!(world.take_answer(query), None, "it waits for the chain");
    show(&mut world, 1, owner(51), ContractState::Normal, Some(nonce.cast_unsigned()));
    assert_eq!(world.take_answer(query), None, "another client's contract");
    show(&mut world, 2, owner(50), ContractState::Normal, Some(nonce.cast_unsigned() ^ 1));
    assert_eq!(world.take_answer(query), None, "another number");
    show(&mut world, 3, owner(50), ContractState::Normal, Some(nonce.cast_unsigned()));
    assert!(world.take_answer(query).unwrap().is_ok());
    assert_eq!(world.vouched, [link]);
    world.packet(link, &run_query(&http_request(b"{}"), 1));
    assert!(world.closed(link).is_none());
}

#[test]
fn a_registration_may_come_before_the_query_and_two_queries_may_not() {
    let mut world = world();
    let (link, auth) = connect(&mut world, 50);
    let Ok(ProxyConnectionAuth::Long { nonce }) = auth else { panic!("{auth:?}") };
    show(&mut world, 1, owner(50), ContractState::Normal, Some(nonce.cast_unsigned()));
    assert!(world.query(link, &client::AuthorizeWithProxyLong {}).is_ok());

    let (link, _auth) = connect(&mut world, 60);
    let _held = world.ask(link, &client::AuthorizeWithProxyLong {});
    let refused = world.query(link, &client::AuthorizeWithProxyLong {}).unwrap_err();
    assert_eq!(refused, (0, "duplicate auth message".into()));
    assert!(world.closed(link).is_some());
}

#[test]
fn who_never_registers_is_given_up() {
    let mut world = world();
    let (link, _auth) = connect(&mut world, 50);
    let _held = world.ask(link, &client::AuthorizeWithProxyLong {});
    world.wait(Duration::from_secs(299));
    assert!(world.closed(link).is_none());
    world.wait(Duration::from_secs(2));
    assert!(world.closed(link).is_some());
}

#[test]
fn a_client_that_leaves_is_refused_and_one_without_a_contract_runs_nothing() {
    let mut world = world();
    for (lt, state) in [(1, ContractState::Closing), (2, ContractState::Closed)] {
        show(&mut world, lt, owner(50), state, None);
        let (_link, auth) = connect(&mut world, 50);
        assert_eq!(auth.unwrap_err(), (602, "client is closing".into()));
    }
    assert_eq!(world.core.settlement().unwrap().ignored(), 0);
}

#[test]
fn nobody_is_served_before_the_chain_was_read() {
    let mut world = unread_world();
    assert!(!world.core.takes_part());
    assert!(world.core.unready().unwrap().to_string().contains("not been read"));
    let (_link, auth) = connect(&mut world, 50);
    assert_eq!(auth.unwrap_err(), (651, "proxy is not participating in this iteration".into()));
}

/// What was charged before that may be of another life, and so may be what was signed.
#[test]
fn nothing_is_signed_once_the_chain_shows_other_books() {
    for shows_other_books in [false, true] {
        let mut world = world();
        let amount = NanoTon::new(1_000_000_000);
        let funds = ClientFunds { balance: amount, stake: amount, tokens_used: AdjustedTokens::ZERO };
        let contract = ClientContract { funds, secret_hash: hash(SECRET), ..ClientContract::default() };
        let now = world.now;
        world.core.feed_chain(now, |_, books| books.client_on_chain(owner(50), contract));
        let (client, _auth) = connect(&mut world, 50);
        world.query(client, &client::AuthorizeWithProxyShort { data: SECRET }).unwrap();
        let worker = world.worker(60, 2, 1000);
        // One request ends, and what it cost is anchored; another one runs.
        let http = http_request(b"{}");
        world.packet(client, &run_query(&http, 1));
        let hop_id = world.forwarded(worker);
        let head = http_response(b"{}");
        let answer = |request_id| proxy::QueryAnswerEx {
            request_id,
            answer: &head,
            final_info: Some(final_info(tokens(100, 0, 0, 0))),
        };
        world.packet(worker, &answer(hop_id));
        world.packet(client, &run_query(&http, 2));
        let hop_id = world.forwarded(worker);
        world.core.feed_chain(now, |_, _| {});
        world.commit();
        world.core.feed_chain(now, |_, _| {});
        world.collect();
        let anchor = world.settling.iter().find_map(|action| match action {
            Action::Send(Order { duty: Duty::Anchor(anchor), .. }) => Some(*anchor),
            _ => None,
        });
        let anchor = anchor.expect("the first charge wants an anchor");
        let body = messages::Anchor { query_id: 1, seqno: anchor.number, hash: anchor.hash }.to_cell();
        let at = Followed { lt: LogicalTime::new(2), hash: TransactionHash::new([2; 32]) };
        world.core.feed_chain(now, |settlement, books| {
            settlement.seen(books, &Seen { at, from: owner(4), body: &body, is_done: false }, now);
        });
        world.wait(Duration::from_secs(2));
        while world.next_sent(worker).is_some() {}

        if shows_other_books {
            let state = ClientSnapshot {
                state: ContractState::Normal,
                balance: amount,
                stake: amount,
                tokens_used: AdjustedTokens::new(1_000_000),
                secret_hash: hash(SECRET),
            };
            let request = ClientRequest { query_id: 1, owner: owner(50), state, payload: None };
            show_request(&mut world, 3, &request);
            assert!(matches!(world.core.unready(), Some(Unready::Foreign(_))));
        } else {
            world.packet(worker, &answer(hop_id));
        }
        let mut told = Vec::new();
        while let Some(message) = world.next_sent(worker) {
            if let Ok(payment) = wire::decode::<proxy::WorkerRequestPayment<'_>>(&message) {
                told.push(payment.db_tokens);
            }
        }
        assert_eq!(told, if shows_other_books { vec![] } else { vec![100] });
    }
}

/// What the settlement wants done is the shell's to do, in order.
#[test]
fn orders_leave_as_actions() {
    let mut world = unread_world();
    let now = world.now;
    world.core.feed_chain(now, |settlement, _| {
        settlement.heard(now, now.unix);
        settlement.own_contract(None);
    });
    world.collect();
    assert!(matches!(world.settling[..], [Action::Send(_)]), "{:?}", world.settling);
}
