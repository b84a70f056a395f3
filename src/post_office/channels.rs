//! Channels: who is a member of each, and who has subscribed to which pattern of their names.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::kept::Kept;
use crate::wire::sharing::InboxSettings;
use crate::wire::{Id, Name, Nonce, RegistrationId};

/// A channel's id: made of the log index like any other.
pub(super) type ChannelId = Id;
/// A pattern of channels' names.
pub(super) type Pattern = Arc<str>;
/// Registrations, and the keys of their clients.
pub(super) type Clients = BTreeMap<RegistrationId, u32>;

/// A channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub name: Name,
    /// Of the request that made it.
    pub nonce: Nonce,
    pub members: Clients,
}

/// All channels and patterns.
#[derive(Debug, Default)]
pub(super) struct Channels {
    by_id: BTreeMap<ChannelId, Channel>,
    by_name: BTreeMap<Name, ChannelId>,
    patterns: BTreeMap<Pattern, Clients>,
}

/// What a client has joined and subscribed to, and set for its inbox.
#[derive(Debug, Default)]
pub(super) struct Enlisted {
    /// How many changes there were, from the registration's id on, which no other registration counts from.
    pub changes: u64,
    /// The request that made the last of them; 0 if that was refused.
    pub changed_by: Nonce,
    pub channels: BTreeSet<ChannelId>,
    pub patterns: BTreeSet<Pattern>,
    /// What it has set for its inbox.
    pub settings: InboxSettings,
    /// What its inbox keeps.
    pub kept: Kept,
}

impl Enlisted {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }
}

impl Channels {
    pub fn len(&self) -> u64 {
        self.by_id.len() as u64
    }

    pub fn id_of(&self, name: &str) -> Option<ChannelId> {
        self.by_name.get(name).copied()
    }

    pub fn get(&self, id: ChannelId) -> Option<&Channel> {
        self.by_id.get(&id)
    }

    pub fn get_mut(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.by_id.get_mut(&id)
    }

    /// The first channel whose id is `id` or above.
    pub fn at_or_after(&self, id: ChannelId) -> Option<(ChannelId, &Channel)> {
        self.by_id.range(id..).next().map(|(id, channel)| (*id, channel))
    }

    /// The channels after a name, names ascending.
    pub fn after(&self, name: Option<&Name>) -> impl Iterator<Item = &Channel> {
        let after = name.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_name.range::<Name, _>((after, Bound::Unbounded)).filter_map(|(_, id)| self.by_id.get(id))
    }

    /// Adds a channel whose name is free.
    pub fn insert(&mut self, id: ChannelId, channel: Channel) {
        self.by_name.insert(channel.name.clone(), id);
        self.by_id.insert(id, channel);
    }

    pub fn remove(&mut self, id: ChannelId) -> Option<Channel> {
        let channel = self.by_id.remove(&id)?;
        self.by_name.remove(&channel.name);
        Some(channel)
    }

    pub fn subscribe(&mut self, pattern: Pattern, registration: RegistrationId, key: u32) {
        self.patterns.entry(pattern).or_default().insert(registration, key);
    }

    pub fn unsubscribe(&mut self, pattern: &str, registration: RegistrationId) {
        if let Some(clients) = self.patterns.get_mut(pattern) {
            clients.remove(&registration);
            if clients.is_empty() {
                self.patterns.remove(pattern);
            }
        }
    }

    /// Adds to `found` who gets what is sent to that channel: its members, and those with a pattern that its name fits.
    /// Registrations ascending, each once.
    pub fn recipients(&self, channel: &Channel, found: &mut Vec<(RegistrationId, u32)>) {
        found.extend(channel.members.iter().map(|(registration, key)| (*registration, *key)));
        if self.patterns.is_empty() {
            return;
        }
        let members = found.len();
        self.walk(&mut String::with_capacity(channel.name.len()), &channel.name, found);
        if found.len() > members {
            found.sort_unstable();
            found.dedup();
        }
    }

    /// Follows the patterns that begin with `prefix`, as long as there are any, along the rest of a channel's name.
    fn walk(&self, prefix: &mut String, rest: &str, found: &mut Vec<(RegistrationId, u32)>) {
        let (part, more) = rest.split_once('.').map_or((rest, None), |(part, more)| (part, Some(more)));
        let length = prefix.len();
        self.subscribers(prefix, ">", found);
        for part in [part, "*"] {
            match more {
                None => self.subscribers(prefix, part, found),
                Some(more) => {
                    prefix.push_str(part);
                    prefix.push('.');
                    let next = self.patterns.range::<str, _>((Bound::Included(&**prefix), Bound::Unbounded)).next();
                    if next.is_some_and(|(pattern, _)| pattern.starts_with(&**prefix)) {
                        self.walk(prefix, more, found);
                    }
                    prefix.truncate(length);
                }
            }
        }
    }

    fn subscribers(&self, prefix: &mut String, part: &str, found: &mut Vec<(RegistrationId, u32)>) {
        let length = prefix.len();
        prefix.push_str(part);
        if let Some(clients) = self.patterns.get(&**prefix) {
            found.extend(clients.iter().map(|(registration, key)| (*registration, *key)));
        }
        prefix.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sharing::{fits, is_channel, is_pattern};

    #[test]
    fn the_walk_finds_what_fits_and_nothing_else() {
        let parts = ["a", "b", "*"];
        let mut patterns: Vec<String> = vec![">".into()];
        let mut of_length: Vec<String> = parts.map(str::to_owned).to_vec();
        for _ in 0..3 {
            patterns.extend(of_length.iter().flat_map(|p| [p.clone(), format!("{p}.>")]));
            of_length = of_length.iter().flat_map(|p| parts.map(|part| format!("{p}.{part}"))).collect();
        }
        let mut channels = Channels::default();
        for (n, pattern) in patterns.iter().enumerate() {
            assert!(is_pattern(pattern), "{pattern}");
            channels.subscribe(pattern.as_str().into(), Id(n as u64), n as u32);
        }
        for name in ["a", "b", "a.b", "b.b", "a.b.a", "b.a.b.a", "c", "c.a", "a.b.c"] {
            assert!(is_channel(name));
            let name = Name::new(name).expect("a name");
            let channel = Channel { name: name.clone(), nonce: 0, members: Clients::from([(Id(0), 0)]) };
            let mut found = Vec::new();
            channels.recipients(&channel, &mut found);
            let expected = (0..patterns.len()).filter(|n| *n == 0 || fits(&name, &patterns[*n]));
            assert_eq!(found, expected.map(|n| (Id(n as u64), n as u32)).collect::<Vec<_>>(), "{name}");
        }
        for (n, pattern) in patterns.iter().enumerate() {
            channels.unsubscribe(pattern, Id(n as u64));
        }
        assert!(channels.patterns.is_empty());
    }
}
