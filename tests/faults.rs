//! Disks that are lost, damaged, of another server, cluster or version: real processes on real directories.
#![expect(clippy::disallowed_methods, reason = "tests watch real processes from outside, on real time")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use crc32c::{crc32c, crc32c_append};
use support::traffic::{Plan, Traffic};
use support::{Cluster, problems, row, run_briefly};

/// Makes the disk of a server that does not run an empty one.
fn wipe(cluster: &Cluster, number: usize) {
    fs::remove_dir_all(cluster.data(number)).expect("it can be removed");
}

/// Waits until server `number` votes as another incarnation than `before`, and lacks next to nothing.
#[track_caller]
fn votes_anew(cluster: &Cluster, number: usize, before: u64) {
    let name = cluster.name(number);
    cluster.wait_until("a new incarnation that votes", |status| {
        let row = row(status, &name);
        row["incarnation"].as_u64() > Some(before)
            && row["voter"] == true
            && row["lag"].as_u64().is_some_and(|lag| lag < 100)
    });
}

#[track_caller]
fn incarnation(cluster: &Cluster, number: usize) -> u64 {
    let name = cluster.name(number);
    let status = cluster.wait_until("its incarnation", |status| row(status, &name)["incarnation"].is_u64());
    row(&status, &name)["incarnation"].as_u64().expect("it was looked at")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_disk_under_a_known_name_joins_as_a_new_incarnation_and_votes() {
    let mut cluster = Cluster::start(3);
    let traffic = Traffic::start(cluster.addresses(), Plan::default()).await;
    traffic.goes_on(100);
    let leader = cluster.wait_for_leader();
    let kept = cluster.directory().join("kept");
    // A follower's disk first, then the leader's.
    for victim in [(leader + 1) % 3, leader] {
        let before = incarnation(&cluster, victim);
        cluster.kill(victim);
        drop(fs::remove_dir_all(&kept));
        fs::rename(cluster.data(victim), &kept).unwrap();
        cluster.start_server(victim);
        votes_anew(&cluster, victim, before);
        traffic.goes_on(100);
        // Without a third server, the new disk is needed for the majority.
        let third = (leader + 2) % 3;
        cluster.kill(third);
        traffic.goes_on(100);
        cluster.start_server(third);
        traffic.goes_on(100);
    }
    // The disk that was replaced comes back: it is told that it is, and nothing else happens.
    let new = cluster.directory().join("new");
    cluster.kill(leader);
    fs::rename(cluster.data(leader), &new).unwrap();
    fs::rename(&kept, cluster.data(leader)).unwrap();
    run_briefly(&mut cluster.serve(leader)).fails(7, "start with an empty one");
    fs::rename(cluster.data(leader), &kept).unwrap();
    fs::rename(&new, cluster.data(leader)).unwrap();
    cluster.start_server(leader);
    traffic.finish().await;
    cluster.wait_until_equal();
}

#[test]
fn wiped_servers_found_no_second_cluster() {
    let mut cluster = Cluster::start(3);
    cluster.run(&["register", "alice"]).ok();
    let id = cluster.wait_until_equal()["cluster"].clone();
    assert!(id.is_string());
    cluster.kill_all();
    wipe(&cluster, 0);
    wipe(&cluster, 1);
    let has_none = |cluster: &Cluster, number: usize| !cluster.data(number).join("identity").exists();

    // Alone, it reaches nobody. It is the first of the list, so it is the one that would found.
    cluster.start_server(0);
    let status = cluster.wait_until("a server that says what it waits for", |status| {
        let problems = problems(status);
        problems.contains("a says: b at") && problems.contains("a says: c at")
    });
    assert!(status["cluster"].is_null() && has_none(&cluster, 0), "{status:#?}");

    // Two that are empty, and one that is not there.
    cluster.start_server(1);
    let status = cluster.wait_until("two servers that wait for the third", |status| {
        let problems = problems(status);
        let only_third = |who: &str, other: &str| {
            problems.contains(&format!("{who} says: c at")) && !problems.contains(&format!("{who} says: {other} at"))
        };
        only_third("a", "b") && only_third("b", "a")
    });
    assert!(status["cluster"].is_null() && has_none(&cluster, 0) && has_none(&cluster, 1), "{status:#?}");

    // The third has the cluster, but no majority to take anybody in.
    cluster.start_server(2);
    let status = cluster.wait_until("two servers that are not taken in", |status| {
        let problems = problems(status);
        problems.contains("a says: c does not take this server in")
            && problems.contains("b says: c does not take this server in")
    });
    assert_eq!(status["cluster"], id);
    assert!(status["leader"].is_null() && has_none(&cluster, 0) && has_none(&cluster, 1), "{status:#?}");
}

#[test]
fn a_server_with_another_clusters_data_disturbs_nobody() {
    let mut cluster = Cluster::start(3);
    cluster.run(&["register", "alice"]).ok();
    let first = cluster.wait_until_equal()["cluster"].clone();
    cluster.kill_all();
    // Another cluster with the same names at the same addresses.
    let kept = cluster.directory().join("kept");
    fs::rename(cluster.data(2), &kept).unwrap();
    wipe(&cluster, 0);
    wipe(&cluster, 1);
    cluster.start_all();
    cluster.wait_for_leader();
    cluster.run(&["register", "bob"]).ok();
    let second = cluster.wait_until_equal()["cluster"].clone();
    assert_ne!(first, second);

    cluster.kill(2);
    let own = cluster.directory().join("own");
    fs::rename(cluster.data(2), &own).unwrap();
    fs::rename(&kept, cluster.data(2)).unwrap();
    cluster.start_server(2);
    let status = cluster.wait_until("both to say so", |status| {
        // Which of the two leads may change on a busy machine.
        let Some(leader) = status["leader"].as_str().filter(|leader| ["a", "b"].contains(leader)) else {
            return false;
        };
        let problems = problems(status);
        let first = first.as_str().expect("an id");
        let second = second.as_str().expect("an id");
        let says = |who: &str, cluster: &str| {
            problems.lines().any(|line| line.starts_with(&format!("{who} says")) && line.contains(cluster))
        };
        says(leader, first) && says("c", second)
    });
    assert_eq!(row(&status, "c")["leader"], serde_json::Value::Null, "{status:#?}");
    let two = format!("{},{}", cluster.address(0), cluster.address(1));
    cluster.run(&["register", "carol", "--servers", &two]).ok();
    // A client that is given both at once is told so, or is served by the one it found first.
    let mixed = cluster.run(&["send", "--from", "bob", "--to", "carol", "hello"]);
    assert!(mixed.code == 0 || mixed.stderr.contains("belongs to cluster"), "{mixed:#?}");
    let unharmed = row(&status, "c")["incarnation"].clone();
    assert_eq!(unharmed, 3);

    cluster.kill(2);
    wipe(&cluster, 2);
    fs::rename(&own, cluster.data(2)).unwrap();
    cluster.start_server(2);
    let status = cluster.wait_until_equal();
    assert_eq!((&status["cluster"], &status["clients"]), (&second, &2.into()));
}

/// All files in a directory with what is in them.
fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            let bytes = fs::read(&path).expect("a file");
            all.push((path, bytes));
        }
    }
    all.sort();
    all
}

