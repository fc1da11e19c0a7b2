//! A recorded conversation of deployed peers, with our core in the place of their proxy.
//!
//! What client and worker sent then is sent again; what our core says must be what their proxy said, but for what
//! cannot be equal (keys, signatures, contracts derived from them, names of requests between proxy and worker,
//! times) and what is better on purpose (refusals that their clients understand).

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use cocoon_proxy::core::{Limits, LinkId, Outcome, PeerFacts, Terms};
use ton::{Address, RootConfig};
use units::{ConfigVersion, NanoTon};
use wire::proxy::SignedPayment;
use wire::{client, http, proxy, tcp, worker};

use crate::world::{World, key, owner};

/// Whose frame comes next, by its number in the recording. Pings and the first frame are left out: links answer them.
/// The order between the two streams is not recorded; it follows from what the proxy knew when it answered.
const SCRIPT: &str = "C1 C2 W1 C3 W2 W3 C4 C5 W4 W5 C6 W6 W7 C7 W8 W9 C8 W10 W11 C9 W12 W13 C10 W14 C11 W15 W16 W17 \
                      C12 W18 C13 W19 C14 W20 W21 C15 C17 W23 C19 W25";

/// The account that proxy and worker of the recording belong to.
const OWNER: &str = "UQAuz15H1ZHrZ_psVrAra7HealMIVeFq0wguqlmFno1f3B-m";

/// What each request cost; the third was streamed, which the recorded worker did not count.
const COSTS: [u64; 7] = [200, 200, 0, 200, 200, 334, 334];

/// The messages of one recorded stream, by frame number.
fn recorded(name: &str) -> Option<Vec<Bytes>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/reference");
    let bytes = std::fs::read(folder.join(name)).ok()?;
    let number = |at: usize| -> usize { u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize };
    // Towards the proxy, a description of the peer comes first.
    let mut at = if name.contains("to_proxy") { 4 + number(0) } else { 0 };
    let mut messages = Vec::new();
    while at < bytes.len() {
        let len = number(at);
        messages.push(Bytes::copy_from_slice(&bytes[at + 8..at + 8 + len]));
        at += 8 + len;
    }
    Some(messages)
}

/// A message towards a peer: as answer to its query, or by itself.
#[derive(Debug, PartialEq)]
enum Said {
    Answer(Bytes),
    Packet(Bytes),
}

/// What a recorded proxy said, without signs of life.
fn said(frames: &[Bytes]) -> Vec<Said> {
    let said = frames.iter().filter_map(|frame| match wire::decode(frame).unwrap() {
        tcp::Packet::QueryAnswer { data, .. } => Some(Said::Answer(Bytes::copy_from_slice(data))),
        tcp::Packet::Packet { data } => Some(Said::Packet(Bytes::copy_from_slice(data))),
        tcp::Packet::Connected { .. } | tcp::Packet::Pong { .. } => None,
        other => panic!("unexpected {other:?}"),
    });
    said.collect()
}

struct Replay {
    world: World,
    client: LinkId,
    worker: LinkId,
    to_client: Vec<Said>,
    to_worker: Vec<Said>,
    /// Our names for requests, and theirs, in the order of forwarding.
    our_hops: Vec<[u8; 32]>,
    their_hops: Vec<[u8; 32]>,
}

impl Replay {
    fn feed(&mut self, link: LinkId, frame: &Bytes) {
        self.world.wait(Duration::from_millis(10));
        match wire::decode(frame).unwrap() {
            tcp::Packet::Query { data, .. } => {
                let answer = self.world.query_bytes(link, data).expect("the recorded proxy answered");
                let to = if link == self.client { &mut self.to_client } else { &mut self.to_worker };
                to.push(Said::Answer(answer));
            }
            tcp::Packet::Packet { data } if link == self.worker => {
                let message = self.with_our_names(data);
                self.world.packet_bytes(link, &message);
            }
            tcp::Packet::Packet { data } => self.world.packet_bytes(link, data),
            other => panic!("unexpected {other:?}"),
        }
        while let Some(message) = self.world.next_sent(self.client) {
            self.to_client.push(Said::Packet(message));
        }
        while let Some(message) = self.world.next_sent(self.worker) {
            if let Ok(worker::FromProxy::RunQueryEx(query)) = wire::decode(&message) {
                self.our_hops.push(query.request_id);
            }
            self.to_worker.push(Said::Packet(message));
        }
        assert_eq!((self.world.closed(self.client), self.world.closed(self.worker)), (None, None));
    }

