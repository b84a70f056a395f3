//! Runs a plan: builds the world, starts the hosts, makes the faults happen, and judges.
//!
//! Two phases. *Safety*: everything that the plan says goes wrong, while clients send and read. *Liveness*, in steps
//! ([`Stage`]): if the plan has a core, the faults of these servers and of the clients end, and those of the other servers
//! last on; then all faults end. Each time nobody sends at first, so that no traffic hides a cluster that is stuck:
//! within the plan's bound everything accepted has to arrive and the servers have to agree. Then fresh sends have to be
//! accepted and to arrive, each within a bound of its own. Then the clients stop and the oracle looks at what they saw.

mod faults;
mod hosts;
mod progress;
mod supervisor;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rand::Rng;

use self::faults::Faults;
use self::hosts::Hosts;
use self::progress::Progress;
use crate::context::{Context, Panicked};
use crate::history::{History, Journal};
use crate::oracle::members::Members;
use crate::oracle::office::Office;
use crate::oracle::raft::Raft;
use crate::oracle::{self, Promise, Violation};
use crate::plan::{Millis, Plan};
use crate::random::stream;
use crate::reach::Reach;
use crate::scenario::{Orders, Scenario, Stage, Stages, View};
use crate::trace::{Event, Lines, Trace};

/// The wall clock at the start of every run: the first moment of 2026.
const EPOCH_MS: u64 = 1_767_225_600_000;
/// How often the runner looks whether everything has arrived.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long clients may take to close what they have open.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every promise was kept.
    Passed,
    /// A promise was broken.
    Safety(Vec<Violation>),
    /// Servers contradict each other.
    Disagreement(String),
    /// Something did not come to be in time.
    Liveness(String),
    /// A task panicked, or a server or client ended by itself.
    Crash(String),
    /// The simulator itself is at fault.
    Harness(String),
}

impl Verdict {
    /// The exit code of the command.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Safety(_) | Self::Disagreement(_) => 1,
            Self::Liveness(_) => 2,
            Self::Crash(_) => 3,
            Self::Harness(_) => 4,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Safety(violations) => {
                write!(f, "safety: {} violations", violations.len())?;
                violations.iter().take(10).try_for_each(|violation| write!(f, "\n  {violation}"))
            }
            Self::Disagreement(what) => write!(f, "safety: {what}"),
            Self::Liveness(missing) => write!(f, "liveness: {missing}"),
            Self::Crash(what) => write!(f, "crash: {what}"),
            Self::Harness(what) => write!(f, "harness: {what}"),
        }
    }
}

/// What a run was.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub verdict: Verdict,
    /// The hash over every event: the same for every run of the plan.
    pub hash: u64,
    /// How many events there were.
    pub events: u64,
    /// How much time passed in it.
    pub simulated: Duration,
    /// What the clients saw.
    pub history: History,
    /// The last lines of the trace, if a [`Lines::Ring`] was asked for.
    pub lines: Vec<String>,
    /// How many faults of each kind began.
    pub faults: BTreeMap<&'static str, u32>,
    /// The places that were reached.
    pub reach: Reach,
    /// Disk operations outside of `World::blocking`, which hold up a thread in production.
    pub operations_outside_blocking: u64,
}

