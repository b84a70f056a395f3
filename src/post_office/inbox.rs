//! An inbox: the messages that wait for one registration, and its reader.
//!
//! Positions are contiguous from 1. The **floor** is the position up to which everything is acknowledged; behind it
//! stand the slots, each with the key of a message or [`ACKNOWLEDGED`]: a hole that stays until the floor passes it.

use std::collections::VecDeque;

use crate::limits;
use crate::wire::{Epoch, Name, Nonce, Position};

/// The slot of a position that was acknowledged before the floor reached it.
pub(super) const ACKNOWLEDGED: u32 = u32::MAX;

/// Who reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reader {
    pub nonce: Nonce,
    /// Its connection stands, as far as is known. One that vanished may come back by the same nonce. One without a session
    /// has no connection to lose.
    pub present: bool,
    pub window: u32,
    /// The server that its session is at; `None` if it has no session and comes by any server.
    pub home: Option<Name>,
}

/// The messages that wait for one registration, and its reader.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    floor: u64,
    slots: VecDeque<u32>,
    waiting: u64,
    waiting_bytes: u64,
    /// Places that are kept for receipts which may come, and for messages whose time has not.
    pub reserved: u64,
    /// Bytes that are kept for such messages.
    pub reserved_bytes: u64,
    epoch: Epoch,
    reader: Option<Reader>,
    /// Up to here a message may have been seen by a process other than the one that reads now: it is marked as
    /// redelivered.
    marked: u64,
    /// Up to here the last process may have seen messages in connections that are gone. If it comes back itself,
    /// they are no repeats to it; if another one attaches, they are.
    exposed: u64,
    /// What the checkpoint holds of the slots.
    pub stored: Stored,
}

/// What the checkpoint holds of an inbox's slots. A flush may fail after it took effect, so this knows what is there
/// for sure and what may be.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    /// Slots up to here are gone for sure.
    pub gone: u64,
    /// Slots from `gone` up to here are there for sure, holes aside.
    pub sure: u64,
    /// No slot above this one may be there.
    pub most: u64,
}

impl Inbox {
    /// An inbox out of a checkpoint; its slots are added with [`Self::restore_slot`].
    pub fn restored(floor: u64, epoch: Epoch, reader: Option<Reader>, marked: u64, exposed: u64) -> Self {
        Self { floor, epoch, reader, marked, exposed, ..Self::default() }
    }

    /// Adds the slot at `position`, with holes for what is missing before it. Whether it may be there.
    pub fn restore_slot(&mut self, position: u64, end: u64, message: u32, bytes: u32) -> bool {
        if position <= self.end() || position > end || !self.restore_holes(position - 1) {
            return false;
        }
        self.push(message, bytes);
        true
    }

    /// Adds holes up to `end`. Not if there are more than can be: a record that is wrong must not end the process.
    fn restore_holes(&mut self, end: u64) -> bool {
        let holes = usize::try_from(end - self.end());
        let room = holes.is_ok_and(|holes| self.slots.try_reserve(holes).is_ok());
        if room {
            self.slots.resize((end - self.floor) as usize, ACKNOWLEDGED);
        }
        room
    }

    /// Ends restoring: everything up to `end` that is missing was acknowledged. Whether the floor is right.
    pub fn restore_end(&mut self, end: u64) -> bool {
        if end < self.end() || (end > self.floor && self.slots.front().is_none_or(|s| *s == ACKNOWLEDGED)) {
            return false;
        }
        if !self.restore_holes(end) {
            return false;
        }
        self.stored = Stored { gone: self.floor, sure: end, most: end };
        true
    }

    pub fn floor(&self) -> Position {
        Position(self.floor)
    }

    /// The last position there is, or the floor.
    pub fn end(&self) -> u64 {
        self.floor + self.slots.len() as u64
    }

    pub fn span(&self) -> u64 {
        self.slots.len() as u64
    }

    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Places that are taken: by what waits, and by what room is kept for.
    pub fn taken(&self) -> u64 {
        self.waiting + self.reserved
    }

    /// Bytes that are taken: see [`Self::taken`].
    pub fn taken_bytes(&self) -> u64 {
        self.waiting_bytes + self.reserved_bytes
    }

    /// Keeps room for a message of so many bytes.
    pub fn reserve(&mut self, bytes: u32) {
        self.reserved += 1;
        self.reserved_bytes += u64::from(bytes);
    }

    /// Keeps it no more.
    pub fn unreserve(&mut self, bytes: u32) {
        self.reserved -= 1;
        self.reserved_bytes -= u64::from(bytes);
    }

    pub fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub fn reader(&self) -> Option<&Reader> {
        self.reader.as_ref()
    }

    pub fn marked(&self) -> u64 {
        self.marked
    }

    pub fn exposed(&self) -> u64 {
        self.exposed
    }

    /// Puts a message at the end.
    pub fn push(&mut self, message: u32, bytes: u32) -> Position {
        debug_assert!(message != ACKNOWLEDGED);
        self.slots.push_back(message);
        self.waiting += 1;
        self.waiting_bytes += u64::from(bytes);
        Position(self.end())
    }

