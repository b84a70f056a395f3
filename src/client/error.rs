//! What can go wrong, and what to do about it.

use std::time::Duration;

use crate::limits;
use crate::wire::client::SendFailure;
use crate::wire::{BadName, ClusterId, Epoch, Name, Refusal, SendRefusal};

/// Why a request of the client failed. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The settings name no server.
    #[error("no server was named: give the addresses (host:port) of one or more servers of the cluster")]
    NoServers,
    /// A text is not a name.
    #[error(transparent)]
    BadName(#[from] BadName),
    /// No server could be reached, or none that was serves.
    #[error("none of the servers {servers} answers: is the cluster running? (tried for {after:?}; at last: {cause})")]
    Unreachable {
        /// The addresses that were tried.
        servers: String,
        /// For how long.
        after: Duration,
        /// Why the last attempt failed.
        cause: String,
    },
    /// A server is reached but gave no answer within the request's patience. What became of the request is unknown;
    /// asking again is safe.
    #[error(
        "{what} got no answer from {server} within {after:?}{trouble}; whether it was carried out is unknown, ask again"
    )]
    TimedOut {
        /// What was asked.
        what: &'static str,
        /// The request's patience.
        after: Duration,
        /// The server that is attached to.
        server: String,
        /// What the server complained of lately, with a separator in front; may be empty.
        trouble: String,
    },
    /// The connection died while a request was on its way that must not simply be asked again.
    #[error(
        "the connection died while {what} was on its way, so whether it was carried out is unknown; see `who`, then decide"
    )]
    Unknown {
        /// What was asked.
        what: &'static str,
    },
    /// The cluster refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A server belongs to another cluster than the one this client talked to. The client has ended.
    #[error(
        "the server at {address} belongs to cluster {actual}, not to {expected}: the list of servers mixes clusters, correct it"
    )]
    WrongCluster {
        /// The server's address.
        address: String,
        /// Its cluster.
        actual: ClusterId,
        /// The cluster that was expected.
        expected: ClusterId,
    },
    /// No server has the name given as home. The client has ended.
    #[error("no server is named {home}; the cluster's servers are {servers}")]
    NoSuchHome {
        /// The home that was asked for.
        home: Name,
        /// The servers there are.
        servers: String,
    },
    /// Another reader took the inbox over: this one receives nothing more and its acknowledgements count no more.
    #[error("another reader took over the inbox of {name}; `listen` again to take it back")]
    Fenced {
        /// Whose inbox.
        name: Name,
        /// The epoch that this reader had.
        epoch: Epoch,
        /// The epoch in force, if known.
        by: Option<Epoch>,
    },
    /// The registration ended while it was being read or sent from.
    #[error("the registration of {name} has ended; `register` it again")]
    RegistrationEnded {
        /// The client's name.
        name: Name,
    },
    /// The send stream was closed by the cluster while sends were in doubt. Open another one, and decide about those
    /// sends whose receipt says that their outcome is unknown.
    #[error("the send stream of {name} was closed while sends were on their way; open another one")]
    StreamLost {
        /// The sender.
        name: Name,
    },
    /// A message is larger than a limit. Nothing was sent.
    #[error("the message's {what} of {bytes} bytes is larger than the {max} allowed")]
    TooLarge {
        /// `body` or `headers`.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The window asked for is out of bounds.
    #[error("a reader's window is 1 to {max}, not {asked}", max = limits::READER_WINDOW_MAX)]
    BadWindow {
        /// What was asked.
        asked: u32,
    },
    /// A send names no recipient, or too many.
    #[error(
        "a send names 1 to {max} recipients, not {named}; a channel reaches more",
        max = limits::RECIPIENTS_MAX
    )]
    BadRecipients {
        /// How many were named.
        named: usize,
    },
    /// An inbox is to keep more messages than one may.
    #[error("an inbox keeps at most {max} acknowledged messages, not {asked}", max = limits::KEPT_MESSAGES_MAX)]
    KeepsTooMany {
        /// How many were asked for.
        asked: u32,
    },
    /// A text is no pattern of channels' names.
    #[error(
        "{given:?} is no pattern of channels' names: use parts with . between them, * for any one part, > at the end for the rest"
    )]
    BadPattern {
        /// The text that was given.
        given: String,
    },
    /// The client, the stream or the inbox was closed by its owner.
    #[error("the client was closed")]
    Closed,
}

/// Why there is no receipt for a send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The cluster refused it for good; it is in no inbox.
    #[error("refused: {0}")]
    Refused(#[from] SendRefusal),
    /// Nobody can say whether it was accepted. Sending the same number again would be safe, but this client gave up.
    #[error("the outcome is unknown: {0}")]
    Unknown(Doubt),
    /// It was certainly not carried out.
    #[error("not sent: {0}")]
    Failed(SendFailure),
    /// It never left this process.
    #[error("not sent: {0}")]
    NotSent(Doubt),
}

/// Why a client gave a send up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The client was closed, or its last handle dropped, before the receipt came.
    #[error("the client was closed before a receipt came")]
    Closed,
    /// No receipt came within the setting `send_timeout`. The client goes on resending it all the same, so that the
    /// stream's later sends can be accepted.
    #[error("no receipt came within {after:?}{trouble}")]
    TimedOut {
        /// The setting.
        after: Duration,
        /// What the server complained of, with a separator in front; may be empty.
        trouble: String,
    },
    /// The stream was closed or has expired, and an earlier copy of the send may have been accepted before.
    #[error("its stream was closed while it was on its way")]
    StreamClosed,
    /// The cluster has forgotten the answer.
    #[error("the cluster answered it once and has forgotten the answer")]
    Forgotten,
    /// The client ended by an error.
    #[error("the client ended: {0}")]
    Ended(Box<Error>),
}

/// Why a delivered receipt does not come to whoever waits for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDelivery {
    /// The send was not accepted, or nobody knows.
    #[error("{0}")]
    NotAccepted(SendError),
    /// The stream was closed, or has expired: the receipt comes into the sender's inbox, as a notice.
    #[error("the stream of the send was closed; the receipt comes into the sender's inbox")]
    StreamClosed,
    /// The client ended: the receipt comes into the sender's inbox, as a notice, once its stream has expired.
    #[error("the client ended ({0}); the receipt comes into the sender's inbox")]
    Ended(Error),
}
