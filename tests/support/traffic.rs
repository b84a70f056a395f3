//! Traffic over the client library, and the journals of those who made it: what was sent, which receipts came, what
//! was delivered. The judgement rests on these alone, and not on anything that the cluster says of itself.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use restante::client::{Client, ClientSettings, Inbox, PendingReceipt, SendStream};
use restante::wire::Name;
use restante::world::{Host, RealNetwork};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::PATIENCE;

/// What traffic there is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Clients `s0`, `s1`, … that send.
    pub senders: u64,
    /// Clients `r0`, `r1`, … that receive.
    pub recipients: u64,
    /// Each sender sends so many messages at least; it goes on until it is told to stop.
    pub messages_each: u64,
    /// Each sender sends so many a second at most.
    pub per_second: u64,
    /// The longest body.
    pub body_bytes_max: u64,
    /// All but the first are at least half as long.
    pub all_long: bool,
    /// What everything random grows from.
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            senders: 4,
            recipients: 4,
            messages_each: 200,
            per_second: 200,
            body_bytes_max: 2048,
            all_long: false,
            seed: 1,
        }
    }
}

/// A number that looks random, for what `parts` name.
pub fn mix(parts: &[u64]) -> u64 {
    // The finalizer of splitmix64, over and over.
    parts.iter().fold(0x9e37_79b9_7f4a_7c15, |state, part| {
        let mut z = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// The seed of this run: from `RESTANTE_TEST_SEED`, or another one each time.
pub fn seed() -> u64 {
    let given =
        std::env::var("RESTANTE_TEST_SEED").ok().map(|text| text.parse().expect("RESTANTE_TEST_SEED is a number"));
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()) ^ u64::from(rand::random::<u32>()));
    eprintln!("RESTANTE_TEST_SEED={seed}");
    seed
}

impl Plan {
    /// To whom a send goes.
    fn recipient_of(&self, sender: u64, number: u64) -> u64 {
        mix(&[self.seed, 1, sender, number]) % self.recipients
    }

    /// What it says. Lengths are spread over the powers of two, so that most are short and some as long as may be.
    fn body_of(&self, sender: u64, number: u64) -> Vec<u8> {
        let drawn = mix(&[self.seed, 2, sender, number]);
        // The first sends of each sender have the bounds.
        let length = match number {
            1 => 1,
            2 => self.body_bytes_max,
            _ if self.all_long => self.body_bytes_max / 2 + drawn % (self.body_bytes_max / 2),
            _ => {
                let powers = u64::from(self.body_bytes_max.ilog2()) + 1;
                // Squared, so that long ones are rarer still.
                let power = (drawn % powers) * ((drawn >> 8) % powers) / powers;
                (1 << power) + (drawn >> 16) % (1 << power)
            }
        };
        let length = length.min(self.body_bytes_max) as usize;
        let word = mix(&[drawn, 3]).to_le_bytes();
        (0..length).map(|at| word[at % 8] ^ (at / 8) as u8).collect()
    }
}

/// The name of sender `n`.
pub fn sender(n: u64) -> Name {
    name(&format!("s{n}"))
}

/// The name of recipient `n`.
pub fn recipient(n: u64) -> Name {
    name(&format!("r{n}"))
}

/// A name.
pub fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// A client of the cluster at these addresses that prefers the server at `home`.
pub async fn client(addresses: &[String], home: Option<Name>) -> Client {
    let mut settings = ClientSettings::new(addresses.iter().cloned());
    settings.home = home;
    settings.timeout = PATIENCE;
    let host = Host { network: Arc::new(RealNetwork), disk: None };
    Client::start(settings, host).await.expect("the cluster serves")
}

/// Waits for `work`, but not for ever.
///
/// # Panics
/// It takes too long.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// Traffic that runs.
pub struct Traffic {
    plan: Arc<Plan>,
    addresses: Vec<String>,
    control: Arc<Control>,
    sending: Vec<JoinHandle<SenderJournal>>,
    receiving: Vec<JoinHandle<Vec<Delivered>>>,
}

#[derive(Default)]
struct Control {
    accepted: AtomicU64,
    delivered: AtomicU64,
    /// No more sends than the least.
    stop_sending: AtomicBool,
    /// Readers end.
    stop_receiving: AtomicBool,
    stopping: Notify,
}

/// Senders pause while so many messages wait.
const WAITING_MAX: u64 = 2000;

impl Control {
    fn waiting(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed).saturating_sub(self.delivered.load(Ordering::Relaxed))
    }
}

#[derive(Debug, Default)]
struct SenderJournal {
    /// The position of number 1, 2, ….
    positions: Vec<u64>,
    longest_wait: Duration,
    /// Servers that it was attached to, each time it moved.
    homes: Vec<Name>,
}

