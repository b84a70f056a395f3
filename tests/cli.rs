//! The `restante` command from outside: what needs no cluster that works.
#![expect(clippy::disallowed_methods, reason = "tests make files and take ports by themselves")]

mod support;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use support::{Ran, free_ports, lives, restante, run, signal, wait_for};

const COMMANDS: [&str; 18] = [
    "serve",
    "cluster",
    "register",
    "deregister",
    "send",
    "listen",
    "channel",
    "request",
    "reply",
    "chat",
    "who",
    "status",
    "server",
    "config",
    "completions",
    "man",
    "demo",
    "bench",
];

fn ran(arguments: &[&str]) -> Ran {
    run(restante().args(arguments))
}

#[test]
fn help_names_every_command_and_the_exit_codes() {
    let help = ran(&["--help"]).ok();
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in {help}");
    }
    assert!(help.contains("Exit codes"));
    assert!(help.contains("RESTANTE_SERVERS"));
}

#[test]
fn every_command_teaches_by_example() {
    for command in COMMANDS {
        let help = ran(&[command, "--help"]).ok();
        assert!(help.contains("Example"), "no example in {help}");
        assert!(help.contains(&format!("  restante {command}")), "no example of {command} in {help}");
    }
}

#[test]
fn whatever_prints_for_programs_has_json() {
    for command in ["register", "deregister", "send", "listen", "chat", "who", "status", "demo", "bench"] {
        assert!(ran(&[command, "--help"]).ok().contains("--json"), "{command}");
    }
    for command in ["create", "delete", "join", "leave", "subscribe", "unsubscribe", "list", "members"] {
        assert!(ran(&["channel", command, "--help"]).ok().contains("--json"), "channel {command}");
    }
    for command in ["list", "add", "remove", "transfer", "drain", "undrain"] {
        assert!(ran(&["server", command, "--help"]).ok().contains("--json"), "{command}");
    }
    for command in [["config", "check"], ["config", "show"], ["cluster", "restart"]] {
        assert!(ran(&[command[0], command[1], "--help"]).ok().contains("--json"), "{command:?}");
    }
}

#[test]
fn the_hidden_flag_stays_hidden() {
    assert!(!ran(&["serve", "--help"]).ok().contains("die-with-parent"));
}

#[test]
fn wrong_arguments_are_refused_with_2_and_say_why() {
    let long = "n".repeat(65);
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage"),
        (&["no-such-command"], "unrecognized subcommand"),
        (&["register"], "<NAME>"),
        (&["register", "no blanks"], "A-Z a-z 0-9 . _ -"),
        (&["register", &long], "1 to 64"),
        (&["send", "--from", "a", "--to", "b"], "<TEXT>"),
        (&["send", "--from", "a", "--to", "b", "text", "--file", "f"], "cannot be used with"),
        (&["send", "--from", "a", "--to", "b", "text", "--lines"], "takes no TEXT"),
        (&["send", "--from", "a", "--to", "b", "text", "--header", "novalue"], "NAME=VALUE"),
        (&["listen", "a", "--count", "0"], "0 is not in"),
        (&["who", "--servers", "localhost"], "HOST:PORT"),
        (&["who", "--timeout", "10"], "unit"),
        (&["status", "--log", "a=b=c"], "log filter"),
        (&["demo", "--ports", "1,2"], "three servers"),
        (&["demo", "--ports", "1,2,2"], "twice"),
        (&["demo", "--messages", "1"], "60"),
        (&["cluster", "--ports", "0"], "not a port"),
        (&["cluster", "restart"], "--rolling"),
        (&["server", "add", "d"], "NAME=HOST:PORT"),
        (&["server", "remove"], "<NAME>"),
        (&["status", "--interval", "1s"], "--watch"),
        (&["status", "--config", "/no/such/file"], "/no/such/file"),
        (&["serve", "--name", "a", "--data", "d"], "--cluster"),
        (&["serve", "--name", "a", "--data", "d", "--cluster", "a"], "NAME=HOST:PORT"),
        (&["serve", "--name", "x", "--data", "d", "--cluster", "a=localhost:1,b=localhost:2"], "which lists a, b"),
        (&["serve", "--name", "a", "--data", "d", "--cluster", "a=h:1", "--election-timeout", "9ms..1ms"], "longer"),
        (
            &["serve", "--name", "a", "--data", "d", "--cluster", "a=localhost:1", "--heartbeat", "140ms"],
            "must be shorter than half the shortest election timeout",
        ),
        (&["serve", "--name", "a", "--data", "d", "--cluster", "a=h:1", "--body-memory", "much"], "not a size"),
    ];
    for (arguments, text) in cases {
        ran(arguments).fails(2, text);
    }
}

