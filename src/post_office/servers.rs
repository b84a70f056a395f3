//! What the state knows of servers: how far each one's batches were applied, and which disk has which Raft id.

use std::collections::BTreeMap;

use super::effect::BatchVerdict;
use crate::wire::{Incarnation, Name, Nonce, Origin};

/// How far the batches of an incarnation's latest boot were applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    pub boot: u64,
    pub last: u64,
    pub dirty: bool,
}

/// The latest disk that was enrolled for a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// Its Raft id.
    pub incarnation: Incarnation,
    /// Where others reach the server.
    pub address: String,
    /// The nonce of the disk.
    pub disk: Nonce,
}

/// Progress and enrolment of all servers. There are few of them, ever: a record each per incarnation.
#[derive(Debug, Default)]
pub(super) struct Servers {
    pub progress: BTreeMap<Incarnation, Progress>,
    /// The latest by server name.
    pub enrolled: BTreeMap<Name, Enrolled>,
    /// Every disk that was ever enrolled: a late copy of an old request must not make an old disk new again.
    pub disks: BTreeMap<Nonce, Incarnation>,
    /// Enrolments changed since the last checkpoint.
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

    /// Gives a disk an incarnation, `new` if it has none yet.
    pub fn enroll(&mut self, name: Name, address: &str, disk: Nonce, new: Incarnation) -> Incarnation {
        self.dirty = true;
        if let Some(incarnation) = self.disks.get(&disk) {
            if let Some(latest) = self.enrolled.get_mut(&name)
                && latest.disk == disk
            {
                address.clone_into(&mut latest.address);
            }
            return *incarnation;
        }
        self.disks.insert(disk, new);
        self.enrolled.insert(name, Enrolled { incarnation: new, address: address.to_owned(), disk });
        new
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

    #[test]
    fn a_disk_has_one_incarnation_for_ever() {
        let mut servers = Servers::default();
        let a = Name::new("a").expect("a name");
        assert_eq!(servers.enroll(a.clone(), "x:1", 7, 100), 100);
        assert_eq!(servers.enroll(a.clone(), "x:2", 7, 101), 100);
        assert_eq!(servers.enrolled[&a].address, "x:2", "a server may move with its disk");
        assert_eq!(servers.enroll(a.clone(), "x:3", 8, 102), 102);
        assert_eq!(servers.enroll(a.clone(), "x:1", 7, 103), 100, "a late copy of the old disk's request");
        assert_eq!(servers.enrolled[&a], Enrolled { incarnation: 102, address: "x:3".into(), disk: 8 });
    }
}
