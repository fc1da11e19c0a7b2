//! A network of processes, its load, and the comparison of everybody's books.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpSocket;
use ton::{Address, RegisteredProxy, RootConfig};
use units::{ConfigVersion, NanoTon};

use crate::chain::{BALANCE_MAX, Chain, FEE, PRICE, owner};
use crate::engine::{ANSWER_TOKENS, Engine, LONG, LONG_LEN, NEVER};
use crate::forwarder::Forwarder;
use crate::roles::{Kind, PATIENCE, Role, now};

/// Applications that ask at the same time: shortly, at length, and one that leaves before its answer.
const APPLICATIONS: &[Application] =
    &[Application::Short, Application::Short, Application::Long, Application::Impatient];
/// Where a token costs something, long prompts are beyond a client's stake.
const APPLICATIONS_THAT_PAY: &[Application] = &[Application::Short, Application::Impatient];
/// The pause between their requests: what is paid for in a moment shall be a few messages, not all that there is.
const PAUSE: Duration = Duration::from_millis(15);

#[derive(Clone, Copy)]
enum Application {
    Short,
    Long,
    Impatient,
}

pub(crate) struct Network {
    folder: TempDir,
    pub(crate) ports: Ports,
    pub(crate) engine: Engine,
    /// The chain that everything is paid on, if any, and each role's way to it.
    pub(crate) chain: Option<(Chain, [Forwarder; 3])>,
    /// Failpoints that every proxy gets.
    pub(crate) proxy_points: String,
    client: Option<Role>,
    proxy: Option<Role>,
    worker: Option<Role>,
    /// What the proxy remembered last.
    tokens: u64,
    /// Long answers are asked for too, which cost by estimate when they are cut.
    pub(crate) asks_at_length: bool,
    /// The largest promises that client and worker have held.
    pub(crate) promised: [u64; 2],
}

pub(crate) struct Ports {
    pub(crate) client: SocketAddrV4,
    pub(crate) proxy: SocketAddrV4,
    for_workers: SocketAddrV4,
    for_clients: SocketAddrV4,
    pub(crate) worker: SocketAddrV4,
    _held: Vec<TcpSocket>,
}

impl Ports {
    /// Ports that the system chose and gives to nobody else as long as they are held: not to other tests, and not as
    /// the near end of a connection that is tried while nobody listens on the port. A role can listen beside the
    /// holder, since both allow the address to be used again.
    fn take() -> Self {
        let held: Vec<_> = (0..5).map(|_| TcpSocket::new_v4().unwrap()).collect();
        let mut ports = held.iter().map(|socket| {
            socket.set_reuseaddr(true).unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            match socket.local_addr().unwrap() {
                SocketAddr::V4(address) => address,
                SocketAddr::V6(_) => unreachable!("bound to an IPv4 address"),
            }
        });
        let mut port = || ports.next().unwrap();
        let (client, proxy, for_workers, for_clients, worker) = (port(), port(), port(), port(), port());
        drop(ports);
        Self { client, proxy, for_workers, for_clients, worker, _held: held }
    }
}

impl Network {
    /// Client and worker run; the proxy is to be started.
    pub(crate) fn new() -> Self {
        let mut network = Self::unstarted();
        let Ports { for_workers, for_clients, .. } = network.ports;
        let mut root = RootConfig::pseudo(Address::new(0, [1; 32]));
        root.version = ConfigVersion::new(1);
        root.params.params_version = 1;
        root.params.price_per_token = NanoTon::new(20);
        root.params.worker_fee_per_token = NanoTon::new(19);
        root.last_proxy_seqno = 1;
        root.registered_proxies =
            vec![RegisteredProxy { seqno: 1, workers: for_workers, clients: for_clients }];
        fs::write(network.folder.path().join("root.json"), root.to_pseudo_json().unwrap()).unwrap();
        network.start(Kind::Client, "");
        network.start(Kind::Worker, "");
        network
    }

