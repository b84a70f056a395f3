//! Inboxes: attaching, deliveries, acknowledgements, and who was fenced.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustc_hash::FxHashMap;
use slab::Slab;

use super::inbox::{Flush, HOLD, Inbox, State};
use super::requests::{Ask, Asked};
use super::{Answer, Error, Output, Session, TRANSMIT_BYTES, Token};
use crate::client::Delivery;
use crate::wire::client::{REQUEST_KIND, Request};
use crate::wire::command::{Command, decode_content};
use crate::wire::{Epoch, Name, Nonce, Position, Refusal, RegistrationId, client, frame};

/// The inboxes that are read, by the key that the handle holds.
#[derive(Debug, Default)]
pub(super) struct Inboxes {
    all: Slab<Inbox>,
    readers: FxHashMap<(RegistrationId, Epoch), usize>,
    /// Inboxes with something to send.
    ready: VecDeque<usize>,
}

/// What an inbox has for the application.
#[derive(Debug)]
pub(crate) enum Next {
    Delivery(Delivery),
    /// Nothing for now: try again after the next [`Output::Arrived`].
    Nothing,
    /// It reads no more; why is told once.
    Ended(Option<Error>),
}

/// Attempts to attach that find the epoch moved: more than that many readers that attach at the same time.
const ATTACH_ATTEMPTS: u32 = 16;

impl Inboxes {
    pub(super) fn attach_command<'a>(&'a self, key: usize, nonce: Nonce, home: &'a str) -> Option<Command<'a>> {
        let inbox = self.all.get(key)?;
        Some(Command::Attach {
            nonce,
            name: &inbox.name,
            home,
            expected: inbox.epoch,
            resumes: inbox.registration,
            window: inbox.window,
        })
    }

    pub(super) fn detach_command(&self, key: usize, nonce: Nonce) -> Option<Command<'static>> {
        let inbox = self.all.get(key)?;
        let (epoch, delivered) = (inbox.epoch, Some(Position(inbox.handed)));
        Some(Command::Detach { nonce, registration: inbox.registration?, epoch, delivered })
    }

    pub(super) fn make_ready(&mut self, key: usize) {
        if let Some(inbox) = self.all.get_mut(key).filter(|inbox| !inbox.ready) {
            inbox.ready = true;
            self.ready.push_back(key);
        }
    }

    pub(super) fn remove(&mut self, key: usize) {
        if let Some(inbox) = self.all.try_remove(key) {
            self.forget_reader(&inbox);
        }
    }

    fn forget_reader(&mut self, inbox: &Inbox) {
        if let Some(registration) = inbox.registration {
            self.readers.remove(&(registration, inbox.epoch));
        }
    }
}

impl Session {
    /// Becomes the reader of an inbox. Answered with [`Answer::Listening`].
    pub(crate) fn attach(&mut self, now: Duration, name: &Name, window: u32, token: Token) {
        if let Some(error) = self.unusable() {
            return self.answer(Some(token), Err(error));
        }
        let inbox = self.inboxes.all.insert(Inbox::new(name.clone(), window));
        self.ask(now, Ask::Attach { inbox }, token);
    }

    /// The registration of an inbox, once it was attached.
    pub(crate) fn registration_of(&self, key: usize) -> Option<RegistrationId> {
        self.inboxes.all.get(key)?.registration
    }

