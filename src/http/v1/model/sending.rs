//! Messages on their way: what is sent, and what is told of it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::problem::Problem;
use super::super::query::WHOLE_MAX;
use super::{CONTENT_TYPE, Destination, name, whole_or_none};
use crate::limits;
use crate::server::{Outgoing, Placed};
use crate::wire::Name;
use crate::wire::command::{Headers, encode_content};
use crate::wire::sharing::Terms;

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
    /// Who it goes to.
    to: Destination,
    /// The body.
    #[schema(max_length = 1048576, example = "hello")]
    text: String,
    /// What the body is, e.g. `text/markdown`. It is kept as the message's header `content-type`.
    #[schema(max_length = 255)]
    content_type: Option<String>,
    /// More headers: names and values, up to 16 KiB together.
    headers: Option<BTreeMap<String, String>>,
    /// Milliseconds after which it is delivered to nobody any more, by the cluster's clock, counted from when it comes into the
    /// inboxes.
    #[schema(minimum = 1)]
    expires_after_ms: Option<u64>,
    /// Milliseconds after which it comes into the inboxes, by the cluster's clock; else it does so at once.
    #[schema(minimum = 1)]
    deliver_after_ms: Option<u64>,
}

/// A message whose body is any bytes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it says what the document says; what is read is `Sending`")]
pub struct Base64Message {
    /// The sender's name. Not in a batch or on a stream, which have one sender.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]{1,64}$", example = "alice")]
    from: String,
    /// Who it goes to.
    to: Destination,
    /// The body, in base64.
    #[schema(format = Byte, max_length = 1398104, example = "aGVsbG8=")]
    base64: String,
    /// What the body is, e.g. `image/png`. It is kept as the message's header `content-type`.
    #[schema(max_length = 255)]
    content_type: Option<String>,
    /// More headers: names and values, up to 16 KiB together.
    headers: Option<BTreeMap<String, String>>,
    /// Milliseconds after which it is delivered to nobody any more, by the cluster's clock, counted from when it comes into the
    /// inboxes.
    #[schema(minimum = 1)]
    expires_after_ms: Option<u64>,
    /// Milliseconds after which it comes into the inboxes, by the cluster's clock; else it does so at once.
    #[schema(minimum = 1)]
    deliver_after_ms: Option<u64>,
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
    /// Who it goes to.
    to: Destination,
    /// The body.
    #[schema(max_length = 1048576, example = "hello")]
    text: String,
    /// What the body is. It is kept as the message's header `content-type`.
    #[schema(max_length = 255)]
    content_type: Option<String>,
    /// More headers: names and values, up to 16 KiB together.
    headers: Option<BTreeMap<String, String>>,
    /// Milliseconds after which it is delivered to nobody any more, by the cluster's clock, counted from when it comes into the
    /// inboxes.
    #[schema(minimum = 1)]
    expires_after_ms: Option<u64>,
    /// Milliseconds after which it comes into the inboxes, by the cluster's clock; else it does so at once.
    #[schema(minimum = 1)]
    deliver_after_ms: Option<u64>,
}

/// A message of a batch or a stream whose body is any bytes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it says what the document says; what is read is `Sending`")]
pub struct Base64Part {
    /// Who it goes to.
    to: Destination,
    /// The body, in base64.
    #[schema(format = Byte, max_length = 1398104, example = "aGVsbG8=")]
    base64: String,
    /// What the body is. It is kept as the message's header `content-type`.
    #[schema(max_length = 255)]
    content_type: Option<String>,
    /// More headers: names and values, up to 16 KiB together.
    headers: Option<BTreeMap<String, String>>,
    /// Milliseconds after which it is delivered to nobody any more, by the cluster's clock, counted from when it comes into the
    /// inboxes.
    #[schema(minimum = 1)]
    expires_after_ms: Option<u64>,
    /// Milliseconds after which it comes into the inboxes, by the cluster's clock; else it does so at once.
    #[schema(minimum = 1)]
    deliver_after_ms: Option<u64>,
}

/// What is read of a message: which fields there must be is checked by whoever uses it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Sending {
    pub from: Option<String>,
    pub to: Destination,
    pub text: Option<String>,
    pub base64: Option<String>,
    pub content_type: Option<String>,
    pub headers: Option<BTreeMap<String, String>>,
    #[serde(default, deserialize_with = "whole_or_none")]
    pub expires_after_ms: Option<u64>,
    #[serde(default, deserialize_with = "whole_or_none")]
    pub deliver_after_ms: Option<u64>,
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

    /// The message that is sent.
    pub fn outgoing(&self) -> Result<Outgoing, Problem> {
        self.outgoing_with(Headers::new())
    }

    /// The same with these headers besides, in place of any of those names.
    pub fn outgoing_with(&self, more: Headers) -> Result<Outgoing, Problem> {
        let to = self.to.recipients()?;
        for (field, value) in [("expires_after_ms", self.expires_after_ms), ("deliver_after_ms", self.deliver_after_ms)]
        {
            if value.is_some_and(|ms| !(1..=WHOLE_MAX).contains(&ms)) {
                return Err(Problem::invalid(format!("`{field}` is a number from 1 to {WHOLE_MAX}")));
            }
        }
        let (expires_ms, delay_ms) = (self.expires_after_ms.unwrap_or(0), self.deliver_after_ms.unwrap_or(0));
        let terms = Terms { receipt: false, expires_ms, delay_ms };
        let body = match (&self.text, &self.base64) {
            (Some(text), None) => Bytes::copy_from_slice(text.as_bytes()),
            (None, Some(base64)) => {
                let decoded = STANDARD.decode(base64);
                decoded.map_err(|error| Problem::invalid(format!("`base64` is no base64: {error}")))?.into()
            }
            _ => return Err(Problem::invalid("a message has either `text` or `base64`")),
        };
        let own = self.headers.iter().flatten().filter(|(name, _)| more.iter().all(|(known, _)| known != *name));
        let mut headers: Headers = own.map(|(name, value)| (name.clone(), value.clone())).collect();
        headers.extend(more);
        Ok(Outgoing { to, terms, content: content(self.content_type.as_deref(), headers, &body)? })
    }
}

