//! The records of the checkpoint: their keys and their values.
//!
//! A key is `shard (u16) | kind (u8) | ids`, all big-endian, so that keys sort as the state is read back: a record
//! comes after those it refers to. A value is `version (u8) | postcard`, and a message's content is raw behind that.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::scheduled::Addressees;
use super::streams::{Concluded, Outcome};
use crate::wire::sharing::{Fate, Notice, Unreached};
use crate::wire::{Epoch, MessageId, Nonce, Number, Quotas, RegistrationId, ShardId, StreamId, Time};

/// The version of every record that is written now.
pub const RECORDS_VERSION: u8 = 1;
/// The one shard there is.
const SHARD: ShardId = 0;

/// What a record is about; the third byte of its key. Ascending as records refer to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Kind {
    Meta = 1,
    Progress = 2,
    /// Written by builds that could not add servers; the membership says all that it did.
    Enrolled = 3,
    Disk = 4,
    Registration = 5,
    Inbox = 6,
    Stream = 7,
    Message = 8,
    Slot = 9,
    Server = 10,
    Retired = 11,
    Channel = 12,
    Member = 13,
    Subscription = 14,
    Tracked = 15,
    Scheduled = 16,
    Settings = 17,
    Kept = 18,
}

impl Kind {
    const ALL: [Self; 18] = [
        Self::Meta,
        Self::Progress,
        Self::Enrolled,
        Self::Disk,
        Self::Registration,
        Self::Inbox,
        Self::Stream,
        Self::Message,
        Self::Slot,
        Self::Server,
        Self::Retired,
        Self::Channel,
        Self::Member,
        Self::Subscription,
        Self::Tracked,
        Self::Scheduled,
        Self::Settings,
        Self::Kept,
    ];
}

/// A record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// The key is of no kind that this version knows.
    #[error("no record of this version has the key {key}")]
    Key {
        /// The key in hexadecimal.
        key: String,
    },
    /// A newer version wrote it.
    #[error("it has version {found}, and this program reads up to {known}: use the newer program")]
    Newer {
        /// The version it has.
        found: u8,
        /// The newest version known here.
        known: u8,
    },
    /// The value does not decode.
    #[error("its value does not decode: {0}")]
    Value(#[from] postcard::Error),
    /// The value is longer or shorter than it says.
    #[error("its value has {have} bytes of content where {expected} belong")]
    Length {
        /// The bytes there are.
        have: usize,
        /// The bytes that belong there.
        expected: usize,
    },
}

/// Where the state stands.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MetaRecord {
    pub applied: u64,
    pub time: Time,
    pub quotas: Quotas,
    pub malformed: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ProgressRecord {
    pub boot: u64,
    pub last: u64,
}

/// A server that belongs to the cluster, or did so once.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ServerRecord<'a> {
    /// None if it was removed.
    pub address: Option<&'a str>,
    pub incarnation: Option<u64>,
    pub added_by: Nonce,
    pub removed_by: Nonce,
    pub drained: bool,
    pub drained_by: Nonce,
    pub undrained_by: Nonce,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RegistrationRecord<'a> {
    pub name: &'a str,
    pub nonce: Nonce,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InboxRecord<'a> {
    pub home: &'a str,
    pub last_seen: Time,
    pub floor: u64,
    pub end: u64,
    pub epoch: Epoch,
    #[serde(borrow)]
    pub reader: Option<ReaderRecord<'a>>,
    pub marked: u64,
    pub exposed: u64,
    pub enlisted: Option<EnlistedRecord>,
}

/// How often what a client has joined was changed; what it has joined are records of their own.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EnlistedRecord {
    pub changes: u64,
    pub changed_by: Nonce,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ChannelRecord<'a> {
    pub name: &'a str,
    pub nonce: Nonce,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TrackedRecord {
    pub sender: RegistrationId,
    pub stream: StreamId,
    pub number: Number,
    pub fate: Fate,
}

/// A message that is to be delivered later; its time is in the key.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ScheduledRecord {
    pub sender: RegistrationId,
    pub to: Addressees,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReaderRecord<'a> {
    pub nonce: Nonce,
    pub window: u32,
    pub present: bool,
    pub home: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(super) struct StreamRecord<'a> {
    pub registration: RegistrationId,
    pub nonce: Nonce,
    pub confirmed: u64,
    pub used: Time,
    pub checked: Time,
    pub outcomes: &'a VecDeque<Outcome>,
    pub unreached: &'a BTreeMap<u64, Unreached>,
    pub collected: u64,
    pub receipts: &'a VecDeque<Concluded>,
}

/// [`StreamRecord`] as it is read.
#[derive(Debug, Deserialize)]
pub(super) struct OwnedStreamRecord {
    pub registration: RegistrationId,
    pub nonce: Nonce,
    pub confirmed: u64,
    pub used: Time,
    pub checked: Time,
    pub outcomes: VecDeque<Outcome>,
    pub unreached: BTreeMap<u64, Unreached>,
    pub collected: u64,
    pub receipts: VecDeque<Concluded>,
}

/// Everything a delivery needs but the content, which stands behind it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MessageRecord<'a> {
    pub stream: StreamId,
    pub number: Number,
    pub time: Time,
    pub from: &'a str,
    pub digest: u64,
    pub content_bytes: u32,
    pub channel: Option<&'a str>,
    pub receipt: bool,
    pub notice: Option<Notice>,
    pub expires: Option<Time>,
}

/// The key of a record of this kind.
pub(super) fn key(kind: Kind, ids: &[u64]) -> Vec<u8> {
    let mut key = Vec::new();
    put_key(&mut key, kind, ids);
    key
}

