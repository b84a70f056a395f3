//! The `restante` command with servers that serve.
#![expect(clippy::disallowed_methods, reason = "tests make files by themselves and watch processes on real time")]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;
use support::{Cluster, Ran, free_ports, lives, restante, run, signal, wait_for};

/// The lines of a command that prints a JSON object on each.
fn objects(ran: Ran) -> Vec<Value> {
    ran.ok().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Runs a command of `cluster` with `input` on its standard input.
fn run_with_input(cluster: &Cluster, arguments: &[&str], input: &[u8]) -> Ran {
    let path = cluster.directory().join("input");
    fs::write(&path, input).unwrap();
    run(cluster.restante(arguments).stdin(fs::File::open(path).unwrap()))
}

#[test]
fn client_commands() {
    let cluster = Cluster::start(3);
    cluster.wait_until_equal();
    a_message_goes_from_one_to_another(&cluster);
    what_is_refused_says_why(&cluster);
    a_home_is_chosen_by_name(&cluster);
    lines_are_sent_in_order(&cluster);
    any_bytes_and_headers_arrive_as_they_were_sent(&cluster);
    what_is_not_acknowledged_stays(&cluster);
    a_newer_reader_ends_the_older(&cluster);
    ctrl_c_detaches_a_listener(&cluster);
    an_output_that_nobody_reads_is_no_failure(&cluster);
}

fn a_message_goes_from_one_to_another(cluster: &Cluster) {
    let registered = cluster.run(&["register", "alice", "--json"]).json();
    assert_eq!(registered["name"], "alice");
    assert!(cluster.run(&["register", "bob"]).ok().starts_with("registered bob at server "));

    assert_eq!(
        cluster.run(&["send", "--from", "alice", "--to", "bob", "hello"]).ok(),
        "accepted: position 1 in bob's inbox\n"
    );
    let receipt = cluster.run(&["send", "--from", "alice", "--to", "bob", "-", "--json"]);
    assert_eq!(receipt.json()["position"], 2, "nothing on the standard input is an empty message");

    let who = cluster.run(&["who", "--json"]).json();
    let bob = who["clients"].as_array().unwrap().iter().find(|row| row["name"] == "bob").unwrap();
    assert_eq!((&bob["waiting"], &bob["online"]), (&Value::from(2), &Value::from(false)));
    let table = cluster.run(&["who"]).ok();
    assert!(table.contains("CLIENT") && table.contains("alice") && table.contains("bob"), "{table}");

    assert_eq!(cluster.run(&["listen", "bob", "--count", "1"]).ok(), "     1  alice: hello\n");
    let second = objects(cluster.run(&["listen", "bob", "--count", "1", "--json"]));
    assert_eq!(second.len(), 1);
    assert_eq!((&second[0]["position"], &second[0]["body"]), (&Value::from(2), &Value::from("")));
    assert_eq!((&second[0]["from"], &second[0]["redelivered"]), (&Value::from("alice"), &Value::from(false)));

    let status = cluster.run(&["status"]).ok();
    assert!(status.contains(" leads, in term ") && status.contains("2 clients, 0 messages wait"), "{status}");
}

fn what_is_refused_says_why(cluster: &Cluster) {
    cluster.run(&["register", "alice"]).fails(3, "registered already");
    cluster.run(&["send", "--from", "alice", "--to", "nobody", "hello"]).fails(3, "no client of that name");
    cluster.run(&["send", "--from", "nobody", "--to", "alice", "hello"]).fails(3, "cannot send as nobody");
    cluster.run(&["listen", "nobody"]).fails(3, "cannot listen as nobody");
    cluster.run(&["deregister", "nobody"]).fails(3, "cannot deregister nobody");
    cluster.run(&["register", "carol", "--home", "z"]).fails(2, "no server is named z");
}

fn a_home_is_chosen_by_name(cluster: &Cluster) {
    for number in 0..cluster.len() {
        let (name, home) = (format!("at-{number}"), cluster.name(number));
        let registered = cluster.run(&["register", &name, "--home", &home, "--json"]).json();
        assert_eq!(registered["home"], home.as_str());
        // Any one server is enough to be told; the answer comes through it.
        let address = cluster.address(number);
        cluster.run(&["deregister", &name, "--servers", &address]).ok();
    }
}

fn lines_are_sent_in_order(cluster: &Cluster) {
    let lines: String = (1..=5000).map(|n| format!("line {n}\n")).collect();
    let sent = run_with_input(cluster, &["send", "--from", "alice", "--to", "bob", "--lines"], lines.as_bytes()).ok();
    assert_eq!(sent, "sent 5,000, accepted 5,000: positions 3 to 5,002 in bob's inbox\n");
    let got = objects(cluster.run(&["listen", "bob", "--count", "5000", "--json"]));
    let bodies: String = got.iter().map(|delivery| format!("{}\n", delivery["body"].as_str().unwrap())).collect();
    assert!(bodies == lines, "the lines came otherwise than they were sent");

    let sent = run_with_input(cluster, &["send", "--from", "alice", "--to", "nobody", "--lines"], b"one\ntwo\n");
    let sent = sent.fails(3, "2 of 2 lines were not accepted");
    assert_eq!(sent.stdout, "sent 2, accepted 0\n");
}

fn any_bytes_and_headers_arrive_as_they_were_sent(cluster: &Cluster) {
    let arguments = ["send", "--from", "alice", "--to", "bob", "-", "--header", "kind=raw", "--header", "kind=again"];
    run_with_input(cluster, &arguments, &[0xff, 0, b'\n']).ok();
    let got = objects(cluster.run(&["listen", "bob", "--count", "1", "--json"]));
    assert_eq!(got[0]["body_base64"], "/wAK");
    assert_eq!(got[0]["headers"], serde_json::json!([["kind", "raw"], ["kind", "again"]]));

    let file = cluster.directory().join("body");
    fs::write(&file, vec![b'x'; 1 << 20]).unwrap();
    cluster.run(&["send", "--from", "alice", "--to", "bob", "--file", file.to_str().unwrap()]).ok();
    let got = objects(cluster.run(&["listen", "bob", "--count", "1", "--json"]));
    assert_eq!(got[0]["body"].as_str().unwrap().len(), 1 << 20);
}

fn what_is_not_acknowledged_stays(cluster: &Cluster) {
    cluster.run(&["send", "--from", "alice", "--to", "bob", "stay"]).ok();
    let looked = objects(cluster.run(&["listen", "bob", "--count", "1", "--json", "--no-acknowledge"]));
    let taken = objects(cluster.run(&["listen", "bob", "--count", "1", "--json"]));
    assert_eq!((&looked[0]["body"], &looked[0]["position"]), (&taken[0]["body"], &taken[0]["position"]));
    assert_eq!((&looked[0]["redelivered"], &taken[0]["redelivered"]), (&Value::from(false), &Value::from(true)));
}

/// A command that goes on, and its output.
struct Going {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    seen: Vec<String>,
}

impl Going {
    fn start(command: &mut std::process::Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, seen: Vec::new() }
    }

    /// The next line that contains `text`.
    #[track_caller]
    fn line_with(&mut self, text: &str) -> String {
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
        let mut stderr = String::new();
        drop(std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut stderr));
        panic!("no line with {text:?} came, but {:#?} and {stderr}", self.seen);
    }

    /// Waits for its end.
    fn end(mut self) -> Ran {
        let rest: Vec<String> = self.lines.by_ref().map_while(Result::ok).collect();
        let mut stderr = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut stderr).unwrap();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        Ran { code, stdout: rest.join("\n"), stderr }
    }
}

