//! Histories, drawn by proptest: everything small, so that commands meet.

use proptest::prelude::*;
use restante::wire::Quotas;

use super::operation::{Batch, Operation, Step, Whom, opening};

/// Which kinds of command a suite is about: weights of sends, acknowledgements, readers, and everything else.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    pub sends: u32,
    pub acknowledgements: u32,
    pub readers: u32,
    pub others: u32,
    pub checkpoints: u32,
    pub sharing: u32,
}

/// A small number, mostly 0.
fn near() -> impl Strategy<Value = i64> {
    prop_oneof![8 => Just(0i64), 3 => -2i64..=2, 1 => -5i64..=5]
}

fn name() -> impl Strategy<Value = usize> {
    prop_oneof![12 => 0usize..3, 2 => Just(3), 1 => Just(4)]
}

/// None, mostly.
fn time() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0u64), 2 => 1u64..120]
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
    let resumes = prop::option::of(prop::option::weighted(0.2, 0usize..4));
    let attach =
        (0u128..4, name(), name(), near(), resumes, 0u32..4).prop_map(|(nonce, name, home, epoch, resumes, window)| {
            Operation::Attach { nonce, name, home, epoch, resumes, window }
        });
    let detach = (0usize..4, near(), prop::option::of(-1i64..5))
        .prop_map(|(client, epoch, delivered)| Operation::Detach { client, epoch, delivered });
    let vanish =
        (0usize..4, near(), name()).prop_map(|(client, epoch, home)| Operation::Vanish { client, epoch, home });
    let apart = prop_oneof![
        2 => (0u128..4, name(), prop::option::weighted(0.3, 0usize..4), near(), 0u32..4).prop_map(
            |(nonce, name, registration, epoch, window)| Operation::AttachApart { nonce, name, registration, epoch, window }
        ),
        3 => (0usize..4, prop::option::weighted(0.1, name()), near(), 0i64..4, prop::collection::vec((0i64..3, 0i64..3), 0..2))
            .prop_map(|(client, name, epoch, up_to, ranges)| Operation::AcknowledgeApart {
                client,
                name,
                epoch,
                up_to,
                ranges
            }),
        2 => (name(), name(), prop::option::of(name()))
            .prop_map(|(name, home, instead_of)| Operation::SetHome { name, home, instead_of }),
        1 => (name(), prop::collection::vec(name(), 0..3), -1i64..30)
            .prop_map(|(from, to, later)| Operation::MoveClients { from, to, later }),
    ];
    let whom = prop_oneof![
        2 => name().prop_map(Whom::Client),
        4 => prop::collection::vec(name(), 1..4).prop_map(Whom::Clients),
        5 => prop_oneof![6 => Just(1usize), 1 => 0usize..4].prop_map(Whom::Channel),
        2 => Just(Whom::Everybody),
    ];
    let sharing = prop_oneof![
        10 => (0usize..5, near(), near(), whom, any::<bool>(), time(), time(), 0usize..4).prop_map(
            |(stream, ahead, confirmed, to, receipt, expires, delay, content)| {
                Operation::Post { stream, ahead, confirmed: confirmed - 1, to, receipt, expires, delay, content }
            }
        ),
        3 => (0usize..5, -2i64..2).prop_map(|(stream, up_to)| Operation::Collect { stream, up_to }),
        2 => (0u128..2, 0usize..4).prop_map(|(nonce, channel)| Operation::CreateChannel { nonce, channel }),
        1 => (0usize..4).prop_map(|channel| Operation::DeleteChannel { channel }),
        5 => (0u128..4, name(), near(), 0usize..6, 0usize..5).prop_map(|(nonce, name, ahead, change, what)| {
            Operation::Enlist { nonce: nonce + 1, name, ahead, change, what }
        }),
    ];
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
        2 => (0u128..3, name(), any::<bool>())
            .prop_map(|(nonce, server, drained)| Operation::SetDrained { nonce: nonce + 1, server, drained }),
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
        mix.readers => apart,
        mix.sharing => sharing,
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

/// A history.
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
        steps.insert(0, opening(quotas));
        steps
    })
}
