//! Files that are damaged while a server is down: every kind of file, damaged in every way, on a follower, a leader and on
//! two of five. Real processes, under traffic whose journals are judged in the end: nothing is lost, doubled or put out of
//! order. After each damage the server comes back by itself, what was set aside is kept as it was, and another server is
//! killed, so that the one that came back is needed.
//!
//! `cargo test` runs a selection. All of it, with the table that docs/simulation.md shows:
//!
//! ```text
//! cargo test --test damage -- --ignored --nocapture
//! ```
#![expect(clippy::disallowed_methods, reason = "tests watch real processes from outside, on real time")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use restante::client::Inbox;
use support::traffic::{Plan, Traffic, client, name, within};
use support::{Cluster, problems, row, run_briefly};

/// Small, so that a log has several segments soon, and a checkpoint long before it is full.
const SIZES: [&str; 6] = ["--segment", "16MiB", "--checkpoint-log", "32MiB", "--body-memory", "64KiB"];

/// What is in a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Manifest,
    Identity,
    NewestNote,
    OldSegment,
    CurrentSegment,
    SpareSegment,
    AllLaterSegments,
    Checkpoint,
    Lock,
    LogDirectory,
    CheckpointDirectory,
    DataDirectory,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One bit in the middle of what is written; of a checkpoint, one of each page.
    Flipped,
    /// The second half is gone.
    Truncated,
    Emptied,
    Removed,
    /// Other bytes, as many.
    Garbage,
}

/// What must come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The data is set aside.
    SetAside,
    /// There is nothing to set aside: the server joins anew.
    JoinsAnew,
    /// Nothing was lost by it.
    Harmless,
    /// It depends on how much the log holds: nothing was lost by it, or the data is set aside.
    Either,
}

use Class::{
    AllLaterSegments, Checkpoint, CheckpointDirectory, CurrentSegment, DataDirectory, Identity, Lock, LogDirectory,
    Manifest, NewestNote, OldSegment, SpareSegment,
};
use Kind::{Emptied, Flipped, Garbage, Removed, Truncated};

const FILES: [Class; 8] = [Manifest, Identity, NewestNote, OldSegment, CurrentSegment, SpareSegment, Checkpoint, Lock];
const KINDS: [Kind; 5] = [Flipped, Truncated, Emptied, Removed, Garbage];

fn expected(class: Class, kind: Kind) -> Expected {
    match (class, kind) {
        (DataDirectory, _) => Expected::JoinsAnew,
        // Nothing is read from it.
        (Lock, _) => Expected::Harmless,
        // Nothing was written there yet.
        (SpareSegment, Flipped) => Expected::Harmless,
        // As long as the log was never cleaned, it has everything.
        (Checkpoint | CheckpointDirectory, Removed | Emptied) => Expected::Either,
        _ => Expected::SetAside,
    }
}

/// All cells of the matrix.
fn all_cells() -> Vec<(Class, Kind)> {
    let files = FILES.into_iter().flat_map(|class| KINDS.map(|kind| (class, kind)));
    let directories = [(AllLaterSegments, Removed), (LogDirectory, Removed), (LogDirectory, Emptied)];
    let more = [(CheckpointDirectory, Removed), (CheckpointDirectory, Emptied), (DataDirectory, Removed)];
    files.chain(directories).chain(more).collect()
}

/// The segments of a server's log, those without anything in them last.
fn segments(data: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let entries = fs::read_dir(data.join("log")).expect("a log");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "seg")).collect();
    paths.sort();
    paths.into_iter().partition(|path| fs::read(path).expect("a segment")[512..].iter().any(|byte| *byte != 0))
}

/// The paths that are damaged.
fn paths(data: &Path, class: Class) -> Vec<PathBuf> {
    let one = |name: &str| vec![data.join(name)];
    match class {
        Manifest => one("manifest"),
        Identity => one("identity"),
        NewestNote => one("log/newest"),
        Checkpoint => one("checkpoint/state.redb"),
        Lock => one("lock"),
        LogDirectory => one("log"),
        CheckpointDirectory => one("checkpoint"),
        DataDirectory => vec![data.to_owned()],
        OldSegment => segments(data).0.into_iter().take(1).collect(),
        CurrentSegment => segments(data).0.into_iter().rev().take(1).collect(),
        SpareSegment => segments(data).1.into_iter().rev().take(1).collect(),
        AllLaterSegments => {
            let (used, spare) = segments(data);
            used.into_iter().skip(1).chain(spare).collect()
        }
    }
}

