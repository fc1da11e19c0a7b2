//! Requests that are given up: the worker hears of it where its version knows how, and the hold ends once.

use std::time::Duration;

use cocoon_proxy::core::{LinkId, Outcome};
use wire::{TokensUsed, client, proxy, stream, worker};

use crate::world::{World, final_info, http_request, http_response, run_query, tokens};

struct Running {
    world: World,
    client: LinkId,
    worker: LinkId,
    hop_id: [u8; 32],
}

fn running(client_version: i32, worker_version: i32) -> Running {
    let mut world = World::new();
    let (client, worker) = (world.client(50, client_version), world.worker(60, worker_version, 1500));
    let http = http_request(b"{}");
    world.packet(client, &run_query(&http, 1));
    let hop_id = world.forwarded(worker);
    Running { world, client, worker, hop_id }
}

impl Running {
    fn head(&mut self) {
        let answer = http_response(b"");
        let head = proxy::QueryAnswerEx { request_id: self.hop_id, answer: &answer, final_info: None };
        self.world.packet(self.worker, &head);
        self.world.next_sent(self.client).expect("the head is forwarded");
    }

    fn cancel(&mut self) {
        self.world.packet(self.client, &stream::Cancel { request_id: [1; 32] });
    }

    /// Whether the worker was told to stop.
    fn is_worker_told(&mut self) -> bool {
        let message = self.world.next_sent(self.worker);
        message.is_some_and(|message| match wire::decode(&message).unwrap() {
            worker::FromProxy::Cancel(cancel) => cancel.request_id == self.hop_id,
            other => panic!("unexpected {other:?}"),
        })
    }

    /// The worker's word on a cancelled request.
    fn last_count(&mut self, tokens_used: TokensUsed) {
        let message = proxy::QueryAnswerErrorEx {
            request_id: self.hop_id,
            error_code: 653,
            error: "worker: cancelled".into(),
            final_info: Some(final_info(tokens_used)),
        };
        self.world.packet(self.worker, &message);
    }

    /// It ended once, for `charged`, and nothing is held. Returns what the client was told that it paid.
    fn over(&mut self, outcome: Outcome, charged: u64) -> Option<i64> {
        assert_eq!(self.world.core.running_len(), 0);
        assert_eq!(self.world.reports.len(), 1);
        assert_eq!(self.world.reports[0].outcome, outcome);
        let (used, reserved, _) = self.world.client_tokens();
        assert_eq!((used, reserved), (charged, 0));
        assert_eq!(self.world.snapshot().workers[0].earned.get(), charged);
        let message = self.world.next_sent(self.client)?;
        match wire::decode(&message).unwrap() {
            client::FromProxy::ClientRequestPayment(payment) => Some(payment.request_tokens),
            other => panic!("a client that gave up hears only what it paid, not {other:?}"),
        }
    }
}

#[test]
fn a_cancel_reaches_the_worker_and_its_last_count_is_charged() {
    let mut running = running(3, 3);
    running.head();
    running.cancel();
    assert!(running.is_worker_told());
    assert_eq!(running.world.core.running_len(), 1, "the worker has a moment for its count");
    // What was under way goes nowhere.
    let part = proxy::QueryAnswerPartEx { request_id: running.hop_id, answer: b"late", final_info: None };
    running.world.packet(running.worker, &part);
    running.last_count(tokens(34, 16, 50, 0));
    assert_eq!(running.over(Outcome::Cancelled, 100), Some(100));
}

#[test]
fn a_worker_that_does_not_count_in_time_leaves_the_hold_void() {
    let mut running = running(3, 3);
    running.head();
    running.cancel();
    assert!(running.is_worker_told());
    running.world.wait(Duration::from_millis(1999));
    assert_eq!(running.world.core.running_len(), 1);
    running.world.wait(Duration::from_millis(1));
    assert_eq!(running.over(Outcome::Cancelled, 0), Some(0));
    running.last_count(tokens(34, 16, 50, 0));
    assert_eq!(running.world.reports.len(), 1);
}

#[test]
fn a_cancel_before_the_head_costs_nothing() {
    let mut running = running(3, 3);
    running.cancel();
    running.cancel();
    assert!(running.is_worker_told());
    assert!(!running.is_worker_told(), "it is told once");
    running.last_count(tokens(34, 16, 50, 0));
    assert_eq!(running.over(Outcome::Cancelled, 0), Some(0));
}

