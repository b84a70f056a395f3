//! Restante's servers and clients in the simulated world: named faults, and every plan that once failed. Seeds are in
//! `suite` and `fresh`.

use std::path::Path;

use restante_sim::cluster::Cluster;
use restante_sim::history::What;
use restante_sim::plan::Plan;
use restante_sim::run::{Outcome, Verdict, run};
use restante_sim::trace::Lines;

fn passes(plan: &Plan) -> Outcome {
    let outcome = run(plan, &Cluster, Lines::Discard);
    assert_eq!(outcome.verdict, Verdict::Passed, "with the plan\n{plan}");
    outcome
}

/// With three servers of which nobody knows yet which one will lead, a fault of the leader is one of each in turn.
fn in_turn(fault: &str) {
    for (turn, server) in ["a", "b", "c"].into_iter().enumerate() {
        let rest = ["a b", "b c", "a c"].into_iter().find(|rest| !rest.contains(server)).unwrap_or_default();
        let fault = fault.replace("WHO", server).replace("REST", rest);
        let text = format!("seed {turn}\nmessages 80\nclients 4\n{fault}");
        let plan: Plan = text.parse().expect("a plan");
        let outcome = passes(&plan);
        let sent = f64::from(plan.clients * plan.messages);
        let accepted = count(&outcome, |what| matches!(what, What::Accepted { .. }));
        assert!(accepted as f64 > sent * 0.9, "{accepted} of {sent} sends were accepted");
    }
}

fn count(outcome: &Outcome, f: impl Fn(&What) -> bool) -> usize {
    outcome.history.entries.iter().filter(|entry| f(&entry.what)).count()
}

#[test]
fn no_fault() {
    in_turn("");
}

#[test]
fn one_server_loses_its_power() {
    in_turn("at 2s for 1.5s crash WHO");
}

#[test]
fn one_server_is_killed_again_and_again() {
    in_turn("at 1.5s for 200ms bounce WHO\nat 2.5s for 10ms bounce WHO\nat 3s for 1s bounce WHO");
}

#[test]
fn one_server_stops_in_good_order() {
    in_turn("at 1.5s for 1s stop WHO\nat 3.5s for 10ms stop WHO");
}

#[test]
fn one_server_is_cut_off_from_the_others() {
    in_turn("at 1.5s for 2s partition WHO | REST");
}

#[test]
fn one_server_stands_still() {
    in_turn("at 1.5s for 2s pause WHO");
}

#[test]
fn one_servers_disk_hangs() {
    in_turn("at 1.5s for 500ms slow-sync WHO 5s");
}

#[test]
fn one_server_loses_its_disk() {
    in_turn("at 2s for 500ms lost-disk WHO");
}

#[test]
fn all_lose_their_power_again_and_again() {
    in_turn(
        "at 1.5s for 300ms power-cut\nat 3s for 10ms power-cut\nat 4s for 500ms crash WHO\nat 4.2s for 700ms power-cut",
    );
}

#[test]
fn a_cluster_of_one_server() {
    for fault in ["at 2s for 300ms crash a\nat 3s for 100ms crash a", "at 2s for 1s stop a", "at 2s for 1s pause a"] {
        passes(&format!("servers a\nclients 2\n{fault}").parse().expect("a plan"));
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the plans lie on the real machine")]
fn every_plan_that_once_failed() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut plans: Vec<_> =
        directory.read_dir().expect("the plans' directory").map(|entry| entry.expect("an entry").path()).collect();
    plans.sort();
    assert!(!plans.is_empty());
    for path in plans {
        let text = std::fs::read_to_string(&path).expect("a plan");
        let plan: Plan = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let outcome = run(&plan, &Cluster, Lines::Discard);
        assert_eq!(outcome.verdict, Verdict::Passed, "{}", path.display());
    }
}
