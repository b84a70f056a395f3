//! Commands that are answered by nonce: registering, streams, readers, servers.

use super::PostOffice;
use super::apply::{At, Tell};
use super::effect::{Answer, Effect};
use super::inbox::{Inbox, Reader};
use super::limits::MOVED_CLIENTS_MAX;
use super::receipts::End;
use super::registry::Client;
use super::streams::Stream;
use crate::limits;
use crate::wire::client::PresenceChange;
use crate::wire::command::Command;
use crate::wire::{Epoch, Incarnation, Name, Nonce, Position, Quotas, Refusal, RegistrationId, StreamId, Time};

impl PostOffice {
    /// Carries out a command that has a nonce, and answers it.
    pub(super) fn answer(&mut self, at: At<'_>, command: Command<'_>, tell: Tell<'_>) {
        let Some(nonce) = command.nonce() else { return };
        let answer = match command {
            Command::Register { nonce, name, home } => self.register(at, nonce, name, home, tell),
            Command::Deregister { name, registration, .. } => self.deregister(name, registration, tell),
            Command::OpenStream { nonce, name } => self.open_stream(at, nonce, name),
            Command::CloseStream { stream, .. } => Ok(self.close_stream_by_id(stream, tell)),
            Command::Attach { nonce, name, home, expected, resumes, window } => {
                self.attach_session(nonce, name, home, expected, resumes, window, tell)
            }
            Command::Detach { registration, epoch, delivered, .. } => self.detach(registration, epoch, delivered, tell),
            Command::Enroll { server, address, disk } => self.enroll(at, server, address, disk),
            Command::AddServer { nonce, server, address } => self.add_server(nonce, server, address),
            Command::RemoveServer { nonce, server } => self.remove_server(nonce, server),
            Command::SetHome { name, home, instead_of, .. } => self.set_home(name, home, instead_of, tell),
            Command::AttachApart { nonce, name, registration, expected, window } => {
                self.attach_apart(nonce, name, registration, expected, window, tell)
            }
            Command::AcknowledgeApart { name, registration, epoch, up_to, ranges, .. } => {
                self.acknowledge_apart(name, registration, epoch, up_to, &ranges, tell)
            }
            Command::SetDrained { nonce, server, drained } => {
                self.servers.set_drained(nonce, server, drained).map(|()| Answer::ServerDrained)
            }
            Command::CreateChannel { nonce, channel } => self.create_channel(at, nonce, channel),
            Command::DeleteChannel { channel, .. } => self.delete_channel(channel),
            Command::Enlist { nonce, name, expected, change } => self.enlist(nonce, name, expected, change),
            Command::Send { .. }
            | Command::Post { .. }
            | Command::CollectReceipts { .. }
            | Command::Acknowledge { .. }
            | Command::Confirm { .. }
            | Command::SetQuotas(_)
            | Command::Tick
            | Command::Vanished { .. }
            | Command::MoveClients { .. } => return,
        };
        let answer = answer.unwrap_or_else(Answer::Refused);
        tell(Effect::Answered { origin: at.origin, nonce, answer });
    }

    fn register(
        &mut self,
        at: At<'_>,
        nonce: Nonce,
        name: &str,
        home: &str,
        tell: Tell<'_>,
    ) -> Result<Answer, Refusal> {
        let (name, home) = (checked_name(name)?, checked_name(home)?);
        if let Some(key) = self.registry.key_of(&name) {
            let client = self.registry.get(key);
            let registration = client.id;
            return if client.nonce == nonce {
                Ok(Answer::Registered { registration })
            } else {
                Err(Refusal::AlreadyRegistered { registration })
            };
        }
        let quota = self.quotas.clients;
        if self.registry.len() >= quota {
            return Err(Refusal::TooManyClients { quota });
        }
        let client = Client {
            id: at.id,
            name,
            nonce,
            home,
            last_seen: self.time,
            streams: Default::default(),
            inbox: Inbox::default(),
            scheduled: 0,
            enlisted: None,
            dirty: false,
        };
        let key = self.registry.insert(client);
        self.touch_client(key);
        self.tell_presence(key, PresenceChange::Registered, tell);
        Ok(Answer::Registered { registration: at.id })
    }

