//! The faults that a seed draws: which kinds there are in its plan, how often each, when, for how long and whom.

#[cfg(test)]
use std::collections::BTreeSet;

use rand::RngExt;
use rand::seq::SliceRandom;

use super::super::{
    ClockFault, DiskFault, Fault, Groups, HostFault, Interval, LEADER, MembershipFault, Millis, NetworkFault, Plan,
    Rate,
};
use crate::random::Stream;

/// Makes one fault of its kind for a plan. The number is how long it may last, in milliseconds. `None` if this plan has
/// no room for it.
type Draw = fn(&mut Stream, &Plan) -> Option<(Fault, u64)>;

/// The kinds that a seed draws from. The first names are those of a plan's text; several draws may make one kind.
const DRAWS: &[(&str, Draw)] = &[
    ("crash", |r, plan| some(HostFault::Crash(server(r, plan)), if r.random_bool(0.3) { 150 } else { 4000 })),
    ("bounce", |r, plan| some(HostFault::Bounce(server(r, plan)), 1500)),
    ("stop", |r, plan| some(HostFault::Stop(server(r, plan)), 3000)),
    ("power-cut", |_, _| some(HostFault::PowerCut, 1500)),
    ("pause", |r, plan| some(HostFault::Pause(server(r, plan)), 3000)),
    ("crash", |r, plan| some(HostFault::Crash(client(r, plan)?), 1500)),
    ("pause", |r, plan| some(HostFault::Pause(client(r, plan)?), 2000)),
    ("partition", |r, plan| some(NetworkFault::Partition(split(r, plan.servers.clone())?), 4000)),
    ("partition", |r, plan| some(NetworkFault::Partition(split(r, everybody(plan))?), 3000)),
    ("bridge", |r, plan| {
        let mut servers = plan.servers.clone();
        servers.shuffle(r);
        servers.pop();
        some(NetworkFault::Bridge(split(r, servers)?), 4000)
    }),
    ("one-way", |r, plan| {
        let hosts = if r.random_bool(0.8) { plan.servers.clone() } else { everybody(plan) };
        let [from, to] = <[_; 2]>::try_from(split(r, hosts)?).ok()?;
        some(NetworkFault::OneWay(from, to), 4000)
    }),
    ("isolate", |r, plan| some(NetworkFault::Isolate(server(r, plan)), 3000)),
    ("hold", |r, plan| some(NetworkFault::Hold(split(r, plan.servers.clone())?), 2000)),
    ("loss", |r, plan| {
        let rate = Rate(wild(r, [50, 500, 3000]) as u32);
        some(NetworkFault::Loss(rate, split(r, everybody(plan))?), 3000)
    }),
    ("delay", |r, plan| {
        let least = r.random_range(0..=100);
        let most = least + wild(r, [50, 500, 2000]);
        some(NetworkFault::Delay(Millis(least)..=Millis(most), split(r, everybody(plan))?), 4000)
    }),
    ("reset", |r, plan| some(NetworkFault::Reset(split(r, everybody(plan))?), 2000)),
    ("slow-sync", |r, plan| some(DiskFault::SlowSync(server(r, plan), Millis(r.random_range(10..300))), 3000)),
    ("lost-disk", |r, plan| {
        // What is accepted survives the loss of a minority's disks, so a plan has no more of them.
        if plan.losses() >= plan.losses_allowed() {
            return None;
        }
        some(DiskFault::LostDisk(server(r, plan)), 1500)
    }),
    ("add", |r, plan| {
        // Mostly one that is new; one that was removed comes back.
        let new = if plan.spares.is_empty() || r.random_bool(0.3) { &plan.servers } else { &plan.spares };
        some(MembershipFault::Add(one(r, new)), 6000)
    }),
    ("remove", |r, plan| {
        let mut smaller = plan.clone();
        let remove = Fault::Membership(MembershipFault::Remove(server(r, plan)));
        smaller.faults.push(Interval { at: Millis(0), lasts: Millis(0), fault: remove.clone() });
        (plan.losses() <= smaller.losses_allowed()).then_some((remove, 6000))
    }),
    ("transfer", |r, plan| some(MembershipFault::Transfer(one(r, &plan.server_hosts())), 3000)),
    ("rolling-restart", |_, _| some(MembershipFault::RollingRestart, 6000)),
    ("clock-jump", |r, plan| {
        let by = Millis(wild(r, [1_000, 60_000, 100_000_000]));
        some(ClockFault::Jump { host: server(r, plan), behind: r.random(), by }, 4000)
    }),
    ("clock-drift", |r, plan| {
        let by = Rate(wild(r, [10, 500, 2000]) as u32);
        some(ClockFault::Drift { host: server(r, plan), slower: r.random(), by }, 8000)
    }),
];

