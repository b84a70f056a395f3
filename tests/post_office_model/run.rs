//! A post office and a model that are given the same history: every effect and everything that can be read must be the
//! same after every entry, whatever is flushed, lost, released, restarted in between.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use restante::post_office::{
    Answer, BatchVerdict, Change, Content, Effect, PostOffice, Reading, Waiting, content_key, content_of,
};
use restante::wire::batch::{Batch, BatchHeader, encode_entry};
use restante::wire::client::{PresenceChange, PresenceEvent};
use restante::wire::{Id, Name, Number, Origin, Position, Time, frame};

use super::model::{Mail, Model, Told};
use super::operation::{self, Ever, NAMES, Operation, Step, resolve};

/// Both, and what surrounds them: the log, the checkpoint on the disk, the flush that is under way.
#[derive(Default)]
struct Run {
    office: PostOffice,
    model: Model,
    ever: Ever,
    log: Vec<(u64, Bytes)>,
    disk: BTreeMap<Vec<u8>, Bytes>,
    flushing: Option<Vec<Change>>,
    /// Who is where, and whether online, as the changes of presence tell it.
    present: BTreeMap<Id, (Name, bool)>,
}

impl Run {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Entry { later, batches } => self.entry(*later, batches),
            Step::Take => self.flushing = Some(self.office.take_changes()),
            Step::Finish { durable, effective } => {
                let Some(changes) = self.flushing.take() else { return };
                if *effective {
                    self.store(changes);
                }
                if *durable { self.office.changes_durable() } else { self.office.changes_lost() }
            }
            Step::Release { keep } => {
                let digest = self.office.digest();
                self.office.release_contents(*keep);
                assert_eq!(self.office.digest(), digest);
            }
            Step::Restart => {
                self.flushing = None;
                let records = self.disk.iter().map(|(key, value)| (key.clone(), value.clone()));
                let mut office = PostOffice::load(records).expect("a checkpoint of our own");
                for (index, entry) in
                    self.log.iter().filter(|(index, _)| *index > office.applied()).cloned().collect::<Vec<_>>()
                {
                    office.apply_entry(index, &entry, &mut |_| {}).expect("an entry of our own");
                }
                assert_eq!(office.digest(), self.office.digest(), "after a restart");
                assert_eq!(office.next_due(), self.office.next_due(), "after a restart");
                self.office = office;
            }
        }
        self.compare();
    }

    fn store(&mut self, changes: Vec<Change>) {
        assert!(changes.is_sorted_by(|a, b| a.key() < b.key()), "sorted, and no key twice");
        for change in changes {
            match change {
                Change::Put { key, head, content } => {
                    self.disk.insert(key, [head, content.to_vec()].concat().into());
                }
                Change::Remove { key } => drop(self.disk.remove(&key)),
                Change::RemoveRange { from, to } => self.disk.retain(|key, _| *key < from || *key >= to),
            }
        }
    }

    fn entry(&mut self, later: u64, batches: &[operation::Batch]) {
        let index = self.office.applied() + 1;
        let time = self.model.time + later;
        self.model.time = time;
        let mut expected = Told::new();
        self.model.deliver_due(&mut expected);
        self.model.expire(&mut expected);
        let mut encoded = Vec::new();
        let mut place = 0u16;
        for batch in batches {
            let operation::Batch { incarnation, boot_ahead, sequence_ahead, operations } = batch;
            let (boot, last) = self.model.boots.get(incarnation).copied().unwrap_or((3, 0));
            let boot = boot.saturating_add_signed(*boot_ahead);
            let last = if *boot_ahead > 0 { 0 } else { last };
            let sequence = (last + 1).saturating_add_signed(*sequence_ahead);
            let origin = Origin { incarnation: *incarnation, boot };
            let verdict = self.model.batch(origin, sequence);
            expected.push(Effect::Batch { origin, sequence, verdict });
            let mut frames = BytesMut::new();
            for operation in operations {
                let id = Id::at(index, place);
                place += 1;
                let told = self.operation(operation, &mut frames, verdict, origin, id);
                expected.extend(told);
            }
            let (bytes, commands) = (frames.len() as u32, operations.len() as u32);
            encoded.push(Batch { header: BatchHeader { origin, sequence, bytes, commands }, frames: frames.freeze() });
        }
        let entry = encode_entry(Time(time), &encoded);
        let mut seen = Told::new();
        self.office.apply_entry(index, &entry, &mut |effect| seen.push(owned(&effect))).expect("an entry of our own");
        self.log.push((index, entry));
        seen.retain(|effect| match effect {
            Effect::Presence(event) => {
                self.follow(index, event);
                false
            }
            _ => true,
        });
        assert_eq!(in_order(seen), in_order(expected));
    }

    /// Whoever follows the changes of presence knows who is there.
    fn follow(&mut self, index: u64, event: &PresenceEvent) {
        assert_eq!(event.index, index);
        let row = &event.client;
        let now = (row.home.clone(), row.online);
        let before = match event.change {
            PresenceChange::Deregistered => self.present.remove(&row.registration),
            _ => self.present.insert(row.registration, now.clone()),
        };
        match &event.change {
            PresenceChange::Registered => assert_eq!((before, row.online), (None, false)),
            PresenceChange::Deregistered => assert_eq!(before, Some(now)),
            PresenceChange::Online => assert!(row.online),
            PresenceChange::Offline => assert!(!row.online && before.is_some_and(|(_, online)| online)),
            PresenceChange::Moved { from } => assert_ne!(*from, row.home),
        }
    }

    /// Encodes an operation's command and carries it out on the model, if its batch is applied.
    fn operation(
        &mut self,
        operation: &Operation,
        frames: &mut BytesMut,
        verdict: BatchVerdict,
        origin: Origin,
        id: Id,
    ) -> Told {
        let mut told = Told::new();
        let command = resolve(operation, &self.model, &self.ever);
        match (&command, operation) {
            (Some((command, content)), _) => command.put(frames, content),
            (None, Operation::Garbage(garbage)) => frame::put(frames, 99, garbage, b""),
            (None, _) => unreachable!("only garbage is no command"),
        }
        if verdict != BatchVerdict::Applied {
            return told;
        }
        let Some((command, content)) = command else {
            self.model.malformed += 1;
            return vec![Effect::Skipped { origin, reason: "" }];
        };
        self.model.command(origin, id, &command, content, &mut told);
        for effect in &told {
            match effect {
                Effect::Answered { answer: Answer::Registered { registration }, .. } if *registration == id => {
                    self.ever.registrations.push(id);
                }
                Effect::Answered { answer: Answer::StreamOpened { stream, .. }, .. } if *stream == id => {
                    self.ever.streams.push(id);
                }
                _ => {}
            }
        }
        told
    }

    fn compare(&self) {
        let (office, model) = (&self.office, &self.model);
        assert_eq!((office.time().0, office.quotas()), (model.time, &model.quotas));
        for (incarnation, (boot, last)) in &model.boots {
            assert_eq!(office.last_sequence(Origin { incarnation: *incarnation, boot: *boot }), *last);
            assert_eq!(office.last_sequence(Origin { incarnation: *incarnation, boot: boot + 1 }), 0);
        }
        let totals = office.totals();
        assert_eq!((totals.clients, totals.streams), (model.clients.len() as u64, model.streams.len() as u64));
        assert_eq!(totals.waiting, model.clients.iter().map(|c| c.waiting().len() as u64).sum::<u64>());
        assert_eq!(totals.waiting_bytes, model.clients.iter().map(|c| c.waiting_bytes()).sum::<u64>());
        assert_eq!(totals.malformed, model.malformed);
        let idle = model.quotas.stream_idle_ms;
        let mails = model.clients.iter().flat_map(|client| &client.mail).filter(|mail| !mail.acknowledged);
        let expires = mails.filter_map(|mail| mail.expires).min();
        let later = model.later.iter().map(|later| later.due);
        let kept = model.clients.iter().flat_map(|client| &client.kept).filter_map(|(.., until)| *until);
        let due = model.streams.iter().map(|s| s.used + idle).chain(expires).chain(later).chain(kept).min();
        assert_eq!(office.next_due().is_some(), due.is_some());
        assert!(office.next_due().map(|time| time.0) <= due, "never later than something is due");
        let mut servers = model.servers.clone();
        servers.sort();
        let known = office.servers().map(|(name, s)| (name.to_string(), s.address.clone(), s.incarnation));
        assert_eq!(known.collect::<Vec<_>>(), servers);
        let drained = office.servers().filter(|(_, server)| server.drained).map(|(name, _)| name.to_string());
        assert!(drained.eq(model.drained.iter().cloned()), "others are drained");
        for (_, incarnation, _) in &model.enrolled {
            assert_eq!(office.is_retired(*incarnation), model.retired.contains(incarnation));
        }
        assert_eq!((totals.channels, totals.tracked), (model.channels.len() as u64, model.tracked.len() as u64));
        assert_eq!(totals.scheduled, model.later.len() as u64);
        self.compare_clients();
        self.compare_channels();
        self.compare_homes();
        self.compare_inboxes();
        self.compare_streams();
    }

    fn compare_clients(&self) {
        let (office, model) = (&self.office, &self.model);
        let mut clients: Vec<_> = model.clients.iter().collect();
        clients.sort_by(|a, b| a.name.cmp(&b.name));
        let rows = clients.iter().map(|client| {
            let streams = model.streams.iter().filter(|s| s.owner == client.id).count() as u32;
            let online = client.session().is_some();
            let waiting = (client.waiting().len() as u64, client.waiting_bytes());
            (client.name.clone(), client.id, client.home().to_owned(), online, client.last_seen, waiting, streams)
        });
        let (seen, more) = office.who(None, 99);
        let seen = seen.into_iter().map(|r| {
            let waiting = (r.waiting, r.waiting_bytes);
            (r.name.to_string(), r.registration, r.home.to_string(), r.online, r.last_seen.0, waiting, r.streams)
        });
        assert_eq!(seen.collect::<Vec<_>>(), rows.collect::<Vec<_>>());
        assert!(!more);
        let rows = office.who(None, 99).0;
        let present = rows.into_iter().map(|row| (row.registration, (row.home, row.online)));
        assert_eq!(present.collect::<BTreeMap<_, _>>(), self.present);
        for name in NAMES {
            let held = office.registration(name);
            assert_eq!(held.as_ref().map(|r| r.registration), model.named(name).map(|client| client.id));
            if let (Some(held), Some(client)) = (held, model.named(name)) {
                assert_eq!((held.epoch.0, held.attached), (client.epoch, client.present));
            }
            let Ok(name) = Name::new(name) else { continue };
            let after = clients.iter().filter(|client| *client.name > *name).count();
            let (rows, more) = office.who(Some(&name), 1);
            assert_eq!((rows.len(), more), (after.min(1), after > 1));
        }
    }

    fn compare_channels(&self) {
        let mut channels: Vec<_> = self.model.channels.iter().collect();
        channels.sort_by(|a, b| a.name.cmp(&b.name));
        let (seen, more) = self.office.channels(None, 99);
        let seen = seen.iter().map(|row| (&*row.name, row.members));
        assert_eq!(
            seen.collect::<Vec<_>>(),
            channels.iter().map(|known| (&*known.name, known.members.len() as u64)).collect::<Vec<_>>()
        );
        assert!(!more);
        for name in operation::CHANNELS {
            let known = channels.iter().find(|known| known.name == name);
            let Some(known) = known else {
                assert_eq!(self.office.members(name, None, 99), None);
                continue;
            };
            let (members, more) = self.office.members(name, None, 99).expect("a channel");
            assert!(members.iter().map(|member| &member.registration).eq(&known.members) && !more);
        }
    }

    fn compare_homes(&self) {
        let mut homes: Vec<&str> = self.model.clients.iter().map(|client| &*client.home).collect();
        homes.sort_unstable();
        homes.dedup();
        assert_eq!(self.office.homes().map(|home| &**home).collect::<Vec<_>>(), homes);
    }

    fn compare_inboxes(&self) {
        let (office, model) = (&self.office, &self.model);
        for id in &self.ever.registrations {
            let Some(client) = model.clients.iter().find(|client| client.id == *id) else {
                assert_eq!(office.reader(*id), None);
                assert_eq!(office.waiting(*id, Position(0), 9, 9), []);
                continue;
            };
            let reader = office.reader(*id).expect("a registration that holds");
            assert_eq!((reader.epoch.0, reader.acknowledged.0), (client.epoch, client.floor()));
            assert_eq!((reader.end.0, &*reader.home), (client.mail.len() as u64, client.home()));
            assert_eq!(reader.attached, client.present);
            let reading = match (&client.reader, &client.at) {
                (None, _) => Reading::Nobody,
                (Some(_), None) => Reading::Apart,
                (Some(_), Some(_)) => Reading::Session,
            };
            assert_eq!(reader.reading, reading);
            assert_eq!(reader.window, client.reader.map_or(0, |(_, window)| window));
            let seen = office.waiting(*id, Position(0), usize::MAX, usize::MAX);
            let waiting = client.waiting();
            assert_eq!(seen.len(), waiting.len());
            for (seen, (position, mail)) in seen.iter().zip(&waiting) {
                let d = &seen.delivery;
                assert_eq!((d.position.0, d.message, d.stream), (*position, mail.id, mail.stream));
                assert_eq!((d.number.0, d.time.0, &*d.from), (mail.number, mail.time, &*mail.from));
                assert_eq!(d.redelivered, client.marked.contains(position), "position {position}");
                assert_eq!(d.redelivered, d.position < reader.redelivered_below);
                assert_eq!((d.channel.as_deref(), d.notice), (mail.channel.as_deref(), mail.notice));
                self.compare_content(seen, mail);
            }
            let (registration, seen, more) =
                office.history(&client.name, Position(0), usize::MAX, usize::MAX).expect("a registration that holds");
            assert_eq!((registration, seen.len(), more), (*id, client.kept.len(), false));
            for (seen, (position, mail, _)) in seen.iter().zip(&client.kept) {
                assert_eq!((seen.delivery.position.0, seen.delivery.message), (*position, mail.id));
                self.compare_content(seen, mail);
            }
            if let Some((position, ..)) = client.kept.get(1) {
                let (_, seen, more) = office.history(&client.name, Position(*position), 1, 99).expect("it holds");
                assert_eq!((seen[0].delivery.position.0, more), (*position, client.kept.len() > 2));
            }
            let settings = office.inbox_settings_of(&client.name);
            assert_eq!(settings, Some((client.settings, client.kept.len() as u64, client.changes)));
            for (from, to) in [(0, 99), (2, 3), (client.floor() + 1, client.mail.len() as u64), (3, 2)] {
                let expected = waiting.iter().filter(|(p, _)| from <= *p && *p <= to).count() as u64;
                assert_eq!(office.unacknowledged(*id, Position(from), Position(to)), expected);
            }
            let some = office.waiting(*id, Position(2), 2, 14);
            let mut bytes = 0;
            let expected: Vec<u64> = waiting
                .iter()
                .filter(|(p, _)| *p >= 2)
                .take(2)
                .enumerate()
                .take_while(|(i, (_, mail))| {
                    bytes += mail.content.len();
                    *i == 0 || bytes <= 14
                })
                .map(|(_, (p, _))| *p)
                .collect();
            assert_eq!(some.iter().map(|w| w.delivery.position.0).collect::<Vec<_>>(), expected);
        }
    }

    fn compare_content(&self, seen: &Waiting, mail: &Mail) {
        assert_eq!(seen.delivery.content_bytes as usize, mail.content.len());
        let content = match &seen.content {
            Content::Memory(content) => content.clone(),
            Content::Stored(message) => content_of(&self.disk[&content_key(*message)]).expect("a message's record"),
        };
        assert_eq!(content, mail.content);
    }

    fn compare_streams(&self) {
        for id in &self.ever.streams {
            let seen = self.office.stream_owner(*id);
            let Some(stream) = self.model.streams.iter().find(|s| s.id == *id) else {
                assert_eq!(seen, None);
                continue;
            };
            let seen = seen.expect("an open stream");
            let owner = self.model.clients.iter().find(|client| client.id == stream.owner).expect("its owner");
            assert_eq!((seen.registration, &*seen.name), (owner.id, &*owner.name));
            assert_eq!((seen.last.0, seen.confirmed.0), (stream.sends.len() as u64, stream.confirmed));
            assert_eq!(seen.used.0, stream.used);
            for number in 0..=seen.last.0 + 1 {
                let kept = number > stream.confirmed && number <= seen.last.0;
                let expected = kept.then(|| stream.sends[number as usize - 1].2);
                assert_eq!(self.office.outcome(*id, Number(number)), expected);
            }
        }
    }
}

