//! Rules of this repository that no compiler and no lint checks, over the text of its files.
//!
//! They keep a simulation a pure function of its plan: what is random, timed or threaded goes through `src/world`, and
//! the code that serves real ports knows nothing about the simulator. `clippy.toml` bans most of it by path; this also
//! sees what clippy resolves too late or not at all (a `select!` without `biased;`, a whole module, a `cfg`).
#![expect(clippy::disallowed_methods, reason = "a test reads the files of its repository")]

use std::path::{Path, PathBuf};

/// Lines that a file may have. One file is one thing; what grows beyond this is two.
const LINES_MAX: usize = 600;
/// Files that are longer for a reason.
const LONG_FILES: &[(&str, &str)] = &[];

/// What only `src/world` may name, and what to use instead.
const SEAMS: &[(&str, &str)] = &[
    ("tokio::spawn", "World::spawn"),
    ("task::spawn", "World::spawn"),
    ("spawn_blocking", "World::blocking"),
    ("block_in_place", "World::blocking"),
    ("thread::spawn", "World::blocking"),
    ("thread::sleep", "World::sleep"),
    ("std::fs", "world::Disk"),
    ("tokio::fs", "world::Disk"),
    ("tokio::net", "world::Network"),
    ("std::net::Tcp", "world::Network"),
    ("Instant::now", "World::now"),
    ("SystemTime", "World::unix_millis, or the cluster's time"),
    ("tokio::sync::watch", "world::watch"),
];
/// Where the seams are, and where a person's own machine is meant: the command runs on no simulated one.
const OUTSIDE: &[&str] = &["src/world/", "src/cli/", "src/bench/", "src/main.rs"];
/// Worlds of their own, for tests.
const WORLDS: &[(&str, &str)] = &[("src/storage/testing.rs", "a world that runs everything inline")];

struct Source {
    /// Relative to the repository, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// The lines with their numbers, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, without_comment(line)))
    }
}

/// The line up to a `//` that is not in a text.
fn without_comment(line: &str) -> &str {
    let quotes_before = |at: usize| line[..at].matches('"').count() - line[..at].matches("\\\"").count();
    line.match_indices("//").find(|&(at, _)| quotes_before(at).is_multiple_of(2)).map_or(line, |(at, _)| &line[..at])
}

fn sources(directory: &str) -> Vec<Source> {
    fn collect(root: &Path, directory: &Path, into: &mut Vec<Source>) {
        let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
        for entry in entries {
            let path = entry.expect("a directory's entry").path();
            if path.is_dir() {
                collect(root, &path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                let path = path.strip_prefix(root).expect("it is below").to_string_lossy().replace('\\', "/");
                into.push(Source { path, text });
            }
        }
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    collect(&root, &root.join(directory), &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 10, "{directory} has moved: this test reads {} files of it", found.len());
    found
}

fn all_sources() -> Vec<Source> {
    sources("src").into_iter().chain(sources("sim/src")).collect()
}

fn report(rule: &str, problems: &[String]) {
    assert!(problems.is_empty(), "{rule}\n  {}", problems.join("\n  "));
}

/// Where a `select!` does not begin with `biased;`.
fn unbiased_selects(source: &Source) -> Vec<String> {
    let code: Vec<(usize, &str)> = source.code().collect();
    let mut problems = Vec::new();
    for (at, (number, line)) in code.iter().enumerate() {
        let Some((_, behind)) = line.split_once("select!") else { continue };
        let rest = code[at + 1..].iter().map(|(_, line)| *line);
        let next: String = std::iter::once(behind).chain(rest).take(4).collect::<Vec<_>>().join(" ");
        let begins = next.trim_start().trim_start_matches(['{', '(']).trim_start();
        if !begins.starts_with("biased;") {
            problems.push(format!("{}:{number}: {}", source.path, line.trim()));
        }
    }
    problems
}

/// Where a seam is gone round.
fn around_the_seams(source: &Source) -> Vec<String> {
    let banned = |line: &str| SEAMS.iter().find(|(name, _)| line.contains(name));
    let found = source.code().filter_map(|(number, line)| banned(line).map(|found| (number, found)));
    found.map(|(number, (name, instead))| format!("{}:{number}: {name}: use {instead}", source.path)).collect()
}

/// Where production code knows about the simulator.
fn knows_the_simulator(source: &Source) -> Vec<String> {
    let knows = |line: &str| {
        let switch =
            (line.contains("cfg(") || line.contains("cfg_attr(") || line.contains("cfg!(")) && line.contains("sim");
        switch || line.contains("turmoil") || line.contains("restante_sim")
    };
    let found = source.code().filter(|(_, line)| knows(line));
    found.map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim())).collect()
}

