//! Which registration a name stood for, as far as the clients' journals tell.
//!
//! What a client asked for may happen at any moment between its question and its answer, and after a question without
//! an answer at any moment for ever. Moments are places in the history.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{History, Process, SendKey, What};

/// Never, as far as anybody knows.
const NEVER: usize = usize::MAX;

/// One registration.
#[derive(Debug)]
pub(super) struct Registration {
    pub id: u64,
    /// It was not there before.
    begins: usize,
    /// It was there by then, since somebody had its receipt.
    receipted: usize,
    /// Somebody asked for its end: from then on it may be gone.
    pub ending: usize,
    /// It was gone by then.
    pub ended: usize,
}

/// All that is known of one name.
#[derive(Debug, Default)]
struct OneName {
    /// Ids ascending.
    registrations: Vec<Registration>,
    /// The first time that somebody asked for it.
    asked: Option<usize>,
    /// Questions for it without an answer.
    open: BTreeSet<usize>,
    /// When somebody asked for the end of whichever holds it.
    endings: Vec<usize>,
}

/// The names of a run, and where its sends went.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    names: BTreeMap<&'a str, OneName>,
    /// The registration of each attachment.
    sessions: BTreeMap<u64, u64>,
    sends: BTreeMap<&'a SendKey, Sent<'a>>,
    /// The questions for a name that wait for an answer.
    questions: BTreeMap<(&'a Process, u64), usize>,
}

/// A send, between its question and its answer.
#[derive(Debug, Clone, Copy)]
struct Sent<'a> {
    to: &'a str,
    invoked: usize,
    answered: usize,
    /// Where it was delivered from, if it was.
    delivered: Option<u64>,
}

impl<'a> Names<'a> {
    pub fn read(history: &'a History) -> Self {
        let mut names = Self::default();
        for (order, entry) in history.entries.iter().enumerate() {
            names.read_entry(order, &entry.process, &entry.what);
        }
        for name in names.names.values_mut() {
            name.finish();
        }
        names
    }

    fn read_entry(&mut self, order: usize, process: &'a Process, what: &'a What) {
        match what {
            What::Registering { name, question } => {
                let known = self.names.entry(name).or_default();
                known.asked.get_or_insert(order);
                known.open.insert(order);
                // Asked again, the first time may still come to be.
                self.questions.insert((process, *question), order);
            }
            What::Registered { name, question, registration } => {
                let asked = self.questions.remove(&(process, *question));
                let known = self.names.entry(name).or_default();
                if let Some(asked) = asked {
                    known.open.remove(&asked);
                }
                known.asked.get_or_insert(order);
                known.receipted(*registration, order);
            }
            What::Deregistering { name, registration } => {
                let known = self.names.entry(name).or_default();
                match registration {
                    None => known.endings.push(order),
                    Some(id) => {
                        let registration = known.registrations.iter_mut().find(|one| one.id == *id);
                        registration.into_iter().for_each(|one| one.ending = one.ending.min(order));
                    }
                }
            }
            What::Deregistered { name, registration: Some(id) } => {
                let known = self.names.entry(name).or_default();
                let registration = known.registrations.iter_mut().find(|one| one.id == *id);
                registration.into_iter().for_each(|one| one.ended = one.ended.min(order));
            }
            What::Invoked { send, to, .. } => {
                self.sends.insert(send, Sent { to, invoked: order, answered: NEVER, delivered: None });
            }
            What::Accepted { send, .. } | What::Refused { send, .. } => {
                let sent = self.sends.get_mut(send);
                sent.into_iter().for_each(|sent| sent.answered = sent.answered.min(order));
            }
            What::Attached { session, registration, .. } => drop(self.sessions.insert(*session, *registration)),
            What::Delivered { session, send: Some(send), .. } => {
                let registration = self.of_session(*session);
                if let Some(sent) = self.sends.get_mut(send) {
                    sent.delivered.get_or_insert(registration);
                }
            }
            _ => {}
        }
    }

    /// The registration that an attachment reads; 0 before its receipt.
    pub fn of_session(&self, session: u64) -> u64 {
        self.sessions.get(&session).copied().unwrap_or(0)
    }

    /// The recipient and registration that a send is in, if it is in any inbox and that is known for certain.
    pub fn of_send(&self, send: &SendKey) -> Option<(&'a str, u64)> {
        let sent = self.sends.get(send)?;
        let certain = || self.there(sent.to, sent.invoked, sent.answered).map(|one| one.id);
        sent.delivered.or_else(certain).map(|registration| (sent.to, registration))
    }

    /// The registrations that a send may be in.
    pub fn candidates(&self, send: &SendKey) -> impl Iterator<Item = &Registration> {
        let found = self.sends.get(send).and_then(|sent| Some((sent, self.names.get(sent.to)?)));
        found.into_iter().flat_map(|(sent, name)| {
            let overlaps = |one: &&Registration| one.begins <= sent.answered && one.ended >= sent.invoked;
            name.registrations.iter().filter(overlaps)
        })
    }

    /// Whether a send may have found a recipient: somebody is known, or may have registered without anybody knowing.
    pub fn may_be_there(&self, send: &SendKey) -> bool {
        let unknown = self.sends.get(send).is_some_and(|sent| {
            let name = self.names.get(sent.to);
            name.is_some_and(|name| name.open.iter().any(|asked| *asked <= sent.answered))
        });
        unknown || self.candidates(send).next().is_some()
    }

    /// The registration that held `name` all the time from one moment to another, if one did for certain.
    pub fn there(&self, name: &str, from: usize, to: usize) -> Option<&Registration> {
        let mut all = self.names.get(name)?.registrations.iter();
        all.find(|one| one.receipted <= from && one.ending >= to)
    }

