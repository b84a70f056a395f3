//! The write-ahead log of one server: its entries, its vote.
//!
//! * [`batch`]: what is written and synced at once, sector by sector verifiable. One batch holds everything that was
//!   queued while the one before was synced: a group commit.
//! * [`record`]: what a batch holds.
//! * [`segment`]: the files, zero-filled ahead of need.
//! * [`newest`]: the note that names the newest one, so that a log that lost its end is told from a shorter one.
//! * [`recovery`]: what is good, torn or damaged when a log is opened; [`scrub`]: the same while it is in use.
//! * [`index`]: what is in memory.
//! * [`writer`]: the one task that writes; [`space`] makes the segments it will need.
//!
//! An I/O error in writing or syncing poisons the log: every later call fails with it, and nothing is tried again,
//! since nobody knows what a failed sync has left behind. Damage that is met on reading does the same. A full disk is another matter: it is noticed while the
//! current segment still has room ([`Log::disk_full`]), and what finds no room fails without a byte written.

mod batch;
mod index;
mod newest;
mod record;
mod recovery;
mod scrub;
mod segment;
mod space;
mod state;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::oneshot;

use crate::wire::ShardId;
use crate::world::{Disk, World};
use index::{Have, Place};
pub use scrub::LogPlace;
use segment::Segment;
pub(crate) use state::is_full;
use state::{Item, Shared};

/// How a log is kept.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Size of a segment, in bytes. Rounded up to whole sectors.
    pub segment_bytes: u64,
    /// Bytes of recent entries that are kept in memory. What is on its way to disk is always in memory besides.
    pub cache_bytes: u64,
    /// The shard whose log it is.
    pub shard: ShardId,
    /// Free space below which no further segment is made, in bytes.
    pub reserve_bytes: u64,
}

/// One entry. The log knows nothing about either part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place in the log.
    pub index: u64,
    /// Raft's part, small.
    pub head: Bytes,
    /// The payload.
    pub body: Bytes,
}

/// The small values that belong to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum MetaKey {
    /// Whom this server voted for.
    Vote = 1,
    /// How far the log is known to be committed.
    Committed = 2,
    /// What raft must know about the last purged entry.
    Purged = 3,
    /// How often this server has started with this log.
    Boot = 4,
}

impl MetaKey {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Vote, Self::Committed, Self::Purged, Self::Boot].into_iter().find(|&key| key as u8 == byte)
    }
}

/// Why a log cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The files are not as they were written. What they hold must not be trusted.
    #[error("the log is damaged in segment {segment} at byte {offset}: {why}. Set the data aside and join anew")]
    Damaged {
        /// The segment's number; 0 if it is about segments that are not there.
        segment: u64,
        /// Where in it.
        offset: u64,
        /// What was found.
        why: String,
    },
    /// It was written by a newer version.
    #[error("{path} was made by a newer version (format {found}; this one knows {known}): upgrade this server")]
    NewerFormat {
        /// The file.
        path: String,
        /// Its format.
        found: u32,
        /// The newest format this version knows.
        known: u32,
    },
    /// The disk failed.
    #[error("the log cannot be read or written: {0}")]
    Io(#[from] io::Error),
}

impl From<LogError> for io::Error {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Io(error) => error,
            other => io::Error::new(io::ErrorKind::InvalidData, other),
        }
    }
}

/// What is called when something is durable, or cannot be.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// The write-ahead log of one server. A cheap handle: when the last one is dropped, the log ends where it stands, and
/// what was not yet durable is dropped with its callbacks uncalled.
pub struct Log<W: World> {
    handle: Arc<Handle<W>>,
}

struct Handle<W> {
    shared: Arc<Shared>,
    world: PhantomData<W>,
}

impl<W> Drop for Handle<W> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl<W: World> Clone for Log<W> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone() }
    }
}

impl<W: World> fmt::Debug for Log<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.handle.shared.state.lock();
        f.debug_struct("Log").field("first", &state.index.first()).field("next", &state.index.next()).finish()
    }
}

impl<W: World> Log<W> {
    /// Opens the log, or makes one where there is none.
    ///
    /// # Errors
    /// Damage, after which the caller sets the directory aside; a newer format; the disk's.
    pub async fn open(disk: Arc<dyn Disk>, settings: LogSettings) -> Result<Self, LogError> {
        let shared = writer::open::<W>(disk, settings).await?;
        Ok(Self { handle: Arc::new(Handle { shared, world: PhantomData }) })
    }

