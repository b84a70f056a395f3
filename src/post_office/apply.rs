//! Applying log entries: batches, sends, acknowledgements, ticks. What has a nonce is in `requests`.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::effect::{BatchVerdict, Effect};
use super::limits::{MalformedCommand, TICK_STREAMS_MAX, check_command};
use super::messages::{Message, NOT_HELD};
use super::post::Post;
use super::receipts::End;
use super::streams::{Concluded, Judgement, Stream};
use super::{PostOffice, checkpoint};
use crate::wire::batch::{self, BadEntry, Batch};
use crate::wire::client::SendFailure;
use crate::wire::command::Command;
use crate::wire::sharing::Notice;
use crate::wire::{Epoch, Id, Number, Origin, Position, RegistrationId, SendOutcome, SendRefusal, StreamId};

/// Whoever is told of effects.
pub(super) type Tell<'a> = &'a mut dyn FnMut(Effect<'_>);

/// Where in the log a command stands, and who waits for its answer.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub entry: &'a Bytes,
    pub origin: Origin,
    /// The id of what the command brings to life.
    pub id: Id,
}

/// A numbered send as it stands in its frame.
struct Send<'a> {
    stream: StreamId,
    number: Number,
    confirmed: Number,
    to: &'a str,
    content: &'a [u8],
    /// The recipient's name and the content, which stand behind each other in the frame.
    digested: &'a [u8],
}

