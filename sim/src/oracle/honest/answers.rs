//! What clients were told when they asked, and whether what was said to be full may have been.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{History, Row, SendKey, What, Why};
use crate::oracle::names::Names;

/// Whoever was registered before the question, and not on the way out by the answer, is listed, once; whoever is
/// certainly not there is not.
pub(super) fn who(history: &History, names: &Names<'_>) -> Vec<String> {
    let mut violations = Vec::new();
    let mut asked: BTreeMap<u64, usize> = BTreeMap::new();
    for (order, entry) in history.entries.iter().enumerate() {
        let (question, clients) = match &entry.what {
            What::Asking { question } => {
                asked.insert(*question, order);
                continue;
            }
            What::Listed { question, clients } => (question, clients),
            _ => continue,
        };
        let from = asked.get(question).copied().unwrap_or(order);
        let mut say = |what: String| {
            violations.push(format!("{} was told at {:.3} s {what}", entry.process, entry.at.as_secs_f64()));
        };
        let listed: BTreeMap<&str, &Row> = clients.iter().map(|row| (row.name.as_str(), row)).collect();
        if listed.len() < clients.len() {
            say("of a client twice".to_owned());
        }
        for (name, one) in names.all_there(from, order) {
            match listed.get(name) {
                None => say(format!("that {name} is not registered, and it is")),
                Some(row) if row.registration != one.id => {
                    say(format!("that {name} is registration {}, and it is {}", row.registration, one.id));
                }
                Some(_) => {}
            }
        }
        for name in listed.keys().filter(|name| names.nobody_there(name, from, order)) {
            say(format!("that {name} is registered, and it is not"));
        }
    }
    violations
}

/// An inbox is called full only if as many messages may have waited in it as the quota allows.
pub(super) fn full(history: &History, names: &Names<'_>, quota: u64) -> Vec<String> {
    let mut violations = Vec::new();
    // What goes to many takes room in inboxes that nobody can name for certain, and a receipt has its room kept.
    if history.entries.iter().any(|entry| matches!(entry.what, What::Posted { .. })) {
        return violations;
    }
    let mut inboxes: BTreeMap<&str, Waiting> = BTreeMap::new();
    // To whom each send went, and how many had left the inbox for certain by then.
    let mut sends: BTreeMap<&SendKey, (&str, u64)> = BTreeMap::new();
    for entry in &history.entries {
        match &entry.what {
            What::Invoked { send, to, .. } => {
                let inbox = inboxes.entry(to).or_default();
                sends.insert(send, (to, inbox.gone.len() as u64));
                inbox.sent += 1;
            }
            What::Refused { send, why } => {
                let Some((to, gone)) = sends.remove(send) else { continue };
                let inbox = inboxes.entry(to).or_default();
                inbox.sent -= 1;
                let most = inbox.sent.saturating_sub(gone);
                if *why == Why::InboxFull && most < quota {
                    violations.push(format!(
                        "{send} was refused at {:.3} s: the inbox of {to} is full, but {most} can wait in it at most, \
                         and {quota} may",
                        entry.at.as_secs_f64()
                    ));
                }
            }
            What::Delivered { session, inbox, position, .. } => {
                inboxes.entry(inbox).or_default().delivered.entry(*session).or_default().insert(*position);
            }
            What::Acknowledged { session, inbox, from, to } => {
                inboxes.entry(inbox).or_default().acknowledged.entry(*session).or_default().push((*from, *to));
            }
            What::Confirmed { session, inbox, .. } => {
                inboxes.entry(inbox).or_default().confirm(*session, names.of_session(*session));
            }
            _ => {}
        }
    }
    violations
}

/// What may wait for a name.
#[derive(Default)]
struct Waiting {
    /// Sends that were not refused.
    sent: u64,
    delivered: BTreeMap<u64, BTreeSet<u64>>,
    acknowledged: BTreeMap<u64, Vec<(u64, u64)>>,
    /// Out of the inbox for certain: registration and position.
    gone: BTreeSet<(u64, u64)>,
}

impl Waiting {
    fn confirm(&mut self, session: u64, registration: u64) {
        let Some(delivered) = self.delivered.get(&session) else { return };
        for (from, to) in self.acknowledged.remove(&session).unwrap_or_default() {
            self.gone.extend(delivered.iter().filter(|at| (from..=to).contains(*at)).map(|at| (registration, *at)));
        }
    }
}

