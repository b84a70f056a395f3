//! Arbitrary log entries, applied by three servers: one that only applies, one that does so too, and one that is brought
//! back from its checkpoint every now and then. None panics, and all come to the same state.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use bytes::{Bytes, BytesMut};
use restante::post_office::{Change, PostOffice};
use restante::wire::batch::{Batch, BatchHeader, encode_entry};
use restante::wire::command::Command;
use restante::wire::sharing::{Enlistment, InboxSettings, Overflow, Target, Terms};
use restante::wire::{Epoch, Id, Number, Origin, Position, Quotas, Time};

/// Few names, ids and numbers, so that commands meet.
#[derive(Debug, Arbitrary)]
enum Step {
    Send {
        stream: SmallId,
        number: u8,
        confirmed: u8,
        to: u8,
        content: Vec<u8>,
    },
    Acknowledge {
        registration: SmallId,
        epoch: u8,
        up_to: u8,
        ranges: Vec<(u8, u8)>,
    },
    Confirm {
        stream: SmallId,
        confirmed: u64,
    },
    Register {
        nonce: u8,
        name: u8,
        home: u8,
    },
    Deregister {
        nonce: u8,
        name: u8,
        registration: Option<SmallId>,
    },
    OpenStream {
        nonce: u8,
        name: u8,
    },
    CloseStream {
        nonce: u8,
        stream: SmallId,
    },
    Attach {
        nonce: u8,
        name: u8,
        home: u8,
        expected: u8,
        resumes: Option<SmallId>,
        window: u32,
    },
    Detach {
        nonce: u8,
        registration: SmallId,
        epoch: u8,
        delivered: Option<u64>,
    },
    Enroll {
        server: u8,
        address: String,
        disk: u8,
    },
    SetQuotas {
        messages: u8,
        bytes: u16,
        streams: u8,
        window: u8,
        clients: u8,
        idle: u16,
    },
    Tick,
    Vanished {
        registration: SmallId,
        epoch: u8,
        home: u8,
    },
    AddServer {
        nonce: u8,
        server: u8,
        address: u8,
    },
    RemoveServer {
        nonce: u8,
        server: u8,
    },
    SetDrained {
        nonce: u8,
        server: u8,
        drained: bool,
    },
    Post {
        stream: SmallId,
        number: u8,
        confirmed: u8,
        to: Vec<u8>,
        whom: u8,
        receipt: bool,
        expires: u8,
        content: Vec<u8>,
    },
    CollectReceipts {
        stream: SmallId,
        up_to: u64,
    },
    CreateChannel {
        nonce: u8,
        channel: u8,
    },
    DeleteChannel {
        channel: u8,
    },
    Enlist {
        nonce: u8,
        name: u8,
        registration: Option<SmallId>,
        changes: u8,
        change: u8,
        what: u8,
    },
    /// The rest of the batch is these bytes, whatever they are.
    Bytes(Vec<u8>),
    /// The batch ends here.
    NextBatch {
        origin: u8,
        sequence: u8,
        commands: Option<u32>,
    },
    /// The entry ends here.
    NextEntry {
        later: u32,
    },
    /// The entry ends here, and is these bytes.
    RawEntry(Vec<u8>),
    /// The third server is brought back from its checkpoint.
    Restart {
        flush_is_lost: bool,
    },
}

const CHANNELS: [&str; 4] = ["x", "x.y", "z.y", "x."];
const PATTERNS: [&str; 5] = ["x.*", ">", "*.y", "x", "x.>.y"];

/// An id made in one of the first entries, or not at all.
#[derive(Debug, Clone, Copy, Arbitrary)]
struct SmallId {
    index: u8,
    ordinal: u8,
}

impl SmallId {
    fn id(self) -> Id {
        Id::at(u64::from(self.index % 32), u16::from(self.ordinal % 8))
    }
}

/// Takes `data` for a history.
pub fn post_office(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let mut run = Run::default();
    while !input.is_empty() {
        let Ok(step) = input.arbitrary::<Step>() else { break };
        run.step(step);
    }
    run.end_entry(0);
    run.restart(false);
    run.compare();
}

struct Run {
    plain: [PostOffice; 2],
    restarting: PostOffice,
    disk: BTreeMap<Vec<u8>, Bytes>,
    time: u64,
    frames: BytesMut,
    commands: u32,
    batches: Vec<Batch>,
    sequences: BTreeMap<u8, u64>,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            plain: [PostOffice::new(), PostOffice::new()],
            restarting: PostOffice::new(),
            disk: BTreeMap::new(),
            time: 0,
            frames: BytesMut::new(),
            commands: 0,
            batches: Vec::new(),
            sequences: BTreeMap::new(),
        }
    }
}

