//! Messages that wait for the time at which they are to be delivered.
//!
//! They are accepted like any other: durable, numbered, once. Whoever is named has a place kept in its inbox from then on, so
//! that an accepted message always comes; who a channel's message goes to is found when its time has come, among those who
//! are members by then. The time is the cluster's, which is that of the entries: what is due comes before anything else of an
//! entry, earliest first and in the order of acceptance where two have one time.

use serde::{Deserialize, Serialize};

use super::PostOffice;
use super::apply::{At, Tell};
use super::channels::ChannelId;
use super::checkpoint::Touched;
use super::effect::Effect;
use super::post::Post;
use crate::limits::SCHEDULED_MAX;
use crate::wire::sharing::Target;
use crate::wire::{MessageId, Name, Position, RegistrationId, SendOutcome, SendRefusal, Time};

/// Places in inboxes that one entry fills with messages whose time has come, about, so that its work is bounded. If more are
/// due, the next entry goes on.
const PLACED_MAX: usize = 65_536;

/// The latest time there is: an outcome has room for no later one.
const LATEST: u64 = (1 << 56) - 1;

/// A message that waits for its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scheduled {
    pub key: u32,
    pub sender: RegistrationId,
    pub to: Addressees,
}

/// Who a scheduled message goes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Addressees {
    /// Those who were named; each has a place kept in its inbox. Whoever ends its registration gets nothing.
    Clients(Vec<RegistrationId>),
    /// Whoever is in the channel by then.
    Channel(ChannelId),
    /// Whoever is registered by then.
    Everybody,
}

impl PostOffice {
    /// When a post comes into the inboxes.
    pub(super) fn due(&self, post: &Post<'_>) -> Time {
        match post.terms.delay_ms {
            0 => self.time,
            delay => Time(self.time.0.saturating_add(delay).min(LATEST)),
        }
    }

    /// Takes a post for later. Those in `fan` are who it is for, if they are named.
    pub(super) fn schedule(
        &mut self,
        at: At<'_>,
        post: &Post<'_>,
        owner: u32,
        digest: u64,
        channel: Option<Name>,
        tell: Tell<'_>,
    ) -> SendOutcome {
        let sender = self.registry.get(owner);
        if sender.scheduled >= SCHEDULED_MAX {
            self.fan.clear();
            return SendOutcome::Refused(SendRefusal::TooManyScheduled { limit: SCHEDULED_MAX });
        }
        let due = self.due(post);
        let sender = sender.id;
        let to = match &post.to {
            Target::Client(_) | Target::Clients(_) => {
                let receipt_to = post.terms.receipt.then_some(owner);
                self.make_room_for_all(post.content.len() as u32, receipt_to, tell);
                for place in 0..self.fan.len() {
                    self.registry.get_mut(self.fan[place].1).inbox.reserve(post.content.len() as u32);
                }
                Addressees::Clients(self.fan.iter().map(|(registration, _)| *registration).collect())
            }
            Target::Channel(name) => {
                Addressees::Channel(self.channels.id_of(name).expect("it was found when the recipients were"))
            }
            Target::Everybody => Addressees::Everybody,
        };
        self.fan.clear();
        // It counts as waiting in one place until it is in the inboxes.
        let key = self.new_message(at, post, owner, digest, channel, 1);
        self.registry.get_mut(owner).scheduled += 1;
        self.scheduled.insert((due, at.id), Scheduled { key, sender, to });
        self.changes.touch(Touched::Scheduled(due, at.id));
        SendOutcome::Scheduled(due)
    }

    /// Puts the messages whose time has come into the inboxes.
    pub(super) fn deliver_due(&mut self, tell: Tell<'_>) {
        let mut placed = 0;
        while placed < PLACED_MAX
            && let Some(first) = self.scheduled.first_entry()
            && first.key().0 <= self.time
        {
            let ((due, id), scheduled) = first.remove_entry();
            self.changes.touch(Touched::Scheduled(due, id));
            placed += 1 + self.come_due(id, scheduled, tell);
        }
    }

    /// Gives the number of inboxes.
    fn come_due(&mut self, id: MessageId, scheduled: Scheduled, tell: Tell<'_>) -> usize {
        let Scheduled { key: message, sender, to } = scheduled;
        if let Some(sender) = self.registry.key(sender) {
            self.registry.get_mut(sender).scheduled -= 1;
        }
        let bytes = self.messages.get(message).content_bytes;
        let mut ended = 0;
        self.fan.clear();
        match to {
            Addressees::Clients(registrations) => {
                for registration in registrations {
                    let Some(key) = self.registry.key(registration) else {
                        ended += 1;
                        continue;
                    };
                    self.registry.get_mut(key).inbox.unreserve(bytes);
                    self.fan.push((registration, key));
                }
            }
            Addressees::Channel(id) => {
                if let Some(channel) = self.channels.get(id) {
                    self.channels.recipients(channel, &mut self.fan);
                }
                self.pass_over_full(bytes, None);
                self.make_room_for_all(bytes, None, tell);
            }
            Addressees::Everybody => {
                self.fan.extend(self.registry.iter().map(|(key, client)| (client.id, key)));
                self.fan.sort_unstable();
                self.pass_over_full(bytes, None);
                self.make_room_for_all(bytes, None, tell);
            }
        }
        if ended > 0
            && let Some(tracked) = self.tracked.get_mut(&id)
        {
            tracked.fate.ended = tracked.fate.ended.saturating_add(ended);
            self.changes.touch(Touched::Tracked(id));
        }
        let inboxes = self.fan.len();
        if inboxes == 0 {
            let released = self.messages.release(message);
            self.changes.message_gone(released);
            if let Some(tracked) = self.tracked.remove(&id) {
                self.changes.touch(Touched::Tracked(id));
                self.conclude(id, tracked, tell);
            }
            return 0;
        }
        self.messages.get_mut(message).inboxes = inboxes as u32;
        self.place(message, id);
        for (registration, key) in &self.fan {
            let position = Position(self.registry.get(*key).inbox.end());
            tell(Effect::Arrived { registration: *registration, position });
        }
        inboxes
    }
}
