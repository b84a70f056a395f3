//! Disks that misbehave, change what is on them, or lose it.

use std::time::Duration;

use super::super::Runner;
use super::super::hosts::End;
use super::Edge;
use crate::disk::{DiskFaults, Drive};
use crate::plan::{Directory, DiskFault, Fault, Interval, Operation};
use crate::random::{Stream, stream};
use crate::trace::Event;

impl Runner<'_> {
    pub(super) fn disk_fault(&mut self, fault: &DiskFault, planned: &Interval, edge: Edge) {
        let Some(at) = self.hosts.find(fault.host()) else { return };
        // A client has no disk.
        let Some(drive) = self.hosts.at(at).drive.clone() else { return };
        match (fault, edge) {
            (
                DiskFault::SlowSync(..) | DiskFault::StuckSync(_) | DiskFault::SyncErrors(..) | DiskFault::IoErrors(..),
                _,
            ) => self.restore_disk(at, &drive),
            (DiskFault::FullDisk(_, kib), Edge::Begin) => drive.leave_only(kib.saturating_mul(1024)),
            (DiskFault::FullDisk(host, _), Edge::End) => {
                let full = |fault: &Fault| matches!(fault, Fault::Disk(DiskFault::FullDisk(other, _)) if other == host);
                if !self.faults.active().any(full) {
                    drive.set_limit(None);
                }
            }
            (DiskFault::Flip(..), Edge::Begin) => self.damage(fault, planned, &drive),
            (DiskFault::Flip(..), Edge::End) => {}
            (DiskFault::FlipSnapshot(host), _) => {
                let flips =
                    |fault: &Fault| matches!(fault, Fault::Disk(DiskFault::FlipSnapshot(other)) if other == host);
                let on = self.faults.active().any(flips);
                let index = self.hosts.at(at).index;
                self.context.flip_snapshots(index, on);
            }
            (
                DiskFault::Rot(..)
                | DiskFault::Truncate(..)
                | DiskFault::RemoveFile(..)
                | DiskFault::LostDirectory(..)
                | DiskFault::LostDisk(_),
                Edge::Begin,
            ) => {
                self.take_down(at, End::Killed);
                self.damage(fault, planned, &drive);
            }
            (
                DiskFault::Rot(..)
                | DiskFault::Truncate(..)
                | DiskFault::RemoveFile(..)
                | DiskFault::LostDirectory(..)
                | DiskFault::LostDisk(_),
                Edge::End,
            ) => self.bring_up(at),
        }
    }

    /// Strikes, and says in the trace what was hit.
    fn damage(&mut self, fault: &DiskFault, planned: &Interval, drive: &Drive) {
        let mut random = stream(self.plan.seed, &planned.to_string());
        let hit = strike(fault, drive, &mut random).unwrap_or_else(|| "nothing: there is no such file".to_owned());
        self.context.trace_as(fault.host(), &Event { kind: "disk.damaged", subject: "", fields: &[], text: &hit });
    }

    /// Makes a disk's faults what the intervals that are on say.
    fn restore_disk(&mut self, at: usize, drive: &Drive) {
        let name = self.hosts.at(at).name.clone();
        let mut faults = DiskFaults::default();
        for (fault, until) in self.faults.active_until() {
            match fault {
                Fault::Disk(DiskFault::SlowSync(host, by)) if *host == name => {
                    faults.sync_delay += Duration::from(*by);
                }
                Fault::Disk(DiskFault::StuckSync(host)) if *host == name => {
                    faults.stuck_until = faults.stuck_until.max(until);
                }
                Fault::Disk(DiskFault::SyncErrors(host, rate)) if *host == name => {
                    faults.sync_error = faults.sync_error.max(rate.probability());
                }
                Fault::Disk(DiskFault::IoErrors(host, Operation::Read, rate)) if *host == name => {
                    faults.read_error = faults.read_error.max(rate.probability());
                }
                Fault::Disk(DiskFault::IoErrors(host, Operation::Write, rate)) if *host == name => {
                    faults.write_error = faults.write_error.max(rate.probability());
                }
                _ => {}
            }
        }
        let delay = faults.sync_delay;
        if delay < drive.set_faults(faults).sync_delay {
            let index = self.hosts.at(at).index;
            self.context.disk_became_faster(index);
        }
    }
}

/// Damages what is on a disk. Says what was hit; `None` if there was nothing to hit.
fn strike(fault: &DiskFault, drive: &Drive, random: &mut Stream) -> Option<String> {
    match fault {
        DiskFault::Flip(_, files) | DiskFault::Rot(_, files) => drive.flip(|path| files.include(path), random),
        DiskFault::Truncate(_, files) => drive.truncate(|path| files.include(path), random),
        DiskFault::RemoveFile(_, files) => drive.remove_file(|path| files.include(path), random),
        DiskFault::LostDirectory(_, directory) => {
            let path = match directory {
                Directory::Log => "log",
                Directory::Checkpoint => "checkpoint",
            };
            drive.forget(path).then(|| path.to_owned())
        }
        DiskFault::LostDisk(_) => {
            drive.wipe();
            Some("the whole disk".to_owned())
        }
        DiskFault::SlowSync(..)
        | DiskFault::StuckSync(_)
        | DiskFault::SyncErrors(..)
        | DiskFault::IoErrors(..)
        | DiskFault::FullDisk(..)
        | DiskFault::FlipSnapshot(_) => None,
    }
}
