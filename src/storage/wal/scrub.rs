//! Reading the log again while it is in use, to find what has rotted before it is needed.

use std::io;

use super::batch::SECTOR;
use super::newest::{self, Note};
use super::recovery::{Next, damage, read_batch};
use super::segment::{self, FIRST_BATCH, Named, Segment};
use super::{Log, LogError};
use crate::wire::ShardId;
use crate::world::{Disk, World};

/// How far a scrub of the log has come. The default is its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPlace {
    segment: u64,
    offset: u64,
}

impl<W: World> Log<W> {
    /// Reads about `max_bytes` of what is written from `place` on, from the medium, and verifies every sector. Gives the
    /// place where to go on, `None` at the end, and how many bytes were read. Nothing is done about what is found:
    /// what is in memory may be good.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for damage; the disk's.
    pub async fn scrub(&self, place: LogPlace, max_bytes: u64) -> io::Result<(Option<LogPlace>, u64)> {
        if place == LogPlace::default() {
            self.scrub_names().await?;
        }
        let found = {
            let state = self.handle.shared.state.lock();
            // A segment that nothing was written to yet has no end.
            let mut rest = state.segments.range(place.segment..);
            rest.find_map(|(number, segment)| state.ends.get(number).map(|end| (segment.clone(), *end)))
        };
        let Some((segment, end)) = found else { return Ok((None, 0)) };
        // The one that it was at may be gone by now.
        let from = if segment.number == place.segment { place.offset } else { 0 };
        let shard = self.handle.shared.settings.shard;
        let number = segment.number;
        let reached = W::blocking(move || verify(&segment, shard, from, end, max_bytes)).await.map_err(shortened)?;
        let next = match reached {
            offset if offset < end => LogPlace { segment: number, offset },
            _ => LogPlace { segment: number + 1, offset: 0 },
        };
        Ok((Some(next), reached - from))
    }

    /// Whether the files still have their names.
    async fn scrub_names(&self) -> io::Result<()> {
        let used = || self.handle.shared.state.lock().segments.keys().copied().collect::<Vec<u64>>();
        loop {
            let before = used();
            let disk = self.handle.shared.disk.clone();
            let (note, there) = W::blocking(move || look(&*disk)).await?;
            if used() != before {
                continue;
            }
            if let Some(number) = before.iter().find(|number| !there.contains(number)) {
                let why = "its file is gone".to_owned();
                return Err(LogError::Damaged { segment: *number, offset: 0, why }.into());
            }
            return Ok(newest::check(note, &there, before.last().copied().unwrap_or(0))?);
        }
    }
}

/// The note of the newest segment, and the segments that have names. It is read twice, for a spare segment may just be
/// replaced.
fn look(disk: &dyn Disk) -> Result<(Option<Note>, Vec<u64>), LogError> {
    loop {
        let note = newest::read(disk)?;
        let names = disk.list(segment::DIRECTORY)?;
        if newest::read(disk)? == note {
            let numbers = names.iter().filter_map(|name| match segment::parse(name) {
                Named::Segment(number) => Some(number),
                Named::Unfinished(_) | Named::Foreign => None,
            });
            return Ok((note, numbers.collect()));
        }
    }
}

/// Verifies what is in `segment` from `from` on, and says how far it came: at most to `end`.
fn verify(segment: &Segment, shard: ShardId, from: u64, end: u64, max_bytes: u64) -> Result<u64, LogError> {
    let mut offset = from;
    segment.file.forget(from, max_bytes.min(end.saturating_sub(from)));
    if from < FIRST_BATCH {
        segment::check_header(segment, shard)?;
        offset = FIRST_BATCH;
    }
    while offset < end && offset - from < max_bytes.max(SECTOR as u64 + 1) {
        match read_batch(segment, offset)? {
            Next::Batch(header, _) => offset += header.layout.bytes() as u64,
            Next::Unwritten { .. } | Next::End => {
                return Err(damage(segment, offset, "a batch that was written is not there any more"));
            }
        }
    }
    if offset > end {
        return Err(damage(segment, end, "its batches do not end where they did"));
    }
    Ok(offset)
}

/// The error as one of I/O. The files had their lengths when they were opened: one that is shorter now is damaged.
pub(super) fn shortened(error: LogError) -> io::Error {
    match error {
        LogError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            io::Error::new(io::ErrorKind::InvalidData, format!("a file of the log has become shorter: {error}"))
        }
        other => other.into(),
    }
}
