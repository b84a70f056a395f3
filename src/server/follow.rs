//! Following one message through the logs of all servers, with `--log restante=debug`.
//!
//! A send is named by its stream and its number, as `STREAM.NUMBER`, which is what every server knows of it: the home that took
//! it (beside the request's id, if it came by HTTP), the leader that proposed it, and the home that handed it to its reader.

use std::fmt;

use crate::post_office::{Waiting, check_command};
use crate::wire::batch::Batch;
use crate::wire::command::Command;
use crate::wire::{Number, RegistrationId, StreamId, frame};

/// A send's name in the logs.
pub(super) struct SendId(pub StreamId, pub Number);

impl fmt::Display for SendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Whether anybody reads it: decoding each send once more is not for nothing.
fn is_on() -> bool {
    tracing::enabled!(tracing::Level::DEBUG)
}

/// A session's send was taken.
pub(super) fn taken(command: &Command<'_>) {
    if let Command::Send { stream, number, .. } | Command::Post { stream, number, .. } = command
        && is_on()
    {
        tracing::debug!(send = %SendId(*stream, *number), "taken from a client");
    }
}

/// The leader proposes these batches as one entry.
pub(super) fn proposed(batches: &[Batch]) {
    if !is_on() {
        return;
    }
    for batch in batches {
        let mut frames = batch.frames.clone();
        while let Ok(Some(split)) = frame::split_bytes(&mut frames) {
            if let Ok((Command::Send { stream, number, .. } | Command::Post { stream, number, .. }, _)) =
                check_command(split.kind, &split.payload)
            {
                let origin = batch.header.origin.incarnation;
                tracing::debug!(send = %SendId(stream, number), origin, "proposed");
            }
        }
    }
}

/// Messages are handed to their reader.
pub(super) fn handed(registration: RegistrationId, waiting: &[Waiting]) {
    if !is_on() {
        return;
    }
    for Waiting { delivery, .. } in waiting {
        let (send, position) = (SendId(delivery.stream, delivery.number), delivery.position);
        tracing::debug!(%send, %registration, %position, from = %delivery.from, "handed to its reader");
    }
}
