//! Presence: who is registered and online, and what changes of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::api::unexpected;
use super::session::{Answer, Look};
use super::{Client, ClientRow, Error};
use crate::wire::client::{self as wire, PresenceEvent};
use crate::wire::{Name, RegistrationId};
use crate::world::{RealWorld, World};

/// Something that changed of who is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The client is registered; at first that is told of everybody who is.
    Registered(ClientRow),
    /// It came online, at its home.
    Online(ClientRow),
    /// It went offline.
    Offline(ClientRow),
    /// Its home is another server now.
    Moved {
        /// The client as it is now.
        row: ClientRow,
        /// Its home before.
        from: Name,
    },
    /// Its registration has ended.
    Deregistered(ClientRow),
}

/// Watches who is there.
///
/// The cluster tells what changes as it is applied, so that also what comes and goes at once is told. A server remembers the
/// last few thousand changes; if more were missed than that, e.g. since the client could reach nobody for long, it looks at all
/// clients and tells the difference.
///
/// ```no_run
/// # use restante::client::{Client, Error, PresenceChange};
/// # async fn example(client: Client) -> Result<(), Error> {
/// let mut presence = client.presence();
/// loop {
///     if let PresenceChange::Online(row) = presence.next().await? {
///         println!("{} is at {}", row.name, row.home);
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Presence<W: World = RealWorld> {
    client: Client<W>,
    /// Everything up to this log index is known; `None` if all have to be looked at.
    since: Option<u64>,
    known: BTreeMap<RegistrationId, ClientRow>,
    changes: VecDeque<Change>,
}

impl<W: World> Client<W> {
    /// Watches who is there: first everybody who is, then what changes.
    pub fn presence(&self) -> Presence<W> {
        Presence { client: self.clone(), since: None, known: BTreeMap::new(), changes: VecDeque::new() }
    }
}

impl<W: World> Presence<W> {
    /// The next change. It may be dropped while it waits, and asked again.
    ///
    /// # Errors
    /// No answer in time: it may be asked again, and goes on from what was known.
    pub async fn next(&mut self) -> Result<Change, Error> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Ok(change);
            }
            // An answer has to come before the request's patience is over.
            let wait = if self.since.is_some() { self.client.timeout() / 2 } else { Duration::ZERO };
            let look = Look::Presence { since: self.since, wait };
            let answer = self.client.ask(|session, now, token| session.look(now, look, token)).await?;
            let Answer::Presence { up_to, events } = answer else { return unexpected(&answer) };
            match events {
                Some(events) => {
                    events.into_iter().for_each(|event| follow(&mut self.known, event, &mut self.changes));
                }
                // What changes from here on and is seen by the look already changes nothing when it is told.
                None => self.changes = changes(&mut self.known, self.client.who().await?),
            }
            self.since = Some(up_to);
        }
    }
}

/// What an event means to somebody who knows that much.
fn follow(known: &mut BTreeMap<RegistrationId, ClientRow>, event: PresenceEvent, told: &mut VecDeque<Change>) {
    let PresenceEvent { change, client: row, .. } = event;
    if change == wire::PresenceChange::Deregistered {
        told.extend(known.remove(&row.registration).map(|_| Change::Deregistered(row)));
        return;
    }
    let Some(before) = known.insert(row.registration, row.clone()) else {
        told.push_back(Change::Registered(row.clone()));
        if row.online {
            told.push_back(Change::Online(row));
        }
        return;
    };
    if before.online && !row.online {
        told.push_back(Change::Offline(row.clone()));
    }
    if before.home != row.home {
        told.push_back(Change::Moved { row: row.clone(), from: before.home });
    }
    if !before.online && row.online {
        told.push_back(Change::Online(row));
    }
}

fn changes(known: &mut BTreeMap<RegistrationId, ClientRow>, rows: Vec<ClientRow>) -> VecDeque<Change> {
    let mut changes = VecDeque::new();
    let mut before = std::mem::take(known);
    for row in rows {
        match before.remove(&row.registration) {
            None => {
                changes.push_back(Change::Registered(row.clone()));
                if row.online {
                    changes.push_back(Change::Online(row.clone()));
                }
            }
            Some(was) => {
                if was.home != row.home {
                    changes.push_back(Change::Moved { row: row.clone(), from: was.home });
                }
                match (was.online, row.online) {
                    (false, true) => changes.push_back(Change::Online(row.clone())),
                    (true, false) => changes.push_back(Change::Offline(row.clone())),
                    _ => {}
                }
            }
        }
        known.insert(row.registration, row);
    }
    // A name that is registered anew has ended first.
    before.into_values().rev().for_each(|row| changes.push_front(Change::Deregistered(row)));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Id, Time};

    fn row(name: &str, registration: u64, home: &str, online: bool) -> ClientRow {
        ClientRow {
            name: Name::new(name).expect("a name"),
            registration: Id(registration),
            home: Name::new(home).expect("a name"),
            online,
            last_seen: Time(0),
            waiting: 0,
            waiting_bytes: 0,
            streams: 0,
        }
    }

    #[test]
    fn changes_are_told_once_and_an_end_before_a_new_beginning() {
        let mut known = BTreeMap::new();
        let (alice, bob) = (row("alice", 1, "a", false), row("bob", 2, "a", true));
        let told = changes(&mut known, vec![alice.clone(), bob.clone()]);
        assert_eq!(
            told,
            [Change::Registered(alice.clone()), Change::Registered(bob.clone()), Change::Online(bob.clone())]
        );
        assert!(changes(&mut known, vec![alice.clone(), bob.clone()]).is_empty());
        let (here, moved) = (row("alice", 1, "a", true), row("bob", 2, "b", false));
        let told = changes(&mut known, vec![here.clone(), moved.clone()]);
        let from = Name::new("a").expect("a name");
        assert_eq!(
            told,
            [Change::Online(here.clone()), Change::Moved { row: moved.clone(), from }, Change::Offline(moved.clone())]
        );
        let event = |change, client: &ClientRow| PresenceEvent { index: 1, change, client: client.clone() };
        let mut told = VecDeque::new();
        // What the look has seen already is no news, what came and went is.
        follow(&mut known, event(wire::PresenceChange::Online, &here), &mut told);
        assert!(told.is_empty());
        let carol = row("carol", 9, "a", false);
        follow(&mut known, event(wire::PresenceChange::Registered, &carol), &mut told);
        follow(&mut known, event(wire::PresenceChange::Deregistered, &carol), &mut told);
        follow(&mut known, event(wire::PresenceChange::Deregistered, &row("dave", 8, "a", false)), &mut told);
        assert_eq!(told, [Change::Registered(carol.clone()), Change::Deregistered(carol)]);
        told.clear();
        follow(&mut known, event(wire::PresenceChange::Offline, &alice), &mut told);
        follow(&mut known, event(wire::PresenceChange::Online, &here), &mut told);
        assert_eq!(told, [Change::Offline(alice.clone()), Change::Online(here.clone())]);
        let anew = row("bob", 3, "b", false);
        let told = changes(&mut known, vec![anew.clone()]);
        assert_eq!(told.len(), 3);
        assert_eq!(told[2], Change::Registered(anew));
        assert_eq!(told[1], Change::Deregistered(moved));
    }
}
