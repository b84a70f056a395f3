//! Room in inboxes, and those that drop their oldest messages to make some.

use super::PostOffice;
use super::apply::Tell;
use super::limits;
use super::receipts::End;
use crate::wire::sharing::{InboxSettings, Overflow};

impl PostOffice {
    /// Whether a client's inbox lacks room for a message of so many bytes, and `more` places.
    pub(super) fn lacks_room(&self, key: u32, bytes: u32, more: u64) -> bool {
        let inbox = &self.registry.get(key).inbox;
        limits::inbox_is_full(&self.quotas, inbox.taken() + more, inbox.taken_bytes(), inbox.span(), bytes)
    }

    /// Whether there would be room if everything that waits were dropped, in an inbox that may do so.
    pub(super) fn can_make_room(&self, key: u32, bytes: u32, more: u64) -> bool {
        let inbox = &self.registry.get(key).inbox;
        self.inbox_settings(key).overflow == Overflow::DropOldest
            && !limits::inbox_is_full(&self.quotas, inbox.reserved + more, inbox.reserved_bytes, 0, bytes)
    }

    /// What the owner of an inbox has set for it.
    pub(super) fn inbox_settings(&self, key: u32) -> InboxSettings {
        self.registry.get(key).enlisted.as_ref().map_or_else(InboxSettings::default, |enlisted| enlisted.settings)
    }

    /// Makes room for a message in the inboxes of everybody in `fan`, and beside it for a receipt in that one's. All of them
    /// have room or can make some.
    pub(super) fn make_room_for_all(&mut self, bytes: u32, receipt_to: Option<u32>, tell: Tell<'_>) {
        for place in 0..self.fan.len() {
            let (_, key) = self.fan[place];
            self.make_room(key, bytes, u64::from(receipt_to == Some(key)), tell);
        }
    }

    /// Drops the oldest messages that wait there until there is room.
    pub(super) fn make_room(&mut self, key: u32, bytes: u32, more: u64, tell: Tell<'_>) {
        while self.lacks_room(key, bytes, more) {
            let client = self.registry.get(key);
            let Some((position, message)) = client.inbox.messages_from(0).next() else { break };
            self.clear_place(client.id, position.0, message, End::Dropped, tell);
            self.settle_receipts(End::Dropped, tell);
        }
    }
}