#[test]
fn the_data_of_a_server_with_another_name_is_refused_and_left_alone() {
    let mut cluster = Cluster::start(3);
    cluster.kill_all();
    wipe(&cluster, 1);
    fs::rename(cluster.data(0), cluster.data(1)).unwrap();
    let before = contents(&cluster.data(1));
    run_briefly(&mut cluster.serve(1)).fails(7, "belongs to server a, not to b");
    assert!(contents(&cluster.data(1)) == before, "the directory was changed");
}

#[test]
fn two_processes_cannot_use_one_directory() {
    let mut cluster = Cluster::start(3);
    run_briefly(&mut cluster.serve(0)).fails(6, "in use by another process");
    // The first one goes on.
    cluster.kill(1);
    cluster.run(&["register", "alice"]).ok();
}

/// The first segment of a server's log.
fn segment(cluster: &Cluster, number: usize) -> PathBuf {
    let entries = fs::read_dir(cluster.data(number).join("log")).expect("a log");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|e| e == "seg")).min().expect("a segment")
}

#[test]
fn data_from_a_newer_version_is_refused_and_left_alone() {
    let mut cluster = Cluster::start(3);
    cluster.run(&["register", "alice"]).ok();
    cluster.kill_all();
    // The format is at 8; each file's checksum is over what its own format says.
    let newer_small = |bytes: &mut [u8]| {
        bytes[8..12].copy_from_slice(&99u32.to_le_bytes());
        let crc = crc32c_append(crc32c(&99u32.to_le_bytes()), &bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    };
    let newer_segment = |bytes: &mut [u8]| {
        bytes[8..12].copy_from_slice(&99u32.to_le_bytes());
        let crc = crc32c(&bytes[..40]);
        bytes[40..44].copy_from_slice(&crc.to_le_bytes());
    };
    let data = cluster.data(0);
    for path in [data.join("manifest"), data.join("identity"), segment(&cluster, 0)] {
        let good = fs::read(&path).unwrap();
        let mut bytes = good.clone();
        if path.extension().is_some() {
            newer_segment(&mut bytes)
        } else {
            newer_small(&mut bytes)
        }
        fs::write(&path, &bytes).unwrap();
        let before = contents(&data);
        run_briefly(&mut cluster.serve(0)).fails(7, "newer version");
        assert!(contents(&data) == before, "the directory was changed because of {}", path.display());
        assert!(!data.join("quarantine").exists(), "what is good was set aside because of {}", path.display());
        fs::write(&path, good).unwrap();
    }
    cluster.start_all();
    assert_eq!(cluster.wait_until_equal()["clients"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_log_is_set_aside_and_the_server_joins_anew() {
    let mut cluster = Cluster::start(3);
    let traffic = Traffic::start(cluster.addresses(), Plan::default()).await;
    traffic.goes_on(300);
    let follower = (cluster.wait_for_leader() + 1) % 3;
    let before = incarnation(&cluster, follower);
    cluster.kill(follower);
    let path = segment(&cluster, follower);
    let mut bytes = fs::read(&path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("something was written");
    bytes[used / 2] ^= 1 << 3;
    fs::write(&path, &bytes).unwrap();
    cluster.start_server(follower);
    votes_anew(&cluster, follower, before);
    traffic.goes_on(100);

    let quarantine = cluster.data(follower).join("quarantine");
    let aside: Vec<PathBuf> = fs::read_dir(&quarantine).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
    let reason = fs::read_to_string(aside[0].join("reason.txt")).unwrap();
    assert!(reason.contains("checksum") || reason.contains("damage"), "{reason}");
    let damaged = aside[0].join("log").join(path.file_name().unwrap());
    assert!(fs::read(damaged).unwrap() == bytes, "nothing is changed or deleted");
    let name = cluster.name(follower);
    let status = cluster.status().unwrap();
    assert!(problems(&status).contains(&format!("{name} says: damaged data")), "{status:#?}");
    assert!(cluster.log(follower).contains("damaged"));

    // It counts: another server may go.
    cluster.kill((follower + 1) % 3);
    traffic.goes_on(100);
    cluster.start_server((follower + 1) % 3);
    traffic.finish().await;
    cluster.wait_until_equal();
}
