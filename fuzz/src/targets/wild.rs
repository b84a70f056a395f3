//! Replies made of the input's bytes: all kinds, in no order, with numbers that are near enough to what is there to get
//! somewhere.

use std::collections::BTreeSet;

use arbitrary::Arbitrary;
use restante::wire::client::{self, ClientRow, Reply, SendFailure};
use restante::wire::{
    ClusterId, Epoch, Id, Name, Nonce, Number, Position, Refusal, SendOutcome, SendRefusal, ServerAddress, Time,
};

/// A reply; its nonce is one of the last that the session sent.
#[derive(Debug, Arbitrary)]
pub(super) enum Wild {
    Welcome {
        cluster: Option<u8>,
        server: u8,
        servers: Vec<u8>,
    },
    Pong(u64),
    Move(WildRefusal),
    Refused(Option<u8>, WildRefusal),
    Registered(u8, u8),
    Deregistered(u8),
    Opened {
        nonce: u8,
        stream: u8,
        registration: u8,
    },
    Closed(u8),
    Receipts {
        stream: u8,
        first: u8,
        outcomes: Vec<u8>,
    },
    /// Of what is expected next, so that sends get anywhere.
    NextReceipts {
        stream: u8,
        count: u8,
    },
    Failed {
        stream: u8,
        number: u8,
        reason: WildFailure,
    },
    Attached {
        nonce: u8,
        registration: u8,
        epoch: u8,
        acknowledged: u8,
    },
    Detached(u8),
    Deliver {
        registration: u8,
        epoch: u8,
        positions: Vec<u8>,
        content_bytes: u8,
        contents: Vec<u8>,
    },
    Acknowledged {
        registration: u8,
        epoch: u8,
        up_to: u64,
    },
    Fenced {
        registration: u8,
        epoch: u8,
        by: Option<u8>,
    },
    Who {
        nonce: u8,
        clients: Vec<u8>,
        more: bool,
    },
    Done(u8),
    Servers(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
pub(super) enum WildRefusal {
    NotRegistered,
    RegistrationEnded,
    AlreadyRegistered,
    NoLeader,
    DiskFull,
    Stopping,
    EpochMoved(u8),
    TooManyClients,
    TooManyStreams,
    Version,
    WrongCluster,
    Malformed,
}

#[derive(Debug, Arbitrary)]
pub(super) enum WildFailure {
    Gap(u8),
    StreamClosed,
    OtherContent,
    AlreadyAnswered,
    WindowFull(u32),
    Unavailable(WildRefusal),
}

impl Wild {
    /// What it is, with the contents behind it, for a session that sent commands with these `nonces`, the last one last. The
    /// sends in `settled`, of a stream each, had their answers.
    pub(super) fn reply(self, nonces: &[Nonce], settled: &BTreeSet<(u64, u64)>) -> (Reply, Vec<u8>) {
        // Mostly late ones, which are the ones that wait.
        let nonce = |n: u8| nonces.iter().rev().nth(usize::from(n % 6)).copied().unwrap_or_default();
        let names = |names: Vec<u8>| names.into_iter().take(70).map(address).collect::<Vec<_>>();
        let outcome = |n: u8| match n {
            0 => SendOutcome::Refused(SendRefusal::InboxFull),
            1 => SendOutcome::Refused(SendRefusal::NoSuchClient),
            n => SendOutcome::Accepted(Position(n.into())),
        };
        let mut contents = Vec::new();
        let reply = match self {
            Self::Welcome { cluster, server, servers } => Reply::Welcome {
                cluster: cluster.map(|n| ClusterId((n % 3).into())),
                server: name(server),
                servers: names(servers),
            },
            Self::Pong(n) => Reply::Pong(n),
            Self::Move(reason) => Reply::Move { reason: reason.refusal() },
            Self::Refused(n, refusal) => Reply::Refused { nonce: n.map(nonce), refusal: refusal.refusal() },
            Self::Registered(n, registration) => Reply::Registered { nonce: nonce(n), registration: id(registration) },
            Self::Deregistered(n) => Reply::Deregistered { nonce: nonce(n) },
            Self::Opened { nonce: n, stream, registration } => {
                Reply::StreamOpened { nonce: nonce(n), stream: id(stream), registration: id(registration) }
            }
            Self::Closed(n) => Reply::StreamClosed { nonce: nonce(n) },
            Self::Receipts { stream, first, outcomes } => Reply::Receipts {
                stream: id(stream),
                first: Number(first.into()),
                outcomes: outcomes.into_iter().map(outcome).collect(),
            },
            Self::NextReceipts { stream, count } => {
                let stream = id(stream);
                let next = (1..).find(|number| !settled.contains(&(stream.0, *number))).unwrap_or(1);
                let positions = (0..u64::from(count % 6)).map(|n| SendOutcome::Accepted(Position(next + n)));
                Reply::Receipts { stream, first: Number(next), outcomes: positions.collect() }
            }
            Self::Failed { stream, number, reason } => {
                Reply::SendFailed { stream: id(stream), number: Number(number.into()), reason: reason.failure() }
            }
            Self::Attached { nonce: n, registration, epoch, acknowledged } => Reply::Attached {
                nonce: nonce(n),
                registration: id(registration),
                epoch: Epoch((epoch % 5).into()),
                acknowledged: Position(acknowledged.into()),
            },
            Self::Detached(n) => Reply::Detached { nonce: nonce(n) },
            Self::Deliver { registration, epoch, positions, content_bytes, contents: bytes } => {
                contents = bytes;
                let deliveries = positions.into_iter().map(|position| client::Delivery {
                    position: Position(position.into()),
                    message: id(position),
                    from: name(position),
                    stream: id(1),
                    number: Number(position.into()),
                    time: Time(0),
                    redelivered: position % 2 == 0,
                    content_bytes: (content_bytes % 4).into(),
                    channel: None,
                    notice: None,
                });
                let deliveries: Vec<_> = deliveries.collect();
                if content_bytes < 200 {
                    // As many contents as they say.
                    contents.resize(deliveries.iter().map(|d| d.content_bytes as usize).sum(), 0);
                }
                Reply::Deliver { registration: id(registration), epoch: Epoch((epoch % 5).into()), deliveries }
            }
            Self::Acknowledged { registration, epoch, up_to } => Reply::Acknowledged {
                registration: id(registration),
                epoch: Epoch((epoch % 5).into()),
                up_to: Position(up_to),
            },
            Self::Fenced { registration, epoch, by } => Reply::Fenced {
                registration: id(registration),
                epoch: Epoch((epoch % 5).into()),
                by: by.map(|n| Epoch((n % 5).into())),
            },
            Self::Who { nonce: n, clients, more } => {
                let row = |n| ClientRow {
                    name: name(n),
                    registration: id(n),
                    home: name(n),
                    online: more,
                    last_seen: Time(0),
                    waiting: 0,
                    waiting_bytes: 0,
                    streams: 0,
                };
                Reply::Who { nonce: nonce(n), clients: clients.into_iter().map(row).collect(), more }
            }
            Self::Done(n) => Reply::Done { nonce: nonce(n) },
            Self::Servers(servers) => Reply::Servers { servers: names(servers) },
        };
        (reply, contents)
    }
}

pub(super) fn name(n: u8) -> Name {
    Name::new(&format!("name{}", n % 4)).expect("a name")
}

pub(super) fn id(n: u8) -> Id {
    Id(u64::from(n % 5))
}

pub(super) fn address(n: u8) -> ServerAddress {
    ServerAddress { name: name(n), address: format!("{}:1", n % 6) }
}

impl WildRefusal {
    fn refusal(self) -> Refusal {
        match self {
            Self::NotRegistered => Refusal::NotRegistered,
            Self::RegistrationEnded => Refusal::RegistrationEnded,
            Self::AlreadyRegistered => Refusal::AlreadyRegistered { registration: id(1) },
            Self::NoLeader => Refusal::NoLeader,
            Self::DiskFull => Refusal::DiskFull,
            Self::Stopping => Refusal::Stopping,
            Self::EpochMoved(current) => Refusal::EpochMoved { current: Epoch(current.into()) },
            Self::TooManyClients => Refusal::TooManyClients { quota: 1 },
            Self::TooManyStreams => Refusal::TooManyStreams { quota: 1 },
            Self::Version => Refusal::Version { speaks: 9, asked: 1 },
            Self::WrongCluster => Refusal::WrongCluster { actual: ClusterId(9), expected: ClusterId(7) },
            Self::Malformed => Refusal::Malformed("because".into()),
        }
    }
}

impl WildFailure {
    fn failure(self) -> SendFailure {
        match self {
            Self::Gap(expected) => SendFailure::Gap { expected: Number(expected.into()) },
            Self::StreamClosed => SendFailure::StreamClosed,
            Self::OtherContent => SendFailure::OtherContent,
            Self::AlreadyAnswered => SendFailure::AlreadyAnswered,
            Self::WindowFull(window) => SendFailure::WindowFull { window },
            Self::Unavailable(refusal) => SendFailure::Unavailable(refusal.refusal()),
        }
    }
}
