//! What has changed since the last checkpoint.
//!
//! Applying notes down next to nothing: a client or stream that changes is put on a list once; a message is on none,
//! since it is found through the new slots of an inbox that changed; and whether something may be in the checkpoint
//! already is told from its id, which is made of the log index that brought it to life. So a message that came and went
//! between two checkpoints leaves no trace.
//!
//! A flush that failed may have taken effect nevertheless. So what was taken once *may* be stored from then on, and its
//! end must be told to the checkpoint, while only what [`PostOffice::changes_durable`] confirmed *is* stored.

use std::collections::BTreeSet;

use bytes::Bytes;
use rustc_hash::FxHashSet;

use super::channels::{ChannelId, Pattern};
use super::inbox::{ACKNOWLEDGED, Stored};
use super::messages::Released;
use super::records::{self, Kind};
use super::registry::Client;
use super::streams::Stream;
use super::{PostOffice, describe};
use crate::wire::{MessageId, RegistrationId, StreamId, Time};

/// One change to the checkpoint. Changes of one cut do not overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The value at `key` becomes `head ++ content`.
    Put {
        /// The record's key.
        key: Vec<u8>,
        /// The value, or its first part.
        head: Vec<u8>,
        /// The rest of the value; may be empty. Shared with the log entry that brought it.
        content: Bytes,
    },
    /// There is no value at `key` any more, if there was one.
    Remove {
        /// The record's key.
        key: Vec<u8>,
    },
    /// There are no values at the keys from `from` to `to` any more.
    RemoveRange {
        /// The first key.
        from: Vec<u8>,
        /// The key behind the last one.
        to: Vec<u8>,
    },
}

impl Change {
    /// Bytes that it takes on a disk, about.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Put { key, head, content } => (key.len() + head.len() + content.len() + 16) as u64,
            Self::Remove { key } => key.len() as u64,
            Self::RemoveRange { .. } => 0,
        }
    }

    /// The first key it concerns, by which changes are sorted.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Put { key, .. } | Self::Remove { key } | Self::RemoveRange { from: key, .. } => key,
        }
    }
}

/// What is gone and may be stored.
#[derive(Debug, Default)]
struct Gone {
    registrations: Vec<RegistrationId>,
    streams: Vec<StreamId>,
    messages: Vec<MessageId>,
}

/// What a cut holds, in case it must be taken again.
#[derive(Debug)]
struct Taken {
    applied: u64,
    clients: Vec<(RegistrationId, Stored)>,
    streams: Vec<StreamId>,
    holes: Vec<(RegistrationId, u64)>,
    touched: BTreeSet<Touched>,
    gone: Gone,
    /// Enrolments were in it.
    enrolments: bool,
}

/// Something of which there is little, or that changes seldom, and came, changed or went: it is looked up when a cut is taken,
/// and written if it is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touched {
    Channel(ChannelId),
    Member(ChannelId, RegistrationId),
    Subscription(RegistrationId, Pattern),
    Tracked(MessageId),
    Scheduled(Time, MessageId),
    Settings(RegistrationId),
    Kept(RegistrationId, u64),
}

/// What has changed since the last cut.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Keys of clients and streams that changed. Some may be gone, and their keys used again.
    clients: Vec<u32>,
    streams: Vec<u32>,
    /// Positions that were acknowledged out of order and may be stored.
    pub holes: Vec<(RegistrationId, u64)>,
    touched: BTreeSet<Touched>,
    /// Places in inboxes that messages to many took since the last cut.
    pub places: u64,
    gone: Gone,
    taken: Option<Taken>,
    /// Nothing that a later entry brought to life may be stored.
    taken_up_to: u64,
    /// Everything that entries up to this one brought to life, and that is still there, is stored.
    pub durable_up_to: u64,
}

impl Changes {
    /// Those of a state that was just read back.
    pub fn stored(applied: u64) -> Self {
        Self { taken_up_to: applied, durable_up_to: applied, ..Self::default() }
    }

    pub fn touch(&mut self, what: Touched) {
        self.touched.insert(what);
    }