    /// The key of the message that waits at a position.
    pub fn slot(&self, position: u64) -> Option<u32> {
        let place = position.checked_sub(self.floor + 1)?;
        self.slots.get(usize::try_from(place).ok()?).copied().filter(|slot| *slot != ACKNOWLEDGED)
    }

    /// The waiting messages from position `from` on, positions ascending.
    pub fn messages_from(&self, from: u64) -> impl Iterator<Item = (Position, u32)> {
        let skip = from.saturating_sub(self.floor + 1).min(self.slots.len() as u64);
        let first = self.floor + 1 + skip;
        let slots = self.slots.range(skip as usize..).enumerate();
        slots.filter(|(_, slot)| **slot != ACKNOWLEDGED).map(move |(i, slot)| (Position(first + i as u64), *slot))
    }

    /// How many of the positions from `from` to `to`, both included, are not acknowledged.
    pub fn unacknowledged(&self, from: u64, to: u64) -> u64 {
        let from = from.max(self.floor + 1);
        let to = to.min(self.end());
        if from > to {
            return 0;
        }
        if self.waiting == self.span() {
            return to - from + 1;
        }
        let range = (from - self.floor - 1) as usize..(to - self.floor) as usize;
        self.slots.range(range).filter(|slot| **slot != ACKNOWLEDGED).count() as u64
    }

    /// Acknowledges everything up to `up_to` and the `ranges`, which ascend above it. What does not exist is not
    /// acknowledged. `release` gets each message that waits here no more, with its position, and says how many bytes it had. Positions that
    /// the checkpoint may hold and that become holes are added to `holes`.
    pub fn acknowledge(
        &mut self,
        up_to: Position,
        ranges: &[(Position, Position)],
        holes: &mut Vec<u64>,
        mut release: impl FnMut(Position, u32) -> u32,
    ) {
        let end = self.end();
        let mut freed = 0u64;
        let mut freed_bytes = 0u64;
        let mut free = |position: u64, slot: u32| {
            freed += 1;
            freed_bytes += u64::from(release(Position(position), slot));
        };
        let passed = up_to.0.min(end).saturating_sub(self.floor);
        for place in 1..=passed {
            match self.slots.pop_front() {
                Some(ACKNOWLEDGED) | None => {}
                Some(slot) => free(self.floor + place, slot),
            }
        }
        self.floor += passed;
        for (from, to) in ranges {
            for position in from.0.max(self.floor + 1)..=to.0.min(end) {
                let slot = &mut self.slots[(position - self.floor - 1) as usize];
                if *slot != ACKNOWLEDGED {
                    free(position, std::mem::replace(slot, ACKNOWLEDGED));
                    if position <= self.stored.most {
                        holes.push(position);
                    }
                }
            }
        }
        self.waiting -= freed;
        self.waiting_bytes -= freed_bytes;
        while self.slots.front() == Some(&ACKNOWLEDGED) {
            self.slots.pop_front();
            self.floor += 1;
        }
        if self.slots.capacity() > 4096 && self.slots.len() < self.slots.capacity() / 8 {
            self.slots.shrink_to(self.slots.len() * 2);
        }
    }

    /// Makes `reader` the reader, under the next epoch.
    ///
    /// Its predecessor may have seen as many messages as its window is wide, counted from the floor. If it is the very
    /// process that comes back (`resumes`), they stay no repeats; else they become such.
    pub fn attach(&mut self, reader: Reader, resumes: bool) -> Epoch {
        self.expose();
        if !resumes {
            self.marked = self.marked.max(self.exposed);
            self.exposed = 0;
        }
        self.epoch.0 += 1;
        self.reader = Some(Reader { window: reader.window.clamp(1, limits::READER_WINDOW_MAX), ..reader });
        self.epoch
    }

    /// Ends the reader. `delivered` is how far its process got; `None` if that is not known. A process that was cut off
    /// first and says so later is believed too, since nobody has attached in between.
    pub fn detach(&mut self, delivered: Option<Position>) {
        match delivered {
            Some(position) => {
                self.marked = self.marked.max(position.0.min(self.end()));
                self.exposed = 0;
            }
            None => self.expose(),
        }
        self.reader = None;
    }

    /// Whether a reader is there.
    pub fn is_attached(&self) -> bool {
        self.reader.as_ref().is_some_and(|reader| reader.present)
    }

    /// The server that the reader's session is at, if it has one that stands.
    pub fn session_at(&self) -> Option<&Name> {
        self.reader.as_ref().filter(|reader| reader.present)?.home.as_ref()
    }

    /// The reader's connection is gone.
    pub fn lose_reader(&mut self) {
        self.expose();
        if let Some(reader) = &mut self.reader {
            reader.present = false;
        }
    }

    /// The reader is there after all, at this home. Says at which one it was before, if that is another.
    pub fn return_reader(&mut self, home: Option<Name>) -> Option<Name> {
        let reader = self.reader.as_mut()?;
        reader.present = true;
        if reader.home == home { None } else { std::mem::replace(&mut reader.home, home) }
    }

