//! The table for people: what the results' members mean, and their medians over the runs.

use serde_json::Value;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Things a second.
    PerSecond,
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
    /// Processor seconds per million messages.
    CpuSeconds,
    /// MiB.
    Mebibytes,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// How it is written behind a number.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Count => "",
            Self::PerSecond => "/s",
            Self::Microseconds => "µs",
            Self::Milliseconds => "ms",
            Self::CpuSeconds => "s",
            Self::Mebibytes => "MiB",
            Self::Bytes => "B",
        }
    }
}

use Unit::{Bytes, Count, CpuSeconds, Mebibytes, Microseconds, Milliseconds, PerSecond};

/// What is shown: the workload, the path of the member, what it is, and its unit.
const MEASURES: &[(&str, &str, &str, Unit)] = &[
    ("w1", "acked_per_s", "sends receipted", PerSecond),
    ("w1", "e2e_per_s", "delivered and acknowledged", PerSecond),
    ("w1", "broker_cpu_s_per_M", "server CPU per million", CpuSeconds),
    ("w1", "client_cpu_s_per_M", "client CPU per million", CpuSeconds),
    ("w1", "peak_rss_mb", "peak memory of all servers", Mebibytes),
    ("w2", "confirm.p50_us", "receipt p50", Microseconds),
    ("w2", "confirm.p99_us", "receipt p99", Microseconds),
    ("w2", "confirm.p999_us", "receipt p99.9", Microseconds),
    ("w2", "e2e.p50_us", "delivery p50", Microseconds),
    ("w2", "e2e.p99_us", "delivery p99", Microseconds),
    ("w2", "e2e.p999_us", "delivery p99.9", Microseconds),
    ("w3", "rate", "load", PerSecond),
    ("w3", "e2e.p50_us", "delivery p50", Microseconds),
    ("w3", "e2e.p99_us", "delivery p99", Microseconds),
    ("w3", "e2e.p999_us", "delivery p99.9", Microseconds),
    ("w3", "confirm.p99_us", "receipt p99", Microseconds),
    ("w3-half", "rate", "load (half of what W1 reached)", PerSecond),
    ("w3-half", "e2e.p50_us", "delivery p50", Microseconds),
    ("w3-half", "e2e.p99_us", "delivery p99", Microseconds),
    ("w3-half", "e2e.p999_us", "delivery p99.9", Microseconds),
    ("w3-half", "confirm.p99_us", "receipt p99", Microseconds),
    ("w4", "stored", "messages that waited", Count),
    ("w4", "fill_per_s", "filled", PerSecond),
    ("w4", "drain_per_s", "drained", PerSecond),
    ("w4", "peak_rss_mb", "peak memory of all servers", Mebibytes),
    ("w5", "longest_gap_worst_recipient_ms", "longest wait of a client", Milliseconds),
    ("w5", "longest_gap_all_ms", "longest time without any receipt", Milliseconds),
    ("w5", "longest_delivery_gap_worst_recipient_ms", "longest wait for a delivery", Milliseconds),
    ("w6", "first_delivery_ms", "first delivery after the cut", Milliseconds),
    ("w6", "last_delivery_ms", "last delivery after the cut", Milliseconds),
    ("w6", "first_delivery_after_start_ms", "first delivery after the start", Milliseconds),
    ("names", "names", "names", Count),
    ("names", "registered_per_s", "registered", PerSecond),
    ("names", "broker_cpu_s_per_M", "server CPU per million", CpuSeconds),
    ("names", "bytes_per_name", "memory of a server for each", Bytes),
    ("names", "alone.p50_us", "receipt p50 before", Microseconds),
    ("names", "meanwhile.p50_us", "receipt p50 meanwhile", Microseconds),
    ("names", "meanwhile.p99_us", "receipt p99 meanwhile", Microseconds),
    ("names", "longest_wait_ms", "longest wait for a receipt meanwhile", Milliseconds),
    ("names", "first_receipt_after_start_ms", "first receipt after all were killed", Milliseconds),
];

/// What is shown of every workload.
const COUNTS: &[(&str, &str)] =
    &[("lost", "lost"), ("dups", "doubled"), ("disordered", "out of order"), ("altered", "altered")];

/// One line of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The workload.
    pub workload: String,
    /// What was measured.
    pub what: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// Over all runs: median, least, most.
    pub values: [f64; 3],
}

/// The table of the results of all runs.
pub fn lines(results: &[Value]) -> Vec<Line> {
    let mut workloads: Vec<&str> = Vec::new();
    for name in results.iter().filter_map(|result| result["w"].as_str()) {
        if !workloads.contains(&name) {
            workloads.push(name);
        }
    }
    let mut lines = Vec::new();
    for workload in workloads {
        let measures = MEASURES.iter().filter(|measure| measure.0 == workload);
        let measures = measures.map(|(_, path, what, unit)| (*path, *what, *unit));
        let counts = COUNTS.iter().map(|(path, what)| (*path, *what, Count));
        for (path, what, unit) in measures.chain(counts) {
            let of_it = results.iter().filter(|result| result["w"] == workload);
            if let Some(values) = spread(of_it.filter_map(|result| member(result, path)).collect()) {
                lines.push(Line { workload: workload.to_owned(), what, unit, values });
            }
        }
    }
    lines
}

/// Counts that must be 0 and are not, in words.
pub fn faults(results: &[Value]) -> Vec<String> {
    let mut faults = Vec::new();
    for result in results {
        for (path, what) in COUNTS {
            let count = member(result, path).unwrap_or(0.0);
            if count > 0.0 {
                faults.push(format!("{}: {count} {what}", result["w"].as_str().unwrap_or("?")));
            }
        }
    }
    faults
}

fn member(result: &Value, path: &str) -> Option<f64> {
    path.split('.').try_fold(result, |value, part| value.get(part))?.as_f64()
}

fn spread(mut values: Vec<f64>) -> Option<[f64; 3]> {
    values.sort_by(f64::total_cmp);
    let (least, most) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
    Some([median, least, most])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn medians_are_over_the_runs_of_a_workload() {
        let results = [9, 1, 2, 8].map(|n| json!({ "w": "w1", "acked_per_s": n, "lost": 0 }));
        let lines = lines(&results);
        assert_eq!((lines[0].what, lines[0].values), ("sends receipted", [5.0, 1.0, 9.0]));
        assert_eq!((lines[1].what, lines[1].values), ("lost", [0.0, 0.0, 0.0]));
        assert_eq!(lines.len(), 2, "what is not there is not shown");
        let deep = super::lines(&[json!({ "w": "w2", "confirm": { "p50_us": 90 } })]);
        assert_eq!(deep[0].values[0], 90.0);
    }

    #[test]
    fn what_must_be_none_is_told() {
        let good = json!({ "w": "w4", "lost": 0, "dups": 0, "disordered": 0, "altered": 0 });
        assert!(faults(std::slice::from_ref(&good)).is_empty());
        for (path, what) in COUNTS {
            let mut bad = good.clone();
            bad[*path] = 3.into();
            assert_eq!(faults(&[good.clone(), bad]), [format!("w4: 3 {what}")]);
        }
    }
}