    /// Adds entries, the first of which follows the last one of the log (in an empty log it may have any index that
    /// is not purged). They can be read at once; `done` is called when they are durable. Calls come in the order of
    /// the appends, from the task that writes. With a [`io::ErrorKind::StorageFull`] error nothing was written, the
    /// entries are out of the log again together with all that were appended behind them, and appending may be tried
    /// again later.
    pub fn append(&self, entries: Vec<LogEntry>, done: Done) {
        if let Err((done, error)) = self.handle.shared.append(entries, done) {
            done(Err(error));
        }
    }

    /// Cuts off all entries behind `index` (`None`: all entries). They cannot be read any more at once; durable when
    /// it returns.
    ///
    /// # Errors
    /// The log is poisoned.
    pub async fn truncate_after(&self, index: impl Into<Option<u64>>) -> io::Result<()> {
        let next = index.into().map_or(0, |index| index + 1);
        self.wait(|done| Item::KeepBelow { next, done }).await
    }

    /// Drops all entries up to `up_to` and removes the segments that hold nothing else. Wait for it before appending,
    /// if `up_to` is behind the log's end.
    ///
    /// # Errors
    /// The log is poisoned; or there is no room for even a note ([`io::ErrorKind::StorageFull`]).
    pub async fn purge(&self, up_to: u64) -> io::Result<()> {
        self.wait(|done| Item::DropBelow { floor: up_to + 1, done }).await
    }

    /// Sets a meta value; durable when it returns.
    ///
    /// # Errors
    /// The log is poisoned; or there is no room for even a note ([`io::ErrorKind::StorageFull`]).
    pub async fn put(&self, key: MetaKey, value: Bytes) -> io::Result<()> {
        self.wait(|done| Item::Meta { key, value, done: Some(done) }).await
    }

    /// Sets a meta value that may be lost: it becomes durable with the next batch that is written for another reason.
    ///
    /// # Errors
    /// The log is poisoned.
    pub fn put_lazy(&self, key: MetaKey, value: Bytes) -> io::Result<()> {
        self.handle.shared.put_lazy(key, value)
    }

    /// The latest meta value: the last durable one, or a later one of [`Log::put_lazy`].
    pub fn get(&self, key: MetaKey) -> Option<Bytes> {
        self.handle.shared.state.lock().latest.get(&key).cloned()
    }

    async fn wait(&self, item: impl FnOnce(Done) -> Item) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        let done: Done = Box::new(move |result| {
            let _ = sender.send(result);
        });
        self.handle.shared.queue(item(done))?;
        receiver.await.unwrap_or_else(|_| Err(io::Error::other("the log was closed")))
    }

    /// The entries of `range` that are in the log, in order, until they have `max_bytes` together: at least one, if
    /// there is one.
    ///
    /// # Errors
    /// The disk's; [`io::ErrorKind::InvalidData`] with a [`LogError::Damaged`] inside, if an entry is not as it was
    /// written; the log is poisoned.
    pub async fn read(&self, range: Range<u64>, max_bytes: u64) -> io::Result<Vec<LogEntry>> {
        let (mut entries, runs) = self.handle.shared.gather(range, max_bytes)?;
        if runs.is_empty() {
            return Ok(entries.into_values().collect());
        }
        let read = W::blocking(move || {
            let mut read = Vec::new();
            for run in runs {
                read_run(&run, &mut read)?;
            }
            Ok::<_, LogError>(read)
        });
        let read = read.await.map_err(|error| self.found(error))?;
        entries.extend(read.into_iter().map(|entry| (entry.index, entry)));
        Ok(entries.into_values().collect())
    }

    /// Takes note of an error: a log that is damaged is not to be used any more.
    fn found(&self, error: LogError) -> io::Error {
        let error = scrub::shortened(error);
        let damaged = error.kind() == io::ErrorKind::InvalidData;
        if damaged {
            writer::poison(&self.handle.shared, &error).tell();
        }
        error
    }

    /// How many batches have been written since the log was opened, and whether anything waits to be written. While
    /// something waits and the number stands still, the disk does nothing.
    pub fn progress(&self) -> (u64, bool) {
        let state = self.handle.shared.state.lock();
        (state.batches, state.writing || !state.queue.is_empty())
    }

    /// Index of the first entry, if there is one.
    pub fn first_index(&self) -> Option<u64> {
        self.handle.shared.state.lock().index.first()
    }

    /// Index of the last entry, if there is one, durable or on its way.
    pub fn last(&self) -> Option<u64> {
        let state = self.handle.shared.state.lock();
        state.index.first().map(|_| state.index.next() - 1)
    }

    /// Everything below this index was purged.
    pub fn purged_below(&self) -> u64 {
        self.handle.shared.state.lock().index.floor()
    }

    /// Bytes that the log's files take.
    pub fn bytes_on_disk(&self) -> u64 {
        let state = self.handle.shared.state.lock();
        state.segments.values().chain(&state.spare).map(|segment| segment.bytes).sum()
    }

    /// Whether so many bytes of entries would find room besides what is queued. Always, while there is space for
    /// another segment; else as long as the current one has room, of which some is kept for votes and purges.
    pub fn takes(&self, bytes: u64) -> bool {
        const KEPT: u64 = 256 << 10;
        let state = self.handle.shared.state.lock();
        let queued: u64 = state.queue.iter().map(|item| item.bytes() as u64).sum();
        // A CRC a sector, and whole sectors: less than twice the bytes.
        !state.full || state.room >= (bytes + queued) * 2 + KEPT
    }

    /// Bytes of batches that were made durable since the log was opened: what a checkpoint is due by.
    pub fn bytes_written(&self) -> u64 {
        self.handle.shared.state.lock().written
    }

    /// Seconds that each batch took to be written and synced, its wait for a thread included.
    pub fn sync_latency(&self) -> Histogram {
        self.handle.shared.state.lock().syncs.clone()
    }

    /// There is no room for another segment. What is in the current one can still be filled: admission stops sends in
    /// time. It becomes false by itself when there is space again.
    pub fn disk_full(&self) -> bool {
        self.handle.shared.state.lock().full
    }

    /// The error that poisoned the log, if one did.
    pub fn poisoned(&self) -> Option<io::Error> {
        self.handle.shared.state.lock().check().err()
    }
}

