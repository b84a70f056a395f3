//! The smallest server and client that use every seam: for testing the harness itself.
//!
//! Each server keeps the inboxes of every so many clients, in one append-only file; nothing is replicated.
//! So it keeps the promises as long as its disks do and the servers come back, which is enough to show that the
//! simulated world is the same twice, and, with one of its [`Flaw`]s, that the oracle sees a broken promise.

mod client;
mod frames;
mod server;

use std::io;

use bytes::{Bytes, BytesMut};
use restante::wire::frame;
use restante::world::{BoxFuture, Connection};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::plan::{Mix, Plan};
use crate::record::Interpreter;
use crate::scenario::{ClientSeat, Ending, Scenario, ServerSeat};
use crate::world::SimWorld;

const PORT: u16 = 8080;
const FRAME_BYTES_MAX: usize = 1 << 20;

/// What the toy does wrong, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Answers before the sync.
    NoSync,
    /// Takes a send that is made again for a new one.
    NoMemory,
    /// Delivers a later message before an earlier one, now and then.
    NoOrder,
    /// Takes acknowledgements of readers that were replaced, and never tells them.
    NoFence,
    /// Does not mark redeliveries.
    NoMark,
    /// Changes a byte of a body, now and then.
    Garbles,
    /// Panics, now and then.
    Panics,
    /// Stops answering after a while.
    Stops,
}

/// The toy, with a flaw or without.
#[derive(Debug, Clone, Copy, Default)]
pub struct Toy {
    /// What it does wrong.
    pub flaw: Option<Flaw>,
}

impl Toy {
    fn has(self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }
}

/// The faults that the toy bears: it replicates nothing, so what its disk has synced must be there again.
const BEARS: [&str; 17] = [
    "crash",
    "bounce",
    "stop",
    "power-cut",
    "pause",
    "partition",
    "bridge",
    "one-way",
    "isolate",
    "hold",
    "loss",
    "delay",
    "reset",
    "slow-sync",
    "stuck-sync",
    "clock-jump",
    "clock-drift",
];

impl Scenario for Toy {
    fn plan_of(&self, seed: u64) -> Plan {
        let mut plan = Plan::from_seed(seed);
        plan.faults.retain(|interval| BEARS.contains(&interval.fault.kind()));
        // It knows no quotas, and its clients do nothing but send and read.
        plan.mix = Mix::default();
        plan
    }

    fn server(&self, seat: ServerSeat) -> BoxFuture<'static, Result<(), Ending>> {
        server::start::<SimWorld>(*self, seat)
    }

    fn client(&self, seat: ClientSeat) -> BoxFuture<'static, Result<(), String>> {
        client::start::<SimWorld>(seat)
    }

    fn interpreter(&self) -> Box<dyn Interpreter> {
        Box::new(frames::Frames::default())
    }

    /// Each inbox is on one server.
    fn serves_with_a_majority(&self) -> bool {
        false
    }
}

/// The server that keeps `inbox`: they take turns.
fn address_of(plan: &Plan, inbox: &str) -> String {
    let client = plan.client_names().iter().position(|name| name == inbox).unwrap_or(0);
    format!("{}:{PORT}", plan.servers[client % plan.servers.len()])
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Request {
    Put(Letter),
    Attach { inbox: String, expected: u64, nonce: u64 },
    Get { inbox: String, epoch: u64, after: u64 },
    Acknowledge { inbox: String, epoch: u64, to: u64 },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Letter {
    to: String,
    from: String,
    stream: u64,
    number: u64,
    body: Bytes,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Reply {
    Accepted { position: u64 },
    Attached { epoch: u64, acknowledged: u64 },
    Moved { current: u64 },
    Letters(Vec<(u64, bool, Letter)>),
    Acknowledged,
    Fenced,
}

/// Requests or replies on a connection.
struct Pipe {
    connection: Connection,
    buffer: BytesMut,
}

impl Pipe {
    fn new(connection: Connection) -> Self {
        Self { connection, buffer: BytesMut::new() }
    }

    async fn send<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        let mut out = BytesMut::new();
        frame::put(&mut out, 1, value, &[]);
        self.connection.writer.write_all(&out).await
    }

    async fn receive<T: for<'de> Deserialize<'de>>(&mut self) -> io::Result<T> {
        loop {
            if let Some(frame) = frame::split(&mut self.buffer, FRAME_BYTES_MAX).map_err(io::Error::other)? {
                return frame::take(&frame.payload).map(|(value, _)| value).map_err(io::Error::other);
            }
            if self.connection.reader.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
