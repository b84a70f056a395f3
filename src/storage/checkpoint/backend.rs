//! redb over [`crate::world::Disk`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::blocks::Blocks;

/// A file that redb lives in, until it is detached.
///
/// redb writes when its database is dropped. A process that dies, real or simulated, writes nothing: so a database
/// that was not closed on purpose is detached first, and what redb then wants to write fails.
#[derive(Debug)]
pub struct Backend {
    blocks: Arc<Blocks>,
    detached: Arc<AtomicBool>,
}

impl Backend {
    /// Over a file; `detached` becomes true when it is to be left alone.
    pub fn new(blocks: Arc<Blocks>, detached: Arc<AtomicBool>) -> Self {
        Self { blocks, detached }
    }

    fn attached(&self) -> io::Result<()> {
        if self.detached.load(Ordering::SeqCst) {
            return Err(io::Error::other("the checkpoint was replaced or closed"));
        }
        Ok(())
    }
}

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.attached()?;
        self.blocks.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.attached()?;
        self.blocks.read(offset, out)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.attached()?;
        self.blocks.set_len(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.attached()?;
        self.blocks.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.attached()?;
        self.blocks.write(offset, data)
    }
}