    fn deregister(
        &mut self,
        name: &str,
        registration: Option<RegistrationId>,
        tell: Tell<'_>,
    ) -> Result<Answer, Refusal> {
        let key = match registration {
            None => self.registry.key_of(name).ok_or(Refusal::NotRegistered)?,
            Some(registration) => match self.registry.key(registration) {
                // It ended before: this is a repeat, or comes to the same.
                None => return Ok(Answer::Deregistered),
                Some(key) if &*self.registry.get(key).name == name => key,
                Some(_) => return Err(Refusal::Malformed("that registration is another name's".into())),
            },
        };
        let mut streams: Vec<(StreamId, u32)> =
            self.registry.get(key).streams.values().map(|stream| (self.streams.get(*stream).id, *stream)).collect();
        streams.sort_unstable();
        for (_, stream) in streams {
            self.close_stream(stream, tell);
        }
        self.leave_all(key);
        self.tell_presence(key, PresenceChange::Deregistered, tell);
        let client = self.registry.remove(key);
        for (_, message) in client.inbox.messages_from(0) {
            let released = self.messages.release(message);
            self.changes.message_gone(released);
            Self::note_end(&mut self.ends, released);
            self.waiting -= 1;
            self.waiting_bytes -= u64::from(released.bytes);
        }
        self.changes.registration_gone(client.id);
        if client.inbox.epoch() > Epoch(0) {
            tell(Effect::Fenced { registration: client.id, epoch: client.inbox.epoch(), by: None });
        }
        self.settle_receipts(End::Ended, tell);
        Ok(Answer::Deregistered)
    }

    fn open_stream(&mut self, at: At<'_>, nonce: Nonce, name: &str) -> Result<Answer, Refusal> {
        let owner = self.registry.key_of(name).ok_or(Refusal::NotRegistered)?;
        let client = self.registry.get_mut(owner);
        let registration = client.id;
        if let Some(stream) = client.streams.get(&nonce) {
            return Ok(Answer::StreamOpened { stream: self.streams.get(*stream).id, registration });
        }
        let quota = self.quotas.streams_per_client;
        if client.streams.len() as u64 >= u64::from(quota) {
            return Err(Refusal::TooManyStreams { quota });
        }
        let key = self.streams.insert(Stream::new(at.id, owner, registration, nonce, self.time));
        client.streams.insert(nonce, key);
        super::checkpoint::touch_stream(&mut self.changes, key, self.streams.get_mut(key));
        Ok(Answer::StreamOpened { stream: at.id, registration })
    }

    /// A stream that is not open is closed, which is what was asked for.
    fn close_stream_by_id(&mut self, stream: StreamId, tell: Tell<'_>) -> Answer {
        if let Some(key) = self.streams.key(stream) {
            self.close_stream(key, tell);
        }
        Answer::StreamClosed
    }

    #[expect(clippy::too_many_arguments, reason = "they are the command's")]
    fn attach_session(
        &mut self,
        nonce: Nonce,
        name: &str,
        home: &str,
        expected: Epoch,
        resumes: Option<RegistrationId>,
        window: u32,
        tell: Tell<'_>,
    ) -> Result<Answer, Refusal> {
        let home = checked_name(home)?;
        let reader = Reader { nonce, window, present: true, home: Some(home.clone()) };
        let before = self.registry.key_of(name).map(|key| self.registry.get(key).whereabouts());
        let (key, answer) = self.attach(reader, name, resumes, expected, resumes.is_some(), tell)?;
        self.registry.set_home(key, home);
        before.into_iter().for_each(|before| self.tell_whereabouts(key, before, tell));
        Ok(answer)
    }

