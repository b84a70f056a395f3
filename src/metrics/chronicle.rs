//! The last things that happened to a server, numbered, as text for people: elections, moves, damage, slow disks.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;
use utoipa::ToSchema;

/// How many are kept.
const KEPT: usize = 256;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Happening)]
pub struct Happening {
    /// Counts them, from 1 at the server's start.
    pub number: u64,
    /// When, by the server's own clock: milliseconds since 1970.
    pub unix_ms: u64,
    /// What kind of thing: `election`, `service`, `servers`, `disk`, `damage`, `clients`, `start`.
    #[schema(value_type = String)]
    pub kind: &'static str,
    /// Whether somebody should look at it.
    pub serious: bool,
    /// What happened, a sentence.
    pub text: String,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Chronicle {
    kept: Mutex<Kept>,
    grew: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    happenings: VecDeque<Happening>,
}

impl Chronicle {
    /// Something happened at this moment.
    pub fn note(&self, unix_ms: u64, kind: &'static str, serious: bool, text: impl Into<String>) {
        let mut kept = self.kept.lock();
        kept.last += 1;
        let number = kept.last;
        kept.happenings.push_back(Happening { number, unix_ms, kind, serious, text: text.into() });
        if kept.happenings.len() > KEPT {
            kept.happenings.pop_front();
        }
        drop(kept);
        self.grew.notify_waiters();
    }

    /// What happened after the one of that number, of what is kept. Whoever has seen more than there was yet saw another run
    /// of the server, and gets all of this one.
    pub fn after(&self, number: u64) -> Vec<Happening> {
        let kept = self.kept.lock();
        let number = if number > kept.last { 0 } else { number };
        kept.happenings.iter().filter(|happening| happening.number > number).cloned().collect()
    }

    /// Wakes whoever waits when something happens.
    pub fn grew(&self) -> &Arc<Notify> {
        &self.grew
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_things_are_kept_and_numbered() {
        let chronicle = Chronicle::default();
        for n in 1..=KEPT as u64 + 5 {
            chronicle.note(n, "start", false, format!("{n}"));
        }
        let all = chronicle.after(0);
        assert_eq!((all.len(), all[0].number, all[KEPT - 1].number), (KEPT, 6, KEPT as u64 + 5));
        assert_eq!(chronicle.after(KEPT as u64 + 4).len(), 1);
        assert_eq!(chronicle.after(10_000).len(), KEPT, "that was another run of the server");
    }
}
