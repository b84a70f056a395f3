//! Every target over its corpus, and over arbitrary bytes. What fuzzing found once is in the corpus.
#![expect(clippy::disallowed_methods, reason = "a test reads the files of its repository")]

use std::fs;
use std::path::{Path, PathBuf};

use restante_fuzz::TARGETS;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn corpus(target: &str) -> Vec<PathBuf> {
    let directory = root().join("corpus").join(target);
    let files = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    // What somebody's own fuzzing left there is no part of the repository.
    let ours = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-"));
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).filter(ours).collect();
    files.sort();
    files
}

/// The goldens, by their names.
fn goldens() -> Vec<(String, Vec<u8>)> {
    let directory = root().join("../tests/golden");
    let mut found = Vec::new();
    for file in fs::read_dir(&directory).unwrap() {
        let path = file.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        for line in fs::read_to_string(&path).unwrap().lines().filter(|line| !line.starts_with('#')) {
            let Some((name, hex)) = line.split_once(": ") else { continue };
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            found.push((format!("{stem}-{name}"), (0..hex.len()).step_by(2).map(byte).collect()));
        }
    }
    found.sort();
    found
}

/// Whose seed a golden is.
fn target_of(name: &str) -> Option<&'static str> {
    match name.split('-').next()? {
        "commands" | "contents" | "requests" | "replies" => Some("wire"),
        "entries" | "peer" | "raft" => Some("peer"),
        _ => None,
    }
}

#[test]
fn the_seeds_of_the_wire_are_the_goldens() {
    let write = std::env::var_os("RESTANTE_WRITE_SEEDS").is_some();
    for (name, bytes) in goldens() {
        let Some(target) = target_of(&name) else { continue };
        let path = root().join("corpus").join(target).join(format!("seed-{name}"));
        if write {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let seed = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}: see fuzz/README.md", path.display()));
        assert_eq!(seed, bytes, "{} is not the golden: see fuzz/README.md", path.display());
    }
}

#[test]
fn no_target_minds_its_corpus() {
    for (target, run) in TARGETS {
        let files = corpus(target);
        assert!(!files.is_empty(), "{target} has no corpus");
        for file in files {
            let bytes = fs::read(&file).unwrap();
            let _named = Named(format!("target {target}, {}", file.display()));
            run(&bytes);
        }
    }
}

#[test]
fn no_target_minds_a_golden() {
    for (name, bytes) in goldens() {
        for (target, run) in TARGETS {
            let _named = Named(format!("target {target}, golden {name}"));
            run(&bytes);
        }
    }
}

#[test]
fn no_target_minds_arbitrary_bytes() {
    let rounds: u64 = std::env::var("RESTANTE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    for (target, run) in TARGETS {
        for round in 0..rounds {
            let mut dice = Dice(round);
            let bytes: Vec<u8> = (0..dice.next() % 3000).map(|_| dice.next() as u8).collect();
            let small: Vec<u8> = bytes.iter().map(|byte| byte % 24).collect();
            let _named = Named(format!("target {target}, round {round}"));
            run(&bytes);
            run(&small);
        }
    }
}

/// A small generator (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Says which input it was, if it panics.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

#[test]
fn every_target_has_a_program() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for (target, _) in TARGETS {
        assert!(root().join("fuzz_targets").join(format!("{target}.rs")).exists(), "{target}");
        assert!(manifest.contains(&format!("name = \"{target}\"\n")), "{target}");
    }
    let programs = fs::read_dir(Path::new(&root()).join("fuzz_targets")).unwrap().count();
    assert_eq!(programs, TARGETS.len());
}