    fn attach_apart(
        &mut self,
        nonce: Nonce,
        name: &str,
        registration: Option<RegistrationId>,
        expected: Epoch,
        window: u32,
        tell: Tell<'_>,
    ) -> Result<Answer, Refusal> {
        let reader = Reader { nonce, window, present: true, home: None };
        let before = self.registry.key_of(name).map(|key| self.registry.get(key).whereabouts());
        let (key, answer) = self.attach(reader, name, registration, expected, false, tell)?;
        before.into_iter().for_each(|before| self.tell_whereabouts(key, before, tell));
        Ok(answer)
    }

    /// Makes somebody the reader, in `registration` only if that is given. Says whose inbox it is.
    fn attach(
        &mut self,
        reader: Reader,
        name: &str,
        registration: Option<RegistrationId>,
        expected: Epoch,
        resumes: bool,
        tell: Tell<'_>,
    ) -> Result<(u32, Answer), Refusal> {
        let key = self.registry.key_of(name).ok_or(Refusal::NotRegistered)?;
        let client = self.registry.get_mut(key);
        let id = client.id;
        // Epochs begin anew with each registration: those of an earlier one say nothing about this one's.
        if registration.is_some_and(|earlier| earlier != id) {
            return Err(Refusal::RegistrationEnded);
        }
        let current = client.inbox.epoch();
        let repeat = client.inbox.reader().is_some_and(|known| known.nonce == reader.nonce);
        if repeat {
            // It may come through another server, after the first one died before it could answer, and after that one has
            // given the reader up.
            if let Some(before) = client.inbox.return_reader(reader.home) {
                tell(Effect::Left { registration: id, epoch: current, home: before });
            }
        } else {
            if expected != current {
                return Err(Refusal::EpochMoved { current });
            }
            let by = client.inbox.attach(reader, resumes);
            if current > Epoch(0) {
                tell(Effect::Fenced { registration: id, epoch: current, by: Some(by) });
            }
        }
        client.last_seen = self.time;
        let (epoch, acknowledged) = (client.inbox.epoch(), client.inbox.floor());
        self.touch_client(key);
        Ok((key, Answer::Attached { registration: id, epoch, acknowledged }))
    }

    /// Acknowledges for somebody without a session. A session's reader does so itself; of an inbox that has no reader,
    /// whoever knows its epoch may.
    fn acknowledge_apart(
        &mut self,
        name: &str,
        registration: RegistrationId,
        epoch: Epoch,
        up_to: Position,
        ranges: &[(Position, Position)],
        tell: Tell<'_>,
    ) -> Result<Answer, Refusal> {
        let key = self.registry.key(registration).ok_or(Refusal::RegistrationEnded)?;
        let client = self.registry.get(key);
        if &*client.name != name {
            return Err(Refusal::RegistrationEnded);
        }
        let current = client.inbox.epoch();
        if current != epoch {
            return Err(Refusal::EpochMoved { current });
        }
        if client.inbox.reader().is_some_and(|reader| reader.home.is_some()) {
            return Err(Refusal::ReadBySession);
        }
        self.take_acknowledgement(key, epoch, up_to, ranges, tell);
        Ok(Answer::Acknowledged { registration, epoch, up_to: self.registry.get(key).inbox.floor() })
    }

    fn set_home(
        &mut self,
        name: &str,
        home: &str,
        instead_of: Option<&str>,
        tell: Tell<'_>,
    ) -> Result<Answer, Refusal> {
        let home = checked_name(home)?;
        let key = self.registry.key_of(name).ok_or(Refusal::NotRegistered)?;
        let client = self.registry.get(key);
        let registration = client.id;
        let current = client.inbox.session_at().unwrap_or(&client.home);
        if instead_of.is_some_and(|expected| expected != &**current) && *current != home {
            return Err(Refusal::HomeMoved { home: current.clone() });
        }
        let before = client.whereabouts();
        if let Some(down) = instead_of {
            self.lose_session(key, down, tell);
        }
        self.registry.set_home(key, home);
        self.touch_client(key);
        self.tell_whereabouts(key, before, tell);
        Ok(Answer::HomeSet { registration })
    }

