//! The oracle sees what the toy does wrong, and names the promise that it breaks.

use restante_sim::oracle::Promise;
use restante_sim::run::{Verdict, run};
use restante_sim::scenario::Scenario;
use restante_sim::toy::{Flaw, Toy};
use restante_sim::trace::Lines;

/// The first seed that catches the flaw, and the verdict.
fn catch(flaw: Flaw, seeds: u64) -> (u64, Verdict) {
    let toy = Toy { flaw: Some(flaw) };
    let mut verdicts = (0..seeds).map(|seed| (seed, run(&toy.plan_of(seed), &toy, Lines::Discard).verdict));
    verdicts.find(|(_, verdict)| *verdict != Verdict::Passed).expect("no seed caught it")
}

fn breaks(flaw: Flaw, seeds: u64, promise: Promise) {
    let (seed, verdict) = catch(flaw, seeds);
    let Verdict::Safety(violations) = &verdict else { panic!("seed {seed}: {verdict}") };
    assert!(violations.iter().any(|violation| violation.promise == promise), "seed {seed}: {verdict}");
}

#[test]
fn an_answer_before_the_sync_breaks_durable() {
    breaks(Flaw::NoSync, 20, Promise::Durable);
}

#[test]
fn a_forgotten_number_breaks_once() {
    breaks(Flaw::NoMemory, 20, Promise::Once);
}

#[test]
fn a_reversed_delivery_breaks_order() {
    breaks(Flaw::NoOrder, 5, Promise::Order);
}

#[test]
fn a_reader_that_is_not_fenced_breaks_one_reader() {
    breaks(Flaw::NoFence, 5, Promise::OneReader);
}

#[test]
fn a_missing_mark_breaks_once() {
    breaks(Flaw::NoMark, 20, Promise::Once);
}

#[test]
fn a_changed_body_breaks_honest() {
    breaks(Flaw::Garbles, 5, Promise::Honest);
}

#[test]
fn a_panic_in_a_task_is_a_crash() {
    let (_, verdict) = catch(Flaw::Panics, 5);
    assert!(matches!(&verdict, Verdict::Crash(text) if text.contains("on purpose")), "{verdict}");
}

#[test]
fn a_server_that_stops_answering_breaks_liveness() {
    let (_, verdict) = catch(Flaw::Stops, 5);
    assert!(matches!(&verdict, Verdict::Liveness(_)), "{verdict}");
}