/// Servers that have applied the same entries say the same of the state, and no two lead in one term.
pub(super) fn status(history: &History) -> Vec<String> {
    let mut violations = Vec::new();
    let mut digests: BTreeMap<u64, (u64, &str)> = BTreeMap::new();
    let mut leaders: BTreeMap<u64, &str> = BTreeMap::new();
    for entry in &history.entries {
        let What::Told { server, term, leads, applied, digest } = &entry.what else { continue };
        let known = digests.entry(*applied).or_insert((*digest, server));
        if *applied > 0 && known.0 != *digest {
            violations.push(format!(
                "at {applied} the state of {} has the digest {:016x} and that of {server} {digest:016x}",
                known.1, known.0
            ));
        }
        if *leads {
            let leader = leaders.entry(*term).or_insert(server);
            if *leader != server.as_str() {
                violations.push(format!("both {leader} and {server} say that they lead in term {term}"));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::super::examples::*;
    use super::*;

    fn check(history: &History) -> Vec<String> {
        [who(history, &Names::read(history)), status(history)].concat()
    }

    fn rejects(whats: Vec<What>, expected: &str) {
        let violations = check(&complete(whats));
        assert!(violations.iter().any(|text| text.contains(expected)), "{violations:?}");
    }

    fn asking() -> What {
        What::Asking { question: 1 }
    }

    fn listed(clients: &[(&str, u64)]) -> What {
        let row = |(name, registration): &(&str, u64)| Row {
            name: (*name).to_owned(),
            registration: *registration,
            waiting: 0,
        };
        What::Listed { question: 1, clients: clients.iter().map(row).collect() }
    }

    #[test]
    fn whoever_is_registered_is_listed() {
        let whats = |clients| vec![registering(), registered(), asking(), listed(clients)];
        rejects(whats(&[]), "that client2 is not registered, and it is");
        rejects(whats(&[("client2", 3)]), "is registration 3, and it is 1");
        rejects(whats(&[("client2", 1), ("client2", 1)]), "twice");
        rejects(whats(&[("client2", 1), ("nobody", 2)]), "that nobody is registered, and it is not");
        assert!(check(&complete(whats(&[("client2", 1)]))).is_empty());
        // On its way in or out, either is true.
        assert!(check(&complete(vec![registering(), asking(), registered(), listed(&[])])).is_empty());
        let leaving = vec![registered(), asking(), deregistering(None), listed(&[])];
        assert!(check(&complete(leaving)).is_empty());
        let gone = vec![registering(), registered(), deregistering(Some(1)), deregistered(Some(1)), asking()];
        rejects([gone.clone(), vec![listed(&[("client2", 1)])]].concat(), "is registered, and it is not");
        assert!(check(&complete([gone, vec![listed(&[])]].concat())).is_empty());
    }

    #[test]
    fn an_inbox_is_full_only_if_as_many_may_wait_in_it_as_are_allowed() {
        let refused = |number| What::Refused { send: key(number), why: Why::InboxFull };
        let check = |whats: Vec<What>| {
            let history = complete([vec![registered(), invoked(1), invoked(2)], whats].concat());
            full(&history, &Names::read(&history), 2)
        };
        assert!(check(vec![invoked(3), refused(3)]).is_empty());
        assert!(check(vec![refused(2)])[0].contains("1 can wait in it at most, and 2 may"));
        let read = vec![attaching(1), attached(1), delivered(1, 1, 1), acknowledged(1, 1)];
        let gone = [read.clone(), vec![confirmed(1, 1), invoked(3), refused(3)]].concat();
        assert!(check(gone)[0].contains("1 can wait in it at most, and 2 may"));
        // Acknowledged, but who knows whether by then.
        assert!(check([read.clone(), vec![invoked(3), refused(3)]].concat()).is_empty());
        assert!(check([read, vec![invoked(3), confirmed(1, 1), refused(3)]].concat()).is_empty());
    }

    #[test]
    fn what_servers_say_of_one_state_is_one() {
        let told = |server: &str, leads, applied, digest| What::Told {
            server: server.into(),
            term: 3,
            leads,
            applied,
            digest,
        };
        rejects(vec![told("a", true, 4, 7), told("b", false, 4, 8)], "at 4 the state of a");
        rejects(vec![told("a", true, 4, 7), told("b", true, 5, 8)], "both a and b");
        assert!(
            check(&complete(vec![told("a", true, 4, 7), told("b", false, 5, 8), told("b", false, 4, 7)])).is_empty()
        );
    }
}
