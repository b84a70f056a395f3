//! Reading the state back from a checkpoint.

use std::collections::BTreeMap;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::PostOffice;
use super::channels::{Channel, Clients, Enlisted};
use super::checkpoint::Changes;
use super::inbox::{Inbox, Reader};
use super::kept::{KeptMessage, KeptRecord};
use super::messages::{Extra, Message, NOT_HELD};
use super::receipts::Tracked;
use super::records::{
    self, BadRecord, ChannelRecord, InboxRecord, Kind, MessageRecord, MetaRecord, OwnedStreamRecord, ProgressRecord,
    ReaderRecord, RegistrationRecord, ScheduledRecord, ServerRecord, TrackedRecord,
};
use super::registry::Client;
use super::scheduled::{Addressees, Scheduled};
use super::servers::{Listed, Named, Progress};
use super::streams::Stream;
use crate::wire::sharing::{InboxSettings, is_pattern};
use crate::wire::{BadName, Id, Incarnation, MessageId, Name, Nonce, Time};

/// A checkpoint that cannot be read back. It is damaged, or of another version; set it aside, and the server gets a new
/// one from another server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A record cannot be read.
    #[error("a {kind} record of the checkpoint cannot be read: {source}")]
    Record {
        /// What the record is about.
        kind: &'static str,
        /// Why.
        source: BadRecord,
    },
    /// A name in a record is none.
    #[error("a record of the checkpoint has a bad name in it: {0}")]
    Name(#[from] BadName),
    /// Records contradict each other.
    #[error("the checkpoint's records contradict each other: {0}")]
    Inconsistent(&'static str),
}

/// A state that is being read back.
#[derive(Default)]
struct Loading {
    office: PostOffice,
    last_key: Option<Vec<u8>>,
    meta: bool,
    /// A registration whose inbox comes next.
    names: BTreeMap<Id, (Name, Nonce)>,
    /// Where inboxes end.
    ends: FxHashMap<Id, u64>,
    messages: FxHashMap<MessageId, u32>,
    /// Every name that was met, so that all its uses share it.
    known_names: FxHashMap<Name, ()>,
}

impl PostOffice {
    /// Reads a state back from the records of a checkpoint, keys ascending. The contents stay outside memory. No record
    /// at all is a new state.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(records: impl Iterator<Item = (Vec<u8>, Bytes)>) -> Result<Self, LoadError> {
        let mut loading = Loading::default();
        for (key, value) in records {
            loading.record(key, &value)?;
        }
        loading.finish()
    }
}

