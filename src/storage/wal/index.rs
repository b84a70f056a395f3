//! What the log knows in memory: where each entry is, and the recent ones themselves.

use std::collections::VecDeque;

use super::LogEntry;

/// Where an entry's record is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The segment's number.
    pub segment: u64,
    /// From the segment's beginning.
    pub offset: u64,
    /// The record's length.
    pub bytes: u32,
}

/// The log as it is on disk, by its bounds alone. It is empty if `base == next`, and then both are the floor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Entries below this index are purged.
    pub floor: u64,
    /// Index of the first entry.
    pub base: u64,
    /// The index behind the last one.
    pub next: u64,
}

impl Bounds {
    /// An entry was added.
    pub fn push(&mut self, index: u64) {
        if self.base == self.next {
            self.base = index;
        }
        self.next = index + 1;
    }

    /// The log ends below `next`.
    pub fn keep_below(&mut self, next: u64) {
        self.next = self.next.min(next);
        self.settle();
    }

    /// The log begins at `floor` or behind it.
    pub fn drop_below(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        self.base = self.base.max(self.floor);
        self.settle();
    }

    fn settle(&mut self) {
        if self.next <= self.base {
            (self.base, self.next) = (self.floor, self.floor);
        }
    }
}

#[derive(Debug)]
struct Slot {
    /// Tells this entry from others that had its index before they were cut off.
    ticket: u64,
    /// `None` until it is durable; until then it is in memory.
    place: Option<Place>,
    entry: Option<LogEntry>,
}

/// How an entry can be had.
#[derive(Debug, Clone)]
pub enum Have {
    /// It is in memory.
    Memory(LogEntry),
    /// It is on disk.
    Disk(Place),
}

/// The entries that count, including those on their way to disk.
#[derive(Debug, Default)]
pub struct Index {
    /// Entries below are purged.
    floor: u64,
    /// Index of `slots[0]`, if there is one.
    base: u64,
    slots: VecDeque<Slot>,
    /// Everything below this index is not in memory.
    cached_from: u64,
    cached_bytes: u64,
    tickets: u64,
}

impl Index {
    /// Entries below this index are purged.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The bounds, if nothing is on its way to disk.
    pub fn bounds(&self) -> Bounds {
        Bounds { floor: self.floor, base: self.first().unwrap_or(self.floor), next: self.next() }
    }

    /// Index of the first entry.
    pub fn first(&self) -> Option<u64> {
        (!self.slots.is_empty()).then_some(self.base)
    }

    /// The index behind the last entry; the floor if there is none.
    pub fn next(&self) -> u64 {
        if self.slots.is_empty() { self.floor } else { self.base + self.slots.len() as u64 }
    }

    /// Whether an entry of that index may come next. The first one of an empty log may have any index that is not
    /// purged.
    pub fn accepts(&self, index: u64) -> bool {
        if self.slots.is_empty() { index >= self.floor } else { index == self.next() }
    }

    /// Adds an entry that is on disk.
    pub fn push_placed(&mut self, index: u64, place: Place) {
        self.push(index, Slot { ticket: 0, place: Some(place), entry: None });
        self.cached_from = self.next();
    }

    /// Adds an entry that is on its way there, and gives its ticket.
    pub fn push_pending(&mut self, entry: LogEntry) -> u64 {
        self.tickets += 1;
        if self.slots.is_empty() {
            self.cached_from = entry.index;
        }
        self.cached_bytes += weight(&entry);
        self.push(entry.index, Slot { ticket: self.tickets, place: None, entry: Some(entry) });
        self.tickets
    }

    fn push(&mut self, index: u64, slot: Slot) {
        assert!(self.accepts(index), "the caller has checked");
        if self.slots.is_empty() {
            self.base = index;
        }
        self.slots.push_back(slot);
    }

    /// The entry of that ticket is durable, unless it was cut off meanwhile.
    pub fn placed(&mut self, index: u64, ticket: u64, place: Place) {
        if let Some(slot) = index.checked_sub(self.base).and_then(|i| self.slots.get_mut(i as usize))
            && slot.ticket == ticket
        {
            slot.place = Some(place);
        }
    }

