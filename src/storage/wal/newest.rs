//! The note that names the newest segment.
//!
//! Each segment says which one is before it, so a missing one is noticed as long as a later one is there. If all later
//! ones are gone, too, what is left looks like a shorter log: a server that forgot what it acknowledged. So a segment's
//! number is written down here, durably, before anything is written to the segment: a log whose newest segment is
//! older than its note says is damaged.
//!
//! The note is made before the first segment and never removed: segments without it are damage as well.

use std::io;

use super::{LogError, segment};
use crate::storage::small_file::{self, Kind, Problem};
use crate::world::Disk;

const NAME: &str = "newest";
const KIND: Kind = Kind { magic: *b"RSTNEWS\n", format: 1 };

fn path() -> String {
    format!("{}/{NAME}", segment::DIRECTORY)
}

/// Writes down, durably, that segment `number` exists and that no later one has been written to; 0 if there is none.
///
/// # Errors
/// The disk's.
pub fn write(disk: &dyn Disk, number: u64) -> io::Result<()> {
    small_file::write(disk, segment::DIRECTORY, &path(), KIND, &number.to_le_bytes())
}

/// What the note says. `None`: there is none.
///
/// # Errors
/// The disk's; damage; a newer format.
pub fn read(disk: &dyn Disk) -> Result<Option<u64>, LogError> {
    let damaged = || LogError::Damaged { segment: 0, offset: 0, why: format!("{} is not as it was written", path()) };
    match small_file::read(disk, &path(), KIND) {
        Ok(None) => Ok(None),
        Ok(Some(bytes)) => bytes.try_into().map(|bytes| Some(u64::from_le_bytes(bytes))).map_err(|_| damaged()),
        Err(Problem::Damaged) => Err(damaged()),
        Err(Problem::Newer(found)) => Err(LogError::NewerFormat { path: path(), found, known: KIND.format }),
        Err(Problem::Io(error)) => Err(error.into()),
    }
}

/// Judges the segments that are there by what the note says. `used` is the last one with anything in it, 0 for none.
///
/// # Errors
/// Damage.
pub fn check(note: Option<u64>, there: &[u64], used: u64) -> Result<(), LogError> {
    let damaged = |segment: u64, why: &str| Err(LogError::Damaged { segment, offset: 0, why: why.to_owned() });
    match note {
        None if there.is_empty() => Ok(()),
        None => damaged(0, "there are segments, and the note of the newest one is missing"),
        Some(newest) if newest > 0 && !there.contains(&newest) => {
            damaged(newest, "it is missing, and with it every later one")
        }
        Some(newest) if used > newest => damaged(used, "it was written to, and the note names an older one"),
        Some(_) => Ok(()),
    }
}
