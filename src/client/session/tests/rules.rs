//! The rules, one by one.

use super::*;
use crate::wire::client::SendFailure;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn failed(bench: &mut Bench, stream: u64, number: u64, reason: SendFailure) {
    bench.reply(&Reply::SendFailed { stream: Id(stream), number: Number(number), reason });
}

fn gap(expected: u64) -> SendFailure {
    SendFailure::Gap { expected: Number(expected) }
}

#[test]
fn the_cluster_of_the_first_welcome_is_expected_later() {
    let mut bench = Bench::new(settings());
    bench.wanted();
    bench.session.connected(bench.now);
    assert_eq!(bench.sent(), [Sent::Hello(None)]);
    let welcome =
        |cluster| Reply::Welcome { cluster: Some(ClusterId(cluster)), server: name("a"), servers: vec![address("a")] };
    bench.reply(&welcome(7));
    bench.session.disconnected(bench.now, "gone");
    bench.wanted();
    bench.session.connected(bench.now);
    assert_eq!(bench.sent(), [Sent::Hello(Some(ClusterId(7)))]);
    bench.reply(&welcome(8));
    assert!(matches!(bench.session.ended, Some(Error::WrongCluster { .. })));
    assert!(matches!(bench.take_outputs().last(), Some(Output::Finish)));
}

#[test]
fn each_way_to_lose_a_server_leads_to_the_next() {
    let mut bench = Bench::new(settings());
    assert_eq!(bench.connect(), "a:1");
    bench.session.disconnected(bench.now, "gone");
    assert_eq!(bench.wanted(), "b:1");
    bench.session.disconnected(bench.now, "refused");
    assert_eq!(bench.wanted(), "c:1");
    bench.pass(ms(499));
    assert!(bench.take_outputs().iter().all(|o| !matches!(o, Output::Disconnect)));
    bench.pass(ms(1));
    assert!(bench.take_outputs().iter().any(|o| matches!(o, Output::Disconnect)), "no connection in time");
    assert_eq!(bench.wanted(), "a:1");
    bench.session.connected(bench.now);
    bench.pass(ms(500));
    assert_eq!(bench.connect(), "b:1", "no Welcome in time");
    bench.reply(&Reply::Move { reason: Refusal::Stopping });
    assert_eq!(bench.connect(), "c:1");
    bench.reply(&Reply::Refused { nonce: None, refusal: Refusal::TooManyConnections { limit: 1 } });
    assert_eq!(bench.connect(), "a:1");
    let garbage = Frame { kind: REPLY_KIND, payload: Bytes::from_static(&[0xff; 9]) };
    bench.session.received(bench.now, &garbage);
    assert_eq!(bench.connect(), "b:1");
}

#[test]
fn a_silent_server_is_left_after_pings_but_a_held_up_client_asks_first() {
    let mut bench = Bench::up(settings());
    let began = bench.now;
    bench.sent();
    let mut pings = 0;
    while bench.session.link.is_up() {
        bench.pass(bench.session.next_tick().unwrap() - bench.now);
        pings += bench.sent().iter().filter(|sent| **sent == Sent::Ping).count();
    }
    assert!(pings >= 2 && bench.now - began <= ms(1400), "{pings} pings in {:?}", bench.now - began);
    let mut held_up = Bench::up(settings());
    held_up.pass(ms(60_000));
    assert!(held_up.session.link.is_up(), "it was not the server that was silent");
    held_up.reply(&Reply::Pong(1));
    held_up.pass(ms(600));
    assert!(held_up.session.link.is_up());
}

#[test]
fn what_is_unanswered_is_sent_again_in_order_with_the_same_bytes() {
    let mut bench = Bench::up(settings());
    let stream = bench.stream(5);
    for n in 1..=5 {
        bench.send(stream, &n.to_string());
    }
    let first = bench.commands();
    assert_eq!(numbers(&first), [1, 2, 3, 4, 5]);
    bench.receipts(5, 1..=2);
    bench.session.disconnected(bench.now, "gone");
    bench.connect();
    assert_eq!(bench.commands(), first[2..]);
    bench.receipts(5, 1..=5);
    assert_eq!(bench.results(), [(1, Ok(101)), (2, Ok(102)), (3, Ok(103)), (4, Ok(104)), (5, Ok(105))]);
    assert_eq!(bench.session.pending_bytes(), 0);
}

