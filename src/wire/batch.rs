//! Batches and log entries.
//!
//! A **batch** is what one home server forwards at once: command frames, back to back, under an origin and a sequence
//! number. Batches of one origin are applied in the order of their numbers, each once, whatever was forwarded twice
//! or got lost when a leader died; so a stream's sends stay in order without anybody's waiting.
//!
//! A **log entry** is `EntryHeader | (BatchHeader | command frames)*`: the batches that waited while the entry before
//! was on its way.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::frame;
use super::types::{Origin, Time};

/// In front of a log entry's batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryHeader {
    /// The cluster's time of this entry.
    pub time: Time,
    /// How many batches follow.
    pub batches: u32,
}

/// In front of a batch's command frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchHeader {
    /// Which run of which server formed it.
    pub origin: Origin,
    /// Counted from 1 within the origin.
    pub sequence: u64,
    /// Bytes of command frames that follow.
    pub bytes: u32,
    /// How many commands they are.
    pub commands: u32,
}

/// The shortest [`BatchHeader`]: a byte for each of its numbers.
const BATCH_HEADER_BYTES_MIN: usize = 5;

/// A batch: its header and its command frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The header; `bytes` is the length of `frames`.
    pub header: BatchHeader,
    /// Command frames, back to back; see [`frame::split_bytes`].
    pub frames: Bytes,
}

/// An entry or batch that does not decode. Our own servers write none such: it is damage or another version's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// A header does not decode.
    #[error("a header does not decode: {0}")]
    Header(#[from] postcard::Error),
    /// A batch is cut off.
    #[error("a batch of {bytes} bytes is cut off: {have} are left")]
    Truncated {
        /// The bytes its header names.
        bytes: usize,
        /// The bytes there are.
        have: usize,
    },
}

/// Encodes an entry.
pub fn encode_entry(time: Time, batches: &[Batch]) -> Bytes {
    let mut buffer = BytesMut::with_capacity(16 + batches.iter().map(|b| b.frames.len() + 40).sum::<usize>());
    frame::put_postcard(&mut buffer, &EntryHeader { time, batches: batches.len() as u32 });
    for batch in batches {
        debug_assert_eq!(batch.header.bytes as usize, batch.frames.len());
        frame::put_postcard(&mut buffer, &batch.header);
        buffer.extend_from_slice(&batch.frames);
    }
    buffer.freeze()
}

/// Decodes an entry; the batches share its buffer.
///
/// # Errors
/// [`BadEntry`].
pub fn decode_entry(entry: &Bytes) -> Result<(EntryHeader, Vec<Batch>), BadEntry> {
    let (header, rest) = frame::take::<EntryHeader>(entry)?;
    let mut rest = entry.slice(entry.len() - rest.len()..);
    // How many there are is what the header says; how many there can be, the bytes do.
    let mut batches = Vec::with_capacity((header.batches as usize).min(rest.len() / BATCH_HEADER_BYTES_MIN));
    for _ in 0..header.batches {
        batches.push(take_batch(&mut rest)?);
    }
    Ok((header, batches))
}

/// Takes one batch off the front of `bytes`.
///
/// # Errors
/// [`BadEntry`].
pub fn take_batch(bytes: &mut Bytes) -> Result<Batch, BadEntry> {
    let (header, rest) = frame::take::<BatchHeader>(bytes)?;
    let mut frames = bytes.slice(bytes.len() - rest.len()..);
    if frames.len() < header.bytes as usize {
        return Err(BadEntry::Truncated { bytes: header.bytes as usize, have: frames.len() });
    }
    *bytes = frames.split_off(header.bytes as usize);
    Ok(Batch { header, frames })
}
