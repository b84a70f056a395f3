//! A run as readable text: what each server and client saw, in order.
//!
//! What there is much of (sends, receipts, deliveries) is counted where nothing else happens, and told one by one where
//! the verdict speaks of it, where one host is asked for, or where everything is.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use crate::plan::Plan;
use crate::record::{Message, Record};
use crate::run::{Outcome, Verdict};
use crate::story::{Kind, Moment, Story};

/// What of a run is told.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Nothing before.
    pub from: Option<Duration>,
    /// Nothing after.
    pub to: Option<Duration>,
    /// Only what this host saw, and the faults; every send of it, too.
    pub host: Option<String>,
    /// Everything one by one, and every message.
    pub all: bool,
}

/// How many violations are told entry by entry.
const VIOLATIONS_SHOWN: usize = 5;
/// How wide a line of counts may be.
const COLUMNS: usize = 118;
/// So few are told one by one rather than counted.
const FEW: usize = 3;

/// Writes the run.
///
/// # Errors
/// Those of `out`; [`io::ErrorKind::InvalidInput`] if there is no such host.
pub fn write(
    out: &mut dyn Write,
    plan: &Plan,
    outcome: &Outcome,
    record: &Record,
    story: &Story,
    options: &Options,
) -> io::Result<()> {
    let host = match &options.host {
        Some(name) => Some(story.lane(name).ok_or_else(|| {
            let names: Vec<&str> = story.lanes.iter().map(|lane| lane.name.as_str()).collect();
            let text = format!("no host is called {name:?}; there are {}", names.join(", "));
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?),
        None => None,
    };
    head(out, plan, outcome)?;
    let mut teller = Teller { out, story, options, host, counted: Counted::default() };
    writeln!(teller.out, "     time    event  who       what")?;
    let mut messages = record.messages.iter().filter(|_| options.all).peekable();
    for (n, moment) in story.moments.iter().enumerate() {
        while let Some(message) = messages.next_if(|message| message.written < moment.ordinal) {
            teller.message(message)?;
        }
        teller.moment(n, moment)?;
    }
    messages.try_for_each(|message| teller.message(message))?;
    teller.tell_counted()?;
    tail(out, outcome, story)
}

fn head(out: &mut dyn Write, plan: &Plan, outcome: &Outcome) -> io::Result<()> {
    let servers = match &plan.servers[..] {
        [one] => format!("server {one}"),
        [rest @ .., last] => format!("servers {} and {last}", rest.join(", ")),
        [] => "no server".to_owned(),
    };
    let (clients, messages, duration) = (plan.clients, plan.messages, plan.duration);
    writeln!(out, "Seed {}: {servers}; {clients} clients with {messages} messages each; {duration} with", plan.seed)?;
    writeln!(
        out,
        "faults, then up to {} without. {} events in {:.3} s, trace {:016x}.\n",
        plan.liveness,
        outcome.events,
        outcome.simulated.as_secs_f64(),
        outcome.hash
    )?;
    writeln!(out, "{}", sentence(&outcome.verdict))?;
    if !matches!(outcome.verdict, Verdict::Passed) {
        writeln!(out, "Lines with ! are what this speaks of.")?;
    }
    writeln!(out)
}

fn sentence(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Passed => "Every promise was kept.".to_owned(),
        broken => format!("FAILED. {broken}"),
    }
}

/// The violations, each with its moments.
fn tail(out: &mut dyn Write, outcome: &Outcome, story: &Story) -> io::Result<()> {
    writeln!(out, "{:>9.3}           -         the run ends", outcome.simulated.as_secs_f64())?;
    for focus in story.focuses.iter().take(VIOLATIONS_SHOWN) {
        writeln!(out, "\n{}: {}", focus.promise, focus.text)?;
        for moment in focus.moments.iter().map(|n| &story.moments[*n]) {
            line(out, '!', story, moment)?;
        }
    }
    if let Some(more) = story.focuses.len().checked_sub(VIOLATIONS_SHOWN).filter(|more| *more > 0) {
        writeln!(out, "\nand {more} more violations")?;
    }
    Ok(())
}

fn line(out: &mut dyn Write, mark: char, story: &Story, moment: &Moment) -> io::Result<()> {
    let who = moment.lane.map_or("-", |lane| &story.lanes[lane].name);
    let text = match moment.kind {
        Kind::FaultBegins => format!("fault begins: {}", moment.text),
        Kind::FaultEnds => format!("fault ends: {}", moment.text),
        Kind::Logged => format!("says: {}", moment.text),
        Kind::Warned => format!("warns: {}", moment.text),
        _ => moment.text.clone(),
    };
    let (at, ordinal) = (moment.at.as_secs_f64(), moment.ordinal);
    writeln!(out, "{mark}{at:>8.3} {ordinal:>8}  {who:<9} {text}")
}

/// What happened since the last line, not told one by one.
#[derive(Default)]
struct Counted {
    moments: Vec<usize>,
    by_lane: BTreeMap<usize, BTreeMap<Kind, usize>>,
}

struct Teller<'a> {
    out: &'a mut dyn Write,
    story: &'a Story,
    options: &'a Options,
    host: Option<usize>,
    counted: Counted,
}

