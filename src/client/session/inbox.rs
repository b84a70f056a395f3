//! One inbox that is read: what was delivered, what the application has, what it acknowledged.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;

use super::Token;
use super::ranges::Ranges;
use crate::client::{Delivery, Error};
use crate::limits;
use crate::wire::command::Command;
use crate::wire::{Epoch, Name, Position, RegistrationId};

/// Where a reader is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A request to attach waits, for the first time or again after the connection died.
    Attaching,
    /// It reads, at its epoch.
    Attached,
    /// A request to detach waits.
    Detaching,
    /// It reads no more.
    Ended,
}

/// Acknowledgements whose durability somebody waits for.
#[derive(Debug)]
pub(super) struct Flush {
    pub(super) token: Token,
    pub(super) up_to: u64,
    pub(super) deadline: Duration,
}

/// See the module. Positions: `floor <= sent <= acknowledged <= handed <= delivered`.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) name: Name,
    pub(super) window: u32,
    pub(super) state: State,
    /// Known once it was attached for the first time.
    pub(super) registration: Option<RegistrationId>,
    /// The epoch it has, or at first the one it expects to follow.
    pub(super) epoch: Epoch,
    /// Attempts to attach that found another epoch.
    pub(super) attempts: u32,
    /// It is attached on this very connection.
    pub(super) live: bool,
    /// What the application has not taken yet: never more than the window, since the server waits for room.
    pub(super) queue: VecDeque<Delivery>,
    /// The last position that was delivered: what comes at or below it is a repeat.
    pub(super) delivered: u64,
    /// The last position that the application took.
    pub(super) handed: u64,
    /// The application acknowledged everything up to here, and `ranges` above.
    pub(super) acknowledged: u64,
    pub(super) ranges: Ranges,
    /// What of it was sent on this connection: everything up to here, and `ranges` without `unsent`.
    pub(super) sent: u64,
    pub(super) unsent: Ranges,
    /// What of it is durable.
    pub(super) floor: u64,
    /// Since when an acknowledgement is held back for others to join it.
    pub(super) held_since: Option<Duration>,
    /// It is in the queue of inboxes with something to send.
    pub(super) ready: bool,
    pub(super) flushes: Vec<Flush>,
    /// The server is to be told that somebody waits.
    pub(super) hurry: bool,
    /// Why it ended, until the application was told.
    pub(super) error: Option<Error>,
    /// The application wants it detached; the token is that of whoever waits for it.
    pub(super) closing: Option<Option<Token>>,
}

/// The longest that an acknowledgement waits for the one before to be durable, so that others join it.
pub(super) const HOLD: Duration = Duration::from_millis(50);

impl Inbox {
    pub(super) fn new(name: Name, window: u32) -> Self {
        Self {
            name,
            window,
            state: State::Attaching,
            registration: None,
            epoch: Epoch(0),
            attempts: 0,
            live: false,
            queue: VecDeque::new(),
            delivered: 0,
            handed: 0,
            acknowledged: 0,
            ranges: Ranges::default(),
            sent: 0,
            unsent: Ranges::default(),
            floor: 0,
            held_since: None,
            ready: false,
            flushes: Vec::new(),
            hurry: false,
            error: None,
            closing: None,
        }
    }

    /// It reads on this connection now.
    pub(super) fn attach(&mut self, registration: RegistrationId, epoch: Epoch, acknowledged: u64) {
        self.registration = Some(registration);
        self.epoch = epoch;
        self.state = State::Attached;
        self.live = true;
        self.attempts = 0;
        self.rise(acknowledged);
        self.delivered = self.delivered.max(acknowledged);
        self.handed = self.handed.max(acknowledged);
    }

    /// Everything up to `floor` is durable.
    pub(super) fn rise(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        self.acknowledge_up_to(self.floor);
        self.sent = self.sent.max(self.floor);
    }

    /// The application acknowledges everything up to `position`.
    pub(super) fn acknowledge_up_to(&mut self, position: u64) {
        self.acknowledged = self.acknowledged.max(position);
        self.ranges.remove_up_to(self.acknowledged);
        self.join();
    }

    /// The application acknowledges one position.
    pub(super) fn acknowledge_one(&mut self, position: u64) {
        if position > self.acknowledged {
            self.ranges.insert(position, position);
            self.unsent.insert(position, position);
            self.join();
        }
    }

    /// A range that begins where the cumulative acknowledgement ends becomes part of it.
    fn join(&mut self) {
        while let Some(end) = self.ranges.take_at(self.acknowledged + 1) {
            self.acknowledged = end;
        }
        self.unsent.remove_up_to(self.acknowledged);
    }

    /// Whether it has acknowledgements that were not sent on this connection.
    pub(super) fn is_behind(&self) -> bool {
        self.live && (self.acknowledged > self.sent || !self.unsent.is_empty())
    }

    /// Whether the next acknowledgement waits. While one is on its way it does, so that others join it and the log is
    /// spared; but not if that could starve the reader, nor if somebody waits for it.
    pub(super) fn may_wait(&self, now: Duration) -> bool {
        let urgent = !self.flushes.is_empty() || self.closing.is_some();
        let waited = self.held_since.is_some_and(|since| since + HOLD <= now);
        let on_its_way = self.sent > self.floor;
        let many = self.acknowledged - self.sent >= u64::from(self.window / 4).max(1);
        on_its_way && !(urgent || waited || many)
    }

    /// Appends the acknowledgements that were not sent yet.
    pub(super) fn transmit(&mut self, out: &mut BytesMut) {
        let Some(registration) = self.registration else { return };
        loop {
            let ranges = self.unsent.take(limits::ACKNOWLEDGE_RANGES_MAX);
            Command::Acknowledge {
                registration,
                epoch: self.epoch,
                up_to: Position(self.acknowledged),
                ranges: ranges.into_iter().map(|(low, high)| (Position(low), Position(high))).collect(),
            }
            .put(out, &[]);
            if self.unsent.is_empty() {
                break;
            }
        }
        self.sent = self.acknowledged;
        self.held_since = None;
    }

    /// The connection is gone: what was sent on it and is not durable may be lost.
    pub(super) fn unlink(&mut self) {
        self.live = false;
        self.sent = self.floor;
        self.unsent = self.ranges.clone();
        self.hurry = !self.flushes.is_empty();
    }

    /// It reads no more, for this reason.
    pub(super) fn end(&mut self, error: Option<Error>) {
        self.state = State::Ended;
        self.live = false;
        self.error = error;
        // Whoever reads now gets these: they are not ours to hand out any more.
        self.queue.clear();
        self.ranges.clear();
        self.unsent.clear();
    }
}
