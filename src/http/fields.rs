//! The JSON in a request's body. All requests are objects of a few fields, and lax in what they take: an id is a text or
//! a number, and what is not known is passed over. Pure.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::limits;
use crate::wire::{Name, Nonce, Position};

/// The fields that requests may have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Fields {
    client_id: Scalar,
    sender_id: Scalar,
    receiver_id: Scalar,
    message: Scalar,
    message_base64: Scalar,
    port: Scalar,
    new_port: Scalar,
    server: Scalar,
    nonce: Scalar,
    registration: Scalar,
    epoch: Scalar,
    up_to: Scalar,
    confirmed: Scalar,
    delivered: Scalar,
    window: Scalar,
    ranges: Option<Vec<[u64; 2]>>,
}

/// From here on not every whole number is a number with a fraction, too: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A field whose type is checked when it is used: so that it is told apart from one that is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Scalar {
    #[default]
    Missing,
    Text(String),
    /// As it would be written; only what is known to its last digit.
    Number(String),
    Other,
}

/// A body that is not what the request needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFields {
    /// It is no JSON object, or one of its fields has a type that it never has.
    #[error("the body is no JSON object of the known fields: {0}")]
    Malformed(String),
    /// A field is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field is not what it should be.
    #[error("`{field}` is no {what}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it should be.
        what: &'static str,
    },
    /// A name that cannot be.
    #[error("`{field}`: {why}")]
    Name {
        /// Which.
        field: &'static str,
        /// What is wrong.
        why: crate::wire::BadName,
    },
    /// The message is larger than messages may be.
    #[error("the message has {bytes} bytes, and {} are allowed", limits::BODY_BYTES_MAX)]
    TooLarge {
        /// How many it has.
        bytes: usize,
    },
}

/// The server that a client names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// By its port.
    Port(u16),
    /// By its name.
    Server(Name),
}

impl Fields {
    /// Reads a body.
    ///
    /// # Errors
    /// [`BadFields::Malformed`].
    pub fn read(body: &[u8]) -> Result<Self, BadFields> {
        // A list would be taken for the fields in their order.
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(BadFields::Malformed("it is not an object".to_owned()));
        }
        serde_json::from_slice(body).map_err(|error| BadFields::Malformed(error.to_string()))
    }

    /// As [`Self::read`], of a body that may be left out.
    ///
    /// # Errors
    /// [`BadFields::Malformed`].
    pub fn read_or_none(body: &[u8]) -> Result<Self, BadFields> {
        if body.iter().all(u8::is_ascii_whitespace) { Ok(Self::default()) } else { Self::read(body) }
    }

    /// `client_id`.
    ///
    /// # Errors
    /// [`BadFields`], as all of these.
    pub fn client(&self) -> Result<Name, BadFields> {
        name("client_id", &self.client_id)
    }

    /// `sender_id`.
    ///
    /// # Errors
    /// [`BadFields`].
    pub fn sender(&self) -> Result<Name, BadFields> {
        name("sender_id", &self.sender_id)
    }

    /// `receiver_id`.
    ///
    /// # Errors
    /// [`BadFields`].
    pub fn receiver(&self) -> Result<Name, BadFields> {
        name("receiver_id", &self.receiver_id)
    }

    /// `message`, or the bytes of `message_base64`.
    ///
    /// # Errors
    /// [`BadFields`].
    pub fn message(&self) -> Result<Bytes, BadFields> {
        let bytes: Bytes = match (&self.message, &self.message_base64) {
            (Scalar::Text(text) | Scalar::Number(text), Scalar::Missing) => text.clone().into(),
            (Scalar::Missing, Scalar::Missing) => return Err(BadFields::Missing("message")),
            (Scalar::Missing, Scalar::Text(text)) => {
                let bad = |_| BadFields::Field { field: "message_base64", what: "base64" };
                STANDARD.decode(text).map_err(bad)?.into()
            }
            (Scalar::Missing, _) => return Err(BadFields::Field { field: "message_base64", what: "text" }),
            (Scalar::Other, _) => {
                return Err(BadFields::Field { field: "message", what: "text or number (of at most 19 digits)" });
            }
            _ => {
                return Err(BadFields::Field {
                    field: "message",
                    what: "one message: there is a `message_base64`, too",
                });
            }
        };
        if bytes.len() > limits::BODY_BYTES_MAX {
            return Err(BadFields::TooLarge { bytes: bytes.len() });
        }
        Ok(bytes)
    }

    /// `port`, or `server`.
    ///
    /// # Errors
    /// [`BadFields`].
    pub fn home(&self) -> Result<Place, BadFields> {
        self.place("port", &self.port)
    }

    /// `new_port`, or `server`.
    ///
    /// # Errors
    /// [`BadFields`].
    pub fn new_home(&self) -> Result<Place, BadFields> {
        self.place("new_port", &self.new_port)
    }

    fn place(&self, field: &'static str, port: &Scalar) -> Result<Place, BadFields> {
        if let (Scalar::Missing, Scalar::Text(_)) = (port, &self.server) {
            return Ok(Place::Server(name("server", &self.server)?));
        }
        let port = whole(field, port)?.ok_or(BadFields::Missing(field))?;
        match u16::try_from(port) {
            Ok(port) if port > 0 => Ok(Place::Port(port)),
            _ => Err(BadFields::Field { field, what: "port" }),
        }
    }

    /// `nonce`: up to 32 hexadecimal digits, with hyphens as in a UUID.
    ///
    /// # Errors
    /// [`BadFields`].
    pub fn nonce(&self) -> Result<Option<Nonce>, BadFields> {
        let text = match &self.nonce {
            Scalar::Missing => return Ok(None),
            Scalar::Text(text) | Scalar::Number(text) => text.replace('-', ""),
            Scalar::Other => String::new(),
        };
        let bad = BadFields::Field { field: "nonce", what: "UUID, nor up to 32 hexadecimal digits" };
        if text.is_empty() || text.len() > 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(bad);
        }
        Nonce::from_str_radix(&text, 16).map(Some).map_err(|_| bad)
    }

    /// One of `registration`, `epoch`, `up_to`, `confirmed`, `delivered` and `window`, if it is there.
    ///
    /// # Errors
    /// [`BadFields`].
    pub fn whole(&self, field: &'static str) -> Result<Option<u64>, BadFields> {
        let value = match field {
            "registration" => &self.registration,
            "epoch" => &self.epoch,
            "up_to" => &self.up_to,
            "confirmed" => &self.confirmed,
            "delivered" => &self.delivered,
            "window" => &self.window,
            _ => &Scalar::Missing,
        };
        whole(field, value)
    }

    /// As [`Self::whole`], and it has to be there.
    ///
    /// # Errors
    /// [`BadFields`].
    pub fn needed(&self, field: &'static str) -> Result<u64, BadFields> {
        self.whole(field)?.ok_or(BadFields::Missing(field))
    }

    /// `ranges`: what is acknowledged above `up_to`.
    ///
    /// # Errors
    /// [`BadFields`] if they do not ascend, or are too many.
    pub fn ranges(&self, up_to: Position) -> Result<Vec<(Position, Position)>, BadFields> {
        let ranges = self.ranges.as_deref().unwrap_or_default();
        let mut below = up_to.0;
        for [from, to] in ranges {
            if *from <= below || to < from {
                return Err(BadFields::Field { field: "ranges", what: "list of pairs that ascend above `up_to`" });
            }
            below = *to;
        }
        if ranges.len() > limits::ACKNOWLEDGE_RANGES_MAX {
            return Err(BadFields::Field { field: "ranges", what: "list of at most 128 pairs" });
        }
        Ok(ranges.iter().map(|[from, to]| (Position(*from), Position(*to))).collect())
    }
}

