//! The books of a home server: which session waits for what, and which commands are on their way.
//!
//! Commands of all sessions gather in [`super::batches`]. What applying brought is routed to sessions: sends by stream,
//! other commands by nonce, deliveries by registration.
//!
//! One lock holds it all; it is never held across an await. Where the post office's lock is needed too, that one is
//! taken first.

mod apart;
mod effects;
mod own_streams;
mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::BytesMut;
use parking_lot::{Mutex, MutexGuard};
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, oneshot};

use self::apart::Apart;
pub(super) use self::apart::{OwnSend, SendResult};
use self::reader::Reader;
use super::batches::Batches;
use super::outbox::{OUTBOX_STOP, Outgoing, Session};
use super::presence::Journal;
use crate::limits;
use crate::metrics::Handed;
use crate::post_office::{Answer, BatchVerdict, Effect, PostOffice};
use crate::wire::batch::Batch;
use crate::wire::client::{Reply, SendFailure};
use crate::wire::command::Command;
use crate::wire::{
    ClusterId, Epoch, Name, Nonce, Number, Origin, Position, Refusal, RegistrationId, SendOutcome, ServerAddress,
    StreamId,
};
use crate::world::Instant;

/// Names a client's connection.
pub(super) type SessionId = u64;

/// See the module.
pub(super) struct Hub {
    state: Mutex<Books>,
    /// There is something to forward.
    pub forward: Notify,
    /// Sealed batches were applied: there is room.
    pub room: Notify,
    /// Something changed of who is there.
    pub presence: Notify,
    pending_bytes_max: usize,
}

/// What the lock holds.
pub(super) struct Books {
    /// Commands on their way into the log.
    pub batches: Batches,
    /// This server's name.
    home: Name,
    next_session: SessionId,
    sessions: BTreeMap<SessionId, Session>,
    streams: FxHashMap<StreamId, Route>,
    /// Streams that are closed, while sends on them may be on their way.
    closed: BTreeSet<StreamId>,
    nonces: FxHashMap<Nonce, Waiter>,
    /// Readers attached here.
    pub readers: BTreeMap<RegistrationId, Reader>,
    /// Readers that may have something to be delivered.
    pub ready: Vec<RegistrationId>,
    barriers: Vec<(u64, oneshot::Sender<()>)>,
    /// Who waits without a session.
    pub apart: Apart,
    /// What changed of who is there.
    pub journal: Journal,
    /// What was handed to readers, until it is counted.
    pub handed: Handed,
    /// Sequence of the batch of this server that is being applied.
    applying: u64,
    /// Sessions to be woken at the end of what is being done.
    touched: Vec<SessionId>,
    /// Why clients are sent elsewhere, if they are.
    pub closed_for: Option<Refusal>,
    /// The cluster's servers, as clients are told of them.
    servers: Vec<ServerAddress>,
}

/// Where a stream's receipts go.
#[derive(Debug, Clone, Copy)]
struct Route {
    session: SessionId,
    /// No send on it is in a later batch than this.
    last: u64,
}

enum Waiter {
    Session(SessionId),
    /// This server itself. The same request may have been asked more than once.
    Server(Vec<oneshot::Sender<Answer>>),
    /// The stream that this server opens for a sender.
    Sender(Name),
}

impl Hub {
    pub fn new(origin: Origin, home: Name, pending_bytes_max: usize) -> Self {
        let state = Books {
            batches: Batches::new(origin),
            home,
            next_session: 1,
            sessions: BTreeMap::new(),
            streams: FxHashMap::default(),
            closed: BTreeSet::new(),
            nonces: FxHashMap::default(),
            readers: BTreeMap::new(),
            ready: Vec::new(),
            barriers: Vec::new(),
            apart: Apart::new(limits::HTTP_STREAMS_MAX),
            journal: Journal::default(),
            handed: Handed::default(),
            applying: 0,
            touched: Vec::new(),
            closed_for: None,
            servers: Vec::new(),
        };
        let [forward, room, presence] = [(); 3].map(|()| Notify::new());
        Self { state: Mutex::new(state), forward, room, presence, pending_bytes_max }
    }

