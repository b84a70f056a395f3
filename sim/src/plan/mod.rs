//! Everything random about one run, as text that a person can read and edit.
//!
//! ```text
//! seed 42
//! servers a b c
//! clients 6
//! messages 40
//! body 16..400
//! at 2.1s for 1.3s crash a
//! at 4s for 2s partition a | b c
//! at 5s for 4s remove a
//! ```
//!
//! One line is one setting or one fault interval, and no line needs another one: deleting any leaves a valid plan. A
//! setting that is not there has its default; a fault that names a host which is not there does nothing (and
//! [`Plan::warnings`] says so). A plan's text ([`std::fmt::Display`]) parses back to the plan ([`std::str::FromStr`]).
//! Lines that start with `#` are comments.
//!
//! A fault may name `leader`: whichever server leads when it begins.
//!
//! To add a setting: a field of [`Plan`], a line each in `display` and `parse`. To add a kind of fault: see `fault`.

mod fault;
mod mix;
mod parse;
mod quiet;
pub mod strategy;
mod swarm;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

pub use self::fault::{
    ClockFault, Directory, DiskFault, Fault, Files, Groups, HostFault, Interval, LEADER, MembershipFault, NetworkFault,
    Operation, Rate,
};
pub use self::mix::Mix;
pub use self::parse::BadPlan;

/// A span of simulated time, in milliseconds: turmoil's timers know nothing finer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl From<Millis> for Duration {
    fn from(millis: Millis) -> Self {
        Self::from_millis(millis.0)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, rest) = (self.0 / 1000, self.0 % 1000);
        match (seconds, rest) {
            (0, 0) => f.write_str("0s"),
            (0, rest) => write!(f, "{rest}ms"),
            (seconds, 0) => write!(f, "{seconds}s"),
            (seconds, rest) => write!(f, "{seconds}.{}s", format!("{rest:03}").trim_end_matches('0')),
        }
    }
}

/// Everything random about one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What every stream of random numbers of the run grows from.
    pub seed: u64,
    /// The names of the servers that found the cluster.
    pub servers: Vec<String>,
    /// Servers that are there, empty, and belong to no cluster until they are added.
    pub spares: Vec<String>,
    /// How many clients; they are called `client1`, `client2`…
    pub clients: u32,
    /// How many messages each client sends.
    pub messages: u32,
    /// How many bytes a message's body has.
    pub body: RangeInclusive<u64>,
    /// How long a client waits between two sends.
    pub pace: RangeInclusive<Millis>,
    /// How many bytes of bodies a server keeps in memory: with more, it takes a checkpoint and reads them back.
    pub memory: u64,
    /// How many log entries stay when the log is cleaned. A server that lacks more gets a snapshot.
    pub keep: u64,
    /// How many bytes a segment of the log has. After two of them a server takes a checkpoint and cleans the log.
    pub segment: u64,
    /// How many bytes of recent log entries a server keeps in memory.
    pub cache: u64,
    /// Silence after which a follower stands for election. A leader says three times as often that it is there.
    pub election: RangeInclusive<Millis>,
    /// How long the network takes for one segment, one way.
    pub latency: RangeInclusive<Millis>,
    /// How long blocking work waits for a thread.
    pub work: RangeInclusive<Millis>,
    /// How long a disk's sync takes.
    pub sync: RangeInclusive<Millis>,
    /// The step of the simulation: within it, hosts do not see each other.
    pub tick: Millis,
    /// How long the safety phase lasts, in which the faults are.
    pub duration: Millis,
    /// The servers whose faults end with the safety phase, while those of the others last on until the core has shown
    /// that it serves. Nobody: all faults end at once.
    pub core: Vec<String>,
    /// How long the core has for everything that was accepted to arrive and for its servers to be equal.
    pub core_liveness: Millis,
    /// How long after the end of all faults everything must be delivered and equal.
    pub liveness: Millis,
    /// After the faults, a fresh send is accepted within this time, and has arrived within it again.
    pub service: Millis,
    /// During the faults, a client waits no longer than this while a majority can talk, and it with them.
    pub patience: Millis,
    /// What the clients do.
    pub mix: Mix,
    /// The faults, each by itself.
    pub faults: Vec<Interval>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 0,
            servers: ["a", "b", "c"].map(str::to_owned).to_vec(),
            spares: Vec::new(),
            clients: 4,
            messages: 50,
            body: 16..=400,
            pace: Millis(0)..=Millis(40),
            memory: 1 << 20,
            keep: 512,
            segment: 16 << 20,
            cache: 1 << 20,
            election: Millis(150)..=Millis(300),
            latency: Millis(1)..=Millis(8),
            work: Millis(0)..=Millis(1),
            sync: Millis(0)..=Millis(4),
            tick: Millis(1),
            duration: Millis(10_000),
            core: Vec::new(),
            core_liveness: Millis(20_000),
            liveness: Millis(20_000),
            service: Millis(5_000),
            patience: Millis(8_000),
            mix: Mix::default(),
            faults: Vec::new(),
        }
    }
}

