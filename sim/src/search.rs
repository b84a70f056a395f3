//! Many plans on several threads, told in their order.
//!
//! A run hangs on its thread alone (see `context`), so runs do not see each other, and what a search finds does not
//! depend on how many threads it has: results are handed on in the order of the plans, and nothing behind the one that
//! ends the search counts.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use crate::reach::Reach;
use crate::run::{Outcome, Verdict};
use crate::symptom::Symptom;

/// The name of a thread that simulates.
pub const THREAD: &str = "simulation";
/// What a thread that simulates has for its stack: as much as a main thread.
const STACK_BYTES: usize = 8 << 20;
/// How often whoever watches is asked whether to go on, while nothing ends.
const TICK: Duration = Duration::from_millis(100);

/// The machine's cores.
pub fn all_cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// What happens to a search's results.
pub trait Watch<I, T> {
    /// The next result, in the order of the items. After a break there is no other.
    fn ended(&mut self, item: I, result: T) -> ControlFlow<()>;

    /// Asked now and then: on a break no item is begun any more, and those that run are waited for.
    fn go_on(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Does `work` for every item on `jobs` threads. `watch` hears of the results in the items' order, whatever the number
/// of threads.
///
/// # Panics
/// If `work` does, or if there are no threads to be had.
pub fn in_order<I, T>(
    items: impl Iterator<Item = I> + Send,
    jobs: usize,
    work: impl Fn(&I) -> T + Sync,
    watch: &mut impl Watch<I, T>,
) where
    I: Send,
    T: Send,
{
    let items = Mutex::new(items.enumerate());
    let enough = AtomicBool::new(false);
    let (results, ended) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (items, enough, work, results) = (&items, &enough, &work, results.clone());
            let thread = move || {
                while !enough.load(Ordering::Relaxed) {
                    let Some((at, item)) = items.lock().next() else { break };
                    let result = work(&item);
                    if results.send((at, item, result)).is_err() {
                        break;
                    }
                }
            };
            let builder = thread::Builder::new().name(THREAD.to_owned()).stack_size(STACK_BYTES);
            builder.spawn_scoped(scope, thread).unwrap_or_else(|error| panic!("no thread to simulate on: {error}"));
        }
        drop(results);
        let mut early = BTreeMap::new();
        let mut next = 0;
        loop {
            match ended.recv_timeout(TICK) {
                Ok((at, item, result)) => drop(early.insert(at, (item, result))),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            while let Some((item, result)) = early.remove(&next) {
                next += 1;
                if watch.ended(item, result).is_break() {
                    // Threads that still run find out when they are done.
                    enough.store(true, Ordering::Relaxed);
                    return;
                }
            }
            if watch.go_on().is_break() {
                enough.store(true, Ordering::Relaxed);
            }
        }
    });
}

/// What a run was, as far as a search counts it: an [`Outcome`] without its history.
#[derive(Debug, Clone)]
pub struct Ran {
    /// How it ended.
    pub verdict: Verdict,
    /// The hash over every event.
    pub hash: u64,
    /// How many events there were.
    pub events: u64,
    /// How much time passed in it.
    pub simulated: Duration,
    /// How much time of a core it took.
    pub cpu: Duration,
    /// How many faults of each kind began.
    pub faults: BTreeMap<&'static str, u32>,
    /// The places that were reached.
    pub reach: Reach,
}

impl Ran {
    /// Runs, and takes the time of the thread that it does so on.
    pub fn by(run: impl FnOnce() -> Outcome) -> Self {
        let before = cpu_time();
        let Outcome { verdict, hash, events, simulated, faults, reach, .. } = run();
        let cpu = cpu_time().saturating_sub(before);
        Self { verdict, hash, events, simulated, cpu, faults, reach }
    }
}

