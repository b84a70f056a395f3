//! How one server sees the cluster.

use std::collections::BTreeSet;

use openraft::ServerState;
use openraft_rt::watch::WatchReceiver as _;

use super::node::Node;
use super::{Phase, Server};
use crate::raft::{CheckpointMeta, TypeConfig};
use crate::wire::client::{ServerRow, Status};
use crate::wire::{Incarnation, Name, Refusal, ServerAddress, Time};
use crate::world::World;

/// The status of a server that may not belong to a cluster yet.
pub(super) fn of_server<W: World>(server: &Server<W>) -> Status {
    let phase = server.phase.lock().clone();
    let (role, problems) = match &phase {
        Phase::Running(node) => return of_node(node),
        Phase::Starting => ("starting", Vec::new()),
        Phase::Bootstrapping(standing) if standing.set_aside => ("joining", standing.problems.clone()),
        Phase::Bootstrapping(standing) => ("founding", standing.problems.clone()),
    };
    let rows = server.settings.servers().into_iter().map(|server| ServerRow {
        server,
        incarnation: None,
        voter: false,
        reachable: false,
        lag: None,
        problem: None,
    });
    Status {
        server: server.settings.name.clone(),
        cluster: None,
        incarnation: None,
        role: role.to_owned(),
        leader: None,
        term: 0,
        last_index: 0,
        committed_index: 0,
        applied_index: 0,
        digest: 0,
        time: Time(0),
        clients: 0,
        waiting: 0,
        checkpoint_index: 0,
        log_bytes: 0,
        servers: rows.collect(),
        problems,
    }
}

/// The status of a member.
pub(super) fn of_node<W: World>(node: &Node<W>) -> Status {
    let servers = servers_of(node);
    let metrics = node.raft.metrics().borrow_watched().clone();
    let in_touch = node.hub.lock().closed_for.clone() != Some(Refusal::NoLeader);
    let leader = metrics.current_leader.filter(|_| in_touch);
    let name_of = |id: Incarnation| servers.iter().find(|s| s.incarnation == Some(id)).map(|s| s.server.name.clone());
    let role = match metrics.state {
        ServerState::Leader => "leader",
        ServerState::Follower => "follower",
        ServerState::Candidate => "candidate",
        ServerState::Learner => "learner",
        ServerState::Shutdown => "stopping",
    };
    let mut problems = Vec::new();
    if leader.is_none() {
        problems.push(why_no_leader(node, &servers));
    }
    for row in &servers {
        if let Some(problem) = &row.problem {
            problems.push(format!("{}: {problem}", row.server.name));
        }
    }
    if node.log.disk_full() {
        problems.push(format!("{}: {}", node.disk.describe(), Refusal::DiskFull));
    }
    if node.health.hangs() {
        problems.push(format!("{} does not answer: this server leads no more and serves nobody", node.disk.describe()));
    }
    if let Some(reason) = node.health.damage() {
        problems.push(format!("{reason} It does so by itself as soon as the other servers can do without it"));
    }
    if node.set_aside {
        let place = node.disk.describe();
        problems.push(format!(
            "damaged data of this server was set aside in {place}/quarantine; examine it, then move it away"
        ));
    }
    let (digest, time, totals, applied_index) = {
        let office = node.office.post_office.lock();
        let (applied, _) = node.office.applied();
        let index = applied.map_or(0, |id| id.index);
        (node.digest(&office, index), node.clock.now::<W>(), office.totals(), index)
    };
    let checkpoint = node.office.checkpoint.meta().ok().flatten().and_then(|bytes| CheckpointMeta::decode(&bytes).ok());
    Status {
        server: node.me.name.clone(),
        cluster: Some(node.me.cluster),
        incarnation: Some(node.me.incarnation),
        role: role.to_owned(),
        leader: leader.and_then(name_of),
        term: metrics.current_term,
        last_index: metrics.last_log_index.unwrap_or(0),
        committed_index: metrics.local_committed.map_or(0, |id| id.index),
        applied_index,
        digest,
        time,
        clients: totals.clients,
        waiting: totals.waiting,
        checkpoint_index: checkpoint.and_then(|c| c.applied).map_or(0, |id| id.index),
        log_bytes: node.log.bytes_on_disk(),
        servers,
        problems,
    }
}

