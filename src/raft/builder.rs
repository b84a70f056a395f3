//! Checkpoints: a consistent cut of the state is taken under the office's lock, and written beside the traffic.
//!
//! Raft asks for some of them, calls them snapshots, and cleans the log up to where they end. Others are taken between those
//! ([`Office::checkpoint`]). Either may be taken while the other is being written, so cuts are numbered: the changes of one
//! that is not yet durable are in the next one, too, and only the latest counts.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use openraft::RaftSnapshotBuilder;

use super::state_machine::{Applied, CheckpointMeta, Office, SnapshotData};
use super::types::{Snapshot, TypeConfig};
use crate::post_office::Change;
use crate::storage::is_full;
use crate::world::World;

impl<W: World> Office<W> {
    /// What has changed since the last checkpoint, to be written to it. An earlier cut that was not written is void.
    pub(super) fn cut(self: &Arc<Self>) -> Builder<W> {
        let mut post_office = self.post_office.lock();
        let position = self.position.lock().clone();
        let number = self.cuts.fetch_add(1, Ordering::Relaxed) + 1;
        Builder { office: self.clone(), changes: post_office.take_changes(), position, number }
    }

    /// Writes the state to the checkpoint without Raft's knowing: a start then has less of the log to apply, and the log
    /// keeps what servers that were away for a while catch up from. On a full disk nothing is done.
    ///
    /// # Errors
    /// The disk's; they end the server.
    pub async fn checkpoint(self: Arc<Self>) -> io::Result<()> {
        let mut cut = self.cut();
        if !cut.finds_room().await {
            cut.put_off();
            return Ok(());
        }
        match cut.write().await {
            Err(error) if is_full(&error) => Ok(()),
            written => self.trouble.note(written),
        }
    }
}

/// Writes one cut of the state to the checkpoint.
pub struct Builder<W: World> {
    office: Arc<Office<W>>,
    changes: Vec<Change>,
    position: Applied,
    /// Which cut it is. A later one has all that is in this one.
    number: u64,
}

impl<W: World> Builder<W> {
    /// Whether the disk has room for it.
    pub(super) async fn finds_room(&self) -> bool {
        let disk = self.office.disk.clone();
        let bytes: u64 = self.changes.iter().map(Change::bytes).sum();
        let free = W::blocking(move || disk.free_bytes()).await;
        let no_room = free.is_ok_and(|free| free < bytes.saturating_mul(2) + (2 << 20));
        if no_room {
            tracing::warn!(bytes, "no room for a checkpoint: put off");
        }
        !no_room
    }

    /// It is not written.
    pub(super) fn put_off(&self) {
        W::reached("a checkpoint put off");
        let mut post_office = self.office.post_office.lock();
        if self.is_latest() {
            post_office.changes_lost();
        }
    }

    /// To be asked with the office's lock held.
    fn is_latest(&self) -> bool {
        self.office.cuts() == self.number
    }

    /// Writes it, unless it is void by now: because of a later cut, or because a snapshot that was installed since is ahead
    /// of it and has replaced what it changes.
    async fn write(&mut self) -> io::Result<()> {
        let _writing = self.office.writing.lock().await;
        let is_void = {
            let _post_office = self.office.post_office.lock();
            self.office.position.lock().generation != self.position.generation || !self.is_latest()
        };
        if is_void {
            return Ok(());
        }
        let meta = CheckpointMeta { applied: self.position.id, membership: self.position.membership.clone() };
        let (changes, encoded) = (std::mem::take(&mut self.changes), meta.encode());
        let checkpoint = self.office.checkpoint.clone();
        let flushed = W::blocking(move || checkpoint.flush(&changes, &encoded)).await;
        let mut post_office = self.office.post_office.lock();
        if !self.is_latest() {
            // What it had was given back when the later one was taken, and is written once more.
            return Ok(flushed?);
        }
        match flushed {
            Ok(()) => {
                W::reached("a checkpoint taken");
                post_office.changes_durable();
                post_office.release_contents(self.office.body_memory_bytes);
                Ok(())
            }
            Err(error) => {
                post_office.changes_lost();
                Err(error.into())
            }
        }
    }
}

