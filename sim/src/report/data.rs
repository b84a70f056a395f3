//! What the page is given: columns of numbers, with every text once.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::Duration;

use base64::Engine as _;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde::Serialize;

use crate::history::SendKey;
use crate::plan::Plan;
use crate::record::{Message, Record, Sort};
use crate::run::{Outcome, Verdict};
use crate::story::{Kind, SpanKind, Story};

/// More messages than these are not all shown.
const MESSAGES_MAX: usize = 300_000;
/// More trace lines than these are not all there.
const LINES_MAX: usize = 500_000;
/// Lines that are packed together: what is unpacked for a click.
const LINES_PER_CHUNK: usize = 1000;

/// Everything that the page shows. Times are microseconds; lists of times and ordinals hold differences.
#[derive(Debug, Serialize)]
pub(super) struct Data {
    verdict: &'static str,
    sentence: String,
    seed: u64,
    hash: String,
    events: u64,
    end: u64,
    plan: String,
    command: String,
    lanes: Vec<(String, bool)>,
    faults: Vec<(u64, u64, String, String, Vec<usize>, bool)>,
    spans: Vec<(usize, u64, u64, &'static str)>,
    rules: Vec<(usize, u64, u64, u64, Option<usize>)>,
    sorts: Vec<&'static str>,
    kinds: Vec<&'static str>,
    texts: Vec<String>,
    sends: Vec<String>,
    messages: Messages,
    moments: Moments,
    focuses: Vec<FocusData>,
    trace: Lines,
    left_out: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
struct Messages {
    sent: Vec<u64>,
    /// How long it took; -1 if it was never read, -2 if the run ended before it could be.
    took: Vec<i64>,
    from: Vec<usize>,
    to: Vec<usize>,
    sort: Vec<usize>,
    text: Vec<usize>,
    sends: Vec<Vec<usize>>,
    wire: Vec<usize>,
    offset: Vec<u64>,
    bytes: Vec<u64>,
    written: Vec<u64>,
    read: Vec<u64>,
}

#[derive(Debug, Default, Serialize)]
struct Moments {
    at: Vec<u64>,
    lane: Vec<i64>,
    kind: Vec<usize>,
    text: Vec<usize>,
    send: Vec<i64>,
    ordinal: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct FocusData {
    promise: String,
    text: String,
    at: u64,
    moments: Vec<usize>,
    sends: Vec<usize>,
}

/// Trace lines, packed (deflate, base64), [`LINES_PER_CHUNK`] in each.
#[derive(Debug, Default, Serialize)]
struct Lines {
    first: u64,
    per_chunk: usize,
    chunks: Vec<String>,
}

/// Gives every text a number.
#[derive(Debug)]
struct Numbers<T>(BTreeMap<T, usize>);

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord> Numbers<T> {
    fn of(&mut self, value: T) -> usize {
        let next = self.0.len();
        *self.0.entry(value).or_insert(next)
    }

    fn in_order(self, text: impl Fn(T) -> String) -> Vec<String> {
        let mut all: Vec<(usize, T)> = self.0.into_iter().map(|(value, number)| (number, value)).collect();
        all.sort_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, value)| text(value)).collect()
    }
}

/// Makes differences of what ascends.
#[derive(Debug, Default)]
struct Difference(u64);

impl Difference {
    fn to(&mut self, value: u64) -> u64 {
        let difference = value.saturating_sub(self.0);
        self.0 = self.0.max(value);
        difference
    }
}

fn micros(at: Duration) -> u64 {
    u64::try_from(at.as_micros()).unwrap_or(u64::MAX)
}

const KINDS: [Kind; 24] = [
    Kind::Phase,
    Kind::FaultBegins,
    Kind::FaultEnds,
    Kind::Start,
    Kind::Down,
    Kind::Panic,
    Kind::Candidate,
    Kind::Leader,
    Kind::Follows,
    Kind::Members,
    Kind::Snapshot,
    Kind::Damage,
    Kind::Logged,
    Kind::Warned,
    Kind::Told,
    Kind::Registered,
    Kind::Moved,
    Kind::Attached,
    Kind::Sent,
    Kind::Receipt,
    Kind::Refused,
    Kind::Delivered,
    Kind::Acknowledged,
    Kind::Confirmed,
];

impl Data {
    pub(super) fn new(plan: &Plan, outcome: &Outcome, record: &Record, story: &Story, command: &str) -> Self {
        let (mut texts, mut sends) = (Numbers::<&str>::default(), Numbers::<&SendKey>::default());
        let mut left_out = Vec::new();
        let focus_at = story.focuses.first().map(|focus| focus.at);
        let shown = shown(record, focus_at, &mut left_out);
        // What was sent later than this could not be expected to arrive.
        let expected =
            outcome.simulated.saturating_sub(Duration::from(*plan.latency.end()) + Duration::from_millis(20));
        let mut messages = Messages::default();
        let (mut sent, mut written) = (Difference::default(), Difference::default());
        for message in shown {
            let (Some(from), Some(to)) = (story.lane(&message.from), story.lane(&message.to)) else { continue };
            let took = message.read.map(|(at, _)| micros(at.saturating_sub(message.sent)));
            let never = if message.sent > expected { -2 } else { -1 };
            messages.sent.push(sent.to(micros(message.sent)));
            messages.took.push(took.map_or(never, |took| i64::try_from(took).unwrap_or(i64::MAX)));
            messages.from.push(from);
            messages.to.push(to);
            messages.sort.push(Sort::ALL.iter().position(|sort| *sort == message.said.sort).unwrap_or_default());
            messages.text.push(texts.of(&message.said.text));
            messages.sends.push(message.said.sends.iter().map(|send| sends.of(send)).collect());
            messages.wire.push(texts.of(&message.connection));
            messages.offset.push(message.offset);
            messages.bytes.push(message.bytes);
            messages.written.push(written.to(message.written));
            messages.read.push(message.read.map_or(0, |(_, ordinal)| ordinal.saturating_sub(message.written)));
        }
        let mut moments = Moments::default();
        let (mut at, mut ordinal) = (Difference::default(), Difference::default());
        for moment in &story.moments {
            moments.at.push(at.to(micros(moment.at)));
            moments.lane.push(moment.lane.map_or(-1, |lane| lane as i64));
            // What is not listed is a client's.
            moments.kind.push(KINDS.iter().position(|kind| *kind == moment.kind).unwrap_or(KINDS.len()));
            moments.text.push(texts.of(&moment.text));
            moments.send.push(moment.send.as_ref().map_or(-1, |send| sends.of(send) as i64));
            moments.ordinal.push(ordinal.to(moment.ordinal));
        }
        let focuses = story.focuses.iter().map(|focus| FocusData {
            promise: focus.promise.clone(),
            text: focus.text.clone(),
            at: micros(focus.at),
            moments: focus.moments.clone(),
            sends: focus.sends.iter().map(|send| sends.of(send)).collect(),
        });
        let focuses = focuses.collect();
        let trace = lines(record, focus_at, &mut left_out);
        Self {
            verdict: kind_of(&outcome.verdict),
            sentence: outcome.verdict.to_string(),
            seed: plan.seed,
            hash: format!("{:016x}", outcome.hash),
            events: outcome.events,
            end: micros(outcome.simulated),
            plan: plan.to_string(),
            command: command.to_owned(),
            lanes: story.lanes.iter().map(|lane| (lane.name.clone(), lane.is_server)).collect(),
            faults: story
                .faults
                .iter()
                .map(|f| (micros(f.from), micros(f.to), f.kind.clone(), f.text.clone(), f.lanes.clone(), f.is_link))
                .collect(),
            spans: story.spans.iter().map(|s| (s.lane, micros(s.from), micros(s.to), span(s.kind))).collect(),
            rules: story.rules.iter().map(|r| (r.lane, micros(r.from), micros(r.to), r.term, r.leader)).collect(),
            sorts: Sort::ALL.iter().map(|sort| sort.name()).collect(),
            kinds: KINDS.iter().chain([&Kind::Client]).map(|kind| kind.name()).collect(),
            texts: texts.in_order(str::to_owned),
            sends: sends.in_order(ToString::to_string),
            messages,
            moments,
            focuses,
            trace,
            left_out,
        }
    }
}

fn kind_of(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Safety(_) | Verdict::Disagreement(_) => "safety",
        Verdict::Liveness(_) => "liveness",
        Verdict::Crash(_) => "crash",
        Verdict::Harness(_) => "harness",
    }
}

