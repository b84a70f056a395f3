//! `restante backup`.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use restante::backup::{Contents, Summary, check};
use restante::client::{BackupError, Client};
use restante::world::{RealWorld, World};
use serde::Serialize;

use super::failure::{Exit, Failure, with_causes};
use super::files;
use super::interrupt::Interrupt;
use super::output::{Output, grouped, size};
use super::reach::Reach;

/// Write everything that the cluster holds into a file, while it goes on serving.
///
/// Everything that was accepted before the command began is in the file, with whatever else the cluster knows as of one
/// moment: registrations, waiting messages, streams and the answers to their sends. It is read from a server that does
/// not lead, if one answers. The file is written under FILE.part, synced, and only then gets its name; one that exists is
/// never overwritten. `restante restore` makes a new cluster of it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  restante backup monday.restante
  restante backup --verify monday.restante             reads all of it, and says what is in it")]
pub struct Backup {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write nothing: read a backup to its end and say what is in it
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    output: Output,
}

/// A backup, as JSON has it.
#[derive(Debug, Serialize)]
pub struct Row {
    file: String,
    cluster: String,
    server: String,
    applied_index: u64,
    time_ms: u64,
    made_unix_ms: u64,
    bytes: u64,
    records: u64,
    digest: String,
    software: String,
    #[serde(flatten)]
    contents: Option<State>,
}

#[derive(Debug, Serialize)]
struct State {
    clients: u64,
    streams: u64,
    waiting: u64,
    waiting_bytes: u64,
    state_digest: String,
}

impl Row {
    /// A backup that was written, or carried over.
    pub fn new(file: &std::path::Path, summary: &Summary) -> Self {
        let header = &summary.header;
        Self {
            file: file.display().to_string(),
            cluster: header.cluster.to_string(),
            server: header.server.to_string(),
            applied_index: header.applied,
            time_ms: header.time.0,
            made_unix_ms: header.made_unix_ms,
            bytes: summary.file_bytes,
            records: summary.records,
            digest: format!("{:032x}", summary.digest),
            software: header.software.clone(),
            contents: None,
        }
    }

    /// One that was read to its end.
    pub fn verified(file: &std::path::Path, contents: &Contents) -> Self {
        let Contents { summary, totals, state_digest } = contents;
        let state = State {
            clients: totals.clients,
            streams: totals.streams,
            waiting: totals.waiting,
            waiting_bytes: totals.waiting_bytes,
            state_digest: format!("{state_digest:016x}"),
        };
        Self { contents: Some(state), ..Self::new(file, summary) }
    }

    /// For people.
    pub fn text(&self) -> String {
        let made = std::time::UNIX_EPOCH + Duration::from_millis(self.made_unix_ms);
        let made = humantime::format_rfc3339_seconds(made);
        let mut text = format!(
            "{}: {}, of cluster {} as of log index {}, made by {} at {made}\ndigest {}\n",
            self.file,
            size(self.bytes),
            self.cluster,
            grouped(self.applied_index),
            self.server,
            self.digest
        );
        if let Some(State { clients, streams, waiting, waiting_bytes, state_digest }) = &self.contents {
            text.push_str(&format!(
                "whole: {} clients, {} streams, {} messages wait ({}); state digest {state_digest}\n",
                grouped(*clients),
                grouped(*streams),
                grouped(*waiting),
                size(*waiting_bytes)
            ));
        }
        text
    }
}

impl Backup {
    /// Writes a backup, or reads one.
    ///
    /// # Errors
    /// The cluster did not give it, the file exists or cannot be written, or is no good backup.
    pub async fn run(&self, reach: &Reach) -> Result<(), Failure> {
        if self.verify {
            let file = files::open_to_read(&self.file)?;
            let contents = RealWorld::blocking(move || check(&file)).await;
            let contents = contents.map_err(|error| {
                Failure::new(Exit::BadData, format!("{}: {}", self.file.display(), with_causes(&error)))
            })?;
            return self.output.print(&Row::verified(&self.file, &contents), Row::text);
        }
        let (disk, name) = files::directory_of(&self.file)?;
        let mut interrupt = Interrupt::new()?;
        let client = away_from_the_leader(reach).await?;
        let bar = progress();
        let saved = {
            let saving = client.save_backup(disk, &name, |bytes| bar.set_position(bytes));
            futures::pin_mut!(saving);
            tokio::select! {
                biased;
                _ = interrupt.next() => None,
                saved = &mut saving => Some(saved),
            }
        };
        bar.finish_and_clear();
        let Some(saved) = saved else { return Err(Failure::interrupted()) };
        client.close().await;
        let summary = saved.map_err(|error| self.explain(error))?;
        self.output.print(&Row::new(&self.file, &summary), |row| format!("saved {}", row.text()))
    }

    fn explain(&self, error: BackupError) -> Failure {
        let beside = |file: String| self.file.with_file_name(file).display().to_string();
        match error {
            BackupError::Client(error) => Failure::from(error).while_doing("no backup was made"),
            BackupError::Exists { file } => {
                Failure::new(Exit::Usage, BackupError::Exists { file: beside(file) }.to_string())
            }
            BackupError::Unfinished { file } => {
                Failure::new(Exit::Usage, BackupError::Unfinished { file: beside(file) }.to_string())
            }
            other => Failure::new(Exit::Failed, format!("no backup was made: {}", with_causes(&other))),
        }
    }
}

/// A client of a server that does not lead: the leader has enough to do. If none is there, any will do.
async fn away_from_the_leader(reach: &Reach) -> Result<Client, Failure> {
    let client = reach.connect(None).await?;
    let status = client.status().await?;
    if status.leader.as_ref() != Some(&status.server) {
        return Ok(client);
    }
    let other = status.servers.iter().filter(|row| row.voter && row.reachable && row.server.name != status.server);
    let Some(other) = other.min_by_key(|row| row.lag).map(|row| row.server.clone()) else { return Ok(client) };
    let mut near = reach.clone();
    near.servers.0.insert(0, other.address);
    match near.connect(Some(other.name)).await {
        Ok(better) => {
            client.close().await;
            Ok(better)
        }
        Err(_) => Ok(client),
    }
}

fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {bytes} written, {bytes_per_sec}, for {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
