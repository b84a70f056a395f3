//! A member of a cluster: what runs once there is an incarnation.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::Fatal;
use openraft_rt::watch::WatchReceiver as _;
use parking_lot::Mutex;

use super::backup::Backups;
use super::disk_watch::DiskHealth;
use super::ear::Ear;
use super::ending::{Ended, StartError};
use super::hub::Hub;
use super::proposer::{Clock, Proposer};
use super::status::DiskLook;
use super::{
    Abort, Server, ServerError, Settings, delivery, forward, membership, moving, proposer, restored, scrub, status,
    upkeep,
};
use crate::metrics::Metrics;
use crate::post_office::Answer;
use crate::raft::{
    self, CheckpointMeta, Heard, LogId, LogStore, Me, Member, NetworkFactory, Office, Raft, Reachability, StateMachine,
    TypeConfig,
};
use crate::storage::{Checkpoint, DataDirectory, Identity, Log, LogSettings, MetaKey};
use crate::wire::command::Command;
use crate::wire::peer::{BootstrapReply, Founding, FoundingMember, Hello, PeerRefusal};
use crate::wire::{Incarnation, Name, Nonce, Origin, Refusal};
use crate::world::{Disk, Event, Host, Instant, WatchReceiver, World};

/// How long handing leadership over may take.
const HAND_OVER: Duration = Duration::from_secs(1);
/// How long clients have to take their last frames when a server stops.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long allocating an incarnation may take.
const ENROLL: Duration = Duration::from_secs(4);

/// See the module.
pub(super) struct Node<W: World> {
    pub settings: Settings,
    pub host: Host,
    pub me: Me,
    /// The founding record, where this disk was told of it.
    pub founding: Option<Founding>,
    pub raft: Raft<W>,
    pub office: Arc<Office<W>>,
    pub log: Log<W>,
    pub hub: Arc<Hub>,
    pub clock: Arc<Clock>,
    pub heard: Arc<Heard>,
    pub reachability: Arc<Reachability>,
    pub proposer: Proposer,
    pub disk: Arc<dyn Disk>,
    /// What its server counts.
    pub metrics: Arc<Metrics>,
    /// Damaged data was set aside on this disk once.
    pub set_aside: bool,
    /// What is known of the disk.
    pub health: DiskHealth,
    /// Backups that are made here.
    pub backups: Backups,
    /// Since when it leads, if it does.
    pub led_since: Mutex<Option<Instant>>,
    /// What a status says of it.
    pub look: DiskLook,
    failure: Mutex<Option<Ended>>,
    failed: tokio::sync::Notify,
    fetches: tokio::sync::mpsc::UnboundedSender<delivery::Fetch>,
    fetching: Mutex<Option<tokio::sync::mpsc::UnboundedReceiver<delivery::Fetch>>>,
}

fn log_settings(settings: &Settings) -> LogSettings {
    LogSettings {
        segment_bytes: settings.segment_bytes,
        cache_bytes: settings.log_cache_bytes,
        shard: 0,
        reserve_bytes: settings.disk_reserve_bytes,
    }
}

/// Makes an empty log, before the identity that promises one.
///
/// # Errors
/// What is there already is damaged; the disk's.
pub(super) async fn create_log<W: World>(server: &Server<W>) -> Result<(), StartError> {
    Log::<W>::open(server.disk.clone(), log_settings(&server.settings)).await?;
    Ok(())
}

/// The least time between two looks at whether Raft is well.
const REST: Duration = Duration::from_millis(10);

