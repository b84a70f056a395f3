//! The person's side of the file system: files to send, directories to put servers in.
#![expect(
    clippy::disallowed_methods,
    reason = "the person's files are not a server's disk, and no simulation has them"
)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::failure::{Exit, Failure};

/// Opens a file whose content is to be sent.
///
/// # Errors
/// The system's.
pub fn open(path: &Path) -> Result<fs::File, Failure> {
    fs::File::open(path).map_err(|error| failed("read", path, &error))
}

/// Opens a file for a server's log, at its end.
///
/// # Errors
/// The system's.
pub fn open_log(path: &Path) -> Result<fs::File, Failure> {
    fs::OpenOptions::new().create(true).append(true).open(path).map_err(|error| failed("write", path, &error))
}

/// The last `lines` lines of a text file; none if it cannot be read.
pub fn tail(path: &Path, lines: usize) -> Vec<String> {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}

/// Makes a directory and those above it. One that is there must be empty.
///
/// # Errors
/// It is not empty, or the system's.
pub fn create_empty(path: &Path) -> Result<(), Failure> {
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Failure::new(Exit::DirectoryInUse, format!("{} is not empty", path.display()))
                .hint("It may hold an earlier run's data: remove it, or name another directory with --data.")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path).map_err(|error| failed("create", path, &error))
        }
        Err(error) => Err(failed("read", path, &error)),
    }
}

/// Makes a directory and those above it, unless it is there.
///
/// # Errors
/// The system's.
pub fn create(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(|error| failed("create", path, &error))
}

/// A new directory for things that are gone when the value is dropped, unless they are kept.
///
/// # Errors
/// The system's.
pub fn temporary(prefix: &str) -> Result<tempfile::TempDir, Failure> {
    tempfile::Builder::new()
        .prefix(prefix)
        .tempdir()
        .map_err(|error| failed("create a directory in", &std::env::temp_dir(), &error))
}

/// This program, to be started again as a server.
///
/// # Errors
/// The system's.
pub fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot tell where this program is: {error}")))
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot {verb} {}: {error}", path.display()))
}
