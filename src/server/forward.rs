//! From a home server to the leader: batches in order, again whenever what was under way may be lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::node::Node;
use crate::raft::link::{Link, LinkError};
use crate::wire::Incarnation;
use crate::wire::batch::Batch;
use crate::wire::frame;
use crate::wire::peer::{self, Purpose};
use crate::world::{Instant, World, watch};

/// A batch that is not applied so long after it was forwarded is forwarded again. Batches are applied once, so this
/// costs a little traffic at worst.
const AGAIN: Duration = Duration::from_secs(1);
/// How long to wait after the leader could not be reached.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a connection to the leader may take.
const CONNECT: Duration = Duration::from_millis(500);

/// Forwards for ever.
pub(super) async fn forward<W: World>(node: Arc<Node<W>>) {
    let mut leader = node.leader();
    let mut link: Option<(Incarnation, Link)> = None;
    let (_never, mut idle) = watch(());
    // The oldest batch that was forwarded, and since when it is the oldest. Kept over the turns of the loop, which
    // other traffic may wake at any time.
    let mut oldest: Option<(u64, Instant)> = None;
    loop {
        oldest = match (node.hub.oldest_forwarded(), oldest) {
            (Some(sequence), Some((known, since))) if sequence == known => Some((known, since)),
            (Some(sequence), _) => Some((sequence, W::now())),
            (None, _) => None,
        };
        if let Some((sequence, since)) = oldest
            && W::now() >= since + AGAIN
        {
            W::reached("batches forwarded again for lack of news");
            tracing::debug!(sequence, "a batch was not applied in time: forwarding again");
            oldest = None;
            link = None;
            node.hub.rewind();
        }
        if leader.refresh() {
            link = None;
            if node.hub.oldest_forwarded().is_some() {
                W::reached("batches forwarded again to a new leader");
            }
            node.hub.rewind();
        }
        let current = leader.current();
        if current.is_none() || link.as_ref().is_some_and(|(to, _)| Some(*to) != current) {
            link = None;
        }
        let step = match current {
            None => Step::Wait,
            Some(to) if to == node.me.incarnation => local(&node).await,
            Some(to) => remote(&node, to, &mut link).await,
        };
        match step {
            Step::Again => continue,
            Step::Pause => {
                node.hub.rewind();
                W::sleep(PAUSE).await;
                continue;
            }
            Step::Wait => {}
        }
        let answer = async {
            match &mut link {
                Some((_, link)) => drop(link.reader.next().await),
                None => drop(openraft_rt::watch::WatchReceiver::changed(&mut idle).await),
            }
        };
        // What could have gone by now waits for something else: for a leader, or until fewer are on their way.
        let held = node.hub.held_until().filter(|until| *until > W::now());
        tokio::select! {
            biased;
            changed = leader.changed() => {
                if !changed {
                    return;
                }
                // What was under way may have died with the old leader.
                link = None;
                node.hub.rewind();
            }
            () = node.hub.forward.notified() => {}
            // The leader says something only when it takes no more.
            () = answer => {
                link = None;
                node.hub.rewind();
                W::sleep(PAUSE).await;
            }
            () = W::sleep_until(oldest.map_or_else(W::now, |(_, since)| since + AGAIN)), if oldest.is_some() => {}
            // What lay there in the hope of company goes alone.
            () = W::sleep_until(held.unwrap_or_else(W::now)), if held.is_some() => {}
        }
    }
}

enum Step {
    /// There may be more.
    Again,
    /// It failed: try everything again in a moment.
    Pause,
    /// Nothing to do now.
    Wait,
}

async fn local<W: World>(node: &Arc<Node<W>>) -> Step {
    match node.hub.next_batch(W::now()) {
        // It stays in the books until there is room again, or another server leads.
        Some(batch) if !node.log.takes(batch.frames.len() as u64) => Step::Pause,
        Some(batch) => {
            node.metrics.batch_begun(batch.header.sequence, W::now());
            node.proposer.propose(batch).await;
            Step::Again
        }
        None => Step::Wait,
    }
}

async fn remote<W: World>(node: &Arc<Node<W>>, to: Incarnation, link: &mut Option<(Incarnation, Link)>) -> Step {
    if link.is_none() {
        match open(node, to).await {
            Ok(opened) => {
                // A new connection starts with what was not applied: the old one's fate is not known.
                node.hub.rewind();
                *link = Some((to, opened));
            }
            Err(error) => {
                tracing::debug!(%error, "cannot reach the leader");
                return Step::Pause;
            }
        }
    }
    let Some(batch) = node.hub.next_batch(W::now()) else { return Step::Wait };
    node.metrics.batch_begun(batch.header.sequence, W::now());
    let Some((_, open)) = link else { return Step::Again };
    match W::timeout(AGAIN, send(open, &batch)).await {
        Ok(Ok(())) => Step::Again,
        Ok(Err(_)) | Err(_) => {
            *link = None;
            Step::Pause
        }
    }
}

async fn open<W: World>(node: &Arc<Node<W>>, to: Incarnation) -> Result<Link, LinkError> {
    let Some(member) = node.member(to) else {
        return Err(LinkError::Protocol(format!("the leader's incarnation {to} is not in the membership")));
    };
    let hello = node.me.hello(to, Purpose::Forward);
    let opening = Link::open(&*node.host.network, &member.name, &member.address, &hello);
    match W::timeout(CONNECT, opening).await {
        Ok(opened) => opened,
        Err(_) => Err(LinkError::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

async fn send(link: &mut Link, batch: &Batch) -> std::io::Result<()> {
    let mut buffer = BytesMut::with_capacity(batch.frames.len() + 64);
    frame::put(&mut buffer, peer::FORWARD, &batch.header, &batch.frames);
    link.writer.send(&mut buffer).await
}
