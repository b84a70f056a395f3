//! Reading an inbox: looks and long polls, one message as it is, attaching, acknowledging.

use hyper::StatusCode;
use hyper::header::HeaderName;

use super::messages::nonce;
use super::model::{Acknowledged, Acknowledgement, Attached, Attaching, CONTENT_TYPE, Inbox, Range};
use super::problem::Problem;
use super::query::Query;
use super::reply::Reply;
use crate::limits;
use crate::server::{Look, Visit};
use crate::wire::command::decode_content;
use crate::wire::{Epoch, Id, Name, Position, RegistrationId};
use crate::world::World;

/// What waits in an inbox. A look takes nothing and marks nothing, whoever does it and however often.
///
/// With `wait` it is a long poll. With `reader` it is the look of that reader, who is told (409) when
/// another one has attached.
#[utoipa::path(
    get, path = "/v1/clients/{name}/inbox", tag = "inbox", operation_id = "getInbox",
    params(
        ("name" = String, Path, description = "The client's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64),
        ("after" = Option<u64>, Query, description = "Only what is behind this position.", minimum = 0),
        ("limit" = Option<u32>, Query, description = "At most so many messages. An answer has at most 1 MiB of bodies, or one message.", minimum = 1, maximum = 1000),
        ("wait" = Option<u32>, Query, description = "If there is nothing, wait so many seconds until there is.", minimum = 0, maximum = 60),
        ("reader" = Option<String>, Query, description = "As a reader that attached: its `registration:epoch`.", pattern = "^[0-9]{1,18}:[0-9]{1,18}$"),
    ),
    responses(
        (status = 200, description = "What waits.", body = Inbox),
        (status = 400, description = "The query is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_registered`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`epoch_moved`: another reader has attached; `registration_ended`; `read_by_session`.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn get<W: World>(visit: &Visit<W>, name: &Name, query: &Query) -> Result<Reply, Problem> {
    let look = Look {
        after: query.after()?,
        limit: query.count("limit", limits::HTTP_INBOX_MESSAGES_MAX)?.unwrap_or(0),
        wait: query.wait()?,
        reader: query.reader()?,
    };
    let seen = visit.look(name, look).await?;
    Ok(Reply::json(StatusCode::OK, &Inbox::new(name, &seen, look.after, look.reader.is_some())))
}

/// One message that waits, as it is: its body, with the type that it was sent with.
#[utoipa::path(
    get, path = "/v1/clients/{name}/messages/{position}", tag = "inbox", operation_id = "getMessage",
    params(
        ("name" = String, Path, description = "The client's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64),
        ("position" = u64, Path, description = "The message's position.", minimum = 0),
    ),
    responses(
        (status = 200, description = "The body.", content_type = "application/octet-stream", headers(("Restante-From" = String, description = "The sender's name."))),
        (status = 400, description = "That is no position.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_registered`; `no_such_message`: it was acknowledged, or never was.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn message<W: World>(visit: &Visit<W>, name: &Name, position: Position) -> Result<Reply, Problem> {
    let after = Position(position.0.saturating_sub(1));
    let seen = visit.look(name, Look { after, limit: 1, ..Look::default() }).await?;
    let found = seen.messages.first().filter(|(delivery, _)| delivery.position == position);
    let Some((delivery, content)) = found else {
        let detail = format!("no message waits at position {position} of the inbox of {name}");
        return Err(Problem::new(StatusCode::NOT_FOUND, "no_such_message", detail));
    };
    let (headers, body) = decode_content(content).map_err(Problem::invalid)?;
    let kind = headers.iter().find(|(name, _)| name == CONTENT_TYPE).map_or("application/octet-stream", |(_, v)| v);
    let mut response = Reply::bytes(StatusCode::OK, kind, body).into_response();
    if let Ok(from) = delivery.from.as_str().parse() {
        response.headers_mut().insert(HeaderName::from_static("restante-from"), from);
    }
    // What somebody sent is no page of this server's.
    let policy = hyper::header::HeaderValue::from_static("sandbox; default-src 'none'");
    response.headers_mut().insert(hyper::header::CONTENT_SECURITY_POLICY, policy);
    Ok(Reply::ready(response))
}

/// Becomes the reader of an inbox, in place of whoever is. From the answer on no acknowledgement of the one before counts.
#[utoipa::path(
    post, path = "/v1/clients/{name}/inbox/reader", tag = "inbox", operation_id = "attachReader",
    params(("name" = String, Path, description = "The client's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64)),
    request_body(content = Attaching, content_type = "application/json"),
    responses(
        (status = 200, description = "The reader's epoch.", body = Attached),
        (status = 400, description = "The body is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_registered`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`epoch_moved`: another epoch is in force; `registration_ended`.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large.", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is of another type.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "Nobody knows what became of it: with a nonce and an epoch, ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn attach<W: World>(visit: &Visit<W>, name: &Name, body: &Attaching) -> Result<Reply, Problem> {
    let window = body.window.unwrap_or(u64::from(limits::READER_WINDOW_DEFAULT));
    let window = u32::try_from(window).ok().filter(|window| (1..=limits::READER_WINDOW_MAX).contains(window));
    let Some(window) = window else {
        return Err(Problem::invalid(format!("`window` is from 1 to {}", limits::READER_WINDOW_MAX)));
    };
    let nonce = nonce::<W>("attach", name, body.nonce.as_deref())?;
    let attached = visit.attach(name, nonce, body.registration.map(Id), body.epoch.map(Epoch), window).await?;
    let attached = Attached {
        registration: attached.registration.0,
        epoch: attached.epoch.0,
        acknowledged: attached.acknowledged.0,
        window,
    };
    Ok(Reply::json(StatusCode::OK, &attached))
}

/// Stops reading. It is not needed: `delivered` says how far the reader got, so that only that much is marked as a repeat
/// for the next one.
#[utoipa::path(
    delete, path = "/v1/clients/{name}/inbox/reader", tag = "inbox", operation_id = "detachReader",
    params(
        ("name" = String, Path, description = "The client's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64),
        ("reader" = String, Query, description = "Which reader stops: its `registration:epoch`.", pattern = "^[0-9]{1,18}:[0-9]{1,18}$"),
        ("delivered" = Option<u64>, Query, description = "The last position that it has seen.", minimum = 0),
    ),
    responses(
        (status = 204, description = "Nobody reads the inbox."),
        (status = 400, description = "The query is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_registered`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`epoch_moved`, `registration_ended`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "Nobody knows what became of it: ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn detach<W: World>(visit: &Visit<W>, name: &Name, query: &Query) -> Result<Reply, Problem> {
    let Some((registration, epoch)) = query.reader()? else {
        return Err(Problem::invalid(
            "`reader` says which reader stops: its registration and epoch, as in `reader=65536:1`",
        ));
    };
    let delivered = query.whole("delivered")?.map(Position);
    visit.detach(name, registration, epoch, delivered).await?;
    Ok(Reply::nothing())
}

/// Acknowledges messages: they are gone from the inbox. It counts in this registration and epoch only, and may be repeated.
#[utoipa::path(
    post, path = "/v1/clients/{name}/inbox/acknowledgements", tag = "inbox", operation_id = "acknowledge",
    params(("name" = String, Path, description = "The client's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64)),
    request_body(content = Acknowledgement, content_type = "application/json"),
    responses(
        (status = 200, description = "It counted.", body = Acknowledged),
        (status = 400, description = "The body is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_registered`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`epoch_moved`, `registration_ended`, `read_by_session`; `beyond_the_end`: there is no such message yet.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large.", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is of another type.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "Nobody knows what became of it: ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn acknowledge<W: World>(
    visit: &Visit<W>,
    name: &Name,
    body: &Acknowledgement,
) -> Result<Reply, Problem> {
    let acknowledged = take(visit, name, body).await?;
    Ok(Reply::json(StatusCode::OK, &Acknowledged { acknowledged: acknowledged.0 }))
}

/// Acknowledges.
pub(super) async fn take<W: World>(visit: &Visit<W>, name: &Name, body: &Acknowledgement) -> Result<Position, Problem> {
    if body.ranges.len() > limits::ACKNOWLEDGE_RANGES_MAX {
        return Err(Problem::invalid(format!("there are at most {} `ranges`", limits::ACKNOWLEDGE_RANGES_MAX)));
    }
    let ranges = ascending(body.up_to, &body.ranges);
    let reader: (RegistrationId, Epoch) = (Id(body.registration), Epoch(body.epoch));
    Ok(visit.acknowledge(name, reader, Position(body.up_to), ranges).await?)
}

/// Ranges as the cluster takes them: ascending and apart, above what is acknowledged anyway.
fn ascending(up_to: u64, ranges: &[Range]) -> Vec<(Position, Position)> {
    let mut sorted: Vec<(u64, u64)> =
        ranges.iter().map(|range| (range.from.max(up_to.saturating_add(1)), range.to)).collect();
    sorted.retain(|(from, to)| from <= to);
    sorted.sort_unstable();
    let mut apart: Vec<(Position, Position)> = Vec::new();
    for (from, to) in sorted {
        match apart.last_mut() {
            Some((_, last)) if from <= last.0.saturating_add(1) => last.0 = last.0.max(to),
            _ => apart.push((Position(from), Position(to))),
        }
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_put_in_order_and_together() {
        let at = |pairs: &[(u64, u64)]| pairs.iter().map(|(a, b)| (Position(*a), Position(*b))).collect::<Vec<_>>();
        let ranges =
            |pairs: &[(u64, u64)]| pairs.iter().map(|(from, to)| Range { from: *from, to: *to }).collect::<Vec<_>>();
        assert_eq!(ascending(3, &ranges(&[(9, 9), (1, 2), (2, 5), (6, 7), (20, 10)])), at(&[(4, 7), (9, 9)]));
        assert_eq!(ascending(0, &[]), []);
        assert_eq!(ascending(0, &ranges(&[(1, u64::MAX), (5, 6)])), at(&[(1, u64::MAX)]));
    }
}
