//! What `/v1` takes and gives, as JSON. The OpenAPI document is made of these types: [`sending`] and [`sharing`] have those
//! of messages on their way and of channels; here are clients and inboxes.

mod keeping;
mod sending;
mod sharing;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

pub use self::keeping::*;
pub use self::sending::*;
pub use self::sharing::*;
use super::problem::Problem;
use crate::post_office::Reading;
use crate::server::Seen;
use crate::wire::client::{ClientRow, Delivery};
use crate::wire::command::decode_content;
use crate::wire::{Name, Position};

/// The header that says what a body is.
pub(super) const CONTENT_TYPE: &str = "content-type";

/// A client to be registered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The client's name.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]{1,64}$", example = "alice")]
    pub name: String,
    /// The name of its home server; without it the server that is asked, or the one that it has.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]{1,64}$")]
    pub home: Option<String>,
}

/// A registered client.
#[derive(Debug, Serialize, ToSchema)]
pub struct Client {
    /// Its name.
    pub name: String,
    /// Its registration: another one after it was deregistered and registered again.
    pub registration: u64,
    /// The server where it is, or was last, attached.
    pub home: String,
    /// Whether a session reads its inbox now.
    pub online: bool,
    /// When it last attached, detached, sent or acknowledged: milliseconds of the cluster's clock.
    pub last_seen: u64,
    /// Messages that wait in its inbox.
    pub waiting: u64,
    /// Bytes that wait in its inbox.
    pub waiting_bytes: u64,
}

/// Clients, names ascending.
#[derive(Debug, Serialize, ToSchema)]
pub struct Clients {
    /// Some of them.
    pub clients: Vec<Client>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// Reads a name.
pub(super) fn name(field: &str, text: &str) -> Result<Name, Problem> {
    Name::new(text).map_err(|why| Problem::invalid(format!("`{field}`: {why}")))
}

/// What waits in an inbox.
#[derive(Debug, Serialize, ToSchema)]
pub struct Inbox {
    /// Whose it is.
    pub client: String,
    /// The registration.
    pub registration: u64,
    /// The epoch of its reader; 0 if it never had one.
    pub epoch: u64,
    /// Who reads it.
    pub reader: Reader,
    /// Everything up to this position is acknowledged.
    pub acknowledged: u64,
    /// How many messages wait behind `after`.
    pub waiting: u64,
    /// Some of them, positions ascending.
    pub messages: Vec<Message>,
    /// Post it to `…/acknowledgements` to acknowledge the messages above. Null if there are none, or another one reads.
    pub acknowledge: Option<Acknowledgement>,
}

/// Who reads an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reader {
    /// Nobody: whoever looks may acknowledge.
    Nobody,
    /// A session: a program that uses the library, or `restante listen`.
    Session,
    /// A program that attached by HTTP.
    Http,
}

/// A message that waits.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub struct Message {
    /// Its place in the inbox.
    pub position: u64,
    /// The sender's name.
    pub from: String,
    /// The body, if it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The body in base64, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// Its headers: names and values.
    pub headers: Vec<(String, String)>,
    /// When it was accepted: milliseconds of the cluster's clock.
    pub time: u64,
    /// The sender's stream.
    pub stream: u64,
    /// Its number in the stream.
    pub number: u64,
    /// Whether another reader may have seen it before.
    pub redelivered: bool,
    /// The channel that it was sent to, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// It is no message of anybody's, but a delivered receipt whose stream was closed before: there is no body then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notice: Option<Notice>,
}

impl Message {
    /// Of a delivery and its content.
    pub fn new(delivery: &Delivery, content: &Bytes) -> Self {
        // Servers take no content that does not decode.
        let (headers, body) = decode_content(content).unwrap_or_else(|_| (Vec::new(), content.clone()));
        let is_message = delivery.notice.is_none();
        let text = std::str::from_utf8(&body).ok().filter(|_| is_message).map(str::to_owned);
        let base64 = (is_message && text.is_none()).then(|| STANDARD.encode(&body));
        Self {
            position: delivery.position.0,
            from: delivery.from.to_string(),
            text,
            base64,
            headers,
            time: delivery.time.0,
            stream: delivery.stream.0,
            number: delivery.number.0,
            redelivered: delivery.redelivered,
            channel: delivery.channel.as_ref().map(Name::to_string),
            notice: delivery.notice.map(Notice::from),
        }
    }
}

