//! Senders and recipients: each has a connection and a task of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures::FutureExt as _;
use parking_lot::Mutex;
use restante::client::{self, Client, Inbox, PendingReceipt, Receipt, SendError, SendStream};
use restante::wire::Name;
use restante::world::{RealWorld, World};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::Progress;
use super::clock::Clock;
use super::content::{Content, Id};
use super::latency::Latency;
use super::ledger::Ledger;

/// Deliveries that a recipient takes before it looks at the clock again.
const AT_ONCE: usize = 256;

/// What senders and recipients share.
#[derive(Debug, Clone)]
pub struct Common {
    /// One clock for all.
    pub clock: Clock,
    /// Makes and reads bodies.
    pub content: Arc<Content>,
    /// Counts for whoever looks on.
    pub progress: Arc<Progress>,
    /// When receipts came, whoever got them.
    pub receipts: Arc<Mutex<Gap>>,
    /// Wakes whoever waits for deliveries.
    pub arrived: Arc<Notify>,
}

/// Times between one event and the next.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gap {
    /// The first event, in nanoseconds of the clock; 0 if there was none.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// The longest time between two.
    pub longest: u64,
}

impl Gap {
    /// Something happened.
    pub fn hit(&mut self, now: u64) {
        if self.first == 0 {
            self.first = now;
        } else {
            self.longest = self.longest.max(now.saturating_sub(self.last));
        }
        self.last = self.last.max(now);
    }
}

/// What a recipient got so far.
#[derive(Debug, Default)]
pub struct Received {
    /// Which messages.
    pub ledger: Ledger,
    /// From when they were due until they were taken.
    pub latency: Latency,
    /// When.
    pub gap: Gap,
    /// Why it ended, if it did so by itself.
    pub error: Option<String>,
}

