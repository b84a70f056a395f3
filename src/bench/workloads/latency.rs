//! W2: one sender, one recipient, one message at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use restante::world::{RealWorld, World};
use serde_json::{Value, json};

use super::super::meter::Meter;
use super::super::traffic::Route;
use super::super::{Bench, Cluster};
use super::{Counts, IDLE, SETTLE, extend, tenths};

/// W2 ends after so long even if not all messages were sent.
const LONGEST: Duration = Duration::from_secs(40);

impl<C: Cluster> Bench<'_, C> {
    pub(in super::super) async fn latency(&mut self) -> Result<Value, C::Error> {
        let plan = self.plan.clone();
        self.progress.phase("w2 latency: registering");
        let to = Arc::new(self.register("r", 1).await?);
        let from = self.register("s", 1).await?;
        let recipients = self.attach(&to, 1, plan.reader_window).await?;
        let mut senders = self.open(&from, |_| Route::One(0, Arc::clone(&to))).await?;
        let Some(mut sender) = senders.pop() else { unreachable!("one was opened for the one name") };
        RealWorld::sleep(SETTLE).await;

        self.progress.phase("w2 latency");
        let meter = Meter::begin(&self.cluster.pids());
        let start = self.clock.now();
        let mut undelivered = 0_u64;
        for message in 1..=plan.singles {
            if self.clock.now() - start > LONGEST.as_nanos() as u64 {
                break;
            }
            let received = sender.send_one().await?;
            // The next one is sent when this one has arrived.
            while received && self.progress.deliveries.load(Relaxed) + undelivered < message {
                if RealWorld::timeout(IDLE, self.arrived.notified()).await.is_err() {
                    undelivered += 1;
                }
            }
        }
        let usage = meter.end();
        let sent = [sender.finish().await];
        let counts = Counts::of(&sent, &recipients);
        for recipient in recipients {
            recipient.stop().await;
        }
        let million = counts.delivered.max(1) as f64 / 1e6;
        Ok(extend(
            counts.json("w2"),
            json!({
                "confirm": counts.receipt.json(), "e2e": counts.delivery.json(),
                "broker_cpu_s_per_M": tenths(usage.broker_cpu_s / million), "usage": usage,
            }),
        ))
    }
}