#[test]
fn a_gap_is_filled_once_per_connection_and_makes_no_storm() {
    let mut bench = Bench::up(settings());
    let stream = bench.stream(5);
    for n in 1..=9 {
        bench.send(stream, &n.to_string());
    }
    bench.sent();
    for n in 4..=9 {
        failed(&mut bench, 5, n, gap(3));
    }
    assert_eq!(numbers(&bench.commands()), [3, 4, 5, 6, 7, 8, 9]);
    failed(&mut bench, 5, 4, gap(3));
    assert_eq!(bench.commands(), []);
    bench.pass(ms(50));
    assert_eq!(numbers(&bench.commands()), [1, 2, 3, 4, 5, 6, 7, 8, 9], "after a pause, everything unanswered");
    bench.receipts(5, 1..=9);
    bench.pass(ms(60));
    assert!(numbers(&bench.commands()).is_empty());
}

#[test]
fn a_gap_told_to_an_older_copy_skips_nothing() {
    let mut bench = Bench::up(settings());
    let stream = bench.stream(5);
    for n in 1..=3 {
        bench.send(stream, &n.to_string());
    }
    bench.sent();
    bench.session.disconnected(bench.now, "gone");
    bench.connect();
    failed(&mut bench, 5, 3, gap(2));
    assert_eq!(numbers(&bench.commands()), [1, 2, 3]);
}

#[test]
fn a_server_that_cannot_take_it_is_asked_again_later() {
    let mut bench = Bench::up(settings());
    let stream = bench.stream(5);
    for n in 1..=3 {
        bench.send(stream, &n.to_string());
    }
    bench.sent();
    failed(&mut bench, 5, 1, SendFailure::Unavailable(Refusal::DiskFull));
    failed(&mut bench, 5, 2, gap(1));
    bench.send(stream, "4");
    assert_eq!(bench.commands(), [], "nothing until then");
    bench.pass(ms(50));
    assert_eq!(numbers(&bench.commands()), [1, 2, 3, 4]);
    failed(&mut bench, 5, 1, SendFailure::Unavailable(Refusal::NoLeader));
    assert!(!bench.session.link.is_up(), "without a leader another server is better");
}

#[test]
fn the_window_is_kept_and_shrinks_with_the_quota() {
    let mut small = settings();
    small.stream_window = 4;
    let mut bench = Bench::up(small);
    let stream = bench.stream(5);
    for n in 1..=4 {
        assert!(matches!(bench.send(stream, "x"), Sending::Sent(Number(number)) if number == n));
    }
    assert!(matches!(bench.send(stream, "x"), Sending::Full));
    bench.sent();
    bench.receipts(5, 1..=1);
    assert!(bench.take_outputs().iter().any(|o| matches!(o, Output::Room(Some(_)))));
    failed(&mut bench, 5, 4, SendFailure::WindowFull { window: 2 });
    assert_eq!(bench.commands(), [Sent::Confirm { stream: 5, confirmed: 1 }]);
    bench.pass(ms(50));
    assert_eq!(numbers(&bench.commands()), [2, 3]);
    bench.receipts(5, 2..=3);
    bench.send(stream, "5");
    assert!(matches!(bench.send(stream, "6"), Sending::Full));
}

