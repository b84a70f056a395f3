//! Servers that die and come back in the middle of traffic: real processes, real ports, SIGKILL. The load comes from the
//! client library, and the judgement from the clients' own journals.
#![expect(clippy::disallowed_methods, reason = "tests watch real processes from outside, on real time")]

mod support;

use std::time::Duration;

use support::traffic::{Plan, Traffic, mix, seed};
use support::{Cluster, wait_for};

/// The number of a running server, drawn.
fn draw(cluster: &Cluster, drawn: u64) -> usize {
    let running: Vec<usize> = (0..cluster.len()).filter(|n| cluster.is_started(*n)).collect();
    running[drawn as usize % running.len()]
}

#[tokio::test(flavor = "multi_thread")]
async fn random_servers_are_killed_and_restarted_and_nothing_is_lost_doubled_or_reordered() {
    const KILLS: u64 = 12;
    let seed = seed();
    let mut cluster = Cluster::start(3);
    let plan = Plan {
        senders: 20,
        recipients: 20,
        messages_each: 1000,
        per_second: 120,
        body_bytes_max: 64 << 10,
        all_long: false,
        seed,
    };
    let traffic = Traffic::start(cluster.addresses(), plan).await;
    traffic.goes_on(500);
    for kill in 0..KILLS {
        let victim = draw(&cluster, mix(&[seed, kill, 1]));
        cluster.kill(victim);
        // A majority is left, so the traffic goes on; or the server is back before anybody has noticed much.
        if !mix(&[seed, kill, 2]).is_multiple_of(3) {
            traffic.goes_on(300);
        }
        cluster.start_server(victim);
        match mix(&[seed, kill, 3]) % 3 {
            // The next one dies while this one still starts: no majority for a moment.
            0 => {}
            1 => traffic.goes_on(300),
            _ => {
                let name = cluster.name(victim);
                cluster.wait_until("the server to be back", |status| {
                    let servers = status["servers"].as_array();
                    servers.is_some_and(|s| s.iter().any(|s| s["name"] == *name && s["lag"].as_u64() < Some(50)))
                });
            }
        }
    }
    traffic.goes_on(500);
    let summary = traffic.finish().await;
    assert!(summary.accepted >= 20_000, "{summary:?}");
    let moved = summary.homes.iter().filter(|homes| homes.len() > 1).count();
    assert!(moved > 0, "nobody was attached to a server that died: {:?}", summary.homes);
    cluster.wait_until_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed_under_traffic() {
    let mut cluster = Cluster::start(3);
    let traffic = Traffic::start(cluster.addresses(), Plan::default()).await;
    traffic.goes_on(200);
    let old = cluster.wait_for_leader();
    cluster.kill(old);
    traffic.goes_on(200);
    let new = cluster.wait_for_leader();
    assert_ne!(old, new);
    cluster.start_server(old);
    traffic.goes_on(200);
    traffic.finish().await;
    cluster.wait_until_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_is_killed_under_traffic() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let term = cluster.status().map(|status| status["term"].clone());
    let traffic = Traffic::start(cluster.addresses(), Plan::default()).await;
    traffic.goes_on(200);
    let follower = (leader + 1) % 3;
    cluster.kill(follower);
    traffic.goes_on(200);
    cluster.start_server(follower);
    traffic.goes_on(200);
    traffic.finish().await;
    let status = cluster.wait_until_equal();
    // On a machine so busy that heartbeats are late somebody else may lead by now, but then in a later term.
    let same = status["leader"] == *cluster.name(leader);
    assert!(same || Some(&status["term"]) != term.as_ref(), "{status:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_killed_at_once_under_traffic() {
    let mut cluster = Cluster::start(3);
    let traffic = Traffic::start(cluster.addresses(), Plan::default()).await;
    for _ in 0..3 {
        traffic.goes_on(200);
        cluster.kill_all();
        let accepted = traffic.accepted();
        cluster.start_all();
        cluster.wait_for_leader();
        assert!(traffic.accepted() >= accepted);
    }
    traffic.goes_on(200);
    traffic.finish().await;
    cluster.wait_until_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_away_while_the_log_was_cleaned_catches_up_by_a_snapshot() {
    // The smallest that a server allows: a segment holds four entries of the largest size.
    let sizes = ["--segment", "16MiB", "--checkpoint-log", "32MiB"];
    let mut cluster = Cluster::prepare(3).with_arguments(&sizes);
    cluster.start_all();
    let leader = cluster.wait_for_leader();
    let away = (leader + 1) % 3;
    let plan = Plan { per_second: 150, body_bytes_max: 64 << 10, all_long: true, ..Plan::default() };
    let traffic = Traffic::start(cluster.addresses(), plan).await;
    traffic.goes_on(100);
    cluster.kill(away);
    let segments = |number: usize| -> Vec<String> {
        let entries = std::fs::read_dir(cluster.data(number).join("log")).expect("a log");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("a file").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let had = segments(away);
    // The others go on until what the one that is away lacks is gone from both of their logs.
    for number in (0..3).filter(|number| *number != away) {
        let mut again = 0;
        while segments(number).iter().any(|name| name.ends_with("01.seg") || name.ends_with("02.seg")) {
            traffic.goes_on(100);
            again += 1;
            assert!(again < 400, "the log of {} is not cleaned: {:?}", cluster.name(number), segments(number));
        }
    }
    assert!(had.iter().any(|name| name.ends_with("01.seg")), "{had:?}");
    let status = cluster.status().expect("a status");
    let row = |name: &str| status["servers"].as_array().into_iter().flatten().find(|s| s["name"] == name).cloned();
    let checkpoint = row(&cluster.name(leader)).and_then(|s| s["checkpoint_index"].as_u64());
    assert!(checkpoint > Some(0), "{status:#?}");
    cluster.start_server(away);
    traffic.goes_on(200);
    traffic.finish().await;
    let status = cluster.wait_until_equal();
    let name = cluster.name(away);
    let back = status["servers"].as_array().into_iter().flatten().find(|s| s["name"] == *name).cloned();
    let back = back.expect("it is listed");
    // It never had those entries, so its checkpoint can only have come from another server.
    assert!(back["checkpoint_index"].as_u64() >= checkpoint, "{status:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_stopped_hands_over_and_its_clients_move() {
    let mut cluster = Cluster::start(3);
    let plan = Plan { senders: 6, ..Plan::default() };
    let traffic = Traffic::start(cluster.addresses(), plan).await;
    traffic.goes_on(200);
    let old = cluster.wait_for_leader();
    let status = cluster.stop(old);
    assert_eq!(status.code(), Some(0), "{}", cluster.log(old));
    wait_for("the end in its log", || cluster.log(old).contains("stopped").then_some(()));
    traffic.goes_on(200);
    assert_ne!(cluster.wait_for_leader(), old);
    cluster.start_server(old);
    let summary = traffic.finish().await;
    // Nobody waits for an election timeout and nothing is tried again for long; the bound is for slow machines.
    assert!(summary.longest_wait < Duration::from_secs(3), "{summary:?}");
    for homes in &summary.homes {
        assert!(homes.last().map(|home| home.as_str()) != Some(cluster.name(old).as_str()), "{homes:?}");
    }
    cluster.wait_until_equal();
}
