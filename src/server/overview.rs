//! What a server tells of itself to those who watch it: its status, what it counts, whether it is ready.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::registry::Unit;
use tokio::sync::OwnedSemaphorePermit;

use super::desk::Desk;
use super::{Phase, status};
use crate::metrics::Metrics;
use crate::metrics::flow::{Passed, Sender};
use crate::metrics::limits::Limit;
use crate::metrics::page::Page;
use crate::post_office::Totals;
use crate::wire::Name;
use crate::wire::client::{DiskCondition, Status, StatusDetail};
use crate::world::{WatchReceiver, World};

/// Lets one feed be open.
pub(crate) type FeedPermit = OwnedSemaphorePermit;

/// What a server counts, as it stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// Since the server started.
    pub uptime: Duration,
    pub connections: usize,
    pub http_connections: usize,
    pub requests: usize,
    pub feeds: usize,
    pub totals: Totals,
    /// Bytes of commands that are held until they are applied.
    pub pending_bytes: usize,
    pub http_body_bytes: usize,
}

impl<W: World> Desk<W> {
    /// What the server counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// The id of a request that came without one: the server's name, and a number of this run of it.
    pub fn next_request(&self) -> String {
        let number = self.0.requests.fetch_add(1, Ordering::Relaxed) + 1;
        format!("{}-{:x}-{number}", self.0.settings.name, self.0.started_unix_ms)
    }

    /// Turns true when the server begins to stop.
    pub fn leaving(&self) -> WatchReceiver<bool> {
        self.0.leaving.clone()
    }

    /// How the server sees the cluster, with what its disk looks like if that is asked for.
    pub async fn status(&self, disk: bool) -> Status {
        status::of_server(&self.0, StatusDetail { disk, digest: false }).await
    }

    /// What it counts.
    pub fn counts(&self) -> Counts {
        let server = &*self.0;
        let phase = server.phase.lock().clone();
        let mut counts = Counts {
            uptime: W::now().saturating_duration_since(server.started),
            connections: server.connections.load(Ordering::Relaxed),
            http_connections: server.visitors.load(Ordering::Relaxed),
            feeds: crate::limits::HTTP_FEEDS_MAX - server.feeds.available_permits(),
            http_body_bytes: crate::limits::HTTP_BODIES_BYTES_MAX - server.bodies.available_permits(),
            ..Counts::default()
        };
        if let Phase::Running(node) = phase {
            counts.totals = node.office.post_office.lock().totals();
            let books = node.hub.lock();
            counts.pending_bytes = books.batches.bytes();
            counts.requests = books.apart.requests;
        }
        counts
    }

    /// Whether clients may come: a sentence why not.
    pub fn readiness(&self) -> Result<(), String> {
        let phase = self.0.phase.lock().clone();
        match phase {
            Phase::Starting => Err("the server is starting".to_owned()),
            Phase::Bootstrapping(_) => Err("the server belongs to no cluster yet".to_owned()),
            Phase::Running(node) => match &node.hub.lock().closed_for {
                Some(reason) => Err(reason.to_string()),
                None => Ok(()),
            },
        }
    }

    /// Lets a feed be open, if there is room for one more.
    pub fn open_feed(&self) -> Option<FeedPermit> {
        let permit = self.0.feeds.clone().try_acquire_owned().ok();
        if permit.is_none() {
            self.0.metrics.hit(Limit::Feeds);
        }
        permit
    }

    /// Who sent a message that passed, and which server its recipient is at home at, as far as this server knows.
    pub fn trace(&self, passed: &Passed) -> Option<(Name, Name)> {
        let phase = self.0.phase.lock().clone();
        let Phase::Running(node) = phase else { return None };
        let office = node.office.post_office.lock();
        let from = match &passed.from {
            Sender::Client(name) => name.clone(),
            Sender::Stream(stream) => office.stream_owner(*stream)?.name,
        };
        Some((from, office.registration(&passed.to)?.home))
    }

