//! P4: once a newer attachment has its receipt, no acknowledgement of an older one counts, nothing that was sent after
//! that comes to it, and it learns that it was replaced; so it does when its registration ends.

use std::collections::{BTreeMap, BTreeSet};

use super::names::Names;
use crate::history::{History, Process, SendKey, What};

#[derive(Default)]
struct Session<'a> {
    inbox: (&'a str, u64),
    process: Option<&'a Process>,
    /// Places in the history.
    attaching: usize,
    attached: Option<usize>,
    ended: Option<usize>,
    /// Each acknowledgement: its first and last position, and when it was made.
    acknowledged: Vec<(u64, u64, usize)>,
    /// When each confirmation came.
    confirmed: Vec<usize>,
    /// What was delivered, and when.
    delivered: Vec<(&'a SendKey, usize)>,
    delivered_last: usize,
}

pub(super) fn check(history: &History) -> Vec<String> {
    let names = Names::read(history);
    let (sessions, invoked, died) = read(history, &names);
    let mut violations = Vec::new();
    for (id, session) in &sessions {
        let (name, registration) = session.inbox;
        if session.ended.is_some_and(|ended| session.delivered_last > ended) {
            violations.push(format!("attachment {id} to {name} got a delivery after it had ended"));
        }
        let alive = session.process.is_some_and(|process| !died.contains(process));
        let unaware = history.complete && alive && session.attached.is_some() && session.ended.is_none();
        if unaware && names.registration(name, registration).is_some_and(|one| one.ended < usize::MAX) {
            violations.push(format!("attachment {id} to {name} never learned that its registration has ended"));
        }
        let Some(replaced) = replaced_at(session, &sessions) else { continue };
        for (from, to, _) in counted_too_late(session, replaced) {
            let what = if from == to { format!("{to}") } else { format!("up to {to}") };
            violations.push(format!(
                "attachment {id} to {name} acknowledged {what} after a newer one had its receipt, and that was \
                 confirmed"
            ));
        }
        let late = session.delivered.iter().find(|(send, _)| invoked.get(send).is_some_and(|sent| *sent > replaced));
        if let Some((send, _)) = late {
            violations.push(format!(
                "attachment {id} to {name} got {send}, which was sent after a newer attachment had its receipt"
            ));
        }
        if unaware {
            violations.push(format!("attachment {id} to {name} never learned that a newer one replaced it"));
        }
    }
    violations
}

/// The sessions, when each send was invoked, and who died.
type Read<'a> = (BTreeMap<u64, Session<'a>>, BTreeMap<&'a SendKey, usize>, BTreeSet<&'a Process>);

fn read<'a>(history: &'a History, names: &Names<'_>) -> Read<'a> {
    let mut sessions: BTreeMap<u64, Session<'_>> = BTreeMap::new();
    let (mut invoked, mut died) = (BTreeMap::new(), BTreeSet::new());
    for (order, entry) in history.entries.iter().enumerate() {
        match &entry.what {
            What::Attaching { session, inbox, .. } => {
                let registration = names.of_session(*session);
                let session = sessions.entry(*session).or_default();
                (session.inbox, session.attaching) = ((inbox.as_str(), registration), order);
                session.process = Some(&entry.process);
            }
            What::Attached { session, .. } => sessions.entry(*session).or_default().attached = Some(order),
            What::Ended { session, .. } => sessions.entry(*session).or_default().ended = Some(order),
            What::Acknowledged { session, from, to, .. } => {
                sessions.entry(*session).or_default().acknowledged.push((*from, *to, order));
            }
            What::Confirmed { session, .. } => sessions.entry(*session).or_default().confirmed.push(order),
            What::Delivered { session, send, .. } => {
                let session = sessions.entry(*session).or_default();
                session.delivered_last = order;
                session.delivered.extend(send.iter().map(|send| (send, order)));
            }
            What::Invoked { send, .. } => drop(invoked.insert(send, order)),
            What::Died => drop(died.insert(&entry.process)),
            _ => {}
        }
    }
    (sessions, invoked, died)
}

/// Acknowledgements that were made only after `replaced`, and confirmed.
fn counted_too_late(session: &Session<'_>, replaced: usize) -> Vec<(u64, u64, usize)> {
    let last = session.confirmed.iter().max().copied().unwrap_or(0);
    let confirmed = session.acknowledged.iter().filter(|(.., made)| *made > replaced && *made < last);
    // Made again and again, it may have counted the first time.
    let new = confirmed.filter(|(from, to, _)| {
        !session.acknowledged.iter().any(|(earlier, up_to, made)| earlier <= from && to <= up_to && *made < replaced)
    });
    new.copied().collect()
}

/// When an attachment to the same inbox that was asked for after this one had its receipt got its own.
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
        let history = two_readers(vec![acknowledged_one(1, 1), confirmed(1, 0), ended(1)]);
        assert!(check(&history)[0].contains("acknowledged 1 after"));
        // It had been made before.
        let whats = vec![attaching(1), attached(1), delivered(1, 1, 1), acknowledged(1, 1), attaching(2), attached(2)];
        let again = vec![acknowledged(1, 1), confirmed(1, 1), ended(1)];
        assert!(check(&complete([whats, again].concat())).is_empty());
    }

    #[test]
    fn what_is_sent_after_the_newer_one_had_its_receipt_does_not_come_to_the_older_one() {
        let history = two_readers(vec![invoked(2), delivered(1, 2, 2), ended(1)]);
        assert!(check(&history)[0].contains("sent after a newer attachment"));
        // What was on its way may come.
        let whats =
            vec![attaching(1), attached(1), invoked(2), attaching(2), attached(2), delivered(1, 2, 2), ended(1)];
        assert!(check(&complete(whats)).is_empty());
    }

    #[test]
    fn a_reader_learns_that_its_registration_has_ended() {
        let whats = vec![registered(), attaching(1), attached(1), deregistering(Some(1)), deregistered(Some(1))];
        assert!(check(&complete(whats.clone()))[0].contains("its registration has ended"));
        assert!(check(&complete([whats.clone(), vec![ended(1)]].concat())).is_empty());
        // A reader of the next registration replaces nobody in this one.
        let next = vec![registered_as(9), attaching(2), attached_to(2, 9)];
        assert_eq!(check(&complete([whats, next].concat())).len(), 1);
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
