//! The program over real sockets, with a scripted proxy behind a real listener.

use std::collections::BTreeSet;
use std::net::{SocketAddr, SocketAddrV4};

use bytes::Bytes;
use node::{EvidenceConfig, SimulatedConfig};
use sim::{Firmware, Guest, Publication, Vendor};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use ton::RootConfig;
use transport::identity::IdentitySource;
use transport::{LinkEvent, ListenConfig, ListenMode, Listener};
use wire::client::QueryAnswerErrorEx;

use super::*;
use crate::testing::{Network, Proxy, Received, final_info, first, head, part};
use crate::{ChatRequest, ErrorKind};

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const ANSWER: &str = r#"{"choices":[{"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":34,"completion_tokens":100}}"#;

async fn listen() -> (Listener, SocketAddrV4) {
    let mode = ListenMode::Tls { identity: IdentitySource::generated(), appraiser: None, pow_difficulty: 0 };
    let listener =
        Listener::bind("127.0.0.1:0".parse().unwrap(), ListenConfig { mode, ..ListenConfig::default() })
            .await
            .unwrap();
    let SocketAddr::V4(address) = listener.local_addr() else { panic!("asked for IPv4") };
    (listener, address)
}

/// An address on which nobody listens, and nobody begins to while the socket is held.
fn dead_end() -> (TcpSocket, SocketAddrV4) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let SocketAddr::V4(address) = socket.local_addr().unwrap() else { panic!("asked for IPv4") };
    (socket, address)
}

/// Accepts one client and serves it with `script`, one call for each request.
async fn serve(network: &Network, listener: &mut Listener, script: impl Fn(&Proxy<'_>, Received)) {
    let (link, events) = listener.accept().await.unwrap();
    let mut proxy = Proxy::new(network, link, events, Some(2));
    proxy.handshake().await;
    while let Some(received) = proxy.next_request().await {
        script(&proxy, received);
    }
}

/// Runs `work` against a client program whose proxy follows `script`.
async fn with_program<T>(
    script: impl Fn(&Proxy<'_>, Received),
    work: impl AsyncFnOnce(SocketAddr, &Client) -> T,
) -> T {
    let (mut listener, address) = listen().await;
    let network = Network::new(&[address]);
    let running = start(network.config()).await.unwrap();
    let working = async {
        running.client().ready().await;
        work(running.http_address(), running.client()).await
    };
    let outcome = tokio::select! {
        outcome = working => outcome,
        () = serve(&network, &mut listener, script) => panic!("the client left"),
    };
    running.shutdown().await;
    outcome
}

async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let len = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n");
    socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_owned(), body.to_owned())
}

async fn chat(address: SocketAddr, body: &str) -> (u16, String, String) {
    ask(address, "POST", "/v1/chat/completions", body).await
}

fn answer_all(proxy: &Proxy<'_>, received: Received) {
    proxy.send(&first(received.id, &head(200, JSON, ANSWER.as_bytes()), true));
}

