//! A plan's text, back to the plan.

use std::ops::RangeInclusive;
use std::str::FromStr;

use restante::wire::Name;

use super::{Fault, Interval, LEADER, Millis, Plan};

/// Why a text is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the plan, {text:?}: {problem}")]
pub struct BadPlan {
    /// Which line, counted from 1.
    pub line: usize,
    /// The line.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

impl FromStr for Plan {
    type Err = BadPlan;

    fn from_str(text: &str) -> Result<Self, BadPlan> {
        let mut plan = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = |problem: String| BadPlan { line: index + 1, text: line.to_owned(), problem };
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            if word != "at" {
                if seen.contains(&word) {
                    return Err(bad(format!("`{word}` is there twice")));
                }
                seen.push(word);
            }
            plan.read_line(word, rest.trim()).map_err(bad)?;
        }
        Ok(plan)
    }
}

impl Plan {
    fn read_line(&mut self, word: &str, rest: &str) -> Result<(), String> {
        match word {
            "seed" => self.seed = number(rest)?,
            "servers" => {
                self.servers = names(rest)?;
                if self.servers.iter().any(|name| name == LEADER) {
                    return Err(format!("`{LEADER}` stands for whichever server leads, so none is called that"));
                }
            }
            "spares" => self.spares = names(rest)?,
            "clients" => self.clients = number(rest)?,
            "messages" => self.messages = number(rest)?,
            "body" => self.body = range(rest, number)?,
            "pace" => self.pace = range(rest, millis)?,
            "memory" => self.memory = number(rest)?,
            "keep" => self.keep = number(rest)?,
            "segment" => match number(rest)? {
                bytes if (4096..=1 << 30).contains(&bytes) => self.segment = bytes,
                _ => return Err("`segment` is 4096 to 1073741824".to_owned()),
            },
            "cache" => self.cache = number(rest)?,
            "election" => self.election = range(rest, positive)?,
            "latency" => self.latency = range(rest, millis)?,
            "work" => self.work = range(rest, millis)?,
            "sync" => self.sync = range(rest, millis)?,
            "tick" => self.tick = positive(rest)?,
            "duration" => self.duration = positive(rest)?,
            "core" => self.core = names(rest)?,
            "core-liveness" => self.core_liveness = positive(rest)?,
            "liveness" => self.liveness = positive(rest)?,
            "service" => self.service = positive(rest)?,
            "patience" => self.patience = positive(rest)?,
            "at" => self.faults.push(interval(rest)?),
            word if self.mix.read_line(word, rest)? => {}
            other => return Err(format!("`{other}` is no setting; faults begin with `at`")),
        }
        Ok(())
    }
}

fn interval(text: &str) -> Result<Interval, String> {
    let shape = || "a fault is `at TIME for TIME KIND WHO`".to_owned();
    let (at, rest) = text.split_once(" for ").ok_or_else(shape)?;
    let (lasts, rest) = rest.trim().split_once(' ').ok_or_else(shape)?;
    let (kind, who) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
    Ok(Interval { at: millis(at)?, lasts: millis(lasts)?, fault: Fault::parse(kind, who.trim())? })
}

pub(super) fn groups(text: &str) -> Result<Vec<Vec<String>>, String> {
    let groups = text.split('|').map(names).collect::<Result<Vec<_>, _>>()?;
    if groups.len() < 2 {
        return Err("groups are separated by `|`, and there are at least two".to_owned());
    }
    no_repeats(groups.iter().flatten())?;
    Ok(groups)
}

pub(super) fn names(text: &str) -> Result<Vec<String>, String> {
    let names = text.split_whitespace().map(name).collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() {
        return Err("a name is missing".to_owned());
    }
    no_repeats(names.iter())?;
    Ok(names)
}

pub(super) fn no_repeats<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let mut names: Vec<&String> = names.collect();
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("`{}` is there twice", pair[0])),
        None => Ok(()),
    }
}

pub(super) fn name(text: &str) -> Result<String, String> {
    let text = text.trim();
    Name::new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

pub(super) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is no number that fits here"))
}

pub(super) fn range<T: PartialOrd>(
    text: &str,
    one: impl Fn(&str) -> Result<T, String>,
) -> Result<RangeInclusive<T>, String> {
    let (from, to) = text.split_once("..").ok_or("a range is `FROM..TO`")?;
    let (from, to) = (one(from)?, one(to)?);
    if from > to { Err("the range ends before it begins".to_owned()) } else { Ok(from..=to) }
}

fn positive(text: &str) -> Result<Millis, String> {
    match millis(text)? {
        Millis(0) => Err("it must be more than nothing".to_owned()),
        some => Ok(some),
    }
}

/// `250ms`, `2s`, `2.25s`.
pub(super) fn millis(text: &str) -> Result<Millis, String> {
    let text = text.trim();
    let bad = || format!("{text:?} is no time: `250ms`, `2s` or `2.25s`");
    if let Some(number) = text.strip_suffix("ms") {
        return number.parse().map(Millis).map_err(|_| bad());
    }
    let seconds = text.strip_suffix('s').ok_or_else(bad)?;
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 3 {
        return Err(bad());
    }
    let whole: u64 = whole.parse().map_err(|_| bad())?;
    let fraction: u64 = format!("{fraction:0<3}").parse().map_err(|_| bad())?;
    whole.checked_mul(1000).and_then(|ms| ms.checked_add(fraction)).map(Millis).ok_or_else(bad)
}