    /// The books.
    pub fn lock(&self) -> MutexGuard<'_, Books> {
        self.state.lock()
    }

    /// A new session, which is welcomed, unless clients are sent elsewhere.
    pub fn open_session(&self, cluster: ClusterId) -> Result<(SessionId, Arc<Notify>), Refusal> {
        let mut books = self.lock();
        if let Some(reason) = &books.closed_for {
            return Err(reason.clone());
        }
        let welcome = books.welcome(cluster);
        let id = books.next_session;
        books.next_session += 1;
        let wake = Arc::new(Notify::new());
        let session = Session::new(wake.clone());
        books.sessions.insert(id, session);
        books.reply(id, &welcome);
        books.wake();
        Ok((id, wake))
    }

    /// Forgets a session. Readers that were attached through it are detached: nobody knows what they received.
    pub fn close_session(&self, id: SessionId) {
        let mut books = self.lock();
        let Some(session) = books.sessions.remove(&id) else { return };
        for stream in session.streams {
            if books.streams.get(&stream).is_some_and(|route| route.session == id) {
                books.streams.remove(&stream);
            }
        }
        for registration in session.registrations {
            if let Some(reader) = books.readers.get(&registration)
                && reader.session == id
            {
                let epoch = reader.epoch;
                books.readers.remove(&registration);
                let home = books.home.clone();
                books.batches.push(&Command::Vanished { registration, epoch, home: &home });
            }
        }
        drop(books);
        self.forward.notify_one();
    }

    /// Whether commands may be taken from `session`: the pending ones are bounded, and so is what it does not read.
    pub fn has_room(&self, session: SessionId) -> bool {
        let books = self.lock();
        books.batches.bytes() < self.pending_bytes_max
            && books.sessions.get(&session).is_none_or(|s| s.out.len() < OUTBOX_STOP)
    }

    /// Proposes a command of the server's own and waits for its answer.
    pub fn ask(&self, nonce: Nonce, command: &Command<'_>) -> oneshot::Receiver<Answer> {
        let (answer, receiver) = oneshot::channel();
        let mut books = self.lock();
        match books.nonces.get_mut(&nonce) {
            Some(Waiter::Server(waiting)) => waiting.push(answer),
            _ => drop(books.nonces.insert(nonce, Waiter::Server(vec![answer]))),
        }
        books.batches.push(command);
        drop(books);
        self.forward.notify_one();
        receiver
    }

    /// Proposes a command of the server's own that has no answer.
    pub fn tell(&self, command: &Command<'_>) {
        self.lock().batches.push(command);
        self.forward.notify_one();
    }

    /// Resolves when everything that was accepted by anybody before now is applied here: a read after it is
    /// linearizable. It puts a batch through the log, which is the simplest proof of being up to date.
    pub fn barrier(&self) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        let mut books = self.lock();
        let sequence = books.batches.push(&Command::Tick);
        books.barriers.push((sequence, done));
        drop(books);
        self.forward.notify_one();
        receiver
    }

    /// Takes the next batch to forward, if there is one. It stays in the books until it is applied.
    pub fn next_batch(&self, now: Instant) -> Option<Batch> {
        self.lock().batches.next(now)
    }

    /// When there is one even if nothing more comes.
    pub fn held_until(&self) -> Option<Instant> {
        self.lock().batches.held_until()
    }

    /// Forwards everything again that is not yet applied: what was under way may be lost.
    pub fn rewind(&self) {
        self.lock().batches.rewind();
        self.forward.notify_one();
    }

    /// Sequence of the oldest batch that was forwarded and is not applied.
    pub fn oldest_forwarded(&self) -> Option<u64> {
        self.lock().batches.oldest_forwarded()
    }

    /// One effect of an entry; see [`crate::raft::Listener`].
    pub fn effect(&self, effect: &Effect<'_>) {
        self.lock().effect(effect);
    }

    /// Sends clients elsewhere from now on, or serves them again.
    pub fn close_for(&self, reason: Option<Refusal>) {
        let mut books = self.lock();
        if let Some(reason) = &reason {
            books.move_sessions(reason);
            books.wake();
            // Whoever waits for one learns at once that it does not come here.
            books.barriers.clear();
        }
        books.closed_for = reason;
        books.apart.wake_all();
        self.presence.notify_waiters();
    }

    /// There are other servers by now: clients are told, so that they find the cluster even if all are replaced that
    /// were there when they came.
    pub fn set_servers(&self, servers: Vec<ServerAddress>) {
        let mut books = self.lock();
        if books.servers == servers {
            return;
        }
        books.servers = servers;
        let reply = Reply::Servers { servers: books.servers.clone() };
        let ids: Vec<_> = books.sessions.keys().copied().collect();
        ids.into_iter().for_each(|id| books.reply(id, &reply));
        books.wake();
    }

    /// Sessions that are open.
    pub fn sessions(&self) -> usize {
        self.lock().sessions.len()
    }

    /// Takes what is to be sent to a client.
    pub fn outgoing(&self, id: SessionId, buffer: BytesMut) -> Outgoing {
        let mut books = self.lock();
        let Some(session) = books.sessions.get_mut(&id) else { return Outgoing { bytes: buffer, ending: true } };
        session.flush_receipts();
        let bytes = std::mem::replace(&mut session.out, buffer);
        let ending = session.ending;
        let starved = std::mem::take(&mut session.starved);
        books.ready.extend(starved);
        Outgoing { bytes, ending }
    }
}

