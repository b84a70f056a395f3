//! Making segments ahead of need, and noticing in time that there is no room for another one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;

use super::batch::SECTOR;
use super::segment::{self, Segment};
use super::state::{Shared, is_full};
use super::{newest, writer};
use crate::world::{Disk, World};

/// How long to wait before looking for space again.
const AGAIN: Duration = Duration::from_millis(500);

/// Makes one segment and notes that it is the newest one. `number` is used up in any case.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`] if less than `reserve` bytes would be left; the disk's.
pub fn make(disk: &dyn Disk, shard: u16, number: u64, salt: u64, bytes: u64, reserve: u64) -> io::Result<Segment> {
    let bytes = bytes.next_multiple_of(SECTOR as u64);
    let free = disk.free_bytes()?;
    if free < reserve.saturating_add(bytes) {
        let text = format!("{} has {free} bytes left; another {bytes} are to leave {reserve}", disk.describe());
        return Err(io::Error::new(io::ErrorKind::StorageFull, text));
    }
    let made = segment::make(disk, shard, number, salt, bytes)?;
    if let Err(error) = newest::write(disk, number) {
        // It must not take up the little space there may be. If it cannot be removed: the next start does.
        let _ = segment::remove(disk, &[number]);
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
        let (number, bytes, unfit, used) = {
            let mut state = shared.state.lock();
            if state.closed || state.poisoned.is_some() {
                return;
            }
            let number = state.next_segment;
            state.next_segment += 1;
            let used = state.segments.last_key_value().map_or(0, |(&number, _)| number);
            (number, state.wanted_bytes.max(shared.settings.segment_bytes), state.spare.take(), used)
        };
        let salt = W::rng().next_u64();
        let with = shared.clone();
        let made = W::blocking(move || {
            // One that is too small goes first, since segments are used in the order of their numbers.
            if let Some(unfit) = unfit {
                newest::write(&*with.disk, used)?;
                segment::remove(&*with.disk, &[unfit.number])?;
            }
            make(&*with.disk, with.settings.shard, number, salt, bytes, with.settings.reserve_bytes)
        })
        .await;
        let (full, poison) = match &made {
            Ok(_) => (false, None),
            Err(error) if is_full(error) => (true, None),
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
