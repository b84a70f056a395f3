//! Honest, of who comes and goes: nobody is told of a registration or an attachment that nobody asked for, or of an end that
//! nobody asked for; and each is told in its turn.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Came, History, What};

#[derive(Default)]
struct Check<'a> {
    /// Names that somebody has asked to register, to attach to, and to end.
    registering: BTreeSet<&'a str>,
    attaching: BTreeSet<&'a str>,
    ending: BTreeSet<&'a str>,
    /// What each watcher was told last of each registration.
    told: BTreeMap<(u64, u64), Known>,
    violations: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Offline,
    Online,
    Gone,
}

pub(super) fn check(history: &History) -> Vec<String> {
    let mut check = Check::default();
    history.entries.iter().for_each(|entry| check.read(entry.at.as_secs_f64(), &entry.what));
    check.violations
}

impl<'a> Check<'a> {
    fn read(&mut self, at: f64, what: &'a What) {
        match what {
            What::Registering { name, .. } => drop(self.registering.insert(name)),
            What::Attaching { inbox, .. } => drop(self.attaching.insert(inbox)),
            What::Deregistering { name, .. } => drop(self.ending.insert(name)),
            What::Came { watcher, name, registration, how } => {
                let asked = match how {
                    Came::Registered | Came::Moved => &self.registering,
                    Came::Online | Came::Offline => &self.attaching,
                    Came::Deregistered => &self.ending,
                };
                let is_asked = asked.contains(name.as_str());
                let key = (*watcher, *registration);
                let before = self.told.get(&key).copied();
                let now = match (how, before) {
                    (Came::Registered, None) | (Came::Offline, Some(Known::Online)) => Some(Known::Offline),
                    (Came::Online, Some(Known::Offline)) => Some(Known::Online),
                    (Came::Moved, Some(known @ (Known::Offline | Known::Online))) => Some(known),
                    (Came::Deregistered, Some(Known::Offline | Known::Online)) => Some(Known::Gone),
                    _ => None,
                };
                match now.filter(|_| is_asked) {
                    Some(now) => drop(self.told.insert(key, now)),
                    None => self.violations.push(format!(
                        "watcher {watcher} is told at {at:.3} s of {name} (registration {registration}): {how:?}, which \
                         cannot be"
                    )),
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::*;
    use super::*;

    fn came(how: Came) -> What {
        What::Came { watcher: 1, name: "client2".into(), registration: 1, how }
    }

    fn asked() -> Vec<What> {
        let registering = What::Registering { name: "client2".into(), question: 1 };
        vec![registering, attaching(1), deregistering(Some(1))]
    }

    #[test]
    fn what_was_asked_for_comes_in_its_turn_and_nothing_else() {
        use Came::{Deregistered, Moved, Offline, Online, Registered};
        let broken = |asked: Vec<What>, told: &[Came]| {
            check(&complete([asked, told.iter().map(|how| came(*how)).collect()].concat())).len()
        };
        assert_eq!(broken(asked(), &[Registered, Online, Offline, Moved, Online, Deregistered]), 0);
        for told in [&[Online][..], &[Registered, Offline], &[Registered, Registered], &[Registered, Online, Online]] {
            assert_eq!(broken(asked(), told), 1, "{told:?}");
        }
        assert_eq!(broken(asked(), &[Registered, Deregistered, Online]), 1);
        assert_eq!(broken(vec![], &[Registered]), 1);
        let registering = asked()[..1].to_vec();
        assert_eq!(broken(registering.clone(), &[Registered, Online]), 1);
        assert_eq!(broken(registering, &[Registered, Deregistered]), 1);
        // Another one who watches is told for itself.
        let other = What::Came { watcher: 2, name: "client2".into(), registration: 1, how: Registered };
        assert!(check(&complete([asked(), vec![came(Registered), other]].concat())).is_empty());
    }
}
