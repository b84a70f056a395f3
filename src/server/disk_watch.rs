//! What a server knows of its disk; and noticing that it hangs: something waits to be written, and nothing gets done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::world::Instant;

/// What is known of the disk, by whoever noticed it.
#[derive(Debug, Default)]
pub(super) struct DiskHealth {
    hangs: AtomicBool,
    refused: Mutex<Option<Instant>>,
    damage: Mutex<Option<String>>,
}

impl DiskHealth {
    /// Whether the disk hangs.
    pub fn hangs(&self) -> bool {
        self.hangs.load(Ordering::Relaxed)
    }

    /// Says whether it hangs.
    pub fn set_hangs(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::Relaxed);
    }

    /// When a leader's entries last found no room, if none did since.
    pub fn refused(&self) -> Option<Instant> {
        *self.refused.lock()
    }

    /// A leader's entries found no room at this moment; or they did.
    pub fn set_refused(&self, at: Option<Instant>) {
        *self.refused.lock() = at;
    }

    /// Damage that was found, and that is to be set aside.
    pub fn damage(&self) -> Option<String> {
        self.damage.lock().clone()
    }

    /// Says that damage was found.
    pub fn set_damage(&self, reason: &str) {
        *self.damage.lock() = Some(reason.to_owned());
    }
}

/// How long the log has been waiting for its disk. Looked at every so often.
#[derive(Debug, Default)]
pub(super) struct DiskWatch {
    /// The batches that had been written at the last look, and when that was.
    seen: Option<(u64, Instant)>,
    waited: Duration,
}

impl DiskWatch {
    /// Looks at the log's progress ([`crate::storage::Log::progress`]): how long its disk has done nothing, although
    /// something waits. `round` is the usual time between two looks. More than twice that is not counted at once: a
    /// process that itself stood still would otherwise blame its disk.
    pub fn look(&mut self, (batches, waiting): (u64, bool), now: Instant, round: Duration) -> Duration {
        let before = self.seen.replace((batches, now));
        self.waited = match before {
            Some((seen, at)) if waiting && seen == batches => {
                self.waited + now.saturating_duration_since(at).min(round * 2)
            }
            _ => Duration::ZERO,
        };
        self.waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{RealWorld, World as _};

    #[test]
    fn a_disk_hangs_that_does_nothing_although_something_waits() {
        const ROUND: Duration = Duration::from_millis(10);
        let start = RealWorld::now();
        let at = |rounds: u32| start + ROUND * rounds;
        let mut watch = DiskWatch::default();
        assert_eq!(watch.look((5, true), at(0), ROUND), Duration::ZERO);
        assert_eq!(watch.look((5, true), at(1), ROUND), ROUND);
        assert_eq!(watch.look((5, true), at(2), ROUND), ROUND * 2);
        assert_eq!(watch.look((6, true), at(3), ROUND), Duration::ZERO, "it does something");
        assert_eq!(watch.look((6, true), at(4), ROUND), ROUND);
        assert_eq!(watch.look((6, false), at(5), ROUND), Duration::ZERO, "it has nothing to do");
        assert_eq!(watch.look((6, true), at(6), ROUND), ROUND, "half a round too much at most");
        assert_eq!(watch.look((6, true), at(600), ROUND), ROUND * 3, "the process stood still, and not the disk");
    }
}
