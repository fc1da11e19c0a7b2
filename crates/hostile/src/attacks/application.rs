//! Attacks by applications on a client's HTTP port.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::{BoxFuture, join_all};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Attack, Left, Target};
use crate::http::{exchange, status};
use crate::stage::Stage;

/// What has not come by then never comes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(180);

const CHAT: &str = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";

fn attack<F>(name: &str, expects: &'static str, run: F) -> Attack
where
    F: Fn(SocketAddr) -> BoxFuture<'static, Result<()>> + Send + Sync + 'static,
{
    Attack::new(name, Target::Api, expects, move |stage: &Stage| -> BoxFuture<'_, Result<Left>> {
        let attack = run(stage.api);
        Box::pin(async move { attack.await.map(|()| Left::Uncounted) })
    })
}

/// Sends one text; the answer's status must be in `allowed`. No answer at all counts as 0.
fn sent(name: &str, expects: &'static str, text: impl Into<Vec<u8>>, allowed: &'static [u16]) -> Attack {
    let text = text.into();
    attack(name, expects, move |address| {
        let text = text.clone();
        Box::pin(async move {
            let answer = exchange(address, &text, PATIENCE).await?;
            let count = answer.matches("HTTP/1.1 ").count();
            ensure!(count <= 1, "one request got {count} answers");
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
    attacks.extend(ambiguous());
    attacks.extend([
        attack("ten thousand requests in one go", "each is answered in its turn", |address| {
            Box::pin(async move {
                let again = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(9_999);
                let text = format!("{again}GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
                let answers = exchange(address, text.as_bytes(), PATIENCE).await?;
                let good = answers.matches("HTTP/1.1 200 ").count();
                ensure!(good == 9_999, "{good} were answered");
                ensure!(answers.matches("HTTP/1.1 404 ").count() == 1, "the last one was not answered");
                Ok(())
            })
        }),
        attack("requests whose answers nobody reads", "memory stays bounded", |address| {
            Box::pin(async move {
                let mut stream = TcpStream::connect(address).await?;
                let text = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(1_000);
                let send = async { while stream.write_all(text.as_bytes()).await.is_ok() {} };
                // The server stops to read when its answers go nowhere: nothing more can be sent then.
                let stuck = timeout(Duration::from_secs(5), send).await.is_err();
                ensure!(stuck, "the server has closed");
                Ok(())
            })
        })
        .grows_by(4 * 1024),
        attack("a thousand lists of models at once", "each is answered", |address| {
            Box::pin(async move {
                let text = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
                let answers = join_all((0..1000).map(|_| exchange(address, text.as_bytes(), PATIENCE))).await;
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
        .grows_by(200 * 1024)
        .long(),
        attack("bodies of 600 MiB at once", "answers or refusals, and memory within its budget", |address| {
            Box::pin(async move {
                let body =
                    format!(r#"{{"model":"neighbour","messages":[],"x":"{}"}}"#, "x".repeat(15_000_000));
                let text = with_body(&body);
                let answers = join_all((0..40).map(|_| exchange(address, &text, PATIENCE))).await;
                let mut good = 0;
                for answer in answers {
                    let status = status(&answer?);
                    ensure!(matches!(status, Some(200 | 429 | 503)), "one got {status:?}");
                    good += usize::from(status == Some(200));
                }
                ensure!(good > 0, "none was answered");
                Ok(())
            })
        })
        .grows_by(400 * 1024)
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

/// Requests that two readers could understand in two ways, with another request hidden in them: whoever reads them
/// must take them for one request, or for none.
fn ambiguous() -> Vec<Attack> {
    const POST: &str = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n";
    const HIDDEN: &str = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let one = "one answer, and not to what is hidden";
    let hiding = |name: &str, headers: &str, body: &str, allowed: &'static [u16]| {
        sent(name, one, format!("{POST}{headers}\r\n{body}{HIDDEN}"), allowed)
    };
    let plain = |name: &str, text: String, allowed: &'static [u16]| sent(name, one, text, allowed);
    vec![
        hiding(
            "a length and chunks",
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            "0\r\n\r\n",
            &[200, 400],
        ),
        hiding(
            "chunks and a length",
            "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
            "0\r\n\r\n",
            &[400],
        ),
        hiding("chunks in an unknown coding", "transfer-encoding: xchunked\r\n", "0\r\n\r\n", &[400]),
        hiding(
            "chunks that are coded again",
            "transfer-encoding: chunked, identity\r\n",
            "0\r\n\r\n",
            &[400],
        ),
        hiding(
            "two codings",
            "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
            "0\r\n\r\n",
            &[400],
        ),
        hiding(
            "a chunk beyond numbers",
            "transfer-encoding: chunked\r\n",
            "10000000000000002\r\n{}\r\n",
            &[0, 400, 408],
        ),
        hiding(
            "chunks with bare line ends",
            "transfer-encoding: chunked\r\n",
            "2\n{}\n0\n\n",
            &[0, 400, 408],
        ),
        hiding(
            "a chunk with a note of a megabyte",
            "transfer-encoding: chunked\r\n",
            &format!("2;x={}\r\n{{}}\r\n0\r\n\r\n", "y".repeat(1 << 20)),
            &[0, 400, 408],
        ),
        hiding(
            "ten thousand headers behind a body",
            "transfer-encoding: chunked\r\n",
            &format!("2\r\n{{}}\r\n0\r\n{}\r\n", "x: y\r\n".repeat(10_000)),
            &[0, 400, 408],
        ),
        hiding("a length with a sign", "content-length: +2\r\n", "{}", &[400]),
        hiding("a length in hexadecimal", "content-length: 0x2\r\n", "{}", &[400]),
        hiding("lengths in a list", "content-length: 2, 2\r\n", "{}", &[400]),
        hiding("a space before a colon", "content-length : 2\r\n", "{}", &[400]),
        hiding("a header on two lines", "x: y\r\n z\r\ncontent-length: 2\r\n", "{}", &[400]),
        hiding("a header without a colon", "nonsense\r\ncontent-length: 2\r\n", "{}", &[400]),
        hiding("a carriage return in a header", "x: y\rcontent-length: 2\r\n", "{}", &[400]),
        hiding("a zero byte in a header", "x: y\0z\r\ncontent-length: 2\r\n", "{}", &[400]),
        hiding("a second name", "host: evil.example\r\nconnection: close\r\n", "", &[400]),
        plain("no name", "GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n".into(), &[400]),
        plain(
            "a target elsewhere",
            "GET http://evil.example/v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
                .into(),
            &[421],
        ),
        plain(
            "a tunnel elsewhere",
            "CONNECT evil.example:443 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".into(),
            &[400, 404, 405, 421],
        ),
        plain("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), &[0, 400, 505]),
        plain("HTTP without a version", "GET /v1/models\r\n\r\n".into(), &[0, 400]),
    ]
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
    timeout(PATIENCE, drip).await.context("the connection is still open")
}

/// Sends all of `count` bodies but the last byte.
async fn unfinished_bodies(address: SocketAddr, count: usize, len: usize) -> Result<()> {
    let body = vec![b' '; len - 1];
    let send = async || {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("{CHAT}content-length: {len}\r\n\r\n").as_bytes()).await?;
        // Those above the budget are refused in the middle.
        let _refused = timeout(PATIENCE, stream.write_all(&body)).await;
        Ok::<TcpStream, std::io::Error>(stream)
    };
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(send().await?);
    }
    Ok(())
}
