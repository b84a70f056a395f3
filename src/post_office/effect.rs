//! What applying an entry brings about, told to whoever waits for it.

use crate::wire::client::{PresenceEvent, SendFailure};
use crate::wire::sharing::Fate;
use crate::wire::{
    Epoch, Incarnation, Name, Nonce, Number, Origin, Position, Refusal, RegistrationId, SendOutcome, StreamId,
};

/// Something that somebody may wait for, told in the order in which it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect<'a> {
    /// A batch was judged; if it was applied, its outcomes follow.
    Batch {
        /// Where it came from.
        origin: Origin,
        /// Its number.
        sequence: u64,
        /// What became of it.
        verdict: BatchVerdict,
    },
    /// A send was judged.
    Sent {
        /// The batch's origin, whose home server waits.
        origin: Origin,
        /// The sender's stream.
        stream: StreamId,
        /// The send's number.
        number: Number,
        /// What became of it.
        result: Result<SendOutcome, SendFailure>,
        /// It was carried out before, and this is what became of it then.
        repeated: bool,
    },
    /// A command with a nonce was carried out or refused.
    Answered {
        /// The batch's origin, whose home server waits.
        origin: Origin,
        /// The command's nonce.
        nonce: Nonce,
        /// The answer.
        answer: Answer,
    },
    /// An inbox grew.
    Arrived {
        /// Whose inbox.
        registration: RegistrationId,
        /// The new message's position.
        position: Position,
    },
    /// An acknowledgement of the current epoch took effect, or was a repeat of one that had.
    Acknowledged {
        /// Whose inbox.
        registration: RegistrationId,
        /// The reader's epoch.
        epoch: Epoch,
        /// Everything up to here is acknowledged by now.
        up_to: Position,
    },
    /// An epoch is over: its reader, if it is still there, counts no more. Told also of an epoch whose reader had
    /// detached, since a home may have missed that.
    Fenced {
        /// Whose inbox.
        registration: RegistrationId,
        /// The epoch that ended.
        epoch: Epoch,
        /// The epoch in force; `None` if the registration ended.
        by: Option<Epoch>,
    },
    /// An epoch's reader is not attached to that home any more: its connection is gone, or the same request to attach
    /// came through another home. What that home delivered from here on would count as seen by nobody, so it must not.
    Left {
        /// Whose inbox.
        registration: RegistrationId,
        /// The reader's epoch, which goes on.
        epoch: Epoch,
        /// Where it was attached.
        home: Name,
    },
    /// A stream was closed, has expired, or its client deregistered.
    StreamClosed {
        /// The stream.
        stream: StreamId,
    },
    /// A message that waited in that inbox does so no more, and nobody has acknowledged it.
    Withdrawn {
        /// Whose inbox.
        registration: RegistrationId,
        /// Where it was.
        position: Position,
        /// It made room for a later one; else it has expired.
        dropped: bool,
    },
    /// A message that was sent with a receipt waits nowhere any more, or that is told again.
    Delivered {
        /// The stream of the send.
        stream: StreamId,
        /// Which of the stream's delivered receipts this is, counted from 1.
        sequence: u64,
        /// The send's number.
        number: Number,
        /// What became of it.
        fate: Fate,
    },
    /// Something changed of who is there.
    Presence(Box<PresenceEvent>),
    /// A command was skipped because it is malformed. Servers check commands before they forward them, so this is a
    /// fault worth a line in the log.
    Skipped {
        /// The batch's origin.
        origin: Origin,
        /// Why.
        reason: &'a str,
    },
}

impl Effect<'_> {
    /// Whether the list of servers may be another one by now.
    pub fn changes_servers(&self) -> bool {
        let Self::Answered { answer, .. } = self else { return false };
        matches!(answer, Answer::ServerAdded | Answer::ServerRemoved | Answer::Enrolled { .. })
    }
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchVerdict {
    /// Its commands were applied.
    Applied,
    /// It had been applied before, or comes from an older boot of its server: nothing was done.
    Repeat,
    /// Batches are missing before it: nothing was done.
    Gap {
        /// The sequence number that is expected next.
        expected: u64,
    },
}

/// The answer to a command that has a nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The name is registered.
    Registered {
        /// The registration.
        registration: RegistrationId,
    },
    /// The registration has ended.
    Deregistered,
    /// The stream is open.
    StreamOpened {
        /// The stream.
        stream: StreamId,
        /// The sender's registration.
        registration: RegistrationId,
    },
    /// The stream is closed.
    StreamClosed,
    /// The asker reads the inbox now.
    Attached {
        /// Whose inbox.
        registration: RegistrationId,
        /// The reader's epoch.
        epoch: Epoch,
        /// Everything up to here is acknowledged.
        acknowledged: Position,
    },
    /// The epoch has no reader any more.
    Detached,
    /// The server's disk has a Raft id.
    Enrolled {
        /// The id.
        incarnation: Incarnation,
    },
    /// The server belongs to the cluster.
    ServerAdded,
    /// The server does not belong to the cluster.
    ServerRemoved,
    /// The client has this home.
    HomeSet {
        /// The client's registration.
        registration: RegistrationId,
    },
    /// The acknowledgement counted.
    Acknowledged {
        /// Whose inbox.
        registration: RegistrationId,
        /// The epoch in force.
        epoch: Epoch,
        /// Everything up to here is acknowledged.
        up_to: Position,
    },
    /// The server is drained, or is not any more, as was asked.
    ServerDrained,
    /// What was asked for is so, and there is nothing to tell.
    Done,
    /// Nothing was done.
    Refused(Refusal),
}
