//! A plan that failed, as it is told and kept.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::plan::Plan;
use crate::run::{Verdict, run};
use crate::scenario::Scenario;
use crate::shrink::{Shrunk, shrink, size};
use crate::symptom::Symptom;
use crate::trace::Lines;

/// How a plan is replayed by whoever has built the workspace.
pub const REPLAY: &str = "cargo run -p restante-sim -- replay";

/// A plan that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What failed.
    pub symptom: Symptom,
    /// How the plan's run ended.
    pub verdict: Verdict,
    /// The plan.
    pub plan: Plan,
    /// What a command line needs to run the same scenario, with a space before it.
    pub flag: String,
    /// What was done to get this plan from the first one that failed, if it is smaller.
    pub shrunk: Option<String>,
}

impl Failure {
    /// Of a plan whose run did not pass.
    pub fn of(plan: &Plan, verdict: &Verdict, flag: &str) -> Option<Self> {
        let (plan, verdict, symptom) = (plan.clone(), verdict.clone(), Symptom::of(verdict)?);
        Some(Self { symptom, verdict, plan, flag: flag.to_owned(), shrunk: None })
    }

    /// The name of the plan's file.
    pub fn file_name(&self) -> String {
        let shrunk = if self.shrunk.is_some() { "-shrunk" } else { "" };
        format!("{}-seed-{}{shrunk}.plan", self.symptom.word(), self.plan.seed)
    }

    /// The plan's file: comments that say what is known, and the plan.
    pub fn text(&self, command: &str) -> String {
        let mut comments = vec![self.symptom.to_string()];
        comments.extend(self.verdict.to_string().lines().skip(1).take(3).map(str::to_owned));
        comments.push(format!("Grown from seed {}.", self.plan.seed));
        comments.extend(self.shrunk.clone());
        comments.push(format!("Again: {command}"));
        let comments: String = comments.iter().map(|line| format!("# {line}\n")).collect();
        format!("{comments}{}", self.plan)
    }

    /// The same failure of a plan that is as small as it can be; nothing if that plan, run once more, does not fail.
    ///
    /// `watch` sees every step and may end it (see [`shrink`]).
    pub fn shrink(
        &self,
        scenario: &(dyn Scenario + Sync),
        jobs: usize,
        watch: impl FnMut(&Shrunk) -> ControlFlow<()>,
    ) -> Option<Self> {
        let verdict = |plan: &Plan| run(plan, scenario, Lines::Discard).verdict;
        let Shrunk { plan, tried, finished } =
            shrink(&self.plan, jobs, |plan| self.symptom.is_shown_by(&verdict(plan)), watch);
        // With the verdict of its own, in which the same thing is shown, perhaps among others.
        let verdict = verdict(&plan);
        let end = if finished { "nothing smaller fails" } else { "smaller ones are left to try" };
        let (from, to) = (size(&self.plan), size(&plan));
        let shrunk = format!("Shrunk from {from} to {to} in {tried} runs; {end}.");
        let (symptom, flag) = (self.symptom.clone(), self.flag.clone());
        symptom.is_shown_by(&verdict).then_some(Self { symptom, verdict, plan, flag, shrunk: Some(shrunk) })
    }

    /// Writes the plan's file into a directory, which is made if need be.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, directory: &Path) -> io::Result<Saved<'_>> {
        self.save_as(directory.join(self.file_name()))
    }

    /// Writes the plan's file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save_as(&self, path: PathBuf) -> io::Result<Saved<'_>> {
        let saved = Saved { failure: self, path };
        saved.write()?;
        Ok(saved)
    }
}

/// A failure whose plan has been kept. Its text is what a person is told.
#[derive(Debug)]
pub struct Saved<'a> {
    failure: &'a Failure,
    /// Where.
    pub path: PathBuf,
}

impl Saved<'_> {
    /// The command that replays the plan.
    pub fn command(&self) -> String {
        format!("{REPLAY} {}{}", self.path.display(), self.failure.flag)
    }

    #[expect(clippy::disallowed_methods, reason = "plans are kept on the real machine")]
    fn write(&self) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(&self.path, self.failure.text(&self.command()))
    }
}

impl fmt::Display for Saved<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { symptom, verdict, plan, shrunk, .. } = self.failure;
        writeln!(f, "seed {} failed: {symptom}", plan.seed)?;
        writeln!(f, "{verdict}\n\n{plan}")?;
        if let Some(shrunk) = shrunk {
            writeln!(f, "{shrunk}")?;
        }
        writeln!(f, "saved {}", self.path.display())?;
        writeln!(f, "again {}", self.command())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_the_plan_and_says_what_failed_and_how_to_see_it_again() {
        let plan = Plan::from_seed(12);
        let mut failure = Failure::of(&plan, &Verdict::Liveness("nobody leads".into()), " --scenario toy").unwrap();
        assert_eq!(failure.file_name(), "liveness-seed-12.plan");
        failure.shrunk = Some("Shrunk from 3 faults to 1.".to_owned());
        assert_eq!(failure.file_name(), "liveness-seed-12-shrunk.plan");
        let text = failure.text("replay it");
        assert_eq!(text.parse(), Ok(plan));
        for part in ["# liveness", "# Grown from seed 12", "# Shrunk from 3", "# Again: replay it"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(Failure::of(&Plan::default(), &Verdict::Passed, "").is_none());
    }
}
