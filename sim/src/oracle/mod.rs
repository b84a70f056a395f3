//! One file per promise: whether what the clients saw keeps it.
//!
//! Each check is a pure function over a [`History`], with hand-made histories that it must reject and accept. A history
//! that is not complete is judged by what it shows: what may still come is not missing yet.

mod durable;
#[cfg(test)]
mod examples;
mod honest;
mod once;
mod one_reader;
mod order;

use std::fmt;

use crate::history::History;

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
}

impl Promise {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Durable, Self::Once, Self::Order, Self::OneReader, Self::Honest];

    /// What breaks this promise in `history`.
    pub fn check(self, history: &History) -> Vec<Violation> {
        let texts = match self {
            Self::Durable => durable::check(history),
            Self::Once => once::check(history),
            Self::Order => order::check(history),
            Self::OneReader => one_reader::check(history),
            Self::Honest => honest::check(history),
        };
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

/// What breaks any promise.
pub fn check(history: &History) -> Vec<Violation> {
    Promise::ALL.into_iter().flat_map(|promise| promise.check(history)).collect()
}
