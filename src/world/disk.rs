//! One data directory.
//!
//! All calls block; call them inside [`super::World::blocking`]. Paths are relative to the directory, with `/` between
//! their parts.

use std::any::Any;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// It must exist.
    Existing,
    /// It must not exist.
    CreateNew,
    /// Either.
    Create,
}

/// A data directory: a tree of files.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// The system's, with the path in its text.
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Names in a directory (`""` is the top), ascending. A directory that is not there has none.
    ///
    /// # Errors
    /// The system's.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;

    /// Makes a directory and those above it; one that is there is fine.
    ///
    /// # Errors
    /// The system's.
    fn create_directory(&self, path: &str) -> io::Result<()>;

    /// Moves a file or directory, replacing a file of that name. Durable after [`Disk::sync_directory`] of both parents.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Moves a file to a name that must be free. Durable as [`Disk::rename`] is.
    ///
    /// # Errors
    /// [`std::io::ErrorKind::AlreadyExists`] if something has that name; the system's.
    fn rename_new(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Durable after [`Disk::sync_directory`] of its parent.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes the names in a directory durable: creations, renames and removals.
    ///
    /// # Errors
    /// The system's.
    fn sync_directory(&self, path: &str) -> io::Result<()>;

    /// Takes the directory for this process until the guard is dropped or the process ends.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if another process has it.
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>>;

    /// Bytes that can still be written.
    ///
    /// # Errors
    /// The system's.
    fn free_bytes(&self) -> io::Result<u64>;

    /// The directory as a person knows it, for messages.
    fn describe(&self) -> String;
}

/// An open file.
pub trait File: Debug + Send + Sync + 'static {
    /// Its length in bytes.
    ///
    /// # Errors
    /// The system's.
    fn len(&self) -> io::Result<u64>;

    /// Whether it is empty.
    ///
    /// # Errors
    /// The system's.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the file ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Asks for these bytes to be read from the medium the next time, and not from what the system remembers of them.
    /// What was written and not yet synced is none the less for it. Advice: where it cannot be followed, it is not.
    fn forget(&self, offset: u64, bytes: u64) {
        let _ = (offset, bytes);
    }

    /// Says that these bytes will be read soon, in whatever order, so that the system can begin to read them as fast as the
    /// medium gives them. Advice, as [`File::forget`] is.
    fn prefetch(&self, offset: u64, bytes: u64) {
        let _ = (offset, bytes);
    }

    /// Writes all of `bytes` at `offset`, growing the file.
    ///
    /// # Errors
    /// The system's; what part was written is unknown.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts or grows (with zeros) the file.
    ///
    /// # Errors
    /// The system's.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Makes what was written durable (`fdatasync`).
    ///
    /// # Errors
    /// The system's. After one, nothing is known about what was written before: the caller must not retry.
    fn sync(&self) -> io::Result<()>;
}