impl<W: World> Node<W> {
    /// Opens the data and starts Raft.
    pub async fn start(
        server: &Arc<Server<W>>,
        directory: &DataDirectory,
        identity: &Identity,
    ) -> Result<Arc<Self>, StartError> {
        let settings = server.settings.clone();
        let disk = server.disk.clone();
        if W::blocking(move || disk.list("log")).await?.is_empty() {
            return Err(StartError::Damaged("this disk has an identity, and its log is gone".to_owned()));
        }
        let log = Log::<W>::open(server.disk.clone(), log_settings(&settings)).await?;
        if let Some(seed) = directory.seed() {
            restored::begin_log(&log, seed).await?;
        }
        // Lives are counted in the log: batches of an earlier one are told from this one's.
        let boot = match log.get(MetaKey::Boot) {
            Some(bytes) => raft::link::take::<u64>(&bytes)? + 1,
            None => 1,
        };
        let mut encoded = bytes::BytesMut::new();
        crate::wire::frame::put_postcard(&mut encoded, &boot);
        log.put(MetaKey::Boot, encoded.freeze()).await?;
        let (disk, founding) = (server.disk.clone(), identity.founding.clone());
        let loaded = W::blocking(move || {
            let checkpoint = Checkpoint::open(disk)?;
            restored::found(&checkpoint, founding.as_ref())?;
            let post_office = raft::load(&checkpoint)?;
            Ok::<_, StartError>((checkpoint, post_office))
        });
        let (checkpoint, post_office) = loaded.await?;
        check_reach(&log, &checkpoint)?;
        let origin = Origin { incarnation: identity.incarnation, boot };
        let detail = format!("incarnation={} boot={boot} cluster={}", identity.incarnation, identity.cluster);
        W::observe(|| Event { kind: "node", who: None, detail });
        let hub = Arc::new(Hub::new(origin, identity.name.clone(), settings.pending_bytes));
        let clock = Arc::new(Clock::new::<W>(post_office.time()));
        let (fetches, fetching) = tokio::sync::mpsc::unbounded_channel();
        let metrics = server.metrics.clone();
        metrics.forget_batches();
        let ear = Ear::<W>::new(origin, hub.clone(), clock.clone(), fetches.clone(), metrics.clone());
        let body_memory = settings.body_memory_bytes;
        let office = Office::open(checkpoint, post_office, server.disk.clone(), Arc::new(ear), body_memory)?;
        let office = Arc::new(office);
        let me = Me { cluster: identity.cluster, name: identity.name.clone(), incarnation: identity.incarnation };
        let reachability = Arc::new(Reachability::default());
        let trouble = office.trouble.clone();
        let network = NetworkFactory::new(me.clone(), server.host.clone(), reachability.clone(), trouble.clone());
        let config = raft::config(settings.heartbeat, settings.election_timeout, settings.log_entries_kept)
            .map_err(|e| StartError::Other(io::Error::new(io::ErrorKind::InvalidInput, e).into()))?;
        let store = LogStore::new(log.clone(), trouble.clone())?;
        let state_machine = StateMachine(office.clone());
        let raft = Raft::<W>::new(identity.incarnation, config, network, store, state_machine).await;
        let raft = raft.map_err(|fatal| StartError::from(Ended::by(&trouble, &fatal)))?;
        let node = Arc::new(Self {
            settings,
            host: server.host.clone(),
            me,
            founding: identity.founding.clone(),
            raft,
            office,
            log,
            hub,
            clock,
            heard: Arc::new(Heard::default()),
            reachability,
            proposer: Proposer::new(),
            disk: server.disk.clone(),
            metrics,
            set_aside: directory.has_set_aside(),
            health: DiskHealth::default(),
            backups: Backups::default(),
            led_since: Mutex::new(None),
            look: DiskLook::default(),
            failure: Mutex::new(None),
            failed: tokio::sync::Notify::new(),
            fetches,
            fetching: Mutex::new(Some(fetching)),
        });
        node.tell_servers();
        // Until it has heard of a leader, it does not know how far behind it is.
        node.hub.close_for(Some(Refusal::NoLeader));
        node.found().await.map_err(|error| match node.office.trouble.met() {
            Some(_) => StartError::from(Ended::by(&node.office.trouble, &error)),
            None => StartError::Other(error),
        })?;
        Ok(node)
    }

