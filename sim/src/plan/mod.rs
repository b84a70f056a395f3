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
mod parse;
mod swarm;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

pub use self::fault::{
    ClockFault, Directory, DiskFault, Fault, Files, Groups, HostFault, Interval, LEADER, NetworkFault, Operation, Rate,
};
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
    /// The servers' names.
    pub servers: Vec<String>,
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
    /// How long after that everything must be delivered and equal.
    pub liveness: Millis,
    /// The faults, each by itself.
    pub faults: Vec<Interval>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 0,
            servers: ["a", "b", "c"].map(str::to_owned).to_vec(),
            clients: 4,
            messages: 50,
            body: 16..=400,
            pace: Millis(0)..=Millis(40),
            memory: 1 << 20,
            cache: 1 << 20,
            election: Millis(150)..=Millis(300),
            latency: Millis(1)..=Millis(8),
            work: Millis(0)..=Millis(1),
            sync: Millis(0)..=Millis(4),
            tick: Millis(1),
            duration: Millis(10_000),
            liveness: Millis(20_000),
            faults: Vec::new(),
        }
    }
}

impl Plan {
    /// The clients' names.
    pub fn client_names(&self) -> Vec<String> {
        (1..=self.clients).map(|n| format!("client{n}")).collect()
    }

    /// What the plan says that will have no effect, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let clients = self.client_names();
        let mut warnings = Vec::new();
        for interval in &self.faults {
            for host in interval.fault.hosts() {
                if host != LEADER && !self.servers.iter().chain(&clients).any(|name| *name == host) {
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
        writeln!(f, "clients {}", self.clients)?;
        writeln!(f, "messages {}", self.messages)?;
        writeln!(f, "body {}", range(&self.body))?;
        writeln!(f, "pace {}", range(&self.pace))?;
        writeln!(f, "memory {}", self.memory)?;
        writeln!(f, "cache {}", self.cache)?;
        writeln!(f, "election {}", range(&self.election))?;
        writeln!(f, "latency {}", range(&self.latency))?;
        writeln!(f, "work {}", range(&self.work))?;
        writeln!(f, "sync {}", range(&self.sync))?;
        writeln!(f, "tick {}", self.tick)?;
        writeln!(f, "duration {}", self.duration)?;
        writeln!(f, "liveness {}", self.liveness)?;
        self.faults.iter().try_for_each(|interval| writeln!(f, "{interval}"))
    }
}
