//! Clients without a session: readers that come by any server, and homes that others set.

use super::*;
use crate::wire::{Name, Refusal};

fn attach_apart(nonce: Nonce, expected: u64, window: u32) -> Command<'static> {
    Command::AttachApart { nonce, name: "b", registration: None, expected: Epoch(expected), window }
}

fn acknowledge_apart(registration: RegistrationId, epoch: u64, up_to: u64) -> Command<'static> {
    let (epoch, up_to) = (Epoch(epoch), Position(up_to));
    Command::AcknowledgeApart { nonce: 99, name: "b", registration, epoch, up_to, ranges: vec![] }
}

fn acknowledged(registration: RegistrationId, epoch: u64, up_to: u64) -> Answer {
    Answer::Acknowledged { registration, epoch: Epoch(epoch), up_to: Position(up_to) }
}

/// `a` has sent four messages to `b`.
fn with_mail() -> (Log, RegistrationId) {
    let mut log = Log::default();
    log.register("a");
    let b = log.register("b");
    let stream = log.open(1, "a");
    (1..=4).for_each(|number| drop(log.send(stream, number, "b", b"x")));
    (log, b)
}

#[test]
fn a_reader_without_a_session_is_one_reader_too() {
    let (mut log, b) = with_mail();
    let attached = |epoch| Answer::Attached { registration: b, epoch: Epoch(epoch), acknowledged: Position(0) };
    assert_eq!(log.ask(attach(1, "b", 0, 1)), attached(1));
    let effects = log.run(&[(attach_apart(2, 1, 2), b"")]);
    assert_eq!(effects[0], Effect::Fenced { registration: b, epoch: Epoch(1), by: Some(Epoch(2)) });
    assert_eq!(log.ask(attach_apart(2, 1, 2)), attached(2), "the same request again");
    assert_eq!(log.ask(attach_apart(3, 1, 2)), Answer::Refused(Refusal::EpochMoved { current: Epoch(2) }));
    assert_eq!(log.run(&[(acknowledge(b, 1, 4, &[]), b"")]), [], "the session's counts no more");
    let view = log.office.reader(b).expect("it is registered");
    assert_eq!((view.reading, view.attached, &*view.home), (Reading::Apart, true, "home"));
    assert!(!log.office.who(None, 9).0.iter().any(|row| row.online), "it has no connection");
    // What its window showed is marked for the next one, and so is what the one before may have seen.
    assert_eq!(log.ask(attach(4, "b", 2, 9)), attached(3));
    assert_eq!(log.waiting(b), [(1, true), (2, true), (3, false), (4, false)]);
    // In another registration it is not taken for a reader of this one.
    let other = Command::AttachApart { nonce: 5, name: "b", registration: Some(Id(1)), expected: Epoch(3), window: 1 };
    assert_eq!(log.ask(other), Answer::Refused(Refusal::RegistrationEnded));
    // No server loses a reader that has no session with it.
    log.ask(attach_apart(6, 3, 1));
    assert_eq!(log.run(&[(Command::Vanished { registration: b, epoch: Epoch(4), home: "home" }, b"")]), []);
    assert!(log.office.reader(b).is_some_and(|reader| reader.attached));
}

