//! The state as records: what a checkpoint holds, and what the digest is made of.

use bytes::Bytes;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::PostOffice;
use super::channels::{Channel, ChannelId};
use super::checkpoint::{Change, Touched};
use super::kept::{KeptMessage, KeptRecord};
use super::messages::Message;
use super::receipts::Tracked;
use super::records::{
    self, ChannelRecord, EnlistedRecord, InboxRecord, Kind, MessageRecord, MetaRecord, ProgressRecord, ReaderRecord,
    RegistrationRecord, ScheduledRecord, ServerRecord, StreamRecord, TrackedRecord,
};
use super::registry::Client;
use super::scheduled::Scheduled;
use super::servers::{Progress, Servers};
use super::streams::Stream;
use crate::wire::sharing::InboxSettings;
use crate::wire::{Incarnation, MessageId, Position, RegistrationId, Time};

/// What a record is found by, behind its kind.
pub(super) enum Id<'a> {
    Numbers(&'a [u64]),
    Bytes(&'a [u8]),
}

/// Where records go.
pub(super) trait Records {
    fn put(&mut self, kind: Kind, id: Id<'_>, record: &impl Serialize, content: Bytes);
}

/// Changes to a checkpoint.
impl Records for Vec<Change> {
    fn put(&mut self, kind: Kind, id: Id<'_>, record: &impl Serialize, content: Bytes) {
        let (mut key, mut head) = (Vec::new(), Vec::new());
        put_key(&mut key, kind, id);
        records::put(&mut head, record);
        self.push(Change::Put { key, head, content });
    }
}

/// See [`PostOffice::digest`].
#[derive(Debug, Default)]
struct Digest {
    sum: u64,
    /// The record in hand; kept for its allocation, since there are as many records as there is state.
    buffer: Vec<u8>,
}

impl Records for Digest {
    fn put(&mut self, kind: Kind, id: Id<'_>, record: &impl Serialize, _: Bytes) {
        self.buffer.clear();
        put_key(&mut self.buffer, kind, id);
        self.buffer.push(0);
        records::put(&mut self.buffer, record);
        self.sum = self.sum.wrapping_add(xxh3_64(&self.buffer));
    }
}

fn put_key(buffer: &mut Vec<u8>, kind: Kind, id: Id<'_>) {
    match id {
        Id::Numbers(ids) => records::put_key(buffer, kind, ids),
        Id::Bytes(bytes) => records::put_key_of_bytes(buffer, kind, bytes),
    }
}

pub(super) fn meta(office: &PostOffice, to: &mut impl Records) {
    let record =
        MetaRecord { applied: office.applied, time: office.time, quotas: office.quotas, malformed: office.malformed };
    to.put(Kind::Meta, Id::Numbers(&[]), &record, Bytes::new());
}

pub(super) fn progress(incarnation: Incarnation, progress: &Progress, to: &mut impl Records) {
    let record = ProgressRecord { boot: progress.boot, last: progress.last };
    to.put(Kind::Progress, Id::Numbers(&[incarnation]), &record, Bytes::new());
}

pub(super) fn enrolments(servers: &Servers, to: &mut impl Records) {
    for (name, named) in &servers.names {
        let listed = named.listed.as_ref();
        let record = ServerRecord {
            address: listed.map(|listed| &*listed.address),
            incarnation: listed.and_then(|listed| listed.incarnation),
            added_by: named.added_by,
            removed_by: named.removed_by,
            drained: listed.is_some_and(|listed| listed.drained),
            drained_by: named.drained_by,
            undrained_by: named.undrained_by,
        };
        to.put(Kind::Server, Id::Bytes(name.as_bytes()), &record, Bytes::new());
    }
    for incarnation in &servers.retired {
        to.put(Kind::Retired, Id::Numbers(&[*incarnation]), &(), Bytes::new());
    }
    for (disk, incarnation) in &servers.disks {
        to.put(Kind::Disk, Id::Bytes(&disk.to_be_bytes()), incarnation, Bytes::new());
    }
}

pub(super) fn registration(client: &Client, to: &mut impl Records) {
    let record = RegistrationRecord { name: &client.name, nonce: client.nonce };
    to.put(Kind::Registration, Id::Numbers(&[client.id.0]), &record, Bytes::new());
}

pub(super) fn inbox(client: &Client, to: &mut impl Records) {
    let inbox = &client.inbox;
    let record = InboxRecord {
        home: &client.home,
        last_seen: client.last_seen,
        floor: inbox.floor().0,
        end: inbox.end(),
        epoch: inbox.epoch(),
        reader: inbox.reader().map(|reader| ReaderRecord {
            nonce: reader.nonce,
            window: reader.window,
            present: reader.present,
            home: reader.home.as_deref(),
        }),
        marked: inbox.marked(),
        exposed: inbox.exposed(),
        enlisted: client
            .enlisted
            .as_ref()
            .map(|enlisted| EnlistedRecord { changes: enlisted.changes, changed_by: enlisted.changed_by }),
    };
    to.put(Kind::Inbox, Id::Numbers(&[client.id.0]), &record, Bytes::new());
}

pub(super) fn slot(registration: RegistrationId, position: Position, message: MessageId, to: &mut impl Records) {
    to.put(Kind::Slot, Id::Numbers(&[registration.0, position.0]), &message, Bytes::new());
}

pub(super) fn stream(stream: &Stream, to: &mut impl Records) {
    let record = StreamRecord {
        registration: stream.registration,
        nonce: stream.nonce,
        confirmed: stream.confirmed,
        used: stream.used,
        checked: stream.checked,
        outcomes: &stream.outcomes,
        unreached: &stream.unreached,
        collected: stream.collected,
        receipts: &stream.receipts,
    };
    to.put(Kind::Stream, Id::Numbers(&[stream.id.0]), &record, Bytes::new());
}

pub(super) fn message(message: &Message, content: Bytes, to: &mut impl Records) {
    let record = MessageRecord {
        stream: message.stream,
        number: message.number,
        time: message.time,
        from: &message.from,
        digest: message.digest,
        content_bytes: message.content_bytes,
        channel: message.channel().map(|channel| &**channel),
        receipt: message.receipt(),
        notice: message.notice(),
        expires: message.expires(),
    };
    to.put(Kind::Message, Id::Numbers(&[message.id.0]), &record, content);
}

fn channel(id: ChannelId, channel: &Channel, to: &mut impl Records) {
    let record = ChannelRecord { name: &channel.name, nonce: channel.nonce };
    to.put(Kind::Channel, Id::Numbers(&[id.0]), &record, Bytes::new());
}

fn member(channel: ChannelId, registration: RegistrationId, to: &mut impl Records) {
    to.put(Kind::Member, Id::Numbers(&[channel.0, registration.0]), &(), Bytes::new());
}

fn subscription(registration: RegistrationId, pattern: &str, to: &mut impl Records) {
    to.put(Kind::Subscription, Id::Bytes(&subscription_id(registration, pattern)), &(), Bytes::new());
}

fn subscription_id(registration: RegistrationId, pattern: &str) -> Vec<u8> {
    [&registration.0.to_be_bytes(), pattern.as_bytes()].concat()
}

fn tracked(message: MessageId, tracked: &Tracked, to: &mut impl Records) {
    let Tracked { sender, stream, number, fate } = *tracked;
    let record = TrackedRecord { sender, stream, number, fate };
    to.put(Kind::Tracked, Id::Numbers(&[message.0]), &record, Bytes::new());
}

fn scheduled(due: Time, message: MessageId, scheduled: &Scheduled, to: &mut impl Records) {
    let record = ScheduledRecord { sender: scheduled.sender, to: scheduled.to.clone() };
    to.put(Kind::Scheduled, Id::Numbers(&[due.0, message.0]), &record, Bytes::new());
}

fn settings(client: &Client, to: &mut impl Records) {
    let settings = client.enlisted.as_ref().map(|enlisted| enlisted.settings).unwrap_or_default();
    if settings != InboxSettings::default() {
        to.put(Kind::Settings, Id::Numbers(&[client.id.0]), &settings, Bytes::new());
    }
}

fn kept(office: &PostOffice, registration: RegistrationId, position: u64, kept: &KeptMessage, to: &mut impl Records) {
    let record = KeptRecord { message: office.messages.get(kept.key).id, until: kept.until };
    to.put(Kind::Kept, Id::Numbers(&[registration.0, position]), &record, Bytes::new());
}

/// The change that brings a checkpoint to where the state is.
pub(super) fn touched(office: &PostOffice, what: &Touched, to: &mut Vec<Change>) {
    let before = to.len();
    let key = match what {
        Touched::Channel(id) => {
            office.channels.get(*id).into_iter().for_each(|known| channel(*id, known, to));
            records::key(Kind::Channel, &[id.0])
        }
        Touched::Member(id, registration) => {
            if office.channels.get(*id).is_some_and(|known| known.members.contains_key(registration)) {
                member(*id, *registration, to);
            }
            records::key(Kind::Member, &[id.0, registration.0])
        }
        Touched::Subscription(registration, pattern) => {
            let enlisted = office.registry.find(*registration).and_then(|client| client.enlisted.as_ref());
            if enlisted.is_some_and(|enlisted| enlisted.patterns.contains(pattern)) {
                subscription(*registration, pattern, to);
            }
            let mut key = Vec::new();
            records::put_key_of_bytes(&mut key, Kind::Subscription, &subscription_id(*registration, pattern));
            key
        }
        Touched::Tracked(message) => {
            office.tracked.get(message).into_iter().for_each(|known| tracked(*message, known, to));
            records::key(Kind::Tracked, &[message.0])
        }
        Touched::Scheduled(due, message) => {
            let known = office.scheduled.get(&(*due, *message));
            known.into_iter().for_each(|known| scheduled(*due, *message, known, to));
            records::key(Kind::Scheduled, &[due.0, message.0])
        }
        Touched::Settings(registration) => {
            office.registry.find(*registration).into_iter().for_each(|client| settings(client, to));
            records::key(Kind::Settings, &[registration.0])
        }
        Touched::Kept(registration, position) => {
            let known = office.registry.find(*registration).and_then(|client| client.kept(*position));
            known.into_iter().for_each(|known| kept(office, *registration, *position, known, to));
            records::key(Kind::Kept, &[registration.0, *position])
        }
    };
    if to.len() == before {
        to.push(Change::Remove { key });
    }
}

/// How far the digest of a state has been computed: see [`PostOffice::digest_some`].
#[derive(Debug, Default)]
pub struct Digesting {
    applied: u64,
    digest: Digest,
    place: Place,
}

/// What comes next.
#[derive(Debug, Default)]
enum Place {
    #[default]
    Beginning,
    /// The client behind this many others in the registry, from this position of its inbox.
    Client(usize, u64),
    Stream(usize),
    Message(usize),
    /// The first one with this id or a greater one.
    Channel(ChannelId),
    Tracked(MessageId),
    /// The first one with this time and id or greater ones.
    Scheduled(Time, MessageId),
    Done,
}

impl Digesting {
    /// Whether what was read so far is of another state than the one that is there after entry `applied`.
    pub fn is_of_before(&self, applied: u64) -> bool {
        self.applied != applied
    }
}

impl PostOffice {
    /// A digest of the whole logical state: the sum, modulo 2⁶⁴, of the XXH3 of every record that a full checkpoint
    /// would hold (key, a zero byte, value without content). A sum, so that no order matters; contents are in it by
    /// their digest, so that it does not matter where they are. Takes time in proportion to the state.
    pub fn digest(&self) -> u64 {
        let mut digesting = Digesting::default();
        loop {
            if let Some(digest) = self.digest_some(&mut digesting, self.applied, usize::MAX) {
                return digest;
            }
        }
    }

    /// Goes on computing [`Self::digest`], over about so many records, and gives it at the end. `applied` is the last entry
    /// that is in the state, whatever it was: if there was one since the last call it begins anew. So whoever must not hold
    /// the state up for long asks again and again, and comes to the end once nothing is applied for a while.
    pub fn digest_some(&self, digesting: &mut Digesting, applied: u64, records: usize) -> Option<u64> {
        if digesting.applied != applied {
            *digesting = Digesting { applied, ..Digesting::default() };
        }
        let mut left = records;
        while left > 0 {
            let (place, read) = self.digest_at(digesting, left);
            digesting.place = place;
            left = left.saturating_sub(read.max(1));
            if let Place::Done = digesting.place {
                return Some(digesting.digest.sum);
            }
        }
        None
    }

    /// Adds what is at the place. Gives the next one, and how many records that were.
    fn digest_at(&self, digesting: &mut Digesting, most: usize) -> (Place, usize) {
        let to = &mut digesting.digest;
        match digesting.place {
            Place::Beginning => {
                meta(self, to);
                self.servers.progress.iter().for_each(|(incarnation, known)| progress(*incarnation, known, to));
                enrolments(&self.servers, to);
                (Place::Client(0, 0), 1)
            }
            Place::Client(place, from) => {
                let Some((place, client)) = self.registry.at_or_after(place) else { return (Place::Stream(0), 0) };
                if from == 0 {
                    registration(client, to);
                    inbox(client, to);
                    if let Some(enlisted) = &client.enlisted {
                        enlisted.channels.iter().for_each(|id| member(*id, client.id, to));
                        enlisted.patterns.iter().for_each(|pattern| subscription(client.id, pattern, to));
                        settings(client, to);
                        let messages = enlisted.kept.messages.iter();
                        messages.for_each(|(position, known)| kept(self, client.id, *position, known, to));
                    }
                }
                let mut read = 0;
                for (position, key) in client.inbox.messages_from(from) {
                    if read == most {
                        return (Place::Client(place, position.0), read);
                    }
                    read += 1;
                    slot(client.id, position, self.messages.get(key).id, to);
                }
                (Place::Client(place + 1, 0), read)
            }
            Place::Stream(place) => {
                let Some((place, known)) = self.streams.at_or_after(place) else { return (Place::Message(0), 0) };
                stream(known, to);
                (Place::Stream(place + 1), 1)
            }
            Place::Message(place) => {
                let Some((place, known)) = self.messages.at_or_after(place) else {
                    return (Place::Channel(ChannelId::default()), 0);
                };
                message(known, Bytes::new(), to);
                (Place::Message(place + 1), 1)
            }
            Place::Channel(id) => {
                let Some((id, known)) = self.channels.at_or_after(id) else {
                    return (Place::Tracked(MessageId::default()), 0);
                };
                channel(id, known, to);
                (Place::Channel(crate::wire::Id(id.0 + 1)), 1)
            }
            Place::Tracked(message) => {
                let Some((message, known)) = self.tracked.range(message..).next() else {
                    return (Place::Scheduled(Time(0), MessageId::default()), 0);
                };
                tracked(*message, known, to);
                (Place::Tracked(crate::wire::Id(message.0 + 1)), 1)
            }
            Place::Scheduled(due, message) => {
                let Some(((due, message), known)) = self.scheduled.range((due, message)..).next() else {
                    return (Place::Done, 0);
                };
                scheduled(*due, *message, known, to);
                (Place::Scheduled(*due, crate::wire::Id(message.0 + 1)), 1)
            }
            Place::Done => (Place::Done, 0),
        }
    }
}
