//! W4: messages wait for a recipient that is away, and then comes.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::meter::Meter;
use super::super::traffic::Route;
use super::super::{Bench, Cluster};
use super::{Counts, extend, milliseconds, per_second, seconds, tenths};
use restante::limits;

/// Deliveries that the recipient holds unacknowledged at most while it drains its inbox.
const DRAIN_WINDOW: u32 = 16 * limits::READER_WINDOW_DEFAULT;

impl<C: Cluster> Bench<'_, C> {
    pub(in super::super) async fn backlog(&mut self) -> Result<Value, C::Error> {
        let plan = self.plan.clone();
        self.progress.phase("w4 backlog: registering");
        let to = Arc::new(self.register("r", 1).await?);
        let from = self.register("s", plan.senders).await?;
        let senders = self.open(&from, |_| Route::One(0, Arc::clone(&to))).await?;

        self.progress.phase("w4 backlog: filling");
        let filling = Meter::begin(&self.cluster.pids());
        let fill_start = self.clock.now();
        let sent = self.closed_loops(senders, u64::MAX, plan.backlog).done().await;
        let fill_usage = filling.end();
        let client = self.connect(0).await?;
        let stored = Self::waiting(&client, &to).await?;
        client.close().await;

        self.progress.phase("w4 backlog: draining");
        let draining = Meter::begin(&self.cluster.pids());
        let drain_start = self.clock.now();
        let recipients = self.attach(&to, plan.senders, DRAIN_WINDOW).await?;
        let all_delivered = self.arrived(sent.iter().map(|sent| sent.accepted).sum()).await;
        let empty = self.emptied(&to).await?;
        let usage = draining.end();
        let counts = Counts::of(&sent, &recipients);
        for recipient in recipients {
            recipient.stop().await;
        }
        let peak_rss_mb = tenths(usage.peak_rss_mb.max(fill_usage.peak_rss_mb));
        Ok(extend(
            counts.json("w4"),
            json!({
                "fill_per_s": per_second(counts.accepted, fill_start, counts.receipts.last), "stored": stored,
                "drained": counts.delivered, "all_delivered": all_delivered,
                "drain_per_s": per_second(counts.delivered, drain_start, counts.deliveries.last),
                "drain_s": seconds(drain_start, counts.deliveries.last),
                "first_ms": milliseconds(counts.deliveries.first.saturating_sub(drain_start)),
                "empty": empty, "fill_usage": fill_usage, "usage": usage, "peak_rss_mb": peak_rss_mb,
            }),
        ))
    }
}
