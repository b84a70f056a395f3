//! What happened to the files while nobody looked.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::storage::MetaKey;
use crate::storage::testing::FaultDisk;
use crate::storage::wal::batch::SECTOR;

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
    let last = files.iter().rposition(|(_, bytes)| written(bytes) > SECTOR).unwrap();
    for (place, (name, bytes)) in files.iter().enumerate() {
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
    let used = files.values().filter(|bytes| written(bytes) > SECTOR).count();
    for name in files.keys().take(used - 1) {
        let mut files = files.clone();
        files.remove(name);
        assert!(matches!(reopen(&files), Err(LogError::Damaged { .. })), "without {name}");
    }
    for (name, bytes) in &files {
        for length in [0, 100, 512, 1024, bytes.len() - 512, bytes.len() - 1] {
            let mut files = files.clone();
            files.get_mut(name).unwrap().truncate(length);
            assert!(matches!(reopen(&files), Err(LogError::Damaged { .. })), "{name} with {length} bytes");
        }
    }
}

#[test]
fn a_newer_format_is_told_as_that() {
    let (mut files, _) = sample();
    let bytes = files.values_mut().next().unwrap();
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
        assert_eq!(log.read(2..31, u64::MAX).await.unwrap().len(), 29);
    });
}