    /// A recorded worker's message with the names that our core gave its requests.
    fn with_our_names(&self, message: &[u8]) -> Bytes {
        let ours = |name: &mut [u8; 32]| {
            let number = self.their_hops.iter().position(|theirs| theirs == name).unwrap();
            *name = self.our_hops[number];
        };
        let mut message: worker::ToProxy<'_> = wire::decode(message).unwrap();
        match &mut message {
            worker::ToProxy::QueryAnswerEx(answer) => ours(&mut answer.request_id),
            worker::ToProxy::QueryAnswerPartEx(answer) => ours(&mut answer.request_id),
            worker::ToProxy::EnabledDisabled(_) | worker::ToProxy::NewCoefficient(_) => {}
            other => panic!("unexpected {other:?}"),
        }
        wire::encode(&message)
    }
}

/// Signatures cannot be equal; that there is one, or none, must be.
fn masked_payment(payment: &mut SignedPayment<'_>) {
    if let SignedPayment::Payment { data } = payment {
        *data = b"signed";
    }
}

fn masked_params(params: &mut proxy::Params<'_>) {
    params.proxy_public_key = [0; 32];
    params.proxy_sc_address = "derived from the key".into();
}

/// Times of this proxy, in the head, in the final information, and in its notes.
fn masked_info(info: &mut Option<client::QueryFinalInfo<'_>>) {
    let Some(info) = info else { return };
    let times = info.times.as_mut().expect("version 2 carries times");
    (times.proxy_start_time, times.proxy_end_time) = (0.0, 0.0);
    if let Some(notes) = &mut info.debug {
        let json: serde_json::Value = serde_json::from_slice(notes.proxy_debug.as_bytes()).unwrap();
        let members: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["answer_receive_end_at", "answer_receive_start_at", "start_time", "type"]);
        notes.proxy_debug = "members are equal".into();
    }
}

fn masked_head(answer: &[u8]) -> Bytes {
    let mut response: http::Response<'_> = wire::decode(answer).unwrap();
    let stamps =
        response.headers.iter_mut().filter(|header| header.name.as_bytes().starts_with(b"X-Cocoon-Proxy-"));
    stamps.for_each(|stamp| stamp.value = "time".into());
    wire::encode(&response)
}

/// A refusal of any form as code and text.
fn refusal(message: &client::FromProxy<'_>) -> Option<(i32, String)> {
    match message {
        client::FromProxy::QueryAnswerError(error) => {
            // Deployed proxies leave out a space.
            let text = error.error.to_string_lossy().replace("for modelQwen", "for model Qwen");
            Some((error.error_code, text))
        }
        client::FromProxy::QueryAnswerEx(answer) => {
            let response: http::Response<'_> = wire::decode(answer.answer).unwrap();
            let code = response.headers.iter().find(|header| header.name == "X-Cocoon-Error-Code".into())?;
            let body: serde_json::Value = serde_json::from_slice(response.payload).unwrap();
            let text = body["error"]["message"].as_str().unwrap().to_owned();
            Some((code.value.to_str().unwrap().parse().unwrap(), text))
        }
        _ => None,
    }
}

/// What must be equal of a message to the client.
fn essence_for_client(said: &Said) -> String {
    let bytes = match said {
        Said::Packet(bytes) => {
            let mut message: client::FromProxy<'_> = wire::decode(bytes).unwrap();
            if let Some(refusal) = refusal(&message) {
                return format!("{refusal:?}");
            }
            match &mut message {
                client::FromProxy::QueryAnswerEx(answer) => {
                    masked_info(&mut answer.final_info);
                    let head = masked_head(answer.answer);
                    return hex::encode(wire::encode(&client::QueryAnswerEx {
                        answer: &head,
                        ..answer.clone()
                    }));
                }
                client::FromProxy::QueryAnswerPartEx(answer) => masked_info(&mut answer.final_info),
                client::FromProxy::ClientRequestPayment(payment) => {
                    masked_payment(&mut payment.signed_payment);
                    // How far the recorded proxy had written its database is a matter of time.
                    payment.db_tokens = 0;
                }
                other => panic!("unexpected {other:?}"),
            }
            return hex::encode(wire::encode(&message));
        }
        Said::Answer(bytes) => bytes,
    };
    if let Ok(mut connected) = wire::decode::<client::ConnectedToProxy<'_>>(bytes) {
        masked_params(&mut connected.params);
        connected.client_sc_address = "derived from the key".into();
        masked_payment(&mut connected.signed_payment);
        return hex::encode(wire::encode(&connected));
    }
    if let Ok(mut authorised) = wire::decode::<client::AuthorizationWithProxySuccess<'_>>(bytes) {
        masked_payment(&mut authorised.signed_payment);
        return hex::encode(wire::encode(&authorised));
    }
    if let Ok(mut status) = wire::decode::<client::PaymentStatus<'_>>(bytes) {
        masked_payment(&mut status.signed_payment);
        return hex::encode(wire::encode(&status));
    }
    hex::encode(bytes)
}

