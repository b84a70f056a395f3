//! A home server's commands on their way into the log.
//!
//! They gather in one open batch. It is sealed when it is full, or when few enough sealed ones are on their way: batching
//! by waiting for nothing. Sealed batches stay here until they are seen applied, and are forwarded again, in order,
//! whenever what was under way may be lost.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use crate::limits;
use crate::post_office::BatchVerdict;
use crate::wire::batch::{Batch, BatchHeader};
use crate::wire::command::{self, Command};
use crate::wire::{Origin, frame};

/// Sealed batches that may be on their way before the open one waits for company.
const ON_THE_WAY: usize = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Batches {
    /// Which run of which server this is.
    pub origin: Origin,
    /// The last one sealed.
    sequence: u64,
    open: BytesMut,
    open_commands: u32,
    /// Sealed and not applied; their sequences are contiguous.
    sealed: VecDeque<Batch>,
    sealed_bytes: usize,
    /// Sequence of the next one to forward: at most one more than the last one sealed.
    cursor: u64,
}

impl Batches {
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            sequence: 0,
            open: BytesMut::new(),
            open_commands: 0,
            sealed: VecDeque::new(),
            sealed_bytes: 0,
            cursor: 1,
        }
    }

    /// Appends a command's frame by its payload, as it came.
    pub fn push_frame(&mut self, payload: &[u8]) {
        let bytes = frame::HEADER_BYTES + payload.len();
        if self.open_commands > 0
            && (self.open.len() + bytes > limits::BATCH_BYTES_MAX
                || self.open_commands as usize >= limits::BATCH_COMMANDS_MAX)
        {
            self.seal();
        }
        self.open.reserve(bytes);
        self.open.put_u32_le((payload.len() + 1) as u32);
        self.open.put_u8(command::KIND);
        self.open.put_slice(payload);
        self.open_commands += 1;
    }

    /// Appends a command of the server's own. Returns the sequence of the batch that it is in.
    pub fn push(&mut self, command: &Command<'_>) -> u64 {
        let mut payload = BytesMut::new();
        frame::put_postcard(&mut payload, command);
        self.push_frame(&payload);
        self.next_sequence()
    }

    /// Appends a send with its content. Returns the sequence of the batch that it is in.
    pub fn push_content(&mut self, send: &Command<'_>, content: &[u8]) -> u64 {
        let mut payload = BytesMut::with_capacity(content.len() + 128);
        frame::put_postcard(&mut payload, send);
        payload.put_slice(content);
        self.push_frame(&payload);
        self.next_sequence()
    }

    /// The sequence that the open batch will have.
    pub fn next_sequence(&self) -> u64 {
        self.sequence + 1
    }

    fn seal(&mut self) {
        if self.open_commands == 0 {
            return;
        }
        self.sequence += 1;
        let frames: Bytes = self.open.split().freeze();
        let header = BatchHeader {
            origin: self.origin,
            sequence: self.sequence,
            bytes: frames.len() as u32,
            commands: std::mem::take(&mut self.open_commands),
        };
        self.sealed_bytes += frames.len();
        self.sealed.push_back(Batch { header, frames });
    }

    /// The oldest one that is not applied, sealed or still to be.
    fn first(&self) -> u64 {
        self.sealed.front().map_or(self.sequence + 1, |batch| batch.header.sequence)
    }

    /// The next one to forward, if there is one. It stays here until it is applied.
    pub fn next(&mut self) -> Option<Batch> {
        let on_the_way = (self.cursor - self.first()) as usize;
        if on_the_way == self.sealed.len() && on_the_way < ON_THE_WAY {
            self.seal();
        }
        let batch = self.sealed.get(on_the_way)?.clone();
        self.cursor += 1;
        Some(batch)
    }

    /// Begins to forward again with the first one that is not applied.
    pub fn rewind(&mut self) {
        self.cursor = self.first();
    }

    /// Sequence of the oldest one that was forwarded and is not applied.
    pub fn oldest_forwarded(&self) -> Option<u64> {
        self.sealed.front().map(|batch| batch.header.sequence).filter(|sequence| *sequence < self.cursor)
    }

    /// What became of one of them.
    pub fn judged(&mut self, sequence: u64, verdict: &BatchVerdict) {
        match verdict {
            BatchVerdict::Applied => self.applied_up_to(sequence),
            BatchVerdict::Repeat => {}
            BatchVerdict::Gap { expected } => {
                let first = self.first();
                assert!(*expected >= first, "batch {expected} is expected, which is applied: {first} is the oldest");
                self.cursor = self.cursor.min(*expected);
            }
        }
    }

    /// All up to `sequence` are applied.
    pub fn applied_up_to(&mut self, sequence: u64) {
        while let Some(batch) = self.sealed.front()
            && batch.header.sequence <= sequence
        {
            self.sealed_bytes -= batch.frames.len();
            self.sealed.pop_front();
        }
        self.cursor = self.cursor.max(self.first());
    }

    /// Bytes of commands that are not yet applied.
    pub fn bytes(&self) -> usize {
        self.open.len() + self.sealed_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches() -> Batches {
        Batches::new(Origin { incarnation: 1, boot: 1 })
    }

    fn forwarded(batches: &mut Batches) -> Vec<u64> {
        std::iter::from_fn(|| batches.next()).map(|batch| batch.header.sequence).collect()
    }

    /// A batch of its own for each command.
    fn push_and_forward(batches: &mut Batches, count: u64) -> Vec<u64> {
        (0..count)
            .flat_map(|_| {
                batches.push(&Command::Tick);
                forwarded(batches)
            })
            .collect()
    }

    #[test]
    fn an_idle_server_waits_for_nothing_and_a_busy_one_for_company() {
        let mut batches = batches();
        assert_eq!(push_and_forward(&mut batches, 6), [1, 2, 3, 4]);
        assert_eq!(batches.push(&Command::Tick), 5, "three commands share the fifth");
        batches.judged(1, &BatchVerdict::Applied);
        let fifth = batches.next().expect("there is room for one more");
        assert_eq!((fifth.header.sequence, fifth.header.commands), (5, 3));
        assert_eq!(batches.next(), None);
    }

    #[test]
    fn a_batch_that_is_full_is_sealed_at_once() {
        let mut batches = batches();
        let large = vec![0; limits::BATCH_BYTES_MAX / 2 + 1];
        for _ in 0..6 {
            batches.push_frame(&large);
        }
        assert_eq!(forwarded(&mut batches), [1, 2, 3, 4, 5], "the sixth is open, and five are on their way");
        batches.applied_up_to(2);
        assert_eq!(forwarded(&mut batches), [6]);
    }

    #[test]
    fn what_may_be_lost_is_forwarded_again_in_order() {
        let mut batches = batches();
        push_and_forward(&mut batches, 4);
        batches.judged(2, &BatchVerdict::Applied);
        batches.rewind();
        assert_eq!(batches.oldest_forwarded(), None);
        assert_eq!(forwarded(&mut batches), [3, 4]);
        assert_eq!(batches.oldest_forwarded(), Some(3));
        batches.judged(4, &BatchVerdict::Gap { expected: 3 });
        assert_eq!(forwarded(&mut batches), [3, 4]);
    }

    #[test]
    fn a_late_verdict_changes_nothing() {
        let mut batches = batches();
        push_and_forward(&mut batches, 3);
        batches.judged(2, &BatchVerdict::Applied);
        batches.judged(1, &BatchVerdict::Repeat);
        batches.judged(1, &BatchVerdict::Applied);
        assert_eq!(batches.oldest_forwarded(), Some(3));
        batches.rewind();
        batches.judged(3, &BatchVerdict::Gap { expected: 4 });
        assert_eq!(forwarded(&mut batches), [3], "a gap never skips ahead");
        batches.judged(3, &BatchVerdict::Applied);
        assert_eq!((batches.bytes(), batches.oldest_forwarded()), (0, None));
    }
}
