//! Another worker tries when one fails before the answer begins: once charged, and only the last one earns.

use cocoon_proxy::core::{Limits, LinkId, Outcome};
use wire::{client, http, proxy, worker};

use crate::world::{World, final_info, http_request, http_response, root, run_query, terms, tokens};

struct Scene {
    world: World,
    client: LinkId,
    /// Where the request is, and its name there.
    at: (LinkId, [u8; 32]),
    workers: Vec<LinkId>,
}

fn scene(workers: u8, limits: Limits) -> Scene {
    let mut world = World::with(terms(root(), false), limits);
    let client = world.client(50, 2);
    let workers: Vec<_> = (0..workers).map(|number| world.worker(60 + number, 2, 1000)).collect();
    world.packet(client, &run_query(&http_request(b"{}"), 1));
    let at = at(&mut world, &workers).expect("the request went to a worker");
    Scene { world, client, at, workers }
}

fn at(world: &mut World, workers: &[LinkId]) -> Option<(LinkId, [u8; 32])> {
    workers.iter().find_map(|link| Some((*link, world.try_forwarded(*link)?)))
}

impl Scene {
    fn fail(&mut self, error_code: i32, error: &str) {
        let (worker, request_id) = self.at;
        let final_info = Some(final_info(tokens(9, 0, 9, 0)));
        let error = error.into();
        let message = proxy::QueryAnswerErrorEx { request_id, error_code, error, final_info };
        self.world.packet(worker, &message);
    }

    fn status(&mut self, status_code: i32) {
        let (worker, request_id) = self.at;
        let answer = wire::encode(&http::Response {
            http_version: "HTTP/1.1".into(),
            status_code,
            reason: "".into(),
            headers: vec![],
            payload: b"{}",
        });
        let final_info = Some(final_info(tokens(0, 0, 0, 0)));
        self.world.packet(worker, &proxy::QueryAnswerEx { request_id, answer: &answer, final_info });
    }

    /// The request is at another worker now; the client heard nothing, and what is held stays held.
    fn moved(&mut self) {
        let before = self.at;
        self.at = at(&mut self.world, &self.workers).expect("another worker got the request");
        assert!(self.at.0 != before.0 && self.at.1 != before.1);
        assert_eq!(self.world.next_sent(self.client), None);
        assert_eq!(self.world.core.running_len(), 1);
        assert!(self.world.reports.is_empty());
    }

    /// The worker that has the request answers it: it alone earns, and the client pays once.
    fn answered(mut self, moves: usize) {
        let (worker, request_id) = self.at;
        let head = http_response(b"{}");
        let final_info = Some(final_info(tokens(3, 0, 4, 0)));
        self.world.packet(worker, &proxy::QueryAnswerEx { request_id, answer: &head, final_info });
        assert_eq!(self.world.last_outcome(), Some((Outcome::Success, 0)));
        assert_eq!((self.world.reports.len(), self.world.reports[0].moves), (1, moves));
        let (used, reserved, _available) = self.world.client_tokens();
        assert_eq!((used, reserved, self.world.core.kept_len()), (7, 0, 0));
        let earned: Vec<_> = self.world.snapshot().workers.iter().map(|worker| worker.earned.get()).collect();
        assert_eq!(earned.iter().sum::<u64>(), 7);
        assert_eq!(self.world.snapshot().workers.iter().map(|worker| worker.running).sum::<u32>(), 0);
        let connections = self.world.snapshot().connections;
        assert!(connections.iter().all(|connection| connection.running == 0));
    }

    /// The client reads a failure.
    fn refused(mut self, status: i32) {
        let message = self.world.next_sent(self.client).expect("the client hears the end");
        let client::FromProxy::QueryAnswerEx(answer) = wire::decode(&message).unwrap() else { panic!() };
        let response: http::Response<'_> = wire::decode(answer.answer).unwrap();
        assert_eq!(response.status_code, status);
        assert_eq!((self.world.core.running_len(), self.world.core.kept_len()), (0, 0));
        let (used, reserved, _available) = self.world.client_tokens();
        assert_eq!((used, reserved), (0, 0));
        assert_eq!(at(&mut self.world, &self.workers), None);
        let connections = self.world.snapshot().connections;
        assert!(connections.iter().all(|connection| connection.running == 0));
    }
}

/// What a worker does instead of answering.
type Failure = Box<dyn Fn(&mut Scene)>;

