//! P3: messages of one stream are in the inbox in the order sent, and its numbers are used up one after another; an
//! inbox is one sequence, and every reader sees the same one, without leaving anything out that is not acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use super::names::Names;
use crate::history::{History, SendKey, What, Why};

#[derive(Default)]
struct Inbox<'a> {
    /// What is known to be where, from deliveries and from receipts.
    places: BTreeMap<u64, &'a SendKey>,
    /// The last position that each attachment delivered.
    last: BTreeMap<u64, u64>,
    /// Acknowledged by anybody: all up to here, and single ones above.
    floor: u64,
    above: BTreeSet<u64>,
}

impl<'a> Inbox<'a> {
    /// Something is known to be at `position`; what was known before, if that is something else.
    fn place(&mut self, position: u64, send: &'a SendKey) -> Option<&'a SendKey> {
        let before = *self.places.entry(position).or_insert(send);
        (before != send).then_some(before)
    }

    fn acknowledge(&mut self, from: u64, to: u64) {
        if from <= self.floor + 1 {
            self.floor = self.floor.max(to);
        } else {
            self.above.extend(from..=to);
        }
        while self.above.remove(&(self.floor + 1)) {
            self.floor += 1;
        }
    }

    /// The first position between the two that nobody acknowledged.
    fn left_out(&self, after: u64, before: u64) -> Option<u64> {
        (after.max(self.floor) + 1..before).find(|position| !self.above.contains(position))
    }
}

pub(super) fn check(history: &History) -> Vec<String> {
    let names = Names::read(history);
    let mut violations = Vec::new();
    // What expires or is dropped leaves its place empty, and nobody can name that place.
    let expires = history.may_withdraw();
    let whats = history.entries.iter().map(|entry| &entry.what);
    let delayed = whats.filter_map(|what| match what {
        What::Posted { send, delayed: true, .. } => Some(send),
        _ => None,
    });
    let delayed: BTreeSet<&SendKey> = delayed.collect();
    let mut inboxes: BTreeMap<(&str, u64), Inbox<'_>> = BTreeMap::new();
    for entry in &history.entries {
        let at = entry.at.as_secs_f64();
        let place = match &entry.what {
            What::Accepted { send, position } => names.of_send(send).map(|inbox| (inbox, *position, send)),
            What::Delivered { session, inbox, position, send: Some(send), .. } => {
                Some(((inbox.as_str(), names.of_session(*session)), *position, send))
            }
            _ => None,
        };
        if let Some((inbox, position, send)) = place
            && let Some(before) = inboxes.entry(inbox).or_default().place(position, send)
        {
            let name = inbox.0;
            violations.push(format!("position {position} of {name} is {before}, and at {at:.3} s it is {send}"));
        }
        match &entry.what {
            What::Delivered { session, inbox: name, position, .. } => {
                let inbox = inboxes.entry((name.as_str(), names.of_session(*session))).or_default();
                let last = inbox.last.insert(*session, *position).unwrap_or(0);
                if *position < last {
                    violations.push(format!("position {position} of {name} came after {last}, at {at:.3} s"));
                } else if let Some(left_out) = inbox.left_out(last, *position).filter(|_| !expires) {
                    violations.push(format!(
                        "position {position} of {name} came at {at:.3} s, and {left_out}, which nobody acknowledged, \
                         was left out"
                    ));
                }
            }
            What::Acknowledged { session, inbox, from, to } => {
                let inbox = (inbox.as_str(), names.of_session(*session));
                inboxes.entry(inbox).or_default().acknowledge(*from, *to);
            }
            _ => {}
        }
    }
    for ((name, _), inbox) in &inboxes {
        let mut last: BTreeMap<(&str, u64), u64> = BTreeMap::new();
        // What comes later stands in no order with the rest of its stream.
        for (position, send) in inbox.places.iter().filter(|(_, send)| !delayed.contains(*send)) {
            let before = last.insert((&send.sender, send.stream), send.number);
            if let Some(before) = before.filter(|before| *before > send.number) {
                violations
                    .push(format!("position {position} of {name} is {send}, behind number {before} of its stream"));
            }
        }
    }
    violations.extend(gaps(history));
    violations
}

/// Numbers that were used up though one before them was certainly not: the cluster takes the last one plus one only.
fn gaps(history: &History) -> Vec<String> {
    let mut free: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    let mut used: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    for entry in &history.entries {
        let (send, uses) = match &entry.what {
            What::Accepted { send, .. } | What::Delivered { send: Some(send), .. } => (send, true),
            What::Refused { send, why: Why::NoSuchClient | Why::InboxFull } => (send, true),
            What::Refused { send, .. } => (send, false),
            _ => continue,
        };
        let stream = (send.sender.as_str(), send.stream);
        if uses {
            let last = used.entry(stream).or_default();
            *last = send.number.max(*last);
        } else {
            let first = free.entry(stream).or_insert(u64::MAX);
            *first = send.number.min(*first);
        }
    }
    let gap = |(stream, free): (&(&str, u64), &u64)| {
        let used = used.get(stream).filter(|used| *used > free)?;
        Some(format!("number {free} of stream {} of {} was not carried out, and {used} was", stream.1, stream.0))
    };
    free.iter().filter_map(gap).collect()
}

#[cfg(test)]
mod tests {
    use super::super::examples::*;
    use super::*;

