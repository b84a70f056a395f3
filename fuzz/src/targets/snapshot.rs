//! A snapshot's chunks in any order, damaged, or made by somebody with a checksum of their own: what is finished holds
//! exactly the records of the chunks that were taken in, and what is not finished changes nothing.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use restante::post_office::Change;
use restante::storage::{Checkpoint, SnapshotWriter};

use super::checkpoint::{Contents, contain_redb, contents, open};
use crate::testing::FaultDisk;

const CRC_AT: usize = 8;
const BEHIND_CRC: usize = 12;
const END: u16 = 1;

#[derive(Debug, Arbitrary)]
enum Step {
    /// A chunk as it was sent; mostly the next one.
    Chunk {
        n: u8,
    },
    Next,
    /// A chunk with a byte changed, with a checksum that matches or without.
    Edited {
        n: u8,
        at: u16,
        flip: u8,
        sealed: bool,
    },
    Crafted {
        after: Vec<u8>,
        records: Vec<(Vec<u8>, Vec<u8>)>,
        end: bool,
        miscounted: bool,
        follows: bool,
    },
    Raw {
        bytes: Vec<u8>,
        sealed: bool,
    },
    Finish,
    /// Another snapshot begins.
    Anew,
}

struct Run {
    disk: FaultDisk,
    checkpoint: Checkpoint,
    /// What the checkpoint holds.
    good: Contents,
    writer: Option<SnapshotWriter>,
    /// What the writer was given, and its last key.
    given: BTreeMap<Vec<u8>, Bytes>,
    next: usize,
    finished: u64,
}

/// Takes `data` for what arrives.
pub fn snapshot(data: &[u8]) {
    contain_redb();
    let mut input = Unstructured::new(data);
    let disk = FaultDisk::new();
    let checkpoint = open(&disk).expect("an empty disk");
    let old = Change::Put { key: b"old".to_vec(), head: Vec::new(), content: Bytes::from_static(b"state") };
    checkpoint.flush(&[old], b"old").expect("a disk in memory");
    let good = contents(&checkpoint).expect("what was flushed");
    let mut run = Run { disk, checkpoint, good, writer: None, given: BTreeMap::new(), next: 0, finished: 0 };
    for _ in 0..40 {
        if input.is_empty() {
            break;
        }
        let Ok(step) = input.arbitrary::<Step>() else { break };
        run.step(step);
    }
    assert_eq!(contents(&run.checkpoint).expect("whole"), run.good);
    let Run { disk, checkpoint, writer, good, .. } = run;
    drop((writer, checkpoint));
    let again = open(&disk.kill()).expect("it opens again");
    assert_eq!(contents(&again).expect("whole"), good);
}

impl Run {
    fn step(&mut self, step: Step) {
        let sent = sent();
        let nth = |n: u8| &sent[usize::from(n) % sent.len()];
        match step {
            Step::Chunk { n } => self.chunk(nth(n)),
            Step::Next => {
                let chunk = &sent[self.next % sent.len()];
                self.next += 1;
                self.chunk(chunk);
            }
            Step::Edited { n, at, flip, sealed } => {
                let mut bytes = nth(n).to_vec();
                let at = usize::from(at) % bytes.len();
                bytes[at] ^= flip;
                if sealed {
                    seal(&mut bytes);
                }
                self.chunk(&bytes.into());
            }
            Step::Crafted { after, records, end, miscounted, follows } => {
                let after = if follows { self.last_key() } else { after };
                self.chunk(&craft(&after, &records, end, miscounted));
            }
            Step::Raw { mut bytes, sealed } => {
                if sealed {
                    seal(&mut bytes);
                }
                self.chunk(&bytes.into());
            }
            Step::Finish => {
                let Some(writer) = self.writer.take() else { return };
                self.finished += 1;
                let meta = Bytes::copy_from_slice(&self.finished.to_le_bytes());
                if writer.finish(&meta).is_ok() {
                    self.good = (std::mem::take(&mut self.given), Some(meta));
                }
                assert_eq!(contents(&self.checkpoint).expect("whole"), self.good);
            }
            Step::Anew => self.writer = None,
        }
    }

