//! Clients, and the status.

use hyper::StatusCode;

use super::model::{Client, Clients, Registration, name};
use super::problem::Problem;
use super::query::Query;
use super::reply::Reply;
use super::report::Status;
use crate::limits::HTTP_INBOX_MESSAGES_MAX;
use crate::server::{Desk, Visit};
use crate::wire::Name;
use crate::world::World;

/// Clients in one answer, if nobody says how many.
const PAGE: usize = 100;

/// The cluster as this server sees it, and what it counts.
#[utoipa::path(
    get, path = "/v1/status", tag = "cluster", operation_id = "status",
    responses((status = 200, description = "How the server sees the cluster.", body = Status)),
)]
pub(super) async fn status<W: World>(desk: &Desk<W>) -> Reply {
    let status = desk.status(true).await;
    Reply::json(StatusCode::OK, &Status::new(status, &desk.counts(), desk.metrics()))
}

/// The registered clients, names ascending.
#[utoipa::path(
    get, path = "/v1/clients", tag = "clients", operation_id = "listClients",
    params(
        ("after" = Option<String>, Query, description = "Only names after this one.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64),
        ("limit" = Option<u32>, Query, description = "At most so many; 100 if it is not given.", minimum = 1, maximum = 1000),
        ("local" = Option<bool>, Query, description = "Take this server's copy as it is: it costs nothing, and may be a moment behind."),
    ),
    responses(
        (status = 200, description = "Some of the clients.", body = Clients),
        (status = 400, description = "The query is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list<W: World>(visit: &Visit<W>, query: &Query) -> Result<Reply, Problem> {
    let after = query.name("after")?;
    let limit = query.count("limit", HTTP_INBOX_MESSAGES_MAX)?.unwrap_or(PAGE);
    let (rows, more) = visit.clients(after.as_ref(), limit, query.flag("local")?).await?;
    Ok(Reply::json(StatusCode::OK, &Clients { clients: rows.into_iter().map(Client::from).collect(), more }))
}

/// Registers a client. One that is registered keeps its inbox, its streams and its reader; only its home changes, if one is
/// named. It may be repeated.
#[utoipa::path(
    post, path = "/v1/clients", tag = "clients", operation_id = "registerClient",
    request_body(content = Registration, content_type = "application/json"),
    responses(
        (status = 200, description = "It was registered before.", body = Client),
        (status = 201, description = "It is registered from now on.", body = Client),
        (status = 400, description = "The body is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`no_such_server`: the home belongs to no server.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large.", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is of another type.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_clients`: the quota is used up.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "Nobody knows what became of it: ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn register<W: World>(visit: &Visit<W>, body: &Registration) -> Result<Reply, Problem> {
    let client = name("name", &body.name)?;
    let home = body.home.as_deref().map(|home| name("home", home)).transpose()?;
    let (row, created) = visit.enlist(&client, home.as_ref()).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(Reply::json(status, &Client::from(row)))
}

/// One client.
#[utoipa::path(
    get, path = "/v1/clients/{name}", tag = "clients", operation_id = "getClient",
    params(("name" = String, Path, description = "The client's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64)),
    responses(
        (status = 200, description = "The client.", body = Client),
        (status = 404, description = "`not_registered`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn get<W: World>(visit: &Visit<W>, name: &Name) -> Result<Reply, Problem> {
    Ok(Reply::json(StatusCode::OK, &Client::from(visit.client(name).await?)))
}

/// Ends a client's registration: its streams close, and what waits in its inbox is dropped.
#[utoipa::path(
    delete, path = "/v1/clients/{name}", tag = "clients", operation_id = "deregisterClient",
    params(
        ("name" = String, Path, description = "The client's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64),
        ("registration" = Option<u64>, Query, description = "Only this registration: so that repeating it never ends a newer one.", minimum = 0),
    ),
    responses(
        (status = 204, description = "Its registration has ended."),
        (status = 400, description = "The query is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_registered`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`registration_ended`: the name has another registration.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "Nobody knows what became of it.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn deregister<W: World>(visit: &Visit<W>, name: &Name, query: &Query) -> Result<Reply, Problem> {
    let registration = query.whole("registration")?.map(crate::wire::Id);
    visit.strike(name, registration).await?;
    Ok(Reply::nothing())
}
