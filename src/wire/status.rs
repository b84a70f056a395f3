//! The cluster as one server sees it: the answer to [`super::client::Request::Status`].

use serde::{Deserialize, Serialize};

use super::types::{ClusterId, Name, ServerAddress, Time};

/// What a [`super::client::Request::Status`] asks for besides what the server has at hand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusDetail {
    /// [`Status::disk`] is to be looked at: free space, sizes, what was set aside.
    pub disk: bool,
    /// [`Status::digest`] is to be computed, which reads the whole state.
    pub digest: bool,
}

/// The cluster as one server sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The server that answers.
    pub server: Name,
    /// The cluster, once it is founded.
    pub cluster: Option<ClusterId>,
    /// Its incarnation, once it has one.
    pub incarnation: Option<u64>,
    /// `leader`, `follower`, `candidate`, `learner`, `joining`, `founding`.
    pub role: String,
    /// The leader's name, if one is known and heard of.
    pub leader: Option<Name>,
    /// Raft's term.
    pub term: u64,
    /// Index of the last entry in the log.
    pub last_index: u64,
    /// Index of the last committed entry.
    pub committed_index: u64,
    /// Index of the last applied entry.
    pub applied_index: u64,
    /// Digest of the applied state; equal on servers with the same applied index. `None` unless it was asked for, and
    /// where the state changed too fast to be read.
    pub digest: Option<u64>,
    /// The cluster's time now.
    pub time: Time,
    /// Registered clients.
    pub clients: u64,
    /// Messages that wait.
    pub waiting: u64,
    /// Index covered by the last durable checkpoint.
    pub checkpoint_index: u64,
    /// Bytes of the log on disk.
    pub log_bytes: u64,
    /// All servers, names ascending.
    pub servers: Vec<ServerRow>,
    /// What is wrong, a sentence each: no leader and why, damage that was set aside, a full disk.
    pub problems: Vec<String>,
    /// Clients that are connected to the answering server and served by it, besides the one that asks.
    pub sessions: u64,
    /// Whether it serves clients now: not while it is drained, out of touch with a leader, or its disk hangs.
    pub serves: bool,
    /// Its disk; `None` unless it was asked for, and where it could not be looked at.
    pub disk: Option<DiskStatus>,
}

/// The disk of the server that answers, in [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// Where the data is, as a person on that machine knows it.
    pub place: String,
    /// Bytes that can still be written; `None` if that cannot be told.
    pub free_bytes: Option<u64>,
    /// Bytes of the checkpoint.
    pub checkpoint_bytes: u64,
    /// How it is.
    pub condition: DiskCondition,
    /// What was set aside, the latest last.
    pub quarantine: Vec<SetAside>,
}

/// How a server's disk is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskCondition {
    /// It does what it is asked to.
    Good,
    /// There is too little room for new messages.
    Full,
    /// Something waits to be written, and nothing gets done.
    Hangs,
    /// What is on it is not as it was written. It is set aside once the others can do without this server.
    Damaged(String),
}

/// Data that was found damaged and moved to a directory of its own, in [`DiskStatus`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// The directory's name, below `quarantine/`.
    pub directory: String,
    /// When, by that server's clock: milliseconds since 1970; `None` if the name does not say.
    pub unix_ms: Option<u64>,
    /// Why: the first line of its `reason.txt`; empty if that cannot be read.
    pub reason: String,
}

/// A server in [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRow {
    /// Name and address.
    pub server: ServerAddress,
    /// Its incarnation, if it belongs to the cluster.
    pub incarnation: Option<u64>,
    /// Whether it votes.
    pub voter: bool,
    /// Whether the answering server reached it lately.
    pub reachable: bool,
    /// Entries it lacks, as the leader knows it; `None` elsewhere.
    pub lag: Option<u64>,
    /// What is known about not reaching it.
    pub problem: Option<String>,
    /// Whether it is drained: it serves no clients and does not lead.
    pub drained: bool,
}
