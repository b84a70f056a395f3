//! One file of the log: its name, its header, how it is made and removed.
//!
//! A segment is written full of zeros and synced before its first batch, so that appending neither changes the file's
//! length nor allocates anything, and a sector that was never written is known by its zeros. It is made under a
//! temporary name: a file that bears a segment's name is complete, whatever died while it was made. Numbers are never
//! used again.

use std::io;
use std::sync::Arc;

use crc32c::crc32c;

use super::LogError;
use super::batch::SECTOR;
use crate::wire::ShardId;
use crate::world::{Disk, File, OpenMode};

/// The log's directory.
pub const DIRECTORY: &str = "log";
/// Version of the log's format.
pub const FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"RSTLOG\r\n";
const HEADER_BYTES: usize = 40;
const ZEROS: usize = 1 << 20;

/// Where batches begin in a segment.
pub const FIRST_BATCH: u64 = SECTOR as u64;

/// A segment's file, open.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Its number, which is also its place in the order.
    pub number: u64,
    /// Seeds its CRCs.
    pub salt: u64,
    /// Its length.
    pub bytes: u64,
    /// The file.
    pub file: Arc<dyn File>,
}

/// The path of segment `number`.
pub fn path(number: u64) -> String {
    format!("{DIRECTORY}/{number:020}.seg")
}

fn temporary(number: u64) -> String {
    format!("{DIRECTORY}/{number:020}.new")
}

/// What a name in the log's directory means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// A segment.
    Segment(u64),
    /// What is left of one that was being made.
    Unfinished(u64),
    /// Nothing of ours.
    Foreign,
}

/// Reads a name in the log's directory.
pub fn parse(name: &str) -> Named {
    match name.split_once('.') {
        Some((digits, suffix)) if digits.len() == 20 => match (digits.parse(), suffix) {
            (Ok(number), "seg") => Named::Segment(number),
            (Ok(number), "new") => Named::Unfinished(number),
            _ => Named::Foreign,
        },
        _ => Named::Foreign,
    }
}

/// Makes segment `number`, of `bytes` bytes, ready to be written to. When it fails, what it left behind is removed as
/// far as that is possible, so that it does not take up the little space there is.
///
/// # Errors
/// The disk's.
pub fn make(disk: &dyn Disk, shard: ShardId, number: u64, salt: u64, bytes: u64) -> io::Result<Segment> {
    let from = temporary(number);
    let made = fill(disk, &from, shard, number, salt, bytes);
    if made.is_err() {
        let _ = disk.remove(&from);
    }
    let file = made?;
    disk.rename(&from, &path(number))?;
    disk.sync_directory(DIRECTORY)?;
    Ok(Segment { number, salt, bytes, file })
}

fn fill(disk: &dyn Disk, path: &str, shard: ShardId, number: u64, salt: u64, bytes: u64) -> io::Result<Arc<dyn File>> {
    let file = disk.open(path, OpenMode::CreateNew)?;
    let zeros = vec![0; ZEROS.min(bytes as usize)];
    let mut at = 0;
    while at < bytes {
        let length = (bytes - at).min(zeros.len() as u64);
        file.write_at(at, &zeros[..length as usize])?;
        at += length;
    }
    file.write_at(0, &header(shard, number, salt, bytes))?;
    file.sync()?;
    Ok(file)
}

fn header(shard: ShardId, number: u64, salt: u64, bytes: u64) -> [u8; HEADER_BYTES + 4] {
    let mut header = [0; HEADER_BYTES + 4];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    header[12..14].copy_from_slice(&shard.to_le_bytes());
    header[16..24].copy_from_slice(&number.to_le_bytes());
    header[24..32].copy_from_slice(&salt.to_le_bytes());
    header[32..40].copy_from_slice(&bytes.to_le_bytes());
    let crc = crc32c(&header[..HEADER_BYTES]);
    header[HEADER_BYTES..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Opens segment `number` and checks its header and length.
///
/// # Errors
/// The disk's; damage; a format that this version does not know.
pub fn open(disk: &dyn Disk, shard: ShardId, number: u64) -> Result<Segment, LogError> {
    let file = disk.open(&path(number), OpenMode::Existing)?;
    // What the disk has counts, not what the system remembers of a write whose sync failed.
    file.forget(0, file.len()?);
    let (salt, bytes) = read_header(&*file, shard, number)?;
    Ok(Segment { number, salt, bytes, file })
}

/// Reads the header of a segment that is open once more.
///
/// # Errors
/// The disk's; damage.
pub fn check_header(segment: &Segment, shard: ShardId) -> Result<(), LogError> {
    match read_header(&*segment.file, shard, segment.number)? {
        (salt, bytes) if salt == segment.salt && bytes == segment.bytes => Ok(()),
        _ => Err(LogError::Damaged { segment: segment.number, offset: 0, why: "it is another one".to_owned() }),
    }
}

/// Salt and length, as the header has them.
fn read_header(file: &dyn File, shard: ShardId, number: u64) -> Result<(u64, u64), LogError> {
    let damaged = |why: String| LogError::Damaged { segment: number, offset: 0, why };
    let length = file.len()?;
    if length < FIRST_BATCH {
        return Err(damaged(format!("the file has only {length} bytes")));
    }
    let mut sector = [0; SECTOR];
    file.read_at(0, &mut sector)?;
    let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| sector[at + i]));
    let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| sector[at + i]));
    // Every version keeps the magic number, the version, and a CRC over both that only that version knows how to
    // check: a version that differs in one bit is damage unless the rest is not ours either.
    if sector[..8] != MAGIC {
        return Err(damaged("it does not begin as a segment does".to_owned()));
    }
    let sound = u32_at(HEADER_BYTES) == crc32c(&sector[..HEADER_BYTES]);
    if sound && u32_at(8) > FORMAT {
        return Err(LogError::NewerFormat { path: path(number), found: u32_at(8), known: FORMAT });
    }
    if !sound {
        return Err(damaged("its header does not match its checksum".to_owned()));
    }
    let (said_shard, said_number, salt, bytes) = (u32_at(12), u64_at(16), u64_at(24), u64_at(32));
    if said_number != number || said_shard != u32::from(shard) {
        let is = format!("it says that it is segment {said_number} of shard {said_shard}");
        return Err(damaged(is));
    }
    if length != bytes {
        return Err(LogError::Damaged {
            segment: number,
            offset: length.min(bytes),
            why: format!("it has {length} bytes and was made with {bytes}"),
        });
    }
    Ok((salt, bytes))
}

/// Removes segments, oldest first. Each is gone for good before the next one is touched, so that a crash leaves no
/// hole.
///
/// # Errors
/// The disk's.
pub fn remove(disk: &dyn Disk, numbers: &[u64]) -> io::Result<()> {
    for &number in numbers {
        disk.remove(&path(number))?;
        disk.sync_directory(DIRECTORY)?;
    }
    Ok(())
}

/// Removes what is left of segments that were being made.
///
/// # Errors
/// The disk's.
pub fn remove_unfinished(disk: &dyn Disk, numbers: &[u64]) -> io::Result<()> {
    for &number in numbers {
        disk.remove(&temporary(number))?;
    }
    disk.sync_directory(DIRECTORY)
}
