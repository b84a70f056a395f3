//! Frames between servers, Raft's own messages aside (those are `raft::messages`).
//!
//! A connection starts with [`super::PEER_MAGIC`], then a [`Hello`] that says what it is for; the answer is a
//! [`HelloReply`]. One connection serves one purpose, so that a large append never delays a heartbeat and a snapshot
//! delays neither. The order of the variants is part of the format: add at the end only.

use serde::{Deserialize, Serialize};

use super::types::{ClusterId, Incarnation, Name, Nonce, Quotas, Refusal, ServerAddress};

/// Kind of the frame that holds a [`Hello`].
pub const HELLO: u8 = 16;
/// Kind of the frame that holds a [`HelloReply`].
pub const HELLO_REPLY: u8 = 17;
/// Kind of the frame that holds a [`Bootstrap`].
pub const BOOTSTRAP: u8 = 18;
/// Kind of the frame that holds a [`BootstrapReply`].
pub const BOOTSTRAP_REPLY: u8 = 19;
/// Kind of a frame with entries to append, and of a heartbeat: `AppendHead | entry bodies`.
pub const APPEND: u8 = 20;
/// Kind of the answer to [`APPEND`].
pub const APPEND_REPLY: u8 = 21;
/// Kind of a request for a vote.
pub const VOTE: u8 = 22;
/// Kind of a question whether a vote would be given.
pub const PRE_VOTE: u8 = 23;
/// Kind of the answer to [`VOTE`] and [`PRE_VOTE`].
pub const VOTE_REPLY: u8 = 24;
/// Kind of a request to take leadership over.
pub const TRANSFER: u8 = 25;
/// Kind of the answer to [`TRANSFER`].
pub const TRANSFER_REPLY: u8 = 26;
/// Kind of a snapshot's first frame: vote and meta.
pub const SNAPSHOT_BEGIN: u8 = 27;
/// Kind of a snapshot's chunk, as `storage` made it.
pub const SNAPSHOT_CHUNK: u8 = 28;
/// Kind of a snapshot's last frame.
pub const SNAPSHOT_END: u8 = 29;
/// Kind of the answer to a whole snapshot.
pub const SNAPSHOT_REPLY: u8 = 30;
/// Kind of a forwarded batch: `BatchHeader | command frames`.
pub const FORWARD: u8 = 31;
/// Kind of the answer to a forwarded batch that is not taken: a text. The connection ends.
pub const FORWARD_REFUSED: u8 = 32;
/// Kind of a reply that says that the request cannot be served now: a text. The connection ends.
pub const UNAVAILABLE: u8 = 33;
/// Kind of a frame that holds a [`Question`].
pub const QUESTION: u8 = 34;
/// Kind of the answer to [`QUESTION`]: a `Result<(), Refusal>`.
pub const ANSWER: u8 = 35;
/// Kind of a frame that says that a snapshot is still being taken in: it is not lost, and its answer will come.
pub const SNAPSHOT_GOES_ON: u8 = 36;

/// The answer to a [`Question`].
pub type QuestionAnswer = Result<(), Refusal>;

/// What a connection between servers is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Appends, heartbeats, votes and transfers of leadership.
    Raft,
    /// One snapshot.
    Snapshot,
    /// Batches on their way to the leader.
    Forward,
    /// Founding and joining, before there is an incarnation.
    Bootstrap,
    /// One question that only the leader can answer.
    Question,
}

/// What another server asks the leader for an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// May this server be removed, or would the rest stand still?
    MayLeave {
        /// Its name.
        server: Name,
    },
    /// Hand leadership over to this server; answered when that is done.
    HandOver {
        /// Its name.
        server: Name,
    },
    /// Is this server down? It is refused if it is up, and if the leader cannot tell yet.
    IsDown {
        /// Its name.
        server: Name,
    },
    /// May this server be drained, or could nobody serve in its place?
    MayDrain {
        /// Its name.
        server: Name,
    },
}

