//! The other end of [`super::network`]: a connection from another server, past its hello.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use futures::StreamExt;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, TransferLeaderRequest, VoteRequest};
use parking_lot::Mutex;

use super::link::{FrameReader, Link, take};
use super::messages::{self, AppendReply, SnapshotBegin};
use super::state_machine::{Office, SnapshotData};
use super::types::{Raft, Snapshot, SnapshotMeta, TypeConfig, Vote};
use crate::storage::{SealedSnapshot, is_full};
use crate::wire::{frame, peer};
use crate::world::{Event, Instant, World};

/// Appends that may wait for the log on one connection.
const PIPELINE: usize = 64;

/// A connection that brought nothing for so long is dropped: it may hang half-open.
const IDLE: Duration = Duration::from_secs(60);
/// How long the next part of a snapshot may take; a leader that died sends none.
const CHUNK: Duration = Duration::from_secs(10);
/// How often it is said that a snapshot is being taken in.
const GOES_ON: Duration = Duration::from_secs(1);

/// When a leader was heard of last, and what it said was committed.
#[derive(Debug, Default)]
pub struct Heard {
    last: Mutex<Option<Instant>>,
    committed: AtomicU64,
}

impl Heard {
    /// A leader's append was accepted.
    pub fn note<W: World>(&self) {
        *self.last.lock() = Some(W::now());
    }

    /// A leader says that entries up to this index are committed.
    fn note_committed(&self, index: u64) {
        self.committed.fetch_max(index, Ordering::Relaxed);
    }

    /// The index up to which entries are committed, as far as leaders said.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// When that was last.
    pub fn last(&self) -> Option<Instant> {
        *self.last.lock()
    }
}

/// What is asked before a request is let through to openraft.
pub struct Gates<R, M> {
    /// Whether the disk can take so many bytes of entries, of which some may be committed already: if not, they are refused
    /// before openraft sees them, since it takes a failed append for its end.
    pub has_room: R,
    /// Whether the other end still belongs to the cluster. One that does not is to hear so, which it does when it
    /// connects again.
    pub is_member: M,
}

/// Serves appends, heartbeats, votes and transfers until the connection ends.
///
/// # Errors
/// The connection's, or that the local Raft stopped.
pub async fn serve_raft<W: World>(
    raft: Raft<W>,
    link: Link,
    heard: Arc<Heard>,
    gates: Gates<impl Fn(usize, bool) -> bool + Send + 'static, impl Fn() -> bool + Send + 'static>,
) -> io::Result<()> {
    let Link { mut reader, mut writer } = link;
    let (requests, waiting) = tokio::sync::mpsc::channel::<AppendEntriesRequest<TypeConfig<W>>>(PIPELINE);
    let waiting = futures::stream::unfold(waiting, |mut waiting| async { waiting.recv().await.map(|r| (r, waiting)) });
    let mut replies = Box::pin(raft.stream_append(waiting));
    let mut out = BytesMut::new();
    // A request that waits for its place in the pipeline. No frame is read before it has one, but replies go on: it is
    // they that make room.
    let mut next: Option<AppendEntriesRequest<TypeConfig<W>>> = None;
    loop {
        tokio::select! {
            biased;
            reply = replies.next() => {
                let Some(reply) = reply else { return Ok(()) };
                let reply = match reply.map_err(io::Error::other)? {
                    Ok(id) => {
                        heard.note::<W>();
                        AppendReply::Appended(id)
                    }
                    Err(StreamAppendError::Conflict(id)) => AppendReply::Conflict(id),
                    Err(StreamAppendError::HigherVote(vote)) => AppendReply::HigherVote(vote),
                };
                frame::put(&mut out, peer::APPEND_REPLY, &reply, &[]);
                writer.send(&mut out).await?;
                if !matches!(reply, AppendReply::Appended(_)) {
                    // The stream has ended with it; what the leader pipelined behind it is void.
                    return Ok(());
                }
            }
            room = requests.reserve(), if next.is_some() => {
                let (Ok(room), Some(request)) = (room, next.take()) else { return Ok(()) };
                room.send(request);
            }
            () = W::sleep(IDLE) => return Ok(()),
            frame = reader.next(), if next.is_none() => {
                let Some(frame) = frame? else { return Ok(()) };
                if frame.kind != peer::APPEND && !(gates.is_member)() {
                    return Ok(());
                }
                match frame.kind {
                    peer::APPEND => {
                        let request = messages::take_append::<W>(&frame.payload).map_err(invalid)?;
                        heard.note_committed(request.leader_commit.map_or(0, |id| id.index));
                        let before = request.prev_log_id.map_or(0, |id| id.index);
                        let committed = request.leader_commit.is_some_and(|id| id.index > before);
                        if !request.entries.is_empty() && !(gates.has_room)(frame.payload.len(), committed) {
                            let text = "its disk takes nothing now".to_owned();
                            frame::put(&mut out, peer::UNAVAILABLE, &text, &[]);
                            return writer.send(&mut out).await;
                        }
                        next = Some(request);
                    }
                    peer::VOTE => {
                        let request: VoteRequest<TypeConfig<W>> = take(&frame.payload)?;
                        let answer = raft.vote(request).await.map_err(io::Error::other)?;
                        writer.put(peer::VOTE_REPLY, &answer).await?;
                    }
                    peer::PRE_VOTE => {
                        let request: VoteRequest<TypeConfig<W>> = take(&frame.payload)?;
                        let answer = raft.pre_vote(request).await.map_err(io::Error::other)?;
                        writer.put(peer::VOTE_REPLY, &answer).await?;
                    }
                    peer::TRANSFER => {
                        let request: TransferLeaderRequest<TypeConfig<W>> = take(&frame.payload)?;
                        let answer = raft.handle_transfer_leader(request).await.map_err(io::Error::other)?;
                        writer.put(peer::TRANSFER_REPLY, &answer).await?;
                    }
                    kind => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of kind {kind}"))),
                }
            }
        }
    }
}

