//! Messages, receipts and deliveries as the application sees them.

use std::time::Duration;

use bytes::Bytes;

use super::Error;
use crate::limits;
use crate::wire::command::{Headers, encode_content};
use crate::wire::sharing::Notice;
use crate::wire::{MessageId, Name, Number, Position, RegistrationId, StreamId, Time};

/// A message to send: a body, and headers if wanted.
///
/// ```
/// use restante::client::Message;
/// let plain = Message::from("hello");
/// let more = Message::new(vec![1, 2, 3]).header("content-type", "application/octet-stream");
/// # assert_eq!(plain.body(), "hello".as_bytes());
/// # assert_eq!(more.headers().len(), 1);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    headers: Headers,
    body: Bytes,
    expires_ms: u64,
    delay_ms: u64,
}

impl Message {
    /// A message with this body and no headers.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { headers: Headers::new(), body: body.into(), expires_ms: 0, delay_ms: 0 }
    }

    /// Adds a header. Names may repeat; their order is kept.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Lets it expire so long after it has come into the inboxes, by the cluster's clock, to the millisecond: from then on
    /// nobody gets it any more. It comes there when it is accepted, or later if [`Self::deliver_after`] says so.
    #[must_use]
    pub fn expires_after(mut self, time: Duration) -> Self {
        self.expires_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        self
    }

    /// Lets it come into the inboxes so long after it is accepted, by the cluster's clock, to the millisecond: see
    /// [`Receipt::scheduled`].
    ///
    /// It is as safe as any other from its receipt on. Whoever is named has a place kept in the inbox until then; who a
    /// channel's message goes to is found when its time has come. It stands in no order with what was sent before or after it
    /// on its stream.
    #[must_use]
    pub fn deliver_after(mut self, time: Duration) -> Self {
        self.delay_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Milliseconds after which it comes into the inboxes; 0 for at once.
    pub(super) fn delay_ms(&self) -> u64 {
        self.delay_ms
    }

    /// Milliseconds after which it expires; 0 for never.
    pub(super) fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    /// The headers, in the order given.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Checks it against the limits.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.body.len() > limits::BODY_BYTES_MAX {
            return Err(Error::TooLarge { what: "body", bytes: self.body.len(), max: limits::BODY_BYTES_MAX });
        }
        if self.headers.is_empty() {
            return Ok(());
        }
        let bytes = encode_content(&self.headers, &[]).len();
        if bytes > limits::HEADERS_BYTES_MAX {
            return Err(Error::TooLarge { what: "headers", bytes, max: limits::HEADERS_BYTES_MAX });
        }
        Ok(())
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes().to_vec())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<Vec<u8>> for Message {
    fn from(body: Vec<u8>) -> Self {
        Self::new(body)
    }
}

impl From<&[u8]> for Message {
    fn from(body: &[u8]) -> Self {
        Self::new(body.to_vec())
    }
}

impl From<Bytes> for Message {
    fn from(body: Bytes) -> Self {
        Self::new(body)
    }
}

/// A send was accepted: it is durable on a majority of the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The send's number in its stream.
    pub number: Number,
    /// The message's place in the recipient's inbox; 0 if it went to others than one client.
    pub position: Position,
    /// How many inboxes it is in; 0 if it comes later.
    pub inboxes: u32,
    /// How many of a channel's recipients, or of everybody, do without since their inbox is full.
    pub full: u32,
    /// When it comes into the inboxes, by the cluster's clock, if that is later: see [`Message::deliver_after`].
    pub scheduled: Option<Time>,
}

/// A name that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The name.
    pub name: Name,
    /// Its registration.
    pub id: RegistrationId,
    /// The server that the client was attached to when the answer came.
    pub home: Name,
}

/// A message that was received.
///
/// The body shares the buffer that it was read into: copy it to keep a small one for long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its place in the inbox, by which it is acknowledged.
    pub position: Position,
    /// Its id.
    pub message: MessageId,
    /// The sender's name.
    pub from: Name,
    /// The sender's stream.
    pub stream: StreamId,
    /// Its number in the stream.
    pub number: Number,
    /// When it was accepted, by the cluster's clock, in milliseconds.
    pub time: Time,
    /// Another process may have received it before.
    pub redelivered: bool,
    /// The channel that it was sent to, if it was.
    pub channel: Option<Name>,
    /// It is no message, but the delivered receipt of a send of this client's: the stream that it was sent on was closed
    /// before the receipt came, or before its program had taken it.
    pub notice: Option<Notice>,
    /// The headers.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
    /// The sender's software encoded the message wrongly: there are no headers, and the body is what it sent, raw.
    pub malformed: bool,
}
