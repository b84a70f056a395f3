//! Delivered receipts: what becomes of a message at its recipients, told to its sender durably and once.
//!
//! A message that was sent with a receipt is **tracked** while it waits anywhere. When it waits nowhere any more, its
//! [`Fate`] is told to the stream that sent it, which keeps it until its client has collected it. If the stream is closed
//! by then, or is before the client has, it becomes a **notice**: a message in the sender's own inbox. So it survives the
//! sender's process, and its being offline for however long.
//!
//! Room for the notice is reserved in the sender's inbox from the moment at which the send is accepted: an
//! acknowledgement is never held up, and no receipt is lost for want of room.

use super::PostOffice;
use super::apply::{At, Tell};
use super::checkpoint::Touched;
use super::effect::Effect;
use super::messages::{Extra, Message, NOT_HELD, Released};
use super::streams::Concluded;
use crate::wire::client::SendFailure;
use crate::wire::sharing::{Fate, Notice};
use crate::wire::{Id, MessageId, Number, RegistrationId, StreamId};

/// A message whose sender is to be told what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tracked {
    pub sender: RegistrationId,
    pub stream: StreamId,
    pub number: Number,
    /// What became of its copies so far.
    pub fate: Fate,
}

/// What became of one copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Acknowledged,
    Ended,
    Expired,
    Dropped,
}

/// The id of the notice about a message. Commands of an entry are fewer than half of what an id has room for, so that no
/// other thing has it.
pub(super) fn notice_id(message: MessageId) -> MessageId {
    Id(message.0 | 1 << 15)
}

impl PostOffice {
    /// Notes what became of a copy of a message, for [`Self::settle_receipts`].
    pub(super) fn note_end(ends: &mut Vec<Released>, released: Released) {
        if released.receipt || released.expires.is_some() {
            ends.push(released);
        }
    }

    /// Tells of those messages that wait nowhere any more, of all whose copies came to this end.
    pub(super) fn settle_receipts(&mut self, end: End, tell: Tell<'_>) {
        if self.ends.is_empty() {
            return;
        }
        let mut ends = std::mem::take(&mut self.ends);
        for Released { id, gone, expires, .. } in ends.drain(..) {
            if let Some(expires) = expires.filter(|_| gone) {
                self.expiring.remove(&(expires, id));
            }
            let Some(tracked) = self.tracked.get_mut(&id) else { continue };
            match end {
                End::Acknowledged => tracked.fate.acknowledged = tracked.fate.acknowledged.saturating_add(1),
                End::Expired => tracked.fate.expired = tracked.fate.expired.saturating_add(1),
                End::Dropped => tracked.fate.dropped = tracked.fate.dropped.saturating_add(1),
                End::Ended => tracked.fate.ended = tracked.fate.ended.saturating_add(1),
            }
            let tracked = *tracked;
            self.changes.touch(Touched::Tracked(id));
            if gone {
                self.tracked.remove(&id);
                self.conclude(id, tracked, tell);
            }
        }
        self.ends = ends;
    }

    /// A message waits nowhere any more.
    pub(super) fn conclude(&mut self, message: MessageId, tracked: Tracked, tell: Tell<'_>) {
        let Tracked { sender, stream, number, fate } = tracked;
        // A receipt for a registration that has ended is nobody's.
        let Some(owner) = self.registry.key(sender) else { return };
        match self.streams.key(stream) {
            Some(key) => {
                let open = self.streams.get_mut(key);
                open.receipts.push_back(Concluded { message, number, fate });
                let sequence = open.collected + open.receipts.len() as u64;
                super::checkpoint::touch_stream(&mut self.changes, key, open);
                tell(Effect::Delivered { stream, sequence, number, fate });
            }
            None => self.put_notice(owner, message, Notice { stream, number, fate }, tell),
        }
    }

    /// The client of a stream has its receipts up to `up_to`: the others are told again. Of a stream that is closed none will
    /// come any more, and whoever waits for them learns so.
    pub(super) fn collect_receipts(&mut self, at: At<'_>, stream: StreamId, up_to: u64, tell: Tell<'_>) {
        let Some(key) = self.streams.key(stream) else {
            let result = Err(SendFailure::StreamClosed);
            return tell(Effect::Sent { origin: at.origin, stream, number: Number(0), result, repeated: false });
        };
        self.touch_stream(key);
        let open = self.streams.get_mut(key);
        let has = up_to.saturating_sub(open.collected).min(open.receipts.len() as u64);
        open.receipts.drain(..has as usize);
        open.collected += has;
        self.registry.get_mut(open.owner).inbox.reserved -= has;
        for (sequence, Concluded { number, fate, .. }) in (open.collected + 1..).zip(&open.receipts) {
            tell(Effect::Delivered { stream, sequence, number: *number, fate: *fate });
        }
    }

    /// Puts a receipt into its sender's inbox, where room is reserved for it.
    pub(super) fn put_notice(&mut self, owner: u32, message: MessageId, notice: Notice, tell: Tell<'_>) {
        let client = self.registry.get_mut(owner);
        let message = self.messages.add(Message {
            id: notice_id(message),
            stream: notice.stream,
            number: notice.number,
            time: self.time,
            from: client.name.clone(),
            digest: 0,
            content_bytes: 0,
            offset: 0,
            entry: NOT_HELD,
            inboxes: 1,
            extra: Some(Box::new(Extra { notice: Some(notice), ..Extra::default() })),
        });
        client.inbox.reserved -= 1;
        let position = client.inbox.push(message, 0);
        let registration = client.id;
        self.waiting += 1;
        self.touch_client(owner);
        tell(Effect::Arrived { registration, position });
    }
}
