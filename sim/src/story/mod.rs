//! A recorded run as a story: who was there, what each saw in order, who led when, and what the verdict points at.
//!
//! [`crate::explain`] tells it as text, [`crate::report`] draws it.

mod clients;
mod focus;
mod servers;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::history::SendKey;
use crate::plan::{Fault, Plan};
use crate::record::Record;
use crate::run::Outcome;

pub use self::focus::Focus;
pub use self::servers::{Rule, Span, SpanKind};

/// Everything about one run that is worth showing.
#[derive(Debug, Clone)]
pub struct Story {
    /// The hosts, servers first, in the plan's order.
    pub lanes: Vec<Lane>,
    /// What happened, in order.
    pub moments: Vec<Moment>,
    /// The plan's faults as they came.
    pub faults: Vec<FaultSpan>,
    /// When which server was down or stood still.
    pub spans: Vec<Span>,
    /// Whom each server followed when.
    pub rules: Vec<Rule>,
    /// What the verdict points at, one for each violation.
    pub focuses: Vec<Focus>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Its name.
    pub name: String,
    /// Or it is a client.
    pub is_server: bool,
}

/// A fault of the plan as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultSpan {
    /// When it began.
    pub from: Duration,
    /// When it ended.
    pub to: Duration,
    /// The plan's word for it.
    pub kind: String,
    /// The plan's line, without its times.
    pub text: String,
    /// The lanes that it names; of all servers if it names none.
    pub lanes: Vec<usize>,
    /// Whether it is about the links between them and not about the hosts.
    pub is_link: bool,
}

/// Something that somebody saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The simulated time.
    pub at: Duration,
    /// The event's ordinal; of what was logged, that of the event before.
    pub ordinal: u64,
    /// Whose; `None` is the run's.
    pub lane: Option<usize>,
    /// What sort of thing.
    pub kind: Kind,
    /// In words.
    pub text: String,
    /// The send it is about.
    pub send: Option<SendKey>,
}

/// What sort of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The run enters a phase.
    Phase,
    /// A fault begins.
    FaultBegins,
    /// A fault ends.
    FaultEnds,
    /// A process starts.
    Start,
    /// A process ends.
    Down,
    /// A task panicked.
    Panic,
    /// A server stands for election.
    Candidate,
    /// A server leads.
    Leader,
    /// A server follows another one.
    Follows,
    /// Who votes and who learns.
    Members,
    /// A snapshot is sent or installed.
    Snapshot,
    /// Files are set aside.
    Damage,
    /// A server's log says it.
    Logged,
    /// A server's log says it, and means it.
    Warned,
    /// A server's code told of it.
    Told,
    /// A client's registration.
    Registered,
    /// A client has another home.
    Moved,
    /// A reader asks for, gets or loses its place.
    Attached,
    /// A send was handed to the library.
    Sent,
    /// It got its receipt.
    Receipt,
    /// It was refused, or nobody knows.
    Refused,
    /// A message is in the client's hands.
    Delivered,
    /// It is acknowledged.
    Acknowledged,
    /// That is durable.
    Confirmed,
    /// Anything else that a client saw.
    Client,
}

impl Kind {
    /// Its name for a person.
    pub fn name(self) -> &'static str {
        match self {
            Self::Phase => "phase",
            Self::FaultBegins => "fault begins",
            Self::FaultEnds => "fault ends",
            Self::Start => "start",
            Self::Down => "down",
            Self::Panic => "panic",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Follows => "follows",
            Self::Members => "members",
            Self::Snapshot => "snapshot",
            Self::Damage => "damage",
            Self::Logged => "log",
            Self::Warned => "warning",
            Self::Told => "told",
            Self::Registered => "registration",
            Self::Moved => "home",
            Self::Attached => "reader",
            Self::Sent => "send",
            Self::Receipt => "receipt",
            Self::Refused => "refusal",
            Self::Delivered => "delivery",
            Self::Acknowledged => "acknowledgement",
            Self::Confirmed => "confirmation",
            Self::Client => "client",
        }
    }

    /// Whether there are so many of it that they are counted rather than told one by one.
    pub fn is_traffic(self) -> bool {
        matches!(self, Self::Sent | Self::Receipt | Self::Delivered | Self::Acknowledged | Self::Confirmed)
    }
}

