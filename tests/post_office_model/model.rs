//! The post office as somebody would write it who cares about nothing but being right: lists that are searched, and
//! nothing is ever forgotten that need not be.

use std::collections::{BTreeMap, BTreeSet};

use restante::limits;
use restante::post_office::{Answer, BatchVerdict, Effect};
use restante::wire::client::SendFailure;
use restante::wire::command::Command;
use restante::wire::sharing::{Enlistment, Fate, Notice, Target, Terms, Unreached, fits, is_channel, is_pattern};
use restante::wire::{
    Epoch, Id, Name, Nonce, Number, Origin, Position, Quotas, Refusal, RegistrationId, SendOutcome, SendRefusal,
    StreamId,
};

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
}

#[derive(Debug, Clone)]
pub struct Channel {
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
    fn lose(&mut self, home: &str, told: &mut Told) -> bool {
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
    fn acknowledge(&mut self, up_to: Position, ranges: &[(Position, Position)], told: &mut Told) -> Vec<Id> {
        let mut acknowledged = Vec::new();
        for (position, mail) in (1u64..).zip(&mut self.mail) {
            let named = |(from, to): &(Position, Position)| from.0 <= position && position <= to.0;
            if !mail.acknowledged && (position <= up_to.0 || ranges.iter().any(named)) {
                mail.acknowledged = true;
                acknowledged.push(mail.id);
            }
        }
        let (registration, epoch) = (self.id, Epoch(self.epoch));
        told.push(Effect::Acknowledged { registration, epoch, up_to: Position(self.floor()) });
        acknowledged
    }

    fn expose_window(&mut self) {
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

    fn client(&mut self, id: RegistrationId) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.id == id)
    }

    pub fn command(&mut self, origin: Origin, id: Id, command: &Command<'_>, content: &[u8], told: &mut Told) {
        match command {
            Command::Send { stream, number, confirmed, to } => {
                let (stream, number) = (*stream, *number);
                let (result, arrived) = self.send(id, stream, number, *confirmed, to, content);
                told.push(Effect::Sent { origin, stream, number, result });
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
                    told.push(Effect::Sent { origin, stream, number, result: Err(SendFailure::StreamClosed) });
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
        id: Id,
        stream: StreamId,
        number: Number,
        confirmed: Number,
        to: &str,
        content: &[u8],
    ) -> (Result<SendOutcome, SendFailure>, Option<(RegistrationId, Position)>) {
        let (at, from) = match self.admit(stream, number, confirmed, to, content) {
            Ok(admitted) => admitted,
            Err(result) => return (result, None),
        };
        let outcome = match self.named(to).map(|client| client.id) {
            None => SendOutcome::Refused(SendRefusal::NoSuchClient),
            Some(recipient) if self.is_full(recipient, content.len(), 0) => {
                SendOutcome::Refused(SendRefusal::InboxFull)
            }
            Some(recipient) => {
                SendOutcome::Accepted(self.put(recipient, (id, stream, number), &from, None, None, content))
            }
        };
        self.streams[at].sends.push((to.to_owned(), content.to_vec(), outcome));
        let arrived = match outcome {
            SendOutcome::Accepted(position) => self.named(to).map(|client| (client.id, position)),
            _ => None,
        };
        (Ok(outcome), arrived)
    }

    fn put(
        &mut self,
        recipient: RegistrationId,
        (id, stream, number): (Id, StreamId, Number),
        from: &str,
        channel: Option<&str>,
        expires: Option<u64>,
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
            channel: channel.map(str::to_owned),
            notice: None,
            expires,
        });
        Position(client.mail.len() as u64)
    }

    /// Places that are kept in an inbox for receipts.
    fn reserved(&self, client: RegistrationId) -> u64 {
        let kept = self.streams.iter().filter(|s| s.owner == client);
        self.tracked.iter().filter(|t| t.sender == client).count() as u64
            + kept.map(|s| s.receipts.len() as u64 - s.collected).sum::<u64>()
    }

    fn is_full(&self, client: RegistrationId, bytes: usize, besides: u64) -> bool {
        let known = self.clients.iter().find(|known| known.id == client).expect("a client");
        known.waiting().len() as u64 + self.reserved(client) + besides >= self.quotas.inbox_messages
            || known.waiting_bytes() + bytes as u64 > self.quotas.inbox_bytes
    }

