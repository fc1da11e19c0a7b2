//! Every row of the checks that a request passes, and the form of a refusal in each version.

use bytes::Bytes;
use cocoon_proxy::core::{Limits, LinkId, Outcome, Terms};
use units::{Multiplier, NanoTon};
use wire::{client, http, worker};

use crate::world::{World, http_request, key, owner, root, run_query, terms};

/// What a refused client reads, in any version.
#[derive(Debug, PartialEq)]
struct Refused {
    code: i32,
    status: i32,
    message: String,
    error_code: String,
}

/// Reads a refusal before the head in the form of version 1 and later.
fn read_refusal(message: &Bytes, request_id: [u8; 32]) -> Refused {
    let client::FromProxy::QueryAnswerEx(answer) = wire::decode(message).unwrap() else {
        panic!("not a complete answer");
    };
    assert_eq!(answer.request_id, request_id);
    let info = answer.final_info.expect("a refusal is complete");
    assert_eq!(info.tokens_used.total_tokens_used, 0);
    let response: http::Response<'_> = wire::decode(answer.answer).unwrap();
    let header = |name: &str| {
        let found = response
            .headers
            .iter()
            .find(|header| header.name.as_bytes().eq_ignore_ascii_case(name.as_bytes()));
        found.map(|header| header.value.to_string_lossy().into_owned()).unwrap_or_default()
    };
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("content-length"), response.payload.len().to_string());
    let body: serde_json::Value = serde_json::from_slice(response.payload).unwrap();
    let member = |name: &str| body["error"][name].as_str().unwrap_or_default().to_owned();
    Refused {
        code: header("x-cocoon-error-code").parse().unwrap(),
        status: response.status_code,
        message: member("message"),
        error_code: member("code"),
    }
}

fn refused_in(world: &mut World, client: LinkId, query: &client::RunQueryEx<'_>) -> Refused {
    let running = world.core.running_len();
    let before = world.client_tokens();
    world.packet(client, query);
    assert_eq!(world.core.running_len(), running, "a refused request does not run");
    assert_eq!(world.client_tokens(), before, "a refused request holds nothing");
    assert_eq!(world.closed(client), None);
    let refused = read_refusal(&world.next_sent(client).unwrap(), query.request_id);
    assert_eq!(world.last_outcome(), Some((Outcome::Rejected, refused.code)));
    assert_eq!(world.next_sent(client), None, "no payment for a refused request");
    refused
}

