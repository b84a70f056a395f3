//! How one server sees the cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::ServerState;
use openraft_rt::watch::WatchReceiver as _;
use parking_lot::Mutex;

use super::node::Node;
use super::{Phase, Server};
use crate::post_office::{Digesting, Listed};
use crate::raft::{CheckpointMeta, TypeConfig};
use crate::storage::DataDirectory;
use crate::wire::client::{DiskCondition, DiskStatus, ServerRow, Status, StatusDetail};
use crate::wire::{Incarnation, Name, Refusal, ServerAddress, Time};
use crate::world::{Disk, World};

/// Records that are read for a digest under one lock: a few milliseconds.
const SLICE: usize = 20_000;
/// The pause between two such slices, in which entries are applied.
const PAUSE: Duration = Duration::from_millis(1);
/// A state that changes all the time has no digest that anybody could compare: it is given up after so long.
const DIGEST: Duration = Duration::from_secs(1);
/// How long looking at the disk may take.
const DISK: Duration = Duration::from_millis(500);

/// The status of a server that may not belong to a cluster yet.
pub(super) async fn of_server<W: World>(server: &Server<W>, detail: StatusDetail) -> Status {
    let phase = server.phase.lock().clone();
    let (role, problems) = match &phase {
        Phase::Running(node) => return of_node(node, detail).await,
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
        drained: false,
    });
    let disk = if detail.disk { look_at_empty(server).await } else { None };
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
        digest: None,
        time: Time(0),
        clients: 0,
        waiting: 0,
        checkpoint_index: 0,
        log_bytes: 0,
        servers: rows.collect(),
        problems,
        sessions: 0,
        serves: false,
        disk,
    }
}

/// The status of a member.
pub(super) async fn of_node<W: World>(node: &Node<W>, detail: StatusDetail) -> Status {
    let disk = if detail.disk { look_at_disk(node).await } else { None };
    let digest = if detail.digest { digest(node).await } else { None };
    let mut status = at_hand(node);
    status.disk = disk;
    if let Some((index, digest)) = digest {
        (status.applied_index, status.digest) = (index, Some(digest));
    }
    status
}

/// The digest of the state, and the index that it is of. The state is read slice by slice, so that nothing waits for it.
async fn digest<W: World>(node: &Node<W>) -> Option<(u64, u64)> {
    let mut digesting = Digesting::default();
    let begun = W::now();
    loop {
        {
            let office = node.office.post_office.lock();
            // Not every entry is for the post office, and a membership changes it all the same.
            let applied = node.office.applied().0.map_or(0, |id| id.index);
            if W::now() > begun + DIGEST && digesting.is_of_before(applied) {
                return None;
            }
            if let Some(digest) = office.digest_some(&mut digesting, applied, SLICE) {
                return Some((applied, digest));
            }
        }
        W::sleep(PAUSE).await;
    }
}

/// Looks at the disk, unless it hangs: then nobody waits for it.
async fn look_at_disk<W: World>(node: &Node<W>) -> Option<DiskStatus> {
    let condition = match (node.health.damage(), node.health.hangs(), node.log.disk_full()) {
        (Some(reason), ..) => DiskCondition::Damaged(reason),
        (None, true, _) => DiskCondition::Hangs,
        (None, false, true) => DiskCondition::Full,
        (None, false, false) => DiskCondition::Good,
    };
    let (disk, checkpoint) = (node.disk.clone(), node.office.checkpoint.clone());
    let checkpoint_bytes = move || checkpoint.bytes_on_disk().unwrap_or(0);
    node.look.take::<W>(disk, condition, checkpoint_bytes).await
}

async fn look_at_empty<W: World>(server: &Server<W>) -> Option<DiskStatus> {
    DiskLook::default().take::<W>(server.disk.clone(), DiskCondition::Good, || 0).await
}

/// The last look at a disk.
#[derive(Debug, Default)]
pub(super) struct DiskLook {
    last: Arc<Mutex<Option<DiskStatus>>>,
    under_way: Arc<AtomicBool>,
}

impl DiskLook {
    /// Looks, or gives what was seen last: while the disk hangs, and while somebody looks already, since each look that
    /// waits for a disk holds a thread.
    async fn take<W: World>(
        &self,
        disk: Arc<dyn Disk>,
        condition: DiskCondition,
        checkpoint_bytes: impl FnOnce() -> u64 + Send + 'static,
    ) -> Option<DiskStatus> {
        if condition != DiskCondition::Hangs && !self.under_way.swap(true, Ordering::Relaxed) {
            let (last, turn) = (self.last.clone(), Turn(self.under_way.clone()));
            let looking = W::blocking(move || {
                let seen = DiskStatus {
                    place: disk.describe(),
                    free_bytes: disk.free_bytes().ok(),
                    checkpoint_bytes: checkpoint_bytes(),
                    condition: DiskCondition::Good,
                    quarantine: DataDirectory::quarantine(&*disk).unwrap_or_default(),
                };
                *last.lock() = Some(seen);
                drop(turn);
            });
            // One that takes longer shows in the next answer.
            let _ = W::timeout(DISK, looking).await;
        }
        let last = self.last.lock().clone();
        last.map(|seen| DiskStatus { condition, ..seen })
    }
}

