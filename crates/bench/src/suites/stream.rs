//! Paced streams: how late a token comes, and what it costs.

use anyhow::Result;
use rand::seq::SliceRandom as _;
use std::collections::BTreeMap;
use std::time::Duration;

use super::{settle, start_targets, versions};
use crate::Common;
use crate::ask::Ask;
use crate::load::{self, Load};
use crate::report::{Figure, Report, short, with_spread};
use crate::statistics::{Median, quantile};
use crate::targets::{Nginx, Settings};

/// Streams at once.
const STREAMS: [usize; 3] = [1, 4, 100];

/// Each is fifty tokens, 20 ms apart: one second of an engine that a person reads.
const ASK: Ask = Ask { gap: Duration::from_millis(20), ..Ask::stream(50) };

/// Later than this a token was held back by something: the delayed acknowledgement of TCP takes 40 ms.
const STALL_US: f64 = 35_000.0;

/// What one target did with one number of streams, round by round.
#[derive(Default)]
struct Rounds {
    cpu_per_token: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    tokens: usize,
    stalls: usize,
}

/// # Errors
/// If a target cannot start, or a token is lost.
pub(crate) async fn run(common: &Common) -> Result<Report> {
    let nginx = Nginx::find()?;
    let command = format!("cocoon bench stream --rounds {} --secs {}", common.rounds, common.secs);
    let mut report = Report::new("stream", command, versions(nginx.as_ref()));
    let running = start_targets(nginx.as_ref(), Settings::default()).await?;
    let mut results: BTreeMap<(usize, &'static str), Rounds> = BTreeMap::new();
    let ask = common.size(ASK, Ask { tokens: 5, ..ASK });
    for round in 0..common.rounds {
        for streams in common.size(&STREAMS[..], &STREAMS[..2]).iter().copied() {
            let mut order: Vec<_> = running.targets.iter().collect();
            order.shuffle(&mut rand::rng());
            for target in order {
                let load = Load { callers: streams, ask, is_connection_new: false };
                if round == 0 {
                    load::run(target, Load { ask: Ask::stream(3), ..load }, Duration::ZERO).await?;
                }
                settle().await;
                let sample = load::run(target, load, common.span()).await?;
                let rounds = results.entry((streams, target.name)).or_default();
                let tokens = sample.token_latencies_us.len();
                rounds.cpu_per_token.push(load::micros(sample.cpu) / tokens as f64);
                rounds.p50.push(quantile(&sample.token_latencies_us, 0.5));
                rounds.p99.push(quantile(&sample.token_latencies_us, 0.99));
                rounds.tokens += tokens;
                rounds.stalls += sample.token_latencies_us.iter().filter(|late| **late > STALL_US).count();
            }
        }
    }

    report.say(
        "Streams of 50 tokens, 20 ms apart. One way is from the engine's stamp to the caller; a stall is a token more than 35 ms late.",
    );
    let heads = ["", "streams", "CPU per token, µs", "÷ ngx2m", "one way p50, µs", "p99, µs", "stalls"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for ((streams, name), rounds) in &results {
        let yardstick = results.get(&(*streams, "ngx2m"));
        let ratio = yardstick.and_then(|yardstick| {
            let pairs = rounds.cpu_per_token.iter().zip(&yardstick.cpu_per_token);
            Median::of(pairs.map(|(own, yardstick)| own / yardstick))
        });
        let is_measured = *name != "direct";
        let ratio = ratio.filter(|_| is_measured && *name != "ngx2m");
        let medians = [&rounds.cpu_per_token, &rounds.p50, &rounds.p99]
            .map(|values| Median::of(values.iter().copied()));
        let [Some(cost), Some(p50), Some(p99)] = medians else { continue };
        let figure = |quantity| format!("stream/{streams}/{quantity}/{name}");
        if is_measured {
            report.push(Figure::new(figure("cpu_per_token"), "µs", cost).compared("ngx2m", ratio));
        }
        report.push(Figure::new(figure("one_way_p50"), "µs", p50));
        report.push(Figure::new(figure("one_way_p99"), "µs", p99));
        rows.push(vec![
            (*name).to_owned(),
            streams.to_string(),
            if is_measured { short(cost.value) } else { "–".to_owned() },
            with_spread(ratio),
            short(p50.value),
            short(p99.value),
            format!("{} of {}", rounds.stalls, rounds.tokens),
        ]);
    }
    report.table(&rows);
    Ok(report)
}
