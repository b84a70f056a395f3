//! What the verdict points at: the moments that a violation's sentence speaks of.
//!
//! A violation is a sentence for a person. The sends that it names (`client1.1.2`), the places (`position 7 of
//! client3`) and the hosts are looked up among what happened.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Kind, Lane, Moment, find};
use crate::history::{SendKey, What};
use crate::record::Record;
use crate::run::{Outcome, Verdict};

/// One violation and where it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Focus {
    /// The promise, or what kind of failure it is.
    pub promise: String,
    /// The sentence.
    pub text: String,
    /// When it is seen: as its sentence says, or else the last of its moments.
    pub at: Duration,
    /// Its moments' places in [`super::Story::moments`], ascending.
    pub moments: Vec<usize>,
    /// The sends that it is about.
    pub sends: Vec<SendKey>,
}

/// What a sentence names.
#[derive(Debug, Default)]
struct Named {
    sends: BTreeSet<SendKey>,
    positions: BTreeSet<(String, u64)>,
    hosts: BTreeSet<usize>,
}

pub(super) fn focuses(lanes: &[Lane], moments: &[Moment], outcome: &Outcome, record: &Record) -> Vec<Focus> {
    let failure = |promise: &str, text: &String| vec![(promise.to_owned(), text.clone())];
    let told = match &outcome.verdict {
        Verdict::Passed => Vec::new(),
        Verdict::Safety(violations) => violations.iter().map(|v| (v.promise.to_string(), v.text.clone())).collect(),
        Verdict::Disagreement(text) => failure("agreement", text),
        Verdict::Liveness(text) => failure("liveness", text),
        Verdict::Crash(text) => failure("crash", text),
        Verdict::Harness(text) => failure("harness", text),
    };
    told.into_iter().map(|(promise, text)| focus(lanes, moments, outcome, record, promise, text)).collect()
}

fn focus(
    lanes: &[Lane],
    moments: &[Moment],
    outcome: &Outcome,
    record: &Record,
    promise: String,
    text: String,
) -> Focus {
    let mut named = named(lanes, &text);
    // The send at a place that is named, and the places of the sends that are.
    for entry in &outcome.history.entries {
        if let What::Delivered { inbox, position, send: Some(send), .. } = &entry.what
            && named.positions.contains(&(inbox.clone(), *position))
        {
            named.sends.insert(send.clone());
        }
    }
    let mut found: Vec<usize> = (0..moments.len())
        .filter(|n| moments[*n].send.as_ref().is_some_and(|send| named.sends.contains(send)))
        .collect();
    found.extend(sessions(moments, &found));
    found.extend(acknowledgements(moments, &named.positions));
    if found.is_empty() {
        found.extend(claims(moments, record, &text));
    }
    if found.is_empty() {
        // A panic, or the last thing that was seen of whoever is named.
        let panics = |n: &usize| moments[*n].kind == Kind::Panic;
        found.extend((0..moments.len()).filter(panics).take(1));
        if found.is_empty() {
            let last = |host: &usize| moments.iter().rposition(|moment| moment.lane == Some(*host));
            found.extend(named.hosts.iter().filter_map(last));
        }
    }
    found.sort_unstable();
    found.dedup();
    let at = said(&text)
        .filter(|said| found.iter().any(|n| moments[*n].at == *said))
        .or_else(|| found.iter().rfind(|n| moments[**n].kind != Kind::Attached).map(|last| moments[*last].at))
        .or_else(|| found.last().map(|last| moments[*last].at))
        .unwrap_or(outcome.simulated);
    // How a reader's session ended later is another story.
    found.retain(|n| moments[*n].kind != Kind::Attached || moments[*n].at <= at);
    Focus { promise, text, at, moments: found, sends: named.sends.into_iter().collect() }
}

/// The last time that a sentence names: `at 1.234 s`.
fn said(text: &str) -> Option<Duration> {
    let words: Vec<&str> = text.split_whitespace().map(|word| word.trim_end_matches([',', '.'])).collect();
    let mut times = words.windows(3).filter(|three| three[0] == "at" && three[2] == "s");
    let seconds: f64 = times.next_back()?[1].parse().ok()?;
    Some(Duration::from_millis((seconds * 1000.0).round() as u64))
}

