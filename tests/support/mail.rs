//! Clients of a cluster, and what they take out of their inboxes.

use restante::client::{Client, Delivery, Inbox};

use super::Cluster;
use super::traffic::{client, name, within};

/// One server: for what does not depend on how many there are.
pub fn alone(arguments: &[&str]) -> Cluster {
    let mut cluster = Cluster::prepare(1).with_arguments(arguments);
    cluster.start_all();
    cluster.wait_for_leader();
    cluster
}

/// A client of the cluster, for which these names are registered.
pub async fn registered(cluster: &Cluster, names: &[&str]) -> Client {
    let client = client(&cluster.addresses(), None).await;
    for text in names {
        client.register(&name(text)).await.expect("it can register");
    }
    client
}

/// The next so many messages.
pub async fn take(inbox: &mut Inbox, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = within("a delivery", inbox.next()).await;
        taken.push(next.expect("the reader goes on").expect("a delivery"));
    }
    taken
}

/// Their bodies, as texts.
pub fn bodies(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| std::str::from_utf8(&delivery.body).expect("a text")).collect()
}
