//! What a server keeps on its disk.
//!
//! * [`directory`]: the data directory: one process at a time, its format, its identity.
//! * [`quarantine`]: what is set aside, and never deleted.
//! * [`seed`]: a directory whose state came out of a backup.
//! * [`wal`]: the write-ahead log.
//! * [`checkpoint`]: the state up to some log index.

pub mod checkpoint;
pub mod directory;
mod quarantine;
mod seed;
mod small_file;
#[cfg(test)]
pub(crate) mod testing;
pub mod wal;

pub use checkpoint::{
    BLOCK_BYTES, Checkpoint, Chunk, ChunkRecords, SealedSnapshot, SnapshotReader, SnapshotWriter, StorageError,
};
pub use directory::{DataDirectory, Identity, OpenError};
pub use seed::{Restoring, Seed};
pub(crate) use wal::is_full;
pub use wal::{Log, LogEntry, LogError, LogPlace, LogSettings, MetaKey};
