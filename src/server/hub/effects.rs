//! What applying brought, on its way to the sessions that wait for it.

use super::reader::Reader;
use super::{Books, Route};
use crate::post_office::Effect;
use crate::wire::client::Reply;

impl Books {
    /// One effect of an entry.
    pub(super) fn effect(&mut self, effect: &Effect<'_>) {
        match effect {
            Effect::Batch { origin, sequence, verdict } => {
                if *origin == self.batches.origin {
                    self.batch_applied(*sequence, verdict);
                }
            }
            Effect::Sent { origin, stream, number, result, .. } => {
                let ours = *origin == self.batches.origin;
                if ours {
                    self.sent_apart(*stream, *number, result);
                }
                // An outcome is every copy's. A failure is of one copy: one that came through another server, perhaps
                // long ago, is that one's to tell. Ours follows.
                if (ours || result.is_ok())
                    && let Some(Route { session: id, .. }) = self.streams.get(stream).copied()
                {
                    self.sent(id, *stream, *number, result);
                }
            }
            Effect::Answered { origin, nonce, answer } => {
                // A copy that came through another server is that one's to answer: an attachment is here only once the
                // copy that names this home was applied. Ours follows.
                if *origin == self.batches.origin {
                    self.answered(*nonce, answer);
                }
            }
            Effect::Arrived { registration, .. } => {
                if self.readers.contains_key(registration) {
                    self.ready.push(*registration);
                }
                self.apart.wake(*registration);
            }
            Effect::Acknowledged { registration, epoch, up_to } => {
                if let Some(reader) = self.readers.get(registration)
                    && reader.epoch == *epoch
                {
                    let id = reader.session;
                    self.ready.push(*registration);
                    let (registration, epoch, up_to) = (*registration, *epoch, *up_to);
                    self.reply(id, &Reply::Acknowledged { registration, epoch, up_to });
                }
            }
            Effect::Fenced { registration, epoch, by } => {
                self.apart.wake(*registration);
                if let Some(reader) = self.readers.get(registration)
                    && reader.epoch == *epoch
                {
                    let id = reader.session;
                    self.readers.remove(registration);
                    self.reply(id, &Reply::Fenced { registration: *registration, epoch: *epoch, by: *by });
                }
            }
            Effect::Left { registration, epoch, home } => {
                if *home == self.home {
                    self.left(*registration, *epoch);
                }
            }
            Effect::Withdrawn { registration, position, .. } => {
                // What was delivered of it leaves the reader's window, which makes room for another one.
                if let Some(Reader { session: id, epoch, next, .. }) = self.readers.get(registration) {
                    let (id, epoch, was_delivered) = (*id, *epoch, position < next);
                    self.ready.push(*registration);
                    if was_delivered {
                        let (registration, position) = (*registration, *position);
                        self.reply(id, &Reply::Withdrawn { registration, epoch, position });
                    }
                }
                self.apart.wake(*registration);
            }
            Effect::Delivered { stream, sequence, number, fate } => {
                // Whoever sends on it is told; others who ask for it are told then.
                self.apart.receipts.notify_waiters();
                if let Some(Route { session: id, .. }) = self.streams.get(stream).copied() {
                    let (stream, sequence, number, fate) = (*stream, *sequence, *number, *fate);
                    self.reply(id, &Reply::Delivered { stream, sequence, number, fate });
                }
            }
            Effect::Presence(event) => self.journal.note(event),
            Effect::Skipped { origin, reason } => {
                // Sessions check commands before they are forwarded: this is a fault of ours.
                tracing::error!(?origin, reason, "a malformed command was skipped");
            }
            Effect::StreamClosed { stream } => {
                // Sends that are on their way have yet to be told.
                if self.streams.contains_key(stream) {
                    self.closed.insert(*stream);
                }
                self.apart.streams.closed(*stream);
            }
        }
    }
}
