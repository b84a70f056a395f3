//! The checkpoint over a disk that crashes and rots.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::storage::testing::{Dice, FaultDisk};
use crate::world::{OpenMode, RealDisk};

type State = BTreeMap<Vec<u8>, Bytes>;

fn put(key: impl Into<Vec<u8>>, value: impl Into<Bytes>) -> Change {
    Change::Put { key: key.into(), head: b"head:".to_vec(), content: value.into() }
}

fn key(i: u64) -> Vec<u8> {
    i.to_be_bytes().to_vec()
}

fn open(disk: &FaultDisk) -> Result<Checkpoint, StorageError> {
    Checkpoint::open_with_cache(Arc::new(disk.clone()), 1 << 20)
}

fn contents(checkpoint: &Checkpoint) -> Result<State, StorageError> {
    let mut state = State::new();
    checkpoint.scan(&mut |key, value| {
        state.insert(key, value);
        ControlFlow::Continue(())
    })?;
    Ok(state)
}

fn apply(state: &mut State, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Put { key, head, content } => drop(state.insert(key.clone(), [&head[..], content].concat().into())),
            Change::Remove { key } => drop(state.remove(key)),
            Change::RemoveRange { from, to } => state.retain(|key, _| key < from || key >= to),
        }
    }
}

#[test]
fn what_is_flushed_is_there_after_a_restart_and_ranges_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk::new(directory.path()).unwrap());
    let checkpoint = Checkpoint::open(disk.clone()).unwrap();
    assert_eq!(checkpoint.meta().unwrap(), None);
    let mut changes: Vec<Change> = (0..1000).map(|i| put(key(i), vec![i as u8; 300])).collect();
    changes.push(Change::RemoveRange { from: key(100), to: key(200) });
    changes.push(Change::Remove { key: key(7) });
    checkpoint.flush(&changes, b"at 5").unwrap();
    drop(checkpoint);
    let checkpoint = Checkpoint::open(disk).unwrap();
    assert_eq!(checkpoint.meta().unwrap().as_deref(), Some(&b"at 5"[..]));
    let mut state = State::new();
    apply(&mut state, &changes);
    assert_eq!(state.len(), 899);
    assert_eq!(contents(&checkpoint).unwrap(), state);
    assert_eq!(checkpoint.get(&key(200)).unwrap().as_ref(), state.get(&key(200)));
    assert_eq!(checkpoint.get(&key(100)).unwrap(), None);
    checkpoint.close().unwrap();
}

/// A random flush and what it leads to.
fn random_changes(dice: &mut Dice) -> Vec<Change> {
    let mut changes = Vec::new();
    for _ in 0..dice.below(40) + 1 {
        let at = dice.below(200);
        changes.push(match dice.below(8) {
            0 => Change::Remove { key: key(at) },
            1 => Change::RemoveRange { from: key(at), to: key(at + dice.below(20)) },
            _ => put(key(at), vec![dice.next() as u8; dice.clone().below(900) as usize]),
        });
    }
    changes
}

#[test]
fn a_crash_leaves_the_state_before_a_flush_or_after_it() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let mut disk = FaultDisk::new();
        let (mut state, mut meta) = (State::new(), 0u64);
        let mut next: Option<State> = None;
        for _ in 0..12 {
            let after = dice.below(120);
            disk.knobs(|knobs| knobs.dies_after = Some(after));
            if let Ok(checkpoint) = open(&disk).inspect_err(|e| assert!(matches!(e, StorageError::Io(_)), "{e}")) {
                let found = checkpoint.meta().unwrap().map_or(0, |m| u64::from_le_bytes(m[..].try_into().unwrap()));
                if found == meta + 1 {
                    (state, meta) = (next.clone().unwrap(), found);
                }
                assert_eq!(found, meta, "seed {seed}");
                assert_eq!(contents(&checkpoint).unwrap(), state, "seed {seed}");
                for _ in 0..5 {
                    let changes = random_changes(&mut dice);
                    let mut after = state.clone();
                    apply(&mut after, &changes);
                    next = Some(after.clone());
                    let flushed = if dice.below(4) == 0 {
                        replace(&checkpoint, &after, meta + 1)
                    } else {
                        checkpoint.flush(&changes, &(meta + 1).to_le_bytes())
                    };
                    match flushed {
                        Ok(()) => (state, meta) = (after, meta + 1),
                        Err(StorageError::Io(_)) => break,
                        Err(error) => panic!("seed {seed}: {error}"),
                    }
                }
            }
            disk = disk.crash(&mut dice);
        }
        assert!(meta > 0, "seed {seed} did nothing");
    }
}

