//! What is printed, for people and for programs.

use std::io::{self, Write as _};
use std::time::Duration;

use base64::Engine as _;
use clap::Args;
use serde::Serialize;

use super::failure::{Failure, unwritten};

/// The flag of every command that prints something a program would read.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

impl Output {
    /// Prints `value` as one line of JSON, or what `text` makes of it, and flushes.
    ///
    /// # Errors
    /// The standard output cannot be written to, or nobody reads it any more.
    pub fn print<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        let mut line = if self.json { json(value) } else { text(value) };
        if !line.ends_with('\n') {
            line.push('\n');
        }
        print(&line)
    }
}

/// Prints `text` and flushes.
///
/// # Errors
/// The standard output cannot be written to, or nobody reads it any more.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| unwritten(&error))
}

/// The JSON of one of our own types.
pub fn json<T: Serialize>(value: &T) -> String {
    // Our own types have texts as keys and nothing else that JSON cannot express.
    serde_json::to_string(value).unwrap_or_else(|error| unreachable!("a type that JSON cannot express: {error}"))
}

/// A body for JSON: as text if it is text, else as base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Body {
    /// UTF-8.
    #[serde(rename = "body")]
    Text(String),
    /// Anything else.
    #[serde(rename = "body_base64")]
    Base64(String),
}

impl Body {
    /// The form that fits `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(base64::engine::general_purpose::STANDARD.encode(bytes)),
        }
    }

    /// The form for people: what a message says must not move the cursor or colour the terminal.
    pub fn for_people(&self, bytes: usize) -> String {
        match self {
            Self::Text(text) => printable(text.strip_suffix('\n').unwrap_or(text)),
            Self::Base64(_) => format!("({} bytes that are not text; --json shows them)", grouped(bytes as u64)),
        }
    }
}

/// `text` with control characters other than line ends and tabs made visible, and later lines indented.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\n    "),
            '\t' => shown.push('\t'),
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// A number with its thousands apart: `12,345`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes for people: `812 B`, `1.5 KiB`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// A duration for people: `0.38 s`, `12 s`, `5 min`, `3 h`, `2 d`.
pub fn span(duration: Duration) -> String {
    match duration.as_secs() {
        0..10 => format!("{:.2} s", duration.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_text_or_base64() {
        assert_eq!(json(&Body::new("grüß".as_bytes())), r#"{"body":"grüß"}"#);
        assert_eq!(json(&Body::new(&[0xff, 0, 1])), r#"{"body_base64":"/wAB"}"#);
        assert_eq!(Body::new(&[0xff; 2000]).for_people(2000), "(2,000 bytes that are not text; --json shows them)");
    }

    #[test]
    fn a_message_cannot_play_with_the_terminal() {
        assert_eq!(Body::new(b"red \x1b[31m\r\n").for_people(10), "red \\u{1b}[31m\\r");
        assert_eq!(printable("one\ntwo\tthree"), "one\n    two\tthree");
        assert_eq!(printable("\u{9b}31m"), "\\u{9b}31m");
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn spans_and_sizes_have_the_unit_that_fits() {
        assert_eq!(span(Duration::from_millis(384)), "0.38 s");
        assert_eq!(span(Duration::from_secs(125)), "2 min");
        assert_eq!(span(Duration::from_secs(200_000)), "2 d");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(1 << 41), "2.0 TiB");
    }
}
