//! The first start of a cluster whose state came out of a backup.

use std::collections::{BTreeMap, BTreeSet};

use super::ending::StartError;
use crate::raft::{CheckpointMeta, Member, Membership, StoredMembership};
use crate::storage::Checkpoint;
use crate::wire::Incarnation;
use crate::wire::peer::FoundingMember;

/// A restored checkpoint has a state and no membership: it is the founders', each one's alike, in place of the entry that
/// begins the log of a cluster that is founded with nothing. Repeated after a crash in between. Blocks.
///
/// # Errors
/// Damage; the disk's.
pub(super) fn found(checkpoint: &Checkpoint, founders: &[FoundingMember]) -> Result<(), StartError> {
    let Some(meta) = checkpoint.meta()? else { return Ok(()) };
    let meta = CheckpointMeta::decode(&meta)?;
    let Some(applied) = meta.applied else { return Ok(()) };
    if meta.membership.membership().nodes().next().is_some() || founders.is_empty() {
        return Ok(());
    }
    let nodes: BTreeMap<Incarnation, Member> = founders
        .iter()
        .map(|f| (f.incarnation, Member { name: f.server.name.clone(), address: f.server.address.clone() }))
        .collect();
    let voters: BTreeSet<Incarnation> = nodes.keys().copied().collect();
    let membership = Membership::new(vec![voters], nodes)
        .map_err(|error| StartError::Damaged(format!("the founding record makes no membership: {error}")))?;
    let meta = CheckpointMeta { applied: Some(applied), membership: StoredMembership::new(Some(applied), membership) };
    checkpoint.flush(&[], &meta.encode())?;
    Ok(())
}
