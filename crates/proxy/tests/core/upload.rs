//! Long queries of version 3: they come in parts, and nobody waits for the end of them but their own worker.

use std::time::Duration;

use bytes::Bytes;
use cocoon_proxy::core::{Limits, LinkId, Outcome};
use transport::flow::{PART_LEN_MAX, WINDOW, part_cost};
use wire::{client, http, proxy, stream, worker};

use crate::world::{World, final_info, http_request, http_response, root, run_query, terms, tokens};

struct Uploading {
    world: World,
    client: LinkId,
    worker: LinkId,
    query: Bytes,
    sent: usize,
}

/// A request of 200,000 bytes whose first part was sent.
fn uploading_in(mut world: World, worker_version: i32) -> Uploading {
    let (client, worker) = (world.client(50, 3), world.worker(60, worker_version, 1000));
    let body: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();
    let mut uploading = Uploading { world, client, worker, query: http_request(&body), sent: 0 };
    uploading.begin(uploading.query.len());
    uploading
}

fn uploading(worker_version: i32) -> Uploading {
    uploading_in(World::new(), worker_version)
}

impl Uploading {
    fn begin(&mut self, query_len: usize) {
        let run = wire::encode(&run_query(&self.query[..PART_LEN_MAX], 1));
        let query_len = i32::try_from(query_len).unwrap();
        self.world.packet(self.client, &stream::Begin { query_len, run: &run });
        self.sent = PART_LEN_MAX;
    }

    /// Sends the next part.
    fn part(&mut self) {
        let end = self.query.len().min(self.sent + PART_LEN_MAX);
        let is_last = end == self.query.len();
        let data = &self.query[self.sent..end];
        self.world.packet(self.client, &stream::BodyPart { request_id: [1; 32], data, is_last });
        self.sent = end;
    }

    /// Sends what a window holds.
    fn fill(&mut self) {
        for _ in 1..WINDOW / part_cost(PART_LEN_MAX) {
            self.part();
        }
    }

    /// What the client was granted; nothing else came.
    fn granted(&mut self) -> Option<i32> {
        let message = self.world.next_sent(self.client)?;
        match wire::decode(&message).unwrap() {
            client::FromProxy::Credit(credit) => Some(credit.len),
            other => panic!("unexpected {other:?}"),
        }
    }

    /// The name and the first bytes of the query that the worker got in parts.
    fn begun(&mut self) -> ([u8; 32], usize, Vec<u8>) {
        let message = self.world.next_sent(self.worker).expect("the worker hears at once");
        let worker::FromProxy::Begin(begin) = wire::decode(&message).unwrap() else { panic!("no beginning") };
        let run: wire::proxy::RunQueryEx<'_> = wire::decode(begin.run).unwrap();
        (run.request_id, usize::try_from(begin.query_len).unwrap(), run.query.to_vec())
    }

    /// The parts that the worker got, and whether the last one was among them.
    fn parts(&mut self) -> (Vec<u8>, bool) {
        let (mut bytes, mut is_complete) = (Vec::new(), false);
        while let Some(message) = self.world.next_sent(self.worker) {
            let worker::FromProxy::BodyPart(part) = wire::decode(&message).unwrap() else {
                panic!("no part")
            };
            assert!(!is_complete && part.data.len() <= PART_LEN_MAX);
            bytes.extend_from_slice(part.data);
            is_complete = part.is_last;
        }
        (bytes, is_complete)
    }
}

#[test]
fn parts_pass_through_as_the_worker_has_room() {
    let mut uploading = uploading(3);
    let (hop_id, query_len, mut got) = uploading.begun();
    assert_eq!((query_len, got.len()), (uploading.query.len(), PART_LEN_MAX));
    uploading.fill();
    got.extend(uploading.parts().0);
    assert_eq!(got.len(), uploading.sent, "what came went on at once");
    assert!(uploading.granted().is_some());
    // The worker's window is used up: the rest waits here, and the client is not let more than that.
    uploading.part();
    uploading.part();
    assert!(uploading.parts().0.is_empty());
    assert_eq!(uploading.granted(), None);
    let len = i32::try_from(part_cost(PART_LEN_MAX) * 2).unwrap();
    uploading.world.packet(uploading.worker, &stream::Credit { request_id: hop_id, len });
    got.extend(uploading.parts().0);
    assert_eq!(got.len(), uploading.sent);
    uploading.granted();
    uploading.world.packet(uploading.worker, &stream::Credit { request_id: hop_id, len: len * 2 });
    while uploading.sent < uploading.query.len() {
        uploading.part();
    }
    let (rest, is_complete) = uploading.parts();
    got.extend(rest);
    assert!(is_complete && got == uploading.query);
}

