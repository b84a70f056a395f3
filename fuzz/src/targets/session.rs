//! The client's session against servers that answer anything at any time: it neither panics nor spins, whoever asks is
//! answered once, nobody gets a receipt that no server gave, sends leave in order, and an inbox hands nothing out twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use bytes::BytesMut;
use restante::limits;
use restante::wire::client::{REPLY_KIND, REQUEST_KIND, Reply, Request, SendFailure, StatusDetail};
use restante::wire::command::{self, Command};
use restante::wire::frame::{self, Frame};
use restante::wire::{CLIENT_MAGIC, ClusterId, Nonce, Position, SendOutcome};

use super::wild::{Wild, address, id, name};
use crate::client::session::{Answer, Next, Operation, Output, Sending, Session};
use crate::client::{ClientSettings, Message};

const STEPS_MAX: usize = 400;
const WINDOW: u32 = 3;

#[derive(Debug, Arbitrary)]
enum Step {
    Pass(u16),
    Connected,
    Disconnected,
    /// Connected, and welcome.
    Up,
    Transmit,
    Start,
    OpenStream {
        name: u8,
    },
    CloseStream(u8),
    Send {
        stream: u8,
        bytes: u8,
    },
    Attach {
        name: u8,
    },
    Detach(u8),
    Take(u8),
    Acknowledge(u8, u8),
    AcknowledgeOne(u8, u8),
    Flush(u8),
    Register {
        name: u8,
    },
    Deregister {
        name: u8,
        exactly: Option<u8>,
    },
    Who,
    Status,
    Operate(u8),
    Close,
    Reply(Wild),
    /// A reply whose every byte is the input's.
    Bytes(Vec<u8>),
    Frame {
        kind: u8,
        payload: Vec<u8>,
    },
}

/// The session, what surrounds it, and what an onlooker knows.
struct Run {
    session: Session,
    now: Duration,
    /// It asked for a connection, which is not there yet.
    wanted: bool,
    next_token: usize,
    /// Who waits for an answer or a receipt, and who has it.
    waiting: BTreeSet<usize>,
    streams: Vec<usize>,
    inboxes: Vec<usize>,
    nonces: Vec<Nonce>,
    /// Receipts that were given: number and position, of any stream.
    said: BTreeSet<(u64, u64)>,
    /// Numbers of a stream that had an answer of any kind, and need not be sent again.
    settled: BTreeSet<(u64, u64)>,
    /// The last number of each stream that was sent on this connection.
    last: BTreeMap<u64, u64>,
    /// What each inbox handed out last.
    taken: BTreeMap<usize, u64>,
    fresh: bool,
}

/// Takes `data` for what happens to a session.
pub fn session(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let mut settings = ClientSettings::new(["0:1", "1:1", "2:1"]);
    settings.stream_window = 5;
    settings.pending_bytes = 4000;
    let mut run = Run {
        session: Session::new(settings, [3; 32]),
        now: Duration::ZERO,
        wanted: false,
        next_token: 0,
        waiting: BTreeSet::new(),
        streams: Vec::new(),
        inboxes: Vec::new(),
        nonces: Vec::new(),
        said: BTreeSet::new(),
        settled: BTreeSet::new(),
        last: BTreeMap::new(),
        taken: BTreeMap::new(),
        fresh: false,
    };
    run.tick();
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let Ok(step) = input.arbitrary::<Step>() else { break };
        run.step(step);
        run.outputs();
    }
    run.session.close(run.now);
    for _ in 0..3 {
        run.now += Duration::from_secs(60);
        run.tick();
    }
    assert!(run.waiting.is_empty(), "{:?} wait for ever", run.waiting);
}

impl Run {
    fn token(&mut self) -> usize {
        self.next_token += 1;
        self.waiting.insert(self.next_token);
        self.next_token
    }

    /// Ticks until nothing is due.
    fn tick(&mut self) {
        for _ in 0..100 {
            self.session.tick(self.now);
            self.outputs();
            if self.session.next_tick().is_none_or(|next| next > self.now) {
                return;
            }
        }
        panic!("at {:?} it wants to be ticked at {:?} again and again", self.now, self.session.next_tick());
    }

