//! Who waits at this server without a session: requests by HTTP, for what becomes of a send, and for an inbox to change.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use super::super::clients::Outgoing;
use super::super::follow::SendId;
use super::own_streams::{Begin, OwnStreams};
use super::{Books, Hub, Waiter};
use crate::post_office::PostOffice;
use crate::wire::client::SendFailure;
use crate::wire::command::Command;
use crate::wire::{Name, Nonce, Number, Refusal, RegistrationId, SendOutcome, StreamId};

/// What became of a send.
pub(in crate::server) type SendResult = Result<SendOutcome, SendFailure>;

/// Somebody who waits for what becomes of a send, and the sequence of the batch that it is in.
type Waiting = (u64, oneshot::Sender<SendResult>);

/// See the module.
#[derive(Debug)]
pub(in crate::server) struct Apart {
    /// By stream and number, each with the sequence of the batch that its send is in: a batch is applied once, and what
    /// applying it tells comes in the order of its commands.
    sends: BTreeMap<(StreamId, Number), VecDeque<Waiting>>,
    inboxes: BTreeMap<RegistrationId, Watched>,
    /// The streams of senders that have none.
    pub streams: OwnStreams,
    /// Requests under way.
    pub requests: usize,
    /// Wakes whoever waits for delivered receipts.
    pub receipts: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Watched {
    wake: Arc<Notify>,
    watchers: usize,
}

impl Apart {
    pub fn new(streams: usize) -> Self {
        Self {
            sends: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            streams: OwnStreams::new(streams),
            requests: 0,
            receipts: Arc::default(),
        }
    }

    /// A send was put into the batch of this sequence; tells what becomes of it.
    pub fn sending(&mut self, stream: StreamId, number: Number, sequence: u64) -> oneshot::Receiver<SendResult> {
        let (tell, told) = oneshot::channel();
        self.sends.entry((stream, number)).or_default().push_back((sequence, tell));
        told
    }

    /// A send of the batch of that sequence was judged.
    pub fn sent(&mut self, sequence: u64, stream: StreamId, number: Number, result: &SendResult) {
        let Some(waiting) = self.sends.get_mut(&(stream, number)) else { return };
        if waiting.front().is_some_and(|(at, _)| *at == sequence)
            && let Some((_, tell)) = waiting.pop_front()
        {
            // Whoever asked may have given up.
            let _ = tell.send(result.clone());
        }
        if waiting.is_empty() {
            self.sends.remove(&(stream, number));
        }
    }

    /// Tells nobody any more what becomes of sends on this stream: a session sends on it, and their answers could be
    /// taken for each other.
    pub fn give_up(&mut self, stream: StreamId) {
        let numbers = (stream, Number(0))..=(stream, Number(u64::MAX));
        let given_up: Vec<_> = self.sends.range(numbers).map(|(key, _)| *key).collect();
        given_up.iter().for_each(|key| drop(self.sends.remove(key)));
    }

    /// Wakes whoever waits for the inbox to change, until [`Self::unwatch`].
    pub fn watch(&mut self, registration: RegistrationId) -> Arc<Notify> {
        let watched = self.inboxes.entry(registration).or_default();
        watched.watchers += 1;
        watched.wake.clone()
    }

    pub fn unwatch(&mut self, registration: RegistrationId) {
        if let Some(watched) = self.inboxes.get_mut(&registration) {
            watched.watchers -= 1;
            if watched.watchers == 0 {
                self.inboxes.remove(&registration);
            }
        }
    }

    /// The inbox changed.
    pub fn wake(&self, registration: RegistrationId) {
        if let Some(watched) = self.inboxes.get(&registration) {
            watched.wake.notify_waiters();
        }
    }

    /// Whoever waits for an inbox is to look again.
    pub fn wake_all(&self) {
        self.inboxes.values().for_each(|watched| watched.wake.notify_waiters());
    }

    /// The state was replaced by a snapshot: what the batches up to `applied` brought is not told any more. Of the server's
    /// own streams it can be looked up, since every number has one content; of others nobody here knows.
    pub fn installed(&mut self, applied: u64, office: &PostOffice) {
        for (stream, numbers) in self.streams.unanswered() {
            for number in numbers {
                if let Some(outcome) = office.outcome(stream, number) {
                    self.streams.answered(stream, number);
                    for (_, tell) in self.sends.remove(&(stream, number)).into_iter().flatten() {
                        let _ = tell.send(Ok(outcome));
                    }
                }
            }
            if office.stream_owner(stream).is_none() {
                self.streams.closed(stream);
            }
        }
        self.sends.retain(|_, waiting| {
            waiting.retain(|(sequence, _)| *sequence > applied);
            !waiting.is_empty()
        });
        self.wake_all();
    }
}

/// What comes of a send on one of the server's own streams.
pub(in crate::server) enum OwnSend {
    /// It is on its way.
    Sent(SendId, oneshot::Receiver<SendResult>),
    /// The stream has to be open first.
    Opening(oneshot::Receiver<Result<(), Refusal>>),
    /// There is no room before others are answered.
    Full,
}

impl Hub {
    /// Sends for somebody without a session, on a stream of theirs. `None` while a session sends on it.
    pub fn send_apart(&self, send: &Command<'_>, content: &[u8]) -> Option<oneshot::Receiver<SendResult>> {
        let (Command::Send { stream, number, .. } | Command::Post { stream, number, .. }) = send else { return None };
        let mut books = self.lock();
        if books.streams.get(stream).is_some_and(|route| books.sessions.contains_key(&route.session)) {
            return None;
        }
        let sequence = books.batches.push_content(send, content);
        let told = books.apart.sending(*stream, *number, sequence);
        drop(books);
        self.forward.notify_one();
        Some(told)
    }

