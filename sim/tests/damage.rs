//! Disks that fail, lie or lose what they had: what others have lost to them, as plans that we survive, and the damage
//! matrix: every kind of damage in every class of files of every kind of victim.

use restante_sim::cluster::Cluster;
use restante_sim::history::What;
use restante_sim::plan::Plan;
use restante_sim::run::{Outcome, Verdict, run};
use restante_sim::trace::Lines;

/// Runs a plan to its end: all that was accepted has arrived, once and in order, and every server votes.
fn passes(text: &str) -> Outcome {
    let plan: Plan = text.parse().expect("a plan");
    assert!(plan.warnings().is_empty(), "{:?}", plan.warnings());
    let outcome = run(&plan, &Cluster, Lines::ring(usize::MAX));
    assert_eq!(outcome.verdict, Verdict::Passed, "with the plan\n{plan}");
    let begun: u32 = outcome.faults.values().sum();
    assert_eq!(begun as usize, plan.faults.len(), "a fault did not begin with the plan\n{plan}");
    outcome
}

/// Runs the faults with several seeds, each of which moves everything that the plan leaves open.
fn survives(faults: &str) -> Vec<Outcome> {
    let outcomes = (0..3).map(|seed| passes(&format!("seed {seed}\nclients 4\nmessages 80\npace 0s..60ms\n{faults}")));
    let outcomes: Vec<Outcome> = outcomes.collect();
    for outcome in &outcomes {
        let accepted = outcome.history.entries.iter().filter(|entry| matches!(entry.what, What::Accepted { .. }));
        assert!(accepted.count() > 240, "too little happened");
    }
    outcomes
}

/// The trace's lines of one kind: who, and the rest of the line.
fn events<'a>(outcome: &'a Outcome, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    outcome.lines.iter().filter_map(move |line| {
        let rest = line.trim_start().split_once(' ')?.1.trim_start().split_once(' ')?.1;
        let (host, rest) = rest.split_once(' ')?;
        let (found, rest) = rest.trim_start().split_once(' ').unwrap_or((rest.trim_start(), ""));
        (found == kind).then_some((host, rest.trim()))
    })
}

/// How often something of one kind happened in all of the runs together.
fn happened(outcomes: &[Outcome], kind: &str) -> usize {
    outcomes.iter().map(|outcome| events(outcome, kind).count()).sum()
}

/// NATS 2.12.1 (Jepsen): a coordinated power failure took 14.1 % of the acknowledged writes.
#[test]
fn acknowledged_writes_survive_a_coordinated_power_failure() {
    survives(
        "at 1s for 200ms power-cut\nat 2s for 10ms power-cut\nat 2.5s for 500ms power-cut\nat 4s for 1ms power-cut",
    );
    survives("servers a b c d e\nat 1s for 200ms power-cut\nat 1.9s for 10ms power-cut\nat 3s for 400ms power-cut");
}

/// NATS 2.12.1 (Jepsen): a single-bit error in a minority's data files took 49.7 % of them.
#[test]
fn a_bit_error_in_a_minoritys_data_files_loses_nothing() {
    let hit = survives(
        "memory 0\nat 1s for 1ms flip leader log\nat 1.1s for 300ms rot leader checkpoint\nat 3s for 300ms power-cut",
    );
    assert!(happened(&hit, "disk.damaged") > 0);
    survives(
        "servers a b c d e\nmemory 0\nat 1s for 1ms flip b log\nat 1.1s for 1ms flip d checkpoint\n\
         at 1.5s for 300ms rot b checkpoint\nat 1.6s for 400ms rot d log\nat 3s for 300ms power-cut",
    );
}

/// NATS (Jepsen): a corrupt snapshot on two of five servers made the cluster delete the stream.
#[test]
fn a_corrupt_snapshot_on_two_of_five_loses_nothing() {
    survives(
        "servers a b c d e\nmemory 0\nat 1.5s for 500ms rot b checkpoint\nat 1.6s for 600ms rot e checkpoint\n\
         at 3.5s for 300ms power-cut",
    );
    let flown = survives(
        "servers a b c d e\nmemory 0\nat 1.8s for 300ms lost-disk b\nat 1.9s for 300ms lost-disk e\n\
         at 1.5s for 4s flip-snapshot b\nat 1.5s for 4s flip-snapshot e\nat 6.5s for 300ms power-cut",
    );
    println!("{} snapshots changed in flight", happened(&flown, "net.flipped"));
}

/// A purge that was recorded although the directory's sync failed: after a power cut the log began nowhere.
#[test]
fn a_purge_whose_sync_fails_loses_nothing() {
    let failed = survives(
        "memory 0\nat 1s for 1.5s sync-errors a 15%\nat 1.2s for 1.5s sync-errors b 15%\n\
         at 1.4s for 1.5s sync-errors c 15%\nat 1.8s for 100ms power-cut\nat 2.4s for 100ms power-cut\n\
         at 3s for 200ms power-cut",
    );
    assert!(happened(&failed, "host.disk_failed") > 3, "no sync failed where it ends a server");
}

