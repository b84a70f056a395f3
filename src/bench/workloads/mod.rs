//! The workloads, and what they have in common: who takes part, and what is counted at the end.

mod backlog;
mod latency;
mod names;
mod open_loop;
mod power_cut;
mod throughput;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use restante::client;
use restante::wire::Name;
use restante::world::{RealWorld, World};
use serde_json::{Value, json};

use super::latency::Latency;
use super::traffic::{Common, Gap, Recipient, Route, Sender, Sent};
use super::{Bench, Cluster};

/// How long everybody is left alone before it begins.
const SETTLE: Duration = Duration::from_millis(500);
/// How long nothing may arrive before what is missing is taken for lost.
const IDLE: Duration = Duration::from_secs(10);

impl<C: Cluster> Bench<'_, C> {
    fn common(&self) -> Common {
        Common {
            clock: self.clock,
            content: Arc::clone(&self.content),
            progress: Arc::clone(&self.progress),
            receipts: Arc::clone(&self.receipts),
            arrived: Arc::clone(&self.arrived),
        }
    }

    /// Attaches a recipient to each inbox.
    async fn attach(&self, names: &[Name], senders: usize, window: u32) -> Result<Vec<Recipient>, client::Error> {
        let attaching = names.iter().enumerate().map(async |(number, name)| {
            // Not at the same server as the sender of the same number.
            let client = self.connect(number + 1).await?;
            Recipient::attach(client, name, window, senders, self.common()).await
        });
        try_join_all(attaching).await
    }

    /// Opens a stream for each sender.
    async fn open(&self, names: &[Name], route: impl Fn(usize) -> Route) -> Result<Vec<Sender>, client::Error> {
        let opening = names.iter().enumerate().map(async |(number, name)| {
            let client = self.connect(number).await?;
            Sender::open(client, name, number, route(number), self.common()).await
        });
        try_join_all(opening).await
    }

    /// Lets all senders send as fast as it goes.
    fn closed_loops(&self, senders: Vec<Sender>, until: u64, most: u64) -> Running {
        let all = senders.len() as u64;
        let tasks = senders.into_iter().enumerate().map(|(number, sender)| {
            let most = most / all + u64::from((number as u64) < most % all);
            RealWorld::spawn(sender.closed_loop(self.plan.window, until, most))
        });
        Running(tasks.collect())
    }

    /// Waits until so many messages have arrived, or until nothing arrives any more. Says which.
    async fn arrived(&self, messages: u64) -> bool {
        let mut before = (u64::MAX, self.clock.now());
        loop {
            let arrived = self.progress.deliveries.load(Relaxed);
            if arrived >= messages {
                return true;
            }
            if arrived != before.0 {
                before = (arrived, self.clock.now());
            }
            if self.clock.now() - before.1 > IDLE.as_nanos() as u64 {
                return false;
            }
            RealWorld::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Senders at work.
struct Running(Vec<tokio::task::JoinHandle<Sent>>);

impl Running {
    /// Waits until all are done.
    async fn done(self) -> Vec<Sent> {
        let all = join_all(self.0).await;
        // A task that panicked was told of on the standard error; its sends are missing from the counts.
        all.into_iter().map(|sent| sent.unwrap_or_else(|error| panicked(&error))).collect()
    }
}

fn panicked(error: &tokio::task::JoinError) -> Sent {
    Sent { errors: 1, first_error: Some(error.to_string()), ..Sent::default() }
}

/// What a workload came to.
#[derive(Default)]
struct Counts {
    sent: u64,
    accepted: u64,
    errors: u64,
    first_error: Option<String>,
    delivered: u64,
    lost: u64,
    doubled: u64,
    disordered: u64,
    altered: u64,
    receipt: Latency,
    delivery: Latency,
    /// Of all receipts.
    receipts: Gap,
    /// Of all deliveries; `longest` is that of one recipient.
    deliveries: Gap,
}

impl Counts {
    fn of(sent: &[Sent], recipients: &[Recipient]) -> Self {
        let mut counts = Self::default();
        for one in sent {
            counts.sent += one.sent;
            counts.accepted += one.accepted;
            counts.errors += one.errors;
            counts.first_error = counts.first_error.or_else(|| one.first_error.clone());
            counts.receipt.add(&one.latency);
            counts.receipts = together(counts.receipts, one.gap);
        }
        for (number, recipient) in recipients.iter().enumerate() {
            let received = recipient.received.lock();
            let ledger = &received.ledger;
            counts.delivered += ledger.delivered;
            counts.doubled += ledger.doubled;
            counts.disordered += ledger.disordered;
            counts.altered += ledger.altered;
            for (sender, one) in sent.iter().enumerate() {
                let unreceipted = one.unreceipted.get(&number).cloned().unwrap_or_default();
                counts.lost += ledger.lost(sender, one.to.get(&number).copied().unwrap_or(0), &unreceipted);
            }
            if let Some(error) = &received.error {
                counts.errors += 1;
                counts.first_error = counts.first_error.or_else(|| Some(error.clone()));
            }
            counts.delivery.add(&received.latency);
            counts.deliveries = together(counts.deliveries, received.gap);
        }
        counts
    }

    /// The members that every result has.
    fn json(&self, workload: &str) -> Value {
        json!({
            "w": workload, "sent": self.sent, "confirmed": self.accepted, "errors": self.errors,
            "first_err": self.first_error, "delivered": self.delivered, "lost": self.lost, "dups": self.doubled,
            "disordered": self.disordered, "altered": self.altered,
        })
    }
}

/// From the first event of either to the last of either.
fn together(one: Gap, other: Gap) -> Gap {
    let first = [one.first, other.first].into_iter().filter(|first| *first > 0).min().unwrap_or(0);
    Gap { first, last: one.last.max(other.last), longest: one.longest.max(other.longest) }
}

/// Adds the members of `more` to those of `to`.
fn extend(mut to: Value, more: Value) -> Value {
    if let (Value::Object(to), Value::Object(more)) = (&mut to, more) {
        to.extend(more);
    }
    to
}

/// `number` with one digit behind the point.
fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// How many a second, if `count` took from `from` to `to` (nanoseconds).
fn per_second(count: u64, from: u64, to: u64) -> f64 {
    let seconds = to.saturating_sub(from) as f64 / 1e9;
    if seconds > 0.0 { (count as f64 / seconds).round() } else { 0.0 }
}

fn seconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e9
}

fn milliseconds(nanoseconds: u64) -> f64 {
    tenths(nanoseconds as f64 / 1e6)
}
