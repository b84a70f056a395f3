//! Every target over its seeds and over arbitrary bytes. Finds little, but shows that the targets work.

use std::fs;
use std::path::{Path, PathBuf};

use rand::TryRng as _;

use crate::world::{FuzzRng, FuzzWorld};

const TARGETS: [(&str, fn(&[u8])); 4] =
    [("wire", crate::wire), ("peer", crate::peer), ("post_office", crate::post_office), ("log", crate::log)];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
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
        "entries" | "peer" => Some("peer"),
        _ => None,
    }
}

#[test]
fn the_seeds_are_the_goldens() {
    let write = std::env::var_os("RESTANTE_WRITE_SEEDS").is_some();
    for (name, bytes) in goldens() {
        let Some(target) = target_of(&name) else { continue };
        let path = root().join("corpus").join(target).join(format!("seed-{name}"));
        if write {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let seed = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(seed, bytes, "{} is not the golden: see README.md", path.display());
    }
}

#[test]
fn no_target_minds_a_seed() {
    for (target, run) in TARGETS {
        let Ok(files) = fs::read_dir(root().join("corpus").join(target)) else { continue };
        for file in files {
            run(&fs::read(file.unwrap().path()).unwrap());
        }
    }
    for (_, bytes) in goldens() {
        TARGETS.iter().for_each(|(_, run)| run(&bytes));
    }
}

#[test]
fn no_target_minds_arbitrary_bytes() {
    let rounds: u64 = std::env::var("RESTANTE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    for (target, run) in TARGETS {
        for round in 0..rounds {
            // The log's world draws from the same numbers: each round begins with its own.
            FuzzWorld::reset();
            let mut dice = FuzzRng;
            let mut draw = || dice.try_next_u64().unwrap_or_else(|never| match never {});
            for _ in 0..round {
                draw();
            }
            let bytes: Vec<u8> = (0..draw() % 3000).map(|_| draw() as u8).collect();
            let small: Vec<u8> = bytes.iter().map(|byte| byte % 24).collect();
            let _named = Named(target, round);
            run(&bytes);
            run(&small);
        }
    }
}

/// Says which input it was, if it panics.
struct Named(&'static str, u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("target {}, round {}", self.0, self.1);
        }
    }
}

#[test]
fn the_targets_are_the_ones_in_fuzz_targets() {
    for (target, _) in TARGETS {
        assert!(Path::new(&root()).join("fuzz_targets").join(format!("{target}.rs")).exists());
    }
}