#[test]
fn settings_are_taken_from_the_environment() {
    run(restante().arg("who").env("RESTANTE_SERVERS", "nonsense")).fails(2, "HOST:PORT");
    let mut serve = restante();
    serve.arg("serve").env("RESTANTE_NAME", "z").env("RESTANTE_CLUSTER", "a=localhost:1").env("RESTANTE_DATA", "d");
    run(&mut serve).fails(2, "z is not in --cluster");
}

#[test]
fn a_server_stays_on_this_machine_unless_told_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    for listen in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "example.org:1"] {
        let mut serve = restante();
        serve.args(["serve", "--name", "a", "--cluster", "a=127.0.0.1:1", "--listen", listen, "--data"]).arg(&data);
        run(&mut serve).fails(2, "--insecure");
    }
    assert!(!data.exists(), "nothing is made before the arguments are right");
}

#[test]
fn insecure_lets_a_server_listen_beyond_this_machine() {
    // The address belongs to nobody here, so that the server gets as far as trying to listen and no further.
    let directory = tempfile::tempdir().unwrap();
    let mut serve = restante();
    serve.args(["serve", "--name", "a", "--cluster", "a=192.0.2.1:9", "--insecure", "--data"]).arg(directory.path());
    run(&mut serve).fails(1, "192.0.2.1:9");
}

#[test]
fn a_port_in_use_is_named() {
    let [taken, other, third] = free_ports(3)[..] else { unreachable!() };
    let _holder = TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{taken}");

    let mut serve = restante();
    serve.args(["serve", "--name", "a", "--cluster", &format!("a={address}"), "--data"]);
    run(serve.arg(directory.path().join("serve"))).fails(5, &address);

    let ports = format!("{other},{third},{taken}");
    let empty = directory.path().join("tmp");
    fs::create_dir(&empty).unwrap();
    let demo = run(restante().args(["demo", "--ports", &ports]).env("TMPDIR", &empty));
    demo.fails(5, &format!("port {taken} is in use")).fails(5, "--ports");
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0, "the demo left something behind");

    let data = directory.path().join("cluster");
    run(restante().args(["cluster", "--ports", &ports, "--data"]).arg(&data)).fails(5, &format!("port {taken}"));
    assert!(!data.exists());
}

#[test]
fn a_data_directory_in_use_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let lock = File::create(directory.path().join("lock")).unwrap();
    lock.try_lock().unwrap();
    let port = free_ports(1)[0];
    let mut serve = restante();
    serve.args(["serve", "--name", "a", "--cluster", &format!("a=127.0.0.1:{port}"), "--data"]).arg(directory.path());
    run(&mut serve).fails(6, &directory.path().display().to_string()).fails(6, "in use");
}

#[test]
fn the_demo_wants_an_empty_directory() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("old"), "data").unwrap();
    let ports: Vec<String> = free_ports(3).iter().map(ToString::to_string).collect();
    let mut demo = restante();
    demo.args(["demo", "--ports", &ports.join(","), "--data"]).arg(directory.path());
    run(&mut demo).fails(6, "is not empty");
    assert!(directory.path().join("old").exists());
}

#[test]
fn without_a_server_client_commands_give_up_in_time() {
    let address = format!("127.0.0.1:{}", free_ports(1)[0]);
    let began = Instant::now();
    for arguments in [
        &["who"][..],
        &["status"],
        &["register", "a"],
        &["deregister", "a"],
        &["listen", "a", "--count", "1"],
        &["send", "--from", "a", "--to", "b", "text"],
    ] {
        let ran = run(restante().args(["--servers", &address, "--timeout", "300ms"]).args(arguments));
        let ran = ran.fails(4, "answers");
        assert_eq!(ran.stdout, "");
    }
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
}

