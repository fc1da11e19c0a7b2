//! When every worker is full: who waits, who is refused with what, and whose turn it is.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use cocoon_proxy::core::{Limits, LinkId, Outcome, PeerFacts};
use wire::{client, http, proxy, stream, worker};

use crate::world::{
    FULL_MODEL, World, compare, final_info, http_request, http_response, owner, root, run_query, terms,
    tokens, worker_params,
};

/// A worker of owner `number` that runs `places` requests at once.
fn worker(world: &mut World, number: u8, coefficient: i32, places: i32) -> LinkId {
    worker_of(world, FULL_MODEL, number, coefficient, places)
}

fn worker_of(world: &mut World, model: &str, number: u8, coefficient: i32, places: i32) -> LinkId {
    let link = world.open_worker(PeerFacts::default());
    let text = owner(number).to_wire_text(false);
    let deployment = Some(worker::Deployment { is_test: true, proxy_cnt: 1, max_active_requests: places });
    let params = worker::Params { deployment, model: model.into(), ..worker_params(&text, 2, coefficient) };
    world.query(link, &worker::ConnectToProxy { params }).unwrap();
    world.query(link, &compare(0, 0, 0)).unwrap();
    world.query(link, &worker::ProxyHandshakeComplete { is_disabled: false }).unwrap();
    link
}

fn ask(world: &mut World, client: LinkId, number: u8) {
    world.packet(client, &run_query(&http_request(b"{}"), number));
}

/// Status and `Retry-After` of the refusals that a client has heard.
fn refusals(world: &mut World, client: LinkId) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    while let Some(message) = world.next_sent(client) {
        let Ok(client::FromProxy::QueryAnswerEx(answer)) = wire::decode(&message) else { continue };
        let response: http::Response<'_> = wire::decode(answer.answer).unwrap();
        let header = response.headers.iter().find(|header| header.name.as_bytes() == b"retry-after");
        if response.status_code != 200 {
            let after = header.map(|header| header.value.to_string_lossy().into_owned());
            found.push((response.status_code, after.unwrap_or_default()));
        }
    }
    found
}

fn answer(world: &mut World, worker: LinkId, request_id: [u8; 32]) {
    let head = http_response(b"{}");
    let final_info = Some(final_info(tokens(1, 0, 1, 0)));
    world.packet(worker, &proxy::QueryAnswerEx { request_id, answer: &head, final_info });
}

/// One worker with one place, a client that sends `greedy` requests, and another one.
fn busy(greedy: u8) -> (World, LinkId, [LinkId; 2]) {
    let mut world = World::new();
    let worker = worker(&mut world, 60, 1000, 1);
    let clients = [world.client(50, 2), world.client(51, 2)];
    (0..greedy).for_each(|number| ask(&mut world, clients[0], number));
    (world, worker, clients)
}

#[test]
fn what_finds_no_place_waits_and_runs_when_one_is_free() {
    let (mut world, worker, [client, _other]) = busy(3);
    assert_eq!(world.core.running_len(), 1);
    for _ in 0..3 {
        let request_id = world.try_forwarded(worker).expect("the next one runs");
        assert_eq!(world.try_forwarded(worker), None, "one at a time");
        answer(&mut world, worker, request_id);
    }
    assert_eq!(refusals(&mut world, client), []);
    assert_eq!((world.reports.len(), world.core.kept_len()), (3, 0));
    assert!(world.reports.iter().all(|report| report.outcome == Outcome::Success));
    assert_eq!(world.core.poll_timeout(), None);
}

#[test]
fn a_full_room_refuses_at_once() {
    let (mut world, _worker, [client, _other]) = busy(8);
    // One runs, four wait. Whoever is alone has nobody to share with.
    assert_eq!(refusals(&mut world, client), vec![(503, "5".to_owned()); 3]);
    assert_eq!(world.last_outcome(), Some((Outcome::Rejected, 651)));
}

#[test]
fn the_links_of_one_owner_are_one_client() {
    let mut world = World::new();
    worker(&mut world, 60, 1000, 1);
    let links = [world.client(50, 2), world.client(50, 2)];
    (0..4).for_each(|number| ask(&mut world, links[0], number));
    (0..2).for_each(|number| ask(&mut world, links[1], number));
    // One runs and four wait, all of one client: there is nobody with whom it did not share.
    assert_eq!(refusals(&mut world, links[1]), [(503, "5".to_owned())]);
    ask(&mut world, links[0], 9);
    assert_eq!(refusals(&mut world, links[0]), [(503, "5".to_owned())]);

    // Nor does a second link add a share: what it asks for counts with the rest.
    let (mut world, _worker, [_greedy, modest]) = busy(4);
    let second = world.client(50, 2);
    ask(&mut world, modest, 1);
    ask(&mut world, second, 9);
    assert_eq!(refusals(&mut world, second), [(429, "1".to_owned())], "four of five run or wait already");
}

