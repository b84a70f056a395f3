//! The client's session: what to send next, what a reply means, when to move to another server.
//!
//! A [`Session`] is a plain value: no I/O, no async, no clock. Whoever drives it tells it what happened (with the time
//! since the session began) and carries out its [`Output`]s; frames to send are taken with [`Session::transmit`].
//!
//! * here: inputs, outputs, and the way of a frame
//! * [`link`]: the connection: greeting, silence, moving
//! * [`servers`]: which server is next
//! * [`requests`]: what has one answer, found by its nonce
//! * [`sending`], [`reopening`], [`tracking`] and [`stream`]: send streams
//! * [`reading`] and [`inbox`]: inboxes
//!
//! What is unanswered when a connection dies is sent again on the next one, in order. That is safe for everything:
//! sends have numbers, other commands have nonces or only ever grow (acknowledgements, confirmations).

mod inbox;
mod link;
mod ranges;
mod reading;
mod reopening;
mod requests;
mod sending;
mod servers;
mod stream;
#[cfg(test)]
mod tests;
mod tracking;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use self::link::Link;
use self::reading::Inboxes;
pub(crate) use self::reading::Next;
use self::requests::{Ask, Requests};
pub(crate) use self::requests::{Change, Look, Operation, Sharing};
pub(crate) use self::sending::Sending;
use self::sending::Streams;
use super::message::{Delivery, Receipt, Registration};
use super::{ClientSettings, Doubt, Error, NoDelivery, SendError};
use crate::wire::client::{ChannelRow, ClientRow, Member, PresenceEvent, REPLY_KIND, Reply, Status, StatusDetail};
use crate::wire::frame::{self, Frame};
use crate::wire::sharing::{Fate, InboxSettings};
use crate::wire::{Name, Nonce, Number, Refusal, ServerAddress};

/// Names a future of the driver that waits for an answer or a receipt. The session only hands it back.
pub(crate) type Token = usize;

/// What the driver is to carry out.
#[derive(Debug)]
pub(crate) enum Output {
    /// Open a connection to this address, then call [`Session::connected`] or [`Session::disconnected`].
    Connect { address: String },
    /// Drop the connection, or the attempt to open one. It is not reported back.
    Disconnect,
    /// The client is attached to that server now, or to none.
    Attached(Option<ServerAddress>),
    /// A request is answered.
    Answered { token: Token, result: Result<Answer, Error> },
    /// A send is answered, or given up. `token` is `None` if nobody waits for it.
    Receipt { token: Option<Token>, number: Number, result: Result<Receipt, SendError> },
    /// What became of a send at its recipients, or why that is not told here.
    Delivered { token: Token, result: Result<Fate, NoDelivery> },
    /// That stream, or with `None` any stream, may have room for another send, or has ended.
    Room(Option<usize>),
    /// That inbox has deliveries, or has ended.
    Arrived(usize),
    /// Acknowledgements of that inbox are durable up to here.
    Acknowledged { inbox: usize, up_to: u64 },
    /// The session is over: send what [`Session::transmit`] gives, then close the connection.
    Finish,
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) enum Answer {
    Started,
    Registered(Registration),
    StreamOpened(usize),
    Listening(usize),
    /// Done, and there is nothing to tell.
    Done,
    Who {
        clients: Vec<ClientRow>,
        more: bool,
    },
    Status(Box<Status>),
    Channels {
        channels: Vec<ChannelRow>,
        more: bool,
    },
    Members {
        members: Vec<Member>,
        more: bool,
    },
    History {
        messages: Vec<Delivery>,
        more: bool,
    },
    Inbox {
        settings: InboxSettings,
        kept: u64,
    },
    Presence {
        up_to: u64,
        events: Option<Vec<PresenceEvent>>,
    },
    /// By which name the backup is read.
    BackupBegun(Nonce),
    BackupPart {
        offset: u64,
        bytes: bytes::Bytes,
        last: bool,
    },
}

/// How many bytes [`Session::transmit`] gives at once. More waits in the session, where it is resent from anyway.
const TRANSMIT_BYTES: usize = 256 << 10;
/// The pause before something that a server could not do for now is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// See the module.
pub(crate) struct Session {
    settings: ClientSettings,
    rng: StdRng,
    link: Link,
    requests: Requests,
    streams: Streams,
    inboxes: Inboxes,
    /// Frames of requests, to be sent ahead of sends.
    control: BytesMut,
    outputs: VecDeque<Output>,
    /// When something that is not the connection's is due at the earliest.
    due: Option<Duration>,
    /// Closing in good order, until then at the latest.
    closing: Option<Duration>,
    ended: Option<Error>,
}

