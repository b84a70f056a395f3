//! The session against servers that answer anything at any time.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::wire::client::SendFailure;

#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Connect,
    Disconnect,
    OpenStream,
    CloseStream(usize),
    Send(usize),
    Attach,
    Detach(usize),
    Take(usize),
    Acknowledge(usize, u64),
    AcknowledgeOne(usize, u64),
    Flush(usize),
    Register,
    Close,
    Transmit,
    /// A reply; a nonce in it is the index of one that the session sent.
    Reply(Wild),
}

#[derive(Debug, Clone)]
enum Wild {
    Move,
    Refused(usize, Refusal),
    Opened(usize, u64),
    Closed(usize),
    Attached(usize, u64, u64),
    Receipts(u64, u64, Vec<SendOutcome>),
    Failed(u64, u64, SendFailure),
    Deliver(u64, Vec<u64>),
    Acknowledged(u64, u64),
    Fenced(u64, Option<u64>),
    Garbage(Vec<u8>),
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        Just(Refusal::NotRegistered),
        Just(Refusal::RegistrationEnded),
        Just(Refusal::NoLeader),
        Just(Refusal::DiskFull),
        (0u64..5).prop_map(|e| Refusal::EpochMoved { current: Epoch(e) }),
    ]
}

fn wild() -> impl Strategy<Value = Wild> {
    let outcome = prop_oneof![
        4 => (1u64..9).prop_map(|p| SendOutcome::Accepted(Position(p))),
        1 => Just(SendOutcome::Refused(SendRefusal::InboxFull)),
    ];
    let failure = prop_oneof![
        4 => (0u64..9).prop_map(|n| SendFailure::Gap { expected: Number(n) }),
        1 => Just(SendFailure::StreamClosed),
        1 => Just(SendFailure::OtherContent),
        1 => Just(SendFailure::AlreadyAnswered),
        1 => (0u32..5).prop_map(|window| SendFailure::WindowFull { window }),
        1 => refusal().prop_map(SendFailure::Unavailable),
    ];
    prop_oneof![
        1 => Just(Wild::Move),
        2 => (any::<usize>(), refusal()).prop_map(|(n, r)| Wild::Refused(n, r)),
        4 => (any::<usize>(), 1u64..4).prop_map(|(n, s)| Wild::Opened(n, s)),
        2 => any::<usize>().prop_map(Wild::Closed),
        4 => (any::<usize>(), 0u64..4, 0u64..6).prop_map(|(n, e, a)| Wild::Attached(n, e, a)),
        8 => (1u64..4, 0u64..8, prop::collection::vec(outcome, 0..4)).prop_map(|(s, f, o)| Wild::Receipts(s, f, o)),
        4 => (1u64..4, 0u64..9, failure).prop_map(|(s, n, f)| Wild::Failed(s, n, f)),
        6 => (0u64..4, prop::collection::vec(0u64..12, 0..5)).prop_map(|(e, mut p)| {
            p.sort_unstable();
            Wild::Deliver(e, p)
        }),
        3 => (0u64..4, 0u64..12).prop_map(|(e, p)| Wild::Acknowledged(e, p)),
        1 => (0u64..4, prop::option::of(0u64..4)).prop_map(|(e, b)| Wild::Fenced(e, b)),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(Wild::Garbage),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0u64..400).prop_map(Step::Pass),
        6 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        2 => Just(Step::OpenStream),
        1 => (0usize..3).prop_map(Step::CloseStream),
        10 => (0usize..3).prop_map(Step::Send),
        2 => Just(Step::Attach),
        1 => (0usize..3).prop_map(Step::Detach),
        3 => (0usize..3).prop_map(Step::Take),
        3 => (0usize..3, 0u64..12).prop_map(|(i, p)| Step::Acknowledge(i, p)),
        2 => (0usize..3, 0u64..12).prop_map(|(i, p)| Step::AcknowledgeOne(i, p)),
        1 => (0usize..3).prop_map(Step::Flush),
        1 => Just(Step::Register),
        1 => prop::bool::weighted(0.05).prop_map(|close| if close { Step::Close } else { Step::Transmit }),
        10 => Just(Step::Transmit),
        20 => wild().prop_map(Step::Reply),
    ]
}

