//! The backup's file.
//!
//! ```text
//! "RSTBKUP\n" · format u32 · length of header u32 · crc u32 · header (postcard)
//! then blocks: kind u8 · length u32 · crc u32 · payload
//!   kind 1, records: a chunk of the state, as one server sends it to another (storage/checkpoint/snapshot.rs)
//!   kind 2, the end: blocks, records and bytes so far, and the XXH3-128 of everything before it (postcard)
//! ```
//!
//! Numbers are little-endian. A checksum is the CRC32C of everything in its part but itself and, of the first part, the
//! magic number. Records come in ascending order of their keys, each chunk names the key that it follows, and behind the
//! end there is nothing: so a byte that is changed, missing or too many is always told.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc32c::{crc32c, crc32c_append};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::BadBackup;
use crate::storage::{Chunk, ChunkRecords};
use crate::wire::{ClusterId, Name, Time};

/// How a backup begins.
pub const MAGIC: [u8; 8] = *b"RSTBKUP\n";
/// The newest format that this version knows, and the one it writes.
pub const FORMAT: u32 = 1;
/// Magic number, format, length and checksum.
const FRONT_BYTES: usize = 20;
/// Kind, length and checksum.
const HEAD_BYTES: usize = 9;
/// No header is larger, in bytes.
const HEADER_BYTES_MAX: usize = 4 << 10;
/// No block is larger, in bytes: a chunk has one record at least, and the largest is a stream's with a full window.
const BLOCK_BYTES_MAX: usize = 64 << 20;
const RECORDS: u8 = 1;
const END: u8 = 2;

/// What a backup says of itself first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The cluster whose state it is.
    pub cluster: ClusterId,
    /// The server that made it.
    pub server: Name,
    /// Everything up to this log index is in it, and nothing later.
    pub applied: u64,
    /// The cluster's clock as of then.
    pub time: Time,
    /// When it was made, by the server's clock, in milliseconds since the Unix epoch: for people.
    pub made_unix_ms: u64,
    /// The version of the records.
    pub records_version: u32,
    /// The version of the software, for people.
    pub software: String,
}

/// What a whole backup has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// What it said first.
    pub header: Header,
    /// Its records.
    pub records: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// XXH3-128 of everything before its end: what tells it from any other backup.
    pub digest: u128,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Trailer {
    blocks: u64,
    records: u64,
    bytes: u64,
    digest: u128,
}

/// Counts and digests what a backup consists of so far.
#[derive(Clone)]
struct Count {
    digest: Box<Xxh3>,
    blocks: u64,
    records: u64,
    bytes: u64,
}

impl Count {
    fn new() -> Self {
        Self { digest: Box::new(Xxh3::new()), blocks: 0, records: 0, bytes: 0 }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    fn trailer(&self) -> Trailer {
        Trailer { blocks: self.blocks, records: self.records, bytes: self.bytes, digest: self.digest.digest128() }
    }
}

/// Writes a backup, part by part.
pub struct Encoder(Count);

impl Encoder {
    /// The first part.
    pub fn begin(header: &Header) -> (Self, Bytes) {
        let header = encode(header);
        let mut out = BytesMut::with_capacity(FRONT_BYTES + header.len());
        out.put_slice(&MAGIC);
        out.put_u32_le(FORMAT);
        out.put_u32_le(header.len() as u32);
        let crc = crc32c_append(crc32c(&out[MAGIC.len()..]), &header);
        out.put_u32_le(crc);
        out.put_slice(&header);
        let mut count = Count::new();
        count.add(&out);
        (Self(count), out.freeze())
    }

    /// The next records.
    pub fn chunk(&mut self, chunk: &Chunk) -> Bytes {
        let out = block(RECORDS, &chunk.bytes);
        self.0.blocks += 1;
        self.0.records += u64::from(chunk.records);
        self.0.add(&out);
        out
    }

    /// The last part.
    pub fn end(self) -> Bytes {
        block(END, &encode(&self.0.trailer()))
    }
}

fn block(kind: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + payload.len());
    out.put_u8(kind);
    out.put_u32_le(payload.len() as u32);
    let crc = crc32c_append(crc32c(&out), payload);
    out.put_u32_le(crc);
    out.put_slice(payload);
    out.freeze()
}

fn encode<T: Serialize>(value: &T) -> Bytes {
    let mut bytes = BytesMut::new();
    crate::wire::frame::put_postcard(&mut bytes, value);
    bytes.freeze()
}

/// A part of a backup that was found right.
#[derive(Debug)]
pub enum Part {
    /// What it says of itself.
    Header(Header),
    /// Some records, keys ascending over all parts.
    Records(Vec<(Bytes, Bytes)>),
    /// Everything was there.
    End(Summary),
}

/// Reads a backup from bytes as they come.
pub struct Parser {
    buffer: BytesMut,
    count: Count,
    header: Option<Header>,
    last_key: Bytes,
    /// The last chunk said that it is the last one.
    complete: bool,
    ended: bool,
}

impl std::fmt::Debug for Parser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parser").field("at", &self.count.bytes).field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            buffer: BytesMut::new(),
            count: Count::new(),
            header: None,
            last_key: Bytes::new(),
            complete: false,
            ended: false,
        }
    }
}