#[test]
fn every_select_is_biased() {
    let problems: Vec<_> = all_sources().iter().flat_map(unbiased_selects).collect();
    report("an unbiased `select!` draws a random number of tokio's own: begin it with `biased;`", &problems);
}

#[test]
fn everything_impure_goes_through_the_world() {
    let exempt =
        |path: &str| OUTSIDE.iter().any(|part| path.starts_with(part)) || WORLDS.iter().any(|(w, _)| *w == path);
    let sources = sources("src");
    let problems: Vec<_> = sources.iter().filter(|s| !exempt(&s.path)).flat_map(around_the_seams).collect();
    report("only src/world may use these", &problems);
    for (path, reason) in WORLDS {
        let needed = sources.iter().any(|s| s.path == *path && !around_the_seams(s).is_empty());
        assert!(needed, "{path} ({reason}) needs no exception any more: take it off the list");
    }
}

#[test]
fn production_code_does_not_know_the_simulator() {
    let problems: Vec<_> = sources("src").iter().flat_map(knows_the_simulator).collect();
    report("the code that is simulated is the code that is shipped, with no switch in it", &problems);
}

#[test]
fn files_are_short() {
    let lines = |source: &Source| source.text.lines().count();
    let sources = all_sources();
    let listed = |path: &str| LONG_FILES.iter().any(|(long, _)| *long == path);
    let long = sources.iter().filter(|s| lines(s) > LINES_MAX && !listed(&s.path));
    let problems: Vec<_> = long.map(|s| format!("{}: {} lines", s.path, lines(s))).collect();
    report(&format!("a file has at most {LINES_MAX} lines: split it, or list it with a reason"), &problems);
    for (path, reason) in LONG_FILES {
        // Not to the line, or a file at the limit would come and go.
        let needed = sources.iter().any(|s| s.path == *path && lines(s) > LINES_MAX * 9 / 10);
        assert!(needed, "{path} ({reason}) is not that long any more: take it off the list");
    }
}

/// The tests that a text names: `` `file.rs`: `one`, `another` ``, several files parted by `;`.
fn named_tests(text: &str) -> Vec<(String, String)> {
    let mut named = Vec::new();
    for part in text.lines().flat_map(|line| line.split(';')) {
        let mut quoted = part.split('`').skip(1).step_by(2);
        let Some(file) = quoted.next().filter(|file| file.ends_with(".rs") && part.contains("`:")) else { continue };
        named.extend(quoted.map(|test| (file.to_owned(), test.to_owned())));
    }
    named
}

#[test]
fn every_test_that_the_promises_name_exists() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let named = named_tests(&read("docs/promises.md"));
    assert!(named.len() > 50, "docs/promises.md names {} tests: has its form changed?", named.len());
    let missing = named.iter().filter(|(file, test)| !read(file).contains(&format!("fn {test}(")));
    let problems: Vec<_> = missing.map(|(file, test)| format!("{file}: {test}")).collect();
    report("docs/promises.md names tests that do not exist", &problems);
}

#[test]
fn the_checks_see_what_they_are_for() {
    let source = |text: &str| Source { path: "src/x.rs".into(), text: text.into() };
    for good in ["tokio::select! {\n    biased;\n", "select! { biased;", "// select! {\n", "let x = 1; // tokio::spawn"]
    {
        assert!(unbiased_selects(&source(good)).is_empty(), "{good}");
        assert!(around_the_seams(&source(good)).is_empty(), "{good}");
    }
    for bad in ["tokio::select! {\n    x = y => {}\n", "futures::select!{ a = b => {} }", "select! {\n // biased;\n x"]
    {
        assert_eq!(unbiased_selects(&source(bad)).len(), 1, "{bad}");
    }
    for bad in ["tokio::spawn(async {})", "use std::fs;", "let url = \"http://x\"; std::fs::read(url)"] {
        assert_eq!(around_the_seams(&source(bad)).len(), 1, "{bad}");
    }
    for bad in ["#[cfg(sim)]", "#[cfg(feature = \"simulation\")]", "if cfg!(sim) {", "use turmoil::net;"] {
        assert_eq!(knows_the_simulator(&source(bad)).len(), 1, "{bad}");
    }
    let pair = |file: &str, test: &str| (file.to_owned(), test.to_owned());
    assert_eq!(
        named_tests("- The check: `a.rs`: `b`, `c`; `d.rs`: `e`\n`a.rs` has no test\n- `--flag`: x"),
        [pair("a.rs", "b"), pair("a.rs", "c"), pair("d.rs", "e")]
    );
    assert!(knows_the_simulator(&source("#[cfg(test)]\n// turmoil cannot pause a host\nlet similar = 1;")).is_empty());
}
