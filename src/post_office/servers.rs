//! What the state knows of servers: how far each one's batches were applied, who belongs to the cluster, and which disk
//! has which Raft id.

use std::collections::{BTreeMap, BTreeSet};

use super::effect::BatchVerdict;
use crate::limits;
use crate::wire::{Incarnation, Name, Nonce, Origin, Refusal};

/// How far the batches of an incarnation's latest boot were applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    pub boot: u64,
    pub last: u64,
    pub dirty: bool,
}

/// A server that belongs to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where others reach it.
    pub address: String,
    /// The Raft id of its disk; none until a disk was enrolled for it.
    pub incarnation: Option<Incarnation>,
    /// It serves no clients and does not lead. A property of the server and not of its disk or process: it stays so when
    /// it is started again, or gets another disk.
    pub drained: bool,
}

/// A name that a server of the cluster has or once had. The last requests that changed it are remembered, since a late
/// copy of one must change nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Named {
    /// None if it was removed.
    pub listed: Option<Listed>,
    pub added_by: Nonce,
    pub removed_by: Nonce,
    pub drained_by: Nonce,
    pub undrained_by: Nonce,
}

/// Who belongs to the cluster. There are few of them, ever: a record each per name and per incarnation.
#[derive(Debug, Default)]
pub(super) struct Servers {
    pub progress: BTreeMap<Incarnation, Progress>,
    /// The servers that belong to it, and those that once did. Raft's membership is made to follow this.
    pub names: BTreeMap<Name, Named>,
    /// Every disk that was ever enrolled: a late copy of an old request must not make an old disk new again.
    pub disks: BTreeMap<Nonce, Incarnation>,
    /// Disks that were replaced or removed: they never count again.
    pub retired: BTreeSet<Incarnation>,
    /// Anything but progress changed since the last checkpoint.
    pub dirty: bool,
}

impl Servers {
    /// Judges a batch, and counts it if it is to be applied.
    pub fn judge(&mut self, origin: Origin, sequence: u64) -> BatchVerdict {
        let known = self.progress.get_mut(&origin.incarnation);
        let last = match &known {
            Some(progress) if progress.boot > origin.boot => return BatchVerdict::Repeat,
            Some(progress) if progress.boot == origin.boot => progress.last,
            _ => 0,
        };
        if sequence <= last {
            return BatchVerdict::Repeat;
        }
        if sequence > last + 1 {
            return BatchVerdict::Gap { expected: last + 1 };
        }
        let now = Progress { boot: origin.boot, last: sequence, dirty: true };
        match known {
            Some(progress) => *progress = now,
            None => drop(self.progress.insert(origin.incarnation, now)),
        }
        BatchVerdict::Applied
    }

    /// The last sequence that was applied of this very boot; 0 if none was.
    pub fn last_sequence(&self, origin: Origin) -> u64 {
        self.progress.get(&origin.incarnation).filter(|p| p.boot == origin.boot).map_or(0, |p| p.last)
    }

    /// The servers that belong to the cluster, names ascending.
    pub fn listed(&self) -> impl Iterator<Item = (&Name, &Listed)> {
        self.names.iter().filter_map(|(name, named)| Some((name, named.listed.as_ref()?)))
    }

    /// Lists the founders, unless anybody was listed before. Whether it did.
    pub fn found(&mut self, members: impl Iterator<Item = (Incarnation, Name, String)>) -> bool {
        if !self.names.is_empty() {
            return false;
        }
        // Of a name with two disks the later one counts.
        for (incarnation, name, address) in members {
            self.dirty = true;
            let listed = Some(Listed { address, incarnation: Some(incarnation), drained: false });
            self.names.insert(name, Named { listed, ..Named::default() });
        }
        true
    }

    /// Lists a server. Listing it again changes nothing.
    pub fn add(&mut self, nonce: Nonce, name: Name, address: &str) -> Result<(), Refusal> {
        let known = self.names.get(&name);
        if known.is_some_and(|known| known.added_by == nonce) {
            return Ok(());
        }
        if let Some(listed) = known.and_then(|known| known.listed.as_ref()) {
            let elsewhere = || Refusal::ServerElsewhere { address: listed.address.clone() };
            return if listed.address == address { Ok(()) } else { Err(elsewhere()) };
        }
        if let Some((server, _)) = self.listed().find(|(_, other)| other.address == address) {
            return Err(Refusal::AddressTaken { server: server.clone() });
        }
        if self.listed().count() >= limits::SERVERS_MAX {
            return Err(Refusal::TooManyServers { limit: limits::SERVERS_MAX as u64 });
        }
        self.dirty = true;
        let named = self.names.entry(name).or_default();
        named.listed = Some(Listed { address: address.to_owned(), incarnation: None, drained: false });
        named.added_by = nonce;
        Ok(())
    }

