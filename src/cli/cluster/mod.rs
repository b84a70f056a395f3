//! `restante cluster`: all servers of a cluster in one terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use restante::world::{RealWorld, World};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::Child;

use super::children::{self, Server};
use super::failure::{Exit, Failure};
use super::files;
use super::interrupt::Interrupt;
use super::logging::{Format, Logging};
use super::values::Ports;

/// Run all servers of a cluster in this terminal.
///
/// Each server is a process of its own, as `serve` runs it; each line of output has its server's name in front. Ctrl-C
/// stops all. A server that dies is reported and the others go on; kill one, and see.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  restante cluster                                   a, b and c on 8080, 8081 and 8082
  restante cluster --ports 9001,9002,9003,9004,9005 --data /tmp/five")]
pub struct Cluster {
    /// The servers' ports on 127.0.0.1, one server each: a, b, c, …
    #[arg(long, value_name = "PORTS", env = "RESTANTE_PORTS", default_value = "8080,8081,8082")]
    ports: Ports,
    /// Where the servers keep their data, each in a directory of its own; kept when they stop
    #[arg(long, value_name = "DIR", env = "RESTANTE_DATA", default_value = "restante-data")]
    data: PathBuf,
}

impl Cluster {
    /// Runs the servers until Ctrl-C, or until all of them have died.
    ///
    /// # Errors
    /// A port is in use, a server cannot be started, or all have died.
    pub async fn run(&self, logging: &Logging) -> Result<(), Failure> {
        let mut interrupt = Interrupt::new()?;
        children::check_ports(&self.ports, "cluster").await?;
        files::create(&self.data)?;
        let servers = children::servers(&self.ports, &self.data)?;
        let voice = Voice::new(logging.log_format);
        let mut running = Vec::new();
        let mut readers = Vec::new();
        for (number, server) in servers.iter().enumerate() {
            let mut child = start(server, &servers, logging)?;
            let pid = child.id().map_or_else(|| "?".to_owned(), |pid| pid.to_string());
            voice.note(&format!("server {} starts at {} (pid {pid})", server.name, server.address()));
            if let Some(stdout) = child.stdout.take() {
                readers.push(RealWorld::spawn(relay(stdout, voice.clone(), server.clone(), number)));
            }
            if let Some(stderr) = child.stderr.take() {
                readers.push(RealWorld::spawn(relay(stderr, voice.clone(), server.clone(), number)));
            }
            running.push(child);
        }
        voice.note(&format!("data is in {}; Ctrl-C stops all", self.data.display()));
        let ended = watch(&servers, &mut running, &mut interrupt, &voice).await;
        for reader in readers {
            // They end with the pipes; one that a grandchild holds open is not waited for.
            drop(RealWorld::timeout(Duration::from_secs(1), reader).await);
        }
        ended
    }
}

fn start(server: &Server, all: &[Server], logging: &Logging) -> Result<Child, Failure> {
    let mut command = children::command(server, all)?;
    command.args(["--log-format", logging.log_format.as_argument()]);
    if let Some(filter) = &logging.log {
        command.args(["--log", filter]);
    }
    // What the servers write goes through a pipe, and on to a terminal if that is what we write to.
    if io::stdout().is_terminal() && console::colors_enabled() {
        command.env("CLICOLOR_FORCE", "1");
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|error| Failure::new(Exit::Failed, format!("cannot start server {}: {error}", server.name)))
}

/// Waits for the servers' ends, or for Ctrl-C and then for the servers' ends.
async fn watch(
    servers: &[Server],
    running: &mut [Child],
    interrupt: &mut Interrupt,
    voice: &Voice,
) -> Result<(), Failure> {
    let mut pids: Vec<Option<u32>> = running.iter().map(Child::id).collect();
    let mut ends: FuturesUnordered<_> =
        running.iter_mut().enumerate().map(|(number, child)| async move { (number, child.wait().await) }).collect();
    let mut stopping = false;
    // While nothing is to be killed, this never comes.
    let mut grace = std::pin::pin!(RealWorld::sleep(Duration::MAX));
    loop {
        tokio::select! {
            biased;
            end = ends.next() => match end {
                Some((number, status)) => {
                    pids[number] = None;
                    let how = status.as_ref().map_or("ended".to_owned(), |status: &ExitStatus| children::how_it_ended(*status));
                    voice.note(&format!("{} {how}{}", servers[number].name, advice(&pids, stopping, servers.len())));
                }
                None if stopping => return Ok(()),
                None => return Err(Failure::new(Exit::Failed, "all servers have ended")),
            },
            name = interrupt.next() => {
                let signal = if stopping { Signal::KILL } else { Signal::TERM };
                if !stopping {
                    voice.note(&format!("{name}: stopping all; once more kills them"));
                    grace.as_mut().reset(RealWorld::now() + children::GRACE);
                }
                stopping = true;
                pids.iter().flatten().for_each(|pid| children::signal(*pid, signal));
            }
            () = &mut grace, if stopping => {
                for (number, pid) in pids.iter().enumerate() {
                    let Some(pid) = pid else { continue };
                    voice.note(&format!("{} does not stop: killed", servers[number].name));
                    children::signal(*pid, Signal::KILL);
                }
                grace.as_mut().reset(RealWorld::now() + children::GRACE);
            }
        }
    }
}

fn advice(pids: &[Option<u32>], stopping: bool, all: usize) -> String {
    let left = pids.iter().flatten().count();
    if stopping || left == 0 {
        String::new()
    } else if left > all / 2 {
        format!("; {left} of {all} are left, and go on")
    } else {
        format!("; {left} of {all} are left, too few to accept anything")
    }
}

/// Hands on what a server writes, line by line.
async fn relay(pipe: impl AsyncRead + Unpin, voice: Voice, server: Server, number: usize) {
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
struct Voice {
    format: Format,
    /// One line at a time.
    turn: Arc<Mutex<()>>,
}

impl Voice {
    fn new(format: Format) -> Self {
        Self { format, turn: Arc::new(Mutex::new(())) }
    }

    /// Something that we say ourselves.
    fn note(&self, text: &str) {
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

    #[test]
    fn a_minority_is_called_one() {
        assert!(advice(&[Some(1), Some(2), None], false, 3).contains("go on"));
        assert!(advice(&[Some(1), None, None], false, 3).contains("too few"));
        assert_eq!(advice(&[Some(1), None, None], true, 3), "");
    }
}
