use super::*;
use crate::wire::client::SendFailure;
use crate::wire::{Name, Refusal, SendOutcome, SendRefusal};

fn sent(stream: StreamId, number: u64, result: Result<SendOutcome, SendFailure>) -> Effect<'static> {
    Effect::Sent { origin: ORIGIN, stream, number: Number(number), result, repeated: false }
}

fn accepted(position: u64) -> Result<SendOutcome, SendFailure> {
    Ok(SendOutcome::Accepted(Position(position)))
}

fn refused(refusal: SendRefusal) -> Result<SendOutcome, SendFailure> {
    Ok(SendOutcome::Refused(refusal))
}

/// A client `a` with a stream, and a client `b`.
fn two() -> (Log, StreamId, RegistrationId) {
    let mut log = Log::default();
    log.register("a");
    let b = log.register("b");
    let stream = log.open(5, "a");
    (log, stream, b)
}

#[test]
fn registering_is_idempotent_by_nonce_and_a_name_has_one_holder() {
    let mut log = Log::default();
    let first = log.register("a");
    assert_eq!(first, Id::at(1, 0));
    assert_eq!(log.ask(register(1, "a")), Answer::Registered { registration: first });
    assert_eq!(log.ask(register(2, "a")), Answer::Refused(Refusal::AlreadyRegistered { registration: first }));
    assert!(matches!(log.ask(register(2, "a b")), Answer::Refused(Refusal::Malformed(_))));
    let bad_home = Command::Register { nonce: 2, name: "b", home: "" };
    assert!(matches!(log.ask(bad_home), Answer::Refused(Refusal::Malformed(_))));
    assert_eq!(log.office.totals().clients, 1);
}

#[test]
fn no_more_clients_than_the_quota() {
    let mut log = Log::default();
    log.run(&[(Command::SetQuotas(Quotas { clients: 1, ..Quotas::default() }), b"")]);
    let a = log.register("a");
    assert_eq!(log.ask(register(1, "b")), Answer::Refused(Refusal::TooManyClients { quota: 1 }));
    assert_eq!(log.ask(register(1, "a")), Answer::Registered { registration: a }, "a repeat needs no room");
}

#[test]
fn deregistering_ends_everything_and_frees_the_name() {
    let (mut log, stream, b) = two();
    let of_b = [log.open(9, "b"), log.open(1, "b")];
    log.send(stream, 1, "b", b"x");
    log.run(&[(attach(3, "b", 0, 1), b"")]);
    let effects = log.run(&[(Command::Deregister { nonce: 4, name: "b", registration: None }, b"")]);
    let answer = Effect::Answered { origin: ORIGIN, nonce: 4, answer: Answer::Deregistered };
    let closed = of_b.map(|stream| Effect::StreamClosed { stream });
    let fenced = Effect::Fenced { registration: b, epoch: Epoch(1), by: None };
    assert_eq!(effects, [closed[0].clone(), closed[1].clone(), fenced, answer]);
    assert_eq!(log.office.totals(), Totals { clients: 1, streams: 1, ..Totals::default() });
    assert!(log.office.registration("b").is_none());
    assert_eq!(log.send(stream, 2, "b", b"x"), [sent(stream, 2, refused(SendRefusal::NoSuchClient))]);

    // Repeats: by registration it has ended, by name there is none.
    let by_id = Command::Deregister { nonce: 4, name: "b", registration: Some(b) };
    assert_eq!(log.ask(by_id.clone()), Answer::Deregistered);
    let by_name = Command::Deregister { nonce: 4, name: "b", registration: None };
    assert_eq!(log.ask(by_name), Answer::Refused(Refusal::NotRegistered));
    let again = log.register("b");
    assert_ne!(again, b);
    assert_eq!(log.ask(by_id), Answer::Deregistered, "and the new registration stays");
    assert_eq!(log.office.registration("b").map(|r| r.registration), Some(again));
    let other = Command::Deregister { nonce: 4, name: "a", registration: Some(again) };
    assert!(matches!(log.ask(other), Answer::Refused(Refusal::Malformed(_))));
}

