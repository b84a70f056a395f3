//! Sends to more than one client, or on terms of their own.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::PostOffice;
use super::apply::{At, Tell};
use super::checkpoint::Touched;
use super::effect::Effect;
use super::expiry::Expiring;
use super::messages::{Extra, Message, NOT_HELD};
use super::receipts::Tracked;
use crate::limits::{FANOUT_ENTRY_MAX, FANOUT_MAX};
use crate::wire::client::SendFailure;
use crate::wire::sharing::{Fate, Target, Terms, Unreached};
use crate::wire::{
    MessageId, Name, Number, Position, Refusal, RegistrationId, SendOutcome, SendRefusal, StreamId, Time,
};

/// A post has another digest than a send of the same bytes.
const SEED: u64 = 1;

/// A numbered send as it stands in its frame.
pub(super) struct Post<'a> {
    pub stream: StreamId,
    pub number: Number,
    pub confirmed: Number,
    pub to: Target<'a>,
    pub terms: Terms,
    pub content: &'a [u8],
    /// The frame's payload.
    pub payload: &'a [u8],
}

/// Why a send is not carried out.
enum Not {
    /// For good.
    Refused(SendRefusal),
    /// For now.
    Busy,
}

impl PostOffice {
    pub(super) fn post(&mut self, at: At<'_>, post: &Post<'_>, tell: Tell<'_>) {
        let (stream, number) = (post.stream, post.number);
        let digest = xxh3_64_with_seed(behind_numbers(post.payload), SEED);
        let Some((key, owner)) = self.admit(at, stream, number, post.confirmed, digest, tell) else { return };
        self.fan.clear();
        let mut channel = None;
        let outcome = match self.find_recipients(post, owner, &mut channel) {
            Ok(_) if post.terms.delay_ms > 0 => self.schedule(at, post, owner, digest, channel, tell),
            Ok(full) => {
                let inboxes = self.fan.len() as u32;
                self.put_into_inboxes(at, post, owner, digest, channel, tell);
                match (&post.to, self.fan.first()) {
                    (Target::Client(_), Some((_, key))) => {
                        SendOutcome::Accepted(Position(self.registry.get(*key).inbox.end()))
                    }
                    _ => SendOutcome::Reached { inboxes, full },
                }
            }
            Err(Not::Refused(refusal)) => {
                self.fan.clear();
                SendOutcome::Refused(refusal)
            }
            Err(Not::Busy) => {
                let result = Err(SendFailure::Unavailable(Refusal::Busy));
                return tell(Effect::Sent { origin: at.origin, stream, number, result, repeated: false });
            }
        };
        self.streams.get_mut(key).push(digest, outcome);
        tell(Effect::Sent { origin: at.origin, stream, number, result: Ok(outcome), repeated: false });
        for (registration, key) in &self.fan {
            let position = Position(self.registry.get(*key).inbox.end());
            tell(Effect::Arrived { registration: *registration, position });
        }
        if post.terms.receipt && self.fan.is_empty() && matches!(outcome, SendOutcome::Reached { .. }) {
            // It reached nobody: that is what becomes of it.
            let sender = self.registry.get(owner).id;
            self.conclude(at.id, Tracked { sender, stream, number, fate: Fate::default() }, tell);
        }
    }

    /// Who is to get it, into `fan`, each once; and how many do without since their inbox is full.
    fn find_recipients(&mut self, post: &Post<'_>, sender: u32, channel: &mut Option<Name>) -> Result<u32, Not> {
        let bytes = post.content.len() as u32;
        let receipt_to = post.terms.receipt.then_some(sender);
        if post.terms.receipt {
            let inbox = &self.registry.get(sender).inbox;
            if inbox.taken() >= self.quotas.inbox_messages {
                return Err(Not::Refused(SendRefusal::NoRoomForReceipt));
            }
        }
        match &post.to {
            Target::Client(name) => {
                let key = self.registry.key_of(name).ok_or(Not::Refused(SendRefusal::NoSuchClient))?;
                self.fan.push((self.registry.get(key).id, key));
            }
            Target::Clients(names) => {
                let mut unreached = Unreached::default();
                for (place, name) in names.iter().enumerate() {
                    match self.registry.key_of(name) {
                        None => unreached.unknown |= 1 << place,
                        Some(key) if self.is_full(key, bytes, receipt_to) => unreached.full |= 1 << place,
                        Some(key) => self.fan.push((self.registry.get(key).id, key)),
                    }
                }
                if !unreached.is_empty() {
                    return Err(Not::Refused(SendRefusal::Recipients(unreached)));
                }
                self.fan.sort_unstable();
                self.fan.dedup();
            }
            Target::Channel(name) => {
                let known = self.channels.id_of(name).and_then(|id| self.channels.get(id));
                let known = known.ok_or(Not::Refused(SendRefusal::NoSuchChannel))?;
                self.channels.recipients(known, &mut self.fan);
                *channel = Some(known.name.clone());
            }
            Target::Everybody => {
                if self.registry.len() <= FANOUT_MAX as u64 {
                    self.fan.extend(self.registry.iter().map(|(key, client)| (client.id, key)));
                    self.fan.sort_unstable();
                } else {
                    let inboxes = u32::try_from(self.registry.len()).unwrap_or(u32::MAX);
                    return Err(too_many(inboxes));
                }
            }
        }
        if self.fan.len() > FANOUT_MAX {
            return Err(too_many(self.fan.len() as u32));
        }
        if self.fanned > 0 && self.fanned + self.fan.len() > FANOUT_ENTRY_MAX {
            return Err(Not::Busy);
        }
        if post.terms.delay_ms > 0 && !matches!(post.to, Target::Client(_) | Target::Clients(_)) {
            // Who gets it shows when its time has come.
            self.fan.clear();
            return Ok(0);
        }
        let full = self.pass_over_full(bytes, receipt_to);
        match post.to {
            Target::Client(_) if full > 0 => Err(Not::Refused(SendRefusal::InboxFull)),
            _ => Ok(full),
        }
    }

