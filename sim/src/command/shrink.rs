//! `shrink`: a plan that fails, as small as it can be.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use restante_sim::failure::Failure;
use restante_sim::run::run;
use restante_sim::search::all_cores;
use restante_sim::shrink::{Shrunk, size};
use restante_sim::trace::Lines;

use super::{Chosen, Interrupt, Problem, deadline, now, read_plan};

/// Makes a plan that fails as small as it can be while the same promise is broken.
///
/// An interrupt (or the end of --minutes) ends it with the smallest plan so far. The exit code is the plan's own.
#[derive(Debug, Args)]
pub(super) struct Shrink {
    /// The file that holds the plan.
    plan: PathBuf,
    /// Where the small plan goes [default: beside the other, as NAME-shrunk.plan].
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// How many plans are tried at once [default: one for each core].
    #[arg(long, short)]
    jobs: Option<usize>,
    /// Ends after so many minutes.
    #[arg(long)]
    minutes: Option<f64>,
}

impl Shrink {
    pub(super) fn execute(self, chosen: &Chosen) -> Result<u8, Problem> {
        let whole = read_plan(&self.plan)?;
        let interrupt = Interrupt::listen();
        let verdict = run(&whole, &*chosen.scenario, Lines::Discard).verdict;
        let Some(failure) = Failure::of(&whole, &verdict, chosen.flag) else {
            let text = format!("{}: the plan passes: there is nothing to shrink", self.plan.display());
            return Err(Problem { text, kind: None });
        };
        eprintln!("{}\n{}", failure.symptom, size(&whole));
        let (start, until, terminal) = (now(), deadline(self.minutes), io::stderr().is_terminal());
        let mut smallest = whole;
        let watch = |shrunk: &Shrunk| {
            if shrunk.plan != smallest {
                smallest = shrunk.plan.clone();
                eprintln!("{} after {} plans", size(&smallest), shrunk.tried);
            } else if terminal {
                eprint!("{} plans tried\r", shrunk.tried);
            }
            let late = until.is_some_and(|until| now() >= until);
            if late || interrupt.came() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let jobs = self.jobs.unwrap_or_else(all_cores);
        let Some(small) = failure.shrink(&*chosen.scenario, jobs, watch) else {
            let text = "the shrunk plan passed when it was run again: a run is no function of its plan".to_owned();
            return Err(Problem { text, kind: None });
        };
        eprintln!("{} {:.1} s", small.shrunk.as_deref().unwrap_or_default(), start.elapsed().as_secs_f64());
        let output = self.output.unwrap_or_else(|| {
            let name = self.plan.file_stem().unwrap_or_default().to_string_lossy();
            self.plan.with_file_name(format!("{name}-shrunk.plan"))
        });
        let saved = small.save_as(output)?;
        write!(io::stdout().lock(), "{saved}")?;
        Ok(small.verdict.exit_code())
    }
}
