//! The first start of a cluster whose state came out of a backup.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::BytesMut;

use super::ending::StartError;
use crate::raft::{CheckpointMeta, Member, Membership, StoredMembership, restored_at};
use crate::storage::{Checkpoint, Log, MetaKey, Seed};
use crate::wire::peer::{Founding, FoundingMember};
use crate::wire::{Incarnation, frame};
use crate::world::World;

/// Behind a restored state the log begins where that ends, as if everything before had been cleaned away: should the state
/// be lost, its lack is noticed. Without effect once it is so.
///
/// # Errors
/// The disk's.
pub(super) async fn begin_log<W: World>(log: &Log<W>, seed: &Seed) -> io::Result<()> {
    if log.get(MetaKey::Purged).is_some() {
        return Ok(());
    }
    let mut encoded = BytesMut::new();
    frame::put_postcard(&mut encoded, &restored_at(seed.applied));
    log.put(MetaKey::Purged, encoded.freeze()).await
}

/// A restored checkpoint has a state and no membership: it is the founders', each one's alike, in place of the entry that
/// begins the log of a cluster that is founded with nothing. The quotas are those of the state. Repeated after a crash in between. Blocks.
///
/// # Errors
/// Damage; the disk's.
pub(super) fn found(checkpoint: &Checkpoint, founding: Option<&Founding>) -> Result<(), StartError> {
    let (Some(founding), Some(meta)) = (founding, checkpoint.meta()?) else { return Ok(()) };
    let meta = CheckpointMeta::decode(&meta)?;
    let Some(applied) = meta.applied else { return Ok(()) };
    if meta.membership.membership().nodes().next().is_some() {
        return Ok(());
    }
    let member =
        |f: &FoundingMember| Member { name: f.server.name.clone(), address: f.server.address.clone(), quotas: None };
    let nodes: BTreeMap<Incarnation, Member> = founding.members.iter().map(|f| (f.incarnation, member(f))).collect();
    let voters: BTreeSet<Incarnation> = nodes.keys().copied().collect();
    let membership = Membership::new(vec![voters], nodes)
        .map_err(|error| StartError::Damaged(format!("the founding record makes no membership: {error}")))?;
    let meta = CheckpointMeta { applied: Some(applied), membership: StoredMembership::new(Some(applied), membership) };
    checkpoint.flush(&[], &meta.encode())?;
    Ok(())
}