#[test]
fn what_cannot_be_sent_is_found_before_a_server_is() {
    let directory = tempfile::tempdir().unwrap();
    let large = directory.path().join("large");
    fs::write(&large, vec![b'x'; (1 << 20) + 1]).unwrap();
    let send = |file: &str| ran(&["send", "--from", "a", "--to", "b", "--servers", "127.0.0.1:1", "--file", file]);
    send(large.to_str().unwrap()).fails(2, "larger than 1.0 MiB");
    send("/no/such/file").fails(1, "/no/such/file");
}

#[test]
fn a_server_does_not_start_for_a_parent_that_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let mut serve = restante();
    serve.args(["serve", "--name", "a", "--cluster", "a=127.0.0.1:1", "--die-with-parent", "1", "--data"]);
    run(serve.arg(directory.path())).fails(1, "is gone");
}

/// A running `restante cluster`, its servers' process ids, and its further output.
struct Running {
    child: Child,
    servers: Vec<u32>,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    _directory: tempfile::TempDir,
}

impl Running {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ports: Vec<String> = free_ports(3).iter().map(ToString::to_string).collect();
        let mut command = restante();
        command.args(["cluster", "--ports", &ports.join(","), "--data"]).arg(directory.path());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut running = Self { child, servers: Vec::new(), lines, _directory: directory };
        while running.servers.len() < 3 {
            let line = running.line_with("(pid ");
            let pid = line.split("(pid ").nth(1).and_then(|rest| rest.split(')').next());
            running.servers.push(pid.unwrap().parse().unwrap());
        }
        running.line_with("Ctrl-C stops all");
        for pid in &running.servers {
            // Until its own name is on it, the process still is a copy of its parent.
            wait_for("a server's process", || {
                let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
                line.contains("\0serve\0").then_some(())
            });
        }
        running
    }

    #[track_caller]
    fn line_with(&mut self, text: &str) -> String {
        let mut before = Vec::new();
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            if line.contains(text) {
                return line;
            }
            before.push(line);
        }
        panic!("no line with {text:?} came, but {before:#?}");
    }

    fn all_gone(&self) {
        wait_for("all servers to be gone", || self.servers.iter().all(|pid| !lives(*pid)).then_some(()));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn ctrl_c_stops_the_whole_cluster() {
    let mut cluster = Running::start();
    // The signals come after the servers took them over, or the first would end one before it could say so.
    signal(cluster.child.id(), "INT");
    cluster.line_with("stopping all");
    let status = cluster.child.wait().unwrap();
    assert!(status.success(), "{status}");
    cluster.all_gone();
}

#[test]
fn a_server_that_dies_is_reported_and_the_others_go_on() {
    let mut cluster = Running::start();
    signal(cluster.servers[1], "KILL");
    let line = cluster.line_with("was killed by signal 9");
    assert!(line.contains("b was killed"), "{line}");
    assert!(line.contains("2 of 3 are left"), "{line}");
    assert!(lives(cluster.servers[0]) && lives(cluster.servers[2]));
    assert!(cluster.child.try_wait().unwrap().is_none());
}

#[test]
fn no_server_outlives_a_cluster_command_that_was_killed() {
    let mut cluster = Running::start();
    // A server asks for its death as the first thing it does, but it must have got that far: it has when it logs its
    // end, or, as here, when it holds its lock.
    for name in ["a", "b", "c"] {
        let lock = cluster._directory.path().join(name).join("lock");
        wait_for("a server's lock", || {
            let file = File::open(&lock).ok()?;
            matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)).then_some(())
        });
    }
    cluster.child.kill().unwrap();
    cluster.child.wait().unwrap();
    cluster.all_gone();
}

