//! What goes to the worker and comes back to the client, in every pair of versions.

use std::time::Duration;

use bytes::Bytes;
use cocoon_proxy::core::{LinkId, Outcome};
use ton::payment::PaymentKind;
use wire::{TokensUsed, client, http, proxy, worker};

use crate::world::{World, final_info, http_request, http_response, run_query, tokens, verified};

/// An answer as a client of any version reads it.
#[derive(Debug, PartialEq)]
struct Heard {
    head: bool,
    body: Vec<u8>,
    done: Option<i64>,
}

fn hear(message: &Bytes, protocol: i32) -> Heard {
    let total = |tokens: &TokensUsed| tokens.total_tokens_used;
    let body_of = |answer: &[u8]| wire::decode::<http::Response<'_>>(answer).unwrap().payload.to_vec();
    let done = |info: &Option<client::QueryFinalInfo<'_>>| {
        let info = info.as_ref()?;
        assert_eq!(info.times.is_some(), protocol >= 2, "times came with version 2");
        Some(total(&info.tokens_used))
    };
    let old_done = |completed: bool, tokens: &TokensUsed| completed.then(|| total(tokens));
    match (wire::decode(message).unwrap(), protocol) {
        (client::FromProxy::QueryAnswer(answer), 0) => Heard {
            head: true,
            body: body_of(answer.answer),
            done: old_done(answer.is_completed, &answer.request_tokens_used),
        },
        (client::FromProxy::QueryAnswerPart(answer), 0) => Heard {
            head: false,
            body: answer.answer.to_vec(),
            done: old_done(answer.is_completed, &answer.request_tokens_used),
        },
        (client::FromProxy::QueryAnswerEx(answer), 1..=3) => {
            Heard { head: true, body: body_of(answer.answer), done: done(&answer.final_info) }
        }
        (client::FromProxy::QueryAnswerPartEx(answer), 1..=3) => {
            Heard { head: false, body: answer.answer.to_vec(), done: done(&answer.final_info) }
        }
        (other, _) => panic!("version {protocol} does not know {other:?}"),
    }
}

fn ask(world: &mut World, client: LinkId, protocol: i32) {
    let http = http_request(b"{}");
    let query = run_query(&http, 1);
    if protocol > 0 {
        return world.packet(client, &query);
    }
    world.packet(
        client,
        &client::RunQuery {
            model_name: query.model_name,
            query: query.query,
            max_coefficient: query.max_coefficient,
            max_tokens: query.max_tokens,
            timeout: query.timeout,
            request_id: query.request_id,
            min_config_version: query.min_config_version,
        },
    );
}

/// Sends a head, a part and a last part in the worker's version.
fn answer(world: &mut World, worker: LinkId, hop_id: [u8; 32], protocol: i32) {
    let head = http_response(b"first ");
    let info = final_info(tokens(34, 16, 135, 15));
    if protocol == 0 {
        let (request_id, none) = (hop_id, tokens(0, 0, 0, 0));
        world.packet(
            worker,
            &proxy::QueryAnswer { answer: &head, is_completed: false, request_id, tokens_used: none },
        );
        world.packet(
            worker,
            &proxy::QueryAnswerPart {
                answer: b"second ",
                is_completed: false,
                request_id,
                tokens_used: none,
            },
        );
        let tokens_used = info.tokens_used;
        let last = proxy::QueryAnswerPart { answer: b"third", is_completed: true, request_id, tokens_used };
        return world.packet(worker, &last);
    }
    let request_id = hop_id;
    world.packet(worker, &proxy::QueryAnswerEx { request_id, answer: &head, final_info: None });
    world.packet(worker, &proxy::QueryAnswerPartEx { request_id, answer: b"second ", final_info: None });
    let final_info = Some(proxy::QueryFinalInfo { times: info.times.filter(|_| protocol >= 2), ..info });
    world.packet(worker, &proxy::QueryAnswerPartEx { request_id, answer: b"third", final_info });
}