    /// Forgets the oldest entries that are in memory and on disk, until no more than `limit` bytes are in memory.
    pub fn shrink(&mut self, limit: u64) {
        self.cached_from = self.cached_from.max(self.base);
        while self.cached_bytes > limit && self.cached_from < self.next() {
            let slot = &mut self.slots[(self.cached_from - self.base) as usize];
            if slot.place.is_none() {
                break;
            }
            self.cached_bytes -= slot.entry.take().as_ref().map_or(0, weight);
            self.cached_from += 1;
        }
    }

    /// Bytes of entries in memory.
    #[cfg(test)]
    pub fn cached_bytes(&self) -> u64 {
        self.cached_bytes
    }

    /// The log ends below `next`.
    pub fn keep_below(&mut self, next: u64) {
        while !self.slots.is_empty() && self.next() > next {
            self.pop_back();
        }
    }

    fn pop_back(&mut self) {
        if let Some(slot) = self.slots.pop_back() {
            self.cached_bytes -= slot.entry.as_ref().map_or(0, weight);
        }
    }

    /// The log begins at `floor` or behind it.
    pub fn drop_below(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        while !self.slots.is_empty() && self.base < self.floor {
            if let Some(slot) = self.slots.pop_front() {
                self.cached_bytes -= slot.entry.as_ref().map_or(0, weight);
            }
            self.base += 1;
        }
    }

    /// Takes back the entries that are not on disk.
    pub fn forget_pending(&mut self) {
        while self.slots.back().is_some_and(|slot| slot.place.is_none()) {
            self.pop_back();
        }
    }

    /// The oldest segment that an entry is in, if all that comes after `current` counts as being there.
    pub fn oldest_segment(&self, current: u64) -> u64 {
        self.slots.front().and_then(|slot| slot.place).map_or(current, |place| place.segment.min(current))
    }

    /// How to have the entry at `index`.
    pub fn get(&self, index: u64) -> Option<Have> {
        let slot = self.slots.get(usize::try_from(index.checked_sub(self.base)?).ok()?)?;
        match (&slot.entry, slot.place) {
            (Some(entry), _) => Some(Have::Memory(entry.clone())),
            (None, Some(place)) => Some(Have::Disk(place)),
            (None, None) => unreachable!("an entry is in memory until it is on disk"),
        }
    }
}

fn weight(entry: &LogEntry) -> u64 {
    // What a slot and two handles take is not nothing when entries are small.
    (entry.head.len() + entry.body.len() + 128) as u64
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entry(index: u64) -> LogEntry {
        LogEntry { index, head: Bytes::new(), body: Bytes::from(vec![index as u8; 72]) }
    }

    const PLACE: Place = Place { segment: 3, offset: 512, bytes: 10 };

    #[test]
    fn a_place_of_an_entry_that_was_cut_off_is_not_given_to_its_successor() {
        let mut index = Index::default();
        let old = index.push_pending(entry(5));
        index.keep_below(5);
        let new = index.push_pending(entry(5));
        index.placed(5, old, PLACE);
        index.shrink(0);
        assert!(matches!(index.get(5), Some(Have::Memory(_))), "it is not on disk yet");
        index.placed(5, new, PLACE);
        index.shrink(0);
        assert!(matches!(index.get(5), Some(Have::Disk(PLACE))));
        assert_eq!(index.cached_bytes(), 0);
    }

    #[test]
    fn memory_is_bounded_except_for_what_is_not_on_disk() {
        let mut index = Index::default();
        let tickets: Vec<u64> = (0..10).map(|i| index.push_pending(entry(i))).collect();
        for i in 0..7 {
            index.placed(i, tickets[i as usize], PLACE);
        }
        index.shrink(500);
        assert_eq!(index.cached_bytes(), 600, "three are not on disk");
        index.drop_below(8);
        assert_eq!((index.first(), index.next(), index.cached_bytes()), (Some(8), 10, 400));
        index.forget_pending();
        assert_eq!((index.first(), index.next(), index.cached_bytes()), (None, 8, 0));
    }
}
