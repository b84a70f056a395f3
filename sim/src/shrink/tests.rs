//! Shrinking, with failures that need no simulation.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::plan::Millis;

fn plan(text: &str) -> Plan {
    text.parse().unwrap()
}

fn has(plan: &Plan, kind: &str) -> bool {
    plan.faults.iter().any(|interval| interval.fault.kind() == kind)
}

fn all_of_it(plan: &Plan, fails: impl Fn(&Plan) -> bool + Sync) -> Shrunk {
    let shrunk = shrink(plan, 2, fails, |_| ControlFlow::Continue(()));
    assert!(shrunk.finished);
    shrunk
}

const LONG: &str = "
seed 42
servers a b c d e
clients 6
messages 120
body 30..20000
pace 0s..77ms
memory 0
cache 8192
election 343ms..666ms
latency 2ms..7ms
work 0s..2ms
sync 0s..8ms
at 600ms for 3.94s crash b
at 1.751s for 2.977s pause c
at 2.255s for 591ms stop c
at 3.316s for 1.463s slow-sync b 80ms
at 4.017s for 701ms partition a b client5 | c d e client1
at 5.134s for 1.996s stop c
at 6.062s for 997ms power-cut
at 7.924s for 2.527s crash a
at 8.1s for 1.2s pause client4
";

#[test]
fn nothing_is_left_that_the_failure_does_not_need() {
    let whole = plan(LONG);
    let shrunk = all_of_it(&whole, |plan| {
        let long_cut =
            |interval: &crate::plan::Interval| interval.fault.kind() == "power-cut" && interval.lasts >= Millis(300);
        plan.faults.iter().any(long_cut) && has(plan, "partition") && plan.messages >= 37 && plan.clients >= 2
    });
    let small = &shrunk.plan;
    assert_eq!((small.seed, small.messages, small.clients), (42, 37, 2));
    assert_eq!(small.servers.len(), 1);
    assert_eq!(*small.body.end(), 16);
    assert_eq!(small.latency, Plan::default().latency);
    assert_eq!(small.faults.len(), 2, "{small}");
    assert!(small.faults.iter().any(|interval| interval.lasts == Millis(300)), "{small}");
    assert!(small.duration < Millis(8000), "{small}");
    assert!(shrunk.tried < 400, "{} plans were tried", shrunk.tried);
}

#[test]
fn one_group_of_a_partition_needs_no_more_than_it_does() {
    let shrunk = all_of_it(&plan(LONG), |plan| {
        plan.faults.iter().any(|interval| {
            let hosts = interval.fault.hosts();
            interval.fault.kind() == "partition"
                && ["a", "client1"].iter().all(|host| hosts.iter().any(|name| name == host))
        })
    });
    let last = shrunk.plan.faults.first().map(ToString::to_string);
    assert_eq!(last.as_deref(), Some("at 4s for 1ms partition a | client1"));
}

#[test]
fn whatever_fails_at_once_ends_up_with_nothing() {
    let small = all_of_it(&plan(LONG), |_| true).plan;
    assert_eq!((small.servers.len(), small.clients, small.messages, small.faults.len()), (1, 1, 1, 0));
}

#[test]
fn what_cannot_be_made_smaller_stays_as_it_is() {
    let whole = plan(LONG);
    assert_eq!(all_of_it(&whole, |_| false).plan, whole);
}

#[test]
fn no_plan_is_tried_twice_and_none_that_is_no_plan() {
    let mut shrinker = Shrinker::new(plan(LONG));
    let mut seen = BTreeSet::new();
    while let Some(plan) = shrinker.propose().cloned() {
        assert!(seen.insert(plan.to_string()), "{plan}");
        assert_eq!(plan.to_string().parse::<Plan>(), Ok(plan.clone()));
        assert!(!plan.servers.is_empty() && plan.clients > 0 && plan.seed == 42);
        if has(&plan, "stop") && plan.clients > 2 {
            shrinker.still_fails();
        }
    }
    assert!(seen.len() > 20);
}

#[test]
fn the_way_does_not_depend_on_the_number_of_threads() {
    let fails = |plan: &Plan| has(plan, "stop") && has(plan, "pause") && plan.messages > 20;
    let with = |jobs| shrink(&plan(LONG), jobs, fails, |_| ControlFlow::Continue(()));
    assert_eq!(with(1), with(3));
    assert_eq!(with(1), with(8));
}

#[test]
fn it_ends_when_it_is_told_to_with_what_it_has() {
    let tried = AtomicU64::new(0);
    let fails = |plan: &Plan| tried.fetch_add(1, Ordering::Relaxed) < 1000 && has(plan, "stop");
    let enough = |shrunk: &Shrunk| if shrunk.tried < 5 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
    let shrunk = shrink(&plan(LONG), 1, fails, enough);
    assert_eq!((shrunk.tried, shrunk.finished), (5, false));
    assert!(has(&shrunk.plan, "stop") && shrunk.plan.faults.len() < plan(LONG).faults.len());
}
