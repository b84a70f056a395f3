//! Messages, apart from the inboxes they wait in, and the log entries whose bytes hold their contents.
//!
//! A content is never copied: it stays in the log entry that brought it. An entry is held as long as a message in it
//! waits, and let go as a whole once the checkpoint has it, oldest first. So memory is counted by entries, which is
//! what is really held, and a send costs no reference count of its own.

use std::collections::VecDeque;

use bytes::Bytes;
use slab::Slab;

use crate::wire::sharing::Notice;
use crate::wire::{MessageId, Name, Number, StreamId, Time};

/// The entry of a message whose content only the checkpoint has.
pub(super) const NOT_HELD: u32 = u32::MAX;

/// A message that waits in at least one inbox.
#[derive(Debug)]
pub(super) struct Message {
    pub id: MessageId,
    pub stream: StreamId,
    pub number: Number,
    pub time: Time,
    pub from: Name,
    pub digest: u64,
    pub content_bytes: u32,
    /// Where in its entry the content begins.
    pub offset: u32,
    /// Key of the entry that holds the content, or [`NOT_HELD`].
    pub entry: u32,
    /// In how many inboxes it waits.
    pub inboxes: u32,
    /// What only some have.
    pub extra: Option<Box<Extra>>,
}

/// What a message has that is no plain one.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Extra {
    /// The channel that it was sent to.
    pub channel: Option<Name>,
    /// Its sender is to be told what becomes of it.
    pub receipt: bool,
    /// It is no message of anybody's, but tells what became of one.
    pub notice: Option<Notice>,
    /// From then on it waits nowhere any more.
    pub expires: Option<Time>,
    /// How many inboxes keep it that have acknowledged it.
    pub kept: u32,
    /// When it is to come into the inboxes, or has come, if that is later than it was accepted. Of one that has come, a state
    /// that was read back knows it no more: it is for what is counted, and no part of the state.
    pub due: Option<Time>,
}

/// A message waits in one inbox less, or one keeps it no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Released {
    pub id: MessageId,
    pub bytes: u32,
    /// It waits in none any more.
    pub gone: bool,
    /// It is no more.
    pub removed: bool,
    /// Its sender is to be told.
    pub receipt: bool,
    /// When it would have expired.
    pub expires: Option<Time>,
}

impl Message {
    pub fn channel(&self) -> Option<&Name> {
        self.extra.as_ref()?.channel.as_ref()
    }

    pub fn notice(&self) -> Option<Notice> {
        self.extra.as_ref()?.notice
    }

    pub fn expires(&self) -> Option<Time> {
        self.extra.as_ref()?.expires
    }

    pub fn receipt(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.receipt)
    }

    /// Since when it waits.
    pub fn since(&self) -> Time {
        self.extra.as_ref().and_then(|extra| extra.due).unwrap_or(self.time)
    }

    /// How many inboxes keep it that have acknowledged it.
    pub fn kept(&self) -> u32 {
        self.extra.as_ref().map_or(0, |extra| extra.kept)
    }
}

#[derive(Debug)]
struct Entry {
    index: u64,
    /// `None` once it was let go.
    bytes: Option<Bytes>,
    /// Messages in it that wait, and one more while it is being applied.
    messages: u32,
}

/// All messages that wait.
#[derive(Debug, Default)]
pub(super) struct Messages {
    messages: Slab<Message>,
    entries: Slab<Entry>,
    /// Index and key of the entries, oldest first. Those that are gone stay until they are many.
    order: VecDeque<(u64, u32)>,
    /// The entry that is being applied, once something in it waits.
    open: Option<u32>,
    held_bytes: u64,
}

impl Messages {
    pub fn get(&self, key: u32) -> &Message {
        &self.messages[key as usize]
    }

    pub fn get_mut(&mut self, key: u32) -> &mut Message {
        &mut self.messages[key as usize]
    }

    /// The first message whose key is `place` or above, and its key.
    pub fn at_or_after(&self, place: usize) -> Option<(usize, &Message)> {
        (place..self.messages.capacity()).find_map(|key| Some((key, self.messages.get(key)?)))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().map(|(_, message)| message)
    }

    /// Bytes of the log entries that are held for contents.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Adds a message whose content is in `entry`, the one that is being applied.
    pub fn insert(&mut self, entry: &Bytes, message: Message) -> u32 {
        let open = match self.open {
            Some(open) => open,
            None => self.open_entry(message.id.index(), entry),
        };
        self.entries[open as usize].messages += 1;
        self.add(Message { entry: open, ..message })
    }

    /// Adds a message as it is.
    pub fn add(&mut self, message: Message) -> u32 {
        let key = self.messages.insert(message);
        assert!(key < u32::MAX as usize, "as many messages wait as can be counted");
        key as u32
    }

    /// The entry that was being applied is done.
    pub fn close_entry(&mut self) {
        if let Some(open) = self.open.take() {
            self.leave_entry(open);
        }
    }

    /// A message waits in one inbox less.
    pub fn release(&mut self, key: u32) -> Released {
        self.messages[key as usize].inboxes -= 1;
        self.leave(key)
    }

    /// A message waits in one inbox less, which keeps it.
    pub fn keep(&mut self, key: u32) -> Released {
        let message = &mut self.messages[key as usize];
        message.extra.get_or_insert_default().kept += 1;
        message.inboxes -= 1;
        self.leave(key)
    }

    /// One inbox less keeps a message.
    pub fn unkeep(&mut self, key: u32) -> Released {
        if let Some(extra) = &mut self.messages[key as usize].extra {
            extra.kept -= 1;
        }
        self.leave(key)
    }