    /// Whether that is where one of the cluster's servers is reached, `host:port`. By whichever of its names: all that begin
    /// on the loopback are the same machine.
    pub fn is_server(&self, authority: &str) -> bool {
        let same = |address: &str| {
            let Some(((host, port), (known, known_port))) = authority.rsplit_once(':').zip(address.rsplit_once(':'))
            else {
                return false;
            };
            port == known_port && (host.eq_ignore_ascii_case(known) || (is_loopback(host) && is_loopback(known)))
        };
        let phase = self.0.phase.lock().clone();
        let told = match phase {
            Phase::Running(node) => node.hub.lock().servers().iter().any(|server| same(&server.address)),
            _ => false,
        };
        told || self.0.settings.cluster.iter().any(|server| same(&server.address))
    }

    /// `/metrics`.
    pub async fn exposition(&self) -> String {
        let status = self.status(true).await;
        let counts = self.counts();
        let mut page = Page::default();
        self.put_messages(&mut page);
        put_server(&mut page, &status, &counts);
        self.put_network(&mut page, &status, &counts);
        page.text()
    }

    fn put_messages(&self, page: &mut Page) {
        let metrics = self.metrics();
        page.counter(
            "messages_accepted",
            "Sends that came in here and were accepted, each once.",
            metrics.accepted.get(),
        );
        page.counter(
            "messages_repeated",
            "Sends that came in here again and got their first outcome.",
            metrics.repeated.get(),
        );
        page.counter(
            "messages_refused",
            "Sends that came in here and were refused or not taken.",
            metrics.refused.get(),
        );
        page.counter(
            "messages_delivered",
            "Messages handed to readers here, repeats included.",
            metrics.delivered.get(),
        );
        page.counter(
            "messages_acknowledged",
            "Messages that readers who attached here acknowledged.",
            metrics.acknowledged.get(),
        );
        let help = "From a batch of commands being begun here to its being applied here: what a receipt takes.";
        page.histogram("receipt_latency", help, &metrics.receipt_latency);
        let help = "From a message being accepted, or coming due if it was for later, to its being handed to its reader here; one of each frame.";
        page.histogram("delivery_latency", help, &metrics.delivery_latency);
        let phase = self.0.phase.lock().clone();
        if let Phase::Running(node) = phase {
            let help = "Writing and syncing one batch of the log, its wait for a thread included.";
            page.histogram("log_sync", help, &node.log.sync_latency());
        }
        page.counter("elections", "Elections that this server has seen decided.", metrics.elections.get());
        page.counter("elections_won", "Elections that this server has won.", metrics.elections_won.get());
        let hits = Limit::ALL.map(|limit| (vec![("limit", limit.name().to_owned())], metrics.limits.hits(limit)));
        page.counters("limit_hits", "How often each limit was hit.", None, hits);
    }

    fn put_network(&self, page: &mut Page, status: &Status, counts: &Counts) {
        let metrics = self.metrics();
        let kinds = [
            ("session", status.sessions),
            ("http", counts.http_connections as u64),
            ("all", counts.connections as u64),
        ];
        let help = "Connections that others opened, those of other servers among all.";
        page.gauges("connections", help, None, kinds.map(|(kind, count)| (vec![("kind", kind.to_owned())], count)));
        page.gauge("feeds", "Feeds (server-sent events and WebSockets) that are open.", None, counts.feeds as u64);
        let requests = (1..=5)
            .zip(&metrics.requests)
            .map(|(digit, counter)| (vec![("status", format!("{digit}xx"))], counter.get()));
        page.counters("http_requests", "Requests by HTTP that were answered, by status.", None, requests);
        let mut bytes = Vec::new();
        let mut put = |connections: &str, counted: &crate::metrics::traffic::Bytes| {
            for (direction, count) in [("received", counted.received()), ("sent", counted.sent())] {
                let labels = vec![("connections", connections.to_owned()), ("direction", direction.to_owned())];
                bytes.push((labels, count));
            }
        };
        put("accepted", metrics.traffic.accepted());
        for (address, counted) in metrics.traffic.opened() {
            let name = status.servers.iter().find(|row| row.server.address == address);
            put(name.map_or(&address, |row| row.server.name.as_str()), &counted);
        }
        let help = "Bytes of connections: of those that others opened, and of those that this server opened to each other one.";
        page.counters("network", help, Some(Unit::Bytes), bytes);
    }
}

