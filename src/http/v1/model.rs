//! What `/v1` takes and gives, as JSON. The OpenAPI document is made of these types.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;
use crate::limits;
use crate::post_office::Reading;
use crate::server::Seen;
use crate::wire::client::{ClientRow, Delivery};
use crate::wire::command::{Headers, decode_content, encode_content};
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

/// A message to be sent: its body is either `text`, or any bytes in `base64`.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Message)]
#[serde(untagged)]
#[allow(dead_code, reason = "it says what the document says; what is read is `Sending`")]
pub enum MessageSchema {
    /// With a body of text.
    Text(TextMessage),
    /// With a body of any bytes.
    Base64(Base64Message),
}

/// A message whose body is text.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it says what the document says; what is read is `Sending`")]
pub struct TextMessage {
    /// The sender's name. Not in a batch or on a stream, which have one sender.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]{1,64}$", example = "alice")]
    from: String,
    /// The recipient's name.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]{1,64}$", example = "bob")]
    to: String,
    /// The body.
    #[schema(max_length = 1048576, example = "hello")]
    text: String,
    /// What the body is, e.g. `text/markdown`. It is kept as the message's header `content-type`.
    #[schema(max_length = 255)]
    content_type: Option<String>,
    /// More headers: names and values, up to 16 KiB together.
    headers: Option<BTreeMap<String, String>>,
}

/// A message whose body is any bytes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it says what the document says; what is read is `Sending`")]
pub struct Base64Message {
    /// The sender's name. Not in a batch or on a stream, which have one sender.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]{1,64}$", example = "alice")]
    from: String,
    /// The recipient's name.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]{1,64}$", example = "bob")]
    to: String,
    /// The body, in base64.
    #[schema(format = Byte, max_length = 1398104, example = "aGVsbG8=")]
    base64: String,
    /// What the body is, e.g. `image/png`. It is kept as the message's header `content-type`.
    #[schema(max_length = 255)]
    content_type: Option<String>,
    /// More headers: names and values, up to 16 KiB together.
    headers: Option<BTreeMap<String, String>>,
}

/// One message of a batch, or one that is put to a stream: as a message, without a sender.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Part)]
#[serde(untagged)]
#[allow(dead_code, reason = "it says what the document says; what is read is `Sending`")]
pub enum PartSchema {
    /// With a body of text.
    Text(TextPart),
    /// With a body of any bytes.
    Base64(Base64Part),
}

/// A message of a batch or a stream whose body is text.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it says what the document says; what is read is `Sending`")]
pub struct TextPart {
    /// The recipient's name.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]{1,64}$", example = "bob")]
    to: String,
    /// The body.
    #[schema(max_length = 1048576, example = "hello")]
    text: String,
    /// What the body is. It is kept as the message's header `content-type`.
    #[schema(max_length = 255)]
    content_type: Option<String>,
    /// More headers: names and values, up to 16 KiB together.
    headers: Option<BTreeMap<String, String>>,
}

/// A message of a batch or a stream whose body is any bytes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it says what the document says; what is read is `Sending`")]
pub struct Base64Part {
    /// The recipient's name.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]{1,64}$", example = "bob")]
    to: String,
    /// The body, in base64.
    #[schema(format = Byte, max_length = 1398104, example = "aGVsbG8=")]
    base64: String,
    /// What the body is. It is kept as the message's header `content-type`.
    #[schema(max_length = 255)]
    content_type: Option<String>,
    /// More headers: names and values, up to 16 KiB together.
    headers: Option<BTreeMap<String, String>>,
}

/// What is read of a message: which fields there must be is checked by whoever uses it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sending {
    pub from: Option<String>,
    pub to: String,
    pub text: Option<String>,
    pub base64: Option<String>,
    pub content_type: Option<String>,
    pub headers: Option<BTreeMap<String, String>>,
}

impl Sending {
    /// The sender.
    pub fn from(&self) -> Result<Name, Problem> {
        name("from", self.from.as_deref().ok_or_else(|| Problem::invalid("`from` is missing"))?)
    }

    /// Refuses a sender where the stream or the batch has one.
    pub fn without_sender(&self) -> Result<(), Problem> {
        match self.from {
            None => Ok(()),
            Some(_) => Err(Problem::invalid("a message of a batch or a stream has no `from` of its own")),
        }
    }

    /// The recipient and the content.
    pub fn content(&self) -> Result<(Name, Bytes), Problem> {
        let to = name("to", &self.to)?;
        let body = match (&self.text, &self.base64) {
            (Some(text), None) => Bytes::copy_from_slice(text.as_bytes()),
            (None, Some(base64)) => {
                let decoded = STANDARD.decode(base64);
                decoded.map_err(|error| Problem::invalid(format!("`base64` is no base64: {error}")))?.into()
            }
            _ => return Err(Problem::invalid("a message has either `text` or `base64`")),
        };
        let headers = self.headers.clone().unwrap_or_default().into_iter().collect();
        Ok((to, content(self.content_type.as_deref(), headers, &body)?))
    }
}

