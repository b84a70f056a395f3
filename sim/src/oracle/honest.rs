//! P5: what was refused did not happen, what was delivered was sent, one send has one answer, and what is said of who
//! is there, of what is full and of how a server stands is true.

mod answers;

use std::collections::BTreeMap;

use super::names::Names;
use crate::history::{History, SendKey, What, Why};

#[derive(Default)]
struct Send<'a> {
    to: &'a str,
    digest: u64,
    invoked: usize,
    /// The reason that was given, if it was refused.
    refused: Option<&'a Why>,
    accepted: bool,
    delivered: bool,
}

pub(super) fn check(history: &History, inbox_quota: u64) -> Vec<String> {
    let names = Names::read(history);
    let mut violations = Vec::new();
    let mut sends: BTreeMap<&SendKey, Send<'_>> = BTreeMap::new();
    for (order, entry) in history.entries.iter().enumerate() {
        let at = entry.at.as_secs_f64();
        match &entry.what {
            What::Invoked { send, to, digest } => {
                sends.insert(send, Send { to, digest: *digest, invoked: order, ..Send::default() });
            }
            What::Accepted { send, .. } => {
                let sent = sends.entry(send).or_default();
                if !sent.accepted && !names.may_be_there(send) {
                    violations.push(format!("{send} was accepted at {at:.3} s, and nobody is called {}", sent.to));
                }
                sent.accepted = true;
            }
            What::Refused { send, why } => {
                let sent = sends.entry(send).or_default();
                if let Some(earlier) = sent.refused.replace(why).filter(|earlier| *earlier != why) {
                    violations.push(format!("{send} was refused twice, because of {earlier:?} and of {why:?}"));
                }
                if let Some(untrue) = untrue(&names, send, sent, why, order) {
                    violations.push(format!("{send} was refused at {at:.3} s: {untrue}"));
                }
            }
            What::Delivered { send: Some(send), .. } if send.is_shared() => {}
            What::Delivered { inbox, position, from, number, send, digest, notice, .. } => {
                let Some(send) = send else {
                    // What became of a message has no body.
                    if notice.is_some() {
                        continue;
                    }
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
                if *from != send.sender || (send.is_numbered() && *number != send.number) {
                    violations.push(format!("{send} was delivered as number {number} of {from}, at {at:.3} s"));
                }
            }
            _ => {}
        }
    }
    for (send, sent) in &sends {
        if sent.refused.is_some() && sent.accepted {
            violations.push(format!("{send} was both accepted and refused"));
        }
        if sent.refused.is_some() && sent.delivered {
            violations.push(format!("{send} was refused, and delivered all the same"));
        }
    }
    violations.extend(answers::who(history, &names));
    violations.extend(answers::full(history, &names, inbox_quota));
    violations.extend(answers::status(history));
    violations
}

/// What is not true about a refusal.
fn untrue(names: &Names<'_>, send: &SendKey, sent: &Send<'_>, why: &Why, order: usize) -> Option<String> {
    match why {
        Why::NoSuchClient => {
            let there = names.there(sent.to, sent.invoked, order);
            there.map(|_| format!("no such client, but {} is one", sent.to))
        }
        Why::StreamClosed => {
            let ended = names.may_have_ended(&send.sender, order);
            (!ended).then(|| format!("its stream is closed, and nobody asked for the end of {}", send.sender))
        }
        // Whether it may have been: see `answers::full`. What was not sent is not to be delivered, which is judged below.
        Why::InboxFull | Why::NotSent => None,
        Why::Other(other) => Some(format!("{other}, for which there is no reason")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::*;
    use super::*;

    fn check(history: &History) -> Vec<String> {
        super::check(history, 0)
    }

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
        rejects(vec![invoked(1), refused(1, Why::NoSuchClient), refused(1, Why::InboxFull)], "refused twice");
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
        assert!(check(&complete([vec![registered(), deregistering(None)], refusal()].concat())).is_empty());
        // Registered while the send was on its way: either answer is true.
        assert!(check(&complete(vec![invoked(1), registered(), refused(1, Why::NoSuchClient)])).is_empty());
        // There again, and for certain.
        let again = vec![registered(), deregistering(Some(1)), deregistered(Some(1)), registered_as(9)];
        rejects([again, refusal()].concat(), "but client2 is one");
        assert!(check(&good()).is_empty());
    }

    #[test]
    fn nothing_is_accepted_for_nobody() {
        rejects(vec![invoked(1), accepted(1, 1)], "nobody is called client2");
        let gone = vec![registering(), registered(), deregistering(Some(1)), deregistered(Some(1))];
        rejects([gone.clone(), vec![invoked(1), accepted(1, 1)]].concat(), "nobody is called client2");
        assert!(check(&complete([gone, vec![invoked(1), registering(), accepted(1, 1)]].concat())).is_empty());
    }

    #[test]
    fn a_refusal_has_a_reason() {
        rejects(vec![invoked(1), refused(1, Why::Other("a whim".into()))], "a whim, for which");
        rejects(vec![invoked(1), refused(1, Why::StreamClosed)], "nobody asked for the end of client1");
        let ending = What::Deregistering { name: "client1".into(), registration: None };
        assert!(check(&complete(vec![invoked(1), ending, refused(1, Why::StreamClosed)])).is_empty());
    }
}
