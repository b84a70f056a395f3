//! Delivered receipts: who waits for them, and which the cluster need not tell again.
//!
//! The cluster tells those of a stream in the order in which they came to be, each until this client has collected it.
//! What was lost with a connection is asked for on the next one, and now and then while somebody waits.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Output, Session, Token};
use crate::client::{Error, NoDelivery, SendError};
use crate::wire::command::Command;
use crate::wire::sharing::Fate;
use crate::wire::{Number, StreamId};

/// How often receipts are asked for while somebody waits for one.
const ASK: Duration = Duration::from_secs(5);

/// The delivered receipts of one stream.
#[derive(Debug, Default)]
pub(super) struct Tracking {
    /// Who waits, by the send's number.
    pub(super) waiting: BTreeMap<u64, Token>,
    /// All receipts up to this one have come.
    got: u64,
    /// The cluster was told so of these, on this connection.
    told: u64,
    /// When it is told of the others, or asked for more.
    due: Option<Duration>,
}

impl Tracking {
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// The connection is gone: what was told on it may be lost, and so may what was not heard.
    pub(super) fn unlink(&mut self) {
        self.told = 0;
        self.due = (self.got > 0 || !self.waiting.is_empty()).then_some(Duration::ZERO);
    }

    /// The stream is another one from now on: those who wait for what was sent before wait for nothing, and the others'
    /// numbers begin anew.
    pub(super) fn renumber(&mut self, base: u64) -> (Self, Vec<(u64, Token)>) {
        let mut waiting = std::mem::take(&mut self.waiting);
        let kept = waiting.split_off(&base);
        let kept: BTreeMap<u64, Token> = kept.into_iter().map(|(number, token)| (number - base + 1, token)).collect();
        let due = (!kept.is_empty()).then_some(Duration::ZERO);
        (Self { waiting: kept, due, ..Self::default() }, waiting.into_iter().collect())
    }

    /// Appends the command that says which have come, and asks for the others.
    pub(super) fn put(&mut self, now: Duration, stream: StreamId, control: &mut bytes::BytesMut) {
        Command::CollectReceipts { stream, up_to: self.got }.put(control, &[]);
        self.told = self.got;
        self.due = (!self.waiting.is_empty()).then_some(now + ASK);
    }

    /// Whether something has come that the cluster need not keep.
    pub(super) fn is_behind(&self) -> bool {
        self.got > self.told
    }
}

impl Session {
    /// Somebody waits for what becomes of a send that was just handed in.
    pub(super) fn track(&mut self, now: Duration, key: usize, number: u64, token: Token) {
        let tracking = &mut self.streams.all[key].tracking;
        tracking.waiting.insert(number, token);
        let due = *tracking.due.get_or_insert(now + ASK);
        self.arm(due);
    }

    /// A delivered receipt came.
    pub(super) fn delivered(
        &mut self,
        now: Duration,
        id: StreamId,
        sequence: u64,
        number: Number,
        fate: Fate,
    ) -> Result<(), &'static str> {
        let Some(&key) = self.streams.by_id.get(&id) else { return Ok(()) };
        let confirm_after = self.settings.confirm_after;
        let stream = &mut self.streams.all[key];
        if number.0 >= stream.high.max(stream.base) {
            return Err("a delivered receipt for a number that was never sent");
        }
        let tracking = &mut stream.tracking;
        if sequence <= tracking.got {
            return Ok(());
        }
        // One is missing before it: what was not heard is told again.
        if sequence > tracking.got + 1 {
            tracking.due = Some(now);
            self.arm(now);
            return Ok(());
        }
        tracking.got = sequence;
        let due = tracking.due.map_or(now + confirm_after, |due| due.min(now + confirm_after));
        tracking.due = Some(due);
        if let Some(token) = tracking.waiting.remove(&number.0) {
            self.outputs.push_back(Output::Delivered { token, result: Ok(fate) });
        }
        self.arm(due);
        Ok(())
    }

    /// A send has no receipt that could be waited for.
    pub(super) fn untrack(&mut self, key: usize, number: u64, error: &SendError) {
        if let Some(token) = self.streams.all[key].tracking.waiting.remove(&number) {
            let result = Err(NoDelivery::NotAccepted(error.clone()));
            self.outputs.push_back(Output::Delivered { token, result });
        }
    }

    /// The stream is closed: what comes from now on comes into the sender's inbox.
    pub(super) fn track_no_more(&mut self, key: usize, ended: Option<&Error>) {
        for token in std::mem::take(&mut self.streams.all[key].tracking.waiting).into_values() {
            let error = ended.map_or(NoDelivery::StreamClosed, |error| NoDelivery::Ended(error.clone()));
            self.outputs.push_back(Output::Delivered { token, result: Err(error) });
        }
    }

    pub(super) fn tick_tracking(&mut self, now: Duration) {
        let up = self.link.is_up();
        let mut next: Option<Duration> = None;
        for (_, stream) in &mut self.streams.all {
            if let Some(id) = stream.id.filter(|_| up && stream.tracking.is_due(now)) {
                stream.tracking.put(now, id, &mut self.control);
            }
            next = [next, stream.tracking.due.filter(|due| *due > now)].into_iter().flatten().min();
        }
        if let Some(next) = next {
            self.arm(next);
        }
    }
}
