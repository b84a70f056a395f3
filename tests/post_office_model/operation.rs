//! What is done to the post office and the model alike. Few names, few contents, numbers and positions near the edge, so
//! that commands meet. What refers to things that exist is resolved against the model when its turn comes.

use restante::wire::command::Command;
use restante::wire::sharing::{Enlistment, InboxSettings, Overflow, Target, Terms};
use restante::wire::{Epoch, Id, Number, Position, Quotas, Time};

use super::model::Model;

pub const NAMES: [&str; 5] = ["a", "b", "ab", "c", "not a name"];
pub const CHANNELS: [&str; 4] = ["x", "x.y", "z.y", "x."];
const PATTERNS: [&str; 5] = ["x.*", ">", "*.y", "x", "x.>.y"];
const SETTINGS: [InboxSettings; 5] = [
    InboxSettings { overflow: Overflow::DropOldest, keep_messages: 0, keep_ms: 0 },
    InboxSettings { overflow: Overflow::Refuse, keep_messages: 9, keep_ms: 0 },
    InboxSettings { overflow: Overflow::DropOldest, keep_messages: 3, keep_ms: 50 },
    InboxSettings { overflow: Overflow::Refuse, keep_messages: 9, keep_ms: 200 },
    InboxSettings { overflow: Overflow::Refuse, keep_messages: u32::MAX, keep_ms: 9 },
];
const CONTENTS: [&[u8]; 4] = [b"", b"x", b"bx", b"a longer one"];

#[derive(Debug, Clone)]
pub enum Step {
    Entry {
        later: u64,
        batches: Vec<Batch>,
    },
    /// A flush begins.
    Take,
    /// The flush ends: it is durable, or lost; and it may have taken effect even if lost.
    Finish {
        durable: bool,
        effective: bool,
    },
    Release {
        keep: u64,
    },
    /// The process ends; the next one loads the checkpoint and applies the log from there.
    Restart,
}

#[derive(Debug, Clone)]
pub struct Batch {
    pub incarnation: u64,
    pub boot_ahead: i64,
    pub sequence_ahead: i64,
    pub operations: Vec<Operation>,
}

#[derive(Debug, Clone)]
pub enum Operation {
    Send {
        stream: usize,
        ahead: i64,
        confirmed: i64,
        to: usize,
        content: usize,
    },
    Post {
        stream: usize,
        ahead: i64,
        confirmed: i64,
        to: Whom,
        receipt: bool,
        expires: u64,
        delay: u64,
        content: usize,
    },
    Collect {
        stream: usize,
        up_to: i64,
    },
    CreateChannel {
        nonce: u128,
        channel: usize,
    },
    DeleteChannel {
        channel: usize,
    },
    Enlist {
        nonce: u128,
        name: usize,
        ahead: i64,
        change: usize,
        what: usize,
    },
    Confirm {
        stream: usize,
        confirmed: i64,
    },
    Acknowledge {
        client: usize,
        epoch: i64,
        up_to: i64,
        ranges: Vec<(i64, i64)>,
    },
    Register {
        nonce: u128,
        name: usize,
        home: usize,
    },
    Deregister {
        name: usize,
        registration: Option<usize>,
    },
    Open {
        nonce: u128,
        name: usize,
    },
    Close {
        stream: usize,
    },
    Attach {
        nonce: u128,
        name: usize,
        home: usize,
        epoch: i64,
        resumes: Option<Option<usize>>,
        window: u32,
    },
    Detach {
        client: usize,
        epoch: i64,
        delivered: Option<i64>,
    },
    Vanish {
        client: usize,
        epoch: i64,
        home: usize,
    },
    SetHome {
        name: usize,
        home: usize,
        instead_of: Option<usize>,
    },
    MoveClients {
        from: usize,
        to: Vec<usize>,
        later: i64,
    },
    AttachApart {
        nonce: u128,
        name: usize,
        registration: Option<usize>,
        epoch: i64,
        window: u32,
    },
    AcknowledgeApart {
        client: usize,
        name: Option<usize>,
        epoch: i64,
        up_to: i64,
        ranges: Vec<(i64, i64)>,
    },
    Enroll {
        server: usize,
        address: usize,
        disk: u128,
    },
    AddServer {
        nonce: u128,
        server: usize,
        address: usize,
    },
    RemoveServer {
        nonce: u128,
        server: usize,
    },
    SetDrained {
        nonce: u128,
        server: usize,
        drained: bool,
    },
    SetQuotas(Quotas),
    Tick,
    Garbage(Vec<u8>),
}

/// Who a post goes to.
#[derive(Debug, Clone)]
pub enum Whom {
    Client(usize),
    Clients(Vec<usize>),
    Channel(usize),
    Everybody,
}

