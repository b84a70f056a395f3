//! Sends what the plan says, through one send stream after another, with many sends on their way at once.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use restante::client::{Client, Error, PendingReceipt, SendError, SendStream};
use restante::wire::{Name, SendRefusal};
use restante::world::{BoxFuture, World};
use tokio::sync::{Semaphore, mpsc};

use super::client::again;
use crate::history::{Journal, Process, SendKey, What, Why};
use crate::scenario::{ClientSeat, Stage};

/// A name that nobody registers.
const NOBODY: &str = "nobody";

pub(super) async fn run<W: World>(mut seat: ClientSeat, client: Client<W>) -> Result<(), String> {
    let me = Name::new(&seat.process.client).map_err(|error| error.to_string())?;
    let mut left = u64::from(seat.plan.messages);
    let mut calm = false;
    while left > 0 || !calm {
        let depth = seat.random.random_range(1..=24);
        let mut stream = Open::<W>::new(&seat, &client, &me, depth).await?;
        loop {
            if left == 0 && !calm {
                // What is fresh after the faults goes through a stream that stood through them.
                seat.stages.reached(Stage::Calm).await;
                (left, calm) = (1 + seat.random.random_range(0..3), true);
            }
            let pace = seat.random.random_range(seat.plan.pace.start().0..=seat.plan.pace.end().0);
            W::sleep(Duration::from_millis(pace)).await;
            stream.send(&mut seat).await?;
            left -= 1;
            // Now and then another stream, as if another program of this client went on.
            let another = seat.random.random_bool(0.03);
            if another || (left == 0 && calm) || stream.is_lost() {
                break;
            }
        }
        stream.close().await?;
    }
    seat.journal.write(&seat.process, What::SentAll);
    seat.stages.reached(Stage::Stop).await;
    Ok(())
}

/// A send stream and the task that writes down how its sends end.
struct Open<W: World> {
    stream: SendStream<W>,
    id: u64,
    number: u64,
    lost: bool,
    /// So many sends may be on their way.
    room: Arc<Semaphore>,
    sent: mpsc::UnboundedSender<(SendKey, PendingReceipt, tokio::sync::OwnedSemaphorePermit)>,
    receipts: tokio::task::JoinHandle<Result<(), String>>,
}

impl<W: World> Open<W> {
    async fn new(seat: &ClientSeat, client: &Client<W>, me: &Name, depth: usize) -> Result<Self, String> {
        let stream = loop {
            match client.open_stream(me).await {
                Ok(stream) => break stream,
                Err(error) => again::<W>("opening a stream", error).await?,
            }
        };
        let (sent, pending) = mpsc::unbounded_channel();
        let writes: BoxFuture<'static, _> =
            Box::pin(write_receipts(pending, seat.journal.clone(), seat.process.clone()));
        let (room, receipts) = (Arc::new(Semaphore::new(depth)), W::spawn(writes));
        Ok(Self { stream, id: seat.journal.next_stream(), number: 0, lost: false, room, sent, receipts })
    }

    fn is_lost(&self) -> bool {
        self.lost
    }

    async fn send(&mut self, seat: &mut ClientSeat) -> Result<(), String> {
        let room = self.room.clone().acquire_owned().await.map_err(|error| error.to_string())?;
        let clients = seat.plan.client_names();
        let to = match seat.random.random_range(0..100) {
            0..3 => NOBODY.to_owned(),
            _ => clients[seat.random.random_range(0..clients.len())].clone(),
        };
        let name = Name::new(&to).map_err(|error| error.to_string())?;
        let bytes = seat.random.random_range(seat.plan.body.clone()) as usize;
        let send = SendKey { sender: seat.process.client.clone(), stream: self.id, number: self.number + 1 };
        let (body, digest) = send.body(bytes);
        seat.journal.write(&seat.process, What::Invoked { send: send.clone(), to, digest });
        match self.stream.send(&name, body).await {
            Ok(pending) if pending.number().0 == send.number => {
                self.number += 1;
                // The other end ends only with an error, which closing the stream tells.
                let _ = self.sent.send((send, pending, room));
                Ok(())
            }
            Ok(pending) => Err(format!("{send} became number {}", pending.number())),
            Err(error @ Error::StreamLost { .. }) => {
                // Nothing was sent then.
                seat.journal.write(&seat.process, What::Refused { send, why: Why::Other(error.to_string()) });
                self.lost = true;
                Ok(())
            }
            Err(error) => Err(format!("sending {send}: {error}")),
        }
    }

    async fn close(self) -> Result<(), String> {
        drop(self.sent);
        self.receipts.await.map_err(|error| error.to_string())??;
        match self.stream.close().await {
            // If nothing is heard of it, the stream is closed later.
            Ok(()) | Err(Error::TimedOut { .. } | Error::StreamLost { .. }) => Ok(()),
            Err(error) => Err(format!("closing a stream: {error}")),
        }
    }
}

/// Receipts come in the order of the sends. Dropping the permit makes room for another one.
async fn write_receipts(
    mut pending: mpsc::UnboundedReceiver<(SendKey, PendingReceipt, tokio::sync::OwnedSemaphorePermit)>,
    journal: Journal,
    process: Process,
) -> Result<(), String> {
    while let Some((send, receipt, _room)) = pending.recv().await {
        let what = match receipt.await {
            Ok(receipt) if receipt.number.0 != send.number => {
                return Err(format!("{send} got the receipt of number {}", receipt.number));
            }
            Ok(receipt) => What::Accepted { send, position: receipt.position.0 },
            Err(SendError::Refused(SendRefusal::NoSuchClient)) => What::Refused { send, why: Why::NoSuchClient },
            Err(SendError::Refused(SendRefusal::InboxFull)) => What::Refused { send, why: Why::InboxFull },
            Err(SendError::Unknown(_)) => What::Unknown { send },
            Err(error @ (SendError::Failed(_) | SendError::NotSent(_))) => {
                What::Refused { send, why: Why::Other(error.to_string()) }
            }
        };
        journal.write(&process, what);
    }
    Ok(())
}
