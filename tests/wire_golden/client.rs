//! Frames between a client and a server, commands aside.

use restante::wire::client::{
    ChannelRow, ClientRow, Delivery, DiskCondition, DiskStatus, Member, PresenceChange, PresenceEvent, REPLY_KIND,
    REQUEST_KIND, Reply, Request, SendFailure, ServerRow, SetAside, Status, StatusDetail,
};
use restante::wire::sharing::{Fate, InboxSettings, Notice, Overflow, Unreached};
use restante::wire::{ClusterId, Epoch, Number, Position, Refusal, SendOutcome, SendRefusal, Time};

use crate::{Golden, ID, NONCE, name, server, variants};

mod requests {
    use super::*;
    variants!(Request:
        Hello, Ping, Who, Status, Goodbye, AddServer, RemoveServer, TransferLeadership, Backup, ReadBackup, SetDrained,
        Hurry,
        Channels, Members, History, Inbox, Presence,
    );

    #[test]
    fn requests() {
        let mut golden = Golden::open("requests.hex");
        for (note, value) in [
            (".first", Request::Hello { version: 1, cluster: None, agent: "restante 0.1.0".to_owned() }),
            (".again", Request::Hello { version: 1, cluster: Some(ClusterId(NONCE)), agent: String::new() }),
            ("", Request::Ping(u64::MAX)),
            (".first", Request::Who { nonce: NONCE, after: None, limit: 1000 }),
            (".more", Request::Who { nonce: NONCE, after: Some(name("alice")), limit: 1 }),
            (".plain", Request::Status { nonce: NONCE, detail: StatusDetail::default() }),
            (".detail", Request::Status { nonce: NONCE, detail: StatusDetail { disk: true, digest: true } }),
            ("", Request::Goodbye),
            ("", Request::Hurry),
            ("", Request::AddServer { nonce: NONCE, server: server("d", 8083) }),
            ("", Request::RemoveServer { nonce: NONCE, server: name("a"), force: false }),
            (".force", Request::RemoveServer { nonce: NONCE, server: name("a"), force: true }),
            ("", Request::TransferLeadership { nonce: NONCE, server: name("b") }),
            ("", Request::Backup { nonce: NONCE }),
            ("", Request::ReadBackup { nonce: NONCE, backup: 1, offset: 300 }),
            (".on", Request::SetDrained { nonce: NONCE, server: name("b"), drained: true }),
            (".off", Request::SetDrained { nonce: NONCE, server: name("b"), drained: false }),
            (".first", Request::Channels { nonce: NONCE, after: None, limit: 1000 }),
            (".more", Request::Channels { nonce: NONCE, after: Some(name("orders")), limit: 1 }),
            (".first", Request::Members { nonce: NONCE, channel: name("orders"), after: None, limit: 1000 }),
            (".more", Request::Members { nonce: NONCE, channel: name("orders"), after: Some(ID), limit: 1 }),
            ("", Request::History { nonce: NONCE, client: name("bob"), from: Position(300), limit: 1000 }),
            ("", Request::Inbox { nonce: NONCE, client: name("bob") }),
            (".first", Request::Presence { nonce: NONCE, since: None, wait_ms: 0 }),
            (".more", Request::Presence { nonce: NONCE, since: Some(300), wait_ms: 5000 }),
        ] {
            golden.frame(&format!("{}{note}", variant(&value)), REQUEST_KIND, &value, b"");
        }
        golden.complete(VARIANTS);
        golden.finish();
    }
}

mod replies {
    use super::*;
    variants!(Reply:
        Welcome, Pong, Registered, Deregistered, StreamOpened, StreamClosed, Receipts, SendFailed, Attached, Detached,
        Deliver, Acknowledged, Fenced, Refused, Move, Who, Status, Done, Servers,
        BackupBegun, BackupPart, Delivered, Withdrawn, Channels, Members,
        History, Inbox, Presence,
    );

    fn delivery(position: u64, redelivered: bool, content_bytes: u32) -> Delivery {
        Delivery {
            position: Position(position),
            message: ID,
            from: name("alice"),
            stream: ID,
            number: Number(position + 100),
            time: Time(1_700_000_000_000),
            redelivered,
            content_bytes,
            channel: None,
            notice: None,
        }
    }