    fn post(
        &mut self,
        (origin, id): (Origin, Id),
        (stream, number, confirmed): (StreamId, Number, Number),
        to: &Target<'_>,
        terms: Terms,
        content: &[u8],
        told: &mut Told,
    ) {
        let key = format!("post {to:?} {terms:?}");
        let (at, from) = match self.admit(stream, number, confirmed, &key, content) {
            Ok(admitted) => admitted,
            Err(result) => return told.push(Effect::Sent { origin, stream, number, result }),
        };
        let sender = self.streams[at].owner;
        let mut reached: Vec<RegistrationId> = Vec::new();
        let mut unreached = Unreached::default();
        let besides = |client: RegistrationId| u64::from(terms.receipt && client == sender);
        let mut refused = None;
        let mut channel = None;
        match to {
            Target::Client(name) => match self.named(name) {
                None => refused = Some(SendRefusal::NoSuchClient),
                Some(client) if self.is_full(client.id, content.len(), besides(client.id)) => {
                    refused = Some(SendRefusal::InboxFull);
                }
                Some(client) => reached.push(client.id),
            },
            Target::Clients(names) => {
                for (place, name) in names.iter().enumerate() {
                    match self.named(name) {
                        None => unreached.unknown |= 1 << place,
                        Some(client) if self.is_full(client.id, content.len(), besides(client.id)) => {
                            unreached.full |= 1 << place;
                        }
                        Some(client) => reached.push(client.id),
                    }
                }
                refused = (!unreached.is_empty()).then_some(SendRefusal::Recipients(unreached));
            }
            Target::Channel(name) => match self.channels.iter().find(|known| known.name == *name) {
                None => refused = Some(SendRefusal::NoSuchChannel),
                Some(known) => {
                    let fits = |client: &&Client| client.patterns.iter().any(|pattern| fits(name, pattern));
                    reached.extend(known.members.iter());
                    reached.extend(self.clients.iter().filter(fits).map(|client| client.id));
                    channel = Some(*name);
                }
            },
            Target::Everybody => reached.extend(self.clients.iter().map(|client| client.id)),
        }
        if terms.receipt {
            let known = self.clients.iter().find(|client| client.id == sender).expect("the owner");
            if known.waiting().len() as u64 + self.reserved(sender) >= self.quotas.inbox_messages {
                refused = Some(SendRefusal::NoRoomForReceipt);
            }
        }
        reached.sort_unstable();
        reached.dedup();
        let all = reached.len();
        reached.retain(|client| !self.is_full(*client, content.len(), besides(*client)));
        let full = (all - reached.len()) as u32;
        if refused.is_some() {
            reached.clear();
        }
        let expires = (terms.expires_ms > 0).then_some(self.time + terms.expires_ms);
        let mut arrived = Vec::new();
        for client in &reached {
            let position = self.put(*client, (id, stream, number), &from, channel, expires, content);
            arrived.push(Effect::Arrived { registration: *client, position });
        }
        let outcome = match (refused, to, arrived.first()) {
            (Some(refusal), ..) => SendOutcome::Refused(refusal),
            (None, Target::Client(_), Some(Effect::Arrived { position, .. })) => SendOutcome::Accepted(*position),
            _ => SendOutcome::Reached { inboxes: reached.len() as u32, full },
        };
        self.streams[at].sends.push((key, content.to_vec(), outcome));
        told.push(Effect::Sent { origin, stream, number, result: Ok(outcome) });
        told.append(&mut arrived);
        if terms.receipt && refused.is_none() {
            let (left, fate) = (reached.len() as u32, Fate::default());
            self.tracked.push(Tracked { message: id, sender, stream, number: number.0, fate, left });
            if left == 0 {
                self.conclude(id, told);
            }
        }
    }

