//! Teeth: faults that are put into the code on purpose, to see that the general search finds them.
//!
//! Each sabotage is a patch in `sim/teeth/`, against the tree as it is, whose changes do something only while the
//! sabotage is switched on by its name. So one scratch copy of the tree with all patches in it serves them all
//! ([`scratch`]): with none switched on it must pass, and with one switched on some run must fail, naming one of the
//! promises that the patch's header expects ([`measure`]). The plans are the same swarm as everybody else's: nothing
//! aims at anything.
//!
//! The header of a patch:
//!
//! ```text
//! Sabotage: vote-not-synced       its name, as the code asks for it and as the file is called, behind a number
//! Caught-by: agreement, durable   the promises that may be named: any of them
//! What: A vote is answered …      what it does, and why that is wrong
//! ```
//!
//! `agreement` stands for servers that contradict each other, `available` for what does not come to be in time.

pub mod command;
mod measure;
mod patch;
mod scratch;

use std::path::Path;

use self::patch::{Files, Patch};

/// Where the patches are in the tree.
const PATCHES: &str = "sim/teeth";
/// What names the sabotage that is switched on.
const SWITCH: &str = "RESTANTE_SABOTAGE";

/// A fault that is put into the code on purpose.
#[derive(Debug, Clone)]
struct Sabotage {
    /// Its patch's file.
    file: String,
    name: String,
    /// The promises that it may break.
    caught_by: Vec<String>,
    what: String,
    patch: Patch,
}

/// The patches of a tree: the one that adds the switch, and the sabotages, in the order of their files.
struct Patches {
    switch: (String, Patch),
    sabotages: Vec<Sabotage>,
}

impl Patches {
    #[expect(clippy::disallowed_methods, reason = "the patches lie on the real machine")]
    fn of(tree: &Path) -> Result<Self, String> {
        let directory = tree.join(PATCHES);
        let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
        let entries = std::fs::read_dir(&directory).map_err(failed)?;
        let names = entries.map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<Result<Vec<_>, String>>()?;
        names.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "patch"));
        names.sort();
        let mut switch = None;
        let mut sabotages: Vec<Sabotage> = Vec::new();
        for file in names {
            let text = std::fs::read_to_string(directory.join(&file)).map_err(failed)?;
            let in_file = |problem: String| format!("{PATCHES}/{file}: {problem}");
            let patch = Patch::parse(&text).map_err(in_file)?;
            if switch.is_none() {
                switch = Some((file, patch));
                continue;
            }
            sabotages.push(Sabotage::of(file.clone(), patch).map_err(in_file)?);
        }
        Ok(Self { switch: switch.ok_or_else(|| format!("{} has no patches", directory.display()))?, sabotages })
    }

    /// Puts all of them into a tree.
    fn apply(&self, files: &mut Files) -> Result<(), String> {
        let (file, patch) = &self.switch;
        let all = self.sabotages.iter().map(|sabotage| (&sabotage.file, &sabotage.patch));
        let mut lost = String::new();
        for (file, patch) in std::iter::once((file, patch)).chain(all) {
            if let Err(problem) = patch.apply(files) {
                lost.push_str(&format!("{PATCHES}/{file} does not apply any more:\n{problem}\n"));
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{lost}\nTo refresh a patch: put its changes into the file by hand, guarded as before, then\n  \
             git diff -U2 FILE > /tmp/new && git checkout FILE\n\
             and put the new hunks behind the old header. `restante-sim teeth --refresh` corrects the line numbers of \
             patches that still apply."
        ))
    }
}

impl Sabotage {
    fn of(file: String, patch: Patch) -> Result<Self, String> {
        let header = |key: &str| patch.header(key).ok_or_else(|| format!("it has no `{key}:`")).map(str::to_owned);
        let (name, what) = (header("Sabotage")?, header("What")?);
        let caught_by = header("Caught-by")?.split(',').map(|promise| promise.trim().to_owned()).collect();
        if file.trim_start_matches(|c: char| c.is_ascii_digit()) != format!("-{name}.patch") {
            return Err(format!("it is called {name}, and its file is not"));
        }
        Ok(Self { file, name, caught_by, what, patch })
    }

    /// Whether one of the promises that it is to break is among those that were named.
    fn is_named_by(&self, broken: &[String]) -> bool {
        broken.iter().any(|promise| self.caught_by.contains(promise))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
    }

    /// The drift that this finds is repaired in minutes while the change that made it is fresh.
    #[test]
    fn every_sabotage_applies_to_the_tree_as_it_is() {
        let patches = Patches::of(tree()).unwrap_or_else(|problem| panic!("{problem}"));
        assert!(patches.sabotages.len() >= 20, "{}", patches.sabotages.len());
        let mut files = scratch::files_of(tree()).unwrap();
        patches.apply(&mut files).unwrap_or_else(|problem| panic!("{problem}"));
        for sabotage in &patches.sabotages {
            let guard = format!("sabotage::on(\"{}\")", sabotage.name);
            let guards = sabotage.patch.paths().filter(|path| files[*path].contains(&guard)).count();
            assert!(guards > 0, "{} changes what is not guarded by its name", sabotage.file);
            let known = ["durable", "once", "in order", "one reader", "honest", "bounded", "available", "agreement"];
            let unknown = sabotage.caught_by.iter().find(|promise| !known.contains(&promise.as_str()));
            assert_eq!(unknown, None, "{} names a promise that nobody checks", sabotage.file);
        }
    }

    #[test]
    fn only_the_promises_that_were_named_count() {
        let text = "Sabotage: x\nCaught-by: durable, in order\nWhat: y\n--- a/f\n+++ b/f\n@@ -1,1 +1,2 @@\n a\n+b\n";
        let sabotage = Sabotage::of("07-x.patch".to_owned(), Patch::parse(text).unwrap()).unwrap();
        let named =
            |promises: &[&str]| sabotage.is_named_by(&promises.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>());
        assert!(named(&["honest", "in order"]) && named(&["durable"]));
        assert!(!named(&["honest"]) && !named(&[]));
        assert!(Sabotage::of("07-z.patch".to_owned(), Patch::parse(text).unwrap()).is_err());
    }
}
