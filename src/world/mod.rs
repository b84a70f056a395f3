//! The seams: everything that is not a pure function of its inputs goes through here.
//!
//! openraft takes `spawn`, the clock and its random numbers from static functions of its runtime, so a trait object
//! cannot reach them. Hence one type parameter, [`World`], for what has no owner (tasks, timers, randomness, blocking
//! work), and a [`Host`] value with trait objects for what has one: a [`Network`] and a [`Disk`].
//!
//! [`RealWorld`] is the machine that you sit at. The simulator has its own in the crate `restante-sim`.

mod disk;
mod instant;
mod network;
mod real;
mod runtime;

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub use disk::{Disk, File, OpenMode};
pub use network::{BoxFuture, Connection, Listener, Network};
pub use real::{RealDisk, RealNetwork, RealWorld};
pub use runtime::{Watch, WatchReceiver, WatchSender, WorldRuntime, watch};

/// The clock's reading. Both worlds use tokio's, which the simulator moves.
pub type Instant = tokio::time::Instant;

/// Tasks, timers, randomness and blocking work, as static functions: see the module.
#[expect(clippy::disallowed_methods, reason = "this is the seam that the others go through")]
pub trait World: Debug + Clone + Copy + Default + Eq + Ord + Send + Sync + 'static {
    /// Random numbers: from the operating system in production, from the plan in the simulator.
    type Rng: rand::Rng + Send;

    /// Starts a task. The only way to start one.
    fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static;

    /// Runs work that blocks (disk, redb) away from the tasks: on a thread in production; after a drawn delay and
    /// inline in the simulator. A panic in `work` is passed on.
    fn blocking<T, F>(work: F) -> impl Future<Output = T> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static;

    /// Random numbers.
    fn rng() -> Self::Rng;

    /// The monotonic clock.
    fn now() -> Instant {
        Instant::now()
    }

    /// Milliseconds since the Unix epoch: for people and for telling lives apart, never for decisions.
    fn unix_millis() -> u64;

    /// Waits.
    fn sleep(duration: Duration) -> tokio::time::Sleep {
        tokio::time::sleep(duration)
    }

    /// Waits until `deadline`.
    fn sleep_until(deadline: Instant) -> tokio::time::Sleep {
        tokio::time::sleep_until(deadline)
    }

    /// Gives `future` so long.
    fn timeout<F: Future>(duration: Duration, future: F) -> tokio::time::Timeout<F> {
        tokio::time::timeout(duration, future)
    }

    /// Tells whoever watches that something happened. Nobody does in production, and `event` is not called.
    fn observe(event: impl FnOnce() -> Event) {
        let _ = event;
    }

    /// Whether whoever watches wants to be told of what came of the log entry of that index: one server's word is enough, and
    /// only then is it worth gathering.
    fn wants_entry(index: u64) -> bool {
        let _ = index;
        false
    }

    /// Tells whoever watches that the code came to a place that tests want to have been in.
    fn reached(place: &'static str) {
        Self::observe(|| Event { kind: "place", who: None, detail: place.to_owned() });
    }
}

/// Something worth a line in a simulation's trace: a kind, and numbers that tell it from others of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened, e.g. `apply`.
    pub kind: &'static str,
    /// Who it happened to (a server's or a client's name), if the world cannot tell.
    pub who: Option<String>,
    /// Details, in an order fixed for the kind.
    pub detail: String,
}

/// What one server or client stands on.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its network.
    pub network: Arc<dyn Network>,
    /// Its disk: one data directory. A client has none.
    pub disk: Option<Arc<dyn Disk>>,
}
