//! Reading the log at start: what is good, what was never finished, what is damage.
//!
//! * Every segment's first batch says where the one before ends, so all but the last must hold exactly the batches up
//!   to there; anything else is damage.
//! * In the last one the batches go on until a sector is bad. If that sector is all zeros, it was never written, and
//!   then nothing behind it was acknowledged: batch N+1 is written only after N is synced. So a valid later batch
//!   proves that the zeros are damage; otherwise the tail is **torn** and cut.
//! * A bad sector that is not all zeros was written once, since the file began as zeros and a disk writes a sector
//!   whole or not at all: it is **damage**, whether or not its batch was acknowledged.
//!
//! * That the last segments are there at all is known from the note of [`super::newest`].
//!
//! A tail is cut by writing zeros over it and syncing them, so that what follows is again as if never written; that
//! needs no new file, and so no space on a full disk. If the process dies in the middle of it, the tail is still torn
//! and is cut again.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;

use super::batch::{self, Found, Header, SECTOR};
use super::index::{Index, Place};
use super::newest::Note;
use super::record::{Record, Start, take_record};
use super::segment::{self, FIRST_BATCH, Named, Segment};
use super::{LogError, MetaKey, newest};
use crate::wire::ShardId;
use crate::world::Disk;

const SCAN_BYTES: usize = 1 << 20;

/// What was found.
#[derive(Debug)]
pub struct Recovered {
    /// The entries that count.
    pub index: Index,
    /// The latest meta values.
    pub meta: BTreeMap<MetaKey, Bytes>,
    /// The segments with batches, by number.
    pub segments: BTreeMap<u64, Segment>,
    /// Where the batches of each of them end.
    pub ends: BTreeMap<u64, u64>,
    /// Where the next batch goes: a segment (the last of `segments`) and an offset.
    pub end: Option<(Segment, u64)>,
    /// A segment that has been made and not been used.
    pub spare: Option<Segment>,
    /// The number of the next batch.
    pub next_batch: u64,
    /// The number of the next segment that is made.
    pub next_segment: u64,
    /// A tail that was cut, for the record: segment, offset.
    pub cut: Option<(u64, u64)>,
}

