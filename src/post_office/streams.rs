//! Send streams: numbers, each used once, and what became of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use slab::Slab;

use crate::limits;
use crate::wire::client::SendFailure;
use crate::wire::sharing::{Fate, Unreached};
use crate::wire::{MessageId, Nonce, Number, Position, RegistrationId, SendOutcome, SendRefusal, StreamId, Time};

/// What became of a number, in 16 bytes: a stream keeps thousands of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outcome {
    digest: u64,
    /// The position; the two ends of the range, which no message has, stand for the refusals of a plain send. Whatever else
    /// there is has a tag in its highest byte, which no position reaches.
    place: u64,
}

const NO_SUCH_CLIENT: u64 = 0;
const INBOX_FULL: u64 = u64::MAX;
const TAG: u32 = 56;
/// Behind it, 28 bits each of how many inboxes it reached, and how many were full.
const REACHED: u64 = 0x80;
/// Which of them is kept beside.
const RECIPIENTS: u64 = 0x81;
const NO_SUCH_CHANNEL: u64 = 0x82;
/// Behind it, how many inboxes it would have gone to.
const TOO_MANY: u64 = 0x83;
const NO_ROOM: u64 = 0x84;
/// Behind it, when it comes into the inboxes.
const SCHEDULED: u64 = 0x85;
const TOO_MANY_SCHEDULED: u64 = 0x86;
/// What a number behind a tag has at most.
const HALF: u64 = (1 << 28) - 1;

/// A delivered receipt that the stream's client has yet to collect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Concluded {
    pub message: MessageId,
    pub number: Number,
    pub fate: Fate,
}

impl Outcome {
    fn new(digest: u64, outcome: SendOutcome) -> Self {
        let place = match outcome {
            SendOutcome::Accepted(position) => position.0,
            SendOutcome::Refused(SendRefusal::NoSuchClient) => NO_SUCH_CLIENT,
            SendOutcome::Refused(SendRefusal::InboxFull) => INBOX_FULL,
            SendOutcome::Reached { inboxes, full } => {
                REACHED << TAG | u64::from(inboxes).min(HALF) << 28 | u64::from(full).min(HALF)
            }
            SendOutcome::Refused(SendRefusal::Recipients(_)) => RECIPIENTS << TAG,
            SendOutcome::Refused(SendRefusal::NoSuchChannel) => NO_SUCH_CHANNEL << TAG,
            SendOutcome::Refused(SendRefusal::TooManyInboxes { inboxes, .. }) => TOO_MANY << TAG | u64::from(inboxes),
            SendOutcome::Refused(SendRefusal::NoRoomForReceipt) => NO_ROOM << TAG,
            SendOutcome::Scheduled(due) => SCHEDULED << TAG | due.0,
            SendOutcome::Refused(SendRefusal::TooManyScheduled { .. }) => TOO_MANY_SCHEDULED << TAG,
        };
        Self { digest, place }
    }

    /// `unreached` is what is kept beside it.
    fn outcome(self, unreached: impl FnOnce() -> Unreached) -> SendOutcome {
        let refused = SendOutcome::Refused;
        match (self.place, self.place >> TAG) {
            (NO_SUCH_CLIENT, _) => refused(SendRefusal::NoSuchClient),
            (_, 0..REACHED) => SendOutcome::Accepted(Position(self.place)),
            (place, REACHED) => {
                SendOutcome::Reached { inboxes: (place >> 28 & HALF) as u32, full: (place & HALF) as u32 }
            }
            (_, RECIPIENTS) => refused(SendRefusal::Recipients(unreached())),
            (_, NO_SUCH_CHANNEL) => refused(SendRefusal::NoSuchChannel),
            (place, TOO_MANY) => {
                refused(SendRefusal::TooManyInboxes { inboxes: place as u32, limit: limits::FANOUT_MAX as u32 })
            }
            (_, NO_ROOM) => refused(SendRefusal::NoRoomForReceipt),
            (place, SCHEDULED) => SendOutcome::Scheduled(Time(place & ((1 << TAG) - 1))),
            (_, TOO_MANY_SCHEDULED) => refused(SendRefusal::TooManyScheduled { limit: limits::SCHEDULED_MAX }),
            _ => refused(SendRefusal::InboxFull),
        }
    }
}

