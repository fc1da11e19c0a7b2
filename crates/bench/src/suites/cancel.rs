//! How soon the engine hears that a caller went away.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use transport::clock::unix_now;

use super::{start_targets, versions};
use crate::Common;
use crate::ask::Ask;
use crate::http::{self, Connection, chat_request};
use crate::mock::{MODEL, State, nanos};
use crate::report::{Figure, Report, short};
use crate::statistics::{Median, quantile};
use crate::targets::{Nginx, Settings};

/// Callers that go away, one after the other, per round.
const CALLERS: u64 = 20;

/// How long a caller reads its answer before it goes away.
const UNDER_WAY: Duration = Duration::from_millis(110);

/// Nobody waits longer for the engine to hear of it.
const PATIENCE: Duration = Duration::from_secs(2);

/// # Errors
/// If a target cannot start or does not answer.
pub(crate) async fn run(common: &Common) -> Result<Report> {
    let nginx = Nginx::find()?;
    let command = format!("cocoon bench cancel --rounds {}", common.rounds);
    let mut report = Report::new("cancel", command, versions(nginx.as_ref()));
    let running = start_targets(nginx.as_ref(), Settings::default()).await?;
    report
        .say("From the caller's disconnect within a stream (a token every 20 ms) to the engine noticing it:");
    let mut rows = vec![["", "p50, ms", "slowest, ms", "never within 2 s"].map(str::to_owned).to_vec()];
    let mut id = 0;
    for target in &running.targets {
        let mut latencies_ms = Vec::new();
        let mut unheard = 0;
        for _caller in 0..common.size(CALLERS, 2) * u64::from(common.rounds) {
            id += 1;
            match go_away(target.port, running.mock.port, id).await? {
                Some(latency_ms) => latencies_ms.push(latency_ms),
                None => unheard += 1,
            }
            // Nothing else will change when nobody was ever heard.
            if unheard == 3 && latencies_ms.is_empty() {
                break;
            }
        }
        latencies_ms.sort_by(f64::total_cmp);
        let (p50, slowest) = (quantile(&latencies_ms, 0.5), quantile(&latencies_ms, 1.0));
        if let Some(median) = Median::of(latencies_ms.iter().copied()) {
            report.push(Figure::new(format!("cancel/heard/{}", target.name), "ms", median));
        }
        rows.push(vec![target.name.to_owned(), short(p50), short(slowest), unheard.to_string()]);
    }
    report.table(&rows);
    Ok(report)
}

/// Begins a stream, leaves it, and returns how many milliseconds later the engine knew.
async fn go_away(port: u16, mock_port: u16, id: u64) -> Result<Option<f64>> {
    let ask = Ask { gap: Duration::from_millis(20), id, ..Ask::stream(500) };
    let mut connection = Connection::open(port).await?;
    connection.write(&chat_request(&ask.body(MODEL), true)).await?;
    let begun = Notify::new();
    let reading = connection.answer(|_piece| begun.notify_one());
    tokio::select! {
        ended = reading => bail!("the answer did not last: {ended:?}"),
        // Some tokens more: the stream is under way everywhere.
        () = async { begun.notified().await; sleep(UNDER_WAY).await } => {}
    }
    let left = nanos(unix_now());
    drop(connection);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        sleep(Duration::from_millis(10)).await;
        let state = state(mock_port).await?;
        if let Some(gone) = state.gone.get(&id) {
            return Ok(Some(gone.saturating_sub(left) as f64 / 1e6));
        }
    }
    Ok(None)
}

/// What the mock engine knows.
pub(super) async fn state(mock_port: u16) -> Result<State> {
    let (_status, body) = http::get(mock_port, "/bench/state").await?;
    serde_json::from_slice(&body).context("the mock engine's state")
}
