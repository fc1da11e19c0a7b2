//! Attacks by applications on a client's HTTP port.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::{BoxFuture, join_all};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Attack, Target, UNCOUNTED};
use crate::http::{exchange, status};
use crate::stage::Stage;

const AT_ONCE: Duration = Duration::from_secs(30);
/// The longest deadline, and a bit.
const LATE: Duration = Duration::from_secs(90);

const CHAT: &str = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";

fn attack<F>(name: &str, expects: &'static str, run: F) -> Attack
where
    F: Fn(SocketAddr) -> BoxFuture<'static, Result<()>> + Send + Sync + 'static,
{
    Attack::new(name, Target::Api, expects, move |stage: &Stage| -> BoxFuture<'_, Result<usize>> {
        let attack = run(stage.api);
        Box::pin(async move { attack.await.map(|()| UNCOUNTED) })
    })
}

/// Sends one text; the answer's status must be in `allowed`. No answer at all counts as 0.
fn sent(name: &str, expects: &'static str, text: impl Into<Vec<u8>>, allowed: &'static [u16]) -> Attack {
    let text = text.into();
    attack(name, expects, move |address| {
        let text = text.clone();
        Box::pin(async move {
            let answer = exchange(address, &text, AT_ONCE).await?;
            let status = status(&answer).unwrap_or(0);
            ensure!(allowed.contains(&status), "the status is {status}");
            Ok(())
        })
    })
}

fn with_body(body: &str) -> Vec<u8> {
    format!("{CHAT}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

pub(super) fn catalogue() -> Vec<Attack> {
    let refused = "a refusal";
    let deep = format!("{{\"model\":\"neighbour\",\"messages\":{}", "[".repeat(200_000));
    let long = format!("{{\"model\":\"{}\",\"messages\":[]}}", "x".repeat(5 << 20));
    let too_large = format!("{{\"model\":\"neighbour\",\"x\":\"{}\"}}", "x".repeat(17 << 20));
    let many = format!("GET /v1/models HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(10_000));
    let head = format!("GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let mut attacks = vec![
        sent("nonsense instead of HTTP", refused, *b"\x16\x03\x01\0\xc8\x01\0\0\xc4\r\n\r\n", &[0, 400]),
        sent("a head of a megabyte", refused, head, &[0, 400, 431]),
        sent("ten thousand headers", refused, many, &[0, 400, 431]),
        sent(
            "a method of a hundred thousand letters",
            refused,
            format!("{} / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", "X".repeat(100_000)),
            &[0, 400, 404, 414, 431],
        ),
        sent("a negative length", refused, format!("{CHAT}content-length: -1\r\n\r\n"), &[0, 400]),
        sent(
            "a length beyond numbers",
            refused,
            format!("{CHAT}content-length: {}\r\n\r\n", "9".repeat(40)),
            &[0, 400],
        ),
        sent(
            "two lengths",
            refused,
            format!("{CHAT}content-length: 1\r\ncontent-length: 2\r\n\r\n{{}}"),
            &[0, 400],
        ),
        sent(
            "chunks that are none",
            refused,
            format!("{CHAT}transfer-encoding: chunked\r\n\r\nzz\r\nnonsense\r\n"),
            &[0, 400, 408],
        ),
        sent("an unknown path", refused, with_body("").replace_path("/v1/evil"), &[404]),
        sent("a body that is no JSON", refused, with_body("nonsense"), &[400]),
        sent("JSON of 200,000 levels", refused, with_body(&deep), &[400]),
        sent("a model name of five megabytes", refused, with_body(&long), &[400, 404]),
        sent(
            "negative tokens",
            refused,
            with_body(r#"{"model":"neighbour","max_tokens":-1,"messages":[]}"#),
            &[400],
        ),
        sent(
            "tokens beyond numbers",
            refused,
            with_body(r#"{"model":"neighbour","max_tokens":1e308,"messages":[]}"#),
            &[400],
        ),
        sent(
            "a time that is none",
            refused,
            with_body(r#"{"model":"neighbour","timeout":-5,"messages":[]}"#),
            &[400],
        ),
        sent("a body above the limit", refused, with_body(&too_large), &[413]).grows_by(96 * 1024),
        sent(
            "a page of another origin",
            refused,
            format!("{CHAT}origin: https://evil.example\r\ncontent-length: 2\r\n\r\n{{}}"),
            &[403],
        ),
        sent(
            "a name that points here",
            refused,
            "GET /v1/models HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n",
            &[421],
        ),
    ];
    attacks.extend([
        attack("a thousand lists of models at once", "each is answered", |address| {
            Box::pin(async move {
                let text = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
                let answers = join_all((0..1000).map(|_| exchange(address, text.as_bytes(), AT_ONCE))).await;
                for answer in answers {
                    let answer = answer?;
                    ensure!(status(&answer) == Some(200), "one got {answer:?}");
                }
                Ok(())
            })
        }),
        attack("a thousand connections that say nothing", "others are served", |address| {
            Box::pin(async move {
                let held = join_all((0..1000).map(|_| TcpStream::connect(address))).await;
                ensure!(held.iter().all(Result::is_ok), "not all were accepted");
                Ok(())
            })
        }),
        attack("bodies of 600 MiB that never end", "refusals, and memory within its budget", |address| {
            Box::pin(async move { unfinished_bodies(address, 40, 15 << 20).await })
        })
        .grows_by(600 * 1024)
        .long(),
        attack("a head that drips", "the connection ends", |address| {
            Box::pin(async move {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx: ").await?;
                dripping(&mut stream).await
            })
        })
        .long(),
        attack("a body that drips", "the connection ends", |address| {
            Box::pin(async move {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(format!("{CHAT}content-length: 100000\r\n\r\n").as_bytes()).await?;
                dripping(&mut stream).await
            })
        })
        .long(),
    ]);
    attacks
}

trait ReplacePath {
    fn replace_path(self, path: &str) -> Self;
}

impl ReplacePath for Vec<u8> {
    fn replace_path(self, path: &str) -> Self {
        String::from_utf8_lossy(&self).replace("/v1/chat/completions", path).into_bytes()
    }
}

/// Sends a byte now and then until the other side has enough.
async fn dripping(stream: &mut TcpStream) -> Result<()> {
    let drip = async {
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    timeout(LATE, drip).await.context("the connection is still open")
}

/// Sends all of `count` bodies but the last byte.
async fn unfinished_bodies(address: SocketAddr, count: usize, len: usize) -> Result<()> {
    let body = vec![b' '; len - 1];
    let send = async || {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("{CHAT}content-length: {len}\r\n\r\n").as_bytes()).await?;
        // Those above the budget are refused in the middle.
        let _refused = timeout(AT_ONCE, stream.write_all(&body)).await;
        Ok::<TcpStream, std::io::Error>(stream)
    };
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(send().await?);
    }
    Ok(())
}
