//! Load: callers that send requests one after the other, and check every answer.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use transport::clock::unix_now;

use crate::ask::Ask;
use crate::http::{Connection, chat_request};
use crate::measure;
use crate::mock::{MODEL, nanos};
use crate::targets::Target;

/// Longer than any answer that is asked for; an answer that takes longer will not come.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// What callers do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// How many there are.
    pub(crate) callers: usize,
    /// What each asks for, again and again.
    pub(crate) ask: Ask,
    /// Whether each request has a connection of its own.
    pub(crate) is_connection_new: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    /// Answers; all were complete.
    pub(crate) answers: u64,
    /// From the request's first byte to the answer's last, in microseconds, ascending.
    pub(crate) latencies_us: Vec<f64>,
    /// From the mock's stamp to the token's arrival here, in microseconds, ascending.
    pub(crate) token_latencies_us: Vec<f64>,
    /// Wall time of the load.
    pub(crate) elapsed: Duration,
    /// Processor time of the target's processes meanwhile.
    pub(crate) cpu: Duration,
}

impl Sample {
    /// Processor time for one answer, in microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        micros(self.cpu) / self.answers as f64
    }

    /// Answers per second.
    pub(crate) fn rate(&self) -> f64 {
        self.answers as f64 / self.elapsed.as_secs_f64()
    }
}

pub(crate) fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

/// Runs the load for `span`; what is under way at its end is waited for.
///
/// # Errors
/// If an answer is missing, late, incomplete or out of order: the measurement is void.
pub(crate) async fn run(target: &Target, load: Load, span: Duration) -> Result<Sample> {
    let request: Rc<[u8]> = chat_request(&load.ask.body(MODEL), !load.is_connection_new).into();
    let mut connections = Vec::new();
    for _caller in 0..load.callers {
        connections.push(Some(Connection::open(target.port).await?));
    }
    let (cpu_before, began) = (measure::cpu(&target.pids)?, Instant::now());
    let until = began + span;
    let tasks = tokio::task::LocalSet::new();
    let mut callers = JoinSet::new();
    for connection in connections {
        let caller = Caller { port: target.port, connection, request: Rc::clone(&request), load };
        callers.spawn_local_on(caller.run(until), &tasks);
    }
    let mut sample = Sample::default();
    let joined = async {
        while let Some(outcome) = callers.join_next().await {
            let part = outcome.context("a caller failed")??;
            sample.answers += part.answers;
            sample.latencies_us.extend(part.latencies_us);
            sample.token_latencies_us.extend(part.token_latencies_us);
        }
        anyhow::Ok(())
    };
    tasks.run_until(joined).await.with_context(|| format!("{}, {load:?}", target.name))?;
    sample.elapsed = began.elapsed();
    sample.cpu = measure::cpu(&target.pids)?.saturating_sub(cpu_before);
    sample.latencies_us.sort_by(f64::total_cmp);
    sample.token_latencies_us.sort_by(f64::total_cmp);
    Ok(sample)
}

struct Caller {
    port: u16,
    connection: Option<Connection>,
    request: Rc<[u8]>,
    load: Load,
}

impl Caller {
    async fn run(mut self, until: Instant) -> Result<Sample> {
        let mut sample = Sample::default();
        loop {
            let began = Instant::now();
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => Connection::open(self.port).await?,
            };
            connection.write(&self.request).await?;
            let tokens = receive(&mut connection, &self.load.ask).await?;
            sample.answers += 1;
            sample.latencies_us.push(micros(began.elapsed()));
            sample.token_latencies_us.extend(tokens);
            if !self.load.is_connection_new {
                self.connection = Some(connection);
            }
            // At the end, so that each caller sends at least one request.
            if Instant::now() >= until {
                return Ok(sample);
            }
        }
    }
}

/// Takes the answer to `ask` and checks it. Returns how long each token travelled, in microseconds.
pub(crate) async fn receive(connection: &mut Connection, ask: &Ask) -> Result<Vec<f64>> {
    let mut reader = AnswerReader::default();
    let answered = timeout(ANSWER_DEADLINE, connection.answer(|piece| reader.take(piece))).await;
    let status = answered.with_context(|| format!("no answer within {ANSWER_DEADLINE:?}"))??;
    if status != 200 {
        let text = String::from_utf8_lossy(&reader.rest).into_owned();
        bail!("status {status}: {text}");
    }
    reader.finish(ask)
}

