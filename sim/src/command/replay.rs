//! `replay`: one plan from its file.

use std::path::PathBuf;

use clap::Args;

use super::run::run_one;
use super::{Chosen, Problem, read_plan};

/// Runs a plan from its text.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// The file that holds the plan.
    plan: PathBuf,
    /// Writes every event there, one a line.
    #[arg(long)]
    trace: Option<PathBuf>,
}

impl Replay {
    pub(super) fn execute(self, chosen: &Chosen) -> Result<u8, Problem> {
        run_one(chosen, &read_plan(&self.plan)?, self.trace.as_deref())
    }
}
