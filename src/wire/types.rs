//! The vocabulary: names, ids, numbers, positions, receipts and refusals.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::sharing::Unreached;
use crate::limits;

/// Name of a client or a server: 1 to 64 of `A-Za-z0-9._-`. Cloning shares it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Name(Arc<str>);

/// Why a text is no [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a name: use 1 to 64 of the characters A-Z a-z 0-9 . _ -")]
pub struct BadName {
    /// The text that was given, cut at 80 characters.
    pub given: String,
}

impl Name {
    /// Checks `text` and makes it a name.
    ///
    /// # Errors
    /// [`BadName`] if it is empty, too long or has another character in it.
    pub fn new(text: &str) -> Result<Self, BadName> {
        if Self::is_valid(text) {
            Ok(Self(text.into()))
        } else {
            Err(BadName { given: text.chars().take(80).collect() })
        }
    }

    /// Whether `text` may be a name.
    pub fn is_valid(text: &str) -> bool {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        !text.is_empty() && text.len() <= limits::NAME_BYTES_MAX && text.bytes().all(allowed)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl std::str::FromStr for Name {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        Self::new(text).map_err(D::Error::custom)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Something that a log entry brought to life: a registration, a stream, a message, an incarnation. Made of the
    /// log index (48 bits) and the command's place in the entry (16 bits), so it is never used again.
    Id
}
number! {
    /// A place in an inbox, counted from 1 and never used again within a registration. 0 is "before the first".
    Position
}
number! {
    /// Number of a send within its stream, counted from 1.
    Number
}
number! {
    /// Counts the attachments of readers to one inbox; 0 is "never had one".
    Epoch
}
number! {
    /// The cluster's clock: milliseconds, stamped by the leader's proposer, never going back.
    Time
}

impl Id {
    /// The id of what the command at place `ordinal` of the entry at `index` brings to life.
    pub fn at(index: u64, ordinal: u16) -> Self {
        debug_assert!(index < 1 << 48);
        Self(index << 16 | u64::from(ordinal))
    }

    /// The log index it was made from.
    pub fn index(self) -> u64 {
        self.0 >> 16
    }
}

/// A registration's id: see [`Id`].
pub type RegistrationId = Id;
/// A send stream's id: see [`Id`].
pub type StreamId = Id;
/// A message's id: see [`Id`].
pub type MessageId = Id;
/// The Raft id of one server's disk: see [`Id`]. The founders' are 1, 2, 3…, which no log index yields.
pub type Incarnation = u64;
/// Drawn at random by whoever asks, so that asking again is recognised.
pub type Nonce = u128;
/// Drawn at random when a cluster is founded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A shard: one Raft group. In every key, frame and file; 0 for now.
pub type ShardId = u16;

/// A server as others find it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServerAddress {
    /// Its name.
    pub name: Name,
    /// `host:port`.
    pub address: String,
}

/// Limits that belong to the replicated state, since every server must judge alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quotas {
    /// Messages that may wait in one inbox.
    pub inbox_messages: u64,
    /// Bytes of content that may wait in one inbox.
    pub inbox_bytes: u64,
    /// Open streams of one client.
    pub streams_per_client: u32,
    /// Sends of one stream whose receipt the client has not yet confirmed.
    pub stream_window: u32,
    /// Registered clients.
    pub clients: u64,
    /// A stream silent for so long is closed. Milliseconds.
    pub stream_idle_ms: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            inbox_messages: limits::INBOX_MESSAGES_DEFAULT,
            inbox_bytes: limits::INBOX_BYTES_DEFAULT,
            streams_per_client: limits::STREAMS_PER_CLIENT_DEFAULT,
            stream_window: limits::STREAM_WINDOW_DEFAULT,
            clients: limits::CLIENTS_DEFAULT,
            stream_idle_ms: limits::STREAM_IDLE_MS_DEFAULT,
        }
    }
}

