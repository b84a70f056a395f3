//! How many seeds it takes: the scratch copy's simulator runs seeds in processes of its own, one line a seed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use parking_lot::Mutex;

use super::{SWITCH, Sabotage};
use crate::cluster::Cluster;
use crate::plan::Plan;
use crate::run::{Verdict, run};
use crate::trace::Lines;

/// A seed that takes longer on the real clock is hanging: simulated time stands still in it.
const PATIENCE: Duration = Duration::from_secs(300);
/// A verdict's text in a line.
const TEXT_MAX: usize = 300;

/// What became of one range of seeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// No seed of the range failed.
    Nothing,
    /// A seed failed.
    Failure {
        /// Seeds run until then, this one included.
        after: u64,
        /// Which.
        seed: u64,
        /// The promises named.
        broken: Vec<String>,
        /// The verdict, in a line.
        text: String,
    },
}

/// Runs seeds in this process until one fails, and writes a line for each.
pub(super) fn probe(seeds: Range<u64>) {
    let mut out = std::io::stdout().lock();
    for seed in seeds {
        let verdict = run(&Plan::from_seed(seed), &Cluster, Lines::Discard).verdict;
        let text: String = verdict.to_string().replace('\n', " ").chars().take(TEXT_MAX).collect();
        let broken = broken(&verdict);
        if writeln!(out, "{seed}\t{}\t{text}", broken.join(",")).is_err() || !broken.is_empty() {
            return;
        }
    }
}

/// The promises that a verdict names.
fn broken(verdict: &Verdict) -> Vec<String> {
    let one = |word: &str| vec![word.to_owned()];
    match verdict {
        Verdict::Passed => Vec::new(),
        Verdict::Safety(violations) => {
            let mut promises: Vec<_> = violations.iter().map(|violation| violation.promise).collect();
            promises.sort_unstable();
            promises.dedup();
            promises.iter().map(ToString::to_string).collect()
        }
        Verdict::Disagreement(_) => one("agreement"),
        Verdict::Liveness(_) => one("available"),
        Verdict::Crash(_) => one("crash"),
        Verdict::Harness(_) => one("harness"),
    }
}

/// The scratch copy's simulator.
pub(super) struct Simulator {
    path: PathBuf,
    /// Seeds that were run without any sabotage: whether they passed.
    clean: Mutex<BTreeMap<u64, bool>>,
}

impl Simulator {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, clean: Mutex::default() }
    }

    /// The first failure that is the sabotage's own: a seed that fails without it, too, says nothing about it.
    pub(super) fn first_own_failure(&self, sabotage: &str, seeds: Range<u64>) -> Result<Found, String> {
        let mut from = seeds.start;
        loop {
            match first_failure(&self.path, Some(sabotage), from..seeds.end)? {
                Found::Failure { seed, .. } if !self.passes_without(seed)? => from = seed + 1,
                Found::Failure { seed, broken, text, .. } => {
                    return Ok(Found::Failure { after: seed + 1 - seeds.start, seed, broken, text });
                }
                Found::Nothing => return Ok(Found::Nothing),
            }
            if from >= seeds.end {
                return Ok(Found::Nothing);
            }
        }
    }

    /// The first failure without any sabotage.
    pub(super) fn first_failure_without(&self, seeds: Range<u64>) -> Result<Found, String> {
        first_failure(&self.path, None, seeds)
    }

    fn passes_without(&self, seed: u64) -> Result<bool, String> {
        if let Some(known) = self.clean.lock().get(&seed) {
            return Ok(*known);
        }
        let passes = self.first_failure_without(seed..seed + 1)? == Found::Nothing;
        self.clean.lock().insert(seed, passes);
        Ok(passes)
    }
}

/// Has the seeds run by the scratch copy's simulator, until one fails.
fn first_failure(simulator: &Path, sabotage: Option<&str>, seeds: Range<u64>) -> Result<Found, String> {
    let mut command = Command::new(simulator);
    command.args(["teeth", "--probe", &format!("{}..{}", seeds.start, seeds.end)]).env_remove(SWITCH);
    if let Some(name) = sabotage {
        command.env(SWITCH, name);
    }
    let failed = |error: std::io::Error| format!("{}: {error}", simulator.display());
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(failed)?;
    let Some(out) = child.stdout.take() else { return Err("a child without output".to_owned()) };
    let (sender, lines) = mpsc::channel();
    let reading = std::thread::Builder::new().spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let reading = reading.map_err(failed)?;
    let mut next = seeds.start;
    let found = loop {
        let failure = |seed: u64, broken: Vec<String>, text: String| Found::Failure {
            after: seed + 1 - seeds.start,
            seed,
            broken,
            text,
        };
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                let mut parts = line.splitn(3, '\t');
                let seed = parts.next().and_then(|seed| seed.parse().ok());
                let (Some(seed), Some(promises)) = (seed, parts.next()) else { continue };
                next = seed + 1;
                if !promises.is_empty() {
                    let broken = promises.split(',').map(str::to_owned).collect();
                    break failure(seed, broken, parts.next().unwrap_or_default().to_owned());
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                break failure(next, vec!["hang".to_owned()], "simulated time stands still".to_owned());
            }
            Err(RecvTimeoutError::Disconnected) if next >= seeds.end => break Found::Nothing,
            Err(RecvTimeoutError::Disconnected) => {
                break failure(next, vec!["crash".to_owned()], "the simulator's process died".to_owned());
            }
        }
    };
    // It may be in the middle of a seed that hangs, or have ended already.
    let _ = child.kill();
    child.wait().map_err(failed)?;
    let _ = reading.join();
    Ok(found)
}

