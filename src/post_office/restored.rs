//! The records of a state that another cluster goes on with.

use bytes::Bytes;

use super::checkpoint::Change;
use super::records::{self, BadRecord, InboxRecord, Kind, MetaRecord};
use crate::wire::{Epoch, Time};

/// By how much epochs jump: no inbox had so many readers since the state was taken.
const EPOCHS_SKIPPED: u64 = 1 << 32;

/// Where a state stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The last log entry that was applied to it, apart from those of Raft's own.
    pub applied: u64,
    /// The cluster's time as of then.
    pub time: Time,
}

/// The key of the record that says where the state stands.
pub fn standing_key() -> Vec<u8> {
    records::key(Kind::Meta, &[])
}

/// What the record at [`standing_key`] says.
///
/// # Errors
/// [`BadRecord`] if the value is none of such a record.
pub fn standing_of(value: &[u8]) -> Result<Standing, BadRecord> {
    let record = records::decode_all::<MetaRecord>(value)?;
    Ok(Standing { applied: record.applied, time: record.time })
}

/// A record as it is to be in a cluster that begins with this state, behind log index `applied`; `None` if it stays
/// behind.
///
/// The servers are others, and so are their disks and batches. No reader is there, and no earlier one is believed: since
/// the state was taken, it may have read what in this cluster is something else. What waits may have been delivered since.
///
/// # Errors
/// [`BadRecord`].
pub fn restored_record(key: &[u8], value: &Bytes, applied: u64) -> Result<Option<Change>, BadRecord> {
    let (kind, _) = records::split_key(key)?;
    let head = match kind {
        Kind::Progress | Kind::Enrolled | Kind::Disk | Kind::Server | Kind::Retired => return Ok(None),
        Kind::Meta => {
            let record = records::decode_all::<MetaRecord>(value)?;
            records::encode(&MetaRecord { applied, ..record })
        }
        Kind::Inbox => {
            let record = records::decode_all::<InboxRecord<'_>>(value)?;
            let epoch = Epoch(record.epoch.0.saturating_add(EPOCHS_SKIPPED));
            records::encode(&InboxRecord { epoch, reader: None, marked: record.end, exposed: 0, ..record })
        }
        Kind::Registration
        | Kind::Stream
        | Kind::Message
        | Kind::Slot
        | Kind::Channel
        | Kind::Member
        | Kind::Subscription
        | Kind::Tracked
        | Kind::Scheduled
        | Kind::Settings
        | Kind::Kept => {
            return Ok(Some(Change::Put { key: key.to_vec(), head: Vec::new(), content: value.clone() }));
        }
    };
    Ok(Some(Change::Put { key: key.to_vec(), head, content: Bytes::new() }))
}
