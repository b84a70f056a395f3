//! Who is registered: clients by name and by registration.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use rustc_hash::FxHashMap;
use slab::Slab;

use super::channels::Enlisted;
use super::inbox::Inbox;
use super::kept::KeptMessage;
use crate::wire::{Name, Nonce, RegistrationId, Time};

/// A registered client.
#[derive(Debug)]
pub(super) struct Client {
    pub id: RegistrationId,
    pub name: Name,
    /// Of the request that registered it.
    pub nonce: Nonce,
    /// The server it is, or was last, attached to, or was registered or moved to. [`Registry::set_home`] changes it.
    pub home: Name,
    /// When it last attached, detached, sent or acknowledged.
    pub last_seen: Time,
    /// Keys of its open streams, by the nonce that opened each.
    pub streams: BTreeMap<Nonce, u32>,
    pub inbox: Inbox,
    /// What it has joined and subscribed to and set for its inbox, once it has changed that for the first time.
    pub enlisted: Option<Box<Enlisted>>,
    /// Messages that it has sent and that are to be delivered later.
    pub scheduled: u32,
    pub dirty: bool,
}

impl Client {
    /// The message that its inbox keeps at a position.
    pub fn kept(&self, position: u64) -> Option<&KeptMessage> {
        self.enlisted.as_ref()?.kept.messages.get(&position)
    }
}

/// All registered clients.
#[derive(Debug, Default)]
pub(super) struct Registry {
    clients: Slab<Client>,
    by_id: FxHashMap<RegistrationId, u32>,
    by_name: FxHashMap<Name, u32>,
    /// For listing. Sends look names up in `by_name`, which is many times faster with many clients.
    sorted: BTreeMap<Name, u32>,
    /// Who is at home where.
    by_home: BTreeMap<Name, BTreeSet<RegistrationId>>,
}

impl Registry {
    pub fn len(&self) -> u64 {
        self.clients.len() as u64
    }

    pub fn key(&self, id: RegistrationId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    pub fn key_of(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub fn get(&self, key: u32) -> &Client {
        &self.clients[key as usize]
    }

    pub fn get_mut(&mut self, key: u32) -> &mut Client {
        &mut self.clients[key as usize]
    }

    /// The client at `key`, if there is one; for keys that were noted down and may have gone.
    pub fn try_get_mut(&mut self, key: u32) -> Option<&mut Client> {
        self.clients.get_mut(key as usize)
    }

    pub fn find(&self, id: RegistrationId) -> Option<&Client> {
        self.key(id).map(|key| self.get(key))
    }

    /// The first client whose key is `place` or above, and its key.
    pub fn at_or_after(&self, place: usize) -> Option<(usize, &Client)> {
        (place..self.clients.capacity()).find_map(|key| Some((key, self.clients.get(key)?)))
    }

    /// All clients with their keys, in no order that is the same on all servers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Client)> {
        self.clients.iter().map(|(key, client)| (key as u32, client))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.clients.iter_mut().map(|(_, client)| client)
    }

    /// The clients after a name, names ascending.
    pub fn after(&self, name: Option<&Name>) -> impl Iterator<Item = &Client> {
        let after = name.map_or(Bound::Unbounded, Bound::Excluded);
        self.sorted.range::<Name, _>((after, Bound::Unbounded)).map(|(_, key)| self.get(*key))
    }

    /// Adds a client whose name is free.
    pub fn insert(&mut self, client: Client) -> u32 {
        let (id, name) = (client.id, client.name.clone());
        self.by_home.entry(client.home.clone()).or_default().insert(id);
        let key = self.clients.insert(client) as u32;
        let known = self.by_id.insert(id, key);
        assert!(known.is_none(), "ids are never used again");
        self.by_name.insert(name.clone(), key);
        let known = self.sorted.insert(name, key);
        assert!(known.is_none(), "a name has one registration");
        key
    }

    /// Removes a client; its name is free again.
    pub fn remove(&mut self, key: u32) -> Client {
        let client = self.clients.remove(key as usize);
        self.by_id.remove(&client.id);
        self.by_name.remove(&client.name);
        self.sorted.remove(&client.name);
        self.leave_home(&client.home, client.id);
        client
    }

    /// Gives a client another home.
    pub fn set_home(&mut self, key: u32, home: Name) {
        let client = &mut self.clients[key as usize];
        if client.home != home {
            let id = client.id;
            let before = std::mem::replace(&mut client.home, home.clone());
            self.leave_home(&before, id);
            self.by_home.entry(home).or_default().insert(id);
        }
    }

    fn leave_home(&mut self, home: &Name, id: RegistrationId) {
        if let Some(clients) = self.by_home.get_mut(home) {
            clients.remove(&id);
            if clients.is_empty() {
                self.by_home.remove(home);
            }
        }
    }

    /// The first clients that are at home there, registrations ascending.
    pub fn at_home(&self, home: &str, limit: usize) -> Vec<RegistrationId> {
        self.by_home.get(home).into_iter().flatten().take(limit).copied().collect()
    }

    /// The servers that are anybody's home, names ascending.
    pub fn homes(&self) -> impl Iterator<Item = &Name> {
        self.by_home.keys()
    }
}
