//! Streams through all three roles on real sockets: what an application does reaches its engine and nobody else.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use attest::{Allowed, Policy, Root, Verifier};
use evidence::{Appraiser, CollateralStore};
use router::{PortOption, Router, RouterConfig, RouterFile};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt as _, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use ton::{Address, RegisteredProxy, RootConfig};
use transport::identity::IdentitySource;

/// Far longer than anything here takes; only a hanging test meets it.
const PATIENCE: Duration = Duration::from_secs(120);

/// More than all buffers of the system on the way hold.
const FLOOD_EVENTS: usize = 64 * 1024;
/// Length of one event of a flood, in bytes.
const EVENT_LEN: usize = 1024;

async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_elapsed| panic!("{what} did not happen"))
}

/// An engine that answers as the body of a request says: with a flood, with one event and then nothing, or at once.
struct Engine {
    address: SocketAddr,
    /// Told when the caller of a stream has gone.
    gone: mpsc::UnboundedReceiver<()>,
    has_written_flood: Arc<AtomicBool>,
}

impl Engine {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, gone) = mpsc::unbounded_channel();
        let has_written_flood = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&has_written_flood);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_engine(stream, told.clone(), Arc::clone(&flag)));
            }
        });
        Self { address, gone, has_written_flood }
    }
}

