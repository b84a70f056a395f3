//! The exact way to send: on a stream of one's own, numbered, so that sending again is never sending twice.

use bytes::Bytes;
use serde_json::json;
use xxhash_rust::xxh3::xxh3_128;

use super::answer::Answer;
use super::fields::Fields;
use crate::server::{Outgoing, Placed, Visit};
use crate::wire::command::encode_content;
use crate::wire::{Name, Nonce, Number, StreamId};
use crate::world::World;

/// `POST /streams`
pub(super) async fn open<W: World>(visit: &Visit<W>, fields: &Fields) -> Result<Answer, Answer> {
    let name = fields.client()?;
    let nonce = nonce::<W>("stream", &name, fields)?;
    let (stream, registration, next) = visit.open_stream(&name, nonce).await?;
    Ok(Answer::with(
        json!({ "client_id": name.as_str(), "stream": stream.0, "registration": registration.0, "next": next.0 }),
    ))
}

/// `PUT /streams/STREAM/NUMBER`
pub(super) async fn send<W: World>(
    visit: &Visit<W>,
    stream: StreamId,
    number: Number,
    fields: &Fields,
) -> Result<Answer, Answer> {
    let (receiver, message) = (fields.receiver()?, fields.message()?);
    let confirmed = Number(fields.whole("confirmed")?.unwrap_or(0));
    if confirmed >= number {
        return Err(Answer::invalid(
            "`confirmed` is the last number whose answer you have, which comes before this one",
        ));
    }
    let content: Bytes = encode_content(&Vec::new(), &message);
    let place = json!({ "stream": stream.0, "number": number.0 });
    let sent = visit.send((stream, number, confirmed), &Outgoing::plain(&receiver, &content)).await;
    match sent.and_then(Placed::position) {
        Ok(position) => Ok(Answer::with(place).and(json!({ "outcome": "accepted", "position": position.0 }))),
        Err(failure) => Err(Answer::from(failure).and(place)),
    }
}

/// `DELETE /streams/STREAM`
pub(super) async fn close<W: World>(visit: &Visit<W>, stream: StreamId) -> Result<Answer, Answer> {
    visit.close_stream(stream).await?;
    Ok(Answer::with(json!({ "stream": stream.0, "outcome": "closed" })))
}

/// The nonce of a request: made of the client's own if it gives one, so that it is recognised when it comes again. What it is
/// for and for whom is mixed in, so that two clients that happen to choose the same mean two things.
pub(super) fn nonce<W: World>(what: &str, name: &Name, fields: &Fields) -> Result<Nonce, Answer> {
    let Some(given) = fields.nonce()? else { return Ok(rand::RngExt::random(&mut W::rng())) };
    Ok(xxh3_128(format!("{what} {name} {given:032x}").as_bytes()))
}
