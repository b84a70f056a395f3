//! `seed → plan`: what a seed grows into.
//!
//! Each concern draws from its own stream, so that a knob that is added does not move the others. Whole kinds of fault
//! are switched off, so that what one kind hides from another is found, too (swarm testing).

use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};

use super::{Fault, Interval, Millis, Plan};
use crate::random::{Stream, stream};

/// Makes one fault of its kind for a plan, and with it says how long it may last.
type Draw = fn(&mut Stream, &Plan) -> (Fault, u64);

/// The kinds that a seed draws from, by names of their own: the same fault of a server and of a client are two.
const KINDS: [(&str, Draw); 12] = [
    ("crash", |r, plan| (Fault::Crash(one(r, &plan.servers)), 4000)),
    ("bounce", |r, plan| (Fault::Bounce(one(r, &plan.servers)), 1500)),
    ("stop", |r, plan| (Fault::Stop(one(r, &plan.servers)), 3000)),
    ("power-cut", |_, _| (Fault::PowerCut, 1500)),
    ("pause", |r, plan| (Fault::Pause(one(r, &plan.servers)), 3000)),
    ("partition", |r, plan| (Fault::Partition(split(r, plan.servers.clone())), 4000)),
    ("hold", |r, plan| (Fault::Hold(split(r, plan.servers.clone())), 2000)),
    ("slow-sync", |r, plan| (Fault::SlowSync(one(r, &plan.servers), Millis(r.random_range(10..300))), 3000)),
    (LOST_DISK, |r, plan| (Fault::LostDisk(one(r, &plan.servers)), 1500)),
    ("client dies", |r, plan| (Fault::Crash(one(r, &plan.client_names())), 1500)),
    ("client pauses", |r, plan| (Fault::Pause(one(r, &plan.client_names())), 2000)),
    ("anybody is cut off", |r, plan| {
        let everybody = plan.servers.iter().cloned().chain(plan.client_names()).collect();
        (Fault::Partition(split(r, everybody)), 3000)
    }),
];

/// What is accepted survives the loss of a minority's disks, so a plan has no more of them.
const LOST_DISK: &str = "lost-disk";

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
        let most = *[64, 400, 400, 4000, 4000, 20_000, 20_000, 200_000].choose(random).unwrap_or(&400);
        if most > 100_000 {
            self.messages /= 4;
        }
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
            let (name, draw) = kinds[chosen];
            let lost = self.faults.iter().filter(|interval| matches!(interval.fault, Fault::LostDisk(_))).count();
            if name == LOST_DISK && lost >= (self.servers.len() - 1) / 2 {
                continue;
            }
            let (fault, longest) = draw(random, self);
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
fn split(random: &mut Stream, mut names: Vec<String>) -> Vec<Vec<String>> {
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
        // Of clients and of servers are one in a plan's text.
        assert_eq!(with.len(), KINDS.len() - 3, "{with:?}");
        assert!(with.values().all(|plans| (15..180).contains(plans)), "{with:?}");
    }
}