#[test]
fn a_share_is_of_the_model_that_is_asked_for() {
    let mut world = World::new();
    worker(&mut world, 60, 1000, 1);
    worker_of(&mut world, "other", 61, 1000, 1);
    let [first, second, third, fourth] = [50, 51, 52, 53].map(|number| world.client(number, 2));
    let newcomer = world.client(54, 2);
    let ask_other = |world: &mut World, client, number| {
        let http = http_request(b"{}");
        let query = client::RunQueryEx { model_name: "other".into(), ..run_query(&http, number) };
        world.packet(client, &query);
    };
    // All of one model, where two others wait too.
    (0..4).for_each(|number| ask_other(&mut world, newcomer, number));
    ask_other(&mut world, first, 100);
    // The other model is full with one of each, and two of the first.
    for (number, client) in [first, first, second, third, fourth].into_iter().enumerate() {
        ask(&mut world, client, u8::try_from(number).unwrap());
    }
    ask(&mut world, newcomer, 50);
    assert_eq!(refusals(&mut world, newcomer), [(503, "5".to_owned())], "it has nothing of this one");
    ask_other(&mut world, newcomer, 51);
    assert_eq!(refusals(&mut world, newcomer), [(429, "1".to_owned())], "and too much of that one");
    ask(&mut world, first, 52);
    assert_eq!(refusals(&mut world, first), [(429, "1".to_owned())]);
    ask(&mut world, second, 53);
    assert_eq!(refusals(&mut world, second), [(503, "5".to_owned())], "less than the first one has");
}

#[test]
fn a_newcomer_takes_the_place_of_the_greedy_and_its_turn() {
    let (mut world, worker, [greedy, modest]) = busy(8);
    refusals(&mut world, greedy);
    ask(&mut world, modest, 1);
    assert_eq!(refusals(&mut world, greedy), [(429, "1".to_owned())], "its last one had to go");
    ask(&mut world, greedy, 100);
    assert_eq!(refusals(&mut world, greedy), [(429, "1".to_owned())]);
    assert_eq!(refusals(&mut world, modest), []);
    // The greedy one waited first; the modest one comes next, and not last.
    for expected in [0, 0, 1] {
        let request_id = world.try_forwarded(worker).unwrap();
        answer(&mut world, worker, request_id);
        let answered = usize::from(world.next_sent(modest).is_some());
        assert_eq!(answered, expected);
    }
}

/// How many of 300 places each of `count` clients gets, the first of which always has more to ask.
fn shares(count: u8, has_dear_worker: bool) -> Vec<usize> {
    let mut world = World::new();
    let worker = worker(&mut world, 60, 1000, 20);
    if has_dear_worker {
        // Nobody pays this one, and it must not confuse anybody's turn.
        crate::fairness::worker(&mut world, 61, 3000, 20);
    }
    let clients: Vec<_> = (0..count).map(|number| world.client(100 + number, 2)).collect();
    let mut served: HashMap<LinkId, usize> = HashMap::new();
    let mut running = VecDeque::new();
    let mut number = 0;
    for _round in 0..300 {
        for (index, client) in clients.iter().enumerate() {
            for _ in 0..if index == 0 { 4 } else { 1 } {
                number = (number + 1) % 250;
                let http = http_request(b"{}");
                let query = client::RunQueryEx { max_coefficient: 2000, ..run_query(&http, number) };
                world.packet(*client, &query);
            }
        }
        while let Some(request_id) = world.try_forwarded(worker) {
            running.push_back(request_id);
        }
        answer(&mut world, worker, running.pop_front().unwrap());
        for client in &clients {
            while let Some(message) = world.next_sent(*client) {
                let Ok(client::FromProxy::QueryAnswerEx(answer)) = wire::decode(&message) else { continue };
                let response: http::Response<'_> = wire::decode(answer.answer).unwrap();
                *served.entry(*client).or_default() += usize::from(response.status_code == 200);
            }
        }
    }
    clients.iter().map(|client| served.get(client).copied().unwrap_or(0)).collect()
}

#[test]
fn a_thousand_requests_of_one_client_keep_nobody_out() {
    for (count, has_dear_worker) in [(2, false), (3, true), (4, false), (5, false), (5, true)] {
        let shares = shares(count, has_dear_worker);
        let equal = 300 / usize::from(count);
        // Before the first turn, the greedy one may have taken all 20 places.
        let fair = equal.saturating_sub(25)..=equal + 25;
        assert!(shares.iter().all(|share| fair.contains(share)), "{shares:?} of 300");
    }
}