impl PostOffice {
    /// Applies one log entry. Calls `effect` for everything somebody may wait for, in order.
    ///
    /// A malformed command is counted and skipped, by every server alike.
    ///
    /// # Errors
    /// [`BadEntry`] if the entry's own structure is damaged; then nothing was done.
    ///
    /// # Panics
    /// If `index` is not above the last one: applying an entry twice would be a fault of the caller.
    pub fn apply_entry(
        &mut self,
        index: u64,
        entry: &Bytes,
        effect: &mut dyn FnMut(Effect<'_>),
    ) -> Result<(), BadEntry> {
        assert!(index > self.applied, "entry {index} comes after {}", self.applied);
        let (header, batches) = batch::decode_entry(entry)?;
        self.applied = index;
        self.time = self.time.max(header.time);
        self.deliver_due(effect);
        self.expire(effect);
        self.forget_due();
        let mut first = 0u32;
        for batch in &batches {
            let Batch { header, frames } = batch;
            let verdict = self.servers.judge(header.origin, header.sequence);
            effect(Effect::Batch { origin: header.origin, sequence: header.sequence, verdict });
            if verdict == BatchVerdict::Applied {
                self.apply_batch(entry, header.origin, frames, first, header.commands, effect);
            }
            first = first.saturating_add(header.commands);
        }
        self.messages.close_entry();
        self.fanned = 0;
        Ok(())
    }

    /// Applies the commands of a batch, of which the first is number `first` in its entry. Ids are made of that number,
    /// so a batch with more frames than its header says ends at what it says.
    fn apply_batch(
        &mut self,
        entry: &Bytes,
        origin: Origin,
        mut frames: &[u8],
        first: u32,
        commands: u32,
        tell: Tell<'_>,
    ) {
        let mut place = first;
        while let Some(next) = next_frame(&mut frames) {
            let ordinal = u16::try_from(place).ok().filter(|_| place - first < commands);
            let checked = match (next, ordinal) {
                (Ok((kind, payload)), Some(ordinal)) => {
                    check_command(kind, payload).map(|(command, content)| (ordinal, payload, command, content))
                }
                (Ok(_), None) => Err(MalformedCommand("the batch holds more commands than it says")),
                (Err(malformed), _) => Err(malformed),
            };
            match checked {
                Ok((ordinal, payload, command, content)) => {
                    let at = At { entry, origin, id: Id::at(self.applied, ordinal) };
                    self.apply_command(at, command, payload, content, tell);
                }
                Err(MalformedCommand(reason)) => {
                    self.malformed += 1;
                    tell(Effect::Skipped { origin, reason });
                }
            }
            place = place.saturating_add(1);
        }
    }

    fn apply_command(&mut self, at: At<'_>, command: Command<'_>, payload: &[u8], content: &[u8], tell: Tell<'_>) {
        match command {
            Command::Send { stream, number, confirmed, to } => {
                let digested = &payload[payload.len() - content.len() - to.len()..];
                self.send(at, Send { stream, number, confirmed, to, content, digested }, tell);
            }
            Command::Post { stream, number, confirmed, to, terms } => {
                self.post(at, &Post { stream, number, confirmed, to, terms, content, payload }, tell);
            }
            Command::CollectReceipts { stream, up_to } => self.collect_receipts(at, stream, up_to, tell),
            Command::Acknowledge { registration, epoch, up_to, ranges } => {
                self.acknowledge(registration, epoch, up_to, &ranges, tell);
            }
            Command::Vanished { registration, epoch, home } => self.vanished(registration, epoch, home, tell),
            Command::Confirm { stream, confirmed } => {
                if let Some(key) = self.streams.key(stream) {
                    self.touch_stream(key);
                    self.streams.get_mut(key).confirm(confirmed);
                }
            }
            Command::SetQuotas(quotas) => self.quotas = quotas,
            Command::Tick => self.tick(tell),
            Command::MoveClients { from, to, until } => self.move_clients(from, &to, until, tell),
            command => self.answer(at, command, tell),
        }
    }

    fn send(&mut self, at: At<'_>, send: Send<'_>, tell: Tell<'_>) {
        let Send { stream, number, .. } = send;
        let digest = content_digest(send.to, send.digested);
        let Some((key, owner)) = self.admit(at, stream, number, send.confirmed, digest, tell) else { return };
        let taken = self.put_into_inbox(at, &send, owner, digest, tell);
        let outcome = match taken {
            Ok((_, position)) => SendOutcome::Accepted(position),
            Err(refusal) => SendOutcome::Refused(refusal),
        };
        self.streams.get_mut(key).push(digest, outcome);
        tell(Effect::Sent { origin: at.origin, stream, number, result: Ok(outcome), repeated: false });
        if let Ok((registration, position)) = taken {
            tell(Effect::Arrived { registration, position });
        }
    }

    /// Judges a numbered send. If it is to be carried out, gives the keys of its stream and its sender; else it is answered.
    #[inline]
    pub(super) fn admit(
        &mut self,
        at: At<'_>,
        stream: StreamId,
        number: Number,
        confirmed: Number,
        digest: u64,
        tell: Tell<'_>,
    ) -> Option<(u32, u32)> {
        let Some(key) = self.streams.key(stream) else {
            let result = Err(SendFailure::StreamClosed);
            tell(Effect::Sent { origin: at.origin, stream, number, result, repeated: false });
            return None;
        };
        self.touch_stream(key);
        let opened = self.streams.get_mut(key);
        opened.confirm(confirmed);
        let owner = opened.owner;
        let judgement = opened.judge(number, digest, self.quotas.stream_window);
        self.touch_client(owner);
        self.registry.get_mut(owner).last_seen = self.time;
        match judgement {
            Judgement::Next => Some((key, owner)),
            Judgement::Answered(result) => {
                let repeated = result.is_ok();
                self.repeats += u64::from(repeated);
                tell(Effect::Sent { origin: at.origin, stream, number, result, repeated });
                None
            }
        }
    }

    fn put_into_inbox(
        &mut self,
        at: At<'_>,
        send: &Send<'_>,
        sender: u32,
        digest: u64,
        tell: Tell<'_>,
    ) -> Result<(RegistrationId, Position), SendRefusal> {
        let recipient = self.registry.key_of(send.to).ok_or(SendRefusal::NoSuchClient)?;
        let bytes = send.content.len() as u32;
        if self.lacks_room(recipient, bytes, 0) {
            if !self.can_make_room(recipient, bytes, 0) {
                return Err(SendRefusal::InboxFull);
            }
            self.make_room(recipient, bytes, 0, tell);
        }
        let message = Message {
            id: at.id,
            stream: send.stream,
            number: send.number,
            time: self.time,
            from: self.registry.get(sender).name.clone(),
            digest,
            content_bytes: bytes,
            offset: (send.content.as_ptr() as usize - at.entry.as_ptr() as usize) as u32,
            entry: NOT_HELD,
            inboxes: 1,
            extra: None,
        };
        let message = self.messages.insert(at.entry, message);
        self.touch_client(recipient);
        let client = self.registry.get_mut(recipient);
        let position = client.inbox.push(message, bytes);
        self.waiting += 1;
        self.waiting_bytes += u64::from(bytes);
        Ok((client.id, position))
    }

    fn acknowledge(
        &mut self,
        registration: RegistrationId,
        epoch: Epoch,
        up_to: Position,
        ranges: &[(Position, Position)],
        tell: Tell<'_>,
    ) {
        let Some(key) = self.registry.key(registration) else { return };
        // Epoch 0 is that of an inbox that never had a reader: no session speaks for it.
        if self.registry.get(key).inbox.epoch() == epoch && epoch != Epoch(0) {
            self.take_acknowledgement(key, epoch, up_to, ranges, tell);
        }
    }

    /// Acknowledges for whoever may.
    pub(super) fn take_acknowledgement(
        &mut self,
        key: u32,
        epoch: Epoch,
        up_to: Position,
        ranges: &[(Position, Position)],
        tell: Tell<'_>,
    ) {
        let keeps = self.inbox_settings(key).keep_messages > 0;
        let client = self.registry.get_mut(key);
        let registration = client.id;
        client.last_seen = self.time;
        let (messages, changes, holes) = (&mut self.messages, &mut self.changes, &mut self.holes);
        let (waiting, waiting_bytes, ends) = (&mut self.waiting, &mut self.waiting_bytes, &mut self.ends);
        let acknowledged = &mut self.acknowledged;
        client.inbox.acknowledge(up_to, ranges, holes, |position, message| {
            let released = if keeps && messages.get(message).notice().is_none() {
                acknowledged.push((position, message));
                messages.keep(message)
            } else {
                messages.release(message)
            };
            changes.message_gone(released);
            Self::note_end(ends, released);
            *waiting -= 1;
            *waiting_bytes -= u64::from(released.bytes);
            released.bytes
        });
        if !holes.is_empty() {
            changes.holes.extend(holes.drain(..).map(|position| (registration, position)));
        }
        let up_to = client.inbox.floor();
        self.touch_client(key);
        if !self.acknowledged.is_empty() {
            let mut acknowledged = std::mem::take(&mut self.acknowledged);
            self.keep(key, &acknowledged);
            acknowledged.clear();
            self.acknowledged = acknowledged;
        }
        tell(Effect::Acknowledged { registration, epoch, up_to });
        self.settle_receipts(End::Acknowledged, tell);
    }

    fn tick(&mut self, tell: Tell<'_>) {
        let mut owing = Vec::new();
        for _ in 0..TICK_STREAMS_MAX {
            let Some((key, expired)) = self.streams.check_next(self.time, self.quotas.stream_idle_ms) else { break };
            if expired {
                owing.extend(Some(self.remove_stream(key, tell)).filter(|stream| !stream.receipts.is_empty()));
            } else {
                checkpoint::touch_stream(&mut self.changes, key, self.streams.get_mut(key));
            }
        }
        // The order in which they were looked at is nobody's business.
        owing.sort_unstable_by_key(|stream| stream.id);
        owing.into_iter().for_each(|stream| self.put_notices(stream, tell));
    }

    /// Closes an open stream. Receipts that its client has not collected go into its inbox.
    pub(super) fn close_stream(&mut self, key: u32, tell: Tell<'_>) {
        let stream = self.remove_stream(key, tell);
        self.put_notices(stream, tell);
    }

    fn remove_stream(&mut self, key: u32, tell: Tell<'_>) -> Stream {
        let stream = self.streams.remove(key);
        self.registry.get_mut(stream.owner).streams.remove(&stream.nonce);
        self.changes.stream_gone(stream.id);
        tell(Effect::StreamClosed { stream: stream.id });
        stream
    }

    fn put_notices(&mut self, stream: Stream, tell: Tell<'_>) {
        for Concluded { message, number, fate } in stream.receipts {
            self.put_notice(stream.owner, message, Notice { stream: stream.id, number, fate }, tell);
        }
    }

    /// Something of the client changes.
    pub(super) fn touch_client(&mut self, key: u32) {
        checkpoint::touch_client(&mut self.changes, key, self.registry.get_mut(key));
    }

    /// The stream is used.
    pub(super) fn touch_stream(&mut self, key: u32) {
        let stream = self.streams.get_mut(key);
        stream.used = self.time;
        checkpoint::touch_stream(&mut self.changes, key, stream);
    }
}

/// The digest by which a repeated send is told from another one: over the recipient's name and the content. `both` is
/// the one behind the other; the name's length is mixed in, since the bytes alone do not say where it ends.
fn content_digest(to: &str, both: &[u8]) -> u64 {
    debug_assert!(both.starts_with(to.as_bytes()));
    xxh3_64(both) ^ (to.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Takes the next frame's kind and payload off the front. Like [`crate::wire::frame::split_bytes`], but without a reference count
/// for each frame; what follows a frame that is cut off is lost.
fn next_frame<'a>(rest: &mut &'a [u8]) -> Option<Result<(u8, &'a [u8]), MalformedCommand>> {
    if rest.is_empty() {
        return None;
    }
    let bytes = std::mem::take(rest);
    let cut_off = Some(Err(MalformedCommand("a frame is cut off")));
    let Some((length, bytes)) = bytes.split_first_chunk::<4>() else { return cut_off };
    let length = u32::from_le_bytes(*length) as usize;
    let Some((frame, after)) = bytes.split_at_checked(length) else { return cut_off };
    let Some((kind, payload)) = frame.split_first() else { return cut_off };
    *rest = after;
    Some(Ok((*kind, payload)))
}
