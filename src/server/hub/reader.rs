//! A reader, as its home server's books have it.

use super::SessionId;
use crate::wire::{Epoch, Position};

/// A reader attached through one of this server's sessions.
#[derive(Debug)]
pub(in super::super) struct Reader {
    pub session: SessionId,
    pub epoch: Epoch,
    /// The next position to deliver.
    pub next: Position,
    /// Contents are being read from disk for it.
    pub fetching: bool,
    /// Its window is full: it gets nothing more until it acknowledges.
    pub full: bool,
    /// The first and the last position of what was delivered to it and whose sender is to be told when it is acknowledged.
    pub asked: Option<(Position, Position)>,
}

impl Reader {
    /// Its sender is to be told when what is at that position is acknowledged.
    pub fn ask(&mut self, position: Position) {
        let first = self.asked.map_or(position, |(first, _)| first);
        self.asked = Some((first, position));
    }

    /// Whether somebody waits for an acknowledgement: the reader, or a sender. What is not cumulative may be what was
    /// asked for.
    pub fn is_waited_for(&mut self, up_to: Position, ranges: bool) -> bool {
        let Some((first, last)) = self.asked else { return self.full };
        let asked = first <= up_to || ranges;
        if first <= up_to {
            self.asked = (up_to < last).then_some((Position(up_to.0 + 1), last));
        }
        self.full || asked
    }
}
