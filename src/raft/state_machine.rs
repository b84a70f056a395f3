//! openraft's state machine: the post office in memory, a checkpoint behind it.
//!
//! Entries are applied in memory. From time to time what has changed since is taken as one consistent cut, cheaply and
//! under the office's lock, and written to the checkpoint beside the traffic. The checkpoint, with the log index that
//! it covers, **is** the snapshot: what is sent to a server that fell behind is a read transaction of it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::builder::Builder;
use super::trouble::Trouble;
use super::types::{EntryBody, LogId, Membership, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};
use crate::post_office::{Answer, BatchVerdict, Effect, PostOffice};
use crate::storage::{Checkpoint, SealedSnapshot, SnapshotReader, SnapshotWriter, is_full};
use crate::wire::client::SendFailure;
use crate::wire::{Incarnation, Name, Quotas, SendOutcome, SendRefusal, frame};
use crate::world::{Disk, Event, World};

/// Who is told what applying did. Called with the office's lock held: it may lock its own state, and must not wait.
pub trait Listener: Send + Sync + 'static {
    /// One effect of an entry.
    fn effect(&self, effect: Effect<'_>);
    /// The entries that were there are applied: deliver and send what they brought.
    fn applied(&self, office: &PostOffice, index: u64);
    /// The state was replaced by a snapshot: the effects in between will never be told.
    fn installed(&self, office: &PostOffice);
}

/// The applied state and where it is kept, shared by openraft's tasks and the server's.
pub struct Office<W: World> {
    /// The state in memory.
    pub post_office: Mutex<PostOffice>,
    pub(super) position: Mutex<Applied>,
    /// What is durable of it.
    pub checkpoint: Checkpoint,
    /// What the disk did to it or to the log.
    pub trouble: Trouble,
    pub(super) disk: Arc<dyn Disk>,
    /// Counts the cuts that were taken to be written to the checkpoint.
    pub(super) cuts: AtomicU64,
    /// One flush or installation at a time.
    pub(super) writing: tokio::sync::Mutex<()>,
    /// One snapshot is received at a time.
    pub(super) receiving: tokio::sync::Mutex<()>,
    listener: Arc<dyn Listener>,
    pub(super) body_memory_bytes: u64,
    world: std::marker::PhantomData<W>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Applied {
    pub id: Option<LogId>,
    pub membership: StoredMembership,
    /// Counts installed snapshots: changes taken before one must not be written after it.
    pub generation: u64,
}

/// What a checkpoint is of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointMeta {
    /// The last entry applied.
    pub applied: Option<LogId>,
    /// The membership as of then.
    pub membership: StoredMembership,
}

impl CheckpointMeta {
    /// Out of the checkpoint.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`].
    pub fn decode(bytes: &[u8]) -> io::Result<Self> {
        super::link::take(bytes)
    }

    /// For the checkpoint.
    pub fn encode(&self) -> Bytes {
        let mut bytes = bytes::BytesMut::new();
        frame::put_postcard(&mut bytes, self);
        bytes.freeze()
    }
}

/// A snapshot to send, or one that was received.
pub enum SnapshotData<W: World> {
    /// A read transaction of the checkpoint.
    Reader(SnapshotReader),
    /// All of it is durable, and it has not taken the checkpoint's place yet.
    Received(SealedSnapshot, std::marker::PhantomData<W>),
}

impl<W: World> Office<W> {
    /// The state as the checkpoint has it; what the log has beyond is applied by openraft.
    ///
    /// # Errors
    /// Whatever stands in the way of reading the checkpoint.
    pub fn open(
        checkpoint: Checkpoint,
        post_office: PostOffice,
        disk: Arc<dyn Disk>,
        listener: Arc<dyn Listener>,
        body_memory_bytes: u64,
    ) -> io::Result<Self> {
        let meta = match checkpoint.meta()? {
            Some(bytes) => CheckpointMeta::decode(&bytes)?,
            None => CheckpointMeta::default(),
        };
        let position = Applied { id: meta.applied, membership: meta.membership, generation: 0 };
        Ok(Self {
            post_office: Mutex::new(post_office),
            position: Mutex::new(position),
            checkpoint,
            trouble: Trouble::default(),
            disk,
            cuts: AtomicU64::new(0),
            writing: tokio::sync::Mutex::new(()),
            receiving: tokio::sync::Mutex::new(()),
            listener,
            body_memory_bytes,
            world: std::marker::PhantomData,
        })
    }

