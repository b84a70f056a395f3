//! Clusters of real server processes, to be killed and brought back, and the `restante` command beside them.
//!
//! Everything is in a temporary directory and on ports of its own, and goes when the value is dropped. Servers are
//! killed by the system when the *thread* that started them ends, so that a test that is killed leaves none behind:
//! start and restart them from the test's own thread.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::disallowed_methods, reason = "tests watch real processes from outside, on real time")]

pub mod http;
pub mod mail;
pub mod raw;
pub mod traffic;

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

/// The command under test.
pub const RESTANTE: &str = env!("CARGO_BIN_EXE_restante");
/// How long anything may take before a test gives up. Far more than it takes, since machines are slow at times.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait before looking again.
const AGAIN: Duration = Duration::from_millis(20);

/// A `restante` command with no setting taken over from the environment.
pub fn restante() -> Command {
    let mut command = Command::new(RESTANTE);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RESTANTE_")) {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    let Output { status, stdout, stderr } = command.output().expect("the command can be started");
    Ran {
        code: status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// Runs a command that is to end by itself soon, and kills it if it does not.
#[track_caller]
pub fn run_briefly(command: &mut Command) -> Ran {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command can be started");
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("it can be waited for").is_none() {
        if Instant::now() > deadline {
            drop(child.kill());
            panic!("it does not end: {:#?}", child.wait_with_output());
        }
        std::thread::sleep(AGAIN);
    }
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it can be waited for");
    Ran {
        code: status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// The row of a server in a status; null if there is none.
pub fn row<'a>(status: &'a Value, name: &str) -> &'a Value {
    status["servers"].as_array().and_then(|rows| rows.iter().find(|row| row["name"] == name)).unwrap_or(&Value::Null)
}

/// The problems in a status, a line each.
pub fn problems(status: &Value) -> String {
    let problems = status["problems"].as_array().into_iter().flatten();
    problems.filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

/// How a command ended and what it wrote.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The exit code; negative for the signal that ended it.
    pub code: i32,
    /// The standard output.
    pub stdout: String,
    /// The standard error.
    pub stderr: String,
}

impl Ran {
    /// Asserts that it went well; returns what it printed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout
    }

    /// Asserts that it went well; returns the JSON that it printed.
    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
    }

    /// Asserts that it failed with that code and with that text on the standard error.
    #[track_caller]
    pub fn fails(self, code: i32, text: &str) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(self.stderr.contains(text), "{text:?} is not in {self:#?}");
        self
    }
}

/// Ports that are free, from below those that the system gives to outgoing connections, and kept for this process as
/// long as it lives: a server that is down for a while must find its port free when it comes back.
///
/// A port that was only looked at may be taken before it is used: by another test process, or by a child between its
/// fork and its exec, which holds what its parent had open. So each is held by a socket that does not listen. It is
/// bound before it allows others beside it, so that it fails if anybody has the port; then those that ask for
/// `SO_REUSEADDR`, as listening servers do, and no others can share it.
pub fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static HELD: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    // Those from 22,000 on are for clusters that the program starts by itself.
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 12_000;
    // Test processes that run side by side begin at different places.
    let offset = std::process::id().wrapping_mul(97) % COUNT;
    let mut ports = Vec::new();
    while ports.len() < count {
        let next = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = (FIRST + (offset + next) % COUNT) as u16;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        if socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).is_ok() {
            socket.set_reuse_address(true).expect("an option of a socket");
            HELD.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
            ports.push(port);
        }
    }
    ports
}

/// Looks again and again until `look` finds something.
///
/// # Panics
/// It takes too long; the text says what was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(AGAIN);
    }
}

/// Whether a process lives. One that ended but was not waited for does not.
pub fn lives(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    state.is_some_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
}

/// Sends a signal by its name, e.g. `INT`.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status().expect("there is a kill command");
    assert!(sent.success(), "cannot send SIG{name} to {pid}");
}

/// Servers `a`, `b`, `c`, … as processes of their own.
pub struct Cluster {
    directory: TempDir,
    ports: Vec<u16>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    children: Vec<Option<Child>>,
    /// The last so many servers found nothing: they are told of the others, who are not told of them.
    spares: usize,
}