/// What was handed in under a wider window goes on its way as the narrow one allows: it is neither refused for receipts
/// that are here and that nobody confirmed, nor sent again and again behind what is refused.
#[test]
fn what_waits_behind_a_window_that_shrank_goes_as_receipts_come() {
    let mut small = settings();
    small.stream_window = 6;
    let mut bench = Bench::up(small);
    let stream = bench.stream(5);
    for _ in 1..=6 {
        bench.send(stream, "x");
    }
    assert_eq!(numbers(&bench.sent()), [1, 2, 3, 4, 5, 6]);
    bench.receipts(5, 1..=2);
    failed(&mut bench, 5, 3, SendFailure::WindowFull { window: 2 });
    for behind in 4..=6 {
        failed(&mut bench, 5, behind, gap(3));
    }
    assert_eq!(bench.commands(), [Sent::Confirm { stream: 5, confirmed: 2 }]);
    bench.pass(ms(50));
    let send = |number| move |sent: &Sent| matches!(sent, Sent::Send { number: n, .. } if *n == number);
    let confirm = |up_to| move |sent: &Sent| matches!(sent, Sent::Confirm { confirmed, .. } if *confirmed == up_to);
    let sent = bench.commands();
    assert!(sent.len() == 3 && confirm(2)(&sent[0]) && send(3)(&sent[1]) && send(4)(&sent[2]), "{sent:?}");
    bench.receipts(5, 3..=3);
    let sent = bench.commands();
    assert!(sent.len() == 2 && confirm(3)(&sent[0]) && send(5)(&sent[1]), "{sent:?}");
    bench.session.disconnected(bench.now, "gone");
    bench.connect();
    let sent = bench.commands();
    assert!(sent.len() == 3 && confirm(3)(&sent[0]) && send(4)(&sent[1]) && send(5)(&sent[2]), "{sent:?}");
    bench.receipts(5, 4..=5);
    let sent = bench.commands();
    assert!(sent.len() == 2 && confirm(5)(&sent[0]) && send(6)(&sent[1]), "{sent:?}");
}

#[test]
fn receipts_are_confirmed_by_the_next_send_or_after_a_silence() {
    let mut bench = Bench::up(settings());
    let stream = bench.stream(5);
    bench.send(stream, "1");
    bench.sent();
    bench.receipts(5, 1..=1);
    bench.send(stream, "2");
    assert!(matches!(bench.commands()[..], [Sent::Send { number: 2, confirmed: 1, .. }]));
    bench.receipts(5, 2..=2);
    bench.pass(ms(199));
    assert_eq!(bench.commands(), []);
    bench.pass(ms(1));
    assert_eq!(bench.commands(), [Sent::Confirm { stream: 5, confirmed: 2 }]);
    bench.pass(ms(200));
    assert_eq!(bench.commands(), []);
}

#[test]
fn a_closed_stream_is_opened_again_only_if_nothing_is_in_doubt() {
    let mut bench = Bench::up(settings());
    let stream = bench.stream(5);
    bench.send(stream, "1");
    bench.sent();
    bench.receipts(5, 1..=1);
    bench.results();
    bench.send(stream, "2");
    bench.send(stream, "3");
    bench.sent();
    failed(&mut bench, 5, 2, SendFailure::StreamClosed);
    failed(&mut bench, 5, 3, SendFailure::StreamClosed);
    let sent = bench.commands();
    let [Sent::Other { nonce, what: "OpenStream" }] = sent[..] else { panic!("{sent:?}") };
    bench.reply(&Reply::StreamOpened { nonce, stream: Id(6), registration: Id(1) });
    let sent = bench.commands();
    assert_eq!(numbers(&sent), [1, 2], "its numbers start anew");
    let Sent::Send { stream: 6, confirmed: 0, content, .. } = &sent[0] else { panic!("{sent:?}") };
    assert_eq!(content[..], *b"\x002");
    // Now an earlier copy may have been accepted before the stream was closed.
    bench.reconnect();
    failed(&mut bench, 6, 1, SendFailure::StreamClosed);
    let unknown = || Err(SendError::Unknown(Doubt::StreamClosed));
    assert_eq!(bench.results(), [(1, unknown()), (2, unknown())]);
    assert!(matches!(bench.send(stream, "4"), Sending::Failed(Error::StreamLost { .. })));
}

