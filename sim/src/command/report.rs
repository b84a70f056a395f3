//! `report`: a run as one page.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use restante_sim::record::record;
use restante_sim::report;
use restante_sim::story::Story;

use super::{Chosen, Problem, read_plan};

/// Draws a run as one page that needs nothing else: a lane for every server and client, messages as arrows, the broken
/// promise marked.
///
/// Exits with 0 however the run ended.
#[derive(Debug, Args)]
pub(super) struct Report {
    /// The file that holds the plan.
    plan: PathBuf,
    /// Where the page is written.
    #[arg(short, long, default_value = "report.html")]
    output: PathBuf,
}

impl Report {
    #[expect(clippy::disallowed_methods, reason = "this command runs on the real machine")]
    pub(super) fn execute(self, chosen: &Chosen) -> Result<u8, Problem> {
        let plan = read_plan(&self.plan)?;
        let (outcome, record) = record(&plan, &*chosen.scenario);
        let story = Story::new(&plan, &outcome, &record);
        let command = format!("restante-sim replay {}{}", self.plan.display(), chosen.flag);
        let page = report::page(&plan, &outcome, &record, &story, &command)
            .map_err(|error| Problem { text: format!("the page cannot be written: {error}"), kind: None })?;
        fs::write(&self.output, page).map_err(|error| Problem::with(&self.output, &error))?;
        println!("{}\n{}", outcome.verdict, self.output.display());
        Ok(0)
    }
}
