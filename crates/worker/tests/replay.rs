//! The proxy's side of a recorded conversation between deployed programs, played to our worker: it must say what the
//! deployed worker said, up to random ids, times, and the points where it is better on purpose.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use cocoon_worker::{Config, ModelConfig};
use serde_json::{Value, json};
use support::setup::Setup;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use units::ProtocolVersion;
use wire::frame::{FrameReader, FrameWriter, PAYLOAD_LEN_MAX};
use wire::tcp::Packet;
use wire::worker::ToProxy;
use wire::{StatusCode, worker};

/// What the recorded worker offered; its root configuration follows below.
const MODEL: &str =
    "Qwen/Qwen3-8B@abc123def456:0000000000000000000000000000000000000000000000000000000000000000";
const OWNER: &str = "UQAuz15H1ZHrZ_psVrAra7HealMIVeFq0wguqlmFno1f3B-m";
const ROOT: &str = "EQBT4hy4vMEZ9uxSCuhw_gBKh9_AwmHXLe7Wo0O4Vh-4kRjJ";

/// The recordings live beside the repository, not in it.
fn recording(name: &str) -> Option<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/reference");
    match fs::read(folder.join(name)) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            eprintln!("skipped: no recording {name} ({error})");
            None
        }
    }
}

fn payloads(stream: &[u8]) -> VecDeque<Bytes> {
    let (mut stream, mut reader) = (BytesMut::from(stream), FrameReader::new(PAYLOAD_LEN_MAX));
    let mut payloads = VecDeque::new();
    while let Some(payload) = reader.next_frame(&mut stream).unwrap() {
        payloads.push_back(payload);
    }
    payloads
}

/// A code known by hash and depth only: a pruned branch, as a bag of one cell.
fn code(hash: &str, depth: u8) -> String {
    format!("b5ee9c720101010100260028480101{}00{depth:02x}", hash.to_lowercase())
}

fn root_config() -> Value {
    json!({
        "root_owner_address": "UQBgPMq7ye2WRcudRHK_-yjHwMXjeN-UCzAuoo06TR6hmrpf",
        "proxy_hashes": ["ProxyProxyProxyProxyProxyProxyProxyProxyPro="],
        "worker_hashes": ["WorkerWorkerWorkerWorkerWorkerWorkerWorkerU="],
        "registered_proxies": [{"seqno": 1, "address": "[127.0.0.1:11001] [127.0.0.1:11002]"}],
        "price_per_token": 2,
        "worker_fee_per_token": 1,
        "last_proxy_seqno": 1,
        "version": 3,
        "params_version": 1,
        "proxy_sc_code": code("532E707649E4161BE4D816E2B6F97F82E602855A4CD3475883028D054C6E72EF", 4),
        "worker_sc_code": code("657CB7CA586D77E88066EFFADF10F3EDDEA7D3487E809220E770D9DC4E596023", 2),
        "client_sc_code": code("5D8A54E4462DD52F747BAE8C1EDCA819FD2F462BE05C1FC595CC2A34E6B18C44", 5),
    })
}

/// A recorded query with the one thing that is new: we offer a version more.
fn as_of_today(query: &[u8]) -> Bytes {
    match wire::decode(query).unwrap() {
        worker::Query::ConnectToProxy(mut connect) => {
            let range = connect.params.proto_range.as_mut().unwrap();
            assert_eq!(range.max_proto_version, ProtocolVersion::V2.number());
            range.max_proto_version = ProtocolVersion::LATEST.number();
            wire::encode(&connect)
        }
        _ => Bytes::copy_from_slice(query),
    }
}

/// The recorded proxy, reached through a router as the recorded worker did.
struct Proxy {
    stream: TcpStream,
    reader: FrameReader,
    writer: FrameWriter,
    buffer: BytesMut,
}

impl Proxy {
    /// Plays the router: SOCKS5, and the header about the peer.
    async fn accept(router: &TcpListener, peer_header: &[u8]) -> Self {
        let (mut stream, _) = router.accept().await.unwrap();
        let mut greeting = [0; 3];
        stream.read_exact(&mut greeting).await.unwrap();
        stream.write_all(&[5, 0]).await.unwrap();
        let mut request = [0; 10];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(
            request,
            [5, 1, 0, 1, 127, 0, 0, 1, 0x2a, 0xf9],
            "workers use the first address, port 11001"
        );
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
        stream.write_all(peer_header).await.unwrap();
        let reader = FrameReader::new(PAYLOAD_LEN_MAX);
        Self { stream, reader, writer: FrameWriter::new(), buffer: BytesMut::new() }
    }