/// How every history begins: with clients, streams and a reader, since nothing much happens before that.
pub fn opening(quotas: Quotas) -> Step {
    let mut operations = vec![Operation::SetQuotas(Quotas { clients: 4, ..quotas })];
    operations.extend([0, 1, 2].map(|name| Operation::Register { nonce: 0, name, home: 3 }));
    operations.extend([0, 1].map(|name| Operation::Open { nonce: 0, name }));
    operations.push(Operation::CreateChannel { nonce: 0, channel: 1 });
    operations.extend([0, 1].map(|name| Operation::Enlist { nonce: 9, name, ahead: 0, change: 0, what: 1 }));
    operations.push(Operation::Attach { nonce: 0, name: 1, home: 3, epoch: 0, resumes: None, window: 2 });
    let batch = Batch { incarnation: 1, boot_ahead: 0, sequence_ahead: 0, operations };
    Step::Entry { later: 0, batches: vec![batch] }
}

/// Every id that ever was, so that histories also name things that have ended.
#[derive(Debug, Default)]
pub struct Ever {
    pub registrations: Vec<Id>,
    pub streams: Vec<Id>,
}

fn pick(ids: &[Id], choice: usize) -> Id {
    ids.iter().rev().nth(choice).copied().unwrap_or(Id::at(1 << 20, 0))
}

fn plus(number: u64, ahead: i64) -> u64 {
    number.saturating_add_signed(ahead)
}

fn ranges_above(up_to: u64, ranges: &[(i64, i64)]) -> Vec<(Position, Position)> {
    let mut below = up_to;
    let place = |(gap, length): &(i64, i64)| {
        let from = plus(below + 1, *gap);
        below = plus(from, *length);
        (Position(from), Position(below))
    };
    ranges.iter().map(place).collect()
}