/// What must be equal of a message to the worker. `hops` are the sender's names for requests.
fn essence_for_worker(said: &Said, hops: &[[u8; 32]]) -> String {
    let numbered = |name: &mut [u8; 32]| {
        let number = hops.iter().position(|hop| hop == name).expect("a known request");
        *name = [u8::try_from(number).unwrap(); 32];
    };
    match said {
        Said::Packet(bytes) => {
            let mut message: worker::FromProxy<'_> = wire::decode(bytes).unwrap();
            match &mut message {
                worker::FromProxy::RunQueryEx(query) => {
                    numbered(&mut query.request_id);
                    masked_payment(&mut query.signed_payment);
                }
                worker::FromProxy::WorkerRequestPayment(payment) => {
                    numbered(&mut payment.request_id);
                    masked_payment(&mut payment.signed_payment);
                    payment.db_tokens = 0;
                }
                other => panic!("unexpected {other:?}"),
            }
            hex::encode(wire::encode(&message))
        }
        Said::Answer(bytes) => {
            if let Ok(mut connected) = wire::decode::<worker::ConnectedToProxy<'_>>(bytes) {
                masked_params(&mut connected.params);
                connected.worker_sc_address = "derived from the key".into();
                return hex::encode(wire::encode(&connected));
            }
            if let Ok(mut compared) = wire::decode::<worker::CompareBalanceWithProxyResult<'_>>(bytes) {
                masked_payment(&mut compared.signed_payment);
                return hex::encode(wire::encode(&compared));
            }
            if let Ok(mut status) = wire::decode::<worker::PaymentStatus<'_>>(bytes) {
                masked_payment(&mut status.signed_payment);
                return hex::encode(wire::encode(&status));
            }
            hex::encode(bytes)
        }
    }
}

fn recorded_world() -> World {
    let (proxy_owner, _flags) = Address::parse(OWNER).unwrap();
    let mut root = RootConfig::pseudo(owner(1));
    root.version = ConfigVersion::new(3);
    root.params.price_per_token = NanoTon::new(2);
    root.params.worker_fee_per_token = NanoTon::new(1);
    let terms = Terms::new(root, &owner(2), &proxy_owner, owner(4), key(), false, false).unwrap();
    World::with(terms, Limits::default())
}

#[test]
fn deployed_peers_find_what_they_know() {
    let files =
        ["client.to_proxy.bin", "client.from_proxy.bin", "worker.to_proxy.bin", "worker.from_proxy.bin"];
    let [Some(client_says), Some(client_hears), Some(worker_says), Some(worker_hears)] = files.map(recorded)
    else {
        println!("skipped: the recorded conversations are not beside this checkout");
        return;
    };
    let (client_heard, worker_heard) = (said(&client_hears), said(&worker_hears));
    let their_hops = worker_heard.iter().filter_map(|said| match said {
        Said::Packet(bytes) => match wire::decode(bytes).unwrap() {
            worker::FromProxy::RunQueryEx(query) => Some(query.request_id),
            _ => None,
        },
        Said::Answer(_) => None,
    });
    let their_hops: Vec<_> = their_hops.collect();

    let mut world = recorded_world();
    let (client, worker) = (world.open_client(), world.open_worker(PeerFacts::default()));
    let (to_client, to_worker, our_hops) = (Vec::new(), Vec::new(), Vec::new());
    let mut replay = Replay { world, client, worker, to_client, to_worker, our_hops, their_hops };
    for turn in SCRIPT.split_whitespace() {
        let number: usize = turn[1..].parse().unwrap();
        match &turn[..1] {
            "C" => replay.feed(client, &client_says[number]),
            _ => replay.feed(worker, &worker_says[number]),
        }
    }

    assert_eq!(replay.to_client.len(), client_heard.len());
    for (number, (ours, theirs)) in replay.to_client.iter().zip(&client_heard).enumerate() {
        assert_eq!(essence_for_client(ours), essence_for_client(theirs), "message {number} to the client");
    }
    assert_eq!(replay.to_worker.len(), worker_heard.len());
    for (number, (ours, theirs)) in replay.to_worker.iter().zip(&worker_heard).enumerate() {
        let ours = essence_for_worker(ours, &replay.our_hops);
        assert_eq!(ours, essence_for_worker(theirs, &replay.their_hops), "message {number} to the worker");
    }

    let answered = replay.world.reports.iter().filter(|report| report.outcome == Outcome::Success);
    let costs: Vec<_> = answered.map(|report| report.charged.total().unwrap().get()).collect();
    assert_eq!(costs, COSTS);
    let snapshot = replay.world.snapshot();
    let total = COSTS.iter().sum::<u64>();
    assert_eq!(snapshot.clients[0].limits.used.get(), total);
    assert_eq!(snapshot.workers[0].earned.get(), total);
    assert_eq!(snapshot.totals.charged.get(), 2 * total);
    assert_eq!(snapshot.totals.earned.get() + snapshot.totals.fees.get(), 2 * total);
}