#[test]
fn a_request_moves_when_its_worker_fails_before_the_answer_begins() {
    let fail = |code: i32, text: &'static str| move |scene: &mut Scene| scene.fail(code, text);
    let failures: [Failure; 7] = [
        Box::new(fail(601, "worker: http failed: the engine cannot be reached")),
        Box::new(fail(0, "worker: http failed: connection refused")),
        Box::new(fail(602, "too many active queries")),
        Box::new(fail(653, "worker is shutting down")),
        Box::new(|scene| scene.status(503)),
        Box::new(|scene| {
            let worker = scene.at.0;
            scene.world.lose(worker);
            scene.workers.retain(|link| *link != worker);
        }),
        Box::new(|scene| {
            // A part before the head.
            let message = proxy::QueryAnswerPartEx { request_id: scene.at.1, answer: b"x", final_info: None };
            scene.world.packet(scene.at.0, &message);
        }),
    ];
    for failure in failures {
        let mut scene = scene(3, Limits::default());
        failure(&mut scene);
        scene.moved();
        failure(&mut scene);
        scene.moved();
        scene.answered(2);
    }
}

#[test]
fn a_request_stays_failed_when_no_other_worker_could_do_better() {
    for (code, text, status) in [
        (621, "worker: invalid http request: model name mismatch", 404),
        (621, "worker: invalid http request: unknown option", 400),
        (652, "worker: timeout", 504),
    ] {
        let mut scene = scene(2, Limits::default());
        scene.fail(code, text);
        scene.refused(status);
    }
    for status in [400, 429, 500] {
        let mut scene = scene(2, Limits::default());
        scene.status(status);
        scene.refused(status);
    }
}

#[test]
fn tries_are_bounded_by_workers_and_number() {
    for (workers, tries) in [(1, 1), (2, 2), (5, 3)] {
        let mut scene = scene(workers, Limits::default());
        for _ in 1..tries {
            scene.fail(601, "worker: http failed: gone");
            scene.moved();
        }
        scene.fail(601, "worker: http failed: gone");
        scene.refused(502);
    }
    // The last answer of an engine goes to the client when nobody else is there.
    let mut scene = scene(1, Limits::default());
    scene.status(503);
    scene.refused(503);
}

#[test]
fn what_does_not_fit_the_budget_runs_and_does_not_move() {
    let mut scene = scene(2, Limits { kept_len_max: 100, ..Limits::default() });
    assert_eq!(scene.world.core.kept_len(), 0);
    scene.fail(601, "worker: http failed: gone");
    scene.refused(502);
}

#[test]
fn after_the_head_nothing_moves() {
    let mut scene = scene(2, Limits::default());
    assert!(scene.world.core.kept_len() > 0);
    let head = http_response(b"");
    let message = proxy::QueryAnswerEx { request_id: scene.at.1, answer: &head, final_info: None };
    scene.world.packet(scene.at.0, &message);
    assert_eq!(scene.world.core.kept_len(), 0, "the bytes are not needed any more");
    let worker = scene.at.0;
    scene.world.lose(worker);
    assert_eq!(scene.world.last_outcome(), Some((Outcome::WorkerLost, 653)));
}

#[test]
fn nobody_moves_for_a_client_that_left_or_in_a_proxy_that_stops() {
    let mut left = scene(2, Limits::default());
    let client = left.client;
    left.world.lose(client);
    left.fail(601, "worker: http failed: gone");
    assert_eq!(left.world.core.running_len(), 0);
    assert_eq!(at(&mut left.world, &left.workers), None);

    let mut stopping = scene(2, Limits::default());
    stopping.world.core.begin_drain();
    stopping.fail(601, "worker: http failed: gone");
    stopping.refused(502);
}

#[test]
fn a_moved_request_gets_the_time_that_is_left() {
    let mut scene = scene(2, Limits::default());
    scene.world.wait(std::time::Duration::from_secs(14));
    let first = scene.at.0;
    scene.fail(601, "worker: http failed: gone");
    let other = *scene.workers.iter().find(|link| **link != first).unwrap();
    let message = scene.world.next_sent(other).unwrap();
    let worker::FromProxy::RunQueryEx(query) = wire::decode(&message).unwrap() else { panic!() };
    assert!((query.timeout - 100.0 * 0.95).abs() < 1e-6, "{}", query.timeout);
}
