//! The benchmark: workloads that measure a cluster as its users meet it, and count what it lost or doubled.
//!
//! It uses the client library alone, with a connection of its own for each sender and each recipient, so that what it
//! measures is what a program gets. Every message is told from every other, and each recipient keeps a [`ledger`]: a
//! benchmark of a cluster that lost a message has failed, however fast it was.
//!
//! * [`workloads`]: W1 to W6 and `names`, a file each
//! * [`traffic`]: senders and recipients, and the task of each
//! * [`content`], [`ledger`], [`latency`]: what is sent, what came, how long it took
//! * [`pacer`], [`clock`], [`meter`]: what no simulated world has
//! * [`report`]: the table
//!
//! It knows nothing of the command line: what it needs from whoever runs the servers is the trait [`Cluster`].
//! The members of a workload's result have the names that other systems' results have, so that they can be laid side
//! by side: `confirm` is the receipt, `e2e` the delivery, a `broker` is a server.

mod clock;
mod content;
mod latency;
mod ledger;
mod meter;
mod pacer;
pub mod report;
mod traffic;
mod workloads;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::future::try_join_all;
use parking_lot::Mutex;
use restante::client::{self, Client, ClientSettings};
use restante::wire::Name;
use restante::world::{Host, RealNetwork, RealWorld, World};
use serde_json::{Value, json};
use tokio::sync::Notify;

use self::clock::Clock;
use self::content::Content;
use self::traffic::Gap;

/// The servers under test, for whom others care.
pub trait Cluster {
    /// What can go wrong with them, or between them and a client.
    type Error: From<client::Error>;

    /// Where they are, as `host:port`.
    fn addresses(&self) -> Vec<String>;
    /// The process ids of those that run here and may be looked at.
    fn pids(&self) -> Vec<u32>;
    /// Kills the leader with SIGKILL; says which it was.
    async fn kill_leader(&mut self) -> Result<String, Self::Error>;
    /// Kills all with SIGKILL, all at the same time.
    async fn kill_all(&mut self) -> Result<(), Self::Error>;
    /// Starts those that were killed again, and does not wait for anything.
    fn start_again(&mut self) -> Result<(), Self::Error>;
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    /// Many senders and recipients, as fast as it goes.
    W1,
    /// One message at a time.
    W2,
    /// A steady load, and how long each message takes under it.
    W3,
    /// Messages wait for a recipient that is away, and then comes.
    W4,
    /// The leader is killed under a steady load.
    W5,
    /// All servers are killed under load, and started again.
    W6,
    /// Very many names are registered, and all servers are started with them. Run only if it is asked for.
    Names,
}

impl Workload {
    /// Those that other systems are measured with, too, in order: what is run if nothing else is asked for.
    pub const SIX: [Self; 6] = [Self::W1, Self::W2, Self::W3, Self::W4, Self::W5, Self::W6];
    /// All of them.
    pub const ALL: [Self; 7] = [Self::W1, Self::W2, Self::W3, Self::W4, Self::W5, Self::W6, Self::Names];

    /// What it measures, in a few words.
    pub fn title(self) -> &'static str {
        match self {
            Self::W1 => "throughput",
            Self::W2 => "latency",
            Self::W3 => "latency under load",
            Self::W4 => "backlog",
            Self::W5 => "failover",
            Self::W6 => "power cut",
            Self::Names => "very many names",
        }
    }

    /// Whether it kills servers, which only whoever started them may do.
    pub fn kills(self) -> bool {
        matches!(self, Self::W5 | Self::W6 | Self::Names)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Names => write!(f, "names"),
            of_the_six => write!(f, "w{}", *of_the_six as usize + 1),
        }
    }
}

impl FromStr for Workload {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|workload| workload.to_string().eq_ignore_ascii_case(text));
        found.ok_or_else(|| format!("{text:?} is not a workload: they are w1 to w6, and names"))
    }
}

/// How much of what.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Bytes of a body; what tells a message from others takes [`content::HEAD_BYTES`] of them.
    pub body_bytes: usize,
    /// Senders of W1, W4 and W6.
    pub senders: usize,
    /// Recipients of W1.
    pub recipients: usize,
    /// Sends without a receipt that each sender of W1, W4 and W6 may have on the way.
    pub window: usize,
    /// How long W1, W3 and W5 go on, in seconds.
    pub seconds: u64,
    /// Sends after which W1 ends even if there is time left.
    pub messages: Option<u64>,
    /// Messages of W2.
    pub singles: u64,
    /// Messages a second of W3 and W5.
    pub rate: u64,
    /// Messages of W4.
    pub backlog: u64,
    /// Unacknowledged deliveries that a reader may hold.
    pub reader_window: u32,
    /// Names that [`Workload::Names`] registers.
    pub names: usize,
}

/// How far it is, for whoever looks on.
#[derive(Debug, Default)]
pub struct Progress {
    phase: Mutex<String>,
    receipts: AtomicU64,
    deliveries: AtomicU64,
}

impl Progress {
    /// What is going on, and how many receipts and deliveries there were so far.
    pub fn now(&self) -> (String, u64, u64) {
        (self.phase.lock().clone(), self.receipts.load(Relaxed), self.deliveries.load(Relaxed))
    }

    fn phase(&self, text: impl Into<String>) {
        *self.phase.lock() = text.into();
    }

    fn reset(&self) {
        self.receipts.store(0, Relaxed);
        self.deliveries.store(0, Relaxed);
    }
}

/// How long requests wait for an answer: after a power cut, nobody answers for a while.
const PATIENCE: Duration = Duration::from_secs(60);
/// Requests that are under way at once while names are registered.
const AT_ONCE: usize = 1000;

