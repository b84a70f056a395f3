//! Disks that hang, fail, fill up or rot while a server uses them: real processes, whose system calls are intercepted
//! (`support/disk_faults.c`) or whose files are edited.
#![expect(clippy::disallowed_methods, reason = "tests watch real processes from outside, on real time")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use support::traffic::{Plan, Traffic};
use support::{Cluster, problems, row, wait_for};

/// The library that intercepts.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/disk_faults.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disk_faults_{}.so", std::process::id()));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library).arg(source).arg("-ldl");
        assert!(compiler.status().expect("there is a C compiler, as Rust needs one").success());
        library
    })
}

fn control(cluster: &Cluster, number: usize) -> PathBuf {
    cluster.directory().join(format!("{}.faults", cluster.name(number)))
}

/// What the disk of server `number` is to do from now on.
fn tell(cluster: &Cluster, number: usize, what: &str) {
    // At once, so that nobody reads a half of it.
    let new = cluster.directory().join("faults.new");
    fs::write(&new, what).expect("a file can be written");
    fs::rename(new, control(cluster, number)).expect("it can be renamed");
}

fn start(cluster: &mut Cluster, number: usize) {
    tell(cluster, number, "");
    let control = control(cluster, number);
    cluster.set_environment("LD_PRELOAD", &library().to_string_lossy());
    cluster.set_environment("DISK_FAULTS", &control.to_string_lossy());
    cluster.start_server(number);
}

fn three() -> Cluster {
    let mut cluster = Cluster::prepare(3);
    (0..3).for_each(|number| start(&mut cluster, number));
    cluster.wait_for_leader();
    cluster
}

/// A leader that is not `not`, as the others see it.
fn another_leads(cluster: &Cluster, not: usize) -> usize {
    let not = cluster.name(not);
    let is_so = |status: &serde_json::Value| {
        let leads = |server: &serde_json::Value| server["role"] == "leader" && server["name"] != *not;
        status["servers"].as_array().is_some_and(|servers| servers.iter().any(leads))
    };
    let status = cluster.wait_until("another leader", is_so);
    let leads =
        (0..cluster.len()).find(|n| cluster.name(*n) != not && row(&status, &cluster.name(*n))["role"] == "leader");
    leads.expect("it was there")
}

/// Waits until all vote and none lacks much.
fn settled(cluster: &Cluster) {
    cluster.wait_until("all servers to be back", |status| {
        let good = |server: &serde_json::Value| {
            // One that is about to join anew still has the row of the disk before it.
            let is_member = server["role"] == "leader" || server["role"] == "follower";
            is_member && server["voter"] == true && server["answers"] == true && server["lag"].as_u64() < Some(100)
        };
        status["leader"].is_string()
            && status["servers"].as_array().is_some_and(|s| s.len() == cluster.len() && s.iter().all(good))
    });
}