/// The words of all kinds.
#[cfg(test)]
pub(super) fn kinds() -> BTreeSet<&'static str> {
    DRAWS.iter().map(|(kind, _)| *kind).collect()
}

trait IntoFault {
    fn into_fault(self) -> Fault;
}

macro_rules! into_fault {
    ($($family:ty => $variant:path),* $(,)?) => {
        $(impl IntoFault for $family {
            fn into_fault(self) -> Fault {
                $variant(self)
            }
        })*
    };
}

into_fault! {
    HostFault => Fault::Host,
    NetworkFault => Fault::Network,
    DiskFault => Fault::Disk,
    ClockFault => Fault::Clock,
    MembershipFault => Fault::Membership,
}

#[expect(clippy::unnecessary_wraps, reason = "it is what most draws end with, and some have nothing to give")]
fn some(fault: impl IntoFault, longest: u64) -> Option<(Fault, u64)> {
    Some((fault.into_fault(), longest))
}

impl Plan {
    pub(super) fn draw_faults(&mut self, random: &mut Stream) {
        let mut kinds = DRAWS.to_vec();
        kinds.shuffle(random);
        // Whole kinds are off, in most plans most of them: what one kind hides from another is found, too.
        kinds.truncate(random.random_range(1..=kinds.len().min(12)));
        let weights: Vec<u32> = kinds.iter().map(|_| random.random_range(1..=8)).collect();
        for _ in 0..random.random_range(1..=12) {
            let mut ticket = random.random_range(0..weights.iter().sum::<u32>());
            let mut chosen = 0;
            while ticket >= weights[chosen] {
                ticket -= weights[chosen];
                chosen += 1;
            }
            let Some((fault, longest)) = kinds[chosen].1(random, self) else { continue };
            let at = Millis(random.random_range(500..self.duration.0));
            let lasts = Millis(random.random_range(1..=longest));
            self.faults.push(Interval { at, lasts, fault });
        }
        self.faults.sort_by_key(|interval| interval.at);
    }
}

impl Plan {
    /// In half of the plans some servers are still out of order when the others have to serve again.
    pub(super) fn draw_core(&mut self, random: &mut Stream) {
        let most = (self.servers.len() - 1) / 2;
        if most == 0 || random.random_bool(0.5) {
            return;
        }
        let mut core = self.servers.clone();
        core.shuffle(random);
        let rest = core.split_off(core.len() - random.random_range(1..=most));
        core.sort();
        self.core = core;
        if self.standing_core().is_none() {
            return self.core.clear();
        }
        for server in rest {
            let others: Vec<String> = self.servers.iter().filter(|name| **name != server).cloned().collect();
            let fault = match random.random_range(0..7) {
                0 => HostFault::Crash(server).into_fault(),
                1 => HostFault::Pause(server).into_fault(),
                2 => NetworkFault::Isolate(server).into_fault(),
                3 => NetworkFault::Partition(vec![vec![server], others]).into_fault(),
                4 => NetworkFault::OneWay(others, vec![server]).into_fault(),
                5 => NetworkFault::OneWay(vec![server], others).into_fault(),
                _ => DiskFault::SlowSync(server, Millis(random.random_range(10..2000))).into_fault(),
            };
            let at = Millis(self.duration.0.saturating_sub(random.random_range(1..3000)));
            self.faults.push(Interval { at, lasts: self.duration, fault });
        }
        self.faults.sort_by_key(|interval| interval.at);
    }
}

/// A server by name, or whichever leads when it begins.
fn server(random: &mut Stream, plan: &Plan) -> String {
    if random.random_bool(0.25) { LEADER.to_owned() } else { one(random, &plan.server_hosts()) }
}

fn client(random: &mut Stream, plan: &Plan) -> Option<String> {
    (plan.clients > 0).then(|| one(random, &plan.client_names()))
}

fn everybody(plan: &Plan) -> Vec<String> {
    plan.server_hosts().into_iter().chain(plan.client_names()).collect()
}

fn one(random: &mut Stream, names: &[String]) -> String {
    names[random.random_range(0..names.len())].clone()
}

/// From 1 up to one of three bounds, so that small values are as likely as large ones.
fn wild(random: &mut Stream, bounds: [u64; 3]) -> u64 {
    let most = bounds[random.random_range(0..bounds.len())];
    random.random_range(1..=most)
}

/// Two groups, neither empty, if there are so many.
fn split(random: &mut Stream, mut names: Vec<String>) -> Option<Groups> {
    if names.len() < 2 {
        return None;
    }
    names.shuffle(random);
    let rest = names.split_off(random.random_range(1..names.len()));
    Some(vec![names, rest])
}
