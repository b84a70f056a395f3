//! One send stream: what is numbered, what is on its way, what is answered.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::Token;
use super::tracking::Tracking;
use crate::client::Error;
use crate::wire::command::Command;
use crate::wire::{Name, Number, Refusal, RegistrationId, StreamId};

/// Where a stream is in its life.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    /// A request to open it waits.
    Opening,
    /// It has an id.
    Open,
    /// The cluster closed it while nothing was in doubt: the next send opens it again.
    Expired,
    /// The application closed it, and the request to close it waits.
    Closing,
    /// It is of no use any more.
    Lost(Error),
}

/// A numbered send.
#[derive(Debug)]
pub(super) struct Slot {
    /// The frame, as it was first sent. Its `confirmed` may be an old one when it is sent again, which does no harm:
    /// confirmations only ever grow.
    pub(super) frame: Bytes,
    /// Who waits for the receipt.
    pub(super) token: Option<Token>,
    /// When it was handed in.
    pub(super) at: Duration,
    pub(super) answered: bool,
}

/// See the module. Numbers: `base <= cursor <= high <= base + slots`, except that `cursor` goes back to send again.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: Name,
    pub(super) registration: Option<RegistrationId>,
    pub(super) id: Option<StreamId>,
    pub(super) state: State,
    /// The first number without an answer; everything below is confirmed with the next command.
    pub(super) base: u64,
    /// Sends from `base` on.
    pub(super) slots: VecDeque<Slot>,
    /// The next number to be sent on this connection.
    pub(super) cursor: u64,
    /// Numbers below were sent at least once.
    pub(super) high: u64,
    /// Numbers below may be on their way in more than one copy, so that a refusal of one copy tells nothing about the
    /// others.
    pub(super) doubtful: u64,
    /// Sends that may wait for their receipts.
    pub(super) window: u32,
    /// Numbers below were handed in while the window was wider: their frames may confirm too little for the one of now.
    pub(super) narrowed: u64,
    /// The receipts up to here were confirmed on this connection by a command of its own, in front of such a frame.
    pub(super) confirmed: u64,
    /// The cluster was told that the receipts up to here are confirmed.
    pub(super) told: u64,
    /// When the last send was handed in.
    pub(super) last_send: Duration,
    /// The largest number that a gap was filled from on this connection.
    pub(super) gap_filled: u64,
    /// When everything unanswered is sent again.
    pub(super) retry: Option<Duration>,
    /// Nothing is sent before `retry`: the server could not take it for now.
    pub(super) held: bool,
    /// The next pause before a retry.
    pub(super) pause: Duration,
    /// What a server complained of last; cleared by the next receipt.
    pub(super) trouble: Option<Refusal>,
    /// Numbers below have no one waiting for a receipt in time any more.
    pub(super) timed: u64,
    /// It is in the queue of streams with something to send.
    pub(super) ready: bool,
    /// Somebody waits for room.
    pub(super) wanted: bool,
    /// The application wants it closed once everything is answered; the token is that of whoever waits for it.
    pub(super) closing: Option<Option<Token>>,
    /// Who waits for delivered receipts.
    pub(super) tracking: Tracking,
}

/// The first pause before a send that a server could not take is sent again; it doubles up to [`PAUSE_MAX`].
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(50);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(1);

impl Stream {
    pub(super) fn new(name: Name, window: u32) -> Self {
        Self {
            name,
            registration: None,
            id: None,
            state: State::Opening,
            base: 1,
            slots: VecDeque::new(),
            cursor: 1,
            high: 1,
            doubtful: 1,
            window: window.max(1),
            narrowed: 1,
            confirmed: 0,
            told: 0,
            last_send: Duration::ZERO,
            gap_filled: 0,
            retry: None,
            held: false,
            pause: PAUSE_MIN,
            trouble: None,
            timed: 1,
            ready: false,
            wanted: false,
            closing: None,
            tracking: Tracking::default(),
        }
    }

    /// The number of the next send.
    pub(super) fn next(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    pub(super) fn has_room(&self) -> bool {
        self.slots.len() < self.window as usize
    }

    pub(super) fn has_more(&self) -> bool {
        self.state == State::Open && !self.held && self.cursor < self.next().min(self.base + u64::from(self.window))
    }

    /// So many sends may wait from now on, and no more of those that do are on their way at once.
    pub(super) fn narrow(&mut self, window: u32) {
        self.window = self.window.min(window).max(1);
        self.narrowed = self.next();
    }

    /// Receipts that the cluster does not know to have arrived.
    pub(super) fn is_unconfirmed(&self) -> bool {
        self.state == State::Open && self.told + 1 < self.base
    }

    pub(super) fn slot(&mut self, number: u64) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(number.checked_sub(self.base)?).ok()?)
    }

    /// Takes note of an answer: who waits for it, and how many bytes it frees; `None` if it was answered before.
    pub(super) fn settle(&mut self, number: u64) -> Option<(Option<Token>, usize)> {
        let slot = self.slot(number).filter(|slot| !slot.answered)?;
        slot.answered = true;
        let bytes = std::mem::take(&mut slot.frame).len();
        let token = slot.token.take();
        if self.slots.front().is_some_and(|slot| slot.answered) {
            while self.slots.front().is_some_and(|slot| slot.answered) {
                self.slots.pop_front();
                self.base += 1;
            }
            self.cursor = self.cursor.max(self.base);
            self.doubtful = self.doubtful.max(self.base);
            self.timed = self.timed.max(self.base);
            // It goes on: what was to be sent again because nothing moved need not be.
            if !self.held {
                self.retry = None;
            }
            self.pause = PAUSE_MIN;
            self.trouble = None;
        }
        Some((token, bytes))
    }

    /// From here on everything is sent again. Never skips ahead: what was not sent on this connection still is.
    pub(super) fn rewind(&mut self, number: u64) {
        self.cursor = self.cursor.min(number).max(self.base);
        self.doubtful = self.high;
    }

    /// The connection is gone.
    pub(super) fn unlink(&mut self) {
        self.rewind(self.base);
        self.gap_filled = 0;
        self.retry = None;
        self.held = false;
        // A confirmation on its way may be lost; an idle stream repeats its last one.
        self.told = 0;
        self.confirmed = 0;
        self.tracking.unlink();
    }

    /// Sends everything unanswered again after a pause, and nothing until then if `hold`.
    pub(super) fn retry_later(&mut self, now: Duration, hold: bool) -> Duration {
        self.held |= hold;
        let at = *self.retry.get_or_insert(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        at
    }

    /// Appends frames to send, up to a bound of bytes in `out`.
    pub(super) fn transmit(&mut self, out: &mut BytesMut, limit: usize) {
        self.cursor = self.cursor.max(self.base);
        while self.has_more() && out.len() < limit {
            let at = (self.cursor - self.base) as usize;
            if !self.slots[at].answered {
                self.confirm_for(self.cursor, out);
                out.extend_from_slice(&self.slots[at].frame);
            }
            self.cursor += 1;
        }
        self.high = self.high.max(self.cursor);
    }

    /// Without it the cluster would count receipts that have long been here, and refuse the send for its window.
    fn confirm_for(&mut self, number: u64, out: &mut BytesMut) {
        let confirmed = self.base - 1;
        if number < self.narrowed
            && number > self.confirmed + u64::from(self.window)
            && confirmed > self.confirmed
            && let Some(stream) = self.id
        {
            Command::Confirm { stream, confirmed: Number(confirmed) }.put(out, &[]);
            self.confirmed = confirmed;
            self.told = self.told.max(confirmed);
        }
    }
}
