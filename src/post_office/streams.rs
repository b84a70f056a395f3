//! Send streams: numbers, each used once, and what became of them.

use std::collections::{BTreeSet, VecDeque};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use slab::Slab;

use crate::wire::client::SendFailure;
use crate::wire::{Nonce, Number, Position, RegistrationId, SendOutcome, SendRefusal, StreamId, Time};

/// What became of a number, in 16 bytes: a stream keeps thousands of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outcome {
    digest: u64,
    /// The position; the two ends of the range, which no message has, stand for the refusals.
    place: u64,
}

const NO_SUCH_CLIENT: u64 = 0;
const INBOX_FULL: u64 = u64::MAX;

impl Outcome {
    fn new(digest: u64, outcome: SendOutcome) -> Self {
        let place = match outcome {
            SendOutcome::Accepted(position) => position.0,
            SendOutcome::Refused(SendRefusal::NoSuchClient) => NO_SUCH_CLIENT,
            SendOutcome::Refused(SendRefusal::InboxFull) => INBOX_FULL,
        };
        Self { digest, place }
    }

    fn outcome(self) -> SendOutcome {
        match self.place {
            NO_SUCH_CLIENT => SendOutcome::Refused(SendRefusal::NoSuchClient),
            INBOX_FULL => SendOutcome::Refused(SendRefusal::InboxFull),
            position => SendOutcome::Accepted(Position(position)),
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
        let outcomes = VecDeque::new();
        Self { id, owner, registration, nonce, confirmed: 0, outcomes, used: time, checked: time, dirty: false }
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
                Some(known) if known.digest == digest => return Judgement::Answered(Ok(known.outcome())),
                Some(_) => SendFailure::OtherContent,
            }
        };
        Judgement::Answered(Err(failure))
    }

    /// The next number was used, with this outcome.
    pub fn push(&mut self, digest: u64, outcome: SendOutcome) {
        self.outcomes.push_back(Outcome::new(digest, outcome));
    }

    /// The outcome of a number, while it is kept.
    pub fn outcome(&self, number: Number) -> Option<SendOutcome> {
        self.known(number).map(Outcome::outcome)
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
