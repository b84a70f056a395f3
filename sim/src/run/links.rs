//! Which links are cut or held: worked out anew from all faults that are on, since they overlap.

use std::collections::BTreeMap;

use super::Runner;
use crate::plan::Fault;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Link {
    #[default]
    Healthy,
    Held,
    Cut,
}

/// What turmoil was last told, by pair of hosts' names; a pair that is not there is healthy.
#[derive(Debug, Default)]
pub(super) struct Links(BTreeMap<(String, String), Link>);

/// The pairs of hosts in different groups.
fn pairs(groups: &[Vec<String>]) -> impl Iterator<Item = (&String, &String)> {
    groups.iter().enumerate().flat_map(move |(n, group)| {
        let others = groups[n + 1..].iter().flatten();
        others.flat_map(move |other| group.iter().map(move |one| (one, other)))
    })
}

impl Runner<'_> {
    /// Makes the links what the faults that are on say.
    pub(super) fn restore_links(&mut self) {
        let mut wanted: BTreeMap<(String, String), Link> = BTreeMap::new();
        for fault in self.faults.active() {
            let (groups, link) = match fault {
                Fault::Partition(groups) => (groups, Link::Cut),
                Fault::Hold(groups) => (groups, Link::Held),
                _ => continue,
            };
            for (one, other) in pairs(groups) {
                if self.hosts.find(one).is_some() && self.hosts.find(other).is_some() {
                    let pair = (one.min(other).clone(), one.max(other).clone());
                    let at = wanted.entry(pair).or_default();
                    *at = (*at).max(link);
                }
            }
        }
        self.set_links(wanted);
    }

    /// Cuts one host off from all others: what is on its way is lost.
    pub(super) fn isolate(&mut self, name: &str) {
        let mut wanted = self.faults.links.0.clone();
        for other in self.hosts.names().into_iter().filter(|other| other != name) {
            wanted.insert((other.as_str().min(name).to_owned(), other.as_str().max(name).to_owned()), Link::Cut);
        }
        self.set_links(wanted);
    }

    fn set_links(&mut self, wanted: BTreeMap<(String, String), Link>) {
        let before = std::mem::take(&mut self.faults.links.0);
        let pairs: std::collections::BTreeSet<_> = before.keys().chain(wanted.keys()).cloned().collect();
        for pair in pairs {
            let was = before.get(&pair).copied().unwrap_or_default();
            let becomes = wanted.get(&pair).copied().unwrap_or_default();
            let (one, other) = (pair.0.as_str(), pair.1.as_str());
            match (was, becomes) {
                _ if was == becomes => {}
                (_, Link::Cut) => self.sim.partition(one, other),
                (_, Link::Held) => self.sim.hold(one, other),
                (Link::Held, Link::Healthy) => self.sim.release(one, other),
                (_, Link::Healthy) => self.sim.repair(one, other),
            }
        }
        self.faults.links.0 = wanted;
    }
}