fn do_damage(path: &Path, kind: Kind) {
    if path.is_dir() {
        fs::remove_dir_all(path).expect("it can be removed");
        if kind == Emptied {
            fs::create_dir(path).expect("it can be made");
        }
        return;
    }
    let mut bytes = fs::read(path).expect("a file");
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    match kind {
        Removed => return fs::remove_file(path).expect("it can be removed"),
        Flipped if path.extension().is_some_and(|e| e == "redb") => {
            bytes.iter_mut().skip(100).step_by(4096).for_each(|byte| *byte ^= 4);
        }
        // Of a segment without batches: behind its header.
        Flipped if bytes.len() > 1 << 20 && used < 512 => bytes[5000] ^= 4,
        Flipped if bytes.is_empty() => bytes.push(4),
        Flipped => bytes[used / 2] ^= 4,
        Truncated => bytes.truncate(bytes.len() / 2),
        Emptied => bytes.clear(),
        Garbage => bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(3) ^ 0xa5),
    }
    fs::write(path, bytes).expect("it can be written");
}

/// Every file below `directory` with what is in it.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let Ok(entries) = fs::read_dir(directory) else { return all };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
    all
}

/// The directories in a server's quarantine, oldest first.
fn quarantine(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("quarantine")).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    let number = |path: &PathBuf| -> u64 {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.split('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    paths.sort_by_key(number);
    paths
}

fn incarnation(cluster: &Cluster, number: usize) -> u64 {
    let name = cluster.name(number);
    let status = cluster.wait_until("its incarnation", |status| row(status, &name)["incarnation"].is_u64());
    row(&status, &name)["incarnation"].as_u64().expect("it was looked at")
}

/// Waits until all servers answer and vote, and none lacks much.
fn settled(cluster: &Cluster) {
    cluster.wait_until("all servers to be back", |status| {
        let good = |server: &serde_json::Value| {
            // One that is about to join anew still has the row of the disk before it.
            let is_member = server["role"] == "leader" || server["role"] == "follower";
            is_member && server["voter"] == true && server["answers"] == true && server["lag"].as_u64() < Some(100)
        };
        let servers = status["servers"].as_array();
        status["leader"].is_string() && servers.is_some_and(|s| s.len() == cluster.len() && s.iter().all(good))
    });
}

/// Fills the log: long messages from one client to another, which reads them at once.
struct Ballast {
    stream: restante::client::SendStream,
    inbox: Inbox,
    number: u64,
}

impl Ballast {
    async fn new(cluster: &Cluster) -> Self {
        let client = client(&cluster.addresses(), None).await;
        for who in ["heavy", "strong"] {
            client.register(&name(who)).await.expect("it can register");
        }
        let stream = client.open_stream(&name("heavy")).await.expect("it can open a stream");
        let inbox = client.listen(&name("strong"), 100).await.expect("it can listen");
        Self { stream, inbox, number: 0 }
    }

    /// Sends until the log of the server has more than one segment.
    async fn fill(&mut self, data: &Path) {
        while segments(data).0.len() < 2 || segments(data).1.is_empty() {
            let mut receipts = Vec::new();
            for _ in 0..40 {
                let body = vec![self.number as u8 | 1; 200_000];
                receipts.push(self.stream.send(&name("strong"), body).await.expect("it can be handed in"));
                self.number += 1;
            }
            for receipt in receipts {
                within("a receipt", receipt).await.expect("a receipt");
                let delivery = within("a delivery", self.inbox.next()).await.expect("a delivery").expect("a reader");
                self.inbox.acknowledge(delivery.position);
            }
        }
    }
}

/// Who is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Follower,
    Leader,
}

/// Damages the data of servers of a cluster that works, and says what came of it.
struct Matrix {
    cluster: Cluster,
    traffic: Traffic,
    ballast: Ballast,
    rows: Vec<String>,
}

impl Matrix {
    async fn new(servers: usize) -> Self {
        let mut cluster = Cluster::prepare(servers).with_arguments(&SIZES);
        cluster.start_all();
        cluster.wait_for_leader();
        let plan = Plan { senders: 3, recipients: 3, messages_each: 1, per_second: 60, ..Plan::default() };
        let traffic = Traffic::start(cluster.addresses(), plan).await;
        traffic.goes_on(50);
        let ballast = Ballast::new(&cluster).await;
        Self { cluster, traffic, ballast, rows: Vec::new() }
    }