/// One cluster, measured.
pub struct Bench<'a, C: Cluster> {
    cluster: &'a mut C,
    plan: Plan,
    progress: Arc<Progress>,
    clock: Clock,
    content: Arc<Content>,
    /// Tells the names of this run from those of others.
    tag: u64,
    /// The names that are registered now.
    names: Vec<Name>,
    /// What W1 reached, for the second part of W3.
    reached: Option<u64>,
    /// When receipts came in this workload, whoever got them.
    receipts: Arc<Mutex<Gap>>,
    /// Wakes whoever waits for deliveries.
    arrived: Arc<Notify>,
}

impl<'a, C: Cluster> Bench<'a, C> {
    /// A benchmark of `cluster` that goes by `plan`.
    pub fn new(cluster: &'a mut C, plan: Plan, progress: Arc<Progress>) -> Self {
        Self {
            cluster,
            progress,
            clock: Clock::default(),
            content: Arc::new(Content::new(plan.body_bytes)),
            plan,
            tag: RealWorld::unix_millis() << 16 | u64::from(std::process::id()) & 0xffff,
            names: Vec::new(),
            reached: None,
            receipts: Arc::default(),
            arrived: Arc::default(),
        }
    }

    /// Runs one workload. There may be several results.
    ///
    /// # Errors
    /// The servers cannot be reached, end by themselves, or refuse what no server should.
    pub async fn run(&mut self, workload: Workload) -> Result<Vec<Value>, C::Error> {
        self.reset();
        let results = self.measure(workload).await;
        self.progress.phase(format!("{workload} {}: tidying up", workload.title()));
        let tidied = self.tidy_up().await;
        let results = results?;
        tidied?;
        Ok(results)
    }

    fn reset(&mut self) {
        self.progress.reset();
        self.receipts = Arc::default();
    }

    async fn measure(&mut self, workload: Workload) -> Result<Vec<Value>, C::Error> {
        match workload {
            Workload::W1 => Ok(vec![self.throughput().await?]),
            Workload::W2 => Ok(vec![self.latency().await?]),
            Workload::W3 => {
                let mut results = vec![self.latency_under_load("w3", self.plan.rate).await?];
                if let Some(half) = self.reached.map(|reached| reached / 2).filter(|half| *half > 0) {
                    self.tidy_up().await?;
                    self.reset();
                    results.push(self.latency_under_load("w3-half", half).await?);
                }
                Ok(results)
            }
            Workload::W4 => Ok(vec![self.backlog().await?]),
            Workload::W5 => Ok(vec![self.failover().await?]),
            Workload::W6 => Ok(vec![self.power_cut().await?]),
            Workload::Names => Ok(vec![self.names().await?]),
        }
    }

    /// A connection of its own, to the server whose turn it is.
    async fn connect(&self, turn: usize) -> Result<Client, client::Error> {
        let mut servers = self.cluster.addresses();
        if !servers.is_empty() {
            let first = turn % servers.len();
            servers.rotate_left(first);
        }
        let mut settings = ClientSettings::new(servers);
        settings.timeout = PATIENCE;
        settings.agent = concat!("restante-bench/", env!("CARGO_PKG_VERSION")).to_owned();
        Client::start(settings, Host { network: Arc::new(RealNetwork), disk: None }).await
    }

    /// Registers so many names.
    async fn register(&mut self, role: &str, count: usize) -> Result<Vec<Name>, C::Error> {
        let names = (0..count).map(|number| Name::new(&format!("bench-{:x}-{role}-{number}", self.tag)));
        let names = names.collect::<Result<Vec<_>, _>>().map_err(client::Error::from)?;
        let client = self.connect(0).await?;
        for some in names.chunks(AT_ONCE) {
            self.names.extend_from_slice(some);
            try_join_all(some.iter().map(|name| client.register(name))).await?;
        }
        client.close().await;
        Ok(names)
    }

    /// Takes the names away again.
    async fn tidy_up(&mut self) -> Result<(), C::Error> {
        let names = std::mem::take(&mut self.names);
        // The next workload's names are others than this one's, whatever becomes of these.
        self.tag = self.tag.wrapping_add(1 << 40);
        let client = self.connect(0).await?;
        for some in names.chunks(AT_ONCE) {
            let gone = |error: &client::Error| matches!(error, client::Error::Refused(_));
            let deregistered = some.iter().map(async |name| match client.deregister(name).await {
                Err(error) if !gone(&error) => Err(error),
                _ => Ok(()),
            });
            try_join_all(deregistered).await?;
        }
        client.close().await;
        Ok(())
    }

    /// Waits until nothing waits in these inboxes.
    async fn emptied(&self, names: &[Name]) -> Result<Value, C::Error> {
        let began = self.clock.now();
        let client = self.connect(0).await?;
        loop {
            let left = Self::waiting(&client, names).await?;
            let ms = (self.clock.now() - began) / 1_000_000;
            if left == 0 || ms > 20_000 {
                client.close().await;
                return Ok(json!({ "left": left, "ms": ms }));
            }
            RealWorld::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Messages that wait in these inboxes.
    async fn waiting(client: &Client, names: &[Name]) -> Result<u64, client::Error> {
        let rows = client.who().await?;
        Ok(rows.iter().filter(|row| names.contains(&row.name)).map(|row| row.waiting).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_known_by_their_names() {
        for workload in Workload::ALL {
            assert_eq!(workload.to_string().parse(), Ok(workload));
            assert_eq!(workload.to_string().to_uppercase().parse(), Ok(workload));
        }
        assert!("w7".parse::<Workload>().is_err() && "".parse::<Workload>().is_err());
    }
}
