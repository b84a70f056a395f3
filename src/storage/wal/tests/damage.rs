//! What happened to the files while nobody looked.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::storage::testing::FaultDisk;
use crate::storage::wal::batch::SECTOR;
use crate::storage::{LogPlace, MetaKey};

const SEGMENT: u64 = 8 << 10;

type Files = BTreeMap<String, Vec<u8>>;

/// A log of several segments, and what it contains.
fn sample() -> (Files, Vec<LogEntry>) {
    TestWorld::seed(5);
    let disk = FaultDisk::new();
    let entries = run(async {
        let log = open(&disk, SEGMENT).await.unwrap();
        log.put(MetaKey::Vote, Bytes::from_static(b"for b")).await.unwrap();
        for index in 1..=14 {
            append(&log, vec![entry(index, [10, 700, 2500][index as usize % 3])]).await.unwrap();
        }
        // Lets the maker of segments finish.
        TestWorld::sleep(std::time::Duration::from_millis(10)).await;
        all(&log).await.unwrap()
    });
    (disk.kill().files(), entries)
}

fn reopen(files: &Files) -> Result<(Vec<LogEntry>, Option<Bytes>), LogError> {
    run(async {
        let log = open(&FaultDisk::with(files), SEGMENT).await?;
        Ok((all(&log).await?, log.get(MetaKey::Vote)))
    })
}

/// The segments among them.
fn segments(files: &Files) -> Vec<String> {
    files.keys().filter(|name| name.ends_with(".seg")).cloned().collect()
}

fn written(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| (last + 1).next_multiple_of(SECTOR))
}

#[test]
fn every_flipped_bit_is_damage_or_does_no_harm() {
    let (files, entries) = sample();
    assert!(files.len() >= 4, "{:?}", files.keys());
    let (mut damaged, mut harmless) = (0, 0);
    for (name, bytes) in &files {
        for at in 0..bytes.len() {
            let mut files = files.clone();
            files.get_mut(name).unwrap()[at] ^= 1 << (at % 8);
            match reopen(&files) {
                // The rest of the header's sector, and what no batch has reached, mean nothing.
                Ok(found) => {
                    assert_eq!((found.0, found.1.as_deref()), (entries.clone(), Some(&b"for b"[..])), "{name} {at}");
                    assert!(name.ends_with(".seg"), "{name} {at} was not noticed");
                    assert!((44..SECTOR).contains(&at) || at >= written(bytes), "{name} {at} was not noticed");
                    harmless += 1;
                }
                Err(LogError::Damaged { .. }) => damaged += 1,
                Err(LogError::NewerFormat { .. }) => panic!("{name} {at}: a flipped bit is no version"),
                Err(LogError::Io(error)) => panic!("{name} {at}: {error}"),
            }
        }
    }
    assert!(damaged > 15_000 && harmless > 1000, "{damaged} damaged, {harmless} harmless");
}