fn name(field: &'static str, value: &Scalar) -> Result<Name, BadFields> {
    match value {
        Scalar::Missing => Err(BadFields::Missing(field)),
        Scalar::Text(text) | Scalar::Number(text) => Name::new(text).map_err(|why| BadFields::Name { field, why }),
        Scalar::Other => Err(BadFields::Field { field, what: "text or number (of at most 19 digits)" }),
    }
}

fn whole(field: &'static str, value: &Scalar) -> Result<Option<u64>, BadFields> {
    match value {
        Scalar::Missing => Ok(None),
        Scalar::Text(text) | Scalar::Number(text) => match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(BadFields::Field { field, what: "whole number" }),
        },
        Scalar::Other => Err(BadFields::Field { field, what: "whole number" }),
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a number")
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Scalar, E> {
        Ok(Scalar::Text(text))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number.to_string()))
    }

    /// Digits beyond these are lost in reading: what was two numbers would be one client, or another message.
    fn visit_f64<E>(self, number: f64) -> Result<Scalar, E> {
        Ok(if number.abs() < EXACT { Scalar::Number(number.to_string()) } else { Scalar::Other })
    }

    fn visit_bool<E>(self, _: bool) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    /// As good as missing.
    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Missing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Scalar, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Scalar, A::Error> {
        while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Fields {
        Fields::read(text.as_bytes()).expect("it is read")
    }

    #[test]
    fn an_id_is_a_text_or_a_number() {
        let client = |text: &str| read(text).client().map(|name| name.to_string());
        assert_eq!(client(r#"{"client_id": "X"}"#), Ok("X".to_owned()));
        assert_eq!(client(r#"{"client_id": 42, "hats": [{"a": [1]}, null]}"#), Ok("42".to_owned()));
        assert_eq!(client(r#"{"client_id": -1}"#), Ok("-1".to_owned()));
        assert_eq!(client(r#"{"client_id": 1.0}"#), Ok("1".to_owned()));
        assert_eq!(client(r#"{"client_id": 18446744073709551615}"#), Ok(u64::MAX.to_string()));
        // Two that would be read as one.
        for bad in
            ["18446744073709551616", "18446744073709551617", "-9223372036854775809", "9007199254740992.0", "1e300"]
        {
            let client = client(&format!(r#"{{"client_id": {bad}}}"#));
            assert!(matches!(client, Err(BadFields::Field { .. })), "{bad}: {client:?}");
        }
        assert_eq!(client(r#"{"client_id": null}"#), Err(BadFields::Missing("client_id")));
        assert_eq!(client("{}"), Err(BadFields::Missing("client_id")));
        for bad in [r#"{"client_id": true}"#, r#"{"client_id": ["a"]}"#, r#"{"client_id": {"a": 1}}"#] {
            assert!(matches!(client(bad), Err(BadFields::Field { .. })), "{bad}");
        }
        for bad in [r#"{"client_id": ""}"#, r#"{"client_id": "a b"}"#, r#"{"client_id": "ü"}"#] {
            assert!(matches!(client(bad), Err(BadFields::Name { .. })), "{bad}");
        }
    }

    #[test]
    fn a_server_is_named_by_its_port_or_its_name() {
        let home = |text: &str| read(text).home();
        assert_eq!(home(r#"{"port": 8080}"#), Ok(Place::Port(8080)));
        assert_eq!(home(r#"{"port": "8081"}"#), Ok(Place::Port(8081)));
        assert_eq!(home(r#"{"server": "b"}"#), Ok(Place::Server(Name::new("b").unwrap())));
        assert_eq!(home("{}"), Err(BadFields::Missing("port")));
        assert_eq!(read("{}").new_home(), Err(BadFields::Missing("new_port")));
        for bad in ["0", "65536", "-1", "1.5", "true", r#""x""#] {
            assert!(home(&format!(r#"{{"port": {bad}}}"#)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_message_is_text_or_base64() {
        let message = |text: &str| read(text).message();
        assert_eq!(message(r#"{"message": "hä\u20ac\ud83d\ude00"}"#), Ok(Bytes::from("hä€😀")));
        assert_eq!(message(r#"{"message": ""}"#), Ok(Bytes::new()));
        assert_eq!(message(r#"{"message": 7}"#), Ok(Bytes::from("7")));
        assert_eq!(message(r#"{"message_base64": "/wA="}"#), Ok(Bytes::from_static(b"\xff\0")));
        assert_eq!(message("{}"), Err(BadFields::Missing("message")));
        for bad in [
            r#"{"message": {}}"#,
            r#"{"message": 123456789012345678901234567890}"#,
            r#"{"message_base64": "?"}"#,
            r#"{"message": "a", "message_base64": "YQ=="}"#,
        ] {
            assert!(matches!(message(bad), Err(BadFields::Field { .. })), "{bad}");
        }
        let large = |bytes| message(&format!(r#"{{"message": "{}"}}"#, "x".repeat(bytes)));
        assert!(large(limits::BODY_BYTES_MAX).is_ok());
        let bytes = limits::BODY_BYTES_MAX + 1;
        assert_eq!(large(bytes), Err(BadFields::TooLarge { bytes }));
    }

    #[test]
    fn ranges_ascend_and_nonces_are_hexadecimal() {
        let ranges = |text: &str| read(text).ranges(Position(3));
        let pair = |from, to| (Position(from), Position(to));
        assert_eq!(ranges(r#"{"ranges": [[5, 6], [8, 8]]}"#), Ok(vec![pair(5, 6), pair(8, 8)]));
        assert_eq!(ranges("{}"), Ok(vec![]));
        assert!(ranges(r#"{"ranges": [[3, 6]]}"#).is_err() && ranges(r#"{"ranges": [[6, 5]]}"#).is_err());
        let nonce = |text: &str| read(text).nonce();
        assert_eq!(nonce(r#"{"nonce": "0000-0000-00ff"}"#), Ok(Some(255)));
        assert_eq!(nonce(r#"{"nonce": 10}"#), Ok(Some(16)));
        assert_eq!(nonce("{}"), Ok(None));
        for bad in [r#"{"nonce": ""}"#, r#"{"nonce": "+1"}"#, r#"{"nonce": "x"}"#, r#"{"nonce": []}"#] {
            assert!(nonce(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in
            ["", "[]", "[1, 2]", "null", "7", "\"x\"", "{", "{\"client_id\": 1,}", "{} x", "{\"ranges\": 1}", "ü"]
        {
            assert!(matches!(Fields::read(bad.as_bytes()), Err(BadFields::Malformed(_))), "{bad}");
        }
        assert_eq!(Fields::read_or_none(b" \n"), Ok(Fields::default()));
        assert!(Fields::read_or_none(b"x").is_err());
        let deep = "[".repeat(100_000);
        assert!(Fields::read(format!("{{\"x\": {deep}").as_bytes()).is_err());
    }
}
