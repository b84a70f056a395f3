//! What is wrong with each link: worked out anew from all faults that are on, since they overlap.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::Runner;
use super::Edge;
use crate::plan::{Fault, Groups, Millis, NetworkFault, Rate};

/// Two hosts' names, in their order.
type Pair = (String, String);

/// What is wrong between two hosts.
#[derive(Debug, Clone, PartialEq, Default)]
struct Link {
    /// From the first to the second, and back.
    cut: [bool; 2],
    held: bool,
    /// The least and the most that a segment takes, if not what the plan says.
    delay: Option<(Millis, Millis)>,
    loss: f64,
}

/// What turmoil was last told; a pair that is not there is healthy.
#[derive(Debug, Default)]
pub(super) struct Links(BTreeMap<Pair, Link>);

/// The pairs of hosts in different groups, both ways.
fn across(groups: &Groups) -> impl Iterator<Item = (&String, &String)> {
    groups.iter().enumerate().flat_map(move |(n, group)| {
        let others = groups.iter().enumerate().filter(move |(m, _)| *m != n).flat_map(|(_, other)| other);
        others.flat_map(move |other| group.iter().map(move |one| (one, other)))
    })
}

impl Runner<'_> {
    pub(super) fn network_fault(&mut self, fault: &NetworkFault, edge: Edge) {
        match fault {
            NetworkFault::Reset(groups) => {
                let _ = edge;
                for (one, other) in across(groups) {
                    self.context.reset_connections(one, other);
                }
            }
            _ => self.restore_links(),
        }
    }

    /// Makes the links what the faults that are on say.
    pub(in crate::run) fn restore_links(&mut self) {
        let mut wanted: BTreeMap<Pair, Link> = BTreeMap::new();
        let names = self.hosts.names();
        let healed = &self.faults.healed;
        let mut change = |from: &String, to: &String, f: &dyn Fn(&mut Link, usize)| {
            let both_healed = healed.contains(from) && healed.contains(to);
            if from != to && !both_healed && names.contains(from) && names.contains(to) {
                let pair = (from.min(to).clone(), from.max(to).clone());
                f(wanted.entry(pair).or_default(), usize::from(from > to));
            }
        };
        for fault in self.faults.active() {
            let Fault::Network(fault) = fault else { continue };
            match fault {
                NetworkFault::Partition(groups) | NetworkFault::Bridge(groups) => {
                    across(groups).for_each(|(from, to)| change(from, to, &|link, way| link.cut[way] = true));
                }
                NetworkFault::OneWay(from, to) => {
                    let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (from, to)));
                    pairs.for_each(|(from, to)| change(from, to, &|link, way| link.cut[way] = true));
                }
                NetworkFault::Isolate(host) => {
                    names.iter().for_each(|other| change(host, other, &|link, _| link.cut = [true; 2]));
                }
                NetworkFault::Hold(groups) => {
                    across(groups).for_each(|(from, to)| change(from, to, &|link, _| link.held = true));
                }
                NetworkFault::Loss(rate, groups) => {
                    let lossier = |link: &mut Link, _| link.loss = link.loss.max(Rate::probability(*rate));
                    across(groups).for_each(|(from, to)| change(from, to, &lossier));
                }
                NetworkFault::Delay(delay, groups) => {
                    let slower = |link: &mut Link, _| {
                        let delay = (*delay.start(), *delay.end());
                        link.delay = link.delay.max(Some(delay));
                    };
                    across(groups).for_each(|(from, to)| change(from, to, &slower));
                }
                NetworkFault::Reset(_) => {}
            }
        }
        self.cut_off_from_the_whole_core(&mut wanted);
        self.set_links(wanted);
    }

    /// A server outside of the core that can talk with a part of it only could lead that part, and the rest of the core would
    /// never hear what it decides, nor be elected. Then it is cut off from all of the core: its servers are a majority
    /// that can talk, and on their own they must come to an end.
    fn cut_off_from_the_whole_core(&self, wanted: &mut BTreeMap<Pair, Link>) {
        let servers = self.plan.server_hosts();
        let (core, outside): (Vec<String>, Vec<String>) =
            servers.into_iter().partition(|name| self.faults.healed.contains(name));
        for host in &outside {
            let pairs = core.iter().map(|other| (host.min(other).clone(), host.max(other).clone()));
            let is_cut = |pair: &Pair| wanted.get(pair).is_some_and(|link| link.held || link.cut != [false; 2]);
            let pairs: Vec<Pair> = pairs.collect();
            if pairs.iter().any(is_cut) {
                pairs.into_iter().for_each(|pair| wanted.entry(pair).or_default().cut = [true; 2]);
            }
        }
    }

    /// Cuts one host off from all others: what is on its way is lost.
    pub(in crate::run) fn isolate(&mut self, name: &str) {
        let mut wanted = self.faults.links.0.clone();
        for other in self.hosts.names().into_iter().filter(|other| other != name) {
            let pair = (other.as_str().min(name).to_owned(), other.as_str().max(name).to_owned());
            wanted.entry(pair).or_default().cut = [true; 2];
        }
        self.set_links(wanted);
    }

    fn set_links(&mut self, wanted: BTreeMap<Pair, Link>) {
        let before = std::mem::take(&mut self.faults.links.0);
        let pairs: BTreeSet<Pair> = before.keys().chain(wanted.keys()).cloned().collect();
        for pair in pairs {
            let was = before.get(&pair).cloned().unwrap_or_default();
            let becomes = wanted.get(&pair).cloned().unwrap_or_default();
            if was != becomes {
                self.set_link(&pair, &was, &becomes);
            }
        }
        self.faults.links.0 = wanted;
    }

    fn set_link(&mut self, (one, other): &Pair, was: &Link, becomes: &Link) {
        let (one, other) = (one.as_str(), other.as_str());
        if (was.cut, was.held) != (becomes.cut, becomes.held) {
            if becomes.cut == [true; 2] {
                self.sim.partition(one, other);
            } else {
                // A cut in one direction leaves nothing held in the other one.
                if was.held && (!becomes.held || becomes.cut != [false; 2]) {
                    self.sim.release(one, other);
                }
                self.sim.repair(one, other);
                match becomes.cut {
                    [true, _] => self.sim.partition_oneway(one, other),
                    [_, true] => self.sim.partition_oneway(other, one),
                    _ if becomes.held => self.sim.hold(one, other),
                    _ => {}
                }
            }
        }
        if was.delay != becomes.delay {
            let usual = (*self.plan.latency.start(), *self.plan.latency.end());
            let (least, most) = becomes.delay.unwrap_or(usual);
            self.sim.set_link_latency(one, other, Duration::from(least));
            self.sim.set_link_max_message_latency(one, other, Duration::from(most));
        }
        // Loss is drawn by turmoil as a link that breaks and is repaired by the next segment, and the repair would undo
        // a cut in one direction.
        let loss = |link: &Link| if link.cut == [false; 2] && !link.held { link.loss } else { 0.0 };
        if loss(was).to_bits() != loss(becomes).to_bits() {
            self.sim.set_link_fail_rate(one, other, loss(becomes));
            if loss(becomes) == 0.0 && becomes.cut == [false; 2] && !becomes.held {
                self.sim.repair(one, other);
            }
        }
    }
}