#[test]
fn an_acknowledgement_without_a_session_counts_for_its_reader_only() {
    let (mut log, b) = with_mail();
    let refused = |refusal| Answer::Refused(refusal);
    let effects = log.run(&[(acknowledge_apart(b, 0, 1), b"")]);
    let told = Effect::Acknowledged { registration: b, epoch: Epoch(0), up_to: Position(1) };
    assert_eq!(effects[0], told, "nobody reads, so whoever knows that may");
    log.ask(attach(1, "b", 0, 9));
    assert_eq!(log.ask(acknowledge_apart(b, 0, 4)), refused(Refusal::EpochMoved { current: Epoch(1) }));
    assert_eq!(log.ask(acknowledge_apart(b, 1, 4)), refused(Refusal::ReadBySession));
    log.run(&[(Command::Vanished { registration: b, epoch: Epoch(1), home: "home" }, b"")]);
    assert_eq!(log.ask(acknowledge_apart(b, 1, 4)), refused(Refusal::ReadBySession), "it may come back");
    log.ask(attach_apart(2, 1, 9));
    assert_eq!(log.ask(acknowledge_apart(b, 2, 2)), acknowledged(b, 2, 2));
    assert_eq!(log.ask(acknowledge_apart(b, 2, 1)), acknowledged(b, 2, 2), "late, it changes nothing");
    log.ask(Command::Detach { nonce: 3, registration: b, epoch: Epoch(2), delivered: Some(Position(2)) });
    assert_eq!(log.ask(acknowledge_apart(b, 2, 3)), acknowledged(b, 2, 3));
    // Of a registration that has ended it counts for nothing, whoever has the name now.
    log.ask(Command::Deregister { nonce: 4, name: "b", registration: None });
    assert!(matches!(log.ask(register(5, "b")), Answer::Registered { .. }));
    assert_eq!(log.ask(acknowledge_apart(b, 0, 4)), refused(Refusal::RegistrationEnded));
}

#[test]
fn a_home_is_set_instead_of_the_one_that_was_named() {
    let (mut log, b) = with_mail();
    let set = |home, instead_of| Command::SetHome { nonce: 9, name: "b", home, instead_of };
    let home = |log: &Log| log.office.registration("b").map(|known| known.home.to_string()).unwrap_or_default();
    assert_eq!(log.ask(set("two", None)), Answer::HomeSet { registration: b });
    let moved = Refusal::HomeMoved { home: Name::new("two").expect("a name") };
    assert_eq!(log.ask(set("three", Some("home"))), Answer::Refused(moved));
    assert_eq!(log.ask(set("two", Some("home"))), Answer::HomeSet { registration: b }, "it is so already");
    assert_eq!(log.ask(set("three", Some("two"))), Answer::HomeSet { registration: b });
    // A session is at home where it reads, whatever else is said.
    log.ask(attach(1, "b", 0, 9));
    log.ask(set("two", None));
    assert_eq!(home(&log), "home");
    log.run(&[(Command::Vanished { registration: b, epoch: Epoch(1), home: "home" }, b"")]);
    assert_eq!(home(&log), "two");
    let nobody = Command::SetHome { nonce: 9, name: "nobody", home: "two", instead_of: None };
    assert_eq!(log.ask(nobody), Answer::Refused(Refusal::NotRegistered));
}

#[test]
fn clients_of_a_home_that_is_down_are_moved_in_turn_and_only_in_time() {
    let mut log = Log::default();
    let names = ["a", "b", "c", "d"];
    let ids = names.map(|name| log.register(name));
    log.ask(attach(1, "b", 0, 9));
    log.time = 100;
    let moves = |until| Command::MoveClients { from: "home", to: vec!["home", "one", "two"], until: Time(until) };
    let homes = |log: &Log| names.map(|name| log.office.registration(name).expect("there").home.to_string());
    assert_eq!(log.run(&[(moves(99), b"")]), [], "it comes too late");
    let alone = Command::MoveClients { from: "home", to: vec!["home"], until: Time(100) };
    assert_eq!(log.run(&[(alone, b"")]), []);
    assert_eq!(homes(&log), ["home"; 4]);
    let left = Effect::Left { registration: ids[1], epoch: Epoch(1), home: Name::new("home").expect("a name") };
    assert_eq!(log.run(&[(moves(100), b"")]), [left], "its reader there is gone");
    let moved = homes(&log);
    assert!(moved.contains(&"one".to_owned()) && moved.contains(&"two".to_owned()), "{moved:?}");
    assert_eq!(log.office.homes().map(|home| home.to_string()).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(log.run(&[(moves(100), b"")]), [], "again, there is nobody to move");
    assert_eq!(homes(&log), moved);
    // The process that read there comes back, and is at home where it is now.
    let again = Command::Attach { nonce: 1, name: "b", home: "two", expected: Epoch(0), resumes: None, window: 9 };
    assert!(matches!(log.ask(again), Answer::Attached { epoch: Epoch(1), .. }));
    assert_eq!(homes(&log)[1], "two");
}
