//! P4: once a newer attachment has its receipt, no acknowledgement of an older one counts, and the older one learns so.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{History, Process, What};

#[derive(Default)]
struct Session<'a> {
    inbox: &'a str,
    process: Option<&'a Process>,
    /// Places in the history.
    attaching: usize,
    attached: Option<usize>,
    ended: Option<usize>,
    /// Each acknowledgement: its last position, and when it was made.
    acknowledged: Vec<(u64, usize)>,
    /// Each confirmation: up to which position, and when it came.
    confirmed: Vec<(u64, usize)>,
    delivered_last: usize,
}

pub(super) fn check(history: &History) -> Vec<String> {
    let mut sessions: BTreeMap<u64, Session<'_>> = BTreeMap::new();
    let mut died: BTreeSet<&Process> = BTreeSet::new();
    for (order, entry) in history.entries.iter().enumerate() {
        match &entry.what {
            What::Attaching { session, inbox } => {
                let session = sessions.entry(*session).or_default();
                (session.inbox, session.process, session.attaching) = (inbox, Some(&entry.process), order);
            }
            What::Attached { session, .. } => sessions.entry(*session).or_default().attached = Some(order),
            What::Ended { session, .. } => sessions.entry(*session).or_default().ended = Some(order),
            What::Acknowledged { session, to, .. } => {
                sessions.entry(*session).or_default().acknowledged.push((*to, order));
            }
            What::Confirmed { session, to, .. } => {
                sessions.entry(*session).or_default().confirmed.push((*to, order));
            }
            What::Delivered { session, .. } => sessions.entry(*session).or_default().delivered_last = order,
            What::Died => drop(died.insert(&entry.process)),
            _ => {}
        }
    }
    let mut violations = Vec::new();
    for (id, session) in &sessions {
        if session.ended.is_some_and(|ended| session.delivered_last > ended) {
            violations.push(format!("attachment {id} to {} got a delivery after it had ended", session.inbox));
        }
        let Some(replaced) = replaced_at(session, &sessions) else { continue };
        for (to, confirmed) in &session.confirmed {
            let made = session.acknowledged.iter().filter(|(acked, made)| acked == to && made < confirmed);
            // Made again and again, it may have counted the first time.
            if made.map(|(_, made)| *made).min().is_some_and(|made| made > replaced) {
                violations.push(format!(
                    "attachment {id} to {} acknowledged up to {to} after a newer one had its receipt, and that was \
                     confirmed",
                    session.inbox
                ));
            }
        }
        let alive = session.process.is_some_and(|process| !died.contains(process));
        if history.complete && alive && session.ended.is_none() {
            violations.push(format!("attachment {id} to {} never learned that a newer one replaced it", session.inbox));
        }
    }
    violations
}

/// When an attachment that was asked for after this one had its receipt got its own.
fn replaced_at(session: &Session<'_>, sessions: &BTreeMap<u64, Session<'_>>) -> Option<usize> {
    let attached = session.attached?;
    let newer = sessions.values().filter(|other| other.inbox == session.inbox && other.attaching > attached);
    newer.filter_map(|other| other.attached).min()
}

#[cfg(test)]
mod tests {
    use super::super::examples::*;
    use super::*;

    fn two_readers(between: Vec<What>) -> History {
        let first = vec![attaching(1), attached(1), delivered(1, 1, 1)];
        let second = vec![attaching(2), attached(2)];
        complete([first, second, between].concat())
    }

    #[test]
    fn an_acknowledgement_of_an_older_reader_must_not_be_confirmed() {
        let history = two_readers(vec![acknowledged(1, 1), confirmed(1, 1), ended(1)]);
        assert!(check(&history)[0].contains("was confirmed"));
    }

    #[test]
    fn an_older_reader_learns_that_it_is_one_unless_it_died() {
        assert!(check(&two_readers(vec![]))[0].contains("never learned"));
        assert!(check(&two_readers(vec![ended(1)])).is_empty());
        assert!(check(&two_readers(vec![What::Died])).is_empty());
        let mut history = two_readers(vec![]);
        history.complete = false;
        assert!(check(&history).is_empty(), "it may still learn");
    }

    #[test]
    fn nothing_comes_to_an_attachment_that_has_ended() {
        assert!(check(&two_readers(vec![ended(1), delivered(1, 2, 2)]))[0].contains("after it had ended"));
    }

    #[test]
    fn readers_that_overlap_or_were_confirmed_in_time_are_fine() {
        // Acknowledged before the newer one had its receipt, confirmed after.
        let whats =
            vec![attaching(1), attached(1), attaching(2), acknowledged(1, 1), attached(2), confirmed(1, 1), ended(1)];
        assert!(check(&complete(whats)).is_empty());
        // Asked for at the same time: which one is newer is not known.
        let whats = vec![attaching(1), attaching(2), attached(2), attached(1), acknowledged(1, 1), confirmed(1, 1)];
        assert!(check(&complete(whats)).is_empty());
        assert!(check(&good()).is_empty());
    }
}
