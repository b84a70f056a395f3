//! Makes the plan's faults happen, between steps.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;

use super::Runner;
use super::hosts::End;
use super::links::Links;
use crate::disk::DiskFaults;
use crate::plan::{Fault, Interval, Plan};
use crate::random::stream;
use crate::trace::Event;

/// How long a burning fuse may take before the power goes anyway.
const FUSE: Duration = Duration::from_millis(50);

/// The plan's intervals and how far they have come.
#[derive(Debug)]
pub(super) struct Faults {
    /// When, and which interval begins or ends, latest first.
    due: Vec<(Duration, usize, Edge)>,
    intervals: Vec<Interval>,
    on: Vec<bool>,
    counts: BTreeMap<&'static str, u32>,
    pub(super) links: Links,
    /// Hosts whose power goes in the middle of some disk operation: which, until when, and how.
    fuses: Vec<(usize, Duration, End)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Edge {
    Begin,
    End,
}

impl Faults {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut due = Vec::new();
        for (n, interval) in plan.faults.iter().enumerate().filter(|(_, interval)| interval.at < plan.duration) {
            due.push((interval.at.into(), n, Edge::Begin));
            due.push((interval.end().min(plan.duration).into(), n, Edge::End));
        }
        due.sort_by(|one, other| other.cmp(one));
        let on = vec![false; plan.faults.len()];
        let (counts, links, fuses) = (BTreeMap::new(), Links::default(), Vec::new());
        Self { due, intervals: plan.faults.clone(), on, counts, links, fuses }
    }

    /// The faults that are on.
    pub(super) fn active(&self) -> impl Iterator<Item = &Fault> {
        self.intervals.iter().zip(&self.on).filter(|(_, on)| **on).map(|(interval, _)| &interval.fault)
    }

    pub(super) fn counts(&self) -> BTreeMap<&'static str, u32> {
        self.counts.clone()
    }
}

impl Runner<'_> {
    /// Begins and ends what is due.
    pub(super) fn faults_until(&mut self, now: Duration) {
        while let Some((_, n, edge)) = self.faults.due.pop_if(|(at, ..)| *at <= now) {
            let interval = self.faults.intervals[n].clone();
            let begins = edge == Edge::Begin;
            let kind = if begins { "fault.begin" } else { "fault.end" };
            self.context.trace(&Event { kind, subject: "", fields: &[], text: &interval.to_string() });
            self.faults.on[n] = begins;
            if begins {
                *self.faults.counts.entry(interval.fault.kind()).or_default() += 1;
                self.begin(&interval);
            } else {
                self.end(&interval);
            }
        }
        let burnt: Vec<usize> =
            self.faults.fuses.iter().filter(|(_, until, _)| *until <= now).map(|(at, ..)| *at).collect();
        burnt.into_iter().for_each(|at| self.blow(at));
    }

    fn begin(&mut self, interval: &Interval) {
        match &interval.fault {
            Fault::Crash(name) => {
                let Some(at) = self.hosts.find(name) else { return };
                // Named by the interval's text, so that other lines of the plan do not move its draws.
                let mut random = stream(self.plan.seed, &interval.to_string());
                let end = End::PowerCut { silent: random.random_bool(0.7) };
                let fuse = random.random_bool(0.6).then(|| random.random_range(0..12));
                let host = self.hosts.at(at);
                match (&host.drive, fuse) {
                    (Some(drive), Some(operations)) if host.down == 0 => {
                        drive.light_fuse(operations);
                        let until = self.sim.elapsed() + FUSE;
                        self.faults.fuses.push((at, until, end));
                    }
                    _ => self.take_down(at, end),
                }
            }
            Fault::Bounce(name) => self.on_host(name, |runner, at| runner.take_down(at, End::Killed)),
            Fault::Stop(name) => self.on_host(name, Self::tell_to_stop),
            Fault::PowerCut => {
                // All at once: nobody is left to hear of the others, and nothing on its way arrives.
                for at in self.hosts.servers() {
                    self.take_down(at, End::PowerCut { silent: true });
                }
            }
            Fault::LostDisk(name) => self.on_host(name, |runner, at| {
                runner.take_down(at, End::Killed);
                if let Some(drive) = &runner.hosts.at(at).drive {
                    drive.wipe();
                }
            }),
            Fault::Pause(name) => self.on_host(name, Self::pause),
            Fault::Partition(_) | Fault::Hold(_) => self.restore_links(),
            Fault::SlowSync(name, _) => self.on_host(name, Self::restore_disk),
        }
    }

    fn end(&mut self, interval: &Interval) {
        match &interval.fault {
            Fault::Crash(name) => self.on_host(name, |runner, at| {
                runner.blow(at);
                runner.bring_up(at);
            }),
            Fault::Bounce(name) | Fault::LostDisk(name) => self.on_host(name, Self::bring_up),
            Fault::Stop(name) => self.on_host(name, Self::stopped_long_enough),
            Fault::PowerCut => self.hosts.servers().into_iter().for_each(|at| self.bring_up(at)),
            Fault::Pause(name) => self.on_host(name, Self::resume),
            Fault::Partition(_) | Fault::Hold(_) => self.restore_links(),
            Fault::SlowSync(name, _) => self.on_host(name, Self::restore_disk),
        }
    }

    fn on_host(&mut self, name: &str, f: impl FnOnce(&mut Self, usize)) {
        if let Some(at) = self.hosts.find(name) {
            f(self, at);
        }
    }

    /// The power of a host goes whose fuse is lit.
    fn blow(&mut self, at: usize) {
        while let Some(n) = self.faults.fuses.iter().position(|(host, ..)| *host == at) {
            let (_, _, end) = self.faults.fuses.remove(n);
            self.take_down(at, end);
        }
    }

    /// Takes down whatever lost its power in the last step.
    pub(super) fn clear_up_after_power_cuts(&mut self) {
        if self.faults.fuses.is_empty() {
            return;
        }
        for at in self.hosts.servers() {
            if self.hosts.at(at).drive.as_ref().is_some_and(crate::disk::Drive::is_dark) {
                self.blow(at);
            }
        }
    }

    /// Makes a disk's faults what the intervals that are on say.
    fn restore_disk(&mut self, at: usize) {
        let name = self.hosts.at(at).name.clone();
        let delays = self.faults.active().filter_map(|fault| match fault {
            Fault::SlowSync(host, by) if *host == name => Some(Duration::from(*by)),
            _ => None,
        });
        let faults = DiskFaults { sync_delay: delays.sum(), ..DiskFaults::default() };
        if let Some(drive) = &self.hosts.at(at).drive {
            drive.set_faults(faults);
        }
    }
}
