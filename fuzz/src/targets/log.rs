//! Recovery of a log whose files hold anything: what was written with changes in it, or arbitrary bytes.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use restante::storage::{Log, LogEntry, LogSettings, MetaKey};

use crate::testing::{FaultDisk, TestWorld};

type Files = BTreeMap<String, Vec<u8>>;

/// What happens to the files.
#[derive(Debug, Arbitrary)]
enum Edit {
    Byte { file: u8, at: u16, value: u8 },
    Sector { file: u8, sector: u8, value: u8 },
    Copy { file: u8, from: u8, to: u8 },
    Cut { file: u8, at: u16 },
    Remove { file: u8 },
    Swap { file: u8, with: u8 },
    Overwrite { file: u8, at: u16, bytes: Vec<u8> },
    New { number: u8, bytes: Vec<u8> },
}

const SECTOR: usize = 512;

fn settings() -> LogSettings {
    LogSettings { segment_bytes: 16 << 10, cache_bytes: 4 << 10, shard: 0, reserve_bytes: 0 }
}

/// Takes `data` for what happened to the files of a log, and opens it.
pub fn log(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let mut files = written().clone();
    while !input.is_empty() {
        let Ok(edit) = input.arbitrary::<Edit>() else { break };
        apply(&mut files, edit);
    }
    open_and_read(&files);
}

fn apply(files: &mut Files, edit: Edit) {
    let paths: Vec<String> = files.keys().cloned().collect();
    let path = |n: u8| paths.get(usize::from(n) % paths.len().max(1)).cloned().unwrap_or_default();
    let mut change = |n: u8, work: &mut dyn FnMut(&mut Vec<u8>)| {
        if let Some(bytes) = files.get_mut(&path(n)) {
            work(bytes);
        }
    };
    match edit {
        Edit::Byte { file, at, value } => change(file, &mut |bytes| {
            if let Some(byte) = bytes.get_mut(usize::from(at)) {
                *byte = value;
            }
        }),
        Edit::Sector { file, sector, value } => change(file, &mut |bytes| {
            let at = usize::from(sector) * SECTOR;
            if let Some(sector) = bytes.get_mut(at..at + SECTOR) {
                sector.fill(value);
            }
        }),
        Edit::Copy { file, from, to } => change(file, &mut |bytes| {
            let (from, to) = (usize::from(from) * SECTOR, usize::from(to) * SECTOR);
            if from.max(to) + SECTOR <= bytes.len() {
                bytes.copy_within(from..from + SECTOR, to);
            }
        }),
        Edit::Cut { file, at } => change(file, &mut |bytes| bytes.truncate(at.into())),
        Edit::Overwrite { file, at, bytes: new } => change(file, &mut |bytes| {
            let at = usize::from(at);
            if let Some(place) = bytes.get_mut(at..at + new.len()) {
                place.copy_from_slice(&new);
            }
        }),
        Edit::Remove { file } => drop(files.remove(&path(file))),
        Edit::Swap { file, with } => {
            let (a, b) = (path(file), path(with));
            if let (Some(first), Some(second)) = (files.get(&a).cloned(), files.get(&b).cloned()) {
                files.insert(a, second);
                files.insert(b, first);
            }
        }
        Edit::New { number, bytes } => drop(files.insert(format!("log/{number:020}.seg"), bytes)),
    }
}

/// Opens it; if it opens, reads all of it, adds to it, and opens it again.
fn open_and_read(files: &Files) {
    let disk = FaultDisk::with(files);
    run(async {
        let Ok(log) = Log::<TestWorld>::open(Arc::new(disk.clone()), settings()).await else { return };
        // An entry that does not verify when it is read is told as an error.
        if let Ok(entries) = log.read(0..u64::MAX, u64::MAX).await {
            let first = log.first_index().unwrap_or(0);
            assert!(entries.iter().map(|entry| entry.index).eq((first..).take(entries.len())));
        }
        let next = log.last().map_or(log.purged_below().max(1), |last| last + 1);
        log.append(vec![entry(next, 40)], Box::new(|_| {}));
        log.put(MetaKey::Vote, Bytes::from_static(b"vote")).await.expect("a log that opened takes a vote");
        drop(log);
        let again =
            Log::<TestWorld>::open(Arc::new(disk.kill()), settings()).await.expect("what opened once opens again");
        assert_eq!(again.last(), Some(next));
        assert_eq!(again.get(MetaKey::Vote).as_deref(), Some(&b"vote"[..]));
    });
}

fn entry(index: u64, bytes: usize) -> LogEntry {
    LogEntry { index, head: Bytes::from_static(b"head"), body: vec![index as u8; bytes].into() }
}

/// The files of a log with several segments, a purge, a cut and votes in them.
fn written() -> &'static Files {
    static WRITTEN: OnceLock<Files> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let disk = FaultDisk::new();
        run(async {
            let log = Log::<TestWorld>::open(Arc::new(disk.clone()), settings()).await.expect("an empty disk");
            for index in 1..=40u64 {
                let index = if index > 30 { index - 1 } else { index };
                log.append(vec![entry(index, index as usize * 53 % 1500)], Box::new(|_| {}));
                log.put(MetaKey::Vote, Bytes::copy_from_slice(&index.to_le_bytes())).await.expect("memory");
                match index {
                    20 => log.purge(9).await.expect("memory"),
                    30 => log.truncate_after(29).await.expect("memory"),
                    _ => {}
                }
            }
        });
        disk.files()
    })
}

fn run(work: impl Future<Output = ()>) {
    TestWorld::seed(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(work);
}