impl Loading {
    fn record(&mut self, key: Vec<u8>, value: &[u8]) -> Result<(), LoadError> {
        if self.last_key.as_ref().is_some_and(|last| *last >= key) {
            return Err(LoadError::Inconsistent("keys do not ascend"));
        }
        let (kind, ids) =
            records::split_key(&key).map_err(|source| LoadError::Record { kind: "an unknown", source })?;
        if kind != Kind::Meta && !self.meta {
            return Err(LoadError::Inconsistent("the first record, of the state as a whole, is missing"));
        }
        let bad = |kind: &'static str| move |source| LoadError::Record { kind, source };
        match kind {
            Kind::Meta => {
                let record = records::decode_all::<MetaRecord>(value).map_err(bad("state"))?;
                self.meta = true;
                self.office.applied = record.applied;
                self.office.time = record.time;
                self.office.quotas = record.quotas;
                self.office.malformed = record.malformed;
            }
            Kind::Progress => {
                let ProgressRecord { boot, last } = records::decode_all(value).map_err(bad("progress"))?;
                let progress = Progress { boot, last, dirty: false };
                self.office.servers.progress.insert(records::id_at(ids, 0), progress);
            }
            Kind::Enrolled => {}
            Kind::Server => {
                let record = records::decode_all::<ServerRecord<'_>>(value).map_err(bad("server"))?;
                let name = Name::new(&String::from_utf8_lossy(ids))?;
                let ServerRecord { address, incarnation, drained, .. } = record;
                let listed = address.map(|address| Listed { address: address.to_owned(), incarnation, drained });
                let (added_by, removed_by) = (record.added_by, record.removed_by);
                let (drained_by, undrained_by) = (record.drained_by, record.undrained_by);
                let named = Named { listed, added_by, removed_by, drained_by, undrained_by };
                self.office.servers.names.insert(name, named);
            }
            Kind::Retired => drop(self.office.servers.retired.insert(records::id_at(ids, 0))),
            Kind::Disk => {
                let incarnation = records::decode_all::<Incarnation>(value).map_err(bad("disk"))?;
                let disk = Nonce::from(records::id_at(ids, 0)) << 64 | Nonce::from(records::id_at(ids, 1));
                self.office.servers.disks.insert(disk, incarnation);
            }
            Kind::Registration => {
                let record = records::decode_all::<RegistrationRecord<'_>>(value).map_err(bad("registration"))?;
                let name = self.name(record.name)?;
                if self.office.registry.key_of(&name).is_some() {
                    return Err(LoadError::Inconsistent("a name is registered twice"));
                }
                let id = self.made(ids)?;
                self.names.insert(id, (name, record.nonce));
            }
            Kind::Inbox => {
                let record = records::decode_all(value).map_err(bad("inbox"))?;
                self.inbox(Id(records::id_at(ids, 0)), record)?;
            }
            Kind::Stream => {
                let record = records::decode_all(value).map_err(bad("stream"))?;
                let id = self.made(ids)?;
                self.stream(id, record)?;
            }
            Kind::Message => {
                let (record, content) = records::decode::<MessageRecord<'_>>(value).map_err(bad("message"))?;
                let expected = record.content_bytes as usize;
                if content.len() != expected {
                    return Err(bad("message")(BadRecord::Length { have: content.len(), expected }));
                }
                let id = self.made(ids)?;
                self.message(id, record)?;
            }
            Kind::Slot => {
                let message = records::decode_all::<MessageId>(value).map_err(bad("slot"))?;
                self.slot(Id(records::id_at(ids, 0)), records::id_at(ids, 1), message)?;
            }
            Kind::Channel => {
                let record = records::decode_all::<ChannelRecord<'_>>(value).map_err(bad("channel"))?;
                let id = self.made(ids)?;
                let name = self.name(record.name)?;
                if self.office.channels.id_of(&name).is_some() {
                    return Err(LoadError::Inconsistent("two channels have one name"));
                }
                let channel = Channel { name, nonce: record.nonce, members: Clients::new() };
                self.office.channels.insert(id, channel);
            }
            Kind::Member => {
                records::decode_all::<()>(value).map_err(bad("member"))?;
                self.member(Id(records::id_at(ids, 0)), Id(records::id_at(ids, 1)))?;
            }
            Kind::Subscription => {
                records::decode_all::<()>(value).map_err(bad("subscription"))?;
                let pattern = std::str::from_utf8(&ids[8..]).ok().filter(|pattern| is_pattern(pattern));
                let pattern = pattern.ok_or(LoadError::Inconsistent("a subscription has no pattern"))?;
                self.subscription(Id(records::id_at(ids, 0)), pattern)?;
            }
            Kind::Tracked => {
                let record = records::decode_all::<TrackedRecord>(value).map_err(bad("receipt"))?;
                self.tracked(Id(records::id_at(ids, 0)), record)?;
            }
            Kind::Scheduled => {
                let record = records::decode_all::<ScheduledRecord>(value).map_err(bad("scheduled message"))?;
                self.scheduled(Time(records::id_at(ids, 0)), Id(records::id_at(ids, 1)), record)?;
            }
            Kind::Settings => {
                let settings = records::decode_all::<InboxSettings>(value).map_err(bad("settings"))?;
                let key = self.office.registry.key(Id(records::id_at(ids, 0)));
                let key = key.ok_or(LoadError::Inconsistent("settings have no inbox"))?;
                enlisted(&mut self.office, key)?.settings = settings;
            }
            Kind::Kept => {
                let record = records::decode_all::<KeptRecord>(value).map_err(bad("kept message"))?;
                self.kept(Id(records::id_at(ids, 0)), records::id_at(ids, 1), record)?;
            }
        }
        self.last_key = Some(key);
        Ok(())
    }

    fn member(&mut self, id: Id, registration: Id) -> Result<(), LoadError> {
        let office = &mut self.office;
        let client = office.registry.key(registration);
        let (Some(key), Some(channel)) = (client, office.channels.get_mut(id)) else {
            return Err(LoadError::Inconsistent("somebody who is not there is in a channel that is, or the other way"));
        };
        channel.members.insert(registration, key);
        enlisted(office, key)?.channels.insert(id);
        Ok(())
    }

    fn subscription(&mut self, registration: Id, pattern: &str) -> Result<(), LoadError> {
        let office = &mut self.office;
        let key = office.registry.key(registration);
        let key = key.ok_or(LoadError::Inconsistent("a subscription has no registration"))?;
        let pattern: super::channels::Pattern = pattern.into();
        enlisted(office, key)?.patterns.insert(pattern.clone());
        office.channels.subscribe(pattern, registration, key);
        Ok(())
    }

