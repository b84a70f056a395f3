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
#[path = "wire_golden/peer.rs"]
mod peer;

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
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

/// One golden file: `name: hex`, a line each, with comments.
struct Golden {
    path: PathBuf,
    lines: BTreeMap<String, Vec<u8>>,
    checked: Vec<String>,
    added: Vec<(String, Vec<u8>)>,
    write: bool,
    problems: Vec<String>,
}

impl Golden {
    #[expect(clippy::disallowed_methods, reason = "a test reads its own files")]
    fn open(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(|line| {
            let (name, hex) = line.split_once(": ").unwrap_or_else(|| panic!("{}: {line:?}", path.display()));
            (name.to_owned(), from_hex(hex))
        });
        let lines = lines.collect();
        let write = std::env::var_os("RESTANTE_WRITE_GOLDEN").is_some();
        Self { path, lines, checked: Vec::new(), added: Vec::new(), write, problems: Vec::new() }
    }

    /// Compares `encoded` with the line `name`, and returns what the file holds.
    fn check(&mut self, name: &str, encoded: &[u8]) -> Bytes {
        assert!(!self.checked.iter().any(|other| other == name), "two examples are called {name}");
        self.checked.push(name.to_owned());
        match self.lines.get(name) {
            Some(golden) if golden == encoded => {}
            Some(golden) => {
                self.problems.push(format!("{name}: golden  {}\n    encodes as {}", to_hex(golden), to_hex(encoded)));
            }
            None if self.write => self.added.push((name.to_owned(), encoded.to_owned())),
            None => self.problems.push(format!("{name} is missing; it encodes as {}", to_hex(encoded))),
        }
        Bytes::copy_from_slice(self.lines.get(name).map_or(encoded, Vec::as_slice))
    }

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
            return self.problems.push(format!("{name}: the golden is not one frame"));
        };
        assert!(golden.is_empty(), "{name}: bytes are left behind the frame");
        assert_eq!(split.kind, kind, "{name}");
        let Some(header) = split.payload.strip_suffix(body) else {
            return self.problems.push(format!("{name}: the golden does not end with the body"));
        };
        self.decodes(name, header, value);
    }

    fn decodes<T: DeserializeOwned + PartialEq + Debug>(&mut self, name: &str, golden: &[u8], value: &T) {
        match frame::take::<T>(golden) {
            Ok((decoded, [])) if decoded == *value => {}
            Ok((decoded, rest)) => {
                self.problems.push(format!("{name}: decodes as {decoded:?} with {} bytes left", rest.len()));
            }
            Err(error) => self.problems.push(format!("{name}: does not decode: {error}")),
        }
    }

    /// Every name in `all` had an example, called like it or `like-it.something`.
    fn complete(&mut self, prefix: &str, all: &[&str]) {
        let has = |wanted: &str| self.checked.iter().any(|name| name.split('.').next() == Some(wanted));
        let missing: Vec<_> =
            all.iter().map(|variant| format!("{prefix}{variant}")).filter(|name| !has(name)).collect();
        self.problems.extend(missing.into_iter().map(|name| format!("{name} has no example in this test")));
    }

    /// Writes what was missing, or fails with everything that is wrong.
    #[expect(clippy::disallowed_methods, reason = "a test writes its own files when it is asked to")]
    fn finish(mut self) {
        for name in self.lines.keys().filter(|name| !self.checked.contains(*name)) {
            self.problems.push(format!("{name} is in the file, but no example has that name: what it pins is unread"));
        }
        assert!(
            self.problems.is_empty(),
            "{}:\n  {}\nWhat to do about it stands at the top of tests/wire_golden.rs.",
            self.path.display(),
            self.problems.join("\n  ")
        );
        if !self.added.is_empty() {
            let mut text = std::fs::read_to_string(&self.path).unwrap_or_else(|_| {
                "# Pinned bytes: see the top of tests/wire_golden.rs before you change anything here.\n".to_owned()
            });
            for (name, bytes) in &self.added {
                let _ = writeln!(text, "{name}: {}", to_hex(bytes));
            }
            std::fs::write(&self.path, text).unwrap_or_else(|e| panic!("{}: {e}", self.path.display()));
        }
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().map(|digit| digit.to_digit(16).expect("a hex digit") as u8).collect();
    assert_eq!(digits.len() % 2, 0, "{hex}: a digit is missing");
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
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