#[test]
fn every_pair_of_versions_gets_its_answer() {
    for client_version in 0..=3 {
        for worker_version in 0..=3 {
            let mut world = World::new();
            let client = world.client(50, client_version);
            let worker = world.worker(60, worker_version, 1500);
            ask(&mut world, client, client_version);
            let message = world.next_sent(worker).unwrap();
            let hop_id = match (wire::decode(&message).unwrap(), worker_version) {
                (worker::FromProxy::RunQuery(query), 0) => query.request_id,
                (worker::FromProxy::RunQueryEx(query), 1..=3) => query.request_id,
                (other, _) => panic!("version {worker_version} does not know {other:?}"),
            };
            answer(&mut world, worker, hop_id, worker_version);
            let heard: Vec<_> =
                (0..3).map(|_| hear(&world.next_sent(client).unwrap(), client_version)).collect();
            let bodies: Vec<_> = heard.iter().map(|heard| heard.body.as_slice()).collect();
            assert_eq!(bodies, [b"first ".as_slice(), b"second ", b"third"]);
            assert_eq!(heard.iter().map(|heard| heard.head).collect::<Vec<_>>(), [true, false, false]);
            assert_eq!(heard.iter().map(|heard| heard.done).collect::<Vec<_>>(), [None, None, Some(200)]);
            assert_eq!(world.client_tokens().0, 200);
            assert_eq!(world.client_tokens().1, 0, "the hold has ended");
        }
    }
}

#[test]
fn the_worker_gets_the_request_as_it_came() {
    let mut world = World::new();
    let (client, worker) = (world.client(50, 2), world.worker(60, 2, 1500));
    let http = http_request(b"{\"a\" : 1}");
    let query = client::RunQueryEx { timeout: 31.825, enable_debug: Some(true), ..run_query(&http, 1) };
    world.packet(client, &query);
    let message = world.next_sent(worker).unwrap();
    let worker::FromProxy::RunQueryEx(forwarded) = wire::decode(&message).unwrap() else { panic!() };
    assert_eq!(forwarded.query, &http[..]);
    assert_eq!((forwarded.coefficient, forwarded.enable_debug), (1500, Some(true)));
    assert_eq!(forwarded.timeout, 31.825 * 0.95);
    assert_ne!(forwarded.request_id, query.request_id, "clients do not choose names between us and workers");
    let contract = world.snapshot().workers[0].contract.clone();
    assert_eq!(verified(&forwarded.signed_payment, PaymentKind::WorkerPayout, &contract), 0);
}

#[test]
fn the_head_is_stamped_and_otherwise_kept() {
    let mut world = World::new();
    let (client, worker) = (world.client(50, 2), world.worker(60, 2, 1500));
    let http = http_request(b"{}");
    world.packet(client, &run_query(&http, 1));
    let request_id = world.forwarded(worker);
    world.wait(Duration::from_micros(5350));
    let head = http_response(b"");
    world.packet(worker, &proxy::QueryAnswerEx { request_id, answer: &head, final_info: None });
    let message = world.next_sent(client).unwrap();
    let client::FromProxy::QueryAnswerEx(answer) = wire::decode(&message).unwrap() else { panic!() };
    let stamped: http::Response<'_> = wire::decode(answer.answer).unwrap();
    let headers: Vec<_> = stamped
        .headers
        .iter()
        .map(|header| format!("{}: {}", header.name.to_string_lossy(), header.value.to_string_lossy()))
        .collect();
    assert_eq!(
        headers,
        [
            "Content-Type: application/json",
            "X-Cocoon-Proxy-Start: 1795265005.500000",
            "X-Cocoon-Proxy-End: 1795265005.505350",
        ]
    );
}

