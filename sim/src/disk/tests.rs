//! What each call makes durable, what each fault does.

use super::*;
use crate::context::Context;
use crate::trace::{Lines, Trace};

fn drive() -> Drive {
    Drive::new("a", 7, 0..=0)
}

fn write(disk: &SimDisk, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.open(path, OpenMode::Create).unwrap();
    file.write_at(0, bytes).unwrap();
    file
}

fn read(disk: &SimDisk, path: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Existing)?;
    let mut bytes = vec![0; file.len()? as usize];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Runs `prepare` on fresh disks with different draws, cuts the power, and collects what `inspect` then sees.
fn after_power_cuts<T>(prepare: impl Fn(&SimDisk), inspect: impl Fn(&SimDisk) -> T) -> Vec<T> {
    (0..100)
        .map(|seed| {
            let drive = Drive::new("a", seed, 0..=0);
            prepare(&drive.attach());
            drive.power_cut();
            inspect(&drive.attach())
        })
        .collect()
}

#[test]
fn what_is_synced_with_its_names_survives_every_power_cut() {
    let seen = after_power_cuts(
        |disk| {
            disk.create_directory("log").unwrap();
            write(disk, "log/1", &[7; 3000]).sync().unwrap();
            disk.sync_directory("log").unwrap();
            disk.sync_directory("").unwrap();
            // Later writes that are not synced may tear themselves, but never what was there.
            disk.open("log/1", OpenMode::Existing).unwrap().write_at(3000, &[8; 5000]).unwrap();
        },
        |disk| read(disk, "log/1").unwrap(),
    );
    assert!(seen.iter().all(|bytes| bytes.len() >= 3000 && bytes[..3000].iter().all(|b| *b == 7)));
    let lengths: std::collections::BTreeSet<usize> = seen.iter().map(Vec::len).collect();
    assert!(lengths.contains(&3000) && lengths.contains(&8000) && lengths.len() > 4, "{lengths:?}");
}

#[test]
fn a_power_cut_tears_an_unsynced_overwrite_at_sectors() {
    let seen = after_power_cuts(
        |disk| {
            let file = write(disk, "f", &[1; 2048]);
            file.sync().unwrap();
            disk.sync_directory("").unwrap();
            file.write_at(0, &[2; 2048]).unwrap();
        },
        |disk| read(disk, "f").unwrap(),
    );
    let patterns: std::collections::BTreeSet<Vec<u8>> = seen
        .iter()
        .map(|bytes| {
            bytes
                .chunks(512)
                .map(|sector| {
                    assert!(sector.iter().all(|b| *b == sector[0]), "a sector is written whole or not at all");
                    sector[0]
                })
                .collect()
        })
        .collect();
    assert!(patterns.contains(&vec![1; 4]) && patterns.contains(&vec![2; 4]), "{patterns:?}");
    // Torn in any order: also a later sector without an earlier one.
    assert!(patterns.iter().any(|p| p.windows(2).any(|w| w == [1, 2])), "{patterns:?}");
}

#[test]
fn a_name_is_durable_only_after_its_directory_is_synced() {
    let seen = after_power_cuts(
        |disk| write(disk, "f", b"x").sync().unwrap(),
        |disk| read(disk, "f").map_err(|error| error.kind()),
    );
    assert!(seen.contains(&Err(ErrorKind::NotFound)));
    assert!(seen.contains(&Ok(b"x".to_vec())));

    let seen = after_power_cuts(
        |disk| {
            disk.create_directory("d").unwrap();
            write(disk, "d/f", b"x").sync().unwrap();
            // The directory's own name is not durable, so neither is what is in it.
            disk.sync_directory("d").unwrap();
        },
        |disk| disk.list("d").unwrap().len(),
    );
    assert!(seen.contains(&0) && seen.contains(&1));
}

#[test]
fn a_rename_is_all_or_nothing_and_a_move_never_loses_the_file() {
    let prepare = |disk: &SimDisk| {
        write(disk, "old", b"old").sync().unwrap();
        write(disk, "new", b"new").sync().unwrap();
        disk.create_directory("d").unwrap();
        disk.sync_directory("").unwrap();
    };
    let seen = after_power_cuts(
        |disk| {
            prepare(disk);
            disk.rename("new", "old").unwrap();
        },
        |disk| (read(disk, "old").unwrap(), disk.list("").unwrap().contains(&"new".to_owned())),
    );
    for one in &seen {
        assert!(*one == (b"old".to_vec(), true) || *one == (b"new".to_vec(), false), "{one:?}");
    }
    assert!(seen.iter().any(|one| one.1) && seen.iter().any(|one| !one.1));

    let seen = after_power_cuts(
        |disk| {
            prepare(disk);
            disk.rename("old", "d/old").unwrap();
        },
        |disk| (read(disk, "old").is_ok(), read(disk, "d/old").is_ok()),
    );
    assert!(seen.iter().all(|(here, there)| *here || *there));
    assert!(seen.contains(&(true, false)) && seen.contains(&(false, true)));

    // Syncing the old place is enough for the new name: a journal writes the two in order.
    let seen = after_power_cuts(
        |disk| {
            prepare(disk);
            disk.rename("old", "d/old").unwrap();
            disk.sync_directory("").unwrap();
        },
        |disk| (read(disk, "old").is_ok(), read(disk, "d/old").is_ok()),
    );
    assert!(seen.iter().all(|one| *one == (false, true)));
}