#[test]
fn a_send_arrives_and_a_repeat_does_not() {
    let (mut log, stream, b) = two();
    let arrived = Effect::Arrived { registration: b, position: Position(1) };
    assert_eq!(log.send(stream, 1, "b", b"x"), [sent(stream, 1, accepted(1)), arrived]);
    assert_eq!(log.send(stream, 1, "b", b"x"), [sent(stream, 1, accepted(1))]);
    assert_eq!(log.waiting(b), [(1, false)]);
    assert_eq!(log.send(stream, 3, "b", b"x"), [sent(stream, 3, Err(SendFailure::Gap { expected: Number(2) }))]);
    let effects = log.run(&[(send(stream, 1, 1, "b"), b"x")]);
    assert_eq!(effects, [sent(stream, 1, Err(SendFailure::AlreadyAnswered))]);
}

#[test]
fn another_body_or_recipient_is_another_message() {
    let (mut log, stream, _) = two();
    log.register("bc");
    log.send(stream, 1, "b", b"cd");
    let other = [sent(stream, 1, Err(SendFailure::OtherContent))];
    assert_eq!(log.send(stream, 1, "b", b"ce"), other);
    assert_eq!(log.send(stream, 1, "a", b"cd"), other);
    assert_eq!(log.send(stream, 1, "bc", b"d"), other, "the same bytes, divided otherwise");
}

#[test]
fn refusals_of_business_use_their_number_up() {
    let (mut log, stream, b) = two();
    log.run(&[(Command::SetQuotas(Quotas { inbox_bytes: 3, ..Quotas::default() }), b"")]);
    let none = refused(SendRefusal::NoSuchClient);
    let full = refused(SendRefusal::InboxFull);
    assert_eq!(log.send(stream, 1, "nobody", b"x"), [sent(stream, 1, none.clone())]);
    assert_eq!(log.send(stream, 2, "not a name", b"x"), [sent(stream, 2, none.clone())]);
    assert_eq!(log.send(stream, 3, "b", b"1234"), [sent(stream, 3, full.clone())]);
    log.register("nobody");
    log.run(&[(Command::SetQuotas(Quotas::default()), b"")]);
    assert_eq!(log.send(stream, 1, "nobody", b"x"), [sent(stream, 1, none)], "the first outcome stands");
    assert_eq!(log.send(stream, 3, "b", b"1234"), [sent(stream, 3, full)]);
    assert_eq!(log.send(stream, 4, "b", b"1234")[0], sent(stream, 4, accepted(1)));
    assert_eq!(log.waiting(b), [(1, false)]);
}

#[test]
fn an_inbox_takes_as_many_messages_as_its_quota() {
    let (mut log, stream, b) = two();
    log.run(&[(Command::SetQuotas(Quotas { inbox_messages: 1, ..Quotas::default() }), b"")]);
    log.send(stream, 1, "b", b"x");
    assert_eq!(log.send(stream, 2, "b", b"x"), [sent(stream, 2, refused(SendRefusal::InboxFull))]);
    log.run(&[(attach(1, "b", 0, 1), b""), (acknowledge(b, 1, 1, &[]), b"")]);
    assert_eq!(log.send(stream, 3, "b", b"x")[0], sent(stream, 3, accepted(2)));
}

#[test]
fn a_full_window_uses_no_number() {
    let (mut log, stream, _) = two();
    log.run(&[(Command::SetQuotas(Quotas { stream_window: 1, ..Quotas::default() }), b"")]);
    log.send(stream, 1, "b", b"x");
    assert_eq!(log.send(stream, 2, "b", b"x"), [sent(stream, 2, Err(SendFailure::WindowFull { window: 1 }))]);
    log.run(&[(Command::Confirm { stream, confirmed: Number(9) }, b"")]);
    assert_eq!(log.office.stream_owner(stream).map(|s| (s.last.0, s.confirmed.0)), Some((1, 1)));
    assert_eq!(log.send(stream, 2, "b", b"x")[0], sent(stream, 2, accepted(2)));
    assert_eq!(log.run(&[(send(stream, 3, 2, "b"), b"x")])[0], sent(stream, 3, accepted(3)), "a send confirms, too");
}

