//! What a message costs, counted and not timed: the same on every machine, however busy it is.
//!
//! Times of a benchmark drift with the machine; how often the servers write to a connection or sync a disk does not. A
//! change that makes a message cost more of either fails here, and whoever makes it says why and sets the bound anew
//! (`cargo test -p restante-sim --test cost -- --nocapture` prints what it is now). What it costs in time is in
//! `docs/performance.md`.

use std::collections::BTreeMap;

use restante_sim::cluster::Cluster;
use restante_sim::plan::Plan;
use restante_sim::run::{Verdict, run};
use restante_sim::trace::Lines;

/// Three servers, no faults, and everybody reads what comes at once.
fn plan(rest: &str) -> Plan {
    let text = format!("seed 1\nservers a b c\nbody 256..256\nlatency 1ms..1ms\nsync 0ms..0ms\nwork 0ms..0ms\n{rest}");
    text.parse().expect("a plan")
}

/// What all servers together did for one message.
#[derive(Debug)]
struct Cost {
    messages: f64,
    /// Writes to connections, those for acknowledgements, pings and Raft's own included.
    writes: f64,
    /// Syncs of a file.
    syncs: f64,
    /// Appends to a log: entries, or several that come together.
    appends: f64,
}

impl Cost {
    fn of(plan: &Plan) -> Self {
        let outcome = run(plan, &Cluster, Lines::ring(usize::MAX));
        assert_eq!(outcome.verdict, Verdict::Passed);
        let mut counts = BTreeMap::<&str, u64>::new();
        for line in &outcome.lines {
            let mut words = line.split_whitespace().skip(2);
            let (Some(host), Some(kind)) = (words.next(), words.next()) else { continue };
            if plan.servers.iter().any(|server| server == host) || kind == "client.delivered" {
                *counts.entry(kind).or_default() += 1;
            }
        }
        let count = |kind: &str| counts.get(kind).copied().unwrap_or(0) as f64;
        let messages = count("client.delivered");
        Self {
            messages,
            writes: count("net.write") / messages,
            syncs: count("disk.sync") / messages,
            appends: count("log.append") / messages,
        }
    }

    fn assert_at_most(&self, what: &str, writes: f64, syncs: f64, appends: f64) {
        println!("{what}: {self:.2?}");
        assert!(self.messages >= 200.0, "{what}: {self:?}");
        for (is, most, of_what) in
            [(self.writes, writes, "writes"), (self.syncs, syncs, "syncs"), (self.appends, appends, "appends")]
        {
            assert!(is <= most, "{what}: {is:.2} {of_what} a message, and {most} is the bound: {self:.2?}");
        }
    }
}

#[test]
fn a_message_that_is_sent_alone() {
    let alone =
        plan("clients 2\nmessages 150\nduration 60s\npace 100ms..300ms\nsleep 0ms..0ms\nabandon 0\nshare 0\nask 0\n");
    Cost::of(&alone).assert_at_most("alone", 42.0, 7.5, 8.0);
}

#[test]
fn a_message_among_many() {
    let busy =
        plan("clients 6\nmessages 400\nduration 10s\npace 0ms..1ms\nsleep 0ms..0ms\nabandon 0\nshare 0\nask 0\n");
    Cost::of(&busy).assert_at_most("among many", 8.5, 2.2, 2.4);
}