#[test]
fn a_small_request_passes_between_the_parts_of_a_long_one() {
    let mut uploading = uploading(3);
    uploading.begun();
    uploading.part();
    let small = http_request(b"{}");
    uploading.world.packet(uploading.client, &run_query(&small, 2));
    uploading.part();
    let order: Vec<bool> = std::iter::from_fn(|| uploading.world.next_sent(uploading.worker))
        .map(|message| matches!(wire::decode(&message), Ok(worker::FromProxy::RunQueryEx(_))))
        .collect();
    assert_eq!(order, [false, true, false]);
}

#[test]
fn the_hold_is_for_the_whole_query() {
    let mut whole = World::new();
    let (client, _worker) = (whole.client(50, 3), whole.worker(60, 3, 1000));
    let uploading = uploading(3);
    whole.packet(client, &run_query(&uploading.query, 1));
    assert_eq!(whole.client_tokens(), uploading.world.client_tokens());
}

#[test]
fn an_older_worker_gets_the_query_whole() {
    for version in 1..=2 {
        let mut uploading = uploading(version);
        while uploading.sent < uploading.query.len() {
            assert_eq!(uploading.world.next_sent(uploading.worker), None);
            uploading.part();
        }
        assert!(uploading.granted().is_some(), "what is collected makes room");
        let message = uploading.world.next_sent(uploading.worker).unwrap();
        let worker::FromProxy::RunQueryEx(run) = wire::decode(&message).unwrap() else {
            panic!("no request")
        };
        assert!(run.query == uploading.query);
    }
}

#[test]
fn what_is_collected_for_older_workers_has_a_budget() {
    let limits = Limits { collected_len_max: 300_000, ..Limits::default() };
    let mut uploading = uploading_in(World::with(terms(root(), false), limits), 2);
    let run = wire::encode(&run_query(&uploading.query[..PART_LEN_MAX], 2));
    let query_len = i32::try_from(uploading.query.len()).unwrap();
    uploading.world.packet(uploading.client, &stream::Begin { query_len, run: &run });
    assert_eq!(uploading.world.last_outcome(), Some((Outcome::Rejected, 651)));
    uploading.world.next_sent(uploading.client).expect("the refusal");
    // Parts that were under way are late, and no fault.
    for _ in 0..3 {
        let part = stream::BodyPart { request_id: [2; 32], data: &[0; PART_LEN_MAX - 512], is_last: false };
        uploading.world.packet(uploading.client, &part);
    }
    assert_eq!(uploading.world.closed(uploading.client), None);
    // The budget is free again once the first one has gone.
    uploading.world.packet(uploading.client, &stream::Cancel { request_id: [1; 32] });
    assert_eq!(uploading.world.last_outcome(), Some((Outcome::Cancelled, 653)));
    let run = wire::encode(&run_query(&uploading.query[..PART_LEN_MAX], 3));
    uploading.world.packet(uploading.client, &stream::Begin { query_len, run: &run });
    assert_eq!(uploading.world.core.running_len(), 1);
    uploading.world.lose(uploading.client);
    assert_eq!(uploading.world.core.running_len(), 0, "the worker never heard of it");
}

#[test]
fn a_cancel_within_a_query_reaches_the_worker() {
    let mut uploading = uploading(3);
    let (hop_id, ..) = uploading.begun();
    uploading.world.packet(uploading.client, &stream::Cancel { request_id: [1; 32] });
    let message = uploading.world.next_sent(uploading.worker).unwrap();
    let worker::FromProxy::Cancel(cancel) = wire::decode(&message).unwrap() else { panic!("no cancel") };
    assert_eq!(cancel.request_id, hop_id);
}

/// What a client does that it must not.
type Misdeed<'a> = &'a dyn Fn(&mut Uploading);

