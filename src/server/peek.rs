//! Looking into an inbox without a session. A look takes nothing and marks nothing.

use std::io;
use std::time::Duration;

use bytes::Bytes;

use super::desk::{Failure, Visit};
use super::follow;
use super::node::Node;
use crate::limits;
use crate::post_office::{Content, Reading, Waiting, content_key, content_of};
use crate::wire::client::Delivery;
use crate::wire::{Epoch, Name, Position, Refusal, RegistrationId};
use crate::world::World;

/// What somebody wants to see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// Only what is behind this position.
    pub after: Position,
    /// At most so many messages; 0 for as many as may be.
    pub limit: usize,
    /// So long until there is one.
    pub wait: Duration,
    /// As the reader of this registration and epoch, whom it refuses if another one has attached.
    pub reader: Option<(RegistrationId, Epoch)>,
}

/// What there is to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub registration: RegistrationId,
    pub epoch: Epoch,
    pub reading: Reading,
    /// Everything up to here is acknowledged.
    pub acknowledged: Position,
    /// Messages that wait behind the position that was named.
    pub waiting: u64,
    /// Whether others wait before it.
    pub skipped: bool,
    /// With their contents, positions ascending.
    pub messages: Vec<(Delivery, Bytes)>,
}

/// Watches an inbox as long as it lives.
struct Watch<'a, W: World> {
    visit: &'a Visit<W>,
    registration: RegistrationId,
}

impl<W: World> Drop for Watch<'_, W> {
    fn drop(&mut self) {
        self.visit.node.hub.lock().apart.unwatch(self.registration);
    }
}

impl<W: World> Visit<W> {
    /// Looks into an inbox. What it sees was so at some moment after the question.
    pub async fn look(&self, name: &Name, look: Look) -> Result<Seen, Failure> {
        let until = W::now() + look.wait.min(limits::HTTP_WAIT_MAX);
        self.barrier().await?;
        let registration = {
            let office = self.node.office.post_office.lock();
            office.registration(name).ok_or(Failure::Refused(Refusal::NotRegistered))?.registration
        };
        let wake = self.node.hub.lock().apart.watch(registration);
        let _watch = Watch { visit: self, registration };
        loop {
            // Before it looks, so that nothing that comes is missed.
            let changed = wake.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            let (seen, waiting) = self.see(registration, look)?;
            let left = until.saturating_duration_since(W::now());
            let over = left.is_zero() || self.node.hub.lock().closed_for.is_some();
            if waiting.is_empty() && !over {
                let _ = W::timeout(left, changed).await;
                continue;
            }
            follow::handed(registration, &waiting);
            let failure = Failure::Unavailable(Refusal::Stopping);
            let messages = contents(&self.node, waiting).await.ok_or(failure)?;
            // What was there and is acknowledged by now is not there any more.
            if messages.is_empty() && seen.waiting > 0 && !over {
                continue;
            }
            if look.reader.is_some() {
                self.node.metrics.delivered.inc_by(messages.len() as u64);
            }
            return Ok(Seen { messages, ..seen });
        }
    }

    fn see(&self, registration: RegistrationId, look: Look) -> Result<(Seen, Vec<Waiting>), Failure> {
        let office = self.node.office.post_office.lock();
        let ended = Failure::Refused(Refusal::RegistrationEnded);
        let state = office.reader(registration).ok_or(ended.clone())?;
        let mut most = limits::HTTP_INBOX_MESSAGES_MAX;
        if let Some((expected, epoch)) = look.reader {
            if expected != registration {
                return Err(ended);
            }
            if epoch != state.epoch {
                return Err(Failure::Refused(Refusal::EpochMoved { current: state.epoch }));
            }
            if state.reading == Reading::Session {
                return Err(Failure::Refused(Refusal::ReadBySession));
            }
            if state.reading == Reading::Apart {
                // No more than its window, so that the marks of the next reader tell what this one may have seen.
                let before = office.unacknowledged(registration, Position(1), look.after);
                most = most.min(u64::from(state.window).saturating_sub(before) as usize);
            }
        }
        if look.limit > 0 {
            most = most.min(look.limit);
        }
        let from = Position(look.after.0.saturating_add(1));
        let waiting = match most {
            0 => Vec::new(),
            most => office.waiting(registration, from, most, limits::HTTP_INBOX_BYTES_MAX),
        };
        let seen = Seen {
            registration,
            epoch: state.epoch,
            reading: state.reading,
            acknowledged: state.acknowledged,
            waiting: office.unacknowledged(registration, from, state.end),
            skipped: office.unacknowledged(registration, Position(1), look.after) > 0,
            messages: Vec::new(),
        };
        Ok((seen, waiting))
    }
}

/// The contents of messages; those that are gone meanwhile are left out. `None` if they cannot be read, which is this server's
/// end.
pub(super) async fn contents<W: World>(node: &Node<W>, waiting: Vec<Waiting>) -> Option<Vec<(Delivery, Bytes)>> {
    let stored = waiting.iter().any(|message| matches!(message.content, Content::Stored(_)));
    let checkpoint = node.office.checkpoint.clone();
    let read = move || {
        let keys = waiting.iter().filter_map(|message| match &message.content {
            Content::Memory(_) => None,
            Content::Stored(id) => Some(content_key(*id)),
        });
        let mut values = checkpoint.get_all(&keys.collect::<Vec<_>>())?.into_iter();
        let mut found = Vec::with_capacity(waiting.len());
        for Waiting { delivery, content, .. } in waiting {
            let content = match content {
                Content::Memory(bytes) => Some(bytes),
                Content::Stored(_) => match values.next().flatten() {
                    Some(value) => Some(content_of(&value).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?),
                    None => None,
                },
            };
            found.extend(content.map(|content| (delivery, content)));
        }
        io::Result::Ok(found)
    };
    let found = if stored { W::blocking(read).await } else { read() };
    let failed = |error: &io::Error| {
        let damage = error.kind() == io::ErrorKind::InvalidData;
        node.fail(format!("a message cannot be read back: {error}"), damage);
    };
    found.inspect_err(failed).ok()
}