#[derive(Debug)]
struct Delivered {
    from: u64,
    number: u64,
    position: u64,
    redelivered: bool,
}

impl Traffic {
    /// Registers all clients, opens their streams, attaches their readers and begins to send.
    pub async fn start(addresses: Vec<String>, plan: Plan) -> Self {
        let plan = Arc::new(plan);
        let control = Arc::new(Control::default());
        let mut inboxes = Vec::new();
        for n in 0..plan.recipients {
            let client = client(&addresses, None).await;
            client.register(&recipient(n)).await.expect("it can register");
            inboxes.push(client.listen(&recipient(n), 256).await.expect("it can listen"));
        }
        let mut streams = Vec::new();
        for n in 0..plan.senders {
            let client = client(&addresses, None).await;
            client.register(&sender(n)).await.expect("it can register");
            let stream = client.open_stream(&sender(n)).await.expect("it can open a stream");
            streams.push((client, stream));
        }
        let receiving =
            (0..).zip(inboxes).map(|(n, inbox)| tokio::spawn(receive(plan.clone(), control.clone(), n, inbox)));
        let receiving = receiving.collect();
        let sending = (0..).zip(streams);
        let sending =
            sending.map(|(n, (client, stream))| tokio::spawn(send(plan.clone(), control.clone(), n, client, stream)));
        let sending = sending.collect();
        Self { plan, addresses, control, sending, receiving }
    }

    /// The cluster is found at other addresses by now. The clients are not told: they know by themselves.
    pub fn moved_to(&mut self, addresses: Vec<String>) {
        self.addresses = addresses;
    }

    /// Receipts that came so far.
    pub fn accepted(&self) -> u64 {
        self.control.accepted.load(Ordering::Relaxed)
    }

    /// Messages that were delivered so far.
    pub fn delivered(&self) -> u64 {
        self.control.delivered.load(Ordering::Relaxed)
    }

    /// Waits for so many more receipts and deliveries.
    #[track_caller]
    pub fn goes_on(&self, messages: u64) {
        let (accepted, delivered) = (self.accepted() + messages, self.delivered() + messages);
        super::wait_for("receipts and deliveries", || {
            assert!(!self.sending.iter().any(JoinHandle::is_finished), "a sender has ended");
            assert!(!self.receiving.iter().any(JoinHandle::is_finished), "a recipient has ended");
            (self.accepted() >= accepted && self.delivered() >= delivered).then_some(())
        });
    }

    /// Ends the sending, waits for everything to arrive, and judges the journals.
    ///
    /// # Panics
    /// Anything was lost, doubled, reordered, altered, or did not arrive.
    pub async fn finish(self) -> Summary {
        self.control.stop_sending.store(true, Ordering::Relaxed);
        let mut sent = Vec::new();
        for task in self.sending {
            sent.push(within("all receipts", task).await.expect("the sender goes on"));
        }
        let accepted = sent.iter().map(|journal| journal.positions.len() as u64).sum::<u64>();
        super::wait_for("all deliveries", || {
            let delivered = self.control.delivered.load(Ordering::Relaxed);
            (delivered >= accepted || self.receiving.iter().any(JoinHandle::is_finished)).then_some(())
        });
        self.control.stop_receiving.store(true, Ordering::Relaxed);
        self.control.stopping.notify_waiters();
        let mut received = Vec::new();
        for task in self.receiving {
            received.push(within("the recipients to end", task).await.expect("the recipient goes on"));
        }
        judge(&self.plan, &sent, &received);
        // A double that nobody has read yet would wait, too.
        let observer = client(&self.addresses, None).await;
        let rows = observer.who().await.expect("the cluster answers");
        assert!(rows.iter().all(|row| row.waiting == 0), "messages wait that nobody sent: {rows:#?}");
        observer.close().await;
        let summary = Summary {
            accepted,
            longest_wait: sent.iter().map(|journal| journal.longest_wait).max().unwrap_or_default(),
            homes: sent.into_iter().map(|journal| journal.homes).collect(),
        };
        eprintln!("{accepted} messages; the longest wait for a receipt was {:?}", summary.longest_wait);
        summary
    }
}

/// What came out of it.
#[derive(Debug)]
pub struct Summary {
    /// Messages that were sent, accepted and delivered.
    pub accepted: u64,
    /// The longest time between a send and its receipt.
    pub longest_wait: Duration,
    /// Where each sender was attached, in turn.
    pub homes: Vec<Vec<Name>>,
}

