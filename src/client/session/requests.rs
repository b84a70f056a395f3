//! What has one answer, found by its nonce, and is asked again at the next server until it came.

use std::collections::BTreeMap;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::{Answer, Error, RETRY_PAUSE, Session, Token, is_passing};
use crate::wire::client::{REQUEST_KIND, Request, StatusDetail};
use crate::wire::command::Command;
use crate::wire::sharing::{Enlistment, InboxSettings};
use crate::wire::{Id, Name, Nonce, Position, Refusal, RegistrationId, ServerAddress, StreamId, frame};

/// What was asked.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    /// To be attached to a server: nothing is sent for it.
    Start,
    Register {
        name: Name,
    },
    Deregister {
        name: Name,
        registration: Option<RegistrationId>,
    },
    OpenStream {
        stream: usize,
    },
    CloseStream {
        stream: usize,
        id: StreamId,
    },
    Attach {
        inbox: usize,
    },
    Detach {
        inbox: usize,
    },
    /// An answer that comes after everything that the inbox sent before has taken effect. No acknowledgement of a
    /// range has an answer of its own, so the close of a stream that never was is asked for: it changes nothing, and
    /// is applied in turn.
    Barrier {
        inbox: usize,
    },
    Who {
        after: Option<Name>,
        limit: u32,
    },
    Status(StatusDetail),
    Operate(Operation),
    Share(Sharing),
    Channels {
        after: Option<Name>,
        limit: u32,
    },
    Members {
        channel: Name,
        after: Option<RegistrationId>,
        limit: u32,
    },
    Look(Look),
    Backup,
    /// At another server than the one where it was begun it is refused.
    ReadBackup {
        backup: Nonce,
        offset: u64,
    },
}

/// What only an operator asks.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Add(ServerAddress),
    Remove { server: Name, force: bool },
    Transfer(Name),
    Drain { server: Name, drained: bool },
}

/// What is only looked at.
#[derive(Debug, Clone)]
pub(crate) enum Look {
    History { client: Name, from: Position, limit: u32 },
    Inbox(Name),
    Presence { since: Option<u64>, wait: Duration },
}

/// What is asked about channels, and is done when it is answered.
#[derive(Debug, Clone)]
pub(crate) enum Sharing {
    Create(Name),
    Delete(Name),
    Enlist {
        name: Name,
        change: Change,
        /// How many changes there were, as far as is known.
        expected: u64,
        /// Attempts that found another number.
        attempts: u32,
    },
}

/// A change of what a client gets.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Join(Name),
    Leave(Name),
    Subscribe(String),
    Unsubscribe(String),
    SetInbox(InboxSettings),
}

impl Change {
    fn wire(&self) -> Enlistment<'_> {
        match self {
            Change::Join(channel) => Enlistment::Join(channel),
            Change::Leave(channel) => Enlistment::Leave(channel),
            Change::Subscribe(pattern) => Enlistment::Subscribe(pattern),
            Change::Unsubscribe(pattern) => Enlistment::Unsubscribe(pattern),
            Change::SetInbox(settings) => Enlistment::SetInbox(*settings),
        }
    }
}

/// Attempts that find what a client has joined changed: more than that many requests that change it at the same time.
const ENLIST_ATTEMPTS: u32 = 16;

impl Ask {
    pub(super) fn what(&self) -> &'static str {
        match self {
            Ask::Start => "connecting",
            Ask::Register { .. } => "registering",
            Ask::Deregister { .. } => "deregistering",
            Ask::OpenStream { .. } => "opening a send stream",
            Ask::CloseStream { .. } => "closing a send stream",
            Ask::Attach { .. } => "listening",
            Ask::Detach { .. } => "detaching",
            Ask::Barrier { .. } => "flushing acknowledgements",
            Ask::Who { .. } => "asking who is there",
            Ask::Status(_) => "asking for the status",
            Ask::Share(Sharing::Create(_)) => "creating a channel",
            Ask::Share(Sharing::Delete(_)) => "deleting a channel",
            Ask::Share(Sharing::Enlist { change: Change::SetInbox(_), .. }) => "setting up an inbox",
            Ask::Share(Sharing::Enlist { .. }) => "changing what a client has joined",
            Ask::Channels { .. } => "asking for the channels",
            Ask::Members { .. } => "asking for the members of a channel",
            Ask::Look(Look::History { .. }) => "asking what an inbox has kept",
            Ask::Look(Look::Inbox(_)) => "asking what is set for an inbox",
            Ask::Look(Look::Presence { .. }) => "asking what changed of who is there",
            Ask::Backup => "beginning a backup",
            Ask::ReadBackup { .. } => "reading a backup",
            Ask::Operate(Operation::Add(_)) => "adding a server",
            Ask::Operate(Operation::Remove { .. }) => "removing a server",
            Ask::Operate(Operation::Transfer(_)) => "transferring leadership",
            Ask::Operate(Operation::Drain { drained: true, .. }) => "draining a server",
            Ask::Operate(Operation::Drain { drained: false, .. }) => "undraining a server",
        }
    }
}

