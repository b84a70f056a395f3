//! What happened, in order: a hash over every event, and the events as lines for whoever asks.
//!
//! The hash and the count are always kept, since comparing two runs is what shows that a run is a pure function of its
//! plan. Formatting costs more than simulating, so lines are made only if they go somewhere.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io::Write;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

use crate::reach::Reach;
use crate::record::Recorder;

/// One event, as the places that see it describe it.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// What kind, e.g. `disk.sync`. The part before the dot says who saw it.
    pub kind: &'a str,
    /// Whom or what it happened to: a connection, a path, a name.
    pub subject: &'a str,
    /// Its numbers, named in an order that is fixed for the kind.
    pub fields: &'a [(&'a str, u64)],
    /// Anything else.
    pub text: &'a str,
}

impl<'a> Event<'a> {
    /// An event that has only a subject and numbers.
    pub fn new(kind: &'a str, subject: &'a str, fields: &'a [(&'a str, u64)]) -> Self {
        Self { kind, subject, fields, text: "" }
    }
}

/// Where lines go.
pub enum Lines {
    /// Nowhere: only the hash and the count are kept.
    Discard,
    /// The last so many stay in memory.
    Ring {
        /// How many.
        keep: usize,
        /// The lines, oldest first.
        lines: VecDeque<String>,
    },
    /// All of them, as they come.
    Writer(Box<dyn Write>),
    /// No lines: the events themselves.
    Record(Recorder),
}

impl Lines {
    /// The last `keep` lines in memory.
    pub fn ring(keep: usize) -> Self {
        Self::Ring { keep, lines: VecDeque::new() }
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discard => "Discard",
            Self::Ring { .. } => "Ring",
            Self::Writer(_) => "Writer",
            Self::Record(_) => "Record",
        })
    }
}

/// The running hash and count over a run's events.
pub struct Trace {
    hash: Xxh3,
    count: u64,
    reach: Reach,
    lines: Lines,
    line: String,
    /// What is hashed of an event; empty between events, kept for its allocation.
    bytes: Vec<u8>,
    error: Option<std::io::Error>,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("count", &self.count).field("hash", &self.hash.digest()).finish_non_exhaustive()
    }
}

impl Trace {
    /// An empty trace whose lines go to `lines`.
    pub fn new(lines: Lines) -> Self {
        Self {
            hash: Xxh3::new(),
            count: 0,
            reach: Reach::default(),
            lines,
            line: String::new(),
            bytes: Vec::new(),
            error: None,
        }
    }

    /// Adds an event that `host` saw at the simulated time `at`.
    pub fn add(&mut self, at: Duration, host: &str, event: &Event<'_>) {
        self.count += 1;
        // Every text is hashed with its length in front, so that moving a byte from one to the next changes the hash.
        self.number(at.as_nanos() as u64);
        self.text(host);
        self.text(event.kind);
        self.text(event.subject);
        self.number(event.fields.len() as u64);
        for (name, value) in event.fields {
            self.text(name);
            self.number(*value);
        }
        self.text(event.text);
        // One long piece costs far less than many short ones, and gives the same hash.
        self.hash.update(&self.bytes);
        self.bytes.clear();
        self.reach.see(event);
        if !matches!(self.lines, Lines::Discard) {
            self.write_line(at, host, event);
        }
    }

    fn number(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Where the run is recorded, if it is.
    pub(crate) fn recorder(&self) -> Option<&Recorder> {
        match &self.lines {
            Lines::Record(recorder) => Some(recorder),
            _ => None,
        }
    }

    fn write_line(&mut self, at: Duration, host: &str, event: &Event<'_>) {
        if let Lines::Record(recorder) = &self.lines {
            return recorder.add(at, host, event);
        }
        let line = &mut self.line;
        line.clear();
        write_line(line, self.count, at, host, event);
        match &mut self.lines {
            Lines::Discard | Lines::Record(_) => {}
            Lines::Ring { keep, lines } => {
                if lines.len() >= *keep {
                    lines.pop_front();
                }
                lines.push_back(line.clone());
            }
            Lines::Writer(writer) => {
                line.push('\n');
                if let (None, Err(error)) = (&self.error, writer.write_all(line.as_bytes())) {
                    self.error = Some(error);
                }
            }
        }
    }

    /// The places that were reached so far.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Events so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The hash over all events so far.
    pub fn hash(&self) -> u64 {
        self.hash.digest()
    }

    /// Ends the trace: the lines that a [`Lines::Ring`] holds.
    ///
    /// # Errors
    /// The first error in writing lines to a [`Lines::Writer`].
    pub fn finish(mut self) -> std::io::Result<Vec<String>> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        match self.lines {
            Lines::Discard | Lines::Record(_) => Ok(Vec::new()),
            Lines::Ring { lines, .. } => Ok(lines.into()),
            Lines::Writer(mut writer) => writer.flush().map(|()| Vec::new()),
        }
    }
}

