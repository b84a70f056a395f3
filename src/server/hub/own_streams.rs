//! The send streams that this server opens itself, one for each sender that sends by HTTP without a stream of its own.
//!
//! A number is given and its send pushed under one lock, so that numbers are on their way in their order. What was
//! answered is confirmed by the next send. There are at most so many streams: an idle one makes room for another.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::oneshot;

use crate::wire::{Name, Nonce, Number, Refusal, StreamId};

/// See the module.
#[derive(Debug)]
pub(in crate::server) struct OwnStreams {
    senders: BTreeMap<Name, OwnStream>,
    ids: BTreeMap<StreamId, Name>,
    most: usize,
    /// Counts uses, to tell which stream was used least recently.
    uses: u64,
}

#[derive(Debug)]
struct OwnStream {
    nonce: Nonce,
    used: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// It is being opened, and these wait for it.
    Opening(Vec<oneshot::Sender<Result<(), Refusal>>>),
    Open(Open),
}

#[derive(Debug)]
struct Open {
    stream: StreamId,
    /// The last number that was given.
    last: u64,
    /// All numbers up to here were answered, and these above it.
    answered: u64,
    above: BTreeSet<u64>,
}

/// What a sender gets.
#[derive(Debug)]
pub(in crate::server) enum Begin {
    /// A number, to be used at once.
    Number { stream: StreamId, number: Number, confirmed: Number },
    /// The stream has to be opened first, by this nonce, and another one closed to make room for it.
    Open { nonce: Nonce, instead_of: Option<StreamId>, opened: oneshot::Receiver<Result<(), Refusal>> },
    /// The stream is being opened.
    Opening(oneshot::Receiver<Result<(), Refusal>>),
    /// As many sends as may be, or as many streams, have no answer yet.
    Full,
}

impl OwnStreams {
    /// At most `most` of them.
    pub fn new(most: usize) -> Self {
        Self { senders: BTreeMap::new(), ids: BTreeMap::new(), most: most.max(1), uses: 0 }
    }

    /// The next number of a sender's stream, of whose numbers `window` may be without an answer. `nonce` is used if it
    /// has to be opened.
    pub fn begin(&mut self, sender: &Name, window: u64, nonce: Nonce) -> Begin {
        self.uses += 1;
        let uses = self.uses;
        if let Some(known) = self.senders.get_mut(sender) {
            known.used = uses;
            return match &mut known.state {
                State::Opening(waiting) => {
                    let (tell, opened) = oneshot::channel();
                    waiting.push(tell);
                    Begin::Opening(opened)
                }
                State::Open(open) if open.last - open.answered >= window => Begin::Full,
                State::Open(open) => {
                    open.last += 1;
                    Begin::Number { stream: open.stream, number: Number(open.last), confirmed: Number(open.answered) }
                }
            };
        }
        let instead_of = if self.senders.len() < self.most {
            None
        } else {
            match self.idlest() {
                Some(stream) => Some(stream),
                None => return Begin::Full,
            }
        };
        if let Some(stream) = instead_of {
            self.closed(stream);
        }
        let (tell, opened) = oneshot::channel();
        self.senders.insert(sender.clone(), OwnStream { nonce, used: uses, state: State::Opening(vec![tell]) });
        Begin::Open { nonce, instead_of, opened }
    }

    /// The stream that was used least recently, of those with nothing on the way.
    fn idlest(&self) -> Option<StreamId> {
        let idle = self.senders.values().filter_map(|known| match &known.state {
            State::Open(open) if open.last == open.answered => Some((known.used, open.stream)),
            _ => None,
        });
        idle.min().map(|(_, stream)| stream)
    }

    /// A sender's stream was opened, or not.
    pub fn opened(&mut self, sender: &Name, nonce: Nonce, result: Result<StreamId, Refusal>) {
        let Some(known) = self.senders.get_mut(sender).filter(|known| known.nonce == nonce) else { return };
        let State::Opening(waiting) = &mut known.state else { return };
        let waiting = std::mem::take(waiting);
        let told = match result {
            Ok(stream) => {
                known.state = State::Open(Open { stream, last: 0, answered: 0, above: BTreeSet::new() });
                self.ids.insert(stream, sender.clone());
                Ok(())
            }
            Err(refusal) => {
                self.senders.remove(sender);
                Err(refusal)
            }
        };
        for tell in waiting {
            // Whoever asked may have given up.
            let _ = tell.send(told.clone());
        }
    }

    /// A number was answered.
    pub fn answered(&mut self, stream: StreamId, number: Number) {
        let Some(open) = self.open(stream) else { return };
        if number.0 > open.answered {
            open.above.insert(number.0);
        }
        while open.above.remove(&(open.answered + 1)) {
            open.answered += 1;
        }
    }

