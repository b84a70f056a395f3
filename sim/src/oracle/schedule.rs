//! The promises as they hold for time: what is to come later, what expires, and what an inbox keeps.
//!
//! All by the cluster's clock, which never goes back: a message has the time at which it was accepted, or at which it was to
//! come, and an inbox has them in the order of those.
//!
//! * in order: nothing stands behind a message of a later time, so that nothing comes early and nothing late.
//! * honest: nobody is given what had expired before he asked; an inbox shows as kept what was delivered and acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use super::Promise;
use super::names::Names;
use crate::history::{History, SendKey, What};

/// The inbox of one registration.
type Place<'a> = (&'a str, u64);

#[derive(Default)]
struct Inbox<'a> {
    /// What is where, by the time at which it came there.
    times: BTreeMap<u64, (u64, String)>,
    /// What was delivered where: the send, and its digest.
    delivered: BTreeMap<u64, (Option<&'a SendKey>, u64)>,
    /// Positions that were acknowledged: all up to one, and single ones.
    floor: u64,
    above: BTreeSet<u64>,
}

#[derive(Default)]
struct Check<'a> {
    names: Names<'a>,
    inboxes: BTreeMap<Place<'a>, Inbox<'a>>,
    /// Sends that are to come later, and when, if anybody knows.
    due: BTreeMap<&'a SendKey, Option<u64>>,
    /// After how many milliseconds sends expire.
    expires: BTreeMap<&'a SendKey, u64>,
    /// The cluster's clock showed at least that when each attachment was asked for.
    asked: BTreeMap<u64, u64>,
    clock: u64,
    found: Vec<(Promise, String)>,
}

/// What breaks this promise.
pub(super) fn check(history: &History, promise: Promise) -> Vec<String> {
    if !matches!(promise, Promise::Order | Promise::Honest) {
        return Vec::new();
    }
    let mut check = Check { names: Names::read(history), ..Check::default() };
    for entry in &history.entries {
        // A receipt may come after the delivery that it is about.
        match &entry.what {
            What::Posted { send, expires, delayed, .. } => {
                if *expires > 0 {
                    check.expires.insert(send, *expires);
                }
                if *delayed {
                    check.due.insert(send, None);
                }
            }
            What::Scheduled { send, due } => drop(check.due.insert(send, Some(*due))),
            _ => {}
        }
    }
    history.entries.iter().for_each(|entry| check.read(entry.at.as_secs_f64(), &entry.what));
    check.judge_order();
    check.found.into_iter().filter(|(broken, _)| *broken == promise).map(|(_, text)| text).collect()
}

impl<'a> Check<'a> {
    fn read(&mut self, at: f64, what: &'a What) {
        match what {
            What::Attaching { session, .. } => drop(self.asked.insert(*session, self.clock)),
            What::Delivered { session, inbox, position, send, digest, time, .. } => {
                let place = (inbox.as_str(), self.names.of_session(*session));
                let send = send.as_ref();
                self.clock = self.clock.max(*time);
                // Of one that is to come later, and whose receipt was lost, nobody knows when.
                let came = match send.and_then(|send| self.due.get(send)) {
                    Some(due) => *due,
                    None => Some(*time),
                };
                let known = self.inboxes.entry(place).or_default();
                known.delivered.entry(*position).or_insert((send, *digest));
                let Some(came) = came else { return };
                // A receipt comes with whatever brought it, in the middle of an entry.
                let Some(what) = send.map(ToString::to_string) else { return };
                known.times.entry(*position).or_insert((came, what.clone()));
                let expires = send.and_then(|send| self.expires.get(send)).map(|after| came + after);
                let clock = self.asked.get(session).copied().unwrap_or(0);
                if let Some(expires) = expires.filter(|expires| *expires <= clock) {
                    let text = format!(
                        "{what} came to {inbox} at {at:.3} s: it had expired at {expires}, and the clock showed {clock} \
                         when its reader asked"
                    );
                    self.found.push((Promise::Honest, text));
                }
            }
            What::Acknowledged { session, inbox, from, to } => {
                let place = (inbox.as_str(), self.names.of_session(*session));
                let known = self.inboxes.entry(place).or_default();
                if *from <= 1 {
                    known.floor = known.floor.max(*to);
                } else {
                    known.above.extend(*from..=*to);
                }
            }
            What::Kept { inbox, registration, messages } => self.judge_kept(at, (inbox, *registration), messages),
            _ => {}
        }
    }

