//! A run's events in structure, for showing it: who saw what and when, what the servers logged, and the messages that
//! the bytes on the wire were.
//!
//! Recording changes nothing: the hash over the events is the same with and without ([`crate::trace`]). It costs, so
//! only [`record`] does it. Bytes are taken apart as they are written and then forgotten; a message is read when the
//! other end has read its last byte.

mod frames;
mod logs;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use restante::wire::frame::Frame;

use self::frames::Wires;
use crate::history::SendKey;
use crate::plan::Plan;
use crate::run::{Outcome, run};
use crate::scenario::Scenario;
use crate::trace::{Event, Lines};

/// Runs `plan` and records it.
pub fn record(plan: &Plan, scenario: &dyn Scenario) -> (Outcome, Record) {
    let recorder = Recorder::new(scenario.interpreter());
    let outcome = logs::kept(|| run(plan, scenario, Lines::Record(recorder.clone())));
    (outcome, recorder.take())
}

/// One event of the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The simulated time.
    pub at: Duration,
    /// Who saw it; `-` is the runner.
    pub host: Arc<str>,
    /// See [`Event`].
    pub kind: Arc<str>,
    /// See [`Event`].
    pub subject: Arc<str>,
    /// See [`Event`].
    pub fields: Vec<(Arc<str>, u64)>,
    /// See [`Event`].
    pub text: Arc<str>,
}

impl Recorded {
    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<u64> {
        self.fields.iter().find(|(field, _)| **field == *name).map(|(_, value)| *value)
    }

    /// The event's line, as a trace has it.
    pub fn line(&self, ordinal: u64) -> String {
        let fields: Vec<(&str, u64)> = self.fields.iter().map(|(name, value)| (&**name, *value)).collect();
        let event = Event { kind: &self.kind, subject: &self.subject, fields: &fields, text: &self.text };
        let mut line = String::new();
        crate::trace::write_line(&mut line, ordinal, self.at, &self.host, &event);
        line
    }
}

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// Between a client and its server: requests, sends, deliveries, acknowledgements.
    Client,
    /// Batches on their way to the leader.
    Batch,
    /// Entries to append, and the answers.
    Append,
    /// Appends without entries, and the answers.
    Heartbeat,
    /// Votes, and whether they would be given.
    Vote,
    /// Snapshots.
    Snapshot,
    /// What a connection begins with, founding and joining.
    Hello,
    /// Anything else.
    Other,
}

impl Sort {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Client,
        Self::Batch,
        Self::Append,
        Self::Heartbeat,
        Self::Vote,
        Self::Snapshot,
        Self::Hello,
        Self::Other,
    ];

    /// Its name for a person.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client traffic",
            Self::Batch => "batches",
            Self::Append => "appends",
            Self::Heartbeat => "heartbeats",
            Self::Vote => "votes",
            Self::Snapshot => "snapshots",
            Self::Hello => "hellos",
            Self::Other => "other",
        }
    }
}

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// What it is about.
    pub sort: Sort,
    /// In short.
    pub text: String,
    /// The sends that it carries or answers.
    pub sends: Vec<SendKey>,
}

impl Said {
    /// Something about no send in particular.
    pub fn new(sort: Sort, text: impl Into<String>) -> Self {
        Self { sort, text: text.into(), sends: Vec::new() }
    }
}

/// Knows what the frames of a scenario say. It is told of every frame in the order in which they were written, and
/// may remember what it needs of earlier ones.
pub trait Interpreter {
    /// The first bytes of a connection of ours, in the direction of whoever opened it: so many are no frame. `None` if
    /// what follows is not made of frames.
    fn prelude(&self, first: &[u8; 4]) -> Option<usize>;

    /// What `frame` says, which was written on `connection` by the end that opened it (`opener`) or the other one.
    fn said(&mut self, connection: &str, opener: bool, frame: &Frame) -> Said;

    /// The servers' names by incarnation, as far as frames told them.
    fn incarnations(&self) -> BTreeMap<u64, String> {
        BTreeMap::new()
    }
}

/// Knows nothing but that connections are made of frames without anything in front.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sizes;

impl Interpreter for Sizes {
    fn prelude(&self, _: &[u8; 4]) -> Option<usize> {
        Some(0)
    }

    fn said(&mut self, _: &str, _: bool, frame: &Frame) -> Said {
        Said::new(Sort::Other, format!("a frame of kind {} ({} B)", frame.kind, frame.payload.len()))
    }
}

