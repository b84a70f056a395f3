//! A backup's file with anything done to it: it is what was written, or it is refused; and one that is taken makes a
//! directory that a server takes.

use std::sync::{Arc, OnceLock};

use arbitrary::{Arbitrary, Unstructured};
use bytes::BytesMut;
use restante::backup::format::{Encoder, Header};
use restante::backup::{check, restore};
use restante::post_office::PostOffice;
use restante::storage::{Checkpoint, DataDirectory};
use restante::wire::batch::{Batch, BatchHeader, encode_entry};
use restante::wire::command::Command;
use restante::wire::{ClusterId, Name, Origin, Time};
use restante::world::{Disk as _, OpenMode};

use crate::testing::{FaultDisk, TestWorld};

const FRONT_BYTES: usize = 20;
const HEAD_BYTES: usize = 9;

#[derive(Debug, Arbitrary)]
enum Edit {
    /// A byte of some part changes, whose checksum is made to match or is not.
    Byte {
        part: u8,
        at: u16,
        flip: u8,
        sealed: bool,
    },
    Cut {
        part: u8,
        at: u16,
    },
    Drop {
        part: u8,
    },
    Double {
        part: u8,
    },
    Swap {
        one: u8,
        other: u8,
    },
    Append(Vec<u8>),
    Whole(Vec<u8>),
}

/// Takes `data` for what happened to the file.
pub fn backup(data: &[u8]) {
    super::checkpoint::contain_redb();
    let mut input = Unstructured::new(data);
    let good = good();
    let mut parts = good.to_vec();
    let mut sealed = false;
    for _ in 0..8 {
        let Ok(edit) = input.arbitrary::<Edit>() else { break };
        sealed |= matches!(edit, Edit::Byte { sealed: true, .. });
        apply(&mut parts, edit);
        if input.is_empty() {
            break;
        }
    }
    let bytes = parts.concat();
    let file = FaultDisk::new().open("backup", OpenMode::CreateNew).expect("a disk in memory");
    file.write_at(0, &bytes).expect("a disk in memory");
    let taken = check(&*file).is_ok();
    assert!(!taken || sealed || bytes == good.concat(), "a changed backup was taken");
    let disk = FaultDisk::new();
    let restored = restore::<TestWorld>(&*file, Arc::new(disk.clone()));
    assert!(taken || restored.is_err(), "a backup that is refused was restored");
    let opened = DataDirectory::open::<TestWorld>(Arc::new(disk.clone()));
    match restored {
        Ok(restored) => {
            let seed = *opened.expect("a restored directory").seed().expect("it is restored");
            assert_eq!((seed.backup, seed.applied), (restored.contents.summary.digest, restored.applied));
            let checkpoint = Checkpoint::open(Arc::new(disk)).expect("a restored checkpoint");
            restante::raft::load(&checkpoint).expect("a restored state");
        }
        Err(_) => assert!(opened.is_ok_and(|directory| directory.seed().is_none()) || !disk.files().is_empty()),
    }
}

fn apply(parts: &mut Vec<Vec<u8>>, edit: Edit) {
    if parts.is_empty() {
        return;
    }
    let count = parts.len();
    let nth = |n: u8| usize::from(n) % count;
    match edit {
        Edit::Byte { part, at, flip, sealed } => {
            let front = nth(part) == 0;
            let part = &mut parts[nth(part)];
            if part.is_empty() {
                return;
            }
            let at = usize::from(at) % part.len();
            part[at] ^= flip;
            if sealed {
                seal(part, front);
            }
        }
        Edit::Cut { part, at } => {
            let part = &mut parts[nth(part)];
            let at = usize::from(at) % (part.len() + 1);
            part.truncate(at);
        }
        Edit::Drop { part } => drop(parts.remove(nth(part))),
        Edit::Double { part } => {
            let part = parts[nth(part)].clone();
            parts.push(part);
        }
        Edit::Swap { one, other } => parts.swap(nth(one), nth(other)),
        Edit::Append(bytes) => parts.push(bytes),
        Edit::Whole(bytes) => *parts = vec![bytes],
    }
}

/// A part's checksum, made to match.
fn seal(part: &mut [u8], front: bool) {
    let (from, crc, behind) = if front { (8, 16, FRONT_BYTES) } else { (0, 5, HEAD_BYTES) };
    if part.len() >= behind {
        let sum = crc32c::crc32c_append(crc32c::crc32c(&part[from..crc]), &part[behind..]);
        part[crc..behind].copy_from_slice(&sum.to_le_bytes());
    }
}

/// A good one, in its parts.
fn good() -> &'static [Vec<u8>] {
    static GOOD: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let mut office = PostOffice::new();
        let mut commands = BytesMut::new();
        Command::Register { nonce: 1, name: "alice", home: "a" }.put(&mut commands, b"");
        Command::OpenStream { nonce: 2, name: "alice" }.put(&mut commands, b"");
        let header = BatchHeader {
            origin: Origin { incarnation: 1, boot: 1 },
            sequence: 1,
            bytes: commands.len() as u32,
            commands: 2,
        };
        let entry = encode_entry(Time(5), &[Batch { header, frames: commands.freeze() }]);
        office.apply_entry(1, &entry, &mut |_| {}).expect("a good entry");
        let checkpoint = Checkpoint::open(Arc::new(FaultDisk::new())).expect("a disk in memory");
        checkpoint.flush(&office.take_changes(), b"").expect("a disk in memory");
        let header = Header {
            cluster: ClusterId(1),
            server: Name::new("a").expect("a name"),
            applied: 1,
            time: Time(5),
            made_unix_ms: 0,
            records_version: 1,
            software: String::new(),
        };
        let (mut encoder, first) = Encoder::begin(&header);
        let reader = checkpoint.snapshot().expect("whole");
        let (mut parts, mut after) = (vec![first.to_vec()], None);
        loop {
            let chunk = reader.chunk(after.as_deref(), 60).expect("whole");
            parts.push(encoder.chunk(&chunk).to_vec());
            after = chunk.last_key;
            if chunk.end {
                parts.push(encoder.end().to_vec());
                return parts;
            }
        }
    })
}
