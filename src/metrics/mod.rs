//! What a server counts, for whoever watches it: `/metrics`, the console, `restante top`.
//!
//! Counters belong to one server of one process, never to the process: several servers in one share nothing. What is
//! counted once a message is a plain addition by the one task that applies entries ([`Tally`]); everything else is once a
//! batch, a frame or a connection. Nothing here reads a clock or draws a number: moments come from whoever calls.
//!
//! * [`limits`]: which limit was hit how often; one counter each, since every limit has one (P7).
//! * [`tally`]: what applying an entry brought, counted.
//! * [`traffic`]: bytes of connections, by who is at their other end.
//! * [`chronicle`]: the last things that happened, as text.
//! * [`flow`]: a few of the messages that pass, while somebody looks.
//! * [`page`]: Prometheus' text format.

pub mod chronicle;
pub mod flow;
pub mod limits;
pub mod page;
pub mod tally;
pub mod traffic;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use self::chronicle::Chronicle;
use self::flow::Flow;
use self::limits::{Limit, Limits};
use self::traffic::Traffic;
use crate::wire::Time;
use crate::world::Instant;

/// Frames whose latency waits to be noted, at most.
const HANDED_MAX: usize = 256;

/// What one server counts, from its start on.
#[derive(Debug)]
pub struct Metrics {
    /// Sends that came in here and were accepted, each once.
    pub accepted: Counter,
    /// Sends that came in here and got the outcome that they had before.
    pub repeated: Counter,
    /// Sends that came in here and were refused for a reason of business, or not taken.
    pub refused: Counter,
    /// Messages handed to readers here, repeats included.
    pub delivered: Counter,
    /// Messages whose reader here acknowledged them.
    pub acknowledged: Counter,
    /// Seconds from a batch of commands being begun to its being applied here: what a receipt takes.
    pub receipt_latency: Histogram,
    /// Seconds from a message being accepted to its being handed to its reader here; of each frame its newest message.
    pub delivery_latency: Histogram,
    /// Requests by HTTP that were answered, by the first digit of their status: 1 to 5.
    pub requests: [Counter; 5],
    /// Elections that this server has seen decided.
    pub elections: Counter,
    /// Elections that it has won.
    pub elections_won: Counter,
    /// Limits that were hit.
    pub limits: Limits,
    /// Bytes of connections.
    pub traffic: Arc<Traffic>,
    /// What happened lately.
    pub chronicle: Chronicle,
    /// Messages that pass.
    pub flow: Flow,
    /// Batches that are on their way.
    stopwatch: Mutex<VecDeque<(u64, Instant)>>,
}

impl Default for Metrics {
    fn default() -> Self {
        // From a tenth of a millisecond to almost a minute.
        let latency = || Histogram::new(exponential_buckets(0.000_1, 2.0, 19));
        Self {
            accepted: Counter::default(),
            repeated: Counter::default(),
            refused: Counter::default(),
            delivered: Counter::default(),
            acknowledged: Counter::default(),
            receipt_latency: latency(),
            delivery_latency: latency(),
            requests: std::array::from_fn(|_| Counter::default()),
            elections: Counter::default(),
            elections_won: Counter::default(),
            limits: Limits::default(),
            traffic: Arc::default(),
            chronicle: Chronicle::default(),
            flow: Flow::default(),
            stopwatch: Mutex::default(),
        }
    }
}

impl Metrics {
    /// A limit was hit.
    pub fn hit(&self, limit: Limit) {
        self.limits.hit(limit);
    }

    /// Commands were put into this server's batch of that sequence. Only the first ones begin it.
    pub fn batch_begun(&self, sequence: u64, now: Instant) {
        let mut batches = self.stopwatch.lock();
        if batches.back().is_none_or(|(last, _)| *last < sequence) {
            batches.push_back((sequence, now));
        }
    }