/// A request without its answer yet.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) nonce: Nonce,
    pub(super) ask: Ask,
    pub(super) token: Option<Token>,
    deadline: Option<Duration>,
    /// It went out on a connection.
    sent: bool,
    /// It went out on a connection that died: it may have been carried out before.
    pub(super) doubtful: bool,
    /// A server could not do it for now: to be asked again then.
    retry: Option<Duration>,
}

/// The requests that wait, in the order asked.
#[derive(Debug, Default)]
pub(super) struct Requests {
    asked: BTreeMap<u64, Asked>,
    by_nonce: FxHashMap<Nonce, u64>,
    last: u64,
}

impl Requests {
    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    fn add(&mut self, asked: Asked) -> u64 {
        self.last += 1;
        self.by_nonce.insert(asked.nonce, self.last);
        self.asked.insert(self.last, asked);
        self.last
    }

    pub(super) fn take(&mut self, nonce: Nonce) -> Option<Asked> {
        let id = self.by_nonce.remove(&nonce)?;
        self.asked.remove(&id)
    }

    pub(super) fn waits(&self, nonce: Nonce) -> bool {
        self.by_nonce.contains_key(&nonce)
    }

    /// Takes the request that is answered, if it waits. Left in its place if the answer is of another kind, since a
    /// server that answers so is not believed.
    pub(super) fn take_as(&mut self, nonce: Nonce, fits: fn(&Ask) -> bool) -> Result<Option<Asked>, &'static str> {
        match self.by_nonce.get(&nonce).and_then(|id| self.asked.get(id)) {
            Some(asked) if !fits(&asked.ask) => Err("the answer is not one to what was asked"),
            _ => Ok(self.take(nonce)),
        }
    }

    /// Puts back what [`Requests::take`] took, in its old place or, with another nonce, at the end.
    fn put_back(&mut self, asked: Asked) -> u64 {
        self.add(asked)
    }

    pub(super) fn take_all(&mut self) -> Vec<Asked> {
        self.by_nonce.clear();
        std::mem::take(&mut self.asked).into_values().collect()
    }

    fn take_if(&mut self, which: impl Fn(&Asked) -> bool) -> Vec<Asked> {
        let nonces: Vec<Nonce> = self.asked.values().filter(|a| which(a)).map(|a| a.nonce).collect();
        nonces.into_iter().filter_map(|nonce| self.take(nonce)).collect()
    }

    pub(super) fn take_starts(&mut self) -> Vec<Asked> {
        self.take_if(|asked| matches!(asked.ask, Ask::Start))
    }

    pub(super) fn ids(&self) -> Vec<u64> {
        self.asked.keys().copied().collect()
    }

    /// The connection died. Returns those that must not simply be asked again: whoever is named by a name alone may be
    /// somebody else by now.
    pub(super) fn unlink(&mut self) -> Vec<Asked> {
        for asked in self.asked.values_mut() {
            asked.doubtful |= std::mem::take(&mut asked.sent);
            asked.retry = None;
        }
        self.take_if(|asked| {
            let any = matches!(asked.ask, Ask::Deregister { registration: None, .. } | Ask::Share(Sharing::Delete(_)));
            asked.doubtful && any
        })
    }

    /// Whether something waits that is to go out behind that inbox's acknowledgements.
    pub(super) fn follows(&self, inbox: usize) -> bool {
        self.asked.values().any(|asked| {
            !asked.sent && matches!(asked.ask, Ask::Detach { inbox: i } | Ask::Barrier { inbox: i } if i == inbox)
        })
    }

    /// Takes everything that concerns that inbox.
    pub(super) fn forget_inbox(&mut self, inbox: usize) -> Vec<Asked> {
        self.take_if(|asked| {
            matches!(asked.ask, Ask::Attach { inbox: i } | Ask::Detach { inbox: i } | Ask::Barrier { inbox: i } if i == inbox)
        })
    }
}

impl Session {
    /// Asks for something that the application waits for.
    pub(super) fn ask(&mut self, now: Duration, ask: Ask, token: Token) {
        if let Some(error) = self.unusable() {
            return self.answer(Some(token), Err(error));
        }
        let deadline = now + self.settings.timeout;
        self.arm(deadline);
        self.ask_with(ask, Some(token), Some(deadline));
    }

    /// Asks for something, and again until it is answered.
    pub(super) fn ask_with(&mut self, ask: Ask, token: Option<Token>, deadline: Option<Duration>) {
        let nonce = self.draw_nonce();
        let id = self.requests.add(Asked { nonce, ask, token, deadline, sent: false, doubtful: false, retry: None });
        self.put_request(id);
    }

