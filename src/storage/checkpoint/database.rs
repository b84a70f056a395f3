//! One redb file: its tables, its values with their checksums, how it is made, opened and closed.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use redb::{Builder, Database, ReadOnlyTable, ReadTransaction, ReadableDatabase as _, TableDefinition};

use super::backend::Backend;
use super::blocks::Blocks;
use super::error::{StorageError, contain};
use crate::post_office::Change;
use crate::world::{Disk, OpenMode};

const STATE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("state");
const META: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("meta");
/// The version of how keys and values are kept; redb has one of its own.
const FORMAT: u32 = 1;
const FORMAT_KEY: &[u8] = b"format";
const META_KEY: &[u8] = b"meta";
const CRC_BYTES: usize = 4;
/// Of a file that is opened, so many bytes are read ahead. What is read ahead takes memory until it is used, and of a very
/// large file much may be free pages.
const PREFETCH_BYTES_MAX: u64 = 512 << 20;

/// An open redb file.
#[derive(Debug)]
pub struct RedbFile {
    database: Option<Database>,
    detached: Arc<AtomicBool>,
    blocks: Arc<Blocks>,
}

impl Drop for RedbFile {
    fn drop(&mut self) {
        self.detach();
        // redb may find its pages damaged once more while it is dropped.
        let database = self.database.take();
        let _ = contain(move || {
            drop(database);
            Ok(())
        });
    }
}

impl RedbFile {
    /// Makes an empty one at `path`, which must not exist, and closes it.
    pub fn create(disk: &dyn Disk, path: &str, cache_bytes: usize) -> Result<(), StorageError> {
        disk.open(path, OpenMode::CreateNew)?;
        let open = Self::open_unchecked(disk, path, cache_bytes)?;
        contain(|| {
            let transaction = open.database()?.begin_write()?;
            transaction.open_table(STATE)?;
            Ok(transaction.commit()?)
        })?;
        open.set_format(FORMAT)?;
        open.close()
    }

    /// Writes down that it has this format.
    pub(super) fn set_format(&self, format: u32) -> Result<(), StorageError> {
        contain(|| {
            let transaction = self.database()?.begin_write()?;
            put(&mut transaction.open_table(META)?, FORMAT_KEY, &format.to_le_bytes(), &[])?;
            Ok(transaction.commit()?)
        })
    }

    fn open_unchecked(disk: &dyn Disk, path: &str, cache_bytes: usize) -> Result<Self, StorageError> {
        let detached = Arc::new(AtomicBool::new(false));
        let file = disk.open(path, OpenMode::Existing)?;
        // What the disk has counts, not what the system remembers of a write whose sync failed.
        let bytes = file.len()?;
        file.forget(0, bytes);
        // redb reads page after page, in the order of its trees and not of the file.
        file.prefetch(0, bytes.min(PREFETCH_BYTES_MAX));
        let blocks = Arc::new(Blocks::new(file));
        let backend = Backend::new(blocks.clone(), detached.clone());
        let database = contain(|| {
            // redb trusts its pages once it is open, so every page is verified now. It would read the whole file
            // anyway after a crash, and after a clean end the state is read whole by who opens it.
            let mut builder = Builder::new();
            builder.set_cache_size(cache_bytes).set_check_integrity_on_open(true);
            Ok(builder.create_with_backend(backend)?)
        })?;
        // redb reads its header in part only.
        blocks.learn(0)?;
        Ok(Self { database: Some(database), detached, blocks })
    }

    /// Opens the one at `path`, verifying all of its pages.
    pub fn open(disk: &dyn Disk, path: &str, cache_bytes: usize) -> Result<Self, StorageError> {
        let open = Self::open_unchecked(disk, path, cache_bytes)?;
        let format = contain(|| View::new(&open)?.get_in(&View::new(&open)?.meta, FORMAT_KEY))?;
        match format.as_deref().map(|bytes| <[u8; 4]>::try_from(bytes).map(u32::from_le_bytes)) {
            Some(Ok(FORMAT)) => Ok(open),
            Some(Ok(found)) if found > FORMAT => Err(StorageError::NewerFormat { found, known: FORMAT }),
            _ => Err(StorageError::broken("it does not say its format")),
        }
    }

    fn database(&self) -> Result<&Database, StorageError> {
        self.database.as_ref().ok_or_else(|| StorageError::broken("it is closed"))
    }

    /// The file, as its own judge.
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// Every further access fails, and nothing is written any more.
    pub fn detach(&self) {
        self.detached.store(true, Ordering::SeqCst);
    }

    /// Closes it so that it is found clean.
    pub fn close(mut self) -> Result<(), StorageError> {
        let database = self.database.take();
        contain(|| match database {
            Some(database) => Ok(database.close()?),
            None => Ok(()),
        })
    }

