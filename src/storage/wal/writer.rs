//! The one task that writes.
//!
//! It takes what is queued, makes one batch of it, writes and syncs it, tells who waits, and begins anew: while a
//! batch is on its way to disk, the next one gathers.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use rand::Rng as _;
use tokio::sync::Notify;

use super::batch::{Builder, Layout, SECTOR};
use super::index::{Bounds, Place};
use super::newest::Note;
use super::record::{self, Start};
use super::segment::{FIRST_BATCH, Segment};
use super::state::{Failure, Item, Shared, State};
use super::{Done, LogError, LogSettings, MetaKey, recovery, space};
use crate::world::{Disk, World};

/// A batch is closed when it has so many bytes.
const BATCH_BYTES: usize = 8 << 20;
/// Of the last segment for which there is space, so much is left for what is no entry: a purge must find room, or a
/// full log could never be emptied.
const NOTES_BYTES: u64 = 64 << 10;

/// Recovers the log and starts its tasks.
pub async fn open<W: World>(disk: Arc<dyn Disk>, mut settings: LogSettings) -> Result<Arc<Shared>, LogError> {
    settings.segment_bytes = settings.segment_bytes.max(8 * SECTOR as u64).next_multiple_of(SECTOR as u64);
    let salt = W::rng().next_u64();
    let with = (disk.clone(), settings.clone());
    let mut recovered = W::blocking(move || {
        let (disk, settings) = with;
        let mut recovered = recovery::recover(&*disk, settings.shard)?;
        if recovered.end.is_none() && recovered.spare.is_none() {
            let number = recovered.next_segment;
            recovered.next_segment += 1;
            let note = Note { newest: number, current: 0 };
            recovered.spare = Some(space::make(&*disk, &settings, note, salt, settings.segment_bytes)?);
        }
        Ok::<_, LogError>(recovered)
    })
    .await?;
    if let Some((segment, offset)) = recovered.cut {
        W::reached("a torn tail cut");
        tracing::warn!(segment, offset, "cut a batch off the log's end that was never completely written");
    }
    let bounds = recovered.index.bounds();
    let state = State {
        index: recovered.index,
        latest: recovered.meta.clone(),
        meta: recovered.meta,
        lazy: BTreeMap::new(),
        queue: VecDeque::new(),
        segments: recovered.segments,
        ends: recovered.ends,
        spare: recovered.spare.take(),
        making: false,
        superfluous: Vec::new(),
        clearing: false,
        wanted_bytes: 0,
        next_segment: recovered.next_segment,
        full: false,
        closed: false,
        poisoned: None,
        written: 0,
        batches: 0,
        syncs: Histogram::new(exponential_buckets(0.000_1, 2.0, 19)),
        writing: false,
        room: 0,
    };
    let shared =
        Arc::new(Shared { disk, settings, state: Mutex::new(state), work: Notify::new(), space: Notify::new() });
    space::ensure_spare::<W>(&shared);
    let writer = Writer { shared: shared.clone(), current: recovered.end, bounds, next_batch: recovered.next_batch };
    W::spawn(writer.run::<W>());
    Ok(shared)
}

/// Those who are to be told about an error, once no lock is held.
pub struct Waiting(Vec<Done>, Failure);

impl Waiting {
    /// Tells them.
    pub fn tell(self) {
        for done in self.0 {
            done(Err(self.1.error()));
        }
    }
}

/// Poisons the log.
pub fn poison(shared: &Shared, error: &io::Error) -> Waiting {
    tracing::error!(%error, "the log failed and takes nothing any more");
    let queue = shared.poison(error);
    Waiting(queue.into_iter().filter_map(Item::into_done).collect(), Failure::of(error))
}

struct Writer {
    shared: Arc<Shared>,
    /// Where the next batch goes.
    current: Option<(Segment, u64)>,
    /// The log as it is on disk.
    bounds: Bounds,
    next_batch: u64,
}

/// What to do next.
enum Step {
    Write(Work),
    Refuse(Vec<Item>),
    Wait,
    Stop,
}

