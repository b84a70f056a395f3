//! Server-sent events: a server and what passes through it; an inbox.

use std::time::Duration;

use bytes::Bytes;
use hyper::http::request::Parts;
use openraft_rt::watch::WatchReceiver as _;
use serde::Serialize;

use super::model::{Inbox, Message};
use super::problem::Problem;
use super::query::Query;
use super::reply::Reply;
use super::report::{Passing, Status};
use crate::metrics::flow::Watching;
use crate::server::{Desk, FeedPermit, Look, Seen};
use crate::wire::{Name, Position, Refusal};
use crate::world::{WatchReceiver, World};

/// How often a status is told.
const PULSE: Duration = Duration::from_secs(1);
/// Every so many of them looks at the disk.
const DISK_LOOKS: u64 = 5;
/// How long an inbox may be quiet before something is said, so that a connection that is dead is noticed.
pub(super) const QUIET: Duration = Duration::from_secs(15);
/// After how many milliseconds a browser that lost the connection is to come again.
pub(super) const RETRY: &str = "retry: 1000\n\n";

/// What the server sees and does: `status` every second, `happening` when something happens (elections, moves, damage, slow
/// disks), `passing` with some of the messages that pass, `end` when the server stops. `Last-Event-ID` is the number of the
/// last happening that was seen.
#[utoipa::path(
    get, path = "/v1/events", tag = "cluster", operation_id = "watchCluster",
    params(("after" = Option<u64>, Query, description = "Only what happened after the happening of this number.", minimum = 0)),
    responses(
        (status = 200, description = "Events, as they come.", content_type = "text/event-stream", body = String),
        (status = 400, description = "The query is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`too_many_feeds`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn watch<W: World>(desk: &Desk<W>, head: &Parts, query: &Query) -> Result<Reply, Problem> {
    let after = last_event(head).or(query.whole("after")?).unwrap_or(0);
    let permit = permit(desk)?;
    let watcher = Watcher {
        leaving: desk.leaving(),
        passing: Watching::new(desk.metrics().clone()),
        desk: desk.clone(),
        seen: after,
        pulses: 0,
        ended: false,
        _permit: permit,
    };
    Ok(Reply::events(futures::stream::unfold(watcher, Watcher::next)))
}

struct Watcher<W: World> {
    desk: Desk<W>,
    leaving: WatchReceiver<bool>,
    passing: Watching,
    seen: u64,
    pulses: u64,
    ended: bool,
    _permit: FeedPermit,
}

impl<W: World> Watcher<W> {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if self.ended {
            return None;
        }
        let mut text = String::new();
        if self.pulses == 0 {
            text.push_str(RETRY);
        } else {
            let grew = self.desk.metrics().chronicle.grew().clone();
            tokio::select! {
                biased;
                _ = self.leaving.changed() => {
                    self.ended = true;
                    put(&mut text, "end", None, &Problem::from(Refusal::Stopping));
                    return Some((text.into(), self));
                }
                () = grew.notified() => {}
                () = W::sleep(PULSE) => {}
            }
        }
        for happening in self.desk.metrics().chronicle.after(self.seen) {
            self.seen = happening.number;
            put(&mut text, "happening", Some(happening.number), &happening);
        }
        let passing: Vec<Passing> = self
            .passing
            .look()
            .iter()
            .filter_map(|passed| {
                let (from, home) = self.desk.trace(passed)?;
                Some(Passing {
                    from: from.to_string(),
                    to: passed.to.clone(),
                    home: home.to_string(),
                    bytes: passed.bytes,
                })
            })
            .collect();
        if !passing.is_empty() {
            put(&mut text, "passing", None, &passing);
        }
        let status = self.desk.status(self.pulses.is_multiple_of(DISK_LOOKS)).await;
        let status = Status::new(status, &self.desk.counts(), self.desk.metrics());
        put(&mut text, "status", None, &status);
        self.pulses += 1;
        Some((text.into(), self))
    }
}