/// Appends an event's line, without an end.
pub(crate) fn write_line(line: &mut String, ordinal: u64, at: Duration, host: &str, event: &Event<'_>) {
    // Writing to a `String` cannot fail.
    let _ = write!(line, "{:>8} {:>11.6} {:<8} {:<14}", ordinal, at.as_secs_f64(), host, event.kind);
    if !event.subject.is_empty() {
        let _ = write!(line, " {}", event.subject);
    }
    for (name, value) in event.fields {
        // Digests are told by their hexadecimal form; other numbers are for reading.
        let _ = if *name == "digest" { write!(line, " {name}={value:016x}") } else { write!(line, " {name}={value}") };
    }
    if !event.text.is_empty() {
        let _ = write!(line, " {}", event.text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row<'a> = (u64, &'a str, &'a str, &'a str, &'a [(&'a str, u64)], &'a str);

    fn hash_of(events: &[Row<'_>]) -> u64 {
        let mut trace = Trace::new(Lines::Discard);
        for (at, host, kind, subject, fields, text) in events {
            trace.add(Duration::from_millis(*at), host, &Event { kind, subject, fields, text });
        }
        trace.hash()
    }

    #[test]
    fn every_part_of_an_event_and_their_order_change_the_hash() {
        let base = hash_of(&[(1, "a", "disk.write", "log", &[("bytes", 3)], "x")]);
        assert_eq!(base, hash_of(&[(1, "a", "disk.write", "log", &[("bytes", 3)], "x")]));
        for other in [
            hash_of(&[(2, "a", "disk.write", "log", &[("bytes", 3)], "x")]),
            hash_of(&[(1, "b", "disk.write", "log", &[("bytes", 3)], "x")]),
            hash_of(&[(1, "a", "disk.read", "log", &[("bytes", 3)], "x")]),
            hash_of(&[(1, "a", "disk.write", "lot", &[("bytes", 3)], "x")]),
            hash_of(&[(1, "a", "disk.write", "log", &[("bytes", 4)], "x")]),
            hash_of(&[(1, "a", "disk.write", "log", &[("bytez", 3)], "x")]),
            hash_of(&[(1, "a", "disk.write", "log", &[], "x")]),
            hash_of(&[(1, "a", "disk.write", "log", &[("bytes", 3)], "y")]),
            hash_of(&[(1, "a", "disk.write", "logx", &[("bytes", 3)], "")]),
        ] {
            assert_ne!(base, other);
        }
        let (one, two) = ((1, "a", "draw", "", [].as_slice(), ""), (1, "b", "draw", "", [].as_slice(), ""));
        assert_ne!(hash_of(&[one, two]), hash_of(&[two, one]));
    }

    #[test]
    fn lines_do_not_change_the_hash_and_the_ring_keeps_the_last() {
        let mut plain = Trace::new(Lines::Discard);
        let mut ring = Trace::new(Lines::ring(2));
        for n in 0..5 {
            let fields = [("offset", n), ("digest", 0xabc)];
            let event = Event::new("disk.write", "log/1", &fields);
            plain.add(Duration::from_millis(n), "a", &event);
            ring.add(Duration::from_millis(n), "a", &event);
        }
        assert_eq!((plain.count(), plain.hash()), (ring.count(), ring.hash()));
        let lines = ring.finish().unwrap();
        assert_eq!(lines.len(), 2);
        assert!(lines[1].contains("disk.write") && lines[1].contains("offset=4 digest=0000000000000abc"));
        assert!(lines[1].trim_start().starts_with("5 "), "{}", lines[1]);
    }
}
