//! Disks that fail and disks that fill up.

use bytes::Bytes;

use super::*;
use crate::storage::MetaKey;
use crate::storage::testing::{Dice, FaultDisk};

const SEGMENT: u64 = 16 << 10;

#[test]
fn a_failed_write_or_sync_poisons_the_log_and_is_not_tried_again() {
    for kind in ["write", "sync"] {
        TestWorld::seed(1);
        let disk = FaultDisk::new();
        run(async {
            let log = open(&disk, SEGMENT).await.unwrap();
            append(&log, vec![entry(1, 10)]).await.unwrap();
            disk.knobs(|knobs| knobs.fails = Some(kind));
            let one = append(&log, vec![entry(2, 10)]);
            let two = append(&log, vec![entry(3, 10)]);
            let (one, two) = futures::join!(one, two);
            assert!(one.is_err() && two.is_err());
            disk.knobs(|knobs| knobs.fails = None);
            assert!(append(&log, vec![entry(2, 10)]).await.unwrap_err().to_string().contains("injected"));
            assert!(log.put(MetaKey::Vote, Bytes::new()).await.is_err());
            assert!(log.read(1..2, 9).await.is_err());
            assert!(log.poisoned().is_some());
        });
        run(async {
            let log = open(&disk.crash(&mut Dice(3)), SEGMENT).await.unwrap();
            assert_eq!(log.first_index(), Some(1));
        });
    }
}

#[test]
fn what_a_failed_write_or_sync_left_is_taken_out_and_is_no_damage() {
    for (seed, kind) in (0..200).flat_map(|seed| [(seed, "write in part"), (seed, "sync")]) {
        TestWorld::seed(seed);
        let disk = FaultDisk::new();
        run(async {
            let log = open(&disk, SEGMENT).await.unwrap();
            append(&log, vec![entry(1, 10)]).await.unwrap();
            // Lets the maker of segments finish: it is not to be the one that fails.
            TestWorld::sleep(std::time::Duration::from_millis(10)).await;
            // The first one only: the disk lets what comes after it.
            disk.knobs(|knobs| (knobs.fails, knobs.fails_once) = (Some(kind), true));
            assert!(append(&log, vec![entry(2, 3000)]).await.is_err());
        });
        run(async {
            let disk = if seed % 2 == 0 { disk.kill() } else { disk.crash(&mut Dice(seed)) };
            let log = open(&disk, SEGMENT).await.unwrap();
            assert_eq!(all(&log).await.unwrap(), [entry(1, 10)], "{kind}, seed {seed}");
            append(&log, vec![entry(2, 10)]).await.unwrap();
        });
    }
}