/// The servers, names ascending, as this one knows them.
pub(super) fn servers_of<W: World>(node: &Node<W>) -> Vec<ServerRow> {
    let metrics = node.raft.metrics().borrow_watched().clone();
    let membership = metrics.membership_config.membership().clone();
    let voters = voters_of(&metrics);
    let mut rows: Vec<ServerRow> = Vec::new();
    for (&id, member) in membership.nodes() {
        let me = id == node.me.incarnation;
        let (reached, problem) = node.reachability.of(id);
        // Followers talk to nobody but the leader, whom they hear; only the leader knows about the others.
        let heard = metrics.current_leader == Some(id) && node.heard.last().is_some_and(|at| is_recent(node, at));
        let reachable = me || heard || reached.is_some_and(|at| is_recent(node, at));
        let matched = metrics.replication.as_ref().and_then(|r| r.get(&id)).cloned().flatten();
        let lag = metrics
            .replication
            .as_ref()
            .filter(|_| !me)
            .map(|_| metrics.last_log_index.unwrap_or(0).saturating_sub(matched.map_or(0, |id| id.index)));
        let row = ServerRow {
            server: ServerAddress { name: member.name.clone(), address: member.address.clone() },
            incarnation: Some(id),
            voter: voters.contains(&id),
            reachable,
            lag: if me && metrics.state == ServerState::Leader { Some(0) } else { lag },
            problem: problem.filter(|_| !reachable),
        };
        // A name has two incarnations while a new disk catches up: the newer one is the server.
        match rows.iter_mut().find(|r| r.server.name == row.server.name) {
            Some(known) if known.incarnation < row.incarnation => *known = row,
            Some(_) => {}
            None => rows.push(row),
        }
    }
    if rows.is_empty() {
        let none =
            |server| ServerRow { server, incarnation: None, voter: false, reachable: false, lag: None, problem: None };
        rows = node.settings.servers().into_iter().map(none).collect();
    }
    rows.sort_by(|a, b| a.server.cmp(&b.server));
    rows
}

/// Whether another server answered lately.
pub(super) fn is_reached<W: World>(node: &Node<W>, incarnation: Incarnation) -> bool {
    node.reachability.of(incarnation).0.is_some_and(|at| is_recent(node, at))
}

/// Who votes, whatever comes of a membership change that is under way: a disk that replaces another one counts when the
/// change is complete, and until then the cluster needs those that were there before.
fn voters_of<W: World>(metrics: &openraft::RaftMetrics<TypeConfig<W>>) -> BTreeSet<Incarnation> {
    let effective = metrics.membership_config.membership();
    let committed = metrics.committed_membership_config.membership();
    let mut configs = committed.get_joint_config().iter().chain(effective.get_joint_config());
    let first = configs.next().cloned().unwrap_or_default();
    let voters: BTreeSet<Incarnation> = configs.fold(first, |both, config| &both & config);
    // One that has only just started knows of no committed membership yet.
    if voters.is_empty() { effective.voter_ids().collect() } else { voters }
}

fn is_recent<W: World>(node: &Node<W>, at: crate::world::Instant) -> bool {
    W::now().saturating_duration_since(at) <= node.settings.election_timeout.1 * 4
}

/// Servers that are known to be down, as far as this one can tell.
pub(super) fn servers_down<W: World>(node: &Node<W>) -> BTreeSet<Name> {
    let leads = node.raft.is_leader();
    let rows = servers_of(node).into_iter().filter(|r| !r.reachable);
    // A follower that has not talked to another follower knows nothing about it.
    rows.filter(|r| leads || r.problem.is_some()).map(|r| r.server.name).collect()
}

fn why_no_leader<W: World>(node: &Node<W>, servers: &[ServerRow]) -> String {
    let voters: Vec<_> = servers.iter().filter(|s| s.voter).collect();
    let needed = voters.len() / 2 + 1;
    let (reached, missing): (Vec<_>, Vec<_>) = voters.into_iter().partition(|s| s.reachable);
    let names = |rows: &[&ServerRow]| rows.iter().map(|r| r.server.name.as_str()).collect::<Vec<_>>().join(", ");
    if reached.len() >= needed {
        format!(
            "no leader: {} can talk to {} of the {needed} servers it takes; an election is under way",
            node.me.name,
            reached.len()
        )
    } else {
        format!(
            "no leader: it takes {needed} of {} servers, and {} reaches only {}; not {}",
            reached.len() + missing.len(),
            node.me.name,
            names(&reached),
            names(&missing)
        )
    }
}