    fn tracked(&mut self, message: MessageId, record: TrackedRecord) -> Result<(), LoadError> {
        let TrackedRecord { sender, stream, number, fate } = record;
        let key = self.messages.get(&message).copied();
        if !key.is_some_and(|key| self.office.messages.get(key).receipt()) {
            return Err(LoadError::Inconsistent("a receipt is to come for no message that is to have one"));
        }
        if let Some(owner) = self.office.registry.key(sender) {
            self.office.registry.get_mut(owner).inbox.reserved += 1;
        }
        self.office.tracked.insert(message, Tracked { sender, stream, number, fate });
        Ok(())
    }

    fn scheduled(&mut self, due: Time, message: MessageId, record: ScheduledRecord) -> Result<(), LoadError> {
        let ScheduledRecord { sender, to } = record;
        let Some(key) = self.messages.get(&message).copied() else {
            return Err(LoadError::Inconsistent("a message that is to come later is not there"));
        };
        let office = &mut self.office;
        let known = office.messages.get_mut(key);
        if known.inboxes > 0 {
            return Err(LoadError::Inconsistent("a message that is to come later waits in an inbox already"));
        }
        known.inboxes = 1;
        known.extra.get_or_insert_default().due = Some(due);
        let bytes = known.content_bytes;
        if let Some(sender) = office.registry.key(sender) {
            office.registry.get_mut(sender).scheduled += 1;
        }
        if let Addressees::Clients(registrations) = &to {
            for registration in registrations {
                if let Some(key) = office.registry.key(*registration) {
                    office.registry.get_mut(key).inbox.reserve(bytes);
                }
            }
        }
        office.scheduled.insert((due, message), Scheduled { key, sender, to });
        Ok(())
    }

    fn kept(&mut self, registration: Id, position: u64, record: KeptRecord) -> Result<(), LoadError> {
        let KeptRecord { message, until } = record;
        let office = &mut self.office;
        let (Some(client), Some(key)) = (office.registry.key(registration), self.messages.get(&message).copied())
        else {
            return Err(LoadError::Inconsistent("a message that is kept is not there, or its inbox is not"));
        };
        let known = office.messages.get_mut(key);
        known.extra.get_or_insert_default().kept += 1;
        let bytes = u64::from(known.content_bytes);
        let kept = &mut enlisted(office, client)?.kept;
        kept.messages.insert(position, KeptMessage { key, until });
        kept.bytes += bytes;
        if let Some(until) = until {
            office.keeping.insert((until, registration, position));
        }
        Ok(())
    }

    /// The id of something that an entry made. One that the log has yet to come to would be made a second time.
    fn made(&self, ids: &[u8]) -> Result<Id, LoadError> {
        let id = Id(records::id_at(ids, 0));
        if id.index() > self.office.applied {
            return Err(LoadError::Inconsistent("something was made by an entry behind the last one applied"));
        }
        Ok(id)
    }

    fn inbox(&mut self, id: Id, record: InboxRecord<'_>) -> Result<(), LoadError> {
        let (name, nonce) = self.names.remove(&id).ok_or(LoadError::Inconsistent("an inbox has no registration"))?;
        if self.office.registry.key_of(&name).is_some() {
            return Err(LoadError::Inconsistent("a name is registered twice"));
        }
        let reader = match record.reader {
            None => None,
            Some(ReaderRecord { nonce, window, present, home }) => {
                let home = home.map(|home| self.name(home)).transpose()?;
                Some(Reader { nonce, window, present, home })
            }
        };
        let inbox = Inbox::restored(record.floor, record.epoch, reader, record.marked, record.exposed);
        let client = Client {
            id,
            name,
            nonce,
            home: self.name(record.home)?,
            last_seen: record.last_seen,
            streams: BTreeMap::new(),
            inbox,
            enlisted: record.enlisted.map(|known| {
                let (changes, changed_by) = (known.changes, known.changed_by);
                Box::new(Enlisted { changes, changed_by, ..Enlisted::default() })
            }),
            scheduled: 0,
            dirty: false,
        };
        self.office.registry.insert(client);
        self.ends.insert(id, record.end);
        Ok(())
    }