fn a_newer_reader_ends_the_older(cluster: &Cluster) {
    let mut older = Going::start(&mut cluster.restante(&["listen", "bob"]));
    cluster.run(&["send", "--from", "alice", "--to", "bob", "to the older"]).ok();
    older.line_with("to the older");
    let newer = Going::start(&mut cluster.restante(&["listen", "bob", "--count", "1"]));
    older.end().fails(3, "another reader");
    cluster.run(&["send", "--from", "alice", "--to", "bob", "to the newer"]).ok();
    let newer = newer.end();
    assert!(newer.stdout.contains("to the newer"), "{newer:?}");
}

fn ctrl_c_detaches_a_listener(cluster: &Cluster) {
    let mut listener = Going::start(&mut cluster.restante(&["listen", "bob"]));
    cluster.run(&["send", "--from", "alice", "--to", "bob", "last words"]).ok();
    listener.line_with("last words");
    signal(listener.child.id(), "INT");
    assert_eq!(listener.end().code, 0);
    let who = cluster.run(&["who", "--json"]).json();
    let bob = who["clients"].as_array().unwrap().iter().find(|row| row["name"] == "bob").unwrap();
    assert_eq!((&bob["waiting"], &bob["online"]), (&Value::from(0), &Value::from(false)), "detached, acknowledged");
}

fn an_output_that_nobody_reads_is_no_failure(cluster: &Cluster) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = run(cluster.restante(&["who"]).stdout(writer));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}

#[test]
fn without_a_majority_status_says_why_there_is_no_leader() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    cluster.kill((leader + 1) % 3);
    cluster.kill((leader + 2) % 3);
    let status = cluster.wait_until("the leader to notice", |status| status["leader"].is_null());
    let left = cluster.name(leader);
    for number in [(leader + 1) % 3, (leader + 2) % 3] {
        let name = cluster.name(number);
        let row = status["servers"].as_array().unwrap().iter().find(|row| row["name"] == name.as_str()).unwrap();
        assert_eq!(row["answers"], false);
        let text = cluster.run(&["status"]).fails(4, "no leader").stdout;
        assert!(text.contains(&format!("{name} does not answer here")), "{text}");
        assert!(text.contains(&format!("{left} says: no leader: it takes 2 of 3 servers")), "{text}");
    }
}