impl Story {
    /// The story of a run.
    pub fn new(plan: &Plan, outcome: &Outcome, record: &Record) -> Self {
        let lanes = lanes(plan, record);
        let end = outcome.simulated;
        let mut moments = servers::moments(&lanes, record);
        moments.extend(clients::moments(&lanes, outcome, record));
        let faults = faults(&lanes, record, end, &mut moments);
        moments.sort_by_key(|moment| moment.ordinal);
        let spans = servers::spans(&lanes, record, &faults, end);
        let rules = servers::rules(&lanes, record, end);
        let focuses = focus::focuses(&lanes, &moments, outcome, record);
        Self { lanes, moments, faults, spans, rules, focuses }
    }

    /// The lane of that name.
    pub fn lane(&self, name: &str) -> Option<usize> {
        find(&self.lanes, name)
    }
}

fn find(lanes: &[Lane], name: &str) -> Option<usize> {
    lanes.iter().position(|lane| lane.name == name)
}

/// The plan's hosts, and whoever else was seen.
fn lanes(plan: &Plan, record: &Record) -> Vec<Lane> {
    let lane = |is_server| move |name: &String| Lane { name: name.clone(), is_server };
    let clients = plan.client_names();
    let mut lanes: Vec<Lane> = plan.servers.iter().map(lane(true)).chain(clients.iter().map(lane(false))).collect();
    let starts = record.events.iter().filter(|event| *event.kind == *"host.start");
    let mut late: Vec<String> = starts.map(|event| event.host.to_string()).collect();
    late.retain(|name| find(&lanes, name).is_none());
    late.sort();
    late.dedup();
    // A server that joins later is one of those that open the log's directory.
    let is_server = |name: &str| record.events.iter().any(|event| *event.host == *name && *event.kind == *"disk.lock");
    let (servers, others): (Vec<String>, Vec<String>) = late.into_iter().partition(|name| is_server(name));
    let at = plan.servers.len();
    lanes.splice(at..at, servers.iter().map(lane(true)));
    lanes.extend(others.iter().map(lane(false)));
    lanes
}

/// The faults as the trace tells them: by a line of the plan each, the same when it ends as when it began.
fn faults(lanes: &[Lane], record: &Record, end: Duration, moments: &mut Vec<Moment>) -> Vec<FaultSpan> {
    let mut faults: Vec<(FaultSpan, String, bool)> = Vec::new();
    for (ordinal, event) in (1..).zip(&record.events) {
        let kind = match &*event.kind {
            "fault.begin" => Kind::FaultBegins,
            "fault.end" => Kind::FaultEnds,
            "fault.none" => Kind::Told,
            _ => continue,
        };
        let interval = event.text.parse::<Plan>().ok().and_then(|mut plan| plan.faults.pop());
        let text = interval.as_ref().map_or_else(|| event.text.to_string(), |interval| interval.fault.to_string());
        let lasts = interval.as_ref().map_or_else(String::new, |interval| format!(", for {}", interval.lasts));
        let told = if kind == Kind::FaultBegins { text.clone() + &lasts } else { text.clone() };
        moments.push(Moment { at: event.at, ordinal, lane: None, kind, text: told, send: None });
        match (kind, interval) {
            (Kind::FaultBegins, Some(interval)) => {
                let named: Vec<usize> = interval.fault.hosts().iter().filter_map(|name| find(lanes, name)).collect();
                let servers = || (0..lanes.len()).filter(|lane| lanes[*lane].is_server).collect();
                let fault = FaultSpan {
                    from: event.at,
                    to: end,
                    kind: interval.fault.kind().to_owned(),
                    text,
                    lanes: if named.is_empty() { servers() } else { named },
                    is_link: matches!(interval.fault, Fault::Network(_)),
                };
                faults.push((fault, event.text.to_string(), true));
            }
            (Kind::FaultEnds, _) => {
                let began = faults.iter_mut().find(|(_, line, open)| *open && *line == *event.text);
                if let Some((fault, _, open)) = began {
                    (fault.to, *open) = (event.at, false);
                }
            }
            _ => {}
        }
    }
    faults.into_iter().map(|(fault, ..)| fault).collect()
}