impl Books {
    /// The cluster's servers, as clients are told of them.
    pub fn servers(&self) -> &[ServerAddress] {
        &self.servers
    }

    /// What a client is told first. A server that is out of touch does not name the cluster: the founding record may be on
    /// its disk alone, and be gone with it; who has heard of a leader knows that a majority has it.
    pub fn welcome(&self, cluster: ClusterId) -> Reply {
        let cluster = (self.closed_for != Some(Refusal::NoLeader)).then_some(cluster);
        Reply::Welcome { cluster, server: self.home.clone(), servers: self.servers.clone() }
    }

    /// Of two sessions the newer one wins: an older one may still be reading what its client sent before it moved on.
    pub fn route_stream(&mut self, stream: StreamId, id: SessionId) {
        self.apart.give_up(stream);
        let known = self.streams.get(&stream).map(|route| route.session);
        if known.is_some_and(|known| known > id && self.sessions.contains_key(&known)) {
            return;
        }
        // The open batch may be full, so that what comes next goes into the one behind it.
        let route = Route { session: id, last: self.batches.next_sequence() + 1 };
        self.streams.insert(stream, route);
        if known != Some(id)
            && let Some(session) = self.sessions.get_mut(&id)
        {
            session.streams.push(stream);
        }
    }

    /// The session that asked.
    pub fn route_nonce(&mut self, nonce: Nonce, id: SessionId) {
        if let Some(Waiter::Session(known)) = self.nonces.get(&nonce)
            && *known > id
            && self.sessions.contains_key(known)
        {
            return;
        }
        self.nonces.insert(nonce, Waiter::Session(id));
    }

    /// Delivers nothing more to a reader.
    pub fn forget_reader(&mut self, registration: RegistrationId, epoch: Epoch) {
        if self.readers.get(&registration).is_some_and(|r| r.epoch == epoch) {
            self.readers.remove(&registration);
        }
    }

    /// A session's state, if it is still there.
    pub fn session(&mut self, id: SessionId) -> Option<&mut Session> {
        self.sessions.get_mut(&id)
    }

    /// A reply to a session.
    pub fn reply(&mut self, id: SessionId, reply: &Reply) {
        self.reply_with(id, reply, &[]);
    }

