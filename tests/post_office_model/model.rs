//! The post office as somebody would write it who cares about nothing but being right: lists that are searched, and
//! nothing is ever forgotten that need not be.

use std::collections::{BTreeMap, BTreeSet};

use restante::limits;
use restante::post_office::{Answer, BatchVerdict, Effect};
use restante::wire::client::SendFailure;
use restante::wire::command::Command;
use restante::wire::sharing::{Fate, InboxSettings, Notice};
use restante::wire::{
    Epoch, Id, Name, Nonce, Number, Origin, Position, Quotas, RegistrationId, SendOutcome, SendRefusal, StreamId,
};

use super::sharing::Later;

pub type Told = Vec<Effect<'static>>;

#[derive(Debug, Clone)]
pub struct Mail {
    pub id: Id,
    pub stream: StreamId,
    pub number: u64,
    pub time: u64,
    pub from: String,
    pub content: Vec<u8>,
    pub acknowledged: bool,
    pub channel: Option<String>,
    pub notice: Option<Notice>,
    pub expires: Option<u64>,
}

#[derive(Debug, Clone)]
pub struct Client {
    pub id: RegistrationId,
    pub name: String,
    pub nonce: Nonce,
    pub home: String,
    pub last_seen: u64,
    pub epoch: u64,
    pub reader: Option<(Nonce, u32)>,
    /// The reader's connection stands, or it needs none.
    pub present: bool,
    /// The server that its session is at; `None` for a reader without a session.
    pub at: Option<String>,
    /// Everything that ever arrived; the first one is at position 1.
    pub mail: Vec<Mail>,
    /// Positions that are redeliveries for whoever reads now, and those that become so if another process comes.
    pub marked: BTreeSet<u64>,
    pub exposed: BTreeSet<u64>,
    /// Changes of what it has joined, and the request that made the last one.
    pub changes: u64,
    pub changed_by: Nonce,
    pub patterns: BTreeSet<String>,
    pub settings: InboxSettings,
    /// Acknowledged messages that are kept: position and until when.
    pub kept: Vec<(u64, Mail, Option<u64>)>,
}

#[derive(Debug, Clone)]
pub struct Channel {
    pub id: Id,
    pub name: String,
    pub nonce: Nonce,
    pub members: BTreeSet<RegistrationId>,
}

/// A message whose sender is to be told.
#[derive(Debug, Clone)]
pub struct Tracked {
    pub message: Id,
    pub sender: RegistrationId,
    pub stream: StreamId,
    pub number: u64,
    pub fate: Fate,
    pub left: u32,
}

impl Client {
    pub fn waiting(&self) -> Vec<(u64, &Mail)> {
        (1u64..).zip(&self.mail).filter(|(_, mail)| !mail.acknowledged).collect()
    }

    pub fn waiting_bytes(&self) -> u64 {
        self.waiting().iter().map(|(_, mail)| mail.content.len() as u64).sum()
    }

    pub fn floor(&self) -> u64 {
        self.mail.iter().take_while(|mail| mail.acknowledged).count() as u64
    }

    /// Where its session reads, or where it was last or is said to be.
    pub fn home(&self) -> &str {
        self.session().unwrap_or(&self.home)
    }

    pub fn session(&self) -> Option<&str> {
        self.at.as_deref().filter(|_| self.present)
    }

    /// Its session is gone if it is at that server.
    pub fn lose(&mut self, home: &str, told: &mut Told) -> bool {
        let lost = self.session() == Some(home);
        if lost {
            self.expose_window();
            self.present = false;
            let home = Name::new(home).expect("it was checked");
            told.push(Effect::Left { registration: self.id, epoch: Epoch(self.epoch), home });
        }
        lost
    }