#[test]
fn parts_that_break_the_rules_end_the_clients_link() {
    let part = |len: usize, is_last| {
        move |uploading: &mut Uploading| {
            let part = stream::BodyPart { request_id: [1; 32], data: &vec![0; len], is_last };
            uploading.world.packet(uploading.client, &part);
        }
    };
    let unknown = |uploading: &mut Uploading| {
        let part = stream::BodyPart { request_id: [9; 32], data: b"x", is_last: false };
        uploading.world.packet(uploading.client, &part);
    };
    let short_of_its_end = part(100, true);
    let too_long = part(120_000, false);
    let overrun = |uploading: &mut Uploading| {
        // The worker grants nothing, so the proxy grants once.
        for _ in 0..12 {
            uploading.part();
        }
    };
    let breaches: [(Misdeed<'_>, &str); 4] = [
        (&unknown, "parts of a query that was never begun"),
        (&short_of_its_end, "the parts of a query do not add up to its length"),
        (&too_long, "more of a query than was let"),
        (&overrun, ""),
    ];
    for (breach, reason) in breaches {
        let mut uploading = uploading(3);
        breach(&mut uploading);
        let closed = uploading.world.closed(uploading.client);
        if !reason.is_empty() {
            assert_eq!(closed, Some(reason));
        }
        assert!(closed.is_some());
        assert_eq!(uploading.world.closed(uploading.worker), None);
    }
}

#[test]
fn lengths_that_make_no_sense_end_the_clients_link() {
    for query_len in [-1, 0, 1, i32::try_from(PART_LEN_MAX).unwrap()] {
        let mut world = World::new();
        let (client, _worker) = (world.client(50, 3), world.worker(60, 3, 1000));
        let query = http_request(&[b'x'; 50_000]);
        let run = wire::encode(&run_query(&query[..PART_LEN_MAX], 1));
        world.packet(client, &stream::Begin { query_len, run: &run });
        assert!(world.closed(client).is_some(), "{query_len}");
        assert_eq!(world.core.running_len(), 0);
    }
    // A length that is only too large, or not that of the request inside, is refused by name.
    for wrong_by in [1_i32, i32::MAX - 50_200] {
        let mut uploading = Uploading {
            world: World::new(),
            client: LinkId(0),
            worker: LinkId(0),
            query: http_request(&[b'x'; 50_000]),
            sent: 0,
        };
        (uploading.client, uploading.worker) =
            (uploading.world.client(50, 3), uploading.world.worker(60, 3, 1000));
        let len = uploading.query.len() + usize::try_from(wrong_by).unwrap();
        uploading.begin(len);
        assert_eq!(uploading.world.last_outcome(), Some((Outcome::Rejected, 621)));
        assert_eq!(uploading.world.closed(uploading.client), None);
    }
}

#[test]
fn a_worker_that_grants_nonsense_loses_the_request() {
    for len in [0, -1, i32::MAX] {
        let mut uploading = uploading(3);
        let (request_id, ..) = uploading.begun();
        uploading.world.packet(uploading.worker, &stream::Credit { request_id, len });
        assert_eq!(uploading.world.last_outcome(), Some((Outcome::WorkerMisbehaved, 621)));
        assert_eq!(uploading.world.closed(uploading.worker), None);
        // What the client has sent meanwhile is late.
        let refusal = uploading.world.next_sent(uploading.client).unwrap();
        let client::FromProxy::QueryAnswerEx(answer) = wire::decode(&refusal).unwrap() else { panic!() };
        assert!(wire::decode::<http::Response<'_>>(answer.answer).unwrap().status_code >= 400);
        uploading.part();
        assert_eq!(uploading.world.closed(uploading.client), None);
    }
}

/// A long query whose first part came while its only worker had all 60 places taken; their names at the worker.
fn waiting_in(mut world: World, worker_version: i32) -> (Uploading, Vec<[u8; 32]>) {
    let (other, worker) = (world.client(51, 3), world.worker(60, worker_version, 1000));
    let client = world.client(50, 3);
    let short = http_request(b"{}");
    let running = (0..60).map(|number| {
        world.packet(other, &run_query(&short, number));
        world.forwarded(worker)
    });
    let running = running.collect();
    let query = http_request(&(0..200_000_u32).map(|number| (number % 251) as u8).collect::<Vec<u8>>());
    let mut uploading = Uploading { world, client, worker, query, sent: 0 };
    uploading.begin(uploading.query.len());
    (uploading, running)
}

impl Uploading {
    /// The worker answers one of its requests.
    fn answer(&mut self, request_id: [u8; 32]) {
        let head = http_response(b"{}");
        let final_info = Some(final_info(tokens(1, 0, 1, 0)));
        self.world.packet(self.worker, &proxy::QueryAnswerEx { request_id, answer: &head, final_info });
    }

    /// What a worker got of a query in parts, beginning with its start: its name, the bytes, whether they are all.
    fn taken_by(&mut self, worker: LinkId) -> ([u8; 32], Vec<u8>, bool) {
        let (mut name, mut bytes, mut is_complete) = ([0; 32], Vec::new(), false);
        while let Some(message) = self.world.next_sent(worker) {
            match wire::decode(&message).unwrap() {
                worker::FromProxy::Begin(begin) => {
                    let run: proxy::RunQueryEx<'_> = wire::decode(begin.run).unwrap();
                    assert!(bytes.is_empty() && begin.query_len as usize == self.query.len());
                    (name, bytes) = (run.request_id, run.query.to_vec());
                }
                worker::FromProxy::BodyPart(part) => {
                    assert!(part.request_id == name && part.data.len() <= PART_LEN_MAX && !is_complete);
                    bytes.extend_from_slice(part.data);
                    is_complete = part.is_last;
                }
                _payment => {}
            }
        }
        (name, bytes, is_complete)
    }

    /// Sends the rest. The worker makes room for as much as it takes, and so the proxy for the client.
    fn finish(&mut self, worker: LinkId, (request_id, mut got, _): ([u8; 32], Vec<u8>, bool)) {
        let mut cost = u32::try_from(got.len().div_ceil(PART_LEN_MAX) * 256 + got.len()).unwrap();
        for _ in 0..self.query.len() / PART_LEN_MAX {
            let len = i32::try_from(std::mem::take(&mut cost)).unwrap();
            if len > 0 {
                self.world.packet(worker, &stream::Credit { request_id, len });
            }
            if self.sent < self.query.len() {
                self.part();
            }
            while let Some(message) = self.world.next_sent(worker) {
                if let worker::FromProxy::BodyPart(part) = wire::decode(&message).unwrap() {
                    cost += part_cost(part.data.len());
                    got.extend_from_slice(part.data);
                    assert_eq!(part.is_last, got.len() == self.query.len());
                }
            }
        }
        assert!(got == self.query, "every byte once and in order");
    }
}

#[test]
fn a_long_query_waits_for_a_place_with_what_its_window_lets() {
    let (mut uploading, running) = waiting_in(World::new(), 3);
    uploading.fill();
    assert_eq!(uploading.world.core.running_len(), 60);
    assert_eq!(uploading.granted(), None, "no credit while it waits");
    assert_eq!(uploading.world.next_sent(uploading.worker), None);
    uploading.answer(running[0]);
    let taken = uploading.taken_by(uploading.worker);
    assert_eq!(taken.1.len(), uploading.sent, "all that came meanwhile");
    assert!(uploading.granted().is_some());
    uploading.finish(uploading.worker, taken);
    assert_eq!(uploading.world.closed(uploading.client), None);
}

#[test]
fn a_long_query_that_came_whole_while_it_waited_runs() {
    for version in 1..=3 {
        let (mut uploading, running) = waiting_in(World::new(), version);
        let request_id = [2; 32];
        let query = http_request(&[b'x'; 30_000]);
        let run = wire::encode(&run_query(&query[..PART_LEN_MAX], 2));
        let query_len = i32::try_from(query.len()).unwrap();
        // The one before it in the room has gone.
        uploading.world.packet(uploading.client, &stream::Cancel { request_id: [1; 32] });
        uploading.world.packet(uploading.client, &stream::Begin { query_len, run: &run });
        let data = &query[PART_LEN_MAX..];
        uploading.world.packet(uploading.client, &stream::BodyPart { request_id, data, is_last: true });
        uploading.query = query.clone();
        uploading.answer(running[0]);
        if version == 3 {
            let (_name, bytes, is_complete) = uploading.taken_by(uploading.worker);
            assert!(is_complete && bytes == query);
        } else {
            let runs = std::iter::from_fn(|| uploading.world.next_sent(uploading.worker));
            let found = runs.filter_map(|message| match wire::decode(&message) {
                Ok(worker::FromProxy::RunQueryEx(run)) => Some(run.query == query),
                _payment => None,
            });
            assert_eq!(found.collect::<Vec<_>>(), [true]);
        }
        uploading.world.packet(uploading.client, &stream::Cancel { request_id });
        assert_eq!(uploading.world.closed(uploading.client), None);
    }
}

#[test]
fn a_long_query_that_waits_in_vain_or_finds_no_budget_is_refused() {
    let kept_len = 60 * wire::encode(&run_query(&http_request(b"{}"), 0)).len();
    // Its time in the room is over; what was under way is late, and no fault.
    let (mut uploading, _running) = waiting_in(World::new(), 3);
    uploading.part();
    uploading.world.wait(Duration::from_secs(5));
    assert_eq!(uploading.world.last_outcome(), Some((Outcome::Rejected, 651)));
    uploading.part();
    assert_eq!(uploading.world.closed(uploading.client), None);
    assert_eq!(uploading.world.core.kept_len(), kept_len, "only what runs is kept");
    // It was given up.
    let (mut uploading, running) = waiting_in(World::new(), 3);
    uploading.world.packet(uploading.client, &stream::Cancel { request_id: [1; 32] });
    assert_eq!(uploading.world.last_outcome(), Some((Outcome::Cancelled, 653)));
    uploading.part();
    uploading.answer(running[0]);
    assert!(uploading.taken_by(uploading.worker).1.is_empty());
    assert_eq!(uploading.world.closed(uploading.client), None);
    // There is no budget for what it would send.
    let limits = Limits { collected_len_max: 199_999, ..Limits::default() };
    let (uploading, _running) = waiting_in(World::with(terms(root(), false), limits), 3);
    assert_eq!(uploading.world.last_outcome(), Some((Outcome::Rejected, 651)));
    // More than its window.
    let (mut uploading, _running) = waiting_in(World::new(), 3);
    uploading.fill();
    uploading.part();
    assert_eq!(uploading.world.closed(uploading.client), Some("more of a query than was let"));
    assert_eq!(uploading.world.core.kept_len(), kept_len, "only what runs is kept");
}

#[test]
fn a_long_query_goes_to_another_worker_while_it_comes() {
    for version in 2..=3 {
        let mut uploading = uploading(3);
        let second = uploading.world.worker(61, version, 1000);
        uploading.fill();
        let (name, ..) = uploading.taken_by(uploading.worker);
        uploading.part();
        uploading.world.lose(uploading.worker);
        assert!(uploading.world.reports.is_empty(), "the client hears nothing of it");
        if version == 3 {
            let taken = uploading.taken_by(second);
            assert!(taken.0 != name && uploading.query.starts_with(&taken.1) && taken.1.len() > PART_LEN_MAX);
            uploading.finish(second, taken);
        } else {
            while uploading.sent < uploading.query.len() {
                uploading.part();
            }
            let messages = std::iter::from_fn(|| uploading.world.next_sent(second));
            let found = messages.filter_map(|message| match wire::decode(&message) {
                Ok(worker::FromProxy::RunQueryEx(run)) => Some(run.query == uploading.query),
                _payment => None,
            });
            assert_eq!(found.collect::<Vec<_>>(), [true]);
        }
        assert_eq!(uploading.world.core.running_len(), 1);
        assert_eq!(uploading.world.closed(uploading.client), None);
    }
}

#[test]
fn a_long_query_that_is_not_kept_or_is_being_answered_does_not_move() {
    // Nothing is kept of it.
    let limits = Limits { collected_len_max: 0, ..Limits::default() };
    let mut uploading = uploading_in(World::with(terms(root(), false), limits), 3);
    let second = uploading.world.worker(61, 3, 1000);
    uploading.fill();
    uploading.world.lose(uploading.worker);
    assert_eq!(uploading.world.last_outcome(), Some((Outcome::WorkerLost, 653)));
    assert!(uploading.taken_by(second).1.is_empty());
    // Its answer has begun before its end came.
    let mut uploading = self::uploading(3);
    let second = uploading.world.worker(61, 3, 1000);
    let (request_id, ..) = uploading.begun();
    let head = http_response(b"");
    uploading
        .world
        .packet(uploading.worker, &proxy::QueryAnswerEx { request_id, answer: &head, final_info: None });
    uploading.world.lose(uploading.worker);
    assert_eq!(uploading.world.last_outcome(), Some((Outcome::WorkerLost, 653)));
    assert!(uploading.taken_by(second).1.is_empty());
    uploading.part();
    assert_eq!(uploading.world.closed(uploading.client), None, "what was under way is late");
}
