//! The subcommand `teeth`.

use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::Args;

use super::measure::{self, Found, Row, Simulator, on_threads, table};
use super::{PATCHES, Patches, Sabotage, scratch};

/// Puts faults into a scratch copy of the code and counts the seeds until each is caught by a promise that it breaks.
///
/// Exit code 0: every sabotage was caught in every range of seeds, and without any the copy passed. Otherwise 1.
#[derive(Debug, Args)]
pub struct Teeth {
    /// Only these sabotages; may be given several times. They are in `sim/teeth`.
    #[arg(long)]
    only: Vec<String>,
    /// The first seed, as `A..`.
    #[arg(long, default_value = "0..", value_parser = first_seed)]
    seeds: u64,
    /// Ranges of seeds, one behind the other, each searched by itself.
    #[arg(long, default_value_t = 1)]
    ranges: u64,
    /// Seeds in a range.
    #[arg(long, default_value_t = 100)]
    limit: u64,
    /// Seeds that must pass with no sabotage.
    #[arg(long, default_value_t = 10)]
    clean: u64,
    /// Searches at once.
    #[arg(long, default_value_t = cores())]
    jobs: usize,
    /// The tree.
    #[arg(long, default_value = ".")]
    tree: PathBuf,
    /// Says what there is and does nothing.
    #[arg(long)]
    list: bool,
    /// Corrects line numbers and context of the patches, as far as they apply, and does nothing else.
    #[arg(long)]
    refresh: bool,
    /// Makes and builds the scratch copy and says where its simulator is.
    #[arg(long)]
    build: bool,
    /// Sees whether all patches apply and what they make of the code compiles, and does nothing else.
    #[arg(long)]
    check: bool,
    /// What the scratch copy is asked: seeds to run until one fails, as FROM..TO.
    #[arg(long, hide = true, value_parser = both_seeds)]
    probe: Option<Range<u64>>,
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

fn first_seed(text: &str) -> Result<u64, String> {
    text.strip_suffix("..").unwrap_or(text).parse().map_err(|_| "the first seed is A.., e.g. 5000..".to_owned())
}

fn both_seeds(text: &str) -> Result<Range<u64>, String> {
    let parts = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    parts.ok_or_else(|| "seeds are FROM..TO".to_owned())
}

impl Teeth {
    /// Does it. Gives the exit code.
    ///
    /// # Errors
    /// What stands in the way, for a person: a patch that does not apply, a copy that does not build.
    pub fn execute(self) -> Result<u8, String> {
        if let Some(seeds) = self.probe {
            measure::probe(seeds);
            return Ok(0);
        }
        let patches = Patches::of(&self.tree)?;
        if self.list {
            let listed = patches.sabotages.iter().map(list).collect::<String>();
            return say(&listed).map(|()| 0);
        }
        if self.refresh {
            return refresh(&self.tree, &patches).map(|()| 0);
        }
        if self.check {
            scratch::check(&self.tree, &patches)?;
            return say(&format!("{} sabotages apply and compile\n", patches.sabotages.len())).map(|()| 0);
        }
        let chosen = self.chosen(&patches)?;
        eprintln!("{} sabotages; building the scratch copy", patches.sabotages.len());
        let simulator = scratch::build(&self.tree, &patches)?;
        if self.build {
            return say(&format!("{}\n", simulator.display())).map(|()| 0);
        }
        self.measure(&Simulator::new(simulator), &chosen)
    }

    fn chosen<'a>(&self, patches: &'a Patches) -> Result<Vec<&'a Sabotage>, String> {
        let known = |name: &&String| !patches.sabotages.iter().any(|sabotage| sabotage.name == **name);
        if let Some(unknown) = self.only.iter().find(known) {
            return Err(format!("there is no sabotage {unknown}: see --list"));
        }
        let all = patches.sabotages.iter();
        Ok(all.filter(|sabotage| self.only.is_empty() || self.only.contains(&sabotage.name)).collect())
    }

    fn measure(&self, simulator: &Simulator, chosen: &[&Sabotage]) -> Result<u8, String> {
        let ranges: Vec<Range<u64>> =
            (0..self.ranges.max(1)).map(|n| self.seeds + n * self.limit..self.seeds + (n + 1) * self.limit).collect();
        // Without any sabotage first: what fails there says nothing about the others.
        let mut searches = vec![(None, self.seeds..self.seeds + self.clean)];
        for sabotage in chosen {
            searches.extend(ranges.iter().map(|range| (Some(*sabotage), range.clone())));
        }
        let found = on_threads(&searches, self.jobs, |(sabotage, seeds)| {
            let found = match sabotage {
                Some(sabotage) => simulator.first_own_failure(&sabotage.name, seeds.clone()),
                None => simulator.first_failure_without(seeds.clone()),
            };
            eprintln!("{}", tell(*sabotage, seeds, found.as_ref()));
            found
        });
        let mut found = found.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter();
        let clean = found.next() == Some(Found::Nothing);
        let rows: Vec<Row<'_>> = chosen
            .iter()
            .map(|sabotage| Row { sabotage, ranges: found.by_ref().take(ranges.len()).collect() })
            .collect();
        say(&table(&rows, self.limit))?;
        let missed = rows.iter().filter(|row| !row.is_caught()).count();
        let passed = if clean { "passes" } else { "FAILS" };
        say(&format!(
            "\n{} of {} sabotages are caught in every range; without any, the copy {passed} on {} seeds.\n",
            rows.len() - missed,
            rows.len(),
            self.clean
        ))?;
        Ok(u8::from(missed > 0 || !clean))
    }
}

fn say(text: &str) -> Result<(), String> {
    io::stdout().write_all(text.as_bytes()).map_err(|error| error.to_string())
}

fn list(sabotage: &Sabotage) -> String {
    format!("{}  ({})\n    {}\n", sabotage.name, sabotage.caught_by.join(", "), sabotage.what)
}

fn tell(sabotage: Option<&Sabotage>, seeds: &Range<u64>, found: Result<&Found, &String>) -> String {
    let name = sabotage.map_or("no sabotage", |sabotage| sabotage.name.as_str());
    let seeds = format!("{}..{}", seeds.start, seeds.end);
    match found {
        Err(problem) => format!("{name} {seeds}: {problem}"),
        Ok(Found::Nothing) => format!("{name} {seeds}: nothing found"),
        Ok(Found::Failure { after, seed, text, broken }) => {
            let expected = sabotage.is_some_and(|sabotage| sabotage.is_named_by(broken));
            let verdict = if expected { "caught" } else { "UNEXPECTED" };
            format!("{name} {seeds}: {verdict} after {after} seeds by {}, seed {seed}: {text}", broken.join(", "))
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the patches lie on the real machine")]
fn refresh(tree: &Path, patches: &Patches) -> Result<(), String> {
    let files = scratch::files_of(tree)?;
    let mut lost = String::new();
    for sabotage in &patches.sabotages {
        match sabotage.patch.refreshed(&files) {
            Err(problem) => lost.push_str(&format!("{PATCHES}/{}:\n{problem}\n", sabotage.file)),
            Ok(fresh) if fresh == sabotage.patch => {}
            Ok(fresh) => {
                let path = tree.join(PATCHES).join(&sabotage.file);
                std::fs::write(&path, fresh.to_string()).map_err(|error| format!("{}: {error}", path.display()))?;
                eprintln!("refreshed {}", sabotage.file);
            }
        }
    }
    if lost.is_empty() { Ok(()) } else { Err(lost) }
}
