//! What an inbox does when it is full, and what it has kept.

use hyper::StatusCode;

use super::model::{History, InboxSet, InboxSetting, Message};
use super::problem::Problem;
use super::query::Query;
use super::reply::Reply;
use crate::limits::HTTP_INBOX_MESSAGES_MAX;
use crate::server::Visit;
use crate::wire::sharing::Enlistment;
use crate::wire::{Name, Position};
use crate::world::World;

/// Messages in one answer, if nobody says how many.
const PAGE: usize = 100;

/// What is set for an inbox.
#[utoipa::path(
    get, path = "/v1/clients/{name}/inbox/settings", tag = "inbox", operation_id = "getInboxSettings",
    params(("name" = String, Path, description = "The client's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64)),
    responses(
        (status = 200, description = "What is set.", body = InboxSet),
        (status = 404, description = "`not_registered`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn settings<W: World>(visit: &Visit<W>, name: &Name) -> Result<Reply, Problem> {
    let (settings, kept) = visit.inbox_settings(name).await?;
    Ok(Reply::json(StatusCode::OK, &InboxSet::new(settings, kept)))
}

/// Sets what an inbox does when it is full, and how much it keeps of what was acknowledged. It may be repeated.
#[utoipa::path(
    put, path = "/v1/clients/{name}/inbox/settings", tag = "inbox", operation_id = "setInbox",
    params(("name" = String, Path, description = "The client's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64)),
    request_body(content = InboxSetting, content_type = "application/json"),
    responses(
        (status = 200, description = "What is set from now on.", body = InboxSet),
        (status = 400, description = "The body is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_registered`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large.", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is of another type.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "Nobody knows what became of it: ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn set<W: World>(visit: &Visit<W>, name: &Name, setting: &InboxSetting) -> Result<Reply, Problem> {
    visit.change_enlistment(name, Enlistment::SetInbox(setting.settings()?)).await?;
    settings(visit, name).await
}

/// What an inbox has kept of what was acknowledged, positions ascending. It takes nothing, and disturbs no reader.
#[utoipa::path(
    get, path = "/v1/clients/{name}/inbox/history", tag = "inbox", operation_id = "getHistory",
    params(
        ("name" = String, Path, description = "The client's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64),
        ("from" = Option<u64>, Query, description = "Begin at this position.", minimum = 0),
        ("limit" = Option<u32>, Query, description = "At most so many; 100 if it is not given. Fewer if they are large.", minimum = 1, maximum = 1000),
    ),
    responses(
        (status = 200, description = "Some of the messages.", body = History),
        (status = 400, description = "The query is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_registered`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn history<W: World>(visit: &Visit<W>, name: &Name, query: &Query) -> Result<Reply, Problem> {
    let from = Position(query.whole("from")?.unwrap_or(0));
    let limit = query.count("limit", HTTP_INBOX_MESSAGES_MAX)?.unwrap_or(PAGE);
    let (registration, kept, more) = visit.history(name, from, limit).await?;
    let next = kept.last().filter(|_| more).map(|(delivery, _)| delivery.position.0 + 1);
    let messages = kept.iter().map(|(delivery, content)| Message::new(delivery, content)).collect();
    Ok(Reply::json(StatusCode::OK, &History { registration: registration.0, messages, next }))
}
