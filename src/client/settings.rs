//! Settings of a client.

use std::time::Duration;

use crate::limits;
use crate::wire::{ClusterId, Name};

/// Settings of a client, all with defaults but the servers: see [`ClientSettings::new`].
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Addresses (`host:port`) of one or more servers. The others are learned from the first that answers.
    pub servers: Vec<String>,
    /// The server to attach to, if it answers. Once the client had to move away it stays where it is.
    pub home: Option<Name>,
    /// The cluster to expect; by default the one that the first server belongs to.
    pub cluster: Option<ClusterId>,
    /// How long a request (registering, opening, listening, asking) may take, over all servers.
    pub timeout: Duration,
    /// After how long without a receipt a send's outcome is given as unknown. By default never: it is sent again until
    /// it is answered.
    pub send_timeout: Option<Duration>,
    /// Name and version of the software, for the servers' logs.
    pub agent: String,
    /// A server that sent nothing for so long, though it was asked every third of it, is left for another one.
    pub silence: Duration,
    /// How long a server may take to accept the connection and say its name.
    pub connect_timeout: Duration,
    /// The pause before the next server is tried: the first one, which doubles each time all of them were tried.
    pub backoff_min: Duration,
    /// The longest pause before the next server is tried.
    pub backoff_max: Duration,
    /// How long closing waits for what is on its way.
    pub close_timeout: Duration,
    /// Sends of one stream that may wait for their receipts. At most the cluster's quota, which is learned when this
    /// is larger.
    pub stream_window: u32,
    /// Bytes of sends that may wait for their receipts, over all streams. At least one send always may.
    pub pending_bytes: usize,
    /// After how long without a new send the receipts that came are confirmed by a command of its own.
    pub confirm_after: Duration,
}

impl ClientSettings {
    /// The defaults, with these servers (`host:port`).
    pub fn new(servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            home: None,
            cluster: None,
            timeout: Duration::from_secs(10),
            send_timeout: None,
            agent: concat!("restante/", env!("CARGO_PKG_VERSION")).to_owned(),
            silence: Duration::from_secs(1),
            connect_timeout: Duration::from_millis(500),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(250),
            close_timeout: Duration::from_secs(2),
            // A little below the quota, so that a receipt that is confirmed late does not make the server refuse.
            stream_window: limits::STREAM_WINDOW_DEFAULT - limits::STREAM_WINDOW_DEFAULT / 16,
            pending_bytes: 32 << 20,
            confirm_after: Duration::from_millis(200),
        }
    }
}
