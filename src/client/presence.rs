//! Presence: who is registered and online, and what changes of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{Client, ClientRow, Error};
use crate::wire::{Name, RegistrationId};
use crate::world::{Instant, RealWorld, World};

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

/// Watches who is there. Each look is as of its moment; what came and went between two looks is not told.
///
/// ```no_run
/// # use std::time::Duration;
/// # use restante::client::{Client, Error, PresenceChange};
/// # async fn example(client: Client) -> Result<(), Error> {
/// let mut presence = client.presence(Duration::from_millis(500));
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
    every: Duration,
    next_look: Option<Instant>,
    known: BTreeMap<RegistrationId, ClientRow>,
    changes: VecDeque<Change>,
}

impl<W: World> Client<W> {
    /// Watches who is there, with a look every so often.
    pub fn presence(&self, every: Duration) -> Presence<W> {
        let (known, changes) = (BTreeMap::new(), VecDeque::new());
        Presence { client: self.clone(), every, next_look: None, known, changes }
    }
}

impl<W: World> Presence<W> {
    /// The next change.
    ///
    /// # Errors
    /// No answer in time: it may be asked again, and goes on from what was known.
    pub async fn next(&mut self) -> Result<Change, Error> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Ok(change);
            }
            if let Some(at) = self.next_look {
                W::sleep_until(at).await;
            }
            let rows = self.client.who().await?;
            self.next_look = Some(W::now() + self.every);
            self.changes = changes(&mut self.known, rows);
        }
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
            [Change::Online(here), Change::Moved { row: moved.clone(), from }, Change::Offline(moved.clone())]
        );
        let anew = row("bob", 3, "b", false);
        let told = changes(&mut known, vec![anew.clone()]);
        assert_eq!(told.len(), 3);
        assert_eq!(told[2], Change::Registered(anew));
        assert_eq!(told[1], Change::Deregistered(moved));
    }
}