/// A message's content of its parts, within the limits.
pub(in super::super) fn content(
    content_type: Option<&str>,
    mut headers: Headers,
    body: &[u8],
) -> Result<Bytes, Problem> {
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

/// An accepted message.
#[derive(Debug, Serialize, ToSchema)]
pub struct Receipt {
    /// Where it is in the recipient's inbox, if it went to one client. It is durable on a majority of the servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// How many inboxes it is in; 0 if it comes later.
    pub inboxes: u32,
    /// Of a channel's recipients, or of everybody: how many do without, since their inbox is full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full: Option<u32>,
    /// When it comes into the inboxes, if that is later: milliseconds of the cluster's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliver_at_ms: Option<u64>,
    /// If its delivered receipt was asked for: the stream that the notice will name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<u64>,
    /// And the number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
}

impl From<Placed> for Receipt {
    fn from(placed: Placed) -> Self {
        let nowhere = Self { position: None, inboxes: 0, full: None, deliver_at_ms: None, stream: None, number: None };
        match placed {
            Placed::At(position) => Self { position: Some(position.0), inboxes: 1, ..nowhere },
            Placed::In { inboxes, full } => Self { inboxes, full: Some(full), ..nowhere },
            Placed::Later(time) => Self { deliver_at_ms: Some(time.0), ..nowhere },
        }
    }
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
    pub(in super::super) messages: Vec<Sending>,
}

/// What became of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchOutcome {
    /// How many were accepted.
    pub accepted: usize,
    /// What became of each, in their order.
    pub outcomes: Vec<PartOutcome>,
}

/// What became of one message of a batch: either where it is, or why it was not accepted.
#[derive(Debug, Serialize, ToSchema)]
pub struct PartOutcome {
    /// Where it is in the recipient's inbox, if it went to one client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// How many inboxes it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inboxes: Option<u32>,
    /// How many do without, since their inbox is full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full: Option<u32>,
    /// When it comes into the inboxes, if that is later: milliseconds of the cluster's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliver_at_ms: Option<u64>,
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
    /// Where the message is in the recipient's inbox, if it went to one client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// How many inboxes it is in.
    pub inboxes: u32,
    /// How many do without, since their inbox is full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full: Option<u32>,
    /// When it comes into the inboxes, if that is later: milliseconds of the cluster's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliver_at_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::command::decode_content;

    fn sending(json: &str) -> Result<Outgoing, Problem> {
        let read: Sending = serde_json::from_str(json).map_err(Problem::invalid)?;
        read.outgoing()
    }

    #[test]
    fn a_body_is_text_or_base64_and_keeps_what_it_is() {
        let outgoing =
            sending(r#"{"to": "bob", "base64": "/wA=", "content_type": "x/y", "headers": {"a": "b"}}"#).unwrap();
        let (headers, body) = decode_content(&outgoing.content).unwrap();
        assert_eq!((outgoing.describe().as_str(), &body[..]), ("bob", &[255, 0][..]));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(headers, [pair("content-type", "x/y"), pair("a", "b")]);
        let outgoing = sending(r#"{"to": "bob", "text": "grüße"}"#).unwrap();
        assert_eq!(decode_content(&outgoing.content).unwrap(), (Vec::new(), Bytes::from("grüße")));
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
        assert_eq!(sending(&large).unwrap_err().code.as_ref(), "too_large");
    }

    #[test]
    fn a_destination_is_a_client_several_a_channel_or_everybody() {
        for (to, described) in [
            (r#""bob""#, "bob"),
            (r#"["bob", "carol"]"#, "2 clients"),
            (r#"{"channel": "orders.new"}"#, "channel orders.new"),
            (r#"{"all": "clients"}"#, "everybody"),
        ] {
            let outgoing = sending(&format!(r#"{{"to": {to}, "text": "x"}}"#)).unwrap();
            assert_eq!(outgoing.describe(), described);
        }
        for bad in [r#"[]"#, r#"["no name"]"#, r#"{"channel": "a..b"}"#, r#"{"all": "servers"}"#, r#"{}"#, "7"] {
            assert_eq!(sending(&format!(r#"{{"to": {bad}, "text": "x"}}"#)).unwrap_err().status, 400, "{bad}");
        }
        let many = vec![r#""a""#; limits::RECIPIENTS_MAX + 1].join(",");
        assert!(sending(&format!(r#"{{"to": [{many}], "text": "x"}}"#)).is_err());
    }
}
