//! W3 and W5: a steady load in an open loop, and in W5 the leader dies under it.

use std::sync::Arc;
use std::time::Duration;

use restante::world::{RealWorld, World};
use serde_json::{Value, json};

use super::super::meter::{Meter, Usage};
use super::super::traffic::{Recipient, Route, Sent};
use super::super::{Bench, Cluster, pacer};
use super::{Counts, Running, SETTLE, extend, milliseconds, per_second};

/// Senders, and recipients, one for each.
const SENDERS: usize = 16;
/// A client that waits for longer than this is counted.
const LONG_GAP: Duration = Duration::from_millis(250);
/// How long doubles may be late.
const LATE: Duration = Duration::from_millis(1000);

/// What came of a steady load.
struct Steady {
    sent: Vec<Sent>,
    recipients: Vec<Recipient>,
    all_delivered: bool,
    began: u64,
    usage: Usage,
    killed: Option<(String, u64)>,
}

impl<C: Cluster> Bench<'_, C> {
    pub(in super::super) async fn latency_under_load(&mut self, name: &str, rate: u64) -> Result<Value, C::Error> {
        let steady = self.steady(name, "latency under load", rate, None).await?;
        let counts = Counts::of(&steady.sent, &steady.recipients);
        let result = self.steady_json(name, rate, &steady, &counts);
        for recipient in steady.recipients {
            recipient.stop().await;
        }
        Ok(result)
    }

    pub(in super::super) async fn failover(&mut self) -> Result<Value, C::Error> {
        let rate = self.plan.rate;
        let kill_after = Duration::from_secs(self.plan.seconds) / 3;
        let steady = self.steady("w5", "failover", rate, Some(kill_after)).await?;
        let before = Counts::of(&steady.sent, &steady.recipients);
        self.progress.phase("w5 failover: the killed server starts again");
        self.cluster.start_again()?;
        // What only the dead server had would come back now, and so would what it had delivered already.
        RealWorld::sleep(LATE * 2).await;
        if before.lost > 0 {
            self.arrived(before.accepted).await;
        }
        let after = Counts::of(&steady.sent, &steady.recipients);
        let longest = |gaps: &dyn Fn(&Sent) -> u64| steady.sent.iter().map(gaps).max().unwrap_or(0);
        let (killed, at_ms) = steady.killed.clone().unwrap_or_default();
        let over = steady.sent.iter().filter(|sent| sent.gap.longest > LONG_GAP.as_nanos() as u64).count();
        let result = extend(
            self.steady_json("w5", rate, &steady, &after),
            json!({
                "killed": { "what": killed, "at_ms": at_ms },
                "longest_gap_all_ms": milliseconds(self.receipts.lock().longest),
                "longest_gap_worst_recipient_ms": milliseconds(longest(&|sent| sent.gap.longest)),
                "recipients_with_gap_over_250ms": over,
                "longest_delivery_gap_worst_recipient_ms": milliseconds(after.deliveries.longest),
                "confirmed_never_delivered_2of3": before.lost,
                "confirmed_never_delivered_after_revive": after.lost, "duplicates": after.doubled,
            }),
        );
        for recipient in steady.recipients {
            recipient.stop().await;
        }
        Ok(result)
    }

    /// Sender `i` sends to recipient `i` when a message is due.
    async fn steady(
        &mut self,
        name: &str,
        title: &str,
        rate: u64,
        kill_after: Option<Duration>,
    ) -> Result<Steady, C::Error> {
        self.progress.phase(format!("{name} {title}: registering"));
        let to = Arc::new(self.register("r", SENDERS).await?);
        let from = self.register("s", SENDERS).await?;
        let recipients = self.attach(&to, SENDERS, self.plan.reader_window).await?;
        let senders = self.open(&from, |number| Route::One(number, Arc::clone(&to))).await?;
        RealWorld::sleep(SETTLE).await;

        self.progress.phase(format!("{name} {title}: {rate} messages a second"));
        let meter = Meter::begin(&self.cluster.pids());
        let began = self.clock.now();
        let due = pacer::pace(self.clock, rate, self.plan.seconds, SENDERS);
        let tasks = senders.into_iter().zip(due).map(|(sender, due)| RealWorld::spawn(sender.open_loop(due)));
        let running = Running(tasks.collect());
        let mut killed = None;
        if let Some(after) = kill_after {
            RealWorld::sleep(after).await;
            let what = self.cluster.kill_leader().await?;
            killed = Some((what, (self.clock.now() - began) / 1_000_000));
        }
        let sent = running.done().await;
        let all_delivered = self.arrived(sent.iter().map(|sent| sent.accepted).sum()).await;
        let usage = meter.end();
        Ok(Steady { sent, recipients, all_delivered, began, usage, killed })
    }

    fn steady_json(&self, name: &str, rate: u64, steady: &Steady, counts: &Counts) -> Value {
        extend(
            counts.json(name),
            json!({
                "rate": rate, "scheduled": rate * self.plan.seconds, "all_delivered": steady.all_delivered,
                "e2e_per_s": per_second(counts.delivered, steady.began, counts.deliveries.last),
                "confirm": counts.receipt.json(), "e2e": counts.delivery.json(),
                "send_done_ms": (counts.receipts.last.saturating_sub(steady.began)) / 1_000_000,
                "usage": &steady.usage,
            }),
        )
    }
}
