//! Histories: what is done to the post office and the model alike. Everything is drawn small, so that commands meet:
//! few names, few streams, few nonces, numbers and positions near the edge. What refers to things that exist is
//! resolved against the model when its turn comes.

use proptest::prelude::*;
use restante::wire::command::Command;
use restante::wire::{Epoch, Id, Number, Position, Quotas};

use crate::model::Model;

pub const NAMES: [&str; 5] = ["a", "b", "ab", "c", "not a name"];
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
    Send { stream: usize, ahead: i64, confirmed: i64, to: usize, content: usize },
    Confirm { stream: usize, confirmed: i64 },
    Acknowledge { client: usize, epoch: i64, up_to: i64, ranges: Vec<(i64, i64)> },
    Register { nonce: u128, name: usize, home: usize },
    Deregister { name: usize, registration: Option<usize> },
    Open { nonce: u128, name: usize },
    Close { stream: usize },
    Attach { nonce: u128, name: usize, home: usize, epoch: i64, resumes: bool, window: u32 },
    Detach { client: usize, epoch: i64, delivered: Option<i64> },
    Vanish { client: usize, epoch: i64, home: usize },
    Enroll { server: usize, address: usize, disk: u128 },
    AddServer { nonce: u128, server: usize, address: usize },
    RemoveServer { nonce: u128, server: usize },
    SetQuotas(Quotas),
    Tick,
    Garbage(Vec<u8>),
}

/// Which kinds of command a suite is about: weights of sends, acknowledgements, readers, and everything else.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    pub sends: u32,
    pub acknowledgements: u32,
    pub readers: u32,
    pub others: u32,
    pub checkpoints: u32,
}

/// A small number, mostly 0.
fn near() -> impl Strategy<Value = i64> {
    prop_oneof![8 => Just(0i64), 3 => -2i64..=2, 1 => -5i64..=5]
}

fn name() -> impl Strategy<Value = usize> {
    prop_oneof![12 => 0usize..3, 2 => Just(3), 1 => Just(4)]
}

fn quotas() -> impl Strategy<Value = Quotas> {
    (1u64..8, 5u64..40, 1u32..4, 1u32..6, 1u64..5, 20u64..200).prop_map(
        |(inbox_messages, inbox_bytes, streams_per_client, stream_window, clients, stream_idle_ms)| Quotas {
            inbox_messages,
            inbox_bytes,
            streams_per_client,
            stream_window,
            clients,
            stream_idle_ms,
        },
    )
}

fn operation(mix: Mix) -> impl Strategy<Value = Operation> {
    let send = (0usize..5, near(), near(), name(), 0usize..4).prop_map(|(stream, ahead, confirmed, to, content)| {
        // Most clients confirm a little behind what they sent.
        Operation::Send { stream, ahead, confirmed: confirmed - 1, to, content }
    });
    let acknowledge = (0usize..4, near(), 0i64..5, prop::collection::vec((-1i64..4, -1i64..3), 0..3)).prop_map(
        |(client, epoch, up_to, mut ranges)| {
            // Two of three hold to the rules.
            if up_to > 1 {
                ranges.iter_mut().for_each(|(gap, length)| (*gap, *length) = (gap.abs(), length.abs()));
            }
            Operation::Acknowledge { client, epoch, up_to: up_to - 1, ranges }
        },
    );
    let attach = (0u128..4, name(), name(), near(), any::<bool>(), 0u32..4).prop_map(
        |(nonce, name, home, epoch, resumes, window)| Operation::Attach { nonce, name, home, epoch, resumes, window },
    );
    let detach = (0usize..4, near(), prop::option::of(-1i64..5))
        .prop_map(|(client, epoch, delivered)| Operation::Detach { client, epoch, delivered });
    let vanish =
        (0usize..4, near(), name()).prop_map(|(client, epoch, home)| Operation::Vanish { client, epoch, home });
    let confirm = (0usize..5, near()).prop_map(|(stream, confirmed)| Operation::Confirm { stream, confirmed });
    let others = prop_oneof![
        4 => confirm,
        6 => (0u128..2, name(), name()).prop_map(|(nonce, name, home)| Operation::Register { nonce, name, home }),
        2 => (name(), prop::option::of(0usize..4))
            .prop_map(|(name, registration)| Operation::Deregister { name, registration }),
        6 => (0u128..4, name()).prop_map(|(nonce, name)| Operation::Open { nonce, name }),
        2 => (0usize..5).prop_map(|stream| Operation::Close { stream }),
        2 => (name(), 0usize..3, 0u128..4)
            .prop_map(|(server, address, disk)| Operation::Enroll { server, address, disk }),
        2 => (0u128..3, name(), 0usize..3)
            .prop_map(|(nonce, server, address)| Operation::AddServer { nonce: nonce + 1, server, address }),
        2 => (0u128..3, name()).prop_map(|(nonce, server)| Operation::RemoveServer { nonce: nonce + 1, server }),
        2 => quotas().prop_map(Operation::SetQuotas),
        4 => Just(Operation::Tick),
        1 => prop::collection::vec(any::<u8>(), 0..4).prop_map(Operation::Garbage),
    ];
    prop_oneof![
        mix.sends => send,
        mix.acknowledgements => acknowledge,
        mix.readers * 2 => attach,
        mix.readers => detach,
        mix.readers => vanish,
        mix.others => others,
    ]
}

