//! Clients whose home server is down have another home, without being asked: the leader looks about once a second.
//!
//! A home is down when the leader, who hears from every server many times a second, has not done so for [`DOWN`], or
//! when it belongs to the cluster no more; one that is drained is left as well. What it proposes moves the clients in turn
//! to the servers that serve, counts only for a while, and may be repeated: another leader that comes in between finds who
//! is left and goes on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft_rt::watch::WatchReceiver as _;

use super::node::Node;
use super::status;
use crate::wire::command::Command;
use crate::wire::{Name, Refusal, Time};
use crate::world::{Instant, World};

/// A server that was not heard of for so long is down; at least four times the longest election timeout.
const DOWN: Duration = Duration::from_secs(1);
/// How often the leader looks.
const ROUND: Duration = Duration::from_millis(200);
/// For how long what it proposes counts, in milliseconds of the cluster's time.
const COUNTS_MS: u64 = 2000;
/// How long it may take to connect to a server that is asked about.
const CONNECT: Duration = Duration::from_millis(500);

/// Looks for ever.
pub(super) async fn move_clients<W: World>(node: Arc<Node<W>>) {
    let mut told = BTreeSet::new();
    loop {
        W::sleep(ROUND).await;
        let Some(up) = servers_up(&node) else { continue };
        told.retain(|home| !up.contains(home));
        let (homes, serving) = {
            let office = node.office.post_office.lock();
            let homes: Vec<Name> = office.homes().cloned().collect();
            let serving: BTreeSet<Name> = up.iter().filter(|name| !office.is_drained(name)).cloned().collect();
            (homes, serving)
        };
        // Drained servers serve while nobody else can.
        let serving = if serving.is_empty() { &up } else { &serving };
        for home in homes.iter().filter(|home| !serving.contains(*home)) {
            if up.contains(home) {
                W::reached("clients moved away from a home that is drained");
                tracing::info!(%home, "clients' home is drained: they are at home elsewhere from now on");
            } else {
                if told.insert(home.clone()) {
                    let text = format!("{home} is down: its clients have other homes from now on");
                    node.metrics.chronicle.note(W::unix_millis(), "clients", true, text);
                }
                W::reached("clients moved away from a home that is down");
                tracing::info!(%home, "clients' home is down: they are at home elsewhere from now on");
            }
            let to = serving.iter().map(Name::as_str).collect();
            let until = Time(node.clock.now::<W>().0 + COUNTS_MS);
            node.hub.tell(&Command::MoveClients { from: home, to, until });
        }
    }
}

/// The servers that are up, as the leader knows. `None` if this is none, or has not been one for long enough to tell, or
/// would not be one any more if it heard of the others.
fn servers_up<W: World>(node: &Node<W>) -> Option<BTreeSet<Name>> {
    let patience = DOWN.max(node.settings.election_timeout.1 * 4);
    let led_since = (*node.led_since.lock())?;
    if W::now().saturating_duration_since(led_since) <= patience {
        return None;
    }
    let recent = |at: Instant| W::now().saturating_duration_since(at) <= patience;
    let metrics = node.raft.metrics();
    let metrics = metrics.borrow_watched();
    let membership = metrics.membership_config.membership();
    let is_up = |id| id == node.me.incarnation || node.reachability.of(id).0.is_some_and(recent);
    let voters: Vec<_> = membership.voter_ids().collect();
    if voters.iter().filter(|id| is_up(**id)).count() <= voters.len() / 2 {
        return None;
    }
    Some(membership.nodes().filter(|(id, _)| is_up(**id)).map(|(_, member)| member.name.clone()).collect())
}

/// Whether a server is down: an answer of the leader's. Other than by itself, the leader tries whether it can connect: who
/// asks has a reason to, and a process that is gone is found out at once.
pub(super) async fn is_down<W: World>(node: &Node<W>, server: &Name) -> Result<(), Refusal> {
    if *server == node.me.name {
        return Err(Refusal::ServerIsUp);
    }
    let rows = status::servers_of(node);
    let Some(row) = rows.iter().find(|row| row.server.name == *server) else { return Ok(()) };
    match W::timeout(CONNECT, node.host.network.connect(&row.server.address)).await {
        Ok(Ok(_)) if row.reachable => Err(Refusal::ServerIsUp),
        // It may hang. A new leader cannot tell yet.
        Ok(Ok(_)) => match servers_up(node) {
            Some(up) if up.contains(server) => Err(Refusal::ServerIsUp),
            Some(_) => Ok(()),
            None => Err(Refusal::NoLeader),
        },
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}