/// Streams that one tick closes come in any order.
fn in_order(mut told: Told) -> Told {
    let closed = |effect: &Effect<'_>| matches!(effect, Effect::StreamClosed { .. });
    for run in told.chunk_by_mut(|a, b| closed(a) && closed(b)) {
        run.sort_by_key(|effect| match effect {
            Effect::StreamClosed { stream } => *stream,
            _ => Id(0),
        });
    }
    told
}

/// The same effect, with nothing borrowed; why a command is malformed is not compared.
fn owned(effect: &Effect<'_>) -> Effect<'static> {
    match effect.clone() {
        Effect::Batch { origin, sequence, verdict } => Effect::Batch { origin, sequence, verdict },
        Effect::Sent { origin, stream, number, result, repeated } => {
            Effect::Sent { origin, stream, number, result, repeated }
        }
        Effect::Answered { origin, nonce, answer } => Effect::Answered { origin, nonce, answer },
        Effect::Arrived { registration, position } => Effect::Arrived { registration, position },
        Effect::Acknowledged { registration, epoch, up_to } => Effect::Acknowledged { registration, epoch, up_to },
        Effect::Fenced { registration, epoch, by } => Effect::Fenced { registration, epoch, by },
        Effect::Left { registration, epoch, home } => Effect::Left { registration, epoch, home },
        Effect::StreamClosed { stream } => Effect::StreamClosed { stream },
        Effect::Withdrawn { registration, position, dropped } => Effect::Withdrawn { registration, position, dropped },
        Effect::Delivered { stream, sequence, number, fate } => Effect::Delivered { stream, sequence, number, fate },
        Effect::Presence(event) => Effect::Presence(event),
        Effect::Skipped { origin, .. } => Effect::Skipped { origin, reason: "" },
    }
}

/// Carries out a history. Panics where the two differ.
pub fn check(steps: &[Step]) {
    let mut run = Run::default();
    steps.iter().for_each(|step| run.step(step));
    // Whatever came before, a last flush and a restart bring the same state back.
    [Step::Take, Step::Finish { durable: true, effective: true }, Step::Release { keep: 0 }, Step::Restart]
        .iter()
        .for_each(|step| run.step(step));
    assert_eq!(run.office.totals().content_bytes_in_memory, 0);
}