/// Takes `state` in as another server's snapshot.
fn replace(checkpoint: &Checkpoint, state: &State, meta: u64) -> Result<(), StorageError> {
    let other = open(&FaultDisk::new()).unwrap();
    let changes: Vec<Change> = state
        .iter()
        .map(|(key, value)| Change::Put { key: key.clone(), head: Vec::new(), content: value.clone() })
        .collect();
    other.flush(&changes, b"").unwrap();
    let mut writer = checkpoint.snapshot_writer()?;
    for chunk in chunks(&other.snapshot().unwrap(), 3000) {
        writer.chunk(&chunk.bytes)?;
    }
    writer.finish(&meta.to_le_bytes())
}

fn chunks(reader: &SnapshotReader, max_bytes: usize) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    while chunks.last().is_none_or(|chunk| !chunk.end) {
        let after = chunks.last().and_then(|chunk| chunk.last_key.clone());
        chunks.push(reader.chunk(after.as_deref(), max_bytes).unwrap());
    }
    chunks
}

#[test]
fn a_snapshot_is_of_one_moment_and_becomes_the_checkpoint() {
    let (one, two) = (open(&FaultDisk::new()).unwrap(), FaultDisk::new());
    let changes: Vec<Change> = (0..300).map(|i| put(key(i), vec![1; 500])).collect();
    one.flush(&changes, b"1").unwrap();
    let reader = one.snapshot().unwrap();
    let before = contents(&one).unwrap();
    let first = reader.chunk(None, 10_000).unwrap();
    one.flush(&[Change::RemoveRange { from: key(0), to: key(300) }], b"2").unwrap();
    assert!(contents(&one).unwrap().is_empty());
    let all = chunks(&reader, 10_000);
    assert_eq!(all[0], first);
    assert!(all.len() > 10);

    let checkpoint = open(&two).unwrap();
    checkpoint.flush(&[put(*b"old", vec![1])], b"0").unwrap();
    let old = checkpoint.snapshot().unwrap();
    let mut writer = checkpoint.snapshot_writer().unwrap();
    for chunk in &all {
        writer.chunk(&chunk.bytes).unwrap();
    }
    writer.finish(b"1").unwrap();
    assert_eq!(contents(&checkpoint).unwrap(), before);
    assert_eq!(old.get(b"old").unwrap().as_deref(), Some(&b"head:\x01"[..]), "who reads the old one goes on");
    checkpoint.flush(&[put(*b"z", vec![1])], b"3").unwrap();
    let again = open(&two.crash(&mut Dice(1))).unwrap();
    assert_eq!(contents(&again).unwrap().len(), 301);
    assert_eq!(again.meta().unwrap().as_deref(), Some(&b"3"[..]));
}

#[test]
fn a_chunk_that_is_damaged_lost_or_repeated_is_refused() {
    let one = open(&FaultDisk::new()).unwrap();
    one.flush(&(0..100).map(|i| put(key(i), vec![1; 100])).collect::<Vec<_>>(), b"1").unwrap();
    let all = chunks(&one.snapshot().unwrap(), 4000);
    assert!(all.len() >= 3);
    let disk = FaultDisk::new();
    let two = open(&disk).unwrap();
    let refused = |result: Result<(), StorageError>| matches!(result, Err(StorageError::BadChunk(_)));
    for at in 0..all[0].bytes.len() {
        let mut bytes = all[0].bytes.to_vec();
        bytes[at] ^= 1 << (at % 8);
        assert!(super::snapshot::parse(&bytes.into()).is_err(), "byte {at}");
    }
    for cut in 0..all[0].bytes.len() {
        assert!(super::snapshot::parse(&all[0].bytes.slice(..cut)).is_err(), "cut at {cut}");
    }
    let mut writer = two.snapshot_writer().unwrap();
    assert!(refused(writer.chunk(&all[1].bytes)), "not the first");
    writer.chunk(&all[0].bytes).unwrap();
    assert!(refused(writer.chunk(&all[0].bytes)), "twice");
    assert!(refused(writer.chunk(&all[2].bytes)), "one is missing");
    assert!(refused(writer.finish(b"1")), "not complete");
    // The key before the first one is the empty one, which no record has: it could come in every chunk that follows nothing.
    let empty = open(&FaultDisk::new()).unwrap();
    empty.flush(&[put(*b"", vec![1])], b"1").unwrap();
    let mut writer = two.snapshot_writer().unwrap();
    assert!(refused(writer.chunk(&chunks(&empty.snapshot().unwrap(), 4000)[0].bytes)), "an empty key");
    assert!(contents(&two).unwrap().is_empty());
    drop(two);
    open(&disk.kill()).unwrap();
    assert_eq!(disk.kill().files().len(), 1, "left-overs are removed");
}

