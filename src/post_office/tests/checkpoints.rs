use std::collections::BTreeMap;

use super::super::records::{self, Kind};
use super::*;

type Records = BTreeMap<Vec<u8>, Bytes>;

fn store(records: &mut Records, changes: Vec<Change>) {
    assert!(changes.is_sorted_by(|a, b| a.key() < b.key()), "sorted, and no key twice");
    for change in changes {
        match change {
            Change::Put { key, head, content } => drop(records.insert(key, [head, content.to_vec()].concat().into())),
            Change::Remove { key } => drop(records.remove(&key)),
            Change::RemoveRange { from, to } => records.retain(|key, _| *key < from || *key >= to),
        }
    }
}

fn load(records: &Records) -> Result<PostOffice, LoadError> {
    PostOffice::load(records.iter().map(|(key, value)| (key.clone(), value.clone())))
}

fn of_kind(changes: &[Change], kind: Kind) -> usize {
    changes.iter().filter(|change| change.key()[2] == kind as u8).count()
}

fn three_waiting() -> (Log, StreamId, RegistrationId) {
    let mut log = Log::default();
    log.register("a");
    let b = log.register("b");
    let stream = log.open(5, "a");
    (1..=3).for_each(|number| drop(log.send(stream, number, "b", b"body")));
    log.ask(attach(1, "b", 0, 9));
    (log, stream, b)
}

#[test]
fn a_checkpoint_brings_the_state_back() {
    let (mut log, stream, b) = three_waiting();
    log.run(&[(acknowledge(b, 1, 0, &[(2, 3)]), b"")]);
    log.ask(Command::AddServer { nonce: 1 << 90, server: "s", address: "x:1" });
    log.ask(Command::AddServer { nonce: 1 << 91, server: "t", address: "x:2" });
    log.ask(Command::RemoveServer { nonce: 1 << 92, server: "t" });
    log.ask(Command::Enroll { server: "s", address: "x:1", disk: 1 << 100 });
    log.ask(Command::AddServer { nonce: 1 << 93, server: "u", address: "x:3" });
    assert_eq!(log.ask(Command::SetDrained { nonce: 1 << 94, server: "s", drained: true }), Answer::ServerDrained);
    let mut records = Records::new();
    store(&mut records, log.office.take_changes());
    let loaded = load(&records).expect("a good checkpoint");
    assert_eq!(loaded.digest(), log.office.digest());
    assert_eq!(loaded.applied(), log.office.applied());
    assert_eq!(loaded.reader(b), log.office.reader(b), "also the end, where only holes are");
    let waiting = loaded.waiting(b, Position(0), 9, 99);
    let message = waiting[0].delivery.message;
    assert_eq!(waiting[0].content, Content::Stored(message));
    let content = content_of(&records[&content_key(message)]).expect("a message");
    assert_eq!(content, &b"body"[..]);
    assert_eq!(loaded.stream_owner(stream), log.office.stream_owner(stream));
}

#[test]
fn a_digest_in_slices_is_the_digest_and_begins_anew_when_the_state_changes() {
    let (mut log, stream, b) = three_waiting();
    log.run(&[(acknowledge(b, 1, 0, &[(2, 2)]), b"")]);
    for slice in 1..8 {
        let mut digesting = Digesting::default();
        let mut slices = 1;
        while log.office.digest_some(&mut digesting, 7, slice).is_none() {
            slices += 1;
        }
        assert!(slice > 1 || slices > 5, "a slice is no more than was asked for");
        let again = log.office.digest_some(&mut digesting, 7, slice);
        assert_eq!(again, Some(log.office.digest()), "in slices of {slice}");
    }
    let mut digesting = Digesting::default();
    assert_eq!(log.office.digest_some(&mut digesting, 7, 3), None);
    let old = log.office.digest();
    drop(log.send(stream, 4, "b", b"body"));
    let new = loop {
        if let Some(digest) = log.office.digest_some(&mut digesting, 8, 3) {
            break digest;
        }
    };
    assert!(new == log.office.digest() && new != old);

    // Servers are read first, and a membership changes them without being for the post office.
    let mut digesting = Digesting::default();
    assert_eq!(log.office.digest_some(&mut digesting, 8, 1), None);
    log.office.founded_by([(1, crate::wire::Name::new("a").unwrap(), "x:1".to_owned())].into_iter(), None);
    let digest = log.office.digest_some(&mut digesting, 9, usize::MAX);
    assert!(digest == Some(log.office.digest()) && digest != Some(new));
}

