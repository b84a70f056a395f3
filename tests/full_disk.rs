//! Every server's disk is full at once. Alone in its program, since it depends on the pace at which the disks fill, which what
//! runs beside it changes: a server that takes many entries at the very end may use up the room that its log keeps for
//! votes, and stop.
#![expect(clippy::disallowed_methods, reason = "tests watch real processes from outside, on real time")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use restante::client::{Client, ClientSettings, Doubt, SendError};
use restante::wire::client::{Reply, SendFailure};
use restante::wire::command::{self, Command, Headers};
use restante::wire::{Number, Position, Refusal};
use restante::world::{Host, RealNetwork};
use support::raw::Raw;
use support::traffic::{client, name, within};
use support::{Cluster, problems, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_sends_serves_reads_and_loses_nothing() {
    // The smallest log there may be: it takes no long to fill what it has already.
    let sizes = ["--segment", "16MiB", "--checkpoint-log", "32MiB"];
    let mut cluster = Cluster::prepare(3).with_arguments(&sizes);
    cluster.start_all();
    cluster.wait_for_leader();
    let good = client(&cluster.addresses(), None).await;
    for who in ["alice", "bob", "carol", "dave"] {
        good.register(&name(who)).await.unwrap();
    }
    let stream = good.open_stream(&name("alice")).await.unwrap();
    for n in 0..20 {
        stream.send(&name("bob"), format!("{n}")).await.unwrap().await.unwrap();
    }
    // No disk has as much left: what the log has is all there is.
    cluster.kill_all();
    cluster.set_arguments(&[&sizes[..], &["--disk-reserve", "100000000GiB"]].concat());
    cluster.start_all();
    cluster.wait_for_leader();
    let filler = good.open_stream(&name("carol")).await.unwrap();
    let (mut filling, dave) = (Vec::new(), name("dave"));
    let all_full = |status: &serde_json::Value| {
        let problems = problems(status);
        let full = |who: &str| {
            problems.lines().any(|l| l.starts_with(&format!("{who} says")) && l.contains("the disk is full"))
        };
        full("a") && full("b") && full("c")
    };
    let deadline = std::time::Instant::now() + support::PATIENCE;
    while !cluster.status().is_some_and(|status| all_full(&status)) {
        assert!(std::time::Instant::now() < deadline, "{} sends do not fill the disks", filling.len());
        for _ in 0..20 {
            // It waits when too many are without an answer, which is how a full disk slows senders down.
            let send = filler.send(&dave, vec![filling.len() as u8; 60_000]);
            match tokio::time::timeout(Duration::from_millis(100), send).await {
                Ok(pending) => filling.push(pending.unwrap()),
                Err(_) => break,
            }
        }
    }
    cluster.wait_until("a leader although the disks are full", |status| !status["leader"].is_null());

    let home = cluster.wait_for_leader();
    let mut raw = wait_for("a server that serves", || {
        let mut raw = Raw::silent(&cluster.address(home));
        raw.greet().then_some(raw)
    });
    let numbered = raw.open_stream("alice");
    let content = command::encode_content(&Headers::new(), b"refused");
    let send = Command::Send { stream: numbered, number: Number(1), confirmed: Number(0), to: "bob" };
    let reason = raw.answer("a refusal", &send, &content, |reply| match reply {
        Reply::SendFailed { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(reason, SendFailure::Unavailable(Refusal::DiskFull));
    // The library goes on trying, and says why when its patience ends.
    let mut settings = ClientSettings::new(cluster.addresses());
    settings.send_timeout = Some(Duration::from_millis(500));
    let host = Host { network: Arc::new(RealNetwork), disk: None };
    let client: Client = Client::start(settings, host).await.unwrap();
    let impatient = client.open_stream(&name("alice")).await.unwrap();
    let pending = impatient.send(&name("bob"), "waits").await.unwrap();
    let Err(SendError::Unknown(Doubt::TimedOut { trouble, .. })) = within("patience to end", pending).await else {
        panic!("it was answered")
    };
    assert!(trouble.contains("disk is full"), "{trouble}");

    // What is there can be read, and be acknowledged.
    let mut inbox = client.listen(&name("bob"), 100).await.unwrap();
    for n in 0..10 {
        let delivery = within("a delivery", inbox.next()).await.unwrap().unwrap();
        assert_eq!(&delivery.body[..], format!("{n}").as_bytes());
        inbox.acknowledge(delivery.position);
    }
    inbox.flush().await.unwrap();
    assert_eq!(client.who().await.unwrap().len(), 4);

    // There is room again: the send that waited gets through by itself, and nothing is lost or doubled.
    cluster.kill_all();
    cluster.set_arguments(&sizes);
    cluster.start_all();
    for (receipt, position) in filling.into_iter().zip(1..) {
        assert_eq!(within("a receipt", receipt).await.unwrap().position, Position(position));
    }
    let receipt = within("a receipt", stream.send(&name("bob"), "after").await.unwrap()).await.unwrap();
    // Two streams have no order between them.
    assert!([21, 22].contains(&receipt.position.0), "{receipt:?}");
    inbox.close().await.unwrap();
    let mut inbox = client.listen(&name("bob"), 100).await.unwrap();
    let mut bodies = Vec::new();
    while bodies.len() < 12 {
        let delivery = within("a delivery", inbox.next()).await.unwrap().unwrap();
        bodies.push(String::from_utf8(delivery.body.to_vec()).unwrap());
    }
    let late = bodies.split_off(10);
    let expected: Vec<String> = (10..20).map(|n| n.to_string()).collect();
    assert_eq!(bodies, expected);
    assert!(late == ["waits", "after"] || late == ["after", "waits"], "{late:?}");
    cluster.wait_until_equal();
}
