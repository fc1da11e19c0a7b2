//! Cost and latency of requests through the whole path.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::seq::SliceRandom as _;
use tokio::time::Instant;

use super::cancel::state;
use super::{settle, start_targets, versions};
use crate::Common;
use crate::ask::Ask;
use crate::http;
use crate::load::{self, Load, Sample};
use crate::measure::{self, SystemCalls};
use crate::report::{Figure, Report, short, with_spread};
use crate::statistics::{Median, quantile};
use crate::targets::{Nginx, Settings, Target};

/// A prompt of 100 KB.
const LARGE: Ask = Ask { prompt_len: 100_000, ..Ask::TINY };

/// Streams that wait for their first token while memory is measured.
const WAITING: usize = 500;

/// By then they all wait, or never will.
const WAITING_DEADLINE: Duration = Duration::from_secs(30);

/// One kind of load.
struct Cell {
    name: &'static str,
    load: Load,
}

const fn cell(name: &'static str, callers: usize, ask: Ask, is_connection_new: bool) -> Cell {
    Cell { name, load: Load { callers, ask, is_connection_new } }
}

const CELLS: &[Cell] = &[
    cell("c1", 1, Ask::TINY, false),
    cell("c16", 16, Ask::TINY, false),
    cell("c128", 128, Ask::TINY, false),
    cell("100 KB c1", 1, LARGE, false),
    cell("100 KB c16", 16, LARGE, false),
    cell("s16", 16, Ask::stream(64), false),
    cell("new", 8, Ask::TINY, true),
];

/// Where the ratio of one nginx to three must lie for a run to count, in the cells named.
const CONTROL: (f64, f64) = (0.18, 0.30);
const CONTROL_CELLS: [&str; 2] = ["c16", "s16"];

/// The yardstick of all ratios.
const YARDSTICK: &str = "ngx2m";

/// What one target did in one cell, round by round.
#[derive(Default)]
struct Rounds {
    cpu_us: Vec<f64>,
    p10_us: Vec<f64>,
    p50_us: Vec<f64>,
    rate: Vec<f64>,
}

impl Rounds {
    fn push(&mut self, sample: &Sample) {
        self.cpu_us.push(sample.cpu_us());
        self.p10_us.push(quantile(&sample.latencies_us, 0.1));
        self.p50_us.push(quantile(&sample.latencies_us, 0.5));
        self.rate.push(sample.rate());
    }
}