fn put_server(page: &mut Page, status: &Status, counts: &Counts) {
    let info = vec![("server", status.server.to_string()), ("version", env!("CARGO_PKG_VERSION").to_owned())];
    page.gauges("server_info", "The server that answers, and its version.", None, [(info, 1)]);
    page.gauge("uptime", "Since the server started.", Some(Unit::Seconds), counts.uptime.as_secs());
    let roles = ["leader", "follower", "candidate", "learner", "joining", "founding", "starting", "stopping"];
    let roles = roles.map(|role| (vec![("role", role.to_owned())], u64::from(role == status.role)));
    page.gauges("role", "1 for the role that the server has.", None, roles);
    page.gauge("serves", "Whether it serves clients.", None, u64::from(status.serves));
    page.gauge("has_leader", "Whether it knows and hears of a leader.", None, u64::from(status.leader.is_some()));
    page.gauge("term", "Raft's term.", None, status.term);
    page.gauge("log_last_index", "Index of the last entry in the log.", None, status.last_index);
    page.gauge("log_committed_index", "Index of the last committed entry.", None, status.committed_index);
    page.gauge("applied_index", "Index of the last applied entry.", None, status.applied_index);
    page.gauge("checkpoint_index", "Index that the last durable checkpoint covers.", None, status.checkpoint_index);
    page.gauge("log_size", "The log on disk.", Some(Unit::Bytes), status.log_bytes);
    if let Some(disk) = &status.disk {
        page.gauge("checkpoint_size", "The checkpoint on disk.", Some(Unit::Bytes), disk.checkpoint_bytes);
        if let Some(free) = disk.free_bytes {
            page.gauge("disk_free", "What can still be written.", Some(Unit::Bytes), free);
        }
        let now = match disk.condition {
            DiskCondition::Good => "good",
            DiskCondition::Full => "full",
            DiskCondition::Hangs => "hangs",
            DiskCondition::Damaged(_) => "damaged",
        };
        let all =
            ["good", "full", "hangs", "damaged"].map(|c| (vec![("condition", c.to_owned())], u64::from(c == now)));
        page.gauges("disk_condition", "1 for the condition that the disk is in.", None, all);
        page.gauge(
            "quarantined",
            "Damaged data that was set aside and is still there.",
            None,
            disk.quarantine.len() as u64,
        );
    }
    let lags = status.servers.iter().filter_map(|row| Some((vec![("server", row.server.name.to_string())], row.lag?)));
    page.gauges(
        "replication_lag",
        "Entries that a server lacks, as the leader knows it.",
        Some(Unit::Other("entries".to_owned())),
        lags,
    );
    let reachable =
        status.servers.iter().map(|row| (vec![("server", row.server.name.to_string())], u64::from(row.reachable)));
    page.gauges("server_reachable", "Whether this server reached or heard that one lately.", None, reachable);
    page.gauge("clients", "Registered clients.", None, counts.totals.clients);
    page.gauge("streams", "Open send streams.", None, counts.totals.streams);
    page.gauge("inbox_messages", "Messages that wait, over all inboxes.", None, counts.totals.waiting);
    page.gauge("inbox_size", "Content that waits, over all inboxes.", Some(Unit::Bytes), counts.totals.waiting_bytes);
    page.gauge("scheduled_messages", "Messages that are for later.", None, counts.totals.scheduled);
    let help = "Log entries that are kept in memory for the contents in them.";
    page.gauge("content_memory", help, Some(Unit::Bytes), counts.totals.content_bytes_in_memory);
    let help = "Commands that the server holds for its clients until they are applied.";
    page.gauge("pending", help, Some(Unit::Bytes), counts.pending_bytes as u64);
    page.gauge("http_bodies", "HTTP bodies that are held.", Some(Unit::Bytes), counts.http_body_bytes as u64);
    page.gauge("http_requests_in_progress", "Requests by HTTP that are under way.", None, counts.requests as u64);
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