/// What goes into one batch.
struct Work {
    items: Vec<Item>,
    /// Meta values that ride along.
    lazy: BTreeMap<MetaKey, Bytes>,
    /// It begins a new segment.
    roll: bool,
}

impl Work {
    fn take(state: &mut State, count: usize, roll: bool) -> Step {
        state.writing = true;
        Step::Write(Self { items: state.queue.drain(..count).collect(), lazy: std::mem::take(&mut state.lazy), roll })
    }
}

/// Ends the log if its writer ends, for whatever reason: nobody is to wait for a batch that nobody writes.
struct Mourn(Arc<Shared>);

impl Drop for Mourn {
    fn drop(&mut self) {
        // Dropped, not called: this may be a process, real or simulated, in the middle of its end.
        drop(self.0.poison(&io::Error::other("the log's writer has stopped")));
    }
}

impl Writer {
    async fn run<W: World>(mut self) {
        let _mourn = Mourn(self.shared.clone());
        loop {
            match self.next_step() {
                Step::Stop => return,
                Step::Wait => {
                    space::ensure_spare::<W>(&self.shared);
                    self.shared.work.notified().await;
                }
                Step::Refuse(items) => self.refuse(items),
                // The log is poisoned, and everybody has been told.
                Step::Write(work) => match self.write::<W>(work).await {
                    Ok(()) => {}
                    Err(_) => return,
                },
            }
        }
    }

    /// Decides under the lock what comes next.
    fn next_step(&self) -> Step {
        let mut state = self.shared.state.lock();
        if state.closed || state.poisoned.is_some() {
            return Step::Stop;
        }
        let Some(first) = state.queue.front() else { return Step::Wait };
        let lazy: usize = state.lazy.values().map(|value| record::meta_bytes(value)).sum();
        let meta: usize = state.meta.values().map(|value| record::meta_bytes(value)).sum();
        let first = first.bytes();
        let (mut bytes, mut count) = (first, 1);
        while let Some(item) = state.queue.get(count)
            && bytes + item.bytes() <= BATCH_BYTES
        {
            bytes += item.bytes();
            count += 1;
        }
        let room = self.current.as_ref().map_or(0, |(segment, at)| segment.bytes - at);
        let kept = if state.spare.is_some() { 0 } else { self.notes() };
        if Layout::of(bytes + lazy).bytes() as u64 + kept <= room {
            return Work::take(&mut state, count, false);
        }
        let fresh = |bytes: usize| Layout::of(record::START_BYTES + meta + bytes + lazy).bytes() as u64 + FIRST_BATCH;
        if let Some(spare) = &state.spare {
            // As much as fits, so that a batch of many small things does not ask for a segment of its own.
            while count > 1 && fresh(bytes) > spare.bytes {
                count -= 1;
                bytes -= state.queue[count].bytes();
            }
            if fresh(bytes) <= spare.bytes {
                return Work::take(&mut state, count, true);
            }
            state.wanted_bytes = fresh(first);
            return Step::Wait;
        }
        // There is no other segment, or not yet: what fits into this one.
        let (mut bytes, mut fits) = (lazy, 0);
        for item in state.queue.iter().take(count) {
            let kept = if matches!(item, Item::Entries { .. }) { self.notes() } else { 0 };
            if Layout::of(bytes + item.bytes()).bytes() as u64 + kept > room {
                break;
            }
            bytes += item.bytes();
            fits += 1;
        }
        if fits > 0 {
            return Work::take(&mut state, fits, false);
        }
        if !state.full {
            state.wanted_bytes = state.wanted_bytes.max(fresh(first));
            return Step::Wait;
        }
        // Space for a usual segment is to be found again even if there is none for a large one.
        state.wanted_bytes = 0;
        Step::Refuse(refused(&mut state))
    }

    /// What entries leave free in the last segment.
    fn notes(&self) -> u64 {
        NOTES_BYTES.min(self.shared.settings.segment_bytes / 4)
    }