    /// The last applied entry and the membership as of then.
    pub fn applied(&self) -> (Option<LogId>, StoredMembership) {
        let position = self.position.lock();
        (position.id, position.membership.clone())
    }

    /// Where the state stands, for whoever watches: equal on all servers at an index. Costs a look at everything.
    fn describe(&self, id: LogId) -> String {
        let digest = self.post_office.lock().digest();
        format!("index={} term={} digest={digest:016x}", id.index, id.leader_id)
    }

    /// Who votes, who learns and who is listed, for whoever watches.
    fn describe_servers(&self, office: &PostOffice, id: LogId) -> Event {
        let membership = self.position.lock().membership.membership().clone();
        let list = |names: Vec<&Name>| names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(",");
        let names = |votes: bool| {
            let of = |id: &Incarnation| membership.voter_ids().any(|voter| voter == *id) == votes;
            list(membership.nodes().filter(|(id, _)| of(id)).map(|(_, member)| &member.name).collect())
        };
        let (voters, learners, listed) = (names(true), names(false), list(office.servers().map(|s| s.0).collect()));
        let detail = format!("index={} voters={voters} learners={learners} listed={listed}", id.index);
        Event { kind: "servers", who: None, detail }
    }

    /// How many times the state was cut to be written to the checkpoint.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }

    /// A place on disk for a snapshot that is about to be received.
    ///
    /// # Errors
    /// The disk's.
    pub async fn receive(&self) -> io::Result<SnapshotWriter> {
        let checkpoint = self.checkpoint.clone();
        Ok(W::blocking(move || checkpoint.snapshot_writer()).await?)
    }

    /// A snapshot that was received is made durable: what needs room is done before openraft has it, which takes a full
    /// disk for the end.
    ///
    /// # Errors
    /// The disk is full, so that it can be sent again when there is room; any other error of the disk ends the server.
    pub(super) async fn seal(&self, writer: SnapshotWriter, meta: &SnapshotMeta) -> io::Result<SealedSnapshot> {
        let meta = CheckpointMeta { applied: meta.last_log_id, membership: meta.last_membership.clone() }.encode();
        let sealed = W::blocking(move || writer.seal(&meta)).await.map_err(io::Error::from);
        match sealed {
            Err(error) if is_full(&error) => Err(error),
            sealed => self.trouble.note(sealed),
        }
    }

    /// A snapshot found no room. What has come of it takes up the little that there may be.
    pub(super) async fn give_up_receiving(&self) {
        W::reached("a snapshot found no room");
        let checkpoint = self.checkpoint.clone();
        if let Err(error) = W::blocking(move || checkpoint.remove_unfinished()).await {
            tracing::warn!(%error, "cannot remove what has come of a snapshot");
        }
    }

    pub(super) fn snapshot_of(checkpoint: &Checkpoint) -> io::Result<Option<Snapshot<W>>> {
        let reader = checkpoint.snapshot()?;
        let Some(meta) = reader.meta()? else { return Ok(None) };
        let meta = CheckpointMeta::decode(&meta)?;
        let meta = SnapshotMeta { last_log_id: meta.applied, last_membership: meta.membership };
        Ok(Some(Snapshot { meta, snapshot: SnapshotData::Reader(reader) }))
    }
}

/// openraft's handle on an [`Office`]; clones share it.
pub struct StateMachine<W: World>(pub Arc<Office<W>>);