    /// [`Self::reply`], with contents behind it.
    pub fn reply_with(&mut self, id: SessionId, reply: &Reply, contents: &[u8]) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.put(reply, contents);
            self.touch(id);
        }
    }

    /// Notes that a session has something to send.
    pub fn touch(&mut self, id: SessionId) {
        if self.touched.last() != Some(&id) {
            self.touched.push(id);
        }
    }

    /// Wakes the writers of the sessions that have something to send.
    pub fn wake(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for id in touched.drain(..) {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.flush_receipts();
                session.wake.notify_one();
            }
        }
        self.touched = touched;
    }

    fn batch_applied(&mut self, sequence: u64, verdict: &BatchVerdict) {
        self.batches.judged(sequence, verdict);
        if *verdict == BatchVerdict::Applied {
            self.applying = sequence;
            self.forget_closed(sequence);
            for (at, done) in std::mem::take(&mut self.barriers) {
                if at <= sequence {
                    // Whoever asked may have given up.
                    let _ = done.send(());
                } else {
                    self.barriers.push((at, done));
                }
            }
        }
    }

    /// Forgets the routes of closed streams whose sends were all applied before this batch.
    fn forget_closed(&mut self, sequence: u64) {
        let Self { closed, streams, sessions, .. } = self;
        closed.retain(|stream| match streams.get(stream) {
            Some(route) if route.last < sequence => {
                if let Some(session) = sessions.get_mut(&route.session) {
                    session.streams.retain(|s| s != stream);
                }
                streams.remove(stream);
                false
            }
            route => route.is_some(),
        });
    }

    fn sent(&mut self, id: SessionId, stream: StreamId, number: Number, result: &Result<SendOutcome, SendFailure>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match result {
            Ok(outcome) => session.receipt(stream, number, *outcome),
            Err(failure) => {
                let reason = failure.clone();
                if reason == SendFailure::StreamClosed {
                    self.closed.insert(stream);
                }
                session.put(&Reply::SendFailed { stream, number, reason }, &[]);
            }
        }
        self.touch(id);
    }

    fn answered(&mut self, nonce: Nonce, answer: &Answer) {
        let id = match self.nonces.remove(&nonce) {
            None => return,
            Some(Waiter::Server(waiting)) => {
                for waiter in waiting {
                    // Whoever asked may have given up.
                    let _ = waiter.send(answer.clone());
                }
                return;
            }
            Some(Waiter::Sender(sender)) => {
                let opened = match answer {
                    Answer::StreamOpened { stream, .. } => Ok(*stream),
                    Answer::Refused(refusal) => Err(refusal.clone()),
                    other => Err(Refusal::Malformed(format!("a stream was asked for, and the answer is {other:?}"))),
                };
                return self.apart.streams.opened(&sender, nonce, opened);
            }
            Some(Waiter::Session(id)) => id,
        };
        if !self.sessions.contains_key(&id) {
            // If it was an attachment, its client went away while that was on its way, or asks again elsewhere: nobody
            // here can tell, and calling it gone might call somebody gone who reads there.
            return;
        }
        let reply = match answer {
            Answer::Registered { registration } => Reply::Registered { nonce, registration: *registration },
            Answer::Deregistered => Reply::Deregistered { nonce },
            Answer::StreamOpened { stream, registration } => {
                self.route_stream(*stream, id);
                Reply::StreamOpened { nonce, stream: *stream, registration: *registration }
            }
            Answer::StreamClosed => Reply::StreamClosed { nonce },
            Answer::Attached { registration, epoch, acknowledged } => {
                if self.is_read_by_a_newer(*registration, *epoch, id) {
                    return;
                }
                let next = Position(acknowledged.0 + 1);
                self.readers.insert(
                    *registration,
                    Reader { session: id, epoch: *epoch, next, fetching: false, full: false, asked: None },
                );
                if let Some(session) = self.sessions.get_mut(&id)
                    && !session.registrations.contains(registration)
                {
                    session.registrations.push(*registration);
                }
                self.ready.push(*registration);
                Reply::Attached { nonce, registration: *registration, epoch: *epoch, acknowledged: *acknowledged }
            }
            Answer::Detached => Reply::Detached { nonce },
            Answer::Done => Reply::Done { nonce },
            // These are asked by servers only.
            Answer::Enrolled { .. }
            | Answer::ServerAdded
            | Answer::ServerRemoved
            | Answer::ServerDrained
            | Answer::HomeSet { .. }
            | Answer::Acknowledged { .. } => return,
            Answer::Refused(refusal) => Reply::Refused { nonce: Some(nonce), refusal: refusal.clone() },
        };
        self.reply(id, &reply);
    }

    /// Whether a session that came after this one has the inbox, at that very epoch. A client asks the same again on each
    /// connection, and what it had sent on the one before may be read long after it was answered on the new one: taken for
    /// an attachment, it would leave the inbox with a connection that is dead.
    fn is_read_by_a_newer(&self, registration: RegistrationId, epoch: Epoch, id: SessionId) -> bool {
        self.readers.get(&registration).is_some_and(|reader| reader.epoch == epoch && reader.session > id)
    }

    /// As far as everybody knows, a reader is not here any more. If its client is here after all, it has to come again:
    /// what is delivered to it now would not be marked for the next reader.
    fn left(&mut self, registration: RegistrationId, epoch: Epoch) {
        if let Some(reader) = self.readers.get(&registration)
            && reader.epoch == epoch
        {
            let id = reader.session;
            self.readers.remove(&registration);
            self.move_session(id, &Refusal::ReadElsewhere);
        }
    }

    fn move_session(&mut self, id: SessionId, reason: &Refusal) {
        self.reply(id, &Reply::Move { reason: reason.clone() });
        if let Some(session) = self.sessions.get_mut(&id) {
            session.ending = true;
        }
    }

    fn move_sessions(&mut self, reason: &Refusal) {
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        ids.into_iter().for_each(|id| self.move_session(id, reason));
    }

    /// The state was replaced by a snapshot: what was applied in between is not told any more. Batches up to
    /// `applied` are in it; clients ask again, and get the first answers again.
    pub fn installed(&mut self, applied: u64, office: &PostOffice) {
        self.batches.applied_up_to(applied);
        self.nonces.clear();
        self.apart.installed(applied, office);
        for (sender, nonce) in self.apart.streams.opening() {
            self.batches.push(&Command::OpenStream { nonce, name: &sender });
            self.nonces.insert(nonce, Waiter::Sender(sender));
        }
        self.barriers.clear();
        self.readers.clear();
        self.ready.clear();
        self.move_sessions(&Refusal::NoLeader);
        self.wake();
    }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
