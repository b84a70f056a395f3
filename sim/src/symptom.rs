//! What failed, as far as two failures of it are the same one.
//!
//! A shrunk plan must fail as the whole one did, and a search counts its failures by what failed: details (which
//! message, which index, which server) differ from plan to plan and do not count.

use std::fmt;

use crate::oracle::Promise;
use crate::run::Verdict;

/// What failed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Symptom {
    /// A promise was broken.
    Broken(Promise),
    /// Servers contradict each other about this.
    Disagreement(String),
    /// Something did not come to be in time.
    Liveness,
    /// A task panicked, or a server or client ended by itself: what it said.
    Crash(String),
    /// The simulator is at fault: what it said.
    Harness(String),
}

impl Symptom {
    /// What a verdict shows first; nothing if it passed.
    pub fn of(verdict: &Verdict) -> Option<Self> {
        Self::all(verdict).into_iter().next()
    }

    /// Everything that a verdict shows.
    fn all(verdict: &Verdict) -> Vec<Self> {
        match verdict {
            Verdict::Passed => Vec::new(),
            Verdict::Safety(violations) => violations.iter().map(|violation| Self::Broken(violation.promise)).collect(),
            // "ABOUT is THIS for one and THAT for another".
            Verdict::Disagreement(text) => {
                vec![Self::Disagreement(without_numbers(text.split(" is ").next().unwrap_or_default()))]
            }
            Verdict::Liveness(_) => vec![Self::Liveness],
            Verdict::Crash(text) => vec![Self::Crash(without_numbers(what_it_said(text)))],
            Verdict::Harness(text) => vec![Self::Harness(without_numbers(text))],
        }
    }

    /// Whether a verdict shows this, too.
    pub fn is_shown_by(&self, verdict: &Verdict) -> bool {
        Self::all(verdict).contains(self)
    }

    /// A word for file names.
    pub fn word(&self) -> String {
        match self {
            Self::Broken(promise) => promise.to_string().replace(' ', "-"),
            Self::Disagreement(_) => "disagreement".to_owned(),
            Self::Liveness => "liveness".to_owned(),
            Self::Crash(_) => "crash".to_owned(),
            Self::Harness(_) => "harness".to_owned(),
        }
    }
}

impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(promise) => write!(f, "safety: the promise \"{promise}\" is broken"),
            Self::Disagreement(about) => write!(f, "safety: servers disagree about {about}"),
            Self::Liveness => f.write_str("liveness: something did not come to be in time"),
            Self::Crash(message) => write!(f, "crash: {message}"),
            Self::Harness(message) => write!(f, "harness: {message}"),
        }
    }
}

/// The runner puts before a message whose it was: "a task of HOST panicked: ", "HOST ended: ".
fn what_it_said(text: &str) -> &str {
    let parts = ["panicked: ", "ended: "].into_iter().filter_map(|word| text.split_once(word));
    parts.min_by_key(|(before, _)| before.len()).map_or(text, |(_, said)| said)
}

/// The first line of a text, with `#` for every number.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for c in text.lines().next().unwrap_or_default().chars() {
        if !c.is_ascii_digit() {
            out.push(c);
        } else if !out.ends_with('#') {
            out.push('#');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Violation;

    fn safety(promises: &[Promise]) -> Verdict {
        let violation = |promise: &Promise| Violation { promise: *promise, text: String::new() };
        Verdict::Safety(promises.iter().map(violation).collect())
    }

    #[test]
    fn the_same_promise_among_others_is_the_same() {
        let once = Symptom::of(&safety(&[Promise::Once])).unwrap();
        assert!(once.is_shown_by(&safety(&[Promise::Durable, Promise::Once])));
        assert!(!once.is_shown_by(&safety(&[Promise::Durable])));
        assert!(!once.is_shown_by(&Verdict::Passed));
        assert_eq!(Symptom::of(&Verdict::Passed), None);
    }

    #[test]
    fn a_crash_is_known_by_what_it_says_and_not_by_whose_it_is() {
        let of = |text: &str| Symptom::of(&Verdict::Crash(text.to_owned())).unwrap();
        let one = of("a task of a panicked: index 12 is out of bounds for 3");
        assert_eq!(one, of("a task of client17 panicked: index 4 is out of bounds for 201\nand more"));
        assert_ne!(one, of("a task of a panicked: overflow"));
        assert_eq!(of("b ended: the log is damaged"), of("c ended: the log is damaged"));
        assert_eq!(of("c ended: a task panicked: no"), Symptom::Crash("a task panicked: no".to_owned()));
        assert_ne!(of("b ended: no disk"), Symptom::of(&Verdict::Harness("no disk".to_owned())).unwrap());
    }

    #[test]
    fn a_disagreement_is_known_by_what_it_is_about() {
        let of = |text: &str| Symptom::of(&Verdict::Disagreement(text.to_owned())).unwrap();
        assert_eq!(
            of("the state at index=7 is x for a and y for b"),
            of("the state at index=90 is q for c and y for a")
        );
        assert_ne!(
            of("the state at index=7 is x for a and y for b"),
            of("the leader of term=7 is x for a and y for b")
        );
    }
}
