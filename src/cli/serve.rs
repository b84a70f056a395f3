//! `restante serve`: one server.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use restante::limits;
use restante::server::{self, ServerError, Settings};
use restante::storage::OpenError;
use restante::wire::{Name, Quotas};
use restante::world::{Host, RealDisk, RealNetwork, RealWorld, World};

use super::failure::{Exit, Failure, with_causes};
use super::interrupt::Interrupt;
use super::values::{self, ClusterList, Size};

/// Run one server of a cluster.
///
/// Every server is given the same --cluster list. When all servers of the list are new, they found the cluster; after
/// that a server may be stopped, killed and started again as you like: it catches up with the others. SIGTERM and
/// Ctrl-C stop it cleanly: it hands leadership over and lets its clients move. The port speaks HTTP as well: see
/// docs/http.md.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example, the first of three servers:
  restante serve --name a --listen 127.0.0.1:8080 \\
      --cluster a=127.0.0.1:8080,b=127.0.0.1:8081,c=127.0.0.1:8082 --data ./a

All three at once, for trying out: restante cluster")]
pub struct Serve {
    /// This server's name, one of those in --cluster
    #[arg(long, env = "RESTANTE_NAME")]
    name: Name,
    /// Where to listen, as HOST:PORT [default: the server's address in --cluster]
    #[arg(long, value_name = "ADDRESS", env = "RESTANTE_LISTEN", value_parser = values::address)]
    listen: Option<String>,
    /// All servers of the cluster, as NAME=HOST:PORT,…
    #[arg(long, value_name = "SERVERS", env = "RESTANTE_CLUSTER")]
    cluster: ClusterList,
    /// The server's own directory; made if it is not there
    #[arg(long, value_name = "DIR", env = "RESTANTE_DATA")]
    data: PathBuf,
    /// Listen beyond this machine although there is no authentication: whoever reaches the port can do anything
    #[arg(long, env = "RESTANTE_INSECURE")]
    insecure: bool,