/// The time of a core that this thread has used: a run stays on one.
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// What many runs were, together.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// How many.
    pub runs: u64,
    /// Their events.
    pub events: u64,
    /// The time that passed in them.
    pub simulated: Duration,
    /// The time of cores that they took.
    pub cpu: Duration,
    /// How many faults of each kind began.
    pub faults: BTreeMap<&'static str, u64>,
    /// The places that were reached.
    pub reach: Reach,
    /// The seeds that failed, by what failed.
    pub failed: BTreeMap<Symptom, Vec<u64>>,
}

impl Tally {
    /// Counts the run of a seed.
    pub fn add(&mut self, seed: u64, ran: &Ran) {
        self.runs += 1;
        self.events += ran.events;
        self.simulated += ran.simulated;
        self.cpu += ran.cpu;
        for (kind, count) in &ran.faults {
            *self.faults.entry(kind).or_default() += u64::from(*count);
        }
        self.reach.add(&ran.reach);
        if let Some(symptom) = Symptom::of(&ran.verdict) {
            self.failed.entry(symptom).or_default().push(seed);
        }
    }

    /// Simulated seconds per second of a core.
    pub fn speed(&self) -> f64 {
        self.simulated.as_secs_f64() / self.cpu.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.simulated.as_secs_f64() / 3600.0;
        writeln!(f, "simulated {:.0} s ({hours:.2} hours)", self.simulated.as_secs_f64())?;
        writeln!(f, "cpu {:.1} s: {:.0} simulated seconds a second", self.cpu.as_secs_f64(), self.speed())?;
        writeln!(f, "events {}", self.events)?;
        writeln!(f, "faults {}", self.faults.values().sum::<u64>())?;
        for (kind, count) in &self.faults {
            writeln!(f, "  {kind:<16} {count:>8}")?;
        }
        write!(f, "{}", self.reach)?;
        if !self.failed.is_empty() {
            writeln!(f, "failed")?;
        }
        for (symptom, seeds) in &self.failed {
            let first: Vec<String> = seeds.iter().take(5).map(u64::to_string).collect();
            let more = if seeds.len() > first.len() { "…" } else { "" };
            writeln!(f, "  {:>8}  {symptom} (seeds {}{more})", seeds.len(), first.join(" "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps what it is told until it has `most`.
    struct Kept {
        most: usize,
        results: Vec<(u64, u64)>,
    }

    impl Watch<u64, u64> for Kept {
        fn ended(&mut self, item: u64, result: u64) -> ControlFlow<()> {
            self.results.push((item, result));
            if self.results.len() == self.most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }

    fn squares(jobs: usize, most: usize) -> Vec<(u64, u64)> {
        let mut kept = Kept { most, results: Vec::new() };
        // The first ones take longest, so that with several threads later ones end before them.
        let work = |item: &u64| {
            (0..(50 - item.min(&50)) * 20_000).fold(0u64, |sum, n| std::hint::black_box(sum.wrapping_add(n)));
            item * item
        };
        in_order(0..60, jobs, work, &mut kept);
        kept.results
    }

    #[test]
    fn results_come_in_order_whatever_the_number_of_threads() {
        let expected: Vec<_> = (0..60).map(|n| (n, n * n)).collect();
        for jobs in [0, 1, 2, 7, 100] {
            assert_eq!(squares(jobs, usize::MAX), expected);
            assert_eq!(squares(jobs, 11), expected[..11]);
        }
    }

    struct Impatient(Kept);

    impl Watch<u64, u64> for Impatient {
        fn ended(&mut self, item: u64, result: u64) -> ControlFlow<()> {
            self.0.ended(item, result)
        }

        fn go_on(&mut self) -> ControlFlow<()> {
            if self.0.results.len() >= 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }

    #[test]
    fn a_search_without_an_end_is_ended_and_has_no_gaps() {
        let mut watch = Impatient(Kept { most: usize::MAX, results: Vec::new() });
        in_order(0.., 3, |item| item + 1, &mut watch);
        assert!(watch.0.results.len() >= 5);
        for (at, (item, result)) in watch.0.results.into_iter().enumerate() {
            assert_eq!((item, result), (at as u64, item + 1));
        }
    }
}
