//! A status as text.

use std::time::{Duration, UNIX_EPOCH};

use super::super::output::{grouped, printable, size};
use super::super::table::{Side, render_columns};
use super::view::{Server, View};

/// The status for people.
pub fn text(view: &View) -> String {
    let mut text = headline(view);
    text.push_str("\n\n");
    text.push_str(&table(view));
    let set_aside = set_aside(view);
    for (title, lines) in [("Wrong:", &view.problems), ("Set aside, and kept for you to look at:", &set_aside)] {
        if !lines.is_empty() {
            text.push_str(&format!("\n{title}\n"));
            lines.iter().for_each(|line| text.push_str(&format!("  {}\n", printable(line))));
        }
    }
    text
}

fn headline(view: &View) -> String {
    let mut text = match (&view.leader, &view.cluster) {
        (Some(leader), _) => format!("{leader} leads, in term {}", view.term),
        (None, Some(_)) => "no leader: nothing is accepted until there is one".to_owned(),
        (None, None) => "no cluster is founded yet: every listed server must be there for that".to_owned(),
    };
    text.push_str(&format!("; {} clients, {} messages wait", grouped(view.clients), grouped(view.waiting)));
    if let Some(cluster) = &view.cluster {
        text.push_str(&format!("; cluster {cluster}"));
    }
    text
}

fn table(view: &View) -> String {
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let bytes = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), size);
    let digests = view.servers.iter().any(|server| server.digest.is_some());
    let mut heads = vec![
        ("SERVER", Side::Left),
        ("ADDRESS", Side::Left),
        ("ROLE", Side::Left),
        ("SERVES", Side::Left),
        ("APPLIED", Side::Right),
        ("LAG", Side::Right),
        ("LOG", Side::Right),
        ("CHECKPOINT", Side::Right),
        ("FREE", Side::Right),
        ("DISK", Side::Left),
        ("INCARNATION", Side::Right),
    ];
    heads.extend(digests.then_some(("STATE DIGEST", Side::Left)));
    let row = |server: &Server| {
        let disk = server.disk.as_ref();
        let mut row = vec![
            server.name.clone().unwrap_or_else(|| "?".to_owned()),
            server.address.clone(),
            role(server),
            serves(server),
            number(server.applied_index),
            number(server.lag),
            bytes(server.log_bytes),
            bytes(disk.map(|disk| disk.checkpoint_bytes)),
            bytes(disk.and_then(|disk| disk.free_bytes)),
            disk.map_or("-", |disk| disk.condition).to_owned(),
            number(server.incarnation),
        ];
        row.extend(digests.then(|| server.digest.clone().unwrap_or_else(|| "-".to_owned())));
        row
    };
    render_columns(&heads, &view.servers.iter().map(row).collect::<Vec<_>>())
}

/// What a server is.
pub fn role(server: &Server) -> String {
    match server.role.as_deref() {
        Some("leader") if server.leader.is_none() => "leader, cut off".to_owned(),
        Some(role) => role.to_owned(),
        None if server.incarnation.is_none() && server.voter == Some(false) => "not started yet".to_owned(),
        None => "no answer".to_owned(),
    }
}

/// Whether it serves clients, and how many.
pub fn serves(server: &Server) -> String {
    match (server.drained, server.serves, server.sessions) {
        (true, Some(true), _) => "drained, but nobody else can".to_owned(),
        (true, ..) => "drained".to_owned(),
        (false, Some(true), Some(1)) => "1 client".to_owned(),
        (false, Some(true), sessions) => format!("{} clients", grouped(sessions.unwrap_or(0))),
        (false, Some(false), _) => "no".to_owned(),
        (false, None, _) => "-".to_owned(),
    }
}

fn set_aside(view: &View) -> Vec<String> {
    let mut lines = Vec::new();
    for server in &view.servers {
        let (Some(name), Some(disk)) = (&server.name, &server.disk) else { continue };
        for it in &disk.quarantine {
            let when = it.unix_ms.and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
            let when = when.map_or_else(String::new, |when| format!(" on {}", humantime::format_rfc3339_seconds(when)));
            let reason = if it.reason.is_empty() { "nobody knows why" } else { &it.reason };
            lines.push(format!("{name}{when}, in {}/quarantine/{}: {reason}", disk.place, it.directory));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::view::{Disk, SetAside};
    use super::*;

    fn server() -> Server {
        Server {
            name: Some("b".to_owned()),
            address: "127.0.0.1:8081".to_owned(),
            answers: true,
            role: Some("follower".to_owned()),
            serves: Some(true),
            sessions: Some(2),
            ..Server::default()
        }
    }

    #[test]
    fn what_was_set_aside_is_told_with_when_and_why() {
        let quarantine = vec![SetAside {
            directory: "1-1700000000000".to_owned(),
            unix_ms: Some(1_700_000_000_000),
            reason: "a segment is damaged".to_owned(),
        }];
        let disk = Disk {
            place: "/data/b".to_owned(),
            condition: "good",
            damage: None,
            free_bytes: Some(3 << 30),
            checkpoint_bytes: 1536,
            quarantine,
        };
        let server = Server { disk: Some(disk), ..server() };
        let view = View {
            cluster: None,
            leader: Some("a".to_owned()),
            term: 1,
            clients: 0,
            waiting: 0,
            servers: vec![server],
            problems: vec![],
        };
        let shown = text(&view);
        let line = "b on 2023-11-14T22:13:20Z, in /data/b/quarantine/1-1700000000000: a segment is damaged";
        assert!(shown.contains(line), "{shown}");
        assert!(shown.contains("1.5 KiB") && shown.contains("3.0 GiB") && !shown.contains("Wrong"), "{shown}");
    }

    #[test]
    fn a_server_serves_or_says_why_not() {
        assert_eq!(serves(&server()), "2 clients");
        assert_eq!(serves(&Server { drained: true, serves: Some(false), ..server() }), "drained");
        assert_eq!(serves(&Server { drained: true, ..server() }), "drained, but nobody else can");
        assert_eq!(serves(&Server { serves: Some(false), ..server() }), "no");
        let silent = Server { role: None, serves: None, voter: Some(false), ..server() };
        assert_eq!((role(&silent).as_str(), serves(&silent).as_str()), ("not started yet", "-"));
    }
}
