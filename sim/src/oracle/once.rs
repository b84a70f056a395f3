//! P2: a send enters an inbox at most once; a delivery repeats only in a later attachment, marked, and never after its
//! acknowledgement was confirmed. Marks are on what an earlier reader may have seen, which is at most its window.

use std::collections::{BTreeMap, BTreeSet};

use super::names::Names;
use crate::history::{History, SendKey, What};

/// The inbox of one registration: its name and its id.
type Place<'a> = (&'a str, u64);

#[derive(Default)]
struct Inbox {
    /// Where each position was delivered: in which attachment, and whether marked.
    delivered: BTreeMap<u64, Vec<(u64, bool)>>,
    /// Nothing up to the position may come to an attachment that is asked for after that moment.
    confirmed: Vec<(usize, u64)>,
    /// The same of single positions.
    singles: BTreeMap<u64, usize>,
}

#[derive(Default)]
struct Attachment<'a> {
    name: &'a str,
    /// Places in the history.
    attaching: usize,
    attached: Option<usize>,
    window: u32,
    /// Positions that it acknowledged one by one.
    singles: BTreeSet<u64>,
}

#[derive(Default)]
struct Check<'a> {
    names: Names<'a>,
    attachments: BTreeMap<u64, Attachment<'a>>,
    inboxes: BTreeMap<Place<'a>, Inbox>,
    violations: Vec<String>,
}

impl Inbox {
    /// Whether the acknowledgement of `position` was confirmed before that moment.
    fn was_confirmed(&self, position: u64, before: usize) -> bool {
        let known = self.confirmed.partition_point(|(order, _)| *order < before);
        known.checked_sub(1).is_some_and(|last| self.confirmed[last].1 >= position)
            || self.singles.get(&position).is_some_and(|order| *order < before)
    }

    fn confirm(&mut self, order: usize, to: u64, singles: &BTreeSet<u64>) {
        let floor = self.confirmed.last().map_or(0, |(_, to)| *to).max(to);
        self.confirmed.push((order, floor));
        for position in singles {
            self.singles.entry(*position).or_insert(order);
        }
    }
}

impl Check<'_> {
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

    /// So many messages may have been seen by readers of that name other than `session`.
    fn exposed_to_others(&self, name: &str, session: u64) -> u64 {
        let others = self.attachments.iter().filter(|(other, one)| **other != session && one.name == name);
        others.map(|(_, one)| u64::from(one.window)).sum()
    }
}

pub(super) fn check(history: &History) -> Vec<String> {
    let mut check = Check { names: Names::read(history), ..Check::default() };
    check.read_places(history);
    check.read_deliveries(history);
    check.judge_marks();
    check.violations
}