    async fn send(&mut self, packet: &Packet<'_>) {
        let mut out = BytesMut::new();
        self.writer.write(packet, &mut out).unwrap();
        self.stream.write_all(&out).await.unwrap();
    }

    /// The next frame that is not about the passing of time.
    async fn next(&mut self) -> Bytes {
        loop {
            let Some(payload) = self.reader.next_frame(&mut self.buffer).unwrap() else {
                assert_ne!(self.stream.read_buf(&mut self.buffer).await.unwrap(), 0, "the worker closed");
                continue;
            };
            match wire::decode(&payload).unwrap() {
                Packet::Ping { id } => self.send(&Packet::Pong { id }).await,
                Packet::Query { id, data } if is_payment_poll(data) => {
                    let code = StatusCode::NOT_READY.code();
                    self.send(&Packet::QueryError { id, code, message: "later".into() }).await;
                }
                _ => return payload,
            }
        }
    }
}

fn is_payment_poll(query: &[u8]) -> bool {
    matches!(wire::decode(query), Ok(worker::Query::UpdatePaymentStatus(_)))
}

/// A whole answer to one request.
#[derive(Debug)]
struct Answer {
    status: i32,
    /// Sorted, names in lower case, without times and without what belongs to one connection.
    headers: Vec<(String, String)>,
    body: String,
    tokens: [i64; 5],
    debug: Option<Value>,
    has_times: bool,
}

/// Puts an answer together from the messages that `next` gives.
async fn answer(mut next: impl AsyncFnMut() -> Bytes, request_id: [u8; 32]) -> Answer {
    let mut answer = None;
    loop {
        let payload = next().await;
        let Packet::Packet { data } = wire::decode(&payload).unwrap() else { panic!("no answer") };
        let info = match wire::decode(data).unwrap() {
            ToProxy::QueryAnswerEx(head) => {
                assert!(answer.is_none() && head.request_id == request_id);
                answer = Some(answer_head(head.answer));
                head.final_info
            }
            ToProxy::QueryAnswerPartEx(part) => {
                assert_eq!(part.request_id, request_id);
                let text = std::str::from_utf8(part.answer).unwrap();
                answer.as_mut().expect("the head comes first").body.push_str(text);
                part.final_info
            }
            other => panic!("{other:?}"),
        };
        if let Some(info) = info {
            let used = &info.tokens_used;
            let mut answer: Answer = answer.unwrap();
            answer.tokens = [
                used.prompt_tokens_used,
                used.cached_tokens_used,
                used.completion_tokens_used,
                used.reasoning_tokens_used,
                used.total_tokens_used,
            ];
            answer.debug = info.worker_debug.map(|it| serde_json::from_slice(it.as_bytes()).unwrap());
            answer.has_times = info.times.is_some();
            return answer;
        }
    }
}

fn answer_head(response: &[u8]) -> Answer {
    let response: wire::http::Response<'_> = wire::decode(response).unwrap();
    assert_eq!((response.http_version.to_str(), response.reason.to_str()), (Ok("HTTP/1.1"), Ok("OK")));
    assert!(response.payload.is_empty());
    let mut headers: Vec<(String, String)> = response
        .headers
        .iter()
        .map(|it| (it.name.to_str().unwrap().to_lowercase(), it.value.to_str().unwrap().to_owned()))
        .collect();
    for (name, value) in &mut headers {
        if name == "date" || name.starts_with("x-cocoon-worker-") {
            value.clear();
        }
    }
    // The deployed worker lets two headers of the engine's connection through.
    headers.retain(|(name, _)| name != "connection");
    headers.sort_unstable();
    headers.dedup();
    let status = response.status_code;
    Answer { status, headers, body: String::new(), tokens: [0; 5], debug: None, has_times: false }
}

/// The JSON values of a body: one, or one for each event.
fn values(body: &str, with_costs: bool) -> Vec<Value> {
    let texts: Vec<&str> = match body.starts_with("data: ") {
        true => body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect(),
        false => vec![body],
    };
    let mut values: Vec<Value> =
        texts.iter().map(|text| serde_json::from_str(text).unwrap_or_else(|_| json!(text))).collect();
    for value in &mut values {
        if let (false, Some(Value::Object(usage))) = (with_costs, value.get_mut("usage")) {
            usage.retain(|name, _| !name.ends_with("_cost"));
        }
    }
    values
}