    fn expose(&mut self) {
        if let Some(reader) = self.reader.as_ref().filter(|reader| reader.present) {
            self.exposed = self.exposed.max(self.last_in_window(reader.window));
        }
    }

    /// The position of the last of the first `window` messages that wait.
    fn last_in_window(&self, window: u32) -> u64 {
        if u64::from(window) >= self.waiting {
            return self.end();
        }
        self.messages_from(0).nth(window as usize - 1).map_or(self.end(), |(position, _)| position.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(messages: u32) -> Inbox {
        let mut inbox = Inbox::default();
        for message in 0..messages {
            assert_eq!(inbox.push(message, 10), Position(u64::from(message) + 1));
        }
        inbox
    }

    fn acknowledge(inbox: &mut Inbox, up_to: u64, ranges: &[(u64, u64)]) -> (Vec<u32>, Vec<u64>) {
        let ranges: Vec<_> = ranges.iter().map(|(a, b)| (Position(*a), Position(*b))).collect();
        let (mut released, mut holes) = (Vec::new(), Vec::new());
        inbox.acknowledge(Position(up_to), &ranges, &mut holes, |_, message| {
            released.push(message);
            10
        });
        (released, holes)
    }

    fn reader(window: u32) -> Reader {
        Reader { nonce: 7, present: true, window, home: None }
    }

    #[test]
    fn the_floor_passes_holes_when_it_reaches_them() {
        let mut inbox = filled(6);
        assert_eq!(acknowledge(&mut inbox, 0, &[(2, 3), (5, 5)]).0, [1, 2, 4]);
        assert_eq!((inbox.floor().0, inbox.waiting(), inbox.waiting_bytes(), inbox.span()), (0, 3, 30, 6));
        assert_eq!(inbox.unacknowledged(1, 6), 3);
        assert_eq!(inbox.unacknowledged(2, 4), 1);
        assert_eq!(acknowledge(&mut inbox, 1, &[]).0, [0]);
        assert_eq!((inbox.floor().0, inbox.end()), (3, 6));
        assert_eq!(inbox.messages_from(0).collect::<Vec<_>>(), [(Position(4), 3), (Position(6), 5)]);
        assert_eq!(inbox.messages_from(5).collect::<Vec<_>>(), [(Position(6), 5)]);
        assert_eq!(inbox.messages_from(7).count(), 0);
    }

    #[test]
    fn what_does_not_exist_is_not_acknowledged() {
        let mut inbox = filled(2);
        assert_eq!(acknowledge(&mut inbox, u64::MAX, &[]).0, [0, 1]);
        assert_eq!(inbox.push(9, 1), Position(3));
        assert_eq!(acknowledge(&mut inbox, 0, &[(4, u64::MAX)]).0, [0u32; 0]);
        assert_eq!(inbox.waiting(), 1);
        assert_eq!(inbox.unacknowledged(0, u64::MAX), 1);
    }

    #[test]
    fn only_stored_positions_become_holes_to_store() {
        let mut inbox = filled(4);
        inbox.stored = Stored { gone: 0, sure: 3, most: 3 };
        assert_eq!(acknowledge(&mut inbox, 0, &[(2, 4)]).1, [2, 3]);
    }

    #[test]
    fn a_reader_that_is_replaced_leaves_marks_as_wide_as_its_window() {
        let mut inbox = filled(5);
        assert_eq!(inbox.attach(reader(2), false), Epoch(1));
        assert_eq!(inbox.marked(), 0);
        acknowledge(&mut inbox, 1, &[(3, 3)]);
        // It may have seen the first two that still wait: 2 and 4.
        assert_eq!(inbox.attach(reader(9), false), Epoch(2));
        assert_eq!(inbox.marked(), 4);
        inbox.attach(reader(1), false);
        assert_eq!(inbox.marked(), 5);
    }

    #[test]
    fn a_process_that_resumes_sees_no_repeats_until_another_follows() {
        let mut inbox = filled(5);
        inbox.attach(reader(4), false);
        inbox.attach(reader(1), true);
        assert_eq!(inbox.marked(), 0);
        inbox.detach(None);
        inbox.push(9, 1);
        inbox.attach(reader(1), false);
        assert_eq!(inbox.marked(), 4, "what the first connection may have delivered counts too");
    }

    #[test]
    fn a_clean_detach_marks_exactly_what_was_delivered() {
        let mut inbox = filled(5);
        inbox.attach(reader(4), false);
        inbox.detach(Some(Position(2)));
        inbox.attach(reader(4), false);
        assert_eq!(inbox.marked(), 2);
        inbox.detach(Some(Position(1)));
        assert_eq!(inbox.marked(), 2, "what an earlier one saw stays marked");
        inbox.attach(reader(4), false);
        inbox.detach(Some(Position(99)));
        assert_eq!(inbox.marked(), 5, "nobody saw what does not exist");
    }
}
