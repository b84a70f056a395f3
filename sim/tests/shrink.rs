//! A flaw of the toy is found, and the plan that shows it is made small: by the search and by proptest.

use std::ops::ControlFlow;
use std::path::Path;

use restante_sim::check::Checks;
use restante_sim::failure::Failure;
use restante_sim::oracle::Promise;
use restante_sim::plan::Plan;
use restante_sim::plan::strategy::Plans;
use restante_sim::run::{Verdict, run};
use restante_sim::scenario::Scenario;
use restante_sim::shrink::Shrunk;
use restante_sim::symptom::Symptom;
use restante_sim::toy::{Flaw, Toy};
use restante_sim::trace::Lines;

fn bearable(seed: u64) -> Plan {
    Toy::default().plan_of(seed)
}

fn checks(toy: &Toy) -> Checks<'_> {
    let mut checks = Checks::new(toy);
    checks.save = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shrink");
    checks
}

/// What is left of it is small, fails in the same way, and says what it is.
fn is_small(toy: &Toy, failure: &Failure, promise: Promise) {
    assert_eq!(failure.symptom, Symptom::Broken(promise));
    assert!(failure.plan.faults.len() <= 2, "{}", failure.plan);
    assert!(failure.plan.clients <= 3 && failure.plan.servers.len() == 1, "{}", failure.plan);
    assert!(failure.shrunk.is_some());
    let verdict = run(&failure.plan, toy, Lines::Discard).verdict;
    assert!(failure.symptom.is_shown_by(&verdict), "{verdict}");
}

#[test]
fn a_search_finds_a_flaw_and_makes_its_plan_small() {
    let toy = Toy { flaw: Some(Flaw::NoSync) };
    let failure = checks(&toy).try_seeds(0, 20).expect_err("it fails");
    is_small(&toy, &failure, Promise::Durable);
    // Only a machine that loses its power loses what was not synced.
    let kinds: Vec<&str> = failure.plan.faults.iter().map(|interval| interval.fault.kind()).collect();
    assert!(kinds.iter().any(|kind| ["crash", "power-cut"].contains(kind)), "{kinds:?}");
}

#[test]
fn proptest_finds_a_flaw_and_makes_its_plan_small() {
    let toy = Toy { flaw: Some(Flaw::NoMemory) };
    let failure = checks(&toy).try_random_plans(Plans { of: bearable }, 2, 20).expect_err("it fails");
    is_small(&toy, &failure, Promise::Once);
}

#[test]
fn a_test_that_fails_tells_the_promise_the_plan_where_it_is_and_how_to_see_it_again() {
    let toy = Toy { flaw: Some(Flaw::NoMark) };
    let told = std::panic::catch_unwind(|| checks(&toy).seeds(0, 5)).expect_err("it fails");
    let text = told.downcast_ref::<String>().expect("a text");
    let part = |word: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(word));
        line.unwrap_or_else(|| panic!("no line begins with {word:?}:\n{text}"))
    };
    assert!(text.contains("the promise \"once\" is broken"), "{text}");
    let path = part("saved ");
    assert!(part("again ").contains(path), "{text}");
    #[expect(clippy::disallowed_methods, reason = "the plan lies on the real machine")]
    let plan: Plan = std::fs::read_to_string(path).expect("the plan").parse().expect("a plan");
    let verdict = run(&plan, &toy, Lines::Discard).verdict;
    assert!(Symptom::Broken(Promise::Once).is_shown_by(&verdict), "{verdict}");
}

/// A smaller plan that fails otherwise is not what was looked for.
#[test]
fn only_the_same_failure_counts() {
    let toy = Toy { flaw: Some(Flaw::Panics) };
    let plan = bearable(0);
    let verdict = run(&plan, &toy, Lines::Discard).verdict;
    let failure = Failure::of(&plan, &verdict, "").expect("it fails");
    assert!(matches!(verdict, Verdict::Crash(_)), "{verdict}");
    let small = failure.shrink(&toy, 2, |_| ControlFlow::Continue(())).expect("it fails again");
    assert!(matches!(small.verdict, Verdict::Crash(_)) && small.plan.faults.is_empty(), "{}", small.plan);
    // With another thing to look for, nothing smaller fails.
    let other = Failure { symptom: Symptom::Broken(Promise::Order), ..failure };
    let some = |shrunk: &Shrunk| if shrunk.tried < 12 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
    assert!(other.shrink(&toy, 2, some).is_none());
}