/// Refuses a changed request in a world with one client and one worker at 1500.
fn refused(change: impl FnOnce(&mut client::RunQueryEx<'_>)) -> Refused {
    let mut world = World::new();
    let (client, _worker) = (world.client(50, 2), world.worker(60, 2, 1500));
    let http = http_request(b"{}");
    let mut query = run_query(&http, 1);
    change(&mut query);
    refused_in(&mut world, client, &query)
}

fn parts(refused: &Refused) -> (i32, &str, i32, &str) {
    (refused.code, &refused.message, refused.status, &refused.error_code)
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    for change in [
        (|query| query.max_tokens = -1) as fn(&mut client::RunQueryEx<'_>),
        |query| query.max_tokens = i32::MIN,
        |query| query.max_coefficient = -1,
        |query| query.timeout = 0.0,
        |query| query.timeout = -1.0,
        |query| query.timeout = f64::NAN,
        |query| query.timeout = f64::INFINITY,
        |query| query.query = b"no request",
    ] {
        let refused = refused(change);
        assert_eq!((refused.code, refused.status), (621, 400), "{refused:?}");
    }
    assert_eq!(refused(|query| query.max_tokens = -1).message, "max_tokens is negative");
}

#[test]
fn balances_limit_requests() {
    // Play money pays for 2·10^12 tokens at price 2; a price of 4·10^3 leaves 10^9.
    let mut dear = root();
    dear.params.price_per_token = NanoTon::new(4_000);
    let mut world = World::with(terms(dear, false), Limits::default());
    let (client, worker) = (world.client(50, 2), world.worker(60, 2, 1000));
    let http = http_request(b"{}");
    let len = i32::try_from(http.len()).unwrap();
    let with_tokens = |max_tokens, number| client::RunQueryEx {
        max_tokens,
        max_coefficient: 1000,
        ..run_query(&http, number)
    };

    let refusal = refused_in(&mut world, client, &with_tokens(1_000_000_001, 1));
    assert_eq!(parts(&refusal), (602, "client balance is too low", 402, "insufficient_quota"));
    let refusal = refused_in(&mut world, client, &with_tokens(1_000_000_001 - len, 2));
    assert_eq!(parts(&refusal), (651, "balance is too low", 402, "insufficient_quota"));
    world.packet(client, &with_tokens(1_000_000_000 - len, 3));
    world.forwarded(worker);
    assert_eq!(world.client_tokens(), (0, 1_000_000_000, 0));
    let refusal = refused_in(&mut world, client, &with_tokens(1, 4));
    assert_eq!(refusal.code, 602);
}

#[test]
fn a_hold_takes_the_ceiling_and_the_heaviest_kind() {
    let mut heavy = root();
    heavy.params.multipliers.reasoning = Multiplier::new(30_000);
    let mut world = World::with(terms(heavy, false), Limits::default());
    let (client, worker) = (world.client(50, 2), world.worker(60, 2, 1000));
    let http = http_request(b"{}");
    world.packet(client, &run_query(&http, 1));
    world.forwarded(worker);
    let expected = (1000 + u64::try_from(http.len()).unwrap()) * 4 * 3;
    assert_eq!(world.client_tokens().1, expected);
}

#[test]
fn a_hold_that_no_message_can_carry_is_refused() {
    let refused = refused(|query| {
        query.max_tokens = i32::MAX;
        query.max_coefficient = i32::MAX;
    });
    assert_eq!(parts(&refused), (651, "balance is too low", 402, "insufficient_quota"));
}

#[test]
fn a_client_with_a_newer_configuration_is_refused() {
    for version in [4, -1] {
        let refused = refused(|query| query.min_config_version = version);
        let expected = (602, "active config version is too low", 503, "config_version_too_low");
        assert_eq!(parts(&refused), expected);
    }
}

#[test]
fn a_disabled_proxy_runs_nothing_new() {
    let mut world = World::new();
    let (client, worker) = (world.client(50, 2), world.worker(60, 2, 1000));
    let http = http_request(b"{}");
    world.core.set_enabled(false);
    let refusal = refused_in(&mut world, client, &run_query(&http, 1));
    assert_eq!(parts(&refusal), (651, "proxy is disabled", 503, "proxy_unavailable"));
    world.core.set_enabled(true);
    world.packet(client, &run_query(&http, 1));
    world.forwarded(worker);
    world.core.begin_drain();
    assert_eq!(refused_in(&mut world, client, &run_query(&http, 2)).code, 651);
}

#[test]
fn workers_must_exist_be_ready_and_affordable() {
    let unknown = refused(|query| query.model_name = "no/such".into());
    assert_eq!(parts(&unknown), (621, "unknown model no/such", 404, "model_not_found"));
    let not_text = refused(|query| query.model_name = wire::TlStr::new(b"\xff"));
    assert_eq!(not_text.error_code, "model_not_found");
    let long = "é".repeat(600);
    let mut world = World::new();
    let client = world.client(50, 2);
    let http = http_request(b"{}");
    let query = client::RunQueryEx { model_name: long.as_str().into(), ..run_query(&http, 1) };
    assert!(refused_in(&mut world, client, &query).message.len() < 600);

    let worker = world.worker(60, 2, 1500);
    let dear =
        refused_in(&mut world, client, &client::RunQueryEx { max_coefficient: 1499, ..run_query(&http, 2) });
    let expected = (651, "can run this query with coefficient=1500", 400, "max_coefficient_too_low");
    assert_eq!(parts(&dear), expected);

    world.packet(worker, &worker::EnabledDisabled { disabled: 1 });
    let disabled = refused_in(&mut world, client, &run_query(&http, 3));
    let expected = (651, "no ready workers for model Qwen/Qwen3-8B", 503, "no_ready_worker");
    assert_eq!(parts(&disabled), expected);

    world.lose(worker);
    let gone = refused_in(&mut world, client, &run_query(&http, 4));
    assert_eq!(parts(&gone), (651, "no workers for model Qwen/Qwen3-8B", 503, "no_ready_worker"));
}

#[test]
fn a_client_runs_a_bounded_number_of_requests_each_with_its_own_name() {
    let limits = Limits { running_per_client_max: 2, ..Limits::default() };
    let mut world = World::with(terms(root(), false), limits);
    let (client, worker) = (world.client(50, 2), world.worker(60, 2, 1000));
    let http = http_request(b"{}");
    world.packet(client, &run_query(&http, 1));
    let refusal = refused_in(&mut world, client, &run_query(&http, 1));
    assert_eq!((refusal.code, refusal.message.as_str()), (621, "request id is in use"));
    world.packet(client, &run_query(&http, 2));
    let refusal = refused_in(&mut world, client, &run_query(&http, 3));
    assert_eq!(
        parts(&refusal),
        (602, "the client runs too many requests at once", 429, "rate_limit_exceeded")
    );
    let other = world.client(51, 2);
    world.packet(other, &run_query(&http, 1));
    let hops: Vec<_> = (0..3).map(|_| world.forwarded(worker)).collect();
    assert!(
        hops[0] != hops[1] && hops[0] != hops[2],
        "the same name of two clients is two names for a worker"
    );
}

#[test]
fn a_query_that_fits_into_no_frame_with_a_payment_is_refused() {
    let longest = wire::frame::MESSAGE_LEN_MAX - 4096;
    let envelope = http_request(&[0; 1 << 16]).len() - (1 << 16);
    let refusal = refused(|query| query.query = vec![0; longest + 1].leak());
    assert_eq!((refusal.code, refusal.message.as_str()), (621, "the query is too long"));

    let mut world = World::new();
    let (client, worker) = (world.client(50, 2), world.worker(60, 2, 1500));
    let http = http_request(&vec![0; (longest - envelope) & !7]);
    world.packet(client, &run_query(&http, 1));
    assert!(world.next_sent(worker).expect("it is forwarded").len() <= wire::frame::MESSAGE_LEN_MAX);
}

#[test]
fn a_worker_and_a_proxy_run_a_bounded_number_of_requests() {
    // Nothing can be kept, so nothing can wait.
    let limits = Limits { running_per_worker_max: 2, running_max: 3, kept_len_max: 0, ..Limits::default() };
    let mut world = World::with(terms(root(), false), limits);
    let (client, _worker) = (world.client(50, 2), world.worker(60, 2, 1500));
    let http = http_request(b"{}");
    for number in 1..=2 {
        world.packet(client, &run_query(&http, number));
    }
    assert_eq!(world.core.running_len(), 2);
    assert_eq!(refused_in(&mut world, client, &run_query(&http, 3)).error_code, "no_ready_worker");
    world.worker(61, 2, 1500);
    world.packet(client, &run_query(&http, 3));
    let refusal = refused_in(&mut world, client, &run_query(&http, 4));
    assert_eq!((refusal.code, refusal.message.as_str()), (651, "the proxy runs too many queries"));
}

#[test]
fn version_0_hears_the_old_form() {
    let mut world = World::new();
    let client = world.client(50, 0);
    let http = http_request(b"{}");
    world.packet(
        client,
        &client::RunQuery {
            model_name: "no/such".into(),
            query: &http,
            max_coefficient: 4000,
            max_tokens: 10,
            timeout: 10.0,
            request_id: [1; 32],
            min_config_version: 3,
        },
    );
    let message = world.next_sent(client).unwrap();
    let client::FromProxy::QueryAnswerError(error) = wire::decode(&message).unwrap() else {
        panic!("not the old form");
    };
    assert_eq!((error.error_code, error.error.to_str()), (621, Ok("unknown model no/such")));
    assert_eq!(error.request_tokens_used.total_tokens_used, 0);
}

#[test]
fn networks_with_real_money_are_refused() {
    let mut real = root();
    real.params.is_test = false;
    let refused = Terms::new(real, &owner(2), &owner(3), owner(4), key(), false, true).unwrap_err();
    assert!(refused.to_string().contains("is_test false"), "{refused}");
}

#[test]
fn a_long_timeout_is_cut() {
    let mut world = World::new();
    let (client, worker) = (world.client(50, 2), world.worker(60, 2, 1000));
    let http = http_request(b"{}");
    world.packet(client, &client::RunQueryEx { timeout: 1e300, ..run_query(&http, 1) });
    let message = world.next_sent(worker).unwrap();
    let worker::FromProxy::RunQueryEx(query) = wire::decode(&message).unwrap() else { panic!() };
    assert_eq!(query.timeout, 3600.0 * 0.95);
}
