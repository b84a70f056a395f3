//! What the log's handles, its writer and its maker of segments share.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::Notify;

use super::index::Index;
use super::segment::Segment;
use super::{Done, LogEntry, LogSettings, MetaKey, batch, record};
use crate::world::Disk;

/// Something to be made durable.
pub enum Item {
    /// Entries, each with its ticket in the index.
    Entries { entries: Vec<(LogEntry, u64)>, bytes: usize, done: Done },
    /// The log ends below `next`.
    KeepBelow { next: u64, done: Done },
    /// The log begins at `floor` or behind it.
    DropBelow { floor: u64, done: Done },
    /// A meta value.
    Meta { key: MetaKey, value: Bytes, done: Option<Done> },
}

impl Item {
    /// Bytes of its records.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Entries { bytes, .. } => *bytes,
            Self::KeepBelow { .. } | Self::DropBelow { .. } => record::BOUND_BYTES,
            Self::Meta { value, .. } => record::meta_bytes(value),
        }
    }

    /// Who waits for it.
    pub fn into_done(self) -> Option<Done> {
        match self {
            Self::Entries { done, .. } | Self::KeepBelow { done, .. } | Self::DropBelow { done, .. } => Some(done),
            Self::Meta { done, .. } => done,
        }
    }
}

/// An error that is told again and again.
#[derive(Debug, Clone)]
pub struct Failure {
    kind: io::ErrorKind,
    text: String,
}

impl Failure {
    /// Of `error`.
    pub fn of(error: &io::Error) -> Self {
        Self { kind: error.kind(), text: error.to_string() }
    }

    /// As an error.
    pub fn error(&self) -> io::Error {
        io::Error::new(self.kind, self.text.clone())
    }
}

/// The state behind the lock.
pub struct State {
    pub index: Index,
    /// Durable meta values.
    pub meta: BTreeMap<MetaKey, Bytes>,
    /// Meta values as a reader sees them: the durable ones, and later ones that may be lost.
    pub latest: BTreeMap<MetaKey, Bytes>,
    /// Meta values that ride along with the next batch.
    pub lazy: BTreeMap<MetaKey, Bytes>,
    pub queue: VecDeque<Item>,
    /// Segments with batches.
    pub segments: BTreeMap<u64, Segment>,
    /// Where the batches of each of them end.
    pub ends: BTreeMap<u64, u64>,
    /// A segment made ahead.
    pub spare: Option<Segment>,
    /// A task is making one, or waits until there is space for it.
    pub making: bool,
    /// Segments that are not needed any more and are still to be removed, oldest first.
    pub superfluous: Vec<u64>,
    /// A task is removing some.
    pub clearing: bool,
    /// The least size of the next one that is made, if something large is waiting.
    pub wanted_bytes: u64,
    pub next_segment: u64,
    /// There was no room for another segment.
    pub full: bool,
    pub closed: bool,
    pub poisoned: Option<Failure>,
    /// Bytes that are left in the current segment.
    pub room: u64,
    /// Bytes of the batches written since the start.
    pub written: u64,
    /// How many they are.
    pub batches: u64,
    /// Seconds that writing and syncing a batch took.
    pub syncs: Histogram,
    /// A batch is on its way to disk.
    pub writing: bool,
}

impl State {
    /// These segments are about to be removed.
    pub fn forget_segments(&mut self, numbers: &[u64]) {
        self.segments.retain(|number, _| !numbers.contains(number));
        self.ends.retain(|number, _| !numbers.contains(number));
    }

    /// Whether anything may still be done.
    pub fn check(&self) -> io::Result<()> {
        match &self.poisoned {
            Some(failure) => Err(failure.error()),
            None => Ok(()),
        }
    }
}

/// What is shared.
pub struct Shared {
    pub disk: Arc<dyn Disk>,
    pub settings: LogSettings,
    pub state: Mutex<State>,
    /// Wakes the writer: there is something in the queue, or a segment has been made or could not be.
    pub work: Notify,
    /// Wakes the maker of segments: there may be space again.
    pub space: Notify,
}

impl Shared {
    /// Adds entries to the index and the queue.
    pub fn append(&self, entries: Vec<LogEntry>, done: Done) -> Result<(), (Done, io::Error)> {
        let mut state = self.state.lock();
        if let Err(error) = state.check() {
            drop(state);
            return Err((done, error));
        }
        let bytes = entries.iter().map(record::entry_bytes).sum();
        let contiguous = entries.windows(2).all(|two| two[0].index + 1 == two[1].index);
        let follows = entries.first().is_none_or(|first| state.index.accepts(first.index));
        if !contiguous || !follows || bytes > batch::PAYLOAD_BYTES_MAX / 2 {
            let why = format!("these entries cannot follow entry {} or are too large", state.index.next());
            drop(state);
            return Err((done, io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        let entries = entries.into_iter().map(|entry| (entry.clone(), state.index.push_pending(entry))).collect();
        state.queue.push_back(Item::Entries { entries, bytes, done });
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Queues anything else.
    pub fn queue(&self, item: Item) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check()?;
        if let Item::KeepBelow { next, .. } = &item {
            state.index.keep_below(*next);
        }
        state.queue.push_back(item);
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Sets a value that rides along with the next batch.
    pub fn put_lazy(&self, key: MetaKey, value: Bytes) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check()?;
        state.lazy.insert(key, value.clone());
        state.latest.insert(key, value);
        Ok(())
    }

    /// Ends the tasks.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.work.notify_one();
        self.space.notify_one();
    }

    /// Makes every later call fail with `error`, and gives back who is waiting in the queue.
    pub fn poison(&self, error: &io::Error) -> VecDeque<Item> {
        let mut state = self.state.lock();
        state.poisoned.get_or_insert_with(|| Failure::of(error));
        std::mem::take(&mut state.queue)
    }
}

/// Whether an error means that there is no space, rather than that the disk fails.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
