//! What the servers saw: lives, elections, membership, snapshots, damage, and what they logged.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{FaultSpan, Kind, Lane, Moment, find};
use crate::record::{Record, Recorded, Sort};

/// A server or client that was not there, or stood still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Whose.
    pub lane: usize,
    /// From when.
    pub from: Duration,
    /// Until when.
    pub to: Duration,
    /// What.
    pub kind: SpanKind,
}

/// Why nothing happens on a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// There is no process.
    Down,
    /// The process stands still.
    Paused,
}

/// Whom a server followed for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The server.
    pub lane: usize,
    /// From when.
    pub from: Duration,
    /// Until when.
    pub to: Duration,
    /// In which term.
    pub term: u64,
    /// The leader's lane; `None` while the server knows of none.
    pub leader: Option<usize>,
}

/// What a server's vote says: `term=… for=… committed=…`.
struct Vote {
    term: u64,
    leader: u64,
    committed: bool,
}

fn vote_of(event: &Recorded) -> Option<Vote> {
    if *event.kind != *"vote" {
        return None;
    }
    let mut values = event.text.split(' ').filter_map(|word| word.split_once('='));
    let mut value = |name: &str| values.next().filter(|(found, _)| *found == name).map(|(_, value)| value);
    Some(Vote {
        term: value("term")?.parse().ok()?,
        leader: value("for")?.parse().ok()?,
        committed: value("committed")? == "true",
    })
}

fn server_of(lanes: &[Lane], record: &Record, incarnation: u64) -> Option<usize> {
    record.incarnations.get(&incarnation).and_then(|name| find(lanes, name))
}

pub(super) fn moments(lanes: &[Lane], record: &Record) -> Vec<Moment> {
    let mut moments = Vec::new();
    for (ordinal, event) in (1..).zip(&record.events) {
        let lane = find(lanes, &event.host);
        if let Some((kind, text)) = told(lanes, record, event) {
            moments.push(Moment { at: event.at, ordinal, lane, kind, text, send: None });
        }
    }
    of_messages(lanes, record, &mut moments);
    for logged in &record.logs {
        let kind = match logged.level {
            "ERROR" | "WARN" => Kind::Warned,
            "INFO" => Kind::Logged,
            _ => continue,
        };
        let (lane, text) = (find(lanes, &logged.host), logged.text.clone());
        moments.push(Moment { at: logged.at, ordinal: logged.after, lane, kind, text, send: None });
    }
    moments
}

fn told(lanes: &[Lane], record: &Record, event: &Recorded) -> Option<(Kind, String)> {
    Some(match &*event.kind {
        "phase" => (Kind::Phase, phase(&event.text)),
        "host.start" => match event.field("life") {
            Some(1) | None => (Kind::Start, "starts".to_owned()),
            Some(life) => (Kind::Start, format!("starts again (life {life})")),
        },
        "host.killed" => (Kind::Down, "is killed, or has stopped".to_owned()),
        "host.power_cut" => (Kind::Down, "loses its power".to_owned()),
        "panic" => (Kind::Panic, format!("panics: {}", event.text)),
        "disk.rename" if event.text.starts_with("quarantine/") || event.subject.contains(" quarantine/") => {
            (Kind::Damage, format!("sets aside {} {}", event.subject, event.text))
        }
        "vote" => {
            let Vote { term, leader, committed } = vote_of(event)?;
            let leader = server_of(lanes, record, leader).map(|lane| lanes[lane].name.as_str());
            let is_self = leader == Some(&*event.host);
            let leader = leader.unwrap_or("an unknown server");
            match (committed, is_self) {
                (true, true) => (Kind::Leader, format!("leads term {term}")),
                (true, false) => (Kind::Follows, format!("follows {leader} in term {term}")),
                (false, true) => (Kind::Candidate, format!("stands for election in term {term}")),
                (false, false) => (Kind::Follows, format!("votes for {leader} in term {term}")),
            }
        }
        "client_attached" if *event.text == *"nowhere" => (Kind::Moved, "has lost its server".to_owned()),
        "client_attached" => (Kind::Moved, format!("is connected to {}", event.text)),
        kind if kind.contains('.') || kind.starts_with("client_") || ["apply", "draw", "role"].contains(&kind) => {
            return None;
        }
        kind => (Kind::Told, [kind, &event.subject, &event.text].join(" ").trim_end().replace("  ", " ")),
    })
}

