//! A backup, made for a client that carries it away.
//!
//! What has to be in it is everything that was accepted before it was asked for: a barrier says up to where that is, and
//! the first checkpoint that reaches so far is what is sent. It is read as a snapshot is, a chunk at a time and only when
//! the client asks for more, so that a client that is slow costs no memory. It costs disk: the checkpoint keeps what the
//! backup still has to read. So there are few at a time, and one that is too slow ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::Abort;
use super::hub::SessionId;
use super::node::Node;
use crate::backup::format::{Encoder, Header};
use crate::limits;
use crate::post_office::{RECORDS_VERSION, standing_key, standing_of};
use crate::raft::CheckpointMeta;
use crate::storage::{Checkpoint, SnapshotReader, StorageError};
use crate::wire::client::{Reply, Request};
use crate::wire::{Nonce, Refusal};
use crate::world::World;

/// How long the barrier may take.
const BARRIER: Duration = Duration::from_secs(4);
/// How long a client waits before it is told that the backup is not ready yet.
const NOT_YET: Duration = Duration::from_secs(1);
/// How often to look for the checkpoint.
const LOOK: Duration = Duration::from_millis(20);
/// How long the checkpoint may take.
const READY: Duration = Duration::from_secs(120);
/// Requests of one client that may wait. It asks for one part at a time.
const WAITING: usize = 4;

/// How many backups a server makes.
#[derive(Debug, Default)]
pub(super) struct Backups(Arc<AtomicUsize>);

/// One of them.
struct Place(Arc<AtomicUsize>);

impl Backups {
    fn take(&self, limit: usize) -> Option<Place> {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < limit).then_some(n + 1));
        taken.ok().map(|_| Place(self.0.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where a session's requests for backups go. The task behind it ends with the session.
#[derive(Default)]
pub(super) struct Desk(Mutex<Option<(mpsc::Sender<Request>, Abort<()>)>>);

impl Desk {
    /// Takes a request; the answer goes to the session.
    pub fn ask<W: World>(&self, node: &Arc<Node<W>>, session: SessionId, request: Request) {
        let mut task = self.0.lock();
        let (requests, _) = task.get_or_insert_with(|| {
            let (sender, requests) = mpsc::channel(WAITING);
            (sender, Abort(W::spawn(serve(node.clone(), session, requests))))
        });
        if let Err(error) = requests.try_send(request) {
            let (Request::Backup { nonce } | Request::ReadBackup { nonce, .. }) = error.into_inner() else { return };
            let refusal = ended("its client asks for more before it has what it asked for");
            tell(node, session, &Reply::Refused { nonce: Some(nonce), refusal }, &[]);
        }
    }
}

/// A backup that was begun.
struct Begun {
    /// The nonce by which it was.
    id: Nonce,
    /// What has to be in it.
    least: u64,
    /// When the checkpoint is to be there.
    ready_by: crate::world::Instant,
    making: Option<Making>,
    _place: Place,
}

/// A backup that is read.
struct Making {
    reader: SnapshotReader,
    checkpoint: Checkpoint,
    /// How large the checkpoint's file was.
    size: u64,
    /// `None` when the end is in `ready`.
    encoder: Option<Encoder>,
    after: Option<Vec<u8>>,
    complete: bool,
    /// What has been made and not been sent.
    ready: Bytes,
    /// What has been sent, in bytes.
    sent: u64,
}

async fn serve<W: World>(node: Arc<Node<W>>, session: SessionId, mut requests: mpsc::Receiver<Request>) {
    let mut begun: Option<Begun> = None;
    loop {
        let request = if begun.is_none() {
            requests.recv().await
        } else {
            match W::timeout(limits::BACKUP_IDLE, requests.recv()).await {
                Ok(request) => request,
                Err(_) => {
                    tracing::warn!("a backup was not asked for any more: it ends");
                    begun = None;
                    continue;
                }
            }
        };
        match request {
            None => return,
            Some(Request::Backup { nonce }) => {
                begun = None;
                let reply = match begin(&node, nonce).await {
                    Ok(new) => {
                        begun = Some(new);
                        Reply::BackupBegun { nonce }
                    }
                    Err(refusal) => Reply::Refused { nonce: Some(nonce), refusal },
                };
                tell(&node, session, &reply, &[]);
            }
            Some(Request::ReadBackup { nonce, backup, offset }) => {
                match read(&node, begun.as_mut().filter(|b| b.id == backup), offset).await {
                    Ok((bytes, last)) => {
                        tell(&node, session, &Reply::BackupPart { nonce, offset, last }, &bytes);
                        if last {
                            W::reached("a backup made");
                            begun = None;
                        }
                    }
                    Err(refusal) => {
                        tracing::warn!(%refusal, "a backup ends");
                        begun = None;
                        tell(&node, session, &Reply::Refused { nonce: Some(nonce), refusal }, &[]);
                    }
                }
            }
            Some(_) => {}
        }
    }
}

fn tell<W: World>(node: &Node<W>, session: SessionId, reply: &Reply, bytes: &[u8]) {
    let mut books = node.hub.lock();
    books.reply_with(session, reply, bytes);
    books.wake();
}

fn ended(why: impl Into<String>) -> Refusal {
    Refusal::BackupEnded { why: why.into() }
}

/// Finds out what has to be in it.
async fn begin<W: World>(node: &Node<W>, id: Nonce) -> Result<Begun, Refusal> {
    let limit = node.settings.backups;
    let place = node.backups.take(limit).ok_or(Refusal::TooManyBackups { limit: limit as u64 })?;
    // Whatever anybody was told before now is applied here once this batch is.
    match W::timeout(BARRIER, node.hub.barrier()).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) | Err(_) => return Err(Refusal::NoLeader),
    }
    let least = node.office.applied().0.map_or(0, |id| id.index);
    tracing::info!(least, "a backup begins");
    Ok(Begun { id, least, ready_by: W::now() + READY, making: None, _place: place })
}