/// What the recorded engine must have answered: the recorded body without what the worker added.
fn engine_body(recorded: &str) -> String {
    match recorded.starts_with("data: ") {
        true => recorded.to_owned(),
        false => values(recorded, false)[0].to_string(),
    }
}

fn member_names(value: &Value, path: &str, names: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                names.push(format!("{path}.{name}"));
                member_names(member, &format!("{path}.{name}"), names);
            }
        }
        Value::Array(items) => {
            items.iter().take(1).for_each(|item| member_names(item, &format!("{path}[]"), names));
        }
        _ => {}
    }
}

#[tokio::test]
async fn our_worker_says_what_the_recorded_worker_said() {
    let (Some(to_proxy), Some(from_proxy)) =
        (recording("worker.to_proxy.bin"), recording("worker.from_proxy.bin"))
    else {
        return;
    };
    let header_len = 4 + u32::from_le_bytes(*to_proxy.first_chunk().unwrap()) as usize;
    let (peer_header, to_proxy) = to_proxy.split_at(header_len);
    let (mut recorded, mut script) = (payloads(to_proxy), payloads(&from_proxy));

    let mut setup = Setup::new().await;
    let router = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = setup.config();
    fs::write(&config.root_config, root_config().to_string()).unwrap();
    config = Config {
        root_address: ROOT.to_owned(),
        owner_address: OWNER.to_owned(),
        router: Some(router.local_addr().unwrap()),
        models: vec![ModelConfig { name: MODEL.to_owned(), max_active_requests: 60, ..setup.model() }],
        ..config
    };
    let program = cocoon_worker::start(config).await.unwrap();
    while program.missing().iter().any(|it| it.contains("engine")) {
        tokio::task::yield_now().await;
    }
    let mut proxy = Proxy::accept(&router, peer_header).await;

    let mut answered = Vec::new();
    while let Some(frame) = recorded.pop_front() {
        match wire::decode(&frame).unwrap() {
            Packet::Connect { .. } => {
                let ours = proxy.next().await;
                let Packet::Connect { id } = wire::decode(&ours).unwrap() else { panic!("no hello") };
                script.pop_front();
                proxy.send(&Packet::Connected { id }).await;
            }
            Packet::Ping { .. } => {}
            // Polls come when the clock says so; ours may come at other places.
            Packet::Query { data, .. } if is_payment_poll(data) => {}
            Packet::Query { data, .. } => {
                let ours = proxy.next().await;
                let Packet::Query { id, data: ours } = wire::decode(&ours).unwrap() else {
                    panic!("no query")
                };
                assert!(
                    ours == as_of_today(data),
                    "another query: {:?}",
                    wire::decode::<worker::Query<'_>>(ours)
                );
                let answer = script.pop_front().unwrap();
                let Packet::QueryAnswer { data, .. } = wire::decode(&answer).unwrap() else {
                    panic!("no answer")
                };
                proxy.send(&Packet::QueryAnswer { id, data }).await;
            }
            Packet::Packet { data } => match wire::decode(data).unwrap() {
                ToProxy::QueryAnswerEx(head) => {
                    let request_id = head.request_id;
                    next_request(&mut proxy, &mut script).await;
                    recorded.push_front(frame.clone());
                    let theirs = answer(async || recorded.pop_front().unwrap(), request_id).await;
                    let content_type =
                        &theirs.headers.iter().find(|(name, _)| name == "content-type").unwrap().1;
                    let prompt = setup.engine.next_prompt().await;
                    let writer = prompt.answer(u16::try_from(theirs.status).unwrap(), content_type);
                    writer.write(&engine_body(&theirs.body)).await;
                    drop(writer);
                    let ours = answer(async || proxy.next().await, request_id).await;
                    compare(&ours, &theirs);
                    answered.push(ours);
                }
                ToProxy::NewCoefficient(it) => {
                    let coefficient = f64::from(it.new_coefficient) / 1000.0;
                    setup
                        .act(&program, &format!("/request/change_coefficient?coefficient={coefficient}"))
                        .await;
                    assert_same(&mut proxy, data).await;
                }
                ToProxy::EnabledDisabled(it) => {
                    let action = if it.disabled == 1 { "disable" } else { "enable" };
                    setup.act(&program, &format!("/request/{action}")).await;
                    assert_same(&mut proxy, data).await;
                }
                other => panic!("the recording holds {other:?}"),
            },
            other => panic!("the recording holds {other:?}"),
        }
    }
    // What the recorded proxy said last: the settlement of the last request.
    settle(&mut proxy, &mut script).await;

    // The deployed worker bills server-sent events as nothing; ours bills what their usage says.
    let totals: Vec<i64> = answered.iter().map(|answer| answer.tokens[4]).collect();
    assert_eq!(totals, [200, 200, 201, 200, 200, 334, 334]);
    check_statistics(&setup, &program).await;
}

