//! Small files that are there whole, or not at all: written under a temporary name, synced, renamed.

use std::io;

use crc32c::{crc32c, crc32c_append};

use crate::world::{Disk, OpenMode};

/// More than this is not read: none of these files is near it.
const BYTES_MAX: u64 = 1 << 20;
const FIXED: usize = 16;

/// A kind of small file.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// How it begins.
    pub magic: [u8; 8],
    /// The newest format that this version knows, and the one it writes.
    pub format: u32,
}

/// Why a small file cannot be had.
#[derive(Debug)]
pub enum Problem {
    /// The disk failed.
    Io(io::Error),
    /// It is not as it was written.
    Damaged,
    /// It was written by a newer version.
    Newer(u32),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Where a file of that name is while it is written.
pub fn temporary(path: &str) -> String {
    format!("{path}.new")
}

/// Writes it, durably, in place of the one that may be there. `directory` is where it is.
///
/// # Errors
/// The disk's.
pub fn write(disk: &dyn Disk, directory: &str, path: &str, kind: Kind, content: &[u8]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(FIXED + content.len());
    bytes.extend_from_slice(&kind.magic);
    bytes.extend_from_slice(&kind.format.to_le_bytes());
    bytes.extend_from_slice(&checksum(kind.format, content).to_le_bytes());
    bytes.extend_from_slice(content);
    write_plain(disk, directory, path, &bytes)
}

/// The same, for a person's eyes: without magic number, format and checksum.
///
/// # Errors
/// The disk's.
pub fn write_plain(disk: &dyn Disk, directory: &str, path: &str, bytes: &[u8]) -> io::Result<()> {
    let new = temporary(path);
    let file = disk.open(&new, OpenMode::Create)?;
    file.set_len(0)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    disk.rename(&new, path)?;
    disk.sync_directory(directory)
}

fn checksum(format: u32, content: &[u8]) -> u32 {
    crc32c_append(crc32c(&format.to_le_bytes()), content)
}

/// Reads it. `None`: there is none.
///
/// # Errors
/// The disk's; damage; a newer format.
pub fn read(disk: &dyn Disk, path: &str, kind: Kind) -> Result<Option<Vec<u8>>, Problem> {
    let file = match disk.open(path, OpenMode::Existing) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let length = file.len()?;
    if !(FIXED as u64..=BYTES_MAX).contains(&length) {
        return Err(Problem::Damaged);
    }
    let mut bytes = vec![0; length as usize];
    file.read_at(0, &mut bytes)?;
    let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    if bytes[..8] != kind.magic || u32_at(12) != checksum(u32_at(8), &bytes[FIXED..]) {
        return Err(Problem::Damaged);
    }
    match u32_at(8) {
        format if format == kind.format => Ok(Some(bytes.split_off(FIXED))),
        format if format > kind.format => Err(Problem::Newer(format)),
        _ => Err(Problem::Damaged),
    }
}
