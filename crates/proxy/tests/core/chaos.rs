//! Whatever peers do in whatever order: no panic, the sums hold, every request ends once.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use cocoon_proxy::core::{Limits, LinkId, PeerFacts};
use proptest::prelude::*;
use transport::flow::PART_LEN_MAX;
use wire::{client, proxy, stream, worker};

use crate::world::{
    World, compare, connect_client, final_info, http_request, http_response, owner, root, run_query, terms,
    tokens, worker_params,
};

#[derive(Clone, Debug)]
enum Step {
    OpenClient,
    OpenWorker,
    Handshake {
        link: usize,
        step: u8,
        number: u8,
        protocol: i32,
    },
    Ask {
        link: usize,
        number: u8,
        max_tokens: i32,
        ceiling: i32,
        timeout: u16,
    },
    /// A query that comes in parts, and more of it.
    Begin {
        link: usize,
        number: u8,
    },
    More {
        link: usize,
        number: u8,
    },
    Head {
        hop: usize,
        last: bool,
    },
    Part {
        hop: usize,
        last: bool,
        counted: i64,
    },
    Fail {
        hop: usize,
        with_info: bool,
    },
    Cancel {
        link: usize,
        number: u8,
    },
    Credit {
        link: usize,
        number: u8,
        len: i32,
    },
    Price {
        link: usize,
        coefficient: i32,
    },
    Enable {
        link: usize,
        disabled: i32,
    },
    Garbage {
        link: usize,
        bytes: Vec<u8>,
        is_query: bool,
    },
    Lose {
        link: usize,
    },
    Wait {
        seconds: u16,
    },
    EnableProxy(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let link = any::<usize>();
    let hop = any::<usize>();
    prop_oneof![
        2 => Just(Step::OpenClient),
        2 => Just(Step::OpenWorker),
        20 => (link, 0..5_u8, 0..3_u8, 0..4_i32).prop_map(|(link, step, number, protocol)| {
            Step::Handshake { link, step, number, protocol }
        }),
        20 => (link, 0..6_u8, prop_oneof![0..5000_i32, any::<i32>()], prop_oneof![4 => Just(4000), 1 => any::<i32>()], 0..200_u16)
            .prop_map(|(link, number, max_tokens, ceiling, timeout)| Step::Ask { link, number, max_tokens, ceiling, timeout }),
        12 => (link, 0..6_u8).prop_map(|(link, number)| Step::Begin { link, number }),
        20 => (link, 0..6_u8).prop_map(|(link, number)| Step::More { link, number }),
        12 => (hop, any::<bool>()).prop_map(|(hop, last)| Step::Head { hop, last }),
        12 => (hop, any::<bool>(), prop_oneof![0..5000_i64, any::<i64>()])
            .prop_map(|(hop, last, counted)| Step::Part { hop, last, counted }),
        3 => (hop, any::<bool>()).prop_map(|(hop, with_info)| Step::Fail { hop, with_info }),
        6 => (link, 0..6_u8).prop_map(|(link, number)| Step::Cancel { link, number }),
        1 => (link, 0..6_u8, prop_oneof![1..500_i32, any::<i32>()])
            .prop_map(|(link, number, len)| Step::Credit { link, number, len }),
        1 => (link, prop_oneof![0..5000_i32, any::<i32>()])
            .prop_map(|(link, coefficient)| Step::Price { link, coefficient }),
        3 => (link, 0..2_i32).prop_map(|(link, disabled)| Step::Enable { link, disabled }),
        1 => (link, prop::collection::vec(any::<u8>(), 0..80), any::<bool>())
            .prop_map(|(link, bytes, is_query)| Step::Garbage { link, bytes, is_query }),
        1 => link.prop_map(|link| Step::Lose { link }),
        2 => (0..100_u16).prop_map(|seconds| Step::Wait { seconds }),
        1 => any::<bool>().prop_map(Step::EnableProxy),
    ]
}

/// What the test knows about the world.
#[derive(Default)]
struct Witness {
    links: Vec<LinkId>,
    workers: HashSet<LinkId>,
    /// Clients of version 3.
    streaming: HashSet<LinkId>,
    /// Requests as workers know them.
    hops: Vec<(LinkId, [u8; 32])>,
    /// Requests that clients wait for.
    open: HashSet<(LinkId, [u8; 32])>,
    /// How much was sent of their queries, while more is to come.
    uploads: HashMap<(LinkId, [u8; 32]), usize>,
}

impl Witness {
    /// Takes everything that was sent: notes new hops, and that no request ends twice or speaks after its end.
    fn look(&mut self, world: &mut World) {
        for link in self.links.clone() {
            while let Some(message) = world.next_sent(link) {
                if self.workers.contains(&link) {
                    match wire::decode(&message).unwrap() {
                        worker::FromProxy::RunQuery(query) => self.hops.push((link, query.request_id)),
                        worker::FromProxy::RunQueryEx(query) => self.hops.push((link, query.request_id)),
                        worker::FromProxy::Begin(begin) => {
                            let run: proxy::RunQueryEx<'_> = wire::decode(begin.run).unwrap();
                            self.hops.push((link, run.request_id));
                        }
                        _ => {}
                    }
                    continue;
                }
                let (request_id, ends) = match wire::decode(&message).unwrap() {
                    client::FromProxy::QueryAnswer(answer) => (answer.request_id, answer.is_completed),
                    client::FromProxy::QueryAnswerPart(answer) => (answer.request_id, answer.is_completed),
                    client::FromProxy::QueryAnswerEx(answer) => {
                        (answer.request_id, answer.final_info.is_some())
                    }
                    client::FromProxy::QueryAnswerPartEx(answer) => {
                        (answer.request_id, answer.final_info.is_some())
                    }
                    client::FromProxy::QueryAnswerError(error) => (error.request_id, true),
                    client::FromProxy::QueryAnswerPartError(error) => (error.request_id, true),
                    client::FromProxy::QueryAnswerErrorEx(error) => (error.request_id, true),
                    _ => {
                        continue;
                    }
                };
                if ends {
                    assert!(self.open.remove(&(link, request_id)), "a request ended that was not open");
                } else {
                    assert!(self.open.contains(&(link, request_id)), "an answer after the end");
                }
            }
        }
    }
}

fn handshake(world: &mut World, link: LinkId, is_worker: bool, step: u8, number: u8, protocol: i32) {
    let text = owner(number).to_wire_text(false);
    let _answer = match (is_worker, step) {
        (false, 0 | 1) => world.query(link, &connect_client(&text, protocol)),
        (false, 2) => world.query(link, &client::AuthorizeWithProxyShort { data: b"" }),
        (false, 3) => world.query(link, &client::UpdatePaymentStatus {}),
        (false, _) => world.query(link, &client::GetWorkerTypesV2 {}),
        (true, 0) => {
            world.query(link, &worker::ConnectToProxy { params: worker_params(&text, protocol, 1500) })
        }
        (true, 1) => world.query(link, &compare(0, 0, i64::from(number))),
        (true, 2) => {
            let query = worker::ExtendedCompareBalanceWithProxy { tokens_committed_to_db: 0, other: b"" };
            world.query(link, &query)
        }
        (true, 3) => world.query(link, &worker::ProxyHandshakeComplete { is_disabled: false }),
        (true, _) => world.query(link, &worker::UpdatePaymentStatus {}),
    };
}

fn protocol_of(number: u8) -> i32 {
    [3, 2, 2, 3][usize::from(number % 4)]
}

/// Brings a link through its handshake, so that chaos begins beyond it.
fn joined(world: &mut World, is_worker: bool, number: u8) -> LinkId {
    let protocol = protocol_of(number);
    if is_worker { world.worker(number, protocol, 1500) } else { world.client(number, protocol) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_books_stay_in_order(steps in prop::collection::vec(step(), 1..250)) {
        let limits = Limits { accounts_max: 4, running_per_client_max: 3, ..Limits::default() };
        let mut world = World::with(terms(root(), false), limits);
        world.places = 2;
        let mut witness = Witness::default();
        for number in 0..4 {
            let is_worker = number % 2 == 0;
            let link = joined(&mut world, is_worker, number);
            witness.links.push(link);
            witness.workers.extend(is_worker.then_some(link));
            witness.streaming.extend((!is_worker && protocol_of(number) == 3).then_some(link));
        }
        let http = http_request(b"{}");
        // A window has room for all of it, so that nobody has to wait for credit.
        let long = http_request(&[b'x'; 40_000]);
        let head = http_response(b"a");
        for step in steps {
            let pick = |index: usize| witness.links[index % witness.links.len()];
            let pick_hop = |index: usize| (!witness.hops.is_empty()).then(|| witness.hops[index % witness.hops.len()]);
            match step {
                Step::OpenClient => witness.links.push(world.open_client()),
                Step::OpenWorker => {
                    let link = world.open_worker(PeerFacts::default());
                    witness.links.push(link);
                    witness.workers.insert(link);
                }
                Step::Handshake { link, step, number, protocol } => {
                    let link = pick(link);
                    handshake(&mut world, link, witness.workers.contains(&link), step, number, protocol);
                }
                Step::Ask { link, number, max_tokens, ceiling, timeout } => {
                    let link = pick(link);
                    let query = client::RunQueryEx {
                        max_tokens, max_coefficient: ceiling, timeout: f64::from(timeout), ..run_query(&http, number)
                    };
                    // A second request of the same name is refused under that name: not told apart here.
                    if witness.open.insert((link, query.request_id)) {
                        world.packet(link, &query);
                    }
                }
                Step::Begin { link, number } => {
                    let (link, request_id) = (pick(link), [number; 32]);
                    if witness.streaming.contains(&link) && witness.open.insert((link, request_id)) {
                        witness.uploads.insert((link, request_id), PART_LEN_MAX);
                        let run = wire::encode(&run_query(&long[..PART_LEN_MAX], number));
                        let query_len = i32::try_from(long.len()).unwrap();
                        world.packet(link, &stream::Begin { query_len, run: &run });
                    }
                }
                Step::More { link, number } => {
                    let at = (pick(link), [number; 32]);
                    if let Some(sent) = witness.uploads.remove(&at) {
                        let end = long.len().min(sent + PART_LEN_MAX);
                        let is_last = end == long.len();
                        if !is_last {
                            witness.uploads.insert(at, end);
                        }
                        let data = &long[sent..end];
                        world.packet(at.0, &stream::BodyPart { request_id: at.1, data, is_last });
                    }
                }
                Step::Head { hop, last } => if let Some((link, request_id)) = pick_hop(hop) {
                    let final_info = last.then(|| final_info(tokens(1, 0, 1, 0)));
                    world.packet(link, &proxy::QueryAnswerEx { request_id, answer: &head, final_info });
                },
                Step::Part { hop, last, counted } => if let Some((link, request_id)) = pick_hop(hop) {
                    let final_info = last.then(|| final_info(tokens(0, 0, counted, 0)));
                    world.packet(link, &proxy::QueryAnswerPartEx { request_id, answer: b"x", final_info });
                },
                Step::Fail { hop, with_info } => if let Some((link, request_id)) = pick_hop(hop) {
                    let final_info = with_info.then(|| final_info(tokens(3, 0, 0, 0)));
                    let error = "worker: timeout".into();
                    world.packet(link, &proxy::QueryAnswerErrorEx { request_id, error_code: 652, error, final_info });
                },
                Step::Cancel { link, number } => {
                    let link = pick(link);
                    if witness.streaming.contains(&link) {
                        witness.open.remove(&(link, [number; 32]));
                    }
                    world.packet(link, &stream::Cancel { request_id: [number; 32] });
                }
                Step::Credit { link, number, len } => {
                    world.packet(pick(link), &stream::Credit { request_id: [number; 32], len });
                }
                Step::Price { link, coefficient } => {
                    world.packet(pick(link), &worker::NewCoefficient { new_coefficient: coefficient });
                }
                Step::Enable { link, disabled } => {
                    world.packet(pick(link), &worker::EnabledDisabled { disabled });
                }
                Step::Garbage { link, bytes, is_query: true } => {
                    let _answer = world.query_bytes(pick(link), &bytes);
                }
                Step::Garbage { link, bytes, is_query: false } => world.packet_bytes(pick(link), &bytes),
                Step::Lose { link } => world.lose(pick(link)),
                Step::Wait { seconds } => world.wait(Duration::from_secs(seconds.into())),
                Step::EnableProxy(enabled) => world.core.set_enabled(enabled),
            }
            witness.look(&mut world);
        }
        // Everything that still runs times out; then nobody waits for anything, and nothing is held.
        world.wait(Duration::from_secs(3600));
        witness.look(&mut world);
        prop_assert_eq!(world.core.running_len(), 0);
        let snapshot = world.snapshot();
        prop_assert_eq!(snapshot.totals.held.get(), 0);
        prop_assert_eq!(world.core.kept_len(), 0);
        prop_assert!(snapshot.clients.len() <= 4 && snapshot.workers.len() <= 4);
        prop_assert!(snapshot.connections.iter().all(|connection| connection.running == 0));
    }
}
