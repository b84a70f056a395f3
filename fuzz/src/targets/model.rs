//! The post office against its naive model: the run of `tests/post_office_model`, over histories out of the input.

#[path = "../../../tests/post_office_model/model.rs"]
#[allow(missing_docs, clippy::module_inception, reason = "a test's")]
mod model;
#[path = "../../../tests/post_office_model/operation.rs"]
#[allow(missing_docs, reason = "a test's")]
mod operation;
#[path = "../../../tests/post_office_model/requests.rs"]
#[allow(missing_docs, reason = "a test's")]
mod requests;
#[path = "../../../tests/post_office_model/run.rs"]
#[allow(missing_docs, reason = "a test's")]
mod run;
#[path = "../../../tests/post_office_model/sharing.rs"]
#[allow(missing_docs, reason = "a test's")]
mod sharing;

use arbitrary::{Arbitrary, Result, Unstructured};
use restante::wire::Quotas;

use self::operation::{Batch, Operation, Step, Whom, opening};

/// More steps than this only make the target slow: the model looks through everything after each.
const STEPS_MAX: usize = 60;
const OPERATIONS_MAX: u8 = 8;

/// Takes `data` for a history, and compares.
pub fn model(data: &[u8]) {
    let mut input = Unstructured::new(data);
    // An input that ends in the middle of a step is what came before.
    let mut steps = Vec::new();
    if let Ok(quotas) = quotas(&mut input) {
        steps.push(opening(quotas));
    }
    while steps.len() < STEPS_MAX && !input.is_empty() {
        let Ok(step) = step(&mut input) else { break };
        steps.push(step);
    }
    run::check(&steps);
}

/// A small number, mostly 0.
fn near(u: &mut Unstructured<'_>) -> Result<i64> {
    Ok(match u.int_in_range(0..=11)? {
        0..=7 => 0,
        8 => -1,
        9 => 1,
        10 => u.int_in_range(-2..=2)?,
        _ => u.int_in_range(-5..=5)?,
    })
}

fn quotas(u: &mut Unstructured<'_>) -> Result<Quotas> {
    Ok(Quotas {
        inbox_messages: u.int_in_range(1..=7)?,
        inbox_bytes: u.int_in_range(5..=39)?,
        streams_per_client: u.int_in_range(1..=3)?,
        stream_window: u.int_in_range(1..=5)?,
        clients: u.int_in_range(1..=4)?,
        stream_idle_ms: u.int_in_range(20..=199)?,
    })
}

fn step(u: &mut Unstructured<'_>) -> Result<Step> {
    Ok(match u.int_in_range(0..=15)? {
        0 => Step::Take,
        1 => {
            let durable = bool::arbitrary(u)?;
            Step::Finish { durable, effective: durable || bool::arbitrary(u)? }
        }
        2 => Step::Release { keep: u.int_in_range(0..=255)? },
        3 => Step::Restart,
        _ => {
            let later = u.int_in_range(0..=60)?;
            let mut batches = vec![batch(u)?];
            if u.ratio(1, 8)? {
                batches.push(batch(u)?);
            }
            Step::Entry { later, batches }
        }
    })
}

fn batch(u: &mut Unstructured<'_>) -> Result<Batch> {
    let (incarnation, boot_ahead, sequence_ahead) = match u.int_in_range(0..=15)? {
        // Mostly the next of one server.
        0..=11 => (1, 0, 0),
        12 => (u.int_in_range(1..=3)?, 0, 0),
        _ => (u.int_in_range(1..=3)?, u.int_in_range(-2..=2)?, u.int_in_range(-2..=2)?),
    };
    let count = u.int_in_range(0..=OPERATIONS_MAX)?;
    let operations = (0..count).map(|_| operation(u)).collect::<Result<_>>()?;
    Ok(Batch { incarnation, boot_ahead, sequence_ahead, operations })
}

