//! Reading the state: what others may know of it.

use std::ops::Bound;

use bytes::Bytes;

use super::PostOffice;
use super::channels::Channel;
use super::registry::Client;
use super::servers::Listed;
use crate::wire::client::{ChannelRow, ClientRow, Delivery, Member};
use crate::wire::sharing::{Fate, InboxSettings};
use crate::wire::{
    Epoch, Incarnation, MessageId, Name, Nonce, Number, Origin, Position, Quotas, RegistrationId, SendOutcome,
    StreamId, Time,
};

/// A registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationView {
    /// Its id.
    pub registration: RegistrationId,
    /// The client's name.
    pub name: Name,
    /// The server it is, or was last, attached to.
    pub home: Name,
    /// When it last attached, detached, sent or acknowledged, by the cluster's clock.
    pub last_seen: Time,
    /// The epoch of the inbox.
    pub epoch: Epoch,
    /// Whether the epoch's reader is attached.
    pub attached: bool,
    /// Messages that wait.
    pub waiting: u64,
    /// Bytes that wait.
    pub waiting_bytes: u64,
}

/// An open stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamView {
    /// The sender's registration.
    pub registration: RegistrationId,
    /// The sender's name.
    pub name: Name,
    /// The last number that was used.
    pub last: Number,
    /// The client has confirmed the receipts up to here.
    pub confirmed: Number,
    /// When it was last used.
    pub used: Time,
}

/// The reading end of an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderView {
    /// The epoch in force; 0 if the inbox never had a reader.
    pub epoch: Epoch,
    /// Who reads.
    pub reading: Reading,
    /// Whether the epoch's reader is attached. A reader that has detached may still acknowledge what it has.
    pub attached: bool,
    /// The server it is, or was last, attached to.
    pub home: Name,
    /// Everything up to here is acknowledged.
    pub acknowledged: Position,
    /// The last position there is.
    pub end: Position,
    /// Unacknowledged deliveries that the reader holds at most; 0 without a reader.
    pub window: u32,
    /// Messages at positions below this one may have been seen by another process.
    pub redelivered_below: Position,
}

/// Who reads an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// It has no reader: it never had one, or the last one has detached.
    Nobody,
    /// A session, or one that was cut off and may come back.
    Session,
    /// Somebody without a session, who comes by any server.
    Apart,
}

/// A message that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Everything about it but its content.
    pub delivery: Delivery,
    /// Its content.
    pub content: Content,
    /// Its sender is to be told when it is acknowledged.
    pub asked: bool,
    /// Since when it waits: when it was accepted, or was to come.
    pub since: Time,
}

/// Where a content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Here. It shares its log entry's buffer.
    Memory(Bytes),
    /// In the checkpoint, in the record at [`super::content_key`], out of which [`super::content_of`] cuts it.
    Stored(MessageId),
}

/// Sums over the whole state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Registered clients.
    pub clients: u64,
    /// Open streams.
    pub streams: u64,
    /// Messages that wait, counted once for each inbox.
    pub waiting: u64,
    /// Bytes of content that wait, counted once for each inbox.
    pub waiting_bytes: u64,
    /// Bytes of log entries that are kept in memory for the contents in them.
    pub content_bytes_in_memory: u64,
    /// Malformed commands that were skipped, ever.
    pub malformed: u64,
    /// Channels.
    pub channels: u64,
    /// Messages whose sender is to be told what becomes of them.
    pub tracked: u64,
    /// Messages that are to be delivered later.
    pub scheduled: u64,
}

impl PostOffice {
    /// How many sends got the outcome that they had before, as far as this copy of the state has seen.
    pub fn repeats(&self) -> u64 {
        self.repeats
    }

    /// Places in inboxes that messages to many have taken since the last cut for a checkpoint. The log says little of them.
    pub fn fresh_places(&self) -> u64 {
        self.changes.places
    }

    /// Index of the last entry that was applied; 0 before the first.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The cluster's time.
    pub fn time(&self) -> Time {
        self.time
    }

    /// The quotas in force.
    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// The last batch of this very origin that was applied; 0 if none was.
    pub fn last_sequence(&self, origin: Origin) -> u64 {
        self.servers.last_sequence(origin)
    }

    /// When the next tick is worth proposing, if ever: the earliest time at which a message expires, is to be delivered or is
    /// kept no more, or a stream may have to be closed. That may turn out not to have been silent; then the tick only puts it
    /// behind in the order.
    pub fn next_due(&self) -> Option<Time> {
        let expires = self.expiring.first_key_value().map(|((expires, _), _)| *expires);
        let scheduled = self.scheduled.first_key_value().map(|((due, _), _)| *due);
        let kept = self.keeping.first().map(|(until, ..)| *until);
        [self.streams.next_due(self.quotas.stream_idle_ms), expires, scheduled, kept].into_iter().flatten().min()
    }