    /// What is due by now is done before anything else of an entry.
    pub fn expire(&mut self, told: &mut Told) {
        let now = self.time;
        let is_due = |mail: &Mail| !mail.acknowledged && mail.expires.is_some_and(|expires| expires <= now);
        let due: BTreeSet<(Option<u64>, Id)> = self
            .clients
            .iter()
            .flat_map(|client| &client.mail)
            .filter(|mail| is_due(mail))
            .map(|mail| (mail.expires, mail.id))
            .collect();
        for (_, id) in due {
            let mut registrations: Vec<_> = self.clients.iter().map(|client| client.id).collect();
            registrations.sort_unstable();
            let mut cleared = Vec::new();
            for registration in registrations {
                let client = self.client(registration).expect("a client");
                let places = (1u64..).zip(&mut client.mail);
                for (position, mail) in places.filter(|(_, mail)| mail.id == id && !mail.acknowledged) {
                    mail.acknowledged = true;
                    cleared.push(id);
                    told.push(Effect::Expired { registration, position: Position(position) });
                }
            }
            self.settle_as(&cleared, |fate| &mut fate.expired, told);
        }
    }

    fn settle(&mut self, messages: &[Id], acknowledged: bool, told: &mut Told) {
        self.settle_as(messages, |fate| if acknowledged { &mut fate.acknowledged } else { &mut fate.ended }, told);
    }

    /// Copies of these messages wait no more.
    fn settle_as(&mut self, messages: &[Id], count: impl Fn(&mut Fate) -> &mut u32, told: &mut Told) {
        for message in messages {
            let Some(tracked) = self.tracked.iter_mut().find(|t| t.message == *message) else { continue };
            tracked.left -= 1;
            *count(&mut tracked.fate) += 1;
            if tracked.left == 0 {
                self.conclude(*message, told);
            }
        }
    }

    fn conclude(&mut self, message: Id, told: &mut Told) {
        let at = self.tracked.iter().position(|t| t.message == message).expect("it is tracked");
        let Tracked { sender, stream, number, fate, .. } = self.tracked.remove(at);
        if self.clients.iter().all(|client| client.id != sender) {
            return;
        }
        match self.streams.iter_mut().find(|s| s.id == stream) {
            Some(open) => {
                open.receipts.push((message, number, fate));
                let sequence = open.receipts.len() as u64;
                told.push(Effect::Delivered { stream, sequence, number: Number(number), fate });
            }
            None => self.put_notice(sender, message, Notice { stream, number: Number(number), fate }, told),
        }
    }

    fn put_notice(&mut self, sender: RegistrationId, message: Id, notice: Notice, told: &mut Told) {
        let time = self.time;
        let client = self.client(sender).expect("a sender");
        let from = client.name.clone();
        client.mail.push(Mail {
            id: Id(message.0 | 0x8000),
            stream: notice.stream,
            number: notice.number.0,
            time,
            from,
            content: Vec::new(),
            acknowledged: false,
            channel: None,
            notice: Some(notice),
            expires: None,
        });
        told.push(Effect::Arrived { registration: sender, position: Position(client.mail.len() as u64) });
    }

    /// Judges a numbered send: its stream's place and its sender's name, or what it is told.
    fn admit(
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
        let time = self.time;
        let Some(client) = self.client(registration) else { return };
        if client.epoch != epoch.0 || epoch.0 == 0 {
            return;
        }
        client.last_seen = time;
        let acknowledged = client.acknowledge(up_to, ranges, told);
        self.settle(&acknowledged, true, told);
    }

