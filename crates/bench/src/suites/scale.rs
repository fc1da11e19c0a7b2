//! What connected workers cost while they do nothing.
//!
//! Idle workers are links of one generator process: real TLS and the real handshake, no engine. They serve the model
//! that is asked for, at a price above every request's ceiling, so that the choice has to pass them over. One real
//! worker answers.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::seq::SliceRandom as _;
use tokio::time::{Instant, sleep};

use super::{settle, versions};
use crate::Common;
use crate::ask::Ask;
use crate::idle_workers::{IdleWorkers, Shows};
use crate::load::{self, Load};
use crate::measure;
use crate::process::Mock;
use crate::report::{Figure, Report, short, with_spread};
use crate::statistics::Median;
use crate::targets::{Cocoon, Settings};

/// How long the proxy is watched while nobody asks anything.
const IDLE_SPAN: Duration = Duration::from_secs(30);
/// Until every link has had its first sign of life; those that follow come every 30 s.
const SETTLING_SPAN: Duration = Duration::from_secs(16);

/// A network with idle workers.
struct Populated {
    workers: usize,
    cocoon: Cocoon,
    _idle: IdleWorkers,
    joining: Duration,
    memory_per_worker: f64,
    idle_cpu_percent: f64,
}

/// # Errors
/// If a role or the generator cannot start, or an answer is wrong.
pub(crate) async fn run(common: &Common, counts: &[usize]) -> Result<Report> {
    let list = counts.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let command =
        format!("cocoon bench scale --workers {list} --rounds {} --secs {}", common.rounds, common.secs);
    let mut report = Report::new("scale", command, versions(None));
    let mock = Mock::start()?;
    let mut networks = Vec::new();
    for &workers in counts {
        let (settling, idle) = [SETTLING_SPAN, IDLE_SPAN].map(|span| common.size(span, common.span())).into();
        networks.push(populate(&mock, workers, settling, idle).await?);
    }

    let load = Load { callers: 16, ask: Ask::TINY, is_connection_new: false };
    let mut costs: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for round in 0..common.rounds {
        let mut order: Vec<&Populated> = networks.iter().collect();
        order.shuffle(&mut rand::rng());
        for network in order {
            if round == 0 {
                load::run(&network.cocoon.target, load, common.span() / 5).await?;
            }
            settle().await;
            let sample = load::run(&network.cocoon.target, load, common.span()).await?;
            costs.entry(network.workers).or_default().push(sample.cpu_us());
        }
    }

    report.say("Idle workers of the requested model, too dear for every request, beside one that answers; 16 callers. The ratio is to the fewest workers, in the same round:");
    let heads = [
        "idle workers",
        "CPU per request, µs",
        "ratio",
        "KiB per worker",
        "idle CPU of the proxy, % of a core",
        "all joined within, s",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    let fewest = networks.first().map(|network| network.workers).unwrap_or_default();
    for network in &networks {
        let own = &costs[&network.workers];
        let cost = Median::of(own.iter().copied()).context("there was no round")?;
        let ratio = Median::of(own.iter().zip(&costs[&fewest]).map(|(own, fewest)| own / fewest));
        let name = |quantity| format!("scale/{}/{quantity}", network.workers);
        report.push(Figure::new(name("cpu_per_request"), "µs", cost).compared("fewest workers", ratio));
        report.push(Figure::new(name("memory_per_worker"), "KiB", Median::once(network.memory_per_worker)));
        report.push(Figure::new(name("idle_cpu"), "%", Median::once(network.idle_cpu_percent)));
        report.push(Figure::new(name("joining"), "s", Median::once(network.joining.as_secs_f64())));
        rows.push(vec![
            network.workers.to_string(),
            short(cost.value),
            with_spread(ratio),
            short(network.memory_per_worker),
            short(network.idle_cpu_percent),
            short(network.joining.as_secs_f64()),
        ]);
    }
    report.table(&rows);
    Ok(report)
}

async fn populate(
    mock: &Mock,
    workers: usize,
    settling_span: Duration,
    idle_span: Duration,
) -> Result<Populated> {
    let settings = Settings { pow_difficulty: Some(0), ..Settings::default() };
    let cocoon = Cocoon::start(mock.port, settings).await?;
    let proxy = [cocoon.proxy_pid];
    let memory_before = measure::memory(&proxy)?;
    let mut idle = IdleWorkers::start(cocoon.workers_port, workers, Shows::Nothing)?;
    let joining = idle.join()?;
    // What joining took for itself is given back meanwhile.
    sleep(settling_span).await;
    let (cpu_before, idle_since) = (measure::cpu(&proxy)?, Instant::now());
    sleep(idle_span).await;
    let idle_cpu = measure::cpu(&proxy)?.saturating_sub(cpu_before);
    let idle_cpu_percent = idle_cpu.as_secs_f64() / idle_since.elapsed().as_secs_f64() * 100.0;
    let grown = measure::memory(&proxy)?.saturating_sub(memory_before);
    let memory_per_worker = grown as f64 / workers as f64 / 1024.0;
    Ok(Populated { workers, cocoon, _idle: idle, joining, memory_per_worker, idle_cpu_percent })
}
