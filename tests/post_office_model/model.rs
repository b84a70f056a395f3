//! The post office as somebody would write it who cares about nothing but being right: lists that are searched, and
//! nothing is ever forgotten that need not be.

use std::collections::{BTreeMap, BTreeSet};

use restante::limits;
use restante::post_office::{Answer, BatchVerdict, Effect};
use restante::wire::client::SendFailure;
use restante::wire::command::Command;
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

    fn acknowledge(&mut self, up_to: Position, ranges: &[(Position, Position)], told: &mut Told) {
        for (position, mail) in (1u64..).zip(&mut self.mail) {
            let named = |(from, to): &(Position, Position)| from.0 <= position && position <= to.0;
            mail.acknowledged |= position <= up_to.0 || ranges.iter().any(named);
        }
        let (registration, epoch) = (self.id, Epoch(self.epoch));
        told.push(Effect::Acknowledged { registration, epoch, up_to: Position(self.floor()) });
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
    /// Recipient, content and outcome of every number from 1 on.
    pub sends: Vec<(String, Vec<u8>, SendOutcome)>,
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
                over.into_iter().for_each(|stream| self.close(stream, told));
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
        let (time, quotas) = (self.time, self.quotas);
        let Some(at) = self.streams.iter().position(|s| s.id == stream) else {
            return (Err(SendFailure::StreamClosed), None);
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
            return (Err(SendFailure::AlreadyAnswered), None);
        }
        if number.0 <= last {
            let (first_to, first_content, outcome) = &known.sends[number.0 as usize - 1];
            let same = first_to == to && first_content == content;
            return (if same { Ok(*outcome) } else { Err(SendFailure::OtherContent) }, None);
        }
        if number.0 != last + 1 {
            return (Err(SendFailure::Gap { expected: Number(last + 1) }), None);
        }
        if unconfirmed >= u64::from(quotas.stream_window) {
            return (Err(SendFailure::WindowFull { window: quotas.stream_window }), None);
        }
        let mut arrived = None;
        let outcome = match self.clients.iter_mut().find(|client| client.name == to) {
            None => SendOutcome::Refused(SendRefusal::NoSuchClient),
            Some(client)
                if client.waiting().len() as u64 >= quotas.inbox_messages
                    || client.waiting_bytes() + content.len() as u64 > quotas.inbox_bytes =>
            {
                SendOutcome::Refused(SendRefusal::InboxFull)
            }
            Some(client) => {
                let content = content.to_vec();
                client.mail.push(Mail { id, stream, number: number.0, time, from, content, acknowledged: false });
                let position = Position(client.mail.len() as u64);
                arrived = Some((client.id, position));
                SendOutcome::Accepted(position)
            }
        };
        self.streams[at].sends.push((to.to_owned(), content.to_vec(), outcome));
        (Ok(outcome), arrived)
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
        client.acknowledge(up_to, ranges, told);
    }

    fn close(&mut self, stream: StreamId, told: &mut Told) {
        let before = self.streams.len();
        self.streams.retain(|s| s.id != stream);
        if self.streams.len() < before {
            told.push(Effect::StreamClosed { stream });
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
                let streams: Vec<_> = self.streams.iter().filter(|s| s.owner == ended).map(|s| s.id).collect();
                streams.into_iter().for_each(|stream| self.close(stream, told));
                let at = self.clients.iter().position(|client| client.id == ended).expect("it is held");
                let client = self.clients.remove(at);
                if client.epoch > 0 {
                    told.push(Effect::Fenced { registration: ended, epoch: Epoch(client.epoch), by: None });
                }
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
                self.streams.push(Stream { id, owner, nonce, sends: Vec::new(), confirmed: 0, used: time });
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
                client.acknowledge(up_to, ranges, told);
                Ok(Answer::Acknowledged { registration, epoch, up_to: Position(client.floor()) })
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
