//! What applying an entry brought, counted by the task that applies and told once an entry.
//!
//! A cluster's every server applies every entry. What comes in through a server, and what its readers acknowledge, is that
//! server's to count, so that the sum over the servers is the cluster's.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::Metrics;
use super::limits::Limit;
use crate::post_office::{Answer, Effect};
use crate::wire::client::SendFailure;
use crate::wire::{Origin, Position, Refusal, RegistrationId, SendOutcome, SendRefusal};

/// See the module. Only the task that applies entries calls it, so that its counters need no exchange between cores.
#[derive(Debug)]
pub struct Tally {
    /// Whose batches are this server's.
    origin: Origin,
    accepted: AtomicU64,
    repeated: AtomicU64,
    refused: AtomicU64,
    acknowledged: AtomicU64,
    /// Readers that attached here, and how far each had acknowledged.
    readers: Mutex<FxHashMap<RegistrationId, Position>>,
}

impl Tally {
    /// Of the server whose batches have that origin.
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            accepted: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            readers: Mutex::default(),
        }
    }

    /// One effect of an entry, in their order.
    pub fn effect(&self, metrics: &Metrics, effect: &Effect<'_>) {
        match effect {
            Effect::Sent { origin, repeated: true, .. } if *origin == self.origin => add(&self.repeated, 1),
            Effect::Sent { origin, result, .. } if *origin == self.origin => self.sent(metrics, result),
            Effect::Answered { origin, answer, .. } if *origin == self.origin => self.answered(metrics, answer),
            Effect::Acknowledged { registration, up_to, .. } => {
                if let Some(known) = self.readers.lock().get_mut(registration) {
                    add(&self.acknowledged, up_to.0.saturating_sub(known.0));
                    *known = (*known).max(*up_to);
                }
            }
            Effect::Fenced { registration, .. } | Effect::Left { registration, .. } => {
                self.readers.lock().remove(registration);
            }
            _ => {}
        }
    }

    fn sent(&self, metrics: &Metrics, result: &Result<SendOutcome, SendFailure>) {
        match result {
            Ok(SendOutcome::Accepted(_) | SendOutcome::Reached { .. } | SendOutcome::Scheduled(_)) => {
                add(&self.accepted, 1);
            }
            Ok(SendOutcome::Refused(refusal)) => {
                add(&self.refused, 1);
                match refusal {
                    SendRefusal::InboxFull | SendRefusal::NoRoomForReceipt => metrics.hit(Limit::Inbox),
                    SendRefusal::Recipients(unreached) if unreached.full > 0 => metrics.hit(Limit::Inbox),
                    SendRefusal::TooManyScheduled { .. } => metrics.hit(Limit::Scheduled),
                    SendRefusal::TooManyInboxes { .. } => metrics.hit(Limit::Fanout),
                    SendRefusal::NoSuchClient | SendRefusal::NoSuchChannel | SendRefusal::Recipients(_) => {}
                }
            }
            Err(failure) => {
                add(&self.refused, 1);
                match failure {
                    SendFailure::WindowFull { .. } => metrics.hit(Limit::StreamWindow),
                    SendFailure::Unavailable(Refusal::Busy) => metrics.hit(Limit::Fanout),
                    _ => {}
                }
            }
        }
    }

    fn answered(&self, metrics: &Metrics, answer: &Answer) {
        match answer {
            Answer::Attached { registration, acknowledged, .. } => {
                self.readers.lock().insert(*registration, *acknowledged);
            }
            Answer::Refused(refusal) => {
                if let Some(limit) = limit_of(refusal) {
                    metrics.hit(limit);
                }
            }
            _ => {}
        }
    }

    /// An entry was applied: tells what it brought.
    pub fn applied(&self, metrics: &Metrics) {
        for (counted, counter) in [
            (&self.accepted, &metrics.accepted),
            (&self.repeated, &metrics.repeated),
            (&self.refused, &metrics.refused),
            (&self.acknowledged, &metrics.acknowledged),
        ] {
            let new = counted.load(Ordering::Relaxed);
            if new > 0 {
                counted.store(0, Ordering::Relaxed);
                counter.inc_by(new);
            }
        }
    }

    /// The state was replaced by a snapshot: who reads here is not known any more.
    pub fn installed(&self) {
        self.readers.lock().clear();
    }
}