    /// Takes a server off the list, and its disk counts no more. Removing it again changes nothing.
    pub fn remove(&mut self, nonce: Nonce, name: &str) -> Result<(), Refusal> {
        let (others, idle) = self.others_than(name);
        let named = self.names.get(name).ok_or(Refusal::NoSuchServer)?;
        if named.listed.is_none() || named.removed_by == nonce {
            return Ok(());
        }
        if others == 0 {
            return Err(Refusal::LastServer);
        }
        if others == idle {
            return Err(Refusal::NobodyElseServes { others, drained: idle, ready: 0 });
        }
        let Some(named) = self.names.get_mut(name) else { return Ok(()) };
        self.dirty = true;
        named.removed_by = nonce;
        self.retired.extend(named.listed.take().and_then(|listed| listed.incarnation));
        Ok(())
    }

    /// How many servers there are besides that one, and how many of them are drained.
    fn others_than(&self, name: &str) -> (u64, u64) {
        let others = self.listed().filter(|(other, _)| other.as_str() != name);
        others.fold((0, 0), |(all, drained), (_, other)| (all + 1, drained + u64::from(other.drained)))
    }

    /// Drains a server, or lets it serve again. Asking again changes nothing. One at least is left that is not drained.
    pub fn set_drained(&mut self, nonce: Nonce, name: &str, drained: bool) -> Result<(), Refusal> {
        let (others, idle) = self.others_than(name);
        let named = self.names.get_mut(name).ok_or(Refusal::NoSuchServer)?;
        let listed = named.listed.as_mut().ok_or(Refusal::NoSuchServer)?;
        let known = if drained { &mut named.drained_by } else { &mut named.undrained_by };
        if *known == nonce || listed.drained == drained {
            return Ok(());
        }
        if drained && idle == others {
            return Err(Refusal::NobodyElseServes { others, drained: idle, ready: 0 });
        }
        self.dirty = true;
        *known = nonce;
        listed.drained = drained;
        Ok(())
    }

