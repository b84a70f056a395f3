//! Backups of clusters of real processes, and clusters that begin with one: what was accepted before the backup began is
//! there, once and in order, and nothing of the old cluster is taken for something of the new one's.
#![expect(clippy::disallowed_methods, reason = "tests watch real processes from outside, on real time")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use restante::client::{BackupError, Client, ClientSettings, Delivery, Error, SendStream};
use restante::storage::Restoring;
use restante::wire::client::{Reply, SendFailure};
use restante::wire::command::Command;
use restante::wire::{Nonce, Number, Position, Refusal, SendOutcome, StreamId};
use restante::world::{Host, RealDisk, RealNetwork, RealWorld};
use support::raw::Raw;
use support::traffic::{client, name, within};
use support::{Cluster, PATIENCE, problems, run, run_briefly, wait_for};

/// What was accepted: by recipient and position, its number and its body.
type Accepted = BTreeMap<(String, u64), (u64, Vec<u8>)>;

fn body(number: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (number as usize * 31 + at) as u8).collect()
}

/// Sends so many messages to `to` and waits for the receipts, which it writes down.
async fn send(stream: &SendStream, to: &str, numbers: std::ops::Range<u64>, bytes: usize, accepted: &mut Accepted) {
    let mut receipts = Vec::new();
    for number in numbers {
        let receipt = stream.send(&name(to), body(number, bytes)).await.expect("it can be handed in");
        receipts.push((number, receipt));
    }
    for (number, receipt) in receipts {
        let receipt = within("a receipt", receipt).await.expect("it is accepted");
        let entry = (receipt.number.0, body(number, bytes));
        let before = accepted.insert((to.to_owned(), receipt.position.0), entry);
        assert!(before.is_none(), "two receipts for {} of {to}", receipt.position);
    }
}

/// Reads everything that waits, and acknowledges it.
async fn read_all(client: &Client, whose: &str) -> Vec<Delivery> {
    let rows = client.who().await.expect("the cluster answers");
    let waiting = rows.iter().find(|row| &*row.name == whose).expect("it is registered").waiting;
    let mut inbox = client.listen(&name(whose), 64).await.expect("it can listen");
    let mut all = Vec::new();
    while (all.len() as u64) < waiting {
        let delivery = within("a delivery", inbox.next()).await.expect("the reader goes on").expect("a delivery");
        inbox.acknowledge(delivery.position);
        all.push(delivery);
    }
    inbox.close().await.expect("it detaches");
    all
}

/// A new cluster's directories, of a backup that lies elsewhere.
fn restore(cluster: &Cluster, file: &Path) -> String {
    let mut command = support::restante();
    command.arg("restore").arg(file).args(["--for", "a,b,c", "--data"]).arg(cluster.directory());
    run(&mut command).ok()
}

fn open_stream(raw: &mut Raw, nonce: Nonce, who: &str) -> StreamId {
    raw.command(&Command::OpenStream { nonce, name: who }, &[]);
    raw.until("a stream", |reply, _| match reply {
        Reply::StreamOpened { nonce: n, stream, .. } if *n == nonce => Some(*stream),
        _ => None,
    })
}