    /// Whether nobody held `name` at any time from one moment to another, for certain.
    pub fn nobody_there(&self, name: &str, from: usize, to: usize) -> bool {
        let Some(known) = self.names.get(name) else { return true };
        known.asked.is_none_or(|asked| asked > to)
            || (known.open.first().is_none_or(|asked| *asked > to)
                && known.registrations.iter().all(|one| one.ended < from || one.begins > to))
    }

    /// The registration of that id.
    pub fn registration(&self, name: &str, id: u64) -> Option<&Registration> {
        self.names.get(name)?.registrations.iter().find(|one| one.id == id)
    }

    /// Names that were registered for certain all the time from one moment to another.
    pub fn all_there(&self, from: usize, to: usize) -> impl Iterator<Item = (&'a str, &Registration)> {
        let names = self.names.keys().copied();
        names.filter_map(move |name| self.there(name, from, to).map(|one| (name, one)))
    }

    /// Whether the end of any registration of `name` was asked for before that moment.
    pub fn may_have_ended(&self, name: &str, before: usize) -> bool {
        let Some(known) = self.names.get(name) else { return false };
        let mut asked = known.endings.iter().copied().chain(known.registrations.iter().map(|one| one.ending));
        asked.any(|asked| asked < before)
    }
}

impl OneName {
    fn receipted(&mut self, id: u64, order: usize) {
        if self.registrations.iter().any(|one| one.id == id) {
            return;
        }
        let registration = Registration { id, begins: 0, receipted: order, ending: NEVER, ended: NEVER };
        let at = self.registrations.partition_point(|one| one.id < id);
        self.registrations.insert(at, registration);
    }

    /// A name has one holder at a time, so each registration is gone when the next one is there, and is not there
    /// before the one before may be gone.
    fn finish(&mut self) {
        let endings = &self.endings;
        for one in &mut self.registrations {
            // It may find whoever holds the name at any time after it was asked.
            let any = endings.iter().map(|asked| (*asked).max(one.receipted)).min();
            one.ending = any.map_or(one.ending, |any| any.min(one.ending));
        }
        let first = self.asked.unwrap_or(0);
        let mut before = first;
        for at in 0..self.registrations.len() {
            let next = self.registrations.get(at + 1).map_or(NEVER, |next| next.receipted);
            let one = &mut self.registrations[at];
            one.begins = before.min(one.receipted);
            one.ended = one.ended.min(next);
            before = one.ending.max(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::*;
    use super::*;

    #[test]
    fn a_registration_may_be_there_from_the_question_and_is_from_the_receipt() {
        let history = complete(vec![registering(), registered(), invoked(1), accepted(1, 1)]);
        let names = Names::read(&history);
        assert_eq!(names.there("client2", 2, 3).map(|one| one.id), Some(1));
        assert!(names.there("client2", 0, 3).is_none());
        assert!(!names.nobody_there("client2", 0, 1));
        assert!(names.nobody_there("nobody", 0, 9));
        assert_eq!(names.of_send(&key(1)), Some(("client2", 1)));
    }

    #[test]
    fn one_that_ends_is_followed_by_another() {
        let history = complete(vec![
            registered(),
            invoked(1),
            deregistering(Some(1)),
            accepted(1, 1),
            deregistered(Some(1)),
            invoked(2),
            registered_as(9),
            accepted(2, 1),
            invoked(3),
            accepted(3, 2),
        ]);
        let names = Names::read(&history);
        let candidates = |number| names.candidates(&key(number)).map(|one| one.id).collect::<Vec<_>>();
        assert_eq!((candidates(1), candidates(2), candidates(3)), (vec![1, 9], vec![9], vec![9]));
        assert_eq!((names.of_send(&key(1)), names.of_send(&key(3))), (None, Some(("client2", 9))));
        assert!(names.may_have_ended("client2", 3) && !names.may_have_ended("client2", 2));
    }

    #[test]
    fn the_end_of_whoever_holds_the_name_is_any_ones() {
        let history = complete(vec![registered(), deregistering(None), registered_as(9), invoked(1), accepted(1, 1)]);
        let names = Names::read(&history);
        assert!(names.there("client2", 3, 4).is_none());
        assert!(names.candidates(&key(1)).all(|one| one.ending < NEVER));
    }

    #[test]
    fn between_two_there_is_nobody_unless_somebody_asked() {
        let ended = vec![registering(), registered(), deregistering(Some(1)), deregistered(Some(1)), invoked(1)];
        let history = complete(ended.clone());
        assert!(Names::read(&history).nobody_there("client2", 4, 5));
        let history = complete([ended, vec![registering()]].concat());
        assert!(!Names::read(&history).nobody_there("client2", 4, 6));
    }

    #[test]
    fn each_question_for_a_name_has_its_own_answer() {
        let asks = |question| What::Registering { name: "client2".into(), question };
        let has = |question| What::Registered { name: "client2".into(), question, registration: 1 };
        let nobody = |whats: Vec<What>| {
            let ended = [deregistering(Some(1)), deregistered(Some(1)), invoked(1), accepted(1, 1)];
            let (from, whats) = (whats.len() + 2, whats.into_iter().chain(ended).collect());
            Names::read(&complete(whats)).nobody_there("client2", from, from + 1)
        };
        assert!(nobody(vec![asks(1), asks(2), has(1), has(2)]));
        assert!(!nobody(vec![asks(1), asks(2), has(2)]), "the other one may come to be at any time");
        assert!(!nobody(vec![asks(1), asks(1), has(1)]), "and so may the first copy of one that was asked twice");
    }
}
