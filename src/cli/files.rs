//! The person's side of the file system: files to send, directories to put servers in.
#![expect(
    clippy::disallowed_methods,
    reason = "the person's files are not a server's disk, and no simulation has them"
)]

use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use restante::world::{Disk, File, RealDisk};

use super::failure::{Exit, Failure};

/// Opens a file whose content is to be sent.
///
/// # Errors
/// The system's.
pub fn open(path: &Path) -> Result<fs::File, Failure> {
    fs::File::open(path).map_err(|error| failed("read", path, &error))
}

/// The text of a file.
///
/// # Errors
/// The system's, also if it is no text.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| {
        let failure = failed("read", path, &error);
        Failure { exit: Exit::Usage, ..failure }
    })
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
    let path = std::env::current_exe()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot tell where this program is: {error}")))?;
    // Linux says so of a program whose file was replaced; what is at the path now is the upgrade.
    let replaced = path.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map(PathBuf::from);
    Ok(replaced.filter(|path| path.exists()).unwrap_or(path))
}

/// A file that is only read.
#[derive(Debug)]
pub struct ReadOnly(fs::File);

impl File for ReadOnly {
    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn set_len(&self, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens a file that is to be read at any place.
///
/// # Errors
/// The system's.
pub fn open_to_read(path: &Path) -> Result<ReadOnly, Failure> {
    open(path).map(ReadOnly)
}

/// The directory that a file is to be in, and the file's name in it.
///
/// # Errors
/// The path names no file, or the directory is not there.
pub fn directory_of(path: &Path) -> Result<(Arc<dyn Disk>, String), Failure> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Err(Failure::new(Exit::Usage, format!("{} is not the name of a file", path.display())));
    };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !directory.is_dir() {
        return Err(Failure::new(Exit::Usage, format!("{} is not a directory: make it first", directory.display())));
    }
    let disk = RealDisk::new(directory).map_err(|error| failed("write to", directory, &error))?;
    Ok((Arc::new(disk), name.to_owned()))
}

/// Makes sure that nothing is in a directory, or that it is not there.
///
/// # Errors
/// It is not empty, or the system's.
pub fn is_free(path: &Path) -> Result<(), Failure> {
    match fs::read_dir(path) {
        Ok(entries) => {
            for entry in entries {
                let name = entry.map_err(|error| failed("read", path, &error))?.file_name();
                if !["lock", "lost+found"].iter().any(|ignored| name == *ignored) {
                    return Err(Failure::new(Exit::DirectoryInUse, format!("{} is not empty", path.display()))
                        .hint("A backup is restored into an empty directory: empty it, or name another one."));
                }
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("read", path, &error)),
    }
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot {verb} {}: {error}", path.display()))
}
