//! The wire's bytes, pinned: every frame, every command, every refusal as it must be encoded for ever.
//!
//! Clients and servers of different builds talk to each other, and what a client sent stands in the log of every
//! server. So what is encoded today has to decode tomorrow. Here fixed values are encoded and compared with files, and
//! the files are decoded and compared with the values.
//!
//! **When a golden differs**, the format has changed, and other builds do not understand it. Either that was not
//! meant (a field or variant that was put in the middle: move it to the end), or it needs a new version of the
//! protocol ([`restante::wire::CLIENT_VERSION`], [`restante::wire::PEER_VERSION`]), and the old one has to be read on.
//!
//! **When a golden is missing**, there is a new variant. Give it an example below, then
//!
//! ```text
//! RESTANTE_WRITE_GOLDEN=1 cargo test --test wire_golden
//! ```
//!
//! adds what the files lack. It never changes a line that is there. To write a line anew, delete it by hand first:
//! allowed only for what is in no released version, since no file and no other build can hold it.

#[path = "wire_golden/client.rs"]
mod client;
#[path = "wire_golden/commands.rs"]
mod commands;
#[path = "wire_golden/entries.rs"]
mod entries;
#[path = "wire_golden/golden.rs"]
mod golden;
#[path = "wire_golden/peer.rs"]
mod peer;

use std::fmt::Debug;

use bytes::BytesMut;
use golden::Golden;
use restante::wire::{Id, Name, ServerAddress, frame};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Lists the variants of an enum: their names, and the name of a value. The match has no wildcard, so a variant that is
/// added does not compile until it has a name here, and its name is no use without an example.
macro_rules! variants {
    ($enum:ident: $($variant:ident),+ $(,)?) => {
        const VARIANTS: &[&str] = &[$(stringify!($variant)),+];

        fn variant(value: &$enum) -> &'static str {
            match value {
                $($enum::$variant { .. } => stringify!($variant)),+
            }
        }
    };
}
pub(crate) use variants;

/// What these tests check of a golden.
impl Golden {
    /// Checks the postcard form of `value` both ways.
    fn value<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, name: &str, value: &T) {
        let mut encoded = BytesMut::new();
        frame::put_postcard(&mut encoded, value);
        let golden = self.check(name, &encoded);
        self.decodes(name, &golden, value);
    }

    /// Checks the frame of `value` with `body` behind it, both ways.
    fn frame<T: Serialize + DeserializeOwned + PartialEq + Debug>(
        &mut self,
        name: &str,
        kind: u8,
        value: &T,
        body: &[u8],
    ) {
        let mut encoded = BytesMut::new();
        frame::put(&mut encoded, kind, value, body);
        let mut golden = BytesMut::from(&self.check(name, &encoded)[..]);
        let Ok(Some(split)) = frame::split(&mut golden, 1 << 20) else {
            return self.problem(format!("{name}: the golden is not one frame"));
        };
        assert!(golden.is_empty(), "{name}: bytes are left behind the frame");
        assert_eq!(split.kind, kind, "{name}");
        let Some(header) = split.payload.strip_suffix(body) else {
            return self.problem(format!("{name}: the golden does not end with the body"));
        };
        self.decodes(name, header, value);
    }

    fn decodes<T: DeserializeOwned + PartialEq + Debug>(&mut self, name: &str, golden: &[u8], value: &T) {
        match frame::take::<T>(golden) {
            Ok((decoded, [])) if decoded == *value => {}
            Ok((decoded, rest)) => {
                self.problem(format!("{name}: decodes as {decoded:?} with {} bytes left", rest.len()));
            }
            Err(error) => self.problem(format!("{name}: does not decode: {error}")),
        }
    }
}

/// A command's or an answer's nonce: all its bytes differ.
const NONCE: u128 = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff;
/// An id as a log index and a place make it.
const ID: Id = Id(0x0102_0304_0506);

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn server(letter: &str, port: u16) -> ServerAddress {
    ServerAddress { name: name(letter), address: format!("127.0.0.1:{port}") }
}