impl Cluster {
    /// Starts so many servers and waits until one of them leads and all of them follow it.
    #[track_caller]
    pub fn start(servers: usize) -> Self {
        let mut cluster = Self::prepare(servers);
        cluster.start_all();
        cluster.wait_until("all servers to follow one leader", |status| {
            let Some(servers) = status["servers"].as_array() else { return false };
            status["leader"].is_string() && servers.iter().all(|server| server["leader"] == status["leader"])
        });
        cluster
    }

    /// A cluster of which nothing runs yet.
    pub fn prepare(servers: usize) -> Self {
        let directory = tempfile::Builder::new().prefix("restante-test-").tempdir().expect("a temporary directory");
        let children = (0..servers).map(|_| None).collect();
        Self {
            directory,
            ports: free_ports(servers),
            arguments: Vec::new(),
            environment: Vec::new(),
            children,
            spares: 0,
        }
    }

    /// A cluster of which nothing runs yet, with servers that it is not founded with.
    pub fn prepare_with_spares(founders: usize, spares: usize) -> Self {
        let mut cluster = Self::prepare(founders + spares);
        cluster.spares = spares;
        cluster
    }

    /// The same, with more arguments for each server's `serve`.
    #[must_use]
    pub fn with_arguments(mut self, arguments: &[&str]) -> Self {
        self.set_arguments(arguments);
        self
    }

