//! The data directory: whose it is, and that one process has it.
//!
//! ```text
//! lock            held while a process runs
//! manifest        magic number, format, the disk's id, when it was made
//! identity        which server of which cluster this is; missing until it has joined one
//! restored        the state came out of a backup, and which one
//! log/            the write-ahead log
//! checkpoint/     the state
//! quarantine/     what was set aside, for a person to look at
//! setting-aside   names the directory in quarantine/ that things are being moved to, until all are there
//! ```

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;

use rand::Rng as _;
use serde::{Deserialize, Serialize};

use super::quarantine;
use super::seed::{self, Seed};
use super::small_file::{self, Kind, Problem};
use crate::wire::client::SetAside;
use crate::wire::peer::Founding;
use crate::wire::{ClusterId, Incarnation, Name};
use crate::world::{Disk, World};

const MANIFEST: &str = "manifest";
const MANIFEST_KIND: Kind = Kind { magic: *b"RSTDATA\n", format: 1 };
const IDENTITY: &str = "identity";
const IDENTITY_KIND: Kind = Kind { magic: *b"RSTIDEN\n", format: 1 };
/// What is at the top of a data directory. Anything else there shows that it is not one.
const OURS: [&str; 10] = [
    "lock",
    MANIFEST,
    IDENTITY,
    "manifest.new",
    "identity.new",
    "log",
    "checkpoint",
    "quarantine",
    seed::FILE,
    "restored.new",
];

/// Why a data directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{directory} is in use by another process: stop that one, or give this server a directory of its own")]
    InUse {
        /// The directory.
        directory: String,
    },
    /// It was made by a newer version.
    #[error("{file} was made by a newer version: its format is {found}, this one knows {known}; upgrade this server")]
    NewerFormat {
        /// The file.
        file: String,
        /// Its format.
        found: u32,
        /// The newest format this version knows.
        known: u32,
    },
    /// A file is not as it was written.
    #[error("{file} is damaged: set the directory aside and let the server join anew")]
    Damaged {
        /// The file.
        file: String,
    },
    /// There are files in it, and none that say that it is a data directory.
    #[error("{directory} is no data directory, but not empty either (there is {example}): give an empty one")]
    NotOurs {
        /// The directory.
        directory: String,
        /// A file in it.
        example: String,
    },
    /// A state was to be restored into it, and that did not come to its end.
    #[error("{directory} is half-made: a restore into it did not finish; empty it and restore again")]
    HalfRestored {
        /// The directory.
        directory: String,
    },
    /// A state can be restored only into an empty one.
    #[error("{directory} is not empty (there is {example}): a backup is restored into an empty directory")]
    NotEmpty {
        /// The directory.
        directory: String,
        /// Something in it.
        example: String,
    },
    /// The disk failed.
    #[error("the data directory cannot be read or written: {0}")]
    Io(#[from] io::Error),
}

/// Which server of which cluster a disk belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The server's name.
    pub name: Name,
    /// The Raft id of this disk.
    pub incarnation: Incarnation,
    /// How the cluster was founded; `None` unless this disk was there.
    pub founding: Option<Founding>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    disk_id: u128,
    created_unix_ms: u64,
}

/// An open data directory. It is this process's until the value is dropped.
pub struct DataDirectory {
    disk: Arc<dyn Disk>,
    _lock: Box<dyn Any + Send + Sync>,
    disk_id: u128,
    identity: Option<Identity>,
    seed: Option<Seed>,
    has_set_aside: bool,
}

