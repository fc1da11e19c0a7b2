//! Requests that end badly: each ends once, holds nothing afterwards, and says why.

use std::time::Duration;

use bytes::Bytes;
use cocoon_proxy::core::{LinkId, Outcome};
use ledger::Ledger;
use wire::{TokensUsed, client, http, proxy, worker};

use units::ConfigVersion;

use crate::world::{World, final_info, http_request, http_response, root, run_query, terms, tokens};

/// A world with one running request.
struct Running {
    world: World,
    client: LinkId,
    worker: LinkId,
    hop_id: [u8; 32],
}

fn running_in(client_version: i32, worker_version: i32) -> Running {
    let mut world = World::new();
    let (client, worker) = (world.client(50, client_version), world.worker(60, worker_version, 1500));
    let http = http_request(b"{}");
    world.packet(client, &run_query(&http, 1));
    let hop_id = world.forwarded(worker);
    assert_eq!(world.core.running_len(), 1);
    Running { world, client, worker, hop_id }
}

fn running() -> Running {
    running_in(2, 2)
}

impl Running {
    fn head(&mut self) {
        let head = http_response(b"");
        let message = proxy::QueryAnswerEx { request_id: self.hop_id, answer: &head, final_info: None };
        self.world.packet(self.worker, &message);
        self.world.next_sent(self.client).expect("the head is forwarded");
    }

    fn part(&mut self, tokens_used: Option<TokensUsed>) {
        let final_info = tokens_used.map(final_info);
        let message = proxy::QueryAnswerPartEx { request_id: self.hop_id, answer: b"x", final_info };
        self.world.packet(self.worker, &message);
    }

    fn fail(&mut self, code: i32, text: &str, tokens_used: Option<TokensUsed>) {
        let message = proxy::QueryAnswerErrorEx {
            request_id: self.hop_id,
            error_code: code,
            error: text.into(),
            final_info: tokens_used.map(final_info),
        };
        self.world.packet(self.worker, &message);
    }

    fn next(&mut self) -> Bytes {
        self.world.next_sent(self.client).expect("the client hears something")
    }

    /// Status and code of a refusal before the head.
    fn refusal(&mut self) -> (i32, String) {
        let message = self.next();
        let client::FromProxy::QueryAnswerEx(answer) = wire::decode(&message).unwrap() else { panic!() };
        assert!(answer.final_info.is_some());
        let response: http::Response<'_> = wire::decode(answer.answer).unwrap();
        let code = response.headers.iter().find(|header| header.name == "X-Cocoon-Error-Code".into());
        (response.status_code, code.unwrap().value.to_string_lossy().into_owned())
    }

    /// Code, text and charge of an error after the head.
    fn cut(&mut self) -> (i32, String, i64) {
        let message = self.next();
        let client::FromProxy::QueryAnswerErrorEx(error) = wire::decode(&message).unwrap() else { panic!() };
        let info = error.final_info.expect("deployed clients need it");
        (error.error_code, error.error.to_string_lossy().into_owned(), info.tokens_used.total_tokens_used)
    }

    /// The request is over, `charged` was paid, nothing is held, and both sides know.
    fn over(mut self, outcome: Outcome, code: i32, charged: i64) -> World {
        assert_eq!(self.world.core.running_len(), 0);
        assert_eq!(self.world.core.poll_timeout(), None);
        assert_eq!(self.world.last_outcome(), Some((outcome, code)));
        assert_eq!(self.world.reports.len(), 1);
        let (used, reserved, _available) = self.world.client_tokens();
        assert_eq!((used, reserved), (u64::try_from(charged).unwrap(), 0));
        let earned = self.world.snapshot().workers.first().map_or(0, |worker| worker.earned.get());
        assert_eq!(earned, used);
        if self.world.closed(self.client).is_none() && self.world.core.links_len().0 > 0 {
            let message = self.next();
            let client::FromProxy::ClientRequestPayment(payment) = wire::decode(&message).unwrap() else {
                panic!();
            };
            assert_eq!(payment.request_tokens, charged);
        }
        assert_eq!(self.world.next_sent(self.client), None);
        self.world
    }
}

#[test]
fn time_is_over_before_the_head() {
    let mut running = running();
    running.world.wait(Duration::from_millis(113_999));
    assert_eq!(running.world.core.running_len(), 1);
    running.world.wait(Duration::from_millis(1));
    assert_eq!(running.refusal(), (504, "652".into()));
    running.over(Outcome::Timeout, 652, 0);
}