#[test]
fn streams_open_once_by_nonce_and_close_for_ever() {
    let (mut log, stream, _) = two();
    log.run(&[(Command::SetQuotas(Quotas { streams_per_client: 2, ..Quotas::default() }), b"")]);
    assert_eq!(log.open(5, "a"), stream);
    log.open(6, "a");
    let third = Command::OpenStream { nonce: 7, name: "a" };
    assert_eq!(log.ask(third.clone()), Answer::Refused(Refusal::TooManyStreams { quota: 2 }));
    assert_ne!(log.open(5, "b"), stream, "the nonce of another client");
    let close = Command::CloseStream { nonce: 8, stream };
    assert_eq!(log.run(&[(close.clone(), b"")])[0], Effect::StreamClosed { stream });
    assert_eq!(log.ask(close), Answer::StreamClosed);
    assert_eq!(log.send(stream, 1, "b", b"x"), [sent(stream, 1, Err(SendFailure::StreamClosed))]);
    assert_ne!(log.open(5, "a"), stream);
    let nobody = Command::OpenStream { nonce: 7, name: "nobody" };
    assert_eq!(log.ask(nobody), Answer::Refused(Refusal::NotRegistered));
}

#[test]
fn attaching_compares_the_epoch_and_fences_the_reader_before() {
    let (mut log, _, b) = two();
    let attached = |epoch| Answer::Attached { registration: b, epoch: Epoch(epoch), acknowledged: Position(0) };
    assert_eq!(log.ask(attach(1, "b", 1, 9)), Answer::Refused(Refusal::EpochMoved { current: Epoch(0) }));
    assert_eq!(log.ask(attach(1, "b", 0, 9)), attached(1));
    let elsewhere =
        Command::Attach { nonce: 1, name: "b", home: "other", expected: Epoch(0), resumes: None, window: 9 };
    assert_eq!(log.ask(elsewhere), attached(1), "the same request through another server");
    assert_eq!(log.office.registration("b").map(|r| r.home.to_string()), Some("other".into()));
    assert_eq!(log.ask(attach(2, "b", 0, 9)), Answer::Refused(Refusal::EpochMoved { current: Epoch(1) }));
    let effects = log.run(&[(attach(2, "b", 1, 9), b"")]);
    assert_eq!(effects[0], Effect::Fenced { registration: b, epoch: Epoch(1), by: Some(Epoch(2)) });
    assert_eq!(log.ask(attach(1, "b", 0, 9)), Answer::Refused(Refusal::EpochMoved { current: Epoch(2) }));
    assert_eq!(log.ask(attach(1, "nobody", 0, 9)), Answer::Refused(Refusal::NotRegistered));
}

#[test]
fn a_home_is_told_when_its_reader_is_there_no_more() {
    let (mut log, _, b) = two();
    let through = |home| Command::Attach { nonce: 1, name: "b", home, expected: Epoch(0), resumes: None, window: 9 };
    let left = |home: &str| Effect::Left { registration: b, epoch: Epoch(1), home: Name::new(home).expect("a name") };
    let vanished = |home| Command::Vanished { registration: b, epoch: Epoch(1), home };
    let told = |log: &mut Log, command| {
        let effects = log.run(&[(command, b"")]);
        effects.into_iter().filter(|effect| matches!(effect, Effect::Left { .. })).collect::<Vec<_>>()
    };
    assert_eq!(told(&mut log, through("one")), []);
    assert_eq!(told(&mut log, through("one")), [], "it is there still");
    assert_eq!(told(&mut log, through("other")), [left("one")], "a copy of the request came through another one");
    assert_eq!(told(&mut log, vanished("one")), [], "it is not there");
    assert_eq!(told(&mut log, vanished("other")), [left("other")]);
    assert_eq!(told(&mut log, vanished("other")), [], "that is known");
    // Another reader ends the epoch: that is told as such.
    let second = Command::Attach { nonce: 2, name: "b", home: "one", expected: Epoch(1), resumes: None, window: 9 };
    assert_eq!(told(&mut log, second), []);
}

#[test]
fn a_reader_resumes_in_its_own_registration_only() {
    let (mut log, stream, b) = two();
    let resume = |nonce, expected, of| Command::Attach {
        nonce,
        name: "b",
        home: "home",
        expected: Epoch(expected),
        resumes: Some(of),
        window: 9,
    };
    log.ask(attach(1, "b", 0, 9));
    let attached = |registration, epoch| Answer::Attached { registration, epoch, acknowledged: Position(0) };
    assert_eq!(log.ask(resume(2, 1, b)), attached(b, Epoch(2)));
    log.ask(Command::Deregister { nonce: 3, name: "b", registration: None });
    assert_eq!(log.ask(resume(4, 2, b)), Answer::Refused(Refusal::NotRegistered));
    let next = log.register("b");
    assert_eq!(log.ask(resume(4, 2, b)), Answer::Refused(Refusal::RegistrationEnded));
    // Not even if the epochs are the same by chance: who reads there now is nobody that it replaces.
    log.ask(attach(5, "b", 0, 9));
    log.ask(attach(6, "b", 1, 9));
    log.send(stream, 1, "b", b"x");
    assert_eq!(log.ask(resume(4, 2, b)), Answer::Refused(Refusal::RegistrationEnded));
    assert_eq!(log.ask(resume(7, 2, next)), attached(next, Epoch(3)));
}

