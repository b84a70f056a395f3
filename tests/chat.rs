//! `restante chat`, without a terminal: lines in and lines out.

#![expect(clippy::disallowed_methods, reason = "these tests run on the real machine")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};

use support::{Cluster, PATIENCE, run, wait_for};

/// A chat that goes on.
struct Going {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Going {
    fn start(cluster: &Cluster, arguments: &[&str]) -> Self {
        let mut command = cluster.restante(&[&["chat"], arguments].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command can be started");
        let (input, out) = (child.stdin.take(), child.stdout.take().expect("a pipe"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)).ok();
        });
        Self { child, input, lines }
    }

    fn types(&mut self, line: &str) {
        writeln!(self.input.as_mut().expect("it is open"), "{line}").expect("it reads");
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line")
    }

    /// Ends the input; how the chat ended and what it said on the standard error.
    fn leave(mut self) -> (Option<i32>, String) {
        drop(self.input.take());
        let status = wait_for("the chat to end", || self.child.try_wait().expect("it can be waited for"));
        let mut told = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut told).expect("a text");
        (status.code(), told)
    }
}

#[test]
fn two_chat_while_a_server_dies() {
    let mut cluster = Cluster::start(3);
    for name in ["alice", "bob"] {
        cluster.run(&["register", name]).ok();
    }
    run(cluster.restante(&["chat", "nobody"]).stdin(Stdio::null())).fails(3, "cannot chat as nobody");
    let mut alice = Going::start(&cluster, &["alice", "--to", "bob"]);
    let mut bob = Going::start(&cluster, &["bob"]);
    alice.types("hello");
    assert_eq!(bob.next(), "     1  alice: hello");
    bob.types("/to alice");
    bob.types("//hi");
    assert_eq!(alice.next(), "     1  bob: /hi");
    for number in 0..3 {
        cluster.kill(number);
        alice.types(&format!("{number} was killed"));
        assert_eq!(bob.next(), format!("{:>6}  alice: {number} was killed", number + 2));
        cluster.start_server(number);
        cluster.wait_for_leader();
    }
    let told = [alice.leave(), bob.leave()];
    assert!(told.iter().all(|(code, _)| *code == Some(0)), "{told:?}");
    assert!(told.iter().any(|(_, told)| told.contains("went on at server")), "{told:?}");
    // What was printed was acknowledged.
    let who = cluster.run(&["who", "--json"]).json();
    assert!(who["clients"].as_array().expect("clients").iter().all(|row| row["waiting"] == 0), "{who:#}");
}

#[test]
fn what_is_typed_before_the_end_is_sent_and_nonsense_is_refused() {
    let cluster = Cluster::start(1);
    for name in ["alice", "bob"] {
        cluster.run(&["register", name]).ok();
    }
    let mut alice = Going::start(&cluster, &["alice", "--to", "bob"]);
    (1..=500).for_each(|n| alice.types(&format!("line {n}")));
    assert_eq!(alice.leave().0, Some(0));
    let got = cluster.run(&["listen", "bob", "--count", "500"]).ok();
    assert!(got.lines().eq((1..=500).map(|n| format!("{n:>6}  alice: line {n}"))), "{got}");
    let mut bob = Going::start(&cluster, &["bob"]);
    bob.types("to nobody in particular");
    let (code, told) = bob.leave();
    assert!(code == Some(2) && told.contains("/to NAME"), "{code:?} {told}");
}