/// Does `work` for every item, on so many threads; the results are in the items' order.
pub(super) fn on_threads<I: Sync, T: Send>(items: &[I], jobs: usize, work: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let (next, results) = (Mutex::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let at = {
                        let mut next = next.lock();
                        *next += 1;
                        *next - 1
                    };
                    let Some(item) = items.get(at) else { return };
                    let result = work(item);
                    results.lock().push((at, result));
                }
            });
        }
    });
    let mut results = results.into_inner();
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// What was found of one sabotage over all ranges.
pub(super) struct Row<'a> {
    pub(super) sabotage: &'a Sabotage,
    pub(super) ranges: Vec<Found>,
}

impl Row<'_> {
    /// After how many seeds it was caught by a promise that it says, in ascending order.
    fn caught(&self) -> Vec<u64> {
        let named = |found: &Found| match found {
            Found::Failure { after, broken, .. } if self.sabotage.is_named_by(broken) => Some(*after),
            _ => None,
        };
        let mut caught: Vec<u64> = self.ranges.iter().filter_map(named).collect();
        caught.sort_unstable();
        caught
    }

    /// Whether every range caught it.
    pub(super) fn is_caught(&self) -> bool {
        self.caught().len() == self.ranges.len()
    }

    /// The promises that were named, the most frequent first, with how often.
    fn promises(&self) -> Vec<(String, usize)> {
        let mut counts: Vec<(String, usize)> = Vec::new();
        for found in &self.ranges {
            let Found::Failure { broken, .. } = found else { continue };
            for promise in broken {
                match counts.iter_mut().find(|(known, _)| known == promise) {
                    Some((_, count)) => *count += 1,
                    None => counts.push((promise.clone(), 1)),
                }
            }
        }
        counts.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        counts
    }
}

/// The table, in Markdown.
pub(super) fn table(rows: &[Row<'_>], limit: u64) -> String {
    let mut text = String::from("| sabotage | what it does | promise named | caught | median | most |\n");
    text.push_str("|---|---|---|---|---|---|\n");
    for row in rows {
        let caught = row.caught();
        let seeds = |at: usize| caught.get(at).map_or("–".to_owned(), ToString::to_string);
        // What was not caught within the limit counts as more than it.
        let missed = caught.len() < row.ranges.len();
        let median = (row.ranges.len() - 1) / 2;
        let most = if missed { format!("> {limit}") } else { seeds(caught.len().saturating_sub(1)) };
        let promises: Vec<String> =
            row.promises().iter().map(|(promise, count)| format!("{promise} {count}")).collect();
        let median = if median < caught.len() { seeds(median) } else { format!("> {limit}") };
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} of {} | {median} | {most} |",
            row.sabotage.name,
            row.sabotage.what,
            promises.join(", "),
            caught.len(),
            row.ranges.len(),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::patch::Patch;
    use super::*;

    fn failure(after: u64, broken: &str) -> Found {
        Found::Failure { after, seed: 0, broken: vec![broken.to_owned()], text: String::new() }
    }

    #[test]
    fn the_table_counts_what_the_named_promise_caught() {
        let text = "Sabotage: x\nCaught-by: durable\nWhat: y\n--- a/f\n+++ b/f\n@@ -1,1 +1,2 @@\n a\n+b\n";
        let sabotage = Sabotage::of("07-x.patch".to_owned(), Patch::parse(text).unwrap()).unwrap();
        let row = |ranges| Row { sabotage: &sabotage, ranges };
        let good = row(vec![failure(9, "durable"), failure(1, "durable"), failure(4, "durable")]);
        assert!(good.is_caught());
        assert!(table(&[good], 50).ends_with("| `x` | y | durable 3 | 3 of 3 | 4 | 9 |\n"));
        let bad = row(vec![failure(9, "durable"), failure(1, "crash"), Found::Nothing]);
        assert!(!bad.is_caught());
        assert!(table(&[bad], 50).ends_with("| `x` | y | crash 1, durable 1 | 1 of 3 | > 50 | > 50 |\n"));
    }

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let items: Vec<u32> = (0..50).collect();
        assert_eq!(on_threads(&items, 4, |n| n * 2), items.iter().map(|n| n * 2).collect::<Vec<_>>());
        assert!(on_threads(&[0u32; 0], 4, |n| *n).is_empty());
    }
}
