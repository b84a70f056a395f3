//! The cluster, put together from what its servers say.

use restante::client::{DiskCondition, DiskStatus, Status as Answer};
use serde::Serialize;

use super::super::observe::Asked;

/// The cluster, put together from what its servers say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct View {
    pub cluster: Option<String>,
    pub leader: Option<String>,
    pub term: u64,
    pub clients: u64,
    pub waiting: u64,
    pub servers: Vec<Server>,
    pub problems: Vec<String>,
}

/// One server; all but name and address is unknown when it does not answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Server {
    pub name: Option<String>,
    pub address: String,
    pub answers: bool,
    pub role: Option<String>,
    pub leader: Option<String>,
    pub term: Option<u64>,
    pub incarnation: Option<u64>,
    pub voter: Option<bool>,
    pub last_index: Option<u64>,
    pub committed_index: Option<u64>,
    pub applied_index: Option<u64>,
    pub lag: Option<u64>,
    /// In hexadecimal; equal on servers that applied the same entries. Only if it was asked for.
    pub digest: Option<String>,
    pub checkpoint_index: Option<u64>,
    pub log_bytes: Option<u64>,
    /// It serves no clients and does not lead.
    pub drained: bool,
    /// Whether it serves clients now.
    pub serves: Option<bool>,
    /// Clients that it serves.
    pub sessions: Option<u64>,
    pub disk: Option<Disk>,
}

/// The disk of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disk {
    pub place: String,
    /// `good`, `full`, `hangs` or `damaged`.
    pub condition: &'static str,
    /// What is damaged.
    pub damage: Option<String>,
    pub free_bytes: Option<u64>,
    pub checkpoint_bytes: u64,
    pub quarantine: Vec<SetAside>,
}

/// Data that was set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SetAside {
    /// Below `quarantine/` in the data directory.
    pub directory: String,
    pub unix_ms: Option<u64>,
    pub reason: String,
}

impl View {
    /// A server by its name.
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.servers.iter().find(|server| server.name.as_deref() == Some(name))
    }
}

/// Puts together what the servers said.
pub fn view(asked: &[Asked]) -> View {
    let answers: Vec<&Answer> = asked.iter().filter_map(|asked| asked.answer.as_ref().ok()).collect();
    // A server that was cut off may not know that another one leads; one with a newer term does. One that leads but
    // hears from nobody names no leader.
    let newest = answers.iter().copied().max_by_key(|a| (a.term, a.leader.is_some(), a.applied_index));
    let leader = newest.and_then(|a| a.leader.clone());
    let leading = answers.iter().copied().find(|a| a.role == "leader" && Some(&a.server) == leader.as_ref());

    let mut servers: Vec<Server> = Vec::new();
    let mut problems = Vec::new();
    for Asked { address, answer } in asked {
        // The leader knows best.
        let tables = leading.into_iter().chain(answers.iter().copied());
        let row = tables.flat_map(|a| &a.servers).find(|row| row.server.address == *address);
        match answer {
            Ok(answer) => servers.push(Server::of(answer, address, leading)),
            Err(reason) => {
                let name = row.map(|row| row.server.name.to_string());
                problems.push(format!("{} does not answer here: {reason}", name.as_deref().unwrap_or(address)));
                servers.push(Server {
                    name,
                    address: address.clone(),
                    incarnation: row.and_then(|row| row.incarnation),
                    voter: row.map(|row| row.voter),
                    lag: row.and_then(|row| row.lag),
                    drained: row.is_some_and(|row| row.drained),
                    ..Server::default()
                });
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
        let row = own(leading.unwrap_or(answer));
        // The answers are of different moments: a leader that speaks of the disk that this server had before says nothing of the
        // one that it has now.
        let of_this_disk = row.clone().filter(|row| row.incarnation == answer.incarnation);
        let lag = leading.map(|leading| match of_this_disk.as_ref().and_then(|row| row.lag) {
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
            voter: row.as_ref().map(|_| of_this_disk.is_some_and(|row| row.voter)),
            last_index: Some(answer.last_index),
            committed_index: Some(answer.committed_index),
            applied_index: Some(answer.applied_index),
            lag,
            digest: answer.digest.map(|digest| format!("{digest:016x}")),
            checkpoint_index: Some(answer.checkpoint_index),
            log_bytes: Some(answer.log_bytes),
            drained: row.is_some_and(|row| row.drained),
            serves: Some(answer.serves),
            sessions: Some(answer.sessions),
            disk: answer.disk.as_ref().map(Disk::of),
        }
    }
}

impl Disk {
    fn of(disk: &DiskStatus) -> Self {
        let (condition, damage) = match &disk.condition {
            DiskCondition::Good => ("good", None),
            DiskCondition::Full => ("full", None),
            DiskCondition::Hangs => ("hangs", None),
            DiskCondition::Damaged(reason) => ("damaged", Some(reason.clone())),
        };
        let set_aside = disk.quarantine.iter().map(|it| SetAside {
            directory: it.directory.clone(),
            unix_ms: it.unix_ms,
            reason: it.reason.clone(),
        });
        Self {
            place: disk.place.clone(),
            condition,
            damage,
            free_bytes: disk.free_bytes,
            checkpoint_bytes: disk.checkpoint_bytes,
            quarantine: set_aside.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::observe::made::{address, status};
    use super::super::text::text;
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

    #[test]
    fn what_the_leader_says_of_a_servers_disk_before_is_not_said_of_the_one_it_has_now() {
        let all = ["a", "b", "c"];
        let new_disk = |leader_knows: bool| {
            let [mut a, mut b] =
                [("a", "leader"), ("b", "learner")].map(|(name, role)| answered(name, role, Some("a"), &all));
            if let (Ok(a), Ok(b)) = (&mut a.answer, &mut b.answer) {
                a.servers.iter_mut().for_each(|row| (row.incarnation, row.voter, row.lag) = (Some(2), true, Some(0)));
                b.incarnation = Some(if leader_knows { 2 } else { 77 });
                (a.committed_index, b.applied_index) = (500, 20);
            }
            let view = view(&[a, b, silent("c")]);
            let b = view.server("b").expect("it answered");
            (b.incarnation, b.voter, b.lag)
        };
        assert_eq!(new_disk(true), (Some(2), Some(true), Some(0)));
        assert_eq!(new_disk(false), (Some(77), Some(false), Some(480)));
    }
}