/// The part at `offset`, and whether it is the last one. No bytes if there is none yet.
async fn read<W: World>(node: &Arc<Node<W>>, begun: Option<&mut Begun>, offset: u64) -> Result<(Bytes, bool), Refusal> {
    let begun = begun.ok_or_else(|| ended("this server knows nothing of it, or it was not asked for in a minute"))?;
    if begun.making.is_none() {
        let waits_until = W::now() + NOT_YET;
        begun.making = loop {
            if let Some(making) = checkpoint_at(node, begun.least).await? {
                break Some(making);
            }
            if W::now() >= begun.ready_by {
                return Err(ended(format!("the state could not be written to the checkpoint within {READY:?}")));
            }
            if W::now() >= waits_until {
                return Ok((Bytes::new(), false));
            }
            W::sleep(LOOK).await;
        };
    }
    let Some(making) = &mut begun.making else { return Ok((Bytes::new(), false)) };
    if offset != making.sent {
        return Err(ended(format!("{offset} was asked for where {} comes next", making.sent)));
    }
    making.go_on(node).await?;
    let part = making.ready.split_to(making.ready.len().min(limits::BACKUP_PART_BYTES));
    making.sent += part.len() as u64;
    Ok((part, making.encoder.is_none() && making.ready.is_empty()))
}

/// The checkpoint, if it reaches as far as `least`. If not, one is asked for.
async fn checkpoint_at<W: World>(node: &Arc<Node<W>>, least: u64) -> Result<Option<Making>, Refusal> {
    let checkpoint = node.office.checkpoint.clone();
    let (cluster, server, made_unix_ms) = (node.me.cluster, node.me.name.clone(), W::unix_millis());
    let looked = W::blocking(move || {
        let reader = checkpoint.snapshot()?;
        let meta = reader.meta()?.map(|bytes| CheckpointMeta::decode(&bytes)).transpose()?;
        let Some(applied) = meta.and_then(|meta| meta.applied).filter(|id| id.index >= least) else {
            return Ok(None);
        };
        let Some(standing) = reader.get(&standing_key())? else { return Ok(None) };
        let standing = standing_of(&standing).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        let size = checkpoint.bytes_on_disk()?;
        Ok::<_, StorageError>(Some((reader, checkpoint, size, applied.index, standing.time)))
    });
    let found = looked.await.map_err(failed)?;
    let Some((reader, checkpoint, size, applied, time)) = found else {
        if node.log.disk_full() {
            return Err(Refusal::DiskFull);
        }
        // Nothing comes of it while one is being written, which may end before `least`: it is asked for until it is there.
        return match node.raft.trigger().snapshot().await {
            Ok(()) => Ok(None),
            Err(_) => Err(Refusal::Stopping),
        };
    };
    let header = Header {
        cluster,
        server,
        applied,
        time,
        made_unix_ms,
        records_version: u32::from(RECORDS_VERSION),
        software: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let (encoder, ready) = Encoder::begin(&header);
    Ok(Some(Making { reader, checkpoint, size, encoder: Some(encoder), after: None, complete: false, ready, sent: 0 }))
}

impl Making {
    /// Makes the next part, if the one before is sent.
    async fn go_on<W: World>(&mut self, node: &Arc<Node<W>>) -> Result<(), Refusal> {
        if !self.ready.is_empty() {
            return Ok(());
        }
        let Some(encoder) = &mut self.encoder else { return Ok(()) };
        if self.complete {
            self.ready = self.encoder.take().map(Encoder::end).unwrap_or_default();
            return Ok(());
        }
        let (reader, checkpoint, after) = (self.reader.clone(), self.checkpoint.clone(), self.after.take());
        let chunk = W::blocking(move || {
            let chunk = reader.chunk(after.as_deref(), limits::BACKUP_CHUNK_BYTES)?;
            Ok((chunk, checkpoint.bytes_on_disk()?))
        });
        let (chunk, size) = chunk.await.map_err(failed)?;
        let grown = size.saturating_sub(self.size);
        if grown > limits::BACKUP_GROWTH_BYTES.max(self.size) || node.log.disk_full() {
            W::reached("a backup that was too slow");
            return Err(ended(format!(
                "it is read so slowly that the checkpoint has grown by {grown} bytes meanwhile; write it to a faster disk"
            )));
        }
        self.ready = encoder.chunk(&chunk);
        self.complete = chunk.end;
        self.after = chunk.last_key;
        Ok(())
    }
}

/// Damage the checkpoint knows of by itself, and the node of that; what else stands in the way is the backup's trouble.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn failed(error: StorageError) -> Refusal {
    ended(error.to_string())
}