#[test]
fn the_digest_tells_states_apart() {
    let (mut log, _, b) = three_waiting();
    let mut digests = vec![log.office.digest()];
    log.run(&[(acknowledge(b, 1, 1, &[]), b"")]);
    digests.push(log.office.digest());
    let (mut other, stream, _) = three_waiting();
    other.send(stream, 4, "b", b"bodY");
    digests.push(other.office.digest());
    let (mut other, stream, _) = three_waiting();
    other.send(stream, 4, "b", b"body");
    digests.push(other.office.digest());
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 4);
}

#[test]
fn only_what_changed_is_taken() {
    let (mut log, stream, b) = three_waiting();
    let changes = log.office.take_changes();
    assert_eq!((of_kind(&changes, Kind::Message), of_kind(&changes, Kind::Slot)), (3, 3));
    log.office.changes_durable();
    assert_eq!(log.office.take_changes(), []);
    log.office.changes_durable();
    log.send(stream, 4, "b", b"body");
    let changes = log.office.take_changes();
    assert_eq!((of_kind(&changes, Kind::Message), of_kind(&changes, Kind::Slot)), (1, 1));
    assert_eq!(of_kind(&changes, Kind::Registration), 0);
    log.office.changes_durable();
    log.run(&[(acknowledge(b, 1, 2, &[]), b"")]);
    let changes = log.office.take_changes();
    assert_eq!((of_kind(&changes, Kind::Message), of_kind(&changes, Kind::Slot)), (2, 1));
    assert_eq!(of_kind(&changes, Kind::Stream), 0);
}

#[test]
fn what_came_and_went_between_two_checkpoints_leaves_no_trace() {
    let (mut log, stream, b) = three_waiting();
    let mut records = Records::new();
    store(&mut records, log.office.take_changes());
    log.office.changes_durable();
    let before = records.len();
    log.send(stream, 4, "b", b"body");
    let short = log.open(9, "a");
    log.send(short, 1, "b", b"body");
    log.run(&[(acknowledge(b, 1, 0, &[(4, 5)]), b"")]);
    log.ask(Command::CloseStream { nonce: 1, stream: short });
    let gone = log.register("c");
    log.ask(Command::Deregister { nonce: 1, name: "c", registration: Some(gone) });
    let changes = log.office.take_changes();
    for kind in [Kind::Message, Kind::Slot, Kind::Registration] {
        assert_eq!(of_kind(&changes, kind), 0, "{kind:?}");
    }
    assert_eq!(of_kind(&changes, Kind::Stream), 1);
    store(&mut records, changes);
    assert_eq!(records.len(), before);
    assert_eq!(load(&records).map(|office| office.digest()), Ok(log.office.digest()));
}

/// A flush that failed may have taken effect or not: the next one must be right in both cases.
#[test]
fn a_lost_flush_is_made_good_whether_it_took_effect_or_not() {
    for took_effect in [false, true] {
        let (mut log, stream, b) = three_waiting();
        let mut records = Records::new();
        store(&mut records, log.office.take_changes());
        log.office.changes_durable();
        log.run(&[(acknowledge(b, 1, 1, &[(3, 3)]), b"")]);
        (4..=6).for_each(|number| drop(log.send(stream, number, "b", b"body")));
        let short = log.open(9, "a");
        log.register("c");
        let lost = log.office.take_changes();
        if took_effect {
            store(&mut records, lost);
        }
        log.office.changes_lost();
        log.run(&[(acknowledge(b, 1, 2, &[(5, 5)]), b"")]);
        log.ask(Command::CloseStream { nonce: 1, stream: short });
        log.ask(Command::Deregister { nonce: 1, name: "c", registration: None });
        store(&mut records, log.office.take_changes());
        let loaded = load(&records).expect("a good checkpoint");
        assert_eq!(loaded.digest(), log.office.digest(), "took effect: {took_effect}");
    }
}

