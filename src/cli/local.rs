//! The servers of `demo` and `bench`: child processes that are killed, brought back and stopped.

use std::path::PathBuf;
use std::time::Duration;

use restante::wire::client::{Status, StatusDetail};
use restante::world::{RealWorld, World};
use rustix::process::Signal;
use tokio::process::Child;

use super::children::{self, Server};
use super::failure::{Exit, Failure};
use super::values::Ports;
use super::{files, observe};

/// How long the servers may take to find a leader or to catch up.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one server may take to say how it sees the cluster.
const ANSWER: Duration = Duration::from_millis(500);
/// How long to wait before asking again.
const AGAIN: Duration = Duration::from_millis(20);

/// The servers, running or not.
#[derive(Debug)]
pub struct Servers {
    all: Vec<Server>,
    children: Vec<Option<Child>>,
    arguments: Vec<String>,
}

impl Servers {
    /// None of them runs yet.
    ///
    /// # Errors
    /// There are more than letters.
    pub fn new(ports: &Ports, data: &std::path::Path) -> Result<Self, Failure> {
        let all = children::servers(ports, data)?;
        let children = all.iter().map(|_| None).collect();
        Ok(Self { all, children, arguments: Vec::new() })
    }

    /// More arguments for `serve`, for each of them.
    pub fn set_arguments(&mut self, arguments: Vec<String>) {
        self.arguments = arguments;
    }

    /// The process ids of those that run.
    pub fn pids(&self) -> Vec<u32> {
        self.children.iter().flatten().filter_map(Child::id).collect()
    }

    /// All of them, in order.
    pub fn all(&self) -> &[Server] {
        &self.all
    }