    /// More arguments for each server that is started from now on, in place of those before.
    pub fn set_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    }

    /// A variable of the environment of each server that is started from now on.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// How many servers there are, running or not.
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// The name of server `number`: `a`, `b`, `c`, …
    pub fn name(&self, number: usize) -> String {
        char::from(b'a' + number as u8).to_string()
    }

    /// Its `host:port`.
    pub fn address(&self, number: usize) -> String {
        format!("127.0.0.1:{}", self.ports[number])
    }

    /// The addresses of all.
    pub fn addresses(&self) -> Vec<String> {
        (0..self.len()).map(|number| self.address(number)).collect()
    }

    /// What `--cluster` of server `number` is to be: the founders and itself.
    pub fn list(&self, number: usize) -> String {
        let servers = (0..self.len()).filter(|n| *n < self.len() - self.spares || *n == number);
        let list: Vec<String> = servers.map(|n| format!("{}={}", self.name(n), self.address(n))).collect();
        list.join(",")
    }

    /// The data directory of server `number`.
    pub fn data(&self, number: usize) -> PathBuf {
        self.directory.path().join(self.name(number))
    }

    /// A directory for what a test needs besides.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What server `number` has logged, over all its lives.
    pub fn log(&self, number: usize) -> String {
        std::fs::read_to_string(self.log_path(number)).unwrap_or_default()
    }

    fn log_path(&self, number: usize) -> PathBuf {
        self.directory.path().join(format!("{}.log", self.name(number)))
    }

    /// The command that runs server `number`, with no output set up.
    pub fn serve(&self, number: usize) -> Command {
        let mut command = restante();
        command.args(["serve", "--name", &self.name(number), "--listen", &self.address(number)]);
        command.args(["--cluster", &self.list(number), "--die-with-parent", &std::process::id().to_string()]);
        command.arg("--data").arg(self.data(number)).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts server `number`, for the first time or again.
    #[track_caller]
    pub fn start_server(&mut self, number: usize) {
        assert!(self.children[number].is_none(), "{} runs already", self.name(number));
        let log = File::options().create(true).append(true).open(self.log_path(number)).expect("a log file");
        let both = log.try_clone().expect("a second handle");
        let child = self.serve(number).stdout(both).stderr(log).spawn().expect("the server can be started");
        self.children[number] = Some(child);
    }

    /// Starts all that do not run.
    #[track_caller]
    pub fn start_all(&mut self) {
        for number in 0..self.len() {
            if self.children[number].is_none() {
                self.start_server(number);
            }
        }
    }

    /// The process id of server `number`, which runs.
    #[track_caller]
    pub fn pid(&self, number: usize) -> u32 {
        self.children[number].as_ref().expect("the server runs").id()
    }

    /// Whether server `number` was started and not stopped by the test.
    pub fn is_started(&self, number: usize) -> bool {
        self.children[number].is_some()
    }

    /// Kills server `number` with SIGKILL.
    #[track_caller]
    pub fn kill(&mut self, number: usize) {
        let mut child = self.children[number].take().expect("the server runs");
        child.kill().expect("it can be killed");
        let status = child.wait().expect("it can be waited for");
        assert_eq!(status.signal(), Some(9), "{} had ended by itself: {}", self.name(number), self.log(number));
    }

    /// Kills all that run, all signals before the first wait, as a power failure would.
    pub fn kill_all(&mut self) {
        for child in self.children.iter_mut().flatten() {
            drop(child.kill());
        }
        for mut child in self.children.iter_mut().filter_map(Option::take) {
            drop(child.wait());
        }
    }

    /// Stops server `number` with SIGTERM and waits for its end.
    #[track_caller]
    pub fn stop(&mut self, number: usize) -> ExitStatus {
        let mut child = self.children[number].take().expect("the server runs");
        signal(child.id(), "TERM");
        wait_for("a server to stop", || child.try_wait().expect("it can be waited for"))
    }

    /// Waits until server `number` has ended by itself.
    #[track_caller]
    pub fn ends(&mut self, number: usize) -> ExitStatus {
        let mut child = self.children[number].take().expect("the server runs");
        wait_for("a server to end by itself", || child.try_wait().expect("it can be waited for"))
    }

    /// A `restante` command that talks to this cluster.
    pub fn restante(&self, arguments: &[&str]) -> Command {
        let mut command = restante();
        command.env("RESTANTE_SERVERS", self.addresses().join(",")).args(arguments);
        command
    }

    /// Runs a `restante` command that talks to this cluster.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        run(&mut self.restante(arguments))
    }

    /// What `restante status --json` prints, if any server answers; there need not be a leader.
    pub fn status(&self) -> Option<Value> {
        self.status_with(&[])
    }

    fn status_with(&self, arguments: &[&str]) -> Option<Value> {
        serde_json::from_str(&self.run(&[&["status", "--json"], arguments].concat()).stdout).ok()
    }

    /// Waits until the status is as `is_so` wants it.
    #[track_caller]
    pub fn wait_until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        self.wait_until_with(&[], what, is_so)
    }

    #[track_caller]
    fn wait_until_with(&self, arguments: &[&str], what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            last = self.status_with(arguments);
            if let Some(status) = last.take_if(|status| is_so(status)) {
                return status;
            }
            std::thread::sleep(AGAIN);
        }
        let logs: Vec<String> = (0..self.len()).map(|n| tail(&self.name(n), &self.log(n))).collect();
        panic!("waited {PATIENCE:?} in vain for {what}; last status: {last:#?}\n{}", logs.join("\n"));
    }

    /// Waits until a running server leads and says so itself; returns its number.
    #[track_caller]
    pub fn wait_for_leader(&self) -> usize {
        let leader = |status: &Value| {
            let name = status["leader"].as_str()?.to_owned();
            let number = (0..self.len()).find(|number| self.name(*number) == name)?;
            let leads = |server: &Value| server["name"] == name.as_str() && server["role"] == "leader";
            let says_so = status["servers"].as_array()?.iter().any(leads);
            (self.is_started(number) && says_so).then_some(number)
        };
        let status = self.wait_until("a leader", |status| leader(status).is_some());
        leader(&status).expect("it was there a moment ago")
    }

    /// Waits until all servers answer, have applied the same entries and are in the same state.
    #[track_caller]
    pub fn wait_until_equal(&self) -> Value {
        self.wait_until_with(&["--digest"], "equal states on all servers", |status| {
            let Some(servers) = status["servers"].as_array() else { return false };
            let state = |server: &Value| (server["applied_index"].clone(), server["digest"].clone());
            // Servers that have only just started are equal, too, and have applied nothing yet.
            status["leader"].is_string()
                && servers.iter().all(|s| s["last_index"] == s["applied_index"] && s["last_index"].as_u64() > Some(0))
                && servers.len() == self.len()
                && servers
                    .iter()
                    .all(|s| s["answers"] == true && s["digest"].is_string() && state(s) == state(&servers[0]))
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for number in 0..self.len() {
                eprintln!("{}", tail(&self.name(number), &self.log(number)));
            }
        }
        self.kill_all();
    }
}

/// The end of a server's log, for the text of a failure.
fn tail(name: &str, log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    format!("--- the end of {name}'s log\n{}", lines[lines.len().saturating_sub(15)..].join("\n"))
}
