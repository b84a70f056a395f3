//! The state on disk up to some log index: keys and values in redb, and one opaque meta value that says up to where.
//!
//! * [`database`]: one redb file, its tables, every value with a CRC32C over its key and itself, since redb checks
//!   none on an ordinary read.
//! * [`snapshot`]: the way to another server.
//! * [`blocks`]: the file, which notices what changes in it while it is open.
//! * [`backend`], [`error`]: redb over [`crate::world::Disk`], and its errors and panics as ours.
//!
//! The changes of a flush are one redb transaction: there is no state between for a crash to uncover. redb writes
//! pages out while a transaction grows beyond its cache, so a large one costs disk and not memory.
//!
//! A crash while redb makes a file leaves one that will not open. So every file is made under a temporary name, closed,
//! renamed, and the directory synced; left-overs are removed at start.

mod backend;
mod blocks;
mod database;
mod error;
mod snapshot;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

pub use blocks::BLOCK_BYTES;
pub use database::Records;
pub use error::StorageError;
pub use snapshot::{Chunk, ChunkRecords, SealedSnapshot, SnapshotReader, SnapshotWriter};

use crate::post_office::Change;
use crate::world::Disk;
use database::{RedbFile, View};

const DIRECTORY: &str = "checkpoint";
const PATH: &str = "checkpoint/state.redb";
/// Memory that redb takes for its pages, in bytes, unless said otherwise.
pub const CACHE_BYTES_DEFAULT: usize = 64 << 20;

fn temporary(number: u64) -> String {
    format!("{DIRECTORY}/{number}.new")
}

/// The checkpoint of one server. A cheap clone. All calls block. When the last clone is dropped without
/// [`Checkpoint::close`], that is as if the process had died: nothing is written, and the next start verifies more.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    cache_bytes: usize,
    /// `None` after an error that leaves unknown what is on disk.
    open: Mutex<Option<Arc<RedbFile>>>,
    /// One writes at a time.
    writing: Mutex<()>,
    temporaries: AtomicU64,
    /// Damage that a flush met.
    damage: Mutex<Option<String>>,
}

impl Checkpoint {
    /// Opens the checkpoint, or makes an empty one where there is none. Verifies every page of it.
    ///
    /// # Errors
    /// Damage, after which the caller sets the directory aside; a newer format; the disk's.
    pub fn open(disk: Arc<dyn Disk>) -> Result<Self, StorageError> {
        Self::open_with_cache(disk, CACHE_BYTES_DEFAULT)
    }

    /// The same, with so much memory for redb's pages.
    ///
    /// # Errors
    /// As there.
    pub fn open_with_cache(disk: Arc<dyn Disk>, cache_bytes: usize) -> Result<Self, StorageError> {
        disk.create_directory(DIRECTORY)?;
        disk.sync_directory("")?;
        let mut temporaries = 0;
        let mut exists = false;
        for name in disk.list(DIRECTORY)? {
            let path = format!("{DIRECTORY}/{name}");
            exists |= path == PATH;
            if let Some(number) = name.strip_suffix(".new") {
                temporaries = temporaries.max(number.parse().unwrap_or(0));
                disk.remove(&path)?;
            }
        }
        // What the last process renamed, it may not have lived to sync.
        disk.sync_directory(DIRECTORY)?;
        if !exists {
            temporaries += 1;
            let path = temporary(temporaries);
            RedbFile::create(&*disk, &path, cache_bytes)?;
            disk.rename(&path, PATH)?;
            disk.sync_directory(DIRECTORY)?;
        }
        let open = RedbFile::open(&*disk, PATH, cache_bytes)?;
        let open = Mutex::new(Some(Arc::new(open)));
        let temporaries = AtomicU64::new(temporaries + 1);
        let (writing, damage) = (Mutex::new(()), Mutex::new(None));
        Ok(Self { inner: Arc::new(Inner { disk, cache_bytes, open, writing, temporaries, damage }) })
    }

    /// The meta value of the last flush, or of the snapshot that was taken in since.
    ///
    /// # Errors
    /// Damage; the disk's.
    pub fn meta(&self) -> Result<Option<Bytes>, StorageError> {
        self.view()?.meta()
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// Damage; the disk's.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.view()?.get(key)
    }

