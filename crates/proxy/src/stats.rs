//! What the proxy has done, for people, dashboards and Prometheus. Money is counted in the ledger.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use admin::StatRow;
use ahash::HashMap;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use serde_json::{Value, json};
use units::AdjustedTokens;

use crate::core::{LinkId, Outcome, Report};

/// Counters of all requests together, and rates of each connected worker.
#[derive(Debug)]
pub(crate) struct Stats {
    rows: Mutex<Rows>,
    requests: Family<OutcomeLabel, Counter>,
    tokens: Family<KindLabel, Counter>,
    /// Those of `tokens`, found once: prompt, cached, completion, reasoning.
    tokens_by_kind: [Counter; 4],
    capped: Counter,
    moves: Counter,
    payload: Family<DirectionLabel, Counter<u64, AtomicU64>>,
    /// Those of `payload`, found once: received, sent.
    payload_by_direction: [Counter<u64, AtomicU64>; 2],
    durations: Histogram,
}

#[derive(Debug, Default)]
struct Rows {
    queries: StatRow,
    success: StatRow,
    failed: StatRow,
    rejected: StatRow,
    bytes_received: StatRow,
    bytes_sent: StatRow,
    time: StatRow,
    total: StatRow,
    prompt: StatRow,
    cached: StatRow,
    completion: StatRow,
    reasoning: StatRow,
    workers: HashMap<LinkId, WorkerRows>,
}

#[derive(Clone, Debug, Default)]
struct WorkerRows {
    queries: StatRow,
    success: StatRow,
    time: StatRow,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

/// Recent rates of one worker link.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct WorkerRates {
    /// Requests per second over ten minutes.
    pub(crate) queries: f64,
    /// Of them, those answered completely.
    pub(crate) success: f64,
    /// Seconds spent per second.
    pub(crate) time: f64,
}

/// Index of the ten-minute rate in a row.
const TEN_MINUTES: usize = 4;

impl Default for Stats {
    fn default() -> Self {
        let tokens: Family<KindLabel, Counter> = Family::default();
        let payload: Family<DirectionLabel, Counter<u64, AtomicU64>> = Family::default();
        Self {
            rows: Mutex::default(),
            requests: Family::default(),
            tokens_by_kind: ["prompt", "cached", "completion", "reasoning"]
                .map(|kind| tokens.get_or_create(&KindLabel { kind }).clone()),
            tokens,
            capped: Counter::default(),
            moves: Counter::default(),
            payload_by_direction: ["received", "sent"]
                .map(|direction| payload.get_or_create(&DirectionLabel { direction }).clone()),
            payload,
            // 10 ms to about 160 s: from a refusal to a long answer.
            durations: Histogram::new(exponential_buckets(0.01, 2.0, 15)),
        }
    }
}

impl Stats {
    #[expect(clippy::cast_precision_loss, reason = "rates are for people; 2^53 is far away")]
    pub(crate) fn record(&self, report: &Report, now: Instant) {
        let charged = &report.charged;
        let total = charged.total().map_or(u64::MAX, AdjustedTokens::get);
        let kinds = [charged.prompt, charged.cached, charged.completion, charged.reasoning];
        self.requests.get_or_create(&OutcomeLabel { outcome: label(report.outcome) }).inc();
        for (counter, tokens) in self.tokens_by_kind.iter().zip(kinds) {
            counter.inc_by(tokens.get());
        }
        self.capped.inc_by(report.capped.get());
        self.moves.inc_by(report.moves as u64);
        for (counter, bytes) in
            self.payload_by_direction.iter().zip([report.bytes_received, report.bytes_sent])
        {
            counter.inc_by(bytes as u64);
        }

        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if report.outcome == Outcome::Rejected {
            return rows.rejected.record(now, 1.0);
        }
        let seconds = report.duration.as_secs_f64();
        self.durations.observe(seconds);
        let is_success = report.outcome == Outcome::Success;
        rows.queries.record(now, 1.0);
        rows.success.record(now, f64::from(u8::from(is_success)));
        rows.failed.record(now, f64::from(u8::from(!is_success)));
        rows.bytes_received.record(now, report.bytes_received as f64);
        rows.bytes_sent.record(now, report.bytes_sent as f64);
        rows.time.record(now, seconds);
        rows.total.record(now, total as f64);
        rows.prompt.record(now, charged.prompt.get() as f64);
        rows.cached.record(now, charged.cached.get() as f64);
        rows.completion.record(now, charged.completion.get() as f64);
        rows.reasoning.record(now, charged.reasoning.get() as f64);
        // A worker that has left keeps no rows: its last reports come after `worker_left`.
        if let Some(worker) = report.worker.and_then(|link| rows.workers.get_mut(&link)) {
            worker.queries.record(now, 1.0);
            worker.success.record(now, f64::from(u8::from(is_success)));
            worker.time.record(now, seconds);
        }
    }

