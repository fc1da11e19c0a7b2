//! Answers to clients of version 3: what a slow reader does not take waits with its own engine, and costs nobody else.

use bytes::Bytes;
use cocoon_proxy::core::{LinkId, Outcome};
use transport::flow::{PART_LEN_MAX, WINDOW, part_cost};
use wire::{client, proxy, stream, worker};

use crate::world::{World, final_info, http_request, http_response, run_query, tokens};

struct Running {
    world: World,
    client: LinkId,
    worker: LinkId,
    hop_id: [u8; 32],
}

/// One request whose head has reached the client.
fn running(client_version: i32, worker_version: i32) -> Running {
    let mut world = World::new();
    let (client, worker) = (world.client(50, client_version), world.worker(60, worker_version, 1000));
    let http = http_request(b"{}");
    world.packet(client, &run_query(&http, 1));
    let hop_id = world.forwarded(worker);
    let answer = http_response(b"");
    world.packet(worker, &proxy::QueryAnswerEx { request_id: hop_id, answer: &answer, final_info: None });
    world.next_sent(client).expect("the head has room");
    Running { world, client, worker, hop_id }
}

impl Running {
    fn part(&mut self, answer: &[u8], charge: Option<i64>) {
        let final_info = charge.map(|charge| final_info(tokens(0, 0, charge, 0)));
        let part = proxy::QueryAnswerPartEx { request_id: self.hop_id, answer, final_info };
        self.world.packet(self.worker, &part);
    }

    /// Parts of full length until the worker's window is used up. Returns how many.
    fn fill(&mut self, first: u8) -> u8 {
        let head_cost = part_cost(http_response(b"").len());
        let count = (WINDOW - head_cost) / part_cost(PART_LEN_MAX);
        let count = u8::try_from(count).unwrap();
        for number in 0..count {
            self.part(&[first + number; PART_LEN_MAX], None);
        }
        count
    }

    fn credit(&mut self, len: i32) {
        self.world.packet(self.client, &stream::Credit { request_id: [1; 32], len });
    }