    fn status() -> Status {
        let row = |letter, port, incarnation, lag| ServerRow {
            server: server(letter, port),
            incarnation,
            voter: incarnation.is_some(),
            reachable: lag == Some(0),
            lag,
            problem: lag.is_none().then(|| "connection refused".to_owned()),
            drained: letter == "b",
        };
        Status {
            server: name("a"),
            cluster: Some(ClusterId(NONCE)),
            incarnation: Some(1),
            role: "leader".to_owned(),
            leader: Some(name("a")),
            term: 2,
            last_index: 3000,
            committed_index: 2999,
            applied_index: 2998,
            digest: Some(0x0123_4567_89ab_cdef),
            time: Time(1_700_000_000_000),
            clients: 6,
            waiting: 7,
            checkpoint_index: 8,
            log_bytes: 9,
            servers: vec![
                row("a", 8080, Some(1), Some(0)),
                row("b", 8081, Some(2), Some(5)),
                row("c", 8082, None, None),
            ],
            problems: vec!["c cannot be reached".to_owned()],
            sessions: 10,
            serves: true,
            disk: Some(disk()),
        }
    }

    fn disk() -> DiskStatus {
        let reason = "a segment is damaged".to_owned();
        let set_aside = SetAside { directory: "1-1700000000000".to_owned(), unix_ms: Some(1_700_000_000_000), reason };
        DiskStatus {
            place: "/data/a".to_owned(),
            free_bytes: Some(1 << 40),
            checkpoint_bytes: 1 << 20,
            condition: DiskCondition::Damaged("a value is damaged".to_owned()),
            quarantine: vec![set_aside],
        }
    }

    fn client() -> ClientRow {
        ClientRow {
            name: name("bob"),
            registration: ID,
            home: name("b"),
            online: true,
            last_seen: Time(1_700_000_000_000),
            waiting: 3,
            waiting_bytes: 300,
            streams: 2,
        }
    }