    fn last_key(&self) -> Vec<u8> {
        self.given.last_key_value().map(|(key, _)| key.clone()).unwrap_or_default()
    }

    fn chunk(&mut self, chunk: &Bytes) {
        if self.writer.is_none() {
            self.given.clear();
            self.next = 1;
        }
        let writer = self.writer.get_or_insert_with(|| self.checkpoint.snapshot_writer().expect("a disk in memory"));
        if writer.chunk(chunk).is_err() {
            // As a server does: the snapshot begins anew.
            self.writer = None;
            return;
        }
        let (after, records) = read(chunk).expect("what was taken in is well-formed");
        assert_eq!(after, self.last_key(), "a chunk that does not follow was taken in");
        for (key, value) in records {
            let first = self.given.is_empty();
            assert!(first || key > self.last_key(), "keys out of order were taken in");
            self.given.insert(key, value);
        }
    }
}

/// A chunk's checksum, made to match.
fn seal(bytes: &mut [u8]) {
    if bytes.len() >= BEHIND_CRC {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC_AT]), &bytes[BEHIND_CRC..]);
        bytes[CRC_AT..BEHIND_CRC].copy_from_slice(&crc.to_le_bytes());
    }
}

fn craft(after: &[u8], records: &[(Vec<u8>, Vec<u8>)], end: bool, miscounted: bool) -> Bytes {
    let mut bytes = b"RSTK".to_vec();
    bytes.extend_from_slice(&1u16.to_le_bytes());
    bytes.extend_from_slice(&(if end { END } else { 0 }).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    let length = |bytes: &mut Vec<u8>, n: usize| bytes.extend_from_slice(&(n as u32).to_le_bytes());
    length(&mut bytes, records.len() + usize::from(miscounted));
    length(&mut bytes, after.len());
    bytes.extend_from_slice(after);
    for (key, value) in records {
        length(&mut bytes, key.len());
        length(&mut bytes, value.len());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
    }
    seal(&mut bytes);
    bytes.into()
}

/// The key that a chunk follows, and its records.
type Read = (Vec<u8>, Vec<(Vec<u8>, Bytes)>);

/// A chunk as somebody reads it who trusts it.
fn read(chunk: &Bytes) -> Option<Read> {
    fn take(rest: &mut Bytes, n: usize) -> Option<Bytes> {
        (rest.len() >= n).then(|| rest.split_to(n))
    }
    fn number(rest: &mut Bytes) -> Option<usize> {
        Some(u32::from_le_bytes(take(rest, 4)?[..].try_into().ok()?) as usize)
    }
    let mut rest = chunk.slice(BEHIND_CRC..);
    let (count, after) = (number(&mut rest)?, number(&mut rest)?);
    let after = take(&mut rest, after)?.to_vec();
    let mut records = Vec::new();
    for _ in 0..count {
        let (key, value) = (number(&mut rest)?, number(&mut rest)?);
        records.push((take(&mut rest, key)?.to_vec(), take(&mut rest, value)?));
    }
    rest.is_empty().then_some((after, records))
}

/// The chunks of a snapshot.
fn sent() -> &'static [Bytes] {
    static SENT: OnceLock<Vec<Bytes>> = OnceLock::new();
    SENT.get_or_init(|| {
        let checkpoint = open(&FaultDisk::new()).expect("an empty disk");
        let put = |i: u64| Change::Put {
            key: i.to_be_bytes().to_vec(),
            head: b"head".to_vec(),
            content: vec![i as u8; (i * 31 % 70) as usize].into(),
        };
        checkpoint.flush(&(0..24).map(put).collect::<Vec<_>>(), b"sent").expect("a disk in memory");
        let reader = checkpoint.snapshot().expect("whole");
        let mut chunks: Vec<Bytes> = Vec::new();
        let mut after = None;
        loop {
            let chunk = reader.chunk(after.as_deref(), 400).expect("whole");
            chunks.push(chunk.bytes);
            after = chunk.last_key;
            if chunk.end {
                return chunks;
            }
        }
    })
}