    /// Removes a message that waits nowhere and is kept nowhere.
    fn leave(&mut self, key: u32) -> Released {
        let message = &self.messages[key as usize];
        let gone = message.inboxes == 0;
        let removed = gone && message.kept() == 0;
        let (receipt, expires) = (message.receipt(), message.expires());
        let released = Released { id: message.id, bytes: message.content_bytes, gone, removed, receipt, expires };
        if removed {
            let message = self.messages.remove(key as usize);
            if message.entry != NOT_HELD {
                self.leave_entry(message.entry);
            }
        }
        released
    }

    /// The content of a message, if it is held.
    pub fn content(&self, message: &Message) -> Option<Bytes> {
        if message.content_bytes == 0 {
            return Some(Bytes::new());
        }
        let bytes = self.entries.get(message.entry as usize)?.bytes.as_ref()?;
        Some(bytes.slice(message.offset as usize..message.offset as usize + message.content_bytes as usize))
    }

    /// Lets go of entries up to index `up_to`, oldest first, until at most `keep_bytes` are held.
    pub fn let_go(&mut self, keep_bytes: u64, up_to: u64) {
        while self.held_bytes > keep_bytes
            && let Some((index, key)) = self.order.front().copied()
            && index <= up_to
        {
            self.order.pop_front();
            if let Some(entry) = self.entries.get_mut(key as usize)
                && entry.index == index
                && let Some(bytes) = entry.bytes.take()
            {
                self.held_bytes -= bytes.len() as u64;
            }
        }
    }

    fn open_entry(&mut self, index: u64, bytes: &Bytes) -> u32 {
        let key = self.entries.insert(Entry { index, bytes: Some(bytes.clone()), messages: 1 }) as u32;
        self.held_bytes += bytes.len() as u64;
        if self.order.len() > 64 + 2 * self.entries.len() {
            let entries = &self.entries;
            self.order.retain(|(index, key)| entries.get(*key as usize).is_some_and(|e| e.index == *index));
        }
        self.order.push_back((index, key));
        self.open = Some(key);
        key
    }

    fn leave_entry(&mut self, key: u32) {
        let entry = &mut self.entries[key as usize];
        entry.messages -= 1;
        if entry.messages == 0 {
            let entry = self.entries.remove(key as usize);
            self.held_bytes -= entry.bytes.map_or(0, |bytes| bytes.len() as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Id;

    fn message(index: u64, offset: u32, content_bytes: u32) -> Message {
        let from = Name::new("a").expect("a name");
        Message {
            id: Id::at(index, 0),
            stream: Id(1),
            number: Number(1),
            time: Time(0),
            from,
            digest: 0,
            content_bytes,
            offset,
            entry: NOT_HELD,
            inboxes: 1,
            extra: None,
        }
    }

    fn release(messages: &mut Messages, key: u32) -> (u32, Option<MessageId>) {
        let Released { id, bytes, gone, .. } = messages.release(key);
        (bytes, gone.then_some(id))
    }

    #[test]
    fn an_entry_is_held_while_a_message_in_it_waits() {
        let mut messages = Messages::default();
        let entry = Bytes::from_static(b"0123456789");
        let first = messages.insert(&entry, message(1, 2, 3));
        let second = messages.insert(&entry, message(1, 5, 1));
        assert_eq!(release(&mut messages, first), (3, Some(Id::at(1, 0))));
        assert_eq!(messages.release(second).bytes, 1);
        let third = messages.insert(&entry, message(1, 9, 1));
        messages.close_entry();
        assert_eq!(messages.held_bytes(), 10);
        assert_eq!(messages.content(messages.get(third)).as_deref(), Some(&b"9"[..]));
        messages.release(third);
        assert_eq!(messages.held_bytes(), 0);
        assert!(messages.entries.is_empty());
    }

    #[test]
    fn the_oldest_entries_go_first_and_only_durable_ones() {
        let mut messages = Messages::default();
        let keys: Vec<u32> = (1..=3)
            .map(|index| {
                let key = messages.insert(&Bytes::from(vec![0; 10]), message(index, 0, 5));
                messages.close_entry();
                key
            })
            .collect();
        let held = |m: &Messages| keys.iter().map(|k| m.content(m.get(*k)).is_some()).collect::<Vec<_>>();
        messages.let_go(20, 3);
        assert_eq!(held(&messages), [false, true, true]);
        messages.let_go(0, 2);
        assert_eq!(held(&messages), [false, false, true]);
        assert_eq!(messages.held_bytes(), 10);
        keys.iter().for_each(|key| {
            messages.release(*key);
        });
        assert_eq!(messages.held_bytes(), 0);
    }

    #[test]
    fn a_message_in_two_inboxes_goes_with_the_second() {
        let mut messages = Messages::default();
        let key = messages.insert(&Bytes::from_static(b"x"), message(1, 0, 1));
        messages.close_entry();
        messages.get_mut(key).inboxes += 1;
        assert_eq!(release(&mut messages, key), (1, None));
        assert_eq!(release(&mut messages, key), (1, Some(Id::at(1, 0))));
    }

    #[test]
    fn the_order_does_not_grow_with_what_is_gone() {
        let mut messages = Messages::default();
        messages.insert(&Bytes::from_static(b"x"), message(1, 0, 1));
        messages.close_entry();
        for index in 2..10_000 {
            let key = messages.insert(&Bytes::from_static(b"x"), message(index, 0, 1));
            messages.close_entry();
            messages.release(key);
        }
        assert!(messages.order.len() < 100, "{}", messages.order.len());
    }
}