#[test]
fn a_stream_is_not_opened_again_for_another_registration() {
    let mut bench = Bench::up(settings());
    let stream = bench.stream(5);
    bench.send(stream, "1");
    bench.sent();
    failed(&mut bench, 5, 1, SendFailure::StreamClosed);
    let Sent::Other { nonce, .. } = bench.commands()[0] else { panic!() };
    bench.reply(&Reply::StreamOpened { nonce, stream: Id(6), registration: Id(99) });
    assert_eq!(bench.results(), [(1, Err(SendError::Failed(SendFailure::StreamClosed)))]);
    assert!(matches!(bench.commands()[..], [Sent::Other { what: "CloseStream", .. }]));
}

#[test]
fn what_never_left_is_told_from_what_is_unknown() {
    let mut bench = Bench::up(settings());
    let stream = bench.stream(5);
    bench.send(stream, "1");
    bench.sent();
    bench.send(stream, "2");
    bench.session.close(bench.now);
    bench.session.disconnected(bench.now, "gone");
    bench.pass(ms(2000));
    let results = bench.results();
    assert_eq!(results, [(1, Err(SendError::Unknown(Doubt::Closed))), (2, Err(SendError::NotSent(Doubt::Closed)))]);
}

#[test]
fn an_attachment_follows_the_epoch_and_bounds_its_attempts() {
    let mut bench = Bench::up(settings());
    let token = bench.token();
    bench.session.attach(bench.now, &name("bob"), 10, token);
    let mut attempts = 0;
    loop {
        let sent = bench.commands();
        let [Sent::Attach { nonce, expected, .. }] = sent[..] else { break };
        attempts += 1;
        assert!(attempts == 1 || expected == attempts + 10);
        let refusal = Refusal::EpochMoved { current: Epoch(attempts + 11) };
        bench.reply(&Reply::Refused { nonce: Some(nonce), refusal });
    }
    assert_eq!(attempts, 17);
    let outputs = bench.take_outputs();
    assert!(matches!(outputs.last(), Some(Output::Answered { result: Err(Error::Refused(_)), .. })), "{outputs:?}");
}

#[test]
fn a_reader_resumes_after_a_move_and_sees_nothing_twice() {
    let mut bench = Bench::up(settings());
    let inbox = bench.inbox(10);
    bench.deliver(1, 1..=5);
    assert_eq!(bench.take(inbox), [1, 2, 3, 4, 5]);
    bench.session.acknowledge(inbox, Position(2));
    bench.session.acknowledge_one(inbox, Position(4));
    assert_eq!(bench.commands(), [Sent::Acknowledge { epoch: 1, up_to: 2, ranges: 1 }]);
    bench.session.disconnected(bench.now, "gone");
    bench.connect();
    let sent = bench.commands();
    let [Sent::Attach { nonce, expected: 1, resumes: Some(Id(2)) }] = sent[..] else { panic!("{sent:?}") };
    // The connection dies again: the same attachment is asked for, lest it fence itself.
    bench.session.disconnected(bench.now, "gone");
    bench.connect();
    assert_eq!(bench.commands(), sent);
    bench.attached(nonce, 2, 0);
    assert_eq!(bench.commands(), [Sent::Acknowledge { epoch: 2, up_to: 2, ranges: 1 }], "they may have been lost");
    bench.deliver(2, [1, 2, 3, 5, 6]);
    assert_eq!(bench.take(inbox), [6]);
    bench.deliver(1, [7]);
    assert_eq!(bench.take(inbox), Vec::<u64>::new(), "the old epoch is over");
}

#[test]
fn acknowledgements_on_their_way_are_joined_by_others() {
    let mut bench = Bench::up(settings());
    let inbox = bench.inbox(100);
    bench.deliver(1, 1..=50);
    bench.take(inbox);
    let acknowledge = |bench: &mut Bench, position| {
        bench.session.acknowledge(inbox, Position(position));
        bench.commands()
    };
    let up_to = |position| vec![Sent::Acknowledge { epoch: 1, up_to: position, ranges: 0 }];
    assert_eq!(acknowledge(&mut bench, 1), up_to(1));
    assert_eq!(acknowledge(&mut bench, 2), []);
    assert_eq!(acknowledge(&mut bench, 3), []);
    bench.reply(&Reply::Acknowledged { registration: Id(2), epoch: Epoch(1), up_to: Position(1) });
    assert_eq!(bench.commands(), up_to(3));
    assert_eq!(acknowledge(&mut bench, 4), []);
    assert_eq!(acknowledge(&mut bench, 40), up_to(40), "a quarter of the window does not wait");
    assert_eq!(acknowledge(&mut bench, 41), []);
    bench.pass(ms(50));
    assert_eq!(bench.commands(), up_to(41), "nor does what has waited long");
}

