//! What clients do besides sending and reading at their pace, and the quotas that they run into.
//!
//! A line each, left out of a plan's text where it says what is so anyway.

use std::fmt;
use std::ops::RangeInclusive;

use rand::RngExt;
use rand::seq::IndexedRandom;
use restante::limits;

use super::parse::{millis, number, range};
use super::{Millis, range as range_text};
use crate::random::Stream;

/// What clients do. Most are chances: so many of a hundred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    /// Send streams that a client uses at once, like several programs of its name.
    pub programs: u64,
    /// Sends that go to the first client.
    pub hot: u64,
    /// Streams whose next send waits for the receipt of the one before.
    pub closed: u64,
    /// Sends for whose receipt nobody waits.
    pub forget: u64,
    /// Streams that are dropped with sends on their way.
    pub abandon: u64,
    /// Clients that close with sends on their way, and come back.
    pub quit: u64,
    /// Clients that end their registration now and then, and register again.
    pub renew: u64,
    /// Clients whose inbox another program takes now and then, and gives back.
    pub steal: u64,
    /// Attachments that fall asleep now and then.
    pub sleepy: u64,
    /// For how long.
    pub sleep: RangeInclusive<Millis>,
    /// Attachments that acknowledge nothing until the faults are over.
    pub deaf: u64,
    /// Clients that also write to servers by hand, and repeat each send at another one.
    pub by_hand: u64,
    /// Clients that ask who is there, and servers how they stand.
    pub ask: u64,
    /// Clients that read by HTTP, and send by it besides.
    pub http: u64,
    /// Clients that join channels, send to many, and ask what becomes of it.
    pub share: u64,
    /// Sends, of a thousand, with a body about as large as it may be.
    pub large: u64,
    /// Messages that may wait in one inbox.
    pub inbox: u64,
    /// Sends of one stream that may be unconfirmed.
    pub window: u64,
    /// Bytes of commands that a server holds for its clients.
    pub pending: u64,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            programs: 1,
            hot: 0,
            closed: 0,
            forget: 0,
            abandon: 0,
            quit: 0,
            renew: 0,
            steal: 0,
            sleepy: 0,
            sleep: Millis(100)..=Millis(2000),
            deaf: 0,
            by_hand: 0,
            ask: 0,
            http: 0,
            share: 0,
            large: 0,
            inbox: limits::INBOX_MESSAGES_DEFAULT,
            window: u64::from(limits::STREAM_WINDOW_DEFAULT),
            pending: limits::PENDING_BYTES_DEFAULT as u64,
        }
    }
}