#[tokio::test]
async fn the_api_and_the_pages_stand_on_one_port() {
    let script = |proxy: &Proxy<'_>, received: Received| answer_all(proxy, received);
    with_program(script, async |http, _client| {
        while ask(http, "GET", "/readyz", "").await.0 != 200 {
            tokio::task::yield_now().await;
        }
        let (status, head, body) =
            chat(http, r#"{"model":"m","request_guid":"g 1","enable_debug":true}"#).await;
        assert_eq!(status, 200, "{body}");
        assert!(head.contains("x-request-id: ") && head.contains("x-cocoon-client-start: "));
        assert!(body.contains("\"debug\":{"));
        let (_, _, kept) = ask(http, "GET", "/request/debuglogentry?request_guid=g%201", "").await;
        assert!(kept.starts_with('{') && body.contains(&kept));
        assert_eq!(ask(http, "GET", "/request/debuglogentry?request_guid=other", "").await.2, "{}");
        assert_eq!(ask(http, "GET", "/request/debuglogentry", "").await.2, "{}");

        assert_eq!(ask(http, "GET", "/healthz", "").await.0, 200);
        let (_, _, models) = ask(http, "GET", "/v1/models", "").await;
        assert!(models.contains("\"id\":\"m\"") && models.contains("\"coefficient\":1500"));
        let (_, _, metrics) = ask(http, "GET", "/metrics", "").await;
        assert!(metrics.contains("cocoon_client_requests_total{outcome=\"success\"} 1"), "{metrics}");
        assert!(metrics.contains("cocoon_client_adjusted_tokens_total 200"));
        let (status, _, body) = ask(http, "GET", "/nowhere", "").await;
        assert!(status == 404 && body.contains("unknown_url"));
        let (status, _, _) = ask(http, "POST", "/request/close", "").await;
        assert_eq!(status, 404, "nothing to close without a chain");
    })
    .await;
}

#[tokio::test]
async fn statistics_have_the_members_of_the_deployed_network() {
    let script = |proxy: &Proxy<'_>, received: Received| answer_all(proxy, received);
    let stats = with_program(script, async |http, _client| {
        chat(http, r#"{"model":"m"}"#).await;
        let (status, _, body) = ask(http, "GET", "/jsonstats", "").await;
        assert_eq!(status, 200);
        serde_json::from_str::<Value>(&body).unwrap()
    })
    .await;
    assert_eq!(stats["stats"]["queries"][0], 1.0);
    assert_eq!(stats["stats"]["success"][0], 1.0);
    assert_eq!(stats["stats"]["failed"][0], 0.0);
    assert_eq!(stats["stats"]["bytes_received"][0], 13.0);
    assert_eq!(stats["stats"]["bytes_sent"][0], ANSWER.len() as f64);
    assert_eq!(stats["proxy_connections"][0]["is_ready"], true);
    assert_eq!(stats["proxies"][0]["tokens_payed"], 2_000_000_000_000_u64);
    let recorded = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/vectors/reference/jsonstats-10000.json");
    let Ok(recorded) = std::fs::read_to_string(&recorded) else {
        println!("skipped: no recorded statistics at {}", recorded.display());
        return;
    };
    let recorded: Value = serde_json::from_str(&recorded).unwrap();
    for (name, member) in recorded.as_object().unwrap() {
        let ours = &stats[name];
        let (ours, member) = match member {
            Value::Array(entries) => (&ours[0], &entries[0]),
            _ => (ours, member),
        };
        for key in member.as_object().unwrap().keys().filter(|key| !key.starts_with("git_")) {
            assert!(ours.get(key).is_some(), "{name}.{key} is missing");
        }
    }
}

#[tokio::test]
async fn requests_are_in_flight_until_their_answer_is_out_or_nobody_waits() {
    let script = |proxy: &Proxy<'_>, received: Received| match received.model.as_str() {
        "open" => proxy.send(&first(received.id, &head(200, EVENTS, b"data: 1\n\n"), false)),
        _ => answer_all(proxy, received),
    };
    with_program(script, async |http, _client| {
        let in_flight = async || {
            let (_, _, body) = ask(http, "GET", "/jsonstats", "").await;
            let stats: Value = serde_json::from_str(&body).unwrap();
            stats["status"]["requests_in_flight"].as_i64().unwrap()
        };
        assert_eq!(in_flight().await, 0);
        let body = r#"{"model":"open","stream":true}"#;
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut socket = TcpStream::connect(http).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"data: 1\n\n\r\n") {
            assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0);
        }
        assert_eq!(in_flight().await, 1);
        assert_eq!(chat(http, r#"{"model":"m"}"#).await.0, 200);
        assert_eq!(in_flight().await, 1);
        assert!(ask(http, "GET", "/metrics", "").await.2.contains("cocoon_client_requests_in_flight 1"));
        drop(socket);
        while in_flight().await != 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn every_error_ends_the_http_request() {
    let script = |proxy: &Proxy<'_>, received: Received| {
        let request_id = received.id;
        let refuse = |error_code, text: &'static str| {
            proxy.send(&QueryAnswerErrorEx {
                request_id,
                error_code,
                error: text.into(),
                final_info: Some(final_info()),
            });
        };
        match received.model.as_str() {
            "unknown" => refuse(621, "unknown model unknown"),
            "busy" => refuse(651, "no ready workers for modelbusy"),
            "poor" => refuse(602, "client balance is too low"),
            "head" => proxy.send(&part(request_id, b"a part without a head", false)),
            "silent" => {}
            "cut" => {
                proxy.send(&first(request_id, &head(200, EVENTS, b"data: 1\n\n"), false));
                refuse(653, "worker connection lost");
            }
            "cut-json" => {
                proxy.send(&first(request_id, &head(200, JSON, b"{\"a\":"), false));
                refuse(653, "worker connection lost");
            }
            "refused" => proxy.send(&first(request_id, &head(422, JSON, b"{\"detail\":1}"), true)),
            other => panic!("{other}"),
        }
    };
    with_program(script, async |http, _client| {
        for (model, status, code) in [
            ("unknown", 404, "model_not_found"),
            ("busy", 503, "no_ready_worker"),
            ("poor", 402, "insufficient_quota"),
            ("head", 502, "peer_misbehaved"),
            ("silent", 504, "timeout"),
            ("cut-json", 502, "worker_lost"),
        ] {
            // Only what nobody answers ends by its time.
            let timeout = if model == "silent" { 0.2 } else { 600.0 };
            let (got, _, body) = chat(http, &format!(r#"{{"model":"{model}","timeout":{timeout}}}"#)).await;
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!((got, body["error"]["code"].as_str()), (status, Some(code)), "{model}");
        }
        let (status, _, body) = chat(http, r#"{"model":"cut","stream":true}"#).await;
        assert_eq!(status, 200);
        assert!(body.contains("data: 1\n\n") && body.contains("\"code\":\"worker_lost\""), "{body}");
        assert!(!body.ends_with("0\r\n\r\n"));
        let (status, _, body) = chat(http, r#"{"model":"refused"}"#).await;
        assert_eq!((status, body.as_str()), (422, "{\"detail\":1}"));
    })
    .await;
}

#[tokio::test]
async fn without_a_proxy_requests_fail_at_once_and_readiness_says_why() {
    let (_held, address) = dead_end();
    let running = start(Network::new(&[address]).config()).await.unwrap();
    let http = running.http_address();
    let (status, head, body) = chat(http, r#"{"model":"m"}"#).await;
    assert_eq!(status, 503);
    assert!(head.contains("retry-after: 2") && body.contains("proxy_unavailable"));
    let (status, _, body) = ask(http, "GET", "/readyz", "").await;
    assert!(status == 503 && body.contains("a ready proxy"), "{body}");
    assert_eq!(ask(http, "GET", "/v1/models", "").await.0, 503);
    running.shutdown().await;
}

#[tokio::test]
async fn a_client_reconnects_and_goes_on() {
    let (mut listener, address) = listen().await;
    let network = Network::new(&[address]);
    let client = Client::open(network.config()).await.unwrap();
    for _ in 0..2 {
        let (link, events) = listener.accept().await.unwrap();
        let mut proxy = Proxy::new(&network, link, events, Some(2));
        proxy.handshake().await;
        client.ready().await;
        let request = ChatRequest::new("m").user("hello");
        let (answer, ()) = tokio::join!(client.chat(&request), async {
            let received = proxy.next_request().await.unwrap();
            answer_all(&proxy, received);
        });
        assert_eq!(answer.unwrap().text, "hi");
        proxy.link.close("restart");
        while proxy.next_request().await.is_some() {}
    }
    client.shutdown().await;
}

#[tokio::test]
async fn chats_come_back_as_text_usage_and_cost() {
    let script = |proxy: &Proxy<'_>, received: Received| {
        assert!(received.body.contains(
            r#""messages":[{"role":"system","content":"be brief"},{"role":"user","content":"hello"}]"#
        ));
        let request_id = received.id;
        if !received.body.contains("\"stream\":true") {
            return answer_all(proxy, received);
        }
        let events = [
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"h\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"i\"},",
            "\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n",
        ];
        proxy.send(&first(request_id, &head(200, EVENTS, b""), false));
        for event in events {
            proxy.send(&part(request_id, event.as_bytes(), false));
        }
        if received.max_tokens == 7 {
            let error = "data: {\"error\":{\"message\":\"out of memory\"}}\n\n";
            proxy.send(&part(request_id, error.as_bytes(), true));
        } else if received.max_tokens == 8 {
            proxy.send(&part(request_id, b"", true));
        } else {
            proxy.send(&part(request_id, b"data: [DONE]\n\n", true));
        }
    };
    with_program(script, async |_http, client| {
        let request = ChatRequest::new("m").system("be brief").user("hello");
        let answer = client.chat(&request).await.unwrap();
        assert_eq!((answer.text.as_str(), answer.finish_reason.as_deref()), ("hi", Some("stop")));
        assert_eq!(answer.usage.unwrap().completion.get(), 100);
        assert_eq!(answer.cost.unwrap().price.get(), 400);

        let mut stream = client.chat_stream(&request).await.unwrap();
        let mut pieces = Vec::new();
        while let Some(piece) = stream.next().await.unwrap() {
            pieces.push(piece);
        }
        assert_eq!(pieces, ["h", "i"]);
        assert_eq!((stream.finish_reason(), stream.usage().unwrap().prompt.get()), (Some("stop"), 3));
        assert_eq!(stream.cost().unwrap().tokens.get(), 200);

        for (limit, kind) in [(7, ErrorKind::EngineRefused), (8, ErrorKind::StreamCut)] {
            let mut stream = client.chat_stream(&request.clone().max_tokens(limit)).await.unwrap();
            let error = loop {
                match stream.next().await {
                    Ok(Some(_piece)) => {}
                    Ok(None) => panic!("took a cut stream for complete"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), kind);
            assert!(stream.next().await.unwrap().is_none());
        }
    })
    .await;
}

#[tokio::test]
async fn refusals_of_engines_and_proxies_are_told_apart() {
    let script = |proxy: &Proxy<'_>, received: Received| {
        let body = Bytes::from_static(b"{\"error\":{\"message\":\"no ready workers for modelm\"}}");
        let code = (received.model == "proxy").then_some("651");
        let header = |name: &'static str, value: &'static str| wire::http::Header {
            name: name.into(),
            value: value.into(),
        };
        let answer = wire::encode(&wire::http::Response {
            http_version: "HTTP/1.1".into(),
            status_code: 503,
            reason: "".into(),
            headers: code.into_iter().map(|code| header("X-Cocoon-Error-Code", code)).collect(),
            payload: &body,
        });
        proxy.send(&first(received.id, &answer, true));
    };
    with_program(script, async |_http, client| {
        let engine = client.chat(&ChatRequest::new("m").user("hello")).await.unwrap_err();
        assert_eq!((engine.kind(), engine.status().as_u16()), (ErrorKind::EngineRefused, 503));
        let proxy = client.chat(&ChatRequest::new("proxy").user("hello")).await.unwrap_err();
        assert_eq!(proxy.kind(), ErrorKind::NoReadyWorker);
        let stream = client.chat_stream(&ChatRequest::new("proxy").user("hello")).await.err().unwrap();
        assert_eq!(stream.kind(), ErrorKind::NoReadyWorker);
    })
    .await;
}

#[tokio::test]
async fn connecting_waits_for_a_proxy_or_says_what_is_wrong() {
    let (_held, address) = dead_end();
    let mut timeout = std::time::Duration::from_millis(100);
    loop {
        let network = Network::new(&[address]);
        let Err(error) = Client::connect(Config { timeout, ..network.config() }).await else {
            panic!("connected to nobody")
        };
        let (told, seconds) = (error.to_string(), timeout.as_secs());
        let problem = told.strip_prefix(&format!("no proxy became ready within {seconds} s: ")).unwrap();
        // Nothing is wrong yet where the time was over before the first attempt was, on a busy machine.
        if !problem.is_empty() {
            assert!(problem.starts_with("TCP connect"), "{told}");
            break;
        }
        timeout *= 2;
    }

    let (mut listener, address) = listen().await;
    let network = Network::new(&[address]);
    let served = async {
        let (link, events) = listener.accept().await.unwrap();
        let mut proxy = Proxy::new(&network, link, events, Some(2));
        proxy.handshake().await;
        proxy
    };
    let (client, proxy) = tokio::join!(Client::connect(network.config()), served);
    let client = client.unwrap_or_else(|error| panic!("{error}"));
    drop(client);
    let mut proxy = proxy;
    assert!(proxy.next_request().await.is_none(), "the last clone closes the connections");
}

#[test]
fn escapes_in_queries_are_undone() {
    assert_eq!(percent_decoded("a%20b%2"), "a b%2");
    assert_eq!(percent_decoded("%zz%41"), "%zzA");
    assert_eq!(percent_decoded("%C3%A9%"), "é%");
}

/// A simulated platform of a vendor, and a client's section `evidence` that believes in that vendor.
fn simulated(folder: &std::path::Path) -> (IdentitySource, EvidenceConfig) {
    let vendor = Vendor::from_seed(&[7; 32]).unwrap();
    let published = vendor.collateral(&Publication::at(transport::clock::unix_now())).unwrap();
    std::fs::write(folder.join(format!("{}.json", Vendor::COLLATERAL_KIND)), published).unwrap();
    let root = folder.join("root.der");
    std::fs::write(&root, vendor.root_der()).unwrap();
    let platform = vendor.platform(attest::Hex::new([1; 16]), Firmware::Current).unwrap();
    let enclave = evidence::Simulated::new(platform, Guest::of_image("proxy"));
    let config = EvidenceConfig {
        policy: Some(attest::Policy::for_images(attest::Allowed::default())),
        collateral: folder.into(),
        simulated: Some(SimulatedConfig { root, ..SimulatedConfig::default() }),
        ..EvidenceConfig::default()
    };
    (IdentitySource::attested(Arc::new(enclave)), config)
}

#[tokio::test]
async fn a_proxy_whose_image_leaves_the_root_contract_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let (identity, evidence) = simulated(folder.path());
    let mode = ListenMode::Tls { identity, appraiser: None, pow_difficulty: 0 };
    let listen = ListenConfig { mode, ..ListenConfig::default() };
    let mut listener = Listener::bind("127.0.0.1:0".parse().unwrap(), listen).await.unwrap();
    let SocketAddr::V4(address) = listener.local_addr() else { panic!("asked for IPv4") };

    let mut network = Network::new(&[address]);
    network.root.proxy_hashes.insert(Guest::of_image("proxy").image_hash());
    network.write_root();
    let config = Config { evidence: Some(evidence), check_proxy_hashes: true, ..network.config() };
    let running = start(config).await.unwrap();
    let (link, events) = listener.accept().await.unwrap();
    let mut proxy = Proxy::new(&network, link, events, Some(2));
    tokio::join!(proxy.handshake(), running.client().ready());

    let without = RootConfig { proxy_hashes: BTreeSet::new(), ..network.root.clone() };
    running.client().shared.root.send_replace(Arc::new(without));
    assert!(proxy.next_request().await.is_none(), "the client hangs up");
    // It tries again, and tells this proxy nothing any more.
    let (_link, mut events) = listener.accept().await.unwrap();
    assert!(events.next().await.is_none_or(|event| matches!(event, LinkEvent::Closed(_))));
    while !ask(running.http_address(), "GET", "/jsonstats", "")
        .await
        .2
        .contains("is not in the root contract")
    {
        tokio::task::yield_now().await;
    }
    running.shutdown().await;
}