    /// Kills the servers, damages what they have, brings them back and looks what came of it.
    async fn damage(&mut self, who: &str, victims: &[usize], class: Class, kind: Kind) {
        let cell = format!("{who} · {class:?} · {kind:?}");
        for victim in victims {
            self.ballast.fill(&self.cluster.data(*victim)).await;
        }
        let before: Vec<u64> = victims.iter().map(|victim| incarnation(&self.cluster, *victim)).collect();
        let mut kept = Vec::new();
        victims.iter().for_each(|victim| self.cluster.kill(*victim));
        for victim in victims {
            let data = self.cluster.data(*victim);
            let paths = paths(&data, class);
            assert!(!paths.is_empty(), "{cell}: there is nothing to damage");
            paths.iter().for_each(|path| do_damage(path, kind));
            let mut files = contents(&data);
            files.retain(|path, _| !path.starts_with(data.join("quarantine")) && !path.ends_with("lock"));
            kept.push((files, quarantine(&data).len()));
        }
        victims.iter().for_each(|victim| self.cluster.start_server(*victim));
        settled(&self.cluster);
        let mut outcomes = Vec::new();
        for ((victim, before), (files, aside)) in victims.iter().zip(before).zip(kept) {
            outcomes.push(self.look(&cell, *victim, (class, kind), before, &files, aside));
        }
        // They count: without as many others as may be missing, they are needed for every message.
        let others: Vec<usize> = (0..self.cluster.len()).filter(|n| !victims.contains(n)).take(victims.len()).collect();
        others.iter().for_each(|other| self.cluster.kill(*other));
        self.traffic.goes_on(10);
        others.iter().for_each(|other| self.cluster.start_server(*other));
        settled(&self.cluster);
        outcomes.dedup();
        let line = format!("| {class:?} | {kind:?} | {who} | {} |", outcomes.join("; "));
        eprintln!("{line}");
        self.rows.push(line);
    }

    /// What came of it.
    fn look(
        &self,
        cell: &str,
        victim: usize,
        (class, kind): (Class, Kind),
        before: u64,
        files: &BTreeMap<PathBuf, Vec<u8>>,
        aside: usize,
    ) -> String {
        let data = self.cluster.data(victim);
        let is_new = incarnation(&self.cluster, victim) > before;
        let expected = expected(class, kind);
        let quarantine = quarantine(&data);
        let set_aside = quarantine.len() - aside;
        match expected {
            Expected::SetAside => assert!(is_new && set_aside == 1, "{cell}: {is_new} {quarantine:?}"),
            Expected::JoinsAnew => assert!(is_new && set_aside == 0, "{cell}: {is_new} {quarantine:?}"),
            Expected::Harmless => assert!(!is_new && set_aside == 0, "{cell}: {is_new} {quarantine:?}"),
            Expected::Either => assert_eq!(is_new, set_aside == 1, "{cell}: {quarantine:?}"),
        }
        if set_aside == 0 {
            let text = if is_new { "joins anew with an empty disk" } else { "comes back with its data" };
            return text.to_owned();
        }
        let place = quarantine.last().expect("it was counted");
        for (path, bytes) in files {
            let kept = place.join(path.strip_prefix(&data).expect("a path in it"));
            // The log is looked at before the checkpoint, and while it is opened its tail may be cut.
            let changes = path.starts_with(data.join("log")) && class != OldSegment && class != CurrentSegment;
            let is_kept = fs::read(&kept).is_ok_and(|kept| changes || kept == *bytes || path.ends_with("state.redb"));
            assert!(is_kept || path.extension().is_some_and(|e| e == "new"), "{cell}: {} is not kept", path.display());
        }
        let reason = fs::read_to_string(place.join("reason.txt")).expect("a reason");
        assert!(!reason.trim().is_empty(), "{cell}");
        let name = self.cluster.name(victim);
        self.cluster
            .wait_until("it to be told", |status| problems(status).contains(&format!("{name} says: damaged data")));
        "set aside; comes back as a new incarnation".to_owned()
    }

    fn victim(&self, who: Who) -> usize {
        let leader = self.cluster.wait_for_leader();
        if who == Who::Leader { leader } else { (leader + 1) % self.cluster.len() }
    }

