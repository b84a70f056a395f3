//! A million names: what registering them costs, what each takes, and how the servers start with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use restante::world::{RealWorld, World};
use serde_json::{Value, json};

use super::super::meter::{self, Meter};
use super::super::traffic::{Route, Sender};
use super::super::{Bench, Cluster};
use super::{Counts, SETTLE, extend, milliseconds, per_second, tenths};

/// Messages that are sent alone, one after the other, before the names are registered.
const ALONE: u64 = 1000;

impl<C: Cluster> Bench<'_, C> {
    /// While the names are registered, one more client sends and waits for its receipt, again and again: a checkpoint
    /// that is taken of all of them meanwhile must not make it wait.
    pub(in super::super) async fn names(&mut self) -> Result<Value, C::Error> {
        let names = self.plan.names;
        self.progress.phase("names: registering the one that sends meanwhile");
        let to = Arc::new(self.register("r", 1).await?);
        let from = self.register("s", 3).await?;
        let mut senders = self.open(&from, |_| Route::One(0, Arc::clone(&to))).await?;
        let (Some(after), Some(meanwhile), Some(mut alone)) = (senders.pop(), senders.pop(), senders.pop()) else {
            unreachable!("one was opened for each of three names")
        };
        // What this sends, nobody reads.
        RealWorld::sleep(SETTLE).await;
        for _ in 0..ALONE {
            alone.send_one().await?;
        }
        let alone = alone.finish().await;

        self.progress.phase(format!("names: registering {names}"));
        let pids = self.cluster.pids();
        let before = meter::resident_mb(&pids);
        let metered = Meter::begin(&pids);
        let registered = Arc::new(AtomicBool::new(false));
        let asking = RealWorld::spawn(send_until(meanwhile, Arc::clone(&registered)));
        let start = self.clock.now();
        let result = self.register("n", names).await;
        let end = self.clock.now();
        registered.store(true, Relaxed);
        let meanwhile = asking.await.unwrap_or_else(|error| super::panicked(&error));
        result?;
        let usage = metered.end();
        RealWorld::sleep(SETTLE).await;
        let resident = meter::resident_mb(&pids);

        self.progress.phase("names: all servers start again");
        self.cluster.kill_all().await?;
        let killed = self.clock.now();
        self.cluster.start_again()?;
        let mut after = after;
        after.send_one().await?;
        let served = self.clock.now();
        let after = after.finish().await;

        let per_name = (resident - before).max(0.0) * 1024.0 * 1024.0 / pids.len().max(1) as f64 / names.max(1) as f64;
        let million = names.max(1) as f64 / 1e6;
        let mut recipients = self.attach(&to, from.len(), self.plan.reader_window).await?;
        let sent = [alone, meanwhile, after];
        let all_delivered = self.arrived(sent.iter().map(|sent| sent.accepted).sum()).await;
        let counts = Counts::of(&sent, &recipients);
        if let Some(recipient) = recipients.pop() {
            recipient.stop().await;
        }
        Ok(extend(
            counts.json("names"),
            json!({
                "names": names, "all_delivered": all_delivered, "registered_per_s": per_second(names as u64, start, end),
                "broker_cpu_s_per_M": tenths(usage.broker_cpu_s / million), "bytes_per_name": per_name.round(),
                "resident_mb": tenths(resident), "peak_rss_mb": tenths(usage.peak_rss_mb),
                "alone": sent[0].latency.json(), "meanwhile": sent[1].latency.json(),
                "longest_wait_ms": milliseconds(sent[1].gap.longest),
                "first_receipt_after_start_ms": milliseconds(served - killed), "usage": usage,
            }),
        ))
    }
}

/// One message at a time.
async fn send_until(mut sender: Sender, over: Arc<AtomicBool>) -> super::Sent {
    while !over.load(Relaxed) {
        if sender.send_one().await.is_err() {
            break;
        }
    }
    sender.finish().await
}