/// Runs `plan` with `scenario` on the hosts.
pub fn run(plan: &Plan, scenario: &dyn Scenario, lines: Lines) -> Outcome {
    let work = plan.work.start().0..=plan.work.end().0;
    let installed = Context::install(plan.seed, EPOCH_MS, work, Trace::new(lines));
    let context = &installed.0;
    let journal = Journal::default();
    let stages = Stages::default();
    let plan = Arc::new(plan.clone());
    let mut runner = Runner {
        context,
        sim: build(&plan),
        hosts: Hosts::default(),
        faults: Faults::new(&plan),
        progress: Progress::new(&plan),
        journal: &journal,
        stages: &stages,
        orders: Orders::default(),
        scenario,
        plan: plan.clone(),
        raft: Raft::default(),
        members: Members::default(),
        office: Office::default(),
    };
    let ended = catch_unwind(AssertUnwindSafe(|| runner.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(Verdict::Harness(text.unwrap_or_else(|| "the simulator panicked".to_owned())))
    });
    let faults = runner.faults.counts();
    let simulated = runner.sim.elapsed();
    let timed_out = matches!(ended, Err(Verdict::Liveness(_)));
    let lost = timed_out && runner.progress.only_arrivals_are_missing(stages.current());
    let history = journal.history(ended.is_ok() || lost);
    let verdict = judge(context, ended, &history, &plan, scenario);
    // The trace ends before destructors run: what the end of the simulation does to them is not part of the run.
    let trace = context.take_trace();
    let (events, hash) = trace.as_ref().map_or((0, 0), |trace| (trace.count(), trace.hash()));
    let reach = trace.as_ref().map(|trace| trace.reach().clone()).unwrap_or_default();
    let (lines, verdict) = match trace.map(Trace::finish) {
        Some(Ok(lines)) => (lines, verdict),
        Some(Err(error)) => (Vec::new(), Verdict::Harness(format!("cannot write the trace: {error}"))),
        None => (Vec::new(), verdict),
    };
    let operations_outside_blocking = context.operations_outside_blocking();
    drop(runner);
    Outcome { verdict, hash, events, simulated, history, lines, faults, reach, operations_outside_blocking }
}

/// A panic says most, then a contradiction, then a broken promise, then what did not come to be.
fn judge(
    context: &Context,
    ended: Result<(), Verdict>,
    history: &History,
    plan: &Plan,
    scenario: &dyn Scenario,
) -> Verdict {
    if let [Panicked { host, message }, ..] = &context.panics()[..] {
        return Verdict::Crash(format!("a task of {host} panicked: {message}"));
    }
    if matches!(ended, Err(Verdict::Disagreement(_) | Verdict::Safety(_))) {
        return ended.err().unwrap_or(Verdict::Passed);
    }
    let violations = oracle::check(history, plan);
    if !violations.is_empty() {
        return Verdict::Safety(violations);
    }
    if let Err(verdict) = ended {
        return verdict;
    }
    match Promise::Available.check(history, plan).first() {
        Some(first) if scenario.serves_with_a_majority() => Verdict::Liveness(first.to_string()),
        _ => Verdict::Passed,
    }
}

fn build<'a>(plan: &Plan) -> turmoil::Sim<'a> {
    turmoil::Builder::new()
        .rng_seed(stream(plan.seed, "network").next_u64())
        .epoch(UNIX_EPOCH + Duration::from_millis(EPOCH_MS))
        .tick_duration(plan.tick.into())
        .min_message_latency((*plan.latency.start()).into())
        .max_message_latency((*plan.latency.end()).into())
        // At its default of 64 segments a full buffer panics.
        .tcp_capacity(65_536)
        .simulation_duration(Duration::MAX)
        .build()
}

pub(super) struct Runner<'a> {
    context: &'a Context,
    sim: turmoil::Sim<'a>,
    hosts: Hosts,
    faults: Faults,
    progress: Progress,
    journal: &'a Journal,
    stages: &'a Stages,
    /// What the operator is told.
    orders: Orders,
    scenario: &'a dyn Scenario,
    plan: Arc<Plan>,
    raft: Raft,
    members: Members,
    office: Office,
}