#[test]
fn time_is_over_in_the_middle() {
    let mut running = running();
    running.head();
    running.part(None);
    running.next();
    running.world.wait(Duration::from_secs(114));
    assert_eq!(running.cut(), (652, "timeout in proxy".into(), 0));
    // What the worker still sends is too late for anybody.
    running.part(Some(tokens(5, 0, 5, 0)));
    running.over(Outcome::Timeout, 652, 0);
}

#[test]
fn a_lost_worker_is_noticed_at_once() {
    let mut before_the_head = running();
    before_the_head.world.lose(before_the_head.worker);
    assert_eq!(before_the_head.refusal(), (502, "653".into()));
    before_the_head.over(Outcome::WorkerLost, 653, 0);

    let mut after_the_head = running();
    after_the_head.head();
    after_the_head.world.lose(after_the_head.worker);
    assert_eq!(after_the_head.cut(), (653, "worker connection lost".into(), 0));
    after_the_head.over(Outcome::WorkerLost, 653, 0);
}

#[test]
fn a_lost_client_pays_for_what_its_worker_counts() {
    let mut running = running();
    running.head();
    running.world.lose(running.client);
    assert!(running.world.client_tokens().1 > 0, "the hold stays");
    running.part(None);
    running.part(Some(tokens(30, 0, 100, 0)));
    let mut world = running.over(Outcome::Success, 0, 130);
    let back = world.client(50, 2);
    let answer = world.query(back, &client::UpdatePaymentStatus {}).unwrap();
    let status: client::PaymentStatus<'_> = wire::decode(&answer).unwrap();
    assert_eq!((status.db_tokens, status.max_tokens), (130, 130));
}

#[test]
fn a_lost_client_that_owes_nothing_is_forgotten_in_the_end() {
    let mut running = running();
    running.world.lose(running.client);
    assert_eq!(running.world.snapshot().clients.len(), 1);
    running.fail(652, "worker: timeout", Some(tokens(0, 0, 0, 0)));
    assert_eq!(running.world.snapshot().clients.len(), 0);
    assert_eq!(running.world.last_outcome(), Some((Outcome::WorkerFailed, 652)));
}

#[test]
fn a_worker_may_give_up() {
    let mut before_the_head = running();
    before_the_head.fail(602, "too many active queries", Some(tokens(9, 0, 9, 0)));
    assert_eq!(before_the_head.refusal(), (503, "602".into()));
    before_the_head.over(Outcome::WorkerFailed, 602, 0);

    let mut without_info = running();
    without_info.fail(0, "worker: http failed: refused", None);
    assert_eq!(without_info.refusal(), (502, "0".into()));
    without_info.over(Outcome::WorkerFailed, 0, 0);

    let mut after_the_head = running();
    after_the_head.head();
    after_the_head.fail(652, "worker: timeout", Some(tokens(30, 0, 12, 0)));
    assert_eq!(after_the_head.cut(), (652, "worker: timeout".into(), 42), "what was delivered is paid for");
    after_the_head.over(Outcome::WorkerFailed, 652, 42);
}

#[test]
fn long_texts_of_workers_are_cut() {
    let mut running = running();
    running.head();
    running.fail(652, &"é".repeat(100_000), None);
    assert_eq!(running.cut().1.len(), 2000);
}

#[test]
fn answers_out_of_order_end_the_request() {
    let mut part_first = running();
    part_first.part(None);
    assert_eq!(part_first.refusal(), (502, "621".into()));
    part_first.over(Outcome::WorkerMisbehaved, 621, 0);

    let mut two_heads = running();
    two_heads.head();
    let head = http_response(b"");
    let message = proxy::QueryAnswerEx { request_id: two_heads.hop_id, answer: &head, final_info: None };
    two_heads.world.packet(two_heads.worker, &message);
    assert_eq!(two_heads.cut(), (621, "out of order answer parts".into(), 0));
    let worker = two_heads.worker;
    assert_eq!(two_heads.over(Outcome::WorkerMisbehaved, 621, 0).closed(worker), None);
}

#[test]
fn a_head_that_is_none_costs_the_worker_its_link() {
    let mut running = running();
    let message = proxy::QueryAnswerEx { request_id: running.hop_id, answer: b"nonsense", final_info: None };
    running.world.packet(running.worker, &message);
    assert_eq!(running.refusal().1, "621");
    assert_eq!(running.world.closed(running.worker), Some("answer is not an HTTP response"));
    assert_eq!(running.world.reports.len(), 1);
    assert_eq!(running.world.core.running_len(), 0);
}

