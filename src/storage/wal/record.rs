//! What a batch holds: pure encoding and decoding of records.
//!
//! An entry carries a CRC of its own besides those of its sectors, so that reading one back needs nothing but its
//! bytes. It is salted like the sectors', so that a read which the disk misdirects does not verify.

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};

use super::{LogEntry, MetaKey};

const ENTRY: u8 = 1;
const KEEP_BELOW: u8 = 2;
const DROP_BELOW: u8 = 3;
const META: u8 = 4;
const START: u8 = 5;

/// Bytes of an entry's record apart from its head and body.
pub const ENTRY_OVERHEAD: usize = 21;

/// The first record of a segment: what a reader must know if all earlier segments are gone. The meta values of that
/// moment follow it as records of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Start {
    /// The segment before, 0 for none.
    pub previous: u64,
    /// Where the batches of the segment before end.
    pub previous_end: u64,
    /// Entries below this index were purged.
    pub floor: u64,
    /// Index of the first entry in earlier segments that counts at this moment.
    pub base: u64,
    /// The index behind the last one.
    pub next: u64,
}

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// An entry; where its record begins and how long it is follow from what was taken.
    Entry {
        /// Its index.
        index: u64,
    },
    /// The log ends below this index from here on.
    KeepBelow(u64),
    /// The log begins at this index, or behind it, from here on.
    DropBelow(u64),
    /// A small value that belongs to the log.
    Meta(MetaKey, &'a [u8]),
    /// See there.
    Start(Start),
}

/// Bytes of the record of `entry`.
pub fn entry_bytes(entry: &LogEntry) -> usize {
    ENTRY_OVERHEAD + entry.head.len() + entry.body.len()
}

/// Appends the record of `entry`.
pub fn put_entry(buffer: &mut Vec<u8>, salt: u64, entry: &LogEntry) {
    let fixed = fixed(entry.index, entry.head.len() as u32, entry.body.len() as u32);
    buffer.push(ENTRY);
    buffer.extend_from_slice(&fixed);
    buffer.extend_from_slice(&entry_crc(salt, &fixed, &entry.head, &entry.body).to_le_bytes());
    buffer.extend_from_slice(&entry.head);
    buffer.extend_from_slice(&entry.body);
}

/// Reads the record of the entry at `index`, which is all of `bytes`, without copying it. `None`: it is not that.
pub fn read_entry(bytes: &Bytes, salt: u64, index: u64) -> Option<LogEntry> {
    let mut rest: &[u8] = bytes;
    if take::<1>(&mut rest)? != [ENTRY] {
        return None;
    }
    let fixed_bytes: [u8; 16] = take(&mut rest)?;
    let crc = u32::from_le_bytes(take(&mut rest)?);
    let head = u32::from_le_bytes(std::array::from_fn(|i| fixed_bytes[8 + i])) as usize;
    let body = u32::from_le_bytes(std::array::from_fn(|i| fixed_bytes[12 + i])) as usize;
    if rest.len() != head.checked_add(body)? || fixed_bytes != fixed(index, head as u32, body as u32) {
        return None;
    }
    if crc != entry_crc(salt, &fixed_bytes, &rest[..head], &rest[head..]) {
        return None;
    }
    let rest = bytes.slice(ENTRY_OVERHEAD..);
    Some(LogEntry { index, head: rest.slice(..head), body: rest.slice(head..) })
}

/// Appends a record that says that the log ends below `index`.
pub fn put_keep_below(buffer: &mut Vec<u8>, index: u64) {
    buffer.push(KEEP_BELOW);
    buffer.extend_from_slice(&index.to_le_bytes());
}

/// Appends a record that says that the log begins at `index` or behind it.
pub fn put_drop_below(buffer: &mut Vec<u8>, index: u64) {
    buffer.push(DROP_BELOW);
    buffer.extend_from_slice(&index.to_le_bytes());
}

/// Bytes of a [`put_keep_below`] or [`put_drop_below`].
pub const BOUND_BYTES: usize = 9;

/// Appends a meta value.
pub fn put_meta(buffer: &mut Vec<u8>, key: MetaKey, value: &[u8]) {
    buffer.push(META);
    buffer.push(key as u8);
    buffer.extend_from_slice(&(value.len() as u32).to_le_bytes());
    buffer.extend_from_slice(value);
}

/// Bytes of a meta value's record.
pub fn meta_bytes(value: &[u8]) -> usize {
    6 + value.len()
}