    pub(crate) fn worker_joined(&self, link: LinkId) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.workers.insert(link, WorkerRows::default());
    }

    pub(crate) fn worker_left(&self, link: LinkId) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.workers.remove(&link);
    }

    /// Recent rates of a worker link; zeros for one that is not connected.
    pub(crate) fn worker_rates(&self, link: LinkId, now: Instant) -> WorkerRates {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let rates = |rows: &WorkerRows| WorkerRates {
            queries: rows.queries.row(now)[TEN_MINUTES],
            success: rows.success.row(now)[TEN_MINUTES],
            time: rows.time.row(now)[TEN_MINUTES],
        };
        rows.workers.get(&link).map(rates).unwrap_or_default()
    }

    /// The rows under the names that deployed proxies give them.
    pub(crate) fn json(&self, now: Instant) -> Value {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "queries": rows.queries.json(now),
            "success": rows.success.json(now),
            "failed": rows.failed.json(now),
            "rejected": rows.rejected.json(now),
            "bytes_received": rows.bytes_received.json(now),
            "bytes_sent": rows.bytes_sent.json(now),
            "time": rows.time.json(now),
            "total_adjusted_tokens_used": rows.total.json(now),
            "prompt_adjusted_tokens_used": rows.prompt.json(now),
            "cached_adjusted_tokens_used": rows.cached.json(now),
            "completion_adjusted_tokens_used": rows.completion.json(now),
            "reasoning_adjusted_tokens_used": rows.reasoning.json(now),
        })
    }

    /// Makes the counters visible to Prometheus.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("requests", "Requests that ended, by how", self.requests.clone());
        let help = "Adjusted tokens charged, by kind";
        registry.register("adjusted_tokens", help, self.tokens.clone());
        let help = "Adjusted tokens that workers counted beyond their holds";
        registry.register("capped_adjusted_tokens", help, self.capped.clone());
        let help = "Requests that went on to another worker because one had failed";
        registry.register("moved_requests", help, self.moves.clone());
        let help = "Bytes of HTTP bodies, received from clients and sent to them";
        registry.register_with_unit("payload", help, Unit::Bytes, self.payload.clone());
        let help = "Time from the arrival of a request to its end";
        registry.register_with_unit("request_duration", help, Unit::Seconds, self.durations.clone());
    }
}

fn label(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Rejected => "rejected",
        Outcome::WorkerFailed => "worker_failed",
        Outcome::WorkerLost => "worker_lost",
        Outcome::WorkerMisbehaved => "worker_misbehaved",
        Outcome::Timeout => "timeout",
        Outcome::Cancelled => "cancelled",
        Outcome::ShutDown => "shut_down",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use units::{AdjustedUsage, RequestId};

    use super::*;

    fn report(outcome: Outcome, prompt: u64) -> Report {
        Report {
            request_id: RequestId::new([1; 32]),
            outcome,
            code: 0,
            worker: Some(LinkId(7)),
            duration: Duration::from_millis(1500),
            moves: 1,
            bytes_received: 73,
            bytes_sent: 500,
            charged: AdjustedUsage { prompt: AdjustedTokens::new(prompt), ..AdjustedUsage::default() },
            capped: AdjustedTokens::new(2),
        }
    }

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[test]
    fn requests_are_counted_by_how_they_ended() {
        let (stats, now) = (Stats::default(), now());
        stats.worker_joined(LinkId(7));
        stats.record(&report(Outcome::Success, 200), now);
        stats.record(&report(Outcome::Timeout, 0), now);
        stats.record(&report(Outcome::Rejected, 0), now);
        let json = stats.json(now);
        let total = |row: &str| json[row][0].as_f64().unwrap();
        let totals = ["queries", "success", "failed", "rejected", "bytes_received", "time"].map(total);
        assert_eq!(totals, [2.0, 1.0, 1.0, 1.0, 146.0, 3.0]);
        assert_eq!(total("total_adjusted_tokens_used"), 200.0);

        let rates = stats.worker_rates(LinkId(7), now);
        assert_eq!((rates.queries, rates.success), (2.0 / 600.0, 1.0 / 600.0));
        stats.worker_left(LinkId(7));
        stats.record(&report(Outcome::WorkerLost, 0), now);
        assert_eq!(stats.worker_rates(LinkId(7), now), WorkerRates::default());
    }

    #[test]
    fn labels_come_from_closed_sets() {
        let stats = Stats::default();
        stats.record(&report(Outcome::Success, 200), now());
        let mut registry = Registry::with_prefix("cocoon_proxy");
        stats.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "cocoon_proxy_requests_total{outcome=\"success\"} 1",
            "cocoon_proxy_adjusted_tokens_total{kind=\"prompt\"} 200",
            "cocoon_proxy_capped_adjusted_tokens_total 2",
            "cocoon_proxy_moved_requests_total 1",
            "cocoon_proxy_payload_bytes_total{direction=\"sent\"} 500",
            "cocoon_proxy_request_duration_seconds_count 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
