//! Commands: what changes the replicated state, and nothing else does.
//!
//! On the wire a command is a frame of kind [`KIND`] whose payload is the postcard form of [`Command`], with the
//! content of a [`Command::Send`] or [`Command::Post`] raw behind it. Those bytes travel unchanged from the client to every server's log.
//!
//! The order of the variants is part of the format: add at the end only.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::frame;
use super::sharing::{Enlistment, Target, Terms};
use super::types::{Epoch, Nonce, Number, Position, Quotas, RegistrationId, StreamId, Time};

/// The kind of a command's frame.
pub const KIND: u8 = 1;

/// One change to the replicated state. Borrows its texts from the frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command<'a> {
    /// Put a message into an inbox. The content (see [`encode_content`]) is raw behind this header.
    Send {
        /// The sender's stream.
        stream: StreamId,
        /// The last number of the stream plus one, or an older one asked again.
        number: Number,
        /// The client has the receipts up to here: their outcomes may be forgotten.
        confirmed: Number,
        /// The recipient's name.
        to: &'a str,
    },
    /// Acknowledge deliveries: everything up to a position, and ranges above it (both ends included).
    Acknowledge {
        /// Whose inbox.
        registration: RegistrationId,
        /// The reader's epoch: an older one's acknowledgement counts for nothing.
        epoch: Epoch,
        /// Everything up to here.
        up_to: Position,
        /// Ranges above `up_to`, ascending and apart, at most [`crate::limits::ACKNOWLEDGE_RANGES_MAX`].
        ranges: Vec<(Position, Position)>,
    },
    /// Confirm receipts without sending (a sender that fell silent).
    Confirm {
        /// The stream.
        stream: StreamId,
        /// The client has the receipts up to here.
        confirmed: Number,
    },
    /// Register a name.
    Register {
        /// Names this request: the same one asked again is the same registration.
        nonce: Nonce,
        /// The client's name.
        name: &'a str,
        /// The home server's name.
        home: &'a str,
    },
    /// End a registration: its streams close and what waits in its inbox is dropped.
    Deregister {
        /// Names this request.
        nonce: Nonce,
        /// The client's name.
        name: &'a str,
        /// Which registration of that name; `None` for whichever holds it now.
        registration: Option<RegistrationId>,
    },
    /// Open a send stream.
    OpenStream {
        /// Names this request: the same one asked again is the same stream, as long as it is open.
        nonce: Nonce,
        /// The sender's name.
        name: &'a str,
    },
    /// Close a send stream for ever.
    CloseStream {
        /// Names this request.
        nonce: Nonce,
        /// The stream.
        stream: StreamId,
    },
    /// Become the reader of an inbox, in place of the one at epoch `expected`.
    Attach {
        /// Names this request: the same one asked again is the same attachment, as long as it holds.
        nonce: Nonce,
        /// The reader's name.
        name: &'a str,
        /// The home server's name.
        home: &'a str,
        /// The inbox's epoch as the asker knows it (0 at first). Another one is refused with the current one, so that
        /// a late copy of this command can fence nobody.
        expected: Epoch,
        /// The asker is the very process that held epoch `expected` of this registration: nothing that waits has been
        /// delivered to another, so nothing more is marked as a repeat. If the name has another registration by now it
        /// is refused, whatever its epoch: that is another inbox.
        resumes: Option<RegistrationId>,
        /// How many unacknowledged deliveries it will hold at most.
        window: u32,
    },
    /// Stop reading, in good order.
    Detach {
        /// Names this request.
        nonce: Nonce,
        /// Whose inbox.
        registration: RegistrationId,
        /// The reader's epoch.
        epoch: Epoch,
        /// The last position that was handed to the application; `None` if that is not known (the connection died).
        delivered: Option<Position>,
    },
    /// Give a server's disk a Raft id of its own.
    Enroll {
        /// The server's name.
        server: &'a str,
        /// Where others reach it.
        address: &'a str,
        /// Drawn when the disk's data directory was made.
        disk: Nonce,
    },
    /// Set the quotas.
    SetQuotas(Quotas),
    /// Carry out what is due by the entry's time. Proposed only when something is.
    Tick,
    /// A home server lost the connection of a reader. Proposed by servers only, and without an answer. It counts only
    /// while that server is the reader's home: one that is late must not touch a reader that has moved on.
    Vanished {
        /// Whose inbox.
        registration: RegistrationId,
        /// The reader's epoch.
        epoch: Epoch,
        /// The home server's name.
        home: &'a str,
    },
    /// Add a server to the cluster. Repeating it changes nothing. Proposed by servers, for an operator's client.
    AddServer {
        /// Names this request.
        nonce: Nonce,
        /// The server's name.
        server: &'a str,
        /// Where others reach it.
        address: &'a str,
    },
    /// Remove a server from the cluster, and with it the disk that it has. Repeating it changes nothing. Proposed by
    /// servers, for an operator's client.
    RemoveServer {
        /// Names this request.
        nonce: Nonce,
        /// The server's name.
        server: &'a str,
    },
    /// Make another server the home of a registration. Its inbox, its streams and its reader stay as they are. Proposed by
    /// servers, for clients that have no session.
    SetHome {
        /// Names this request.
        nonce: Nonce,
        /// The client's name.
        name: &'a str,
        /// The home server's name.
        home: &'a str,
        /// Only if this server is its home until now; another one is refused with its name.
        instead_of: Option<&'a str>,
    },
    /// A server is down: some of the clients that are at home there have other homes from now on, in turn, and their readers
    /// there count as gone, as if it had said so itself ([`Self::Vanished`]). Proposed by the leader, without an answer,
    /// again and again while there are such clients.
    MoveClients {
        /// The server that is down.
        from: &'a str,
        /// Those that are up.
        to: Vec<&'a str>,
        /// Counts only until then: a copy that is late may find the server back.
        until: Time,
    },
    /// Become the reader of an inbox without a session: a reader that comes and goes, by any server. Proposed by servers, for
    /// clients without a session.
    AttachApart {
        /// Names this request: the same one asked again is the same attachment, as long as it holds.
        nonce: Nonce,
        /// The reader's name.
        name: &'a str,
        /// Only in this registration; `None` for whichever holds the name.
        registration: Option<RegistrationId>,
        /// The inbox's epoch as the asker knows it: see [`Self::Attach`].
        expected: Epoch,
        /// How many unacknowledged messages it will be shown at most.
        window: u32,
    },
    /// Acknowledge as [`Self::AttachApart`]'s reader, or of an inbox that nobody reads. Other than [`Self::Acknowledge`] it has
    /// an answer, which says what is acknowledged, or why it did not count. Proposed by servers, for clients without a session.
    AcknowledgeApart {
        /// Names this request.
        nonce: Nonce,
        /// The reader's name.
        name: &'a str,
        /// Whose inbox.
        registration: RegistrationId,
        /// The epoch in force.
        epoch: Epoch,
        /// Everything up to here.
        up_to: Position,
        /// Ranges above `up_to`, as in [`Self::Acknowledge`].
        ranges: Vec<(Position, Position)>,
    },
    /// Let a server serve no clients and not lead, or do so again. Repeating it changes nothing. Proposed by servers, for
    /// an operator's client.
    SetDrained {
        /// Names this request.
        nonce: Nonce,
        /// The server's name.
        server: &'a str,
        /// Whether it is drained from now on.
        drained: bool,
    },
    /// A send to more than one client, or on terms of its own. Its number is judged as [`Self::Send`]'s is; what tells it
    /// from another one is everything behind `confirmed`, the content with it.
    Post {
        /// The sender's stream.
        stream: StreamId,
        /// The last number of the stream plus one, or an older one asked again.
        number: Number,
        /// The client has the receipts up to here: their outcomes may be forgotten.
        confirmed: Number,
        /// Who it goes to.
        #[serde(borrow)]
        to: Target<'a>,
        /// On which terms.
        terms: Terms,
    },
    /// Tell the delivered receipts of a stream, apart from those that its client has: these are forgotten. No answer but
    /// those receipts, or that the stream is closed, as the failure of a send with number 0.
    CollectReceipts {
        /// The stream.
        stream: StreamId,
        /// The client has all of them up to this one, in the order in which they came.
        up_to: u64,
    },
    /// Make a channel.
    CreateChannel {
        /// Names this request: the same one asked again is the same channel.
        nonce: Nonce,
        /// The channel's name.
        channel: &'a str,
    },
    /// End a channel. What was sent to it is in the inboxes already.
    DeleteChannel {
        /// Names this request.
        nonce: Nonce,
        /// The channel's name.
        channel: &'a str,
    },
    /// Let a client join or leave a channel, or what stands for one.
    Enlist {
        /// Names this request: the same one asked again changes nothing more.
        nonce: Nonce,
        /// The client's name.
        name: &'a str,
        /// How many such changes its registration had so far. Another number is refused with the right one, so that a late
        /// copy of this command undoes nothing.
        expected: u64,
        /// The change.
        #[serde(borrow)]
        change: Enlistment<'a>,
    },
}