#[test]
fn a_removal_is_durable_only_after_its_directory_is_synced() {
    let prepare = |disk: &SimDisk| {
        write(disk, "f", b"x").sync().unwrap();
        disk.sync_directory("").unwrap();
        disk.remove("f").unwrap();
    };
    let seen = after_power_cuts(prepare, |disk| read(disk, "f").is_ok());
    assert!(seen.contains(&true) && seen.contains(&false));
    let seen = after_power_cuts(
        |disk| {
            prepare(disk);
            disk.sync_directory("").unwrap();
        },
        |disk| read(disk, "f").is_ok(),
    );
    assert!(!seen.contains(&true));
}

#[test]
fn a_process_that_died_has_no_access_and_loses_nothing_but_its_lock() {
    let drive = drive();
    let first = drive.attach();
    let lock = first.lock().unwrap();
    assert_eq!(first.lock().err().map(|e| e.kind()), Some(ErrorKind::WouldBlock));
    let file = write(&first, "f", b"written, not synced");

    drive.process_died();
    let second = drive.attach();
    let _lock = second.lock().unwrap();
    // A destructor that runs late neither writes nor opens the new process's lock.
    assert!(file.write_at(0, b"from the grave").is_err());
    drop(lock);
    assert!(second.lock().is_err());
    assert_eq!(read(&second, "f").unwrap(), b"written, not synced");
}

#[test]
fn a_failed_sync_is_not_mended_by_the_next_one() {
    let seeds_that_lose = (0..50).filter(|seed| {
        let drive = Drive::new("a", *seed, 0..=0);
        let disk = drive.attach();
        let file = write(&disk, "f", &[1; 512]);
        file.sync().unwrap();
        disk.sync_directory("").unwrap();
        file.write_at(0, &[2; 512]).unwrap();
        drive.set_faults(DiskFaults { sync_error: 1.0, ..DiskFaults::default() });
        assert!(file.sync().is_err());
        drive.set_faults(DiskFaults::default());
        file.sync().unwrap();
        assert_eq!(read(&disk, "f").unwrap(), [2; 512], "the machine's memory still has it");
        drive.power_cut();
        read(&drive.attach(), "f").unwrap() == [1; 512]
    });
    assert!(seeds_that_lose.count() > 5);
}

#[test]
fn what_a_failed_sync_left_in_memory_can_be_forgotten_and_what_is_yet_to_be_synced_cannot() {
    let drive = drive();
    let disk = drive.attach();
    let file = write(&disk, "f", &[1; 1024]);
    file.sync().unwrap();
    file.write_at(0, &[2; 512]).unwrap();
    drive.set_faults(DiskFaults { sync_error: 1.0, ..DiskFaults::default() });
    assert!(file.sync().is_err());
    drive.set_faults(DiskFaults::default());
    file.write_at(512, &[3; 512]).unwrap();
    file.forget(0, 1024);
    assert_eq!(read(&disk, "f").unwrap(), [[1; 512], [3; 512]].concat());
    // Written once more, it is as good as anything.
    file.write_at(0, &[4; 512]).unwrap();
    file.forget(0, 1024);
    assert_eq!(read(&disk, "f").unwrap(), [[4; 512], [3; 512]].concat());
}

#[test]
fn what_a_sync_that_stood_still_was_of_is_durable_when_it_ends() {
    let installed = Context::install(7, 0, 0..=0, Trace::new(Lines::Discard));
    let (drive, second) = (drive(), Duration::from_secs(1));
    let at = |now: Duration| installed.0.set_between_steps(Some(now));
    at(Duration::ZERO);
    let disk = drive.attach();
    let file = write(&disk, "f", &[1; 512]);
    disk.sync_directory("").unwrap();
    drive.set_faults(DiskFaults { stuck_until: second, ..DiskFaults::default() });
    file.sync().unwrap();
    at(second);
    // Another one that stands still, and one that fails, take nothing of it away.
    drive.set_faults(DiskFaults { stuck_until: second * 2, ..DiskFaults::default() });
    write(&disk, "g", &[2; 512]).sync().unwrap();
    file.write_at(512, &[3; 512]).unwrap();
    drive.set_faults(DiskFaults { sync_error: 1.0, ..DiskFaults::default() });
    assert!(file.sync().is_err());
    file.forget(0, 1024);
    drive.power_cut();
    assert_eq!(read(&drive.attach(), "f").unwrap()[..512], [1; 512]);
}