#[test]
fn a_detachment_says_what_was_taken_and_comes_after_the_acknowledgements() {
    let mut bench = Bench::up(settings());
    let inbox = bench.inbox(10);
    bench.deliver(1, 1..=5);
    for _ in 0..3 {
        assert!(matches!(bench.session.next_delivery(inbox), Next::Delivery(_)));
    }
    bench.session.acknowledge(inbox, Position(9));
    let token = bench.token();
    bench.session.detach(inbox, Some(token));
    let sent = bench.commands();
    let [Sent::Acknowledge { up_to: 3, .. }, Sent::Detach { nonce, epoch: 1, delivered: Some(3) }] = sent[..] else {
        panic!("{sent:?}")
    };
    bench.reconnect_and_expect(&sent);
    bench.reply(&Reply::Detached { nonce });
    assert!(matches!(bench.take_outputs().last(), Some(Output::Answered { result: Ok(Answer::Done), .. })));
    bench.reconnect();
    assert_eq!(bench.commands(), []);
}

impl Bench {
    fn reconnect_and_expect(&mut self, expected: &[Sent]) {
        self.session.disconnected(self.now, "gone");
        self.connect();
        assert_eq!(self.commands(), expected);
    }
}

#[test]
fn more_than_the_window_is_a_broken_protocol() {
    let mut bench = Bench::up(settings());
    let inbox = bench.inbox(3);
    bench.deliver(1, 1..=4);
    assert!(!bench.session.link.is_up());
    assert_eq!(bench.take(inbox), [1, 2, 3]);
}

#[test]
fn requests_keep_their_nonces_and_a_deregistration_is_not_blindly_repeated() {
    let mut bench = Bench::up(settings());
    let tokens = [bench.token(), bench.token(), bench.token()];
    bench.session.register(bench.now, &name("x"), tokens[0]);
    bench.session.deregister(bench.now, &name("y"), None, tokens[1]);
    bench.session.deregister(bench.now, &name("z"), Some(Id(3)), tokens[2]);
    let first = bench.commands();
    bench.session.disconnected(bench.now, "gone");
    let outputs = bench.take_outputs();
    let unknown =
        |o: &Output| matches!(o, Output::Answered { token, result: Err(Error::Unknown { .. }) } if *token == tokens[1]);
    assert!(outputs.iter().any(unknown), "{outputs:?}");
    bench.connect();
    assert_eq!(bench.commands(), [first[0].clone(), first[2].clone()]);
    let Sent::Other { nonce, .. } = first[2] else { panic!() };
    bench.reply(&Reply::Refused { nonce: Some(nonce), refusal: Refusal::NotRegistered });
    let outputs = bench.take_outputs();
    let done = |o: &Output| matches!(o, Output::Answered { token, result: Ok(Answer::Done) } if *token == tokens[2]);
    assert!(outputs.iter().any(done), "its first copy did it: {outputs:?}");
    bench.pass(ms(10_000));
    let outputs = bench.take_outputs();
    let late = |o: &Output| matches!(o, Output::Answered { token, result: Err(_) } if *token == tokens[0]);
    assert!(outputs.iter().any(late), "{outputs:?}");
}

#[test]
fn what_comes_for_whoever_gave_up_is_undone() {
    let mut bench = Bench::up(settings());
    let token = bench.token();
    bench.session.open_stream(bench.now, &name("alice"), token);
    let Sent::Other { nonce, .. } = bench.commands()[0] else { panic!() };
    while !matches!(bench.take_outputs().last(), Some(Output::Answered { result: Err(_), .. })) {
        bench.reply(&Reply::Pong(0));
        bench.pass(ms(300));
    }
    bench.sent();
    bench.reply(&Reply::StreamOpened { nonce, stream: Id(5), registration: Id(1) });
    assert!(matches!(bench.commands()[..], [Sent::Other { what: "CloseStream", .. }]));
}