async fn send(plan: Arc<Plan>, control: Arc<Control>, me: u64, client: Client, stream: SendStream) -> SenderJournal {
    use openraft_rt::watch::WatchReceiver as _;
    let (receipts, pending) = mpsc::unbounded_channel();
    let settling = tokio::spawn(settle(control.clone(), pending));
    let mut server = client.server();
    let watching = tokio::spawn(async move {
        let mut homes: Vec<Name> = Vec::new();
        loop {
            let now = server.borrow_and_update().as_ref().map(|server| server.name.clone());
            homes.extend(now.filter(|now| homes.last() != Some(now)));
            if server.changed().await.is_err() {
                return homes;
            }
        }
    });
    let begin = Instant::now();
    let mut number = 0;
    while number < plan.messages_each || !control.stop_sending.load(Ordering::Relaxed) {
        number += 1;
        let due = begin + Duration::from_micros(1_000_000 * number / plan.per_second);
        tokio::time::sleep_until(due.into()).await;
        // A machine that is too busy for this much gets less, instead of inboxes that fill up.
        while control.waiting() > WAITING_MAX && !control.stop_sending.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let to = recipient(plan.recipient_of(me, number));
        let at = Instant::now();
        let receipt = stream.send(&to, plan.body_of(me, number)).await.expect("it can be handed in");
        assert_eq!(receipt.number().0, number);
        receipts.send((at, receipt)).expect("somebody waits for receipts");
    }
    drop(receipts);
    let (positions, longest_wait) = settling.await.expect("all receipts come");
    stream.close().await.expect("the stream closes");
    client.close().await;
    let homes = watching.await.expect("the client ends");
    SenderJournal { positions, longest_wait, homes }
}

async fn settle(
    control: Arc<Control>,
    mut pending: mpsc::UnboundedReceiver<(Instant, PendingReceipt)>,
) -> (Vec<u64>, Duration) {
    let mut positions = Vec::new();
    let mut longest = Duration::ZERO;
    while let Some((at, receipt)) = pending.recv().await {
        let receipt = receipt.await.expect("a receipt");
        positions.push(receipt.position.0);
        assert_eq!(receipt.number.0, positions.len() as u64);
        longest = longest.max(at.elapsed());
        control.accepted.fetch_add(1, Ordering::Relaxed);
    }
    (positions, longest)
}

async fn receive(plan: Arc<Plan>, control: Arc<Control>, me: u64, mut inbox: Inbox) -> Vec<Delivered> {
    let mut all = Vec::new();
    loop {
        let stopping = control.stopping.notified();
        tokio::pin!(stopping);
        stopping.as_mut().enable();
        if control.stop_receiving.load(Ordering::Relaxed) {
            break;
        }
        let next = tokio::select! {
            biased;
            next = inbox.next() => next,
            () = stopping => continue,
        };
        let delivery = next.expect("the reader goes on").expect("a delivery");
        let from = delivery.from.as_str()[1..].parse().expect("a sender of ours");
        let (number, position) = (delivery.number.0, delivery.position.0);
        assert_eq!(plan.recipient_of(from, number), me, "{delivery:?} went to the wrong one");
        assert!(delivery.body == plan.body_of(from, number), "number {number} of s{from} was altered");
        inbox.acknowledge(delivery.position);
        all.push(Delivered { from, number, position, redelivered: delivery.redelivered });
        control.delivered.fetch_add(1, Ordering::Relaxed);
    }
    inbox.flush().await.expect("acknowledgements become durable");
    inbox.close().await.expect("it detaches");
    all
}

/// Compares what was receipted with what was delivered.
fn judge(plan: &Plan, sent: &[SenderJournal], received: &[Vec<Delivered>]) {
    for (me, deliveries) in (0..).zip(received) {
        // Every inbox is one sequence without holes, read once from its first to its last place.
        let positions: Vec<u64> = deliveries.iter().map(|d| d.position).collect();
        assert!(positions.iter().copied().eq(1..=positions.len() as u64), "r{me} read the positions {positions:?}");
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        for delivery in deliveries {
            let before = last.insert(delivery.from, delivery.number).unwrap_or(0);
            assert!(before < delivery.number, "r{me}: {delivery:?} came after number {before} of the same stream");
            let receipt = sent[delivery.from as usize].positions.get(delivery.number as usize - 1);
            assert_eq!(receipt, Some(&delivery.position), "r{me}: the receipt of {delivery:?} says otherwise");
            assert!(!delivery.redelivered, "r{me}: {delivery:?} is marked, though only one process ever read");
        }
    }
    for (from, journal) in (0..).zip(sent) {
        for (number, position) in (1..).zip(&journal.positions) {
            let to = plan.recipient_of(from, number);
            let delivery = received[to as usize].get(*position as usize - 1);
            let delivery =
                delivery.unwrap_or_else(|| panic!("number {number} of s{from} is lost: not at {position} of r{to}"));
            assert_eq!((delivery.from, delivery.number), (from, number), "something else is at {position} of r{to}");
        }
    }
}
