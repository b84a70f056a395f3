//! openraft's log and votes in the write-ahead log.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend, RaftLogReader};
use parking_lot::Mutex;

use super::messages;
use super::trouble::Trouble;
use super::types::{Entry, LogId, TypeConfig, Vote};
use crate::limits;
use crate::storage::{Log, MetaKey};
use crate::wire::frame;
use crate::world::{Event, World};

/// openraft's view of a server's log. Clones share it.
pub struct LogStore<W: World> {
    log: Log<W>,
    /// Replication checks the vote before and after each read: it must not cost a disk access.
    vote: Arc<Mutex<Option<Vote>>>,
    trouble: Trouble,
}

impl<W: World> Clone for LogStore<W> {
    fn clone(&self) -> Self {
        Self { log: self.log.clone(), vote: self.vote.clone(), trouble: self.trouble.clone() }
    }
}

impl<W: World> LogStore<W> {
    /// The log and the vote in it. What the disk does to it is told to `trouble`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if the vote does not decode.
    pub fn new(log: Log<W>, trouble: Trouble) -> io::Result<Self> {
        let vote = get(&log, MetaKey::Vote)?;
        Ok(Self { log, vote: Arc::new(Mutex::new(vote)), trouble })
    }
}

impl<W: World> LogStore<W> {
    /// Tells whoever watches what a restart found.
    fn tell_opened(&self, state: &LogState<TypeConfig<W>>) {
        let vote = *self.vote.lock();
        W::observe(|| {
            let last = state.last_log_id.map_or((0, 0), |id| (id.index, id.leader_id.term));
            let (term, voted_for) = vote.map_or((0, 0), |vote| (vote.leader_id.term, vote.leader_id.voted_for));
            let purged = state.last_purged_log_id.map_or(0, |id| id.index);
            let detail = format!("last={} term={} vote={term} for={voted_for} purged={purged}", last.0, last.1);
            Event { kind: "log.opened", who: None, detail }
        });
    }
}

/// Tells whoever watches what is appended: each run of entries of one term as `FIRST..LAST@TERM`, and memberships.
fn tell_append<W: World>(entries: &[Entry]) {
    if entries.is_empty() {
        return;
    }
    W::observe(|| {
        let runs = entries.chunk_by(|one, next| one.log_id.leader_id == next.log_id.leader_id);
        let runs: Vec<String> = runs
            .filter_map(|run| Some((run.first()?.log_id, run.last()?.log_id)))
            .map(|(first, last)| format!("{}..{}@{}", first.index, last.index, first.leader_id.term))
            .collect();
        Event { kind: "log.append", who: None, detail: runs.join(" ") }
    });
    for entry in entries {
        let EntryPayload::Membership(membership) = &entry.payload else { continue };
        W::observe(|| {
            let list = |voters: &std::collections::BTreeSet<_>| {
                voters.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
            };
            let voters: Vec<String> = membership.get_joint_config().iter().map(list).collect();
            let (index, term) = (entry.log_id.index, entry.log_id.leader_id.term);
            let detail = format!("index={index} term={term} voters={}", voters.join(";"));
            Event { kind: "log.membership", who: None, detail }
        });
    }
}

fn get<W: World, T: serde::de::DeserializeOwned>(log: &Log<W>, key: MetaKey) -> io::Result<Option<T>> {
    log.get(key).map(|bytes| super::link::take(&bytes)).transpose()
}

fn encode<T: serde::Serialize>(value: &T) -> Bytes {
    let mut bytes = BytesMut::new();
    frame::put_postcard(&mut bytes, value);
    bytes.freeze()
}

fn invalid(error: messages::BadMessage) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<W: World> RaftLogReader<TypeConfig<W>> for LogStore<W> {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let entries = self.trouble.note(self.log.read(from..to, u64::MAX).await)?;
        entries.into_iter().map(|e| messages::from_log(e).map_err(invalid)).collect()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        // What is read here goes into one append: it has to fit a frame.
        let most = (limits::PEER_FRAME_BYTES_MAX - limits::ENTRY_BYTES_MAX) as u64;
        let entries = self.trouble.note(self.log.read(start..end, most).await)?;
        entries.into_iter().map(|e| messages::from_log(e).map_err(invalid)).collect()
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(*self.vote.lock())
    }
}

impl<W: World> RaftLogStorage<TypeConfig<W>> for LogStore<W> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig<W>>> {
        let purged: Option<LogId> = get(&self.log, MetaKey::Purged)?;
        // The mark and the purge are two syncs: what a crash came between is finished.
        if let Some(purged) = &purged
            && self.log.purged_below() <= purged.index
        {
            self.trouble.note(self.log.purge(purged.index).await)?;
        }
        let last = match self.log.last() {
            Some(index) => {
                let entries = self.trouble.note(self.log.read(index..index + 1, u64::MAX).await)?;
                entries.first().map(messages::log_id_of).transpose().map_err(invalid)?
            }
            None => None,
        };
        let state = LogState { last_purged_log_id: purged, last_log_id: last.or(purged) };
        self.tell_opened(&state);
        Ok(state)
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.trouble.note(self.log.put(MetaKey::Vote, encode(vote)).await)?;
        *self.vote.lock() = Some(*vote);
        let (term, node, committed) = (vote.leader_id.term, vote.leader_id.voted_for, vote.committed);
        W::observe(|| Event {
            kind: "vote",
            who: None,
            detail: format!("term={term} for={node} committed={committed}"),
        });
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(committed) = committed {
            // Only a hint that spares work at a restart: it rides along with whatever is written next.
            self.trouble.note(self.log.put_lazy(MetaKey::Committed, encode(&committed)))?;
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        // A leader may commit through its followers before its own disk has the entry, and the mark may reach the disk
        // with a batch that ends before it.
        let committed: Option<LogId> = get(&self.log, MetaKey::Committed)?;
        Ok(committed.filter(|id| self.log.last().is_some_and(|last| id.index <= last)))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig<W>>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        tell_append::<W>(&entries);
        let last = entries.last().map(|e| e.log_id.index);
        let trouble = self.trouble.clone();
        let done = move |result: io::Result<()>| {
            if let (Ok(()), Some(last)) = (&result, last) {
                W::observe(|| Event { kind: "log.durable", who: None, detail: format!("last={last}") });
            }
            callback.io_completed(trouble.note(result));
        };
        self.log.append(entries.iter().map(messages::to_log).collect(), Box::new(done));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        W::reached("entries that were not committed cut off");
        let after = last.map(|id| id.index);
        self.trouble.note(self.log.truncate_after(after).await)?;
        let after = after.unwrap_or(0);
        W::observe(|| Event { kind: "log.truncated", who: None, detail: format!("after={after}") });
        Ok(())
    }

    async fn purge(&mut self, up_to: LogId) -> io::Result<()> {
        // The mark first: segments may go only when a restart knows that they did.
        self.trouble.note(self.log.put(MetaKey::Purged, encode(&up_to)).await)?;
        W::reached("the log purged");
        W::observe(|| Event { kind: "log.purged", who: None, detail: format!("up_to={}", up_to.index) });
        self.trouble.note(self.log.purge(up_to.index).await)
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(&from) => from,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}