#[test]
fn a_full_disk_is_told_early_refuses_cleanly_and_recovers_by_itself() {
    TestWorld::seed(2);
    let disk = FaultDisk::new();
    disk.knobs(|knobs| knobs.capacity = Some(3 * SEGMENT));
    let (good, full) = run(async {
        let log = open(&disk, SEGMENT).await.unwrap();
        let (mut index, mut full_at) = (1, None);
        let error = loop {
            if log.disk_full() && full_at.is_none() {
                full_at = Some(index);
            }
            match append(&log, vec![entry(index, 1500)]).await {
                Ok(()) => index += 1,
                Err(error) => break error,
            }
            // Lets the maker of segments find out.
            TestWorld::sleep(std::time::Duration::from_millis(1)).await;
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(full_at.unwrap() + 3 < index, "told at entry {full_at:?}, refused at entry {index}");
        assert_eq!(log.last(), Some(index - 1), "what was refused is out of the log");
        assert!(log.poisoned().is_none());
        assert_eq!(all(&log).await.unwrap().len() as u64, index - 1, "reading goes on");
        assert_eq!(append(&log, vec![entry(index, 1500)]).await.unwrap_err().kind(), io::ErrorKind::StorageFull);
        // There is still room for notes, or nothing could ever be purged.
        log.put(MetaKey::Vote, Bytes::from_static(b"c")).await.unwrap();
        log.purge(index - 3).await.unwrap();
        while log.disk_full() {
            TestWorld::sleep(std::time::Duration::from_millis(100)).await;
        }
        append(&log, vec![entry(index, 1500)]).await.unwrap();
        (index, full_at.unwrap())
    });
    assert!(full < good);
    run(async {
        let log = open(&disk.crash(&mut Dice(4)), SEGMENT).await.unwrap();
        assert_eq!((log.first_index(), log.last()), (Some(good - 2), Some(good)));
        assert_eq!(log.get(MetaKey::Vote), Some(Bytes::from_static(b"c")));
    });
}

#[test]
fn what_is_refused_on_a_full_disk_was_never_written() {
    TestWorld::seed(2);
    let disk = FaultDisk::new();
    disk.knobs(|knobs| knobs.capacity = Some(2 * SEGMENT));
    let last = run(async {
        let log = open(&disk, SEGMENT).await.unwrap();
        let mut index = 1;
        while append(&log, vec![entry(index, 3000)]).await.is_ok() {
            index += 1;
        }
        // A smaller one finds room where the large one did not.
        append(&log, vec![entry(index, 1)]).await.unwrap();
        index
    });
    run(async {
        let log = open(&disk.kill(), SEGMENT).await.unwrap();
        assert_eq!(all(&log).await.unwrap().last(), Some(&entry(last, 1)));
    });
}

#[test]
fn votes_outlive_the_segments_that_they_were_written_to() {
    TestWorld::seed(3);
    let disk = FaultDisk::new();
    run(async {
        let log = open(&disk, SEGMENT).await.unwrap();
        log.put(MetaKey::Vote, Bytes::from_static(b"for b in term 7")).await.unwrap();
        log.put_lazy(MetaKey::Committed, Bytes::from_static(b"3")).unwrap();
        for index in 1..=60 {
            append(&log, vec![entry(index, 1500)]).await.unwrap();
        }
        let before = log.bytes_on_disk();
        log.purge(59).await.unwrap();
        assert!(log.bytes_on_disk() < before / 2, "{before} bytes were {}", log.bytes_on_disk());
        assert!(!disk.files().contains_key("log/00000000000000000001.seg"));
    });
    run(async {
        let log = open(&disk.crash(&mut Dice(1)), SEGMENT).await.unwrap();
        assert_eq!(log.get(MetaKey::Vote), Some(Bytes::from_static(b"for b in term 7")));
        assert_eq!(log.get(MetaKey::Committed), Some(Bytes::from_static(b"3")));
        assert_eq!(all(&log).await.unwrap(), [entry(60, 1500)]);
    });
}

#[test]
fn what_does_not_follow_is_refused() {
    run(async {
        let log = open(&FaultDisk::new(), SEGMENT).await.unwrap();
        append(&log, vec![entry(5, 1), entry(6, 1)]).await.unwrap();
        for wrong in [vec![entry(6, 1)], vec![entry(8, 1)], vec![entry(7, 1), entry(9, 1)]] {
            assert_eq!(append(&log, wrong).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        append(&log, vec![entry(7, 1)]).await.unwrap();
        log.purge(20).await.unwrap();
        assert_eq!((log.first_index(), log.last(), log.purged_below()), (None, None, 21));
        assert!(append(&log, vec![entry(20, 1)]).await.is_err());
        append(&log, vec![entry(21, 1)]).await.unwrap();
    });
}

#[test]
fn reading_stops_at_its_limit_but_gives_at_least_one() {
    run(async {
        let log = open(&FaultDisk::new(), 1 << 20).await.unwrap();
        append(&log, (0..50).map(|index| entry(index, 992)).collect()).await.unwrap();
        assert_eq!(log.read(3..50, 1).await.unwrap(), [entry(3, 992)]);
        assert_eq!(log.read(40..60, 3000).await.unwrap().len(), 3);
        assert_eq!(log.read(60..70, 3000).await.unwrap(), []);
        assert_eq!(all(&log).await.unwrap().len(), 50);
    });
}

#[test]
fn the_last_handle_ends_the_log() {
    run(async {
        let disk = FaultDisk::new();
        let log = open(&disk, SEGMENT).await.unwrap();
        let (sender, receiver) = oneshot::channel::<()>();
        log.append(vec![entry(1, 1)], Box::new(move |_| drop(sender)));
        drop(log);
        assert!(receiver.await.is_err(), "whoever waits is let go");
    });
}