    /// A stream is closed, or of no use any more. The next send opens another one.
    pub fn closed(&mut self, stream: StreamId) -> bool {
        let Some(sender) = self.ids.remove(&stream) else { return false };
        self.senders.remove(&sender);
        true
    }

    /// Those that are being opened, by which nonce.
    pub fn opening(&self) -> Vec<(Name, Nonce)> {
        let opening = self.senders.iter().filter(|(_, known)| matches!(known.state, State::Opening(_)));
        opening.map(|(name, known)| (name.clone(), known.nonce)).collect()
    }

    /// Streams with numbers that have no answer, and those numbers.
    pub fn unanswered(&self) -> Vec<(StreamId, Vec<Number>)> {
        let open = self.senders.values().filter_map(|known| match &known.state {
            State::Open(open) => Some(open),
            State::Opening(_) => None,
        });
        open.map(|open| {
            let numbers = (open.answered + 1..=open.last).filter(|number| !open.above.contains(number));
            (open.stream, numbers.map(Number).collect())
        })
        .collect()
    }

    fn open(&mut self, stream: StreamId) -> Option<&mut Open> {
        match &mut self.senders.get_mut(self.ids.get(&stream)?)?.state {
            State::Open(open) => Some(open),
            State::Opening(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Id;

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    fn number(begin: Begin) -> (u64, u64, u64) {
        match begin {
            Begin::Number { stream, number, confirmed } => (stream.0, number.0, confirmed.0),
            other => panic!("no number: {other:?}"),
        }
    }

    fn opened(streams: &mut OwnStreams, sender: &str, id: u64) {
        let begin = streams.begin(&name(sender), 2, u128::from(id));
        assert!(matches!(begin, Begin::Open { .. }), "{begin:?}");
        streams.opened(&name(sender), u128::from(id), Ok(Id(id)));
    }

    #[test]
    fn numbers_count_up_and_the_answered_ones_are_confirmed() {
        let mut streams = OwnStreams::new(4);
        opened(&mut streams, "a", 7);
        assert_eq!(number(streams.begin(&name("a"), 2, 0)), (7, 1, 0));
        assert_eq!(number(streams.begin(&name("a"), 2, 0)), (7, 2, 0));
        assert!(matches!(streams.begin(&name("a"), 2, 0), Begin::Full));
        streams.answered(Id(7), Number(2));
        assert!(matches!(streams.begin(&name("a"), 2, 0), Begin::Full), "the first one has no answer");
        assert_eq!(streams.unanswered(), [(Id(7), vec![Number(1)])]);
        streams.answered(Id(7), Number(1));
        streams.answered(Id(7), Number(1));
        assert_eq!(number(streams.begin(&name("a"), 2, 0)), (7, 3, 2));
    }

    #[test]
    fn those_that_wait_for_a_stream_are_told_of_it_or_why_not() {
        let mut streams = OwnStreams::new(4);
        let Begin::Open { nonce: 1, opened: mut first, .. } = streams.begin(&name("a"), 2, 1) else { panic!("opened") };
        let Begin::Opening(mut second) = streams.begin(&name("a"), 2, 2) else { panic!("it is on its way") };
        streams.opened(&name("a"), 9, Ok(Id(1)));
        assert_eq!(streams.opening(), [(name("a"), 1)], "that was the answer to another request");
        streams.opened(&name("a"), 1, Err(Refusal::NotRegistered));
        assert_eq!(first.try_recv(), Ok(Err(Refusal::NotRegistered)));
        assert_eq!(second.try_recv(), Ok(Err(Refusal::NotRegistered)));
        opened(&mut streams, "a", 3);
    }

    #[test]
    fn an_idle_stream_makes_room_and_a_busy_one_does_not() {
        let mut streams = OwnStreams::new(2);
        opened(&mut streams, "a", 1);
        opened(&mut streams, "b", 2);
        assert_eq!(number(streams.begin(&name("a"), 2, 0)), (1, 1, 0));
        let Begin::Open { instead_of, .. } = streams.begin(&name("c"), 2, 3) else { panic!("b makes room") };
        assert_eq!(instead_of, Some(Id(2)));
        assert!(matches!(streams.begin(&name("d"), 2, 4), Begin::Full), "one is busy and one being opened");
        streams.answered(Id(1), Number(1));
        let Begin::Open { instead_of, .. } = streams.begin(&name("d"), 2, 4) else { panic!("a makes room") };
        assert_eq!(instead_of, Some(Id(1)));
        streams.answered(Id(1), Number(1));
        assert!(!streams.closed(Id(1)), "it is none of these any more");
    }
}