async fn serve_engine(stream: TcpStream, gone: mpsc::UnboundedSender<()>, flag: Arc<AtomicBool>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    while let Some((head, body)) = read_request(&mut reader).await {
        if head.starts_with("GET") {
            write_json(&mut writer, r#"{"object":"list","data":[{"id":"m"}]}"#).await;
            continue;
        }
        let is_flood = body.contains("flood");
        if !is_flood && !body.contains("one event") {
            write_json(&mut writer, r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#)
                .await;
            continue;
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let writing = async {
            writer.write_all(head.as_bytes()).await.ok()?;
            for number in 0..if is_flood { FLOOD_EVENTS } else { 1 } {
                let event = format!("data: {number:0width$}\n\n", width = EVENT_LEN - 8);
                let chunk = format!("{EVENT_LEN:x}\r\n{event}\r\n");
                writer.write_all(chunk.as_bytes()).await.ok()?;
            }
            flag.store(is_flood, Ordering::SeqCst);
            std::future::pending::<Option<()>>().await
        };
        tokio::select! {
            _lost = writing => {}
            _end = reader.fill_buf() => {}
        }
        let _test_over = gone.send(());
        return;
    }
}

async fn read_request(reader: &mut (impl AsyncBufReadExt + Unpin)) -> Option<(String, String)> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.ok()?;
    Some((head, String::from_utf8(body).ok()?))
}

async fn write_json(writer: &mut (impl AsyncWriteExt + Unpin), body: &str) {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    writer.write_all((head + body).as_bytes()).await.unwrap();
}

/// Routers that end when this is dropped.
#[derive(Default)]
struct Routers(Vec<DropGuard>);

impl Routers {
    /// Starts one that tells programs about their peers. Returns where its ports are.
    async fn start(&mut self, ports: Vec<PortOption>) -> Vec<SocketAddr> {
        let options =
            router::Options { ports, serialize_info: true, pow_difficulty: Some(4), ..Default::default() };
        let config = RouterConfig::new(options, RouterFile::default()).unwrap();
        let none = Policy::for_images(Allowed::only([]));
        let collateral = CollateralStore::new("none".into(), None);
        let appraiser = Appraiser::new(Verifier::new(Root::Intel), none, collateral, NonZeroUsize::MIN);
        let router = Router::bind(config, IdentitySource::generated(), &appraiser).await.unwrap();
        let addresses = router.local_addrs().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(router.run(stop.clone()));
        self.0.push(stop.drop_guard());
        addresses
    }
}

/// Client, proxy and worker, between an application and an engine.
struct Network {
    engine: Engine,
    client: client::Running,
    _proxy: proxy::Proxy,
    _worker: worker::Worker,
    _routers: Option<Routers>,
    _folder: TempDir,
}

impl Network {
    async fn start() -> Self {
        Self::between(None).await
    }

    /// As deployed: the proxy behind a router, and another one before client and worker.
    async fn behind_routers() -> Self {
        Self::between(Some(Routers::default())).await
    }

    async fn between(mut routers: Option<Routers>) -> Self {
        let engine = Engine::start().await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("root.json");
        let root_address = Address::new(0, [2; 32]).to_wire_text(false);
        let free_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut root = RootConfig::pseudo(Address::new(0, [1; 32]));
        std::fs::write(&file, root.to_pseudo_json().unwrap()).unwrap();
        let proxy = proxy::start(proxy::Config {
            http: free_port,
            workers: free_port,
            clients: free_port,
            pow_difficulty: 0,
            behind_router: routers.is_some(),
            root_config: file.clone(),
            root_address: root_address.clone(),
            state: folder.path().join("proxy"),
            ..proxy::Config::default()
        });
        let proxy = proxy.await.unwrap();
        let port = |address: SocketAddr| SocketAddrV4::new(Ipv4Addr::LOCALHOST, address.port());
        let (mut workers, mut clients) = (port(proxy.workers_address()), port(proxy.clients_address()));
        let mut router = None;
        if let Some(routers) = &mut routers {
            let reverse = |to| PortOption::reverse(&format!("0:{to}@any")).unwrap();
            let far = routers.start(vec![reverse(workers), reverse(clients)]).await;
            (workers, clients) = (port(far[0]), port(far[1]));
            router = Some(port(routers.start(vec![PortOption::socks5("0@any").unwrap()]).await[0]).into());
        }
        root.registered_proxies.push(RegisteredProxy { seqno: 1, workers, clients });
        std::fs::write(&file, root.to_pseudo_json().unwrap()).unwrap();
        let model = worker::ModelConfig {
            name: "m".into(),
            backend: format!("http://{}", engine.address),
            max_active_requests: 16,
            ..worker::ModelConfig::default()
        };
        let worker = worker::start(worker::Config {
            http: free_port,
            root_config: file.clone(),
            root_address: root_address.clone(),
            state: folder.path().join("worker"),
            models: vec![model],
            router,
            ..worker::Config::default()
        });
        let worker = worker.await.unwrap();
        let client = client::start(client::Config {
            http: free_port,
            root_config: file,
            root_address,
            state: folder.path().join("client"),
            router,
            ..client::Config::default()
        });
        let client = client.await.unwrap();
        let mut network =
            Self { engine, client, _proxy: proxy, _worker: worker, _routers: routers, _folder: folder };
        patiently("the network", network.ready()).await;
        network
    }

    async fn ready(&mut self) {
        while !self.answers("hello").await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends a request, in the version of HTTP whose bodies come as they are.
    async fn open(&self, content: &str) -> TcpStream {
        let body =
            format!(r#"{{"model":"m","stream":true,"messages":[{{"role":"user","content":"{content}"}}]}}"#);
        let mut stream = TcpStream::connect(self.client.http_address()).await.unwrap();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        stream
    }

    /// Whether a short request is answered.
    async fn answers(&self, content: &str) -> bool {
        let mut answer = String::new();
        self.open(content).await.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1) == Some("200")
    }
}

/// Reads until an event begins.
async fn first_event(stream: &mut BufReader<TcpStream>) {
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        assert_ne!(stream.read_line(&mut line).await.unwrap(), 0, "the answer has events");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_behind_routers_answers() {
    let network = Network::behind_routers().await;
    assert!(network.answers("hello").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_hangs_up_stops_the_engine() {
    let mut network = Network::start().await;
    for _ in 0..3 {
        let mut stream = BufReader::new(network.open("one event").await);
        patiently("the first event", first_event(&mut stream)).await;
        drop(stream);
        patiently("the end of the work", network.engine.gone.recv()).await.unwrap();
    }
    assert!(network.answers("hello").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stands_still_holds_up_its_own_engine_and_nobody_else() {
    let mut network = Network::start().await;
    let mut slow = BufReader::new(network.open("flood").await);
    patiently("the first event", first_event(&mut slow)).await;
    for _ in 0..50 {
        assert!(patiently("a neighbour's answer", network.answers("hello")).await);
    }
    // A long prompt passes in parts beside it.
    assert!(patiently("a long neighbour's answer", network.answers(&"x".repeat(300_000))).await);
    assert!(!network.engine.has_written_flood.load(Ordering::SeqCst), "the engine waits");

    // Once it is read again, it goes on where it stood, in order.
    let mut next = 1;
    while next < 8 * 1024 {
        let mut line = String::new();
        assert_ne!(patiently("more", slow.read_line(&mut line)).await.unwrap(), 0);
        if let Some(number) = line.trim_end().strip_prefix("data: ") {
            assert_eq!(number.parse::<usize>().unwrap(), next);
            next += 1;
        }
    }
    drop(slow);
    patiently("the end of the work", network.engine.gone.recv()).await.unwrap();
}
