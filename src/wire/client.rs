//! Frames between a client and a server, commands aside.
//!
//! A connection starts with [`super::CLIENT_MAGIC`], then frames. The client's first is [`Request::Hello`], answered by
//! [`Reply::Welcome`] or [`Reply::Refused`]. The order of the variants is part of the format: add at the end only.

use serde::{Deserialize, Serialize};

use super::sharing::{Fate, InboxSettings, Notice};
pub use super::status::{DiskCondition, DiskStatus, ServerRow, SetAside, Status, StatusDetail};
use super::types::{
    ClusterId, Epoch, MessageId, Name, Nonce, Number, Position, Refusal, RegistrationId, SendOutcome, ServerAddress,
    StreamId, Time,
};

/// The kind of a [`Request`]'s frame; a command's is [`super::command::KIND`].
pub const REQUEST_KIND: u8 = 2;
/// The kind of a [`Reply`]'s frame.
pub const REPLY_KIND: u8 = 3;

/// What a client asks of the server it talks to, and of no log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The first frame.
    Hello {
        /// The protocol the client speaks.
        version: u16,
        /// The cluster it expects, once it knows one.
        cluster: Option<ClusterId>,
        /// Name and version of the client software, for the server's log.
        agent: String,
    },
    /// Answered at once with [`Reply::Pong`]; both ends send one when they have been silent for a while.
    Ping(u64),
    /// The clients as this server's state has them, names ascending; linearizable when `linearizable` is set.
    Who {
        /// Names the request.
        nonce: Nonce,
        /// Only names after this one.
        after: Option<Name>,
        /// At most so many.
        limit: u32,
    },
    /// How the server sees the cluster.
    Status {
        /// Names the request.
        nonce: Nonce,
        /// With what takes time to find out.
        detail: StatusDetail,
    },
    /// The client closes in good order.
    Goodbye,
    /// Let a server belong to the cluster from now on. Answered once that is durable, with [`Reply::Done`]: the server,
    /// started with an empty disk, is then taken in.
    AddServer {
        /// Names the request.
        nonce: Nonce,
        /// Its name and where others reach it.
        server: ServerAddress,
    },
    /// Let a server belong to the cluster no more. Answered once it has no part in it any more, with [`Reply::Done`].
    RemoveServer {
        /// Names the request.
        nonce: Nonce,
        /// Its name.
        server: Name,
        /// Even if too few of the others are up.
        force: bool,
    },
    /// Let that server lead. Answered once it does, with [`Reply::Done`].
    TransferLeadership {
        /// Names the request.
        nonce: Nonce,
        /// Its name.
        server: Name,
    },
    /// Make a backup of everything that was accepted before now. Answered with [`Reply::BackupBegun`]; it is read with
    /// [`Request::ReadBackup`], over this connection only, and ends with it or with the next one that is begun.
    Backup {
        /// Names the request, and the backup.
        nonce: Nonce,
    },
    /// The next part of the backup, answered with [`Reply::BackupPart`]. Asked for one at a time.
    ReadBackup {
        /// Names the request.
        nonce: Nonce,
        /// The nonce by which it was begun.
        backup: Nonce,
        /// Where the part before has ended, in bytes.
        offset: u64,
    },
    /// Let a server serve no clients and not lead, or do so again. It stays a member with a vote. Answered with
    /// [`Reply::Done`] once that is durable and the server does not lead any more.
    SetDrained {
        /// Names the request.
        nonce: Nonce,
        /// Its name.
        server: Name,
        /// Whether it is drained from now on.
        drained: bool,
    },
    /// The client waits for the acknowledgements that it sent: they are not to wait for company. Has no answer of its own.
    Hurry,
    /// The channels, names ascending; linearizable. Answered with [`Reply::Channels`].
    Channels {
        /// Names the request.
        nonce: Nonce,
        /// Only names after this one.
        after: Option<Name>,
        /// At most so many.
        limit: u32,
    },
    /// Who is a member of a channel, registrations ascending; linearizable. Answered with [`Reply::Members`].
    Members {
        /// Names the request.
        nonce: Nonce,
        /// The channel.
        channel: Name,
        /// Only registrations after this one.
        after: Option<RegistrationId>,
        /// At most so many.
        limit: u32,
    },
    /// What an inbox has kept of what was acknowledged, positions ascending; linearizable. Answered with [`Reply::History`].
    History {
        /// Names the request.
        nonce: Nonce,
        /// Whose inbox.
        client: Name,
        /// Only positions from this one on.
        from: Position,
        /// At most so many.
        limit: u32,
    },
    /// What is set for an inbox; linearizable. Answered with [`Reply::Inbox`].
    Inbox {
        /// Names the request.
        nonce: Nonce,
        /// Whose inbox.
        client: Name,
    },
    /// What changed of who is there. Answered with [`Reply::Presence`] as soon as something did.
    Presence {
        /// Names the request.
        nonce: Nonce,
        /// Only what came behind this log index. `None`: it is answered at once, with where to go on from.
        since: Option<u64>,
        /// The longest time to wait for something, in milliseconds; at most [`crate::limits::PRESENCE_WAIT_MAX`].
        wait_ms: u32,
    },
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The answer to [`Request::Hello`].
    Welcome {
        /// The cluster, whose id the client expects from now on; `None` before it is founded, and from a server that is out of
        /// touch, which cannot tell whether a majority knows of it.
        cluster: Option<ClusterId>,
        /// The server's name.
        server: Name,
        /// All servers, names ascending.
        servers: Vec<ServerAddress>,
    },
    /// The answer to [`Request::Ping`].
    Pong(u64),
    /// A name was registered (or was so by the same nonce).
    Registered {
        /// The request's.
        nonce: Nonce,
        /// The registration.
        registration: RegistrationId,
    },
    /// A registration has ended.
    Deregistered {
        /// The request's.
        nonce: Nonce,
    },
    /// A stream is open.
    StreamOpened {
        /// The request's.
        nonce: Nonce,
        /// The stream.
        stream: StreamId,
        /// The sender's registration.
        registration: RegistrationId,
    },
    /// A stream is closed.
    StreamClosed {
        /// The request's.
        nonce: Nonce,
    },
    /// Receipts of sends with numbers `first`, `first + 1`, …
    Receipts {
        /// The stream.
        stream: StreamId,
        /// The number of the first outcome.
        first: Number,
        /// The outcomes.
        outcomes: Vec<SendOutcome>,
    },
    /// A send was not carried out and used no number up.
    SendFailed {
        /// The stream.
        stream: StreamId,
        /// The send's number.
        number: Number,
        /// Why.
        reason: SendFailure,
    },
    /// The client reads the inbox now.
    Attached {
        /// The request's.
        nonce: Nonce,
        /// Whose inbox.
        registration: RegistrationId,
        /// The reader's epoch.
        epoch: Epoch,
        /// Everything up to here is acknowledged.
        acknowledged: Position,
    },
    /// The client no longer reads the inbox.
    Detached {
        /// The request's.
        nonce: Nonce,
    },
    /// Messages; their contents follow this header, back to back.
    Deliver {
        /// Whose inbox.
        registration: RegistrationId,
        /// The reader's epoch.
        epoch: Epoch,
        /// What is delivered, positions ascending.
        deliveries: Vec<Delivery>,
    },
    /// Acknowledgements are durable up to here.
    Acknowledged {
        /// Whose inbox.
        registration: RegistrationId,
        /// The reader's epoch.
        epoch: Epoch,
        /// Everything up to here is acknowledged.
        up_to: Position,
    },
    /// A newer reader has attached, or the registration ended: this one counts for nothing any more.
    Fenced {
        /// Whose inbox.
        registration: RegistrationId,
        /// The epoch that ended.
        epoch: Epoch,
        /// The epoch in force; `None` if the registration ended.
        by: Option<Epoch>,
    },
    /// A request was refused; `nonce` is `None` when it concerns the connection, which ends.
    Refused {
        /// The request's.
        nonce: Option<Nonce>,
        /// Why.
        refusal: Refusal,
    },
    /// The client is to go on at another server; this one will answer nothing more.
    Move {
        /// Why.
        reason: Refusal,
    },
    /// The answer to [`Request::Who`].
    Who {
        /// The request's.
        nonce: Nonce,
        /// The clients, names ascending.
        clients: Vec<ClientRow>,
        /// Whether there are more after the last one.
        more: bool,
    },
    /// The answer to [`Request::Status`].
    Status {
        /// The request's.
        nonce: Nonce,
        /// The cluster as the server sees it.
        status: Box<Status>,
    },
    /// What an operator's request asked for is so.
    Done {
        /// The request's.
        nonce: Nonce,
    },
    /// The cluster's servers are others by now.
    Servers {
        /// All servers, names ascending.
        servers: Vec<ServerAddress>,
    },
    /// The answer to [`Request::Backup`]: it can be read.
    BackupBegun {
        /// The request's.
        nonce: Nonce,
    },
    /// The answer to [`Request::ReadBackup`]; the bytes follow this header. No bytes: it is not ready yet, ask again.
    BackupPart {
        /// The request's.
        nonce: Nonce,
        /// Where in the backup they belong.
        offset: u64,
        /// The backup ends behind them.
        last: bool,
    },
    /// Delivered receipts of a stream, in the order in which they came, each of them until the client collects those behind
    /// it.
    Delivered {
        /// The stream.
        stream: StreamId,
        /// Which of the stream's this is, counted from 1.
        sequence: u64,
        /// The number of the send.
        number: Number,
        /// What became of it.
        fate: Fate,
    },
    /// A message that was delivered, and is not acknowledged, waits no more: it has expired, or made room for a later one. It
    /// takes no place in the reader's window any more, and is not to be taken if it was not yet.
    Withdrawn {
        /// Whose inbox.
        registration: RegistrationId,
        /// The reader's epoch.
        epoch: Epoch,
        /// Where it was.
        position: Position,
    },
    /// The answer to [`Request::Channels`].
    Channels {
        /// The request's.
        nonce: Nonce,
        /// The channels, names ascending.
        channels: Vec<ChannelRow>,
        /// Whether there are more after the last one.
        more: bool,
    },
    /// The answer to [`Request::Members`].
    Members {
        /// The request's.
        nonce: Nonce,
        /// The members, registrations ascending.
        members: Vec<Member>,
        /// Whether there are more after the last one.
        more: bool,
    },
    /// The answer to [`Request::History`]; contents follow this header, back to back.
    History {
        /// The request's.
        nonce: Nonce,
        /// Whose inbox.
        registration: RegistrationId,
        /// What is kept, positions ascending.
        messages: Vec<Delivery>,
        /// Whether there are more after the last one.
        more: bool,
    },
    /// The answer to [`Request::Inbox`].
    Inbox {
        /// The request's.
        nonce: Nonce,
        /// Whose inbox.
        registration: RegistrationId,
        /// What its owner has set.
        settings: InboxSettings,
        /// How many acknowledged messages it keeps now.
        kept: u64,
    },
    /// The answer to [`Request::Presence`].
    Presence {
        /// The request's.
        nonce: Nonce,
        /// Where to go on from.
        up_to: u64,
        /// What changed, in order. `None`: this server does not know, since it is too long ago. Look at all clients, and go on
        /// from `up_to`.
        events: Option<Vec<PresenceEvent>>,
    },
}