#[test]
fn a_client_that_leaves_takes_its_requests_with_it() {
    for client_version in 0..=3 {
        let mut world = World::new();
        let (client, worker) = (world.client(50, client_version), world.worker(60, 3, 1500));
        let http = http_request(b"{}");
        world.packet(client, &run_query(&http, 1));
        let hop_id = world.forwarded(worker);
        let mut running = Running { world, client, worker, hop_id };
        running.head();
        running.world.lose(client);
        assert!(running.is_worker_told());
        running.last_count(tokens(7, 0, 0, 0));
        assert_eq!(running.over(Outcome::Cancelled, 7), None);
    }
}

#[test]
fn a_worker_of_an_older_version_runs_to_its_end_and_is_paid() {
    for worker_version in 1..=2 {
        let mut running = running(3, worker_version);
        running.head();
        running.cancel();
        assert!(!running.is_worker_told());
        running.world.wait(Duration::from_secs(60));
        let request_id = running.hop_id;
        let final_info = Some(final_info(tokens(34, 16, 135, 15)));
        running
            .world
            .packet(running.worker, &proxy::QueryAnswerPartEx { request_id, answer: b"x", final_info });
        assert_eq!(running.over(Outcome::Success, 200), Some(200));
    }
}

#[test]
fn a_cancel_on_an_older_link_means_nothing() {
    for client_version in 0..=2 {
        let mut running = running(client_version, 3);
        running.cancel();
        assert!(!running.is_worker_told());
        assert_eq!(running.world.closed(running.client), None);
        running.head();
    }
}

#[test]
fn a_cancel_for_an_unknown_request_means_nothing() {
    let mut running = running(3, 3);
    running.world.packet(running.client, &stream::Cancel { request_id: [9; 32] });
    assert!(!running.is_worker_told());
    assert_eq!(running.world.closed(running.client), None);
    // Nor does one of another client.
    let other = running.world.client(51, 3);
    running.world.packet(other, &stream::Cancel { request_id: [1; 32] });
    assert!(!running.is_worker_told());
}

#[test]
fn a_worker_is_stopped_when_the_time_is_over_and_when_the_proxy_ends() {
    let mut late = running(2, 3);
    late.world.wait(Duration::from_secs(114));
    assert!(late.is_worker_told());
    assert_eq!(late.world.last_outcome(), Some((Outcome::Timeout, 652)));

    let mut ended = running(2, 3);
    ended.world.core.shut_down(ended.world.now);
    ended.world.collect();
    assert!(ended.is_worker_told());
}

#[test]
fn a_cut_answer_costs_what_its_worker_counted_last() {
    let usage =
        |hop_id, completion| stream::Usage { request_id: hop_id, tokens_used: tokens(0, 0, completion, 0) };
    let mut lost = running(3, 3);
    lost.head();
    lost.world.packet(lost.worker, &usage(lost.hop_id, 5));
    lost.world.packet(lost.worker, &usage(lost.hop_id, 9));
    lost.world.lose(lost.worker);
    assert_eq!(lost.world.last_outcome(), Some((Outcome::WorkerLost, 653)));
    assert_eq!((lost.world.client_tokens().0, lost.world.client_tokens().1), (9, 0));

    // Nothing was delivered before the head, and older workers do not know the message.
    let mut early = running(3, 3);
    early.world.packet(early.worker, &usage(early.hop_id, 5));
    early.world.lose(early.worker);
    assert_eq!(early.world.client_tokens().0, 0);
    let mut older = running(3, 2);
    older.head();
    older.world.packet(older.worker, &usage(older.hop_id, 5));
    older.world.lose(older.worker);
    assert_eq!(older.world.client_tokens().0, 0);
}

#[test]
fn a_worker_that_counts_below_zero_loses_its_link() {
    let mut running = running(3, 3);
    running.head();
    let usage = stream::Usage { request_id: running.hop_id, tokens_used: tokens(0, 0, -1, 0) };
    running.world.packet(running.worker, &usage);
    assert_eq!(running.world.closed(running.worker), Some("token counts contradict each other"));
    assert_eq!(running.world.last_outcome(), Some((Outcome::WorkerMisbehaved, 621)));
}