impl fmt::Debug for DataDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataDirectory")
            .field("directory", &self.disk.describe())
            .field("disk_id", &self.disk_id)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl DataDirectory {
    /// Takes the directory, and makes it one if it is empty. Finishes a setting aside that was interrupted. Blocks.
    ///
    /// After [`OpenError::Damaged`], [`DataDirectory::open_set_aside`] opens it with what is there set aside.
    ///
    /// # Errors
    /// See there.
    pub fn open<W: World>(disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let lock = Self::lock(&*disk)?;
        quarantine::finish(&*disk)?;
        Self::load::<W>(disk, lock)
    }

    /// Takes the directory and sets aside everything in it before anything is read. Blocks.
    ///
    /// # Errors
    /// The disk's; [`OpenError::InUse`]; [`OpenError::NotOurs`].
    pub fn open_set_aside<W: World>(disk: Arc<dyn Disk>, reason: &str) -> Result<Self, OpenError> {
        let lock = Self::lock(&*disk)?;
        quarantine::finish(&*disk)?;
        Self::check_ours(&*disk)?;
        quarantine::set_aside(&*disk, W::unix_millis(), reason)?;
        Self::load::<W>(disk, lock)
    }

    /// Reads what says whose the directory is once more, while it is in use. Blocks.
    ///
    /// # Errors
    /// Damage, also if one of the files is gone; the disk's.
    pub fn check(disk: &dyn Disk) -> Result<(), OpenError> {
        for (file, kind) in [(MANIFEST, MANIFEST_KIND), (IDENTITY, IDENTITY_KIND)] {
            match small_file::read(disk, file, kind) {
                Ok(Some(_)) => {}
                Ok(None) | Err(Problem::Damaged | Problem::Newer(_)) => {
                    return Err(OpenError::Damaged { file: file.to_owned() });
                }
                Err(Problem::Io(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// What was set aside on this disk, the latest last. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn quarantine(disk: &dyn Disk) -> io::Result<Vec<SetAside>> {
        quarantine::list(disk)
    }

    pub(super) fn lock(disk: &dyn Disk) -> Result<Box<dyn Any + Send + Sync>, OpenError> {
        disk.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::InUse { directory: disk.describe() },
            _ => error.into(),
        })
    }

    /// Another program's directory must neither be used nor, in the end, be moved to quarantine.
    fn check_ours(disk: &dyn Disk) -> Result<(), OpenError> {
        let foreign = |name: &String| !OURS.contains(&name.as_str()) && !quarantine::IGNORED.contains(&name.as_str());
        match disk.list("")?.into_iter().find(foreign) {
            None => Ok(()),
            Some(example) => Err(OpenError::NotOurs { directory: disk.describe(), example }),
        }
    }

    fn load<W: World>(disk: Arc<dyn Disk>, lock: Box<dyn Any + Send + Sync>) -> Result<Self, OpenError> {
        let failed = |file: &str, kind: Kind| {
            let file = file.to_owned();
            move |problem| match problem {
                Problem::Io(error) => OpenError::Io(error),
                Problem::Damaged => OpenError::Damaged { file },
                Problem::Newer(found) => OpenError::NewerFormat { file, found, known: kind.format },
            }
        };
        let seed = match seed::read(&*disk).map_err(failed(seed::FILE, seed::KIND))? {
            None => None,
            Some(Some(seed)) => Some(seed),
            Some(None) => return Err(OpenError::HalfRestored { directory: disk.describe() }),
        };
        let manifest = small_file::read(&*disk, MANIFEST, MANIFEST_KIND).map_err(failed(MANIFEST, MANIFEST_KIND))?;
        let manifest = match manifest {
            Some(bytes) => postcard::from_bytes::<Manifest>(&bytes)
                .map_err(|_| OpenError::Damaged { file: MANIFEST.to_owned() })?,
            None => {
                Self::check_ours(&*disk)?;
                // The manifest comes before everything else, so it has been lost.
                let rest = disk.list("")?;
                if [IDENTITY, "log", "checkpoint"].iter().any(|ours| rest.iter().any(|name| name == ours)) {
                    return Err(OpenError::Damaged { file: MANIFEST.to_owned() });
                }
                Self::make_manifest::<W>(&*disk)?
            }
        };
        let identity = small_file::read(&*disk, IDENTITY, IDENTITY_KIND).map_err(failed(IDENTITY, IDENTITY_KIND))?;
        let identity = match identity {
            Some(bytes) => {
                Some(postcard::from_bytes(&bytes).map_err(|_| OpenError::Damaged { file: IDENTITY.to_owned() })?)
            }
            // The checkpoint is made by a server that has an identity, or by a restore. Without either, the disk would pass
            // for a new one.
            None if seed.is_none() && disk.list("")?.iter().any(|name| name == "checkpoint") => {
                return Err(OpenError::Damaged { file: IDENTITY.to_owned() });
            }
            None => None,
        };
        // What the last process renamed, it may not have lived to sync.
        disk.sync_directory("")?;
        let has_set_aside = quarantine::has_any(&*disk)?;
        Ok(Self { disk, _lock: lock, disk_id: manifest.disk_id, identity, seed, has_set_aside })
    }

    pub(super) fn make_manifest<W: World>(disk: &dyn Disk) -> io::Result<Manifest> {
        let mut rng = W::rng();
        let disk_id = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
        let manifest = Manifest { disk_id, created_unix_ms: W::unix_millis() };
        small_file::write(disk, "", MANIFEST, MANIFEST_KIND, &encode(&manifest)?)?;
        Ok(manifest)
    }

    /// Drawn at random when the directory was made, and anew when it was set aside.
    pub fn disk_id(&self) -> u128 {
        self.disk_id
    }

    /// Which server of which cluster this is, if it has become one.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The state that a cluster is to be founded with, if there is one.
    pub fn seed(&self) -> Option<&Seed> {
        self.seed.as_ref()
    }

    /// Sets the identity; durable when it returns. Blocks.
    ///
    /// # Errors
    /// The disk's. It is unknown, then, which identity the next start will find.
    pub fn set_identity(&mut self, identity: Identity) -> io::Result<()> {
        small_file::write(&*self.disk, "", IDENTITY, IDENTITY_KIND, &encode(&identity)?)?;
        self.identity = Some(identity);
        Ok(())
    }

    /// Draws a new id for a directory that belongs to no cluster: under the old one, it would be taken for a disk that
    /// counts no more. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn renew<W: World>(&mut self) -> io::Result<()> {
        self.disk_id = Self::make_manifest::<W>(&*self.disk)?.disk_id;
        Ok(())
    }

    /// Something was set aside here once: this disk is not empty, even if it has no identity. Its server must not
    /// found a cluster, since it may have belonged to one.
    pub fn has_set_aside(&self) -> bool {
        self.has_set_aside
    }

    /// Moves everything to quarantine, with a note that says why, and makes this an empty directory with a new id.
    /// Nothing is deleted. The log and the checkpoint must be closed. Blocks.
    ///
    /// # Errors
    /// The disk's. What was begun is finished by the next [`DataDirectory::open`].
    pub fn set_aside<W: World>(&mut self, reason: &str) -> io::Result<()> {
        quarantine::set_aside(&*self.disk, W::unix_millis(), reason)?;
        self.identity = None;
        self.seed = None;
        self.has_set_aside = true;
        self.disk_id = Self::make_manifest::<W>(&*self.disk)?.disk_id;
        Ok(())
    }
}

fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    postcard::to_allocvec(value).map_err(io::Error::other)
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
