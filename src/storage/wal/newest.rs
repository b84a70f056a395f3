//! The note that names the newest segment.
//!
//! Each segment that was written to says which one is before it, so a missing one is noticed as long as such a later one
//! is there. If all later ones are gone, too, what is left looks like a shorter log: a server that forgot what it
//! acknowledged. So a segment's number is written down here, durably, before anything is written to it, and with it the
//! number of the last one that has anything in it by then: a log in which nothing is left of that one, or of a later one, is
//! damaged, as is one without the newest.
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

/// What the note says. Numbers are 0 where there is no segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Note {
    /// The newest segment. No later one has been written to.
    pub newest: u64,
    /// The last one with a durable batch when the newest was made. It is kept until a later one has one.
    pub current: u64,
}

/// Writes the note, durably. Both segments exist.
///
/// # Errors
/// The disk's.
pub fn write(disk: &dyn Disk, note: Note) -> io::Result<()> {
    let numbers = [note.newest.to_le_bytes(), note.current.to_le_bytes()].concat();
    small_file::write(disk, segment::DIRECTORY, &path(), KIND, &numbers)
}

/// What the note says. `None`: there is none.
///
/// # Errors
/// The disk's; damage; a newer format.
pub fn read(disk: &dyn Disk) -> Result<Option<Note>, LogError> {
    let damaged = || LogError::Damaged { segment: 0, offset: 0, why: format!("{} is not as it was written", path()) };
    match small_file::read(disk, &path(), KIND) {
        Ok(None) => Ok(None),
        Ok(Some(bytes)) => match bytes.as_chunks::<8>() {
            ([newest, current], []) => {
                Ok(Some(Note { newest: u64::from_le_bytes(*newest), current: u64::from_le_bytes(*current) }))
            }
            _ => Err(damaged()),
        },
        Err(Problem::Damaged) => Err(damaged()),
        Err(Problem::Newer(found)) => Err(LogError::NewerFormat { path: path(), found, known: KIND.format }),
        Err(Problem::Io(error)) => Err(error.into()),
    }
}

/// Judges the segments that are there by what the note says. `used` is the last one with anything in it, 0 for none.
///
/// # Errors
/// Damage.
pub fn check(note: Option<Note>, there: &[u64], used: u64) -> Result<(), LogError> {
    let damaged = |segment: u64, why: &str| Err(LogError::Damaged { segment, offset: 0, why: why.to_owned() });
    match note {
        None if there.is_empty() => Ok(()),
        None => damaged(0, "there are segments, and the note of the newest one is missing"),
        Some(Note { newest, .. }) if newest > 0 && !there.contains(&newest) => {
            damaged(newest, "it is missing, and with it every later one")
        }
        Some(Note { newest, .. }) if used > newest => {
            damaged(used, "it was written to, and the note names an older one")
        }
        Some(Note { current, .. }) if used < current => {
            damaged(current, "nothing is left of it, and nothing was written to a later one")
        }
        Some(_) => Ok(()),
    }
}
