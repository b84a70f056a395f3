//! Pieces that the checks' hand-made histories are made of: `client1` sends to `client2` in stream 1.

use std::time::Duration;

use crate::history::{Entry, History, Process, SendKey, What};

pub(super) fn complete(whats: Vec<What>) -> History {
    let entries = whats.into_iter().enumerate().map(|(n, what)| {
        let client = match &what {
            What::Invoked { .. }
            | What::Posted { .. }
            | What::Reached { .. }
            | What::Scheduled { .. }
            | What::NotReached { .. }
            | What::PostUnknown { .. }
            | What::Receipted { .. }
            | What::Resent { .. }
            | What::Accepted { .. }
            | What::Refused { .. }
            | What::Unknown { .. } => "client1",
            _ => "client2",
        };
        let process = Process { client: client.to_owned(), life: 1 };
        Entry { at: Duration::from_millis(n as u64), process, what }
    });
    History { entries: entries.collect(), complete: true, stages: Vec::new() }
}

/// A history with two readers after one another that keeps every promise.
pub(super) fn good() -> History {
    complete(vec![
        registering(),
        registered(),
        invoked(1),
        invoked(2),
        invoked(3),
        accepted(1, 1),
        accepted(2, 2),
        attaching(1),
        attached(1),
        delivered(1, 1, 1),
        acknowledged(1, 1),
        confirmed(1, 1),
        delivered(1, 2, 2),
        attaching(2),
        attached(2),
        ended(1),
        again(delivered(2, 2, 2)),
        delivered(2, 3, 3),
        acknowledged(2, 3),
        accepted(3, 3),
        confirmed(2, 3),
        ended(2),
    ])
}

pub(super) fn key(number: u64) -> SendKey {
    SendKey { sender: "client1".into(), stream: 1, number }
}

pub(super) fn registering() -> What {
    What::Registering { name: "client2".into(), question: 1 }
}

pub(super) fn registered() -> What {
    registered_as(1)
}

pub(super) fn registered_as(registration: u64) -> What {
    What::Registered { name: "client2".into(), question: 1, registration }
}

pub(super) fn deregistering(registration: Option<u64>) -> What {
    What::Deregistering { name: "client2".into(), registration }
}

pub(super) fn deregistered(registration: Option<u64>) -> What {
    What::Deregistered { name: "client2".into(), registration }
}

pub(super) fn invoked(number: u64) -> What {
    What::Invoked { send: key(number), to: "client2".into(), digest: number }
}

pub(super) fn accepted(number: u64, position: u64) -> What {
    What::Accepted { send: key(number), position }
}

pub(super) fn attaching(session: u64) -> What {
    What::Attaching { session, inbox: "client2".into(), window: 64 }
}

pub(super) fn attached(session: u64) -> What {
    attached_to(session, 1)
}

pub(super) fn attached_to(session: u64, registration: u64) -> What {
    What::Attached { session, inbox: "client2".into(), registration }
}

pub(super) fn ended(session: u64) -> What {
    What::Ended { session, inbox: "client2".into() }
}

pub(super) fn delivered(session: u64, position: u64, number: u64) -> What {
    What::Delivered {
        session,
        inbox: "client2".into(),
        position,
        redelivered: false,
        from: "client1".into(),
        number,
        send: Some(key(number)),
        digest: number,
        message: number,
        channel: None,
        notice: None,
        time: 0,
    }
}

/// The same delivery, marked as one that may be a repeat.
pub(super) fn again(mut delivery: What) -> What {
    if let What::Delivered { redelivered, .. } = &mut delivery {
        *redelivered = true;
    }
    delivery
}

pub(super) fn acknowledged(session: u64, to: u64) -> What {
    What::Acknowledged { session, inbox: "client2".into(), from: 1, to }
}

/// One delivery is acknowledged, whatever came before it.
pub(super) fn acknowledged_one(session: u64, position: u64) -> What {
    What::Acknowledged { session, inbox: "client2".into(), from: position, to: position }
}

pub(super) fn confirmed(session: u64, to: u64) -> What {
    What::Confirmed { session, inbox: "client2".into(), to }
}
