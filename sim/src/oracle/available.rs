//! P6: while a majority of the servers can talk, and a client with them, nobody waits longer than the plan says.
//!
//! After the faults, each fresh send is accepted within the plan's `service`, and has arrived within it again. During
//! them, nothing that a client asked for stays without an answer for longer than its `patience`, in the times that are
//! quiet by the plan ([`Plan::quiet_times`]).

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use crate::history::{Entry, History, Process, SendKey, What};
use crate::plan::Plan;
use crate::scenario::Stage;

/// For ever, as far as anybody knows.
const NEVER: Duration = Duration::MAX;

/// Something that a client waits for.
struct Wait<'a> {
    process: &'a Process,
    what: String,
    from: Duration,
    to: Duration,
    send: Option<&'a SendKey>,
    /// When its message arrived, if it is a send.
    arrived: Option<Duration>,
    accepted: bool,
}

pub(crate) fn check(history: &History, plan: &Plan) -> Vec<String> {
    let end = history.entries.last().map_or(Duration::ZERO, |entry| entry.at);
    let waits = waits(history);
    let mut violations = late_in_service(history, plan, &waits, end);
    let mut quiet: BTreeMap<&str, Vec<Range<Duration>>> = BTreeMap::new();
    let patience: Duration = plan.patience.into();
    for wait in &waits {
        let client = wait.process.client.as_str();
        let times = quiet.entry(client).or_insert_with(|| plan.quiet_times(client));
        let longest = times.iter().map(|time| wait.to.min(end).min(time.end).saturating_sub(wait.from.max(time.start)));
        if let Some(waited) = longest.max().filter(|waited| *waited > patience) {
            violations.push(format!(
                "{} waited for {} from {:.3} s on, {:.3} s of it while a majority could talk, and {} are allowed",
                wait.process,
                wait.what,
                wait.from.as_secs_f64(),
                waited.as_secs_f64(),
                plan.patience
            ));
        }
    }
    violations
}

/// Fresh sends that were not accepted in time, or have not arrived in time.
fn late_in_service(history: &History, plan: &Plan, waits: &[Wait<'_>], end: Duration) -> Vec<String> {
    let service: Duration = plan.service.into();
    let mut violations = Vec::new();
    for (n, (from, stage)) in history.stages.iter().enumerate().filter(|(_, (_, stage))| stage.is_service()) {
        let until = history.stages.get(n + 1).map_or(NEVER, |(at, _)| *at);
        let fresh = waits.iter().filter(|wait| (*from..until).contains(&wait.from));
        for (wait, send) in fresh.filter_map(|wait| Some((wait, wait.send?))) {
            let stage = match stage {
                Stage::CoreService => "while only a core was in order",
                _ => "after all faults",
            };
            let waited = wait.to.min(end).saturating_sub(wait.from);
            if waited > service {
                let waited = waited.as_secs_f64();
                violations.push(format!("{send} was fresh, {stage}, and had no answer for {waited:.3} s"));
                continue;
            }
            let arrived = wait.arrived.unwrap_or(NEVER).min(end).saturating_sub(wait.to);
            if wait.accepted && arrived > service {
                let arrived = arrived.as_secs_f64();
                violations.push(format!("{send} was fresh, {stage}, and had not arrived for {arrived:.3} s"));
            }
        }
    }
    violations
}

fn waits(history: &History) -> Vec<Wait<'_>> {
    let mut waits: Vec<Wait<'_>> = Vec::new();
    let mut open: BTreeMap<(&Process, String), usize> = BTreeMap::new();
    let mut sends: BTreeMap<&SendKey, usize> = BTreeMap::new();
    for Entry { at, process, what } in &history.entries {
        let key = match what {
            What::Invoked { send, .. } | What::Accepted { send, .. } => format!("an answer to {send}"),
            What::Refused { send, .. } | What::Unknown { send } => format!("an answer to {send}"),
            What::Registering { name, question } | What::Registered { name, question, .. } => {
                format!("the name {name} (question {question})")
            }
            What::Attaching { session, inbox, .. }
            | What::Attached { session, inbox, .. }
            | What::Ended { session, inbox } => format!("attachment {session} to {inbox}"),
            What::Delivered { send: Some(send), .. } => {
                if let Some(wait) = sends.get(send) {
                    waits[*wait].arrived.get_or_insert(*at);
                }
                continue;
            }
            What::Died => {
                let mine: Vec<_> = open.keys().filter(|(owner, _)| *owner == process).cloned().collect();
                mine.into_iter().filter_map(|key| open.remove(&key)).for_each(|wait| waits[wait].to = *at);
                continue;
            }
            _ => continue,
        };
        let send = match what {
            What::Invoked { send, .. } => Some(send),
            // Asked again, it has waited since it was asked first.
            What::Registering { .. } if open.contains_key(&(process, key.clone())) => continue,
            What::Registering { .. } | What::Attaching { .. } => None,
            _ => {
                if let Some(wait) = open.remove(&(process, key)) {
                    waits[wait].to = *at;
                    waits[wait].accepted = matches!(what, What::Accepted { .. });
                }
                continue;
            }
        };
        let wait = Wait { process, what: key.clone(), from: *at, to: NEVER, send, arrived: None, accepted: false };
        if let Some(send) = send {
            sends.insert(send, waits.len());
        }
        open.insert((process, key), waits.len());
        waits.push(wait);
    }
    waits
}

