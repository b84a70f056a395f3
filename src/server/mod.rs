//! One server: its port, its clients, its part in the cluster.
//!
//! Reading order: [`run`] here; [`bootstrap`] (founding, joining); [`node`] (what runs once there is an incarnation);
//! [`listener`] and [`session`] (connections); [`hub`] and [`outbox`] (the books of a home server: who waits for what);
//! [`delivery`]; [`batches`], [`forward`] and [`proposer`] (commands on their way into the log); [`desk`] and [`peek`]
//! (clients without a session; [`clients`] and [`sharing`] for `/v1`), whose part of the books is `hub::apart`; [`overview`] and [`observer`] (what is told and
//! counted); [`membership`], [`moving`] and [`operator`];
//! [`upkeep`] and [`disk_watch`]; [`scrub`]; [`ending`]; [`status`]; [`backup`], and [`restored`] for what came of one.

mod asking;
mod backup;
mod batches;
mod bootstrap;
mod clients;
mod delivery;
mod desk;
mod disk_watch;
mod ear;
mod ending;
mod follow;
mod forward;
mod hub;
mod keys;
mod listener;
mod membership;
mod moving;
mod node;
mod observer;
mod operator;
mod outbox;
mod overview;
mod peek;
mod presence;
mod proposer;
mod restored;
mod scrub;
mod session;
mod settings;
mod sharing;
mod status;
mod upkeep;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

pub(crate) use asking::{reply_name, request_headers};
pub(crate) use clients::{Outgoing, Placed};
pub(crate) use desk::{Desk, Failure, Moved, Place, Visit};
pub(crate) use overview::{Counts, FeedPermit};
pub(crate) use peek::{Look, Seen};
pub(crate) use presence::Changed;
pub use settings::{BadSettings, Settings};

use crate::limits;
use crate::metrics::Metrics;
use crate::metrics::traffic::Counted;
use crate::storage::{DataDirectory, OpenError};
use crate::wire::peer::PeerRefusal;
use crate::world::{Disk, Event, Host, Instant, WatchReceiver, World, watch};

/// How long a server that stops waits for the answers that it gave by HTTP to be taken.
const ANSWERS: Duration = Duration::from_secs(3);

/// Why a server stopped without having been asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The settings contradict each other.
    #[error(transparent)]
    Settings(#[from] BadSettings),
    /// The port could not be taken, or another system call that is not the disk's failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The data directory could not be opened.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// The data directory belongs to a server of another name.
    #[error("the data directory {directory} belongs to server {owner}, not to {name}: check --name and --data")]
    OtherServer {
        /// The directory.
        directory: String,
        /// Whose it is.
        owner: String,
        /// Who was to use it.
        name: String,
    },
    /// The other servers go on without this disk: with another one under this name, or without this server.
    #[error("{0}; what it holds is kept. To join again, add the server if it was removed, and start with an empty one")]
    Retired(PeerRefusal),
    /// The disk failed: a write or a sync of the log or the checkpoint. It is not tried again.
    #[error("the disk failed: {0}; what was accepted is safe on the other servers")]
    Disk(String),
    /// Consensus stopped.
    #[error("the server cannot go on: {0}; what was accepted is safe on the other servers")]
    Stopped(String),
}