    /// How often a leader tells the others that it lives
    #[arg(long, value_name = "DURATION", env = "RESTANTE_HEARTBEAT", default_value = "40ms",
          value_parser = values::duration, help_heading = "Elections")]
    heartbeat: Duration,
    /// How long a silent leader is waited for: drawn anew from this range each time
    #[arg(long, value_name = "MIN..MAX", env = "RESTANTE_ELECTION_TIMEOUT", default_value = "100ms..150ms",
          value_parser = values::durations, help_heading = "Elections")]
    election_timeout: (Duration, Duration),

    /// Threads that the server works on, apart from those that wait for its disk [default: one for two cores, at most four]
    ///
    /// One costs the least for each message, which pays where several servers share a few cores; more take more
    /// clients where a server has cores to itself.
    #[arg(long, value_name = "N", env = "RESTANTE_THREADS", value_parser = clap::value_parser!(u16).range(1..=1024),
          help_heading = "Limits of this server")]
    threads: Option<u16>,
    /// Connections this server accepts
    #[arg(long, value_name = "N", env = "RESTANTE_CONNECTIONS", default_value_t = limits::CONNECTIONS_DEFAULT,
          help_heading = "Limits of this server")]
    connections: usize,
    /// Commands of its clients that are held until they are applied
    #[arg(long, value_name = "SIZE", env = "RESTANTE_PENDING", default_value_t = Size(limits::PENDING_BYTES_DEFAULT as u64),
          help_heading = "Limits of this server")]
    pending: Size,
    /// Bodies kept in memory; those beyond it wait on disk
    #[arg(long, value_name = "SIZE", env = "RESTANTE_BODY_MEMORY", default_value_t = Size(limits::BODY_MEMORY_BYTES_DEFAULT),
          help_heading = "Limits of this server")]
    body_memory: Size,
    /// Recent log kept in memory
    #[arg(long, value_name = "SIZE", env = "RESTANTE_LOG_CACHE", default_value_t = Size(limits::LOG_CACHE_BYTES_DEFAULT),
          help_heading = "Limits of this server")]
    log_cache: Size,
    /// Log after which the state is written to disk and the log is cleaned
    #[arg(long, value_name = "SIZE", env = "RESTANTE_CHECKPOINT_LOG", default_value_t = Size(limits::CHECKPOINT_LOG_BYTES_DEFAULT),
          help_heading = "Limits of this server")]
    checkpoint_log: Size,
    /// Size of one file of the log
    #[arg(long, value_name = "SIZE", env = "RESTANTE_SEGMENT", default_value_t = Size(limits::SEGMENT_BYTES_DEFAULT),
          help_heading = "Limits of this server")]
    segment: Size,
    /// Free space on the disk below which sends are refused
    #[arg(long, value_name = "SIZE", env = "RESTANTE_DISK_RESERVE", default_value_t = Size(limits::DISK_RESERVE_BYTES_DEFAULT),
          help_heading = "Limits of this server")]
    disk_reserve: Size,
    /// A disk that does nothing for so long, although something is to be written, hangs: another server leads then
    #[arg(long, value_name = "DURATION", env = "RESTANTE_DISK_PATIENCE", default_value = "1s",
          value_parser = values::duration, help_heading = "Limits of this server")]
    disk_patience: Duration,
    /// Everything on the disk is read and verified within this time, again and again
    #[arg(long, value_name = "DURATION", env = "RESTANTE_SCRUB_PERIOD", default_value = "24h",
          value_parser = values::duration, help_heading = "Limits of this server")]
    scrub_period: Duration,

    /// Backups that are made here at a time
    #[arg(long, value_name = "N", env = "RESTANTE_BACKUPS", default_value_t = limits::BACKUPS_DEFAULT,
          help_heading = "Limits of this server")]
    backups: usize,

    /// Messages that may wait in one inbox
    #[arg(long, value_name = "N", env = "RESTANTE_INBOX_MESSAGES", default_value_t = limits::INBOX_MESSAGES_DEFAULT,
          help_heading = "Quotas (taken over when the cluster is founded)")]
    inbox_messages: u64,
    /// Bytes that may wait in one inbox
    #[arg(long, value_name = "SIZE", env = "RESTANTE_INBOX_BYTES",
          default_value_t = Size(limits::INBOX_BYTES_DEFAULT), help_heading = "Quotas (taken over when the cluster is founded)")]
    inbox_bytes: Size,
    /// Send streams that one client may have open
    #[arg(long, value_name = "N", env = "RESTANTE_STREAMS_PER_CLIENT",
          default_value_t = limits::STREAMS_PER_CLIENT_DEFAULT,
          help_heading = "Quotas (taken over when the cluster is founded)")]
    streams_per_client: u32,
    /// Sends of one stream that may be in flight
    #[arg(long, value_name = "N", env = "RESTANTE_STREAM_WINDOW", default_value_t = limits::STREAM_WINDOW_DEFAULT,
          help_heading = "Quotas (taken over when the cluster is founded)")]
    stream_window: u32,
    /// Clients that may be registered
    #[arg(long, value_name = "N", env = "RESTANTE_CLIENTS", default_value_t = limits::CLIENTS_DEFAULT,
          help_heading = "Quotas (taken over when the cluster is founded)")]
    clients: u64,
    /// A send stream silent for so long is closed
    #[arg(long, value_name = "DURATION", env = "RESTANTE_STREAM_IDLE", default_value = "1h",
          value_parser = values::duration, help_heading = "Quotas (taken over when the cluster is founded)")]
    stream_idle: Duration,

    /// Die when the process PID, which started this one, dies in whatever way
    #[arg(long, value_name = "PID", hide = true)]
    die_with_parent: Option<i32>,
}

impl Serve {
    /// The threads that it is to run on, if somebody said so.
    pub fn threads(&self) -> Option<usize> {
        self.threads.map(usize::from)
    }

    /// Serves until a signal or an error ends it.
    ///
    /// # Errors
    /// The arguments do not fit, or why the server could not start or go on.
    pub async fn run(&self) -> Result<(), Failure> {
        if let Some(parent) = self.die_with_parent {
            die_with_parent(parent)?;
        }
        let settings = self.settings()?;
        let mut interrupt = Interrupt::new()?;
        let disk = RealDisk::new(&self.data).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        let host = Host { network: Arc::new(RealNetwork), disk: Some(Arc::new(disk)) };
        let shutdown = async move {
            let signal = interrupt.next().await;
            tracing::info!(signal, "stopping; once more stops at once");
            RealWorld::spawn(async move {
                interrupt.next().await;
                std::process::exit(i32::from(Exit::Interrupted as u8));
            });
        };
        server::run::<RealWorld>(settings, host, shutdown).await.map_err(|error| explain(&error))
    }

