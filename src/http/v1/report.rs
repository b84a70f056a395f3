//! What a server tells of itself, as JSON.

use serde::Serialize;
use utoipa::ToSchema;

use crate::metrics::Metrics;
use crate::server::Counts;
use crate::wire::client::{self, DiskCondition};

/// The cluster as the answering server sees it, and what that server counts since it started.
#[derive(Debug, Serialize, ToSchema)]
pub struct Status {
    /// The server that answers.
    pub server: String,
    /// Its version.
    #[schema(value_type = String)]
    pub version: &'static str,
    /// The cluster's id, once it is founded.
    pub cluster: Option<String>,
    /// What the server is: `leader`, `follower`, `candidate`, `learner`, `joining`, `founding`, `starting`, `stopping`.
    pub role: String,
    /// Who leads, if somebody is known to and heard of.
    pub leader: Option<String>,
    /// Raft's term.
    pub term: u64,
    /// Whether the server serves clients.
    pub serves: bool,
    /// Index of the last entry in its log.
    pub last_index: u64,
    /// Index of the last committed entry.
    pub committed_index: u64,
    /// Index of the last entry that it has applied.
    pub applied_index: u64,
    /// Index that its last checkpoint covers.
    pub checkpoint_index: u64,
    /// The cluster's clock, in milliseconds.
    pub time: u64,
    /// Registered clients.
    pub clients: u64,
    /// Messages that wait.
    pub waiting: u64,
    /// Bytes that wait.
    pub waiting_bytes: u64,
    /// Clients that it serves through sessions.
    pub sessions: u64,
    /// Bytes of its log on disk.
    pub log_bytes: u64,
    /// Its disk, where it could be looked at.
    pub disk: Option<Disk>,
    /// The servers of the cluster, names ascending.
    pub servers: Vec<Server>,
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
    /// What it counts.
    pub counts: Counted,
}

/// A server's disk.
#[derive(Debug, Serialize, ToSchema)]
pub struct Disk {
    /// `good`, `full`, `hangs` or `damaged`.
    #[schema(value_type = String)]
    pub condition: &'static str,
    /// Bytes that can still be written.
    pub free_bytes: Option<u64>,
    /// Bytes of the checkpoint.
    pub checkpoint_bytes: u64,
    /// How often damaged data was set aside and is still there.
    pub set_aside: usize,
}

/// A server as another one knows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Where it is reached, `host:port`.
    pub address: String,
    /// Whether it votes.
    pub voter: bool,
    /// Whether the answering server reached or heard it lately. Followers hear the leader only.
    pub reachable: bool,
    /// Entries that it lacks, as the leader knows it.
    pub lag: Option<u64>,
    /// Whether an operator drained it.
    pub drained: bool,
    /// What is known about not reaching it.
    pub problem: Option<String>,
    /// Bytes that the answering server has sent to it.
    pub sent_bytes: u64,
    /// Bytes that the answering server has received from it, over connections that it opened itself.
    pub received_bytes: u64,
}

/// What a server counts since it started.
#[derive(Debug, Serialize, ToSchema)]
pub struct Counted {
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Sends that came in there and were accepted.
    pub accepted: u64,
    /// Sends that came in there and were refused.
    pub refused: u64,
    /// Messages that it handed to readers.
    pub delivered: u64,
    /// Messages that readers who attached there acknowledged.
    pub acknowledged: u64,
    /// Elections that it has seen decided.
    pub elections: u64,
    /// Connections that are open, those of other servers among them.
    pub connections: usize,
    /// Bytes received over connections that others opened.
    pub received_bytes: u64,
    /// Bytes sent over connections that others opened.
    pub sent_bytes: u64,
}

impl Status {
    /// Of what a server knows and counts.
    pub fn new(status: client::Status, counts: &Counts, metrics: &Metrics) -> Self {
        let links = metrics.traffic.opened();
        let server = |row: client::ServerRow| {
            let link = links.iter().find(|(address, _)| *address == row.server.address).map(|(_, bytes)| bytes);
            Server {
                name: row.server.name.to_string(),
                address: row.server.address,
                voter: row.voter,
                reachable: row.reachable,
                lag: row.lag,
                drained: row.drained,
                problem: row.problem,
                sent_bytes: link.map_or(0, |bytes| bytes.sent()),
                received_bytes: link.map_or(0, |bytes| bytes.received()),
            }
        };
        let disk = status.disk.map(|disk| Disk {
            condition: match disk.condition {
                DiskCondition::Good => "good",
                DiskCondition::Full => "full",
                DiskCondition::Hangs => "hangs",
                DiskCondition::Damaged(_) => "damaged",
            },
            free_bytes: disk.free_bytes,
            checkpoint_bytes: disk.checkpoint_bytes,
            set_aside: disk.quarantine.len(),
        });
        Self {
            server: status.server.to_string(),
            version: env!("CARGO_PKG_VERSION"),
            cluster: status.cluster.map(|cluster| cluster.to_string()),
            role: status.role,
            leader: status.leader.map(|leader| leader.to_string()),
            term: status.term,
            serves: status.serves,
            last_index: status.last_index,
            committed_index: status.committed_index,
            applied_index: status.applied_index,
            checkpoint_index: status.checkpoint_index,
            time: status.time.0,
            clients: status.clients,
            waiting: status.waiting,
            waiting_bytes: counts.totals.waiting_bytes,
            sessions: status.sessions,
            log_bytes: status.log_bytes,
            disk,
            servers: status.servers.into_iter().map(server).collect(),
            problems: status.problems,
            counts: Counted {
                uptime_ms: counts.uptime.as_millis() as u64,
                accepted: metrics.accepted.get(),
                refused: metrics.refused.get(),
                delivered: metrics.delivered.get(),
                acknowledged: metrics.acknowledged.get(),
                elections: metrics.elections.get(),
                connections: counts.connections,
                received_bytes: metrics.traffic.accepted().received(),
                sent_bytes: metrics.traffic.accepted().sent(),
            },
        }
    }
}

/// A message on its way through a server, for those who watch. A few a second are told at most.
#[derive(Debug, Serialize, ToSchema)]
pub struct Passing {
    /// The sender.
    pub from: String,
    /// The recipient.
    pub to: String,
    /// The recipient's home server.
    pub home: String,
    /// Bytes, about.
    pub bytes: usize,
}