/// One open stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub id: StreamId,
    /// Key of the client it belongs to.
    pub owner: u32,
    pub registration: RegistrationId,
    pub nonce: Nonce,
    pub confirmed: u64,
    /// Outcomes of the numbers above `confirmed`.
    pub outcomes: VecDeque<Outcome>,
    /// Whom sends to several recipients did not reach, of the numbers above `confirmed` that were refused for it.
    pub unreached: BTreeMap<u64, Unreached>,
    /// The client has collected so many delivered receipts.
    pub collected: u64,
    /// Those that it has not, in the order in which they came.
    pub receipts: VecDeque<Concluded>,
    /// When it was last used.
    pub used: Time,
    /// `used` as it was when its place in the due order was last made.
    pub checked: Time,
    pub dirty: bool,
}

/// What is to be done with a numbered send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It is the next one: carry it out.
    Next,
    /// It is answered already, or cannot be taken.
    Answered(Result<SendOutcome, SendFailure>),
}

impl Stream {
    /// A stream that was just opened.
    pub fn new(id: StreamId, owner: u32, registration: RegistrationId, nonce: Nonce, time: Time) -> Self {
        Self {
            id,
            owner,
            registration,
            nonce,
            confirmed: 0,
            outcomes: VecDeque::new(),
            unreached: BTreeMap::new(),
            collected: 0,
            receipts: VecDeque::new(),
            used: time,
            checked: time,
            dirty: false,
        }
    }

    /// The last number that was used.
    pub fn last(&self) -> u64 {
        self.confirmed + self.outcomes.len() as u64
    }

    /// The client has the receipts up to `confirmed`: forgets their outcomes. A mark that is lower than the one it has,
    /// or above the last number, is not believed.
    pub fn confirm(&mut self, confirmed: Number) {
        let forget = confirmed.0.min(self.last()).saturating_sub(self.confirmed);
        if forget == 0 {
            return;
        }
        self.outcomes.drain(..forget as usize);
        self.confirmed += forget;
        if !self.unreached.is_empty() {
            self.unreached = self.unreached.split_off(&(self.confirmed + 1));
        }
        if self.outcomes.capacity() > 256 && self.outcomes.len() < self.outcomes.capacity() / 8 {
            self.outcomes.shrink_to(self.outcomes.len() * 2);
        }
    }

    /// Judges the send with this number and content.
    pub fn judge(&self, number: Number, digest: u64, window: u32) -> Judgement {
        let last = self.last();
        let failure = if number.0 > last + 1 {
            SendFailure::Gap { expected: Number(last + 1) }
        } else if number.0 == last + 1 {
            if (self.outcomes.len() as u64) < u64::from(window) {
                return Judgement::Next;
            }
            SendFailure::WindowFull { window }
        } else {
            match self.known(number) {
                None => SendFailure::AlreadyAnswered,
                Some(known) if known.digest == digest => {
                    return Judgement::Answered(Ok(known.outcome(|| self.unreached(number))));
                }
                Some(_) => SendFailure::OtherContent,
            }
        };
        Judgement::Answered(Err(failure))
    }

    /// The next number was used, with this outcome.
    pub fn push(&mut self, digest: u64, outcome: SendOutcome) {
        self.outcomes.push_back(Outcome::new(digest, outcome));
        if let SendOutcome::Refused(SendRefusal::Recipients(unreached)) = outcome {
            self.unreached.insert(self.last(), unreached);
        }
    }

    /// The outcome of a number, while it is kept.
    pub fn outcome(&self, number: Number) -> Option<SendOutcome> {
        self.known(number).map(|known| known.outcome(|| self.unreached(number)))
    }

    fn unreached(&self, number: Number) -> Unreached {
        self.unreached.get(&number.0).copied().unwrap_or_default()
    }

