//! Named places that a suite of runs must come to.
//!
//! A suite that passes says nothing of code that it never ran. So every place of [`PLACES`] is counted in every run,
//! from the run's events (counting changes no hash), a search prints how often it was reached, and the suite of fixed
//! seeds fails if it misses one (`sim/tests/suite.rs`).
//!
//! To add one: a line in [`PLACES`]. If no event shows it yet, `W::reached("its name")` where it is in `src/`, and
//! [`told`] here.

use std::fmt;
use std::sync::LazyLock;

use rustc_hash::FxHashMap;

use crate::trace::Event;

/// A place that runs come to.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// What is so there, in a few words.
    pub name: &'static str,
    kind: &'static str,
    /// What the event's subject or text has in it.
    with: &'static str,
    /// Whether the suite of fixed seeds must come here.
    pub must: bool,
}

/// The kind of the events that [`restante::world::World::reached`] makes.
const TOLD: &str = "place";

/// The code itself says so.
const fn told(name: &'static str) -> Place {
    Place { name, kind: TOLD, with: name, must: true }
}

/// An event of this kind says so, if it has `with` in its subject or text.
const fn seen(name: &'static str, kind: &'static str, with: &'static str) -> Place {
    Place { name, kind, with, must: true }
}

impl Place {
    /// Nice to have come to: too rare for the suite, or in need of something that its plans cannot say.
    const fn rare(self) -> Self {
        Self { must: false, ..self }
    }

    /// Whether the code itself says so, by this name.
    pub fn is_told(&self) -> bool {
        self.kind == TOLD
    }

    fn shows(&self, event: &Event<'_>) -> bool {
        match self.kind {
            TOLD => event.text == self.with,
            _ => event.text.contains(self.with) || event.subject.contains(self.with),
        }
    }
}

/// All of them.
pub const PLACES: &[Place] = &[
    // Founding, joining, elections.
    told("a cluster founded"),
    told("a cluster founded with a backup's state").rare(),
    told("a backup made").rare(),
    told("a backup that was too slow").rare(),
    told("a cluster joined with a new disk"),
    told("an incarnation given"),
    told("a leader elected"),
    told("a leader stepped down"),
    seen("a vote asked for or given", "vote", "committed=false"),
    seen("a disk taken in as a learner", "membership", "TakeIn"),
    seen("a learner made a voter", "membership", "Vote {"),
    seen("a server removed from the voters", "membership", "Remove {").rare(),
    seen("a membership change finished that was left half-way", "membership", "Settle").rare(),
    seen("learners dropped", "membership", "Drop {").rare(),
    seen("a leader that was removed handed over", "membership", "HandOver").rare(),
    told("two memberships at once"),
    // The log, the checkpoint and snapshots.
    told("entries that were not committed cut off").rare(),
    told("a torn tail cut").rare(),
    told("a checkpoint taken"),
    told("a checkpoint for a quick start"),
    told("the log purged"),
    told("a snapshot sent"),
    told("a snapshot installed"),
    told("a snapshot found no room").rare(),
    told("bodies read back from the checkpoint"),
    // Disks.
    told("a write of the log failed").rare(),
    told("the disk is full").rare(),
    told("a full disk refused a send").rare(),
    told("leadership handed over for a full disk").rare(),
    told("a checkpoint put off").rare(),
    told("damaged data set aside").rare(),
    told("a damaged directory set aside").rare(),
    // Batches on their way.
    told("a batch repeated"),
    told("a batch after a gap"),
    told("batches forwarded again to a new leader"),
    told("batches forwarded again for lack of news"),
    // Sends.
    told("a repeated send got its first outcome"),
    told("a send to nobody refused"),
    told("a send after a gap").rare(),
    told("a send on a closed stream").rare(),
    told("a send whose answer was confirmed").rare(),
    told("a full window refused a send").rare(),
    told("a full inbox refused a send").rare(),
    told("a request refused"),
    seen("an outcome unknown to its sender", "client.unknown", "").rare(),
    // What goes to many.
    told("a message went to many"),
    told("a full inbox was passed over").rare(),
    told("a recipient was missing").rare(),
    told("a delivered receipt told"),
    told("a message expired"),
    told("a message was accepted for later"),
    told("a message made room for a later one").rare(),
    // Streams and readers.
    told("a stream closed"),
    told("a reader fenced"),
    told("a reader detached"),
    told("a reader's registration ended").rare(),
    seen("a delivery marked as repeated", "client.delivered", "redelivered: true"),
    seen("a client found a server", "client_attached", ""),
    // Homes.
    told("a home out of touch"),
    told("a home in touch again"),
    told("clients moved away from a home that is down"),
    told("clients moved away from a home that is drained").rare(),
    // Requests by HTTP.
    told("a stream of the server's own opened again").rare(),
    told("a full disk refused a request by HTTP").rare(),
    told("a home drained"),
    told("a drained leader serves, since nobody else could").rare(),
    // What the world does.
    seen("a process killed", "host.killed", ""),
    seen("a machine without power", "host.power_cut", ""),
    seen("a client's process gone", "client.died", ""),
    seen("a connection refused", "net.refused", ""),
    seen("a connection reset", "net.reset", ""),
    seen("a connection that was closed read to its end", "net.end", ""),
];

