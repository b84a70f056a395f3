//! The model's sends to many and on terms of their own: what waits for its time, expires, makes room, is kept.

use std::collections::BTreeSet;

use restante::post_office::Effect;
use restante::wire::sharing::{Fate, InboxSettings, Notice, Overflow, Target, Terms, Unreached, fits};
use restante::wire::{Id, Number, Origin, Position, RegistrationId, SendOutcome, SendRefusal, StreamId};

use super::model::{Client, Mail, Model, Told, Tracked};

/// A message whose time is to come.
#[derive(Debug, Clone)]
pub struct Later {
    pub due: u64,
    pub mail: Mail,
    pub to: Addressees,
}

#[derive(Debug, Clone)]
pub enum Addressees {
    Clients(Vec<RegistrationId>),
    /// Its id and its name.
    Channel(Id, String),
    Everybody,
}

impl Later {
    pub fn is_for(&self, client: RegistrationId) -> bool {
        matches!(&self.to, Addressees::Clients(clients) if clients.contains(&client))
    }
}

impl Client {
    /// Keeps what was acknowledged, as its settings say.
    pub fn keep(&mut self, position: u64, mail: Mail, time: u64) {
        let until = (self.settings.keep_ms > 0).then_some(time + self.settings.keep_ms);
        self.kept.push((position, mail, until));
        self.kept.sort_by_key(|(position, ..)| *position);
    }

    pub fn trim(&mut self, bytes_max: u64) {
        let bytes = |client: &Self| client.kept.iter().map(|(_, mail, _)| mail.content.len() as u64).sum::<u64>();
        while self.kept.len() > self.settings.keep_messages as usize || bytes(self) > bytes_max {
            self.kept.remove(0);
        }
    }
}

