//! A few of the messages that pass, for those who watch a cluster. While nobody does, nothing is kept.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::wire::{Name, StreamId};

/// How many are kept: more a second is more than anybody sees.
const KEPT: usize = 64;

/// Who sent a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// Whoever sends on that stream.
    Stream(StreamId),
    /// That client.
    Client(Name),
}

/// A message that was sent through this server. Whether it was accepted is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Who sent it.
    pub from: Sender,
    /// To whom.
    pub to: String,
    /// Bytes, about.
    pub bytes: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Flow {
    watchers: AtomicUsize,
    kept: Mutex<(u64, VecDeque<Passed>)>,
}

/// Somebody who watches, as long as it lives.
#[derive(Debug)]
pub struct Watching {
    metrics: std::sync::Arc<super::Metrics>,
    seen: u64,
}

impl Flow {
    /// Whether anybody watches.
    pub fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::Relaxed) > 0
    }

    /// A message passes.
    pub fn note(&self, from: Sender, to: &str, bytes: usize) {
        let mut kept = self.kept.lock();
        kept.0 += 1;
        kept.1.push_back(Passed { from, to: to.to_owned(), bytes });
        if kept.1.len() > KEPT {
            kept.1.pop_front();
        }
    }
}

impl Watching {
    /// Begins to watch what a server with these metrics passes on.
    pub fn new(metrics: std::sync::Arc<super::Metrics>) -> Self {
        metrics.flow.watchers.fetch_add(1, Ordering::Relaxed);
        let seen = metrics.flow.kept.lock().0;
        Self { metrics, seen }
    }

    /// What passed since the last look, of what is kept.
    pub fn look(&mut self) -> Vec<Passed> {
        let kept = self.metrics.flow.kept.lock();
        let new = usize::try_from(kept.0 - self.seen).unwrap_or(usize::MAX).min(kept.1.len());
        self.seen = kept.0;
        kept.1.iter().skip(kept.1.len() - new).cloned().collect()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.metrics.flow.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Metrics;
    use super::*;
    use crate::wire::Id;

    #[test]
    fn each_watcher_sees_what_passed_since_it_looked() {
        let metrics = Arc::new(Metrics::default());
        assert!(!metrics.flow.is_watched());
        let note = |n: usize| metrics.flow.note(Sender::Stream(Id(1)), "bob", n);
        note(1);
        let mut watching = Watching::new(metrics.clone());
        assert!(metrics.flow.is_watched());
        assert_eq!(watching.look(), []);
        note(2);
        note(3);
        assert_eq!(watching.look().iter().map(|passed| passed.bytes).collect::<Vec<_>>(), [2, 3]);
        (0..KEPT + 9).for_each(note);
        assert_eq!(watching.look().len(), KEPT);
        drop(watching);
        assert!(!metrics.flow.is_watched());
    }
}
