//! Send streams: numbers, windows, receipts, and what is sent again.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustc_hash::FxHashMap;
use slab::Slab;

use super::requests::Ask;
use super::stream::{Slot, State, Stream};
use super::{Answer, Doubt, Error, Output, Receipt, SendError, Session, TRANSMIT_BYTES, Token};
use crate::client::{Message, Recipients};
use crate::wire::client::SendFailure;
use crate::wire::command::Command;
use crate::wire::sharing::Terms;
use crate::wire::{Name, Nonce, Number, Position, Refusal, SendOutcome, StreamId, frame};

/// The client's send streams, by the key that its handle holds.
#[derive(Debug, Default)]
pub(super) struct Streams {
    pub(super) all: Slab<Stream>,
    pub(super) by_id: FxHashMap<StreamId, usize>,
    /// Streams with something to send, in turn.
    ready: VecDeque<usize>,
    /// Bytes of unanswered sends, over all streams.
    pub(super) pending: usize,
    /// Somebody waits for `pending` to fall.
    wanted: bool,
    /// Frames are encoded at its end and split off, so that many share an allocation.
    arena: BytesMut,
}

/// What became of an attempt to send.
#[derive(Debug)]
pub(crate) enum Sending {
    /// It has this number; its receipt comes.
    Sent(Number),
    /// No room: try again after the next [`Output::Room`].
    Full,
    /// The stream takes no more.
    Failed(Error),
}

/// One stream's turn, in bytes, before the next has its own.
const TURN_BYTES: usize = 64 << 10;
/// A chunk of the arena. Larger frames have an allocation of their own.
const CHUNK_BYTES: usize = 64 << 10;

impl Streams {
    pub(super) fn name(&self, key: usize) -> Option<&Name> {
        self.all.get(key).map(|stream| &stream.name)
    }

    /// Forgets a stream whose sends are all answered.
    pub(super) fn remove(&mut self, key: usize) {
        if let Some(stream) = self.all.try_remove(key) {
            debug_assert!(stream.slots.is_empty(), "a stream is forgotten only when nothing is on its way");
            if let Some(id) = stream.id {
                self.by_id.remove(&id);
            }
        }
    }

    /// Whether every send is answered.
    pub(super) fn is_idle(&self) -> bool {
        self.all.iter().all(|(_, stream)| stream.slots.is_empty())
    }

    pub(super) fn make_ready(&mut self, key: usize) {
        let stream = &mut self.all[key];
        if !stream.ready && stream.has_more() {
            stream.ready = true;
            self.ready.push_back(key);
        }
    }

    pub(super) fn encode(&mut self, command: &Command<'_>, content: &dyn Fn(&mut BytesMut), size: usize) -> Bytes {
        if self.arena.capacity() - self.arena.len() < size {
            self.arena = BytesMut::with_capacity(if size > CHUNK_BYTES / 4 { size } else { CHUNK_BYTES });
        }
        debug_assert!(self.arena.is_empty(), "whatever was encoded was split off");
        command.put(&mut self.arena, &[]);
        content(&mut self.arena);
        let length = (self.arena.len() - 4) as u32;
        self.arena[..4].copy_from_slice(&length.to_le_bytes());
        self.arena.split().freeze()
    }
}

impl Session {
    /// Opens a stream. Answered with [`Answer::StreamOpened`].
    pub(crate) fn open_stream(&mut self, now: Duration, name: &Name, token: Token) {
        if let Some(error) = self.unusable() {
            return self.answer(Some(token), Err(error));
        }
        let stream = self.streams.all.insert(Stream::new(name.clone(), self.settings.stream_window));
        self.ask(now, Ask::OpenStream { stream }, token);
    }

    /// The stream's handle is dropped, or closed with a token to answer. Sends that wait are still sent.
    pub(crate) fn close_stream(&mut self, now: Duration, key: usize, token: Option<Token>) {
        match self.streams.all.get_mut(key) {
            // The client is closing it already.
            Some(stream) if stream.state == State::Closing => self.answer(token, Ok(Answer::Done)),
            Some(stream) if self.ended.is_none() => {
                if token.is_some() || stream.closing.is_none() {
                    stream.closing = Some(token);
                }
                self.close_stream_if_done(now, key);
            }
            _ => {
                self.streams.remove(key);
                self.answer(token, Ok(Answer::Done));
            }
        }
    }

