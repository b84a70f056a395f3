//! `seed → plan`: what a seed grows into.
//!
//! Each concern draws from its own stream, so that a knob that is added does not move the others. Whole kinds of fault
//! are switched off, so that what one kind hides from another is found, too (swarm testing).

mod faults;

use rand::RngExt;
use rand::seq::IndexedRandom;

use super::{DiskFault, Fault, Millis, Mix, Plan};
use crate::random::{Stream, stream};

impl Plan {
    /// The plan that `seed` grows into.
    pub fn from_seed(seed: u64) -> Self {
        let mut plan = Self { seed, ..Self::default() };
        plan.draw_cluster(&mut stream(seed, "plan: cluster"));
        plan.draw_workload(&mut stream(seed, "plan: workload"));
        plan.draw_settings(&mut stream(seed, "plan: settings"));
        plan.draw_delays(&mut stream(seed, "plan: delays"));
        plan.draw_tick(&mut stream(seed, "plan: tick"));
        plan.mix = Mix::draw(&mut stream(seed, "plan: mix"));
        plan.mix.draw_http(&mut stream(seed, "plan: http"));
        plan.mix.draw_share(&mut stream(seed, "plan: share"));
        plan.draw_spares(&mut stream(seed, "plan: spares"));
        plan.draw_faults(&mut stream(seed, "plan: faults"));
        plan.draw_core(&mut stream(seed, "plan: core"));
        plan.draw_drains(&mut stream(seed, "plan: drains"));
        plan.draw_segment(&mut stream(seed, "plan: segment"));
        plan.draw_company(&mut stream(seed, "plan: company"));
        plan
    }

    fn draw_cluster(&mut self, random: &mut Stream) {
        let servers = *[1, 3, 3, 3, 3, 3, 3, 5, 5, 7].choose(random).unwrap_or(&3);
        self.servers = ["a", "b", "c", "d", "e", "f", "g"][..servers].iter().map(|name| (*name).to_owned()).collect();
    }

    fn draw_spares(&mut self, random: &mut Stream) {
        if random.random_bool(0.3) {
            let names = ["v", "w", "x", "y"];
            self.spares = names[..random.random_range(1..=names.len())].iter().map(|name| (*name).to_owned()).collect();
        }
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
        self.keep = *[0, 4, 32, 512].choose(random).unwrap_or(&0);
        self.cache = *[0, 8 << 10, 1 << 20].choose(random).unwrap_or(&0);
        let least = random.random_range(90..=400);
        self.election = Millis(least)..=Millis(least + random.random_range(50..=400));
    }

    /// Small segments are filled, cleaned up and removed in the middle of everything; what is usual is not filled in a run.
    fn draw_segment(&mut self, random: &mut Stream) {
        self.segment = *[8 << 10, 32 << 10, 128 << 10, 1 << 20, 16 << 20].choose(random).unwrap_or(&(16 << 20));
        // On a full disk a server lives on its last segment, which has to hold the largest entry and keep room for votes.
        let fills = |fault: &Fault| matches!(fault, Fault::Disk(DiskFault::FullDisk(..)));
        if self.faults.iter().any(|interval| fills(&interval.fault)) {
            self.segment = 16 << 20;
        }
    }

    fn draw_delays(&mut self, random: &mut Stream) {
        let least = random.random_range(0..=3);
        self.latency = Millis(least)..=Millis(least + random.random_range(1..=15));
        self.work = Millis(0)..=Millis(random.random_range(0..=2));
        self.sync = Millis(0)..=Millis(random.random_range(0..=8));
    }

    /// A coarse step costs less, for the simulation asks every host in each, and brings what hosts do into other orders:
    /// more of it happens before anybody hears of it.
    fn draw_tick(&mut self, random: &mut Stream) {
        self.tick = Millis(*[1, 2, 2, 5].choose(random).unwrap_or(&1));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn seeds_reach_every_kind_and_leave_each_out_somewhere() {
        let mut with: BTreeMap<&str, u32> = BTreeMap::new();
        for seed in 0..300 {
            let plan = Plan::from_seed(seed);
            assert_eq!(plan, Plan::from_seed(seed));
            assert!(plan.warnings().is_empty(), "{:?}", plan.warnings());
            let kinds: std::collections::BTreeSet<_> = plan.faults.iter().map(|i| i.fault.kind()).collect();
            kinds.into_iter().for_each(|kind| *with.entry(kind).or_default() += 1);
        }
        assert_eq!(with.len(), faults::kinds().len(), "{with:?}");
        assert!(with.values().all(|plans| (10..280).contains(plans)), "{with:?}");
    }
}