impl Runner<'_> {
    fn run(&mut self) -> Result<(), Verdict> {
        self.start_all()?;
        let duration: Duration = self.plan.duration.into();
        while self.sim.elapsed() < duration {
            self.faults_until(self.sim.elapsed());
            self.step()?;
        }
        let core = self.plan.standing_core().filter(|_| self.scenario.serves_with_a_majority());
        if let Some(core) = core {
            self.heal_only(&core);
            self.come_to_rest(Stage::Core, "the core has healed", self.plan.core_liveness, &core)?;
            self.come_to_rest(Stage::CoreService, "the core is asked to serve", self.plan.core_liveness, &core)?;
        }
        self.faults_until(Duration::MAX);
        let all = self.plan.server_hosts();
        self.come_to_rest(Stage::Heal, "the faults have ended", self.plan.liveness, &all)?;
        self.come_to_rest(Stage::Calm, "fresh sends are due", self.plan.liveness, &all)?;
        self.enter_stage(Stage::Stop, "stop");
        let stop_within = Millis(STOP_WITHIN.as_millis() as u64);
        self.until(stop_within, "the clients are told to stop", |runner| runner.hosts.clients_missing())
    }

    /// Until everything that is due in a stage has come to be.
    fn come_to_rest(&mut self, stage: Stage, since: &str, bound: Millis, healthy: &[String]) -> Result<(), Verdict> {
        self.enter_stage(stage, since);
        self.until(bound, since, |runner| {
            runner.progress.missing(runner.journal, stage)?;
            runner.hosts.servers_missing(healthy)?;
            let view =
                View { observed: runner.context.observed(), plan: runner.plan.clone(), healthy: healthy.to_vec() };
            if stage != Stage::Core && stage != Stage::CoreService {
                runner.heed_the_list(&view);
            }
            runner.scenario.settled(&view)
        })
    }

    fn judge_news(&mut self) -> Result<(), Verdict> {
        for (host, kind, detail) in self.context.take_news() {
            if self.scenario.serves_with_a_majority() {
                self.raft.read(&host, kind, &detail).map_err(Verdict::Disagreement)?;
                self.members.read(&host, kind, &detail).map_err(Verdict::Disagreement)?;
                self.office.read(&host, kind, &detail).map_err(|broken| Verdict::Safety(vec![broken]))?;
            }
            if kind == "sizes" {
                let broken = |text| Verdict::Safety(vec![Violation { promise: Promise::Bounded, text }]);
                oracle::bounded::sizes(&host, &detail).map_err(broken)?;
            }
        }
        Ok(())
    }

    fn enter_stage(&mut self, stage: Stage, text: &str) {
        self.context.trace(&Event { kind: "phase", subject: "", fields: &[], text });
        self.journal.stage(self.sim.elapsed(), stage);
        self.stages.advance(stage);
    }

    /// Steps until nothing is missing.
    fn until(
        &mut self,
        bound: Millis,
        since: &str,
        missing: impl Fn(&mut Self) -> Result<(), String>,
    ) -> Result<(), Verdict> {
        let start = self.sim.elapsed();
        let mut look = start;
        loop {
            if self.sim.elapsed() >= look {
                look += LOOK_EVERY;
                match missing(self) {
                    Ok(()) => return Ok(()),
                    Err(missing) if self.sim.elapsed() >= start + bound.into() => {
                        let promise = Promise::Available;
                        return Err(Verdict::Liveness(format!("{promise}: {bound} after {since}, {missing}")));
                    }
                    Err(_) => {}
                }
            }
            self.step()?;
        }
    }

    fn step(&mut self) -> Result<(), Verdict> {
        self.context.set_between_steps(None);
        let stepped = self.sim.step();
        self.context.set_between_steps(Some(self.sim.elapsed()));
        if let [Panicked { host, message }, ..] = &self.context.panics()[..] {
            return Err(Verdict::Crash(format!("a task of {host} panicked: {message}")));
        }
        stepped.map_err(|error| Verdict::Harness(error.to_string()))?;
        self.clear_up_after_power_cuts();
        self.clear_up_after_stops();
        self.replace_retired_disks();
        self.look_after_servers();
        self.judge_news()?;
        self.hosts.ended_by_itself().map_or(Ok(()), |what| Err(Verdict::Crash(what)))
    }
}