fn operation(u: &mut Unstructured<'_>) -> Result<Operation> {
    let name = |u: &mut Unstructured<'_>| u.int_in_range(0..=4usize);
    let client = |u: &mut Unstructured<'_>| u.int_in_range(0..=3usize);
    let stream = |u: &mut Unstructured<'_>| u.int_in_range(0..=4usize);
    let nonce = |u: &mut Unstructured<'_>| Ok::<u128, arbitrary::Error>(u.int_in_range(0..=3u8)?.into());
    if u.ratio(1, 4)? {
        return sharing(u);
    }
    Ok(match u.int_in_range(0..=25)? {
        0..=7 => Operation::Send {
            stream: stream(u)?,
            ahead: near(u)?,
            confirmed: near(u)? - 1,
            to: name(u)?,
            content: u.int_in_range(0..=3)?,
        },
        8..=11 => {
            let ranges = u.int_in_range(0..=2)?;
            let range = |u: &mut Unstructured<'_>| Ok((u.int_in_range(-1..=3)?, u.int_in_range(-1..=2)?));
            Operation::Acknowledge {
                client: client(u)?,
                epoch: near(u)?,
                up_to: u.int_in_range(-1..=3)?,
                ranges: (0..ranges).map(|_| range(u)).collect::<Result<_>>()?,
            }
        }
        12 => Operation::Confirm { stream: stream(u)?, confirmed: near(u)? },
        13 => Operation::Register { nonce: nonce(u)?, name: name(u)?, home: name(u)? },
        14 => {
            Operation::Deregister { name: name(u)?, registration: Option::<u8>::arbitrary(u)?.map(|n| (n % 4).into()) }
        }
        15 => Operation::Open { nonce: nonce(u)?, name: name(u)? },
        16 => Operation::Close { stream: stream(u)? },
        17 | 18 => Operation::Attach {
            nonce: nonce(u)?,
            name: name(u)?,
            home: name(u)?,
            epoch: near(u)?,
            resumes: if bool::arbitrary(u)? { Some(Option::<u8>::arbitrary(u)?.map(|n| (n % 4).into())) } else { None },
            window: u.int_in_range(0..=3)?,
        },
        19 => {
            let delivered = if bool::arbitrary(u)? { Some(u.int_in_range(-1..=4)?) } else { None };
            Operation::Detach { client: client(u)?, epoch: near(u)?, delivered }
        }
        20 => Operation::Vanish { client: client(u)?, epoch: near(u)?, home: name(u)? },
        21 => Operation::Enroll { server: name(u)?, address: u.int_in_range(0..=2)?, disk: nonce(u)? },
        22 => Operation::AddServer { nonce: nonce(u)? + 1, server: name(u)?, address: u.int_in_range(0..=2)? },
        23 => Operation::RemoveServer { nonce: nonce(u)? + 1, server: name(u)? },
        24 => Operation::SetDrained { nonce: nonce(u)? + 1, server: name(u)?, drained: bool::arbitrary(u)? },
        _ => match u.int_in_range(0..=3)? {
            0 => Operation::SetQuotas(quotas(u)?),
            1 => {
                let count = u.int_in_range(0..=3u8)?;
                Operation::Garbage((0..count).map(|_| u.arbitrary()).collect::<Result<_>>()?)
            }
            // Where there was one more tick: what is older than these keeps its meaning.
            2 => apart(u)?,
            _ => Operation::Tick,
        },
    })
}

fn sharing(u: &mut Unstructured<'_>) -> Result<Operation> {
    let named = |u: &mut Unstructured<'_>| -> Result<usize> { Ok(u.int_in_range(0..=4u8)?.into()) };
    let channel = |u: &mut Unstructured<'_>| -> Result<usize> { Ok(u.int_in_range(0..=3u8)?.into()) };
    Ok(match u.int_in_range(0..=7)? {
        0..=3 => Operation::Post {
            stream: named(u)?,
            ahead: near(u)?,
            confirmed: near(u)? - 1,
            to: match u.int_in_range(0..=3)? {
                0 => Whom::Client(named(u)?),
                1 => Whom::Clients((0..=u.int_in_range(0..=2)?).map(|_| named(u)).collect::<Result<_>>()?),
                2 => Whom::Channel(channel(u)?),
                _ => Whom::Everybody,
            },
            receipt: bool::arbitrary(u)?,
            expires: if bool::arbitrary(u)? { u.int_in_range(1..=100)? } else { 0 },
            delay: if u.ratio(1, 3)? { u.int_in_range(1..=100)? } else { 0 },
            content: channel(u)?,
        },
        4 => Operation::Collect { stream: named(u)?, up_to: near(u)? },
        5 => Operation::CreateChannel { nonce: u.int_in_range(0..=3u8)?.into(), channel: channel(u)? },
        6 => Operation::DeleteChannel { channel: channel(u)? },
        _ => Operation::Enlist {
            nonce: u128::from(u.int_in_range(0..=3u8)?) + 1,
            name: named(u)?,
            ahead: near(u)?,
            change: named(u)?,
            what: named(u)?,
        },
    })
}

fn apart(u: &mut Unstructured<'_>) -> Result<Operation> {
    let small = |u: &mut Unstructured<'_>| -> Result<usize> { Ok(u.int_in_range(0..=3u8)?.into()) };
    let named = |u: &mut Unstructured<'_>| -> Result<usize> { Ok(u.int_in_range(0..=4u8)?.into()) };
    Ok(match u.int_in_range(0..=3)? {
        0 => Operation::AttachApart {
            nonce: u.int_in_range(0..=3u8)?.into(),
            name: named(u)?,
            registration: if u.ratio(1, 4)? { Some(small(u)?) } else { None },
            epoch: u.int_in_range(-1..=1)?,
            window: u.int_in_range(0..=3)?,
        },
        1 => Operation::AcknowledgeApart {
            client: small(u)?,
            name: if u.ratio(1, 8)? { Some(named(u)?) } else { None },
            epoch: u.int_in_range(-1..=1)?,
            up_to: u.int_in_range(-1..=3)?,
            ranges: if bool::arbitrary(u)? { vec![(u.int_in_range(-1..=3)?, u.int_in_range(-1..=2)?)] } else { vec![] },
        },
        2 => Operation::SetHome {
            name: named(u)?,
            home: named(u)?,
            instead_of: if bool::arbitrary(u)? { Some(named(u)?) } else { None },
        },
        _ => Operation::MoveClients {
            from: named(u)?,
            to: (0..u.int_in_range(0..=2)?).map(|_| named(u)).collect::<Result<_>>()?,
            later: u.int_in_range(-1..=30)?,
        },
    })
}
