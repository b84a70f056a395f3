//! The `restante-sim` command.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand, ValueEnum};
use restante_sim::cluster::Cluster;
use restante_sim::plan::Plan;
use restante_sim::run::{Outcome, Verdict, run};
use restante_sim::scenario::Scenario;
use restante_sim::toy::Toy;
use restante_sim::trace::Lines;

/// Runs the same servers and clients in a simulated world, from a seed or from a plan.
///
/// Exit codes: 0 every promise was kept, 1 one was broken (safety), 2 something did not come to be in time (liveness),
/// 3 something panicked or ended by itself, 4 the simulator or its input is at fault.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// What runs on the hosts.
    #[arg(long, global = true, value_enum, default_value_t = What::Cluster)]
    scenario: What,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Restante's servers and clients.
    Cluster,
    /// The smallest server and client that use every seam: it tests the simulator itself.
    Toy,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the plan that a seed grows into.
    Run {
        /// The seed.
        #[arg(long)]
        seed: u64,
        /// Writes every event there, one a line.
        #[arg(long)]
        trace: Option<PathBuf>,
        /// Prints the plan and does not run it.
        #[arg(long)]
        plan: bool,
    },
    /// Runs a plan from its text.
    Replay {
        /// The file that holds the plan.
        plan: PathBuf,
        /// Writes every event there, one a line.
        #[arg(long)]
        trace: Option<PathBuf>,
    },
    /// Runs many seeds and stops at the first that fails.
    Search {
        /// Which, as FROM..TO (TO is not run).
        #[arg(long, value_parser = seeds)]
        seeds: std::ops::Range<u64>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let scenario: Box<dyn Scenario> = match arguments.scenario {
        What::Cluster => Box::new(Cluster),
        What::Toy => Box::new(Toy::default()),
    };
    match execute(arguments.command, &*scenario) {
        Ok(code) => ExitCode::from(code),
        // Whoever read the output has seen enough.
        Err(problem) if problem.1 == Some(io::ErrorKind::BrokenPipe) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("restante-sim: {}", problem.0);
            ExitCode::from(Verdict::Harness(String::new()).exit_code())
        }
    }
}

/// What stopped the command, for a person, and the kind of an input or output error.
struct Problem(String, Option<io::ErrorKind>);

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self(error.to_string(), Some(error.kind()))
    }
}

fn execute(command: Command, scenario: &dyn Scenario) -> Result<u8, Problem> {
    let mut out = io::stdout().lock();
    match command {
        Command::Run { seed, plan: true, .. } => {
            write!(out, "{}", Plan::from_seed(seed))?;
            Ok(0)
        }
        Command::Run { seed, trace, plan: false } => {
            run_one(&mut out, scenario, &Plan::from_seed(seed), trace.as_deref())
        }
        Command::Replay { plan, trace } => {
            let plan = read_plan(&plan)?;
            for warning in plan.warnings() {
                eprintln!("restante-sim: {warning}; that has no effect");
            }
            run_one(&mut out, scenario, &plan, trace.as_deref())
        }
        Command::Search { seeds } => search(&mut out, scenario, seeds),
    }
}

#[expect(clippy::disallowed_methods, reason = "this command runs on the real machine")]
fn read_plan(path: &Path) -> Result<Plan, Problem> {
    let in_file = |problem: String| format!("{}: {problem}", path.display());
    let text = fs::read_to_string(path).map_err(|error| Problem(in_file(error.to_string()), Some(error.kind())))?;
    text.parse().map_err(|error: restante_sim::plan::BadPlan| Problem(in_file(error.to_string()), None))
}

#[expect(clippy::disallowed_methods, reason = "this command runs on the real machine")]
fn lines_to(trace: Option<&Path>) -> Result<Lines, Problem> {
    let Some(path) = trace else { return Ok(Lines::Discard) };
    let file = fs::File::create(path)
        .map_err(|error| Problem(format!("cannot create {}: {error}", path.display()), Some(error.kind())))?;
    Ok(Lines::Writer(Box::new(BufWriter::new(file))))
}

fn run_one(out: &mut impl Write, scenario: &dyn Scenario, plan: &Plan, trace: Option<&Path>) -> Result<u8, Problem> {
    let (outcome, wall) = timed(|lines| run(plan, scenario, lines), lines_to(trace)?);
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

fn search(out: &mut impl Write, scenario: &dyn Scenario, seeds: std::ops::Range<u64>) -> Result<u8, Problem> {
    let (mut runs, mut events, mut simulated, mut walls) = (0u64, 0u64, 0.0, 0.0);
    for seed in seeds {
        let plan = Plan::from_seed(seed);
        let (outcome, wall) = timed(|lines| run(&plan, scenario, lines), Lines::Discard);
        (runs, events) = (runs + 1, events + outcome.events);
        (simulated, walls) = (simulated + outcome.simulated.as_secs_f64(), walls + wall);
        if outcome.verdict != Verdict::Passed {
            writeln!(out, "seed {seed} failed after {runs} runs\n{}\n\n{plan}", outcome.verdict)?;
            writeln!(out, "\nagain: restante-sim run --seed {seed} --trace trace.txt")?;
            return Ok(outcome.verdict.exit_code());
        }
    }
    let speed = simulated / f64::max(walls, f64::MIN_POSITIVE);
    writeln!(
        out,
        "{runs} seeds passed: {events} events, {simulated:.0} simulated seconds in {walls:.1} s ({speed:.0} a second)"
    )?;
    Ok(0)
}

#[expect(clippy::disallowed_methods, reason = "this command runs on the real machine")]
fn timed(f: impl FnOnce(Lines) -> Outcome, lines: Lines) -> (Outcome, f64) {
    let start = Instant::now();
    let outcome = f(lines);
    (outcome, start.elapsed().as_secs_f64())
}

fn seeds(text: &str) -> Result<std::ops::Range<u64>, String> {
    let parts = text.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    match parts {
        Some((from, to)) if from < to => Ok(from..to),
        _ => Err("seeds are FROM..TO, e.g. 0..100".to_owned()),
    }
}
