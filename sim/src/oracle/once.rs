//! P2: a send enters an inbox at most once; a delivery repeats only in a later attachment, marked, and never after its
//! acknowledgement was confirmed.

use std::collections::BTreeMap;

use crate::history::{History, SendKey, What};

#[derive(Default)]
struct Inbox {
    attachments: BTreeMap<u64, Attachment>,
    /// Where each position was delivered: in which attachment, and whether marked.
    delivered: BTreeMap<u64, Vec<(u64, bool)>>,
    /// Nothing up to here may come to an attachment that is asked for from now on.
    confirmed: u64,
}

#[derive(Default)]
struct Attachment {
    /// Places in the history.
    attaching: usize,
    attached: Option<usize>,
    confirmed_before: u64,
}

impl Inbox {
    /// Whether `one` had its receipt before `other` was asked for. Of two that overlap, neither is known to be newer.
    fn is_older(&self, one: u64, other: u64) -> bool {
        match (self.attachments.get(&one), self.attachments.get(&other)) {
            (Some(one), Some(other)) => one.attached.is_some_and(|attached| attached < other.attaching),
            _ => false,
        }
    }

    /// Whether two deliveries of one position are marked as they must be: the newer one, or any if nobody knows.
    fn is_marked(&self, one: (u64, bool), other: (u64, bool)) -> bool {
        match (self.is_older(one.0, other.0), self.is_older(other.0, one.0)) {
            (true, _) => other.1,
            (_, true) => one.1,
            _ => one.1 || other.1,
        }
    }
}

pub(super) fn check(history: &History) -> Vec<String> {
    let mut violations = Vec::new();
    let mut places: BTreeMap<&SendKey, (&str, u64)> = BTreeMap::new();
    let mut recipients: BTreeMap<&SendKey, &str> = BTreeMap::new();
    let mut inboxes: BTreeMap<&str, Inbox> = BTreeMap::new();
    for (order, entry) in history.entries.iter().enumerate() {
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
                let attachment = Attachment { attaching: order, attached: None, confirmed_before: inbox.confirmed };
                inbox.attachments.insert(*session, attachment);
            }
            What::Attached { session, inbox } => {
                let attachment = inboxes.entry(inbox).or_default().attachments.get_mut(session);
                attachment.into_iter().for_each(|attachment| attachment.attached = Some(order));
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
                let seen = inbox.delivered.entry(*position).or_default();
                if seen.iter().any(|(earlier, _)| earlier == session) {
                    violations.push(format!("position {position} of {name} came twice to one reader, at {at:.3} s"));
                }
                seen.push((*session, *redelivered));
                if *redelivered && !inbox.attachments.keys().any(|other| other != session) {
                    violations.push(format!(
                        "position {position} of {name} was marked as a repeat at {at:.3} s, to its first reader"
                    ));
                }
                let attachment = inbox.attachments.get(session);
                if attachment.is_some_and(|attachment| *position <= attachment.confirmed_before) {
                    violations.push(format!(
                        "position {position} of {name} came again at {at:.3} s, after its acknowledgement was confirmed"
                    ));
                }
            }
            _ => {}
        }
    }
    for (name, inbox) in &inboxes {
        for (position, deliveries) in &inbox.delivered {
            let pairs =
                deliveries.iter().enumerate().flat_map(|(n, one)| deliveries[..n].iter().map(move |two| (one, two)));
            if pairs.into_iter().any(|(one, two)| one.0 != two.0 && !inbox.is_marked(*one, *two)) {
                violations.push(format!("position {position} of {name} came again without a mark"));
            }
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
        // The mark belongs to the newer reader's.
        let ordered = |one, two| vec![attaching(1), attached(1), attaching(2), attached(2), one, two];
        rejects(ordered(again(delivered(1, 1, 1)), delivered(2, 1, 1)), "without a mark");
        // What was on its way to the older one may come to it later than to the newer one.
        assert!(check(&complete(ordered(again(delivered(2, 1, 1)), delivered(1, 1, 1)))).is_empty());
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
