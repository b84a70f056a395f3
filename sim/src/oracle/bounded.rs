//! P7: no reader has more unacknowledged deliveries than its window, no inbox holds more than its quota, and no server
//! holds more than its settings allow.

use std::collections::{BTreeMap, BTreeSet};

use super::names::Names;
use crate::history::{History, What};

pub(super) fn check(history: &History, inbox_quota: u64) -> Vec<String> {
    [windows(history), inboxes(history, inbox_quota)].concat()
}

#[derive(Default)]
struct Reader {
    window: u64,
    unacknowledged: BTreeSet<u64>,
}

impl Reader {
    fn acknowledge(&mut self, from: u64, to: u64) {
        if from <= 1 {
            self.unacknowledged = self.unacknowledged.split_off(&(to + 1));
        } else {
            self.unacknowledged.retain(|position| !(from..=to).contains(position));
        }
    }
}

/// A server counts an acknowledgement when it is applied, which is after it was made.
fn windows(history: &History) -> Vec<String> {
    // What has expired or was dropped takes no place in a window any more, and only the cluster knows what has.
    if history.may_withdraw() {
        return Vec::new();
    }
    let mut violations = Vec::new();
    let mut readers: BTreeMap<u64, Reader> = BTreeMap::new();
    for entry in &history.entries {
        match &entry.what {
            What::Attaching { session, window, .. } => {
                readers.insert(*session, Reader { window: u64::from(*window), ..Reader::default() });
            }
            What::Delivered { session, inbox, position, .. } => {
                let Some(reader) = readers.get_mut(session) else { continue };
                reader.unacknowledged.insert(*position);
                let held = reader.unacknowledged.len() as u64;
                if held > reader.window {
                    violations.push(format!(
                        "attachment {session} to {inbox} holds {held} deliveries at {:.3} s, and its window is {}",
                        entry.at.as_secs_f64(),
                        reader.window
                    ));
                }
            }
            What::Acknowledged { session, from, to, .. } => {
                readers.entry(*session).or_default().acknowledge(*from, *to);
            }
            _ => {}
        }
    }
    violations
}

/// Messages of an inbox that were accepted and that nobody can have acknowledged wait in it, all at once.
fn inboxes(history: &History, quota: u64) -> Vec<String> {
    let names = Names::read(history);
    let dropping = history.dropping();
    let mut violations = Vec::new();
    let mut inboxes: BTreeMap<(&str, u64), BTreeSet<u64>> = BTreeMap::new();
    let mut gone: BTreeMap<(&str, u64), (u64, BTreeSet<u64>)> = BTreeMap::new();
    for entry in &history.entries {
        let at = entry.at.as_secs_f64();
        match &entry.what {
            What::Accepted { send, position } => {
                let Some(inbox) = names.of_send(send).filter(|(name, _)| !dropping.contains(name)) else { continue };
                let (floor, singles) = gone.entry(inbox).or_default();
                if *position <= *floor || singles.contains(position) {
                    continue;
                }
                let waiting = inboxes.entry(inbox).or_default();
                waiting.insert(*position);
                if waiting.len() as u64 > quota {
                    let (name, waiting) = (inbox.0, waiting.len());
                    violations.push(format!("{waiting} messages wait for {name} at {at:.3} s, and {quota} may"));
                }
            }
            What::Acknowledged { session, inbox, from, to } => {
                let inbox = (inbox.as_str(), names.of_session(*session));
                let (floor, singles) = gone.entry(inbox).or_default();
                let waiting = inboxes.entry(inbox).or_default();
                if *from <= 1 {
                    *floor = (*floor).max(*to);
                    *waiting = waiting.split_off(&(*floor + 1));
                } else {
                    singles.extend(*from..=*to);
                    waiting.retain(|position| !(*from..=*to).contains(position));
                }
            }
            What::Listed { clients, .. } => {
                for row in clients.iter().filter(|row| row.waiting > quota) {
                    let (name, waiting) = (&row.name, row.waiting);
                    violations.push(format!("{waiting} messages are said to wait for {name}, and {quota} may"));
                }
            }
            _ => {}
        }
    }
    violations
}

/// What a server tells of its sizes: `name=held/limit`, space between.
///
/// # Errors
/// What is over its limit, or does not read like that.
pub(crate) fn sizes(host: &str, detail: &str) -> Result<(), String> {
    for size in detail.split_whitespace() {
        let numbers = size.split_once('=').and_then(|(what, rest)| {
            let (held, limit) = rest.split_once('/')?;
            Some((what, held.parse::<u64>().ok()?, limit.parse::<u64>().ok()?))
        });
        let Some((what, held, limit)) = numbers else { return Err(format!("{host} tells of sizes as {size:?}")) };
        if held > limit {
            return Err(format!("{host} holds {held} of {what}, and its limit is {limit}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::examples::*;
    use super::*;
    use crate::history::Row;

    fn attaching_with(window: u32) -> What {
        What::Attaching { session: 1, inbox: "client2".into(), window }
    }

    #[test]
    fn a_reader_holds_no_more_than_its_window() {
        let two = || vec![attaching_with(1), attached(1), delivered(1, 1, 1)];
        let check = |rest: Vec<What>| check(&complete([two(), rest].concat()), 9);
        assert!(check(vec![delivered(1, 2, 2)])[0].contains("holds 2 deliveries"));
        assert!(check(vec![acknowledged(1, 1), delivered(1, 2, 2)]).is_empty());
        assert!(check(vec![acknowledged_one(1, 1), delivered(1, 2, 2)]).is_empty());
        assert_eq!(check(vec![acknowledged_one(1, 2), delivered(1, 2, 2)]).len(), 1, "that was another one");
        assert!(super::check(&good(), 9).is_empty());
    }

    #[test]
    fn an_inbox_holds_no_more_than_its_quota() {
        let whats = |between: Vec<What>| {
            let first = vec![registered(), attaching(1), attached(1), invoked(1), accepted(1, 1), delivered(1, 1, 1)];
            complete([first, between, vec![invoked(2), accepted(2, 2)]].concat())
        };
        assert!(check(&whats(vec![]), 1)[0].contains("2 messages wait for client2"));
        assert!(check(&whats(vec![]), 2).is_empty());
        assert!(check(&whats(vec![acknowledged(1, 1)]), 1).is_empty());
        assert!(check(&whats(vec![acknowledged_one(1, 1)]), 1).is_empty());
        let row = Row { name: "client2".into(), registration: 1, waiting: 2 };
        let listed = complete(vec![What::Listed { question: 1, clients: vec![row] }]);
        assert!(check(&listed, 1)[0].contains("are said to wait"));
    }

    #[test]
    fn a_server_holds_no_more_than_its_limits() {
        assert_eq!(sizes("a", "sessions=2/4 pending=4/4"), Ok(()));
        assert_eq!(sizes("a", "sessions=2/4 pending=5/4").unwrap_err(), "a holds 5 of pending, and its limit is 4");
        assert!(sizes("a", "sessions").is_err());
    }
}