impl Run {
    fn step(&mut self, step: Step) {
        let names: Vec<String> =
            (0..8).map(|n| format!("name{n}")).chain(["no name".to_owned(), String::new()]).collect();
        let name = |n: u8| names[usize::from(n) % names.len()].as_str();
        let mut put = |command: Command<'_>, content: &[u8]| {
            command.put(&mut self.frames, content);
            self.commands += 1;
        };
        match step {
            Step::Send { stream, number, confirmed, to, content } => {
                let (number, confirmed) = (Number(number.into()), Number(confirmed.into()));
                put(Command::Send { stream: stream.id(), number, confirmed, to: name(to) }, &content);
            }
            Step::Acknowledge { registration, epoch, up_to, ranges } => {
                let ranges = ranges.into_iter().map(|(a, b)| (Position(a.into()), Position(b.into()))).collect();
                let (epoch, up_to) = (Epoch(epoch.into()), Position(up_to.into()));
                put(Command::Acknowledge { registration: registration.id(), epoch, up_to, ranges }, b"");
            }
            Step::Confirm { stream, confirmed } => {
                put(Command::Confirm { stream: stream.id(), confirmed: Number(confirmed) }, b"");
            }
            Step::Register { nonce, name: n, home } => {
                put(Command::Register { nonce: nonce.into(), name: name(n), home: name(home) }, b"");
            }
            Step::Deregister { nonce, name: n, registration } => {
                let registration = registration.map(SmallId::id);
                put(Command::Deregister { nonce: nonce.into(), name: name(n), registration }, b"");
            }
            Step::OpenStream { nonce, name: n } => put(Command::OpenStream { nonce: nonce.into(), name: name(n) }, b""),
            Step::CloseStream { nonce, stream } => {
                put(Command::CloseStream { nonce: nonce.into(), stream: stream.id() }, b"");
            }
            Step::Attach { nonce, name: n, home, expected, resumes, window } => {
                let (nonce, expected, resumes) = (nonce.into(), Epoch(expected.into()), resumes.map(SmallId::id));
                put(Command::Attach { nonce, name: name(n), home: name(home), expected, resumes, window }, b"");
            }
            Step::Detach { nonce, registration, epoch, delivered } => {
                let (epoch, delivered) = (Epoch(epoch.into()), delivered.map(Position));
                put(Command::Detach { nonce: nonce.into(), registration: registration.id(), epoch, delivered }, b"");
            }
            Step::Enroll { server, address, disk } => {
                put(Command::Enroll { server: name(server), address: &address, disk: disk.into() }, b"");
            }
            Step::SetQuotas { messages, bytes, streams, window, clients, idle } => put(
                Command::SetQuotas(Quotas {
                    inbox_messages: messages.into(),
                    inbox_bytes: bytes.into(),
                    streams_per_client: streams.into(),
                    stream_window: window.into(),
                    clients: clients.into(),
                    stream_idle_ms: idle.into(),
                }),
                b"",
            ),
            Step::Post { stream, number, confirmed, to, whom, receipt, expires, content } => {
                let (number, confirmed) = (Number(number.into()), Number(confirmed.into()));
                let first = to.first().copied().unwrap_or_default();
                let to = match whom % 4 {
                    0 => Target::Client(name(first)),
                    1 => Target::Clients(to.iter().map(|n| name(*n)).collect()),
                    2 => Target::Channel(CHANNELS[usize::from(first) % CHANNELS.len()]),
                    _ => Target::Everybody,
                };
                put(
                    Command::Post {
                        stream: stream.id(),
                        number,
                        confirmed,
                        to,
                        terms: Terms { receipt, expires_ms: expires.into(), delay_ms: u64::from(whom / 4) },
                    },
                    &content,
                );
            }
            Step::CollectReceipts { stream, up_to } => {
                put(Command::CollectReceipts { stream: stream.id(), up_to }, b"");
            }
            Step::CreateChannel { nonce, channel } => {
                let channel = CHANNELS[usize::from(channel) % CHANNELS.len()];
                put(Command::CreateChannel { nonce: nonce.into(), channel }, b"");
            }
            Step::DeleteChannel { channel } => {
                let channel = CHANNELS[usize::from(channel) % CHANNELS.len()];
                put(Command::DeleteChannel { nonce: 1, channel }, b"");
            }
            Step::Enlist { nonce, name: n, registration, changes, change, what } => {
                let expected = registration.map_or(0, |id| id.id().0) + u64::from(changes);
                let channel = CHANNELS[usize::from(what) % CHANNELS.len()];
                let pattern = PATTERNS[usize::from(what) % PATTERNS.len()];
                let settings = InboxSettings {
                    overflow: if what % 2 == 0 { Overflow::DropOldest } else { Overflow::Refuse },
                    keep_messages: u32::from(what / 2 % 8),
                    keep_ms: u64::from(what / 16),
                };
                let change = match change % 5 {
                    0 => Enlistment::Join(channel),
                    1 => Enlistment::Leave(channel),
                    2 => Enlistment::Subscribe(pattern),
                    3 => Enlistment::Unsubscribe(pattern),
                    _ => Enlistment::SetInbox(settings),
                };
                put(Command::Enlist { nonce: nonce.into(), name: name(n), expected, change }, b"");
            }
            Step::Tick => put(Command::Tick, b""),
            Step::Vanished { registration, epoch, home } => {
                let (registration, epoch) = (registration.id(), Epoch(epoch.into()));
                put(Command::Vanished { registration, epoch, home: name(home) }, b"");
            }
            Step::AddServer { nonce, server, address } => {
                let address = format!("host{}:1", address % 3);
                put(Command::AddServer { nonce: nonce.into(), server: name(server), address: &address }, b"");
            }
            Step::RemoveServer { nonce, server } => {
                put(Command::RemoveServer { nonce: nonce.into(), server: name(server) }, b"");
            }
            Step::SetDrained { nonce, server, drained } => {
                put(Command::SetDrained { nonce: nonce.into(), server: name(server), drained }, b"");
            }
            Step::Bytes(bytes) => self.frames.extend_from_slice(&bytes),
            Step::NextBatch { origin, sequence, commands } => self.end_batch(origin % 4, sequence, commands),
            Step::NextEntry { later } => self.end_entry(later),
            Step::RawEntry(bytes) => {
                self.end_entry(0);
                self.apply(&bytes.into());
            }
            Step::Restart { flush_is_lost } => self.restart(flush_is_lost),
        }
    }

    /// Mostly the next sequence of its origin.
    fn end_batch(&mut self, origin: u8, odd: u8, commands: Option<u32>) {
        let next = self.sequences.entry(origin).or_default();
        let sequence = if odd < 200 { *next + 1 } else { u64::from(odd - 200) };
        *next = (*next).max(sequence);
        let frames = self.frames.split().freeze();
        let commands = commands.unwrap_or(self.commands);
        self.commands = 0;
        let origin = Origin { incarnation: u64::from(origin / 2) + 1, boot: u64::from(origin % 2) + 1 };
        let header = BatchHeader { origin, sequence, bytes: frames.len() as u32, commands };
        self.batches.push(Batch { header, frames });
    }

    fn end_entry(&mut self, later: u32) {
        if !self.frames.is_empty() {
            self.end_batch(0, 0, None);
        }
        self.time += u64::from(later);
        let entry = encode_entry(Time(self.time), &std::mem::take(&mut self.batches));
        self.apply(&entry);
    }

    fn apply(&mut self, entry: &Bytes) {
        let index = self.plain[0].applied() + 1;
        let mut told: Vec<String> = Vec::new();
        for office in self.plain.iter_mut().chain([&mut self.restarting]) {
            let mut effects = String::new();
            let applied = office.apply_entry(index, entry, &mut |effect| effects.push_str(&format!("{effect:?}\n")));
            told.push(format!("{effects}{applied:?}"));
            if applied.is_err() {
                // The log's next entry has this index, too; nothing may have changed.
                assert_eq!(office.applied(), index - 1);
            }
        }
        assert_eq!(told[0], told[1], "two servers told different effects");
        assert_eq!(told[0], told[2], "a server that was brought back told different effects");
    }

    fn restart(&mut self, flush_is_lost: bool) {
        let changes = self.restarting.take_changes();
        if flush_is_lost {
            return self.restarting.changes_lost();
        }
        for change in changes {
            match change {
                Change::Put { key, head, content } => {
                    self.disk.insert(key, [&head[..], &content].concat().into());
                }
                Change::Remove { key } => drop(self.disk.remove(&key)),
                Change::RemoveRange { from, to } => self.disk.retain(|key, _| *key < from || *key >= to),
            }
        }
        self.restarting.changes_durable();
        let records = self.disk.iter().map(|(key, value)| (key.clone(), value.clone()));
        self.restarting = PostOffice::load(records).expect("a state that was stored can be loaded");
        self.compare();
    }

    fn compare(&self) {
        assert_eq!(self.plain[0].digest(), self.plain[1].digest(), "two servers differ");
        assert_eq!(self.plain[0].digest(), self.restarting.digest(), "a server that was brought back differs");
    }
}
