//! A golden file: pinned bytes, a line each. See the top of `tests/wire_golden.rs` for what to do when one differs.
//!
//! Shared with the unit tests of `src/raft`, whose types nobody else can see.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::Bytes;

/// One golden file: `name: hex`, a line each, with comments.
pub struct Golden {
    path: PathBuf,
    lines: BTreeMap<String, Vec<u8>>,
    checked: Vec<String>,
    added: Vec<(String, Vec<u8>)>,
    write: bool,
    problems: Vec<String>,
}

impl Golden {
    /// Reads the file of that name.
    #[expect(clippy::disallowed_methods, reason = "a test reads its own files")]
    pub fn open(name: &str) -> Self {
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
    pub fn check(&mut self, name: &str, encoded: &[u8]) -> Bytes {
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

    /// Notes that something is wrong; [`Golden::finish`] tells.
    pub fn problem(&mut self, text: String) {
        self.problems.push(text);
    }

    /// Every name in `all` had an example, called like it or `like-it.something`.
    #[allow(dead_code, reason = "not every test that includes this file has an enum to list")]
    pub fn complete(&mut self, all: &[&str]) {
        let has = |wanted: &str| self.checked.iter().any(|name| name.split('.').next() == Some(wanted));
        let missing: Vec<_> = all.iter().filter(|name| !has(name)).collect();
        self.problems.extend(missing.into_iter().map(|name| format!("{name} has no example in this test")));
    }

    /// Writes what was missing, or fails with everything that is wrong.
    #[expect(clippy::disallowed_methods, reason = "a test writes its own files when it is asked to")]
    pub fn finish(mut self) {
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
