//! A founder's data directory out of a backup.
//!
//! The directory gets the state and no identity: the servers that are restored from one backup found the cluster
//! together when all of them are started, as empty ones do ([`crate::server`]). So the cluster's id is a new one each
//! time, and which disks belong to it is agreed upon, however often the file is restored.
//!
//! What the old cluster was made of stays behind: its servers and disks, and how far their batches were applied. What its
//! clients hold of it is good or is refused: the numbers of the sends that are in the backup have their outcomes; ids and
//! epochs go on far above any that it can have given out after the backup was made, so that nothing from after it is taken
//! for something of the new cluster's; and whatever waits counts as delivered before, since it may have been.

use std::sync::Arc;

use super::check::{Contents, Parts, check};
use super::{BadBackup, RestoreError};
use crate::post_office::{Change, restored_record};
use crate::raft::{CheckpointMeta, restored_at};
use crate::storage::{Checkpoint, Restoring, Seed};
use crate::world::{Disk, File, World};

/// By how much the log index jumps. Ids are made of log indices, so this has to be more than the old cluster can have
/// gone on for: at 10,000 entries a second, 79 days. There is room for 2,000 such jumps.
const ENTRIES_SKIPPED: u64 = 1 << 36;
/// Ids leave 48 bits to the index.
const INDEX_MAX: u64 = 1 << 47;

/// What a directory was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What the backup holds.
    pub contents: Contents,
    /// The log index that the new cluster begins behind.
    pub applied: u64,
}

/// Makes the data directory of a founder. It must be empty. The file is checked whole before anything is written, and
/// never written to. Blocks.
///
/// When this fails or the process dies half-way, a server refuses the directory
/// ([`crate::storage::OpenError::HalfRestored`]).
///
/// # Errors
/// [`RestoreError`].
pub fn restore<W: World>(file: &dyn File, disk: Arc<dyn Disk>) -> Result<Restored, RestoreError> {
    let contents = check(file)?;
    let before = contents.summary.header.applied;
    let applied = before.saturating_add(ENTRIES_SKIPPED);
    if applied >= INDEX_MAX {
        return Err(RestoreError::TooOften { applied: before });
    }
    let restoring = Restoring::begin(disk.clone())?;
    write_state(file, &contents, disk, applied)?;
    let seed = Seed {
        backup: contents.summary.digest,
        from: contents.summary.header.cluster,
        applied,
        restored_unix_ms: W::unix_millis(),
    };
    restoring.finish::<W>(seed).map_err(|error| RestoreError::Disk(error.into()))?;
    Ok(Restored { contents, applied })
}

fn write_state(file: &dyn File, contents: &Contents, disk: Arc<dyn Disk>, applied: u64) -> Result<(), RestoreError> {
    let checkpoint = Checkpoint::open(disk)?;
    let mut writer = checkpoint.snapshot_writer()?;
    let mut parts = Parts::new(file)?;
    while let Some(records) = parts.next_records()? {
        let mut changes: Vec<Change> = Vec::with_capacity(records.len());
        for (key, value) in records {
            changes.extend(restored_record(&key, &value, applied)?);
        }
        writer.put(&changes)?;
    }
    let same =
        parts.summary().is_ok_and(|summary| summary == contents.summary) && *parts.header() == contents.summary.header;
    if !same {
        return Err(RestoreError::Changed);
    }
    let meta = CheckpointMeta { applied: Some(restored_at(applied)), ..CheckpointMeta::default() };
    writer.complete(&meta.encode())?;
    checkpoint.close()?;
    Ok(())
}

impl From<std::io::Error> for RestoreError {
    fn from(error: std::io::Error) -> Self {
        Self::Backup(BadBackup::Io(error))
    }
}