    /// The parts that have reached the client: the first byte of each, and whether it was the last.
    fn received(&mut self) -> Vec<(u8, bool)> {
        let mut received = Vec::new();
        while let Some(message) = self.world.next_sent(self.client) {
            match wire::decode(&message).unwrap() {
                client::FromProxy::QueryAnswerPartEx(part) => {
                    assert!(part.answer.len() <= PART_LEN_MAX);
                    received.push((part.answer.first().copied().unwrap_or(0), part.final_info.is_some()));
                }
                client::FromProxy::ClientRequestPayment(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
        received
    }

    /// What the worker was granted.
    fn granted(&mut self) -> Vec<i32> {
        std::iter::from_fn(|| self.world.next_sent(self.worker)).filter_map(|it| granted(&it)).collect()
    }
}

fn granted(message: &Bytes) -> Option<i32> {
    match wire::decode(message).unwrap() {
        worker::FromProxy::Credit(credit) => Some(credit.len),
        worker::FromProxy::WorkerRequestPayment(_) | worker::FromProxy::Cancel(_) => None,
        other => panic!("unexpected {other:?}"),
    }
}

#[test]
fn short_answers_need_no_credit() {
    let mut running = running(3, 3);
    for _ in 0..64 {
        running.part(&[b'x'; 250], None);
    }
    running.part(b"x", Some(5));
    assert_eq!(running.received().len(), 65);
    assert!(running.granted().is_empty());
}

#[test]
fn what_a_slow_reader_does_not_take_is_held_and_its_worker_waits() {
    let mut running = running(3, 3);
    let first = running.fill(0);
    assert_eq!(running.received().len(), usize::from(first), "all of it has room at the client");
    let granted = running.granted();
    assert_eq!(granted.len(), 1, "it was passed on, so the worker may send more");
    // The client's window is used up; another window of the worker's is held here.
    let mut number = first;
    let mut left = u32::try_from(granted[0]).unwrap();
    while left >= part_cost(PART_LEN_MAX) {
        running.part(&[number; PART_LEN_MAX], None);
        (number, left) = (number + 1, left - part_cost(PART_LEN_MAX));
    }
    assert!(running.received().is_empty());
    assert!(running.granted().is_empty(), "nothing was passed on");
    running.credit(i32::try_from(part_cost(PART_LEN_MAX) * 2).unwrap());
    assert_eq!(running.received(), [(first, false), (first + 1, false)]);
    running.credit(i32::try_from(part_cost(PART_LEN_MAX) * 4).unwrap());
    let rest: Vec<u8> = running.received().into_iter().map(|(number, _)| number).collect();
    assert_eq!(rest, (first + 2..number).collect::<Vec<_>>());
}

#[test]
fn a_slow_reader_costs_its_neighbours_on_the_link_nothing() {
    let mut running = running(3, 3);
    running.fill(0);
    running.received();
    running.granted();
    running.part(&[99; PART_LEN_MAX], None);
    let http = http_request(b"{}");
    running.world.packet(running.client, &run_query(&http, 2));
    let hop_id = running.world.forwarded(running.worker);
    let answer = http_response(b"whole");
    let final_info = Some(final_info(tokens(0, 0, 3, 0)));
    running
        .world
        .packet(running.worker, &proxy::QueryAnswerEx { request_id: hop_id, answer: &answer, final_info });
    let message = running.world.next_sent(running.client).unwrap();
    let client::FromProxy::QueryAnswerEx(head) = wire::decode(&message).unwrap() else { panic!("no head") };
    assert_eq!((head.request_id, head.final_info.is_some()), ([2; 32], true));
}

#[test]
fn an_answer_is_paid_when_it_is_complete_and_delivered_when_there_is_room() {
    let mut running = running(3, 3);
    let count = running.fill(0);
    running.received();
    running.part(&[100; PART_LEN_MAX], None);
    running.part(b"e", Some(7));
    assert_eq!(running.world.last_outcome(), Some((Outcome::Success, 0)));
    assert_eq!((running.world.client_tokens().0, running.world.client_tokens().1), (7, 0));
    assert!(running.received().is_empty());
    assert_eq!(running.world.core.running_len(), 1, "a shutdown waits for it");
    // Its name is not free yet.
    let http = http_request(b"{}");
    running.world.packet(running.client, &run_query(&http, 1));
    assert_eq!(running.world.last_outcome(), Some((Outcome::Rejected, 621)));
    running.world.next_sent(running.client).expect("the refusal");
    let taken = u32::from(count) * part_cost(PART_LEN_MAX);
    running.credit(i32::try_from(taken).unwrap());
    assert_eq!(running.received(), [(100, false), (b'e', true)]);
    assert_eq!(running.world.core.running_len(), 0);
}

#[test]
fn a_complete_answer_that_nobody_takes_goes_with_its_client_or_its_cancel() {
    for is_lost in [false, true] {
        let mut running = running(3, 3);
        running.fill(0);
        running.part(&[100; PART_LEN_MAX], Some(7));
        assert_eq!(running.world.core.running_len(), 1);
        if is_lost {
            running.world.lose(running.client);
        } else {
            running.world.packet(running.client, &stream::Cancel { request_id: [1; 32] });
        }
        assert_eq!(running.world.core.running_len(), 0);
        assert_eq!(running.world.client_tokens().0, 7);
    }
}

#[test]
fn a_worker_that_overruns_its_window_loses_its_request_and_not_its_link() {
    let mut running = running(2, 3);
    // The client takes everything at once, so the window is that of one grant.
    let mut sent = 0;
    let mut exhausted = running_exhausted();
    while exhausted.world.reports.is_empty() {
        exhausted.part(&[0; PART_LEN_MAX], None);
        sent += 1;
        assert!(sent < 100, "no window ever ends");
    }
    assert_eq!(exhausted.world.last_outcome(), Some((Outcome::WorkerMisbehaved, 621)));
    assert_eq!(exhausted.world.closed(exhausted.worker), None);
    assert_eq!(exhausted.world.closed(exhausted.client), None);
    // A worker whose parts are passed on is granted more in time.
    for _ in 0..1000 {
        running.part(&[0; PART_LEN_MAX], None);
    }
    assert_eq!(running.world.core.running_len(), 1);
}

/// The client has taken all it takes.
fn running_exhausted() -> Running {
    let mut running = running(3, 3);
    running.fill(0);
    running
}

#[test]
fn senseless_credit_ends_the_clients_link() {
    for len in [0, -1, i32::MIN, i32::MAX] {
        let mut running = running(3, 3);
        running.credit(len);
        assert_eq!(
            running.world.closed(running.client),
            Some("a client grants what makes no sense"),
            "{len}"
        );
        assert_eq!(running.world.closed(running.worker), None);
    }
    // For an unknown request it is late, not senseless.
    let mut running = running(3, 3);
    running.world.packet(running.client, &stream::Credit { request_id: [9; 32], len: -1 });
    assert_eq!(running.world.closed(running.client), None);
}

#[test]
fn long_pieces_of_older_workers_are_cut_and_held_within_bounds() {
    let mut running = running(3, 2);
    let long: Vec<u8> = (0..5_u8).flat_map(|number| [number; PART_LEN_MAX]).collect();
    running.part(&long, None);
    let numbers: Vec<u8> = running.received().into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    // This worker cannot be slowed down: beyond a bound its request ends, and the link stays.
    let mut sent = 0;
    while running.world.core.running_len() == 1 && running.world.reports.is_empty() {
        running.part(&[9; 1 << 20], None);
        sent += 1;
        assert!(sent <= 6, "nothing bounds what is held");
    }
    assert_eq!(running.world.last_outcome(), Some((Outcome::Cancelled, 653)));
    assert_eq!(running.world.closed(running.client), None);
    let mut last = None;
    while let Some(message) = running.world.next_sent(running.client) {
        if let client::FromProxy::QueryAnswerErrorEx(error) = wire::decode(&message).unwrap() {
            last = Some(error.error_code);
        }
    }
    assert_eq!(last, Some(653));
}

#[test]
fn a_long_complete_answer_of_an_older_worker_arrives_whole() {
    let mut world = World::new();
    let (client, worker) = (world.client(50, 3), world.worker(60, 2, 1000));
    let http = http_request(b"{}");
    world.packet(client, &run_query(&http, 1));
    let request_id = world.forwarded(worker);
    let body: Vec<u8> = (0..50_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let answer = http_response(&body);
    let final_info = Some(final_info(tokens(0, 0, 3, 0)));
    world.packet(worker, &proxy::QueryAnswerEx { request_id, answer: &answer, final_info });
    let mut whole = Vec::new();
    let mut is_done = false;
    while let Some(message) = world.next_sent(client) {
        match wire::decode(&message).unwrap() {
            client::FromProxy::QueryAnswerEx(head) => assert!(head.final_info.is_none()),
            client::FromProxy::QueryAnswerPartEx(part) => {
                whole.extend_from_slice(part.answer);
                is_done = part.final_info.is_some();
            }
            _ => {}
        }
    }
    assert!(is_done && whole == body);
}

#[test]
fn a_client_whose_network_is_slow_gets_what_its_link_takes_and_keeps_its_link() {
    let mut world = World::new();
    let (client, worker) = (world.client(50, 3), world.worker(60, 3, 1000));
    let (http, answer) = (http_request(b"{}"), http_response(b""));
    let mut hops = Vec::new();
    for number in 0..20 {
        world.packet(client, &run_query(&http, number));
        let request_id = world.forwarded(worker);
        world.packet(worker, &proxy::QueryAnswerEx { request_id, answer: &answer, final_info: None });
        hops.push(request_id);
    }
    world.queued_len = 2 << 20;
    for round in 0..6 {
        for request_id in &hops {
            let part = proxy::QueryAnswerPartEx {
                request_id: *request_id,
                answer: &[round; PART_LEN_MAX],
                final_info: None,
            };
            world.packet(worker, &part);
        }
    }
    let sent_len = |world: &mut World| -> usize {
        std::iter::from_fn(|| world.next_sent(client)).map(|message| message.len()).sum()
    };
    let first = sent_len(&mut world);
    assert!(first < 600 << 10, "{first} bytes were sent on a link that takes nothing");
    assert_eq!(world.awaited, [client]);
    // Each time there is room, so much more goes out, until all is there.
    let mut total = first;
    while let Some(link) = world.awaited.pop() {
        world.core.has_room(link);
        world.collect();
        let more = sent_len(&mut world);
        assert!(more < 600 << 10);
        total += more;
    }
    assert!(total > 20 * 6 * PART_LEN_MAX, "{total}");
    assert_eq!(world.closed(client), None);
}
