//! The whole client against a fake cluster over loopback.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use openraft_rt::watch::WatchReceiver as _;

use super::fake::Cluster;
use super::*;
use crate::wire::{ClusterId, Name, Position, Refusal, SendRefusal};
use crate::world::{Host, RealNetwork, RealWorld, World};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn host() -> Host {
    Host { network: Arc::new(RealNetwork), disk: None }
}

fn settings(cluster: &Cluster) -> ClientSettings {
    ClientSettings::new(cluster.addresses())
}

async fn start(settings: ClientSettings) -> Client {
    within(Client::<RealWorld>::start(settings, host())).await.unwrap()
}

/// Fails a test that hangs, long after anything it waits for should have happened.
async fn within<T>(future: impl Future<Output = T>) -> T {
    RealWorld::timeout(Duration::from_secs(20), future).await.expect("it hangs")
}

/// Waits until the client is attached to the server of that name.
async fn attached(client: &Client, server: &str) {
    let mut servers = client.server();
    within(async {
        while servers.borrow_watched().as_ref().is_none_or(|s| s.name.as_str() != server) {
            servers.changed().await.unwrap();
        }
    })
    .await;
}

async fn pair(client: &Client) -> (Name, Name) {
    let (alice, bob) = (name("alice"), name("bob"));
    client.register(&alice).await.unwrap();
    client.register(&bob).await.unwrap();
    (alice, bob)
}

fn numbers(count: usize) -> Vec<String> {
    (1..=count).map(|n| n.to_string()).collect()
}

async fn send_all(stream: &SendStream, to: &Name, bodies: &[String]) -> Vec<PendingReceipt> {
    let mut pending = Vec::new();
    for body in bodies {
        pending.push(within(stream.send(to, body.as_str())).await.unwrap());
    }
    pending
}

