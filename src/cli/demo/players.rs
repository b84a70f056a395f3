//! The six clients: each has a connection, a send stream and a reader of its own, and tells what it does and sees.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use restante::client::{Client, Inbox, PendingReceipt, SendStream};
use restante::limits;
use restante::wire::Name;
use restante::world::{Instant, RealWorld, WatchReceiver, World};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::super::children::Server;
use super::super::failure::Failure;
use super::super::reach;
use super::journal::{Delivered, Received, Sent, Who};

/// Something that a client did or saw.
#[derive(Debug)]
pub enum Event {
    /// It made a send.
    Sent(Who, Sent),
    /// A receipt came.
    Receipt(Who, Received),
    /// An error came instead of a receipt.
    Failed(Who, String),
    /// A message came, with the content that its sender gave it.
    Delivered(Who, Delivered),
    /// A message came that is not as anybody sent it.
    Altered(Who, String),
    /// It is attached to this server now, or to none.
    Attached(Who, Option<Name>),
    /// It cannot go on.
    Ended(Who, Failure),
}

/// A client.
pub struct Player {
    who: Who,
    client: Client,
    sender: Arc<Sender>,
    stop: oneshot::Sender<()>,
    reading: JoinHandle<()>,
}

/// The sending half of a client.
struct Sender {
    who: Who,
    began: Instant,
    stream: SendStream,
    events: mpsc::UnboundedSender<Event>,
    receipts: mpsc::UnboundedSender<(u64, PendingReceipt)>,
    /// Sends made so far.
    made: Mutex<u64>,
}

/// The name of client `who`: `1`, `2`, …
pub fn name(who: Who) -> Name {
    Name::new(&(who + 1).to_string()).unwrap_or_else(|error| unreachable!("{error}"))
}

/// The content of the send with that number: nobody but its sender and a test of it need know more. The first is for
/// people; the others have different lengths, so that one in another's place is noticed.
pub fn content(from: Who, number: u64, to: Who) -> String {
    let (from, to) = (from + 1, to + 1);
    if number == 1 {
        return format!("Hello {to}, this is {from}.");
    }
    let length = (number as usize * 37 + from * 11) % 400;
    format!("message {number} from {from} to {to} {:.>length$}", "")
}