/// A message's content of its parts, within the limits.
pub(super) fn content(content_type: Option<&str>, mut headers: Headers, body: &[u8]) -> Result<Bytes, Problem> {
    if content_type.is_some_and(|text| text.chars().count() > 255) {
        return Err(Problem::invalid("the content type has more than 255 characters"));
    }
    if let Some(content_type) = content_type {
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case(CONTENT_TYPE));
        headers.insert(0, (CONTENT_TYPE.to_owned(), content_type.to_owned()));
    }
    let too_large = |what: String| Problem::new(hyper::StatusCode::PAYLOAD_TOO_LARGE, "too_large", what);
    if body.len() > limits::BODY_BYTES_MAX {
        return Err(too_large(format!(
            "the message has {} bytes, and {} are allowed",
            body.len(),
            limits::BODY_BYTES_MAX
        )));
    }
    let head = encode_content(&headers, &[]).len();
    if head > limits::HEADERS_BYTES_MAX {
        return Err(too_large(format!("the headers have {head} bytes, and {} are allowed", limits::HEADERS_BYTES_MAX)));
    }
    Ok(encode_content(&headers, body))
}

/// Reads a name.
pub(super) fn name(field: &str, text: &str) -> Result<Name, Problem> {
    Name::new(text).map_err(|why| Problem::invalid(format!("`{field}`: {why}")))
}

/// An accepted message.
#[derive(Debug, Serialize, ToSchema)]
pub struct Receipt {
    /// Where it is in the recipient's inbox. It is durable on a majority of the servers.
    pub position: u64,
}

/// Several messages of one sender, sent in this order.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// The sender's name.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]{1,64}$", example = "alice")]
    pub from: String,
    /// The messages.
    #[schema(value_type = Vec<PartSchema>, min_items = 1, max_items = 1000)]
    pub(super) messages: Vec<Sending>,
}

/// What became of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchOutcome {
    /// How many were accepted.
    pub accepted: usize,
    /// What became of each, in their order.
    pub outcomes: Vec<PartOutcome>,
}

/// What became of one message of a batch: either its position, or why it was not accepted.
#[derive(Debug, Serialize, ToSchema)]
pub struct PartOutcome {
    /// Where it is in the recipient's inbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// Why it was not accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// A stream to be opened.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamOpening {
    /// The sender's name.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]{1,64}$", example = "alice")]
    pub client: String,
    /// Makes opening repeatable: the same one is the same stream, as long as it is open. Hexadecimal.
    #[schema(min_length = 1, max_length = 32, pattern = "^[0-9a-f]{1,32}$")]
    pub nonce: Option<String>,
}

/// An open stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct Stream {
    /// Its id.
    pub stream: u64,
    /// The sender's name.
    pub client: String,
    /// The sender's registration.
    pub registration: u64,
    /// The number that comes next.
    pub next: u64,
}

/// What became of a numbered send.
#[derive(Debug, Serialize, ToSchema)]
pub struct NumberedReceipt {
    /// The stream.
    pub stream: u64,
    /// The number.
    pub number: u64,
    /// Where the message is in the recipient's inbox.
    pub position: u64,
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
}

impl Message {
    /// Of a delivery and its content.
    pub fn new(delivery: &Delivery, content: &Bytes) -> Self {
        // Servers take no content that does not decode.
        let (headers, body) = decode_content(content).unwrap_or_else(|_| (Vec::new(), content.clone()));
        let text = std::str::from_utf8(&body).ok().map(str::to_owned);
        let base64 = text.is_none().then(|| STANDARD.encode(&body));
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

    fn sending(json: &str) -> Result<(Name, Bytes), Problem> {
        let read: Sending = serde_json::from_str(json).map_err(Problem::invalid)?;
        read.content()
    }

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

    #[test]
    fn a_body_is_text_or_base64_and_keeps_what_it_is() {
        let (to, content) =
            sending(r#"{"to": "bob", "base64": "/wA=", "content_type": "x/y", "headers": {"a": "b"}}"#).unwrap();
        let (headers, body) = decode_content(&content).unwrap();
        assert_eq!((to.as_str(), &body[..]), ("bob", &[255, 0][..]));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(headers, [pair("content-type", "x/y"), pair("a", "b")]);
        let (_, content) = sending(r#"{"to": "bob", "text": "grüße"}"#).unwrap();
        assert_eq!(decode_content(&content).unwrap(), (Vec::new(), Bytes::from("grüße")));
        for bad in [
            r#"{"to": "bob"}"#,
            r#"{"to": "bob", "text": "x", "base64": "eA=="}"#,
            r#"{"to": "bob", "base64": "?"}"#,
            r#"{"to": "no name", "text": "x"}"#,
            r#"{"to": "bob", "text": 1}"#,
            r#"{"to": "bob", "text": "x", "more": 1}"#,
        ] {
            assert_eq!(sending(bad).unwrap_err().status, 400, "{bad}");
        }
        let large =
            format!(r#"{{"to": "bob", "text": "x", "headers": {{"a": "{}"}}}}"#, "b".repeat(limits::HEADERS_BYTES_MAX));
        assert_eq!(sending(&large).unwrap_err().code, "too_large");
    }
}