    /// All three run, and pay on a chain; the client has paid in.
    pub(crate) fn on_chain() -> Self {
        let mut network = Self::unstarted();
        let Ports { for_workers, for_clients, .. } = network.ports;
        let chain = Chain::new(RegisteredProxy { seqno: 1, workers: for_workers, clients: for_clients });
        let servers = [(); 3].map(|()| chain.server());
        network.chain = Some((chain, servers));
        for (kind, tons) in [(Kind::Proxy, 500), (Kind::Client, 2000), (Kind::Worker, 100)] {
            network.start(kind, "");
            let wallet = network.wallet(kind);
            network.chain().give(&wallet, tons);
        }
        network.check_after_restart("nothing happened");
        network
    }

    fn unstarted() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            ports: Ports::take(),
            engine: Engine::start(),
            chain: None,
            proxy_points: String::new(),
            client: None,
            proxy: None,
            worker: None,
            tokens: 0,
            asks_at_length: false,
            promised: [0; 2],
        }
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.chain.as_ref().expect("a network with a chain").0
    }

    /// A role's way to the chain.
    pub(crate) fn server(&self, kind: Kind) -> &Forwarder {
        &self.chain.as_ref().expect("a network with a chain").1[kind as usize]
    }

    /// A price with the chain, or without.
    const fn price(&self, with: u64, without: u64) -> u64 {
        if self.chain.is_some() { with } else { without }
    }

    fn config(&self, kind: Kind) -> Value {
        let Ports { client, proxy, for_workers, for_clients, worker, .. } = &self.ports;
        let mut config = match kind {
            Kind::Client => json!({ "http": client, "timeout": 20.0 }),
            Kind::Proxy => json!({
                "http": proxy, "workers": for_workers, "clients": for_clients, "pow_difficulty": 4,
            }),
            Kind::Worker => json!({
                "http": worker,
                "models": [{ "name": "kill/model", "backend": format!("http://{}", self.engine.address) }],
            }),
        };
        config["state"] = json!(self.folder(kind));
        let Some((chain, servers)) = &self.chain else {
            config["root_config"] = json!(self.folder.path().join("root.json"));
            config["root_address"] = json!(Address::new(0, [2; 32]).to_wire_text(false));
            return config;
        };
        config["root_address"] = json!(chain.root_address.to_wire_text(false));
        config["owner_address"] = json!(owner_of(kind).to_wire_text(false));
        config["chain"] = json!({ "endpoint": servers[kind as usize].endpoint() });
        // Amounts that are just worth their fees, so that there is always something to do.
        let amounts: &[(&str, u64)] = match kind {
            Kind::Client => {
                &[("balance_max_nanotons", BALANCE_MAX), ("deposit_minutes", 1), ("max_coefficient", 1000)]
            }
            Kind::Proxy => &[
                ("charge_at_nanotons", 100_000_000),
                ("payout_at_nanotons", 100_000_000),
                ("withdraw_at_nanotons", 300_000_000),
                ("at_risk_nanotons_max", 100_000_000),
            ],
            Kind::Worker => &[("payout_at_nanotons", 250_000_000)],
        };
        for (key, amount) in amounts {
            config[key] = json!(amount);
        }
        config
    }

    pub(crate) fn folder(&self, kind: Kind) -> std::path::PathBuf {
        self.folder.path().join(format!("{kind:?}"))
    }

    pub(crate) const fn port(&self, kind: Kind) -> SocketAddrV4 {
        match kind {
            Kind::Client => self.ports.client,
            Kind::Proxy => self.ports.proxy,
            Kind::Worker => self.ports.worker,
        }
    }

    /// A role's node wallet.
    pub(crate) fn wallet(&self, kind: Kind) -> Address {
        let stats = stats(self.port(kind)).unwrap();
        Address::parse(stats["wallet"]["address"].as_str().unwrap()).unwrap().0
    }

    pub(crate) fn role(&mut self, kind: Kind) -> &mut Option<Role> {
        match kind {
            Kind::Client => &mut self.client,
            Kind::Proxy => &mut self.proxy,
            Kind::Worker => &mut self.worker,
        }
    }

    fn start(&mut self, kind: Kind, points: &str) {
        let mut role = Role::start(kind, &self.config(kind), points);
        assert!(!points.is_empty() || !role.is_dead(), "the {kind:?} does not start");
        *self.role(kind) = Some(role);
    }

    /// Starts a role with failpoints in place of the one that runs; a proxy has those of every proxy besides.
    pub(crate) fn restart(&mut self, kind: Kind, points: &str) {
        if let Some(mut role) = self.role(kind).take()
            && !role.is_dead()
        {
            role.stop();
        }
        let points =
            if kind == Kind::Proxy { format!("{};{points}", self.proxy_points) } else { points.to_owned() };
        self.start(kind, points.trim_matches(';'));
    }

    /// Starts a proxy that dies before it is ready.
    pub(crate) fn start_proxy_expecting_death(&mut self, points: &str) {
        self.restart(Kind::Proxy, points);
        let status = self.proxy.as_mut().unwrap().wait(points);
        assert!(!status.success());
    }

    pub(crate) fn stop_proxy(&mut self) {
        self.proxy.take().unwrap().stop();
    }

    /// Asks until a role has died at a failpoint.
    pub(crate) fn load_until_death(&mut self, kind: Kind, place: &str) {
        let mut role = self.role(kind).take().unwrap();
        self.load(|| {
            let deadline = now() + PATIENCE;
            while !role.is_dead() {
                assert!(now() < deadline, "the process still runs: {place}");
                match kind {
                    Kind::Worker if place == "worker-announce" => self.switch_worker(),
                    // Their owners want money, so that there is something to order.
                    Kind::Worker if self.chain.is_some() => self.order(kind, "payout"),
                    Kind::Client if self.chain.is_some() => self.order(kind, "withdraw"),
                    _ => {}
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
    }

    /// The operator takes the worker away and gives it back.
    fn switch_worker(&self) {
        for action in ["disable", "enable"] {
            self.order(Kind::Worker, action);
        }
    }

    /// An operator's order to a role, which may have died already.
    pub(crate) fn order(&self, kind: Kind, action: &str) {
        let token = fs::read_to_string(self.folder(kind).join("admin.token")).unwrap();
        let header = format!("Authorization: Bearer {}\r\n", token.trim());
        let head = format!("POST /request/{action}");
        let _dead = exchange_with(SocketAddr::V4(self.port(kind)), &head, &header, "");
    }

    /// Asks, kills a role at a moment, and lets the applications see it.
    pub(crate) fn load_and_kill(&mut self, victim: Kind, moment: Duration) {
        if self.proxy.is_none() {
            self.restart(Kind::Proxy, "");
        }
        let client = SocketAddr::V4(self.ports.client);
        until(|| format!("the worker is connected: {}", self.described()), || ask(client, "?"));
        let mut role = self.role(victim).take().unwrap();
        self.load(|| {
            std::thread::sleep(moment);
            role.kill();
        });
    }

    /// Asks until requests are refused because charges cannot be recorded, and until they are answered again.
    pub(crate) fn load_through_a_stuck_journal(&mut self) -> u64 {
        let proxy = SocketAddr::V4(self.ports.proxy);
        self.load(|| {
            until(
                || "the journal is stuck".to_owned(),
                || {
                    exchange(proxy, "GET /readyz", "")
                        .is_ok_and(|(_, body)| body.contains("cannot be recorded"))
                },
            );
            until(
                || "the journal works again".to_owned(),
                || exchange(proxy, "GET /readyz", "").is_ok_and(|(status, _)| status == 200),
            );
        })
    }

    /// Runs applications for as long as `meanwhile` takes. Returns how many requests were refused.
    pub(crate) fn load(&self, meanwhile: impl FnOnce()) -> u64 {
        let client = SocketAddr::V4(self.ports.client);
        let is_over = AtomicBool::new(false);
        let refused = AtomicU64::new(0);
        let (applications, pause) = if self.chain.is_some() {
            (APPLICATIONS_THAT_PAY, PAUSE)
        } else {
            (APPLICATIONS, Duration::ZERO)
        };
        std::thread::scope(|scope| {
            for application in applications {
                let (is_over, refused) = (&is_over, &refused);
                let long = if self.asks_at_length { LONG.to_owned() } else { "x".repeat(LONG_LEN) };
                scope.spawn(move || {
                    while !is_over.load(Ordering::SeqCst) {
                        let is_answered = match application {
                            Application::Short => ask(client, "?"),
                            Application::Long => ask(client, &long),
                            Application::Impatient => leave(client),
                        };
                        if !is_answered {
                            refused.fetch_add(1, Ordering::SeqCst);
                            // Refusals come at once; asking again as fast would only heat the machine.
                            std::thread::sleep(Duration::from_millis(5));
                        }
                        std::thread::sleep(pause);
                    }
                });
            }
            // Over even if something fails meanwhile: the scope waits for its threads.
            let _over = Over(&is_over);
            meanwhile();
        });
        refused.into_inner()
    }

    /// What client and worker hold, signed by the proxy.
    pub(crate) fn promises(&self) -> [Option<u64>; 2] {
        [
            signed(self.ports.client, "tokens_used_proxy_committed_to_blockchain"),
            signed(self.ports.worker, "earned_tokens_committed_to_blockchain"),
        ]
    }

    /// Remembers what client and worker hold. Whoever has died cannot say; what it said last counts.
    pub(crate) fn remember_promises(&mut self) {
        let now = self.promises();
        for (promised, now) in self.promised.iter_mut().zip(now) {
            *promised = now.unwrap_or(0).max(*promised);
        }
    }

    /// Starts again whoever died, and holds everybody's books against each other.
    pub(crate) fn check_after_restart(&mut self, what: &str) {
        self.remember_promises();
        for kind in [Kind::Client, Kind::Worker, Kind::Proxy] {
            if self.role(kind).as_mut().is_none_or(Role::is_dead) {
                self.restart(kind, "");
            }
        }
        let client = SocketAddr::V4(self.ports.client);
        // Peers come back by themselves and agree with what they find.
        until(|| format!("{what}: {}", self.described()), || ask(client, "?"));
        let mut books = Value::Null;
        until(
            || format!("{what}: {}", self.described()),
            || {
                books = stats(self.ports.proxy).unwrap();
                books["status"]["requests_in_flight"] == 0 && books["status"]["books_durable"] == true
            },
        );

        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{what}: no number in {books}"));
        let sum = |list: &str, member: &str| -> u64 {
            books[list].as_array().unwrap().iter().map(|entry| number(&entry[member])).sum()
        };
        let totals = &books["totals"];
        let tokens = number(&totals["tokens"]);
        assert_eq!(sum("clients", "used_tokens"), tokens, "{what}");
        assert_eq!(sum("workers", "earned_tokens"), tokens, "{what}");
        let (price, fee) = (self.price(PRICE, 20), self.price(FEE, 19));
        assert_eq!(number(&totals["client_charges"]), tokens * price, "{what}");
        assert_eq!(number(&totals["worker_earnings"]), tokens * fee, "{what}");
        assert_eq!(number(&totals["proxy_fees"]), tokens * (price - fee), "{what}");
        assert_eq!((number(&totals["held_tokens"]), sum("clients", "reserved_tokens")), (0, 0), "{what}");
        if !self.asks_at_length {
            assert_eq!(tokens % ANSWER_TOKENS, 0, "{what}: a charge is whole or not at all");
        }
        assert!(tokens <= self.engine.cost_max(), "{what}: {tokens} doubled");

        // Nobody was promised more than the proxy remembers, before the death or after it, and no promise falls.
        let promises = self.promises();
        for (promised, after) in self.promised.iter_mut().zip(promises) {
            let after = after.unwrap_or(0);
            assert!(after >= *promised, "{what}: {after} promised after {promised}");
            assert!(after <= tokens, "{what}: {after} promised, {tokens} remembered");
            *promised = after;
        }
        assert!(tokens > self.tokens, "{what}: {tokens} after {}", self.tokens);
        self.tokens = tokens;
        if self.chain.is_some() {
            self.check_chain(what, tokens);
        }
    }

    /// How everybody sees the network, for a test that fails.
    pub(crate) fn described(&self) -> String {
        let part = |role: SocketAddrV4, members: &[&str]| -> Vec<Value> {
            let stats = stats(role).unwrap_or(Value::Null);
            members.iter().map(|member| stats[*member].clone()).collect()
        };
        let Ports { client, proxy, worker, .. } = self.ports;
        let missing = exchange(SocketAddr::V4(proxy), "GET /readyz", "").ok();
        let client = part(client, &["proxy_connections", "proxies", "contracts", "wallet"]);
        let proxy = part(proxy, &["totals", "clients", "workers", "worker_connections", "wallet"]);
        let worker = part(worker, &["proxies", "models", "wallet"]);
        format!("client {client:?}, proxy {proxy:?} {missing:?}, worker {worker:?}")
    }

    /// What a power failure leaves of a write.
    pub(crate) fn leave_unfinished_commit(&self) {
        let books = self.folder.path().join("Proxy/books");
        let contract = fs::read_dir(books).unwrap().next().unwrap().unwrap().path();
        let segment = contract.join("segment-0000000000");
        OpenOptions::new().append(true).open(segment).unwrap().write_all(&[7; 5]).unwrap();
    }
}

/// Ends the load when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Who gets what a role earns, or has left.
pub(crate) const fn owner_of(kind: Kind) -> Address {
    match kind {
        Kind::Client => owner(50),
        Kind::Proxy => owner(70),
        Kind::Worker => owner(60),
    }
}

/// The largest promise that a peer holds, if it can be asked.
fn signed(peer: SocketAddrV4, member: &str) -> Option<u64> {
    let stats = stats(peer)?;
    stats["proxies"].as_array()?.iter().filter_map(|proxy| proxy[member].as_u64()).max()
}

pub(crate) fn stats(role: SocketAddrV4) -> Option<Value> {
    let (_, body) = exchange(SocketAddr::V4(role), "GET /jsonstats", "").ok()?;
    serde_json::from_str(&body).ok()
}

/// Whether an application gets its answer.
fn ask(client: SocketAddr, prompt: &str) -> bool {
    exchange(client, "POST /v1/chat/completions", &chat(prompt))
        .is_ok_and(|(status, body)| status == 200 && body.contains("\"total_tokens\":8"))
}

fn chat(prompt: &str) -> String {
    let messages = json!([{ "role": "user", "content": prompt }]);
    // The worker cuts what is beyond the limit.
    let limit = if prompt == LONG { LONG_LEN } else { 5 };
    json!({ "model": "kill/model", "max_tokens": limit, "messages": messages }).to_string()
}

/// An application asks what is never answered, and goes away. Whether it could ask.
fn leave(client: SocketAddr) -> bool {
    let asked = || -> io::Result<usize> {
        let mut stream = TcpStream::connect(client)?;
        send(&mut stream, "POST /v1/chat/completions", "", &chat(NEVER))?;
        // Not told apart from an answer that is still to come: its patience is short.
        stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        stream.read(&mut [0; 1024])
    };
    // Whatever comes is a refusal.
    asked().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

pub(crate) fn until(what: impl Fn() -> String, mut holds: impl FnMut() -> bool) {
    let deadline = now() + PATIENCE;
    while !holds() {
        assert!(now() < deadline, "waited in vain: {}", what());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One HTTP exchange; the answer's status and body.
fn exchange(address: SocketAddr, head: &str, body: &str) -> io::Result<(u16, String)> {
    exchange_with(address, head, "", body)
}

fn send(stream: &mut TcpStream, head: &str, header: &str, body: &str) -> io::Result<()> {
    let len = body.len();
    let host = "Host: localhost\r\nConnection: close\r\nContent-Type: application/json";
    let text = format!("{head} HTTP/1.1\r\n{host}\r\n{header}Content-Length: {len}\r\n\r\n{body}");
    stream.write_all(text.as_bytes())
}

/// As [`exchange`], with one more line in the head.
fn exchange_with(address: SocketAddr, head: &str, header: &str, body: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    send(&mut stream, head, header, body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status, body))
}