    fn stream(&mut self, id: Id, record: OwnedStreamRecord) -> Result<(), LoadError> {
        let OwnedStreamRecord { registration, nonce, confirmed, used, checked, .. } = record;
        let OwnedStreamRecord { outcomes, unreached, collected, receipts, .. } = record;
        let registry = &mut self.office.registry;
        let owner = registry.key(registration).ok_or(LoadError::Inconsistent("a stream has no registration"))?;
        if collected > u64::MAX / 2 {
            return Err(LoadError::Inconsistent("more receipts were collected than can be"));
        }
        registry.get_mut(owner).inbox.reserved += receipts.len() as u64;
        let stream = Stream {
            id,
            owner,
            registration,
            nonce,
            confirmed,
            outcomes,
            unreached,
            collected,
            receipts,
            used,
            checked,
            dirty: false,
        };
        let key = self.office.streams.insert(stream);
        match registry.get_mut(owner).streams.insert(nonce, key) {
            None => Ok(()),
            Some(_) => Err(LoadError::Inconsistent("two streams were opened by one request")),
        }
    }

    fn message(&mut self, id: MessageId, record: MessageRecord<'_>) -> Result<(), LoadError> {
        let channel = record.channel.map(|channel| self.name(channel)).transpose()?;
        let message = Message {
            id,
            stream: record.stream,
            number: record.number,
            time: record.time,
            from: self.name(record.from)?,
            digest: record.digest,
            content_bytes: record.content_bytes,
            offset: 0,
            entry: NOT_HELD,
            inboxes: 0,
            extra: (channel.is_some() || record.receipt || record.notice.is_some() || record.expires.is_some()).then(
                || {
                    let MessageRecord { receipt, notice, expires, .. } = record;
                    Box::new(Extra { channel, receipt, notice, expires, ..Extra::default() })
                },
            ),
        };
        let key = self.office.messages.add(message);
        self.messages.insert(id, key);
        Ok(())
    }

    fn slot(&mut self, registration: Id, position: u64, message: MessageId) -> Result<(), LoadError> {
        let office = &mut self.office;
        let (Some(client), Some(end)) = (office.registry.key(registration), self.ends.get(&registration)) else {
            return Err(LoadError::Inconsistent("a slot has no inbox"));
        };
        let Some(key) = self.messages.get(&message) else {
            return Err(LoadError::Inconsistent("a slot has no message"));
        };
        let message = office.messages.get_mut(*key);
        message.inboxes += 1;
        let bytes = message.content_bytes;
        if let Some(expires) = message.expires() {
            let expiring = office.expiring.entry((expires, message.id)).or_default();
            expiring.key = *key;
            expiring.places.push((registration, position));
        }
        office.waiting += 1;
        office.waiting_bytes += u64::from(bytes);
        if office.registry.get_mut(client).inbox.restore_slot(position, *end, *key, bytes) {
            Ok(())
        } else {
            Err(LoadError::Inconsistent("a slot lies outside its inbox"))
        }
    }

    fn finish(mut self) -> Result<PostOffice, LoadError> {
        if !self.names.is_empty() {
            return Err(LoadError::Inconsistent("a registration has no inbox"));
        }
        if self.office.messages.iter().any(|message| message.inboxes == 0 && message.kept() == 0) {
            return Err(LoadError::Inconsistent("a message waits in no inbox"));
        }
        let receipts = self.office.messages.iter().filter(|message| message.receipt() && message.inboxes > 0);
        if receipts.count() != self.office.tracked.len() {
            return Err(LoadError::Inconsistent("a message that is to have a receipt is not tracked"));
        }
        for client in self.office.registry.iter_mut() {
            let end = self.ends.get(&client.id).copied().unwrap_or_default();
            if !client.inbox.restore_end(end) {
                return Err(LoadError::Inconsistent("an inbox does not begin with a message that waits"));
            }
        }
        self.office.changes = Changes::stored(self.office.applied);
        Ok(self.office)
    }

    /// The name, shared with all its other uses.
    fn name(&mut self, text: &str) -> Result<Name, BadName> {
        if let Some((name, ())) = self.known_names.get_key_value(text) {
            return Ok(name.clone());
        }
        let name = Name::new(text)?;
        self.known_names.insert(name.clone(), ());
        Ok(name)
    }
}

/// What a client has joined: there is such a record if there is anything.
fn enlisted(office: &mut PostOffice, key: u32) -> Result<&mut Enlisted, LoadError> {
    let known = office.registry.get_mut(key).enlisted.as_deref_mut();
    known.ok_or(LoadError::Inconsistent("a client has joined or set something and never changed anything"))
}
