//! Deliveries: from the applied state of this server's own post office to the readers attached here.
//!
//! A reader has at most its window of unacknowledged messages out, counting acknowledgements as they are applied, so
//! that a later reader's redelivery marks can tell what an earlier one may have seen. Contents that have left memory
//! are read from the checkpoint beside the traffic.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::follow;
use super::hub::Books;
use super::node::Node;
use super::outbox::OUTBOX_HIGH;
use crate::post_office::{Content, PostOffice, Waiting, content_key, content_of};
use crate::wire::client::Reply;
use crate::wire::{Epoch, Position, RegistrationId};
use crate::world::World;

/// Messages in one frame of deliveries.
const MESSAGES_PER_FRAME: usize = 512;
/// Bytes of contents in one frame of deliveries; a larger message travels alone.
const BYTES_PER_FRAME: usize = 256 << 10;

/// Contents to be read from disk for a reader.
pub(super) struct Fetch {
    registration: RegistrationId,
    epoch: Epoch,
    waiting: Vec<Waiting>,
}

/// Puts what the readers in `ready` may have into their sessions' outboxes. What has to be read from disk first is
/// returned.
pub(super) fn deliver(office: &PostOffice, books: &mut Books) -> Vec<Fetch> {
    let mut fetches = Vec::new();
    let mut ready = std::mem::take(&mut books.ready);
    ready.sort_unstable();
    ready.dedup();
    for registration in ready.drain(..) {
        while let Some(fetch) = deliver_frame(office, books, registration) {
            if let Some(fetch) = fetch {
                fetches.push(fetch);
                break;
            }
        }
    }
    // Nothing that happened above makes a reader ready; the allocation is kept.
    if books.ready.is_empty() {
        books.ready = ready;
    }
    fetches
}

/// One frame for one reader; `None` when there is nothing more for it now.
fn deliver_frame(office: &PostOffice, books: &mut Books, registration: RegistrationId) -> Option<Option<Fetch>> {
    let reader = books.readers.get(&registration)?;
    let (id, epoch, next) = (reader.session, reader.epoch, reader.next);
    if reader.fetching {
        return None;
    }
    let state = office.reader(registration).filter(|state| state.epoch == epoch)?;
    let next = next.max(Position(state.acknowledged.0 + 1));
    let out = office.unacknowledged(registration, Position(1), Position(next.0 - 1));
    let room = u64::from(state.window).saturating_sub(out) as usize;
    if let Some(reader) = books.readers.get_mut(&registration) {
        reader.full = room == 0;
    }
    let session = books.session(id)?;
    if room == 0 || session.ending {
        return None;
    }
    if session.out.len() > OUTBOX_HIGH {
        session.starve(registration);
        books.handed.starve();
        return None;
    }
    let waiting = office.waiting(registration, next, room.min(MESSAGES_PER_FRAME), BYTES_PER_FRAME);
    let last = waiting.last()?.delivery.position;
    if let Some(reader) = books.readers.get_mut(&registration) {
        reader.next = Position(last.0 + 1);
        waiting.iter().filter(|w| w.asked).for_each(|w| reader.ask(w.delivery.position));
        if waiting.iter().any(|w| matches!(w.content, Content::Stored(_))) {
            reader.fetching = true;
            return Some(Some(Fetch { registration, epoch, waiting }));
        }
    }
    let contents = waiting.iter().filter_map(|w| match &w.content {
        Content::Memory(bytes) => Some(bytes),
        Content::Stored(_) => None,
    });
    let mut body = BytesMut::with_capacity(waiting.iter().map(|w| w.delivery.content_bytes as usize).sum());
    contents.for_each(|bytes| body.extend_from_slice(bytes));
    put(books, registration, epoch, waiting, &body);
    Some(None)
}

fn put(books: &mut Books, registration: RegistrationId, epoch: Epoch, waiting: Vec<Waiting>, body: &[u8]) {
    let Some(id) = books.readers.get(&registration).map(|r| r.session) else { return };
    books.handed.note(waiting.len(), waiting.last().map(|w| w.since));
    follow::handed(registration, &waiting);
    let deliveries = waiting.into_iter().map(|w| w.delivery).collect();
    if let Some(session) = books.session(id) {
        session.put(&Reply::Deliver { registration, epoch, deliveries }, body);
    }
    books.touch(id);
}

/// Reads contents from the checkpoint and delivers them.
pub(super) async fn fetch<W: World>(node: Arc<Node<W>>, fetch: Fetch) {
    let Fetch { registration, epoch, waiting } = fetch;
    let checkpoint = node.office.checkpoint.clone();
    let read = W::blocking(move || {
        let stored = waiting.iter().filter_map(|message| match &message.content {
            Content::Memory(_) => None,
            Content::Stored(id) => Some(content_key(*id)),
        });
        let mut stored = checkpoint.get_all(&stored.collect::<Vec<_>>())?.into_iter();
        let mut body = BytesMut::new();
        for message in &waiting {
            let content: Bytes = match &message.content {
                Content::Memory(bytes) => bytes.clone(),
                Content::Stored(_) => match stored.next().flatten() {
                    Some(value) => content_of(&value).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?,
                    // Acknowledged since, and a checkpoint was written without it: the reader skips its place.
                    None => return Ok(None),
                },
            };
            body.extend_from_slice(&content);
        }
        io::Result::Ok(Some((waiting, body)))
    })
    .await;
    let office = node.office.post_office.lock();
    let mut books = node.hub.lock();
    let Some(reader) = books.readers.get_mut(&registration).filter(|r| r.epoch == epoch) else { return };
    reader.fetching = false;
    W::reached("bodies read back from the checkpoint");
    match read {
        Ok(Some((waiting, body))) => put(&mut books, registration, epoch, waiting, &body),
        Ok(None) => {
            // Look again from the acknowledged position: what is gone is not in the inbox any more.
            reader.next = Position(office.reader(registration).map_or(0, |r| r.acknowledged.0) + 1);
        }
        Err(error) => {
            drop(books);
            drop(office);
            node.fail(
                format!("a waiting message cannot be read back: {error}"),
                error.kind() == io::ErrorKind::InvalidData,
            );
            return;
        }
    }
    books.ready.push(registration);
    let fetches = deliver(&office, &mut books);
    node.note_handed(&mut books);
    books.wake();
    drop(books);
    drop(office);
    node.fetch(fetches);
}
