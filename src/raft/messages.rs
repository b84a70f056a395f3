//! Raft's messages on the wire and its entries in the log: small postcard heads, with the bodies raw behind them.

#[cfg(test)]
mod golden;

use bytes::{Bytes, BytesMut};
use openraft::EntryPayload;
use openraft::raft::AppendEntriesRequest;
use serde::{Deserialize, Serialize};

use super::types::{Entry, EntryBody, LogId, Membership, Payload, SnapshotMeta, TypeConfig, Vote};
use crate::storage::LogEntry;
use crate::wire::{frame, peer};
use crate::world::World;

/// What is kept of an entry apart from its body.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct EntryHead {
    id: LogId,
    kind: EntryKind,
    /// Bytes of its body.
    body: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum EntryKind {
    Blank,
    Normal,
    Membership(Membership),
}

#[derive(Debug, Serialize, Deserialize)]
struct AppendHead {
    vote: Vote,
    previous: Option<LogId>,
    committed: Option<LogId>,
    entries: Vec<EntryHead>,
}

/// The answer to an append, as the follower's stream gave it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum AppendReply {
    /// Durable up to here.
    Appended(Option<LogId>),
    /// The log differs at this place.
    Conflict(LogId),
    /// A newer vote is known.
    HigherVote(Vote),
}

/// A snapshot's first frame. Like the chunks that follow, it has a checksum of its own: what it says becomes durable.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SnapshotBegin {
    vote: Vote,
    meta: SnapshotMeta,
    crc: u32,
}

impl SnapshotBegin {
    /// For a snapshot of `meta` from the leader with `vote`.
    pub fn new(vote: Vote, meta: SnapshotMeta) -> Self {
        let crc = Self::checksum(&vote, &meta);
        Self { vote, meta, crc }
    }

    fn checksum(vote: &Vote, meta: &SnapshotMeta) -> u32 {
        let mut bytes = BytesMut::new();
        frame::put_postcard(&mut bytes, &(vote, meta));
        crc32c::crc32c(&bytes)
    }

    /// What the snapshot is of, whether or not it came as it was sent: for watchers.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// What it says, if it came as it was sent.
    pub fn check(self) -> Result<(Vote, SnapshotMeta), BadMessage> {
        if self.crc != Self::checksum(&self.vote, &self.meta) {
            return Err(BadMessage::Checksum);
        }
        Ok((self.vote, self.meta))
    }
}

/// Why bytes are no message. A peer of another version, or damage in flight.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadMessage {
    #[error("a head does not decode: {0}")]
    Head(#[from] postcard::Error),
    #[error("an entry's body is cut off")]
    Truncated,
    #[error("a snapshot's first frame does not match its checksum")]
    Checksum,
}

fn head_of(entry: &Entry) -> (EntryHead, Bytes) {
    let (kind, body) = match &entry.payload {
        EntryPayload::Blank => (EntryKind::Blank, Bytes::new()),
        EntryPayload::Normal(EntryBody(body)) => (EntryKind::Normal, body.clone()),
        EntryPayload::Membership(membership) => (EntryKind::Membership(membership.clone()), Bytes::new()),
    };
    (EntryHead { id: entry.log_id, kind, body: body.len() as u32 }, body)
}

fn entry_of(head: EntryHead, body: Bytes) -> Entry {
    let payload: Payload = match head.kind {
        EntryKind::Blank => EntryPayload::Blank,
        EntryKind::Normal => EntryPayload::Normal(EntryBody(body)),
        EntryKind::Membership(membership) => EntryPayload::Membership(membership),
    };
    Entry { log_id: head.id, payload }
}

/// An entry as the log keeps it.
pub(super) fn to_log(entry: &Entry) -> LogEntry {
    let (head, body) = head_of(entry);
    let mut bytes = BytesMut::with_capacity(16);
    frame::put_postcard(&mut bytes, &head);
    LogEntry { index: entry.log_id.index, head: bytes.freeze(), body }
}

/// An entry as the log kept it.
pub(super) fn from_log(entry: LogEntry) -> Result<Entry, BadMessage> {
    let (head, _) = frame::take::<EntryHead>(&entry.head)?;
    Ok(entry_of(head, entry.body))
}

/// The id of an entry in the log.
pub(super) fn log_id_of(entry: &LogEntry) -> Result<LogId, BadMessage> {
    Ok(frame::take::<EntryHead>(&entry.head)?.0.id)
}

/// Appends an append's frame.
pub(super) fn put_append<W: World>(buffer: &mut BytesMut, request: &AppendEntriesRequest<TypeConfig<W>>) {
    let (entries, bodies): (Vec<_>, Vec<_>) = request.entries.iter().map(head_of).unzip();
    let head =
        AppendHead { vote: request.vote, previous: request.prev_log_id, committed: request.leader_commit, entries };
    buffer.reserve(64 + bodies.iter().map(|b| b.len() + 24).sum::<usize>());
    let start = buffer.len();
    frame::put(buffer, peer::APPEND, &head, &[]);
    for body in &bodies {
        buffer.extend_from_slice(body);
    }
    let length = (buffer.len() - start - 4) as u32;
    buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// An append out of its frame's payload, whose buffer the bodies share.
pub(super) fn take_append<W: World>(payload: &Bytes) -> Result<AppendEntriesRequest<TypeConfig<W>>, BadMessage> {
    let (head, rest) = frame::take::<AppendHead>(payload)?;
    let mut rest = payload.slice(payload.len() - rest.len()..);
    let mut entries = Vec::with_capacity(head.entries.len());
    for entry in head.entries {
        let bytes = entry.body as usize;
        if bytes > rest.len() {
            return Err(BadMessage::Truncated);
        }
        let body = rest.split_to(bytes);
        entries.push(entry_of(entry, body));
    }
    Ok(AppendEntriesRequest { vote: head.vote, prev_log_id: head.previous, entries, leader_commit: head.committed })
}
