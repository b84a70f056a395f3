//! Streams that the cluster closed: what may go into a new one, and what is in doubt.

use std::time::Duration;

use bytes::BytesMut;

use super::requests::Ask;
use super::stream::{State, Stream};
use super::{Answer, Doubt, Error, Output, SendError, Session, Token};
use crate::client::NoDelivery;
use crate::wire::client::SendFailure;
use crate::wire::command::Command;
use crate::wire::{Nonce, Number, Refusal, RegistrationId, StreamId, frame};

impl Session {
    /// The cluster has closed a stream. Its id is never used again, so what was sent in one copy only, and was
    /// answered so, is in no inbox: it goes into a new stream. If there may be other copies, nobody can say.
    pub(super) fn stream_closed(&mut self, now: Duration, key: usize, number: Number) {
        let stream = &mut self.streams.all[key];
        // Asked for receipts, the cluster says so as of number 0: of sends that are on their way it has yet to say.
        if stream.state != State::Open || (number.0 == 0 && !stream.slots.is_empty()) {
            return;
        }
        if let Some(id) = stream.id.take() {
            self.streams.by_id.remove(&id);
        }
        stream.state = State::Expired;
        if stream.slots.is_empty() {
            self.track_no_more(key, None);
            return self.close_stream_if_done(now, key);
        }
        let once = stream.doubtful <= stream.base && stream.slots.iter().all(|slot| !slot.answered);
        if once && number.0 == stream.base {
            self.reopen(key);
        } else {
            let error = Error::StreamLost { name: stream.name.clone() };
            self.lose_stream(now, key, error, &SendError::Unknown(Doubt::StreamClosed));
        }
    }

    pub(super) fn reopen(&mut self, key: usize) {
        self.streams.all[key].state = State::Opening;
        self.ask_with(Ask::OpenStream { stream: key }, None, None);
    }

    /// A stream is of no use any more: what waits in it is given up.
    fn lose_stream(&mut self, now: Duration, key: usize, error: Error, result: &SendError) {
        let stream = &mut self.streams.all[key];
        stream.state = State::Lost(error);
        stream.wanted = false;
        let numbers = stream.base..stream.next();
        self.track_no_more(key, None);
        for number in numbers {
            self.settle(key, number, Err(result.clone()));
        }
        self.outputs.push_back(Output::Room(Some(key)));
        self.settled(now, key);
    }

    /// A stream is open, or open again.
    pub(super) fn stream_opened(
        &mut self,
        now: Duration,
        nonce: Nonce,
        id: StreamId,
        registration: RegistrationId,
    ) -> Result<(), &'static str> {
        if self.streams.by_id.contains_key(&id) {
            // Either the same answer again, or no server of ours: an id is used once.
            return if self.requests.waits(nonce) { Err("it opened the same stream twice") } else { Ok(()) };
        }
        let asked = self.requests.take_as(nonce, |ask| matches!(ask, Ask::OpenStream { .. }))?;
        let Some(asked) = asked else {
            // Whoever asked has given up meanwhile: nobody else would close it.
            self.put_stray(|nonce| Command::CloseStream { nonce, stream: id });
            return Ok(());
        };
        let Ask::OpenStream { stream: key } = asked.ask else { unreachable!("it was looked at") };
        let Some(stream) = self.streams.all.get_mut(key) else { return Ok(()) };
        if *stream.registration.get_or_insert(registration) != registration {
            // The name was registered anew: whoever holds it now is not who sent before.
            let error = Error::RegistrationEnded { name: stream.name.clone() };
            self.lose_stream(now, key, error, &SendError::Failed(SendFailure::StreamClosed));
            self.put_stray(|nonce| Command::CloseStream { nonce, stream: id });
            return Ok(());
        }
        self.streams.by_id.insert(id, key);
        self.renumber(key, id);
        if self.streams.all[key].tracking.is_due(now) {
            self.arm(now);
        }
        self.streams.make_ready(key);
        if std::mem::take(&mut self.streams.all[key].wanted) {
            self.outputs.push_back(Output::Room(Some(key)));
        }
        self.answer(asked.token, Ok(Answer::StreamOpened(key)));
        self.close_stream_if_done(now, key);
        Ok(())
    }

    /// Starts a stream's numbers from 1 under a new id. What waits goes with it: none of it was carried out.
    fn renumber(&mut self, key: usize, id: StreamId) {
        let stream = &mut self.streams.all[key];
        let mut slots = std::mem::take(&mut stream.slots);
        for (number, slot) in (1..).zip(&mut slots) {
            let payload = slot.frame.slice(frame::HEADER_BYTES..);
            let decoded = Command::decode(&payload);
            let Ok((mut command, content)) = decoded else { unreachable!("a frame of our own") };
            if let Command::Send { stream, number: n, confirmed, .. }
            | Command::Post { stream, number: n, confirmed, .. } = &mut command
            {
                (*stream, *n, *confirmed) = (id, Number(number), Number(0));
            }
            let put = |buffer: &mut BytesMut| buffer.extend_from_slice(&content);
            let frame = self.streams.encode(&command, &put, slot.frame.len() + 32);
            self.streams.pending = self.streams.pending + frame.len() - slot.frame.len();
            slot.frame = frame;
        }
        let stream = &mut self.streams.all[key];
        let (tracking, late) = stream.tracking.renumber(stream.base);
        for (_, token) in late {
            self.outputs.push_back(Output::Delivered { token, result: Err(NoDelivery::StreamClosed) });
        }
        let stream = &mut self.streams.all[key];
        *stream = Stream {
            tracking,
            registration: stream.registration,
            id: Some(id),
            state: State::Open,
            narrowed: slots.len() as u64 + 1,
            slots,
            last_send: stream.last_send,
            ready: stream.ready,
            wanted: stream.wanted,
            closing: stream.closing,
            ..Stream::new(stream.name.clone(), stream.window)
        };
    }

    pub(super) fn stream_refused(&mut self, now: Duration, token: Option<Token>, key: usize, refusal: Refusal) {
        if token.is_some() {
            self.streams.remove(key);
            return self.answer(token, Err(Error::Refused(refusal)));
        }
        self.lose_stream(now, key, Error::Refused(refusal), &SendError::Failed(SendFailure::StreamClosed));
    }
}
