//! Who comes and goes: asked for, and as server-sent events.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::http::request::Parts;
use openraft_rt::watch::WatchReceiver as _;

use super::events::{QUIET, RETRY, last_event, permit, put};
use super::model::{Came, Presence};
use super::problem::Problem;
use super::query::Query;
use super::reply::Reply;
use crate::server::{Changed, Desk, FeedPermit, Visit};
use crate::wire::Refusal;
use crate::world::{WatchReceiver, World};

/// What changed of who is there behind `since`, as soon as something did. Without `since`: where to begin. To know everybody
/// and miss nothing, ask so, then list the clients, then go on from what was answered first.
///
/// Any server may be asked next: they all count alike.
#[utoipa::path(
    get, path = "/v1/presence", tag = "clients", operation_id = "getPresence",
    params(
        ("since" = Option<u64>, Query, description = "Only what changed behind this: `up_to` of the last answer.", minimum = 0),
        ("wait" = Option<u32>, Query, description = "Seconds to wait for something to change.", minimum = 0, maximum = 60),
    ),
    responses(
        (status = 200, description = "What changed.", body = Presence),
        (status = 400, description = "The query is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn get<W: World>(visit: &Visit<W>, query: &Query) -> Result<Reply, Problem> {
    let changed = visit.presence(query.whole("since")?, query.wait()?).await;
    Ok(Reply::json(StatusCode::OK, &Presence::from(changed)))
}

impl From<Changed> for Presence {
    fn from(changed: Changed) -> Self {
        let events = changed.events.map(|events| events.into_iter().map(Came::from).collect());
        Self { up_to: changed.up_to, events }
    }
}

/// Who comes and goes: `presence` with what changed, as it does; its id is the log index. `unknown` if this server does not
/// know what changed since the last id that was seen: look at all clients. `end` when the server stops.
#[utoipa::path(
    get, path = "/v1/presence/events", tag = "clients", operation_id = "watchPresence",
    params(("since" = Option<u64>, Query, description = "Only what changed behind this; without it, from now on.", minimum = 0)),
    responses(
        (status = 200, description = "Events, as they come.", content_type = "text/event-stream", body = String),
        (status = 400, description = "The query is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`too_many_feeds`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn watch<W: World>(desk: &Desk<W>, head: &Parts, query: &Query) -> Result<Reply, Problem> {
    let since = last_event(head).or(query.whole("since")?);
    let permit = permit(desk)?;
    let watcher =
        Watcher { leaving: desk.leaving(), desk: desk.clone(), since, begun: false, ended: false, _permit: permit };
    Ok(Reply::events(futures::stream::unfold(watcher, Watcher::next)))
}

struct Watcher<W: World> {
    desk: Desk<W>,
    leaving: WatchReceiver<bool>,
    since: Option<u64>,
    begun: bool,
    ended: bool,
    _permit: FeedPermit,
}

impl<W: World> Watcher<W> {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if self.ended {
            return None;
        }
        let mut text = String::new();
        if !self.begun {
            self.begun = true;
            text.push_str(RETRY);
        }
        let changed = tokio::select! {
            biased;
            _ = self.leaving.changed() => Err(Problem::from(Refusal::Stopping)),
            changed = look(&self.desk, self.since) => changed,
        };
        match changed {
            Ok(Changed { up_to, events }) => {
                let is_first = self.since.replace(up_to).is_none();
                match events {
                    Some(events) if events.is_empty() => text.push_str(": quiet\n\n"),
                    Some(events) => {
                        for event in events {
                            put(&mut text, "presence", Some(event.index), &Came::from(event));
                        }
                    }
                    // Whoever begins now has missed nothing.
                    None if is_first => text.push_str(": from now on\n\n"),
                    None => put(&mut text, "unknown", Some(up_to), &Presence { up_to, events: None }),
                }
            }
            Err(problem) => {
                self.ended = true;
                put(&mut text, "end", None, &problem);
            }
        }
        Some((text.into(), self))
    }
}

async fn look<W: World>(desk: &Desk<W>, since: Option<u64>) -> Result<Changed, Problem> {
    Ok(desk.visit()?.presence(since, QUIET).await)
}
