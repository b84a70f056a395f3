//! Making segments ahead of need, noticing in time that there is no room for another one, and removing old ones.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;

use super::batch::SECTOR;
use super::newest::{self, Note};
use super::segment::{self, Segment};
use super::state::{Shared, is_full};
use super::{LogSettings, writer};
use crate::world::{Disk, World};

/// How long to wait before looking for space again.
const AGAIN: Duration = Duration::from_millis(500);

/// Makes the segment that `note` calls the newest, and writes the note. Its number is used up in any case.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`] if less than `reserve` bytes would be left; the disk's.
pub fn make(disk: &dyn Disk, settings: &LogSettings, note: Note, salt: u64, bytes: u64) -> io::Result<Segment> {
    let (number, reserve) = (note.newest, settings.reserve_bytes);
    let bytes = bytes.next_multiple_of(SECTOR as u64);
    let free = disk.free_bytes()?;
    if free < reserve.saturating_add(bytes) {
        let text = format!("{} has {free} bytes left; another {bytes} are to leave {reserve}", disk.describe());
        return Err(io::Error::new(io::ErrorKind::StorageFull, text));
    }
    let made = segment::make(disk, settings.shard, number, salt, bytes)?;
    if let Err(error) = newest::write(disk, note) {
        // It must not take up the little space there may be. If it cannot be removed: the next start does. But the note may have
        // taken its place before the error: then a log without the segment would be damaged.
        if newest::read(disk).is_ok_and(|now| now.is_none_or(|now| now.newest < number)) {
            let _ = segment::remove(disk, &[number]);
        }
        return Err(error);
    }
    Ok(made)
}

/// Starts a task that makes a spare segment, unless there is one or a task is at it.
pub fn ensure_spare<W: World>(shared: &Arc<Shared>) {
    {
        let mut state = shared.state.lock();
        if state.making || state.closed || state.poisoned.is_some() {
            return;
        }
        if state.spare.as_ref().is_some_and(|spare| spare.bytes >= state.wanted_bytes) {
            return;
        }
        state.making = true;
    }
    W::spawn(keep_trying::<W>(shared.clone()));
}

async fn keep_trying<W: World>(shared: Arc<Shared>) {
    loop {
        let (number, bytes, unfit, before) = {
            let mut state = shared.state.lock();
            if state.closed || state.poisoned.is_some() {
                return;
            }
            let number = state.next_segment;
            state.next_segment += 1;
            // The current one, until there is a spare. It has a durable batch: if nothing of it is left at a start, something
            // is missing.
            let current = state.ends.last_key_value().map_or(0, |(&number, _)| number);
            let newest = state.segments.last_key_value().map_or(0, |(&number, _)| number);
            debug_assert_eq!(current, newest, "nothing is rolled to while there is no spare");
            let before = Note { newest, current };
            (number, state.wanted_bytes.max(shared.settings.segment_bytes), state.spare.take(), before)
        };
        let salt = W::rng().next_u64();
        let with = shared.clone();
        let made = W::blocking(move || {
            // One that is too small goes first, since segments are used in the order of their numbers.
            if let Some(unfit) = unfit {
                newest::write(&*with.disk, before)?;
                segment::remove(&*with.disk, &[unfit.number])?;
            }
            make(&*with.disk, &with.settings, Note { newest: number, ..before }, salt, bytes)
        })
        .await;
        let (full, poison) = match &made {
            Ok(_) => (false, None),
            Err(error) if is_full(error) => {
                W::reached("the disk is full");
                (true, None)
            }
            Err(error) => (false, Some(writer::poison(&shared, error))),
        };
        {
            let mut state = shared.state.lock();
            state.full = full;
            if let Ok(segment) = made {
                state.spare = Some(segment);
            }
            state.making = full;
        }
        if let Some(waiting) = poison {
            waiting.tell();
        }
        shared.work.notify_one();
        if !full {
            return;
        }
        let _ = W::timeout(AGAIN, shared.space.notified()).await;
    }
}

/// Starts a task that removes what is superfluous, unless one is at it. The log goes on meanwhile: to remove a large file
/// takes some file systems tens of milliseconds.
pub fn ensure_cleared<W: World>(shared: &Arc<Shared>) {
    if !std::mem::replace(&mut shared.state.lock().clearing, true) {
        W::spawn(clear::<W>(shared.clone()));
    }
}

/// Only one task at a time, and oldest first: no crash may leave a hole.
async fn clear<W: World>(shared: Arc<Shared>) {
    loop {
        let superfluous = {
            let mut state = shared.state.lock();
            let over = state.closed || state.poisoned.is_some() || state.superfluous.is_empty();
            if over {
                state.clearing = false;
                return;
            }
            std::mem::take(&mut state.superfluous)
        };
        let with = shared.clone();
        if let Err(error) = W::blocking(move || segment::remove(&*with.disk, &superfluous)).await {
            writer::poison(&shared, &error).tell();
        }
        shared.space.notify_one();
    }
}