fn span(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Down => "down",
        SpanKind::Paused => "paused",
    }
}

/// The messages that the page gets: all, or without heartbeats, or the ones around what it is about.
fn shown<'a>(record: &'a Record, focus: Option<Duration>, left_out: &mut Vec<String>) -> Vec<&'a Message> {
    let mut messages: Vec<&Message> = record.messages.iter().collect();
    if messages.len() <= MESSAGES_MAX {
        return messages;
    }
    messages.retain(|message| message.said.sort != Sort::Heartbeat);
    left_out.push(format!("{} heartbeats", record.messages.len() - messages.len()));
    if messages.len() > MESSAGES_MAX {
        let middle = focus.map_or(messages.len(), |at| messages.partition_point(|message| message.sent <= at));
        let range = around(middle, messages.len(), MESSAGES_MAX);
        let (from, to) = (messages[range.start].sent.as_secs_f64(), messages[range.end - 1].sent.as_secs_f64());
        left_out.push(format!("{} messages before {from:.3} s or after {to:.3} s", messages.len() - range.len()));
        messages = messages[range].to_vec();
    }
    messages
}

/// At most `most` of `all` places, with `middle` near the end: what led there matters more than what followed.
fn around(middle: usize, all: usize, most: usize) -> std::ops::Range<usize> {
    let end = (middle + most / 5).clamp(most.min(all), all);
    end.saturating_sub(most)..end
}