fn phase(name: &str) -> String {
    match name {
        "liveness" => "the faults are over: what was accepted must arrive, and fresh sends are made",
        "stop" => "everything has arrived: the clients close",
        other => other,
    }
    .to_owned()
}

/// What only messages tell: memberships and snapshots.
fn of_messages(lanes: &[Lane], record: &Record, moments: &mut Vec<Moment>) {
    let mut members = String::new();
    for message in &record.messages {
        let mut add = |at, ordinal, host: &str, kind, text: String| {
            moments.push(Moment { at, ordinal, lane: find(lanes, host), kind, text, send: None });
        };
        let text = &message.said.text;
        match message.said.sort {
            Sort::Append => {
                if let Some(now) = text.split("; ").find_map(|part| Some(part.split_once("Members: ")?.1))
                    && now != members
                {
                    now.clone_into(&mut members);
                    add(message.sent, message.written, &message.from, Kind::Members, format!("members: {now}"));
                }
            }
            Sort::Snapshot if text.starts_with("A snapshot") => {
                let text = format!("sends {} {text}", message.to).replace("A snapshot", "a snapshot");
                add(message.sent, message.written, &message.from, Kind::Snapshot, text);
            }
            Sort::Snapshot if text.starts_with("Snapshot installed") => {
                let text = format!("has installed the snapshot of {}", message.to);
                add(message.sent, message.written, &message.from, Kind::Snapshot, text);
            }
            _ => {}
        }
    }
}

/// When a host was down (between its lives) or paused (by a fault of that kind).
pub(super) fn spans(lanes: &[Lane], record: &Record, faults: &[FaultSpan], end: Duration) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut down: BTreeMap<usize, Duration> = BTreeMap::new();
    for event in &record.events {
        let Some(lane) = find(lanes, &event.host) else { continue };
        match &*event.kind {
            "host.killed" | "host.power_cut" => drop(down.entry(lane).or_insert(event.at)),
            "host.start" => {
                let from = down.remove(&lane);
                spans.extend(from.map(|from| Span { lane, from, to: event.at, kind: SpanKind::Down }));
            }
            _ => {}
        }
    }
    spans.extend(down.into_iter().map(|(lane, from)| Span { lane, from, to: end, kind: SpanKind::Down }));
    for fault in faults.iter().filter(|fault| fault.kind == "pause") {
        let (from, to, kind) = (fault.from, fault.to, SpanKind::Paused);
        spans.extend(fault.lanes.iter().map(|lane| Span { lane: *lane, from, to, kind }));
    }
    spans
}

/// Whom each server followed when, by the votes that it saved.
pub(super) fn rules(lanes: &[Lane], record: &Record, end: Duration) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut open: BTreeMap<usize, usize> = BTreeMap::new();
    for event in &record.events {
        let Some(lane) = find(lanes, &event.host) else { continue };
        if ["host.killed", "host.power_cut"].contains(&&*event.kind) {
            if let Some(rule) = open.remove(&lane) {
                rules[rule].to = event.at;
            }
            continue;
        }
        let Some(vote) = vote_of(event) else { continue };
        let leader = vote.committed.then(|| server_of(lanes, record, vote.leader)).flatten();
        let rule = Rule { lane, from: event.at, to: end, term: vote.term, leader };
        if let Some(before) = open.insert(lane, rules.len()) {
            if (rules[before].term, rules[before].leader) == (rule.term, rule.leader) {
                open.insert(lane, before);
                continue;
            }
            rules[before].to = event.at;
        }
        rules.push(rule);
    }
    rules
}