#[test]
fn a_complete_head_ends_the_request() {
    let mut world = World::new();
    let (client, worker) = (world.client(50, 2), world.worker(60, 2, 1500));
    let http = http_request(b"{}");
    world.packet(client, &run_query(&http, 1));
    let request_id = world.forwarded(worker);
    let head = http_response(b"all");
    let info = Some(final_info(tokens(1, 0, 2, 0)));
    world.packet(worker, &proxy::QueryAnswerEx { request_id, answer: &head, final_info: info });
    let heard = hear(&world.next_sent(client).unwrap(), 2);
    assert_eq!(heard, Heard { head: true, body: b"all".to_vec(), done: Some(3) });
    assert_eq!(world.last_outcome(), Some((Outcome::Success, 0)));
}

#[test]
fn both_sides_hear_what_it_cost_after_the_answer() {
    let mut world = World::new();
    let (client, worker) = (world.client(50, 2), world.worker(60, 2, 1500));
    let snapshot = world.snapshot();
    let (client_contract, worker_contract) =
        (snapshot.clients[0].contract.clone(), snapshot.workers[0].contract.clone());
    let http = http_request(b"{}");
    let mut hops = Vec::new();
    for number in 1..=3 {
        world.packet(client, &run_query(&http, number));
        let hop_id = world.forwarded(worker);
        answer(&mut world, worker, hop_id, 2);
        hops.push(hop_id);
        for _ in 0..3 {
            hear(&world.next_sent(client).unwrap(), 2);
        }
        let total = 200 * i64::from(number);
        // Within a second, the first signature serves; the totals beside it are exact.
        let message = world.next_sent(client).unwrap();
        let client::FromProxy::ClientRequestPayment(payment) = wire::decode(&message).unwrap() else {
            panic!();
        };
        assert_eq!((payment.request_id, payment.request_tokens), ([number; 32], 200));
        assert_eq!((payment.db_tokens, payment.max_tokens), (0, total));
        assert_eq!(verified(&payment.signed_payment, PaymentKind::ClientCharge, &client_contract), 0);

        let message = world.next_sent(worker).unwrap();
        let worker::FromProxy::WorkerRequestPayment(payment) = wire::decode(&message).unwrap() else {
            panic!();
        };
        assert_eq!((payment.request_id, payment.request_tokens), (hop_id, 200));
        assert_eq!((payment.db_tokens, payment.max_tokens), (0, total));
        assert_eq!(payment.request_client_owner.to_str(), Ok(world.snapshot().clients[0].owner.as_str()));
    }
    world.wait(Duration::from_secs(1));
    world.packet(client, &run_query(&http, 4));
    let message = world.next_sent(worker).unwrap();
    let worker::FromProxy::RunQueryEx(query) = wire::decode(&message).unwrap() else { panic!() };
    assert_eq!(verified(&query.signed_payment, PaymentKind::WorkerPayout, &worker_contract), 600);

    let answer = world.query(client, &client::UpdatePaymentStatus {}).unwrap();
    let status: client::PaymentStatus<'_> = wire::decode(&answer).unwrap();
    assert_eq!((status.db_tokens, status.max_tokens), (600, 600));
    assert_eq!(verified(&status.signed_payment, PaymentKind::ClientCharge, &client_contract), 600);
    assert!(hops[0] != hops[1] && hops[1] != hops[2]);
}