/// The command that an operation stands for, and its content; `None` is garbage.
pub fn resolve(operation: &Operation, model: &Model, ever: &Ever) -> Option<(Command<'static>, &'static [u8])> {
    let last = |stream: Id| model.streams.iter().find(|s| s.id == stream).map_or(0, |s| s.sends.len() as u64);
    let known = |registration: Id| model.clients.iter().find(|client| client.id == registration);
    let epoch_of = |registration: Id, ahead: i64| Epoch(plus(known(registration).map_or(0, |c| c.epoch), ahead));
    let floor_of = |registration: Id| known(registration).map_or(0, |client| client.floor());
    let command = match *operation {
        Operation::Send { stream, ahead, confirmed, to, content } => {
            let stream = pick(&ever.streams, stream);
            let last = last(stream);
            let (number, confirmed) = (Number(plus(last + 1, ahead)), Number(plus(last, confirmed)));
            return Some((Command::Send { stream, number, confirmed, to: NAMES[to] }, CONTENTS[content]));
        }
        Operation::Post { stream, ahead, confirmed, ref to, receipt, expires, delay, content } => {
            let stream = pick(&ever.streams, stream);
            let last = last(stream);
            let (number, confirmed) = (Number(plus(last + 1, ahead)), Number(plus(last, confirmed)));
            let to = match to {
                Whom::Client(name) => Target::Client(NAMES[*name]),
                Whom::Clients(names) => Target::Clients(names.iter().map(|name| NAMES[*name]).collect()),
                Whom::Channel(channel) => Target::Channel(CHANNELS[*channel]),
                Whom::Everybody => Target::Everybody,
            };
            let terms = Terms { receipt, expires_ms: expires, delay_ms: delay };
            return Some((Command::Post { stream, number, confirmed, to, terms }, CONTENTS[content]));
        }
        Operation::Collect { stream, up_to } => {
            let stream = pick(&ever.streams, stream);
            let known = model.streams.iter().find(|s| s.id == stream);
            let last = known.map_or(0, |s| s.receipts.len() as u64);
            Command::CollectReceipts { stream, up_to: plus(last, up_to) }
        }
        Operation::CreateChannel { nonce, channel } => Command::CreateChannel { nonce, channel: CHANNELS[channel] },
        Operation::DeleteChannel { channel } => Command::DeleteChannel { nonce: 8, channel: CHANNELS[channel] },
        Operation::Enlist { nonce, name, ahead, change, what } => {
            let name = NAMES[name];
            let expected = plus(model.named(name).map_or(0, |client| client.changes), ahead);
            let change = match change {
                0 => Enlistment::Join(CHANNELS[what % CHANNELS.len()]),
                1 => Enlistment::Leave(CHANNELS[what % CHANNELS.len()]),
                2 => Enlistment::Subscribe(PATTERNS[what % PATTERNS.len()]),
                3 => Enlistment::Unsubscribe(PATTERNS[what % PATTERNS.len()]),
                _ => Enlistment::SetInbox(SETTINGS[what % SETTINGS.len()]),
            };
            Command::Enlist { nonce, name, expected, change }
        }
        Operation::Confirm { stream, confirmed } => {
            let stream = pick(&ever.streams, stream);
            Command::Confirm { stream, confirmed: Number(plus(last(stream), confirmed)) }
        }
        Operation::Acknowledge { client, epoch, up_to, ref ranges } => {
            let registration = pick(&ever.registrations, client);
            let up_to = plus(floor_of(registration), up_to);
            let ranges = ranges_above(up_to, ranges);
            Command::Acknowledge { registration, epoch: epoch_of(registration, epoch), up_to: Position(up_to), ranges }
        }
        Operation::Register { nonce, name, home } => Command::Register { nonce, name: NAMES[name], home: NAMES[home] },
        Operation::Deregister { name, registration } => {
            let registration = registration.map(|choice| pick(&ever.registrations, choice));
            Command::Deregister { nonce: 3, name: NAMES[name], registration }
        }
        Operation::Open { nonce, name } => Command::OpenStream { nonce, name: NAMES[name] },
        Operation::Close { stream } => Command::CloseStream { nonce: 4, stream: pick(&ever.streams, stream) },
        Operation::Attach { nonce, name, home, epoch, resumes, window } => {
            let (name, home) = (NAMES[name], NAMES[home]);
            let expected = Epoch(plus(model.named(name).map_or(0, |client| client.epoch), epoch));
            // It resumes in the registration that holds the name, or perhaps in another one.
            let holder = model.named(name).map_or(Id(0), |client| client.id);
            let resumes = resumes.map(|other| other.map_or(holder, |choice| pick(&ever.registrations, choice)));
            Command::Attach { nonce, name, home, expected, resumes, window }
        }
        Operation::Detach { client, epoch, delivered } => {
            let registration = pick(&ever.registrations, client);
            let delivered = delivered.map(|ahead| Position(plus(floor_of(registration), ahead)));
            Command::Detach { nonce: 5, registration, epoch: epoch_of(registration, epoch), delivered }
        }
        Operation::Vanish { client, epoch, home } => {
            let registration = pick(&ever.registrations, client);
            Command::Vanished { registration, epoch: epoch_of(registration, epoch), home: NAMES[home] }
        }
        Operation::SetHome { name, home, instead_of } => {
            let instead_of = instead_of.map(|home| NAMES[home]);
            Command::SetHome { nonce: 6, name: NAMES[name], home: NAMES[home], instead_of }
        }
        Operation::MoveClients { from, ref to, later } => {
            let to = to.iter().map(|home| NAMES[*home]).collect();
            Command::MoveClients { from: NAMES[from], to, until: Time(plus(model.time, later)) }
        }
        Operation::AttachApart { nonce, name, registration, epoch, window } => {
            let name = NAMES[name];
            let expected = Epoch(plus(model.named(name).map_or(0, |client| client.epoch), epoch));
            let registration = registration.map(|choice| pick(&ever.registrations, choice));
            Command::AttachApart { nonce, name, registration, expected, window }
        }
        Operation::AcknowledgeApart { client, name, epoch, up_to, ref ranges } => {
            let registration = pick(&ever.registrations, client);
            let holder = known(registration).and_then(|c| NAMES.into_iter().find(|name| *name == c.name));
            let name = name.map(|name| NAMES[name]).or(holder).unwrap_or(NAMES[0]);
            let up_to = plus(floor_of(registration), up_to);
            let ranges = ranges_above(up_to, ranges);
            let epoch = epoch_of(registration, epoch);
            Command::AcknowledgeApart { nonce: 7, name, registration, epoch, up_to: Position(up_to), ranges }
        }
        Operation::Enroll { server, address, disk } => {
            Command::Enroll { server: NAMES[server], address: ["", "x:1", "x:2"][address], disk }
        }
        Operation::AddServer { nonce, server, address } => {
            Command::AddServer { nonce, server: NAMES[server], address: ["", "x:1", "x:2"][address] }
        }
        Operation::RemoveServer { nonce, server } => Command::RemoveServer { nonce, server: NAMES[server] },
        Operation::SetDrained { nonce, server, drained } => {
            Command::SetDrained { nonce, server: NAMES[server], drained }
        }
        Operation::SetQuotas(quotas) => Command::SetQuotas(quotas),
        Operation::Tick => Command::Tick,
        Operation::Garbage(_) => return None,
    };
    Some((command, b""))
}