/// Sends what the recorded proxy sent up to and including its next request.
async fn next_request(proxy: &mut Proxy, script: &mut VecDeque<Bytes>) {
    settle(proxy, script).await;
    let request = without_limit(&script.pop_front().unwrap());
    proxy.send(&wire::decode(&request).unwrap()).await;
}

/// The recorded engine went beyond the limits of its requests and was paid for it. Our worker lets no engine do that, so
/// the limit gets another name of the same length here: everything else then has to agree.
fn without_limit(request: &[u8]) -> Vec<u8> {
    let (limit, other) = (b"\"max_tokens\"", b"\"any_tokens\"");
    let mut request = request.to_owned();
    if let Some(at) = request.windows(limit.len()).position(|window| window == limit) {
        request[at..at + limit.len()].copy_from_slice(other);
    }
    request
}

/// Sends what the recorded proxy sent before its next request.
async fn settle(proxy: &mut Proxy, script: &mut VecDeque<Bytes>) {
    while let Some(frame) = script.front().cloned() {
        // Answers to pings and polls are not repeated.
        if let Packet::Packet { data } = wire::decode(&frame).unwrap() {
            if let worker::FromProxy::RunQueryEx(_) = wire::decode(data).unwrap() {
                return;
            }
            proxy.send(&Packet::Packet { data }).await;
        }
        script.pop_front();
    }
}

async fn assert_same(proxy: &mut Proxy, theirs: &[u8]) {
    let ours = proxy.next().await;
    let Packet::Packet { data } = wire::decode(&ours).unwrap() else { panic!("no packet") };
    assert!(data == theirs, "another message: {:?}", wire::decode::<ToProxy<'_>>(data));
}

fn compare(ours: &Answer, theirs: &Answer) {
    assert_eq!(
        (ours.status, &ours.headers, ours.has_times),
        (theirs.status, &theirs.headers, theirs.has_times)
    );
    let is_stream = theirs.body.starts_with("data: ");
    assert_eq!(values(&ours.body, !is_stream), values(&theirs.body, !is_stream));
    if !is_stream {
        assert_eq!(ours.tokens, theirs.tokens);
    }
    let names = |debug: &Option<Value>| {
        let mut names = Vec::new();
        debug.iter().for_each(|debug| member_names(debug, "", &mut names));
        names
    };
    assert_eq!(names(&ours.debug), names(&theirs.debug));
}

async fn check_statistics(setup: &Setup, program: &cocoon_worker::Worker) {
    let Some(recorded) = recording("jsonstats-12000.json") else { return };
    let recorded: Value = serde_json::from_slice(&recorded).unwrap();
    // The last settlement is on its way.
    let ours = loop {
        let (_status, body) = setup.http(program, "GET", "/jsonstats", None).await;
        let ours: Value = serde_json::from_str(&body).unwrap();
        if ours["proxies"][0]["earned_tokens_max_known"] == recorded["proxies"][0]["earned_tokens_max_known"]
        {
            break ours;
        }
    };
    let (mut names, mut our_names) = (Vec::new(), Vec::new());
    member_names(&recorded, "", &mut names);
    member_names(&ours, "", &mut our_names);
    for name in names {
        assert!(our_names.contains(&name), "{name} is missing");
    }
    assert_eq!(ours["localconfig"], recorded["localconfig"]);
    assert_eq!(ours["root_contract_config"], recorded["root_contract_config"]);
    for member in
        ["proxy_sc_address", "proxy_public_key", "sc_address", "earned_tokens_max_known", "params_version"]
    {
        assert_eq!(ours["proxies"][0][member], recorded["proxies"][0][member], "{member}");
    }
    for row in ["queries", "success", "failed", "bytes_received"] {
        assert_eq!(ours["stats"][row][0], recorded["stats"][row][0], "{row}");
    }
}