#[test]
fn version_3_hears_of_a_payment_once() {
    let mut world = World::new();
    let (client, worker) = (world.client(50, 3), world.worker(60, 3, 1500));
    let http = http_request(b"{}");
    let ask = |world: &mut World, number: u8| {
        world.packet(client, &run_query(&http, number));
        let message = world.next_sent(worker).unwrap();
        let worker::FromProxy::RunQueryEx(query) = wire::decode(&message).unwrap() else { panic!() };
        assert_eq!(query.signed_payment, proxy::SignedPayment::Empty);
        answer(world, worker, query.request_id, 2);
        for _ in 0..3 {
            hear(&world.next_sent(client).unwrap(), 3);
        }
        let (said_to_client, said_to_worker) = (world.next_sent(client), world.next_sent(worker));
        let to_client = said_to_client.map(|message| match wire::decode(&message).unwrap() {
            client::FromProxy::ClientRequestPayment(payment) => (payment.db_tokens, payment.max_tokens),
            other => panic!("unexpected {other:?}"),
        });
        let to_worker = said_to_worker.map(|message| match wire::decode(&message).unwrap() {
            worker::FromProxy::WorkerRequestPayment(payment) => (payment.db_tokens, payment.max_tokens),
            other => panic!("unexpected {other:?}"),
        });
        assert_eq!(to_client, to_worker);
        to_client
    };
    assert_eq!(ask(&mut world, 1), Some((0, 200)), "the first payment of a link");
    assert_eq!(ask(&mut world, 2), None);
    assert_eq!(ask(&mut world, 3), None);
    world.wait(Duration::from_secs(1));
    assert_eq!(ask(&mut world, 4), Some((600, 800)), "one that was signed since");
    assert_eq!(ask(&mut world, 5), None);
    // Another link of the same owner has heard of none of them.
    let other = world.client(50, 3);
    world.packet(other, &run_query(&http, 6));
    let hop_id = world.forwarded(worker);
    answer(&mut world, worker, hop_id, 2);
    let messages: Vec<Bytes> = std::iter::from_fn(|| world.next_sent(other)).collect();
    assert!(matches!(wire::decode(messages.last().unwrap()), Ok(client::FromProxy::ClientRequestPayment(_))));
    assert!(world.next_sent(worker).is_none());
}

#[test]
fn notes_are_for_those_who_ask() {
    let mut world = World::new();
    let (client, worker) = (world.client(50, 2), world.worker(60, 2, 1500));
    let http = http_request(b"{}");
    for (number, wants) in [(1, false), (2, true)] {
        world.packet(client, &client::RunQueryEx { enable_debug: Some(wants), ..run_query(&http, number) });
        let request_id = world.forwarded(worker);
        let info = proxy::QueryFinalInfo {
            worker_debug: Some("{\"type\":\"worker_stats\"}".into()),
            ..final_info(tokens(1, 0, 0, 0))
        };
        let head = http_response(b"");
        world.wait(Duration::from_millis(250));
        world.packet(worker, &proxy::QueryAnswerEx { request_id, answer: &head, final_info: Some(info) });
        let message = world.next_sent(client).unwrap();
        let client::FromProxy::QueryAnswerEx(answer) = wire::decode(&message).unwrap() else { panic!() };
        let info = answer.final_info.unwrap();
        let times = info.times.unwrap();
        assert_eq!((times.worker_start_time, times.worker_end_time), (1.5, 2.5));
        assert!(times.proxy_start_time + 0.25 - times.proxy_end_time < 1e-6);
        let notes = info.debug.map(|notes| {
            (
                notes.worker_debug.to_string_lossy().into_owned(),
                notes.proxy_debug.to_string_lossy().into_owned(),
            )
        });
        let expected = (
            "{\"type\":\"worker_stats\"}".to_owned(),
            "{\"answer_receive_end_at\":1795265006,\"answer_receive_start_at\":1795265006,\
             \"start_time\":1795265005.75,\"type\":\"proxy_stats\"}"
                .to_owned(),
        );
        assert_eq!(notes, wants.then_some(expected));
        world.next_sent(client);
        world.next_sent(worker);
    }
}

#[test]
fn version_0_sees_prices_summed_up() {
    let mut world = World::new();
    let client = world.client(50, 0);
    for (number, coefficient) in [(60, 1500), (61, 500), (62, 2500)] {
        world.worker(number, 2, coefficient);
    }
    let answer = world.query(client, &client::GetWorkerTypes {}).unwrap();
    let listing: client::WorkerTypes<'_> = wire::decode(&answer).unwrap();
    let [model] = listing.types.as_slice() else { panic!("{listing:?}") };
    assert_eq!(model.active_workers, 3);
    let prices = (model.coefficient_min, model.coefficient_bucket50, model.coefficient_max);
    assert_eq!(prices, (500, 1500, 2500));
}
