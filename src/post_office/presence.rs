//! Who is there, and the telling of what changes of it.

use super::PostOffice;
use super::apply::Tell;
use super::effect::Effect;
use super::registry::Client;
use crate::wire::Name;
use crate::wire::client::{ClientRow, PresenceChange, PresenceEvent};

/// Where a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Whereabouts {
    home: Name,
    online: bool,
}

impl Client {
    /// Where it is.
    pub fn whereabouts(&self) -> Whereabouts {
        Whereabouts { home: self.current_home().clone(), online: self.inbox.session_at().is_some() }
    }

    /// Where its session reads, or else where it was last, or was registered or moved to.
    pub fn current_home(&self) -> &Name {
        self.inbox.session_at().unwrap_or(&self.home)
    }

    /// As others are shown it.
    pub fn row(&self) -> ClientRow {
        ClientRow {
            name: self.name.clone(),
            registration: self.id,
            home: self.current_home().clone(),
            online: self.inbox.session_at().is_some(),
            last_seen: self.last_seen,
            waiting: self.inbox.waiting(),
            waiting_bytes: self.inbox.waiting_bytes(),
            streams: self.streams.len() as u32,
        }
    }
}

impl PostOffice {
    /// Tells of a client what is otherwise than before. One that is seen at another home after it was gone has moved first.
    pub(super) fn tell_whereabouts(&self, key: u32, before: Whereabouts, tell: Tell<'_>) {
        let now = self.registry.get(key).whereabouts();
        if before.online && !now.online {
            self.tell_presence(key, PresenceChange::Offline, tell);
        }
        if before.home != now.home {
            self.tell_presence(key, PresenceChange::Moved { from: before.home }, tell);
        }
        if !before.online && now.online {
            self.tell_presence(key, PresenceChange::Online, tell);
        }
    }

    pub(super) fn tell_presence(&self, key: u32, change: PresenceChange, tell: Tell<'_>) {
        let client = self.registry.get(key).row();
        tell(Effect::Presence(Box::new(PresenceEvent { index: self.applied, change, client })));
    }
}