    fn known(&self, number: Number) -> Option<Outcome> {
        let place = number.0.checked_sub(self.confirmed + 1)?;
        self.outcomes.get(usize::try_from(place).ok()?).copied()
    }
}

/// All open streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    streams: Slab<Stream>,
    by_id: FxHashMap<StreamId, u32>,
    /// Every stream under its `checked` time. A send moves nothing here; a stream that turns out to have been used
    /// since is put at its right place when its turn comes.
    due: BTreeSet<(Time, StreamId)>,
}

impl Streams {
    pub fn len(&self) -> u64 {
        self.streams.len() as u64
    }

    pub fn key(&self, id: StreamId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    pub fn get(&self, key: u32) -> &Stream {
        &self.streams[key as usize]
    }

    pub fn get_mut(&mut self, key: u32) -> &mut Stream {
        &mut self.streams[key as usize]
    }

    /// The stream at `key`, if there is one; for keys that were noted down and may have gone.
    pub fn try_get_mut(&mut self, key: u32) -> Option<&mut Stream> {
        self.streams.get_mut(key as usize)
    }

    pub fn find(&self, id: StreamId) -> Option<&Stream> {
        self.key(id).map(|key| self.get(key))
    }

    /// The first stream whose key is `place` or above, and its key.
    pub fn at_or_after(&self, place: usize) -> Option<(usize, &Stream)> {
        (place..self.streams.capacity()).find_map(|key| Some((key, self.streams.get(key)?)))
    }

    pub fn insert(&mut self, stream: Stream) -> u32 {
        let (id, checked) = (stream.id, stream.checked);
        let key = self.streams.insert(stream) as u32;
        let known = self.by_id.insert(id, key);
        assert!(known.is_none(), "ids are never used again");
        self.due.insert((checked, id));
        key
    }

    pub fn remove(&mut self, key: u32) -> Stream {
        let stream = self.streams.remove(key as usize);
        self.by_id.remove(&stream.id);
        self.due.remove(&(stream.checked, stream.id));
        stream
    }

    /// The earliest time at which a stream may have to be closed.
    pub fn next_due(&self, idle_ms: u64) -> Option<Time> {
        self.due.first().map(|(checked, _)| Time(checked.0.saturating_add(idle_ms)))
    }

    /// Takes the stream that has come first in the due order, if its time has come by `now`, and puts it at its right
    /// place. Its key, and whether it is to be closed.
    pub fn check_next(&mut self, now: Time, idle_ms: u64) -> Option<(u32, bool)> {
        let (checked, id) = *self.due.first()?;
        if checked.0.saturating_add(idle_ms) > now.0 {
            return None;
        }
        let key = self.by_id[&id];
        let stream = &mut self.streams[key as usize];
        if stream.used.0.saturating_add(idle_ms) <= now.0 {
            return Some((key, true));
        }
        self.due.remove(&(checked, id));
        stream.checked = stream.used;
        self.due.insert((stream.checked, id));
        Some((key, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Id;

    fn accepted(position: u64) -> SendOutcome {
        SendOutcome::Accepted(Position(position))
    }

    fn stream(numbers: u64) -> Stream {
        let mut stream = Stream::new(Id(1), 0, Id(2), 3, Time(0));
        for number in 1..=numbers {
            stream.push(number * 100, accepted(number));
        }
        stream
    }

    fn failure(stream: &Stream, number: u64, digest: u64) -> Option<SendFailure> {
        match stream.judge(Number(number), digest, 4) {
            Judgement::Answered(Err(failure)) => Some(failure),
            _ => None,
        }
    }

    #[test]
    fn the_next_number_is_taken_and_no_other() {
        let stream = stream(2);
        assert_eq!(stream.judge(Number(3), 1, 4), Judgement::Next);
        assert_eq!(failure(&stream, 4, 1), Some(SendFailure::Gap { expected: Number(3) }));
        assert_eq!(failure(&stream, u64::MAX, 1), Some(SendFailure::Gap { expected: Number(3) }));
    }

    #[test]
    fn an_older_number_has_its_first_outcome_or_is_another_message() {
        let mut stream = stream(1);
        stream.push(7, SendOutcome::Refused(SendRefusal::NoSuchClient));
        stream.push(8, SendOutcome::Refused(SendRefusal::InboxFull));
        assert_eq!(stream.judge(Number(1), 100, 4), Judgement::Answered(Ok(accepted(1))));
        assert_eq!(failure(&stream, 1, 101), Some(SendFailure::OtherContent));
        assert_eq!(stream.outcome(Number(2)), Some(SendOutcome::Refused(SendRefusal::NoSuchClient)));
        assert_eq!(stream.outcome(Number(3)), Some(SendOutcome::Refused(SendRefusal::InboxFull)));
        assert_eq!(stream.outcome(Number(4)), None);
    }

    #[test]
    fn whatever_became_of_a_number_is_told_again() {
        let unreached = Unreached { unknown: 1 << 63 | 1, full: 2 };
        let limit = limits::FANOUT_MAX as u32;
        let outcomes = [
            accepted((1 << TAG) - 1),
            SendOutcome::Reached { inboxes: 0, full: 0 },
            SendOutcome::Reached { inboxes: HALF as u32, full: 7 },
            SendOutcome::Refused(SendRefusal::Recipients(unreached)),
            SendOutcome::Refused(SendRefusal::NoSuchChannel),
            SendOutcome::Refused(SendRefusal::TooManyInboxes { inboxes: u32::MAX, limit }),
            SendOutcome::Refused(SendRefusal::NoRoomForReceipt),
            SendOutcome::Refused(SendRefusal::InboxFull),
            SendOutcome::Refused(SendRefusal::NoSuchClient),
        ];
        let mut stream = stream(0);
        outcomes.iter().for_each(|outcome| stream.push(5, *outcome));
        for (number, outcome) in (1..).zip(outcomes) {
            assert_eq!(stream.outcome(Number(number)), Some(outcome));
            assert_eq!(stream.judge(Number(number), 5, 4), Judgement::Answered(Ok(outcome)));
        }
        stream.confirm(Number(4));
        assert!(stream.unreached.is_empty(), "what was confirmed is forgotten with all that was kept beside it");
    }

    #[test]
    fn confirmed_numbers_are_answered_for_good() {
        let mut stream = stream(3);
        stream.confirm(Number(2));
        assert_eq!(failure(&stream, 2, 200), Some(SendFailure::AlreadyAnswered));
        assert_eq!(failure(&stream, 0, 0), Some(SendFailure::AlreadyAnswered));
        assert_eq!(stream.judge(Number(3), 300, 4), Judgement::Answered(Ok(accepted(3))));
        stream.confirm(Number(1));
        assert_eq!((stream.confirmed, stream.last()), (2, 3), "it never goes back");
        stream.confirm(Number(u64::MAX));
        assert_eq!((stream.confirmed, stream.last()), (3, 3), "nor beyond the last number");
    }

    #[test]
    fn a_full_window_takes_nothing_until_something_is_confirmed() {
        let mut stream = stream(4);
        assert_eq!(failure(&stream, 5, 1), Some(SendFailure::WindowFull { window: 4 }));
        stream.confirm(Number(1));
        assert_eq!(stream.judge(Number(5), 1, 4), Judgement::Next);
    }

    #[test]
    fn the_due_order_is_made_right_when_a_turn_comes() {
        let mut streams = Streams::default();
        let a = streams.insert(Stream::new(Id(1), 0, Id(9), 0, Time(0)));
        let b = streams.insert(Stream::new(Id(2), 0, Id(9), 0, Time(5)));
        streams.get_mut(a).used = Time(50);
        assert_eq!(streams.next_due(100), Some(Time(100)));
        assert_eq!(streams.check_next(Time(99), 100), None);
        assert_eq!(streams.check_next(Time(100), 100), Some((a, false)));
        assert_eq!(streams.next_due(100), Some(Time(105)));
        assert_eq!(streams.check_next(Time(105), 100), Some((b, true)));
        streams.remove(b);
        assert_eq!(streams.next_due(100), Some(Time(150)));
        streams.remove(a);
        assert_eq!(streams.next_due(100), None);
    }
}