type Results = BTreeMap<(usize, &'static str), Rounds>;

/// # Errors
/// If a target cannot start, or an answer is wrong.
pub(crate) async fn run(common: &Common) -> Result<Report> {
    let nginx = Nginx::find()?;
    let command = format!("cocoon bench e2e --rounds {} --secs {}", common.rounds, common.secs);
    let mut report = Report::new("e2e", command, versions(nginx.as_ref()));
    if nginx.is_none() {
        report.say("nginx is not installed: there is no yardstick, and absolute times are rough.");
    }
    memory(&mut report, nginx.as_ref(), common.size(WAITING, 8)).await?;

    let running = start_targets(nginx.as_ref(), Settings::default()).await?;
    let targets = &running.targets;
    let results = measure_cells(targets, common).await?;
    for (index, cell) in CELLS.iter().enumerate() {
        for target in targets.iter().filter(|target| !target.pids.is_empty()) {
            let name = |quantity| format!("e2e/{}/{quantity}/{}", cell.name, target.name);
            let own = &results[&(index, target.name)];
            let cost = Median::of(own.cpu_us.iter().copied()).context("there was no round")?;
            let figure = Figure::new(name("cpu_per_request"), "µs", cost);
            report.push(figure.compared(YARDSTICK, ratio(&results, index, target.name, |r| &r.cpu_us)));
            let added = added(&results, index, target.name, |r| &r.p50_us);
            let latency = Median::of(added.iter().copied()).context("there was no round")?;
            let figure = Figure::new(name("added_p50"), "µs", latency);
            report.push(figure.compared(YARDSTICK, added_ratio(&results, index, target.name, |r| &r.p50_us)));
        }
    }
    tables(&mut report, targets, &results);
    system_calls(&mut report, targets, common.size(Duration::from_millis(500), common.span())).await?;
    Ok(report)
}

/// Every round visits every cell, and in each all targets in random order.
async fn measure_cells(targets: &[Target], common: &Common) -> Result<Results> {
    let mut results = Results::new();
    for round in 0..common.rounds {
        for (index, cell) in CELLS.iter().enumerate() {
            let mut order: Vec<&Target> = targets.iter().collect();
            order.shuffle(&mut rand::rng());
            for target in order {
                // Once unmeasured: connections behind the target open, code and buffers get warm.
                if round == 0 {
                    load::run(target, cell.load, common.span() / 5).await?;
                }
                settle().await;
                let sample = load::run(target, cell.load, common.span()).await?;
                results.entry((index, target.name)).or_default().push(&sample);
            }
        }
    }
    Ok(results)
}

/// A quantity relative to the yardstick's, each within its round.
fn ratio(
    results: &Results,
    cell: usize,
    target: &'static str,
    of: impl Fn(&Rounds) -> &Vec<f64>,
) -> Option<Median> {
    let yardstick = of(results.get(&(cell, YARDSTICK))?);
    Median::of(of(&results[&(cell, target)]).iter().zip(yardstick).map(|(own, yardstick)| own / yardstick))
}

/// A latency less that of the engine alone, in each round.
fn added(
    results: &Results,
    cell: usize,
    target: &'static str,
    of: impl Fn(&Rounds) -> &Vec<f64>,
) -> Vec<f64> {
    let direct = of(&results[&(cell, "direct")]);
    of(&results[&(cell, target)]).iter().zip(direct).map(|(own, direct)| own - direct).collect()
}

fn added_ratio(
    results: &Results,
    cell: usize,
    target: &'static str,
    of: impl Fn(&Rounds) -> &Vec<f64> + Copy,
) -> Option<Median> {
    results.get(&(cell, YARDSTICK))?;
    let yardstick = added(results, cell, YARDSTICK, of);
    Median::of(added(results, cell, target, of).iter().zip(yardstick).map(|(own, yardstick)| own / yardstick))
}

fn tables(report: &mut Report, targets: &[Target], results: &Results) {
    let head = |first: &str| {
        let names = CELLS.iter().map(|cell| cell.name.to_owned());
        std::iter::once(first.to_owned()).chain(names).collect::<Vec<_>>()
    };
    let row = |name: String, cells: &dyn Fn(usize) -> String| {
        std::iter::once(name).chain((0..CELLS.len()).map(cells)).collect::<Vec<_>>()
    };
    let measured = || targets.iter().filter(|target| !target.pids.is_empty());
    let median = |values: &[f64]| Median::of(values.iter().copied()).map_or(f64::NAN, |median| median.value);

    report.say("Processor time per request, all processes of a target (64-token stream in `s16`, a connection for each request in `new`):");
    let mut rows = vec![head("")];
    for target in measured() {
        let cost = |cell| short(median(&results[&(cell, target.name)].cpu_us));
        rows.push(row(format!("{}, µs", target.name), &cost));
        if target.name != YARDSTICK && results.contains_key(&(0, YARDSTICK)) {
            let ratio = |cell| with_spread(ratio(results, cell, target.name, |rounds| &rounds.cpu_us));
            rows.push(row(format!("{} ÷ {YARDSTICK}", target.name), &ratio));
        }
    }
    report.table(&rows);

    report.say("Added latency, median less that of the engine alone, and answers per second:");
    let mut rows = vec![head("")];
    for target in measured() {
        let latency = |cell| short(median(&added(results, cell, target.name, |rounds| &rounds.p50_us)));
        rows.push(row(format!("{}, µs", target.name), &latency));
        if target.name != YARDSTICK && results.contains_key(&(0, YARDSTICK)) {
            let ratio = |cell| with_spread(added_ratio(results, cell, target.name, |rounds| &rounds.p50_us));
            rows.push(row(format!("{} ÷ {YARDSTICK}", target.name), &ratio));
        }
        let rate = |cell| short(median(&results[&(cell, target.name)].rate));
        rows.push(row(format!("{}, /s", target.name), &rate));
    }
    report.table(&rows);

    let controls = CONTROL_CELLS.iter().filter_map(|name| {
        let cell = CELLS.iter().position(|cell| cell.name == *name)?;
        Some((*name, ratio(results, cell, "ngx1", |rounds| &rounds.cpu_us)?.value))
    });
    for (name, found) in controls.filter(|(_name, found)| !(CONTROL.0..=CONTROL.1).contains(found)) {
        report.say(&format!(
            "**This run does not count**: ngx1 ÷ {YARDSTICK} is {found:.2} in {name}, outside {}–{}.",
            CONTROL.0, CONTROL.1
        ));
    }
}

/// Memory of fresh processes, at rest and with many streams that wait for their first token.
async fn memory(report: &mut Report, nginx: Option<&Nginx>, streams: usize) -> Result<()> {
    let running = start_targets(nginx, Settings::default()).await?;
    let mut rows = vec![["", "at rest, MiB", "per waiting stream, KiB"].map(str::to_owned).to_vec()];
    let single = |value| Median { value, lowest: value, highest: value };
    for target in running.targets.iter().filter(|target| !target.pids.is_empty()) {
        let ask = Ask { is_held: true, ..Ask::stream(1) };
        // One request first: what is made once, at first use, belongs to no stream.
        load::run(
            target,
            Load { callers: 1, ask: Ask::stream(1), is_connection_new: false },
            Duration::from_millis(1),
        )
        .await?;
        let before = measure::memory(&target.pids)?;
        let load = Load { callers: streams, ask, is_connection_new: false };
        let (answered, waiting) = tokio::join!(load::run(target, load, Duration::from_millis(1)), async {
            let waiting = while_all_wait(target, running.mock.port, streams as u64).await;
            // In every case, or the load never ends.
            http::get(running.mock.port, "/bench/release").await?;
            waiting
        });
        answered?;
        let per_stream = waiting?.saturating_sub(before) as f64 / streams as f64 / 1024.0;
        let at_rest = before as f64 / f64::from(1 << 20);
        report.push(Figure::new(format!("e2e/memory/per_stream/{}", target.name), "KiB", single(per_stream)));
        report.push(Figure::new(format!("e2e/memory/at_rest/{}", target.name), "MiB", single(at_rest)));
        rows.push(vec![target.name.to_owned(), short(at_rest), short(per_stream)]);
    }
    report.say(&format!(
        "Memory of fresh processes (proportional set size), at rest and with {streams} streams that wait for a first token:"
    ));
    report.table(&rows);
    Ok(())
}

/// Memory while so many streams wait at once, as the engine says.
async fn while_all_wait(target: &Target, mock_port: u16, streams: u64) -> Result<u64> {
    let (mut waiting, began) = (0, Instant::now());
    while waiting < streams {
        ensure!(began.elapsed() < WAITING_DEADLINE, "only {waiting} of {streams} streams wait at once");
        tokio::time::sleep(Duration::from_millis(50)).await;
        waiting = state(mock_port).await?.in_progress;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    measure::memory(&target.pids)
}

/// System calls per request, where the kernel lets us count.
async fn system_calls(report: &mut Report, targets: &[Target], span: Duration) -> Result<()> {
    let cells = [("c1", 1, Ask::TINY), ("c16", 16, Ask::TINY), ("20-token stream, c16", 16, Ask::stream(20))];
    let mut rows =
        vec![std::iter::once("").chain(cells.map(|cell| cell.0)).map(str::to_owned).collect::<Vec<_>>()];
    for target in targets.iter().filter(|target| !target.pids.is_empty()) {
        let mut row = vec![target.name.to_owned()];
        for (name, callers, ask) in cells {
            let counter = match SystemCalls::count(&target.pids).await {
                Ok(counter) => counter,
                Err(reason) => {
                    report.say(&format!("System calls were not counted: {reason}."));
                    return Ok(());
                }
            };
            let load = Load { callers, ask, is_connection_new: false };
            let sample = load::run(target, load, span).await?;
            let calls = counter.finish()? as f64 / sample.answers as f64;
            let median = Median { value: calls, lowest: calls, highest: calls };
            report.push(Figure::new(format!("e2e/{name}/system_calls/{}", target.name), "calls", median));
            row.push(short(calls));
        }
        rows.push(row);
    }
    report.say("System calls per request:");
    report.table(&rows);
    Ok(())
}