    /// Sends for somebody who has no stream, on the one that this server has for them, of whose sends `window` may be on
    /// their way. `nonces` are used if a stream is opened and another one closed.
    pub fn send_for(&self, sender: &Name, outgoing: &Outgoing, window: u64, nonces: [Nonce; 2]) -> OwnSend {
        let mut books = self.lock();
        let sent = match books.apart.streams.begin(sender, window, nonces[0]) {
            Begin::Number { stream, number, confirmed } => {
                let send = outgoing.command(stream, number, confirmed);
                let sequence = books.batches.push_content(&send, &outgoing.content);
                OwnSend::Sent(SendId(stream, number), books.apart.sending(stream, number, sequence))
            }
            Begin::Open { nonce, instead_of, opened } => {
                if let Some(stream) = instead_of {
                    books.batches.push(&Command::CloseStream { nonce: nonces[1], stream });
                }
                books.nonces.insert(nonce, Waiter::Sender(sender.clone()));
                books.batches.push(&Command::OpenStream { nonce, name: sender });
                OwnSend::Opening(opened)
            }
            Begin::Opening(opened) => OwnSend::Opening(opened),
            Begin::Full => OwnSend::Full,
        };
        drop(books);
        self.forward.notify_one();
        sent
    }

    /// Whether the pending commands leave room for more.
    pub fn has_room_apart(&self) -> bool {
        self.lock().batches.bytes() < self.pending_bytes_max
    }

    /// Requests under way of those that have no session.
    pub fn requests(&self) -> usize {
        self.lock().apart.requests
    }
}

impl Books {
    /// A send of this server's batch was judged: whoever has no session and waits for it is told.
    pub(super) fn sent_apart(&mut self, stream: StreamId, number: Number, result: &SendResult) {
        self.apart.sent(self.applying, stream, number, result);
        self.apart.streams.answered(stream, number);
        if result.is_err() {
            // One of its own would not be refused unless it is closed, or something is wrong with it.
            self.apart.streams.closed(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Id, Position};

    const AT: (StreamId, Number) = (Id(1), Number(1));

    fn accepted(position: u64) -> SendResult {
        Ok(SendOutcome::Accepted(Position(position)))
    }

    #[test]
    fn each_send_is_told_its_own_answer() {
        let mut apart = Apart::new(1);
        let mut first = apart.sending(AT.0, AT.1, 3);
        let mut other = apart.sending(AT.0, AT.1, 4);
        let mut again = apart.sending(AT.0, AT.1, 4);
        apart.sent(2, AT.0, AT.1, &accepted(9));
        assert!(first.try_recv().is_err(), "that was another copy's");
        apart.sent(3, AT.0, AT.1, &accepted(1));
        apart.sent(4, AT.0, AT.1, &Err(SendFailure::OtherContent));
        apart.sent(4, AT.0, AT.1, &accepted(1));
        assert_eq!(first.try_recv(), Ok(accepted(1)));
        assert_eq!(other.try_recv(), Ok(Err(SendFailure::OtherContent)));
        assert_eq!(again.try_recv(), Ok(accepted(1)));
        assert!(apart.sends.is_empty());
    }

    #[test]
    fn what_a_snapshot_hid_is_unknown_and_the_rest_is_still_told() {
        let mut apart = Apart::new(1);
        let mut hidden = apart.sending(AT.0, AT.1, 3);
        let mut still = apart.sending(AT.0, AT.1, 4);
        apart.installed(3, &PostOffice::new());
        assert!(matches!(hidden.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        apart.sent(4, AT.0, AT.1, &accepted(1));
        assert_eq!(still.try_recv(), Ok(accepted(1)));
        let mut given_up = apart.sending(AT.0, AT.1, 5);
        apart.give_up(Id(1));
        assert!(matches!(given_up.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    }

    #[test]
    fn nobody_is_remembered_who_waits_no_more() {
        let mut apart = Apart::new(1);
        let wakes = [apart.watch(Id(1)), apart.watch(Id(1))];
        assert!(Arc::ptr_eq(&wakes[0], &wakes[1]));
        apart.unwatch(Id(1));
        assert_eq!(apart.inboxes.len(), 1);
        apart.unwatch(Id(1));
        assert!(apart.inboxes.is_empty());
    }
}