fn incarnation(cluster: &Cluster, number: usize) -> u64 {
    let status = cluster.wait_until("its incarnation", |s| row(s, &cluster.name(number))["incarnation"].is_u64());
    row(&status, &cluster.name(number))["incarnation"].as_u64().expect("it was looked at")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_is_the_problem_of_its_server_alone() {
    let cluster = three();
    let traffic = Traffic::start(cluster.addresses(), Plan::default()).await;
    traffic.goes_on(200);
    // The leader's first, then a follower's.
    let leader = cluster.wait_for_leader();
    tell(&cluster, leader, "hang");
    let hung = Instant::now();
    let new = another_leads(&cluster, leader);
    let took = hung.elapsed();
    eprintln!("another server leads {took:?} after the leader's disk hangs");
    // A second of patience, a few rounds to look, an election; and a slow machine.
    assert!(took < Duration::from_secs(8), "{took:?}");
    traffic.goes_on(200);
    cluster.wait_until("it to be told", |status| problems(status).contains("does not answer"));
    tell(&cluster, leader, "");
    settled(&cluster);
    assert!(cluster.log(leader).contains("the disk answers again"));

    let follower = (0..3).find(|n| *n != new && *n != leader).expect("a third");
    let leads = cluster.wait_for_leader();
    let follower = if follower == leads { leader } else { follower };
    tell(&cluster, follower, "hang");
    traffic.goes_on(400);
    assert_eq!(cluster.wait_for_leader(), leads, "the majority is not disturbed");
    tell(&cluster, follower, "");
    settled(&cluster);
    traffic.finish().await;
    cluster.wait_until_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_or_write_stops_the_server_with_9_and_it_comes_back_with_its_data() {
    let mut cluster = three();
    let traffic = Traffic::start(cluster.addresses(), Plan::default()).await;
    for fault in ["fail-sync", "fail-once", "fail-write"] {
        traffic.goes_on(50);
        let leader = cluster.wait_for_leader();
        let victim = if fault == "fail-once" { leader } else { (leader + 1) % 3 };
        let before = incarnation(&cluster, victim);
        tell(&cluster, victim, fault);
        assert_eq!(cluster.ends(victim).code(), Some(9), "{fault}: {}", cluster.log(victim));
        assert!(cluster.log(victim).contains("the disk failed"), "{fault}");
        traffic.goes_on(50);
        start(&mut cluster, victim);
        settled(&cluster);
        // A part of a sector that nothing could be done about is damage; anything else was taken out again.
        let is_new = incarnation(&cluster, victim) > before;
        assert!(!is_new || fault == "fail-write", "{fault}");
        eprintln!("{fault}: back {}", if is_new { "as a new incarnation" } else { "with its data" });
        cluster.kill((victim + 1) % 3);
        traffic.goes_on(50);
        start(&mut cluster, (victim + 1) % 3);
        settled(&cluster);
    }
    traffic.finish().await;
    cluster.wait_until_equal();
}

/// Flips a bit of a file in the middle of what is written there, while it is in use.
fn rot(path: &Path) {
    use std::os::unix::fs::FileExt as _;
    let bytes = fs::read(path).expect("a file");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("something was written");
    let file = fs::File::options().write(true).open(path).expect("the file");
    file.write_all_at(&[bytes[used / 2] ^ 8], (used / 2) as u64).expect("it can be written");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scrub_finds_what_rots_while_the_server_runs() {
    const PERIOD: Duration = Duration::from_secs(4);
    let period = ["--scrub-period", "4s", "--body-memory", "1KiB"];
    let mut cluster = Cluster::prepare(3).with_arguments(&period);
    cluster.start_all();
    let traffic = Traffic::start(cluster.addresses(), Plan { per_second: 30, ..Plan::default() }).await;
    traffic.goes_on(300);
    // A value in the middle of the checkpoint may be of no use any more: it is the manifest that stands for other files.
    for (victim, file) in [(0, "manifest"), (1, "log/00000000000000000001.seg"), (2, "log/newest")] {
        settled(&cluster);
        let before = incarnation(&cluster, victim);
        rot(&cluster.data(victim).join(file));
        let begin = Instant::now();
        let name = cluster.name(victim);
        wait_for("the damage to be found", || cluster.log(victim).contains("the scrub found damage").then_some(()));
        let found = begin.elapsed();
        eprintln!("{file}: found after {found:?}");
        assert!(found < PERIOD + Duration::from_secs(3), "{file}: {found:?}");
        cluster.wait_until("a new incarnation", |s| {
            row(s, &name)["incarnation"].as_u64() > Some(before) && row(s, &name)["voter"] == true
        });
        let aside = fs::read_dir(cluster.data(victim).join("quarantine")).expect("a quarantine");
        assert_eq!(aside.count(), 1);
    }
    // Without the others, it keeps what it has.
    settled(&cluster);
    let (victim, others) = (0, [1, 2]);
    let before = incarnation(&cluster, victim);
    others.iter().for_each(|other| cluster.kill(*other));
    rot(&cluster.data(victim).join("manifest"));
    wait_for("it to be told", || (cluster.log(victim).matches("the scrub found damage").count() == 2).then_some(()));
    assert!(cluster.data(victim).join("identity").exists());
    others.iter().for_each(|other| cluster.start_server(*other));
    let name = cluster.name(victim);
    cluster.wait_until("a new incarnation", |s| {
        row(s, &name)["incarnation"].as_u64() > Some(before) && row(s, &name)["voter"] == true
    });
    traffic.finish().await;
    cluster.wait_until_equal();
}

/// A file system of its own in the place of a server's data, gone with the value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where one cannot be had: that takes root.
    fn mount(at: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir_all(&at).expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&at);
        mount.output().is_ok_and(|output| output.status.success()).then_some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_full_disk_of_three_holds_up_nobody() {
    let sizes = ["--segment", "16MiB", "--checkpoint-log", "32MiB", "--disk-reserve", "1MiB"];
    let mut cluster = Cluster::prepare(3).with_arguments(&sizes);
    let Some(small) = SmallDisk::mount(cluster.data(2), "36m") else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    cluster.start_all();
    let plan = Plan { body_bytes_max: 60_000, all_long: true, messages_each: 10, ..Plan::default() };
    let traffic = Traffic::start(cluster.addresses(), plan).await;
    cluster
        .wait_until("a full disk", |status| problems(status).contains("c says: ") && problems(status).contains("full"));
    // Beyond what the log of the full one has room for.
    traffic.goes_on(1000);
    let status = cluster.wait_until("a leader with room", |s| s["leader"].is_string() && s["leader"] != "c");
    eprintln!("{}", problems(&status));
    let grown = Command::new("mount").args(["-o", "remount,size=2g"]).arg(&small.0).status();
    assert!(grown.expect("mount can be run").success());
    traffic.finish().await;
    cluster.wait_until_equal();
    cluster.kill_all();
}