    /// The registration that holds a name.
    pub fn registration(&self, name: &str) -> Option<RegistrationView> {
        let client = self.registry.get(self.registry.key_of(name)?);
        Some(RegistrationView {
            registration: client.id,
            name: client.name.clone(),
            home: client.current_home().clone(),
            last_seen: client.last_seen,
            epoch: client.inbox.epoch(),
            attached: client.inbox.is_attached(),
            waiting: client.inbox.waiting(),
            waiting_bytes: client.inbox.waiting_bytes(),
        })
    }

    /// Who sends by an open stream, and how far it got.
    pub fn stream_owner(&self, stream: StreamId) -> Option<StreamView> {
        let stream = self.streams.find(stream)?;
        Some(StreamView {
            registration: stream.registration,
            name: self.registry.get(stream.owner).name.clone(),
            last: Number(stream.last()),
            confirmed: Number(stream.confirmed),
            used: stream.used,
        })
    }

    /// What became of a number, as long as the stream is open and the receipt is not confirmed.
    pub fn outcome(&self, stream: StreamId, number: Number) -> Option<SendOutcome> {
        self.streams.find(stream)?.outcome(number)
    }

    /// The reading end of a registration's inbox; `None` if the registration has ended.
    pub fn reader(&self, registration: RegistrationId) -> Option<ReaderView> {
        let client = self.registry.find(registration)?;
        let inbox = &client.inbox;
        Some(ReaderView {
            epoch: inbox.epoch(),
            reading: match inbox.reader() {
                None => Reading::Nobody,
                Some(reader) if reader.home.is_some() => Reading::Session,
                Some(_) => Reading::Apart,
            },
            attached: inbox.is_attached(),
            home: client.current_home().clone(),
            acknowledged: inbox.floor(),
            end: Position(inbox.end()),
            window: inbox.reader().map_or(0, |reader| reader.window),
            redelivered_below: Position(inbox.marked() + 1),
        })
    }

    /// Messages at position `from` and above that are not acknowledged, positions ascending: up to `max_messages`, and
    /// up to `max_bytes` of content, but one in any case.
    pub fn waiting(
        &self,
        registration: RegistrationId,
        from: Position,
        max_messages: usize,
        max_bytes: usize,
    ) -> Vec<Waiting> {
        let Some(client) = self.registry.find(registration) else { return Vec::new() };
        let mut bytes = 0usize;
        let mut found = Vec::new();
        for (position, key) in client.inbox.messages_from(from.0) {
            bytes += self.messages.get(key).content_bytes as usize;
            if !found.is_empty() && (found.len() >= max_messages || bytes > max_bytes) {
                break;
            }
            found.push(self.show(client, position, key));
        }
        found
    }

    /// The messages at position `from` and above that an inbox keeps although they are acknowledged, positions ascending:
    /// up to `max_messages`, and up to `max_bytes` of content, but one in any case; and whether there are more. `None` if
    /// nobody of that name is registered.
    pub fn history(
        &self,
        name: &str,
        from: Position,
        max_messages: usize,
        max_bytes: usize,
    ) -> Option<(RegistrationId, Vec<Waiting>, bool)> {
        let client = self.registry.get(self.registry.key_of(name)?);
        let mut bytes = 0usize;
        let mut found = Vec::new();
        for (position, kept) in client.enlisted.iter().flat_map(|enlisted| enlisted.kept.messages.range(from.0..)) {
            bytes += self.messages.get(kept.key).content_bytes as usize;
            if !found.is_empty() && (found.len() >= max_messages || bytes > max_bytes) {
                return Some((client.id, found, true));
            }
            let mut kept = self.show(client, Position(*position), kept.key);
            // It is delivered to nobody any more.
            kept.delivery.redelivered = false;
            found.push(kept);
        }
        Some((client.id, found, false))
    }

    /// What the owner of an inbox has set for it, how many messages it keeps, and how many changes of such things there were;
    /// `None` if nobody of that name is registered.
    pub fn inbox_settings_of(&self, name: &str) -> Option<(InboxSettings, u64, u64)> {
        let client = self.registry.get(self.registry.key_of(name)?);
        let known = client.enlisted.as_ref();
        Some(known.map_or((InboxSettings::default(), 0, client.id.0), |enlisted| {
            (enlisted.settings, enlisted.kept.messages.len() as u64, enlisted.changes)
        }))
    }

    fn show(&self, client: &Client, position: Position, key: u32) -> Waiting {
        let message = self.messages.get(key);
        let delivery = Delivery {
            position,
            message: message.id,
            from: message.from.clone(),
            stream: message.stream,
            number: message.number,
            time: message.time,
            redelivered: position.0 <= client.inbox.marked(),
            content_bytes: message.content_bytes,
            channel: message.channel().cloned(),
            notice: message.notice(),
        };
        let content = self.messages.content(message).map_or(Content::Stored(message.id), Content::Memory);
        Waiting { delivery, content, asked: message.receipt(), since: message.since() }
    }

