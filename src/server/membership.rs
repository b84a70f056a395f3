//! What the leader does about disks that joined: takes each in as a learner, and once it has caught up lets it
//! replace the incarnation that its server had before, in one membership change.
//!
//! It only compares what the log says (which disk is the latest of a name) with the membership, and does the next
//! step. A leader that dies half-way leaves nothing behind that the next one would not find.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft_rt::watch::WatchReceiver as _;

use super::node::Node;
use crate::post_office::Enrolled;
use crate::raft::Member;
use crate::wire::{Incarnation, Name};
use crate::world::World;

/// How often the two are compared.
const ROUND: Duration = Duration::from_millis(200);
/// A learner that lacks no more entries than this has caught up: the rest takes no longer than any follower's.
const CAUGHT_UP: u64 = 64;

/// Compares for ever.
pub(super) async fn reconcile<W: World>(node: Arc<Node<W>>) {
    loop {
        W::sleep(ROUND).await;
        if !node.raft.is_leader() {
            continue;
        }
        match next_step(&node) {
            Some(Step::TakeIn { incarnation, member }) => {
                tracing::info!(server = %member.name, incarnation, "taking a new disk in as a learner");
                if let Err(error) = node.raft.add_learner(incarnation, member, false).await {
                    tracing::warn!(incarnation, %error, "cannot take a new disk in yet");
                }
            }
            Some(Step::Replace { voters, name, incarnation }) => {
                tracing::info!(server = %name, incarnation, "the new disk has caught up: it votes in place of the old one");
                let change = ChangeMembers::ReplaceAllVoters(voters);
                if let Err(error) = node.raft.change_membership(change, false).await {
                    tracing::warn!(incarnation, %error, "cannot let the new disk vote yet");
                }
            }
            Some(Step::Settle) => {
                tracing::info!("a membership change was left half-way: finishing it");
                if let Err(error) =
                    node.raft.change_membership(ChangeMembers::AddVoterIds(BTreeSet::new()), false).await
                {
                    tracing::warn!(%error, "cannot finish a membership change yet");
                }
            }
            Some(Step::Drop { learners }) => {
                if let Err(error) = node.raft.change_membership(ChangeMembers::RemoveNodes(learners), false).await {
                    tracing::warn!(%error, "cannot drop replaced disks yet");
                }
            }
            None => {}
        }
    }
}

enum Step {
    TakeIn {
        incarnation: Incarnation,
        member: Member,
    },
    Replace {
        voters: BTreeSet<Incarnation>,
        name: Name,
        incarnation: Incarnation,
    },
    /// A leader died between the two halves of a membership change.
    Settle,
    /// Learners that a newer disk of their name has overtaken.
    Drop {
        learners: BTreeSet<Incarnation>,
    },
}

fn next_step<W: World>(node: &Node<W>) -> Option<Step> {
    let enrolled: Vec<(Name, Enrolled)> = {
        let office = node.office.post_office.lock();
        office.enrolled().map(|(name, disk)| (name.clone(), disk.clone())).collect()
    };
    let metrics = node.raft.metrics();
    let metrics = metrics.borrow_watched();
    let membership = metrics.membership_config.membership();
    if membership.get_joint_config().len() > 1 {
        return Some(Step::Settle);
    }
    let voters: BTreeSet<Incarnation> = membership.voter_ids().collect();
    let overtaken = |id: Incarnation, name: &Name| membership.nodes().any(|(other, m)| m.name == *name && *other > id);
    let learners = membership.nodes().filter(|(id, _)| !voters.contains(id));
    let learners: BTreeSet<_> = learners.filter(|(id, m)| overtaken(**id, &m.name)).map(|(id, _)| *id).collect();
    if !learners.is_empty() {
        return Some(Step::Drop { learners });
    }
    for (name, disk) in enrolled {
        let incarnation = disk.incarnation;
        if membership.get_node(&incarnation).is_none() {
            // A disk that was replaced by a later one is not enrolled any more: this one is the name's latest.
            if membership.nodes().any(|(id, m)| m.name == name && *id > incarnation) {
                continue;
            }
            let member = Member { name, address: disk.address };
            return Some(Step::TakeIn { incarnation, member });
        }
        if voters.contains(&incarnation) {
            continue;
        }
        let matched = metrics.replication.as_ref().and_then(|r| r.get(&incarnation)).cloned().flatten();
        let lag = metrics.last_log_index.unwrap_or(0).saturating_sub(matched.map_or(0, |id| id.index));
        if matched.is_some() && lag <= CAUGHT_UP {
            let old = membership.nodes().filter(|(_, m)| m.name == name).map(|(id, _)| *id);
            let old: BTreeSet<Incarnation> = old.filter(|id| *id != incarnation).collect();
            let mut voters: BTreeSet<Incarnation> = voters.difference(&old).copied().collect();
            voters.insert(incarnation);
            return Some(Step::Replace { voters, name, incarnation });
        }
    }
    None
}