    /// The values of several keys, as of one moment: quicker than one after the other.
    ///
    /// # Errors
    /// Damage; the disk's.
    pub fn get_all(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, StorageError> {
        let view = self.view()?;
        keys.iter().map(|key| view.get(key)).collect()
    }

    fn view(&self) -> Result<View, StorageError> {
        View::new(&*self.inner.current()?)
    }

    /// Applies `changes`, in their order, and sets the meta value: durable when it returns, and all of it or nothing.
    /// Sorted by key it is fastest by far.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`], after which everything is as before and it can be tried again; any other
    /// error of the disk, after which the checkpoint must be opened anew; damage.
    pub fn flush(&self, changes: &[Change], meta: &[u8]) -> Result<(), StorageError> {
        let _writing = self.inner.writing.lock();
        self.inner.check_room(changes)?;
        let open = self.inner.current()?;
        let flushed = open.apply(changes, Some(meta), true);
        if let Err(error) = &flushed {
            drop(open);
            self.inner.after_failure(error);
        }
        flushed
    }

    /// Shows `each` all keys in order with their values, until it breaks.
    ///
    /// # Errors
    /// Damage, at the first place where it is found; the disk's.
    pub fn scan(&self, each: &mut dyn FnMut(Vec<u8>, Bytes) -> ControlFlow<()>) -> Result<(), StorageError> {
        for record in self.snapshot()?.records(None)? {
            let (key, value) = record?;
            if each(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The checkpoint as it is now, to be read while writing goes on.
    ///
    /// # Errors
    /// Damage; the disk's.
    pub fn snapshot(&self) -> Result<SnapshotReader, StorageError> {
        SnapshotReader::new(self.inner.current()?)
    }

    /// Begins to take in another server's snapshot. It makes a file beside the checkpoint; what an earlier writer
    /// left there is removed.
    ///
    /// # Errors
    /// The disk's.
    pub fn snapshot_writer(&self) -> Result<SnapshotWriter, StorageError> {
        self.remove_unfinished()?;
        let number = self.inner.temporaries.fetch_add(1, Ordering::Relaxed);
        SnapshotWriter::new(self.inner.clone(), number)
    }

    /// Removes what a writer left that did not come to its end, and a sealed snapshot that was not installed.
    ///
    /// # Errors
    /// The disk's.
    pub fn remove_unfinished(&self) -> Result<(), StorageError> {
        for name in self.inner.disk.list(DIRECTORY)? {
            if name.ends_with(".new") {
                self.inner.disk.remove(&format!("{DIRECTORY}/{name}"))?;
            }
        }
        Ok(())
    }

    /// What was found damaged when it was needed, if anything was.
    pub fn damage(&self) -> Option<String> {
        let found = self.inner.damage.lock().clone();
        let open = self.inner.open.lock().clone();
        found.or_else(|| {
            let damaged = open.is_some_and(|open| open.blocks().is_damaged());
            damaged.then(|| StorageError::broken("it has changed since it was written").to_string())
        })
    }

    /// Bytes of its file.
    ///
    /// # Errors
    /// The disk's.
    pub fn bytes_on_disk(&self) -> Result<u64, StorageError> {
        Ok(self.inner.current()?.blocks().len()?)
    }

    /// Reads about `max_bytes` of the file from the medium, from `block` on ([`BLOCK_BYTES`] each), and compares them with what was written:
    /// call it again with what it gives until that is `None`. Nothing is done about what is found.
    ///
    /// # Errors
    /// Damage; the disk's.
    pub fn scrub(&self, block: u64, max_bytes: u64) -> Result<Option<u64>, StorageError> {
        let open = self.inner.current()?;
        if block == 0 && !self.inner.disk.list(DIRECTORY)?.iter().any(|name| format!("{DIRECTORY}/{name}") == PATH) {
            // It may just be replaced by a snapshot, which happens under this lock.
            let _writing = self.inner.writing.lock();
            if !self.inner.disk.list(DIRECTORY)?.iter().any(|name| format!("{DIRECTORY}/{name}") == PATH) {
                return Err(StorageError::broken("its file is gone"));
            }
        }
        match open.blocks().scrub(block, max_bytes.div_ceil(BLOCK_BYTES).max(1)) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(StorageError::broken(error)),
            scrubbed => Ok(scrubbed?),
        }
    }

    /// Closes the file so that it is found clean, if nobody else reads it.
    ///
    /// # Errors
    /// The disk's.
    pub fn close(self) -> Result<(), StorageError> {
        let _writing = self.inner.writing.lock();
        match self.inner.open.lock().take().map(Arc::try_unwrap) {
            Some(Ok(open)) => open.close(),
            Some(Err(_)) | None => Ok(()),
        }
    }
}

impl Inner {
    fn current(&self) -> Result<Arc<RedbFile>, StorageError> {
        let open = self.open.lock().clone();
        open.ok_or_else(|| StorageError::Io(io::Error::other("the checkpoint is closed, or has failed before")))
    }

    /// Looks for space first: finding none in the middle of a transaction costs a verification of the whole file.
    fn check_room(&self, changes: &[Change]) -> Result<(), StorageError> {
        const SLACK: u64 = 1 << 20;
        let bytes: u64 = changes.iter().map(Change::bytes).sum();
        let free = self.disk.free_bytes()?;
        if free < bytes.saturating_mul(2).saturating_add(SLACK) {
            let text = format!("{} has {free} bytes left; {bytes} are to be written", self.disk.describe());
            return Err(io::Error::new(io::ErrorKind::StorageFull, text).into());
        }
        Ok(())
    }

    /// redb does nothing more after an I/O error. If there was only no space, it is opened again; the readers of
    /// before lose their file, since redb will use its pages for something else.
    fn after_failure(&self, error: &StorageError) {
        if let StorageError::Damaged { .. } = error {
            self.damage.lock().get_or_insert_with(|| error.to_string());
        }
        let mut open = self.open.lock();
        if let Some(old) = open.take() {
            old.detach();
        }
        if let StorageError::Io(io) = error
            && io.kind() == io::ErrorKind::StorageFull
        {
            *open = RedbFile::open(&*self.disk, PATH, self.cache_bytes).ok().map(Arc::new);
        }
    }

    /// The closed file of that number becomes the checkpoint.
    fn replace(&self, number: u64) -> Result<(), StorageError> {
        let _writing = self.writing.lock();
        let mut open = self.open.lock();
        let path = temporary(number);
        let moved = self.disk.rename(&path, PATH);
        if moved.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Err(StorageError::BadChunk("another snapshot was begun meanwhile"));
        }
        // If this fails, whether the old or the new one is there is unknown.
        *open = None;
        moved.and_then(|()| self.disk.sync_directory(DIRECTORY))?;
        *open = Some(Arc::new(RedbFile::open(&*self.disk, PATH, self.cache_bytes)?));
        Ok(())
    }
}
