//! A small backup, and everything that may happen to it.

#[path = "../../tests/wire_golden/golden.rs"]
#[allow(clippy::duplicate_mod, reason = "it belongs to the tests of several parts, and to none of them")]
mod golden;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use self::golden::Golden;
use super::format::{Encoder, FORMAT, MAGIC, Parser, Part};
use super::*;
use crate::post_office::{Answer, Effect, PostOffice};
use crate::raft::{CheckpointMeta, load, restored_at};
use crate::storage::testing::{Dice, FaultDisk, TestWorld};
use crate::storage::{Checkpoint, DataDirectory, OpenError};
use crate::wire::batch::{Batch, BatchHeader, encode_entry};
use crate::wire::client::SendFailure;
use crate::wire::command::Command;
use crate::wire::{ClusterId, Epoch, Id, Name, Number, Origin, Position, SendOutcome, StreamId, Time};
use crate::world::{Disk, File, OpenMode};

const ORIGIN: Origin = Origin { incarnation: 1, boot: 1 };

/// Applies one command, behind everything before; what it brought about, in words where it borrows.
fn run(office: &mut PostOffice, origin: Origin, command: &Command<'_>, content: &[u8]) -> (Vec<Answer>, Vec<Sent>) {
    let mut frames = BytesMut::new();
    command.put(&mut frames, content);
    let sequence = office.last_sequence(origin) + 1;
    let header = BatchHeader { origin, sequence, bytes: frames.len() as u32, commands: 1 };
    let entry = encode_entry(Time(1000), &[Batch { header, frames: frames.freeze() }]);
    let (mut answers, mut sent) = (Vec::new(), Vec::new());
    office
        .apply_entry(office.applied() + 1, &entry, &mut |effect| match effect {
            Effect::Answered { answer, .. } => answers.push(answer),
            Effect::Sent { result, .. } => sent.push(result),
            _ => {}
        })
        .expect("a good entry");
    (answers, sent)
}

type Sent = Result<SendOutcome, SendFailure>;

fn send(office: &mut PostOffice, origin: Origin, stream: StreamId, number: u64, body: &[u8]) -> Sent {
    let command = Command::Send { stream, number: Number(number), confirmed: Number(0), to: "bob" };
    run(office, origin, &command, body).1.remove(0)
}

/// Two clients, a stream, three messages of which one is acknowledged, a reader, and a server that was removed.
fn office() -> (PostOffice, StreamId) {
    let mut office = PostOffice::new();
    let founders = [(1, "a"), (2, "b")].map(|(n, name)| (n, Name::new(name).unwrap(), format!("{name}:1")));
    office.founded_by(founders.into_iter(), None);
    let mut ask = |command: Command<'_>| run(&mut office, ORIGIN, &command, b"").0.remove(0);
    ask(Command::Register { nonce: 1, name: "alice", home: "a" });
    ask(Command::Register { nonce: 2, name: "bob", home: "a" });
    let Answer::StreamOpened { stream, .. } = ask(Command::OpenStream { nonce: 3, name: "alice" }) else { panic!() };
    ask(Command::RemoveServer { nonce: 4, server: "b" });
    ask(Command::Attach { nonce: 5, name: "bob", home: "a", expected: Epoch(0), resumes: None, window: 1 });
    for number in 1..=3 {
        let sent = send(&mut office, ORIGIN, stream, number, format!("message {number}").as_bytes());
        assert_eq!(sent, Ok(SendOutcome::Accepted(Position(number))));
    }
    let registration = office.registration("bob").unwrap().registration;
    let acknowledge = Command::Acknowledge { registration, epoch: Epoch(1), up_to: Position(1), ranges: Vec::new() };
    run(&mut office, ORIGIN, &acknowledge, b"");
    (office, stream)
}

fn header(applied: u64) -> Header {
    Header {
        cluster: ClusterId(7),
        server: Name::new("a").unwrap(),
        applied,
        time: Time(1000),
        made_unix_ms: 1_700_000_000_000,
        records_version: 1,
        software: "0.1.0".to_owned(),
    }
}

/// Its backup, in its parts: as a server makes it, but for the chunks' size.
fn parts_of(mut office: PostOffice) -> Vec<Bytes> {
    let checkpoint = Checkpoint::open(Arc::new(FaultDisk::new())).unwrap();
    checkpoint.flush(&office.take_changes(), &CheckpointMeta::default().encode()).unwrap();
    let reader = checkpoint.snapshot().unwrap();
    let (mut encoder, first) = Encoder::begin(&header(office.applied()));
    let (mut parts, mut after) = (vec![first], None);
    loop {
        let chunk = reader.chunk(after.as_deref(), 150).unwrap();
        parts.push(encoder.chunk(&chunk));
        after = chunk.last_key;
        if chunk.end {
            parts.push(encoder.end());
            return parts;
        }
    }
}

