//! What a test does with many plans: runs them, makes the first that fails small, keeps it, and tells all of that.
//!
//! ```no_run
//! use restante_sim::{check::{Checks, seed_of_the_day}, cluster::Cluster};
//!
//! Checks::new(&Cluster).seeds(seed_of_the_day(7), 100);
//! ```

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use xxhash_rust::xxh3::xxh3_64;

use crate::failure::Failure;
use crate::plan::Plan;
use crate::plan::strategy::Plans;
use crate::run::run;
use crate::scenario::Scenario;
use crate::search::{Ran, Tally, Watch, all_cores, in_order};
use crate::shrink::size;
use crate::symptom::Symptom;
use crate::trace::Lines;

/// How long a test tries to make a plan smaller.
const SHRINK_FOR: Duration = Duration::from_secs(120);

/// The seed of runs that are fresh: `RESTANTE_SIM_SEED`, a number or any other text, or else `fixed`. It is printed.
pub fn seed_of_the_day(fixed: u64) -> u64 {
    let text = std::env::var("RESTANTE_SIM_SEED").ok().filter(|text| !text.is_empty());
    let seed = text.map_or(fixed, |text| text.parse().unwrap_or_else(|_| xxh3_64(text.as_bytes())));
    println!("RESTANTE_SIM_SEED={seed}");
    seed
}

/// How many fresh runs there are to be: `RESTANTE_SIM_RUNS`, or else `fixed`.
pub fn runs_of_the_day(fixed: u32) -> u32 {
    std::env::var("RESTANTE_SIM_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(fixed)
}

/// How plans are checked.
#[derive(Clone)]
pub struct Checks<'a> {
    scenario: &'a (dyn Scenario + Sync),
    /// What a command line needs to run this scenario, with a space before it.
    pub flag: &'a str,
    /// Where plans that fail are kept.
    pub save: PathBuf,
    /// How many plans run at once.
    pub jobs: usize,
    /// How long a plan that fails is made smaller.
    pub shrink_for: Duration,
}

impl std::fmt::Debug for Checks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checks").field("flag", &self.flag).field("save", &self.save).finish_non_exhaustive()
    }
}

impl<'a> Checks<'a> {
    /// On all cores; plans that fail are kept in `target/simulation` of this workspace.
    pub fn new(scenario: &'a (dyn Scenario + Sync)) -> Self {
        let save = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/simulation"));
        Self { scenario, flag: "", save, jobs: all_cores(), shrink_for: SHRINK_FOR }
    }

    /// Runs so many seeds from `first` on.
    ///
    /// # Panics
    /// If one fails: with the promise, the shrunk plan, where it was saved and the command that replays it.
    pub fn seeds(&self, first: u64, runs: u32) -> Tally {
        match self.try_seeds(first, runs) {
            Ok(tally) => tally,
            Err(failure) => self.fail(&failure),
        }
    }

    /// Runs random plans under proptest, which grow from `seed`.
    ///
    /// # Panics
    /// As [`Checks::seeds`].
    pub fn random_plans(&self, plans: Plans, seed: u64, runs: u32) {
        if let Err(failure) = self.try_random_plans(plans, seed, runs) {
            self.fail(&failure);
        }
    }

    /// [`Checks::seeds`], with the shrunk failure of the first seed that fails.
    ///
    /// # Errors
    /// That failure.
    pub fn try_seeds(&self, first: u64, runs: u32) -> Result<Tally, Box<Failure>> {
        let mut watch = UntilOneFails { tally: Tally::default(), failed: None };
        let one = |plan: &Plan| Ran::by(|| run(plan, self.scenario, Lines::Discard));
        let plans = (0..u64::from(runs)).map(|n| self.scenario.plan_of(first.wrapping_add(n)));
        in_order(plans, self.jobs, one, &mut watch);
        let Some((plan, ran)) = watch.failed else { return Ok(watch.tally) };
        let Some(failure) = Failure::of(&plan, &ran.verdict, self.flag) else { return Ok(watch.tally) };
        let start = now();
        let in_time = |_: &_| {
            if start.elapsed() < self.shrink_for { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        Err(Box::new(failure.shrink(self.scenario, self.jobs, in_time).unwrap_or(failure)))
    }

    /// [`Checks::random_plans`], with the failure that proptest shrunk.
    ///
    /// # Errors
    /// That failure.
    ///
    /// # Panics
    /// If proptest gives up.
    pub fn try_random_plans(&self, plans: Plans, seed: u64, runs: u32) -> Result<(), Box<Failure>> {
        let config = Config {
            cases: runs,
            failure_persistence: None,
            // The largest number stands for four times the cases. What ends it is the time.
            max_shrink_iters: u32::MAX - 1,
            max_shrink_time: u32::try_from(self.shrink_for.as_millis()).unwrap_or(u32::MAX),
            ..Config::default()
        };
        let seed: Vec<u8> = seed.to_le_bytes().repeat(4);
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        // What failed first, and in how large a plan. A smaller plan in which something else fails counts as passed.
        let first: Mutex<Option<(Symptom, String)>> = Mutex::new(None);
        let ended = runner.run(&plans, |plan| {
            let verdict = run(&plan, self.scenario, Lines::Discard).verdict;
            let Some(symptom) = Symptom::of(&verdict) else { return Ok(()) };
            let mut first = first.lock();
            let (wanted, _) = first.get_or_insert_with(|| (symptom, size(&plan)));
            if wanted.is_shown_by(&verdict) { Err(TestCaseError::fail(wanted.to_string())) } else { Ok(()) }
        });
        let plan = match ended {
            Ok(()) => return Ok(()),
            Err(TestError::Fail(_, plan)) => plan,
            Err(TestError::Abort(reason)) => panic!("proptest gave up: {reason}"),
        };
        let verdict = run(&plan, self.scenario, Lines::Discard).verdict;
        let (first, failure) = (first.into_inner(), Failure::of(&plan, &verdict, self.flag));
        let (Some((symptom, whole)), Some(failure)) = (first, failure) else {
            panic!("a plan that failed passed when it was run again: a run is no function of its plan\n{plan}")
        };
        let shrunk = format!("Shrunk by proptest from {whole} to {}.", size(&plan));
        Err(Box::new(Failure { symptom, shrunk: Some(shrunk), ..failure }))
    }

    fn fail(&self, failure: &Failure) -> ! {
        match failure.save(&self.save) {
            Ok(saved) => panic!("{saved}"),
            Err(error) => panic!("{}\nnot saved: {error}", failure.text("save this as FILE and replay FILE")),
        }
    }
}

/// The first plan that fails ends it.
struct UntilOneFails {
    tally: Tally,
    failed: Option<(Plan, Ran)>,
}

impl Watch<Plan, Ran> for UntilOneFails {
    fn ended(&mut self, plan: Plan, ran: Ran) -> ControlFlow<()> {
        self.tally.add(plan.seed, &ran);
        if Symptom::of(&ran.verdict).is_none() {
            return ControlFlow::Continue(());
        }
        self.failed = Some((plan, ran));
        ControlFlow::Break(())
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a test may take is a matter of the real machine")]
fn now() -> Instant {
    Instant::now()
}