/// What became of one numbered send. It uses its number up either way, and asking again gives the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SendOutcome {
    /// Durable on a majority, at this position of the recipient's inbox.
    Accepted(Position),
    /// Refused for a reason of business; nothing was put anywhere.
    Refused(SendRefusal),
    /// Durable on a majority, in so many inboxes. Members of a channel whose inbox is full do without, and so does, in a
    /// broadcast, everybody whose inbox is full.
    Reached {
        /// How many inboxes it is in.
        inboxes: u32,
        /// How many were full.
        full: u32,
    },
    /// Durable on a majority. It comes into the inboxes when the cluster's clock shows that time; room for it is kept where
    /// clients are named.
    Scheduled(Time),
}

/// Why a numbered send was refused for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum SendRefusal {
    /// No client of that name was registered when the send was applied.
    #[error("no client of that name is registered")]
    NoSuchClient,
    /// The recipient's inbox holds as many messages or bytes as it may.
    #[error("the recipient's inbox is full")]
    InboxFull,
    /// Of several recipients it must reach all, and did not.
    #[error("of the recipients {0}, so that it went to none")]
    Recipients(Unreached),
    /// There was no channel of that name when the send was applied.
    #[error("there is no channel of that name; create it first")]
    NoSuchChannel,
    /// More inboxes than one message may go to.
    #[error("it would go to {inboxes} inboxes, more than the {limit} that one message may go to")]
    TooManyInboxes {
        /// How many they are.
        inboxes: u32,
        /// The limit.
        limit: u32,
    },
    /// The sender's own inbox has no room left for the receipt that is asked for.
    #[error("the sender's own inbox has no room for the receipt: read it, or send without one")]
    NoRoomForReceipt,
    /// As many messages of the sender wait for their time as may.
    #[error("{limit} messages of the sender wait for their time, as many as may")]
    TooManyScheduled {
        /// The limit.
        limit: u32,
    },
}

