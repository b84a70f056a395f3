//! The scratch copy: a tree in `target/teeth` with every sabotage in it.
//!
//! It is built into the same target directory as this tree, so that the dependencies are there already; cargo tells the
//! packages of the two trees apart by where they are. Its simulator has a name of its own.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Patches;
use super::patch::Files;

/// What of a tree the simulator is built from.
const PARTS: [&str; 11] = [
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "src",
    "benches",
    "tests/post_office_model",
    "sim/Cargo.toml",
    "sim/src",
    "fuzz/Cargo.toml",
    "fuzz/src",
    "fuzz/fuzz_targets",
];

/// What the copy's simulator is called.
const SIMULATOR: &str = "restante-sim-teeth";

/// The text files of a tree that the simulator is built from.
pub(super) fn files_of(tree: &Path) -> Result<Files, String> {
    let mut files = Files::new();
    for part in PARTS {
        collect(tree, Path::new(part), &mut files)
            .map_err(|error| format!("{}: {error}", tree.join(part).display()))?;
    }
    Ok(files)
}

#[expect(clippy::disallowed_methods, reason = "the tree lies on the real machine")]
fn collect(tree: &Path, part: &Path, files: &mut Files) -> io::Result<()> {
    let path = tree.join(part);
    if !path.is_dir() {
        let text = fs::read_to_string(&path)?;
        files.insert(part.to_string_lossy().replace('\\', "/"), text);
        return Ok(());
    }
    for entry in fs::read_dir(&path)? {
        collect(tree, &part.join(entry?.file_name()), files)?;
    }
    Ok(())
}

/// Makes the scratch copy of `tree`, or makes it as the tree is now, and builds it. Gives the simulator in it.
pub(super) fn build(tree: &Path, patches: &Patches) -> Result<PathBuf, String> {
    let target = cargo(tree, patches, "build")?;
    Ok(target.join("debug").join(SIMULATOR))
}

/// The same, without building anything: whether it compiles.
pub(super) fn check(tree: &Path, patches: &Patches) -> Result<(), String> {
    cargo(tree, patches, "check").map(drop)
}

/// Makes the copy, and has cargo do something with it. Gives the directory that cargo builds in.
fn cargo(tree: &Path, patches: &Patches, does: &str) -> Result<PathBuf, String> {
    let mut files = files_of(tree)?;
    patches.apply(&mut files)?;
    if let Some(manifest) = files.get_mut("sim/Cargo.toml") {
        *manifest = manifest.replace("[package]\n", "[package]\nautobins = false\n");
        manifest.push_str(&format!("\n[[bin]]\nname = \"{SIMULATOR}\"\npath = \"src/main.rs\"\n"));
    }
    // cargo names what it builds by package and version, and not by where the workspace is: with the same ones, what was built of
    // the tree itself would count as built of the copy, without a sabotage in it.
    if let Some(workspace) = files.get_mut("Cargo.toml") {
        let version = format!("version = \"{}\"", env!("CARGO_PKG_VERSION"));
        let marked = workspace.replacen(&version, &format!("version = \"{}-teeth\"", env!("CARGO_PKG_VERSION")), 1);
        if marked == *workspace {
            return Err(format!("Cargo.toml says nothing of {version}, which the copy has to change"));
        }
        *workspace = marked;
    }
    let copy = tree.join("target/teeth");
    write(&copy, &files).map_err(|error| format!("{}: {error}", copy.display()))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| tree.join("target"), PathBuf::from);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let done = Command::new(cargo)
        .args([does, "--quiet", "--package", "restante-sim", "--bin", SIMULATOR, "--manifest-path"])
        .arg(copy.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status();
    match done {
        Ok(status) if status.success() => Ok(target),
        Ok(_) => {
            Err(format!("the scratch copy at {} does not build: see above which patch is at fault", copy.display()))
        }
        Err(error) => Err(format!("cargo cannot be started: {error}")),
    }
}

/// Writes what is not there as it should be: cargo builds what has another date.
#[expect(clippy::disallowed_methods, reason = "the copy lies on the real machine")]
fn write(copy: &Path, files: &Files) -> io::Result<()> {
    let mut there = Files::new();
    for part in PARTS {
        if copy.join(part).exists() {
            collect(copy, Path::new(part), &mut there)?;
        }
    }
    let gone: BTreeSet<&String> = there.keys().filter(|path| !files.contains_key(*path)).collect();
    for path in gone {
        fs::remove_file(copy.join(path))?;
    }
    for (path, text) in files.iter().filter(|(path, text)| there.get(*path) != Some(*text)) {
        let path = copy.join(path);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}
