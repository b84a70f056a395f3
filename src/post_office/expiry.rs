//! Messages that expire: after their time they wait in no inbox any more, and nobody gets them.
//!
//! The time is the cluster's, which is that of the entries: what is due is done before anything of an entry is, so that every
//! server does it in the same place, whoever leads. What somebody has received by then is his; his acknowledgement finds
//! nothing any more, and the delivered receipt says that it expired.

use super::PostOffice;
use super::apply::Tell;
use super::effect::Effect;
use super::receipts::End;
use crate::wire::{Position, RegistrationId};

/// Places in inboxes that one entry clears for messages that have expired, about, so that its work is bounded. If more are
/// due, the next entry goes on.
const EXPIRED_MAX: usize = 65_536;

/// A message that expires.
#[derive(Debug, Default)]
pub(super) struct Expiring {
    pub key: u32,
    /// Where it waits, or did so. Of those where it does no more, a state that was read back knows nothing, so that nothing
    /// may hang on how many they are.
    pub places: Vec<(RegistrationId, u64)>,
}

impl PostOffice {
    /// Clears what has expired.
    pub(super) fn expire(&mut self, tell: Tell<'_>) {
        let mut cleared = 0;
        while cleared < EXPIRED_MAX
            && let Some(first) = self.expiring.first_entry()
            && first.key().0 <= self.time
        {
            let Expiring { key, places } = first.remove();
            cleared += 1;
            for (registration, position) in places {
                cleared += usize::from(self.clear_place(registration, position, key, End::Expired, tell));
            }
            self.settle_receipts(End::Expired, tell);
        }
    }

    /// Takes a message that was not acknowledged out of an inbox. Whether it waited there still.
    pub(super) fn clear_place(
        &mut self,
        registration: RegistrationId,
        position: u64,
        key: u32,
        end: End,
        tell: Tell<'_>,
    ) -> bool {
        let Some(owner) = self.registry.key(registration) else { return false };
        let client = self.registry.get_mut(owner);
        if client.inbox.slot(position) != Some(key) {
            return false;
        }
        let (messages, changes, holes, ends) = (&mut self.messages, &mut self.changes, &mut self.holes, &mut self.ends);
        let (waiting, waiting_bytes) = (&mut self.waiting, &mut self.waiting_bytes);
        let (floor, at) = (client.inbox.floor(), Position(position));
        client.inbox.acknowledge(floor, &[(at, at)], holes, |_, message| {
            let released = messages.release(message);
            changes.message_gone(released);
            ends.push(released);
            *waiting -= 1;
            *waiting_bytes -= u64::from(released.bytes);
            released.bytes
        });
        changes.holes.extend(holes.drain(..).map(|position| (registration, position)));
        self.touch_client(owner);
        tell(Effect::Withdrawn { registration, position: at, dropped: end == End::Dropped });
        true
    }
}