/// Why a command that is not a numbered send was not carried out, or a connection not served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// A name is taken: the registration was made with another nonce.
    #[error("the name is registered already (registration {registration})")]
    AlreadyRegistered {
        /// The registration that holds the name.
        registration: RegistrationId,
    },
    /// No client of that name is registered.
    #[error("no client of that name is registered; `register` it first")]
    NotRegistered,
    /// The registration that was named has ended.
    #[error("that registration has ended; the name may have been registered anew")]
    RegistrationEnded,
    /// The cluster has as many clients as its quota allows.
    #[error("the cluster holds as many clients as its quota of {quota} allows")]
    TooManyClients {
        /// The quota in force.
        quota: u64,
    },
    /// The client has as many streams open as its quota allows.
    #[error("the client has {quota} send streams open, as many as it may; close some")]
    TooManyStreams {
        /// The quota in force.
        quota: u32,
    },
    /// Another reader attached since the epoch that was named.
    #[error("the inbox's reader is at epoch {current} by now")]
    EpochMoved {
        /// The epoch in force.
        current: Epoch,
    },
    /// The server is stopping; another one serves.
    #[error("this server is stopping; use another one")]
    Stopping,
    /// The server cannot tell whether it is up to date.
    #[error("this server has not heard from a leader lately; use another one")]
    NoLeader,
    /// The server has no room on its disk for new messages. Reads are served.
    #[error("the disk is full: sends are refused until there is space; what was accepted is safe")]
    DiskFull,
    /// The server has as many connections as it may.
    #[error("the server has as many connections as its limit of {limit} allows")]
    TooManyConnections {
        /// The limit in force.
        limit: u64,
    },
    /// The two ends speak different versions.
    #[error("this server speaks protocol version {speaks}, not {asked}; upgrade the older side")]
    Version {
        /// What the server speaks.
        speaks: u16,
        /// What it was asked for.
        asked: u16,
    },
    /// The client was told to expect another cluster.
    #[error("this server belongs to cluster {actual}, not to {expected}; check the addresses")]
    WrongCluster {
        /// The cluster the server belongs to.
        actual: ClusterId,
        /// The cluster that was expected.
        expected: ClusterId,
    },
    /// A frame was malformed, out of turn or larger than allowed.
    #[error("malformed frame: {0}")]
    Malformed(String),
    /// The server name is not one of the cluster's.
    #[error("no server of that name belongs to the cluster")]
    NoSuchServer,
    /// The server belongs to the cluster with another address.
    #[error("the server belongs to the cluster already, at {address}; remove it first if it is to be another one")]
    ServerElsewhere {
        /// The address in force.
        address: String,
    },
    /// Another server has that address.
    #[error("server {server} has that address")]
    AddressTaken {
        /// Whose it is.
        server: Name,
    },
    /// The cluster has as many servers as it may.
    #[error("the cluster has as many servers as its limit of {limit} allows")]
    TooManyServers {
        /// The limit.
        limit: u64,
    },
    /// The last server cannot be removed.
    #[error("it is the last server of the cluster: add another one first")]
    LastServer,
    /// Too few of the servers that would remain are up.
    #[error(
        "of the {voters} servers that would remain only {reachable} can be reached, so the cluster might stand still: bring \
         the others back first, or remove it by force"
    )]
    WouldLoseQuorum {
        /// How many would have a vote.
        voters: u64,
        /// How many of them the leader can reach.
        reachable: u64,
    },
    /// The server cannot take leadership over now.
    #[error("that server cannot lead now: it has no vote yet, cannot be reached, or lacks entries")]
    CannotLead,
    /// The disk was replaced by a newer one of its server, or its server was removed.
    #[error("this disk was replaced or its server removed: it belongs to no member any more")]
    DiskRetired,
    /// A copy of the client's request to attach came through another server, and that one is the reader's home now.
    #[error("the inbox was attached through another server; attach again")]
    ReadElsewhere,
    /// The server makes as many backups as it may.
    #[error(
        "this server makes {limit} backups already, as many as it may at a time; try again later or at another one"
    )]
    TooManyBackups {
        /// The limit in force.
        limit: u64,
    },
    /// The backup cannot go on at this server.
    #[error("the backup cannot go on: {why}; begin another one")]
    BackupEnded {
        /// Why.
        why: String,
    },
    /// The client's home is not the server that was named.
    #[error("the client's home is server {home} by now")]
    HomeMoved {
        /// The home in force.
        home: Name,
    },
    /// A session reads the inbox: who reads without one has to become the reader first.
    #[error("a session reads the inbox; attach to it before you acknowledge")]
    ReadBySession,
    /// The server that was asked about is up.
    #[error("that server is up")]
    ServerIsUp,
    /// An operator drained the server: it serves no clients.
    #[error("this server is drained; use another one")]
    Drained,
    /// No other server could serve in the place of the one that is to be drained or removed.
    #[error(
        "no other server could serve: of the {others} others {drained} are drained, and {ready} of the rest can be reached and \
         have everything. Bring one up, or undrain one first"
    )]
    NobodyElseServes {
        /// How many other servers there are.
        others: u64,
        /// How many of them are drained.
        drained: u64,
        /// How many of the rest are up and have caught up.
        ready: u64,
    },
    /// The server that is to lead is drained.
    #[error("that server is drained, so that it does not lead: undrain it first")]
    DrainedCannotLead,
    /// There is no channel of that name.
    #[error("there is no channel of that name; create it first")]
    NoSuchChannel,
    /// A channel of that name was made by another request.
    #[error("there is a channel of that name already")]
    ChannelExists,
    /// The cluster has as many channels as it may.
    #[error("the cluster holds as many channels as its limit of {limit} allows")]
    TooManyChannels {
        /// The limit.
        limit: u64,
    },
    /// The channel has as many members as it may.
    #[error("the channel has as many members as its limit of {limit} allows")]
    ChannelFull {
        /// The limit.
        limit: u64,
    },
    /// The client is in as many channels, or has as many patterns, as it may.
    #[error("the client has joined or subscribed to {limit}, as many as it may; leave some")]
    TooManyEnlistments {
        /// The limit.
        limit: u64,
    },
    /// What the client gets was changed since the number that was named.
    #[error("what the client has joined was changed by another request; there were {current} changes by now")]
    EnlistmentsMoved {
        /// The number in force.
        current: u64,
    },
    /// Messages to many inboxes are more than is carried out at once.
    #[error("more messages to many inboxes are under way than are carried out at once; it is to be sent again")]
    Busy,
}

/// Where batches come from: one run of one server. Batches of one origin are numbered from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The server's incarnation.
    pub incarnation: Incarnation,
    /// Which of its lives: drawn so that a later life has a larger one.
    pub boot: u64,
}