/// What an onlooker knows.
#[derive(Default)]
struct Onlooker {
    /// Nonces that the session sent.
    nonces: Vec<Nonce>,
    /// Who waits for an answer or a receipt.
    waiting: BTreeSet<usize>,
    answered: BTreeSet<usize>,
    /// Receipts that were said: (stream, number, position).
    said: BTreeSet<(u64, u64, u64)>,
    /// Numbers of a stream that need not be sent (again): they had an answer of any kind.
    settled: BTreeSet<(u64, u64)>,
    /// The last number of each stream sent on this connection.
    last: BTreeMap<u64, u64>,
    taken: BTreeMap<usize, u64>,
    streams: Vec<usize>,
    inboxes: Vec<usize>,
}

impl Onlooker {
    fn outputs(&mut self, bench: &mut Bench) {
        for output in bench.take_outputs() {
            match output {
                Output::Answered { token, result } => {
                    assert!(self.waiting.contains(&token) && self.answered.insert(token), "answered twice");
                    match result {
                        Ok(Answer::StreamOpened(key)) => self.streams.push(key),
                        Ok(Answer::Listening(key)) => {
                            self.taken.remove(&key);
                            self.inboxes.push(key);
                        }
                        _ => {}
                    }
                }
                Output::Receipt { token, number, result } => {
                    let token = token.expect("no send has a timeout here");
                    assert!(self.waiting.contains(&token) && self.answered.insert(token), "a receipt twice");
                    if let Ok(receipt) = result {
                        let fits = |stream| self.said.contains(&(stream, number.0, receipt.position.0));
                        assert!((1..4).any(fits), "nobody said that {number} was accepted");
                    }
                }
                _ => {}
            }
        }
    }

    fn sent(&mut self, sent: Vec<Sent>) {
        for sent in sent {
            match sent {
                Sent::Other { nonce, .. } | Sent::Attach { nonce, .. } | Sent::Detach { nonce, .. } => {
                    self.nonces.push(nonce);
                }
                Sent::Send { stream, number, .. } => {
                    let last = self.last.insert(stream, number).unwrap_or(0);
                    for between in last + 1..number {
                        assert!(self.settled.contains(&(stream, between)), "{number} of {stream} before {between}");
                    }
                }
                _ => {}
            }
        }
    }

    fn nonce(&self, index: usize) -> Nonce {
        // Mostly late ones, which are the ones that wait.
        let back = index % 4;
        self.nonces.get(self.nonces.len().wrapping_sub(1 + back)).copied().unwrap_or(0)
    }

    fn reply(&mut self, bench: &mut Bench, wild: Wild) {
        let reply = match wild {
            Wild::Move => Reply::Move { reason: Refusal::Stopping },
            Wild::Refused(n, refusal) => Reply::Refused { nonce: Some(self.nonce(n)), refusal },
            Wild::Opened(n, stream) => {
                Reply::StreamOpened { nonce: self.nonce(n), stream: Id(stream), registration: Id(1) }
            }
            Wild::Closed(n) => Reply::StreamClosed { nonce: self.nonce(n) },
            Wild::Attached(n, epoch, acknowledged) => Reply::Attached {
                nonce: self.nonce(n),
                registration: Id(2),
                epoch: Epoch(epoch),
                acknowledged: Position(acknowledged),
            },
            Wild::Receipts(stream, first, outcomes) => {
                for (number, outcome) in (first..).zip(&outcomes) {
                    self.settled.insert((stream, number));
                    if let SendOutcome::Accepted(position) = outcome {
                        self.said.insert((stream, number, position.0));
                    }
                }
                Reply::Receipts { stream: Id(stream), first: Number(first), outcomes }
            }
            Wild::Failed(stream, number, reason) => {
                if matches!(reason, SendFailure::OtherContent | SendFailure::AlreadyAnswered) {
                    self.settled.insert((stream, number));
                }
                Reply::SendFailed { stream: Id(stream), number: Number(number), reason }
            }
            Wild::Deliver(epoch, positions) => return bench.deliver(epoch, positions),
            Wild::Acknowledged(epoch, up_to) => {
                Reply::Acknowledged { registration: Id(2), epoch: Epoch(epoch), up_to: Position(up_to) }
            }
            Wild::Fenced(epoch, by) => Reply::Fenced { registration: Id(2), epoch: Epoch(epoch), by: by.map(Epoch) },
            Wild::Garbage(payload) => {
                let frame = Frame { kind: REPLY_KIND, payload: payload.into() };
                return bench.session.received(bench.now, &frame);
            }
        };
        bench.reply(&reply);
    }

