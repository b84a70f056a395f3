//! Acknowledged messages that their inbox keeps, for whoever wants to see its recent history.
//!
//! A message that is kept takes no room of those that wait, is delivered to nobody, and neither expires nor is dropped: it is
//! history. It goes when there are more than its owner has asked for, when they take more bytes than an inbox may hold, when
//! its time is up, or with the registration. Notices of delivered receipts are not kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::PostOffice;
use super::checkpoint::Touched;
use crate::wire::sharing::InboxSettings;
use crate::wire::{Position, RegistrationId, Time};

/// Messages that one entry forgets because their time is up, so that its work is bounded. If more are due, the next one goes on.
const FORGOTTEN_MAX: usize = 65_536;

/// What an inbox keeps, by position.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub messages: BTreeMap<u64, KeptMessage>,
    pub bytes: u64,
}

/// A message that is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeptMessage {
    pub key: u32,
    /// How long; `None` for no such bound.
    pub until: Option<Time>,
}

/// See [`KeptMessage`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KeptRecord {
    pub message: crate::wire::MessageId,
    pub until: Option<Time>,
}

impl PostOffice {
    /// Keeps messages that were acknowledged, which [`super::messages::Messages::keep`] knows of already.
    pub(super) fn keep(&mut self, key: u32, acknowledged: &[(Position, u32)]) {
        let settings = self.inbox_settings(key);
        let client = self.registry.get_mut(key);
        let registration = client.id;
        let Some(enlisted) = &mut client.enlisted else { return };
        let until = (settings.keep_ms > 0).then(|| Time(self.time.0.saturating_add(settings.keep_ms)));
        for (position, message) in acknowledged {
            enlisted.kept.messages.insert(position.0, KeptMessage { key: *message, until });
            enlisted.kept.bytes += u64::from(self.messages.get(*message).content_bytes);
            self.changes.touch(Touched::Kept(registration, position.0));
            if let Some(until) = until {
                self.keeping.insert((until, registration, position.0));
            }
        }
        self.trim_kept(key, settings);
    }

    /// Forgets the oldest of what an inbox keeps until it is within bounds.
    pub(super) fn trim_kept(&mut self, key: u32, settings: InboxSettings) {
        let most_bytes = self.quotas.inbox_bytes;
        loop {
            let client = self.registry.get(key);
            let Some(kept) = client.enlisted.as_ref().map(|enlisted| &enlisted.kept) else { return };
            if kept.messages.len() <= settings.keep_messages as usize && kept.bytes <= most_bytes {
                return;
            }
            let Some((position, _)) = kept.messages.first_key_value() else { return };
            self.forget_kept(key, *position);
        }
    }

    /// Forgets what is kept and whose time is up.
    pub(super) fn forget_due(&mut self) {
        for _ in 0..FORGOTTEN_MAX {
            match self.keeping.first() {
                Some((until, registration, position)) if *until <= self.time => {
                    let (registration, position) = (*registration, *position);
                    self.keeping.pop_first();
                    if let Some(key) = self.registry.key(registration) {
                        self.forget_kept(key, position);
                    }
                }
                _ => break,
            }
        }
    }

    /// Forgets all that an inbox keeps, since its registration ends.
    pub(super) fn forget_all_kept(&mut self, registration: RegistrationId, kept: Kept) {
        for (position, message) in kept.messages {
            self.forget(registration, position, message);
        }
    }

    fn forget_kept(&mut self, key: u32, position: u64) {
        let client = self.registry.get_mut(key);
        let registration = client.id;
        let Some(enlisted) = &mut client.enlisted else { return };
        let Some(message) = enlisted.kept.messages.remove(&position) else { return };
        enlisted.kept.bytes -= u64::from(self.messages.get(message.key).content_bytes);
        self.forget(registration, position, message);
    }

    fn forget(&mut self, registration: RegistrationId, position: u64, message: KeptMessage) {
        let released = self.messages.unkeep(message.key);
        self.changes.message_gone(released);
        self.changes.touch(Touched::Kept(registration, position));
        if let Some(until) = message.until {
            self.keeping.remove(&(until, registration, position));
        }
    }
}