    /// Gives the messages that were not acknowledged before.
    pub fn acknowledge(
        &mut self,
        (time, bytes_max): (u64, u64),
        up_to: Position,
        ranges: &[(Position, Position)],
        told: &mut Told,
    ) -> Vec<Id> {
        let mut acknowledged = Vec::new();
        let mut kept = Vec::new();
        for (position, mail) in (1u64..).zip(&mut self.mail) {
            let named = |(from, to): &(Position, Position)| from.0 <= position && position <= to.0;
            if !mail.acknowledged && (position <= up_to.0 || ranges.iter().any(named)) {
                mail.acknowledged = true;
                acknowledged.push(mail.id);
                kept.push((position, mail.clone()));
            }
        }
        kept.retain(|(_, mail)| self.settings.keep_messages > 0 && mail.notice.is_none());
        if !kept.is_empty() {
            kept.into_iter().for_each(|(position, mail)| self.keep(position, mail, time));
            self.trim(bytes_max);
        }
        let (registration, epoch) = (self.id, Epoch(self.epoch));
        told.push(Effect::Acknowledged { registration, epoch, up_to: Position(self.floor()) });
        acknowledged
    }

    pub fn expose_window(&mut self) {
        if let Some((_, window)) = self.reader.filter(|_| self.present) {
            let seen: Vec<u64> = self.waiting().iter().take(window as usize).map(|(position, _)| *position).collect();
            self.exposed.extend(seen);
        }
    }
}

#[derive(Debug, Clone)]
pub struct Stream {
    pub id: StreamId,
    pub owner: RegistrationId,
    pub nonce: Nonce,
    /// Recipients and terms, content and outcome of every number from 1 on.
    pub sends: Vec<(String, Vec<u8>, SendOutcome)>,
    /// Every delivered receipt that came while it was open, and how many were collected.
    pub receipts: Vec<(Id, u64, Fate)>,
    pub collected: u64,
    pub confirmed: u64,
    pub used: u64,
}

#[derive(Debug, Clone, Default)]
pub struct Model {
    pub time: u64,
    pub quotas: Quotas,
    pub malformed: u64,
    pub boots: BTreeMap<u64, (u64, u64)>,
    pub clients: Vec<Client>,
    pub streams: Vec<Stream>,
    pub channels: Vec<Channel>,
    pub tracked: Vec<Tracked>,
    pub later: Vec<Later>,
    /// Every disk that was ever enrolled: server, incarnation, disk.
    pub enrolled: Vec<(String, u64, Nonce)>,
    /// The servers that belong to the cluster: name, address, incarnation.
    pub servers: Vec<(String, String, Option<u64>)>,
    /// Names that were removed, and the last requests that changed each name.
    pub removed: BTreeSet<String>,
    pub added_by: BTreeMap<String, Nonce>,
    pub removed_by: BTreeMap<String, Nonce>,
    /// Servers that are drained, and the last requests that changed that, by name and whether they drained it.
    pub drained: BTreeSet<String>,
    pub drained_by: BTreeMap<(String, bool), Nonce>,
    pub retired: BTreeSet<u64>,
}

impl Model {
    pub fn batch(&mut self, origin: Origin, sequence: u64) -> BatchVerdict {
        let (boot, last) = self.boots.get(&origin.incarnation).copied().unwrap_or((origin.boot, 0));
        let last = if origin.boot > boot { 0 } else { last };
        if origin.boot < boot || sequence <= last {
            BatchVerdict::Repeat
        } else if sequence == last + 1 {
            self.boots.insert(origin.incarnation, (origin.boot, sequence));
            BatchVerdict::Applied
        } else {
            BatchVerdict::Gap { expected: last + 1 }
        }
    }

    pub fn named(&self, name: &str) -> Option<&Client> {
        self.clients.iter().find(|client| client.name == name)
    }

