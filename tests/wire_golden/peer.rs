//! Frames between servers, and the numbers that tell them apart.

use restante::wire::peer::{
    self, Bootstrap, BootstrapReply, Founding, FoundingMember, Hello, HelloReply, PeerRefusal, Purpose, Question,
};
use restante::wire::{CLIENT_MAGIC, CLIENT_VERSION, ClusterId, PEER_MAGIC, PEER_VERSION, Quotas, client, command};

use crate::{Golden, NONCE, name, server, variants};

mod bootstrap {
    use super::*;
    variants!(Bootstrap: Probe, Join);

    #[test]
    fn bootstrap() {
        let mut golden = Golden::open("peer-bootstrap.hex");
        for value in [
            Bootstrap::Probe { disk: NONCE, servers: vec![server("a", 8080), server("b", 8081)] },
            Bootstrap::Join { disk: 1, address: "127.0.0.1:8082".to_owned() },
        ] {
            golden.frame(variant(&value), peer::BOOTSTRAP, &value, b"");
        }
        golden.complete(VARIANTS);
        golden.finish();
    }
}

mod bootstrap_reply {
    use super::*;
    variants!(BootstrapReply: Empty, SetAside, Member, Joined, Refused, Retired, Restored);

    #[test]
    fn bootstrap_replies() {
        let mut golden = Golden::open("peer-bootstrap-reply.hex");
        let founder = FoundingMember { server: server("a", 8080), incarnation: 1, disk: NONCE };
        for value in [
            BootstrapReply::Empty { disk: NONCE, servers: vec![server("a", 8080)] },
            BootstrapReply::SetAside,
            BootstrapReply::Member {
                cluster: ClusterId(NONCE),
                founding: Some(Founding { members: vec![founder], quotas: Quotas::default() }),
            },
            BootstrapReply::Joined { cluster: ClusterId(2), incarnation: 1 << 20 },
            BootstrapReply::Refused("not now".to_owned()),
            BootstrapReply::Retired,
            BootstrapReply::Restored { disk: NONCE, servers: vec![server("a", 8080)], backup: 1 << 100 },
        ] {
            golden.frame(variant(&value), peer::BOOTSTRAP_REPLY, &value, b"");
        }
        golden.complete(VARIANTS);
        golden.finish();
    }
}

mod hello {
    use super::*;
    variants!(Purpose: Raft, Snapshot, Forward, Bootstrap, Question);

    #[test]
    fn hellos() {
        let mut golden = Golden::open("peer-hello.hex");
        for purpose in [Purpose::Raft, Purpose::Snapshot, Purpose::Forward] {
            let (cluster, from, to) = (Some(ClusterId(NONCE)), Some(3), Some(1 << 20));
            let hello = Hello { version: 1, purpose, cluster, name: name("a"), from, to };
            golden.frame(variant(&purpose), peer::HELLO, &hello, b"");
        }
        let purpose = Purpose::Bootstrap;
        let hello = Hello { version: u16::MAX, purpose, cluster: None, name: name("a"), from: None, to: None };
        golden.frame(variant(&purpose), peer::HELLO, &hello, b"");
        let purpose = Purpose::Question;
        let (cluster, from, to) = (Some(ClusterId(NONCE)), Some(3), Some(1 << 20));
        let hello = Hello { version: 1, purpose, cluster, name: name("a"), from, to };
        golden.frame(variant(&purpose), peer::HELLO, &hello, b"");
        golden.complete(VARIANTS);
        golden.finish();
    }
}

mod hello_reply {
    use super::*;

    mod reply {
        use super::*;
        variants!(HelloReply: Welcome, Refused);
        pub fn name(value: &HelloReply) -> &'static str {
            variant(value)
        }
        pub const ALL: &[&str] = VARIANTS;
    }
    variants!(PeerRefusal: Version, WrongCluster, WrongIncarnation, Retired, NotReady, Removed);

    #[test]
    fn hello_replies() {
        let mut golden = Golden::open("peer-hello-reply.hex");
        golden.frame(reply::name(&HelloReply::Welcome), peer::HELLO_REPLY, &HelloReply::Welcome, b"");
        let mut refusals = Vec::new();
        for refusal in [
            PeerRefusal::Version { speaks: 1 },
            PeerRefusal::WrongCluster { actual: ClusterId(NONCE) },
            PeerRefusal::WrongIncarnation { actual: 300 },
            PeerRefusal::Retired { incarnation: 1, by: 1 << 20 },
            PeerRefusal::NotReady,
            PeerRefusal::Removed { incarnation: 1 << 20 },
        ] {
            refusals.push(variant(&refusal));
            let label = format!("Refused.{}", variant(&refusal));
            golden.frame(&label, peer::HELLO_REPLY, &HelloReply::Refused(refusal), b"");
        }
        assert_eq!(refusals, VARIANTS);
        golden.complete(reply::ALL);
        golden.finish();
    }
}

mod question {
    use super::*;
    use restante::wire::Refusal;
    variants!(Question: MayLeave, HandOver, IsDown, MayDrain);

    #[test]
    fn questions_and_answers() {
        let mut golden = Golden::open("peer-question.hex");
        for value in [
            Question::MayLeave { server: name("a") },
            Question::HandOver { server: name("b") },
            Question::IsDown { server: name("c") },
            Question::MayDrain { server: name("c") },
        ] {
            golden.frame(variant(&value), peer::QUESTION, &value, b"");
        }
        golden.complete(VARIANTS);
        let answers: [(&str, peer::QuestionAnswer); 2] =
            [("answer.yes", Ok(())), ("answer.no", Err(Refusal::WouldLoseQuorum { voters: 4, reachable: 2 }))];
        for (label, answer) in answers {
            golden.frame(label, peer::ANSWER, &answer, b"");
        }
        golden.finish();
    }
}

/// A kind that changes its number would be taken for another one by every other build.
#[test]
fn magics_versions_and_kinds() {
    let mut golden = Golden::open("kinds.hex");
    golden.check("magic.client", &CLIENT_MAGIC);
    golden.check("magic.peer", &PEER_MAGIC);
    golden.check("version.client", &CLIENT_VERSION.to_be_bytes());
    golden.check("version.peer", &PEER_VERSION.to_be_bytes());
    for (label, kind) in [
        ("command", command::KIND),
        ("request", client::REQUEST_KIND),
        ("reply", client::REPLY_KIND),
        ("hello", peer::HELLO),
        ("hello-reply", peer::HELLO_REPLY),
        ("bootstrap", peer::BOOTSTRAP),
        ("bootstrap-reply", peer::BOOTSTRAP_REPLY),
        ("append", peer::APPEND),
        ("append-reply", peer::APPEND_REPLY),
        ("vote", peer::VOTE),
        ("pre-vote", peer::PRE_VOTE),
        ("vote-reply", peer::VOTE_REPLY),
        ("transfer", peer::TRANSFER),
        ("transfer-reply", peer::TRANSFER_REPLY),
        ("snapshot-begin", peer::SNAPSHOT_BEGIN),
        ("snapshot-chunk", peer::SNAPSHOT_CHUNK),
        ("snapshot-end", peer::SNAPSHOT_END),
        ("snapshot-reply", peer::SNAPSHOT_REPLY),
        ("forward", peer::FORWARD),
        ("forward-refused", peer::FORWARD_REFUSED),
        ("unavailable", peer::UNAVAILABLE),
        ("question", peer::QUESTION),
        ("answer", peer::ANSWER),
        ("snapshot-goes-on", peer::SNAPSHOT_GOES_ON),
    ] {
        golden.check(&format!("kind.{label}"), &[kind]);
    }
    golden.finish();
}