#[test]
fn counts_that_cannot_be_cost_the_worker_its_link() {
    let sound = tokens(1, 1, 1, 1);
    for impossible in [
        TokensUsed { prompt_tokens_used: -1, total_tokens_used: 2, ..sound },
        TokensUsed { total_tokens_used: 5, ..sound },
        TokensUsed { total_tokens_used: -1, ..sound },
        TokensUsed {
            prompt_tokens_used: i64::MAX,
            completion_tokens_used: i64::MAX,
            total_tokens_used: -2,
            ..sound
        },
    ] {
        let mut running = running();
        running.head();
        running.part(Some(impossible));
        assert_eq!(running.cut().0, 621);
        assert_eq!(running.world.closed(running.worker), Some("token counts contradict each other"));
        assert_eq!(running.world.client_tokens().0, 0);
        assert_eq!(running.world.core.running_len(), 0);
    }
}

#[test]
fn a_worker_is_paid_at_most_the_hold() {
    let mut running = running();
    let held = running.world.client_tokens().1;
    let held = i64::try_from(held).unwrap();
    running.head();
    running.part(Some(tokens(100, 50, i64::MAX - 150, 0)));
    let message = running.next();
    let client::FromProxy::QueryAnswerPartEx(part) = wire::decode(&message).unwrap() else { panic!() };
    let used = part.final_info.unwrap().tokens_used;
    assert_eq!(used, tokens(100, 50, held - 150, 0), "the client reads what it was charged");
    assert_eq!(running.world.reports[0].capped.get(), u64::try_from(i64::MAX - held).unwrap());
    running.over(Outcome::Success, 0, held);
}

#[test]
fn before_version_1_every_part_carries_the_cost_so_far() {
    let mut running = running_in(0, 0);
    let head = http_response(b"");
    let request_id = running.hop_id;
    let message = proxy::QueryAnswer {
        answer: &head,
        is_completed: false,
        request_id,
        tokens_used: tokens(30, 0, 1, 0),
    };
    running.world.packet(running.worker, &message);
    let heard = running.next();
    let client::FromProxy::QueryAnswer(answer) = wire::decode(&heard).unwrap() else { panic!() };
    assert_eq!(answer.request_tokens_used, tokens(30, 0, 1, 0));
    let message = proxy::QueryAnswerPart {
        answer: b"x",
        is_completed: false,
        request_id,
        tokens_used: tokens(30, 0, 7, 0),
    };
    running.world.packet(running.worker, &message);
    running.next();
    running.world.lose(running.worker);
    let heard = running.next();
    let client::FromProxy::QueryAnswerPartError(error) = wire::decode(&heard).unwrap() else { panic!() };
    assert_eq!((error.error_code, error.request_tokens_used), (653, tokens(30, 0, 7, 0)));
    running.over(Outcome::WorkerLost, 653, 37);
}

#[test]
fn an_old_worker_may_give_up_too() {
    let mut running = running_in(2, 0);
    let message = proxy::QueryAnswerError {
        error_code: 621,
        error: "worker: invalid http request: model name mismatch".into(),
        request_id: running.hop_id,
        tokens_used: tokens(0, 0, 0, 0),
    };
    running.world.packet(running.worker, &message);
    assert_eq!(running.refusal(), (404, "621".into()));
    running.over(Outcome::WorkerFailed, 621, 0);
}

#[test]
fn answers_to_unknown_requests_are_ignored() {
    let mut running = running();
    let other = running.world.worker(61, 2, 1000);
    let head = http_response(b"");
    for (link, request_id) in [(running.worker, [0; 32]), (other, running.hop_id)] {
        let message = proxy::QueryAnswerEx { request_id, answer: &head, final_info: None };
        running.world.packet(link, &message);
        assert_eq!(running.world.next_sent(running.client), None);
        assert_eq!(running.world.closed(link), None);
    }
    assert_eq!(running.world.core.running_len(), 1);
}

#[test]
fn a_worker_that_closes_leaves_its_requests_to_the_others() {
    let mut world = World::new();
    let client = world.client(50, 2);
    let workers = [world.worker(60, 2, 1000), world.worker(61, 2, 1000)];
    let http = http_request(b"{}");
    for number in 0..20 {
        world.packet(client, &run_query(&http, number));
    }
    let share = |world: &World, index: usize| world.snapshot().connections[index].running;
    let (first, second) = (share(&world, 0), share(&world, 1));
    assert_eq!((first, second), (10, 10), "the less busy of two is taken");
    world.lose(workers[0]);
    assert_eq!(share(&world, 0), 20);
    world.lose(workers[1]);
    assert_eq!(world.core.running_len(), 0);
    assert!(world.reports.iter().all(|report| report.worker == Some(workers[1])));
}

