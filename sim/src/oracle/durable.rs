//! P1: every send that got its receipt is delivered, unless the registration that it went to was ended on purpose.

use std::collections::{BTreeMap, BTreeSet};

use super::names::Names;
use crate::history::{History, What};

pub(super) fn check(history: &History) -> Vec<String> {
    if !history.complete {
        return Vec::new();
    }
    let names = Names::read(history);
    let mut accepted = BTreeMap::new();
    let mut delivered = BTreeSet::new();
    for entry in &history.entries {
        match &entry.what {
            What::Accepted { send, position } => drop(accepted.entry(send).or_insert((entry, *position))),
            What::Delivered { send: Some(send), .. } => drop(delivered.insert(send)),
            _ => {}
        }
    }
    let dropping = history.dropping();
    let lost = accepted.into_iter().filter(|(send, _)| {
        // What waits for a registration goes with it, and that somebody asked for its end is excuse enough; so is that its
        // owner would rather have the latest.
        !delivered.contains(send)
            && names.candidates(send).all(|one| one.ending == usize::MAX)
            && names.of_send(send).is_none_or(|(name, _)| !dropping.contains(name))
    });
    lost.map(|(send, (entry, position))| {
        let at = entry.at.as_secs_f64();
        format!("{send} was accepted at {at:.3} s, at position {position}, and never delivered")
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::examples::*;
    use super::*;

    #[test]
    fn an_accepted_send_that_never_arrives_is_lost() {
        let history = complete(vec![
            registered(),
            invoked(1),
            accepted(1, 1),
            invoked(2),
            accepted(2, 2),
            attached(1),
            delivered(1, 1, 1),
        ]);
        let violations = check(&history);
        assert_eq!(violations.len(), 1);
        assert!(violations[0].starts_with("client1.1.2 was accepted"), "{violations:?}");
    }

    #[test]
    fn what_may_still_come_and_what_was_never_accepted_is_not_lost() {
        let mut history = complete(vec![invoked(1), accepted(1, 1)]);
        history.complete = false;
        assert!(check(&history).is_empty());
        let refused = What::Refused { send: key(2), why: crate::history::Why::InboxFull };
        assert!(check(&complete(vec![invoked(1), What::Unknown { send: key(1) }, invoked(2), refused])).is_empty());
        assert!(check(&good()).is_empty());
    }

    #[test]
    fn what_went_with_its_registration_is_not_lost_and_what_came_after_it_is() {
        let whats = |last: Vec<What>| {
            let first = vec![registered(), invoked(1), accepted(1, 1), deregistering(Some(1)), deregistered(Some(1))];
            complete([first, vec![registered_as(9)], last].concat())
        };
        assert!(check(&whats(vec![])).is_empty());
        assert_eq!(check(&whats(vec![invoked(2), accepted(2, 1)])).len(), 1);
        // Accepted by either of the two: nobody can tell.
        let between = vec![registered(), deregistering(Some(1)), invoked(1), registered_as(9), accepted(1, 1)];
        assert!(check(&complete(between)).is_empty());
    }
}