#[test]
fn errors_are_injected_only_while_they_are_asked_for() {
    let drive = drive();
    let disk = drive.attach();
    let file = write(&disk, "f", &[1; 4096]);
    drive.set_faults(DiskFaults { read_error: 1.0, write_error: 1.0, ..DiskFaults::default() });
    assert!(file.read_at(0, &mut [0; 8]).is_err());
    let error = file.write_at(0, &[2; 4096]).unwrap_err().to_string();
    assert!(error.contains("the disk of a/f") && error.contains("input/output"), "{error}");
    drive.set_faults(DiskFaults::default());
    let mut bytes = [0; 4096];
    file.read_at(0, &mut bytes).unwrap();
    let written = bytes.iter().take_while(|b| **b == 2).count();
    assert!(bytes[written..].iter().all(|b| *b == 1), "a failed write has written a part from its start");
}

#[test]
fn a_full_disk_refuses_growth_and_goes_on_with_what_it_has() {
    let drive = drive();
    drive.set_limit(Some(8192));
    let disk = drive.attach();
    let file = write(&disk, "f", &[1; 8192]);
    assert_eq!(disk.free_bytes().unwrap(), 0);
    assert_eq!(file.write_at(8192, &[1]).unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_at(100, &[2; 100]).unwrap();
    file.sync().unwrap();
    disk.remove("f").unwrap();
    drop(file);
    disk.sync_directory("").unwrap();
    assert_eq!((disk.free_bytes().unwrap(), drive.used_bytes()), (8192, 0));
    write(&disk, "g", &[1; 4096]);
}

#[test]
fn a_fuse_cuts_the_power_in_the_middle_of_a_write() {
    let seen: std::collections::BTreeSet<usize> = (0..100)
        .map(|seed| {
            let drive = Drive::new("a", seed, 0..=0);
            let disk = drive.attach();
            let file = write(&disk, "f", &[1; 4096]);
            file.sync().unwrap();
            disk.sync_directory("").unwrap();
            drive.light_fuse(1);
            file.write_at(0, &[2; 512]).unwrap();
            assert!(!drive.is_dark());
            assert!(file.write_at(512, &[2; 2048]).is_err());
            assert!(drive.is_dark() && file.sync().is_err() && disk.list("").is_err());
            drive.power_cut();
            let bytes = read(&drive.attach(), "f").unwrap();
            assert!(bytes[2560..].iter().all(|b| *b == 1));
            let whole = |sector: &[u8]| sector.iter().all(|b| *b == sector[0]);
            assert!(bytes.chunks(512).all(whole), "a sector is written whole or not at all");
            bytes.iter().filter(|b| **b == 2).count()
        })
        .collect();
    assert!(seen.contains(&0) && seen.len() > 4, "{seen:?}");
}

#[test]
fn a_lost_disk_is_empty() {
    let drive = drive();
    let disk = drive.attach();
    write(&disk, "f", b"x").sync().unwrap();
    disk.sync_directory("").unwrap();
    drive.wipe();
    assert!(disk.list("").is_err());
    assert!(drive.attach().list("").unwrap().is_empty());
}

#[test]
fn files_shrink_and_grow_with_zeros() {
    let drive = drive();
    let disk = drive.attach();
    let file = write(&disk, "f", &[1; 10_000]);
    file.set_len(100).unwrap();
    file.set_len(9000).unwrap();
    let bytes = read(&disk, "f").unwrap();
    assert!(bytes[..100].iter().all(|b| *b == 1) && bytes[100..].iter().all(|b| *b == 0) && bytes.len() == 9000);
    assert_eq!(file.read_at(8999, &mut [0; 2]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn names_are_checked() {
    let disk = drive().attach();
    assert_eq!(disk.open("no/f", OpenMode::Create).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.open("f", OpenMode::Existing).unwrap_err().kind(), ErrorKind::NotFound);
    write(&disk, "f", b"");
    assert_eq!(disk.open("f", OpenMode::CreateNew).unwrap_err().kind(), ErrorKind::AlreadyExists);
    for bad in ["../f", "a//b", "./f", ""] {
        assert_eq!(disk.open(bad, OpenMode::Create).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
    }
    disk.create_directory("d/e").unwrap();
    assert_eq!(disk.rename("d", "d/e/f").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(disk.list("").unwrap(), ["d", "f"]);
    assert!(disk.list("nowhere").unwrap().is_empty());
}
