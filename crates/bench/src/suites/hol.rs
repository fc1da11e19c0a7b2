//! Head of line: whether large prompts on a link hold back the tokens of others.

use std::time::Duration;

use anyhow::Result;
use rand::seq::SliceRandom as _;
use std::collections::BTreeMap;

use super::{settle, start_targets, versions};
use crate::Common;
use crate::ask::Ask;
use crate::load::{self, Load};
use crate::report::{Figure, Report, short, with_spread};
use crate::statistics::{Median, quantile};
use crate::targets::{Nginx, Settings};

/// The streams whose tokens are watched.
const WATCHED: Load = Load {
    callers: 4,
    ask: Ask { gap: Duration::from_millis(20), ..Ask::stream(50) },
    is_connection_new: false,
};

/// Prompts of 100 KB beside them, one every 10 ms and caller: an upload, not a saturated machine.
const LARGE: Load = Load {
    callers: 2,
    ask: Ask { prompt_len: 100_000, first: Duration::from_millis(10), ..Ask::TINY },
    is_connection_new: false,
};

#[derive(Default)]
struct Rounds {
    alone: Vec<f64>,
    beside: Vec<f64>,
}

/// # Errors
/// If a target cannot start, or an answer is wrong.
pub(crate) async fn run(common: &Common) -> Result<Report> {
    let nginx = Nginx::find()?;
    let command = format!("cocoon bench hol --rounds {} --secs {}", common.rounds, common.secs);
    let mut report = Report::new("hol", command, versions(nginx.as_ref()));
    let running = start_targets(nginx.as_ref(), Settings::default()).await?;
    let ask = common.size(WATCHED.ask, Ask { tokens: 5, ..WATCHED.ask });
    let watched = Load { ask, ..WATCHED };
    let mut results: BTreeMap<&'static str, Rounds> = BTreeMap::new();
    for _round in 0..common.rounds {
        let mut order: Vec<_> = running.targets.iter().collect();
        order.shuffle(&mut rand::rng());
        for target in order {
            settle().await;
            let alone = load::run(target, watched, common.span()).await?;
            let (beside, large) = tokio::join!(
                load::run(target, watched, common.span()),
                load::run(target, LARGE, common.span())
            );
            large?;
            let rounds = results.entry(target.name).or_default();
            rounds.alone.push(quantile(&alone.token_latencies_us, 0.5));
            rounds.beside.push(quantile(&beside?.token_latencies_us, 0.5));
        }
    }
    report.say("One-way latency of tokens in four paced streams, alone and beside two callers that send a prompt of 100 KB every 10 ms:");
    let mut rows =
        vec![["", "alone p50, µs", "beside p50, µs", "beside ÷ alone"].map(str::to_owned).to_vec()];
    for (name, rounds) in &results {
        let ratio = Median::of(rounds.beside.iter().zip(&rounds.alone).map(|(beside, alone)| beside / alone));
        let medians = [&rounds.alone, &rounds.beside].map(|values| Median::of(values.iter().copied()));
        let [Some(alone), Some(beside)] = medians else { continue };
        report.push(Figure::new(format!("hol/beside_p50/{name}"), "µs", beside).compared("alone", ratio));
        rows.push(vec![(*name).to_owned(), short(alone.value), short(beside.value), with_spread(ratio)]);
    }
    report.table(&rows);
    Ok(report)
}
