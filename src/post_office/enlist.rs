//! Commands about channels, making and ending them, joining and leaving, subscribing to patterns of their names; and what
//! clients set for their inboxes.
//!
//! All of it is ordered with the messages by the log: who is a member when a send is applied gets it.

use super::PostOffice;
use super::apply::At;
use super::channels::{Channel, Clients, Enlisted};
use super::checkpoint::Touched;
use super::effect::Answer;
use crate::limits::{CHANNELS_MAX, ENLISTMENTS_MAX, FANOUT_MAX, KEPT_MESSAGES_MAX};
use crate::wire::sharing::{Enlistment, InboxSettings, is_channel, is_pattern};
use crate::wire::{Name, Nonce, Refusal};

impl PostOffice {
    pub(super) fn create_channel(&mut self, at: At<'_>, nonce: Nonce, name: &str) -> Result<Answer, Refusal> {
        let name = channel_name(name)?;
        if let Some(known) = self.channels.id_of(&name).and_then(|id| self.channels.get(id)) {
            return if known.nonce == nonce { Ok(Answer::Done) } else { Err(Refusal::ChannelExists) };
        }
        if self.channels.len() >= CHANNELS_MAX {
            return Err(Refusal::TooManyChannels { limit: CHANNELS_MAX });
        }
        self.channels.insert(at.id, Channel { name, nonce, members: Clients::new() });
        self.changes.touch(Touched::Channel(at.id));
        Ok(Answer::Done)
    }

    pub(super) fn delete_channel(&mut self, name: &str) -> Result<Answer, Refusal> {
        let id = self.channels.id_of(name).ok_or(Refusal::NoSuchChannel)?;
        let channel = self.channels.remove(id).ok_or(Refusal::NoSuchChannel)?;
        self.changes.touch(Touched::Channel(id));
        for (registration, key) in channel.members {
            if let Some(enlisted) = &mut self.registry.get_mut(key).enlisted {
                enlisted.channels.remove(&id);
            }
            self.changes.touch(Touched::Member(id, registration));
        }
        Ok(Answer::Done)
    }

    /// Carries out a change, if it is asked for by somebody who knows how many there were.
    pub(super) fn enlist(
        &mut self,
        nonce: Nonce,
        name: &str,
        expected: u64,
        change: Enlistment<'_>,
    ) -> Result<Answer, Refusal> {
        let key = self.registry.key_of(name).ok_or(Refusal::NotRegistered)?;
        self.touch_client(key);
        let client = self.registry.get_mut(key);
        let begun = client.id.0;
        let enlisted =
            client.enlisted.get_or_insert_with(|| Box::new(Enlisted { changes: begun, ..Enlisted::default() }));
        if enlisted.changed_by == nonce && enlisted.changes > begun {
            return Ok(Answer::Done);
        }
        let current = enlisted.changes;
        if current != expected {
            return Err(Refusal::EnlistmentsMoved { current });
        }
        // A late copy of one that is refused must not come true either.
        enlisted.changes += 1;
        enlisted.changed_by = 0;
        self.change_enlistment(key, change)?;
        if let Some(enlisted) = &mut self.registry.get_mut(key).enlisted {
            enlisted.changed_by = nonce;
        }
        Ok(Answer::Done)
    }

    fn change_enlistment(&mut self, key: u32, change: Enlistment<'_>) -> Result<(), Refusal> {
        let client = self.registry.get_mut(key);
        let registration = client.id;
        let Some(enlisted) = &mut client.enlisted else { return Ok(()) };
        let limit = ENLISTMENTS_MAX as u64;
        match change {
            Enlistment::Join(name) => {
                let id = self.channels.id_of(name).ok_or(Refusal::NoSuchChannel)?;
                let channel = self.channels.get_mut(id).ok_or(Refusal::NoSuchChannel)?;
                if channel.members.contains_key(&registration) {
                    return Ok(());
                }
                if enlisted.len() >= ENLISTMENTS_MAX {
                    return Err(Refusal::TooManyEnlistments { limit });
                }
                if channel.members.len() >= FANOUT_MAX {
                    return Err(Refusal::ChannelFull { limit: FANOUT_MAX as u64 });
                }
                channel.members.insert(registration, key);
                enlisted.channels.insert(id);
                self.changes.touch(Touched::Member(id, registration));
            }
            Enlistment::Leave(name) => {
                let id = self.channels.id_of(name).ok_or(Refusal::NoSuchChannel)?;
                let channel = self.channels.get_mut(id).ok_or(Refusal::NoSuchChannel)?;
                if channel.members.remove(&registration).is_some() {
                    enlisted.channels.remove(&id);
                    self.changes.touch(Touched::Member(id, registration));
                }
            }
            Enlistment::Subscribe(pattern) => {
                if !is_pattern(pattern) {
                    return Err(Refusal::Malformed(format!("{pattern:?} is no pattern of channels' names")));
                }
                if enlisted.patterns.contains(pattern) {
                    return Ok(());
                }
                if enlisted.len() >= ENLISTMENTS_MAX {
                    return Err(Refusal::TooManyEnlistments { limit });
                }
                let pattern: super::channels::Pattern = pattern.into();
                enlisted.patterns.insert(pattern.clone());
                self.channels.subscribe(pattern.clone(), registration, key);
                self.changes.touch(Touched::Subscription(registration, pattern));
            }
            Enlistment::SetInbox(settings) => {
                let limit = KEPT_MESSAGES_MAX;
                if settings.keep_messages > limit {
                    let kept = settings.keep_messages;
                    return Err(Refusal::Malformed(format!(
                        "an inbox keeps at most {limit} acknowledged messages, not {kept}"
                    )));
                }
                enlisted.settings = settings;
                self.changes.touch(Touched::Settings(registration));
                self.trim_kept(key, settings);
            }
            Enlistment::Unsubscribe(pattern) => {
                if let Some(pattern) = enlisted.patterns.take(pattern) {
                    self.channels.unsubscribe(&pattern, registration);
                    self.changes.touch(Touched::Subscription(registration, pattern));
                }
            }
        }
        Ok(())
    }

    /// A registration ends, and with it whatever it has joined and subscribed to, and what its inbox keeps.
    pub(super) fn leave_all(&mut self, key: u32) {
        let client = self.registry.get_mut(key);
        let registration = client.id;
        let Some(enlisted) = client.enlisted.take() else { return };
        if enlisted.settings != InboxSettings::default() {
            self.changes.touch(Touched::Settings(registration));
        }
        self.forget_all_kept(registration, enlisted.kept);
        for id in enlisted.channels {
            if let Some(channel) = self.channels.get_mut(id) {
                channel.members.remove(&registration);
            }
            self.changes.touch(Touched::Member(id, registration));
        }
        for pattern in enlisted.patterns {
            self.channels.unsubscribe(&pattern, registration);
            self.changes.touch(Touched::Subscription(registration, pattern));
        }
    }
}

fn channel_name(text: &str) -> Result<Name, Refusal> {
    let good = is_channel(text).then(|| Name::new(text).ok()).flatten();
    good.ok_or_else(|| {
        Refusal::Malformed(format!(
            "{text:?} is no channel's name: use 1 to 64 of A-Z a-z 0-9 _ - with . between parts"
        ))
    })
}
