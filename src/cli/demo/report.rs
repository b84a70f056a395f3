//! How the demo ends: the table, and whether it is as it must be.

use restante::wire::client::Status;
use serde::Serialize;

use super::super::children::Server;
use super::super::failure::{Exit, Failure};
use super::super::output::{grouped, span};
use super::super::table::{Side, render};
use super::journal::{Awaited, Counts};
use super::stage::Outage;

/// How many errors are shown; a fault that shows a hundred times is known after a few.
const SHOWN: usize = 5;

/// How it ended.
#[derive(Debug, Serialize)]
pub struct Report {
    ok: bool,
    counts: Counts,
    /// The client that had the longest pause.
    longest_pause_of: Option<usize>,
    killed: Killed,
    servers: Vec<State>,
    /// What clients complained of.
    errors: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Killed {
    server: String,
    pid: u32,
    successor: String,
    leaderless_ms: u64,
    caught_up_ms: u64,
    clients_moved: usize,
}

#[derive(Debug, Serialize)]
struct State {
    name: String,
    port: u16,
    applied_index: u64,
    /// In hexadecimal.
    digest: String,
}

impl Report {
    /// Of these.
    pub fn new(counts: Counts, outage: Outage, servers: &[Server], states: &[Status], mut errors: Vec<String>) -> Self {
        // Lost by the cluster or only late: that is the first thing to know.
        let waiting = states.iter().map(|status| status.waiting).max().unwrap_or(0);
        errors.extend(counts.lost_by.iter().map(|(who, lost)| {
            let (who, lost, waiting) = (who + 1, grouped(*lost), grouped(waiting));
            format!("client {who} did not get {lost} accepted messages; the servers say that {waiting} wait in all")
        }));
        let state = |(server, status): (&Server, &Status)| State {
            name: server.name.to_string(),
            port: server.port,
            applied_index: status.applied_index,
            digest: status.digest.map_or_else(|| "unknown".to_owned(), |digest| format!("{digest:016x}")),
        };
        let servers: Vec<State> = servers.iter().zip(states).map(state).collect();
        let equal = servers.iter().all(|server| server.digest == servers[0].digest);
        Self {
            ok: counts.are_right() && equal && errors.is_empty(),
            longest_pause_of: counts.longest_pause.map(|pause| pause.who + 1),
            counts,
            killed: Killed {
                server: outage.killed.to_string(),
                pid: outage.pid,
                successor: outage.successor.to_string(),
                leaderless_ms: outage.leaderless.as_millis() as u64,
                caught_up_ms: outage.caught_up.as_millis() as u64,
                clients_moved: outage.moved,
            },
            servers,
            errors,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let counts = &self.counts;
        let (pause, whose) = match counts.longest_pause {
            None => ("none".to_owned(), String::new()),
            Some(pause) => {
                let what = match pause.waited_for {
                    Awaited::Receipt => "a receipt",
                    Awaited::Delivery => "a delivery",
                };
                (span(pause.length), format!("  client {} waited for {what}", pause.who + 1))
            }
        };
        let mut text = "\nCounted from what the clients wrote down:\n\n".to_owned();
        let rows = [
            ("sent", counts.sent, None),
            ("accepted", counts.accepted, Some(counts.sent)),
            ("delivered", counts.delivered, Some(counts.accepted)),
            ("lost", counts.lost, Some(0)),
            ("doubled", counts.doubled, Some(0)),
            ("out of order", counts.out_of_order, Some(0)),
            ("altered", counts.altered, Some(0)),
        ];
        for (what, number, expected) in rows {
            let off = match expected.filter(|expected| *expected != number) {
                Some(expected) => format!("  must be {}", grouped(expected)),
                None => String::new(),
            };
            text.push_str(&format!("  {what:<14}{:>10}{off}\n", grouped(number)));
        }
        text.push_str(&format!("  {:<14}{pause:>10}{whose}\n\n", "longest pause"));
        let rows: Vec<_> = self
            .servers
            .iter()
            .map(|s| [format!("  {}", s.name), s.port.to_string(), s.applied_index.to_string(), s.digest.clone()])
            .collect();
        let heads =
            [("  SERVER", Side::Left), ("PORT", Side::Right), ("APPLIED", Side::Right), ("STATE DIGEST", Side::Left)];
        text.push_str(&render(heads, &rows));
        if !self.errors.is_empty() {
            text.push('\n');
            for error in self.errors.iter().take(SHOWN) {
                text.push_str(&format!("  {error}\n"));
            }
            if let Some(more) = self.errors.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                text.push_str(&format!("  and {more} more\n"));
            }
        }
        if self.ok {
            text.push_str("\nNothing was lost, doubled or put out of order, and the servers' states are equal.\n");
        }
        text
    }