/// Reads the log of `shard`, cuts a torn tail, and makes sure that everything it found is durable.
///
/// # Errors
/// The disk's; damage; a newer format.
pub fn recover(disk: &dyn Disk, shard: ShardId) -> Result<Recovered, LogError> {
    disk.create_directory(segment::DIRECTORY)?;
    disk.sync_directory("")?;
    let (mut numbers, mut unfinished) = (Vec::new(), Vec::new());
    for name in disk.list(segment::DIRECTORY)? {
        match segment::parse(&name) {
            Named::Segment(number) => numbers.push(number),
            Named::Unfinished(number) => unfinished.push(number),
            Named::Foreign => {}
        }
    }
    let note = newest::read(disk)?;
    let next_segment = numbers
        .iter()
        .chain(&unfinished)
        .chain(note.as_ref().map(|note| &note.newest))
        .max()
        .map_or(1, |last| last + 1);
    segment::remove_unfinished(disk, &unfinished)?;

    let mut all = Vec::new();
    for &number in &numbers {
        let segment = segment::open(disk, shard, number)?;
        let begun = read_start(&segment)?;
        all.push((segment, begun));
    }
    let used = all.iter().rposition(|(_, begun)| begun.start().is_some()).map_or(0, |last| last + 1);
    newest::check(note, &numbers, used.checked_sub(1).map_or(0, |last| all[last].0.number))?;
    let mut replay = Replay::default();
    let mut ends = BTreeMap::new();
    let mut end = None;
    let mut cut = None;
    for at in 0..used {
        let (segment, begun) = &all[at];
        let Some(start) = begun.start() else {
            return Err(damage(segment, FIRST_BATCH, "its first batch is missing, but a later segment was written"));
        };
        if at > 0 && start.previous != all[at - 1].0.number {
            return Err(damage(segment, FIRST_BATCH, &format!("segment {} before it is missing", start.previous)));
        }
        let stated = all.get(at + 1).and_then(|(_, begun)| begun.start()).map(|start| start.previous_end);
        let (reached, tail) = replay.segment(segment, stated)?;
        ends.insert(segment.number, reached);
        if at + 1 == used {
            end = Some((segment.clone(), reached, tail));
        }
    }
    replay.finish()?;

    // What the last process wrote, but did not live to sync, may be in the system's memory only. A failed sync may
    // even have left pages there that the system takes for clean: so the last batch is written once more.
    if let Some((segment, reached, tail)) = &end {
        if *tail == Tail::Torn {
            cut_tail(segment, *reached)?;
            cut = Some((segment.number, *reached));
        }
        segment.file.write_at(replay.last_at, &replay.last)?;
        segment.file.sync()?;
    }
    let mut spare = None;
    let mut extra = Vec::new();
    for (segment, begun) in &all[used..] {
        if spare.is_some() {
            extra.push(segment.number);
            continue;
        }
        if matches!(begun, Begun::Not(Tail::Torn)) {
            cut_tail(segment, FIRST_BATCH)?;
            cut = Some((segment.number, FIRST_BATCH));
        }
        // Even if it looks clean: the last process may have cut it and died before it could sync that.
        segment.file.sync()?;
        spare = Some(segment.clone());
    }
    // The note first: it must never name a segment that is not there.
    let current = end.as_ref().map_or(0, |(segment, ..)| segment.number);
    let now = Note { newest: spare.as_ref().map_or(current, |spare| spare.number), current };
    if note != Some(now) {
        newest::write(disk, now)?;
    }
    segment::remove(disk, &extra)?;
    disk.sync_directory(segment::DIRECTORY)?;
    all.truncate(used);
    Ok(Recovered {
        index: replay.index,
        meta: replay.meta,
        segments: all.into_iter().map(|(segment, _)| (segment.number, segment)).collect(),
        ends,
        end: end.map(|(segment, reached, _)| (segment, reached)),
        spare,
        next_batch: replay.next_batch.unwrap_or(1),
        next_segment,
        cut,
    })
}

/// A batch read and verified, or why there is none.
pub(super) enum Next {
    /// The batch.
    Batch(Header, Vec<u8>),
    /// The sector there, or another of its batch, was never written. `behind`: where a later batch could be.
    Unwritten {
        /// See there.
        behind: u64,
    },
    /// The segment ends there.
    End,
}

/// Reads the batch at `offset` and verifies every sector of it.
pub(super) fn read_batch(segment: &Segment, offset: u64) -> Result<Next, LogError> {
    if offset >= segment.bytes {
        return Ok(Next::End);
    }
    let mut sector = [0; SECTOR];
    segment.file.read_at(offset, &mut sector)?;
    let header = match batch::find(&sector, segment.salt) {
        Found::Header(header) => header,
        Found::Nothing => return Ok(Next::Unwritten { behind: offset + SECTOR as u64 }),
        Found::Bad => return Err(damage(segment, offset, "a batch's header does not match its checksum")),
    };
    let behind = offset + header.layout.bytes() as u64;
    if behind > segment.bytes {
        return Err(damage(segment, offset, "a batch is longer than its segment"));
    }
    let mut bytes = vec![0; header.layout.bytes()];
    segment.file.read_at(offset, &mut bytes)?;
    match header.check(&bytes, segment.salt) {
        Ok(()) => Ok(Next::Batch(header, bytes)),
        Err(bad) if bad.unwritten => Ok(Next::Unwritten { behind }),
        Err(bad) => {
            let at = offset + (bad.sector * SECTOR) as u64;
            Err(damage(segment, at, &format!("a sector of batch {} does not match its checksum", header.number)))
        }
    }
}

