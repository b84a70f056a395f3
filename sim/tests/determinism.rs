//! A run is a pure function of its plan: in one process, after other runs, on another thread, in another process.

use std::process::Command;

use restante_sim::plan::Plan;
use restante_sim::run::{Outcome, Verdict, run};
use restante_sim::scenario::Scenario;
use restante_sim::toy::Toy;
use restante_sim::trace::Lines;

/// Every kind of fault at once, overlapping.
const EVERYTHING: &str = "
messages 60
at 600ms for 900ms crash a
at 1s for 2s partition a b | c
at 1.2s for 700ms pause b
at 2.5s for 300ms bounce c
at 3s for 800ms power-cut
at 3.2s for 500ms crash b
at 4.5s for 600ms hold a | b c client1
at 5s for 1s slow-sync c 80ms
at 6s for 700ms pause client2
at 7s for 1s partition client1 | a
";

fn everything(seed: u64) -> Plan {
    let mut plan: Plan = EVERYTHING.parse().unwrap();
    plan.seed = seed;
    plan
}

fn run_toy(plan: &Plan) -> Outcome {
    let outcome = run(plan, &Toy::default(), Lines::Discard);
    assert_eq!(outcome.verdict, Verdict::Passed, "with the plan\n{plan}");
    let sends = plan.clients * (plan.messages + 1);
    let least = u64::from(sends) * 20;
    assert!(outcome.events > least, "{} events of {sends} sends show too little", outcome.events);
    outcome
}

fn fingerprint(plan: &Plan) -> (u64, u64) {
    let outcome = run_toy(plan);
    (outcome.hash, outcome.events)
}

fn plans() -> Vec<Plan> {
    (0..10).map(everything).chain((0..14).map(|seed| Toy::default().plan_of(seed))).collect()
}

#[test]
fn the_same_plan_twice_in_one_process_and_after_others_is_the_same() {
    let plans = plans();
    let first: Vec<_> = plans.iter().map(fingerprint).collect();
    // The second time each comes after others than the first time.
    let mut second: Vec<_> = plans.iter().rev().map(fingerprint).collect();
    second.reverse();
    assert_eq!(first, second);
    let mut hashes: Vec<u64> = first.iter().map(|(hash, _)| *hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), plans.len(), "different plans give different traces");
}

#[test]
fn runs_on_several_threads_do_not_disturb_each_other() {
    let plans: Vec<Plan> = plans().into_iter().take(12).collect();
    let alone: Vec<_> = plans.iter().map(fingerprint).collect();
    let together: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = plans.iter().map(|plan| scope.spawn(move || fingerprint(plan))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(alone, together);
}

#[test]
fn another_process_sees_the_same() {
    let here: Vec<String> = plans().iter().map(fingerprint).map(|(hash, _)| format!("{hash:016x}")).collect();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child_prints_its_hashes", "--include-ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let there: Vec<&str> = text.split_whitespace().filter_map(|word| word.strip_prefix("hash=")).collect();
    assert_eq!(here, there, "{text}");
}

#[test]
#[ignore = "a part of another_process_sees_the_same"]
fn the_child_prints_its_hashes() {
    for plan in plans() {
        println!(" hash={:016x} ", fingerprint(&plan).0);
    }
}

#[test]
fn lines_are_the_same_too_and_asking_for_them_changes_nothing() {
    let plan = everything(3);
    let with_lines = || run(&plan, &Toy::default(), Lines::ring(usize::MAX));
    let (one, two) = (with_lines(), with_lines());
    let differ = one.lines.iter().zip(&two.lines).find(|(one, two)| one != two);
    assert_eq!(differ, None);
    assert_eq!(one.lines.len() as u64, one.events);
    assert_eq!((one.hash, one.events), fingerprint(&plan));
    for kind in [
        "net.write",
        "net.read",
        "net.connected",
        "net.accept",
        "net.close_read",
        "disk.write",
        "disk.sync",
        "draw",
        "apply",
        "client.accepted",
        "client.delivered",
        "fault.begin",
        "host.killed",
        "host.power_cut",
        "host.start",
    ] {
        assert!(one.lines.iter().any(|line| line.contains(kind)), "the trace has no {kind}");
    }
}

#[test]
fn every_line_of_the_plan_matters_to_the_trace() {
    let plan = everything(1);
    let whole = fingerprint(&plan).0;
    for n in 0..plan.faults.len() {
        let mut less = plan.clone();
        let fault = less.faults.remove(n);
        assert_ne!(fingerprint(&less).0, whole, "`{fault}` changes nothing");
    }
}