/// Appends a segment's first record.
pub fn put_start(buffer: &mut Vec<u8>, start: &Start) {
    buffer.push(START);
    for field in [start.previous, start.previous_end, start.floor, start.base, start.next] {
        buffer.extend_from_slice(&field.to_le_bytes());
    }
}

/// Bytes of a [`put_start`].
pub const START_BYTES: usize = 41;

/// Takes the next record off `bytes`, whose sectors were checked before. `None`: it is not well formed.
pub fn take_record<'a>(bytes: &mut &'a [u8]) -> Option<Record<'a>> {
    let [kind] = take(bytes)?;
    Some(match kind {
        ENTRY => {
            let index = u64::from_le_bytes(take(bytes)?);
            let head = u32::from_le_bytes(take(bytes)?) as usize;
            let body = u32::from_le_bytes(take(bytes)?) as usize;
            let _crc: [u8; 4] = take(bytes)?;
            take_slice(bytes, head.checked_add(body)?)?;
            Record::Entry { index }
        }
        KEEP_BELOW => Record::KeepBelow(u64::from_le_bytes(take(bytes)?)),
        DROP_BELOW => Record::DropBelow(u64::from_le_bytes(take(bytes)?)),
        META => {
            let [key] = take(bytes)?;
            let length = u32::from_le_bytes(take(bytes)?) as usize;
            Record::Meta(MetaKey::from_byte(key)?, take_slice(bytes, length)?)
        }
        START => {
            let mut field = || Some(u64::from_le_bytes(take(bytes)?));
            Record::Start(Start {
                previous: field()?,
                previous_end: field()?,
                floor: field()?,
                base: field()?,
                next: field()?,
            })
        }
        _ => return None,
    })
}

fn fixed(index: u64, head: u32, body: u32) -> [u8; 16] {
    let mut fixed = [0; 16];
    fixed[..8].copy_from_slice(&index.to_le_bytes());
    fixed[8..12].copy_from_slice(&head.to_le_bytes());
    fixed[12..].copy_from_slice(&body.to_le_bytes());
    fixed
}

fn entry_crc(salt: u64, fixed: &[u8; 16], head: &[u8], body: &[u8]) -> u32 {
    crc32c_append(crc32c_append(crc32c_append(crc32c(&salt.to_le_bytes()), fixed), head), body)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

fn take_slice<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were_put() {
        let entry = LogEntry { index: 7, head: Bytes::from_static(b"head"), body: Bytes::from_static(b"body!") };
        let start = Start { previous: 1, previous_end: 2, floor: 3, base: 4, next: 5 };
        let mut buffer = Vec::new();
        put_start(&mut buffer, &start);
        assert_eq!(buffer.len(), START_BYTES);
        put_meta(&mut buffer, MetaKey::Vote, b"v");
        assert_eq!(buffer.len(), START_BYTES + meta_bytes(b"v"));
        put_entry(&mut buffer, 5, &entry);
        assert_eq!(buffer.len(), START_BYTES + meta_bytes(b"v") + entry_bytes(&entry));
        put_keep_below(&mut buffer, 8);
        put_drop_below(&mut buffer, 2);
        let mut rest = &buffer[..];
        assert_eq!(take_record(&mut rest), Some(Record::Start(start)));
        assert_eq!(take_record(&mut rest), Some(Record::Meta(MetaKey::Vote, b"v")));
        assert_eq!(take_record(&mut rest), Some(Record::Entry { index: 7 }));
        assert_eq!(take_record(&mut rest), Some(Record::KeepBelow(8)));
        assert_eq!(take_record(&mut rest), Some(Record::DropBelow(2)));
        assert!(rest.is_empty());
        for cut in 0..buffer.len() {
            let mut rest = &buffer[..cut];
            while !rest.is_empty() && take_record(&mut rest).is_some() {}
        }
    }

    #[test]
    fn an_entry_verifies_only_as_itself() {
        let entry = LogEntry { index: 7, head: Bytes::from_static(b"head"), body: Bytes::from_static(b"body!") };
        let mut buffer = Vec::new();
        put_entry(&mut buffer, 5, &entry);
        assert_eq!(read_entry(&Bytes::from(buffer.clone()), 5, 7), Some(entry));
        assert_eq!(read_entry(&Bytes::from(buffer.clone()), 6, 7), None, "another segment");
        assert_eq!(read_entry(&Bytes::from(buffer.clone()), 5, 8), None, "another index");
        for at in 0..buffer.len() {
            let mut bad = buffer.clone();
            bad[at] ^= 0x10;
            assert_eq!(read_entry(&Bytes::from(bad), 5, 7), None, "byte {at}");
        }
    }
}