/// The limit that a refusal tells of, if it does.
pub fn limit_of(refusal: &Refusal) -> Option<Limit> {
    Some(match refusal {
        Refusal::TooManyClients { .. } => Limit::Clients,
        Refusal::TooManyStreams { .. } => Limit::Streams,
        Refusal::TooManyServers { .. } => Limit::Servers,
        Refusal::TooManyBackups { .. } => Limit::Backups,
        Refusal::TooManyChannels { .. } => Limit::Channels,
        Refusal::TooManyEnlistments { .. } => Limit::Enlistments,
        Refusal::TooManyConnections { .. } => Limit::Connections,
        Refusal::DiskFull => Limit::Disk,
        _ => return None,
    })
}

/// One task writes: an addition that other cores see some time.
fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Epoch, Id, Number};

    const HERE: Origin = Origin { incarnation: 1, boot: 1 };

    fn sent(origin: Origin, result: Result<SendOutcome, SendFailure>) -> Effect<'static> {
        Effect::Sent { origin, stream: Id(1), number: Number(1), result, repeated: false }
    }

    fn again(result: Result<SendOutcome, SendFailure>) -> Effect<'static> {
        Effect::Sent { origin: HERE, stream: Id(1), number: Number(1), result, repeated: true }
    }

    #[test]
    fn new_messages_repeats_and_refusals_of_this_servers_clients_are_told_apart() {
        let (tally, metrics) = (Tally::new(HERE), Metrics::default());
        let accepted = Ok(SendOutcome::Accepted(Position(1)));
        let elsewhere = Origin { incarnation: 2, boot: 1 };
        for effect in [
            sent(HERE, accepted.clone()),
            again(accepted.clone()),
            sent(HERE, Ok(SendOutcome::Reached { inboxes: 0, full: 0 })),
            again(Ok(SendOutcome::Reached { inboxes: 0, full: 0 })),
            // Another server's.
            sent(elsewhere, accepted),
            sent(HERE, Ok(SendOutcome::Refused(SendRefusal::InboxFull))),
            sent(HERE, Err(SendFailure::WindowFull { window: 1 })),
        ] {
            tally.effect(&metrics, &effect);
        }
        tally.applied(&metrics);
        tally.applied(&metrics);
        assert_eq!((metrics.accepted.get(), metrics.repeated.get(), metrics.refused.get()), (2, 2, 2));
        assert_eq!(metrics.limits.hits(Limit::Inbox), 1);
        assert_eq!(metrics.limits.hits(Limit::StreamWindow), 1);
    }

    #[test]
    fn acknowledgements_count_each_message_once_and_only_where_its_reader_is() {
        let (tally, metrics) = (Tally::new(HERE), Metrics::default());
        let acknowledged = |registration, up_to| Effect::Acknowledged {
            registration: Id(registration),
            epoch: Epoch(1),
            up_to: Position(up_to),
        };
        let answer = Answer::Attached { registration: Id(5), epoch: Epoch(1), acknowledged: Position(10) };
        tally.effect(&metrics, &Effect::Answered { origin: HERE, nonce: 1, answer });
        tally.effect(&metrics, &acknowledged(5, 12));
        tally.effect(&metrics, &acknowledged(5, 12));
        tally.effect(&metrics, &acknowledged(6, 100));
        tally.effect(&metrics, &Effect::Fenced { registration: Id(5), epoch: Epoch(1), by: None });
        tally.effect(&metrics, &acknowledged(5, 20));
        tally.applied(&metrics);
        assert_eq!(metrics.acknowledged.get(), 2);
    }

    #[test]
    fn refusals_tell_which_limit_it_was() {
        let (tally, metrics) = (Tally::new(HERE), Metrics::default());
        let answer = Answer::Refused(Refusal::TooManyStreams { quota: 1 });
        tally.effect(&metrics, &Effect::Answered { origin: HERE, nonce: 1, answer });
        let answer = Answer::Refused(Refusal::NotRegistered);
        tally.effect(&metrics, &Effect::Answered { origin: HERE, nonce: 1, answer });
        let hits: u64 = Limit::ALL.into_iter().map(|limit| metrics.limits.hits(limit)).sum();
        assert_eq!((metrics.limits.hits(Limit::Streams), hits), (1, 1));
    }
}