    /// Applies `changes` and sets the meta value, all of it or nothing. Without `durable` it may be lost.
    pub fn apply(&self, changes: &[Change], meta: Option<&[u8]>, durable: bool) -> Result<(), StorageError> {
        contain(|| {
            let mut transaction = self.database()?.begin_write()?;
            if !durable {
                transaction.set_durability(redb::Durability::None)?;
            }
            let mut state = transaction.open_table(STATE)?;
            for change in changes {
                match change {
                    Change::Put { key, head, content } => put(&mut state, key, head, content)?,
                    Change::Remove { key } => drop(state.remove(key.as_slice())?),
                    Change::RemoveRange { from, to } if from < to => {
                        state.retain_in(from.as_slice()..to.as_slice(), |_, _| false)?;
                    }
                    Change::RemoveRange { .. } => {}
                }
            }
            drop(state);
            if let Some(meta) = meta {
                put(&mut transaction.open_table(META)?, META_KEY, meta, &[])?;
            }
            Ok(transaction.commit()?)
        })
    }
}

fn put(table: &mut redb::Table<'_, &[u8], &[u8]>, key: &[u8], head: &[u8], content: &[u8]) -> Result<(), StorageError> {
    let crc = crc32c_append(crc32c_append(key_crc(key), head), content);
    let mut value = table.insert_reserve(key, CRC_BYTES + head.len() + content.len())?;
    let value = value.as_mut();
    value[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
    value[CRC_BYTES..][..head.len()].copy_from_slice(head);
    value[CRC_BYTES + head.len()..].copy_from_slice(content);
    Ok(())
}

/// The checksum covers the key and its length, so that a value under a wrong key does not verify.
fn key_crc(key: &[u8]) -> u32 {
    crc32c_append(crc32c(&(key.len() as u64).to_le_bytes()), key)
}

fn check<'a>(key: &[u8], stored: &'a [u8]) -> Result<&'a [u8], StorageError> {
    match stored.split_first_chunk::<CRC_BYTES>() {
        Some((crc, value)) if u32::from_le_bytes(*crc) == crc32c_append(key_crc(key), value) => Ok(value),
        _ => Err(StorageError::damaged(key, "the value does not match its checksum")),
    }
}

type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// A consistent view, untouched by what is written meanwhile.
#[derive(Debug)]
pub struct View {
    state: Table,
    meta: Table,
    _transaction: ReadTransaction,
}

impl View {
    /// Of the latest state.
    pub fn new(open: &RedbFile) -> Result<Self, StorageError> {
        contain(|| {
            let transaction = open.database()?.begin_read()?;
            let (state, meta) = (transaction.open_table(STATE)?, transaction.open_table(META)?);
            Ok(Self { state, meta, _transaction: transaction })
        })
    }

    fn get_in(&self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        contain(|| match table.get(key)? {
            None => Ok(None),
            Some(stored) => Ok(Some(Bytes::copy_from_slice(check(key, stored.value())?))),
        })
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.get_in(&self.state, key)
    }

    /// The meta value.
    pub fn meta(&self) -> Result<Option<Bytes>, StorageError> {
        self.get_in(&self.meta, META_KEY)
    }

    /// The keys behind `after` in order with their values, or the damage that is found there.
    pub fn records(&self, after: Option<&[u8]>) -> Result<Records, StorageError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = contain(|| Ok(self.state.range::<&[u8]>((from, Bound::Unbounded))?))?;
        Ok(Records { range: Some(range), last: None })
    }
}

/// Keys and values in order. After an error of one value it goes on; after one of redb itself it ends.
pub struct Records {
    range: Option<redb::Range<'static, &'static [u8], &'static [u8]>>,
    last: Option<Vec<u8>>,
}

impl Iterator for Records {
    type Item = Result<(Vec<u8>, Bytes), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut range = self.range.take()?;
        let next = contain(|| {
            let Some(next) = range.next() else { return Ok(None) };
            let (key, stored) = next?;
            let key = key.value().to_vec();
            let value = check(&key, stored.value()).map(Bytes::copy_from_slice);
            Ok(Some((key, value, range)))
        });
        match next {
            Ok(None) => None,
            Ok(Some((key, value, range))) => {
                // A damaged page could lead around in a circle.
                if self.last.as_ref().is_some_and(|last| *last >= key) {
                    return Some(Err(StorageError::damaged(&key, "the keys are out of order")));
                }
                self.range = Some(range);
                self.last = Some(key.clone());
                Some(value.map(|value| (key, value)))
            }
            Err(error) => Some(Err(error)),
        }
    }
}