/// Serves until `shutdown` resolves or something makes it stop; never exits the process.
///
/// Stopping in good order hands leadership over and lets clients move first.
///
/// # Errors
/// [`ServerError`] says what made it stop.
pub async fn run<W: World>(
    settings: Settings,
    mut host: Host,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServerError> {
    settings.check()?;
    let Some(disk) = host.disk.clone() else {
        return Err(io::Error::other("a server needs a disk").into());
    };
    let metrics = Arc::new(Metrics::default());
    host.network = Arc::new(Counted::new(host.network, metrics.traffic.clone()));
    let directory = open_directory::<W>(disk.clone()).await?;
    if let Some(identity) = directory.identity()
        && identity.name != settings.name
    {
        return Err(ServerError::OtherServer {
            directory: disk.describe(),
            owner: identity.name.to_string(),
            name: settings.name.to_string(),
        });
    }
    let port = host.network.listen(&settings.listen).await?;
    tracing::info!(name = %settings.name, address = port.address(), data = disk.describe(), "listening");
    let (closing, closed) = watch(false);
    let (leave, leaving) = watch(false);
    let server = Arc::new(Server {
        settings,
        host,
        disk,
        metrics,
        started: W::now(),
        started_unix_ms: W::unix_millis(),
        requests: std::sync::atomic::AtomicU64::new(0),
        phase: Mutex::new(Phase::Starting),
        closed,
        leaving,
        connections: std::sync::atomic::AtomicUsize::new(0),
        visitors: std::sync::atomic::AtomicUsize::new(0),
        bodies: Arc::new(tokio::sync::Semaphore::new(limits::HTTP_BODIES_BYTES_MAX)),
        feeds: Arc::new(tokio::sync::Semaphore::new(limits::HTTP_FEEDS_MAX)),
        keys: Mutex::default(),
        world: std::marker::PhantomData::<W>,
    });
    let accepting = Abort(W::spawn(listener::accept(server.clone(), port)));
    let stopped = {
        let lives = live(&server, directory);
        futures::pin_mut!(lives, shutdown);
        match futures::future::select(lives, shutdown).await {
            futures::future::Either::Left((ended, _)) => ended,
            futures::future::Either::Right(((), _)) => {
                tracing::info!("stopping");
                let _ = openraft_rt::watch::WatchSender::send(&leave, true);
                let phase = server.phase.lock().clone();
                if let Phase::Running(node) = phase {
                    node.stop().await;
                }
                // Answers that were given have yet to be taken.
                let _ = W::timeout(ANSWERS, listener::until_no_visitors(&server)).await;
                Ok(())
            }
        }
    };
    drop(accepting);
    let _ = openraft_rt::watch::WatchSender::send(&closing, true);
    match &stopped {
        Ok(()) => tracing::info!("stopped"),
        Err(error) => tracing::error!(%error, "stopped"),
    }
    stopped
}

/// Opens the data directory. One whose own files are damaged is set aside like any other damage.
async fn open_directory<W: World>(disk: Arc<dyn Disk>) -> Result<DataDirectory, OpenError> {
    W::blocking(move || match DataDirectory::open::<W>(disk.clone()) {
        Err(damaged @ OpenError::Damaged { .. }) => {
            W::reached("a damaged directory set aside");
            tracing::error!(%damaged, "setting the data aside");
            DataDirectory::open_set_aside::<W>(disk, &damaged.to_string())
        }
        opened => opened,
    })
    .await
}

/// Lives with one disk after another: a disk that turns out damaged is set aside, and the server starts anew on an
/// empty one.
async fn live<W: World>(server: &Arc<Server<W>>, mut directory: DataDirectory) -> Result<(), ServerError> {
    loop {
        let identity = match directory.identity() {
            Some(identity) => identity.clone(),
            None => {
                let Some(identity) = bootstrap::find_identity(server, &directory).await? else {
                    let renewed = W::blocking(move || directory.renew::<W>().map(|()| directory));
                    directory = renewed.await?;
                    continue;
                };
                // The log first: where there is an identity there has to be a log, so that a lost one is told from
                // a new one.
                match node::create_log(server).await {
                    Ok(()) => {}
                    // What was left there of an earlier life before its identity was written.
                    Err(ending::StartError::Damaged(reason)) => {
                        directory = set_aside::<W>(directory, reason).await?;
                        continue;
                    }
                    Err(ending::StartError::Other(error)) => return Err(error),
                }
                let made = identity.clone();
                let set = W::blocking(move || directory.set_identity(made).map(|()| directory));
                directory = set.await.map_err(disk_failed)?;
                identity
            }
        };
        let reason = match node::Node::start(server, &directory, &identity).await {
            Ok(node) => {
                *server.phase.lock() = Phase::Running(node.clone());
                let asking =
                    Abort(W::spawn(bootstrap::ask_until_taken_in(server.clone(), node.clone(), directory.disk_id())));
                let ended = node.run().await;
                drop(asking);
                *server.phase.lock() = Phase::Starting;
                match ended {
                    ending::Ended::Damaged(reason) => reason,
                    ending::Ended::Failed(error) => return Err(error),
                }
            }
            Err(ending::StartError::Damaged(reason)) => reason,
            Err(ending::StartError::Other(error)) => return Err(error),
        };
        directory = set_aside::<W>(directory, reason).await?;
    }
}

async fn set_aside<W: World>(mut directory: DataDirectory, reason: String) -> Result<DataDirectory, ServerError> {
    W::reached("damaged data set aside");
    W::observe(|| Event { kind: "standing", who: None, detail: format!("incarnation=none votes=false: {reason}") });
    tracing::error!(reason, "this server's data is damaged: setting it aside, joining again with an empty disk");
    let set = W::blocking(move || directory.set_aside::<W>(&reason).map(|()| directory));
    set.await.map_err(disk_failed)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn disk_failed(error: io::Error) -> ServerError {
    ServerError::Disk(error.to_string())
}

/// What all tasks of a server share.
struct Server<W: World> {
    settings: Settings,
    host: Host,
    disk: Arc<dyn Disk>,
    /// What is counted since it started.
    metrics: Arc<Metrics>,
    started: Instant,
    started_unix_ms: u64,
    /// Requests by HTTP that came without an id.
    requests: std::sync::atomic::AtomicU64,
    phase: Mutex<Phase<W>>,
    /// Turns true when the server has stopped: connections end.
    closed: WatchReceiver<bool>,
    /// Turns true when the server begins to stop: connections without a session finish what is under way.
    leaving: WatchReceiver<bool>,
    connections: std::sync::atomic::AtomicUsize,
    /// Those of them that speak HTTP.
    visitors: std::sync::atomic::AtomicUsize,
    /// A permit for each byte of HTTP bodies that may still be taken.
    bodies: Arc<tokio::sync::Semaphore>,
    /// A permit for each feed that may be open.
    feeds: Arc<tokio::sync::Semaphore>,
    /// Idempotency keys that came by this server lately.
    keys: Mutex<keys::Keys>,
    world: std::marker::PhantomData<W>,
}

/// How far a server is.
enum Phase<W: World> {
    /// Opening its data.
    Starting,
    /// Without an incarnation: founding or joining.
    Bootstrapping(bootstrap::Standing),
    /// A member.
    Running(Arc<node::Node<W>>),
}

impl<W: World> Clone for Phase<W> {
    fn clone(&self) -> Self {
        match self {
            Self::Starting => Self::Starting,
            Self::Bootstrapping(standing) => Self::Bootstrapping(standing.clone()),
            Self::Running(node) => Self::Running(node.clone()),
        }
    }
}

/// A task that ends with whoever holds it.
struct Abort<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Abort<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