/// A vote that was not synced: two leaders in one term.
#[test]
fn a_vote_whose_sync_fails_elects_nobody_twice() {
    survives(
        "at 1s for 300ms crash leader\nat 1s for 2s sync-errors a 30%\nat 1s for 2s sync-errors b 30%\n\
         at 1s for 2s sync-errors c 30%\nat 1.25s for 50ms power-cut\nat 1.6s for 50ms power-cut\n\
         at 2.1s for 50ms power-cut\nat 2.5s for 300ms crash a\nat 3.1s for 100ms power-cut",
    );
    survives(
        "at 1s for 200ms stuck-sync a\nat 1s for 300ms stuck-sync b\nat 1.05s for 200ms isolate b\n\
         at 1.2s for 50ms power-cut\nat 1.8s for 500ms stuck-sync a\nat 1.9s for 400ms isolate a\n\
         at 2.2s for 10ms power-cut",
    );
}

/// A disk that fails, hangs or fills up under every server in turn.
#[test]
fn every_server_comes_back_from_a_failing_disk() {
    survives(
        "memory 0\nat 1s for 500ms io-errors a read 5%\nat 1.6s for 500ms io-errors b read 20%\n\
         at 2.2s for 600ms stuck-sync c\nat 2.9s for 300ms sync-errors leader 100%\nat 3.5s for 1s full-disk a 64\n\
         at 3.6s for 1s full-disk leader 16",
    );
}

/// What is done to files, without whose they are: `WHO` stands for the victim.
const DAMAGE: &[(&str, &[&str])] = &[
    ("a bit flips, running", &["flip WHO log", "flip WHO checkpoint", "flip WHO identity"]),
    ("a bit has flipped", &["rot WHO log", "rot WHO checkpoint", "rot WHO identity"]),
    ("a file is cut", &["truncate WHO log", "truncate WHO checkpoint", "truncate WHO identity"]),
    ("a file is gone", &["remove-file WHO log", "remove-file WHO checkpoint", "remove-file WHO identity"]),
    ("a directory is gone", &["lost-directory WHO log", "lost-directory WHO checkpoint"]),
    ("the disk is gone", &["lost-disk WHO"]),
    ("syncs fail", &["sync-errors WHO 50%"]),
    ("a sync hangs", &["stuck-sync WHO"]),
    ("reads fail", &["io-errors WHO read 20%"]),
    ("the disk is full", &["full-disk WHO 16"]),
];

/// Whom a cell strikes, told who leads.
type Victims = fn(&str) -> Vec<String>;

/// Who it is done to: the servers of the cluster, and the victims.
const WHO: &[(&str, &str, Victims)] = &[
    ("the leader of 3", "a b c", |leader| vec![leader.to_owned()]),
    ("a follower of 3", "a b c", |leader| others("a b c", leader).take(1).collect()),
    ("2 of 5, the leader among them", "a b c d e", |leader| {
        std::iter::once(leader.to_owned()).chain(others("a b c d e", leader).take(1)).collect()
    }),
    ("2 followers of 5", "a b c d e", |leader| others("a b c d e", leader).take(2).collect()),
];

fn others(servers: &str, leader: &str) -> impl Iterator<Item = String> {
    servers.split(' ').filter(move |name| *name != leader).map(str::to_owned).collect::<Vec<_>>().into_iter()
}

const SMALL: &str = "clients 3\nmessages 60\npace 0s..60ms\nmemory 0\nduration 4s";

/// Who leads when the damage is about to be done: until then, a plan with it runs like the one without.
fn leader_of(servers: &str) -> String {
    let outcome = passes(&format!("servers {servers}\n{SMALL}"));
    let leader = events(&outcome, "role").filter(|(_, detail)| detail.ends_with("role=leader")).last();
    leader.expect("somebody leads").0.to_owned()
}

/// One cell: nothing is lost (the run says so), and how the victims went on.
fn cell(servers: &str, victims: &[String], damage: &str) -> String {
    let mut text = format!("servers {servers}\n{SMALL}\n");
    for victim in victims {
        text += &format!("at 1.2s for 400ms {}\n", damage.replace("WHO", victim));
    }
    // Then everything that was not synced goes, too.
    text += "at 2.8s for 200ms power-cut";
    let outcome = passes(&text);
    let founders = servers.split(' ').count() as u64;
    let anew = victims.iter().filter(|victim| {
        let standing = events(&outcome, "standing").filter(|(host, _)| host == victim).last();
        let incarnation = standing.and_then(|(_, detail)| detail.split(['=', ' ']).nth(1)?.parse::<u64>().ok());
        incarnation.is_some_and(|incarnation| incarnation > founders)
    });
    let anew = anew.count();
    if anew == victims.len() { "joined anew".to_owned() } else { format!("{} went on", victims.len() - anew) }
}

/// The table that `docs/simulation.md` quotes: `cargo test -p restante-sim --test damage matrix -- --nocapture`.
#[test]
fn matrix_of_damage_in_which_nothing_is_lost() {
    let leaders: Vec<String> = WHO.iter().map(|(_, servers, _)| leader_of(servers)).collect();
    let columns: Vec<&str> = WHO.iter().map(|(who, ..)| *who).collect();
    println!("| what | {} |", columns.join(" | "));
    println!("|---|{}", "---|".repeat(columns.len()));
    for (kind, lines) in DAMAGE {
        for line in *lines {
            let class = line.split(' ').nth(2).filter(|word| ["log", "checkpoint", "identity"].contains(word));
            let what = class.map_or_else(|| (*kind).to_owned(), |class| format!("{kind}: {class}"));
            let cells = WHO.iter().zip(&leaders).map(|((_, servers, who), leader)| cell(servers, &who(leader), line));
            println!("| {what} | {} |", cells.collect::<Vec<_>>().join(" | "));
        }
    }
}
