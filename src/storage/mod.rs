//! What a server keeps on its disk.
//!
//! * [`directory`]: the data directory: one process at a time, its format, its identity.
//! * [`quarantine`]: what is set aside, and never deleted.
//! * [`wal`]: the write-ahead log.
//! * [`checkpoint`]: the state up to some log index.

pub mod checkpoint;
pub mod directory;
mod quarantine;
mod small_file;
#[cfg(test)]
mod testing;
pub mod wal;

pub use checkpoint::{BLOCK_BYTES, Checkpoint, Chunk, SnapshotReader, SnapshotWriter, StorageError};
pub use directory::{DataDirectory, Identity, OpenError};
pub use wal::{Log, LogEntry, LogError, LogPlace, LogSettings, MetaKey};
