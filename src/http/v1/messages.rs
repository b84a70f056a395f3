//! Sending: single messages, batches, and numbered sends on a stream.

use hyper::StatusCode;
use hyper::http::request::Parts;

use super::model::{
    Batch, BatchOutcome, DeliveredReceipt, DeliveredReceipts, MessageSchema, NumberedReceipt, PartOutcome, PartSchema,
    Receipt, Sending, Stream, StreamOpening, content, name,
};
use super::problem::Problem;
use super::query::Query;
use super::reply::Reply;
use crate::limits;
use crate::server::{Failure, Outgoing, Placed, Visit};
use crate::wire::client::SendFailure;
use crate::wire::{Name, Nonce, Number, StreamId};
use crate::world::World;

/// Sends a message. The answer comes once it is durable on a majority of the servers.
///
/// Without an `Idempotency-Key` a request that is sent twice may arrive twice. With one, the same request sent again gets
/// the first outcome, at any server and through failovers, for an hour after it was last used; a sender that uses many keys
/// may have an old one forgotten sooner, but not within five minutes (429 `too_many_keys` comes before). A key that was used
/// with another message is refused (`other_content`). For what has to be exact for ever, number your sends on a stream.
///
/// A body of another type than `application/json` is the message itself, and its type is kept with it; `from` and `to`
/// stand in the query then.
#[utoipa::path(
    post, path = "/v1/messages", tag = "messages", operation_id = "sendMessage",
    params(
        ("from" = Option<String>, Query, description = "The sender, if the body is the message itself.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64),
        ("to" = Option<String>, Query, description = "The recipient, if the body is the message itself.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64),
        ("receipt" = Option<String>, Query, description = "`delivered`: what becomes of it at its recipients comes into the sender's inbox, as a notice. Not with a key.", pattern = "^(accepted|delivered)$"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes repeating safe: see above.", pattern = "^[A-Za-z0-9._:-]{1,255}$", min_length = 1, max_length = 255),
    ),
    request_body(content = MessageSchema, content_type = "application/json"),
    responses(
        (status = 201, description = "It was accepted.", body = Receipt),
        (status = 400, description = "The body is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_registered`: the sender; `no_such_client`: the recipient; `no_such_channel`.", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`inbox_full`; `recipients`: not all of several can be reached, and it went to none; `too_many_inboxes`; `other_content`: the key was used for another message; `receipt_with_key`.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The message is too large.", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "A form is no message.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_keys`, `too_many_streams`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "Nobody knows what became of it: with a key, ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn send<W: World>(
    visit: &Visit<W>,
    head: &Parts,
    query: &Query,
    body: &[u8],
) -> Result<Reply, Problem> {
    let key = key(head)?;
    let receipt = query.choice("receipt", ["accepted", "delivered"])? == Some("delivered");
    let (from, mut outgoing) = match raw_type(head)? {
        None => {
            // They count for nothing, and are looked at all the same.
            query.name("from")?;
            query.name("to")?;
            let sending: Sending = super::read(body)?;
            (sending.from()?, sending.outgoing()?)
        }
        Some(content_type) => {
            let content = content(Some(&content_type), Vec::new(), body)?;
            (query.needed_name("from")?, Outgoing::plain(&query.needed_name("to")?, &content))
        }
    };
    if !receipt {
        return Ok(Reply::json(StatusCode::CREATED, &share(visit, &from, key.as_deref(), &outgoing).await?));
    }
    if key.is_some() {
        let detail = "a delivered receipt of a message with a key cannot be had: put it on a stream of your own";
        return Err(Problem::new(StatusCode::CONFLICT, "receipt_with_key", detail));
    }
    outgoing.terms.receipt = true;
    let sent = visit.share_with_receipt(&from, &outgoing).await;
    let (stream, placed) = sent.map_err(|failure| Problem::of_send(failure, &outgoing.to))?;
    let receipt = Receipt { stream: Some(stream.0), number: Some(1), ..Receipt::from(placed) };
    Ok(Reply::json(StatusCode::CREATED, &receipt))
}

/// Sends for somebody who has no stream.
pub(super) async fn share<W: World>(
    visit: &Visit<W>,
    from: &Name,
    key: Option<&str>,
    outgoing: &Outgoing,
) -> Result<Receipt, Problem> {
    let sent = match key {
        None => visit.share(from, outgoing).await,
        Some(key) => {
            let outcomes = visit.send_all(from, Some(key), std::slice::from_ref(outgoing)).await?;
            outcomes.into_iter().next().unwrap_or(Err(Failure::Unknown))
        }
    };
    sent.map(Receipt::from).map_err(|failure| Problem::of_send(failure, &outgoing.to))
}

/// Sends several messages of one sender, in this order. Each is accepted or refused for itself.
///
/// An `Idempotency-Key` holds for all of them: see `POST /v1/messages`.
#[utoipa::path(
    post, path = "/v1/messages/batch", tag = "messages", operation_id = "sendBatch",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes repeating safe.", pattern = "^[A-Za-z0-9._:-]{1,255}$", min_length = 1, max_length = 255)),
    request_body(content = Batch, content_type = "application/json"),
    responses(
        (status = 200, description = "What became of each.", body = BatchOutcome),
        (status = 400, description = "The body is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_registered`: the sender.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body or a message is too large.", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is of another type.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_keys`, `too_many_streams`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "Nobody knows what became of it: with a key, ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn send_batch<W: World>(visit: &Visit<W>, head: &Parts, batch: &Batch) -> Result<Reply, Problem> {
    let key = key(head)?;
    let from = name("from", &batch.from)?;
    if batch.messages.is_empty() || batch.messages.len() > limits::HTTP_BATCH_MAX {
        let detail = format!("a batch has 1 to {} messages, not {}", limits::HTTP_BATCH_MAX, batch.messages.len());
        return Err(Problem::invalid(detail));
    }
    let sending = |sending: &Sending| {
        sending.without_sender()?;
        sending.outgoing()
    };
    let sends: Vec<Outgoing> = batch.messages.iter().map(sending).collect::<Result<_, _>>()?;
    let outcomes = visit.send_all(&from, key.as_deref(), &sends).await?;
    let accepted = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let outcome = |(outcome, outgoing): (Result<Placed, Failure>, &Outgoing)| match outcome.map(Receipt::from) {
        Ok(Receipt { position, inboxes, full, deliver_at_ms, .. }) => {
            PartOutcome { position, inboxes: Some(inboxes), full, deliver_at_ms, problem: None }
        }
        Err(failure) => {
            let problem = Some(Problem::of_send(failure, &outgoing.to));
            PartOutcome { position: None, inboxes: None, full: None, deliver_at_ms: None, problem }
        }
    };
    let outcomes = outcomes.into_iter().zip(&sends).map(outcome).collect();
    Ok(Reply::json(StatusCode::OK, &BatchOutcome { accepted, outcomes }))
}

/// Opens a send stream, whose numbered sends are exact for ever: put your messages to it under 1, 2, 3, …
///
/// With a nonce, opening it again is the same stream, and `next` is the number that comes next. A stream that was silent for
/// an hour is closed.
#[utoipa::path(
    post, path = "/v1/streams", tag = "streams", operation_id = "openStream",
    request_body(content = StreamOpening, content_type = "application/json"),
    responses(
        (status = 201, description = "It is open.", body = Stream),
        (status = 400, description = "The body is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_registered`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large.", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is of another type.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_streams`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "Nobody knows what became of it: with a nonce, ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn open_stream<W: World>(visit: &Visit<W>, body: &StreamOpening) -> Result<Reply, Problem> {
    let client = name("client", &body.client)?;
    let nonce = nonce::<W>("stream", &client, body.nonce.as_deref())?;
    let (stream, registration, next) = visit.open_stream(&client, nonce).await?;
    let stream = Stream { stream: stream.0, client: client.to_string(), registration: registration.0, next: next.0 };
    Ok(Reply::json(StatusCode::CREATED, &stream))
}

/// An open stream.
#[utoipa::path(
    get, path = "/v1/streams/{stream}", tag = "streams", operation_id = "getStream",
    params(("stream" = u64, Path, description = "The stream's id.", minimum = 0)),
    responses(
        (status = 200, description = "The stream.", body = Stream),
        (status = 400, description = "That is no stream's id.", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "`stream_closed`: it is closed, or never was.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn get_stream<W: World>(visit: &Visit<W>, stream: StreamId) -> Result<Reply, Problem> {
    let view = visit.stream(stream).await?;
    let stream = Stream {
        stream: stream.0,
        client: view.name.to_string(),
        registration: view.registration.0,
        next: view.last.0 + 1,
    };
    Ok(Reply::json(StatusCode::OK, &stream))
}

/// Sends under a number. Put again, at whatever server and however late, it has its first outcome, and is never a second
/// message.
#[utoipa::path(
    put, path = "/v1/streams/{stream}/{number}", tag = "streams", operation_id = "putMessage",
    params(
        ("stream" = u64, Path, description = "The stream's id.", minimum = 0),
        ("number" = u64, Path, description = "The message's number: the last one plus one, or an older one again.", minimum = 1),
        ("confirmed" = Option<u64>, Query, description = "You have the outcomes up to this number, which may be forgotten. 4096 are kept.", minimum = 0),
        ("to" = Option<String>, Query, description = "The recipient, if the body is the message itself.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64),
        ("receipt" = Option<String>, Query, description = "`delivered`: what becomes of it at its recipients is told by `GET /v1/streams/{stream}/receipts`.", pattern = "^(accepted|delivered)$"),
    ),
    request_body(content = PartSchema, content_type = "application/json"),
    responses(
        (status = 200, description = "It was accepted, now or before.", body = NumberedReceipt),
        (status = 400, description = "The request is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`no_such_client`, `no_such_channel`: refused, and the number is used.", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`gap`: another number is `expected`; `other_content`: the number was used for another message; `already_answered`: its outcome was confirmed; `confirmed_too_far`; `inbox_full`, `recipients`, `too_many_inboxes`, `no_room_for_receipt`: refused, and the number is used.", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "`stream_closed`: it is closed, or never was.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The message is too large.", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "A form is no message.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`window_full`: confirm some outcomes.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to put it again.", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "Nobody knows what became of it: put it again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn put<W: World>(
    visit: &Visit<W>,
    (stream, number): (StreamId, Number),
    head: &Parts,
    query: &Query,
    body: &[u8],
) -> Result<Reply, Problem> {
    let confirmed = Number(query.whole("confirmed")?.unwrap_or(0));
    if confirmed >= number {
        let detail = "`confirmed` is the last number whose outcome you have, which comes before this one";
        return Err(Problem::new(StatusCode::CONFLICT, "confirmed_too_far", detail));
    }
    let receipt = query.choice("receipt", ["accepted", "delivered"])? == Some("delivered");
    let mut outgoing = match raw_type(head)? {
        None => {
            // It counts for nothing, and is looked at all the same.
            query.name("to")?;
            let sending: Sending = super::read(body)?;
            sending.without_sender()?;
            sending.outgoing()?
        }
        Some(content_type) => {
            Outgoing::plain(&query.needed_name("to")?, &content(Some(&content_type), Vec::new(), body)?)
        }
    };
    outgoing.terms.receipt = receipt;
    let sent = visit.send((stream, number, confirmed), &outgoing).await;
    let Receipt { position, inboxes, full, deliver_at_ms, .. } =
        sent.map(Receipt::from).map_err(|failure| Problem::of_send(failure, &outgoing.to))?;
    let receipt = NumberedReceipt { stream: stream.0, number: number.0, position, inboxes, full, deliver_at_ms };
    Ok(Reply::json(StatusCode::OK, &receipt))
}

/// The delivered receipts of a stream: what became of sends that asked for one (`?receipt=delivered`) once no copy of them
/// waited any more. Each is told again until it is collected: name the last one's `sequence` as `collected` with the next
/// question. With `wait` the answer comes once there is one.
#[utoipa::path(
    get, path = "/v1/streams/{stream}/receipts", tag = "streams", operation_id = "collectReceipts",
    params(
        ("stream" = u64, Path, description = "The stream's id.", minimum = 0),
        ("collected" = Option<u64>, Query, description = "You have those up to this one, which are forgotten.", minimum = 0),
        ("wait" = Option<f64>, Query, description = "So many seconds, if there is none.", minimum = 0, maximum = 60),
    ),
    responses(
        (status = 200, description = "Those that are not collected yet, in the order in which they came.", body = DeliveredReceipts),
        (status = 400, description = "The request is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "`stream_closed`: it is closed, or never was; receipts come into the sender's inbox, as notices.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn receipts<W: World>(visit: &Visit<W>, stream: StreamId, query: &Query) -> Result<Reply, Problem> {
    let collected = query.whole("collected")?.unwrap_or(0);
    let receipts = visit.collect_receipts(stream, collected, query.wait()?).await?;
    let receipt = |(sequence, number, fate): (u64, Number, crate::wire::sharing::Fate)| DeliveredReceipt {
        sequence,
        number: number.0,
        fate: fate.into(),
    };
    let receipts = receipts.into_iter().map(receipt).collect();
    Ok(Reply::json(StatusCode::OK, &DeliveredReceipts { receipts }))
}

/// Closes a stream for ever.
#[utoipa::path(
    delete, path = "/v1/streams/{stream}", tag = "streams", operation_id = "closeStream",
    params(("stream" = u64, Path, description = "The stream's id.", minimum = 0)),
    responses(
        (status = 204, description = "It is closed."),
        (status = 400, description = "That is no stream's id.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "Nobody knows what became of it: ask again.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn close_stream<W: World>(visit: &Visit<W>, stream: StreamId) -> Result<Reply, Problem> {
    match visit.close_stream(stream).await {
        // So it is, whoever closed it.
        Ok(()) | Err(Failure::Stream(SendFailure::StreamClosed)) => Ok(Reply::nothing()),
        Err(failure) => Err(failure.into()),
    }
}

/// The nonce of a request, with what it is for mixed in: two clients that happen to choose the same mean two things.
pub(super) fn nonce<W: World>(what: &str, client: &Name, given: Option<&str>) -> Result<Nonce, Problem> {
    let Some(given) = given else { return Ok(rand::RngExt::random(&mut W::rng())) };
    let hex = !given.is_empty() && given.len() <= 32 && given.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = Nonce::from_str_radix(given, 16).ok().filter(|_| hex);
    let number = number.ok_or_else(|| Problem::invalid("`nonce` has 1 to 32 hexadecimal digits"))?;
    Ok(xxhash_rust::xxh3::xxh3_128(format!("{what} {client} {number:032x}").as_bytes()))
}

/// The `Idempotency-Key`.
fn key(head: &Parts) -> Result<Option<String>, Problem> {
    let mut given = head.headers.get_all("idempotency-key").iter();
    let Some(value) = given.next() else { return Ok(None) };
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':');
    let bytes = value.as_bytes();
    let good = (1..=limits::IDEMPOTENCY_KEY_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(allowed);
    match value.to_str() {
        Ok(text) if good && given.next().is_none() => Ok(Some(text.to_owned())),
        _ => Err(Problem::invalid(
            "an `Idempotency-Key` comes once, and has 1 to 255 of the characters A-Z a-z 0-9 . _ - :",
        )),
    }
}

/// The type of a body that is a message itself; `None` if it is JSON about one.
fn raw_type(head: &Parts) -> Result<Option<String>, Problem> {
    let Some(given) = head.headers.get(hyper::header::CONTENT_TYPE) else { return Ok(None) };
    let text = String::from_utf8_lossy(given.as_bytes()).into_owned();
    let kind = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "" | "application/json" => Ok(None),
        // What a page's form sends without asking anybody.
        "application/x-www-form-urlencoded" | "multipart/form-data" => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            format!("{kind} is a form: send application/json, or the message itself as any other type"),
        )),
        _ if text.len() > 255 => Err(Problem::invalid("the content type has more than 255 bytes")),
        _ => Ok(Some(text)),
    }
}