#[test]
fn contents_leave_memory_once_they_are_durable() {
    let (mut log, stream, b) = three_waiting();
    let digest = log.office.digest();
    log.office.take_changes();
    log.office.release_contents(0);
    assert!(log.office.totals().content_bytes_in_memory > 0, "the flush is still under way");
    log.office.changes_lost();
    log.office.release_contents(0);
    assert!(log.office.totals().content_bytes_in_memory > 0, "the flush failed");
    log.office.take_changes();
    log.office.changes_durable();
    log.send(stream, 4, "b", b"new");
    log.office.release_contents(0);
    let stored: Vec<bool> = log
        .office
        .waiting(b, Position(0), 9, 99)
        .iter()
        .map(|w| matches!(w.content, Content::Stored(id) if id == w.delivery.message))
        .collect();
    assert_eq!(stored, [true, true, true, false]);
    log.run(&[(acknowledge(b, 1, 4, &[]), b"")]);
    assert_eq!(log.office.totals().content_bytes_in_memory, 0);

    let (mut kept, _, _) = three_waiting();
    kept.office.take_changes();
    kept.office.changes_durable();
    kept.office.release_contents(0);
    assert_eq!(kept.office.digest(), digest, "where contents are is no part of the state");
}

#[test]
fn no_records_are_a_new_state() {
    assert_eq!(load(&Records::new()).map(|office| office.digest()), Ok(PostOffice::new().digest()));
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let (mut log, _, b) = three_waiting();
    let mut good = Records::new();
    store(&mut good, log.office.take_changes());
    assert!(load(&good).is_ok());
    for key in good.keys().filter(|key| key[2] != Kind::Progress as u8 && key[2] != Kind::Stream as u8) {
        let mut bad = good.clone();
        bad.remove(key);
        // A slot that is missing between two others looks as if it was acknowledged.
        if *key != records::key(Kind::Slot, &[b.0, 2]) && *key != records::key(Kind::Slot, &[b.0, 3]) {
            assert!(matches!(load(&bad), Err(LoadError::Inconsistent(_))), "without {key:?}: {:?}", load(&bad).err());
        } else {
            assert!(load(&bad).is_err(), "its message waits nowhere");
        }
    }
    for (key, value) in &good {
        for value in [Bytes::new(), value.slice(..value.len() - 1), [&value[..], b"x"].concat().into()] {
            let mut bad = good.clone();
            bad.insert(key.clone(), value);
            assert!(matches!(load(&bad), Err(LoadError::Record { .. })), "{key:?}");
        }
        let mut newer = value.to_vec();
        newer[0] = 2;
        let mut bad = good.clone();
        bad.insert(key.clone(), newer.into());
        let refused =
            matches!(load(&bad), Err(LoadError::Record { source: BadRecord::Newer { found: 2, known: 1 }, .. }));
        assert!(refused, "{key:?}");
    }
    // Places without end, which no memory holds.
    let inbox = records::key(Kind::Inbox, &[b.0]);
    let mut endless = records::decode_all::<records::InboxRecord<'_>>(&good[&inbox]).unwrap();
    endless.end = u64::MAX;
    let mut bad = good.clone();
    bad.insert(inbox, records::encode(&endless).into());
    assert!(matches!(load(&bad), Err(LoadError::Inconsistent(_))));
    // What is to be made yet.
    let meta = records::key(Kind::Meta, &[]);
    let mut early = records::decode_all::<records::MetaRecord>(&good[&meta]).unwrap();
    early.applied = 1;
    let mut bad = good.clone();
    bad.insert(meta, records::encode(&early).into());
    assert!(matches!(load(&bad), Err(LoadError::Inconsistent(_))));
    let backwards = good.iter().rev().map(|(key, value)| (key.clone(), value.clone()));
    assert!(PostOffice::load(backwards).is_err());
}