    /// The founders give Raft its first membership, each the same one, which openraft allows: if only one did, its disk
    /// could be lost before the others have heard of it. Repeated after a crash in between; void once Raft has any state.
    async fn found(&self) -> Result<(), ServerError> {
        let stopped = |e: &dyn std::fmt::Display| ServerError::Stopped(e.to_string());
        let Some(founding) = &self.founding else { return Ok(()) };
        if self.raft.is_initialized().await.map_err(|e| stopped(&e))? {
            return Ok(());
        }
        let member = |f: &FoundingMember| Member {
            name: f.server.name.clone(),
            address: f.server.address.clone(),
            quotas: Some(founding.quotas),
        };
        let members: BTreeMap<Incarnation, Member> =
            founding.members.iter().map(|f| (f.incarnation, member(f))).collect();
        match self.raft.initialize(members).await {
            Ok(()) => Ok(()),
            Err(error) if error.fatal().is_none() => Ok(()),
            Err(error) => Err(stopped(&error)),
        }
    }

    /// Runs until it fails.
    pub async fn run(self: &Arc<Self>) -> Ended {
        let fetching = self.fetching.lock().take();
        let _tasks = [
            Abort(W::spawn(forward::forward(self.clone()))),
            Abort(W::spawn(proposer::propose(self.clone()))),
            Abort(W::spawn(membership::reconcile(self.clone()))),
            Abort(W::spawn(moving::move_clients(self.clone()))),
            Abort(W::spawn(upkeep::upkeep(self.clone()))),
            Abort(W::spawn(scrub::scrub(self.clone()))),
            Abort(W::spawn(fetch_all(self.clone(), fetching))),
        ];
        let mut metrics = self.raft.server_metrics();
        let mut states = self.raft.metrics();
        let mut role = None;
        let mut standing = None;
        loop {
            self.tell_role(&mut role);
            self.tell_standing(&mut standing);
            // In a statement of its own: a guard in the condition would be held across the await below, where a task
            // that fails meanwhile waits for the lock.
            let failure = self.failure.lock().take();
            if let Some(ended) = failure {
                self.end(&ended).await;
                return ended;
            }
            let state = states.borrow_watched().running_state.clone();
            if let Some(ended) = self.storage_failure(state.err()) {
                self.end(&ended).await;
                return ended;
            }
            if let Some(refusal) =
                self.reachability.retired().or_else(|| self.end_of(self.me.incarnation, &self.me.name))
            {
                self.shut_down().await;
                return Ended::Failed(ServerError::Retired(refusal));
            }
            tokio::select! {
                biased;
                () = self.failed.notified() => {}
                () = self.office.trouble.noted() => {}
                () = next_state(&mut states) => {}
                _ = metrics.changed() => {}
                // A refusal is noted by whoever opens connections, which changes no metric.
                () = W::sleep(Duration::from_millis(500)) => {}
            }
        }
    }

