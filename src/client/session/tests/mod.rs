//! The session's rules, one by one, and against arbitrary servers.

mod arbitrary;
mod rules;

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::client::{ClientSettings, Message};
use crate::limits;
use crate::wire::client::{REQUEST_KIND, Request};
use crate::wire::command::{self, Command};
use crate::wire::*;

/// A session with a hand that plays the server.
struct Bench {
    session: Session,
    now: Duration,
    outputs: Vec<Output>,
    next_token: usize,
}

/// What the session sent, apart from Hello and pings.
#[derive(Debug, Clone, PartialEq)]
enum Sent {
    Send { stream: u64, number: u64, confirmed: u64, to: String, content: Bytes },
    Acknowledge { epoch: u64, up_to: u64, ranges: usize },
    Confirm { stream: u64, confirmed: u64 },
    Post { stream: u64, number: u64, receipt: bool },
    Collect { stream: u64, up_to: u64 },
    Attach { nonce: Nonce, expected: u64, resumes: Option<RegistrationId> },
    Detach { nonce: Nonce, epoch: u64, delivered: Option<u64> },
    Other { nonce: Nonce, what: &'static str },
    Hello(Option<ClusterId>),
    Ping,
    Hurry,
    Goodbye,
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn address(text: &str) -> ServerAddress {
    ServerAddress { name: name(text), address: format!("{text}:1") }
}

fn settings() -> ClientSettings {
    ClientSettings::new(["a:1", "b:1", "c:1"])
}

impl Bench {
    fn new(settings: ClientSettings) -> Self {
        Self { session: Session::new(settings, [3; 32]), now: Duration::ZERO, outputs: Vec::new(), next_token: 0 }
    }

    /// Attached to the first server.
    fn up(settings: ClientSettings) -> Self {
        let mut bench = Self::new(settings);
        bench.connect();
        bench
    }

    fn token(&mut self) -> usize {
        self.next_token += 1;
        self.next_token
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            self.outputs.push(output);
        }
    }

    fn take_outputs(&mut self) -> Vec<Output> {
        self.drain();
        std::mem::take(&mut self.outputs)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.tick(self.now);
        self.drain();
    }

    /// Ticks until the session wants a connection; returns where to.
    fn wanted(&mut self) -> String {
        self.try_wanted().expect("it wants to connect")
    }

    /// The same, unless the session ends meanwhile.
    fn try_wanted(&mut self) -> Option<String> {
        loop {
            self.drain();
            if let Some(at) = self.outputs.iter().rposition(|o| matches!(o, Output::Connect { .. })) {
                let Output::Connect { address } = self.outputs.remove(at) else { unreachable!() };
                return Some(address);
            }
            let next = self.session.next_tick()?;
            self.pass(next.saturating_sub(self.now));
        }
    }

    /// Connects to whichever server is wanted, which says Welcome.
    fn connect(&mut self) -> String {
        self.try_connect().expect("it wants to connect")
    }

    fn try_connect(&mut self) -> Option<String> {
        let wanted = self.try_wanted()?;
        self.session.connected(self.now);
        let server = name(wanted.split(':').next().unwrap());
        let servers = vec![address("a"), address("b"), address("c")];
        self.reply(&Reply::Welcome { cluster: Some(ClusterId(7)), server, servers });
        Some(wanted)
    }

    fn reconnect(&mut self) {
        self.session.disconnected(self.now, "gone");
        self.connect();
        self.sent();
    }

    fn reply(&mut self, reply: &Reply) {
        self.reply_with(reply, &[]);
    }

    fn reply_with(&mut self, reply: &Reply, body: &[u8]) {
        let mut buffer = BytesMut::new();
        frame::put(&mut buffer, REPLY_KIND, reply, body);
        let frame = frame::split(&mut buffer, limits::CLIENT_FRAME_BYTES_MAX).unwrap().unwrap();
        self.session.received(self.now, &frame);
        self.drain();
    }

    /// What the session sends now.
    fn sent(&mut self) -> Vec<Sent> {
        let mut out = BytesMut::new();
        loop {
            let before = out.len();
            // The session gives a bound at a time.
            let mut more = BytesMut::new();
            self.session.transmit(self.now, &mut more);
            out.extend_from_slice(&more);
            if out.len() == before {
                break;
            }
        }
        if out.starts_with(&CLIENT_MAGIC) {
            drop(out.split_to(4));
        }
        let mut sent = Vec::new();
        while let Some(frame) = frame::split(&mut out, limits::CLIENT_FRAME_BYTES_MAX).unwrap() {
            sent.push(read(&frame));
        }
        assert!(out.is_empty());
        sent
    }

    fn commands(&mut self) -> Vec<Sent> {
        self.sent().into_iter().filter(|sent| !matches!(sent, Sent::Hello(_) | Sent::Ping)).collect()
    }

    /// A stream with that id.
    fn stream(&mut self, id: u64) -> usize {
        let token = self.token();
        self.session.open_stream(self.now, &name("alice"), token);
        let sent = self.commands();
        let [Sent::Other { nonce, what: "OpenStream" }] = sent[..] else { panic!("{sent:?}") };
        self.reply(&Reply::StreamOpened { nonce, stream: Id(id), registration: Id(1) });
        match self.take_outputs().pop() {
            Some(Output::Answered { result: Ok(Answer::StreamOpened(key)), .. }) => key,
            other => panic!("{other:?}"),
        }
    }

    fn send(&mut self, stream: usize, body: &str) -> Sending {
        let token = self.token();
        self.session.send(self.now, stream, &name("bob"), &Message::from(body), token)
    }

    fn receipts(&mut self, stream: u64, numbers: std::ops::RangeInclusive<u64>) {
        let outcomes = numbers.clone().map(|n| SendOutcome::Accepted(Position(100 + n))).collect();
        self.reply(&Reply::Receipts { stream: Id(stream), first: Number(*numbers.start()), outcomes });
    }

    /// Numbers that were given a receipt, and those that were given none.
    fn results(&mut self) -> Vec<(u64, Result<u64, SendError>)> {
        let receipts = self.take_outputs().into_iter().filter_map(|output| match output {
            Output::Receipt { number, result, .. } => Some((number.0, result.map(|receipt| receipt.position.0))),
            _ => None,
        });
        receipts.collect()
    }

    /// A reader at epoch 1.
    fn inbox(&mut self, window: u32) -> usize {
        let token = self.token();
        self.session.attach(self.now, &name("bob"), window, token);
        let sent = self.commands();
        let [Sent::Attach { nonce, expected: 0, resumes: None }] = sent[..] else { panic!("{sent:?}") };
        self.attached(nonce, 1, 0);
        match self.take_outputs().pop() {
            Some(Output::Answered { result: Ok(Answer::Listening(key)), .. }) => key,
            other => panic!("{other:?}"),
        }
    }

    fn attached(&mut self, nonce: Nonce, epoch: u64, acknowledged: u64) {
        let (registration, epoch, acknowledged) = (Id(2), Epoch(epoch), Position(acknowledged));
        self.reply(&Reply::Attached { nonce, registration, epoch, acknowledged });
    }

    fn deliver(&mut self, epoch: u64, positions: impl IntoIterator<Item = u64>) {
        let deliveries: Vec<_> = positions.into_iter().map(|position| delivery(position, 2)).collect();
        let body = b"\0x".repeat(deliveries.len());
        self.reply_with(&Reply::Deliver { registration: Id(2), epoch: Epoch(epoch), deliveries }, &body);
    }

    /// Takes everything that an inbox has.
    fn take(&mut self, inbox: usize) -> Vec<u64> {
        let mut taken = Vec::new();
        while let Next::Delivery(delivery) = self.session.next_delivery(inbox) {
            taken.push(delivery.position.0);
        }
        taken
    }
}

fn delivery(position: u64, content_bytes: u32) -> client::Delivery {
    client::Delivery {
        position: Position(position),
        message: Id(position),
        from: name("alice"),
        stream: Id(1),
        number: Number(position),
        time: Time(0),
        redelivered: false,
        content_bytes,
        channel: None,
        notice: None,
    }
}

fn read(frame: &Frame) -> Sent {
    match frame.kind {
        command::KIND => {
            let (command, content) = Command::decode(&frame.payload).unwrap();
            match command {
                Command::Send { stream, number, confirmed, to } => Sent::Send {
                    stream: stream.0,
                    number: number.0,
                    confirmed: confirmed.0,
                    to: to.to_owned(),
                    content,
                },
                Command::Acknowledge { epoch, up_to, ranges, .. } => {
                    assert!(ranges.len() <= limits::ACKNOWLEDGE_RANGES_MAX);
                    Sent::Acknowledge { epoch: epoch.0, up_to: up_to.0, ranges: ranges.len() }
                }
                Command::Confirm { stream, confirmed } => Sent::Confirm { stream: stream.0, confirmed: confirmed.0 },
                Command::Attach { nonce, expected, resumes, .. } => {
                    Sent::Attach { nonce, expected: expected.0, resumes }
                }
                Command::Detach { nonce, epoch, delivered, .. } => {
                    Sent::Detach { nonce, epoch: epoch.0, delivered: delivered.map(|p| p.0) }
                }
                Command::Post { stream, number, terms, .. } => {
                    Sent::Post { stream: stream.0, number: number.0, receipt: terms.receipt }
                }
                Command::CollectReceipts { stream, up_to } => Sent::Collect { stream: stream.0, up_to },
                Command::CreateChannel { nonce, .. } => Sent::Other { nonce, what: "CreateChannel" },
                Command::DeleteChannel { nonce, .. } => Sent::Other { nonce, what: "DeleteChannel" },
                Command::Enlist { nonce, .. } => Sent::Other { nonce, what: "Enlist" },
                Command::Register { nonce, .. } => Sent::Other { nonce, what: "Register" },
                Command::Deregister { nonce, .. } => Sent::Other { nonce, what: "Deregister" },
                Command::OpenStream { nonce, .. } => Sent::Other { nonce, what: "OpenStream" },
                Command::CloseStream { nonce, .. } => Sent::Other { nonce, what: "CloseStream" },
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
                | Command::SetDrained { .. } => {
                    panic!("no client sends {command:?}")
                }
            }
        }
        REQUEST_KIND => match frame::take::<Request>(&frame.payload).unwrap().0 {
            Request::Hello { cluster, .. } => Sent::Hello(cluster),
            Request::Ping(_) => Sent::Ping,
            Request::Who { nonce, .. } => Sent::Other { nonce, what: "Who" },
            Request::Status { nonce, .. } => Sent::Other { nonce, what: "Status" },
            Request::AddServer { nonce, .. } => Sent::Other { nonce, what: "AddServer" },
            Request::RemoveServer { nonce, .. } => Sent::Other { nonce, what: "RemoveServer" },
            Request::TransferLeadership { nonce, .. } => Sent::Other { nonce, what: "TransferLeadership" },
            Request::Backup { nonce } => Sent::Other { nonce, what: "Backup" },
            Request::ReadBackup { nonce, .. } => Sent::Other { nonce, what: "ReadBackup" },
            Request::SetDrained { nonce, .. } => Sent::Other { nonce, what: "SetDrained" },
            Request::Hurry => Sent::Hurry,
            Request::Channels { nonce, .. } => Sent::Other { nonce, what: "Channels" },
            Request::Members { nonce, .. } => Sent::Other { nonce, what: "Members" },
            Request::History { nonce, .. } => Sent::Other { nonce, what: "History" },
            Request::Inbox { nonce, .. } => Sent::Other { nonce, what: "Inbox" },
            Request::Presence { nonce, .. } => Sent::Other { nonce, what: "Presence" },
            Request::Goodbye => Sent::Goodbye,
        },
        kind => panic!("a frame of kind {kind}"),
    }
}

/// The numbers of the sends in there.
fn numbers(sent: &[Sent]) -> Vec<u64> {
    let number = |sent: &Sent| if let Sent::Send { number, .. } = sent { Some(*number) } else { None };
    sent.iter().filter_map(number).collect()
}