#[test]
fn sigterm_stops_a_server_in_good_order() {
    let mut cluster = Cluster::start(3);
    for number in 0..3 {
        assert!(cluster.stop(number).success(), "{}", cluster.log(number));
    }
}

#[test]
fn data_of_another_server_or_version_is_not_touched() {
    let mut cluster = Cluster::start(3);
    cluster.kill_all();
    let (a, b) = (cluster.data(0), cluster.directory().join("moved"));
    fs::rename(&a, &b).unwrap();
    let mut serve = restante();
    let address = cluster.address(1);
    serve.args(["serve", "--name", "b", "--listen", &address, "--cluster", &cluster.list(1), "--data"]).arg(&b);
    run(&mut serve).fails(7, "belongs to server a");
}

/// Asserts that nothing is left of a demo: no directory in `temporary`, and no process.
fn nothing_is_left(temporary: &Path, pids: &[u32]) {
    let left: Vec<_> = fs::read_dir(temporary).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
    wait_for("the servers to be gone", || pids.iter().all(|pid| !lives(*pid)).then_some(()));
}

fn demo(temporary: &Path, arguments: &[&str]) -> std::process::Command {
    let ports: Vec<String> = free_ports(3).iter().map(ToString::to_string).collect();
    let mut demo = restante();
    demo.args(["demo", "--ports", &ports.join(",")]).args(arguments).env("TMPDIR", temporary);
    demo
}

fn pid_in(line: &str) -> u32 {
    line.split("(pid ").nth(1).and_then(|rest| rest.split(')').next()).unwrap().parse().unwrap()
}

#[test]
fn the_demo_ends_with_zeros_and_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let ran = run(&mut demo(temporary.path(), &["--json", "--messages", "3000"]));
    let (story, report) = (ran.stderr.clone(), ran.json());
    assert_eq!(report["ok"], true, "{report:#}");
    for (what, count) in [("sent", 3006), ("accepted", 3006), ("delivered", 3006)] {
        assert_eq!(report["counts"][what], count, "{report:#}");
    }
    for what in ["lost", "doubled", "out_of_order", "altered"] {
        assert_eq!(report["counts"][what], 0, "{report:#}");
    }
    let digests: Vec<&Value> = report["servers"].as_array().unwrap().iter().map(|server| &server["digest"]).collect();
    assert_eq!(digests.len(), 3);
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{report:#}");
    assert_ne!(report["killed"]["server"], report["killed"]["successor"]);
    assert!(report["killed"]["clients_moved"].as_u64().unwrap() >= 2, "those at the dead server had to move");
    assert!(story.contains(&format!("pid {}) with SIGKILL", report["killed"]["pid"])), "{story}");
    for words in ["1 → 2", "3 → 4", "5 → 6", "moved from", "is started again", "has caught up"] {
        assert!(story.contains(words), "{words:?} is not in {story}");
    }
    nothing_is_left(temporary.path(), &[]);
}

#[test]
fn ctrl_c_in_the_middle_of_the_demo_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let mut going = Going::start(&mut demo(temporary.path(), &[]));
    let pids: Vec<u32> = (0..3).map(|_| pid_in(&going.line_with("(pid "))).collect();
    going.line_with("everybody sends");
    signal(going.child.id(), "INT");
    going.end().fails(130, "interrupted: the servers are stopped, its temporary data removed");
    nothing_is_left(temporary.path(), &pids);
}

#[test]
fn a_server_that_dies_by_itself_ends_the_demo_with_its_reason() {
    let temporary = tempfile::tempdir().unwrap();
    let mut going = Going::start(&mut demo(temporary.path(), &[]));
    let pids: Vec<u32> = (0..3).map(|_| pid_in(&going.line_with("(pid "))).collect();
    signal(pids[2], "KILL");
    going.end().fails(1, "server c was killed by signal 9 by itself");
    nothing_is_left(temporary.path(), &pids);
}

#[test]
fn a_demo_with_a_directory_keeps_it() {
    let temporary = tempfile::tempdir().unwrap();
    let data = temporary.path().join("kept");
    let mut going = Going::start(&mut demo(temporary.path(), &["--data", data.to_str().unwrap()]));
    going.line_with(" leads, in term ");
    signal(going.child.id(), "TERM");
    going.end().fails(130, "interrupted: the servers are stopped");
    assert!(data.join("a").is_dir() && data.join("a.log").is_file());
}