/// What is behind the last batch of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// Zeros, or nothing.
    Clean,
    /// Parts of a batch that was not completely written.
    Torn,
}

/// How a segment begins.
enum Begun {
    /// With this record.
    With(Start),
    /// Its first batch was never written, or not completely.
    Not(Tail),
}

impl Begun {
    fn start(&self) -> Option<&Start> {
        match self {
            Self::With(start) => Some(start),
            Self::Not(_) => None,
        }
    }
}

/// The first record of a segment's first batch.
fn read_start(segment: &Segment) -> Result<Begun, LogError> {
    match read_batch(segment, FIRST_BATCH)? {
        Next::Batch(header, bytes) => match take_record(&mut header.payload(&bytes)) {
            Some(Record::Start(start)) => Ok(Begun::With(start)),
            _ => Err(damage(segment, FIRST_BATCH, "its first batch does not begin as a segment does")),
        },
        Next::Unwritten { behind } => Ok(Begun::Not(judge_tail(segment, FIRST_BATCH, behind)?)),
        Next::End => Ok(Begun::Not(Tail::Clean)),
    }
}

/// Looks at everything behind the batches, which end at `end`: a batch that was not completely written may be there, and
/// take until `behind`; no other may. Each sector is read once, for a start has to read whole segments of zeros.
fn judge_tail(segment: &Segment, end: u64, behind: u64) -> Result<Tail, LogError> {
    // More than one sector: the first of them is the header of a batch.
    let mut tail = if behind > end + SECTOR as u64 { Tail::Torn } else { Tail::Clean };
    let mut found = None;
    scan(segment, behind, &mut |at, sectors| {
        if batch::is_zero(sectors) {
            return Ok(true);
        }
        tail = Tail::Torn;
        for (i, sector) in sectors.chunks_exact(SECTOR).enumerate() {
            if found.is_none() && matches!(batch::find(sector, segment.salt), Found::Header(_)) {
                found = Some(at + (i * SECTOR) as u64);
            }
        }
        Ok(found.is_none())
    })?;
    match found {
        None => Ok(tail),
        Some(later) => Err(damage(segment, end, &missing(later))),
    }
}

/// Makes everything from `from` on as if never written; that is to be synced.
fn cut_tail(segment: &Segment, from: u64) -> io::Result<()> {
    scan(segment, from, &mut |at, sectors| {
        if !batch::is_zero(sectors) {
            segment.file.write_at(at, &vec![0; sectors.len()])?;
        }
        Ok(true)
    })
}

/// Shows `each` the segment from `from` on, piece by piece, until it says `false`.
fn scan(segment: &Segment, from: u64, each: &mut dyn FnMut(u64, &[u8]) -> io::Result<bool>) -> io::Result<()> {
    let mut buffer = vec![0; SCAN_BYTES];
    let mut at = from;
    while at < segment.bytes {
        let length = (segment.bytes - at).min(SCAN_BYTES as u64) as usize;
        segment.file.read_at(at, &mut buffer[..length])?;
        if !each(at, &buffer[..length])? {
            break;
        }
        at += length as u64;
    }
    Ok(())
}

/// The log's state while its records are read in order.
#[derive(Default)]
struct Replay {
    index: Index,
    meta: BTreeMap<MetaKey, Bytes>,
    next_batch: Option<u64>,
    /// Entries from `.0` up to `.1` were in segments that are gone; a purge that follows must say so.
    missing: Option<(u64, u64)>,
    /// The last batch and where it is.
    last: Vec<u8>,
    last_at: u64,
}

