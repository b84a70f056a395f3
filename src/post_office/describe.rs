//! The state as records: what a checkpoint holds, and what the digest is made of.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::PostOffice;
use super::checkpoint::Change;
use super::messages::Message;
use super::records::{
    InboxRecord, Kind, MessageRecord, MetaRecord, ProgressRecord, RegistrationRecord, ServerRecord, StreamRecord,
    encode, key, key_of_bytes,
};
use super::registry::Client;
use super::servers::{Progress, Servers};
use super::streams::Stream;
use crate::wire::{Incarnation, MessageId, Position, RegistrationId};

pub(super) fn meta(office: &PostOffice) -> Change {
    let record =
        MetaRecord { applied: office.applied, time: office.time, quotas: office.quotas, malformed: office.malformed };
    Change::put(key(Kind::Meta, &[]), encode(&record))
}

pub(super) fn progress(incarnation: Incarnation, progress: &Progress) -> Change {
    let record = ProgressRecord { boot: progress.boot, last: progress.last };
    Change::put(key(Kind::Progress, &[incarnation]), encode(&record))
}

pub(super) fn enrolments(servers: &Servers, mut put: impl FnMut(Change)) {
    for (name, named) in &servers.names {
        let listed = named.listed.as_ref();
        let record = ServerRecord {
            address: listed.map(|listed| &*listed.address),
            incarnation: listed.and_then(|listed| listed.incarnation),
            added_by: named.added_by,
            removed_by: named.removed_by,
        };
        put(Change::put(key_of_bytes(Kind::Server, name.as_bytes()), encode(&record)));
    }
    for incarnation in &servers.retired {
        put(Change::put(key(Kind::Retired, &[*incarnation]), encode(&())));
    }
    for (disk, incarnation) in &servers.disks {
        put(Change::put(key_of_bytes(Kind::Disk, &disk.to_be_bytes()), encode(incarnation)));
    }
}

pub(super) fn registration(client: &Client) -> Change {
    let record = RegistrationRecord { name: &client.name, nonce: client.nonce };
    Change::put(key(Kind::Registration, &[client.id.0]), encode(&record))
}

pub(super) fn inbox(client: &Client) -> Change {
    let inbox = &client.inbox;
    let record = InboxRecord {
        home: &client.home,
        last_seen: client.last_seen,
        floor: inbox.floor().0,
        end: inbox.end(),
        epoch: inbox.epoch(),
        reader: inbox.reader().map(|reader| (reader.nonce, reader.window, reader.present)),
        marked: inbox.marked(),
        exposed: inbox.exposed(),
    };
    Change::put(key(Kind::Inbox, &[client.id.0]), encode(&record))
}

pub(super) fn slot(registration: RegistrationId, position: Position, message: MessageId) -> Change {
    Change::put(key(Kind::Slot, &[registration.0, position.0]), encode(&message))
}

pub(super) fn stream(stream: &Stream) -> Change {
    let record = StreamRecord {
        registration: stream.registration,
        nonce: stream.nonce,
        confirmed: stream.confirmed,
        used: stream.used,
        checked: stream.checked,
        outcomes: &stream.outcomes,
    };
    Change::put(key(Kind::Stream, &[stream.id.0]), encode(&record))
}

pub(super) fn message(message: &Message, content: Bytes) -> Change {
    let record = MessageRecord {
        stream: message.stream,
        number: message.number,
        time: message.time,
        from: &message.from,
        digest: message.digest,
        content_bytes: message.content_bytes,
    };
    Change::Put { key: key(Kind::Message, &[message.id.0]), head: encode(&record), content }
}

impl PostOffice {
    /// A digest of the whole logical state: the sum, modulo 2⁶⁴, of the XXH3 of every record that a full checkpoint
    /// would hold (key, a zero byte, value without content). A sum, so that no order matters; contents are in it by
    /// their digest, so that it does not matter where they are. Takes time in proportion to the state.
    pub fn digest(&self) -> u64 {
        let mut sum = 0u64;
        let mut buffer = Vec::new();
        let mut add = |change: Change| {
            if let Change::Put { key, head, .. } = change {
                buffer.clear();
                buffer.extend_from_slice(&key);
                buffer.push(0);
                buffer.extend_from_slice(&head);
                sum = sum.wrapping_add(xxh3_64(&buffer));
            }
        };
        add(meta(self));
        self.servers.progress.iter().for_each(|(incarnation, known)| add(progress(*incarnation, known)));
        enrolments(&self.servers, &mut add);
        for client in self.registry.iter() {
            add(registration(client));
            add(inbox(client));
            for (position, key) in client.inbox.messages_from(0) {
                add(slot(client.id, position, self.messages.get(key).id));
            }
        }
        self.streams.iter().for_each(|known| add(stream(known)));
        self.messages.iter().for_each(|known| add(message(known, Bytes::new())));
        sum
    }
}