impl<'a> Check<'a> {
    /// A send is at one place.
    fn read_places(&mut self, history: &'a History) {
        let mut places: BTreeMap<&SendKey, (Place<'_>, u64)> = BTreeMap::new();
        for entry in &history.entries {
            let (send, how, place) = match &entry.what {
                What::Accepted { send, position } => {
                    let place = self.names.of_send(send).unwrap_or_default();
                    (send, "accepted at", (place, *position))
                }
                What::Delivered { session, inbox, position, send: Some(send), .. } if !send.is_shared() => {
                    let place = (inbox.as_str(), self.names.of_session(*session));
                    (send, "delivered from", (place, *position))
                }
                _ => continue,
            };
            let known = *places.entry(send).or_insert(place);
            if known != place {
                let at = entry.at.as_secs_f64();
                let ((name, registration), position) = place;
                let ((known, known_registration), known_position) = known;
                self.violations.push(format!(
                    "{send} was {how} position {position} of {name} (registration {registration}) at {at:.3} s, and is \
                     at {known_position} of {known} (registration {known_registration}), too"
                ));
            }
        }
    }

    fn read_deliveries(&mut self, history: &'a History) {
        for (order, entry) in history.entries.iter().enumerate() {
            let at = entry.at.as_secs_f64();
            match &entry.what {
                What::Attaching { session, inbox, window } => {
                    let attachment =
                        Attachment { name: inbox, attaching: order, window: *window, ..Attachment::default() };
                    self.attachments.insert(*session, attachment);
                }
                What::Attached { session, .. } => {
                    self.attachments.entry(*session).or_default().attached = Some(order);
                }
                What::Acknowledged { session, from, to, .. } if *from > 1 => {
                    self.attachments.entry(*session).or_default().singles.extend(*from..=*to);
                }
                What::Confirmed { session, inbox, to } => {
                    let place = (inbox.as_str(), self.names.of_session(*session));
                    let singles = &self.attachments.entry(*session).or_default().singles;
                    self.inboxes.entry(place).or_default().confirm(order, *to, singles);
                }
                What::Delivered { session, inbox: name, position, redelivered, .. } => {
                    let place = (name.as_str(), self.names.of_session(*session));
                    let attaching = self.attachments.get(session).map_or(0, |one| one.attaching);
                    let inbox = self.inboxes.entry(place).or_default();
                    let seen = inbox.delivered.entry(*position).or_default();
                    if seen.iter().any(|(earlier, _)| earlier == session) {
                        self.violations
                            .push(format!("position {position} of {name} came twice to one reader, at {at:.3} s"));
                    }
                    seen.push((*session, *redelivered));
                    if inbox.was_confirmed(*position, attaching) {
                        self.violations.push(format!(
                            "position {position} of {name} came again at {at:.3} s, after its acknowledgement was \
                             confirmed"
                        ));
                    }
                }
                _ => {}
            }
        }
    }

    fn judge_marks(&mut self) {
        let mut found = Vec::new();
        for ((name, _), inbox) in &self.inboxes {
            // Marked though no other reader is known to have had it, by attachment.
            let mut unseen: BTreeMap<u64, u64> = BTreeMap::new();
            for (position, deliveries) in &inbox.delivered {
                let pairs = deliveries
                    .iter()
                    .enumerate()
                    .flat_map(|(n, one)| deliveries[..n].iter().map(move |two| (one, two)));
                if pairs.into_iter().any(|(one, two)| one.0 != two.0 && !self.is_marked(*one, *two)) {
                    found.push(format!("position {position} of {name} came again without a mark"));
                }
                if let [(session, true)] = deliveries[..] {
                    *unseen.entry(session).or_default() += 1;
                }
            }
            for (session, marked) in unseen {
                let most = self.exposed_to_others(name, session);
                if marked > most {
                    found.push(format!(
                        "attachment {session} to {name} got {marked} deliveries marked as repeats that nobody else \
                         had, and earlier readers may have seen {most} of them at most"
                    ));
                }
            }
        }
        self.violations.extend(found);
    }
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
    fn a_send_in_two_places_is_doubled() {
        rejects(vec![invoked(1), attached(1), delivered(1, 1, 1), delivered(1, 2, 1)], "too");
        rejects(vec![invoked(1), accepted(1, 1), attached(1), delivered(1, 2, 1)], "too");
        rejects(vec![invoked(1), accepted(1, 1), accepted(1, 2)], "too");
        // Asked again at another server, it has the same place.
        let again = What::Resent { send: key(1) };
        assert!(check(&complete(vec![registered(), invoked(1), accepted(1, 1), again, accepted(1, 1)])).is_empty());
    }

    #[test]
    fn what_was_sent_to_an_earlier_registration_does_not_reach_a_later_one() {
        let first = vec![invoked(1), accepted(1, 1), attaching(1), attached(1), delivered(1, 1, 1)];
        let second = vec![deregistering(Some(1)), registered_as(9), attaching(2), attached_to(2, 9)];
        rejects([first.clone(), second.clone(), vec![again(delivered(2, 1, 1))]].concat(), "registration 9");
        // Its positions begin anew.
        let history = [vec![registered()], first, second, vec![invoked(2), delivered(2, 1, 2)]].concat();
        assert!(check(&complete(history)).is_empty());
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
        rejects(vec![attaching(1), again(delivered(1, 1, 1))], "earlier readers may have seen 0");
        // What the first reader had on its way and never saw may be marked.
        assert!(check(&complete(vec![attaching(1), attaching(2), again(delivered(2, 1, 1))])).is_empty());
    }

    #[test]
    fn no_more_is_marked_than_an_earlier_reader_may_have_seen() {
        let narrow = What::Attaching { session: 1, inbox: "client2".into(), window: 1 };
        let first = vec![narrow, attached(1), attaching(2), attached(2), again(delivered(2, 1, 1))];
        assert!(check(&complete(first.clone())).is_empty());
        rejects([first, vec![again(delivered(2, 2, 2))]].concat(), "seen 1 of them");
    }

    #[test]
    fn what_was_confirmed_never_comes_again() {
        let first = [registered(), attaching(1), attached(1), delivered(1, 1, 1), acknowledged(1, 1)];
        let second = [attaching(2), attached(2), again(delivered(2, 1, 1))];
        let whats = |middle: Vec<What>| [first.to_vec(), middle, second.to_vec()].concat();
        rejects(whats(vec![confirmed(1, 1)]), "after its acknowledgement was confirmed");
        assert!(check(&complete(whats(vec![]))).is_empty(), "an acknowledgement may be lost before it is confirmed");
        assert!(check(&good()).is_empty());
    }

    #[test]
    fn what_was_confirmed_one_by_one_never_comes_again_either() {
        let first = vec![registered(), attaching(1), attached(1), delivered(1, 1, 1), delivered(1, 2, 2)];
        let second = vec![acknowledged_one(1, 2), confirmed(1, 0), attaching(2), attached(2)];
        let whats = |last: What| [first.clone(), second.clone(), vec![last]].concat();
        rejects(whats(again(delivered(2, 2, 2))), "after its acknowledgement was confirmed");
        assert!(check(&complete(whats(again(delivered(2, 1, 1))))).is_empty());
    }
}
