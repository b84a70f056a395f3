//! How long things took.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The longest time that is told apart from longer ones, in microseconds.
const LONGEST_US: u64 = 120_000_000;

/// A distribution of times, to three digits.
#[derive(Debug, Clone)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_US, 3).unwrap_or_else(|error| unreachable!("fixed bounds: {error}")))
    }
}

impl Latency {
    /// Something that was due at `due` was done at `now`, both in nanoseconds.
    pub fn record(&mut self, due: u64, now: u64) {
        self.0.saturating_record((now.saturating_sub(due) / 1000).max(1));
    }

    /// Adds the times of another one.
    pub fn add(&mut self, other: &Self) {
        // Both have the same bounds.
        let _ = self.0.add(&other.0);
    }

    /// Count, quantiles and the longest, in microseconds.
    pub fn json(&self) -> Value {
        let h = &self.0;
        let at = |quantile| h.value_at_quantile(quantile);
        json!({ "n": h.len(), "p50_us": at(0.5), "p90_us": at(0.9), "p99_us": at(0.99), "p999_us": at(0.999), "max_us": h.max() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_microseconds() {
        let mut latency = Latency::default();
        (1..=1000).for_each(|us| latency.record(5000, 5000 + us * 1000));
        let mut all = Latency::default();
        all.add(&latency);
        all.record(9, 3);
        let json = all.json();
        assert_eq!((&json["n"], &json["p50_us"], &json["max_us"]), (&1001.into(), &500.into(), &1000.into()));
    }
}
