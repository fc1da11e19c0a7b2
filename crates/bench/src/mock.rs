//! The mock engine: answers what the prompt asks for, at the pace it asks for.
//!
//! Each token of a stream is one event and one HTTP chunk, and carries its number and the wall clock in nanoseconds. A
//! paced token is one write, as engines do it; without a pause between them, [`BURST`] leave together. `GET /bench/state` tells what is in progress and when callers went away.
//! `GET /bench/release` lets the requests go on that asked to be held.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until};
use transport::clock::unix_now;

use crate::ask::Ask;
use crate::http::Connection;

/// The model that the mock serves.
pub(crate) const MODEL: &str = "bench";

/// Tokens in one write of a stream without pauses. With fewer, such streams measure how the scheduler happens to join
/// writes on a busy machine.
const BURST: u32 = 8;

/// What `GET /bench/state` tells.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// Requests that were received and not yet answered to the end.
    pub(crate) in_progress: u64,
    /// Bytes of streams that the system took from us.
    pub(crate) written: u64,
    /// When named callers went away before their answer ended, in nanoseconds since 1970.
    pub(crate) gone: BTreeMap<u64, u64>,
}

/// What the mock's connections share.
#[derive(Default)]
struct Shared {
    state: RefCell<State>,
    /// Wakes the requests that are held.
    release: Notify,
}

/// Serves until killed. Prints the port as its first line.
///
/// # Errors
/// If no port can be had.
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?.port());
    let shared = Rc::new(Shared::default());
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            loop {
                let (stream, _peer) = listener.accept().await?;
                let (connection, shared) = (Connection::new(stream)?, Rc::clone(&shared));
                tokio::task::spawn_local(async move {
                    // A caller that goes away is part of some measurements.
                    let _gone = converse(connection, &shared).await;
                });
            }
        })
        .await
}

async fn converse(mut connection: Connection, shared: &Shared) -> Result<()> {
    while let Some((line, body)) = connection.request().await? {
        match line.as_str() {
            "GET /v1/models" => {
                let list = format!(r#"{{"object":"list","data":[{{"id":"{MODEL}","object":"model"}}]}}"#);
                connection.write(&plain(200, &list)).await?;
            }
            "GET /bench/state" => {
                let text = serde_json::to_string(&shared.state)?;
                connection.write(&plain(200, &text)).await?;
            }
            "GET /bench/release" => {
                shared.release.notify_waiters();
                connection.write(&plain(200, "{}")).await?;
            }
            _ => match Ask::read(&body) {
                None => connection.write(&plain(400, r#"{"error":{"message":"no ask"}}"#)).await?,
                Some(ask) => run(&mut connection, ask, shared).await?,
            },
        }
    }
    Ok(())
}

/// Answers, and notices when the caller goes away meanwhile.
async fn run(connection: &mut Connection, ask: Ask, Shared { state, release }: &Shared) -> Result<()> {
    let mut progress = Progress { state, ask, is_answered: false };
    state.borrow_mut().in_progress += 1;
    if ask.is_held {
        unless_closed(connection, release.notified()).await?;
    }
    let begin = Instant::now() + ask.first;
    pause(connection, begin).await?;
    match ask.tokens {
        0 => connection.write(&answer()).await?,
        _ => stream(connection, ask, begin, state).await?,
    }
    progress.is_answered = true;
    Ok(())
}

/// Counts a request while it lives.
struct Progress<'a> {
    state: &'a RefCell<State>,
    ask: Ask,
    is_answered: bool,
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        state.in_progress -= 1;
        if self.ask.id > 0 && !self.is_answered {
            state.gone.insert(self.ask.id, nanos(unix_now()));
        }
    }
}

/// Waits until `at`, and fails at once when the caller goes away before.
async fn pause(connection: &mut Connection, at: Instant) -> Result<()> {
    if at <= Instant::now() {
        return Ok(());
    }
    unless_closed(connection, sleep_until(at)).await
}

async fn unless_closed(connection: &mut Connection, event: impl Future<Output = ()>) -> Result<()> {
    tokio::select! {
        () = event => Ok(()),
        () = connection.closed() => anyhow::bail!("the caller went away"),
    }
}

async fn stream(connection: &mut Connection, ask: Ask, begin: Instant, state: &RefCell<State>) -> Result<()> {
    let padding = "x".repeat(ask.padding as usize);
    let mut out = String::from(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    for number in 0..ask.tokens {
        pause(connection, begin + ask.gap * number).await?;
        let delta = format!(r##"{{"content":"#{number}:{}:{padding} "}}"##, nanos(unix_now()));
        event(&mut out, &chunk(&delta, "null", ""));
        if ask.gap.is_zero() && (number + 1) % BURST != 0 {
            continue;
        }
        connection.write(out.as_bytes()).await?;
        state.borrow_mut().written += out.len() as u64;
        out.clear();
    }
    let usage = format!(
        r#","usage":{{"prompt_tokens":8,"completion_tokens":{},"total_tokens":{}}}"#,
        ask.tokens,
        ask.tokens + 8
    );
    event(&mut out, &chunk("{}", "\"stop\"", ""));
    event(&mut out, &chunk("{}", "null", &usage));
    event(&mut out, "[DONE]");
    out.push_str("0\r\n\r\n");
    connection.write(out.as_bytes()).await
}

fn chunk(delta: &str, finish_reason: &str, usage: &str) -> String {
    format!(
        r#"{{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1,"model":"{MODEL}","choices":[{{"index":0,"delta":{delta},"finish_reason":{finish_reason}}}]{usage}}}"#
    )
}

/// Appends one server-sent event as one HTTP chunk.
fn event(out: &mut String, data: &str) {
    let _infallible = write!(out, "{:x}\r\ndata: {data}\n\n\r\n", data.len() + 8);
}

fn answer() -> Vec<u8> {
    plain(
        200,
        &format!(
            r#"{{"id":"chatcmpl-bench","object":"chat.completion","created":1,"model":"{MODEL}","choices":[{{"index":0,"message":{{"role":"assistant","content":"a few words"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":8,"completion_tokens":3,"total_tokens":11}}}}"#
        ),
    )
}

fn plain(status: u16, json: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}",
        json.len()
    )
    .into_bytes()
}

/// Nanoseconds since 1970, good for five hundred years.
pub(crate) fn nanos(since_1970: Duration) -> u64 {
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_one_chunk_of_the_length_it_says() {
        let mut out = String::new();
        event(&mut out, &chunk(r#"{"content":"hi"}"#, "null", ""));
        let (len, rest) = out.split_once("\r\n").unwrap();
        let body = rest.strip_suffix("\r\n").unwrap();
        assert_eq!(usize::from_str_radix(len, 16).unwrap(), body.len());
        let json = body.strip_prefix("data: ").unwrap().trim_end();
        assert!(serde_json::from_str::<serde_json::Value>(json).is_ok(), "{json}");
    }
}
