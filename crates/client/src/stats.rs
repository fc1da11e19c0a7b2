//! What the client counts about itself: rows for `/jsonstats`, counters for Prometheus. Counts only, no content.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use admin::StatRow;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use units::AdjustedTokens;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The whole answer was handed over.
    Success,
    /// An error was.
    Failed,
    /// The application went away.
    Abandoned,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    outcome: &'static str,
}

#[derive(Debug, Default)]
struct Rows {
    queries: StatRow,
    success: StatRow,
    failed: StatRow,
    bytes_received: StatRow,
    bytes_sent: StatRow,
    time: StatRow,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    rows: Mutex<Rows>,
    requests: Family<RequestLabels, Counter>,
    in_flight: Gauge,
    bytes_received: Counter,
    bytes_sent: Counter,
    adjusted_tokens: Counter,
    ignored_messages: Counter,
}

impl Stats {
    /// Registers the counters.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let requests = self.requests.clone();
        registry.register("cocoon_client_requests", "Requests by how they ended", requests);
        let in_flight = self.in_flight.clone();
        registry.register("cocoon_client_requests_in_flight", "Requests that run now", in_flight);
        let bytes = self.bytes_received.clone();
        registry.register("cocoon_client_request_bytes", "Bytes of request bodies from applications", bytes);
        let bytes = self.bytes_sent.clone();
        registry.register("cocoon_client_answer_bytes", "Bytes of answer bodies to applications", bytes);
        let tokens = self.adjusted_tokens.clone();
        registry.register("cocoon_client_adjusted_tokens", "Adjusted tokens of complete answers", tokens);
        let ignored = self.ignored_messages.clone();
        let help = "Messages for requests that nobody waits for any more";
        registry.register("cocoon_client_ignored_messages", help, ignored);
    }

    /// A request came in. [`Self::ended`] must follow.
    pub(crate) fn started(&self, now: Instant, body_len: usize) {
        self.in_flight.inc();
        self.bytes_received.inc_by(body_len as u64);
        let mut rows = self.lock();
        rows.queries.record(now, 1.0);
        rows.bytes_received.record(now, body_len as f64);
    }

    /// A request ended.
    pub(crate) fn ended(
        &self,
        now: Instant,
        outcome: Outcome,
        took: Duration,
        sent: u64,
        tokens: AdjustedTokens,
    ) {
        self.in_flight.dec();
        let label = match outcome {
            Outcome::Success => "success",
            Outcome::Failed => "failed",
            Outcome::Abandoned => "abandoned",
        };
        self.requests.get_or_create(&RequestLabels { outcome: label }).inc();
        self.bytes_sent.inc_by(sent);
        self.adjusted_tokens.inc_by(tokens.get());
        let mut rows = self.lock();
        match outcome {
            Outcome::Success => rows.success.record(now, 1.0),
            Outcome::Failed | Outcome::Abandoned => rows.failed.record(now, 1.0),
        }
        rows.bytes_sent.record(now, sent as f64);
        rows.time.record(now, took.as_secs_f64());
    }

    /// Requests that came in and have not ended.
    pub(crate) fn requests_in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// A message came for a request that nobody waits for.
    pub(crate) fn ignored_message(&self) {
        self.ignored_messages.inc();
    }

    /// The rows as `/jsonstats` shows them.
    pub(crate) fn json(&self, now: Instant) -> Value {
        let rows = self.lock();
        json!({
            "queries": rows.queries.json(now),
            "success": rows.success.json(now),
            "failed": rows.failed.json(now),
            "bytes_received": rows.bytes_received.json(now),
            "bytes_sent": rows.bytes_sent.json(now),
            "time": rows.time.json(now),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        // Statistics may miss a number after a panic elsewhere; that is all.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