    /// Starts one; its log goes beside its data. Returns its process id.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self, number: usize) -> Result<u32, Failure> {
        let server = &self.all[number];
        let log = files::open_log(&self.log_of(number))?;
        let mut command = children::command(server, &self.all)?;
        command.args(&self.arguments);
        let stdout = log.try_clone().map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        command.stdout(stdout).stderr(log);
        let child = command
            .spawn()
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot start server {}: {error}", server.name)))?;
        let pid = child.id().unwrap_or_default();
        self.children[number] = Some(child);
        Ok(pid)
    }

    /// Kills one with SIGKILL and waits until it is gone. Returns the process id that it had.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill(&mut self, number: usize) -> Result<u32, Failure> {
        let name = &self.all[number].name;
        let gone = || Failure::new(Exit::Failed, format!("server {name} does not run any more"));
        let mut child = self.children[number].take().ok_or_else(gone)?;
        let pid = child.id().ok_or_else(gone)?;
        child
            .kill()
            .await
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot kill server {name}: {error}")))?;
        Ok(pid)
    }

    /// Kills all that run, with SIGKILL, before it waits for any.
    ///
    /// # Errors
    /// One cannot be waited for.
    pub async fn kill_all(&mut self) -> Result<(), Failure> {
        self.pids().into_iter().for_each(|pid| children::signal(pid, Signal::KILL));
        for number in 0..self.all.len() {
            if self.children[number].is_some() {
                self.kill(number).await?;
            }
        }
        Ok(())
    }

    /// Starts those that do not run.
    ///
    /// # Errors
    /// One cannot be started.
    pub fn start_all(&mut self) -> Result<(), Failure> {
        for number in 0..self.all.len() {
            if self.children[number].is_none() {
                self.start(number)?;
            }
        }
        Ok(())
    }

    /// Looks whether a server has ended that was not to.
    ///
    /// # Errors
    /// Names it, with the last lines of its log.
    pub fn check(&mut self) -> Result<(), Failure> {
        for number in 0..self.all.len() {
            let Some(child) = &mut self.children[number] else { continue };
            let Ok(Some(status)) = child.try_wait() else { continue };
            let how = children::how_it_ended(status);
            let log = files::tail(&self.log_of(number), 5);
            return Err(Failure::new(Exit::Failed, format!("server {} {how} by itself", self.all[number].name))
                .hint(format!("The end of its log:\n{}", log.join("\n"))));
        }
        Ok(())
    }

    /// Waits until one of them leads and the others say so. Returns its number and term.
    ///
    /// # Errors
    /// A server ended, or it takes too long.
    pub async fn leader(&mut self) -> Result<(usize, u64), Failure> {
        let mut last = String::new();
        let deadline = RealWorld::now() + PATIENCE;
        while RealWorld::now() < deadline {
            self.check()?;
            let answers = self.ask_all(StatusDetail::default()).await;
            let newest = answers.iter().flatten().filter(|answer| answer.leader.is_some()).max_by_key(|a| a.term);
            if let Some(newest) = newest {
                let agreed = answers.iter().flatten().filter(|a| a.leader == newest.leader && a.term == newest.term);
                let leader = self.all.iter().position(|server| Some(&server.name) == newest.leader.as_ref());
                // A server that was killed a moment ago may still be taken for the leader by those that miss it.
                if let Some(leader) = leader.filter(|leader| self.children[*leader].is_some())
                    && agreed.count() > self.all.len() / 2
                {
                    return Ok((leader, newest.term));
                }
            }
            last = answers.iter().flatten().flat_map(|a| &a.problems).cloned().collect::<Vec<_>>().join("; ");
            RealWorld::sleep(AGAIN).await;
        }
        Err(Failure::new(Exit::Unavailable, format!("the servers have not agreed on a leader within {PATIENCE:?}"))
            .hint(if last.is_empty() { "None of them said why.".to_owned() } else { last }))
    }

    /// Waits until all servers have applied the same entries and are in the same state. Returns their answers.
    ///
    /// # Errors
    /// A server ended, or it takes too long.
    pub async fn equal(&mut self) -> Result<Vec<Status>, Failure> {
        let deadline = RealWorld::now() + PATIENCE;
        let mut seen = String::new();
        while RealWorld::now() < deadline {
            self.check()?;
            let answers = self.ask_all(StatusDetail { digest: true, disk: false }).await;
            if let Some(all) = answers.iter().cloned().collect::<Option<Vec<_>>>()
                && all.iter().all(|a| (a.applied_index, a.digest) == (all[0].applied_index, all[0].digest))
                && all.iter().all(|a| a.digest.is_some())
            {
                return Ok(all);
            }
            let told = self.all.iter().zip(&answers).map(|(server, answer)| match answer {
                Some(a) => {
                    format!(
                        "{}: applied {}, digest {:016x}",
                        server.name,
                        a.applied_index,
                        a.digest.unwrap_or_default()
                    )
                }
                None => format!("{}: no answer", server.name),
            });
            seen = told.collect::<Vec<_>>().join("\n");
            RealWorld::sleep(AGAIN).await;
        }
        Err(Failure::new(Exit::CountsOff, format!("the servers' states are not equal after {PATIENCE:?}")).hint(seen))
    }

    /// Stops all of them in good order. Returns how many had to be killed.
    pub async fn stop(&mut self) -> usize {
        let mut children: Vec<&mut Child> = self.children.iter_mut().flatten().collect();
        let killed = children::stop(&mut children).await;
        self.children.iter_mut().for_each(|child| *child = None);
        killed
    }

    async fn ask_all(&self, detail: StatusDetail) -> Vec<Option<Status>> {
        let asking = self.all.iter().enumerate().map(async |(number, server)| {
            self.children[number].as_ref()?;
            let status = observe::ask(&server.address(), ANSWER, detail).await.answer.ok()?;
            // A client that is sent away goes on at another server, whose answer is not this one's.
            (status.server == server.name).then_some(status)
        });
        futures::future::join_all(asking).await
    }

    fn log_of(&self, number: usize) -> PathBuf {
        self.all[number].data.with_extension("log")
    }
}
