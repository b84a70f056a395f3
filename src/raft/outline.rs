//! What a frame between servers says, in plain numbers: for whoever watches the wire and takes no part in it.

use bytes::Bytes;
use openraft::raft::{TransferLeaderRequest, VoteRequest, VoteResponse};
use openraft::{EntryPayload, RaftTypeConfig};

use super::messages::{self, AppendReply, BadMessage, SnapshotBegin};
use super::types::{Membership, TypeConfig, Vote};
use crate::wire::frame::{self, Frame};
use crate::wire::{Incarnation, peer};
use crate::world::RealWorld;

// The types of a message do not hang on the world; openraft's need one.
type Config = TypeConfig<RealWorld>;

/// What a message between servers says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outline {
    /// Entries to append; a heartbeat if there are none.
    Append {
        /// The leader's term.
        term: u64,
        /// The leader.
        leader: Incarnation,
        /// The index of the entry before the first.
        previous: Option<u64>,
        /// The last committed index.
        committed: Option<u64>,
        /// The entries.
        entries: Vec<EntryOutline>,
    },
    /// Durable up to an index.
    Appended(Option<u64>),
    /// The log differs at an index.
    Conflict(u64),
    /// A vote of a higher term is known.
    HigherVote {
        /// The term.
        term: u64,
    },
    /// A candidate asks for a vote, or (`pre`) whether it would get it.
    Vote {
        /// Whether this is only the question.
        pre: bool,
        /// The candidate's term.
        term: u64,
        /// The candidate.
        candidate: Incarnation,
        /// The last entry of its log: term and index.
        last: Option<(u64, u64)>,
    },
    /// The answer to that.
    Voted {
        /// Whether the vote is given.
        granted: bool,
        /// The voter's term.
        term: u64,
    },
    /// The leader hands over.
    Transfer {
        /// To whom.
        to: Incarnation,
    },
    /// A snapshot begins.
    Snapshot {
        /// The last index that it covers.
        up_to: Option<u64>,
    },
}

/// An entry of an [`Outline::Append`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryOutline {
    /// The term it was made in.
    pub term: u64,
    /// Its index.
    pub index: u64,
    /// What it holds.
    pub holds: EntryContent,
}

/// What a log entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryContent {
    /// Nothing: a new leader's first.
    Blank,
    /// Batches: see [`crate::wire::batch::decode_entry`].
    Batches(Bytes),
    /// Who votes and who learns.
    Membership {
        /// The voters' names and incarnations; while a change is under way, those of both sides.
        voters: Vec<(String, Incarnation)>,
        /// The learners'.
        learners: Vec<(String, Incarnation)>,
    },
}

/// What `frame` says, if it is one of Raft's messages.
///
/// # Errors
/// The text says why it does not decode.
pub fn outline(frame: &Frame) -> Result<Option<Outline>, String> {
    read(frame).map_err(|error| error.to_string())
}

fn read(frame: &Frame) -> Result<Option<Outline>, BadMessage> {
    let payload = &frame.payload;
    Ok(Some(match frame.kind {
        peer::APPEND => append(payload)?,
        peer::APPEND_REPLY => match frame::take::<AppendReply>(payload)?.0 {
            AppendReply::Appended(id) => Outline::Appended(id.map(|id| id.index)),
            AppendReply::Conflict(id) => Outline::Conflict(id.index),
            AppendReply::HigherVote(vote) => Outline::HigherVote { term: vote.leader_id.term },
        },
        peer::VOTE | peer::PRE_VOTE => {
            let request: VoteRequest<Config> = frame::take(payload)?.0;
            let Vote { leader_id, .. } = request.vote;
            Outline::Vote {
                pre: frame.kind == peer::PRE_VOTE,
                term: leader_id.term,
                candidate: leader_id.voted_for,
                last: request.last_log_id.map(|id| (id.leader_id.term, id.index)),
            }
        }
        peer::VOTE_REPLY => {
            let reply: VoteResponse<Config> = frame::take(payload)?.0;
            Outline::Voted { granted: reply.vote_granted, term: reply.vote.leader_id.term }
        }
        peer::TRANSFER => {
            let request: TransferLeaderRequest<Config> = frame::take(payload)?.0;
            Outline::Transfer { to: *request.to_node_id() }
        }
        peer::SNAPSHOT_BEGIN => {
            let begin: SnapshotBegin = frame::take(payload)?.0;
            Outline::Snapshot { up_to: begin.meta().last_log_id.map(|id| id.index) }
        }
        _ => return Ok(None),
    }))
}

fn append(payload: &Bytes) -> Result<Outline, BadMessage> {
    let request = messages::take_append::<RealWorld>(payload)?;
    let entries = request.entries.into_iter().map(|entry: <Config as RaftTypeConfig>::Entry| EntryOutline {
        term: entry.log_id.leader_id.term,
        index: entry.log_id.index,
        holds: match entry.payload {
            EntryPayload::Blank => EntryContent::Blank,
            EntryPayload::Normal(body) => EntryContent::Batches(body.0),
            EntryPayload::Membership(membership) => members(&membership),
        },
    });
    Ok(Outline::Append {
        term: request.vote.leader_id.term,
        leader: request.vote.leader_id.voted_for,
        previous: request.prev_log_id.map(|id| id.index),
        committed: request.leader_commit.map(|id| id.index),
        entries: entries.collect(),
    })
}

fn members(membership: &Membership) -> EntryContent {
    let named = |id: Incarnation| (membership.get_node(&id).map_or_else(String::new, |node| node.name.to_string()), id);
    EntryContent::Membership {
        voters: membership.voter_ids().map(named).collect(),
        learners: membership.learner_ids().map(named).collect(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    /// What is watched is what `messages` wrote: the golden files pin those bytes.
    #[test]
    fn a_vote_and_a_heartbeat_are_told_by_their_numbers() {
        let mut bytes = BytesMut::new();
        let vote = Vote::new(7, 2);
        frame::put(&mut bytes, peer::PRE_VOTE, &VoteRequest::<Config>::new(vote, None), &[]);
        let request = openraft::raft::AppendEntriesRequest::<Config> {
            vote,
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: None,
        };
        messages::put_append(&mut bytes, &request);
        frame::put(&mut bytes, peer::HELLO_REPLY, &peer::HelloReply::Welcome, &[]);
        let mut next = || outline(&frame::split(&mut bytes, 1 << 20).unwrap().unwrap());
        assert_eq!(next(), Ok(Some(Outline::Vote { pre: true, term: 7, candidate: 2, last: None })));
        let heartbeat = Outline::Append { term: 7, leader: 2, previous: None, committed: None, entries: vec![] };
        assert_eq!(next(), Ok(Some(heartbeat)));
        assert_eq!(next(), Ok(None), "a hello is none of Raft's");
        let damaged = Frame { kind: peer::APPEND, payload: Bytes::from_static(&[0xff]) };
        assert!(outline(&damaged).is_err());
    }
}
