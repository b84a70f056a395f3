//! Requests and replies.

use std::time::Duration;

use hyper::StatusCode;

use super::model::{Message, MessageSchema, Sending};
use super::problem::Problem;
use super::query::Query;
use super::reply::Reply;
use crate::server::{Visit, reply_name, request_headers};
use crate::wire::sharing::Recipients;
use crate::world::World;

/// How long a reply is waited for, if nobody says how long.
const DEADLINE: Duration = Duration::from_secs(10);

/// Sends a message that asks for a reply, and waits for it. A request to nobody fails at once.
///
/// The message has the headers `reply-to`, `correlation-id` and `deadline-ms`. Whoever answers sends a message to the client that
/// `reply-to` names, with the same `correlation-id` among its headers: `restante reply` does, and so does any program.
#[utoipa::path(
    post, path = "/v1/requests", tag = "messages", operation_id = "request",
    params(("wait" = Option<u32>, Query, description = "The deadline in seconds; 10 if it is not given.", minimum = 0, maximum = 60)),
    request_body(content = MessageSchema, content_type = "application/json"),
    responses(
        (status = 200, description = "The reply.", body = Message),
        (status = 400, description = "The body is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_registered`: the sender; `no_such_client`: the recipient.", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`inbox_full`; `not_one_client`: a request goes to one.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The message is too large.", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is of another type.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_streams`, `too_many_clients`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "`no_reply`: none came in time, and the request may still be answered; or nobody knows whether it was sent.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn request<W: World>(visit: &Visit<W>, query: &Query, sending: &Sending) -> Result<Reply, Problem> {
    let from = sending.from()?;
    let deadline = match query.whole("wait")? {
        None => DEADLINE,
        Some(_) => query.wait()?,
    };
    let replies = reply_name::<W>(&from).ok_or_else(|| Problem::invalid("the sender's name is none"))?;
    let outgoing = sending.outgoing_with(request_headers(&replies, deadline))?;
    if !matches!(outgoing.to, Recipients::Client(_)) {
        return Err(Problem::new(StatusCode::CONFLICT, "not_one_client", "a request goes to one client"));
    }
    let asked = visit.request(&from, &replies, &outgoing, deadline).await;
    match asked.map_err(|failure| Problem::of_send(failure, &outgoing.to))? {
        Some((delivery, content)) => Ok(Reply::json(StatusCode::OK, &Message::new(&delivery, &content))),
        None => {
            let detail = format!("no reply came within {deadline:?}; the request was sent, and may still be answered");
            Err(Problem {
                outcome: super::problem::Outcome::Unknown,
                ..Problem::new(StatusCode::GATEWAY_TIMEOUT, "no_reply", detail)
            })
        }
    }
}