impl Teller<'_> {
    fn is_in_time(&self, at: Duration) -> bool {
        self.options.from.is_none_or(|from| at >= from) && self.options.to.is_none_or(|to| at <= to)
    }

    fn moment(&mut self, n: usize, moment: &Moment) -> io::Result<()> {
        // What is about the run (its faults and phases) is told with every host.
        let is_others = moment.lane.is_some() && self.host.is_some_and(|host| moment.lane != Some(host));
        if is_others || !self.is_in_time(moment.at) {
            return Ok(());
        }
        let is_pointed_at = self.story.focuses.iter().any(|focus| focus.moments.binary_search(&n).is_ok());
        let is_many = moment.kind.is_traffic() || moment.kind == Kind::Moved;
        let is_counted = is_many && !is_pointed_at && !self.options.all && self.host.is_none();
        match moment.lane.filter(|_| is_counted) {
            Some(lane) => {
                self.counted.moments.push(n);
                *self.counted.by_lane.entry(lane).or_default().entry(moment.kind).or_default() += 1;
                Ok(())
            }
            None => {
                self.tell_counted()?;
                line(self.out, if is_pointed_at { '!' } else { ' ' }, self.story, moment)
            }
        }
    }

    fn message(&mut self, message: &Message) -> io::Result<()> {
        let is_host = |name: &str| self.host.is_none_or(|host| self.story.lanes[host].name == name);
        if !(is_host(&message.from) || is_host(&message.to)) || !self.is_in_time(message.sent) {
            return Ok(());
        }
        let fate = message.read.map_or("never read".to_owned(), |(at, _)| format!("read {:.3}", at.as_secs_f64()));
        let (at, ordinal, from, to) = (message.sent.as_secs_f64(), message.written, &message.from, &message.to);
        writeln!(self.out, " {at:>8.3} {ordinal:>8}  {from:<9} -> {to}: {} ({fate})", message.said.text)
    }

    fn tell_counted(&mut self) -> io::Result<()> {
        let Counted { moments, by_lane } = std::mem::take(&mut self.counted);
        if moments.len() <= FEW {
            return moments.iter().try_for_each(|n| line(self.out, ' ', self.story, &self.story.moments[*n]));
        }
        let last = moments.last().map_or(Duration::ZERO, |n| self.story.moments[*n].at);
        let told: Vec<String> = by_lane
            .iter()
            .map(|(lane, counts)| {
                let mut counts: Vec<String> = counts.iter().map(|(kind, count)| counted(*kind, *count)).collect();
                let at = |n: &&usize| {
                    (self.story.moments[**n].lane, self.story.moments[**n].kind) == (Some(*lane), Kind::Moved)
                };
                // Of its moves, where it is now matters.
                counts.extend(moments.iter().rfind(at).map(|n| self.story.moments[*n].text.clone()));
                counts.retain(|count| !count.is_empty());
                format!("{} {}", self.story.lanes[*lane].name, counts.join(", "))
            })
            .collect();
        let until = format!("… until {:.3} s: ", last.as_secs_f64());
        let indent = 20 + until.chars().count();
        write!(self.out, "{:>20}{until}", "")?;
        let mut column = indent;
        for (n, part) in told.iter().enumerate() {
            let width = part.chars().count() + 2;
            if n > 0 {
                write!(self.out, ";")?;
                if column + width > COLUMNS {
                    write!(self.out, "\n{:>indent$}", "")?;
                    column = indent;
                } else {
                    write!(self.out, " ")?;
                }
            }
            write!(self.out, "{part}")?;
            column += width;
        }
        writeln!(self.out)?;
        Ok(())
    }
}

