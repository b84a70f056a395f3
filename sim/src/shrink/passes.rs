//! What a plan is made smaller by. Each pass looks at one thing after another of a plan and proposes smaller ones, the
//! boldest first.
//!
//! Settings are known by their lines alone: a line that is deleted stands for its default. So a setting or a kind of
//! fault that is added is shrunk without anything being added here.

use crate::plan::{Interval, LEADER, Millis, Plan};

/// The proposals for the thing of that number; none if the plan has no such thing.
type Pass = fn(&Plan, usize) -> Option<Vec<Plan>>;

pub(super) const PASSES: [Pass; 8] = [
    fewer_servers,
    fewer_clients,
    fewer_messages,
    smaller_bodies,
    plain_settings,
    less_of_a_fault,
    shorter,
    simpler_times,
];

/// Settings that other passes make smaller, and what makes the plan the one it is.
const NOT_PLAIN: [&str; 7] = ["seed", "servers", "clients", "messages", "body", "duration", "at"];

fn changed(plan: &Plan, change: impl FnOnce(&mut Plan)) -> Plan {
    let mut plan = plan.clone();
    change(&mut plan);
    let clients = plan.client_names();
    // A fault of a host that is gone does nothing, and neither does one that never begins.
    let (servers, duration) = (plan.server_hosts(), plan.duration);
    plan.faults.retain(|interval| {
        let there = |name: &String| name == LEADER || servers.iter().chain(&clients).any(|host| host == name);
        let hosts = interval.fault.hosts();
        interval.at < duration && (hosts.is_empty() || hosts.iter().any(there))
    });
    plan
}

/// Smaller numbers, boldest first.
fn smaller(number: u64, least: u64) -> Vec<u64> {
    let over = number.saturating_sub(least);
    let mut numbers: Vec<u64> = [0, over / 4, over / 2, over * 3 / 4, over.saturating_sub(1)].map(|n| least + n).into();
    numbers.retain(|n| *n < number);
    numbers.dedup();
    numbers
}

/// An odd number, so that the majority of fewer is one fewer; those that a fault names stay longest.
fn fewer_servers(plan: &Plan, thing: usize) -> Option<Vec<Plan>> {
    (thing == 0).then(|| {
        let named: Vec<String> = plan.faults.iter().flat_map(|interval| interval.fault.hosts()).collect();
        let mut order: Vec<&String> = plan.servers.iter().collect();
        order.sort_by_key(|server| !named.contains(server));
        let with = |count: usize| changed(plan, |less| less.servers.retain(|server| order[..count].contains(&server)));
        // With fewer servers, fewer may lose their disks: a plan that nobody could survive shows nothing.
        let survivable = |less: &Plan| less.losses() <= less.losses_allowed() || plan.losses() > plan.losses_allowed();
        (1..plan.servers.len()).step_by(2).map(with).filter(survivable).collect()
    })
}

fn fewer_clients(plan: &Plan, thing: usize) -> Option<Vec<Plan>> {
    let with = |clients: u64| changed(plan, |less| less.clients = clients as u32);
    (thing == 0).then(|| smaller(plan.clients.into(), 1).into_iter().map(with).collect())
}

fn fewer_messages(plan: &Plan, thing: usize) -> Option<Vec<Plan>> {
    let with = |messages: u64| changed(plan, |less| less.messages = messages as u32);
    (thing == 0).then(|| smaller(plan.messages.into(), 1).into_iter().map(with).collect())
}

fn smaller_bodies(plan: &Plan, thing: usize) -> Option<Vec<Plan>> {
    let (least, most) = (*plan.body.start(), *plan.body.end());
    (thing == 0).then(|| {
        let mut plans: Vec<Plan> =
            smaller(most, least).into_iter().map(|most| changed(plan, |less| less.body = least..=most)).collect();
        plans.insert(0, changed(plan, |less| less.body = least.min(16)..=least.min(16)));
        plans
    })
}

/// All settings first, then one by one.
fn plain_settings(plan: &Plan, thing: usize) -> Option<Vec<Plan>> {
    let text = plan.to_string();
    let word = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    let settings: Vec<String> = text.lines().map(word).filter(|word| !NOT_PLAIN.contains(&word.as_str())).collect();
    let without = |gone: &[String]| {
        let lines: Vec<&str> = text.lines().filter(|line| !gone.contains(&word(line))).collect();
        lines.join("\n").parse().ok().into_iter().collect()
    };
    match thing {
        0 => Some(without(&settings)),
        n => settings.get(n - 1).map(|setting| without(std::slice::from_ref(setting))),
    }
}

/// A fault's line with a word less that it can do without: a host of a group, say.
fn less_of_a_fault(plan: &Plan, thing: usize) -> Option<Vec<Plan>> {
    let interval = plan.faults.get(thing)?;
    let text = interval.to_string();
    let words: Vec<&str> = text.split(' ').collect();
    let without = |at: usize| {
        let rest: Vec<&str> = words.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, word)| *word).collect();
        let Ok(one) = rest.join(" ").parse::<Plan>() else { return None };
        let mut less = plan.clone();
        less.faults[thing] = one.faults.into_iter().next()?;
        Some(less)
    };
    // The first five are `at`, `for`, their times and the kind.
    Some((5..words.len()).filter_map(without).collect())
}

/// Shorter faults; the run comes last, and is never shorter than its faults.
fn shorter(plan: &Plan, thing: usize) -> Option<Vec<Plan>> {
    if let Some(interval) = plan.faults.get(thing) {
        let with = |lasts: u64| changed(plan, |less| less.faults[thing].lasts = Millis(lasts));
        return Some(smaller(interval.lasts.0, 1).into_iter().map(with).collect());
    }
    (thing == plan.faults.len()).then(|| {
        let least = plan.faults.iter().map(Interval::end).max().unwrap_or_default().0.clamp(1, plan.duration.0);
        let with = |duration: u64| changed(plan, |less| less.duration = Millis(duration));
        smaller(plan.duration.0, least).into_iter().map(with).collect()
    })
}

/// Times that a person reads more easily. They are rounded down, so that this comes to an end.
fn simpler_times(plan: &Plan, thing: usize) -> Option<Vec<Plan>> {
    let interval = plan.faults.get(thing)?;
    let mut plans = Vec::new();
    for step in [1000, 500, 100, 10] {
        let round = |millis: Millis| Millis(millis.0 / step * step);
        let (at, lasts) = (round(interval.at), round(interval.lasts).max(Millis(1)).min(interval.lasts));
        plans.push(changed(plan, |less| (less.faults[thing].at, less.faults[thing].lasts) = (at, lasts)));
        plans.push(changed(plan, |less| less.faults[thing].at = at));
        plans.push(changed(plan, |less| less.faults[thing].lasts = lasts));
    }
    Some(plans)
}