/// A file of settings in a directory of its own.
fn config(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("restante.toml");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

#[test]
fn options_go_before_the_environment_and_that_before_the_file_and_that_before_the_defaults() {
    let (_directory, file) = config("servers = [\"127.0.0.1:1\"]\ntimeout = \"50ms\"\n");
    let tried = |arguments: &[&str], variable: Option<&str>| {
        let mut command = restante();
        command.args(["status"]).args(arguments);
        if let Some(servers) = variable {
            command.env("RESTANTE_SERVERS", servers);
        }
        run(&mut command).fails(4, "no server answers").stderr
    };
    assert!(tried(&["--config", &file], None).contains("127.0.0.1:1:"));
    assert!(tried(&[&format!("--config={file}")], Some("127.0.0.1:2")).contains("127.0.0.1:2:"));
    let given = tried(&["--config", &file, "--servers", "127.0.0.1:3"], Some("127.0.0.1:2"));
    assert!(given.contains("127.0.0.1:3:") && !given.contains("127.0.0.1:1:"), "{given}");
    let named_by_environment = run(restante().arg("status").env("RESTANTE_CONFIG", &file));
    named_by_environment.fails(4, "127.0.0.1:1:");
}

#[test]
fn a_server_can_be_told_everything_by_a_file() {
    let text = "name = \"a\"\ndata = \"/dev/null/x\"\n[cluster]\na = \"127.0.0.1:1\"\n";
    let (_directory, file) = config(text);
    ran(&["serve", "--config", &file]).fails(1, "/dev/null/x");
    ran(&["serve", "--config", &file, "--name", "b"]).fails(2, "which lists a");
    ran(&["serve", "--help", "--config", &file]).ok();
}

#[test]
fn a_file_is_checked_as_a_whole_and_says_what_is_in_force() {
    let (_directory, good) = config("heartbeat = \"30ms\"\n\n[cluster]\na = \"h:1\"\n");
    let shown = run(restante().args(["config", "check", &good, "--json"]).env("RESTANTE_SEGMENT", "64MiB")).json();
    let setting = |name: &str| shown["settings"].as_array().unwrap().iter().find(|s| s["name"] == name).unwrap();
    assert_eq!((&setting("heartbeat")["value"], &setting("heartbeat")["from"]), (&"30ms".into(), &"file".into()));
    assert!(setting("heartbeat")["place"].as_str().unwrap().ends_with("restante.toml:1"));
    assert_eq!(setting("cluster")["value"], "a=h:1");
    assert_eq!((&setting("segment")["from"], &setting("segment")["value"]), (&"environment".into(), &"64MiB".into()));
    assert_eq!((&setting("timeout")["from"], &setting("timeout")["value"]), (&"default".into(), &"10s".into()));
    assert!(setting("name")["value"].is_null());
    assert!(ran(&["config", "check", &good]).ok().contains("restante.toml is good"));

    let (_directory, bad) = config("hartbeat = \"30ms\"\ntimeout = 3\n");
    let refused = ran(&["config", "check", &bad]).fails(2, "restante.toml has 2 errors");
    assert!(refused.stderr.contains("restante.toml:1:1: ") && refused.stderr.contains("did you mean \"heartbeat\"?"));
    assert!(refused.stderr.contains("restante.toml:2:11: "), "{}", refused.stderr);
    ran(&["status", "--config", &bad]).fails(2, "has 2 errors");
    // What helps to mend it works none the less.
    run(restante().args(["config", "check", &good]).env("RESTANTE_CONFIG", &bad)).ok();
    run(restante().args(["--help"]).env("RESTANTE_CONFIG", &bad)).ok();

    let contradictory = "name = \"a\"\ndata = \"d\"\nheartbeat = \"90ms\"\n[cluster]\na = \"127.0.0.1:1\"\n";
    let (_directory, contradictory) = config(contradictory);
    ran(&["config", "check", &contradictory]).fails(2, "must be shorter than half");

    let example = ran(&["config", "example"]).ok();
    assert!(example.contains("#: heartbeat = \"40ms\"") && example.contains("RESTANTE_HEARTBEAT"), "{example}");
}

#[test]
fn completions_and_man_pages_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        let script = ran(&["completions", shell]).ok();
        assert!(script.contains("restante") && script.contains("drain"), "{shell}: {script}");
    }
    let directory = tempfile::tempdir().unwrap();
    ran(&["man", directory.path().join("man1").to_str().unwrap()]).ok();
    let page = |name: &str| fs::read_to_string(directory.path().join("man1").join(name)).unwrap();
    assert!(page("restante-serve.1").contains("heartbeat"));
    assert!(page("restante-server-drain.1").contains("undrain"));
}
