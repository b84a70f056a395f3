//! Channels: making and ending them, who is a member, and what a client has joined and subscribed to.

use hyper::StatusCode;

use super::model::{Channel, ChannelMaking, Channels, Enlisted, MadeChannel, Member, Members, name};
use super::problem::Problem;
use super::query::Query;
use super::reply::Reply;
use crate::limits::HTTP_INBOX_MESSAGES_MAX;
use crate::server::Visit;
use crate::wire::sharing::{Enlistment, is_channel, is_pattern};
use crate::wire::{Id, Name};
use crate::world::World;

/// Channels or members in one answer, if nobody says how many.
const PAGE: usize = 100;

/// The channels, names ascending.
#[utoipa::path(
    get, path = "/v1/channels", tag = "channels", operation_id = "listChannels",
    params(
        ("after" = Option<String>, Query, description = "Only names after this one.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64),
        ("limit" = Option<u32>, Query, description = "At most so many; 100 if it is not given.", minimum = 1, maximum = 1000),
    ),
    responses(
        (status = 200, description = "Some of the channels.", body = Channels),
        (status = 400, description = "The query is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list<W: World>(visit: &Visit<W>, query: &Query) -> Result<Reply, Problem> {
    let after = query.name("after")?;
    let limit = query.count("limit", HTTP_INBOX_MESSAGES_MAX)?.unwrap_or(PAGE);
    let (rows, more) = visit.channels(after.as_ref(), limit).await?;
    let channels = rows.into_iter().map(|row| Channel { name: row.name.to_string(), members: row.members }).collect();
    Ok(Reply::json(StatusCode::OK, &Channels { channels, more }))
}

/// Makes a channel. One that is there stays as it is, with its members. It may be repeated.
#[utoipa::path(
    post, path = "/v1/channels", tag = "channels", operation_id = "createChannel",
    request_body(content = ChannelMaking, content_type = "application/json"),
    responses(
        (status = 200, description = "It was there before.", body = MadeChannel),
        (status = 201, description = "It is there from now on.", body = MadeChannel),
        (status = 400, description = "The body is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large.", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is of another type.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_channels`: there are as many as may be.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "Nobody knows what became of it: ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn create<W: World>(visit: &Visit<W>, body: &ChannelMaking) -> Result<Reply, Problem> {
    if !is_channel(&body.name) {
        let detail = "`name` is no channel's name: 1 to 64 of A-Z a-z 0-9 _ - with . between parts";
        return Err(Problem::invalid(detail));
    }
    let created = visit.create_channel(&name("name", &body.name)?).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(Reply::json(status, &MadeChannel { name: body.name.clone(), created }))
}

/// Ends a channel. What was sent to it is in its members' inboxes, and stays there.
#[utoipa::path(
    delete, path = "/v1/channels/{channel}", tag = "channels", operation_id = "deleteChannel",
    params(("channel" = String, Path, description = "The channel's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64)),
    responses(
        (status = 204, description = "It is ended."),
        (status = 404, description = "`no_such_channel`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "Nobody knows what became of it.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn delete<W: World>(visit: &Visit<W>, channel: &Name) -> Result<Reply, Problem> {
    visit.delete_channel(channel).await?;
    Ok(Reply::nothing())
}

/// Who has joined a channel, registrations ascending. Those who subscribe to a pattern are not among them.
#[utoipa::path(
    get, path = "/v1/channels/{channel}/members", tag = "channels", operation_id = "listMembers",
    params(
        ("channel" = String, Path, description = "The channel's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64),
        ("after" = Option<u64>, Query, description = "Only registrations after this one.", minimum = 0),
        ("limit" = Option<u32>, Query, description = "At most so many; 100 if it is not given.", minimum = 1, maximum = 1000),
    ),
    responses(
        (status = 200, description = "Some of the members.", body = Members),
        (status = 400, description = "The query is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`no_such_channel`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn members<W: World>(visit: &Visit<W>, channel: &Name, query: &Query) -> Result<Reply, Problem> {
    let after = query.whole("after")?.map(Id);
    let limit = query.count("limit", HTTP_INBOX_MESSAGES_MAX)?.unwrap_or(PAGE);
    let (rows, more) = visit.members(channel, after, limit).await?;
    let member =
        |row: crate::wire::client::Member| Member { client: row.name.to_string(), registration: row.registration.0 };
    Ok(Reply::json(StatusCode::OK, &Members { members: rows.into_iter().map(member).collect(), more }))
}

/// Lets a client join a channel: everything that is sent to it from now on comes into its inbox, also while it is offline.
/// It may be repeated.
#[utoipa::path(
    put, path = "/v1/channels/{channel}/members/{name}", tag = "channels", operation_id = "joinChannel",
    params(
        ("channel" = String, Path, description = "The channel's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64),
        ("name" = String, Path, description = "The client's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64),
    ),
    responses(
        (status = 204, description = "It is a member."),
        (status = 404, description = "`no_such_channel`, `not_registered`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`channel_full`: it has as many members as may be.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_enlistments`: the client has joined and subscribed to as many as it may.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "Nobody knows what became of it: ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn join<W: World>(visit: &Visit<W>, channel: &Name, client: &Name) -> Result<Reply, Problem> {
    visit.change_enlistment(client, Enlistment::Join(channel)).await?;
    Ok(Reply::nothing())
}

/// Lets a client leave a channel. It may be repeated.
#[utoipa::path(
    delete, path = "/v1/channels/{channel}/members/{name}", tag = "channels", operation_id = "leaveChannel",
    params(
        ("channel" = String, Path, description = "The channel's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64),
        ("name" = String, Path, description = "The client's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64),
    ),
    responses(
        (status = 204, description = "It is no member."),
        (status = 404, description = "`no_such_channel`, `not_registered`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "Nobody knows what became of it: ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn leave<W: World>(visit: &Visit<W>, channel: &Name, client: &Name) -> Result<Reply, Problem> {
    visit.change_enlistment(client, Enlistment::Leave(channel)).await?;
    Ok(Reply::nothing())
}

/// What a client gets besides what is sent to itself: the channels that it has joined, and the patterns that it has
/// subscribed to.
#[utoipa::path(
    get, path = "/v1/clients/{name}/subscriptions", tag = "channels", operation_id = "listSubscriptions",
    params(("name" = String, Path, description = "The client's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64)),
    responses(
        (status = 200, description = "Its channels and patterns.", body = Enlisted),
        (status = 404, description = "`not_registered`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn enlisted<W: World>(visit: &Visit<W>, client: &Name) -> Result<Reply, Problem> {
    let (channels, patterns) = visit.enlisted(client).await?;
    let channels = channels.iter().map(Name::to_string).collect();
    Ok(Reply::json(StatusCode::OK, &Enlisted { channels, patterns }))
}

/// Lets a client get what is sent to any channel whose name fits a pattern, also one that is made later: `*` stands for one
/// part of a name, `>` at the end for one or more. It may be repeated.
#[utoipa::path(
    put, path = "/v1/clients/{name}/subscriptions/{pattern}", tag = "channels", operation_id = "subscribe",
    params(
        ("name" = String, Path, description = "The client's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64),
        ("pattern" = String, Path, description = "The pattern, e.g. `orders.*.eu` or `orders.>`, encoded as paths are.", pattern = "^(([A-Za-z0-9_-]+|[*])([.]([A-Za-z0-9_-]+|[*]))*([.]>)?|>)$", min_length = 1, max_length = 64),
    ),
    responses(
        (status = 204, description = "It has subscribed."),
        (status = 400, description = "That is no pattern.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_registered`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_enlistments`: the client has joined and subscribed to as many as it may.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "Nobody knows what became of it: ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn subscribe<W: World>(visit: &Visit<W>, client: &Name, pattern: &str) -> Result<Reply, Problem> {
    visit.change_enlistment(client, Enlistment::Subscribe(checked(pattern)?)).await?;
    Ok(Reply::nothing())
}

/// Ends a subscription. It may be repeated.
#[utoipa::path(
    delete, path = "/v1/clients/{name}/subscriptions/{pattern}", tag = "channels", operation_id = "unsubscribe",
    params(
        ("name" = String, Path, description = "The client's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64),
        ("pattern" = String, Path, description = "The pattern, encoded as paths are.", pattern = "^(([A-Za-z0-9_-]+|[*])([.]([A-Za-z0-9_-]+|[*]))*([.]>)?|>)$", min_length = 1, max_length = 64),
    ),
    responses(
        (status = 204, description = "It is not subscribed."),
        (status = 400, description = "That is no pattern.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_registered`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "Nobody knows what became of it: ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn unsubscribe<W: World>(visit: &Visit<W>, client: &Name, pattern: &str) -> Result<Reply, Problem> {
    visit.change_enlistment(client, Enlistment::Unsubscribe(checked(pattern)?)).await?;
    Ok(Reply::nothing())
}

fn checked(pattern: &str) -> Result<&str, Problem> {
    if is_pattern(pattern) {
        return Ok(pattern);
    }
    let shown: String = pattern.chars().take(80).collect();
    Err(Problem::invalid(format!(
        "{shown:?} is no pattern: parts with . between them, * for any one, > at the end for the rest"
    )))
}
