//! What is set for an inbox, what it keeps, and who comes and goes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::problem::Problem;
use super::super::query::WHOLE_MAX;
use super::{Client, Message, whole_or_none};
use crate::limits::KEPT_MESSAGES_MAX;
use crate::wire::client::{PresenceChange, PresenceEvent};
use crate::wire::sharing::{self, InboxSettings};

/// What becomes of a message for an inbox that is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// It is refused, and its sender told so.
    Refuse,
    /// The oldest that wait make room for it.
    DropOldest,
}

/// What is to be set for an inbox; what is left out is as it is at first: refuse, and keep nothing.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InboxSetting {
    /// What becomes of a message when it is full.
    pub overflow: Option<Overflow>,
    /// How many acknowledged messages it keeps.
    #[serde(default, deserialize_with = "whole_or_none")]
    #[schema(minimum = 0, maximum = 100_000)]
    pub keep_messages: Option<u64>,
    /// For how many milliseconds after its acknowledgement one is kept at most; 0 for no such bound.
    #[serde(default, deserialize_with = "whole_or_none")]
    #[schema(minimum = 0)]
    pub keep_ms: Option<u64>,
}

/// What is set for an inbox.
#[derive(Debug, Serialize, ToSchema)]
pub struct InboxSet {
    /// What becomes of a message when it is full.
    pub overflow: Overflow,
    /// How many acknowledged messages it keeps.
    pub keep_messages: u32,
    /// For how many milliseconds after its acknowledgement one is kept at most; 0 for no such bound.
    pub keep_ms: u64,
    /// How many it keeps now.
    pub kept: u64,
}

/// What an inbox has kept of what was acknowledged, positions ascending.
#[derive(Debug, Serialize, ToSchema)]
pub struct History {
    /// The registration.
    pub registration: u64,
    /// Some of the messages.
    pub messages: Vec<Message>,
    /// Where to go on from, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// What changed of who is there.
#[derive(Debug, Serialize, ToSchema)]
pub struct Presence {
    /// Where to go on from: ask again with it as `since`.
    pub up_to: u64,
    /// What changed, in order; `null` if this server does not know, since it is too long ago: look at all clients, and go on
    /// from `up_to`.
    pub events: Option<Vec<Came>>,
}

/// Something that changed of who is there.
#[derive(Debug, Serialize, ToSchema)]
pub struct Came {
    /// The log index at which it did.
    pub index: u64,
    /// What.
    pub change: Change,
    /// Its home before, if it has moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The client as it was then.
    pub client: Client,
}

/// What changed of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It was registered.
    Registered,
    /// It came online, at its home.
    Online,
    /// It went offline.
    Offline,
    /// Its home is another server now.
    Moved,
    /// Its registration has ended.
    Deregistered,
}

impl InboxSetting {
    /// The settings.
    pub fn settings(&self) -> Result<InboxSettings, Problem> {
        let keep_messages = self.keep_messages.unwrap_or(0);
        let keep_messages = u32::try_from(keep_messages).ok().filter(|keep| *keep <= KEPT_MESSAGES_MAX);
        let keep_messages = keep_messages
            .ok_or_else(|| Problem::invalid(format!("`keep_messages` is a number from 0 to {KEPT_MESSAGES_MAX}")))?;
        let keep_ms = self.keep_ms.unwrap_or(0);
        if keep_ms > WHOLE_MAX {
            return Err(Problem::invalid(format!("`keep_ms` is a number from 0 to {WHOLE_MAX}")));
        }
        let overflow = match self.overflow {
            None | Some(Overflow::Refuse) => sharing::Overflow::Refuse,
            Some(Overflow::DropOldest) => sharing::Overflow::DropOldest,
        };
        Ok(InboxSettings { overflow, keep_messages, keep_ms })
    }
}

impl InboxSet {
    /// Of an inbox that keeps so many now.
    pub fn new(settings: InboxSettings, kept: u64) -> Self {
        let InboxSettings { overflow, keep_messages, keep_ms } = settings;
        let overflow = match overflow {
            sharing::Overflow::Refuse => Overflow::Refuse,
            sharing::Overflow::DropOldest => Overflow::DropOldest,
        };
        Self { overflow, keep_messages, keep_ms, kept }
    }
}

impl From<PresenceEvent> for Came {
    fn from(event: PresenceEvent) -> Self {
        let (change, from) = match event.change {
            PresenceChange::Registered => (Change::Registered, None),
            PresenceChange::Online => (Change::Online, None),
            PresenceChange::Offline => (Change::Offline, None),
            PresenceChange::Moved { from } => (Change::Moved, Some(from.to_string())),
            PresenceChange::Deregistered => (Change::Deregistered, None),
        };
        Self { index: event.index, change, from, client: event.client.into() }
    }
}
