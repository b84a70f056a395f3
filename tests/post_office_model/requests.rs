//! The model's requests: commands that have a nonce and an answer.

use std::collections::BTreeSet;

use restante::limits::{self, KEPT_MESSAGES_MAX};
use restante::post_office::{Answer, Effect};
use restante::wire::command::Command;
use restante::wire::sharing::{Enlistment, InboxSettings, is_channel, is_pattern};
use restante::wire::{Epoch, Id, Name, Nonce, Position, Refusal, RegistrationId};

use super::model::{Channel, Client, Model, Stream, Told};

impl Model {
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

    pub fn request(&mut self, id: Id, command: &Command<'_>, told: &mut Told) -> Result<Answer, Refusal> {
        let (time, bytes_max) = (self.time, self.quotas.inbox_bytes);
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
                    settings: InboxSettings::default(),
                    kept: Vec::new(),
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
                let acknowledged = client.acknowledge((time, bytes_max), up_to, ranges, told);
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
                        self.channels.push(Channel { id, name: channel.to_owned(), nonce, members });
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
                    Enlistment::SetInbox(InboxSettings { keep_messages, .. }) if keep_messages > KEPT_MESSAGES_MAX => {
                        return Err(Refusal::Malformed(format!(
                            "an inbox keeps at most {KEPT_MESSAGES_MAX} acknowledged messages, not {keep_messages}"
                        )));
                    }
                    Enlistment::SetInbox(settings) => self.set_inbox(id, settings),
                }
                self.client(id).expect("it is registered").changed_by = nonce;
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

fn address_is_good(address: &str) -> Result<(), Refusal> {
    if address.is_empty() || address.len() > limits::ADDRESS_BYTES_MAX {
        return Err(Refusal::Malformed("an address has 1 to 255 bytes".into()));
    }
    Ok(())
}

fn channel_of<'a>(channels: &'a mut [Channel], name: &str) -> Result<&'a mut Channel, Refusal> {
    channels.iter_mut().find(|known| known.name == name).ok_or(Refusal::NoSuchChannel)
}