    /// How many positions from `from` to `to`, both included, exist and are not acknowledged. Takes constant time unless
    /// something was acknowledged out of order.
    pub fn unacknowledged(&self, registration: RegistrationId, from: Position, to: Position) -> u64 {
        self.registry.find(registration).map_or(0, |client| client.inbox.unacknowledged(from.0, to.0))
    }

    /// Up to `limit` clients after a name, names ascending, and whether there are more. `online` says that a reader is
    /// attached; the server corrects it for homes that are down.
    pub fn who(&self, after: Option<&Name>, limit: usize) -> (Vec<ClientRow>, bool) {
        let mut clients = self.registry.after(after);
        let rows = clients.by_ref().take(limit).map(Client::row).collect();
        (rows, clients.next().is_some())
    }

    /// Up to `limit` channels after a name, names ascending, and whether there are more.
    pub fn channels(&self, after: Option<&Name>, limit: usize) -> (Vec<ChannelRow>, bool) {
        let mut channels = self.channels.after(after);
        let row = |channel: &Channel| ChannelRow { name: channel.name.clone(), members: channel.members.len() as u64 };
        let rows = channels.by_ref().take(limit).map(row).collect();
        (rows, channels.next().is_some())
    }

    /// Up to `limit` members of a channel after a registration, ascending, and whether there are more; `None` if there is no
    /// such channel.
    pub fn members(&self, channel: &str, after: Option<RegistrationId>, limit: usize) -> Option<(Vec<Member>, bool)> {
        let channel = self.channels.get(self.channels.id_of(channel)?)?;
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut members = channel.members.range((after, Bound::Unbounded));
        let row = |(registration, key): (&RegistrationId, &u32)| Member {
            name: self.registry.get(*key).name.clone(),
            registration: *registration,
        };
        let rows = members.by_ref().take(limit).map(row).collect();
        Some((rows, members.next().is_some()))
    }

    /// What a client has joined and subscribed to: how many such changes there were, the channels, names ascending, and the
    /// patterns. `None` if it is not registered.
    pub fn enlisted(&self, name: &str) -> Option<(u64, Vec<Name>, Vec<String>)> {
        let client = self.registry.get(self.registry.key_of(name)?);
        let Some(enlisted) = &client.enlisted else { return Some((client.id.0, Vec::new(), Vec::new())) };
        let channels = enlisted.channels.iter().filter_map(|id| self.channels.get(*id));
        let mut channels: Vec<Name> = channels.map(|channel| channel.name.clone()).collect();
        channels.sort_unstable();
        Some((enlisted.changes, channels, enlisted.patterns.iter().map(|pattern| pattern.to_string()).collect()))
    }

    /// The delivered receipts that wait for a stream's client, each with its place among all of the stream's, counted from 1;
    /// `None` if the stream is closed.
    pub fn delivered_receipts(&self, stream: StreamId) -> Option<Vec<(u64, Number, Fate)>> {
        let open = self.streams.find(stream)?;
        let receipts = (open.collected + 1..).zip(&open.receipts);
        Some(receipts.map(|(sequence, concluded)| (sequence, concluded.number, concluded.fate)).collect())
    }

    /// The servers that are anybody's home, names ascending.
    pub fn homes(&self) -> impl Iterator<Item = &Name> {
        self.registry.homes()
    }

    /// Sums over the whole state.
    pub fn totals(&self) -> Totals {
        Totals {
            clients: self.registry.len(),
            streams: self.streams.len(),
            waiting: self.waiting,
            waiting_bytes: self.waiting_bytes,
            content_bytes_in_memory: self.messages.held_bytes(),
            malformed: self.malformed,
            channels: self.channels.len(),
            tracked: self.tracked.len() as u64,
            scheduled: self.scheduled.len() as u64,
        }
    }

    /// The servers that belong to the cluster, names ascending.
    pub fn servers(&self) -> impl Iterator<Item = (&Name, &Listed)> {
        self.servers.listed()
    }

    /// A server that belongs to the cluster.
    pub fn server(&self, name: &str) -> Option<&Listed> {
        self.servers.names.get(name)?.listed.as_ref()
    }

    /// Whether that server belongs to the cluster and is drained.
    pub fn is_drained(&self, name: &str) -> bool {
        self.server(name).is_some_and(|server| server.drained)
    }

    /// Whether a disk that was once enrolled counts no more.
    pub fn has_retired(&self, disk: Nonce) -> bool {
        self.servers.disks.get(&disk).is_some_and(|incarnation| self.is_retired(*incarnation))
    }

    /// Whether a disk was replaced by a newer one of its server, or its server removed.
    pub fn is_retired(&self, incarnation: Incarnation) -> bool {
        self.servers.retired.contains(&incarnation)
    }
}