    /// A client's session counts as gone if it is at that server.
    fn lose_session(&mut self, key: u32, home: &str, tell: Tell<'_>) -> bool {
        let client = self.registry.get_mut(key);
        let Some(home) = client.inbox.session_at().filter(|at| &***at == home).cloned() else { return false };
        client.inbox.lose_reader();
        tell(Effect::Left { registration: client.id, epoch: client.inbox.epoch(), home });
        true
    }

    /// Moves clients away from a server that is down, in turn to those that are up.
    pub(super) fn move_clients(&mut self, from: &str, to: &[&str], until: Time, tell: Tell<'_>) {
        if self.time > until {
            return;
        }
        let homes: Vec<Name> =
            to.iter().filter(|home| **home != from).filter_map(|home| Name::new(home).ok()).collect();
        if homes.is_empty() {
            return;
        }
        for registration in self.registry.at_home(from, MOVED_CLIENTS_MAX) {
            let Some(key) = self.registry.key(registration) else { continue };
            let before = self.registry.get(key).whereabouts();
            self.lose_session(key, from, tell);
            let place = (registration.0 ^ registration.index()) % homes.len() as u64;
            self.registry.set_home(key, homes[place as usize].clone());
            self.touch_client(key);
            self.tell_whereabouts(key, before, tell);
        }
    }

    fn detach(
        &mut self,
        registration: RegistrationId,
        epoch: Epoch,
        delivered: Option<Position>,
        tell: Tell<'_>,
    ) -> Result<Answer, Refusal> {
        let key = self.registry.key(registration).ok_or(Refusal::RegistrationEnded)?;
        let client = self.registry.get_mut(key);
        let current = client.inbox.epoch();
        if epoch != current || epoch == Epoch(0) {
            return Err(Refusal::EpochMoved { current });
        }
        let before = client.whereabouts();
        client.inbox.detach(delivered);
        client.last_seen = self.time;
        self.touch_client(key);
        self.tell_whereabouts(key, before, tell);
        Ok(Answer::Detached)
    }

    /// A reader's connection is gone. Its nonce stays known: it may be on its way to another server.
    pub(super) fn vanished(&mut self, registration: RegistrationId, epoch: Epoch, home: &str, tell: Tell<'_>) {
        let Some(key) = self.registry.key(registration) else { return };
        let before = self.registry.get(key).whereabouts();
        if self.registry.get(key).inbox.epoch() == epoch && self.lose_session(key, home, tell) {
            self.registry.get_mut(key).last_seen = self.time;
            self.touch_client(key);
            self.tell_whereabouts(key, before, tell);
        }
    }

    fn enroll(&mut self, at: At<'_>, server: &str, address: &str, disk: Nonce) -> Result<Answer, Refusal> {
        let server = checked_name(server)?;
        check_address(address)?;
        self.servers.enroll(&server, address, disk, at.id.0).map(|incarnation| Answer::Enrolled { incarnation })
    }

    fn add_server(&mut self, nonce: Nonce, server: &str, address: &str) -> Result<Answer, Refusal> {
        let server = checked_name(server)?;
        check_address(address)?;
        self.servers.add(nonce, server, address).map(|()| Answer::ServerAdded)
    }

    fn remove_server(&mut self, nonce: Nonce, server: &str) -> Result<Answer, Refusal> {
        self.servers.remove(nonce, server).map(|()| Answer::ServerRemoved)
    }

    /// Consensus began with these members and quotas: they are the cluster's first servers. Without effect once there are
    /// any.
    pub fn founded_by(&mut self, members: impl Iterator<Item = (Incarnation, Name, String)>, quotas: Option<Quotas>) {
        if self.servers.found(members)
            && let Some(quotas) = quotas
        {
            self.quotas = quotas;
        }
    }
}

fn check_address(text: &str) -> Result<(), Refusal> {
    if text.is_empty() || text.len() > limits::ADDRESS_BYTES_MAX {
        return Err(Refusal::Malformed(format!("an address has 1 to {} bytes", limits::ADDRESS_BYTES_MAX)));
    }
    Ok(())
}

fn checked_name(text: &str) -> Result<Name, Refusal> {
    Name::new(text).map_err(|bad| Refusal::Malformed(bad.to_string()))
}