    pub(super) fn close_streams(&mut self, now: Duration) {
        let keys: Vec<usize> = self.streams.all.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.close_stream(now, key, None);
        }
        self.outputs.push_back(Output::Room(None));
    }

    pub(super) fn close_stream_if_done(&mut self, now: Duration, key: usize) {
        let Some(stream) = self.streams.all.get_mut(key) else { return };
        let Some(token) = stream.closing.filter(|_| stream.slots.is_empty()) else { return };
        match (&stream.state, stream.id) {
            (State::Open, Some(id)) => {
                stream.state = State::Closing;
                stream.closing = Some(None);
                self.track_no_more(key, None);
                let deadline = now + self.settings.timeout;
                self.arm(deadline);
                self.ask_with(Ask::CloseStream { stream: key, id }, token, token.is_some().then_some(deadline));
            }
            (State::Opening | State::Open | State::Closing, _) => {}
            (State::Expired | State::Lost(_), _) => {
                self.streams.remove(key);
                self.answer(token, Ok(Answer::Done));
            }
        }
    }

    /// Hands in a message. Its receipt comes as [`Output::Receipt`] with `token`.
    pub(crate) fn send(&mut self, now: Duration, key: usize, to: &Name, message: &Message, token: Token) -> Sending {
        self.hand_in(now, key, to.len(), message, token, |stream, number, confirmed| Command::Send {
            stream,
            number,
            confirmed,
            to,
        })
    }

    /// The same to others than one client. If `delivered` is given, what becomes of it comes as [`Output::Delivered`].
    pub(crate) fn post(
        &mut self,
        now: Duration,
        key: usize,
        to: &Recipients,
        message: &Message,
        token: Token,
        delivered: Option<Token>,
    ) -> Sending {
        let (expires_ms, delay_ms) = (message.expires_ms(), message.delay_ms());
        let terms = Terms { receipt: delivered.is_some(), expires_ms, delay_ms };
        let sent = self.hand_in(now, key, to.bytes(), message, token, |stream, number, confirmed| Command::Post {
            stream,
            number,
            confirmed,
            to: to.target(),
            terms,
        });
        if let (Sending::Sent(number), Some(token)) = (&sent, delivered) {
            self.track(now, key, number.0, token);
        }
        sent
    }

    fn hand_in<'a>(
        &mut self,
        now: Duration,
        key: usize,
        to_bytes: usize,
        message: &Message,
        token: Token,
        command: impl FnOnce(StreamId, Number, Number) -> Command<'a>,
    ) -> Sending {
        if let Some(error) = self.unusable() {
            return Sending::Failed(error);
        }
        let Some(stream) = self.streams.all.get_mut(key) else { return Sending::Failed(Error::Closed) };
        match &stream.state {
            State::Open => {}
            State::Opening => {
                stream.wanted = true;
                return Sending::Full;
            }
            State::Expired => {
                stream.wanted = true;
                self.reopen(key);
                return Sending::Full;
            }
            State::Closing => return Sending::Failed(Error::Closed),
            State::Lost(error) => return Sending::Failed(error.clone()),
        }
        if !stream.has_room() {
            stream.wanted = true;
            return Sending::Full;
        }
        let headers = message.headers();
        let size = message.body().len()
            + to_bytes
            + headers.iter().map(|(name, value)| name.len() + value.len() + 10).sum::<usize>()
            + 64;
        if self.streams.pending > 0 && self.streams.pending + size > self.settings.pending_bytes {
            self.streams.wanted = true;
            return Sending::Full;
        }
        let Some(id) = stream.id else { return Sending::Failed(Error::Closed) };
        let (number, confirmed) = (stream.next(), stream.base - 1);
        let content = |buffer: &mut BytesMut| {
            frame::put_postcard(buffer, headers);
            buffer.extend_from_slice(message.body());
        };
        let frame = self.streams.encode(&command(id, Number(number), Number(confirmed)), &content, size);
        self.streams.pending += frame.len();
        let stream = &mut self.streams.all[key];
        stream.told = stream.told.max(confirmed);
        stream.last_send = now;
        stream.slots.push_back(Slot { frame, token: Some(token), at: now, answered: false });
        self.streams.make_ready(key);
        if let Some(timeout) = self.settings.send_timeout {
            self.arm(now + timeout);
        }
        Sending::Sent(Number(number))
    }

    /// Appends what the streams have to send, each in its turn.
    pub(super) fn transmit_sends(&mut self, out: &mut BytesMut) {
        while out.len() < TRANSMIT_BYTES {
            let Some(key) = self.streams.ready.pop_front() else { return };
            let Some(stream) = self.streams.all.get_mut(key) else { continue };
            stream.ready = false;
            stream.transmit(out, TRANSMIT_BYTES.min(out.len() + TURN_BYTES));
            self.streams.make_ready(key);
        }
    }

    /// Receipts arrived.
    pub(super) fn receipts(
        &mut self,
        now: Duration,
        id: StreamId,
        first: Number,
        outcomes: &[SendOutcome],
    ) -> Result<(), &'static str> {
        let Some(&key) = self.streams.by_id.get(&id) else { return Ok(()) };
        let stream = &self.streams.all[key];
        if first.0.checked_add(outcomes.len() as u64).is_none_or(|end| end > stream.high.max(stream.base)) {
            return Err("a receipt for a number that was never sent");
        }
        for (number, outcome) in (first.0..).zip(outcomes) {
            let nowhere =
                Receipt { number: Number(number), position: Position(0), inboxes: 0, full: 0, scheduled: None };
            let result = match *outcome {
                SendOutcome::Accepted(position) => Ok(Receipt { position, inboxes: 1, ..nowhere }),
                SendOutcome::Reached { inboxes, full } => Ok(Receipt { inboxes, full, ..nowhere }),
                SendOutcome::Scheduled(time) => Ok(Receipt { scheduled: Some(time), ..nowhere }),
                SendOutcome::Refused(refusal) => Err(SendError::Refused(refusal)),
            };
            self.settle(key, number, result);
        }
        self.settled(now, key);
        Ok(())
    }

    pub(super) fn settle(&mut self, key: usize, number: u64, result: Result<Receipt, SendError>) {
        if let Some((token, bytes)) = self.streams.all[key].settle(number) {
            self.streams.pending -= bytes;
            if let Err(error) = &result {
                self.untrack(key, number, error);
            }
            self.outputs.push_back(Output::Receipt { token, number: Number(number), result });
        }
    }

    /// After some of a stream's sends were answered.
    pub(super) fn settled(&mut self, now: Duration, key: usize) {
        let stream = &mut self.streams.all[key];
        let due = (stream.is_unconfirmed()).then_some(stream.last_send.max(now) + self.settings.confirm_after);
        if stream.has_room() && std::mem::take(&mut stream.wanted) {
            self.outputs.push_back(Output::Room(Some(key)));
        }
        if self.streams.pending < self.settings.pending_bytes && std::mem::take(&mut self.streams.wanted) {
            self.outputs.push_back(Output::Room(None));
        }
        if let Some(due) = due {
            self.arm(due);
        }
        // Of what was handed in under a wider window, more may be on its way now.
        self.streams.make_ready(key);
        self.close_stream_if_done(now, key);
    }

    /// A send was not carried out.
    pub(super) fn send_failed(
        &mut self,
        now: Duration,
        id: StreamId,
        number: Number,
        reason: SendFailure,
    ) -> Result<(), &'static str> {
        let Some(&key) = self.streams.by_id.get(&id) else { return Ok(()) };
        let stream = &mut self.streams.all[key];
        if reason == SendFailure::StreamClosed {
            self.stream_closed(now, key, number);
            return Ok(());
        }
        if number.0 >= stream.high.max(stream.base) {
            return Err("an answer for a number that was never sent");
        }
        if stream.slot(number.0).is_none_or(|slot| slot.answered) {
            return Ok(());
        }
        match reason {
            SendFailure::StreamClosed => {}
            SendFailure::Gap { expected } => {
                if stream.held || expected.0 < stream.base || expected.0 >= stream.high {
                    return Ok(());
                }
                // Every send behind the gap is answered like this: the first such answer suffices. Should the same
                // gap be there again after that, a pause keeps it from becoming a storm.
                if expected.0 > stream.gap_filled {
                    stream.gap_filled = expected.0;
                    stream.rewind(expected.0);
                    self.streams.make_ready(key);
                } else {
                    let at = stream.retry_later(now, false);
                    self.arm(at);
                }
            }
            SendFailure::OtherContent => {
                self.settle(key, number.0, Err(SendError::Failed(SendFailure::OtherContent)));
                self.settled(now, key);
            }
            SendFailure::AlreadyAnswered => {
                self.settle(key, number.0, Err(SendError::Unknown(Doubt::Forgotten)));
                self.settled(now, key);
            }
            SendFailure::WindowFull { window } => {
                stream.narrow(window.saturating_sub(window / 8));
                let (confirm, at) = (stream.base - 1, stream.retry_later(now, true));
                stream.told = confirm;
                Command::Confirm { stream: id, confirmed: Number(confirm) }.put(&mut self.control, &[]);
                self.arm(at);
            }
            SendFailure::Unavailable(refusal @ (Refusal::NoLeader | Refusal::Stopping)) => {
                self.drop_link(now, refusal.to_string());
            }
            SendFailure::Unavailable(refusal) => {
                stream.trouble = Some(refusal);
                let at = stream.retry_later(now, true);
                self.arm(at);
            }
        }
        Ok(())
    }

    pub(super) fn rewind_streams(&mut self) {
        for (_, stream) in &mut self.streams.all {
            stream.unlink();
        }
    }

    pub(super) fn ready_streams(&mut self) {
        let keys: Vec<usize> = self.streams.all.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.streams.make_ready(key);
        }
    }

    pub(super) fn confirm_all(&mut self) {
        for (_, stream) in &mut self.streams.all {
            if let Some(id) = stream.id.filter(|_| stream.is_unconfirmed()) {
                stream.told = stream.base - 1;
                Command::Confirm { stream: id, confirmed: Number(stream.told) }.put(&mut self.control, &[]);
            }
        }
    }

    /// Sends again what is due, confirms receipts of streams that fell silent, gives up what took too long.
    pub(super) fn tick_streams(&mut self, now: Duration) {
        let (confirm_after, timeout, up) = (self.settings.confirm_after, self.settings.send_timeout, self.link.is_up());
        let mut next: Option<Duration> = None;
        let mut again: Vec<usize> = Vec::new();
        let mut late: Vec<(Token, Number, Doubt)> = Vec::new();
        for (key, stream) in &mut self.streams.all {
            if stream.retry.is_some_and(|at| at <= now) {
                stream.retry = None;
                stream.held = false;
                stream.gap_filled = 0;
                stream.rewind(stream.base);
                again.push(key);
            }
            let mut due = stream.retry;
            if let Some(id) = stream.id.filter(|_| up && stream.is_unconfirmed()) {
                let at = stream.last_send + confirm_after;
                if at <= now {
                    stream.told = stream.base - 1;
                    Command::Confirm { stream: id, confirmed: Number(stream.told) }.put(&mut self.control, &[]);
                } else {
                    due = [due, Some(at)].into_iter().flatten().min();
                }
            }
            if let Some(timeout) = timeout {
                while let Some(slot) = stream.slot(stream.timed) {
                    if slot.at + timeout > now {
                        due = [due, Some(slot.at + timeout)].into_iter().flatten().min();
                        break;
                    }
                    if let Some(token) = slot.token.take() {
                        let trouble = stream.trouble.as_ref().map_or(String::new(), |t| format!("; at last: {t}"));
                        late.push((token, Number(stream.timed), Doubt::TimedOut { after: timeout, trouble }));
                    }
                    stream.timed += 1;
                }
            }
            next = [next, due].into_iter().flatten().min();
        }
        for (token, number, doubt) in late {
            self.outputs.push_back(Output::Receipt {
                token: Some(token),
                number,
                result: Err(SendError::Unknown(doubt)),
            });
        }
        for key in again {
            self.streams.make_ready(key);
        }
        if let Some(next) = next {
            self.arm(next);
        }
    }

    /// The session is over: nobody will answer what waits.
    pub(super) fn end_streams(&mut self, error: &Error, doubt: &Doubt) {
        let keys: Vec<usize> = self.streams.all.iter().map(|(key, _)| key).collect();
        for key in keys {
            let stream = &mut self.streams.all[key];
            stream.state = State::Lost(error.clone());
            let (high, numbers) = (stream.high, stream.base..stream.next());
            let token = stream.closing.take().flatten();
            self.track_no_more(key, Some(error));
            for number in numbers {
                let error = if number < high { SendError::Unknown } else { SendError::NotSent };
                self.settle(key, number, Err(error(doubt.clone())));
            }
            self.answer(token, Err(error.clone()));
        }
        self.outputs.push_back(Output::Room(None));
    }

    /// Undoes what came into being for somebody who has given up; at most a few of those wait at a time.
    pub(super) fn put_stray<'a>(&mut self, command: impl FnOnce(Nonce) -> Command<'a>) {
        const STRAYS_BYTES_MAX: usize = 16 << 10;
        if self.control.len() < STRAYS_BYTES_MAX {
            let nonce = self.draw_nonce();
            command(nonce).put(&mut self.control, &[]);
        }
    }

    /// Bytes of unanswered sends.
    #[cfg(test)]
    pub(super) fn pending_bytes(&self) -> usize {
        self.streams.pending
    }
}