fn file(bytes: &[u8]) -> Arc<dyn File> {
    let file = FaultDisk::new().open("backup", OpenMode::CreateNew).unwrap();
    file.write_at(0, bytes).unwrap();
    file
}

fn check_bytes(bytes: &[u8]) -> Result<Contents, BadBackup> {
    check(&*file(bytes))
}

#[test]
fn a_whole_backup_says_what_is_in_it() {
    let (office, _) = office();
    let (applied, digest, totals) = (office.applied(), office.digest(), office.totals());
    let parts = parts_of(office);
    assert!(parts.len() > 4, "{} parts: chunks are to follow each other", parts.len());
    let contents = check_bytes(&parts.concat()).unwrap();
    assert_eq!(contents.state_digest, digest);
    assert_eq!((contents.totals.clients, contents.totals.streams, contents.totals.waiting), (2, 1, 2));
    assert_eq!(contents.totals.waiting_bytes, totals.waiting_bytes);
    assert_eq!(contents.summary.header, header(applied));
    assert_eq!(contents.summary.file_bytes, parts.concat().len() as u64);
}

#[test]
fn every_changed_byte_every_cut_and_everything_too_many_is_refused() {
    let parts = parts_of(office().0);
    let good = parts.concat();
    check_bytes(&good).unwrap();
    for at in 0..good.len() {
        for bit in [0, 1 + at % 7] {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            assert!(check_bytes(&bytes).is_err(), "byte {at} of {}, bit {bit}", good.len());
        }
    }
    for length in 0..good.len() {
        let refused = check_bytes(&good[..length]).unwrap_err();
        assert!(matches!(refused, BadBackup::CutOff { .. } | BadBackup::NotOne), "cut at {length}: {refused}");
        assert_eq!(matches!(refused, BadBackup::NotOne), length == 0, "cut at {length}");
    }
    assert!(matches!(check_bytes(&[&good[..], b"\0"].concat()), Err(BadBackup::Damaged { .. })));
    assert!(check_bytes(&[good.clone(), good.clone()].concat()).is_err(), "one behind the other");
    assert!(matches!(check_bytes(b"something else altogether"), Err(BadBackup::NotOne)));
    // Whole parts that are missing, doubled or in another order.
    for at in 0..parts.len() {
        let mut fewer = parts.clone();
        fewer.remove(at);
        assert!(check_bytes(&fewer.concat()).is_err(), "without part {at}");
        let mut more = parts.clone();
        more.insert(at, parts[at].clone());
        assert!(check_bytes(&more.concat()).is_err(), "part {at} twice");
        let mut swapped = parts.clone();
        swapped.swap(at, (at + 1) % parts.len());
        assert!(check_bytes(&swapped.concat()).is_err(), "part {at} behind the next");
    }
}

#[test]
fn a_newer_format_is_told_as_that() {
    let mut bytes = parts_of(office().0).concat();
    bytes[8..12].copy_from_slice(&(FORMAT + 1).to_le_bytes());
    let length = u32::from_le_bytes(std::array::from_fn(|i| bytes[12 + i])) as usize;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[MAGIC.len()..16]), &bytes[20..20 + length]);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    assert!(matches!(check_bytes(&bytes), Err(BadBackup::Newer { found: 2, known: 1 })));
}

#[test]
fn the_bytes_of_a_backup() {
    let mut golden = Golden::open("backup.hex");
    let (mut encoder, first) = Encoder::begin(&header(300));
    let checkpoint = Checkpoint::open(Arc::new(FaultDisk::new())).unwrap();
    let put = |key: &[u8], value: &'static [u8]| crate::post_office::Change::Put {
        key: key.to_vec(),
        head: Vec::new(),
        content: Bytes::from_static(value),
    };
    checkpoint.flush(&[put(b"one", b"1"), put(b"two", b"")], b"").unwrap();
    let records = encoder.chunk(&checkpoint.snapshot().unwrap().chunk(None, 1000).unwrap());
    let mut parser = Parser::default();
    for (name, part) in [("begin", first), ("records", records), ("end", encoder.end())] {
        // What is read is what the golden has.
        parser.feed(&golden.check(name, &part));
        match (name, parser.next_part()) {
            ("begin", Ok(Some(Part::Header(read)))) if read == header(300) => {}
            ("records", Ok(Some(Part::Records(read))))
                if read == [("one".into(), "1".into()), ("two".into(), "".into())] => {}
            ("end", Ok(Some(Part::End(read)))) if read.records == 2 => {}
            (name, other) => golden.problem(format!("{name}: reads as {other:?}")),
        }
    }
    golden.finish();
}

