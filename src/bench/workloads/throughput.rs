//! W1: many senders to many recipients, as fast as it goes.

use std::sync::Arc;

use restante::world::{RealWorld, World};
use serde_json::{Value, json};

use super::super::meter::Meter;
use super::super::traffic::Route;
use super::super::{Bench, Cluster};
use super::{Counts, SETTLE, extend, per_second, seconds, tenths};

impl<C: Cluster> Bench<'_, C> {
    pub(in super::super) async fn throughput(&mut self) -> Result<Value, C::Error> {
        let plan = self.plan.clone();
        self.progress.phase("w1 throughput: registering");
        let to = Arc::new(self.register("r", plan.recipients).await?);
        let from = self.register("s", plan.senders).await?;
        let recipients = self.attach(&to, plan.senders, plan.reader_window).await?;
        let senders = self.open(&from, |_| Route::Spread(Arc::clone(&to))).await?;
        RealWorld::sleep(SETTLE).await;

        self.progress.phase("w1 throughput");
        let meter = Meter::begin(&self.cluster.pids());
        let start = self.clock.now();
        let until = start + plan.seconds * 1_000_000_000;
        let sent = self.closed_loops(senders, until, plan.messages.unwrap_or(u64::MAX)).done().await;
        let all_delivered = self.arrived(sent.iter().map(|sent| sent.accepted).sum()).await;
        let empty = self.emptied(&to).await?;
        let usage = meter.end();

        let counts = Counts::of(&sent, &recipients);
        for recipient in recipients {
            recipient.stop().await;
        }
        let acked_per_s = per_second(counts.accepted, start, counts.receipts.last);
        self.reached = Some(acked_per_s as u64);
        let million = counts.delivered.max(1) as f64 / 1e6;
        Ok(extend(
            counts.json("w1"),
            json!({
                "all_delivered": all_delivered, "acked_per_s": acked_per_s,
                "e2e_per_s": per_second(counts.delivered, start, counts.deliveries.last),
                "ack_s": seconds(start, counts.receipts.last), "e2e_s": seconds(start, counts.deliveries.last),
                "broker_cpu_s_per_M": tenths(usage.broker_cpu_s / million),
                "client_cpu_s_per_M": tenths(usage.client_cpu_s / million),
                "peak_rss_mb": tenths(usage.peak_rss_mb), "confirm": counts.receipt.json(),
                "e2e": counts.delivery.json(), "empty": empty, "usage": usage,
            }),
        ))
    }
}