fn named(lanes: &[Lane], text: &str) -> Named {
    let mut named = Named::default();
    let clean = |word: &str| word.trim_matches(|c: char| ",;:()".contains(c)).trim_end_matches('.').to_owned();
    let words: Vec<String> = text.split_whitespace().map(clean).collect();
    for (at, word) in words.iter().enumerate() {
        if let Some(send) = send_of(word) {
            named.sends.insert(send);
        }
        named.hosts.extend(find(lanes, word).filter(|lane| !lanes[*lane].name.eq("a") || is_name(&words, at)));
        if word == "position"
            && let [place, of, inbox, ..] = &words[at + 1..]
            && let (Ok(place), "of") = (place.parse(), of.as_str())
        {
            named.positions.insert((inbox.clone(), place));
        }
    }
    named
}

/// Whether the word `a` is a server's name and no article: the former follows one of these.
fn is_name(words: &[String], at: usize) -> bool {
    at.checked_sub(1).is_some_and(|before| ["of", "for", "and", "to", "at"].contains(&words[before].as_str()))
        || words.get(at + 1).is_some_and(|after| ["ended", "is", "has", "and"].contains(&after.as_str()))
}

/// `client1.2.3`.
fn send_of(word: &str) -> Option<SendKey> {
    let (rest, number) = word.rsplit_once('.')?;
    let (sender, stream) = rest.rsplit_once('.')?;
    Some(SendKey { sender: sender.to_owned(), stream: stream.parse().ok()?, number: number.parse().ok()? })
}

/// The readers' sessions in which what was found was delivered: when they were asked for, began and ended.
fn sessions(moments: &[Moment], found: &[usize]) -> Vec<usize> {
    let session = |moment: &Moment| {
        let (_, rest) = moment.text.split_once("(session ")?;
        Some(rest.split_once(')')?.0.to_owned())
    };
    let wanted: BTreeSet<String> = found
        .iter()
        .map(|n| &moments[*n])
        .filter(|moment| moment.kind == Kind::Delivered)
        .filter_map(session)
        .collect();
    let of_wanted = |moment: &Moment| {
        moment.kind == Kind::Attached && session(moment).is_some_and(|session| wanted.contains(&session))
    };
    (0..moments.len()).filter(|n| of_wanted(&moments[*n])).collect()
}

/// For each place that is named: the first acknowledgement that covers it, and the first confirmation.
fn acknowledgements(moments: &[Moment], positions: &BTreeSet<(String, u64)>) -> Vec<usize> {
    let first = |kind: Kind, inbox: &str, position: u64| {
        moments.iter().position(|moment| {
            let about = |text: &str| text.contains(&format!(" {inbox} ")) || text.contains(&format!("of {inbox} "));
            moment.kind == kind && about(&moment.text) && up_to(&moment.text).is_some_and(|to| to >= position)
        })
    };
    let kinds = [Kind::Acknowledged, Kind::Confirmed];
    let covering = |(inbox, position): &(String, u64)| kinds.map(|kind| first(kind, inbox, *position));
    positions.iter().flat_map(covering).flatten().collect()
}

fn up_to(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("up to ")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The two claims of a disagreement: `… is THIS for ONE and THAT for OTHER`. What is claimed is no moment of its own
/// where it is ordinary (an entry that was applied), so the moments before them stand for them.
fn claims(moments: &[Moment], record: &Record, text: &str) -> Vec<usize> {
    let Some((_, claims)) = text.split_once(" is ") else { return Vec::new() };
    let parts = claims.split(" and ").filter_map(|claim| claim.rsplit_once(" for "));
    let ordinals = parts.filter_map(|(claim, host)| {
        let claims = |event: &crate::record::Recorded| *event.host == *host && event.text.contains(claim);
        record.events.iter().rposition(claims).map(|at| at as u64 + 1)
    });
    ordinals.filter_map(|ordinal| moments.iter().rposition(|moment| moment.ordinal <= ordinal)).collect()
}