fn counted(kind: Kind, count: usize) -> String {
    let s = if count == 1 { "" } else { "s" };
    match kind {
        Kind::Sent => format!("sent {count}"),
        Kind::Receipt => format!("got {count} receipt{s}"),
        Kind::Delivered => format!("received {count}"),
        Kind::Acknowledged => format!("acknowledged {count} time{s}"),
        Kind::Confirmed => format!("{count} confirmed"),
        Kind::Moved if count > 1 => format!("moved {count} times"),
        Kind::Moved => String::new(),
        other => format!("{count} × {}", other.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Cluster;
    use crate::record::record;
    use crate::toy::{Flaw, Toy};

    fn told(plan: &Plan, outcome: &Outcome, record: &Record, options: &Options) -> String {
        let story = Story::new(plan, outcome, record);
        let mut out = Vec::new();
        write(&mut out, plan, outcome, record, &story, options).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_run_is_told_with_its_faults_leaders_and_traffic() {
        let plan: Plan = "seed 7\nclients 2\nmessages 20\nduration 3s\nat 1.5s for 500ms crash a".parse().unwrap();
        let (outcome, record) = record(&plan, &Cluster);
        let text = told(&plan, &outcome, &record, &Options::default());
        for part in [
            "Every promise was kept",
            "leads term",
            "fault begins: crash a, for 500ms",
            "a         loses its power",
            "starts again (life 2)",
            "says: every listed server is empty",
            "client1 sent",
            "the run ends",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        assert!(!text.contains("Heartbeat"), "messages are told only if asked for");
        assert!(
            text.lines()
                .filter(|line| line.contains("… until"))
                .all(|line| line.chars().count() <= COLUMNS || !line.contains("; ")),
            "{text}"
        );
        assert!(text.lines().count() < 250, "{} lines", text.lines().count());

        let all = told(&plan, &outcome, &record, &Options { all: true, ..Options::default() });
        assert!(all.contains("Heartbeat") && all.contains("sends client1.") && all.contains("Append term"), "{all}");

        let one = Options { host: Some("client2".to_owned()), ..Options::default() };
        let one = told(&plan, &outcome, &record, &one);
        assert!(one.contains("client2   receives") && !one.contains("client1   "), "{one}");
        assert!(one.contains("fault begins"), "the faults concern everybody");

        let (from, to) = (Some(Duration::from_millis(1000)), Some(Duration::from_millis(2000)));
        let part = told(&plan, &outcome, &record, &Options { from, to, ..Options::default() });
        let times = part.lines().filter_map(|line| line.get(1..9)?.trim().parse::<f64>().ok());
        let last = outcome.simulated.as_secs_f64();
        assert!(times.into_iter().all(|at| (1.0..=2.0).contains(&at) || at > last - 0.001), "{part}");
    }

    #[test]
    fn a_host_that_is_not_there_is_named() {
        let plan: Plan = "seed 1\nclients 1\nmessages 1\nduration 1s".parse().unwrap();
        let (outcome, record) = record(&plan, &Toy::default());
        let story = Story::new(&plan, &outcome, &record);
        let options = Options { host: Some("zoe".to_owned()), ..Options::default() };
        let error = write(&mut Vec::new(), &plan, &outcome, &record, &story, &options).unwrap_err();
        assert!(error.to_string().contains("\"zoe\"") && error.to_string().contains("client1"), "{error}");
    }

    #[test]
    fn a_violation_is_told_entry_by_entry() {
        let mut plan = Plan::from_seed(2);
        plan.faults.clear();
        let (outcome, record) = record(&plan, &Toy { flaw: Some(Flaw::NoOrder) });
        let text = told(&plan, &outcome, &record, &Options::default());
        assert!(text.contains("FAILED. safety"), "{text}");
        let marked = text.lines().filter(|line| line.starts_with('!'));
        assert!(marked.filter(|line| line.contains("receives")).count() >= 2, "{text}");
    }
}