#[test]
fn only_the_current_epoch_acknowledges() {
    let (mut log, stream, b) = two();
    log.send(stream, 1, "b", b"x");
    assert_eq!(log.run(&[(acknowledge(b, 0, 1, &[]), b"")]), [], "nobody has attached");
    log.run(&[(attach(1, "b", 0, 9), b""), (attach(2, "b", 1, 9), b"")]);
    assert_eq!(log.run(&[(acknowledge(b, 1, 1, &[]), b"")]), []);
    assert_eq!(log.run(&[(acknowledge(b, 3, 1, &[]), b"")]), []);
    assert_eq!(log.waiting(b).len(), 1);
    let done = [Effect::Acknowledged { registration: b, epoch: Epoch(2), up_to: Position(1) }];
    assert_eq!(log.run(&[(acknowledge(b, 2, 99, &[]), b"")]), done, "as far as there is something");
    assert_eq!(log.run(&[(acknowledge(b, 2, 1, &[]), b"")]), done, "a repeat is answered");
    assert_eq!(log.run(&[(acknowledge(Id(7), 2, 1, &[]), b"")]), []);
    log.send(stream, 2, "b", b"x");
    assert_eq!(log.waiting(b), [(2, false)]);
}

#[test]
fn detaching_says_how_far_it_got() {
    let (mut log, stream, b) = two();
    (1..=3).for_each(|number| drop(log.send(stream, number, "b", b"x")));
    let detach = |epoch, delivered: Option<u64>| Command::Detach {
        nonce: 6,
        registration: b,
        epoch: Epoch(epoch),
        delivered: delivered.map(Position),
    };
    assert_eq!(log.ask(detach(0, None)), Answer::Refused(Refusal::EpochMoved { current: Epoch(0) }));
    log.ask(attach(1, "b", 0, 2));
    assert!(log.office.who(None, 9).0[1].online);
    assert_eq!(log.ask(detach(1, Some(1))), Answer::Detached);
    assert!(!log.office.who(None, 9).0[1].online);
    assert_eq!(log.ask(detach(1, None)), Answer::Detached, "a repeat changes nothing");
    log.ask(attach(2, "b", 1, 2));
    assert_eq!(log.waiting(b), [(1, true), (2, false), (3, false)]);
    assert_eq!(log.ask(detach(2, None)), Answer::Detached);
    log.ask(attach(3, "b", 2, 2));
    assert_eq!(log.waiting(b), [(1, true), (2, true), (3, false)]);
    assert_eq!(log.ask(detach(2, None)), Answer::Refused(Refusal::EpochMoved { current: Epoch(3) }));
    let gone = Command::Detach { nonce: 6, registration: Id(7), epoch: Epoch(1), delivered: None };
    assert_eq!(log.ask(gone), Answer::Refused(Refusal::RegistrationEnded));
}

#[test]
fn silent_streams_expire_and_used_ones_do_not() {
    let (mut log, stream, _) = two();
    let quiet = log.open(6, "a");
    log.run(&[(Command::SetQuotas(Quotas { stream_idle_ms: 100, ..Quotas::default() }), b"")]);
    log.time = 60;
    log.send(stream, 1, "b", b"x");
    assert_eq!(log.office.next_due(), Some(Time(100)));
    log.time = 99;
    assert_eq!(log.run(&[(Command::Tick, b"")]), []);
    log.time = 100;
    assert_eq!(log.run(&[(Command::Tick, b"")]), [Effect::StreamClosed { stream: quiet }]);
    assert_eq!(log.office.next_due(), Some(Time(160)));
    log.time = 20;
    assert_eq!(log.run(&[(Command::Tick, b"")]), []);
    assert_eq!(log.office.time(), Time(100), "the cluster's time never goes back");
    log.time = 160;
    assert_eq!(log.run(&[(Command::Tick, b"")]), [Effect::StreamClosed { stream }]);
    assert_eq!(log.office.next_due(), None);
}

