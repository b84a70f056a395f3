use super::*;
use crate::wire::{Id, frame};

const ORIGIN: Origin = Origin { incarnation: 1, boot: 1 };
const OTHER: Origin = Origin { incarnation: 2, boot: 1 };
const INBOX: RegistrationId = Id(7);
const NONCE: Nonce = 5;

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// The books of server `a` with a session that has asked to attach.
fn asked() -> (Hub, SessionId) {
    let hub = Hub::new(ORIGIN, name("a"), 1 << 20);
    let (id, _) = hub.open_session(ClusterId(1)).expect("it is open");
    hub.lock().route_nonce(NONCE, id);
    assert!(matches!(told(&hub, id)[..], [Reply::Welcome { .. }]));
    (hub, id)
}

fn attached(origin: Origin, epoch: u64) -> Effect<'static> {
    let answer = Answer::Attached { registration: INBOX, epoch: Epoch(epoch), acknowledged: Position(0) };
    Effect::Answered { origin, nonce: NONCE, answer }
}

fn left(home: &str, epoch: u64) -> Effect<'static> {
    Effect::Left { registration: INBOX, epoch: Epoch(epoch), home: name(home) }
}

/// What the session's client is told, since it was asked last.
fn told(hub: &Hub, id: SessionId) -> Vec<Reply> {
    let mut bytes = hub.outgoing(id, BytesMut::new()).bytes.freeze();
    let mut replies = Vec::new();
    while let Some(frame) = frame::split_bytes(&mut bytes).expect("whole frames") {
        replies.push(frame::take(&frame.payload).expect("a reply").0);
    }
    replies
}

#[test]
fn an_attachment_is_here_once_the_copy_that_came_through_here_was_applied() {
    let (hub, id) = asked();
    hub.effect(&attached(OTHER, 1));
    assert_eq!(told(&hub, id), []);
    assert!(hub.lock().readers.is_empty(), "the other one is its home");
    hub.effect(&attached(ORIGIN, 1));
    assert!(matches!(told(&hub, id)[..], [Reply::Attached { nonce: NONCE, epoch: Epoch(1), .. }]));
    assert!(hub.lock().readers.contains_key(&INBOX));
    hub.effect(&attached(ORIGIN, 1));
    assert_eq!(told(&hub, id), [], "it is answered once");
}

#[test]
fn what_an_older_session_asked_does_not_take_the_inbox_from_a_newer_one_that_has_it() {
    let (hub, old) = asked();
    let (new, _) = hub.open_session(ClusterId(1)).expect("it is open");
    told(&hub, new);
    // The client moved on to a new connection and has asked again there, before what it sent on the old one was read.
    hub.lock().route_nonce(NONCE, new);
    hub.effect(&attached(ORIGIN, 1));
    assert!(matches!(told(&hub, new)[..], [Reply::Attached { epoch: Epoch(1), .. }]));
    hub.lock().route_nonce(NONCE, old);
    hub.effect(&attached(ORIGIN, 1));
    assert_eq!(told(&hub, old), [], "nobody is there to be told");
    assert_eq!(hub.lock().readers[&INBOX].session, new);
    hub.close_session(old);
    assert_eq!(hub.lock().readers[&INBOX].session, new, "the inbox is not the old one's to lose");
}

#[test]
fn a_reader_that_took_over_has_the_inbox_though_its_session_is_the_older_one() {
    let (hub, old) = asked();
    let (new, _) = hub.open_session(ClusterId(1)).expect("it is open");
    hub.lock().route_nonce(NONCE, new);
    hub.effect(&attached(ORIGIN, 1));
    hub.lock().route_nonce(NONCE, old);
    hub.effect(&attached(ORIGIN, 2));
    assert!(matches!(told(&hub, old)[..], [Reply::Attached { epoch: Epoch(2), .. }]));
    assert_eq!(hub.lock().readers[&INBOX].session, old);
}

#[test]
fn a_sends_outcome_is_every_copys_and_a_failure_is_of_the_copy_that_came_through_here() {
    let (hub, id) = asked();
    let stream = Id(9);
    hub.lock().route_stream(stream, id);
    let sent = |origin, result| Effect::Sent { origin, stream, number: Number(1), result, repeated: false };
    let failure = SendFailure::WindowFull { window: 2 };
    hub.effect(&sent(OTHER, Err(failure.clone())));
    assert_eq!(told(&hub, id), []);
    hub.effect(&sent(ORIGIN, Err(failure.clone())));
    assert_eq!(told(&hub, id), [Reply::SendFailed { stream, number: Number(1), reason: failure }]);
    let outcome = SendOutcome::Accepted(Position(1));
    hub.effect(&sent(OTHER, Ok(outcome)));
    hub.lock().wake();
    assert_eq!(told(&hub, id), [Reply::Receipts { stream, first: Number(1), outcomes: vec![outcome] }]);
}

#[test]
fn a_reader_that_everybody_knows_elsewhere_or_gone_gets_nothing_more_and_its_client_comes_again() {
    let (hub, id) = asked();
    hub.effect(&attached(ORIGIN, 2));
    told(&hub, id);
    hub.effect(&left("b", 2));
    hub.effect(&left("a", 1));
    assert_eq!(told(&hub, id), [], "another home, or another epoch");
    assert!(hub.lock().readers.contains_key(&INBOX));
    hub.effect(&left("a", 2));
    assert!(hub.lock().readers.is_empty());
    assert_eq!(told(&hub, id), [Reply::Move { reason: Refusal::ReadElsewhere }]);
    assert!(hub.outgoing(id, BytesMut::new()).ending);
    hub.close_session(id);
    assert!(
        hub.next_batch(<crate::world::RealWorld as crate::world::World>::now()).is_none(),
        "it did not vanish from here: nobody is to be told so"
    );
}
