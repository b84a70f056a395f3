//! A checkpoint's file with anything done to it: it opens and holds what one flush left, whole, or says that it is damaged.
//! An older flush than the last is possible, where damage looks to redb like a crash in the last one; its meta value says
//! so, and a server compares that with its log.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Once, OnceLock};

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use restante::post_office::Change;
use restante::storage::{Checkpoint, StorageError};

use crate::testing::FaultDisk;

/// What a checkpoint holds: its records and its meta value.
pub type Contents = (BTreeMap<Vec<u8>, Bytes>, Option<Bytes>);
type Files = BTreeMap<String, Vec<u8>>;

const PATH: &str = "checkpoint/state.redb";
const CACHE_BYTES: usize = 1 << 20;
const PAGE: usize = 4096;

/// What happens to the file. Places are parts of its length, or near its beginning, where redb has its header.
#[derive(Debug, Arbitrary)]
enum Edit {
    Header { at: u16, flip: u8 },
    Byte { page: u16, at: u16, flip: u8 },
    Page { page: u16, value: u8 },
    Copy { from: u16, to: u16 },
    Overwrite { page: u16, at: u16, bytes: Vec<u8> },
    Cut { page: u16, at: u16 },
    Grow { by: u16 },
    Whole(Vec<u8>),
}

/// Takes `data` for what happened to the file.
pub fn checkpoint(data: &[u8]) {
    contain_redb();
    let mut input = Unstructured::new(data);
    let Ok(clean) = input.arbitrary::<bool>() else { return };
    let (files, flushes) = written(clean);
    let mut files = files.clone();
    if let Some(bytes) = files.get_mut(PATH) {
        while !input.is_empty() {
            let Ok(edit) = input.arbitrary::<Edit>() else { break };
            apply(bytes, edit);
        }
    }
    let disk = FaultDisk::with(&files);
    let found = open(&disk).and_then(|checkpoint| Ok((contents(&checkpoint)?, checkpoint)));
    let (good, checkpoint) = match found {
        Ok((found, checkpoint)) => {
            assert!(flushes.contains(&found), "what no flush left: {} records, meta {:?}", found.0.len(), found.1);
            (found, checkpoint)
        }
        Err(StorageError::Damaged { .. } | StorageError::NewerFormat { .. }) => return,
        Err(error) => panic!("the disk did not fail: {error}"),
    };
    // It may still be found damaged where nothing was read, but what is said to be flushed is there.
    let (key, value) = (b"new".to_vec(), Bytes::from_static(b"value"));
    let put = Change::Put { key: key.clone(), head: Vec::new(), content: value.clone() };
    if checkpoint.flush(&[put], b"later").is_err() {
        return;
    }
    drop(checkpoint);
    let Ok(again) = open(&disk.kill()).and_then(|checkpoint| contents(&checkpoint)) else { return };
    let mut expected = good.0;
    expected.insert(key, value);
    assert!(again == (expected, Some(Bytes::from_static(b"later"))), "what was flushed is not there");
}

fn apply(file: &mut Vec<u8>, edit: Edit) {
    let pages = (file.len() / PAGE).max(1);
    let start = |page: u16| usize::from(page) % pages * PAGE;
    match edit {
        Edit::Header { at, flip } => {
            if let Some(byte) = file.get_mut(usize::from(at) % 512) {
                *byte ^= flip;
            }
        }
        Edit::Byte { page, at, flip } => {
            if let Some(byte) = file.get_mut(start(page) + usize::from(at) % PAGE) {
                *byte ^= flip;
            }
        }
        Edit::Page { page, value } => {
            if let Some(page) = file.get_mut(start(page)..start(page) + PAGE) {
                page.fill(value);
            }
        }
        Edit::Copy { from, to } => {
            if start(from).max(start(to)) + PAGE <= file.len() {
                file.copy_within(start(from)..start(from) + PAGE, start(to));
            }
        }
        Edit::Overwrite { page, at, bytes } => {
            let at = start(page) + usize::from(at) % PAGE;
            if let Some(place) = file.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(&bytes);
            }
        }
        Edit::Cut { page, at } => file.truncate(start(page) + usize::from(at) % PAGE),
        Edit::Grow { by } => file.resize(file.len() + usize::from(by), 0),
        Edit::Whole(bytes) => *file = bytes,
    }
}

/// A checkpoint on that disk.
pub fn open(disk: &FaultDisk) -> Result<Checkpoint, StorageError> {
    Checkpoint::open_with_cache(Arc::new(disk.clone()), CACHE_BYTES)
}

/// All that a checkpoint holds.
pub fn contents(checkpoint: &Checkpoint) -> Result<Contents, StorageError> {
    let mut records = BTreeMap::new();
    checkpoint.scan(&mut |key, value| {
        records.insert(key, value);
        ControlFlow::Continue(())
    })?;
    Ok((records, checkpoint.meta()?))
}

/// The files of a checkpoint of several flushes, and what each left: closed in good order, or left by a process that died.
fn written(clean: bool) -> &'static (Files, Vec<Contents>) {
    static WRITTEN: OnceLock<[(Files, Vec<Contents>); 2]> = OnceLock::new();
    let both = WRITTEN.get_or_init(|| {
        [false, true].map(|clean| {
            let disk = FaultDisk::new();
            let checkpoint = open(&disk).expect("an empty disk");
            let mut flushes = Vec::new();
            for flush in 0..4u64 {
                let put = |i: u64| Change::Put {
                    key: (i * 7 % 40).to_be_bytes().to_vec(),
                    head: vec![flush as u8; 3],
                    content: vec![i as u8; (i * 97 % 600) as usize].into(),
                };
                let mut changes: Vec<Change> = (flush * 10..flush * 10 + 20).map(put).collect();
                changes.sort_by(|a, b| a.key().cmp(b.key()));
                changes.push(Change::Remove { key: (flush * 3).to_be_bytes().to_vec() });
                checkpoint.flush(&changes, &flush.to_le_bytes()).expect("a disk in memory");
                flushes.push(contents(&checkpoint).expect("what was flushed"));
            }
            if clean {
                checkpoint.close().expect("a disk in memory");
            } else {
                drop(checkpoint);
            }
            (disk.kill().files(), flushes)
        })
    });
    &both[usize::from(clean)]
}

/// redb panics over some damaged pages, and the checkpoint makes an error of that. A fuzzer would end the process before,
/// in its hook: those panics do not reach it.
pub fn contain_redb() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic.location().is_some_and(|location| location.file().contains("/redb-")) {
                before(panic);
            }
        }));
    });
}
