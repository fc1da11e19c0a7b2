//! What is held for a caller that does not read, and whether others suffer.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::cancel::state;
use super::{start_targets, versions};
use crate::Common;
use crate::ask::Ask;
use crate::http::{Connection, chat_request};
use crate::load::{self, Load};
use crate::measure;
use crate::mock::MODEL;
use crate::report::{Figure, Report, short};
use crate::statistics::{Median, quantile};
use crate::targets::{Nginx, Settings};

/// Callers that begin a long answer and read nothing.
const READERS: usize = 16;

/// Far more than all buffers of the system between engine and caller.
const LONG: Ask = Ask { padding: 4000, ..Ask::stream(20_000) };

/// # Errors
/// If a target cannot start, or a caller beside the slow ones gets a wrong answer.
pub(crate) async fn run(common: &Common) -> Result<Report> {
    let nginx = Nginx::find()?;
    let mut report = Report::new("slow-reader", "cocoon bench slow-reader".into(), versions(nginx.as_ref()));
    let running = start_targets(nginx.as_ref(), Settings::default()).await?;
    report.say(&format!(
        "{READERS} callers ask for 80 MB each and read nothing for three seconds. Memory is what the processes of the target grew by; taken from the engine counts the system's socket buffers too. Beside them, one caller reads a paced stream:"
    ));
    let heads = [
        "",
        "memory per stream, KiB",
        "taken from the engine per stream, KiB",
        "p50 beside, µs",
        "p99 beside, µs",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for target in &running.targets {
        let paced = Load {
            callers: 1,
            ask: Ask { gap: Duration::from_millis(20), ..Ask::stream(common.size(50, 5)) },
            is_connection_new: false,
        };
        load::run(target, paced, Duration::ZERO).await?;
        let (memory_before, written_before) =
            (measure::memory(&target.pids)?, state(running.mock.port).await?.written);
        let mut readers = Vec::new();
        for _reader in 0..READERS {
            let mut connection = Connection::open(target.port).await?;
            connection.write(&chat_request(&LONG.body(MODEL), true)).await?;
            readers.push(connection);
        }
        sleep(common.size(Duration::from_secs(2), common.span())).await;
        let beside = load::run(target, paced, Duration::ZERO).await;
        let per_stream = |before: u64, now: u64| now.saturating_sub(before) as f64 / READERS as f64 / 1024.0;
        let memory = per_stream(memory_before, measure::memory(&target.pids)?);
        let written = per_stream(written_before, state(running.mock.port).await?.written);
        drop(readers);
        report.push(Figure::new(format!("slow-reader/memory/{}", target.name), "KiB", Median::once(memory)));
        report.push(Figure::new(format!("slow-reader/taken/{}", target.name), "KiB", Median::once(written)));
        let mut row = vec![target.name.to_owned(), short(memory), short(written)];
        match beside {
            Ok(sample) => {
                let (p50, p99) =
                    (quantile(&sample.token_latencies_us, 0.5), quantile(&sample.token_latencies_us, 0.99));
                report.push(Figure::new(
                    format!("slow-reader/beside_p50/{}", target.name),
                    "µs",
                    Median::once(p50),
                ));
                row.extend([short(p50), short(p99)]);
            }
            Err(error) => row.extend([format!("failed: {:#}", error.root_cause()), "–".to_owned()]),
        }
        rows.push(row);
        // The engine finds its callers gone before the next target begins.
        sleep(Duration::from_millis(500)).await;
    }
    report.table(&rows);
    Ok(report)
}
