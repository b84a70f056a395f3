//! P2: a send enters an inbox at most once; a delivery repeats only in a later attachment, marked, and never after its
//! acknowledgement was confirmed.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{History, SendKey, What};

#[derive(Default)]
struct Inbox {
    /// In which attachments each position was delivered.
    delivered: BTreeMap<u64, BTreeSet<u64>>,
    /// What each attachment found confirmed when it was asked for: nothing up to there may come again.
    confirmed_before: BTreeMap<u64, u64>,
    confirmed: u64,
}

pub(super) fn check(history: &History) -> Vec<String> {
    let mut violations = Vec::new();
    let mut places: BTreeMap<&SendKey, (&str, u64)> = BTreeMap::new();
    let mut recipients: BTreeMap<&SendKey, &str> = BTreeMap::new();
    let mut inboxes: BTreeMap<&str, Inbox> = BTreeMap::new();
    for entry in &history.entries {
        let at = entry.at.as_secs_f64();
        match &entry.what {
            What::Invoked { send, to, .. } => drop(recipients.insert(send, to)),
            What::Accepted { send, position } => {
                let inbox = recipients.get(send).copied().unwrap_or_default();
                let place = *places.entry(send).or_insert((inbox, *position));
                if place != (inbox, *position) {
                    violations.push(format!(
                        "{send} was accepted at position {position} of {inbox} at {at:.3} s, and is at {} of {}, too",
                        place.1, place.0
                    ));
                }
            }
            What::Attaching { session, inbox } => {
                let inbox = inboxes.entry(inbox).or_default();
                inbox.confirmed_before.insert(*session, inbox.confirmed);
            }
            What::Confirmed { inbox, to, .. } => {
                let inbox = inboxes.entry(inbox).or_default();
                inbox.confirmed = inbox.confirmed.max(*to);
            }
            What::Delivered { session, inbox: name, position, redelivered, send, .. } => {
                if let Some(send) = send {
                    let place = *places.entry(send).or_insert((name, *position));
                    if place != (name.as_str(), *position) {
                        violations.push(format!(
                            "{send} was delivered from position {position} of {name} at {at:.3} s, and is at {} of {}, \
                             too",
                            place.1, place.0
                        ));
                    }
                }
                let inbox = inboxes.entry(name).or_default();
                let earlier_attachment = inbox.confirmed_before.keys().any(|earlier| earlier < session);
                let seen = inbox.delivered.entry(*position).or_default();
                if !seen.is_empty() && !redelivered {
                    violations.push(format!("position {position} of {name} came again at {at:.3} s without a mark"));
                }
                if !seen.insert(*session) {
                    violations.push(format!("position {position} of {name} came twice to one reader, at {at:.3} s"));
                }
                if *redelivered && !earlier_attachment {
                    violations.push(format!(
                        "position {position} of {name} was marked as a repeat at {at:.3} s, to its first reader"
                    ));
                }
                if inbox.confirmed_before.get(session).is_some_and(|confirmed| position <= confirmed) {
                    violations.push(format!(
                        "position {position} of {name} came again at {at:.3} s, after its acknowledgement was confirmed"
                    ));
                }
            }
            _ => {}
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::examples::*;
    use super::*;

    fn rejects(whats: Vec<What>, expected: &str) {
        let violations = check(&complete(whats));
        assert!(violations.iter().any(|text| text.contains(expected)), "{violations:?}");
    }

    #[test]
    fn a_send_in_two_places_is_doubled() {
        rejects(vec![invoked(1), attaching(1), delivered(1, 1, 1), delivered(1, 2, 1)], "too");
        rejects(vec![invoked(1), accepted(1, 1), attaching(1), delivered(1, 2, 1)], "too");
        rejects(vec![invoked(1), accepted(1, 1), accepted(1, 2)], "too");
    }

    #[test]
    fn one_reader_gets_a_position_once() {
        rejects(vec![attaching(1), delivered(1, 1, 1), again(delivered(1, 1, 1))], "twice to one reader");
    }

    #[test]
    fn a_repeat_is_marked_and_only_a_repeat_can_be() {
        rejects(vec![attaching(1), delivered(1, 1, 1), attaching(2), delivered(2, 1, 1)], "without a mark");
        rejects(vec![attaching(1), again(delivered(1, 1, 1))], "to its first reader");
        // What the first reader had on its way and never saw may be marked.
        assert!(check(&complete(vec![attaching(1), attaching(2), again(delivered(2, 1, 1))])).is_empty());
    }

    #[test]
    fn what_was_confirmed_never_comes_again() {
        let first = [attaching(1), delivered(1, 1, 1), acknowledged(1, 1)];
        let second = [attaching(2), again(delivered(2, 1, 1))];
        let whats = |middle: Vec<What>| [first.to_vec(), middle, second.to_vec()].concat();
        rejects(whats(vec![confirmed(1, 1)]), "after its acknowledgement was confirmed");
        assert!(check(&complete(whats(vec![]))).is_empty(), "an acknowledgement may be lost before it is confirmed");
        assert!(check(&good()).is_empty());
    }
}