/// A recipient that reads.
pub struct Recipient {
    /// What it got so far.
    pub received: Arc<Mutex<Received>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Recipient {
    /// Attaches to the inbox of `name` and reads until it is stopped.
    ///
    /// # Errors
    /// The cluster does not let it.
    pub async fn attach(
        client: Client,
        name: &Name,
        window: u32,
        senders: usize,
        common: Common,
    ) -> Result<Self, client::Error> {
        let inbox = client.listen(name, window).await?;
        let received = Arc::new(Mutex::new(Received { ledger: Ledger::new(senders), ..Received::default() }));
        let (stop, stopped) = oneshot::channel();
        let task = RealWorld::spawn(read(client, inbox, Arc::clone(&received), common, stopped));
        Ok(Self { received, stop, task })
    }

    /// Makes its acknowledgements durable and ends.
    pub async fn stop(self) {
        // It may have ended by itself.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

async fn read(
    client: Client,
    mut inbox: Inbox,
    received: Arc<Mutex<Received>>,
    common: Common,
    mut stopped: oneshot::Receiver<()>,
) {
    loop {
        let mut next = tokio::select! {
            biased;
            _ = &mut stopped => break,
            next = inbox.next() => next,
        };
        let now = common.clock.now();
        let mut received = received.lock();
        let (mut last, mut first_copies) = (None, 0);
        for taken in 1.. {
            let delivery = match next {
                Some(Ok(delivery)) => delivery,
                Some(Err(error)) => {
                    received.error = Some(error.to_string());
                    break;
                }
                None => {
                    received.error.get_or_insert_with(|| "the reader ended".to_owned());
                    break;
                }
            };
            last = Some(delivery.position);
            match common.content.read(&delivery.body) {
                Some((id, due)) => {
                    first_copies += u64::from(received.ledger.enter(id));
                    received.latency.record(due, now);
                }
                None => received.ledger.altered += 1,
            }
            if taken == AT_ONCE {
                break;
            }
            match inbox.next().now_or_never() {
                Some(one) => next = one,
                None => break,
            }
        }
        received.gap.hit(now);
        let ended = received.error.is_some();
        drop(received);
        if let Some(last) = last {
            inbox.acknowledge(last);
        }
        common.progress.deliveries.fetch_add(first_copies, Relaxed);
        common.arrived.notify_one();
        if ended {
            return;
        }
    }
    if let Err(error) = inbox.flush().await {
        received.lock().error = Some(format!("the acknowledgements: {error}"));
    }
    drop(inbox);
    client.close().await;
}

/// Which of the recipients a sender's messages go to.
#[derive(Debug, Clone)]
pub enum Route {
    /// To all of them in turn.
    Spread(Arc<Vec<Name>>),
    /// To that one.
    One(usize, Arc<Vec<Name>>),
}

impl Route {
    fn of(&self, sender: usize, message: u64) -> (usize, &Name) {
        let (recipient, names) = match self {
            Self::Spread(names) => ((sender as u64 + message) as usize % names.len(), names),
            Self::One(recipient, names) => (*recipient, names),
        };
        (recipient, &names[recipient])
    }
}

/// What a sender did.
#[derive(Debug, Default)]
pub struct Sent {
    /// Sends made, by recipient.
    pub to: BTreeMap<usize, u64>,
    /// Sends that ended without a receipt, by recipient.
    pub unreceipted: BTreeMap<usize, BTreeSet<u64>>,
    /// Sends made.
    pub sent: u64,
    /// Receipts.
    pub accepted: u64,
    /// Sends that were not made, or got no receipt.
    pub errors: u64,
    /// The first error.
    pub first_error: Option<String>,
    /// From when they were due until their receipts.
    pub latency: Latency,
    /// When receipts came.
    pub gap: Gap,
}

impl Sent {
    fn failed(&mut self, error: &dyn std::fmt::Display) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }
}

/// A sender with a stream of its own.
pub struct Sender {
    number: usize,
    client: Client,
    stream: SendStream,
    route: Route,
    common: Common,
    waiting: VecDeque<Waiting>,
    sent: Sent,
}

struct Waiting {
    recipient: usize,
    id: Id,
    due: u64,
    receipt: PendingReceipt,
}

impl Sender {
    /// Opens a stream of `name`.
    ///
    /// # Errors
    /// The cluster does not let it.
    pub async fn open(
        client: Client,
        name: &Name,
        number: usize,
        route: Route,
        common: Common,
    ) -> Result<Self, client::Error> {
        let stream = client.open_stream(name).await?;
        let (waiting, sent) = (VecDeque::new(), Sent::default());
        Ok(Self { number, client, stream, route, common, waiting, sent })
    }

    /// Sends as fast as it goes with `window` sends on the way, until `until` (nanoseconds of the clock) or until `most`
    /// were made, and waits for all receipts.
    pub async fn closed_loop(mut self, window: usize, until: u64, most: u64) -> Sent {
        loop {
            while self.waiting.len() < window && self.sent.sent < most {
                let now = self.common.clock.now();
                if now >= until {
                    break;
                }
                if let Err(error) = self.send(now).await {
                    self.sent.failed(&error);
                    return self.finish().await;
                }
            }
            if self.waiting.is_empty() {
                return self.finish().await;
            }
            let first = self.first_receipt().await;
            self.note_all(first);
        }
    }

    /// Sends a message whenever one is due, and waits for all receipts.
    pub async fn open_loop(mut self, mut due: UnboundedReceiver<u64>) -> Sent {
        let mut open = true;
        while open || !self.waiting.is_empty() {
            let none_waits = self.waiting.is_empty();
            tokio::select! {
                biased;
                first = self.first_receipt(), if !none_waits => self.note_all(first),
                next = due.recv(), if open => match next {
                    Some(due) => if let Err(error) = self.send(due).await {
                        self.sent.failed(&error);
                        return self.finish().await;
                    },
                    None => open = false,
                },
            }
        }
        self.finish().await
    }

    /// Sends one message and waits for its receipt. Says whether it got one.
    pub async fn send_one(&mut self) -> Result<bool, client::Error> {
        self.send(self.common.clock.now()).await?;
        let before = self.sent.accepted;
        let receipt = self.first_receipt().await;
        self.note_all(receipt);
        Ok(self.sent.accepted > before)
    }

    /// Closes the connection; says what was done.
    pub async fn finish(self) -> Sent {
        let Self { client, stream, waiting, mut sent, .. } = self;
        for Waiting { recipient, id, .. } in waiting {
            sent.errors += 1;
            sent.unreceipted.entry(recipient).or_default().insert(id.sequence);
        }
        drop(stream);
        client.close().await;
        sent
    }

    async fn send(&mut self, due: u64) -> Result<(), client::Error> {
        let (recipient, name) = self.route.of(self.number, self.sent.sent);
        let sequence = self.sent.to.entry(recipient).or_default();
        let id = Id { sender: self.number as u16, sequence: *sequence };
        let receipt = self.stream.send(name, self.common.content.body(id, due)).await?;
        *sequence += 1;
        self.sent.sent += 1;
        self.waiting.push_back(Waiting { recipient, id, due, receipt });
        Ok(())
    }

    /// The receipt of the send that waits longest: a stream's receipts come in order.
    fn first_receipt(&mut self) -> impl Future<Output = Result<Receipt, SendError>> {
        poll_fn(|context| match self.waiting.front_mut() {
            Some(waiting) => Pin::new(&mut waiting.receipt).poll(context),
            None => unreachable!("whoever asks has looked"),
        })
    }

    /// Notes a receipt, and those behind it that are there.
    fn note_all(&mut self, first: Result<Receipt, SendError>) {
        let now = self.common.clock.now();
        let accepted = self.sent.accepted;
        let mut result = first;
        loop {
            let Some(Waiting { recipient, id, due, .. }) = self.waiting.pop_front() else { break };
            match result {
                Ok(_) => {
                    self.sent.accepted += 1;
                    self.sent.latency.record(due, now);
                    self.sent.gap.hit(now);
                }
                Err(error) => {
                    self.sent.failed(&error);
                    self.sent.unreceipted.entry(recipient).or_default().insert(id.sequence);
                }
            }
            match self.waiting.front_mut().and_then(|next| (&mut next.receipt).now_or_never()) {
                Some(next) => result = next,
                None => break,
            }
        }
        let accepted = self.sent.accepted - accepted;
        if accepted > 0 {
            self.common.receipts.lock().hit(now);
            self.common.progress.receipts.fetch_add(accepted, Relaxed);
        }
    }
}
