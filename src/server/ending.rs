//! Why a member ends by itself, or does not start: its data is damaged, so that it is set aside, or something else.

use std::io;

use super::ServerError;
use crate::raft::{Cause, Trouble};
use crate::storage::{LogError, OpenError, StorageError};

/// Why a node ended by itself.
#[derive(Debug)]
pub(super) enum Ended {
    /// Its data is damaged: the reason, for people.
    Damaged(String),
    /// It cannot go on.
    Failed(ServerError),
}

/// Why a node did not start.
#[derive(Debug)]
pub(super) enum StartError {
    /// Its data is damaged: the reason, for people.
    Damaged(String),
    /// Something else.
    Other(ServerError),
}

impl Ended {
    /// What a node ends with when Raft has stopped. openraft tells what failed as a text only; what the disk did to our
    /// own storage says whether it was that.
    pub fn by(trouble: &Trouble, fatal: &dyn std::fmt::Display) -> Self {
        match trouble.met() {
            Some(Cause::Damage(reason)) => Self::Damaged(reason),
            Some(Cause::Failure(reason)) => Self::Failed(ServerError::Disk(reason)),
            None => Self::Failed(ServerError::Stopped(fatal.to_string())),
        }
    }
}

impl From<Ended> for StartError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Damaged(reason) => Self::Damaged(reason),
            Ended::Failed(error) => Self::Other(error),
        }
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Self::Damaged(error.to_string()),
            _ => Self::Other(ServerError::Disk(error.to_string())),
        }
    }
}

impl From<LogError> for StartError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Damaged { .. } => Self::Damaged(error.to_string()),
            LogError::NewerFormat { path: file, found, known } => Self::newer(file, found, known),
            LogError::Io(error) => error.into(),
        }
    }
}

impl From<StorageError> for StartError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::NewerFormat { found, known } => Self::newer("the checkpoint".to_owned(), found, known),
            other => io::Error::from(other).into(),
        }
    }
}

impl StartError {
    fn newer(file: String, found: u32, known: u32) -> Self {
        Self::Other(OpenError::NewerFormat { file, found, known }.into())
    }
}
