//! The vocabulary of sharing: who a message goes to, on which terms, channels and patterns of their names, and what is
//! told of a message that its recipients have done with.

use serde::de::{self, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits;

use super::types::{Name, Number, StreamId};

/// Who a [`super::command::Command::Post`] goes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target<'a> {
    /// One client.
    Client(&'a str),
    /// Several clients: all of them or none. At most [`limits::RECIPIENTS_MAX`]; who is named twice gets it once.
    #[serde(borrow)]
    Clients(Vec<&'a str>),
    /// Everybody who is a member of a channel, or has subscribed to a pattern that its name fits.
    Channel(&'a str),
    /// Every registered client.
    Everybody,
}

/// Who a message goes to: see [`crate::client::SendStream::post`].
///
/// ```
/// use restante::{client::Recipients, wire::Name};
/// # fn example() -> Result<(), restante::wire::BadName> {
/// let one: Recipients = Name::new("bob")?.into();
/// let both: Recipients = vec![Name::new("bob")?, Name::new("carol")?].into();
/// let members = Recipients::Channel(Name::new("orders.new.eu")?);
/// # Ok(())
/// # }
/// # example().expect("names");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// One client.
    Client(Name),
    /// Several clients, all or none of them: at most [`limits::RECIPIENTS_MAX`]. Who is named twice gets it once.
    Clients(Vec<Name>),
    /// Everybody who has joined the channel, or subscribed to a pattern that its name fits. Those whose inbox is full do
    /// without, and the receipt says how many they are.
    Channel(Name),
    /// Every registered client, the sender with them. Those whose inbox is full do without.
    Everybody,
}

impl Recipients {
    /// Whether so many may be named.
    pub fn is_allowed(&self) -> bool {
        !matches!(self, Self::Clients(clients) if clients.is_empty() || clients.len() > limits::RECIPIENTS_MAX)
    }

    /// As a command names them.
    pub fn target(&self) -> Target<'_> {
        match self {
            Self::Client(name) => Target::Client(name),
            Self::Clients(names) => Target::Clients(names.iter().map(Name::as_str).collect()),
            Self::Channel(name) => Target::Channel(name),
            Self::Everybody => Target::Everybody,
        }
    }

    /// About how many bytes it takes in a frame.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Client(name) | Self::Channel(name) => name.len() + 8,
            Self::Clients(names) => names.iter().map(|name| name.len() + 2).sum::<usize>() + 8,
            Self::Everybody => 8,
        }
    }
}

impl From<Name> for Recipients {
    fn from(name: Name) -> Self {
        Self::Client(name)
    }
}

impl From<&Name> for Recipients {
    fn from(name: &Name) -> Self {
        Self::Client(name.clone())
    }
}

impl From<Vec<Name>> for Recipients {
    fn from(names: Vec<Name>) -> Self {
        Self::Clients(names)
    }
}

/// On which terms a message is taken.
///
/// In a frame: flags (`u8`: 1 for a receipt, 2 for a delay), `expires_ms`, and `delay_ms` if there is one. Those of a message
/// without a delay are the same bytes as before there were delays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// The sender is to be told what became of it at its recipients: see [`Fate`].
    pub receipt: bool,
    /// Milliseconds of the cluster's time after which it is delivered to nobody any more, counted from when it comes into the
    /// inboxes; 0 for never.
    pub expires_ms: u64,
    /// Milliseconds of the cluster's time after which it comes into the inboxes; 0 for at once.
    pub delay_ms: u64,
}

const RECEIPT: u8 = 1;
const DELAY: u8 = 2;

impl Serialize for Terms {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_delayed = self.delay_ms > 0;
        let flags = (u8::from(self.receipt) * RECEIPT) | (u8::from(is_delayed) * DELAY);
        let mut fields = serializer.serialize_tuple(2 + usize::from(is_delayed))?;
        fields.serialize_element(&flags)?;
        fields.serialize_element(&self.expires_ms)?;
        if is_delayed {
            fields.serialize_element(&self.delay_ms)?;
        }
        fields.end()
    }
}