fn lines(record: &Record, focus: Option<Duration>, left_out: &mut Vec<String>) -> Lines {
    let all = record.events.len();
    let middle = focus.map_or(all, |at| record.events.partition_point(|event| event.at <= at));
    let range = around(middle, all, LINES_MAX);
    if range.len() < all {
        left_out.push(format!("{} lines of the trace, before and after those around the verdict", all - range.len()));
    }
    let first = range.start as u64 + 1;
    let ordinals: Vec<u64> = (first..first + range.len() as u64).collect();
    let packed: io::Result<Vec<String>> = ordinals.chunks(LINES_PER_CHUNK).map(|part| pack(record, part)).collect();
    // Packing into memory does not fail.
    Lines { first, per_chunk: LINES_PER_CHUNK, chunks: packed.unwrap_or_default() }
}

fn pack(record: &Record, ordinals: &[u64]) -> io::Result<String> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    for ordinal in ordinals {
        let Some(event) = record.event(*ordinal) else { continue };
        encoder.write_all(event.line(*ordinal).replace('\n', " ").as_bytes())?;
        encoder.write_all(b"\n")?;
    }
    Ok(base64::engine::general_purpose::STANDARD.encode(encoder.finish()?))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_is_kept_of_too_much_is_around_what_matters() {
        assert_eq!(around(100, 1000, 2000), 0..1000);
        assert_eq!(around(500, 1000, 100), 420..520);
        assert_eq!(around(1000, 1000, 100), 900..1000);
        assert_eq!(around(0, 1000, 100), 0..100);
    }

    #[test]
    fn packed_lines_are_the_trace() {
        let plan: Plan = "seed 4\nclients 2\nmessages 5\nduration 1s".parse().unwrap();
        let (outcome, record) = crate::record::record(&plan, &crate::toy::Toy::default());
        let packed = lines(&record, None, &mut Vec::new());
        let mut unpacked = String::new();
        for chunk in &packed.chunks {
            let bytes = base64::engine::general_purpose::STANDARD.decode(chunk).unwrap();
            flate2::read::DeflateDecoder::new(&bytes[..]).read_to_string(&mut unpacked).unwrap();
        }
        let ring = crate::run::run(&plan, &crate::toy::Toy::default(), crate::trace::Lines::ring(usize::MAX));
        assert_eq!(outcome.hash, ring.hash);
        assert_eq!(unpacked.lines().map(str::to_owned).collect::<Vec<_>>(), ring.lines);
    }
}