fn batch(mix: Mix) -> impl Strategy<Value = Batch> {
    let mostly_next = || prop_oneof![20 => Just(0i64), 2 => -2i64..0, 1 => 1i64..3];
    (1u64..4, mostly_next(), mostly_next(), prop::collection::vec(operation(mix), 0..8)).prop_map(
        |(incarnation, boot_ahead, sequence_ahead, operations)| Batch {
            incarnation,
            boot_ahead,
            sequence_ahead,
            operations,
        },
    )
}

/// A history. It begins with two clients, a stream and a reader, since nothing much happens before that.
pub fn history(mix: Mix) -> impl Strategy<Value = Vec<Step>> {
    let entry =
        (0u64..40, prop::collection::vec(batch(mix), 1..3)).prop_map(|(later, batches)| Step::Entry { later, batches });
    let step = prop_oneof![
        20 => entry,
        mix.checkpoints * 3 => Just(Step::Take),
        mix.checkpoints * 3 => (any::<bool>(), any::<bool>())
            .prop_map(|(durable, effective)| Step::Finish { durable, effective: durable || effective }),
        mix.checkpoints => (0u64..300).prop_map(|keep| Step::Release { keep }),
        mix.checkpoints => Just(Step::Restart),
    ];
    (quotas(), prop::collection::vec(step, 1..30)).prop_map(|(quotas, mut steps)| {
        let mut operations = vec![Operation::SetQuotas(Quotas { clients: 4, ..quotas })];
        operations.extend([0, 1, 2].map(|name| Operation::Register { nonce: 0, name, home: 3 }));
        operations.extend([0, 1].map(|name| Operation::Open { nonce: 0, name }));
        operations.push(Operation::Attach { nonce: 0, name: 1, home: 3, epoch: 0, resumes: false, window: 2 });
        let batch = Batch { incarnation: 1, boot_ahead: 0, sequence_ahead: 0, operations };
        steps.insert(0, Step::Entry { later: 0, batches: vec![batch] });
        steps
    })
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
        Operation::Confirm { stream, confirmed } => {
            let stream = pick(&ever.streams, stream);
            Command::Confirm { stream, confirmed: Number(plus(last(stream), confirmed)) }
        }
        Operation::Acknowledge { client, epoch, up_to, ref ranges } => {
            let registration = pick(&ever.registrations, client);
            let up_to = plus(floor_of(registration), up_to);
            let mut below = up_to;
            let place = |(gap, length): &(i64, i64)| {
                let from = plus(below + 1, *gap);
                below = plus(from, *length);
                (Position(from), Position(below))
            };
            let ranges = ranges.iter().map(place).collect();
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
        Operation::Enroll { server, address, disk } => {
            Command::Enroll { server: NAMES[server], address: ["", "x:1", "x:2"][address], disk }
        }
        Operation::AddServer { nonce, server, address } => {
            Command::AddServer { nonce, server: NAMES[server], address: ["", "x:1", "x:2"][address] }
        }
        Operation::RemoveServer { nonce, server } => Command::RemoveServer { nonce, server: NAMES[server] },
        Operation::SetQuotas(quotas) => Command::SetQuotas(quotas),
        Operation::Tick => Command::Tick,
        Operation::Garbage(_) => return None,
    };
    Some((command, b""))
}