impl<'de> Deserialize<'de> for Terms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Terms;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("flags, an expiry, and a delay if the flags say so")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<Terms, A::Error> {
                let missing = |place| de::Error::invalid_length(place, &self);
                let flags: u8 = fields.next_element()?.ok_or_else(|| missing(0))?;
                let expires_ms = fields.next_element()?.ok_or_else(|| missing(1))?;
                let delay_ms = match flags & DELAY {
                    0 => 0,
                    _ => fields.next_element()?.ok_or_else(|| missing(2))?,
                };
                // One form only: what tells a send from another one are its bytes.
                if flags > RECEIPT | DELAY || (flags & DELAY > 0) != (delay_ms > 0) {
                    return Err(de::Error::custom("terms of an unknown kind"));
                }
                Ok(Terms { receipt: flags & RECEIPT > 0, expires_ms, delay_ms })
            }
        }
        deserializer.deserialize_tuple(3, Fields)
    }
}

/// A change of what a client gets besides what is sent to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Enlistment<'a> {
    /// Be a member of that channel.
    Join(&'a str),
    /// Be no member of that channel any more.
    Leave(&'a str),
    /// Get what is sent to any channel whose name fits the pattern.
    Subscribe(&'a str),
    /// Do so no more.
    Unsubscribe(&'a str),
    /// What its inbox does when it is full, and with what was acknowledged.
    SetInbox(InboxSettings),
}

/// What an inbox does when it is full, and with what was acknowledged: the recipient's choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxSettings {
    /// When it is full.
    pub overflow: Overflow,
    /// So many acknowledged messages are kept for [`crate::client::Client::history`], the latest positions; 0 for none. At
    /// most [`limits::KEPT_MESSAGES_MAX`]. They take no room from what waits, and no more bytes than that may.
    pub keep_messages: u32,
    /// Milliseconds of the cluster's time for which one is kept at most, counted from its acknowledgement; 0 for no such bound.
    pub keep_ms: u64,
}

/// What becomes of a message for an inbox that is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overflow {
    /// It is refused, and its sender told so: nothing that was accepted is lost.
    #[default]
    Refuse,
    /// The oldest ones that wait make room for it. Their delivered receipts say that they were dropped.
    DropOldest,
}

impl Overflow {
    /// Its name in options, in JSON and in what is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::DropOldest => "drop-oldest",
        }
    }
}

/// Which of several recipients a send did not reach, by their places in the list: bit 0 is the first one's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreached {
    /// Those of whom nobody is registered.
    pub unknown: u64,
    /// Those whose inbox is full.
    pub full: u64,
}

impl Unreached {
    /// Whether it says anything against anybody.
    pub fn is_empty(self) -> bool {
        self.unknown == 0 && self.full == 0
    }
}

impl std::fmt::Display for Unreached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (unknown, full) = (self.unknown.count_ones(), self.full.count_ones());
        match (unknown, full) {
            (unknown, 0) => write!(f, "{unknown} are not registered"),
            (0, full) => write!(f, "{full} have a full inbox"),
            (unknown, full) => write!(f, "{unknown} are not registered and {full} have a full inbox"),
        }
    }
}

/// What became of a message at its recipients, once it waits nowhere any more: how many of its copies were acknowledged,
/// and how many were not and why. Together they are as many as it was accepted for.
///
/// In a frame `dropped` is the upper half of the number whose lower half is `expired`, so that a fate in which nothing was
/// dropped is the same bytes as before anything could be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "FateFields", into = "FateFields")]
pub struct Fate {
    /// The recipient acknowledged it.
    pub acknowledged: u32,
    /// The recipient's registration ended before it did.
    pub ended: u32,
    /// It expired before it did.
    pub expired: u32,
    /// It made room for a later one in an inbox that drops its oldest: see [`Overflow::DropOldest`].
    pub dropped: u32,
}

impl Fate {
    /// Whether every copy was acknowledged.
    pub fn is_delivered(self) -> bool {
        self.ended == 0 && self.expired == 0 && self.dropped == 0
    }
}

#[derive(Serialize, Deserialize)]
struct FateFields {
    acknowledged: u32,
    ended: u32,
    expired_and_dropped: u64,
}

impl From<Fate> for FateFields {
    fn from(fate: Fate) -> Self {
        let Fate { acknowledged, ended, expired, dropped } = fate;
        Self { acknowledged, ended, expired_and_dropped: u64::from(dropped) << 32 | u64::from(expired) }
    }
}

impl From<FateFields> for Fate {
    fn from(fields: FateFields) -> Self {
        let FateFields { acknowledged, ended, expired_and_dropped: both } = fields;
        Self { acknowledged, ended, expired: both as u32, dropped: (both >> 32) as u32 }
    }
}

