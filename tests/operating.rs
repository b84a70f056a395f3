//! What an operator does, by the commands that an operator types, over real processes and under traffic: nothing is lost,
//! doubled or put out of order.

#![expect(clippy::disallowed_methods, reason = "these tests run on the real machine")]

mod support;

use std::process::{Child, ExitStatus, Stdio};

use serde_json::Value;
use support::traffic::{Plan, Traffic};
use support::{Cluster, Ran, free_ports, lives, problems, restante, row, run, signal, wait_for};

/// Enough traffic for all the time that it takes.
fn plan() -> Plan {
    Plan { per_second: 100, ..Plan::default() }
}

/// A command that goes on beside the test.
fn begin(cluster: &Cluster, arguments: &[&str]) -> Child {
    let mut command = cluster.restante(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command can be started")
}

/// Waits until it has ended.
fn end(mut child: Child) -> Ran {
    wait_for("a command to end", || child.try_wait().expect("it can be waited for"));
    let output = child.wait_with_output().expect("it can be waited for");
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Adds a server and starts it; the command waits until it votes.
fn add(cluster: &mut Cluster, number: usize) {
    let server = format!("{}={}", cluster.name(number), cluster.address(number));
    let adding = begin(cluster, &["server", "add", &server, "--json"]);
    cluster.start_server(number);
    assert_eq!(end(adding).json()["is"], "votes");
    cluster.run(&["server", "add", &server]).ok();
}

/// Removes a server, whose process then ends by itself.
fn remove(cluster: &mut Cluster, number: usize) {
    let name = cluster.name(number);
    assert!(cluster.run(&["server", "remove", &name]).ok().contains("does not belong to the cluster any more"));
    cluster.run(&["server", "remove", &name]).ok();
    assert!(!cluster.ends(number).success());
}

fn listed(cluster: &Cluster) -> Value {
    cluster.run(&["server", "list", "--json"]).json()
}

fn names(list: &Value) -> Vec<String> {
    let rows = list["servers"].as_array().expect("a list of servers");
    assert!(rows.iter().all(|row| row["votes"] == true), "{list:#}");
    rows.iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_grows_to_five_and_shrinks_again_by_commands_under_traffic() {
    let mut cluster = Cluster::prepare_with_spares(1, 4);
    cluster.start_server(0);
    cluster.wait_for_leader();
    let mut traffic = Traffic::start(vec![cluster.address(0)], plan()).await;
    (1..3).for_each(|number| add(&mut cluster, number));
    assert_eq!(names(&listed(&cluster)), ["a", "b", "c"]);
    traffic.goes_on(100);
    (3..5).for_each(|number| add(&mut cluster, number));
    assert_eq!(names(&listed(&cluster)), ["a", "b", "c", "d", "e"]);
    traffic.goes_on(100);
    (0..2).for_each(|number| remove(&mut cluster, number));
    traffic.goes_on(100);
    (2..4).for_each(|number| remove(&mut cluster, number));
    assert_eq!(names(&listed(&cluster)), ["e"]);
    traffic.goes_on(100);
    cluster.run(&["server", "remove", "e"]).fails(3, "the last server");
    traffic.moved_to(cluster.addresses());
    traffic.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_replaced_and_leadership_transferred_by_commands_under_traffic() {
    let mut cluster = Cluster::prepare_with_spares(3, 1);
    (0..3).for_each(|number| cluster.start_server(number));
    let leader = cluster.wait_for_leader();
    let traffic = Traffic::start((0..3).map(|number| cluster.address(number)).collect(), plan()).await;
    let next = cluster.name((leader + 1) % 3);
    assert_eq!(cluster.run(&["server", "transfer", &next, "--json"]).json()["is"], "leads");
    assert_eq!(listed(&cluster)["leader"], next.as_str());
    traffic.goes_on(50);
    add(&mut cluster, 3);
    remove(&mut cluster, (leader + 1) % 3);
    traffic.goes_on(100);
    cluster.run(&["server", "transfer", "nobody"]).fails(3, "no server of that name");
    traffic.finish().await;
}

/// A rolling restart by hand, as `docs/operating.md` has it.
#[tokio::test(flavor = "multi_thread")]
async fn every_server_is_drained_restarted_and_undrained_under_traffic() {
    let mut cluster = Cluster::start(3);
    let traffic = Traffic::start(cluster.addresses(), plan()).await;
    for number in 0..3 {
        let name = cluster.name(number);
        assert_eq!(cluster.run(&["server", "drain", &name, "--json"]).json()["is"], "drained");
        let status = cluster.status().expect("a status");
        let drained = row(&status, &name);
        assert_eq!((&drained["drained"], &drained["serves"]), (&Value::from(true), &Value::from(false)), "{drained:#}");
        assert_eq!(drained["sessions"], 0);
        assert_ne!(status["leader"], name.as_str());
        traffic.goes_on(50);
        assert!(cluster.stop(number).success());
        traffic.goes_on(50);
        cluster.start_server(number);
        cluster.wait_until("it to be back", |status| {
            row(status, &name)["lag"] == 0 && row(status, &name)["answers"] == true
        });
        assert_eq!(
            row(&cluster.status().expect("a status"), &name)["drained"],
            true,
            "it is drained until it is undrained"
        );
        cluster.run(&["server", "undrain", &name]).ok();
        cluster.wait_until("it to serve", |status| row(status, &name)["serves"] == true);
        traffic.goes_on(50);
    }
    traffic.finish().await;
    cluster.wait_until_equal();
}

/// `restante cluster` with three servers.
struct Command {
    directory: tempfile::TempDir,
    addresses: Vec<String>,
    child: Child,
}

impl Command {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let ports = free_ports(3);
        let list = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let log = std::fs::File::create(directory.path().join("log")).expect("a log file");
        let child = restante()
            .args(["cluster", "--ports", &list, "--data"])
            .arg(directory.path().join("data"))
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the cluster can be started");
        Self { directory, addresses: ports.iter().map(|port| format!("127.0.0.1:{port}")).collect(), child }
    }

    fn told(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Every process that was started, in order.
    fn pids(&self) -> Vec<u32> {
        let pid = |line: &str| line.rsplit_once("(pid ")?.1.trim_end_matches(')').parse().ok();
        self.told().lines().filter_map(pid).collect()
    }

    fn restart(&self) -> Ran {
        run(restante().args(["cluster", "restart", "--rolling", "--data"]).arg(self.directory.path().join("data")))
    }

    fn stop(&mut self) -> ExitStatus {
        signal(self.child.id(), "TERM");
        wait_for("the cluster to stop", || self.child.try_wait().expect("it can be waited for"))
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        // Its servers end with it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_by_one_command_under_traffic() {
    let mut all = Command::start();
    let traffic = Traffic::start(all.addresses.clone(), plan()).await;
    traffic.goes_on(50);
    assert_eq!(all.pids().len(), 3, "{}", all.told());
    let restarted = all.restart();
    assert!(restarted.clone().ok().contains("all servers were restarted"), "{restarted:#?}");
    assert!(restarted.stderr.contains("a is drained") && restarted.stderr.contains("c is back"), "{restarted:#?}");
    let pids = all.pids();
    assert_eq!(pids.len(), 6, "{}", all.told());
    assert_eq!(pids.iter().map(|pid| lives(*pid)).collect::<Vec<_>>(), [false, false, false, true, true, true]);
    traffic.goes_on(50);
    traffic.finish().await;
    assert!(all.stop().success(), "{}", all.told());
    all.restart().fails(4, "no `restante cluster` runs");
}

#[test]
fn a_rolling_restart_counts_who_belongs_to_the_cluster_and_leaves_alone_who_does_not() {
    let mut all = Command::start();
    let d = format!("127.0.0.1:{}", free_ports(1)[0]);
    let operate = |arguments: &[&str]| run(restante().args(["--servers", &all.addresses.join(",")]).args(arguments));
    operate(&["server", "remove", "c"]).ok();
    let mut serve = restante();
    serve.args(["serve", "--name", "d", "--die-with-parent", &std::process::id().to_string(), "--data"]);
    serve.arg(all.directory.path().join("d"));
    serve.args(["--cluster", &format!("a={},d={d}", all.addresses[0])]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut joins = serve.spawn().expect("it can be started");
    operate(&["server", "add", &format!("d={d}")]).ok();
    let restarted = all.restart();
    assert!(restarted.clone().ok().contains("all servers were restarted"), "{restarted:#?}");
    let says = ["a is back", "b is back", "c does not belong to the cluster, and is left alone"];
    assert!(says.iter().all(|text| restarted.stderr.contains(text)), "{restarted:#?}");
    assert_eq!(all.pids().len(), 5, "{}", all.told());
    joins.kill().expect("it runs");
    joins.wait().expect("it ends");
    all.stop();
}

#[test]
fn a_drained_server_leads_and_serves_only_while_nobody_else_can() {
    let mut cluster = Cluster::start(3);
    cluster.run(&["register", "alice"]).ok();
    let send = ["send", "--from", "alice", "--to", "alice", "hello"];
    let leader = cluster.wait_for_leader();
    let (first, second, last) = (leader, (leader + 1) % 3, (leader + 2) % 3);
    for number in [first, second] {
        cluster.run(&["server", "drain", &cluster.name(number)]).ok();
        cluster.run(&["server", "drain", &cluster.name(number)]).ok();
    }
    assert_eq!(cluster.wait_for_leader(), last, "nobody else may lead");
    let only = cluster.name(last);
    cluster.run(&["server", "drain", &only]).fails(3, "no other server could serve");
    cluster.run(&["server", "remove", &only]).fails(3, "no other server could serve");
    cluster.run(&["server", "transfer", &cluster.name(first)]).fails(3, "is drained");
    cluster.run(&send).ok();
    // Nothing but drained servers is left, and a majority of them: the service goes on.
    cluster.kill(last);
    cluster.run(&send).ok();
    let status = cluster.status().expect("a status");
    let leads = row(&status, status["leader"].as_str().expect("a leader")).clone();
    assert_eq!((&leads["drained"], &leads["serves"]), (&Value::from(true), &Value::from(true)), "{leads:#}");
    // As soon as another one can, it does.
    cluster.start_server(last);
    cluster.wait_until("the one that is not drained to lead", |status| status["leader"] == only.as_str());
    cluster.run(&send).ok();
    // Also one that has just been killed and comes back is still drained.
    cluster.kill(first);
    cluster.start_server(first);
    let name = cluster.name(first);
    cluster.wait_until("it to be drained", |status| {
        row(status, &name)["answers"] == true && row(status, &name)["drained"] == true
    });
    for number in [first, second] {
        cluster.run(&["server", "undrain", &cluster.name(number)]).ok();
    }
    cluster.run(&["server", "transfer", &name]).ok();
    assert_eq!(objects(&cluster, 3).len(), 3);
}

/// What waits for alice.
fn objects(cluster: &Cluster, count: usize) -> Vec<Value> {
    let listened = cluster.run(&["listen", "alice", "--json", "--count", &count.to_string()]).ok();
    listened.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[test]
fn removing_what_would_be_missed_takes_the_sentence_that_says_so() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let (down, up) = ((leader + 1) % 3, cluster.name((leader + 2) % 3));
    cluster.kill(down);
    // The leader notices after a while that it is not there. Asked too early, it would let the other one go.
    let missed = format!("{} says: {}: ", cluster.name(leader), cluster.name(down));
    cluster.wait_until("the leader to miss it", |status| problems(status).contains(&missed));
    let refused = cluster.run(&["server", "remove", &up]).fails(3, "only 1 can be reached");
    let sentence = refused.stderr.split('"').nth(1).expect("a sentence in quotes").to_owned();
    assert!(sentence.starts_with(&format!("I accept that without {up} ")), "{refused:#?}");
    cluster.run(&["server", "remove", &up, "--force", &sentence[1..]]).fails(3, &sentence);
    assert!(cluster.run(&["server", "remove", &up, "--force", &sentence]).ok().contains(&up));
    // Once enough of the rest are back, the membership follows.
    cluster.start_server(down);
    cluster.wait_until("the rest to be two", |status| {
        // The one that was removed ends by itself: then nobody answers at its address, which was asked, too.
        let rows = status["servers"].as_array().into_iter().flatten().filter(|row| row["answers"] == true);
        let votes: Vec<bool> = rows.map(|row| row["voter"] == true).collect();
        votes == [true, true]
    });
}

#[test]
fn a_status_that_is_watched_tells_what_changes_and_ends_on_ctrl_c() {
    let mut cluster = Cluster::start(3);
    let path = cluster.directory().join("watched");
    let out = std::fs::File::create(&path).expect("a file");
    let mut command = cluster.restante(&["status", "--watch", "--interval", "50ms", "--json"]);
    let mut watching = command.stdout(out).spawn().expect("the command can be started");
    let lines = || std::fs::read_to_string(&path).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    wait_for("a first look", || (!lines().is_empty()).then_some(()));
    let down = (cluster.wait_for_leader() + 1) % 3;
    let name = cluster.name(down);
    cluster.kill(down);
    wait_for("the change", || {
        let last: Value = serde_json::from_str(lines().last()?).ok()?;
        (row(&last, &name)["answers"] == false).then_some(())
    });
    signal(watching.id(), "INT");
    let status = wait_for("the watching to end", || watching.try_wait().expect("it can be waited for"));
    assert!(status.success(), "{status}");
    let lines = lines();
    assert!(lines.windows(2).all(|pair| pair[0] != pair[1]), "what has not changed is not told again");
    let disk = &serde_json::from_str::<Value>(&lines[0]).expect("a line of JSON")["servers"][0]["disk"];
    assert!(disk["free_bytes"].as_u64() > Some(0) && disk["condition"] == "good", "{disk:#}");
}