#[test]
fn newer_lists_take_effect_and_keep_the_books() {
    let mut running = running();
    let mut newer = root();
    newer.version = ConfigVersion::new(4);
    running.world.core.adopt(terms(newer.clone(), false), running.world.now);
    running.world.collect();
    assert_eq!(running.world.core.running_len(), 1);
    let http = http_request(b"{}");
    let query = client::RunQueryEx { min_config_version: 4, ..run_query(&http, 2) };
    running.world.packet(running.client, &query);
    assert_eq!(running.world.core.running_len(), 2);

    // Checking the lists, which are empty, is newer terms too.
    running.world.core.adopt(terms(newer, true), running.world.now);
    running.world.collect();
    assert_eq!(running.refusal().1, "653");
    let reason = "the root configuration no longer allows this worker";
    assert_eq!(running.world.closed(running.worker), Some(reason));
    assert_eq!(running.world.closed(running.client), None);
}

#[test]
fn newer_params_mean_other_contracts_and_new_books() {
    let mut running = running();
    let contract = running.world.core.terms().contract_text().to_owned();
    let mut newer = root();
    newer.params.params_version += 1;
    let (newer, now) = (terms(newer, false), running.world.now);
    assert!(!newer.shares_contracts(running.world.core.terms()));
    let books = Ledger::new(newer.books_identity().prices);
    running.world.is_disk_fast = false;
    let mut books_before = running.world.core.move_to(newer, books, now);
    running.world.collect();
    assert_eq!(running.refusal().1, "653");
    for link in [running.client, running.worker] {
        assert_eq!(running.world.closed(link), Some("the params of the root configuration changed"));
    }
    assert!(running.world.snapshot().clients.is_empty());
    assert_ne!(running.world.core.terms().contract_text(), contract);
    assert_eq!((books_before.totals().held.get(), books_before.audit()), (0, Ok(())));
    assert_eq!(books_before.take_records(&mut Vec::new()), None, "an answer without a count costs nothing");
    running.world.client(50, 2);
}

#[test]
fn a_shutdown_ends_everything() {
    let mut running = running();
    running.head();
    running.world.core.begin_drain();
    assert_eq!(running.world.core.running_len(), 1, "running requests may finish");
    running.world.core.shut_down(running.world.now);
    running.world.collect();
    assert_eq!(running.cut().0, 653);
    assert_eq!(running.world.closed(running.client), Some("the proxy shuts down"));
    assert_eq!(running.world.closed(running.worker), Some("the proxy shuts down"));
    assert_eq!(running.world.core.running_len(), 0);
    assert!(matches!(
        wire::decode(&running.world.next_sent(running.worker).unwrap()).unwrap(),
        worker::FromProxy::WorkerRequestPayment(_)
    ));
}

#[test]
fn an_answer_that_fits_into_no_frame_ends_its_request_and_not_the_clients_link() {
    let long = vec![0; wire::frame::MESSAGE_LEN_MAX - 200];
    let mut long_part = running();
    long_part.head();
    let (hop_id, worker) = (long_part.hop_id, long_part.worker);
    let part = proxy::QueryAnswerPartEx { request_id: hop_id, answer: &long, final_info: None };
    long_part.world.packet(worker, &part);
    assert_eq!(long_part.world.last_outcome(), Some((Outcome::WorkerMisbehaved, 621)));
    assert!(long_part.next().len() < 1000, "the client hears of the end");

    let mut long_head = running();
    let (hop_id, worker) = (long_head.hop_id, long_head.worker);
    let head = http_response(&long);
    long_head
        .world
        .packet(worker, &proxy::QueryAnswerEx { request_id: hop_id, answer: &head, final_info: None });
    assert_eq!(long_head.world.last_outcome(), Some((Outcome::WorkerMisbehaved, 621)));
    assert_eq!(long_head.world.closed(long_head.client), None);
}

#[test]
fn endless_notes_of_a_worker_are_left_out() {
    let notes = "x".repeat(1 << 20);
    let mut world = World::new();
    let (client, worker) = (world.client(50, 2), world.worker(60, 2, 1000));
    let http = http_request(b"{}");
    world.packet(client, &client::RunQueryEx { enable_debug: Some(true), ..run_query(&http, 1) });
    let (request_id, head) = (world.forwarded(worker), http_response(b"{}"));
    let info =
        proxy::QueryFinalInfo { worker_debug: Some(notes.as_str().into()), ..final_info(tokens(1, 0, 1, 0)) };
    world.packet(worker, &proxy::QueryAnswerEx { request_id, answer: &head, final_info: Some(info) });
    assert_eq!(world.last_outcome(), Some((Outcome::Success, 0)));
    assert!(world.next_sent(client).unwrap().len() < 2000);
}
