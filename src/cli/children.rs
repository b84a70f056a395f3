//! Servers as child processes of this one: for `cluster`, `demo` and `bench`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use restante::wire::Name;
use restante::world::{Network as _, RealNetwork, RealWorld, World};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

use super::failure::{Exit, Failure};
use super::files;
use super::values::Ports;

/// How long a server may take to stop in good order before it is killed.
pub const GRACE: Duration = Duration::from_secs(5);

/// A server that is, was or will be a child process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `a`, `b`, `c`, …
    pub name: Name,
    /// Its port on the loopback.
    pub port: u16,
    /// Its data directory.
    pub data: PathBuf,
}

impl Server {
    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// Servers `a`, `b`, `c`, … at `ports`, with their data below `data`.
///
/// # Errors
/// There are more ports than letters.
pub fn servers(ports: &Ports, data: &Path) -> Result<Vec<Server>, Failure> {
    let letters = "abcdefghijklmnopqrstuvwxyz";
    if ports.0.len() > letters.len() {
        return Err(Failure::new(Exit::Usage, format!("at most {} servers can be run so", letters.len())));
    }
    let named = letters.char_indices().zip(&ports.0).map(|((at, letter), port)| {
        let letter = &letters[at..at + letter.len_utf8()];
        let name = Name::new(letter).unwrap_or_else(|error| unreachable!("{error}"));
        Server { name, port: *port, data: data.join(letter) }
    });
    Ok(named.collect())
}

/// Makes sure that the ports are free, before anything is started.
///
/// # Errors
/// Names the first port that is taken, and what to do.
pub async fn check_ports(ports: &Ports, command: &str) -> Result<(), Failure> {
    for port in &ports.0 {
        let Err(error) = RealNetwork.listen(&format!("127.0.0.1:{port}")).await else { continue };
        let others: Vec<String> =
            ports.0.iter().map(|port| port.checked_add(1000).unwrap_or(port - 1000).to_string()).collect();
        if error.kind() != std::io::ErrorKind::AddrInUse {
            return Err(Failure::new(Exit::Failed, error.to_string()));
        }
        return Err(Failure::new(Exit::AddressInUse, format!("port {port} is in use"))
            .hint(format!("Stop what listens there, or use others: restante {command} --ports {}", others.join(","))));
    }
    Ok(())
}

/// So many ports that are free, from below those that the system gives to outgoing connections: a server that is down
/// for a while is to find its port free when it comes back.
///
/// # Errors
/// There are not so many.
pub async fn free_ports(count: usize) -> Result<Ports, Failure> {
    const FIRST: u32 = 22_000;
    const COUNT: u32 = 8_000;
    let mut ports = Vec::new();
    for step in 0..COUNT {
        // Processes that run side by side begin at different places.
        let port = (FIRST + (std::process::id().wrapping_mul(97) + step) % COUNT) as u16;
        if RealNetwork.listen(&format!("127.0.0.1:{port}")).await.is_ok() {
            ports.push(port);
            if ports.len() == count {
                return Ok(Ports(ports));
            }
        }
    }
    Err(Failure::new(Exit::Failed, format!("there are no {count} free ports on 127.0.0.1"))
        .hint("Name some with --ports."))
}

/// The command that runs `server` as one of `all`, with no output set up yet. It dies with this process, and is killed
/// when it is dropped.
///
/// # Errors
/// This program cannot be found.
pub fn command(server: &Server, all: &[Server]) -> Result<Command, Failure> {
    let cluster: Vec<String> = all.iter().map(|server| format!("{}={}", server.name, server.address())).collect();
    let mut command = Command::new(files::this_program()?);
    command.arg("serve");
    command.args(["--name", &server.name, "--listen", &server.address(), "--cluster", &cluster.join(",")]);
    command.arg("--data").arg(&server.data);
    command.args(["--die-with-parent", &std::process::id().to_string()]);
    // The loopback needs no leave to be listened on.
    command.env_remove("RESTANTE_INSECURE");
    command.stdin(Stdio::null());
    // Ctrl-C in a terminal goes to the whole process group; the servers are to be stopped by us, in order.
    command.process_group(0).kill_on_drop(true);
    Ok(command)
}

/// Sends a signal to a child that has not been waited for, so that its id still is its own.
pub fn signal(pid: u32, signal: Signal) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    if let Err(error) = kill_process(pid, signal) {
        tracing::debug!(%error, ?pid, "the signal was not delivered");
    }
}

/// How a process ended, in words.
pub fn how_it_ended(status: std::process::ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(0), _) => "stopped".to_owned(),
        (Some(code), _) => format!("failed with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Stops `children` in good order: SIGTERM to all, and SIGKILL to those that have not ended after [`GRACE`].
/// Returns how many had to be killed.
pub async fn stop(children: &mut [&mut tokio::process::Child]) -> usize {
    for pid in children.iter().filter_map(|child| child.id()) {
        signal(pid, Signal::TERM);
    }
    let all = async {
        for child in children.iter_mut() {
            // An error means that it is not there to be waited for.
            drop(child.wait().await);
        }
    };
    if RealWorld::timeout(GRACE, all).await.is_ok() {
        return 0;
    }
    let mut killed = 0;
    for child in children.iter_mut().filter(|child| child.id().is_some()) {
        killed += 1;
        drop(child.kill().await);
    }
    killed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_letters_ports_and_directories() {
        let servers = servers(&Ports(vec![8080, 9090]), Path::new("/data")).unwrap();
        assert_eq!(servers[1].name.as_str(), "b");
        assert_eq!(servers[1].address(), "127.0.0.1:9090");
        assert_eq!(servers[1].data, Path::new("/data/b"));
        assert!(super::servers(&Ports((1..=27).collect()), Path::new("/data")).is_err());
    }
}