/// The first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`super::PEER_VERSION`] of the sender.
    pub version: u16,
    /// What the connection is for.
    pub purpose: Purpose,
    /// The sender's cluster; `None` only for [`Purpose::Bootstrap`].
    pub cluster: Option<ClusterId>,
    /// The sender's name.
    pub name: Name,
    /// The sender's incarnation; `None` only for [`Purpose::Bootstrap`].
    pub from: Option<Incarnation>,
    /// The incarnation that is meant; `None` only for [`Purpose::Bootstrap`].
    pub to: Option<Incarnation>,
}

/// The answer to a [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloReply {
    /// Go on.
    Welcome,
    /// Not here; the connection ends.
    Refused(PeerRefusal),
}

/// Why a server does not talk to another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PeerRefusal {
    /// The two speak different versions.
    #[error("it speaks version {speaks} of the servers' protocol; upgrade the older side")]
    Version {
        /// What the answering server speaks.
        speaks: u16,
    },
    /// It belongs to another cluster.
    #[error("it belongs to cluster {actual}; check the addresses and data directories")]
    WrongCluster {
        /// The answering server's cluster.
        actual: ClusterId,
    },
    /// Its disk has another incarnation than the one that was meant.
    #[error("it has another disk by now (incarnation {actual})")]
    WrongIncarnation {
        /// The answering server's incarnation.
        actual: Incarnation,
    },
    /// The asking server's disk was replaced by a newer one: it takes part in nothing any more.
    #[error("incarnation {incarnation} was replaced by {by}: this data directory belongs to no member any more")]
    Retired {
        /// The incarnation that ended.
        incarnation: Incarnation,
        /// The incarnation in force.
        by: Incarnation,
    },
    /// It has not started yet.
    #[error("it is still starting")]
    NotReady,
    /// The asking server was removed from the cluster: it takes part in nothing any more.
    #[error(
        "incarnation {incarnation} was removed from the cluster: this data directory belongs to no member any more"
    )]
    Removed {
        /// The incarnation that ended.
        incarnation: Incarnation,
    },
}

/// Questions between servers before they form a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bootstrap {
    /// What are you? Asked by a server without an incarnation.
    Probe {
        /// The asking server's disk.
        disk: Nonce,
        /// The servers it was told of, names ascending.
        servers: Vec<ServerAddress>,
    },
    /// Take me in under a name that is known, with a disk that is not.
    Join {
        /// The asking server's disk.
        disk: Nonce,
        /// Where others reach it.
        address: String,
    },
}

/// One founder, as the founding record lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundingMember {
    /// Name and address.
    pub server: ServerAddress,
    /// Its incarnation: 1, 2, 3… in the order of the names.
    pub incarnation: Incarnation,
    /// Its disk.
    pub disk: Nonce,
}

/// The founding record: how a cluster begins. Every founder has the same one, so that the loss of any of their disks
/// changes nothing about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// Who founds it together, names ascending.
    pub members: Vec<FoundingMember>,
    /// The quotas that are in force from the first.
    pub quotas: Quotas,
}

/// Answers to [`Bootstrap`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootstrapReply {
    /// This disk never belonged to a cluster.
    Empty {
        /// The answering server's disk.
        disk: Nonce,
        /// The servers it was told of, names ascending: they must be the same ones.
        servers: Vec<ServerAddress>,
    },
    /// This disk is new, and an older one of this server was set aside: there is, or was, a cluster.
    SetAside,
    /// This server belongs to a cluster.
    Member {
        /// The cluster.
        cluster: ClusterId,
        /// How it was founded; `None` where that is not known.
        founding: Option<Founding>,
    },
    /// You are taken in.
    Joined {
        /// The cluster.
        cluster: ClusterId,
        /// Your incarnation.
        incarnation: Incarnation,
    },
    /// Not now, or not at all: a sentence.
    Refused(String),
    /// This disk was taken in once and has been replaced, or its server removed. If it is empty, it may ask as a new one.
    Retired,
    /// This disk never belonged to a cluster, and has the state of a backup that one is to begin with.
    Restored {
        /// The answering server's disk.
        disk: Nonce,
        /// The servers it was told of, names ascending: they must be the same ones.
        servers: Vec<ServerAddress>,
        /// Names the state: it must be the same one, too.
        backup: u128,
    },
}
