//! The replicated state: who is registered, what was sent, what waits. Pure: no I/O, no async, no clock.
//!
//! Every server applies the same log entries in the same order to a [`PostOffice`] of its own and so comes to the same
//! state. Nothing else changes it. What applying brings about is told as [`Effect`]s to whoever waits for it.
//!
//! * `apply` takes entries, batches and commands apart and carries out sends and acknowledgements; `requests` does the
//!   commands that have a nonce; `post` sends to many, `enlist` changes channels, `receipts` tells what was delivered; `expiry` clears
//!   what nobody is to get any more, `scheduled` holds what is for later; `room` drops the oldest, `kept` keeps what was acknowledged.
//! * `registry`, `streams`, `inbox`, `messages`, `channels`, `servers` are the parts of the state, each with its own rules.
//! * `limits` says what is malformed and what the quotas forbid.
//! * `view` reads; `records`, `describe`, `checkpoint` and `load` keep the state on a disk and bring it back,
//!   `restored` into another cluster.
//!
//! Ids are never used again: each is made of the log index and the place of its command in the entry, counted over all
//! the batches in it.

mod apply;
mod channels;
mod checkpoint;
mod describe;
mod effect;
mod enlist;
mod expiry;
mod inbox;
mod kept;
mod limits;
mod load;
mod messages;
mod post;
mod presence;
mod receipts;
mod records;
mod registry;
mod requests;
mod restored;
mod room;
mod scheduled;
mod servers;
mod streams;
#[cfg(test)]
mod tests;
mod view;

pub use checkpoint::Change;
pub use describe::Digesting;
pub use effect::{Answer, BatchVerdict, Effect};
pub use limits::{MalformedCommand, check_command};
pub use load::LoadError;
pub use records::{BadRecord, RECORDS_VERSION, content_key, content_of};
pub use restored::{Standing, restored_record, standing_key, standing_of};
pub use servers::Listed;
pub use view::{Content, ReaderView, Reading, RegistrationView, StreamView, Totals, Waiting};

use std::collections::{BTreeMap, BTreeSet};

pub use crate::wire::batch::BadEntry;
use crate::wire::{MessageId, Position, Quotas, RegistrationId, Time};

/// The replicated state. See the [module](self).
#[derive(Debug, Default)]
pub struct PostOffice {
    applied: u64,
    time: Time,
    quotas: Quotas,
    /// Malformed commands that were skipped, ever.
    malformed: u64,
    /// Sends that got the outcome they had before, since this state was made or loaded. It is no part of the state.
    repeats: u64,
    servers: servers::Servers,
    registry: registry::Registry,
    streams: streams::Streams,
    messages: messages::Messages,
    channels: channels::Channels,
    /// Messages whose senders are to be told what becomes of them.
    tracked: BTreeMap<MessageId, receipts::Tracked>,
    /// Messages that expire, by when.
    expiring: BTreeMap<(Time, MessageId), expiry::Expiring>,
    /// Messages that are to be delivered later, by when.
    scheduled: BTreeMap<(Time, MessageId), scheduled::Scheduled>,
    /// Acknowledged messages that are kept for a time, by how long.
    keeping: BTreeSet<(Time, RegistrationId, u64)>,
    /// Messages and bytes that wait, over all inboxes.
    waiting: u64,
    waiting_bytes: u64,
    changes: checkpoint::Changes,
    /// Inboxes that messages of the entry that is being applied went to, apart from those to a single client.
    fanned: usize,
    // What follows is empty between commands, or of no use any more; kept for its allocation.
    holes: Vec<u64>,
    /// Copies of tracked messages that wait no more.
    ends: Vec<messages::Released>,
    /// Acknowledged messages that their inbox keeps.
    acknowledged: Vec<(Position, u32)>,
    /// Who gets a message.
    fan: Vec<(RegistrationId, u32)>,
}

impl PostOffice {
    /// The state before the first entry, with the default quotas.
    pub fn new() -> Self {
        Self::default()
    }
}