/// A delivered receipt that comes as a message, since the stream of its send was closed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The stream of the send.
    pub stream: StreamId,
    /// Its number.
    pub number: Number,
    /// What became of it.
    pub fate: Fate,
}

/// Whether `text` may be the name of a channel: a [`Name`] of one or more parts with a `.` between them.
pub fn is_channel(text: &str) -> bool {
    Name::is_valid(text) && text.split('.').all(|part| !part.is_empty())
}

/// Whether `text` may be a pattern of channels' names: like such a name, but a part may be `*`, which stands for any one
/// part, and the last one `>`, which stands for one or more.
pub fn is_pattern(text: &str) -> bool {
    let mut parts = text.split('.').peekable();
    let mut good = text.len() <= limits::NAME_BYTES_MAX;
    while let Some(part) = parts.next() {
        good &= match part {
            "*" => true,
            ">" => parts.peek().is_none(),
            part => Name::is_valid(part),
        };
    }
    good
}

/// Whether a channel's name fits a pattern.
pub fn fits(channel: &str, pattern: &str) -> bool {
    let (mut parts, mut wanted) = (channel.split('.'), pattern.split('.'));
    loop {
        match (parts.next(), wanted.next()) {
            (Some(_), Some(">")) | (None, None) => return true,
            (Some(part), Some(want)) if want == "*" || want == part => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_in_terms_and_fates_leaves_the_old_bytes_as_they_were() {
        let bytes = |terms: Terms| postcard::to_allocvec(&terms).expect("it encodes");
        let plain = Terms { receipt: true, expires_ms: 300, delay_ms: 0 };
        assert_eq!(bytes(plain), postcard::to_allocvec(&(true, 300u64)).expect("it encodes"));
        for terms in [
            plain,
            Terms::default(),
            Terms { delay_ms: 7, ..plain },
            Terms { receipt: false, expires_ms: 0, delay_ms: u64::MAX },
        ] {
            assert_eq!(postcard::from_bytes::<Terms>(&bytes(terms)), Ok(terms));
        }
        for bad in [&[4u8, 0][..], &[2, 0, 0], &[2, 0], &[0]] {
            assert!(postcard::from_bytes::<Terms>(bad).is_err(), "{bad:?}");
        }
        let fate = Fate { acknowledged: 1, ended: 2, expired: 300, dropped: 0 };
        let bytes = postcard::to_allocvec(&fate).expect("it encodes");
        assert_eq!(bytes, postcard::to_allocvec(&(1u32, 2u32, 300u32)).expect("it encodes"));
        let fate = Fate { dropped: u32::MAX, expired: u32::MAX, ..fate };
        let bytes = postcard::to_allocvec(&fate).expect("it encodes");
        assert_eq!(postcard::from_bytes::<Fate>(&bytes), Ok(fate));
    }

    #[test]
    fn channels_have_parts_and_none_is_empty() {
        for good in ["orders", "orders.new.eu", "a-b.c_d.9"] {
            assert!(is_channel(good), "{good}");
        }
        for bad in ["", ".", "orders.", ".orders", "a..b", "a.*", "a.>", "a b", &"x".repeat(65)] {
            assert!(!is_channel(bad), "{bad}");
        }
    }

    #[test]
    fn patterns_have_stars_for_parts_and_end_with_the_rest() {
        for good in ["*", ">", "orders.*.eu", "orders.>", "*.*", "*.>", "orders"] {
            assert!(is_pattern(good), "{good}");
        }
        for bad in ["", "orders.>.eu", "or*", "a.>b", "a..b", "a.", ">.", &"x.".repeat(40)] {
            assert!(!is_pattern(bad), "{bad}");
        }
    }

    #[test]
    fn a_star_is_one_part_and_the_rest_is_one_or_more() {
        for (channel, pattern) in [
            ("orders.new.eu", "orders.*.eu"),
            ("orders.new.eu", "orders.>"),
            ("orders.new.eu", "*.*.*"),
            ("orders.new.eu", ">"),
            ("orders", "*"),
            ("orders", "orders"),
        ] {
            assert!(fits(channel, pattern), "{channel} {pattern}");
        }
        for (channel, pattern) in [
            ("orders", "orders.>"),
            ("orders.new", "orders.*.eu"),
            ("orders.new.eu.fr", "orders.*.eu"),
            ("orders.new.eu", "orders.*"),
            ("orders.new.eu", "*"),
            ("order", "orders"),
        ] {
            assert!(!fits(channel, pattern), "{channel} {pattern}");
        }
    }
}