/// The places that an event of a kind may show.
static BY_KIND: LazyLock<FxHashMap<&'static str, Vec<usize>>> = LazyLock::new(|| {
    let mut by_kind: FxHashMap<&'static str, Vec<usize>> = FxHashMap::default();
    for (at, place) in PLACES.iter().enumerate() {
        by_kind.entry(place.kind).or_default().push(at);
    }
    by_kind
});

/// How often each place was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// As [`PLACES`].
    counts: Vec<Count>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    times: u64,
    /// Runs in which it was.
    runs: u64,
}

impl Default for Reach {
    fn default() -> Self {
        Self { counts: vec![Count::default(); PLACES.len()] }
    }
}

impl Reach {
    /// Counts an event of a run.
    pub fn see(&mut self, event: &Event<'_>) {
        let Some(places) = BY_KIND.get(event.kind) else { return };
        for &at in places {
            if PLACES[at].shows(event) {
                let count = &mut self.counts[at];
                (count.times, count.runs) = (count.times + 1, 1);
            }
        }
    }

    /// Adds what other runs reached.
    pub fn add(&mut self, other: &Self) {
        for (count, other) in self.counts.iter_mut().zip(&other.counts) {
            (count.times, count.runs) = (count.times + other.times, count.runs + other.runs);
        }
    }

    /// How often a place was reached.
    pub fn times(&self, name: &str) -> u64 {
        PLACES.iter().zip(&self.counts).filter(|(place, _)| place.name == name).map(|(_, count)| count.times).sum()
    }

    /// The places that must be reached and were not.
    pub fn missed(&self) -> Vec<&'static str> {
        let missed = PLACES.iter().zip(&self.counts).filter(|(place, count)| place.must && count.times == 0);
        missed.map(|(place, _)| place.name).collect()
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reached = self.counts.iter().filter(|count| count.times > 0).count();
        writeln!(f, "reached {reached} of {} places", PLACES.len())?;
        writeln!(f, "  {:<52} {:>10} {:>8}", "", "times", "runs")?;
        for (place, count) in PLACES.iter().zip(&self.counts) {
            let never = if count.times == 0 { "  never" } else { "" };
            writeln!(f, "  {:<52} {:>10} {:>8}{never}", place.name, count.times, count.runs)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn event<'a>(kind: &'a str, text: &'a str) -> Event<'a> {
        Event { kind, subject: "", fields: &[], text }
    }

    #[test]
    fn places_are_counted_by_times_and_by_runs() {
        let mut one = Reach::default();
        one.see(&event("place", "a batch repeated"));
        one.see(&event("place", "a batch repeated"));
        one.see(&event("place", "a batch repeated by nobody"));
        one.see(&event("vote", "term=1 for=2 committed=true"));
        one.see(&event("client.delivered", "Delivered { redelivered: true }"));
        assert_eq!(one.times("a batch repeated"), 2);
        assert_eq!(one.times("a vote asked for or given"), 0);
        assert_eq!(one.times("a delivery marked as repeated"), 1);
        let mut both = one.clone();
        both.add(&one);
        assert_eq!(
            both.counts[PLACES.iter().position(|place| place.name == "a batch repeated").unwrap()],
            Count { times: 4, runs: 2 }
        );
        assert!(!both.missed().contains(&"a batch repeated"));
        assert!(both.missed().contains(&"a snapshot sent"));
        assert!(both.to_string().contains("a torn tail cut"));
    }

    #[test]
    fn every_place_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = PLACES.iter().map(|place| place.name).collect();
        assert_eq!(names.len(), PLACES.len());
    }
}
