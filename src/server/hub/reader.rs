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
    /// The sender of what is delivered at that position is to be told when it is acknowledged. Positions ascend.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_waited_for_by_a_full_reader_and_by_whoever_asked() {
        let mut reader =
            Reader { session: 1, epoch: Epoch(1), next: Position(1), fetching: false, full: false, asked: None };
        assert!(!reader.is_waited_for(Position(9), true), "nobody asked");
        reader.ask(Position(11));
        reader.ask(Position(14));
        assert!(!reader.is_waited_for(Position(10), false), "what was asked for comes later");
        assert!(reader.is_waited_for(Position(10), true), "a range may have it");
        assert!(reader.is_waited_for(Position(12), false));
        assert!(reader.is_waited_for(Position(14), false), "the last one that was asked for");
        assert!(!reader.is_waited_for(Position(15), false), "everybody was told");
        reader.full = true;
        assert!(reader.is_waited_for(Position(16), false));
    }
}