#[cfg(test)]
mod tests {
    use super::super::examples::*;
    use super::*;

    /// What happened at which second, with the plan's bounds of 5 and 8 seconds.
    fn check(plan: &str, stages: &[(u64, Stage)], whats: Vec<(u64, What)>) -> Vec<String> {
        let (times, whats): (Vec<u64>, Vec<What>) = whats.into_iter().unzip();
        let mut history = complete(whats);
        history.entries.iter_mut().zip(times).for_each(|(entry, at)| entry.at = Duration::from_secs(at));
        history.stages = stages.iter().map(|(at, stage)| (Duration::from_secs(*at), *stage)).collect();
        let plan = format!("duration 30s\nclients 2\nservice 5s\npatience 8s\n{plan}");
        super::check(&history, &plan.parse().unwrap())
    }

    #[test]
    fn what_is_fresh_is_accepted_and_arrives_in_time() {
        let stages = [(30, Stage::Heal), (40, Stage::Calm), (60, Stage::Stop)];
        let service = |accepted_at, delivered_at| {
            let whats = vec![(41, invoked(1)), (accepted_at, accepted(1, 1)), (delivered_at, delivered(1, 1, 1))];
            check("", &stages, whats)
        };
        assert!(service(46, 51).is_empty());
        assert!(service(47, 51)[0].contains("no answer for 6.000 s"));
        assert!(service(42, 48)[0].contains("had not arrived for 6.000 s"));
        // Refused, it arrives nowhere; the end of the run may come before its time is up.
        let refused = What::Refused { send: key(1), why: crate::history::Why::InboxFull };
        assert!(check("", &stages, vec![(41, invoked(1)), (42, refused), (59, registered())]).is_empty());
        assert!(check("", &stages, vec![(58, invoked(1)), (61, registered())]).is_empty());
        assert_eq!(check("", &stages, vec![(41, invoked(1)), (59, registered())]).len(), 1);
    }

    #[test]
    fn nobody_waits_too_long_while_a_majority_can_talk() {
        let waits = |plan: &str, to| check(plan, &[], vec![(1, invoked(1)), (to, accepted(1, 1)), (29, registered())]);
        assert!(waits("", 9).is_empty());
        assert!(waits("", 10)[0].contains("9.000 s of it while a majority could talk"));
        assert!(waits("at 5s for 1s power-cut", 13).is_empty());
        assert_eq!(waits("at 5s for 1s power-cut", 15).len(), 1);
        assert!(waits("at 5s for 30s pause client1", 29).is_empty());
        // A client that died waits no more; nor is anything known of times after the run.
        assert!(check("", &[], vec![(1, attaching(1)), (8, What::Died), (29, registered())]).is_empty());
        assert_eq!(check("", &[], vec![(1, attaching(1)), (29, registered())]).len(), 1);
        assert!(check("", &[], vec![(1, attaching(1)), (8, registered())]).is_empty());
    }

    #[test]
    fn a_name_may_be_asked_for_twice_at_once() {
        let name = || "client2".to_owned();
        let asks = |question| What::Registering { name: name(), question };
        let has = |question| What::Registered { name: name(), question, registration: 1 };
        let both = |first, second| check("", &[], vec![(1, asks(1)), (2, asks(2)), (first, has(1)), (second, has(2))]);
        assert!(both(3, 4).is_empty());
        assert!(both(3, 12)[0].contains("from 2.000 s on, 10.000 s of it"));
        let one = check("", &[], vec![(1, asks(1)), (2, asks(2)), (3, has(2)), (29, has(3))]);
        assert!(one.len() == 1 && one[0].contains("from 1.000 s on, 28.000 s of it"), "{one:?}");
        // Asked again, it waits since the first time; and no longer than until the answer.
        assert!(check("", &[], vec![(1, asks(1)), (6, asks(1)), (8, has(1)), (29, has(2))]).is_empty());
        assert_eq!(check("", &[], vec![(1, asks(1)), (6, asks(1)), (12, has(1))]).len(), 1);
    }
}
