//! What the worker has done, for people, dashboards and Prometheus. Money is counted elsewhere.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use admin::StatRow;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::{Registry, Unit};
use serde_json::{Value, json};
use tokio::time::Instant;
use units::AdjustedUsage;

use crate::bill::Cost;

/// Counters of all models together.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    rows: Mutex<Rows>,
    requests: Counter,
    failures: Counter,
    tokens: Counter,
    seconds: Counter<f64, std::sync::atomic::AtomicU64>,
}

#[derive(Debug, Default)]
struct Rows {
    queries: StatRow,
    success: StatRow,
    failed: StatRow,
    bytes_received: StatRow,
    bytes_sent: StatRow,
    time: StatRow,
    total: StatRow,
    prompt: StatRow,
    cached: StatRow,
    completion: StatRow,
    reasoning: StatRow,
}

/// A request that ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Finished {
    pub(crate) is_success: bool,
    /// Bytes of the body that came from the proxy.
    pub(crate) bytes_received: usize,
    /// Bytes of body that went to the proxy.
    pub(crate) bytes_sent: usize,
    pub(crate) duration: Duration,
    pub(crate) cost: Cost,
}

impl Stats {
    #[expect(clippy::cast_precision_loss, reason = "rates are for people; 2^53 is far away")]
    pub(crate) fn record(&self, finished: &Finished) {
        let Cost { usage: AdjustedUsage { prompt, cached, completion, reasoning }, total } = finished.cost;
        self.requests.inc();
        self.failures.inc_by(u64::from(!finished.is_success));
        self.tokens.inc_by(total.get());
        self.seconds.inc_by(finished.duration.as_secs_f64());

        let now = Instant::now().into_std();
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.queries.record(now, 1.0);
        if finished.is_success {
            rows.success.record(now, 1.0);
        } else {
            rows.failed.record(now, 1.0);
        }
        rows.bytes_received.record(now, finished.bytes_received as f64);
        rows.bytes_sent.record(now, finished.bytes_sent as f64);
        rows.time.record(now, finished.duration.as_secs_f64());
        rows.total.record(now, total.get() as f64);
        rows.prompt.record(now, prompt.get() as f64);
        rows.cached.record(now, cached.get() as f64);
        rows.completion.record(now, completion.get() as f64);
        rows.reasoning.record(now, reasoning.get() as f64);
    }

    /// The rows under the names that deployed workers give them.
    pub(crate) fn json(&self) -> Value {
        let now = Instant::now().into_std();
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "queries": rows.queries.json(now),
            "success": rows.success.json(now),
            "failed": rows.failed.json(now),
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
        registry.register("requests", "Requests that ended", self.requests.clone());
        registry.register("failures", "Requests that ended without a whole answer", self.failures.clone());
        registry.register("adjusted_tokens", "Adjusted tokens charged", self.tokens.clone());
        let help = "Time that requests took, summed";
        registry.register_with_unit("request_time", help, Unit::Seconds, self.seconds.clone());
    }
}

#[cfg(test)]
mod tests {
    use units::AdjustedTokens;

    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_how_they_ended() {
        let stats = Stats::default();
        let cost = Cost { total: AdjustedTokens::new(200), ..Cost::default() };
        stats.record(&Finished { is_success: true, bytes_received: 73, cost, ..Finished::default() });
        stats.record(&Finished::default());
        let json = stats.json();
        let total_of = |row: &str| json[row][0].as_f64().unwrap();
        assert_eq!([total_of("queries"), total_of("success"), total_of("failed")], [2.0, 1.0, 1.0]);
        assert_eq!([total_of("bytes_received"), total_of("total_adjusted_tokens_used")], [73.0, 200.0]);
    }
}
