//! Attacks on a router, by programs that ask it for peers, by peers that connect to it, and by those that it connects to. Each has
//! one of its own, and what goes through that must go on.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::{BoxFuture, join_all};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use transport::pow::Challenge;

use super::strangers::{AT_ONCE, CLOSES};
use super::{Attack, Left, Target};
use crate::certificate::Flaw;
use crate::raw::{STRANGER, badly_worked, connected, encrypted, ended, worked};
use crate::role::Role;
use crate::stage::Stage;

const OTHERS: &str = "others get through meanwhile";
/// How long a good program waits, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// The deadline for what a program wants, and a bit.
const LATE: Duration = Duration::from_secs(30);
/// SOCKS5 up to the target: no login, CONNECT.
const ASKS: &[u8] = &[5, 1, 0, 5, 1, 0];

/// A router with two ports: one for programs, and one for peers, before the engine.
struct Victim {
    role: Role,
    programs: SocketAddr,
    peers: SocketAddr,
}

impl Victim {
    async fn start(stage: &Stage, connections_max: usize) -> Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("router-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let (engine, connections_max) = (format!("0:{}@any", stage.engine), connections_max.to_string());
        let options = ["-S", "0@any", "-R", &engine, "-d", "8", "--connections-max", &connections_max];
        let role = stage.router(&name, &options.map(str::to_owned), 2).await?;
        let [programs, peers] = role.addresses("address")?[..] else { anyhow::bail!("there are two ports") };
        Ok(Self { role, programs, peers: (Ipv4Addr::LOCALHOST, peers.port()).into() })
    }

    /// Asks for a peer, and waits for the answer: the connection, if there is one.
    async fn ask(&self, peer: SocketAddr) -> Result<Option<TcpStream>> {
        let mut stream = TcpStream::connect(self.programs).await?;
        stream.write_all(&[ASKS, &target(peer)].concat()).await?;
        // Its choice of a login, and success with an address of IPv4.
        let mut reply = [0; 2 + 10];
        Ok((stream.read_exact(&mut reply).await.is_ok() && reply[3] == 0).then_some(stream))
    }

    /// A good program gets to the engine through both ports, in the end.
    async fn serves(&self) -> Result<()> {
        let good = async {
            let mut stream = loop {
                match self.ask(self.peers).await {
                    Ok(Some(stream)) => break stream,
                    Ok(None) | Err(_) => sleep(Duration::from_millis(100)).await,
                }
            };
            stream.write_all(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
            stream.shutdown().await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "the engine answers {answer:?}");
            Ok(())
        };
        timeout(PATIENCE, good).await.context("a good program does not get through")?
    }

    /// Others get through, and each of so many connections has left one line. Returns what the router's memory came to.
    async fn judged(mut self, connections: usize) -> Result<Left> {
        self.serves().await?;
        ensure!(self.role.is_alive(), "the router has ended:\n{}", self.role.log_text());
        let lines = self.role.wait_for_lines("connection ended", connections, AT_ONCE).await;
        ensure!(lines == connections, "{connections} connections ended with {lines} lines");
        Ok(Left::Victim { grown_kib: self.role.grown_kib()? })
    }
}

/// An address as RFC 1928 writes it.
fn target(address: SocketAddr) -> Vec<u8> {
    let ip = match address {
        SocketAddr::V4(address) => address.ip().octets(),
        SocketAddr::V6(_) => Ipv4Addr::UNSPECIFIED.octets(),
    };
    [&[1][..], &ip, &address.port().to_be_bytes()].concat()
}

/// An attack on a router that has room for so many connections. `attack` says how many lines it leaves.
fn on_router(
    name: &str,
    expects: &'static str,
    connections_max: usize,
    attack: for<'a> fn(&'a Victim) -> BoxFuture<'a, Result<usize>>,
) -> Attack {
    let name = format!("{name} (a router)");
    Attack::new(name, Target::Router, expects, move |stage: &Stage| -> BoxFuture<'_, Result<Left>> {
        Box::pin(async move {
            let victim = Victim::start(stage, connections_max).await?;
            victim.serves().await?;
            let lines = attack(&victim).await?;
            victim.judged(lines).await
        })
    })
}

pub(super) fn catalogue() -> Vec<Attack> {
    const ROOM: usize = 4096;
    vec![
        on_router("programs that speak something else", CLOSES, ROOM, |victim| {
            Box::pin(said(victim, not_socks5()))
        }),
        on_router("programs that ask for what there is not", CLOSES, ROOM, |victim| {
            Box::pin(said(victim, not_there()))
        }),
        on_router("500 programs that stop halfway", OTHERS, ROOM, |victim| Box::pin(half_open(victim, 500))),
        on_router("5,000 programs that stop halfway", OTHERS, 8192, |victim| {
            Box::pin(half_open(victim, 5000))
        })
        .grows_by(256 * 1024)
        .long(),
        on_router("more programs than there is room for", CLOSES, 100, |victim| Box::pin(too_many(victim))),
        on_router("a program that says a byte a second", CLOSES, ROOM, |victim| Box::pin(dripping(victim)))
            .long(),
        on_router("strangers in the place of peers", CLOSES, ROOM, |victim| Box::pin(strangers(victim))),
        on_router("peers that ask for minutes of work", OTHERS, ROOM, |victim| Box::pin(much_work(victim))),
    ]
}

