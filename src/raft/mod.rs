//! Consensus: openraft's traits over our log, our checkpoint, our post office and our wire, and nothing else.
//!
//! * [`types`]: the types openraft is told to use: incarnations as node ids, opaque entries, one leader a term.
//! * [`log_store`]: its log and votes in [`crate::storage::Log`].
//! * [`state_machine`]: its state machine is a [`crate::post_office::PostOffice`] in memory with a
//!   [`crate::storage::Checkpoint`] behind it, which is its snapshot, too.
//! * [`builder`]: how that is written.
//! * [`network`]: its messages over [`link`]s; [`serve`] is the other end of them; [`outline`](outline()) tells a watcher
//!   what they say.
//! * [`trouble`]: what the disk did when one of them failed.

mod builder;
pub mod link;
mod log_store;
mod messages;
mod network;
mod outline;
mod serve;
mod state_machine;
mod trouble;
mod types;

use std::sync::Arc;
use std::time::Duration;

pub use log_store::LogStore;
pub use network::{Me, NetworkFactory, Reachability};
pub use outline::{EntryContent, EntryOutline, Outline, outline};
pub use serve::{Gates, Heard, serve_raft, serve_snapshot};
pub use state_machine::{CheckpointMeta, Listener, Office, SnapshotData, StateMachine, load};
pub use trouble::{Cause, Trouble};
pub use types::*;

/// openraft's configuration for the given timing. When the log is cleaned, `entries_kept` of those that are in the
/// checkpoint stay in it, so that a server that blinked catches up from the log instead of a snapshot.
///
/// # Errors
/// The text says which relation between the timeouts does not hold.
pub fn config(
    heartbeat: Duration,
    election_timeout: (Duration, Duration),
    entries_kept: u64,
) -> Result<Arc<openraft::Config>, String> {
    let config = openraft::Config {
        cluster_name: "restante".to_owned(),
        heartbeat_interval: heartbeat.as_millis() as u64,
        election_timeout_min: election_timeout.0.as_millis() as u64,
        election_timeout_max: election_timeout.1.as_millis() as u64,
        // Checkpoints are taken by bytes of log, not by entries: `server::upkeep` triggers them.
        snapshot_policy: openraft::SnapshotPolicy::Never,
        // A follower gets entries as long as the log has them, however many they are.
        replication_lag_threshold: u64::MAX / 4,
        max_in_snapshot_log_to_keep: entries_kept,
        purge_batch_size: 64,
        // One entry is a batch already, of up to 4 MiB; three of them fit a frame.
        max_payload_entries: 3,
        max_append_entries: Some(64),
        enable_pre_vote: Some(true),
        // A leader replicates an entry while its own disk is still writing it, so one that lost its power may lack
        // entries of its term that followers hold. Leading on in that term, it would give their log ids to others.
        enable_leader_restore: Some(false),
        backoff: "20ms 40ms 80ms ...500ms".to_owned(),
        ..openraft::Config::default()
    };
    config.validate().map(Arc::new).map_err(|e| e.to_string())
}
