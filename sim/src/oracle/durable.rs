//! P1: every send that got its receipt is delivered.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{History, What};

pub(super) fn check(history: &History) -> Vec<String> {
    if !history.complete {
        return Vec::new();
    }
    let mut accepted = BTreeMap::new();
    let mut delivered = BTreeSet::new();
    for entry in &history.entries {
        match &entry.what {
            What::Accepted { send, position } => drop(accepted.insert(send, (entry, *position))),
            What::Delivered { send: Some(send), .. } => drop(delivered.insert(send)),
            _ => {}
        }
    }
    let lost = accepted.into_iter().filter(|(send, _)| !delivered.contains(send));
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
        let history =
            complete(vec![invoked(1), accepted(1, 1), invoked(2), accepted(2, 2), attached(1), delivered(1, 1, 1)]);
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
}