    /// Nothing was written of these, and nothing will be.
    fn refuse(&self, items: Vec<Item>) {
        let text = format!("{} has no room for the log", self.shared.disk.describe());
        let error = io::Error::new(io::ErrorKind::StorageFull, text);
        // In memory those entries are gone already. Appending behind them would leave a log that contradicts itself.
        let cut = items.iter().any(|item| matches!(item, Item::KeepBelow { .. }));
        let waiting = cut.then(|| poison(&self.shared, &error));
        self.tell(items, &Err(&error));
        if let Some(waiting) = waiting {
            waiting.tell();
        }
    }

    /// Writes one batch, tells who waits for it, and has removed what it made superfluous.
    async fn write<W: World>(&mut self, work: Work) -> io::Result<()> {
        let Work { items, lazy, roll } = work;
        let mut start = None;
        let mut meta = BTreeMap::new();
        if roll {
            let mut state = self.shared.state.lock();
            let Bounds { floor, base, next } = self.bounds;
            let (previous, previous_end) = self.current.as_ref().map_or((0, 0), |(s, at)| (s.number, *at));
            start = Some(Start { previous, previous_end, floor, base, next });
            let Some(spare) = state.spare.take() else { unreachable!("only this task takes it when it is fit") };
            state.wanted_bytes = 0;
            state.segments.insert(spare.number, spare.clone());
            self.current = Some((spare, FIRST_BATCH));
            meta = state.meta.clone();
        }
        let Some((segment, at)) = self.current.clone() else { unreachable!("the first batch rolls") };
        for item in &items {
            match item {
                Item::Entries { entries, .. } => entries.iter().for_each(|(entry, _)| self.bounds.push(entry.index)),
                Item::KeepBelow { next, .. } => self.bounds.keep_below(*next),
                Item::DropBelow { floor, .. } => self.bounds.drop_below(*floor),
                Item::Meta { .. } => {}
            }
        }
        let number = self.next_batch;
        let begun = W::now();
        let (items, placed, bytes, written) = W::blocking(move || {
            let size = start.map_or(0, |_| record::START_BYTES)
                + meta.values().chain(lazy.values()).map(|value| record::meta_bytes(value)).sum::<usize>()
                + items.iter().map(Item::bytes).sum::<usize>();
            let mut builder = Builder::new(size);
            let payload = builder.payload();
            let mut records = start.iter().len() + meta.len() + lazy.len();
            start.iter().for_each(|start| record::put_start(payload, start));
            meta.iter().chain(&lazy).for_each(|(&key, value)| record::put_meta(payload, key, value));
            let mut placed = Vec::new();
            for item in &items {
                records += put_item(payload, item, &segment, at, &mut placed);
            }
            let batch = builder.seal(segment.salt, number, records as u32);
            assert!(at + batch.len() as u64 <= segment.bytes, "the room was measured before");
            let written = write_batch(&segment, at, &batch);
            ((items, lazy), placed, batch.len() as u64, written)
        })
        .await;
        let (items, lazy) = items;
        if let Err(error) = written {
            W::reached("a write of the log failed");
            // Whoever waits for this batch comes before whoever waits in the queue.
            let waiting = poison(&self.shared, &error);
            self.tell(items, &Err(&error));
            waiting.tell();
            return Err(error);
        }
        if let Some((_, at)) = &mut self.current {
            *at += bytes;
        }
        self.next_batch += 1;
        let superfluous = {
            let mut state = self.shared.state.lock();
            state.written += bytes;
            state.batches += 1;
            state.syncs.observe(W::now().saturating_duration_since(begun).as_secs_f64());
            if let Some((segment, at)) = &self.current {
                state.ends.insert(segment.number, *at);
            }
            state.room = self.current.as_ref().map_or(0, |(segment, at)| segment.bytes - at);
            state.meta.extend(lazy);
            for (index, ticket, place) in placed {
                state.index.placed(index, ticket, place);
            }
            state.index.shrink(self.shared.settings.cache_bytes);
            self.apply_notes(&mut state, &items)
        };
        if !superfluous.is_empty() {
            {
                let mut state = self.shared.state.lock();
                // First here: the scrub looks for the files of what is known here.
                state.forget_segments(&superfluous);
                state.superfluous.extend(superfluous);
            }
            space::ensure_cleared::<W>(&self.shared);
        }
        self.shared.state.lock().writing = false;
        if roll {
            // Not before: the note that the next one gets names this one as one that was written to.
            space::ensure_spare::<W>(&self.shared);
        }
        self.tell(items, &Ok(()));
        Ok(())
    }