    /// Tells whoever watches when this server begins or ceases to lead.
    fn tell_role(&self, before: &mut Option<(u64, bool)>) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let role = (metrics.current_term, metrics.state.is_leader());
        if *before != Some(role) {
            match (before.is_some_and(|(_, led)| led), role.1) {
                (false, true) => W::reached("a leader elected"),
                (true, false) => W::reached("a leader stepped down"),
                _ => {}
            }
            *before = Some(role);
            *self.led_since.lock() = role.1.then(W::now);
            let name = if role.1 { "leader" } else { "follower" };
            W::observe(|| Event { kind: "role", who: None, detail: format!("term={} role={name}", role.0) });
        }
    }

    /// Tells whoever watches which incarnation this server is and whether it votes.
    fn tell_standing(&self, before: &mut Option<bool>) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let votes = metrics.committed_membership_config.membership().voter_ids().any(|id| id == self.me.incarnation);
        if *before != Some(votes) {
            *before = Some(votes);
            let incarnation = self.me.incarnation;
            let detail = format!("incarnation={incarnation} votes={votes}");
            W::observe(|| Event { kind: "standing", who: None, detail });
        }
    }

    /// Why the node cannot go on, if its storage or, for that, Raft has failed.
    fn storage_failure(&self, fatal: Option<Fatal<TypeConfig<W>>>) -> Option<Ended> {
        let trouble = &self.office.trouble;
        if let Some(error) = self.log.poisoned() {
            trouble.meet(&error);
        }
        match self.office.checkpoint.damage() {
            Some(reason) if trouble.met().is_none() => return Some(Ended::Damaged(reason)),
            _ => {}
        }
        if trouble.met().is_none() && fatal.is_none() {
            return None;
        }
        let fatal = fatal.map_or_else(|| "its storage failed".to_owned(), |fatal| fatal.to_string());
        Some(Ended::by(trouble, &fatal))
    }

    /// Ends what runs. A server whose data is damaged comes back, so it takes its leave of the others and of its
    /// clients first.
    async fn end(&self, why: &Ended) {
        match why {
            Ended::Damaged(_) => self.stop().await,
            Ended::Failed(_) => self.shut_down().await,
        }
    }

    async fn shut_down(&self) {
        self.hub.close_for(Some(Refusal::Stopping));
        // An error says that it is stopped already. A disk that hangs must not keep the server from stopping.
        let _ = W::timeout(HAND_OVER, self.raft.shutdown()).await;
    }

    /// Whether so many bytes may be added to the log now. See [`Log::takes`]; what waits for a disk that hangs would
    /// only pile up.
    pub fn takes(&self, bytes: u64) -> bool {
        !self.health.hangs() && self.log.takes(bytes)
    }

    /// Whether a leader's entries, so many bytes, find room. If not, and some are committed, the cluster goes on without this
    /// server. While they are not, it lacks nothing: where no disk of a majority has room, nobody is ahead of anybody, and
    /// what is there can still be read everywhere.
    pub fn takes_entries(&self, bytes: u64, committed: bool) -> bool {
        let takes = self.takes(bytes);
        if takes || committed {
            self.health.set_refused((!takes).then(W::now));
        }
        takes
    }

    /// The voter that is to lead if this server is not to: the one that lacks least. A drained one only if none of the
    /// rest can be reached.
    fn successor(&self) -> Option<Incarnation> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let progress = metrics.replication.as_ref();
        let membership = metrics.membership_config.membership();
        let office = self.office.post_office.lock();
        let some_drained = office.servers().any(|(_, server)| server.drained);
        let preference = |v: &Incarnation| match membership.get_node(v) {
            Some(member) if some_drained && status::is_reached(self, *v) => {
                2 - u8::from(office.is_drained(&member.name))
            }
            _ => 0,
        };
        let others = membership.voter_ids().filter(|v| *v != self.me.incarnation);
        let matched = |v: &Incarnation| progress.and_then(|p| p.get(v)).cloned().flatten().map(|id| id.index);
        others.max_by_key(|v| (!office.is_retired(*v), preference(v), matched(v)))
    }

    /// As the leader: the other servers that could lead and serve in the place of this one, or of that server.
    pub fn ready_besides(&self, server: &Name) -> usize {
        let rows = status::servers_of(self);
        let others = rows.iter().filter(|row| row.server.name != *server && !row.drained);
        let able = others.filter(|row| row.voter && row.reachable);
        able.filter(|row| row.lag.is_some_and(|lag| lag <= membership::CAUGHT_UP)).count()
    }

    /// Asks another voter to lead, once.
    pub async fn hand_over(&self) {
        if let Some(target) = self.successor() {
            // An error says that Raft has stopped, which the node notices by itself.
            let _ = self.raft.trigger().transfer_leader(target).await;
        }
    }

    /// Stops in good order: leadership is handed over, clients are told to move and take their last frames.
    pub async fn stop(&self) {
        let handing_over = async {
            let metrics = self.raft.metrics();
            loop {
                if metrics.borrow_watched().current_leader != Some(self.me.incarnation) || self.successor().is_none() {
                    break;
                }
                self.hand_over().await;
                // Asked again until it is so: the one asked may have fallen behind or died.
                W::sleep(self.settings.heartbeat).await;
            }
        };
        let _ = W::timeout(HAND_OVER, handing_over).await;
        self.hub.close_for(Some(Refusal::Stopping));
        let farewell = async {
            while self.hub.sessions() > 0 || self.hub.requests() > 0 {
                W::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = W::timeout(FAREWELL, farewell).await;
        // A disk that hangs must not keep the server from stopping.
        let _ = W::timeout(HAND_OVER, self.raft.shutdown()).await;
    }

    /// Ends the node because of what a task of it found on its disk.
    pub fn fail(&self, reason: String, damage: bool) {
        let ended = if damage { Ended::Damaged(reason) } else { Ended::Failed(ServerError::Disk(reason)) };
        self.failure.lock().get_or_insert(ended);
        self.failed.notify_one();
    }

    /// Reads contents from disk for readers, in the background.
    pub fn fetch(&self, fetches: Vec<delivery::Fetch>) {
        for fetch in fetches {
            let _ = self.fetches.send(fetch);
        }
    }

    /// Counts what was handed to readers.
    pub fn note_handed(&self, books: &mut super::hub::Books) {
        self.metrics.note_handed(&mut books.handed, self.clock.now::<W>());
    }

    /// Tells clients which servers there are.
    pub fn tell_servers(&self) {
        let rows = status::servers_of(self);
        // One that was added and not started yet is no use to them.
        let some_run = rows.iter().any(|row| row.incarnation.is_some());
        let servers = rows.into_iter().filter(|row| row.incarnation.is_some() || !some_run).map(|row| row.server);
        self.hub.set_servers(servers.collect());
    }

    /// A member's name and address.
    pub fn member(&self, incarnation: Incarnation) -> Option<Member> {
        self.raft.server_metrics().borrow_watched().membership_config.membership().get_node(&incarnation).cloned()
    }

    /// Who leads, and when that changes.
    pub fn leader(&self) -> LeaderWatch<W> {
        let metrics = self.raft.server_metrics();
        let seen = LeaderWatch::<W>::read(&metrics);
        LeaderWatch { metrics, seen }
    }

    /// Why another server's hello is refused, if it is.
    pub fn refusal_of(&self, hello: &Hello) -> Option<PeerRefusal> {
        if hello.cluster != Some(self.me.cluster) {
            return Some(PeerRefusal::WrongCluster { actual: self.me.cluster });
        }
        if hello.to != Some(self.me.incarnation) {
            return Some(PeerRefusal::WrongIncarnation { actual: self.me.incarnation });
        }
        self.end_of(hello.from?, &hello.name)
    }

    /// Why a disk has no part in the cluster any more, if so: it was replaced, or its server removed, and the members
    /// have agreed on going on without it. One that is only not known here yet is another matter.
    fn end_of(&self, incarnation: Incarnation, name: &Name) -> Option<PeerRefusal> {
        let by = {
            let office = self.office.post_office.lock();
            if !office.is_retired(incarnation) {
                return None;
            }
            office.server(name).and_then(|server| server.incarnation)
        };
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.committed_membership_config.membership().get_node(&incarnation).is_some() {
            return None;
        }
        Some(match by {
            Some(by) => PeerRefusal::Retired { incarnation, by },
            None => PeerRefusal::Removed { incarnation },
        })
    }

    /// Gives another server's new disk an incarnation, through the log.
    pub async fn enroll(&self, name: &Name, disk: Nonce, address: &str) -> BootstrapReply {
        let (retired, listed) = {
            let office = self.office.post_office.lock();
            (office.has_retired(disk), office.server(name).is_some())
        };
        if retired {
            return BootstrapReply::Retired;
        }
        // It asks again and again: what is not so yet is not put into the log each time.
        if !listed {
            return BootstrapReply::Refused(format!("{}: {name}", Refusal::NoSuchServer));
        }
        let answer = self.hub.ask(disk, &Command::Enroll { server: name, address, disk });
        match W::timeout(ENROLL, answer).await {
            Ok(Ok(Answer::Enrolled { incarnation })) => {
                BootstrapReply::Joined { cluster: self.me.cluster, incarnation }
            }
            Ok(Ok(Answer::Refused(Refusal::DiskRetired))) => BootstrapReply::Retired,
            Ok(Ok(Answer::Refused(refusal))) => BootstrapReply::Refused(refusal.to_string()),
            _ => BootstrapReply::Refused("the cluster has no leader that could take it in; ask again".to_owned()),
        }
    }
}

/// Whether checkpoint and log together reach back to the beginning: the log is cleaned only up to a checkpoint that is
/// durable, so one that ends before the log begins is not the one that was there.
fn check_reach<W: World>(log: &Log<W>, checkpoint: &Checkpoint) -> Result<(), StartError> {
    let Some(purged) = log.get(MetaKey::Purged) else { return Ok(()) };
    let purged: LogId = raft::link::take(&purged)?;
    let covered = match checkpoint.meta()? {
        Some(meta) => CheckpointMeta::decode(&meta)?.applied.map_or(0, |id| id.index),
        None => 0,
    };
    if covered < purged.index {
        let why = format!("the log was cleaned up to entry {}, and the checkpoint ends at {covered}", purged.index);
        return Err(StartError::Damaged(why));
    }
    Ok(())
}

async fn fetch_all<W: World>(
    node: Arc<Node<W>>,
    fetches: Option<tokio::sync::mpsc::UnboundedReceiver<delivery::Fetch>>,
) {
    let Some(mut fetches) = fetches else { return };
    while let Some(fetch) = fetches.recv().await {
        delivery::fetch(node.clone(), fetch).await;
    }
}

/// Waits until Raft's metrics change, after a rest: they change several times an entry, and what is looked for in them,
/// that Raft has failed, can wait so long.
async fn next_state<W: World>(states: &mut WatchReceiver<openraft::RaftMetrics<TypeConfig<W>>>) {
    W::sleep(REST).await;
    // An error says that Raft has stopped, which the last metrics say, too.
    let _ = states.changed().await;
}

/// Watches who leads in which term. It looks at what it waits for: Raft's other metrics change several times an entry, are
/// published later, and would wake whoever watches each time.
pub(super) struct LeaderWatch<W: World> {
    metrics: WatchReceiver<openraft::metrics::RaftServerMetrics<TypeConfig<W>>>,
    seen: (Option<Incarnation>, u64),
}

impl<W: World> LeaderWatch<W> {
    fn read(
        metrics: &WatchReceiver<openraft::metrics::RaftServerMetrics<TypeConfig<W>>>,
    ) -> (Option<Incarnation>, u64) {
        let metrics = metrics.borrow_watched();
        (metrics.current_leader, metrics.vote.leader_id.term)
    }

    /// Looks: whether leader or term are others than at the last look.
    pub fn refresh(&mut self) -> bool {
        let now = Self::read(&self.metrics);
        std::mem::replace(&mut self.seen, now) != now
    }

    /// The leader as of the last look.
    pub fn current(&self) -> Option<Incarnation> {
        self.seen.0
    }

    /// Waits until leader or term are others; false when Raft has stopped.
    pub async fn changed(&mut self) -> bool {
        loop {
            if self.refresh() {
                return true;
            }
            if self.metrics.changed().await.is_err() {
                return false;
            }
        }
    }
}
