//! A home server's commands on their way into the log.
//!
//! They gather in one open batch. It is sealed when it is full, or when few enough sealed ones are on their way: batching
//! by waiting for nothing. Sealed batches stay here until they are seen applied, and are forwarded again, in order,
//! whenever what was under way may be lost.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::limits;
use crate::post_office::BatchVerdict;
use crate::wire::batch::{Batch, BatchHeader};
use crate::wire::command::{self, Command};
use crate::wire::{Origin, frame};
use crate::world::Instant;

/// Sealed batches that may be on their way before the open one waits for company.
const ON_THE_WAY: usize = 4;
/// How long what nobody waits for may lie in the open batch until something comes along that it can ride with. An entry
/// costs every server writes, a sync and messages, however little is in it.
const HOLD: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Batches {
    /// Which run of which server this is.
    pub origin: Origin,
    /// The last one sealed.
    sequence: u64,
    open: BytesMut,
    open_commands: u32,
    /// Somebody waits for something in the open batch.
    urgent: bool,
    /// Since when the open batch holds what nobody waits for.
    held_since: Option<Instant>,
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
            urgent: false,
            held_since: None,
            sealed: VecDeque::new(),
            sealed_bytes: 0,
            cursor: 1,
        }
    }

    /// Appends a command's frame by its payload, as it came.
    pub fn push_frame(&mut self, payload: &[u8]) {
        self.append(payload);
        self.urgent = true;
    }

    /// Appends a command that nobody waits for: it may lie here for [`HOLD`] and ride with what comes.
    pub fn push_frame_to_ride(&mut self, payload: &[u8], now: Instant) {
        self.append(payload);
        self.held_since.get_or_insert(now);
    }

    /// Somebody waits for what is here after all.
    pub fn hurry(&mut self) {
        self.urgent |= self.open_commands > 0;
    }

    fn append(&mut self, payload: &[u8]) {
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
        self.urgent = false;
        self.held_since = None;
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

    /// When the open batch is to be forwarded even if nobody waits for anything in it.
    pub fn held_until(&self) -> Option<Instant> {
        self.held_since.filter(|_| !self.urgent).map(|since| since + HOLD)
    }

    /// The next one to forward, if there is one. It stays here until it is applied.
    pub fn next(&mut self, now: Instant) -> Option<Batch> {
        let on_the_way = (self.cursor - self.first()) as usize;
        let ripe = self.urgent || self.held_until().is_some_and(|until| until <= now);
        if ripe && on_the_way == self.sealed.len() && on_the_way < ON_THE_WAY {
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
    use crate::world::{RealWorld, World};

    fn batches() -> Batches {
        Batches::new(Origin { incarnation: 1, boot: 1 })
    }

    fn now() -> Instant {
        <RealWorld as World>::now()
    }

    fn forwarded(batches: &mut Batches) -> Vec<u64> {
        std::iter::from_fn(|| batches.next(now())).map(|batch| batch.header.sequence).collect()
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
        let fifth = batches.next(now()).expect("there is room for one more");
        assert_eq!((fifth.header.sequence, fifth.header.commands), (5, 3));
        assert_eq!(batches.next(now()), None);
    }

    #[test]
    fn what_nobody_waits_for_rides_with_what_comes_or_goes_alone_in_time() {
        let mut batches = batches();
        let start = now();
        batches.push_frame_to_ride(b"a", start);
        batches.push_frame_to_ride(b"b", start + HOLD / 2);
        assert_eq!(batches.held_until(), Some(start + HOLD));
        assert_eq!(batches.next(start + HOLD / 2), None);
        batches.push(&Command::Tick);
        let batch = batches.next(start + HOLD / 2).expect("somebody waits for the third");
        assert_eq!((batch.header.commands, batches.held_until()), (3, None));
        batches.push_frame_to_ride(b"c", start);
        assert_eq!(batches.next(start + HOLD).map(|batch| batch.header.commands), Some(1), "it has lain long enough");
        batches.push_frame_to_ride(b"d", start);
        batches.hurry();
        assert_eq!(batches.next(start).map(|batch| batch.header.commands), Some(1), "somebody waits after all");
        batches.hurry();
        assert_eq!(batches.next(start), None, "there is nothing");
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
