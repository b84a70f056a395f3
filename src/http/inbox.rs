//! Reading an inbox: looking into it, becoming its reader, acknowledging.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::Answer;
use super::fields::Fields;
use super::route;
use crate::limits;
use crate::post_office::Reading;
use crate::server::{Look, Seen, Visit};
use crate::wire::client::Delivery;
use crate::wire::command::decode_content;
use crate::wire::{Epoch, Id, Name, Position};
use crate::world::World;

/// `GET /inbox/NAME`
pub(super) async fn look<W: World>(visit: &Visit<W>, name: &Name, look: &route::Look) -> Result<Answer, Answer> {
    let route::Look { after, limit, wait, reader } = *look;
    let seen = visit.look(name, Look { after, limit, wait, reader }).await?;
    let messages: Vec<Value> = seen.messages.iter().map(|(delivery, content)| message(delivery, content)).collect();
    let last = seen.messages.last().map(|(delivery, _)| delivery.position);
    // Whoever is not the reader can acknowledge only what nobody reads.
    let may = seen.reading == Reading::Nobody || (reader.is_some() && seen.reading == Reading::Apart);
    let acknowledge = last.filter(|_| may).map(|last| acknowledgement(&seen, after, last));
    Ok(Answer::with(json!({
        "client_id": name.as_str(),
        "registration": seen.registration.0,
        "epoch": seen.epoch.0,
        "reader": match seen.reading {
            Reading::Nobody => Value::Null,
            Reading::Session => "session".into(),
            Reading::Apart => "http".into(),
        },
        "acknowledged": seen.acknowledged.0,
        "waiting": seen.waiting,
        "messages": messages,
        "acknowledge": acknowledge,
    })))
}

/// What is to be posted to acknowledge all that was seen, and nothing else: what waits before it was not asked for.
fn acknowledgement(seen: &Seen, after: Position, last: Position) -> Value {
    let (up_to, ranges) = match seen.skipped {
        false => (last, json!([])),
        true => (seen.acknowledged, json!([[after.0 + 1, last.0]])),
    };
    let mut token = json!({ "registration": seen.registration.0, "epoch": seen.epoch.0, "up_to": up_to.0 });
    if seen.skipped {
        token["ranges"] = ranges;
    }
    token
}

fn message(delivery: &Delivery, content: &Bytes) -> Value {
    // Servers take no content that does not decode.
    let (headers, body) = decode_content(content).unwrap_or_else(|_| (Vec::new(), content.clone()));
    let mut message = json!({
        "position": delivery.position.0,
        "message_id": delivery.message.0,
        "sender_id": delivery.from.as_str(),
        "stream": delivery.stream.0,
        "number": delivery.number.0,
        "time": delivery.time.0,
        "redelivered": delivery.redelivered,
    });
    match std::str::from_utf8(&body) {
        Ok(text) => message["message"] = text.into(),
        Err(_) => message["message_base64"] = STANDARD.encode(&body).into(),
    }
    if let Some(channel) = &delivery.channel {
        message["channel"] = channel.as_str().into();
    }
    if let Some(notice) = &delivery.notice {
        let fate = notice.fate;
        message["receipt"] = json!({ "acknowledged": fate.acknowledged, "ended": fate.ended, "expired": fate.expired });
    }
    if !headers.is_empty() {
        message["headers"] = headers.into_iter().map(|(name, value)| json!([name, value])).collect();
    }
    message
}

/// `POST /inbox/NAME/attach`
pub(super) async fn attach<W: World>(visit: &Visit<W>, name: &Name, fields: &Fields) -> Result<Answer, Answer> {
    let registration = fields.whole("registration")?.map(Id);
    let epoch = fields.whole("epoch")?.map(Epoch);
    let window = fields.whole("window")?.unwrap_or(u64::from(limits::READER_WINDOW_DEFAULT));
    let window = u32::try_from(window).unwrap_or(limits::READER_WINDOW_MAX).clamp(1, limits::READER_WINDOW_MAX);
    let nonce = super::streams::nonce::<W>("attach", name, fields)?;
    let attachment = visit.attach(name, nonce, registration, epoch, window).await?;
    Ok(Answer::with(json!({
        "client_id": name.as_str(),
        "registration": attachment.registration.0,
        "epoch": attachment.epoch.0,
        "acknowledged": attachment.acknowledged.0,
        "window": window,
    })))
}

/// `POST /inbox/NAME/acknowledge`
pub(super) async fn acknowledge<W: World>(visit: &Visit<W>, name: &Name, fields: &Fields) -> Result<Answer, Answer> {
    let registration = Id(fields.needed("registration")?);
    let epoch = Epoch(fields.needed("epoch")?);
    let up_to = fields.whole("up_to")?.map(Position);
    let ranges = fields.ranges(up_to.unwrap_or_default())?;
    if up_to.is_none() && ranges.is_empty() {
        return Err(Answer::invalid("`up_to` is missing, and there are no `ranges`"));
    }
    let reader = (registration, epoch);
    let acknowledged = visit.acknowledge(name, reader, up_to.unwrap_or_default(), ranges).await?;
    Ok(Answer::with(json!({
        "client_id": name.as_str(),
        "registration": registration.0,
        "epoch": epoch.0,
        "acknowledged": acknowledged.0,
    })))
}

/// `POST /inbox/NAME/detach`
pub(super) async fn detach<W: World>(visit: &Visit<W>, name: &Name, fields: &Fields) -> Result<Answer, Answer> {
    let registration = Id(fields.needed("registration")?);
    let epoch = Epoch(fields.needed("epoch")?);
    let delivered = fields.whole("delivered")?.map(Position);
    visit.detach(name, registration, epoch, delivered).await?;
    Ok(Answer::done(format!("Nobody reads the inbox of {name}")))
}