impl Player {
    /// Connects, registers at `home`, opens a stream and begins to read.
    ///
    /// # Errors
    /// Whatever the cluster does not grant.
    pub async fn join(
        who: Who,
        home: &Server,
        servers: Vec<String>,
        began: Instant,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<Self, Failure> {
        let name = name(who);
        let joining = async {
            let settings = reach::settings(servers, Some(home.name.clone()), Duration::from_secs(10));
            let client = reach::connect(settings).await?;
            client.register(&name).await?;
            let stream = client.open_stream(&name).await?;
            let inbox = client.listen(&name, limits::READER_WINDOW_DEFAULT).await?;
            Ok::<_, restante::client::Error>((client, stream, inbox))
        };
        let (client, stream, inbox) =
            joining.await.map_err(|error| Failure::from(error).while_doing(format_args!("client {name}")))?;
        let (stop, stopped) = oneshot::channel();
        let reading = RealWorld::spawn(read(who, began, inbox, events.clone(), stopped));
        RealWorld::spawn(watch(who, client.server(), events.clone()));
        let (receipts, pending) = mpsc::unbounded_channel();
        RealWorld::spawn(settle(who, began, pending, events.clone()));
        let sender = Sender { who, began, stream, events, receipts, made: Mutex::new(0) };
        Ok(Self { who, client, sender: Arc::new(sender), stop, reading })
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The client has ended.
    pub async fn send(&self, to: Who) -> Result<(), Failure> {
        self.sender.send(to).await
    }

    /// Sends `messages` to the others in turn, spread over `time` as far as the cluster keeps up.
    pub fn traffic(&self, others: Vec<Who>, messages: u64, time: Duration) -> JoinHandle<()> {
        let sender = Arc::clone(&self.sender);
        RealWorld::spawn(async move {
            let start = RealWorld::now();
            for n in 0..messages {
                // In steps of five milliseconds: a timer for each message would cost more than the message.
                let due = time.mul_f64(n as f64 / messages as f64);
                let due = Duration::from_millis(due.as_millis() as u64 / 5 * 5);
                RealWorld::sleep_until(start + due).await;
                let to = others[(n as usize + n as usize / others.len()) % others.len()];
                if let Err(failure) = sender.send(to).await {
                    drop(sender.events.send(Event::Ended(sender.who, failure)));
                    return;
                }
            }
        })
    }

    /// Stops reading, in good order, and closes the connection.
    ///
    /// # Errors
    /// The last acknowledgements did not become durable.
    pub async fn leave(self) -> Result<(), Failure> {
        drop(self.stop);
        let _ = self.reading.await;
        if let Some(sender) = Arc::into_inner(self.sender) {
            let closing = sender.stream.close().await;
            closing.map_err(|error| Failure::from(error).while_doing(format_args!("client {}", name(self.who))))?;
        }
        self.client.close().await;
        Ok(())
    }
}

impl Sender {
    async fn send(&self, to: Who) -> Result<(), Failure> {
        // Held while the send waits for room, so that numbers are given in the order of the sends.
        let mut made = self.made.lock().await;
        let number = *made + 1;
        let body = content(self.who, number, to);
        drop(self.events.send(Event::Sent(self.who, Sent { to, number, at: self.began.elapsed() })));
        let pending = self
            .stream
            .send(&name(to), body)
            .await
            .map_err(|error| Failure::from(error).while_doing(format_args!("client {}", name(self.who))))?;
        *made = number;
        drop(self.receipts.send((number, pending)));
        Ok(())
    }
}

/// Takes the receipts, in the order of the sends.
async fn settle(
    who: Who,
    began: Instant,
    mut pending: mpsc::UnboundedReceiver<(u64, PendingReceipt)>,
    events: mpsc::UnboundedSender<Event>,
) {
    while let Some((number, receipt)) = pending.recv().await {
        let event = match receipt.await {
            Ok(receipt) if receipt.number.0 == number => {
                Event::Receipt(who, Received { number, position: receipt.position.0, at: began.elapsed() })
            }
            Ok(receipt) => Event::Altered(who, format!("a receipt for number {} instead of {number}", receipt.number)),
            Err(error) => Event::Failed(who, format!("number {number}: {error}")),
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

/// Reads, writes down and acknowledges until told to stop.
async fn read(
    who: Who,
    began: Instant,
    mut inbox: Inbox,
    events: mpsc::UnboundedSender<Event>,
    mut stop: oneshot::Receiver<()>,
) {
    loop {
        let next = tokio::select! {
            biased;
            next = inbox.next() => next,
            _ = &mut stop => break,
        };
        let delivery = match next {
            Some(Ok(delivery)) => delivery,
            Some(Err(error)) => {
                drop(events.send(Event::Ended(who, Failure::from(error))));
                return;
            }
            None => return,
        };
        let (number, position) = (delivery.number.0, delivery.position.0);
        let event = match sender_of(&delivery.from, number, who, &delivery.body) {
            Some(from) => Event::Delivered(who, Delivered { from, number, position, at: began.elapsed() }),
            None => {
                let from = &delivery.from;
                Event::Altered(who, format!("position {position}, said to be number {number} of {from}"))
            }
        };
        if events.send(event).is_err() {
            return;
        }
        inbox.acknowledge(delivery.position);
    }
    // What is not durable here will be delivered again to whoever reads next; in the demo, that is nobody.
    drop(inbox.close().await);
}

/// The sender, if the content is what that client gave to that number for this recipient.
fn sender_of(from: &str, number: u64, to: Who, body: &Bytes) -> Option<Who> {
    let from = from.parse::<usize>().ok()?.checked_sub(1)?;
    (content(from, number, to).as_bytes() == body).then_some(from)
}

/// Tells where the client is attached, whenever that changes.
async fn watch(
    who: Who,
    mut server: WatchReceiver<Option<restante::wire::ServerAddress>>,
    events: mpsc::UnboundedSender<Event>,
) {
    use openraft_rt::watch::WatchReceiver as _;
    loop {
        let now = server.borrow_and_update().as_ref().map(|server| server.name.clone());
        if events.send(Event::Attached(who, now)).is_err() || server.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_is_known_by_sender_number_and_recipient() {
        let body = |from, number, to| Bytes::from(content(from, number, to));
        assert_eq!(content(0, 1, 1), "Hello 2, this is 1.");
        assert_eq!(sender_of("1", 17, 3, &body(0, 17, 3)), Some(0));
        assert_eq!(sender_of("2", 17, 3, &body(0, 17, 3)), None, "another sender");
        assert_eq!(sender_of("1", 18, 3, &body(0, 17, 3)), None, "another number");
        assert_eq!(sender_of("1", 17, 4, &body(0, 17, 3)), None, "another recipient");
        assert_eq!(sender_of("1", 17, 3, &body(0, 17, 3).slice(1..)), None, "cut");
        assert_eq!(sender_of("0", 1, 3, &body(0, 1, 3)), None);
        assert_eq!(sender_of("alice", 1, 3, &body(0, 1, 3)), None);
    }
}
