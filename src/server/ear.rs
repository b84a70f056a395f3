//! What applying an entry brings, on its way to the books of the home server and to what is counted.

use std::marker::PhantomData;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use super::delivery;
use super::hub::Hub;
use super::proposer::Clock;
use crate::metrics::Metrics;
use crate::metrics::tally::Tally;
use crate::post_office::{BatchVerdict, Effect, PostOffice};
use crate::raft::Listener;
use crate::wire::Origin;
use crate::world::World;

/// See the module.
pub(super) struct Ear<W: World> {
    origin: Origin,
    hub: Arc<Hub>,
    clock: Arc<Clock>,
    fetches: UnboundedSender<delivery::Fetch>,
    metrics: Arc<Metrics>,
    tally: Tally,
    world: PhantomData<W>,
}

impl<W: World> Ear<W> {
    /// The ear of the server whose batches have that origin.
    pub fn new(
        origin: Origin,
        hub: Arc<Hub>,
        clock: Arc<Clock>,
        fetches: UnboundedSender<delivery::Fetch>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { origin, hub, clock, fetches, metrics, tally: Tally::new(origin), world: PhantomData }
    }
}

impl<W: World> Listener for Ear<W> {
    fn effect(&self, effect: Effect<'_>) {
        if let Effect::Batch { origin, sequence, verdict: BatchVerdict::Applied } = effect
            && origin == self.origin
        {
            self.metrics.batch_applied(sequence, W::now());
        }
        self.tally.effect(&self.metrics, &effect);
        self.hub.effect(&effect);
    }

    fn applied(&self, office: &PostOffice, index: u64) {
        self.clock.applied::<W>(office.time());
        self.tally.applied(&self.metrics);
        let mut books = self.hub.lock();
        for fetch in delivery::deliver(office, &mut books) {
            // The receiver goes with the node.
            let _ = self.fetches.send(fetch);
        }
        self.metrics.note_handed(&mut books.handed, self.clock.now::<W>());
        books.wake();
        let presence = books.journal.applied(index);
        drop(books);
        if presence {
            self.hub.presence.notify_waiters();
        }
        self.hub.forward.notify_one();
        self.hub.room.notify_waiters();
    }

    fn installed(&self, office: &PostOffice) {
        self.clock.applied::<W>(office.time());
        self.tally.installed();
        let mut books = self.hub.lock();
        let applied = office.last_sequence(books.batches.origin);
        books.installed(applied, office);
        books.journal.installed(office.applied());
        drop(books);
        self.hub.presence.notify_waiters();
        self.hub.forward.notify_one();
        self.hub.room.notify_waiters();
    }
}