/// A frame, or one write where there are no frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who wrote it.
    pub from: Arc<str>,
    /// Whom it was for.
    pub to: Arc<str>,
    /// The connection's label.
    pub connection: Arc<str>,
    /// When its last byte was written.
    pub sent: Duration,
    /// The event that wrote it.
    pub written: u64,
    /// When its last byte was read, and the event that did.
    pub read: Option<(Duration, u64)>,
    /// Where in its direction it began.
    pub offset: u64,
    /// How long it was.
    pub bytes: u64,
    /// What it says.
    pub said: Said,
}

/// A line that a host's code logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// The simulated time.
    pub at: Duration,
    /// After how many events.
    pub after: u64,
    /// Whose.
    pub host: Arc<str>,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG`.
    pub level: &'static str,
    /// The line.
    pub text: String,
}

/// A run in structure. The event at index 0 has ordinal 1.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Every event.
    pub events: Vec<Recorded>,
    /// Every message, in the order in which they were written.
    pub messages: Vec<Message>,
    /// What was logged.
    pub logs: Vec<Logged>,
    /// The servers' names by incarnation, as far as messages told them.
    pub incarnations: BTreeMap<u64, String>,
}

impl Record {
    /// The event of that ordinal.
    pub fn event(&self, ordinal: u64) -> Option<&Recorded> {
        self.events.get(usize::try_from(ordinal.checked_sub(1)?).ok()?)
    }
}

/// Where a trace records to: cheap to clone.
#[derive(Clone)]
pub struct Recorder(Rc<RefCell<State>>);

struct State {
    record: Record,
    texts: BTreeMap<String, Arc<str>>,
    wires: Wires,
    interpreter: Box<dyn Interpreter>,
}

impl Recorder {
    /// One that has frames explained by `interpreter`.
    pub fn new(interpreter: Box<dyn Interpreter>) -> Self {
        Self(Rc::new(RefCell::new(State {
            record: Record::default(),
            texts: BTreeMap::new(),
            wires: Wires::default(),
            interpreter,
        })))
    }

    /// What was recorded. The recorder is empty after that.
    pub fn take(&self) -> Record {
        let mut state = self.0.borrow_mut();
        let mut record = std::mem::take(&mut state.record);
        record.incarnations = state.interpreter.incarnations();
        record
    }

    pub(crate) fn add(&self, at: Duration, host: &str, event: &Event<'_>) {
        let state = &mut *self.0.borrow_mut();
        let recorded = Recorded {
            at,
            host: text(&mut state.texts, host),
            kind: text(&mut state.texts, event.kind),
            subject: text(&mut state.texts, event.subject),
            fields: event.fields.iter().map(|(name, value)| (text(&mut state.texts, name), *value)).collect(),
            // Mostly empty or never the same twice.
            text: if event.text.is_empty() { text(&mut state.texts, "") } else { event.text.into() },
        };
        state.record.events.push(recorded);
        let (ordinal, messages) = (state.record.events.len() as u64, &mut state.record.messages);
        if let Some(event) = state.record.events.last() {
            state.wires.see(ordinal, event, messages);
        }
    }

    /// The bytes of the `net.write` that comes next.
    pub(crate) fn write(&self, at: Duration, host: &str, connection: &str, bytes: &[u8]) {
        let state = &mut *self.0.borrow_mut();
        let from = text(&mut state.texts, host);
        let connection = text(&mut state.texts, connection);
        let ordinal = state.record.events.len() as u64 + 1;
        let State { record, texts, wires, interpreter } = state;
        wires.written(&from, &connection, bytes, &mut **interpreter, |to, offset, bytes, said| {
            let to = text(texts, to);
            let (from, connection) = (from.clone(), connection.clone());
            let message = Message { from, to, connection, sent: at, written: ordinal, read: None, offset, bytes, said };
            record.messages.push(message);
            record.messages.len() - 1
        });
    }

    pub(crate) fn log(&self, at: Duration, host: &str, level: &'static str, line: String) {
        let state = &mut *self.0.borrow_mut();
        let (host, after) = (text(&mut state.texts, host), state.record.events.len() as u64);
        state.record.logs.push(Logged { at, after, host, level, text: line });
    }
}

/// The one copy of a text.
fn text(texts: &mut BTreeMap<String, Arc<str>>, wanted: &str) -> Arc<str> {
    if let Some(text) = texts.get(wanted) {
        return text.clone();
    }
    let text: Arc<str> = wanted.into();
    texts.insert(wanted.to_owned(), text.clone());
    text
}