    /// That batch of this server's was applied here.
    pub fn batch_applied(&self, sequence: u64, now: Instant) {
        let mut batches = self.stopwatch.lock();
        while let Some((at, begun)) = batches.front().copied()
            && at <= sequence
        {
            batches.pop_front();
            if at == sequence {
                self.receipt_latency.observe(seconds(now.saturating_duration_since(begun)));
            }
        }
    }

    /// Forgets the batches that are on their way: another run of the server numbers its own from 1.
    pub fn forget_batches(&self) {
        self.stopwatch.lock().clear();
    }

    /// Takes note of what was handed to readers, at this moment of the cluster's time.
    pub fn note_handed(&self, handed: &mut Handed, now: Time) {
        if handed.starved > 0 {
            self.limits.hit_by(Limit::Outbox, std::mem::take(&mut handed.starved));
        }
        if handed.messages > 0 {
            self.delivered.inc_by(std::mem::take(&mut handed.messages));
            for time in handed.newest.drain(..) {
                let waited = Duration::from_millis(now.0.saturating_sub(time.0));
                self.delivery_latency.observe(seconds(waited));
            }
        }
    }

    /// A request by HTTP was answered.
    pub fn answered(&self, status: u16) {
        if let Some(counter) = self.requests.get(usize::from(status / 100).wrapping_sub(1)) {
            counter.inc();
        }
    }
}

/// Messages that were handed to readers and are yet to be counted. It is where the deliveries are, which know no clock.
#[derive(Debug, Default)]
pub struct Handed {
    messages: u64,
    starved: u64,
    newest: Vec<Time>,
}

impl Handed {
    /// A frame of so many messages was handed over, the newest of which waits since `time`.
    pub fn note(&mut self, messages: usize, time: Option<Time>) {
        self.messages += messages as u64;
        if self.newest.len() < HANDED_MAX {
            self.newest.extend(time);
        }
    }

    /// A reader has to wait until its client has read what is there.
    pub fn starve(&mut self) {
        self.starved += 1;
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::page::Page;
    use super::*;
    use crate::world::{RealWorld, World as _};

    fn counted(histogram: &Histogram) -> String {
        let mut page = Page::default();
        page.histogram("x", "x", histogram);
        page.text()
    }

    #[test]
    fn a_batch_is_timed_once_from_its_first_command() {
        let metrics = Metrics::default();
        let begin = RealWorld::now();
        let after = |millis| begin + Duration::from_millis(millis);
        metrics.batch_begun(1, begin);
        metrics.batch_begun(1, after(5));
        metrics.batch_begun(2, after(5));
        metrics.batch_applied(1, after(10));
        metrics.batch_applied(1, after(20));
        metrics.batch_begun(1, after(30));
        // The second one was not told of: nothing is known of how long it took.
        metrics.batch_applied(3, after(40));
        let text = counted(&metrics.receipt_latency);
        assert!(
            text.contains("restante_x_seconds_count 1\n") && text.contains("restante_x_seconds_sum 0.01\n"),
            "{text}"
        );
    }

    #[test]
    fn deliveries_are_counted_each_and_timed_by_frame() {
        let metrics = Metrics::default();
        let mut handed = Handed::default();
        handed.note(3, Some(Time(1000)));
        handed.note(1, Some(Time(1500)));
        metrics.note_handed(&mut handed, Time(2000));
        metrics.note_handed(&mut handed, Time(9000));
        assert_eq!(metrics.delivered.get(), 4);
        let text = counted(&metrics.delivery_latency);
        assert!(text.contains("_count 2\n") && text.contains("_sum 1.5\n"), "{text}");
    }

    #[test]
    fn servers_in_one_process_share_no_counter() {
        let (one, other) = (Metrics::default(), Metrics::default());
        one.accepted.inc();
        one.hit(Limit::Inbox);
        assert_eq!((other.accepted.get(), other.limits.hits(Limit::Inbox)), (0, 0));
    }
}