    fn step(&mut self, bench: &mut Bench, step: Step) {
        let pick = |keys: &[usize], n: usize| keys.get(n % keys.len().max(1)).copied();
        let now = bench.now;
        match step {
            Step::Pass(millis) => bench.pass(Duration::from_millis(millis)),
            Step::Connect => {
                if bench.session.ended.is_none() && !bench.session.link.is_up() {
                    self.outputs(bench);
                    bench.session.disconnected(now, "anew");
                    // A session that is closing may come to its end before.
                    bench.try_connect();
                    self.last.clear();
                }
            }
            Step::Disconnect => bench.session.disconnected(now, "gone"),
            Step::OpenStream => {
                let token = bench.token();
                self.waiting.insert(token);
                bench.session.open_stream(now, &name("alice"), token);
            }
            Step::CloseStream(n) => {
                if let Some(key) = pick(&self.streams, n) {
                    self.streams.retain(|k| *k != key);
                    let token = bench.token();
                    self.waiting.insert(token);
                    bench.session.close_stream(now, key, Some(token));
                }
            }
            Step::Send(n) => {
                if let Some(key) = pick(&self.streams, n)
                    && let Sending::Sent(_) = bench.send(key, "x")
                {
                    self.waiting.insert(bench.next_token);
                }
            }
            Step::Attach => {
                let token = bench.token();
                self.waiting.insert(token);
                bench.session.attach(now, &name("bob"), 3, token);
            }
            Step::Detach(n) => {
                if let Some(key) = pick(&self.inboxes, n) {
                    self.inboxes.retain(|k| *k != key);
                    let token = bench.token();
                    self.waiting.insert(token);
                    bench.session.detach(key, Some(token));
                }
            }
            Step::Take(n) => {
                if let Some(key) = pick(&self.inboxes, n) {
                    let taken = bench.take(key);
                    assert!(taken.len() <= 3, "more than the window");
                    for position in taken {
                        let before = self.taken.insert(key, position);
                        assert!(before.is_none_or(|before| before < position), "delivered twice");
                    }
                }
            }
            Step::Acknowledge(n, p) => {
                if let Some(key) = pick(&self.inboxes, n) {
                    bench.session.acknowledge(key, Position(p));
                }
            }
            Step::AcknowledgeOne(n, p) => {
                if let Some(key) = pick(&self.inboxes, n) {
                    bench.session.acknowledge_one(key, Position(p));
                }
            }
            Step::Flush(n) => {
                if let Some(key) = pick(&self.inboxes, n) {
                    let token = bench.token();
                    self.waiting.insert(token);
                    bench.session.flush(now, key, token);
                }
            }
            Step::Register => {
                let token = bench.token();
                self.waiting.insert(token);
                bench.session.register(now, &name("x"), token);
            }
            Step::Close => bench.session.close(now),
            Step::Transmit => {
                let sent = bench.sent();
                self.sent(sent);
            }
            Step::Reply(wild) => self.reply(bench, wild),
        }
        self.outputs(bench);
        assert!(bench.session.control.len() < 64 << 10, "what waits to be sent is bounded");
        assert!(bench.session.pending_bytes() < 64 << 10);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn it_keeps_its_promises(steps in prop::collection::vec(step(), 1..150)) {
        let mut small = settings();
        small.stream_window = 5;
        let (mut bench, mut onlooker) = (Bench::up(small), Onlooker::default());
        for step in steps {
            onlooker.step(&mut bench, step);
        }
        // Whatever happened, whoever waits is answered in the end.
        bench.session.close(bench.now);
        bench.pass(Duration::from_secs(60));
        bench.pass(Duration::from_secs(60));
        onlooker.outputs(&mut bench);
        prop_assert_eq!(&onlooker.waiting, &onlooker.answered);
        prop_assert_eq!(bench.session.pending_bytes(), 0);
    }
}
