//! The types that openraft is told to use.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, OptionalSend, RaftTypeConfig};
use serde::{Deserialize, Serialize};

use crate::wire::{Incarnation, Name, Quotas};
use crate::world::{World, WorldRuntime};

/// openraft's type configuration over the world `W`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig<W>(PhantomData<W>);

/// A log entry's payload: an encoded entry of batches ([`crate::wire::batch`]), opaque to Raft.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryBody(pub Bytes);

impl fmt::Debug for EntryBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for EntryBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A member, as the membership lists it under its incarnation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The server's name.
    pub name: Name,
    /// Where others reach it, `host:port`.
    pub address: String,
    /// The quotas that the cluster begins with. Only founders bring them, in the first membership and each the same ones:
    /// so they are in force before anything else is.
    pub quotas: Option<Quotas>,
}

/// Standard Raft: one leader a term, so a log id is term and index.
pub type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, Incarnation>;
/// A committed leader's id: its term.
pub type CommittedLeaderId = <LeaderId as RaftLeaderId>::Committed;
/// A vote.
pub type Vote = openraft::impls::Vote<LeaderId>;
/// Term and index of an entry.
pub type LogId = openraft::LogId<CommittedLeaderId>;
/// The entry that a restored state stands for: none was ever written there, so it has a term before the first.
pub fn restored_at(index: u64) -> LogId {
    LogId::new(LeaderId::new(0, 0).to_committed(), index)
}

/// Who votes and who learns.
pub type Membership = openraft::Membership<Incarnation, Member>;
/// A membership and the entry it came with.
pub type StoredMembership = openraft::StoredMembership<CommittedLeaderId, Incarnation, Member>;
/// What an entry holds.
pub type Payload = EntryPayload<EntryBody, Incarnation, Member>;
/// A log entry.
pub type Entry = openraft::Entry<CommittedLeaderId, Payload>;
/// What a snapshot is of.
pub type SnapshotMeta = openraft::storage::SnapshotMeta<CommittedLeaderId, Incarnation, Member>;
/// A snapshot.
pub type Snapshot<W> = openraft::storage::Snapshot<CommittedLeaderId, Incarnation, Member, super::SnapshotData<W>>;
/// The Raft handle.
pub type Raft<W> = openraft::Raft<TypeConfig<W>, super::StateMachine<W>>;

impl<W: World> RaftTypeConfig for TypeConfig<W> {
    type D = EntryBody;
    type R = ();
    type NodeId = Incarnation;
    type Node = Member;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = WorldRuntime<W>;
    type Responder<T>
        = openraft::impls::OneshotResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}