/// Whoever looks at the disk. The turn is over when this is dropped, whether or not the look came about.
struct Turn(Arc<AtomicBool>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// What is known without looking.
fn at_hand<W: World>(node: &Node<W>) -> Status {
    let servers = servers_of(node);
    let metrics = node.raft.metrics().borrow_watched().clone();
    let closed_for = node.hub.lock().closed_for.clone();
    let in_touch = closed_for != Some(Refusal::NoLeader);
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
    // A follower talks to the leader alone: what it knows of the others may be of long ago.
    let knows = metrics.state == ServerState::Leader || leader.is_none();
    for row in servers.iter().filter(|_| knows) {
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
    let (time, totals, applied_index) = {
        let office = node.office.post_office.lock();
        let (applied, _) = node.office.applied();
        (node.clock.now::<W>(), office.totals(), applied.map_or(0, |id| id.index))
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
        digest: None,
        time,
        clients: totals.clients,
        waiting: totals.waiting,
        checkpoint_index: checkpoint.and_then(|c| c.applied).map_or(0, |id| id.index),
        log_bytes: node.log.bytes_on_disk(),
        servers,
        problems,
        sessions: node.hub.sessions() as u64,
        serves: closed_for.is_none(),
        disk: None,
    }
}

/// The servers, names ascending, as this one knows them.
pub(super) fn servers_of<W: World>(node: &Node<W>) -> Vec<ServerRow> {
    let metrics = node.raft.metrics().borrow_watched().clone();
    let membership = metrics.membership_config.membership().clone();
    let voters = voters_of(&metrics);
    let listed: Vec<(Name, Listed)> = {
        let office = node.office.post_office.lock();
        office.servers().map(|(name, server)| (name.clone(), server.clone())).collect()
    };
    let is_drained = |name: &Name| listed.iter().any(|(known, server)| known == name && server.drained);
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
            drained: is_drained(&member.name),
        };
        // A name has two incarnations while a new disk catches up: the newer one is the server.
        match rows.iter_mut().find(|r| r.server.name == row.server.name) {
            Some(known) if known.incarnation < row.incarnation => *known = row,
            Some(_) => {}
            None => rows.push(row),
        }
    }
    let none = |server, drained| ServerRow {
        server,
        incarnation: None,
        voter: false,
        reachable: false,
        lag: None,
        problem: None,
        drained,
    };
    // Those that were added and have not been started yet.
    for (name, server) in &listed {
        if rows.iter().all(|row| row.server.name != *name) {
            let address = ServerAddress { name: name.clone(), address: server.address.clone() };
            rows.push(none(address, server.drained));
        }
    }
    if rows.is_empty() {
        rows = node.settings.servers().into_iter().map(|server| none(server, false)).collect();
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
    in_all(committed.get_joint_config().iter().chain(effective.get_joint_config()))
}

/// Those that are in all of these sets, apart from empty ones: a server that has only just started knows of no committed
/// membership yet, and of a change that is under way it may know no more than its first half.
fn in_all<'a>(configs: impl Iterator<Item = &'a BTreeSet<Incarnation>>) -> BTreeSet<Incarnation> {
    let mut configs = configs.filter(|config| !config.is_empty());
    let first = configs.next().cloned().unwrap_or_default();
    configs.fold(first, |both, config| &both & config)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_disk_votes_when_its_change_is_complete_and_not_before() {
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<Incarnation>>();
        let (before, after, none) = (set(&[1, 2, 3]), set(&[1, 3, 9]), set(&[]));
        let votes = |configs: &[&BTreeSet<Incarnation>]| in_all(configs.iter().copied());
        assert_eq!(votes(&[&before, &before, &after]), set(&[1, 3]), "committed, and a joint one that is not");
        assert_eq!(votes(&[&none, &before, &after]), set(&[1, 3]), "by a server that knows of nothing committed");
        assert_eq!(votes(&[&before, &after]), set(&[1, 3]));
        assert_eq!(votes(&[&after, &after]), after);
        assert_eq!(votes(&[&none]), none);
    }
}
