//! Idempotency keys: which streams hold them.
//!
//! A send with a key is number 1 of a stream whose nonce is made of sender and key. The stream is replicated, so a repeat
//! gets the first outcome from any server, and through failovers; it holds until the stream is closed, which the cluster
//! does once it was silent for long. Streams are few (a quota of each client's), so that keys may take half of a sender's,
//! shared among the servers alike: beyond, the oldest of those that came by this server makes room, once it has held for
//! [`limits::IDEMPOTENCY_WINDOW_MIN`].

use std::collections::{BTreeMap, VecDeque};

use crate::limits;
use crate::wire::{Name, Nonce, StreamId};
use crate::world::Instant;

/// What this server knows of keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    senders: BTreeMap<Name, VecDeque<Held>>,
    /// Over all senders.
    held: usize,
}

#[derive(Debug)]
struct Held {
    nonce: Nonce,
    stream: Option<StreamId>,
    since: Instant,
}

/// Whether a key may be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may; and these streams are to be closed for it.
    Yes {
        /// The oldest ones.
        close: Vec<StreamId>,
    },
    /// Too many are held, all of them too young to go.
    Full,
}

impl Keys {
    /// A key of that sender is to be used, of whose keys `most` may be held here. `idle` is how long a stream lives
    /// without being used.
    pub fn admit(
        &mut self,
        sender: &Name,
        nonce: Nonce,
        most: usize,
        idle: std::time::Duration,
        now: Instant,
    ) -> Admission {
        let age = |held: &Held| now.saturating_duration_since(held.since);
        let mut close = Vec::new();
        let keys = self.senders.entry(sender.clone()).or_default();
        let before = keys.len();
        // The cluster has closed those by itself.
        while keys.front().is_some_and(|held| age(held) > idle) {
            keys.pop_front();
        }
        self.held -= before - keys.len();
        if keys.iter().any(|held| held.nonce == nonce) {
            return Admission::Yes { close };
        }
        while keys.len() >= most.max(1) {
            match keys.pop_front_if(|held| age(held) >= limits::IDEMPOTENCY_WINDOW_MIN) {
                Some(held) => close.extend(held.stream),
                None => return Admission::Full,
            }
            self.held -= 1;
        }
        if self.held >= limits::IDEMPOTENCY_KEYS_MAX {
            self.senders.retain(|_, keys| {
                keys.retain(|held| age(held) <= idle);
                !keys.is_empty()
            });
            self.held = self.senders.values().map(VecDeque::len).sum();
            if self.held >= limits::IDEMPOTENCY_KEYS_MAX {
                return Admission::Full;
            }
        }
        self.held += 1;
        self.senders.entry(sender.clone()).or_default().push_back(Held { nonce, stream: None, since: now });
        Admission::Yes { close }
    }

    /// A key's stream is open.
    pub fn opened(&mut self, sender: &Name, nonce: Nonce, stream: StreamId) {
        let held = self.senders.get_mut(sender).and_then(|keys| keys.iter_mut().find(|held| held.nonce == nonce));
        if let Some(held) = held {
            held.stream = Some(stream);
        }
    }

    /// A key's stream could not be opened.
    pub fn failed(&mut self, sender: &Name, nonce: Nonce) {
        let Some(keys) = self.senders.get_mut(sender) else { return };
        let before = keys.len();
        keys.retain(|held| held.nonce != nonce || held.stream.is_some());
        self.held -= before - keys.len();
        if keys.is_empty() {
            self.senders.remove(sender);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::Id;
    use crate::world::{RealWorld, World as _};

    #[test]
    fn keys_have_a_share_and_the_oldest_makes_room_once_it_has_held_long_enough() {
        let begin = RealWorld::now();
        let (alice, hour) = (Name::new("alice").unwrap(), Duration::from_secs(3600));
        let mut keys = Keys::default();
        let admit =
            |keys: &mut Keys, nonce, seconds| keys.admit(&alice, nonce, 2, hour, begin + Duration::from_secs(seconds));
        let yes = |close: &[u64]| Admission::Yes { close: close.iter().map(|id| Id(*id)).collect() };
        assert_eq!(admit(&mut keys, 1, 0), yes(&[]));
        keys.opened(&alice, 1, Id(11));
        assert_eq!(admit(&mut keys, 1, 1), yes(&[]), "the same key again");
        assert_eq!(admit(&mut keys, 2, 2), yes(&[]));
        keys.opened(&alice, 2, Id(12));
        assert_eq!(admit(&mut keys, 3, 3), Admission::Full);
        assert_eq!(admit(&mut keys, 3, 301), yes(&[11]));
        keys.failed(&alice, 3);
        assert_eq!(admit(&mut keys, 4, 302), yes(&[]));
        assert_eq!(admit(&mut keys, 5, 303), yes(&[12]));
        assert_eq!(admit(&mut keys, 6, 10_000), yes(&[]), "the cluster has closed them all");
        assert_eq!(keys.held, 1);
    }
}