impl Inbox {
    /// Of what was seen behind a position, by whoever is or is not its reader.
    pub fn new(client: &Name, seen: &Seen, after: Position, is_reader: bool) -> Self {
        let reader = match seen.reading {
            Reading::Nobody => Reader::Nobody,
            Reading::Session => Reader::Session,
            Reading::Apart => Reader::Http,
        };
        let may = reader == Reader::Nobody || (is_reader && reader == Reader::Http);
        let last = seen.messages.last().map(|(delivery, _)| delivery.position).filter(|_| may);
        let acknowledge = last.map(|last| Acknowledgement {
            registration: seen.registration.0,
            epoch: seen.epoch.0,
            // What waits before was not asked for.
            up_to: if seen.skipped { seen.acknowledged.0 } else { last.0 },
            ranges: if seen.skipped { vec![Range { from: after.0 + 1, to: last.0 }] } else { Vec::new() },
        });
        Self {
            client: client.to_string(),
            registration: seen.registration.0,
            epoch: seen.epoch.0,
            reader,
            acknowledged: seen.acknowledged.0,
            waiting: seen.waiting,
            messages: seen.messages.iter().map(|(delivery, content)| Message::new(delivery, content)).collect(),
            acknowledge,
        }
    }
}

/// Positions that are acknowledged.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Acknowledgement {
    /// The registration that the messages were seen in.
    #[serde(deserialize_with = "whole")]
    pub registration: u64,
    /// The epoch that they were seen in.
    #[serde(deserialize_with = "whole")]
    pub epoch: u64,
    /// Everything up to here.
    #[serde(deserialize_with = "whole")]
    pub up_to: u64,
    /// Ranges above `up_to`, both ends included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 128)]
    pub ranges: Vec<Range>,
}

/// Positions from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The first one.
    #[serde(deserialize_with = "whole")]
    pub from: u64,
    /// The last one.
    #[serde(deserialize_with = "whole")]
    pub to: u64,
}

/// A whole number, also one that is written with a fraction of zero: JSON has but one kind.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    as_whole(&number).ok_or_else(|| D::Error::custom(format!("{number} is no whole number")))
}

/// The same, of one that may be left out.
fn whole_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = Option::<serde_json::Number>::deserialize(deserializer)?;
    let whole = |number: serde_json::Number| {
        as_whole(&number).ok_or_else(|| D::Error::custom(format!("{number} is no whole number")))
    };
    number.map(whole).transpose()
}

fn as_whole(number: &serde_json::Number) -> Option<u64> {
    /// From here on not every whole number is one with a fraction, too: 2^53.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let written_with_fraction = || number.as_f64().filter(|n| n.fract() == 0.0 && (0.0..EXACT).contains(n));
    number.as_u64().or_else(|| written_with_fraction().map(|n| n as u64))
}

/// How far an inbox is acknowledged.
#[derive(Debug, Serialize, ToSchema)]
pub struct Acknowledged {
    /// Everything up to here.
    pub acknowledged: u64,
}

/// A wish to read an inbox.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Attaching {
    /// Only in this registration.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub registration: Option<u64>,
    /// Only if this is the epoch in force.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub epoch: Option<u64>,
    /// Unacknowledged messages that it is shown at most; 1024 if it is not given.
    #[serde(default, deserialize_with = "whole_or_none")]
    #[schema(minimum = 1, maximum = 65536)]
    pub window: Option<u64>,
    /// Makes attaching repeatable. Name the epoch, too, or a copy that is late may fence somebody. Hexadecimal.
    #[schema(min_length = 1, max_length = 32, pattern = "^[0-9a-f]{1,32}$")]
    pub nonce: Option<String>,
}

/// A reader of an inbox.
#[derive(Debug, Serialize, ToSchema)]
pub struct Attached {
    /// The registration.
    pub registration: u64,
    /// The epoch that it reads in.
    pub epoch: u64,
    /// Everything up to here is acknowledged.
    pub acknowledged: u64,
    /// Unacknowledged messages that it is shown at most.
    pub window: u32,
}

impl From<ClientRow> for Client {
    fn from(row: ClientRow) -> Self {
        Self {
            name: row.name.to_string(),
            registration: row.registration.0,
            home: row.home.to_string(),
            online: row.online,
            last_seen: row.last_seen.0,
            waiting: row.waiting,
            waiting_bytes: row.waiting_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_may_be_written_with_a_fraction_of_zero() {
        let read = |text: &str| serde_json::from_str::<Attaching>(text).map(|attaching| attaching.window);
        assert_eq!(read(r#"{"window": 7.0}"#).unwrap(), Some(7));
        assert_eq!(read(r#"{"window": null}"#).unwrap(), None);
        assert_eq!(read("{}").unwrap(), None);
        for bad in [r#"{"window": 7.5}"#, r#"{"window": -1}"#, r#"{"window": "7"}"#, r#"{"window": 1e300}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
