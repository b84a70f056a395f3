//! Clusters that grow, shrink and are replaced server by server under traffic, over real processes: nothing is lost,
//! doubled or put out of order, and clients find the servers that there are by themselves.

#![expect(clippy::disallowed_methods, reason = "these tests run on the real machine")]

mod support;

use std::time::Duration;

use restante::client::{Client, Error};
use restante::wire::Refusal;
use support::Cluster;
use support::traffic::{Plan, Traffic, client, name};

/// Enough traffic for all the time that it takes.
fn plan() -> Plan {
    Plan { per_second: 100, ..Plan::default() }
}

/// A client that knows all servers, also those that are to come.
async fn operator(cluster: &Cluster) -> Client {
    client(&cluster.addresses(), None).await
}

/// Waits until exactly these servers vote and nobody else belongs to the cluster.
async fn wait_for_voters(cluster: &Cluster, voters: &[usize]) {
    let names: Vec<String> = voters.iter().map(|number| cluster.name(*number)).collect();
    let deadline = std::time::Instant::now() + support::PATIENCE;
    let mut last = None;
    while std::time::Instant::now() < deadline {
        let asking = operator(cluster).await;
        if let Ok(status) = asking.status().await {
            let all: Vec<&str> = status.servers.iter().map(|row| row.server.name.as_str()).collect();
            if status.leader.is_some() && all == names && status.servers.iter().all(|row| row.voter) {
                return asking.close().await;
            }
            last = Some(status);
        }
        asking.close().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain for {names:?} to vote: {last:#?}");
}

async fn add(cluster: &mut Cluster, number: usize) {
    let operator = operator(cluster).await;
    let (server, address) = (name(&cluster.name(number)), cluster.address(number));
    operator.add_server(&server, address.clone()).await.expect("it can be added");
    operator.add_server(&server, address).await.expect("it can be added again");
    operator.close().await;
    if !cluster.is_started(number) {
        cluster.start_server(number);
    }
}

/// Removes a server, which then ends by itself, says why, and keeps what it has.
async fn remove(cluster: &mut Cluster, number: usize) {
    let operator = operator(cluster).await;
    let server = name(&cluster.name(number));
    operator.remove_server(&server).await.expect("it can be removed");
    operator.remove_server(&server).await.expect("it can be removed again");
    operator.close().await;
    let status = cluster.ends(number);
    assert!(!status.success(), "{status}");
    let log = cluster.log(number);
    assert!(log.contains("was removed from the cluster"), "{log}");
    assert!(cluster.data(number).join("log").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_grows_from_one_to_five_and_shrinks_again_under_traffic() {
    let mut cluster = Cluster::prepare_with_spares(1, 4);
    cluster.start_server(0);
    cluster.wait_for_leader();
    let mut traffic = Traffic::start(vec![cluster.address(0)], plan()).await;
    for number in 1..5 {
        add(&mut cluster, number).await;
        wait_for_voters(&cluster, &(0..=number).collect::<Vec<_>>()).await;
        traffic.goes_on(100);
    }
    // The founder, which all clients know, and the leader go first.
    for number in 0..4 {
        remove(&mut cluster, number).await;
        wait_for_voters(&cluster, &(number + 1..5).collect::<Vec<_>>()).await;
        traffic.goes_on(100);
    }
    traffic.moved_to(cluster.addresses());
    traffic.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_replaced_server_by_server_under_traffic() {
    let mut cluster = Cluster::prepare_with_spares(3, 3);
    (0..3).for_each(|number| cluster.start_server(number));
    cluster.wait_for_leader();
    let mut traffic = Traffic::start((0..3).map(|number| cluster.address(number)).collect(), plan()).await;
    for number in 0..3 {
        add(&mut cluster, number + 3).await;
        wait_for_voters(&cluster, &(number..number + 4).collect::<Vec<_>>()).await;
        traffic.goes_on(50);
        remove(&mut cluster, number).await;
        wait_for_voters(&cluster, &(number + 1..number + 4).collect::<Vec<_>>()).await;
        traffic.goes_on(50);
    }
    // Nobody whom the clients were told of at first is there any more.
    traffic.goes_on(100);
    // One that was removed says so again when it is started again, and comes back with an empty disk.
    cluster.start_server(0);
    assert!(!cluster.ends(0).success());
    std::fs::rename(cluster.data(0), cluster.directory().join("kept")).expect("its data can be moved away");
    add(&mut cluster, 0).await;
    traffic.goes_on(50);
    traffic.moved_to(cluster.addresses());
    traffic.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_transferred_under_traffic() {
    let cluster = Cluster::start(3);
    let traffic = Traffic::start(cluster.addresses(), plan()).await;
    let operator = operator(&cluster).await;
    for round in 1..=3 {
        let next = name(&cluster.name((cluster.wait_for_leader() + round) % 3));
        operator.transfer_leadership(&next).await.expect("it can lead");
        operator.transfer_leadership(&next).await.expect("asking again is no mistake");
        traffic.goes_on(100);
    }
    let refused = operator.transfer_leadership(&name("nobody")).await;
    assert_eq!(refused, Err(Error::Refused(Refusal::NoSuchServer)));
    traffic.finish().await;
    cluster.wait_until_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_do_harm_is_refused() {
    let mut cluster = Cluster::start(3);
    let operator = operator(&cluster).await;
    let [a, b] = ["a", "b"].map(name);
    let elsewhere = operator.add_server(&a, "127.0.0.1:1").await;
    assert_eq!(elsewhere, Err(Error::Refused(Refusal::ServerElsewhere { address: cluster.address(0) })));
    let taken = operator.add_server(&name("d"), cluster.address(1)).await;
    assert_eq!(taken, Err(Error::Refused(Refusal::AddressTaken { server: b })));
    assert_eq!(operator.remove_server(&name("d")).await, Err(Error::Refused(Refusal::NoSuchServer)));
    let leader = cluster.wait_for_leader();
    let (down, up) = ((leader + 1) % 3, name(&cluster.name((leader + 2) % 3)));
    cluster.kill(down);
    // The leader notices after a while that it is not there.
    let at_leader = client(&cluster.addresses(), Some(name(&cluster.name(leader)))).await;
    let is_missed = |status: &restante::wire::client::Status| {
        status.servers.iter().any(|row| *row.server.name == *cluster.name(down) && !row.reachable)
    };
    let deadline = std::time::Instant::now() + support::PATIENCE;
    while !is_missed(&at_leader.status().await.expect("a status")) {
        assert!(std::time::Instant::now() < deadline, "waited in vain for the leader to miss a server");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let expected = Err(Error::Refused(Refusal::WouldLoseQuorum { voters: 2, reachable: 1 }));
    assert_eq!(operator.remove_server(&up).await, expected, "of the two that would remain one is down");
    // The one that is down may go: then there are two, and both are up.
    operator.remove_server(&name(&cluster.name(down))).await.expect("it can be removed");
    let rest: Vec<usize> = (0..3).filter(|number| *number != down).collect();
    wait_for_voters(&cluster, &rest).await;
    cluster.start_server(down);
    assert!(!cluster.ends(down).success());
}