fn outcome(raw: &mut Raw, stream: StreamId, number: u64, to: &str, body: &[u8]) -> Result<SendOutcome, SendFailure> {
    raw.send(stream, number, to, body);
    raw.until("an outcome", |reply, _| match reply {
        Reply::Receipts { stream: s, first: Number(n), outcomes } if (*s, *n) == (stream, number) => {
            Some(Ok(outcomes[0]))
        }
        Reply::SendFailed { stream: s, number: Number(n), reason } if (*s, *n) == (stream, number) => {
            Some(Err(reason.clone()))
        }
        _ => None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_traffic_becomes_a_cluster_that_has_everything_from_before_it() {
    const NONCE: Nonce = 4711;
    // Bodies leave memory at once: most of what is backed up is on the disk only.
    let mut old = Cluster::prepare(3).with_arguments(&["--body-memory", "64KiB"]);
    old.start_all();
    old.wait_for_leader();
    let operator = client(&old.addresses(), None).await;
    for who in ["alice", "carol", "bob", "dave", "eve"] {
        operator.register(&name(who)).await.expect("it can register");
    }
    let mut accepted = Accepted::new();
    let stream = operator.open_stream(&name("alice")).await.expect("it can open a stream");
    send(&stream, "bob", 0..400, 12_000, &mut accepted).await;
    send(&stream, "dave", 400..500, 12_000, &mut accepted).await;
    // Dave has read some of it.
    let mut inbox = operator.listen(&name("dave"), 10).await.expect("it can listen");
    for position in 1..=30 {
        let delivery = within("a delivery", inbox.next()).await.expect("the reader goes on").expect("a delivery");
        assert_eq!(delivery.position, Position(position));
        inbox.acknowledge(delivery.position);
        accepted.remove(&("dave".to_owned(), position));
    }
    inbox.flush().await.expect("acknowledgements become durable");
    let mut raw = Raw::welcome(&old.address(0));
    let by_hand = open_stream(&mut raw, NONCE, "alice");
    let first = outcome(&mut raw, by_hand, 1, "dave", b"by hand").expect("it is accepted");
    let SendOutcome::Accepted(position) = first else { panic!("{first:?}") };
    let content = (1, b"by hand".to_vec());
    accepted.insert(("dave".to_owned(), position.0), content);

    // Meanwhile others go on.
    let (going, sent) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let traffic = {
        let (going, sent, addresses) = (going.clone(), sent.clone(), old.addresses());
        tokio::spawn(async move {
            let client = client(&addresses, None).await;
            let stream = client.open_stream(&name("carol")).await.expect("it can open a stream");
            let mut accepted = Accepted::new();
            let mut number = 0;
            while going.load(Ordering::Relaxed) {
                send(&stream, "eve", number..number + 20, 2_000, &mut accepted).await;
                number += 20;
                sent.fetch_add(20, Ordering::Relaxed);
            }
            accepted
        })
    };
    wait_for("the traffic to begin", || (sent.load(Ordering::Relaxed) > 0).then_some(()));
    let least = sent.load(Ordering::Relaxed);
    let file = old.directory().join("monday.restante");
    let path = file.display().to_string();
    let saved = old.run(&["backup", &path, "--json"]).json();
    let leader = old.name(old.wait_for_leader());
    assert_ne!(saved["server"].as_str(), Some(&*leader), "the leader has enough to do: {saved}");
    let most = sent.load(Ordering::Relaxed) + 20;
    wait_for("the traffic to go on", || (sent.load(Ordering::Relaxed) >= most + 20).then_some(()));
    going.store(false, Ordering::Relaxed);
    let eves = traffic.await.expect("the traffic goes on");
    assert!(!old.directory().join("monday.restante.part").exists(), "only the whole file is left");
    let verified = old.run(&["backup", "--verify", &path, "--json"]).json();
    assert_eq!(verified["digest"], saved["digest"]);
    let old_cluster = operator.status().await.expect("the cluster answers").cluster.expect("it is founded");
    assert_eq!(saved["cluster"], old_cluster.to_string());
    old.kill_all();

    let mut new = Cluster::prepare(3).with_arguments(&["--body-memory", "64KiB"]);
    let bytes = std::fs::read(&file).expect("the backup");
    restore(&new, &file);
    assert!(std::fs::read(&file).expect("the backup") == bytes, "the file is left alone");
    new.start_all();
    new.wait_for_leader();
    new.wait_until_equal();
    let reader = client(&new.addresses(), None).await;
    let status = reader.status().await.expect("the cluster answers");
    assert_ne!(status.cluster, Some(old_cluster), "it is another cluster");
    assert_eq!(status.servers.len(), 3);

    // Everything from before is there, each where its receipt said, marked, and nothing twice.
    for who in ["bob", "dave"] {
        let got = read_all(&reader, who).await;
        let expected: Vec<_> = accepted.iter().filter(|((to, _), _)| to == who).collect();
        assert_eq!(got.len(), expected.len(), "{who}");
        for (delivery, ((_, position), (number, body))) in got.iter().zip(expected) {
            assert_eq!((delivery.position.0, delivery.number.0), (*position, *number), "{who}");
            assert!(delivery.body == body[..], "{who}: the body at {position} was altered");
            assert!(delivery.redelivered, "{who}: {position} may have been delivered since");
        }
    }
    // Of what was sent meanwhile there is as much as was accepted by then: no hole, and everything from before.
    let got = read_all(&reader, "eve").await;
    let count = got.len() as u64;
    assert!((least..=most + 20).contains(&count), "{count} of {least} to {most}");
    for (delivery, ((_, position), (number, body))) in got.iter().zip(&eves) {
        assert_eq!((delivery.position.0, delivery.number.0), (*position, *number));
        assert!(delivery.body == body[..]);
    }

    // A client process that was there before: its numbers have their outcomes, if it takes the new cluster for its own.
    let mut settings = ClientSettings::new(new.addresses());
    settings.cluster = Some(old_cluster);
    let host = Host { network: Arc::new(RealNetwork), disk: None };
    let refused = Client::<RealWorld>::start(settings, host).await.expect_err("it is told");
    assert!(matches!(refused, Error::WrongCluster { .. }), "{refused}");
    let mut raw = Raw::welcome(&new.address(1));
    assert_eq!(open_stream(&mut raw, NONCE, "alice"), by_hand, "its stream is still open");
    assert_eq!(outcome(&mut raw, by_hand, 1, "dave", b"by hand"), Ok(first), "and answers the same");
    assert_eq!(outcome(&mut raw, by_hand, 1, "dave", b"another"), Err(SendFailure::OtherContent));
    assert!(matches!(outcome(&mut raw, by_hand, 2, "dave", b"goes on"), Ok(SendOutcome::Accepted(_))));
    let got = read_all(&reader, "dave").await;
    assert_eq!(got.iter().map(|d| (&d.body[..], d.redelivered)).collect::<Vec<_>>(), [(&b"goes on"[..], false)]);

    // It is a cluster like any other: it survives the loss of a disk, and can be backed up again.
    new.kill(0);
    std::fs::remove_dir_all(new.data(0)).expect("its data");
    new.start_server(0);
    let stream = reader.open_stream(&name("alice")).await.expect("it can open a stream");
    send(&stream, "bob", 0..10, 100, &mut Accepted::new()).await;
    new.wait_until_equal();
    let second = new.directory().join("tuesday.restante").display().to_string();
    let again = new.run(&["backup", &second, "--json"]).json();
    assert!(again["applied_index"].as_u64() > saved["applied_index"].as_u64());
    assert_eq!(new.run(&["backup", "--verify", &second, "--json"]).json()["waiting"], 10);
}

#[test]
fn nothing_is_overwritten_and_damage_is_told_before_anything_is_written() {
    let mut cluster = Cluster::prepare(1);
    cluster.start_all();
    cluster.wait_for_leader();
    cluster.run(&["register", "alice"]).ok();
    cluster.run(&["send", "--from", "alice", "--to", "alice", "hello"]).ok();
    let at = |name: &str| cluster.directory().join(name).display().to_string();
    let (file, bad, data) = (at("one"), at("bad"), at("data"));
    cluster.run(&["backup", &file]).ok();
    let good = std::fs::read(&file).expect("the backup");
    cluster.run(&["backup", &file]).fails(2, "a backup overwrites nothing");
    assert!(std::fs::read(&file).expect("the backup") == good);
    std::fs::write(at("two.part"), "half of one").expect("a file");
    cluster.run(&["backup", &at("two")]).fails(2, "another backup is writing it, or one was killed");
    assert_eq!(std::fs::read_to_string(at("two.part")).expect("a file"), "half of one");
    cluster.run(&["backup", &at("nowhere/three")]).fails(2, "is not a directory");

    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 4;
    for (damage, text) in [(&flipped[..], "damaged at byte"), (&good[..good.len() - 1], "cut off"), (b"x", "no backup")]
    {
        std::fs::write(&bad, damage).expect("a file");
        cluster.run(&["backup", "--verify", &bad]).fails(7, text);
        cluster.run(&["restore", &bad, "--data", &data]).fails(7, text);
        let left = std::fs::read_dir(&data).map_or(0, Iterator::count);
        assert_eq!(left, 0, "nothing is written for a bad one");
    }
    cluster.run(&["restore", &file, "--data", &data]).ok();
    cluster.run(&["restore", &file, "--data", &data]).fails(6, "is not empty");
    let own = cluster.data(0).display().to_string();
    cluster.run(&["restore", &file, "--data", &own]).fails(6, "is not empty");

    // A restore that was killed: nobody takes the directory.
    let half = at("half");
    drop(Restoring::begin(Arc::new(RealDisk::new(&half).expect("a directory"))).expect("it is empty"));
    cluster.run(&["restore", &file, "--data", &half]).fails(6, "is not empty");
    let address = format!("127.0.0.1:{}", support::free_ports(1)[0]);
    let mut serve = support::restante();
    serve.args(["serve", "--name", "a", "--cluster", &format!("a={address}"), "--data", &half]);
    run_briefly(&mut serve).fails(7, "half-made");

    // A cluster of one server begins with it as well.
    let mut alone = Cluster::prepare(1);
    alone.run(&["restore", &file, "--data", &alone.data(0).display().to_string()]).ok();
    alone.start_all();
    alone.wait_for_leader();
    let heard = alone.run(&["listen", "alice", "--count", "1", "--json"]).json();
    assert_eq!((heard["body"].as_str(), heard["redelivered"].as_bool()), (Some("hello"), Some(true)), "{heard}");
}

#[test]
fn servers_that_were_not_restored_alike_found_nothing_and_join_nothing() {
    let mut source = Cluster::prepare(1);
    source.start_all();
    source.wait_for_leader();
    source.run(&["register", "alice"]).ok();
    let file = source.directory().join("backup").display().to_string();
    source.run(&["backup", &file]).ok();
    let mut cluster = Cluster::prepare(3);
    let data = |cluster: &Cluster, number: usize| cluster.data(number).display().to_string();
    for number in [0, 1] {
        cluster.run(&["restore", &file, "--data", &data(&cluster, number)]).ok();
    }
    cluster.start_all();
    let told = |cluster: &Cluster, text: &str| {
        wait_for(text, || cluster.status().filter(|status| problems(status).contains(text)));
    };
    told(&cluster, "c is empty, and this server holds a restored state");
    told(&cluster, "a holds a restored state, and this server none");
    assert!(cluster.status().is_some_and(|status| status["leader"].is_null()));
    cluster.kill(2);
    std::fs::remove_dir_all(cluster.data(2)).expect("its data");
    cluster.run(&["restore", &file, "--data", &data(&cluster, 2)]).ok();
    cluster.start_server(2);
    cluster.wait_for_leader();
    cluster.wait_until_equal();
    assert!(cluster.run(&["who"]).ok().contains("alice"));

    // One that is restored again is another disk, and would bring nothing but what the others have long passed.
    cluster.kill(2);
    std::fs::remove_dir_all(cluster.data(2)).expect("its data");
    cluster.run(&["restore", &file, "--data", &data(&cluster, 2)]).ok();
    cluster.start_server(2);
    told(&cluster, "belongs to a cluster already, and this server holds a restored state");
    cluster.run(&["register", "bob"]).ok();
    cluster.kill(2);
    std::fs::remove_dir_all(cluster.data(2)).expect("its data");
    cluster.start_server(2);
    cluster.wait_until_equal();
}

/// A cluster with so much in it that a backup has many parts.
async fn filled(arguments: &[&str]) -> (Cluster, Client) {
    let mut cluster = Cluster::prepare(3).with_arguments(arguments);
    cluster.start_all();
    cluster.wait_for_leader();
    let client = client(&cluster.addresses(), None).await;
    client.register(&name("alice")).await.expect("it can register");
    let stream = client.open_stream(&name("alice")).await.expect("it can open a stream");
    send(&stream, "alice", 0..60, 100_000, &mut Accepted::new()).await;
    (cluster, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_server_dies_goes_on_with_another_one() {
    let (mut cluster, _filler) = filled(&[]).await;
    let mut settings = ClientSettings::new(cluster.addresses());
    settings.timeout = Duration::from_secs(5);
    let host = Host { network: Arc::new(RealNetwork), disk: None };
    let saver: Client = Client::start(settings, host).await.expect("the cluster serves");
    let mut killed = None;
    let disk = Arc::new(RealDisk::new(cluster.directory()).expect("a directory"));
    let server = saver.server();
    let mut saved_bytes = 0;
    let saving = saver.save_backup(disk.clone(), "backup", |bytes| {
        saved_bytes = bytes;
        if bytes > 0 && killed.is_none() {
            use openraft_rt::watch::WatchReceiver as _;
            let at = server.borrow_watched().as_ref().map(|server| server.name.to_string());
            let number = (0..3).find(|n| Some(cluster.name(*n)) == at).expect("it is attached");
            cluster.kill(number);
            killed = Some(cluster.name(number));
        }
    });
    let summary = within("the backup", saving).await.expect("another server makes it");
    assert_ne!(Some(summary.header.server.to_string()), killed);
    assert_eq!(saved_bytes, summary.file_bytes);
    let file = cluster.directory().join("backup");
    assert_eq!(std::fs::metadata(&file).expect("the file").len(), summary.file_bytes);
    assert!(!cluster.directory().join("backup.part").exists());
    let verified = cluster.run(&["backup", "--verify", &file.display().to_string(), "--json"]).json();
    assert_eq!(verified["waiting"], 60);

    // Without a majority there is none, and nothing is left of it.
    let rest = (0..3).find(|n| cluster.is_started(*n)).expect("two run");
    cluster.kill(rest);
    let failed = within("the refusal", saver.save_backup(disk, "another", |_| {})).await;
    assert!(matches!(failed, Err(BackupError::Client(_))), "{failed:?}");
    let left: Vec<_> = std::fs::read_dir(cluster.directory()).expect("a directory").flatten().collect();
    assert!(!left.iter().any(|entry| entry.file_name().to_string_lossy().starts_with("another")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_makes_few_backups_at_a_time_and_a_slow_one_holds_up_nobody() {
    let (cluster, slow) = filled(&["--backups", "1"]).await;
    let mut backup = slow.backup().await.expect("it begins");
    let first = within("its first part", backup.next()).await.expect("a part").expect("a part");
    assert!(first.starts_with(b"RSTBKUP\n"));
    use openraft_rt::watch::WatchReceiver as _;
    let home = slow.server().borrow_watched().clone().expect("it is attached");
    let other = client(std::slice::from_ref(&home.address), Some(home.name.clone())).await;
    let refused = other.backup().await.expect_err("one is enough");
    assert_eq!(refused, Error::Refused(Refusal::TooManyBackups { limit: 1 }));
    // Everybody else is served, at this very server, while the backup is not read on.
    let stream = other.open_stream(&name("alice")).await.expect("it can open a stream");
    for number in 0..20 {
        send(&stream, "alice", number..number + 1, 10, &mut Accepted::new()).await;
    }
    let mut length = first.len() as u64;
    while let Some(bytes) = within("a part", backup.next()).await.expect("a part") {
        length += bytes.len() as u64;
    }
    assert_eq!(backup.summary().expect("it is whole").file_bytes, length);
    // It is as of when it began.
    let contents = backup.summary().cloned().expect("it is whole");
    let again = within("another one", other.backup()).await.expect("there is a place again");
    drop(again);
    other.close().await;
    let third = wait_for_a_place(&home.address).await;
    assert!(third.header.applied > contents.header.applied);
    drop(cluster);
}

/// A place is free again once a client that left in the middle is gone.
async fn wait_for_a_place(address: &str) -> restante::backup::Summary {
    let client = client(&[address.to_owned()], None).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        match client.backup().await {
            Ok(mut backup) => {
                while within("a part", backup.next()).await.expect("a part").is_some() {}
                return backup.summary().cloned().expect("it is whole");
            }
            Err(Error::Refused(Refusal::TooManyBackups { .. })) if std::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(other) => panic!("{other}"),
        }
    }
}
