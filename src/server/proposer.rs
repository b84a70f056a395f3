//! The leader's one proposer: makes log entries of the batches that wait, and stamps them with the cluster's time.
//!
//! While a few entries are on their way to disk and peers, the batches that arrive wait and form the next one.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use openraft::impls::OneshotResponder;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::follow;
use super::node::Node;
use crate::limits;
use crate::raft::EntryBody;
use crate::wire::Time;
use crate::wire::batch::{self, Batch};
use crate::world::{Instant, WatchReceiver, WatchSender, World, watch};

/// Entries on their way at once.
const IN_FLIGHT: usize = 4;
/// How long the proposer rests after a loss.
const REST: Duration = Duration::from_millis(20);
/// Batches that wait for the proposer; those that do not fit wait in their connections.
const WAITING: usize = 64;

/// The proposer's door.
pub(super) struct Proposer {
    batches: mpsc::Sender<Batch>,
    inbox: Mutex<Option<mpsc::Receiver<Batch>>>,
    lost: WatchSender<u64>,
    losses: WatchReceiver<u64>,
}

/// The cluster's clock on this server: the time of the last entry applied, and this server's own time since then.
/// Clocks that jump change nothing, since nobody looks at them.
#[derive(Debug)]
pub(super) struct Clock(Mutex<(Time, Instant)>);

impl Clock {
    pub fn new<W: World>(time: Time) -> Self {
        Self(Mutex::new((time, W::now())))
    }

    /// An entry of this time was applied.
    pub fn applied<W: World>(&self, time: Time) {
        let mut clock = self.0.lock();
        if time > clock.0 {
            *clock = (time, W::now());
        }
    }

    /// The time of an entry proposed now.
    pub fn now<W: World>(&self) -> Time {
        let (time, at) = *self.0.lock();
        Time(time.0 + W::now().saturating_duration_since(at).as_millis() as u64)
    }
}

impl Proposer {
    pub fn new() -> Self {
        let (batches, inbox) = mpsc::channel(WAITING);
        let (lost, losses) = watch(0);
        Self { batches, inbox: Mutex::new(Some(inbox)), lost, losses }
    }

    /// Takes a batch; waits when too many wait already.
    pub async fn propose(&self, batch: Batch) {
        // The receiver lives as long as the node does.
        let _ = self.batches.send(batch).await;
    }

    /// Changes when entries were lost: whoever forwarded batches forwards them again.
    pub fn lost(&self) -> WatchReceiver<u64> {
        let mut losses = self.losses.clone();
        // What was lost before is no concern of whoever asks only now.
        drop(openraft_rt::watch::WatchReceiver::borrow_and_update(&mut losses));
        losses
    }
}

/// Proposes for ever.
pub(super) async fn propose<W: World>(node: Arc<Node<W>>) {
    let Some(mut inbox) = node.proposer.inbox.lock().take() else { return };
    let mut under_way = FuturesOrdered::new();
    let mut left_over: Option<Batch> = None;
    let mut losses = 0;
    loop {
        // Results first: after a loss nothing that waits is of use.
        let first = tokio::select! {
            biased;
            Some(proposed) = under_way.next(), if !under_way.is_empty() => {
                let proposed: bool = proposed;
                if !proposed {
                    left_over = None;
                    forget(&node, &mut losses, &mut inbox).await;
                }
                continue;
            }
            batch = next(&mut left_over, &mut inbox), if under_way.len() < IN_FLIGHT => match batch {
                Some(batch) => batch,
                None => return,
            },
        };
        let mut bytes = first.frames.len();
        let mut commands = first.header.commands as usize;
        let mut batches = vec![first];
        while let Ok(batch) = inbox.try_recv() {
            bytes += batch.frames.len() + 64;
            commands += batch.header.commands as usize;
            if bytes > limits::ENTRY_BYTES_MAX - 1024 || commands > limits::ENTRY_COMMANDS_MAX {
                left_over = Some(batch);
                break;
            }
            batches.push(batch);
        }
        follow::proposed(&batches);
        let entry = batch::encode_entry(node.clock.now::<W>(), &batches);
        let (responder, result) = OneshotResponder::new_pair();
        if node.raft.client_write_ff(EntryBody(entry), Some(responder)).await.is_err() {
            // Raft has stopped; the node notices and ends.
            return;
        }
        under_way.push_back(async move { matches!(result.await, Ok(Ok(_))) });
    }
}

/// The next batch. Dropped while it waits, it has taken none.
async fn next(left_over: &mut Option<Batch>, inbox: &mut mpsc::Receiver<Batch>) -> Option<Batch> {
    match left_over.take() {
        Some(batch) => Some(batch),
        None => inbox.recv().await,
    }
}

/// An entry was lost, since this server does not lead, or has no lease now. What waits is forgotten, for every home
/// forwards its batches again; and it rests, or a leader that is cut off would spin on its own.
async fn forget<W: World>(node: &Node<W>, losses: &mut u64, inbox: &mut mpsc::Receiver<Batch>) {
    *losses += 1;
    let _ = openraft_rt::watch::WatchSender::send(&node.proposer.lost, *losses);
    while inbox.try_recv().is_ok() {}
    W::sleep(REST).await;
    node.hub.rewind();
}