fn open(disk: &FaultDisk) -> Result<DataDirectory, OpenError> {
    DataDirectory::open::<TestWorld>(Arc::new(disk.clone()))
}

#[test]
fn what_is_restored_goes_on_where_the_clients_were_and_believes_nothing_from_later() {
    let (office, stream) = office();
    let before = office.applied();
    let backup = file(&parts_of(office).concat());
    let disk = FaultDisk::new();
    let restored = restore::<TestWorld>(&*backup, Arc::new(disk.clone())).unwrap();
    let directory = open(&disk).unwrap();
    assert_eq!((directory.identity(), directory.has_set_aside()), (None, false));
    let seed = directory.seed().unwrap();
    assert_eq!(
        (seed.backup, seed.from, seed.applied),
        (restored.contents.summary.digest, ClusterId(7), restored.applied)
    );
    let checkpoint = Checkpoint::open(Arc::new(disk.clone())).unwrap();
    let meta = CheckpointMeta::decode(&checkpoint.meta().unwrap().unwrap()).unwrap();
    assert_eq!(meta, CheckpointMeta { applied: Some(restored_at(restored.applied)), ..CheckpointMeta::default() });
    let mut office = load(&checkpoint).unwrap();
    assert_eq!((office.applied(), office.time()), (restored.applied, Time(1000)));
    assert_eq!((office.servers().count(), office.is_retired(2)), (0, false), "the servers stayed behind");
    assert_eq!(office.last_sequence(ORIGIN), 0, "and so did their batches");
    let bob = office.registration("bob").unwrap().registration;
    assert!(bob.index() <= before, "registrations are the same");
    let marks: Vec<_> = office
        .waiting(bob, Position(0), 100, 10_000)
        .iter()
        .map(|w| (w.delivery.position.0, w.delivery.redelivered))
        .collect();
    assert_eq!(marks, [(2, true), (3, true)], "they may have been delivered since");

    // A send that is in the backup has its outcome, one that came later is new, another content is refused.
    assert_eq!(send(&mut office, ORIGIN, stream, 2, b"message 2"), Ok(SendOutcome::Accepted(Position(2))));
    assert_eq!(send(&mut office, ORIGIN, stream, 2, b"another"), Err(SendFailure::OtherContent));
    assert_eq!(send(&mut office, ORIGIN, stream, 5, b"message 5"), Err(SendFailure::Gap { expected: Number(4) }));
    assert_eq!(send(&mut office, ORIGIN, stream, 4, b"message 4"), Ok(SendOutcome::Accepted(Position(4))));
    // The reader of before, or of later, acknowledges nothing.
    for epoch in 1..5 {
        let late = Command::Acknowledge { registration: bob, epoch: Epoch(epoch), up_to: Position(4), ranges: vec![] };
        run(&mut office, ORIGIN, &late, b"");
    }
    assert_eq!(office.totals().waiting, 3);
    let attach = |expected| Command::Attach {
        nonce: 5,
        name: "bob",
        home: "a",
        expected: Epoch(expected),
        resumes: None,
        window: 10,
    };
    let (answers, _) = run(&mut office, ORIGIN, &attach(1), b"");
    let Answer::Refused(crate::wire::Refusal::EpochMoved { current }) = answers[0] else { panic!("{answers:?}") };
    let (answers, _) = run(&mut office, ORIGIN, &attach(current.0), b"");
    assert!(matches!(answers[0], Answer::Attached { .. }));
    // What comes to be now has an id that the old cluster cannot have given out.
    let (answers, _) = run(&mut office, ORIGIN, &Command::OpenStream { nonce: 9, name: "alice" }, b"");
    let Answer::StreamOpened { stream, .. } = answers[0] else { panic!("{answers:?}") };
    assert!(stream > Id::at(before + (1 << 35), 0), "{stream}");
}

/// A backup that says it is of that log index.
fn as_of(applied: u64) -> Arc<dyn File> {
    let checkpoint = Checkpoint::open(Arc::new(FaultDisk::new())).unwrap();
    checkpoint.flush(&office().0.take_changes(), b"").unwrap();
    let (mut encoder, first) = Encoder::begin(&header(applied));
    let records = encoder.chunk(&checkpoint.snapshot().unwrap().chunk(None, 1 << 20).unwrap());
    file(&[first, records, encoder.end()].concat())
}