/// Entries that lie behind one another in a segment.
struct Run {
    segment: Segment,
    offset: u64,
    end: u64,
    /// Index and length of each.
    entries: Vec<(u64, u32)>,
}

fn read_run(run: &Run, into: &mut Vec<LogEntry>) -> Result<(), LogError> {
    let mut buffer = vec![0; (run.end - run.offset) as usize];
    run.segment.file.read_at(run.offset, &mut buffer)?;
    let mut rest = Bytes::from(buffer);
    let mut offset = run.offset;
    for &(index, bytes) in &run.entries {
        let record = rest.split_to(bytes as usize);
        let entry = record::read_entry(&record, run.segment.salt, index).ok_or_else(|| LogError::Damaged {
            segment: run.segment.number,
            offset,
            why: format!("entry {index} does not match its checksum"),
        })?;
        into.push(entry);
        offset += u64::from(bytes);
    }
    Ok(())
}

impl Shared {
    /// What of `range` is in memory, and where the rest is.
    fn gather(&self, range: Range<u64>, max_bytes: u64) -> io::Result<(BTreeMap<u64, LogEntry>, Vec<Run>)> {
        let state = self.state.lock();
        state.check()?;
        let mut entries = BTreeMap::new();
        let mut runs: Vec<Run> = Vec::new();
        let mut bytes = 0;
        let from = range.start.max(state.index.first().unwrap_or(range.end));
        for index in from..range.end.min(state.index.next()) {
            let Some(have) = state.index.get(index) else { break };
            bytes += match &have {
                Have::Memory(entry) => (entry.head.len() + entry.body.len()) as u64,
                Have::Disk(place) => u64::from(place.bytes) - record::ENTRY_OVERHEAD as u64,
            };
            if bytes > max_bytes && index > from {
                break;
            }
            match have {
                Have::Memory(entry) => drop(entries.insert(index, entry)),
                Have::Disk(place) => add_to_runs(&mut runs, index, place, &state.segments),
            }
        }
        Ok((entries, runs))
    }
}

fn add_to_runs(runs: &mut Vec<Run>, index: u64, place: Place, segments: &BTreeMap<u64, Segment>) {
    let end = place.offset + u64::from(place.bytes);
    if let Some(run) = runs.last_mut()
        && run.segment.number == place.segment
        && run.end == place.offset
    {
        run.entries.push((index, place.bytes));
        run.end = end;
        return;
    }
    let segment = segments.get(&place.segment).cloned();
    let segment = segment.unwrap_or_else(|| unreachable!("a segment with entries that count is kept"));
    runs.push(Run { segment, offset: place.offset, end, entries: vec![(index, place.bytes)] });
}