    /// Judges the journals and prints the table.
    async fn finish(self) {
        self.traffic.finish().await;
        self.cluster.wait_until_equal();
        eprintln!("\n| file | damage | who | what happened |\n|---|---|---|---|\n{}", self.rows.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_of_the_damage_matrix() {
    let mut matrix = Matrix::new(3).await;
    for (who, class, kind) in [
        (Who::Follower, OldSegment, Flipped),
        (Who::Leader, Checkpoint, Flipped),
        (Who::Follower, AllLaterSegments, Removed),
        (Who::Leader, Identity, Removed),
        (Who::Follower, LogDirectory, Removed),
        (Who::Leader, DataDirectory, Removed),
        (Who::Follower, Lock, Garbage),
    ] {
        let victim = matrix.victim(who);
        matrix.damage(&format!("{who:?} of 3"), &[victim], class, kind).await;
    }
    matrix.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "several minutes: every kind of file, damaged in every way"]
async fn the_damage_matrix_of_three() {
    for who in [Who::Follower, Who::Leader] {
        let mut matrix = Matrix::new(3).await;
        for (class, kind) in all_cells() {
            let victim = matrix.victim(who);
            matrix.damage(&format!("{who:?} of 3"), &[victim], class, kind).await;
        }
        matrix.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "several minutes: every kind of file, damaged in every way, on two of five servers at once"]
async fn the_damage_matrix_of_two_of_five() {
    let mut matrix = Matrix::new(5).await;
    for (turn, (class, kind)) in all_cells().into_iter().enumerate() {
        // The leader is one of them every other time.
        let first = matrix.victim(if turn % 2 == 0 { Who::Leader } else { Who::Follower });
        let second = (first + 1) % 5;
        matrix.damage("two of 5", &[first, second], class, kind).await;
    }
    matrix.finish().await;
}

/// Makes the end of a log what a power cut may leave of a batch that was being written: some of its sectors, and not the
/// first.
fn tear(data: &Path, seed: usize) {
    let path = segments(data).0.pop().expect("a segment that is written to");
    let mut bytes = fs::read(&path).expect("a segment");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("something was written") / 512 + 1;
    for sector in used + 1..used + 40 {
        if !(sector * 7 + seed).is_multiple_of(3) {
            bytes[sector * 512..][..512]
                .iter_mut()
                .enumerate()
                .for_each(|(at, byte)| *byte = (at * 31 + sector) as u8 | 1);
        }
    }
    fs::write(&path, bytes).expect("it can be written");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_lose_their_power_at_once_and_every_log_has_a_torn_tail() {
    let mut cluster = Cluster::start(3);
    let traffic = Traffic::start(cluster.addresses(), Plan::default()).await;
    for round in 0..3 {
        traffic.goes_on(200);
        let before: Vec<u64> = (0..3).map(|n| incarnation(&cluster, n)).collect();
        cluster.kill_all();
        (0..3).for_each(|number| tear(&cluster.data(number), round * 3 + number));
        cluster.start_all();
        traffic.goes_on(50);
        settled(&cluster);
        let after: Vec<u64> = (0..3).map(|n| incarnation(&cluster, n)).collect();
        assert_eq!(before, after, "a torn tail is no damage");
        assert!((0..3).all(|n| cluster.log(n).matches("never completely written").count() == round + 1));
    }
    traffic.finish().await;
    cluster.wait_until_equal();
}

#[test]
fn a_checkpoint_or_note_from_a_newer_version_is_refused_and_left_alone() {
    let mut cluster = Cluster::start(3);
    cluster.run(&["register", "alice"]).ok();
    cluster.kill_all();
    let data = cluster.data(0);
    let newest = data.join("log/newest");
    let good = fs::read(&newest).expect("a note");
    let mut bytes = good.clone();
    bytes[8..12].copy_from_slice(&99u32.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&99u32.to_le_bytes()), &bytes[16..]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    fs::write(&newest, &bytes).expect("it can be written");
    let before = contents(&data);
    run_briefly(&mut cluster.serve(0)).fails(7, "newer version");
    assert!(contents(&data) == before && !data.join("quarantine").exists(), "the directory was changed");
    fs::write(&newest, good).expect("it can be written");

    {
        let database = redb::Database::open(data.join("checkpoint/state.redb")).expect("a checkpoint");
        let table: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("meta");
        let transaction = database.begin_write().expect("a transaction");
        let crc = crc32c::crc32c_append(crc32c::crc32c(&6u64.to_le_bytes()), b"format");
        let value =
            [&crc32c::crc32c_append(crc, &99u32.to_le_bytes()).to_le_bytes()[..], &99u32.to_le_bytes()].concat();
        transaction.open_table(table).expect("a table").insert(&b"format"[..], &value[..]).expect("it can be set");
        transaction.commit().expect("it is committed");
    }
    run_briefly(&mut cluster.serve(0)).fails(7, "newer version");
    assert!(!data.join("quarantine").exists() && data.join("checkpoint/state.redb").exists());
    // The others go on without it.
    cluster.start_server(1);
    cluster.start_server(2);
    cluster.run(&["register", "bob"]).ok();
}

#[test]
fn a_server_that_nobody_knows_is_not_taken_in() {
    let mut cluster = Cluster::start(3);
    cluster.run(&["register", "alice"]).ok();
    let port = support::free_ports(1)[0];
    let list = format!("{},stranger=127.0.0.1:{port}", cluster.list());
    let log = cluster.directory().join("stranger.log");
    let out = fs::File::create(&log).expect("a log file");
    let mut command = support::restante();
    command.args([
        "serve",
        "--name",
        "stranger",
        "--cluster",
        &list,
        "--die-with-parent",
        &std::process::id().to_string(),
    ]);
    command.arg("--data").arg(cluster.directory().join("stranger")).stderr(out);
    let mut child = command.spawn().expect("it can be started");
    let told = support::wait_for("it to be told why", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.contains("does not take this server in").then_some(text)
    });
    assert!(told.contains("stranger"), "{told}");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    cluster.kill(0);
    cluster.run(&["register", "bob"]).ok();
}
