//! How fast the client's session takes sends, receipts and deliveries, on one core and without a connection.
//!
//! `cargo bench --bench session`. Every sample works through 1,024 messages of 256 bytes, 64 at a time, as a sender with
//! 64 sends on their way does.

// The session is private to the client: compiled here once more, as the fuzz target does.
#[path = "../fuzz/src/client.rs"]
mod client;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use divan::Bencher;
use divan::counter::ItemsCount;
// By these names the session's files know their own crate.
use restante::{limits, wire};

use crate::client::session::{Answer, Next, Output, Sending, Session};
use crate::client::{ClientSettings, Message};
use crate::wire::client::{Delivery, REPLY_KIND, Reply};
use crate::wire::command::{self, Command};
use crate::wire::frame::{self, Frame};
use crate::wire::{
    CLIENT_MAGIC, ClusterId, Epoch, Id, Name, Nonce, Number, Position, SendOutcome, ServerAddress, Time,
};

const MESSAGES: u64 = 1024;
const WINDOW: u64 = 64;
const NOW: Duration = Duration::ZERO;

fn main() {
    divan::main();
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// A session with a server that does as it is told.
struct Attached {
    session: Session,
    /// The stream, or the inbox.
    key: usize,
    done: u64,
}

/// The frame of a reply.
fn reply(reply: &Reply, contents: &[u8]) -> Frame {
    let mut buffer = BytesMut::new();
    frame::put(&mut buffer, REPLY_KIND, reply, contents);
    frame::split(&mut buffer, limits::CLIENT_FRAME_BYTES_MAX).expect("a frame").expect("a whole one")
}

/// What the session sends, and the nonce of the last command in it.
fn transmitted(session: &mut Session) -> Option<Nonce> {
    let mut out = BytesMut::new();
    session.transmit(NOW, &mut out);
    if out.starts_with(&CLIENT_MAGIC) {
        drop(out.split_to(CLIENT_MAGIC.len()));
    }
    let mut rest = out.freeze();
    let mut nonce = None;
    while let Some(frame) = frame::split_bytes(&mut rest).expect("good frames") {
        if frame.kind == command::KIND {
            nonce = Command::decode(&frame.payload).expect("a good command").0.nonce().or(nonce);
        }
    }
    nonce
}

/// Connects, asks for something, and has it answered.
fn attached(ask: impl FnOnce(&mut Session), answer: impl FnOnce(Nonce) -> Reply) -> Attached {
    let mut session = Session::new(ClientSettings::new(["a:1"]), [3; 32]);
    session.tick(NOW);
    session.connected(NOW);
    transmitted(&mut session);
    let servers = vec![ServerAddress { name: name("a"), address: "a:1".to_owned() }];
    session.received(NOW, &reply(&Reply::Welcome { cluster: Some(ClusterId(7)), server: name("a"), servers }, &[]));
    ask(&mut session);
    let nonce = transmitted(&mut session).expect("it asked");
    session.received(NOW, &reply(&answer(nonce), &[]));
    let key = std::iter::from_fn(|| session.poll_output()).find_map(|output| match output {
        Output::Answered { result: Ok(Answer::StreamOpened(key) | Answer::Listening(key)), .. } => Some(key),
        _ => None,
    });
    Attached { session, key: key.expect("it has what it asked for"), done: 0 }
}

#[divan::bench]
fn sends_and_receipts(bencher: Bencher<'_, '_>) {
    let opened = || {
        attached(
            |session| session.open_stream(NOW, &name("sender-1"), 1),
            |nonce| Reply::StreamOpened { nonce, stream: Id(1 << 16), registration: Id(2 << 16) },
        )
    };
    let (to, message) = (name("recipient-1"), Message::from("x".repeat(256)));
    bencher.counter(ItemsCount::new(MESSAGES)).with_inputs(opened).bench_values(|mut at| {
        let mut out = BytesMut::with_capacity(64 << 10);
        while at.done < MESSAGES {
            for token in 0..WINDOW as usize {
                let sent = at.session.send(NOW, at.key, &to, &message, token);
                assert!(matches!(sent, Sending::Sent(_)), "there is room");
            }
            out.clear();
            at.session.transmit(NOW, &mut out);
            let outcomes = (1..=WINDOW).map(|n| SendOutcome::Accepted(Position(at.done + n))).collect();
            let receipts = Reply::Receipts { stream: Id(1 << 16), first: Number(at.done + 1), outcomes };
            at.session.received(NOW, &reply(&receipts, &[]));
            let mut receipts = 0;
            while let Some(output) = at.session.poll_output() {
                receipts += u64::from(matches!(output, Output::Receipt { result: Ok(_), .. }));
            }
            assert_eq!(receipts, WINDOW);
            at.done += WINDOW;
        }
        at
    });
}

#[divan::bench]
fn deliveries_and_acknowledgements(bencher: Bencher<'_, '_>) {
    let (registration, epoch) = (Id(2 << 16), Epoch(1));
    let listening = || {
        attached(
            |session| session.attach(NOW, &name("recipient-1"), WINDOW as u32 * 2, 1),
            |nonce| Reply::Attached { nonce, registration, epoch, acknowledged: Position(0) },
        )
    };
    let mut content = BytesMut::new();
    for _ in 0..WINDOW {
        content.extend_from_slice(&command::encode_content(&Vec::new(), &[0; 256]));
    }
    let content = content.freeze();
    let frames: Vec<Frame> =
        (0..MESSAGES / WINDOW).map(|n| deliver(n * WINDOW, registration, epoch, &content)).collect();
    bencher.counter(ItemsCount::new(MESSAGES)).with_inputs(listening).bench_values(|mut at| {
        let mut out = BytesMut::with_capacity(4 << 10);
        for frame in &frames {
            at.session.received(NOW, frame);
            while at.session.poll_output().is_some() {}
            while let Next::Delivery(delivery) = at.session.next_delivery(at.key) {
                at.session.acknowledge(at.key, delivery.position);
                at.done += 1;
            }
            out.clear();
            at.session.transmit(NOW, &mut out);
        }
        assert_eq!(at.done, MESSAGES);
        at
    });
}

fn deliver(before: u64, registration: Id, epoch: Epoch, contents: &Bytes) -> Frame {
    let delivery = |n: u64| Delivery {
        position: Position(before + n),
        message: Id((before + n) << 16),
        from: name("sender-1"),
        stream: Id(1 << 16),
        number: Number(before + n),
        time: Time(0),
        redelivered: false,
        content_bytes: (contents.len() as u64 / WINDOW) as u32,
        channel: None,
        notice: None,
    };
    let deliveries = (1..=WINDOW).map(delivery).collect();
    reply(&Reply::Deliver { registration, epoch, deliveries }, contents)
}