    pub fn client(&mut self, id: RegistrationId) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.id == id)
    }

    pub fn command(&mut self, origin: Origin, id: Id, command: &Command<'_>, content: &[u8], told: &mut Told) {
        match command {
            Command::Send { stream, number, confirmed, to } => {
                let (stream, number) = (*stream, *number);
                let (result, repeated, arrived) = self.send((id, stream, number), *confirmed, to, content, told);
                told.push(Effect::Sent { origin, stream, number, result, repeated });
                told.extend(arrived.map(|(registration, position)| Effect::Arrived { registration, position }));
            }
            Command::Post { stream, number, confirmed, to, terms } => {
                self.post((origin, id), (*stream, *number, *confirmed), to, *terms, content, told);
            }
            Command::CollectReceipts { stream, up_to } => {
                let time = self.time;
                if let Some(known) = self.streams.iter_mut().find(|s| s.id == *stream) {
                    known.used = time;
                    known.collected = known.collected.max((*up_to).min(known.receipts.len() as u64));
                    let rest = (1u64..).zip(&known.receipts).filter(|(sequence, _)| *sequence > known.collected);
                    told.extend(rest.map(|(sequence, (_, number, fate))| Effect::Delivered {
                        stream: *stream,
                        sequence,
                        number: Number(*number),
                        fate: *fate,
                    }));
                } else {
                    let (stream, number) = (*stream, Number(0));
                    let result = Err(SendFailure::StreamClosed);
                    told.push(Effect::Sent { origin, stream, number, result, repeated: false });
                }
            }
            Command::Confirm { stream, confirmed } => {
                let time = self.time;
                if let Some(stream) = self.streams.iter_mut().find(|s| s.id == *stream) {
                    stream.used = time;
                    stream.confirmed = stream.confirmed.max(confirmed.0.min(stream.sends.len() as u64));
                }
            }
            Command::AcknowledgeApart { up_to, ranges, .. } if is_malformed(*up_to, ranges) => {
                self.malformed += 1;
                told.push(Effect::Skipped { origin, reason: "" });
            }
            Command::Acknowledge { registration, epoch, up_to, ranges } => {
                self.acknowledge(origin, *registration, *epoch, *up_to, ranges, told);
            }
            Command::Vanished { registration, epoch, home } => {
                let time = self.time;
                if let Some(client) = self.client(*registration)
                    && client.epoch == epoch.0
                    && client.lose(home, told)
                {
                    client.last_seen = time;
                }
            }
            Command::MoveClients { from, to, until } => {
                let homes: Vec<&str> = to.iter().copied().filter(|to| to != from && Name::is_valid(to)).collect();
                if self.time > until.0 || homes.is_empty() {
                    return;
                }
                let mut there: Vec<_> = self.clients.iter_mut().filter(|client| client.home == *from).collect();
                there.sort_by_key(|client| client.id);
                for client in there {
                    client.lose(from, told);
                    let place = (client.id.0 ^ client.id.index()) as usize % homes.len();
                    client.home = homes[place].to_owned();
                }
            }
            Command::SetQuotas(quotas) => self.quotas = *quotas,
            Command::Tick => {
                let (now, idle) = (self.time, self.quotas.stream_idle_ms);
                let over: Vec<_> = self.streams.iter().filter(|s| now - s.used >= idle).map(|s| s.id).collect();
                let mut over: Vec<_> = over.into_iter().filter_map(|stream| self.remove_stream(stream, told)).collect();
                over.sort_by_key(|stream| stream.id);
                over.into_iter().for_each(|stream| self.put_notices(stream, told));
            }
            other => {
                let answer = self.request(id, other, told).unwrap_or_else(Answer::Refused);
                let nonce = other.nonce().expect("all others have a nonce");
                told.push(Effect::Answered { origin, nonce, answer });
            }
        }
    }

    fn send(
        &mut self,
        (id, stream, number): (Id, StreamId, Number),
        confirmed: Number,
        to: &str,
        content: &[u8],
        told: &mut Told,
    ) -> (Result<SendOutcome, SendFailure>, bool, Option<(RegistrationId, Position)>) {
        let (at, from) = match self.admit(stream, number, confirmed, to, content) {
            Ok(admitted) => admitted,
            Err(result) => {
                let repeated = result.is_ok();
                return (result, repeated, None);
            }
        };
        let outcome = match self.named(to).map(|client| client.id) {
            None => SendOutcome::Refused(SendRefusal::NoSuchClient),
            Some(recipient) if self.is_full(recipient, content.len(), 0) => {
                SendOutcome::Refused(SendRefusal::InboxFull)
            }
            Some(recipient) => {
                self.make_room(recipient, content.len(), 0, told);
                SendOutcome::Accepted(self.put(recipient, (id, stream, number), &from, content))
            }
        };
        self.streams[at].sends.push((to.to_owned(), content.to_vec(), outcome));
        let arrived = match outcome {
            SendOutcome::Accepted(position) => self.named(to).map(|client| (client.id, position)),
            _ => None,
        };
        (Ok(outcome), false, arrived)
    }

    fn put(
        &mut self,
        recipient: RegistrationId,
        (id, stream, number): (Id, StreamId, Number),
        from: &str,
        content: &[u8],
    ) -> Position {
        let time = self.time;
        let client = self.client(recipient).expect("a recipient");
        client.mail.push(Mail {
            id,
            stream,
            number: number.0,
            time,
            from: from.to_owned(),
            content: content.to_vec(),
            acknowledged: false,
            channel: None,
            notice: None,
            expires: None,
        });
        Position(client.mail.len() as u64)
    }

    /// Judges a numbered send: its stream's place and its sender's name, or what it is told.
    pub fn admit(
        &mut self,
        stream: StreamId,
        number: Number,
        confirmed: Number,
        to: &str,
        content: &[u8],
    ) -> Result<(usize, String), Result<SendOutcome, SendFailure>> {
        let (time, quotas) = (self.time, self.quotas);
        let Some(at) = self.streams.iter().position(|s| s.id == stream) else {
            return Err(Err(SendFailure::StreamClosed));
        };
        let known = &mut self.streams[at];
        let last = known.sends.len() as u64;
        known.used = time;
        known.confirmed = known.confirmed.max(confirmed.0.min(last));
        let (owner, unconfirmed) = (known.owner, last - known.confirmed);
        let sender = self.client(owner).expect("the owner of an open stream");
        sender.last_seen = time;
        let from = sender.name.clone();
        let known = &self.streams[at];
        if number.0 <= known.confirmed {
            return Err(Err(SendFailure::AlreadyAnswered));
        }
        if number.0 <= last {
            let (first_to, first_content, outcome) = &known.sends[number.0 as usize - 1];
            let same = first_to == to && first_content == content;
            return Err(if same { Ok(*outcome) } else { Err(SendFailure::OtherContent) });
        }
        if number.0 != last + 1 {
            return Err(Err(SendFailure::Gap { expected: Number(last + 1) }));
        }
        if unconfirmed >= u64::from(quotas.stream_window) {
            return Err(Err(SendFailure::WindowFull { window: quotas.stream_window }));
        }
        Ok((at, from))
    }

    fn acknowledge(
        &mut self,
        origin: Origin,
        registration: RegistrationId,
        epoch: Epoch,
        up_to: Position,
        ranges: &[(Position, Position)],
        told: &mut Told,
    ) {
        if is_malformed(up_to, ranges) {
            self.malformed += 1;
            return told.push(Effect::Skipped { origin, reason: "" });
        }
        let (time, bytes_max) = (self.time, self.quotas.inbox_bytes);
        let Some(client) = self.client(registration) else { return };
        if client.epoch != epoch.0 || epoch.0 == 0 {
            return;
        }
        client.last_seen = time;
        let acknowledged = client.acknowledge((time, bytes_max), up_to, ranges, told);
        self.settle(&acknowledged, true, told);
    }

    pub fn close(&mut self, stream: StreamId, told: &mut Told) {
        let closed = self.remove_stream(stream, told);
        closed.into_iter().for_each(|stream| self.put_notices(stream, told));
    }

    fn remove_stream(&mut self, stream: StreamId, told: &mut Told) -> Option<Stream> {
        let at = self.streams.iter().position(|s| s.id == stream)?;
        told.push(Effect::StreamClosed { stream });
        Some(self.streams.remove(at))
    }

    fn put_notices(&mut self, stream: Stream, told: &mut Told) {
        let Stream { id: stream, owner, receipts, collected, .. } = stream;
        for (message, number, fate) in receipts.into_iter().skip(collected as usize) {
            self.put_notice(owner, message, Notice { stream, number: Number(number), fate }, told);
        }
    }
}

fn is_malformed(up_to: Position, ranges: &[(Position, Position)]) -> bool {
    let mut below = up_to;
    let mut malformed = ranges.len() > limits::ACKNOWLEDGE_RANGES_MAX;
    for (from, to) in ranges {
        malformed |= *from <= below || from > to;
        below = *to;
    }
    malformed
}