    /// Puts the frame of a request into the queue, if there is a server to send it to.
    pub(super) fn put_request(&mut self, id: u64) {
        let Some(asked) = self.requests.asked.get_mut(&id) else { return };
        if !self.link.is_up() || asked.sent || asked.retry.is_some() {
            return;
        }
        let home = self.link.server_name();
        let (nonce, control) = (asked.nonce, &mut self.control);
        match &asked.ask {
            Ask::Start => return,
            Ask::Register { name } => Command::Register { nonce, name, home }.put(control, &[]),
            Ask::Deregister { name, registration } => {
                Command::Deregister { nonce, name, registration: *registration }.put(control, &[]);
            }
            Ask::OpenStream { stream } => match self.streams.name(*stream) {
                Some(name) => Command::OpenStream { nonce, name }.put(control, &[]),
                None => return,
            },
            Ask::CloseStream { id, stream } => {
                // What has come need not come into the inbox besides.
                if let Some(stream) = self.streams.all.get_mut(*stream).filter(|stream| stream.tracking.is_behind()) {
                    stream.tracking.put(Duration::ZERO, *id, control);
                }
                Command::CloseStream { nonce, stream: *id }.put(control, &[]);
            }
            Ask::Attach { inbox } => match self.inboxes.attach_command(*inbox, nonce, home) {
                Some(command) => command.put(control, &[]),
                None => return,
            },
            // Both go out behind the inbox's acknowledgements: see `transmit_acknowledgements`.
            Ask::Detach { inbox } | Ask::Barrier { inbox } => return self.inboxes.make_ready(*inbox),
            Ask::Who { after, limit } => {
                let request = Request::Who { nonce, after: after.clone(), limit: *limit };
                frame::put(control, REQUEST_KIND, &request, &[]);
            }
            Ask::Status(detail) => {
                frame::put(control, REQUEST_KIND, &Request::Status { nonce, detail: *detail }, &[]);
            }
            Ask::Share(Sharing::Create(channel)) => Command::CreateChannel { nonce, channel }.put(control, &[]),
            Ask::Share(Sharing::Delete(channel)) => Command::DeleteChannel { nonce, channel }.put(control, &[]),
            Ask::Share(Sharing::Enlist { name, change, expected, .. }) => {
                Command::Enlist { nonce, name, expected: *expected, change: change.wire() }.put(control, &[]);
            }
            Ask::Channels { after, limit } => {
                let request = Request::Channels { nonce, after: after.clone(), limit: *limit };
                frame::put(control, REQUEST_KIND, &request, &[]);
            }
            Ask::Members { channel, after, limit } => {
                let request = Request::Members { nonce, channel: channel.clone(), after: *after, limit: *limit };
                frame::put(control, REQUEST_KIND, &request, &[]);
            }
            Ask::Look(look) => {
                let request = match look.clone() {
                    Look::History { client, from, limit } => Request::History { nonce, client, from, limit },
                    Look::Inbox(client) => Request::Inbox { nonce, client },
                    Look::Presence { since, wait } => {
                        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
                        Request::Presence { nonce, since, wait_ms }
                    }
                };
                frame::put(control, REQUEST_KIND, &request, &[]);
            }
            Ask::Backup => frame::put(control, REQUEST_KIND, &Request::Backup { nonce }, &[]),
            Ask::ReadBackup { backup, offset } => {
                let request = Request::ReadBackup { nonce, backup: *backup, offset: *offset };
                frame::put(control, REQUEST_KIND, &request, &[]);
            }
            Ask::Operate(operation) => {
                let request = match operation.clone() {
                    Operation::Add(server) => Request::AddServer { nonce, server },
                    Operation::Remove { server, force } => Request::RemoveServer { nonce, server, force },
                    Operation::Transfer(server) => Request::TransferLeadership { nonce, server },
                    Operation::Drain { server, drained } => Request::SetDrained { nonce, server, drained },
                };
                frame::put(control, REQUEST_KIND, &request, &[]);
            }
        }
        asked.sent = true;
    }

    /// Appends what is to follow that inbox's acknowledgements.
    pub(super) fn transmit_after_acknowledgements(&mut self, inbox: usize, out: &mut bytes::BytesMut) {
        for asked in self.requests.asked.values_mut().filter(|a| !a.sent && a.retry.is_none()) {
            let nonce = asked.nonce;
            match asked.ask {
                Ask::Barrier { inbox: i } if i == inbox => {
                    Command::CloseStream { nonce, stream: Id::default() }.put(out, &[]);
                }
                Ask::Detach { inbox: i } if i == inbox => match self.inboxes.detach_command(inbox, nonce) {
                    Some(command) => command.put(out, &[]),
                    None => continue,
                },
                _ => continue,
            }
            asked.sent = true;
        }
    }