    fn examples() -> Vec<(&'static str, Reply, &'static [u8])> {
        let (nonce, registration, stream, epoch) = (NONCE, ID, ID, Epoch(2));
        let bare = Status {
            cluster: None,
            incarnation: None,
            leader: None,
            digest: None,
            servers: vec![],
            problems: vec![],
            disk: None,
            ..status()
        };
        let on_a_disk = |condition| {
            let disk = DiskStatus { free_bytes: None, condition, quarantine: vec![], ..disk() };
            Reply::Status { nonce, status: Box::new(Status { disk: Some(disk), servers: vec![], ..status() }) }
        };
        let outcomes = vec![
            SendOutcome::Accepted(Position(1)),
            SendOutcome::Refused(SendRefusal::NoSuchClient),
            SendOutcome::Accepted(Position(128)),
            SendOutcome::Refused(SendRefusal::InboxFull),
            SendOutcome::Reached { inboxes: 300, full: 1 },
        ];
        let dropped = Fate { dropped: 300, ..Fate::default() };
        let settings = InboxSettings { overflow: Overflow::DropOldest, keep_messages: 300, keep_ms: 5000 };
        let event = |change| PresenceEvent { index: 300, change, client: client() };
        let events = [
            PresenceChange::Registered,
            PresenceChange::Online,
            PresenceChange::Offline,
            PresenceChange::Moved { from: name("a") },
            PresenceChange::Deregistered,
        ];
        let events = Some(events.map(event).to_vec());
        let servers = vec![server("a", 8080), server("b", 8081)];
        let deliveries = vec![delivery(1, false, 2), delivery(200, true, 3)];
        let fate = Fate { acknowledged: 300, ended: 1, expired: 2, dropped: 0 };
        let notice = Some(Notice { stream, number: Number(40), fate });
        let shared = vec![
            Delivery { channel: Some(name("orders.new.eu")), ..delivery(1, false, 2) },
            Delivery { notice, ..delivery(2, false, 0) },
        ];
        vec![
            ("", Reply::Welcome { cluster: Some(ClusterId(NONCE)), server: name("a"), servers }, b""),
            (".unfounded", Reply::Welcome { cluster: None, server: name("a"), servers: vec![] }, b""),
            ("", Reply::Pong(300), b""),
            ("", Reply::Registered { nonce, registration }, b""),
            ("", Reply::Deregistered { nonce }, b""),
            ("", Reply::StreamOpened { nonce, stream, registration }, b""),
            ("", Reply::StreamClosed { nonce }, b""),
            ("", Reply::Receipts { stream, first: Number(40), outcomes }, b""),
            ("", Reply::SendFailed { stream, number: Number(3), reason: SendFailure::StreamClosed }, b""),
            ("", Reply::Attached { nonce, registration, epoch, acknowledged: Position(77) }, b""),
            ("", Reply::Detached { nonce }, b""),
            ("", Reply::Deliver { registration, epoch, deliveries }, b"\x00x\x00yz"),
            ("", Reply::Acknowledged { registration, epoch, up_to: Position(200) }, b""),
            (".by-newer", Reply::Fenced { registration, epoch, by: Some(Epoch(3)) }, b""),
            (".by-end", Reply::Fenced { registration, epoch, by: None }, b""),
            (".request", Reply::Refused { nonce: Some(nonce), refusal: Refusal::NotRegistered }, b""),
            (".connection", Reply::Refused { nonce: None, refusal: Refusal::Stopping }, b""),
            ("", Reply::Move { reason: Refusal::NoLeader }, b""),
            ("", Reply::Who { nonce, clients: vec![client()], more: true }, b""),
            ("", Reply::Status { nonce, status: Box::new(status()) }, b""),
            (".bare", Reply::Status { nonce, status: Box::new(bare) }, b""),
            (".good", on_a_disk(DiskCondition::Good), b""),
            (".full", on_a_disk(DiskCondition::Full), b""),
            (".hangs", on_a_disk(DiskCondition::Hangs), b""),
            ("", Reply::Done { nonce }, b""),
            ("", Reply::Servers { servers: vec![server("b", 8081), server("d", 8083)] }, b""),
            ("", Reply::BackupBegun { nonce }, b""),
            ("", Reply::BackupPart { nonce, offset: 300, last: true }, b"bytes"),
            (".not-yet", Reply::BackupPart { nonce, offset: 0, last: false }, b""),
            ("", Reply::Delivered { stream, sequence: 300, number: Number(40), fate }, b""),
            (
                "",
                Reply::Channels {
                    nonce,
                    channels: vec![ChannelRow { name: name("orders"), members: 300 }],
                    more: true,
                },
                b"",
            ),
            ("", Reply::Members { nonce, members: vec![Member { name: name("bob"), registration }], more: false }, b""),
            ("", Reply::Withdrawn { registration, epoch, position: Position(77) }, b""),
            (".dropped", Reply::Delivered { stream, sequence: 1, number: Number(1), fate: dropped }, b""),
            ("", Reply::History { nonce, registration, messages: vec![delivery(3, true, 2)], more: true }, b"\x00x"),
            ("", Reply::Inbox { nonce, registration, settings, kept: 300 }, b""),
            (".events", Reply::Presence { nonce, up_to: 301, events }, b""),
            (".unknown", Reply::Presence { nonce, up_to: 301, events: None }, b""),
            (".sharing", Reply::Deliver { registration, epoch, deliveries: shared }, b"\x00x"),
        ]
    }

    #[test]
    fn replies() {
        let mut golden = Golden::open("replies.hex");
        for (note, value, body) in examples() {
            golden.frame(&format!("{}{note}", variant(&value)), REPLY_KIND, &value, body);
        }
        golden.complete(VARIANTS);
        golden.finish();
    }
}

mod send_failures {
    use super::*;
    variants!(SendFailure: Gap, StreamClosed, OtherContent, AlreadyAnswered, WindowFull, Unavailable);

    #[test]
    fn send_failures() {
        let mut golden = Golden::open("send-failures.hex");
        for value in [
            SendFailure::Gap { expected: Number(300) },
            SendFailure::StreamClosed,
            SendFailure::OtherContent,
            SendFailure::AlreadyAnswered,
            SendFailure::WindowFull { window: 4096 },
            SendFailure::Unavailable(Refusal::DiskFull),
        ] {
            golden.value(variant(&value), &value);
        }
        golden.complete(VARIANTS);
        golden.finish();
    }
}