    /// Gives a disk of a listed server an incarnation, `new` if it has none yet. The disk before it counts no more.
    pub fn enroll(&mut self, name: &str, address: &str, disk: Nonce, new: Incarnation) -> Result<Incarnation, Refusal> {
        let named = self.names.get_mut(name).and_then(|named| named.listed.as_mut());
        let server = named.ok_or(Refusal::NoSuchServer)?;
        let incarnation = match self.disks.get(&disk) {
            None => new,
            Some(known) if server.incarnation == Some(*known) => *known,
            Some(_) => return Err(Refusal::DiskRetired),
        };
        self.dirty = true;
        address.clone_into(&mut server.address);
        if server.incarnation != Some(incarnation) {
            self.retired.extend(server.incarnation.replace(incarnation));
            self.disks.insert(disk, incarnation);
        }
        Ok(incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(incarnation: u64, boot: u64) -> Origin {
        Origin { incarnation, boot }
    }

    #[test]
    fn batches_are_applied_in_order_and_once() {
        let mut servers = Servers::default();
        let a = origin(1, 10);
        assert_eq!(servers.judge(a, 2), BatchVerdict::Gap { expected: 1 });
        assert_eq!(servers.judge(a, 1), BatchVerdict::Applied);
        assert_eq!(servers.judge(a, 1), BatchVerdict::Repeat);
        assert_eq!(servers.judge(a, 3), BatchVerdict::Gap { expected: 2 });
        assert_eq!(servers.judge(origin(2, 10), 1), BatchVerdict::Applied, "another server counts on its own");
        assert_eq!(servers.judge(a, 2), BatchVerdict::Applied);
        assert_eq!(servers.last_sequence(a), 2);
    }

    #[test]
    fn a_newer_boot_begins_again_and_an_older_one_is_over() {
        let mut servers = Servers::default();
        servers.judge(origin(1, 10), 1);
        servers.judge(origin(1, 10), 2);
        assert_eq!(servers.judge(origin(1, 11), 3), BatchVerdict::Gap { expected: 1 });
        assert_eq!(servers.judge(origin(1, 10), 3), BatchVerdict::Applied, "a gap begins no boot");
        assert_eq!(servers.judge(origin(1, 11), 1), BatchVerdict::Applied);
        assert_eq!(servers.judge(origin(1, 10), 4), BatchVerdict::Repeat);
        assert_eq!(servers.last_sequence(origin(1, 10)), 0);
        assert_eq!(servers.last_sequence(origin(1, 11)), 1);
    }

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    fn founded(names: &[&str]) -> Servers {
        let mut servers = Servers::default();
        servers.found((1..).zip(names).map(|(incarnation, n)| (incarnation, name(n), format!("{n}:1"))));
        servers
    }

    fn listed(servers: &Servers, name: &str) -> Listed {
        servers.names[name].listed.clone().expect("it is listed")
    }

    #[test]
    fn a_disk_has_one_incarnation_and_counts_until_there_is_a_newer_one() {
        let mut servers = founded(&["a", "b"]);
        assert_eq!(servers.enroll("a", "x:1", 7, 100), Ok(100));
        assert_eq!(servers.enroll("a", "x:2", 7, 101), Ok(100));
        assert_eq!(listed(&servers, "a").address, "x:2", "a server may move with its disk");
        assert_eq!(servers.enroll("a", "x:3", 8, 102), Ok(102));
        assert_eq!(servers.enroll("a", "x:1", 7, 103), Err(Refusal::DiskRetired), "a late copy of the old disk's");
        assert_eq!(listed(&servers, "a"), Listed { incarnation: Some(102), address: "x:3".into(), drained: false });
        assert_eq!(servers.retired, BTreeSet::from([1, 100]));
        assert_eq!(servers.enroll("c", "c:1", 9, 104), Err(Refusal::NoSuchServer), "nobody added it");
    }

    #[test]
    fn adding_and_removing_may_be_repeated() {
        let mut servers = founded(&["a"]);
        servers.found([(9, name("z"), "z:1".into())].into_iter());
        assert_eq!(servers.names.len(), 1, "a cluster is founded once");
        assert_eq!(servers.remove(1, "a"), Err(Refusal::LastServer));
        assert_eq!(servers.remove(2, "b"), Err(Refusal::NoSuchServer));
        assert_eq!(servers.add(3, name("b"), "b:1"), Ok(()));
        assert_eq!(servers.add(4, name("b"), "b:1"), Ok(()));
        assert_eq!(servers.add(5, name("b"), "b:2"), Err(Refusal::ServerElsewhere { address: "b:1".into() }));
        assert_eq!(servers.add(6, name("c"), "b:1"), Err(Refusal::AddressTaken { server: name("b") }));
        assert_eq!(servers.enroll("b", "b:1", 7, 100), Ok(100));
        assert_eq!(servers.remove(7, "b"), Ok(()));
        assert_eq!(servers.remove(8, "b"), Ok(()));
        assert_eq!(servers.add(3, name("b"), "b:1"), Ok(()));
        assert!(servers.names["b"].listed.is_none(), "a late copy of the request that added it brings it not back");
        assert_eq!(servers.add(9, name("b"), "b:2"), Ok(()));
        assert_eq!(servers.remove(7, "b"), Ok(()));
        assert_eq!(listed(&servers, "b").address, "b:2", "nor does one of the request that removed it remove it again");
        assert_eq!(servers.enroll("b", "b:2", 7, 101), Err(Refusal::DiskRetired), "it was removed");
        assert_eq!(servers.enroll("b", "b:2", 8, 102), Ok(102));
        assert_eq!(servers.retired, BTreeSet::from([100]));
    }

    #[test]
    fn draining_may_be_repeated_and_leaves_one_that_serves() {
        let mut servers = founded(&["a", "b", "c"]);
        let drained = |servers: &Servers, name| listed(servers, name).drained;
        assert_eq!(servers.set_drained(1, "x", true), Err(Refusal::NoSuchServer));
        assert_eq!(servers.set_drained(2, "a", true), Ok(()));
        assert_eq!(servers.set_drained(3, "a", true), Ok(()));
        assert_eq!(servers.set_drained(4, "b", true), Ok(()));
        let nobody = Err(Refusal::NobodyElseServes { others: 2, drained: 2, ready: 0 });
        assert_eq!(servers.set_drained(5, "c", true), nobody);
        assert!(drained(&servers, "a") && drained(&servers, "b") && !drained(&servers, "c"));
        assert_eq!(servers.set_drained(6, "a", false), Ok(()));
        assert_eq!(servers.set_drained(2, "a", true), Ok(()));
        assert!(!drained(&servers, "a"), "a late copy of the request that drained it drains it not again");
        assert_eq!(servers.set_drained(7, "a", true), Ok(()));
        assert_eq!(servers.set_drained(6, "a", false), Ok(()));
        assert!(drained(&servers, "a"), "nor does one of the request that undrained it undrain it");
        assert_eq!(servers.enroll("a", "a:1", 7, 100), Ok(100));
        assert!(drained(&servers, "a"), "another disk is no reason to serve");
        let nobody = Err(Refusal::NobodyElseServes { others: 2, drained: 2, ready: 0 });
        assert_eq!(servers.remove(11, "c"), nobody, "those that would be left are drained");
        assert_eq!(servers.remove(8, "a"), Ok(()));
        assert_eq!(servers.set_drained(9, "a", false), Err(Refusal::NoSuchServer));
        assert_eq!(servers.add(10, name("a"), "a:1"), Ok(()));
        assert!(!drained(&servers, "a"), "one that is added anew is to serve");
    }

    #[test]
    fn there_are_no_more_servers_than_allowed() {
        let mut servers = founded(&["a"]);
        for n in 1..limits::SERVERS_MAX {
            assert_eq!(servers.add(n as u128, name(&format!("s{n}")), &format!("s{n}:1")), Ok(()));
        }
        let limit = limits::SERVERS_MAX as u64;
        assert_eq!(servers.add(0xffff, name("more"), "more:1"), Err(Refusal::TooManyServers { limit }));
    }
}
