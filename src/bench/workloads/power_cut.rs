//! W6: all servers are killed under load, and started again.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use restante::world::{RealWorld, World};
use serde_json::{Value, json};

use super::super::traffic::Route;
use super::super::{Bench, Cluster};
use super::{Counts, extend, milliseconds};

/// Messages in all.
const MESSAGES: u64 = 20_000;
/// Receipts after which the power is cut, while the senders go on.
const CUT_AFTER: u64 = MESSAGES * 3 / 4;
/// How long the power is away.
const AWAY: Duration = Duration::from_millis(300);

impl<C: Cluster> Bench<'_, C> {
    /// The recipient comes when the servers start; senders keep what has no receipt and send it again by themselves.
    pub(in super::super) async fn power_cut(&mut self) -> Result<Value, C::Error> {
        let plan = self.plan.clone();
        self.progress.phase("w6 power cut: registering");
        let to = Arc::new(self.register("r", 1).await?);
        let from = self.register("s", plan.senders).await?;
        let senders = self.open(&from, |_| Route::One(0, Arc::clone(&to))).await?;

        self.progress.phase("w6 power cut: load");
        let running = self.closed_loops(senders, u64::MAX, MESSAGES);
        while self.progress.receipts.load(Relaxed) < CUT_AFTER {
            RealWorld::sleep(Duration::from_millis(1)).await;
        }
        self.cluster.kill_all().await?;
        let cut = self.clock.now();
        let receipts_before = self.progress.receipts.load(Relaxed);
        self.progress.phase("w6 power cut: all servers are dead");
        RealWorld::sleep(AWAY).await;
        self.cluster.start_again()?;
        let started = self.clock.now();
        self.progress.phase("w6 power cut: all servers start again");
        let recipients = self.attach(&to, plan.senders, plan.reader_window).await?;
        let attached = self.clock.now();
        let sent = running.done().await;
        let all_delivered = self.arrived(sent.iter().map(|sent| sent.accepted).sum()).await;
        let counts = Counts::of(&sent, &recipients);
        for recipient in recipients {
            recipient.stop().await;
        }
        let since = |from: u64, to: u64| milliseconds(to.saturating_sub(from));
        let (first, last) = (counts.deliveries.first, counts.deliveries.last);
        Ok(extend(
            counts.json("w6"),
            json!({
                "all_delivered": all_delivered, "receipts_before_cut": receipts_before,
                "away_ms": AWAY.as_millis() as u64, "nodes_up_ms": since(cut, attached),
                "first_delivery_ms": since(cut, first), "last_delivery_ms": since(cut, last),
                "first_delivery_after_start_ms": since(started, first),
                "last_delivery_after_start_ms": since(started, last),
            }),
        ))
    }
}
