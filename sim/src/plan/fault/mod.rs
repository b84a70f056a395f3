//! What can go wrong, in families: one file says what a family's faults are called and how they read, and one of the
//! same name in `run::faults` makes them happen.
//!
//! To add a kind: a variant in its family, a line each in `kind`, `who`, `parse` and `visit_names`, what it does in
//! `run::faults`, and its weight in `swarm`.

mod clock;
mod disk;
mod host;
mod membership;
mod network;

use std::fmt;
use std::str::FromStr;

pub use self::clock::ClockFault;
pub use self::disk::DiskFault;
pub use self::host::HostFault;
pub use self::membership::MembershipFault;
pub use self::network::{Groups, NetworkFault};
use super::Millis;

/// The name that stands for whichever server leads when the fault begins.
pub const LEADER: &str = "leader";

/// A fault that begins and ends by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    /// When it begins.
    pub at: Millis,
    /// How long it lasts. Whatever is still on when the safety phase ends, ends then.
    pub lasts: Millis,
    /// What.
    pub fault: Fault,
}

impl Interval {
    /// When it ends.
    pub fn end(&self) -> Millis {
        Millis(self.at.0.saturating_add(self.lasts.0))
    }
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Processes and machines.
    Host(HostFault),
    /// What lies between them.
    Network(NetworkFault),
    /// Their disks.
    Disk(DiskFault),
    /// Their clocks.
    Clock(ClockFault),
    /// Which servers there are: no fault, but a change that must not disturb.
    Membership(MembershipFault),
}

/// What the families have in common.
pub(super) trait Family: Sized {
    /// The word that a plan has for it.
    fn kind(&self) -> &'static str;

    /// What follows the word.
    fn who(&self) -> String;

    /// Reads what follows a word of this family; `None` if the word is of another one.
    fn parse(kind: &str, who: &str) -> Option<Result<Self, String>>;

    /// Calls `f` with every host's name that it has, for reading or changing it.
    fn visit_names(&mut self, f: &mut dyn FnMut(&mut String));
}

/// Calls the same method of whichever family it is.
macro_rules! of_family {
    ($fault:expr, $inner:ident => $call:expr) => {
        match $fault {
            Fault::Host($inner) => $call,
            Fault::Network($inner) => $call,
            Fault::Disk($inner) => $call,
            Fault::Clock($inner) => $call,
            Fault::Membership($inner) => $call,
        }
    };
}

impl Fault {
    /// The word that a plan has for it.
    pub fn kind(&self) -> &'static str {
        of_family!(self, fault => fault.kind())
    }

    /// The hosts that it names.
    pub fn hosts(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut fault = self.clone();
        of_family!(&mut fault, fault => fault.visit_names(&mut |name| names.push(name.clone())));
        names
    }

    /// Whether this may leave that server without the data of its disk, so that it has to join anew.
    pub fn loses_disk_of(&self, server: &str) -> bool {
        match self {
            Self::Disk(fault) => fault.loses_data() && self.hosts().iter().any(|host| host == server || host == LEADER),
            _ => false,
        }
    }

    /// The same with `leader` in the place of [`LEADER`]. A host stays in one group only: the one where it stood for
    /// the leader.
    pub fn with_leader(&self, leader: &str) -> Self {
        let mut fault = self.clone();
        if !self.hosts().iter().any(|name| name == LEADER) {
            return fault;
        }
        if let Self::Network(network) = &mut fault {
            network.forget(leader);
        }
        of_family!(&mut fault, fault => fault.visit_names(&mut |name| {
            if name == LEADER {
                leader.clone_into(name);
            }
        }));
        fault
    }

    pub(super) fn parse(kind: &str, who: &str) -> Result<Self, String> {
        HostFault::parse(kind, who)
            .map(|fault| fault.map(Self::Host))
            .or_else(|| NetworkFault::parse(kind, who).map(|fault| fault.map(Self::Network)))
            .or_else(|| DiskFault::parse(kind, who).map(|fault| fault.map(Self::Disk)))
            .or_else(|| ClockFault::parse(kind, who).map(|fault| fault.map(Self::Clock)))
            .or_else(|| MembershipFault::parse(kind, who).map(|fault| fault.map(Self::Membership)))
            .unwrap_or_else(|| Err(format!("`{kind}` is no kind of fault")))
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {} for {} {}", self.at, self.lasts, self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = of_family!(self, fault => fault.who());
        write!(f, "{}{}{who}", self.kind(), if who.is_empty() { "" } else { " " })
    }
}

/// Hundredths of a percent: `0.25%`, `12%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(pub u32);

impl Rate {
    /// As a probability.
    pub fn probability(self) -> f64 {
        f64::from(self.0.min(10_000)) / 10_000.0
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole}%"),
            (whole, rest) => write!(f, "{whole}.{}%", format!("{rest:02}").trim_end_matches('0')),
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no share: `12%` or `0.25%`, at most 100%");
        let (whole, part) = text.strip_suffix('%').map(|t| t.split_once('.').unwrap_or((t, "0"))).ok_or_else(bad)?;
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 2 || whole.len() > 3 {
            return Err(bad());
        }
        let number = |text: &str| text.parse::<u32>().map_err(|_| bad());
        match number(whole)? * 100 + number(&format!("{part:0<2}"))? {
            rate @ 0..=10_000 => Ok(Self(rate)),
            _ => Err(bad()),
        }
    }
}