#[tokio::test]
async fn messages_go_in_order_and_come_with_their_headers() {
    let cluster = Cluster::new(1).await;
    let client = start(settings(&cluster)).await;
    let (alice, bob) = pair(&client).await;
    let mut inbox = client.listen(&bob, 10).await.unwrap();
    let stream = client.open_stream(&alice).await.unwrap();
    let message = Message::new("1").header("kind", "first").header("kind", "again");
    let first = stream.send(&bob, message.clone()).await.unwrap();
    let rest = send_all(&stream, &bob, &numbers(100)[1..]).await;
    assert_eq!(within(first).await.unwrap().position, Position(1));
    assert!(within(join_all(rest)).await.iter().all(Result::is_ok));
    for n in 1..=100u64 {
        let delivery = within(inbox.next()).await.unwrap().unwrap();
        assert_eq!((delivery.position.0, delivery.number.0), (n, n));
        assert_eq!(delivery.body, n.to_string());
        assert_eq!(delivery.from, alice);
        if n == 1 {
            assert_eq!(delivery.headers, *message.headers());
        }
        inbox.acknowledge(delivery.position);
    }
    within(inbox.flush()).await.unwrap();
    assert_eq!(cluster.office.lock().inboxes["bob"].floor, 100);
    let refused = within(stream.send(&name("nobody"), "x").await.unwrap()).await;
    assert_eq!(refused, Err(SendError::Refused(SendRefusal::NoSuchClient)));
    let who: Vec<String> = client.who().await.unwrap().into_iter().map(|row| row.name.to_string()).collect();
    assert_eq!(who, ["alice", "bob"]);
    assert!(matches!(client.status().await, Err(Error::Refused(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_survive_a_cut_connection_and_a_killed_server() {
    let cluster = Cluster::new(3).await;
    let client = start(settings(&cluster)).await;
    let (alice, bob) = pair(&client).await;
    let mut inbox = client.listen(&bob, 500).await.unwrap();
    let stream = client.open_stream(&alice).await.unwrap();
    // The first server applies some and dies before it says so; the second likewise, and then all of it is killed.
    cluster.servers[0].orders.lock().cut_after = Some(2500);
    cluster.servers[1].orders.lock().cut_after = Some(4000);
    let bodies = numbers(20_000);
    let sender = RealWorld::spawn({
        let (bob, bodies) = (bob.clone(), bodies.clone());
        async move {
            let pending = send_all(&stream, &bob, &bodies).await;
            within(join_all(pending)).await
        }
    });
    let mut got = Vec::new();
    while got.len() < bodies.len() {
        let delivery = within(inbox.next()).await.unwrap().unwrap();
        got.push(String::from_utf8(delivery.body.to_vec()).unwrap());
        assert_eq!(delivery.position.0, got.len() as u64, "each once, in order");
        inbox.acknowledge(delivery.position);
        if got.len() == 12_000 {
            cluster.kill(2);
        }
    }
    assert_eq!(got, bodies);
    let receipts = sender.await.unwrap();
    for (n, receipt) in (1..).zip(&receipts) {
        assert_eq!(receipt.as_ref().map(|r| (r.number.0, r.position.0)), Ok((n, n)));
    }
    within(inbox.close()).await.unwrap();
    let office = cluster.office.lock();
    assert!(office.repeats > 0, "something was sent again");
    assert_eq!((office.inboxes["bob"].floor, office.inboxes["bob"].detached_at), (20_000, Some(20_000)));
    assert!(office.inboxes["bob"].epoch >= 3, "the reader attached again after each move");
    assert!(office.acknowledgements < 10_000, "acknowledgements are joined: {}", office.acknowledgements);
}

#[tokio::test]
async fn it_moves_when_told_to_and_goes_on() {
    let cluster = Cluster::new(2).await;
    let client = start(settings(&cluster)).await;
    let (alice, bob) = pair(&client).await;
    let stream = client.open_stream(&alice).await.unwrap();
    attached(&client, "a").await;
    cluster.servers[0].orders.lock().moves = true;
    cluster.stir();
    attached(&client, "b").await;
    within(within(stream.send(&bob, "x")).await.unwrap()).await.unwrap();
    assert_eq!(cluster.bodies("bob"), ["x"]);
}

#[tokio::test]
async fn it_leaves_a_server_that_is_silent() {
    let cluster = Cluster::new(2).await;
    let mut quick = settings(&cluster);
    quick.silence = Duration::from_millis(90);
    let client = start(quick).await;
    let (alice, bob) = pair(&client).await;
    let stream = client.open_stream(&alice).await.unwrap();
    cluster.servers[0].orders.lock().mute = true;
    let receipt = stream.send(&bob, "x").await.unwrap();
    within(receipt).await.unwrap();
    attached(&client, "b").await;
}

#[tokio::test]
async fn an_idle_connection_is_kept_by_pings() {
    let cluster = Cluster::new(2).await;
    let mut quick = settings(&cluster);
    quick.silence = Duration::from_millis(60);
    let client = start(quick).await;
    attached(&client, "a").await;
    let mut server = client.server();
    drop(server.borrow_and_update());
    let moved = RealWorld::timeout(Duration::from_millis(300), server.changed()).await;
    assert!(moved.is_err(), "it stays where it is");
}

#[tokio::test]
async fn a_newer_reader_fences_the_older_one() {
    let cluster = Cluster::new(2).await;
    let (one, two) = (start(settings(&cluster)).await, start(settings(&cluster)).await);
    let (_, bob) = pair(&one).await;
    let mut old = one.listen(&bob, 10).await.unwrap();
    let _new = two.listen(&bob, 10).await.unwrap();
    let error = within(old.next()).await.unwrap().unwrap_err();
    assert_eq!(error, Error::Fenced { name: bob, epoch: crate::wire::Epoch(1), by: Some(crate::wire::Epoch(2)) });
    assert!(within(old.next()).await.is_none());
    within(old.close()).await.unwrap();
    assert_eq!(cluster.office.lock().inboxes["bob"].epoch, 2, "it does not fence back");
}

#[tokio::test]
async fn a_reader_that_was_replaced_while_it_moved_is_fenced() {
    let cluster = Cluster::new(2).await;
    let (one, mut only_b) = (start(settings(&cluster)).await, settings(&cluster));
    only_b.home = Some(name("b"));
    let two = start(only_b).await;
    let (_, bob) = pair(&one).await;
    let mut old = one.listen(&bob, 10).await.unwrap();
    cluster.servers[0].orders.lock().mute = true;
    let _new = two.listen(&bob, 10).await.unwrap();
    cluster.kill(0);
    let error = within(old.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
}

#[tokio::test]
async fn the_end_of_a_registration_ends_its_reader() {
    let cluster = Cluster::new(1).await;
    let client = start(settings(&cluster)).await;
    let (alice, bob) = pair(&client).await;
    let again = client.register(&bob).await.unwrap_err();
    assert!(matches!(again, Error::Refused(Refusal::AlreadyRegistered { .. })), "{again}");
    let mut inbox = client.listen(&bob, 10).await.unwrap();
    client.deregister(&bob).await.unwrap();
    let error = within(inbox.next()).await.unwrap().unwrap_err();
    assert_eq!(error, Error::RegistrationEnded { name: bob.clone() });
    let gone = client.listen(&bob, 10).await.unwrap_err();
    assert_eq!(gone, Error::Refused(Refusal::NotRegistered));
    assert_eq!(client.listen(&alice, 0).await.unwrap_err(), Error::BadWindow { asked: 0 });
}

#[tokio::test]
async fn an_idle_stream_that_expired_opens_again_by_itself() {
    let cluster = Cluster::new(1).await;
    let client = start(settings(&cluster)).await;
    let (alice, bob) = pair(&client).await;
    let stream = client.open_stream(&alice).await.unwrap();
    within(stream.send(&bob, "1").await.unwrap()).await.unwrap();
    cluster.expire_streams();
    let pending = send_all(&stream, &bob, &numbers(9)[1..]).await;
    assert!(within(join_all(pending)).await.iter().all(Result::is_ok));
    assert_eq!(cluster.bodies("bob"), numbers(9));
}

#[tokio::test]
async fn a_full_disk_delays_but_loses_nothing() {
    let cluster = Cluster::new(1).await;
    let client = start(settings(&cluster)).await;
    let (alice, bob) = pair(&client).await;
    let stream = client.open_stream(&alice).await.unwrap();
    cluster.office.lock().full_for = 3;
    let pending = send_all(&stream, &bob, &numbers(9)).await;
    assert!(within(join_all(pending)).await.iter().all(Result::is_ok));
    assert_eq!(cluster.bodies("bob"), numbers(9));
}

#[tokio::test]
async fn a_send_is_given_up_only_if_asked_for() {
    let cluster = Cluster::new(1).await;
    let mut impatient = settings(&cluster);
    impatient.send_timeout = Some(Duration::from_millis(50));
    let client = start(impatient).await;
    let (alice, bob) = pair(&client).await;
    let stream = client.open_stream(&alice).await.unwrap();
    cluster.office.lock().full_for = usize::MAX;
    let error = within(stream.send(&bob, "x").await.unwrap()).await.unwrap_err();
    let SendError::Unknown(Doubt::TimedOut { trouble, .. }) = &error else { panic!("{error}") };
    assert!(trouble.contains("disk is full"), "{trouble}");
}

#[tokio::test]
async fn sending_waits_for_room() {
    let cluster = Cluster::new(1).await;
    let mut small = settings(&cluster);
    small.pending_bytes = 100_000;
    small.stream_window = 3;
    let client = start(small).await;
    let (alice, bob) = pair(&client).await;
    let stream = client.open_stream(&alice).await.unwrap();
    cluster.servers[0].orders.lock().mute = true;
    let mut pending = send_all(&stream, &bob, &numbers(3)).await;
    let mut fourth = Box::pin(stream.send(&bob, "4"));
    assert!(futures::poll!(fourth.as_mut()).is_pending(), "the window is full");
    cluster.servers[0].orders.lock().mute = false;
    cluster.stir();
    pending.push(within(fourth).await.unwrap());
    assert!(within(join_all(pending)).await.iter().all(Result::is_ok));
    cluster.servers[0].orders.lock().mute = true;
    let big = stream.send(&bob, vec![b'5'; 90_000]).await.unwrap();
    let other = client.handle.0.clone();
    let mut more = Box::pin(stream.send(&bob, vec![b'6'; 20_000]));
    assert!(futures::poll!(more.as_mut()).is_pending(), "the bytes are used up");
    drop(other);
    cluster.servers[0].orders.lock().mute = false;
    cluster.stir();
    within(big).await.unwrap();
    within(within(more).await.unwrap()).await.unwrap();
    let large = stream.send(&bob, vec![0; crate::limits::BODY_BYTES_MAX + 1]).await.unwrap_err();
    assert!(matches!(large, Error::TooLarge { what: "body", .. }), "{large}");
    let headers = Message::from("x").header("h", "v".repeat(crate::limits::HEADERS_BYTES_MAX));
    let large = stream.send(&bob, headers).await.unwrap_err();
    assert!(matches!(large, Error::TooLarge { what: "headers", .. }), "{large}");
}

#[tokio::test]
async fn flushing_covers_what_was_acknowledged_out_of_order() {
    let cluster = Cluster::new(1).await;
    let client = start(settings(&cluster)).await;
    let (alice, bob) = pair(&client).await;
    let mut inbox = client.listen(&bob, 1000).await.unwrap();
    let stream = client.open_stream(&alice).await.unwrap();
    within(join_all(send_all(&stream, &bob, &numbers(600)).await)).await;
    for _ in 0..600 {
        let delivery = within(inbox.next()).await.unwrap().unwrap();
        if delivery.position.0 % 2 == 0 {
            inbox.acknowledge_one(delivery.position);
        }
    }
    // Far more ranges than one command may name.
    within(inbox.flush()).await.unwrap();
    let left: Vec<u64> = cluster.office.lock().inboxes["bob"].messages.keys().copied().collect();
    assert_eq!(left, (1..600).step_by(2).collect::<Vec<u64>>());
    inbox.acknowledge(Position(u64::MAX));
    within(inbox.flush()).await.unwrap();
    assert_eq!(cluster.office.lock().inboxes["bob"].floor, 600, "no more than what was taken");
}

#[tokio::test]
async fn closing_says_goodbye_and_leaves_nothing_open() {
    let cluster = Cluster::new(1).await;
    let client = start(settings(&cluster)).await;
    let (alice, bob) = pair(&client).await;
    let mut inbox = client.listen(&bob, 10).await.unwrap();
    let stream = client.open_stream(&alice).await.unwrap();
    let pending = send_all(&stream, &bob, &numbers(20)).await;
    for _ in 0..5 {
        let delivery = within(inbox.next()).await.unwrap().unwrap();
        inbox.acknowledge(Position(delivery.position.0 - 1));
    }
    within(client.clone().close()).await;
    assert!(within(join_all(pending)).await.iter().all(Result::is_ok), "it waits for receipts");
    assert!(within(inbox.next()).await.is_none());
    assert_eq!(stream.send(&bob, "x").await.unwrap_err(), Error::Closed);
    assert_eq!(client.who().await.unwrap_err(), Error::Closed);
    let office = cluster.office.lock();
    assert_eq!((office.inboxes["bob"].floor, office.inboxes["bob"].detached_at), (4, Some(5)));
}

#[tokio::test]
async fn the_last_handle_closes_the_client_and_receipts_still_come() {
    let cluster = Cluster::new(1).await;
    let client = start(settings(&cluster)).await;
    let (alice, bob) = pair(&client).await;
    let stream = client.open_stream(&alice).await.unwrap();
    let receipt = stream.send(&bob, "x").await.unwrap();
    let mut server = client.server();
    drop((client, stream));
    within(receipt).await.unwrap();
    within(async { while server.changed().await.is_ok() {} }).await;
}

#[tokio::test]
async fn nobody_there_is_said_with_the_addresses_and_the_cause() {
    let cluster = Cluster::new(2).await;
    let mut impatient = settings(&cluster);
    impatient.timeout = Duration::from_millis(100);
    cluster.kill(0);
    cluster.kill(1);
    let error = within(Client::<RealWorld>::start(impatient, host())).await.unwrap_err().to_string();
    assert!(cluster.addresses().iter().all(|address| error.contains(address)), "{error}");
    assert!(error.contains("is the cluster running?") && error.contains("refused"), "{error}");
    let none: [String; 0] = [];
    assert_eq!(Client::connect(none).await.unwrap_err(), Error::NoServers);
}

#[tokio::test]
async fn a_server_of_another_cluster_ends_the_client() {
    let cluster = Cluster::new(2).await;
    let client = start(settings(&cluster)).await;
    cluster.servers[1].orders.lock().cluster = Some(ClusterId(8));
    let pending = Box::pin(client.register(&cluster.servers[0].address.name));
    within(pending).await.unwrap();
    cluster.kill(0);
    let mut server = client.server();
    within(async { while server.changed().await.is_ok() {} }).await;
    let error = client.who().await.unwrap_err();
    assert!(matches!(error, Error::WrongCluster { .. }), "{error}");
}

#[tokio::test]
async fn it_prefers_its_home_and_does_not_flap() {
    let cluster = Cluster::new(3).await;
    let mut homely = ClientSettings::new([cluster.addresses()[0].clone()]);
    homely.home = Some(name("c"));
    let client = start(homely.clone()).await;
    assert_eq!(client.register(&name("x")).await.unwrap().home, name("c"));
    cluster.servers[2].orders.lock().moves = true;
    cluster.stir();
    attached(&client, "a").await;
    homely.home = Some(name("zz"));
    let error = within(Client::<RealWorld>::start(homely, host())).await.unwrap_err();
    assert!(matches!(error, Error::NoSuchHome { .. }), "{error}");
}