    fn outputs(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Connect { .. } => self.wanted = true,
                Output::Disconnect => self.wanted = false,
                Output::Answered { token, result } => {
                    assert!(self.waiting.remove(&token), "answered twice, or nobody asked");
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
                    if let Some(token) = token {
                        assert!(self.waiting.remove(&token), "a receipt twice, or nobody sent that");
                    }
                    if let Ok(receipt) = result {
                        let said = self.said.contains(&(number.0, receipt.position.0));
                        assert!(said, "nobody said that {number} was accepted at {}", receipt.position);
                    }
                }
                Output::Delivered { token, .. } => {
                    assert!(self.waiting.remove(&token), "a delivered receipt twice, or nobody asked");
                }
                Output::Attached(_) | Output::Room(_) | Output::Arrived(_) | Output::Acknowledged { .. } => {}
                Output::Finish => {}
            }
        }
    }

    fn connect(&mut self) {
        if std::mem::take(&mut self.wanted) {
            self.session.connected(self.now);
            self.last.clear();
            self.fresh = true;
        }
    }

    fn step(&mut self, step: Step) {
        let now = self.now;
        let pick = |keys: &[usize], n: u8| keys.get(usize::from(n) % keys.len().max(1)).copied();
        match step {
            Step::Pass(millis) => {
                self.now += Duration::from_millis(u64::from(millis));
                self.tick();
            }
            Step::Connected => self.connect(),
            Step::Disconnected => {
                self.wanted = false;
                self.session.disconnected(now, "gone");
            }
            Step::Up => {
                // However long the pause is that it makes before it connects.
                if let Some(next) = self.session.next_tick().filter(|_| !self.wanted) {
                    self.now = self.now.max(next);
                    self.tick();
                }
                self.connect();
                self.transmit();
                let servers = vec![address(0), address(1), address(2)];
                self.reply(&Reply::Welcome { cluster: Some(ClusterId(7)), server: name(0), servers }, &[]);
            }
            Step::Transmit => self.transmit(),
            Step::Start => {
                let token = self.token();
                self.session.start(now, token);
            }
            Step::OpenStream { name: n } => {
                let token = self.token();
                self.session.open_stream(now, &name(n), token);
            }
            Step::CloseStream(n) => {
                if let Some(key) = pick(&self.streams, n) {
                    self.streams.retain(|known| *known != key);
                    let token = self.token();
                    self.session.close_stream(now, key, Some(token));
                }
            }
            Step::Send { stream, bytes } => {
                let Some(key) = pick(&self.streams, stream) else { return };
                let token = self.token();
                let message = Message::from("x".repeat(bytes.into()));
                match self.session.send(now, key, &name(bytes), &message, token) {
                    Sending::Sent(_) => {}
                    Sending::Full | Sending::Failed(_) => drop(self.waiting.remove(&token)),
                }
            }
            Step::Attach { name: n } => {
                let token = self.token();
                self.session.attach(now, &name(n), WINDOW, token);
            }
            Step::Detach(n) => {
                if let Some(key) = pick(&self.inboxes, n) {
                    self.inboxes.retain(|known| *known != key);
                    let token = self.token();
                    self.session.detach(key, Some(token));
                }
            }
            Step::Take(n) => {
                let Some(key) = pick(&self.inboxes, n) else { return };
                let mut taken = 0;
                while let Next::Delivery(delivery) = self.session.next_delivery(key) {
                    taken += 1;
                    let before = self.taken.insert(key, delivery.position.0);
                    assert!(before.is_none_or(|before| before < delivery.position.0), "handed out twice");
                }
                assert!(taken <= WINDOW, "{taken} are more than the window");
            }
            Step::Acknowledge(n, position) => {
                if let Some(key) = pick(&self.inboxes, n) {
                    self.session.acknowledge(key, Position(position.into()));
                }
            }
            Step::AcknowledgeOne(n, position) => {
                if let Some(key) = pick(&self.inboxes, n) {
                    self.session.acknowledge_one(key, Position(position.into()));
                }
            }
            Step::Flush(n) => {
                if let Some(key) = pick(&self.inboxes, n) {
                    let token = self.token();
                    self.session.flush(now, key, token);
                }
            }
            Step::Register { name: n } => {
                let token = self.token();
                self.session.register(now, &name(n), token);
            }
            Step::Deregister { name: n, exactly } => {
                let token = self.token();
                self.session.deregister(now, &name(n), exactly.map(id), token);
            }
            Step::Who => {
                let token = self.token();
                self.session.who(now, None, 10, token);
            }
            Step::Status => {
                let token = self.token();
                self.session.status(now, StatusDetail::default(), token);
            }
            Step::Operate(n) => {
                let token = self.token();
                let operation = match n % 3 {
                    0 => Operation::Add(address(n / 3)),
                    1 => Operation::Remove { server: name(n / 3), force: n > 99 },
                    _ => Operation::Transfer(name(n / 3)),
                };
                self.session.operate(now, operation, token);
            }
            Step::Close => self.session.close(now),
            Step::Reply(wild) => {
                let (reply, contents) = wild.reply(&self.nonces, &self.settled);
                self.reply(&reply, &contents);
            }
            Step::Bytes(payload) => self.frame(&Frame { kind: REPLY_KIND, payload: payload.into() }),
            Step::Frame { kind, payload } => self.frame(&Frame { kind, payload: payload.into() }),
        }
    }

    fn reply(&mut self, reply: &Reply, contents: &[u8]) {
        let mut buffer = BytesMut::new();
        frame::put(&mut buffer, REPLY_KIND, reply, contents);
        let frame = frame::split(&mut buffer, limits::CLIENT_FRAME_BYTES_MAX).expect("a frame").expect("a frame");
        self.frame(&frame);
    }

    fn frame(&mut self, frame: &Frame) {
        if let (REPLY_KIND, Ok((reply, _))) = (frame.kind, frame::take::<Reply>(&frame.payload)) {
            match reply {
                Reply::Receipts { stream, first, outcomes } => {
                    for (number, outcome) in (first.0..).zip(&outcomes) {
                        self.settled.insert((stream.0, number));
                        if let SendOutcome::Accepted(position) = outcome {
                            self.said.insert((number, position.0));
                        }
                    }
                }
                Reply::SendFailed {
                    stream,
                    number,
                    reason: SendFailure::OtherContent | SendFailure::AlreadyAnswered,
                } => drop(self.settled.insert((stream.0, number.0))),
                _ => {}
            }
        }
        self.session.received(self.now, frame);
    }

    /// Takes what the session sends, all of which must be well-formed.
    fn transmit(&mut self) {
        let mut out = BytesMut::new();
        loop {
            let before = out.len();
            let mut more = BytesMut::new();
            self.session.transmit(self.now, &mut more);
            out.extend_from_slice(&more);
            if out.len() == before {
                break;
            }
            assert!(out.len() < 1 << 20, "what it sends has no end");
        }
        if out.starts_with(&CLIENT_MAGIC) {
            assert!(std::mem::take(&mut self.fresh), "the greeting again");
            drop(out.split_to(CLIENT_MAGIC.len()));
        }
        while let Some(frame) = frame::split(&mut out, limits::CLIENT_FRAME_BYTES_MAX).expect("well-formed frames") {
            match frame.kind {
                command::KIND => self.sent(&frame),
                REQUEST_KIND => self.requested(frame::take::<Request>(&frame.payload).expect("a request").0),
                kind => panic!("it sent a frame of kind {kind}"),
            }
        }
        assert!(out.is_empty(), "half a frame");
    }

    fn sent(&mut self, frame: &Frame) {
        let (command, _) = restante::post_office::check_command(command::KIND, &frame.payload).expect("a good command");
        self.nonces.extend(command.nonce());
        match command {
            Command::Send { stream, number, .. } => {
                let last = self.last.insert(stream.0, number.0).unwrap_or(0);
                let missing = (last + 1..number.0).find(|between| !self.settled.contains(&(stream.0, *between)));
                assert_eq!(missing, None, "{number} of stream {stream} was sent before it");
            }
            Command::Enroll { .. }
            | Command::SetQuotas(_)
            | Command::Tick
            | Command::Vanished { .. }
            | Command::AddServer { .. }
            | Command::RemoveServer { .. }
            | Command::SetHome { .. }
            | Command::MoveClients { .. }
            | Command::AttachApart { .. }
            | Command::AcknowledgeApart { .. }
            | Command::SetDrained { .. } => panic!("no client sends {command:?}"),
            _ => {}
        }
    }

    fn requested(&mut self, request: Request) {
        match request {
            Request::Who { nonce, .. }
            | Request::Status { nonce, .. }
            | Request::AddServer { nonce, .. }
            | Request::RemoveServer { nonce, .. }
            | Request::TransferLeadership { nonce, .. }
            | Request::SetDrained { nonce, .. }
            | Request::Backup { nonce }
            | Request::Channels { nonce, .. }
            | Request::Members { nonce, .. }
            | Request::History { nonce, .. }
            | Request::Inbox { nonce, .. }
            | Request::Presence { nonce, .. }
            | Request::ReadBackup { nonce, .. } => self.nonces.push(nonce),
            Request::Hello { .. } | Request::Ping(_) | Request::Hurry | Request::Goodbye => {}
        }
    }
}
