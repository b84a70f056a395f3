//! What one recipient got: every message once, in the order in which its sender made them, or what was wrong instead.

use std::collections::BTreeSet;

use super::content::Id;

/// The messages of one recipient. Between a sender and a recipient messages are counted from 0, and a send stream keeps
/// their order, so that a number and a set that is empty when all is well say everything.
#[derive(Debug, Default)]
pub struct Ledger {
    rows: Vec<Row>,
    /// Messages that came, each counted once.
    pub delivered: u64,
    /// Copies beyond the first.
    pub doubled: u64,
    /// Messages that came behind a later one of the same sender.
    pub disordered: u64,
    /// Bodies that nobody here made.
    pub altered: u64,
}

#[derive(Debug, Default, Clone)]
struct Row {
    /// All below has come, apart from `missing`.
    next: u64,
    missing: BTreeSet<u64>,
}

impl Ledger {
    /// Expects messages of so many senders.
    pub fn new(senders: usize) -> Self {
        Self { rows: vec![Row::default(); senders], ..Self::default() }
    }

    /// A message came. Says whether it is the first copy.
    pub fn enter(&mut self, id: Id) -> bool {
        let Some(row) = self.rows.get_mut(usize::from(id.sender)) else {
            self.altered += 1;
            return false;
        };
        if id.sequence >= row.next {
            row.missing.extend(row.next..id.sequence);
            row.next = id.sequence + 1;
        } else if row.missing.remove(&id.sequence) {
            self.disordered += 1;
        } else {
            self.doubled += 1;
            return false;
        }
        self.delivered += 1;
        true
    }

    /// How many of `sender`'s first `sent` messages have not come, those in `unreceipted` not counted: nobody promised
    /// them.
    pub fn lost(&self, sender: usize, sent: u64, unreceipted: &BTreeSet<u64>) -> u64 {
        let Some(row) = self.rows.get(sender) else { return 0 };
        let missing = row.missing.iter().filter(|sequence| **sequence < sent);
        let behind = row.next..sent;
        let excused = unreceipted.iter().filter(|sequence| behind.contains(sequence)).count() as u64;
        let gaps = missing.filter(|sequence| !unreceipted.contains(sequence)).count() as u64;
        gaps + behind.end.saturating_sub(behind.start) - excused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(ledger: &mut Ledger, sender: u16, sequences: &[u64]) {
        for sequence in sequences {
            ledger.enter(Id { sender, sequence: *sequence });
        }
    }

    #[test]
    fn what_came_once_and_in_order_is_well() {
        let mut ledger = Ledger::new(2);
        enter(&mut ledger, 0, &[0, 1, 2]);
        enter(&mut ledger, 1, &[0]);
        assert_eq!((ledger.delivered, ledger.doubled, ledger.disordered, ledger.altered), (4, 0, 0, 0));
        assert_eq!(ledger.lost(0, 3, &BTreeSet::new()), 0);
    }

    #[test]
    fn losses_are_counted_at_the_end_and_in_between() {
        let mut ledger = Ledger::new(1);
        enter(&mut ledger, 0, &[0, 3]);
        assert_eq!(ledger.lost(0, 6, &BTreeSet::new()), 4, "1, 2, 4 and 5");
        assert_eq!(ledger.lost(0, 6, &BTreeSet::from([1, 5, 9])), 2, "2 and 4");
        enter(&mut ledger, 0, &[1]);
        assert_eq!((ledger.lost(0, 4, &BTreeSet::new()), ledger.disordered), (1, 1));
        assert_eq!(Ledger::new(1).lost(0, 7, &BTreeSet::new()), 7);
    }

    #[test]
    fn doubles_are_counted_wherever_they_come() {
        let mut ledger = Ledger::new(1);
        enter(&mut ledger, 0, &[0, 1, 1, 0, 4, 2, 2]);
        assert_eq!((ledger.delivered, ledger.doubled, ledger.disordered), (4, 3, 1));
        enter(&mut ledger, 9, &[0]);
        assert_eq!(ledger.altered, 1, "there is no such sender");
    }
}