/// Appends a [`key`].
pub(super) fn put_key(buffer: &mut Vec<u8>, kind: Kind, ids: &[u64]) {
    put_key_prefix(buffer, kind, ids.len() * 8);
    ids.iter().for_each(|id| buffer.extend_from_slice(&id.to_be_bytes()));
}

/// Appends the key of a record that is found by something else than numbers.
pub(super) fn put_key_of_bytes(buffer: &mut Vec<u8>, kind: Kind, bytes: &[u8]) {
    put_key_prefix(buffer, kind, bytes.len());
    buffer.extend_from_slice(bytes);
}

fn put_key_prefix(buffer: &mut Vec<u8>, kind: Kind, more: usize) {
    buffer.reserve(3 + more);
    buffer.extend_from_slice(&SHARD.to_be_bytes());
    buffer.push(kind as u8);
}

/// Kind and ids of a key.
pub(super) fn split_key(key: &[u8]) -> Result<(Kind, &[u8]), BadRecord> {
    let bad = || BadRecord::Key { key: key.iter().map(|b| format!("{b:02x}")).collect() };
    let ([a, b, kind], ids) = key.split_first_chunk::<3>().ok_or_else(bad)?;
    let kind = Kind::ALL.into_iter().find(|known| *known as u8 == *kind).ok_or_else(bad)?;
    let expected = match kind {
        Kind::Meta => 0,
        Kind::Enrolled | Kind::Server => ids.len(),
        Kind::Progress | Kind::Registration | Kind::Inbox | Kind::Stream | Kind::Message | Kind::Retired => 8,
        Kind::Channel | Kind::Tracked | Kind::Settings => 8,
        Kind::Disk | Kind::Slot | Kind::Member | Kind::Scheduled | Kind::Kept => 16,
        Kind::Subscription => ids.len().max(9),
    };
    if ShardId::from_be_bytes([*a, *b]) == SHARD && ids.len() == expected { Ok((kind, ids)) } else { Err(bad()) }
}

/// The number at place `place` of a key's ids, which [`split_key`] has measured.
pub(super) fn id_at(ids: &[u8], place: usize) -> u64 {
    ids[place * 8..].first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The key of the record that holds a message's content.
pub fn content_key(message: MessageId) -> Vec<u8> {
    key(Kind::Message, &[message.0])
}

/// Cuts the content out of the value of the record at [`content_key`].
///
/// # Errors
/// [`BadRecord`] if the value is none of a message.
pub fn content_of(value: &Bytes) -> Result<Bytes, BadRecord> {
    let (record, content) = decode::<MessageRecord<'_>>(value)?;
    let expected = record.content_bytes as usize;
    if content.len() != expected {
        return Err(BadRecord::Length { have: content.len(), expected });
    }
    Ok(value.slice(value.len() - expected..))
}

/// A record's value, apart from a content.
pub(super) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    let mut value = Vec::new();
    put(&mut value, record);
    value
}

/// Appends what [`encode`] makes.
pub(super) fn put<T: Serialize>(buffer: &mut Vec<u8>, record: &T) {
    buffer.push(RECORDS_VERSION);
    // Our own records have known lengths and a vector cannot run out: there is nothing that could fail.
    *buffer = postcard::to_extend(record, std::mem::take(buffer)).expect("a record encodes");
}

/// A record and what stands behind it.
pub(super) fn decode<'a, T: Deserialize<'a>>(value: &'a [u8]) -> Result<(T, &'a [u8]), BadRecord> {
    match value.split_first() {
        Some((&RECORDS_VERSION, rest)) => Ok(postcard::take_from_bytes(rest)?),
        Some((&found, _)) => Err(BadRecord::Newer { found, known: RECORDS_VERSION }),
        None => Err(BadRecord::Value(postcard::Error::DeserializeUnexpectedEnd)),
    }
}

/// A record with nothing behind it.
pub(super) fn decode_all<'a, T: Deserialize<'a>>(value: &'a [u8]) -> Result<T, BadRecord> {
    match decode(value)? {
        (record, []) => Ok(record),
        (_, rest) => Err(BadRecord::Length { have: rest.len(), expected: 0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Id;

    #[test]
    fn keys_sort_by_kind_and_then_by_number() {
        let keys = [
            key(Kind::Meta, &[]),
            key(Kind::Stream, &[255]),
            key(Kind::Stream, &[256]),
            content_key(Id(1)),
            key(Kind::Slot, &[1, 2]),
            key(Kind::Slot, &[1, 300]),
            key(Kind::Slot, &[2, 0]),
        ];
        assert!(keys.is_sorted());
        for key in keys {
            assert!(split_key(&key).is_ok());
            assert!(matches!(split_key(&[key, vec![0]].concat()), Err(BadRecord::Key { .. })));
        }
        assert!(split_key(&[0, 1, Kind::Meta as u8]).is_err(), "another shard");
        assert!(split_key(&[0, 0, 99]).is_err());
        assert!(split_key(&[]).is_err());
    }

    #[test]
    fn a_content_is_cut_out_of_its_record() {
        let record = MessageRecord {
            stream: Id(1),
            number: Number(2),
            time: Time(3),
            from: "a",
            digest: u64::MAX,
            content_bytes: 5,
            channel: None,
            receipt: false,
            notice: None,
            expires: None,
        };
        let mut value = encode(&record);
        value.extend_from_slice(b"hello");
        assert_eq!(content_of(&value.clone().into()).as_deref(), Ok(&b"hello"[..]));
        value.push(b'!');
        assert_eq!(content_of(&value.clone().into()), Err(BadRecord::Length { have: 6, expected: 5 }));
        value[0] = 2;
        assert_eq!(content_of(&value.into()), Err(BadRecord::Newer { found: 2, known: 1 }));
        assert!(content_of(&Bytes::new()).is_err());
    }
}
