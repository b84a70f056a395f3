//! Why a backup is of no use, or no directory could be made of it.

use std::io;

use crate::post_office::{BadRecord, LoadError};
use crate::storage::{OpenError, StorageError};

/// A file that is not, or not any more, a backup that this version can read. None of it is used.
#[derive(Debug, thiserror::Error)]
pub enum BadBackup {
    /// It begins otherwise.
    #[error("it is no backup: it does not begin as one; check the name of the file")]
    NotOne,
    /// It was written by a newer version.
    #[error("a newer version made it (format {found}; this one knows {known}): restore it with that version")]
    Newer {
        /// Its format.
        found: u32,
        /// The newest format this version knows.
        known: u32,
    },
    /// It ends before its end.
    #[error("it is cut off: it ends after {bytes} bytes, before its end; take another copy of it")]
    CutOff {
        /// The bytes there are.
        bytes: u64,
    },
    /// It is not as it was written.
    #[error("it is damaged at byte {at}: {why}; take another copy of it")]
    Damaged {
        /// Where the part begins that is not right.
        at: u64,
        /// What is not right about it.
        why: String,
    },
    /// Its records contradict each other: it was so when it was written.
    #[error("its records make no state: {0}; take another backup")]
    State(#[from] LoadError),
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Why no data directory came of a backup.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file is of no use. Nothing was written.
    #[error("the backup cannot be used: {0}")]
    Backup(#[from] BadBackup),
    /// The file is not what it was when it was checked a moment ago.
    #[error("the backup changed while it was read: leave the file alone, empty the directory, and restore again")]
    Changed,
    /// A record cannot be carried over.
    #[error("a record of the backup cannot be carried over: {0}")]
    Record(#[from] BadRecord),
    /// Its log index leaves no room for another life.
    #[error("the state was restored too often: log index {applied} leaves no room for the ids of another cluster")]
    TooOften {
        /// The backup's index.
        applied: u64,
    },
    /// The directory cannot be taken.
    #[error(transparent)]
    Directory(#[from] OpenError),
    /// The disk failed while the directory was written.
    #[error("the directory could not be written: {0}; empty it and restore again")]
    Disk(#[from] StorageError),
}
