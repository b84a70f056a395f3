//! The command line: one file per subcommand.
//!
//! To add one: a file with its arguments and `pub fn execute(self, scenario) -> Result<u8, Problem>`, and a line each
//! in [`Command`] and [`execute`].

mod explain;
mod replay;
mod report;
mod run;
mod search;
mod shrink;

use std::fs;
use std::io::{self, BufWriter};
use std::panic;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand, ValueEnum};
use restante_sim::cluster::Cluster;
use restante_sim::plan::{BadPlan, Plan};
use restante_sim::run::Verdict;
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
    Run(run::Run),
    Replay(replay::Replay),
    Explain(explain::Explain),
    Report(report::Report),
    Search(search::Search),
    Shrink(shrink::Shrink),
}

/// The exit code of a process that was interrupted before it had anything to say.
const INTERRUPTED: u8 = 130;

/// What runs on the hosts, and how to ask for it.
struct Chosen {
    scenario: Box<dyn Scenario + Send + Sync>,
    /// What a command line needs to choose it again.
    flag: &'static str,
}

pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    simulated_panics_are_verdicts();
    let chosen = match arguments.scenario {
        What::Cluster => Chosen { scenario: Box::new(Cluster), flag: "" },
        What::Toy => Chosen { scenario: Box::new(Toy::default()), flag: " --scenario toy" },
    };
    match execute(arguments.command, &chosen) {
        Ok(code) => ExitCode::from(code),
        // Whoever read the output has seen enough.
        Err(problem) if problem.kind == Some(io::ErrorKind::BrokenPipe) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("restante-sim: {}", problem.text);
            ExitCode::from(Verdict::Harness(String::new()).exit_code())
        }
    }
}

fn execute(command: Command, chosen: &Chosen) -> Result<u8, Problem> {
    match command {
        Command::Run(run) => run.execute(chosen),
        Command::Replay(replay) => replay.execute(chosen),
        Command::Explain(explain) => explain.execute(chosen),
        Command::Report(report) => report.execute(chosen),
        Command::Search(search) => search.execute(chosen),
        Command::Shrink(shrink) => shrink.execute(chosen),
    }
}

/// What stopped the command.
#[derive(Debug)]
struct Problem {
    /// For a person.
    text: String,
    /// Of an input or output error.
    kind: Option<io::ErrorKind>,
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self { text: error.to_string(), kind: Some(error.kind()) }
    }
}

impl Problem {
    fn with(path: &Path, error: &io::Error) -> Self {
        Self { text: format!("{}: {error}", path.display()), kind: Some(error.kind()) }
    }
}

/// Reads a plan's file, and says on the way what of it will have no effect.
#[expect(clippy::disallowed_methods, reason = "this command runs on the real machine")]
fn read_plan(path: &Path) -> Result<Plan, Problem> {
    let text = fs::read_to_string(path).map_err(|error| Problem::with(path, &error))?;
    let bad = |error: BadPlan| Problem { text: format!("{}: {error}", path.display()), kind: None };
    let plan: Plan = text.parse().map_err(bad)?;
    for warning in plan.warnings() {
        eprintln!("restante-sim: {warning}; that has no effect");
    }
    Ok(plan)
}

#[expect(clippy::disallowed_methods, reason = "this command runs on the real machine")]
fn lines_to(trace: Option<&Path>) -> Result<Lines, Problem> {
    let Some(path) = trace else { return Ok(Lines::Discard) };
    let file = fs::File::create(path).map_err(|error| Problem::with(path, &error))?;
    Ok(Lines::Writer(Box::new(BufWriter::new(file))))
}

/// The real machine's clock.
#[expect(clippy::disallowed_methods, reason = "this command runs on the real machine")]
fn now() -> Instant {
    Instant::now()
}

/// The moment at which a command that may take so many minutes ends.
fn deadline(minutes: Option<f64>) -> Option<Instant> {
    let minutes = minutes.filter(|minutes| minutes.is_finite() && *minutes >= 0.0)?;
    now().checked_add(Duration::try_from_secs_f64(minutes * 60.0).ok()?)
}

/// Whether somebody wants the command to end.
#[derive(Debug, Clone, Default)]
struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on. The first interrupt asks for what there is so far, the second one ends the process.
    fn listen() -> Self {
        let interrupt = Self::default();
        let came = interrupt.0.clone();
        // If it cannot be listened for, an interrupt ends the process as ever.
        let listener = thread::Builder::new().name("interrupts".to_owned()).spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
            runtime.block_on(async {
                while tokio::signal::ctrl_c().await.is_ok() {
                    if came.swap(true, Ordering::Relaxed) {
                        std::process::exit(INTERRUPTED.into());
                    }
                }
            });
        });
        drop(listener);
        interrupt
    }

    fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Panics of simulated tasks are told with the verdict, by the host that they are of, and not by the thread.
fn simulated_panics_are_verdicts() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().name() != Some(restante_sim::search::THREAD) {
            print(info);
        }
    }));
}
