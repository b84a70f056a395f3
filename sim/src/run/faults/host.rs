//! Hosts that go down, are told to stop, or stand still.

use std::time::Duration;

use rand::RngExt;

use super::super::Runner;
use super::super::hosts::End;
use super::Edge;
use crate::plan::{HostFault, Interval};
use crate::random::stream;

/// How long a burning fuse may take before the power goes anyway.
const FUSE: Duration = Duration::from_millis(50);

/// Hosts whose power goes in the middle of some disk operation: which, until when, and how.
#[derive(Debug, Default)]
pub(in crate::run) struct Fuses(Vec<(usize, Duration, End)>);

impl Runner<'_> {
    pub(super) fn host_fault(&mut self, fault: &HostFault, planned: &Interval, edge: Edge) {
        match (fault, edge) {
            (HostFault::Crash(name), Edge::Begin) => self.on_host(name, |runner, at| runner.crash(planned, at)),
            (HostFault::Crash(name), Edge::End) => self.on_host(name, |runner, at| {
                runner.blow(at);
                runner.bring_up(at);
            }),
            (HostFault::Bounce(name), Edge::Begin) => {
                self.on_host(name, |runner, at| runner.take_down(at, End::Killed));
            }
            (HostFault::Bounce(name), Edge::End) => self.on_host(name, Self::bring_up),
            (HostFault::Stop(name), Edge::Begin) => self.on_host(name, Self::tell_to_stop),
            (HostFault::Stop(name), Edge::End) => self.on_host(name, Self::stopped_long_enough),
            (HostFault::PowerCut, Edge::Begin) => {
                // All at once: nobody is left to hear of the others, and nothing on its way arrives.
                for at in self.hosts.servers() {
                    self.take_down(at, End::PowerCut { silent: true });
                }
            }
            (HostFault::PowerCut, Edge::End) => {
                for at in self.hosts.servers() {
                    // The core's servers have their power back already.
                    let name = &self.hosts.at(at).name;
                    if !self.faults.healed.iter().any(|healed| healed == name) {
                        self.bring_up(at);
                    }
                }
            }
            (HostFault::Pause(name), Edge::Begin) => self.on_host(name, Self::pause),
            (HostFault::Pause(name), Edge::End) => self.on_host(name, Self::resume),
        }
    }

    fn crash(&mut self, planned: &Interval, at: usize) {
        let mut random = stream(self.plan.seed, &planned.to_string());
        let end = End::PowerCut { silent: random.random_bool(0.7) };
        let fuse = random.random_bool(0.6).then(|| random.random_range(0..12));
        let host = self.hosts.at(at);
        match (&host.drive, fuse) {
            (Some(drive), Some(operations)) if host.down == 0 => {
                drive.light_fuse(operations);
                let until = self.sim.elapsed() + FUSE;
                self.faults.fuses.0.push((at, until, end));
            }
            _ => self.take_down(at, end),
        }
    }

    pub(super) fn blow_burnt_fuses(&mut self, now: Duration) {
        let burnt: Vec<usize> =
            self.faults.fuses.0.iter().filter(|(_, until, _)| *until <= now).map(|(at, ..)| *at).collect();
        burnt.into_iter().for_each(|at| self.blow(at));
    }

    /// The power of a host goes whose fuse is lit.
    fn blow(&mut self, at: usize) {
        while let Some(n) = self.faults.fuses.0.iter().position(|(host, ..)| *host == at) {
            let (_, _, end) = self.faults.fuses.0.remove(n);
            self.take_down(at, end);
        }
    }

    /// Takes down whatever lost its power in the last step.
    pub(in crate::run) fn clear_up_after_power_cuts(&mut self) {
        if self.faults.fuses.0.is_empty() {
            return;
        }
        for at in self.hosts.servers() {
            if self.hosts.at(at).drive.as_ref().is_some_and(crate::disk::Drive::is_dark) {
                self.blow(at);
            }
        }
    }
}