#[test]
fn a_state_is_restored_again_and_again_until_its_index_leaves_no_room() {
    let mut index = office().0.applied();
    for _ in 0..3 {
        let restored = restore::<TestWorld>(&*as_of(index), Arc::new(FaultDisk::new())).unwrap();
        assert!(restored.applied > index + (1 << 35));
        index = restored.applied;
    }
    let refused = restore::<TestWorld>(&*as_of((1 << 47) - 1), Arc::new(FaultDisk::new()));
    assert!(matches!(refused, Err(RestoreError::TooOften { .. })), "{refused:?}");
}

#[test]
fn only_an_empty_directory_is_taken_and_only_a_good_backup() {
    let good = parts_of(office().0).concat();
    let backup = file(&good);
    let disk = FaultDisk::new();
    let restore_to = |disk: &FaultDisk, file: &dyn File| restore::<TestWorld>(file, Arc::new(disk.clone()));
    let mut bad = good.clone();
    let body = good.windows(9).position(|bytes| bytes == b"message 2").expect("a body that waits");
    bad[body] ^= 1;
    assert!(matches!(restore_to(&disk, &*file(&bad)), Err(RestoreError::Backup(BadBackup::Damaged { .. }))));
    assert!(disk.files().is_empty(), "nothing is written for a bad one");
    restore_to(&disk, &*backup).unwrap();
    let after = disk.files();
    assert!(matches!(restore_to(&disk, &*backup), Err(RestoreError::Directory(OpenError::NotEmpty { .. }))));
    assert_eq!(disk.files(), after, "what is there is left alone");
    let foreign = FaultDisk::new();
    foreign.open("holiday.jpg", OpenMode::CreateNew).unwrap();
    assert!(matches!(restore_to(&foreign, &*backup), Err(RestoreError::Directory(OpenError::NotEmpty { .. }))));
    let used = FaultDisk::new();
    let _in_use = open(&used).unwrap();
    assert!(matches!(restore_to(&used, &*backup), Err(RestoreError::Directory(OpenError::InUse { .. }))));
    let mut read = vec![0; good.len()];
    backup.read_at(0, &mut read).unwrap();
    assert!(read == good && backup.len().unwrap() == good.len() as u64, "the file is as it was");
}

#[test]
fn a_restore_that_is_cut_short_leaves_nothing_a_server_would_take() {
    let backup = file(&parts_of(office().0).concat());
    let (digest, operations) = {
        let disk = FaultDisk::new();
        disk.knobs(|knobs| knobs.dies_after = Some(u64::MAX));
        restore::<TestWorld>(&*backup, Arc::new(disk.clone())).unwrap();
        let operations = u64::MAX - disk.knobs(|knobs| knobs.dies_after.unwrap());
        (load(&Checkpoint::open(Arc::new(disk)).unwrap()).unwrap().digest(), operations)
    };
    let (mut whole, mut half, mut nothing) = (0, 0, 0);
    for seed in 0..400 {
        TestWorld::seed(seed);
        let mut dice = Dice(seed);
        let disk = FaultDisk::new();
        // Most of it is redb's; what decides comes first and last.
        let after = match dice.below(3) {
            0 => dice.below(operations),
            1 => dice.below(12),
            _ => operations + 3 - dice.below(15),
        };
        disk.knobs(|knobs| knobs.dies_after = Some(after));
        let done = restore::<TestWorld>(&*backup, Arc::new(disk.clone())).is_ok();
        let disk = if dice.coin() { disk.crash(&mut dice) } else { disk.kill() };
        match open(&disk) {
            Err(OpenError::HalfRestored { .. }) => {
                assert!(!done, "seed {seed}");
                let again = restore::<TestWorld>(&*backup, Arc::new(disk.clone()));
                assert!(matches!(again, Err(RestoreError::Directory(OpenError::HalfRestored { .. }))), "seed {seed}");
                half += 1;
            }
            Ok(directory) if directory.seed().is_some() => {
                let office = load(&Checkpoint::open(Arc::new(disk)).unwrap()).unwrap();
                assert_eq!(office.digest(), digest, "seed {seed}");
                whole += 1;
            }
            Ok(directory) => {
                let names = disk.files();
                assert!(!done && directory.identity().is_none(), "seed {seed}");
                assert!(!names.keys().any(|name| name.starts_with("checkpoint/")), "seed {seed}: {names:?}");
                nothing += 1;
            }
            Err(other) => panic!("seed {seed}: {other}"),
        }
    }
    assert!(whole > 20 && half > 20 && nothing > 2, "{whole} whole, {half} half-made, {nothing} not begun");
}