#[test]
fn flipped_bits_are_damage_or_do_no_harm_and_never_a_panic() {
    let disk = FaultDisk::new();
    let checkpoint = open(&disk).unwrap();
    checkpoint.flush(&(0..150).map(|i| put(key(i), vec![i as u8; 300])).collect::<Vec<_>>(), b"meta").unwrap();
    let good = contents(&checkpoint).unwrap();
    checkpoint.close().unwrap();
    let files = disk.kill().files();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut dice = Dice(7);
    let (mut damaged, mut harmless) = (0, 0);
    let length = files[PATH].len() as u64;
    let places: Vec<u64> = (0..400).chain((0..600).map(|_| dice.below(length))).collect();
    for at in places {
        let mut files = files.clone();
        files.get_mut(PATH).unwrap()[at as usize] ^= 1 << dice.below(8);
        let found = open(&FaultDisk::with(&files)).and_then(|c| Ok((contents(&c)?, c.meta()?)));
        match found {
            Ok((state, meta)) => {
                assert!(state == good && meta.as_deref() == Some(&b"meta"[..]), "byte {at} gave wrong data");
                harmless += 1;
            }
            Err(StorageError::Damaged { .. }) => damaged += 1,
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
    std::panic::set_hook(hook);
    assert!(damaged > 100, "{damaged} damaged, {harmless} harmless");
}

fn scrub(checkpoint: &Checkpoint) -> (Result<(), StorageError>, u32) {
    let (mut next, mut steps) = (Some(0), 0);
    while let Some(block) = next {
        match checkpoint.scrub(block, 10_000) {
            Ok(then) => next = then,
            Err(error) => return (Err(error), steps),
        }
        steps += 1;
    }
    (Ok(()), steps)
}

#[test]
fn what_rots_while_it_is_open_is_told_on_reading_and_by_the_scrub() {
    // A cache that hides what happens on the disk, and one too small to.
    for cache in [1 << 20, 0] {
        let disk = FaultDisk::new();
        let checkpoint = Checkpoint::open_with_cache(Arc::new(disk.clone()), cache).unwrap();
        for round in 0..3 {
            let values = (0..400).map(|i| put(key(i), format!("value {i:010} {round}"))).collect::<Vec<_>>();
            checkpoint.flush(&values, b"m").unwrap();
        }
        let (found, steps) = scrub(&checkpoint);
        found.unwrap();
        assert!(steps > 3);
        let bytes = disk.files()[PATH].clone();
        let file = crate::world::Disk::open(&disk, PATH, OpenMode::Existing).unwrap();
        // Wherever a value is now, and in the header.
        let needle = b"value 0000000123 2";
        let mut places: Vec<usize> =
            (0..bytes.len() - needle.len()).filter(|&at| bytes[at..].starts_with(needle)).collect();
        assert!(!places.is_empty());
        places.push(9);
        for &at in &places {
            file.write_at(at as u64, &[bytes[at] ^ 1]).unwrap();
            assert!(matches!(scrub(&checkpoint).0, Err(StorageError::Damaged { .. })), "byte {at}");
            file.write_at(at as u64, &[bytes[at]]).unwrap();
            scrub(&checkpoint).0.unwrap();
        }
        file.write_at(places[0] as u64, &[bytes[places[0]] ^ 1]).unwrap();
        if cache == 0 {
            assert!(matches!(checkpoint.get(&key(123)), Err(StorageError::Damaged { .. })));
        } else {
            assert!(checkpoint.get(&key(123)).unwrap().is_some(), "redb has it in memory");
        }
    }
}

#[test]
fn a_checkpoint_that_is_removed_or_cut_while_it_is_open_is_told_by_the_scrub() {
    let disk = FaultDisk::new();
    let checkpoint = open(&disk).unwrap();
    checkpoint.flush(&(0..400).map(|i| put(key(i), vec![1; 300])).collect::<Vec<_>>(), b"m").unwrap();
    let file = crate::world::Disk::open(&disk, PATH, OpenMode::Existing).unwrap();
    let bytes = disk.files()[PATH].clone();
    file.set_len(5000).unwrap();
    assert!(matches!(scrub(&checkpoint).0, Err(StorageError::Damaged { .. })));
    file.write_at(0, &bytes).unwrap();
    scrub(&checkpoint).0.unwrap();
    crate::world::Disk::remove(&disk, PATH).unwrap();
    assert!(matches!(scrub(&checkpoint).0, Err(StorageError::Damaged { .. })));
}

#[test]
fn a_full_disk_refuses_a_flush_and_takes_it_when_there_is_space() {
    let disk = FaultDisk::new();
    let checkpoint = open(&disk).unwrap();
    checkpoint.flush(&[put(key(1), vec![1; 100])], b"1").unwrap();
    let many: Vec<Change> = (0..4000).map(|i| put(key(i), vec![2; 1000])).collect();
    // First it is noticed before anything is written, then (the disk lies about its space) in the middle.
    for capacity in [2 << 20, 9 << 20] {
        disk.knobs(|knobs| knobs.capacity = Some(capacity));
        let refused = checkpoint.flush(&many, b"2");
        if let Err(StorageError::Io(error)) = &refused {
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert_eq!(checkpoint.get(&key(1)).unwrap().map(|value| value.len()), Some(105), "reading goes on");
            assert_eq!(checkpoint.meta().unwrap().as_deref(), Some(&b"1"[..]));
        } else {
            refused.unwrap();
        }
    }
    disk.knobs(|knobs| knobs.capacity = None);
    checkpoint.flush(&many, b"2").unwrap();
    assert_eq!(contents(&checkpoint).unwrap().len(), 4000);
}

#[test]
fn a_full_disk_refuses_a_snapshot_and_takes_it_when_there_is_space() {
    let one = open(&FaultDisk::new()).unwrap();
    one.flush(&(0..400).map(|i| put(key(i), vec![1; 1000])).collect::<Vec<_>>(), b"1").unwrap();
    let all = chunks(&one.snapshot().unwrap(), 100_000);
    let disk = FaultDisk::new();
    let two = open(&disk).unwrap();
    two.flush(&[put(*b"old", vec![1])], b"0").unwrap();
    let used = || disk.files().values().map(|bytes| bytes.len() as u64).sum::<u64>();
    let mut refused = 0;
    let mut room = 64 << 10;
    // Wherever it is that there is no room, the checkpoint is as it was, and nothing of the snapshot stays behind.
    loop {
        let before = used();
        disk.knobs(|knobs| knobs.capacity = Some(before + room));
        let sealed = two.snapshot_writer().and_then(|mut writer| {
            all.iter().try_for_each(|chunk| writer.chunk(&chunk.bytes))?;
            writer.seal(b"1")
        });
        match sealed {
            Ok(sealed) => {
                // What was sealed needs no more room.
                let used = used();
                disk.knobs(|knobs| knobs.capacity = Some(used));
                sealed.install().unwrap();
                break;
            }
            Err(StorageError::Io(error)) => assert!(crate::storage::is_full(&error), "{error}"),
            Err(error) => panic!("{error}"),
        }
        refused += 1;
        two.remove_unfinished().unwrap();
        assert_eq!(used(), before);
        assert_eq!(two.meta().unwrap().as_deref(), Some(&b"0"[..]));
        room += 64 << 10;
    }
    assert!(refused > 10, "{refused} refused");
    assert_eq!(contents(&two).unwrap(), contents(&one).unwrap());
}

#[test]
fn a_newer_format_is_told_as_that() {
    let disk = FaultDisk::new();
    let checkpoint = open(&disk).unwrap();
    checkpoint.inner.current().unwrap().set_format(9).unwrap();
    checkpoint.close().unwrap();
    assert!(matches!(open(&disk.kill()), Err(StorageError::NewerFormat { found: 9, .. })));
}