    /// Takes those whose inbox has no room for so many bytes out of `fan`, and gives their number.
    pub(super) fn pass_over_full(&mut self, bytes: u32, receipt_to: Option<u32>) -> u32 {
        let before = self.fan.len();
        let mut fan = std::mem::take(&mut self.fan);
        fan.retain(|(_, key)| !self.is_full(*key, bytes, receipt_to));
        self.fan = fan;
        (before - self.fan.len()) as u32
    }

    /// Whether a client's inbox has no room for it and can make none, beside the receipt if that is to come into the same one.
    fn is_full(&self, key: u32, bytes: u32, receipt_to: Option<u32>) -> bool {
        let more = u64::from(receipt_to == Some(key));
        self.lacks_room(key, bytes, more) && !self.can_make_room(key, bytes, more)
    }

    /// Puts the message into the inboxes of everybody in `fan`.
    fn put_into_inboxes(
        &mut self,
        at: At<'_>,
        post: &Post<'_>,
        owner: u32,
        digest: u64,
        channel: Option<Name>,
        tell: Tell<'_>,
    ) {
        let inboxes = self.fan.len() as u32;
        self.fanned += inboxes as usize;
        if inboxes == 0 {
            self.registry.get_mut(owner).inbox.reserved += u64::from(post.terms.receipt);
            return;
        }
        self.make_room_for_all(post.content.len() as u32, post.terms.receipt.then_some(owner), tell);
        let message = self.new_message(at, post, owner, digest, channel, inboxes);
        self.place(message, at.id);
    }

    /// A message out of a post, which is tracked if its sender is to be told what becomes of it.
    pub(super) fn new_message(
        &mut self,
        at: At<'_>,
        post: &Post<'_>,
        owner: u32,
        digest: u64,
        channel: Option<Name>,
        inboxes: u32,
    ) -> u32 {
        let receipt = post.terms.receipt;
        let due = (post.terms.delay_ms > 0).then(|| self.due(post));
        let comes = due.unwrap_or(self.time).0;
        let expires = (post.terms.expires_ms > 0).then(|| Time(comes.saturating_add(post.terms.expires_ms)));
        let special = receipt || channel.is_some() || expires.is_some() || due.is_some();
        let sender = self.registry.get_mut(owner);
        sender.inbox.reserved += u64::from(receipt);
        let message = Message {
            id: at.id,
            stream: post.stream,
            number: post.number,
            time: self.time,
            from: sender.name.clone(),
            digest,
            content_bytes: post.content.len() as u32,
            offset: (post.content.as_ptr() as usize - at.entry.as_ptr() as usize) as u32,
            entry: NOT_HELD,
            inboxes,
            extra: special.then(|| Box::new(Extra { channel, receipt, expires, due, ..Extra::default() })),
        };
        if receipt {
            let (sender, stream, number) = (sender.id, post.stream, post.number);
            self.tracked.insert(at.id, Tracked { sender, stream, number, fate: Fate::default() });
            self.changes.touch(Touched::Tracked(at.id));
        }
        self.messages.insert(at.entry, message)
    }

    /// Puts a message at the end of the inbox of everybody in `fan`.
    pub(super) fn place(&mut self, message: u32, id: MessageId) {
        let known = self.messages.get(message);
        let (bytes, expires) = (known.content_bytes, known.expires());
        let inboxes = self.fan.len() as u64;
        self.changes.places += inboxes;
        for place in 0..self.fan.len() {
            let (_, key) = self.fan[place];
            self.touch_client(key);
            self.registry.get_mut(key).inbox.push(message, bytes);
        }
        if let Some(expires) = expires {
            let place =
                |(registration, key): &(RegistrationId, u32)| (*registration, self.registry.get(*key).inbox.end());
            let places = self.fan.iter().map(place).collect();
            self.expiring.insert((expires, id), Expiring { key: message, places });
        }
        self.waiting += inboxes;
        self.waiting_bytes += inboxes * u64::from(bytes);
    }
}

fn too_many(inboxes: u32) -> Not {
    Not::Refused(SendRefusal::TooManyInboxes { inboxes, limit: FANOUT_MAX as u32 })
}

/// What tells a post from another one: the payload behind the command's number, the stream, the number in it and what is
/// confirmed, each of which ends with the first byte below 128.
fn behind_numbers(payload: &[u8]) -> &[u8] {
    let mut rest = payload;
    for _ in 0..4 {
        let end = rest.iter().position(|byte| *byte < 0x80).map_or(rest.len(), |end| end + 1);
        rest = &rest[end..];
    }
    rest
}