impl Plan {
    /// The names of all hosts that may be servers: founders and spares.
    pub fn server_hosts(&self) -> Vec<String> {
        self.servers.iter().chain(&self.spares).cloned().collect()
    }

    /// How many disks may be lost in the whole run: a minority of the smallest cluster that there may be.
    pub fn losses_allowed(&self) -> usize {
        let removals = self.faults.iter().filter(|i| matches!(i.fault, Fault::Membership(MembershipFault::Remove(_))));
        (self.servers.len().saturating_sub(removals.count()).max(1) - 1) / 2
    }

    /// How many servers may lose what was durable on their disks, in the whole run. A leader is known by name only when
    /// the plan runs: it counts as another one each time.
    pub fn losses(&self) -> usize {
        let leaders = self.struck_by_line().filter(|host| *host == LEADER).count();
        self.struck().len() + leaders
    }

    /// The servers of which lines that name them take away what was durable.
    pub(crate) fn struck(&self) -> BTreeSet<String> {
        self.struck_by_line().filter(|host| *host != LEADER).map(str::to_owned).collect()
    }

    fn struck_by_line(&self) -> impl Iterator<Item = &str> {
        self.faults.iter().filter_map(|interval| match &interval.fault {
            Fault::Disk(fault) if fault.destroys() => Some(fault.host()),
            _ => None,
        })
    }

    /// The clients' names.
    pub fn client_names(&self) -> Vec<String> {
        (1..=self.clients).map(|n| format!("client{n}")).collect()
    }

    /// The core, if the plan has one that can serve while the other servers are out of order: a majority, of which a
    /// majority again has kept its disks. A server that lost its disk comes back as another member, for which the
    /// others have to make room.
    pub fn standing_core(&self) -> Option<Vec<String>> {
        let core: Vec<String> = self.servers.iter().filter(|name| self.core.contains(name)).cloned().collect();
        let lost = |name: &&String| self.faults.iter().any(|interval| interval.fault.loses_disk_of(name));
        let kept = core.iter().filter(|name| !lost(name)).count();
        // What is a majority depends on who belongs to the cluster. A drained server does.
        let is_drain = |fault: &Fault| matches!(fault, Fault::Membership(MembershipFault::Drain(_)));
        let is_change = |fault: &Fault| matches!(fault, Fault::Membership(_)) && !is_drain(fault);
        if self.faults.iter().any(|interval| is_change(&interval.fault)) {
            return None;
        }
        (kept > self.servers.len() / 2 && core.len() < self.servers.len()).then_some(core)
    }

    /// What the plan says that will have no effect, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let clients = self.client_names();
        let mut warnings = Vec::new();
        if !self.core.is_empty() && self.standing_core().is_none() {
            warnings
                .push(format!("`core {}` is no majority that kept its disks, or is everybody", self.core.join(" ")));
        }
        for interval in &self.faults {
            for host in interval.fault.hosts() {
                if host != LEADER && !self.servers.iter().chain(&self.spares).chain(&clients).any(|name| *name == host)
                {
                    warnings.push(format!("`{interval}` names {host}, which is no host of this plan"));
                }
            }
            if interval.at >= self.duration {
                warnings.push(format!("`{interval}` begins after the safety phase, which lasts {}", self.duration));
            }
        }
        warnings
    }
}

fn range<T: fmt::Display>(range: &RangeInclusive<T>) -> String {
    format!("{}..{}", range.start(), range.end())
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        writeln!(f, "servers {}", self.servers.join(" "))?;
        if !self.spares.is_empty() {
            writeln!(f, "spares {}", self.spares.join(" "))?;
        }
        writeln!(f, "clients {}", self.clients)?;
        writeln!(f, "messages {}", self.messages)?;
        writeln!(f, "body {}", range(&self.body))?;
        writeln!(f, "pace {}", range(&self.pace))?;
        writeln!(f, "memory {}", self.memory)?;
        writeln!(f, "keep {}", self.keep)?;
        writeln!(f, "segment {}", self.segment)?;
        writeln!(f, "cache {}", self.cache)?;
        writeln!(f, "election {}", range(&self.election))?;
        writeln!(f, "latency {}", range(&self.latency))?;
        writeln!(f, "work {}", range(&self.work))?;
        writeln!(f, "sync {}", range(&self.sync))?;
        writeln!(f, "tick {}", self.tick)?;
        writeln!(f, "duration {}", self.duration)?;
        if !self.core.is_empty() {
            writeln!(f, "core {}", self.core.join(" "))?;
        }
        writeln!(f, "core-liveness {}", self.core_liveness)?;
        writeln!(f, "liveness {}", self.liveness)?;
        writeln!(f, "service {}", self.service)?;
        writeln!(f, "patience {}", self.patience)?;
        write!(f, "{}", self.mix)?;
        self.faults.iter().try_for_each(|interval| writeln!(f, "{interval}"))
    }
}