/// The word of each setting that is a number, where it is, and its bounds.
type Numbers = [(&'static str, fn(&mut Mix) -> &mut u64, RangeInclusive<u64>); 18];

const NUMBERS: Numbers = [
    ("programs", |mix| &mut mix.programs, 1..=8),
    ("hot", |mix| &mut mix.hot, 0..=100),
    ("closed", |mix| &mut mix.closed, 0..=100),
    ("forget", |mix| &mut mix.forget, 0..=100),
    ("abandon", |mix| &mut mix.abandon, 0..=100),
    ("quit", |mix| &mut mix.quit, 0..=100),
    ("renew", |mix| &mut mix.renew, 0..=100),
    ("steal", |mix| &mut mix.steal, 0..=100),
    ("sleepy", |mix| &mut mix.sleepy, 0..=100),
    ("deaf", |mix| &mut mix.deaf, 0..=100),
    ("by-hand", |mix| &mut mix.by_hand, 0..=100),
    ("ask", |mix| &mut mix.ask, 0..=100),
    ("http", |mix| &mut mix.http, 0..=100),
    ("share", |mix| &mut mix.share, 0..=100),
    ("large", |mix| &mut mix.large, 0..=1000),
    ("inbox", |mix| &mut mix.inbox, 1..=u64::MAX),
    // A client keeps a little below it.
    ("window", |mix| &mut mix.window, 2..=u32::MAX as u64),
    ("pending", |mix| &mut mix.pending, 1..=u64::MAX),
];

impl Mix {
    /// Reads a line, if it is one of these.
    pub(super) fn read_line(&mut self, word: &str, rest: &str) -> Result<bool, String> {
        if word == "sleep" {
            self.sleep = range(rest, millis)?;
            return Ok(true);
        }
        let Some((_, at, bounds)) = NUMBERS.iter().find(|(name, ..)| *name == word) else { return Ok(false) };
        let value: u64 = number(rest)?;
        if !bounds.contains(&value) {
            return Err(format!("`{word}` is {} to {}", bounds.start(), bounds.end()));
        }
        *at(self) = value;
        Ok(true)
    }

    /// Draws how many clients have no session, in some of the plans.
    pub(super) fn draw_http(&mut self, random: &mut Stream) {
        if random.random_bool(0.25) {
            self.http = random.random_range(1..=100);
        }
    }

    /// Draws how many clients share, in some of the plans.
    pub(super) fn draw_share(&mut self, random: &mut Stream) {
        if random.random_bool(0.5) {
            self.share = random.random_range(1..=100);
        }
    }

    /// Draws a mix: in a third of the plans, nothing special. Who has no session is drawn apart from it, since that came
    /// later and moves no other draw.
    pub(super) fn draw(random: &mut Stream) -> Self {
        let mut mix = Self::default();
        if random.random_bool(0.3) {
            return mix;
        }
        let mut some = |chance: f64, most: u64| match random.random_bool(chance) {
            true => random.random_range(1..=most),
            false => 0,
        };
        mix.programs = 1 + some(0.3, 3);
        mix.hot = some(0.3, 90);
        mix.closed = some(0.4, 100);
        mix.forget = some(0.4, 60);
        mix.abandon = some(0.3, 60);
        mix.quit = some(0.25, 60);
        mix.renew = some(0.25, 100);
        mix.steal = some(0.25, 100);
        mix.sleepy = some(0.4, 100);
        mix.deaf = some(0.3, 60);
        mix.by_hand = some(0.3, 100);
        mix.ask = some(0.5, 100);
        mix.large = some(0.08, 20);
        mix.sleep = Millis(some(0.5, 100))..=Millis(100 + some(0.8, 4000));
        if random.random_bool(0.35) {
            mix.inbox = *[1, 3, 10, 30, 100].choose(random).unwrap_or(&10);
        }
        if random.random_bool(0.3) {
            mix.window = *[2, 4, 16, 64].choose(random).unwrap_or(&16);
        }
        if random.random_bool(0.3) {
            mix.pending = *[1, 1 << 10, 16 << 10, 256 << 10].choose(random).unwrap_or(&1);
        }
        mix
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut mine, mut usual) = (self.clone(), Self::default());
        for (word, at, _) in NUMBERS {
            let value = *at(&mut mine);
            if value != *at(&mut usual) {
                writeln!(f, "{word} {value}")?;
            }
        }
        if self.sleep != usual.sleep {
            writeln!(f, "sleep {}", range_text(&self.sleep))?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::stream;

    /// Any mix.
    pub(in crate::plan) fn mix() -> impl Strategy<Value = Mix> {
        let numbers: Vec<_> = NUMBERS.iter().map(|(_, _, bounds)| bounds.clone()).collect();
        let sleep = (0u64..100, 100u64..100_000).prop_map(|(from, to)| Millis(from)..=Millis(to));
        (numbers, sleep).prop_map(|(numbers, sleep)| {
            let mut mix = Mix { sleep, ..Mix::default() };
            NUMBERS.iter().zip(numbers).for_each(|((_, at, _), value)| *at(&mut mix) = value);
            mix
        })
    }

    #[test]
    fn what_is_usual_is_not_written_and_every_number_has_its_bounds() {
        assert_eq!(Mix::default().to_string(), "");
        for (word, _, bounds) in NUMBERS {
            let mut mix = Mix::default();
            assert_eq!(mix.read_line(word, &bounds.start().to_string()), Ok(true));
            if let Some(more) = bounds.end().checked_add(1) {
                assert!(mix.read_line(word, &more.to_string()).is_err(), "{word}");
            }
        }
        assert_eq!(Mix::default().read_line("hats", "1"), Ok(false));
    }

    fn drawn(seed: u64) -> Mix {
        let mut mix = Mix::draw(&mut stream(seed, "mix"));
        mix.draw_http(&mut stream(seed, "http"));
        mix.draw_share(&mut stream(seed, "share"));
        mix
    }

    #[test]
    fn seeds_draw_everything_and_leave_everything_out() {
        let mixes: Vec<Mix> = (0..200).map(drawn).collect();
        for (word, at, bounds) in NUMBERS {
            let usual = *at(&mut Mix::default());
            let drawn = mixes.iter().filter(|mix| *at(&mut (*mix).clone()) != usual).count();
            assert!((5..190).contains(&drawn), "{word} is drawn by {drawn} seeds");
            assert!(mixes.iter().all(|mix| bounds.contains(at(&mut mix.clone()))), "{word}");
        }
    }
}