    /// Whether it is as it must be.
    ///
    /// # Errors
    /// It is not.
    pub fn verdict(&self) -> Result<(), Failure> {
        if self.ok {
            return Ok(());
        }
        Err(Failure::new(Exit::CountsOff, "a count is off: this is a fault of Restante, please report it"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use restante::wire::Name;

    use super::super::super::observe::made;
    use super::super::journal::Pause;
    use super::*;

    fn report(counts: Counts) -> Report {
        report_of(counts, [0xabc; 3])
    }

    fn report_of(counts: Counts, digests: [u64; 3]) -> Report {
        let name = |text| Name::new(text).unwrap();
        let outage = Outage {
            killed: name("b"),
            pid: 4711,
            successor: name("c"),
            leaderless: Duration::from_millis(310),
            caught_up: Duration::from_millis(900),
            moved: 2,
        };
        let servers: Vec<Server> = ["a", "b", "c"]
            .into_iter()
            .zip(8080..)
            .map(|(letter, port)| Server { name: name(letter), port, data: PathBuf::new() })
            .collect();
        let state = |digest| Status { digest: Some(digest), ..made::status("a", "follower", Some("c"), &[]) };
        let states = digests.map(state);
        Report::new(counts, outage, &servers, &states, Vec::new())
    }

    fn good() -> Counts {
        let longest_pause = Some(Pause {
            who: 2,
            waited_for: Awaited::Receipt,
            length: Duration::from_millis(384),
            from: Duration::from_secs(1),
        });
        Counts { sent: 12_006, accepted: 12_006, delivered: 12_006, longest_pause, ..Counts::default() }
    }

    #[test]
    fn zeros_pass() {
        let report = report(good());
        assert!(report.verdict().is_ok());
        let text = report.text();
        assert!(text.contains("  sent              12,006\n"), "{text}");
        assert!(text.contains("  lost                   0\n"), "{text}");
        assert!(text.contains("  longest pause     0.38 s  client 3 waited for a receipt\n"), "{text}");
        assert!(text.contains("  b       8081       11  0000000000000abc\n"), "{text}");
        assert!(text.contains("Nothing was lost"), "{text}");
    }

    #[test]
    fn a_count_that_is_off_is_named_and_fails() {
        for counts in [
            Counts { lost: 1, delivered: 12_005, ..good() },
            Counts { doubled: 1, ..good() },
            Counts { out_of_order: 1, ..good() },
            Counts { altered: 1, ..good() },
            Counts { accepted: 12_005, ..good() },
        ] {
            let report = report(counts);
            assert_eq!(report.verdict().unwrap_err().exit, Exit::CountsOff);
            assert!(report.text().contains("must be"), "{}", report.text());
        }
    }

    #[test]
    fn states_that_differ_fail() {
        assert!(report_of(good(), [1, 1, 1]).verdict().is_ok());
        assert!(report_of(good(), [1, 2, 1]).verdict().is_err());
    }

    #[test]
    fn json_is_flat_enough_for_jq() {
        let json = serde_json::to_value(report(good())).unwrap();
        assert_eq!(json["ok"], true);
        assert_eq!(json["counts"]["lost"], 0);
        assert_eq!(json["counts"]["longest_pause"]["ms"], 384);
        assert_eq!(json["longest_pause_of"], 3);
        assert_eq!(json["killed"]["pid"], 4711);
        assert_eq!(json["servers"][2]["digest"], "0000000000000abc");
    }
}