impl<W: World> RaftStateMachine<TypeConfig<W>> for StateMachine<W> {
    type SnapshotData = SnapshotData<W>;
    type SnapshotBuilder = Builder<W>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok(self.0.applied())
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig<W>>>> + Unpin + OptionalSend,
    {
        let office = &*self.0;
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let id = entry.log_id;
            {
                let mut post_office = office.post_office.lock();
                let mut servers_changed = false;
                match entry.payload {
                    EntryPayload::Blank => {}
                    EntryPayload::Normal(EntryBody(body)) => {
                        let repeats = post_office.repeats();
                        let mut told = W::wants_entry(id.index).then(String::new);
                        let applied = post_office.apply_entry(id.index, &body, &mut |effect| {
                            if let Some(told) = &mut told {
                                told.push_str(&format!("\n{effect:?}"));
                            }
                            servers_changed |= effect.changes_servers();
                            place_of(&effect).into_iter().for_each(W::reached);
                            office.listener.effect(effect);
                        });
                        applied.map_err(|e| {
                            io::Error::new(io::ErrorKind::InvalidData, format!("entry {}: {e}", id.index))
                        })?;
                        if let Some(told) = told {
                            W::observe(|| describe_entry(id.index, &body, &told));
                        }
                        if post_office.repeats() > repeats {
                            W::reached("a repeated send got its first outcome");
                        }
                    }
                    EntryPayload::Membership(membership) => {
                        if membership.get_joint_config().len() > 1 {
                            W::reached("two memberships at once");
                        }
                        let quotas = membership.nodes().find_map(|(_, member)| member.quotas);
                        W::observe(|| describe_founding(post_office.applied(), quotas, &membership));
                        post_office.founded_by(members_of(&membership), quotas);
                        office.position.lock().membership = StoredMembership::new(Some(id), membership);
                        servers_changed = true;
                    }
                }
                office.position.lock().id = Some(id);
                office.listener.applied(&post_office, id.index);
                if servers_changed {
                    W::observe(|| office.describe_servers(&post_office, id));
                }
            }
            W::observe(|| Event { kind: "apply", who: None, detail: office.describe(id) });
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder<W>> {
        let builder = self.0.cut();
        // A checkpoint that finds no room would end Raft. It is put off instead: the log keeps what it would have had.
        if !force && !builder.finds_room().await {
            builder.put_off();
            return None;
        }
        Some(builder)
    }

    async fn get_snapshot_builder(&mut self) -> Builder<W> {
        self.0.cut()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData<W>) -> io::Result<()> {
        let SnapshotData::Received(sealed, _) = snapshot else {
            // openraft installs the current snapshot at a start if it is ahead of what is applied. Ours is never:
            // the state machine starts out from it.
            return Ok(());
        };
        let office = self.0.clone();
        let _writing = office.writing.lock().await;
        let meta = CheckpointMeta { applied: meta.last_log_id, membership: meta.last_membership.clone() };
        let meta_id = meta.applied;
        let checkpoint = office.checkpoint.clone();
        let installed = W::blocking(move || {
            sealed.install()?;
            load(&checkpoint)
        });
        let post_office = office.trouble.note(installed.await)?;
        let mut current = office.post_office.lock();
        let mut position = office.position.lock();
        *current = post_office;
        *position = Applied { id: meta.applied, membership: meta.membership, generation: position.generation + 1 };
        drop(position);
        office.listener.installed(&current);
        if let Some(id) = meta_id {
            W::observe(|| Event { kind: "snapshot.installed", who: None, detail: format!("index={}", id.index) });
            W::observe(|| office.describe_servers(&current, id));
        }
        drop(current);
        W::reached("a snapshot installed");
        if let Some(id) = meta_id {
            let detail = format!("index={} term={}", id.index, id.leader_id);
            W::observe(|| Event { kind: "install", who: None, detail });
            W::observe(|| Event { kind: "apply", who: None, detail: office.describe(id) });
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot<W>>> {
        self.0.trouble.note(Office::snapshot_of(&self.0.checkpoint))
    }
}

/// Reads a post office out of a checkpoint. Blocks.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] for damage, and the disk's.
pub fn load(checkpoint: &Checkpoint) -> io::Result<PostOffice> {
    // One record after the other: all of them at once may be far larger than memory.
    let mut failed = None;
    let reader = checkpoint.snapshot()?;
    let records = reader.records(None)?.map_while(|record| record.map_err(|error| failed = Some(error)).ok());
    let loaded = PostOffice::load(records);
    if let Some(error) = failed {
        return Err(error.into());
    }
    let mut office = loaded.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    // A checkpoint of a build that could not add servers lists none.
    if let Some(meta) = reader.meta()? {
        office.founded_by(members_of(CheckpointMeta::decode(&meta)?.membership.membership()), None);
    }
    Ok(office)
}

/// The rarer of what entries bring about, for whoever watches.
fn place_of(effect: &Effect<'_>) -> Option<&'static str> {
    Some(match effect {
        Effect::Batch { verdict: BatchVerdict::Repeat, .. } => "a batch repeated",
        Effect::Batch { verdict: BatchVerdict::Gap { .. }, .. } => "a batch after a gap",
        Effect::Sent { result: Ok(SendOutcome::Refused(SendRefusal::NoSuchClient)), .. } => "a send to nobody refused",
        Effect::Sent { result: Ok(SendOutcome::Refused(SendRefusal::InboxFull)), .. } => "a full inbox refused a send",
        Effect::Sent { result: Err(SendFailure::Gap { .. }), .. } => "a send after a gap",
        Effect::Sent { result: Err(SendFailure::StreamClosed), .. } => "a send on a closed stream",
        Effect::Sent { result: Err(SendFailure::AlreadyAnswered), .. } => "a send whose answer was confirmed",
        Effect::Sent { result: Err(SendFailure::WindowFull { .. }), .. } => "a full window refused a send",
        Effect::Answered { answer: Answer::Refused(_), .. } => "a request refused",
        Effect::Answered { answer: Answer::Enrolled { .. }, .. } => "an incarnation given",
        Effect::Answered { answer: Answer::Detached, .. } => "a reader detached",
        Effect::Fenced { by: Some(_), .. } => "a reader fenced",
        Effect::Fenced { by: None, .. } => "a reader's registration ended",
        Effect::StreamClosed { .. } => "a stream closed",
        Effect::Sent { result: Ok(SendOutcome::Reached { full: 1.., .. }), .. } => "a full inbox was passed over",
        Effect::Sent { result: Ok(SendOutcome::Reached { .. }), .. } => "a message went to many",
        Effect::Sent { result: Ok(SendOutcome::Refused(SendRefusal::Recipients(_))), .. } => "a recipient was missing",
        Effect::Delivered { .. } => "a delivered receipt told",
        Effect::Presence(_) => return None,
        Effect::Withdrawn { dropped: true, .. } => "a message made room for a later one",
        Effect::Withdrawn { .. } => "a message expired",
        Effect::Sent { result: Ok(SendOutcome::Scheduled(_)), .. } => "a message was accepted for later",
        _ => return None,
    })
}

/// An entry and what came of it, a line for each effect, for whoever watches.
fn describe_entry(index: u64, entry: &Bytes, told: &str) -> Event {
    let detail = format!("index={index} entry={}{told}", STANDARD.encode(entry));
    Event { kind: "entry", who: None, detail }
}

/// Who founds a cluster with what, for whoever watches. `applied`: the last entry that the state has already.
fn describe_founding(applied: u64, quotas: Option<Quotas>, membership: &Membership) -> Event {
    let mut detail = format!("applied={applied}");
    if let Some(quotas) = quotas {
        let mut bytes = bytes::BytesMut::new();
        frame::put_postcard(&mut bytes, &quotas);
        detail.push_str(&format!(" quotas={}", STANDARD.encode(&bytes)));
    }
    for (incarnation, name, address) in members_of(membership) {
        detail.push_str(&format!("\n{incarnation} {name} {address}"));
    }
    Event { kind: "founded", who: None, detail }
}

fn members_of(membership: &Membership) -> impl Iterator<Item = (Incarnation, Name, String)> {
    membership.nodes().map(|(incarnation, member)| (*incarnation, member.name.clone(), member.address.clone()))
}