impl<W: World> RaftSnapshotBuilder<TypeConfig<W>> for Builder<W> {
    type SnapshotData = SnapshotData<W>;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot<W>> {
        let written = self.write().await;
        let checkpoint = &self.office.checkpoint;
        match (written, Office::snapshot_of(checkpoint)) {
            // The one before is as good as it was.
            (Err(error), Ok(Some(before))) if is_full(&error) => Ok(before),
            (Err(error), _) => self.office.trouble.note(Err(error)),
            (Ok(()), current) => {
                let current = self.office.trouble.note(current)?;
                current.ok_or_else(|| io::Error::other("a checkpoint that was just written has no position"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::post_office::{Effect, PostOffice};
    use crate::raft::{CommittedLeaderId, Listener, LogId, load};
    use crate::storage::Checkpoint;
    use crate::storage::testing::{FaultDisk, TestWorld};
    use crate::wire::batch::{Batch, BatchHeader, encode_entry};
    use crate::wire::command::Command;
    use crate::wire::{Origin, Time};
    use crate::world::Disk;

    struct Deaf;

    impl Listener for Deaf {
        fn effect(&self, _: Effect<'_>) {}
        fn applied(&self, _: &PostOffice, _: u64) {}
        fn installed(&self, _: &PostOffice) {}
    }

    fn open(disk: &Arc<dyn Disk>) -> Arc<Office<TestWorld>> {
        let checkpoint = Checkpoint::open(disk.clone()).unwrap();
        let post_office = load(&checkpoint).unwrap();
        Arc::new(Office::open(checkpoint, post_office, disk.clone(), Arc::new(Deaf), u64::MAX).unwrap())
    }

    /// Applies entry `index`, which registers a client.
    fn register(office: &Office<TestWorld>, index: u64) {
        let mut frames = BytesMut::new();
        let name = format!("client-{index}");
        Command::Register { nonce: index.into(), name: &name, home: "a" }.put(&mut frames, b"");
        let origin = Origin { incarnation: 1, boot: 1 };
        let header = BatchHeader { origin, sequence: index, bytes: frames.len() as u32, commands: 1 };
        let entry = encode_entry(Time(0), &[Batch { header, frames: frames.freeze() }]);
        office.post_office.lock().apply_entry(index, &entry, &mut |_| {}).unwrap();
        office.position.lock().id = Some(LogId { leader_id: CommittedLeaderId { term: 1 }, index });
    }

    /// Whatever the order in which cuts are written, the checkpoint ends up with all of the state.
    #[tokio::test]
    async fn of_two_cuts_the_later_one_counts_whichever_is_written_first() {
        for order in [[0, 1], [1, 0]] {
            let disk: Arc<dyn Disk> = Arc::new(FaultDisk::new());
            let office = open(&disk);
            register(&office, 1);
            let first = office.cut();
            register(&office, 2);
            let mut cuts = [Some(first), Some(office.cut())];
            for which in order {
                cuts[which].take().unwrap().write().await.unwrap();
                let (applied, _) = office.applied();
                let stored = office.checkpoint.meta().unwrap().map(|meta| CheckpointMeta::decode(&meta).unwrap());
                let expected = if which == 1 || order == [1, 0] { applied } else { None };
                assert_eq!(stored.and_then(|meta| meta.applied), expected, "{order:?} {which}");
            }
            register(&office, 3);
            office.clone().checkpoint().await.unwrap();
            let digest = office.post_office.lock().digest();
            drop((cuts, office));
            assert_eq!(open(&disk).post_office.lock().digest(), digest, "{order:?}");
        }
    }

    /// A cut that is overtaken while it is being written has not made durable what the later one is to write.
    #[tokio::test]
    async fn a_cut_that_is_overtaken_while_it_is_written_makes_nothing_durable() {
        let disk: Arc<dyn Disk> = Arc::new(FaultDisk::new());
        let office = open(&disk);
        register(&office, 1);
        let mut first = office.cut();
        let overtaken = async {
            let written = first.write();
            let later = async {
                // Blocking work yields before it is done: this comes in between.
                register(&office, 2);
                office.cut()
            };
            let (written, later) = tokio::join!(written, later);
            written.unwrap();
            later
        };
        let later = overtaken.await;
        later.put_off();
        office.clone().checkpoint().await.unwrap();
        let digest = office.post_office.lock().digest();
        drop((first, later, office));
        assert_eq!(open(&disk).post_office.lock().digest(), digest);
    }
}