impl Session {
    /// A session that connects at its first tick. `seed` feeds its nonces and pauses.
    pub(crate) fn new(settings: ClientSettings, seed: [u8; 32]) -> Self {
        Self {
            link: Link::new(&settings),
            settings,
            rng: StdRng::from_seed(seed),
            requests: Requests::default(),
            streams: Streams::default(),
            inboxes: Inboxes::default(),
            control: BytesMut::new(),
            outputs: VecDeque::new(),
            due: None,
            closing: None,
            ended: None,
        }
    }

    /// The next thing to carry out.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// A frame arrived.
    pub(crate) fn received(&mut self, now: Duration, frame: &Frame) {
        if !self.link.is_open() {
            return;
        }
        self.link.heard(now);
        if frame.kind != REPLY_KIND {
            return self.drop_link(now, format!("the server sent a frame of the unknown kind {}", frame.kind));
        }
        match frame::take::<Reply>(&frame.payload) {
            Ok((reply, rest)) => {
                let contents = frame.payload.slice(frame.payload.len() - rest.len()..);
                if let Err(violation) = self.reply(now, reply, contents) {
                    self.drop_link(now, format!("the server broke the protocol: {violation}"));
                }
            }
            Err(error) => self.drop_link(now, format!("the server sent a frame that does not decode: {error}")),
        }
        self.close_if_done();
    }