#[test]
fn flushing_ranges_waits_for_an_answer_that_comes_after_them() {
    let mut bench = Bench::up(settings());
    let inbox = bench.inbox(100);
    bench.deliver(1, 1..=50);
    bench.take(inbox);
    bench.session.acknowledge(inbox, Position(1));
    bench.sent();
    // One is on its way, so others would wait; but not if somebody waits for them.
    bench.session.acknowledge_one(inbox, Position(3));
    assert_eq!(bench.commands(), []);
    let token = bench.token();
    bench.session.flush(bench.now, inbox, token);
    let sent = bench.commands();
    let [Sent::Acknowledge { up_to: 1, ranges: 1, .. }, Sent::Other { nonce, what: "CloseStream" }] = sent[..] else {
        panic!("{sent:?}")
    };
    // On another connection all of it goes again, behind the attachment.
    bench.session.disconnected(bench.now, "gone");
    bench.connect();
    let sent = bench.commands();
    let [Sent::Attach { nonce: attach, .. }] = sent[..] else { panic!("{sent:?}") };
    bench.attached(attach, 2, 0);
    let sent = bench.commands();
    let again = Sent::Other { nonce, what: "CloseStream" };
    assert_eq!(sent, [Sent::Acknowledge { epoch: 2, up_to: 1, ranges: 1 }, again]);
    let answered = |bench: &mut Bench| bench.take_outputs().iter().any(|o| matches!(o, Output::Answered { .. }));
    bench.reply(&Reply::Acknowledged { registration: Id(2), epoch: Epoch(2), up_to: Position(1) });
    assert!(!answered(&mut bench), "that says nothing of the range");
    bench.reply(&Reply::StreamClosed { nonce });
    assert!(answered(&mut bench));
}

#[test]
fn a_flush_is_answered_by_the_attachment_that_follows_a_lost_answer() {
    let mut bench = Bench::up(settings());
    let inbox = bench.inbox(100);
    bench.deliver(1, 1..=3);
    bench.take(inbox);
    let flush = |bench: &mut Bench, position| {
        bench.session.acknowledge(inbox, Position(position));
        let token = bench.token();
        bench.session.flush(bench.now, inbox, token);
        bench.sent();
        token
    };
    let (first, second) = (flush(&mut bench, 2), flush(&mut bench, 3));
    bench.take_outputs();
    // The first one took effect, but the answer to it died with the connection.
    bench.session.disconnected(bench.now, "gone");
    bench.connect();
    let sent = bench.commands();
    let [Sent::Attach { nonce, .. }] = sent[..] else { panic!("{sent:?}") };
    bench.attached(nonce, 2, 2);
    let answered = |bench: &mut Bench| {
        let outputs = bench.take_outputs();
        let tokens = outputs.into_iter().filter_map(|output| match output {
            Output::Answered { token, result: Ok(Answer::Done) } => Some(token),
            _ => None,
        });
        tokens.collect::<Vec<_>>()
    };
    assert_eq!(answered(&mut bench), [first]);
    // It says again that somebody waits.
    assert_eq!(bench.commands(), [Sent::Acknowledge { epoch: 2, up_to: 3, ranges: 0 }, Sent::Hurry]);
    bench.reply(&Reply::Acknowledged { registration: Id(2), epoch: Epoch(2), up_to: Position(3) });
    assert_eq!(answered(&mut bench), [second]);
}

#[test]
fn starting_is_done_when_a_server_was_faster() {
    let mut bench = Bench::up(settings());
    let token = bench.token();
    bench.session.start(bench.now, token);
    let outputs = bench.take_outputs();
    assert!(outputs.iter().any(|o| matches!(o, Output::Answered { result: Ok(Answer::Started), .. })), "{outputs:?}");
}

