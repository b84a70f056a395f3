//! One file per promise: whether what the clients saw keeps it.
//!
//! Each check is a pure function over a [`History`], with hand-made histories that it must reject and accept. A history
//! that is not complete is judged by what it shows: what may still come is not missing yet. What nobody knows (a send
//! without an answer, a registration that may have ended) is never held against anybody.
//!
//! Four more look at servers, since they tell of what clients cannot see: [`raft`] at their logs and votes, [`members`] at who
//! belongs to the cluster, [`office`] at what came of each entry, and [`bounded`] at their sizes. [`presence`] is the part of honest that is about who comes and goes, [`sharing`] says what the promises mean for what goes to many, [`schedule`] what they mean in time. [`names`] says which registration a name stood for.

pub(crate) mod available;
pub(crate) mod bounded;
mod durable;
#[cfg(test)]
mod examples;
mod honest;
pub(crate) mod members;
mod names;
pub(crate) mod office;
mod once;
mod one_reader;
mod order;
mod presence;
pub(crate) mod raft;
mod schedule;
mod sharing;

use std::fmt;

use crate::history::History;
use crate::plan::Plan;

/// The promises that are checked, by the design's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// What was accepted is delivered.
    Durable,
    /// Nothing enters an inbox twice, and a repeated delivery is marked as one.
    Once,
    /// A stream's messages stay in order, and an inbox is one sequence.
    Order,
    /// An older reader counts no more once a newer one is attached.
    OneReader,
    /// Answers are true, and nothing is delivered that nobody sent.
    Honest,
    /// While a majority can talk, nobody waits longer than the plan says.
    Available,
    /// Nothing grows over its limit.
    Bounded,
}

impl Promise {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Durable, Self::Once, Self::Order, Self::OneReader, Self::Honest, Self::Available, Self::Bounded];

    /// What breaks this promise in the history of a run of `plan`.
    pub fn check(self, history: &History, plan: &Plan) -> Vec<Violation> {
        let mut texts = match self {
            Self::Durable => durable::check(history),
            Self::Once => once::check(history),
            Self::Order => order::check(history),
            Self::OneReader => one_reader::check(history),
            Self::Honest => [honest::check(history, plan.mix.inbox), presence::check(history)].concat(),
            Self::Available => available::check(history, plan),
            Self::Bounded => bounded::check(history, plan.mix.inbox),
        };
        texts.extend(sharing::check(history, self));
        texts.extend(schedule::check(history, self));
        texts.into_iter().map(|text| Violation { promise: self, text }).collect()
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Durable => "durable",
            Self::Once => "once",
            Self::Order => "in order",
            Self::OneReader => "one reader",
            Self::Honest => "honest",
            Self::Available => "available",
            Self::Bounded => "bounded",
        })
    }
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// How, in a sentence.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.text)
    }
}

/// What breaks any promise of safety.
pub fn check(history: &History, plan: &Plan) -> Vec<Violation> {
    let safety = Promise::ALL.into_iter().filter(|promise| *promise != Promise::Available);
    safety.flat_map(|promise| promise.check(history, plan)).collect()
}
