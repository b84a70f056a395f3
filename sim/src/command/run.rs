//! `run`: one seed.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use restante_sim::plan::Plan;
use restante_sim::run::run;

use super::{Chosen, Problem, lines_to, now};

/// Runs the plan that a seed grows into.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// The seed.
    #[arg(long)]
    seed: u64,
    /// Writes every event there, one a line.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// Prints the plan and does not run it.
    #[arg(long)]
    plan: bool,
}

impl Run {
    pub(super) fn execute(self, chosen: &Chosen) -> Result<u8, Problem> {
        let plan = chosen.scenario.plan_of(self.seed);
        if self.plan {
            write!(io::stdout().lock(), "{plan}")?;
            return Ok(0);
        }
        run_one(chosen, &plan, self.trace.as_deref())
    }
}

/// Runs a plan and prints what came of it.
pub(super) fn run_one(chosen: &Chosen, plan: &Plan, trace: Option<&Path>) -> Result<u8, Problem> {
    let lines = lines_to(trace)?;
    let start = now();
    let outcome = run(plan, &*chosen.scenario, lines);
    let wall = start.elapsed().as_secs_f64();
    let mut out = io::stdout().lock();
    writeln!(out, "trace {:016x}", outcome.hash)?;
    writeln!(out, "events {}", outcome.events)?;
    writeln!(out, "simulated {:.3} s", outcome.simulated.as_secs_f64())?;
    writeln!(out, "wall {wall:.3} s")?;
    for (kind, count) in &outcome.faults {
        writeln!(out, "fault {kind} {count}")?;
    }
    if outcome.operations_outside_blocking > 0 {
        writeln!(out, "disk operations outside of blocking {}", outcome.operations_outside_blocking)?;
    }
    writeln!(out, "{}", outcome.verdict)?;
    Ok(outcome.verdict.exit_code())
}
