//! `restante cluster`: all servers of a cluster in one terminal.

mod control;
mod rolling;
mod supervisor;
mod voice;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::children;
use super::failure::Failure;
use super::files;
use super::interrupt::Interrupt;
use super::logging::Logging;
use super::output::Output;
use super::values::Ports;
use control::Control;
use supervisor::Supervisor;

/// Run all servers of a cluster in this terminal.
///
/// Each server is a process of its own, as `serve` runs it; each line of output has its server's name in front. Ctrl-C
/// stops all. A server that dies is reported and the others go on; kill one, and see.
#[derive(Debug, Args)]
#[command(
    subcommand_negates_reqs = true,
    after_long_help = "\
Examples:
  restante cluster                                   a, b and c on 8080, 8081 and 8082
  restante cluster --ports 9001,9002,9003,9004,9005 --data /tmp/five
  restante cluster restart --rolling                 in another terminal: one by one, and no client loses anything"
)]
pub struct Cluster {
    #[command(subcommand)]
    command: Option<Command>,
    /// The servers' ports on 127.0.0.1, one server each: a, b, c, …
    #[arg(long, value_name = "PORTS", env = "RESTANTE_PORTS", default_value = "8080,8081,8082")]
    ports: Ports,
    /// Where the servers keep their data, each in a directory of its own; kept when they stop
    #[arg(long, value_name = "DIR", env = "RESTANTE_DATA", default_value = "restante-data")]
    data: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Restart the servers of a `restante cluster` that runs
    ///
    /// Each in turn is drained, so that its clients move, stopped, started again (as the program that is there now, so
    /// that this upgrades them), and undrained once it has caught up; the leader is the last. A client pauses for a moment
    /// each time that its own server is the next.
    Restart {
        /// One after the other, so that the cluster goes on
        #[arg(long, required = true)]
        rolling: bool,
        /// The data directory of the `restante cluster`
        #[arg(long, value_name = "DIR", env = "RESTANTE_DATA", default_value = "restante-data")]
        data: PathBuf,
        #[command(flatten)]
        output: Output,
    },
}

impl Cluster {
    /// Runs the servers until Ctrl-C, or until all of them have died; or restarts those that run.
    ///
    /// # Errors
    /// A port is in use, a server cannot be started, or all have died.
    pub async fn run(&self, logging: &Logging, config: Option<&Path>) -> Result<(), Failure> {
        match &self.command {
            None => self.serve(logging, config).await,
            Some(Command::Restart { data, output, .. }) => {
                let mut interrupt = Interrupt::new()?;
                let asked = control::ask(data, |text| eprintln!("{text}"));
                let restarted = tokio::select! {
                    biased;
                    _ = interrupt.next() => {
                        return Err(Failure::interrupted().hint("The restart goes on; the terminal of `restante cluster` tells."));
                    }
                    restarted = asked => restarted,
                };
                restarted.map_err(|failure| failure.while_doing("the rolling restart is not complete"))?;
                output.print(&serde_json::json!({ "restarted": true }), |_| "all servers were restarted".to_owned())
            }
        }
    }

    async fn serve(&self, logging: &Logging, config: Option<&Path>) -> Result<(), Failure> {
        let mut interrupt = Interrupt::new()?;
        children::check_ports(&self.ports, "cluster").await?;
        files::create(&self.data)?;
        let servers = children::servers(&self.ports, &self.data)?;
        let (supervisor, ended) = Supervisor::new(servers, logging, config);
        for number in 0..supervisor.servers.len() {
            supervisor.start(number)?;
        }
        supervisor.voice.note(&format!("data is in {}; Ctrl-C stops all", self.data.display()));
        let control = Control::serve(&self.data, supervisor.clone());
        if let Err(error) = &control {
            supervisor.voice.note(&format!("`restante cluster restart` will not work, for want of a socket: {error}"));
        }
        let ended = supervisor.watch(ended, &mut interrupt).await;
        drop(control);
        supervisor.read_out().await;
        ended
    }
}
