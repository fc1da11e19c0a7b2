//! Counts with their recent rates, as `/jsonstats` shows them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Time constants of the rates, in seconds: 1 s, 10 s, 1 min, 10 min, 1 h, 1 day.
const WINDOWS_S: [f64; 6] = [1.0, 10.0, 60.0, 600.0, 3_600.0, 86_400.0];

/// What is recorded within this time of the last decay is added without another one: six exponentials for each of a dozen
/// rows were 3 % of the processor time of a small request, and the shortest window is a hundred times as long.
const DECAY_AFTER: Duration = Duration::from_millis(10);

/// A running total and its rate per second over six windows: `[total, 1s, 10s, 1m, 10m, 1h, 1d]`.
///
/// A rate decays exponentially with its window, as in the statistics of the deployed network. This is for
/// people and dashboards; money is never counted here.
#[derive(Clone, Copy, Debug, Default)]
pub struct StatRow {
    total: f64,
    rates: [f64; 6],
    at: Option<Instant>,
}

impl StatRow {
    /// Adds `amount` at `now`. An instant before the last one counts as the last one.
    pub fn record(&mut self, now: Instant, amount: f64) {
        if self.at.is_none_or(|last| now.saturating_duration_since(last) >= DECAY_AFTER) {
            *self = self.decayed(now);
        }
        self.total += amount;
        for (rate, window) in self.rates.iter_mut().zip(WINDOWS_S) {
            *rate += amount / window;
        }
    }

    /// The seven numbers as of `now`.
    #[must_use]
    pub fn row(&self, now: Instant) -> [f64; 7] {
        let Self { total, rates: [a, b, c, d, e, f], .. } = self.decayed(now);
        [total, a, b, c, d, e, f]
    }

    /// The seven numbers as `/jsonstats` shows them.
    #[must_use]
    pub fn json(&self, now: Instant) -> Value {
        json!(self.row(now))
    }

    fn decayed(&self, now: Instant) -> Self {
        let last = self.at.unwrap_or(now);
        let passed = now.saturating_duration_since(last);
        let mut rates = self.rates;
        if passed > Duration::ZERO {
            for (rate, window) in rates.iter_mut().zip(WINDOWS_S) {
                *rate *= (-passed.as_secs_f64() / window).exp();
            }
        }
        Self { total: self.total, rates, at: Some(last.max(now)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[test]
    fn the_total_stays_and_rates_decay_by_their_window() {
        let start = start();
        let mut row = StatRow::default();
        row.record(start, 6.0);
        assert_eq!(row.row(start), [6.0, 6.0, 0.6, 0.1, 0.01, 6.0 / 3_600.0, 6.0 / 86_400.0]);
        let later = row.row(start + Duration::from_secs(60));
        assert_eq!(later[0], 6.0);
        assert!((later[3] - 0.1 * (-1.0_f64).exp()).abs() < 1e-12);
        assert!(later[1] < 1e-20);
    }

    #[test]
    fn a_steady_rate_is_shown_as_it_is() {
        let start = start();
        let mut row = StatRow::default();
        for tick in 0..20_000 {
            row.record(start + Duration::from_millis(10 * tick), 0.05);
        }
        let shown = row.row(start + Duration::from_millis(199_990));
        assert!((shown[1] - 5.0).abs() < 0.05 && (shown[2] - 5.0).abs() < 0.05, "{shown:?}");
        assert!((shown[0] - 1_000.0).abs() < 1e-6);
    }

    #[test]
    fn time_that_runs_backwards_changes_nothing() {
        let start = start();
        let mut row = StatRow::default();
        row.record(start + Duration::from_secs(5), 1.0);
        row.record(start, 1.0);
        assert_eq!(row.row(start)[..2], [2.0, 2.0]);
    }

    #[test]
    fn an_empty_row_shows_zeros() {
        assert_eq!(StatRow::default().json(start()), json!([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]));
    }
}