    /// What a reply means. An error is a violation of the protocol, after which the connection is of no use.
    fn reply(&mut self, now: Duration, reply: Reply, contents: bytes::Bytes) -> Result<(), &'static str> {
        match (&reply, self.link.is_up()) {
            (Reply::Welcome { .. }, false) | (Reply::Refused { nonce: None, .. } | Reply::Move { .. }, _) => {}
            (_, true) => {}
            (_, false) => return Err("it answered before it said Welcome"),
        }
        match reply {
            Reply::Welcome { cluster, server, servers } => self.welcome(now, cluster, server, &servers)?,
            Reply::Pong(_) => {}
            Reply::Move { reason } => self.drop_link(now, format!("it told the client to move: {reason}")),
            Reply::Refused { nonce: None, refusal } => self.connection_refused(now, refusal),
            Reply::Refused { nonce: Some(nonce), refusal } => self.request_refused(now, nonce, refusal),
            Reply::Registered { nonce, registration } => {
                let asked = self.requests.take_as(nonce, |ask| matches!(ask, Ask::Register { .. }))?;
                if let Some((token, Ask::Register { name })) = asked.map(|asked| (asked.token, asked.ask)) {
                    let home = self.link.server_name().clone();
                    self.answer(token, Ok(Answer::Registered(Registration { name, id: registration, home })));
                }
            }
            Reply::Deregistered { nonce } => self.take_done(nonce, |ask| matches!(ask, Ask::Deregister { .. }))?,
            Reply::StreamClosed { nonce } => {
                self.take_done(nonce, |ask| matches!(ask, Ask::CloseStream { .. } | Ask::Barrier { .. }))?;
            }
            Reply::Detached { nonce } => self.take_done(nonce, |ask| matches!(ask, Ask::Detach { .. }))?,
            Reply::StreamOpened { nonce, stream, registration } => {
                self.stream_opened(now, nonce, stream, registration)?;
            }
            Reply::Receipts { stream, first, outcomes } => self.receipts(now, stream, first, &outcomes)?,
            Reply::SendFailed { stream, number, reason } => self.send_failed(now, stream, number, reason)?,
            Reply::Attached { nonce, registration, epoch, acknowledged } => {
                self.attached(nonce, registration, epoch, acknowledged)?;
            }
            Reply::Deliver { registration, epoch, deliveries } => {
                self.deliver(registration, epoch, deliveries, contents)?;
            }
            Reply::Acknowledged { registration, epoch, up_to } => self.acknowledged(registration, epoch, up_to),
            Reply::Withdrawn { registration, epoch, position } => self.withdrawn(registration, epoch, position),
            Reply::Fenced { registration, epoch, by } => self.fenced(registration, epoch, by),
            Reply::Who { nonce, clients, more } => {
                if let Some(asked) = self.requests.take_as(nonce, |ask| matches!(ask, Ask::Who { .. }))? {
                    self.answer(asked.token, Ok(Answer::Who { clients, more }));
                }
            }
            Reply::Status { nonce, status } => {
                if let Some(asked) = self.requests.take_as(nonce, |ask| matches!(ask, Ask::Status(_)))? {
                    self.answer(asked.token, Ok(Answer::Status(status)));
                }
            }
            Reply::Done { nonce } => self.take_done(nonce, |ask| matches!(ask, Ask::Operate(_) | Ask::Share(_)))?,
            Reply::BackupBegun { nonce } => {
                if let Some(asked) = self.requests.take_as(nonce, |ask| matches!(ask, Ask::Backup))? {
                    self.answer(asked.token, Ok(Answer::BackupBegun(nonce)));
                }
            }
            Reply::BackupPart { nonce, offset, last } => {
                if let Some(asked) = self.requests.take_as(nonce, |ask| matches!(ask, Ask::ReadBackup { .. }))? {
                    self.answer(asked.token, Ok(Answer::BackupPart { offset, bytes: contents, last }));
                }
            }
            Reply::Delivered { stream, sequence, number, fate } => {
                self.delivered(now, stream, sequence, number, fate)?;
            }
            Reply::Channels { nonce, channels, more } => {
                if let Some(asked) = self.requests.take_as(nonce, |ask| matches!(ask, Ask::Channels { .. }))? {
                    self.answer(asked.token, Ok(Answer::Channels { channels, more }));
                }
            }
            Reply::Members { nonce, members, more } => {
                if let Some(asked) = self.requests.take_as(nonce, |ask| matches!(ask, Ask::Members { .. }))? {
                    self.answer(asked.token, Ok(Answer::Members { members, more }));
                }
            }
            Reply::History { nonce, messages, more, .. } => {
                let messages = reading::unpack_all(messages, contents)?;
                if let Some(asked) =
                    self.requests.take_as(nonce, |ask| matches!(ask, Ask::Look(Look::History { .. })))?
                {
                    self.answer(asked.token, Ok(Answer::History { messages, more }));
                }
            }
            Reply::Inbox { nonce, settings, kept, .. } => {
                if let Some(asked) = self.requests.take_as(nonce, |ask| matches!(ask, Ask::Look(Look::Inbox(_))))? {
                    self.answer(asked.token, Ok(Answer::Inbox { settings, kept }));
                }
            }
            Reply::Presence { nonce, up_to, events } => {
                if let Some(asked) =
                    self.requests.take_as(nonce, |ask| matches!(ask, Ask::Look(Look::Presence { .. })))?
                {
                    self.answer(asked.token, Ok(Answer::Presence { up_to, events }));
                }
            }
            Reply::Servers { servers } => {
                let here = self.link.server_name().clone();
                self.link.servers.learn(&here, &servers);
            }
        }
        Ok(())
    }

    /// Time has passed: to be called when [`Session::next_tick`] comes, and harmless at any other time.
    pub(crate) fn tick(&mut self, now: Duration) {
        self.tick_link(now);
        if self.due.is_some_and(|due| due <= now) {
            // Each of these arms what is due next.
            self.due = None;
            self.tick_requests(now);
            self.tick_streams(now);
            self.tick_tracking(now);
            self.tick_inboxes(now);
        }
        if self.closing.is_some_and(|until| until <= now) {
            self.end(Error::Closed);
        }
        self.close_if_done();
    }

    /// When [`Session::tick`] wants to be called next, whatever happens before.
    pub(crate) fn next_tick(&self) -> Option<Duration> {
        [self.link.next_tick(&self.settings), self.due, self.closing.filter(|_| self.ended.is_none())]
            .into_iter()
            .flatten()
            .min()
    }

    /// Appends the frames to send now to `out`, up to a bound: call again when they are written.
    pub(crate) fn transmit(&mut self, now: Duration, out: &mut BytesMut) {
        let before = out.len();
        if self.link.is_open() || self.ended.is_some() {
            out.extend_from_slice(&self.control);
            self.control.clear();
        }
        if self.link.is_up() {
            self.transmit_acknowledgements(now, out);
            self.transmit_sends(out);
        }
        if out.len() > before {
            self.link.spoke(now);
        }
    }

    /// Begins to close: no new sends, readers detach, streams close once their receipts came; then Goodbye, and
    /// [`Output::Finish`].
    pub(crate) fn close(&mut self, now: Duration) {
        if self.ended.is_some() || self.closing.is_some() {
            return;
        }
        self.closing = Some(now + self.settings.close_timeout);
        self.close_inboxes();
        self.close_streams(now);
        self.close_if_done();
    }

    fn close_if_done(&mut self) {
        if self.closing.is_some() && self.ended.is_none() && self.requests.is_empty() && self.streams.is_idle() {
            if self.link.is_up() {
                self.confirm_all();
                self.link.goodbye(&mut self.control);
            }
            self.end(Error::Closed);
        }
    }

    /// The session is over: whoever waits is told.
    fn end(&mut self, error: Error) {
        if self.ended.is_some() {
            return;
        }
        self.ended = Some(error.clone());
        self.link.over();
        for asked in self.requests.take_all() {
            self.answer(asked.token, Err(error.clone()));
        }
        let doubt = if error == Error::Closed { Doubt::Closed } else { Doubt::Ended(Box::new(error.clone())) };
        self.end_streams(&error, &doubt);
        self.end_inboxes(&error);
        self.outputs.push_back(Output::Attached(None));
        self.outputs.push_back(Output::Finish);
    }

    /// The connection is gone: what is unanswered becomes what is to be sent again.
    fn forget_link(&mut self) {
        self.control.clear();
        self.rewind_streams();
        self.unlink_inboxes();
        for asked in self.requests.unlink() {
            self.answer(asked.token, Err(Error::Unknown { what: asked.ask.what() }));
        }
    }

    /// A server was found that serves: everything that waits goes out.
    fn resend_all(&mut self) {
        self.resume_inboxes();
        for id in self.requests.ids() {
            self.put_request(id);
        }
        self.ready_streams();
        if self.streams.all.iter().any(|(_, stream)| stream.tracking.is_due(Duration::ZERO)) {
            self.arm(Duration::ZERO);
        }
        for asked in self.requests.take_starts() {
            self.answer(asked.token, Ok(Answer::Started));
        }
        self.close_if_done();
    }

    fn answer(&mut self, token: Option<Token>, result: Result<Answer, Error>) {
        if let Some(token) = token {
            self.outputs.push_back(Output::Answered { token, result });
        }
    }

    /// Makes sure that a tick comes at `due` or before.
    fn arm(&mut self, due: Duration) {
        self.due = Some(self.due.map_or(due, |d| d.min(due)));
    }

    fn draw_nonce(&mut self) -> Nonce {
        u128::from(self.rng.next_u64()) << 64 | u128::from(self.rng.next_u64())
    }

    /// Why nothing new can be asked, if so.
    fn unusable(&self) -> Option<Error> {
        match &self.ended {
            Some(error) => Some(error.clone()),
            None if self.closing.is_some() => Some(Error::Closed),
            None => None,
        }
    }

    // What the application asks. The answer comes as `Output::Answered` with its token.

    /// Answered when the client is first attached to a server.
    pub(crate) fn start(&mut self, now: Duration, token: Token) {
        // The driver runs already, and may have been faster.
        if self.link.is_up() && self.unusable().is_none() {
            return self.answer(Some(token), Ok(Answer::Started));
        }
        self.ask(now, Ask::Start, token);
    }

    pub(crate) fn register(&mut self, now: Duration, name: &Name, token: Token) {
        self.ask(now, Ask::Register { name: name.clone() }, token);
    }

    pub(crate) fn deregister(
        &mut self,
        now: Duration,
        name: &Name,
        exactly: Option<crate::wire::RegistrationId>,
        token: Token,
    ) {
        self.ask(now, Ask::Deregister { name: name.clone(), registration: exactly }, token);
    }

    pub(crate) fn who(&mut self, now: Duration, after: Option<Name>, limit: u32, token: Token) {
        self.ask(now, Ask::Who { after, limit }, token);
    }

    pub(crate) fn share(&mut self, now: Duration, sharing: Sharing, token: Token) {
        self.ask(now, Ask::Share(sharing), token);
    }

    pub(crate) fn channels(&mut self, now: Duration, after: Option<Name>, limit: u32, token: Token) {
        self.ask(now, Ask::Channels { after, limit }, token);
    }

    pub(crate) fn members(
        &mut self,
        now: Duration,
        channel: Name,
        after: Option<crate::wire::RegistrationId>,
        limit: u32,
        token: Token,
    ) {
        self.ask(now, Ask::Members { channel, after, limit }, token);
    }

    pub(crate) fn operate(&mut self, now: Duration, operation: Operation, token: Token) {
        self.ask(now, Ask::Operate(operation), token);
    }

    pub(crate) fn look(&mut self, now: Duration, look: Look, token: Token) {
        self.ask(now, Ask::Look(look), token);
    }

    pub(crate) fn backup(&mut self, now: Duration, token: Token) {
        self.ask(now, Ask::Backup, token);
    }

    pub(crate) fn read_backup(&mut self, now: Duration, backup: Nonce, offset: u64, token: Token) {
        self.ask(now, Ask::ReadBackup { backup, offset }, token);
    }

    pub(crate) fn status(&mut self, now: Duration, detail: StatusDetail, token: Token) {
        self.ask(now, Ask::Status(detail), token);
    }
}

/// Whether a refusal only says that this server cannot do it for now, so that nothing was decided.
fn is_passing(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Stopping | Refusal::NoLeader | Refusal::DiskFull)
}
