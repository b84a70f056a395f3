//! `restante restore`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use restante::backup::{RestoreError, Restored, restore};
use restante::storage::OpenError;
use restante::wire::Name;
use restante::world::{RealDisk, RealWorld, World};
use serde::Serialize;

use super::backup::Row;
use super::failure::{Exit, Failure, with_causes};
use super::files;
use super::output::Output;

/// Make the data directories of a new cluster out of a backup.
///
/// Every server of the new cluster gets a directory that is restored from the same file; none is a server's already. When
/// all of them are started with the same --cluster list, they found the cluster together, as empty servers do, and its
/// state begins as the backup. It has an id of its own: servers and clients of the old cluster are told so rather than
/// served. Every message that waits is marked as redelivered, since it may have been delivered after the backup was made.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  restante restore monday.restante --data ./a                      on each server, then start it
  restante restore monday.restante --data ./new --for a,b,c        ./new/a, ./new/b and ./new/c at once
  restante cluster --data ./new                                    starts those three")]
pub struct Restore {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The server's directory, empty or not there; with --for, where the servers' directories are
    #[arg(long, value_name = "DIR", env = "RESTANTE_DATA")]
    data: PathBuf,
    /// Make a directory for each of these servers at once, in DIR and by its name
    #[arg(long = "for", value_name = "NAMES", value_delimiter = ',')]
    names: Vec<Name>,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Made {
    directories: Vec<String>,
    /// The log index that the new cluster begins behind.
    begins_behind: u64,
    backup: Row,
}

impl Restore {
    /// Makes the directories.
    ///
    /// # Errors
    /// The backup is no good, a directory is not empty or cannot be written.
    pub async fn run(&self) -> Result<(), Failure> {
        let directories: Vec<PathBuf> = match &self.names[..] {
            [] => vec![self.data.clone()],
            names => names.iter().map(|name| self.data.join(name.as_str())).collect(),
        };
        // All of them are looked at before the first is written.
        directories.iter().try_for_each(|directory| files::is_free(directory))?;
        let mut made: Option<Restored> = None;
        for directory in &directories {
            let file = files::open_to_read(&self.file)?;
            let disk = RealDisk::new(directory).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
            let restored = RealWorld::blocking(move || restore::<RealWorld>(&file, Arc::new(disk))).await;
            let restored = restored.map_err(|error| self.explain(&error))?;
            if made.as_ref().is_some_and(|before| *before != restored) {
                return Err(self.explain(&RestoreError::Changed));
            }
            made = Some(restored);
        }
        let Some(Restored { contents, applied }) = made else { return Ok(()) };
        let made = Made {
            directories: directories.iter().map(|directory| directory.display().to_string()).collect(),
            begins_behind: applied,
            backup: Row::verified(&self.file, &contents),
        };
        self.output.print(&made, |made| {
            format!(
                "restored {}from it: {}\nStart all servers of the new cluster with the same --cluster list; they found it together.\n",
                made.backup.text(),
                made.directories.join(", ")
            )
        })
    }

    fn explain(&self, error: &RestoreError) -> Failure {
        let exit = match error {
            RestoreError::Directory(
                OpenError::InUse { .. } | OpenError::NotOurs { .. } | OpenError::NotEmpty { .. },
            ) => Exit::DirectoryInUse,
            RestoreError::Directory(OpenError::HalfRestored { .. }) => Exit::DirectoryInUse,
            RestoreError::Disk(_) | RestoreError::Directory(_) => Exit::Failed,
            RestoreError::Backup(_)
            | RestoreError::Changed
            | RestoreError::Record(_)
            | RestoreError::TooOften { .. } => Exit::BadData,
        };
        Failure::new(exit, format!("{}: {}", self.file.display(), with_causes(error)))
    }
}
