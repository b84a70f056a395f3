//! A checkpoint on its way to another server, in chunks.
//!
//! ```text
//! "RSTK" · version u16 · flags u16 · crc u32 · records u32 · length of after u32 · after
//! then for each record: length of key u32 · length of value u32 · key · value
//! ```
//!
//! The CRC covers everything behind it. A chunk names the key that it follows, so that one that is lost, repeated or
//! of another snapshot is noticed; the last one has a flag.

use std::sync::Arc;

use bytes::Bytes;
use crc32c::crc32c;

use super::database::{Records, RedbFile, View};
use super::error::StorageError;
use super::{Inner, temporary};
use crate::post_office::Change;

const MAGIC: [u8; 4] = *b"RSTK";
const VERSION: u16 = 1;
const END: u16 = 1;
const BEHIND_CRC: usize = 12;

/// A part of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// What is sent.
    pub bytes: Bytes,
    /// The last key in it, after which the next chunk begins. `None`: it is empty, as only a last one can be.
    pub last_key: Option<Vec<u8>>,
    /// How many records it has.
    pub records: u32,
    /// It is the last one.
    pub end: bool,
}

/// The checkpoint as it was at one moment, consistent while writing goes on. A cheap clone. All calls block.
#[derive(Debug, Clone)]
pub struct SnapshotReader {
    view: Arc<View>,
    // The file stays open as long as somebody reads it, even if another checkpoint has taken its place.
    _open: Arc<RedbFile>,
}

impl SnapshotReader {
    pub(super) fn new(open: Arc<RedbFile>) -> Result<Self, StorageError> {
        Ok(Self { view: Arc::new(View::new(&open)?), _open: open })
    }

    /// The meta value of that moment.
    ///
    /// # Errors
    /// Damage; the disk's.
    pub fn meta(&self) -> Result<Option<Bytes>, StorageError> {
        self.view.meta()
    }

    /// The value of `key` at that moment.
    ///
    /// # Errors
    /// Damage; the disk's.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.view.get(key)
    }

    /// All keys behind `after` in order, with their values.
    ///
    /// # Errors
    /// Damage; the disk's; also of each record.
    pub fn records(&self, after: Option<&[u8]>) -> Result<Records, StorageError> {
        self.view.records(after)
    }

    /// The chunk that follows the key `after`, of about `max_bytes`: at least one record, if there is one.
    ///
    /// # Errors
    /// Damage; the disk's.
    pub fn chunk(&self, after: Option<&[u8]>, max_bytes: usize) -> Result<Chunk, StorageError> {
        let mut body = Vec::new();
        let mut last_key = None;
        let mut records = 0u32;
        let mut end = true;
        for record in self.view.records(after)? {
            let (key, value) = record?;
            if records > 0 && body.len() + 8 + key.len() + value.len() > max_bytes {
                end = false;
                break;
            }
            body.extend_from_slice(&(key.len() as u32).to_le_bytes());
            body.extend_from_slice(&(value.len() as u32).to_le_bytes());
            body.extend_from_slice(&key);
            body.extend_from_slice(&value);
            records += 1;
            last_key = Some(key);
        }
        let after = after.unwrap_or_default();
        let mut bytes = Vec::with_capacity(BEHIND_CRC + 8 + after.len() + body.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(if end { END } else { 0 }).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&records.to_le_bytes());
        bytes.extend_from_slice(&(after.len() as u32).to_le_bytes());
        bytes.extend_from_slice(after);
        bytes.extend_from_slice(&body);
        let crc = checksum(&bytes);
        bytes[BEHIND_CRC - 4..BEHIND_CRC].copy_from_slice(&crc.to_le_bytes());
        Ok(Chunk { bytes: bytes.into(), last_key, records, end })
    }
}

/// Over everything but the checksum itself; the flags and the version are told by the part before it.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c(&bytes[..BEHIND_CRC - 4]), &bytes[BEHIND_CRC..])
}

/// What a chunk says.
#[derive(Debug)]
pub struct ChunkRecords {
    /// The key it follows.
    pub after: Bytes,
    /// Keys and values.
    pub records: Vec<(Bytes, Bytes)>,
    /// It is the last one.
    pub end: bool,
}

impl ChunkRecords {
    /// Reads a chunk.
    ///
    /// # Errors
    /// [`StorageError::BadChunk`].
    pub fn read(chunk: &Bytes) -> Result<Self, StorageError> {
        parse(chunk)
    }
}