#[test]
fn a_wiped_sector_is_damage_as_long_as_something_valid_follows() {
    let (files, entries) = sample();
    let of_segments: Files =
        files.iter().filter(|(name, _)| name.ends_with(".seg")).map(|(n, b)| (n.clone(), b.clone())).collect();
    let last = of_segments.iter().rposition(|(_, bytes)| written(bytes) > SECTOR).unwrap();
    for (place, (name, bytes)) in of_segments.iter().enumerate() {
        for sector in 0..written(bytes) / SECTOR {
            let mut files = files.clone();
            files.get_mut(name).unwrap()[sector * SECTOR..][..SECTOR].fill(0);
            match reopen(&files) {
                Err(LogError::Damaged { .. }) => {}
                // The last batch looks as if it had never been written completely: that is beyond what can be told.
                Ok((found, _)) => {
                    assert!(place == last && found.len() == entries.len() - 1, "{name} {sector}");
                    assert_eq!(found, entries[..found.len()]);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn a_missing_or_short_segment_is_damage() {
    let (files, _) = sample();
    for name in files.keys() {
        let mut files = files.clone();
        files.remove(name);
        let found = reopen(&files);
        assert!(
            matches!(found, Err(LogError::Damaged { .. })),
            "without {name}: {found:?} {:?}",
            files.get("log/newest")
        );
    }
    for (name, bytes) in &files {
        for length in [0, 1, 23, 100, 512, 1024, bytes.len().saturating_sub(512), bytes.len() - 1] {
            let mut files = files.clone();
            files.get_mut(name).unwrap().truncate(length);
            let cut = length < bytes.len();
            assert_eq!(matches!(reopen(&files), Err(LogError::Damaged { .. })), cut, "{name} with {length} bytes");
        }
        for garbage in [vec![0; bytes.len()], vec![0xa5; bytes.len()], bytes.iter().rev().copied().collect()] {
            let mut files = files.clone();
            files.insert(name.clone(), garbage);
            assert!(matches!(reopen(&files), Err(LogError::Damaged { .. })), "{name} with other content");
        }
    }
}

#[test]
fn a_log_that_lost_its_end_is_told_from_a_shorter_one() {
    let (files, _) = sample();
    let names = segments(&files);
    for kept in 0..names.len() {
        let mut files = files.clone();
        files.retain(|name, _| !names[kept..].contains(name));
        assert!(matches!(reopen(&files), Err(LogError::Damaged { .. })), "with {kept} segments");
        // Not even together with the note.
        files.retain(|name, _| name.ends_with(".seg"));
        assert!(kept == 0 || matches!(reopen(&files), Err(LogError::Damaged { .. })), "with {kept} segments, no note");
    }
}

/// Also of a process that died in the middle of going on to another segment.
#[test]
fn whichever_file_is_lost_after_a_death_at_any_moment_is_missed() {
    for (seed, dies_after) in (0..12).flat_map(|seed| (0..110).map(move |after| (seed, after))) {
        TestWorld::seed(seed);
        let disk = FaultDisk::new();
        disk.knobs(|knobs| knobs.dies_after = Some(dies_after));
        let (mut voted, mut durable) = (false, 0);
        run(async {
            let Ok(log) = open(&disk, SEGMENT).await else { return };
            voted = log.put(MetaKey::Vote, Bytes::from_static(b"for b")).await.is_ok();
            for index in 1..=14 {
                if append(&log, vec![entry(index, [10, 700, 2500][index as usize % 3])]).await.is_err() {
                    return;
                }
                durable = index as usize;
            }
        });
        let files = disk.kill().files();
        for name in files.keys() {
            let mut left = files.clone();
            left.remove(name);
            match reopen(&left) {
                Err(LogError::Damaged { .. }) => {}
                Ok((entries, vote)) => {
                    let forgotten = entries.len() < durable || (voted && vote.is_none());
                    assert!(!forgotten, "seed {seed}, dead after {dies_after}, without {name}: nobody noticed");
                }
                Err(other) => panic!("seed {seed}, dead after {dies_after}, without {name}: {other}"),
            }
        }
    }
}

#[test]
fn a_newer_note_is_told_as_that_and_an_older_one_as_damage() {
    let (files, _) = sample();
    let disk = FaultDisk::with(&files);
    let note = crate::storage::wal::newest::Note { newest: 1, current: 1 };
    crate::storage::wal::newest::write(&disk, note).unwrap();
    let error = reopen(&disk.files()).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
    let kind = crate::storage::small_file::Kind { magic: *b"RSTNEWS\n", format: 2 };
    crate::storage::small_file::write(&disk, "log", "log/newest", kind, b"later").unwrap();
    assert!(matches!(reopen(&disk.files()), Err(LogError::NewerFormat { found: 2, known: 1, .. })));
}

async fn scrub(log: &Log<TestWorld>) -> io::Result<(u64, u32)> {
    let (mut place, mut bytes, mut steps) = (Some(LogPlace::default()), 0, 0);
    while let Some(from) = place {
        let (next, read) = log.scrub(from, 1500).await?;
        (place, bytes, steps) = (next, bytes + read, steps + 1);
    }
    Ok((bytes, steps))
}

#[test]
fn the_scrub_finds_every_flipped_bit_of_what_is_written_and_nothing_else() {
    let (files, entries) = sample();
    run(async {
        let disk = FaultDisk::with(&files);
        let log = open(&disk, SEGMENT).await.unwrap();
        let total: usize =
            segments(&files).iter().map(|name| written(&files[name])).filter(|used| *used > SECTOR).sum();
        let (bytes, steps) = scrub(&log).await.unwrap();
        assert!(bytes as usize == total && steps > 10, "{bytes} of {total} bytes in {steps} steps");
        for name in segments(&files) {
            let file = crate::world::Disk::open(&disk, &name, crate::world::OpenMode::Existing).unwrap();
            let content = disk.files()[&name].clone();
            let used = Some(written(&content)).filter(|used| *used > SECTOR).unwrap_or(0);
            for at in 0..content.len() {
                file.write_at(at as u64, &[content[at] ^ (1 << (at % 8))]).unwrap();
                let counts = at < used && !(44..SECTOR).contains(&at);
                assert_eq!(scrub(&log).await.is_err(), counts, "{name} {at}");
                file.write_at(at as u64, &content[at..=at]).unwrap();
            }
        }
        // What was found was only told: the log goes on.
        append(&log, vec![entry(entries.len() as u64 + 1, 10)]).await.unwrap();
        scrub(&log).await.unwrap();
        let newest = "log/newest".to_owned();
        for name in segments(&files).into_iter().chain([newest]) {
            crate::world::Disk::rename(&disk, &name, "log/elsewhere").unwrap();
            assert_eq!(scrub(&log).await.unwrap_err().kind(), io::ErrorKind::InvalidData, "without {name}");
            crate::world::Disk::rename(&disk, "log/elsewhere", &name).unwrap();
        }
        // While it is read, it may be purged.
        let (next, _) = log.scrub(LogPlace::default(), 1500).await.unwrap();
        log.purge(10).await.unwrap();
        log.scrub(next.unwrap(), 1500).await.unwrap();
        scrub(&log).await.unwrap();
    });
}

#[test]
fn a_newer_format_is_told_as_that() {
    let (mut files, _) = sample();
    let bytes = files.values_mut().find(|bytes| bytes.len() > 512).unwrap();
    bytes[8..12].copy_from_slice(&9u32.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..40]);
    bytes[40..44].copy_from_slice(&crc.to_le_bytes());
    let error = reopen(&files).unwrap_err();
    assert!(matches!(error, LogError::NewerFormat { found: 9, .. }));
    assert!(error.to_string().contains("upgrade this server"), "{error}");
}

#[test]
fn what_rots_while_the_log_is_open_is_told_when_it_is_read() {
    TestWorld::seed(5);
    let disk = FaultDisk::new();
    run(async {
        let log = open(&disk, 1 << 20).await.unwrap();
        for index in 1..=30 {
            append(&log, vec![entry(index, 1000)]).await.unwrap();
        }
        let file = crate::world::Disk::open(&disk, "log/00000000000000000001.seg", crate::world::OpenMode::Existing);
        let file = file.unwrap();
        // Behind the header of the first entry's body, which left the cache long ago.
        let mut byte = [0];
        file.read_at(1024 + 100, &mut byte).unwrap();
        file.write_at(1024 + 100, &[byte[0] ^ 4]).unwrap();
        let error = log.read(1..31, u64::MAX).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<LogError>());
        assert!(matches!(inner, Some(LogError::Damaged { segment: 1, .. })), "{error}");
        // It is not to be used any more: the server sets it aside.
        assert_eq!(log.poisoned().unwrap().kind(), io::ErrorKind::InvalidData);
        assert!(append(&log, vec![entry(31, 10)]).await.is_err());
    });
}
