//! What an operator does: orders go to the operator's client, and processes of servers are started and replaced as a
//! person would.

use super::super::Runner;
use super::super::hosts::End;
use super::Edge;
use crate::plan::{Fault, HostFault, Interval, MembershipFault, Millis, Plan};
use crate::scenario::{Order, View, Wish};

/// How long an operator goes on asking for a drained server to serve again.
const UNDRAIN_MS: u64 = 3000;

/// The intervals that a plan's lines stand for: a rolling restart is a stop of each server, one after the other.
pub(super) fn spelled_out(plan: &Plan) -> Vec<Interval> {
    let mut intervals = plan.faults.clone();
    for interval in &plan.faults {
        if interval.fault != Fault::Membership(MembershipFault::RollingRestart) {
            continue;
        }
        let servers = plan.server_hosts();
        let turn = interval.lasts.0 / servers.len().max(1) as u64;
        for (n, server) in servers.into_iter().enumerate() {
            let at = Millis(interval.at.0.saturating_add(turn * n as u64));
            let fault = Fault::Host(HostFault::Stop(server));
            intervals.push(Interval { at, lasts: Millis(turn / 2), fault });
        }
    }
    intervals
}

impl Runner<'_> {
    pub(super) fn membership_fault(&mut self, fault: &MembershipFault, interval: &Interval, edge: Edge) {
        if edge == Edge::End {
            if let MembershipFault::Drain(server) = fault {
                let until = interval.end().min(self.plan.duration);
                let until = Millis(until.0.saturating_add(UNDRAIN_MS));
                self.orders.give(Order { wish: Wish::Undrain(server.clone()), until: until.into() });
            }
            return;
        }
        let wish = match fault {
            MembershipFault::Add(server) => {
                self.on_host(server, |runner, at| {
                    runner.hosts.at(at).leaves = false;
                    runner.begin_server(at);
                });
                Wish::Add(server.clone())
            }
            MembershipFault::Remove(server) => {
                self.on_host(server, |runner, at| {
                    let host = runner.hosts.at(at);
                    (host.leaves, host.may_retire) = (true, true);
                });
                Wish::Remove(server.clone())
            }
            MembershipFault::Transfer(server) => Wish::Transfer(server.clone()),
            MembershipFault::Drain(server) => Wish::Drain(server.clone()),
            MembershipFault::RollingRestart => return,
        };
        let until = interval.end().min(self.plan.duration);
        self.orders.give(Order { wish, until: until.into() });
    }

    /// Of two orders that contradict each other the one that was given first may be carried out last: once they are over,
    /// who is listed belongs to the cluster.
    pub(in crate::run) fn heed_the_list(&mut self, view: &View) {
        for at in self.hosts.servers() {
            let host = self.hosts.at(at);
            host.leaves &= !(host.has_retired() && self.scenario.lists(view, &host.name));
        }
    }

    /// A server that was removed, says so, and is to belong to the cluster again gets an empty disk.
    pub(in crate::run) fn replace_retired_disks(&mut self) {
        for at in self.hosts.servers() {
            let host = self.hosts.at(at);
            if host.down > 0 || host.leaves || !host.has_retired() {
                continue;
            }
            host.rejoins();
            self.take_down(at, End::Killed);
            if let Some(drive) = &self.hosts.at(at).drive {
                drive.wipe();
            }
            self.bring_up(at);
        }
    }
}