impl Model {
    /// Who gets what is sent to a channel.
    fn in_channel(&self, channel: Id, name: &str) -> Vec<RegistrationId> {
        let Some(known) = self.channels.iter().find(|known| known.id == channel) else { return Vec::new() };
        let fits = |client: &&Client| client.patterns.iter().any(|pattern| fits(name, pattern));
        let subscribed = self.clients.iter().filter(fits).map(|client| client.id);
        known.members.iter().copied().chain(subscribed).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn everybody(&self) -> Vec<RegistrationId> {
        self.clients.iter().map(|client| client.id).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Places and bytes of an inbox that cannot be dropped.
    fn reserved(&self, client: RegistrationId) -> (u64, u64) {
        let kept = self.streams.iter().filter(|s| s.owner == client);
        let later: Vec<_> = self.later.iter().filter(|later| later.is_for(client)).collect();
        let places = self.tracked.iter().filter(|t| t.sender == client).count() as u64
            + kept.map(|s| s.receipts.len() as u64 - s.collected).sum::<u64>()
            + later.len() as u64;
        (places, later.iter().map(|later| later.mail.content.len() as u64).sum())
    }

    fn lacks_room(&self, client: RegistrationId, bytes: usize, besides: u64) -> bool {
        let known = self.clients.iter().find(|known| known.id == client).expect("a client");
        let (places, reserved_bytes) = self.reserved(client);
        known.waiting().len() as u64 + places + besides >= self.quotas.inbox_messages
            || known.waiting_bytes() + reserved_bytes + bytes as u64 > self.quotas.inbox_bytes
    }

    /// Whether it lacks room and can make none.
    pub fn is_full(&self, client: RegistrationId, bytes: usize, besides: u64) -> bool {
        let known = self.clients.iter().find(|known| known.id == client).expect("a client");
        let (places, reserved_bytes) = self.reserved(client);
        let drops = known.settings.overflow == Overflow::DropOldest
            && places + besides < self.quotas.inbox_messages
            && reserved_bytes + bytes as u64 <= self.quotas.inbox_bytes;
        self.lacks_room(client, bytes, besides) && !drops
    }

    pub fn make_room(&mut self, client: RegistrationId, bytes: usize, besides: u64, told: &mut Told) {
        while self.lacks_room(client, bytes, besides) {
            let known = self.client(client).expect("a client");
            let (position, id) = known.waiting().first().map(|(position, mail)| (*position, mail.id)).expect("some");
            known.mail[position as usize - 1].acknowledged = true;
            told.push(Effect::Withdrawn { registration: client, position: Position(position), dropped: true });
            self.settle_as(&[id], |fate| &mut fate.dropped, told);
        }
    }

    pub fn post(
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
            Err(result) => {
                let repeated = result.is_ok();
                return told.push(Effect::Sent { origin, stream, number, result, repeated });
            }
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
                    channel = Some((known.id, (*name).to_owned()));
                    reached = self.in_channel(known.id, name);
                }
            },
            Target::Everybody => reached = self.everybody(),
        }
        if terms.receipt {
            let known = self.clients.iter().find(|client| client.id == sender).expect("the owner");
            if known.waiting().len() as u64 + self.reserved(sender).0 >= self.quotas.inbox_messages {
                refused = Some(SendRefusal::NoRoomForReceipt);
            }
        }
        reached.sort_unstable();
        reached.dedup();
        let all = reached.len();
        let is_named = matches!(to, Target::Client(_) | Target::Clients(_));
        if terms.delay_ms > 0 && !is_named {
            reached.clear();
        }
        reached.retain(|client| !self.is_full(*client, content.len(), besides(*client)));
        let full = (all - reached.len()) as u32;
        if refused.is_some() {
            reached.clear();
        }
        for client in &reached {
            self.make_room(*client, content.len(), besides(*client), told);
        }
        let due = self.time + terms.delay_ms;
        let mail = Mail {
            id,
            stream,
            number: number.0,
            time: self.time,
            from,
            content: content.to_vec(),
            acknowledged: false,
            channel: channel.as_ref().map(|(_, name)| name.clone()),
            notice: None,
            expires: (terms.expires_ms > 0).then_some(due + terms.expires_ms),
        };
        let is_later = terms.delay_ms > 0 && refused.is_none();
        let mut arrived = Vec::new();
        if !is_later {
            self.put_all(&reached, &mail, &mut arrived);
        }
        let outcome = match (refused, to, arrived.first()) {
            (Some(refusal), ..) => SendOutcome::Refused(refusal),
            _ if is_later => SendOutcome::Scheduled(restante::wire::Time(due)),
            (None, Target::Client(_), Some(Effect::Arrived { position, .. })) => SendOutcome::Accepted(*position),
            _ => SendOutcome::Reached { inboxes: reached.len() as u32, full },
        };
        self.streams[at].sends.push((key, content.to_vec(), outcome));
        told.push(Effect::Sent { origin, stream, number, result: Ok(outcome), repeated: false });
        told.append(&mut arrived);
        if terms.receipt && refused.is_none() {
            let left = if is_later { 0 } else { reached.len() as u32 };
            self.tracked.push(Tracked { message: id, sender, stream, number: number.0, fate: Fate::default(), left });
            if left == 0 && !is_later {
                self.conclude(id, told);
            }
        }
        if is_later {
            let to = match (to, channel) {
                (Target::Channel(_), Some((id, name))) => Addressees::Channel(id, name),
                (Target::Everybody, _) => Addressees::Everybody,
                _ => Addressees::Clients(reached),
            };
            self.later.push(Later { due, mail, to });
        }
    }

    fn put_all(&mut self, reached: &[RegistrationId], mail: &Mail, told: &mut Told) {
        for registration in reached {
            let client = self.client(*registration).expect("a recipient");
            client.mail.push(mail.clone());
            let position = Position(client.mail.len() as u64);
            told.push(Effect::Arrived { registration: *registration, position });
        }
    }

    /// What is due by now comes before anything else of an entry.
    pub fn deliver_due(&mut self, told: &mut Told) {
        let now = self.time;
        let mut due: Vec<Later> = self.later.iter().filter(|later| later.due <= now).cloned().collect();
        due.sort_by_key(|later| (later.due, later.mail.id));
        for Later { mail, to, .. } in due {
            self.later.retain(|later| later.mail.id != mail.id);
            let bytes = mail.content.len();
            let (mut reached, is_named) = match to {
                Addressees::Clients(clients) => (clients, true),
                Addressees::Channel(id, name) => (self.in_channel(id, &name), false),
                Addressees::Everybody => (self.everybody(), false),
            };
            let all = reached.len();
            if is_named {
                reached.retain(|client| self.clients.iter().any(|known| known.id == *client));
            } else {
                reached.retain(|client| !self.is_full(*client, bytes, 0));
                for client in &reached {
                    self.make_room(*client, bytes, 0, told);
                }
            }
            let id = mail.id;
            let ended = if is_named { (all - reached.len()) as u32 } else { 0 };
            let mut is_over = false;
            if let Some(tracked) = self.tracked.iter_mut().find(|t| t.message == id) {
                tracked.fate.ended += ended;
                tracked.left = reached.len() as u32;
                is_over = tracked.left == 0;
            }
            self.put_all(&reached, &mail, told);
            if is_over {
                self.conclude(id, told);
            }
        }
    }

    /// What is due by now is done before the commands of an entry.
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
            let mut cleared = Vec::new();
            for registration in self.everybody() {
                let client = self.client(registration).expect("a client");
                let places = (1u64..).zip(&mut client.mail);
                for (position, mail) in places.filter(|(_, mail)| mail.id == id && !mail.acknowledged) {
                    mail.acknowledged = true;
                    cleared.push(id);
                    told.push(Effect::Withdrawn { registration, position: Position(position), dropped: false });
                }
            }
            self.settle_as(&cleared, |fate| &mut fate.expired, told);
        }
        for client in &mut self.clients {
            client.kept.retain(|(.., until)| until.is_none_or(|until| until > now));
        }
    }

    /// Changes what the owner of an inbox has set for it.
    pub fn set_inbox(&mut self, id: RegistrationId, settings: InboxSettings) {
        let bytes_max = self.quotas.inbox_bytes;
        let client = self.client(id).expect("a client");
        client.settings = settings;
        client.trim(bytes_max);
    }

    pub fn settle(&mut self, messages: &[Id], acknowledged: bool, told: &mut Told) {
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

    pub fn put_notice(&mut self, sender: RegistrationId, message: Id, notice: Notice, told: &mut Told) {
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
}