/// Finds tokens in pieces of an answer.
#[derive(Debug, Default)]
struct AnswerReader {
    /// What is not yet a whole line.
    rest: Vec<u8>,
    token_latencies_us: Vec<f64>,
    is_out_of_order: bool,
    completion_tokens: Option<u32>,
}

impl AnswerReader {
    fn take(&mut self, piece: &[u8]) {
        let now = nanos(unix_now());
        self.rest.extend_from_slice(piece);
        let Some(end) = memchr::memrchr(b'\n', &self.rest) else { return };
        let rest = self.rest.split_off(end + 1);
        let lines = std::mem::replace(&mut self.rest, rest);
        for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            self.line(line, now);
        }
    }

    fn line(&mut self, line: &[u8], now: u64) {
        if let Some(at) = memchr::memmem::find(line, b"\"#") {
            let mut numbers = line[at + 2..].split(|&byte| byte == b':').map(number);
            let (sequence, stamp) = (numbers.next().flatten(), numbers.next().flatten());
            self.is_out_of_order |= sequence != Some(self.token_latencies_us.len() as u64);
            self.token_latencies_us.push(now.saturating_sub(stamp.unwrap_or(0)) as f64 / 1e3);
        }
        self.find_usage(line);
    }

    fn find_usage(&mut self, text: &[u8]) {
        const KEY: &[u8] = b"\"completion_tokens\":";
        if let Some(at) = memchr::memmem::find(text, KEY) {
            let digits = text[at + KEY.len()..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let text = &text[at + KEY.len()..][..digits];
            self.completion_tokens = number(text).and_then(|count| u32::try_from(count).ok());
        }
    }

    fn finish(mut self, ask: &Ask) -> Result<Vec<f64>> {
        let rest = std::mem::take(&mut self.rest);
        self.find_usage(&rest);
        ensure!(!self.is_out_of_order, "tokens lost, doubled or out of order");
        let found = self.token_latencies_us.len();
        ensure!(found == ask.tokens as usize, "{found} tokens of {}", ask.tokens);
        let usage = if ask.tokens == 0 { 3 } else { ask.tokens };
        ensure!(self.completion_tokens == Some(usage), "usage says {:?} of {usage}", self.completion_tokens);
        Ok(self.token_latencies_us)
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&str], tokens: u32) -> Result<Vec<f64>> {
        let mut reader = AnswerReader::default();
        for piece in pieces {
            reader.take(piece.as_bytes());
        }
        reader.finish(&Ask::stream(tokens))
    }

    #[test]
    fn tokens_are_counted_however_the_stream_is_cut() {
        let usage = "data: {\"usage\":{\"completion_tokens\":2}}\n\n";
        let whole =
            format!("data: {{\"content\":\"#0:5: \"}}\n\ndata: {{\"content\":\"#1:6: \"}}\n\n{usage}");
        assert_eq!(read(&[&whole], 2).unwrap().len(), 2);
        let cut: Vec<&str> = (0..whole.len()).map(|at| &whole[at..=at]).collect();
        assert_eq!(read(&cut, 2).unwrap().len(), 2);
    }

    #[test]
    fn lost_doubled_and_miscounted_tokens_void_the_answer() {
        let token = |number| format!("data: {{\"content\":\"#{number}:5: \"}}\n\n");
        let usage = |count| format!("data: {{\"usage\":{{\"completion_tokens\":{count}}}}}\n\n");
        let lost = read(&[&token(0), &usage(2)], 2).unwrap_err().to_string();
        assert_eq!(lost, "1 tokens of 2");
        for order in [[1, 0], [0, 0], [0, 2]] {
            let out_of_order = read(&[&token(order[0]), &token(order[1]), &usage(2)], 2);
            assert!(out_of_order.unwrap_err().to_string().contains("out of order"));
        }
        let miscounted = read(&[&token(0), &usage(2)], 1).unwrap_err().to_string();
        assert_eq!(miscounted, "usage says Some(2) of 1");
    }
}
