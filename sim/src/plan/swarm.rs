//! `seed → plan`: what a seed grows into.
//!
//! Each concern draws from its own stream, so that a knob that is added does not move the others. Whole kinds of fault
//! are switched off, so that what one kind hides from another is found, too (swarm testing).

use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};

use super::{Fault, Interval, Millis, Plan};
use crate::random::{Stream, stream};

/// Makes one fault of its kind, and with it says how long it may last.
type Draw = fn(&mut Stream, &[String]) -> (Fault, u64);

/// The kinds that a seed draws from. `lost-disk` is not among them until a server with an empty disk can join again.
const KINDS: [(&str, Draw); 8] = [
    ("crash", |r, servers| (Fault::Crash(one(r, servers)), 4000)),
    ("bounce", |r, servers| (Fault::Bounce(one(r, servers)), 1500)),
    ("stop", |r, servers| (Fault::Stop(one(r, servers)), 3000)),
    ("power-cut", |_, _| (Fault::PowerCut, 1500)),
    ("pause", |r, servers| (Fault::Pause(one(r, servers)), 3000)),
    ("partition", |r, servers| (Fault::Partition(split(r, servers)), 4000)),
    ("hold", |r, servers| (Fault::Hold(split(r, servers)), 2000)),
    ("slow-sync", |r, servers| (Fault::SlowSync(one(r, servers), Millis(r.random_range(10..300))), 3000)),
];

impl Plan {
    /// The plan that `seed` grows into.
    pub fn from_seed(seed: u64) -> Self {
        let mut plan = Self { seed, ..Self::default() };
        plan.draw_cluster(&mut stream(seed, "plan: cluster"));
        plan.draw_workload(&mut stream(seed, "plan: workload"));
        plan.draw_settings(&mut stream(seed, "plan: settings"));
        plan.draw_delays(&mut stream(seed, "plan: delays"));
        plan.draw_faults(&mut stream(seed, "plan: faults"));
        plan
    }

    fn draw_cluster(&mut self, random: &mut Stream) {
        let servers: &[&str] = if random.random_bool(0.2) { &["a", "b", "c", "d", "e"] } else { &["a", "b", "c"] };
        self.servers = servers.iter().map(|name| (*name).to_owned()).collect();
    }

    fn draw_workload(&mut self, random: &mut Stream) {
        self.clients = random.random_range(2..=6);
        self.messages = random.random_range(20..=120);
        let most = *[64, 400, 4000, 20_000].choose(random).unwrap_or(&400);
        self.body = random.random_range(0..=64)..=most;
        self.pace = Millis(0)..=Millis(random.random_range(1..=120));
    }

    fn draw_settings(&mut self, random: &mut Stream) {
        self.memory = *[0, 2 << 10, 64 << 10, 1 << 20].choose(random).unwrap_or(&0);
        self.cache = *[0, 8 << 10, 1 << 20].choose(random).unwrap_or(&0);
        let least = random.random_range(90..=400);
        self.election = Millis(least)..=Millis(least + random.random_range(50..=400));
    }

    fn draw_delays(&mut self, random: &mut Stream) {
        let least = random.random_range(0..=3);
        self.latency = Millis(least)..=Millis(least + random.random_range(1..=15));
        self.work = Millis(0)..=Millis(random.random_range(0..=2));
        self.sync = Millis(0)..=Millis(random.random_range(0..=8));
    }

    fn draw_faults(&mut self, random: &mut Stream) {
        let mut kinds = KINDS.to_vec();
        kinds.shuffle(random);
        kinds.truncate(random.random_range(1..=KINDS.len()));
        let weights: Vec<u32> = kinds.iter().map(|_| random.random_range(1..=8)).collect();
        for _ in 0..random.random_range(1..=10) {
            let mut ticket = random.random_range(0..weights.iter().sum::<u32>());
            let mut chosen = 0;
            while ticket >= weights[chosen] {
                ticket -= weights[chosen];
                chosen += 1;
            }
            let (fault, longest) = kinds[chosen].1(random, &self.servers);
            let at = Millis(random.random_range(500..self.duration.0));
            let lasts = Millis(random.random_range(1..=longest));
            self.faults.push(Interval { at, lasts, fault });
        }
        self.faults.sort_by_key(|interval| interval.at);
    }
}

fn one(random: &mut Stream, names: &[String]) -> String {
    names[random.random_range(0..names.len())].clone()
}

/// Two groups, neither empty.
fn split(random: &mut Stream, names: &[String]) -> Vec<Vec<String>> {
    let mut names = names.to_vec();
    names.shuffle(random);
    let rest = names.split_off(random.random_range(1..names.len()));
    vec![names, rest]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn seeds_reach_every_kind_and_leave_each_out_somewhere() {
        let mut with: BTreeMap<&str, u32> = BTreeMap::new();
        for seed in 0..200 {
            let plan = Plan::from_seed(seed);
            assert_eq!(plan, Plan::from_seed(seed));
            assert!(plan.warnings().is_empty(), "{:?}", plan.warnings());
            let kinds: std::collections::BTreeSet<_> = plan.faults.iter().map(|i| i.fault.kind()).collect();
            kinds.into_iter().for_each(|kind| *with.entry(kind).or_default() += 1);
        }
        assert_eq!(with.len(), KINDS.len(), "{with:?}");
        assert!(with.values().all(|plans| (20..180).contains(plans)), "{with:?}");
    }
}
