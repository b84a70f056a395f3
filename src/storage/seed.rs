//! A directory whose state came out of a backup, and whose cluster is still to be founded.
//!
//! The file `restored` says so. It is written twice: before anything else, when it says that the directory is being made,
//! and after everything else. So what was left half-made is told from what is whole.

use std::any::Any;
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::directory::{DataDirectory, OpenError};
use super::quarantine;
use super::small_file::{self, Kind, Problem};
use crate::wire::ClusterId;
use crate::world::{Disk, World};

/// The file.
pub(super) const FILE: &str = "restored";
/// What kind of file it is.
pub(super) const KIND: Kind = Kind { magic: *b"RSTSEED\n", format: 1 };

/// What a restored directory begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// The digest of the backup. Servers found a cluster together only if theirs is the same.
    pub backup: u128,
    /// The cluster that the backup was made of.
    pub from: ClusterId,
    /// The log index that the new cluster begins behind.
    pub applied: u64,
    /// When it was restored, in milliseconds since the Unix epoch: for people.
    pub restored_unix_ms: u64,
}

impl Seed {
    /// What servers compare before they found a cluster together: which backup, and where the new cluster's log begins.
    pub fn key(&self) -> u128 {
        self.backup ^ u128::from(self.applied)
    }
}

/// Reads what there is of it. `None`: nothing was restored here; `Some(None)`: it was begun and not finished.
pub(super) fn read(disk: &dyn Disk) -> Result<Option<Option<Seed>>, Problem> {
    let Some(bytes) = small_file::read(disk, FILE, KIND)? else { return Ok(None) };
    postcard::from_bytes(&bytes).map(Some).map_err(|_| Problem::Damaged)
}

fn write(disk: &dyn Disk, seed: Option<Seed>) -> io::Result<()> {
    let bytes = postcard::to_allocvec(&seed).map_err(io::Error::other)?;
    small_file::write(disk, "", FILE, KIND, &bytes)
}

/// An empty directory that is being made one with a state. It is this process's until the value is dropped.
pub struct Restoring {
    disk: Arc<dyn Disk>,
    _lock: Box<dyn Any + Send + Sync>,
}

impl Restoring {
    /// Takes an empty directory. Blocks.
    ///
    /// # Errors
    /// [`OpenError::NotEmpty`], [`OpenError::HalfRestored`], [`OpenError::InUse`]; the disk's.
    pub fn begin(disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let lock = DataDirectory::lock(&*disk)?;
        let there = disk.list("")?;
        if there.iter().any(|name| name == FILE) && matches!(read(&*disk), Ok(Some(None))) {
            return Err(OpenError::HalfRestored { directory: disk.describe() });
        }
        let other = |name: &String| name != "lock" && !quarantine::IGNORED.contains(&name.as_str());
        if let Some(example) = there.into_iter().find(other) {
            return Err(OpenError::NotEmpty { directory: disk.describe(), example });
        }
        write(&*disk, None)?;
        Ok(Self { disk, _lock: lock })
    }

    /// The state is there: with this, a server takes the directory. Durable when it returns. Blocks.
    ///
    /// # Errors
    /// The disk's. It is unknown, then, whether a server would take it.
    pub fn finish<W: World>(self, seed: Seed) -> io::Result<()> {
        DataDirectory::make_manifest::<W>(&*self.disk)?;
        write(&*self.disk, Some(seed))
    }
}
