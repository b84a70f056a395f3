//! Commands and contents.

use bytes::BytesMut;
use restante::wire::command::{Command, decode_content, encode_content};
use restante::wire::sharing::{Enlistment, InboxSettings, Overflow, Target, Terms};
use restante::wire::{Epoch, Number, Position, Quotas, Time, frame};

use crate::{Golden, ID, NONCE, variants};

variants!(Command:
    Send, Acknowledge, Confirm, Register, Deregister, OpenStream, CloseStream, Attach, Detach, Enroll, SetQuotas, Tick,
        Vanished, AddServer, RemoveServer, SetHome, MoveClients, AttachApart, AcknowledgeApart, SetDrained,
        Post, CollectReceipts, CreateChannel, DeleteChannel, Enlist,
);

fn examples() -> Vec<(&'static str, Command<'static>, &'static [u8])> {
    let quotas = Quotas {
        inbox_messages: 1,
        inbox_bytes: 300,
        streams_per_client: 70_000,
        stream_window: 4,
        clients: u64::MAX,
        stream_idle_ms: 6,
    };
    let attach = |expected, resumes| Command::Attach {
        nonce: NONCE,
        name: "bob",
        home: "b",
        expected: Epoch(expected),
        resumes,
        window: 1024,
    };
    let detach = |delivered| Command::Detach { nonce: NONCE, registration: ID, epoch: Epoch(3), delivered };
    let attach_apart = |registration| Command::AttachApart {
        nonce: NONCE,
        name: "alice",
        registration,
        expected: Epoch(7),
        window: 9,
    };
    let send = Command::Send { stream: ID, number: Number(300), confirmed: Number(299), to: "bob" };
    let post_on = |to, terms| Command::Post { stream: ID, number: Number(300), confirmed: Number(299), to, terms };
    let post = |to, receipt| post_on(to, Terms { receipt, expires_ms: 300, delay_ms: 0 });
    let later = Terms { receipt: true, expires_ms: 0, delay_ms: 300 };
    let settings = InboxSettings { overflow: Overflow::DropOldest, keep_messages: 300, keep_ms: 5000 };
    let enlist = |change| Command::Enlist { nonce: NONCE, name: "alice", expected: 300, change };
    vec![
        ("", send, b"\x00hello"),
        (
            "",
            Command::Acknowledge {
                registration: ID,
                epoch: Epoch(2),
                up_to: Position(128),
                ranges: vec![(Position(130), Position(131)), (Position(200), Position(u64::MAX))],
            },
            b"",
        ),
        ("", Command::Confirm { stream: ID, confirmed: Number(127) }, b""),
        ("", Command::Register { nonce: NONCE, name: "alice", home: "a" }, b""),
        ("any", Command::Deregister { nonce: NONCE, name: "alice", registration: None }, b""),
        ("one", Command::Deregister { nonce: NONCE, name: "alice", registration: Some(ID) }, b""),
        ("", Command::OpenStream { nonce: NONCE, name: "alice" }, b""),
        ("", Command::CloseStream { nonce: u128::MAX, stream: ID }, b""),
        ("first", attach(0, None), b""),
        ("resumes", attach(7, Some(ID)), b""),
        ("clean", detach(Some(Position(9))), b""),
        ("lost", detach(None), b""),
        ("", Command::Enroll { server: "c", address: "127.0.0.1:8082", disk: NONCE }, b""),
        ("", Command::SetQuotas(quotas), b""),
        ("", Command::Tick, b""),
        ("", Command::Vanished { registration: ID, epoch: Epoch(3), home: "a" }, b""),
        ("", Command::AddServer { nonce: NONCE, server: "d", address: "127.0.0.1:8083" }, b""),
        ("", Command::RemoveServer { nonce: NONCE, server: "a" }, b""),
        ("any", Command::SetHome { nonce: NONCE, name: "alice", home: "b", instead_of: None }, b""),
        ("from", Command::SetHome { nonce: NONCE, name: "alice", home: "b", instead_of: Some("a") }, b""),
        ("", Command::MoveClients { from: "a", to: vec!["b", "c"], until: Time(2000) }, b""),
        ("any", attach_apart(None), b""),
        ("one", attach_apart(Some(ID)), b""),
        (
            "",
            Command::AcknowledgeApart {
                nonce: NONCE,
                name: "alice",
                registration: ID,
                epoch: Epoch(2),
                up_to: Position(128),
                ranges: vec![(Position(130), Position(131))],
            },
            b"",
        ),
        ("on", Command::SetDrained { nonce: NONCE, server: "b", drained: true }, b""),
        ("off", Command::SetDrained { nonce: NONCE, server: "b", drained: false }, b""),
        ("client", post(Target::Client("bob"), true), b"\x00hello"),
        ("clients", post(Target::Clients(vec!["bob", "carol"]), false), b"\x00hello"),
        ("channel", post(Target::Channel("orders.new.eu"), false), b"\x00hello"),
        ("everybody", post(Target::Everybody, false), b"\x00hello"),
        ("later", post_on(Target::Client("bob"), later), b"\x00hello"),
        ("", Command::CollectReceipts { stream: ID, up_to: 300 }, b""),
        ("", Command::CreateChannel { nonce: NONCE, channel: "orders.new.eu" }, b""),
        ("", Command::DeleteChannel { nonce: NONCE, channel: "orders.new.eu" }, b""),
        ("join", enlist(Enlistment::Join("orders.new.eu")), b""),
        ("leave", enlist(Enlistment::Leave("orders.new.eu")), b""),
        ("subscribe", enlist(Enlistment::Subscribe("orders.*.eu")), b""),
        ("set-inbox", enlist(Enlistment::SetInbox(settings)), b""),
        ("unsubscribe", enlist(Enlistment::Unsubscribe("orders.>")), b""),
    ]
}

#[test]
fn commands() {
    let mut golden = Golden::open("commands.hex");
    for (note, command, content) in examples() {
        let label =
            if note.is_empty() { variant(&command).to_owned() } else { format!("{}.{note}", variant(&command)) };
        let mut encoded = BytesMut::new();
        command.put(&mut encoded, content);
        let mut bytes = golden.check(&label, &encoded);
        let split = frame::split_bytes(&mut bytes).expect("a frame").expect("a frame");
        assert!(bytes.is_empty(), "{label}: bytes are left behind the frame");
        assert_eq!(split.kind, restante::wire::command::KIND, "{label}");
        let (decoded, rest) = Command::decode(&split.payload).expect("the golden decodes");
        assert_eq!((decoded, &rest[..]), (command, content), "{label}");
    }
    golden.complete(VARIANTS);
    golden.finish();
}

#[test]
fn contents() {
    let mut golden = Golden::open("contents.hex");
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    for (label, headers, body) in [
        ("empty", vec![], &b""[..]),
        ("body", vec![], b"hello"),
        ("headers", vec![header("content-type", "text/plain"), header("", "\u{fc}")], b"\x00\xff"),
    ] {
        let bytes = golden.check(label, &encode_content(&headers, body));
        let (decoded, rest) = decode_content(&bytes).expect("the golden decodes");
        assert_eq!((decoded, &rest[..]), (headers, body), "{label}");
    }
    golden.finish();
}
