//! What idle links take: `cargo run --release -p cocoon-transport --example idle_links [COUNT]`.
//!
//! This process accepts, a second one connects; the memory of each is divided by the number of links. Also says how
//! long the work takes that a proxy asks of strangers at rest.
#![expect(clippy::unwrap_used, reason = "an example may stop at the first surprise")]

use std::process::{Command, Stdio};
use std::time::Duration;

use cocoon_transport::pow::Challenge;
use cocoon_transport::{ConnectConfig, LinkEvents, ListenConfig, ListenMode, Listener, connect};
use tokio::time::{Instant, sleep};

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Keeps events taken, as a role does.
async fn idle(mut events: LinkEvents) {
    while events.next().await.is_some() {}
}

fn report(side: &str, before: usize, count: usize) {
    let each = resident().saturating_sub(before) / count;
    println!("{side}: {each} bytes for each of {count} idle links");
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let count = arguments.next().map_or(2000, |count| count.parse().unwrap());
    match arguments.next() {
        Some(target) => connecting(count, &target).await,
        None => accepting(count).await,
    }
}

async fn accepting(count: usize) {
    const AT_REST: i32 = 12;
    const ROUNDS: u8 = 32;
    let begin = Instant::now();
    for round in 0..ROUNDS {
        Challenge { difficulty: AT_REST, salt: [round; 16] }.search(0..i64::MAX).unwrap();
    }
    println!("work of {AT_REST} bits: {} ms on average", begin.elapsed().as_millis() / u128::from(ROUNDS));

    let mode = ListenMode::Tls { identity: Default::default(), appraiser: None, pow_difficulty: 0 };
    let config = ListenConfig { mode, links_per_address_max: count, ..ListenConfig::default() };
    let mut listener = Listener::bind("127.0.0.1:0".parse().unwrap(), config).await.unwrap();
    let address = listener.local_addr().to_string();
    let before = resident();
    let mut other = Command::new(std::env::current_exe().unwrap());
    let mut other = other
        .args([count.to_string(), address])
        .stdin(Stdio::piped())
        .stdout(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut links = Vec::with_capacity(count);
    for _ in 0..count {
        let (link, events) = listener.accept().await.unwrap();
        link.handshake_complete();
        tokio::spawn(idle(events));
        links.push(link);
    }
    // Two rounds of pings let go of what the handshakes needed.
    sleep(Duration::from_secs(25)).await;
    report("accepting", before, count);
    drop(other.stdin.take());
    other.wait().unwrap();
}

async fn connecting(count: usize, target: &str) {
    let config = ConnectConfig::default();
    let before = resident();
    let mut links = Vec::with_capacity(count);
    for _ in 0..count {
        let (link, events) = connect(target, &config).await.unwrap();
        tokio::spawn(idle(events));
        links.push(link);
    }
    sleep(Duration::from_secs(25)).await;
    report("connecting", before, count);
    let _until_told = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await;
}
