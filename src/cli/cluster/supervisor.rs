//! The servers' processes: started, watched, stopped.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use restante::world::{RealWorld, World};
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::super::children::{self, Server};
use super::super::failure::{Exit, Failure};
use super::super::interrupt::Interrupt;
use super::super::logging::Logging;
use super::voice::{Voice, relay};

/// How often to look whether a process has ended.
const LOOK: Duration = Duration::from_millis(20);

/// What one process's end was.
pub type End = (usize, io::Result<ExitStatus>);

/// The servers, whoever starts and stops them.
pub struct Supervisor {
    pub servers: Vec<Server>,
    pub voice: Voice,
    logging: Logging,
    /// The file of settings that the servers read, too.
    config: Option<PathBuf>,
    /// Of those that run.
    pids: Mutex<Vec<Option<u32>>>,
    /// Somebody stops servers to start them again.
    restarting: Mutex<bool>,
    readers: Mutex<Vec<JoinHandle<()>>>,
    ends: mpsc::UnboundedSender<End>,
}

impl Supervisor {
    pub fn new(
        servers: Vec<Server>,
        logging: &Logging,
        config: Option<&Path>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<End>) {
        let (ends, ended) = mpsc::unbounded_channel();
        let supervisor = Self {
            pids: Mutex::new(vec![None; servers.len()]),
            servers,
            voice: Voice::new(logging.log_format),
            logging: logging.clone(),
            config: config.map(Path::to_owned),
            restarting: Mutex::new(false),
            readers: Mutex::new(Vec::new()),
            ends,
        };
        (Arc::new(supervisor), ended)
    }

    /// Starts a server that does not run. To be called on the thread that lives as long as the process does.
    ///
    /// # Errors
    /// The system's.
    pub fn start(self: &Arc<Self>, number: usize) -> Result<(), Failure> {
        let server = &self.servers[number];
        let mut command = children::command(server, &self.servers)?;
        command.args(["--log-format", self.logging.log_format.as_argument()]);
        if let Some(filter) = &self.logging.log {
            command.args(["--log", filter]);
        }
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        // What the servers write goes through a pipe, and on to a terminal if that is what we write to.
        if io::stdout().is_terminal() && console::colors_enabled() {
            command.env("CLICOLOR_FORCE", "1");
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot start server {}: {error}", server.name)))?;
        let pid = child.id();
        self.pids.lock()[number] = pid;
        let shown = pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
        self.voice.note(&format!("server {} starts at {} (pid {shown})", server.name, server.address()));
        let mut readers = self.readers.lock();
        readers.retain(|reader| !reader.is_finished());
        if let Some(stdout) = child.stdout.take() {
            readers.push(RealWorld::spawn(relay(stdout, self.voice.clone(), server.clone(), number)));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.push(RealWorld::spawn(relay(stderr, self.voice.clone(), server.clone(), number)));
        }
        drop(readers);
        let with = self.clone();
        drop(RealWorld::spawn(async move {
            let status = child.wait().await;
            with.pids.lock()[number] = None;
            // Nobody is left to be told when we end.
            drop(with.ends.send((number, status)));
        }));
        Ok(())
    }

    /// Stops a server in good order, or kills it if it does not stop, and waits for its end.
    pub async fn stop(&self, number: usize) {
        self.signal(number, Signal::TERM);
        if RealWorld::timeout(children::GRACE, self.ended(number)).await.is_err() {
            self.voice.note(&format!("{} does not stop: killed", self.servers[number].name));
            self.signal(number, Signal::KILL);
            self.ended(number).await;
        }
    }

    async fn ended(&self, number: usize) {
        while self.pids.lock()[number].is_some() {
            RealWorld::sleep(LOOK).await;
        }
    }

    fn signal(&self, number: usize, signal: Signal) {
        if let Some(pid) = self.pids.lock()[number] {
            children::signal(pid, signal);
        }
    }

    fn signal_all(&self, signal: Signal) {
        (0..self.servers.len()).for_each(|number| self.signal(number, signal));
    }

    fn running(&self) -> usize {
        self.pids.lock().iter().flatten().count()
    }

    /// Begins a restart, unless one is under way. It is over when the value is dropped.
    pub fn begin_restart(self: &Arc<Self>) -> Option<Restarting> {
        let mut restarting = self.restarting.lock();
        if std::mem::replace(&mut *restarting, true) { None } else { Some(Restarting(self.clone())) }
    }

    /// Waits for the servers' ends, or for Ctrl-C and then for the servers' ends.
    ///
    /// # Errors
    /// All have ended by themselves.
    pub async fn watch(
        self: &Arc<Self>,
        mut ended: mpsc::UnboundedReceiver<End>,
        interrupt: &mut Interrupt,
    ) -> Result<(), Failure> {
        let mut stopping = false;
        // While nothing is to be killed, this never comes.
        let mut grace = std::pin::pin!(RealWorld::sleep(Duration::MAX));
        loop {
            if self.running() == 0 && (stopping || !*self.restarting.lock()) {
                return if stopping { Ok(()) } else { Err(Failure::new(Exit::Failed, "all servers have ended")) };
            }
            tokio::select! {
                biased;
                end = ended.recv() => {
                    let Some((number, status)) = end else { return Ok(()) };
                    let how = status.as_ref().map_or("ended".to_owned(), |status| children::how_it_ended(*status));
                    let advice = advice(self.running(), stopping, self.servers.len());
                    self.voice.note(&format!("{} {how}{advice}", self.servers[number].name));
                }
                name = interrupt.next() => {
                    if !stopping {
                        self.voice.note(&format!("{name}: stopping all; once more kills them"));
                        grace.as_mut().reset(RealWorld::now() + children::GRACE);
                    }
                    self.signal_all(if stopping { Signal::KILL } else { Signal::TERM });
                    stopping = true;
                }
                () = &mut grace, if stopping => {
                    self.voice.note("some do not stop: killed");
                    self.signal_all(Signal::KILL);
                    grace.as_mut().reset(RealWorld::now() + children::GRACE);
                }
                // A restart that fails may leave nothing running.
                () = RealWorld::sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    /// Waits for what the servers wrote last.
    pub async fn read_out(&self) {
        let readers = std::mem::take(&mut *self.readers.lock());
        for reader in readers {
            // They end with the pipes; one that a grandchild holds open is not waited for.
            drop(RealWorld::timeout(Duration::from_secs(1), reader).await);
        }
    }
}

/// A restart that is under way.
pub struct Restarting(Arc<Supervisor>);

impl Drop for Restarting {
    fn drop(&mut self) {
        *self.0.restarting.lock() = false;
    }
}

fn advice(left: usize, stopping: bool, all: usize) -> String {
    if stopping || left == 0 {
        String::new()
    } else if left > all / 2 {
        format!("; {left} of {all} are left, and go on")
    } else {
        format!("; {left} of {all} are left, too few to accept anything")
    }
}

#[cfg(test)]
mod tests {
    use super::advice;

    #[test]
    fn a_minority_is_called_one() {
        assert!(advice(2, false, 3).contains("go on"));
        assert!(advice(1, false, 3).contains("too few"));
        assert_eq!(advice(1, true, 3), "");
    }
}
