//! What one server is told.

use std::time::Duration;

use crate::limits;
use crate::wire::{Name, Quotas, ServerAddress};

/// Settings of one server. [`Settings::new`] has the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its name.
    pub name: Name,
    /// Where it listens, `host:port`.
    pub listen: String,
    /// The servers of the cluster, itself among them.
    pub cluster: Vec<ServerAddress>,
    /// How often a leader says that it is there.
    pub heartbeat: Duration,
    /// A follower stands for election after a silence of the longest of these and one drawn from between them.
    pub election_timeout: (Duration, Duration),
    /// The quotas of a cluster that is founded; an existing one has its own.
    pub quotas: Quotas,
    /// Connections it accepts.
    pub connections: usize,
    /// Bytes of its clients' commands that it holds until they are applied.
    pub pending_bytes: usize,
    /// Bytes of bodies that it keeps in memory once they are in the checkpoint.
    pub body_memory_bytes: u64,
    /// Bytes of log after which the state is checkpointed and the log cleaned.
    pub checkpoint_log_bytes: u64,
    /// Log entries that stay when the log is cleaned: a server that lacks no more catches up without a snapshot.
    pub log_entries_kept: u64,
    /// Size of one log segment, in bytes.
    pub segment_bytes: u64,
    /// Bytes of recent log entries kept in memory.
    pub log_cache_bytes: u64,
    /// Free space on the disk below which sends are refused, in bytes.
    pub disk_reserve_bytes: u64,
    /// A disk that does nothing for so long, although something is to be written, hangs: the server leads no more and
    /// sends its clients elsewhere.
    pub disk_patience: Duration,
    /// Everything on the disk is read and verified within this time, again and again.
    pub scrub_period: Duration,
    /// Backups that it makes at a time.
    pub backups: usize,
}

/// Settings that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSettings {
    /// The server's own name is not among the cluster's.
    #[error("server {name} is not among the cluster's servers ({listed}): add {name}=HOST:PORT to --cluster")]
    NotListed {
        /// The server's name.
        name: Name,
        /// The names that are listed.
        listed: String,
    },
    /// Two servers share a name or an address.
    #[error("--cluster lists {what} twice")]
    Twice {
        /// The name or address.
        what: String,
    },
    /// The timeouts do not fit each other.
    #[error(
        "the heartbeat ({heartbeat:?}) must be shorter than half the shortest election timeout ({min:?}), which must not exceed the longest ({max:?})"
    )]
    Timing {
        /// The heartbeat.
        heartbeat: Duration,
        /// The shortest election timeout.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// No command could ever be held.
    #[error("the bytes of commands that a server holds (--pending) must be at least 1, or it takes none")]
    NothingPending,
    /// The log's sizes do not fit each other.
    #[error(
        "a log segment of {segment} bytes must hold four entries ({entry} bytes each) and fit twice into {checkpoint} bytes of log between checkpoints"
    )]
    LogSizes {
        /// Size of a segment.
        segment: u64,
        /// Size of the largest entry.
        entry: u64,
        /// Log between checkpoints.
        checkpoint: u64,
    },
}

impl Settings {
    /// The defaults.
    pub fn new(name: Name, listen: impl Into<String>, cluster: Vec<ServerAddress>) -> Self {
        Self {
            name,
            listen: listen.into(),
            cluster,
            // A follower stands after the longest timeout, which is its leader's lease, and a drawn one: 200 to 300 ms.
            heartbeat: Duration::from_millis(40),
            election_timeout: (Duration::from_millis(100), Duration::from_millis(150)),
            quotas: Quotas::default(),
            connections: limits::CONNECTIONS_DEFAULT,
            pending_bytes: limits::PENDING_BYTES_DEFAULT,
            body_memory_bytes: limits::BODY_MEMORY_BYTES_DEFAULT,
            checkpoint_log_bytes: limits::CHECKPOINT_LOG_BYTES_DEFAULT,
            log_entries_kept: limits::LOG_ENTRIES_KEPT_DEFAULT,
            segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
            log_cache_bytes: limits::LOG_CACHE_BYTES_DEFAULT,
            disk_reserve_bytes: limits::DISK_RESERVE_BYTES_DEFAULT,
            disk_patience: limits::DISK_PATIENCE_DEFAULT,
            scrub_period: limits::SCRUB_PERIOD_DEFAULT,
            backups: limits::BACKUPS_DEFAULT,
        }
    }

    /// Whether they fit each other.
    ///
    /// # Errors
    /// [`BadSettings`] says which do not.
    pub fn check(&self) -> Result<(), BadSettings> {
        if !self.cluster.iter().any(|s| s.name == self.name) {
            let listed = self.cluster.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(BadSettings::NotListed { name: self.name.clone(), listed });
        }
        for (place, server) in self.cluster.iter().enumerate() {
            for other in &self.cluster[..place] {
                if other.name == server.name {
                    return Err(BadSettings::Twice { what: server.name.to_string() });
                }
                if other.address == server.address {
                    return Err(BadSettings::Twice { what: server.address.clone() });
                }
            }
        }
        let (min, max) = self.election_timeout;
        if self.heartbeat.is_zero() || self.heartbeat * 2 > min || min > max {
            return Err(BadSettings::Timing { heartbeat: self.heartbeat, min, max });
        }
        // One command is held whatever its size, so that anything above this takes all of them in turn.
        if self.pending_bytes == 0 {
            return Err(BadSettings::NothingPending);
        }
        Ok(())
    }

    /// Whether the log has sizes that are of use: a segment that holds some entries. With less it works, and spends its time on
    /// making segments; the simulator goes below on purpose.
    ///
    /// # Errors
    /// [`BadSettings::LogSizes`].
    pub fn check_log(&self) -> Result<(), BadSettings> {
        let entry = limits::ENTRY_BYTES_MAX as u64;
        if self.segment_bytes < entry * 4 || self.checkpoint_log_bytes < self.segment_bytes * 2 {
            return Err(BadSettings::LogSizes {
                segment: self.segment_bytes,
                entry,
                checkpoint: self.checkpoint_log_bytes,
            });
        }
        Ok(())
    }

    /// The cluster's servers, names ascending.
    pub fn servers(&self) -> Vec<ServerAddress> {
        let mut servers = self.cluster.clone();
        servers.sort();
        servers
    }

    /// Where others reach this server.
    pub fn address(&self) -> &str {
        self.cluster.iter().find(|s| s.name == self.name).map_or(self.listen.as_str(), |s| s.address.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_could_hold_no_command_is_refused() {
        let name = Name::new("a").unwrap();
        let cluster = vec![ServerAddress { name: name.clone(), address: "a:1".to_owned() }];
        let mut settings = Settings::new(name, "a:1", cluster);
        assert_eq!(settings.check(), Ok(()));
        settings.pending_bytes = 0;
        assert_eq!(settings.check(), Err(BadSettings::NothingPending));
        settings.pending_bytes = 1;
        assert_eq!(settings.check(), Ok(()));
    }
}
