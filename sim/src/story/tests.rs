use super::*;
use crate::cluster::Cluster;
use crate::record::record;
use crate::run::{Verdict, run};
use crate::toy::{Flaw, Toy};
use crate::trace::Lines;

const PLAN: &str = "seed 7\nclients 3\nmessages 15\nduration 5s\nat 1.5s for 1s crash a\nat 3s for 500ms pause b\n\
                    at 4s for 300ms partition c | a b";

#[test]
fn recording_changes_nothing_and_tells_who_led() {
    let plan: Plan = PLAN.parse().unwrap();
    let (outcome, record) = record(&plan, &Cluster);
    let plain = run(&plan, &Cluster, Lines::Discard);
    assert_eq!((outcome.hash, outcome.events, &outcome.verdict), (plain.hash, plain.events, &Verdict::Passed));
    assert_eq!(record.events.len() as u64, outcome.events);
    let story = Story::new(&plan, &outcome, &record);
    assert_eq!(story.lanes.iter().filter(|lane| lane.is_server).count(), 3);
    assert_eq!(story.faults.len(), 3);
    assert!(story.faults.iter().any(|fault| fault.is_link && fault.lanes.len() == 3));
    assert!(story.focuses.is_empty());
    // A term has one leader, whom the others follow.
    let leaders: Vec<_> = story.rules.iter().filter(|rule| rule.leader == Some(rule.lane)).collect();
    assert!(!leaders.is_empty());
    for rule in story.rules.iter().filter(|rule| rule.leader.is_some()) {
        assert!(leaders.iter().any(|leader| (leader.term, leader.leader) == (rule.term, rule.leader)), "{rule:?}");
    }
    let kinds = |kind: SpanKind| story.spans.iter().filter(move |span| span.kind == kind).count();
    assert_eq!((kinds(SpanKind::Down), kinds(SpanKind::Paused)), (1, 1));
    assert!(record.logs.iter().any(|logged| logged.text.contains("founding a cluster")), "{:?}", record.logs);
    assert!(story.moments.is_sorted_by_key(|moment| moment.ordinal));
}

#[test]
fn one_send_is_followed_from_its_sender_to_its_reader() {
    let plan: Plan = "seed 3\nclients 2\nmessages 5\nduration 3s".parse().unwrap();
    let (outcome, record) = record(&plan, &Cluster);
    assert_eq!(outcome.verdict, Verdict::Passed);
    let story = Story::new(&plan, &outcome, &record);
    let receipts = story.moments.iter().filter(|moment| moment.kind == Kind::Receipt);
    for send in receipts.filter_map(|moment| moment.send.as_ref()) {
        let about = record.messages.iter().filter(|message| message.said.sends.contains(send));
        let texts: Vec<&str> = about.map(|message| message.said.text.as_str()).collect();
        for part in ["Send #", "Append term", "Receipt", "Deliver to"] {
            assert!(texts.iter().any(|text| text.starts_with(part)), "{send}: no {part} in {texts:?}");
        }
    }
    let malformed = record.messages.iter().find(|message| message.said.text.contains("malformed"));
    assert_eq!(malformed, None);
    // Without a fault, only what a closing end still had on its way is not read.
    let lost = record.messages.iter().filter(|message| message.read.is_none()).count();
    assert!(lost * 20 < record.messages.len(), "{lost} of {}", record.messages.len());
}

#[test]
fn a_violation_points_at_the_moments_that_it_speaks_of() {
    let mut plan = Plan::from_seed(2);
    plan.faults.clear();
    for flaw in [Flaw::NoOrder, Flaw::Garbles, Flaw::NoMark, Flaw::Panics] {
        let (outcome, record) = record(&plan, &Toy { flaw: Some(flaw) });
        assert_ne!(outcome.verdict, Verdict::Passed, "{flaw:?}");
        let story = Story::new(&plan, &outcome, &record);
        for focus in &story.focuses {
            assert!(!focus.moments.is_empty(), "{focus:?}");
            assert!(focus.at <= outcome.simulated);
            for send in &focus.sends {
                assert!(focus.moments.iter().any(|n| story.moments[*n].send.as_ref() == Some(send)), "{focus:?}");
            }
        }
    }
}
