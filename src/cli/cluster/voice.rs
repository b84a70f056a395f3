//! What the servers write, and what we say ourselves, line by line.

use std::io::{self, Write as _};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

use super::super::children::Server;
use super::super::logging::Format;

/// Hands on what a server writes, line by line.
pub async fn relay(pipe: impl AsyncRead + Unpin, voice: Voice, server: Server, number: usize) {
    let mut lines = BufReader::new(pipe);
    let mut line = Vec::new();
    while matches!(lines.read_until(b'\n', &mut line).await, Ok(1..)) {
        let text = String::from_utf8_lossy(&line);
        voice.line(Some((&server.name, number)), text.trim_end_matches(['\n', '\r']));
        line.clear();
    }
}

/// Writes lines with their speaker's name in front.
#[derive(Clone)]
pub struct Voice {
    format: Format,
    /// One line at a time.
    turn: Arc<Mutex<()>>,
}

impl Voice {
    /// Writes lines of that format.
    pub fn new(format: Format) -> Self {
        Self { format, turn: Arc::new(Mutex::new(())) }
    }

    /// Something that we say ourselves.
    pub fn note(&self, text: &str) {
        match self.format {
            Format::Human => self.line(None, text),
            Format::Json => self.line(None, &serde_json::json!({ "level": "INFO", "message": text }).to_string()),
        }
    }

    fn line(&self, server: Option<(&str, usize)>, text: &str) {
        let line = match self.format {
            Format::Human => with_prefix(server, text),
            Format::Json => with_server(server.map(|(name, _)| name), text),
        };
        let _turn = self.turn.lock();
        // A terminal that went away is no reason to stop the servers.
        drop(writeln!(io::stdout().lock(), "{line}"));
    }
}

fn with_prefix(server: Option<(&str, usize)>, text: &str) -> String {
    use console::Color::{Blue, Cyan, Green, Magenta, Red, Yellow};
    match server {
        Some((name, number)) => {
            let colour = [Green, Cyan, Magenta, Yellow, Blue, Red][number % 6];
            format!("{} {text}", console::style(format!("{name} |")).fg(colour))
        }
        None => format!("{} {text}", console::style("- |").bold()),
    }
}

/// A JSON line stays one: the server's name becomes its first member.
fn with_server(server: Option<&str>, text: &str) -> String {
    let server = server.unwrap_or("-");
    match text.strip_prefix('{') {
        Some("}") => format!(r#"{{"server":"{server}"}}"#),
        Some(rest) => format!(r#"{{"server":"{server}",{rest}"#),
        None => serde_json::json!({ "server": server, "message": text }).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_line_stays_json_and_names_its_server() {
        for line in [r#"{"level":"INFO","message":"x"}"#, "{}", "thread panicked"] {
            let value: serde_json::Value = serde_json::from_str(&with_server(Some("b"), line)).unwrap();
            assert_eq!(value["server"], "b", "{line}");
        }
    }
}