/// Receives one snapshot and has it installed.
///
/// # Errors
/// The connection's or the disk's; the leader tries again.
pub async fn serve_snapshot<W: World>(
    raft: Raft<W>,
    office: Arc<Office<W>>,
    mut link: Link,
    heard: Arc<Heard>,
) -> io::Result<()> {
    let begin: SnapshotBegin = W::timeout(CHUNK, link.answer(peer::SNAPSHOT_BEGIN)).await??;
    let (vote, meta) = begin.check().map_err(invalid)?;
    let Link { mut reader, mut writer } = link;
    let taking_in = take_in::<W>(&raft, &office, &mut reader, &heard, vote, meta);
    futures::pin_mut!(taking_in);
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut taking_in => break answer?,
            () = W::sleep(GOES_ON) => {
                // If the other end is gone: what openraft has been given it installs none the less.
                let _ = writer.put(peer::SNAPSHOT_GOES_ON, &()).await;
            }
        }
    };
    writer.put(peer::SNAPSHOT_REPLY, &answer).await
}

async fn take_in<W: World>(
    raft: &Raft<W>,
    office: &Office<W>,
    reader: &mut FrameReader,
    heard: &Heard,
    vote: Vote,
    meta: SnapshotMeta,
) -> io::Result<Vote> {
    let _receiving = office.receiving.lock().await;
    W::observe(|| Event {
        kind: "snapshot.receiving",
        who: None,
        detail: format!("index={}", meta.last_log_id.map_or(0, |id| id.index)),
    });
    let sealed = match receive_snapshot(office, reader, heard, &meta).await {
        Err(error) if is_full(&error) => {
            tracing::warn!(%error, "no room for a snapshot: it is to be sent again");
            office.give_up_receiving().await;
            return Err(error);
        }
        sealed => sealed?,
    };
    let snapshot: Snapshot<W> = Snapshot { meta, snapshot: SnapshotData::Received(sealed, PhantomData) };
    Ok(raft.install_full_snapshot(vote, snapshot).await.map_err(io::Error::other)?.vote)
}

/// Its chunks, written down beside the checkpoint and synced.
async fn receive_snapshot<W: World>(
    office: &Office<W>,
    reader: &mut FrameReader,
    heard: &Heard,
    meta: &SnapshotMeta,
) -> io::Result<SealedSnapshot> {
    let mut writer = office.receive().await?;
    loop {
        let Some(frame) = W::timeout(CHUNK, reader.next()).await?? else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        heard.note::<W>();
        match frame.kind {
            peer::SNAPSHOT_CHUNK => {
                let written = W::blocking(move || writer.chunk(&frame.payload).map(|()| writer)).await;
                writer = written.map_err(io::Error::from)?;
            }
            peer::SNAPSHOT_END => break,
            kind => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of kind {kind}"))),
        }
    }
    if !writer.is_complete() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a snapshot ended before its last chunk"));
    }
    office.seal(writer, meta).await
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
