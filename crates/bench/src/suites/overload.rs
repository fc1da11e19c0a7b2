//! Twice as many requests as the worker can run: what still gets done, and how soon the rest hears no.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep_until};

use super::versions;
use crate::Common;
use crate::ask::Ask;
use crate::http::{Connection, chat_request};
use crate::load::{self, Load, micros};
use crate::mock::MODEL;
use crate::process::Mock;
use crate::report::{Figure, Report, short, with_spread};
use crate::statistics::{Median, quantile};
use crate::targets::{Cocoon, Settings};

/// Places at the worker.
const PLACES: usize = 16;

/// The engine takes this long: the places are the limit, not the processors.
const ASK: Ask = Ask { first: Duration::from_millis(40), ..Ask::TINY };

/// Between two looks at the clock of arrivals.
const TICK: Duration = Duration::from_millis(1);

/// What came of an arrival.
#[derive(Default)]
struct Tally {
    done: u64,
    refused_us: Vec<f64>,
    others: Vec<u16>,
}

/// # Errors
/// If a role cannot start or a connection breaks.
pub(crate) async fn run(common: &Common) -> Result<Report> {
    let command = format!("cocoon bench overload --rounds {} --secs {}", common.rounds, common.secs);
    let mut report = Report::new("overload", command, versions(None));
    let mock = Mock::start()?;
    let settings = Settings { worker_requests_max: 16, ..Settings::default() };
    let cocoon = Cocoon::start(mock.port, settings).await?;
    let mut ratios = Vec::new();
    let mut refusals = Vec::new();
    let (mut peak_rate, mut offered_rate, mut good_rate) = (0.0, 0.0, 0.0);
    let mut others = 0;
    for _round in 0..common.rounds {
        let peak = Load { callers: PLACES, ask: ASK, is_connection_new: false };
        let peak = load::run(&cocoon.target, peak, common.span()).await?;
        peak_rate = peak.rate();
        offered_rate = peak_rate * 2.0;
        let (tally, took) = arrivals(cocoon.target.port, offered_rate, common.span()).await?;
        good_rate = tally.done as f64 / took.as_secs_f64();
        ratios.push(good_rate / peak_rate);
        refusals.extend(tally.refused_us);
        others += tally.others.len();
    }
    refusals.sort_by(f64::total_cmp);
    let ratio = Median::of(ratios);
    if let Some(ratio) = ratio {
        report.push(Figure::new("overload/goodput_by_peak", "ratio", ratio));
    }
    let refusal = Median::of(refusals.iter().copied()).map(|refusal| Median {
        value: refusal.value / 1e3,
        lowest: refusal.lowest / 1e3,
        highest: refusal.highest / 1e3,
    });
    if let Some(refusal) = refusal {
        report.push(Figure::new("overload/refusal", "ms", refusal));
    }
    report.say(&format!(
        "A worker with {PLACES} places in front of an engine that takes 40 ms, at its peak ({PLACES} callers) and offered twice that:"
    ));
    let heads = [
        "peak, /s",
        "offered, /s",
        "answered, /s",
        "answered ÷ peak",
        "refusal p50, ms",
        "p99, ms",
        "neither 200, 429 nor 503",
    ];
    report.table(&[
        heads.map(str::to_owned).to_vec(),
        vec![
            short(peak_rate),
            short(offered_rate),
            short(good_rate),
            with_spread(ratio),
            short(quantile(&refusals, 0.5) / 1e3),
            short(quantile(&refusals, 0.99) / 1e3),
            others.to_string(),
        ],
    ]);
    Ok(report)
}

/// Requests at a fixed rate, whether or not earlier ones were answered. Returns what came of them and how long they arrived.
async fn arrivals(port: u16, rate: f64, span: Duration) -> Result<(Tally, Duration)> {
    let request: Rc<[u8]> = chat_request(&ASK.body(MODEL), true).into();
    let idle: Rc<RefCell<Vec<Connection>>> = Rc::default();
    let tally: Rc<RefCell<Tally>> = Rc::default();
    let tasks = LocalSet::new();
    let mut exchanges = JoinSet::new();
    let began = Instant::now();
    let arriving = async {
        let mut sent = 0.0;
        while began.elapsed() < span {
            sleep_until(Instant::now() + TICK).await;
            while sent < began.elapsed().as_secs_f64() * rate {
                sent += 1.0;
                let exchange = exchange(port, Rc::clone(&request), Rc::clone(&idle), Rc::clone(&tally));
                exchanges.spawn_local(exchange);
            }
            while let Some(ended) = exchanges.try_join_next() {
                ended.context("an exchange failed")??;
            }
        }
        let arrived = began.elapsed();
        while let Some(ended) = exchanges.join_next().await {
            ended.context("an exchange failed")??;
        }
        anyhow::Ok(arrived)
    };
    let arrived = tasks.run_until(arriving).await?;
    Ok((tally.take(), arrived))
}

async fn exchange(
    port: u16,
    request: Rc<[u8]>,
    idle: Rc<RefCell<Vec<Connection>>>,
    tally: Rc<RefCell<Tally>>,
) -> Result<()> {
    let kept = idle.borrow_mut().pop();
    let mut connection = match kept {
        Some(connection) => connection,
        None => Connection::open(port).await?,
    };
    let began = Instant::now();
    connection.write(&request).await?;
    let status = connection.answer(|_piece| {}).await?;
    let took_us = micros(began.elapsed());
    let mut tally = tally.borrow_mut();
    match status {
        200 => tally.done += 1,
        429 | 503 => tally.refused_us.push(took_us),
        other => tally.others.push(other),
    }
    idle.borrow_mut().push(connection);
    Ok(())
}