    fn rejects(whats: Vec<What>, expected: &str) {
        let violations = check(&complete([vec![registered()], whats].concat()));
        assert!(violations.iter().any(|text| text.contains(expected)), "{violations:?}");
    }

    #[test]
    fn a_streams_messages_are_in_the_order_sent() {
        rejects(vec![delivered(1, 1, 2), delivered(1, 2, 1)], "behind number 2");
        // Also if only the receipts tell.
        rejects(vec![invoked(1), invoked(2), accepted(1, 2), accepted(2, 1)], "behind number 2");
    }

    #[test]
    fn every_reader_sees_the_same_sequence() {
        rejects(vec![delivered(1, 1, 1), again(delivered(2, 1, 2))], "position 1 of client2 is client1.1.1, and");
        rejects(
            vec![invoked(1), accepted(1, 1), attached(1), delivered(1, 1, 2)],
            "position 1 of client2 is client1.1.1, and",
        );
    }

    #[test]
    fn a_reader_goes_forward_and_leaves_nothing_out() {
        rejects(vec![delivered(1, 1, 1), delivered(1, 2, 2), delivered(1, 1, 1)], "came after 2");
        rejects(vec![delivered(1, 1, 1), delivered(1, 3, 3)], "2, which nobody acknowledged");
        rejects(vec![delivered(1, 2, 2)], "1, which nobody acknowledged");
    }

    #[test]
    fn what_is_acknowledged_may_be_left_out() {
        let single = What::Acknowledged { session: 1, inbox: "client2".into(), from: 2, to: 2 };
        let first = vec![delivered(1, 1, 1), delivered(1, 2, 2), delivered(1, 3, 3), single];
        let whats = |rest: Vec<What>| complete([first.clone(), rest].concat());
        assert!(check(&whats(vec![again(delivered(2, 1, 1)), again(delivered(2, 3, 3))])).is_empty());
        assert!(!check(&whats(vec![again(delivered(2, 3, 3))])).is_empty());
        assert!(check(&whats(vec![acknowledged(1, 1), again(delivered(2, 3, 3))])).is_empty());
        assert!(check(&good()).is_empty());
    }

    #[test]
    fn the_next_registration_has_a_sequence_of_its_own() {
        let second = [deregistering(Some(1)), registered_as(9), attached_to(2, 9), invoked(2), delivered(2, 1, 2)];
        let whats = |second: &[What]| [&[registered(), attached(1), delivered(1, 1, 1)], second].concat();
        assert!(check(&complete(whats(&second))).is_empty());
        // The same again, but as if it were the same inbox.
        rejects(whats(&[attached_to(2, 1), delivered(2, 1, 2)]), "position 1 of client2 is client1.1.1, and");
    }

    #[test]
    fn numbers_are_used_up_one_after_another() {
        let refused = |why| What::Refused { send: key(1), why };
        let gap = "number 1 of stream 1 of client1 was not carried out, and 2 was";
        rejects(vec![invoked(1), invoked(2), refused(Why::StreamClosed), accepted(2, 1)], gap);
        rejects(vec![invoked(1), invoked(2), accepted(2, 1), refused(Why::Other(String::new()))], gap);
        for fine in [refused(Why::InboxFull), refused(Why::NoSuchClient), What::Unknown { send: key(1) }] {
            assert!(check(&complete(vec![registered(), invoked(1), invoked(2), fine, accepted(2, 1)])).is_empty());
        }
    }
}
