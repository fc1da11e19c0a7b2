//! Which worker gets a request.

use std::time::Duration;

use cocoon_proxy::core::LinkId;
use wire::{client, http, proxy};

use crate::world::{World, final_info, http_request, run_query, tokens};

fn with_affinity(value: &str) -> bytes::Bytes {
    wire::encode(&http::Request {
        method: "POST".into(),
        url: "/v1/chat/completions".into(),
        http_version: "HTTP/1.1".into(),
        headers: vec![http::Header { name: "x-cocoon-affinity".into(), value: value.into() }],
        payload: b"{}",
    })
}

fn answer(world: &mut World, worker: LinkId, request_id: [u8; 32], status_code: i32) {
    let head = wire::encode(&http::Response {
        http_version: "HTTP/1.1".into(),
        status_code,
        reason: "".into(),
        headers: vec![],
        payload: b"{}",
    });
    let info = Some(final_info(tokens(1, 0, 1, 0)));
    world.packet(worker, &proxy::QueryAnswerEx { request_id, answer: &head, final_info: info });
}

/// The worker that the next request goes to, and its name there.
fn next(world: &mut World, client: LinkId, workers: &[LinkId], query: &[u8]) -> (LinkId, [u8; 32]) {
    let number = u8::try_from(world.reports.len() % 250).unwrap();
    world.packet(client, &run_query(query, number));
    let forwarded = workers.iter().find_map(|link| Some((*link, world.try_forwarded(*link)?)));
    forwarded.expect("the request went to a worker")
}

#[test]
fn requests_of_one_affinity_meet_at_one_worker() {
    let mut world = World::new();
    let client = world.client(50, 2);
    let workers: Vec<_> = (60..70).map(|owner| world.worker(owner, 2, 1000)).collect();
    let mut run = |value: &str| {
        let (worker, hop_id) = next(&mut world, client, &workers, &with_affinity(value));
        answer(&mut world, worker, hop_id, 200);
        worker
    };
    let homes: Vec<_> = (0..8).map(|_| run("00112233445566FF")).collect();
    assert!(homes.iter().all(|home| *home == homes[0]), "{homes:?}");
    // What is no hash means nothing: such requests take turns.
    for value in ["0011", "", "no hash at all !", "00112233445566FF00"] {
        let spread: std::collections::HashSet<_> = (0..8).map(|_| run(value)).collect();
        assert!(spread.len() >= 6, "{value}: {spread:?}");
    }
}

#[test]
fn an_engine_that_fails_costs_its_worker_requests_and_a_refused_request_does_not() {
    for (status, is_avoided) in [(500, true), (400, false), (200, false)] {
        let mut world = World::new();
        let client = world.client(50, 2);
        let workers = [world.worker(60, 2, 1000), world.worker(61, 2, 1000)];
        let http = http_request(b"{}");
        let (first, hop_id) = next(&mut world, client, &workers, &http);
        answer(&mut world, first, hop_id, status);
        let mut returns = 0;
        for _ in 0..10 {
            let (worker, hop_id) = next(&mut world, client, &workers, &http);
            returns += usize::from(worker == first);
            answer(&mut world, worker, hop_id, 200);
        }
        assert_eq!(returns == 0, is_avoided, "status {status}: {returns} of 10");
    }
}

#[test]
fn a_worker_lost_with_requests_comes_back_last() {
    let mut world = World::new();
    let client = world.client(50, 2);
    let workers = [world.worker(60, 2, 1000), world.worker(61, 2, 1000)];
    let http = http_request(b"{}");
    let (lost, _hop_id) = next(&mut world, client, &workers, &http);
    world.lose(lost);
    let owner = if lost == workers[0] { 60 } else { 61 };
    let other = if lost == workers[0] { workers[1] } else { workers[0] };
    let back = world.worker(owner, 2, 500);
    for _ in 0..10 {
        let (worker, hop_id) = next(&mut world, client, &[back, other], &http);
        assert_eq!(worker, other, "a lower price does not help");
        answer(&mut world, worker, hop_id, 200);
    }
    world.wait(Duration::from_secs(2));
    let (worker, _hop_id) = next(&mut world, client, &[back, other], &http);
    assert_eq!(worker, back, "it is tried again");
}

#[test]
fn a_list_is_made_anew_as_soon_as_its_length_allows() {
    let mut world = World::new();
    let client = world.client(50, 2);
    let listed = |world: &mut World| {
        let answer = world.query(client, &client::GetWorkerTypesV2 {}).unwrap();
        let listing: client::WorkerTypesV2<'_> = wire::decode(&answer).unwrap();
        listing.types.iter().map(|model| model.workers.len()).sum::<usize>()
    };
    assert_eq!(listed(&mut world), 0);
    world.worker(60, 2, 1000);
    assert_eq!(listed(&mut world), 1, "an empty list is never old");
    world.worker(61, 2, 1000);
    assert_eq!(listed(&mut world), 1);
    world.wait(Duration::from_millis(2));
    assert_eq!(listed(&mut world), 2, "a list of two entries is two milliseconds old");
}
