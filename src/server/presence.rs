//! What changed of who is there, for those who watch.
//!
//! Every server applies the same log, so each knows every change and the log index at which it was. The last ones are kept in
//! a journal. Whoever watches asks for what came behind an index, at any server, and is answered as soon as there is
//! something; one who asks for more than the journal holds is told to look at everybody.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::hub::SessionId;
use super::node::Node;
use crate::limits::{PRESENCE_EVENTS_MAX, PRESENCE_WAIT_MAX};
use crate::wire::client::{PresenceEvent, Reply};
use crate::wire::{Nonce, Refusal};
use crate::world::World;

/// Changes that one answer holds, about: those of one entry stay together.
const ANSWER_MAX: usize = 1000;

/// Questions of one session that wait at a time.
const WAITING_MAX: usize = 16;

/// The last changes.
#[derive(Debug, Default)]
pub(super) struct Journal {
    events: VecDeque<PresenceEvent>,
    /// Everything behind this index is in it; `None` before the first entry.
    begins: Option<u64>,
    /// The last entry that was applied.
    applied: u64,
}

/// What is told of the changes behind an index.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Where to go on from.
    pub up_to: u64,
    /// `None` if this server does not know.
    pub events: Option<Vec<PresenceEvent>>,
}

impl Journal {
    /// Something changed.
    pub fn note(&mut self, event: &PresenceEvent) {
        self.begins.get_or_insert(event.index.saturating_sub(1));
        self.events.push_back(event.clone());
        if self.events.len() > PRESENCE_EVENTS_MAX {
            self.begins = self.events.pop_front().map(|oldest| oldest.index);
        }
    }

    /// An entry was applied. Whether somebody may wait for what it brought.
    pub fn applied(&mut self, index: u64) -> bool {
        self.begins.get_or_insert(index);
        self.applied = index;
        self.events.back().is_some_and(|last| last.index == index)
    }

    /// The state is another one, and what led to it is not known.
    pub fn installed(&mut self, index: u64) {
        *self = Self { events: VecDeque::new(), begins: Some(index), applied: index };
    }

    /// What came behind an index; `None` if nothing did so far.
    fn behind(&self, since: Option<u64>) -> Option<Changed> {
        let up_to = self.applied;
        let Some(since) = since.filter(|since| self.begins.is_some_and(|begins| *since >= begins)) else {
            return Some(Changed { up_to, events: None });
        };
        let first = self.events.partition_point(|event| event.index <= since);
        let mut events: Vec<PresenceEvent> = Vec::new();
        // Those of an entry that is still being applied are told with the rest of it.
        for event in self.events.range(first..).take_while(|event| event.index <= up_to) {
            if events.len() >= ANSWER_MAX && events.last().is_some_and(|last| last.index != event.index) {
                let up_to = events.last().map_or(up_to, |last| last.index);
                return Some(Changed { up_to, events: Some(events) });
            }
            events.push(event.clone());
        }
        // Whoever comes from a server that is ahead goes on from where it was.
        (!events.is_empty()).then_some(Changed { up_to: up_to.max(since), events: Some(events) })
    }
}

/// What changed behind an index, as soon as something did; nothing if that takes longer than `wait`, or if clients are sent
/// elsewhere.
pub(super) async fn changed<W: World>(node: &Node<W>, since: Option<u64>, wait: Duration) -> Changed {
    let until = W::now() + wait.min(PRESENCE_WAIT_MAX);
    loop {
        // Before it looks, so that nothing that comes is missed.
        let changed = node.hub.presence.notified();
        let mut changed = std::pin::pin!(changed);
        changed.as_mut().enable();
        let left = until.saturating_duration_since(W::now());
        {
            let books = node.hub.lock();
            if let Some(changed) = books.journal.behind(since) {
                return changed;
            }
            if left.is_zero() || books.closed_for.is_some() {
                let up_to = books.journal.applied.max(since.unwrap_or(0));
                return Changed { up_to, events: Some(Vec::new()) };
            }
        }
        let _ = W::timeout(left, changed).await;
    }
}

