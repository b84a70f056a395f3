//! Reading everything that this server keeps, again and again, to find what has rotted before it is needed.
//!
//! A pass takes half the set period, in small slices with pauses between them, and the next one begins where it ended:
//! so whatever changes on the disk is found within the period. What is found is told at once. The data is set aside, and
//! the server joins anew with an empty disk, when the others can take it back: a majority of the servers has to answer
//! besides this one, or one bad sector could end the service of those that are left. Until then it goes on with what it
//! has: what it wrote itself it knows, and what it reads is verified each time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft_rt::watch::WatchReceiver as _;

use super::bootstrap;
use super::node::Node;
use crate::storage::{BLOCK_BYTES, DataDirectory, LogPlace, OpenError};
use crate::wire::ServerAddress;
use crate::wire::peer::{Bootstrap, BootstrapReply};
use crate::world::{Event, World};

/// Bytes of one slice.
const SLICE_BYTES: u64 = 256 << 10;
/// The least pause between two slices.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// What cannot be read is tried again so often.
const TRIES: u32 = 3;
/// How long to wait before reading again what could not be read, or asking the others again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long one of them may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// Scrubs until it finds something.
pub(super) async fn scrub<W: World>(node: Arc<Node<W>>) {
    let pass = (node.settings.scrub_period / 2).max(PAUSE_MIN);
    // Servers that are started together are not to find at one moment what is wrong with their disks.
    let part = f64::from(rand::Rng::next_u32(&mut W::rng())) / f64::from(u32::MAX);
    W::sleep(pass.mul_f64(part)).await;
    loop {
        let end = W::now() + pass;
        match one_pass(&node, pass).await {
            Ok(bytes) => {
                tracing::debug!(bytes, "everything on the disk is as it was written");
                W::observe(|| Event { kind: "scrub", who: None, detail: format!("bytes={bytes}") });
            }
            Err(error) => return leave(&node, &error.to_string()).await,
        }
        W::sleep_until(end).await;
    }
}

/// How far a pass has come.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// The small files that say whose the directory is.
    Files,
    /// The log, from there.
    Log(LogPlace),
    /// The checkpoint, from this block.
    Checkpoint(u64),
}

/// Reads everything once. Gives how many bytes that were.
async fn one_pass<W: World>(node: &Arc<Node<W>>, pass: Duration) -> io::Result<u64> {
    let checkpoint = node.office.checkpoint.clone();
    let total = node.log.bytes_on_disk() + W::blocking(move || checkpoint.bytes_on_disk()).await?;
    let pause = pass.div_f64((total / SLICE_BYTES + 2) as f64).max(PAUSE_MIN);
    let mut place = Some(Place::Files);
    let (mut bytes, mut tries) = (0, 1);
    while let Some(from) = place {
        match read_on(node, from).await {
            Ok((next, read)) => {
                (place, bytes, tries) = (next, bytes + read, 1);
                W::sleep(pause).await;
            }
            // What cannot be read is in the end as good as damaged.
            Err(error) if error.kind() != io::ErrorKind::InvalidData && tries < TRIES => {
                tracing::warn!(%error, "the disk cannot be read; trying again");
                tries += 1;
                W::sleep(AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Reads one slice.
async fn read_on<W: World>(node: &Arc<Node<W>>, from: Place) -> io::Result<(Option<Place>, u64)> {
    match from {
        Place::Files => {
            let disk = node.disk.clone();
            match W::blocking(move || DataDirectory::check(&*disk)).await {
                Ok(()) => Ok((Some(Place::Log(LogPlace::default())), 0)),
                Err(OpenError::Io(error)) => Err(error),
                Err(damage) => Err(io::Error::new(io::ErrorKind::InvalidData, damage)),
            }
        }
        Place::Log(from) => {
            let (next, read) = node.log.scrub(from, SLICE_BYTES).await?;
            Ok((Some(next.map_or(Place::Checkpoint(0), Place::Log)), read))
        }
        Place::Checkpoint(from) => {
            let checkpoint = node.office.checkpoint.clone();
            let (next, end) = W::blocking(move || {
                let next = checkpoint.scrub(from, SLICE_BYTES)?;
                Ok::<_, io::Error>((next, checkpoint.bytes_on_disk()? / BLOCK_BYTES))
            })
            .await?;
            let read = next.unwrap_or(end).saturating_sub(from) * BLOCK_BYTES;
            Ok((next.map(Place::Checkpoint), read))
        }
    }
}

/// Tells of the damage, and ends the node when the others can do without it.
async fn leave<W: World>(node: &Arc<Node<W>>, reason: &str) {
    tracing::error!(reason, "the scrub found damage");
    W::observe(|| Event { kind: "damage", who: None, detail: reason.to_owned() });
    node.health.set_damage(reason);
    while !others_go_on(node).await {
        W::sleep(AGAIN).await;
    }
    node.fail(reason.to_owned(), true);
}

/// Whether a majority of the voters answers that is not this server.
async fn others_go_on<W: World>(node: &Arc<Node<W>>) -> bool {
    let (voters, others) = {
        let metrics = node.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let others = membership.voter_ids().filter(|id| *id != node.me.incarnation);
        let others = others.filter_map(|id| membership.get_node(&id));
        let others: Vec<ServerAddress> =
            others.map(|m| ServerAddress { name: m.name.clone(), address: m.address.clone() }).collect();
        (membership.voter_ids().count(), others)
    };
    let asked = others.into_iter().map(|other| is_member(node.clone(), other));
    let answers = futures::future::join_all(asked).await.into_iter().filter(|member| *member).count();
    answers > voters / 2
}

/// Whether another server answers and belongs to this cluster.
async fn is_member<W: World>(node: Arc<Node<W>>, other: ServerAddress) -> bool {
    let probe = Bootstrap::Probe { disk: 0, servers: Vec::new() };
    let answer = bootstrap::ask::<W>(&node.host, &node.me.name, &other, &probe, PATIENCE).await;
    matches!(answer, Ok(BootstrapReply::Member { cluster, .. }) if cluster == node.me.cluster)
}
