//! `restante status`.

use std::time::Duration;

use clap::Args;
use restante::wire::client::Status as Answer;
use serde::Serialize;

use super::failure::{Exit, Failure};
use super::observe::{self, Asked};
use super::output::{Output, grouped, size};
use super::reach::Reach;
use super::table::{Side, render};

/// Show the servers: who leads, who lags, and what is wrong.
///
/// Every server is asked for itself. When there is no leader, it says who cannot reach whom, and exits with 4.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  restante status
  restante status --json | jq -r .leader
  until restante status >/dev/null 2>&1; do sleep 0.1; done      wait until there is a leader")]
pub struct Status {
    #[command(flatten)]
    output: Output,
}

/// The cluster, put together from what its servers say.
#[derive(Debug, Serialize)]
struct View {
    cluster: Option<String>,
    leader: Option<String>,
    term: u64,
    clients: u64,
    waiting: u64,
    servers: Vec<Server>,
    problems: Vec<String>,
}

/// One server; all but name and address is unknown when it does not answer.
#[derive(Debug, Default, Serialize)]
struct Server {
    name: Option<String>,
    address: String,
    answers: bool,
    role: Option<String>,
    leader: Option<String>,
    term: Option<u64>,
    incarnation: Option<u64>,
    voter: Option<bool>,
    last_index: Option<u64>,
    committed_index: Option<u64>,
    applied_index: Option<u64>,
    lag: Option<u64>,
    /// In hexadecimal; equal on servers that applied the same entries.
    digest: Option<String>,
    checkpoint_index: Option<u64>,
    log_bytes: Option<u64>,
}

impl Status {
    /// Shows the servers.
    ///
    /// # Errors
    /// No server answers, or there is no leader.
    pub async fn run(&self, reach: &Reach) -> Result<(), Failure> {
        // A server that is down must not make everybody wait for as long as a request may take.
        let asked = observe::survey(&reach.servers.0, reach.timeout.min(Duration::from_secs(2))).await;
        if asked.iter().all(|asked| asked.answer.is_err()) {
            let tried: Vec<String> = asked
                .iter()
                .map(|asked| format!("{}: {}", asked.address, asked.answer.as_ref().err().map_or("", |e| e)))
                .collect();
            return Err(Failure::new(Exit::Unavailable, "no server answers")
                .hint(format!("{}\nIs the cluster running? --servers names other servers.", tried.join("\n"))));
        }
        let view = view(&asked);
        self.output.print(&view, text)?;
        match view.leader {
            Some(_) => Ok(()),
            None => Err(Failure::new(Exit::Unavailable, "there is no leader")),
        }
    }
}

fn view(asked: &[Asked]) -> View {
    let answers: Vec<&Answer> = asked.iter().filter_map(|asked| asked.answer.as_ref().ok()).collect();
    // A server that was cut off may not know that another one leads; one with a newer term does. One that leads but
    // hears from nobody names no leader.
    let newest = answers.iter().copied().max_by_key(|a| (a.term, a.leader.is_some(), a.applied_index));
    let leader = newest.and_then(|a| a.leader.clone());
    let leading = answers.iter().copied().find(|a| a.role == "leader" && Some(&a.server) == leader.as_ref());

    let mut servers: Vec<Server> = Vec::new();
    let mut problems = Vec::new();
    for Asked { address, answer } in asked {
        let row = answers.iter().flat_map(|a| &a.servers).find(|row| row.server.address == *address);
        match answer {
            Ok(answer) => servers.push(Server::of(answer, address, leading)),
            Err(reason) => {
                let name = row.map(|row| row.server.name.to_string());
                problems.push(format!("{} does not answer here: {reason}", name.as_deref().unwrap_or(address)));
                servers.push(Server { name, address: address.clone(), ..Server::default() });
            }
        }
    }
    servers.sort_by(|one, other| (&one.name, &one.address).cmp(&(&other.name, &other.address)));
    for answer in &answers {
        // A server that has words for it has said more than its table does.
        if leader.is_none() && answer.problems.is_empty() {
            for row in answer.servers.iter().filter(|row| !row.reachable && row.server.name != answer.server) {
                let reason = row.problem.as_ref().map_or(String::new(), |problem| format!(": {problem}"));
                problems.push(format!("{} cannot reach {}{reason}", answer.server, row.server.name));
            }
        }
        problems.extend(answer.problems.iter().map(|problem| format!("{} says: {problem}", answer.server)));
    }
    if leader.is_none() {
        let voters = newest.map_or(0, |a| a.servers.iter().filter(|row| row.voter).count());
        if voters > 0 {
            let live = answers.iter().filter(|a| a.role != "learner" && a.role != "joining").count();
            let needed = voters / 2 + 1;
            problems
                .push(format!("a leader needs {needed} of {voters} servers that reach each other; {live} answer here"));
        }
    }
    View {
        cluster: newest.and_then(|a| a.cluster).map(|cluster| cluster.to_string()),
        leader: leader.map(|name| name.to_string()),
        term: newest.map_or(0, |a| a.term),
        clients: newest.map_or(0, |a| a.clients),
        waiting: newest.map_or(0, |a| a.waiting),
        servers,
        problems,
    }
}