fn post(bench: &mut Bench, stream: usize) -> (usize, Sending) {
    let (token, delivered) = (bench.token(), bench.token());
    let to = crate::client::Recipients::Everybody;
    let sending = bench.session.post(bench.now, stream, &to, &Message::from("x"), token, Some(delivered));
    bench.drain();
    (delivered, sending)
}

fn delivered(bench: &mut Bench, sequence: u64, number: u64) {
    let fate = crate::wire::sharing::Fate { acknowledged: number as u32, ..Default::default() };
    bench.reply(&Reply::Delivered { stream: Id(1), sequence, number: Number(number), fate });
}

/// Whose delivered receipt came, and how many acknowledged, or none if it does not come here.
fn fates(bench: &mut Bench) -> Vec<(usize, Option<u32>)> {
    let fate = |output| match output {
        Output::Delivered { token, result } => Some((token, result.ok().map(|fate| fate.acknowledged))),
        _ => None,
    };
    bench.take_outputs().into_iter().filter_map(fate).collect()
}

#[test]
fn delivered_receipts_come_once_and_what_was_missed_is_asked_for() {
    let mut bench = Bench::up(settings());
    let stream = bench.stream(1);
    let tokens: Vec<usize> = (0..3).map(|_| post(&mut bench, stream).0).collect();
    let posted = |number| Sent::Post { stream: 1, number, receipt: true };
    assert_eq!(bench.commands(), [posted(1), posted(2), posted(3)]);
    bench.receipts(1, 1..=3);
    delivered(&mut bench, 1, 2);
    delivered(&mut bench, 1, 2);
    assert_eq!(fates(&mut bench), [(tokens[1], Some(2))]);
    // The one between was missed: everything behind what came is told again.
    delivered(&mut bench, 3, 3);
    assert!(fates(&mut bench).is_empty());
    bench.pass(ms(0));
    assert!(bench.commands().contains(&Sent::Collect { stream: 1, up_to: 1 }));
    delivered(&mut bench, 2, 1);
    assert_eq!(fates(&mut bench), [(tokens[0], Some(1))]);
    // On the next connection nothing that came is asked for, and the rest is.
    bench.reconnect();
    bench.pass(ms(0));
    assert!(bench.commands().contains(&Sent::Collect { stream: 1, up_to: 2 }));
    delivered(&mut bench, 3, 3);
    assert_eq!(fates(&mut bench), [(tokens[2], Some(3))]);
    // It came, and the cluster need not keep it.
    bench.pass(settings().confirm_after);
    assert!(bench.commands().contains(&Sent::Collect { stream: 1, up_to: 3 }));
}

#[test]
fn who_waits_for_a_receipt_learns_that_it_does_not_come_here() {
    let mut bench = Bench::up(settings());
    let stream = bench.stream(1);
    let refused = post(&mut bench, stream).0;
    let late = post(&mut bench, stream).0;
    bench.commands();
    let outcomes =
        vec![SendOutcome::Refused(SendRefusal::NoRoomForReceipt), SendOutcome::Reached { inboxes: 2, full: 0 }];
    bench.reply(&Reply::Receipts { stream: Id(1), first: Number(1), outcomes });
    assert_eq!(fates(&mut bench), [(refused, None)]);
    // It is asked for now and then; of a stream that is closed none comes any more.
    bench.pass(Duration::from_secs(5));
    assert!(bench.commands().contains(&Sent::Collect { stream: 1, up_to: 0 }));
    failed(&mut bench, 1, 0, SendFailure::StreamClosed);
    assert_eq!(fates(&mut bench), [(late, None)]);
}

#[test]
fn what_has_expired_is_not_taken_and_takes_no_place_in_the_window() {
    let mut bench = Bench::up(settings());
    let inbox = bench.inbox(2);
    bench.deliver(1, [1, 2]);
    bench.reply(&Reply::Withdrawn { registration: Id(2), epoch: Epoch(1), position: Position(1) });
    bench.deliver(1, [3]);
    assert_eq!(bench.take(inbox), [2, 3]);
    assert!(bench.session.link.is_up(), "that was no more than its window");
}