/// Reads a chunk.
pub(super) fn parse(chunk: &Bytes) -> Result<ChunkRecords, StorageError> {
    let malformed = || StorageError::BadChunk("a chunk is malformed");
    if chunk.len() < BEHIND_CRC + 8 || chunk[..4] != MAGIC {
        return Err(malformed());
    }
    let u16_at = |at: usize| u16::from_le_bytes([chunk[at], chunk[at + 1]]);
    if u32::from_le_bytes(std::array::from_fn(|i| chunk[BEHIND_CRC - 4 + i])) != checksum(chunk) {
        return Err(StorageError::BadChunk("a chunk does not match its checksum"));
    }
    if u16_at(4) != VERSION {
        return Err(StorageError::BadChunk("the sender writes chunks of another version"));
    }
    let mut rest = chunk.slice(BEHIND_CRC..);
    let number = |rest: &mut Bytes| {
        let taken = (rest.len() >= 4).then(|| rest.split_to(4)).ok_or_else(malformed)?;
        Ok::<_, StorageError>(u32::from_le_bytes(std::array::from_fn(|i| taken[i])) as usize)
    };
    let slice =
        |rest: &mut Bytes, length: usize| (rest.len() >= length).then(|| rest.split_to(length)).ok_or_else(malformed);
    let count = number(&mut rest)?;
    let after = number(&mut rest)?;
    let after = slice(&mut rest, after)?;
    let mut records = Vec::new();
    while !rest.is_empty() {
        let (key, value) = (number(&mut rest)?, number(&mut rest)?);
        records.push((slice(&mut rest, key)?, slice(&mut rest, value)?));
    }
    if records.len() != count {
        return Err(malformed());
    }
    Ok(ChunkRecords { after, records, end: u16_at(6) & END != 0 })
}

/// Takes a snapshot in, beside the checkpoint, and replaces that in the end. All calls block. What is dropped
/// unfinished leaves a file that the next writer or the next start removes.
#[derive(Debug)]
pub struct SnapshotWriter {
    inner: Arc<Inner>,
    number: u64,
    open: RedbFile,
    last_key: Vec<u8>,
    end: bool,
}

impl SnapshotWriter {
    pub(super) fn new(inner: Arc<Inner>, number: u64) -> Result<Self, StorageError> {
        let path = temporary(number);
        RedbFile::create(&*inner.disk, &path, inner.cache_bytes)?;
        let open = RedbFile::open(&*inner.disk, &path, inner.cache_bytes)?;
        Ok(Self { inner, number, open, last_key: Vec::new(), end: false })
    }

    /// Takes in the next chunk.
    ///
    /// # Errors
    /// [`StorageError::BadChunk`]: it is damaged, or another one comes next; the disk's, also that it is full: then it is
    /// all begun again when there is room.
    pub fn chunk(&mut self, chunk: &Bytes) -> Result<(), StorageError> {
        let ChunkRecords { after, records, end } = parse(chunk)?;
        if self.end || after != self.last_key {
            return Err(StorageError::BadChunk("a chunk is missing, or came twice"));
        }
        let mut changes = Vec::with_capacity(records.len());
        for (key, value) in records {
            // No key is empty, so the first one is above what `last_key` begins with, too.
            if key <= self.last_key {
                return Err(StorageError::BadChunk("the keys are out of order"));
            }
            self.last_key = key.to_vec();
            changes.push(Change::Put { key: key.to_vec(), head: Vec::new(), content: value });
        }
        self.inner.check_room(&changes)?;
        // Nothing counts before the end, so nothing needs to be synced before it.
        self.open.apply(&changes, None, false)?;
        self.end = end;
        Ok(())
    }

    /// Takes in records that are made here, keys ascending.
    ///
    /// # Errors
    /// The disk's.
    pub fn put(&mut self, changes: &[Change]) -> Result<(), StorageError> {
        self.open.apply(changes, None, false)
    }

    /// [`SnapshotWriter::finish`] of one that was made here.
    ///
    /// # Errors
    /// As there.
    pub fn complete(mut self, meta: &[u8]) -> Result<(), StorageError> {
        self.end = true;
        self.finish(meta)
    }

    /// Whether the last chunk is in.
    pub fn is_complete(&self) -> bool {
        self.end
    }

    /// The last chunk is in: with `meta` as its meta value the snapshot is made durable. That is all that needs room on
    /// the disk, and the checkpoint is as it was.
    ///
    /// # Errors
    /// [`StorageError::BadChunk`]: the last chunk is not in; the disk's.
    pub fn seal(self, meta: &[u8]) -> Result<SealedSnapshot, StorageError> {
        if !self.end {
            return Err(StorageError::BadChunk("it is not complete"));
        }
        self.open.apply(&[], Some(meta), true)?;
        self.open.close()?;
        Ok(SealedSnapshot { inner: self.inner, number: self.number })
    }

    /// [`SnapshotWriter::seal`] and [`SealedSnapshot::install`].
    ///
    /// # Errors
    /// As there.
    pub fn finish(self, meta: &[u8]) -> Result<(), StorageError> {
        self.seal(meta)?.install()
    }
}

/// A snapshot that is whole and durable beside the checkpoint. If it is dropped, the next writer or the next start removes it.
#[derive(Debug)]
pub struct SealedSnapshot {
    inner: Arc<Inner>,
    number: u64,
}

impl SealedSnapshot {
    /// It becomes the checkpoint, durably and at once. Readers of the one before go on reading that. Blocks.
    ///
    /// # Errors
    /// [`StorageError::BadChunk`]: another one was begun since; the disk's, after which it is unknown which of the two
    /// the next start will find. Both are whole.
    pub fn install(self) -> Result<(), StorageError> {
        self.inner.replace(self.number)
    }
}