    /// The settings of the server, if they fit each other.
    ///
    /// # Errors
    /// They do not.
    pub fn settings(&self) -> Result<Settings, Failure> {
        let usage = |text: String| Failure::new(Exit::Usage, text);
        let Some(own) = self.cluster.0.iter().find(|server| server.name == self.name) else {
            let names: Vec<&str> = self.cluster.0.iter().map(|server| server.name.as_str()).collect();
            return Err(usage(format!("{} is not in --cluster, which lists {}", self.name, names.join(", "))));
        };
        let listen = self.listen.clone().unwrap_or_else(|| own.address.clone());
        if !self.insecure && !values::is_loopback(&listen) {
            return Err(usage(format!("refusing to listen on {listen}, which others than this machine may reach"))
                .hint(
                    "There is no authentication yet: whoever reaches the port can read and send everything.\n\
                     Listen on 127.0.0.1, or give --insecure if the network around this machine can be trusted.",
                ));
        }
        let mut settings = Settings::new(self.name.clone(), listen, self.cluster.0.clone());
        settings.heartbeat = self.heartbeat;
        settings.election_timeout = self.election_timeout;
        settings.connections = self.connections;
        settings.pending_bytes = usize::try_from(self.pending.0).unwrap_or(usize::MAX);
        settings.body_memory_bytes = self.body_memory.0;
        settings.log_cache_bytes = self.log_cache.0;
        settings.checkpoint_log_bytes = self.checkpoint_log.0;
        settings.segment_bytes = self.segment.0;
        settings.disk_reserve_bytes = self.disk_reserve.0;
        settings.disk_patience = self.disk_patience;
        settings.scrub_period = self.scrub_period;
        settings.backups = self.backups;
        settings.quotas = Quotas {
            inbox_messages: self.inbox_messages,
            inbox_bytes: self.inbox_bytes.0,
            streams_per_client: self.streams_per_client,
            stream_window: self.stream_window,
            clients: self.clients,
            stream_idle_ms: self.stream_idle.as_millis().try_into().unwrap_or(u64::MAX),
        };
        settings.check().and_then(|()| settings.check_log()).map_err(|error| usage(error.to_string()))?;
        Ok(settings)
    }
}

/// The failure that the server's end is for whoever started it.
fn explain(error: &ServerError) -> Failure {
    let exit = match error {
        ServerError::Settings(_) => Exit::Usage,
        ServerError::Io(error) if error.kind() == io::ErrorKind::AddrInUse => {
            return Failure::new(Exit::AddressInUse, error.to_string())
                .hint("Stop what listens there, or give another address.");
        }
        ServerError::Data(OpenError::InUse { .. } | OpenError::NotOurs { .. } | OpenError::NotEmpty { .. }) => {
            Exit::DirectoryInUse
        }
        ServerError::Data(
            OpenError::NewerFormat { .. } | OpenError::Damaged { .. } | OpenError::HalfRestored { .. },
        )
        | ServerError::OtherServer { .. }
        | ServerError::Retired(_) => Exit::BadData,
        ServerError::Disk(_) => Exit::DiskFailed,
        ServerError::Io(_) | ServerError::Data(OpenError::Io(_)) | ServerError::Stopped(_) => Exit::Failed,
    };
    Failure::new(exit, with_causes(error))
}

/// Asks the system to kill this process when its parent dies, and looks whether it has died already.
fn die_with_parent(parent: i32) -> Result<(), Failure> {
    let failed = |text: String| Failure::new(Exit::Failed, text);
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| failed(format!("cannot ask to die with the parent: {error}")))?;
    match rustix::process::getppid() {
        Some(pid) if pid.as_raw_nonzero().get() == parent => Ok(()),
        _ => Err(failed(format!("process {parent}, which started this server, is gone"))),
    }
}