impl<'a> Command<'a> {
    /// Appends the command's frame, with `content` behind the header.
    pub fn put(&self, buffer: &mut BytesMut, content: &[u8]) {
        frame::put(buffer, KIND, self, content);
    }

    /// The command and its content, from a frame's payload. The content shares the payload's buffer.
    ///
    /// # Errors
    /// The text says what is malformed.
    pub fn decode(payload: &'a Bytes) -> Result<(Command<'a>, Bytes), postcard::Error> {
        let (command, rest) = frame::take::<Command<'a>>(payload)?;
        Ok((command, payload.slice(payload.len() - rest.len()..)))
    }

    /// The nonce that its answer is found by; sends, acknowledgements and confirmations have none.
    pub fn nonce(&self) -> Option<Nonce> {
        match self {
            Command::Register { nonce, .. }
            | Command::Deregister { nonce, .. }
            | Command::OpenStream { nonce, .. }
            | Command::CloseStream { nonce, .. }
            | Command::Attach { nonce, .. }
            | Command::Detach { nonce, .. }
            | Command::AddServer { nonce, .. }
            | Command::RemoveServer { nonce, .. }
            | Command::SetHome { nonce, .. }
            | Command::AttachApart { nonce, .. }
            | Command::AcknowledgeApart { nonce, .. }
            | Command::SetDrained { nonce, .. }
            | Command::CreateChannel { nonce, .. }
            | Command::DeleteChannel { nonce, .. }
            | Command::Enlist { nonce, .. } => Some(*nonce),
            Command::Enroll { disk, .. } => Some(*disk),
            Command::Send { .. }
            | Command::Post { .. }
            | Command::CollectReceipts { .. }
            | Command::Acknowledge { .. }
            | Command::Confirm { .. }
            | Command::SetQuotas(_)
            | Command::Tick
            | Command::Vanished { .. }
            | Command::MoveClients { .. } => None,
        }
    }
}

/// Headers of a message: names and values, in the order given.
pub type Headers = Vec<(String, String)>;

/// The header that names the client to whom a reply is to be sent.
pub const REPLY_TO: &str = "reply-to";
/// The header by which a reply is told from others: the request's, repeated.
pub const CORRELATION_ID: &str = "correlation-id";
/// The header that says how many milliseconds the requester waits for a reply.
pub const DEADLINE_MS: &str = "deadline-ms";

/// Encodes headers and body as a message's content: `headers (postcard) | body`.
pub fn encode_content(headers: &Headers, body: &[u8]) -> Bytes {
    let mut buffer =
        BytesMut::with_capacity(body.len() + 2 + headers.iter().map(|(n, v)| n.len() + v.len() + 4).sum::<usize>());
    frame::put_postcard(&mut buffer, headers);
    buffer.extend_from_slice(body);
    buffer.freeze()
}

/// Headers and body of a content; the body shares its buffer.
///
/// # Errors
/// The text says what is malformed.
pub fn decode_content(content: &Bytes) -> Result<(Headers, Bytes), postcard::Error> {
    let (headers, rest) = frame::take::<Headers>(content)?;
    Ok((headers, content.slice(content.len() - rest.len()..)))
}