/// Something that changed of who is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceEvent {
    /// The log index at which it did.
    pub index: u64,
    /// What.
    pub change: PresenceChange,
    /// The client as it was then.
    pub client: ClientRow,
}

/// What changed of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PresenceChange {
    /// It was registered.
    Registered,
    /// It came online, at its home.
    Online,
    /// It went offline.
    Offline,
    /// Its home is another server now.
    Moved {
        /// Its home before.
        from: Name,
    },
    /// Its registration has ended.
    Deregistered,
}

/// A channel in [`Reply::Channels`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRow {
    /// Its name.
    pub name: Name,
    /// How many have joined it; those who subscribe to a pattern are not counted.
    pub members: u64,
}

/// A member in [`Reply::Members`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: Name,
    /// Its registration.
    pub registration: RegistrationId,
}

/// Why a send was not carried out; its number is still free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum SendFailure {
    /// Numbers are missing before it.
    #[error("number {expected} is expected next")]
    Gap {
        /// The number expected next.
        expected: Number,
    },
    /// The stream is closed, has expired or never was.
    #[error("the stream is closed")]
    StreamClosed,
    /// The number was used by another content.
    #[error("the number was used for another message")]
    OtherContent,
    /// The client confirmed the receipt of this number before: its outcome is forgotten.
    #[error("the number was answered, and the answer confirmed")]
    AlreadyAnswered,
    /// Too many receipts are unconfirmed.
    #[error("{window} sends are unconfirmed, as many as may be")]
    WindowFull {
        /// The quota in force.
        window: u32,
    },
    /// The server could not take it for now ([`Refusal::DiskFull`], …): send it again later or elsewhere.
    #[error(transparent)]
    Unavailable(Refusal),
}

/// One message on its way to its reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its place in the inbox.
    pub position: Position,
    /// Its id.
    pub message: MessageId,
    /// The sender's name.
    pub from: Name,
    /// The sender's stream.
    pub stream: StreamId,
    /// Its number in the stream.
    pub number: Number,
    /// When it was accepted, by the cluster's clock.
    pub time: Time,
    /// Another process may have received it before.
    pub redelivered: bool,
    /// Bytes of its content.
    pub content_bytes: u32,
    /// The channel that it was sent to, if it was.
    pub channel: Option<Name>,
    /// It is no message of anybody's, but tells what became of one: there is no content then.
    pub notice: Option<Notice>,
}

/// A client in [`Reply::Who`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRow {
    /// Its name.
    pub name: Name,
    /// Its registration.
    pub registration: RegistrationId,
    /// The server it is, or was last, attached to.
    pub home: Name,
    /// Whether a reader is attached at a server that is not known to be down.
    pub online: bool,
    /// When it last attached, detached, sent or acknowledged, by the cluster's clock.
    pub last_seen: Time,
    /// Messages that wait in its inbox.
    pub waiting: u64,
    /// Bytes that wait in its inbox.
    pub waiting_bytes: u64,
    /// Its open send streams.
    pub streams: u32,
}