    /// What is kept was delivered and acknowledged.
    fn judge_kept(&mut self, at: f64, place: Place<'a>, messages: &'a [(u64, Option<SendKey>, u64)]) {
        let known = self.inboxes.entry(place).or_default();
        for (position, send, digest) in messages {
            let is_acknowledged = *position <= known.floor || known.above.contains(position);
            let delivered = known.delivered.get(position);
            if !is_acknowledged || delivered.is_none_or(|seen| *seen != (send.as_ref(), *digest)) {
                let text = format!(
                    "the inbox of {} shows position {position} as kept at {at:.3} s, and it was not delivered so and \
                     acknowledged",
                    place.0
                );
                self.found.push((Promise::Honest, text));
            }
        }
        if !messages.is_sorted_by(|one, other| one.0 < other.0) {
            self.found.push((Promise::Order, format!("what the inbox of {} has kept is out of order", place.0)));
        }
    }

    fn judge_order(&mut self) {
        for ((name, _), inbox) in &self.inboxes {
            let mut latest: Option<(u64, u64)> = None;
            for (position, (time, what)) in &inbox.times {
                if let Some((before, behind)) = latest.filter(|(before, _)| before > time) {
                    let text = format!(
                        "position {position} of {name} is {what}, of time {time}, behind position {behind} of time {before}"
                    );
                    self.found.push((Promise::Order, text));
                }
                latest = latest.max(Some((*time, *position)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::*;
    use super::*;

    fn at(accepted: u64, mut delivery: What) -> What {
        if let What::Delivered { time, .. } = &mut delivery {
            *time = accepted;
        }
        delivery
    }

    fn posted(number: u64, expires: u64, delayed: bool) -> What {
        let to = crate::history::To::Clients(vec!["client2".into()]);
        What::Posted { send: key(number), to, digest: number, receipt: false, expires, delayed }
    }

    fn broken(whats: Vec<What>, promise: Promise) -> Vec<String> {
        super::check(&complete([vec![registered()], whats].concat()), promise)
    }

    fn rejects(whats: Vec<What>, promise: Promise, expected: &str) {
        let violations = broken(whats, promise);
        assert!(violations.iter().any(|text| text.contains(expected)), "{violations:?}");
    }

    fn passes(whats: Vec<What>) {
        for promise in Promise::ALL {
            assert_eq!(broken(whats.clone(), promise), Vec::<String>::new());
        }
    }

    #[test]
    fn what_is_to_come_later_stands_where_its_time_is() {
        let scheduled = What::Scheduled { send: key(1), due: 50 };
        let sent = vec![posted(1, 0, true), scheduled, attaching(1), attached(1)];
        let with = |more: &[What]| [sent.clone(), more.to_vec()].concat();
        passes(with(&[at(49, delivered(1, 1, 2)), at(10, delivered(1, 2, 1)), at(50, delivered(1, 3, 3))]));
        rejects(with(&[at(10, delivered(1, 1, 1)), at(49, delivered(1, 2, 2))]), Promise::Order, "behind position 1");
        rejects(with(&[at(51, delivered(1, 1, 2)), at(10, delivered(1, 2, 1))]), Promise::Order, "of time 50");
        rejects(vec![at(9, delivered(1, 1, 1)), at(8, delivered(1, 2, 2))], Promise::Order, "of time 8");
        // Nobody knows when it was to come.
        passes(vec![
            posted(1, 0, true),
            at(90, delivered(1, 1, 2)),
            at(10, delivered(1, 2, 1)),
            at(95, delivered(1, 3, 3)),
        ]);
    }

    #[test]
    fn what_had_expired_when_its_reader_asked_is_not_given_to_it() {
        let first = vec![posted(1, 40, false), attaching(1), attached(1), at(10, delivered(1, 1, 1))];
        let second = |clock| {
            let seen = at(clock, delivered(1, 2, 2));
            [first.clone(), vec![seen, attaching(2), attached(2), again(at(10, delivered(2, 1, 1)))]].concat()
        };
        passes(second(49));
        rejects(second(50), Promise::Honest, "had expired at 50");
    }

    #[test]
    fn what_is_kept_was_delivered_and_acknowledged() {
        let kept = |number: u64| What::Kept {
            inbox: "client2".into(),
            registration: 1,
            messages: vec![(1, Some(key(number)), number)],
        };
        let seen = vec![attaching(1), attached(1), delivered(1, 1, 1), delivered(1, 2, 2), acknowledged(1, 1)];
        let with = |what| [seen.clone(), vec![what]].concat();
        passes(with(kept(1)));
        rejects(with(kept(2)), Promise::Honest, "not delivered so");
        let waits = What::Kept { inbox: "client2".into(), registration: 1, messages: vec![(2, Some(key(2)), 2)] };
        rejects(with(waits), Promise::Honest, "position 2 as kept");
    }
}
