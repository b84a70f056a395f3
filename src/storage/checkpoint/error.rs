//! What can go wrong with a checkpoint, and how redb's errors and panics become that.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why a checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// What is there is not what was written.
    #[error("the checkpoint is damaged{}: {why}. Set the data aside and join anew", at(.key.as_deref()))]
    Damaged {
        /// The key whose value it is, if it is one value.
        key: Option<Vec<u8>>,
        /// What was found.
        why: String,
    },
    /// It was written by a newer version.
    #[error("the checkpoint was made by a newer version (format {found}; this one knows {known}): upgrade this server")]
    NewerFormat {
        /// Its format.
        found: u32,
        /// The newest format this version knows.
        known: u32,
    },
    /// A snapshot's chunk is malformed, damaged, or not the one that comes next.
    #[error("the snapshot cannot be taken over: {0}. It must be sent again from the beginning")]
    BadChunk(&'static str),
    /// The disk failed.
    #[error("the checkpoint cannot be read or written: {0}")]
    Io(#[from] io::Error),
}

fn at(key: Option<&[u8]>) -> String {
    key.map_or_else(String::new, |key| format!(" at key {}", key.escape_ascii()))
}

impl StorageError {
    /// Damage of one value.
    pub fn damaged(key: &[u8], why: &str) -> Self {
        Self::Damaged { key: Some(key.to_vec()), why: why.to_owned() }
    }

    /// Damage of the file's own structure.
    pub fn broken(why: impl ToString) -> Self {
        Self::Damaged { key: None, why: why.to_string() }
    }
}

impl From<redb::Error> for StorageError {
    fn from(error: redb::Error) -> Self {
        match error {
            // redb says so of a file that is not its own, and passes on what it was told of a file that is too short.
            redb::Error::Io(error)
                if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                Self::broken(error)
            }
            redb::Error::Io(error) => Self::Io(error),
            error @ (redb::Error::PreviousIo | redb::Error::DatabaseClosed) => Self::Io(io::Error::other(error)),
            error => Self::broken(error),
        }
    }
}

macro_rules! from_redb {
    ($($kind:ident),*) => {
        $(impl From<redb::$kind> for StorageError {
            fn from(error: redb::$kind) -> Self {
                redb::Error::from(error).into()
            }
        })*
    };
}

from_redb!(StorageError, TableError, DatabaseError, CommitError);

impl From<redb::TransactionError> for StorageError {
    fn from(error: redb::TransactionError) -> Self {
        match error {
            redb::TransactionError::Storage(error) => error.into(),
            error => Self::Io(io::Error::other(error.to_string())),
        }
    }
}

impl From<redb::SetDurabilityError> for StorageError {
    fn from(error: redb::SetDurabilityError) -> Self {
        Self::Io(io::Error::other(error.to_string()))
    }
}

/// Runs something that touches redb. redb trusts its pages, so a damaged one may make it panic rather than complain:
/// that is damage like any other, and must not take the process along.
///
/// # Errors
/// The work's; [`StorageError::Damaged`] if it panicked.
pub fn contain<T>(work: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(StorageError::broken(format!("redb gave up: {}", text.unwrap_or("for an unknown reason"))))
    })
}
