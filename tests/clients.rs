//! Clients that misbehave, vanish, are slow or ask for too much, against real servers on real ports.
#![expect(clippy::disallowed_methods, reason = "tests watch real processes from outside, on real time")]

mod support;

use std::time::{Duration, Instant};

use bytes::BytesMut;
use restante::client::{Client, Delivery, Error, SendError};
use restante::limits;
use restante::wire::client::{REQUEST_KIND, Reply, Request, SendFailure};
use restante::wire::command::{self, Command, Headers};
use restante::wire::{
    CLIENT_MAGIC, CLIENT_VERSION, ClusterId, Epoch, Number, PEER_MAGIC, Position, Refusal, SendOutcome, SendRefusal,
    StreamId, frame,
};
use support::mail::{alone, registered, take};
use support::raw::Raw;
use support::traffic::{client, name, within};
use support::{Cluster, wait_for};

fn positions(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| delivery.position.0).collect()
}

fn marks(deliveries: &[Delivery]) -> Vec<bool> {
    deliveries.iter().map(|delivery| delivery.redelivered).collect()
}

async fn waiting(client: &Client, whose: &str) -> u64 {
    let rows = client.who().await.expect("the server answers");
    rows.iter().find(|row| &*row.name == whose).expect("it is registered").waiting
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_to_an_unknown_recipient_is_refused_for_good_and_the_stream_goes_on() {
    let cluster = Cluster::start(3);
    let client = registered(&cluster, &["alice", "bob"]).await;
    let stream = client.open_stream(&name("alice")).await.unwrap();
    let refused = stream.send(&name("nobody"), "x").await.unwrap();
    let accepted = stream.send(&name("bob"), "y").await.unwrap();
    assert_eq!(refused.await, Err(SendError::Refused(SendRefusal::NoSuchClient)));
    assert_eq!(accepted.await.unwrap().position, Position(1));
    // The number is used up with that outcome, whoever registers later.
    let mut raw = Raw::welcome(&cluster.address(0));
    let stream = raw.open_stream("alice");
    let outcome = |raw: &mut Raw| {
        raw.until("an outcome", |reply, _| match reply {
            Reply::Receipts { first: Number(1), outcomes, .. } => Some(outcomes[0]),
            _ => None,
        })
    };
    raw.send(stream, 1, "carol", b"hello");
    assert_eq!(outcome(&mut raw), SendOutcome::Refused(SendRefusal::NoSuchClient));
    client.register(&name("carol")).await.unwrap();
    raw.send(stream, 1, "carol", b"hello");
    assert_eq!(outcome(&mut raw), SendOutcome::Refused(SendRefusal::NoSuchClient));
    raw.send(stream, 2, "carol", b"hello");
    raw.until("a receipt", |reply, _| match reply {
        Reply::Receipts { first: Number(2), outcomes, .. } => {
            assert_eq!(outcomes[..], [SendOutcome::Accepted(Position(1))]);
            Some(())
        }
        _ => None,
    });
}

/// What the server says before it closes the connection: its refusal of all of it, if any.
fn refusal(raw: &mut Raw) -> Option<Refusal> {
    let mut refusal = None;
    while let Some((reply, _)) = raw.reply() {
        match reply {
            Reply::Refused { nonce: None, refusal: why } => refusal = Some(why),
            other => panic!("{other:?}"),
        }
    }
    refusal
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_frames_are_refused_and_everybody_else_is_served() {
    let cluster = alone(&[]);
    let address = cluster.address(0);
    let healthy = registered(&cluster, &["alice", "bob"]).await;
    let stream = healthy.open_stream(&name("alice")).await.unwrap();

    let length = |bytes: u32| bytes.to_le_bytes().to_vec();
    let command = |command: &Command<'_>, content: &[u8]| {
        let mut bytes = BytesMut::new();
        frame::put(&mut bytes, command::KIND, command, content);
        bytes.to_vec()
    };
    let send = Command::Send { stream: StreamId::default(), number: Number(1), confirmed: Number(0), to: "bob" };
    let long = command::encode_content(&Headers::new(), &vec![0; limits::BODY_BYTES_MAX + 1]);
    let bad_name = Command::OpenStream { nonce: 1, name: "no such/name" };
    let mut request = BytesMut::new();
    let hello = Request::Hello { version: CLIENT_VERSION, cluster: None, agent: String::new() };
    frame::put(&mut request, REQUEST_KIND, &hello, &[]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("an empty frame", length(0)),
        ("a frame of 4 GiB", length(u32::MAX)),
        ("a frame one byte too long", length(limits::CLIENT_FRAME_BYTES_MAX as u32 + 1)),
        ("an unknown kind", [length(1), vec![99]].concat()),
        ("a command that is noise", [length(5), vec![command::KIND, 0xff, 0xff, 0xff, 0xff]].concat()),
        ("a request that is noise", [length(3), vec![REQUEST_KIND, 0xff, 0xff]].concat()),
        ("a second hello", request.to_vec()),
        ("a body that is too long", command(&send, &long)),
        ("a content without headers", command(&send, &[])),
        ("a bad name", command(&bad_name, &[])),
        ("bytes behind a command", command(&Command::CloseStream { nonce: 1, stream: StreamId::default() }, b"x")),
        ("a command of servers only", command(&Command::Tick, &[])),
        ("an enrolment", command(&Command::Enroll { server: "a", address: "x:1", disk: 1 }, &[])),
    ];
    for (what, bytes) in cases {
        let mut raw = Raw::welcome(&address);
        raw.write(&bytes);
        let refusal = refusal(&mut raw);
        assert!(matches!(refusal, Some(Refusal::Malformed(_))), "{what}: {refusal:?}");
        assert!(stream.send(&name("bob"), what).await.unwrap().await.is_ok(), "after {what}");
    }
    // A frame that is cut off by the end of the connection concerns nobody.
    for cut in [1, 4, 5, 20] {
        let mut raw = Raw::welcome(&address);
        raw.write(&command(&bad_name, &[0; 100])[..cut]);
        raw.half_close();
        assert_eq!(refusal(&mut raw), None);
        assert!(stream.send(&name("bob"), "cut").await.unwrap().await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_begin_wrongly_are_refused_or_closed() {
    let cluster = alone(&[]);
    let address = cluster.address(0);
    for garbage in [&[0; 64][..], b"\x16\x03\x01\x00", b"RST\x01", b"R", b""] {
        let mut raw = Raw::silent(&address);
        raw.write(garbage);
        raw.half_close();
        assert_eq!(raw.reply(), None, "{garbage:?}");
    }
    // Noise for the servers' protocol, and a frame of it that is announced as larger than any.
    for noise in [&[5, 0, 0, 0, 1, 2, 3, 4, 5][..], &[0xff; 12]] {
        let mut raw = Raw::silent(&address);
        raw.write(&[&PEER_MAGIC, noise].concat());
        raw.half_close();
        assert_eq!(raw.reply(), None);
    }
    let greeted = |request: Option<&Request>, bytes: &[u8]| {
        let mut raw = Raw::silent(&address);
        raw.write(&CLIENT_MAGIC);
        request.into_iter().for_each(|request| raw.request(request));
        raw.write(bytes);
        raw.half_close();
        refusal(&mut raw)
    };
    let hello = |version, cluster| Request::Hello { version, cluster, agent: "test".to_owned() };
    assert_eq!(greeted(Some(&hello(99, None)), &[]), Some(Refusal::Version { speaks: CLIENT_VERSION, asked: 99 }));
    let other = ClusterId(7);
    let refused = greeted(Some(&hello(CLIENT_VERSION, Some(other))), &[]);
    assert!(matches!(refused, Some(Refusal::WrongCluster { expected, .. }) if expected == other), "{refused:?}");
    assert!(matches!(greeted(Some(&Request::Ping(1)), &[]), Some(Refusal::Malformed(_))));
    assert!(matches!(greeted(None, &[1, 0, 0, 0, 9]), Some(Refusal::Malformed(_))));
    Raw::welcome(&address);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_fenced_learns_so_and_its_acknowledgements_count_for_nothing() {
    let cluster = Cluster::start(3);
    let sender = registered(&cluster, &["alice", "bob"]).await;
    let stream = sender.open_stream(&name("alice")).await.unwrap();
    for n in 0..5 {
        stream.send(&name("bob"), format!("{n}")).await.unwrap().await.unwrap();
    }
    // Two processes at two servers.
    let old = client(&cluster.addresses(), Some(name("a"))).await;
    let new = client(&cluster.addresses(), Some(name("b"))).await;
    let mut fenced = old.listen(&name("bob"), 4).await.unwrap();
    let taken = take(&mut fenced, 4).await;
    assert_eq!(marks(&taken), [false; 4]);
    fenced.acknowledge(Position(1));
    fenced.flush().await.unwrap();
    let mut inbox = new.listen(&name("bob"), 100).await.unwrap();
    fenced.acknowledge(Position(4));
    let mut end = within("the end of the old reader", fenced.next()).await;
    while let Some(Ok(_)) = end {
        // The fifth fitted into its window when the first was acknowledged.
        end = within("the end of the old reader", fenced.next()).await;
    }
    let Some(Err(Error::Fenced { by, .. })) = end else { panic!("{end:?}") };
    assert_eq!(by, Some(Epoch(2)));
    assert!(within("its end", fenced.next()).await.is_none());
    let taken = take(&mut inbox, 4).await;
    assert_eq!(positions(&taken), [2, 3, 4, 5]);
    // The old one's window was four wide: it may have seen the fifth.
    assert_eq!(marks(&taken), [true; 4]);
    stream.send(&name("bob"), "new").await.unwrap().await.unwrap();
    assert_eq!(marks(&take(&mut inbox, 1).await), [false]);
    assert_eq!(waiting(&sender, "bob").await, 5);

    // The same frame by frame: an acknowledgement of the old epoch that comes late.
    let mut raw = Raw::welcome(&cluster.address(0));
    let (registration, epoch, acknowledged) = raw.attach("bob", "a", Epoch(2), 10);
    assert_eq!((epoch, acknowledged), (Epoch(3), Position(1)));
    let late = Command::Acknowledge { registration, epoch: Epoch(2), up_to: Position(6), ranges: Vec::new() };
    raw.command(&late, &[]);
    // What is applied behind it shows that it was applied.
    raw.open_stream("alice");
    assert_eq!(waiting(&sender, "bob").await, 5);
    let good = Command::Acknowledge { registration, epoch, up_to: Position(6), ranges: Vec::new() };
    raw.command(&good, &[]);
    raw.open_stream("alice");
    assert_eq!(waiting(&sender, "bob").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_a_repeat_and_a_repeat_with_another_content() {
    let cluster = alone(&[]);
    let observer = registered(&cluster, &["alice", "bob"]).await;
    let mut raw = Raw::welcome(&cluster.address(0));
    let stream = raw.open_stream("alice");
    let mut asked = 0;
    let mut answer = |raw: &mut Raw| {
        asked += 1;
        raw.until(&format!("answer {asked}"), |reply, _| match reply {
            Reply::Receipts { first, outcomes, .. } => Some(Ok((first.0, outcomes.clone()))),
            Reply::SendFailed { number, reason, .. } => Some(Err((number.0, reason.clone()))),
            _ => None,
        })
    };
    let accepted = |number, position| Ok((number, vec![SendOutcome::Accepted(Position(position))]));
    raw.send(stream, 2, "bob", b"two");
    assert_eq!(answer(&mut raw), Err((2, SendFailure::Gap { expected: Number(1) })));
    raw.send(stream, 1, "bob", b"one");
    assert_eq!(answer(&mut raw), accepted(1, 1));
    raw.send(stream, 2, "bob", b"two");
    assert_eq!(answer(&mut raw), accepted(2, 2));
    // Asked again, also over another connection: the same answers, and nothing more in the inbox.
    raw.send(stream, 1, "bob", b"one");
    assert_eq!(answer(&mut raw), accepted(1, 1));
    let mut raw = Raw::welcome(&cluster.address(0));
    raw.send(stream, 2, "bob", b"two");
    assert_eq!(answer(&mut raw), accepted(2, 2));
    assert_eq!(waiting(&observer, "bob").await, 2);
    // Another body, and another recipient: neither is taken for new, nor for the old one.
    raw.send(stream, 1, "bob", b"eins");
    assert_eq!(answer(&mut raw), Err((1, SendFailure::OtherContent)));
    raw.send(stream, 1, "alice", b"one");
    assert_eq!(answer(&mut raw), Err((1, SendFailure::OtherContent)));
    raw.send(stream, 0, "bob", b"none");
    assert!(answer(&mut raw).is_err(), "there is no number 0");
    raw.command(&Command::Confirm { stream, confirmed: Number(1) }, &[]);
    raw.send(stream, 1, "bob", b"one");
    assert_eq!(answer(&mut raw), Err((1, SendFailure::AlreadyAnswered)));
    let nonce = raw.nonce();
    raw.command(&Command::CloseStream { nonce, stream }, &[]);
    raw.send(stream, 3, "bob", b"three");
    assert_eq!(answer(&mut raw), Err((3, SendFailure::StreamClosed)));
    assert_eq!(waiting(&observer, "bob").await, 2);
    assert_eq!(waiting(&observer, "alice").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_is_shown_as_offline_and_the_next_one_reads_on() {
    let cluster = Cluster::start(3);
    let sender = registered(&cluster, &["alice", "bob"]).await;
    let stream = sender.open_stream(&name("alice")).await.unwrap();
    for n in 0..5 {
        stream.send(&name("bob"), format!("{n}")).await.unwrap().await.unwrap();
    }
    let mut raw = Raw::welcome(&cluster.address(1));
    let (registration, epoch, _) = raw.attach("bob", "b", Epoch(0), 2);
    let mut seen = 0;
    while seen < 2 {
        seen += raw.until("deliveries", |reply, _| match reply {
            Reply::Deliver { deliveries, .. } => Some(deliveries.len()),
            _ => None,
        });
    }
    raw.command(&Command::Acknowledge { registration, epoch, up_to: Position(1), ranges: Vec::new() }, &[]);
    raw.until("the acknowledgement", |reply, _| matches!(reply, Reply::Acknowledged { .. }).then_some(()));
    let online = async || {
        let rows = sender.who().await.unwrap();
        let row = rows.into_iter().find(|row| &*row.name == "bob").unwrap();
        (row.online, row.home.to_string(), row.waiting)
    };
    assert_eq!(online().await, (true, "b".to_owned(), 4));
    drop(raw);
    let deadline = Instant::now() + support::PATIENCE;
    while online().await.0 {
        assert!(Instant::now() < deadline, "it stays online for ever");
    }
    assert_eq!(online().await, (false, "b".to_owned(), 4));
    let mut inbox = sender.listen(&name("bob"), 100).await.unwrap();
    let taken = take(&mut inbox, 4).await;
    assert_eq!(positions(&taken), [2, 3, 4, 5]);
    // Its window of two held 2 and 3 when it vanished.
    assert_eq!(marks(&taken), [true, true, false, false]);
    assert!(online().await.0);
}

/// Memory that a process has in use, in bytes.
fn memory(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") << 10
}

/// Sends messages of so many bytes; returns when all are accepted. Each body is made of its number.
async fn fill(client: &Client, from: &str, to: &str, messages: u64, bytes: usize) {
    let stream = client.open_stream(&name(from)).await.unwrap();
    let mut pending = Vec::new();
    for number in 1..=messages {
        pending.push(stream.send(&name(to), body(number, bytes)).await.unwrap());
    }
    for receipt in pending {
        within("a receipt", receipt).await.unwrap();
    }
    stream.close().await.unwrap();
}

fn body(number: u64, bytes: usize) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(bytes).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_no_more_than_its_window_and_slows_nobody_down() {
    const MESSAGES: u64 = 1000;
    const BYTES: usize = 48 << 10;
    let cluster = alone(&[]);
    let sender = registered(&cluster, &["alice", "slow", "fast"]).await;
    fill(&sender, "alice", "slow", MESSAGES, BYTES).await;

    // One that reads, but acknowledges nothing: its window, and not one more.
    let mut raw = Raw::welcome(&cluster.address(0));
    let (_, epoch, _) = raw.attach("slow", "a", Epoch(0), 16);
    let mut got = 0;
    let mut counted = |raw: &mut Raw, until: u64| {
        raw.request(&Request::Ping(until));
        raw.until("a pong", |reply, _| match reply {
            Reply::Deliver { deliveries, .. } => {
                got += deliveries.len();
                None
            }
            Reply::Pong(number) if *number == until => Some(got),
            _ => None,
        })
    };
    // What is put into the log, and answered, has been through all of the server's books.
    let mut other = Raw::welcome(&cluster.address(0));
    other.open_stream("slow");
    wait_for("its window", || (counted(&mut raw, 1) >= 16).then_some(()));
    other.open_stream("slow");
    assert_eq!(counted(&mut raw, 2), 16);

    // One with a wide window that does not even read: what waits for its socket is bounded.
    let pid = cluster.pid(0);
    let before = memory(pid);
    let mut stuck = Raw::welcome(&cluster.address(0));
    stuck.attach("slow", "a", epoch, limits::READER_WINDOW_MAX);
    let start = Instant::now();
    let mut inbox = sender.listen(&name("fast"), 100).await.unwrap();
    let stream = sender.open_stream(&name("alice")).await.unwrap();
    for n in 0..200 {
        stream.send(&name("fast"), format!("{n}")).await.unwrap().await.unwrap();
        let taken = take(&mut inbox, 1).await;
        inbox.acknowledge(taken[0].position);
    }
    assert!(start.elapsed() < Duration::from_secs(20), "the fast ones took {:?}", start.elapsed());
    let grown = memory(pid).saturating_sub(before);
    assert!(grown < 24 << 20, "the server grew by {grown} bytes for {} that wait", MESSAGES * BYTES as u64);
    // When it reads at last, everything is there.
    let mut got = 0;
    while got < MESSAGES {
        got += stuck.until("deliveries", |reply, _| match reply {
            Reply::Deliver { deliveries, .. } => Some(deliveries.len() as u64),
            _ => None,
        });
    }
}

/// A connection that is welcomed, unless the server has too many.
fn try_welcome(address: &str) -> Result<Raw, Refusal> {
    let mut raw = Raw::silent(address);
    raw.write(&CLIENT_MAGIC);
    raw.request(&Request::Hello { version: CLIENT_VERSION, cluster: None, agent: "raw".to_owned() });
    match raw.reply() {
        Some((Reply::Welcome { .. }, _)) => Ok(raw),
        Some((Reply::Refused { nonce: None, refusal }, _)) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

#[test]
fn too_many_connections_are_refused_and_a_place_that_is_left_can_be_taken() {
    let cluster = alone(&["--connections", "4"]);
    let address = cluster.address(0);
    // Those that waited for the leader may not be quite gone.
    let mut held: Vec<Raw> = (0..4).map(|_| wait_for("a connection", || try_welcome(&address).ok())).collect();
    for _ in 0..10 {
        assert_eq!(try_welcome(&address).err(), Some(Refusal::TooManyConnections { limit: 4 }));
    }
    held[0].register("alice", "a");
    drop(held.pop());
    let mut new = wait_for("the place that was left", || try_welcome(&address).ok());
    new.register("bob", "a");
    assert!(try_welcome(&address).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_inbox_refuses_and_works_again_after_acknowledgements() {
    let cluster = alone(&["--inbox-messages", "10", "--inbox-bytes", "10000"]);
    let client = registered(&cluster, &["alice", "bob", "carol"]).await;
    let stream = client.open_stream(&name("alice")).await.unwrap();
    let send = async |to: &str, bytes: usize| stream.send(&name(to), vec![0; bytes]).await.unwrap().await;
    let full = Err(SendError::Refused(SendRefusal::InboxFull));
    for n in 1..=10 {
        assert_eq!(send("bob", 10).await.unwrap().position, Position(n));
    }
    assert_eq!(send("bob", 10).await, full);
    // By bytes, too; a shorter one still fits.
    assert!(send("carol", 9000).await.is_ok());
    assert_eq!(send("carol", 2000).await, full);
    assert!(send("carol", 100).await.is_ok());
    let mut inbox = client.listen(&name("bob"), 100).await.unwrap();
    let taken = take(&mut inbox, 10).await;
    inbox.acknowledge(taken[3].position);
    inbox.flush().await.unwrap();
    for n in 11..=14 {
        assert_eq!(send("bob", 10).await.unwrap().position, Position(n));
    }
    assert_eq!(send("bob", 10).await, full);
    assert_eq!(positions(&take(&mut inbox, 4).await), [11, 12, 13, 14]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_larger_than_memory_is_read_back_right() {
    const MESSAGES: u64 = 4800;
    const BYTES: usize = 50_000;
    let sizes = ["--body-memory", "1MiB", "--log-cache", "1MiB", "--segment", "16MiB", "--checkpoint-log", "32MiB"];
    let mut cluster = Cluster::prepare(1).with_arguments(&sizes);
    // So that the allocator gives back at once what is freed, and the system's numbers tell.
    cluster.set_environment("MALLOC_MMAP_THRESHOLD_", "65536");
    cluster.start_all();
    cluster.wait_for_leader();
    let client = registered(&cluster, &["alice", "bob"]).await;
    fill(&client, "alice", "bob", MESSAGES, BYTES).await;
    let total = MESSAGES * BYTES as u64;
    // Bodies may leave memory once a checkpoint has them. What stays is the checkpoint's cache, for the most part.
    let in_use = |cluster: &Cluster| memory(cluster.pid(0));
    wait_for("the bodies to leave memory", || (in_use(&cluster) < total * 2 / 3).then_some(()));
    let read = async |from: u64, to: u64| {
        let mut inbox = client.listen(&name("bob"), 64).await.unwrap();
        for number in from..=to {
            let delivery = &take(&mut inbox, 1).await[0];
            assert_eq!((delivery.position, delivery.number), (Position(number), Number(number)));
            assert!(delivery.body == body(number, BYTES), "the body of number {number} is another one");
            inbox.acknowledge(delivery.position);
        }
        inbox.flush().await.unwrap();
        inbox.close().await.unwrap();
    };
    read(1, MESSAGES / 2).await;
    // After a restart, too, when none of them was ever in this process's memory.
    cluster.kill(0);
    cluster.start_server(0);
    cluster.wait_for_leader();
    assert!(in_use(&cluster) < total / 2, "{} bytes are in use", in_use(&cluster));
    read(MESSAGES / 2 + 1, MESSAGES).await;
    assert_eq!(waiting(&client, "bob").await, 0);
}