fn not_socks5() -> Vec<Vec<u8>> {
    vec![
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        vec![0; 4096],
        vec![0xff; 4096],
    ]
}

fn not_there() -> Vec<Vec<u8>> {
    let named = |name: &[u8]| {
        let len = u8::try_from(name.len()).unwrap_or(u8::MAX);
        [&[5, 1, 0, 5, 1, 0, 3, len][..], name, &[0, 80]].concat()
    };
    vec![
        // One label is too long for any name.
        named(&[b'a'; 255]),
        named(b""),
        named(b"local\0host"),
        named(b"localhost\r\n"),
        named(&[0xff; 255]),
        // No login that this port takes.
        [&[5, 255][..], &[2; 255]].concat(),
        vec![5, 0],
        // Listening, another family of addresses, a port where nobody is.
        vec![5, 1, 0, 5, 2, 0, 1, 127, 0, 0, 1, 0, 80],
        vec![5, 1, 0, 5, 1, 0, 9, 127, 0, 0, 1, 0, 80],
        vec![5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, 0, 0],
    ]
}

/// Each is said by a connection of its own, which ends.
async fn said(victim: &Victim, all: Vec<Vec<u8>>) -> Result<usize> {
    for bytes in &all {
        let mut stream = TcpStream::connect(victim.programs).await?;
        let _closed_already = stream.write_all(bytes).await;
        let received = ended(stream, AT_ONCE).await?;
        ensure!(received.get(3).is_none_or(|code| *code != 0), "{bytes:?} succeeded");
    }
    Ok(all.len())
}

async fn half_open(victim: &Victim, count: usize) -> Result<usize> {
    let begun = join_all((0..count).map(async |number| {
        let mut stream = TcpStream::connect(victim.programs).await?;
        stream.write_all(&ASKS[..number % ASKS.len()]).await?;
        Ok::<_, std::io::Error>(stream)
    }));
    let held = begun.await.into_iter().collect::<Result<Vec<_>, _>>()?;
    victim.serves().await?;
    drop(held);
    Ok(count)
}

async fn too_many(victim: &Victim) -> Result<usize> {
    // All of them fit the system's queue, so that they are looked at at once.
    const COUNT: usize = 300;
    let held = join_all((0..COUNT).map(|_| TcpStream::connect(victim.programs))).await;
    let held = held.into_iter().collect::<Result<Vec<_>, _>>()?;
    let closed = victim.role.wait_for_lines("connections are open", COUNT - 100, AT_ONCE).await;
    ensure!(closed >= COUNT - 100, "{closed} of {COUNT} were closed, there is room for 100");
    drop(held);
    Ok(COUNT)
}

async fn dripping(victim: &Victim) -> Result<usize> {
    let mut stream = TcpStream::connect(victim.programs).await?;
    let (mut reader, mut writer) = stream.split();
    let drip = async {
        for byte in [ASKS, &[3, 255], &[b'a'; 255]].concat() {
            if writer.write_all(&[byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    };
    let mut received = Vec::new();
    tokio::select! {
        () = drip => anyhow::bail!("the connection is still open"),
        read = timeout(LATE, reader.read_to_end(&mut received)) => {
            let _reset = read.context("the connection is still open")?;
        }
    }
    Ok(1)
}

async fn strangers(victim: &Victim) -> Result<usize> {
    let mut garbage = connected(victim.peers, STRANGER).await?;
    garbage.write_all(&[0xa5; 4096]).await?;
    ended(garbage, AT_ONCE).await?;
    ended(badly_worked(victim.peers).await?, AT_ONCE).await?;
    let mut not_tls = worked(victim.peers, STRANGER).await?;
    not_tls.write_all(&[0xa5; 4096]).await?;
    ended(not_tls, AT_ONCE).await?;
    for flaw in [Flaw::Absent, Flaw::Expired, Flaw::OtherKey] {
        // In TLS 1.3 the client is done before the server has looked at its certificate.
        if let Ok(stream) = encrypted(victim.peers, flaw).await {
            ended(stream, AT_ONCE).await?;
        }
    }
    Ok(6)
}

/// As many bits as anybody does, for more connections than there are cores; then those leave.
async fn much_work(victim: &Victim) -> Result<usize> {
    const COUNT: usize = 24;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let request = [ASKS, &target(listener.local_addr()?)].concat();
    let mut held = Vec::new();
    for _ in 0..COUNT {
        let mut program = TcpStream::connect(victim.programs).await?;
        program.write_all(&request).await?;
        let (mut peer, _) = timeout(AT_ONCE, listener.accept()).await??;
        peer.write_all(&Challenge { difficulty: 28, salt: [1; 16] }.encode()).await?;
        held.push((program, peer));
    }
    victim.serves().await?;
    drop(held);
    Ok(COUNT)
}