#[test]
fn one_tick_does_bounded_work() {
    let mut log = Log::default();
    log.register("a");
    log.run(&[(Command::SetQuotas(Quotas { streams_per_client: 9999, ..Quotas::default() }), b"")]);
    let opens: Vec<_> = (0..1500).map(|nonce| (Command::OpenStream { nonce, name: "a" }, &b""[..])).collect();
    log.run(&opens);
    log.time = u64::MAX;
    assert_eq!(log.run(&[(Command::Tick, b"")]).len(), 1024);
    assert!(log.office.next_due() <= Some(log.office.time()), "the rest is due at once");
    assert_eq!(log.run(&[(Command::Tick, b"")]).len(), 476);
}

#[test]
fn malformed_commands_are_skipped_and_counted() {
    let mut log = Log::default();
    let mut frames = BytesMut::new();
    register(1, "a").put(&mut frames, b"");
    let good = frames.clone();
    frames.extend_from_slice(&[3, 0, 0, 0, 1, 200, 200]); // a command that does not decode
    frames.extend_from_slice(&[2, 0, 0, 0, 99, 0]); // a frame of another kind
    register(1, "b").put(&mut frames, b"");
    frames.extend_from_slice(&[0, 0, 0, 0]); // a frame of no bytes: what follows is lost
    frames.extend_from_slice(&good);
    let effects = log.run_frames(frames.freeze(), 6);
    let skipped = Effect::Skipped { origin: ORIGIN, reason: "" };
    assert_eq!(effects.iter().filter(|effect| **effect == skipped).count(), 3);
    assert_eq!(log.office.registration("b").map(|r| r.registration), Some(Id::at(1, 3)));
    assert_eq!((log.office.totals().malformed, log.office.totals().clients), (3, 2));
    for cut_off in [&good[..3], &good[..good.len() - 1]] {
        assert_eq!(log.run_frames(Bytes::copy_from_slice(cut_off), 1), std::slice::from_ref(&skipped));
    }
}

#[test]
fn ids_count_over_the_batches_of_an_entry() {
    let mut log = Log::default();
    let frames = |names: &[&str]| {
        let mut frames = BytesMut::new();
        names.iter().for_each(|name| register(1, name).put(&mut frames, b""));
        frames.freeze()
    };
    let other = Origin { incarnation: 2, boot: 1 };
    let batches = [
        batch(ORIGIN, 1, frames(&["a", "b", "not counted"]), 2),
        batch(ORIGIN, 1, frames(&["c", "d", "e"]), 3),
        batch(other, 1, frames(&["c"]), 1),
    ];
    let effects = log.entry(&batches);
    assert!(effects.contains(&Effect::Skipped { origin: ORIGIN, reason: "" }), "more than the header says");
    assert!(effects.contains(&Effect::Batch { origin: ORIGIN, sequence: 1, verdict: BatchVerdict::Repeat }));
    assert_eq!(log.office.registration("b").map(|r| r.registration), Some(Id::at(1, 1)));
    assert_eq!(log.office.registration("c").map(|r| r.registration), Some(Id::at(1, 5)));
    assert!(log.office.registration("d").is_none());
    let past_the_ordinals = [batch(other, 2, frames(&["f"]), u32::MAX), batch(other, 3, frames(&["g"]), 1)];
    log.entry(&past_the_ordinals);
    assert!(log.office.registration("f").is_some());
    assert!(log.office.registration("g").is_none(), "it would have no id of its own");
}

#[test]
fn a_damaged_entry_changes_nothing() {
    let (mut log, _, _) = two();
    let digest = log.office.digest();
    let entry = encode_entry(Time(99), &[batch(ORIGIN, log.sequence + 1, Bytes::from_static(b"12345"), 1)]);
    for length in 0..entry.len() {
        let cut = entry.slice(..length);
        assert!(log.office.apply_entry(100, &cut, &mut |_| panic!("an effect")).is_err(), "{length} bytes");
    }
    assert_eq!(log.office.digest(), digest);
}

#[test]
fn the_quotas_of_the_founding_hold_from_the_first_and_no_later_membership_changes_them() {
    let mut log = Log::default();
    let founder = || [(1, Name::new("a").expect("a name"), "a:1".to_owned())].into_iter();
    let quotas = |clients| Some(Quotas { clients, ..Quotas::default() });
    log.office.founded_by(founder(), quotas(7));
    assert_eq!(Some(*log.office.quotas()), quotas(7));
    log.office.founded_by(founder(), quotas(8));
    log.office.founded_by(founder(), None);
    assert_eq!(Some(*log.office.quotas()), quotas(7));
}