/// What waits in an inbox, and what comes: `inbox` when something about it is new, `message` for each message, `end` when it
/// is over and why. It takes nothing and marks nothing, unless it is a reader's, as with `GET …/inbox`. `Last-Event-ID` is
/// the position of the last message that was seen.
#[utoipa::path(
    get, path = "/v1/clients/{name}/inbox/events", tag = "inbox", operation_id = "watchInbox",
    params(
        ("name" = String, Path, description = "The client's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64),
        ("after" = Option<u64>, Query, description = "Only what is behind this position.", minimum = 0),
        ("reader" = Option<String>, Query, description = "As a reader that attached: its `registration:epoch`.", pattern = "^[0-9]{1,18}:[0-9]{1,18}$"),
    ),
    responses(
        (status = 200, description = "Events, as they come.", content_type = "text/event-stream", body = String),
        (status = 400, description = "The query is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_registered`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`epoch_moved`, `registration_ended`, `read_by_session`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn inbox<W: World>(
    desk: &Desk<W>,
    name: &Name,
    head: &Parts,
    query: &Query,
) -> Result<Reply, Problem> {
    let mut look = Look { after: query.after()?, reader: query.reader()?, ..Look::default() };
    look.after = last_event(head).map_or(look.after, Position);
    let permit = permit(desk)?;
    // The first look is answered as a request is, with a status of its own.
    let seen = desk.visit()?.look(name, look).await?;
    let reader = InboxWatcher {
        leaving: desk.leaving(),
        desk: desk.clone(),
        name: name.clone(),
        look: Look { wait: QUIET, ..look },
        seen: Some(seen),
        told: None,
        ended: false,
        _permit: permit,
    };
    Ok(Reply::events(futures::stream::unfold(reader, InboxWatcher::next)))
}

struct InboxWatcher<W: World> {
    desk: Desk<W>,
    leaving: WatchReceiver<bool>,
    name: Name,
    look: Look,
    seen: Option<Seen>,
    /// What was said of the inbox last: acknowledged, epoch.
    told: Option<(u64, u64)>,
    ended: bool,
    _permit: FeedPermit,
}

impl<W: World> InboxWatcher<W> {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if self.ended {
            return None;
        }
        let mut text = String::new();
        let seen = match self.seen.take() {
            Some(seen) => {
                text.push_str(RETRY);
                Ok(seen)
            }
            None => tokio::select! {
                biased;
                _ = self.leaving.changed() => Err(Problem::from(Refusal::Stopping)),
                seen = look_again(&self.desk, &self.name, self.look) => seen,
            },
        };
        match seen {
            Ok(seen) => self.tell(&seen, &mut text),
            Err(problem) => {
                self.ended = true;
                put(&mut text, "end", None, &problem);
            }
        }
        Some((text.into(), self))
    }

    fn tell(&mut self, seen: &Seen, text: &mut String) {
        let news = (seen.acknowledged.0, seen.epoch.0);
        if self.told != Some(news) || !seen.messages.is_empty() {
            self.told = Some(news);
            let mut inbox = Inbox::new(&self.name, seen, self.look.after, self.look.reader.is_some());
            inbox.messages.clear();
            put(text, "inbox", None, &inbox);
        }
        for (delivery, content) in &seen.messages {
            self.look.after = self.look.after.max(delivery.position);
            put(text, "message", Some(delivery.position.0), &Message::new(delivery, content));
        }
        if text.is_empty() {
            text.push_str(": quiet\n\n");
        }
    }
}

async fn look_again<W: World>(desk: &Desk<W>, name: &Name, look: Look) -> Result<Seen, Problem> {
    Ok(desk.visit()?.look(name, look).await?)
}

pub(super) fn permit<W: World>(desk: &Desk<W>) -> Result<FeedPermit, Problem> {
    desk.open_feed().ok_or_else(too_many_feeds)
}

/// There is no room for another feed.
pub(super) fn too_many_feeds() -> Problem {
    let most = crate::limits::HTTP_FEEDS_MAX;
    let detail = format!("this server has {most} feeds open, as many as it may: ask another one");
    Problem::new(hyper::StatusCode::SERVICE_UNAVAILABLE, "too_many_feeds", detail)
}

/// What a browser that comes again has seen.
pub(super) fn last_event(head: &Parts) -> Option<u64> {
    head.headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

/// One event. JSON has no line breaks of its own.
pub(super) fn put(text: &mut String, event: &str, id: Option<u64>, data: &impl Serialize) {
    if let Ok(data) = serde_json::to_string(data) {
        if let Some(id) = id {
            text.push_str(&format!("id: {id}\n"));
        }
        text.push_str(&format!("event: {event}\ndata: {data}\n\n"));
    }
}