    /// A notice is younger than its id, which only makes it go where it never was.
    pub fn message_gone(&mut self, message: Released) {
        if message.removed && message.id.index() <= self.taken_up_to {
            self.gone.messages.push(message.id);
        }
    }

    pub fn stream_gone(&mut self, stream: StreamId) {
        self.gone.streams.extend(Some(stream).filter(|id| id.index() <= self.taken_up_to));
    }

    pub fn registration_gone(&mut self, registration: RegistrationId) {
        self.gone.registrations.extend(Some(registration).filter(|id| id.index() <= self.taken_up_to));
    }
}

/// Something of the client changes.
pub(super) fn touch_client(changes: &mut Changes, key: u32, client: &mut Client) {
    if !client.dirty {
        client.dirty = true;
        changes.clients.push(key);
    }
}

/// Something of the stream changes.
pub(super) fn touch_stream(changes: &mut Changes, key: u32, stream: &mut Stream) {
    if !stream.dirty {
        stream.dirty = true;
        changes.streams.push(key);
    }
}

impl PostOffice {
    /// What has changed since the last call, sorted by key: a consistent cut at [`Self::applied`]. Contents are shared,
    /// not copied. Takes time in proportion to the changes.
    ///
    /// [`Self::changes_durable`] or [`Self::changes_lost`] follows; without either, the former cut counts as lost.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.changes_lost();
        let mut out = Vec::new();
        if self.applied == self.changes.durable_up_to {
            return out;
        }
        describe::meta(self, &mut out);
        let enrolments = std::mem::take(&mut self.servers.dirty);
        let mut taken = Taken {
            applied: self.applied,
            clients: Vec::with_capacity(self.changes.clients.len()),
            streams: Vec::with_capacity(self.changes.streams.len()),
            holes: std::mem::take(&mut self.changes.holes),
            touched: std::mem::take(&mut self.changes.touched),
            gone: std::mem::take(&mut self.changes.gone),
            enrolments,
        };
        for (incarnation, progress) in &mut self.servers.progress {
            if std::mem::take(&mut progress.dirty) {
                describe::progress(*incarnation, progress, &mut out);
            }
        }
        if enrolments {
            describe::enrolments(&self.servers, &mut out);
        }
        self.take_clients(&mut taken, &mut out);
        self.take_streams(&mut taken, &mut out);
        taken.touched.iter().for_each(|what| describe::touched(self, what, &mut out));
        let remove = |kind: Kind, id: u64| Change::Remove { key: records::key(kind, &[id]) };
        for id in &taken.gone.registrations {
            out.push(remove(Kind::Registration, id.0));
            out.push(remove(Kind::Inbox, id.0));
            let [from, to] = [id.0, id.0 + 1].map(|id| records::key(Kind::Slot, &[id, 0]));
            out.push(Change::RemoveRange { from, to });
        }
        out.extend(taken.gone.streams.iter().map(|id| remove(Kind::Stream, id.0)));
        out.extend(taken.gone.messages.iter().map(|id| remove(Kind::Message, id.0)));
        self.changes.taken_up_to = self.applied;
        self.changes.places = 0;
        self.changes.taken = Some(taken);
        // The kinds come in runs that are sorted or nearly so, which the sort makes use of.
        out.sort_by(|a, b| a.key().cmp(b.key()));
        debug_assert!(out.is_sorted_by(|a, b| a.key() < b.key()), "no key is changed twice");
        out
    }

    /// The changes that were taken last are in the checkpoint: their contents may leave memory.
    pub fn changes_durable(&mut self) {
        if let Some(taken) = self.changes.taken.take() {
            self.changes.durable_up_to = taken.applied;
        }
    }

    /// The flush of the changes that were taken last failed: the next take includes them again. The checkpoint may have
    /// been changed by them or not.
    pub fn changes_lost(&mut self) {
        let Some(taken) = self.changes.taken.take() else { return };
        let Taken { clients, streams, holes, touched, gone, enrolments, .. } = taken;
        for (id, before) in clients {
            if let Some(key) = self.registry.key(id) {
                let client = self.registry.get_mut(key);
                client.inbox.stored = Stored { most: client.inbox.stored.most, ..before };
                touch_client(&mut self.changes, key, client);
            }
        }
        for id in streams {
            if let Some(key) = self.streams.key(id) {
                touch_stream(&mut self.changes, key, self.streams.get_mut(key));
            }
        }
        self.changes.holes.extend(holes);
        self.changes.touched.extend(touched);
        self.changes.gone.registrations.extend(gone.registrations);
        self.changes.gone.streams.extend(gone.streams);
        self.changes.gone.messages.extend(gone.messages);
        self.servers.progress.values_mut().for_each(|progress| progress.dirty = true);
        self.servers.dirty |= enrolments;
    }

    /// Lets contents that are in the checkpoint leave memory, oldest first, until at most `keep_bytes` are left. What
    /// is not yet in the checkpoint stays, however much that is.
    pub fn release_contents(&mut self, keep_bytes: u64) {
        self.messages.let_go(keep_bytes, self.changes.durable_up_to);
    }

    fn take_clients(&mut self, taken: &mut Taken, out: &mut Vec<Change>) {
        let durable_up_to = self.changes.durable_up_to;
        let mut messages: Vec<(MessageId, u32)> = Vec::new();
        // Those that wait in several inboxes, or are kept in some, are met once for each.
        let mut met: FxHashSet<MessageId> = FxHashSet::default();
        for key in std::mem::take(&mut self.changes.clients) {
            let Some(client) = self.registry.try_get_mut(key) else { continue };
            if !std::mem::take(&mut client.dirty) {
                continue;
            }
            if client.id.index() > durable_up_to {
                describe::registration(client, out);
            }
            describe::inbox(client, out);
            let inbox = &mut client.inbox;
            let (floor, end) = (inbox.floor().0, inbox.end());
            let stored = inbox.stored;
            let removed_to = floor.min(stored.most);
            if removed_to > stored.gone {
                let [from, to] = [stored.gone, removed_to].map(|p| records::key(Kind::Slot, &[client.id.0, p + 1]));
                out.push(Change::RemoveRange { from, to });
            }
            for (position, slot) in inbox.messages_from(stored.sure + 1) {
                debug_assert!(slot != ACKNOWLEDGED);
                let message = self.messages.get(slot);
                describe::slot(client.id, position, message.id, out);
                // A notice is younger than its id, and is stored with its one slot.
                let is_new = message.id.index() > durable_up_to || message.notice().is_some();
                let is_there_only = message.inboxes == 1 && message.kept() == 0;
                if is_new && (is_there_only || met.insert(message.id)) {
                    messages.push((message.id, slot));
                }
            }
            inbox.stored = Stored { gone: floor, sure: end, most: end };
            taken.clients.push((client.id, stored));
        }
        for what in &taken.touched {
            let key = match what {
                Touched::Scheduled(due, id) => self.scheduled.get(&(*due, *id)).map(|scheduled| scheduled.key),
                Touched::Kept(registration, position) => {
                    self.registry.find(*registration).and_then(|client| client.kept(*position)).map(|kept| kept.key)
                }
                _ => None,
            };
            let Some(key) = key else { continue };
            let id = self.messages.get(key).id;
            if id.index() > durable_up_to && met.insert(id) {
                messages.push((id, key));
            }
        }
        messages.sort_unstable();
        for (_, key) in messages {
            let message = self.messages.get(key);
            // Only what is durable is let go, so the content is there.
            let content = self.messages.content(message).expect("a content that is not stored is held");
            describe::message(message, content, out);
        }
        for (registration, position) in &taken.holes {
            // What the floor has passed by now was removed as a range, and what has deregistered goes as a whole.
            if self.registry.find(*registration).is_some_and(|client| client.inbox.floor().0 < *position) {
                out.push(Change::Remove { key: records::key(Kind::Slot, &[registration.0, *position]) });
            }
        }
    }

    fn take_streams(&mut self, taken: &mut Taken, out: &mut Vec<Change>) {
        for key in std::mem::take(&mut self.changes.streams) {
            let Some(stream) = self.streams.try_get_mut(key) else { continue };
            if std::mem::take(&mut stream.dirty) {
                describe::stream(stream, out);
                taken.streams.push(stream.id);
            }
        }
    }
}