    /// A request was refused.
    pub(super) fn request_refused(&mut self, now: Duration, nonce: Nonce, refusal: Refusal) {
        let Some(mut asked) = self.requests.take(nonce) else { return };
        if matches!(refusal, Refusal::Stopping | Refusal::NoLeader | Refusal::Drained) {
            asked.sent = false;
            self.requests.put_back(asked);
            return self.drop_link(now, refusal.to_string());
        }
        // What nobody waits for is asked until something is decided.
        if is_passing(&refusal)
            && (asked.token.is_none() || matches!(asked.ask, Ask::Detach { .. } | Ask::Barrier { .. }))
        {
            asked.retry = Some(now + RETRY_PAUSE);
            asked.sent = false;
            self.requests.put_back(asked);
            return self.arm(now + RETRY_PAUSE);
        }
        if let (Ask::Share(Sharing::Enlist { expected, attempts, .. }), Refusal::EnlistmentsMoved { current }) =
            (&mut asked.ask, &refusal)
            && *attempts < ENLIST_ATTEMPTS
        {
            (*expected, *attempts) = (*current, *attempts + 1);
            return self.ask_anew(asked);
        }
        match asked.ask {
            Ask::OpenStream { stream } => self.stream_refused(now, asked.token, stream, refusal),
            Ask::Attach { inbox } => self.attach_refused(asked, inbox, refusal),
            // Whatever the reason: the stream is closed, the reader reads no more, the turn of what went before is over.
            Ask::CloseStream { .. } | Ask::Detach { .. } | Ask::Barrier { .. } => self.done(asked),
            Ask::Deregister { .. }
                if asked.doubtful && matches!(refusal, Refusal::NotRegistered | Refusal::RegistrationEnded) =>
            {
                // An earlier copy of this very request ended it.
                self.done(asked);
            }
            _ => self.answer(asked.token, Err(Error::Refused(refusal))),
        }
    }

    /// The answer to a request came, and tells nothing more.
    pub(super) fn take_done(&mut self, nonce: Nonce, fits: fn(&Ask) -> bool) -> Result<(), &'static str> {
        if let Some(asked) = self.requests.take_as(nonce, fits)? {
            self.done(asked);
        }
        Ok(())
    }

    /// A request whose answer tells nothing more is done.
    pub(super) fn done(&mut self, asked: Asked) {
        match asked.ask {
            Ask::CloseStream { stream, .. } => self.streams.remove(stream),
            Ask::Detach { inbox } => self.detached(inbox),
            _ => {}
        }
        self.answer(asked.token, Ok(Answer::Done));
    }

    /// Asks the same thing anew, so that a late answer to the old question is not taken for one to this.
    pub(super) fn ask_anew(&mut self, mut asked: Asked) {
        asked.nonce = self.draw_nonce();
        asked.sent = false;
        asked.doubtful = false;
        let id = self.requests.put_back(asked);
        self.put_request(id);
    }

    /// Requests whose patience is over are given up; those that are to be asked again are.
    pub(super) fn tick_requests(&mut self, now: Duration) {
        for mut asked in self.requests.take_if(|asked| asked.deadline.is_some_and(|d| d <= now)) {
            let error = self.impatience(&asked.ask);
            match asked.ask {
                Ask::OpenStream { stream } => self.streams.remove(stream),
                Ask::Attach { inbox } => self.inboxes.remove(inbox),
                // The application waits no longer, but the wish stands.
                Ask::CloseStream { .. } | Ask::Detach { .. } => {
                    self.answer(asked.token.take(), Err(error));
                    asked.deadline = None;
                    self.requests.put_back(asked);
                    continue;
                }
                _ => {}
            }
            self.answer(asked.token, Err(error));
        }
        let mut due: Vec<u64> = Vec::new();
        let mut next: Option<Duration> = None;
        for (&id, asked) in &mut self.requests.asked {
            if asked.retry.is_some_and(|at| at <= now) {
                asked.retry = None;
                due.push(id);
            }
            next = [next, asked.retry, asked.deadline].into_iter().flatten().min();
        }
        if let Some(next) = next {
            self.arm(next);
        }
        for id in due {
            self.put_request(id);
        }
    }

    pub(super) fn impatience(&self, ask: &Ask) -> Error {
        self.impatience_with(ask.what())
    }

    /// Why a request got no answer within its patience.
    pub(crate) fn impatience_with(&self, what: &'static str) -> Error {
        let after = self.settings.timeout;
        match self.link.server() {
            Some(server) => Error::TimedOut {
                what,
                after,
                server: format!("{} ({})", server.name, server.address),
                trouble: String::new(),
            },
            None => Error::Unreachable { servers: self.link.servers.list(), after, cause: self.link.cause.clone() },
        }
    }
}
