//! Clusters whose servers change while everything else goes wrong, too.

use restante_sim::cluster::Cluster;
use restante_sim::history::What;
use restante_sim::plan::Plan;
use restante_sim::run::{Outcome, Verdict, run};
use restante_sim::trace::Lines;

fn passes(text: &str) -> Outcome {
    let plan: Plan = text.parse().expect("a plan");
    assert!(plan.warnings().is_empty(), "{:?}", plan.warnings());
    let outcome = run(&plan, &Cluster, Lines::ring(1_000_000));
    assert_eq!(outcome.verdict, Verdict::Passed, "with the plan\n{plan}");
    outcome
}

/// How often the operator got what was ordered.
fn done(outcome: &Outcome) -> usize {
    let is_done = |what: &What| matches!(what, What::CarriedOut { how, .. } if how == "done");
    outcome.history.entries.iter().filter(|entry| is_done(&entry.what)).count()
}

/// How many snapshots arrived completely.
fn snapshots(outcome: &Outcome) -> usize {
    lines_with(outcome, " snapshot.installed ")
}

fn lines_with(outcome: &Outcome, text: &str) -> usize {
    outcome.lines.iter().filter(|line| line.contains(text)).count()
}

/// Who votes in the end. Another server may tell of an older entry later.
fn voters(outcome: &Outcome) -> String {
    let told = outcome.lines.iter().filter_map(|line| {
        let (index, rest) = line.split_once(" index=")?.1.split_once(" voters=")?;
        Some((index.parse::<u64>().ok()?, rest.split(' ').next()?.to_owned()))
    });
    told.max_by_key(|(index, _)| *index).expect("somebody votes").1
}

#[test]
fn a_cluster_grows_from_one_to_seven_and_shrinks_again() {
    let outcome = passes(
        "seed 1\nservers a\nspares b c d e f g\nclients 4\nmessages 150\npace 0s..60ms\nkeep 0\nmemory 0\nduration 20s
         at 1s for 4s add b\nat 2s for 4s add c\nat 4s for 4s add d\nat 5s for 4s add e\nat 6s for 4s add f
         at 7s for 4s add g\nat 10s for 4s remove a\nat 11s for 4s remove b\nat 12s for 4s remove leader
         at 13s for 4s remove leader\nat 15s for 4s remove leader\nat 17s for 3s remove leader",
    );
    assert_eq!(done(&outcome), 12, "everything ordered was done");
    assert_eq!(voters(&outcome).split(',').count(), 1, "{}", voters(&outcome));
    assert!(snapshots(&outcome) >= 3, "{} snapshots were installed", snapshots(&outcome));
}

#[test]
fn a_cluster_is_replaced_server_by_server() {
    let outcome = passes(
        "seed 2\nservers a b c\nspares d e f\nclients 4\nmessages 150\npace 0s..60ms\nkeep 4\nmemory 2048\nduration 16s
         at 1s for 4s add d\nat 2s for 4s remove a\nat 4s for 4s add e\nat 5s for 4s remove b\nat 7s for 4s add f
         at 8s for 4s remove c\nat 12s for 3s add a\nat 14s for 2s transfer d",
    );
    assert_eq!(done(&outcome), 8);
    assert_eq!(voters(&outcome).split(',').count(), 4, "{}", voters(&outcome));
}

/// What others have lost: a partition, kills and the removal of a server, with sync on.
#[test]
fn a_partition_kills_and_the_removal_of_a_server_lose_nothing() {
    for seed in 0..4 {
        let outcome = passes(&format!(
            "seed {seed}\nservers a b c d e\nclients 4\nmessages 150\npace 0s..60ms\nkeep 4\nmemory 2048\nduration 12s
             at 1s for 2s partition a b | c d e\nat 2s for 5s remove leader\nat 2.5s for 1s crash c
             at 3s for 1s bounce d\nat 4s for 5s remove a\nat 5s for 1s crash leader\nat 6s for 2s partition b c | d e
             at 7s for 4s add a\nat 9s for 3s rolling-restart",
        ));
        assert!(done(&outcome) >= 2, "{} of 3 orders were carried out", done(&outcome));
    }
}

#[test]
fn a_server_that_was_cut_off_while_it_was_removed_hears_of_it_later() {
    let outcome = passes(
        "seed 4\nservers a b c\nspares d\nclients 3\nmessages 80\nduration 10s
         at 1s for 5s isolate b\nat 1.5s for 4s add d\nat 2.5s for 3s remove b\nat 4s for 3s pause c",
    );
    assert_eq!(voters(&outcome), "a,c,d");
}

#[test]
fn snapshots_are_installed_while_servers_die() {
    let mut installed = 0;
    for seed in 0..3 {
        let outcome = passes(&format!(
            "seed {seed}\nservers a b c\nspares d\nclients 4\nmessages 150\nbody 100..20000\nkeep 0\nmemory 0
             latency 1ms..30ms\nduration 12s
             at 1s for 1.5s partition a | b c\nat 2.52s for 300ms crash a\nat 3.5s for 1s crash b\nat 4.53s for 200ms bounce b
             at 5s for 4s add d\nat 5.3s for 400ms crash leader\nat 5.4s for 300ms crash d\nat 6s for 1s stop c
             at 7.05s for 300ms crash leader\nat 8s for 500ms lost-disk b\nat 8.6s for 300ms crash leader",
        ));
        installed += snapshots(&outcome);
    }
    assert!(installed >= 6, "{installed} snapshots were installed");
}

#[test]
fn a_rolling_restart_disturbs_little() {
    let outcome = passes("seed 5\nmessages 120\npace 0s..60ms\nat 1s for 6s rolling-restart\nat 7s for 2s transfer b");
    assert_eq!(done(&outcome), 1);
}

#[test]
fn a_drained_server_is_missed_by_nobody() {
    let outcome = passes(
        "seed 5\nservers a b c\nclients 4\nmessages 150\npace 0s..60ms\nduration 12s
         at 1s for 3s drain leader\nat 2s for 500ms crash leader\nat 5s for 5s drain a\nat 6s for 5s drain b
         at 9s for 1s bounce a",
    );
    assert_eq!(done(&outcome), 6, "everything ordered was done, and undone");
    assert!(outcome.reach.times("a home drained") >= 3);
}

/// Nothing but drained servers is left, a majority of them: the service goes on, since draining is no excuse.
#[test]
fn drained_servers_serve_while_nobody_else_can() {
    let outcome = passes(
        "seed 6\nservers a b c\nclients 4\nmessages 200\npace 0s..60ms\nduration 14s\nelection 100ms..150ms\npatience 4s
         at 1s for 12s drain a\nat 2s for 11s drain b\nat 4s for 6s crash c",
    );
    assert_eq!(done(&outcome), 4);
    assert!(outcome.reach.times("a drained leader serves, since nobody else could") > 0);
}