    /// What becomes visible when it is durable. Gives the segments that are not needed any more.
    fn apply_notes(&self, state: &mut State, items: &[Item]) -> Vec<u64> {
        let mut purged = false;
        for item in items {
            match item {
                Item::Meta { key, value, .. } => {
                    state.meta.insert(*key, value.clone());
                    state.latest.insert(*key, value.clone());
                }
                Item::DropBelow { floor, .. } => {
                    state.index.drop_below(*floor);
                    purged = true;
                }
                Item::Entries { .. } | Item::KeepBelow { .. } => {}
            }
        }
        let current = self.current.as_ref().map_or(0, |(segment, _)| segment.number);
        // Entries that were cut off in memory, but not yet on disk, still count for what is on disk.
        let undecided = state.queue.iter().any(|item| matches!(item, Item::KeepBelow { .. }));
        if !purged || undecided {
            return Vec::new();
        }
        let oldest = state.index.oldest_segment(current);
        state.segments.range(..oldest).map(|(&number, _)| number).collect()
    }

    fn tell(&self, items: Vec<Item>, result: &Result<(), &io::Error>) {
        for done in items.into_iter().filter_map(Item::into_done) {
            done(result.map_err(|error| Failure::of(error).error()));
        }
    }
}

/// Takes out of the queue what finds no room: all entries, or, if it is not an entry that is in the way, that alone.
fn refused(state: &mut State) -> Vec<Item> {
    if !matches!(state.queue.front(), Some(Item::Entries { .. })) {
        return state.queue.pop_front().into_iter().collect();
    }
    let queue = std::mem::take(&mut state.queue);
    let (entries, others): (VecDeque<_>, _) = queue.into_iter().partition(|item| matches!(item, Item::Entries { .. }));
    state.queue = others;
    state.index.forget_pending();
    entries.into()
}

/// Writes a batch and syncs it.
///
/// If that fails, nothing of the batch counts, and nothing of it will be acknowledged: the log takes nothing any more.
/// What is in the file is unknown. A write that failed may have left a part of a sector, which the next start would take
/// for damage. After a sync that failed, the system may take pages for clean that never reached the disk, so that a
/// later sync succeeds without having written them, and a later reader sees what a power cut would take away. Writing
/// zeros over all of it makes those pages dirty again, so that this second sync speaks for them: after it, the batch
/// was never written. It touches nothing else, for every batch before was synced before this one was written. If the
/// disk does not let it, the next start finds an unfinished tail, or a batch that is whole, which it writes and syncs
/// anew, or a sector that makes no sense, which has the data set aside.
fn write_batch(segment: &Segment, at: u64, batch: &[u8]) -> io::Result<()> {
    let written = segment.file.write_at(at, batch).and_then(|()| segment.file.sync());
    if written.is_err() {
        let undone = segment.file.write_at(at, &vec![0; batch.len()]).and_then(|()| segment.file.sync());
        match undone {
            Ok(()) => tracing::warn!("what could not be written was taken out of the log again"),
            Err(error) => tracing::warn!(%error, "what could not be written cannot be taken out of the log either"),
        }
    }
    written
}

fn put_item(
    payload: &mut Vec<u8>,
    item: &Item,
    segment: &Segment,
    at: u64,
    placed: &mut Vec<(u64, u64, Place)>,
) -> usize {
    match item {
        Item::Entries { entries, .. } => {
            for (entry, ticket) in entries {
                let offset = at + payload.len() as u64;
                record::put_entry(payload, segment.salt, entry);
                let bytes = (at + payload.len() as u64 - offset) as u32;
                placed.push((entry.index, *ticket, Place { segment: segment.number, offset, bytes }));
            }
            return entries.len();
        }
        Item::KeepBelow { next, .. } => record::put_keep_below(payload, *next),
        Item::DropBelow { floor, .. } => record::put_drop_below(payload, *floor),
        Item::Meta { key, value, .. } => record::put_meta(payload, *key, value),
    }
    1
}
