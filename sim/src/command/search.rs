//! `search`: many seeds, on all cores.

use std::fmt;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use restante_sim::failure::Failure;
use restante_sim::plan::Plan;
use restante_sim::run::{Verdict, run};
use restante_sim::search::{Ran, Tally, Watch, all_cores, in_order};
use restante_sim::trace::Lines;

use super::{Chosen, Interrupt, Problem, deadline, now};

/// Runs many seeds, and stops at the first that fails.
///
/// The result does not depend on the number of threads. An interrupt (or the end of --minutes) lets the seeds that run
/// come to their end and prints what was done. The exit code is that of the first seed that failed.
#[derive(Debug, Args)]
pub(super) struct Search {
    /// Which, as FROM..TO (TO is not run), FROM.. (until --minutes have passed or somebody interrupts), or one alone.
    #[arg(long)]
    seeds: Seeds,
    /// How many at once [default: one for each core].
    #[arg(long, short)]
    jobs: Option<usize>,
    /// Begins no seed after so many minutes.
    #[arg(long)]
    minutes: Option<f64>,
    /// Goes on after a failure, and counts them by what failed.
    #[arg(long)]
    collect: bool,
    /// Where the plans that failed are saved.
    #[arg(long, default_value = "target/simulation")]
    save: PathBuf,
}

/// Seeds from one to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seeds {
    from: u64,
    /// Not among them.
    to: Option<u64>,
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text:?} is no seed"));
        let seeds = match text.split_once("..") {
            None => number(text).map(|from| Self { from, to: from.checked_add(1) })?,
            Some((from, "")) => Self { from: number(from)?, to: None },
            Some((from, to)) => Self { from: number(from)?, to: Some(number(to)?) },
        };
        match seeds.to {
            Some(to) if to <= seeds.from => Err("seeds are FROM..TO, e.g. 0..100".to_owned()),
            _ => Ok(seeds),
        }
    }
}

impl Seeds {
    fn count(self) -> Option<u64> {
        self.to.map(|to| to - self.from)
    }
}

impl Search {
    pub(super) fn execute(self, chosen: &Chosen) -> Result<u8, Problem> {
        let jobs = self.jobs.unwrap_or_else(all_cores);
        let start = now();
        let mut watch = Progress {
            search: &self,
            chosen,
            until: deadline(self.minutes),
            interrupt: Interrupt::listen(),
            bar: bar(self.seeds.count()),
            tally: Tally::default(),
            first: None,
            problem: None,
        };
        let scenario = &chosen.scenario;
        let one = |seed: &u64| {
            let plan = scenario.plan_of(*seed);
            Ran::by(|| run(&plan, &**scenario, Lines::Discard))
        };
        let seeds = self.seeds.from..self.seeds.to.unwrap_or(u64::MAX);
        in_order(seeds, jobs, one, &mut watch);
        watch.bar.finish_and_clear();
        let Progress { tally, first, problem, interrupt, .. } = watch;
        problem.map_or(Ok(()), Err)?;
        let wall = start.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
        let mut out = io::stdout().lock();
        if interrupt.came() {
            writeln!(out, "interrupted")?;
        }
        let speed = tally.runs as f64 / wall;
        writeln!(out, "seeds {} in {wall:.1} s on {jobs} threads: {speed:.2} a second", tally.runs)?;
        write!(out, "{tally}")?;
        match first {
            None => writeln!(out, "all passed")?,
            Some(_) => writeln!(out, "{} failed", Count(tally.failed.values().map(Vec::len).sum()))?,
        }
        Ok(first.unwrap_or_default())
    }
}

struct Count(usize);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} seed{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

fn bar(seeds: Option<u64>) -> ProgressBar {
    // Hidden where nobody looks: indicatif asks whether there is a terminal.
    let (bar, template) = match seeds {
        Some(seeds) => (ProgressBar::new(seeds), "{bar:30} {pos}/{len} seeds  {per_sec}  {eta} to go  {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} seeds  {per_sec}  {elapsed}  {msg}"),
    };
    // The templates are constants.
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

struct Progress<'a> {
    search: &'a Search,
    chosen: &'a Chosen,
    until: Option<Instant>,
    interrupt: Interrupt,
    bar: ProgressBar,
    tally: Tally,
    /// The exit code of the first that failed.
    first: Option<u8>,
    problem: Option<Problem>,
}

impl Progress<'_> {
    fn failed(&mut self, plan: &Plan, verdict: &Verdict) -> io::Result<()> {
        self.first.get_or_insert(verdict.exit_code());
        let Some(failure) = Failure::of(plan, verdict, self.chosen.flag) else { return Ok(()) };
        let saved = failure.save(&self.search.save)?;
        self.bar.suspend(|| {
            let mut out = io::stdout().lock();
            if self.search.collect {
                writeln!(out, "seed {} failed: {}\n  saved {}", plan.seed, failure.symptom, saved.path.display())
            } else {
                writeln!(out, "{saved}")
            }
        })
    }
}

impl Watch<u64, Ran> for Progress<'_> {
    fn ended(&mut self, seed: u64, ran: Ran) -> ControlFlow<()> {
        self.tally.add(seed, &ran);
        self.bar.inc(1);
        let failed: usize = self.tally.failed.values().map(Vec::len).sum();
        let failures = if failed == 0 { String::new() } else { format!("{} failed", Count(failed)) };
        self.bar.set_message(failures);
        if ran.verdict == Verdict::Passed {
            return ControlFlow::Continue(());
        }
        if let Err(error) = self.failed(&self.chosen.scenario.plan_of(seed), &ran.verdict) {
            self.problem = Some(error.into());
            return ControlFlow::Break(());
        }
        if self.search.collect { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn go_on(&mut self) -> ControlFlow<()> {
        self.bar.tick();
        let late = self.until.is_some_and(|until| now() >= until);
        if late || self.interrupt.came() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_read() {
        let seeds = |text: &str| text.parse::<Seeds>();
        assert_eq!(seeds("3..9"), Ok(Seeds { from: 3, to: Some(9) }));
        assert_eq!(seeds("3.."), Ok(Seeds { from: 3, to: None }));
        assert_eq!(seeds("7"), Ok(Seeds { from: 7, to: Some(8) }));
        for bad in ["", "..", "..7", "9..3", "3..3", "a..b", "-1..4", "1..2..3"] {
            assert!(seeds(bad).is_err(), "{bad}");
        }
    }
}