mod outcomes {
    use super::*;
    variants!(SendOutcome: Accepted, Refused, Reached, Scheduled);
    mod refusals {
        use super::*;
        variants!(SendRefusal: NoSuchClient, InboxFull, Recipients, NoSuchChannel, TooManyInboxes, NoRoomForReceipt,
            TooManyScheduled);
        pub const ALL: &[&str] = VARIANTS;
        pub fn name(value: SendRefusal) -> &'static str {
            variant(&value)
        }
    }

    #[test]
    fn outcomes() {
        let mut golden = Golden::open("outcomes.hex");
        let accepted = SendOutcome::Accepted(Position(300));
        golden.value(variant(&accepted), &accepted);
        let reached = SendOutcome::Reached { inboxes: 300, full: 1 };
        golden.value(variant(&reached), &reached);
        let scheduled = SendOutcome::Scheduled(Time(1_700_000_000_000));
        golden.value(variant(&scheduled), &scheduled);
        let mut all = Vec::new();
        for refusal in [
            SendRefusal::NoSuchClient,
            SendRefusal::InboxFull,
            SendRefusal::Recipients(Unreached { unknown: 1, full: 1 << 63 }),
            SendRefusal::NoSuchChannel,
            SendRefusal::TooManyInboxes { inboxes: 20_000, limit: 16_384 },
            SendRefusal::NoRoomForReceipt,
            SendRefusal::TooManyScheduled { limit: 16_384 },
        ] {
            all.push(refusals::name(refusal));
            let value = SendOutcome::Refused(refusal);
            golden.value(&format!("{}.{}", variant(&value), refusals::name(refusal)), &value);
        }
        assert_eq!(all, refusals::ALL);
        golden.complete(VARIANTS);
        golden.finish();
    }
}

mod refusals {
    use super::*;
    variants!(Refusal:
        AlreadyRegistered, NotRegistered, RegistrationEnded, TooManyClients, TooManyStreams, EpochMoved, Stopping,
        NoLeader, DiskFull, TooManyConnections, Version, WrongCluster, Malformed, NoSuchServer,
        ServerElsewhere, AddressTaken, TooManyServers, LastServer, WouldLoseQuorum, CannotLead, DiskRetired,
        ReadElsewhere, TooManyBackups, BackupEnded, HomeMoved, ReadBySession, ServerIsUp, Drained, NobodyElseServes,
        DrainedCannotLead, NoSuchChannel, ChannelExists, TooManyChannels, ChannelFull, TooManyEnlistments, EnlistmentsMoved,
        Busy,
    );

    #[test]
    fn refusals() {
        let mut golden = Golden::open("refusals.hex");
        for value in [
            Refusal::AlreadyRegistered { registration: ID },
            Refusal::NotRegistered,
            Refusal::RegistrationEnded,
            Refusal::TooManyClients { quota: 10_000_000 },
            Refusal::TooManyStreams { quota: 1024 },
            Refusal::EpochMoved { current: Epoch(300) },
            Refusal::Stopping,
            Refusal::NoLeader,
            Refusal::DiskFull,
            Refusal::TooManyConnections { limit: 10_000 },
            Refusal::Version { speaks: 1, asked: 2 },
            Refusal::WrongCluster { actual: ClusterId(NONCE), expected: ClusterId(1) },
            Refusal::Malformed("a frame of no bytes".to_owned()),
            Refusal::NoSuchServer,
            Refusal::ServerElsewhere { address: "127.0.0.1:8083".to_owned() },
            Refusal::AddressTaken { server: name("b") },
            Refusal::TooManyServers { limit: 64 },
            Refusal::LastServer,
            Refusal::WouldLoseQuorum { voters: 4, reachable: 2 },
            Refusal::CannotLead,
            Refusal::DiskRetired,
            Refusal::ReadElsewhere,
            Refusal::TooManyBackups { limit: 2 },
            Refusal::BackupEnded { why: "it is read too slowly".to_owned() },
            Refusal::HomeMoved { home: name("b") },
            Refusal::ReadBySession,
            Refusal::ServerIsUp,
            Refusal::Drained,
            Refusal::NobodyElseServes { others: 4, drained: 2, ready: 0 },
            Refusal::DrainedCannotLead,
            Refusal::NoSuchChannel,
            Refusal::ChannelExists,
            Refusal::TooManyChannels { limit: 65_536 },
            Refusal::ChannelFull { limit: 16_384 },
            Refusal::TooManyEnlistments { limit: 1024 },
            Refusal::EnlistmentsMoved { current: 300 },
            Refusal::Busy,
        ] {
            golden.value(variant(&value), &value);
        }
        golden.complete(VARIANTS);
        golden.finish();
    }
}