#[test]
fn enrolling_gives_each_disk_an_id_of_its_own() {
    let mut log = Log::default();
    log.office.founded_by([(1, Name::new("a").expect("a name"), "a:1".to_owned())].into_iter(), None);
    let enroll = |disk, server, address| Command::Enroll { server, address, disk };
    let first = Answer::Enrolled { incarnation: Id::at(1, 0).0 };
    assert_eq!(log.ask(enroll(7, "a", "x:1")), first);
    assert_eq!(log.ask(enroll(7, "a", "x:1")), first);
    assert_eq!(log.ask(enroll(8, "a", "x:1")), Answer::Enrolled { incarnation: Id::at(3, 0).0 });
    assert!(matches!(log.ask(enroll(9, "a", "")), Answer::Refused(Refusal::Malformed(_))));
    assert!(matches!(log.ask(enroll(9, "", "x:1")), Answer::Refused(Refusal::Malformed(_))));
    let known: Vec<_> = log.office.servers().map(|(name, e)| (name.to_string(), e.incarnation)).collect();
    assert_eq!(known, [("a".to_string(), Some(Id::at(3, 0).0))]);
    assert_eq!([1, Id::at(1, 0).0, Id::at(3, 0).0].map(|disk| log.office.is_retired(disk)), [true, true, false]);
    assert_eq!(log.ask(enroll(7, "a", "x:1")), Answer::Refused(Refusal::DiskRetired));
}

#[test]
fn servers_are_added_and_removed_by_commands() {
    let mut log = Log::default();
    log.office.founded_by([(1, Name::new("a").expect("a name"), "a:1".to_owned())].into_iter(), None);
    let add = |nonce, server, address| Command::AddServer { nonce, server, address };
    assert_eq!(log.ask(Command::RemoveServer { nonce: 20, server: "a" }), Answer::Refused(Refusal::LastServer));
    assert_eq!(log.ask(add(21, "b", "b:1")), Answer::ServerAdded);
    assert!(matches!(log.ask(add(22, "c", "")), Answer::Refused(Refusal::Malformed(_))));
    assert!(matches!(log.ask(add(23, "c d", "c:1")), Answer::Refused(Refusal::Malformed(_))));
    assert_eq!(log.ask(Command::RemoveServer { nonce: 24, server: "c" }), Answer::Refused(Refusal::NoSuchServer));
    assert_eq!(log.ask(Command::RemoveServer { nonce: 25, server: "a" }), Answer::ServerRemoved);
    assert_eq!(log.office.servers().map(|(name, _)| name.to_string()).collect::<Vec<_>>(), ["b"]);
    assert!(log.office.is_retired(1));
}

#[test]
fn reading_is_bounded_by_messages_and_bytes() {
    let (mut log, stream, b) = two();
    (1..=4).for_each(|number| drop(log.send(stream, number, "b", b"12345")));
    let read = |from, messages, bytes| {
        let waiting = log.office.waiting(b, Position(from), messages, bytes);
        waiting.iter().map(|w| w.delivery.position.0).collect::<Vec<_>>()
    };
    assert_eq!(read(0, 9, 99), [1, 2, 3, 4]);
    assert_eq!(read(2, 2, 99), [2, 3]);
    assert_eq!(read(2, 9, 10), [2, 3]);
    assert_eq!(read(2, 9, 9), [2]);
    assert_eq!(read(2, 0, 0), [2], "one in any case");
    assert_eq!(read(5, 9, 99), [0u64; 0]);
    assert_eq!(log.office.waiting(b, Position(3), 1, 9)[0].content, Content::Memory(Bytes::from_static(b"12345")));
}

#[test]
fn clients_are_listed_by_name() {
    let mut log = Log::default();
    ["c", "a", "b"].iter().for_each(|name| {
        log.register(name);
    });
    let names = |(rows, more): (Vec<crate::wire::client::ClientRow>, bool)| {
        (rows.iter().map(|row| row.name.to_string()).collect::<Vec<_>>().concat(), more)
    };
    let (first, _) = log.office.who(None, 1);
    assert_eq!(names(log.office.who(None, 2)), ("ab".into(), true));
    assert_eq!(names(log.office.who(Some(&first[0].name), 2)), ("bc".into(), false));
}
