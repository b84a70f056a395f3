//! `restante demo`: the main job, set up and shown.

mod journal;
mod narrator;
mod players;
mod report;
mod stage;

use std::path::PathBuf;

use clap::Args;

use super::children;
use super::failure::{Exit, Failure};
use super::files;
use super::interrupt::Interrupt;
use super::local::Servers;
use super::output::Output;
use super::values::Ports;
use narrator::Narrator;

/// Show what Restante is for: kill the leader under traffic, and count what the clients got.
///
/// Starts three servers, lets six clients send to each other across them, kills the leader with SIGKILL in the middle,
/// brings it back, and ends with a table of what was sent, accepted, delivered, lost, doubled and out of order: counted
/// from what the clients wrote down themselves. Exits with 8 if a count is off.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  restante demo
  restante demo --ports 9001,9002,9003 --messages 100000
  restante demo --json | jq .counts                  the story goes to the standard error then")]
pub struct Demo {
    /// The three servers' ports on 127.0.0.1
    #[arg(long, value_name = "PORTS", default_value = "8080,8081,8082")]
    ports: Ports,
    /// How many messages the clients send to each other
    #[arg(long, value_name = "N", default_value_t = 12_000, value_parser = clap::value_parser!(u64).range(60..=1_000_000))]
    messages: u64,
    /// Where the servers keep their data and logs, to be looked at afterwards; must be empty [default: a temporary
    /// directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// Clients that play.
pub const PLAYERS: usize = 6;
/// Servers that they play on.
pub const SERVERS: usize = 3;

impl Demo {
    /// Shows it.
    ///
    /// # Errors
    /// A port is in use, the directory is not empty, Ctrl-C, or a count that is off.
    pub async fn run(&self) -> Result<(), Failure> {
        let mut interrupt = Interrupt::new()?;
        if self.ports.0.len() != SERVERS {
            let given = self.ports.0.len();
            return Err(Failure::new(Exit::Usage, format!("--ports names {given} ports: the demo has three servers"))
                .hint("Example: restante demo --ports 9001,9002,9003"));
        }
        children::check_ports(&self.ports, "demo").await?;
        let temporary = match &self.data {
            Some(path) => {
                files::create_empty(path)?;
                None
            }
            None => Some(files::temporary("restante-demo-")?),
        };
        let data = match (&self.data, &temporary) {
            (Some(path), _) => path.clone(),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => unreachable!("there is a directory, given or made"),
        };
        let mut narrator = Narrator::new(self.output.json);
        let mut servers = Servers::new(&self.ports, &data)?;
        let shown = tokio::select! {
            biased;
            _ = interrupt.next() => Err(Failure::interrupted()),
            shown = stage::play(&mut servers, &mut narrator, self.messages) => shown,
        };
        narrator.end_traffic();
        // Whatever happened: no process and no directory stays behind.
        let stopping = async {
            let killed = servers.stop().await;
            if killed > 0 {
                narrator.say(&format!("{killed} servers did not stop by themselves and were killed"));
            }
        };
        let again = tokio::select! {
            biased;
            // Dropping the servers kills them.
            _ = interrupt.next() => true,
            () = stopping => false,
        };
        drop(servers);
        let result = match shown {
            Ok(_) if again => Err(Failure::interrupted()),
            Ok(report) => self.output.print(&report, report::Report::text).and_then(|()| report.verdict()),
            Err(failure) if failure.exit == Exit::Interrupted => {
                let kept = if self.data.is_some() { "" } else { ", its temporary data removed" };
                Err(Failure::new(failure.exit, format!("interrupted: the servers are stopped{kept}")))
            }
            Err(failure) => Err(failure),
        };
        finish(result, temporary, &data, &narrator)
    }
}

/// Removes the temporary directory, unless it tells why a count is off.
fn finish(
    result: Result<(), Failure>,
    temporary: Option<tempfile::TempDir>,
    data: &std::path::Path,
    narrator: &Narrator,
) -> Result<(), Failure> {
    let Some(temporary) = temporary else { return result };
    if result.as_ref().is_err_and(|failure| failure.exit == Exit::CountsOff) {
        let _ = temporary.keep();
        narrator.line(&format!("The servers' logs and data are kept in {}", data.display()));
        return result;
    }
    let path = data.display().to_string();
    let removed = temporary.close();
    result?;
    removed.map_err(|error| Failure::new(Exit::Failed, format!("cannot remove {path}: {error}")))
}