impl Parser {
    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next part that is whole; `None` if it takes more bytes.
    ///
    /// # Errors
    /// [`BadBackup`]: nothing of the rest can be read.
    pub fn next_part(&mut self) -> Result<Option<Part>, BadBackup> {
        if self.ended {
            return if self.buffer.is_empty() { Ok(None) } else { Err(self.damaged("something follows its end")) };
        }
        if self.header.is_none() { self.front() } else { self.block() }
    }

    /// Nothing more comes.
    ///
    /// # Errors
    /// [`BadBackup::CutOff`] if the end was not there.
    pub fn finish(&self) -> Result<(), BadBackup> {
        if self.ended {
            return Ok(());
        }
        let beginning = self.buffer.len().min(MAGIC.len());
        if self.header.is_none() && (self.buffer.is_empty() || self.buffer[..beginning] != MAGIC[..beginning]) {
            return Err(BadBackup::NotOne);
        }
        Err(BadBackup::CutOff { bytes: self.count.bytes + self.buffer.len() as u64 })
    }

    fn damaged(&self, why: &str) -> BadBackup {
        BadBackup::Damaged { at: self.count.bytes, why: why.to_owned() }
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|i| self.buffer[at + i]))
    }

    fn front(&mut self) -> Result<Option<Part>, BadBackup> {
        let beginning = self.buffer.len().min(MAGIC.len());
        if self.buffer[..beginning] != MAGIC[..beginning] {
            return Err(BadBackup::NotOne);
        }
        if self.buffer.len() < FRONT_BYTES {
            return Ok(None);
        }
        let (format, length, crc) = (self.u32_at(8), self.u32_at(12) as usize, self.u32_at(16));
        if length > HEADER_BYTES_MAX {
            return Err(self.damaged("its header is too long"));
        }
        if self.buffer.len() < FRONT_BYTES + length {
            return Ok(None);
        }
        let header = &self.buffer[FRONT_BYTES..FRONT_BYTES + length];
        if crc != crc32c_append(crc32c(&self.buffer[MAGIC.len()..16]), header) {
            return Err(self.damaged("its header does not match its checksum"));
        }
        if format != FORMAT {
            return Err(BadBackup::Newer { found: format, known: FORMAT });
        }
        let Ok((header, [])) = postcard::take_from_bytes::<Header>(header) else {
            return Err(self.damaged("its header does not decode"));
        };
        self.count.add(&self.buffer[..FRONT_BYTES + length]);
        self.buffer.advance(FRONT_BYTES + length);
        self.header = Some(header.clone());
        Ok(Some(Part::Header(header)))
    }

    fn block(&mut self) -> Result<Option<Part>, BadBackup> {
        if self.buffer.len() < HEAD_BYTES {
            return Ok(None);
        }
        let (kind, length, crc) = (self.buffer[0], self.u32_at(1) as usize, self.u32_at(5));
        if length > BLOCK_BYTES_MAX || !matches!(kind, RECORDS | END) {
            return Err(self.damaged("a block begins otherwise than blocks do"));
        }
        if self.buffer.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        let payload = &self.buffer[HEAD_BYTES..HEAD_BYTES + length];
        if crc != crc32c_append(crc32c(&self.buffer[..5]), payload) {
            return Err(self.damaged("a block does not match its checksum"));
        }
        match kind {
            RECORDS => self.records(HEAD_BYTES + length).map(Some),
            _ => self.end(HEAD_BYTES + length).map(Some),
        }
    }

    fn records(&mut self, bytes: usize) -> Result<Part, BadBackup> {
        if self.complete {
            return Err(self.damaged("records follow the last ones"));
        }
        let block = self.buffer.split_to(bytes).freeze();
        let chunk = ChunkRecords::read(&block.slice(HEAD_BYTES..)).map_err(|e| self.damaged(&e.to_string()))?;
        if chunk.after != self.last_key {
            return Err(self.damaged("records are missing, or are there twice"));
        }
        let mut last = self.last_key.clone();
        for (key, _) in &chunk.records {
            if *key <= last {
                return Err(self.damaged("the keys of its records do not ascend"));
            }
            last = key.clone();
        }
        // The block need not be kept for a key.
        self.last_key = Bytes::copy_from_slice(&last);
        self.complete = chunk.end;
        self.count.add(&block);
        self.count.blocks += 1;
        self.count.records += chunk.records.len() as u64;
        Ok(Part::Records(chunk.records))
    }

    fn end(&mut self, bytes: usize) -> Result<Part, BadBackup> {
        let Ok((trailer, [])) = postcard::take_from_bytes::<Trailer>(&self.buffer[HEAD_BYTES..bytes]) else {
            return Err(self.damaged("its end does not decode"));
        };
        if !self.complete || trailer != self.count.trailer() {
            return Err(self.damaged("what is there is not what its end counts up"));
        }
        let Some(header) = self.header.clone() else { return Err(self.damaged("it has no header")) };
        self.buffer.advance(bytes);
        let Trailer { records, digest, .. } = trailer;
        let file_bytes = self.count.bytes + bytes as u64;
        self.count.bytes = file_bytes;
        self.ended = true;
        Ok(Part::End(Summary { header, records, file_bytes, digest }))
    }
}