    fn close(&mut self, stream: StreamId, told: &mut Told) {
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

    fn attach(
        &mut self,
        (nonce, window, at): (Nonce, u32, Option<&str>),
        name: &str,
        registration: Option<RegistrationId>,
        expected: Epoch,
        resumes: bool,
        told: &mut Told,
    ) -> Result<Answer, Refusal> {
        let time = self.time;
        let held = self.named(name).ok_or(Refusal::NotRegistered)?.id;
        if registration.is_some_and(|asked| asked != held) {
            return Err(Refusal::RegistrationEnded);
        }
        let client = self.client(held).expect("it is registered");
        let current = Epoch(client.epoch);
        if client.reader.is_some_and(|(known, _)| known == nonce) {
            client.present = true;
            let before = std::mem::replace(&mut client.at, at.map(str::to_owned));
            if let Some(before) = before.filter(|before| Some(&**before) != at) {
                let home = Name::new(&before).expect("it was checked");
                told.push(Effect::Left { registration: held, epoch: current, home });
            }
        } else {
            if expected != current {
                return Err(Refusal::EpochMoved { current });
            }
            client.expose_window();
            if !resumes {
                client.marked.append(&mut client.exposed);
            }
            client.epoch += 1;
            client.reader = Some((nonce, window.clamp(1, limits::READER_WINDOW_MAX)));
            (client.present, client.at) = (true, at.map(str::to_owned));
            if current.0 > 0 {
                told.push(Effect::Fenced { registration: held, epoch: current, by: Some(Epoch(client.epoch)) });
            }
        }
        client.last_seen = time;
        let acknowledged = Position(client.floor());
        Ok(Answer::Attached { registration: held, epoch: Epoch(client.epoch), acknowledged })
    }

    fn request(&mut self, id: Id, command: &Command<'_>, told: &mut Told) -> Result<Answer, Refusal> {
        let time = self.time;
        let name_is_good = |name: &str| Name::new(name).map(drop).map_err(|e| Refusal::Malformed(e.to_string()));
        match *command {
            Command::Register { nonce, name, home } => {
                name_is_good(name)?;
                name_is_good(home)?;
                match self.named(name) {
                    Some(known) if known.nonce == nonce => return Ok(Answer::Registered { registration: known.id }),
                    Some(known) => return Err(Refusal::AlreadyRegistered { registration: known.id }),
                    None if self.clients.len() as u64 >= self.quotas.clients => {
                        return Err(Refusal::TooManyClients { quota: self.quotas.clients });
                    }
                    None => {}
                }
                self.clients.push(Client {
                    id,
                    name: name.to_owned(),
                    nonce,
                    home: home.to_owned(),
                    last_seen: time,
                    epoch: 0,
                    reader: None,
                    present: false,
                    at: None,
                    mail: Vec::new(),
                    marked: BTreeSet::new(),
                    exposed: BTreeSet::new(),
                    changes: id.0,
                    changed_by: 0,
                    patterns: BTreeSet::new(),
                });
                Ok(Answer::Registered { registration: id })
            }
            Command::Deregister { name, registration, .. } => {
                let held = self.named(name).map(|client| client.id);
                let ended = match (registration, held) {
                    (None, None) => return Err(Refusal::NotRegistered),
                    (None, Some(held)) => held,
                    (Some(asked), held) if Some(asked) == held => asked,
                    (Some(asked), _) if self.clients.iter().all(|client| client.id != asked) => {
                        return Ok(Answer::Deregistered);
                    }
                    _ => return Err(Refusal::Malformed("that registration is another name's".into())),
                };
                let mut streams: Vec<_> = self.streams.iter().filter(|s| s.owner == ended).map(|s| s.id).collect();
                streams.sort_unstable();
                streams.into_iter().for_each(|stream| self.close(stream, told));
                let at = self.clients.iter().position(|client| client.id == ended).expect("it is held");
                let client = self.clients.remove(at);
                if client.epoch > 0 {
                    told.push(Effect::Fenced { registration: ended, epoch: Epoch(client.epoch), by: None });
                }
                self.channels.iter_mut().for_each(|channel| {
                    channel.members.remove(&ended);
                });
                let waiting: Vec<Id> = client.waiting().iter().map(|(_, mail)| mail.id).collect();
                self.settle(&waiting, false, told);
                Ok(Answer::Deregistered)
            }
            Command::OpenStream { nonce, name } => {
                let owner = self.named(name).ok_or(Refusal::NotRegistered)?.id;
                let open: Vec<_> = self.streams.iter().filter(|s| s.owner == owner).collect();
                if let Some(known) = open.iter().find(|s| s.nonce == nonce) {
                    return Ok(Answer::StreamOpened { stream: known.id, registration: owner });
                }
                if open.len() as u64 >= u64::from(self.quotas.streams_per_client) {
                    return Err(Refusal::TooManyStreams { quota: self.quotas.streams_per_client });
                }
                self.streams.push(Stream {
                    id,
                    owner,
                    nonce,
                    sends: Vec::new(),
                    receipts: Vec::new(),
                    collected: 0,
                    confirmed: 0,
                    used: time,
                });
                Ok(Answer::StreamOpened { stream: id, registration: owner })
            }
            Command::CloseStream { stream, .. } => {
                self.close(stream, told);
                Ok(Answer::StreamClosed)
            }
            Command::Attach { nonce, name, home, expected, resumes, window } => {
                name_is_good(home)?;
                let reader = (nonce, window, Some(home));
                let answer = self.attach(reader, name, resumes, expected, resumes.is_some(), told)?;
                self.clients.iter_mut().find(|c| c.name == name).expect("it is registered").home = home.to_owned();
                Ok(answer)
            }
            Command::AttachApart { nonce, name, registration, expected, window } => {
                self.attach((nonce, window, None), name, registration, expected, false, told)
            }
            Command::AcknowledgeApart { name, registration, epoch, up_to, ref ranges, .. } => {
                let client = self.client(registration).filter(|client| client.name == name);
                let client = client.ok_or(Refusal::RegistrationEnded)?;
                if client.epoch != epoch.0 {
                    return Err(Refusal::EpochMoved { current: Epoch(client.epoch) });
                }
                if client.reader.is_some() && client.at.is_some() {
                    return Err(Refusal::ReadBySession);
                }
                client.last_seen = time;
                let acknowledged = client.acknowledge(up_to, ranges, told);
                let up_to = Position(client.floor());
                self.settle(&acknowledged, true, told);
                Ok(Answer::Acknowledged { registration, epoch, up_to })
            }
            Command::CreateChannel { nonce, channel } => {
                if !is_channel(channel) {
                    return Err(Refusal::Malformed(format!(
                        "{channel:?} is no channel's name: use 1 to 64 of A-Z a-z 0-9 _ - with . between parts"
                    )));
                }
                match self.channels.iter().find(|known| known.name == channel) {
                    Some(known) if known.nonce == nonce => {}
                    Some(_) => return Err(Refusal::ChannelExists),
                    None => {
                        let members = BTreeSet::new();
                        self.channels.push(Channel { name: channel.to_owned(), nonce, members });
                    }
                }
                Ok(Answer::Done)
            }
            Command::DeleteChannel { channel, .. } => {
                let before = self.channels.len();
                self.channels.retain(|known| known.name != channel);
                if self.channels.len() < before { Ok(Answer::Done) } else { Err(Refusal::NoSuchChannel) }
            }
            Command::Enlist { nonce, name, expected, change } => {
                let id = self.named(name).ok_or(Refusal::NotRegistered)?.id;
                let client = self.clients.iter_mut().find(|client| client.id == id).expect("it is registered");
                if client.changed_by == nonce && client.changes > id.0 {
                    return Ok(Answer::Done);
                }
                if client.changes != expected {
                    return Err(Refusal::EnlistmentsMoved { current: client.changes });
                }
                client.changes += 1;
                client.changed_by = 0;
                match change {
                    Enlistment::Join(name) => drop(channel_of(&mut self.channels, name)?.members.insert(id)),
                    Enlistment::Leave(name) => drop(channel_of(&mut self.channels, name)?.members.remove(&id)),
                    Enlistment::Subscribe(pattern) if !is_pattern(pattern) => {
                        return Err(Refusal::Malformed(format!("{pattern:?} is no pattern of channels' names")));
                    }
                    Enlistment::Subscribe(pattern) => drop(client.patterns.insert(pattern.to_owned())),
                    Enlistment::Unsubscribe(pattern) => drop(client.patterns.remove(pattern)),
                }
                client.changed_by = nonce;
                Ok(Answer::Done)
            }
            Command::SetHome { name, home, instead_of, .. } => {
                name_is_good(home)?;
                let registration = self.named(name).ok_or(Refusal::NotRegistered)?.id;
                let client = self.client(registration).expect("it is registered");
                let current = client.home().to_owned();
                if instead_of.is_some_and(|expected| expected != current) && current != home {
                    return Err(Refusal::HomeMoved { home: Name::new(&current).expect("it was checked") });
                }
                if let Some(down) = instead_of {
                    client.lose(down, told);
                }
                client.home = home.to_owned();
                Ok(Answer::HomeSet { registration })
            }
            Command::Detach { registration, epoch, delivered, .. } => {
                let client = self.client(registration).ok_or(Refusal::RegistrationEnded)?;
                if client.epoch != epoch.0 || epoch.0 == 0 {
                    return Err(Refusal::EpochMoved { current: Epoch(client.epoch) });
                }
                match delivered {
                    Some(delivered) => {
                        client.marked.extend((1..=client.mail.len() as u64).filter(|p| *p <= delivered.0));
                        client.exposed.clear();
                    }
                    None => client.expose_window(),
                }
                client.reader = None;
                client.at = None;
                client.present = false;
                client.last_seen = time;
                Ok(Answer::Detached)
            }
            Command::Enroll { server, address, disk } => {
                name_is_good(server)?;
                address_is_good(address)?;
                let at = self.servers.iter().position(|known| known.0 == server).ok_or(Refusal::NoSuchServer)?;
                let before = self.servers[at].2;
                let incarnation = match self.enrolled.iter().find(|known| known.2 == disk) {
                    Some(known) if before == Some(known.1) => known.1,
                    Some(_) => return Err(Refusal::DiskRetired),
                    None => {
                        self.retired.extend(before);
                        self.enrolled.push((server.to_owned(), id.0, disk));
                        id.0
                    }
                };
                self.servers[at] = (server.to_owned(), address.to_owned(), Some(incarnation));
                Ok(Answer::Enrolled { incarnation })
            }
            Command::AddServer { nonce, server, address } => {
                name_is_good(server)?;
                address_is_good(address)?;
                if self.added_by.get(server) == Some(&nonce) {
                    return Ok(Answer::ServerAdded);
                }
                if let Some((_, known, _)) = self.servers.iter().find(|known| known.0 == server) {
                    let elsewhere = Refusal::ServerElsewhere { address: known.clone() };
                    return if known == address { Ok(Answer::ServerAdded) } else { Err(elsewhere) };
                }
                let mut others: Vec<_> = self.servers.iter().filter(|known| known.1 == address).collect();
                others.sort();
                if let Some((other, ..)) = others.first() {
                    return Err(Refusal::AddressTaken { server: Name::new(other).expect("a name") });
                }
                self.removed.remove(server);
                self.added_by.insert(server.to_owned(), nonce);
                self.servers.push((server.to_owned(), address.to_owned(), None));
                Ok(Answer::ServerAdded)
            }
            Command::RemoveServer { nonce, server } => {
                if self.removed.contains(server) || self.removed_by.get(server) == Some(&nonce) {
                    return Ok(Answer::ServerRemoved);
                }
                let at = self.servers.iter().position(|known| known.0 == server).ok_or(Refusal::NoSuchServer)?;
                if self.servers.len() == 1 {
                    return Err(Refusal::LastServer);
                }
                self.somebody_else_serves(server)?;
                self.drained.remove(server);
                self.retired.extend(self.servers.remove(at).2);
                self.removed.insert(server.to_owned());
                self.removed_by.insert(server.to_owned(), nonce);
                Ok(Answer::ServerRemoved)
            }
            Command::SetDrained { nonce, server, drained } => {
                if !self.servers.iter().any(|known| known.0 == server) {
                    return Err(Refusal::NoSuchServer);
                }
                let request = (server.to_owned(), drained);
                if self.drained_by.get(&request) == Some(&nonce) || self.drained.contains(server) == drained {
                    return Ok(Answer::ServerDrained);
                }
                if drained {
                    self.somebody_else_serves(server)?;
                    self.drained.insert(server.to_owned());
                } else {
                    self.drained.remove(server);
                }
                self.drained_by.insert(request, nonce);
                Ok(Answer::ServerDrained)
            }
            _ => unreachable!("commands without a nonce are done elsewhere"),
        }
    }

    fn somebody_else_serves(&self, server: &str) -> Result<(), Refusal> {
        let others: Vec<_> = self.servers.iter().filter(|known| known.0 != server).collect();
        let drained = others.iter().filter(|known| self.drained.contains(&known.0)).count() as u64;
        let others = others.len() as u64;
        if drained == others { Err(Refusal::NobodyElseServes { others, drained, ready: 0 }) } else { Ok(()) }
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

fn address_is_good(address: &str) -> Result<(), Refusal> {
    if address.is_empty() || address.len() > limits::ADDRESS_BYTES_MAX {
        return Err(Refusal::Malformed("an address has 1 to 255 bytes".into()));
    }
    Ok(())
}

fn channel_of<'a>(channels: &'a mut [Channel], name: &str) -> Result<&'a mut Channel, Refusal> {
    channels.iter_mut().find(|known| known.name == name).ok_or(Refusal::NoSuchChannel)
}
