//! Raft's messages and log heads, pinned. Parts of them are encoded by openraft's own types, so this also notices when
//! a new version of it would not read the old one's log. What to do then stands at the top of `tests/wire_golden.rs`.

#[path = "../../../tests/wire_golden/golden.rs"]
mod file;

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use openraft::raft::{TransferLeaderRequest, VoteRequest, VoteResponse};
use openraft::vote::RaftLeaderId;
use proptest::prelude::*;

use self::file::Golden;
use super::super::types::{LeaderId, Member, StoredMembership};
use super::super::{CheckpointMeta, TypeConfig};
use super::*;
use crate::wire::{Name, Quotas};
use crate::world::RealWorld;

type Config = TypeConfig<RealWorld>;

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId::new(term, 3).to_committed(), index)
}

fn membership() -> Membership {
    let member = |name, port, quotas| {
        let (name, address) = (Name::new(name).unwrap(), format!("127.0.0.1:{port}"));
        Member { name, address, quotas }
    };
    let founder = |name, port| member(name, port, Some(Quotas::default()));
    let nodes = BTreeMap::from([(1, founder("a", 8080)), (2, founder("b", 8081)), (1 << 20, member("c", 8082, None))]);
    let configs = vec![BTreeSet::from([1, 2]), BTreeSet::from([1, 2, 1 << 20])];
    Membership::new(configs, nodes).unwrap()
}

fn entries() -> Vec<Entry> {
    vec![
        Entry { log_id: log_id(1, 1), payload: EntryPayload::Membership(membership()) },
        Entry { log_id: log_id(2, 300), payload: EntryPayload::Blank },
        Entry { log_id: log_id(2, 301), payload: EntryPayload::Normal(EntryBody(Bytes::from_static(b"body"))) },
    ]
}

fn encode<T: Serialize>(value: &T) -> Bytes {
    let mut bytes = BytesMut::new();
    frame::put_postcard(&mut bytes, value);
    bytes.freeze()
}

/// Checks `value` both ways; what is not comparable is compared as text.
fn both<T: Serialize + serde::de::DeserializeOwned + std::fmt::Debug>(golden: &mut Golden, name: &str, value: &T) {
    let bytes = golden.check(name, &encode(value));
    match frame::take::<T>(&bytes) {
        Ok((decoded, [])) if format!("{decoded:?}") == format!("{value:?}") => {}
        other => golden.problem(format!("{name}: decodes as {other:?}")),
    }
}

#[test]
fn log_heads_and_values() {
    let mut golden = Golden::open("raft-log.hex");
    for entry in entries() {
        // The match has no wildcard: a kind that is added needs an example.
        let name = match head_of(&entry).0.kind {
            EntryKind::Blank => "entry.blank",
            EntryKind::Normal => "entry.normal",
            EntryKind::Membership(_) => "entry.membership",
        };
        let LogEntry { index, head, body } = to_log(&entry);
        let head = golden.check(name, &head);
        assert_eq!(from_log(LogEntry { index, head, body }).unwrap(), entry, "{name}");
    }
    both(&mut golden, "vote", &Vote::new(5, 3));
    both(&mut golden, "vote.committed", &Vote::new_committed(300, 1 << 20));
    both(&mut golden, "log-id", &log_id(5, 300));
    both(&mut golden, "checkpoint.empty", &CheckpointMeta::default());
    let stored = StoredMembership::new(Some(log_id(1, 1)), membership());
    both(&mut golden, "checkpoint", &CheckpointMeta { applied: Some(log_id(2, 301)), membership: stored });
    golden.finish();
}

#[test]
fn messages_between_servers() {
    let mut golden = Golden::open("raft-messages.hex");
    let (vote, last) = (Vote::new_committed(2, 1), Some(log_id(2, 301)));
    for (name, entries, previous) in [("append", entries(), Some(log_id(1, 0))), ("append.heartbeat", vec![], None)] {
        let request: AppendEntriesRequest<Config> =
            AppendEntriesRequest { vote, prev_log_id: previous, entries, leader_commit: last };
        let mut buffer = BytesMut::new();
        put_append(&mut buffer, &request);
        let mut bytes = golden.check(name, &buffer);
        let frame = frame::split_bytes(&mut bytes).unwrap().unwrap();
        assert_eq!(frame.kind, peer::APPEND);
        let taken = take_append::<RealWorld>(&frame.payload).unwrap();
        assert_eq!(format!("{taken:?}"), format!("{request:?}"), "{name}");
    }
    for reply in [AppendReply::Appended(last), AppendReply::Conflict(log_id(2, 9)), AppendReply::HigherVote(vote)] {
        let name = match &reply {
            AppendReply::Appended(_) => "append-reply.appended",
            AppendReply::Conflict(_) => "append-reply.conflict",
            AppendReply::HigherVote(_) => "append-reply.higher-vote",
        };
        both(&mut golden, name, &reply);
    }
    both::<VoteRequest<Config>>(&mut golden, "vote-request", &VoteRequest::new(Vote::new(6, 2), last));
    both::<VoteResponse<Config>>(&mut golden, "vote-reply", &VoteResponse::new(Vote::new(6, 2), last, true));
    both::<TransferLeaderRequest<Config>>(&mut golden, "transfer", &TransferLeaderRequest::new(vote, 2, last));
    let meta = SnapshotMeta { last_log_id: last, last_membership: StoredMembership::new(last, membership()) };
    both(&mut golden, "snapshot-begin", &SnapshotBegin::new(vote, meta));
    golden.finish();
}

proptest! {
    /// Whatever another server sends, decoding it ends in a message or an error.
    #[test]
    fn arbitrary_bytes_do_not_panic(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..500),
            proptest::collection::vec(0u8..8, 0..500),
        ],
        cut in any::<prop::sample::Index>(),
    ) {
        let head = Bytes::from(bytes);
        let _ = take_append::<RealWorld>(&head);
        let _ = from_log(LogEntry { index: 1, head: head.clone(), body: Bytes::new() });
        let _ = CheckpointMeta::decode(&head);
        let _ = frame::take::<SnapshotBegin>(&head).map(|(begin, _)| begin.check());
        let request: AppendEntriesRequest<Config> = AppendEntriesRequest {
            vote: Vote::new(1, 1), prev_log_id: None, entries: entries(), leader_commit: None,
        };
        let mut buffer = BytesMut::new();
        put_append(&mut buffer, &request);
        let payload = buffer.freeze().slice(frame::HEADER_BYTES..);
        let cut = cut.index(payload.len());
        prop_assert!(take_append::<RealWorld>(&payload.slice(..cut)).is_err(), "cut at {cut}");
    }
}

#[test]
fn every_flipped_bit_of_a_snapshots_first_frame_is_noticed() {
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(3, 17)),
        last_membership: StoredMembership::new(Some(log_id(1, 4)), membership()),
    };
    let mut bytes = BytesMut::new();
    frame::put_postcard(&mut bytes, &SnapshotBegin::new(Vote::new_committed(3, 2), meta.clone()));
    assert_eq!(frame::take::<SnapshotBegin>(&bytes).unwrap().0.check().unwrap().1, meta);
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let read = frame::take::<SnapshotBegin>(&bytes).ok().and_then(|(begin, _)| begin.check().ok());
        assert!(read.is_none(), "bit {bit}: {read:?}");
    }
}