impl Server {
    fn of(answer: &Answer, address: &str, leading: Option<&Answer>) -> Self {
        let own = |a: &Answer| a.servers.iter().find(|row| row.server.name == answer.server).cloned();
        let lag = leading.map(|leading| match own(leading).and_then(|row| row.lag) {
            Some(lag) => lag,
            None => leading.committed_index.saturating_sub(answer.applied_index),
        });
        Self {
            name: Some(answer.server.to_string()),
            address: address.to_owned(),
            answers: true,
            role: Some(answer.role.clone()),
            leader: answer.leader.as_ref().map(ToString::to_string),
            term: Some(answer.term),
            incarnation: answer.incarnation,
            voter: own(leading.unwrap_or(answer)).map(|row| row.voter),
            last_index: Some(answer.last_index),
            committed_index: Some(answer.committed_index),
            applied_index: Some(answer.applied_index),
            lag,
            digest: Some(format!("{:016x}", answer.digest)),
            checkpoint_index: Some(answer.checkpoint_index),
            log_bytes: Some(answer.log_bytes),
        }
    }
}

fn text(view: &View) -> String {
    let mut text = match (&view.leader, &view.cluster) {
        (Some(leader), _) => format!("{leader} leads, in term {}", view.term),
        (None, Some(_)) => "no leader: nothing is accepted until there is one".to_owned(),
        (None, None) => "no cluster is founded yet: every listed server must be there for that".to_owned(),
    };
    text.push_str(&format!("; {} clients, {} messages wait", grouped(view.clients), grouped(view.waiting)));
    if let Some(cluster) = &view.cluster {
        text.push_str(&format!("; cluster {cluster}"));
    }
    text.push_str("\n\n");
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let rows: Vec<_> = view
        .servers
        .iter()
        .map(|server| {
            [
                server.name.clone().unwrap_or_else(|| "?".to_owned()),
                server.address.clone(),
                match server.role.as_deref() {
                    Some("leader") if server.leader.is_none() => "leader, cut off".to_owned(),
                    Some(role) => role.to_owned(),
                    None => "no answer".to_owned(),
                },
                number(server.term),
                number(server.committed_index),
                number(server.applied_index),
                number(server.lag),
                number(server.checkpoint_index),
                server.log_bytes.map_or_else(|| "-".to_owned(), size),
                server.digest.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    let heads = [
        ("SERVER", Side::Left),
        ("ADDRESS", Side::Left),
        ("ROLE", Side::Left),
        ("TERM", Side::Right),
        ("COMMITTED", Side::Right),
        ("APPLIED", Side::Right),
        ("LAG", Side::Right),
        ("CHECKPOINT", Side::Right),
        ("LOG", Side::Right),
        ("STATE DIGEST", Side::Left),
    ];
    text.push_str(&render(heads, &rows));
    if !view.problems.is_empty() {
        text.push('\n');
        for problem in &view.problems {
            text.push_str(&format!("  {problem}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::observe::made::{address, status};
    use super::*;

    fn answered(server: &str, role: &str, leader: Option<&str>, reaches: &[&str]) -> Asked {
        Asked { address: address(server), answer: Ok(status(server, role, leader, reaches)) }
    }

    fn silent(server: &str) -> Asked {
        Asked { address: address(server), answer: Err("connection refused".to_owned()) }
    }

    #[test]
    fn the_leader_is_the_newest_terms() {
        let mut old = answered("a", "leader", Some("a"), &["a"]);
        if let Ok(status) = &mut old.answer {
            status.term = 2;
        }
        let all = ["a", "b", "c"];
        let view = view(&[old, answered("b", "leader", Some("b"), &all), answered("c", "follower", Some("b"), &all)]);
        assert_eq!(view.leader.as_deref(), Some("b"));
        assert_eq!(view.term, 3);
        assert!(text(&view).starts_with("b leads, in term 3; 6 clients, 2 messages wait"), "{}", text(&view));
    }

    #[test]
    fn a_leader_that_hears_from_nobody_leads_nobody() {
        let view = view(&[answered("a", "leader", None, &["a"]), silent("b"), silent("c")]);
        assert_eq!(view.leader, None);
        assert!(text(&view).contains("leader, cut off"), "{}", text(&view));
    }

    #[test]
    fn without_a_leader_it_says_who_cannot_reach_whom() {
        let view = view(&[answered("a", "candidate", None, &["a"]), silent("b"), silent("c")]);
        assert_eq!(view.leader, None);
        assert_eq!(
            view.problems,
            [
                "b does not answer here: connection refused",
                "c does not answer here: connection refused",
                "a cannot reach b: connection refused",
                "a cannot reach c: connection refused",
                "a leader needs 2 of 3 servers that reach each other; 1 answer here",
            ]
        );
        assert_eq!(view.servers[1].name.as_deref(), Some("b"), "the others know the silent one's name");
        assert!(!view.servers[1].answers);
    }

    #[test]
    fn with_a_leader_an_unreachable_server_is_told_once() {
        let reach = ["a", "b"];
        let view = view(&[
            answered("a", "leader", Some("a"), &reach),
            answered("b", "follower", Some("a"), &reach),
            silent("c"),
        ]);
        assert_eq!(view.problems, ["c does not answer here: connection refused"]);
    }
}
