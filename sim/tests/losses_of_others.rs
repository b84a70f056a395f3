//! What others have lost, as plans that we survive. Each is told in the words of whoever reported it; those that need a
//! damaged disk are in `damage.rs`.

use restante_sim::cluster::Cluster;
use restante_sim::history::What;
use restante_sim::plan::Plan;
use restante_sim::run::{Verdict, run};
use restante_sim::trace::Lines;

/// Runs the faults with several seeds, each of which moves everything that the plan leaves open.
fn survives(faults: &str) {
    for seed in 0..4 {
        let text = format!("seed {seed}\nclients 4\nmessages 100\npace 0s..60ms\n{faults}");
        let plan: Plan = text.parse().expect("a plan");
        assert!(plan.warnings().is_empty(), "{:?}", plan.warnings());
        let outcome = run(&plan, &Cluster, Lines::Discard);
        assert_eq!(outcome.verdict, Verdict::Passed, "with the plan\n{plan}");
        let accepted = outcome.history.entries.iter().filter(|entry| matches!(entry.what, What::Accepted { .. }));
        assert!(accepted.count() > 300, "too little happened with the plan\n{plan}");
        let begun: u32 = outcome.faults.values().sum();
        assert_eq!(begun as usize, plan.faults.len(), "a fault did not begin with the plan\n{plan}");
    }
}

/// NATS JetStream 2.12.1 (Jepsen): one power failure plus pauses gave a split brain that lasted.
#[test]
fn a_power_failure_and_pauses_leave_no_split_brain() {
    survives(
        "at 1.5s for 400ms pause leader\nat 2s for 300ms power-cut\nat 2.9s for 900ms pause leader\n\
         at 3.2s for 700ms pause leader\nat 4.5s for 600ms crash leader\nat 4.6s for 500ms pause a\n\
         at 5.4s for 10ms power-cut\nat 6s for 1s pause leader",
    );
}

/// Retries that forget across a failover: the server that knew what was taken is gone when the client asks again.
#[test]
fn a_retry_after_a_failover_doubles_nothing() {
    survives(
        "at 1s for 500ms reset a b c | client1 client2 client3 client4\nat 1.2s for 600ms crash leader\n\
         at 2.5s for 300ms hold a b c | client1 client2 client3 client4\nat 2.6s for 700ms bounce leader\n\
         at 3.8s for 400ms one-way a b c > client1 client2 client3 client4\nat 4s for 1s crash leader\n\
         at 5.5s for 300ms power-cut",
    );
}

/// RabbitMQ: a queue that never came back after its leader had died, in two of ten tries.
#[test]
fn every_inbox_comes_back_after_its_leader_died() {
    survives(
        "at 1s for 300ms crash leader\nat 2s for 300ms crash leader\nat 3s for 300ms crash leader\n\
         at 4s for 300ms bounce leader\nat 5s for 300ms bounce leader\nat 6s for 2s isolate leader",
    );
}

/// A leader that was alone for a while and believes that it leads must not answer from what it has.
#[test]
fn a_leader_that_stood_still_serves_nothing_stale() {
    survives(
        "at 1s for 1.5s pause leader\nat 3s for 1.5s isolate leader\nat 5s for 1.2s partition leader | a b c\n\
         at 6.5s for 900ms clock-drift leader -40%\nat 7.5s for 900ms pause leader",
    );
}

/// Clocks that differ by days and drift: nothing expires early and no lease is taken for longer than it is.
#[test]
fn wrong_clocks_lose_nothing() {
    survives(
        "at 600ms for 6s clock-jump a +100000s\nat 600ms for 6s clock-jump b -100000s\n\
         at 1s for 6s clock-drift leader -30%\nat 2s for 1s isolate leader\nat 4s for 800ms pause leader\n\
         at 5s for 3s clock-drift c +30%\nat 6s for 500ms power-cut",
    );
}