#[test]
fn waiting_is_short() {
    let (mut world, _worker, [greedy, modest]) = busy(3);
    ask(&mut world, modest, 1);
    world.wait(Duration::from_millis(4999));
    assert_eq!((refusals(&mut world, greedy), refusals(&mut world, modest)), (vec![], vec![]));
    world.wait(Duration::from_millis(1));
    // Three of four are more than a half, one is less.
    assert_eq!(refusals(&mut world, greedy)[0], (429, "1".to_owned()));
    assert_eq!(refusals(&mut world, modest), [(503, "5".to_owned())]);

    let mut world = World::new();
    worker(&mut world, 60, 1000, 1);
    let client = world.client(50, 2);
    ask(&mut world, client, 1);
    let http = http_request(b"{}");
    world.packet(client, &client::RunQueryEx { timeout: 1.0, ..run_query(&http, 2) });
    world.wait(Duration::from_millis(500));
    assert_eq!(refusals(&mut world, client).len(), 1, "half of its time is over");
}

#[test]
fn a_worker_that_joins_or_becomes_cheaper_serves_who_waits() {
    let (mut world, _worker, [_greedy, modest]) = busy(1);
    ask(&mut world, modest, 1);
    ask(&mut world, modest, 2);
    let joining = worker(&mut world, 61, 1000, 1);
    assert!(world.try_forwarded(joining).is_some());
    let dear = worker(&mut world, 62, 5000, 1);
    assert_eq!(world.try_forwarded(dear), None, "nobody here pays that");
    world.packet(dear, &worker::NewCoefficient { new_coefficient: 4000 });
    assert!(world.try_forwarded(dear).is_some());
}

#[test]
fn a_place_that_is_too_dear_for_one_goes_to_the_next() {
    let (mut world, _cheap, [poor, rich]) = busy(1);
    let dear = worker(&mut world, 61, 3000, 1);
    ask(&mut world, rich, 1);
    let request_id = world.try_forwarded(dear).expect("it is dear and free");
    let http = http_request(b"{}");
    world.packet(poor, &client::RunQueryEx { max_coefficient: 1000, ..run_query(&http, 2) });
    ask(&mut world, rich, 2);
    answer(&mut world, dear, request_id);
    assert!(world.try_forwarded(dear).is_some());
    assert_eq!(refusals(&mut world, poor), [], "it waits on");
}

#[test]
fn who_leaves_or_gives_up_waits_no_more() {
    let (mut world, worker, [greedy, modest]) = busy(1);
    ask(&mut world, modest, 1);
    let kept = world.core.kept_len();
    world.lose(modest);
    assert!(world.core.kept_len() < kept);
    assert_eq!(world.last_outcome(), Some((Outcome::Cancelled, 653)));

    let streaming = world.client(52, 3);
    ask(&mut world, streaming, 1);
    world.packet(streaming, &stream::Cancel { request_id: [1; 32] });
    let first = world.try_forwarded(worker).unwrap();
    answer(&mut world, worker, first);
    assert_eq!(world.try_forwarded(worker), None, "nobody is left");
    assert_eq!(world.core.kept_len(), 0);
    assert_eq!(refusals(&mut world, greedy), []);
}

#[test]
fn a_proxy_that_stops_sends_those_who_wait_to_others() {
    for stop in [
        (|world: &mut World| world.core.begin_drain()) as fn(&mut World),
        |world| world.core.set_enabled(false),
        |world| world.core.shut_down(world.now),
    ] {
        let (mut world, _worker, [_greedy, modest]) = busy(1);
        ask(&mut world, modest, 1);
        stop(&mut world);
        world.collect();
        assert_eq!(refusals(&mut world, modest), [(503, "2".to_owned())]);
    }
}

#[test]
fn nobody_who_waits_runs_while_charges_cannot_be_recorded() {
    let (mut world, worker, [client, _other]) = busy(2);
    world.core.journal_stuck();
    let request_id = world.try_forwarded(worker).unwrap();
    answer(&mut world, worker, request_id);
    assert_eq!(world.try_forwarded(worker), None);
    world.wait(Duration::from_secs(5));
    assert_eq!(refusals(&mut world, client), [(503, "5".to_owned())]);
}

#[test]
fn without_room_for_its_bytes_a_request_does_not_wait() {
    let mut world = World::with(terms(root(), false), Limits { kept_len_max: 0, ..Limits::default() });
    worker(&mut world, 60, 1000, 1);
    let client = world.client(50, 2);
    ask(&mut world, client, 1);
    ask(&mut world, client, 2);
    assert_eq!(refusals(&mut world, client), [(503, "5".to_owned())]);
}