/// Answers a session's question once there is something. Its other questions are not to wait for that.
pub(super) fn answer<W: World>(
    node: &Arc<Node<W>>,
    session: SessionId,
    waiting: &Arc<()>,
    nonce: Nonce,
    since: Option<u64>,
    wait: Duration,
) {
    if Arc::strong_count(waiting) > WAITING_MAX {
        let mut books = node.hub.lock();
        books.reply(session, &Reply::Refused { nonce: Some(nonce), refusal: Refusal::Busy });
        return books.wake();
    }
    let (node, place) = (node.clone(), waiting.clone());
    drop(W::spawn(async move {
        let Changed { up_to, events } = changed(&node, since, wait).await;
        drop(place);
        let mut books = node.hub.lock();
        books.reply(session, &Reply::Presence { nonce, up_to, events });
        books.wake();
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::client::{ClientRow, PresenceChange};
    use crate::wire::{Id, Name, Time};

    fn event(index: u64) -> PresenceEvent {
        let name = Name::new("a").expect("a name");
        let client = ClientRow {
            home: name.clone(),
            name,
            registration: Id(index),
            online: false,
            last_seen: Time(0),
            waiting: 0,
            waiting_bytes: 0,
            streams: 0,
        };
        PresenceEvent { index, change: PresenceChange::Registered, client }
    }

    fn indexes(journal: &Journal, since: u64) -> Option<(u64, Option<Vec<u64>>)> {
        let changed = journal.behind(Some(since))?;
        Some((changed.up_to, changed.events.map(|events| events.iter().map(|event| event.index).collect())))
    }

    #[test]
    fn what_came_behind_an_index_is_told_and_what_is_not_known_is_said() {
        let mut journal = Journal::default();
        assert_eq!(journal.behind(Some(0)), Some(Changed { up_to: 0, events: None }), "nothing is known yet");
        assert!(!journal.applied(7));
        journal.note(&event(8));
        assert!(journal.applied(8));
        assert!(!journal.applied(9));
        assert_eq!(indexes(&journal, 6), Some((9, None)), "entry 7 was the first");
        assert_eq!(indexes(&journal, 7), Some((9, Some(vec![8]))));
        assert_eq!(indexes(&journal, 8), None);
        assert_eq!(indexes(&journal, 12), None, "another server is ahead");
        journal.installed(20);
        assert_eq!(indexes(&journal, 19), Some((20, None)));
        assert_eq!(indexes(&journal, 20), None);
    }

    #[test]
    fn it_is_bounded_and_one_entry_stays_together() {
        let mut journal = Journal::default();
        for index in 1..=PRESENCE_EVENTS_MAX as u64 + 5 {
            journal.note(&event(index));
            journal.applied(index);
        }
        assert_eq!(journal.events.len(), PRESENCE_EVENTS_MAX);
        assert_eq!(indexes(&journal, 4).and_then(|(_, events)| events), None);
        let (up_to, events) = indexes(&journal, 5).expect("events");
        assert_eq!((up_to, events.map(|events| events.len())), (5 + ANSWER_MAX as u64, Some(ANSWER_MAX)));
        let mut journal = Journal::default();
        (0..2 * ANSWER_MAX).for_each(|_| journal.note(&event(3)));
        journal.note(&event(4));
        journal.applied(4);
        let (up_to, events) = indexes(&journal, 2).expect("events");
        assert_eq!((up_to, events.map(|events| events.len())), (3, Some(2 * ANSWER_MAX)));
    }

    #[test]
    fn an_entry_is_told_whole_once_it_is_applied() {
        let mut journal = Journal::default();
        assert!(!journal.applied(7));
        journal.note(&event(8));
        assert_eq!(indexes(&journal, 7), None, "entry 8 may bring more");
        journal.note(&event(8));
        assert!(journal.applied(8));
        assert_eq!(indexes(&journal, 7), Some((8, Some(vec![8, 8]))));
        journal.note(&event(9));
        assert_eq!(indexes(&journal, 7), Some((8, Some(vec![8, 8]))), "entry 9 waits until it is applied");
    }
}
