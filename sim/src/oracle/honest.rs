//! P5: what was refused did not happen, what was delivered was sent, and one send has one answer.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{History, SendKey, What, Why};

#[derive(Default)]
struct Send<'a> {
    to: &'a str,
    digest: u64,
    /// Whether the recipient was registered for certain when the send was invoked.
    registered: bool,
    refused: bool,
    accepted: bool,
    delivered: bool,
}

pub(super) fn check(history: &History) -> Vec<String> {
    let mut violations = Vec::new();
    let mut registered: BTreeSet<&str> = BTreeSet::new();
    let mut leaving: BTreeSet<&str> = BTreeSet::new();
    let mut sends: BTreeMap<&SendKey, Send<'_>> = BTreeMap::new();
    for entry in &history.entries {
        let at = entry.at.as_secs_f64();
        match &entry.what {
            What::Registered { name } => drop(registered.insert(name)),
            // Whether and when it happens is not known, so from here on nothing is certain about this name.
            What::Deregistering { name } => drop(leaving.insert(name)),
            What::Invoked { send, to, digest } => {
                let registered = registered.contains(to.as_str());
                sends.insert(send, Send { to, digest: *digest, registered, ..Send::default() });
            }
            What::Accepted { send, .. } => sends.entry(send).or_default().accepted = true,
            What::Refused { send, why } => {
                let sent = sends.entry(send).or_default();
                sent.refused = true;
                if *why == Why::NoSuchClient && sent.registered && !leaving.contains(sent.to) {
                    violations.push(format!("{send} was refused at {at:.3} s: no such client, but {} is one", sent.to));
                }
            }
            What::Delivered { inbox, position, from, number, send, digest, .. } => {
                let Some(send) = send else {
                    violations
                        .push(format!("position {position} of {inbox} has a body that nobody sent, at {at:.3} s"));
                    continue;
                };
                let Some(sent) = sends.get_mut(send) else {
                    violations.push(format!("{send} was delivered at {at:.3} s, and was never sent"));
                    continue;
                };
                sent.delivered = true;
                if sent.to != inbox {
                    violations.push(format!("{send} was sent to {} and delivered to {inbox}, at {at:.3} s", sent.to));
                }
                if sent.digest != *digest {
                    violations.push(format!("{send} was delivered with another body, at {at:.3} s"));
                }
                if *from != send.sender || *number != send.number {
                    violations.push(format!("{send} was delivered as number {number} of {from}, at {at:.3} s"));
                }
            }
            _ => {}
        }
    }
    for (send, sent) in &sends {
        if sent.refused && sent.accepted {
            violations.push(format!("{send} was both accepted and refused"));
        }
        if sent.refused && sent.delivered {
            violations.push(format!("{send} was refused, and delivered all the same"));
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

    fn refused(number: u64, why: Why) -> What {
        What::Refused { send: key(number), why }
    }

    #[test]
    fn what_was_refused_is_not_delivered_and_has_one_answer() {
        rejects(vec![invoked(1), refused(1, Why::InboxFull), delivered(1, 1, 1)], "delivered all the same");
        rejects(vec![invoked(1), delivered(1, 1, 1), refused(1, Why::InboxFull)], "delivered all the same");
        rejects(vec![invoked(1), accepted(1, 1), refused(1, Why::InboxFull)], "both");
    }

    #[test]
    fn nothing_is_delivered_that_was_not_sent_like_that() {
        rejects(vec![delivered(1, 1, 1)], "never sent");
        let changed = |change: fn(&mut What)| {
            let mut delivery = delivered(1, 1, 1);
            change(&mut delivery);
            vec![invoked(1), delivery]
        };
        rejects(
            changed(|d| {
                if let What::Delivered { digest, .. } = d {
                    *digest = 9
                }
            }),
            "another body",
        );
        rejects(
            changed(|d| {
                if let What::Delivered { from, .. } = d {
                    *from = "x".into()
                }
            }),
            "of x",
        );
        rejects(
            changed(|d| {
                if let What::Delivered { number, .. } = d {
                    *number = 9
                }
            }),
            "number 9",
        );
        rejects(
            changed(|d| {
                if let What::Delivered { inbox, .. } = d {
                    *inbox = "x".into()
                }
            }),
            "delivered to x",
        );
        rejects(
            changed(|d| {
                if let What::Delivered { send, .. } = d {
                    *send = None
                }
            }),
            "nobody sent",
        );
    }

    #[test]
    fn no_such_client_is_said_only_of_one_that_may_not_be_there() {
        let refusal = || vec![invoked(1), refused(1, Why::NoSuchClient)];
        rejects([vec![registered()], refusal()].concat(), "but client2 is one");
        assert!(check(&complete(refusal())).is_empty());
        let leaving = What::Deregistering { name: "client2".into() };
        assert!(check(&complete([vec![registered(), leaving], refusal()].concat())).is_empty());
        // Registered while the send was on its way: either answer is true.
        assert!(check(&complete(vec![invoked(1), registered(), refused(1, Why::NoSuchClient)])).is_empty());
        assert!(check(&good()).is_empty());
    }
}