impl Replay {
    /// Replays a segment up to `stated` (or up to its torn or clean tail, if nothing is stated), and says where its
    /// batches end and what is behind them.
    fn segment(&mut self, segment: &Segment, stated: Option<u64>) -> Result<(u64, Tail), LogError> {
        let mut offset = FIRST_BATCH;
        let mut tail = Tail::Clean;
        while stated.is_none_or(|end| offset < end) {
            match read_batch(segment, offset)? {
                Next::Batch(header, bytes) => {
                    if self.next_batch.is_some_and(|next| next != header.number) {
                        let why = format!("batch {} is where another was to be", header.number);
                        return Err(damage(segment, offset, &why));
                    }
                    self.batch(segment, offset, &header, &bytes)?;
                    self.next_batch = Some(header.number + 1);
                    self.last_at = offset;
                    offset += header.layout.bytes() as u64;
                    self.last = bytes;
                }
                Next::Unwritten { .. } | Next::End if stated.is_some() => {
                    return Err(damage(segment, offset, "a batch is missing, but a later segment was written"));
                }
                Next::Unwritten { behind } => {
                    tail = judge_tail(segment, offset, behind)?;
                    break;
                }
                Next::End => break,
            }
        }
        if stated.is_some_and(|end| offset != end) {
            return Err(damage(segment, offset, "it does not end where the next segment says"));
        }
        Ok((offset, tail))
    }

    fn batch(&mut self, segment: &Segment, offset: u64, header: &Header, bytes: &[u8]) -> Result<(), LogError> {
        let bad = |why: &str| damage(segment, offset, why);
        let payload = header.payload(bytes);
        let mut rest = payload;
        let mut records = 0;
        while !rest.is_empty() {
            let from = payload.len() - rest.len();
            let record = take_record(&mut rest).ok_or_else(|| bad("a record is malformed"))?;
            records += 1;
            match record {
                Record::Entry { index } => {
                    let place = Place {
                        segment: segment.number,
                        offset: offset + (header.layout.payload_at() + from) as u64,
                        bytes: (payload.len() - rest.len() - from) as u32,
                    };
                    let expected = match self.missing {
                        Some((_, end)) if self.index.first().is_none() => index == end.max(self.index.floor()),
                        _ => self.index.accepts(index),
                    };
                    if !expected {
                        return Err(bad(&format!("entry {index} does not follow the one before")));
                    }
                    self.index.push_placed(index, place);
                }
                Record::KeepBelow(next) => {
                    self.index.keep_below(next);
                    self.missing =
                        self.missing.map(|(from, end)| (from, end.min(next))).filter(|(from, end)| from < end);
                }
                Record::DropBelow(floor) => {
                    self.index.drop_below(floor);
                    self.missing = self.missing.filter(|&(_, end)| end > floor);
                }
                Record::Meta(key, value) => {
                    self.meta.insert(key, Bytes::copy_from_slice(value));
                }
                Record::Start(start) => {
                    if self.next_batch.is_none() {
                        self.index.drop_below(start.floor);
                        self.missing = (start.base < start.next).then_some((start.base, start.next));
                    } else if start.next.max(start.floor) != self.next() || start.floor != self.index.floor() {
                        return Err(bad("the segment's start does not agree with what was read before it"));
                    }
                }
            }
        }
        if records != header.records {
            return Err(bad("it has another number of records than it says"));
        }
        Ok(())
    }

    fn next(&self) -> u64 {
        match self.missing {
            Some((_, end)) if self.index.first().is_none() => end.max(self.index.floor()),
            _ => self.index.next(),
        }
    }

    fn finish(&self) -> Result<(), LogError> {
        match self.missing {
            None => Ok(()),
            Some((from, end)) => Err(LogError::Damaged {
                segment: 0,
                offset: 0,
                why: format!("the segments with entries {from} to {} are missing", end - 1),
            }),
        }
    }
}

pub(super) fn damage(segment: &Segment, offset: u64, why: &str) -> LogError {
    LogError::Damaged { segment: segment.number, offset, why: why.to_owned() }
}

fn missing(later: u64) -> String {
    format!("a batch is missing here, but there is a later one at {later}")
}
