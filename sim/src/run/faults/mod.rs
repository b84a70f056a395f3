//! Makes the plan's faults happen, between steps.

mod clock;
mod disk;
mod host;
mod membership;
mod network;

use std::collections::BTreeMap;
use std::time::Duration;

pub(super) use self::host::Fuses;
use self::network::Links;
use super::Runner;
use crate::plan::{Fault, HostFault, Interval, LEADER, Plan};
use crate::scenario::View;
use crate::trace::Event;

/// The plan's intervals and how far they have come.
#[derive(Debug)]
pub(super) struct Faults {
    /// When, and which interval begins or ends, latest first.
    due: Vec<(Duration, usize, Edge)>,
    /// As the plan has them; one that is on names the leader that it found.
    intervals: Vec<Interval>,
    on: Vec<bool>,
    counts: BTreeMap<&'static str, u32>,
    links: Links,
    fuses: Fuses,
    /// Hosts whose faults have ended for good, while those of the others last on.
    healed: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Edge {
    Begin,
    End,
}

impl Faults {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut due = Vec::new();
        let intervals = membership::spelled_out(plan);
        for (n, interval) in intervals.iter().enumerate().filter(|(_, interval)| interval.at < plan.duration) {
            due.push((interval.at.into(), n, Edge::Begin));
            // Whether what is on at the end of the safety phase lasts on is decided then.
            let end = if interval.end() < plan.duration { interval.end().into() } else { Duration::MAX };
            due.push((end, n, Edge::End));
        }
        due.sort_by(|one, other| other.cmp(one));
        Self {
            due,
            on: vec![false; intervals.len()],
            intervals,
            counts: BTreeMap::new(),
            links: Links::default(),
            fuses: Fuses::default(),
            healed: Vec::new(),
        }
    }

    /// The faults that are on.
    fn active(&self) -> impl Iterator<Item = &Fault> {
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
            match edge {
                Edge::Begin => self.begin(n),
                Edge::End => self.end(n),
            }
        }
        self.blow_burnt_fuses(now);
    }

    /// Ends the faults of the plan's core and of the clients. What else is on stays on: hosts that stand still or are
    /// down, disks, clocks, and links that lead to servers outside of the core.
    pub(super) fn heal_only(&mut self, core: &[String]) {
        self.faults.healed = [core, &self.plan.client_names()].concat();
        for n in 0..self.faults.on.len() {
            let Interval { fault, .. } = &self.faults.intervals[n];
            let hosts = fault.hosts();
            let healed = hosts.iter().all(|host| self.faults.healed.contains(host));
            if self.faults.on[n] && healed && !hosts.is_empty() {
                self.end(n);
            } else if self.faults.on[n] && *fault == Fault::Host(HostFault::PowerCut) {
                core.iter().for_each(|name| self.on_host(name, Self::bring_up));
            }
        }
        self.blow_burnt_fuses(Duration::MAX);
        self.restore_links();
    }

    fn begin(&mut self, n: usize) {
        let planned = self.faults.intervals[n].clone();
        let mut interval = planned.clone();
        if planned.fault.hosts().iter().any(|name| name == LEADER) {
            let (plan, healthy) = (self.plan.clone(), Vec::new());
            let view = View { observed: self.context.observed(), plan, healthy };
            let Some(leader) = self.scenario.leader(&view) else {
                let text = format!("{planned}: nobody leads");
                self.context.trace(&Event { kind: "fault.none", subject: "", fields: &[], text: &text });
                return;
            };
            interval.fault = planned.fault.with_leader(&leader);
        }
        self.context.trace(&Event { kind: "fault.begin", subject: "", fields: &[], text: &interval.to_string() });
        *self.faults.counts.entry(interval.fault.kind()).or_default() += 1;
        self.faults.on[n] = true;
        self.faults.intervals[n] = interval.clone();
        self.on_edge(&interval.fault, &planned, Edge::Begin);
    }

    fn end(&mut self, n: usize) {
        // What found no leader has not begun.
        if !std::mem::take(&mut self.faults.on[n]) {
            return;
        }
        let interval = self.faults.intervals[n].clone();
        self.context.trace(&Event { kind: "fault.end", subject: "", fields: &[], text: &interval.to_string() });
        self.on_edge(&interval.fault, &interval, Edge::End);
    }

    /// `planned` is the plan's line: what a fault draws comes from a stream named by it, so that other lines do not move
    /// its draws.
    fn on_edge(&mut self, fault: &Fault, planned: &Interval, edge: Edge) {
        match fault {
            Fault::Host(fault) => self.host_fault(fault, planned, edge),
            Fault::Network(fault) => self.network_fault(fault, edge),
            Fault::Disk(fault) => self.disk_fault(fault, edge),
            Fault::Clock(fault) => self.clock_fault(fault),
            Fault::Membership(fault) => self.membership_fault(fault, planned, edge),
        }
    }

    fn on_host(&mut self, name: &str, f: impl FnOnce(&mut Self, usize)) {
        if let Some(at) = self.hosts.find(name) {
            f(self, at);
        }
    }
}
