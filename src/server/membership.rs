//! What the leader does so that Raft's membership follows the list of servers: takes each new disk in as a learner, gives
//! it a vote once it has caught up, in the place of the disk that its server had before, and takes the vote of servers
//! that were removed. One change at a time, each by joint consensus.
//!
//! It only compares what the log says (which servers belong to the cluster, and which disk is the latest of each) with
//! the membership, and does the next step. A leader that dies half-way leaves nothing behind that the next one would
//! not find.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft_rt::watch::WatchReceiver as _;

use super::node::Node;
use super::status;
use crate::post_office::Listed;
use crate::raft::Member;
use crate::wire::{Incarnation, Name};
use crate::world::World;

/// How often the two are compared.
const ROUND: Duration = Duration::from_millis(200);
/// A learner that lacks no more entries than this has caught up: the rest takes no longer than any follower's.
pub(super) const CAUGHT_UP: u64 = 64;

/// Compares for ever.
pub(super) async fn reconcile<W: World>(node: Arc<Node<W>>) {
    loop {
        W::sleep(ROUND).await;
        let Some(step) = look(&node).and_then(|situation| situation.next_step()) else { continue };
        W::observe(|| crate::world::Event { kind: "membership", who: None, detail: format!("{step:?}") });
        let raft = &node.raft;
        let done = match &step {
            Step::TakeIn { incarnation, member } => {
                tracing::info!(server = %member.name, incarnation, "taking a new disk in as a learner");
                raft.add_learner(*incarnation, member.clone(), false).await.map(drop)
            }
            Step::Vote { voters, server, incarnation } => {
                tracing::info!(%server, incarnation, "a new disk has caught up: it votes from now on");
                raft.change_membership(ChangeMembers::ReplaceAllVoters(voters.clone()), false).await.map(drop)
            }
            Step::Remove { voters, server, incarnation } => {
                tracing::info!(%server, incarnation, "taking the vote of a server that was removed");
                raft.change_membership(ChangeMembers::ReplaceAllVoters(voters.clone()), false).await.map(drop)
            }
            Step::Settle => {
                tracing::info!("a membership change was left half-way: finishing it");
                raft.change_membership(ChangeMembers::AddVoterIds(BTreeSet::new()), false).await.map(drop)
            }
            Step::Drop { learners } => {
                raft.change_membership(ChangeMembers::RemoveNodes(learners.clone()), false).await.map(drop)
            }
            Step::HandOver => {
                tracing::info!("this server was removed: handing leadership over");
                node.hand_over().await;
                Ok(())
            }
        };
        if let Err(error) = done {
            tracing::warn!(?step, %error, "cannot change the membership yet");
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// A new disk begins to catch up.
    TakeIn { incarnation: Incarnation, member: Member },
    /// It has caught up.
    Vote { voters: BTreeSet<Incarnation>, server: Name, incarnation: Incarnation },
    /// A server was removed.
    Remove { voters: BTreeSet<Incarnation>, server: Name, incarnation: Incarnation },
    /// A leader died between the two halves of a membership change.
    Settle,
    /// Learners that were replaced or removed before they could vote.
    Drop { learners: BTreeSet<Incarnation> },
    /// The leader was removed. Who leads in its place takes its vote.
    HandOver,
}

/// What there is to compare.
#[derive(Debug, Clone, Default)]
struct Situation {
    me: Incarnation,
    /// A change is half-way.
    joint: bool,
    voters: BTreeSet<Incarnation>,
    /// Voters and learners.
    members: BTreeMap<Incarnation, Name>,
    /// Those that are up and lack next to nothing, the leader among them.
    caught_up: BTreeSet<Incarnation>,
    listed: BTreeMap<Name, Listed>,
}

/// The situation, as the leader sees it.
fn look<W: World>(node: &Node<W>) -> Option<Situation> {
    if !node.raft.is_leader() {
        return None;
    }
    let listed = node.office.post_office.lock().servers().map(|(name, known)| (name.clone(), known.clone())).collect();
    let applied = node.office.applied().0;
    let metrics = node.raft.metrics();
    let metrics = metrics.borrow_watched();
    // A new leader knows what its predecessors did once it has applied an entry of its own term.
    if applied.is_none_or(|id| *id.leader_id != metrics.current_term) {
        return None;
    }
    let membership = metrics.membership_config.membership();
    let progress = metrics.replication.as_ref();
    let last = metrics.last_log_index.unwrap_or(0);
    let caught_up = progress.into_iter().flatten().filter(|(id, matched)| {
        let lacks = matched.as_ref().map(|matched| last.saturating_sub(matched.index));
        lacks.is_some_and(|lacks| lacks <= CAUGHT_UP) && status::is_reached(node, **id)
    });
    Some(Situation {
        me: node.me.incarnation,
        joint: membership.get_joint_config().len() > 1,
        voters: membership.voter_ids().collect(),
        members: membership.nodes().map(|(id, member)| (*id, member.name.clone())).collect(),
        caught_up: caught_up.map(|(id, _)| *id).chain([node.me.incarnation]).collect(),
        listed,
    })
}

impl Situation {
    fn is_wanted(&self, incarnation: Incarnation) -> bool {
        self.listed.values().any(|server| server.incarnation == Some(incarnation))
    }

    fn next_step(&self) -> Option<Step> {
        if self.joint {
            return Some(Step::Settle);
        }
        let learners = self.members.keys().filter(|id| !self.voters.contains(id) && !self.is_wanted(**id));
        let learners: BTreeSet<Incarnation> = learners.copied().collect();
        if !learners.is_empty() {
            return Some(Step::Drop { learners });
        }
        self.new_disk().or_else(|| self.removed_server())
    }

    /// A change that cannot be committed would hold up everything behind it: it is begun only if those who are up are a
    /// majority of what comes of it.
    fn would_go_on(&self, voters: &BTreeSet<Incarnation>) -> bool {
        voters.intersection(&self.caught_up).count() > voters.len() / 2
    }

    fn new_disk(&self) -> Option<Step> {
        for (name, server) in &self.listed {
            let Some(incarnation) = server.incarnation.filter(|id| !self.voters.contains(id)) else { continue };
            if !self.members.contains_key(&incarnation) {
                let member = Member { name: name.clone(), address: server.address.clone(), quotas: None };
                return Some(Step::TakeIn { incarnation, member });
            }
            let others = self.voters.iter().filter(|id| self.members.get(id) != Some(name)).copied();
            let voters = others.chain([incarnation]).collect();
            if self.caught_up.contains(&incarnation) && self.would_go_on(&voters) {
                return Some(Step::Vote { voters, server: name.clone(), incarnation });
            }
        }
        None
    }

    fn removed_server(&self) -> Option<Step> {
        let unwanted = self.voters.iter().filter(|id| !self.is_wanted(**id));
        // What has a newer disk is replaced by it. Until then it stays, since it may hold what others lost.
        let has_successor = |id: &Incarnation| {
            let server = self.members.get(id).and_then(|name| self.listed.get(name));
            server.and_then(|server| server.incarnation).is_some_and(|newer| !self.voters.contains(&newer))
        };
        let incarnation = *unwanted.filter(|id| !has_successor(id)).min_by_key(|id| **id == self.me)?;
        let voters: BTreeSet<Incarnation> = self.voters.iter().copied().filter(|id| *id != incarnation).collect();
        if !self.would_go_on(&voters) {
            return None;
        }
        if incarnation == self.me {
            return Some(Step::HandOver);
        }
        let server = self.members.get(&incarnation)?.clone();
        Some(Step::Remove { voters, server, incarnation })
    }
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
