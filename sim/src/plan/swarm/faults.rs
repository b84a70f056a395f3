//! The faults that a seed draws: which kinds there are in its plan, how often each, when, for how long and whom.

#[cfg(test)]
use std::collections::BTreeSet;

use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};

use super::super::{
    ClockFault, Directory, DiskFault, Fault, Files, Groups, HostFault, Interval, LEADER, MembershipFault, Millis,
    NetworkFault, Operation, Plan, Rate,
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
    ("stuck-sync", |r, plan| some(DiskFault::StuckSync(server(r, plan)), if r.random_bool(0.5) { 500 } else { 4000 })),
    ("sync-errors", |r, plan| {
        some(DiskFault::SyncErrors(server(r, plan), Rate(wild(r, [100, 1000, 10_000]) as u32)), 2000)
    }),
    ("io-errors", |r, plan| {
        let operation = *Operation::ALL.choose(r)?;
        some(DiskFault::IoErrors(server(r, plan), operation, Rate(wild(r, [50, 500, 3000]) as u32)), 2000)
    }),
    ("full-disk", |r, plan| some(DiskFault::FullDisk(server(r, plan), wild(r, [16, 256, 4096])), 4000)),
    ("flip", |r, plan| some(DiskFault::Flip(victim(r, plan)?, files(r)), 1)),
    ("rot", |r, plan| some(DiskFault::Rot(victim(r, plan)?, files(r)), 1500)),
    ("truncate", |r, plan| some(DiskFault::Truncate(victim(r, plan)?, files(r)), 1500)),
    ("remove-file", |r, plan| some(DiskFault::RemoveFile(victim(r, plan)?, files(r)), 1500)),
    ("lost-directory", |r, plan| {
        let directory = *Directory::ALL.choose(r)?;
        some(DiskFault::LostDirectory(victim(r, plan)?, directory), 1500)
    }),
    ("lost-disk", |r, plan| some(DiskFault::LostDisk(victim(r, plan)?), 1500)),
    ("flip-snapshot", |r, plan| some(DiskFault::FlipSnapshot(server(r, plan)), 6000)),
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
    DRAWS.iter().map(|(kind, _)| *kind).chain(["drain"]).collect()
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
    /// In some plans an operator drains servers beside everything else. Drawn last and from a stream of its own, since it
    /// came later than the seeds that are known by their numbers.
    pub(super) fn draw_drains(&mut self, random: &mut Stream) {
        if self.servers.len() < 2 || random.random_bool(0.7) {
            return;
        }
        for _ in 0..random.random_range(1..=3) {
            let fault = MembershipFault::Drain(server(random, self)).into_fault();
            let at = Millis(random.random_range(500..self.duration.0));
            let lasts = Millis(random.random_range(1..=8000));
            self.faults.push(Interval { at, lasts, fault });
        }
        self.faults.sort_by_key(|interval| interval.at);
    }

    /// Faults come in company, and do not wait for a cluster to be founded. In some plans one begins while it is; and where one
    /// has struck, another one follows in some of them: a machine that has just come back loses its power, a leader goes
    /// in the middle of a change of the membership.
    pub(super) fn draw_company(&mut self, random: &mut Stream) {
        if random.random_bool(0.15) {
            for _ in 0..random.random_range(1..=2) {
                let early = self.draw_early(random);
                self.faults.extend(early);
            }
        }
        let mut company = Vec::new();
        if random.random_bool(0.4) {
            for interval in &self.faults {
                if random.random_bool(0.5) {
                    company.extend(self.draw_follower(random, interval));
                }
            }
        }
        company.retain(|interval| interval.at < self.duration);
        self.faults.append(&mut company);
        self.faults.sort_by_key(|interval| interval.at);
    }

    /// Something that befalls a server before there is much of a cluster.
    fn draw_early(&self, random: &mut Stream) -> Option<Interval> {
        let host = one(random, &self.servers);
        let at = Millis(random.random_range(0..=500));
        let lasts = Millis(random.random_range(1..=1500));
        let fault = match random.random_range(0..6) {
            0 => HostFault::Crash(host).into_fault(),
            1 => HostFault::Bounce(host).into_fault(),
            2 => HostFault::PowerCut.into_fault(),
            3 => NetworkFault::Isolate(host).into_fault(),
            _ => {
                let left = self.losses_allowed().saturating_sub(self.losses());
                // A core was drawn for the disks that are lost otherwise.
                let may_be = self.core.is_empty() && (left > 0 || self.struck().contains(&host));
                may_be.then(|| DiskFault::LostDisk(host).into_fault())?
            }
        };
        Some(Interval { at, lasts, fault })
    }

    /// What may come soon after that one: to whom it befell, or to who leads.
    fn draw_follower(&self, random: &mut Stream, before: &Interval) -> Option<Interval> {
        let soon = random.random_range(0..=400);
        let (at, host) = match &before.fault {
            Fault::Membership(_) => (before.at.0 + soon, LEADER.to_owned()),
            fault => {
                let struck = fault.hosts().into_iter().find(|host| !self.client_names().contains(host));
                (before.end().0.saturating_add(soon), struck.unwrap_or_else(|| LEADER.to_owned()))
            }
        };
        let fault = match random.random_range(0..6) {
            0 | 1 => HostFault::Crash(host),
            2 => HostFault::Bounce(host),
            3 => HostFault::PowerCut,
            4 => HostFault::Pause(host),
            _ => HostFault::Stop(host),
        };
        let lasts = Millis(random.random_range(1..=1500));
        Some(Interval { at: Millis(at), lasts, fault: fault.into_fault() })
    }

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

/// A server that may lose what was durable on its disk. What is accepted survives that on any minority of the servers, so
/// a plan strikes no more of them, however often. A leader is known by name only when the plan runs: it counts as another
/// one each time.
fn victim(random: &mut Stream, plan: &Plan) -> Option<String> {
    let named = plan.struck();
    let left = plan.losses_allowed().saturating_sub(plan.losses());
    let victim = server(random, plan);
    (left > 0 || named.contains(&victim)).then_some(victim)
}

fn files(random: &mut Stream) -> Files {
    Files::ALL[random.random_range(0..Files::ALL.len())]
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
