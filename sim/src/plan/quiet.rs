//! When, by the plan alone, a majority of the servers could talk, and a client with them.

use std::ops::Range;
use std::time::Duration;

use super::{Fault, Groups, HostFault, Interval, LEADER, MembershipFault, NetworkFault, Plan};

/// How long a server that ended for its disk may take until it serves again.
const RESTART_MS: u64 = 2000;

/// What a fault leaves out of order while it is on.
enum Disturbs {
    /// These hosts.
    Hosts(Vec<String>),
    /// One server; nobody knows which by the plan alone.
    SomeServer,
    /// Everybody, or who knows whom.
    Everybody,
}

impl Plan {
    /// The times within the safety phase in which a majority of the servers was in order and could talk, and `client`
    /// was in order and could talk to all of them. Rather too few of them: what is not certain is left out.
    pub fn quiet_times(&self, client: &str) -> Vec<Range<Duration>> {
        let mut edges = vec![0, self.duration.0];
        for interval in &self.faults {
            edges.extend([interval.at.0, end_of_disturbance(interval)]);
        }
        edges.retain(|edge| *edge <= self.duration.0);
        edges.sort_unstable();
        edges.dedup();
        let mut quiet: Vec<Range<Duration>> = Vec::new();
        for pair in edges.windows(2) {
            if !self.is_quiet(pair[0], client) {
                continue;
            }
            let (from, to) = (Duration::from_millis(pair[0]), Duration::from_millis(pair[1]));
            match quiet.last_mut() {
                Some(last) if last.end == from => last.end = to,
                _ => quiet.push(from..to),
            }
        }
        quiet
    }

    fn is_quiet(&self, at: u64, client: &str) -> bool {
        let mut in_order: Vec<&String> = self.servers.iter().collect();
        let mut unknown = 0;
        for interval in &self.faults {
            if !(interval.at.0..end_of_disturbance(interval)).contains(&at) {
                continue;
            }
            match disturbs(&interval.fault, self) {
                Disturbs::Hosts(hosts) if hosts.iter().any(|host| host == client) => return false,
                Disturbs::Hosts(hosts) => in_order.retain(|server| !hosts.contains(server)),
                Disturbs::SomeServer => unknown += 1,
                Disturbs::Everybody => return false,
            }
        }
        in_order.len().saturating_sub(unknown) > self.servers.len() / 2
    }
}

/// A server whose disk was lost is out of order until it has joined anew, and when that is the plan does not say.
fn end_of_disturbance(interval: &Interval) -> u64 {
    match &interval.fault {
        Fault::Disk(fault) if fault.destroys() => u64::MAX,
        // It may have ended, and is started again a little later.
        Fault::Disk(_) => interval.end().0.saturating_add(RESTART_MS),
        Fault::Membership(MembershipFault::Drain(_)) => interval.end().0,
        // From then on a majority is one of other servers.
        Fault::Membership(_) => u64::MAX,
        _ => interval.end().0,
    }
}

fn disturbs(fault: &Fault, plan: &Plan) -> Disturbs {
    let hosts = fault.hosts();
    let names_leader = hosts.iter().any(|host| host == LEADER);
    match fault {
        Fault::Host(HostFault::PowerCut) => Disturbs::Everybody,
        // It votes, and serves if nobody else can: draining is no excuse for anything.
        Fault::Membership(MembershipFault::Drain(_)) => Disturbs::Hosts(Vec::new()),
        Fault::Host(_) | Fault::Network(NetworkFault::Isolate(_)) if names_leader => Disturbs::SomeServer,
        Fault::Disk(_) if names_leader => Disturbs::SomeServer,
        Fault::Host(_) | Fault::Disk(_) => Disturbs::Hosts(hosts),
        Fault::Network(NetworkFault::Isolate(_)) => Disturbs::Hosts(hosts),
        _ if names_leader => Disturbs::Everybody,
        Fault::Network(fault) => match fault {
            NetworkFault::Partition(groups)
            | NetworkFault::Bridge(groups)
            | NetworkFault::Hold(groups)
            | NetworkFault::Loss(_, groups)
            | NetworkFault::Delay(_, groups)
            | NetworkFault::Reset(groups) => Disturbs::Hosts(outside_of_the_largest(groups, plan)),
            NetworkFault::OneWay(from, to) => {
                Disturbs::Hosts(outside_of_the_largest(&vec![from.clone(), to.clone()], plan))
            }
            NetworkFault::Isolate(_) => Disturbs::Hosts(hosts),
        },
        // A clock that is wrong makes timeouts of its host's wrong, too.
        _ => Disturbs::Everybody,
    }
}

/// All hosts in groups but the one with the most servers: those that are left can talk among each other.
fn outside_of_the_largest(groups: &Groups, plan: &Plan) -> Vec<String> {
    let servers = |group: &Vec<String>| group.iter().filter(|host| plan.servers.contains(host)).count();
    let largest = groups.iter().enumerate().max_by_key(|(_, group)| servers(group)).map(|(n, _)| n);
    let others = groups.iter().enumerate().filter(|(n, _)| Some(*n) != largest);
    others.flat_map(|(_, group)| group.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(faults: &str, client: &str) -> Vec<(u64, u64)> {
        let plan: Plan = format!("duration 10s\nclients 2\n{faults}").parse().unwrap();
        let millis = |at: Duration| at.as_millis() as u64;
        plan.quiet_times(client).into_iter().map(|time| (millis(time.start), millis(time.end))).collect()
    }

    #[test]
    fn one_of_three_may_be_out_of_order_and_two_may_not() {
        assert_eq!(quiet("", "client1"), [(0, 10_000)]);
        assert_eq!(quiet("at 2s for 3s crash a", "client1"), [(0, 10_000)]);
        assert_eq!(quiet("at 2s for 3s crash a\nat 4s for 3s pause leader", "client1"), [(0, 4000), (5000, 10_000)]);
        assert_eq!(quiet("at 2s for 3s power-cut", "client1"), [(0, 2000), (5000, 10_000)]);
        assert_eq!(quiet("at 2s for 1s lost-disk a\nat 6s for 1s crash b", "client1"), [(0, 6000), (7000, 10_000)]);
        assert_eq!(quiet("at 2s for 1s clock-drift a +5%", "client1"), [(0, 2000), (3000, 10_000)]);
        assert_eq!(quiet("at 2s for 3s drain a\nat 2s for 3s drain b\nat 3s for 1s crash c", "client1"), [(0, 10_000)]);
    }

    #[test]
    fn of_those_that_are_apart_the_most_count_and_their_clients() {
        let apart = "at 2s for 3s partition a client1 | b c client2";
        assert_eq!(quiet(apart, "client1"), [(0, 2000), (5000, 10_000)]);
        assert_eq!(quiet(apart, "client2"), [(0, 10_000)]);
        assert_eq!(
            quiet("at 2s for 3s one-way a > b c\nat 3s for 1s bridge b | c", "client1"),
            [(0, 3000), (4000, 10_000)]
        );
        assert_eq!(quiet("at 2s for 30s pause client1", "client1"), [(0, 2000)]);
        assert_eq!(quiet("at 2s for 30s pause client1", "client2"), [(0, 10_000)]);
    }
}
