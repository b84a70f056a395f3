//! Disks that misbehave, or are replaced by empty ones.

use std::time::Duration;

use super::super::Runner;
use super::super::hosts::End;
use super::Edge;
use crate::disk::DiskFaults;
use crate::plan::{DiskFault, Fault};

impl Runner<'_> {
    pub(super) fn disk_fault(&mut self, fault: &DiskFault, edge: Edge) {
        match (fault, edge) {
            (DiskFault::SlowSync(name, _), _) => self.on_host(name, Self::restore_disk),
            (DiskFault::LostDisk(name), Edge::Begin) => self.on_host(name, |runner, at| {
                runner.take_down(at, End::Killed);
                if let Some(drive) = &runner.hosts.at(at).drive {
                    drive.wipe();
                }
            }),
            (DiskFault::LostDisk(name), Edge::End) => self.on_host(name, Self::bring_up),
        }
    }

    /// Makes a disk's faults what the intervals that are on say.
    fn restore_disk(&mut self, at: usize) {
        let name = self.hosts.at(at).name.clone();
        let delays = self.faults.active().filter_map(|fault| match fault {
            Fault::Disk(DiskFault::SlowSync(host, by)) if *host == name => Some(Duration::from(*by)),
            _ => None,
        });
        let faults = DiskFaults { sync_delay: delays.sum(), ..DiskFaults::default() };
        if let Some(drive) = &self.hosts.at(at).drive {
            drive.set_faults(faults);
        }
    }
}
