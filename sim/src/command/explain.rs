//! `explain`: a run as readable text.

use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use restante_sim::explain::{self, Options};
use restante_sim::record::record;
use restante_sim::story::Story;

use super::{Chosen, Problem, read_plan};

/// Tells a run as text: what each server and client saw, in order.
///
/// Sends, receipts and deliveries are counted where nothing else happens; those that the verdict speaks of are told and
/// marked with `!`. Exits with 0 however the run ended.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The file that holds the plan.
    plan: PathBuf,
    /// Tells nothing before this time, e.g. `2.5s` or `800ms`.
    #[arg(long, value_parser = time)]
    from: Option<Duration>,
    /// Tells nothing after this time.
    #[arg(long, value_parser = time)]
    to: Option<Duration>,
    /// Tells only what this host saw, every send of it, and the faults.
    #[arg(long)]
    host: Option<String>,
    /// Tells everything one by one, and every message.
    #[arg(long)]
    all: bool,
}

impl Explain {
    pub(super) fn execute(self, chosen: &Chosen) -> Result<u8, Problem> {
        let plan = read_plan(&self.plan)?;
        let (outcome, record) = record(&plan, &*chosen.scenario);
        let story = Story::new(&plan, &outcome, &record);
        let options = Options { from: self.from, to: self.to, host: self.host, all: self.all };
        let mut out = BufWriter::new(io::stdout().lock());
        explain::write(&mut out, &plan, &outcome, &record, &story, &options)?;
        out.flush()?;
        Ok(0)
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let seconds: Option<f64> = number.trim().parse().ok();
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds * unit).ok())
        .ok_or_else(|| format!("{text:?} is no time: `800ms`, `2s` or `2.5s`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_plans_write_them() {
        assert_eq!(time("800ms"), Ok(Duration::from_millis(800)));
        assert_eq!(time("2.5s"), Ok(Duration::from_millis(2500)));
        assert_eq!(time("3"), Ok(Duration::from_secs(3)));
        for bad in ["", "s", "soon", "-1s", "inf", "NaN", "1e400s"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