    /// The client reads an inbox now, or again.
    pub(super) fn attached(
        &mut self,
        nonce: Nonce,
        registration: RegistrationId,
        epoch: Epoch,
        acknowledged: Position,
    ) -> Result<(), &'static str> {
        let asked = self.requests.take_as(nonce, |ask| matches!(ask, Ask::Attach { .. }))?;
        let Some(asked) = asked else {
            // Whoever asked has given up meanwhile: nobody else would make room for another reader.
            if !self.inboxes.readers.contains_key(&(registration, epoch)) {
                let delivered = Some(acknowledged);
                self.put_stray(|nonce| Command::Detach { nonce, registration, epoch, delivered });
            }
            return Ok(());
        };
        let Ask::Attach { inbox: key } = asked.ask else { unreachable!("it was looked at") };
        let Some(inbox) = self.inboxes.all.get_mut(key) else { return Ok(()) };
        if let Some(before) = inbox.registration {
            self.inboxes.readers.remove(&(before, inbox.epoch));
            if before != registration {
                // Servers refuse that. Whatever this one means by it, that inbox is not the one that was read.
                let error = Error::RegistrationEnded { name: inbox.name.clone() };
                self.end_inbox(key, Some(error));
                self.put_stray(|nonce| Command::Detach { nonce, registration, epoch, delivered: Some(acknowledged) });
                return Ok(());
            }
        }
        let (resumes, before) = (inbox.registration.is_some(), inbox.floor);
        inbox.attach(registration, epoch, acknowledged.0);
        let rose = resumes && inbox.floor > before;
        self.inboxes.readers.insert((registration, epoch), key);
        self.inboxes.make_ready(key);
        if rose {
            // The connection died before it could tell so: nothing else will.
            self.floor_rose(key);
        }
        self.answer(asked.token, Ok(Answer::Listening(key)));
        self.detach_if_wanted(key);
        Ok(())
    }

    pub(super) fn attach_refused(&mut self, asked: Asked, key: usize, refusal: Refusal) {
        let Some(inbox) = self.inboxes.all.get_mut(key) else { return };
        if inbox.registration.is_some() {
            let (name, epoch) = (inbox.name.clone(), inbox.epoch);
            let error = match refusal {
                // This very process held the epoch: whoever moved it is another reader.
                Refusal::EpochMoved { current } => Error::Fenced { name, epoch, by: Some(current) },
                Refusal::NotRegistered | Refusal::RegistrationEnded => Error::RegistrationEnded { name },
                refusal => Error::Refused(refusal),
            };
            return self.end_inbox(key, Some(error));
        }
        match refusal {
            Refusal::EpochMoved { current } if inbox.attempts < ATTACH_ATTEMPTS => {
                inbox.attempts += 1;
                inbox.epoch = current;
                self.ask_anew(asked);
            }
            refusal => {
                self.inboxes.remove(key);
                self.answer(asked.token, Err(Error::Refused(refusal)));
            }
        }
    }

    /// Messages arrived.
    pub(super) fn deliver(
        &mut self,
        registration: RegistrationId,
        epoch: Epoch,
        deliveries: Vec<client::Delivery>,
        mut contents: Bytes,
    ) -> Result<(), &'static str> {
        let Some(&key) = self.inboxes.readers.get(&(registration, epoch)) else { return Ok(()) };
        let inbox = &mut self.inboxes.all[key];
        if !inbox.live {
            return Ok(());
        }
        let before = inbox.queue.len();
        let mut last = 0;
        for delivery in deliveries {
            if contents.len() < delivery.content_bytes as usize {
                return Err("a delivery's content is cut off");
            }
            let content = contents.split_to(delivery.content_bytes as usize);
            if delivery.position.0 <= last {
                return Err("deliveries out of order");
            }
            last = delivery.position.0;
            if last <= inbox.delivered {
                continue;
            }
            if inbox.queue.len() >= inbox.window as usize {
                return Err("more deliveries than the reader's window");
            }
            inbox.delivered = last;
            if inbox.state == State::Attached && inbox.closing.is_none() {
                inbox.queue.push_back(unpack(delivery, content));
            }
        }
        if inbox.queue.len() > before {
            self.outputs.push_back(Output::Arrived(key));
        }
        Ok(())
    }

    /// A message that was delivered waits no more: if the application has not taken it, it is not to get it any more.
    pub(super) fn withdrawn(&mut self, registration: RegistrationId, epoch: Epoch, position: Position) {
        if let Some(&key) = self.inboxes.readers.get(&(registration, epoch)) {
            self.inboxes.all[key].queue.retain(|delivery| delivery.position != position);
        }
    }

    /// The next thing that an inbox has for the application, which takes it.
    pub(crate) fn next_delivery(&mut self, key: usize) -> Next {
        let Some(inbox) = self.inboxes.all.get_mut(key) else { return Next::Ended(None) };
        match inbox.queue.pop_front() {
            Some(delivery) => {
                inbox.handed = delivery.position.0;
                Next::Delivery(delivery)
            }
            None if inbox.state == State::Ended || inbox.closing.is_some() => Next::Ended(inbox.error.take()),
            None => Next::Nothing,
        }
    }

    /// The application has done with everything up to `position`, of what it took.
    pub(crate) fn acknowledge(&mut self, key: usize, position: Position) {
        self.acknowledge_with(key, |inbox| inbox.acknowledge_up_to(position.0.min(inbox.handed)));
    }

    /// The application has done with one delivery that it took.
    pub(crate) fn acknowledge_one(&mut self, key: usize, position: Position) {
        self.acknowledge_with(key, |inbox| {
            if position.0 <= inbox.handed {
                inbox.acknowledge_one(position.0);
            }
        });
    }

    fn acknowledge_with(&mut self, key: usize, acknowledge: impl FnOnce(&mut Inbox)) {
        let Some(inbox) = self.inboxes.all.get_mut(key) else { return };
        if inbox.state == State::Ended {
            return;
        }
        acknowledge(inbox);
        self.inboxes.make_ready(key);
    }

    /// Answered when everything acknowledged so far is durable.
    pub(crate) fn flush(&mut self, now: Duration, key: usize, token: Token) {
        if let Some(error) = self.unusable() {
            return self.answer(Some(token), Err(error));
        }
        let Some(inbox) = self.inboxes.all.get_mut(key).filter(|inbox| inbox.state != State::Ended) else {
            return self.answer(Some(token), Err(Error::Closed));
        };
        let (up_to, deadline) = (inbox.acknowledged, now + self.settings.timeout);
        if !inbox.ranges.is_empty() {
            self.ask(now, Ask::Barrier { inbox: key }, token);
        } else if up_to <= inbox.floor {
            return self.answer(Some(token), Ok(Answer::Done));
        } else {
            inbox.flushes.push(Flush { token, up_to, deadline });
            inbox.hurry = true;
            self.arm(deadline);
        }
        self.inboxes.make_ready(key);
    }

    /// Appends acknowledgements, and behind them what is to follow them.
    pub(super) fn transmit_acknowledgements(&mut self, now: Duration, out: &mut BytesMut) {
        while out.len() < TRANSMIT_BYTES {
            let Some(key) = self.inboxes.ready.pop_front() else { return };
            let Some(inbox) = self.inboxes.all.get_mut(key) else { continue };
            inbox.ready = false;
            let follows = self.requests.follows(key);
            if inbox.is_behind() {
                if follows || !inbox.may_wait(now) {
                    inbox.transmit(out);
                } else {
                    let due = *inbox.held_since.get_or_insert(now) + HOLD;
                    self.arm(due);
                }
            }
            let inbox = &mut self.inboxes.all[key];
            if inbox.live && std::mem::take(&mut inbox.hurry) {
                frame::put(out, REQUEST_KIND, &Request::Hurry, &[]);
            }
            if follows && self.inboxes.all[key].live {
                self.transmit_after_acknowledgements(key, out);
            }
        }
    }

    /// Acknowledgements are durable.
    pub(super) fn acknowledged(&mut self, registration: RegistrationId, epoch: Epoch, up_to: Position) {
        let Some(&key) = self.inboxes.readers.get(&(registration, epoch)) else { return };
        let inbox = &mut self.inboxes.all[key];
        // A floor above what was acknowledged here would be a reader's that came before: it has seen no more than
        // what was delivered.
        let up_to = up_to.0.min(inbox.delivered);
        if up_to <= inbox.floor {
            return;
        }
        inbox.rise(up_to);
        if inbox.is_behind() {
            self.inboxes.make_ready(key);
        }
        self.floor_rose(key);
    }

    /// More acknowledgements are durable than before: whoever waits for them is told.
    fn floor_rose(&mut self, key: usize) {
        let Some(inbox) = self.inboxes.all.get_mut(key) else { return };
        let up_to = inbox.floor;
        let (done, wait): (Vec<Flush>, Vec<Flush>) =
            std::mem::take(&mut inbox.flushes).into_iter().partition(|flush| flush.up_to <= up_to);
        inbox.flushes = wait;
        self.outputs.push_back(Output::Acknowledged { inbox: key, up_to });
        for flush in done {
            self.answer(Some(flush.token), Ok(Answer::Done));
        }
    }

    /// A newer reader attached, or the registration ended.
    pub(super) fn fenced(&mut self, registration: RegistrationId, epoch: Epoch, by: Option<Epoch>) {
        let Some(&key) = self.inboxes.readers.get(&(registration, epoch)) else { return };
        let inbox = &self.inboxes.all[key];
        let name = inbox.name.clone();
        match (inbox.state, by) {
            // It may be fenced by its own resumption: the answer to that says more.
            (State::Attaching, Some(_)) | (State::Detaching | State::Ended, _) => {}
            (_, None) => self.end_inbox(key, Some(Error::RegistrationEnded { name })),
            (State::Attached, by) => self.end_inbox(key, Some(Error::Fenced { name, epoch, by })),
        }
    }

    /// A reader reads no more: whoever waits is told.
    fn end_inbox(&mut self, key: usize, error: Option<Error>) {
        let told = error.clone().unwrap_or(Error::Closed);
        let Some(inbox) = self.inboxes.all.get_mut(key) else { return };
        if let Some(registration) = inbox.registration {
            self.inboxes.readers.remove(&(registration, inbox.epoch));
        }
        inbox.end(error);
        let closing = inbox.closing;
        let flushes = std::mem::take(&mut inbox.flushes);
        for flush in flushes {
            self.answer(Some(flush.token), Err(told.clone()));
        }
        for asked in self.requests.forget_inbox(key) {
            let detached = matches!(asked.ask, Ask::Detach { .. });
            self.answer(asked.token, if detached { Ok(Answer::Done) } else { Err(told.clone()) });
        }
        self.outputs.push_back(Output::Arrived(key));
        // Whoever closes a reader that reads no more has what they want.
        if let Some(token) = closing {
            self.answer(token, Ok(Answer::Done));
            self.inboxes.remove(key);
        }
    }

    /// The inbox's handle is dropped, or closed with a token to answer: the reader detaches, with what it took.
    pub(crate) fn detach(&mut self, key: usize, token: Option<Token>) {
        match self.inboxes.all.get_mut(key) {
            Some(inbox) if inbox.state != State::Ended => {
                if inbox.closing.is_some() {
                    // The client is closing it already.
                    return self.answer(token, Ok(Answer::Done));
                }
                inbox.closing = Some(token);
                inbox.queue.clear();
                self.outputs.push_back(Output::Arrived(key));
                self.detach_if_wanted(key);
            }
            _ => {
                self.inboxes.remove(key);
                self.answer(token, Ok(Answer::Done));
            }
        }
    }

    fn detach_if_wanted(&mut self, key: usize) {
        let Some(inbox) = self.inboxes.all.get_mut(key) else { return };
        if inbox.state == State::Attached && inbox.closing.is_some() {
            // The request answers for it from here on.
            let token = inbox.closing.replace(None).flatten();
            inbox.state = State::Detaching;
            self.ask_with(Ask::Detach { inbox: key }, token, None);
        }
    }

    /// A reader has detached.
    pub(super) fn detached(&mut self, key: usize) {
        let Some(inbox) = self.inboxes.all.get_mut(key) else { return };
        for flush in std::mem::take(&mut inbox.flushes) {
            self.answer(Some(flush.token), Err(Error::Closed));
        }
        self.inboxes.remove(key);
    }

    pub(super) fn close_inboxes(&mut self) {
        let keys: Vec<usize> = self.inboxes.all.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.detach(key, None);
        }
    }

    pub(super) fn unlink_inboxes(&mut self) {
        for (_, inbox) in &mut self.inboxes.all {
            inbox.unlink();
        }
    }

    /// On a new connection, readers attach again, and those that leave do so.
    pub(super) fn resume_inboxes(&mut self) {
        let keys: Vec<usize> = self.inboxes.all.iter().map(|(key, _)| key).collect();
        for key in keys {
            let inbox = &mut self.inboxes.all[key];
            match inbox.state {
                State::Attached => {
                    inbox.state = State::Attaching;
                    self.ask_with(Ask::Attach { inbox: key }, None, None);
                }
                // The epoch alone decides: its last acknowledgements and the detachment need no attachment.
                State::Detaching => inbox.live = true,
                State::Attaching | State::Ended => {}
            }
        }
    }

    pub(super) fn tick_inboxes(&mut self, now: Duration) {
        let mut next: Option<Duration> = None;
        let mut late: Vec<Token> = Vec::new();
        let mut ready: Vec<usize> = Vec::new();
        for (key, inbox) in &mut self.inboxes.all {
            inbox.flushes.retain(|flush| {
                let due = flush.deadline <= now;
                if due {
                    late.push(flush.token);
                }
                !due
            });
            let held = inbox.held_since.map(|since| since + HOLD);
            if held.is_some_and(|due| due <= now) {
                ready.push(key);
            }
            let flush = inbox.flushes.first().map(|flush| flush.deadline);
            next = [next, flush, held.filter(|due| *due > now)].into_iter().flatten().min();
        }
        for key in ready {
            self.inboxes.make_ready(key);
        }
        for token in late {
            let error = self.impatience(&Ask::Barrier { inbox: 0 });
            self.answer(Some(token), Err(error));
        }
        if let Some(next) = next {
            self.arm(next);
        }
    }

    /// The session is over: what was delivered can still be taken if the client was closed, and nothing comes after.
    pub(super) fn end_inboxes(&mut self, error: &Error) {
        let keys: Vec<usize> = self.inboxes.all.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.end_inbox(key, (*error != Error::Closed).then(|| error.clone()));
        }
    }
}

/// Takes messages and their contents, which stand back to back, together.
pub(super) fn unpack_all(messages: Vec<client::Delivery>, mut contents: Bytes) -> Result<Vec<Delivery>, &'static str> {
    let mut all = Vec::with_capacity(messages.len());
    for message in messages {
        if contents.len() < message.content_bytes as usize {
            return Err("a message's content is cut off");
        }
        let content = contents.split_to(message.content_bytes as usize);
        all.push(unpack(message, content));
    }
    Ok(all)
}

fn unpack(delivery: client::Delivery, content: Bytes) -> Delivery {
    let decoded = decode_content(&content);
    // What became of a message is told without a content.
    let malformed = decoded.is_err() && delivery.notice.is_none();
    let (headers, body) = decoded.unwrap_or((Vec::new(), content));
    Delivery {
        position: delivery.position,
        message: delivery.message,
        from: delivery.from,
        stream: delivery.stream,
        number: delivery.number,
        time: delivery.time,
        redelivered: delivery.redelivered,
        channel: delivery.channel,
        notice: delivery.notice,
        headers,
        body,
        malformed,
    }
}
